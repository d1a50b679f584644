"""What a call of `os` or `open` does when it is given a file of the disk.

Theory
======
The disk knows names and files; a program of the machine knows more:

    descriptors     numbers that no process has, each for an open file with a place
    errors          their numbers and names, as Linux gives them
    threads         those of the program under test (`threads`)

What it is not: it does not take the place of anything (`block`), and does not read or
write (`files`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import posixpath
import stat
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from tornpage.patch.elsewhere import Elsewhere
from tornpage.patch.files import (
    BLOCK,
    DiskRaw,
    OpenFile,
    error,
    flags_of,
    mode_of,
    plain,
    wrap,
)
from tornpage.patch.folders import Entries, Entry
from tornpage.patch.paths import checked
from tornpage.patch.sqlite import Sqlite
from tornpage.patch.status import Status, status_of
from tornpage.patch.surroundings import Surroundings
from tornpage.patch.threads import Threads, Turnstile
from tornpage.trace import Truncate, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.disk.file import DiskFile
    from tornpage.disk.folder import DiskFolder
    from tornpage.disk.simulated import Disk

__all__ = ["Calls"]

# Far above any limit on open files: what is not patched fails with EBADF.
_FIRST_DESCRIPTOR = 1 << 30
_FIRST_FOLDER = 1 << 40

_FLAGS_OF_OPENING = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC
# include/uapi/linux/fs.h; fcntl has it from Python 3.14 on.
_FICLONE = 0x40049409

# What os.sendfile takes from a file of the machine; it may always take less.
_MOST_AT_ONCE = 1 << 20


class Calls:
    """One disk, as functions of `os` and `open` show it.

    Args:
        disk: The disk.
        root: The directory in which all of its names are.

    Attributes:
        threads: The threads of the program.
        elsewhere: Files that it has on the machine.
        sqlite: What it does with sqlite3.
        surroundings: The time and the chance that it finds.
        lock: Held while the disk is used.
        alive: Whether the disk is still patched in.
    """

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk = disk
        self.root = root
        self.elsewhere = Elsewhere(disk, root)
        self.sqlite = Sqlite(self)
        self.surroundings = Surroundings(disk)
        self.threads = Threads(disk)
        self.lock = Turnstile(self.threads)
        self.alive = True
        self._open: dict[int, OpenFile] = {}
        self._next = _FIRST_DESCRIPTOR
        self._inherited: set[int] = set()
        disk.assume_dir(root)
        # Mappings of files, by inode.
        self._mapped: dict[int, WeakSet[mmap.mmap]] = {}

    # -- paths and descriptors ---------------------------------------------------

    def mine(self, path: Any) -> str | None:
        """The name on the disk, or None when the path is the machine's."""
        if isinstance(path, int) or path is None:
            return None
        try:
            text = os.fsdecode(path)
        except TypeError:
            return None
        if not text.startswith("/"):
            text = posixpath.join(os.getcwd(), text)
        # On Linux two slashes at the beginning are one; POSIX leaves it open.
        text = "/" + posixpath.normpath(text).lstrip("/")
        return text if text == self.root or text.startswith(self.root + "/") else None

    def named(self, path: Any, folder: Any = None) -> str | None:
        """The name on the disk of a path that may be relative to an open directory.

        Raises:
            OSError: The directory is not one, or was removed; or there can be no such
                name.
            ValueError: It has a null byte.
        """
        if folder is None or not self.ours(folder):
            return checked(self.disk, self.root, path, self.mine(path))
        text = os.fsdecode(path)
        if text.startswith("/"):
            return checked(self.disk, self.root, text, self.mine(text))
        opened = self.file(folder)
        below = opened.folder.path if opened.directory else None
        if below is None:
            raise error(errno.ENOENT if opened.directory else errno.ENOTDIR, text)
        text = posixpath.join(below, text)
        return checked(self.disk, self.root, text, posixpath.normpath(text))

    def ours(self, descriptor: Any) -> bool:
        """Whether it is a number that this patch gave out."""
        return isinstance(descriptor, int) and descriptor >= _FIRST_DESCRIPTOR

    def file(self, descriptor: int) -> OpenFile:
        """What the descriptor stands for."""
        found = self._open.get(descriptor)
        if found is None:
            raise error(errno.EBADF)
        return found

    def _add(self, opened: OpenFile) -> int:
        number = self._next
        self._next += 1
        self._open[number] = opened
        return number

    def names(self, folder: str) -> dict[str, bool]:
        """The entries of a directory: name, and whether it is a directory.

        No file system lists by name (ext4 does by a hash of it, tmpfs the newest
        first), so a store that takes the last one for the newest is wrong, and would
        be right where they came in order.
        """
        disk = self.disk
        return {
            one: disk.is_dir(posixpath.join(folder, one))
            for one in reversed(disk.listdir(folder))
        }

    def _folder_status(self, folder: DiskFolder) -> Status:
        # Files have other numbers.
        inode = _FIRST_FOLDER - folder.number
        return self._status(stat.S_IFDIR | 0o700, inode, BLOCK)

    def _status(self, kind: int, inode: int, size: int) -> Status:
        return status_of(self.disk, kind, inode, size, BLOCK)

    # -- calls with a path -------------------------------------------------------

    def stat(self, path: str) -> Status:
        """os.stat, but for times, owners and permissions."""
        if self.disk.is_dir(path):
            return self._folder_status(self.disk.open_dir(path))
        file = self.disk.open(path, read_only=True)
        return self._status(stat.S_IFREG | 0o600, file.identity()[1], file.size())

    def exists(self, path: str) -> bool:
        """os.path.exists."""
        return self.disk.exists(path) or self.disk.is_dir(path)

    def access(self, path: str, mode: int = 0, **_: Any) -> bool:
        """os.access; whatever is there may be used."""
        del mode
        return self.exists(path)

    def touch_only(self, path: str, *_: Any, **__: Any) -> None:
        """Calls that change nothing that is simulated, but need the file."""
        if not self.exists(path):
            self.disk.open(path, read_only=True)

    def no_attributes(self, target: str | int) -> list[str]:
        """os.listxattr, which shutil's copies call; there are none."""
        if isinstance(target, int):
            self.file(target)
        else:
            self.touch_only(target)
        return []

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """os.open."""
        del mode
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise self.disk.refuse(f"{path}: a file without a name (O_TMPFILE)")
        if flags & os.O_PATH:
            # Linux answers EBADF to a sync of it, which many stores suppress.
            raise self.disk.refuse(f"{path}: a name without its file (O_PATH)")
        if self.disk.is_dir(path):
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise error(errno.EEXIST, path)
            if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
                raise error(errno.EISDIR, path)
            return self._add(OpenFile(self.disk.open_dir(path), path, flags))
        if flags & os.O_DIRECTORY:
            self.disk.open_dir(path)
        file = self.disk.open(
            path,
            # Linux truncates a file that is opened for reading, too.
            read_only=not flags & (os.O_ACCMODE | os.O_TRUNC),
            create=bool(flags & os.O_CREAT),
            exclusive=bool(flags & os.O_EXCL),
        )
        if flags & os.O_TRUNC and file.size():
            self.before_change(file)
            file.ftruncate(0)
        return self._add(
            OpenFile(file, path, flags, self.before_change, self.before_synced_write)
        )

    def truncate(self, path: str, length: int) -> None:
        """os.truncate."""
        file = self.disk.open(path)
        self.before_change(file)
        file.ftruncate(length)

    def unlink(self, path: str) -> None:
        """os.unlink and os.remove."""
        self.disk.unlink(path)

    def rename(self, source: str, target: str) -> None:
        """os.rename and os.replace."""
        try:
            self.disk.rename(source, target)
        except OSError as problem:
            raise error(problem.errno or 0, source, target) from None

    def link(self, source: str, target: str) -> None:
        """os.link."""
        try:
            self.disk.link(source, target)
        except OSError as problem:
            raise error(problem.errno or 0, source, target) from None

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """os.mkdir."""
        del mode
        self.disk.mkdir(path)

    def rmdir(self, path: str) -> None:
        """os.rmdir."""
        self.disk.rmdir(path)

    def rmtree(
        self,
        path: str,
        ignore_errors: bool = False,
        onerror: Callable[..., Any] | None = None,
        *,
        onexc: Callable[..., Any] | None = None,
    ) -> None:
        """shutil.rmtree."""

        def give(call: Callable[..., Any], at: str, problem: OSError) -> None:
            if ignore_errors:
                return
            if onexc is not None:
                onexc(call, at, problem)
            elif onerror is not None:
                onerror(call, at, (type(problem), problem, problem.__traceback__))
            else:
                raise problem

        try:
            names = self.names(path)
        except OSError as problem:
            give(os.scandir, path, problem)
            return
        for name, is_dir in names.items():
            below = posixpath.join(path, name)
            if is_dir:
                self.rmtree(below, ignore_errors, onerror, onexc=onexc)
            else:
                try:
                    self.unlink(below)
                except OSError as problem:
                    give(os.unlink, below, problem)
        try:
            self.rmdir(path)
        except OSError as problem:
            give(os.rmdir, path, problem)

    def listdir(self, path: str) -> list[str]:
        """os.listdir."""
        return list(self.names(path))

    def scandir(self, path: str) -> Entries:
        """os.scandir."""
        return Entries(
            Entry(self.stat, path, name, is_dir=is_dir)
            for name, is_dir in self.names(path).items()
        )

    def sync_all(self) -> None:
        """os.sync, which reports no errors.

        All that is unsynced may be durable or not while it goes on, as before it, so
        the order in which things are synced shows in no crash.
        """
        folders = [self.root]
        for folder in folders:
            for name, is_dir in self.names(folder).items():
                path = posixpath.join(folder, name)
                if is_dir:
                    folders.append(path)
                    continue
                with contextlib.suppress(OSError):
                    self.disk.open(path, read_only=True).fsync()
            with contextlib.suppress(OSError):
                self.disk.open_dir(folder).fsync()

    # -- calls with a descriptor -------------------------------------------------

    def close(self, descriptor: int) -> None:
        """os.close."""
        opened = self.file(descriptor)
        del self._open[descriptor]
        if opened not in self._open.values():
            opened.close()

    def closerange(self, low: int, high: int, /) -> None:
        """os.closerange."""
        if not self.ours(low):
            raise self.disk.refuse(f"os.closerange({low}, {high}), the machine's too")
        for number in [one for one in self._open if low <= one < high]:
            self.close(number)

    def dup(self, descriptor: int) -> int:
        """os.dup."""
        return self._add(self.file(descriptor))

    def seek(self, descriptor: int, offset: int, whence: int) -> int:
        """os.lseek."""
        if whence in {os.SEEK_DATA, os.SEEK_HOLE}:
            raise self.disk.refuse("os.lseek for holes, which no file here has")
        return self.file(descriptor).seek(offset, whence)

    def fstat(self, descriptor: int) -> Status:
        """os.fstat."""
        opened = self.file(descriptor)
        if opened.directory:
            return self._folder_status(opened.folder)
        inode, size = opened.file.identity()[1], opened.file.size()
        return self._status(stat.S_IFREG | 0o600, inode, size)

    def sync(self, descriptor: int, kind: str) -> None:
        """os.fsync and os.fdatasync."""
        opened = self.file(descriptor)
        if opened.directory:
            opened.folder.fsync()
        else:
            getattr(opened.file, kind)()

    def listdir_of(self, descriptor: int) -> list[str]:
        """os.listdir of an open directory."""
        folder = self.file(descriptor).folder.path
        return [] if folder is None else list(self.names(folder))

    def scandir_of(self, descriptor: int) -> Entries:
        """os.scandir of an open directory."""
        folder = self.file(descriptor).folder.path
        return Entries(
            Entry(self.stat, folder or "", name, is_dir=is_dir, listed="")
            for name, is_dir in (self.names(folder) if folder else {}).items()
        )

    def get_inheritable(self, descriptor: int) -> bool:
        """os.get_inheritable; os.open makes none that is."""
        self.file(descriptor)
        return descriptor in self._inherited

    def set_inheritable(self, descriptor: int, inheritable: bool) -> None:
        """os.set_inheritable; nobody inherits, since no process can be begun."""
        self.file(descriptor)
        change = self._inherited.add if inheritable else self._inherited.discard
        change(descriptor)

    def fcntl(self, descriptor: int, command: int, argument: Any = 0) -> int:
        """fcntl.fcntl: the flags of a descriptor, and reading those of a file."""
        opened = self.file(descriptor)
        if command == fcntl.F_GETFD:
            return 0 if descriptor in self._inherited else fcntl.FD_CLOEXEC
        if command == fcntl.F_SETFD:
            self.set_inheritable(descriptor, not argument & fcntl.FD_CLOEXEC)
            return 0
        if command == fcntl.F_GETFL:
            return opened.flags & ~_FLAGS_OF_OPENING
        raise self.disk.refuse(f"fcntl.fcntl of {opened.path} with command {command}")

    def ioctl(self, descriptor: int, request: int, *_: Any) -> int:
        """fcntl.ioctl: no clones, as on ext4; shutil and pathlib try them first."""
        opened = self.file(descriptor)
        if request & 0xFFFFFFFF == _FICLONE:
            raise error(errno.EOPNOTSUPP)
        raise self.disk.refuse(f"fcntl.ioctl of {opened.path} with request {request}")

    def copy_file_range(
        self,
        src: int,
        dst: int,
        count: int,
        offset_src: int | None = None,
        offset_dst: int | None = None,
    ) -> int:
        """os.copy_file_range; to and from other file systems it fails, as on Linux."""
        if not (self.ours(src) and self.ours(dst)):
            raise error(errno.EXDEV)
        if self.file(dst).append:
            raise error(errno.EBADF)
        data = self._taken(src, count, offset_src)
        if offset_dst is None:
            return self.file(dst).write(data)
        return self.file(dst).pwrite(data, offset_dst)

    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
        """os.sendfile; one of the two may be the machine's."""
        if not self.ours(out_fd):
            data = self._taken(in_fd, count, offset)
            done = os.write(out_fd, data)
            if offset is None:
                self.file(in_fd).position -= len(data) - done
            return done
        if self.file(out_fd).append:
            raise error(errno.EINVAL)
        if self.ours(in_fd):
            return self.file(out_fd).write(self._taken(in_fd, count, offset))
        count = min(count, _MOST_AT_ONCE)
        if offset is None:
            return self.file(out_fd).write(os.read(in_fd, count))
        return self.file(out_fd).write(os.pread(in_fd, count, offset))

    def _taken(self, source: int, count: int, offset: int | None) -> bytes:
        opened = self.file(source)
        return opened.read(count) if offset is None else opened.pread(count, offset)

    def write_vector(self, descriptor: int, buffers: Sequence[Any]) -> int:
        """os.writev."""
        return self.file(descriptor).write(b"".join(map(plain, buffers)))

    def pwrite_vector(
        self, descriptor: int, buffers: Sequence[Any], offset: int, flags: int = 0
    ) -> int:
        """os.pwritev."""
        if flags:
            raise self.disk.refuse("os.pwritev with flags")
        return self.file(descriptor).pwrite(b"".join(map(plain, buffers)), offset)

    def read_vector(
        self,
        descriptor: int,
        buffers: Sequence[Any],
        offset: int | None = None,
        flags: int = 0,
    ) -> int:
        """os.readv and os.preadv."""
        if flags:
            raise self.disk.refuse("os.preadv with flags")
        views = [memoryview(one).cast("B") for one in buffers]
        opened, room = self.file(descriptor), sum(map(len, views))
        data = opened.read(room) if offset is None else opened.pread(room, offset)
        at = 0
        for view in views:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        return at

    # -- mappings ----------------------------------------------------------------

    def mapped(self, descriptor: int, length: int, offset: int) -> bytes:
        """What a mapping of a file shows.

        Raises:
            OSError: EACCES, EINVAL.
            ValueError: The file ends before, as mmap.mmap says it.
        """
        opened = self.file(descriptor)
        file, size = opened.file, opened.file.size()
        if not length:
            if not size:
                raise ValueError("cannot mmap an empty file")
            if offset >= size:
                raise ValueError("mmap offset is greater than file size")
            length = size - offset
        elif offset + length > size:
            raise ValueError("mmap length is greater than file size")
        if offset % mmap.ALLOCATIONGRANULARITY:
            raise error(errno.EINVAL)
        if not opened.readable:
            raise error(errno.EACCES)
        return file.pread(length, offset)

    def remember_mapping(self, descriptor: int, mapping: mmap.mmap) -> None:
        """A mapping shows what the file has, as long as nobody changes the file."""
        inode = self.file(descriptor).file.identity()[1]
        self._mapped.setdefault(inode, WeakSet()).add(mapping)

    def before_synced_write(self, file: DiskFile) -> None:
        """Refuse a write with O_DSYNC over which others of the file are pending.

        Linux makes its own bytes durable, and not those of the others. Here it is a
        sync of the file, which is the same where there are no others.
        """
        inode = file.identity()[1]
        for one in reversed(self.disk.trace.data):
            if getattr(one, "inode", None) != inode:
                continue
            if isinstance(one, Write):
                raise self.disk.refuse(
                    f"{one.path} is written to with O_DSYNC or O_SYNC while what was"
                    f" written at {one.site} is not synced: the first makes nothing of"
                    " the second durable, and that is not simulated; sync the file"
                    " before"
                )
            if not isinstance(one, Truncate):
                # A sync, or what made the file.
                return

    def before_change(self, file: DiskFile) -> None:
        """Refuse to change what is mapped: the mapping would not show it."""
        for one in self._mapped.get(file.identity()[1], ()):
            if not one.closed:
                raise self.disk.refuse(
                    f"{file.path} is changed while it is mapped: the mapping is a copy"
                )

    def flock(self, descriptor: int, operation: int) -> None:
        """fcntl.flock."""
        if self.file(descriptor).directory:
            raise self.disk.refuse(f"fcntl.flock of {self.file(descriptor).path}")
        file = self.file(descriptor).file
        if operation & fcntl.LOCK_UN:
            file.unlock()
        elif not file.lock(bool(operation & fcntl.LOCK_EX)):
            if operation & fcntl.LOCK_NB:
                raise error(errno.EWOULDBLOCK)
            raise self.disk.refuse(
                f"{self.file(descriptor).path}: waiting for a lock that this process"
                " holds would never end"
            )

    def lockf(self, descriptor: int, command: int, *_: Any) -> None:
        """fcntl.lockf: locks of a process, which never gets in its own way.

        Linux has no conflict between two open files of one process, nor between these
        locks and those of flock.
        """
        opened = self.file(descriptor)
        wanted = (
            (fcntl.LOCK_EX, opened.writable),
            (fcntl.LOCK_SH, opened.readable),
        )
        if any(command & kind and not may for kind, may in wanted):
            raise error(errno.EBADF)
        if command & fcntl.LOCK_UN or opened.directory or opened.file.claim():
            return
        if command & fcntl.LOCK_NB:
            raise error(errno.EAGAIN)
        raise self.disk.refuse(
            f"{opened.path}: waiting for a lock that another process holds would never"
            " end"
        )

    # -- io.open -----------------------------------------------------------------

    def io_open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[Any, int], int] | None = None,
    ) -> Any:
        """What `open` does when the file is the disk's."""
        bare = mode.replace("b", "", 1).replace("t", "", 1)
        flags = flags_of(bare)
        if "b" in mode and "t" in mode:
            raise ValueError("can't have text and binary mode at once")
        if self.ours(file):
            descriptor = file
        elif opener is not None:
            descriptor = opener(file, flags)
        else:
            descriptor = self.open(str(self.named(file)), flags)
        opened = self.file(descriptor)
        if opened.directory:
            if not self.ours(file):
                self.close(descriptor)
            raise error(errno.EISDIR, file)
        if bare.startswith("a"):
            opened.seek(0, os.SEEK_END)
        raw = DiskRaw(
            descriptor,
            opened,
            file,
            mode_of(bare),
            self._close_quietly if closefd else None,
            self.lock,
            lambda: self.alive,
        )
        return wrap(raw, mode, buffering, encoding, errors, newline)

    def _close_quietly(self, descriptor: int) -> None:
        # os.close() of the descriptor beneath a file object: EBADF from the machine,
        # too, but the object counts as closed.
        with self.lock:
            self.close(descriptor)
