"""The bbolt file format, version 2: bytes to records.

A file is an array of pages of one size, a power of two from 1 KiB to 64 KiB
(others' files: up to 16 MiB). Page N starts at byte N * page_size. A page that
needs more room goes on in the pages behind it, its overflow, which have no
header of their own. All numbers are little-endian.

    page      0        8     10     12          16
              +--------+-----+------+-----------+----------------------------
              | id u64 |flags|count | overflow  | body
              +--------+-----+------+-----------+----------------------------
    flags     0x01 branch   0x02 leaf   0x04 meta   0x10 freelist

    meta      pages 0 and 1, the one whose txid is higher and whose checksum
              is right is live
              16      20       24        28     32         40         48
              | magic | version| pagesize| flags| root pgid| sequence | ...
              48            56          64      72            80
              | freelist pgid| high-water mark| txid | FNV-1a of [16, 72) |

    branch    count x { pos u32, ksize u32, child pgid u64 }, then the keys
    leaf      count x { flags u32, pos u32, ksize u32, vsize u32 }, then
              key, value, key, value ... without gaps
              pos counts from the start of its own element.
              flags 1: the value is a bucket.

    freelist  sorted page ids, u64 each. 65,535 ids and more: count is 0xFFFF
              and the first u64 is the true number.

    bucket    a leaf value { root pgid u64, sequence u64 }. Root 0: the bucket
    (value)   is inline and a whole leaf page of id 0 follows.

The way back is in `encoding`; metas and headers, which have few fields, go both ways
here. This module knows bytes only. It opens no file and keeps no state; it checks
every count and position it reads against the bytes that are there, so that a
damaged page ends in `FormatError`, which the pager turns into a
`CorruptPageError` with path and offset.

Source: bbolt internal/common/{page,meta,bucket,inode}.go; facts that are not
plain from there are noted where they matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAGIC: Final = 0xED0CDAED
VERSION: Final = 2
NO_FREELIST: Final = 0xFFFF_FFFF_FFFF_FFFF
"""The meta's freelist pgid when the freelist is not kept in the file."""

BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04
FREELIST: Final = 0x10
BUCKET_LEAF: Final = 0x01
"""Flag of a leaf element whose value is a bucket."""

PAGE_HEADER_SIZE: Final = 16
ELEMENT_SIZE: Final = 16
BUCKET_HEADER_SIZE: Final = 16
META_SIZE: Final = 64
MIN_KEYS_PER_PAGE: Final = 2
MAX_KEY_SIZE: Final = 32768
MAX_VALUE_SIZE: Final = (1 << 31) - 2
COUNT_OVERFLOW: Final = 0xFFFF
"""A freelist's count field when the true number stands in its first slot."""

OWN_CHILD: Final = "a branch page that is its own child"
"""Why such a page is refused."""

MIN_PAGE_SIZE: Final = 1024
MAX_PAGE_SIZE: Final = 65536
MAX_FOREIGN_PAGE_SIZE: Final = 16 * 1024 * 1024
"""Largest page size bbolt finds again when meta 0 is damaged."""
MAX_TXID: Final = (1 << 63) - 1
"""Nobody gets here by committing; from 2**64 - 1 the next one would not fit."""

HEADER: Final = struct.Struct("<QHHI")
"""A page header's fields: page id, flags, count, overflow."""
_META: Final = struct.Struct("<IIIIQQQQQQ")
_META_SUM_AT: Final = 56
_BUCKET: Final = struct.Struct("<QQ")

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MAX_ZEROS: Final = 64
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_FNV_POWERS: Final = tuple(
    pow(_FNV_PRIME, steps, _U64 + 1) for steps in range(_MAX_ZEROS + 1)
)

_KINDS: Final = {BRANCH: "branch", LEAF: "leaf", META: "meta", FREELIST: "freelist"}


class FormatError(ValueError):
    """Bytes that are no page of the kind they should be.

    Attributes:
        at: Byte offset of the damage, from the start of the page.
    """

    def __init__(self, reason: str, at: int = 0) -> None:
        super().__init__(reason)
        self.at = at


