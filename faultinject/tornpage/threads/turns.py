"""Threads that run one at a time, and switch where a schedule says.

    schedule   0:  57 places, then 1:  12 places, then 0
    thread 0   |----57----|                    |-------- end
    thread 1              |----12----|         (goes on when 0 ends or waits)

Real threads, so that whatever belongs to a thread is a thread's own; but each waits at
its gate until it is its turn. A thread's turn ends where the schedule says, or where it
has to wait for a lock, or with the thread. Which one goes on behind the last two is not
up to the schedule: the one that was made to stop last, else the one with the lowest
number. So the same schedule gives the same run.

Locks are the schedule's (see `locks`): one of `threading` would stop the only thread
that runs. Time stands still as long as somebody can run; then it goes on to the first
time at which a wait ends. A schedule may switch to a thread that waits for a limited
time: its wait ends then and there, without success.

When nobody can run any more, and nobody's time ends, all threads are stuck:
each gets a `DeadlockError` out of its lock.

What it is not: it does not know which switches make a difference (see `schedules`). Two
threads of a pool that nobody numbers are not told apart.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock  # `threading` may have others
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from tornpage.uncovered import UncoveredError
from tornpage.waits import told_of_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from tornpage.threads.places import Places
    from tornpage.threads.schedules import Schedule

__all__ = ["DeadlockError", "Turns"]

_MOST_SECONDS: Final = 60.0
"""Of one run. It takes milliseconds; a thread that looks for another one's doing again
and again, without sleeping, takes for ever."""


class DeadlockError(BaseException):
    """All threads of a run wait for each other. No Exception: code handles those."""


class _Thread:
    """One thread of a run."""

    __slots__ = ("deadline", "done", "error", "gate", "pushed", "ready", "result")

    def __init__(self) -> None:
        self.gate = allocate_lock()
        self.gate.acquire()
        self.done = False
        self.result: object = None
        self.error: BaseException | None = None
        # What it waits for, until when; None: it waits for nothing.
        self.ready: Callable[[], bool] | None = None
        self.deadline: float | None = None
        # The schedule says that its time is over.
        self.pushed = False


class Turns:
    """One run of some threads under a schedule.

    Args:
        schedule: Who begins, and the switches.
        places: Where threads are made to switch; entered.
        record: Note at which places behind the last switch others could go on.

    Attributes:
        schedule: The same.
        now: Seconds on the clock of the run.
        open: Behind the last switch, for each place the threads that could go on
            there, as a set of bits: 2 for thread 1.
        taken: How many of the switches came to pass. Fewer than there are: a
            place was not reached, or the thread could not run.
        stuck: Whether all threads waited for each other.
        outside: In it `threading` is as it was, whatever was put in its place.
    """

    def __init__(
        self, schedule: Schedule, places: Places, *, record: bool = False
    ) -> None:
        self.now = 0.0
        self.open: list[int] = []
        self.taken = 0
        self.stuck = False
        self.outside: Callable[[], AbstractContextManager[None]] = nullcontext
        self.schedule = schedule
        self._record = record
        self._threads: list[_Thread] = []
        self._numbers: dict[int, int] = {}
        self._running = -1
        # Those that were made to stop, the last one behind.
        self._stopped: list[int] = []
        self._count = 0
        self._next = schedule.switches[0] if schedule.switches else None
        self._places = places
        self._over = allocate_lock()

    def run(self, bodies: Sequence[Callable[[], object]]) -> list[object]:
        """Run a function in a thread each, until all have returned or raised.

        Returns:
            What each has returned; what it has raised is in `errors`.

        Raises:
            UncoveredError: It does not end, or there is no such thread to begin.
        """
        if self.schedule.first >= len(bodies):
            raise UncoveredError(
                f"the schedule {self.schedule} begins with thread "
                f"{self.schedule.first}, and there are {len(bodies)}"
            )
        self._threads = [_Thread() for _ in bodies]
        self._over.acquire()
        self._places.call = self._place
        with self.outside():
            workers = [
                threading.Thread(target=self._work, args=(number, body), daemon=True)
                for number, body in enumerate(bodies)
            ]
            for worker in workers:
                worker.start()
        self._running = self.schedule.first
        with told_of_waits(self._place):
            self._threads[self._running].gate.release()
            ended = self._over.acquire(timeout=_MOST_SECONDS)
        if not ended:
            raise UncoveredError(
                f"under the schedule {self.schedule} the threads have not ended "
                f"after {_MOST_SECONDS:g} seconds: thread {self._running} waits, and "
                "not by a lock or a sleep that is the schedule's"
            )
        for worker in workers:
            worker.join()
        self._over.release()
        self._running = -1
        return [thread.result for thread in self._threads]

    @property
    def errors(self) -> list[BaseException | None]:
        """What each thread has raised, if anything."""
        return [thread.error for thread in self._threads]

    @property
    def missed(self) -> bool:
        """Whether some switch did not come to pass."""
        return self.taken < len(self.schedule.switches)

    # -- in the threads --

    def _work(self, number: int, body: Callable[[], object]) -> None:
        me = self._threads[number]
        me.gate.acquire()
        self._numbers[threading.get_ident()] = number
        try:
            if self._is_looking():
                self._places.follow()
            me.result = body()
        except BaseException as error:  # noqa: BLE001 - the caller judges it.
            me.error = error
        finally:
            self._places.leave()
            me.done = True
            self._pass_on()

    def _is_looking(self) -> bool:
        return self._next is not None or self._record

    def _place(self) -> None:
        """A thread is where another one may go on."""
        if threading.get_ident() not in self._numbers or not self._is_looking():
            return
        if self._next is None:
            if self._record:
                self.open.append(self._who_could())
            else:
                self._places.leave()
            return
        if self._count < self._next.places:
            self._count += 1
            return
        wanted, self._count = self._next.thread, 0
        index = self.taken + 1
        switches = self.schedule.switches
        self._next = switches[index] if index < len(switches) else None
        if not self._who_could() >> wanted & 1:
            # Not the schedule that was asked for: whoever looks at `missed` drops it.
            self._next = None
            return
        self.taken = index
        me = self._running
        self._stopped.append(me)
        target = self._threads[wanted]
        target.pushed = not self._can_run(target)
        self._turn_to(wanted)
        self._threads[me].gate.acquire()
        if not self._is_looking():
            self._places.leave()

    def _who_could(self) -> int:
        could = 0
        for number, thread in enumerate(self._threads):
            if number == self._running or thread.done:
                continue
            if thread.deadline is not None or self._can_run(thread):
                could |= 1 << number
        return could

    @staticmethod
    def _can_run(thread: _Thread) -> bool:
        return not thread.done and (thread.ready is None or thread.ready())

    def _turn_to(self, number: int) -> None:
        if number in self._stopped:
            self._stopped.remove(number)
        self._running = number
        self._threads[number].gate.release()

    def _pass_on(self) -> None:
        """The running thread has ended or waits: somebody else's turn."""
        for number in (*reversed(self._stopped), *range(len(self._threads))):
            if self._can_run(self._threads[number]):
                self._turn_to(number)
                return
        waiting = [thread for thread in self._threads if not thread.done]
        timed = [each for each in waiting if each.deadline is not None]
        if timed:
            first = min(timed, key=lambda thread: thread.deadline or 0.0)
            first.pushed = True
            self._turn_to(self._threads.index(first))
        elif waiting:
            self.stuck = True
            self._turn_to(self._threads.index(waiting[0]))
        else:
            self._over.release()

    def wait(self, ready: Callable[[], bool], until: float | None) -> bool:
        """Let others run until something is so; called by the locks.

        Args:
            ready: Whether it is. Asked whenever somebody's turn ends.
            until: When to stop waiting, by `now`; None: never.

        Returns:
            False when the time was over.

        Raises:
            DeadlockError: All threads wait.
        """
        me = self._threads[self._numbers[threading.get_ident()]]
        if ready():
            return True
        me.ready, me.deadline, me.pushed = ready, until, False
        try:
            self._pass_on()
            me.gate.acquire()
        finally:
            me.ready = me.deadline = None
        if me.pushed:
            me.pushed = False
            if until is not None:
                self.now = max(self.now, until)
            return ready()
        if self.stuck and not ready():
            raise DeadlockError("all threads wait for each other")
        return True

    def is_here(self) -> bool:
        """Whether the calling thread is one of the run's."""
        return threading.get_ident() in self._numbers
