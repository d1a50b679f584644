"""Locks, sleeps and clocks of a run: who waits lets another thread have its turn.

    under_turns(disk, turns)   a disk with locks and a clock, for code that asks it
    turns_taken(turns)         `threading` and `time.sleep`, for code that uses them

`threading` makes conditions, events, semaphores, barriers and queues of two kinds of
lock; in the place of these others are put. What was made before the block is given
stand-ins where it is held (`earlier`, `holders`). A wait that is not the schedule's all
the same ends the run as not covered.

A lock that is made in one run and kept, by a module say, is the next run's in the next.

What threads begin in such a block takes part (`begun`).
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from tornpage.threads.begun import Begun
from tornpage.threads.earlier import Earlier
from tornpage.threads.imported import Imported
from tornpage.threads.turns import ALONE, DeadlockError
from tornpage.waits import about_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from tornpage.disk import Disk, DiskFile
    from tornpage.threads.turns import Turns

__all__ = ["turns_taken", "under_turns"]


class Mutex:
    """A lock that one thread has, and others wait for by letting it run.

    Args:
        whose: The run that it belongs to now.
    """

    def __init__(self, whose: Callable[[], Turns]) -> None:
        self._whose = whose
        self._held = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`."""
        turns = self._whose()
        if turns.is_going_on() and not turns.is_ours():
            turns.note_refused(
                f"{threading.current_thread().name!r}, a thread that is not the "
                "schedule's, uses a lock of its threads: have the store begin its "
                "threads inside turns_taken"
            )
        if self._held and blocking:
            if not turns.is_here():
                raise DeadlockError(f"the lock is held, and {ALONE}")
            until = None if timeout < 0 else turns.now + timeout
            turns.wait(self._is_free, until)
        if self._held:
            return False
        self._held = True
        return True

    def release(self) -> None:
        """As `threading.Lock.release`."""
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._held

    # What modules tell the system to call in the child of a fork, when they are
    # imported: `concurrent.futures` and `logging` do.

    def _at_fork_reinit(self) -> None:
        self._held = False

    def _is_free(self) -> bool:
        return not self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.release()


class Condition(Mutex):
    """A lock on which threads wait to be told something."""

    def __init__(self, whose: Callable[[], Turns]) -> None:
        super().__init__(whose)
        self._calls = 0

    def wait(self, timeout: float | None = None) -> bool:
        """As `threading.Condition.wait`."""
        calls, turns = self._calls, self._whose()
        until = None if timeout is None else turns.now + timeout
        self.release()
        told = False
        try:
            told = turns.wait(lambda: self._calls != calls, until)
        finally:
            self.acquire()
        return told

    def notify_all(self) -> None:
        """As `threading.Condition.notify_all`."""
        self._calls += 1


