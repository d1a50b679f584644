"""A disk under a fault script: what goes wrong while the program runs.

Theory
======
A `FaultyDisk` stands in front of a `Disk` and has the same methods. Each call is
counted, compared with the script (`script`), and either handed on or spoilt:

    program --call--> FaultyDisk --handed on--> Disk ---> trace
                          |
                          +-- an error, done nothing
                          +-- handed on in part, or changed (short, flip, at ...)
                          +-- a sync: the disk is told that it fails

An error that a call raises means that the call did nothing. The exception is a
sync: what a failed one leaves behind differs between file systems, is
part of the crash model, and is the disk's business (`docs/crash-model.md`). EINTR
is no failure of that kind: an interrupted sync has done nothing.

    EIO, ENOSPC, EDQUOT of a sync    writing back failed: `Disk.fail_sync`
    everything else                  the call was not made

Under some models the error of a sync is raised by a later one, or by everything
that comes after it (a file system that went read-only). Those count as injected,
too: under the name `LATER`.

Which sectors a sync writes back is counted here, for the letters of a script.

A process that is killed makes no call any more, whatever its handlers of exceptions
try. What it has written is in the page cache, durable or not, and `successor` is
the disk as the next process has it: another object, because what a process knows
of a disk dies with it.

    killed  --call--> KilledError, for ever
    killed.successor()  --call--> Disk        the script goes on, calls are counted on

What it is not: it decides nothing by itself. The same script and the same
program give the same run. Crashes are the disk's: `disk` is the one in front of
which it stands.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tornpage.call_site import site
from tornpage.disk.folder import DiskFolder
from tornpage.faults.script import Fault, Letters, Script
from tornpage.model import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.disk.simulated import Disk, DiskFile

__all__ = [
    "LATER",
    "FaultyDisk",
    "FaultyFile",
    "Injected",
    "KilledError",
    "under_script",
]

LATER = "an earlier fault"
"""What an error counts as that the disk raises because of an earlier fault."""

T = TypeVar("T")

_WRITEBACK_ERRORS = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})

# What the disk raises by itself when a sync has failed before.
_LATE_ERRORS = _WRITEBACK_ERRORS | {errno.EROFS}


class KilledError(BaseException):
    """The script has killed the process that makes this call.

    No Exception, because code under test handles those. Whoever started it catches
    this one, and may go on as another process with `FaultyDisk.successor`.
    """

    def __init__(self, call: str) -> None:
        super().__init__(
            f"the process is killed before this {call}; who started it catches that "
            "and goes on with FaultyDisk.successor()"
        )


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that really happened.

    Attributes:
        fault: Its text in the script.
        call: The call that it met.
        index: Which of all calls that was, from 1 on.
        site: The source line that made the call.
        operations: How many operations the trace had before it.
        offset: The byte that the call was about; -1 where there is none.
    """

    fault: str
    call: str
    index: int
    site: str
    operations: int
    offset: int = -1

    @property
    def kills(self) -> bool:
        """Whether it was the end of a process, and no call that failed."""
        return self.fault.endswith("=kill")


def under_script(disk: Disk, script: Script) -> Disk:
    """A disk for code under test that asks for a `Disk`; see `FaultyDisk`."""
    return cast("Disk", FaultyDisk(disk, script))


