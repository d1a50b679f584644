"""A file in one life of a disk: what the platter has, and what happened since.

Theory
======
    image   what the platter may hold, as the last crash left it
    cells   of that, what this life has narrowed by looking
    cache   what this life has written, over it

    byte at x:   cache, else (x < limit) cells, else image; zero from `limit` on

What it is not: it decides nothing and asks nobody (`life`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornpage.platter.cell import NEVER

if TYPE_CHECKING:
    from tornpage.platter.cell import Cell
    from tornpage.platter.file_image import FileImage
    from tornpage.platter.parts import Part

__all__ = ["Node"]

# Page cache, size, `asked` and `limit`, to go back to.
_Cached = tuple[dict[int, bytes], int | None, bool, int]


class Node:
    """A file of this life: the image of it and what happened since.

    Attributes:
        image: What the platter had when this life began.
        cache: Atoms written in this life.
        size: The present size; None while it is undecided.
        sizes: Sizes still possible, as long as `size` is None.
        asked: Whether the size that is seen is still the platter's.
        limit: Behind this byte the platter is hidden: it was cut off.
        cells: Atoms whose legal contents were narrowed in this life.
        lockers: Who holds the lock, and whether exclusively.
        before: The page cache and the size at the last sync that returned 0,
            once something has changed since (fail=revert only).
        late: The errno that the next sync has to report.
        unfit: Kept answers that rest on what was written in this life.
    """

    __slots__ = (
        "asked",
        "atoms",
        "before",
        "cache",
        "cells",
        "image",
        "inode",
        "late",
        "limit",
        "lockers",
        "path",
        "size",
        "sizes",
        "unfit",
    )

    def __init__(self, image: FileImage, path: str, atoms: set[int]) -> None:
        self.image = image
        self.inode = image.inode
        self.path = path
        self.atoms = atoms
        self.cache: dict[int, bytes] = {}
        self.cells: dict[int, Cell] = {}
        self.sizes = image.sizes
        self.size = image.size if len({one.size for one in image.sizes}) == 1 else None
        self.asked = True
        self.limit = NEVER
        self.lockers: dict[object, bool] = {}
        self.before: _Cached | None = None
        self.late = 0
        self.unfit: set[Part] = set()
