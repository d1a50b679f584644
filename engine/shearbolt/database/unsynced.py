"""Commits that wait for a sync, by file; and files that have lost some.

    nothing --commit with no_sync--> waiting --a sync---------------> nothing
                                        `-----a sync that failed----> lost
    lost    --the file is made anew, or removed---------------------> nothing

What waits outlives the handle that wrote it: closing syncs nothing. So does what is
lost: a later handle would read it from the page cache, build on it, and acknowledge
what rests on nothing. Therefore both are kept per storage and file, as doubts are
(`doubt`), for all handles of this process. Another process cannot know.

Files that wait are noted by number alone, so that closing one closes it. The number may
then become another file's. That file is taken for one that waits: only after a failed
sync does it matter, and then it means refusing more than needed. For the same reason
the notes are bounded: above `_MOST` they are dropped, and from then on every file that
is opened counts as one that waits. A lost file is kept open, as one in doubt: otherwise
another one could get its number, and would be refused for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from shearbolt.storage import File, Storage

__all__ = ["Unsynced", "known"]

_MOST: Final = 10_000
"""Files that are noted; about 2 MB."""


class Unsynced:
    """What is known on one storage. Files are named by (device, inode).

    Attributes:
        lost: Files of which a sync has failed while commits waited for it, kept open.
    """

    __slots__ = ("_all_wait", "_waiting", "lost")

    def __init__(self) -> None:
        self._waiting: Final[set[tuple[int, int]]] = set()
        self.lost: Final[dict[tuple[int, int], File]] = {}
        self._all_wait = False

    def waits(self, identity: tuple[int, int]) -> bool:
        """Whether commits of this file may wait for a sync."""
        return self._all_wait or identity in self._waiting

    def begin(self, identity: tuple[int, int]) -> None:
        """A commit of this file is not going to be synced."""
        if len(self._waiting) >= _MOST:
            self._all_wait = True
            self._waiting.clear()
        self._waiting.add(identity)

    def end(self, identity: tuple[int, int]) -> None:
        """All of the file was synced."""
        self._waiting.discard(identity)

    def is_lost(self, identity: tuple[int, int]) -> bool:
        """Whether a sync of this file failed while commits waited for it."""
        return identity in self.lost

    def forget(self, identity: tuple[int, int]) -> File | None:
        """What was in the file counts no more: it was made anew, or is removed.

        Returns:
            What was kept open of it, to be closed by who knows that nobody reads it.
        """
        self._waiting.discard(identity)
        return self.lost.pop(identity, None)


_known: WeakKeyDictionary[Storage, Unsynced] = WeakKeyDictionary()


def known(storage: Storage) -> Unsynced:
    """What is known on a storage: the same object for all handles."""
    return _known.setdefault(storage, Unsynced())
