"""Storage code that uses `open` and `os`, run on a simulated disk in process.

    with patched(disk, "/db") as root:
        with open(f"{root}/x", "wb") as file:     # the disk's
            file.write(b"1")
            os.fsync(file.fileno())               # the disk's
        open("/etc/hosts").close()                # the machine's

For as long as the block lasts, these functions look at the path or descriptor that
they are given, and go to the disk when it is of the disk:

    builtins, io   open
    os             open fdopen close dup read write pread pwrite readv writev preadv
                   pwritev lseek fsync fdatasync ftruncate truncate fstat isatty
                   stat lstat access chmod fchmod utime rename replace unlink remove
                   mkdir makedirs rmdir listdir scandir walk listxattr
    shutil         rmtree
    os.path        exists lexists isfile isdir getsize and what stands on os.stat
    fcntl          flock lockf (of a whole file)

and with them what is made of them: pathlib, shutil's moves and copies, tempfile. Given such a path
or descriptor, others are not left to the machine: they raise `UnsupportedCallError`.
What no patch can see the machine refuses: simulated descriptors are numbers that
no process has, and the root must not exist. No call can touch a real file by mistake.

Limits
------
* A module that did `from os import fsync` before the block began has the real one,
  which fails with EBADF or ENOENT. A store that takes ENOENT for "nothing there" goes
  on: no operation of it in the story is the sign. Extension modules, subprocesses,
  os.sync and tempfile.NamedTemporaryFile without delete=False are not covered.
* Directories are only names. One is there when it was made in this block, or when a
  file is in it. They are never lost in a crash, are found empty or not at all after
  it, and a file can be created without one. A directory of the disk is synced by
  os.fsync of its descriptor, which is what makes its entries durable.
* There are no times, owners, permissions or links: os.stat has 0 for times.
* A file that is still open when the block ends belongs to a process that is gone:
  what was in its buffers never reaches the disk.
* One block at a time, in a process; threads may share it.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import glob
import io
import mmap
import os
import posixpath
import shutil
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from tornpage.patch_files import (
    BLOCK,
    DiskRaw,
    OpenFile,
    error,
    flags_of,
    mode_of,
    wrap,
)
from tornpage.patch_folders import Entries, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tornpage.disk import Disk

__all__ = ["PatchError", "UnsupportedCallError", "patched"]

# Far above any limit on open files: what is not patched fails with EBADF.
_FIRST_DESCRIPTOR = 1 << 30
_FIRST_FOLDER = 1 << 40

# The line that is blamed for an operation is the line that called these.
_PLUMBING = frozenset(
    {
        "_abc.py",
        "_local.py",
        "contextlib.py",
        "genericpath.py",
        "os.py",
        "pathlib.py",
        "posixpath.py",
        "shutil.py",
        "tempfile.py",
    }
)

# What takes a path or a descriptor and is not simulated. Not here are sendfile and
# copy_file_range: EBADF from the machine is what makes shutil copy in the plain way.
_REFUSED = (
    "chown",
    "chroot",
    "fchown",
    "fpathconf",
    "fstatvfs",
    "getxattr",
    "lchown",
    "link",
    "mkfifo",
    "mknod",
    "pathconf",
    "posix_fadvise",
    "posix_fallocate",
    "readlink",
    "removexattr",
    "setxattr",
    "statvfs",
    "symlink",
)

_GLOBBERS = ("_Globber", "_GlobberBase", "_StringGlobber")

_active = threading.Lock()


class PatchError(RuntimeError):
    """A disk cannot be patched in here; the message says why."""


class UnsupportedCallError(RuntimeError):
    """A call that the simulated disk does not have was made on one of its files.

    Not an OSError: a store that goes on after those would hide it.
    """


class _Patch:
    """One disk, patched in."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk = disk
        self.root = root
        self.lock = threading.RLock()
        self.alive = True
        self._open: dict[int, OpenFile] = {}
        self._next = _FIRST_DESCRIPTOR
        self._folders = {root}
        # A number for each directory that was asked for one; no file has such a one.
        self._folder_numbers: dict[str, int] = {}

    # -- paths and descriptors ---------------------------------------------------

    def mine(self, path: Any) -> str | None:
        """The name on the disk, or None when the path is the machine's."""
        if isinstance(path, int) or path is None:
            return None
        try:
            text = os.fsdecode(path)
        except TypeError:
            return None
        if not text.startswith("/"):
            text = posixpath.join(os.getcwd(), text)
        text = posixpath.normpath(text)
        return text if text == self.root or text.startswith(self.root + "/") else None

    def ours(self, descriptor: Any) -> bool:
        """Whether it is a number that this patch gave out."""
        return isinstance(descriptor, int) and descriptor >= _FIRST_DESCRIPTOR

    def file(self, descriptor: int) -> OpenFile:
        """What the descriptor stands for."""
        found = self._open.get(descriptor)
        if found is None:
            raise error(errno.EBADF)
        return found

    def _add(self, opened: OpenFile) -> int:
        number = self._next
        self._next += 1
        self._open[number] = opened
        return number

    def is_folder(self, path: str) -> bool:
        """Whether there is a directory of this name."""
        if path in self._folders:
            return True
        return any(self.disk.exists(one) for one in self._names(path))

    def is_dir(self, path: str) -> bool:
        """Whether it is a directory and not a file; os.path.isdir."""
        return not self.disk.exists(path) and self.is_folder(path)

    def _names(self, folder: str) -> list[str]:
        """Every file below a directory that the disk may have."""
        return list(self.disk._life.names_in(folder))

    def names(self, folder: str) -> dict[str, bool]:
        """The entries of a directory: name, and whether it is a directory."""
        found: dict[str, bool] = {}
        for one in self._names(folder):
            if self.disk.exists(one):
                head, slash, _ = one[len(folder) + 1 :].partition("/")
                found[head] = bool(slash) or found.get(head, False)
        for one in sorted(self._folders):
            if posixpath.dirname(one) == folder:
                found[posixpath.basename(one)] = True
        if not found and not self.is_folder(folder):
            if self.disk.exists(folder):
                raise error(errno.ENOTDIR, folder)
            raise self._missing(folder)
        return dict(sorted(found.items()))

    def _missing(self, path: str, *more: str) -> OSError:
        """The error of a name under which there is nothing."""
        number = errno.ENOTDIR if self._is_below_a_file(path) else errno.ENOENT
        return error(number, path, *more)

    def _is_below_a_file(self, path: str) -> bool:
        above = posixpath.dirname(path)
        while above != self.root:
            if self.disk.exists(above):
                return True
            above = posixpath.dirname(above)
        return False

    def _require_file(self, path: str) -> None:
        if not self.disk.exists(path):
            if self.is_folder(path):
                raise error(errno.EISDIR, path)
            raise self._missing(path)

    def _folder_status(self, path: str) -> os.stat_result:
        numbers = self._folder_numbers
        number = numbers.setdefault(path, _FIRST_FOLDER + len(numbers))
        return self._status(stat.S_IFDIR | 0o700, number, BLOCK)

    def _status(self, kind: int, inode: int, size: int) -> os.stat_result:
        fields = (kind, inode, 1, 1, 0, 0, size, 0, 0, 0)
        more = {"st_blksize": BLOCK, "st_blocks": -(-size // 512)}
        for unit in ("st_atime", "st_mtime", "st_ctime"):
            more[unit], more[f"{unit}_ns"] = 0, 0
        return os.stat_result(fields, more)

    # -- calls with a path -------------------------------------------------------

    def stat(self, path: str) -> os.stat_result:
        if not self.disk.exists(path):
            if self.is_folder(path):
                return self._folder_status(path)
            raise self._missing(path)
        file = self.disk.open(path, read_only=True)
        return self._status(stat.S_IFREG | 0o600, file.identity()[1], file.size())

    def exists(self, path: str) -> bool:
        return self.disk.exists(path) or self.is_folder(path)

    def access(self, path: str, mode: int = 0) -> bool:
        del mode
        return self.exists(path)

    def touch_only(self, path: str, *_: Any) -> None:
        """Calls that change nothing that is simulated, but need the file."""
        if not self.exists(path):
            raise self._missing(path)

    def no_attributes(self, target: str | int) -> list[str]:
        """os.listxattr, which shutil's copies call; there are none."""
        if isinstance(target, int):
            self.file(target)
        else:
            self.touch_only(target)
        return []

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        del mode
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise UnsupportedCallError(f"{path}: a file without a name (O_TMPFILE)")
        there = self.disk.exists(path)
        if not there and self.is_folder(path):
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise error(errno.EEXIST, path)
            if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
                raise error(errno.EISDIR, path)
            return self._add(OpenFile(None, path, flags))
        if flags & os.O_DIRECTORY:
            raise error(errno.ENOTDIR, path) if there else self._missing(path)
        if not there and (not flags & os.O_CREAT or self._is_below_a_file(path)):
            raise self._missing(path)
        file = self.disk.open(
            path,
            # Linux truncates a file that is opened for reading, too.
            read_only=not flags & (os.O_ACCMODE | os.O_TRUNC),
            create=bool(flags & os.O_CREAT),
            exclusive=bool(flags & os.O_EXCL),
        )
        if flags & os.O_TRUNC and file.size():
            file.ftruncate(0)
        return self._add(OpenFile(file, path, flags))

    def truncate(self, path: str, length: int) -> None:
        self._require_file(path)
        self.disk.open(path).ftruncate(length)

    def unlink(self, path: str) -> None:
        self._require_file(path)
        self.disk.unlink(path)

    def rename(self, source: str, target: str) -> None:
        if not self.disk.exists(source) and self.is_folder(source):
            raise UnsupportedCallError(f"{source}: a directory cannot be renamed")
        if not self.disk.exists(source):
            raise self._missing(source, target)
        if not self.disk.exists(target):
            if self.is_folder(target):
                raise error(errno.EISDIR, source, target)
            if self._is_below_a_file(target):
                raise error(errno.ENOTDIR, source, target)
        self.disk.rename(source, target)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        del mode
        if self.exists(path):
            raise error(errno.EEXIST, path)
        if not self.is_folder(posixpath.dirname(path)):
            raise self._missing(path)
        self._folders.add(path)

    def rmdir(self, path: str) -> None:
        if self.names(path):
            raise error(errno.ENOTEMPTY, path)
        self._folders.discard(path)

    def rmtree(
        self,
        path: str,
        ignore_errors: bool = False,
        onerror: Callable[..., Any] | None = None,
        *,
        onexc: Callable[..., Any] | None = None,
    ) -> None:
        def give(call: Callable[..., Any], at: str, problem: OSError) -> None:
            if onexc is not None:
                onexc(call, at, problem)
            elif onerror is not None:
                onerror(call, at, (type(problem), problem, problem.__traceback__))
            elif not ignore_errors:
                raise problem

        try:
            names = self.names(path)
        except OSError as problem:
            give(os.scandir, path, problem)
            return
        for name, is_dir in names.items():
            below = posixpath.join(path, name)
            if is_dir:
                self.rmtree(below, ignore_errors, onerror, onexc=onexc)
            else:
                try:
                    self.unlink(below)
                except OSError as problem:
                    give(os.unlink, below, problem)
        try:
            self.rmdir(path)
        except OSError as problem:
            give(os.rmdir, path, problem)

    def listdir(self, path: str) -> list[str]:
        return list(self.names(path))

    def scandir(self, path: str) -> Entries:
        return Entries(
            Entry(self.stat, path, name, is_dir=is_dir)
            for name, is_dir in self.names(path).items()
        )

    # -- calls with a descriptor -------------------------------------------------

    def close(self, descriptor: int) -> None:
        opened = self.file(descriptor)
        del self._open[descriptor]
        if opened not in self._open.values():
            opened.close()

    def dup(self, descriptor: int) -> int:
        return self._add(self.file(descriptor))

    def fstat(self, descriptor: int) -> os.stat_result:
        opened = self.file(descriptor)
        if opened.directory:
            return self._folder_status(opened.path)
        inode, size = opened.file.identity()[1], opened.file.size()
        return self._status(stat.S_IFREG | 0o600, inode, size)

    def sync(self, descriptor: int, kind: str) -> None:
        opened = self.file(descriptor)
        if opened.directory:
            # The disk is asked by the name of an entry.
            self.disk.fsync_dir(f"{opened.path}/any")
        else:
            getattr(opened.file, kind)()

    def write_vector(self, descriptor: int, buffers: Sequence[Any]) -> int:
        return self.file(descriptor).write(b"".join(map(bytes, buffers)))

    def pwrite_vector(
        self, descriptor: int, buffers: Sequence[Any], offset: int, flags: int = 0
    ) -> int:
        if flags:
            raise UnsupportedCallError("os.pwritev with flags")
        return self.file(descriptor).pwrite(b"".join(map(bytes, buffers)), offset)

    def read_vector(
        self, descriptor: int, buffers: Sequence[Any], offset: int | None = None
    ) -> int:
        views = [memoryview(one).cast("B") for one in buffers]
        opened, room = self.file(descriptor), sum(map(len, views))
        data = opened.read(room) if offset is None else opened.pread(room, offset)
        at = 0
        for view in views:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        return at

    def flock(self, descriptor: int, operation: int) -> None:
        file = self.file(descriptor).file
        if operation & fcntl.LOCK_UN:
            file.unlock()
        elif not file.lock(bool(operation & fcntl.LOCK_EX)):
            if operation & fcntl.LOCK_NB:
                raise error(errno.EWOULDBLOCK)
            raise UnsupportedCallError(
                f"{self.file(descriptor).path}: waiting for a lock that this process"
                " holds would never end"
            )

    def lockf(
        self, descriptor: int, command: int, length: int = 0, *place: int
    ) -> None:
        if length or any(place):
            raise UnsupportedCallError("fcntl.lockf of a part of a file")
        self.flock(descriptor, command)

    # -- io.open -----------------------------------------------------------------

    def io_open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[Any, int], int] | None = None,
    ) -> Any:
        """What `open` does when the file is the disk's."""
        bare = mode.replace("b", "", 1).replace("t", "", 1)
        flags = flags_of(bare)
        if "b" in mode and "t" in mode:
            raise ValueError("can't have text and binary mode at once")
        if self.ours(file):
            descriptor = file
        elif opener is not None:
            descriptor = opener(file, flags)
        else:
            descriptor = self.open(str(self.mine(file)), flags)
        opened = self.file(descriptor)
        if opened.directory:
            if not self.ours(file):
                self.close(descriptor)
            raise error(errno.EISDIR, file)
        if bare.startswith("a"):
            opened.seek(0, os.SEEK_END)
        raw = DiskRaw(
            descriptor,
            opened,
            file,
            mode_of(bare),
            self._close_quietly if closefd else None,
            self.lock,
            lambda: self.alive,
        )
        return wrap(raw, mode, buffering, encoding, errors, newline)

    def _close_quietly(self, descriptor: int) -> None:
        # os.close() of the descriptor beneath a file object: EBADF from the machine,
        # too, but the object counts as closed.
        with self.lock:
            self.close(descriptor)


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


