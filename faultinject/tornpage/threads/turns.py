"""Threads that run one at a time, and switch where a schedule says.

    schedule   0:  57 places, then 1:  12 places, then 0
    thread 0   |----57----|                    |-------- end
    thread 1              |----12----|         (goes on when 0 ends or waits)

Real threads, so that whatever belongs to a thread is a thread's own; but each waits at
its gate until it is its turn. A thread's turn ends where the schedule says, or where it
has to wait for a lock, or with the thread. Which one goes on behind the last two the
schedule may say as well; else it is the one that was made to stop last, else the one
with the lowest number. So the same schedule gives the same run.

Locks are the schedule's (see `locks`): one of `threading` would stop the only thread
that runs. Time stands still as long as somebody can run; then it goes on to the first
time at which a wait ends. A schedule may switch to a thread that waits for a limited
time: its wait ends then and there, without success.

When nobody can run any more, and nobody's time ends, all threads are stuck:
each gets a `DeadlockError` out of its lock.

Threads that these begin in their turn (see `begun`) have the numbers behind them, in
the order in which they were begun. A run is over when the threads it was given have
ended and the others can do nothing before time goes on: a store's flusher waits for
its next second for ever. These are made to end where they wait, and may not touch the
disk any more.

A thread that waits for what is not the schedule's stops all of them. Whoever looks on
from outside sees that: it is its turn, and no processor is used.

What it is not: it does not know which switches make a difference (see `schedules`).
"""

from __future__ import annotations

import sys
import threading
import time
from _thread import allocate_lock  # `threading` may have others
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, NoReturn

from tornpage.threads.schedule import Switch
from tornpage.uncovered import UncoveredError, UnsupportedCallError
from tornpage.waits import told_of_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

    from tornpage.threads.places import Places
    from tornpage.threads.schedule import Schedule

__all__ = ["ALONE", "DeadlockError", "OverError", "Turns", "Worker"]

_MOST_SECONDS: Final = 60.0
"""Of one run. It takes milliseconds; a thread that looks for another one's doing again
and again, without sleeping, takes for ever."""


_MOST_IDLE_SECONDS: Final = 5.0
"""For which one thread may have its turn and the process use no processor. None but
this one runs, so nobody of the run will let it go on; calls to the real machine are
shorter."""

_LOOK_SECONDS: Final = 0.25
"""Between two looks at that."""

_BUSY_SHARE: Final = 0.1
"""How much of a processor is more than nothing, with other processes on the machine."""


ALONE: Final = (
    "no other thread runs: what is begun before a run does nothing until then, so have "
    "a thread of the run wait for it"
)
"""Why nothing is waited for by what prepares a run, or looks behind it."""


class DeadlockError(BaseException):
    """All threads of a run wait for each other. No Exception: code handles those."""


_MOST_FORCED: Final = 1_000_000
"""How many switches of one run are noted, in 100 MB. A thread that spins made 600 MB of
them in a minute, and each is a run to come."""

_MOST_PERIODS: Final = 1000
"""How often threads that were begun are woken by their time while the others wait."""


class OverError(BaseException):
    """The run is over, and the thread is not needed any more."""


