"""Robust reads and writes: all of it, or a typed error.

    caller --read, write--> RobustFile --pread, pwritev--> File (see `storage`)

A system call may move fewer bytes than it was given, may be interrupted by a signal
before it moves any, and reports errors as `OSError`. Here a read gives what was asked
for up to the end of the file, a write is complete, an interrupted call is made again,
and errors are `StorageError` with the operation, the file and the place.

What it is not: a buffer. Nothing is kept, nothing is read that was not asked for, and a
call that fails is not made again: after a failed sync that would report a success that
means nothing (see `doubt`). What is not of moving bytes (locks, closing) is the raw
file's.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from shearbolt.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shearbolt.storage import File

__all__ = ["RobustFile", "View"]

T = TypeVar("T")
V = TypeVar("V")

_MAX_TRANSFER: Final = 0x4000_0000
"""Bytes in one system call; Linux moves at most 2 GiB - 4 KiB."""


class View(Protocol):
    """Reads bytes of a file and gives what a pure function makes of them."""

    def __call__(self, decode: Callable[[bytes], V], offset: int, length: int, /) -> V:
        """`decode` of `length` bytes from `offset` on, fewer where the file ends."""
        ...


class RobustFile:
    """One open file, for reading and writing whole ranges of bytes.

    Args:
        raw: The open file.
        path: For messages.

    Attributes:
        raw: The open file.
        path: Its path.
        sync_failed: Whether a sync has failed, until somebody takes that back. An
            interrupt that came while the system was at it takes the place of the
            error, see `_sync`.
    """

    __slots__ = ("path", "raw", "sync_failed")

    def __init__(self, raw: File, path: str) -> None:
        self.raw = raw
        self.path = path
        self.sync_failed = False

    def ask(self, question: Callable[[View], T]) -> T:
        """What a question about the file's bytes has as its answer.

        A storage may offer `File.ask` for this; any other is read.

        Args:
            question: A pure function of what it reads through its argument. Its
                result, a value that can be hashed, is all that gets out.

        Raises:
            StorageError: The system reports an error (EIO, ...).
        """
        ask = getattr(self.raw, "ask", None)
        if ask is None:
            return question(self.view)
        try:
            answer: T = ask(question)
        except OSError as error:
            raise StorageError.of(error, "pread", self.path) from error
        return answer

    def view(self, decode: Callable[[bytes], V], offset: int, length: int) -> V:
        """What `decode` makes of these bytes of the file; fewer where it ends."""
        return decode(self.read(offset, length))

    def read(self, offset: int, length: int) -> bytes:
        """These bytes of the file; fewer only where the file ends.

        Raises:
            StorageError: The system reports an error (EIO, ...).
        """
        if length > _MAX_TRANSFER:
            return self._read_on(b"", offset, length)
        # One page takes three reads, so the usual case is written out here.
        try:
            data = self.raw.pread(length, offset)
        except InterruptedError:
            data = self._pread(length, offset)
        except OSError as error:
            raise StorageError.of(error, "pread", self.path, offset) from error
        if len(data) >= length or not data:
            return data
        return self._read_on(data, offset, length)

    def _read_on(self, data: bytes, offset: int, length: int) -> bytes:
        """Read what is missing behind `data`."""
        parts = [data]
        missing = length - len(data)
        while missing:
            data = self._pread(missing, offset + length - missing)
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _pread(self, length: int, offset: int) -> bytes:
        while True:
            try:
                return self.raw.pread(min(length, _MAX_TRANSFER), offset)
            except InterruptedError:
                continue
            except OSError as error:
                raise StorageError.of(error, "pread", self.path, offset) from error

    def write(self, offset: int, buffers: Sequence[bytes]) -> int:
        """Write the buffers one behind the other, all of them.

        Returns:
            How many bytes they have.

        Raises:
            StorageError: The system reports an error (ENOSPC, EIO, ...); any
                part may have been written.
        """
        rest = buffers
        size = left = sum(map(len, rest))
        while left:
            try:
                done = self.raw.pwritev(rest, offset)
            except InterruptedError:
                continue
            except OSError as error:
                raise StorageError.of(error, "pwrite", self.path, offset) from error
            if done <= 0:
                nothing = OSError(errno.EIO, "the system wrote nothing")
                raise StorageError.of(nothing, "pwrite", self.path, offset)
            left -= done
            if not left:
                break
            offset += done
            rest = list(rest)
            whole = 0
            while whole < len(rest) and done >= len(rest[whole]):
                done -= len(rest[whole])
                whole += 1
            del rest[:whole]
            if done:
                rest[0] = rest[0][done:]
        return size

    def begin_writing(self, offset: int, length: int) -> None:
        """Have the system begin to write what was written there, if it can.

        It promises nothing and fails at nothing: what goes wrong the next sync says.
        """
        begin = getattr(self.raw, "begin_writing", None)
        if begin is not None:
            begin(offset, length)

    def forget(self) -> None:
        """Have the system drop what it keeps of the file in memory, if it can.

        It promises nothing and fails at nothing.
        """
        forget = getattr(self.raw, "forget", None)
        if forget is not None:
            forget()

    def stored(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where bytes of [start, end) are in the file, as (first, behind), in order.

        What lies between is a hole: zeros that were never written. A storage that does
        not know holes has none.

        Raises:
            StorageError: The system reports an error.
        """
        ask = getattr(self.raw, "stored", None)
        while start < end:
            piece = (start, end) if ask is None else self._ask_stored(ask, start)
            if piece is None or piece[0] >= end:
                return
            first, behind = piece
            # A file that became shorter meanwhile has nothing more.
            if behind <= first:
                return
            yield first, min(behind, end)
            start = behind

    def _ask_stored(
        self, ask: Callable[[int], tuple[int, int] | None], start: int
    ) -> tuple[int, int] | None:
        return self._retry("lseek", lambda: ask(start))

    def hole(self, start: int, end: int) -> int:
        """Bytes of [start, end) that are holes.

        Raises:
            StorageError: The system reports an error.
        """
        there = sum(behind - first for first, behind in self.stored(start, end))
        return end - start - there

    def fdatasync(self) -> None:
        """Make written data durable.

        Raises:
            StorageError: It failed; what was written may be lost, and another
                sync may report success without writing it.
        """
        self._sync("fdatasync", self.raw.fdatasync)

    def fsync(self) -> None:
        """Make written data and the file's metadata durable; errors as above."""
        self._sync("fsync", self.raw.fsync)

    def _sync(self, operation: str, call: Callable[[], None]) -> None:
        while True:
            try:
                call()
            except InterruptedError:
                continue
            except OSError as error:
                # By no call, so that no interrupt comes before it: Ctrl-C at a disk
                # that takes a minute to fail is raised by the next one. (Without a
                # number it is a signal handler's, see `StorageError.of`.)
                self.sync_failed = error.errno is not None
                raise StorageError.of(error, operation, self.path) from error
            return

    def grow(self, size: int) -> None:
        """Enlarge the file; its new size is durable after a sync.

        Raises:
            StorageError: The system reports an error, or no file can be so large.
        """
        try:
            self._retry("ftruncate", lambda: self.raw.ftruncate(size))
        except OverflowError:
            # Python's, before the system is asked: a sum of sizes that each option
            # allows may be more than the system has a number for.
            reason = f"File too large: {size} bytes"
            raise StorageError.made(
                errno.EFBIG, reason, "ftruncate", self.path
            ) from None

    def size(self) -> int:
        """The file's size in bytes.

        Raises:
            StorageError: The system reports an error.
        """
        return self._retry("fstat", self.raw.size)

    def removed(self) -> bool:
        """Whether the file has lost its last name; no, where nobody can tell.

        Raises:
            StorageError: The system reports an error.
        """
        ask = getattr(self.raw, "removed", None)
        return ask is not None and self._retry("fstat", ask)

    def identity(self) -> tuple[int, int]:
        """(device, inode) of the file.

        Raises:
            StorageError: The system reports an error.
        """
        return self._retry("fstat", self.raw.identity)

    def _retry(self, operation: str, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except InterruptedError:
                continue
            except OSError as error:
                raise StorageError.of(error, operation, self.path) from error
