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

Source: bbolt internal/freelist/{shared,array,hashmap}.go.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["ArrayFreelist", "FreelistError", "HashmapFreelist", "make_freelist"]

_FOREVER = 0xFFFF_FFFF_FFFF_FFFF


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
    """Free pages; the lowest address that fits is allocated first."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._starts: list[int] = []
        self._lengths: dict[int, int] = {}
        self._free_count = 0
        self._pending: dict[int, _Pending] = {}
        self._pending_ids: set[int] = set()
        # First page of a run -> the transaction that allocated it from here.
        self._allocated_by: dict[int, int] = {}
        # What the running transaction has taken: (start, length).
        self._taken: list[tuple[int, int]] = []
        self._add_runs(sorted(set(ids)))

    # -- counts --

    @property
    def free_count(self) -> int:
        """Pages that may be allocated now."""
        return self._free_count

    @property
    def pending_count(self) -> int:
        """Pages that become free when nobody reads them any more."""
        return len(self._pending_ids)

    def __len__(self) -> int:
        return self._free_count + len(self._pending_ids)

    def __contains__(self, pgid: int) -> bool:
        if pgid in self._pending_ids:
            return True
        index = bisect_right(self._starts, pgid) - 1
        if index < 0:
            return False
        start = self._starts[index]
        return pgid < start + self._lengths[start]

    def ids(self) -> list[int]:
        """Free and pending pages, sorted: what is written to disk."""
        free = chain.from_iterable(
            range(start, start + self._lengths[start]) for start in self._starts
        )
        if not self._pending_ids:
            return list(free)
        # Both are long sorted stretches, which timsort merges in linear time.
        return sorted(chain(free, sorted(self._pending_ids)))

    def runs(self) -> Iterator[tuple[int, int]]:
        """The free runs as (first page, pages), by address."""
        for start in self._starts:
            yield start, self._lengths[start]

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
        self._remove(start, count)
        self._taken.append((start, count))
        self._allocated_by[start] = txid
        return start

    def free(self, txid: int, pgid: int, overflow: int) -> None:
        """Give back a page and its overflow, pending until `release`.

        Raises:
            FreelistError: A meta page, or a page that is free already.
        """
        if pgid <= 1:
            raise FreelistError(f"cannot free page 0 or 1: {pgid}", pgid)
        ids = range(pgid, pgid + overflow + 1)
        for page in ids:
            if page in self:
                raise FreelistError(f"page {page} already freed", page)
        pending = self._pending.get(txid)
        if pending is None:
            pending = self._pending[txid] = _Pending()
        by = self._allocated_by.pop(pgid, 0)
        pending.ids += ids
        pending.allocated_by += [by] * len(ids)
        self._pending_ids.update(ids)

    def commit(self) -> None:
        """The running transaction is durable: its work can't be undone now."""
        self._taken.clear()

    def rollback(self, txid: int) -> None:
        """Undo the running transaction's allocations and frees."""
        pending = self._pending.pop(txid, None)
        if pending is not None:
            self._pending_ids.difference_update(pending.ids)
            for page, by in zip(pending.ids, pending.allocated_by, strict=True):
                if by:
                    self._allocated_by[page] = by
        for start, count in reversed(self._taken):
            self._allocated_by.pop(start, None)
            self._add_runs(range(start, start + count))
        self._taken.clear()

    # -- release --

    def release(self, readers: Iterable[int]) -> None:
        """Make pending pages free that no reader can see (at begin(True)).

        Args:
            readers: The txids of the open read transactions.
        """
        if not self._pending:
            return
        open_txids = sorted(readers)
        low = open_txids[0] if open_txids else _FOREVER
        self._release_up_to(low - 1)
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
        if released:
            self._pending_ids.difference_update(released)
            self._add_runs(sorted(released))

    # -- runs --

    def _find(self, count: int) -> int:
        lengths = self._lengths
        for start in self._starts:
            if lengths[start] >= count:
                return start
        return 0

    def _remove(self, start: int, count: int) -> None:
        """Cut the first `count` pages off the run at `start`."""
        length = self._lengths.pop(start)
        index = bisect_left(self._starts, start)
        if length == count:
            del self._starts[index]
        else:
            self._starts[index] = start + count
            self._lengths[start + count] = length - count
        self._free_count -= count

    def _add_runs(self, ids: Sequence[int]) -> None:
        """Add sorted ids that are not in the list."""
        if not ids:
            return
        self._free_count += len(ids)
        runs: list[tuple[int, int]] = []
        first = last = ids[0]
        for page in ids[1:]:
            if page != last + 1:
                runs.append((first, last - first + 1))
                first = page
            last = page
        runs.append((first, last - first + 1))
        if len(runs) > 64 and len(runs) * 8 > len(self._starts):
            self._rebuild(runs)
        else:
            for start, length in runs:
                self._add_run(start, length)

    def _add_run(self, start: int, length: int) -> None:
        starts, lengths = self._starts, self._lengths
        index = bisect_left(starts, start)
        if index and starts[index - 1] + lengths[starts[index - 1]] == start:
            index -= 1
            start = starts.pop(index)
            length += lengths[start]
        end = start + length
        if index < len(starts) and starts[index] == end:
            length += lengths.pop(end)
            del starts[index]
        starts.insert(index, start)
        lengths[start] = length

    def _rebuild(self, more: list[tuple[int, int]]) -> None:
        """Merge many runs at once: linear, where one by one is quadratic."""
        everything = sorted(chain(self.runs(), more))
        self._starts = []
        self._lengths = {}
        end = -1
        for start, length in everything:
            if start == end:
                self._lengths[self._starts[-1]] += length
            else:
                self._starts.append(start)
                self._lengths[start] = length
            end = start + length


class HashmapFreelist(ArrayFreelist):
    """Free pages; a run of exactly the right length is allocated first."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._by_length: dict[int, list[int]] = {}
        super().__init__(ids)

    def _find(self, count: int) -> int:
        exact = self._by_length.get(count)
        if exact:
            return exact[0]
        longer = [length for length in self._by_length if length > count]
        return self._by_length[min(longer)][0] if longer else 0

    def _remove(self, start: int, count: int) -> None:
        self._forget(start, self._lengths[start])
        rest = self._lengths[start] - count
        super()._remove(start, count)
        if rest:
            self._note(start + count, rest)

    def _add_run(self, start: int, length: int) -> None:
        before = bisect_left(self._starts, start) - 1
        if before >= 0:
            neighbour = self._starts[before]
            if neighbour + self._lengths[neighbour] == start:
                self._forget(neighbour, self._lengths[neighbour])
        after = self._lengths.get(start + length)
        if after is not None:
            self._forget(start + length, after)
        super()._add_run(start, length)
        begin = self._starts[bisect_right(self._starts, start) - 1]
        self._note(begin, self._lengths[begin])

    def _rebuild(self, more: list[tuple[int, int]]) -> None:
        super()._rebuild(more)
        self._by_length = {}
        for start, length in self.runs():
            self._by_length.setdefault(length, []).append(start)

    def _note(self, start: int, length: int) -> None:
        insort(self._by_length.setdefault(length, []), start)

    def _forget(self, start: int, length: int) -> None:
        starts = self._by_length[length]
        del starts[bisect_left(starts, start)]
        if not starts:
            del self._by_length[length]


FREELIST_TYPES = {"array": ArrayFreelist, "hashmap": HashmapFreelist}


def make_freelist(kind: str, ids: Iterable[int] = ()) -> ArrayFreelist:
    """A freelist of the kind an option names, "array" or "hashmap"."""
    return FREELIST_TYPES[kind](ids)
