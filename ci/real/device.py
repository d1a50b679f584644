# ruff: noqa: ARG002 - FUSE hands over more than is needed.
"""A block device that remembers each request, and that can be told to fail.

    file system  --bio-->  loop device  --write, fsync-->  one file in FUSE
                                                           |
                 this program  <--pipe--  a process that keeps the file in memory

A loop device advertises a volatile write cache: what the file system writes comes
as a write of the file, a flush (or a write with FUA) as an fsync of it. FUSE hands
both to a process of ours, one after the other, uncached (`direct_io`). So its
record is what a drive is told, in the order in which it is told. (But for the flush
that a loop device makes by itself when it is attached: no file system asked for that,
and nobody hears how it went. It is `unrecorded`.)

What it is not: a drive. It loses nothing itself; what a drive may have lost is made
of the record afterwards (`ci.real.images`).

Nothing here can wait for itself. The process serves from memory and opens no file
after it has begun; the file system under test is never touched by it. If it dies,
the kernel aborts the FUSE connection and all requests fail with EIO, so that the
file system above can still be unmounted. If the program dies, it unmounts all.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import mmap
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

__all__ = ["Fault", "Recorder", "Request", "missing", "recorder"]

_PUNCH = 0x02
"""FALLOC_FL_PUNCH_HOLE, how a loop device passes a discard on."""

_START_SECONDS = 20.0

_ABANDONED = 'umount -l "$1"/root; umount -l "$1"/device; rm -rf --one-file-system "$1"'
"""What is left to do when the program above was killed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the device.

    Attributes:
        offset: Of a write, in bytes; -1 for a flush.
        data: What is written; zeros for a discard.
        failed: The errno that it was answered with, 0 when it was done.
    """

    offset: int
    data: bytes
    failed: int = 0

    @property
    def is_flush(self) -> bool:
        """Whether it makes what was written before it durable."""
        return self.offset < 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Which requests are to fail.

    Attributes:
        after: How many requests are let through first, counted from the call that
            tells of it.
        count: How many fail in a row.
        number: The errno.
        holding: Only writes that hold these bytes count, and nothing else; with
            b"" every request does.
        flushes: Only flushes count.
    """

    after: int = 0
    count: int = 1
    number: int = errno.EIO
    holding: bytes = b""
    flushes: bool = False

    def concerns(self, request: Request) -> bool:
        """Whether a request counts."""
        if self.flushes:
            return request.is_flush
        return not self.holding or self.holding in request.data


class _Device:
    """The file system of one file, as mfusepy calls it; memory only."""

    use_ns = True

    def __init__(self, base: str) -> None:
        with open(base, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self._base = os.dup(file.fileno())
        self._lock = threading.Lock()
        self._recording = True
        self.reset()

    def reset(self) -> None:
        """The base image again, and nothing recorded."""
        with self._lock:
            # A private mapping: what is written stays in this process.
            self._memory = mmap.mmap(self._base, self.size, access=mmap.ACCESS_COPY)
            self._record: list[Request] = []
            self._fault: Fault | None = None
            self._counted = 0

    def arm(self, fault: Fault | None) -> int:
        """Let requests fail from now on; how many have so far."""
        with self._lock:
            self._fault, self._counted = fault, 0
            return sum(bool(one.failed) for one in self._record)

    def record(self, on: bool) -> None:
        """Whether requests are recorded from now on, and can fail."""
        with self._lock:
            self._recording = on

    def length(self) -> int:
        """How many requests there were."""
        with self._lock:
            return len(self._record)

    def taken(self) -> list[Request]:
        """What was recorded."""
        with self._lock:
            return list(self._record)

    def _enter(self, offset: int, data: bytes) -> None:
        """Record a request, and do it unless it is to fail.

        Raises:
            OSError: It is to fail.
        """
        with self._lock:
            if self._recording:
                failed, fault = 0, self._fault
                if fault is not None and fault.concerns(Request(offset, data)):
                    at, self._counted = self._counted, self._counted + 1
                    if fault.after <= at < fault.after + fault.count:
                        failed = fault.number
                self._record.append(Request(offset, data, failed))
                if failed:
                    raise OSError(failed, os.strerror(failed))
            if offset >= 0:
                self._memory[offset : offset + len(data)] = data

    # The calls of FUSE, by the names that mfusepy looks for.

    def init(self, path: str) -> None:
        """Nothing to begin with."""

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """A directory with one file."""
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path != "/image":
            raise OSError(errno.ENOENT, path)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self.size}

    def open(self, path: str, flags: int) -> int:
        """Open the file."""
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Read what was written last."""
        with self._lock:
            return self._memory[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Write, into the drive's cache."""
        self._enter(offset, bytes(data))
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """Flush the drive's cache."""
        self._enter(-1, b"")
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        """A discard is a write of zeros here."""
        if not mode & _PUNCH:
            raise OSError(errno.EOPNOTSUPP, path)
        self._enter(offset, bytes(size))
        return 0


