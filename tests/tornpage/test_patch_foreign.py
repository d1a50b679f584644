"""A sync by ctypes is a sync, and what else the C library does is not missed."""

import contextlib
import ctypes
import errno
import os
import posix
import sys
from types import ModuleType

import pytest
from refusing import refusing

from tornpage.disk import Disk
from tornpage.faults import FaultyDisk, Script
from tornpage.functions import subject_from
from tornpage.patch import UnsupportedCallError, patched
from tornpage.patch.foreign import Foreign
from tornpage.patch.stand_ins import StandIn
from tornpage.registry import spec_of
from tornpage.run import Plan, run

NAMES = """
import ctypes, functools

libc = ctypes.CDLL(None, use_errno=True)
"""

# How a store comes by a function of the C library; `sync` is what it calls.
LOOKED_UP = {
    "an attribute": """
libc.fsync
sync = lambda fd: libc.fsync(fd)
""",
    "an attribute, later": """
sync = lambda fd: libc.fsync(fd)
""",
    "an item": """
sync = libc["fdatasync"]
""",
    "a name": """
sync = libc.fsync
sync.argtypes, sync.restype = [ctypes.c_int], ctypes.c_int
""",
    "a default argument": """
def sync(fd, call=libc.fsync):
    return call(ctypes.c_int(fd))
""",
    "an object": """
class Machine:
    def __init__(self):
        self.calls = (libc.fsync,)
machine = Machine()
sync = lambda fd: machine.calls[0](fd)
""",
    "a prototype": """
sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(("fsync", libc))
""",
    "an address": """
address = ctypes.cast(libc.fsync, ctypes.c_void_p).value
sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)
""",
    "a partial call": """
sync = functools.partial(libc.fsync)
""",
    "a library of another name": """
sync = ctypes.CDLL("libc.so.6").fdatasync
""",
    "the whole disk": """
sync = lambda fd: libc.sync()
""",
}


@pytest.fixture
def store(monkeypatch):
    """Makes a module that has functions of C, and forgets whether it was looked at."""
    made = []

    def make(text):
        module = ModuleType("store_of_a_test")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(NAMES + text, vars(module))
        made.append(module)
        return module

    yield make
    for module in made:
        vars(module).clear()


def write(root, sync):
    fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"1")
    sync(fd)
    folder = os.open(root, os.O_RDONLY)
    os.fsync(folder)
    os.close(fd)
    os.close(folder)


def read(root):
    with contextlib.suppress(FileNotFoundError), open(f"{root}/x", "rb") as file:
        return file.read()
    return b""


def certificate(sync, *, beside=lambda root: None):
    def running(root, work, ack):
        write(root, sync)
        ack("1")
        beside(root)

    subject = subject_from(
        "S",
        run=running,
        recover=read,
        check=lambda acked, in_flight, seen: (
            f"acknowledged, and there is {seen!r}" if acked and seen != b"1" else None
        ),
        work=["1"],
        root="/db",
    )
    return run(subject, Plan(spec=spec_of(subject), programs=1))


# Half a second each: what some of these show of a function that a block came behind is
# what the others do.
@pytest.mark.thorough(rows=9)
@pytest.mark.parametrize("when", ["before", "before, and known", "inside"])
@pytest.mark.parametrize("way", LOOKED_UP)
def test_a_sync_by_ctypes_is_a_sync_however_and_whenever_it_was_looked_up(
    store, way, when
):
    if when == "inside":
        module = None

        def sync(fd):
            nonlocal module
            module = module or store(LOOKED_UP[way])
            assert module.sync(fd) in {0, None}

    else:
        module = store(LOOKED_UP[way])
        if when == "before":
            # Blocks that came before have not seen it.
            with patched(Disk()):
                pass
            module = store(LOOKED_UP[way])

        def sync(fd):
            assert module.sync(fd) in {0, None}

    told = certificate(sync)
    if when == "inside" and way == "a prototype":
        assert told.verdict == "unverifiable"
        assert "fsync is looked up by ctypes in a way" in told.doubts()[0]
    elif when == "inside" and way == "an address":
        # Its real function was never anybody's.
        assert told.verdict != "consistent"
    else:
        assert told.verdict == "consistent", told.doubts()


def test_a_store_that_does_not_sync_is_found():
    assert certificate(lambda fd: None).verdict == "violated"


REFUSED = {
    "write(": lambda libc, fd, path: libc.write(fd, b"2", 1),
    "pwrite(": lambda libc, fd, path: libc.pwrite(fd, b"2", ctypes.c_size_t(1), 0),
    "rename(": lambda libc, fd, path: libc.rename(path, path + b"2"),
    "open(": lambda libc, fd, path: libc.open(path, os.O_RDWR),
    "fopen(": lambda libc, fd, path: libc.fopen(ctypes.c_char_p(path), b"w"),
    "unlink(": lambda libc, fd, path: libc.unlink(ctypes.create_string_buffer(path)),
    "copy_file_range(": lambda libc, fd, path: libc.copy_file_range(fd, 0, fd, 0, 1, 0),
    "syscall(": lambda libc, fd, path: libc.syscall(74, fd),
    "mmap(": lambda libc, fd, path: libc.mmap(None, 1, 1, 1, fd, 0),
    "openat(": lambda libc, fd, path: libc.openat(-100, path, 0),
    "_exit(": lambda libc, fd, path: libc._exit(0),
}


