"""Pages in the making: records to the bytes of the file, the way back of `decoding`.

    keys and values    --> header, element table, key, value, key, value ...
    keys and children  --> header, element table, key, key ...
    ids                --> header, ids

A page is encoded without the zeros behind its content: who writes it fills it up.

An element table says nothing but sizes, so tables are remembered by sizes; pages of
pairs of one size share one. A branch is mostly written again with other children
behind the same keys, and then its old bytes are taken (`encode_moved`).

Source: bbolt internal/common/inode.go, node.go write.
"""

from __future__ import annotations

import struct
from itertools import accumulate, repeat
from operator import add, sub
from typing import TYPE_CHECKING, Final

from shearbolt.pages.format import (
    BRANCH,
    BUCKET_LEAF,
    COUNT_OVERFLOW,
    ELEMENT_SIZE,
    FREELIST,
    HEADER,
    LEAF,
    OWN_CHILD,
    PAGE_HEADER_SIZE,
    BucketValue,
    FormatError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "SIZES",
    "encode_bodies",
    "encode_body",
    "encode_branch",
    "encode_bucket",
    "encode_freelist",
    "encode_freelist_body",
    "encode_inline_bucket",
    "encode_leaf",
    "encode_moved",
    "freelist_size",
    "leaf_table",
]

SIZES: Final = struct.Struct("<II")
"""Of a pair: its key's size and its value's, the second half of its table entry."""

_PGID: Final = struct.Struct("<Q")
_OVERFLOW: Final = struct.Struct("<I")
_BUCKET: Final = struct.Struct("<QQ")

# -- trees -----------------------------------------------------------------------

# Element tables by the sizes they describe. Encoding 15 pairs takes 3 us with this
# and 6 us without.
_Shape = tuple[tuple[int, ...], tuple[int, ...], tuple[type[bytes], ...]]
_tables: Final[dict[_Shape, bytes]] = {}
_MAX_TABLES: Final = 512
_MAX_TABLE: Final = 4096
"""Bytes of a table worth remembering: 256 elements. Together at most 6 MiB."""


# The same by sizes that are bytes.
_pair_tables: Final[dict[bytes, bytes]] = {}


def encode_leaf(
    pgid: int,
    overflow: int,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    has_buckets: bool | None = None,
) -> bytes:
    """A leaf page without the zeros behind its content.

    Args:
        pgid: The page.
        overflow: Pages behind it.
        keys: Sorted.
        values: One a key.
        has_buckets: Whether any value is a bucket, if that is known.

    Raises:
        FormatError: 65,535 elements or more, which the count cannot hold.
    """
    count = len(keys)
    if count >= COUNT_OVERFLOW:
        raise FormatError(f"{count} elements in one page, at most 65534 fit", 10)
    if has_buckets is None:
        has_buckets = BucketValue in map(type, values)
    kinds: tuple[type[bytes], ...] = tuple(map(type, values)) if has_buckets else ()
    shape = (tuple(map(len, keys)), tuple(map(len, values)), kinds)
    table = _tables.get(shape)
    if table is None:
        table = _leaf_table(shape)
    parts = [b""] * (2 * count + 2)
    parts[0] = HEADER.pack(pgid, LEAF, count, overflow)
    parts[1] = table
    parts[2::2] = keys
    parts[3::2] = values
    return b"".join(parts)


def encode_body(pgid: int, overflow: int, count: int, body: bytes) -> bytes:
    """A leaf page of which all but the header is bytes already.

    Args:
        pgid: The page.
        overflow: Pages behind the first one.
        count: Elements.
        body: `leaf_table`, and what it describes.
    """
    return HEADER.pack(pgid, LEAF, count, overflow) + body


def encode_bodies(
    pgids: Iterable[int], counts: Iterable[int], bodies: Iterable[bytes]
) -> Iterator[bytes]:
    """The same of many leaves, each in one page."""
    heads = map(HEADER.pack, pgids, repeat(LEAF), counts, repeat(0))
    return map(add, heads, bodies)


def leaf_table(sizes: bytes) -> bytes:
    """The element table of plain pairs.

    Args:
        sizes: `SIZES` of each pair.
    """
    table = _pair_tables.get(sizes)
    if table is None:
        fields = struct.unpack(f"<{len(sizes) // 4}I", sizes)
        table = _leaf_table((fields[0::2], fields[1::2], ()))
        if len(table) <= _MAX_TABLE:
            if len(_pair_tables) >= _MAX_TABLES:
                _pair_tables.clear()
            _pair_tables[sizes] = table
    return table


