"""Threads that switch at any place in the engine, and the power going in any of them.

Theory
======
Some threads share a database: they read, write, batch, sync, close. They run one at a
time, and where one is made to stop and another goes on is a schedule
(`tornpage.threads`). Every schedule with so many forced switches is run, at each place
where CPython may switch within the files of `PLACES`, the ones whose variables threads
share:

    reader   begin: meta = live |                     | put on the list, look again ...
    writer                      | commit, commit, ... |

What a thread is promised, whatever the schedule:

    R   a transaction shows one version, whole, the same whenever it is looked at; not
        older than any that was acknowledged or shown before it began
    W   a writer begins from the newest version, and its changes are there if its commit
        returned, else not: no update is lost
    E   an error is one that the call is documented to raise here; nobody waits for ever
    S   in the end the handle writes, counts no open transaction, and the checker is
        content
    D   when the power goes at any point of any of these runs, what was acknowledged is
        there, and nothing half of what was not (`contract`)

For D each run's trace is closed exhaustively. Many schedules give the same trace, and
traces begin alike, so that this takes less than running them.

What it is not: it forces at most as many switches as it is told (who goes on where a
thread waits or ends is tried whole and does not count), and only in `PLACES`;
everything in between happens at once, which is what the global lock of CPython makes
of it. One switch is run whole. Two at all places are about 25 million schedules, 60
hours of one core: for them there are `--share`, and `--core` for the modules that say
who reads, who writes and what is live. No places are left out because a switch there
could make no difference: of those of `readers` one in six has nothing before it but a
thread's own variables, and even there a frame that ends may let a transaction die that
others listen to. Files here are not shared with another process.

With `--free-threaded` threads switch before any instruction that has to do with what
they share, as on a build of CPython without its global lock, and the engine takes its
threads for such. There a call of a function in C is one step still, which it is not
quite on such a build.

    python -m boltmodel.lanes.threads --switches 2 --share 0.05
    python -m boltmodel.lanes.threads readers --switches 2 --core
    python -m boltmodel.lanes.threads --free-threaded

exits with 1 when a promise was broken, with 3 when schedules or crash points were left
out, and else with 0.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.contract import Outcome, Promise, broken
from boltmodel.interpret import History
from boltmodel.mutants import free_threads as planted_free
from boltmodel.mutants import threads as planted
from boltmodel.quiet import quiet
from boltmodel.recovery import recover
from boltmodel.threaded import SCENARIOS, BrokenError, Scenario, World
from shearbolt import BoltError
from tornpage.command.program import as_program
from tornpage.explore import Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.model import CrashModel
from tornpage.progress import Look, showing
from tornpage.threads import Schedule, Schedules, play
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tornpage.subject import Violation
    from tornpage.threads import Played, Turns
    from tornpage.trace import Mark

__all__ = [
    "CORE",
    "PLACES",
    "SCENARIOS",
    "Broken",
    "Scenario",
    "Swept",
    "main",
    "sweep",
]

_ENGINE: Final = os.path.dirname(shearbolt.__file__)

PLACES: Final = (
    os.path.join(_ENGINE, "database", ""),
    *(
        os.path.join(_ENGINE, "pages", f"{name}.py")
        for name in ("pager", "shared", "window")
    ),
    # What a planted bug does is part of the engine that has it.
    planted.__file__,
)
"""Where threads are made to switch."""

BESIDE: Final = (
    os.path.join(_ENGINE, "pages", "newpages.py"),
    os.path.join(_ENGINE, "tree", "lookup.py"),
    os.path.join(_ENGINE, "stats.py"),
)
"""What threads share besides, in steps without a call: counts, a page that waits to be
decoded. Only without the global lock can they be switched there."""

CORE: Final = (
    *(
        os.path.join(_ENGINE, "database", f"{name}.py")
        for name in (
            "alone",
            "batch",
            "doubt",
            "durable",
            "handle",
            "managed",
            "unsynced",
        )
    ),
    planted.__file__,
)
"""Those of them that say who reads, who writes and which version is live. What else is
in `PLACES` is a transaction's own, or the cache. With two switches `readers` has 16,762
schedules here, and more than 200,000 in all places."""

_CAP: Final = 20_000


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that did not hold.

    Attributes:
        scenario: What the threads did.
        schedule: How they switched.
        message: What was wrong.
        options: Of the command, that say which places the schedule counts.
    """

    scenario: str
    schedule: str
    message: str
    options: str = ""

    def __str__(self) -> str:
        return (
            f"{self.scenario}, schedule {self.schedule}: {self.message}\n"
            "    again: python -m boltmodel.lanes.threads "
            f"{self.scenario} {self.options}--schedule '{self.schedule}'"
        )


