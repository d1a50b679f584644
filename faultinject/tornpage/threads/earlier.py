"""Locks that were there before the run: a module's own, made at its import.

    real lock   --held by a module, a class, ...-->   a stand-in while a block lasts
                                                        | takes and gives the real one,
                                                        | and waits by the schedule

A stand-in keeps nothing of its own that matters: who has the lock is what the real one
says. So what is held when the block begins is held in it, what the run leaves free or
held is so behind it, and a thread that is not the run's can go on with the same lock. A
stand-in that code has put elsewhere meanwhile works for ever.

Conditions, events, semaphores, barriers and queues are made of locks in Python, and
become the schedule's with these. A `queue.SimpleQueue` is C and has a stand-in too.

A thread that is not the run's and has to do with one of its threads by such a lock is
on no schedule: that is refused. It is seen as it comes to a stand-in, or as it
waits for a condition already.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from tornpage.holders import Holders, said_of
from tornpage.threads.turns import ALONE, DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from tornpage.threads.turns import Turns

__all__ = ["Earlier", "Locks"]

_STRANGERS_SECONDS: Final = 0.05
"""What a thread gets that is about to do something, before all others are stuck."""

_MOST_SECONDS: Final = 5.0
"""For which a thread that is not the run's may have a lock that is waited for."""

_sleep: Final = time.sleep


class _StandIn:
    """In the place of something real.

    Args:
        real: That.
        earlier: Says whose turn it is.
    """

    def __init__(self, real: Any, earlier: Earlier) -> None:
        self._real = real
        self._earlier = earlier
        # The run whose threads have used it last.
        self._used_by: Turns | None = None
        # Whether a thread that is not the run's waits for it.
        self.awaited = False

    def __repr__(self) -> str:
        return f"<{self._real!r} under a schedule>"

    def _turns(self) -> Turns | None:
        """Those to whom the calling thread belongs; None: it is for the real one."""
        turns = self._earlier.turns
        if turns is None:
            return None
        if turns.is_ours():
            self._used_by = turns
            if self.awaited and turns.is_here():
                turns.refuse(
                    f"a thread that is not the schedule's waits for {self._real!r}: "
                    "have the store begin its threads inside turns_taken"
                )
            return turns
        if self._used_by is turns and turns.is_going_on():
            turns.note_refused(
                f"{threading.current_thread().name!r}, a thread that is not the "
                f"schedule's, uses {self._real!r}, and so do the schedule's: have the "
                "store begin its threads inside turns_taken"
            )
        return None

    # What modules tell the system to call in the child of a fork.
    def _at_fork_reinit(self) -> None:
        self._real._at_fork_reinit()

    def _require_here(self, turns: Turns) -> None:
        if not turns.is_here():
            raise DeadlockError(f"{self._real!r} is held, and {ALONE}")


