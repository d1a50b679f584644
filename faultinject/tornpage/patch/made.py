"""The files that code leaves on an empty disk, for a run to begin with.

Theory
======
    process  --fork-->  copy: empty disk, make(root), all files  --pipe-->  process

A store that made its files in this process might remember them: its recovery would know
what no process knows after a crash, and be taken for better than it is. So they are
made in a copy of the process, of which nothing stays but their bytes.

What is left is taken for durable, whatever was synced: this is what was there long
before the run.

What it is not: for files with several names. A run begins with files by name, and there
each name would have a file of its own, so it is refused.
"""

from __future__ import annotations

import os
import pickle
import posixpath
import select
import signal
import warnings
from typing import TYPE_CHECKING, Any, Final

from tornpage.call_site import raised_at
from tornpage.disk.simulated import Disk
from tornpage.patch.block import patched
from tornpage.subject import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["files_made"]

_SECONDS: Final = 120
_CHUNK: Final = 1 << 16

# Under test os has the disk's, which refuses these.
_fork: Final[Callable[[], int] | None] = getattr(os, "fork", None)
_exit: Final = os._exit


def files_made(make: Callable[[Any], object], root: str | None) -> dict[str, bytes]:
    """What a function leaves.

    Args:
        make: Called with the root, or the disk where there is none.
        root: Where the disk is to be found; None: nowhere.

    Returns:
        Bytes by name; the name of a directory ends with "/".

    Raises:
        SubjectError: It raised, asked for what the simulated disk has not, left a
            thread running, or did not return within two minutes.
    """
    if _fork is None:
        made = _answer(make, root)
    else:
        made = pickle.loads(_of_a_copy(_fork, make, root))  # noqa: S301 - its own.
    if isinstance(made, str):
        raise SubjectError(f"files: {made}")
    files: dict[str, bytes] = made
    return files


def _of_a_copy(
    fork: Callable[[], int], make: Callable[[Any], object], root: str | None
) -> bytes:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Of threads that hold a lock: then the copy is ended after a while.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy = fork()
    if not copy:
        try:
            os.close(reader)
            with open(writer, "wb") as pipe:
                pickle.dump(_answer(make, root), pipe)
        finally:
            _exit(0)
    os.close(writer)
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    try:
        while poll.poll(_SECONDS * 1000):
            if not (part := os.read(reader, _CHUNK)):
                break
            parts.append(part)
        else:
            os.kill(copy, signal.SIGKILL)
            raise SubjectError(f"files: it has not returned after {_SECONDS} s")
    finally:
        os.close(reader)
        os.waitpid(copy, 0)
    if not parts:
        raise SubjectError("files: the process that it was called in has ended")
    return b"".join(parts)


def _answer(make: Callable[[Any], object], root: str | None) -> dict[str, bytes] | str:
    """The files, or why there are none."""
    disk = Disk()
    try:
        if root is None:
            make(disk)
        else:
            with patched(disk, root) as place:
                make(place)
    except BaseException as error:  # noqa: BLE001 - the copy ends with it.
        if disk.refused:
            return disk.refused[0]
        return f"it raised {type(error).__name__} at {raised_at(error)}: {error}"
    if disk.refused:
        return disk.refused[0]
    tops = ("/", ".") if root is None else (posixpath.normpath(root),)
    files: dict[str, bytes] = {}
    names: dict[int, str] = {}
    for name, inode, data in (one for top in tops for one in _below(disk, top)):
        if inode and names.setdefault(inode, name) != name:
            return (
                f"{names[inode]} and {name} are one file, and a run begins with a file"
                " for each name: have run link them"
            )
        files[name] = data
    return files


def _below(disk: Disk, folder: str) -> Iterator[tuple[str, int, bytes]]:
    """What is in a folder: name, inode (0 of a folder), bytes."""
    for name in disk.listdir(folder):
        path = posixpath.normpath(posixpath.join(folder, name))
        if disk.is_dir(path):
            yield f"{path}/", 0, b""
            yield from _below(disk, path)
        else:
            file = disk.open(path, read_only=True)
            yield path, file.identity()[1], file.pread(file.size(), 0)
            file.close()
