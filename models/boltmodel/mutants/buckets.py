"""Planted bugs in buckets: what is in them, below them, and where they hang.

parent's leaf: name -> { root, sequence } or { 0, sequence, inline leaf }
                         |                        ^    |
                         v                        |    v
                         tree of pages  ----small-+    large: pages
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from boltmodel.mutants.plant import Gallery
from shearbolt.errors import IncompatibleValueError, SameBucketsError
from shearbolt.pages.encoding import encode_inline_bucket
from shearbolt.pages.format import BucketValue
from shearbolt.tree import bucket as buckets
from shearbolt.tree import tree
from shearbolt.tree.bucket import Bucket
from shearbolt.tree.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.pages.pagemap import PageMap
    from shearbolt.tree.node import Node
    from shearbolt.tree.tree import Run

__all__ = ["MUTANTS"]

_bugs = Gallery()

# -- pairs -------------------------------------------------------------------------


@_bugs.add(
    "delete-hits-next",
    "Deleting a key that is not there deletes the one behind it.",
    origin="boltdb #349, bbolt PR #23",
    breaks="M",
    needs="run",
)
def _delete_hits_next(planter: Planter) -> None:
    def delete(original: Call, self: Bucket, key: bytes) -> None:
        if self.tx.writable and self._value(key) is None:
            leaf = self._leaf(key)
            index = bisect_right(leaf.keys, key)
            if index < len(leaf.keys):
                key = leaf.keys[index]
        original(self, key)

    planter.instead(Bucket, "delete", delete)


@_bugs.add(
    "empty-is-missing",
    "A value of no bytes is taken for no value.",
    origin="boltdb #547, bbolt #208, PR #209",
    breaks="M",
    needs="run",
)
def _empty_is_missing(planter: Planter) -> None:
    def get(original: Call, self: Bucket, key: bytes, default: object = None) -> object:
        return original(self, key) or default

    planter.instead(Bucket, "get", get)


@_bugs.add(
    "put-over-bucket",
    "A value can be put under the name of a bucket.",
    origin="generic: nested buckets",
    breaks="MS",
    needs="run",
)
def _put_over_bucket(planter: Planter) -> None:
    def put(original: Call, self: Bucket, key: bytes, value: bytes) -> None:
        try:
            original(self, key, value)
        except IncompatibleValueError:
            self._node_for(key).put(key, bytes(value))
            self.changes += 1

    planter.instead(Bucket, "put", put)


@_bugs.add(
    "callers-buffer-kept",
    "A value is kept as it was given, and its owner changes it before the commit.",
    origin="boltdb #143 (e3ed193), bbolt #72, PR #637",
    breaks="M",
    needs="run",
)
def _callers_buffer_kept(planter: Planter) -> None:
    def as_bytes(original: Call, data: object, what: str) -> object:
        return data if isinstance(data, bytearray) else original(data, what)

    planter.instead(buckets, "as_bytes", as_bytes)


# -- sequences ---------------------------------------------------------------------


@_bugs.add(
    "sequence-lost",
    "A change of the sequence alone is not written.",
    origin="boltdb #296, PR #297",
    breaks="M",
    needs="run",
)
def _sequence_lost(planter: Planter) -> None:
    def set_sequence(_: Call, self: Bucket, value: int) -> None:
        self._sequence = value

    planter.instead(Bucket, "set_sequence", set_sequence)


@_bugs.add(
    "inline-sequence-lost",
    "A bucket that becomes inline loses its sequence.",
    origin="generic: inline buckets",
    breaks="M",
    needs="run",
)
def _inline_sequence_lost(planter: Planter) -> None:
    def encode(
        _: Call, sequence: int, keys: Sequence[bytes], values: Sequence[bytes]
    ) -> BucketValue:
        del sequence
        return encode_inline_bucket(0, keys, values)

    planter.instead(tree, "encode_inline_bucket", encode)


# -- inline and not ----------------------------------------------------------------


@_bugs.add(
    "inline-holds-bucket",
    "A small bucket becomes inline although there is a bucket in it.",
    origin="generic: inline buckets",
    breaks="MSPA",
    needs="run",
)
def _inline_holds_bucket(planter: Planter) -> None:
    def as_inline(original: Call, self: Tree, node: Node) -> BucketValue | None:
        if node.is_leaf and node.size() <= self.tx.page_size // 4:
            keys = node.keys
            return encode_inline_bucket(self._sequence, keys, node.pairs.values())
        made: BucketValue | None = original(self, node)
        return made

    planter.instead(Tree, "_as_inline", as_inline)


@_bugs.add(
    "inline-leaks-pages",
    "The pages of a bucket that becomes inline are not freed.",
    origin="generic: inline buckets",
    breaks="S",
    needs="run",
)
def _inline_leaks_pages(planter: Planter) -> None:
    spilling = False

    def spill_own(original: Call, self: Tree) -> None:
        nonlocal spilling
        spilling = True
        try:
            original(self)
        finally:
            spilling = False

    def free(original: Call, self: Tree, elements: list[Run | Node]) -> None:
        if not spilling:
            original(self, elements)

    planter.instead(Tree, "_spill_own", spill_own)
    planter.instead(Tree, "_free", free)


@_bugs.add(
    "freed-as-on-disk",
    "The pages of a bucket are freed as the disk has them, not as they are now.",
    origin="boltdb 0966dde, a5cb717",
    breaks="MS",
    needs="run",
)
def _freed_as_on_disk(planter: Planter) -> None:
    def tree(_: Call, self: Tree, claimed: PageMap) -> list[Run | Node]:
        del claimed
        found: list[Run | Node] = []
        stack = [self._root] if self._root else []
        while stack:
            page = self.tx.load(stack.pop())
            found.append((page.pgid, page.overflow))
            stack += page.children
        return found

    planter.instead(Tree, "_tree", tree)


@_bugs.add(
    "bucket-header-stale",
    "The parent is not told where the bucket's root has gone.",
    origin="generic: nested buckets",
    breaks="MS",
    needs="run",
)
def _bucket_header_stale(planter: Planter) -> None:
    def spill_own(original: Call, self: Tree) -> None:
        node, parent = self._root_node, self.parent
        if node is None or parent is None or not self._root:
            original(self)
            return
        before = parent._value(self.name)
        original(self)
        if isinstance(before, BucketValue):
            parent.take_header(self.name, before)

    planter.instead(Tree, "_spill_own", spill_own)


@_bugs.add(
    "parent-spilled-first",
    "A bucket is written before the buckets in it.",
    origin="generic: nested buckets",
    breaks="MS",
    needs="run",
)
def _parent_spilled_first(planter: Planter) -> None:
    def spill(_: Call, self: Tree) -> int:
        for bucket in self._opened():
            bucket._spill_own()
        return self._root

    planter.instead(Tree, "spill", spill)


# -- deleting and moving -----------------------------------------------------------


@_bugs.add(
    "nested-leaked",
    "Deleting a bucket does not free the pages of the buckets in it.",
    origin="bbolt 1.3.6 and HEAD: DeleteBucket leaks (no issue known)",
    breaks="S",
    needs="run",
)
def _nested_leaked(planter: Planter) -> None:
    def free(original: Call, self: Tree, elements: list[Run | Node]) -> None:
        if self.parent is None or self.parent.parent is None:
            original(self, elements)

    planter.instead(Tree, "_free", free)


@_bugs.add(
    "deleted-child-remembered",
    "A bucket that is made again where one was deleted is the deleted one.",
    origin="generic: nested buckets",
    breaks="M",
    needs="run",
)
def _deleted_child_remembered(planter: Planter) -> None:
    def delete_bucket(original: Call, self: Bucket, name: bytes) -> None:
        child = self._children.get(name)
        original(self, name)
        if child is not None:
            self._children[name] = child

    planter.instead(Bucket, "delete_bucket", delete_bucket)


@_bugs.add(
    "move-forgets",
    "A moved bucket loses its changes of this transaction.",
    origin="bbolt PR #1239 (open)",
    breaks="M",
    needs="run",
)
def _move_forgets(planter: Planter) -> None:
    def move_bucket(original: Call, self: Bucket, name: bytes, target: Bucket) -> None:
        original(self, name, target)
        del target._children[name]

    planter.instead(Bucket, "move_bucket", move_bucket)


@_bugs.add(
    "moved-parent-kept",
    "A moved bucket is written back to where it came from.",
    origin="generic: nested buckets",
    breaks="MS",
    needs="run",
)
def _moved_parent_kept(planter: Planter) -> None:
    def move_bucket(original: Call, self: Bucket, name: bytes, target: Bucket) -> None:
        original(self, name, target)
        target._children[name].parent = self

    planter.instead(Bucket, "move_bucket", move_bucket)


@_bugs.add(
    "move-into-itself",
    "A bucket can be moved into a bucket inside it, and is gone.",
    origin="bbolt HEAD: MoveBucket into its own subtree unguarded",
    breaks="M",
    needs="run",
)
def _move_into_itself(planter: Planter) -> None:
    def move_bucket(original: Call, self: Bucket, name: bytes, target: Bucket) -> None:
        try:
            original(self, name, target)
        except SameBucketsError:
            if target is self:
                raise
            self._node_for(name).delete(name)

    planter.instead(Bucket, "move_bucket", move_bucket)


MUTANTS = tuple(_bugs)
