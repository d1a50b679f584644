"""One open directory of a simulated disk.

Theory
======
    program --fsync--> DiskFolder --> Life, Trace

A directory is opened to make its entries durable. It stays the same one when it is
renamed while it is open; what is recorded is the path that it has then.

One that was removed has no entries that could be found after a crash: syncing it
succeeds and promises nothing, so nothing is recorded.

What it is not: it lists nothing and has no names (`simulated`).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from tornpage.call_site import site
from tornpage.disk.file import failed
from tornpage.trace import SyncDir, Trace

if TYPE_CHECKING:
    from tornpage.disk.life import Life

__all__ = ["DiskFolder"]


class DiskFolder:
    """One open directory of a `Disk`.

    Args:
        life: The disk's present life.
        trace: Gets what is done.
        number: The directory, see `entries`.
        path: What it was called when it was opened.

    Attributes:
        number: The directory; no other one of this life has this number.
    """

    __slots__ = ("_life", "_path", "_trace", "number")

    def __init__(self, life: Life, trace: Trace, number: int, path: str) -> None:
        self._life = life
        self._trace = trace
        self._path = path
        self.number = number

    @property
    def path(self) -> str | None:
        """What it is called now; None when it was removed."""
        return self._life.folder_path(self.number)

    def fsync(self) -> None:
        """Make the entries of the directory durable.

        Raises:
            OSError: `Disk.fail_sync` said so.
        """
        path = self.path
        name = posixpath.join(self._path if path is None else path, ".")
        result, number = self._life.sync_dir(name)
        if path is not None:
            self._trace.data.append(SyncDir(name, site(self._trace.plumbing), result))
        if number:
            raise failed(number, name)
