"""Meta slots whose content on disk is unknown, and how they become known again.

When the write or the sync of a meta page fails, the slot may hold the old bytes,
the new ones, or a mixture. It cannot be found out: after a failed fdatasync Linux
marks the pages clean, so that reading gives the new content and the next sync
reports success without writing anything (Rebello et al., "Can Applications
Recover from fsync Failures?", ATC 2020).

    slot written ---ok---> sync ---ok---> certain
         |                  |
         +----- failed -----+---> in doubt ---heal: write the live version, sync--->
                                      ^ |                              |
                                      | +---- failed: stays so --------+--> certain

While a slot is in doubt nothing may be written over the live version or over what
the slot may show, so write transactions are refused. Reads go on: the live version
is known from memory.

The doubt outlives the handle. A later handle on the same file in this process
would read the slot from the page cache and believe it. So doubts are kept per
storage and file. Each keeps its file open: the number that identifies a file is
given away again when the last one who has it open closes it.

A forked child has a copy of these notes. What its parent is just writing then is in
doubt in the parent only, which learns how it ends; to the child the parent is another
process, and a slot that was written back by it would take from the parent a commit that
was acknowledged since. So a child keeps the notes of what had failed, and no others.

It ends when somebody else has written the file meanwhile: another process, or who put
a backup there. Then the live version that is known here is not the one that counts any
more, and writing it again would destroy what was acknowledged since. It shows by the
metas: one that this process has not written (`stands`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from shearbolt.errors import DatabaseFailedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.pages.format import Meta
    from shearbolt.pages.pager import Pager
    from shearbolt.storage import File, Storage

__all__ = [
    "Doubt",
    "Doubts",
    "begin",
    "doubt_about",
    "end",
    "heal",
    "in_child",
    "known",
]


class Doubt(NamedTuple):
    """A slot in doubt.

    Attributes:
        live: The version that was committed last, which counts.
        tried: What was being written when it failed.
        file: Kept open, so that its identity stays its own.
        failed: Whether it is known to have failed; it is being written otherwise.
    """

    live: Meta
    tried: Meta
    file: File
    failed: bool = False

    @property
    def slot(self) -> int:
        """The meta page of which nothing is known."""
        return self.tried.slot

    def stands(self, found: Meta) -> bool:
        """Whether nobody else has written the file since, as far as its metas say.

        Args:
            found: The one that counts, by what can be read.
        """
        if found in (self.live, self.tried):
            return True
        # The live one itself was being written again, and the page cache may have gone
        # back to what the disk has: then the one before it is what can be read.
        return self.slot == self.live.slot and found.txid < self.live.txid


Doubts = dict[tuple[int, int], Doubt]
"""By file, on one storage."""

_doubts: WeakKeyDictionary[Storage, Doubts] = WeakKeyDictionary()


def known(storage: Storage) -> Doubts:
    """What is in doubt on a storage: the same object for all handles.

    A handle asks for it once. Looking it up cost a commit four times 1 % of its time.
    """
    return _doubts.setdefault(storage, {})


def doubt_about(doubts: Doubts, identity: tuple[int, int]) -> Doubt | None:
    """What is in doubt about this file, if anything."""
    return doubts.get(identity)


def begin(doubts: Doubts, identity: tuple[int, int], doubt: Doubt) -> None:
    """From now on this slot is not believed."""
    doubts[identity] = doubt


def end(doubts: Doubts, identity: tuple[int, int]) -> None:
    """The slot's content is durable and known."""
    doubts.pop(identity, None)


def in_child(doubts: Doubts, identity: tuple[int, int]) -> None:
    """In a forked child: what has not failed is its parent's affair."""
    doubt = doubt_about(doubts, identity)
    if doubt is not None and not doubt.failed:
        end(doubts, identity)


def heal(
    doubts: Doubts, pager: Pager, identity: tuple[int, int], sync: Callable[[], None]
) -> None:
    """Write the live version into the slot in doubt, and sync.

    The slot of the live meta gets the same bytes again, because only a page
    that was written is sure to be synced. The other slot gets the live version
    under the txid before, which is what a copy of a database has there too
    (bbolt WriteTo): what failed cannot come back, and what was there before
    is not needed any more.

    Args:
        doubts: Of the storage.
        pager: Pages of the file.
        identity: (device, inode) of the file.
        sync: Makes durable what was written to it.

    Raises:
        DatabaseFailedError: That failed too; a later call may succeed.
    """
    doubt = doubt_about(doubts, identity)
    if doubt is None:
        return
    meta, slot = doubt.live, doubt.slot
    if slot != meta.slot:
        meta = meta.with_txid(max(meta.txid - 1, 0))
    try:
        pager.write(slot * pager.page_size, [meta.encode_page(slot)])
        sync()
    except StorageError as error:
        raise DatabaseFailedError(
            f"{pager.path}: an earlier write or sync of meta page {slot} failed and "
            f"could not be undone ({error.strerror}); reads go on, writes are "
            "refused until the disk accepts them"
        ) from error
    end(doubts, identity)
