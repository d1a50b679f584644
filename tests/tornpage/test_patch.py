"""`open` and `os` on the simulated disk do what they do on the machine's files.

Most tests run one script twice, on a real folder and on the disk, and compare all it
saw. What has no counterpart, refusals and what reaches the disk when, follows.
"""

# ruff: noqa: SIM115 - files that are not closed at once are what is tested.

import builtins
import contextlib
import errno
import fcntl
import gc
import glob
import io
import mmap
import os
import pathlib
import shutil
import tempfile
import threading
import weakref

import pytest

from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer
from tornpage.patch import PatchError, UnsupportedCallError, patched
from tornpage.patch.block import Calls
from tornpage.patch.files import DiskRaw, OpenFile
from tornpage.patch.kept import Kept
from tornpage.trace import Sync, SyncDir, Write

# -- the same as the machine -------------------------------------------------------


def _tried(root, call):
    """What a call returns, or how it fails."""
    try:
        return call()
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        names = [getattr(error, one, None) for one in ("filename", "filename2")]
        names = [os.path.relpath(one, root) for one in names if isinstance(one, str)]
        return type(error).__name__, number, names


def text_modes(root):
    path = f"{root}/x"
    for mode in ("r", "w", "r", "a", "r+", "w+", "x", "a+", "rt", "q", "rw", "bt", ""):
        yield _tried(root, lambda mode=mode: _text(path, mode))
    yield pathlib.Path(path).read_bytes()


def _text(path, mode):
    with open(path, mode, encoding="utf-8", newline="") as file:
        seen = [file.mode, file.readable(), file.writable(), file.tell()]
        if file.writable():
            seen.append(file.write("grün\r\nzwei\n"))
        if file.readable():
            file.seek(0)
            seen.extend((file.read(3), file.read()))
    return [*seen, file.closed]


def encodings_and_newlines(root):
    path = f"{root}/x"
    for encoding in ("latin-1", "utf-8", "utf-16"):
        for newline in (None, "", "\n", "\r\n"):
            with open(path, "w", encoding=encoding, newline=newline) as file:
                file.write("ä\nb\r\nc")
            with open(path, "rb") as file:
                yield file.read()
            with open(path, encoding=encoding, newline=newline) as file:
                yield list(file)
    with open(path, "wb") as file:
        file.write(b"\xff")
    with open(path, encoding="utf-8", errors="replace") as file:
        yield file.read()


def binary_layers(root):
    path = f"{root}/x"
    for mode, buffering in (("wb", 0), ("rb+", 0), ("ab", 0), ("rb+", 16), ("wb", -1)):
        with open(path, mode, buffering) as file:
            yield file.mode, file.readable(), file.writable()
            yield file.write(b"0123456789"), file.tell(), file.seek(3)
            yield _tried(root, lambda file=file: file.read(2))
            yield file.truncate(8), file.tell(), os.fstat(file.fileno()).st_size
    with open(path, "rb") as file:
        yield _tried(root, lambda: file.write(b"1")), file.peek(1)[:1], file.read()
    yield _tried(root, lambda: open(path, "w", 0))
    yield _tried(root, lambda: open(path, "rb", encoding="utf-8"))


def descriptors(root):
    path = f"{root}/x"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    yield os.write(fd, b"abcdef"), os.lseek(fd, -2, os.SEEK_END), os.read(fd, 10)
    yield os.pwrite(fd, b"XY", 1), os.pread(fd, 3, 0), os.lseek(fd, 0, os.SEEK_CUR)
    yield os.writev(fd, [b"g", b"hi"]), os.pwritev(fd, [b"1", b"2"], 3)
    some, more = bytearray(4), bytearray(9)
    yield os.preadv(fd, [some, more], 2), bytes(some), bytes(more)
    yield os.ftruncate(fd, 4), os.fstat(fd).st_size, os.isatty(fd), os.fsync(fd)
    other = os.dup(fd)
    os.lseek(fd, 1, os.SEEK_SET)
    yield os.read(other, 1), os.close(fd), os.read(other, 1), os.close(other)
    yield _tried(root, lambda: os.open(path, os.O_CREAT | os.O_EXCL))
    fd = os.open(path, os.O_RDONLY)
    yield _tried(root, lambda: os.write(fd, b"1")), _tried(root, lambda: os.read(fd, 9))
    with os.fdopen(fd, "rb", closefd=False) as file:
        yield file.seek(0), file.read()
    os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    yield os.write(fd, b"end"), os.lseek(fd, 0, os.SEEK_CUR)
    yield _tried(root, lambda: os.read(fd, 1)), os.close(fd)
    with open(path, "ab+", 0) as file:
        # Nothing is appended, so the place stays where it is.
        yield file.seek(2), file.write(b""), file.tell(), file.read()
    fd = os.open(path, os.O_RDONLY | os.O_TRUNC)
    yield os.stat(path).st_size, os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    yield os.stat(path).st_size, os.close(fd)