def _refuse(name: str) -> Callable[..., Any]:
    def refused(*given: Any, **named: Any) -> Any:
        raise UnsupportedCallError(
            f"os.{name}{given!r}{named or ''}: the simulated disk has no such call"
        )

    return refused


def _by_path(
    patch: _Patch, real: Callable[..., Any], ours: Callable[..., Any], paths: int = 1
) -> Callable[..., Any]:
    """`real`, except where its first `paths` arguments are names of the disk."""

    def call(*given: Any, **named: Any) -> Any:
        if not patch.alive:
            return real(*given, **named)
        first = list(given[:paths])
        for key in ("path", "src", "dst"):
            if len(first) < paths and key in named:
                first.append(named[key])
        names = [patch.mine(one) for one in first]
        if not any(name is not None for name in names):
            return real(*given, **named)
        if None in names:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), *map(str, first))
        for key in ("path", "src", "dst", "follow_symlinks"):
            named.pop(key, None)
        for key in ("dir_fd", "src_dir_fd", "dst_dir_fd"):
            if named.pop(key, None) is not None:
                raise UnsupportedCallError(f"{key}= with a path of the disk")
        with patch.lock, _named_as_given(names, first):
            found = ours(*names, *given[paths:], **named)
        if isinstance(found, list) and isinstance(given[0] if given else "", bytes):
            return [os.fsencode(one) for one in found]
        return found

    return call


