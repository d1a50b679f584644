"""The real machine: what macOS gets instead of fsync, and syncs made twice.

macOS is not here. What is tested is which calls are made, and that the one it has
for this is asked first.
"""

import errno
import fcntl
import gc
import os
import stat
import subprocess
import sys

import pytest

import shearbolt
from shearbolt.storage import File, OSStorage, _posix
from shearbolt.storage._common import above_standard
from shearbolt.storage.robust import RobustFile
from shearbolt.storage.twice import SyncedTwice
from tornpage.disk import Disk

FULL = 51  # F_FULLFSYNC of macOS.


@pytest.fixture
def mac(monkeypatch):
    """macOS's two calls, and in `errors` what the first of them fails with."""
    calls, errors = [], []

    def flush(fd, command):
        assert command == FULL
        calls.append("F_FULLFSYNC")
        if errors:
            raise OSError(errors[0], os.strerror(errors[0]))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(_posix.fcntl, "fcntl", flush)
    monkeypatch.setattr(_posix.os, "fsync", lambda fd: calls.append("fsync"))
    return calls, errors


def test_macos_flushes_the_drive(mac):
    calls, _ = mac
    _posix._full_sync(0)
    assert calls == ["F_FULLFSYNC"]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_that_call_gets_fsync(code, mac):
    calls, errors = mac
    errors.append(code)
    _posix._full_sync(0)
    assert calls == ["F_FULLFSYNC", "fsync"]