def names(root):
    a, b = f"{root}/a", f"{root}/b"
    yield os.path.exists(a), os.path.isfile(a), _tried(root, lambda: os.stat(a))
    yield _tried(root, lambda: os.unlink(a)), _tried(root, lambda: os.rename(a, b))
    yield pathlib.Path(a).write_text("one", encoding="utf-8"), os.path.getsize(a)
    yield os.rename(a, b), os.path.exists(a), os.path.isfile(b), os.access(b, os.R_OK)
    yield pathlib.Path(a).write_bytes(b"2"), os.replace(a, b), open(b, "rb").read()
    yield os.truncate(b, 0), os.stat(b).st_size, os.chmod(b, 0o600), os.utime(b)
    yield os.remove(b), _tried(root, lambda: open(b, "rb")), os.path.lexists(b)
    yield pathlib.Path(b).exists(), _tried(root, lambda: os.truncate(b, 1))
    yield _tried(root, lambda: open(root, "rb")), _tried(root, lambda: os.chmod(b, 0))


def folders(root):
    yield os.path.isdir(root), os.listdir(root), os.mkdir(f"{root}/d")
    yield _tried(root, lambda: os.mkdir(f"{root}/d")), os.path.isdir(f"{root}/d")
    os.makedirs(f"{root}/e/f", exist_ok=True)
    for name in ("x", "d/y", "e/f/z"):
        pathlib.Path(root, name).write_bytes(b"12")
    yield sorted(os.listdir(root)), sorted(os.listdir(os.fsencode(root)))
    with os.scandir(root) as entries:
        yield sorted(
            (e.name, e.is_dir(), e.is_file(), e.path == f"{root}/{e.name}")
            for e in entries
        )
    yield [
        (os.path.relpath(at, root), sorted(d), sorted(f))
        for at, d, f in sorted(os.walk(root))
    ]
    yield sorted(p.name for p in pathlib.Path(root).glob("*"))
    yield _tried(root, lambda: os.rmdir(f"{root}/d")), os.unlink(f"{root}/d/y")
    yield os.rmdir(f"{root}/d"), os.path.exists(f"{root}/d")
    yield _tried(root, lambda: os.listdir(f"{root}/d"))
    yield _tried(root, lambda: os.listdir(f"{root}/x"))
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield os.fsync(fd), os.close(fd)
    yield _tried(root, lambda: os.open(f"{root}/x", os.O_RDONLY | os.O_DIRECTORY))


def library(root):
    path = pathlib.Path(root, "x")
    yield path.write_text("one", encoding="utf-8"), path.stat().st_size
    yield os.path.relpath(shutil.move(path, f"{root}/y"), root)
    yield os.path.relpath(shutil.copyfile(f"{root}/y", f"{root}/z"), root)
    yield sorted(os.listdir(root)), pathlib.Path(root, "z").read_bytes()
    fd, name = tempfile.mkstemp(dir=root)
    with open(fd, "w", encoding="utf-8") as file:
        file.write("tmp")
    yield pathlib.Path(name).read_text(encoding="utf-8"), os.unlink(name)
    with tempfile.NamedTemporaryFile(dir=root, delete=False) as file:
        yield file.write(b"12"), os.path.dirname(file.name) == root
    yield os.unlink(file.name)
    yield os.path.relpath(shutil.copytree(root, f"{root}/all"), root)
    yield os.path.relpath(shutil.copy2(f"{root}/z", f"{root}/all/more"), root)
    yield sorted(os.listdir(f"{root}/all")), sorted(os.listdir(root))
    yield _tried(root, lambda: shutil.rmtree(f"{root}/z"))
    yield shutil.rmtree(f"{root}/z", ignore_errors=True), os.path.exists(f"{root}/z")
    met = []
    for quiet in (False, True):
        shutil.rmtree(f"{root}/none", quiet, lambda *what: met.append(what[2][0]))
    yield met
    yield shutil.rmtree(f"{root}/all"), sorted(os.listdir(root))
    yield shutil.rmtree(root), os.path.exists(root)
    yield _tried(root, lambda: os.listdir(root)), _tried(root, lambda: os.stat(root))
    yield _tried(root, lambda: os.rmdir(root)), os.mkdir(root), os.listdir(root)


