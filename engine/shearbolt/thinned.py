"""What is left of a leaf that has only lost pairs: bytes, and their sizes.

A leaf page is header, element table, key, value, key, value ... If pairs are taken
out of it and none is put in, what is left is pieces of the old page, and the new one
is these with another table before them. So nothing need be known of a pair but its
sizes, once it is clear that it stays:

    page --the doomed keys--> content: what is left, in one piece
                              sizes: of each key and value, as the table has them
    thinned leaf + the next one = content + content, sizes + sizes

Half of all pairs of a large tree, as objects of their own that wait for the commit to
write them, lie in a hundred thousand places of memory. As pieces they lie in one place
a leaf, and the collector of cycles has nothing to do with them.

What it is not: it cannot be looked into and takes no pair. It comes into being when
the commit begins, when nobody will do either. What is too large for a page, or is
merged with a leaf of another kind, is cut into pairs again (`unpacked`).
"""

from __future__ import annotations

import struct
from itertools import chain, compress
from operator import lt
from typing import TYPE_CHECKING, Final, TypeAlias

from shearbolt.decoding import table_content
from shearbolt.format import ELEMENT_SIZE, HEADER, LEAF, PAGE_HEADER_SIZE
from shearbolt.leafpairs import LeafPairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shearbolt.format import Page

__all__ = ["SIZES", "Thinned", "thin_bytes"]

SIZES: Final = struct.Struct("<II")
"""Of a pair: its key's size and its value's, the second half of its table entry."""

# How to cut keys and pairs out of a page's bytes, `SIZES` of each, place and length of
# the content; by the bytes of the element table.
_Cut: TypeAlias = "Callable[[bytes, int], tuple[bytes, ...]]"
_Shape = tuple[_Cut, _Cut, tuple[bytes, ...], int, int]
_shapes: Final[dict[bytes, _Shape]] = {}
_MAX_SHAPES: Final = 512
_MAX_SHAPE_TABLE: Final = 4096
"""Bytes of a table worth remembering, as in `decoding`."""


class Thinned:
    """What is left of one leaf or of several neighbours, all of it plain pairs.

    Attributes:
        content: Keys and values, one behind the other.
        sizes: `SIZES` of each pair.
        first: The first key, b"" if there is none.
        last: The last one.
    """

    __slots__ = ("content", "first", "last", "sizes")

    def __init__(self, content: bytes, sizes: bytes, first: bytes, last: bytes) -> None:
        self.content = content
        self.sizes = sizes
        self.first = first
        self.last = last

    @classmethod
    def without(cls, page: Page, doomed: Iterable[bytes]) -> Thinned | None:
        """What is left of a page without these keys.

        Returns:
            None when it has none of them.
        """
        gone = set(doomed)
        kept = [key not in gone for key in page.keys]
        if all(kept):
            return None
        keys = list(compress(page.keys, kept))
        values = list(compress(page.values, kept))
        content = b"".join(chain.from_iterable(zip(keys, values, strict=True)))
        sizes = b"".join(map(SIZES.pack, map(len, keys), map(len, values)))
        return cls(content, sizes, *_ends(keys))

    def __len__(self) -> int:
        return len(self.sizes) // SIZES.size

    @property
    def size(self) -> int:
        """Bytes it takes when written, page header included."""
        elements = len(self.sizes) // SIZES.size * ELEMENT_SIZE
        return PAGE_HEADER_SIZE + elements + len(self.content)

    def absorb(self, other: Thinned) -> None:
        """Take over what is left of the next leaf."""
        if not self.sizes:
            self.first = other.first
        if other.sizes:
            self.last = other.last
        self.content += other.content
        self.sizes += other.sizes

    def unpacked(self) -> LeafPairs:
        """The same as pairs."""
        sizes = struct.unpack(f"<{len(self.sizes) // 4}I", self.sizes)
        pieces = struct.unpack("%ds" * len(sizes) % sizes, self.content)
        return LeafPairs(
            pieces[0::2],
            pieces[1::2],
            has_buckets=False,
            content=len(self.content),
        )


def _ends(keys: Sequence[bytes]) -> tuple[bytes, bytes]:
    return (keys[0], keys[-1]) if keys else (b"", b"")


def thin_bytes(
    pgid: int, data: bytes, at: int, page_size: int, doomed: Iterable[bytes]
) -> tuple[Thinned | None] | None:
    """As `Thinned.without`, of a page that need not be decoded for it.

    Args:
        pgid: The page.
        data: Bytes of the file.
        at: Where in them the page begins.
        page_size: Bytes a page.
        doomed: The keys.

    Returns:
        None when it is not quickly said: the page is no plain leaf of one page, is not
        there whole, or is damaged.
    """
    if at + PAGE_HEADER_SIZE > len(data):
        return None
    stamp, flags, count, overflow = HEADER.unpack_from(data, at)
    begin = at + PAGE_HEADER_SIZE
    table = data[begin : begin + ELEMENT_SIZE * count]
    shape = _shapes.get(table) or _shape(count, table)
    if shape is None or stamp != pgid or flags != LEAF or overflow:
        return None
    cut_keys, cut_pairs, sizes, start, length = shape
    start += at
    if start + length > min(len(data), at + page_size):
        return None
    keys = cut_keys(data, start)
    if not all(map(lt, keys, keys[1:])):
        return None
    gone = set(doomed)
    kept = [key not in gone for key in keys]
    if all(kept):
        return (None,)
    content = b"".join(compress(cut_pairs(data, start), kept))
    left = b"".join(compress(sizes, kept))
    return (Thinned(content, left, *_ends(list(compress(keys, kept)))),)


def _shape(count: int, table: bytes) -> _Shape | None:
    """How to cut what a verified element table describes; None if it is not to be."""
    if not count or len(table) < ELEMENT_SIZE * count or len(table) > _MAX_SHAPE_TABLE:
        return None
    place = table_content(count, table)
    if place is None:
        return None
    fields = struct.unpack(f"<{4 * count}I", table)
    pairs = list(zip(fields[2::4], fields[3::4], strict=True))
    keys = "".join(f"{key}s{value}x" for key, value in pairs)
    both = "".join(f"{key + value}s" for key, value in pairs)
    sizes = tuple(SIZES.pack(*pair) for pair in pairs)
    shape = (
        struct.Struct(keys).unpack_from,
        struct.Struct(both).unpack_from,
        sizes,
        *place,
    )
    if len(_shapes) >= _MAX_SHAPES:
        _shapes.clear()
    _shapes[table] = shape
    return shape