def test_an_error_of_the_disk_is_not_taken_for_a_missing_call(mac):
    calls, errors = mac
    errors.append(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        _posix._full_sync(0)
    assert calls == ["F_FULLFSYNC"]


def test_each_sync_is_one_of_the_file_or_directory_it_is_asked_for(
    tmp_path, monkeypatch
):
    path, synced = str(tmp_path / "f"), []
    for name in ("fsync", "fdatasync"):

        def sync(fd, name=name):
            synced.append((name, os.fstat(fd).st_ino))

        monkeypatch.setattr(_posix, f"_{name}", sync)
    machine = OSStorage()
    file = machine.open(path, create=True)
    # Nobody else reads what a file is made for, unless that is asked for.
    assert os.stat(path).st_mode & 0o777 == 0o600
    file.fdatasync()
    file.fsync()
    machine.fsync_dir(path)
    itself, directory = os.stat(path).st_ino, os.stat(tmp_path).st_ino
    assert synced == [("fdatasync", itself), ("fsync", itself), ("fsync", directory)]
    file.close()


def test_a_descriptor_is_closed_once_whatever_that_says(tmp_path, monkeypatch):
    """Its number may be somebody else's file by then."""
    file, close, closed = (
        OSStorage().open(str(tmp_path / "f"), create=True),
        os.close,
        [],
    )

    def fails(fd):
        closed.append(fd)
        close(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "close", fails)
    with pytest.raises(OSError, match="Input/output"):
        file.close()
    file.close()
    assert len(closed) == 1


def test_more_buffers_than_one_call_takes_are_cut(tmp_path):
    file = OSStorage().open(str(tmp_path / "f"), create=True)
    many = [b"x"] * (_posix._IOV_MAX + 5)
    assert file.pwritev(many, 0) == _posix._IOV_MAX
    assert file.size() == _posix._IOV_MAX
    file.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_no_regular_file_is_not_opened(read_only, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        OSStorage().open(str(tmp_path / "pipe"), read_only=read_only)


def test_the_clock_and_the_lock_are_the_machines(tmp_path):
    storage = OSStorage()
    began = storage.monotonic()
    storage.sleep(0.002)
    assert storage.monotonic() >= began + 0.002
    file = storage.open(str(tmp_path / "f"), create=True)
    other = storage.open(str(tmp_path / "f"))
    assert file.lock(True)
    assert not other.lock(False)
    file.unlock()
    assert other.lock(False)
    assert file.identity() == other.identity()
    file.close()
    file.close()
    other.close()


class Late:
    """A file of ext4 with data=journal: a sync reports what the one before kept."""

    def __init__(self, file):
        self.file = file
        self.pread = file.pread
        self.failing = False
        self.kept = False
        self.syncs = 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def _sync(self):
        self.syncs += 1
        kept, self.kept = self.kept, self.failing
        self.failing = False
        if kept:
            raise OSError(errno.EIO, "the sync before failed")

    fdatasync = fsync = _sync


@pytest.fixture
def late(tmp_path):
    file = Late(OSStorage().open(str(tmp_path / "f"), create=True))
    yield file
    file.close()


@pytest.mark.parametrize("sync", ["fdatasync", "fsync"])
def test_a_sync_made_twice_hears_of_its_own_failure(sync, late):
    late.failing = True
    with pytest.raises(OSError, match="sync before"):
        getattr(SyncedTwice(late), sync)()
    getattr(SyncedTwice(late), sync)()
    assert late.syncs == 4


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_what_a_file_has_beside_the_protocol_it_has_when_synced_twice(tmp_path):
    file = OSStorage().open(str(tmp_path / "f"), create=True)
    beside = public(file) - public(File) - {"fileno"}
    assert "stored" in beside
    assert beside <= public(SyncedTwice(file))
    simulated = Disk().open("f", create=True)
    assert hasattr(SyncedTwice(simulated), "ask")
    assert not hasattr(SyncedTwice(simulated), "stored")
    file.close()


@pytest.mark.parametrize("sync", ["fdatasync", "fsync"])
def test_a_sync_made_once_would_not_hear_of_it(sync, late):
    late.failing = True
    getattr(late, sync)()
    with pytest.raises(OSError, match="sync before"):
        getattr(late, sync)()


def test_everything_else_is_the_files_own(late, tmp_path):
    path = str(tmp_path / "f")
    twice = SyncedTwice(late)
    assert twice.lock(True)
    assert twice.pwritev([b"ab", b"c"], 1) == 3
    assert twice.pread(9, 0) == b"\0abc"
    twice.ftruncate(2)
    assert twice.size() == 2
    assert twice.identity() == late.identity()
    other = OSStorage()
    waiting = other.open(path)
    assert not waiting.lock(True)
    twice.unlock()
    assert waiting.lock(True)
    waiting.close()
    twice.close()
    with pytest.raises(OSError, match="Bad file"):
        twice.size()
    assert other.pid() == os.getpid()


def test_a_database_syncs_twice_when_told_to(path):
    made = []

    def opened(*arguments, **options):
        made.append(Late(OSStorage().open(*arguments, **options)))
        return made[-1]

    counts = []
    for twice in (False, True):
        shearbolt.open(path).close()
        with shearbolt.open(path, open_file=opened, sync_twice=twice) as db:
            with db.update() as tx:
                tx.create_bucket_if_not_exists(b"b")[b"k"] = b"v"
            before = made[-1].syncs
            with db.update() as tx:
                tx.bucket(b"b")[b"k"] = b"w"
            counts.append(made[-1].syncs - before)
    assert counts[1] == 2 * counts[0] > 0


def test_a_failure_reported_late_fails_its_own_commit_when_syncing_twice(path):
    with shearbolt.open(path) as db, db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v"
    made = []

    def opened(*arguments, **options):
        made.append(Late(OSStorage().open(*arguments, **options)))
        return made[-1]

    def fails():
        made[-1].failing = True
        with db.update() as tx:
            tx.bucket(b"b")[b"k"] = b"lost"

    with shearbolt.open(path, open_file=opened, sync_twice=True) as db:
        # The first commit also syncs what is live, and gets over a failure there.
        with db.update() as tx:
            tx.bucket(b"b")[b"other"] = b"v"
        with pytest.raises(shearbolt.StorageError):
            fails()
        with db.view() as tx:
            assert tx.bucket(b"b")[b"k"] == b"v"


def test_a_reader_of_a_closed_database_is_refused(path):
    db = shearbolt.open(path)
    db.close()
    for call in (db.view, db.update):
        with pytest.raises(shearbolt.DatabaseNotOpenError), call():
            pass


DAEMON = """
import os, sys, shearbolt
path, said = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
for fd in (0, 1, 2):
    os.close(fd)
taken = set()
def note():
    for fd in (0, 1, 2):
        try:
            os.write(fd, b"a message for standard error")
        except OSError:
            continue
        taken.add(fd)
def pages():
    note()
    with db.view() as tx:
        yield from tx._copy()
from shearbolt.database.copy import replace_file
with shearbolt.open(path) as db:
    note()
    with db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v"
    replace_file(db.storage, path + ".copy", pages(), 0o600, db.identity)
with shearbolt.open(path, read_only=True) as db:
    note()
os.write(said, repr(sorted(taken)).encode())
"""


def test_no_file_gets_the_descriptor_of_a_standard_stream(tmp_path):
    """Messages of a process without standard error must not land in the database."""
    path, said = tmp_path / "a.db", tmp_path / "said"
    done = subprocess.run(
        [sys.executable, "-c", DAEMON, path, said], capture_output=True, check=False
    )
    assert (done.returncode, said.read_text()) == (0, "[]")
    for name in (path, tmp_path / "a.db.copy"):
        with shearbolt.open(name, read_only=True) as db, db.view() as tx:
            assert tx.check() == []
            assert tx.bucket(b"b")[b"k"] == b"v"


def test_a_descriptor_above_the_standard_streams_stays_as_it_is(tmp_path):
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    assert above_standard(fd) == fd > 2
    os.close(fd)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_where_holes_are_not_known_all_is_data(code, monkeypatch, tmp_path):
    with shearbolt.open(tmp_path / "x.db") as db, db.view() as tx:
        size = db.pager.file.size()

        def lseek(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "lseek", lseek)
        assert list(db.pager.file.stored(0, size)) == [(0, size)]
        assert db.pager.file.hole(0, size) == 0
        assert tx.copy_file(tmp_path / "copy.db") == size
    monkeypatch.undo()
    with shearbolt.open(tmp_path / "copy.db") as db, db.view() as tx:
        assert tx.check() == []


def test_holes_are_what_lies_between_the_pieces():
    """Many small ones do not make the rest of the file one."""

    class Pieces:
        def stored(self, offset):
            at = next(at for at in (0, 40, 80) if at + 30 > offset)
            return max(at, offset), at + 30

    file = RobustFile(Pieces(), "x")
    assert list(file.stored(0, 100)) == [(0, 30), (40, 70), (80, 100)]
    assert file.hole(0, 100) == 20
    assert file.hole(20, 90) == 20


def test_an_error_of_the_disk_is_not_taken_for_a_hole(monkeypatch, tmp_path):
    with shearbolt.open(tmp_path / "x.db") as db:

        def lseek(*_):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "lseek", lseek)
        with pytest.raises(shearbolt.StorageError, match="lseek"):
            list(db.pager.file.stored(0, 100))


def test_a_file_that_outlives_the_modules_ends_in_silence(monkeypatch, tmp_path):
    """What a failed sync keeps open does: Python sets their names to None."""
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    file = OSStorage().open(str(tmp_path / "f"), create=True)
    fd = file._fd
    with monkeypatch.context() as patch:
        patch.setattr(_posix, "os", None)
        del file
        gc.collect()
    os.close(fd)
    assert said == []


@pytest.mark.parametrize("code", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_a_database_can_be_made_where_directories_cannot_be_synced(
    code, path, monkeypatch
):
    fsync = os.fsync
    asked = []

    def refuse(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            asked.append(fd)
            raise OSError(getattr(errno, code), "no such thing here")
        fsync(fd)

    monkeypatch.setattr(_posix, "_fsync", refuse)
    with shearbolt.open(path) as db, db.view() as tx:
        tx.copy_file(path + ".copy")
    assert len(asked) == 2


def test_a_failed_sync_of_a_directory_is_an_error(path, monkeypatch):
    def fail(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_posix, "_fsync", fail)
    with pytest.raises(shearbolt.StorageError, match="fsync of the directory"):
        shearbolt.open(path)


def test_a_name_in_a_directory_that_may_not_be_read_is_synced_with_all_else(
    path, monkeypatch
):
    opened = os.open

    def refuse(name, flags, *rest):
        if flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return opened(name, flags, *rest)

    synced = []
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    shearbolt.open(path).close()
    assert synced == [True]


@pytest.mark.parametrize("code", ["ENOENT", "EACCES", "EPERM", "ENOTSUP"])
def test_a_whole_file_gets_its_name_where_there_are_no_links(
    code, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(getattr(errno, code), "no such thing here")

    monkeypatch.setattr(os, "link", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"whole")
    OSStorage().rename_new(str(source), str(target))
    assert target.read_bytes() == b"whole"
    source.write_bytes(b"other")
    with pytest.raises(FileExistsError):
        OSStorage().rename_new(str(source), str(target))
    source.unlink()
    target.unlink()
    with pytest.raises(FileNotFoundError):
        OSStorage().rename_new(str(source), str(target))
    assert not target.exists()
