"""A process as it was, to do something in: a copy that was set aside in time.

Theory
======
Code under test may keep things in its process: a cache in a module, an open file in a
class. Whether recovery leans on them shows only where they are not. So before the
first program is run the process is copied, and the copy set aside. It does nothing but
wait, and for everything that it is asked it makes a copy of itself:

    process  --fork--> copy set aside                (nothing was run yet)
       |                 |
    programs run,        |
    caches fill          |
       |----- ask ------>|--fork--> does it, answers, ends
       |<---- answer ----|

A fork and not a new interpreter: a subject may be an object that has no name, of a
class that a test made, in a process that somebody has patched. A copy has all that as
it is, in 5 ms; an interpreter would have to import it, in 500. Code that a copy has not
run is slow there for the first time, so a copy may do several things.

What a copy must not do is what its original will do, too:

* nothing is flushed, and no handler of the exit runs: it ends with os._exit. Objects
  that were there are hidden from the collector, whose finalizers write. What it prints
  goes nowhere.
* pipes and sockets of the original are closed: somebody may wait for their end. Their
  numbers lead nowhere, so that no file of the copy gets one of them.
* a signal is no business of it: handlers are reset, and it has a session of its own, so
  that Ctrl-C does not reach it. When the original is gone, it ends. Where SIGCHLD was
  ignored, as under some supervisors, nobody could wait for a copy of the copy.
* os.getpid and its like have the numbers of the original, also where code keeps them
  from an import: to the code under test it is that process.

Threads of the original are not copied. What they held when the process was copied is
held for ever in the copy, which is why Python warns of such forks. Here that can cost
an answer and nothing else: one that does not come in time is said to be missing, with
the names of these threads, and the copy is killed. The warning is kept from whoever has
made it an error.

What it is not: older than the moment at which it is made. What has run in the process
before is in the copy, too.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import pickle
import select
import signal
import stat
import struct
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from tornpage.patch.block import NUMBERS, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["NoCopyError", "Pristine", "PristineError", "unpickled"]

_LENGTH: Final = struct.Struct("<Q")
_CHUNK: Final = 1 << 20
_ALONE: Final = b"1"
_TOGETHER: Final = b"0"
# How often a copy looks whether its original is still there.
_LOOK_SECONDS: Final = 0.5
_ENDS_SECONDS: Final = 2.0
_OUTPUTS: Final = (1, 2)
_FIRST_DESCRIPTORS: Final = 1024

_NO_COPY: Final = "this process could not be copied"
_TOO_MANY: Final = (
    f"{_NO_COPY} often enough: are there limits to it, as in a container?"
)
# The answer of a copy that cannot be copied.
_UNCOPIED: Final = b""
# As in `run`: what is done in a copy is short.
_COLLECT_AFTER: Final = 50_000

# Code under test may have these replaced while it runs.
_fork: Final[Callable[[], int] | None] = getattr(os, "fork", None)
_exit: Final = os._exit
_getpid: Final = os.getpid
_getppid: Final = os.getppid


class PristineError(Exception):
    """There is no answer; the message says why, as a clause."""


class NoCopyError(PristineError):
    """This process, or the copy of it, cannot be copied: that says nothing of it."""


class Pristine:
    """A copy of this process, set aside now. Use it as a context manager.

    Args:
        answer: Called in a copy of that copy with each request. Requests and what it
            returns are pickled.

    Attributes:
        missing: Why there is no copy, as a clause; "" while there is one.
    """

    def __init__(self, answer: Callable[[Any], object]) -> None:
        self.missing = ""
        self._owner = _getpid()
        here = threading.current_thread()
        self._others = [one.name for one in threading.enumerate() if one is not here]
        self._process = 0
        self._requests = self._answers = -1
        if _fork is None:
            self.missing = "this platform cannot copy a process"
            return
        try:
            ours, theirs = _two_pipes()
        except OSError as error:
            self.missing = f"{_NO_COPY}: {error}"
            return
        self._requests, self._answers = ours[1], theirs[0]
        numbers = {one: one() for one in NUMBERS}
        # No signal is to be handled twice, nor between the fork and what ends it. And
        # the copy must not collect before all that it has is hidden from the collector.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        collects = gc.isenabled()
        gc.disable()
        try:
            self._process = _forked(_fork)
            if not self._process:
                _serve(answer, ours[0], theirs[1], numbers)
        except Exception as error:  # noqa: BLE001 - audit hooks raise what they like
            self.missing = f"{_NO_COPY}: {error}"
        if collects:
            gc.enable()
        os.close(ours[0])
        os.close(theirs[1])
        if not self._process:
            os.close(ours[1])
            os.close(theirs[0])
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the copy and all that came of it."""
        self._end(wait=_ENDS_SECONDS)

    def _end(self, wait: float) -> None:
        if not self._process or self._owner != _getpid():
            return
        process, self._process = self._process, 0
        self.missing = self.missing or "the copy of the process is closed"
        os.close(self._requests)
        # It ends when there are no more requests; so does the end of this pipe, which
        # all copies have.
        if not wait or not _readable(self._answers, wait):
            for kill in os.kill, os.killpg:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)
        os.close(self._answers)

    def ask(self, request: object, seconds: float, *, alone: bool) -> Any:
        """What `answer` returns for this in a process as it was.

        Args:
            request: Anything that can be pickled.
            seconds: How long to wait.
            alone: In a copy of its own. All others have one copy in common: the first
                of them finds it as it was, the next as that one left it.

        Raises:
            NoCopyError: There is no copy, and none can be made.
            PristineError: There is no answer.
        """
        if self.missing:
            raise NoCopyError(self.missing)
        asked = pickle.dumps(request)
        try:
            _send(self._requests, (_ALONE if alone else _TOGETHER) + asked)
            raw = self._received(time.monotonic() + seconds)
        except BaseException as error:
            # The next answer would be the one to this.
            self._end(wait=0)
            if isinstance(error, TimeoutError):
                why = f"a copy of the process did not answer in {seconds:.0f} s"
                if self._others:
                    held = ", ".join(self._others)
                    why += f"; what a thread of the process held ({held}) is held there"
            elif isinstance(error, OSError):
                why = f"the copy of the process is gone: {error}"
            else:
                raise
            self.missing = why
            raise PristineError(why) from error
        if not raw:
            self._end(wait=_ENDS_SECONDS)
            self.missing = _TOO_MANY
            raise NoCopyError(self.missing)
        said, value = unpickled(raw)
        if said:
            raise PristineError(said)
        return value

    def _received(self, until: float) -> bytes:
        """One frame.

        Raises:
            OSError: TimeoutError, or the copy has ended.
        """
        found, wanted = bytearray(), _LENGTH.size
        known = False
        while len(found) < wanted:
            left = until - time.monotonic()
            if left <= 0 or not _readable(self._answers, left):
                raise TimeoutError
            chunk = os.read(self._answers, min(_CHUNK, wanted - len(found)))
            if not chunk:
                raise ConnectionError("it has ended")
            found += chunk
            if not known and len(found) == wanted:
                wanted += _LENGTH.unpack(found)[0]
                known = True
        return bytes(found[_LENGTH.size :])


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pipes, or none and an OSError."""
    first = os.pipe()
    try:
        return first, os.pipe()
    except OSError:
        for descriptor in first:
            os.close(descriptor)
        raise


def _readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or the end, in this time."""
    # select.select refuses descriptors from 1024 on.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(math.ceil(seconds * 1000)))


