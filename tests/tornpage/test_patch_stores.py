"""Small stores as people write them do on the disk what they do on the machine."""

import array
import asyncio
import concurrent.futures
import contextlib
import dbm.dumb
import errno
import fcntl
import gzip
import json
import logging.handlers
import mmap
import os
import pathlib
import shelve
import shutil
import sqlite3
import subprocess
import tempfile
import zipfile
from types import ModuleType

import pytest
from refusing import refusing

from tornpage.disk import Disk
from tornpage.patch import UnsupportedCallError, patched, paths, replacements
from tornpage.patch.calls import Calls


def _result(root, call):
    """What a call returns or raises, whatever the directory is called."""
    try:
        return call()
    except (OSError, TypeError, ValueError, BufferError) as problem:
        number = getattr(problem, "errno", None)
        return type(problem).__name__, errno.errorcode.get(number, number)


def by_a_named_temporary_file(root):
    for text in ("1", "22"):
        with tempfile.NamedTemporaryFile("w", dir=root, delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, f"{root}/x")


def by_pathlib(root):
    path = pathlib.Path(root, "x")
    path.write_bytes(b"123")
    path.chmod(mode=0o600)
    path.rename(path.with_name("y"))
    path.with_name("y").touch()
    return [one.name for one in pathlib.Path(root).iterdir()]


def by_copies(root):
    pathlib.Path(root, "a").write_bytes(b"1" * 5000)
    shutil.copyfile(f"{root}/a", f"{root}/b")
    shutil.copy2(f"{root}/a", f"{root}/c")
    shutil.move(f"{root}/c", f"{root}/d")


def by_descriptors(root):
    flags = os.O_RDWR | os.O_CREAT
    log = os.open(f"{root}/log", flags | os.O_APPEND | os.O_DSYNC)
    os.write(log, b"1")
    os.pwrite(log, b"2", 0)
    other = os.open(f"{root}/other", flags)
    os.writev(other, [b"1", bytearray(b"22"), array.array("i", [3])])
    yield os.sendfile(other, log, 0, 2), os.pread(other, 20, 0)
    os.utime(other, (5, 5))
    os.chmod(other, mode=0o600)
    os.fchmod(other, mode=0o600)
    os.fchown(other, -1, gid=-1)
    os.chown(other, uid=-1, gid=-1)
    os.chown(f"{root}/other", -1, -1, follow_symlinks=False)
    os.lchown(f"{root}/other", -1, -1)
    for change in (os.chown, os.lchown, os.fchown):
        yield _result(root, lambda change=change: change(f"{root}/no", -1, -1))
    shutil.chown(f"{root}/log", os.getuid())
    os.truncate(other, 3)
    yield os.access(f"{root}/other", os.R_OK, effective_ids=True)
    for data in (5, [1, 2], "text", memoryview(b"123456")[::2], None):
        yield _result(root, lambda data=data: os.write(other, data))
        yield _result(root, lambda data=data: os.pwrite(other, data, 9))
        yield _result(root, lambda data=data: os.writev(other, [data]))
        with open(f"{root}/other", "ab", buffering=0) as file:
            yield _result(root, lambda data=data, file=file: file.write(data))
    os.close(log)
    os.close(other)


def by_an_opener(root):
    folder = os.open(root, os.O_RDONLY)

    def opener(path, flags):
        return os.open(path, flags, dir_fd=folder)

    for mode in ("w", "ab", "r+"):
        with open("x", mode, opener=opener) as file:
            file.write(b"1" if "b" in mode else "23")
            yield file.name, file.mode
    with open("x", "rb", 0, None, None, None, True, opener) as file:
        yield file.name, file.mode, file.read()
    os.close(folder)


def by_threads(root):
    def put(number):
        with open(f"{root}/{number}", "wb") as file:
            file.write(b"%d" % number)
            file.flush()
            os.fsync(file)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(put, range(4)))

    async def later():
        await asyncio.to_thread(put, 5)

    asyncio.run(later())


def by_libraries(root):
    with dbm.dumb.open(f"{root}/dumb", "c") as table:
        table["a"] = "1"
    with shelve.Shelf(dbm.dumb.open(f"{root}/shelf", "c")) as table:
        table["a"] = [1]
    with zipfile.ZipFile(f"{root}/zip", "w") as packed:
        packed.writestr(zipfile.ZipInfo("x"), b"1" * 100)
    with gzip.GzipFile(f"{root}/gzip", "wb", mtime=0) as packed:
        packed.write(b"1")
    with contextlib.closing(sqlite3.connect(f"{root}/table")) as table:
        table.execute("create table t(a)")
        yield table.execute("select count(*) from t").fetchall()
    os.unlink(f"{root}/table")
    handler = logging.handlers.RotatingFileHandler(
        f"{root}/log", maxBytes=10, backupCount=1
    )
    for _ in range(3):
        handler.emit(logging.makeLogRecord({"msg": "1234567"}))
    handler.close()


def by_text(root):
    with open(f"{root}/a", "w", newline="\r\n") as file:
        json.dump({"a": [1, 2]}, file, indent=1)
    for mode in "wa":
        with open(f"{root}/b", mode, encoding="utf-16") as file:
            file.write("a\nb")
            yield file.tell()


