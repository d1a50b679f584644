"""What a walk knows of the pages it has met: a byte of flags for each.

Every walk over a file, the checker's, salvage's, a count of a bucket, asks of a page
whether it was there before. That ends it on whatever a damaged file leads to, and lets
it come out with no more than the file has: a page is part of one thing only, so to meet
it again is damage. How many pages there are is no help. The meta says so, and a sparse
file has as many as it likes.

    page number      chunk n                     block n
    23 ...           256 pages, a byte each      65,536 pages that have a flag in common

A chunk exists from when one of its pages has a flag. Of runs longer than a block
only both ends are chunks. So memory follows the pages that were met and not the
numbers they have: a page of a tree takes 1.6 bytes, one far from all others 410, and
a page with an overflow of a terabyte as much as that of a megabyte.

What it is not: a `PageSet`, which knows its own bytes in the file. And it does not
know what its flags mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PageMap"]

_CHUNK: Final = 8
_BLOCK: Final = 16
_PAGES: Final = 1 << _CHUNK
_LAST: Final = _PAGES - 1
_WIDE: Final = 1 << _BLOCK


class PageMap:
    """Flags, 1 to 255, of pages; most have none."""

    __slots__ = ("_blocks", "_chunks")

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._blocks: dict[int, int] = {}

    def __getitem__(self, pgid: int) -> int:
        chunk = self._chunks.get(pgid >> _CHUNK)
        flags = 0 if chunk is None else chunk[pgid & _LAST]
        return flags | self._blocks.get(pgid >> _BLOCK, 0) if self._blocks else flags

    def add(self, start: int, length: int, flags: int) -> None:
        """Give the pages of a run these flags, beside those they have."""
        end = start + length
        while start < end:
            if not start & (_WIDE - 1) and start + _WIDE <= end:
                number = start >> _BLOCK
                self._blocks[number] = self._blocks.get(number, 0) | flags
                start += _WIDE
                continue
            number = start >> _CHUNK
            chunk = self._chunks.get(number)
            if chunk is None:
                chunk = self._chunks[number] = bytearray(_PAGES)
            stop = min(end, (number + 1) << _CHUNK)
            first = start & _LAST
            if stop - start == 1:
                chunk[first] |= flags
            else:
                behind = first + stop - start
                chunk[first:behind] = bytes(f | flags for f in chunk[first:behind])
            start = stop

    def claim(self, start: int, length: int, flag: int = 1, unless: int = 0) -> int:
        """Give a run this flag, unless one of its pages has it already.

        Args:
            start: Its first page.
            length: How many it has.
            flag: The flag.
            unless: Flags of which none may be there, this one among them; 0: this one.

        Returns:
            0; or the first page that has it, and then none was given it.
        """
        unless = unless or flag
        if length == 1 and not self._blocks:
            # Nearly always; written out, as it is done for every page of a walk.
            chunk = self._chunks.get(start >> _CHUNK)
            if chunk is None:
                chunk = self._chunks[start >> _CHUNK] = bytearray(_PAGES)
            at = start & _LAST
            if chunk[at] & unless:
                return start
            chunk[at] |= flag
            return 0
        there = self.first(start, length, unless)
        if not there:
            self.add(start, length, flag)
        return there

    def first(self, start: int, length: int, flags: int) -> int:
        """The first page of a run that has any of these flags; 0: none has."""
        if length == 1:
            return start if self[start] & flags else 0
        end = start + length
        for begin, chunk in self._pieces(start, end):
            if isinstance(chunk, int):
                if chunk & flags:
                    return max(begin, start)
                continue
            for at in range(max(start - begin, 0), min(end - begin, _PAGES)):
                if chunk[at] & flags:
                    return begin + at
        return 0

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The runs of pages in [start, end) that have no flags, as (first, behind)."""
        for begin, chunk in self._pieces(start, end):
            if isinstance(chunk, int):
                if start < begin:
                    yield start, begin
                start = max(start, begin + _WIDE)
                continue
            at, stop = max(start - begin, 0), min(end - begin, _PAGES)
            while at < stop:
                if not chunk[at]:
                    at += 1
                    continue
                if start < begin + at:
                    yield start, begin + at
                # In most chunks all pages have flags.
                at = chunk.find(0, at, stop)
                if at < 0:
                    at = stop
                start = max(start, begin + at)
        if start < end:
            yield start, end

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, bytearray | int]]:
        """Blocks and chunks with pages of [start, end), in order.

        Each with its first page. Of what is in both the block comes first.
        """
        chunks, blocks = self._chunks, self._blocks
        low, high = start >> _CHUNK, (end - 1) >> _CHUNK
        numbers = range(low, high + 1)
        if len(numbers) > len(chunks):
            found = sorted(number for number in chunks if low <= number <= high)
        else:
            found = [number for number in numbers if number in chunks]
        pieces: list[tuple[int, int, bytearray | int]]
        pieces = [(number << _CHUNK, 1, chunks[number]) for number in found]
        if blocks:
            low, high = start >> _BLOCK, (end - 1) >> _BLOCK
            pieces += [
                (number << _BLOCK, 0, flags)
                for number, flags in blocks.items()
                if low <= number <= high
            ]
            pieces.sort(key=lambda piece: piece[:2])
        for begin, _, what in pieces:
            yield begin, what
