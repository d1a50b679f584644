"""SQLite's calls, carried out on the simulated disk: names, chance, time.

Theory
======
    the first connection of a block --> this VFS is the default one
    a name on the disk              --> `opened`, Disk
    any other name                  --> the VFS that was the default before
    the block is left               --> that one is the default again

Temporary files without a name are left to the other VFS, too: nobody looks for them
after a crash. SQLite asks a connection's VFS for as long as the connection lives, and
has the addresses of these functions for as long as the process does.

Chance and time are the same in every execution. Chance is another one after a crash
than before: the numbers tell journals and logs apart that were written before and
after. (After a second crash they are the same as after the first one.)

Exceptions
==========
C code calls, so no exception can be passed on. An OSError becomes SQLite's result for
it. Anything else, Ctrl-C for instance, ends the block: from then on every call fails,
and it is raised when the block is left.

Source: SQLite os_unix.c; https://sqlite.org/vfs.html.
"""

from __future__ import annotations

import ctypes
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from tornpage.patch.sqlite.library import (
    FAILED,
    FILE_CALLS,
    VFS_CALLS,
    File,
    FileMethods,
    Result,
    Vfs,
    method_name,
)
from tornpage.patch.sqlite.locks import Shared
from tornpage.patch.sqlite.opened import OpenFile
from tornpage.patch.surroundings import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tornpage.patch.calls import Calls
    from tornpage.patch.sqlite.library import Library

__all__ = ["Block", "DiskVfs"]

# Flags of xOpen.
_READ_ONLY, _CREATE, _DELETE_ON_CLOSE, _EXCLUSIVE = 0x1, 0x4, 0x8, 0x10
_MAIN_DATABASE: Final = 0x100
_JOURNALS: Final = 0x800 | 0x4000 | 0x80000
"""Of a database, of several, and a write-ahead log."""

# The Julian day number of 1970-01-01.
_EPOCH: Final = 2440587.5

# What may be asked of a file whose block is over.
_ALWAYS: Final = frozenset({"xClose", "xSectorSize", "xDeviceCharacteristics"})


class Block:
    """One block in which a disk is patched in.

    Args:
        patch: The disk's calls.

    Attributes:
        patch: The same.
        over: Whether the block has been left.
        error: What ended it from inside a call of SQLite's.
        shared: What connections share, by inode.
        chance: Where its random numbers come from.
    """

    __slots__ = ("chance", "error", "over", "patch", "shared")

    def __init__(self, patch: Calls) -> None:
        self.patch = patch
        self.over = False
        self.error: BaseException | None = None
        self.shared: dict[int, Shared] = {}
        disk = patch.disk
        # The same in every execution that comes here by the same way.
        self.chance = random.Random(f"{disk.crashed} {len(disk.trace.data)}")

    @property
    def works(self) -> bool:
        """Whether calls still reach the disk."""
        return not self.over and self.error is None

    def ended_by(self, error: BaseException | None) -> None:
        """Note what ended it."""
        if self.error is None:
            self.error = error


