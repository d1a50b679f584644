"""The pairs of one leaf while a write transaction changes them.

Few changes come to most leaves and very many to some, so there are three forms:

    lists   keys and values, sorted, side by side: at first the page's own tuples, not
            touched and not copied. Deleting marks a position; it is taken out when
            somebody wants the order. Putting inserts into copies.
    dict    from the 17th put on. The order is made when somebody asks for it: the
            keys behind those that are in it already, which a dict keeps at its end,
            are sorted in, one by one when they are few, all together when they are
            many. After a delete the new and the gone keys are noted instead.
    records of an empty leaf that was given many pairs together, until somebody looks
            for one or changes one, see `records`.

Deleting half of all pairs, seven from each leaf, does not touch the others, nor the
values: most of these objects are in no cache of the processor, and looking at one
costs as much as a call. n inserts in random order cost n log n (bbolt keeps a sorted
array, which makes them n^2).

What it is not: it knows nothing of pages, parents and sizes on disk. See `node`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import compress, islice
from typing import TYPE_CHECKING, Final

from shearbolt.errors import IncompatibleValueError
from shearbolt.pages.format import BucketValue
from shearbolt.tree.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shearbolt.pages.format import Page

__all__ = ["LeafPairs"]

_ONE_BY_ONE: Final = 16
"""Up to here inserting and deleting single keys beats making the order again. An
insert into 100,000 keys moves 400 KB in 20 us, sorting them costs 2 ms."""

_NO_KEYS: Final[list[bytes]] = []
"""Keys that a leaf has noted when there are none: shared and never changed."""


class LeafPairs:
    """A leaf's pairs, sorted by key, to be changed.

    Args:
        keys: Sorted keys; not changed.
        values: One a key; not changed either.
        has_buckets: Whether a value may be a bucket.
        content: Bytes of all these together.
    """

    __slots__ = (
        "_buckets",
        "_content",
        "_count",
        "_fresh",
        "_gone",
        "_items",
        "_kept",
        "_keys",
        "_lists",
        "_order",
        "_plain",
        "_puts",
        "_records",
        "_values",
    )

    def __init__(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        *,
        has_buckets: bool,
        content: int,
    ) -> None:
        self._keys = keys
        self._buckets = has_buckets
        self._items: dict[bytes, bytes] | None = None
        # As lists: values, bytes of all (-1: not counted), which positions have not
        # been deleted (None: all), how many, both again when they may be changed
        # in place, puts so far.
        self._values = values
        self._content = content
        self._kept: bytearray | None = None
        self._count = len(keys)
        self._lists: tuple[list[bytes], list[bytes]] | None = None
        self._puts = 0
        # As dict: keys in order; since one was deleted, those that are not there yet,
        # and those of both that are not in the dict any more (None: nothing was
        # deleted); whether a plain put is nothing but an entry.
        self._order = _NO_KEYS
        self._fresh = _NO_KEYS
        self._gone: set[bytes] | None = None
        self._plain = False
        # As records, when these are all there is: then there is no dict.
        self._records: Records | None = None

    @classmethod
    def without(cls, page: Page, doomed: Iterable[bytes]) -> LeafPairs | None:
        """What is left of a page's pairs without these keys.

        Returns:
            None when it has none of them.
        """
        gone = set(doomed)
        kept = [key not in gone for key in page.keys]
        if all(kept):
            return None
        keys = tuple(compress(page.keys, kept))
        values = tuple(compress(page.values, kept))
        # Counted while they are at hand.
        content = sum(map(len, keys)) + sum(map(len, values))
        return cls(keys, values, has_buckets=page.has_buckets, content=content)

    def __len__(self) -> int:
        if self._records is not None:
            order = self._records.in_order()
            if order is not None:
                return len(order)
            return len(self._to_dict())
        items = self._items
        return self._count if items is None else len(items)

    # -- reading --

    @property
    def keys(self) -> Sequence[bytes]:
        """All keys, sorted. Not to be changed by the caller."""
        items = self._items
        if items is None:
            if self._records is None:
                if self._kept is not None:
                    self._take_out()
                return self._keys
            items = self._to_dict()
        order, gone = self._order, self._gone
        fresh = self._behind() if gone is None else self._fresh
        if fresh:
            if len(fresh) <= _ONE_BY_ONE:
                for key in fresh:
                    insort(order, key)
            else:
                order += fresh
                order.sort()
        if gone is not None:
            if len(gone) <= _ONE_BY_ONE:
                for key in gone:
                    del order[bisect_left(order, key)]
            else:
                order[:] = [key for key in order if key in items]
            self._fresh = []
            self._gone = None
            self._plain = not self._buckets
        return order

    def _behind(self) -> list[bytes]:
        """The dict's keys that came after the order was made."""
        items = self._items
        assert items is not None
        fresh = list(islice(reversed(items), len(items) - len(self._order)))
        fresh.reverse()
        return fresh

    def values(self, first: int = 0, end: int | None = None) -> Sequence[bytes]:
        """The values from one position to another, in the keys' order."""
        keys, items = self.keys, self._items
        if items is None:
            return self._values[first:end]
        whole = not first and end is None
        return list(map(items.__getitem__, keys if whole else keys[first:end]))

    def records(self) -> tuple[Records, list[bytes]] | None:
        """The records, and the same in order, if there are any.

        Not of few pairs, nor of such as `records` says, nor of buckets.
        """
        taken = self._records
        if taken is not None:
            order = taken.in_order()
            if order is not None:
                return taken, order
            self._to_dict()
        items = self._items
        if items is None or self._buckets:
            return None
        made = Records.of(items)
        order = None if made is None else made.in_order()
        return None if made is None or order is None else (made, order)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when it is not there."""
        items = self._items
        if items is None and self._records is not None:
            items = self._to_dict()
        if items is not None:
            return items.get(key)
        at = self._position(key)
        return None if at < 0 else self._values[at]

    def _position(self, key: bytes) -> int:
        """Where in the lists a key stands, -1 when it is not there."""
        keys, kept = self._keys, self._kept
        at = bisect_left(keys, key)
        if at == len(keys) or keys[at] != key or (kept is not None and not kept[at]):
            return -1
        return at

    @property
    def has_buckets(self) -> bool:
        """Whether a value may be a bucket."""
        return self._buckets

    @property
    def content(self) -> int:
        """Bytes of all keys and values."""
        if self._records is not None:
            order = self._records.in_order()
            if order is not None:
                each = self._records.each
                return each * len(order) if each else sum(map(len, order))
            self._to_dict()
        items = self._items
        if items is not None:
            return sum(map(len, items)) + sum(map(len, items.values()))
        if self._content < 0:
            self._content = sum(map(len, self.keys)) + sum(map(len, self._values))
        return self._content

    # -- changing --

    def put(self, key: bytes, value: bytes) -> None:
        """Add or replace a pair."""
        if value.__class__ is BucketValue:
            self._buckets = True
        items = self._items
        if items is None:
            if self._puts < _ONE_BY_ONE and self._records is None:
                self._insert(key, value, plain=False)
                return
            items = self._to_dict()
        if value.__class__ is BucketValue:
            self._plain = False
        if self._gone is not None and key not in items:
            self._arrived(key, self._gone)
        items[key] = value

    def put_plain(self, key: bytes, value: bytes) -> None:
        """The same, for a plain pair.

        Raises:
            IncompatibleValueError: The key names a bucket.
        """
        items = self._items
        if items is None:
            if self._puts < _ONE_BY_ONE and self._records is None:
                self._insert(key, value, plain=True)
                return
            items = self._to_dict()
        if not self._plain:
            there = items.get(key)
            if there.__class__ is BucketValue:
                raise IncompatibleValueError(key)
            if there is None and self._gone is not None:
                self._arrived(key, self._gone)
        items[key] = value

    def put_all(
        self,
        keys: list[bytes],
        values: list[bytes],
        records: list[bytes],
        lengths: set[int],
    ) -> bool:
        """The same for many plain pairs, if that is one step.

        Args:
            keys: Their keys.
            values: One a key.
            records: One a pair, if `records` has any of such pairs.
            lengths: How long these are.

        Returns:
            Whether it was: not when a key may name a bucket, or one was deleted.
        """
        taken = self._records
        if taken is None and records and not len(self):
            taken = self._records = Records(len(keys[0]))
            # Of an empty leaf that had one: beside records there is none.
            self._buckets = False
            self._items = None
        if taken is not None and records and taken.key_size == len(keys[0]):
            taken.take(keys, records, lengths)
            return True
        if self._items is None and not self._buckets:
            self._to_dict()
        if self._items is None or not self._plain:
            return False
        self._items.update(zip(keys, values, strict=True))
        return True

    def _arrived(self, key: bytes, gone: set[bytes]) -> None:
        """Note a key that the dict does not have, after others were deleted.

        One that was deleted itself is still where it was, but has moved to the end
        of the dict, so from now on that says nothing: the notes count until the
        order is made, even when there are none left.
        """
        if key in gone:
            gone.remove(key)
        else:
            self._fresh.append(key)

    def _insert(self, key: bytes, value: bytes, *, plain: bool) -> None:
        if self._kept is not None:
            self._take_out()
        at = bisect_left(self._keys, key)
        known = at < len(self._keys) and self._keys[at] == key
        if known and plain and self._values[at].__class__ is BucketValue:
            raise IncompatibleValueError(key)
        if self._lists is None:
            self._lists = list(self._keys), list(self._values)
            self._keys, self._values = self._lists
        keys, values = self._lists
        self._puts += 1
        if self._content >= 0:
            self._content += len(value) - (len(values[at]) if known else -len(key))
        if known:
            values[at] = value
        else:
            self._count += 1
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
        if items is None and self._records is not None:
            items = self._to_dict()
        if items is None:
            # Written out, not by `_position`: it is called once a deleted key.
            keys, kept = self._keys, self._kept
            at = bisect_left(keys, key)
            if at == len(keys) or keys[at] != key or (kept and not kept[at]):
                return False
            if plain and self._buckets and self._values[at].__class__ is BucketValue:
                raise IncompatibleValueError(key)
            if kept is None:
                kept = self._kept = bytearray(b"\1") * len(keys)
            kept[at] = 0
            self._count -= 1
            self._content = -1
            return True
        value = items.get(key)
        if value is None:
            return False
        if plain and value.__class__ is BucketValue:
            raise IncompatibleValueError(key)
        if self._gone is not None:
            self._gone.add(key)
        else:
            self._fresh = self._behind()
            self._gone = {key}
            self._plain = False
        del items[key]
        return True

    def absorb(self, other: LeafPairs) -> None:
        """Take over the pairs of another leaf, all of them behind these."""
        mine, more, others = self.keys, other.keys, other.values()
        self._buckets |= other._buckets
        if self._items is None and other._items is None:
            if self._content >= 0 <= other._content:
                self._content += other._content
            else:
                self._content = -1
            # In place: one leaf may take over thousands, one after the other.
            if self._lists is None:
                self._lists = list(mine), list(self._values)
                self._keys, self._values = self._lists
            keys, values = self._lists
            keys += more
            values += others
            self._count += other._count
            return
        items = self._to_dict() if self._items is None else self._items
        self._order += more
        items.update(zip(more, others, strict=True))
        self._plain = not self._buckets

    # -- from form to form --

    def _take_out(self) -> None:
        """Remove the positions that were deleted from the lists."""
        kept = self._kept
        assert kept is not None
        if self._lists is not None and len(kept) - self._count <= _ONE_BY_ONE:
            keys, values = self._lists
            at = kept.rfind(0)
            while at >= 0:
                del keys[at], values[at]
                at = kept.rfind(0, 0, at)
        else:
            self._keys = tuple(compress(self._keys, kept))
            self._values = tuple(compress(self._values, kept))
            self._lists = None
        self._kept = None

    def _to_dict(self) -> dict[bytes, bytes]:
        """Go over from one of the other forms."""
        if self._records is not None:
            items = self._items = self._records.pairs()
            self._records = None
            self._order = []
            self._fresh = _NO_KEYS
            self._gone = None
            self._plain = True
            return items
        keys = self.keys
        items = self._items = dict(zip(keys, self._values, strict=True))
        self._order = list(keys)
        self._plain = not self._buckets
        self._keys = self._values = ()
        self._lists = None
        return items
