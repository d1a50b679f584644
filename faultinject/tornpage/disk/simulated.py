"""The simulated disk: what storage code under test takes for the machine.

Theory
======
A `Disk` has the methods that storage code calls (open, rename, pread, pwritev,
fdatasync ...), named after the system calls and failing with their errors. It
records every operation with the source line that issued it, and it never loses
anything by itself: losing is what `crash` does, to a copy.

What a program sees in one life of the disk, and what it decides by looking,
is a `Life`. A disk that never crashed stands on a platter on which nothing is
undecided, so it never asks. A crashed disk asks its `Chooser` the first time
that bytes are consumed on which the legal contents differ. The answer holds
from then on; all other bytes stay open, through further writes, syncs and
crashes.

    Disk --crash(chooser)--> Disk --crash(chooser)--> Disk ...

Failing syncs
-------------
`fail_sync` is asked at every sync that is about to be carried out:

    disk.fail_sync = lambda kind, path, index: errno.EIO if index == 3 else 0

    kind     "fsync", "fdatasync" or "syncdir" (of the directory of `path`)
    index    how many syncs of any kind this life has been asked for before
    returns  0, or the errno with which the sync fails

What a failing sync leaves is the model's parameter `fail`. A failed sync of a
directory is a failed write of the journal: the file system goes read-only, on
all of them. Read-only lasts until the next crash, not until the next process. Until
then every change is refused, and every sync returns 0 and does nothing.

Directories
-----------
`mkdir` makes a directory, which is as little durable as a new file: it takes a sync
of the directory that *it* is in. If it is lost, so is all that was put into it. A
directory that nobody makes and something is put into has always been there: a
program that makes none need not think of them. A renamed one takes along what is in
it, as far as that is durable.

What it is not: it is not a file system. There are no symbolic links, no permissions,
no positions.
"""

from __future__ import annotations

import errno
import posixpath
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tornpage.call_site import site
from tornpage.choices import Replay
from tornpage.disk.clock import Clock, ClockCondition, ClockMutex
from tornpage.disk.file import DiskFile, failed
from tornpage.disk.folder import DiskFolder
from tornpage.disk.life import Life
from tornpage.disk.names import UNKNOWN
from tornpage.model import CrashModel, require_model
from tornpage.platter import transition
from tornpage.platter.entries import HERE, ROOT, is_directory, names_of
from tornpage.platter.image import Image
from tornpage.platter.pieces import Watch
from tornpage.trace import (
    Create,
    Link,
    Mark,
    Mkdir,
    Rename,
    Rmdir,
    SyncDir,
    Trace,
    Unlink,
    frozen,
)
from tornpage.uncovered import UnsupportedCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tornpage.choices import Chooser
    from tornpage.disk.clock import ClockTimer
    from tornpage.disk.life import SyncFault
    from tornpage.platter.parts import Parts
    from tornpage.platter.pieces import Place

__all__ = ["Disk", "DiskFile", "DiskFolder"]


