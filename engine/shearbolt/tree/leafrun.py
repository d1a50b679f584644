"""The leaves below one branch while a commit takes pairs out of them.

    pages --> keys  |k k k|k k|k k k k|k k|     one list each, for all leaves; where a
              pairs |p p p|p p|p p p p|p p|     leaf ends stands beside them
                        --without the doomed--> |k k|k|k k k|k|
                        --small ones merged-->  |k k k|k k k k|
                        --> pages, but for their headers

Deleting half of all pairs changes every leaf. What a leaf takes by itself, an object
for it and one for what is left of it, a place among the nodes, a set, a look at its
size, a merge, a page, are twenty steps of the interpreter, and half of the leaves are
gone in the end. Here most steps are one in C for all leaves of a branch. What is left
goes on as bytes, of which the collector of cycles has nothing to see.

Which leaf merges with which follows bbolt's rules (node.go rebalance), leaf by leaf in
key order, as `Node.rebalance` has them: a leaf that has become too small goes into the
one before it; the first one takes the next one in. When the branch itself has become
too small it has to be merged before its next leaf is looked at. That is for `node`: the
run ends there, and what has not been looked at becomes nodes.

What it is not: it takes no pairs in, and nobody can look into a leaf of it: it comes
into being when the commit begins. It has no buckets among its values.
"""

from __future__ import annotations

import struct
from itertools import accumulate, compress, islice, repeat
from operator import add, lt, sub
from typing import TYPE_CHECKING, Final, TypeAlias

from shearbolt.pages.decoding import table_content
from shearbolt.pages.encoding import SIZES, leaf_table
from shearbolt.pages.format import (
    ELEMENT_SIZE,
    HEADER,
    LEAF,
    MIN_KEYS_PER_PAGE,
    PAGE_HEADER_SIZE,
)
from shearbolt.tree.cut import is_one_piece
from shearbolt.tree.leafpairs import LeafPairs
from shearbolt.tree.node import FREED, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Sequence

    from shearbolt.tree.tree import Tree

__all__ = ["LeafRun"]

_MAX_OVERFLOW: Final = 15
"""A leaf with more pages behind it is not taken apart: its values are large."""

# How to cut keys and pairs out of a page's bytes, `SIZES` of each, place and length of
# the content; by the bytes of the element table.
_Cut: TypeAlias = "Callable[[bytes, int], tuple[bytes, ...]]"
_Shape = tuple[_Cut, _Cut, tuple[bytes, ...], int, int]
_shapes: Final[dict[bytes, _Shape]] = {}
_MAX_SHAPES: Final = 512
_MAX_SHAPE_TABLE: Final = 4096
"""Bytes of a table worth remembering, as in `decoding`."""


