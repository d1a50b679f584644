"""Open files of a patched-in disk: descriptors with positions, and io objects.

    open("/db/x", "w")                           os.open("/db/x", O_RDWR)
        |                                             |
    TextIOWrapper   CPython's own                     |
    BufferedWriter  CPython's own                     |
    DiskRaw         one per io.open                   |
        '-------------------> OpenFile <--------------'   position, append, sync flags
                                 |
                            DiskFile   pread, pwritev, ftruncate, fsync

Only the lowest layer is ours. When data reach the disk is decided by CPython's own
buffers, as it is in production: at flush, at close, or when a buffer is full.

What it is not: it does not know of paths or of the functions that are patched; see
`tornpage.patch.block`.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from tornpage.disk.folder import DiskFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.disk.simulated import DiskFile
    from tornpage.patch.threads import Turnstile

__all__ = ["DiskRaw", "OpenFile", "flags_of", "mode_of", "plain", "wrap"]

# st_blksize of ext4, XFS and Btrfs. Up to Python 3.13 it is the size of a buffer;
# from 3.14 on it is the least size.
BLOCK = 4096


def error(number: int, *names: Any) -> OSError:
    """The exception of an errno; calls with a descriptor name no file."""
    if len(names) == 2:
        return OSError(number, os.strerror(number), names[0], None, names[1])
    return OSError(number, os.strerror(number), *names)


def plain(data: Any) -> bytes:
    """What a call that writes takes of this.

    Raises:
        TypeError: It has no bytes. (`bytes` would make some of a number.)
        BufferError: They are not one after the other.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view.tobytes()


