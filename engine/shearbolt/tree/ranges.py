"""Key ranges of a bucket and the lazy views over them.

A range is start <= key < stop. A prefix is a range too: the keys that begin with
b"ab" are those from b"ab" up to b"ac".

The views read leaf by leaf while they are iterated. In a read transaction pages
never change and a leaf's pairs are handed out without further checks. In a write
transaction the loop's body may change the bucket: after every pair the view looks
whether it did and, if so, goes on from the key behind the one it gave last.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import ItemsView, Iterator, KeysView, Sequence, ValuesView
from dataclasses import dataclass
from itertools import chain, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from shearbolt.pages.format import BucketValue, Page
from shearbolt.pages.pager import MAX_DEPTH
from shearbolt.tree.lookup import fetch
from shearbolt.tree.node import Node
from shearbolt.tree.void import PASSED, Void

if TYPE_CHECKING:
    from shearbolt.errors import CorruptPageError
    from shearbolt.tree.bucket import Bucket

T = TypeVar("T")

__all__ = ["Items", "Keys", "Path", "Range", "Values", "as_bytes"]

_SHORT: Final = 8
"""Leaves that a range reads before it counts as a long one: of 15 pairs each, the
usual hundred are over then, and nothing was decoded that nobody wants."""
_AHEAD: Final = 8
"""Leaves of which a long range has those decoded that were read together."""

_FIRST_PIECE: Final = 8
"""Pairs read before a loop in a write transaction gets the first one."""


def as_bytes(data: object, what: str) -> bytes:
    """A key, name or value as bytes of its own: its owner may change a bytearray.

    Raises:
        TypeError: It is no bytes, bytearray or memoryview.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"{what} is bytes, not {type(data).__name__}")


@dataclass(frozen=True, slots=True)
class Range:
    """The keys with start <= key < stop; a stop of None is no end."""

    start: bytes = b""
    stop: bytes | None = None

    @classmethod
    def of(cls, start: bytes | None, stop: bytes | None, prefix: bytes | None) -> Range:
        """The range these arguments of `items` mean together.

        Raises:
            TypeError: One of them is no bytes.
        """
        if start.__class__ is not bytes and start is not None:
            start = as_bytes(start, "start")
        if stop.__class__ is not bytes and stop is not None:
            stop = as_bytes(stop, "stop")
        low = b"" if start is None else start
        if prefix is not None:
            prefix = as_bytes(prefix, "prefix")
            low = max(low, prefix)
            after = _after_prefix(prefix)
            if stop is None or (after is not None and after < stop):
                stop = after
        return cls(low, stop)

    def __contains__(self, key: object) -> bool:
        key = as_bytes(key, "a key")
        return key >= self.start and (self.stop is None or key < self.stop)


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with `prefix`; None: there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


Path = list[tuple["Page | Node", int]]
"""From a root to an element: pages, or nodes in their place, and where in them."""
Chunk = tuple[Sequence[bytes], Sequence[bytes]]
"""Keys and values of a piece of a range."""


def _leaves(bucket: Bucket, keys: Range) -> Iterator[tuple[Page | Node, int, int]]:
    """(leaf, first index, end index) for each leaf with keys of the range."""
    path: Path = []
    start = begin = keys.start
    void = bucket.void
    if void is not None and void.covers(start):
        if void.high is None:
            return
        start, begin = void.high, void.low
    leaf = _descend(bucket, path, start)
    low = bisect_left(leaf.keys, start)
    stop = keys.stop
    order = _Order(bucket)
    passed: int | None = 0
    while True:
        names = leaf.keys
        order.forward(leaf)
        if passed is not None:
            if low < len(names):
                if passed > PASSED:
                    bucket.void = Void(begin, names[low])
                passed = None
            else:
                passed += 1
        ends = stop is not None and bool(names) and names[-1] >= stop
        high = bisect_left(names, stop) if ends and stop is not None else len(names)
        if low < high:
            yield leaf, low, high
        if ends:
            return
        following = _step(bucket, path, 1)
        if following is None:
            if passed is not None and passed > PASSED:
                bucket.void = Void(begin, None)
            return
        leaf, low = following, 0


