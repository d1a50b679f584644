"""A file whose every sync is made twice, for disks that report failures late.

With ext4's data=journal a sync whose writes fail returns success, and the error comes
out of the *next* sync (Rebello et al., "Can Applications Recover from fsync
Failures?", ATC 2020). A commit that waits for one sync is acknowledged and lost. A
second sync right behind the first has nothing to write, so nothing of its own to
hide: when it succeeds, the first one did.

It costs about half of a sync more for each sync. It does not help against a disk
that reports no failure at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shearbolt.storage import File

__all__ = ["SyncedTwice"]

_BESIDE: Final = (
    *("ask", "begin_writing", "forget"),
    *("read_ahead", "removed", "stands_at", "stored"),
)
"""What a file may have beside the protocol (`shearbolt.storage`)."""


class SyncedTwice:
    """A `shearbolt.storage.File` around another one.

    What that has beside the protocol this one has, too, and nothing else.
    """

    __slots__ = ("_file", "pread", *_BESIDE)

    def __init__(self, file: File) -> None:
        self._file = file
        # Reads are the hot path: no call in between.
        self.pread = file.pread
        for name in _BESIDE:
            if hasattr(file, name):
                setattr(self, name, getattr(file, name))

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        """As the file's."""
        return self._file.pwritev(buffers, offset)

    def ftruncate(self, size: int, /) -> None:
        """As the file's."""
        self._file.ftruncate(size)

    def fdatasync(self) -> None:
        """Sync the data, and hear what that sync kept back."""
        self._file.fdatasync()
        self._file.fdatasync()

    def fsync(self) -> None:
        """The same for data and metadata."""
        self._file.fsync()
        self._file.fsync()

    def size(self) -> int:
        """As the file's."""
        return self._file.size()

    def lock(self, exclusive: bool, /) -> bool:
        """As the file's."""
        return self._file.lock(exclusive)

    def unlock(self) -> None:
        """As the file's."""
        self._file.unlock()

    def identity(self) -> tuple[int, int]:
        """As the file's."""
        return self._file.identity()

    def close(self) -> None:
        """As the file's."""
        self._file.close()