class Reentrant(Mutex):
    """A lock that its thread may take again."""

    def __init__(self, whose: Callable[[], Turns]) -> None:
        super().__init__(whose)
        self._owner = 0
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.RLock.acquire`."""
        if not self._is_owned():
            if not super().acquire(blocking, timeout):
                return False
            self._owner = threading.get_ident()
        self._depth += 1
        return True

    def release(self) -> None:
        """As `threading.RLock.release`."""
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            super().release()

    # What `threading.Condition` asks of a reentrant lock.

    def _is_owned(self) -> bool:
        return self._held and self._owner == threading.get_ident()

    def _release_save(self) -> int:
        depth, self._depth = self._depth, 1
        self.release()
        return depth

    def _acquire_restore(self, depth: int) -> None:
        self.acquire()
        self._depth = depth

    def _recursion_count(self) -> int:
        return self._depth if self._is_owned() else 0

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self._owner = self._depth = 0


class _Machine:
    """A disk with the locks and the clock of a run, whose calls let others run."""

    def __init__(self, disk: Disk, turns: Turns) -> None:
        self.disk = disk
        self._turns = turns
        self.free_threaded = turns.places.free_threaded

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.disk, name)
        return _waiting(value) if name in _WAIT else value

    def open(self, path: str, /, **options: Any) -> _File:
        """As `Disk.open`."""
        about_to_wait()
        return _File(self.disk.open(path, **options))

    def monotonic(self) -> float:
        """Seconds on the clock of the run."""
        return self._turns.now

    def sleep(self, seconds: float, /) -> None:
        """Let others run for so long, by that clock."""
        turns = self._turns
        if turns.is_here():
            turns.wait(lambda: False, turns.now + seconds)
        else:
            turns.now += seconds

    def mutex(self) -> Mutex:
        """A lock of the run."""
        return Mutex(lambda: self._turns)

    def condition(self) -> Condition:
        """A condition of the run."""
        return Condition(lambda: self._turns)


class _File:
    """An open file of such a disk."""

    def __init__(self, file: DiskFile) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._file, name)
        return _waiting(value) if name in _WAIT else value


_WAIT: Final = frozenset(
    {
        # Of a disk.
        "exists",
        "fsync_dir",
        "mkdir",
        "rename",
        "rmdir",
        "unlink",
        # Of a file.
        "fdatasync",
        "fsync",
        "ftruncate",
        "pread",
        "pwritev",
        "size",
    }
)
"""Calls to the machine. (`lock` has to come back at once, so nobody waits in it.)"""


def _waiting(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*given: Any, **named: Any) -> Any:
        about_to_wait()
        return call(*given, **named)

    return called


def under_turns(disk: Disk, turns: Turns) -> Disk:
    """The disk with the locks and the clock of a run.

    Code that has to know whether its threads run at the same time may ask its
    attribute `free_threaded`, a bool.
    """
    return cast("Disk", _Machine(disk, turns))


_imported: Final = Imported()
_earlier: Final = Earlier()


@contextmanager
def turns_taken(turns: Turns) -> Iterator[None]:
    """While entered, `threading`, `time.sleep` and `time.monotonic` are a run's.

    So are the locks that are there already.

    Threads that are begun meanwhile take part in the run.
    """
    machine = _Machine(cast("Disk", None), turns)
    begun = Begun(turns)
    real_clock, real_sleep = time.monotonic, time.sleep

    def lock() -> Mutex:
        return Mutex(_earlier.latest)

    # Other threads of the process (of a test runner, say) have the time they had.

    def monotonic() -> float:
        return turns.now if turns.is_ours() else real_clock()

    def sleep(seconds: float, /) -> None:
        (machine.sleep if turns.is_ours() else real_sleep)(seconds)

    taken: list[tuple[Any, str, Any]] = [
        (threading, "Lock", lock),
        (threading, "_allocate_lock", lock),
        (threading, "RLock", lambda: Reentrant(_earlier.latest)),
        (threading, "_time", monotonic),
        (queue, "time", monotonic),
        (time, "monotonic", monotonic),
        (time, "sleep", sleep),
        *begun.names(),
    ]
    replaced = {
        id(getattr(owner, name)): (getattr(owner, name), value)
        for owner, name, value in taken
        if isinstance(owner, ModuleType)
    }
    taken += _imported.places({real: ours for real, (_, ours) in replaced.items()})
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in taken]

    def put(those: list[tuple[Any, str, Any]]) -> None:
        for owner, name, value in those:
            setattr(owner, name, value)

    @contextmanager
    def outside() -> Iterator[None]:
        put(before)
        try:
            yield
        finally:
            put(taken)

    turns.outside = outside
    put(taken)
    try:
        with _earlier.given_to(turns):
            yield
    finally:
        put(before)
        # Of two names for locks the first is the one that is imported.
        names = reversed(replaced.values())
        _imported.put_back({id(ours): real for real, ours in names})
        turns.outside = nullcontext
        # What was begun for a run that did not come.
        turns.end()
