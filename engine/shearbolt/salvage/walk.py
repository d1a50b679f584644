"""The walk: one tree after another, every page once, past all damage.

A walk keeps flags of the pages it has met (`PageMap`):

    FREE        the freelist has it
    USED        entered, or part of a run that was
    REFERENCED  a page that nobody has reached refers to it (see `scan`)

A page is entered once, and only if no page of its run is used. That ends cycles,
and it bounds what comes out by what the file holds. The walk descends with a stack of
its own, so that neither depth of trees nor nesting of buckets meets Python's
recursion limit.

A page none of whose keys are in the range that the branch above gives is put off: the
branch may have the wrong page, or the wrong keys. When all else has been walked it is
known whether somebody else has that page, or the freelist; if not, it is where it
belongs.

A subtree that cannot be entered is remembered with its key range, and whether orphans
with such keys must be its own: children of a branch, or the page that was meant.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from operator import lt
from typing import TYPE_CHECKING, Final, NamedTuple

from shearbolt.pages.format import (
    BRANCH,
    BUCKET_HEADER_SIZE,
    PAGE_HEADER_SIZE,
    Branch,
    BucketValue,
    FormatError,
    Header,
    Leaf,
)
from shearbolt.pages.pagemap import PageMap
from shearbolt.pages.pager import MAX_DEPTH
from shearbolt.salvage.pages import read_tolerant, read_tolerant_inline
from shearbolt.salvage.records import Damage, FoundBucket, FoundPair, key_range

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from shearbolt.pages.pager import Pager
    from shearbolt.salvage.pages import TolerantPage
    from shearbolt.salvage.records import Entry

__all__ = ["FREE", "REFERENCED", "USED", "LostRanges", "LostTree", "Walk"]

FREE: Final = 1
USED: Final = 2
REFERENCED: Final = 4

MAX_INLINE_DEPTH: Final = 8
"""Inline buckets inside inline buckets. No writer makes even one level; each
holds a copy of what is inside, so that a deep nest would cost memory squared."""


_STRANGE: Final = "it is free, and its keys are others"


@dataclass(frozen=True, slots=True)
class LostTree:
    """A part of a bucket that could not be entered.

    Attributes:
        bucket: Whose.
        low: First key that is missing; None: from the bucket's beginning.
        high: First key behind; None: to the end.
        same_bucket: Whether what is found of it is more of the same bucket. It was a
            branch page, or it is a page that only nobody refers to any more.
    """

    bucket: FoundBucket
    low: bytes | None
    high: bytes | None
    same_bucket: bool = False

    def holds(self, page: Leaf | Branch) -> bool:
        """Whether all keys of a page lie in the range."""
        return _within(page.keys, self.low, self.high)


class LostRanges:
    """The key ranges of all lost trees, to ask which pages may come from one of them.

    Sorted by where they begin, each with the furthest end so far: to ask every tree
    about every orphan took the product of both.
    """

    __slots__ = ("_ends", "_lows")

    def __init__(self, lost: Sequence[LostTree]) -> None:
        ranges = sorted(
            (tree.low or b"", (tree.high is None, tree.high or b"")) for tree in lost
        )
        self._lows = [low for low, _ in ranges]
        self._ends = list(accumulate((end for _, end in ranges), max))

    def hold(self, page: Leaf | Branch) -> bool:
        """Whether all keys of a page, which has some, lie in one of the ranges."""
        at = bisect_right(self._lows, min(page.keys)) - 1
        return at >= 0 and self._ends[at] > (False, max(page.keys))


class _PutOff(NamedTuple):
    """A page whose keys are elsewhere, as `Walk._enter` was asked for it."""

    bucket: FoundBucket
    pgid: int
    low: bytes | None
    high: bytes | None
    depth: int
    parent: Branch | None


@dataclass(slots=True)
class _Frame:
    """A page on the way from the root to here, and how far it was read."""

    bucket: FoundBucket
    page: Leaf | Branch
    pgid: int
    low: bytes | None
    high: bytes | None
    depth: int
    inline: int = 0
    index: int = 0
    # Whether children are leaves, of those that could be entered.
    levels: set[bool] = field(default_factory=set)


class Walk:
    """One pass over a damaged file.

    Args:
        pager: The file.
        limit: The first page id that does not exist.
        end: The first page id that the database does not have; a file that was cut
            has fewer.

    Attributes:
        state: The flags.
        lost: Subtrees that could not be entered.
        free_known: Whether it is sure which pages are free.
        entered: How many pages were read, overflow included.
    """

    def __init__(self, pager: Pager, limit: int, end: int) -> None:
        self.pager: Final = pager
        self.limit: Final = limit
        self._end: Final = end
        self.state: Final = PageMap()
        self.state.add(0, 2, USED)
        self.lost: list[LostTree] = []
        self.free_known = False
        self.entered = 0
        self._put_off: list[_PutOff] = []
        # Of pages that were read and not entered, because a thousand places may refer
        # to one: first and last key of those that were elsewhere; of others why, and
        # the same if they may be entered from where such keys must be.
        self._seen: dict[int, tuple[bytes, ...]] = {}
        self._refused: dict[int, tuple[str, tuple[bytes, ...]]] = {}

    def tree(
        self,
        bucket: FoundBucket,
        root: int,
        low: bytes | None = None,
        high: bytes | None = None,
    ) -> Iterator[Entry]:
        """Everything in the tree at `root`, sub-buckets where they stand.

        But for the pages that are put off, see `rest`.
        """
        return self._tree(_PutOff(bucket, root, low, high, 0, None), late=False)

    def rest(self) -> Iterator[Entry]:
        """What was put off, when nobody else is coming who may have it."""
        while self._put_off:
            pages, self._put_off = self._put_off, []
            for page in pages:
                yield from self._tree(page, late=True)

    def _tree(self, top: _PutOff, *, late: bool) -> Iterator[Entry]:
        stack: list[_Frame] = []
        frame = yield from self._enter(*top, late=late)
        if frame is not None:
            stack.append(frame)
        while stack:
            frame = stack[-1]
            page, index = frame.page, frame.index
            if index == len(page.keys):
                stack.pop()
                continue
            frame.index = index + 1
            if isinstance(page, Branch):
                last = index + 1 == len(page.keys)
                below = yield from self._enter(
                    frame.bucket, page.children[index],
                    page.keys[index] if index or frame.low is not None else None,
                    frame.high if last else page.keys[index + 1],
                    frame.depth + 1, page,
                )  # fmt: skip
                if below is not None:
                    yield from self._compare(frame, below)
            else:
                below = yield from self._element(frame, page, index)
            if below is not None:
                stack.append(below)

    def _compare(self, frame: _Frame, below: _Frame) -> Iterator[Damage]:
        """Whether a child of a branch is a leaf, or is none, as those before it."""
        known = len(frame.levels)
        frame.levels.add(isinstance(below.page, Leaf))
        if len(frame.levels) > max(known, 1):
            # One of them is another page than the one that was meant: all leaves of a
            # tree are equally far down. Which one is not known.
            self.lost.append(
                LostTree(frame.bucket, frame.low, frame.high, same_bucket=True)
            )
            yield self._damage(
                frame.bucket, below.pgid,
                "it is a leaf beside branches, or a branch beside leaves", 0, "",
                frame.low, frame.high,
            )  # fmt: skip

    def _element(
        self, frame: _Frame, page: Leaf, index: int
    ) -> Generator[Entry, None, _Frame | None]:
        key, value = page.keys[index], page.values[index]
        if not isinstance(value, BucketValue):
            yield FoundPair(frame.bucket, key, value, frame.pgid)
            return None
        if len(value) < BUCKET_HEADER_SIZE:
            found = FoundBucket(key, frame.bucket, 0, frame.pgid)
            yield found
            yield self._lose(
                found, frame.pgid, f"a bucket of {len(value)} bytes, 16 are needed", 0
            )
            return None
        root = int.from_bytes(value[:8], "little")
        sequence = int.from_bytes(value[8:16], "little")
        found = FoundBucket(key, frame.bucket, sequence, frame.pgid)
        yield found
        if root:
            return (yield from self._enter(found, root, None, None, 0, None))
        if frame.inline >= MAX_INLINE_DEPTH:
            yield self._lose(found, frame.pgid, "inline buckets nested too deep", 0)
            return None
        try:
            inside = read_tolerant_inline(value)
        except FormatError as error:
            yield self._lose(found, frame.pgid, f"inline bucket: {error}", 0)
            return None
        below = _Frame(
            found, inside.page, frame.pgid, None, None, 0, inline=frame.inline + 1
        )
        yield from self._flaws(below, inside)
        return below

    def _enter(
        self,
        bucket: FoundBucket,
        pgid: int,
        low: bytes | None,
        high: bytes | None,
        depth: int,
        parent: Branch | None,
        *,
        late: bool = False,
    ) -> Generator[Entry, None, _Frame | None]:
        """Read a page and claim its run; None when it is lost, or put off."""
        reason, at, branch = "", 0, False
        # Whether it is another page that is meant.
        wrong = False
        found: TolerantPage | None = None
        if not 2 <= pgid < self.limit:
            reason = f"pages in use are [2, {self.limit})"
            wrong = not 2 <= pgid < self._end
        elif self.state[pgid] & USED:
            reason = "two places refer to it, or a larger page covers it"
            wrong = late
        elif depth > MAX_DEPTH:
            reason = f"the tree is deeper than {MAX_DEPTH} pages"
        elif pgid in self._refused and not _fits(self._refused[pgid][1], low, high):
            reason = self._refused[pgid][0]
        elif not late and self._is_astray(pgid, self._seen.get(pgid, ()), low, high):
            if not self._is_free(pgid):
                self._put_off.append(_PutOff(bucket, pgid, low, high, depth, parent))
                return None
            reason, wrong = _STRANGE, True
        else:
            try:
                found = read_tolerant(self.pager, pgid, self.limit)
            except FormatError as error:
                reason, at = str(error), error.at
                branch = self._flags(pgid) == BRANCH
                self.state.add(pgid, 1, USED)
            except MemoryError:
                # A size may be any number, and a sparse file as long as that.
                reason = "there is not enough memory for its content"
                self.state.add(pgid, 1, USED)
        if found is not None:
            branch = isinstance(found.page, Branch)
            if self.state.first(pgid, found.span, USED):
                reason = f"its {found.span} pages overlap other pages in use"
                self._refused[pgid] = reason, ()
            elif found.stranger and not (
                _fits(found.page.keys, low, high) and _ascending(found.page.keys)
            ):
                reason, branch = found.flaws[0].reason, False
                ordered = _ascending(found.page.keys)
                self._refused[pgid] = reason, _ends(found.page.keys) if ordered else ()
            elif not late and self._is_astray(pgid, found.page.keys, low, high):
                self._seen[pgid] = _ends(found.page.keys)
                return (yield from self._enter(bucket, pgid, low, high, depth, parent))
        if reason:
            yield self._lose(bucket, pgid, reason, at, low, high)
            if parent is not None and not branch:
                branch = any(
                    self._flags(child) == BRANCH
                    for child in parent.children[:4]
                    if child != pgid
                )
            self.lost[-1] = LostTree(bucket, low, high, branch or wrong)
            return None
        assert found is not None
        if self._is_free(pgid):
            # Either the freelist is wrong or the branch is. Whatever it should have
            # led to is an orphan.
            self.lost.append(LostTree(bucket, low, high))
            yield self._damage(
                bucket, pgid, "it is free: this may be an old version of it", 0, "",
                low, high,
            )  # fmt: skip
        self.state.add(pgid, found.span, USED)
        self.entered += found.span
        frame = _Frame(bucket, found.page, pgid, low, high, depth)
        yield from self._flaws(frame, found)
        return frame

    def _is_astray(
        self, pgid: int, keys: Sequence[bytes], low: bytes | None, high: bytes | None
    ) -> bool:
        """Whether a page with such keys may not be the one that is meant."""
        if self._is_free(pgid):
            return not _within(keys, low, high)
        return _elsewhere(keys, low, high)

    def _is_free(self, pgid: int) -> bool:
        return self.free_known and bool(self.state[pgid] & FREE)

    def _flags(self, pgid: int) -> int:
        """A page's flags, 0 when it has none."""
        if not 2 <= pgid < self.limit:
            return 0
        data = self.pager.file.read(pgid * self.pager.page_size, PAGE_HEADER_SIZE)
        return Header.decode(data).flags if len(data) == PAGE_HEADER_SIZE else 0

    def _flaws(self, frame: _Frame, found: TolerantPage) -> Iterator[Damage]:
        """What is wrong with a page that could be entered all the same."""
        low, high, keys = frame.low, frame.high, found.page.keys
        for flaw in found.flaws:
            if flaw.lost:
                branch = isinstance(found.page, Branch)
                tree = LostTree(frame.bucket, low, high, branch)
                # A lost leaf element may have named a bucket, whose keys may
                # be any.
                self.lost.append(tree if branch else LostTree(frame.bucket, None, None))
            yield self._damage(
                frame.bucket, frame.pgid, flaw.reason, flaw.at, flaw.lost, low, high
            )
        if not _ascending(keys):
            yield self._damage(
                frame.bucket, frame.pgid, "its keys are out of order", 0, "", low, high
            )
        elif not _within(keys, low, high):
            yield self._damage(
                frame.bucket, frame.pgid,
                "its keys are not in the range that the branch above gives",
                0, "", low, high,
            )  # fmt: skip

    def _lose(
        self,
        bucket: FoundBucket,
        pgid: int,
        reason: str,
        at: int,
        low: bytes | None = None,
        high: bytes | None = None,
    ) -> Damage:
        self.lost.append(LostTree(bucket, low, high))
        lost = key_range(low, high)
        return self._damage(bucket, pgid, reason, at, lost, low, high)

    def _damage(
        self,
        bucket: FoundBucket,
        pgid: int,
        reason: str,
        at: int,
        lost: str,
        low: bytes | None,
        high: bytes | None,
    ) -> Damage:
        offset = pgid * self.pager.page_size + at
        return Damage(pgid, offset, reason, lost, bucket, low, high)


def _ascending(keys: Sequence[bytes]) -> bool:
    return all(map(lt, keys, keys[1:]))


def _ends(keys: Sequence[bytes]) -> tuple[bytes, ...]:
    """The first and the last key, if there are any."""
    return (min(keys), max(keys)) if keys else ()


def _fits(keys: Sequence[bytes], low: bytes | None, high: bytes | None) -> bool:
    """Whether there are keys, all in the range that a branch gives."""
    return (
        (low is not None or high is not None)
        and bool(keys)
        and (_within(keys, low, high))
    )


def _elsewhere(keys: Sequence[bytes], low: bytes | None, high: bytes | None) -> bool:
    """Whether there are keys, and none of them is in a range."""
    return bool(keys) and (
        (low is not None and max(keys) < low)
        or (high is not None and min(keys) >= high)
    )


def _within(keys: Sequence[bytes], low: bytes | None, high: bytes | None) -> bool:
    return not keys or (
        (low is None or min(keys) >= low) and (high is None or max(keys) < high)
    )
