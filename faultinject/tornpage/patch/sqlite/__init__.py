"""SQLite on the simulated disk: what Python's `sqlite3` does with files below the root.

    library   SQLite's functions and tables, as declarations
    vfs       its calls, carried out on the disk: names, chance, time
    opened    one file that it has open
    locks     what the connections of a process share

    sqlite3.connect("/db/x") --> SQLite --> vfs, opened --> Disk

A block in which a disk is patched in begins with nothing of this. The first connection
that code under test makes has the VFS become SQLite's default (`Sqlite.connecting`),
and what was the default becomes it again when the block ends.

What it is not: for another SQLite than that of the module `sqlite3`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tornpage.patch.sqlite.library import library
from tornpage.patch.sqlite.vfs import Block, DiskVfs

if TYPE_CHECKING:
    from tornpage.patch.calls import Calls

__all__ = ["Sqlite", "reachable"]


class Sqlite:
    """SQLite in one block.

    Args:
        patch: The disk's calls.
    """

    def __init__(self, patch: Calls) -> None:
        self._patch = patch
        self._block: Block | None = None

    def connecting(self) -> bool:
        """Code under test is about to connect.

        Returns:
            Whether what it does with the disk's files will reach the disk.
        """
        if self._block is None:
            vfs = _vfs()
            if vfs is None:
                return False
            self._block = Block(self._patch)
            vfs.begin(self._block)
        return True

    def end(self) -> None:
        """The block is left.

        Raises:
            BaseException: What ended it from inside a call of SQLite's.
        """
        if self._block is None:
            return
        vfs = _vfs()
        assert vfs is not None
        vfs.end()
        if self._block.error is not None:
            raise self._block.error


def reachable() -> bool:
    """Whether the SQLite of Python's own module can be given a VFS."""
    return _vfs() is not None


@cache
def _vfs() -> DiskVfs | None:
    found = library()
    return None if found is None else DiskVfs(found)