def _by_descriptor(
    patch: _Patch, real: Callable[..., Any], ours: Callable[..., Any]
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


def _replacements(patch: _Patch) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
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
    }
    by_path: dict[str, Callable[..., Any]] = {
        "open": patch.open,
        "access": patch.access,
        "unlink": patch.unlink,
        "remove": patch.unlink,
        "mkdir": patch.mkdir,
        "rmdir": patch.rmdir,
        "listdir": patch.listdir,
        "scandir": patch.scandir,
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
        "listxattr": (patch.no_attributes, patch.no_attributes),
        **{name: (_refuse(name), _refuse(name)) for name in _REFUSED},
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
    # On os.stat they would read a size, which is one more thing undecided.
    for name in ("exists", "lexists"):
        real = getattr(posixpath, name)
        yield posixpath, name, _by_path(patch, real, patch.exists)
    yield posixpath, "isfile", _by_path(patch, posixpath.isfile, disk.exists)
    yield posixpath, "isdir", _by_path(patch, posixpath.isdir, patch.is_dir)
    # The real one works on directories by descriptor, and never gets that far.
    yield shutil, "rmtree", _by_path(patch, shutil.rmtree, patch.rmtree)
    yield fcntl, "flock", _by_descriptor(patch, fcntl.flock, patch.flock)
    yield fcntl, "lockf", _by_descriptor(patch, fcntl.lockf, patch.lockf)
    opening = _open_function(patch, io.open)
    yield builtins, "open", opening
    yield io, "open", opening
    yield mmap, "mmap", _mmap_class(patch)
    # From Python 3.13 on classes of glob keep functions of os from their import, and
    # take it for an empty directory when the machine has none of this name.
    for kept in filter(None, (getattr(glob, name, None) for name in _GLOBBERS)):
        for name in ("scandir", "lstat"):
            if name in vars(kept):
                real, ours = getattr(os, name), {**by_path, "lstat": patch.stat}[name]
                yield kept, name, staticmethod(_by_path(patch, real, ours))


def _open_function(patch: _Patch, real: Callable[..., Any]) -> Callable[..., Any]:
    def open_(file: Any, *given: Any, **named: Any) -> Any:
        if not patch.alive or not (patch.ours(file) or patch.mine(file) is not None):
            return real(file, *given, **named)
        with patch.lock, _named_as_given([patch.mine(file)], [file]):
            return patch.io_open(file, *given, **named)

    return open_


def _mmap_class(patch: _Patch) -> type[mmap.mmap]:
    class Mapping(mmap.mmap):
        """mmap.mmap, which the simulated disk does not have."""

        def __new__(cls, fileno: int, *given: Any, **named: Any) -> Self:
            if patch.ours(fileno):
                raise UnsupportedCallError(
                    f"mmap of {patch.file(fileno).path}: what a mapping writes, and"
                    " when, is not simulated; have the store use read and write"
                )
            return super().__new__(cls, fileno, *given, **named)

    return Mapping


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
    patch = _Patch(disk, root)
    disk.trace.plumbing |= _PLUMBING
    saved: list[tuple[Any, str, Any]] = []
    try:
        for module, name, ours in list(_replacements(patch)):
            saved.append((module, name, vars(module)[name]))
            setattr(module, name, ours)
        yield root
    finally:
        patch.alive = False
        for module, name, real in reversed(saved):
            setattr(module, name, real)
        _active.release()
