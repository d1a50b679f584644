"""The machine, where it is Windows. Run under Wine, on no real Windows yet.

What differs from POSIX, and how it is settled:

* `os` has no positional reads and writes. ReadFile and WriteFile have: they take the
  place from an OVERLAPPED, as Go's ReadAt does. (Seek and transfer under a lock was
  tried: a signal handler that reads, while the thread it runs in holds that lock, waits
  for ever.)
* There is no fdatasync; `os.fsync` is FlushFileBuffers, which flushes the drive's
  cache too.
* `os.ftruncate` is _chsize_s, which writes a zero for each byte that a file grows by:
  16 MiB when the file is grown that far ahead. SetFileInformationByHandle writes none,
  as bbolt's SetEndOfFile does not.
* Directories cannot be synced. NTFS journals its entries, and `fsync_dir` does
  nothing: a new file's name may be lost with the last seconds before a power failure.
* flock does not exist. bbolt takes a one-byte lock far behind the end of the file with
  LockFileEx (bolt_windows.go), and so does this: locking real bytes would keep
  others from reading them.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import errno
import msvcrt
import os
import stat
from ctypes import wintypes
from typing import TYPE_CHECKING

from shearbolt.storage._common import READ_AHEAD, Machine, above_standard
from shearbolt.storage.single import Single

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCKFILE_FAIL_IMMEDIATELY = 1
_LOCKFILE_EXCLUSIVE_LOCK = 2
_ERROR_LOCK_VIOLATION = 33
_ERROR_HANDLE_EOF = 38
_ERROR_NOT_LOCKED = 158
_FAR = 0xFFFFFFFF
_FILE_END_OF_FILE_INFO = 6

# Bytes joined for one write: there is no call that gathers them.
_MOST_JOINED = 1 << 24

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)


class _Overlapped(ctypes.Structure):
    """OVERLAPPED: says where in the file something is."""

    _fields_ = (
        ("Internal", ctypes.c_void_p),
        ("InternalHigh", ctypes.c_void_p),
        ("Offset", wintypes.DWORD),
        ("OffsetHigh", wintypes.DWORD),
        ("hEvent", wintypes.HANDLE),
    )


def _at(offset: int) -> _Overlapped:
    return _Overlapped(Offset=offset & 0xFFFFFFFF, OffsetHigh=offset >> 32)


_TRANSFER = (
    *(wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD),
    *(ctypes.POINTER(wintypes.DWORD), ctypes.POINTER(_Overlapped)),
)
_read_file = _kernel32.ReadFile
_read_file.argtypes = _TRANSFER
_write_file = _kernel32.WriteFile
_write_file.argtypes = _TRANSFER


class OSFile(Single):
    """An open file descriptor in the shape of `shearbolt.storage.File`."""

    __slots__ = ("_fd",)

    read_ahead = READ_AHEAD

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self) -> None:
        # What is kept to the end of the process may outlive the modules: None then.
        if os is not None:
            self.close()

    def pread(self, length: int, offset: int, /) -> bytes:
        if not length:
            return b""
        # An array of ctypes would be a new class for each length, which only the
        # collector of cycles removes.
        into = bytearray(length)
        first = ctypes.c_char.from_buffer(into)
        done = wintypes.DWORD()
        if _read_file(self._handle(), ctypes.byref(first), length, done, _at(offset)):
            return bytes(memoryview(into)[: done.value])
        code = ctypes.get_last_error()
        if code == _ERROR_HANDLE_EOF:
            return b""
        raise ctypes.WinError(code)

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        joined = 0
        for count, buffer in enumerate(buffers):
            if joined + len(buffer) > _MOST_JOINED:
                buffers = buffers[: max(count, 1)]
                break
            joined += len(buffer)
        data = b"".join(buffers)
        done = wintypes.DWORD()
        if _write_file(self._handle(), data, len(data), done, _at(offset)):
            return done.value
        raise ctypes.WinError(ctypes.get_last_error())

    def ftruncate(self, size: int, /) -> None:
        end = ctypes.c_int64(size)
        done = _kernel32.SetFileInformationByHandle(
            self._handle(),
            _FILE_END_OF_FILE_INFO,
            ctypes.byref(end),
            ctypes.sizeof(end),
        )
        if not done:
            raise ctypes.WinError(ctypes.get_last_error())

    def fdatasync(self) -> None:
        os.fsync(self._fd)

    def fsync(self) -> None:
        os.fsync(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def lock(self, exclusive: bool, /) -> bool:
        flags = _LOCKFILE_FAIL_IMMEDIATELY
        if exclusive:
            flags |= _LOCKFILE_EXCLUSIVE_LOCK
        place = ctypes.byref(_Overlapped(Offset=_FAR, OffsetHigh=_FAR))
        if _kernel32.LockFileEx(self._handle(), flags, 0, 1, 0, place):
            return True
        code = ctypes.get_last_error()
        if code == _ERROR_LOCK_VIOLATION:
            return False
        raise ctypes.WinError(code)

    def unlock(self) -> None:
        if self._fd < 0:
            return
        place = ctypes.byref(_Overlapped(Offset=_FAR, OffsetHigh=_FAR))
        if _kernel32.UnlockFileEx(self._handle(), 0, 1, 0, place):
            return
        # Closing that was interrupted behind it is made again, and the lock is gone
        # already: Windows and Wine have different words for that.
        code = ctypes.get_last_error()
        if code not in {_ERROR_NOT_LOCKED, _ERROR_LOCK_VIOLATION}:
            raise ctypes.WinError(code)

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def _handle(self) -> wintypes.HANDLE:
        """The system's own number of the file."""
        return wintypes.HANDLE(msvcrt.get_osfhandle(self._fd))

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
        flags = os.O_BINARY | os.O_NOINHERIT
        flags |= os.O_RDONLY if read_only else os.O_RDWR
        if create:
            flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        fd = above_standard(os.open(path, flags, perm))
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", path)
        except BaseException:
            os.close(fd)
            raise
        return OSFile(fd)

    def rename_new(self, source: str, target: str, /) -> None:
        """Give a file another name, if nothing has that.

        Raises:
            FileExistsError: Something has it.
        """
        os.rename(source, target)

    def fsync_dir(self, path: str, /) -> None:
        """Nothing: see the module's head."""
