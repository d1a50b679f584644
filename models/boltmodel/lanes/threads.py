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

What it is not: it switches at most as often as it is told, and only in `PLACES`;
everything in between happens at once, which is what the global lock of CPython makes
of it. Builds without that lock are not covered. Files here are not shared with
another process.

    python -m boltmodel.lanes.threads --switches 2 --share 0.05

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
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.contract import Outcome, Promise, broken
from boltmodel.interpret import DATABASE, History
from boltmodel.model import EMPTY, ModelTx, difference, observe
from boltmodel.mutants import threads as planted
from boltmodel.quiet import quiet
from boltmodel.recovery import recover
from shearbolt import BoltError, DatabaseNotOpenError, TxClosedError
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.model import CrashModel
from tornpage.threads import Schedule, Schedules, play, under_turns
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boltmodel.model import Bucket
    from shearbolt import Tx
    from tornpage.subject import Violation
    from tornpage.threads import Played, Turns
    from tornpage.trace import Mark

__all__ = ["PLACES", "SCENARIOS", "Broken", "Scenario", "Swept", "main", "sweep"]

_ENGINE: Final = os.path.dirname(shearbolt.__file__)

PLACES: Final = (
    os.path.join(_ENGINE, "database", ""),
    os.path.join(_ENGINE, "pages", "pager.py"),
    os.path.join(_ENGINE, "pages", "window.py"),
    # What a planted bug does is part of the engine that has it.
    planted.__file__,
)
"""Where threads are made to switch."""

_KEYS: Final = 12
_BUCKET: Final = b"a"
_CAP: Final = 20_000
_READ_AHEAD: Final = 8192


class BrokenError(Exception):
    """A thread saw what it must not see."""


