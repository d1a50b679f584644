"""Planted bugs in what a commit syncs, when, and where it writes.

right         pages  SYNC  meta  SYNC  acknowledged
no-data-sync  pages        meta  SYNC  acknowledged     the merged sync
early-sync    SYNC  pages  meta  SYNC  acknowledged
no-meta-sync  pages  SYNC  meta        acknowledged
meta-first    meta  SYNC  pages  SYNC  acknowledged
write-behind  pages  SYNC  acknowledged ... meta  SYNC
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Gallery
from shearbolt.database.durable import DurableFile
from shearbolt.database.opening import DB
from shearbolt.database.tx import Tx
from shearbolt.pages.format import Meta
from shearbolt.pages.newpages import NewPages
from shearbolt.pages.pager import Pager
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltmodel.mutants.plant import Call, Planter

__all__ = ["MUTANTS"]

_bugs = Gallery()


def _without_sync_in(planter: Planter, owner: type, name: str) -> None:
    """`RobustFile.fdatasync` does nothing while this method runs."""
    depth = 0

    def fdatasync(original: Call, self: RobustFile) -> None:
        if not depth:
            original(self)

    def method(original: Call, *arguments: Any, **options: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return original(*arguments, **options)
        finally:
            depth -= 1

    planter.instead(RobustFile, "fdatasync", fdatasync)
    planter.instead(owner, name, method)


@_bugs.add(
    "no-data-sync",
    "Pages and meta share one sync, the one behind the meta.",
    origin="boltdb 5ce378b (2014)",
    breaks="PA",
    needs="crash",
)
def _no_data_sync(planter: Planter) -> None:
    _without_sync_in(planter, Tx, "_write_pages")


@_bugs.add(
    "no-meta-sync",
    "A commit returns before its meta is synced.",
    origin="generic: missing sync",
    breaks="P",
    needs="crash",
)
def _no_meta_sync(planter: Planter) -> None:
    _without_sync_in(planter, DurableFile, "publish")


@_bugs.add(
    "early-sync",
    "The sync of the pages is called before they are written.",
    origin="generic: early sync",
    breaks="PA",
    needs="crash",
)
def _early_sync(planter: Planter) -> None:
    def write_out(_: Call, self: NewPages, meanwhile: Callable[[], None]) -> None:
        self._db.durable.flush(sync=not self._db.no_sync)
        for pgid, run in self._contiguous():
            self._db.pager.write(pgid * self.page_size, run)
        meanwhile()

    planter.instead(NewPages, "write_out", write_out)


@_bugs.add(
    "last-page-after-sync",
    "The last run of pages is written behind the sync of the pages.",
    origin="generic: early sync",
    breaks="PA",
    needs="crash",
)
def _last_page_after_sync(planter: Planter) -> None:
    def write_out(_: Call, self: NewPages, meanwhile: Callable[[], None]) -> None:
        *most, (pgid, run) = self._contiguous()
        for start, pages in most:
            self._db.pager.write(start * self.page_size, pages)
        # A page may have a buffer of zeros behind it, which is no page.
        last = len(run) - (1 if run[-1].strip(b"\0") else 2)
        self._db.pager.write(pgid * self.page_size, run[:last])
        self._db.durable.flush(sync=not self._db.no_sync)
        late = pgid * self.page_size + sum(map(len, run[:last]))
        self._db.pager.write(late, run[last:])
        meanwhile()

    planter.instead(NewPages, "write_out", write_out)


@_bugs.add(
    "sync-only-when-growing",
    "Pages are synced when the file has grown, as if only its size mattered.",
    origin="generic: missing sync",
    breaks="PA",
    needs="crash",
)
def _sync_only_when_growing(planter: Planter) -> None:
    def write_out(
        original: Call, self: NewPages, meanwhile: Callable[[], None]
    ) -> None:
        if self.high_water_mark > self._db.durable.live.high_water_mark:
            original(self, meanwhile)
            return
        for pgid, run in self._contiguous():
            self._db.pager.write(pgid * self.page_size, run)
        meanwhile()

    planter.instead(NewPages, "write_out", write_out)


@_bugs.add(
    "every-second-sync",
    "Only every second commit waits for its meta, to save time.",
    origin="generic: missing sync",
    breaks="P",
    needs="crash",
)
def _every_second_sync(planter: Planter) -> None:
    def write_meta(original: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        if meta.txid % 2 or meta.txid <= self.live.txid:
            original(self, meta, sync)
            return
        slot = meta.slot
        self.pager.write(slot * self.pager.page_size, [meta.encode_page(slot)])

    planter.instead(DurableFile, "_write_meta", write_meta)


@_bugs.add(
    "meta-first",
    "The meta is written and synced before the pages it points to.",
    origin="generic: data after meta",
    breaks="PA",
    needs="crash",
)
def _meta_first(planter: Planter) -> None:
    """Pages are held back until the meta is durable."""
    held: list[tuple[int, tuple[bytes, ...]]] = []
    holding = False
    really_write, really_sync = Pager.write, RobustFile.fdatasync

    def write(original: Call, self: Pager, offset: int, data: Sequence[bytes]) -> int:
        if not holding:
            written: int = original(self, offset, data)
            return written
        held.append((offset, tuple(data)))
        return sum(map(len, data))

    def sync(original: Call, self: RobustFile) -> None:
        if not holding:
            original(self)

    def write_pages(original: Call, self: Tx) -> Any:
        nonlocal holding
        held.clear()
        holding = True
        try:
            return original(self)
        finally:
            holding = False

    def publish(original: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        original(self, meta, sync)
        for offset, buffers in held:
            really_write(self.pager, offset, buffers)
        really_sync(self.pager.file)

    planter.instead(Pager, "write", write)
    planter.instead(RobustFile, "fdatasync", sync)
    planter.instead(Tx, "_write_pages", write_pages)
    planter.instead(DurableFile, "publish", publish)


@_bugs.add(
    "freelist-after-meta",
    "The freelist page follows when the commit is done: it is only bookkeeping.",
    origin="generic: data after meta",
    breaks="PA",
    needs="crash",
)
def _freelist_after_meta(planter: Planter) -> None:
    late: list[tuple[int, bytes]] = []

    def write_freelist(original: Call, self: Tx) -> int:
        pgid: int = original(self)
        late.clear()
        if pgid in self.pages.encoded:
            late.append((pgid * self.page_size, self.pages.encoded.pop(pgid)))
        return pgid

    def publish(original: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        original(self, meta, sync)
        for offset, data in late:
            self.pager.write(offset, [data])
        self.flush(sync)

    planter.instead(Tx, "_write_freelist", write_freelist)
    planter.instead(DurableFile, "publish", publish)


@_bugs.add(
    "write-behind",
    "A commit is acknowledged when its pages are durable; its meta follows later.",
    origin="generic: acknowledged too early",
    breaks="P",
    needs="crash",
)
def _write_behind(planter: Planter) -> None:
    # The commit before has to be complete when the next one writes pages.
    really_publish = DurableFile.publish

    def publish(_: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        del sync
        self.live = meta

    def write_pages(original: Call, self: Tx) -> Any:
        durable = self.db.durable
        really_publish(durable, durable.live, sync=not self.db.no_sync)
        return original(self)

    def close(original: Call, self: DB) -> None:
        if self._open and not self.read_only:
            really_publish(self.durable, self.durable.live, sync=not self.no_sync)
        original(self)

    planter.instead(DurableFile, "publish", publish)
    planter.instead(Tx, "_write_pages", write_pages)
    planter.instead(DB, "close", close)


@_bugs.add(
    "wrong-slot",
    "Every meta goes to page 0, over the live one, instead of alternating.",
    origin="generic: wrong slot",
    breaks="P",
    needs="torn",
)
def _wrong_slot(planter: Planter) -> None:
    # From the second commit on it is the live meta itself that is written
    # over, and a torn write leaves only a meta of long ago.
    planter.replace(Meta, "slot", property(lambda _: 0))


@_bugs.add(
    "sync-does-nothing",
    "`DB.sync` syncs nothing: commits with `no_sync` go on waiting.",
    origin="generic: missing sync",
    breaks="P",
    needs="crash",
)
def _sync_does_nothing(planter: Planter) -> None:
    planter.instead(DurableFile, "sync", lambda _, self: self.require_sound())


@_bugs.add(
    "both-slots",
    "Every meta goes to both slots, under one sync, so as to have a copy.",
    origin="generic: wrong slot",
    breaks="PAM",
    needs="errors, crash",
)
def _both_slots(planter: Planter) -> None:
    def write_meta(_: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        for slot in (0, 1):
            self.pager.write(slot * self.pager.page_size, [meta.encode_page(slot)])
        self.flush(sync)

    planter.instead(DurableFile, "_write_meta", write_meta)


MUTANTS = tuple(_bugs)
