"""The tree behind a bucket: its pages, the nodes in their place, and the commit.

    page --something changes under it--> node, and so are all above it
    node --commit: rebalance, spill--> new pages; the root's goes into the parent's leaf

In a read transaction a tree reads pages and keeps nothing. In a write transaction it
also keeps the nodes that have taken the place of its pages (`_nodes`, by page id) and
the child buckets that were opened (`_children`), both until the commit writes them.

A child's header lies in a leaf of its parent, so children spill before their parents.
While the transaction runs only leaves change: a branch gets other children when it is
rebalanced and spilled, not before.

What it is not: the mapping its users see, which is `bucket`. Here are no checks of
what a caller may do.

Deletes in a row may be gathered (see `deletions`). They are carried out before anybody
gets below the root: in `element`, which every way down from there takes, before any
other change to the bucket, and when it is rebalanced.

Source: bbolt bucket.go.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from shearbolt.pages.encoding import encode_bucket, encode_inline_bucket
from shearbolt.pages.format import (
    ELEMENT_SIZE,
    PAGE_HEADER_SIZE,
    BucketValue,
    Leaf,
    leaf_cost,
)
from shearbolt.pages.pagemap import PageMap
from shearbolt.pages.pager import MAX_DEPTH
from shearbolt.storage.single import Single
from shearbolt.tree.cut import is_one_piece
from shearbolt.tree.deletions import (
    MOST_GATHERED,
    NEVER,
    AtCommit,
    carry_out,
    is_plain,
    patience,
)
from shearbolt.tree.doomed import Doomed
from shearbolt.tree.node import Node
from shearbolt.tree.whole import elements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shearbolt.database.tx import Tx
    from shearbolt.errors import CorruptPageError
    from shearbolt.pages.format import Page
    from shearbolt.tree.bucket import Bucket
    from shearbolt.tree.void import Void

__all__ = ["DEFAULT_FILL_PERCENT", "Run", "Tree", "value_in"]

DEFAULT_FILL_PERCENT: Final = 0.5
_MOST_FILL: Final = 1e6
Run = tuple[int, int]
"""A page and how many stand behind it."""
_NO_HEADERS: Final[dict[bytes, BucketValue]] = {}
"""What no child has told: shared and never changed."""
_EMPTY: Final = Leaf(0, 0, (), (), has_buckets=False, cost=leaf_cost(0, 0))


class Tree(Single):
    """The pages and nodes of one bucket, in one transaction.

    Args:
        tx: The transaction.
        parent: The bucket it lies in, None for the root bucket.
        name: Its name there.
        root: The page of its root, 0 when it is inline.
        sequence: Its counter.
        inline: The page it is when it is inline.

    Attributes:
        name: Its name in its parent, b"" for the root bucket.
        parent: The bucket it lies in, None for the root bucket.
        tx: Its transaction.
        changes: Counts changes, so that cursors notice them.
        void: Keys known not to be there, see `void`.
        taken: Pages of leaves that a commit has taken together, see `leafrun`.
    """

    __slots__ = (
        "_changed",
        "_children",
        "_deleted",
        "_deletes",
        "_deleting",
        "_doomed",
        "_fill_percent",
        "_headers",
        "_held",
        "_nodes",
        "_patience",
        "_root",
        "_root_node",
        "_root_page",
        "_sequence",
        "changes",
        "name",
        "parent",
        "taken",
        "tx",
        "void",
    )

    def __init__(
        self,
        tx: Tx,
        parent: Bucket | None,
        name: bytes,
        root: int,
        sequence: int,
        inline: Leaf | None = None,
    ) -> None:
        self.tx = tx
        self.parent = parent
        self.name = name
        self._fill_percent = DEFAULT_FILL_PERCENT
        self.changes = 0
        self._root = root
        self._sequence = sequence
        self._root_page: Page | None = inline
        self._root_node: Node | None = None
        self._nodes: dict[int, Node] = {}
        self.taken: set[int] = set()
        self._children: dict[bytes, Bucket] = {}
        # At the commit: what children that were written say of themselves.
        self._headers = _NO_HEADERS
        # Keys whose deletes are gathered; None: deletes are done at once. How many
        # have been, and after how many they are gathered (-1: not known).
        self._doomed: Doomed | None = None
        self._deletes = 0
        self._patience = -1
        self._deleting: AtCommit | None = None
        self._deleted = False
        # Whether there may be more than the pages say: nodes, or gathered deletes.
        self._changed = False
        # Whether something comes before a change: gathered deletes, or the error that
        # the bucket was deleted.
        self._held = False
        self.void: Void | None = None

    @property
    def fill_percent(self) -> float:
        """How full pages are made when they are split, 0.1 to 1.0.

        Less or more is taken as the nearest of these. Not stored: it holds for this
        transaction.

        Raises:
            TypeError: It is set to what is no number.
            ValueError: It is set to NaN, or to what is no fraction by far.
        """
        return self._fill_percent

    @fill_percent.setter
    def fill_percent(self, value: float) -> None:
        if not isinstance(value, (int, float)):
            raise TypeError(f"fill_percent is a number, not {type(value).__name__}")
        # Not a number is not between any two. What is infinite times a page is none.
        if not -_MOST_FILL < value < _MOST_FILL:
            raise ValueError(f"fill_percent is from 0.1 to 1.0, not {value}")
        self._fill_percent = value

    # -- elements: pages, and the nodes that have taken their place --

    def root_element(self) -> Page | Node:
        """The tree's root."""
        if self._root_node is not None:
            return self._root_node
        page = self._root_page
        if page is None:
            page = self._root_page = self.tx.load(self._root)
        return page

    def element(self, pgid: int) -> Page | Node:
        """What stands for this page in this transaction."""
        if self._doomed is not None:
            self.carry_out_deletes()
        return self._nodes.get(pgid) or self.tx.load(pgid)

    def node_of(self, pgid: int) -> Node | None:
        """The node that has taken this page's place, if there is one."""
        return self._nodes.get(pgid)

    def node(self, pgid: int, parent: Node, key: bytes) -> Node:
        """The node of a page below `parent`, made when there is none yet.

        Raises:
            CorruptPageError: Another branch has this page as its child too.
        """
        node = self._nodes.get(pgid)
        if node is None:
            if pgid in self.taken:
                made = parent.of_left(pgid, key)
            else:
                page = self.tx.db.pager.young.get(pgid) or self.tx.load(pgid)
                made = Node(self, parent, page, key)
            return self.put_in_place(made, parent)
        if node.parent is not parent:
            raise self.shared_child(pgid)
        return node

    def shared_child(self, pgid: int) -> CorruptPageError:
        """The error for a page that stands below two branches."""
        return self.tx.corrupt(pgid, "two branches have this page as their child")

    def put_in_place(self, node: Node, parent: Node) -> Node:
        """Let a node take the place of its page."""
        parent.nodes.append(node)
        self._nodes[node.pgid] = node
        return node

    def node_at(self, path: list[tuple[Page | Node, int]]) -> Node:
        """The leaf node at the end of a cursor's path."""
        node = self.root_as_node()
        for _, index in path[:-1]:
            node = node.child_at(index)
        return node

    def nodes_among(self, children: Sequence[int]) -> list[tuple[int, Node]]:
        """Those of these pages that nodes have taken the place of, and the nodes."""
        nodes = self._nodes
        return [(pgid, nodes[pgid]) for pgid in children if pgid in nodes]

    def dissolve(self, node: Node) -> None:
        """Take a leaf out of the nodes; its page is freed by who takes its pairs."""
        del self._nodes[node.pgid]
        node.pgid = 0

    def unbalanced(self) -> list[Node]:
        """The nodes that have lost an element, in key order."""
        lost = [node for node in self._nodes.values() if node.unbalanced]
        if not lost:
            return lost
        # bbolt's order is random. In key order a run of small leaves ends up in the one
        # before them, in the fewest pages; and it does not depend on the order of the
        # deletes.
        return sorted(lost, key=_bound)

    def before_taken_in(self, branch: Node) -> None:
        """A branch is about to be taken in by the one before it."""
        if self._deleting is not None:
            self._deleting.come_first(branch)

    def least_size(self) -> int:
        """Bytes up to which a node is too small."""
        return int(self.tx.page_size * self.fill_percent) // 2

    def drop_node(self, node: Node) -> None:
        """The node's page is not part of the tree any more."""
        self._nodes.pop(node.pgid, None)

    def fill(self, key: bytes) -> None:
        """A key is going to be put here."""
        void = self.void
        if void is not None and void.covers(key):
            self.void = None

    def touch(self) -> None:
        """Tell cursors that the bucket has changed."""
        self.changes += 1

    def root_as_node(self) -> Node:
        """The node of the tree's root, made when it is none yet.

        Raises:
            CorruptPageError: A key stands in it twice.
        """
        if self._root_node is None:
            self._changed = True
            page = self.root_element_page()
            # The pager has made sure of pages; an inline bucket's it never had.
            if not page.pgid and len(set(page.keys)) < len(page.keys):
                raise self.tx.corrupt(page.pgid, "a key stands in the page twice")
            node = Node(self, None, page)
            self._root_node = node
            self._nodes[node.pgid] = node
            self.changes += 1
        return self._root_node

    def root_leaf(self) -> Node | None:
        """The tree's root as a node, to be changed, if it is a leaf."""
        if self._root_node is None and not self.root_element_page().is_leaf:
            return None
        node = self.root_as_node()
        return node if node.is_leaf else None

    def refuses_changes(self) -> bool:
        """Whether something comes before a change, or forbids it."""
        tx = self.tx
        return tx.closed or self._held or not tx.writable

    def root_element_page(self) -> Page:
        """The page the root was read from, whatever changed since."""
        if self._root_page is None:
            self._root_page = self.tx.load(self._root)
        return self._root_page

    def _leaf(self, key: bytes, way: list[int] | None = None) -> Page | Node:
        """The leaf where `key` is or would be.

        Args:
            key: The key.
            way: Gets the positions of the children that lead there.
        """
        element = self.root_element()
        cached = self.tx.db.pager.young
        depth = 0
        while not element.is_leaf:
            # From 1 on: what comes before the first key is in the first child.
            index = bisect_right(element.keys, key, 1) - 1
            if way is not None:
                way.append(index)
            pgid = element.children[index]
            if self._doomed is not None:
                self.carry_out_deletes()
            element = self._nodes.get(pgid) or cached.get(pgid) or self.tx.load(pgid)
            depth += 1
            if depth > MAX_DEPTH:
                raise self.too_deep(element.pgid)
        return element

    def too_deep(self, pgid: int) -> CorruptPageError:
        """The error for a page deeper down than any sound tree has pages."""
        return self.tx.corrupt(pgid, f"the tree is deeper than {MAX_DEPTH} pages")

    def _value(self, key: bytes) -> bytes | None:
        """A key's value, a `BucketValue` when it names a bucket."""
        if self.tx.closed:
            self.tx.require_open()
        return value_in(self._leaf(key), key)

    def _leaf_node(self, key: bytes) -> Node | None:
        """The leaf node where `key` is or would be, if it is a node already."""
        node = self._root_node
        while node is not None and not node.is_leaf:
            pgid = node.children[bisect_right(node._order, key, 1) - 1]
            child = self._nodes.get(pgid)
            if child is not None and child.parent is not node:
                # A damaged branch leads back to a page above it, or to another
                # branch's child: `_child` says so.
                return None
            node = child
        return node

    def _node_for(self, key: bytes) -> Node:
        """The leaf node where `key` is or would be, made when it is none yet."""
        node = self._root_node or self.root_as_node()
        while not node.is_leaf:
            node = self._child(node, node.child_index(key))
        return node

    def _child(self, node: Node, index: int) -> Node:
        """A child as a node, made when it is none yet."""
        child = self._nodes.get(node.children[index])
        if child is None or child.parent is not node:
            return node.child_at(index)
        return child

    def _node_along(self, way: list[int]) -> Node:
        """The leaf node to which these positions lead, made when it is none yet."""
        node = self._root_node or self.root_as_node()
        for index in way:
            node = self._child(node, index)
        return node

    # -- deletes in a row, see `deletions` --

    def _gathers(self, key: bytes) -> bool:
        """Whether the delete of a key was gathered; else it is to be done at once."""
        if self._deletes < self._patience:
            self._deletes += 1
            return False
        if self._patience < 0:
            self._patience = patience(self, key)
            return self._gathers(key)
        if not self._begins_to_gather():
            return False
        assert self._doomed is not None
        self._doomed.late.append(key)
        return True

    def gather(self, keys: list[bytes], coming: int) -> bool:
        """Gather the deletes of many keys, if they may be.

        Args:
            keys: The keys.
            coming: How many are known to come, these included.

        Returns:
            Whether they were; else each is to be deleted by itself.
        """
        if self._doomed is None:
            if self.refuses_changes():
                return False
            if self._patience < 0:
                self._patience = patience(self, keys[0])
            # As many as are known to come make good what the look at all leaves takes.
            if self._deletes + max(len(keys), coming) <= self._patience:
                return False
            if not self._begins_to_gather():
                return False
        elif self.tx.closed:
            return False
        assert self._doomed is not None
        self._doomed.add(keys)
        if len(self._doomed) > MOST_GATHERED:
            self.carry_out_deletes()
        return True

    def _begins_to_gather(self) -> bool:
        """Whether deletes are gathered from here on: not beside a bucket's name."""
        if not is_plain(self):
            self._patience = NEVER
            return False
        self._doomed = Doomed()
        self._changed = self._held = True
        self.changes += 1
        return True

    def carry_out_deletes(self) -> None:
        """Do what was gathered."""
        doomed = self._doomed
        if doomed is None:
            return
        self._doomed = None
        try:
            carry_out(self, doomed)
        except BaseException:
            # What is done is done once more the next time: nothing comes of that.
            # Forgetting the rest would commit half of a program's deletes.
            self._doomed = doomed
            raise
        self._held = self._deleted
        # Who looks in between has gained less than was hoped.
        self._deletes = 0
        self._patience *= 2

    # -- commit --

    def _opened(self) -> list[Tree]:
        """This bucket and all opened ones below.

        A parent before its children, siblings backwards by name.
        """
        order: list[Tree] = [self]
        stack: list[Tree] = []
        children = self._children
        # Most often there is one below another, if any.
        while len(children) == 1:
            [only] = children.values()
            order.append(only)
            children = only._children
        if children:
            stack += [children[name] for name in sorted(children)]
        while stack:
            bucket = stack.pop()
            order.append(bucket)
            children = bucket._children
            if len(children) > 1:
                stack += [children[name] for name in sorted(children)]
            else:
                stack += children.values()
        return order

    def rebalance(self) -> None:
        """Merge nodes that have become too small, here and below."""
        for bucket in self._opened():
            doomed, bucket._doomed = bucket._doomed, None
            if doomed is not None:
                bucket._deleting = AtCommit(bucket, doomed)
                bucket._deleting.run()
                bucket._deleting = None
                continue
            for node in bucket.unbalanced():
                node.rebalance()

    def spill(self) -> int:
        """Write all nodes, here and below, to new pages.

        Returns:
            The new root page of this bucket.
        """
        # Reversed: children before their parent, siblings by name.
        for bucket in reversed(self._opened()):
            bucket._spill_own()
        return self._root

    def _spill_own(self) -> None:
        headers, self._headers = self._headers, _NO_HEADERS
        root = self._write_headers(headers) if headers else 0
        value = None
        if not root:
            node = self._root_node
            if node is None:
                return
            if self.parent is not None:
                value = self._as_inline(node)
            if value is None:
                root = node.spill().pgid
            else:
                self._free(self._tree(PageMap()))
        self._root = root
        if self.parent is not None:
            self.parent.take_header(
                self.name, value or encode_bucket(root, self._sequence)
            )

    def take_header(self, name: bytes, header: BucketValue) -> None:
        """Note what a child that was written says of itself from now on."""
        if self._headers:
            self._headers[name] = header
        else:
            self._headers = {name: header}

    def _write_headers(self, headers: dict[bytes, BucketValue]) -> int:
        """Put the headers of children that were written in their place.

        Returns:
            The new root page, if they are all that is new in a root that is a leaf:
            a page of its own size, that needs no node. Else 0, and it has nodes.
        """
        page = None if self._root_node is not None else self.root_element_page()
        if isinstance(page, Leaf) and page.pgid:
            keys, values = page.keys, list(page.values)
            grown = 0
            for name, header in headers.items():
                at = bisect_left(keys, name)
                grown += len(header) - len(values[at])
                values[at] = header
            tx, count = self.tx, len(keys)
            content = ELEMENT_SIZE * count + page.cost - leaf_cost(count, 0)
            if not grown and is_one_piece(
                count, PAGE_HEADER_SIZE + content, tx.page_size
            ):
                tx.work.node_count += 1
                tx.free_page(page.pgid, page.overflow)
                return tx.pages.write_leaf(keys, values, content)
        for name, header in headers.items():
            self._node_for(name).put(name, header)
        return 0

    def _as_inline(self, node: Node) -> BucketValue | None:
        """The bucket as a value of its parent, when it is small enough.

        A leaf without buckets, at most a quarter of a page (bbolt inlineable).
        """
        most = self.tx.page_size // 4
        if not node.is_leaf or node.size_up_to(most + 1) > most:
            return None
        keys = node.keys
        values = node.pairs.values()
        if any(value.__class__ is BucketValue for value in values):
            return None
        return encode_inline_bucket(self._sequence, keys, values)

    def _tree(self, claimed: PageMap) -> list[Run | Node]:
        """All pages of the tree, and the nodes that have taken their place.

        Not the pages themselves: a tree may be larger than memory.

        Args:
            claimed: Pages of other trees that will be freed, too.
        """
        if not self._root:
            return []
        return [
            each if isinstance(each, Node) else (each.pgid, each.overflow)
            for each in elements(self, claimed)
        ]

    def as_committed(self) -> tuple[int, Page | None, bool]:
        """How the bucket was when the transaction began, for `whole.pages`.

        Returns:
            Its root page, or else the page it is inline; and whether the transaction
            has changed it, or one below it.
        """
        inline = None if self._root else self.root_element_page()
        for bucket in self._opened():
            bucket.carry_out_deletes()
        changed = any(bucket._root_node for bucket in self._opened())
        return self._root, inline, changed

    def _free(self, found: list[Run | Node]) -> None:
        """Free the pages of these."""
        for each in found:
            if isinstance(each, Node):
                each.release()
            else:
                self.tx.free_page(*each)

    def let_go(self) -> None:
        """Cut the circles of references, here and below: the transaction has ended."""
        for bucket in self._opened():
            for node in bucket._nodes.values():
                node.let_go()
            bucket._nodes = {}
            bucket.taken = set()
            bucket._deleting = None
            bucket._root_node = None
            bucket._doomed = None
            bucket._children = {}

    def _forget(self) -> None:
        """Become empty, after the bucket was deleted."""
        self._deleted = True
        self._root = 0
        self._root_page = _EMPTY
        self._changed = False
        self._root_node = None
        self._nodes = {}
        self._children = {}
        self._doomed = None
        self._held = True
        self.changes += 1


def _bound(node: Node) -> bytes:
    return node.bound


def value_in(leaf: Page | Node, key: bytes) -> bytes | None:
    """The value of a key in the leaf where it is or would be."""
    if isinstance(leaf, Node):
        return leaf.pairs.get(key)
    keys = leaf.keys
    index = bisect_left(keys, key)
    if index < len(keys) and keys[index] == key:
        return leaf.values[index]
    return None
