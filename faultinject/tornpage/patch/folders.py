"""What a listing of a simulated directory consists of.

A listing is made of the names that the directory may have, each looked up. That makes
it something a program consumes, and more than the names found: a name that there might
be, and is not, was consumed as well.

    os.listdir(d)  ->  for each name in d that the platter may hold: exists?
                       and: any change of names from here on makes this stale
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tornpage.patch.status import Status

__all__ = ["Entries", "Entry"]


class Entry:
    """What os.scandir yields; see os.DirEntry.

    Args:
        status: os.stat of a path.
        folder: The directory.
        name: The entry's name.
        is_dir: Whether it is a directory.
        listed: What `path` begins with: the directory as it was given to os.scandir,
            nothing for a descriptor.
    """

    def __init__(
        self,
        status: Callable[[str], Status],
        folder: str,
        name: str,
        *,
        is_dir: bool,
        listed: str | None = None,
    ) -> None:
        self.name: str | bytes = name
        self.path: str | bytes = posixpath.join(
            folder if listed is None else listed, name
        )
        self._place = posixpath.join(folder, name)
        self._status = status
        self._is_dir = is_dir

    def encoded(self) -> Entry:
        """The same, with names that are bytes."""
        self.name, self.path = os.fsencode(self.name), os.fsencode(self.path)
        return self

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        del follow_symlinks
        return self._is_dir

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file."""
        del follow_symlinks
        return not self._is_dir

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def is_junction(self) -> bool:
        """Never."""
        return False

    def inode(self) -> int:
        """Its inode's number."""
        number: int = self._status(self._place).st_ino
        return number

    def stat(self, *, follow_symlinks: bool = True) -> Status:
        """Its status."""
        del follow_symlinks
        return self._status(self._place)

    def __fspath__(self) -> str | bytes:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class Entries:
    """The iterator and context manager that os.scandir returns.

    It is gone through once, as on the machine, where nothing is left behind that.

    Args:
        entries: All that there are now.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._left = iter([*entries])

    def encoded(self) -> Entries:
        """The same for a directory that was given as bytes."""
        return Entries(one.encoded() for one in self)

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        return next(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration."""
        self._left = iter(())