class MetaError(FormatError):
    """A meta page that cannot be live.

    Attributes:
        kind: "invalid" (no magic), "version" or "checksum", tested in this order.
    """

    def __init__(self, kind: str, reason: str, at: int) -> None:
        super().__init__(reason, at)
        self.kind = kind


class BucketValue(bytes):
    """A leaf value that is a bucket. Its type is the leaf element's flag."""

    __slots__ = ()


def fnv1a(data: bytes) -> int:
    """64-bit FNV-1a, the meta page's checksum (Go hash/fnv New64a).

    A zero byte only multiplies, so zeros, most of a meta, are counted and take one
    step together: 2.7 us instead of 5.1.
    """
    h = _FNV_OFFSET
    zeros = 0
    for byte in data:
        if byte:
            if zeros:
                h = h * _FNV_POWERS[zeros] & _U64
                zeros = 0
            h = ((h ^ byte) * _FNV_PRIME) & _U64
        else:
            zeros += 1
            if zeros == _MAX_ZEROS:
                h = h * _FNV_POWERS[zeros] & _U64
                zeros = 0
    return h * _FNV_POWERS[zeros] & _U64


def page_kind(flags: int) -> str:
    """Bbolt's word for a page's flags, "unknown<hex>" for none it has."""
    return _KINDS.get(flags, f"unknown<{flags:02x}>")


# -- headers and metas -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """The 16 bytes every page run starts with."""

    pgid: int
    flags: int
    count: int
    overflow: int

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read a header.

        Raises:
            FormatError: Fewer than 16 bytes.
        """
        if len(data) < PAGE_HEADER_SIZE:
            raise FormatError("the file ends inside the page header")
        return cls(*HEADER.unpack_from(data))

    def encode(self) -> bytes:
        """The header's 16 bytes."""
        return HEADER.pack(self.pgid, self.flags, self.count, self.overflow)


@dataclass(frozen=True, slots=True)
class Meta:
    """One version of the database: where its tree and its freelist are.

    Attributes:
        page_size: Bytes a page.
        root: Page of the root bucket's tree.
        freelist: Page of the freelist, or `NO_FREELIST`.
        high_water_mark: The first page id never used so far.
        txid: The transaction that wrote it.
        sequence: The root bucket's sequence, always 0 in practice.
        flags: Always 0 when written by a database engine.
    """

    page_size: int
    root: int
    freelist: int
    high_water_mark: int
    txid: int
    sequence: int = 0
    flags: int = 0

    @property
    def slot(self) -> int:
        """The page this meta is written to, 0 or 1."""
        return self.txid % 2

    def with_txid(self, txid: int) -> Meta:
        """The same state under another transaction id."""
        return replace(self, txid=txid)

    def encode(self) -> bytes:
        """The 64 bytes of the meta, its checksum last."""
        body = _META.pack(
            MAGIC, VERSION, self.page_size, self.flags, self.root, self.sequence,
            self.freelist, self.high_water_mark, self.txid, 0,
        )[:_META_SUM_AT]  # fmt: skip
        return body + fnv1a(body).to_bytes(8, "little")

    def encode_page(self, slot: int) -> bytes:
        """The whole page: header, meta, zeros."""
        head = HEADER.pack(slot, META, 0, 0) + self.encode()
        return head.ljust(self.page_size, b"\0")

    @classmethod
    def decode(cls, data: bytes) -> Meta:
        """Read and verify the 64 bytes of a meta.

        The page header before them is not looked at, as in bbolt.

        Raises:
            MetaError: Wrong magic, version or checksum, tested in this order;
                or right, with numbers that cannot be.
        """
        if len(data) < META_SIZE:
            raise MetaError("invalid", "the file ends inside a meta page", 16)
        (
            magic, version, page_size, flags, root, sequence, freelist, hwm, txid,
            checksum,
        ) = _META.unpack_from(data)  # fmt: skip
        if magic != MAGIC:
            raise MetaError("invalid", "no bolt magic number", 16)
        if version != VERSION:
            raise MetaError("version", f"format version {version}, not {VERSION}", 20)
        if checksum != fnv1a(data[:_META_SUM_AT]):
            raise MetaError("checksum", "the meta page's checksum is wrong", 72)
        if page_size > MAX_FOREIGN_PAGE_SIZE:
            raise MetaError("invalid", f"a page size of {page_size} bytes", 24)
        if txid > MAX_TXID:
            raise MetaError("invalid", f"transaction {txid} cannot have been", 64)
        return cls(page_size, root, freelist, hwm, txid, sequence, flags)


