"""Every schedule of some threads with so many switches.

    0                            nobody is made to stop
    0:0>1  0:1>1  0:2>1 ...      thread 0 begins and is stopped once, at each place
    0:7>1:0>0  0:7>1:1>0 ...     and 1, behind that, is stopped in turn
    0~0>2  0~1>2 ...             where a thread waits or ends, 2 goes on and not 1

Most errors of threads need one or two switches at the right place, however long the
threads are (Musuvathi and Qadeer, "Iterative Context Bounding for Systematic Testing
of Multithreaded Programs", PLDI 2007). So schedules are tried by the number of switches
that they force. Where a thread waits or ends anyway, each one that can go on is tried,
and that does not count, as there. Ending a wait before its time counts, wherever it is
done: else a thread that sleeps again and again could be woken for ever.

The places at which to switch are found by running: each run says where behind its last
switch somebody else could have gone on, and each of these is one schedule more. With
`share` only some of these are followed; what was left out is counted.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from tornpage.threads.places import Places
from tornpage.threads.schedule import Schedule
from tornpage.threads.turns import Turns
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tornpage.threads.schedule import Switch

__all__ = ["Played", "Schedules", "play"]


Once: TypeAlias = "Callable[[Turns], Sequence[Body] | Generator[Sequence[Body]]]"
"""What prepares one run; see `Schedules`."""

Body: TypeAlias = "Callable[[], object]"


@dataclass(frozen=True, slots=True)
class Played:
    """One run under one schedule.

    Attributes:
        schedule: Which.
        results: What the threads have returned.
        errors: What they have raised.
        stuck: Whether all threads waited for each other.
    """

    schedule: Schedule
    results: Sequence[object]
    errors: Sequence[BaseException | None]
    stuck: bool

    def require_success(self) -> None:
        """Raise what the first thread has raised that raised anything.

        Raises:
            BaseException: That; a `DeadlockError` when all threads were stuck.
        """
        for error in self.errors:
            if error is not None:
                raise error


class Schedules:
    """Runs some threads under every schedule, one after the other.

    Args:
        once: Gets the `Turns` of one run. Returns what each thread does; what they
            share is made anew. A generator yields this instead, once, and goes on when
            the threads have ended.
        code: The beginnings of the file names of the code in which threads are made to
            switch.
        switches: How many a schedule forces at most.
        share: How many of the schedules that follow from one are tried, from 0 to 1.
            Which depends on `seed` and on the schedule only.
        seed: See there.
        free_threaded: Switch before any instruction, as a build of CPython without the
            global lock may: several times as many places. This one may have the lock.

    Raises:
        ValueError: `switches` is below 0, or `share` not from 0 to 1.

    Attributes:
        played: How many schedules were run.
        left_out: How many were known and not run; what would follow from them is not
            known.
        known: How many there are as far as is known by now: those run, those left out
            and those that follow from the ones run. It grows as they are.
    """

    def __init__(
        self,
        once: Once,
        code: tuple[str, ...],
        *,
        switches: int = 1,
        share: float = 1.0,
        seed: int = 0,
        free_threaded: bool = False,
    ) -> None:
        if switches < 0:
            raise ValueError(f"switches is a number from 0 on, not {switches}")
        if not 0 <= share <= 1:
            raise ValueError(f"share is a number from 0 to 1, not {share}")
        self.played = 0
        self.left_out = 0
        self.known = 1
        self._once = once
        self._code = code
        self._switches = switches
        self._share = share
        self._seed = seed
        self._free_threaded = free_threaded

    def __iter__(self) -> Iterator[Played]:
        """Run one after the other; those with the fewest switches first."""
        with Places(self._code, free_threaded=self._free_threaded) as places:
            yield from self._played(places)

    def _played(self, places: Places) -> Iterator[Played]:
        # By how many switches they force. Those that follow from one are made when it
        # is their turn: all of them at once would be millions.
        levels: list[deque[Iterator[Schedule]]] = [
            deque() for _ in range(self._switches + 1)
        ]
        levels[0].append(iter([Schedule()]))
        for forced, level in enumerate(levels):
            last = forced == self._switches
            while level:
                for schedule in level.popleft():
                    played, turns = _play(self._once, schedule, places, record=not last)
                    self._require_alike(schedule, turns)
                    if schedule == Schedule():
                        first = range(1, turns.beginners)
                        self.known += len(first)
                        level.append(Schedule(one) for one in first)
                        if not last and turns.beginners > 1:
                            self._require_places(turns, places)
                    self.played += 1
                    self.known += len(turns.free)
                    if not last:
                        self.known += len(turns.forced)
                    yield played
                    level.append(self._following(schedule, turns.free))
                    if not last:
                        levels[forced + 1].append(
                            self._following(schedule, turns.forced)
                        )

    def _following(
        self, schedule: Schedule, switches: list[Switch]
    ) -> Iterator[Schedule]:
        for switch in switches:
            child = replace(schedule, switches=(*schedule.switches, switch))
            if self._is_wanted(child):
                yield child
            else:
                self.left_out += 1

    def _require_alike(self, schedule: Schedule, turns: Turns) -> None:
        if turns.missed:
            # In a run like the one it follows from it can't be; the code is not the
            # same each time.
            raise UncoveredError(
                f"the schedule {schedule} was there and is not there any more: what "
                "the threads do depends on something besides the schedule (on a cache "
                "of the process, say: then run them once before)"
            )

    def _require_places(self, turns: Turns, places: Places) -> None:
        # Calls of the disk are places, too, whatever the code is called: they are no
        # sign that the names are right.
        missed = self._code and not places.met
        if missed or all(switch.waits for switch in turns.forced):
            raise UncoveredError(
                f"no thread passes a place in {', '.join(self._code)}, so there is "
                "nowhere to switch: name the files of the code under test, as their "
                "__file__ begins"
            )

    def _is_wanted(self, schedule: Schedule) -> bool:
        if self._share >= 1:
            return True
        name = f"{self._seed} {schedule}".encode()
        return zlib.crc32(name) < self._share * (1 << 32)


def play(
    once: Once,
    schedule: Schedule,
    code: tuple[str, ...],
    *,
    free_threaded: bool = False,
) -> Played:
    """Run some threads under one schedule; arguments as for `Schedules`.

    Raises:
        UncoveredError: A switch of it did not come to pass: it was another schedule.
    """
    with Places(code, free_threaded=free_threaded) as places:
        played, turns = _play(once, schedule, places, record=False)
    if turns.missed:
        raise UncoveredError(
            f"of the schedule {schedule} only {turns.taken} switches came to pass: it "
            "is of other code, or of other threads"
        )
    return played


def _play(
    once: Once,
    schedule: Schedule,
    places: Places,
    *,
    record: bool,
) -> tuple[Played, Turns]:
    turns = Turns(schedule, places, record=record)
    made = once(turns)
    if not isinstance(made, Generator):
        results = turns.run(made)
        return Played(schedule, results, turns.errors, turns.stuck), turns
    with closing(made):
        results = turns.run(next(made))
        try:
            again = next(made, None)
        except Exception as error:
            error.add_note(f"behind a run under the schedule {schedule}")
            raise
    if again is not None:
        raise TypeError("what prepares a run yields its threads once")
    return Played(schedule, results, turns.errors, turns.stuck), turns