def locks(root):
    one = open(f"{root}/x", "w", encoding="utf-8")
    two = open(f"{root}/x", encoding="utf-8")
    nowait = fcntl.LOCK_EX | fcntl.LOCK_NB
    yield (
        fcntl.flock(one, fcntl.LOCK_EX),
        _tried(root, lambda: fcntl.flock(two, nowait)),
    )
    yield fcntl.flock(one.fileno(), fcntl.LOCK_UN), fcntl.flock(two, nowait)
    yield two.close(), fcntl.flock(one, nowait), one.close()


def mappings(root):
    path = pathlib.Path(root, "x")
    path.write_bytes(b"0123456789" * 1000)
    with open(path, "rb") as file:
        number = file.fileno()
        for length, more in (
            (0, {"access": mmap.ACCESS_READ}),
            (0, {"prot": mmap.PROT_READ}),
            (5, {"access": mmap.ACCESS_COPY}),
            (5, {"flags": mmap.MAP_PRIVATE}),
            (0, {"access": mmap.ACCESS_READ, "offset": mmap.ALLOCATIONGRANULARITY}),
            (9, {"access": mmap.ACCESS_READ, "offset": mmap.ALLOCATIONGRANULARITY}),
            (10_001, {"access": mmap.ACCESS_READ}),
            (0, {"access": mmap.ACCESS_READ, "offset": 1 << 20}),
            (0, {"access": mmap.ACCESS_READ, "flags": mmap.MAP_PRIVATE}),
        ):
            yield _tried(root, lambda length=length, more=more: _mapped(
                number, length, **more
            ))  # fmt: skip
        mapping = mmap.mmap(number, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    with open(path, "r+b") as file:
        for offset in (1, 700):
            yield _tried(root, lambda offset=offset: _mapped(
                file.fileno(), 9, access=mmap.ACCESS_READ, offset=offset
            ))  # fmt: skip
    number = os.open(path, os.O_WRONLY)
    yield _tried(root, lambda: _mapped(number, 9, access=mmap.ACCESS_READ))
    os.close(number)
    # It outlives the file it was made of.
    yield mapping[7:12], mapping.find(b"90"), mapping.rfind(b"01"), len(mapping)
    yield mapping.close(), path.write_bytes(b""), path.read_bytes()
    with open(path, "rb") as file:
        yield _tried(root, lambda: _mapped(file.fileno(), 0, access=mmap.ACCESS_READ))


def _mapped(number, length, **more):
    with mmap.mmap(number, length, **more) as mapping:
        seen = [isinstance(mapping, mmap.mmap), mapping[:], mapping.size() > 0]
        with contextlib.suppress(TypeError):
            mapping[0:1] = b"#"
            seen.append("written")
        return [*seen, mapping[:2]]


def relative_to_folders(root):
    os.makedirs(f"{root}/d/e")
    folder = os.open(f"{root}/d", os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open("x", os.O_RDWR | os.O_CREAT, dir_fd=folder)
    yield os.write(fd, b"12"), os.close(fd), os.stat("x", dir_fd=folder).st_size
    os.link("x", "y", src_dir_fd=folder, dst_dir_fd=folder)
    os.rename("y", "e/z", src_dir_fd=folder, dst_dir_fd=folder)
    yield os.listdir(f"{root}/d/e"), sorted(os.listdir(folder))
    os.rename(f"{root}/d/x", "w", dst_dir_fd=folder)
    with os.scandir(folder) as entries:
        yield sorted(
            (e.name, e.path, e.is_dir(), e.stat().st_size > 0) for e in entries
        )
    # A directory stays the same one wherever it goes.
    os.rename(f"{root}/d", f"{root}/f")
    os.mkdir("g", dir_fd=folder)
    os.unlink("w", dir_fd=folder)
    yield sorted(os.listdir(f"{root}/f")), os.rmdir("g", dir_fd=folder)
    yield _tried(root, lambda: os.stat("none", dir_fd=folder))[:2]
    yield _tried(root, lambda: os.open(f"{root}/none", os.O_RDONLY, dir_fd=folder))
    yield [
        (os.path.relpath(at, root), sorted(d), sorted(f))
        for at, d, f, _ in os.fwalk(root)
    ]
    file = os.open(f"{root}/f/e/z", os.O_RDONLY)
    yield (
        _tried(root, lambda: os.listdir(file)),
        _tried(root, lambda: os.open("x", os.O_RDONLY, dir_fd=file))[:2],
    )
    shutil.rmtree(f"{root}/f")
    yield os.listdir(folder), _tried(root, lambda: os.mkdir("x", dir_fd=folder))[:2]
    os.close(folder)
    yield _tried(root, lambda: os.listdir(folder))


def copies(root):
    source = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
    os.write(source, b"0123456789")
    target = os.open(f"{root}/y", os.O_RDWR | os.O_CREAT)
    yield os.sendfile(target, source, 2, 3), os.sendfile(target, source, 0, 99)
    yield os.lseek(source, 1, os.SEEK_SET), os.sendfile(target, source, None, 2)
    yield (
        os.copy_file_range(source, target, 2),
        os.copy_file_range(source, target, 4, 0),
    )
    yield os.copy_file_range(source, target, 2, 4, 0), os.lseek(target, 0, os.SEEK_CUR)
    yield os.sendfile(target, source, 99, 3), pathlib.Path(root, "y").read_bytes()
    added = os.open(f"{root}/y", os.O_WRONLY | os.O_APPEND)
    yield _tried(root, lambda: os.sendfile(added, source, 0, 1))
    yield _tried(root, lambda: os.copy_file_range(source, added, 1))
    with tempfile.TemporaryFile() as machine:
        number = machine.fileno()
        yield os.sendfile(number, source, 0, 4), os.sendfile(number, source, None, 99)
        yield os.sendfile(target, number, 1, 2), os.lseek(source, 0, os.SEEK_CUR)
        os.lseek(number, 0, os.SEEK_SET)
        yield os.sendfile(target, number, None, 2), os.lseek(number, 0, os.SEEK_CUR)
    yield pathlib.Path(root, "y").read_bytes()


def flags(root):
    fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    known = os.O_ACCMODE | os.O_APPEND | os.O_CREAT | os.O_TRUNC
    yield fcntl.fcntl(fd, fcntl.F_GETFL) & known
    for inherited in (True, False):
        os.set_inheritable(fd, inherited)
        yield os.get_inheritable(fd), fcntl.fcntl(fd, fcntl.F_GETFD)
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC * inherited)
        yield os.get_inheritable(fd), os.get_inheritable(os.dup(fd))
    yield os.get_blocking(fd), os.device_encoding(fd)
    yield os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED), os.close(fd)
    for call in (os.get_inheritable, os.get_blocking):
        yield _tried(root, lambda call=call: call(fd))


