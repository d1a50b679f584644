"""The end of an open file: its lock given back, and what stands in its place.

    open file --let_go--> lock given back --nobody reads--> closed
                                          '--in use-------> closed by whoever lets go
                                                            of it last
    handle    -----------> ClosedFile: every call is refused

What it is not: it decides nothing about when. Transactions are ended before, by the
database.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from shearbolt.errors import StorageError

if TYPE_CHECKING:
    from shearbolt.storage import File

__all__ = ["ClosedFile", "let_go"]


def let_go(file: File, path: str, *, in_use: bool) -> None:
    """Give a file's lock back and close it, unless another thread may be reading it.

    Args:
        file: The file.
        path: Its name, for the error.
        in_use: Whether somebody may still be inside a read of it.

    Raises:
        StorageError: The system reported an error; it is closed anyway.
    """
    try:
        try:
            file.unlock()
        finally:
            if not in_use:
                file.close()
    except OSError as error:
        raise StorageError.of(error, "close", path) from error


class ClosedFile:
    """Stands in for the file of a closed database."""

    def _refuse(self, *_: object) -> Any:
        raise OSError(errno.EBADF, "the database is closed")

    pread = pwritev = ftruncate = fdatasync = fsync = _refuse
    size = lock = unlock = identity = _refuse

    def close(self) -> None:
        """Closed already."""
