"""Storage code that uses `open` and `os`, run on a simulated disk in process.

    with patched(disk, "/db") as root:
        with open(f"{root}/x", "wb") as file:     # the disk's
            file.write(b"1")
            os.fsync(file.fileno())               # the disk's
        open("/etc/hosts").close()                # the machine's

For as long as the block lasts, these functions look at the path or descriptor that
they are given, and go to the disk when it is of the disk:

    builtins, io   open
    os             open fdopen close closerange dup read write pread pwrite readv
                   writev preadv pwritev lseek fsync fdatasync sync ftruncate truncate
                   fstat isatty stat lstat access chmod fchmod chown fchown lchown
                   utime rename replace link unlink remove mkdir makedirs rmdir listdir
                   scandir walk fwalk listxattr sendfile copy_file_range posix_fadvise
                   get_inheritable set_inheritable get_blocking device_encoding, and
                   dir_fd=
    shutil         rmtree
    os.path        exists lexists isfile isdir getsize and what stands on os.stat
    fcntl          flock (of files) lockf fcntl (flags)
    mmap           mmap, for reading, of files that do not change meanwhile
    sqlite3        all that SQLite does with its files (`sqlite`)
    time           time time_ns, and what asks them: localtime gmtime ctime asctime
                   strftime (`surroundings`)
    os, random     urandom, and what draws from it: uuid.uuid4, secrets; the functions
                   of random, but for the generators that code makes for itself
    ctypes         fsync fdatasync sync of the C library (`foreign`)

and with them what is made of them: pathlib, shutil's moves and copies, tempfile, whose
names are a fixed sequence meanwhile. The replacements and what they do are in
`replacements`. Where code keeps a function it has the replacement, too:

    from os import fsync           a name of a module, an attribute of a class, a
                                   default: given back when the block ends (`kept`)
    self._sync = os.fsync          an object, a closure, a list, a partial call: found
                                   by the collector, and given a stand-in that is the
                                   real function outside of all blocks (`held`)
    map(os.fsync, descriptors)     an iterator of C, a cache's results, a variable of a
                                   suspended generator or a running function: nothing
                                   can be put there, so the block is refused

Given such a path or descriptor, others are not left to the machine: they raise
`UnsupportedCallError`, and whoever judges says "unverifiable", even if the store
catches that and goes on. What reaches the machine past the patch is refused in the
same way (`audit`): io.FileIO, functions that nobody was seen to hold. So are other
processes begun by code under test (os.fork, subprocess, os.system), the end of this one
(os._exit) and memory that outlives it (multiprocessing.shared_memory). And the machine
itself refuses: simulated descriptors are numbers that no process has, and the root must
not exist. No call can touch a real file by mistake.

Limits
------
* What C code does with files by itself, SQLite excepted, is not seen: an extension
  module, cffi, a function that one has in a static variable, or one that is had by a
  weak reference. The calls fail with EBADF or ENOENT, for the machine has no such file.
  What leaves the block because of that is refused (`past`), and so is a root that has
  come to be on the machine. Of what the code swallows the sign is that no operation of
  it is in the story.
* A directory is synced by os.fsync of its descriptor, which makes its entries durable;
  itself it is an entry of the one above, and lost with all that is in it as long as
  that one is not synced. The root was there before.
* Files that are not under the root are the machine's, and outlive every crash. What one
  execution has put into one no later execution may read (`elsewhere`).
* There are no times, owners, permissions or symbolic links: os.stat has 0 for times,
  and 1 for the number of names, and chmod, chown and utime do nothing. A store that
  decides by these does not decide as on the machine.
* The clock and chance are made up, see `surroundings`: a clock that stands still or
  goes back is not covered.
* A lock of lockf is the process's, and as on Linux it never gets in its own way; one of
  flock is an open file's.
* select and poll do not know the disk's descriptors. On the machine a file is always
  ready.
* A file that is still open when the block ends belongs to a process that is gone:
  what was in its buffers never reaches the disk.
* Threads share the block. All of them have to end with it (`threads`), and of
  their schedules only the one that happened is covered.
* One block at a time, in a process.
"""

from __future__ import annotations

