"""What a database says about itself: records of counts and sizes.

    Info              the open file
    Stats             the handle: transactions, free pages   (bbolt DB.Stats)
      TxStats         the work of transactions               (bbolt Tx.Stats)
    BucketStats       the pages of a bucket's tree           (bbolt Bucket.Stats)
    BucketStructure   names and counts, nested               (bbolt Bucket.Inspect)
    PageInfo          one page                               (bbolt Tx.Page)

All are frozen: a record says how things were when it was made. Fields have
bbolt's names. Two of bbolt's are missing because there is nothing to count: the
address of the memory map, and the nodes copied when the map moved.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from shearbolt.pages.decoding import decode_bucket
from shearbolt.pages.format import (
    ELEMENT_SIZE,
    PAGE_HEADER_SIZE,
    BucketValue,
    FormatError,
    content_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shearbolt.errors import CorruptPageError
    from shearbolt.pages.format import Page
    from shearbolt.pages.pagemap import PageMap
    from shearbolt.storage import Mutex

__all__ = [
    "BucketStats",
    "BucketStructure",
    "BucketWalk",
    "Info",
    "PageInfo",
    "Stats",
    "TxStats",
    "Work",
]


@dataclass(frozen=True, slots=True)
class Info:
    """An open database file.

    Attributes:
        path: Where it is.
        page_size: Bytes a page.
        file_size: Bytes of the file.
        high_water_mark: Pages that are or were in use.
        txid: The last committed transaction.
    """

    path: str
    page_size: int
    file_size: int
    high_water_mark: int
    txid: int


@dataclass(frozen=True, slots=True)
class PageInfo:
    """One page, as `Tx.page` describes it.

    Attributes:
        id: Its number.
        type: "meta", "freelist", "branch", "leaf" or "free". Of a page in the
            middle of a run the type is that of whatever stands there.
        count: Elements; of a free page those it had.
        overflow_count: Pages behind it that belong to it.
    """

    id: int
    type: str
    count: int
    overflow_count: int


@dataclass(frozen=True, slots=True)
class TxStats:
    """The work of one transaction, or of all that have ended.

    Attributes:
        page_count: Pages allocated.
        page_alloc: Their bytes.
        cursor_count: Cursors made by the caller.
        node_count: Pages that were taken into memory to be changed.
        rebalance: Nodes looked at because they had lost elements.
        rebalance_time: Seconds spent on that.
        split: Cuts through nodes that had become too large.
        spill: Pages that nodes were written to.
        spill_time: Seconds spent on that.
        write: Writes handed to the system, one a run of neighbouring pages.
        write_time: Seconds spent in writes and syncs.
    """

    page_count: int = 0
    page_alloc: int = 0
    cursor_count: int = 0
    node_count: int = 0
    rebalance: int = 0
    rebalance_time: float = 0.0
    split: int = 0
    spill: int = 0
    spill_time: float = 0.0
    write: int = 0
    write_time: float = 0.0

    def sub(self, other: TxStats) -> TxStats:
        """What was done since `other` was taken."""
        return TxStats(
            *(
                getattr(self, item.name) - getattr(other, item.name)
                for item in fields(TxStats)
            )
        )

    __sub__ = sub


class Work:
    """A `TxStats` that is being counted; fields as there."""

    __slots__ = tuple(item.name for item in fields(TxStats))

    page_count: int
    page_alloc: int
    cursor_count: int
    node_count: int
    rebalance: int
    rebalance_time: float
    split: int
    spill: int
    spill_time: float
    write: int
    write_time: float

    # Written out: a loop over the names costs 2 us a transaction.
    def __init__(self) -> None:
        self.page_count = self.page_alloc = self.cursor_count = self.node_count = 0
        self.rebalance = self.split = self.spill = self.write = 0
        self.rebalance_time = self.spill_time = self.write_time = 0.0

    def add(self, other: Work, mutex: Mutex) -> None:
        """Count the work of `other`, too.

        Args:
            other: Of a transaction that has ended.
            mutex: Held meanwhile: no call is made, so nobody waits for long, and no
                handler of a signal for itself.
        """
        with mutex:
            self.page_count += other.page_count
            self.page_alloc += other.page_alloc
            self.cursor_count += other.cursor_count
            self.node_count += other.node_count
            self.rebalance += other.rebalance
            self.rebalance_time += other.rebalance_time
            self.split += other.split
            self.spill += other.spill
            self.spill_time += other.spill_time
            self.write += other.write
            self.write_time += other.write_time

    def frozen(self) -> TxStats:
        """The counts as they are now."""
        return TxStats(*(getattr(self, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Stats:
    """One handle since it was opened.

    Attributes:
        free_page_n: Pages that may be used again, as the last write transaction
            left them.
        pending_page_n: Pages that become free when no reader sees them any more.
        free_alloc: Bytes of both.
        freelist_inuse: Bytes of the freelist when written.
        tx_n: Read transactions begun.
        open_tx_n: Read transactions open now.
        tx_stats: The work of all transactions that have ended.
    """

    free_page_n: int = 0
    pending_page_n: int = 0
    free_alloc: int = 0
    freelist_inuse: int = 0
    tx_n: int = 0
    open_tx_n: int = 0
    tx_stats: TxStats = field(default_factory=TxStats)

    def sub(self, other: Stats) -> Stats:
        """What happened since `other` was taken.

        Counters are subtracted. Gauges (pages, bytes, open transactions) are
        those of this record.
        """
        return Stats(
            self.free_page_n,
            self.pending_page_n,
            self.free_alloc,
            self.freelist_inuse,
            self.tx_n - other.tx_n,
            self.open_tx_n,
            self.tx_stats - other.tx_stats,
        )

    __sub__ = sub


@dataclass(frozen=True, slots=True)
class BucketStats:
    """The pages of a bucket's tree and of all buckets below it.

    They are those of the version that the transaction began from: the pages of
    a write transaction's own changes do not exist before it commits.

    Attributes:
        branch_page_n: Branch pages, overflow not counted.
        branch_overflow_n: Their overflow pages.
        leaf_page_n: Leaf pages, overflow not counted.
        leaf_overflow_n: Their overflow pages.
        key_n: Keys, those of buckets included, at all levels.
        depth: Levels of pages, those of the deepest bucket below included.
        branch_alloc: Bytes of branch pages.
        branch_inuse: Bytes used in them.
        leaf_alloc: Bytes of leaf pages.
        leaf_inuse: Bytes used in them.
        bucket_n: Buckets, this one included.
        inline_bucket_n: Those that live in a value of their parent.
        inline_bucket_inuse: Bytes used in these; not part of `leaf_inuse`.
        uncommitted: Whether the transaction has changed the bucket, or one
            below it, in ways that these numbers do not show.
    """

    branch_page_n: int = 0
    branch_overflow_n: int = 0
    leaf_page_n: int = 0
    leaf_overflow_n: int = 0
    key_n: int = 0
    depth: int = 0
    branch_alloc: int = 0
    branch_inuse: int = 0
    leaf_alloc: int = 0
    leaf_inuse: int = 0
    bucket_n: int = 0
    inline_bucket_n: int = 0
    inline_bucket_inuse: int = 0
    uncommitted: bool = False

    def add(self, other: BucketStats) -> BucketStats:
        """Both together; the greater depth (bbolt BucketStats.Add)."""
        sums = {
            item.name: getattr(self, item.name) + getattr(other, item.name)
            for item in fields(BucketStats)
        }
        sums["depth"] = max(self.depth, other.depth)
        sums["uncommitted"] = self.uncommitted or other.uncommitted
        return BucketStats(**sums)

    __add__ = add


# A dataclass's own methods recurse, and buckets may be nested deeper than Python does.
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BucketStructure:
    """A bucket and those in it, without their content.

    Attributes:
        name: Its name; b"root" for the root bucket.
        key_n: Plain keys in it, not counting those further down.
        buckets: The buckets in it, in name order.
    """

    name: bytes
    key_n: int
    buckets: tuple[BucketStructure, ...] = ()

    def _walk(self) -> Iterator[tuple[bytes, int, int]]:
        """Name, keys and number of buckets of this and all below, each before its own.

        Two structures that give the same are the same.
        """
        stack = [self]
        while stack:
            bucket = stack.pop()
            yield bucket.name, bucket.key_n, len(bucket.buckets)
            stack += reversed(bucket.buckets)

    def __eq__(self, other: object) -> bool:
        if self.__class__ is not other.__class__:
            return NotImplemented
        assert isinstance(other, BucketStructure)
        # One that ends earlier has said so by its numbers.
        pairs = zip(self._walk(), other._walk(), strict=False)
        return all(mine == theirs for mine, theirs in pairs)

    def __hash__(self) -> int:
        return hash(tuple(self._walk()))

    def __repr__(self) -> str:
        # Buckets to be shown, and what stands behind them.
        parts: list[str] = []
        stack: list[BucketStructure | str] = [self]
        while stack:
            piece = stack.pop()
            if isinstance(piece, str):
                parts.append(piece)
                continue
            parts.append(
                f"{type(piece).__name__}(name={piece.name!r}, key_n={piece.key_n!r}, "
                "buckets=("
            )
            stack.append(",))" if len(piece.buckets) == 1 else "))")
            for place, bucket in enumerate(reversed(piece.buckets)):
                if place:
                    stack.append(", ")
                stack.append(bucket)
        return "".join(parts)


# -- walking a bucket ----------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """One bucket met on the walk.

    Attributes:
        above: Where in the list its parent stands, -1 for the first.
        root: Its root page.
        inline: Its only page when it is inline, else None.
        depth: Levels of its own pages.
    """

    above: int
    root: int
    inline: Page | None
    depth: int = 0


class BucketWalk:
    """Counts a committed bucket and all below it (bbolt Bucket.Stats).

    Iterative, because nesting is as deep as the file says; and it loads every page
    once, so it ends on cycles.

    Args:
        load: `load(pgid)` gives a page.
        corrupt: `corrupt(pgid, reason)` makes the error for a damaged one.
        page_size: Bytes a page.
        claimed: Pages that belong to something else, and those that it has met.
    """

    def __init__(
        self,
        load: Callable[[int], Page],
        corrupt: Callable[[int, str], CorruptPageError],
        page_size: int,
        claimed: PageMap,
    ) -> None:
        self._load = load
        self._corrupt = corrupt
        self._page_size = page_size
        self._claimed = claimed
        self._sums: Counter[str] = Counter()
        self._found: list[_Found] = []

    def run(self, root: int, inline: Page | None, *, uncommitted: bool) -> BucketStats:
        """The numbers of the bucket with this root.

        Raises:
            CorruptPageError: A page is damaged, or was met before.
        """
        found, sums = self._found, self._sums
        found.append(_Found(-1, root, inline))
        for place, bucket in enumerate(found):
            if bucket.inline is not None:
                self._count(place, bucket.inline, 1)
            else:
                self._tree(place, bucket.root)
        below = [0] * len(found)
        depth = 0
        for place in range(len(found) - 1, -1, -1):
            depth = found[place].depth + below[place]
            above = found[place].above
            if above >= 0:
                below[above] = max(below[above], depth)
        size = self._page_size
        return BucketStats(
            **sums,
            depth=depth,
            branch_alloc=(sums["branch_page_n"] + sums["branch_overflow_n"]) * size,
            leaf_alloc=(sums["leaf_page_n"] + sums["leaf_overflow_n"]) * size,
            bucket_n=len(found),
            inline_bucket_n=sum(bucket.inline is not None for bucket in found),
            uncommitted=uncommitted,
        )

    def _tree(self, place: int, root: int) -> None:
        stack = [(root, 1)]
        while stack:
            pgid, level = stack.pop()
            page = self._load(pgid)
            if self._claimed.claim(pgid, page.overflow + 1):
                raise self._corrupt(
                    pgid, "its run is part of something else, or leads to itself"
                )
            self._count(place, page, level)
            stack += [(child, level + 1) for child in page.children]

    def _count(self, place: int, page: Page, level: int) -> None:
        bucket, sums = self._found[place], self._sums
        count = len(page.keys)
        used = PAGE_HEADER_SIZE + ELEMENT_SIZE * count
        used += content_size(page.keys, page.values)
        if not page.is_leaf:
            sums.update(
                branch_page_n=1, branch_overflow_n=page.overflow, branch_inuse=used
            )
        elif bucket.inline is not None:
            sums.update(inline_bucket_inuse=used, key_n=count)
        else:
            sums.update(
                leaf_page_n=1, leaf_overflow_n=page.overflow, leaf_inuse=used,
                key_n=count,
            )  # fmt: skip
        bucket.depth = max(bucket.depth, level)
        if page.has_buckets:
            self._enter(place, page)

    def _enter(self, place: int, page: Page) -> None:
        """Note the buckets of a leaf, to be walked later."""
        for name, value in zip(page.keys, page.values, strict=True):
            if value.__class__ is not BucketValue:
                continue
            try:
                root, _, inline = decode_bucket(value)
            except FormatError as error:
                raise self._corrupt(
                    page.pgid, f"bucket {name!r} in it: {error}"
                ) from None
            self._found.append(_Found(place, root, inline))
