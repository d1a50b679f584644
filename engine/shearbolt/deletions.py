"""Many deletes in a row: gathered, and carried out leaf by leaf when somebody looks.

    delete(key) --the first ones--> their leaves, at once
                --then--> look over all leaves: is any value a bucket?
                --no--> [key, key, key ...]
                            | somebody reads or puts, or the transaction commits
                            v
        sorted, and cut at the branches' keys --> leaf --> node without those keys

Deleting half of a hundred thousand pairs in random order one by one meets every leaf
seven times, each time when nothing of it is in the processor's cache any more: the
branch's keys, the leaf's, its node, what it notes. In the order of the keys every page
is read once, from the file a piece at a time, and is done with.

Gathering changes nothing that can be seen:

* Whoever gets below the root carries them out first (see `tree`). That ends it: who
  reads between deletes has each done at once.
* A delete answers nothing, but it refuses a bucket's name. So deletes are gathered only
  in a tree without buckets. To look a leaf over for that takes a fourth of what one
  delete takes by itself: no pair is decoded. All are looked over when there has been
  one delete for eight of them. (Half of the pairs of the benchmark are seven a leaf.)
* A key that is not there changes nothing. Had its leaf become a node, the page would be
  written again, and all above it.

What it is not: it does not merge leaves that have become too small. See `node`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from shearbolt.errors import CorruptPageError, StorageError
from shearbolt.leafpairs import LeafPairs
from shearbolt.node import FREED, Node
from shearbolt.pager import MAX_DEPTH
from shearbolt.thinned import Thinned, thin_bytes

if TYPE_CHECKING:
    from shearbolt.format import Page
    from shearbolt.tree import Tree

__all__ = ["MOST_GATHERED", "NEVER", "carry_out", "is_plain", "patience"]

_NEAR: Final = 32

MOST_GATHERED: Final = 1 << 20
"""So many are carried out at once: most of them may be of keys that are not there."""

_LEAVES_A_DELETE: Final = 8

NEVER: Final = 1 << 62
"""A patience that does not end."""


def patience(tree: Tree, key: bytes) -> int:
    """After how many deletes in a row more are gathered.

    One for eight leaves, whose number is judged by the way to a key. A tree that is one
    leaf gathers in that leaf.
    """
    element = tree.root_element()
    if element.is_leaf:
        return NEVER
    leaves = depth = 1
    while not element.is_leaf and depth < MAX_DEPTH:
        depth += 1
        leaves *= len(element.keys)
        index = bisect_right(element.keys, key, 1) - 1
        element = tree.element(element.children[index])
    return leaves // _LEAVES_A_DELETE


def is_plain(tree: Tree) -> bool:
    """Whether it is known that no value of a tree is a bucket."""
    tx = tree.tx
    pager, limit = tx.db.pager, tx.high_water_mark
    branches = [tree.root_element()]
    try:
        for branch in branches:
            for pgid in branch.children:
                node = tree.node_of(pgid)
                if node is None and pager.is_plain_leaf(pgid, limit):
                    continue
                element: Page | Node = node or tx.load(pgid)
                if not element.is_leaf:
                    branches.append(element)
                elif element.has_buckets:
                    return False
            if len(branches) > limit:
                return False  # A cycle.
    except (CorruptPageError, StorageError):
        # Of a page that the deletes may have nothing to do with. If they have, they
        # will meet it, one by one.
        return False
    return True


def carry_out(tree: Tree, doomed: list[bytes], *, committing: bool) -> None:
    """Take keys out of a tree's leaves.

    Args:
        tree: Which.
        doomed: The keys.
        committing: Nobody will look into the leaves, or put into them.

    Raises:
        CorruptPageError: A page is damaged; the others may be done.
    """
    doomed.sort()
    top = _Place(tree, tree.root_element(), None, 0)
    carrier = _Carrier(tree, doomed, committing=committing)
    carrier.hand_down(top, 0, len(doomed))
    # All together: one by one it takes as long as to make the pages that follow them.
    tree.tx.free_pages(carrier.freed)


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
        if self.depth > MAX_DEPTH:
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
        freed: Pages that are not part of the tree any more.
    """

    __slots__ = ("_committing", "_doomed", "_tree", "freed")

    def __init__(self, tree: Tree, doomed: list[bytes], *, committing: bool) -> None:
        self._tree = tree
        self._doomed = doomed
        self._committing = committing
        self.freed: list[int] = []

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
                for key in doomed[low:end]:
                    node.delete(key)
            else:
                self.hand_down(_Place(tree, node, place, index), low, end)
            low = end

    def _page(self, place: _Place, index: int, low: int, high: int) -> None:
        """The same for a child that is a page."""
        tree, pgid = self._tree, place.element.children[index]
        tx = tree.tx
        doomed = self._doomed[low:high]
        left: LeafPairs | Thinned | None
        quick, overflow = None, 0
        if self._committing:
            data, at = tx.db.pager.around(pgid, tx.high_water_mark)
            quick = thin_bytes(pgid, data, at, tx.page_size, doomed)
        if quick is not None:
            (left,) = quick
        else:
            page = tx.pass_by(pgid)
            if not page.is_leaf:
                self.hand_down(_Place(tree, page, place, index), low, high)
                return
            overflow = page.overflow
            plain = self._committing and not page.has_buckets
            form = Thinned if plain else LeafPairs
            left = form.without(page, doomed)
        if left is not None:
            if self._committing and not overflow:
                self.freed.append(pgid)
                overflow = FREED
            parent, key = place.node(), place.element.keys[index]
            node = Node.of_what_is_left(parent, pgid, overflow, key, left)
            tree.put_in_place(node, parent)
