"""Bytes of a file to pages, freelists and buckets.

    table of elements --seen before?--> layout: how to cut the content, and where
                  `--new--> verified: sizes and positions must say the same

Every count and position is checked against the bytes that are there, so that a
damaged page ends in `FormatError`. All of a page's content is cut with one call into
C, and the tables that were verified last are remembered, because pages with pairs of
one size have the same.

The way back is in `encoding`; what the bytes mean is in `format`.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from operator import add, lt
from typing import TYPE_CHECKING, Final

from shearbolt.pages.format import (
    BUCKET_HEADER_SIZE,
    BUCKET_LEAF,
    COUNT_OVERFLOW,
    ELEMENT_SIZE,
    HEADER,
    LEAF,
    MAX_VALUE_SIZE,
    PAGE_HEADER_SIZE,
    Branch,
    BucketValue,
    FormatError,
    Header,
    Leaf,
    leaf_cost,
    page_kind,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "decode_branch",
    "decode_bucket",
    "decode_freelist",
    "decode_leaf",
    "decode_usual_leaf",
    "decode_usual_leaves",
    "leaf_body",
    "names_buckets",
    "table_content",
]

_IDS: Final = 1 << 17
"""Ids of a freelist that are read at once: 1 MiB."""

_BUCKET: Final = struct.Struct("<QQ")
_ELEMENT: Final = struct.Struct("<IIII")
"""A leaf element's fields: flags, place, size of the key, size of the value."""

# What element tables say, by their bytes. Leaf pages with pairs of one size have
# the same table, and verifying it again costs more than looking it up: decoding 15
# pairs of 16 and 100 bytes takes 3 us with this and 8 us without. A table is a
# pure description, so what was right about its bytes once is right for ever.
_Layout = tuple[
    "Callable[[bytes, int], tuple[bytes, ...]]", int, int, tuple[int, ...], int
]
_layouts: Final[dict[bytes, _Layout]] = {}
_MAX_LAYOUTS: Final = 512
_MAX_LAYOUT_TABLE: Final = 4096
"""Bytes of a table worth remembering: 256 elements. Together at most 6 MiB."""


def decode_leaf(
    pgid: int,
    count: int,
    overflow: int,
    read: Callable[[int, int], bytes],
    limit: int,
) -> Leaf:
    """Read a leaf page's body.

    Args:
        pgid: The page, for the record.
        count: Elements, from the header.
        overflow: Pages behind the first, from the header.
        read: `read(start, length)` gives those bytes of the page run.
        limit: Length of the page run in bytes.

    Raises:
        FormatError: The elements are not packed, or leave the page run.
    """
    if not count:
        return Leaf(pgid, overflow, (), (), leaf_cost(0, 0))
    start = PAGE_HEADER_SIZE + ELEMENT_SIZE * count
    if start > limit:
        raise FormatError(f"{count} elements do not fit the page", 10)
    table = read(PAGE_HEADER_SIZE, ELEMENT_SIZE * count)
    layout = _layouts.get(table)
    if layout is None:
        layout = _leaf_layout(count, table)
    cut, start, length, buckets, cost = layout
    if start + length > limit:
        raise _too_long()
    parts = cut(read(start, length), 0)
    values = parts[1::2]
    if buckets:
        named = list(values)
        for index in buckets:
            named[index] = BucketValue(named[index])
        values = tuple(named)
    return Leaf(pgid, overflow, parts[0::2], values, cost, has_buckets=bool(buckets))


def decode_usual_leaf(pgid: int, data: bytes, at: int, page_size: int) -> Leaf | None:
    """The leaf page that stands at a place of these bytes, when that is quickly said.

    Its element table must be one that was seen before, without buckets, and the
    bytes must have all of it. None otherwise: `decode_leaf` says what is the matter.
    A cold scan takes 1.2 us a page less with this.
    """
    if at + PAGE_HEADER_SIZE > len(data):
        return None
    stamp, flags, count, overflow = HEADER.unpack_from(data, at)
    table = at + PAGE_HEADER_SIZE
    layout = _layouts.get(data[table : table + ELEMENT_SIZE * count])
    if layout is None or stamp != pgid or flags != LEAF or overflow:
        return None
    cut, start, length, buckets, cost = layout
    if buckets or start + length > page_size or at + start + length > len(data):
        return None
    parts = cut(data, at + start)
    return Leaf(pgid, 0, parts[0::2], parts[1::2], cost, False)


