"""Planted bugs in how trees are cut, merged and searched.

rebalance   merge small neighbours     root with one child: collapse
spill       cut large nodes            root that was cut: new root
search      separator <= key           keys in order
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Gallery
from shearbolt.pages import newpages
from shearbolt.pages.newpages import NewPages
from shearbolt.pages.pager import Pager
from shearbolt.tree import leafpairs
from shearbolt.tree.bucket import Bucket
from shearbolt.tree.contents import LeafContent
from shearbolt.tree.leafpairs import LeafPairs
from shearbolt.tree.node import Node
from shearbolt.tree.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.pages.format import Page
    from shearbolt.tree.cut import Piece

__all__ = ["MUTANTS"]

_bugs = Gallery()

# -- cutting -----------------------------------------------------------------------


@_bugs.add(
    "split-drops-key",
    "A leaf that is cut loses the key at the cut.",
    origin="generic: split",
    breaks="M",
    needs="run",
)
def _split_drops_key(planter: Planter) -> None:
    def write(
        _: Call, self: LeafContent, pages: NewPages, cuts: list[Piece]
    ) -> tuple[list[bytes], list[int]]:
        return _write_pairs(self, pages, [(first, end - 1) for first, end, _ in cuts])

    planter.instead(LeafContent, "write", write)


@_bugs.add(
    "split-keeps-both",
    "Of a leaf that is cut, the left piece keeps what the right one got.",
    origin="boltdb 54cad40",
    breaks="SMPA",
    needs="run",
)
def _split_keeps_both(planter: Planter) -> None:
    def write(
        _: Call, self: LeafContent, pages: NewPages, cuts: list[Piece]
    ) -> tuple[list[bytes], list[int]]:
        ends = [min(end + 1, self.count) for _, end, _ in cuts]
        return _write_pairs(
            self,
            pages,
            [(first, end) for (first, _, _), end in zip(cuts, ends, strict=True)],
        )

    planter.instead(LeafContent, "write", write)


def _write_pairs(
    content: LeafContent, pages: NewPages, bounds: list[tuple[int, int]]
) -> tuple[list[bytes], list[int]]:
    """Make pages of these pairs, wherever the cuts were to be."""
    every, firsts, pgids = content.pairs.keys, [], []
    for first, end in bounds:
        keys, values = every[first:end], content.pairs.values(first, end)
        size = sum(16 + len(k) + len(v) for k, v in zip(keys, values, strict=True))
        firsts.append(every[first])
        pgids.append(pages.write_leaf(keys, values, size))
    return firsts, pgids


@_bugs.add(
    "new-root-forgotten",
    "A root that was cut stays the root: what was cut off is lost.",
    origin="boltdb PR #228 (aa66291)",
    breaks="MS",
    needs="run",
)
def _new_root_forgotten(planter: Planter) -> None:
    def spill(original: Call, self: Node) -> Node:
        original(self)
        return self

    planter.instead(Node, "spill", spill)


@_bugs.add(
    "separator-kept",
    "The parent keeps the old first key of a child that got a smaller one.",
    origin="generic: branch keys",
    breaks="S",
    needs="run",
)
def _separator_kept(planter: Planter) -> None:
    def put_child(
        original: Call, self: Node, old: bytes, new: bytes, pgid: int
    ) -> None:
        known = old in self._order
        original(self, old, old if known else new, pgid)

    planter.instead(Node, "put_child", put_child)


@_bugs.add(
    "run-rounded-down",
    "A page run has room for whole pages of content, not for the rest.",
    origin="generic: overflow",
    breaks="MSEPA",
    needs="run",
)
def _run_rounded_down(planter: Planter) -> None:
    def allocate_run(_: Call, self: NewPages, size: int) -> tuple[int, int]:
        count = max(size // self.page_size, 1)
        return self._allocate(count), count - 1

    planter.instead(NewPages, "_allocate_run", allocate_run)


@_bugs.add(
    "overflow-unrecorded",
    "The header of a page run does not say how long the run is.",
    origin="generic: overflow",
    breaks="SPMA",
    needs="run",
)
def _overflow_unrecorded(planter: Planter) -> None:
    def encode(original: Call, pgid: int, overflow: int, *content: Any) -> bytes:
        del overflow
        data: bytes = original(pgid, 0, *content)
        return data

    planter.instead(newpages, "encode_leaf", encode)
    planter.instead(newpages, "encode_body", encode)


# -- merging -----------------------------------------------------------------------


@_bugs.add(
    "merge-loses-right",
    "Of two leaves that merge, the right one's pairs are lost.",
    origin="generic: rebalance",
    breaks="M",
    needs="run",
)
def _merge_loses_right(planter: Planter) -> None:
    def absorb(_: Call, self: Node, other: Node, parent: Node) -> None:
        del self
        other._leave(parent)

    planter.instead(Node, "_absorb", absorb)


@_bugs.add(
    "merge-orphans",
    "Branches that merge forget to tell their children who their parent is.",
    origin="generic: rebalance",
    breaks="MSE",
    needs="run",
)
def _merge_orphans(planter: Planter) -> None:
    def absorb(original: Call, self: Node, other: Node, parent: Node) -> None:
        parents = [(node, node.parent) for node in other.nodes]
        original(self, other, parent)
        for node, old in parents:
            node.parent = old

    planter.instead(Node, "_absorb", absorb)


@_bugs.add(
    "merged-child-kept",
    "A page that was merged into its neighbour is still its parent's child.",
    origin="boltdb 2321036",
    breaks="MSEA",
    needs="run",
)
def _merged_child_kept(planter: Planter) -> None:
    def delete_child(_: Call, self: Node, key: bytes | None) -> None:
        del key
        self.unbalanced = True

    planter.instead(Node, "_delete_child", delete_child)


@_bugs.add(
    "merged-page-leaked",
    "A page that was merged into its neighbour is not freed.",
    origin="generic: rebalance",
    breaks="S",
    needs="run",
)
def _merged_page_leaked(planter: Planter) -> None:
    def leave(_: Call, self: Node, parent: Node) -> None:
        self.unbalanced = False
        parent._delete_child(self.key)
        parent.nodes = [node for node in parent.nodes if node is not self]
        self.bucket.drop_node(self)

    planter.instead(Node, "_leave", leave)


@_bugs.add(
    "collapsed-page-leaked",
    "The page of an only child that becomes the root is not freed.",
    origin="generic: rebalance",
    breaks="S",
    needs="run",
)
def _collapsed_page_leaked(planter: Planter) -> None:
    collapsing = False

    def collapse(original: Call, self: Node) -> None:
        nonlocal collapsing
        collapsing = True
        try:
            original(self)
        finally:
            collapsing = False

    def release(original: Call, self: Node) -> None:
        if not collapsing:
            original(self)

    planter.instead(Node, "_collapse", collapse)
    planter.instead(Node, "release", release)


@_bugs.add(
    "collapse-forgets-children",
    "A root that becomes its only child does not become their parent.",
    origin="boltdb PR #227 (fd3c1d4): nodes lost their place",
    breaks="MSE",
    needs="run",
)
def _collapse_forgets_children(planter: Planter) -> None:
    def collapse(original: Call, self: Node) -> None:
        below = [(node, node.nodes) for node in self.nodes]
        original(self)
        for _, nodes in below:
            for node in nodes:
                node.parent = below[0][0]

    planter.instead(Node, "_collapse", collapse)


@_bugs.add(
    "never-rebalanced",
    "Nodes that lost elements are not looked at again.",
    origin="generic: rebalance",
    breaks="EMS",
    needs="run",
)
def _never_rebalanced(planter: Planter) -> None:
    def rebalance(_: Call, self: Node) -> None:
        del self

    planter.instead(Node, "rebalance", rebalance)


# -- searching ---------------------------------------------------------------------


@_bugs.add(
    "put-goes-left",
    "A key that equals a separator is put into the leaf to the left of it.",
    origin="generic: search",
    breaks="SM",
    needs="run",
)
def _put_goes_left(planter: Planter) -> None:
    def leaf(
        original: Call, self: Tree, key: bytes, way: list[int] | None = None
    ) -> Page | Node:
        found: Page | Node = original(self, key)
        if way is None:
            return found
        element = self.root_element()
        while not element.is_leaf:
            way.append(max(bisect_left(element.keys, key) - 1, 0))
            element = self.element(element.children[way[-1]])
        return element

    planter.instead(Tree, "_leaf", leaf)


@_bugs.add(
    "get-goes-left",
    "A key that equals a separator is looked for to the left of it.",
    origin="generic: search",
    breaks="M",
    needs="run",
)
def _get_goes_left(planter: Planter) -> None:
    def get(original: Call, self: Bucket, key: bytes, default: object = None) -> object:
        root = self.root_element()
        if not root.is_leaf and key in root.keys[1:]:
            return default
        return original(self, key, default)

    planter.instead(Bucket, "get", get)


@_bugs.add(
    "insert-unsorted",
    "New keys are put behind the others, whatever they are.",
    origin="generic: order",
    breaks="SMPA",
    needs="run",
)
def _insert_unsorted(planter: Planter) -> None:
    sorted_keys: property = vars(LeafPairs)["keys"]

    def keys(self: LeafPairs) -> Sequence[bytes]:
        if self._items is None:
            found: Sequence[bytes] = sorted_keys.__get__(self)
            return found
        self._order += self._behind() if self._gone is None else self._fresh
        self._fresh = []
        return self._order

    # No insertion into sorted lists: every new key waits to be sorted in.
    planter.replace(leafpairs, "_ONE_BY_ONE", 0)
    planter.replace(LeafPairs, "keys", property(keys))


@_bugs.add(
    "cache-stale",
    "A page in the cache is not replaced when its number is used again.",
    origin="boltdb #257 (a2cbaa0): stale reads beside writes",
    breaks="MSR",
    needs="run",
)
def _cache_stale(planter: Planter) -> None:
    def keep(original: Call, self: Pager, page: Page) -> None:
        if page.pgid not in self.young:
            original(self, page)

    planter.instead(Pager, "keep", keep)


MUTANTS = tuple(_bugs)