SCRIPTS = (
    text_modes,
    encodings_and_newlines,
    binary_layers,
    descriptors,
    names,
    folders,
    library,
    locks,
    mappings,
    relative_to_folders,
    copies,
    flags,
)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: one.__name__)
def test_a_script_sees_on_the_disk_what_it_sees_on_the_machine(script, tmp_path):
    real = list(script(str(tmp_path)))
    with patched(Disk()) as root:
        simulated = list(script(root))
    for ours, theirs in zip(simulated, real, strict=True):
        assert ours == theirs


def test_a_directory_stays_when_its_last_file_goes():
    disk = Disk({"/db/d/e/x": b"1", "/db/f/y": b"2"})
    with patched(disk) as root:
        os.unlink(f"{root}/d/e/x")
        os.rename(f"{root}/f/y", f"{root}/y")
        assert os.listdir(f"{root}/d/e") == os.listdir(f"{root}/f") == []
        os.rmdir(f"{root}/d/e")
        assert os.listdir(root) == ["d", "f", "y"]
        shutil.rmtree(root)
        assert not os.path.exists(root)


# -- when it reaches the disk ------------------------------------------------------


def _written(disk):
    return [one.data for one in disk.trace if isinstance(one, Write)]


def test_data_reach_the_disk_when_a_buffer_is_flushed_closed_or_full():
    disk = Disk()
    with patched(disk) as root:
        file = open(f"{root}/x", "w", encoding="ascii")
        file.write("a")
        assert _written(disk) == []
        file.flush()
        assert _written(disk) == [b"a"]
        file.write("b")
        file.close()
        assert _written(disk) == [b"a", b"b"]
        with open(f"{root}/y", "wb", buffering=8) as file:
            file.write(b"1234567")
            assert len(_written(disk)) == 2
            file.write(b"89")
            assert len(_written(disk)) == 3


