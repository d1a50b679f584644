"""What the pages of a node that is cut are made of, block by block.

    pieces: "how large are elements [0, 1024)?" --> a block: keys, values, one behind
                                                    the other in one piece of bytes
            "[0, 15) are one, [15, 30) ..."     --> a page: table, a slice of it

A leaf that took a hundred thousand pairs becomes seven thousand pages. Each of them by
itself takes sizes from thirty objects, looks up their table, puts thirty-two buffers
together and keeps the objects for the cache, which the collector of cycles then looks
at, page by page. A block does the first three for sixty pages at once, and its pages
are kept as bytes.

A leaf with buckets among its values is rare and small: its pages are made of pairs.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING

from shearbolt.format import ELEMENT_SIZE
from shearbolt.thinned import SIZES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shearbolt.leafpairs import LeafPairs
    from shearbolt.newpages import NewPages

__all__ = ["BranchContent", "LeafContent"]


class LeafContent:
    """The pairs of a leaf.

    Attributes:
        pairs: The pairs.
        keys: All keys.
    """

    __slots__ = (
        "_at",
        "_base",
        "_content",
        "_plain",
        "_rest",
        "_sizes",
        "_source",
        "keys",
        "pairs",
    )

    def __init__(self, pairs: LeafPairs) -> None:
        self.pairs = pairs
        self.keys = pairs.keys
        self._plain = not pairs.has_buckets
        # Where values come from when they lie in order, and those of the last block.
        self._source = pairs.in_order()
        self._rest: list[bytes] = []
        # A block's first element, its content and how much of that is in pages, and
        # `SIZES` of each pair.
        self._base = self._at = 0
        self._content = self._sizes = b""

    def sizes(self, first: int, end: int) -> Iterable[int]:
        """Load a block; bytes of each pair."""
        keys, values = self.keys[first:end], self._load(first, end)
        fields = [0] * (2 * len(keys))
        fields[0::2] = map(len, keys)
        fields[1::2] = map(len, values)
        self._base = first
        if self._plain:
            parts = [b""] * len(fields)
            parts[0::2] = keys
            parts[1::2] = values
            self._content, self._at = b"".join(parts), 0
            self._sizes = struct.pack(f"<{len(fields)}I", *fields)
        return map(int.__add__, fields[0::2], fields[1::2])

    def _load(self, first: int, end: int) -> Sequence[bytes]:
        """Values [first, end), `first` being at or before the last block's end."""
        if self._source is None:
            return self.pairs.values(first, end)
        values = self._rest[first - self._base :]
        values += islice(self._source, end - first - len(values))
        self._rest = values
        return values

    def write(self, pages: NewPages, first: int, end: int, size: int) -> int:
        """Make a page of pairs [first, end), which come behind those before.

        Args:
            pages: Where.
            first: The first pair.
            end: Behind the last one.
            size: Bytes they take, their headers included.

        Returns:
            The page's id.
        """
        if not self._plain:
            return pages.write_leaf(
                self.keys[first:end], self.pairs.values(first, end), size
            )
        at, base = self._at, self._base
        self._at += size - ELEMENT_SIZE * (end - first)
        sizes = self._sizes[SIZES.size * (first - base) : SIZES.size * (end - base)]
        return pages.write_content(sizes, self._content[at : self._at])


class BranchContent:
    """The keys and children of a branch.

    Attributes:
        keys: All keys.
    """

    __slots__ = ("_children", "keys")

    def __init__(self, keys: Sequence[bytes], children: Sequence[int]) -> None:
        self.keys = keys
        self._children = children

    def sizes(self, first: int, end: int) -> Iterable[int]:
        """Bytes of each key."""
        return map(len, self.keys[first:end])

    def write(self, pages: NewPages, first: int, end: int, size: int) -> int:
        """As `LeafContent.write`."""
        return pages.write_branch(self.keys[first:end], self._children[first:end], size)
