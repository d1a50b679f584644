"""The scan: everything in a damaged file that can still be read.

Three steps, each reading pages one at a time:

    1  metas      the newest sound one gives page size and root. When there is
                  none, the page size is guessed and the root looked for.
    2  tree       depth first from the root, past whatever is damaged (`walk`)
    3  orphans    if a subtree was lost: pages that nobody has met and that are
                  not free are pieces of it

Step 3 needs care, because free pages hold old versions. With a sound freelist
an orphan can only come from a lost subtree. If just one subtree was lost, and
it was a branch, or only the reference to it is damaged, the orphan goes back to its
place, provided its keys are in the lost range. Otherwise, and whenever it is not sure
which pages are free, it is found below a bucket "lost+found", in a bucket named after
its page: content that the file held at some time, perhaps not at last.

Looking for a root, step 1, is step 3 turned round: of the pages that no other
page refers to, the one that leads to most pages without damage.

What it cannot do: notice damage inside keys and values (nothing in the format
protects them), or tell which of two complete versions is the newer one when both
metas are damaged beyond recognition.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, Self

from shearbolt.errors import (
    CorruptPageError,
    LockTimeoutError,
    OptionError,
    StorageError,
)
from shearbolt.options import file_name
from shearbolt.pages.encoding import freelist_size
from shearbolt.pages.format import (
    MAX_FOREIGN_PAGE_SIZE,
    META_SIZE,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    BucketValue,
    FormatError,
    Leaf,
)
from shearbolt.pages.pager import Pager
from shearbolt.salvage.metas import find_metas
from shearbolt.salvage.pages import read_tolerant, stored_pages
from shearbolt.salvage.records import Damage, FoundBucket
from shearbolt.salvage.walk import FREE, REFERENCED, USED, LostRanges, Walk
from shearbolt.storage import OSStorage
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from os import PathLike
    from types import TracebackType

    from shearbolt.pages.format import Branch
    from shearbolt.salvage.pages import TolerantPage
    from shearbolt.salvage.records import Entry
    from shearbolt.storage import Storage

__all__ = ["LOST_AND_FOUND", "Report", "scan"]

LOST_AND_FOUND: Final = b"lost+found"
"""The bucket for content whose place is not known."""

_ROOTS_TRIED: Final = 16
"""Looking for a root may read this many times the file."""

_LEAST: Final = PAGE_HEADER_SIZE + META_SIZE


class Report:
    """A damaged file, open for reading. Made by `scan`.

    Iterating reads the file from the beginning and yields `Entry` objects:
    buckets, pairs and damage. It can be iterated again; memory stays bounded by
    two bytes a page that was met and the pages on the way from the root. As a context
    manager it closes the file at the end of the block.

    Attributes:
        path: The file.
        size: Its bytes.
        page_size: Bytes a page, from a meta or guessed.
        pages: The first page id that does not exist.
        meta: The version that is read, None when both metas are damaged.
        metas: What became of both meta pages.
        entered: Pages read so far by the newest iteration.
    """

    def __init__(
        self, file: RobustFile, size: int, *, txid: int | None, page_size: int | None
    ) -> None:
        found = find_metas(file, size, txid=txid, page_size=page_size)
        self.path: Final = file.path
        self.size: Final = size
        self.page_size: Final = found.page_size
        self.meta: Final = found.meta
        self.metas: Final = found.states
        self._hints: Final = found.hints
        self._pager: Final = Pager(file, found.page_size, 0)
        in_file = -(-size // found.page_size)
        self.pages: Final = (
            in_file if found.meta is None else min(found.meta.high_water_mark, in_file)
        )
        self._walk: Walk | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        self._pager.file.raw.close()

    @property
    def entered(self) -> int:
        """Pages read so far by the newest iteration."""
        return 0 if self._walk is None else self._walk.entered

    def __iter__(self) -> Iterator[Entry]:
        walk = self._walk = self._new_walk()
        yield from self._about_metas()
        known = walk.free_known = yield from self._freelist(walk)
        sequence = 0 if self.meta is None else self.meta.sequence
        root = FoundBucket(b"", None, sequence)
        pgid = self._find_root() if self.meta is None else self.meta.root
        if pgid:
            yield from walk.tree(root, pgid)
            yield from walk.rest()
        if walk.lost or self.meta is None:
            yield from self._orphans(walk, root, free_known=known)
            yield from walk.rest()

    def _new_walk(self) -> Walk:
        end = self.pages if self.meta is None else self.meta.high_water_mark
        return Walk(self._pager, self.pages, end)

    def _numbers(self) -> Iterator[int]:
        """The pages behind the metas that the file has bytes of."""
        return stored_pages(self._pager.file, self.page_size, self.pages)

    def _stored(self) -> int:
        """How many pages the file has bytes of, and one: of those there are."""
        end = self.pages * self.page_size
        return 1 + (end - self._pager.file.hole(0, end)) // self.page_size

    # -- step 1 --

    def _about_metas(self) -> Iterator[Damage]:
        sound = any(not state.reason for state in self.metas)
        for state in self.metas:
            if state.reason:
                lost = (
                    "perhaps the last transaction"
                    if sound
                    else "which version is the newest"
                )
                at = state.offset + PAGE_HEADER_SIZE
                yield Damage(state.slot, at, f"meta: {state.reason}", lost)
        meta = self.meta
        if meta is not None and meta.high_water_mark * self.page_size > self.size:
            needed = meta.high_water_mark * self.page_size
            yield Damage(
                self.size // self.page_size,
                self.size,
                f"the file is cut short: {self.size} bytes, the database has {needed}",
            )

    def _freelist(self, walk: Walk) -> Generator[Damage, None, bool]:
        """Mark the free pages; whether it is sure that these are all."""
        meta = self.meta
        if meta is None or meta.freelist == NO_FREELIST:
            return False
        pgid, limit = meta.freelist, self.pages
        problem = ""
        try:
            ids, _ = self._pager.freelist(pgid, limit)
        except CorruptPageError as error:
            yield Damage(pgid, error.offset, f"freelist: {error.reason}")
            return False
        # As many pages as the ids take: the overflow field may be damaged.
        length = freelist_size(len(ids)) // self.page_size + 1
        walk.state.add(pgid, min(length, limit - pgid), USED)
        for page in ids:
            if not 2 <= page < limit:
                problem = f"freelist: it has page {page}, which does not exist"
            elif walk.state[page]:
                problem = f"freelist: it has page {page} twice, or is there itself"
            else:
                walk.state.add(page, 1, FREE)
        if problem:
            yield Damage(pgid, pgid * self.page_size, problem)
        return not problem

    def _find_root(self) -> int:
        """The page that leads to most without damage; 0 when there is none."""
        walk = self._new_walk()
        hints = [pgid for pgid in self._hints if 2 <= pgid < self.pages]
        if hints:
            best = max(hints, key=self._reach)
            if self._reach(best) > (False, 0):
                return best
        self._refer(walk)
        best, most, budget = 0, (False, 0), _ROOTS_TRIED * self._stored()
        for pgid, page in self._orphaned(walk):
            if isinstance(page, Leaf) and not page.has_buckets:
                continue
            reach = self._reach(pgid)
            if reach > most:
                best, most = pgid, reach
            budget -= reach[1] + 1
            if budget < 0:
                break
        return best

    def _reach(self, root: int) -> tuple[bool, int]:
        """Whether a tree is whole, and how many pages come before the damage."""
        walk = self._new_walk()
        whole = True
        tree = walk.tree(FoundBucket(b"", None), root)
        for entry in chain(tree, walk.rest()):
            if isinstance(entry, Damage):
                whole = False
                break
        return whole, walk.entered

    # -- step 3 --

    def _refer(self, walk: Walk) -> None:
        """Mark the pages that pages not met so far refer to."""
        state = walk.state
        for pgid in self._numbers():
            if state[pgid] & (USED | FREE):
                continue
            found = self._readable(pgid)
            if found is None:
                continue
            children = list(found.page.children)
            children += [
                int.from_bytes(value[:8], "little")
                for value in found.page.values
                if isinstance(value, BucketValue)
            ]
            for child in children:
                if 2 <= child < self.pages and child != pgid:
                    state.add(child, 1, REFERENCED)

    def _orphaned(self, walk: Walk) -> Iterator[tuple[int, Leaf | Branch]]:
        """Pages that neither the walk nor any other page has led to."""
        for pgid in self._numbers():
            if not walk.state[pgid]:
                found = self._readable(pgid)
                if found is not None and found.page.keys:
                    yield pgid, found.page

    def _readable(self, pgid: int) -> TolerantPage | None:
        try:
            found = read_tolerant(self._pager, pgid, self.pages)
        except FormatError:
            return None
        return None if found.stranger else found

    def _orphans(
        self, walk: Walk, root: FoundBucket, *, free_known: bool
    ) -> Iterator[Entry]:
        lost = tuple(walk.lost)
        # Then every orphan is a child of it.
        home = (
            lost[0] if len(lost) == 1 and lost[0].same_bucket and free_known else None
        )
        shelf: FoundBucket | None = None
        ranges = LostRanges(lost)
        self._refer(walk)
        for pgid, page in self._orphaned(walk):
            offset = pgid * self.page_size
            if home is not None and home.holds(page):
                yield Damage(
                    pgid, offset, "no page refers to it: put back by its keys", "",
                    home.bucket, home.low, home.high,
                )  # fmt: skip
                yield from walk.tree(home.bucket, pgid, home.low, home.high)
                continue
            if not free_known and lost and not ranges.hold(page):
                # An old version's page, of a part that is not damaged.
                continue
            if shelf is None:
                shelf = FoundBucket(LOST_AND_FOUND, root)
                yield shelf
            bucket = FoundBucket(b"page %d" % pgid, shelf, 0, pgid)
            yield bucket
            yield Damage(
                pgid, offset, "no page refers to it: its place is not known", "",
                bucket,
            )  # fmt: skip
            yield from walk.tree(bucket, pgid)


def scan(
    path: str | bytes | PathLike[str],
    *,
    txid: int | None = None,
    page_size: int | None = None,
    storage: Storage | None = None,
) -> Report:
    """Open a damaged database for reading whatever is left of it.

    The file is not changed. It is locked as a reader would.

    Args:
        path: The file.
        txid: Which of the two versions to read, see `Report.metas`; None for
            the newest one whose meta is sound.
        page_size: Bytes a page, when you know and the file does not tell.
        storage: The machine to run on; None: this one.

    Raises:
        InvalidDatabaseError: Nothing in it looks like a bolt database.
        OptionError: There is no sound meta of this txid, or no such page size; or no
            file can have this name.
        LockTimeoutError: Somebody has the file open for writing.
        StorageError: The system refused.
    """
    if page_size is not None and not (
        isinstance(page_size, int) and _LEAST <= page_size <= MAX_FOREIGN_PAGE_SIZE
    ):
        raise OptionError(
            f"page_size is from {_LEAST} to {MAX_FOREIGN_PAGE_SIZE}, not {page_size!r}"
        )
    if storage is None:
        storage = OSStorage()
    name = file_name(path)
    try:
        raw = storage.open(name, read_only=True)
    except OSError as error:
        raise StorageError.of(error, "open", name) from error
    try:
        try:
            free = raw.lock(False)
        except OSError as error:
            raise StorageError.of(error, "flock", name) from error
        if not free:
            raise LockTimeoutError(
                f"{name}: another process or handle has the database open for "
                "writing; close it first"
            )
        file = RobustFile(raw, name)
        return Report(file, file.size(), txid=txid, page_size=page_size)
    except BaseException:
        raw.close()
        raise