def _serve(base: str, place: str, pipe: Connection) -> None:
    """What the process does: FUSE in the main thread, questions in another."""
    fuse: Any = importlib.import_module("mfusepy")
    device = _Device(base)

    def answer() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                name, *arguments = pipe.recv()
                pipe.send(getattr(device, name)(*arguments))
        # Nobody is left who would unmount: the program was killed. This process
        # goes on serving until it is unmounted itself.
        subprocess.Popen(["sh", "-c", _ABANDONED, "sh", os.path.dirname(place)])

    threading.Thread(target=answer, daemon=True).start()
    fuse.FUSE(
        device, place, foreground=True, nothreads=True, direct_io=True,
        fsname="recorded-device",
    )  # fmt: skip


def missing() -> str:
    """Why no such device can be made here; empty if it can."""
    if os.geteuid():
        return "mounting needs root"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "there is no /dev/loop-control"
    if importlib.util.find_spec("mfusepy") is None:
        return "mfusepy is not installed (pip install mfusepy; apt install libfuse2)"
    try:
        importlib.import_module("mfusepy")
    except (OSError, AttributeError) as error:
        return f"mfusepy does not load: {error} (apt install libfuse2)"
    return ""


class Recorder:
    """The device as this program sees it.

    Attributes:
        path: The file to lay a loop device over.
    """

    def __init__(self, path: str, pipe: Connection) -> None:
        self.path = path
        self._pipe = pipe

    def _ask(self, *question: Any) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()

    def length(self) -> int:
        """How many requests there were."""
        return int(self._ask("length"))

    def taken(self) -> list[Request]:
        """The requests, in order."""
        taken: list[Request] = self._ask("taken")
        return taken

    def arm(self, fault: Fault | None) -> int:
        """Let requests fail from now on, or none; how many have failed so far."""
        return int(self._ask("arm", fault))

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """While entered, requests are done and not recorded, and none fails."""
        self._ask("record", False)
        try:
            yield
        finally:
            self._ask("record", True)

    def reset(self) -> None:
        """The base image again; nothing may be mounted."""
        self._ask("reset")


@contextlib.contextmanager
def recorder(base: str, place: str) -> Iterator[Recorder]:
    """A device that begins as a copy of the file `base`, mounted on `place`.

    Raises:
        RuntimeError: It did not begin to serve.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(base, place, theirs), daemon=True)
    process.start()
    theirs.close()
    path = os.path.join(place, "image")
    try:
        limit = time.monotonic() + _START_SECONDS
        while not os.path.exists(path):
            if not process.is_alive() or time.monotonic() > limit:
                raise RuntimeError("the recorded device did not begin to serve")
            time.sleep(0.01)
        yield Recorder(path, ours)
    finally:
        # Lazily, as the last resort: an abandoned mount is worse than a leaked one.
        for options in ([], ["-l"]):
            if not os.path.ismount(place):
                break
            subprocess.run(["umount", *options, place], check=False, timeout=30)
        process.join(5)
        if process.is_alive():
            print("the recorded device had to be killed", file=sys.stderr)
            process.kill()
            process.join(5)
        ours.close()
