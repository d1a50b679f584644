"""The real machine, where it is POSIX: Linux first, macOS and the BSDs after.

Two platform differences are settled here and nowhere else:

* `fdatasync` exists on Linux. Elsewhere `fsync` stands in for it.
* On macOS `fsync` does not flush the drive's cache; `F_FULLFSYNC` does
  (fcntl(2)), and is used for both calls. File systems that refuse it fall back
  to `fsync`, as SQLite does.

The lock is flock(2) on the data file itself, exclusive for a writer and shared
for a reader, because that is what bbolt takes (bolt_unix.go): a Go process and
a Python process exclude each other. `lockf` or `fcntl` locks would not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import sys
from typing import TYPE_CHECKING, cast

from shearbolt.storage._common import READ_AHEAD, Machine, above_standard
from shearbolt.storage.single import Single

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Types are checked for every platform; this module is not one of Windows.
assert sys.platform != "win32"

# Linux and macOS allow 1,024; POSIX promises 16. A longer list is cut and the
# caller, who handles short writes anyway, comes back with the rest.
_IOV_MAX = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 16


# What file systems without hard links say to link(2). Those that count no links, and
# say 0 of every file (some FUSE file systems), say ENOENT.
_NO_LINKS = {
    *(errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK),
    *(errno.ENOENT, errno.EACCES),
}

# What file systems say to the sync of a directory that have nothing to write by it
# (network shares, FUSE). PostgreSQL goes on there, too.
_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def _full_sync(fd: int) -> None:
    """Flush to the platter on macOS."""
    full = fcntl.F_FULLFSYNC  # type: ignore[attr-defined,unused-ignore]
    try:
        fcntl.fcntl(fd, full)
    except OSError as error:
        # Not every file system knows it (network shares): errno says so.
        if error.errno not in {errno.ENOTSUP, errno.EINVAL, errno.ENOTTY}:
            raise
        os.fsync(fd)


if sys.platform == "darwin":
    _fsync = _fdatasync = _full_sync
else:
    _fsync = os.fsync
    _fdatasync = getattr(os, "fdatasync", os.fsync)


_SYNC_FILE_RANGE_WRITE = 2


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], object] | None:
    """sync_file_range(2); None where there is none.

    Python's os has it not, and ctypes takes 2 ms to import: when it is first asked for.
    `posix_fadvise`, which os has, drops pages from the system's cache, too.
    """
    try:
        import ctypes  # noqa: PLC0415 - see above

        call = ctypes.CDLL(None).sync_file_range
    except (ImportError, OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast("Callable[[int, int, int, int], object]", call)


class OSFile(Single):
    """An open file descriptor in the shape of `shearbolt.storage.File`."""

    __slots__ = ("_fd", "_named")

    read_ahead = READ_AHEAD

    def __init__(self, fd: int, *, named: bool = True) -> None:
        self._fd = fd
        self._named = named

    def __del__(self) -> None:
        # What is kept to the end of the process may outlive the modules: None then.
        if os is not None:
            self.close()

    def pread(self, length: int, offset: int, /) -> bytes:
        return os.pread(self._fd, length, offset)

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        if len(buffers) > _IOV_MAX:
            buffers = buffers[:_IOV_MAX]
        return os.pwritev(self._fd, buffers, offset)

    def begin_writing(self, offset: int, length: int, /) -> None:
        """Have the system begin to write what was written there, and go on.

        It promises nothing, and what goes wrong the next sync says; that has less to
        wait for.
        """
        begin = _sync_file_range()
        if begin is not None:
            begin(self._fd, offset, length, _SYNC_FILE_RANGE_WRITE)

    def forget(self) -> None:
        """Have the system drop what it keeps of the file in memory.

        But for what it has to write. It promises nothing, and fails at nothing.
        """
        if sys.platform != "darwin" and hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def ftruncate(self, size: int, /) -> None:
        os.ftruncate(self._fd, size)

    def fdatasync(self) -> None:
        _fdatasync(self._fd)

    def fsync(self) -> None:
        _fsync(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def lock(self, exclusive: bool, /) -> bool:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        # Closing that was interrupted behind it is made again.
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def stored(self, offset: int, /) -> tuple[int, int] | None:
        """The next bytes that are no hole, as (first, behind); None: there are none."""
        if not hasattr(os, "SEEK_DATA"):
            return offset, max(offset, self.size())
        # It moves a position that nobody reads from.
        try:
            first = os.lseek(self._fd, offset, os.SEEK_DATA)
            return first, os.lseek(self._fd, first, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            # Not every file system can say it.
            if error.errno in {errno.EINVAL, errno.ENOTSUP}:
                return offset, max(offset, self.size())
            raise

    def stands_at(self, path: str, /) -> bool:
        """Whether the name means this file."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self.identity()

    def removed(self) -> bool:
        """Whether it has lost its last name since it was opened.

        One that had none then, or whose file system counts none, cannot lose it.
        """
        return self._named and not os.fstat(self._fd).st_nlink

    def close(self) -> None:
        # Forget the number first: it may belong to somebody else as soon as
        # close returns, even when it returns an error.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OSStorage(Machine):
    """The machine this process runs on."""

    __slots__ = ()

    def open(
        self,
        path: str,
        /,
        *,
        read_only: bool = False,
        create: bool = False,
        exclusive: bool = False,
        perm: int = 0o600,
    ) -> OSFile:
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        if create:
            flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
        # O_NONBLOCK: opening a FIFO for reading would wait for a writer.
        fd = above_standard(os.open(path, flags | os.O_NONBLOCK, perm))
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", path)
        except BaseException:
            os.close(fd)
            raise
        return OSFile(fd, named=status.st_nlink > 0)

    def rename_new(self, source: str, target: str, /) -> None:
        """Give a file another name, if nothing has that.

        `rename` replaces, and what has looked before may have looked too early. link(2)
        does not. (renameat2 could do it in one step; Python does not have it.) Between
        the two calls the file has both names, after a crash perhaps for ever.

        Raises:
            FileExistsError: Something has it.
        """
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename_to_free(source, target)
            return
        os.unlink(source)

    def _rename_to_free(self, source: str, target: str) -> None:
        """The same where files have one name: FAT, some FUSE file systems, Android.

        An empty file of ours takes the name, so that `rename` replaces nothing else:
        but what somebody writes into that one in between.
        """
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
        try:
            os.replace(source, target)
        except BaseException:
            os.unlink(target)
            raise

    def fsync_dir(self, path: str, /) -> None:
        parent = os.path.dirname(os.path.realpath(path))
        try:
            fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            # Files may be made in it, and it may not be read: all of the system, then.
            os.sync()
            return
        try:
            _fsync(fd)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_SYNC:
                raise
        finally:
            os.close(fd)
