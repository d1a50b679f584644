"""Planted bugs in which pages may be written, and since when.

reachable --free--> pending --release--> free --allocate--> reachable
             |         |         |          |
           leaked   not kept   too early   twice
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from boltmodel.mutants.plant import Gallery
from shearbolt.database import opening as database
from shearbolt.database.opening import DB
from shearbolt.database.tx import Tx
from shearbolt.pages import newpages
from shearbolt.pages.format import NO_FREELIST, Meta
from shearbolt.pages.freelist import ArrayFreelist
from shearbolt.pages.freeruns import FreeRuns
from shearbolt.pages.newpages import NewPages
from shearbolt.tree.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterable
    from weakref import ref

    from boltmodel.mutants.plant import Call, Planter

__all__ = ["MUTANTS"]

_bugs = Gallery()

# -- too early ---------------------------------------------------------------------


@_bugs.add(
    "early-reuse",
    "A page is free for the transaction that frees it, before its commit.",
    origin="generic: freelist released early",
    breaks="RPA",
    needs="readers",
)
def _early_reuse(planter: Planter) -> None:
    def allocate(original: Call, self: ArrayFreelist, count: int) -> int:
        # All in the order of the addresses, as if they had been free before.
        if mine := sorted(self._freed):
            self._make_runs()
            self._listed = self._listed.changed((), mine)
            self._free.add_all(mine)
            self._freed = set()
        pgid: int = original(self, count)
        return pgid

    planter.instead(ArrayFreelist, "allocate", allocate)


@_bugs.add(
    "readers-ignored",
    "Pages an open reader can see are given out again.",
    origin="generic: reader pin ignored",
    breaks="R",
    needs="readers",
)
def _readers_ignored(planter: Planter) -> None:
    def release(original: Call, self: ArrayFreelist, readers: Iterable[int]) -> None:
        del readers
        original(self, ())

    planter.instead(ArrayFreelist, "release", release)


@_bugs.add(
    "newest-reader-only",
    "Only the newest reader holds pages back.",
    origin="generic: reader pin ignored",
    breaks="R",
    needs="readers",
)
def _newest_reader_only(planter: Planter) -> None:
    def release(original: Call, self: ArrayFreelist, readers: Iterable[int]) -> None:
        original(self, sorted(readers)[-1:])

    planter.instead(ArrayFreelist, "release", release)


@_bugs.add(
    "pin-one-short",
    "A reader does not hold back what the next commit frees.",
    origin="generic: reader pin off by one",
    breaks="R",
    needs="readers",
)
def _pin_one_short(planter: Planter) -> None:
    # last + 1 would be harmless: what transaction t frees, reader t never saw.
    def release_up_to(original: Call, self: ArrayFreelist, last: int) -> None:
        original(self, last + 2)

    planter.instead(ArrayFreelist, "_release_up_to", release_up_to)


@_bugs.add(
    "twin-reader-unpinned",
    "Of two readers of one version, the first to close releases its pages.",
    origin="bbolt: reader txids are kept with duplicates",
    breaks="R",
    needs="readers",
)
def _twin_reader_unpinned(planter: Planter) -> None:
    def end(original: Call, self: DB, tx: Tx) -> None:
        original(self, tx)
        if not tx.writable:
            twins: list[ref[Tx]] = [
                one for one, txid in self._readers.items() if txid == tx.txid
            ]
            for one in twins:
                del self._readers[one]

    planter.instead(DB, "end", end)


@_bugs.add(
    "released-unseen-allocation",
    "Between two readers every page is released, whoever allocated it.",
    origin="bbolt 78d099e, PR #67, etcd#8813",
    breaks="R",
    needs="readers",
)
def _released_unseen_allocation(planter: Planter) -> None:
    def between(original: Call, self: ArrayFreelist, *where: int) -> None:
        for txid, pending in self._pending.items():
            pending.allocated_by = [txid] * len(pending.pages)
            pending.runs = [(start, length, txid) for start, length, _ in pending.runs]
        original(self, *where)

    planter.instead(ArrayFreelist, "_release_between", between)


@_bugs.add(
    "allocated-by-the-freer",
    "A page counts as allocated by the transaction that frees it.",
    origin="bbolt PR #67 (386b851), etcd#8813",
    breaks="R",
    needs="readers",
)
def _allocated_by_the_freer(planter: Planter) -> None:
    def commit(original: Call, self: ArrayFreelist, txid: int) -> None:
        self._allocated_by.update(
            dict.fromkeys((*self._freed, *self._freed_runs), txid)
        )
        original(self, txid)

    planter.instead(ArrayFreelist, "commit", commit)


# -- twice -------------------------------------------------------------------------


@_bugs.add(
    "run-cut-one-short",
    "Of a run that is taken, the last page stays free.",
    origin="boltdb 12b36fe",
    breaks="SMPA",
    needs="run",
)
def _run_cut_one_short(planter: Planter) -> None:
    def cut(original: Call, self: FreeRuns, start: int, most: int) -> int:
        count: int = original(self, start, most)
        if count > 1:
            self.add(start + count - 1, 1)
        return count

    planter.instead(FreeRuns, "cut", cut)


@_bugs.add(
    "run-counts-as-one",
    "A run from behind the last page moves the high-water mark by one.",
    origin="generic: overflow pages forgotten",
    breaks="MSPAE",
    needs="run",
)
def _run_counts_as_one(planter: Planter) -> None:
    def allocate(original: Call, self: NewPages, count: int) -> int:
        before = self.high_water_mark
        pgid: int = original(self, count)
        if self.high_water_mark > before:
            self.high_water_mark = before + 1
        return pgid

    planter.instead(NewPages, "_allocate", allocate)


@_bugs.add(
    "hashmap-stale-run",
    "A run that is gone is still offered under its length.",
    origin="bbolt #791, PR #794",
    breaks="SMEPA",
    needs="run",
)
def _hashmap_stale_run(planter: Planter) -> None:
    def first_of(_: Call, self: FreeRuns, length: int) -> int:
        queue = self._of_length.get(length)
        return queue.lowest() if queue else 0

    # At once: a run that is gone again before anybody looks never gets there.
    def add(original: Call, self: FreeRuns, start: int, length: int) -> None:
        original(self, start, length)
        self._sort_in()

    planter.instead(FreeRuns, "_first_of", first_of)
    planter.instead(FreeRuns, "add", add)


@_bugs.add(
    "high-water-mark-stale",
    "The meta keeps the high-water mark of the version before.",
    origin="generic: growth not recorded",
    breaks="MPAS",
    needs="run",
)
def _high_water_mark_stale(planter: Planter) -> None:
    def write_pages(original: Call, self: Tx) -> Meta:
        meta: Meta = original(self)
        old = self._meta.high_water_mark
        return Meta(meta.page_size, meta.root, meta.freelist, old, meta.txid)

    planter.instead(Tx, "_write_pages", write_pages)


# -- not kept ----------------------------------------------------------------------


@_bugs.add(
    "freelist-stale",
    "The freelist in the file is never written again.",
    origin="boltdb #100, PR #102",
    breaks="SFM",
    needs="run",
)
def _freelist_stale(planter: Planter) -> None:
    def write_freelist(original: Call, self: Tx) -> int:
        old = self.meta.freelist
        if self.db.no_freelist_sync or old == NO_FREELIST:
            written: int = original(self)
            return written
        return old

    planter.instead(Tx, "_write_freelist", write_freelist)


@_bugs.add(
    "no-freelist-believed",
    "Without a freelist in the file the meta still points to the old one.",
    origin="bbolt #5, PR #6",
    breaks="SFMP",
    needs="run",
)
def _no_freelist_believed(planter: Planter) -> None:
    def write_freelist(original: Call, self: Tx) -> int:
        old = self.meta.freelist
        written: int = original(self)
        return old if self.db.no_freelist_sync else written

    planter.instead(Tx, "_write_freelist", write_freelist)


@_bugs.add(
    "freelist-not-loaded",
    "Opening forgets which pages were free.",
    origin="generic: freelist lost",
    breaks="S",
    needs="run",
)
def _freelist_not_loaded(planter: Planter) -> None:
    planter.instead(database, "free_ids", lambda _original, _pager, _meta: [])


@_bugs.add(
    "pending-not-written",
    "The freelist in the file holds the free pages, not the pending ones.",
    origin="generic: freelist written without pending pages",
    breaks="S",
    needs="run",
)
def _pending_not_written(planter: Planter) -> None:
    def encoded(_: Call, self: ArrayFreelist) -> bytes:
        free = [page for start, n in self.runs() for page in range(start, start + n)]
        return struct.pack(f"<{len(free)}Q", *free)

    planter.instead(ArrayFreelist, "encoded", encoded)


@_bugs.add(
    "last-free-page-lost",
    "A freelist longer than its page loses its last id.",
    origin="bbolt PR #12 (03f5e16)",
    breaks="S",
    needs="run",
)
def _last_free_page_lost(planter: Planter) -> None:
    def encode(original: Call, pgid: int, overflow: int, body: bytes) -> bytes:
        data: bytes = original(pgid, overflow, body[:-8] if overflow else body)
        return data

    planter.instead(newpages, "encode_freelist_body", encode)


@_bugs.add(
    "freelist-one-page",
    "The freelist gets one page, however long it is.",
    origin="bbolt 7adfa44: size() too small",
    breaks="MSPAE",
    needs="run",
)
def _freelist_one_page(planter: Planter) -> None:
    planter.instead(newpages, "freelist_size", lambda _original, _count: 0)


# -- leaked ------------------------------------------------------------------------


@_bugs.add(
    "rollback-forgotten",
    "A rollback does not undo what was freed.",
    origin="boltdb 4db9964",
    breaks="S",
    needs="run",
)
def _rollback_forgotten(planter: Planter) -> None:
    def rollback(_: Call, self: ArrayFreelist) -> None:
        del self

    planter.instead(ArrayFreelist, "rollback", rollback)


@_bugs.add(
    "overflow-leaked",
    "Of a freed run only the first page is given back.",
    origin="generic: overflow pages forgotten",
    breaks="S",
    needs="run",
)
def _overflow_leaked(planter: Planter) -> None:
    def free(original: Call, self: ArrayFreelist, pgid: int, overflow: int) -> None:
        del overflow
        original(self, pgid, 0)

    planter.instead(ArrayFreelist, "free", free)


@_bugs.add(
    "old-root-leaked",
    "The old root page of a bucket is never freed.",
    origin="boltdb #82 (d8e4cff)",
    breaks="S",
    needs="run",
)
def _old_root_leaked(planter: Planter) -> None:
    def release(original: Call, self: Node) -> None:
        if self.parent is None:
            self.pgid = 0
        original(self)

    planter.instead(Node, "release", release)


@_bugs.add(
    "old-freelist-leaked",
    "The old freelist page is never freed.",
    origin="bbolt #9, PR #10 (fd5de84)",
    breaks="S",
    needs="run",
)
def _old_freelist_leaked(planter: Planter) -> None:
    writing = False

    def write_freelist(original: Call, self: Tx) -> int:
        nonlocal writing
        writing = True
        try:
            pgid: int = original(self)
            return pgid
        finally:
            writing = False

    def free_page(original: Call, self: Tx, pgid: int, overflow: int) -> None:
        if not writing:
            original(self, pgid, overflow)

    planter.instead(Tx, "_write_freelist", write_freelist)
    planter.instead(Tx, "free_page", free_page)


MUTANTS = tuple(_bugs)