import _io
import _thread
import io
import os
import posix
import posixpath
import threading
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from tornpage.call_site import raised_at
from tornpage.disk.simulated import Disk
from tornpage.holders import identity
from tornpage.patch.audit import watched
from tornpage.patch.calls import Calls
from tornpage.patch.foreign import followed, replace_all
from tornpage.patch.held import Held
from tornpage.patch.kept import Kept, Pair, Place
from tornpage.patch.past import asked_of_the_machine
from tornpage.patch.replacements import replacements
from tornpage.patch.stand_ins import IN_FORCE, StandIn, made_for
from tornpage.subject import SubjectError
from tornpage.trace import Trace
from tornpage.uncovered import UnsupportedCallError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "NUMBERS",
    "PatchError",
    "UnsupportedCallError",
    "look_around",
    "patched",
    "stand_in",
]

# The line that is blamed for an operation is the line that called these.
_PLUMBING = frozenset(
    {
        "<frozen genericpath>",
        "<frozen os>",
        "<frozen posixpath>",
        "_abc.py",
        "_local.py",
        "contextlib.py",
        "genericpath.py",
        "os.py",
        "pathlib.py",
        "pathlib/__init__.py",
        "posixpath.py",
        "shutil.py",
        "tempfile.py",
    }
)

# Where other modules have their functions from.
_BENEATH: Final[Mapping[ModuleType, tuple[ModuleType, ...]]] = {
    io: (_io,),
    os: (posix,),
}

NUMBERS = (os.getpid, os.getppid, threading.get_native_id)
"""What tells a process its own numbers. Blocks leave them as they are."""

_active = threading.Lock()
_kept = Kept(NUMBERS)
_held = Held()


class PatchError(SubjectError, RuntimeError):
    """A disk cannot be patched in here; the message says why."""


@contextmanager
def patched(disk: Disk, root: str = "/db") -> Iterator[str]:
    """While entered, paths under `root` are files of the disk.

    Args:
        disk: The disk. Its names are the absolute paths.
        root: An absolute path that does not exist on this machine.

    Yields:
        The root, normalised.

    Raises:
        PatchError: A disk is patched in already, or the root will not do.
        UnsupportedCallError: At the end, when nothing else is raised: something that
            the disk does not have was asked for, even if the code went on without.
    """
    root = posixpath.normpath(os.fsdecode(root))
    if not root.startswith("/") or root in {"/", "//"}:
        raise PatchError(f"{root!r}: the root is an absolute path below /")
    if os.path.lexists(root):
        raise PatchError(
            f"{root} exists on this machine; a call that is not patched could change"
            " it: take a path that does not exist"
        )
    if not isinstance(getattr(disk, "trace", None), Trace):
        raise PatchError(f"disk is a tornpage.Disk, not {disk!r}")
    if not _active.acquire(blocking=False):
        raise PatchError("a disk is patched in already: leave that block first")
    try:
        disk.trace.plumbing |= _PLUMBING
        known = len(disk.refused)
        try:
            with _put_in_place(Calls(disk, root)):
                yield root
        except Exception as error:
            _require_answered(disk, root, error)
            raise
        finally:
            _require_absent(disk, root)
        if refused := disk.refused[known:]:
            # Whoever is under test may have swallowed it, and gone on.
            raise UnsupportedCallError(refused[0])
    finally:
        _active.release()


def _require_answered(disk: Disk, root: str, error: Exception) -> None:
    """The disk has answered whatever the code under test has asked of it."""
    past = asked_of_the_machine(error, root, crashed=disk.crashed)
    if past is None:
        return
    raise disk.refuse(
        f"{type(past).__name__} at {raised_at(past, disk.trace.plumbing)}:"
        f" {str(past).strip() or '(no message)'}; code in C has raised that, and what"
        " it does with files by itself is not simulated: only open, os and what is made"
        " of them are"
    ) from error


def _require_absent(disk: Disk, root: str) -> None:
    """Nothing has come to the machine that the disk should have had."""
    if os.path.lexists(root):
        # Not raised: what leaves the block is looked at first, and there this counts.
        disk.refuse(
            f"{root} has been made on this machine, by code that the patch does not"
            " reach: what is in it is no file of the simulated disk, and is left to you"
        )