# -- trees -----------------------------------------------------------------------


class Page:
    """A decoded leaf or branch page. Never changed after it was made.

    Attributes:
        is_leaf: Which of the two.
        pgid: Its page; 0 for an inline bucket.
        overflow: Pages behind the first one.
        keys: Sorted; a branch's are the lower bounds of its children.
        values: A leaf's, one a key; a `BucketValue` where the key names a bucket.
        children: A branch's child pages, one a key.
        has_buckets: Whether any value is a bucket.
        cost: What the page holds in memory, bytes, roughly.
        pairs: A root's index, see `lookup`; None: there is none.
    """

    __slots__ = (
        "children",
        "cost",
        "has_buckets",
        "is_leaf",
        "keys",
        "overflow",
        "pgid",
        "values",
    )

    is_leaf: bool
    pgid: int
    overflow: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    children: list[int]
    has_buckets: bool
    cost: int
    pairs: dict[bytes, bytes] | None = None

    def value_at(self, index: int) -> bytes:
        """A leaf's value by position."""
        return self.values[index]


_NO_CHILDREN: Final[list[int]] = []
_NO_VALUES: Final[list[bytes]] = []


class Leaf(Page):
    """A decoded leaf page.

    Tuples, because the collector of cycles looks at a tuple of bytes once and at a
    list for ever, and with it at every key and value: a cold scan of a million pairs
    takes 0.57 us a pair with this and 0.79 without.
    """

    __slots__ = ()

    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]

    def __init__(
        self,
        pgid: int,
        overflow: int,
        keys: tuple[bytes, ...],
        values: tuple[bytes, ...],
        *,
        has_buckets: bool,
        cost: int,
    ) -> None:
        self.is_leaf = True
        self.pgid = pgid
        self.overflow = overflow
        self.keys = keys
        self.values = values
        self.children = _NO_CHILDREN
        self.has_buckets = has_buckets
        self.cost = cost


class Branch(Page):
    """A decoded branch page.

    Attributes:
        data: Its bytes, when it was written here: most branches are written again
            with another child or two, see `encode_moved`.
        wait: Gets to come before a root gets an index; None: not decided. This
            and `pairs` are all that ever changes.
    """

    __slots__ = ("data", "pairs", "wait")

    keys: list[bytes]
    pairs: dict[bytes, bytes] | None
    wait: int | None

    def __init__(
        self,
        pgid: int,
        overflow: int,
        keys: list[bytes],
        children: list[int],
        data: bytes = b"",
    ) -> None:
        self.data = data
        self.is_leaf = False
        self.pgid = pgid
        self.overflow = overflow
        self.keys = keys
        self.values = _NO_VALUES
        self.children = children
        self.has_buckets = False
        self.cost = _OBJECT_COST + len(keys) * 96 + len(data)
        self.pairs = None
        self.wait = None


# Measured on CPython 3.11: a bytes object takes 33 bytes beside its content,
# rounded up to 16, and 8 in the list that holds it; the page object and its
# two tuples take about 300.
_OBJECT_COST: Final = 300
_PAIR_COST: Final = 96


def leaf_cost(count: int, content: int) -> int:
    """Memory of a decoded leaf of so many pairs and so many bytes of content."""
    return _OBJECT_COST + count * _PAIR_COST + content