class Disk:
    """A machine with files, a clock and locks, all simulated.

    Args:
        files: Durable files by name. Their bytes are shared, never copied. A name
            that ends with "/" is that of a directory, with nothing in it but what
            is given.
        model: What a crash of this disk may do; see `CrashModel`.
        known: Names that there have been in an earlier life, as `Image` takes them.
        links: Further names of files, each with one that is in `files`.

    Attributes:
        model: The same.
        trace: Every operation and mark so far.
        read_ahead: What files opened from here on say how many bytes are worth
            reading at once, for code that asks; 0 for none. It is for the program.
            After a crash it is 0: recovery that reads more than it needs tells more
            images apart.
        refused: What this disk was asked for and does not have, see `uncovered`.
        made_up: What it was asked for and has answered though it does not have it, as
            a clause by kind. Nothing is refused, but nothing is shown of it either.
        scripted: How often each fault of the scripts in front of it has happened so
            far, see `tornpage.faults.FaultyDisk`.
        crashed: Whether it is what a crash has left.
        used: Whether it had files when it was made.
        several_threads: Whether more than one thread used it, see
            `tornpage.patch.threads`.
        recovered_after: Operations that recovery took, see `recovered`; None: all.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        model: CrashModel | None = None,
        known: Iterable[str] | None = None,
        links: Mapping[str, str] | None = None,
    ) -> None:
        model = CrashModel() if model is None else require_model(model)
        if files is not None and not isinstance(files, Mapping):
            raise TypeError(f"files is a mapping of names to bytes, not {files!r}")
        named = {
            posixpath.normpath(path) + "/" * path.endswith("/"): data
            for path, data in (files or {}).items()
        }
        self._start(Life(Image(named, model, known, links), Replay(()), Watch()))
        self.used = bool(named)

    @classmethod
    def on_image(
        cls, image: Image, chooser: Chooser, watch: Watch | None = None
    ) -> Disk:
        """A disk just after a crash.

        Args:
            image: What the platter may hold. It is read, not changed, and must
                not be advanced while the disk is in use.
            chooser: Decides what the platter does hold.
            watch: Gets every piece that is consumed.
        """
        made = cls.__new__(cls)
        made._start(Life(image, chooser, watch if watch is not None else Watch()))
        made.crashed = made.used = True
        return made

    def _start(self, life: Life) -> None:
        self.model = life.model
        self.trace = Trace()
        self.read_ahead = 0
        self.refused: list[str] = []
        self.made_up: dict[str, str] = {}
        self.scripted: dict[str, int] = {}
        self.crashed = False
        self.used = False
        self.several_threads = False
        self.recovered_after: int | None = None
        self._life = life
        self._clock = Clock()

    def remember(self, parts: Parts) -> None:
        """Keep the answers of parts of questions, which must be about these files."""
        self._life.parts = parts

    @property
    def fail_sync(self) -> SyncFault | None:
        """Decides which syncs fail; None when all work. See the module's head."""
        return self._life.fail_sync

    @fail_sync.setter
    def fail_sync(self, fault: SyncFault | None) -> None:
        self._life.fail_sync = fault

    @property
    def read_only(self) -> bool:
        """Whether the file system went read-only after a failure."""
        return self._life.read_only

    # -- what a program calls ------------------------------------------------

    def open(
        self,
        path: str,
        /,
        *,
        read_only: bool = False,
        create: bool = False,
        exclusive: bool = False,
        perm: int = 0o600,  # noqa: ARG002 - there are no permissions here.
    ) -> DiskFile:
        """Get at a file by its name, as the system call of this name does.

        Raises:
            OSError: FileNotFoundError, FileExistsError, IsADirectoryError,
                NotADirectoryError.
        """
        path = posixpath.normpath(path)
        life = self._life
        inode = self._lookup(path)
        if inode is None:
            if not create:
                raise self._missing(path)
            self._writable(path)
            inode = life.create(self._into(path))
            self.trace.data.append(Create(path, inode, site(self.trace.plumbing)))
        elif create and exclusive:
            raise failed(errno.EEXIST, path)
        elif is_directory(inode):
            raise failed(errno.EISDIR, path)
        file = DiskFile(life, self.trace, life.node(inode, path), path, read_only)
        file.read_ahead = self.read_ahead
        return file

    def exists(self, path: str, /) -> bool:
        """Whether there is a file of this name."""
        number = self._lookup(posixpath.normpath(path))
        return number is not None and not is_directory(number)

    def is_dir(self, path: str, /) -> bool:
        """Whether there is a directory of this name, and one that is known of."""
        return is_directory(self._lookup(posixpath.normpath(path)))

    def open_dir(self, path: str, /) -> DiskFolder:
        """Get at a directory by its name, to sync it.

        Raises:
            OSError: FileNotFoundError, NotADirectoryError.
        """
        path = posixpath.normpath(path)
        return DiskFolder(self._life, self.trace, self._folder(path), path)

    def listdir(self, path: str, /) -> list[str]:
        """The names in a directory, sorted.

        Raises:
            OSError: FileNotFoundError, NotADirectoryError.
        """
        folder, life = self._folder(posixpath.normpath(path)), self._life
        names = life.names_in(folder)
        return [name for name in names if life.lookup((folder, name)) is not None]

    def rename(self, source: str, target: str, /) -> None:
        """Give a file or a directory another name, replacing what stood there.

        Of a directory everything that is in it goes along. It replaces a directory
        only when that is empty.

        Raises:
            OSError: As rename(2): FileNotFoundError, IsADirectoryError,
                NotADirectoryError; ENOTEMPTY, EINVAL into itself, EBUSY.
        """
        source, target = posixpath.normpath(source), posixpath.normpath(target)
        if {source, target} & {".", "/"}:
            raise failed(errno.EBUSY, source)
        number = self._lookup(source)
        if number is None:
            # The ways to both come first.
            problem = self._walk(source)[1] or self._walk(target)[1] or errno.ENOENT
            raise failed(problem, source)
        if target.startswith(f"{source}/") and is_directory(number):
            raise failed(self._walk(target)[1] or errno.EINVAL, target)
        old, new = self._into(source), self._into(target)
        if source.startswith(f"{target}/"):
            raise failed(errno.ENOTEMPTY, target)
        self._writable(source)
        there = self._life.lookup(new)
        if number == there:
            return
        if is_directory(there):
            if not is_directory(number):
                raise failed(errno.EISDIR, target)
            if self.listdir(target):
                raise failed(errno.ENOTEMPTY, target)
        elif there is not None and is_directory(number):
            raise failed(errno.ENOTDIR, target)
        self._life.name(new, number)
        self._life.name(old, None)
        self.trace.data.append(Rename(source, target, site(self.trace.plumbing)))

    def link(self, source: str, target: str, /) -> None:
        """Give a file one more name.

        Raises:
            OSError: As link(2): FileNotFoundError, FileExistsError, and
                PermissionError for a directory.
        """
        source, target = posixpath.normpath(source), posixpath.normpath(target)
        number = self._lookup(source)
        if number is None:
            raise self._missing(source)
        if self._lookup(target) is not None:
            raise failed(errno.EEXIST, target)
        place = self._into(target)
        if is_directory(number):
            raise failed(errno.EPERM, source)
        self._writable(source)
        self._life.name(place, number)
        self.trace.data.append(Link(source, target, site(self.trace.plumbing)))

    def unlink(self, path: str, /) -> None:
        """Remove a file's name.

        Raises:
            OSError: FileNotFoundError, IsADirectoryError.
        """
        path = posixpath.normpath(path)
        number = self._lookup(path)
        if number is None:
            raise self._missing(path)
        if is_directory(number):
            raise failed(errno.EISDIR, path)
        self._writable(path)
        self._life.name(self._into(path), None)
        self.trace.data.append(Unlink(path, site(self.trace.plumbing)))

    def mkdir(self, path: str, /) -> None:
        """Make an empty directory.

        Raises:
            OSError: FileExistsError, FileNotFoundError.
        """
        path = posixpath.normpath(path)
        if self._lookup(path) is not None:
            raise failed(errno.EEXIST, path)
        self._writable(path)
        self._life.make_folder(self._into(path))
        self.trace.data.append(Mkdir(path, site(self.trace.plumbing)))

    def rmdir(self, path: str, /) -> None:
        """Remove an empty directory.

        Raises:
            OSError: FileNotFoundError, NotADirectoryError, or ENOTEMPTY.
        """
        path = posixpath.normpath(path)
        if path in {".", "/"}:
            raise failed(errno.EBUSY, path)
        if self.listdir(path):
            raise failed(errno.ENOTEMPTY, path)
        self._writable(path)
        self._life.name(self._into(path), None)
        self.trace.data.append(Rmdir(path, site(self.trace.plumbing)))

    def assume_dir(self, path: str, /) -> None:
        """Say that a directory has been there, unless it was made or removed since.

        From then on there is nothing in it but what somebody put there: a directory
        in it that nobody has made is not there. Nothing is recorded.

        Raises:
            OSError: FileNotFoundError, NotADirectoryError: one above it is not there.
        """
        path = posixpath.normpath(path)
        if path not in {".", "/"}:
            self._life.assume_folder(self._into(path))

    def fsync_dir(self, path: str, /) -> None:
        """Make the entries of the directory that holds `path` durable.

        Raises:
            OSError: FileNotFoundError, NotADirectoryError, or `fail_sync` said so.
        """
        path = posixpath.normpath(path)
        self._into(path)
        result, number = self._life.sync_dir(path)
        self.trace.data.append(SyncDir(path, site(self.trace.plumbing), result))
        if number:
            raise failed(number, path)

    def _lookup(self, path: str) -> int | None:
        """What there is at a path: a file, a directory or None."""
        if path in {".", "/"}:
            return HERE if path == "." else ROOT
        place, number = self._walk(path)
        return None if number else self._life.lookup(place)

    def _walk(self, path: str, *, find: bool = False) -> tuple[Place, int]:
        """The place of a path; or what is wrong with the way there, an errno.

        Args:
            path: Normalised.
            find: Whether directories that nobody spoke of are taken to have been
                there, because something is put into them.
        """
        if "/" not in path:
            return (HERE, path), 0
        life = self._life
        folder, names = names_of(path)
        *outer, last = names or [""]
        for name in outer:
            place = folder, name
            inner = life.folder(place)
            if inner == UNKNOWN and find:
                inner = life.find_folder(place)
            if inner is None or inner == UNKNOWN:
                return place, errno.ENOENT
            if not is_directory(inner):
                return place, errno.ENOTDIR
            folder = inner
        return (folder, last), 0

    def _into(self, path: str) -> Place:
        """The place of a path that something is done to."""
        place, number = self._walk(path, find=True)
        if number:
            raise failed(number, path)
        return place

    def _folder(self, path: str) -> int:
        """The directory at a path."""
        number = self._lookup(path)
        if number is None:
            raise self._missing(path)
        if not is_directory(number):
            raise failed(errno.ENOTDIR, path)
        return number

    def _missing(self, path: str) -> OSError:
        """The error of a path at which there is nothing."""
        return failed(self._walk(path)[1] or errno.ENOENT, path)

    def _writable(self, path: str) -> None:
        if self._life.read_only:
            raise failed(errno.EROFS, path)

    def refuse(self, message: str) -> UnsupportedCallError:
        """The error to raise when something is asked for that is not here."""
        self.refused.append(message)
        return UnsupportedCallError(message)

    def mark(self, label: str, /, **data: Any) -> None:
        """Note in the trace that something was begun, promised or reached."""
        self.trace.data.append(
            Mark(
                label,
                tuple(sorted((k, frozen(v)) for k, v in data.items())),
                site=site(self.trace.plumbing),
            )
        )

    def recovered(self) -> None:
        """Say that recovery ends here, and what follows only tries the store out.

        A crash during recovery (`CrashModel.crashes`) comes at no later operation. A
        recovery that goes on with what a user would do, another commit say, promises
        things by it that are not known to whoever judges.
        """
        if self.recovered_after is None:
            self.recovered_after = len(self.trace.operations())

    def monotonic(self) -> float:
        """Seconds on the simulated clock."""
        return self._clock.now

    def sleep(self, seconds: float, /) -> None:
        """Advance the simulated clock."""
        self._clock.sleep(seconds)

    def pid(self) -> int:
        """The process id; the same in every life."""
        return 1

    def thread_id(self) -> int:
        """Identifies the calling thread."""
        return threading.get_ident()

    def mutex(self) -> ClockMutex:
        """A new lock between threads; not reentrant."""
        return ClockMutex(self._clock)

    def condition(self) -> threading.Condition:
        """A new condition variable."""
        return ClockCondition(self._clock)

    def timer(self, seconds: float, call: Callable[[], None], /) -> ClockTimer:
        """Make `call` when the simulated clock has advanced by `seconds`."""
        return self._clock.timer(seconds, call)

    # -- what happens to it --------------------------------------------------

    def kill(self) -> None:
        """The process dies, the power stays: nothing is lost.

        Every open file is closed and every lock released. What was written is
        in the page cache still, and as little durable as before.
        """
        self._life.kill()

    def image(self, operations: int | None = None) -> Image:
        """What the platter may hold after some of the operations of this life.

        Args:
            operations: How many; None means all.

        Returns:
            A new image; what was decided in this life is decided in it.

        Raises:
            IndexError: Fewer than none.
        """
        issued = self.trace.operations()
        if operations is not None:
            if operations < 0:
                raise IndexError(f"there is no crash behind {operations} operations")
            issued = issued[:operations]
        image = self._life.image()
        for record in issued:
            transition.apply(image, record)
        return image

    def crash(self, chooser: Chooser, operations: int | None = None) -> Disk:
        """The disk as it is found after losing power.

        Args:
            chooser: Decides what the platter holds.
            operations: How many of this life's operations had been issued;
                None means all. The last one may or may not have arrived,
                unless it is a sync, which had ended.

        Raises:
            IndexError: Fewer than none.
        """
        return Disk.on_image(self.image(operations), chooser)