class DiskVfs:
    """The VFS: registered once, the default one while a disk is patched in.

    Args:
        library: SQLite.

    Attributes:
        block: The block of now.
    """

    def __init__(self, library: Library) -> None:
        self.block: Block | None = None
        self._library = library
        self._other = library.find(None)
        self._opened: dict[int, tuple[Block, OpenFile]] = {}
        self._numbers = 0
        self._hook = sys.unraisablehook
        self._methods = FileMethods(
            iVersion=2,
            **{
                name: kind(self._guarded(self._of_a_file(name), name))
                for name, kind in FILE_CALLS.items()
            },
        )
        other = self._other.contents
        self._vfs = Vfs(
            iVersion=2,
            szOsFile=max(other.szOsFile, ctypes.sizeof(File)),
            mxPathname=other.mxPathname,
            zName=b"tornpage",
            **{name: getattr(other, name) for name in VFS_CALLS if "xDl" in name},
            **self._of_this(),
        )

    def _of_this(self) -> Mapping[str, Any]:
        return {
            name: kind(self._guarded(getattr(self, f"_{method_name(name)}"), name))
            for name, kind in VFS_CALLS.items()
            if "xDl" not in name
        }

    def _of_a_file(self, name: str) -> Callable[..., int | None]:
        method = getattr(OpenFile, method_name(name))
        failed = FAILED.get(name, Result.IOERR)

        def call(file: int, *given: Any) -> int | None:
            number = File.from_address(file).number
            block, opened = self._opened[number]
            if name == "xClose":
                del self._opened[number]
            if block.works or name in _ALWAYS - {"xClose"}:
                answer: int | None = method(opened, *given)
                return answer
            # The process that had it is gone.
            opened.let_go()
            return Result.OK if name == "xClose" else failed

        return call

    def _guarded(
        self, method: Callable[..., int | None], name: str
    ) -> Callable[..., int | None]:
        """A method that answers with a number, whatever it raises."""
        failed = FAILED.get(name, Result.IOERR)

        def guarded(*given: Any) -> int | None:
            try:
                return method(*given)
            except OSError:
                return failed
            except BaseException as error:  # noqa: BLE001 - raised by `Sqlite.end`.
                if self.block is not None:
                    self.block.ended_by(error)
                return failed

        return guarded

    # -- blocks --

    def begin(self, block: Block) -> None:
        """From here on connections that are made have this VFS."""
        self.block = block
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._library.register(self._vfs, 1)
        # It draws numbers from the default VFS only the first time, and after this.
        self._library.randomness(0, None)

    def end(self) -> None:
        """From here on they have the one that was the default before."""
        assert self.block is not None
        self.block.over = True
        self.block = None
        sys.unraisablehook = self._hook
        self._library.register(self._other, 1)
        self._library.randomness(0, None)

    def _unraisable(self, what: Any) -> None:
        # One that came before the first line of a call, or behind the last.
        trace = what.exc_traceback
        ours = trace is not None and trace.tb_frame.f_code.co_filename == __file__
        if ours and self.block is not None:
            self.block.ended_by(what.exc_value)
        else:
            self._hook(what)

    def _mine(self, name: bytes | None) -> tuple[Block, str] | None:
        """The name on the disk, if it is one."""
        block = self.block
        if block is None or name is None:
            return None
        path = block.patch.mine(name)
        return None if path is None else (block, path)

    def _own(self) -> Block | None:
        """The block, if it is code under test that asks."""
        block = self.block
        return block if block is not None and block.patch.threads.own() else None

    # -- names --

    def _open(self, _: int, name: int, file: int, flags: int, out: Any) -> int:
        mine = self._mine(ctypes.string_at(name) if name else None)
        if mine is None:
            return int(self._other.contents.xOpen(self._other, name, file, flags, out))
        block, path = mine
        made = File.from_address(file)
        made.pMethods = None
        if not block.works:
            return Result.CANTOPEN
        patch = block.patch
        with patch.lock:
            opened = patch.disk.open(
                path,
                read_only=bool(flags & _READ_ONLY),
                create=bool(flags & _CREATE),
                exclusive=bool(flags & _CREATE and flags & _EXCLUSIVE),
            )
            if flags & _DELETE_ON_CLOSE:
                patch.disk.unlink(path)
            shared = block.shared.setdefault(opened.identity()[1], Shared())
        psow = not flags & _MAIN_DATABASE or self._library.flag(name, b"psow", 1)
        self._numbers += 1
        self._opened[self._numbers] = (
            block,
            OpenFile(
                self._numbers,
                patch,
                opened,
                path,
                shared,
                new_name=bool(flags & _CREATE and flags & _JOURNALS),
                powersafe=bool(psow),
            ),
        )
        made.number = self._numbers
        made.pMethods = ctypes.addressof(self._methods)
        if out:
            out[0] = flags
        return Result.OK

    def _delete(self, _: int, name: bytes, sync: int) -> int:
        mine = self._mine(name)
        if mine is None:
            return int(self._other.contents.xDelete(self._other, name, sync))
        block, path = mine
        if not block.works:
            return Result.IOERR_DELETE
        disk = block.patch.disk
        with block.patch.lock:
            try:
                disk.unlink(path)
            except FileNotFoundError:
                return Result.IOERR_DELETE_NOENT
            if sync & 1:
                try:
                    disk.fsync_dir(path)
                except OSError:
                    return Result.IOERR_DIR_FSYNC
        return Result.OK

    def _access(self, _: int, name: bytes, flags: int, out: Any) -> int:
        mine = self._mine(name)
        if mine is None:
            return int(self._other.contents.xAccess(self._other, name, flags, out))
        block, path = mine
        if not block.works:
            return Result.IOERR_ACCESS
        disk = block.patch.disk
        with block.patch.lock:
            there = disk.exists(path)
            if there and not flags:
                # An empty file counts as none, when this is what is asked.
                there = disk.open(path, read_only=True).size() > 0
            elif not there:
                there = disk.is_dir(path)
        out[0] = int(there)
        return Result.OK

    def _full_pathname(self, _: int, name: bytes, room: int, out: Any) -> int:
        mine = self._mine(name)
        if mine is None:
            return int(self._other.contents.xFullPathname(self._other, name, room, out))
        full = os.fsencode(mine[1]) + b"\0"
        if len(full) > room:
            return Result.CANTOPEN
        ctypes.memmove(out, full, len(full))
        return Result.OK

    def _get_last_error(self, _: int, room: int, out: Any) -> int:
        return int(self._other.contents.xGetLastError(self._other, room, out))

    # -- chance and time --

    def _randomness(self, _: int, count: int, out: Any) -> int:
        block = self.block
        if block is None:
            return int(self._other.contents.xRandomness(self._other, count, out))
        ctypes.memmove(out, block.chance.randbytes(count), count)
        return count

    def _sleep(self, _: int, microseconds: int) -> int:
        block = self._own()
        if block is None:
            return int(self._other.contents.xSleep(self._other, microseconds))
        disk, seconds = block.patch.disk, microseconds / 1e6
        if disk.several_threads:
            # For another one, that has the lock.
            time.sleep(seconds)
        else:
            disk.sleep(seconds)
        return microseconds

    def _current_time(self, _: int, out: Any) -> int:
        block = self._own()
        if block is None:
            return int(self._other.contents.xCurrentTime(self._other, out))
        out[0] = _EPOCH + block.patch.surroundings.now() / DAY_SECONDS
        return Result.OK

    def _current_time_int64(self, _: int, out: Any) -> int:
        block = self._own()
        if block is None:
            return int(self._other.contents.xCurrentTimeInt64(self._other, out))
        seconds = _EPOCH * DAY_SECONDS + block.patch.surroundings.now()
        out[0] = int(seconds * 1000)
        return Result.OK
