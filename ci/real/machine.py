"""A program's machine: a directory of a mounted file system, and what is in it.

Besides the steps of a litmus line it knows the *pushes*. Left alone, a kernel
writes nothing for seconds, and every crash shows the old content:

    push f 0 512   sync_file_range: writes back a range, without metadata
    commit         sync a file that the program has nothing to do with
    wait           long enough for a file system that is mounted with commit=1

To the model a push is nothing: a page cache may be written back at any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["PUSHES", "RealMachine", "Tree", "lay", "tree_of"]

PUSHES = frozenset({"push", "commit", "wait"})
"""The first words of steps that the model knows nothing of."""

Tree = tuple[tuple[str, bytes | None], ...]
"""What is in a directory: (name, content; None for a directory), by name."""

_OURS = frozenset({"other", "lost+found"})
_PUSH = 7  # SYNC_FILE_RANGE: wait before, write, wait after.
_WAIT_SECONDS = 1.3


class RealMachine:
    """A directory that a program runs in.

    Args:
        root: The directory.
        arm: Lets the next sync fail.

    Attributes:
        refused: The errno of the last call, 0 if it returned.
    """

    def __init__(self, root: str, arm: Callable[[], None] | None = None) -> None:
        self.root = root
        self.refused = 0
        self._arm = arm

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        self.refused = 0
        try:
            yield
        except OSError as error:
            self.refused = error.errno or errno.EIO
            raise

    @contextlib.contextmanager
    def _opened(self, name: str, flags: int = os.O_RDWR) -> Iterator[int]:
        with self._noted():
            handle = os.open(os.path.join(self.root, name), flags, 0o600)
            try:
                yield handle
            finally:
                os.close(handle)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write to a file."""
        with self._opened(name) as handle:
            os.pwrite(handle, data, offset)

    def truncate(self, name: str, size: int) -> None:
        """Set a file's size."""
        with self._noted():
            os.truncate(os.path.join(self.root, name), size)

    def sync(self, kind: str, name: str) -> None:
        """Sync a file or its directory."""
        if kind == "syncdir":
            name = os.path.dirname(name) or "."
        flags = os.O_RDONLY if kind == "syncdir" else os.O_RDWR
        with self._opened(name, flags) as handle:
            (os.fdatasync if kind == "fdatasync" else os.fsync)(handle)

    def change(self, kind: str, names: Sequence[str]) -> None:
        """Do "create", "unlink", "rename", "link", "mkdir" or "rmdir"."""
        paths = [os.path.join(self.root, name) for name in names]
        with self._noted():
            if kind == "create":
                os.close(os.open(paths[0], os.O_RDWR | os.O_CREAT, 0o600))
            else:
                getattr(os, kind)(*paths)

    def forget(self, name: str) -> None:
        """Drop what is kept of a file and need not be written."""
        with self._opened(name) as handle:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def fail(self) -> None:
        """Let the next sync fail.

        Raises:
            NotImplementedError: The device below cannot be told to.
        """
        if self._arm is None:
            raise NotImplementedError("nothing here can be made to fail")
        self.refused = 0
        self._arm()

    def push(self, step: Sequence[str]) -> None:
        """Have something written back, or wait for it."""
        verb, *words = step
        with contextlib.suppress(OSError):
            if verb == "push":
                self._write_back(words[0], int(words[1]), int(words[2]))
            elif verb == "commit":
                with self._opened("other", os.O_RDWR | os.O_CREAT) as handle:
                    os.pwrite(handle, b"o", 0)
                    os.fsync(handle)
            else:
                time.sleep(_WAIT_SECONDS)

    def _write_back(self, name: str, offset: int, length: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        where = ctypes.c_int64(offset), ctypes.c_int64(length)
        with self._opened(name) as handle:
            if libc.sync_file_range(handle, *where, _PUSH):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), name)


def lay(root: str, files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> None:
    """Write the files that a program starts from, and have them durable."""
    for name, content in dict(files).items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        # The whole file system, and no other of this machine.
        if libc.syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), root)
    finally:
        os.close(handle)


def tree_of(root: str) -> Tree:
    """Everything below a directory.

    Raises:
        OSError: Something in it cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found: list[tuple[str, bytes | None]] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [one for one in folders if folder != root or one not in _OURS]
        found += [
            (os.path.relpath(os.path.join(folder, name), root), None)
            for name in folders
        ]
        for name in files:
            path = os.path.join(folder, name)
            if folder == root and name in _OURS:
                continue
            with open(path, "rb") as file:
                found.append((os.path.relpath(path, root), file.read()))
    return tuple(sorted(found, key=lambda one: one[0]))