# What element tables say, by their bytes. Leaf pages with pairs of one size have
# the same table, and verifying it again costs more than looking it up: decoding 15
# pairs of 16 and 100 bytes takes 3 us with this and 8 us without. A table is a
# pure description, so what was right about its bytes once is right for ever.
_Layout = tuple["Callable[[bytes, int], tuple[bytes, ...]]", int, int, tuple[int, ...]]
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
        return Leaf(pgid, overflow, (), (), has_buckets=False, cost=_OBJECT_COST)
    start = PAGE_HEADER_SIZE + ELEMENT_SIZE * count
    if start > limit:
        raise FormatError(f"{count} elements do not fit the page", 10)
    table = read(PAGE_HEADER_SIZE, ELEMENT_SIZE * count)
    layout = _layouts.get(table)
    if layout is None:
        layout = _leaf_layout(count, table)
    cut, start, length, buckets = layout
    if start + length > limit:
        raise _too_long()
    parts = cut(read(start, length), 0)
    values = parts[1::2]
    if buckets:
        named = list(values)
        for index in buckets:
            named[index] = BucketValue(named[index])
        values = tuple(named)
    return Leaf(
        pgid, overflow, parts[0::2], values,
        has_buckets=bool(buckets),
        cost=leaf_cost(count, length),
    )  # fmt: skip


def decode_usual_leaf(pgid: int, data: bytes, at: int, page_size: int) -> Leaf | None:
    """The leaf page that stands at a place of these bytes, when that is quickly said.

    Its element table must be one that was seen before, without buckets, and the
    bytes must have all of it. None otherwise: `decode_leaf` says what is the matter.
    A cold scan takes 2 us a page less with this.
    """
    if at + PAGE_HEADER_SIZE > len(data):
        return None
    stamp, flags, count, overflow = HEADER.unpack_from(data, at)
    table = at + PAGE_HEADER_SIZE
    layout = _layouts.get(data[table : table + ELEMENT_SIZE * count])
    if layout is None or stamp != pgid or flags != LEAF or overflow:
        return None
    cut, start, length, buckets = layout
    if buckets or start + length > page_size or at + start + length > len(data):
        return None
    parts = cut(data, at + start)
    return Leaf(
        pgid, 0, parts[0::2], parts[1::2],
        has_buckets=False,
        cost=leaf_cost(count, length),
    )  # fmt: skip


def _leaf_layout(count: int, table: bytes) -> _Layout:
    """What a leaf's element table says of its content.

    Returns:
        How to cut it, its place in the page, its length, which are buckets.

    Raises:
        FormatError: The elements are not packed.
    """
    fields = struct.unpack(f"<{4 * count}I", table)
    key_sizes, value_sizes = fields[2::4], fields[3::4]
    start, length = _content(fields[1::4], list(map(add, key_sizes, value_sizes)))
    sizes = [0] * (2 * count)
    sizes[0::2] = key_sizes
    sizes[1::2] = value_sizes
    flags = fields[0::4]
    buckets: tuple[int, ...] = ()
    if any(flags):
        buckets = tuple(i for i, flag in enumerate(flags) if flag & BUCKET_LEAF)
    layout = (_cutter(sizes), start, length, buckets)
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
    return Branch(pgid, overflow, keys, list(fields[2::3]))


def decode_freelist(
    count: int, read: Callable[[int, int], bytes], limit: int
) -> list[int]:
    """Read a freelist page's ids, in the order they stand there.

    Raises:
        FormatError: More ids than the page run can hold.
    """
    skip = 0
    if count == COUNT_OVERFLOW:
        skip = 8
        (count,) = struct.unpack("<Q", read(PAGE_HEADER_SIZE, 8))
    if PAGE_HEADER_SIZE + skip + 8 * count > limit:
        raise FormatError(f"{count} free page ids do not fit the page", 10)
    return list(struct.unpack(f"<{count}Q", read(PAGE_HEADER_SIZE + skip, 8 * count)))


# -- buckets ---------------------------------------------------------------------


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


def empty_database(page_size: int) -> bytes:
    """The four pages of a new database (bbolt db.go init).

    Two metas with txid 0 and 1, an empty freelist, an empty root leaf.
    """
    metas = [Meta(page_size, 3, 2, 4, txid).encode_page(txid) for txid in (0, 1)]
    freelist = HEADER.pack(2, FREELIST, 0, 0).ljust(page_size, b"\0")
    leaf = HEADER.pack(3, LEAF, 0, 0).ljust(page_size, b"\0")
    return b"".join([*metas, freelist, leaf])


def content_size(keys: Iterable[bytes], values: Iterable[bytes]) -> int:
    """Bytes of keys and values together."""
    return sum(map(len, keys)) + sum(map(len, values))
