"""What the pages of a node that is cut are made of, block by block.

    pieces: "how large are elements [0, 1024)?" --> a block: records, or keys and values
                                                    side by side, and the sizes of both
            "[0, 15), [15, 30) ... are pages"   --> their bytes: table, content

A leaf that took a hundred thousand pairs becomes seven thousand pages. Each of them by
itself takes sizes from thirty objects, looks up their values, has its number given and
tells its parent. A block does these for sixty pages at once, while what it looks at is
in the processor's cache, and its pages are kept as bytes: as objects they would be
looked at by the collector of cycles, page by page.

Pairs whose keys are of one size come as `records`; others have their keys sorted and
their values looked up. A leaf with buckets among its values is rare and small: its
pages are made of pairs.
"""

from __future__ import annotations

import struct
from itertools import repeat
from operator import add, sub
from typing import TYPE_CHECKING

from shearbolt.pages.encoding import SIZES, leaf_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shearbolt.pages.newpages import NewPages
    from shearbolt.tree.cut import Piece
    from shearbolt.tree.leafpairs import LeafPairs

__all__ = ["BranchContent", "LeafContent"]


class LeafContent:
    """The pairs of a leaf.

    Attributes:
        pairs: The pairs.
        count: How many.
        each: Bytes of every pair; 0: they differ, or nobody knows.
    """

    __slots__ = (
        "_base",
        "_key_size",
        "_parts",
        "_records",
        "_sizes",
        "count",
        "each",
        "pairs",
    )

    def __init__(self, pairs: LeafPairs) -> None:
        self.pairs = pairs
        self.count = len(pairs)
        # How long all keys are, 0: there are no records; these.
        self._key_size = self.each = 0
        self._records: list[bytes] = []
        found = pairs.records()
        if found is not None:
            records, self._records = found
            self._key_size, self.each = records.key_size, records.each
        # A block's first element, its keys and values, side by side, or its records,
        # and `SIZES` of each pair.
        self._base = 0
        self._parts: Sequence[bytes] = ()
        self._sizes = b""

    def key(self, index: int) -> bytes:
        """A key by position, of the last block."""
        if self._key_size:
            return self._parts[index - self._base][: self._key_size]
        return self._parts[2 * (index - self._base)]

    def sizes(self, first: int, end: int) -> Iterable[int]:
        """Load a block; bytes of each pair."""
        self._base = first
        if self.each:
            self._parts = self._records[first:end]
            size = SIZES.pack(self._key_size, self.each - self._key_size)
            self._sizes = size * len(self._parts)
            return repeat(self.each, len(self._parts))
        if self._key_size:
            records = self._parts = self._records[first:end]
            lengths = list(map(len, records))
            sizes = [self._key_size] * (2 * len(lengths))
            sizes[1::2] = map(sub, lengths, repeat(self._key_size))
            self._sizes = struct.pack(f"<{len(sizes)}I", *sizes)
            return lengths
        keys, values = self.pairs.keys[first:end], self.pairs.values(first, end)
        parts = [b""] * (2 * len(keys))
        parts[0::2] = keys
        parts[1::2] = values
        sizes = list(map(len, parts))
        self._sizes = struct.pack(f"<{len(sizes)}I", *sizes)
        self._parts = parts
        return map(add, sizes[0::2], sizes[1::2])

    def write(
        self, pages: NewPages, cuts: list[Piece]
    ) -> tuple[list[bytes], list[int]]:
        """Make pages of pieces of the last block.

        Args:
            pages: Where.
            cuts: The pieces.

        Returns:
            The first key of each, and its page's id.
        """
        base, parts, sizes = self._base, self._parts, self._sizes
        if self.pairs.has_buckets:
            pgids = [
                pages.write_leaf(
                    parts[2 * (first - base) : 2 * (end - base) : 2],
                    parts[2 * (first - base) + 1 : 2 * (end - base) : 2],
                    size,
                )
                for first, end, size in cuts
            ]
        else:
            each, width = SIZES.size, 1 if self._key_size else 2
            bodies, counts = [], []
            # Pairs of one size: pages of as many have the same table.
            known: dict[int, bytes] = {}
            for first, end, _ in cuts:
                at, to = first - base, end - base
                table = known.get(to - at)
                if table is None:
                    table = leaf_table(sizes[each * at : each * to])
                    if self.each:
                        known[to - at] = table
                bodies.append(b"".join([table, *parts[width * at : width * to]]))
                counts.append(to - at)
            pgids = pages.write_leaves(bodies, counts)
        return [self.key(first) for first, _, _ in cuts], pgids


class BranchContent:
    """The keys and children of a branch.

    Attributes:
        count: How many.
        each: As in `LeafContent`.
    """

    __slots__ = ("_children", "_keys", "count", "each")

    def __init__(self, keys: Sequence[bytes], children: Sequence[int]) -> None:
        self.count = len(keys)
        self.each = 0
        self._keys = keys
        self._children = children

    def sizes(self, first: int, end: int) -> Iterable[int]:
        """Bytes of each key."""
        return map(len, self._keys[first:end])

    def write(
        self, pages: NewPages, cuts: list[Piece]
    ) -> tuple[list[bytes], list[int]]:
        """As `LeafContent.write`."""
        keys, children = self._keys, self._children
        pgids = [
            pages.write_branch(keys[first:end], children[first:end], size)
            for first, end, size in cuts
        ]
        return [keys[first] for first, _, _ in cuts], pgids
