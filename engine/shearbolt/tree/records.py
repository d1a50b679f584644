"""Pairs in one piece each: a key and the value behind it.

    (key, value), (key, value) ... --as they come--> records --sorted--> pages' content

A load of a hundred thousand pairs takes its time less by what it does than by where:
keys, values and the places of a dict lie all over memory, and to look at one that is in
no cache of the processor takes as long as a call. So every pair is looked at once, as
long as it is at hand, and put together. When all keys are of one size, records are in
the order of their keys when they are in order themselves, and nothing else is needed to
make pages of them: neither the keys, nor a lookup for each. A load in random order
takes 0.7 of what it took with a sort of the keys and a lookup for each.

What it is not: a place to look for a key. Whoever does makes a dict of them again. And
there are none of large values: copies of much for nothing.
"""

from __future__ import annotations

from itertools import islice
from operator import add
from typing import Final

__all__ = ["MAX_RECORD", "Records"]

MAX_RECORD: Final = 2048
"""Bytes of the largest one there is."""

_BLOCK: Final = 1024
"""Pairs looked at together: of 16 and 100 bytes they are 300 KB of objects."""


class Records:
    """Records of pairs whose keys are of one size.

    Args:
        key_size: Which.

    Attributes:
        key_size: See there.
        lengths: How long records are. Noted while they are at hand: to look at each
            of them again in the order of keys is a tenth of a load.
    """

    __slots__ = ("_arrived", "_keys", "_sorted", "key_size", "lengths")

    def __init__(self, key_size: int) -> None:
        self.key_size = key_size
        self.lengths: set[int] = set()
        # In the order in which they came; their keys: fewer when one came twice. To
        # look for that among sorted records takes three times as long.
        self._arrived: list[bytes] = []
        self._keys: set[bytes] = set()
        self._sorted: list[bytes] | None = None

    @classmethod
    def of(cls, items: dict[bytes, bytes]) -> Records | None:
        """Those of a dict; None when keys differ in size, or a value is large."""
        keys, values = iter(items), iter(items.values())
        found: list[bytes] = []
        sizes: set[int] = set()
        lengths: set[int] = set()
        while block := list(islice(keys, _BLOCK)):
            theirs = list(islice(values, _BLOCK))
            sizes.update(map(len, block))
            joined = list(map(add, block, theirs))
            lengths.update(map(len, joined))
            if len(sizes) > 1 or max(lengths) > MAX_RECORD:
                return None
            found += joined
        if not found:
            return None
        records = cls(sizes.pop())
        records.lengths = lengths
        found.sort()
        records._sorted = found
        return records

    def take(self, keys: list[bytes], records: list[bytes], lengths: set[int]) -> None:
        """Add records with keys of this size, in the order in which they come.

        Args:
            keys: Their keys.
            records: The records.
            lengths: How long they are.
        """
        self._sorted = None
        self._keys.update(keys)
        self.lengths |= lengths
        self._arrived += records

    def in_order(self) -> list[bytes] | None:
        """All records by key; None when there are two of one key."""
        if len(self._keys) < len(self._arrived):
            return None
        if self._sorted is None:
            self._sorted = sorted(self._arrived)
        return self._sorted

    @property
    def each(self) -> int:
        """How long every record is; 0: they differ."""
        return next(iter(self.lengths)) if len(self.lengths) == 1 else 0

    def pairs(self) -> dict[bytes, bytes]:
        """The pairs in the order in which they came; of a key that came twice the last.

        Of records that were taken.
        """
        size = self.key_size
        return {record[:size]: record[size:] for record in self._arrived}
