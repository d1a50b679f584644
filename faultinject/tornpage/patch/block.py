"""Storage code that uses `open` and `os`, run on a simulated disk in process.

    with patched(disk, "/db") as root:
        with open(f"{root}/x", "wb") as file:     # the disk's
            file.write(b"1")
            os.fsync(file.fileno())               # the disk's
        open("/etc/hosts").close()                # the machine's

For as long as the block lasts, these functions look at the path or descriptor that
they are given, and go to the disk when it is of the disk:

    builtins, io   open
    os             open fdopen close closerange dup read write pread pwrite readv
                   writev preadv pwritev lseek fsync fdatasync sync ftruncate truncate
                   fstat isatty stat lstat access chmod fchmod utime rename replace
                   link unlink remove mkdir makedirs rmdir listdir scandir walk fwalk
                   listxattr sendfile copy_file_range posix_fadvise get_inheritable
                   set_inheritable get_blocking device_encoding, and dir_fd=
    shutil         rmtree
    os.path        exists lexists isfile isdir getsize and what stands on os.stat
    fcntl          flock lockf (of a whole file) fcntl (flags)
    mmap           mmap, for reading, of files that do not change meanwhile
    sqlite3        all that SQLite does with its files (`sqlite`)
    ctypes         fsync fdatasync sync of the C library (`foreign`)

and with them what is made of them: pathlib, shutil's moves and copies, tempfile, whose
names are a fixed sequence meanwhile. Where code keeps a function from its import, as in
`from os import fsync`, it gets the replacement, too (`kept`).

Given such a path or descriptor, others are not left to the machine: they raise
`UnsupportedCallError`, and whoever judges says "unverifiable", even if the store
catches that and goes on. What reaches the machine past the patch is refused in the
same way (`audit`): functions kept elsewhere, io.FileIO. So are other processes begun by
code under test (os.fork, subprocess, os.system) and the end of this one (os._exit). And
the machine itself refuses: simulated descriptors are numbers that no process has, and
the root must not exist. No call can touch a real file by mistake.

Limits
------
* A function without an audit event that is kept in a closure, an instance or a list is
  the real one, which fails with EBADF or ENOENT: read, write, close, fsync, stat,
  access and their like. So does C code that opens files by itself, SQLite excepted, and
  cffi. No operation of it in the story is the sign.
* A directory is synced by os.fsync of its descriptor, which makes its entries durable;
  itself it is an entry of the one above, and lost with all that is in it as long as
  that one is not synced. The root was there before.
* Files that are not under the root are the machine's, and outlive every crash. What one
  execution has put into one no later execution may read (`elsewhere`).
* There are no times, owners, permissions or symbolic links: os.stat has 0 for times,
  and 1 for the number of names.
* A file that is still open when the block ends belongs to a process that is gone:
  what was in its buffers never reaches the disk.
* Threads share the block. All of them have to end with it (`threads`), and of
  their schedules only the one that happened is covered.
* One block at a time, in a process.
"""

from __future__ import annotations

import _posixsubprocess
import _thread
import builtins
import ctypes
import errno
import fcntl
import glob
import io
import mmap
import os
import posix
import posixpath
import shutil
import tempfile
import threading
from contextlib import contextmanager
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from tornpage.disk.simulated import Disk
from tornpage.patch.audit import watched
from tornpage.patch.calls import Calls
from tornpage.patch.foreign import followed, looking_up
from tornpage.patch.kept import Kept
from tornpage.subject import SubjectError
from tornpage.uncovered import UnsupportedCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "NUMBERS",
    "PatchError",
    "UnsupportedCallError",
    "look_around",
    "patched",
    "stand_in",
]

# The line that is blamed for an operation is the line that called these.
_PLUMBING = frozenset(
    {
        "<frozen genericpath>",
        "<frozen os>",
        "<frozen posixpath>",
        "_abc.py",
        "_local.py",
        "contextlib.py",
        "genericpath.py",
        "os.py",
        "pathlib.py",
        "pathlib/__init__.py",
        "posixpath.py",
        "shutil.py",
        "tempfile.py",
    }
)