class LeafRun:
    """The leaves below a branch.

    Args:
        tree: The tree.
        branch: The branch, if it is a node already.
        keys: The branch's keys.
        children: Its children.
    """

    __slots__ = (
        "_alike",
        "_branch",
        "_children",
        "_ends",
        "_keys",
        "_order",
        "_overflow",
        "_pairs",
        "_sizes",
        "_tree",
    )

    def __init__(
        self,
        tree: Tree,
        branch: Node | None,
        keys: Sequence[bytes],
        children: Sequence[int],
    ) -> None:
        self._tree = tree
        self._branch = branch
        self._order = keys
        self._children = children
        # All keys, pairs and `SIZES` of these; behind which of them each leaf ends.
        self._keys: list[bytes] = []
        self._pairs: list[bytes] = []
        self._sizes: list[bytes] = []
        self._ends = [0]
        # Tables by their counts, when all pairs are of one size.
        self._alike: dict[int, bytes] | None = None
        # Pages behind the first one, of leaves that have any.
        self._overflow: dict[int, int] = {}

    def read(self, begin: bytes, end: bytes | None) -> bool:
        """Read the leaves.

        Args:
            begin: The first key that is looked for here.
            end: The first one behind it that is not.

        Returns:
            False when they cannot be taken together: a child is no leaf of plain pairs,
            or keys are not in ascending order from leaf to leaf.

        Raises:
            CorruptPageError: A page is damaged, or the child of two branches.
        """
        tree = self._tree
        tx, children = tree.tx, self._children
        limit, page_size = tx.high_water_mark, tx.page_size
        if min(children) <= 1 or max(children) >= limit:
            return False
        if not tree.taken.isdisjoint(children):
            # Merged already, or damaged.
            return False
        around = tx.open_pager().wide_reads()
        # What was read last: mostly the next page is in it.
        data, begins = b"", 0
        unpack, shapes = HEADER.unpack_from, _shapes
        keys, pairs, sizes, ends = self._keys, self._pairs, self._sizes, self._ends
        nodes = dict(tree.nodes_among(children))
        for pgid in children:
            if pgid in nodes:
                if not self._add_node(nodes[pgid]):
                    return False
                continue
            at = pgid * page_size - begins
            if around is not None and not 0 <= at <= len(data) - page_size:
                data, at = around(pgid * page_size)
                begins = pgid * page_size - at
            if at + PAGE_HEADER_SIZE <= len(data):
                stamp, flags, count, overflow = unpack(data, at)
                place = at + PAGE_HEADER_SIZE
                table = data[place : place + ELEMENT_SIZE * count]
                shape = shapes.get(table) or _shape(count, table)
                if shape and stamp == pgid and flags == LEAF and not overflow:
                    cut_keys, cut_pairs, fields, start, length = shape
                    place = at + start
                    if place + length <= len(data) and start + length <= page_size:
                        keys += cut_keys(data, place)
                        pairs += cut_pairs(data, place)
                        sizes += fields
                        ends.append(len(keys))
                        continue
            page = tx.pass_by(pgid)
            if not page.is_leaf or page.has_buckets or page.overflow > _MAX_OVERFLOW:
                return False
            if page.overflow:
                self._overflow[pgid] = page.overflow
            self._add_pairs(page.keys, page.values)
        return self._is_in_order(begin, end)

    def _add_node(self, node: Node) -> bool:
        if node.parent is not self._branch:
            raise self._tree.shared_child(node.pgid)
        if not node.is_leaf or node.has_buckets:
            return False
        if not 0 <= node.overflow <= _MAX_OVERFLOW:
            return False
        if node.overflow:
            self._overflow[node.pgid] = node.overflow
        self._add_pairs(node.keys, node.pairs.values())
        return True

    def _add_pairs(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self._keys += keys
        self._pairs += map(add, keys, values)
        self._sizes += map(SIZES.pack, map(len, keys), map(len, values))
        self._ends.append(len(self._keys))

    def _is_in_order(self, begin: bytes, end: bytes | None) -> bool:
        """Whether keys ascend, each in the leaf where one looks for it."""
        keys, count = self._keys, len(self._keys)
        if not keys:
            return True
        if not all(map(lt, keys, islice(keys, 1, None))):
            return False
        if keys[0] < begin or (end is not None and keys[-1] >= end):
            return False
        # What comes before the first separator is in the first leaf, too.
        return all(
            (not at or keys[at - 1] < separator)
            and (at == count or separator <= keys[at])
            for separator, at in zip(self._order[1:], self._ends[1:-1], strict=True)
        )

    def take_out(self, gone: Container[bytes], node: Callable[[], Node]) -> list[int]:
        """Take keys out of the leaves, and merge those that become too small.

        Args:
            gone: The keys, others perhaps among them.
            node: Gives the branch as a node.

        Returns:
            Pages that are not part of the tree any more, and have no overflow.

        Raises:
            CorruptPageError: A page is damaged, or is freed twice.
        """
        tree, ends, children = self._tree, self._ends, self._children
        kept = bytes([key not in gone for key in self._keys])
        starts, behind = ends[:-1], ends[1:]
        counts = list(map(kept.count, repeat(1), starts, behind))
        lost = list(map(lt, counts, map(sub, behind, starts)))
        nodes = {
            children.index(pgid): found for pgid, found in tree.nodes_among(children)
        }
        for index, found in nodes.items():
            lost[index] |= found.unbalanced
        if not any(lost):
            return []
        branch = node()
        for found in nodes.values():
            tree.dissolve(found)
        self._keys = list(compress(self._keys, kept))
        self._pairs = list(compress(self._pairs, kept))
        self._sizes = list(compress(self._sizes, kept))
        bounds = list(accumulate(counts, initial=0))
        return self._merge(branch, bounds, lost, nodes.keys())

    def _merge(
        self,
        branch: Node,
        bounds: list[int],
        lost: list[bool],
        known: Collection[int],
    ) -> list[int]:
        """Merge small leaves, and put what is left of all beside the branch.

        Args:
            branch: The branch.
            bounds: Where in the lists the leaves begin, and the last one ends.
            lost: Which of them have lost pairs.
            known: Those that had changed before.

        Returns:
            As `take_out`.
        """
        tree, order, children = self._tree, self._order, self._children
        work, least = tree.tx.work, tree.least_size()
        ends = self._content_ends()
        count = left = len(children)
        size = PAGE_HEADER_SIZE + ELEMENT_SIZE * count + sum(map(len, order))
        # Leaves that stay: which, and where its pairs begin and end. All that change.
        stay: list[int] = []
        begins: list[int] = []
        behind: list[int] = []
        changed = set(known)
        at = 0
        small = False
        while at < count and not small:
            index, low, high = at, bounds[at], bounds[at + 1]
            at += 1
            merged = -1
            if lost[index]:
                changed.add(index)
                work.rebalance += 1
                pairs = high - low
                taken = PAGE_HEADER_SIZE + ELEMENT_SIZE * pairs + ends[high] - ends[low]
                if not pairs:
                    merged = index
                elif (pairs > 1 and taken > least) or left < MIN_KEYS_PER_PAGE:
                    pass
                elif stay:
                    # What was between the two had no pairs left.
                    merged = index
                    behind[-1] = high
                    changed.add(stay[-1])
                else:
                    merged = at
                    changed.add(at)
                    at += 1
                    high = bounds[at]
            if merged != index:
                stay.append(index)
                begins.append(low)
                behind.append(high)
            if merged >= 0:
                left -= 1
                size -= ELEMENT_SIZE + len(order[merged])
                # A root may be as small as it likes.
                if (left > MIN_KEYS_PER_PAGE and size > least) or (
                    left > 1 and branch.parent is None
                ):
                    work.rebalance += 1
                else:
                    small = True
        if left < count:
            branch.set_children(
                [*map(order.__getitem__, stay), *order[at:]],
                [*map(children.__getitem__, stay), *children[at:]],
            )
        late = [index for index in range(at, count) if lost[index] or index in known]
        freed = self._let_go(changed.difference(late))
        for index, low, high in zip(stay, begins, behind, strict=True):
            if index in changed:
                self._put_beside(branch, index, low, high, ends[high] - ends[low])
        nodes = [
            self._as_node(branch, index, bounds[index], bounds[index + 1])
            for index in late
        ]
        for index, node in zip(late, nodes, strict=True):
            node.unbalanced = lost[index]
        if small:
            branch.unbalanced = True
            branch.rebalance()
        for node in nodes:
            if node.unbalanced:
                node.rebalance()
        return freed

    def _let_go(self, changed: Collection[int]) -> list[int]:
        """Free the pages of leaves that have overflow; those of the others."""
        tree, children, overflow = self._tree, self._children, self._overflow
        tree.tx.work.node_count += len(changed)
        pgids = [children[index] for index in changed]
        tree.taken.update(pgids)
        if not overflow:
            return pgids
        for pgid in pgids:
            if pgid in overflow:
                tree.tx.free_page(pgid, overflow[pgid])
        return [pgid for pgid in pgids if pgid not in overflow]

    def _content_ends(self) -> Sequence[int]:
        """Where each pair ends, in bytes from the first one on; 0 before it."""
        if self._pairs and self._pairs[0] and len(set(self._sizes)) == 1:
            self._alike = {}
            each = len(self._pairs[0])
            return range(0, each * len(self._pairs) + 1, each)
        return list(accumulate(map(len, self._pairs), initial=0))

    def _put_beside(
        self, branch: Node, index: int, low: int, high: int, content: int
    ) -> None:
        """Put what a leaf has now beside its branch."""
        count = high - low
        size = PAGE_HEADER_SIZE + ELEMENT_SIZE * count + content
        if not count or not is_one_piece(count, size, self._tree.tx.page_size):
            node = self._as_node(branch, index, low, high)
            node.overflow, node.unbalanced = FREED, False
            return
        tables = self._alike
        table = None if tables is None else tables.get(count)
        if table is None:
            table = leaf_table(b"".join(self._sizes[low:high]))
            if tables is not None:
                tables[count] = table
        body = b"".join([table, *self._pairs[low:high]])
        branch.left[self._children[index]] = body

    def _as_node(self, branch: Node, index: int, low: int, high: int) -> Node:
        """The node of a leaf."""
        pgid, keys = self._children[index], self._keys[low:high]
        values = [
            pair[len(key) :]
            for key, pair in zip(keys, self._pairs[low:high], strict=True)
        ]
        content = sum(map(len, self._pairs[low:high]))
        pairs = LeafPairs(
            tuple(keys), tuple(values), has_buckets=False, content=content
        )
        overflow = self._overflow.get(pgid, 0)
        node = Node.of_what_is_left(branch, pgid, overflow, self._order[index], pairs)
        return self._tree.put_in_place(node, branch)


def _shape(count: int, table: bytes) -> _Shape | None:
    """How to cut what a verified element table describes; None if it is not to be."""
    if not count or len(table) < ELEMENT_SIZE * count or len(table) > _MAX_SHAPE_TABLE:
        return None
    place = table_content(count, table)
    if place is None:
        return None
    fields = struct.unpack(f"<{4 * count}I", table)
    pairs = list(zip(fields[2::4], fields[3::4], strict=True))
    keys = "".join(f"{key}s{value}x" for key, value in pairs)
    both = "".join(f"{key + value}s" for key, value in pairs)
    sizes = tuple(SIZES.pack(*pair) for pair in pairs)
    shape = (
        struct.Struct(keys).unpack_from,
        struct.Struct(both).unpack_from,
        sizes,
        *place,
    )
    if len(_shapes) >= _MAX_SHAPES:
        _shapes.clear()
    _shapes[table] = shape
    return shape