def _leaf_table(shape: _Shape) -> bytes:
    """The element table of a leaf of this shape."""
    key_sizes, value_sizes, kinds = shape
    count = len(key_sizes)
    fields = [0] * (4 * count)
    fields[1::4] = _positions(list(map(add, key_sizes, value_sizes)))
    fields[2::4] = key_sizes
    fields[3::4] = value_sizes
    for index, kind in enumerate(kinds):
        if kind is BucketValue:
            fields[4 * index] = BUCKET_LEAF
    table = struct.pack(f"<{4 * count}I", *fields)
    if len(table) <= _MAX_TABLE:
        if len(_tables) >= _MAX_TABLES:
            _tables.clear()
        _tables[shape] = table
    return table


def _positions(sizes: Sequence[int]) -> list[int]:
    """Where elements of these sizes begin, each counted from its own header."""
    table = ELEMENT_SIZE * len(sizes)
    ends = accumulate(sizes, initial=table)
    return list(map(sub, ends, range(0, table, ELEMENT_SIZE)))


def encode_branch(
    pgid: int, overflow: int, keys: Sequence[bytes], children: Sequence[int]
) -> bytes:
    """A branch page without the zeros behind its content.

    Raises:
        FormatError: 65,535 elements or more, or a page that is its own child.
    """
    count = len(keys)
    if count >= COUNT_OVERFLOW:
        raise FormatError(f"{count} elements in one page, at most 65534 fit", 10)
    if pgid in children:
        raise FormatError(OWN_CHILD, PAGE_HEADER_SIZE)
    sizes = tuple(map(len, keys))
    heads = _branch_heads.get(sizes)
    if heads is None:
        heads = _branch_table(sizes)
    fields = [0] * (2 * count)
    fields[0::2] = heads
    fields[1::2] = children
    table = struct.pack(f"<{2 * count}Q", *fields)
    return b"".join([HEADER.pack(pgid, BRANCH, count, overflow), table, *keys])


# Position and size of every element as one number, by the sizes. Encoding 63 keys
# takes 6 us with this and 15 us without.
_branch_heads: Final[dict[tuple[int, ...], tuple[int, ...]]] = {}
_MAX_BRANCH_HEADS: Final = 64
"""At most 256 elements each: together at most 1 MiB."""


def _branch_table(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The first eight bytes of every element of a branch of these key sizes."""
    heads = tuple(
        position | size << 32
        for position, size in zip(_positions(sizes), sizes, strict=True)
    )
    if ELEMENT_SIZE * len(sizes) <= _MAX_TABLE:
        if len(_branch_heads) >= _MAX_BRANCH_HEADS:
            _branch_heads.clear()
        _branch_heads[sizes] = heads
    return heads


def encode_moved(
    data: bytes, pgid: int, overflow: int, moved: Iterable[tuple[int, int]]
) -> bytes:
    """A branch page of which only children have moved: its old bytes, and these.

    Every commit writes the branches above what it changes. Encoding one of 63 keys
    anew takes 6 us and touches all of them; this takes 0.5.

    Args:
        data: The old page.
        pgid: The new one.
        overflow: Pages behind it.
        moved: Which children (by position), and where they are now.
    """
    page = bytearray(data)
    _PGID.pack_into(page, 0, pgid)
    _OVERFLOW.pack_into(page, 12, overflow)
    for index, child in moved:
        _PGID.pack_into(page, PAGE_HEADER_SIZE + ELEMENT_SIZE * index + 8, child)
    return bytes(page)


# -- freelists -------------------------------------------------------------------


def freelist_size(count: int) -> int:
    """Bytes of a freelist page of so many ids (bbolt EstimatedWritePageSize)."""
    return PAGE_HEADER_SIZE + 8 * (count + (count >= COUNT_OVERFLOW))


def encode_freelist(pgid: int, overflow: int, ids: Sequence[int]) -> bytes:
    """A freelist page without the zeros behind its content; `ids` are sorted."""
    body = struct.pack(f"<{len(ids)}Q", *ids)
    return encode_freelist_body(pgid, overflow, body)


def encode_freelist_body(pgid: int, overflow: int, body: bytes) -> bytes:
    """The same from ids that are bytes already."""
    return freelist_head(pgid, overflow, len(body) // 8) + body


def freelist_head(pgid: int, overflow: int, count: int) -> bytes:
    """What stands before so many ids in a freelist page."""
    if count < COUNT_OVERFLOW:
        return HEADER.pack(pgid, FREELIST, count, overflow)
    head = HEADER.pack(pgid, FREELIST, COUNT_OVERFLOW, overflow)
    return head + count.to_bytes(8, "little")


# -- buckets ---------------------------------------------------------------------


def encode_bucket(root: int, sequence: int) -> BucketValue:
    """The value under a bucket's name when the bucket has pages of its own."""
    return BucketValue(_BUCKET.pack(root, sequence))


def encode_inline_bucket(
    sequence: int, keys: Sequence[bytes], values: Sequence[bytes]
) -> BucketValue:
    """The value under a bucket's name when the bucket lives in that value."""
    return BucketValue(_BUCKET.pack(0, sequence) + encode_leaf(0, 0, keys, values))