# What takes a path or a descriptor and is not simulated.
_REFUSED = (
    "chown",
    "chroot",
    "fchdir",
    "fchown",
    "fpathconf",
    "fstatvfs",
    "getxattr",
    "lchown",
    "lockf",
    "mkfifo",
    "mknod",
    "pathconf",
    "posix_fallocate",
    "readlink",
    "removexattr",
    "set_blocking",
    "setxattr",
    "statvfs",
    "symlink",
    "tcgetpgrp",
    "tcsetpgrp",
    "ttyname",
)

# The same, with two descriptors.
_REFUSED_PAIRS = ("dup2", "splice")

# What ends this process, or begins another one without an audit event.
_PROCESSES = (
    (os, "_exit"),
    (os, "abort"),
    (_posixsubprocess, "fork_exec"),
    # Threads that nobody could wait for.
    (_thread, "start_new"),
    (_thread, "start_new_thread"),
    (_thread, "start_joinable_thread"),
)

# By the number of paths, the arguments that say what relative ones are relative to.
_FOLDER_KEYS = {1: ("dir_fd",), 2: ("src_dir_fd", "dst_dir_fd")}
_NO_ARGUMENTS = (
    "path",
    "src",
    "dst",
    "follow_symlinks",
    "dir_fd",
    "src_dir_fd",
    "dst_dir_fd",
)

_DESCRIPTOR_KEYS = ("fd", "fd2", "src", "dst", "out_fd", "in_fd")

_GLOBBERS = ("_Globber", "_GlobberBase", "_StringGlobber")

NUMBERS = (os.getpid, os.getppid, threading.get_native_id)
"""What tells a process its own numbers. Blocks leave them as they are."""

_active = threading.Lock()
_kept = Kept()


class PatchError(SubjectError, RuntimeError):
    """A disk cannot be patched in here; the message says why."""


@contextmanager
def _named_as_given(
    names: Sequence[str | None], given: Sequence[Any]
) -> Iterator[None]:
    """Errors name a file as the caller did, not as the disk does."""
    try:
        yield
    except OSError as problem:
        for attribute in ("filename", "filename2"):
            said = getattr(problem, attribute)
            if isinstance(said, str) and said in names:
                setattr(problem, attribute, given[names.index(said)])
        raise


def _refuse(patch: Calls, name: str, module: str = "os") -> Callable[..., Any]:
    def refused(*given: Any, **named: Any) -> Any:
        said = [*map(repr, given), *(f"{key}={one!r}" for key, one in named.items())]
        raise patch.disk.refuse(
            f"{module}.{name}({', '.join(said)}): the simulated disk has no such call"
        )

    return refused


def _by_path(
    patch: Calls, real: Callable[..., Any], ours: Callable[..., Any], paths: int = 1
) -> Callable[..., Any]:
    """`real`, except where its first `paths` arguments are names of the disk."""

    def call(*given: Any, **named: Any) -> Any:
        if not patch.alive:
            return real(*given, **named)
        first = list(given[:paths])
        for key in ("path", "src", "dst"):
            if len(first) < paths and key in named:
                first.append(named[key])
        names = [
            patch.named(one, named.get(key))
            for one, key in zip(first, _FOLDER_KEYS[paths], strict=False)
        ]
        if not any(name is not None for name in names):
            return real(*given, **named)
        if None in names:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), *map(str, first))
        for key in _NO_ARGUMENTS:
            named.pop(key, None)
        with patch.lock, _named_as_given(names, first):
            found = ours(*names, *given[paths:], **named)
        if isinstance(found, list) and isinstance(given[0] if given else "", bytes):
            return [os.fsencode(one) for one in found]
        return found

    return call


def _by_descriptor(
    patch: Calls, real: Callable[..., Any], ours: Callable[..., Any]
) -> Callable[..., Any]:
    """`real`, except where its first argument is a simulated descriptor."""

    def call(*given: Any, **named: Any) -> Any:
        first = given[0] if given else named.get("fd")
        if first is not None and not isinstance(first, int):
            number = getattr(first, "fileno", None)
            first = number() if callable(number) else first
        if not (patch.alive and patch.ours(first)):
            return real(*given, **named)
        named.pop("fd", None)
        with patch.lock:
            return ours(first, *given[1:], **named)

    return call


