"""A machine in memory, in the shape of `shearbolt.storage.Storage`.

For fuzzing: an input becomes a file without a system call, a file can be
written to and thrown away, and time stands still. Locks are real and always
free, since every input has a machine of its own.

What it is not: it knows no crashes; `tornpage.disk.simulated` does.
"""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MemoryFile", "MemoryStorage"]


class MemoryFile:
    """An open file whose content is a bytearray."""

    def __init__(self, content: bytearray, number: int) -> None:
        self.content = content
        self._number = number

    def pread(self, length: int, offset: int) -> bytes:
        """Bytes of the file, fewer where it ends."""
        if offset < 0 or length < 0 or offset >= 1 << 63:
            raise OSError(errno.EINVAL, "Invalid argument")
        return bytes(self.content[offset : offset + length])

    def pwritev(self, buffers: Sequence[bytes], offset: int) -> int:
        """Write all buffers, one behind the other."""
        data = b"".join(buffers)
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data
        return len(data)

    def ftruncate(self, size: int) -> None:
        """Cut or lengthen the file."""
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))

    def fdatasync(self) -> None:
        """Memory has nothing to sync."""

    fsync = fdatasync

    def size(self) -> int:
        """The file's size in bytes."""
        return len(self.content)

    def lock(self, exclusive: bool) -> bool:
        """Always had."""
        del exclusive
        return True

    def unlock(self) -> None:
        """Nobody competes."""

    def identity(self) -> tuple[int, int]:
        """The same for one name of one machine."""
        return 0, self._number

    def close(self) -> None:
        """The content stays with the storage."""


class MemoryStorage:
    """A machine whose files live as long as it does."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = {name: bytearray(data) for name, data in (files or {}).items()}

    def open(
        self,
        path: str,
        *,
        read_only: bool = False,
        create: bool = False,
        exclusive: bool = False,
        perm: int = 0,
    ) -> MemoryFile:
        """Open or make a file."""
        del read_only, exclusive, perm
        if path not in self.files:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "No such file", path)
            self.files[path] = bytearray()
        return MemoryFile(self.files[path], hash(path))

    def exists(self, path: str) -> bool:
        """Whether there is one of this name."""
        return path in self.files

    def rename(self, source: str, target: str) -> None:
        """Give a file another name."""
        self.files[target] = self.files.pop(source)

    def unlink(self, path: str) -> None:
        """Forget a file."""
        del self.files[path]

    def fsync_dir(self, path: str) -> None:
        """Memory has nothing to sync."""

    def monotonic(self) -> float:
        """Time does not pass."""
        return 0.0

    def sleep(self, seconds: float) -> None:
        """No time passes."""

    def pid(self) -> int:
        """Always the same."""
        return 1

    def thread_id(self) -> int:
        """Always the same."""
        return 1

    def mutex(self) -> Any:
        """A lock between threads."""
        return threading.Lock()

    def timer(self, seconds: float, call: Callable[[], None]) -> Any:
        """A timer; nothing here starts one."""
        return threading.Timer(seconds, call)
