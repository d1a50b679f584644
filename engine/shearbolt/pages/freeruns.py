"""Free pages as runs of consecutive ids, and where to find one of some length.

    lengths    first page -> pages             of every run
    starts     the page behind -> first page   of the same: to join neighbours
    lowest     where runs begin, a heap: for single pages the lowest will do
    by length  the same for each length: the shortest that is long enough

Memory and time follow the number of runs, not of pages. The heaps may name runs that
are gone, `lengths` decides; they are made anew when most of them are. Runs that were
added last are in no heap by length (`_late`): most commits take single pages only, and
never look there.

What it is not: it does not know since when a page is free, nor for whom. That is
`freelist`'s affair.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush, heapreplace
from itertools import compress, islice, repeat
from operator import add, ne, sub
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["NO_PAGE", "ExactRuns", "FreeRuns"]

NO_PAGE: Final = 1 << 64
"""Behind every page."""

_MAX_STALE: Final = 1024
"""Entries for runs that are gone: the heaps may hold this many, or twice the runs."""


class FreeRuns:
    """Runs of free pages, of which the lowest that is long enough is found.

    Args:
        ids: The pages, sorted, each once.

    Attributes:
        count: How many pages there are.
        floor: The lowest page; `NO_PAGE` when there is none.
    """

    __slots__ = (
        "_late",
        "_lengths",
        "_lowest",
        "_of_length",
        "_sorted_in",
        "_starts",
        "count",
        "floor",
    )

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.count = len(ids)
        # Runs, both ways; heaps, the second one by length; what is not in that yet, and
        # how much is or was. `_index` makes the heaps.
        self._late: list[int] = []
        self._sorted_in = 0
        self.floor = NO_PAGE
        starts, lengths = _runs(ids)
        self._lengths = dict(zip(starts, lengths, strict=True))
        self._starts = dict(zip(map(add, starts, lengths), starts, strict=True))
        self._index()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(first page, pages) of each, by address."""
        return iter(sorted(self._lengths.items()))

    def find(self, count: int) -> int:
        """The first page of a run of at least so many pages; 0: there is none."""
        if count == 1:
            return self.floor if self.floor != NO_PAGE else 0
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

    def cut(self, start: int, most: int) -> int:
        """Cut up to so many pages off the run that begins here; how many it was."""
        length = self._lengths.pop(start)
        count = min(length, most)
        self.count -= count
        lowest = self._lowest
        if length == count:
            del self._starts[start + length]
        else:
            rest = start + count
            self._lengths[rest] = length - count
            self._starts[start + length] = rest
            if lowest[0] == start:
                # The rest takes its place in the heap, as the lowest run again.
                heapreplace(lowest, rest)
            else:
                heappush(lowest, rest)
            self._note(rest)
        if start == self.floor:
            lowest, lengths = self._lowest, self._lengths
            while lowest and lowest[0] not in lengths:
                heappop(lowest)
            self.floor = lowest[0] if lowest else NO_PAGE
        return count

    def add(self, start: int, length: int) -> None:
        """Add consecutive pages, none of which is there, joining the runs beside."""
        self.count += length
        before = self._starts.pop(start, None)
        if before is not None:
            length += self._lengths.pop(before)
            start = before
        behind = self._lengths.pop(start + length, None)
        if behind is not None:
            del self._starts[start + length + behind]
            length += behind
        self._lengths[start] = length
        self._starts[start + length] = start
        self.floor = min(self.floor, start)
        heappush(self._lowest, start)
        self._note(start)

    def add_all(self, ids: Sequence[int]) -> None:
        """Add pages, given in order, none of which is there."""
        for start, length in zip(*_runs(ids), strict=True):
            self.add(start, length)

    def _note(self, start: int) -> None:
        """A run begins here that is in no heap of its length."""
        self._late.append(start)
        if len(self._late) > _MAX_STALE:
            self._sort_in()

    def _sort_in(self) -> None:
        """Put what was noted since into the heaps by length."""
        of_length = self._of_length
        late, self._late = self._late, []
        for start in late:
            length = self._lengths.get(start)
            if length is not None:
                heappush(of_length.setdefault(length, []), start)
        self._sorted_in += len(late)
        entries = max(self._sorted_in, len(self._lowest))
        if entries > 2 * len(self._lengths) + _MAX_STALE:
            self._index()

    def _index(self) -> None:
        """Make the heaps anew, without runs that are gone. Sorted is a heap."""
        starts = self._lowest = sorted(self._lengths)
        self.floor = starts[0] if starts else NO_PAGE
        lengths = list(map(self._lengths.__getitem__, starts))
        self._sorted_in = len(starts)
        self._late = []
        # Stable: runs of one length stay in the order of their addresses.
        order = sorted(range(len(starts)), key=lengths.__getitem__)
        sorted_starts = list(map(starts.__getitem__, order))
        lengths.sort()
        self._of_length: dict[int, list[int]] = {}
        end = 0
        while end < len(lengths):
            begin, end = end, bisect_right(lengths, lengths[end], end)
            self._of_length[lengths[begin]] = sorted_starts[begin:end]


class ExactRuns(FreeRuns):
    """The same, of which one of exactly the right length is found first."""

    __slots__ = ()

    def find(self, count: int) -> int:
        """The first page of the shortest run that is long enough; 0: there is none."""
        self._sort_in()
        longer = sorted(length for length in self._of_length if length > count)
        return next(filter(None, map(self._first_of, (count, *longer))), 0)


def _runs(ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Sorted ids as runs: where they begin, and how long they are."""
    count = len(ids)
    if not count:
        return [], []
    if ids[-1] - ids[0] == count - 1:
        return [ids[0]], [count]
    steps = map(sub, islice(ids, 1, None), ids)
    begins = [0, *compress(range(1, count), map(ne, steps, repeat(1)))]
    ends = [*begins[1:], count]
    return list(map(ids.__getitem__, begins)), list(map(sub, ends, begins))