def _leaves_reversed(
    bucket: Bucket, keys: Range
) -> Iterator[tuple[Page | Node, int, int]]:
    """The same from the last leaf to the first."""
    path: Path = []
    stop = end = keys.stop
    void = bucket.void
    if void is not None and void.reaches(stop):
        stop, end = void.low, void.high
    leaf = _descend(bucket, path, stop)
    start = keys.start
    order = _Order(bucket)
    passed: int | None = 0
    while True:
        names = leaf.keys
        order.backward(leaf)
        high = len(names) if stop is None else bisect_left(names, stop)
        if passed is not None:
            if high:
                if passed > PASSED:
                    bucket.void = Void(names[high - 1] + b"\0", end)
                passed = None
            else:
                passed += 1
        begins = bool(names) and names[0] <= start
        low = bisect_left(names, start) if begins else 0
        if low < high:
            yield leaf, low, high
        if begins:
            return
        before = _step(bucket, path, -1)
        if before is None:
            if passed is not None and passed > PASSED:
                bucket.void = Void(b"", end)
            return
        leaf = before


class _Order:
    """Leaves must come in key order; that also ends every walk.

    A damaged tree may lead to a page twice, by a cycle or because two branches
    share it. Its keys are then not behind those before. Only leaves without keys
    could be met again: which they were is remembered.
    """

    __slots__ = ("_bucket", "_empty", "_last")

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._last: bytes | None = None
        self._empty: set[int] = set()

    def forward(self, leaf: Page | Node) -> None:
        names = leaf.keys
        if not names:
            self.skip(leaf)
            return
        if self._last is not None and names[0] <= self._last:
            raise self.not_behind(leaf)
        self._last = names[-1]

    def backward(self, leaf: Page | Node) -> None:
        names = leaf.keys
        if not names:
            self.skip(leaf)
            return
        if self._last is not None and names[-1] >= self._last:
            raise self.not_before(leaf)
        self._last = names[0]

    def not_behind(self, leaf: Page | Node) -> CorruptPageError:
        return self._bucket.tx.corrupt(
            leaf.pgid, "its first key is not behind the leaf before it"
        )

    def not_before(self, leaf: Page | Node) -> CorruptPageError:
        return self._bucket.tx.corrupt(
            leaf.pgid, "its last key is not before the leaf behind it"
        )

    def skip(self, leaf: Page | Node) -> None:
        if leaf.pgid in self._empty:
            raise self._bucket.tx.corrupt(leaf.pgid, "the tree contains a cycle")
        self._empty.add(leaf.pgid)


def _descend(bucket: Bucket, path: Path, key: bytes | None) -> Page | Node:
    """To the leaf of a key, None for the last one, noting the way."""
    element = bucket.root_element()
    while not element.is_leaf:
        names = element.keys
        if key is None:
            index = len(names) - 1
        else:
            index = bisect_left(names, key)
            if index == len(names) or names[index] != key:
                index = max(index - 1, 0)
        path.append((element, index))
        element = _below(bucket, path)
    return element


def _step(bucket: Bucket, path: Path, direction: int) -> Page | Node | None:
    """To the next leaf in one of the two directions; None at the end."""
    while path:
        element, index = path.pop()
        index += direction
        if 0 <= index < len(element.keys):
            path.append((element, index))
            child = _below(bucket, path)
            while not child.is_leaf:
                path.append((child, 0 if direction > 0 else len(child.keys) - 1))
                child = _below(bucket, path)
            return child
    return None


def _below(bucket: Bucket, path: Path) -> Page | Node:
    element, index = path[-1]
    if len(path) > MAX_DEPTH:
        raise bucket.too_deep(element.children[index])
    return bucket.element(element.children[index])


def _chunks(bucket: Bucket, keys: Range, *, reverse: bool) -> Iterator[Chunk]:
    """Keys and values piece by piece, plain pairs only.

    The lists may be those of a page in the cache: not to be changed.
    """
    read = _changing if bucket.tx.writable else _committed
    return read(bucket, keys, reverse=reverse)


def _committed(bucket: Bucket, keys: Range, *, reverse: bool) -> Iterator[Chunk]:
    """In a read transaction: leaf by leaf, whole ones as they are."""
    return _backwards(bucket, keys) if reverse else _forwards(bucket, keys)