def look_around() -> None:
    """Look up who keeps functions; call it where no bug is planted."""
    if not _active.locked():
        replace_all()
        # No path and no descriptor is asked for.
        replaced = [*_replaced(Calls(Disk(), "/db"), {})]
        functions = _functions(replaced)
        _kept.look_at_names(functions)
        replaced += _kept.places(functions)
        try:
            for place in replaced:
                place.replace()
            _have_held(functions, replaced)
        finally:
            for place in reversed(replaced):
                place.put_back()


def stand_in(functions: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
    """Replace some of `NUMBERS` where they were found, for good.

    Args:
        functions: What to put in the place of each.
    """
    for place in _kept.places([Pair(*both) for both in functions.items()]):
        place.replace()


def _made() -> dict[tuple[str, str], StandIn]:
    """The stand-ins, by module and name."""
    return {
        (owner.__name__, name): made_for(vars(owner)[name])
        for owner, name, _ in replacements(Calls(Disk(), "/db"))
        # threading's own begins the threads that are followed.
        if isinstance(owner, ModuleType) and owner is not _thread
        if callable(vars(owner)[name]) and not isinstance(vars(owner)[name], type)
    }


_stand_ins: Final = _made()


def _replaced(patch: Calls, in_force: dict[int, Callable[..., Any]]) -> Iterator[Place]:
    """What is replaced by its name.

    Args:
        patch: The disk's calls.
        in_force: Is given what is done instead, by the real function's identity.
    """
    for owner, name, ours in replacements(patch):
        has = vars(owner)[name]
        one = _stand_ins.get((owner.__name__, name))
        if one is None:
            yield Place(owner, name, has, ours)
            continue
        in_force[identity(one.real)] = ours
        # Where a test has put back what it had found, that may be the stand-in.
        yield Place(owner, name, one.real if has is one else has, one)
        for module in _BENEATH.get(owner, ()):
            if vars(module).get(name) is one.real:
                yield Place(module, name, one.real, one)


def _functions(replaced: Sequence[Place]) -> list[Pair]:
    """What is replaced, whoever has it."""
    return [
        *(Pair(one.real, one) for one in dict.fromkeys(_stand_ins.values())),
        *(
            Pair(place.has, place.put)
            for place in replaced
            if isinstance(place.has, type) and isinstance(place.owner, ModuleType)
        ),
    ]


def _have_held(functions: Sequence[Pair], replaced: list[Place]) -> tuple[str, ...]:
    """Have whoever holds a real function hold its stand-in.

    Args:
        functions: What is replaced, whoever has it.
        replaced: What was replaced by its name. What is found to be is added.

    Returns:
        Who holds one where that cannot be.
    """
    if not _held.more(_references(functions, replaced)):
        return ()
    # A name that a module got since it was looked at is given back like the others.
    _kept.look_again(functions)
    for place in list(_kept.places(functions)):
        replaced.append(place)
        place.replace()
    own = _references(functions, replaced)
    return _held.replace(_held.more(own), own)


def _references(functions: Sequence[Pair], replaced: Sequence[Place]) -> Counter[int]:
    """How often tornpage refers to each real function, by its identity."""
    own = _kept.references()
    own.update(identity(one.real) for one in functions)
    own.update(identity(place.has) for place in replaced)
    return own


@contextmanager
def _put_in_place(patch: Calls) -> Iterator[None]:
    """While entered, the replacements stand where the real functions stood."""
    in_force: dict[int, Callable[..., Any]] = {}
    replaced = [*_replaced(patch, in_force)]
    functions = _functions(replaced)
    replaced += _kept.places(functions)
    raised = True
    try:
        IN_FORCE.update(in_force)
        for place in replaced:
            place.replace()
        refused = _have_held(functions, replaced)
        if refused:
            raise patch.disk.refuse(
                f"functions of os and the like are held by {'; '.join(refused)}, where"
                " nothing can be put in their place: have the store keep them in a"
                " module, a class, an object or a closure"
            )
        with watched(patch), followed(patch), patch.surroundings.drawn():
            yield
            raised = False
            patch.threads.end(raised=False)
    finally:
        if raised:
            patch.threads.end(raised=True)
        patch.alive = False
        for place in reversed(replaced):
            place.put_back()
        IN_FORCE.clear()
        _kept.put_back(functions)
        # A traceback may hold on to these lists, and they to the real functions.
        replaced.clear()
        functions.clear()
        patch.sqlite.end()
