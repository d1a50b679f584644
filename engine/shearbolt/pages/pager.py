"""Pages by number: reading, decoding once, keeping within a bound of bytes.

Committed pages never change while anybody can reach them (copy-on-write), so a
page is decoded once into lists of keys and values and kept under its number. A
page that is freed and used again is replaced or dropped by the commit that wrote it;
no transaction that can still reach the old content is open by then, see `freelist`. One
that was ended in the middle of reading it may put it back no more, see `settled`:

    reader   settled = A, reads page 7 |ended|                                | 7 is old
    commit                             | 7 is used again: None, keep(7), B    |

    caller --page(pgid)--> young {pgid: page} --miss--> old {pgid: page}
                                ^                             | hit: moves back
                                +---- decode <-- pread <------+ miss

The cache has two generations instead of an LRU order. A hit in the young one
costs a single dict lookup and changes nothing, which also makes it safe between
threads. As long as all pages fit the bound nothing else happens. When they do not,
what is still old is dropped; if that was nothing, the earlier half of the young
generation is dropped and the later half becomes old. (Generations of half the
bound each, rotated when the young one is full, lose pages from 50 % on: random
gets in a million pairs, 210 MB of 256, took six times as long.) Where a few large pages
are most of what is left, it is halved until it fits. A page that costs more than the
bound by itself is not kept at all: its value is, as long as somebody has it.

Once pages had to be dropped, a leaf that is read is kept only when it was read before,
less than about as many leaves ago as there are pages in the cache. So a walk over
more than there is room for drives nothing out. And among random reads of more pages
than that any other page is as likely to be asked for next: keeping each would mean
dropping one. In 100,000 pairs with room for a third of them a get took 12 us and takes
8 so, a range of 100 pairs 93 and takes 63, a scan 0.65 a pair and takes 0.37.

Beside the pages the cache holds indexes, pairs by key, of the trees that are asked
most (see `lookup`). They are made only of room that is left and are dropped before
any page is: what is in them is in the pages too.

Reads ask for exactly the bytes that are used: a header, the element table, the
content behind it. Only where the file is a real one and the handle has its lock,
more is read at once (see `window`). See `shearbolt.storage` for the reasons.

What it is not: it moves no bytes. `robust` does, and whoever wants bytes of the file
and no page asks `Pager.file`. Only writes come by here, because of the window.
"""

from __future__ import annotations

import errno
from operator import lt
from typing import TYPE_CHECKING, Final

from shearbolt.errors import CorruptPageError, StorageError
from shearbolt.pages.decoding import (
    decode_branch,
    decode_freelist,
    decode_leaf,
    decode_usual_leaf,
    decode_usual_leaves,
    names_buckets,
)
from shearbolt.pages.format import (
    BRANCH,
    ELEMENT_SIZE,
    FREELIST,
    HEADER,
    LEAF,
    PAGE_HEADER_SIZE,
    PLACE_COST,
    BucketValue,
    FormatError,
    Header,
    Page,
    content_size,
    index_entries,
    index_places,
    page_kind,
)
from shearbolt.pages.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shearbolt.pages.format import Branch
    from shearbolt.storage.robust import RobustFile

__all__ = ["DEFAULT_CACHE_SIZE", "EIGHTHS", "MAX_DEPTH", "Pager"]

DEFAULT_CACHE_SIZE: Final = 256 * 1024 * 1024
"""Bytes of decoded pages kept, as `format.leaf_cost` counts them."""

MAX_DEPTH: Final = 64
"""A branch has at least two children and page ids have 64 bits, so a deeper
tree contains a cycle."""

_SPARE: Final = 16
"""Pages that a run may be longer than twice its content. Of writers we know, boltdb may
leave one, and the freelist's pages are taken before it is known what will be in it."""

_MAX_WIDE_PAGE: Final = 16384
"""Half of a page is usually empty: reading it costs more than two system calls."""