def _by_descriptors(
    patch: Calls, real: Callable[..., Any], ours: Callable[..., Any]
) -> Callable[..., Any]:
    """`real`, except where one of its first two arguments is a simulated descriptor."""

    def call(*given: Any, **named: Any) -> Any:
        two = (*given[:2], *(named.get(key) for key in _DESCRIPTOR_KEYS))
        if not (patch.alive and any(map(patch.ours, two))):
            return real(*given, **named)
        with patch.lock:
            return ours(*given, **named)

    return call


def _by_thread(
    patch: Calls, real: Callable[..., Any], ours: Callable[..., Any]
) -> Callable[..., Any]:
    """`real`, except in the threads of the code under test."""

    def call(*given: Any, **named: Any) -> Any:
        if not (patch.alive and patch.threads.own()):
            return real(*given, **named)
        with patch.lock:
            return ours(*given, **named)

    return call


def _replacements(patch: Calls) -> Iterator[tuple[Any, str, Any]]:
    """(module, name, what to put there)."""
    get = patch.file
    disk = patch.disk
    by_descriptor: dict[str, Callable[..., Any]] = {
        "close": patch.close,
        "dup": patch.dup,
        "read": lambda fd, n: get(fd).read(n),
        "write": lambda fd, data: get(fd).write(bytes(data)),
        "pread": lambda fd, n, offset: get(fd).pread(n, offset),
        "pwrite": lambda fd, data, offset: get(fd).pwrite(bytes(data), offset),
        "readv": patch.read_vector,
        "preadv": patch.read_vector,
        "writev": patch.write_vector,
        "pwritev": patch.pwrite_vector,
        "lseek": lambda fd, offset, whence: get(fd).seek(offset, whence),
        "fsync": lambda fd: patch.sync(fd, "fsync"),
        "fdatasync": lambda fd: patch.sync(fd, "fdatasync"),
        "ftruncate": lambda fd, length: get(fd).truncate(length),
        "fstat": patch.fstat,
        "fchmod": lambda fd, _: get(fd) and None,
        "isatty": lambda fd: bool(get(fd)) and False,
        "posix_fadvise": lambda fd, *_: get(fd) and None,
        "get_inheritable": patch.get_inheritable,
        "set_inheritable": patch.set_inheritable,
        "get_blocking": lambda fd: bool(get(fd)),
        "device_encoding": lambda fd: get(fd) and None,
    }
    by_path: dict[str, Callable[..., Any]] = {
        "open": patch.open,
        "access": patch.access,
        "unlink": patch.unlink,
        "remove": patch.unlink,
        "mkdir": patch.mkdir,
        "rmdir": patch.rmdir,
    }
    either: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "stat": (patch.stat, patch.fstat),
        "lstat": (patch.stat, patch.fstat),
        "truncate": (patch.truncate, by_descriptor["ftruncate"]),
        "chmod": (patch.touch_only, by_descriptor["fchmod"]),
        "utime": (
            lambda path, *_, **__: patch.touch_only(path),
            by_descriptor["isatty"],
        ),
        "listdir": (patch.listdir, patch.listdir_of),
        "scandir": (patch.scandir, patch.scandir_of),
        "listxattr": (patch.no_attributes, patch.no_attributes),
        **{name: (_refuse(patch, name),) * 2 for name in _REFUSED},
    }
    for name, ours in by_descriptor.items():
        yield os, name, _by_descriptor(patch, getattr(os, name), ours)
    for name, ours in by_path.items():
        yield os, name, _by_path(patch, getattr(os, name), ours)
    for name, (with_path, with_fd) in either.items():
        if hasattr(os, name):
            inner = _by_descriptor(patch, getattr(os, name), with_fd)
            yield os, name, _by_path(patch, inner, with_path)
    for name in ("rename", "replace"):
        yield os, name, _by_path(patch, getattr(os, name), patch.rename, 2)
    yield os, "link", _by_path(patch, os.link, patch.link, 2)
    pairs: dict[str, Callable[..., Any]] = {
        "closerange": patch.closerange,
        "copy_file_range": patch.copy_file_range,
        "sendfile": patch.sendfile,
        **{name: _refuse(patch, name) for name in _REFUSED_PAIRS},
    }
    for name, ours in pairs.items():
        if hasattr(os, name):
            yield os, name, _by_descriptors(patch, getattr(os, name), ours)
    yield os, "sync", _by_thread(patch, os.sync, patch.sync_all)
    for module, name in _PROCESSES:
        if not hasattr(module, name):
            continue
        refused = _refuse(patch, name, module.__name__)
        yield module, name, _by_thread(patch, getattr(module, name), refused)
    yield threading.Thread, "start", patch.threads.starting(threading.Thread.start)
    # One that is taken is passed over, as with the names that it draws at random.
    yield tempfile, "_get_candidate_names", _candidate_names()
    # A file that never had a name is made as where the system cannot: with one that
    # is removed at once. A crash may leave that name.
    yield tempfile, "_O_TMPFILE_WORKS", False
    # On os.stat they would read a size, which is one more thing undecided.
    for name in ("exists", "lexists"):
        real = getattr(posixpath, name)
        yield posixpath, name, _by_path(patch, real, patch.exists)
    yield posixpath, "isfile", _by_path(patch, posixpath.isfile, disk.exists)
    yield posixpath, "isdir", _by_path(patch, posixpath.isdir, disk.is_dir)
    # The real one works on directories by descriptor, and never gets that far.
    yield shutil, "rmtree", _by_path(patch, shutil.rmtree, patch.rmtree)
    yield fcntl, "flock", _by_descriptor(patch, fcntl.flock, patch.flock)
    yield fcntl, "lockf", _by_descriptor(patch, fcntl.lockf, patch.lockf)
    yield fcntl, "fcntl", _by_descriptor(patch, fcntl.fcntl, patch.fcntl)
    yield fcntl, "ioctl", _by_descriptor(patch, fcntl.ioctl, patch.ioctl)
    opening = _open_function(patch, io.open)
    yield builtins, "open", opening
    yield io, "open", opening
    yield mmap, "mmap", _mmap_class(patch)
    yield ctypes.CDLL, "__getitem__", looking_up(ctypes.CDLL.__getitem__)
    # From Python 3.13 on classes of glob keep such functions from their import, others
    # in each version, and take it for an empty directory when the machine has none of
    # this name.
    globbed: dict[Callable[..., Any], Callable[..., Any]] = {
        os.scandir: patch.scandir,
        os.lstat: patch.stat,
        posixpath.lexists: patch.exists,
    }
    for kept in filter(None, (getattr(glob, name, None) for name in _GLOBBERS)):
        for name, has in [*vars(kept).items()]:
            if isinstance(has, staticmethod) and has.__func__ in globbed:
                ours = globbed[has.__func__]
                yield kept, name, staticmethod(_by_path(patch, has.__func__, ours))


