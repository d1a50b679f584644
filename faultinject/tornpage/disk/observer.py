"""A disk that tells observers what is about to be done to it, and from where.

Theory
======
A trace holds what was done. An observer learns of it while it is done: before,
when the bytes that are about to go are still there, and with the whole chain of
source lines that led to it.

    program --pwritev--> ObservedDisk --before--> observer
                              |------------------> Disk
                              '------after------> observer

    tx.py:560 < pager.py:262          a chain: the outermost line that is part
                                      of a commit first, the system call last

The innermost line alone says little where all writes of a program go through one
function. `Change.at` names the line that called it: whoever knows which files
are plumbing passes their names.

What it is not: it changes nothing and refuses nothing; `tornpage.faults` does.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from tornpage.call_site import chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornpage.disk.simulated import Disk, DiskFile

__all__ = ["Change", "ObservedDisk", "Observer", "observed"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is done to the disk.

    Attributes:
        op: "write", "truncate", "sync", "syncdir", "rename", "unlink", "create",
            "mkdir", "rmdir".
        path: The file or directory.
        offset: First byte that changes; 0 where that means nothing.
        data: What is written.
        size: The new size, for "truncate".
        chain: Source lines, innermost first ("pager.py:262", "tx.py:560", ...).
        index: Which operation of the trace it becomes.
    """

    op: str
    path: str
    offset: int = 0
    data: bytes = field(default=b"", repr=False)
    size: int = 0
    chain: tuple[str, ...] = ()
    index: int = 0

    def at(self, plumbing: frozenset[str] = frozenset()) -> str:
        """The innermost line outside the files that only pass calls on."""
        for line in self.chain:
            if line.partition(":")[0] not in plumbing:
                return line
        return self.chain[0] if self.chain else "?"


class Observer(Protocol):
    """Somebody who wants to know."""

    def before(self, change: Change, disk: Disk) -> None:
        """The change is about to be made; the disk does not have it yet."""
        ...

    def after(self, change: Change, disk: Disk) -> None:
        """The change was made, without an error."""
        ...


def observed(disk: Disk, *observers: Observer) -> Disk:
    """A disk for code under test that asks for a `Disk`; see `ObservedDisk`."""
    return cast("Disk", ObservedDisk(disk, *observers))


class ObservedDisk:
    """A disk in front of a disk; has everything that a `Disk` has.

    Args:
        disk: Where all calls go.
        observers: Told in this order.
    """

    def __init__(self, disk: Disk, *observers: Observer) -> None:
        self.disk = disk
        self._observers = observers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def open(self, path: str, /, **options: Any) -> _ObservedFile:
        """As `Disk.open`."""
        if options.get("create") and not self.disk.exists(path):
            change = self._begin("create", path)
            file = self.disk.open(path, **options)
            self._end(change)
        else:
            file = self.disk.open(path, **options)
        return _ObservedFile(self, file, posixpath.normpath(path))

    def rename(self, source: str, target: str, /) -> None:
        """As `Disk.rename`."""
        change = self._begin("rename", source)
        self.disk.rename(source, target)
        self._end(change)

    def unlink(self, path: str, /) -> None:
        """As `Disk.unlink`."""
        change = self._begin("unlink", path)
        self.disk.unlink(path)
        self._end(change)

    def mkdir(self, path: str, /) -> None:
        """As `Disk.mkdir`."""
        change = self._begin("mkdir", path)
        self.disk.mkdir(path)
        self._end(change)

    def rmdir(self, path: str, /) -> None:
        """As `Disk.rmdir`."""
        change = self._begin("rmdir", path)
        self.disk.rmdir(path)
        self._end(change)

    def fsync_dir(self, path: str, /) -> None:
        """As `Disk.fsync_dir`."""
        change = self._begin("syncdir", path)
        self.disk.fsync_dir(path)
        self._end(change)

    def _begin(
        self, op: str, path: str, offset: int = 0, data: bytes = b"", size: int = 0
    ) -> Change:
        index = len(self.disk.trace.operations())
        change = Change(
            op, posixpath.normpath(path), offset, data, size, chain(), index
        )
        for one in self._observers:
            one.before(change, self.disk)
        return change

    def _end(self, change: Change) -> None:
        for one in self._observers:
            one.after(change, self.disk)


class _ObservedFile:
    """One open file of an `ObservedDisk`."""

    __slots__ = ("_disk", "_file", "_path")

    def __init__(self, disk: ObservedDisk, file: DiskFile, path: str) -> None:
        self._disk = disk
        self._file = file
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        """As `DiskFile.pwritev`."""
        data = b"".join(buffers)
        change = self._disk._begin("write", self._path, offset, data)
        done = self._file.pwritev([data], offset)
        self._disk._end(change)
        return done

    def ftruncate(self, size: int, /) -> None:
        """As `DiskFile.ftruncate`."""
        change = self._disk._begin("truncate", self._path, size=size)
        self._file.ftruncate(size)
        self._disk._end(change)

    def fdatasync(self) -> None:
        """As `DiskFile.fdatasync`."""
        change = self._disk._begin("sync", self._path)
        self._file.fdatasync()
        self._disk._end(change)

    def fsync(self) -> None:
        """As `DiskFile.fsync`."""
        change = self._disk._begin("sync", self._path)
        self._file.fsync()
        self._disk._end(change)