@dataclass(slots=True)
class Swept:
    """What was tried, and what was found.

    Attributes:
        schedules: Schedules that were run.
        left_out: Schedules that were known and not run.
        known: Schedules that are known by now, run or not.
        interrupted: Whether Ctrl-C ended it; what was known and not run is left out.
        outcomes: What became of the threads, by what they raised.
        traces: Different traces among the runs.
        crash_points: Crash points of these.
        closed: Those that were closed exhaustively.
        executions: Recoveries.
        broken: Promises that did not hold.
    """

    schedules: int = 0
    left_out: int = 0
    known: int = 1
    interrupted: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    traces: int = 0
    crash_points: int = 0
    closed: int = 0
    executions: int = 0
    broken: list[Broken] = field(default_factory=list)

    def look(self) -> Look:
        """How far it is."""
        return Look(
            self.schedules,
            self.known,
            f"{self.schedules:,}/{self.known:,} schedules "
            f" {self.crash_points:,} crash points  {len(self.broken)} broken",
        )

    def __str__(self) -> str:
        return (
            f"{self.schedules:,} schedules, {self.left_out:,} left out; "
            f"{self.traces:,} traces, {self.crash_points:,} crash points, "
            f"{self.closed:,} closed, {self.executions:,} recoveries; "
            f"{len(self.broken)} promises broken{', interrupted' * self.interrupted}"
        )


def sweep(
    scenario: Scenario,
    *,
    switches: int = 1,
    share: float = 1.0,
    seed: int = 0,
    core: bool = False,
    free_threaded: bool = False,
    only: Schedule | None = None,
    most_broken: int = 20,
    watch: Callable[[Swept], None] | None = None,
) -> Swept:
    """Run a scenario under every schedule, and crash what is new about each run.

    Ctrl-C ends it with what is known by then.

    Args:
        scenario: What the threads do.
        switches: How often they are made to switch at most.
        share: How many of the schedules that follow from one are tried, from 0 to 1.
        seed: Which.
        core: Switch in `CORE` only, and not in all of `PLACES`.
        free_threaded: Switch before any instruction, as without the global lock.
        only: This schedule and no other.
        most_broken: When to stop.
        watch: Called after each schedule.
    """
    swept = Swept()
    places = CORE if core else PLACES
    if free_threaded:
        places += (planted_free.__file__, *(() if core else BESIDE))
    options = "--core " * core + "--free-threaded " * free_threaded
    crasher = _Crasher(scenario.name, swept, options)
    world: World | None = None

    def once(turns: Turns) -> list[Callable[[], object]]:
        nonlocal world
        world = World(turns, dict(scenario.options))
        return scenario.threads(world)

    every = Schedules(
        once,
        places,
        switches=switches,
        share=share,
        seed=seed,
        free_threaded=free_threaded,
    )
    with _no_collector():
        # Caches of the process fill: a first run has other places than all others.
        first = partial(play, once, code=places, free_threaded=free_threaded)
        try:
            first(Schedule())
            for played in every if only is None else (first(only),):
                assert world is not None
                for message in _judge(world, scenario, played):
                    swept.broken.append(
                        Broken(scenario.name, str(played.schedule), message, options)
                    )
                swept.schedules += 1
                swept.known = every.known
                swept.outcomes[", ".join(map(_named, played.errors))] += 1
                if scenario.crashes and not swept.broken:
                    crasher.crash(world, str(played.schedule))
                world = None
                if watch is not None:
                    watch(swept)
                if len(swept.broken) >= most_broken:
                    break
        except KeyboardInterrupt:
            swept.interrupted = True
    # What is known and not run has been left out, when nobody is to run it any more.
    rest = every.known - swept.schedules
    swept.left_out = max(1, rest) if swept.interrupted else every.left_out
    return swept


def _named(error: BaseException | None) -> str:
    return "-" if error is None else type(error).__name__


@contextmanager
def _no_collector() -> Iterator[None]:
    """The collector runs where the threads call it, so that runs are alike."""
    was = gc.isenabled()
    gc.collect()
    # All is let go together: what somebody else has frozen stays so.
    frozen = gc.get_freeze_count()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        if was:
            gc.enable()