def _candidate_names() -> Callable[[], Iterator[str]]:
    names = map("{:08}".format, count())
    return lambda: names


def _open_function(patch: Calls, real: Callable[..., Any]) -> Callable[..., Any]:
    def open_(file: Any, *given: Any, **named: Any) -> Any:
        if not patch.alive or not (patch.ours(file) or patch.mine(file) is not None):
            return real(file, *given, **named)
        with patch.lock, _named_as_given([patch.mine(file)], [file]):
            return patch.io_open(file, *given, **named)

    return open_


def _mmap_class(patch: Calls) -> type[mmap.mmap]:
    class Mapping(mmap.mmap):
        """mmap.mmap; of a file of the disk, a copy of it that is only read."""

        def __new__(cls, fileno: int, length: int, *given: Any, **named: Any) -> Self:
            if not (patch.alive and patch.ours(fileno)):
                return super().__new__(cls, fileno, length, *given, **named)
            named.update(
                zip(("flags", "prot", "access", "offset"), given, strict=False)
            )
            if not _only_reads(**named):
                raise patch.disk.refuse(
                    f"mmap of {patch.file(fileno).path}: what a mapping writes, and"
                    " when, is not simulated; have the store map it for reading, or"
                    " use read and write"
                )
            offset = named.pop("offset", 0)
            with patch.lock:
                # No file of a directory: its name would be one of tempfile's.
                copy = os.memfd_create("tornpage")
                try:
                    _write_all(copy, patch.mapped(fileno, length, offset))
                    made = super().__new__(cls, copy, 0, **named)
                finally:
                    os.close(copy)
                patch.remember_mapping(fileno, made)
            return made

    return Mapping


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _only_reads(
    access: int = mmap.ACCESS_DEFAULT,
    flags: int = mmap.MAP_SHARED,
    prot: int = mmap.PROT_READ | mmap.PROT_WRITE,
    **_: Any,
) -> bool:
    """Whether nothing that is done to such a mapping reaches the file."""
    if access == mmap.ACCESS_DEFAULT:
        return bool(flags & mmap.MAP_PRIVATE) or not prot & mmap.PROT_WRITE
    return access in {mmap.ACCESS_READ, mmap.ACCESS_COPY}


