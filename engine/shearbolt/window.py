"""Reading more of a file than is asked for, where that is cheaper.

A page that is not in the cache takes three exact reads, of its header, its element
table and its content: 2.4 us in three system calls. One call for the whole page takes
1.0, and one for eight pages 3.6.

    around(offset) --> in the piece read last?  --> those bytes
                  `--> behind the page or piece --> a new piece, read and kept
                       read last?
                  `--> elsewhere                --> one page, not kept

So a scan reads piece by piece and a get one page. A piece is bytes of the file at the
time it was read, and may not be used when they have changed since:

* Others do not write: whoever makes a window holds the lock of the file.
* Our own writes are counted, and a piece is only used while their number is what it
  was before the piece was read. The number grows after the bytes have been written
  and before anything leads a reader to them. So a piece that was read by another
  thread meanwhile is never taken for new.

Only a file that has `read_ahead` is read so. One that has not, a simulated disk
above all, sees exact reads: what a crash leaves in bytes that nobody uses is then
never asked for (see `shearbolt.storage`). An error of a wide read is no error of the
page, because it may be another page's: the caller then reads exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shearbolt.storage import File

__all__ = ["Window"]


class Window:
    """What was read last of a file.

    Args:
        file: Read by nobody else while it is written, see above.
        page_size: Bytes that are read at least.
        piece: Bytes to read where pages are read one behind the other.
    """

    __slots__ = ("_file", "_kept", "_next", "_page_size", "_piece", "_writes")

    def __init__(self, file: File, page_size: int, piece: int) -> None:
        self._file = file
        self._page_size = page_size
        self._piece = piece
        self._writes = 0
        # Bytes, their place in the file, the writes before them. One object,
        # because threads share it.
        self._kept = (b"", 0, 0)
        self._next = -1

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
        length = page_size
        behind = offset in (start + end, self._next)
        self._next = offset + page_size
        if behind:
            length, writes = self._piece, self._writes
        try:
            data = self._file.pread(length, offset)
        except OSError:
            return b"", 0
        if behind:
            self._kept = (data, offset, writes)
        return data, 0

    def written(self) -> None:
        """The file has been written to: what was read before is not used again."""
        self._writes += 1