def test_what_nobody_flushed_before_the_end_never_reaches_the_disk():
    disk = Disk()
    with patched(disk) as root:
        file = open(f"{root}/x", "w", encoding="ascii")
        file.write("lost")
    before = len(disk.trace)
    del file
    gc.collect()
    assert len(disk.trace) == before


def test_syncs_are_those_that_were_asked_for():
    disk = Disk()
    with patched(disk) as root:
        os.mkdir(f"{root}/d")
        fd = os.open(f"{root}/d/x", os.O_RDWR | os.O_CREAT)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
        folder = os.open(f"{root}/d", os.O_RDONLY)
        os.fsync(folder)
        for flag in (os.O_SYNC, os.O_DSYNC):
            os.write(os.open(f"{root}/d/x", os.O_WRONLY | flag), b"1")
    kinds = [one.kind for one in disk.trace if isinstance(one, Sync)]
    assert kinds == ["fsync", "fdatasync", "fsync", "fdatasync"]
    [synced] = [one for one in disk.trace if isinstance(one, SyncDir)]
    assert os.path.dirname(synced.path) == "/db/d"


def test_a_sync_of_everything_syncs_files_and_directories_of_the_disk(monkeypatch):
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("the machine was synced"))
    disk = Disk()
    with patched(disk) as root:
        os.mkdir(f"{root}/d")
        for name in ("d/x", "y"):
            pathlib.Path(root, name).write_bytes(b"1")
        os.rename(f"{root}/y", f"{root}/d/z")
        os.sync()
    # Whatever a crash leaves, nothing of it is lost.
    explorer = Explorer({}, disk.trace, _all_files)
    [reached] = explorer.close(list(explorer.points())[-1]).outcomes
    assert reached.outcome == (("/db/d/x", b"1"), ("/db/d/z", b"1"))


def _all_files(disk):
    with patched(disk) as root:
        return tuple(
            (str(path), path.read_bytes())
            for path in sorted(pathlib.Path(root).rglob("*"))
            if path.is_file()
        )


def test_temporary_files_without_a_name_are_had():
    with patched(Disk()) as root:
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"1")
            file.seek(0)
            assert file.read() == b"1"
        with tempfile.SpooledTemporaryFile(max_size=1, dir=root) as file:
            file.write(b"12")
            file.seek(0)
            assert file.read() == b"12"
        assert os.listdir(root) == []


def test_a_range_of_descriptors_is_closed():
    with patched(Disk()) as root:
        first, second, third = (
            os.open(f"{root}/{name}", os.O_CREAT | os.O_WRONLY) for name in "abc"
        )
        os.closerange(first, third)
        for closed in (first, second):
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(closed)
        os.close(third)
        with pytest.raises(UnsupportedCallError, match="closerange"):
            os.closerange(1 << 20, third)


def test_names_of_temporary_files_are_those_of_last_time():
    """Random ones would make every store differ from run to run."""

    def made(disk):
        with patched(disk) as root:
            with tempfile.NamedTemporaryFile(dir=root, delete=False) as file:
                named = file.name
            return named, tempfile.mkdtemp(dir=root), tempfile.mkstemp(dir=root)[1]

    disk = Disk()
    first = made(disk)
    assert made(Disk()) == first
    with patched(disk) as root:
        # It removes itself with a function that it kept.
        with tempfile.NamedTemporaryFile(dir=root) as file:
            assert os.path.exists(file.name)
        assert not os.path.exists(file.name)
    # What is left from before has its name still.
    assert not set(made(disk)) & set(first)


