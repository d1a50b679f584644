"""A look at a whole database that takes as long as what changed, not as what is there.

Theory
======
Recovery has to see everything: every pair, and that every page is exactly one thing.
Bolt never changes a page that anybody can reach, so nearly all of it is what it was
one commit ago. Here a look is one question (`tornpage.disk.question`) that consists of
one part a page, and the disk answers the parts whose bytes it knows to be unchanged:

    Whole --part--> Subtree(root) --part--> Subtree(child) --part--> ...
          --part--> FreePages(freelist)

What is said of a subtree must be small and add up, so it is sums:

    content    sum of a hash of each pair (`model.entry_sum`): the bucket's digest
    pages      sum of a power of each page it uses (`page_sum`)
    keys       first and last, which the branch above compares with its own

The database is whole when the pages add up: metas, freelist, free pages and used
pages together have the sum that each page once would have. Two collections of pages
with one sum are different with a chance of 2**-100: they are the values of two
polynomials of degree below 2**24 in one point of a field of 2**127 - 1 elements, and
two such polynomials agree in fewer than 2**24 points.

It only ever says that all is well, and what the content is. Where anything is not, it
says None, and whoever asked looks again in full, with the engine's cursors and the
engine's checker, which name the key and the page.

Pages are read with the engine's own `Pager`, so what it refuses is refused here.

What it is not: it does not walk cursors. That cursors show what is in a tree that is
right is an engine's promise without crashes, and is checked while programs run and
in the databases that are small enough to be looked at in full (`recovery`).
"""

from __future__ import annotations

from itertools import accumulate, islice, repeat
from operator import lt
from typing import TYPE_CHECKING, Final, NamedTuple

from boltmodel.model import bucket_digest, entry_sum, named_sum
from shearbolt.errors import CorruptPageError
from shearbolt.pages.decoding import decode_bucket
from shearbolt.pages.format import NO_FREELIST, BucketValue, FormatError, Leaf
from shearbolt.pages.pager import MAX_DEPTH, Pager
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shearbolt.pages.format import Branch, Meta
    from shearbolt.storage import Storage
    from tornpage.disk.question import View

__all__ = [
    "SURVEYED",
    "FreePages",
    "Pages",
    "Subtree",
    "Tree",
    "Whole",
    "page_sum",
    "survey",
]

SURVEYED: Final = 64
"""Pages of a database from which on it is surveyed. Most that programs make have fewer,
and after their crashes cursors are to be walked as well. Measured: with everything
surveyed the default run takes 1.2 times as long."""

MOST_PAGES: Final = 1 << 24
"""A database of more pages is looked at in full: see the module's head."""

_PRIME: Final = (1 << 127) - 1
# Any number will do that nobody has chosen pages by; this one is of pi's digits.
_BASE: Final = 0x243F6A8885A308D313198A2E03707344
_INVERSE: Final = pow(_BASE - 1, -1, _PRIME)

_NAME: Final = "the surveyed file"


def page_sum(first: int, count: int = 1) -> int:
    """What `count` pages from `first` on add to a sum of pages, modulo 2**127 - 1."""
    start = _power(first)
    if count == 1:
        return start
    return start * (_power(count) - 1) * _INVERSE % _PRIME


def _powers(base: int) -> list[int]:
    """The first 4,096 powers of a number."""
    return list(accumulate(repeat(base, 4095), lambda a, b: a * b % _PRIME, initial=1))


# Two tables give any power below 2**24 with one product: `pow` takes 20 us.
_LOW: Final = _powers(_BASE)
_HIGH: Final = _powers(pow(_BASE, 4096, _PRIME))


def _power(exponent: int) -> int:
    return _HIGH[exponent >> 12] * _LOW[exponent & 4095] % _PRIME


class Tree(NamedTuple):
    """What there is to say of the tree below a page.

    Attributes:
        content: Sum of its entries.
        used: Sum of its pages, those of the buckets in it included.
        pages: How many these are.
        first: Its first key; None: it is empty.
        last: Its last key.
    """

    content: int
    used: int
    pages: int
    first: bytes | None
    last: bytes | None


class Pages(NamedTuple):
    """Pages: their sum, and how many."""

    used: int
    pages: int


class Whole(NamedTuple):
    """Asks for the content of a database of which everything is as it should be.

    The answer is the sum of the root bucket's entries, None when anything is wrong.
    """

    page_size: int
    root: int
    freelist: int
    high_water_mark: int

    @classmethod
    def of(cls, meta: Meta) -> Whole:
        """The question about the version that a meta describes."""
        return cls(meta.page_size, meta.root, meta.freelist, meta.high_water_mark)

    def __call__(self, view: View) -> int | None:
        """Ask."""
        if self.freelist == NO_FREELIST or self.high_water_mark >= MOST_PAGES:
            return None
        tree = _part(view, Subtree(self.page_size, self.root))
        free: Pages | None = view.part(
            FreePages(self.page_size, self.freelist)  # type: ignore[arg-type]
        )
        if tree is None or free is None:
            return None
        # The two metas, and then everything else.
        pages = 2 + tree.pages + free.pages
        used = page_sum(0, 2) + tree.used + free.used
        every = page_sum(0, self.high_water_mark)
        if pages != self.high_water_mark or (used - every) % _PRIME:
            return None
        return tree.content


