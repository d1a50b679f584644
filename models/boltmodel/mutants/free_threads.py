"""Bugs that threads show where they run at the same time, and nowhere else.

Each is right under CPython's global lock: it counts on steps without a call. The lane
that finds them is `boltmodel.lanes.threads` with `--free-threaded`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from boltmodel.mutants.plant import Gallery
from shearbolt import DB
from shearbolt.database import opening
from shearbolt.database.tx import Tx
from shearbolt.pages.pager import Pager

if TYPE_CHECKING:
    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.storage import Storage
    from shearbolt.storage.robust import RobustFile

_bugs = Gallery()
IN_FREE_THREADS = _bugs
"""The bugs of this module, in their order."""


@_bugs.add(
    "cache-uncounted",
    "Two threads that keep a page at once are counted as one.",
    origin="generic: a lost update",
    breaks="S",
    needs="threads",
)
def _cache_uncounted(planter: Planter) -> None:
    def pager_for(
        _: Call, _storage: Storage, file: RobustFile, page_size: int, cache_size: int
    ) -> Pager:
        return Pager(file, page_size, cache_size)

    planter.instead(opening, "pager_for", pager_for)


@_bugs.add(
    "readers-uncounted",
    "Two readers that begin at once are counted as one.",
    origin="generic: a lost update",
    breaks="S",
    needs="threads",
)
def _readers_uncounted(planter: Planter) -> None:
    def begin(_: Call, self: DB) -> Tx:
        while True:
            meta = self.durable.live
            tx = Tx(self, meta, meta.txid, writable=False)
            handle = tx.handle = ref(tx, self._lost.append)
            self._readers[handle] = meta.txid
            if self.durable.live is meta and self._open:
                break
            self._readers.pop(handle, None)
            self.require_open()
        self._readers_begun += 1
        return tx

    planter.instead(DB, "_begin_read", begin)


@_bugs.add(
    "ended-twice",
    "Two threads that find a lost transaction both end it.",
    origin="generic: a check and a use with a gap between them",
    breaks="WR",
    needs="threads",
)
def _ended_twice(planter: Planter) -> None:
    def end_write(_: Call, self: DB, handle: ref[Tx]) -> bool:
        running = self._write_tx
        if running is None or running[0] is not handle:
            return False
        thread = self.storage.thread_id()
        if self._write_tx is running and running[3] is None:
            # No call: with the global lock nobody comes in between.
            self._write_tx = (running[0], running[1], running[2], thread)
            if self.durable.is_live(running[1]):
                self.freelist.commit(running[1])
            else:
                self.freelist.rollback()
            self._free_pages = self.freelist.counts()
            self._write_tx = None
            self._ring()
            return True
        return False

    planter.instead(DB, "_end_write", end_write)
