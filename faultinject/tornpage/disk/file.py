"""One open file of a simulated disk.

Theory
======
    program --pread, pwritev, fdatasync ...--> DiskFile --> Life, Trace

Each method is the system call of its name. What it reads is the business of the
`Life` that the file belongs to, what it changes is also written into the trace. A
file outlives the process that opened it only as a bad descriptor.

What it is not: it has no position and no name of its own; a file that was renamed
or unlinked is written to as before.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, TypeVar

from tornpage.call_site import site
from tornpage.trace import Forget, Sync, Trace, Truncate, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.disk.life import Life
    from tornpage.disk.node import Node
    from tornpage.disk.question import View

__all__ = ["DiskFile", "failed"]

T = TypeVar("T")

_PAGE = 4096
"""Bytes of a page of the page cache."""

_HOLE = 1 << 20
"""Bytes: more operations than for so much of a hole are not worth while."""


def failed(number: int, path: str) -> OSError:
    """The exception of an errno."""
    return OSError(number, os.strerror(number), path)


class DiskFile:
    """One open file of a `Disk`; see the system calls for each method."""

    __slots__ = (
        "_closed",
        "_generation",
        "_life",
        "_node",
        "_path",
        "_read_only",
        "_trace",
        "read_ahead",
    )

    def __init__(
        self, life: Life, trace: Trace, node: Node, path: str, read_only: bool
    ) -> None:
        self._life = life
        self._trace = trace
        self._node = node
        self._path = path
        self._read_only = read_only
        self.read_ahead = 0
        self._closed = False
        self._generation = life.generation

    def _check(self) -> None:
        if self._closed or self._generation != self._life.generation:
            raise failed(errno.EBADF, self._path)

    def pread(self, length: int, offset: int, /) -> bytes:
        """Read at most `length` bytes at `offset`; b"" means end of file."""
        self._check()
        if length < 0 or offset < 0:
            raise failed(errno.EINVAL, self._path)
        return self._life.pread(self._node, offset, offset + length)

    def ask(self, question: Callable[[View], T], /) -> T:
        """What a question about the file's bytes has as its answer.

        A crash explorer follows the answers instead of all the contents that
        lead to them; see `tornpage.disk.question`. On a real file it is
        `question(lambda decode, offset, length: decode(pread(...)))`.

        Args:
            question: A pure function of what it gets through its argument,
                `view(decode, offset, length)`, which is `decode` of the bytes
                there, fewer where the file ends. Both results must be hashable.
                `view.part(question)` is the answer of another one, which is kept
                as long as the bytes stay that it rests on.

        Raises:
            TypeError: The answer cannot be hashed.
            Exception: What the question raised.
        """
        self._check()
        return self._life.ask(self._node, question)

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        """Write the buffers one behind the other; returns how many bytes."""
        self._check()
        if self._read_only:
            raise failed(errno.EBADF, self._path)
        if offset < 0:
            raise failed(errno.EINVAL, self._path)
        self._writable()
        data = b"".join(buffers)
        if data:
            start, end = offset, offset + len(data)
            for size in self._sizes_on_the_way(offset, end):
                if size <= offset:
                    self._resize(size)
                else:
                    self._write(start, data[start - offset : size - offset])
                    start = size
            self._write(start, data[start - offset :])
        return len(data)

    def _sizes_on_the_way(self, offset: int, end: int) -> Sequence[int]:
        """The sizes that the file has while the kernel carries out a write.

        Under `calls=paged` the ends of the pages between the old end and the new
        one; those of a hole, too, because another write may fill that. Of a very
        large hole only the last `_HOLE` bytes.
        """
        if self._life.model.calls == "whole" or end <= _PAGE:
            return ()
        old = self._life.size(self._node)
        low = max(old, offset - _HOLE)
        return range((low // _PAGE + 1) * _PAGE, end, _PAGE)

    def _resize(self, size: int) -> None:
        self._life.resize(self._node, size)
        self._trace.data.append(
            Truncate(self._path, self._node.inode, size, site(self._trace.plumbing))
        )

    def _write(self, offset: int, data: bytes) -> None:
        self._life.write(self._node, offset, data)
        self._trace.data.append(
            Write(
                self._path, self._node.inode, offset, data, site(self._trace.plumbing)
            )
        )

    def ftruncate(self, size: int, /) -> None:
        """Set the file's size; bytes added read as zero."""
        self._check()
        if self._read_only or size < 0:
            raise failed(errno.EINVAL, self._path)
        self._writable()
        if self._life.model.calls == "paged" and size % _PAGE:
            # Its last page is cut by writing zeros behind the new end.
            end = min(self._life.size(self._node), -(-size // _PAGE) * _PAGE)
            if end > size:
                self._write(size, bytes(end - size))
        self._resize(size)

    def fdatasync(self) -> None:
        """Make the file's data, and the size needed to read it, durable.

        Raises:
            OSError: `Disk.fail_sync` said so, or an earlier failure is
                reported only now.
        """
        self._sync("fdatasync")

    def fsync(self) -> None:
        """Make the file's data and all its metadata durable.

        Raises:
            OSError: As `fdatasync`.
        """
        self._sync("fsync")

    def forget(self) -> None:
        """Have the system drop what it keeps of the file and need not write.

        It promises nothing: what is read stays the same here. It is an operation
        only where it makes a difference, under `fail=unwritten`.
        """
        self._check()
        if self._life.model.unwritten:
            self._trace.data.append(
                Forget(self._path, self._node.inode, site(self._trace.plumbing))
            )

    def _sync(self, kind: str) -> None:
        self._check()
        node, path = self._node, self._path
        result, number = self._life.sync(node, kind, path)
        self._trace.data.append(
            Sync(path, node.inode, kind, site(self._trace.plumbing), result)
        )
        if number:
            raise failed(number, path)

    def _writable(self) -> None:
        if self._life.read_only:
            raise failed(errno.EROFS, self._path)

    def size(self) -> int:
        """The file's present size."""
        self._check()
        return self._life.size(self._node)

    def lock(self, exclusive: bool, /) -> bool:
        """Try to take the lock of this open file; see flock(2).

        Taking it again converts it. A conversion that fails loses the lock
        that was held, as on Linux.
        """
        self._check()
        lockers = self._node.lockers
        lockers.pop(self, None)
        if (exclusive and lockers) or any(lockers.values()):
            return False
        lockers[self] = exclusive
        return True

    def unlock(self) -> None:
        """Release the lock."""
        self._check()
        self._node.lockers.pop(self, None)

    def claim(self) -> bool:
        """Try to take a lock of this process, as lockf(3) has them; always done.

        All lives under test are one process, which never gets in its own way.
        """
        self._check()
        return True

    @property
    def path(self) -> str:
        """What the file was called when it was opened."""
        return self._path

    def identity(self) -> tuple[int, int]:
        """(device, inode): two open files are one file when these are equal."""
        self._check()
        return 1, self._node.inode

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._node.lockers.pop(self, None)
