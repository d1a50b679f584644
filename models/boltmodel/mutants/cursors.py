"""Planted bugs in walking: cursors, ranges, and what transactions show.

seek --> leaf [k] --next--> end of leaf --climb--> next leaf, perhaps empty
                  <--prev-- begin of leaf
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltmodel.mutants.plant import Gallery
from shearbolt.database.opening import DB
from shearbolt.database.tx import Tx
from shearbolt.tree import ranges
from shearbolt.tree.bucket import Bucket
from shearbolt.tree.cursor import Cursor
from shearbolt.tree.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from weakref import ref

    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.tree.ranges import Path

__all__ = ["MUTANTS"]

_bugs = Gallery()

_Pair = tuple[bytes, bytes | None]


@_bugs.add(
    "delete-skips",
    "After a delete the cursor's next steps over an element.",
    origin="bbolt #146, boltdb #620, #357",
    breaks="M",
    needs="run",
)
def _delete_skips(planter: Planter) -> None:
    def delete(original: Call, self: Cursor) -> None:
        original(self)
        # The next element has moved to where the cursor stands, and counts as
        # passed.
        self.next()

    planter.instead(Cursor, "delete", delete)


@_bugs.add(
    "seek-ends-with-leaf",
    "A seek behind the last key of a leaf finds nothing.",
    origin="boltdb #186 (6ddb056)",
    breaks="M",
    needs="run",
)
def _seek_ends_with_leaf(planter: Planter) -> None:
    def seek(original: Call, self: Cursor, key: bytes) -> _Pair | None:
        found: _Pair | None = original(self, key)
        leaf = self._bucket._leaf(key)
        if found is not None and (not leaf.keys or key > leaf.keys[-1]):
            return None
        return found

    planter.instead(Cursor, "seek", seek)


@_bugs.add(
    "next-ends-at-empty-leaf",
    "A walk ends at a leaf that the transaction has emptied.",
    origin="boltdb #429, #450, PR #452",
    breaks="M",
    needs="run",
)
def _next_ends_at_empty_leaf(planter: Planter) -> None:
    def skip(_: Call, _self: Cursor, path: Path) -> bool:
        return bool(path[-1][0].keys)

    planter.instead(Cursor, "_skip_forward", skip)


@_bugs.add(
    "last-ends-at-empty-leaf",
    "The last element is not found when the transaction has emptied the last leaf.",
    origin="bbolt #95, PR #341",
    breaks="M",
    needs="run",
)
def _last_ends_at_empty_leaf(planter: Planter) -> None:
    def skip(_: Call, _self: Cursor, path: Path) -> bool:
        return bool(path[-1][0].keys)

    planter.instead(Cursor, "_skip_backward", skip)


@_bugs.add(
    "prev-loses-its-place",
    "A prev at the first element makes the cursor forget where it stands.",
    origin="bbolt #733, PR #734, #744",
    breaks="M",
    needs="run",
)
def _prev_loses_its_place(planter: Planter) -> None:
    def prev(original: Call, self: Cursor) -> _Pair | None:
        found: _Pair | None = original(self)
        if found is None:
            self._key = None
        return found

    planter.instead(Cursor, "prev", prev)


@_bugs.add(
    "range-includes-stop",
    "A range goes on to its stop key and includes it.",
    origin="generic: ranges",
    breaks="M",
    needs="run",
)
def _range_includes_stop(planter: Planter) -> None:
    def pairs(
        original: Call, bucket: Bucket, keys: Range, *, reverse: bool
    ) -> Iterator[_Pair]:
        stop = None if keys.stop is None else keys.stop + b"\0"
        found: Iterator[_Pair] = original(
            bucket, Range(keys.start, stop), reverse=reverse
        )
        return found

    planter.instead(ranges, "_pairs", pairs)


@_bugs.add(
    "backwards-one-leaf",
    "A walk backwards ends with the first leaf it meets.",
    origin="generic: ranges",
    breaks="M",
    needs="run",
)
def _backwards_one_leaf(planter: Planter) -> None:
    def pairs(
        original: Call, bucket: Bucket, keys: Range, *, reverse: bool
    ) -> Iterator[_Pair]:
        found = list(original(bucket, keys, reverse=reverse))
        if reverse and found:
            leaf = bucket._leaf(found[0][0])
            found = [pair for pair in found if pair[0] in leaf.keys]
        return iter(found)

    planter.instead(ranges, "_pairs", pairs)


@_bugs.add(
    "reader-follows",
    "A reader looks at the newest version each time it opens a bucket.",
    origin="generic: snapshot isolation",
    breaks="R",
    needs="readers",
)
def _reader_follows(planter: Planter) -> None:
    def newest(self: Tx) -> Bucket:
        if self.writable:
            return self.root_bucket
        meta = self.db.durable.live
        self._meta = meta
        return Bucket(self, None, b"", meta.root, meta.sequence)

    planter.instead(Tx, "cursor", lambda _original, self: newest(self).cursor())
    planter.instead(
        Tx, "bucket", lambda _original, self, name: newest(self).bucket(name)
    )


@_bugs.add(
    "writer-lock-kept",
    "A rollback leaves the writer's lock held.",
    origin="boltdb PR #220 (ac48384)",
    breaks="M",
    needs="run",
)
def _writer_lock_kept(planter: Planter) -> None:
    def end_write(original: Call, self: DB, handle: ref[Tx]) -> None:
        running = self._write_tx
        rolled_back = running is not None and not self.durable.is_live(running[1])
        if not rolled_back or not self._open:
            original(self, handle)

    planter.instead(DB, "_end_write", end_write)


MUTANTS = tuple(_bugs)