# What is done for each leaf is written out in both directions: a range of 100 pairs
# meets eight leaves and takes 10 us, 14 with a call for each step.


def _forwards(bucket: Bucket, keys: Range) -> Iterator[Chunk]:
    tx = bucket.tx
    tx.require_open()
    stop = keys.stop
    order = _Order(bucket)
    path: Path = []
    first = _way_down(bucket, path, keys.start)
    low = bisect_left(first.keys, keys.start)
    last: bytes | None = None
    ends = False
    for leaf in chain((first,), _following(bucket, path, 1)):
        names, values = leaf.keys, leaf.values
        if not names:
            order.skip(leaf)
            continue
        if last is not None and names[0] <= last:
            raise order.not_behind(leaf)
        last = names[-1]
        high = len(names)
        if stop is not None and last >= stop:
            high = bisect_left(names, stop)
            ends = True
        if low or ends:
            names, values = names[low:high], values[low:high]
            low = 0
        yield _plain(names, values) if leaf.has_buckets else (names, values)
        if tx.closed:
            tx.require_open()
        if ends:
            return


def _backwards(bucket: Bucket, keys: Range) -> Iterator[Chunk]:
    tx = bucket.tx
    tx.require_open()
    start, stop = keys.start, keys.stop
    order = _Order(bucket)
    path: Path = []
    first = _way_down(bucket, path, stop)
    high = None if stop is None else bisect_left(first.keys, stop)
    last: bytes | None = None
    for leaf in chain((first,), _following(bucket, path, -1)):
        names, values = leaf.keys, leaf.values
        if not names:
            order.skip(leaf)
            continue
        if last is not None and names[-1] >= last:
            raise order.not_before(leaf)
        last = names[0]
        ends = last <= start
        low = bisect_left(names, start) if ends else 0
        names, values = names[low:high], values[low:high]
        high = None
        if leaf.has_buckets:
            names, values = _plain(names, values)
        yield names[::-1], values[::-1]
        if tx.closed:
            tx.require_open()
        if ends:
            return


def _way_down(bucket: Bucket, path: Path, key: bytes | None) -> Page:
    """As `_descend`, in a tree without nodes."""
    tx, cached = bucket.tx, bucket.tx.db.pager.young
    page = bucket.root_element_page()
    while not page.is_leaf:
        names = page.keys
        index = len(names) if key is None else bisect_right(names, key, 1)
        path.append((page, index - 1))
        pgid = page.children[index - 1]
        if len(path) > MAX_DEPTH:
            raise bucket.too_deep(pgid)
        page = cached.get(pgid) or fetch(tx, pgid)
    return page


def _following(bucket: Bucket, path: Path, direction: int) -> Iterator[Page]:
    """The leaves behind a path (before it), in a tree without nodes."""
    tx, pager = bucket.tx, bucket.tx.db.pager
    misses = 0
    while path:
        element, index = path.pop()
        children = element.children
        end = len(children) if direction > 0 else -1
        for place in range(index + direction, end, direction):
            page = pager.young.get(children[place])
            if page is None:
                page = fetch(tx, children[place])
                misses += 1
                if misses > _SHORT:
                    ahead = slice(place + 1, place + _AHEAD)
                    if direction < 0:
                        ahead = slice(max(place + 1 - _AHEAD, 0), place)
                    pager.take_in(children[ahead], tx._meta.high_water_mark)
            if page.is_leaf:
                yield page
                continue
            path.append((element, place))
            path.append((page, -1 if direction > 0 else len(page.children)))
            if len(path) > MAX_DEPTH:
                raise bucket.too_deep(page.pgid)
            break


def _plain(
    names: Sequence[bytes], values: Sequence[bytes]
) -> tuple[list[bytes], list[bytes]]:
    """Without the buckets."""
    plain = [
        (name, value)
        for name, value in zip(names, values, strict=True)
        if value.__class__ is not BucketValue
    ]
    return [name for name, _ in plain], [value for _, value in plain]


