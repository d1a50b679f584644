"""The disk begins to write a commit's pages before it has to be waited for."""

import pytest

import shearbolt
from shearbolt.storage import OSStorage
from shearbolt.storage.twice import SyncedTwice

posix = pytest.importorskip("shearbolt.storage._posix")

PAGE = 4096
MEGABYTE = 1 << 20


class Told:
    """A file that notes writes, what it is told to begin with, and syncs."""

    def __init__(self, file, log) -> None:
        self.file, self.log = file, log

    def __getattr__(self, name):
        return getattr(self.file, name)

    def pwritev(self, buffers, offset, /):
        self.log.append(("write", offset, sum(map(len, buffers))))
        return self.file.pwritev(buffers, offset)

    def begin_writing(self, offset, length, /):
        self.log.append(("begin", offset, length))
        self.file.begin_writing(offset, length)

    def fdatasync(self):
        self.log.append(("sync",))
        self.file.fdatasync()


@pytest.fixture
def log():
    return []


@pytest.fixture
def opened(log):
    def open_file(*arguments, **options):
        return Told(OSStorage().open(*arguments, **options), log)

    return open_file


def put(db, pairs, size=50):
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(b"b")
        bucket.update((b"%06d" % number, bytes(size)) for number in range(pairs))


def open_db(path, opened, **options):
    options = {"page_size": PAGE, "initial_mmap_size": MEGABYTE, **options}
    db = shearbolt.open(path, open_file=opened, **options)
    put(db, 1)
    put(db, 1)
    return db


def pages_of(entries, kind):
    """The pages in these entries of a log."""
    found = set()
    for name, offset, length in entries:
        if name == kind:
            found |= set(range(offset // PAGE, -(-(offset + length) // PAGE)))
    return found


def test_a_commits_pages_are_begun_and_then_synced_and_its_meta_is_not(
    path, opened, log
):
    with open_db(path, opened) as db:
        log.clear()
        put(db, 1)
    kinds = [entry[0] for entry in log]
    pages = kinds.index("sync")
    assert kinds[pages - 1 :] == ["begin", "sync", "write", "sync"]
    assert kinds.count("begin") == 1
    assert pages_of(log[:pages], "write") <= pages_of(log[:pages], "begin")


def test_pages_that_lie_apart_are_begun_by_one_call(path, opened, log):
    with open_db(path, opened) as db:
        put(db, 40000)
        for number in (39999, 1, 20000):
            with db.update() as tx:
                tx.bucket(b"b")[b"%06d" % number] = b"new"
        log.clear()
        with db.update() as tx:
            tx.bucket(b"b")[b"%06d" % 10000] = b"new"
    written = pages_of(log[: log.index(("sync",))], "write")
    assert max(written) - min(written) > MEGABYTE // PAGE
    begun = [entry for entry in log if entry[0] == "begin"]
    assert len(begun) == 1
    assert written <= pages_of(begun, "begin")


def test_a_large_commit_is_begun_while_it_is_written(path, opened, log):
    with open_db(path, opened) as db:
        log.clear()
        put(db, 40000)
    kinds = [entry[0] for entry in log]
    pages = len(kinds) - 1 - kinds[::-1].index("begin")
    log = log[: pages + 1]
    kinds = kinds[: pages + 1]
    assert "begin" in kinds[: len(kinds) - 1 - kinds[::-1].index("write")]
    assert pages_of(log, "write") <= pages_of(log, "begin")
    assert max(length for kind, _, length in log if kind == "begin") < 4 * MEGABYTE


def test_without_syncs_nothing_is_begun(path, opened, log):
    with open_db(path, opened, no_sync=True) as db:
        log.clear()
        put(db, 40000)
    kinds = [entry[0] for entry in log]
    assert "write" in kinds
    assert "begin" not in kinds


def test_what_is_left_in_memory_is_done_between_the_writes_and_the_sync(
    path, opened, log, monkeypatch
):
    from shearbolt.pages.newpages import NewPages
    from shearbolt.tree.bucket import Bucket

    for kind, name in ((NewPages, "into_cache"), (Bucket, "let_go")):
        really = getattr(kind, name)

        def noted(self, *arguments, really=really, name=name):
            log.append((name,))
            really(self, *arguments)

        monkeypatch.setattr(kind, name, noted)
    with open_db(path, opened) as db:
        log.clear()
        put(db, 1)
    kinds = [entry[0] for entry in log]
    begun = kinds.index("begin")
    assert kinds[begun : begun + 4] == ["begin", "into_cache", "let_go", "sync"]


def test_a_file_that_is_synced_twice_is_begun_too(path, opened, log):
    with open_db(path, opened, sync_twice=True) as db:
        log.clear()
        put(db, 1)
    kinds = [entry[0] for entry in log]
    assert "begin" in kinds[: kinds.index("sync")]
    assert not hasattr(SyncedTwice(Nothing()), "begin_writing")


class Nothing:
    """A file that has nothing but reads."""

    def pread(self, length, offset, /):
        raise NotImplementedError


def test_the_system_is_told_to_write_and_not_to_wait(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(posix, "_sync_file_range", lambda: lambda *a: told.append(a))
    file = OSStorage().open(str(tmp_path / "f"), create=True)
    file.begin_writing(8192, 4096)
    file.close()
    # 2 is SYNC_FILE_RANGE_WRITE in linux/fs.h; with 1 or 4 it would wait.
    assert [entry[1:] for entry in told] == [(8192, 4096, 2)]


@pytest.mark.parametrize("why", ["no ctypes", "no such call", "the system refuses"])
def test_where_it_cannot_be_told_nothing_is_lost(why, path, monkeypatch):
    if why == "the system refuses":
        really = OSStorage.open

        def refusing(*arguments, **options):
            file = really(OSStorage(), *arguments, **options)
            told = Told(file, [])
            # A place before the file: EINVAL.
            told.begin_writing = lambda offset, length: file.begin_writing(-9, length)
            return told

        open_file = refusing
    else:
        import ctypes
        import sys

        posix._sync_file_range.cache_clear()
        if why == "no ctypes":
            monkeypatch.setitem(sys.modules, "ctypes", None)
        else:
            monkeypatch.setattr(ctypes, "CDLL", lambda _: Nothing())
        open_file = OSStorage().open
    try:
        with shearbolt.open(path, open_file=open_file) as db:
            put(db, 100)
            put(db, 200)
        with shearbolt.open(path, read_only=True) as db, db.view() as tx:
            assert len(list(tx.bucket(b"b"))) == 200
    finally:
        posix._sync_file_range.cache_clear()


def test_a_simulated_machine_takes_it_for_a_hint():
    from tornpage.disk import Disk
    from tornpage.patch import patched

    with patched(Disk(), "/db") as root:
        with shearbolt.open(f"{root}/bolt") as db:
            put(db, 100)
        with shearbolt.open(f"{root}/bolt") as db, db.view() as tx:
            assert len(list(tx.bucket(b"b"))) == 100
