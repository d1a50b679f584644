"""Bugs that only another thread shows, at the right place.

They are not among those that the gate hunts: its programs have one thread. The lane
that finds them is `boltmodel.lanes.threads`, which says how threads switch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from boltmodel.mutants.plant import Gallery
from shearbolt import DB
from shearbolt.database.batch import Batcher
from shearbolt.database.durable import DurableFile
from shearbolt.database.tx import Tx
from shearbolt.pages.newpages import NewPages

if TYPE_CHECKING:
    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.pages.format import Meta
    from shearbolt.pages.pager import Pager

_bugs = Gallery()
IN_THREADS = _bugs
"""The bugs of this module, in their order."""


@_bugs.add(
    "begin-unlooked",
    "A reader does not look whether its version is still live when it is on the list.",
    origin="generic: a check and a use with a gap between them",
    breaks="R",
    needs="threads",
)
def _begin_unlooked(planter: Planter) -> None:
    def begin(_: Call, self: DB) -> Tx:
        meta = self.durable.live
        tx = Tx(self, meta, meta.txid, writable=False)
        handle = tx.handle = ref(tx, self._lost.append)
        self._readers[handle] = meta.txid
        self.require_open()
        with self._state:
            self._readers_begun += 1
        return tx

    planter.instead(DB, "_begin_read", begin)


@_bugs.add(
    "turn-unlooked",
    "A writer that overtakes the bell begins from a version that has been replaced.",
    origin="this engine (2026): a waiting writer took a commit back",
    breaks="W",
    needs="threads",
)
def _turn_unlooked(planter: Planter) -> None:
    def take_turn(original: Call, self: DB, thread: int) -> Tx | None:
        while self._write_tx is None:
            live = self.durable.live
            tx = Tx(self, live, live.txid + 1, writable=True)
            handle = tx.handle = ref(tx, self._lost.append)
            hash(handle)
            if self._write_tx is None:
                self._write_tx = (handle, tx.txid, thread, None)
                self.freelist.release(self._readers.values())
                return tx
        taken: Tx | None = original(self, thread)
        return taken

    planter.instead(DB, "_take_turn", take_turn)


@_bugs.add(
    "ended-too-early",
    "The next writer may begin before the freelist knows how this one has ended.",
    origin="generic: unlocking before the last change",
    breaks="RS",
    needs="threads",
)
def _ended_too_early(planter: Planter) -> None:
    def end_write(original: Call, self: DB, handle: ref[Tx]) -> bool:
        running = self._write_tx
        if running is None or running[0] is not handle:
            ended: bool = original(self, handle)
            return ended
        self._write_tx = None
        self._ring()
        if self.durable.is_live(running[1]):
            self.freelist.commit(running[1])
        else:
            self.freelist.rollback()
        return True

    planter.instead(DB, "_end_write", end_write)


@_bugs.add(
    "close-waits-for-nobody",
    "Closing does not wait for the commit that is being written.",
    origin="boltdb #383: close during an update",
    breaks="E",
    needs="threads",
)
def _close_waits_for_nobody(planter: Planter) -> None:
    planter.instead(DB, "close", lambda _, self: self._close())


@_bugs.add(
    "live-too-early",
    "Readers are shown a version before it is durable.",
    origin="generic: visible before durable",
    breaks="D",
    needs="threads",
)
def _live_too_early(planter: Planter) -> None:
    def write_meta(original: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        before, self.live = self.live, meta
        try:
            original(self, meta, sync)
        except BaseException:
            self.live = before
            raise

    planter.instead(DurableFile, "_write_meta", write_meta)


@_bugs.add(
    "batch-joined-late",
    "A batch takes calls while its leader runs it already.",
    origin="generic: a list that is read while it grows",
    breaks="W",
    needs="threads",
)
def _batch_joined_late(planter: Planter) -> None:
    def lead(original: Call, self: Batcher, db: DB, batch: list[Any]) -> None:
        with self._joining:
            self._gathering = batch
        try:
            original(self, db, batch)
        finally:
            with self._joining:
                if self._gathering is batch:
                    self._gathering = None
                self._dismiss(batch)

    planter.instead(Batcher, "_lead", lead)


@_bugs.add(
    "put-back-late",
    "A page that was read is kept, whatever a commit has made of it meanwhile.",
    origin="this engine (2026): a reader was ended while it read",
    breaks="RWS",
    needs="threads",
)
def _put_back_late(planter: Planter) -> None:
    def into_cache(original: Call, self: NewPages, pager: Pager) -> None:
        settled = pager.settled
        original(self, pager)
        pager.settled = settled

    planter.instead(NewPages, "into_cache", into_cache)


@_bugs.add(
    "freed-in-another",
    "A transaction that was ended goes on to free pages, in the next one's list.",
    origin="this engine (2026): a writer was ended while it deleted",
    breaks="WS",
    needs="threads",
)
def _freed_in_another(planter: Planter) -> None:
    def free_page(original: Call, self: Tx, pgid: int, overflow: int) -> None:
        closed, self.closed = self.closed, False
        try:
            original(self, pgid, overflow)
        finally:
            self.closed = closed

    planter.instead(Tx, "free_page", free_page)