def test_the_line_that_is_blamed_is_the_users():
    disk = Disk()
    with patched(disk) as root:
        with open(f"{root}/x", "w", encoding="ascii") as file:
            file.write("1" * 100_000)
        pathlib.Path(root, "x").write_text("2", encoding="ascii")
        shutil.copyfile(f"{root}/x", f"{root}/y")
        shutil.move(f"{root}/y", f"{root}/z")
        os.makedirs(f"{root}/d/e")
    sites = {one.site.partition(":")[0] for one in disk.trace}
    assert sites == {"test_patch.py"}


# -- a listing is something consumed -----------------------------------------------


def test_reuse_does_not_change_what_listings_see():
    """A name that did not exist when a folder was listed changes the listing."""
    disk = Disk()
    with patched(disk) as root:
        for name in ("a", "b"):
            pathlib.Path(root, name).write_bytes(b"")
        os.rename(f"{root}/a", f"{root}/c")
        os.unlink(f"{root}/b")

    def listing(crashed):
        with patched(crashed) as root:
            return tuple(os.listdir(root))

    swept = [
        [
            {one.outcome for one in closure.outcomes}
            for closure in Explorer({}, disk.trace, listing, reuse=reuse).sweep()
        ]
        for reuse in (True, False)
    ]
    assert swept[0] == swept[1]
    seen = set().union(*swept[0])
    assert seen == {(), ("a",), ("a", "b"), ("b", "c"), ("c",)}
    explorer = Explorer({}, disk.trace, listing)
    for point, outcomes in zip(explorer.points(), swept[0], strict=True):
        assert explorer.eager(point) == outcomes


# -- what is refused, and what is left alone ---------------------------------------

PATCHED = (
    *((os, name) for name in ("open", "read", "write", "fsync", "stat", "rename")),
    (builtins, "open"),
    (io, "open"),
    (fcntl, "flock"),
    (mmap, "mmap"),
    (os.path, "exists"),
)


def test_everything_is_put_back_even_after_an_error():
    def identities():
        return [id(getattr(module, name)) for module, name in PATCHED]

    before = identities()
    with pytest.raises(KeyError), patched(Disk()):  # noqa: PT012
        assert not {*before} & {*identities()}
        raise KeyError
    assert identities() == before


def test_a_second_disk_is_refused_and_the_first_one_stays():
    disk = Disk()
    with patched(disk) as root:
        with pytest.raises(PatchError, match="already"), patched(Disk(), "/other"):
            pass
        pathlib.Path(root, "x").write_bytes(b"1")
    assert disk.exists("/db/x")
    with patched(Disk()):
        pass


def test_a_block_that_could_not_begin_is_not_taken_for_one(monkeypatch):
    monkeypatch.setattr(Kept, "places", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), patched(Disk()):
        pass
    monkeypatch.undo()
    with patched(Disk()):
        pass


@pytest.mark.parametrize("root", ["/", "db", "/tmp", "/usr/.."])
def test_a_root_that_could_touch_real_files_is_refused(root):
    with pytest.raises(PatchError), patched(Disk(), root):
        pass


@pytest.mark.parametrize("root", ["/db/", b"/db", pathlib.Path("/db")])
def test_the_root_may_be_any_path(root):
    with patched(Disk(), root) as normal:
        assert normal == "/db"


def test_other_paths_are_the_machines(tmp_path):
    disk = Disk()
    path = tmp_path / "x"
    with patched(disk) as root:
        path.write_text("real", encoding="ascii")
        assert os.listdir(tmp_path) == ["x"]
        assert not os.path.exists(f"{root}x")
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
            os.rename(path, f"{root}/x")
        shutil.move(path, f"{root}/x")
    assert not path.exists()
    assert disk.open("/db/x").pread(9, 0) == b"real"