@contextmanager
def patched(disk: Disk, root: str = "/db") -> Iterator[str]:
    """While entered, paths under `root` are files of the disk.

    Args:
        disk: The disk. Its names are the absolute paths.
        root: An absolute path that does not exist on this machine.

    Yields:
        The root, normalised.

    Raises:
        PatchError: A disk is patched in already, or the root will not do.
    """
    root = posixpath.normpath(root)
    if not root.startswith("/") or root in {"/", "//"}:
        raise PatchError(f"{root!r}: the root is an absolute path below /")
    if os.path.lexists(root):
        raise PatchError(
            f"{root} exists on this machine; a call that is not patched could change"
            " it: take a path that does not exist"
        )
    if not _active.acquire(blocking=False):
        raise PatchError("a disk is patched in already: leave that block first")
    try:
        disk.trace.plumbing |= _PLUMBING
        with _put_in_place(Calls(disk, root)):
            yield root
    finally:
        _active.release()


def look_around() -> None:
    """Look up who keeps functions from its import; call it where no bug is planted."""
    if not _active.locked():
        # No path and no descriptor is asked for.
        functions = _functions(_replaced(Calls(Disk(), "/db")))
        _kept.look_again([*functions, *((one, one) for one in NUMBERS)])


def stand_in(functions: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
    """Replace some of `NUMBERS` where they were found, for good.

    Args:
        functions: What to put in the place of each.
    """
    for owner, name, _, ours in _kept.places([*functions.items()]):
        setattr(owner, name, ours)


def _replaced(patch: Calls) -> list[tuple[Any, str, Any, Any]]:
    """(module, name, what it has, what to put there)."""
    return [
        (owner, name, vars(owner)[name], ours)
        for owner, name, ours in _replacements(patch)
    ]


def _functions(replaced: Sequence[tuple[Any, str, Any, Any]]) -> list[tuple[Any, Any]]:
    """Pairs of a real function and its replacement."""
    pairs = [
        (real, ours)
        for owner, _, real, ours in replaced
        # threading's own begins the threads that are followed.
        if isinstance(owner, ModuleType) and owner is not _thread and callable(real)
    ]
    # Where a test has put something in place of os.fsync, say, that is not what code
    # keeps from its import.
    return pairs + [
        (vars(posix)[name], ours)
        for owner, name, real, ours in replaced
        if owner is os and vars(posix).get(name, real) is not real
    ]


@contextmanager
def _put_in_place(patch: Calls) -> Iterator[None]:
    """While entered, the replacements stand where the real functions stood."""
    replaced = _replaced(patch)
    functions = _functions(replaced)
    replaced += _kept.places(functions)
    raised = True
    try:
        for owner, name, _, ours in replaced:
            setattr(owner, name, ours)
        with watched(patch), followed(patch):
            yield
            raised = False
            patch.threads.end(raised=False)
    finally:
        if raised:
            patch.threads.end(raised=True)
        patch.alive = False
        for owner, name, real, _ in reversed(replaced):
            setattr(owner, name, real)
        _kept.put_back(functions)
        patch.sqlite.end()
