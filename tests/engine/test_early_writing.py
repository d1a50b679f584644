"""The disk begins to write a commit's pages before it has to be waited for."""

import mmap
import os
import sys

import pytest

import shearbolt
from shearbolt.storage import OSStorage
from shearbolt.storage.twice import SyncedTwice

PAGE = mmap.PAGESIZE
DB_PAGE = 4096

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the call is known for Linux only"
)


class Told:
    """A file that notes writes, what it is told to begin with, and syncs."""

    def __init__(self, file, log) -> None:
        self.file, self.log = file, log
        self.refuses = False

    def __getattr__(self, name):
        return getattr(self.file, name)

    def pwritev(self, buffers, offset, /):
        self.log.append(("write", offset, sum(map(len, buffers))))
        return self.file.pwritev(buffers, offset)

    def begin_writing(self, offset, length, /):
        self.log.append(("begin", offset, length))
        if self.refuses:
            raise OSError(95, os.strerror(95))
        self.file.begin_writing(offset, length)

    def fdatasync(self):
        self.log.append(("sync",))
        self.file.fdatasync()


@pytest.fixture
def log():
    return []


@pytest.fixture
def opened(log):
    files = []

    def open_file(*arguments, **options):
        files.append(Told(OSStorage().open(*arguments, **options), log))
        return files[-1]

    open_file.files = files
    return open_file


def put(db, pairs):
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(b"b")
        for number in range(pairs):
            bucket[b"%06d" % number] = b"v" * 50


def open_db(path, opened, **options):
    options = {"page_size": DB_PAGE, "initial_mmap_size": 1 << 20, **options}
    db = shearbolt.open(path, open_file=opened, **options)
    put(db, 1)
    put(db, 1)
    return db


def test_a_commits_pages_are_begun_and_then_synced_and_its_meta_is_not(
    path, opened, log
):
    with open_db(path, opened) as db:
        log.clear()
        put(db, 1)
    kinds = [entry[0] for entry in log]
    pages = kinds.index("sync")
    written = [entry[1:] for entry in log[:pages] if entry[0] == "write"]
    begun = [entry[1:] for entry in log[:pages] if entry[0] == "begin"]
    assert begun == written
    assert kinds[pages:] == ["sync", "write", "sync"]


@pytest.mark.parametrize("case", ["no_sync", "large"])
def test_nothing_is_begun_where_it_would_cost_more_than_it_saves(
    case, path, opened, log
):
    with open_db(path, opened, no_sync=case == "no_sync") as db:
        log.clear()
        put(db, 5000 if case == "large" else 1)
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
    last = max(at for at, kind in enumerate(kinds) if kind == "begin")
    assert kinds[last + 1 : last + 4] == ["into_cache", "let_go", "sync"]


def test_a_file_system_that_does_not_know_it_loses_nothing(path, opened):
    with open_db(path, opened) as db:
        opened.files[-1].refuses = True
        put(db, 3)
        with db.view() as tx:
            assert len(list(tx.bucket(b"b"))) == 3


def test_a_file_that_is_synced_twice_is_begun_once_too(path, opened, log):
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


@pytest.mark.parametrize("size", [4096, PAGE, 2 * PAGE, 3 * PAGE, 9 * PAGE])
def test_no_page_is_dropped_from_the_systems_cache(size, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, length, __: made.append((start, length))
    )
    file = OSStorage().open(str(tmp_path / "f"), create=True)
    at = 5 * PAGE
    file.begin_writing(at, size)
    file.close()
    begun = set()
    for start, length in made:
        last = start + length - 1
        begun |= set(range(start // PAGE, last // PAGE + 1))
        # What is named whole, and so dropped when it is clean (mm/fadvise.c).
        assert -(-start // PAGE) > (last + 1) // PAGE - 1
    wanted = range(at // PAGE, -(-(at + min(size, 4 * PAGE)) // PAGE))
    assert begun == set(wanted)
