"""Keys that wait to be deleted: sorted by thousands, and found by ranges.

    delete, delete, delete --a thousand--> |a c f k|
    delete_many            --chunks------> |b c e m|   lists, each sorted
                                           |a d g h|
                           those in [b, f):   ^^^      a piece of each list --> a set

A dict of them is the plain way to ask for each key of a leaf whether it is to go. But
when there are many, neither its places nor the keys are in any cache of the processor,
not when a key comes and not when one is asked for: a fifth of deleting half of all
pairs. Here a thousand keys are sorted while they are at hand, and who goes through the
leaves in key order asks small sets, one behind the other. And when branches are merged
the keys of a range are wanted: sorting half a million for that took half a second.

A key that came twice is there twice.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain, islice, repeat
from operator import sub
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["Doomed"]

_SET: Final = 4096
"""About so many keys are in a set: with its places it takes 150 KB. Of twice as many
each question takes 1.5 times as long, half as many take longer to bring together."""

_LISTS: Final = 64
"""When there are more, neighbours are merged: in each list the way to a range touches
keys that are in no cache, and half a million are in 500."""

_NEAR: Final = 4
"""A range ends within so many times what the lists have in it on average."""


class Doomed:
    """Keys to be deleted.

    Attributes:
        late: Keys that came one by one and are not sorted in yet.
    """

    __slots__ = ("_begins", "_count", "_ends", "_lists", "_set", "_within", "late")

    def __init__(self) -> None:
        self.late: list[bytes] = []
        self._lists: list[list[bytes]] = []
        self._count = 0
        # The set asked last; its range; where this begins and ends in each list.
        self._set: Container[bytes] = frozenset()
        self._within: tuple[bytes, bytes | None] = (b"", b"")
        self._begins: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """How many."""
        return self._count + len(self.late)

    def add(self, keys: list[bytes]) -> None:
        """Add some, about a thousand, in any order."""
        ordered = sorted(keys)
        self._count += len(ordered)
        lists = self._lists
        # Keys that come in order are one list.
        if lists and lists[-1][-1] <= ordered[0]:
            lists[-1] += ordered
        else:
            lists.append(ordered)

    def any(self) -> bytes:
        """One of them."""
        return self._sorted()[0][0]

    def in_order(self) -> list[bytes]:
        """All of them, sorted."""
        lists = self._sorted()
        if len(lists) > 1:
            self._lists = [sorted(chain.from_iterable(lists))]
        return self._lists[0]

    def from_on(self, low: bytes) -> bytes | None:
        """The first one from here on."""
        keys = self.in_order()
        at = bisect_left(keys, low)
        return keys[at] if at < len(keys) else None

    def between(self, low: bytes, limit: bytes | None) -> list[bytes]:
        """Those in a range, sorted.

        Args:
            low: Where it begins.
            limit: Where it ends; None: it does not.
        """
        found: list[bytes] = []
        for keys in self._sorted():
            end = len(keys) if limit is None else bisect_left(keys, limit)
            found += keys[bisect_left(keys, low) : end]
        found.sort()
        return found

    def around(self, low: bytes, limit: bytes | None) -> Container[bytes]:
        """Those in a range, to be asked for keys; others may be among them.

        For one range behind the other: the next ones are mostly in it, too. Arguments
        as for `between`.
        """
        begin, end = self._within
        if low < begin or (end is not None and (limit is None or limit > end)):
            self._bring_together(low, limit)
        return self._set

    def _sorted(self) -> list[list[bytes]]:
        """All of them, in not too many sorted lists."""
        if self.late:
            late, self.late = self.late, []
            self.add(late)
        lists = self._lists
        if len(lists) > _LISTS:
            each = -(-len(lists) // _LISTS)
            source = iter(lists)
            self._lists = []
            while some := list(islice(source, each)):
                self._lists.append(sorted(chain.from_iterable(some)))
        return self._lists

    def _bring_together(self, low: bytes, limit: bytes | None) -> None:
        """Make a set of what is in a range and behind it."""
        lists = self._sorted()
        begin, end = self._within
        if len(self._ends) == len(lists) and begin <= low and (not end or low <= end):
            within = zip(lists, self._begins, self._ends, strict=True)
            begins = [bisect_left(keys, low, *places) for keys, *places in within]
        else:
            begins = list(map(bisect_left, lists, repeat(low)))
        # Where it ends follows from the longest list, as if the others had as many.
        share = _SET // len(lists) + 1
        left = list(map(sub, map(len, lists), begins))
        longest = left.index(max(left))
        end = None
        if limit is not None and share < left[longest]:
            end = max(limit, lists[longest][begins[longest] + share])
        ends = []
        for keys, first in zip(lists, begins, strict=True):
            at = near = len(keys)
            if end is not None:
                # Every key looked at is one that is in no cache.
                near = min(near, first + _NEAR * share)
                at = bisect_left(keys, end, first, near)
                if at == near:
                    at = bisect_left(keys, end, near)
            ends.append(at)
        self._set = set().union(*map(list.__getitem__, lists, map(slice, begins, ends)))
        self._within = low, end
        self._begins, self._ends = begins, ends