def test_every_function_of_c_that_os_has_as_well_is_looked_at():
    """And its kin. Not those of terminals, nor of files that `fopen` has opened."""
    left = {"fclose", "fread", "fwrite", "isatty", "tcgetpgrp", "tcsetpgrp", "ttyname"}
    with patched(Disk()):
        names = [n for n, one in [*vars(posix).items()] if isinstance(one, StandIn)]
        kin = {f"{a}{n}" for n in names for a in ("", "f", "l")}
        kin |= {f"{n}{z}" for n in kin for z in ("64", "at")}
        libc = ctypes.CDLL(None)
        there = {name: getattr(libc, name, None) for name in kin - left}
        missed = {
            name
            for name, one in there.items()
            if not isinstance(one, Foreign | type(None))
        }
    assert sum(one is not None for one in there.values()) > 80
    assert missed == set()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name, 2) for name in ("dup2", "dup3", "link", "rename", "sendfile")),
        *((name, 4) for name in ("linkat", "renameat", "renameat2")),
        *((name, 2) for name in ("openat", "unlinkat", "mkdirat", "fchmodat", "statx")),
        *((name, (0, 2)) for name in ("copy_file_range", "splice")),
        *((("mmap", (4,)), ("mmap64", (4,)), ("symlinkat", 3), ("symlink", 2))),
    ],
)
def test_of_several_paths_and_descriptors_each_is_looked_at(name, arguments):
    places = range(arguments) if isinstance(arguments, int) else arguments
    disk = Disk()
    with refusing(disk) as root:
        function = getattr(ctypes.CDLL(None), name)
        fd = os.open(root, os.O_RDONLY)
        for place in places:
            for one in (fd, f"{root}/x".encode()):
                with pytest.raises(UnsupportedCallError):
                    function(*(one if at == place else -1 for at in range(5)))
    assert len(disk.refused) == 2 * len(places)


@pytest.mark.thorough(rows=13)
@pytest.mark.parametrize("when", ["before", "inside"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_ctypes_does_with_the_disk_besides_is_unverifiable_if_swallowed(
    store, name, when
):
    module = store("")
    if when == "before":
        getattr(module.libc, name[:-1])

    def beside(root):
        fd = os.open(f"{root}/x", os.O_RDWR)
        with contextlib.suppress(RuntimeError):
            REFUSED[name](module.libc, fd, os.fsencode(f"{root}/x"))

    told = certificate(lambda fd: os.fsync(fd), beside=beside)  # noqa: PLW0108
    assert told.verdict == "unverifiable"
    assert told.doubts()[0].partition(name)[1]
    assert "is called by ctypes" in told.doubts()[0]


def test_a_hint_is_no_sync_and_changes_nothing(store):
    told = certificate(
        store("sync = lambda fd: libc.sync_file_range(fd, 0, 1, 7)").sync
    )
    assert told.verdict == "violated"
    fine = store(
        "def sync(fd):\n"
        "    found = (libc.sync_file_range(fd, 0, 1, 2), libc.readahead(fd, 0, 1),\n"
        "             libc.posix_fadvise(fd, 0, 1, 4), libc.fsync(fd))\n"
        "    assert found == (0, 0, 0, 0)\n"
    )
    assert certificate(fine.sync).verdict == "consistent"


def test_what_is_not_the_disks_is_the_machines(store, tmp_path):
    module = store("sync = libc.fsync")
    real = id(module.sync)
    name = os.fsencode(tmp_path / "x")
    with patched(Disk()):
        assert id(module.sync) != real
        fd = module.libc.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        assert module.libc.write(fd, b"12", 2) == 2
        # An offset is no descriptor, however large.
        assert module.libc.pread(fd, ctypes.create_string_buffer(2), 2, 1 << 30) == 0
        assert module.sync(fd) == 0
        assert module.libc.rename(name, name + b"2") == 0
        assert module.sync(-1) == -1
        assert ctypes.get_errno() == errno.EBADF
        assert module.libc.getpid() == os.getpid()
    assert module.libc.fsync(fd) == module.sync(fd) == module.libc.close(fd) == 0
    assert (tmp_path / "x2").read_bytes() == b"12"


def test_what_is_said_of_a_function_is_said_of_the_real_one(store):
    module = store("")
    seen = []
    with patched(Disk()) as root:
        sync = module.libc.fsync
        sync.argtypes, sync.restype = [ctypes.c_int], ctypes.c_long
        sync.errcheck = lambda result, function, given: seen.append((result, given))
        fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        assert sync(fd) is None
        assert seen == [(0, (fd,))]
        assert sync.argtypes == [ctypes.c_int]
        with pytest.raises(ctypes.ArgumentError):
            sync("x")
        assert ctypes.cast(sync, ctypes.c_void_p).value
        del sync.errcheck
        for kind, answer in ((None, None), (ctypes.c_int, 0), (lambda n: n + 7, 7)):
            sync.restype = kind
            assert sync(fd) == answer


def test_a_sync_that_fails_says_so_as_c_does(store):
    module = store("sync = libc.fsync")
    disk = FaultyDisk(Disk(), Script.parse("fsync#1=EIO"))
    with patched(disk) as root:
        fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        assert module.sync(fd) == -1
        assert ctypes.get_errno() == errno.EIO


def test_one_that_is_known_and_that_somebody_takes_later_is_found(store):
    module = store("sync = libc.fsync")
    with patched(Disk()):
        pass
    module.taken = module.sync._as_parameter_
    # All are looked at again when one is looked up, whichever.
    store("libc.fdatasync")
    with patched(Disk()) as root:
        fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        assert module.taken(fd) == 0


def test_a_function_that_nobody_can_replace_is_not_missed(store):
    def running():
        held = store("").libc.fsync
        with patched(Disk()) as root:
            held(os.open(f"{root}/x", os.O_RDWR | os.O_CREAT))

    with pytest.raises(
        UnsupportedCallError, match=r"\(fsync\) are held by ctypes where"
    ):
        running()
    # It is gone.
    with patched(Disk()):
        pass