def decode_usual_leaves(
    ids: Iterable[int], data: bytes, start: int, page_size: int
) -> Iterator[Leaf]:
    """Those of these leaf pages of which the same is quickly said, keys in order.

    Calls for every single page are a ninth of a cold scan. What is wrong with the
    others is not said: whoever comes to them finds out.

    Args:
        ids: Pages.
        data: A piece of the file.
        start: Its place there.
        page_size: Bytes a page.
    """
    last = len(data) - page_size
    for pgid in ids:
        at = pgid * page_size - start
        if not 0 <= at <= last:
            continue
        stamp, flags, count, overflow = HEADER.unpack_from(data, at)
        table = at + PAGE_HEADER_SIZE
        layout = _layouts.get(data[table : table + ELEMENT_SIZE * count])
        if layout is None or stamp != pgid or flags != LEAF or overflow:
            continue
        cut, begin, length, buckets, cost = layout
        if buckets or begin + length > page_size:
            continue
        parts = cut(data, at + begin)
        keys = parts[0::2]
        behind = iter(keys)
        next(behind, None)
        if all(map(lt, keys, behind)):
            yield Leaf(pgid, 0, keys, parts[1::2], cost, False)


def names_buckets(table: bytes) -> bool:
    """Whether a leaf's element table says of any value that it is a bucket."""
    layout = _layouts.get(table)
    if layout is not None:
        return bool(layout[3])
    flags = struct.unpack(f"<{len(table) // 4}I", table)[0::4]
    return any(flag & BUCKET_LEAF for flag in flags)


def leaf_body(body: bytes) -> tuple[int, bytes]:
    """How many pairs a leaf page made here has, and its first key.

    Args:
        body: The page behind its header, of one pair at least.
    """
    _, start, size, _ = _ELEMENT.unpack_from(body)
    return start // ELEMENT_SIZE, body[start : start + size]


def table_content(count: int, table: bytes) -> tuple[int, int] | None:
    """Where in the page the content is that a leaf's element table describes.

    Returns:
        Start and length; None when the table is damaged or says that there are buckets.
    """
    try:
        layout = _layouts.get(table) or _leaf_layout(count, table)
    except FormatError:
        return None
    return None if layout[3] else layout[1:3]


def _leaf_layout(count: int, table: bytes) -> _Layout:
    """What a leaf's element table says of its content.

    Returns:
        How to cut it, its place in the page, its length, which are buckets, and what
        the leaf will cost: one number for all of them, not one more object a page.

    Raises:
        FormatError: The elements are not packed.
    """
    fields = struct.unpack(f"<{4 * count}I", table)
    key_sizes, value_sizes = fields[2::4], fields[3::4]
    if max(value_sizes) > MAX_VALUE_SIZE:
        index = value_sizes.index(max(value_sizes))
        raise FormatError(
            f"element {index} has a value of {value_sizes[index]} bytes",
            PAGE_HEADER_SIZE + ELEMENT_SIZE * index,
        )
    start, length = _content(fields[1::4], list(map(add, key_sizes, value_sizes)))
    sizes = [0] * (2 * count)
    sizes[0::2] = key_sizes
    sizes[1::2] = value_sizes
    flags = fields[0::4]
    buckets: tuple[int, ...] = ()
    if any(flags):
        buckets = tuple(i for i, flag in enumerate(flags) if flag & BUCKET_LEAF)
    layout = (_cutter(sizes), start, length, buckets, leaf_cost(count, length))
    if len(table) <= _MAX_LAYOUT_TABLE:
        if len(_layouts) >= _MAX_LAYOUTS:
            _layouts.clear()
        _layouts[table] = layout
    return layout


def _cutter(sizes: Sequence[int]) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """Cuts bytes from a place on into pieces of these sizes, with one call into C."""
    return struct.Struct("%ds" * len(sizes) % tuple(sizes)).unpack_from


