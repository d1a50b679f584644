"""Where a node that is too large for a page is cut, by bbolt's rules.

    elements  |----------|---------|-----------|---|
    a piece   filled up to the fill percentage, two elements at least;
              the last ones stay together when they fit a page, or are four at most

Which bytes end up in which page of the file follows from these rules, so they are
kept to the letter (node.go split, splitIndex). One thing is added: the element count
of a page has 16 bits, which bbolt forgets.

A leaf may have a million new pairs, whose objects lie all over memory. So they are
looked at block by block, each block for its sizes and, while it is still in the
processor's cache, for its pages. That the rest fits a page can be decided when all
of it is in sight or as many elements as fill a page by their headers alone.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, repeat
from operator import add
from typing import TYPE_CHECKING, Final, TypeVar

from shearbolt.format import (
    COUNT_OVERFLOW,
    ELEMENT_SIZE,
    MIN_KEYS_PER_PAGE,
    PAGE_HEADER_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["is_one_piece", "pieces"]

T = TypeVar("T")

MIN_FILL: Final = 0.1
MAX_FILL: Final = 1.0

_WHOLE: Final = 2 * MIN_KEYS_PER_PAGE
_BLOCK: Final = 1024
"""Elements looked at together: of 16 and 100 bytes they take 200 KB."""


def is_one_piece(count: int, size: int, page_size: int) -> bool:
    """Whether a node of so many elements and bytes, headers included, is not cut."""
    return count <= _WHOLE or (size < page_size and count < COUNT_OVERFLOW)


def pieces(
    keys: Sequence[bytes],
    beside: Callable[[int, int], Sequence[T]],
    sizes: Callable[[Sequence[bytes], Sequence[T]], Iterable[int]],
    page_size: int,
    fill_percent: float,
) -> Iterator[tuple[list[bytes], list[T], int]]:
    """Cut a node that is more than one piece.

    Args:
        keys: Its keys.
        beside: `beside(first, end)` gives what stands beside keys [first, end).
        sizes: `sizes(keys, those beside)` gives each element's bytes, its header
            not included.
        page_size: Bytes a page.
        fill_percent: How full pieces are made, 0.1 to 1.0.

    Yields:
        A piece's keys, what stands beside them, and the bytes of its elements,
        headers included.
    """
    count = len(keys)
    fill = min(max(fill_percent, MIN_FILL), MAX_FILL)
    room = int(page_size * fill) - PAGE_HEADER_SIZE
    in_sight = page_size // ELEMENT_SIZE + 1
    step = max(_BLOCK, in_sight)
    # Elements [base, seen) are loaded; `ends` says where each ends, in bytes from
    # the first element of all. Pieces up to `start` are out.
    names: list[bytes] = []
    others: list[T] = []
    ends: list[int] = []
    base = seen = start = written = 0
    while True:
        if seen < count and seen - start < in_sight:
            before = seen
            seen = min(count, seen + step)
            more, those = keys[before:seen], beside(before, seen)
            total = ends[-1] if ends else 0
            each = map(add, sizes(more, those), repeat(ELEMENT_SIZE))
            done = start - base
            names = [*names[done:], *more]
            others = [*others[done:], *those]
            ends = ends[done:] + list(accumulate(each, initial=total))[1:]
            base = start
        left = count - start
        rest = ends[-1] - written
        if left <= _WHOLE or (
            PAGE_HEADER_SIZE + rest < page_size and left < COUNT_OVERFLOW
        ):
            yield names[start - base :], others[start - base :], rest
            return
        end = base + bisect_right(ends, written + room, start - base)
        end = min(max(end, start + MIN_KEYS_PER_PAGE), count - 3)
        end = min(end, start + COUNT_OVERFLOW - 1)
        low, high = start - base, end - base
        yield names[low:high], others[low:high], ends[high - 1] - written
        start, written = end, ends[high - 1]
