"""Threads that the code under test begins: they take part in the schedule.

    thread 0   append ... close: join ------------------ waits --- end
    thread 1        append ---- end
    thread 2   begun by the store: flush ... wait ... flush ---- end

`Thread.start` begins a thread that waits until it is its turn, `join` waits as for a
lock, `is_alive` is what the schedule knows. A timer is such a thread, and so are those
of a `ThreadPoolExecutor`: its queue is written in C and is replaced by the one that
Python has for where there is no C. A pool that was there before is refused: its
threads are others, and one of an earlier run counts on threads that have ended.

A thread that is begun by what prepares a run does nothing before the run; one that is
begun behind it is refused. Code that takes `_thread.start_new_thread` is refused, too.

What it is not: the way in which CPython begins a thread. It waits there until the
thread has come to life, and so does this.
"""

from __future__ import annotations

import _thread
import queue
import sys
import threading
from concurrent.futures import _base as futures
from concurrent.futures import thread as pools
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tornpage.threads.turns import ALONE, DeadlockError, OverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.threads.turns import Turns, Worker

__all__ = ["Begun"]


class _Quiet:
    """The log of pools, without the end of a run: their threads call it an error.

    Args:
        real: That log.
    """

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def critical(self, *given: Any, **named: Any) -> None:
        """As `logging.Logger.critical`."""
        if not isinstance(sys.exc_info()[1], OverError):
            self._real.critical(*given, **named)


class Begun:
    """What takes the place of a thread's methods.

    Args:
        turns: The run that the threads belong to.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._known: dict[int, tuple[threading.Thread, Worker]] = {}
        self._start = threading.Thread.start
        self._join = threading.Thread.join
        self._is_alive = threading.Thread.is_alive
        self._start_new = _thread.start_new_thread
        # One for each run, by which a pool that was made for it is known.
        self._line = type("SimpleQueue", (queue._PySimpleQueue,), {})  # type: ignore[attr-defined]

    def names(self) -> list[tuple[Any, str, Any]]:
        """What is replaced: where, under which name, by what."""

        def start(thread: threading.Thread) -> None:
            self.start(thread)

        def join(thread: threading.Thread, timeout: float | None = None) -> None:
            self.join(thread, timeout)

        def is_alive(thread: threading.Thread) -> bool:
            return self.is_alive(thread)

        replaced: list[tuple[Any, str, Any]] = [
            (threading.Thread, "start", start),
            (threading.Thread, "join", join),
            (threading.Thread, "is_alive", is_alive),
            (_thread, "start_new_thread", self.start_new_thread),
            (queue, "SimpleQueue", self._line),
            (futures, "LOGGER", _Quiet(futures.LOGGER)),
        ]
        # Its module is imported above so that no run is the first to do so: that would
        # leave it a lock of the run.
        pool = pools.ThreadPoolExecutor
        replaced.append((pool, "submit", self._submitting(pool.submit)))
        return replaced

    def _submitting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """ThreadPoolExecutor.submit, for pools of this run."""

        def submit(pool: Any, /, *given: Any, **named: Any) -> Any:
            if self._turns.is_ours() and type(pool._work_queue) is not self._line:
                self._turns.refuse(
                    "a ThreadPoolExecutor is used that was made before the run under a "
                    "schedule; its threads are none of the schedule's, or have ended: "
                    "have it made inside turns_taken"
                )
            return real(pool, *given, **named)

        return submit

    def _worker(self, thread: threading.Thread) -> Worker | None:
        known = self._known.get(id(thread))
        return None if known is None else known[1]

    def start(self, thread: threading.Thread) -> None:
        """As `threading.Thread.start`.

        Raises:
            UnsupportedCallError: The run is over.
        """
        if (
            not self._turns.is_ours()
            or self._worker(thread)
            or thread.ident is not None
        ):
            # It is nobody's business here, or it is wrong and will be told so.
            self._start(thread)
            return
        real: Any = thread
        worker, work = self._turns.begin(_without_exit(thread.run))
        self._known[id(thread)] = thread, worker
        real.run = work
        with self._turns.outside():
            # By this one start waits until it has come to life.
            real._started = threading.Event()
            self._start(thread)

    def join(self, thread: threading.Thread, timeout: float | None) -> None:
        """As `threading.Thread.join`.

        Raises:
            DeadlockError: It would be waited for where no other thread runs.
        """
        worker, turns = self._worker(thread), self._turns
        if worker is not None and thread is not threading.current_thread():
            if not worker.done:
                if not turns.is_here():
                    raise DeadlockError(
                        f"thread {thread.name!r} is waited for, and {ALONE}"
                    )
                until = None if timeout is None else turns.now + max(0.0, timeout)
                turns.wait(lambda: worker.done, until)
            if not worker.done:
                return
        self._join(thread, timeout)

    def is_alive(self, thread: threading.Thread) -> bool:
        """As `threading.Thread.is_alive`."""
        worker = self._worker(thread)
        return self._is_alive(thread) if worker is None else not worker.done

    def start_new_thread(self, *given: Any) -> Any:
        """As `_thread.start_new_thread`.

        Raises:
            UnsupportedCallError: It is called under the schedule.
        """
        if self._turns.is_ours():
            self._turns.refuse(
                "a thread is begun by _thread.start_new_thread under a schedule: have "
                "threading.Thread begin it"
            )
        return self._start_new(*given)


def _without_exit(run: Callable[[], None]) -> Callable[[], None]:
    """`run`, for which SystemExit is no error: such a thread ends, and that is all."""

    def body() -> None:
        with suppress(SystemExit):
            run()

    return body
