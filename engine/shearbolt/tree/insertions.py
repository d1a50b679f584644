"""Many puts in a row, given together: looked over in C, and put in one step.

    pairs --a thousand at a time--> tuples of two? bytes? sizes allowed?
                                        | yes            | no
                                        v                v
                             into the leaf's      put, one by one, up to the
                             records or dict      first that is refused

A put by itself is a call, seven checks and an entry in a dict. Here each check is one
pass in C over a thousand pairs, few enough that what the first pass has brought into
the processor's cache is there for the next ones. (All hundred thousand at once take
twice as long, when they lie all over memory.)

What it does is what `put` does, pair by pair, in the order in which they come: when one
is refused, those before it are put and those behind it are not. The same holds when
whoever gives them raises. Only one thing is different: up to a thousand pairs are taken
before the first of them is put, so who makes pairs of what the bucket holds meanwhile
does not see these.

What it is not: a way to make pages of sorted pairs. They wait in the leaf as others do.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from shearbolt.pages.format import MAX_KEY_SIZE, MAX_VALUE_SIZE
from shearbolt.tree.chunks import chunks
from shearbolt.tree.records import MAX_RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shearbolt.tree.bucket import Bucket

__all__ = ["put_all"]

_MANY: Final = 64
"""Fewer are put one by one."""

_TUPLES: Final = frozenset({tuple})
_BYTES: Final = frozenset({bytes})
_PAIRS: Final = frozenset({2})


def put_all(bucket: Bucket, given: Any) -> None:
    """Put what a mapping has, or an iterable of pairs.

    Raises:
        BoltError: As `Bucket.put`.
        TypeError: A key or value is no bytes, or a pair is none.
        ValueError: A pair has another length than two.
    """
    bucket.require_changeable()
    for chunk in chunks(_pairs_of(given)):
        if len(chunk) >= _MANY and not bucket.refuses_changes():
            found = _looked_over(chunk)
            node = None if found is None else bucket.root_leaf()
            if found and node is not None and node.pairs.put_all(*found):
                bucket.touch()
                continue
        put = bucket.put
        for key, value in chunk:
            put(key, value)


def _pairs_of(given: Any) -> Iterable[Any]:
    """The pairs of what `MutableMapping.update` takes."""
    if isinstance(given, Mapping):
        return given.items()
    if hasattr(given, "keys"):
        return ((key, given[key]) for key in given.keys())  # noqa: SIM118 - no mapping
    pairs: Iterable[Any] = given
    return pairs


def _looked_over(
    chunk: list[Any],
) -> tuple[list[bytes], list[bytes], list[bytes], set[int]] | None:
    """What is to be known of pairs before they are put together.

    Returns:
        Keys, values, a record of each pair and how long records are; no record if none
        are made of such pairs. None when `put` would have something to say about one
        of them.
    """
    if set(map(type, chunk)) != _TUPLES:
        return None
    try:
        # First of all: what is looked at first is in no cache, and this takes all of
        # it at once. (Behind the checks it takes a fifth longer.)
        records = list(map(b"".join, chunk))
    except TypeError:
        return None
    parts = list(chain.from_iterable(chunk))
    if set(map(len, chunk)) != _PAIRS or set(map(type, parts)) != _BYTES:
        return None
    keys, values = parts[0::2], parts[1::2]
    sizes = set(map(len, keys))
    lengths = set(map(len, records))
    longest = max(lengths)
    if 0 in sizes or max(sizes) > MAX_KEY_SIZE:
        return None
    if longest > MAX_VALUE_SIZE and max(map(len, values)) > MAX_VALUE_SIZE:
        return None
    if len(sizes) > 1 or longest > MAX_RECORD:
        records = []
    return keys, values, records, lengths