class OpenFile:
    """What a descriptor stands for: a file, a position, flags.

    Args:
        file: The file or directory of the disk.
        path: Its name.
        flags: As given to os.open.
        before: Called before the file is changed.
        before_synced: Called before a write that makes itself durable.

    Attributes:
        flags: The same.
        path: The same; a directory may have another one by now.
    """

    def __init__(
        self,
        file: DiskFile | DiskFolder,
        path: str,
        flags: int,
        before: Callable[[DiskFile], None] = lambda _: None,
        before_synced: Callable[[DiskFile], None] = lambda _: None,
    ) -> None:
        self._file = file
        self._before = before
        self._before_synced = before_synced
        self.flags = flags
        self.path = path
        self.position = 0
        mode = flags & os.O_ACCMODE
        self.readable = mode != os.O_WRONLY
        self.writable = mode != os.O_RDONLY
        self.append = bool(flags & os.O_APPEND)
        # O_SYNC contains O_DSYNC: the second test is for the stronger one.
        self._sync = ""
        if flags & os.O_DSYNC:
            self._sync = "fsync" if flags & os.O_SYNC == os.O_SYNC else "fdatasync"

    @property
    def directory(self) -> bool:
        """Whether it is an open directory."""
        return isinstance(self._file, DiskFolder)

    @property
    def file(self) -> DiskFile:
        """The file.

        Raises:
            IsADirectoryError: It is a directory.
        """
        if isinstance(self._file, DiskFolder):
            raise error(errno.EISDIR)
        return self._file

    @property
    def folder(self) -> DiskFolder:
        """The directory.

        Raises:
            NotADirectoryError: It is a file.
        """
        if isinstance(self._file, DiskFolder):
            return self._file
        raise error(errno.ENOTDIR)

    def pread(self, length: int, offset: int) -> bytes:
        """Read at a place, and leave the position alone."""
        if not self.readable:
            raise error(errno.EBADF)
        return self.file.pread(length, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at a place; at the end with O_APPEND, as Linux does."""
        if not self.writable:
            raise error(errno.EBADF)
        self._before(self.file)
        if data and self._sync:
            self._before_synced(self.file)
        if self.append and data:
            offset = self.file.size()
        done = self.file.pwritev([data], offset)
        if done and self._sync:
            getattr(self.file, self._sync)()
        return done

    def read(self, length: int) -> bytes:
        """Read at the position, and move it on."""
        data = self.pread(length, self.position)
        self.position += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Write at the position, or at the end, and move it on."""
        if self.append and self.writable and data:
            self.position = self.file.size()
        done = self.pwrite(data, self.position)
        self.position += done
        return done

    def seek(self, offset: int, whence: int) -> int:
        """Set the position; see lseek(2)."""
        if whence == os.SEEK_SET:
            base = 0
        elif whence == os.SEEK_CUR:
            base = self.position
        elif whence == os.SEEK_END:
            # What the end of a directory is depends on the file system.
            base = 0 if self.directory else self.file.size()
        else:
            raise error(errno.EINVAL)
        if base + offset < 0:
            raise error(errno.EINVAL)
        self.position = base + offset
        return self.position

    def truncate(self, size: int) -> None:
        """Set the size; the position stays."""
        if not self.writable:
            raise error(errno.EINVAL)
        self._before(self.file)
        self.file.ftruncate(size)

    def advise(self, offset: int, length: int, advice: int) -> None:
        """Take a hint: one that is about all of the file may let it be forgotten."""
        if isinstance(self._file, DiskFolder) or offset or length:
            return
        if advice == os.POSIX_FADV_DONTNEED:
            self.file.forget()

    def close(self) -> None:
        """Close the file."""
        if not isinstance(self._file, DiskFolder):
            self._file.close()


class DiskRaw(io.RawIOBase):
    """What io.FileIO is for a file of the machine.

    Args:
        descriptor: Its number.
        opened: What the number stands for.
        name: What the `name` attribute says.
        mode: What the `mode` attribute says.
        close: Closes the descriptor; None: it is not this object's to close.
        lock: Held while the disk is used.
        alive: Whether the disk is still patched in.
    """

    def __init__(
        self,
        descriptor: int,
        opened: OpenFile,
        name: Any,
        mode: str,
        close: Callable[[int], None] | None,
        lock: Turnstile,
        alive: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._opened = opened
        self.name = name
        self.mode = mode
        self._close = close
        self._lock = lock
        self._alive = alive

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def fileno(self) -> int:
        """The simulated descriptor."""
        self._check()
        return self._descriptor

    def readable(self) -> bool:
        """Whether its mode is one for reading; its descriptor's may be another."""
        self._check()
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        """Whether its mode is one for writing; its descriptor's may be another."""
        self._check()
        return self.mode != "rb"

    def seekable(self) -> bool:
        """Always."""
        self._check()
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; 0 means end of file."""
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")
        view = memoryview(buffer).cast("B")
        with self._lock:
            data = self._opened.read(len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        """Write; returns how many bytes."""
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        block = plain(data)
        if not self._alive():
            # The process of this file is over: CPython empties a buffer nobody
            # closed when it collects it, at a time that no crash may depend on.
            return len(block)
        with self._lock:
            return self._opened.write(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position."""
        self._check()
        with self._lock:
            return self._opened.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        self._check()
        return self._opened.position

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, by default to the position."""
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        size = self._opened.position if size is None else size
        with self._lock:
            self._opened.truncate(size)
        return size

    def close(self) -> None:
        """Close the file and, if it is this object's, the descriptor."""
        if not self.closed:
            super().close()
            if self._close is not None and self._alive():
                self._close(self._descriptor)


def flags_of(mode: str) -> int:
    """The flags that `open` gives to the system for a mode without "b" and "t".

    Raises:
        ValueError: There is no such mode.
    """
    kind = mode.replace("+", "", 1)
    if kind not in {"r", "w", "a", "x"}:
        raise ValueError(
            "must have exactly one of create/read/write/append mode"
            f" and at most one plus: {mode!r}"
        )
    access = os.O_RDONLY if kind == "r" else os.O_WRONLY
    more = {
        "r": 0,
        "w": os.O_CREAT | os.O_TRUNC,
        "a": os.O_CREAT | os.O_APPEND,
        "x": os.O_CREAT | os.O_EXCL,
    }
    access = os.O_RDWR if "+" in mode else access
    return access | more[kind] | os.O_CLOEXEC


def mode_of(mode: str) -> str:
    """What FileIO calls a mode without "b" and "t"."""
    if "+" not in mode:
        return f"{mode}b"
    kind = mode.replace("+", "")
    return f"{kind}b+" if kind in {"a", "x"} else "rb+"


def wrap(
    raw: DiskRaw,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """CPython's own buffers and text layer on a raw file, as `open` puts them.

    Args:
        raw: The file.
        mode: As given to `open`.
        buffering: The same.
        encoding: The same.
        errors: The same.
        newline: The same.

    Raises:
        ValueError: The arguments do not go together.
    """
    binary = "b" in mode
    if binary and (encoding, errors, newline) != (None, None, None):
        raise ValueError("binary mode takes no encoding, errors or newline argument")
    if buffering == 0:
        if not binary:
            raise ValueError("can't have unbuffered text I/O")
        return raw
    line = buffering == 1 and not binary
    if buffering < 0 or buffering == 1:
        newer = sys.version_info >= (3, 14)
        buffering = max(BLOCK, io.DEFAULT_BUFFER_SIZE) if newer else BLOCK
    buffer: Any
    if "+" in mode:
        buffer = io.BufferedRandom(raw, buffering)
    elif "r" in mode:
        buffer = io.BufferedReader(raw, buffering)
    else:
        buffer = io.BufferedWriter(raw, buffering)
    if binary:
        return buffer
    text = io.TextIOWrapper(buffer, io.text_encoding(encoding), errors, newline, line)
    text.mode = mode  # type: ignore[misc]  # open() sets it, too.
    return text
