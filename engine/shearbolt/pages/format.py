"""The bbolt file format, version 2: what the bytes mean, and the records they are.

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

Metas and headers, which have few fields, go both ways here. Pages are read in
`decoding` and written in `encoding`. All three know bytes only, open no file and
keep nothing that could be wrong later. What is damaged ends in `FormatError`, which
the pager turns into a `CorruptPageError` with path and offset.

Source: bbolt internal/common/{page,meta,bucket,inode}.go; facts that are not
plain from there are noted where they matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
_META_HEAD: Final = 16
"""Bytes of magic, version, page size and flags: the same in every meta of a file."""

# Their checksums: the rest of a meta takes 1.5 us less to sum up so.
_head_sums: Final[dict[bytes, int]] = {}
_MAX_HEADS: Final = 16
# And those of whole metas. A process that opens files again and again, as crash tests
# do, meets the same metas: of all they sum up seven of eight are known.
_meta_sums: Final[dict[bytes, int]] = {}
_MAX_METAS: Final = 512

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


def fnv1a(data: bytes, h: int = _FNV_OFFSET) -> int:
    """64-bit FNV-1a, the meta page's checksum (Go hash/fnv New64a).

    A zero byte only multiplies, so zeros, most of a meta, are counted and take one
    step together: 2.7 us instead of 5.1.

    Args:
        data: The bytes.
        h: The checksum of those before them.
    """
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


def _meta_sum(data: bytes) -> int:
    """The checksum of a meta: of all that stands before it."""
    body = data[:_META_SUM_AT]
    total = _meta_sums.get(body)
    if total is not None:
        return total
    if len(_meta_sums) >= _MAX_METAS:
        _meta_sums.clear()
    head = body[:_META_HEAD]
    known = _head_sums.get(head)
    if known is None:
        if len(_head_sums) >= _MAX_HEADS:
            _head_sums.clear()
        known = _head_sums[head] = fnv1a(head)
    total = _meta_sums[body] = fnv1a(body[_META_HEAD:], known)
    return total


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
        sequence: The root bucket's sequence; 0 in files that bbolt made.
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
        body = self._body()
        return body + _meta_sum(body).to_bytes(8, "little")

    def stands_in(self, data: bytes) -> bool:
        """Whether these are the 64 bytes of this meta, as far as one need look."""
        return data[:_META_SUM_AT] == self._body()

    def _body(self) -> bytes:
        return _META.pack(
            MAGIC, VERSION, self.page_size, self.flags, self.root, self.sequence,
            self.freelist, self.high_water_mark, self.txid, 0,
        )[:_META_SUM_AT]  # fmt: skip

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
        found = cls.examine(data)
        if isinstance(found, Meta):
            return found
        raise MetaError(*found)

    @classmethod
    def examine(cls, data: bytes) -> Meta | tuple[str, str, int]:
        """The same, or what `MetaError` takes: what is wrong.

        A crash tears a meta in as many ways as it has bytes, and recovery looks at
        every one; an exception for each takes longer than the checksum.
        """
        if len(data) < META_SIZE:
            return "invalid", "the file ends inside a meta page", 16
        (
            magic, version, page_size, flags, root, sequence, freelist, hwm, txid,
            checksum,
        ) = _META.unpack_from(data)  # fmt: skip
        if magic != MAGIC:
            return "invalid", "no bolt magic number", 16
        if version != VERSION:
            return "version", f"format version {version}, not {VERSION}", 20
        if checksum != _meta_sum(data):
            return "checksum", "the meta page's checksum is wrong", 72
        if page_size > MAX_FOREIGN_PAGE_SIZE:
            return "invalid", f"a page size of {page_size} bytes", 24
        if txid > MAX_TXID:
            return "invalid", f"transaction {txid} cannot have been", 64
        return cls(page_size, root, freelist, hwm, txid, sequence, flags)


# -- trees -----------------------------------------------------------------------


class Page:
    """A decoded leaf or branch page. Never changed after it was made.

    What is the same in all leaves, or in all branches, stands in their class: a
    million pairs are 67,000 leaves.

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

    __slots__ = ()

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


class Leaf(Page):
    """A decoded leaf page.

    Tuples, because the collector of cycles looks at a tuple of bytes once and at a
    list for ever, and with it at every key and value: a cold scan of a million pairs
    takes 0.57 us a pair with this and 0.79 without.
    """

    __slots__ = ("cost", "has_buckets", "keys", "overflow", "pgid", "values")

    is_leaf = True
    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]
    children: list[int] = []  # noqa: RUF012 - nobody adds to it

    def __init__(
        self,
        pgid: int,
        overflow: int,
        keys: tuple[bytes, ...],
        values: tuple[bytes, ...],
        cost: int,
        has_buckets: bool = False,
    ) -> None:
        self.pgid = pgid
        self.overflow = overflow
        self.keys = keys
        self.values = values
        self.has_buckets = has_buckets
        self.cost = cost


class Branch(Page):
    """A decoded branch page.

    Attributes:
        data: Its bytes, when it was written here: most branches are written again
            with another child or two, see `encode_moved`.
        wait: Gets to come before a root gets an index; None: not decided.
        whole: About how many pairs the index will have then.
        room: Pairs for which the cache has counted the index's cost. These three and
            `pairs` are all that ever changes.
    """

    __slots__ = (
        "children",
        "cost",
        "data",
        "keys",
        "overflow",
        "pairs",
        "pgid",
        "room",
        "wait",
        "whole",
    )

    is_leaf = False
    has_buckets = False
    keys: list[bytes]
    values: Sequence[bytes] = ()
    pairs: dict[bytes, bytes] | None
    wait: int | None
    whole: int
    room: int

    def __init__(
        self,
        pgid: int,
        overflow: int,
        keys: list[bytes],
        children: list[int],
        content: int = 0,
        data: bytes = b"",
    ) -> None:
        """Make one; `content` is how many bytes its keys have together."""
        self.data = data
        self.pgid = pgid
        self.overflow = overflow
        self.keys = keys
        self.children = children
        self.cost = _OBJECT_COST + len(keys) * 96 + content + len(data)
        self.pairs = None
        self.wait = None
        self.whole = 0
        self.room = 0


# Measured on CPython 3.11: a bytes object takes 33 bytes beside its content,
# rounded up to 16, and 8 in the list that holds it; the page object and its
# two tuples take about 300.
_OBJECT_COST: Final = 300
_PAIR_COST: Final = 96


def leaf_cost(count: int, content: int) -> int:
    """Memory of a decoded leaf of so many pairs and so many bytes of content."""
    return _OBJECT_COST + count * _PAIR_COST + content


# A dict of n pairs has a power of two of places, of which it uses two thirds, and takes
# 20 bytes for each of them beside its keys and values: 30 to 60 a pair. While it grows
# the old places exist too.
PLACE_COST: Final = 20


def index_places(pairs: int) -> int:
    """How many places a dict of so many pairs has."""
    return pairs and 1 << max(3, (pairs * 3 // 2).bit_length())


def index_entries(places: int) -> int:
    """The most pairs for which a dict has so many places."""
    return (2 * places - 1) // 3


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
