"""The file side of a commit: which version of an open file is live, and durable.

    settle       what is live is durable       before the first page is written over
    grow         the file is large enough
    flush        the new pages are durable     barrier: the new version is complete
    publish      its meta is durable, live     barrier: the commit point

A commit calls them in this order (see `tx`). Until `publish` nothing it wrote matters
to anybody; `publish` either returns, or raises with the old version live and the slot
certain again, or in doubt.

What it is not: it knows no transactions. Who may write, and when, is settled by `DB`,
and one thread at a time calls what writes. Nor does it know the options: they may be
changed between transactions, so each call is told what they say now. `sync` is False
under `no_sync`.

Taking over
===========
The live meta of a file may be in the page cache only: the process that wrote it
may have been killed before its fdatasync. So the first commit of a handle syncs
before it writes over any page (`settle`); so does `sync` when it comes first, because
behind a sync that has failed the next one has nothing to write. It does not write
the live meta again: on a disk whose torn sectors become garbage that would risk the
only copy, at every opening, for the sake of a rare failure. When this process knows
of such a failure, of that sync or of a meta's write or sync, the slot is rewritten
(`settle`; `heal`, see `doubt`). What is left is a sync that failed in another
process which could not heal it and was restarted without a reboot.

Without syncs
=============
With `no_sync` nothing is promised until `sync` returns. When a sync fails while
such commits are waiting for it, the pages they wrote may be gone, and nobody
knows which: the file is then not written any more. Whatever the sync was made for: so
every sync of the file is made by `_make`. Whichever handle made the commits, or the
sync: so it is noted by file, not by handle (see `unsynced`).

After a failed sync
===================
What a commit has written and could not sync is written again by the next one, over
what the system keeps of it. On ext4 (Linux 6.18) that is not enough where a block was
written for the first time: its extent stays marked as unwritten when the first write
failed, and the second, for which the page is an old one, does not take the mark away.
The sync returns 0, everything reads as it should, and after the next mount the block
is zeros. So behind every sync that failed the system is asked to forget the file's
pages: the next write begins anew. Except when commits may be lost: nothing is written
any more then, and what can be read still is worth keeping.

Whoever waits for a disk that takes a minute to fail presses Ctrl-C, and the interrupt
comes in the place of the error. The sync has failed all the same, and the file knows
(`RobustFile.sync_failed`): else the next one would make it good.

Source: bbolt db.go, tx.go (writeMeta).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from shearbolt.database import doubt, unsynced
from shearbolt.database.growth import Growth
from shearbolt.errors import DatabaseFailedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.pages.format import Meta
    from shearbolt.pages.pager import Pager
    from shearbolt.storage import Mutex, Storage

__all__ = ["DurableFile"]

_log: Final = logging.getLogger("shearbolt")


class DurableFile:
    """One open file, as commits need it.

    Args:
        storage: The machine it is on.
        pager: Its pages.
        live: The version that was committed last.
        swapping: Held while another version becomes the live one.
        initial_size: Bytes it has at least when it grows.
        settled: Whether it is known that the live version is durable: it was made
            just now.
        read_only: Whether nothing can be written through this file.

    Attributes:
        pager: Its pages.
        identity: (device, inode) of the file.
        growth: How large it is, and will be.
        live: The version that was committed last.
        failed: It is never written again: commits that waited for a sync are lost.
    """

    __slots__ = (
        "_doubts",
        "_freelist_of",
        "_read_only",
        "_settled",
        "_swapping",
        "_unsynced",
        "_waits",
        "failed",
        "growth",
        "identity",
        "live",
        "pager",
    )

    def __init__(
        self,
        storage: Storage,
        pager: Pager,
        live: Meta,
        swapping: Mutex,
        *,
        initial_size: int,
        settled: bool,
        read_only: bool,
    ) -> None:
        self.pager = pager
        self.identity: Final = pager.file.identity()
        self.growth: Final = Growth(pager.file.size(), initial_size, pager.page_size)
        self.live = live
        self._swapping: Final = swapping
        self._doubts: Final = doubt.known(storage)
        self._unsynced: Final = unsynced.known(storage)
        self._settled = settled
        self._read_only: Final = read_only
        if settled:
            self._unsynced.forget(self.identity)
        # Commits wait for a sync that was not asked for: as `_unsynced` says, at hand:
        # the lock lets nobody else write, and a synced commit asks twice.
        self._waits = self._unsynced.waits(self.identity)
        self.failed = self._unsynced.is_lost(self.identity)
        # Of the freelist page that transaction [0] has written: pages behind it.
        self._freelist_of = (-1, 0)

    def is_live(self, txid: int) -> bool:
        """Whether this transaction's commit is the last one that took effect."""
        return self.live.txid == txid

    # -- the freelist page --

    def freelist_overflow(self, meta: Meta) -> int:
        """How many pages stand behind this version's freelist page.

        Raises:
            CorruptPageError: It is no page that says so.
        """
        txid, overflow = self._freelist_of
        if txid == meta.txid:
            return overflow
        return self.pager.header(meta.freelist, meta.high_water_mark).overflow

    def note_freelist(self, txid: int, overflow: int) -> None:
        """Remember it of the version being made, to spare the next commit a read."""
        self._freelist_of = (txid, overflow)

    # -- the steps of a commit --

    def settle(self, sync: bool) -> None:
        """Before the first page is written: make what is live durable.

        Raises:
            StorageError: It failed, and so did writing the live meta again.
        """
        if self._settled or not sync:
            return
        try:
            self.flush(sync)
        except StorageError:
            if self.failed:
                raise
            # Whose pages were lost is unknown. Everything the live meta leads
            # to was synced before it was written; the meta itself may not be.
            if self._read_only:
                # Whoever opens it for writing next writes it again.
                self._doubt_live()
                raise
            self.publish(self.live, sync)
        except BaseException:
            if self.pager.file.sync_failed and not self.failed:
                # The same, and an interrupt beside it: written again before the next
                # commit.
                self._doubt_live()
            raise
        self._settled = True

    def _doubt_live(self) -> None:
        raw = self.pager.file.raw
        unknown = doubt.Doubt(self.live, self.live, raw, failed=True)
        doubt.begin(self._doubts, self.identity, unknown)

    def grow(self, size: int, max_size: int, alloc_size: int, sync: bool) -> None:
        """Make the file large enough for so many bytes, durably.

        Raises:
            MaxSizeReachedError: That is more than `max_size`.
            StorageError: The system refused.
        """
        growth = self.growth
        if size <= growth.file_size:
            return
        grown = growth.target(size, max_size, alloc_size)
        self.pager.file.grow(grown)
        if sync:
            self._make(self.pager.file.fsync)
        growth.file_size = grown

    def flush(self, sync: bool) -> None:
        """Sync the pages of a commit, unless syncs are off.

        Raises:
            StorageError: It failed. With earlier commits that were never
                synced, the handle refuses to write from now on.
        """
        if sync:
            self._make(self.pager.file.fdatasync)
        elif not self._waits:
            # In this order: an interrupt in between says too much, not too little.
            self._unsynced.begin(self.identity)
            self._waits = True

    def _make(self, sync: Callable[[], None]) -> None:
        file = self.pager.file
        file.sync_failed = False
        try:
            sync()
        except BaseException:
            # The error, or an interrupt in its place.
            if file.sync_failed:
                if self._waits:
                    # By no call, so that no further one comes before both are noted.
                    self._unsynced.lost[self.identity] = file.raw
                    self.failed = True
                else:
                    file.forget()
            raise
        if self._waits:
            self._unsynced.end(self.identity)
            self._waits = False

    def publish(self, meta: Meta, sync: bool) -> None:
        """Write a meta into its slot and make it the live one.

        An interrupt at any place, and it is either live and the slot certain, or
        neither. Once it is live it stays so: another thread may read it already.

        Raises:
            StorageError: It is not durable; the old one stays live, and the slot
                was made certain again or is in doubt.
        """
        old = self.live
        unknown = doubt.Doubt(old, meta, self.pager.file.raw)
        doubts, identity = self._doubts, self.identity
        doubt.begin(doubts, identity, unknown)
        try:
            self._write_meta(meta, sync)
            with self._swapping:
                self.live = meta
            doubt.end(doubts, identity)
        except BaseException:
            # When the live one is written again (`settle`) that tells nothing.
            if self.live is meta and meta is not old:
                doubt.end(doubts, identity)
                raise
            doubt.begin(doubts, identity, unknown._replace(failed=True))
            try:
                self._heal()
            except DatabaseFailedError as error:
                # Its text: who keeps log records would keep its traceback, and by that
                # the file open.
                _log.warning("%s", str(error))
            raise

    def _write_meta(self, meta: Meta, sync: bool) -> None:
        slot, pager = meta.slot, self.pager
        pager.write(slot * pager.page_size, [meta.encode_page(slot)])
        self.flush(sync)

    # -- when it failed --

    def require_sound(self) -> None:
        """Raise when no write can be trusted any more.

        Raises:
            DatabaseFailedError: A sync failed for which commits waited.
        """
        # Another handle for reading may have made that sync, see `sync`.
        if self.failed or self._unsynced.is_lost(self.identity):
            raise DatabaseFailedError(
                f"{self.pager.path}: a sync failed while commits made with no_sync "
                "waited for it; what they wrote may be lost, although it can be "
                "read still: copy it into a new file with 'shearbolt compact'"
            )

    def in_doubt(self) -> bool:
        """Whether the content of a meta slot is unknown, or is being written."""
        doubted = doubt.doubt_about(self._doubts, self.identity)
        if doubted is None:
            return False
        if doubted.live.txid < self.live.txid:
            # What was in doubt is live: an interrupt came before that was noted.
            doubt.end(self._doubts, self.identity)
            return False
        return True

    def heal(self) -> None:
        """Make a meta slot certain again after its write or sync has failed.

        Raises:
            DatabaseFailedError: That failed too; a later call may succeed.
        """
        if not self.in_doubt():
            return
        if self._read_only:
            raise DatabaseFailedError(
                f"{self.pager.path}: an earlier write or sync of a meta page failed; "
                "open the database for writing to make it certain again"
            )
        self._heal()

    def _heal(self) -> None:
        sync = partial(self._make, self.pager.file.fdatasync)
        doubt.heal(self._doubts, self.pager, self.identity, sync)

    def in_child(self) -> None:
        """In a forked child: let go of the file, which is the parent's.

        As long as a child has it open the lock is held, when the parent has died, too.
        """
        doubt.in_child(self._doubts, self.identity)
        # Those are kept open, see there.
        if not (self.failed or self.in_doubt()):
            self.pager.file.raw.close()

    def sync(self) -> None:
        """Make all commits durable, with what was found when the file was opened.

        Raises:
            DatabaseFailedError: An earlier sync failed.
            StorageError: The system refused.
        """
        self.require_sound()
        # What a failed sync was for the next one does not write.
        self.heal()
        if self._settled:
            self.flush(True)
        else:
            # If this fails, the next one that works has nothing to write.
            self.settle(True)
