"""Functions of the C library that Python code calls by ctypes.

Theory
======
    libc = ctypes.CDLL(None)
    libc.fsync(file.fileno())       the real one answers EBADF, and nothing is synced

A number of the disk's is no file of the machine, so the real call fails, and a store
that does not look would seem to have forgotten a sync. What these functions do with the
disk is done on it (syncs; hints, which do nothing), or refused (all else). They are
known by their addresses, and replaced, for good, by what looks at the arguments first:

    looked up before a block    whoever holds one (`holders`), when the block begins
    looked up in a block        by CDLL; otherwise it is refused (the interpreter tells)

What is replaced does, outside of all blocks and with what is not the disk's, what the
real one does.

What it is not: for libraries that call these in turn; for functions made of a number
(an address) inside a block, or called by cffi or by a module in C.
"""

from __future__ import annotations

import _ctypes
import ctypes
import gc
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from tornpage.holders import Holders, all_told_of, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tornpage.patch.calls import Calls

__all__ = ["ARGUMENTS", "followed", "looked_up", "looking_up", "replace_all"]

_BY_DESCRIPTOR: Final = """
    close close_range dprintf fallocate fchdir fchmod fchown fcntl fdatasync fdopen
    fdopendir fgetxattr flistxattr flock fpathconf fremovexattr fsetxattr fstat fstatvfs
    fsync ftruncate futimens futimes ioctl lockf lseek lseek64 posix_fadvise
    posix_fallocate posix_fallocate64 pread pread64 preadv preadv2 pwrite pwrite64
    pwritev pwritev2 read readahead readv sync_file_range syncfs vmsplice write writev
"""
_BY_PATH: Final = """
    access chdir chmod chown chroot creat creat64 euidaccess fopen fopen64 getxattr
    lchmod lchown lgetxattr listxattr llistxattr lremovexattr lsetxattr lstat lutimes
    mkdir mkfifo mknod open open64 opendir pathconf readlink realpath remove removexattr
    rmdir scandir setxattr stat statvfs truncate truncate64 unlink utime utimes
"""
_BY_BOTH: Final = """
    faccessat fchmodat fchownat fstatat mkdirat mkfifoat mknodat name_to_handle_at
    openat openat64 readlinkat scandirat statx unlinkat utimensat
"""
_HINTS: Final = ("posix_fadvise", "readahead", "sync_file_range")
# What concerns the whole machine, or another process.
_BY_NOTHING: Final = "_exit abort fork posix_spawn sync system vfork"

ARGUMENTS: Final[Mapping[str, tuple[int, ...]]] = {
    **dict.fromkeys(_BY_DESCRIPTOR.split(), (0,)),
    **dict.fromkeys(_BY_PATH.split(), (0,)),
    **dict.fromkeys(_BY_BOTH.split(), (0, 1)),
    **dict.fromkeys(_BY_NOTHING.split(), ()),
    "copy_file_range": (0, 2),
    "dup": (0,),
    "dup2": (0, 1),
    "dup3": (0, 1),
    "link": (0, 1),
    "linkat": (0, 1, 2, 3),
    "mmap": (4,),
    "mmap64": (4,),
    "rename": (0, 1),
    "renameat": (0, 1, 2, 3),
    "renameat2": (0, 1, 2, 3),
    "sendfile": (0, 1),
    "splice": (0, 2),
    "symlink": (0, 1),
    "symlinkat": (0, 1, 2),
    "syscall": tuple(range(1, 7)),
}
"""Where what these are given is a descriptor or a path."""


def _functions() -> dict[int, str]:
    """Their names, by address."""
    libraries = [ctypes.CDLL(None)]
    # In an interpreter that is linked to a fixed place (Debian's) those that it uses
    # itself have an address in it, too, which is the one that is found first there.
    with suppress(AttributeError, OSError):
        libraries.append(ctypes.CDLL(_ctypes.__file__))
    found: dict[int, str] = {}
    for name in ARGUMENTS:
        for library in libraries:
            function = getattr(library, name, None)
            if function is not None:
                found.setdefault(_address(function), name)
    return found


def _address(function: Any) -> int:
    # A cast would have the function refer to itself.
    return ctypes.c_void_p.from_address(ctypes.addressof(function)).value or 0


_names: Final = _functions()
_Function: Final[type] = type(ctypes.pythonapi.Py_IsInitialized).__mro__[1]

_patch: Calls | None = None
# Whether some may have been looked up since all were last replaced.
_stale = True
_here = threading.local()


# All that there are.
_stand_ins: Final[WeakSet[Foreign]] = WeakSet()


class Foreign:
    """In the place of a function of the C library."""

    __slots__ = ("__weakref__", "_name", "_real")

    _name: str
    _real: Any

    def __init__(self, real: Any, name: str) -> None:
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_name", name)
        _stand_ins.add(self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        patch = _patch
        if patch is not None:
            at = ARGUMENTS[self._name]
            places = [given[one] for one in at if one < len(given)]
            whole = not at and patch.threads.own()
            if whole or any(_of_the_disk(patch, one) for one in places):
                return self._on_the_disk(patch, given)
        return self._real(*given, **named)

    def _on_the_disk(self, patch: Calls, given: tuple[Any, ...]) -> Any:
        real, name = self._real, self._name
        if name not in _DONE:
            said = ", ".join(map(repr, given))
            raise patch.disk.refuse(
                f"{name}({said}) is called by ctypes: of the C library only fsync,"
                " fdatasync, sync and hints are simulated; have the store use os"
            )
        answer = 0
        try:
            with patch.lock:
                _DONE[name](patch, *map(_plain, given))
        except OSError as problem:
            ctypes.set_errno(problem.errno or 0)
            answer = -1
        result = _as_given_back(answer, real.restype)
        check = getattr(real, "errcheck", None)
        return result if check is None else check(result, self, given)

    @property
    def _as_parameter_(self) -> Any:
        """What C code gets that is given this."""
        return self._real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real, name)

    def __repr__(self) -> str:
        return f"<{self._real!r}, or the disk's>"


