"""The pairs of one leaf while a write transaction changes them.

Few changes come to most leaves and very many to some, so there are two forms:

    lists   keys and values, sorted, side by side: at first the page's own lists, not
            touched and not copied. Deleting notes a position; it is taken out when
            somebody wants the order. Putting inserts into copies.
    dict    from the 17th put on. The order is made when somebody asks for it: the
            keys behind those that are in it already, which a dict keeps at its end,
            are sorted in, one by one when they are few, all together when they are
            many. After a delete the new and the gone keys are noted instead.

Deleting half of all pairs, seven from each leaf, never touches those that stay:
no key is hashed, no object's reference count changes, and most of these objects are
in no cache of the processor. Beside it n inserts in random order cost n log n (bbolt
keeps a sorted array, which makes them n^2).

What it is not: it knows nothing of pages, parents and sizes on disk. See `node`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import compress, islice
from typing import Final

from shearbolt.errors import IncompatibleValueError
from shearbolt.format import BucketValue

__all__ = ["LeafPairs"]

_ONE_BY_ONE: Final = 16
"""Up to here inserting and deleting single keys beats making the order again. An
insert into 100,000 keys moves 400 KB in 20 us, sorting them costs 2 ms."""

_NONE_LOST: Final[set[int]] = set()
_NONE_GONE: Final[set[bytes]] = set()
"""What a leaf has lost as long as that is nothing: shared and never changed."""


class LeafPairs:
    """A leaf's pairs, sorted by key, to be changed.

    Args:
        keys: Sorted keys; the list is not changed.
        values: One a key; the list is not changed either.
        content: Bytes of all these together.
    """

    __slots__ = (
        "_buckets",
        "_content",
        "_fresh",
        "_gone",
        "_items",
        "_keys",
        "_lost",
        "_own",
        "_plain",
        "_puts",
        "_values",
    )

    def __init__(self, keys: list[bytes], values: list[bytes], content: int) -> None:
        self._keys = keys
        self._items: dict[bytes, bytes] | None = None
        # As lists: values, bytes of what is left, positions of deleted pairs that
        # are still in the lists, whether these may be changed, puts so far.
        self._values = values
        self._content = content
        self._lost = _NONE_LOST
        self._own = False
        self._puts = 0
        # As dict: since a key was deleted, those that are not in `_keys` yet, and
        # those of `_keys` and of these that are not in the dict any more; whether
        # a value may be a bucket; whether a plain put is nothing but an entry.
        self._fresh: list[bytes] = []
        self._gone: set[bytes] = _NONE_GONE
        self._buckets = self._plain = False

    def __len__(self) -> int:
        items = self._items
        return len(self._keys) - len(self._lost) if items is None else len(items)

    # -- reading --

    @property
    def keys(self) -> list[bytes]:
        """All keys, sorted. Not to be changed by the caller."""
        items = self._items
        if items is None:
            if self._lost:
                self._take_out()
            return self._keys
        order, gone = self._keys, self._gone
        fresh = self._fresh if gone else self._behind()
        if fresh:
            if len(fresh) <= _ONE_BY_ONE:
                for key in fresh:
                    insort(order, key)
            else:
                order += fresh
                order.sort()
        if gone:
            if len(gone) <= _ONE_BY_ONE:
                for key in gone:
                    del order[bisect_left(order, key)]
            else:
                order[:] = [key for key in order if key in items]
            self._fresh = []
            self._gone = _NONE_GONE
            self._plain = not self._buckets
        return order

    def _behind(self) -> list[bytes]:
        """The dict's keys that came after the order was made."""
        items = self._items
        assert items is not None
        fresh = list(islice(reversed(items), len(items) - len(self._keys)))
        fresh.reverse()
        return fresh

    def values(self, first: int = 0, end: int | None = None) -> list[bytes]:
        """The values from one position to another, in the keys' order."""
        keys, items = self.keys, self._items
        if items is None:
            return self._values[first:end]
        whole = not first and end is None
        return list(map(items.__getitem__, keys if whole else keys[first:end]))

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when it is not there."""
        items = self._items
        if items is not None:
            return items.get(key)
        keys = self._keys
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key and at not in self._lost:
            return self._values[at]
        return None

    @property
    def content(self) -> int:
        """Bytes of all keys and values."""
        items = self._items
        if items is None:
            return self._content
        return sum(map(len, items)) + sum(map(len, items.values()))

    # -- changing --

    def put(self, key: bytes, value: bytes) -> None:
        """Add or replace a pair."""
        items = self._items
        if items is None:
            if self._puts < _ONE_BY_ONE:
                self._insert(key, value, plain=False)
                return
            items = self._to_dict()
        if value.__class__ is BucketValue:
            self._buckets = True
            self._plain = False
        if self._gone and key not in items:
            self._arrived(key)
        items[key] = value

    def put_plain(self, key: bytes, value: bytes) -> None:
        """The same, for a plain pair.

        Raises:
            IncompatibleValueError: The key names a bucket.
        """
        items = self._items
        if not self._plain or items is None:
            if items is None:
                if self._puts < _ONE_BY_ONE:
                    self._insert(key, value, plain=True)
                    return
                items = self._to_dict()
            there = items.get(key)
            if there.__class__ is BucketValue:
                raise IncompatibleValueError(key)
            if there is None and self._gone:
                self._arrived(key)
        items[key] = value

    def _arrived(self, key: bytes) -> None:
        """Note a key that the dict does not have, when others were deleted."""
        if key in self._gone:
            self._gone.remove(key)
        else:
            self._fresh.append(key)

    def _insert(self, key: bytes, value: bytes, *, plain: bool) -> None:
        if self._lost:
            self._take_out()
        keys, values = self._keys, self._values
        at = bisect_left(keys, key)
        known = at < len(keys) and keys[at] == key
        if known and plain and values[at].__class__ is BucketValue:
            raise IncompatibleValueError(key)
        if not self._own:
            keys = self._keys = keys.copy()
            values = self._values = values.copy()
            self._own = True
        self._puts += 1
        if known:
            self._content += len(value) - len(values[at])
            values[at] = value
        else:
            self._content += len(key) + len(value)
            keys.insert(at, key)
            values.insert(at, value)

    def delete(self, key: bytes, *, plain: bool = False) -> bool:
        """Remove a pair, if it is there.

        Args:
            key: Its key.
            plain: Refuse to remove a bucket.

        Returns:
            Whether it was there.

        Raises:
            IncompatibleValueError: `plain`, and the key names a bucket.
        """
        items = self._items
        if items is None:
            keys = self._keys
            at = bisect_left(keys, key)
            lost = self._lost
            if at == len(keys) or keys[at] != key or at in lost:
                return False
            value = self._values[at]
        else:
            there = items.get(key)
            if there is None:
                return False
            value = there
        if plain and value.__class__ is BucketValue:
            raise IncompatibleValueError(key)
        if items is None:
            self._content -= len(key) + len(value)
            if lost:
                lost.add(at)
            else:
                self._lost = {at}
            return True
        if self._gone:
            self._gone.add(key)
        else:
            self._fresh = self._behind()
            self._gone = {key}
            self._plain = False
        del items[key]
        return True

    def absorb(self, other: LeafPairs) -> None:
        """Take over the pairs of another leaf, all of them behind these."""
        more, others = other.keys, other.values()
        if self._items is None and other._items is None:
            self._keys = self.keys + more
            self._values = self._values + others
            self._own = True
            self._content += other._content
            return
        items = self._to_dict() if self._items is None else self._items
        self._keys = self.keys + more
        items.update(zip(more, others, strict=True))
        self._buckets = True
        self._plain = False

    # -- the two forms --

    def _take_out(self) -> None:
        """Remove the positions that were deleted from the lists."""
        keys, values, lost = self._keys, self._values, self._lost
        if self._own and len(lost) <= _ONE_BY_ONE:
            for at in sorted(lost, reverse=True):
                del keys[at], values[at]
        else:
            kept = bytearray(b"\1") * len(keys)
            for at in lost:
                kept[at] = 0
            self._keys = list(compress(keys, kept))
            self._values = list(compress(values, kept))
            self._own = True
        self._lost = _NONE_LOST

    def _to_dict(self) -> dict[bytes, bytes]:
        """Go over to the other form."""
        keys = self.keys
        items = self._items = dict(zip(keys, self._values, strict=True))
        if not self._own:
            self._keys = keys.copy()
        self._buckets = BucketValue in map(type, self._values)
        self._plain = not self._buckets
        self._values = []
        return items
