"""How large the file is made, by the rules of a memory map that is not here.

bbolt maps its file and truncates it to fit the map, so its file sizes follow from how
it would have been mapped. Ours are those of 1.4 (for 1.3.6 a map of alloc_size sharp is
beyond):

    needed        up to alloc_size (16 MiB)           beyond
    the file is   the map: 32 KiB, doubled to fit     needed + alloc_size

A size is *planned* when pages are taken from beyond the high-water mark, where it may
still be refused, and carried out when the commit writes. All sizes are asked for with
one page more than the database has, as bbolt does it.

With a `max_size` the last step is a smaller one, to just there. bbolt refuses a step
that would pass it, so that half of a limit of 15 MiB can be used; and with a large map
it does not compare at all, and passes the limit by up to `alloc_size`.

What it is not: it touches no file (`DurableFile.grow`), and it never makes one smaller.
A commit that fails behind it leaves its room to the next one, as bbolt's does.

Source: bbolt db.go grow, mmapSize.
"""

from __future__ import annotations

from typing import Final

from shearbolt.errors import MaxSizeReachedError

__all__ = ["DEFAULT_ALLOC_SIZE", "Growth", "map_size"]

DEFAULT_ALLOC_SIZE: Final = 16 * 1024 * 1024
"""How much a large file grows at once, in bytes (bbolt AllocSize)."""

_MIN_MAP: Final = 1 << 15
_MAX_MAP_STEP: Final = 1 << 30


def map_size(size: int, page_size: int) -> int:
    """How much bbolt would map for so many bytes (db.go mmapSize)."""
    if size <= _MAX_MAP_STEP:
        return max(_MIN_MAP, 1 << (size - 1).bit_length())
    size = -(-size // _MAX_MAP_STEP) * _MAX_MAP_STEP
    return -(-size // page_size) * page_size


class Growth:
    """The size of one open file, and the map that bbolt would have of it.

    Args:
        file_size: Bytes that the file has.
        initial_size: Bytes that the first map has at least.
        page_size: Bytes a page.

    Attributes:
        file_size: Bytes that the file has.
    """

    __slots__ = ("_mapped", "_page_size", "file_size")

    def __init__(self, file_size: int, initial_size: int, page_size: int) -> None:
        self.file_size = file_size
        self._page_size = page_size
        self._mapped = map_size(max(file_size, initial_size), page_size)

    def has_room(self, size: int) -> bool:
        """Whether a database of so many bytes needs no growth to be planned."""
        return size < self._mapped

    def plan(self, size: int, max_size: int) -> None:
        """Note that the database will need so many bytes, but for a page.

        Raises:
            MaxSizeReachedError: That is more than `max_size`, if that is not 0.
        """
        if size < self._mapped:
            return
        self._require(size, max_size)
        self._mapped = map_size(max(self.file_size, size), self._page_size)

    def target(self, size: int, max_size: int, alloc_size: int) -> int:
        """How large to make the file when it needs so many bytes, but for a page.

        Raises:
            MaxSizeReachedError: That is more than `max_size`, if that is not 0.
        """
        self._require(size, max_size)
        grown = _grown(size, self._mapped, alloc_size)
        return max(min(grown, max_size), self.file_size) if max_size else grown

    def _require(self, size: int, max_size: int) -> None:
        needed = size - self._page_size
        if max_size and needed > max_size:
            raise MaxSizeReachedError(needed, max_size)


def _grown(size: int, mapped: int, alloc_size: int) -> int:
    """The file size bbolt would choose (db.go grow); never less than `size`."""
    if mapped <= alloc_size:
        return max(mapped, size)
    return size + alloc_size
