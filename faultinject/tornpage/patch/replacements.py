"""Which functions are replaced, and what each does with what is the disk's.

    os.fsync(7)          a descriptor of the machine's: the real one
    os.fsync(1 << 30)    the disk's: `Calls.sync`
    os.open("/db/x")     a path below the root: `Calls.open`
    os.symlink(...)      of the disk: refused
    os.sync(), _exit()   of nothing: the disk's, or refused, in threads under test

A table, and the five ways to tell whose a call is.

What it is not: it puts nothing in place (`block`, `kept`, `held`), and does nothing
with the disk (`calls`).
"""

from __future__ import annotations

import _posixsubprocess
import _thread
import builtins
import contextlib
import ctypes
import errno
import fcntl
import importlib
import io
import mmap
import os
import posixpath
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import ref

from tornpage.call_site import site
from tornpage.patch.files import plain
from tornpage.patch.folders import Entries
from tornpage.patch.foreign import looking_up
from tornpage.patch.stand_ins import beneath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from tornpage.patch.calls import Calls

__all__ = ["replacements"]

# What takes a path or a descriptor and is not simulated.
_REFUSED = (
    "chroot",
    "fchdir",
    "fpathconf",
    "fstatvfs",
    "getxattr",
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
    "tcgetpgrp",
    "tcsetpgrp",
    "ttyname",
)

# The same, with two descriptors.
_REFUSED_PAIRS = ("dup2", "splice")

# What opens files by itself, in C, and tells nobody.
_DATABASES: list[ModuleType] = []
for _name in ("_dbm", "_gdbm"):
    with contextlib.suppress(ImportError):
        _DATABASES.append(importlib.import_module(_name))

# What ends this process, or begins another one without an audit event.
_PROCESSES: list[tuple[ModuleType, str]] = [
    (os, "_exit"),
    (os, "abort"),
    (_posixsubprocess, "fork_exec"),
    # Threads that nobody could wait for.
    (_thread, "start_new"),
    (_thread, "start_new_thread"),
    (_thread, "start_joinable_thread"),
]
# Memory that has a name, and is there until the machine loses its power.
with contextlib.suppress(ImportError):
    _PROCESSES.append((importlib.import_module("_posixshmem"), "shm_open"))

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

# The place of `opener` among what `open` is given behind the file.
_OPENER = 6

_DESCRIPTOR_KEYS = ("fd", "fd2", "src", "dst", "out_fd", "in_fd")


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
            f"{module}.{name}({', '.join(said)}), at {site(patch.disk.trace.plumbing)}:"
            " the simulated disk has no such call"
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
        if isinstance(first[0], bytes):
            if isinstance(found, list):
                return [os.fsencode(one) for one in found]
            if isinstance(found, Entries):
                return found.encoded()
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


