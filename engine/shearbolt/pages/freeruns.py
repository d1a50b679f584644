"""Free pages as runs of consecutive ids, and where to find one of some length.

    lengths    first page -> pages             of every run
    starts     the page behind -> first page   of the same: to join neighbours
    lowest     where runs begin, a queue: for single pages the lowest will do
    by length  the same for each length: the shortest that is long enough

Memory and time follow the number of runs, not of pages. The queues may name runs that
are gone, `lengths` decides; they are made anew when most of them are. Runs that were
added last are in no queue by length (`_late`): most commits take single pages only, and
never look there.

To take consecutive pages looks at the lowest run of each length there is. A million
pages have at most 1,412 lengths: 0.3 ms.

What it is not: it does not know since when a page is free, nor for whom. That is
`freelist`'s affair.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from heapq import heappop, heappush
from itertools import compress, islice, repeat
from operator import add, ne, sub
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["NO_PAGE", "ExactRuns", "FreeRuns"]

NO_PAGE: Final = 1 << 64
"""Behind every page."""

_MAX_STALE: Final = 1024
"""Entries for runs that are gone: the queues may hold this many, or twice the runs."""


class _Queue:
    """Numbers, the lowest one first: many that came together, and a heap of others.

    The many are bytes: two lists of a million numbers took the collector of cycles
    44 ms each time it walked everything. (From Python 3.14 on it walks dicts of numbers
    as well, those of `FreeRuns` among them.)

    Args:
        numbers: Sorted.
    """

    __slots__ = ("_at", "_many", "_more")

    def __init__(self, numbers: Sequence[int] = ()) -> None:
        self._many = array("Q", numbers)
        self._at = 0
        self._more: list[int] = []

    def __len__(self) -> int:
        return len(self._many) - self._at + len(self._more)

    def lowest(self) -> int:
        """The lowest number; `NO_PAGE` when there is none."""
        first = self._many[self._at] if self._at < len(self._many) else NO_PAGE
        return min(first, self._more[0]) if self._more else first

    def drop(self) -> None:
        """Remove the lowest one."""
        if self._more and self._more[0] == self.lowest():
            heappop(self._more)
        else:
            self._at += 1

    def push(self, number: int) -> None:
        """Add one."""
        heappush(self._more, number)


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
        # Where runs begin that are in no queue by length, and how many are, or were.
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
        lowest = self.floor
        if lowest == NO_PAGE:
            return 0
        if self._lengths[lowest] >= count:
            return lowest
        self._sort_in()
        lowest = NO_PAGE
        for length, queue in list(self._of_length.items()):
            # A run that is gone may be the lowest of its length: then the others are
            # higher.
            if length >= count and queue.lowest() < lowest:
                lowest = min(lowest, self._first_of(length) or lowest)
        return lowest if lowest != NO_PAGE else 0

    def _first_of(self, length: int) -> int:
        """The lowest run of exactly this length, 0 when there is none."""
        queue = self._of_length.get(length)
        while queue:
            start = queue.lowest()
            if self._lengths.get(start) == length:
                return start
            queue.drop()
        self._of_length.pop(length, None)
        return 0

    def cut(self, start: int, most: int) -> int:
        """Cut up to so many pages off the run that begins here; how many it was."""
        length = self._lengths.pop(start)
        count = min(length, most)
        self.count -= count
        if length == count:
            del self._starts[start + length]
        else:
            rest = start + count
            self._lengths[rest] = length - count
            self._starts[start + length] = rest
            self._note(rest)
        if start == self.floor:
            lowest, lengths = self._lowest, self._lengths
            while (floor := lowest.lowest()) not in lengths and floor != NO_PAGE:
                lowest.drop()
            self.floor = floor
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
        self._note(start)

    def add_all(self, ids: Sequence[int]) -> None:
        """Add pages, given in order, none of which is there."""
        for start, length in zip(*_runs(ids), strict=True):
            self.add(start, length)

    def _note(self, start: int) -> None:
        """A run begins here that is in no queue."""
        self._lowest.push(start)
        self._late.append(start)
        if len(self._late) > _MAX_STALE:
            self._sort_in()

    def _sort_in(self) -> None:
        """Put what was noted since into the queues by length."""
        of_length = self._of_length
        late, self._late = self._late, []
        for start in late:
            length = self._lengths.get(start)
            if length is not None:
                if length not in of_length:
                    of_length[length] = _Queue()
                of_length[length].push(start)
        self._sorted_in += len(late)
        entries = max(self._sorted_in, len(self._lowest))
        if entries > 2 * len(self._lengths) + _MAX_STALE:
            self._index()

    def _index(self) -> None:
        """Make the queues anew, without runs that are gone."""
        starts = sorted(self._lengths)
        self._lowest = _Queue(starts)
        self.floor = starts[0] if starts else NO_PAGE
        lengths = list(map(self._lengths.__getitem__, starts))
        self._sorted_in = len(starts)
        self._late = []
        # Stable: runs of one length stay in the order of their addresses.
        order = sorted(range(len(starts)), key=lengths.__getitem__)
        sorted_starts = list(map(starts.__getitem__, order))
        lengths.sort()
        self._of_length: dict[int, _Queue] = {}
        end = 0
        while end < len(lengths):
            begin, end = end, bisect_right(lengths, lengths[end], end)
            self._of_length[lengths[begin]] = _Queue(sorted_starts[begin:end])


class ExactRuns(FreeRuns):
    """The same, of which one of exactly the right length is found first."""

    __slots__ = ()

    def find(self, count: int) -> int:
        """The first page of the shortest run that is long enough; 0: there is none."""
        self._sort_in()
        if exact := self._first_of(count):
            return exact
        longer = sorted(length for length in self._of_length if length > count)
        return next(filter(None, map(self._first_of, longer)), 0)


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