def _changing(bucket: Bucket, keys: Range, *, reverse: bool) -> Iterator[Chunk]:
    """In a write transaction: in pieces, through nodes and pages."""
    bucket.tx.require_open()
    walk = _leaves_reversed if reverse else _leaves
    for leaf, low, high in walk(bucket, keys):
        for first, end in _pieces(low, high, reverse=reverse):
            if isinstance(leaf, Node):
                found: Sequence[bytes] = leaf.pairs.values(first, end)
            else:
                found = leaf.values[first:end]
            names, values = _plain(leaf.keys[first:end], found)
            if reverse:
                names.reverse()
                values.reverse()
            yield names, values
            bucket.tx.require_open()


def _pieces(low: int, high: int, *, reverse: bool) -> Iterator[tuple[int, int]]:
    """A leaf's range in pieces, because the loop may change the bucket.

    A write transaction's leaf can hold a million new keys, and a loop that
    deletes them begins anew after each. Pieces grow, so that a loop that
    changes nothing has little to pay.
    """
    size = _FIRST_PIECE
    while low < high:
        if reverse:
            first = max(low, high - size)
            yield first, high
            high = first
        else:
            end = min(high, low + size)
            yield low, end
            low = end
        size *= 2


def _pairs(
    bucket: Bucket, keys: Range, *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """The pairs; nothing but C runs between two pairs of a leaf that can't change."""
    if bucket.tx.writable:
        return _changing_pairs(bucket, keys, reverse=reverse)
    chunks = _committed(bucket, keys, reverse=reverse)
    return chain.from_iterable(starmap(zip, chunks))


def _changing_pairs(
    bucket: Bucket, keys: Range, *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    changed = True
    while changed:
        changed = False
        seen = bucket.changes
        chunks = _chunks(bucket, keys, reverse=reverse)
        for pair in chain.from_iterable(zip(*chunk, strict=True) for chunk in chunks):
            yield pair
            bucket.tx.require_open()
            if bucket.changes != seen:
                changed = True
                if reverse:
                    keys = Range(keys.start, pair[0])
                else:
                    keys = Range(pair[0] + b"\0", keys.stop)
                break


class _View(Generic[T]):
    """A range of a bucket, read while it is iterated.

    Like the views of a dict it can be iterated again and again, measured and
    asked for membership. It is an iterator too: `next()` walks it once.
    """

    def __init__(self, bucket: Bucket, keys: Range, *, reverse: bool) -> None:
        self._mapping = bucket
        self._keys = keys
        self._reverse = reverse
        self._running: Iterator[T] | None = None

    def _iterate(self, *, reverse: bool) -> Iterator[T]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[T]:
        return self._iterate(reverse=self._reverse)

    def __reversed__(self) -> Iterator[T]:
        return self._iterate(reverse=not self._reverse)

    def __next__(self) -> T:
        if self._running is None:
            self._running = iter(self)
        return next(self._running)

    def __len__(self) -> int:
        return sum(
            len(names) for names, _ in _chunks(self._mapping, self._keys, reverse=False)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._mapping!r}>"


class Items(_View[tuple[bytes, bytes]], ItemsView[bytes, bytes]):
    """The pairs of a range."""

    def _iterate(self, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        return _pairs(self._mapping, self._keys, reverse=reverse)

    def __contains__(self, item: object) -> bool:
        return (
            isinstance(item, tuple)
            and len(item) == 2
            and item[0] in self._keys
            and self._mapping.get(item[0]) == item[1]
            and item[1] is not None
        )


class Keys(_View[bytes], KeysView[bytes]):
    """The keys of a range."""

    def _iterate(self, *, reverse: bool) -> Iterator[bytes]:
        bucket, keys = self._mapping, self._keys
        if bucket.tx.writable:
            return (key for key, _ in _pairs(bucket, keys, reverse=reverse))
        chunks = _committed(bucket, keys, reverse=reverse)
        return chain.from_iterable(map(itemgetter(0), chunks))

    def __contains__(self, key: object) -> bool:
        return key in self._keys and key in self._mapping


class Values(_View[bytes], ValuesView[bytes]):
    """The values of a range."""

    def _iterate(self, *, reverse: bool) -> Iterator[bytes]:
        bucket, keys = self._mapping, self._keys
        if bucket.tx.writable:
            return (value for _, value in _pairs(bucket, keys, reverse=reverse))
        chunks = _committed(bucket, keys, reverse=reverse)
        return chain.from_iterable(map(itemgetter(1), chunks))

    def __contains__(self, value: object) -> bool:
        return any(value == other for other in self)