def _content(positions: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
    """Where in the page the content of all elements is: start and length.

    All writers pack it without gaps and in order (bbolt node.go write), which
    makes positions a second copy of the sizes. A page where the two differ is
    damaged: without this check one flipped bit in a size would be another
    value, without a word. It costs 70 ns an element and buys one unpack for
    all of them.

    Before the first element there may be a gap of whole table entries:
    `bbolt surgery clear-page-elements` lowers the count and moves nothing.

    Raises:
        FormatError: It is not packed.
    """
    table = ELEMENT_SIZE * len(positions)
    begins = list(map(add, positions, range(0, table, ELEMENT_SIZE)))
    start = begins[0]
    ends = list(accumulate(sizes, initial=start))
    end = ends.pop()
    if start < table or start % ELEMENT_SIZE:
        raise FormatError(
            "element 0 does not begin where the element table ends", PAGE_HEADER_SIZE
        )
    if begins != ends:
        index = next(i for i, begin in enumerate(begins) if begin != ends[i])
        raise FormatError(
            f"element {index} does not begin where the one before it ends",
            PAGE_HEADER_SIZE + ELEMENT_SIZE * index,
        )
    return PAGE_HEADER_SIZE + start, end - start


def _too_long() -> FormatError:
    return FormatError("the last element ends behind the page", PAGE_HEADER_SIZE)


def decode_branch(
    pgid: int,
    count: int,
    overflow: int,
    read: Callable[[int, int], bytes],
    limit: int,
) -> Branch:
    """Read a branch page's body; arguments as for `decode_leaf`.

    Raises:
        FormatError: No elements, not packed, or outside the page run.
    """
    if not count:
        raise FormatError("a branch page without elements", 10)
    start = PAGE_HEADER_SIZE + ELEMENT_SIZE * count
    if start > limit:
        raise FormatError(f"{count} elements do not fit the page", 10)
    fields = struct.unpack("<" + "IIQ" * count, read(PAGE_HEADER_SIZE, start - 16))
    sizes = fields[1::3]
    start, length = _content(fields[0::3], sizes)
    if start + length > limit:
        raise _too_long()
    keys = list(_cutter(sizes)(read(start, length), 0))
    return Branch(pgid, overflow, keys, list(fields[2::3]), length)


def decode_freelist(
    count: int, read: Callable[[int, int], bytes], limit: int
) -> list[int]:
    """Read a freelist page's ids, in the order they stand there.

    Raises:
        FormatError: More ids than the page run can hold, or nothing but zeros where
            many of them should be.
    """
    skip = 0
    if count == COUNT_OVERFLOW:
        skip = 8
        (count,) = struct.unpack("<Q", read(PAGE_HEADER_SIZE, 8))
    if PAGE_HEADER_SIZE + skip + 8 * count > limit:
        raise FormatError(f"{count} free page ids do not fit the page", 10)
    # Piece by piece: of what a damaged count says a sparse file may have a terabyte.
    ids: list[int] = []
    at = PAGE_HEADER_SIZE + skip
    while count:
        piece = min(count, _IDS)
        data = read(at, 8 * piece)
        if piece == _IDS and not any(data):
            raise FormatError(f"zeros where {count} more free page ids should be", at)
        ids += struct.unpack(f"<{piece}Q", data)
        at += 8 * piece
        count -= piece
    return ids


def decode_bucket(value: bytes) -> tuple[int, int, Leaf | None]:
    """Root page, sequence and, when the root is 0, the inline page.

    Raises:
        FormatError: Too short, or an inline page that is no leaf, is damaged
            or holds a bucket.
    """
    if len(value) < BUCKET_HEADER_SIZE:
        raise FormatError(f"a bucket of {len(value)} bytes, 16 are needed")
    root, sequence = _BUCKET.unpack_from(value)
    if root:
        return root, sequence, None
    body = value[BUCKET_HEADER_SIZE:]
    header = Header.decode(body)
    if header.flags != LEAF:
        raise FormatError(f"an inline bucket whose page is {page_kind(header.flags)}")
    # Plain bytes: slices of a BucketValue would be slices of the subclass's
    # content anyway, but its type must not leak into keys and values.
    data = bytes(body)

    def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    page = decode_leaf(0, header.count, 0, read, len(data))
    if page.has_buckets:
        # No writer makes it, and every level would hold a copy of those below:
        # a nest of 20,000 levels fits 1 MiB of file and would take 10 GiB.
        raise FormatError("an inline bucket that holds a bucket")
    return root, sequence, page
