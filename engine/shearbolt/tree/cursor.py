"""A cursor: a place in a bucket that moves in key order.

The cursor keeps the path from the root to its element:

    root branch [i] -> branch [j] -> leaf [k]

where each step is a page, or the node that has taken the page's place in this
transaction. Moving is moving the last index, or climbing until an index can
move.

Buckets may be changed while a cursor stands in them. bbolt's cursor keeps its
path then and skips an element after a delete (bbolt #146, boltdb #620, #357).
Here the cursor remembers the key it stands on. When the bucket has changed since
the last move, the path is thrown away and found again from the key: `next` goes
to the first key behind it, `prev` to the last one before it, whether it still
exists or not. So deleting while iterating skips nothing and repeats nothing.

A move that reads goes along a path of its own, and the cursor takes that when it has
arrived. So one that an error or an interrupt ends leaves the cursor where it was, and
can be made again.

Kept from bbolt, because programs rely on it: after `seek` past the end `prev`
gives the last element; after `next` has returned None the cursor stays on the
last element; after `prev` at the first element it stays there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from shearbolt.errors import (
    CursorError,
    IncompatibleValueError,
    TxNotWritableError,
)
from shearbolt.pages.format import BucketValue
from shearbolt.pages.pager import MAX_DEPTH
from shearbolt.storage.single import Single
from shearbolt.tree.ranges import Path, as_bytes
from shearbolt.tree.void import PASSED, Void

if TYPE_CHECKING:
    from shearbolt.pages.format import Page
    from shearbolt.tree.bucket import Bucket
    from shearbolt.tree.node import Node

__all__ = ["Cursor"]

Pair = tuple[bytes, bytes | None]


class Cursor(Single):
    """Moves through a bucket's keys in order, sub-buckets among them.

    All movements return (key, value), where the value is None for a sub-bucket,
    or None when there is no such element.

    Raises:
        TxClosedError: From every method, when the transaction has ended.
    """

    __slots__ = ("_bucket", "_key", "_passed", "_path", "_seen")

    def __init__(self, bucket: Bucket) -> None:
        self._bucket: Final = bucket
        self._path: Path = []
        # The key it stands on, also after it was deleted; the key sought when
        # the seek ended behind the last element; None before the first move.
        self._key: bytes | None = None
        self._seen = -1
        # Emptied leaves between the place where it was looked for a key and the key.
        self._passed = 0

    @property
    def bucket(self) -> Bucket:
        """The bucket it moves in."""
        return self._bucket

    # -- movement --

    def first(self) -> Pair | None:
        """Go to the first element."""
        seen = self._begin()
        path: Path = []
        void = self._bucket.void
        if void is None or void.low or void.high is None:
            self._descend_first(path, self._bucket.root_element())
            there = self._skip_forward(path)
        else:
            self._descend(path, void.high)
            element, index = path[-1]
            there = index < len(element.keys) or (
                self._climb_forward(path) and self._skip_forward(path)
            )
        pair = self._arrive(path, seen, there)
        if pair is not None and self._passed > PASSED:
            self._bucket.void = Void(b"", pair[0])
        return pair

    def last(self) -> Pair | None:
        """Go to the last element."""
        seen = self._begin()
        path: Path = []
        void = self._bucket.void
        if void is None or void.high is not None:
            self._descend_last(path, self._bucket.root_element())
            there = self._skip_backward(path)
        else:
            self._descend(path, void.low)
            element, index = path[-1]
            there = index > 0
            if there:
                path[-1] = (element, index - 1)
            there = there or (self._climb_backward(path) and self._skip_backward(path))
        pair = self._arrive(path, seen, there)
        if pair is not None and self._passed > PASSED:
            self._bucket.void = Void(pair[0] + b"\0", None)
        return pair

    def next(self) -> Pair | None:
        """Go to the next element; at the last one, stay and return None."""
        self._bucket.tx.require_open()
        key = self._key
        if key is None:
            return None
        if self._stale():
            return self._seek_behind(key)
        element, index = self._path[-1]
        if index + 1 < len(element.keys):
            return self._step(element, index + 1)
        seen, path = self._seen, self._path.copy()
        if self._climb_forward(path) and self._skip_forward(path):
            return self._arrive_behind(path, seen, key)
        return None

    def prev(self) -> Pair | None:
        """Go to the previous element; at the first one, stay and return None."""
        self._bucket.tx.require_open()
        key = self._key
        if key is None:
            return None
        if self._stale():
            return self._seek_before(key)
        element, index = self._path[-1]
        if index > 0:
            return self._step(element, index - 1)
        seen, path = self._seen, self._path.copy()
        if self._climb_backward(path) and self._skip_backward(path):
            return self._arrive_before(path, seen, key)
        return None

    def seek(self, key: bytes) -> Pair | None:
        """Go to this key, or to the next one when it does not exist."""
        seen = self._begin()
        if key.__class__ is not bytes:
            key = as_bytes(key, "a key")
        path: Path = []
        self._descend(path, key)
        element, index = path[-1]
        if index < len(element.keys):
            return self._arrive(path, seen, found=True)
        onward = path.copy()
        if self._climb_forward(onward) and self._skip_forward(onward):
            return self._arrive_behind(onward, seen, key)
        self._path, self._seen, self._key = path, seen, key
        return None

    # -- change --

    def delete(self) -> None:
        """Delete the element the cursor stands on; nothing when it is gone.

        Raises:
            TxNotWritableError: In a read transaction.
            IncompatibleValueError: It is a bucket; use `delete_bucket`.
            CursorError: The cursor has not been moved to an element yet.
        """
        tx = self._bucket.tx
        tx.require_open()
        if not tx.writable:
            raise TxNotWritableError
        path, key = self._path, self._key
        if key is None:
            if path:
                return
            raise CursorError("the cursor is on no element: call first() or seek()")
        if self._stale():
            path = []
            self._descend(path, key)
        element, index = path[-1]
        if index >= len(element.keys) or element.keys[index] != key:
            # The path stands on the key behind the one that is gone.
            return
        if element.value_at(index).__class__ is BucketValue:
            raise IncompatibleValueError(key)
        self._bucket.node_at(path).delete(key)
        self._bucket.touch()

    # -- the path --

    def _begin(self) -> int:
        """A way from the root begins.

        Returns:
            The bucket's changes, as this way sees them: `_seen`, at its end.
        """
        self._bucket.tx.require_open()
        self._passed = 0
        return self._bucket.changes

    def _stale(self) -> bool:
        return self._seen != self._bucket.changes

    def _step(self, element: Page | Node, index: int) -> Pair:
        """To another element of the leaf it stands in."""
        key, value = element.keys[index], element.value_at(index)
        self._path[-1] = (element, index)
        self._key = key
        return key, (None if value.__class__ is BucketValue else value)

    def _arrive(self, path: Path, seen: int, found: bool) -> Pair | None:
        if not found:
            self._path, self._seen, self._key = path, seen, None
            return None
        element, index = path[-1]
        key, value = element.keys[index], element.value_at(index)
        self._path, self._seen, self._key = path, seen, key
        return key, (None if value.__class__ is BucketValue else value)

    def _arrive_behind(self, path: Path, seen: int, key: bytes) -> Pair | None:
        """On a leaf's first element; it must come behind `key`.

        In a damaged tree that leads to a page twice it does not: this ends
        every iteration, however the branches point.
        """
        element, index = path[-1]
        if element.keys[index] <= key:
            raise self._bucket.tx.corrupt(
                element.pgid, "its first key is not behind the leaf before it"
            )
        return self._arrive(path, seen, found=True)

    def _arrive_before(self, path: Path, seen: int, key: bytes) -> Pair | None:
        element, index = path[-1]
        if element.keys[index] >= key:
            raise self._bucket.tx.corrupt(
                element.pgid, "its last key is not before the leaf behind it"
            )
        return self._arrive(path, seen, found=True)

    def _descend(self, path: Path, key: bytes) -> None:
        element = self._bucket.root_element()
        while not element.is_leaf:
            index = max(bisect_right(element.keys, key) - 1, 0)
            path.append((element, index))
            element = self._child(path)
        path.append((element, bisect_left(element.keys, key)))

    def _descend_first(self, path: Path, element: Page | Node) -> None:
        while not element.is_leaf:
            path.append((element, 0))
            element = self._child(path)
        path.append((element, 0))

    def _descend_last(self, path: Path, element: Page | Node) -> None:
        while not element.is_leaf:
            path.append((element, len(element.keys) - 1))
            element = self._child(path)
        path.append((element, len(element.keys) - 1))

    def _child(self, path: Path) -> Page | Node:
        """What the path's last step leads to."""
        element, index = path[-1]
        child = element.children[index]
        if len(path) > MAX_DEPTH:
            raise self._bucket.tx.corrupt(
                child, f"the tree is deeper than {MAX_DEPTH} pages"
            )
        return self._bucket.element(child)

    def _climb_forward(self, path: Path) -> bool:
        """To the first element of the next leaf; False at the end."""
        while len(path) > 1:
            path.pop()
            element, index = path[-1]
            if index + 1 < len(element.keys):
                path[-1] = (element, index + 1)
                self._descend_first(path, self._child(path))
                return True
        return False

    def _climb_backward(self, path: Path) -> bool:
        """To the last element of the previous leaf; False at the beginning."""
        while len(path) > 1:
            path.pop()
            element, index = path[-1]
            if index > 0:
                path[-1] = (element, index - 1)
                self._descend_last(path, self._child(path))
                return True
        return False

    def _skip_forward(self, path: Path) -> bool:
        """Leave leaves that this transaction has emptied behind.

        Each once: a damaged tree may lead to one for ever.
        """
        if path[-1][0].keys:
            return True
        met: set[int] = set()
        while not path[-1][0].keys:
            self._leave_behind(path, met)
            if not self._climb_forward(path):
                return False
        self._passed = len(met)
        return True

    def _leave_behind(self, path: Path, met: set[int]) -> None:
        pgid = path[-1][0].pgid
        if pgid in met:
            raise self._bucket.tx.corrupt(pgid, "the tree contains a cycle")
        met.add(pgid)

    def _skip_backward(self, path: Path) -> bool:
        if path[-1][0].keys:
            return True
        met: set[int] = set()
        while not path[-1][0].keys:
            self._leave_behind(path, met)
            if not self._climb_backward(path):
                return False
        self._passed = len(met)
        return True

    def _seek_behind(self, key: bytes) -> Pair | None:
        seen = self._begin()
        path: Path = []
        self._descend(path, key)
        element, index = path[-1]
        if index < len(element.keys) and element.keys[index] == key:
            index += 1
            path[-1] = (element, index)
        if index < len(element.keys):
            return self._arrive(path, seen, found=True)
        if self._climb_forward(path) and self._skip_forward(path):
            return self._arrive_behind(path, seen, key)
        return None

    def _seek_before(self, key: bytes) -> Pair | None:
        seen = self._begin()
        path: Path = []
        self._descend(path, key)
        element, index = path[-1]
        if index > 0:
            path[-1] = (element, index - 1)
            return self._arrive(path, seen, found=True)
        if self._climb_backward(path) and self._skip_backward(path):
            return self._arrive_before(path, seen, key)
        return None
