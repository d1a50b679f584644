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

from dataclasses import dataclass, replace

__all__ = ["BLOCK", "Blocks"]

BLOCK = 4096
"""Bytes of a block of the file system."""

_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of one file. They are kept under `fail=unwritten` only.

    Attributes:
        found: So many a life has found: as far as that all are old.
        old: Those behind these that are old.
        dirty: Written since the last sync.
        marked: Those that are stuck for good.
    """

    found: int = 0
    old: frozenset[int] = _NONE
    dirty: frozenset[int] = _NONE
    marked: frozenset[int] = _NONE

    @classmethod
    def of(cls, size: int) -> Blocks:
        """Those of a file that is found with so many bytes."""
        return cls(-(-size // BLOCK))

    def written(self, start: int, end: int) -> Blocks:
        """What they are when bytes [start, end) are written."""
        these = range(start // BLOCK, -(-end // BLOCK))
        return replace(self, dirty=self.dirty.union(these))

    def cut(self, size: int) -> Blocks:
        """When the file ends at `size`: what is behind is given back."""
        end = -(-size // BLOCK)
        old, dirty, marked = (
            frozenset(one for one in some if one < end)
            for some in (self.old, self.dirty, self.marked)
        )
        return Blocks(min(self.found, end), old, dirty, marked)

    def synced(self) -> Blocks:
        """When a sync has worked."""
        old = self.old | (self.dirty - self.marked)
        return Blocks(self.found, old, _NONE, self.marked)

    def failed(self) -> Blocks:
        """When a sync has failed."""
        new = {one for one in self.dirty - self.old if one >= self.found}
        return Blocks(self.found, self.old, _NONE, self.marked | new)

    def forgotten(self) -> Blocks:
        """When the system forgets pages that need not be written."""
        return replace(self, marked=self.marked & self.dirty)
