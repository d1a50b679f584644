"""Time and threads of a simulated machine.

Theory
======
Time stands still unless somebody sleeps. `sleep` moves the clock and makes the
calls of all timers that fall due on the way, in order of their time, in the
sleeping thread: the same program always sees the same times.

Mutexes and conditions are those of `threading`: a program on a simulated disk
may still have real threads. A condition waited for with a time-out advances
the clock instead of waiting when it is not notified at once.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "ClockTimer"]


class ClockTimer:
    """A call that is made when the clock reaches its time."""

    __slots__ = ("call", "cancelled")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Do not make the call, if it has not been made."""
        self.cancelled = True


class Clock:
    """Seconds since the machine was switched on; starts at 0."""

    __slots__ = ("_number", "_timers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, ClockTimer]] = []
        # Timers of the same instant are called in the order of their making.
        self._number = itertools.count()

    def sleep(self, seconds: float) -> None:
        """Advance, making the calls that fall due."""
        until = self.now + max(seconds, 0.0)
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if not timer.cancelled:
                timer.cancelled = True
                timer.call()
        self.now = max(self.now, until)

    def timer(self, seconds: float, call: Callable[[], None]) -> ClockTimer:
        """Make `call` once the clock has advanced by `seconds`."""
        timer = ClockTimer(call)
        due = self.now + max(seconds, 0.0)
        heapq.heappush(self._timers, (due, next(self._number), timer))
        return timer


class ClockMutex:
    """A lock whose time-outs are those of the simulated clock."""

    # `with` takes and gives back the lock itself: most are never waited for.
    __slots__ = ("__enter__", "__exit__", "_clock", "_take", "locked", "release")

    __enter__: Callable[[], bool]
    __exit__: Callable[..., None]

    def __init__(self, clock: Clock) -> None:
        lock = threading.Lock()
        self._clock = clock
        self._take = lock.acquire
        self.release = lock.release
        self.locked = lock.locked
        self.__enter__ = lock.__enter__
        self.__exit__ = lock.__exit__

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; False when it was not had in time.

        With a time-out nobody is waited for in real time: when it is held the clock is
        advanced, and the timers on the way may run.

        Args:
            blocking: Wait for it.
            timeout: Seconds; -1: as long as it takes, in real time.
        """
        if not blocking or timeout <= 0:
            return self._take(blocking, timeout)
        if self._take(False):
            return True
        self._clock.sleep(timeout)
        return self._take(False)


class ClockCondition(threading.Condition):
    """A condition whose time-outs are those of the simulated clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(threading.Lock())
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Release, wait to be notified, take again; False on time-out.

        With a time-out nobody is waited for in real time: the clock is
        advanced, and the timers on the way may run.
        """
        if timeout is None:
            return super().wait()
        self.release()
        try:
            self._clock.sleep(timeout)
        finally:
            self.acquire()
        return False