class _Lock(_StandIn):
    """In the place of a `threading.Lock`."""

    # Whether a thread of the run has taken it.
    _mine = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`."""
        turns, real = self._turns(), self._real
        if turns is None or (not blocking and timeout != -1):
            return bool(real.acquire(blocking, timeout))
        until = None if timeout < 0 else turns.now + timeout
        while not self._take():
            if not blocking:
                return False
            self._require_here(turns)
            try:
                if not turns.wait(self._is_free, until):
                    return False
            except DeadlockError:
                if not self._mine:
                    turns.refuse(
                        f"{real!r} is held by a thread that is not the schedule's, and "
                        "waited for"
                    )
                raise
        return True

    def release(self) -> None:
        """As `threading.Lock.release`."""
        self._turns()
        self._mine = False
        self._real.release()

    def locked(self) -> bool:
        """As `threading.Lock.locked`."""
        return bool(self._real.locked())

    def _take(self) -> bool:
        if not self._real.acquire(False):
            return False
        self._mine = True
        return True

    def _is_free(self) -> bool:
        return not self._real.locked()

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


class _Reentrant(_StandIn):
    """In the place of a `threading.RLock`: only its thread gives it back."""

    # Whether a thread of the run has it.
    _mine = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.RLock.acquire`."""
        turns, real = self._turns(), self._real
        own = real._is_owned()
        if turns is None or own or (not blocking and timeout != -1):
            return bool(real.acquire(blocking, timeout))
        until = None if timeout < 0 else turns.now + timeout
        while not real.acquire(False):
            if not blocking:
                return False
            self._require_here(turns)
            if self._mine:
                if not turns.wait(self._is_free, until):
                    return False
            elif real.acquire(timeout=_MOST_SECONDS):
                break
            else:
                turns.refuse(
                    f"{real!r} is held by a thread that is not the schedule's, and "
                    "waited for"
                )
        self._mine = True
        return True

    def release(self) -> None:
        """As `threading.RLock.release`."""
        self._turns()
        self._real.release()
        self._mine = self._real._is_owned()

    def locked(self) -> bool:
        """As `threading.RLock.locked`, which not every Python has."""
        return bool(self._real.locked())

    def _is_free(self) -> bool:
        return not self._mine

    __enter__ = acquire

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.release()

    # What `threading.Condition` asks of a reentrant lock.

    def _is_owned(self) -> bool:
        return bool(self._real._is_owned())

    def _recursion_count(self) -> int:
        return int(self._real._recursion_count())

    def _release_save(self) -> Any:
        self._turns()
        saved = self._real._release_save()
        self._mine = False
        return saved

    def _acquire_restore(self, saved: Any) -> None:
        self.acquire()
        self._real.release()
        self._real._acquire_restore(saved)


class _Line(_StandIn):
    """In the place of a `queue.SimpleQueue`."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As `queue.SimpleQueue.put`."""
        self._turns()
        self._real.put(item, block, timeout)

    def put_nowait(self, item: Any) -> None:
        """As `queue.SimpleQueue.put_nowait`."""
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As `queue.SimpleQueue.get`."""
        turns, real = self._turns(), self._real
        if turns is None or not block or (timeout is not None and timeout < 0):
            return real.get(block, timeout)
        until = None if timeout is None else turns.now + timeout
        while real.empty():
            self._require_here(turns)
            if not turns.wait(lambda: not real.empty(), until):
                raise queue.Empty
        return real.get_nowait()

    def get_nowait(self) -> Any:
        """As `queue.SimpleQueue.get_nowait`."""
        return self.get(block=False)

    def empty(self) -> bool:
        """As `queue.SimpleQueue.empty`."""
        return bool(self._real.empty())

    def qsize(self) -> int:
        """As `queue.SimpleQueue.qsize`."""
        return int(self._real.qsize())


class Locks(Holders):
    """All that there are, and who holds them.

    Args:
        kinds: By the type of one, what makes what is put in its place.

    Attributes:
        conditions: Those that there are.
        left: Who holds some and could not be changed.
    """

    def __init__(self, kinds: Mapping[type, Callable[[Any], Any]]) -> None:
        everything = gc.get_objects()
        self.conditions: list[threading.Condition] = [
            one for one in everything if issubclass(type(one), threading.Condition)
        ]
        found = [one for one in everything if type(one) in kinds]
        del everything
        super().__init__(found, lambda one: kinds[type(one)](one))
        # Not the holders themselves: these outlive the run.
        self.left = [*map(said_of, self.unchanged)]
        self.unchanged.clear()


class Earlier:
    """The locks of the process, and the run whose they are for now.

    Attributes:
        turns: That one; None outside of all blocks.
    """

    def __init__(self) -> None:
        self.turns: Turns | None = None
        self._latest: Turns | None = None
        # By the identity of what they stand for, which they keep.
        self._stand_ins: WeakValueDictionary[int, _StandIn] = WeakValueDictionary()
        # Of the interpreter, whatever `threading` and `queue` have now.
        self._kinds: dict[type, Callable[[Any], _StandIn]] = {
            type(threading.Lock()): self._of(_Lock),
            type(threading.RLock()): self._of(_Reentrant),
            queue.SimpleQueue: self._of(_Line),
        }

    def _of(self, kind: type[_StandIn]) -> Callable[[Any], _StandIn]:
        def stand_in(real: Any) -> _StandIn:
            made = self._stand_ins.get(id(real))
            if made is None:
                made = self._stand_ins[id(real)] = kind(real, self)
            return made

        return stand_in

    def latest(self) -> Turns:
        """The run of now, or the one before: what is made in a block may last."""
        if self._latest is None:
            raise RuntimeError("there was no run")
        return self._latest

    @contextmanager
    def given_to(self, turns: Turns) -> Iterator[None]:
        """While entered, those that are there are the run's.

        All are looked for when the first run that switches at its places begins.

        Args:
            turns: The run.
        """
        found = turns.places.locks
        if found is None:
            # Without those that `gc.freeze` hides: to look at all of a test runner's
            # objects takes 0.4 s a run. Who waits for one of them is refused.
            found = turns.places.locks = Locks(self._kinds)
        replaced = [place for place in found.places if place.replace()]
        for condition in found.conditions:
            lock = condition._lock  # type: ignore[attr-defined]
            if isinstance(lock, _StandIn):
                lock.awaited = bool(condition._waiters)  # type: ignore[attr-defined]
        before, self.turns = self.turns, turns
        self._latest = turns
        turns.left_real = lambda: found.left
        turns.let_others = lambda: _sleep(_STRANGERS_SECONDS * bool(self._stand_ins))
        try:
            yield
        finally:
            self.turns = before
            turns.left_real = turns.let_others = tuple
            for place in replaced:
                place.put_back()
