"""Many deletes in a row: gathered, and carried out when somebody looks, or at commit.

    delete(key) --the first ones--> their leaves, at once
                --then--> look over all leaves: is any value a bucket?
    delete_many(keys) --no--> {key, key, key ...}
                          |                         |
          somebody reads or puts          the transaction commits
                          v                         v
        sorted, cut at the branches'      branch by branch: all leaves below it
        keys --> leaf --> node without    together, without those keys, and merged
        these                             (`leafrun`)

Deleting half of a hundred thousand pairs in random order one by one meets every leaf
seven times, each time when nothing of it is in the processor's cache any more: the
branch's keys, the leaf's, its node, what it notes. In the order of the keys every page
is read once, from the file a piece at a time, and is done with.

Keys that are given together (`delete_all`) are looked over in C, a thousand at a time,
and gathered in one step: a call for each took a fifth of the whole. How many there are
is mostly known, so the first of them is gathered already.

Gathering changes nothing that can be seen:

* Whoever gets below the root carries them out first (see `tree`). That ends it: who
  reads between deletes has each done at once.
* A delete answers nothing, but it refuses a bucket's name. So deletes are gathered only
  in a tree without buckets. To look a leaf over for that takes a twelfth of what one
  delete takes by itself: no pair is decoded. All are looked over when there has been
  one delete for sixteen. (Half of the pairs of the benchmark are seven a leaf.)
* A key that is not there changes nothing. Had its leaf become a node, the page would be
  written again, and all above it.

What it is not: it does not say which leaves are too small and what becomes of them. See
`node`, and `leafrun`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, Final

from shearbolt.errors import CorruptPageError, StorageError
from shearbolt.pages.decoding import names_buckets
from shearbolt.pages.format import ELEMENT_SIZE, HEADER, LEAF, PAGE_HEADER_SIZE
from shearbolt.pages.pager import MAX_DEPTH
from shearbolt.tree.chunks import chunks
from shearbolt.tree.leafpairs import LeafPairs
from shearbolt.tree.leafrun import LeafRun
from shearbolt.tree.node import Node

if TYPE_CHECKING:
    from collections.abc import Container

    from shearbolt.pages.format import Page
    from shearbolt.pages.pager import Pager
    from shearbolt.tree.bucket import Bucket
    from shearbolt.tree.doomed import Doomed
    from shearbolt.tree.tree import Tree

__all__ = [
    "MOST_GATHERED",
    "NEVER",
    "AtCommit",
    "carry_out",
    "delete_all",
    "is_plain",
    "patience",
]

_NEAR: Final = 32

_FEW: Final = 2
"""When there is less than a delete for so many leaves, they are not taken together."""

MOST_GATHERED: Final = 1 << 20
"""So many are carried out at once: most of them may be of keys that are not there."""

_LEAVES_A_DELETE: Final = 16

NEVER: Final = 1 << 62
"""A patience that does not end."""

_BYTES: Final = frozenset({bytes})

# Whose length is no question to anybody: a view of a bucket reads all its leaves.
_COUNTED: Final = frozenset({list, tuple, set, frozenset, dict})


def delete_all(bucket: Bucket, given: Any) -> None:
    """Delete the keys that an iterable gives.

    Raises:
        BoltError: As `Bucket.delete`.
        TypeError: A key is no bytes.
    """
    bucket.require_changeable()
    coming = len(given) if type(given) in _COUNTED else 0
    for chunk in chunks(given):
        # Of plain bytes `Bucket.delete` has nothing to say while deletes are gathered.
        if set(map(type, chunk)) != _BYTES or not bucket.gather(chunk, coming):
            delete = bucket.delete
            for key in chunk:
                delete(key)
        coming -= len(chunk)


def patience(tree: Tree, key: bytes) -> int:
    """After how many deletes in a row more are gathered.

    One for sixteen leaves. A tree that is one leaf gathers in that leaf.
    """
    if tree.root_element().is_leaf:
        return NEVER
    return _leaves(tree, key) // _LEAVES_A_DELETE


def _leaves(tree: Tree, key: bytes) -> int:
    """How many leaves a tree has, judged by the way to a key."""
    element = tree.root_element()
    leaves = depth = 1
    while not element.is_leaf and depth < MAX_DEPTH:
        depth += 1
        leaves *= len(element.keys)
        index = bisect_right(element.keys, key, 1) - 1
        element = tree.element(element.children[index])
    return leaves


def is_plain(tree: Tree) -> bool:
    """Whether it is known that no value of a tree is a bucket."""
    tx = tree.tx
    pager, limit = tx.open_pager(), tx.high_water_mark
    branches = [tree.root_element()]
    met = {branches[0].pgid}
    try:
        for branch in branches:
            nodes = list(filter(None, map(tree.node_of, branch.children)))
            known = {node.pgid for node in nodes}
            pages = [pgid for pgid in branch.children if pgid not in known]
            elements: list[Page | Node] = [*nodes]
            elements += [
                tx.load(pgid)
                for pgid in _unless_plain(pager, pages)
                if not pager.is_plain_leaf(pgid, limit)
            ]
            for element in elements:
                if not element.is_leaf:
                    if element.pgid in met:
                        return False  # A cycle, or two branches share it.
                    met.add(element.pgid)
                    branches.append(element)
                elif element.has_buckets:
                    return False
    except (CorruptPageError, StorageError):
        # Of a page that the deletes may have nothing to do with. If they have, they
        # will meet it, one by one.
        return False
    return True


def _unless_plain(pager: Pager, pgids: list[int]) -> list[int]:
    """Those of these pages that are not leaves without buckets at first sight.

    Where wide reads are allowed this takes a fourth of what `Pager.is_plain_leaf` does.
    """
    around, page_size = pager.wide_reads(), pager.page_size
    if around is None:
        return pgids
    rest: list[int] = []
    plain: set[bytes] = set()
    # What was read last: mostly the next page is in it.
    data, begins = b"", 0
    for pgid in pgids:
        at = pgid * page_size - begins
        if not 0 <= at <= len(data) - page_size:
            data, at = around(pgid * page_size)
            begins = pgid * page_size - at
        place = at + PAGE_HEADER_SIZE
        if place <= len(data):
            stamp, flags, count, _ = HEADER.unpack_from(data, at)
            table = data[place : place + ELEMENT_SIZE * count]
            if stamp == pgid and flags == LEAF:
                if table in plain:
                    continue
                if len(table) == ELEMENT_SIZE * count and not names_buckets(table):
                    plain.add(table)
                    continue
        rest.append(pgid)
    return rest


def carry_out(tree: Tree, doomed: Doomed) -> None:
    """Take keys out of a tree's leaves.

    Raises:
        CorruptPageError: A page is damaged; the others may be done.
    """
    top = _Place(tree, tree.root_element(), None, 0)
    keys = doomed.in_order()
    _Carrier(tree, keys).hand_down(top, 0, len(keys))


class AtCommit:
    """Takes keys out of a tree's leaves, and merges those that are too small then.

    Branch by branch in key order, as if all had been taken out before the first was
    merged. So a branch that is taken in by the one before it comes first
    (`come_first`): nobody may merge with a leaf that has yet to lose keys.

    When most leaves lose some, all are looked through, and their keys are asked for in
    small sets: nobody has to bring all that are gathered into one order.

    Args:
        tree: The tree.
        doomed: The keys.
    """

    __slots__ = ("_doomed", "_everywhere", "_freed", "_lost", "_reach", "_tree")

    def __init__(self, tree: Tree, doomed: Doomed) -> None:
        self._tree = tree
        self._doomed = doomed
        leaves = _leaves(tree, doomed.any())
        self._everywhere = _FEW * len(doomed) > leaves
        # Keys before this one have been taken out; None: all.
        self._reach: bytes | None = b""
        # Leaves that have lost keys and may be too small, last ones first.
        self._lost = tree.unbalanced()[::-1]
        self._freed: list[int] = []

    def run(self) -> None:
        """Do it.

        Raises:
            CorruptPageError: A page is damaged.
        """
        tree, lost = self._tree, self._lost
        while (key := self._next()) is not None:
            place, start, limit = _lowest_branch(tree, key)
            known = []
            while lost and (limit is None or lost[-1].bound < limit):
                known.append(lost.pop())
            low = self._reach
            if low is not None and (limit is None or low < limit):
                self._reach = limit
            self._merge(place, start, limit, low, known)
        # All together: one by one it takes as long as to make the pages that follow.
        tree.tx.free_pages(self._freed)

    def _next(self) -> bytes | None:
        """A key of what comes next, None when there is no more."""
        key = self._reach
        if key is not None and not self._everywhere:
            key = self._doomed.from_on(key)
        if self._lost and (key is None or self._lost[-1].bound < key):
            key = self._lost[-1].bound
        return key

    def come_first(self, branch: Node) -> None:
        """Take keys out of the leaves of the branch behind those that are done."""
        # Branches further up merge without their leaves getting other neighbours; and
        # there may be more to be done before what is below them.
        if not _is_leaf(self._tree, branch.children[0]):
            return
        low, self._reach = self._reach, branch.limit()
        doomed = self._between(low, self._reach)
        carrier = _Carrier(self._tree, doomed)
        carrier.hand_down(_Place(self._tree, branch, None, 0), 0, len(doomed))
        merged = {*self._lost, *carrier.changed}
        self._lost[:] = sorted(merged, key=_bound, reverse=True)

    def _between(self, low: bytes | None, limit: bytes | None) -> list[bytes]:
        """The keys in a range, sorted; none when it begins nowhere."""
        return [] if low is None else self._doomed.between(low, limit)

    def _gone(self, low: bytes | None, limit: bytes | None) -> Container[bytes]:
        """The same to be asked for each key of leaves."""
        return () if low is None else self._doomed.around(low, limit)

    def _merge(
        self,
        place: _Place,
        start: bytes,
        limit: bytes | None,
        low: bytes | None,
        known: list[Node],
    ) -> None:
        """Do it below one branch, or in the root if that is a leaf.

        Args:
            place: Which.
            start: The first key that is looked for below it.
            limit: The first one behind it that is not.
            low: Keys before this one have been taken out.
            known: Leaves that had lost some before.
        """
        tree, element = self._tree, place.element
        node = element if isinstance(element, Node) else None
        doomed: list[bytes] | None = None
        many = self._everywhere
        if not many:
            doomed = self._between(low, limit)
            many = _FEW * (len(doomed) + len(known)) > len(element.keys)
        if many and not element.is_leaf:
            run = LeafRun(tree, node, element.keys, element.children)
            if run.read(start, limit):
                self._freed += run.take_out(self._gone(low, limit), place.node)
                return
        if doomed is None:
            doomed = self._between(low, limit)
        carrier = _Carrier(tree, doomed)
        if element.is_leaf:
            carrier.take_from(place.node(), 0, len(doomed))
        else:
            carrier.hand_down(place, 0, len(doomed))
        for leaf in sorted({*known, *carrier.changed}, key=_bound):
            leaf.rebalance()


def _lowest_branch(tree: Tree, key: bytes) -> tuple[_Place, bytes, bytes | None]:
    """The branch above the leaf where a key is or would be.

    The root, when it is a leaf.

    Returns:
        The branch, and where the keys that are looked for below it begin and end.
    """
    place = _Place(tree, tree.root_element(), None, 0)
    start, limit = b"", None
    while not place.element.is_leaf:
        element = place.element
        index = bisect_right(element.keys, key, 1) - 1
        pgid = element.children[index]
        node = tree.node_of(pgid)
        if node is not None and node.parent is not element:
            raise tree.shared_child(pgid)
        if _is_leaf(tree, pgid):
            break
        if index:
            start = element.keys[index]
        if index + 1 < len(element.keys):
            limit = element.keys[index + 1]
        place = _Place(tree, node or tree.tx.load(pgid), place, index)
    return place, start, limit


def _is_leaf(tree: Tree, pgid: int) -> bool:
    """Whether a child is a leaf."""
    node = tree.node_of(pgid)
    if node is not None:
        return node.is_leaf
    tx = tree.tx
    return pgid in tree.taken or tx.open_pager().is_leaf(pgid, tx.high_water_mark)


def _bound(node: Node) -> bytes:
    return node.bound


class _Place:
    """A branch on the way to a leaf, and its node from when it is asked for.

    Attributes:
        element: The branch: its page, or the node in its place.
        above: The branch above, None for the root.
        index: Which child of that it is.
        depth: How many branches there are above.
    """

    __slots__ = ("_tree", "above", "depth", "element", "index")

    def __init__(
        self, tree: Tree, element: Page | Node, above: _Place | None, index: int
    ) -> None:
        self._tree = tree
        self.element = element
        self.above = above
        self.index = index
        self.depth: int = 0 if above is None else above.depth + 1
        if self.depth >= MAX_DEPTH:
            raise tree.too_deep(element.pgid)

    def node(self) -> Node:
        """The node in the branch's place, made when it is none yet."""
        element = self.element
        if not isinstance(element, Node):
            if self.above is None:
                element = self._tree.root_as_node()
            else:
                element = self.above.node().child_at(self.index)
            self.element = element
        return element