def unpickled(raw: bytes) -> Any:
    """What a copy of this process has pickled."""
    return pickle.loads(raw)  # noqa: S301 - it is this process's own code.


def _forked(fork: Callable[[], int]) -> int:
    with warnings.catch_warnings():
        # See the module's head.
        warnings.simplefilter("ignore", DeprecationWarning)
        return fork()


def _serve(
    answer: Callable[[Any], object],
    requests: int,
    answers: int,
    numbers: Mapping[Callable[[], int], int],
) -> NoReturn:
    """Be the copy: answer until the original is gone."""
    try:
        original = numbers[NUMBERS[0]]
        _set_aside(requests, answers, numbers)
        kept: _Copy | None = None
        while (request := _next_frame(requests, original)) is not None:
            alone = request[:1] == _ALONE
            copy = None if alone else kept
            if copy is None:
                copy = _copied(answer, original)
                if copy is None and kept:
                    # A container may have room for no more than one.
                    kept.end()
                    kept = None
                    copy = _copied(answer, original)
            if copy is None:
                _send(answers, _UNCOPIED)
                continue
            raw = copy.ask(request[1:])
            if raw is None:
                said = f"a copy of the process ended with {copy.end()}"
                _send(answers, pickle.dumps((said, None)))
                kept = kept if alone else None
                continue
            if alone:
                copy.end()
            else:
                kept = copy
            _send(answers, raw)
        if kept:
            kept.end()
    finally:
        _exit(0)


