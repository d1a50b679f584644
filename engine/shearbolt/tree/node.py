"""A page being changed: a leaf or branch of a write transaction, in memory.

A node is made from a page the first time something under it changes, takes all
changes of the transaction, and becomes one or more new pages when the
transaction commits. The old page is freed, never written over.

    page --read--> node --put/delete--> node --rebalance--> fewer nodes
                                                 --spill--> new pages

* *rebalance* removes nodes that have become too small, merging them with a
  neighbour. Only nodes that lost an element are looked at.
* *spill* cuts nodes that have become too large, gives every piece new pages, and
  tells the parent. Children spill before their parents; a root that was cut gets
  a new root above it.

Both follow bbolt's rules to the letter (node.go; for cuts see `cut`), because the
rules decide which bytes end up in which page of the file. What differs is how a leaf's
pairs are kept while they change, see `leafpairs`, and that leaves from which a commit
takes many pairs are no nodes at all, see `leafrun`.

A node knows the tree of its bucket and through it the transaction, for allocation only.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from shearbolt.pages.decoding import decode_leaf, leaf_body
from shearbolt.pages.format import (
    ELEMENT_SIZE,
    MIN_KEYS_PER_PAGE,
    PAGE_HEADER_SIZE,
    Branch,
    leaf_cost,
)
from shearbolt.tree.contents import BranchContent, LeafContent
from shearbolt.tree.cut import is_one_piece, pieces
from shearbolt.tree.leafpairs import LeafPairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shearbolt.pages.format import Page
    from shearbolt.tree.tree import Tree

__all__ = ["FREED", "Node"]

FREED: Final = -1
"""Instead of a number of overflow pages."""

# What a new node has none of, shared and never changed: most nodes are leaves of
# which one pair changes, and empty containers would be most of what they hold.
_NO_NODES: Final[list[Node]] = []
_NO_CHILDREN: Final[list[int]] = []
_NO_KEYS: Final[list[bytes]] = []
_NONE_MOVED: Final[list[int]] = []
_NOTHING_LEFT: Final[dict[int, bytes]] = {}
_NO_PAIRS: Final = LeafPairs((), (), has_buckets=False, content=0)


class Node:
    """The changed form of one page.

    Attributes:
        bucket: Whose tree it is part of.
        is_leaf: Leaf or branch.
        pgid: The page it was read from, 0 when there is none.
        overflow: Pages behind that page, `FREED` when it has been freed.
        pairs: A leaf's pairs; a branch has none.
        parent: The branch node above, None for the root.
        key: Under which key the parent knows it.
        nodes: Its children that are nodes too.
        left: What is left of leaves that were taken together, see `leafrun`: by page,
            the bytes of the new one without its header.
        unbalanced: An element was removed since it was read.
    """

    __slots__ = (
        "_base",
        "_moved",
        "_order",
        "bucket",
        "children",
        "is_leaf",
        "key",
        "left",
        "nodes",
        "overflow",
        "pairs",
        "parent",
        "pgid",
        "unbalanced",
    )

    def __init__(
        self,
        bucket: Tree,
        parent: Node | None,
        page: Page | None = None,
        key: bytes | None = None,
    ) -> None:
        self.bucket = bucket
        self.parent = parent
        self.key = key
        self.unbalanced = False
        if page is None:
            self.pgid = self.overflow = 0
            self.is_leaf = False
            self.pairs = _NO_PAIRS
        else:
            bucket.tx.work.node_count += 1
            self.pgid = page.pgid
            self.overflow = page.overflow
            keys = page.keys
            if key is None and keys:
                self.key = keys[0]
            if isinstance(page, Branch):
                self.is_leaf = False
                self.pairs = _NO_PAIRS
                # All its keys, with the child pages beside them. The page, as long as
                # the keys are still its own, and the positions of children that are
                # not.
                self._base: Branch | None = page
                self._order: list[bytes] = page.keys
                self.children: list[int] = page.children.copy()
                self._moved: list[int] = []
                self.nodes: list[Node] = []
                self.left: dict[int, bytes] = {}
                return
            self.is_leaf = True
            content = page.cost - leaf_cost(len(keys), 0)
            self.pairs = LeafPairs(
                keys, page.values, has_buckets=page.has_buckets, content=content
            )
        self._base = None
        self._order = _NO_KEYS
        self.children = _NO_CHILDREN
        self._moved = _NONE_MOVED
        self.nodes = _NO_NODES
        self.left = _NOTHING_LEFT

    @classmethod
    def above(cls, bucket: Tree) -> Node:
        """The node of a new root, a branch without children."""
        node = cls(bucket, None)
        node._order, node.children, node.nodes, node.left = [], [], [], {}
        return node

    @classmethod
    def of_what_is_left(
        cls,
        parent: Node,
        pgid: int,
        overflow: int,
        key: bytes,
        left: LeafPairs,
    ) -> Node:
        """The node of a leaf that has lost pairs.

        Args:
            parent: The node above.
            pgid: The page.
            overflow: Pages behind it, or `FREED`.
            key: What the parent calls it.
            left: What it has left.
        """
        bucket = parent.bucket
        bucket.tx.work.node_count += 1
        node = cls(bucket, parent, None, key)
        node.pgid = pgid
        node.overflow = overflow
        node.is_leaf = node.unbalanced = True
        node.pairs = left
        return node

    def of_left(self, pgid: int, key: bytes) -> Node:
        """The node of a child that is in `left`.

        Raises:
            CorruptPageError: It is not: another branch has it.
        """
        body = self.left.pop(pgid, None)
        if body is None:
            raise self.bucket.shared_child(pgid)
        count, _ = leaf_body(body)
        data = bytes(PAGE_HEADER_SIZE) + body

        def read(start: int, length: int) -> bytes:
            return data[start : start + length]

        page = decode_leaf(pgid, count, 0, read, len(data))
        content = len(body) - ELEMENT_SIZE * count
        pairs = LeafPairs(page.keys, page.values, has_buckets=False, content=content)
        node = Node.of_what_is_left(self, pgid, FREED, key, pairs)
        node.unbalanced = False
        return node

    # -- elements --

    @property
    def keys(self) -> Sequence[bytes]:
        """All keys, sorted. Not to be changed by the caller."""
        if not self.is_leaf:
            return self._order
        return self.pairs.keys

    @property
    def count(self) -> int:
        """How many elements."""
        if not self.is_leaf:
            return len(self._order)
        return len(self.pairs)

    @property
    def bound(self) -> bytes:
        """`key`, where there is one."""
        return self.key or b""

    @property
    def has_buckets(self) -> bool:
        """Whether a value may be a bucket."""
        return self.pairs.has_buckets

    def first_key(self) -> bytes | None:
        """The first key, None if there is none."""
        keys = self.keys
        return keys[0] if keys else None

    def _last_key(self) -> bytes | None:
        keys = self.keys
        return keys[-1] if keys else None

    def value_at(self, index: int) -> bytes:
        """A leaf's value by position in the order."""
        return self.pairs.values(index, index + 1)[0]

    def put(self, key: bytes, value: bytes) -> None:
        """Add or replace a leaf element."""
        self.pairs.put(key, value)

    def delete(self, key: bytes, *, plain: bool = False) -> bool:
        """Remove a leaf element, if it is there; as `LeafPairs.delete`."""
        found = self.pairs.delete(key, plain=plain)
        if found:
            self.unbalanced = True
        return found

    def put_children(self, old: bytes, keys: list[bytes], pgids: list[int]) -> None:
        """As `put_child` for the first one, the others behind it."""
        self.put_child(old, keys[0], pgids[0])
        if len(keys) == 1:
            return
        order = self._own_keys()
        at = bisect_left(order, keys[0]) + 1
        if at == len(order) or order[at] > keys[-1]:
            order[at:at] = keys[1:]
            self.children[at:at] = pgids[1:]
        else:
            # A damaged branch, whose keys lie elsewhere than they should.
            for key, pgid in zip(keys[1:], pgids[1:], strict=True):
                self.put_child(key, key, pgid)

    def put_child(self, old: bytes, new: bytes, pgid: int) -> None:
        """Add a child, or replace the one known as `old`."""
        order = self._order
        if not order or old > order[-1]:
            # The pieces of a leaf that was cut come one behind the other.
            self._own_keys().append(new)
            self.children.append(pgid)
            return
        index = bisect_left(order, old)
        if order[index] != old:
            self._own_keys().insert(index, new)
            self.children.insert(index, pgid)
            return
        if new != old:
            self._own_keys()[index] = new
        self.children[index] = pgid
        self._moved.append(index)

    def set_children(self, keys: list[bytes], children: list[int]) -> None:
        """Have these children instead of what there was."""
        self._base = None
        self._order, self.children = keys, children

    def _delete_child(self, key: bytes | None) -> None:
        order = self._order
        index = -1 if key is None else bisect_left(order, key)
        if 0 <= index < len(order) and order[index] == key:
            del self._own_keys()[index]
            del self.children[index]
            self.unbalanced = True

    def _own_keys(self) -> list[bytes]:
        """A branch's keys, to be changed: until then they are the page's."""
        if self._base is not None:
            self._base = None
            self._order = self._order.copy()
        return self._order

    def limit(self) -> bytes | None:
        """The key from which on the tree looks elsewhere than below this node."""
        node = self
        while (parent := node.parent) is not None:
            behind = parent.children.index(node.pgid) + 1
            if behind < len(parent.children):
                return parent._order[behind]
            node = parent
        return None

    def child_index(self, key: bytes) -> int:
        """Which child's range holds this key."""
        return max(bisect_right(self._order, key) - 1, 0)

    def child_at(self, index: int) -> Node:
        """The node of a child, made from its page when it is not one yet."""
        return self.bucket.node(self.children[index], self, self._order[index])

    def size_up_to(self, limit: int) -> int:
        """As `size`; any number from `limit` on when it is that much.

        By the headers alone, if these are enough: a million pairs need not be
        looked at to know that they are large.
        """
        if self.is_leaf:
            pairs = self.pairs
            headers = PAGE_HEADER_SIZE + ELEMENT_SIZE * len(pairs)
            return headers if headers >= limit else headers + pairs.content
        order = self._order
        headers = PAGE_HEADER_SIZE + ELEMENT_SIZE * len(order)
        return headers if headers >= limit else headers + sum(map(len, order))

    def size(self) -> int:
        """Bytes the node takes when written."""
        return self.size_up_to(sys.maxsize)

    # -- rebalance --

    def rebalance(self) -> None:
        """Merge with a neighbour when the node has become too small."""
        node: Node | None = self
        while node is not None and node.unbalanced:
            node = node._rebalance_one()

    def _rebalance_one(self) -> Node | None:
        """Returns the parent when it lost this child and may be too small now."""
        self.unbalanced = False
        bucket = self.bucket
        bucket.tx.work.rebalance += 1
        count = self.count
        if count > (1 if self.is_leaf else MIN_KEYS_PER_PAGE):
            threshold = int(bucket.tx.page_size * bucket.fill_percent) // 2
            if self.size_up_to(threshold + 1) > threshold:
                return None
        parent = self.parent
        if parent is None:
            while not self.is_leaf and self.count == 1:
                self._collapse()
            if not self.count and not self.is_leaf:
                self._become_empty_leaf()
            return None
        if not count:
            self._leave(parent)
            return parent
        if parent.count < MIN_KEYS_PER_PAGE:
            return None
        index = parent.children.index(self.pgid)
        if index == 0:
            other = parent.child_at(1)
            if not other.is_leaf:
                self.bucket.before_taken_in(other)
            self._absorb(other, parent)
        else:
            parent.child_at(index - 1)._absorb(self, parent)
        return parent

    def _become_empty_leaf(self) -> None:
        """A root whose last child is gone is an empty tree."""
        self.is_leaf = True
        self.pairs = LeafPairs((), (), has_buckets=False, content=0)

    def _collapse(self) -> None:
        """A root with one child becomes that child."""
        child = self.child_at(0)
        self.is_leaf = child.is_leaf
        self.pairs = child.pairs
        self._order = child._order
        self._base = child._base
        self._moved = child._moved
        self.children = child.children
        self.nodes = child.nodes
        self.left = child.left
        for node in self.nodes:
            node.parent = self
        child.unbalanced = False
        self.bucket.drop_node(child)
        child.release()

    def _absorb(self, other: Node, parent: Node) -> None:
        """Take all elements of the right neighbour and remove it."""
        if self.is_leaf != other.is_leaf:
            raise self.bucket.tx.corrupt(
                other.pgid, "neighbours in a tree are a leaf and a branch"
            )
        last, first = self._last_key(), other.first_key()
        if last is not None and first is not None and last >= first:
            raise self.bucket.tx.corrupt(
                other.pgid, "its first key is not behind its left neighbour's last"
            )
        if not self.is_leaf:
            self._own_keys().extend(other._order)
            self.children += other.children
            for node in other.nodes:
                node.parent = self
            self.nodes += other.nodes
            other.nodes = []
            self.left.update(other.left)
            other.left = {}
        else:
            self.pairs.absorb(other.pairs)
        other._leave(parent)

    def _leave(self, parent: Node) -> None:
        """Remove this node from its parent and free its page."""
        self.unbalanced = False
        parent._delete_child(self.key)
        # It stays among the parent's nodes, without a page: looking for it there took
        # longer than all else that is done here.
        self.bucket.drop_node(self)
        self.release()

    def release(self) -> None:
        """Free the page the node was read from."""
        if self.pgid:
            if self.overflow != FREED:
                self.bucket.tx.free_page(self.pgid, self.overflow)
            self.pgid = 0

    def let_go(self) -> None:
        """Cut the circle of references to and from children."""
        # Not what is shared: a signal handler may have ended the transaction in the
        # middle of something that goes on with these when it returns.
        if self.nodes:
            self.nodes = []
        self.left = {}

    # -- spill --

    def spill(self) -> Node:
        """Write this root and all nodes below it to new pages.

        Returns:
            The tree's root: a new one when this was cut.
        """
        self._spill_subtree()
        root = self
        while root.parent is not None:
            root = root.parent
            root._spill_pieces()
        return root

    def _spill_subtree(self) -> None:
        begin = 0
        nodes = self.nodes
        if nodes:
            if len(nodes) > 1:
                nodes = sorted(nodes, key=_key)
            for node in nodes:
                if not node.pgid:
                    continue
                if self.left:
                    # What is left of the leaves before it is written before it.
                    end = self.children.index(node.pgid)
                    self._write_left(begin, end)
                    begin = end + 1 - len(self.children)
                    node._spill_subtree()
                    begin += len(self.children)
                else:
                    node._spill_subtree()
        if self.left:
            self._write_left(begin, len(self.children))
        self._spill_pieces()

    def _write_left(self, begin: int, end: int) -> None:
        """Write what is left of leaves among these children."""
        left, children = self.left, self.children
        at = [index for index in range(begin, end) if children[index] in left]
        if not at:
            return
        bodies = [left.pop(children[index]) for index in at]
        counts, firsts = zip(*map(leaf_body, bodies), strict=True)
        pgids = self.bucket.tx.pages.write_leaves(bodies, counts)
        self._moved += at
        order = self._order
        for index, first, pgid in zip(at, firsts, pgids, strict=True):
            children[index] = pgid
            if order[index] != first:
                order = self._own_keys()
                order[index] = first

    def _spill_pieces(self) -> None:
        """Write the node in as many pages as it takes, and tell the parent."""
        tx = self.bucket.tx
        base = self._base
        if base is not None and self._is_one_piece_as(base):
            self._write_moved(base)
            return
        size = self.size_up_to(tx.page_size)
        if not is_one_piece(self.count, size, tx.page_size):
            self._write_cut()
            return
        # The old page is freed before the first allocation (bbolt spill).
        self.release()
        keys, content = self.keys, size - PAGE_HEADER_SIZE
        first = keys[0] if keys else b""
        if self.is_leaf:
            pairs = self.pairs
            self.pgid = tx.pages.write_leaf(
                keys, pairs.values(), content, plain=not pairs.has_buckets
            )
        else:
            self.pgid = tx.pages.write_branch(keys, self.children, content)
        if self.parent is not None:
            old = first if self.key is None else self.key
            self.parent.put_child(old, first, self.pgid)

    def _write_cut(self) -> None:
        """The same for a node that is more than one piece."""
        tx = self.bucket.tx
        if self.parent is None:
            self.parent = Node.above(self.bucket)
        parent, old = self.parent, self.key
        content: LeafContent | BranchContent
        if self.is_leaf:
            content = LeafContent(self.pairs)
        else:
            content = BranchContent(self._order, self.children)
        self.release()
        fill_percent = self.bucket.fill_percent
        for cuts in pieces(
            content.count, content.sizes, tx.page_size, fill_percent, content.each
        ):
            keys, pgids = content.write(tx.pages, cuts)
            # The first piece keeps the node's identity.
            if cuts[0][0]:
                tx.work.split += len(cuts)
                parent.put_children(keys[0], keys, pgids)
            else:
                tx.work.split += len(cuts) - 1
                self.pgid = pgids[0]
                parent.put_children(keys[0] if old is None else old, keys, pgids)
        # Nobody asks for them any more; pages that are made from here on need not be
        # looked for among them by the collector of cycles.
        self.pairs = _NO_PAIRS

    def _is_one_piece_as(self, page: Branch) -> bool:
        """Whether it can be written as this page was, its keys being the same."""
        size = len(page.data)
        return bool(size) and is_one_piece(
            len(page.keys), size, self.bucket.tx.page_size
        )

    def _write_moved(self, page: Branch) -> None:
        """As `_write`, when nothing but children has moved."""
        self.release()
        self.pgid = self.bucket.tx.pages.write_moved(page, self.children, self._moved)
        if self.parent is not None:
            first = page.keys[0]
            old = first if self.key is None else self.key
            self.parent.put_child(old, first, self.pgid)


def _key(node: Node) -> bytes:
    assert node.key is not None
    return node.key
