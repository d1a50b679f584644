"""`open` and `os` on the simulated disk do what they do on the machine's files.

One script is run twice, on a real folder and on the disk, and all it saw is compared.
"""

# ruff: noqa: SIM115 - files that are not closed at once are what is tested.

import contextlib
import fcntl
import glob
import mmap
import os
import pathlib
import shutil
import tempfile

import pytest

from tornpage.disk import Disk
from tornpage.patch import patched
from tornpage.patch.block import Calls
from tornpage.patch.files import DiskRaw, OpenFile


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
    asked = (file.readable, file.writable, file.seekable, file.tell, file.fileno)
    yield file.closed, [_tried(root, one) for one in asked]
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


def arguments_by_name(root):
    a, b = f"{root}/a", f"{root}/b"
    fd = os.open(flags=os.O_RDWR | os.O_CREAT, path=a)
    yield os.write(fd, b"12"), os.fstat(fd=fd).st_size, os.fsync(fd=fd)
    yield os.truncate(path=a, length=1), os.stat(path=a).st_size, os.close(fd=fd)
    yield os.rename(dst=b, src=a), os.replace(b, dst=a), os.link(src=a, dst=b)
    yield sorted(os.listdir(path=root)), sorted(os.listdir(path=os.fsencode(root)))
    yield os.unlink(path=a), os.path.exists(path=a), os.path.exists(path=b)
    yield _tried(root, lambda: os.stat(path=a)), shutil.rmtree(path=root)
    yield os.path.lexists(path=root)


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
    entries = os.scandir(root)
    yield len(list(entries)), list(entries), entries.close(), list(entries)
    entries = os.scandir(root)
    yield entries.close(), list(entries)
    raw = os.fsencode(root)
    yield sorted(
        (e.name, e.path == os.path.join(raw, e.name) == os.fspath(e), e.is_dir())
        for e in os.scandir(raw)
    )
    yield [(sorted(d), sorted(f)) for _, d, f in sorted(os.walk(raw))]
    yield sorted(os.path.relpath(one, raw) for one in glob.glob(raw + b"/**"))
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
        by_place = mmap.MAP_PRIVATE, mmap.PROT_READ, mmap.ACCESS_DEFAULT
        with mmap.mmap(number, 9, *by_place, mmap.ALLOCATIONGRANULARITY) as further:
            yield further[:]
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
    arguments_by_name,
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
