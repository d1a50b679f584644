"""The checker: is every page exactly one thing, and every key where it belongs?

For one version of the database, given by its meta:

* every page in [0, high-water mark) is a meta, the freelist, part of exactly one
  tree, or free; none is two of these and none is neither;
* every page reachable from the root is a leaf or a branch, says its own number,
  and stays inside its bytes;
* keys ascend strictly within a page and lie between the keys of the branch above;
* inline buckets keep the same rules.

It reads every page once and remembers which it has met (`PageMap`), so it ends on any
input: a page met a second time is a problem, and is not entered again. bbolt's checker
follows cycles for ever (bbolt #877) and skips inline buckets. Time, memory and the
number of problems follow the pages that something leads to, and not how many there
are according to the meta.

Messages begin as bbolt's do (tx_check.go), so that scripts that look for them go
on working; place and bucket are attributes. Of a run of pages that is in use twice the
first page is named, and so it is of a long run that nobody uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Final

from shearbolt.errors import CorruptPageError
from shearbolt.pages.decoding import decode_bucket
from shearbolt.pages.format import NO_FREELIST, BucketValue, FormatError, Leaf
from shearbolt.pages.pagemap import PageMap
from shearbolt.pages.pager import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shearbolt.pages.format import Meta, Page
    from shearbolt.pages.pager import Pager

__all__ = ["Problem", "check", "free_ids", "free_map"]

_FREE: Final = 1
_USED: Final = 2

_LISTED: Final = 64
"""Unused pages in a row that are named one by one. A sparse file may have a billion."""

_MOST_LISTED: Final = 10_000
"""And so many of them in all; of any further run the first page is named."""

_MANY: Final = 1 << 24
"""Free pages that are taken for granted: their ids take half a gigabyte."""

_Path = tuple["_Path", bytes] | None
"""The names that lead to a bucket, its own last: a tuple for each of the buckets in a
chain would take the square of its length."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a database.

    Attributes:
        message: What, in bbolt's words where bbolt has any.
        pgid: The page it concerns.
        offset: The page's first byte in the file.
        path: The names of the bucket it was met in, outermost first.
    """

    message: str
    pgid: int
    offset: int
    path: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class _Visit:
    """A page to look at: where it hangs, and the keys it may hold."""

    pgid: int
    path: _Path
    stack: tuple[int, ...]
    low: bytes | None
    high: bytes | None


class _Checker:
    def __init__(
        self,
        pager: Pager,
        meta: Meta,
        read: Callable[[int, int], Page],
        format_key: Callable[[bytes], str] = bytes.hex,
    ) -> None:
        self._pager = pager
        self._meta = meta
        self._read = read
        self._text = format_key
        self._limit = meta.high_water_mark
        self._state = PageMap()
        self._pending: list[_Visit] = []

    def run(self, from_page: int | None = None) -> Iterator[Problem]:
        """All problems; below one page only when that is given."""
        meta, limit = self._meta, self._limit
        self._state.add(0, 2, _USED)
        if meta.freelist != NO_FREELIST:
            yield from self._freelist()
        if from_page is not None:
            if not 2 <= from_page < limit:
                yield self._problem(
                    from_page, f"page ID ({from_page}) out of range [2, {limit})"
                )
                return
            self._pending.append(_Visit(from_page, None, (), None, None))
            while self._pending:
                yield from self._visit(self._pending.pop())
            return
        self._pending.append(_Visit(meta.root, None, (), None, None))
        while self._pending:
            yield from self._visit(self._pending.pop())
        if meta.freelist != NO_FREELIST:
            left = _MOST_LISTED
            for first, behind in self.unseen():
                count = behind - first
                message = "page {}: unreachable unfreed"
                if count > 1 and count > min(_LISTED, left):
                    message += f", and so are the {count - 1} pages behind it"
                    count = 1
                left -= count
                for page in range(first, first + count):
                    yield self._problem(page, message.format(page))

    def unseen(self) -> Iterator[tuple[int, int]]:
        """After `run`: the runs of pages it has not met, as (first, behind)."""
        return self._state.gaps(0, self._limit)

    def _problem(self, pgid: int, message: str, path: _Path = None) -> Problem:
        names: list[bytes] = []
        while path is not None:
            path, name = path
            names.append(name)
        offset = pgid * self._meta.page_size
        return Problem(message, pgid, offset, tuple(reversed(names)))

    def _freelist(self) -> Iterator[Problem]:
        meta, limit, state = self._meta, self._limit, self._state
        pgid = meta.freelist
        try:
            ids, overflow = self._pager.freelist(pgid, meta.high_water_mark)
        except CorruptPageError as error:
            yield self._problem(pgid, f"page {pgid}: freelist: {error.reason}")
            return
        for page in ids:
            if not 2 <= page < limit:
                yield self._problem(pgid, f"page ID ({page}) out of range [2, {limit})")
            elif state.claim(page, 1, _FREE):
                yield self._problem(page, f"page {page}: already freed")
        yield from self._use(pgid, overflow + 1, "freelist", None)

    def _use(
        self, pgid: int, length: int, stack: object, path: _Path
    ) -> Iterator[Problem]:
        """Mark a page run as used."""
        state = self._state
        if page := state.first(pgid, length, _USED):
            yield self._problem(
                page, f"page {page}: multiple references (stack: {stack})", path
            )
        if page := state.first(pgid, length, _FREE):
            yield self._problem(page, f"page {page}: reachable freed", path)
        state.add(pgid, length, _USED)

    def _visit(self, visit: _Visit) -> Iterator[Problem]:
        pgid, path, state = visit.pgid, visit.path, self._state
        stack = [*visit.stack, pgid]
        if not 2 <= pgid < self._limit:
            yield self._problem(
                pgid, f"page {pgid}: out of bounds: {self._limit} (stack: {stack})",
                path,
            )  # fmt: skip
            return
        if len(visit.stack) > MAX_DEPTH:
            yield self._problem(
                pgid, f"page {pgid}: the tree is deeper than {MAX_DEPTH} pages", path
            )
            return
        # Nearly always it has no flag, and is done with.
        there = state.claim(pgid, 1, _USED, _USED | _FREE)
        if there and state[pgid] & _USED:
            yield self._problem(
                pgid, f"page {pgid}: multiple references (stack: {stack})", path
            )
            return
        try:
            page = self._read(pgid, self._limit)
        except CorruptPageError as error:
            state.add(pgid, 1, _USED)
            yield self._problem(
                pgid, f"page {pgid}: {error.reason} (stack: {stack})", path
            )
            return
        if there:
            yield from self._use(pgid, page.overflow + 1, stack, path)
        elif page.overflow:
            yield from self._use(pgid + 1, page.overflow, stack, path)
        yield from self._keys(pgid, page, visit)
        if isinstance(page, Leaf):
            if page.has_buckets:
                yield from self._buckets(page, visit)
            return
        bounds = [*page.keys[1:], visit.high]
        self._pending += [
            _Visit(child, path, tuple(stack), low, high)
            for child, low, high in zip(page.children, page.keys, bounds, strict=True)
        ]

    def _keys(self, pgid: int, page: Page, visit: _Visit) -> Iterator[Problem]:
        keys, kind = page.keys, "leaf" if page.is_leaf else "branch"
        text = self._text
        stack = [*visit.stack, pgid]
        if not keys:
            # A root may be empty. Below a branch no writer leaves one behind:
            # the keys of a whole range are gone.
            if visit.stack and page.pgid:
                yield self._problem(
                    pgid, f"page {pgid}: empty leaf in a tree (stack: {stack})",
                    visit.path,
                )  # fmt: skip
            return
        if visit.low is not None and keys[0] < visit.low:
            yield self._problem(
                pgid,
                f"the first key[0]=(hex){text(keys[0])} on {kind} page({pgid}) needs "
                f"to be >= the key in the ancestor ({text(visit.low)}). Stack: {stack}",
                visit.path,
            )
        for index in range(1, len(keys)):
            if keys[index - 1] < keys[index]:
                continue
            found = "=" if keys[index - 1] == keys[index] else "<"
            yield self._problem(
                pgid,
                f"key[{index}]=(hex){text(keys[index])} on {kind} page({pgid}) needs "
                f"to be > (found {found}) than previous element "
                f"(hex){text(keys[index - 1])}. Stack: {stack}",
                visit.path,
            )
        if visit.high is not None and keys[-1] >= visit.high:
            yield self._problem(
                pgid,
                f"key[{len(keys) - 1}]=(hex){text(keys[-1])} on {kind} page({pgid}) "
                "needs to be < than key of the next element in ancestor "
                f"(hex){text(visit.high)}. Pages stack: {stack}",
                visit.path,
            )

    def _buckets(self, page: Leaf, visit: _Visit) -> Iterator[Problem]:
        """Sub-buckets of a leaf: enter their trees; look through inline ones."""
        for name, value in zip(page.keys, page.values, strict=True):
            if value.__class__ is not BucketValue:
                continue
            path = (visit.path, name)
            try:
                root, _, inline = decode_bucket(value)
            except FormatError as error:
                yield self._problem(
                    visit.pgid, f"page {visit.pgid}: bucket {name!r}: {error}", path
                )
                continue
            if inline is None:
                self._pending.append(_Visit(root, path, (), None, None))
                continue
            inside = _Visit(visit.pgid, path, visit.stack, None, None)
            yield from self._keys(visit.pgid, inline, inside)


def check(
    pager: Pager,
    meta: Meta,
    *,
    read: Callable[[int, int], Page] | None = None,
    from_page: int | None = None,
    format_key: Callable[[bytes], str] = bytes.hex,
) -> Iterator[Problem]:
    """All problems of the version of the database that `meta` describes.

    Args:
        pager: The open file.
        meta: Which version.
        read: How to get a page, `read(pgid, high_water_mark)`; by default
            from the file, past the cache.
        from_page: Look only at the tree below this page.
        format_key: How keys are shown in messages.

    Raises:
        StorageError: The file could not be read.
    """
    checker = _Checker(pager, meta, read or pager.read_page, format_key)
    return checker.run(from_page)


def _unreachable(pager: Pager, meta: Meta) -> list[tuple[int, int]]:
    """The free pages of a database that keeps no freelist: all not reachable.

    Returns:
        Their runs, as (first, behind).

    Raises:
        CorruptPageError: The tree is damaged, so that free pages cannot be
            told from lost ones.
    """
    checker = _Checker(pager, meta, pager.page)
    for problem in checker.run():
        raise pager.corrupt(problem.pgid, str(problem))
    return list(checker.unseen())


def _unreachable_ids(pager: Pager, meta: Meta) -> list[int]:
    """The same, each page by itself.

    Raises:
        CorruptPageError: As there, or there are more than anybody has written.
    """
    runs = _unreachable(pager, meta)
    count = sum(behind - first for first, behind in runs)
    if count > _MANY:
        # A page comes below the high-water mark by being written.
        hole = pager.file.hole(0, meta.high_water_mark * meta.page_size)
        if hole > count * meta.page_size // 2:
            raise pager.corrupt(
                runs[0][0],
                f"nothing refers to this page and {count - 1} others, and most of "
                "them are a hole of the file, which no database has",
            )
    ids: list[int] = []
    for first, behind in runs:
        ids += range(first, behind)
    return ids


def free_map(pager: Pager, meta: Meta) -> PageMap:
    """The free pages of this version, to look them up; each has a flag.

    Raises:
        CorruptPageError: As `free_ids`.
    """
    free = PageMap()
    if meta.freelist == NO_FREELIST:
        for first, behind in _unreachable(pager, meta):
            free.add(first, behind - first, _FREE)
    else:
        for pgid in free_ids(pager, meta):
            free.add(pgid, 1, _FREE)
    return free


def free_ids(pager: Pager, meta: Meta) -> list[int]:
    """The free pages of this version, sorted.

    From the freelist page, or by looking for them when there is none.

    Raises:
        CorruptPageError: The freelist is damaged, or without one the tree is.
    """
    if meta.freelist == NO_FREELIST:
        return _unreachable_ids(pager, meta)
    ids = sorted(pager.freelist(meta.freelist, meta.high_water_mark)[0])
    # There may be millions, and nearly always all is well with them.
    ascending = all(map(lt, ids, islice(ids, 1, None)))
    if not ids or (ascending and ids[0] >= 2 and ids[-1] < meta.high_water_mark):
        return ids
    for index, pgid in enumerate(ids):
        if not 2 <= pgid < meta.high_water_mark:
            raise pager.corrupt(meta.freelist, f"page {pgid} in it does not exist")
        if index and ids[index - 1] == pgid:
            raise pager.corrupt(meta.freelist, f"page {pgid} is in it twice")
    return ids