def test_calls_the_disk_does_not_have_are_refused_loudly():
    with patched(Disk()) as root:
        pathlib.Path(root, "x").write_bytes(b"1")
        with open(f"{root}/x", "rb+") as file:
            with pytest.raises(UnsupportedCallError, match="mmap"):
                mmap.mmap(file.fileno(), 1)
            for call in (
                lambda: os.symlink(f"{root}/x", f"{root}/y"),
                lambda: os.posix_fallocate(file.fileno(), 0, 1),
                lambda: os.rename(root, f"{root}/y"),
                lambda: fcntl.flock(os.open(root, os.O_RDONLY), fcntl.LOCK_EX),
                lambda: os.open(root, os.O_PATH),
                lambda: os.lseek(file.fileno(), 0, os.SEEK_HOLE),
                lambda: os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT),
                lambda: os.dup2(file.fileno(), 900),
                lambda: os.dup2(900, file.fileno()),
                lambda: os.fchdir(os.open(root, os.O_RDONLY)),
                lambda: os.chdir(root),
                lambda: os.lockf(file.fileno(), os.F_LOCK, 0),
                lambda: fcntl.ioctl(file, 0x5401),
                lambda: fcntl.fcntl(file, fcntl.F_SETFL, 0),
            ):
                with pytest.raises((UnsupportedCallError, OSError)):
                    call()


def test_what_is_mapped_cannot_be_changed_meanwhile():
    disk = Disk()
    with patched(disk) as root:
        path = pathlib.Path(root, "x")
        path.write_bytes(b"123")
        with open(path, "rb+", buffering=0) as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            for call in (
                lambda: file.write(b"4"),
                lambda: file.truncate(1),
                lambda: os.truncate(path, 1),
                lambda: open(path, "wb"),
            ):
                with pytest.raises(UnsupportedCallError, match="while it is mapped"):
                    call()
            assert mapping[:] == path.read_bytes() == b"123"
            mapping.close()
            file.write(b"4")
        assert path.read_bytes() == b"423"
    assert len(disk.refused) == 4


def test_a_lock_that_would_be_waited_for_for_ever_is_an_error():
    with patched(Disk()) as root:
        one, two = (os.open(f"{root}/x", os.O_RDWR | os.O_CREAT) for _ in "12")
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(UnsupportedCallError, match="never end"):
            fcntl.flock(two, fcntl.LOCK_EX)


def test_what_no_patch_reaches_fails_instead_of_touching_the_machine():
    # Nobody is seen to hold them.
    kept_stat, kept_write = weakref.ref(os.stat), weakref.ref(os.write)
    with patched(Disk()) as root:
        fd = os.open(f"{root}/x", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(FileNotFoundError):
            kept_stat()(f"{root}/x")
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            kept_write()(fd, b"1")


def test_threads_share_a_file_without_losing_a_write():
    disk = Disk()
    with patched(disk) as root:
        fd = os.open(f"{root}/x", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        threads = [
            threading.Thread(target=lambda: [os.write(fd, b"1") for _ in range(200)])
            for _ in range(4)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert os.fstat(fd).st_size == 800


# -- the tests above notice --------------------------------------------------------


def test_a_listing_that_consumes_only_what_it_finds_is_noticed(monkeypatch):
    right = Life.names_in

    def names_in(self, folder):
        found = right(self, folder)
        self._watch.any_name = False
        return found

    monkeypatch.setattr(Life, "names_in", names_in)
    with pytest.raises(AssertionError):
        test_reuse_does_not_change_what_listings_see()


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "script"),
    [
        (OpenFile, "seek", lambda self, offset, whence: offset, descriptors),
        (OpenFile, "truncate", lambda self, size: None, binary_layers),
        (DiskRaw, "tell", lambda self: 0, binary_layers),
        (Calls, "rename", lambda self, source, target: None, names),
        (Calls, "names", lambda self, folder: {}, folders),
        (Calls, "rmtree", lambda self, path, *_, **__: None, library),
        (Calls, "flock", lambda self, descriptor, operation: None, locks),
        (Calls, "mapped", lambda self, number, length, offset: b"0" * 9000, mappings),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_wrong_call_is_noticed(kind, name, wrong, script, tmp_path, monkeypatch):
    monkeypatch.setattr(kind, name, wrong)
    with pytest.raises((AssertionError, OSError)):
        test_a_script_sees_on_the_disk_what_it_sees_on_the_machine(script, tmp_path)


def test_what_the_library_keeps_of_os_is_put_back():
    kept = glob.__dict__.get("_StringGlobber", glob)
    before = dict(vars(kept))
    with patched(Disk()) as root:
        pathlib.Path(root, "x").write_bytes(b"")
        assert [one.name for one in pathlib.Path(root).glob("*")] == ["x"]
        assert glob.glob(f"{root}/*") == [f"{root}/x"]
    assert dict(vars(kept)) == before