_DONE: Final[Mapping[str, Callable[..., Any]]] = {
    "fsync": lambda patch, fd: patch.sync(fd, "fsync"),
    "fdatasync": lambda patch, fd: patch.sync(fd, "fdatasync"),
    "sync": lambda patch: patch.sync_all(),
    # Hints: what they have the machine write early a crash may find written as it is,
    # and nothing is durable by them (sync_file_range(2) says so).
    **dict.fromkeys(_HINTS, lambda *_: None),
}


def _as_given_back(answer: int, kind: Any) -> Any:
    """What ctypes makes of a number that a function answers."""
    if kind is None:
        return None
    if isinstance(kind, type) and issubclass(kind, ctypes._SimpleCData):
        plain = kind.__bases__[0] is ctypes._SimpleCData
        return kind(answer).value if plain else kind(answer)
    return kind(answer)


def _plain(one: Any) -> Any:
    """An argument as Python has it."""
    one = getattr(one, "_as_parameter_", one)
    return getattr(one, "value", one)


def _of_the_disk(patch: Calls, one: Any) -> bool:
    one = _plain(one)
    if isinstance(one, (bytes, str)):
        return patch.mine(one) is not None
    return patch.ours(one)


def stand_in(real: Any) -> Foreign:
    """What takes the place of one of these."""
    return Foreign(real, _names[_address(real)])


def looked_up(name: object) -> None:
    """The interpreter tells that a function of C is looked up."""
    global _stale  # noqa: PLW0603 - the process's own.
    if name not in ARGUMENTS or getattr(_here, "looks", False):
        return
    _stale = True
    if _patch is not None and _patch.threads.own():
        raise _patch.disk.refuse(
            f"{name} is looked up by ctypes in a way that cannot be followed: have the"
            " store get it as an attribute of a ctypes.CDLL, or use os"
        )


def looking_up(real: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """ctypes.CDLL.__getitem__, which gives those that look at their arguments."""

    def getitem(library: Any, name: Any) -> Any:
        _here.looks = True
        try:
            found = real(library, name)
        finally:
            _here.looks = False
        return stand_in(found) if _address(found) in _names else found

    return getitem


def replace_all() -> None:
    """Put those that look at their arguments where the others are held."""
    global _stale  # noqa: PLW0603 - the process's own.
    if not _stale:
        return
    with all_told_of():
        # Mostly all are behind stand-ins already, and nobody has to be asked for.
        held = _held_elsewhere(_all_of_them())
        if held:
            _replace(held)
            held = _held_elsewhere(held)
        if held:
            # By what is garbage, perhaps: tracebacks have their frames.
            gc.collect()
            held = _held_elsewhere(held)
    _out_of_reach.clear()
    _out_of_reach.update(_names[_address(one)] for one in held)
    _stale = bool(_out_of_reach)


def _all_of_them() -> list[Any]:
    """All that were looked up, and are not forgotten."""
    return [
        one
        for one in gc.get_objects()
        if issubclass(type(one), _Function) and _address(one) in _names
    ]


def _replace(held: list[Any]) -> None:
    for place in Holders(held, stand_in).places:
        place.replace()


def _held_elsewhere(found: list[Any]) -> list[Any]:
    """Which of these somebody holds besides this list and stand-ins."""
    known = _known(found)
    # What the list and the call here have, whatever the interpreter.
    least = max(map(sys.getrefcount, [object()]))
    counts = list(map(sys.getrefcount, found))
    return [
        one
        for one, count in zip(found, counts, strict=True)
        if count > least + known[identity(one)]
    ]


def _known(found: list[Any]) -> Counter[int]:
    """By identity: how many stand-ins hold each, and whether it does itself."""
    known = Counter(identity(one._real) for one in _stand_ins)
    # ctypes has them refer to themselves.
    known.update(
        identity(one)
        for one in found
        if any(held is one for held in gc.get_referents(one))
    )
    return known


_out_of_reach: Final[set[str]] = set()
"""What somebody holds where it could not be replaced: a variable of a function, say."""


@contextmanager
def followed(patch: Calls) -> Iterator[None]:
    """While entered, what these do with the disk is done on it, or refused.

    Raises:
        UnsupportedCallError: Somebody holds one where it cannot be replaced; the disk
            remembers that.
    """
    global _patch  # noqa: PLW0603 - the process's own.
    replace_all()
    if _out_of_reach:
        raise patch.disk.refuse(
            f"functions of the C library ({', '.join(sorted(_out_of_reach))}) are held"
            " by ctypes where nothing can be put in their place: keep them in a module,"
            " a class or an object, or as attributes of a ctypes.CDLL"
        )
    _patch = patch
    try:
        yield
    finally:
        _patch = None
