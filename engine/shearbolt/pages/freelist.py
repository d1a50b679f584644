"""Which pages may be written, and since when.

A page is in one of four states:

    reachable --free--> pending(txid) --release--> free --allocate--+
        ^                                                           |
        +-----------------------------------------------------------+

*Pending* pages belonged to an older version of the database. They must not be
written while that version may still be read: by an open reader, or by recovery,
because its meta is the newest durable one. Transaction t's frees are therefore
released at the earliest when transaction t+1 begins, and not before every
reader that can see the pages has gone.

On disk the list is the union of free and pending, sorted: after a restart there
are no readers, so both are the same.

Two ways to choose among free pages, as in bbolt: `array` takes the lowest
address that fits, `hashmap` takes a run of exactly the right length when there is
one (see `freeruns`). Where bbolt picks at random (Go map order) the lowest address is
picked here.

What one commit frees the next one takes, page by page, lowest first. So `array` does
not make runs of a few single pages that were released, but keeps them sorted beside
the runs (`_singles`), and takes them from there as long as none of the runs is lower.
They become runs when consecutive pages are looked for, or when they are many.

The running transaction
=======================
Until it commits nothing that was there before is changed, except for runs:

    listed    the set of free and pending pages when it began (see `pageset`)
    taken     pages it has allocated: the first `_used` singles, and from the runs
    freed     pages it has given back, pending when it has committed

What is written into the file is made of these at once, as the set of the next
version beside the old one. Committing puts it in its place; rolling back forgets it.

After a failed commit bbolt reads the list again from disk, through the meta that
has just failed to become durable, and thereby frees pages that open readers and
the last durable version still use. Here every transaction's allocations and
frees are undone from memory; nothing is read.

Unless an exception from outside (Ctrl-C, a signal handler's) came between two steps
of one change. Then nobody knows how far it got, and `in_doubt` says so: the list is
read again, and everything in it is held back until no reader is older than the live
version (`held`). A single page is taken, or freed, in one step.

Source: bbolt internal/freelist/{shared,array,hashmap}.go.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right, insort
from itertools import chain, compress, islice, repeat
from operator import eq, lt
from typing import TYPE_CHECKING, Final

from shearbolt.pages.freeruns import NO_PAGE, ExactRuns, FreeRuns
from shearbolt.pages.pageset import PageSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

__all__ = ["ArrayFreelist", "FreelistError", "HashmapFreelist", "make_freelist"]

_FOREVER: Final = 0xFFFF_FFFF_FFFF_FFFF
_FEW: Final = 16
"""Up to here a loop over runs beats the calls that make ids of them."""
_MOST_SINGLES: Final = 64
"""More are made runs of: to sort them at every commit would take longer."""


class FreelistError(Exception):
    """A page was freed twice, or is one that is never free.

    Attributes:
        pgid: The page.
    """

    def __init__(self, reason: str, pgid: int) -> None:
        super().__init__(reason)
        self.pgid = pgid


class _Pending:
    """Pages one transaction has freed, each with who allocated it (0: unknown).

    Attributes:
        pages: Single pages, in order.
        allocated_by: One a page.
        runs: Others, as (first page, pages, who allocated them).
    """

    __slots__ = ("allocated_by", "pages", "runs")

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.allocated_by: list[int] = []
        self.runs: list[tuple[int, int, int]] = []


class ArrayFreelist:
    """Free pages; the lowest address that fits is allocated first.

    Attributes:
        in_doubt: Whether a change was begun and did not end.
    """

    _kind: type[FreeRuns] = FreeRuns

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._free = self._kind()
        # Those that are in no run, sorted. The last one is none, so that nobody has to
        # ask whether there are any.
        self._singles = [NO_PAGE]
        # Free and pending pages together: what the file says.
        self._listed = PageSet()
        # By transaction; these in order; of which the last one was looked through, and
        # the readers there were then.
        self._pending: dict[int, _Pending] = {}
        self._waiting: list[int] = []
        self._looked_at = -1
        self._readers: list[int] = []
        # First page of a run -> the transaction that allocated it from here.
        self._allocated_by: dict[int, int] = {}
        # What the running transaction has taken: singles, single pages from runs,
        # consecutive pages as (first, pages).
        self._used = 0
        self._taken: list[int] = []
        self._taken_runs: list[tuple[int, int]] = []
        # What it has freed: single pages; first page of a run -> pages, and sorted.
        self._freed: set[int] = set()
        self._freed_runs: dict[int, int] = {}
        self._freed_starts: list[int] = []
        # How far that was when `_now` was asked last, and its answer.
        self._next: tuple[tuple[int, ...], PageSet] | None = None
        self.in_doubt = False
        listed = list(ids)
        if listed:
            self._load(listed)

    @classmethod
    def held(cls, ids: list[int], txid: int) -> Self:
        """A list of pages that are all pending, as if this transaction freed them."""
        made = cls()
        pending = made._pending[txid] = _Pending()
        made._waiting = [txid]
        pending.pages = sorted(ids)
        pending.allocated_by = [0] * len(ids)
        made._listed = PageSet(pending.pages)
        return made

    def _load(self, ids: list[int]) -> None:
        """Begin with these pages: all at once, because there may be millions."""
        if not all(map(lt, ids, islice(ids, 1, None))):
            ids = sorted(set(ids))
        self._listed = PageSet(ids)
        self._free = self._kind(ids)

    # -- counts --

    def counts(self) -> tuple[int, int]:
        """`free_count` and `pending_count`."""
        free = self.free_count
        return free, len(self) - free

    @property
    def free_count(self) -> int:
        """Pages that may be allocated now."""
        return self._free.count + len(self._singles) - 1 - self._used

    @property
    def pending_count(self) -> int:
        """Pages that become free when nobody reads them any more."""
        return len(self) - self.free_count

    def __len__(self) -> int:
        count = len(self._listed) + len(self._freed) - self._used - len(self._taken)
        if self._taken_runs:
            count -= sum(length for _, length in self._taken_runs)
        if self._freed_runs:
            count += sum(self._freed_runs.values())
        return count

    def __contains__(self, pgid: int) -> bool:
        return pgid in self._now()

    def encoded(self) -> bytes:
        """Free and pending pages as they stand in a freelist page."""
        return self._now().encoded()

    def pieces(self, first: int, size: int) -> Iterator[bytes]:
        """The same in pieces of so many ids; see `PageSet.pieces`."""
        return self._now().pieces(first, size)

    def ids(self) -> list[int]:
        """Free and pending pages, sorted: what is written to disk."""
        return list(struct.unpack(f"<{len(self)}Q", self.encoded()))

    def runs(self) -> Iterator[tuple[int, int]]:
        """The free runs as (first page, pages), by address."""
        self.in_doubt = True
        self._make_runs()
        self.in_doubt = False
        return iter(self._free)

    def _now(self) -> PageSet:
        """What the file will say of the version that is being made."""
        # All of them only grow.
        taken, freed = self._taken, self._freed
        runs, freed_runs = self._taken_runs, self._freed_runs
        state = (self._used, len(taken), len(runs), len(freed), len(freed_runs))
        if self._next is not None and self._next[0] == state:
            return self._next[1]
        gone = self._singles[: self._used]
        if taken:
            gone = sorted(gone + taken)
        new = sorted(freed)
        if len(runs) + len(freed_runs) > _FEW:
            gone = sorted(chain(gone, _ids(runs)))
            new = sorted(chain(new, _ids(freed_runs.items())))
            listed = self._listed.changed(gone, new)
        else:
            listed = self._listed.changed(gone, new, runs, freed_runs.items())
        self._next = state, listed
        return listed

    # -- a transaction's work --

    def allocate(self, count: int) -> int:
        """Take `count` consecutive pages.

        Returns:
            The first page's id, 0 when there is no such run.
        """
        if count == 1:
            page = self._singles[self._used]
            if page < self._free.floor:
                self._used += 1
                return page
        elif not count:
            return 0
        self.in_doubt = True
        if count > 1:
            self._make_runs()
        start = self._free.find(count)
        if start:
            self._free.cut(start, count)
            if count == 1:
                self._taken.append(start)
            else:
                self._taken_runs.append((start, count))
        self.in_doubt = False
        return start

    def allocate_singles(self, count: int) -> list[int]:
        """Take up to so many pages, the same as `allocate` gives one by one."""
        pages: list[int] = []
        self.in_doubt = True
        self._make_runs()
        while len(pages) < count and (start := self._free.find(1)):
            # What is left of a run is taken next, by both ways to choose.
            cut = self._free.cut(start, count - len(pages))
            pages += range(start, start + cut)
        self._taken += pages
        self.in_doubt = False
        return pages

    def free(self, pgid: int, overflow: int) -> None:
        """Give back a page and its overflow, pending until `release`.

        Raises:
            FreelistError: A meta page, or a page that is free already; or one that
                the same transaction has taken.
        """
        if overflow or pgid <= 1:
            self._free_run(pgid, overflow + 1)
            return
        freed = self._freed
        if (
            pgid in freed
            or pgid in self._listed
            or (self._freed_runs and self._in_freed_runs(pgid))
        ):
            raise FreelistError(f"page {pgid} already freed", pgid)
        freed.add(pgid)

    def made_by(self, pgid: int, txid: int) -> None:
        """Say which transaction has allocated a page, should it not be known.

        Of what comes from beyond the high-water mark it is not. While a reader is open
        such pages stay pending, though it cannot see them, and of the freelist there is
        a new one in every commit. Each was longer by those before it: with a reader
        open for 1,200 small commits a file of 130 KB grew to 7 GB.

        Args:
            pgid: The page, or the first one of a run.
            txid: The transaction.
        """
        self._allocated_by.setdefault(pgid, txid)

    def free_all(self, pgids: list[int]) -> None:
        """Give back many pages without overflow, as `free` does one by one.

        Raises:
            FreelistError: As there; then all stay as they were.
        """
        if not pgids:
            return
        pgids = sorted(pgids)
        if pgids[0] <= 1:
            raise FreelistError(f"cannot free page 0 or 1: {pgids[0]}", pgids[0])
        there = self._listed.first_of(pgids)
        if there is None:
            there = min(self._freed.intersection(pgids), default=None)
        if there is None:
            twice = compress(pgids, map(eq, pgids, islice(pgids, 1, None)))
            there = next(twice, None)
        if there is None and self._freed_runs:
            there = next(filter(self._in_freed_runs, pgids), None)
        if there is not None:
            raise FreelistError(f"page {there} already freed", there)
        self._freed.update(pgids)

    def _free_run(self, start: int, length: int) -> None:
        if start <= 1:
            raise FreelistError(f"cannot free page 0 or 1: {start}", start)
        there = (
            self._listed.first_in(start, length),
            self._in_freed(start, length),
            self._in_freed_runs(start, length),
        )
        if first := min(filter(None, there), default=None):
            raise FreelistError(f"page {first} already freed", first)
        self.in_doubt = True
        insort(self._freed_starts, start)
        self._freed_runs[start] = length
        self.in_doubt = False

    def _in_freed(self, start: int, length: int) -> int | None:
        """The lowest of these pages that was freed by itself."""
        pages, freed = range(start, start + length), self._freed
        if len(freed) < length:
            return min((pgid for pgid in freed if pgid in pages), default=None)
        return next((pgid for pgid in pages if pgid in freed), None)

    def _in_freed_runs(self, start: int, length: int = 1) -> int | None:
        """The lowest of these pages that was freed with others."""
        starts = self._freed_starts
        at = bisect_right(starts, start)
        if at and starts[at - 1] + self._freed_runs[starts[at - 1]] > start:
            return start
        if at < len(starts) and starts[at] < start + length:
            return starts[at]
        return None

    def commit(self, txid: int) -> None:
        """The running transaction is durable: its work can't be undone now."""
        self.in_doubt = True
        self._listed = self._now()
        allocated_by = self._allocated_by
        if self._freed or self._freed_runs:
            pending = self._pending[txid] = _Pending()
            self._waiting.append(txid)
            pages = pending.pages = sorted(self._freed)
            pending.allocated_by = list(map(allocated_by.pop, pages, repeat(0)))
            pending.runs = [
                (start, length, allocated_by.pop(start, 0))
                for start, length in self._freed_runs.items()
            ]
        singles, used = self._singles, self._used
        allocated_by.update(zip(singles[:used] + self._taken, repeat(txid)))
        for start, _ in self._taken_runs:
            allocated_by[start] = txid
        del singles[:used]
        self._forget()
        self.in_doubt = False

    def rollback(self) -> None:
        """Undo the running transaction's allocations and frees."""
        if self.in_doubt:
            # It is read again, before anybody takes or frees a page.
            return
        self.in_doubt = True
        for start in self._taken:
            self._free.add(start, 1)
        for start, length in self._taken_runs:
            self._free.add(start, length)
        self._forget()
        self.in_doubt = False

    def _forget(self) -> None:
        """No transaction is running any more."""
        self._used = 0
        self._freed = set()
        self._next = None
        if self._taken:
            self._taken = []
        if self._taken_runs:
            self._taken_runs = []
        if self._freed_runs:
            self._freed_runs = {}
            self._freed_starts = []

    # -- release --

    def release(self, readers: Iterable[int]) -> None:
        """Make pending pages free that no reader can see (at begin(True)).

        Args:
            readers: The txids of the open read transactions.
        """
        if not self._pending:
            return
        self.in_doubt = True
        self._release(sorted(set(readers)))
        self.in_doubt = False

    def _release(self, readers: list[int]) -> None:
        """The same, given their txids in order.

        Behind a reader that stays for long there may be thousands of transactions
        whose pages it can see. They are looked through once, and again when the last
        reader before them has gone: not at every begin, as bbolt does.
        """
        last, self._looked_at = self._looked_at, self._waiting[-1]
        were, self._readers = self._readers, readers
        first = readers[0] if readers else _FOREVER
        self._release_up_to(first - 1)
        if not self._pending:
            return
        gone = set(were).difference(readers)
        new = readers[bisect_right(readers, last) :]
        known = 0
        for start in sorted({*gone, last + 1, *(txid + 1 for txid in new)}):
            place = bisect_left(readers, start)
            # Before the first reader all is free by now.
            if place > known:
                known = place
                end = readers[place] if place < len(readers) else _FOREVER
                self._release_between(readers[place - 1], start, end)

    def _release_up_to(self, last: int) -> None:
        waiting = self._waiting
        behind = bisect_right(waiting, last)
        for txid in waiting[:behind]:
            pending = self._pending.pop(txid)
            self._set_free(pending.pages, pending.runs)
        del waiting[:behind]

    def _release_between(self, reader: int, start: int, end: int) -> None:
        """Release what was allocated and freed between neighbouring readers.

        It was never visible to either.

        Args:
            reader: The lower one's txid.
            start: The first transaction to look at.
            end: The upper reader's txid.
        """
        waiting = self._waiting
        begin, behind = bisect_left(waiting, start), bisect_left(waiting, end)
        for txid in waiting[begin:behind]:
            pending = self._pending[txid]
            pages: list[int] = []
            runs: list[tuple[int, int, int]] = []
            kept = _Pending()
            # 0: from before this handle, or from beyond the high-water mark; an
            # older reader may see the page.
            for page, by in zip(pending.pages, pending.allocated_by, strict=True):
                if by > reader:
                    pages.append(page)
                else:
                    kept.pages.append(page)
                    kept.allocated_by.append(by)
            for run in pending.runs:
                (runs if run[2] > reader else kept.runs).append(run)
            if kept.pages or kept.runs:
                self._pending[txid] = kept
            else:
                del self._pending[txid]
                del waiting[bisect_left(waiting, txid)]
            self._set_free(pages, runs)

    def _set_free(self, pages: list[int], runs: list[tuple[int, int, int]]) -> None:
        """These were pending, and are free from now on.

        Args:
            pages: Single pages, in order.
            runs: Consecutive ones, as in `_Pending`.
        """
        if pages:
            singles = self._singles
            singles += pages
            singles.sort()
            if len(singles) > _MOST_SINGLES:
                self._make_runs()
        for start, length, _ in runs:
            self._free.add(start, length)

    def _make_runs(self) -> None:
        """Make the singles runs; those that are taken are as if taken from runs."""
        singles, used = self._singles, self._used
        if len(singles) == 1:
            return
        self._taken += singles[:used]
        self._used = 0
        self._singles = [NO_PAGE]
        self._free.add_all(singles[used:-1])


class HashmapFreelist(ArrayFreelist):
    """Free pages; a run of exactly the right length is allocated first."""

    _kind = ExactRuns

    def _set_free(self, pages: list[int], runs: list[tuple[int, int, int]]) -> None:
        super()._set_free(pages, runs)
        # Singles are for who takes the lowest.
        self._make_runs()


def _ids(runs: Iterable[tuple[int, int]]) -> Iterator[int]:
    """The pages of runs."""
    return chain.from_iterable(range(at, at + length) for at, length in runs)


FREELIST_TYPES = {"array": ArrayFreelist, "hashmap": HashmapFreelist}


def make_freelist(kind: str, ids: Iterable[int] = ()) -> ArrayFreelist:
    """A freelist of the kind an option names, "array" or "hashmap"."""
    return FREELIST_TYPES[kind](ids)
