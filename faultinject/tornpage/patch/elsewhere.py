"""Files of the machine that carry something from one execution into another.

Theory
======
Only what is below the root is simulated. What code under test keeps elsewhere is the
machine's, and outlives every simulated crash:

    run       writes ~/.cache/index      the machine has it, synced or not
              ---- crash ----            the disk loses what it may
    recover   reads ~/.cache/index       what no crash reaches is read as recovered

A store that does so would pass whatever it forgets to sync. So a file that one
execution wrote is not read by a later one: that is refused, and whoever judges says
"unverifiable". A file that an execution makes anew is its own, to read as it likes
(scratch space of a sort), and so is one that nobody writes (a time zone). A log file
that is only added to is nobody's memory.

What has a new name (renamed, linked) is made by who gave it, and with a directory all
that is in it.

What it is not: complete. It hears of files as they are opened, named or given to
sqlite3, not of what is told by a name that is there or not.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tornpage.disk.simulated import Disk

__all__ = ["Elsewhere"]

_NO_FILES: Final = ("/dev/", "/proc/", "/sys/")
_MEMORY: Final = "/dev/shm/"  # noqa: S108 - it is looked for, not used.
# What the interpreter keeps of a module follows from the source.
_BYTECODE: Final = ".pyc"

_numbers = count()
# Which execution has made what is in a file, by path, and which has given a name. One
# that writes in a directory (`O_TMPFILE` opens it) has not made all that is in it.
_made: dict[str, int] = {}
_named: dict[str, int] = {}


class Elsewhere:
    """What one execution does with files that are not on its disk.

    Args:
        disk: The disk that it has.
        root: The directory in which all names of the disk are.
    """

    def __init__(self, disk: Disk, root: str) -> None:
        self._disk = disk
        self._root = root
        self._number = next(_numbers)

    def opened(self, path: Any, flags: int) -> None:
        """A file is about to be opened.

        Args:
            path: As given to open; a descriptor names no file.
            flags: Those of os.open.

        Raises:
            UnsupportedCallError: It is read, and an earlier execution has written it.
        """
        name = _name(path)
        if name is None:
            return
        anew = flags & (os.O_TRUNC | os.O_EXCL)
        if flags & os.O_ACCMODE != os.O_WRONLY and not anew:
            self._read(name)
        if anew:
            _made[name] = self._number
        elif flags & (os.O_ACCMODE | os.O_CREAT):
            _made.setdefault(name, self._number)

    def named(self, path: Any) -> None:
        """A file or a directory gets this name."""
        name = _name(path)
        if name is not None:
            _made[name] = _named[name] = self._number

    def _read(self, name: str) -> None:
        if _maker(name) not in {None, self._number}:
            raise self._disk.refuse(
                f"{name} is a file of the machine that an earlier execution has"
                " written, so no crash reaches what is read of it: have the store"
                f" keep it below {self._root}"
            )


def _maker(name: str) -> int | None:
    """Who has made it, or has named the nearest directory above it."""
    found = _made.get(name)
    while found is None and name != "/":
        name = os.path.dirname(name)
        found = _named.get(name)
    return found


def _name(path: Any) -> str | None:
    """The file's name; None when what it holds cannot be what a store remembers."""
    if isinstance(path, int) or path is None:
        return None
    try:
        name = os.path.abspath(os.fsdecode(path))
    except (OSError, TypeError, ValueError):
        return None
    name = "/" + name.lstrip("/")
    plain = name.startswith(_MEMORY) or not name.startswith(_NO_FILES)
    return name if plain and not name.endswith(_BYTECODE) else None