class _Carrier:
    """Takes sorted keys out of the leaves of a tree.

    Attributes:
        changed: The leaves that have lost some.
    """

    __slots__ = ("_doomed", "_tree", "changed")

    def __init__(self, tree: Tree, doomed: list[bytes]) -> None:
        self._tree = tree
        self._doomed = doomed
        self.changed: list[Node] = []

    def hand_down(self, place: _Place, low: int, high: int) -> None:
        """Take doomed keys [low, high) out of the leaves below a branch."""
        tree, doomed = self._tree, self._doomed
        keys, children = place.element.keys, place.element.children
        last = len(keys) - 1
        while low < high:
            # From 1 on: what comes before the first key is in the first child.
            index = bisect_right(keys, doomed[low], 1) - 1
            end = high
            if index < last:
                # Mostly it is not far: every key looked at is one that is in no cache.
                near = min(high, low + _NEAR)
                end = bisect_left(doomed, keys[index + 1], low, near)
                if end == near:
                    end = bisect_left(doomed, keys[index + 1], near, high)
            pgid = children[index]
            node = tree.node_of(pgid)
            if node is None:
                self._page(place, index, low, end)
            elif node.parent is not place.node():
                raise tree.shared_child(pgid)
            elif node.is_leaf:
                self.take_from(node, low, end)
            else:
                self.hand_down(_Place(tree, node, place, index), low, end)
            low = end

    def take_from(self, leaf: Node, low: int, high: int) -> None:
        """The same for a leaf that is a node."""
        for key in self._doomed[low:high]:
            leaf.delete(key)
        self.changed.append(leaf)

    def _page(self, place: _Place, index: int, low: int, high: int) -> None:
        """The same for a child that is a page."""
        tree, pgid = self._tree, place.element.children[index]
        if pgid in tree.taken:
            raise tree.shared_child(pgid)
        page = tree.tx.pass_by(pgid)
        if not page.is_leaf:
            self.hand_down(_Place(tree, page, place, index), low, high)
            return
        left = LeafPairs.without(page, self._doomed[low:high])
        if left is not None:
            parent, key = place.node(), place.element.keys[index]
            node = Node.of_what_is_left(parent, pgid, page.overflow, key, left)
            self.changed.append(tree.put_in_place(node, parent))
