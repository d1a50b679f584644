"""Reading more of a file than is asked for, where that is cheaper.

A page that is not in the cache takes three exact reads, of its header, its element
table and its content: 2.4 us in three system calls. One call for the whole page takes
1.0, and one for eight pages 3.6.

    around(offset) --> in the piece read last?  --> those bytes
                  `--> behind the page or piece --> the piece from it on,
                       read last?                   read and kept
                  `--> before the piece, or the --> the piece that ends with it,
                       fifth page downwards?        read and kept
                  `--> elsewhere                --> one page, not kept

So a scan, in either direction, reads piece by piece and a get one page. (A few pages
downwards are no scan: a commit writes the last leaf and the branches above it side by
side and the root last, and many a way down begins with these.) A walk over more
leaves than a short range has then decodes the leaves of a piece together
(`Pager.take_in`), which spares the calls for each of them. A piece is bytes of the
file at the time it was read, and may not be used when they have changed since:

* Others do not write: whoever makes a window holds the lock of the file.
* Our own writes are counted, and a piece is only used while their number is what it
  was before the piece was read. The number grows after the bytes have been written
  and before anything leads a reader to them. So a piece that was read by another
  thread meanwhile is never taken for new.

Only a file that has `read_ahead` is read so. One that has not, the simulated disk of
a recovery above all, sees exact reads: what a crash leaves in bytes that nobody uses is
then never asked for (see `shearbolt.storage`). An error of a wide read is no error of
the page, because it may be another page's: the caller then reads exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shearbolt.storage import File

__all__ = ["Window"]

_DOWNWARDS: Final = 4
"""Pages, each before the one read last, that make a scan towards the beginning."""


class Window:
    """What was read last of a file.

    Args:
        file: Read by nobody else while it is written, see above.
        page_size: Bytes that are read at least.
        piece: Bytes to read where pages are read one behind the other.
    """

    __slots__ = (
        "_down",
        "_file",
        "_kept",
        "_last",
        "_page_size",
        "_piece",
        "_writes",
    )

    def __init__(self, file: File, page_size: int, piece: int) -> None:
        self._file = file
        self._page_size = page_size
        self._piece = piece
        self._writes = 0
        # Bytes, their place in the file, the writes before them. One object,
        # because threads share it.
        self._kept = (b"", 0, 0)
        # The page for which was read last, and how many before it came downwards.
        self._last = -2 * page_size
        self._down = 0

    def around(self, offset: int) -> tuple[bytes, int]:
        """Bytes of the file with the page at `offset` among them.

        Returns:
            The bytes and the page's place in them. There may be fewer than the
            page has, or none.
        """
        data, start, writes = self._kept
        at = offset - start
        end = len(data)
        page_size = self._page_size
        if 0 <= at <= end - page_size and writes == self._writes:
            return data, at
        first, length = offset, page_size
        last, self._last = self._last, offset
        down = self._down = self._down + 1 if offset == last - page_size else 0
        if offset in (start + end, last + page_size):
            length = self._piece
        elif down >= _DOWNWARDS or offset == start - page_size:
            length = min(self._piece, offset + page_size)
            first = offset + page_size - length
        writes = self._writes
        try:
            data = self._file.pread(length, first)
        except OSError as error:
            if error.errno is None:
                # A signal handler's, see `StorageError.of`.
                raise
            return b"", 0
        if length > page_size:
            self._kept = (data, first, writes)
        return data, offset - first

    def piece(self) -> tuple[bytes, int]:
        """The bytes read last, and their place; none when they have changed since."""
        data, start, writes = self._kept
        return (data, start) if writes == self._writes else (b"", 0)

    def written(self) -> None:
        """The file has been written to: what was read before is not used again."""
        self._writes += 1
