"""Which pages may be written, and since when.

A page is in one of four states:

    reachable --free(txid)--> pending(txid) --release--> free --allocate--+
        ^                                                                 |
        +-----------------------------------------------------------------+

*Pending* pages belonged to an older version of the database. They must not be
written while that version may still be read: by an open reader, or by recovery,
because its meta is the newest durable one. Transaction t's frees are therefore
released at the earliest when transaction t+1 begins, and not before every
reader that can see the pages has gone.

On disk the list is the union of free and pending, sorted: after a restart there
are no readers, so both are the same.

Two ways to choose among free pages, as in bbolt: `array` takes the lowest
address that fits, `hashmap` takes a run of exactly the right length when there is
one. Both keep the free pages as runs of consecutive ids, so that memory and
time follow the number of runs. Where bbolt picks at random (Go map order) the
lowest address is picked here.

After a failed commit bbolt reads the list again from disk, through the meta that
has just failed to become durable, and thereby frees pages that open readers and
the last durable version still use. Here every transaction's allocations and
frees are undone from memory; nothing is read.

Unless an exception from outside (Ctrl-C, a signal handler's) came between two steps
of one change. Then nobody knows how far it got, and `in_doubt` says so: the list is
read again, and everything in it is held back until no reader is older than the live
version (`held`).

Source: bbolt internal/freelist/{shared,array,hashmap}.go.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from heapq import heappop, heappush, heapreplace
from itertools import compress, islice, repeat
from operator import add, lt, ne, sub
from typing import TYPE_CHECKING

from shearbolt.pages.pageset import PageSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

__all__ = ["ArrayFreelist", "FreelistError", "HashmapFreelist", "make_freelist"]

_FOREVER = 0xFFFF_FFFF_FFFF_FFFF
_FEW = 16
"""Up to here a loop over single ids beats the calls that make runs of a million."""
_MAX_STALE = 1024
"""Entries for runs that are gone: the heaps may hold this many, or twice the runs."""


class FreelistError(Exception):
    """A page was freed twice, or is one that is never free.

    Attributes:
        pgid: The page.
    """

    def __init__(self, reason: str, pgid: int) -> None:
        super().__init__(reason)
        self.pgid = pgid


class _Pending:
    """Pages one transaction has freed, each with who allocated it (0: unknown)."""

    __slots__ = ("allocated_by", "ids", "last_release_begin")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.allocated_by: list[int] = []
        self.last_release_begin = 0


class ArrayFreelist:
    """Free pages; the lowest address that fits is allocated first.

    Attributes:
        in_doubt: Whether a change was begun and did not end.
    """

    def __init__(self, ids: Iterable[int] = ()) -> None:
        # Free runs: first page -> pages, and the page behind -> first page.
        self._lengths: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        # Where runs begin, lowest first: heaps for all runs, and for those of
        # each length. They may name runs that are gone; `_lengths` decides.
        # Runs that are not in a heap of their length yet are in `_late`: most
        # commits take single pages only and never look there.
        self._lowest: list[int] = []
        self._of_length: dict[int, list[int]] = {}
        self._late: list[int] = []
        self._noted = 0
        self._free_count = 0
        # Free and pending pages together: what the file says.
        self._listed = PageSet()
        self._pending: dict[int, _Pending] = {}
        # First page of a run -> the transaction that allocated it from here.
        self._allocated_by: dict[int, int] = {}
        # What the running transaction has taken: (start, length).
        self._taken: list[tuple[int, int]] = []
        self.in_doubt = False
        listed = list(ids)
        if listed:
            self._load(listed)

    @classmethod
    def held(cls, ids: list[int], txid: int) -> Self:
        """A list of pages that are all pending, as if this transaction freed them."""
        made = cls()
        pending = made._pending[txid] = _Pending()
        pending.ids = sorted(ids)
        pending.allocated_by = [0] * len(ids)
        made._listed.update(pending.ids)
        return made

    def _load(self, ids: list[int]) -> None:
        """Begin with these pages: all at once, because there may be millions."""
        if not all(map(lt, ids, islice(ids, 1, None))):
            ids = sorted(set(ids))
        self._listed.update(ids)
        self._free_count = len(ids)
        starts, lengths = _runs(ids)
        self._lengths = dict(zip(starts, lengths, strict=True))
        self._starts = dict(zip(map(add, starts, lengths), starts, strict=True))
        self._index()

    # -- counts --

    def counts(self) -> tuple[int, int]:
        """`free_count` and `pending_count`."""
        free = self._free_count
        return free, len(self._listed) - free

    @property
    def free_count(self) -> int:
        """Pages that may be allocated now."""
        return self._free_count

    @property
    def pending_count(self) -> int:
        """Pages that become free when nobody reads them any more."""
        return len(self._listed) - self._free_count

    def __len__(self) -> int:
        return len(self._listed)

    def __contains__(self, pgid: int) -> bool:
        return pgid in self._listed

    def encoded(self) -> bytes:
        """Free and pending pages as they stand in a freelist page."""
        return self._listed.encoded()

    def ids(self) -> list[int]:
        """Free and pending pages, sorted: what is written to disk."""
        return list(struct.unpack(f"<{len(self)}Q", self.encoded()))

    def runs(self) -> Iterator[tuple[int, int]]:
        """The free runs as (first page, pages), by address."""
        return iter(sorted(self._lengths.items()))

    # -- a transaction's work --

    def allocate(self, txid: int, count: int) -> int:
        """Take `count` consecutive pages.

        Returns:
            The first page's id, 0 when there is no such run.
        """
        if not count:
            return 0
        start = self._find(count)
        if not start:
            return 0
        self.in_doubt = True
        self._remove(start, count)
        if count == 1:
            self._listed.discard(start)
        else:
            self._listed.remove(start, count)
        self._taken.append((start, count))
        self._allocated_by[start] = txid
        self.in_doubt = False
        return start

    def free(self, txid: int, pgid: int, overflow: int) -> None:
        """Give back a page and its overflow, pending until `release`.

        Raises:
            FreelistError: A meta page, or a page that is free already.
        """
        if pgid <= 1:
            raise FreelistError(f"cannot free page 0 or 1: {pgid}", pgid)
        if overflow:
            self._require_unlisted(pgid, overflow + 1)
            self.in_doubt = True
            self._listed.add(pgid, overflow + 1)
        else:
            self.in_doubt = True
            if not self._listed.insert(pgid):
                self.in_doubt = False
                raise FreelistError(f"page {pgid} already freed", pgid)
        pending = self._pending.get(txid)
        if pending is None:
            pending = self._pending[txid] = _Pending()
        by = self._allocated_by.pop(pgid, 0)
        if overflow:
            pending.ids += range(pgid, pgid + overflow + 1)
            pending.allocated_by += [by] * (overflow + 1)
        else:
            pending.ids.append(pgid)
            pending.allocated_by.append(by)
        self.in_doubt = False

    def free_all(self, txid: int, pgids: list[int]) -> None:
        """Give back many pages without overflow, as `free` does one by one.

        Raises:
            FreelistError: As there; then all stay as they were.
        """
        if not pgids:
            return
        pgids = sorted(pgids)
        if pgids[0] <= 1:
            raise FreelistError(f"cannot free page 0 or 1: {pgids[0]}", pgids[0])
        self.in_doubt = True
        there = self._listed.insert_all(pgids)
        if there is not None:
            self.in_doubt = False
            raise FreelistError(f"page {there} already freed", there)
        pending = self._pending.setdefault(txid, _Pending())
        pending.ids += pgids
        pending.allocated_by += map(self._allocated_by.pop, pgids, repeat(0))
        self.in_doubt = False

    def _require_unlisted(self, start: int, length: int) -> None:
        for page in range(start, start + length):
            if page in self._listed:
                raise FreelistError(f"page {page} already freed", page)

    def commit(self) -> None:
        """The running transaction is durable: its work can't be undone now."""
        self._taken.clear()

    def rollback(self, txid: int) -> None:
        """Undo the running transaction's allocations and frees."""
        if self.in_doubt:
            # It is read again, before anybody takes or frees a page.
            return
        self.in_doubt = True
        pending = self._pending.pop(txid, None)
        if pending is not None:
            for page, by in zip(pending.ids, pending.allocated_by, strict=True):
                self._listed.remove(page, 1)
                if by:
                    self._allocated_by[page] = by
        for start, count in reversed(self._taken):
            self._allocated_by.pop(start, None)
            self._listed.add(start, count)
            self._add_run(start, count)
        self._taken.clear()
        self.in_doubt = False

    # -- release --

    def release(self, readers: Iterable[int]) -> None:
        """Make pending pages free that no reader can see (at begin(True)).

        Args:
            readers: The txids of the open read transactions.
        """
        if not self._pending:
            return
        self.in_doubt = True
        self._release(sorted(readers))
        self.in_doubt = False

    def _release(self, open_txids: list[int]) -> None:
        low = open_txids[0] if open_txids else _FOREVER
        self._release_up_to(low - 1)
        if not self._pending:
            return
        # A page freed and allocated between two neighbouring readers was never
        # visible to either.
        for txid in open_txids:
            self._release_between(low, txid - 1)
            low = txid + 1
        self._release_between(low, _FOREVER)

    def _release_up_to(self, last: int) -> None:
        released: list[int] = []
        for txid in [txid for txid in self._pending if txid <= last]:
            released += self._pending.pop(txid).ids
        self._release_ids(released)

    def _release_between(self, begin: int, end: int) -> None:
        if begin > end:
            return
        released: list[int] = []
        for txid, pending in list(self._pending.items()):
            if not begin <= txid <= end or pending.last_release_begin == begin:
                continue
            kept = _Pending()
            for page, by in zip(pending.ids, pending.allocated_by, strict=True):
                # 0: from before this handle, or from beyond the high-water
                # mark; an older reader may see the page.
                if by and begin <= by <= end:
                    released.append(page)
                else:
                    kept.ids.append(page)
                    kept.allocated_by.append(by)
            kept.last_release_begin = begin
            if kept.ids:
                self._pending[txid] = kept
            else:
                del self._pending[txid]
        self._release_ids(released)

    def _release_ids(self, released: list[int]) -> None:
        released.sort()
        if len(released) > _FEW:
            for start, length in zip(*_runs(released), strict=True):
                self._add_run(start, length)
            return
        start = end = 0
        for pgid in released:
            if pgid != end:
                if start:
                    self._add_run(start, end - start)
                start = pgid
            end = pgid + 1
        if start:
            self._add_run(start, end - start)

    # -- runs --

    def _find(self, count: int) -> int:
        if count == 1:
            lowest, lengths = self._lowest, self._lengths
            while lowest and lowest[0] not in lengths:
                heappop(lowest)
            return lowest[0] if lowest else 0
        self._sort_in()
        firsts = [
            self._first_of(length)
            for length in list(self._of_length)
            if length >= count
        ]
        return min(filter(None, firsts), default=0)

    def _first_of(self, length: int) -> int:
        """The lowest run of exactly this length, 0 when there is none."""
        heap = self._of_length.get(length, [])
        while heap and self._lengths.get(heap[0]) != length:
            heappop(heap)
        if heap:
            return heap[0]
        self._of_length.pop(length, None)
        return 0

    def _remove(self, start: int, count: int) -> None:
        """Cut the first `count` pages off the run at `start`."""
        length = self._lengths.pop(start)
        self._free_count -= count
        if length == count:
            del self._starts[start + length]
            return
        rest = start + count
        self._lengths[rest] = length - count
        self._starts[start + length] = rest
        lowest = self._lowest
        if lowest[0] == start:
            # The rest takes its place in the heap, as the lowest run again.
            heapreplace(lowest, rest)
        else:
            heappush(lowest, rest)
        self._late.append(rest)
        self._noted += 1
        if self._noted > _MAX_STALE:
            self._drop_stale()

    def _add_run(self, start: int, length: int) -> None:
        """Add pages that are not free, joining the runs beside them."""
        self._free_count += length
        before = self._starts.pop(start, None)
        if before is not None:
            length += self._lengths.pop(before)
            start = before
        behind = self._lengths.pop(start + length, None)
        if behind is not None:
            del self._starts[start + length + behind]
            length += behind
        self._note(start, length)

    def _note(self, start: int, length: int) -> None:
        self._lengths[start] = length
        self._starts[start + length] = start
        heappush(self._lowest, start)
        self._late.append(start)
        self._noted += 1
        if self._noted > _MAX_STALE:
            self._drop_stale()

    def _drop_stale(self) -> None:
        """Make the heaps anew when most of what is in them is gone."""
        if self._noted > 2 * len(self._lengths) + _MAX_STALE:
            self._index()

    def _sort_in(self) -> None:
        """Put what was noted since into the heaps by length."""
        of_length = self._of_length
        for start in self._late:
            length = self._lengths.get(start)
            if length is not None:
                heappush(of_length.setdefault(length, []), start)
        self._late = []

    def _index(self) -> None:
        """Make the heaps anew, without runs that are gone. Sorted is a heap."""
        starts = self._lowest = sorted(self._lengths)
        lengths = list(map(self._lengths.__getitem__, starts))
        self._noted = len(starts)
        self._late = []
        # Stable: runs of one length stay in the order of their addresses.
        order = sorted(range(len(starts)), key=lengths.__getitem__)
        sorted_starts = list(map(starts.__getitem__, order))
        lengths.sort()
        self._of_length = {}
        end = 0
        while end < len(lengths):
            begin, end = end, bisect_right(lengths, lengths[end], end)
            self._of_length[lengths[begin]] = sorted_starts[begin:end]


class HashmapFreelist(ArrayFreelist):
    """Free pages; a run of exactly the right length is allocated first."""

    def _find(self, count: int) -> int:
        self._sort_in()
        longer = sorted(length for length in self._of_length if length > count)
        return next(filter(None, map(self._first_of, (count, *longer))), 0)


def _runs(ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Sorted ids, one at least, as runs: where they begin, and how long they are."""
    count = len(ids)
    if ids[-1] - ids[0] == count - 1:
        return [ids[0]], [count]
    steps = map(sub, islice(ids, 1, None), ids)
    begins = [0, *compress(range(1, count), map(ne, steps, repeat(1)))]
    ends = [*begins[1:], count]
    return list(map(ids.__getitem__, begins)), list(map(sub, ends, begins))


FREELIST_TYPES = {"array": ArrayFreelist, "hashmap": HashmapFreelist}


def make_freelist(kind: str, ids: Iterable[int] = ()) -> ArrayFreelist:
    """A freelist of the kind an option names, "array" or "hashmap"."""
    return FREELIST_TYPES[kind](ids)
