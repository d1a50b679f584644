"""Planted bugs in what is done when a call to the system fails.

    pwrite, fdatasync ... --error--> StorageError --> rollback --> heal the slot
                             |             |             |            |
                   believed, retried   swallowed     forgotten     skipped

After a failed fdatasync the page cache shows what the disk does not have, and
the next fdatasync reports success: all of "retried", "reloaded" and "skipped"
come down to believing the page cache.

So does taking over from a process that was killed between a meta's write and its sync
(`DurableFile.settle`): what is seen there need not be durable, and when the syncs of
who takes over fail as well, it stays so.

And so does a sync that failed while commits made with `no_sync` waited for it, whatever
it was made for (`DurableFile._make`), and by whichever handle (`database.unsynced`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Gallery
from shearbolt.check import free_ids
from shearbolt.database import doubt
from shearbolt.database import opening as database
from shearbolt.database.durable import DurableFile
from shearbolt.database.opening import DB
from shearbolt.database.tx import Tx
from shearbolt.database.unsynced import Unsynced
from shearbolt.errors import StorageError
from shearbolt.pages.format import Meta
from shearbolt.pages.newpages import NewPages
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from weakref import ref

    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.pages.pager import Pager

__all__ = ["MUTANTS"]

_bugs = Gallery()


@_bugs.add(
    "meta-error-swallowed",
    "A commit whose meta was not written or synced reports success.",
    origin="boltdb bfb02ae (2014)",
    breaks="PAME",
    needs="errors, crash",
)
def _meta_error_swallowed(planter: Planter) -> None:
    def write_meta(original: Call, self: DurableFile, meta: Meta, sync: bool) -> bool:
        try:
            original(self, meta, sync)
        except StorageError:
            return False
        return True

    planter.instead(DurableFile, "_write_meta", write_meta)


@_bugs.add(
    "data-error-swallowed",
    "A commit whose pages were not written or synced reports success.",
    origin="generic: error ignored",
    breaks="PAMES",
    needs="errors, crash",
)
def _data_error_swallowed(planter: Planter) -> None:
    def write_out(
        original: Call, self: NewPages, meanwhile: Callable[[], None]
    ) -> bool:
        try:
            original(self, meanwhile)
        except StorageError:
            return False
        return True

    planter.instead(NewPages, "write_out", write_out)


@_bugs.add(
    "sync-retried",
    "A sync that failed is called again, and its success is believed.",
    origin="generic: the fsync mistake of PostgreSQL and others (2018)",
    breaks="PA",
    needs="errors, crash",
)
def _sync_retried(planter: Planter) -> None:
    def fdatasync(original: Call, self: RobustFile) -> None:
        try:
            original(self)
        except StorageError:
            original(self)

    planter.instead(RobustFile, "fdatasync", fdatasync)


@_bugs.add(
    "heal-skipped",
    "A meta slot in doubt is left as it is.",
    origin="bbolt HEAD: failed meta sync",
    breaks="MPA",
    needs="errors",
)
def _heal_skipped(planter: Planter) -> None:
    def heal(_: Call, doubts: Any, __: Pager, file: tuple[int, int], *___: Any) -> None:
        doubt.end(doubts, file)

    planter.instead(doubt, "heal", heal)


@_bugs.add(
    "reloaded-after-error",
    "After a failed meta sync, meta and freelist are read again, from the cache.",
    origin="bbolt HEAD: tx.rollback, freelist.Reload",
    breaks="MERPA",
    needs="errors",
)
def _reloaded_after_error(planter: Planter) -> None:
    reloaded: list[DurableFile] = []

    def publish(_: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        try:
            self._write_meta(meta, sync)
            self.live = meta
        except StorageError:
            metas = database._read_metas(self.pager.file.view, self.pager.file.size())
            live = database._live_meta(metas)
            assert isinstance(live, Meta)
            self.live = live
            reloaded.append(self)
            raise

    def end_write(original: Call, self: DB, handle: ref[Tx]) -> None:
        if self.durable in reloaded:
            reloaded.remove(self.durable)
            ids = free_ids(self.pager, self.durable.live)
            self.freelist = type(self.freelist)(ids)
        original(self, handle)

    planter.instead(DurableFile, "publish", publish)
    planter.instead(DB, "_end_write", end_write)


@_bugs.add(
    "failed-commit-shown",
    "Readers see a commit that has reported an error.",
    origin="bbolt HEAD: failed meta sync",
    breaks="MERA",
    needs="errors",
)
def _failed_commit_shown(planter: Planter) -> None:
    def publish(original: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        try:
            original(self, meta, sync)
        except StorageError:
            self.live = meta
            raise

    planter.instead(DurableFile, "publish", publish)


@_bugs.add(
    "failed-commit-kept",
    "Pages taken by a commit that failed are not given back.",
    origin="boltdb 4db9964 (2014)",
    breaks="SMEF",
    needs="errors",
)
def _failed_commit_kept(planter: Planter) -> None:
    def close(original: Call, self: Tx) -> None:
        freelist, durable = self.db.freelist, self.db.durable
        if self.writable and self.pages.encoded and not durable.is_live(self.txid):
            vars(freelist)["rollback"] = lambda: freelist.commit(self.txid)
        original(self)
        vars(freelist).pop("rollback", None)

    planter.instead(Tx, "_close", close)


@_bugs.add(
    "doubt-dies-with-handle",
    "A slot in doubt is believed again as soon as the file is opened anew.",
    origin="generic: reload from the cache after EIO",
    breaks="MEPA",
    needs="errors",
)
def _doubt_dies_with_handle(planter: Planter) -> None:
    opening = False

    def load(original: Call, *arguments: Any, **options: Any) -> Any:
        nonlocal opening
        opening = True
        try:
            return original(*arguments, **options)
        finally:
            opening = False

    def doubt_about(original: Call, doubts: Any, identity: tuple[int, int]) -> Any:
        return None if opening else original(doubts, identity)

    planter.instead(database, "_load", load)
    planter.instead(doubt, "doubt_about", doubt_about)


@_bugs.add(
    "takeover-unsynced",
    "The first commit of a handle takes for durable what it has found.",
    origin="bbolt HEAD: the first commit builds on what the page cache shows",
    breaks="PA",
    needs="errors, crash",
)
def _takeover_unsynced(planter: Planter) -> None:
    planter.instead(DurableFile, "settle", lambda *_: None)


@_bugs.add(
    "takeover-believed",
    "A takeover whose syncs have failed counts as one that succeeded.",
    origin="this engine (2026): a condition in `publish` that no model defended",
    breaks="PA",
    needs="errors, crash",
)
def _takeover_believed(planter: Planter) -> None:
    def publish(original: Call, self: DurableFile, meta: Meta, sync: bool) -> None:
        if meta is self.live:
            # As if what is live already could not be in doubt.
            self._write_meta(meta, sync)
        else:
            original(self, meta, sync)

    planter.instead(DurableFile, "publish", publish)


@_bugs.add(
    "takeover-sync-unsettled",
    "When `DB.sync` fails before the first commit, that commit takes the next for all.",
    origin="this engine (2026), found by reading",
    breaks="PA",
    needs="errors, crash",
)
def _takeover_sync_unsettled(planter: Planter) -> None:
    def sync(_: Call, self: DurableFile) -> None:
        self.require_sound()
        self.flush(sync=True)

    planter.instead(DurableFile, "sync", sync)


@_bugs.add(
    "unsynced-forgotten",
    "A sync fails while unsynced commits wait for it, and the handle goes on.",
    origin="generic: the fsync mistake of PostgreSQL and others (2018)",
    breaks="PA",
    needs="errors, crash",
)
def _unsynced_forgotten(planter: Planter) -> None:
    planter.instead(DurableFile, "_make", lambda _, __, sync: sync())


@_bugs.add(
    "unsynced-forgotten-growing",
    "The same when the file has grown: only syncs of data count.",
    origin="this engine (2026), found by reading",
    breaks="PA",
    needs="errors, crash",
)
def _unsynced_forgotten_growing(planter: Planter) -> None:
    def make(original: Call, self: DurableFile, sync: Call) -> None:
        if sync == self.pager.file.fsync:
            sync()
        else:
            original(self, sync)

    planter.instead(DurableFile, "_make", make)


@_bugs.add(
    "unsynced-forgotten-settling",
    "The same at the first commit of a handle, which then writes the live meta again.",
    origin="this engine (2026), found by reading",
    breaks="PA",
    needs="errors, crash",
)
def _unsynced_forgotten_settling(planter: Planter) -> None:
    def settle(original: Call, self: DurableFile, sync: bool) -> None:
        try:
            original(self, sync)
        except StorageError:
            self._unsynced.forget(self.identity)
            self.failed = self._waits = False
            self.publish(self.live, sync)
            self._settled = True

    planter.instead(DurableFile, "settle", settle)


@_bugs.add(
    "unsynced-forgotten-healing",
    "The same when a meta slot is made certain again.",
    origin="this engine (2026), found by reading",
    breaks="PA",
    needs="errors, crash",
)
def _unsynced_forgotten_healing(planter: Planter) -> None:
    def heal(original: Call, *known: Any) -> None:
        *most, pager, identity, _ = known
        original(*most, pager, identity, pager.file.fdatasync)

    planter.instead(doubt, "heal", heal)


@_bugs.add(
    "unsynced-dies-with-handle",
    "That commits wait for a sync is forgotten when their handle is closed.",
    origin="this engine (2026), found by the model",
    breaks="PA",
    needs="errors, crash",
)
def _unsynced_dies_with_handle(planter: Planter) -> None:
    planter.instead(Unsynced, "waits", lambda *_: False)


@_bugs.add(
    "lost-dies-with-handle",
    "A file that has lost unsynced commits is written again by the next handle.",
    origin="generic: reload from the cache after EIO",
    breaks="PA",
    needs="errors, crash",
)
def _lost_dies_with_handle(planter: Planter) -> None:
    planter.instead(Unsynced, "is_lost", lambda *_: False)


@_bugs.add(
    "short-write-ignored",
    "How many bytes a write has written is not looked at.",
    origin="generic: short write",
    breaks="MESPA",
    needs="errors",
)
def _short_write_ignored(planter: Planter) -> None:
    def write(_: Call, self: RobustFile, offset: int, buffers: Sequence[bytes]) -> None:
        try:
            self.raw.pwritev(buffers, offset)
        except OSError as error:
            raise StorageError.of(error, "pwrite", self.path, offset) from error

    planter.instead(RobustFile, "write", write)


@_bugs.add(
    "short-read-believed",
    "A read that returns less than asked for is taken for the end of the file.",
    origin="generic: short read",
    breaks="ME",
    needs="errors",
)
def _short_read_believed(planter: Planter) -> None:
    def read(_: Call, self: RobustFile, offset: int, length: int) -> bytes:
        return self._pread(length, offset)

    planter.instead(RobustFile, "read", read)


@_bugs.add(
    "read-error-is-end",
    "A read that fails is taken for the end of the file.",
    origin="generic: error ignored",
    breaks="ME",
    needs="errors",
)
def _read_error_is_end(planter: Planter) -> None:
    def read(original: Call, self: RobustFile, offset: int, length: int) -> bytes:
        try:
            data: bytes = original(self, offset, length)
        except StorageError:
            return b""
        return data

    planter.instead(RobustFile, "read", read)


@_bugs.add(
    "interrupted-is-done",
    "A sync that a signal has interrupted is taken for done.",
    origin="generic: EINTR",
    breaks="PA",
    needs="errors, crash",
)
def _interrupted_is_done(planter: Planter) -> None:
    def sync(
        original: Call, self: RobustFile, operation: str, call: Callable[[], None]
    ) -> None:
        if operation != "fdatasync":
            original(self, operation, call)
            return
        try:
            call()
        except InterruptedError:
            return
        except OSError as error:
            self.sync_failed = True
            raise StorageError.of(error, operation, self.path) from error

    planter.instead(RobustFile, "_sync", sync)


@_bugs.add(
    "untyped-error",
    "Growing the file lets the system's own exception through.",
    origin="generic: untyped error",
    breaks="E",
    needs="errors",
)
def _untyped_error(planter: Planter) -> None:
    def grow(_: Call, self: RobustFile, size: int) -> None:
        self.raw.ftruncate(size)

    planter.instead(RobustFile, "grow", grow)


MUTANTS = tuple(_bugs)
