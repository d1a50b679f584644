"""A limit on the time that one execution of code under test takes.

Theory
======
Recovery that never returns would hang whoever waits for it, without a word. So one
call of `run` or `recover` gets some seconds of processor time. A timer signal ends it
where it is by then:

    recover ---- reads, loops ... ----|  SIGVTALRM, after 60 s of processor time
                                      '-> OverdueError, at store.py:31

    in the store       raised there; it is an outcome: "recovery ends" is broken
    in the simulator   looked at again a little later: its state must stay whole

It counts as a broken promise, with a story and a replay token. What ends after an hour
does not end for whoever waits, and how long is too long is the subject's to say
(`returns_within`). Processor time, because a busy machine must not change a verdict.
The line is where the code happened to be, and may be another one next time.

The timer is the one of the user's part of processor time: others (the gate's, time-outs
of pytest, profilers) take ITIMER_REAL and ITIMER_PROF. Code that stands still uses no
such time. If nobody has a timer on the clock, that one is set, too, for eight times as
long. A timer that somebody has is left alone.

Code may catch what ends it, and return something. It would be an outcome that no store
has by itself, so it does not count: leaving the block raises once more.

What it is not: a limit for other threads than the main one, where signals arrive. And
code that catches everything, and goes on for ever, is not ended.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Self

from tornpage.call_site import is_ours

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["DEFAULT_SECONDS", "MOST_SECONDS", "Limit", "OverdueError"]

DEFAULT_SECONDS: Final = 60.0

MOST_SECONDS: Final = 1e9
"""30 years. A timer takes no more than 63 bits of seconds, and gets eight times it."""

# As in the gate: a busy machine makes something take five times its own time.
_STANDSTILL: Final = 8
# Between two looks, when it is in the simulator or was caught.
_AGAIN_SECONDS: Final = 0.01
_LOOKS: Final = 1000

# What the functions of signal wrap: making enumerations of their results takes half of
# their time, which was 44 us an execution.
_set_handler: Final = getattr(signal.signal, "__wrapped__", signal.signal)
_get_handler: Final = getattr(signal.getsignal, "__wrapped__", signal.getsignal)

_LIBRARY: Final = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED: Final = f"{_LIBRARY}site-packages{os.sep}"


class OverdueError(BaseException):
    """Time is up. Not an Exception: code under test may catch all of those."""


def _in_simulator(frame: FrameType | None) -> bool:
    """Whether it is tornpage's code, or what that code calls of the library.

    Code without a file, a record's `__init__`, is whose it is that calls it.
    """
    while frame is not None:
        place = frame.f_code.co_filename
        if is_ours(place):
            return True
        if place.startswith(_INSTALLED) or not place.startswith((_LIBRARY, "<")):
            return False
        frame = frame.f_back
    return False


def _in_collector(frame: FrameType | None) -> bool:
    """Whether the collector has called it: what it raises is printed and forgotten."""
    calls = {one.__code__ for one in gc.callbacks if isinstance(one, FunctionType)}
    while frame is not None:
        if frame.f_code in calls:
            return True
        frame = frame.f_back
    return False


class Limit:
    """The limit of one execution. Use it as a context manager, in any thread.

    Args:
        seconds: Of processor time; None: no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._raised: OverdueError | None = None
        self._looks = 0
        # (timer, signal, handler before)
        self._set: list[tuple[int, int, Any]] = []

    def __enter__(self) -> Self:
        if (
            self._seconds is not None
            and threading.current_thread() is threading.main_thread()
        ):
            self._arm(signal.ITIMER_VIRTUAL, signal.SIGVTALRM, self._seconds)
            seconds = self._seconds * _STANDSTILL
            self._arm(signal.ITIMER_REAL, signal.SIGALRM, seconds)
        return self

    def _arm(self, timer: int, number: int, seconds: float) -> None:
        before = _get_handler(number)
        if before != signal.SIG_DFL or signal.getitimer(timer)[0]:
            return
        _set_handler(number, self._overdue)
        self._set.append((timer, number, before))
        signal.setitimer(timer, seconds, _AGAIN_SECONDS)

    def _overdue(self, number: int, frame: FrameType | None) -> None:
        self._looks += 1
        later = _in_simulator(frame) or _in_collector(frame)
        if later and self._looks < _LOOKS:
            return
        assert self._seconds is not None
        said = f"{self._seconds:g} s of processor time"
        if number == signal.SIGALRM:
            said = (
                f"{self._seconds * _STANDSTILL:g} s, for most of which it stood still"
            )
        self._raised = OverdueError(said)
        raise self._raised

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for timer, number, before in reversed(self._set):
            signal.setitimer(timer, 0)
            _set_handler(number, before)
        if self._raised is not None and error is not self._raised:
            raise self._raised
