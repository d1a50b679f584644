"""The seam between the engine and the operating system.

Theory
======
The engine never calls the operating system itself. Everything it needs from
outside, files, directories, locks between processes, time, threads, comes
through one object, a `Storage`. `OSStorage` is the real one. A crash tester
hands the engine another object of the same shape and thereby decides what
reaches the platter, what fails, what time it is and which thread runs.

The protocol is named after the system calls it stands for and keeps their
weaknesses on purpose, so that whoever implements it can exercise them:

* `File.pread` may return fewer bytes than asked for; only an empty result
  means end of file.
* `File.pwritev` may write fewer bytes than given and says how many.
* A write is durable only after `fdatasync` or `fsync` returned; a new name in
  a directory only after `Storage.fsync_dir` returned.
* Every failure is an `OSError` with an errno.

Reads are positional reads, not a memory map. Measured on CPython 3.11, a map
saves 0.5 us of the 16 us that decoding a page takes, and costs three things: a
read error or a file truncated by somebody else kills the process with SIGBUS
instead of raising, growing the file needs a remap that has to be kept from
readers, and a reader's bytes cannot be attributed to a byte range.

The engine asks for exactly the bytes it uses, so that a crash tester need not
decide on any others. What a file may have beside the protocol:

    read_ahead      a real one: bytes worth reading at once where pages are read one
                    behind the other, and then more is asked of it than is used (see
                    `shearbolt.pages.window`)
    begin_writing   a real one: it can be told to begin with its writes before it is
                    synced. A crash may find any of them done as it is, so no model
                    need know of it
    forget          a real one: it can be told to drop what the system keeps of it in
                    memory, after a failed sync (see `shearbolt.database.durable`)
    stands_at       a real one: whether a name still means it (see
                    `shearbolt.storage.locking`)
    removed         a real one: whether it has lost its last name
    stored          a real one: where it has holes; a file of a terabyte may have a few
                    pages only
    ask             a simulated one: answers a question about its bytes without showing
                    them (see `RobustFile.ask`)

A file without one of these is read exactly, synced, kept, believed twice, whole, and
read.
And a storage that others use, too, has `rename_new`, which replaces nothing.

What it is not: it is not a file system abstraction for general use. It has the
operations that the engine needs and no others.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["File", "Mutex", "OSStorage", "Storage"]


class File(Protocol):
    """One open file. Positions and lengths are bytes."""

    def pread(self, length: int, offset: int, /) -> bytes:
        """Read at most `length` bytes at `offset`; b"" means end of file."""
        ...

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        """Write the buffers one behind the other from `offset` on.

        Returns:
            How many bytes were written; it may be fewer than given.
        """
        ...

    def ftruncate(self, size: int, /) -> None:
        """Set the file's size; bytes added read as zero."""
        ...

    def fdatasync(self) -> None:
        """Make the file's data, and the size needed to read it, durable."""
        ...

    def fsync(self) -> None:
        """Make the file's data and all its metadata durable."""
        ...

    def size(self) -> int:
        """The file's present size."""
        ...

    def lock(self, exclusive: bool, /) -> bool:
        """Try to take the whole-file advisory lock, without waiting.

        The lock belongs to this open file, not to the process: a second open
        file of the same process competes like a stranger (flock(2)).

        Returns:
            False when somebody else holds a conflicting lock.
        """
        ...

    def unlock(self) -> None:
        """Release the lock; closing the file does so too."""
        ...

    def identity(self) -> tuple[int, int]:
        """(device, inode): two open files are one file when these are equal."""
        ...

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        ...


class Mutex(Protocol):
    """A lock between threads, used as a context manager."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; False when it was not had in time (seconds)."""
        ...

    def release(self) -> None:
        """Give the lock back."""
        ...

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


@runtime_checkable
class Storage(Protocol):
    """What the engine needs from the machine it runs on."""

    def open(
        self,
        path: str,
        /,
        *,
        read_only: bool = False,
        create: bool = False,
        exclusive: bool = False,
        perm: int = 0o600,
    ) -> File:
        """Open a regular file.

        Args:
            path: Where it is.
            read_only: Refuse writes through this file.
            create: Make an empty file when there is none.
            exclusive: With `create`: fail when there is one already.
            perm: Permission bits of a file that is made.

        Raises:
            OSError: FileNotFoundError, IsADirectoryError (also with
                `read_only`), FileExistsError, PermissionError and the like.
        """
        ...

    def exists(self, path: str, /) -> bool:
        """Whether the directory has an entry of this name."""
        ...

    def rename(self, source: str, target: str, /) -> None:
        """Give a file another name, replacing what stood there."""
        ...

    def unlink(self, path: str, /) -> None:
        """Remove a name."""
        ...

    def fsync_dir(self, path: str, /) -> None:
        """Make the entries of the directory that holds `path` durable."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let other threads and processes run for this long."""
        ...

    def pid(self) -> int:
        """The process id: tells a forked child from its parent."""
        ...

    def thread_id(self) -> int:
        """Identifies the calling thread."""
        ...

    def mutex(self) -> Mutex:
        """A new lock between threads; not reentrant."""
        ...


if sys.platform == "win32":
    from shearbolt.storage._windows import OSStorage
else:
    from shearbolt.storage._posix import OSStorage