EIGHTHS: Final = 8
"""So many of `Pager.patience` are as many gets as a tree has leaves."""

_MOST_PATIENCE: Final = 64 * EIGHTHS


class Pager:
    """The pages of one open file.

    Args:
        file: The open file.
        page_size: Bytes a page.
        cache_size: Bytes of decoded pages to keep.

    Attributes:
        file: The file: its bytes, around the cache. What is written goes through
            `write`.
        path: Its path.
        page_size: Bytes a page.
        young: The cache's young generation: the only place worth looking into
            before calling `page`. Another dict may stand here the next time.
        patience: How many gets come before an index, in eighths of its tree's leaves.
        spent: Bytes that are counted for what the cache has, see `held`.
        in_doubt: Whether pages of a commit are in the cache of which nobody has said
            yet whether it took effect.
        settled: Another object after each change of pages, None while they change: what
            was read before may come into the cache only while it is the same one.
    """

    __slots__ = (
        "_asked",
        "_budget",
        "_full",
        "_indexed",
        "_old",
        "_window",
        "file",
        "in_doubt",
        "page_size",
        "path",
        "patience",
        "settled",
        "spent",
        "young",
    )

    def __init__(
        self,
        file: RobustFile,
        page_size: int,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        self.file = file
        self.path = file.path
        self.page_size = page_size
        self._budget = max(cache_size, 1)
        self.spent = 0
        self.in_doubt = False
        self.settled: object | None = object()
        self.young: dict[int, Page] = {}
        self._old: dict[int, Page] = {}
        self._indexed: dict[int, Branch] = {}
        self.patience = 1
        # How many pages there were when some had to be dropped, and leaves that were
        # not kept since.
        self._full = 0
        self._asked: set[int] = set()
        self._window: Window | None = None

    # -- pages --

    def read_ahead(self) -> None:
        """Read more than is asked for, where it is cheaper and the file allows it.

        From here on nobody else may write the file.
        """
        raw = self.file.raw
        piece = getattr(raw, "read_ahead", 0)
        if self.page_size <= _MAX_WIDE_PAGE and piece >= self.page_size:
            self._window = Window(raw, self.page_size, piece)

    def page(self, pgid: int, high_water_mark: int) -> Page:
        """A leaf or branch page.

        Args:
            pgid: Which one.
            high_water_mark: The reading transaction's; ids from there on do
                not exist for it.

        Raises:
            CorruptPageError: It is neither, or damaged, or its keys are not
                sorted.
            StorageError: It could not be read.
        """
        page = self.young.get(pgid)
        if page is None:
            settled = self.settled
            page = self._old.pop(pgid, None)
            if page is None:
                page = self._from_file(pgid, high_water_mark)
                # As `_put_in`: a call less for every page of a cold scan.
                if settled is not None and settled is self.settled:
                    self.young[pgid] = page
                    self.spent += page.cost
                    if self.spent > self._budget:
                        self._shrink()
            elif settled is not None and settled is self.settled:
                self.young[pgid] = page
            else:
                self.spent -= page.cost
        return page

    def glance(self, pgid: int, high_water_mark: int) -> Page:
        """As `page`, to read it once: when the cache is full it may not be kept."""
        if not self._full:
            return self.page(pgid, high_water_mark)
        asked = self._asked
        if pgid in self.young or pgid in self._old or pgid in asked:
            asked.discard(pgid)
            return self.page(pgid, high_water_mark)
        settled = self.settled
        page = self._from_file(pgid, high_water_mark)
        if not page.is_leaf:
            self._put_in(page, settled)
        else:
            if len(asked) >= self._full:
                asked.clear()
            asked.add(pgid)
        return page

    def take_in(self, ids: Sequence[int], high_water_mark: int) -> None:
        """Put those of these leaves into the cache that have been read anyway.

        Not when it is full: then not every leaf comes into it, see `glance`.
        """
        if self._window is None or self._full:
            return
        settled = self.settled
        data, start = self._window.piece()
        young, old = self.young, self._old
        new = [
            pgid
            for pgid in ids
            if pgid < high_water_mark and pgid not in young and pgid not in old
        ]
        self._take(list(decode_usual_leaves(new, data, start, self.page_size)), settled)

    def _take(self, leaves: Sequence[Page], settled: object | None) -> None:
        """Put leaves that were not there into the cache, as `_put_in`."""
        young = self.young
        for leaf in leaves:
            if settled is None or settled is not self.settled:
                return
            young[leaf.pgid] = leaf
            self.spent += leaf.cost
        if self.spent > self._budget:
            self._shrink()

    def _put_in(self, page: Page, settled: object | None) -> None:
        """Put a page into the cache that was read when this was `settled`.

        Only if no page has changed since. Whoever reads has a transaction that keeps
        others from using its pages again; but another thread, or a signal handler in
        the middle of the reading, may have ended it, and committed.
        """
        pgid = page.pgid
        # A commit can come in between where something is called: from the look whether
        # one has come up to the page's being there, nothing is.
        current = settled is not None and settled is self.settled
        # Another thread that has read it, too, has counted it.
        if current and pgid not in self.young:
            self.young[pgid] = page
            self.spent += page.cost
            if self.spent > self._budget:
                self._shrink()

    def _from_file(self, pgid: int, high_water_mark: int) -> Page:
        """As `read_page`, with wide reads where they are allowed, and keys in order."""
        page: Page | None
        if self._window is None or not 2 <= pgid < high_water_mark:
            page = self.read_page(pgid, high_water_mark)
        else:
            data, at = self._window.around(pgid * self.page_size)
            page = decode_usual_leaf(pgid, data, at, self.page_size)
            if page is None:
                page = self.read_page(pgid, high_water_mark, data, at)
        # Searching unsorted keys would miss some of them without a word. Only here, on
        # the way into the cache: the checker reads around it, so as to name every key
        # that is out of place. 25 ns a key, once.
        behind = iter(page.keys)
        next(behind, None)
        if not all(map(lt, page.keys, behind)):
            raise self.corrupt(pgid, "its keys are not in ascending order")
        return page

    def read_page(
        self, pgid: int, high_water_mark: int, known: bytes = b"", at: int = 0
    ) -> Page:
        """The same, from the file, whatever is in the cache.

        Args:
            pgid: Which one.
            high_water_mark: As above.
            known: Bytes of the file, the page's from `at` on, as many as there are.
            at: See there.
        """
        flags, count, overflow = self._fields(pgid, high_water_mark, known, at)
        read = self._reader(pgid, known, at)
        limit = (overflow + 1) * self.page_size
        page: Page
        try:
            # bbolt can leave a root branch without elements (bbolt #1170): an
            # empty tree, which a leaf without elements is too.
            if flags == LEAF or (flags == BRANCH and not count):
                page = decode_leaf(pgid, count, overflow, read, limit)
            elif flags == BRANCH:
                page = decode_branch(pgid, count, overflow, read, limit)
            else:
                raise self.corrupt(pgid, f"a {page_kind(flags)} page inside a tree", 8)
        except FormatError as error:
            raise self.corrupt(pgid, str(error), error.at) from None
        except MemoryError:
            # Of a value, a damaged one or not, that has up to 2 GiB.
            reason = (
                f"not enough memory for page {pgid} and its {overflow} overflow pages"
            )
            offset = pgid * self.page_size
            raise StorageError.made(
                errno.ENOMEM, reason, "pread", self.path, offset
            ) from None
        if overflow > _SPARE:
            content = content_size(page.keys, page.values) + ELEMENT_SIZE * count
            self._require_used(pgid, overflow, content)
        return page

    def _require_used(self, pgid: int, overflow: int, content: int) -> None:
        """Raise when a run is much longer than its content: it claims others' pages.

        Whoever frees it, or notes that it was there, takes time and memory for all.
        """
        needed = -(-(PAGE_HEADER_SIZE + content) // self.page_size)
        if overflow + 1 > 2 * needed + _SPARE:
            raise self.corrupt(
                pgid, f"{overflow} overflow pages, but its content takes {needed}", 12
            )

    def pass_by(self, pgid: int, high_water_mark: int) -> Page:
        """As `page`, but one that is not in the cache does not come into it.

        For a page that the running transaction replaces: the cache would drop
        others for it.
        """
        page = self.young.get(pgid) or self._old.get(pgid)
        if page is None:
            page = self._from_file(pgid, high_water_mark)
        return page

    def around(self, pgid: int, high_water_mark: int) -> tuple[bytes, int]:
        """Bytes of the file with a page among them, if more may be read than is needed.

        Returns:
            The bytes and the page's place in them; none when the page is in the cache,
            or has to be read exactly.
        """
        window = self._window
        if window is None or not 2 <= pgid < high_water_mark:
            return b"", 0
        if pgid in self.young or pgid in self._old:
            return b"", 0
        return window.around(pgid * self.page_size)

    def wide_reads(self) -> Callable[[int], tuple[bytes, int]] | None:
        """Gives bytes of the file with the page at an offset, whatever is in the cache.

        As `Window.around`; None when pages have to be read exactly.
        """
        return None if self._window is None else self._window.around

    def is_leaf(self, pgid: int, high_water_mark: int) -> bool:
        """Whether a page is a leaf, by its header; errors as there."""
        page = self.young.get(pgid) or self._old.get(pgid)
        if page is not None:
            return page.is_leaf
        known, at = self.around(pgid, high_water_mark)
        return self._fields(pgid, high_water_mark, known, at)[0] == LEAF

    def is_plain_leaf(self, pgid: int, high_water_mark: int) -> bool:
        """Whether a page is a leaf without buckets, by its header and its table.

        Raises:
            CorruptPageError: The header is damaged.
            StorageError: It could not be read.
        """
        page = self.young.get(pgid) or self._old.get(pgid)
        if page is not None:
            return page.is_leaf and not page.has_buckets
        known, at = self.around(pgid, high_water_mark)
        flags, count, _ = self._fields(pgid, high_water_mark, known, at)
        if flags != LEAF:
            return False
        try:
            table = self._reader(pgid, known, at)(
                PAGE_HEADER_SIZE, ELEMENT_SIZE * count
            )
        except FormatError as error:
            raise self.corrupt(pgid, str(error), error.at) from None
        return not names_buckets(table)

    def freelist(self, pgid: int, high_water_mark: int) -> tuple[list[int], int]:
        """The ids in a freelist page, and its overflow; errors as for `page`.

        An id may be out of range or there twice; that is for the caller.
        """
        flags, count, overflow = self._fields(pgid, high_water_mark)
        if flags != FREELIST:
            raise self.corrupt(
                pgid, f"a {page_kind(flags)} page instead of a freelist", 8
            )
        limit = (overflow + 1) * self.page_size
        try:
            ids = decode_freelist(count, self._reader(pgid), limit)
        except FormatError as error:
            raise self.corrupt(pgid, str(error), error.at) from None
        self._require_used(pgid, overflow, 8 * len(ids))
        return ids, overflow

    def header(self, pgid: int, high_water_mark: int) -> Header:
        """A page's header, verified as far as it can be by itself.

        Raises:
            CorruptPageError: The page does not exist, or says it is another
                one, or its overflow leaves the file (bbolt FastCheck).
        """
        return Header(pgid, *self._fields(pgid, high_water_mark))

    def _fields(
        self, pgid: int, high_water_mark: int, known: bytes = b"", at: int = 0
    ) -> tuple[int, int, int]:
        """Flags, count and overflow of a page's header; errors as there.

        Without a record: making one takes longer than reading the header.
        """
        if not 2 <= pgid < high_water_mark:
            raise self.corrupt(pgid, f"pages in use are [2, {high_water_mark})")
        if at + PAGE_HEADER_SIZE > len(known):
            known, at = self.file.read(pgid * self.page_size, PAGE_HEADER_SIZE), 0
            if len(known) < PAGE_HEADER_SIZE:
                raise self.corrupt(pgid, "the file ends inside the page header")
        stamp, flags, count, overflow = HEADER.unpack_from(known, at)
        if stamp != pgid:
            raise self.corrupt(pgid, f"it says it is page {stamp}")
        if pgid + overflow >= high_water_mark:
            raise self.corrupt(
                pgid,
                f"{overflow} overflow pages, but the database ends at "
                f"page {high_water_mark}",
                12,
            )
        return flags, count, overflow

    def _reader(
        self, pgid: int, known: bytes = b"", at: int = 0
    ) -> Callable[[int, int], bytes]:
        """Reads bytes of a page run, given the `known` bytes from place `at` on."""
        base = pgid * self.page_size
        end = len(known) - at
        read_at = self.file.read

        def read(start: int, length: int) -> bytes:
            if start + length <= end:
                return known[at + start : at + start + length]
            data = read_at(base + start, length)
            if len(data) < length:
                raise FormatError("the file ends inside the page", start + len(data))
            return data

        return read

    def corrupt(self, pgid: int, reason: str, at: int = 0) -> CorruptPageError:
        """The error for damage `at` bytes into a page."""
        return CorruptPageError(
            reason, path=self.path, pgid=pgid, offset=pgid * self.page_size + at
        )

    def write(self, offset: int, buffers: Sequence[bytes]) -> int:
        """Write the buffers one behind the other, as `RobustFile.write`.

        The cache does not see it: see `keep` and `forget`.
        """
        try:
            return self.file.write(offset, buffers)
        finally:
            if self._window is not None:
                self._window.written()

    # -- the cache --

    def keep(self, page: Page) -> None:
        """Put a page that was made into the cache, replacing one of its number."""
        pgid = page.pgid
        replaced = self.young.get(pgid)
        # The young one may be dropped first, and the other would be found then. In this
        # order: see `_shrink`.
        self.young[pgid] = page
        old = self._old.pop(pgid, None) if self._old else None
        self.spent += page.cost
        if replaced is not None and replaced is not page:
            self.spent -= replaced.cost
        if old is not None and old is not page:
            self.spent -= old.cost
        if self.spent > self._budget:
            self._shrink()

    def _shrink(self) -> None:
        """Drop pages that were not used lately until the rest fits the bound.

        Other threads may read meanwhile, and one may commit. So a generation is never
        copied: a page that a commit replaces in the one would come back with the other.
        """
        budget = self._budget
        # Threads that read one page at once have counted it twice, and an interrupt
        # may have come before what was dropped was taken off.
        self._recount()
        if self.spent <= budget:
            return
        for page in list(self.young.values()):
            # It would drive everything else out, and not fit even then.
            if page.cost > budget and self.young.pop(page.pgid, None) is not None:
                self.spent -= page.cost
        if self.spent <= budget:
            return
        if self._indexed:
            self.drop_indexes()
            self.patience = max(self.patience, EIGHTHS)
            if self.spent <= budget:
                return
        self._full = len(self.young) + len(self._old)
        if self._old:
            self._old = {}
            self._recount()
            if self.spent <= budget:
                return
        young: dict[int, Page] = {}
        # No call in between, so no other thread either: a dict that has been young may
        # not become old when another has become young since.
        self._old, self.young = self.young, young
        old = self._old
        kept = list(old.values())
        spent = budget + 1
        # More than once where a few large pages are most of it.
        while spent > budget:
            half = (len(kept) + 1) // 2
            for page in kept[:half]:
                old.pop(page.pgid, None)
            kept = kept[half:]
            spent = sum(page.cost for page in kept)
        self._recount()

    def _recount(self) -> None:
        """Count what there is; anew when another thread has counted meanwhile.

        What that one has dropped and not taken off yet is taken off once more: the
        count is too small by it until the cache is full the next time.
        """
        while True:
            counted = self.spent
            held = self.held()
            # No call in between, so nobody's count is lost, nor made twice.
            if self.spent == counted:
                self.spent = held
                return

    def held(self) -> int:
        """What the cache's pages and indexes cost."""
        pages = [*self.young.values(), *self._old.values()]
        indexed = [*self._indexed.values()]
        return sum(page.cost for page in pages) + PLACE_COST * sum(
            index_places(root.room) for root in indexed
        )

    def forget_all(self, pgids: Iterable[int]) -> None:
        """Drop pages from the cache: their bytes in the file have changed."""
        # A generation may become old meanwhile, but no page comes into it again.
        for pages in (self.young, self._old):
            for pgid in filter(pages.__contains__, pgids):
                page = pages.pop(pgid, None)
                if page is not None:
                    self.spent -= page.cost

    def clear(self) -> None:
        """Drop all pages from the cache."""
        self.drop_indexes()
        self.young = {}
        self._old = {}
        self._asked = set()
        self._full = 0
        self.spent = 0
        self.in_doubt = False

    # -- indexes --

    def note(self, root: Branch, leaf: Page) -> None:
        """Put a leaf's pairs into the index of its tree, if there is room."""
        # Its pairs are counted with the page, so only those of pages that are kept.
        if self.young.get(leaf.pgid) is not leaf:
            return
        keys = leaf.keys
        pairs = root.pairs
        if pairs is None or len(pairs) + len(keys) > root.room:
            pairs = self._enlarged(root, len(keys))
            if pairs is None:
                return
        # A page has as many values as keys. `strict` would take a third of the time.
        found = zip(keys, leaf.values)  # noqa: B905
        if leaf.has_buckets:
            pairs.update(pair for pair in found if pair[1].__class__ is not BucketValue)
        else:
            pairs.update(found)

    def _enlarged(self, root: Branch, more: int) -> dict[bytes, bytes] | None:
        """A root's index with room for more pairs; None when there is none left."""
        places = index_places(len(root.pairs or ()) + more)
        entries, name = index_entries(places), id(root)
        while True:
            room = root.room
            cost = PLACE_COST * (places - index_places(room))
            if self.spent + cost > self._budget:
                return None
            # No call from here on, so no other thread either. During that one a commit
            # may have dropped the index, and then all of its room is new.
            if root.room == room:
                break
        self.spent += cost
        root.room = entries
        pairs = root.pairs
        if pairs is None:
            pairs = root.pairs = {}
        self._indexed[name] = root
        return pairs

    def drop_indexes(self, freed: Callable[[int], bool] | None = None) -> None:
        """Forget all indexes, or those of trees whose root page is no more."""
        # Whoever takes one out first drops it: other threads may be at it too.
        for name, root in list(self._indexed.items()):
            pgid = root.pgid
            if freed is not None and not freed(pgid) and self.young.get(pgid) is root:
                continue
            if self._indexed.pop(name, None) is not None:
                if freed is not None:
                    self._judge(root)
                # Not in one: what another thread adds during the call would be lost.
                cost = PLACE_COST * index_places(root.room)
                self.spent -= cost
                root.pairs = root.wait = None
                root.room = 0

    def _judge(self, root: Branch) -> None:
        """A commit ends an index: learn from it whether it was worth its making."""
        if 4 * len(root.pairs or ()) >= 3 * root.whole:
            self.patience = EIGHTHS
        else:
            self.patience = min(max(2 * self.patience, EIGHTHS), _MOST_PATIENCE)
