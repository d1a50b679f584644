"""What connections of one process share of a database file: locks and a WAL's index.

    SHARED     any number, to read
    RESERVED   one, about to write; others may read, and begin to
    PENDING    one, waiting for the readers to end; nobody may begin to read
    EXCLUSIVE  one, alone

The index of a write-ahead log lies in shared memory: pieces of 32 KiB, and eight locks.
It is not part of the simulated disk. On a machine it is a file, `-shm`, which whoever
comes first makes empty and builds anew, so that nothing of it is of use after a crash.

What it is not: the locks of other processes. There are none.

Source: SQLite os_unix.c (unixLock, unixShmMap, unixShmLock), lockingv3.html.
"""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["EXCLUSIVE", "NONE", "PENDING", "RESERVED", "SHARED", "Shared"]

NONE, SHARED, RESERVED, PENDING, EXCLUSIVE = range(5)

_SLOTS: Final = 8
_ALONE: Final = -1


class Shared:
    """What connections share of one file; each is known by a number."""

    __slots__ = ("_alone", "_levels", "_pieces", "_readers", "_users")

    def __init__(self) -> None:
        self._levels: dict[int, int] = {}
        # The WAL's index, who uses it, and who has which of its locks.
        self._pieces: list[ctypes.Array[ctypes.c_char]] = []
        self._users: set[int] = set()
        self._readers: list[set[int]] = [set() for _ in range(_SLOTS)]
        self._alone: list[int] = [_ALONE] * _SLOTS

    # -- the file's lock --

    def lock(self, who: int, level: int) -> bool:
        """Take a lock, or one step up; False when others are in the way."""
        mine = self._levels.get(who, NONE)
        if mine >= level:
            return True
        most = self.most_of_others(who)
        if level == EXCLUSIVE:
            if most >= RESERVED:
                return False
            # Kept, if there are readers still: no new ones come.
            self._levels[who] = PENDING
            if most:
                return False
        elif most >= (PENDING if level == SHARED else RESERVED):
            return False
        self._levels[who] = level
        return True

    def unlock(self, who: int, level: int) -> None:
        """Give back what is above this level."""
        if level == NONE:
            self._levels.pop(who, None)
        elif self._levels.get(who, NONE) > level:
            self._levels[who] = level

    def most_of_others(self, who: int) -> int:
        """The highest lock that somebody else has."""
        others = [level for key, level in self._levels.items() if key != who]
        return max(others, default=NONE)

    def level(self, who: int) -> int:
        """The lock of one of them."""
        return self._levels.get(who, NONE)

    # -- the WAL's index --

    def piece(self, who: int, index: int, size: int, *, make: bool) -> int:
        """The address of a piece of shared memory, 0 when there is none.

        Args:
            who: Who asks.
            index: Which piece.
            size: Bytes of a piece.
            make: Whether it is to be made, of zeros, with all before it.
        """
        self._users.add(who)
        while make and len(self._pieces) <= index:
            self._pieces.append(ctypes.create_string_buffer(size))
        if index >= len(self._pieces):
            return 0
        return ctypes.addressof(self._pieces[index])

    def lock_slots(self, who: int, slots: range, *, exclusive: bool) -> bool:
        """Take some of the eight locks, all or none."""
        for slot in slots:
            others = self._readers[slot] - {who}
            if self._alone[slot] not in {_ALONE, who} or (exclusive and others):
                return False
        for slot in slots:
            if exclusive:
                self._alone[slot] = who
            else:
                self._readers[slot].add(who)
        return True

    def unlock_slots(self, who: int, slots: range) -> None:
        """Give them back."""
        for slot in slots:
            self._readers[slot].discard(who)
            if self._alone[slot] == who:
                self._alone[slot] = _ALONE

    def let_go(self, who: int) -> None:
        """Stop using the shared memory; the last one takes it along."""
        self.unlock_slots(who, range(_SLOTS))
        self._users.discard(who)
        if not self._users:
            self._pieces = []
