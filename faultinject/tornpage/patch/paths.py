r"""Paths by which Linux comes to no file, though their text can be made into a name.

    /db/none/../x     ENOENT: what is gone up from has to be there
    /db/x/            ENOTDIR, where x is a file
    /db/aaa...        ENAMETOOLONG, above 255 bytes
    /db/a\0b          ValueError

A store that handles such an error does so on the machine, and would not on the disk.
There are no symbolic links, so all else of a path is a matter of its text.
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import TYPE_CHECKING, Any

from tornpage.patch.files import error

if TYPE_CHECKING:
    from tornpage.disk.simulated import Disk

__all__ = ["checked"]

# NAME_MAX, in bytes.
_LONGEST = 255


def checked(disk: Disk, root: str, path: Any, name: str | None) -> str | None:
    """The name, if Linux would come to it.

    Args:
        disk: The disk.
        root: The directory in which all of its names are.
        path: The path, as it was given or made absolute.
        name: What its text makes; None: no name of the disk.

    Raises:
        OSError: ENOENT, ENOTDIR, ENAMETOOLONG.
        ValueError: It has a null byte.
    """
    if name is None:
        return None
    given = os.fsdecode(path)
    if "\0" in given:
        raise ValueError("embedded null byte")
    parts = given.split("/")
    # A character has four bytes at most: most paths need no second look.
    if len(given) * 4 > _LONGEST and max(map(len, map(os.fsencode, parts))) > _LONGEST:
        raise error(errno.ENAMETOOLONG, given)
    if ".." in parts:
        for at, part in enumerate(parts):
            above = posixpath.normpath("/".join(parts[:at]) or "/")
            ours = above == root or above.startswith(f"{root}/")
            if part == ".." and ours and not disk.is_dir(above):
                found = disk.exists(above)
                raise error(errno.ENOTDIR if found else errno.ENOENT, given)
    if parts[-1] in {"", "."} and disk.exists(name):
        raise error(errno.ENOTDIR, given)
    return name