class World:
    """One database, the threads' deeds, and what was promised.

    Args:
        turns: The run.
        options: Of `shearbolt.open`.

    Attributes:
        db: The database.
        disk: The disk it is on.
        states: Content by transaction, of each whose commit was called.
    """

    def __init__(self, turns: Turns, options: dict[str, int | bool]) -> None:
        self.disk = Disk()
        if options.pop("read_ahead", False):
            self.disk.read_ahead = _READ_AHEAD
        self._storage = under_turns(self.disk, turns)
        self._options = options
        self.db = self._open()
        self.states: dict[int, Bucket] = {self.db.info().txid: EMPTY}
        # The newest version that anybody was shown, or told to be committed.
        self._newest = self.db.info().txid
        # The last one to have been changed.
        self._changed: Tx | None = None
        self.disk.mark("told", txid=self._newest)
        for number in range(3):
            self.write(number)

    def _open(self) -> shearbolt.DB:
        return shearbolt.open(
            DATABASE,
            storage=self._storage,
            page_size=1024,
            **self._options,  # type: ignore[arg-type]
        )

    # -- what threads do --

    def write(self, number: int) -> None:
        """One commit."""
        with self.db.update() as tx:
            txid = self.change(tx, number)
        self.told(txid)

    def change(self, tx: Tx, number: int) -> int:
        """Change a third of the pairs; the transaction's id."""
        self.put(
            tx,
            {b"%02d" % at: b"%d" % number * 90 for at in range(number % 3, _KEYS, 3)},
        )
        return tx.txid

    def put(self, tx: Tx, pairs: dict[bytes, bytes]) -> None:
        """Put pairs into a transaction that will be committed, and into the model."""
        model = ModelTx(self._content(tx))
        model.ensure((_BUCKET,))
        bucket = tx.create_bucket_if_not_exists(_BUCKET)
        for key, value in pairs.items():
            model.put((_BUCKET,), key, value)
            bucket.put(key, value)
        self.states[tx.txid] = model.commit()
        self._changed = tx
        self.disk.mark("called", txid=tx.txid)

    def _content(self, tx: Tx) -> Bucket:
        """What a writer has made so far; it begins from the newest version."""
        if self._changed is tx:
            # One function of several in a batch.
            return self.states[tx.txid]
        known = self.states.get(tx.txid - 1)
        if known is None or tx.txid <= self._newest:
            raise BrokenError(
                f"a writer is transaction {tx.txid}, and {self._newest} was committed"
            )
        self._same(tx, known, f"writer {tx.txid}")
        return known

    def told(self, txid: int) -> None:
        """Somebody knows now that this version is committed."""
        self._newest = max(self._newest, txid)
        self.disk.mark("told", txid=txid)

    def read(self) -> None:
        """Look at the newest version, twice."""
        floor = self._newest
        with self.db.view() as tx:
            if tx.txid < floor:
                raise BrokenError(
                    f"a reader shows transaction {tx.txid}, and {floor} was committed"
                )
            for look in ("reader", "the second look of reader"):
                self._same(tx, self.states[tx.txid], f"{look} {tx.txid}")
            txid = tx.txid
        self.told(txid)

    def _same(self, tx: Tx, promised: Bucket, who: str) -> None:
        differs = difference(promised, observe(tx))
        if differs is not None:
            raise BrokenError(f"{who}: {differs}")

    def close(self) -> None:
        """Close the database under the others."""
        self.db.close()

    # -- in the end --

    def settle(self) -> None:
        """Look whether the handle is as it should be, and close the database.

        Raises:
            BrokenError: It is not.
            BoltError: It does not do what it should.
        """
        try:
            self.db.info()
        except DatabaseNotOpenError:
            self.db = self._open()
            newest = self.db.info().txid
            if newest < self._newest or newest not in self.states:
                raise BrokenError(
                    f"opened again it shows transaction {newest}, and {self._newest} "
                    "was committed"
                ) from None
        gc.collect()
        self.write(7)
        self.read()
        with self.db.view() as tx:
            problems = tx.check()
        if problems:
            raise BrokenError(f"the checker says: {problems[0]}")
        still = self.db.stats().open_tx_n
        if still:
            raise BrokenError(f"{still} transactions count as open, and none is")
        self.db.close()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What some threads do with one database.

    Attributes:
        name: Short, with hyphens.
        summary: One line.
        threads: What each does.
        options: Of `shearbolt.open`, with `read_ahead` for the disk.
        allowed: Errors that a thread may get.
        crashes: Whether crashes are judged by the contract of commits with syncs.
    """

    name: str
    summary: str
    threads: Callable[[World], list[Callable[[], object]]]
    options: tuple[tuple[str, int | bool], ...] = ()
    allowed: tuple[type[BoltError], ...] = ()
    crashes: bool = True


def _writes(world: World, *numbers: int) -> Callable[[], None]:
    def write() -> None:
        for number in numbers:
            world.write(number)

    return write


def _readers(world: World) -> list[Callable[[], object]]:
    return [world.read, _writes(world, 3, 4, 5)]


def _two_readers(world: World) -> list[Callable[[], object]]:
    def twice() -> None:
        world.read()
        world.read()

    return [world.read, _writes(world, 3, 4), twice]


def _writers(world: World) -> list[Callable[[], object]]:
    return [_writes(world, 3, 5), _writes(world, 4, 6)]


def _rolled_back(world: World) -> list[Callable[[], object]]:
    def roll_back() -> None:
        for number in (3, 5):
            tx = world.db.begin(writable=True)
            bucket = tx.bucket(_BUCKET)
            for at in range(_KEYS):
                bucket.put(b"%02d" % at, b"never" * number)
            tx.rollback()

    return [roll_back, _writes(world, 4, 6)]


def _batches(world: World) -> list[Callable[[], object]]:
    """Three calls; one raises, which is nobody else's affair."""
    # So that a full batch is led while another call comes.
    world.db.max_batch_size = 2

    def call(number: int) -> Callable[[], None]:
        def function(tx: Tx) -> int:
            world.put(tx, {b"batch %d" % number: b"x" * 50})
            return tx.txid

        def thread() -> None:
            world.told(world.db.batch(function))
            with world.db.view() as tx:
                if tx.bucket(_BUCKET).get(b"batch %d" % number) is None:
                    raise BrokenError(f"call {number} of a batch is not there")

        return thread

    def guilty() -> None:
        def function(tx: Tx) -> None:
            tx.bucket(_BUCKET).put(b"guilty", b"x")
            raise ZeroDivisionError

        try:
            world.db.batch(function)
        except ZeroDivisionError:
            return
        raise BrokenError("the error of a batch's function got lost")

    return [call(1), guilty, call(2)]


def _closed(world: World) -> list[Callable[[], object]]:
    return [world.read, world.close, _writes(world, 3, 4)]


def _lost(world: World) -> list[Callable[[], object]]:
    def lose() -> None:
        tx = world.db.begin(writable=True)
        tx.bucket(_BUCKET).put(b"00", b"never")
        del tx
        gc.collect()
        reader = world.db.begin()
        observe(reader)
        del reader
        gc.collect()

    return [lose, _writes(world, 3, 4)]


