"""Finding a key in a tree of pages, and finding it again.

    get(key) --> root.pairs {key: value} --miss--> root -> branch -> leaf, by bisect
                        ^                                              |
                        +---------- the leaf's pairs, all of them -----+

A way down is a bisect and a dict lookup a level, and each of them looks at objects
that lie anywhere: among a hundred thousand pairs it takes 1.3 us, nearly all of it
waiting for memory. One dict of all pairs takes 0.5. So a tree that is asked again
and again gets such a dict beside its pages, the index.

The index hangs on the decoded root page, so it is an index of one version of one
tree: committed pages never change, and the next version has another root. Absent
keys and buckets are not in it; they take the way down.

It is made from what gets have found anyway, a leaf at a time. A leaf that has just
been decoded is noted for half of what the way to it took, so the first index of a
handle begins when there have been an eighth as many gets as the tree has leaves.
A later one means that pages are in the cache and their pairs lie in cold memory: it
begins after as many gets as there are leaves. From then on noting a leaf's pairs
costs about what the way to it did, and each leaf is noted once: an index costs about
what the gets before it took. It must bring that in before the next commit to the
tree. When a commit finds an index that is not even nearly complete, the next ones
wait twice as long, and so on until one is complete. (Without that, a commit after
every 10,000 gets in 6,667 leaves made each get take 2.8 us instead of 1.9.)

It holds the objects of the pages, so its entries are what it costs, and they count
in the bound of the cache. It is made only as long as there is room, and is the first
thing to go when there is none (see `Pager`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from shearbolt.pages.format import Branch, BucketValue
from shearbolt.pages.pager import EIGHTHS, MAX_DEPTH

if TYPE_CHECKING:
    from shearbolt.database.tx import Tx
    from shearbolt.pages.format import Page

__all__ = ["fetch", "find"]

_LEVELS: Final = range(MAX_DEPTH + 1)


def find(tx: Tx, root: Page, key: bytes) -> bytes | None:
    """The plain value of a key that is not in its tree's index.

    Args:
        tx: The reading transaction.
        root: The page of the tree's root.
        key: Which.

    Returns:
        None when there is none, or a bucket.

    Raises:
        CorruptPageError: A page on the way is damaged.
    """
    # Written out: calls of `load` and `page` take longer than what they do.
    pager = tx.db.pager
    cached = pager.young
    page = root
    for _ in _LEVELS:
        # By the class, and what a leaf has is asked for elsewhere than what a branch
        # has: the interpreter remembers at each place where one class keeps it.
        if type(page) is not Branch:
            break
        pgid = page.children[bisect_right(page.keys, key, 1) - 1]
        page = cached.get(pgid) or fetch(tx, pgid)
    else:
        raise tx.corrupt(page.pgid, f"the tree is deeper than {MAX_DEPTH} pages")
    keys = page.keys
    # With no key at or before it the index is -1: another key.
    if not keys or keys[index := bisect_right(keys, key) - 1] != key:
        return None
    value = page.values[index]
    if value.__class__ is BucketValue:
        return None
    if type(root) is Branch:
        wait = root.wait
        if wait:
            root.wait = wait - 1
        elif wait is None:
            leaves = _leaves(cached, root, key)
            root.whole = leaves * len(keys)
            root.wait = leaves * pager.patience // EIGHTHS
        else:
            pager.note(root, page)
    return value


def fetch(tx: Tx, pgid: int) -> Page:
    """A page that is not in the cache, to read it once.

    Raises:
        TxClosedError: The transaction has ended.
        CorruptPageError: The page is damaged.
    """
    # As `Tx.open_pager`.
    pager = tx.db.pager
    if tx.closed:
        tx.require_open()
    return pager.glance(pgid, tx._meta.high_water_mark)


def _leaves(cached: dict[int, Page], root: Page, key: bytes) -> int:
    """About how many leaves a tree has, judged by the way to a key."""
    leaves = 1
    page: Page | None = root
    while page is not None and not page.is_leaf:
        leaves *= len(page.keys)
        page = cached.get(page.children[bisect_right(page.keys, key, 1) - 1])
    return leaves
