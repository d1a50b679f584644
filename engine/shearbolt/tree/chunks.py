"""What comes one by one, so many at a time.

Whoever is given many pairs or keys looks them over in C, chunk by chunk. A chunk is
small enough that what the first look has brought into the processor's cache is there
for the next one.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CHUNK", "chunks"]

T = TypeVar("T")

CHUNK: Final = 1024
"""Pairs of 16 and 100 bytes are 300 KB of objects: half of a usual second cache."""


def chunks(given: Iterable[T]) -> Iterator[list[T]]:
    """What an iterable gives, `CHUNK` at a time.

    When it raises, what came before the error is a chunk, and the error comes after
    it.
    """
    source = iter(given)
    while True:
        chunk: list[T] = []
        try:
            chunk.extend(islice(source, CHUNK))
        except BaseException:
            yield chunk
            raise
        if not chunk:
            return
        yield chunk