class Worker:
    """One thread of a run.

    Attributes:
        done: Whether it has returned or raised.
    """

    __slots__ = (
        "deadline",
        "done",
        "ended",
        "error",
        "gate",
        "identity",
        "over",
        "pushed",
        "ready",
        "result",
    )

    def __init__(self) -> None:
        self.gate = allocate_lock()
        self.gate.acquire()
        self.ended = allocate_lock()
        self.ended.acquire()
        self.done = False
        # Of the thread that runs it.
        self.identity = 0
        # It is to end where it waits.
        self.over = False
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
        record: Note the switches that could be forced behind the last one.

    Attributes:
        schedule: The same.
        places: The same.
        now: Seconds on the clock of the run.
        beginners: How many threads there are to begin with: those that are given, and
            those that what prepares them has begun.
        forced: Switches that could be the next one behind the last, and make a thread
            stop or end its wait before its time.
        free: The same, and they do neither: a thread waits or ends, and it is another
            one that goes on.
        taken: How many of the switches came to pass. Fewer than there are: a
            place was not reached, or the thread could not run.
        stuck: Whether all threads waited for each other.
        outside: In it `threading` is as it was, whatever was put in its place.
        left_real: Asked for what the schedule could not be given, when a thread waits
            for something that is not the schedule's.
        let_others: Lets threads that are not of the run do what they are about to;
            called when all threads of the run wait.
        refused: Why the run cannot be followed, if it can't.
    """

    def __init__(
        self, schedule: Schedule, places: Places, *, record: bool = False
    ) -> None:
        self.now = 0.0
        self.beginners = 0
        self.forced: list[Switch] = []
        self.free: list[Switch] = []
        self.taken = 0
        self.stuck = False
        self.outside: Callable[[], AbstractContextManager[None]] = nullcontext
        self.left_real: Callable[[], Sequence[str]] = tuple
        self.let_others: Callable[[], object] = tuple
        self.refused: UnsupportedCallError | None = None
        self._owner = threading.get_ident()
        self.schedule = schedule
        self._record = record
        self._threads: list[Worker] = []
        # How many of these were given.
        self._given = 0
        self._is_over = False
        self._is_given_up = False
        # How often only time has gone on since one of these ran.
        self._periods = 0
        self._numbers: dict[int, int] = {}
        self._running = -1
        # Those that were made to stop, the last one behind.
        self._stopped: list[int] = []
        # Places, or waits and ends, since the last switch.
        self._places_passed = 0
        self._waits_passed = 0
        self._next = schedule.switches[0] if schedule.switches else None
        self.places = places
        self._over = allocate_lock()

    def run(self, bodies: Sequence[Callable[[], object]]) -> list[object]:
        """Run a function in a thread each, until all have returned or raised.

        Returns:
            What each has returned; what it has raised is in `errors`.

        Raises:
            UncoveredError: It does not end, or there is no such thread to begin, or
                something was refused, even if the code went on.
        """
        self._given = len(bodies)
        self._threads = [*(Worker() for _ in bodies), *self._threads]
        self.beginners = len(self._threads)
        if self.schedule.first >= self.beginners:
            raise UncoveredError(
                f"the schedule {self.schedule} begins with thread "
                f"{self.schedule.first}, and there are {self.beginners}"
            )
        self._over.acquire()
        self.places.call = self._place
        given = self._threads[: self._given]
        with self.outside():
            # Names of their own: a store may call a file after its thread.
            threads = [
                threading.Thread(
                    target=self._work, args=one, name=f"thread {number}", daemon=True
                )
                for number, one in enumerate(zip(given, bodies, strict=True))
            ]
            for thread in threads:
                thread.start()
        self._running = self.schedule.first
        with told_of_waits(self._place):
            self._threads[self._running].gate.release()
            self._require_end()
            if not self.end():
                raise self._not_ended()
        for thread in threads:
            thread.join()
        self._over.release()
        self._running = -1
        if self.refused is not None:
            raise self.refused
        return [thread.result for thread in self._threads]

    def _require_end(self) -> None:
        """Wait until the run is over.

        Raises:
            UncoveredError: Nobody goes on.
        """
        # Counted in looks: a machine that stands still for a while stops no thread.
        step = min(_LOOK_SECONDS, _MOST_SECONDS)
        looks = idle = 0
        before, used = -1, 0.0
        while not self._over.acquire(timeout=step):
            used_before, used = used, time.process_time()
            busy = used - used_before > _BUSY_SHARE * step
            looks += 1
            idle = 0 if busy or self._running != before else idle + 1
            before = self._running
            if idle * step > _MOST_IDLE_SECONDS:
                raise self._not_ended()
            if looks * step > _MOST_SECONDS:
                raise self._not_ended(busy=busy)

    def _not_ended(self, *, busy: bool = False) -> UncoveredError:
        self._is_given_up = True
        frame = sys._current_frames().get(self._threads[self._running].identity)
        if busy:
            return UncoveredError(
                f"under the schedule {self.schedule} the threads do not end: thread "
                f"{self._running} has been running for long{_where(frame)}; if it looks"
                " again and again for what another thread does, have it sleep between"
                " two looks"
            )
        left = self.left_real()
        kept = f" (in {_list(left)} there are locks that stay real)" if left else ""
        return UncoveredError(
            f"under the schedule {self.schedule} the threads do not end: thread "
            f"{self._running} waits{_where(frame)}, and not by a lock or a sleep that "
            f"is the schedule's{kept}: make what it waits for inside turns_taken, or "
            "keep it in a module, a class, an object, a list or a dictionary (a "
            "buffered file that two threads use has a lock that is C's: open it with "
            "buffering=0, or use it under a lock of your own)"
        )

    def refuse(self, why: str) -> NoReturn:
        """The run cannot be followed; said at its end, too, if the code goes on.

        Raises:
            UnsupportedCallError: Always.
        """
        self.note_refused(why)
        raise UnsupportedCallError(why)

    def note_refused(self, why: str) -> None:
        """The same, where it is nothing to the calling thread."""
        if self.refused is None:
            self.refused = UnsupportedCallError(why)

    def begin(self, body: Callable[[], object]) -> tuple[Worker, Callable[[], None]]:
        """One thread more, which what runs or is prepared begins.

        Returns:
            What is known of it, and what is to be run in it.

        Raises:
            UnsupportedCallError: The run is over.
        """
        if self._is_over:
            raise UnsupportedCallError(
                "a thread is begun behind a run under a schedule: look at what the "
                "run has left outside turns_taken"
            )
        me = Worker()
        self._threads.append(me)
        return me, lambda: self._work(me, body)

    def end(self) -> bool:
        """End what still waits; whether it did.

        Of a run that was given up nobody is waited for: one may wait for another.
        """
        self._is_over = True
        for number, one in enumerate(self._threads):
            if not one.done and not one.over:
                self._running = number
                one.over = True
                one.gate.release()
                if self._is_given_up:
                    continue
                if not one.ended.acquire(timeout=_MOST_SECONDS):
                    return False
        return True

    @property
    def errors(self) -> list[BaseException | None]:
        """What each thread has raised, if anything."""
        return [thread.error for thread in self._threads]

    @property
    def missed(self) -> bool:
        """Whether some switch did not come to pass."""
        return self.taken < len(self.schedule.switches)

    # -- in the threads --

    def _work(self, me: Worker, body: Callable[[], object]) -> None:
        me.gate.acquire()
        me.identity = identity = threading.get_ident()
        self._numbers[identity] = self._threads.index(me)
        try:
            if self._is_looking():
                self.places.follow()
            if not me.over:
                me.result = body()
        except BaseException as error:  # noqa: BLE001 - the caller judges it.
            if not me.over:
                me.error = error
        finally:
            self.places.leave()
            del self._numbers[identity]
            me.done = True
            if not me.over:
                self._pass_on()
            me.ended.release()

    def _is_looking(self) -> bool:
        return self._next is not None or self._record

    def _place(self) -> None:
        """A thread is where another one may go on."""
        number = self._numbers.get(threading.get_ident())
        if number is None:
            return
        self._require_not_over(self._threads[number])
        if not self._is_looking():
            self.places.leave()
            return
        index = self._places_passed
        self._places_passed += 1
        switch = self._next
        if switch is None:
            if len(self.forced) < _MOST_FORCED:
                self.forced += [Switch(index, one) for one in self._who_could()]
            else:
                self.note_refused(
                    f"under the schedule {self.schedule} there are more than"
                    f" {_MOST_FORCED:,} places to switch at: name less code, or have"
                    " the threads do less"
                )
            return
        if switch.waits or index < switch.places:
            return
        if switch.thread not in self._who_could():
            self._give_up()
            return
        self._take(switch)
        me = self._running
        self._stopped.append(me)
        self._turn_to(switch.thread)
        self._threads[me].gate.acquire()
        if not self._is_looking():
            self.places.leave()

    def _take(self, switch: Switch) -> None:
        """It comes to pass now."""
        self.taken += 1
        switches = self.schedule.switches
        self._next = switches[self.taken] if self.taken < len(switches) else None
        self._places_passed = self._waits_passed = 0
        target = self._threads[switch.thread]
        target.pushed = not self._can_run(target)

    def _give_up(self) -> None:
        """Not the schedule that was asked for: whoever looks at `missed` drops it."""
        self._next = None
        self._record = False

    def _who_could(self) -> list[int]:
        return [
            number
            for number, thread in enumerate(self._threads)
            if number != self._running and self._may_run(thread)
        ]

    def _may_run(self, thread: Worker) -> bool:
        """Whether it can run, if need be because its time is over."""
        return self._can_run(thread) or (
            thread.deadline is not None and not thread.done and self._has_work()
        )

    def _has_work(self) -> bool:
        """Whether threads that were given have not ended."""
        return not all(one.done for one in self._threads[: self._given])

    @staticmethod
    def _can_run(thread: Worker) -> bool:
        return not thread.done and (thread.ready is None or thread.ready())

    def _turn_to(self, number: int) -> None:
        if number in self._stopped:
            self._stopped.remove(number)
        self._running = number
        self._threads[number].gate.release()

    def _pass_on(self) -> None:
        """The running thread has ended or waits: somebody else's turn."""
        able = [
            number for number, one in enumerate(self._threads) if self._may_run(one)
        ]
        if not able:
            self._let_go()
            return
        index = self._waits_passed
        self._waits_passed += 1
        switch = self._next
        if switch is not None and switch.waits and index == switch.places:
            if switch.thread in able:
                self._take(switch)
                self._turn_to(switch.thread)
                return
            self._give_up()
        chosen = self._who_goes_on(able)
        if switch is None:
            for number in able:
                if number != chosen:
                    to = Switch(index, number, waits=True)
                    if self._can_run(self._threads[number]):
                        self.free.append(to)
                    elif self._record:
                        self.forced.append(to)
        target = self._threads[chosen]
        target.pushed = not self._can_run(target)
        if chosen < self._given:
            self._periods = 0
        elif target.pushed:
            self._periods += 1
            if self._periods > _MOST_PERIODS:
                # A store's flusher wakes and sleeps, and those wait for each other.
                self._let_go()
                return
        self._turn_to(chosen)

    def _who_goes_on(self, able: list[int]) -> int:
        """The one of these that does, if the schedule does not say."""
        running = [one for one in able if self._can_run(self._threads[one])]
        for number in (*reversed(self._stopped), *running):
            if number in running:
                return number
        return min(able, key=lambda number: self._threads[number].deadline or 0.0)

    def _let_go(self) -> None:
        """Nobody goes on, whatever the time."""
        given = self._threads[: self._given]
        waiting = [number for number, one in enumerate(given) if not one.done]
        if waiting:
            self.let_others()
            for one in waiting:
                if self._can_run(self._threads[one]):
                    self.note_refused(
                        f"thread {one} waited for a thread that is not the schedule's"
                    )
            self.stuck = True
            self._turn_to(waiting[0])
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
        self._require_not_over(me)
        if ready():
            return True
        me.ready, me.deadline, me.pushed = ready, until, False
        try:
            self._pass_on()
            me.gate.acquire()
        finally:
            me.ready = me.deadline = None
        self._require_not_over(me)
        if me.pushed:
            me.pushed = False
            if until is not None:
                self.now = max(self.now, until)
            return ready()
        if self.stuck and not ready():
            raise DeadlockError("all threads wait for each other")
        return True

    @staticmethod
    def _require_not_over(me: Worker) -> None:
        if me.over:
            raise OverError("the run is over")

    def is_here(self) -> bool:
        """Whether the calling thread is one of the run's."""
        return threading.get_ident() in self._numbers

    def is_ours(self) -> bool:
        """Whether the calling thread is one of the run's, or prepares it."""
        return self.is_here() or threading.get_ident() == self._owner

    def is_going_on(self) -> bool:
        """Whether threads of it are running."""
        return self._running >= 0


def _where(frame: FrameType | None) -> str:
    """The line of a store at which a thread is."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if module != "tornpage" and module not in sys.stdlib_module_names:
            code = frame.f_code
            return f" at {code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
        frame = frame.f_back
    return ""


def _list(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    tail = f" and {more} more" if more > 0 else ""
    return ", ".join(names[:_MOST_NAMED]) + tail


_MOST_NAMED: Final = 5
