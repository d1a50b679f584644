"""A bucket: keys in order, with values, some of which are further buckets.

    root bucket (its root page stands in the meta)
      "config" --> leaf value {root pgid, sequence} --> a tree of pages
      "small"  --> leaf value {0, sequence, a whole leaf page}      inline

A bucket's header lives in its parent's leaf, so a change anywhere below
changes every bucket above when the transaction commits.

Here is what a bucket is to its users: which calls are allowed, what they answer and
what they refuse. The pages and nodes behind it, and what a commit does to them, are
in `tree`.

Two views of the same keys: the cursor sees plain pairs and buckets (value None);
the mapping sees plain pairs only, and `buckets()` the buckets.

Source: bbolt bucket.go.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from operator import index
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from shearbolt.errors import (
    BucketExistsError,
    BucketNameRequiredError,
    BucketNotFoundError,
    DifferentDatabaseError,
    IncompatibleValueError,
    KeyRequiredError,
    KeyTooLargeError,
    SameBucketsError,
    TxNotWritableError,
    ValueTooLargeError,
)
from shearbolt.pages.decoding import decode_bucket
from shearbolt.pages.encoding import encode_inline_bucket
from shearbolt.pages.format import (
    MAX_KEY_SIZE,
    MAX_VALUE_SIZE,
    BucketValue,
    FormatError,
)
from shearbolt.pages.pagemap import PageMap
from shearbolt.stats import BucketStats, BucketStructure
from shearbolt.tree import whole
from shearbolt.tree.chunks import CHUNK
from shearbolt.tree.cursor import Cursor
from shearbolt.tree.deletions import delete_all
from shearbolt.tree.insertions import put_all
from shearbolt.tree.lookup import find
from shearbolt.tree.ranges import Items, Keys, Range, Values, as_bytes
from shearbolt.tree.tree import DEFAULT_FILL_PERCENT, Tree, value_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import SupportsKeysAndGetItem

__all__ = ["DEFAULT_FILL_PERCENT", "Bucket", "require_bucket"]

_MAX_SEQUENCE: Final = (1 << 64) - 1
_ABSENT: Final[Any] = object()

T = TypeVar("T")


class Bucket(Tree, MutableMapping[bytes, bytes]):
    """A collection of key/value pairs in key order, and of further buckets.

    As a mapping it holds the plain pairs. `len()` counts them and reads every
    leaf page to do so. Keys have 1 to 32,768 bytes, values at most 2**31 - 2.

    A bucket is valid as long as its transaction; afterwards its methods raise
    `TxClosedError`. A bucket that was deleted reads as empty, and writing to it
    raises `BucketNotFoundError`.

    Attributes:
        fill_percent: How full pages are made when they are split, 0.1 to 1.0, or
            the nearest of these. What is no number is refused when it is set. Not
            stored: it holds for this transaction.
        name: Its name in its parent, b"" for the root bucket.
        parent: The bucket it lies in, None for the root bucket.
        tx: Its transaction.
        changes: Counts changes, so that cursors notice them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        path = "/".join(repr(name) for name in self.path) or "(root)"
        return f"<shearbolt.Bucket {path} of tx {self.tx.id}>"

    # -- about the bucket --

    @property
    def path(self) -> tuple[bytes, ...]:
        """The names that lead here from the root."""
        names = []
        bucket = self
        while bucket.parent is not None:
            names.append(bucket.name)
            bucket = bucket.parent
        return tuple(reversed(names))

    @property
    def root(self) -> int:
        """The page of the tree's root, 0 when the bucket is inline."""
        return self._root

    @property
    def writable(self) -> bool:
        """Whether the transaction may change it."""
        return self.tx.writable

    @property
    def sequence(self) -> int:
        """A 64-bit counter kept with the bucket, for the caller's use."""
        self.tx.require_open()
        return self._sequence

    def set_sequence(self, value: int) -> None:
        """Set the counter.

        Raises:
            TypeError: No whole number.
            ValueError: Not in [0, 2**64).
            TxNotWritableError: In a read transaction.
        """
        self._require_writable()
        try:
            value = int(index(value))
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"a sequence is a whole number, not {kind}") from None
        if not 0 <= value <= _MAX_SEQUENCE:
            raise ValueError(f"a sequence is in [0, 2**64), not {value}")
        # The header is written with the bucket's root node, so there must be
        # one (boltdb#296: a change of the sequence alone was lost).
        self.root_as_node()
        self._sequence = value

    def next_sequence(self) -> int:
        """Add one to the counter, modulo 2**64, and return it.

        Raises:
            TxNotWritableError: In a read transaction.
        """
        self._require_writable()
        self.set_sequence((self._sequence + 1) & _MAX_SEQUENCE)
        return self._sequence

    # -- pairs --

    @overload
    def get(self, key: bytes, /) -> bytes | None: ...
    @overload
    def get(self, key: bytes, /, default: bytes | T) -> bytes | T: ...
    def get(self, key: bytes, /, default: T | None = None) -> bytes | T | None:
        """The value of a key; `default` when there is none, or a bucket."""
        if self._changed:
            if key.__class__ is not bytes:
                key = as_bytes(key, "a key")
            value = self._value(key)
            if value is None or value.__class__ is BucketValue:
                return default
            return value
        tx = self.tx
        if tx.closed:
            tx.require_open()
        if key.__class__ is not bytes:
            key = as_bytes(key, "a key")
        # Nothing has changed, so there are pages only, and perhaps their index.
        root = self._root_page or self.root_element_page()
        if (pairs := root.pairs) is not None:
            value = pairs.get(key)
            if value is not None:
                return value
        value = find(tx, root, key)
        return default if value is None else value

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key.

        Raises:
            TxClosedError: The transaction has ended.
            TxNotWritableError: It is a read transaction.
            KeyRequiredError: The key is empty.
            KeyTooLargeError: It is longer than 32,768 bytes.
            ValueTooLargeError: The value is longer than 2**31 - 2 bytes.
            IncompatibleValueError: The key names a bucket.
        """
        tx = self.tx
        if tx.closed or self._held or not tx.writable:
            self._require_writable()
        # Copies: a bytearray could be changed by its owner before the commit.
        if key.__class__ is not bytes:
            key = as_bytes(key, "a key")
        if value.__class__ is not bytes:
            value = as_bytes(value, "a value")
        if not 0 < len(key) <= MAX_KEY_SIZE:
            raise KeyTooLargeError(len(key)) if key else KeyRequiredError
        if len(value) > MAX_VALUE_SIZE:
            raise ValueTooLargeError(len(value))
        node = self._root_node
        if node is None or not node.is_leaf:
            node = self._leaf_node(key)
        if node is None:
            # The page is looked at first: what is refused changes nothing.
            way: list[int] = []
            leaf = self._leaf(key, way)
            if leaf.has_buckets and value_in(leaf, key).__class__ is BucketValue:
                raise IncompatibleValueError(key)
            node = self._node_along(way)
        if self.void is not None:
            self.fill(key)
        node.pairs.put_plain(key, value)
        self.changes += 1

    def delete(self, key: bytes) -> None:
        """Remove a key, if it is there.

        Raises:
            TxClosedError: The transaction has ended.
            TxNotWritableError: It is a read transaction.
            IncompatibleValueError: The key names a bucket.
        """
        tx = self.tx
        doomed = self._doomed
        if doomed is not None and key.__class__ is bytes and not tx.closed:
            # Cursors have noticed the first of these.
            late = doomed.late
            late.append(key)
            if len(late) >= CHUNK:
                doomed.late = []
                self.gather(late, 0)
            return
        if tx.closed or not tx.writable or (self._held and doomed is None):
            self._require_writable()
        if key.__class__ is not bytes:
            self.delete(as_bytes(key, "a key"))
            return
        if self._gathers(key):
            return
        node = self._leaf_node(key)
        if node is None:
            # The page is looked at first: a key that is not there changes nothing.
            way: list[int] = []
            there = value_in(self._leaf(key, way), key)
            if there is None:
                return
            if there.__class__ is BucketValue:
                raise IncompatibleValueError(key)
            node = self._node_along(way)
        if node.pairs.delete(key, plain=True):
            node.unbalanced = True
            self.changes += 1

    def delete_many(self, keys: Iterable[bytes], /) -> None:
        """Remove the keys that an iterable gives, those of them that are there.

        The same as to `delete` one after the other, but faster. When one is refused,
        those before it have been removed, and those behind it have not. Up to 1,024
        keys are taken before the first of them is removed.

        Raises:
            TxClosedError: The transaction has ended.
            TxNotWritableError: It is a read transaction.
            IncompatibleValueError: A key names a bucket.
            TypeError: A key is no bytes.
        """
        delete_all(self, keys)

    # -- buckets --

    def bucket(self, name: bytes) -> Bucket:
        """The bucket of this name.

        Raises:
            BucketNotFoundError: There is none.
        """
        if name.__class__ is not bytes:
            name = as_bytes(name, "a bucket name")
        child = self._children.get(name)
        if child is not None and not self.tx.closed:
            return child
        value = self._value(name)
        if value.__class__ is not BucketValue or value is None:
            raise BucketNotFoundError(name)
        return self._open_child(name, value)

    def create_bucket(self, name: bytes) -> Bucket:
        """Make a new, empty bucket.

        Raises:
            TxClosedError: The transaction has ended.
            TxNotWritableError: It is a read transaction.
            BucketNameRequiredError: The name is empty.
            BucketExistsError: There is one of this name.
            IncompatibleValueError: The name is that of a plain key.
        """
        self._require_writable()
        if name.__class__ is not bytes:
            name = as_bytes(name, "a bucket name")
        if not name:
            raise BucketNameRequiredError
        value = self._value(name)
        if value is not None:
            if value.__class__ is BucketValue:
                raise BucketExistsError(name)
            raise IncompatibleValueError(name)
        self.fill(name)
        self._node_for(name).put(name, encode_inline_bucket(0, [], []))
        self.changes += 1
        return self.bucket(name)

    def create_bucket_if_not_exists(self, name: bytes) -> Bucket:
        """The bucket of this name, made when there is none.

        Raises:
            BoltError: As `create_bucket`, but for `BucketExistsError`.
        """
        try:
            return self.create_bucket(name)
        except BucketExistsError:
            return self.bucket(name)

    def delete_bucket(self, name: bytes) -> None:
        """Remove a bucket with everything in it.

        Raises:
            TxClosedError: The transaction has ended.
            TxNotWritableError: It is a read transaction.
            BucketNotFoundError: There is none of this name.
            IncompatibleValueError: The name is that of a plain key.
        """
        self._require_writable()
        if name.__class__ is not bytes:
            name = as_bytes(name, "a bucket name")
        value = self._value(name)
        if value is None:
            raise BucketNotFoundError(name)
        if value.__class__ is not BucketValue:
            raise IncompatibleValueError(name)
        # All buckets below are listed before any is freed: bbolt deletes while
        # it iterates, skips one and leaks its pages. All pages are read before
        # any is freed, so that a damaged one leaves everything as it was.
        doomed = [bucket for bucket, _ in whole.below(self.bucket(name), PageMap())]
        claimed = PageMap()
        pages = [bucket._tree(claimed) for bucket in doomed]
        node = self._node_for(name)
        for bucket, elements in zip(doomed, pages, strict=True):
            bucket._free(elements)
            bucket._forget()
        self._children.pop(name, None)
        node.delete(name)
        self.changes += 1

    def move_bucket(self, name: bytes, target: Bucket) -> None:
        """Move a bucket of this one, with everything in it, to another.

        Changes made to it in this transaction move along (bbolt loses them).

        Raises:
            TxClosedError: The transaction has ended.
            TxNotWritableError: It is a read transaction.
            DifferentDatabaseError: `target` is of another transaction.
            BucketNotFoundError: There is no bucket of this name.
            SameBucketsError: `target` is this bucket, or the moved one, or
                lies inside it.
            BucketExistsError: `target` has a bucket of this name.
            IncompatibleValueError: The name is that of a plain key, here or
                in `target`.
            TypeError: `target` is no bucket.
        """
        if name.__class__ is not bytes:
            name = as_bytes(name, "a bucket name")
        require_bucket(target)
        self.tx.require_open()
        target.tx.require_open()
        if not (self.tx.writable and target.tx.writable):
            raise TxNotWritableError
        if target.tx is not self.tx:
            raise DifferentDatabaseError
        self._require_writable()
        target._require_writable()
        value = self._value(name)
        if value is None:
            raise BucketNotFoundError(name)
        if value.__class__ is not BucketValue:
            raise IncompatibleValueError(name)
        if target is self:
            raise SameBucketsError
        moved = self.bucket(name)
        above: Bucket | None = target
        while above is not None:
            if above is moved:
                raise SameBucketsError("a bucket cannot be moved into itself")
            above = above.parent
        there = target._value(name)
        if there is not None:
            if there.__class__ is BucketValue:
                raise BucketExistsError(name)
            raise IncompatibleValueError(name)
        # Both nodes before any change: reading either may fail.
        source_node, target_node = self._node_for(name), target._node_for(name)
        source_node.delete(name)
        self.changes += 1
        del self._children[name]
        target.fill(name)
        target_node.put(name, value)
        target.changes += 1
        target._children[name] = moved
        moved.parent = target

    def buckets(self) -> Iterator[tuple[bytes, Bucket]]:
        """The buckets in this one, (name, bucket), in name order, lazily."""
        cursor = Cursor(self)
        pair = cursor.first()
        while pair is not None:
            if pair[1] is None:
                yield pair[0], self.bucket(pair[0])
            pair = cursor.next()

    # -- about its content --

    def stats(self) -> BucketStats:
        """Count the pages of this bucket and all below it; reads all of them.

        The numbers are those of the version the transaction began from. Its own
        changes have no pages yet; `BucketStats.uncommitted` says that there
        are some.

        Raises:
            TxClosedError: The transaction has ended.
            CorruptPageError: A page is damaged.
        """
        self.tx.require_open()
        return whole.pages(self, PageMap())

    def inspect(self) -> BucketStructure:
        """Names and key counts of this bucket and all below it.

        A write transaction's own changes are in it. The root bucket's name
        is b"root".

        Raises:
            TxClosedError: The transaction has ended.
            CorruptPageError: A page is damaged.
        """
        self.tx.require_open()
        buckets = whole.below(self, PageMap())
        inside: dict[int, list[BucketStructure]] = {id(b): [] for b, _ in buckets}
        # Backwards every bucket comes after those in it, and siblings reversed.
        for bucket, count in reversed(buckets):
            below = tuple(reversed(inside[id(bucket)]))
            made = BucketStructure(bucket.name or b"root", count, below)
            if bucket is not self:
                inside[id(bucket.parent)].append(made)
        return made

    # -- order --

    def cursor(self) -> Cursor:
        """A cursor over plain pairs and buckets, not yet on any element."""
        self.tx.require_open()
        self.tx.work.cursor_count += 1
        return Cursor(self)

    def items(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Items:
        """The plain pairs with start <= key < stop, in key order, lazily.

        Args:
            start: First key wanted; None for the first there is.
            stop: First key no longer wanted; None for no end.
            prefix: Only keys that begin so, within start and stop.
            reverse: From the last to the first.

        Returns:
            A view that reads as it is iterated, and can be again. The bucket
            may be changed meanwhile: what lies ahead is seen as it is then.
        """
        return Items(self, Range.of(start, stop, prefix), reverse=reverse)

    def keys(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Keys:
        """The keys of `items`, with the same arguments."""
        return Keys(self, Range.of(start, stop, prefix), reverse=reverse)

    def values(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Values:
        """The values of `items`, with the same arguments."""
        return Values(self, Range.of(start, stop, prefix), reverse=reverse)

    # -- mapping --

    def __getitem__(self, key: bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        self._require_writable()
        if key not in self:
            raise KeyError(key)
        self.delete(key)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, bytes):
            key = as_bytes(key, "a key")
        return self.get(key) is not None

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())

    def __reversed__(self) -> Iterator[bytes]:
        return iter(self.keys(reverse=True))

    def __len__(self) -> int:
        return len(self.keys())

    def __bool__(self) -> bool:
        return any(True for _ in self)

    @overload
    def update(self, pairs: SupportsKeysAndGetItem[bytes, bytes], /) -> None: ...
    @overload
    def update(self, pairs: Iterable[tuple[bytes, bytes]] = (), /) -> None: ...
    # No keyword is a key: these are text.
    def update(self, pairs: Any = (), /) -> None:
        """Put all pairs of a mapping, or of an iterable of pairs.

        The same as to `put` one after the other, but faster. When one is refused, those
        before it have been put, and those behind it have not. Up to 1,024 pairs are
        taken before the first of them is put.

        Raises:
            BoltError: As `put`.
            TypeError: A key or value is no bytes, or a pair is none.
            ValueError: A pair has another length than two.
        """
        put_all(self, pairs)

    # MutableMapping's clear pops the first pair again and again. It and the next three
    # would not notice that they may change nothing while there is nothing to change.
    def clear(self) -> None:
        """Delete all plain pairs; buckets stay.

        Raises:
            BoltError: As `delete`.
        """
        self.require_changeable()
        for key in self.keys():
            self.delete(key)

    @overload
    def pop(self, key: bytes, /) -> bytes: ...
    @overload
    def pop(self, key: bytes, /, default: bytes | T) -> bytes | T: ...
    def pop(self, key: bytes, /, default: Any = _ABSENT) -> Any:
        """Delete a pair and return its value; `default` when there is none.

        Raises:
            BoltError: As `delete`.
            KeyError: There is none, and no `default`.
        """
        self.require_changeable()
        value = self.get(key)
        if value is None:
            if default is _ABSENT:
                raise KeyError(key)
            return default
        self.delete(key)
        return value

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete the first pair and return it.

        Raises:
            BoltError: As `delete`.
            KeyError: There is none.
        """
        self.require_changeable()
        return super().popitem()

    def setdefault(self, key: bytes, default: bytes) -> bytes:
        """The value of a key, put when there is none.

        Raises:
            BoltError: As `put`.
        """
        self.require_changeable()
        return super().setdefault(key, default)

    def require_changeable(self) -> None:
        """Raise unless it may be changed. What is gathered may stay so.

        Raises:
            BoltError: As `put`.
        """
        if self._deleted or self.tx.closed or not self.tx.writable:
            self._require_writable()

    def _open_child(self, name: bytes, value: bytes) -> Bucket:
        try:
            root, sequence, inline = decode_bucket(value)
        except FormatError as error:
            pgid = self._leaf(name).pgid
            raise self.tx.corrupt(pgid, f"bucket {name!r} in it: {error}") from None
        child = Bucket(self.tx, self, name, root, sequence, inline)
        if self.tx.writable:
            self._children[name] = child
        return child

    def _require_writable(self) -> None:
        if self.tx.closed:
            self.tx.require_open()
        if not self.tx.writable:
            raise TxNotWritableError
        if self._deleted:
            raise BucketNotFoundError(self.name)
        self.carry_out_deletes()


def require_bucket(given: object) -> None:
    """Refuse what a bucket cannot be moved from or to.

    Raises:
        TypeError: It is no bucket.
    """
    if not isinstance(given, Bucket):
        raise TypeError(f"a bucket lies in a Bucket, not {type(given).__name__}")
