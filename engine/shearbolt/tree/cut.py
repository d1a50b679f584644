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
from typing import TYPE_CHECKING, Final, TypeAlias

from shearbolt.pages.format import (
    COUNT_OVERFLOW,
    ELEMENT_SIZE,
    MIN_KEYS_PER_PAGE,
    PAGE_HEADER_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Piece", "is_one_piece", "pieces"]

Piece: TypeAlias = "tuple[int, int, int]"
"""Where a piece begins and ends, and the bytes of its elements, headers included."""

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
    each: int = 0,
) -> Iterator[list[Piece]]:
    """Cut a node that is more than one piece.

    Args:
        count: How many elements it has.
        sizes: `sizes(first, end)` gives the bytes of each of these, its header not
            included. Called for a block before the pieces in it are given.
        page_size: Bytes a page.
        fill_percent: How full pieces are made, 0.1 to 1.0.
        each: Bytes of every element, its header not included; 0: they differ.

    Yields:
        The pieces in a block.
    """
    fill = min(max(fill_percent, MIN_FILL), MAX_FILL)
    room = int(page_size * fill) - PAGE_HEADER_SIZE
    # So many fill a page by their headers alone.
    step = max(_BLOCK, page_size // ELEMENT_SIZE + 1)
    base = 0
    while base < count:
        # Elements [base, seen) are in sight; `ends` says where each ends, in bytes from
        # the first of them. Those before `start` are given.
        seen = min(count, base + step)
        block = sizes(base, seen)
        ends: Sequence[int]
        if each:
            one = each + ELEMENT_SIZE
            ends = range(one, one * (seen - base) + 1, one)
        else:
            ends = list(accumulate(map(add, block, repeat(ELEMENT_SIZE))))
        found: list[Piece] = []
        start = written = 0
        # What is left fits a page when not more than this has been written before it.
        least = ends[-1] + PAGE_HEADER_SIZE - page_size
        most = count - base - _WHOLE
        if each:
            found = _alike(one, room, least, most, base, seen)
            start = found[-1][1] - base if found else 0
            written = start * one
        while start < most:
            if written > least and (
                seen < count or count - base - start < COUNT_OVERFLOW
            ):
                break
            if seen < count and seen - base - start < MIN_KEYS_PER_PAGE:
                break
            end = bisect_right(ends, written + room, start)
            end = min(max(end, start + MIN_KEYS_PER_PAGE), most + 1)
            end = min(end, start + COUNT_OVERFLOW - 1)
            found.append((base + start, base + end, ends[end - 1] - written))
            start, written = end, ends[end - 1]
        if seen == count:
            found.append((base + start, count, ends[-1] - written))
            start = count - base
        yield found
        base += start


def _alike(
    one: int, room: int, least: int, most: int, base: int, seen: int
) -> list[Piece]:
    """The pieces at the beginning of a block that no rule but the room decides.

    To go through them one by one takes a fortieth of a load.

    Args:
        one: Bytes of every element, its header included.
        room: Bytes in a piece.
        least: As in `pieces`.
        most: As there.
        base: The block's first element.
        seen: The first one behind it.
    """
    each = min(max(room // one, MIN_KEYS_PER_PAGE), COUNT_OVERFLOW - 1)
    # Elements that have one whole piece behind them, and those before `least`.
    whole = min(seen - base, most + 1) // each
    count = max(min(whole, least // (one * each) + 1), 0)
    firsts = range(base, base + count * each, each)
    behind = range(base + each, base + count * each + 1, each)
    return list(zip(firsts, behind, repeat(one * each, count), strict=True))
