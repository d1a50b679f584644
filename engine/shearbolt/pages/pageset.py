"""A set of page ids that knows its own bytes in the file.

The freelist page holds all free ids, sorted, eight bytes each, and every commit
writes it anew. Making these bytes from a million ids takes 100 ms, but a commit
changes a few ids only. So the set is kept as what is written: sorted arrays of
64-bit numbers, cut into chunks of about a thousand, so that an id that comes or
goes moves 16 KiB at most.

    chunk n      the members in [first n, first n + 1), sorted, eight bytes each
    first n      where it begins; 0 for the first, which alone may be empty

    ids of the set = chunk 0, chunk 1, ...    joined: no number is looked at

A set never changes. What would change it makes another one, which shares all chunks
but those that differ: whoever has the old one has it as it was, and to go back is to
forget the new one.

Measured on CPython 3.11: five ids of a million added or removed 6 us, of which 3 are
the list of chunks. All bytes of a million ids 0.5 ms, which is copying 8 MB. (Chunks of
1,024 page *numbers* each, as it was before, are as many as pages where free pages are
far apart, and all were joined.)

What it is not: it does not know why a page is in it. That is `freelist`'s affair.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["PageSet"]

_CHUNK: Final = 1024
"""Ids in a chunk that was just cut, at least. It is cut again when it has twice as
many, and joined to the one before it when it has a quarter."""

_FEW: Final = 16
"""Up to here ids are put into a chunk one by one: sorting all of it takes longer."""


class PageSet:
    """An immutable set of page ids.

    Args:
        ids: Its members, sorted, each once.
    """

    __slots__ = ("_chunks", "_count", "_firsts")

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._chunks = _cut(array("Q", ids)) or [array("Q")]
        self._firsts = [0, *(chunk[0] for chunk in self._chunks[1:])]
        self._count = len(ids)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._chunks)

    def __contains__(self, pgid: int) -> bool:
        chunk = self._chunks[bisect_right(self._firsts, pgid) - 1]
        at = bisect_left(chunk, pgid)
        return at < len(chunk) and chunk[at] == pgid

    def first_in(self, start: int, length: int) -> int | None:
        """The lowest member among so many consecutive pages; None: there is none."""
        number = bisect_right(self._firsts, start) - 1
        for chunk in islice(self._chunks, number, None):
            at = bisect_left(chunk, start)
            if at < len(chunk):
                return chunk[at] if chunk[at] < start + length else None
        return None

    def first_of(self, ids: Sequence[int]) -> int | None:
        """The lowest of these ids, given in order, that is a member; None: none is."""
        for number, some in self._by_chunk(ids):
            if len(some) <= _FEW:
                there = [pgid for pgid in some if pgid in self]
            else:
                there = sorted(set(some).intersection(self._chunks[number]))
            if there:
                return there[0]
        return None

    # -- other sets --

    def changed(self, gone: Sequence[int], new: Sequence[int]) -> PageSet:
        """With some ids fewer, and some more.

        Args:
            gone: Members, in order.
            new: Others, in order; none of them is a member.
        """
        chunks = self._chunks.copy()
        touched = set()
        for number, some in self._by_chunk(gone):
            touched.add(number)
            if len(some) <= _FEW:
                chunk = chunks[number] = chunks[number][:]
                for pgid in some:
                    del chunk[bisect_left(chunk, pgid)]
            else:
                rest = set(chunks[number]).difference(some)
                chunks[number] = array("Q", sorted(rest))
        for number, some in self._by_chunk(new):
            touched.add(number)
            if len(some) <= _FEW:
                chunk = chunks[number] = chunks[number][:]
                for pgid in some:
                    insort(chunk, pgid)
            else:
                chunks[number] = array("Q", sorted(chain(chunks[number], some)))
        return self._made(chunks, self._firsts, touched, len(new) - len(gone))

    def plus_run(self, start: int, length: int) -> PageSet:
        """With so many consecutive pages; none of them is a member."""
        chunks = self._chunks.copy()
        number = bisect_right(self._firsts, start) - 1
        chunk = chunks[number] = chunks[number][:]
        at = bisect_left(chunk, start)
        chunk[at:at] = array("Q", range(start, start + length))
        firsts = self._firsts
        if number + 1 < len(firsts) and firsts[number + 1] < start + length:
            # Its members are all behind the run, but it began in the middle of it.
            firsts = firsts.copy()
            firsts[number + 1] = start + length
        return self._made(chunks, firsts, {number}, length)

    def minus_run(self, start: int, length: int) -> PageSet:
        """Without so many consecutive pages; all of them are members."""
        chunks = self._chunks.copy()
        number = bisect_right(self._firsts, start) - 1
        touched = set()
        missing = length
        while missing:
            chunk = chunks[number]
            at = bisect_left(chunk, start)
            behind = min(at + missing, len(chunk))
            chunks[number] = chunk[:at] + chunk[behind:]
            touched.add(number)
            missing -= behind - at
            number += 1
        return self._made(chunks, self._firsts, touched, -length)

    def _by_chunk(self, ids: Sequence[int]) -> Iterable[tuple[int, Sequence[int]]]:
        """Ids given in order, by the number of the chunk they belong to."""
        if len(self._firsts) == 1:
            return ((0, ids),)
        return self._cut_by_chunk(ids)

    def _cut_by_chunk(self, ids: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
        firsts = self._firsts
        low = 0
        while low < len(ids):
            behind = bisect_right(firsts, ids[low])
            if behind < len(firsts):
                high = bisect_left(ids, firsts[behind], low)
            else:
                high = len(ids)
            yield behind - 1, ids[low:high]
            low = high

    def _made(
        self,
        chunks: list[array[int]],
        firsts: list[int],
        touched: set[int],
        more: int,
    ) -> PageSet:
        """The set of these chunks.

        Args:
            chunks: All of them. This list becomes the set's.
            firsts: Where they begin. This one stays as it is.
            touched: The numbers of those that are not this set's.
            more: How many members it has more than this one.
        """
        for number in sorted(touched, reverse=True):
            at = number
            if at and len(chunks[at]) < _CHUNK // 4:
                firsts = firsts.copy()
                del firsts[at]
                last = chunks.pop(at)
                at -= 1
                chunks[at] = chunks[at] + last
            if len(chunks[at]) > 2 * _CHUNK:
                parts = _cut(chunks[at])
                firsts = firsts.copy()
                firsts[at + 1 : at + 1] = [part[0] for part in parts[1:]]
                chunks[at : at + 1] = parts
        made = PageSet.__new__(PageSet)
        made._chunks, made._firsts = chunks, firsts
        made._count = self._count + more
        return made

    # -- bytes --

    def encoded(self) -> bytes:
        """All ids, sorted, as they stand in a freelist page."""
        return _joined(self._chunks)

    def pieces(self, first: int, size: int) -> Iterator[bytes]:
        """The same, piece by piece.

        Args:
            first: So many ids are in the first piece, if there are so many.
            size: So many are in each of the others, and in the last one at most.
        """
        chunks = self._chunks
        ends = list(accumulate(map(len, chunks)))
        at, behind = 0, min(first, self._count)
        while at < behind:
            low = bisect_right(ends, at)
            high = bisect_left(ends, behind)
            some = chunks[low : high + 1]
            # From the end, because it may be one chunk that is cut twice.
            some[-1] = some[-1][: len(some[-1]) - (ends[high] - behind)]
            some[0] = some[0][at - (ends[low] - len(chunks[low])) :]
            yield _joined(some)
            at, behind = behind, min(behind + size, self._count)


def _cut(ids: array[int]) -> list[array[int]]:
    """Chunks of equal size, as far as that is possible."""
    count = len(ids)
    size = -(-count // max(count // _CHUNK, 1)) or 1
    return [ids[at : at + size] for at in range(0, count, size)]


def _joined(chunks: Iterable[array[int]]) -> bytes:
    if sys.byteorder == "big":
        chunks = [chunk[:] for chunk in chunks]
        for chunk in chunks:
            chunk.byteswap()
    return b"".join(chunks)