def by_names(root):
    pathlib.Path(root, "a").write_bytes(b"1")
    os.link(f"{root}/a", f"{root}/b")
    os.rename(f"{root}/a", f"{root}/b")
    os.truncate(f"{root}/b", length=0)
    longest = ("b" * 255, "b" * 256, "é" * 127, "é" * 128, "./" * 200 + "a")
    for path in ("a/", "none/../a", "a/../b", "a\0", *longest, "./a", "."):
        for call in (os.stat, _opened, os.listdir, os.unlink):
            yield path, _name(_result(root, lambda c=call, p=path: c(f"{root}/{p}")))
        for asked in (os.path.exists, os.path.isfile, os.path.isdir, os.path.lexists):
            yield asked(f"{root}/{path}")
        if path == "a/":
            pathlib.Path(root, "a").write_bytes(b"1")


def _opened(path):
    with open(path, "rb"):
        pass


def _name(result):
    """Whatever is not an error: that it was none."""
    return result if isinstance(result, tuple) and len(result) == 2 else "fine"


def by_locks(root):
    one = open(f"{root}/lock", "a+b")  # noqa: SIM115
    two = open(f"{root}/lock", "a+b")  # noqa: SIM115
    for file in (one, two):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_SH, 1, 1)
    fcntl.flock(one, fcntl.LOCK_EX)
    yield _result(root, lambda: fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB))
    fcntl.lockf(two, fcntl.LOCK_UN)
    with open(f"{root}/lock", "rb") as reading:
        yield _result(root, lambda: fcntl.lockf(reading, fcntl.LOCK_EX))
        yield _result(root, lambda: fcntl.lockf(reading, fcntl.LOCK_SH))
    one.close()
    two.close()


def by_listing(root):
    os.mkdir(f"{root}/d")
    pathlib.Path(root, "d", "x").write_bytes(b"1")
    with os.scandir(root) as entries:
        for entry in entries:
            yield entry.name, entry.is_dir(), entry.inode() == entry.stat().st_ino


STORES = (
    by_a_named_temporary_file,
    by_pathlib,
    by_copies,
    by_descriptors,
    by_an_opener,
    by_threads,
    by_libraries,
    by_text,
    by_names,
    by_locks,
    by_listing,
)


def _seen(root, store):
    """What a store saw, and what is there afterwards."""
    found = store(root)
    seen = list(found) if hasattr(found, "__next__") else found
    paths = sorted(pathlib.Path(root).rglob("*"))
    tree = [
        (str(one.relative_to(root)), one.is_file() and one.read_bytes())
        for one in paths
    ]
    return seen, tree


@pytest.mark.parametrize("store", STORES)
def test_a_store_sees_and_leaves_what_it_does_on_the_machine(store, tmp_path):
    disk = Disk()
    with patched(disk) as root:
        on_the_disk = _seen(root, store)
    assert disk.refused == []
    assert on_the_disk == _seen(str(tmp_path), store)


def test_what_comes_of_the_calls_is_what_was_called():
    disk = Disk()
    with patched(disk) as root:
        by_a_named_temporary_file(root)
        list(by_descriptors(root))
    said = [one.op for one in disk.trace][:14]
    assert said == [
        *("create", "write", "sync", "rename") * 2,
        # With O_DSYNC each write is followed by its sync.
        *("create", "write", "sync", "write", "sync"),
        "create",
    ]


# -- what is refused, rather than answered wrongly ---------------------------------


def _mapping(root):
    with open(f"{root}/x", "w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096) as mapping:
            mapping[0] = 1
            mapping.flush()


def _directory_lock(root):
    fcntl.flock(os.open(root, os.O_RDONLY), fcntl.LOCK_EX)


def _name_only(root):
    os.fsync(os.open(root, os.O_PATH))


def _another_process(root):
    with open(f"{root}/x", "w") as file:
        subprocess.run(["echo", "1"], stdout=file, check=True)


def _process_pool(root):
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        pool.submit(print).result()


def _write_with_flags(root):
    os.pwritev(os.open(f"{root}/x", os.O_CREAT | os.O_RDWR), [b"1"], 0, os.RWF_DSYNC)


def _holes(root):
    os.lseek(os.open(f"{root}/x", os.O_CREAT | os.O_RDWR), 0, os.SEEK_DATA)


@pytest.mark.parametrize(
    "store",
    [
        _mapping,
        _directory_lock,
        _name_only,
        _another_process,
        _process_pool,
        _write_with_flags,
        _holes,
    ],
)
def test_what_the_disk_has_not_is_refused_and_remembered(store):
    disk = Disk()
    with refusing(disk) as root:
        store(root)
    assert disk.refused


def test_a_database_of_c_is_refused_below_the_root_only(monkeypatch):
    """It opens files by itself, and so fails there as on a missing directory."""
    library = ModuleType("_gdbm")
    library.open = lambda path, *_: path
    monkeypatch.setattr(replacements, "_DATABASES", [library])
    disk = Disk()
    with refusing(disk) as root:
        assert library.open("/elsewhere", "c") == "/elsewhere"
        with pytest.raises(UnsupportedCallError, match=r"_gdbm\.open"):
            library.open(f"{root}/x", "c")
    assert len(disk.refused) == 1
    assert library.open(f"{root}/x") == "/db/x"


# -- the tests above notice ---------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "store"),
    [
        (replacements, "plain", bytes, by_descriptors),
        (
            Calls,
            "lockf",
            lambda self, number, kind, *_: self.flock(number, kind),
            by_locks,
        ),
        (paths, "error", lambda *_: OSError(errno.EIO, ""), by_names),
    ],
)
def test_a_wrong_call_is_noticed(owner, name, wrong, store, tmp_path, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, OSError, UnsupportedCallError)):
        test_a_store_sees_and_leaves_what_it_does_on_the_machine(store, tmp_path)
