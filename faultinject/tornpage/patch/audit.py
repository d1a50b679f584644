"""What reaches the machine past the patch, seen by the interpreter's audit events.

Theory
======
A patch replaces names. Whoever got hold of a function before has the real one, and
classes like io.FileIO have no name that could be replaced. The real function fails,
because nothing is there, and a store may take that for an empty disk and go on. Before
it fails, the interpreter tells its audit hooks:

    real os.unlink("/db/x")  --"os.remove"-->  hook  --under the root?-->  refused
    os.fork(), os.system()   --"os.fork"---->  hook  --code under test?->  refused
    open("/tmp/x")           --"open"------->  hook  --code under test?->  `elsewhere`

A path under the root is nobody else's, whatever thread gives it. Another process is the
business of a thread of the code under test only (`threads`), and so is a file that is
not under the root: a test runner in the same process may begin or open some meanwhile.

An audit hook cannot be taken away again. It is added when the first disk is patched in,
and while none is looks at nothing but names that ctypes looks up (`foreign`).

What it is not: complete. os.read, os.write, os.fsync, os.stat and os.access have no
audit event (`kept` and `held` find who has those), and neither have ctypes' calls
(`foreign`) and C code that opens files by itself.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from tornpage.call_site import site
from tornpage.patch.foreign import looked_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tornpage.patch.calls import Calls

__all__ = ["watched"]

# Where the arguments of an event are paths or descriptors. Others are numbers, too.
_PLACES: Final[Mapping[str, tuple[int, ...]]] = {
    "fcntl.fcntl": (0,),
    "fcntl.flock": (0,),
    "fcntl.ioctl": (0,),
    "fcntl.lockf": (0,),
    "mmap.__new__": (0,),
    "open": (0,),
    "os.chdir": (0,),
    "os.chmod": (0, 2),
    "os.chown": (0, 3),
    "os.getxattr": (0,),
    "os.link": (0, 1, 2, 3),
    "os.listdir": (0,),
    "os.listxattr": (0,),
    "os.lockf": (0,),
    "os.mkdir": (0, 2),
    "os.remove": (0, 1),
    "os.removexattr": (0,),
    "os.rename": (0, 1, 2, 3),
    "os.rmdir": (0, 1),
    "os.scandir": (0,),
    "os.setxattr": (0,),
    "os.symlink": (0, 1, 2),
    "os.truncate": (0,),
    "os.utime": (0, 3),
    "socket.bind": (1,),
    "socket.connect": (1,),
}

_PROCESSES: Final = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "subprocess.Popen",
    }
)

_BEGINNING_PROCESSES: Final = frozenset({"subprocess.py"})

# Functions of the C library; outside of blocks, too.
_LOOK_UPS: Final = frozenset({"ctypes.dlsym", "ctypes.dlsym/handle"})

# What tells of files that an execution may leave to a later one (`elsewhere`).
_FILES: Final = frozenset({"open", "os.link", "os.rename", "os.symlink"})

_LONGEST = 120

_ADDRESS = "file:"


class _Hook:
    """What is told of events: the process's only one, because it stays."""

    __slots__ = ("_added", "_ended", "patch")

    def __init__(self) -> None:
        self._added = self._ended = False
        self.patch: Calls | None = None

    def add(self) -> None:
        """Have it told, from the first time on."""
        if not self._added:
            sys.addaudithook(self.told)
            atexit.register(self._end)
            self._added = True

    def _end(self) -> None:
        self._ended = True

    def told(self, event: str, given: tuple[Any, ...]) -> None:
        """Refuse what went past the patch."""
        if self._ended:
            # The interpreter takes modules' names away, and still tells of events.
            return
        if event in _LOOK_UPS:
            looked_up(given[1])
        patch = self.patch
        if patch is None:
            return
        if event == "sqlite3.connect":
            _connecting(patch, given)
            return
        places = _PLACES.get(event)
        if places is not None:
            for at in places:
                if at < len(given) and _of_the_disk(patch, given[at]):
                    raise patch.disk.refuse(
                        f"{_said(event, given)} went to the machine past the patch, at"
                        f" {site(patch.disk.trace.plumbing)}: only open, os and what is"
                        " made of them are simulated"
                    )
            if event in _FILES and patch.threads.own():
                _elsewhere(patch, event, given)
        elif event in _PROCESSES and patch.threads.own():
            plumbing = patch.disk.trace.plumbing | _BEGINNING_PROCESSES
            raise patch.disk.refuse(
                f"{_said(event, given)}, at {site(plumbing)}: what another process does"
                " is not simulated"
            )


def _connecting(patch: Calls, given: tuple[Any, ...]) -> None:
    """Have sqlite3 use the disk, or say that it cannot."""
    own, ours = patch.threads.own(), _of_the_disk(patch, given[0])
    if ours and _names_a_vfs(given[0]):
        raise patch.disk.refuse(
            f"{_said('sqlite3.connect', given)} names the VFS to use, and the disk has"
            " its own"
        )
    if (own or ours) and not patch.sqlite.connecting() and ours:
        raise patch.disk.refuse(
            f"{_said('sqlite3.connect', given)} went to the machine past the patch:"
            " this Python has SQLite inside, where its functions cannot be reached"
        )
    if own and not ours:
        _elsewhere(patch, "sqlite3.connect", given)


def _elsewhere(patch: Calls, event: str, given: tuple[Any, ...]) -> None:
    """Tell of a file of the machine's own."""
    if event == "open":
        patch.elsewhere.opened(given[0], given[2])
    elif event in _FILES:
        patch.elsewhere.named(given[1])
    elif given[0] != ":memory:":
        patch.elsewhere.opened(_file_of(given[0]), os.O_RDWR | os.O_CREAT)


def _of_the_disk(patch: Calls, place: Any) -> bool:
    place = _file_of(place)
    try:
        return patch.ours(place) or patch.mine(place) is not None
    except OSError:
        # A path that is relative to a directory that was removed.
        return False


def _file_of(place: Any) -> Any:
    """The file of an address that SQLite takes; anything else as it is."""
    if not isinstance(place, str) or not place.startswith(_ADDRESS):
        return place
    path = re.split("[?#]", place.removeprefix(_ADDRESS), maxsplit=1)[0]
    if path.startswith("//"):
        # What is between these and the next one is nothing, or this machine.
        path = "/" + path[2:].partition("/")[2]
    return unquote(path)


def _names_a_vfs(place: Any) -> bool:
    if not isinstance(place, str) or not place.startswith(_ADDRESS):
        return False
    query = place.partition("#")[0].partition("?")[2]
    return any(unquote(one).startswith("vfs=") for one in query.split("&"))


def _said(event: str, given: tuple[Any, ...]) -> str:
    text = ", ".join(map(repr, given))
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 3]}..."
    return f"{event}({text})"


@contextmanager
def watched(patch: Calls) -> Iterator[None]:
    """While entered, what goes to the machine and is of this disk is refused."""
    _hook.add()
    _hook.patch = patch
    try:
        yield
    finally:
        _hook.patch = None


_hook: Final = _Hook()
