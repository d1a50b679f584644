"""A bucket with everything below it, each page once.

    claimed   a `PageMap`: the pages that the walk has met so far, whatever the bucket
    leaves    the leaves of one tree, in key order; met twice, a page is damage
    below     a bucket and all in it, with the number of their pairs
    pages     the same, counted (bbolt Bucket.Stats)

A tree has a page once, and so has a file: what leads to one a second time, a branch
below itself, a bucket in itself, two buckets that share a subtree, is damage, and ends
the walk. So no walk takes longer than the pages take that are there to be read, and
nothing comes out of it more often than it is in the file. To count pages up to the
number that the meta gives would end it as well, in a sparse file after a billion of
them; and thirty levels of branches that share those below have a billion ways down.

What it is not: a walk that bears with changes. Cursors and ranges go on behind the last
key when a loop's body has changed the bucket. This one is for who changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shearbolt.pages.format import BucketValue
from shearbolt.stats import BucketWalk
from shearbolt.tree.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shearbolt.errors import CorruptPageError
    from shearbolt.pages.format import Page
    from shearbolt.pages.pagemap import PageMap
    from shearbolt.stats import BucketStats
    from shearbolt.tree.bucket import Bucket
    from shearbolt.tree.tree import Tree

__all__ = ["below", "claim", "elements", "leaves", "pages", "values_of"]


def claim(tree: Tree, element: Page | Node, claimed: PageMap) -> None:
    """Note that the walk has met a page.

    Raises:
        CorruptPageError: Not for the first time.
    """
    # An inline bucket has no page, and neither has one that was made just now.
    pgid = element.pgid
    if not pgid:
        return
    # The pages behind a node's may have been freed: its content is in memory.
    length = 1 if isinstance(element, Node) else element.overflow + 1
    if there := claimed.claim(pgid, length):
        raise _met_twice(tree, pgid, there)


def _met_twice(tree: Tree, pgid: int, there: int) -> CorruptPageError:
    if there == pgid:
        reason = "two places refer to it, or another page's run covers it"
    else:
        reason = f"its run covers page {there}, which is part of something else"
    return tree.tx.corrupt(pgid, reason)


def elements(tree: Tree, claimed: PageMap) -> Iterator[Page | Node]:
    """All pages of a tree, and the nodes in their place, in key order.

    Raises:
        CorruptPageError: A page is damaged, or was met before.
    """
    element = tree.root_element()
    behind: list[int] = []
    while True:
        claim(tree, element, claimed)
        behind += element.children[::-1]
        yield element
        if not behind:
            return
        element = tree.element(behind.pop())


def leaves(tree: Tree, claimed: PageMap) -> Iterator[Page | Node]:
    """The leaves that have elements, in key order.

    Raises:
        TxClosedError: The transaction has ended.
        CorruptPageError: A page is damaged, or was met before, or its keys do not
            come behind those before it.
    """
    last = b""
    for leaf in elements(tree, claimed):
        keys = leaf.keys
        if not leaf.is_leaf or not keys:
            continue
        # A key may be empty in a damaged file only, and the first one then.
        if keys[0] <= last and last:
            raise tree.tx.corrupt(
                leaf.pgid, "its first key is not behind the leaf before it"
            )
        last = keys[-1]
        yield leaf
        tree.tx.require_open()


def values_of(leaf: Page | Node) -> Sequence[bytes]:
    """The values of a leaf, one for each key."""
    return leaf.pairs.values() if isinstance(leaf, Node) else leaf.values


def below(bucket: Bucket, claimed: PageMap) -> list[tuple[Bucket, int]]:
    """This bucket and all in it, parents first, siblings by name.

    Returns:
        Each with the number of its plain pairs.

    Raises:
        CorruptPageError: A page is damaged, or was met before.
    """
    found = [bucket]
    counts = []
    for each in found:
        count = 0
        for leaf in leaves(each, claimed):
            count += len(leaf.keys)
            if not leaf.has_buckets:
                continue
            names = [
                name
                for name, value in zip(leaf.keys, values_of(leaf), strict=True)
                if value.__class__ is BucketValue
            ]
            count -= len(names)
            found += map(each.bucket, names)
        counts.append(count)
    return list(zip(found, counts, strict=True))


def pages(bucket: Bucket, claimed: PageMap) -> BucketStats:
    """As `Bucket.stats`, in a walk that has met other buckets before.

    Raises:
        CorruptPageError: A page is damaged, or was met before.
    """
    tx = bucket.tx
    walk = BucketWalk(tx.load, tx.corrupt, tx.page_size, claimed)
    root, inline, uncommitted = bucket.as_committed()
    return walk.run(root, inline, uncommitted=uncommitted)