class FaultyDisk:
    """A disk on which the faults of a script happen.

    It has everything a `Disk` has. Several may stand in front of one disk, one
    after the other: each is another process, which counts its calls from one. Only
    a `successor` counts on.

    Args:
        disk: Where calls go that are not spoilt.
        script: What goes wrong.

    Attributes:
        disk: The same.
        script: The same.
        calls: Every call so far, by name: `calls[n - 1]` is what `any#n` meets.
        injected: Every fault that has happened.
    """

    def __init__(self, disk: Disk, script: Script) -> None:
        self.disk = disk
        self.script = script
        for one in script.faults:
            if not (isinstance(one, Letters) and "x" not in one.letters.lower()):
                disk.scripted.setdefault(str(one), 0)
        self.calls: list[str] = []
        self.injected: list[Injected] = []
        self._counted: Counter[Fault | Letters] = Counter()
        self._lifted = False
        self._killed = False
        # Sectors with data that no sync has written back, by path.
        self._dirty: dict[str, set[int]] = {}
        # Written bytes and what they replaced, for stale reads.
        self._journal: list[tuple[str, int, bytes]] | None = None
        if any(
            isinstance(one, Fault) and one.effect == "stale" for one in script.faults
        ):
            self._journal = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def lift(self) -> None:
        """From now on nothing goes wrong; calls are counted no more."""
        self._lifted = True

    def unmet(self) -> Script:
        """What of the script has not happened: no call has met it so far.

        Letters of a script that only say "works" never happen.
        """
        met = {one.fault for one in self.injected}
        return Script(tuple(one for one in self.script.faults if str(one) not in met))

    def successor(self) -> FaultyDisk:
        """The disk as the next process has it, when this one is gone.

        The page cache stays; open files and locks do not. `calls` and `injected`
        are those of both, and every fault of the script counts on.
        """
        self._killed = True
        self.disk.kill()
        made = FaultyDisk(self.disk, self.script)
        made.calls, made.injected = self.calls, self.injected
        made._counted, made._lifted = self._counted, self._lifted
        made._dirty, made._journal = self._dirty, self._journal
        return made

    # -- what a program calls ------------------------------------------------

    def open(self, path: str, /, **options: Any) -> FaultyFile:
        """As `Disk.open`, if the script has nothing against it."""
        self._meet("open", path)
        file = self._hand_on("open", lambda: self.disk.open(path, **options))
        return FaultyFile(self, file, path)

    def rename(self, source: str, target: str, /) -> None:
        """As `Disk.rename`."""
        self._meet("rename", source)
        self._hand_on("rename", lambda: self.disk.rename(source, target))

    def unlink(self, path: str, /) -> None:
        """As `Disk.unlink`."""
        self._meet("unlink", path)
        self._hand_on("unlink", lambda: self.disk.unlink(path))

    def mkdir(self, path: str, /) -> None:
        """As `Disk.mkdir`."""
        self._meet("mkdir", path)
        self._hand_on("mkdir", lambda: self.disk.mkdir(path))

    def rmdir(self, path: str, /) -> None:
        """As `Disk.rmdir`."""
        self._meet("rmdir", path)
        self._hand_on("rmdir", lambda: self.disk.rmdir(path))

    def link(self, source: str, target: str, /) -> None:
        """As `Disk.link`."""
        self._meet("link", source)
        self._hand_on("link", lambda: self.disk.link(source, target))

    def open_dir(self, path: str, /) -> FaultyFolder:
        """As `Disk.open_dir`."""
        return FaultyFolder(self, self.disk.open_dir(path))

    def fsync_dir(self, path: str, /) -> None:
        """As `Disk.fsync_dir`."""
        self._sync_dir(path, lambda: self.disk.fsync_dir(path))

    def _sync_dir(self, path: str, call: Callable[[], None]) -> None:
        fault = self._fault("fsync_dir")
        # Anything but a failed write of the journal leaves the directory alone.
        if fault is not None and fault.error != errno.EIO:
            raise _error(fault.error, path)
        number = 0 if fault is None else fault.error
        self._hand_on("fsync_dir", call, number)

    def _hand_on(self, call: str, made: Callable[[], T], failing: int = 0) -> T:
        """Make a call of the disk; a sync fails with `failing` if that is not 0."""
        disk = self.disk
        if failing:
            disk.fail_sync = lambda _kind, _path, _index: failing
        try:
            return made()
        except OSError as error:
            if not failing and self.injected and error.errno in _LATE_ERRORS:
                self._note(LATER, call)
            raise
        finally:
            if failing:
                disk.fail_sync = None

    # -- what the script says ------------------------------------------------

    def _meet(self, call: str, path: str, offset: int = -1) -> Fault | None:
        """Count a call; the silent fault that it meets, if any.

        Raises:
            OSError: The fault is an error.
        """
        fault = self._fault(call, offset)
        if fault is not None and fault.error:
            raise _error(fault.error, path)
        return fault

    def _fault(self, call: str, offset: int = -1) -> Fault | None:
        if self._killed:
            raise KilledError(call)
        if self._lifted:
            return None
        self.calls.append(call)
        found: Fault | None = None
        for one in self.script.faults:
            if isinstance(one, Letters) or not one.matches(call):
                continue
            self._counted[one] += 1
            # The first of the script that applies is what happens.
            if found is None and one.hits(self._counted[one]):
                found = one
        if found is not None:
            self._note(found, call, offset)
            if found.kills:
                self._killed = True
                raise KilledError(call)
        return found

    def _note(self, fault: Fault | Letters | str, call: str, offset: int = -1) -> None:
        trace = self.disk.trace
        self.disk.scripted[str(fault)] = self.disk.scripted.get(str(fault), 0) + 1
        self.disk.mark("fault", met=call, script=str(fault))
        operations, line = len(trace.operations()), site(trace.plumbing)
        self.injected.append(
            Injected(str(fault), call, len(self.calls), line, operations, offset)
        )

    def _writes_back(self, path: str) -> Letters | None:
        """A sync writes back the dirty sectors; the letter that forbids it."""
        if self._lifted:
            return None
        dirty = self._dirty.pop(path, set())
        found: Letters | None = None
        for one in self.script.faults:
            if isinstance(one, Fault) or posixpath.normpath(one.path) != path:
                continue
            if not dirty or (one.sector is not None and one.sector not in dirty):
                continue
            self._counted[one] += 1
            if found is None and one.fails(self._counted[one]):
                found = one
        if found is not None:
            self._note(found, "fdatasync")
        return found


