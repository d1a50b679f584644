"""Which blocks of a file were never written with success: `fail=unwritten`.

Theory
======
A file system that gives out a block before its data have come marks it, and until the
mark is taken away the block reads as zeros after a crash (ext4):

    new      no write of it is durable: behind the end, or a hole
    marked   it was new, and a sync has failed that was to write it
    old      a sync of what was written there has worked

    new ---write, sync ok----> old             forget: what is not dirty
    new ---write, sync fails-> marked --forget, cut--> new

Written again, a marked block stays marked, whatever its syncs return: the page counts
as one that has its place. So it is stuck for good. Blocks that a life finds are old.

What it is not: it knows no contents (`file_image`).
"""

from __future__ import annotations

__all__ = ["BLOCK", "Blocks"]

BLOCK = 4096
"""Bytes of a block of the file system."""


class Blocks:
    """The blocks of one file. They are kept under `fail=unwritten` only.

    Args:
        size: Bytes that the file has when it is found: as far as that all are old.

    Attributes:
        marked: Those that are stuck for good.
    """

    __slots__ = ("_dirty", "_found", "_old", "marked")

    def __init__(self, size: int) -> None:
        self._found = -(-size // BLOCK)
        # Behind those that were found; written since the last sync.
        self._old: frozenset[int] = frozenset()
        self._dirty: frozenset[int] = frozenset()
        self.marked: frozenset[int] = frozenset()

    def write(self, start: int, end: int) -> None:
        """Bytes [start, end) are written."""
        self._dirty |= frozenset(range(start // BLOCK, -(-end // BLOCK)))

    def cut(self, size: int) -> None:
        """The file ends at `size` now: what is behind is given back."""
        end = -(-size // BLOCK)
        self._found = min(self._found, end)
        self._old = frozenset(one for one in self._old if one < end)
        self._dirty = frozenset(one for one in self._dirty if one < end)
        self.marked = frozenset(one for one in self.marked if one < end)

    def sync(self) -> None:
        """A sync has worked."""
        self._old |= self._dirty - self.marked
        self._dirty = frozenset()

    def fail(self) -> None:
        """A sync has failed."""
        new = {one for one in self._dirty - self._old if one >= self._found}
        self.marked |= new
        self._dirty = frozenset()

    def forget(self) -> None:
        """The system forgets pages that need not be written."""
        self.marked &= self._dirty

    def fork(self) -> Blocks:
        """A copy to advance independently."""
        made = Blocks(0)
        made._found = self._found
        made._old = self._old
        made._dirty = self._dirty
        made.marked = self.marked
        return made