def _judge(world: World, scenario: Scenario, played: Played) -> Iterator[str]:
    """What was wrong in one run."""
    if played.stuck:
        yield "all threads wait for each other"
        return
    errors = [one for one in played.errors if one is not None]
    wrong = [one for one in errors if not isinstance(one, scenario.allowed)]
    for error in wrong:
        yield f"{type(error).__name__}: {error}"
    if wrong:
        return
    try:
        world.settle()
    except (BrokenError, BoltError) as error:
        yield f"in the end: {type(error).__name__}: {error}"


class _Crasher:
    """Loses power at every point of every trace, once each."""

    def __init__(self, name: str, swept: Swept, options: str) -> None:
        self._name = name
        self._options = options
        self._swept = swept
        self._seen: set[int] = set()
        self._model = CrashModel()
        self._beginnings = Beginnings(Memory(jumps=self._model.jumps))

    def crash(self, world: World, schedule: str) -> None:
        trace = world.disk.trace
        identity = hash(tuple(trace))
        if identity in self._seen:
            return
        self._seen.add(identity)
        swept = self._swept
        swept.traces += 1
        explorer = Explorer(
            {}, trace, recover, self._model, cap=_CAP, beginnings=self._beginnings
        )
        history = History(None, world.states)
        for closure in explorer.sweep():
            swept.crash_points += 1
            swept.closed += closure.closed
            swept.executions += closure.executions
            marks = explorer.marks(closure.point)
            for reached in closure.outcomes:
                assert isinstance(reached.outcome, Outcome)
                for violation in _lost_by(history, marks, reached.outcome):
                    swept.broken.append(
                        Broken(
                            self._name,
                            schedule,
                            f"power lost at {closure.point}: {violation.property}: "
                            f"{violation.message}",
                            self._options,
                        )
                    )


def _lost_by(
    history: History, marks: Sequence[Mark], outcome: Outcome
) -> Sequence[Violation]:
    """What a crash has broken.

    Between what somebody was told and the last commit that was called there may be
    several: a thread is made to stop behind its commit, before it can tell.
    """
    told, called = None, None
    for mark in marks:
        txid = int(dict(mark.data)["txid"])
        if mark.label == "told":
            told = txid if told is None else max(told, txid)
        else:
            called = txid if called is None else max(called, txid)
    if told is None:
        return broken(history, Promise(), outcome)
    found: Sequence[Violation] = ()
    for acked in range(told, max(told + 1, called or 0)):
        flying = acked + 1 if called is not None and called > acked else None
        found = broken(history, Promise(True, acked, flying), outcome)
        if not found:
            return ()
    return found


def _schedule(text: str) -> Schedule:
    try:
        return Schedule.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep scenarios and print what was found.

    Returns:
        The exit status: 0, 1 or 3.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.threads",
        description="Threads that switch at any place, and the power going.",
    )
    parser.add_argument("scenario", nargs="*", help="default: all")
    parser.add_argument(
        "--switches", type=int, default=1, help="most forced switches of a schedule"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="how many of the schedules that follow from one are tried, 0 to 1",
    )
    parser.add_argument("--seed", type=int, default=0, help="which, with --share")
    parser.add_argument(
        "--core",
        action="store_true",
        help="switch only where it is said who reads, who writes and what is live",
    )
    parser.add_argument(
        "--free-threaded",
        action="store_true",
        help="switch before any instruction, as a build without the global lock may",
    )
    parser.add_argument(
        "--schedule", type=_schedule, help="this one only, as a failure names it"
    )
    given = parser.parse_args(arguments)
    if given.schedule is not None and len(given.scenario) != 1:
        parser.error("a schedule is one of a scenario: name one")
    unknown = [name for name in given.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    status = 0
    for name in given.scenario or SCENARIOS:
        try:
            with quiet(), showing(name, sys.stderr) as show:
                swept = sweep(
                    SCENARIOS[name],
                    switches=given.switches,
                    share=given.share,
                    seed=given.seed,
                    core=given.core,
                    free_threaded=given.free_threaded,
                    only=given.schedule,
                    watch=lambda so_far: show(so_far.look),
                )
        except UncoveredError as error:
            sys.stdout.write(f"{name}: not covered: {error}\n")
            status = status or 3
            continue
        sys.stdout.write(f"{name}: {swept}\n")
        sys.stdout.writelines(f"  {one}\n" for one in swept.broken)
        sys.stdout.flush()
        if swept.broken:
            status = 1
        elif not status and (swept.left_out or swept.closed < swept.crash_points):
            status = 3
        if swept.interrupted:
            break
    return status


if __name__ == "__main__":
    sys.exit(as_program("threads", main))