class FaultyFile:
    """One open file of a `FaultyDisk`; has everything a `DiskFile` has."""

    __slots__ = ("_disk", "_file", "_path")

    def __init__(self, disk: FaultyDisk, file: DiskFile, path: str) -> None:
        self._disk = disk
        self._file = file
        self._path = posixpath.normpath(path)

    def __getattr__(self, name: str) -> Any:
        if name == "ask":
            # A question would read around `pread`, and its faults.
            raise AttributeError(name)
        return getattr(self._file, name)

    def pread(self, length: int, offset: int, /) -> bytes:
        """As `DiskFile.pread`."""
        fault = self._disk._meet("pread", self._path, offset)
        if fault is None:
            return self._file.pread(length, offset)
        if fault.effect == "short":
            # No bytes at all would mean the end of the file.
            return self._file.pread(min(length, max(1, fault.amount)), offset)
        if fault.effect == "at":
            return self._file.pread(length, fault.amount)
        data = self._file.pread(length, offset)
        if fault.effect == "stale":
            return self._stale(data, offset)
        return _flipped(data, fault.amount)

    def pwritev(self, buffers: Sequence[bytes], offset: int, /) -> int:
        """As `DiskFile.pwritev`."""
        fault = self._disk._meet("pwrite", self._path, offset)
        if fault is None:
            return self._write(buffers, offset)
        data = b"".join(buffers)
        if fault.effect == "short":
            part = data[: fault.amount]
            return self._write([part], offset) if part else 0
        if fault.effect == "flip":
            return self._write([_flipped(data, fault.amount)], offset)
        if fault.effect == "at":
            return self._write([data], fault.amount)
        return len(data)  # lost

    def _write(self, buffers: Sequence[bytes], offset: int) -> int:
        if self._disk._journal is not None:
            length = sum(map(len, buffers))
            old = self._file.pread(length, offset).ljust(length, b"\0")
            self._disk._journal.append((self._path, offset, old))
        done = self._disk._hand_on(
            "pwrite", lambda: self._file.pwritev(buffers, offset)
        )
        if done:
            sectors = range(offset // SECTOR, -(-(offset + done) // SECTOR))
            self._disk._dirty.setdefault(self._path, set()).update(sectors)
        return done

    def _stale(self, data: bytes, offset: int) -> bytes:
        """The bytes as they were before the last write that touched them."""
        end = offset + len(data)
        for path, start, old in reversed(self._disk._journal or ()):
            low, high = max(start, offset), min(start + len(old), end)
            if path == self._path and low < high:
                before = old[low - start : high - start]
                return data[: low - offset] + before + data[high - offset :]
        return data

    def ftruncate(self, size: int, /) -> None:
        """As `DiskFile.ftruncate`."""
        self._disk._meet("ftruncate", self._path)
        self._disk._hand_on("ftruncate", lambda: self._file.ftruncate(size))

    def fdatasync(self) -> None:
        """As `DiskFile.fdatasync`."""
        self._sync("fdatasync", self._file.fdatasync)

    def fsync(self) -> None:
        """As `DiskFile.fsync`."""
        self._sync("fsync", self._file.fsync)

    def _sync(self, kind: str, call: Callable[[], None]) -> None:
        fault = self._disk._fault(kind)
        if fault is not None and fault.error not in _WRITEBACK_ERRORS:
            raise _error(fault.error, self._path)
        letters = self._disk._writes_back(self._path)
        number = errno.EIO if letters is not None else 0
        if fault is not None:
            number = fault.error
        self._disk._hand_on(kind, call, number)

    def claim(self) -> bool:
        """As `DiskFile.claim`."""
        return self._disk._meet("lock", self._path) is None and self._file.claim()

    def size(self) -> int:
        """As `DiskFile.size`."""
        self._disk._meet("size", self._path)
        return self._file.size()

    def lock(self, exclusive: bool, /) -> bool:
        """As `DiskFile.lock`."""
        fault = self._disk._meet("lock", self._path)
        return fault is None and self._file.lock(exclusive)


class FaultyFolder(DiskFolder):
    """One open directory of a `FaultyDisk`."""

    __slots__ = ("_disk",)

    def __init__(self, disk: FaultyDisk, folder: DiskFolder) -> None:
        super().__init__(folder._life, folder._trace, folder.number, folder._path)
        self._disk = disk

    def fsync(self) -> None:
        """As `DiskFolder.fsync`."""
        self._disk._sync_dir(self._path, super().fsync)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed; the bit counts modulo its length."""
    if not data:
        return data
    at, shift = divmod(bit % (8 * len(data)), 8)
    return data[:at] + bytes([data[at] ^ (1 << shift)]) + data[at + 1 :]