def _synced(world: World) -> list[Callable[[], object]]:
    return [_writes(world, 3, 4), world.db.sync, world.read]


SCENARIOS: Final = {
    one.name: one
    for one in (
        Scenario("readers", "one reads, one commits three times", _readers),
        Scenario(
            "cold-readers",
            "the same, with a cache for one page",
            _readers,
            (("cache_size", 1),),
        ),
        Scenario(
            "small-cache",
            "the same, with a cache that is too small, and wide reads",
            _two_readers,
            (("cache_size", 3000), ("read_ahead", True)),
        ),
        Scenario("two-readers", "two read, one commits twice", _two_readers),
        Scenario("writers", "two commit twice each", _writers),
        Scenario(
            "rolled-back", "one rolls back twice, one commits twice", _rolled_back
        ),
        Scenario("batches", "three calls to batch, one of which raises", _batches),
        Scenario(
            "closed",
            "one reads, one commits, one closes the database",
            _closed,
            allowed=(DatabaseNotOpenError, TxClosedError),
        ),
        Scenario("lost", "one loses its transactions, one commits twice", _lost),
        Scenario(
            "synced",
            "one commits without syncs, one syncs, one reads",
            _synced,
            (("no_sync", True),),
            crashes=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that did not hold.

    Attributes:
        scenario: What the threads did.
        schedule: How they switched.
        message: What was wrong.
    """

    scenario: str
    schedule: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.scenario}, schedule {self.schedule}: {self.message}\n"
            "    again: python -m boltmodel.lanes.threads "
            f"{self.scenario} --schedule '{self.schedule}'"
        )


@dataclass(slots=True)
class Swept:
    """What was tried, and what was found.

    Attributes:
        schedules: Schedules that were run.
        left_out: Schedules that were known and not run.
        outcomes: What became of the threads, by what they raised.
        traces: Different traces among the runs.
        crash_points: Crash points of these.
        closed: Those that were closed exhaustively.
        executions: Recoveries.
        broken: Promises that did not hold.
    """

    schedules: int = 0
    left_out: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    traces: int = 0
    crash_points: int = 0
    closed: int = 0
    executions: int = 0
    broken: list[Broken] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.schedules:,} schedules, {self.left_out:,} left out; "
            f"{self.traces:,} traces, {self.crash_points:,} crash points, "
            f"{self.closed:,} closed, {self.executions:,} recoveries; "
            f"{len(self.broken)} promises broken"
        )


def sweep(
    scenario: Scenario,
    *,
    switches: int = 1,
    share: float = 1.0,
    seed: int = 0,
    only: Schedule | None = None,
    most_broken: int = 20,
) -> Swept:
    """Run a scenario under every schedule, and crash what is new about each run.

    Args:
        scenario: What the threads do.
        switches: How often they are made to switch at most.
        share: How many of the schedules that follow from one are tried, from 0 to 1.
        seed: Which.
        only: This schedule and no other.
        most_broken: When to stop.
    """
    swept = Swept()
    crasher = _Crasher(scenario.name, swept)
    world: World | None = None

    def once(turns: Turns) -> list[Callable[[], object]]:
        nonlocal world
        world = World(turns, dict(scenario.options))
        return scenario.threads(world)

    every = Schedules(once, PLACES, switches=switches, share=share, seed=seed)
    with _no_collector():
        for played in every if only is None else (play(once, only, PLACES),):
            assert world is not None
            for message in _judge(world, scenario, played):
                swept.broken.append(
                    Broken(scenario.name, str(played.schedule), message)
                )
            swept.schedules += 1
            swept.outcomes[", ".join(map(_named, played.errors))] += 1
            if scenario.crashes and not swept.broken:
                crasher.crash(world, str(played.schedule))
            world = None
            if len(swept.broken) >= most_broken:
                break
    swept.left_out = every.left_out
    return swept


def _named(error: BaseException | None) -> str:
    return "-" if error is None else type(error).__name__


@contextmanager
def _no_collector() -> Iterator[None]:
    """The collector runs where the threads call it, so that runs are alike."""
    was = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
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

    def __init__(self, name: str, swept: Swept) -> None:
        self._name = name
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
            with quiet():
                swept = sweep(
                    SCENARIOS[name],
                    switches=given.switches,
                    share=given.share,
                    seed=given.seed,
                    only=given.schedule,
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
    return status


if __name__ == "__main__":
    sys.exit(main())
