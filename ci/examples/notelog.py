"""A small store: notes appended to one file, each with its checksum.

    notes.log    | length 4 | crc32 4 | text | length 4 | crc32 4 | text | ...

It reaches the machine only through the object it is given, which is all that crash
testing asks of a store: `OsFiles` in production, the simulated disk in a test.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

__all__ = ["NoteLog", "OsFiles"]

PATH = "notes.log"
HEADER = struct.Struct("<II")


class OsFile:
    """An open file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, length: int, offset: int) -> bytes:
        """Read at most so many bytes."""
        return os.pread(self._descriptor, length, offset)

    def pwritev(self, buffers: list[bytes], offset: int) -> int:
        """Write; how many bytes were written."""
        return os.pwritev(self._descriptor, buffers, offset)

    def ftruncate(self, size: int) -> None:
        """Set the size."""
        os.ftruncate(self._descriptor, size)

    def fdatasync(self) -> None:
        """Make the data durable."""
        os.fdatasync(self._descriptor)


class OsFiles:
    """The operating system, as far as the store needs it."""

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name."""
        return os.path.exists(path)

    def open(self, path: str, *, create: bool = False) -> OsFile:
        """Open a file."""
        return OsFile(os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600))

    def fsync_dir(self, path: str) -> None:
        """Make the names in the folder of this path durable."""
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class NoteLog:
    """Notes, in the order in which they were added."""

    def __init__(self, files: Any, path: str = PATH) -> None:
        self._files = files
        self._path = path
        self.notes: list[str] = []
        self._end = 0
        fresh = not files.exists(path)
        self._file = files.open(path, create=True)
        if fresh:
            self.name_durable()
        else:
            self._load()

    def add(self, note: str) -> None:
        """Append a note; it is durable when this returns."""
        text = note.encode()
        record = [HEADER.pack(len(text), self.checksum(text)), text]
        size = HEADER.size + len(text)
        if self._file.pwritev(record, self._end) != size:
            raise OSError("short write")
        self.data_durable()
        self._end += size
        self.notes.append(note)

    def _load(self) -> None:
        """Read notes up to the first that is not whole, and cut that one off."""
        while True:
            head = self._file.pread(HEADER.size, self._end)
            if len(head) < HEADER.size:
                break
            length, check = HEADER.unpack(head)
            text = self._file.pread(length, self._end + HEADER.size) if length else b""
            if not length or len(text) < length or self.checksum(text) != check:
                break
            self.notes.append(text.decode(errors="replace"))
            self._end += HEADER.size + length
        self._file.ftruncate(self._end)
        self.data_durable()

    def checksum(self, text: bytes) -> int:
        """What stands beside a text to tell whether it is whole."""
        return zlib.crc32(text)

    def data_durable(self) -> None:
        """Make what was written durable."""
        self._file.fdatasync()

    def name_durable(self) -> None:
        """Make a new file durable in its folder."""
        self._files.fsync_dir(self._path)