def survey(storage: Storage, path: str, meta: Meta) -> int | None:
    """The content of a database of which everything is as it should be.

    Args:
        storage: Where the file is; of a kind that answers questions (`DiskFile.ask`).
        path: The file.
        meta: The version.

    Returns:
        The sum of the root bucket's entries; None: it is to be looked at in full.
    """
    if meta.high_water_mark < SURVEYED:
        return None
    file = storage.open(path, read_only=True)
    ask = getattr(file, "ask", None)
    try:
        return None if ask is None else ask(Whole.of(meta))
    finally:
        file.close()


class FreePages(NamedTuple):
    """Asks for a freelist: its own pages and those that it lists; None: damaged."""

    page_size: int
    pgid: int

    def __call__(self, view: View) -> Pages | None:
        """Ask."""
        pager = _pager(view, self.page_size)
        try:
            ids, overflow = pager.freelist(self.pgid, MOST_PAGES)
        except CorruptPageError:
            return None
        own = overflow + 1
        if any(pgid >= MOST_PAGES for pgid in ids):
            return None
        listed = sum(page_sum(first, count) for first, count in _runs(ids))
        return Pages(page_sum(self.pgid, own) + listed, own + len(ids))


class Subtree(NamedTuple):
    """Asks for the tree below a page; None: something in it is wrong."""

    page_size: int
    pgid: int

    def __call__(self, view: View) -> Tree | None:
        """Ask."""
        # A damaged tree may lead back to a page that is being asked about.
        if self.pgid in _entered or len(_entered) > MAX_DEPTH:
            return None
        pager = _pager(view, self.page_size)
        try:
            page = pager.read_page(self.pgid, MOST_PAGES)
        except CorruptPageError:
            return None
        if not _ascending(page.keys):
            return None
        _entered.append(self.pgid)
        try:
            if isinstance(page, Leaf):
                return self._leaf(page, view)
            return self._branch(page, view)  # type: ignore[arg-type]
        finally:
            _entered.pop()

    def _leaf(self, page: Leaf, view: View) -> Tree | None:
        keys, values = page.keys, page.values
        content = 0
        used, pages = page_sum(self.pgid, page.overflow + 1), page.overflow + 1
        for key, value in zip(keys, values, strict=True):
            if value.__class__ is not BucketValue:
                content += entry_sum(key, value)
                continue
            inner = self._bucket(value, view)
            if inner is None:
                return None
            digest, below = inner
            content += named_sum(key, digest)
            if below is not None:
                used += below.used
                pages += below.pages
        if not keys:
            return Tree(content, used, pages, None, None)
        return Tree(content, used, pages, keys[0], keys[-1])

    def _bucket(self, value: bytes, view: View) -> tuple[bytes, Tree | None] | None:
        """A bucket's digest and its tree, which an inline one has not."""
        try:
            root, sequence, inline = decode_bucket(value)
        except FormatError:
            return None
        if inline is not None:
            if not _ascending(inline.keys):
                return None
            pairs = zip(inline.keys, inline.values, strict=True)
            total = sum(entry_sum(key, value) for key, value in pairs)
            return bucket_digest(sequence, total), None
        tree = _part(view, Subtree(self.page_size, root))
        if tree is None:
            return None
        return bucket_digest(sequence, tree.content), tree

    def _branch(self, page: Branch, view: View) -> Tree | None:
        content = 0
        used, pages = page_sum(self.pgid, page.overflow + 1), page.overflow + 1
        keys = page.keys
        behind: bytes = b""
        for low, child in zip(keys, page.children, strict=True):
            tree = _part(view, Subtree(self.page_size, child))
            # `behind` is the last key to the left; empty leaves have no place here.
            if tree is None or tree.first is None or tree.last is None:
                return None
            if tree.first < low or behind >= low:
                return None
            content += tree.content
            used += tree.used
            pages += tree.pages
            behind = tree.last
        return Tree(content, used, pages, keys[0], behind)


# The pages that are being asked about, from the root down. Not an answer's business:
# it only ends what would not end.
_entered: Final[list[int]] = []


def _part(view: View, question: Subtree) -> Tree | None:
    # mypy does not see the call of a named tuple where it infers what comes out. A
    # tuple is hashed in C, and there are hundreds of these a look.
    tree: Tree | None = view.part(question)  # type: ignore[arg-type]
    return tree


class _Viewed:
    """A file that can be read and nothing else, through a question's view."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pread(self, length: int, offset: int, /) -> bytes:
        return self._view(_same, offset, length)


def _same(data: bytes) -> bytes:
    return data


def _pager(view: View, page_size: int) -> Pager:
    return Pager(RobustFile(_Viewed(view), _NAME), page_size)  # type: ignore[arg-type]


def _ascending(keys: Sequence[bytes]) -> bool:
    """Whether keys ascend from the empty one on, which Bolt does not have."""
    return not keys or (keys[0] > b"" and all(map(lt, keys, islice(keys, 1, None))))


def _runs(ids: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Page ids as (first, how many) of neighbours; one that repeats begins a run."""
    first = count = 0
    for pgid in ids:
        if count and pgid == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = pgid, 1
    if count:
        yield first, count
