"""Where a node that is too large for a page is cut, by bbolt's rules.

    elements  |----------|---------|-----------|---|
    a piece   filled up to the fill percentage, two elements at least;
              the last ones stay together when they fit a page, or are four at most

Which bytes end up in which page of the file follows from these rules, so they are
kept to the letter (node.go split, splitIndex). One thing is added: the element count
of a page has 16 bits, which bbolt forgets.

A leaf may have a million new pairs, whose objects lie all over memory. So they are
looked at block by block, each block for its sizes and, while it is still in the
processor's cache, for its pages. A block begins where the last piece ended; from the
one before that are a few elements which did not fill a page.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, repeat
from operator import add
from typing import TYPE_CHECKING, Final

from shearbolt.format import (
    COUNT_OVERFLOW,
    ELEMENT_SIZE,
    MIN_KEYS_PER_PAGE,
    PAGE_HEADER_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["is_one_piece", "pieces"]

MIN_FILL: Final = 0.1
MAX_FILL: Final = 1.0

_WHOLE: Final = 2 * MIN_KEYS_PER_PAGE
_BLOCK: Final = 1024
"""Elements looked at together: of 16 and 100 bytes they take 200 KB."""


def is_one_piece(count: int, size: int, page_size: int) -> bool:
    """Whether a node of so many elements and bytes, headers included, is not cut."""
    return count <= _WHOLE or (size < page_size and count < COUNT_OVERFLOW)


def pieces(
    count: int,
    sizes: Callable[[int, int], Iterable[int]],
    page_size: int,
    fill_percent: float,
) -> Iterator[tuple[int, int, int]]:
    """Cut a node that is more than one piece.

    Args:
        count: How many elements it has.
        sizes: `sizes(first, end)` gives the bytes of each of these, its header not
            included. Called for a block before any piece of it is given.
        page_size: Bytes a page.
        fill_percent: How full pieces are made, 0.1 to 1.0.

    Yields:
        Where a piece begins and ends, and the bytes of its elements, headers included.
    """
    fill = min(max(fill_percent, MIN_FILL), MAX_FILL)
    room = int(page_size * fill) - PAGE_HEADER_SIZE
    # So many fill a page by their headers alone.
    step = max(_BLOCK, page_size // ELEMENT_SIZE + 1)
    base = 0
    while True:
        # Elements [base, seen) are in sight; `ends` says where each ends, in bytes from
        # the first of them. Those before `start` are given.
        seen = min(count, base + step)
        ends = list(accumulate(map(add, sizes(base, seen), repeat(ELEMENT_SIZE))))
        start = written = 0
        while True:
            left = count - base - start
            rest = ends[-1] - written
            fits = PAGE_HEADER_SIZE + rest < page_size
            if left <= _WHOLE or (fits and seen == count and left < COUNT_OVERFLOW):
                if seen < count:
                    break
                yield base + start, count, rest
                return
            if seen < count and (fits or seen - base - start < MIN_KEYS_PER_PAGE):
                break
            end = bisect_right(ends, written + room, start)
            end = min(max(end, start + MIN_KEYS_PER_PAGE), count - base - 3)
            end = min(end, start + COUNT_OVERFLOW - 1)
            yield base + start, base + end, ends[end - 1] - written
            start, written = end, ends[end - 1]
        base += start
