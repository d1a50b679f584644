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

* Whoever reaches for the tree carries them out first (see `tree`). That ends it: who
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
from shearbolt.node import Node
from shearbolt.pager import MAX_DEPTH

if TYPE_CHECKING:
    from shearbolt.format import Page
    from shearbolt.tree import Tree

__all__ = ["MOST_GATHERED", "NEVER", "carry_out", "is_plain", "patience"]

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


def carry_out(tree: Tree, doomed: list[bytes]) -> None:
    """Take keys out of a tree's leaves.

    Raises:
        CorruptPageError: A page is damaged; the others may be done.
    """
    doomed.sort()
    _hand_down(tree, _Place(tree, tree.root_element(), None, 0), doomed, 0, len(doomed))


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


def _hand_down(
    tree: Tree, place: _Place, doomed: list[bytes], low: int, high: int
) -> None:
    """Take doomed keys [low, high) out of the leaves below a branch."""
    keys, children = place.element.keys, place.element.children
    last = len(keys) - 1
    while low < high:
        # From 1 on: what comes before the first key is in the first child.
        index = bisect_right(keys, doomed[low], 1) - 1
        end = high if index == last else bisect_left(doomed, keys[index + 1], low, high)
        pgid = children[index]
        node = tree.node_of(pgid)
        if node is None:
            page = tree.tx.glance(pgid)
            if not page.is_leaf:
                _hand_down(tree, _Place(tree, page, place, index), doomed, low, end)
            else:
                pairs = LeafPairs.without(page, doomed[low:end])
                if pairs is not None:
                    tree.put_in_place(page, pairs, place.node(), keys[index])
        elif node.parent is not place.node():
            raise tree.shared_child(pgid)
        elif node.is_leaf:
            for key in doomed[low:end]:
                node.delete(key)
        else:
            _hand_down(tree, _Place(tree, node, place, index), doomed, low, end)
        low = end