def _set_aside(
    requests: int, answers: int, numbers: Mapping[Callable[[], int], int]
) -> None:
    """Let go of all that is the original's; see the module's head."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    gc.enable()
    os.setsid()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.settrace(None)
    sys.setprofile(None)
    threading.settrace(None)
    threading.setprofile(None)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (_pipes() | {0, *_OUTPUTS}) - {requests, answers}:
        with contextlib.suppress(OSError):
            os.dup2(nowhere, descriptor)
    # Where somebody captures what is printed, these have other descriptors.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    logging.disable()
    replaced = {one: (lambda number=number: number) for one, number in numbers.items()}
    stand_in(replaced)
    os.getpid, os.getppid, threading.get_native_id = map(replaced.__getitem__, NUMBERS)


def _pipes() -> set[int]:
    """The descriptors of this process that are pipes or sockets."""
    found = set()
    try:
        there = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        # Where /proc is not mounted.
        there = [*range(_FIRST_DESCRIPTORS)]
    for descriptor in there:
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                found.add(descriptor)
    return found


def _next_frame(descriptor: int, parent: int) -> bytes | None:
    """What comes next; None when nothing will: the other end or the parent is gone."""
    head = _read(descriptor, _LENGTH.size, parent)
    return None if head is None else _read(descriptor, _LENGTH.unpack(head)[0], parent)


def _read(descriptor: int, size: int, parent: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        if not _readable(descriptor, _LOOK_SECONDS):
            if _getppid() != parent:
                return None
            continue
        chunk = os.read(descriptor, min(_CHUNK, size - len(found)))
        if not chunk:
            return None
        found += chunk
    return bytes(found)


class _Copy:
    """A copy of the copy, which does what it is asked."""

    def __init__(self, answer: Callable[[Any], object], original: int) -> None:
        assert _fork is not None
        self._original = original
        ours, theirs = _two_pipes()
        self._requests, self._answers = ours[1], theirs[0]
        parent = _getpid()
        try:
            self._process = _fork()
        except OSError:
            for descriptor in (*ours, *theirs):
                os.close(descriptor)
            raise
        if not self._process:
            try:
                os.close(self._requests)
                os.close(self._answers)
                while (request := _next_frame(ours[0], parent)) is not None:
                    _send(theirs[1], _answered(answer, request))
            finally:
                _exit(0)
        os.close(ours[0])
        os.close(theirs[1])

    def ask(self, request: bytes) -> bytes | None:
        """The answer; None when there is none."""
        with contextlib.suppress(BrokenPipeError):
            _send(self._requests, request)
        answer = _next_frame(self._answers, self._original)
        if answer is None and _getppid() != self._original:
            os.killpg(0, signal.SIGKILL)
        return answer

    def end(self) -> str:
        """End it; how it ended, if it has by itself."""
        os.close(self._requests)
        os.close(self._answers)
        status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        return signal.Signals(-status).name if status < 0 else f"status {status}"


def _copied(answer: Callable[[Any], object], original: int) -> _Copy | None:
    """A copy; None when there is no room for one."""
    try:
        return _Copy(answer, original)
    except OSError:
        return None


def _answered(answer: Callable[[Any], object], request: bytes) -> bytes:
    try:
        return pickle.dumps(("", answer(unpickled(request))))
    except BaseException as error:  # noqa: BLE001 - the original is to hear of it
        said = f"a copy of the process met {type(error).__name__}: {error}"
        return pickle.dumps((said, None))


def _send(descriptor: int, data: bytes) -> None:
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(descriptor, view) :]