def _symlink(patch: Calls, real: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses one that is on the disk, or that leads there."""
    refuse = _refuse(patch, "symlink")

    def call(*given: Any, **named: Any) -> Any:
        if patch.alive:
            links = [
                *given[:2],
                *(named[key] for key in ("src", "dst") if key in named),
            ]
            # What it leads to is not relative to the folder.
            folders = None, named.get("dir_fd")
            if any(
                patch.named(one, folder) is not None
                for one, folder in zip(links, folders, strict=False)
            ):
                return refuse(*given, **named)
        return real(*given, **named)

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


def _by_asker(
    patch: Calls, real: Callable[..., Any], ours: Callable[..., Any]
) -> Callable[..., Any]:
    """The same, for what a thread may ask that does not use the disk."""

    def call(*given: Any, **named: Any) -> Any:
        asks = patch.alive and patch.threads.own()
        return (ours if asks else real)(*given, **named)

    return call


def replacements(patch: Calls) -> Iterator[tuple[Any, str, Any]]:
    """What is replaced.

    Args:
        patch: The disk's calls.

    Yields:
        Module or class, name, what is done instead.
    """
    get = patch.file
    disk = patch.disk
    by_descriptor: dict[str, Callable[..., Any]] = {
        "close": patch.close,
        "dup": patch.dup,
        "read": lambda fd, n: get(fd).read(n),
        "write": lambda fd, data: get(fd).write(plain(data)),
        "pread": lambda fd, n, offset: get(fd).pread(n, offset),
        "pwrite": lambda fd, data, offset: get(fd).pwrite(plain(data), offset),
        "readv": patch.read_vector,
        "preadv": patch.read_vector,
        "writev": patch.write_vector,
        "pwritev": patch.pwrite_vector,
        "lseek": patch.seek,
        "fsync": lambda fd: patch.sync(fd, "fsync"),
        "fdatasync": lambda fd: patch.sync(fd, "fdatasync"),
        "ftruncate": lambda fd, length: get(fd).truncate(length),
        "fstat": patch.fstat,
        "fchmod": lambda fd, *_, **__: get(fd) and None,
        "fchown": lambda fd, *_, **__: get(fd) and None,
        "isatty": lambda fd: bool(get(fd)) and False,
        "posix_fadvise": lambda fd, *what: get(fd).advise(*what),
        "get_inheritable": patch.get_inheritable,
        "set_inheritable": patch.set_inheritable,
        "get_blocking": lambda fd: bool(get(fd)),
        "device_encoding": lambda fd: get(fd) and None,
    }
    by_path: dict[str, Callable[..., Any]] = {
        "open": patch.open,
        "access": patch.access,
        "lchown": patch.touch_only,
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
        "chown": (patch.touch_only, by_descriptor["fchown"]),
        "utime": (
            patch.touch_only,
            by_descriptor["fchmod"],
        ),
        "listdir": (patch.listdir, patch.listdir_of),
        "scandir": (patch.scandir, patch.scandir_of),
        "listxattr": (patch.no_attributes, patch.no_attributes),
        **{name: (_refuse(patch, name),) * 2 for name in _REFUSED},
    }
    for name, ours in by_descriptor.items():
        yield os, name, _by_descriptor(patch, beneath(os, name), ours)
    for name, ours in by_path.items():
        yield os, name, _by_path(patch, beneath(os, name), ours)
    for name, (with_path, with_fd) in either.items():
        if hasattr(os, name):
            inner = _by_descriptor(patch, beneath(os, name), with_fd)
            yield os, name, _by_path(patch, inner, with_path)
    for name in ("rename", "replace"):
        yield os, name, _by_path(patch, beneath(os, name), patch.rename, 2)
    yield os, "symlink", _symlink(patch, beneath(os, "symlink"))
    yield os, "link", _by_path(patch, beneath(os, "link"), patch.link, 2)
    pairs: dict[str, Callable[..., Any]] = {
        "closerange": patch.closerange,
        "copy_file_range": patch.copy_file_range,
        "sendfile": patch.sendfile,
        **{name: _refuse(patch, name) for name in _REFUSED_PAIRS},
    }
    for name, ours in pairs.items():
        if hasattr(os, name):
            yield os, name, _by_descriptors(patch, beneath(os, name), ours)
    yield os, "sync", _by_thread(patch, beneath(os, "sync"), patch.sync_all)
    for module, name in _PROCESSES:
        if not hasattr(module, name):
            continue
        refused = _refuse(patch, name, module.__name__)
        yield module, name, _by_thread(patch, beneath(module, name), refused)
    around = patch.surroundings
    for name, real, ours in around.of_time():
        yield time, name, _by_asker(patch, real, ours)
    yield os, "urandom", _by_asker(patch, beneath(os, "urandom"), around.urandom)
    yield threading.Thread, "start", patch.threads.starting(threading.Thread.start)
    # One that is taken is passed over, as with the names that it draws at random.
    yield tempfile, "_get_candidate_names", _candidate_names()
    # A file that never had a name is made as where the system cannot: with one that
    # is removed at once. A crash may leave that name.
    yield tempfile, "_O_TMPFILE_WORKS", False
    # On os.stat they would read a size, which is one more thing undecided.
    asking: dict[str, Callable[[str], bool]] = {
        "exists": patch.exists,
        "lexists": patch.exists,
        "isfile": disk.exists,
        "isdir": disk.is_dir,
    }
    for name, asked in asking.items():
        yield posixpath, name, _asking(patch, beneath(posixpath, name), asked)
    # The real one works on directories by descriptor, and never gets that far.
    yield shutil, "rmtree", _by_path(patch, beneath(shutil, "rmtree"), patch.rmtree)
    for library in _DATABASES:
        refused = _refuse(patch, "open", library.__name__)
        yield library, "open", _by_path(patch, beneath(library, "open"), refused)
    yield fcntl, "flock", _by_descriptor(patch, beneath(fcntl, "flock"), patch.flock)
    yield fcntl, "lockf", _by_descriptor(patch, beneath(fcntl, "lockf"), patch.lockf)
    yield fcntl, "fcntl", _by_descriptor(patch, beneath(fcntl, "fcntl"), patch.fcntl)
    yield fcntl, "ioctl", _by_descriptor(patch, beneath(fcntl, "ioctl"), patch.ioctl)
    opening = _open_function(patch, beneath(io, "open"))
    yield builtins, "open", opening
    yield io, "open", opening
    yield mmap, "mmap", _mmap_class(patch)
    yield ctypes.CDLL, "__getitem__", looking_up(ctypes.CDLL.__getitem__)


def _asking(
    patch: Calls, real: Callable[..., bool], ours: Callable[[str], bool]
) -> Callable[..., bool]:
    """A question about a path, which raises nothing: there is no such thing, then."""
    call = _by_path(patch, real, ours)

    def ask(*given: Any, **named: Any) -> bool:
        try:
            return bool(call(*given, **named))
        except (OSError, ValueError):
            return False

    return ask


def _candidate_names() -> Callable[[], Iterator[str]]:
    names = map("{:08}".format, count())
    return lambda: names


def _open_function(patch: Calls, real: Callable[..., Any]) -> Callable[..., Any]:
    def open_(file: Any, *given: Any, **named: Any) -> Any:
        if not patch.alive:
            return real(file, *given, **named)
        if patch.ours(file) or patch.mine(file) is not None:
            with patch.lock, _named_as_given([patch.mine(file)], [file]):
                return patch.io_open(file, *given, **named)
        opener = given[_OPENER] if len(given) > _OPENER else named.get("opener")
        if opener is None:
            return real(file, *given, **named)
        return _opened(patch, real, file, given, named, opener)

    return open_


def _opened(
    patch: Calls,
    real: Callable[..., Any],
    file: Any,
    given: tuple[Any, ...],
    named: dict[str, Any],
    opener: Callable[[Any, int], int],
) -> Any:
    """`open` with an opener, whose descriptor may be the disk's whatever the name."""
    found = []

    def opening(path: Any, flags: int) -> int:
        number = opener(path, flags)
        if patch.ours(number):
            found.append(number)
            raise _OursError
        return number

    with_ours = dict(named, opener=opening)
    try:
        return real(file, *given[:_OPENER], **with_ours)
    except _OursError:
        pass
    with patch.lock:
        made = patch.io_open(found[0], *given[:_OPENER], **dict(named, opener=None))
    at = getattr(made, "buffer", made)
    getattr(at, "raw", at).name = file
    return made


class _OursError(Exception):
    """An opener has opened a file of the disk."""


class _Mapping(mmap.mmap):
    """mmap.mmap; of a file of the disk, a copy of it that is only read.

    One class for all blocks: what is derived from mmap.mmap is among what refers to it,
    and that is counted (`kept`).
    """

    patch: ClassVar[ref[Calls] | None] = None

    def __new__(cls, fileno: int, length: int, *given: Any, **named: Any) -> Self:
        patch = _Mapping.patch and _Mapping.patch()
        if not (patch and patch.alive and patch.ours(fileno)):
            return super().__new__(cls, fileno, length, *given, **named)
        named.update(zip(("flags", "prot", "access", "offset"), given, strict=False))
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


def _mmap_class(patch: Calls) -> type[mmap.mmap]:
    _Mapping.patch = ref(patch)
    return _Mapping


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
