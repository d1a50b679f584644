"""One file that SQLite has open, on the simulated disk.

Theory
======
What is done and in which order is what SQLite's own VFS for Unix does:

    xSync     fdatasync; the first time for a new journal or WAL: fsync of its folder
    xRead     zeros behind the end of the file, and the result says so
    xWrite    until all is written; a full disk is a result of its own
    xLock     between the connections of this process (`locks`)

Each method is the call of its name, and answers with its result. What goes wrong on the
disk is an OSError; whoever calls makes a result of it.

What it is not: no mappings (`mmap_size` has no effect), and no growth by chunks
(SQLITE_FCNTL_CHUNK_SIZE): files grow as they are written.

Source: SQLite os_unix.c.
"""

from __future__ import annotations

import ctypes
import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tornpage.patch.sqlite.library import Result
from tornpage.patch.sqlite.locks import NONE, RESERVED

if TYPE_CHECKING:
    from tornpage.disk.file import DiskFile
    from tornpage.patch.calls import Calls
    from tornpage.patch.sqlite.locks import Shared

__all__ = ["OpenFile"]

_POWERSAFE_OVERWRITE: Final = 0x1000
_SECTOR_SIZE: Final = 4096

# Of file_control and shm_lock.
_LOCK_STATE, _SIZE_HINT, _PERSIST_WAL, _POWERSAFE = 1, 5, 10, 13
_UNLOCK, _SHM_EXCLUSIVE = 1, 8


class OpenFile:
    """One file that SQLite has open.

    Args:
        number: What it is known by.
        patch: The disk's calls.
        file: The file.
        name: Its name.
        shared: What it shares with others of the same file.
        new_name: Whether its name becomes durable with its first sync.
        powersafe: Whether SQLite may take it that a torn write leaves the bytes
            beside it alone (https://sqlite.org/psow.html).

    Attributes:
        number: The same.
        name: The same.
    """

    __slots__ = (
        "_file",
        "_keeps_log",
        "_new_name",
        "_patch",
        "_powersafe",
        "_shared",
        "name",
        "number",
    )

    def __init__(
        self,
        number: int,
        patch: Calls,
        file: DiskFile,
        name: str,
        shared: Shared,
        *,
        new_name: bool,
        powersafe: bool,
    ) -> None:
        self.number = number
        self.name = name
        self._patch = patch
        self._file = file
        self._shared = shared
        self._new_name = new_name
        self._powersafe = powersafe
        self._keeps_log = False

    def let_go(self) -> None:
        """Give back what is shared; when it is closed, or its process is gone."""
        self._shared.unlock(self.number, NONE)
        self._shared.let_go(self.number)

    def close(self) -> Result:
        """Close it."""
        self.let_go()
        with self._patch.lock:
            self._file.close()
        return Result.OK

    # -- its bytes --

    def read(self, into: int, count: int, offset: int) -> Result:
        """Read so many bytes to an address."""
        data = b""
        with self._patch.lock:
            while len(data) < count:
                more = self._file.pread(count - len(data), offset + len(data))
                if not more:
                    break
                data += more
        ctypes.memmove(into, data.ljust(count, b"\0"), count)
        return Result.OK if len(data) == count else Result.IOERR_SHORT_READ

    def write(self, data: int, count: int, offset: int) -> Result:
        """Write so many bytes from an address."""
        rest = ctypes.string_at(data, count)
        with self._patch.lock:
            self._patch.before_change(self._file)
            while rest:
                try:
                    written = self._file.pwritev([rest], offset)
                except OSError as problem:
                    if problem.errno == errno.ENOSPC:
                        return Result.FULL
                    raise
                if not written:
                    return Result.FULL
                rest, offset = rest[written:], offset + written
        return Result.OK

    def truncate(self, size: int) -> Result:
        """Set its size."""
        with self._patch.lock:
            self._patch.before_change(self._file)
            self._file.ftruncate(size)
        return Result.OK

    def sync(self, flags: int) -> Result:
        """Make it durable, and the name of a new journal with it."""
        del flags
        with self._patch.lock:
            self._file.fdatasync()
            if self._new_name:
                # SQLite does not look whether this one fails.
                with suppress(OSError):
                    self._patch.disk.fsync_dir(self.name)
                self._new_name = False
        return Result.OK

    def file_size(self, out: Any) -> Result:
        """Its size."""
        with self._patch.lock:
            size = self._file.size()
        # Of one byte: SQLite once wrote that into files that were locked.
        out[0] = 0 if size == 1 else size
        return Result.OK

    # -- its lock --

    def lock(self, level: int) -> Result:
        """Take a lock."""
        taken = self._shared.lock(self.number, level)
        return Result.OK if taken else Result.BUSY

    def unlock(self, level: int) -> Result:
        """Give back what is above this level."""
        self._shared.unlock(self.number, level)
        return Result.OK

    def check_reserved_lock(self, out: Any) -> Result:
        """Whether anybody is about to write."""
        most = max(self._shared.most_of_others(self.number), self._level)
        out[0] = int(most >= RESERVED)
        return Result.OK

    @property
    def _level(self) -> int:
        return self._shared.level(self.number)

    # -- what it is like --

    def file_control(self, what: int, argument: int | None) -> Result:
        """Ask or say this and that."""
        if what == _SIZE_HINT:
            return Result.OK
        if argument is None or what not in {_LOCK_STATE, _PERSIST_WAL, _POWERSAFE}:
            return Result.NOTFOUND
        value = ctypes.c_int.from_address(argument)
        if what == _LOCK_STATE:
            value.value = self._level
        elif what == _PERSIST_WAL:
            self._keeps_log = _switched(value, self._keeps_log)
        else:
            self._powersafe = _switched(value, self._powersafe)
        return Result.OK

    def sector_size(self) -> int:
        """Bytes that may be torn together."""
        return _SECTOR_SIZE

    def device_characteristics(self) -> int:
        """What may be relied upon."""
        return _POWERSAFE_OVERWRITE if self._powersafe else 0

    # -- the index of a write-ahead log --

    def shm_map(self, index: int, size: int, make: int, out: Any) -> Result:
        """Get at a piece of the memory that is shared."""
        at = self._shared.piece(self.number, index, size, make=bool(make))
        out[0] = at or None
        return Result.OK

    def shm_lock(self, first: int, count: int, flags: int) -> Result:
        """Take locks of that memory, or give them back."""
        slots = range(first, first + count)
        if flags & _UNLOCK:
            self._shared.unlock_slots(self.number, slots)
            return Result.OK
        exclusive = bool(flags & _SHM_EXCLUSIVE)
        taken = self._shared.lock_slots(self.number, slots, exclusive=exclusive)
        return Result.OK if taken else Result.BUSY

    def shm_barrier(self) -> None:
        """One thread at a time runs Python: all see the same memory."""

    def shm_unmap(self, delete: int) -> Result:
        """Stop using that memory."""
        del delete
        self._shared.let_go(self.number)
        return Result.OK


def _switched(value: ctypes.c_int, old: bool) -> bool:
    """Set a switch as is asked, below 0 not at all, and say what it is."""
    new = old if value.value < 0 else bool(value.value)
    value.value = int(new)
    return new
