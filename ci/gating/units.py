"""The gate's work in units, each a pure function of its record and the code.

    Cover    one program, every crash point          -> Certificate
    Catch    one planted bug against many programs   -> Planted
    Tell     one failure: shrink, unfold, draw from  -> ReportedViolation and Scene

A unit knows nothing of the others, of workers or of the clock on the wall, so its
result is the same wherever and whenever it runs; only seconds differ. A unit has a
time limit of its own, kept with timer signals: code under test that loops for ever
has to end somewhere, and ends as "not covered", never as a pass. The limit is in
seconds of processor time, because a busy machine must not change a verdict; code
that stands still is ended after eight times as long on the clock.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tornpage.model import CrashModel
from tornpage.registry import file_digest, load, with_database
from tornpage.reports import Planted, scene_of
from tornpage.reports.scene import SceneError
from tornpage.run import Experiment, Finding, Plan
from tornpage.run.afresh import Afresh
from tornpage.run.experiment import beginnings_of
from tornpage.run.programs import cover
from tornpage.run.report import report
from tornpage.uncovered import ControlError, UncoveredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

    from tornpage.certificate import Certificate, Failure
    from tornpage.certificate.record import ReportedViolation
    from tornpage.explore.beginnings import Beginnings
    from tornpage.reports import Scene
    from tornpage.run.experiment import Places
    from tornpage.subject import Subject

__all__ = [
    "OVERDUE",
    "Catch",
    "Cover",
    "Lost",
    "Stage",
    "Tell",
    "Told",
    "Unit",
    "begin_worker",
    "do",
    "do_all",
    "raised",
]

OVERDUE = "the time was up before it was begun"

# Executions make few cycles and much garbage that needs no collector. What a program
# needs while it is explored is gone at its end: a collection meanwhile looks at all of
# that in vain. So they are made between batches, 2 % of a run instead of 5, and a
# program that needs more than this has some of its own.
_GC_THRESHOLD = 100_000

# Measured: on a busy machine a unit takes five times its processor time.
_STANDSTILL = 8

# A bug can make a crash point need very many executions, and shows in the first
# ones. What a lower cap leaves out can hide a bug from the hunt, never invent one.
_HUNTING_CAP = 300


@dataclass(frozen=True, slots=True)
class Stage:
    """What programs run on.

    Attributes:
        spec: The name the subject is found by.
        model: The crash model as text.
        cap: Most executions for one crash point.
        database: Path of the file they start from, or None.
        mutant: Planted bug that the code has in everything, or None.
    """

    spec: str
    model: str
    cap: int
    database: str | None = None
    mutant: str | None = None

    def subject(self) -> Subject:
        """The code under test.

        Raises:
            SubjectError: It cannot be found, or does not start from that file.
            OSError: The file cannot be read.
        """
        found = load(self.spec)
        return found if self.database is None else with_database(found, self.database)

    def plan(self, mutant: str | None = None) -> Plan:
        """How one program is covered."""
        return Plan(
            spec=self.spec,
            programs=1,
            model=CrashModel.parse(self.model),
            mutant=mutant or self.mutant,
            database=self.database,
            database_digest=self.database and file_digest(self.database),
            cap=self.cap,
            keep_going=True,
            shrink=False,
        )


@dataclass(frozen=True, slots=True)
class Cover:
    """Visit every crash point of one program.

    Attributes:
        lane: The lane it belongs to.
        stage: What it runs on.
        name: What to call it when it is not covered.
        seed: The seed it is generated from; None: `program` is given.
        program: The program as JSON values.
        limit: Seconds of processor time.
    """

    lane: str
    stage: Stage
    name: str
    seed: int | None
    program: Any
    limit: float


@dataclass(frozen=True, slots=True)
class Catch:
    """Look for one planted bug until it is found.

    Attributes:
        stage: What programs run on.
        name: The planted bug.
        summary: One line about it.
        corpus: Programs to try first.
        seeds: Then programs of these seeds, (first, how many).
        shrink: Whether to shrink what is found.
        limit: Seconds of processor time.
    """

    stage: Stage
    name: str
    summary: str
    corpus: tuple[Any, ...]
    seeds: tuple[int, int]
    shrink: bool
    limit: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Make a failure small and unfold it.

    Attributes:
        lane: The lane it was found in.
        stage: What its program runs on.
        violation: The failure as it was found.
        limit: Seconds of processor time.
    """

    lane: str
    stage: Stage
    violation: ReportedViolation
    limit: float


@dataclass(frozen=True, slots=True)
class Told:
    """A failure, small, with its picture.

    Attributes:
        violation: The failure.
        scene: Unfolded; None when that failed.
        missing: Why it did.
    """

    violation: ReportedViolation
    scene: Scene | None
    missing: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A unit that has no result.

    Attributes:
        reason: Why, as a clause.
    """

    reason: str


Unit = Cover | Catch | Tell


class _OverdueError(ControlError):
    """Time is up. Not an Exception: code under test may catch all of those."""


def begin_worker(path: tuple[str, ...], stages: Iterable[Stage] = ()) -> None:
    """Prepare a worker process.

    Args:
        path: Where its coordinator looks for modules.
        stages: What recovery is made of afresh: before any program is run, the
            process is set aside for each.
    """
    # Ctrl-C reaches the whole process group; the coordinator decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(_GC_THRESHOLD)
    # Code under test warns of the faults that it is given, thousands of times.
    logging.getLogger().addHandler(logging.NullHandler())
    sys.path[:] = path
    for stage in stages:
        # Whatever is wrong with it, its first unit says so.
        with contextlib.suppress(Exception):
            _afresh(stage)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def overdue(_number: int, _frame: FrameType | None) -> None:
        raise _OverdueError

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, seconds * _STANDSTILL),
    )
    before = [(number, signal.signal(number, overdue)) for _, number, _ in timers]
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before:
            signal.signal(number, handler)


def do_all(
    batch: Sequence[Unit], until: float
) -> list[Certificate | Planted | Told | Lost]:
    """Do a batch of units.

    Args:
        batch: What is to be done.
        until: When no further one is begun, in seconds of `time.monotonic`.

    Returns:
        The results in the order of the units; `Lost` for one that has none.
    """
    results: list[Certificate | Planted | Told | Lost] = []
    for unit in batch:
        if time.monotonic() >= until:
            results.append(Lost(OVERDUE))
            continue
        try:
            results.append(do(unit))
        except BaseException as error:  # noqa: BLE001 - nothing was covered
            # SystemExit, too, which would end the gate with status 0.
            results.append(Lost(raised(error)))
    gc.collect(0)
    return results


def raised(error: BaseException) -> str:
    """Why a unit that raised this has no result, as a clause."""
    return f"it raised {type(error).__name__}: {error}"


def do(unit: Unit) -> Certificate | Planted | Told | Lost:
    """Do one unit of work."""
    try:
        with _limited(unit.limit):
            match unit:
                case Cover():
                    return _cover(unit)
                case Catch():
                    return _catch(unit)
                case Tell():
                    return _tell(unit)
    except _OverdueError:
        return _overdue(unit)


def _overdue(unit: Unit) -> Planted | Lost:
    said = f"it took longer than {unit.limit:,.0f} s"
    if isinstance(unit, Catch):
        return Planted(unit.name, unit.summary, "not finished", reason=said)
    return Lost(said)


def _cover(unit: Cover) -> Certificate:
    subject = unit.stage.subject()
    afresh = _afresh(unit.stage)
    if unit.seed is None:
        program = subject.decode(unit.program)
    else:
        program = subject.generate(unit.seed)
    return cover(
        subject,
        unit.stage.plan(),
        program,
        unit.seed,
        beginnings=_beginnings(unit.stage),
        repeated=_repeated.setdefault(unit.stage, set()),
        afresh=afresh,
    )


# Of each stage, the places of programs that this process has run twice.
_repeated: dict[Stage, set[Places]] = {}


@cache
def _afresh(stage: Stage) -> Afresh:
    """Recoveries of this stage where it was not run; ends with this process."""
    return Afresh(stage.subject())


@cache
def _beginnings(stage: Stage) -> Beginnings | None:
    """What programs of this stage have in common; for one process, so one code."""
    return beginnings_of(stage.subject(), CrashModel.parse(stage.model))


class _Hunt:
    """The search for one planted bug, which is entered; cheapest looks first.

    A subject may name the program that shows the bug. That one is looked at alone, in
    every way: nearly always nothing else is run. When it shows nothing, or none was
    named, all programs are run before one is crashed: a run takes 4 ms, a sweep 15. (To
    crash all with whole sectors before any sector is torn was worth it when torn
    sectors took seconds. A bug that nothing else shows takes a fifth of the time
    without.)

    Args:
        unit: What is searched for.
        subject: The code with the bug.
        named: Seed of the program that shows it, as the subject says; None: it says
            nothing. One that is not among the unit's programs counts for nothing:
            without the bug it is not proven to keep its promises.
    """

    def __init__(self, unit: Catch, subject: Subject, named: int | None) -> None:
        self.unit = unit
        self.subject = subject
        self.plan = replace(unit.stage.plan(unit.name), cap=_HUNTING_CAP)
        self._shared = beginnings_of(subject, self.plan.model)
        self._known: dict[int, Experiment | None] = {}
        first, count = unit.seeds
        self.programs = len(unit.corpus) + count
        self._named: tuple[int, ...] = ()
        if named is not None and first <= named < first + count:
            self._named = (len(unit.corpus) + named - first,)
        self.executions = 0
        self.found_by = ""
        self.seed: int | None = None

    def run(self) -> tuple[Experiment, Finding] | None:
        """The first broken promise, and the experiment that showed it."""
        named = self._named
        others = [at for at in range(self.programs) if at not in named]
        for places in named, others:
            for look in self._look_at_run, self._look_at_crashes:
                for experiment in self._experiments(places):
                    found = look(experiment)
                    if found is not None:
                        return experiment, found
        return None

    def _experiments(self, places: Iterable[int]) -> Iterator[Experiment]:
        """These programs, run; run once, however often they are looked at."""
        for at in places:
            self.found_by, self.seed, program = self._candidate(at)
            if at not in self._known:
                self._known[at] = self._experiment(program)
            one = self._known[at]
            if one is not None:
                yield one

    def _experiment(self, program: Any) -> Experiment | None:
        """A program that is run, or None when its run cannot be followed."""
        try:
            return Experiment(
                self.subject,
                program,
                self.plan.model,
                cap=self.plan.cap,
                beginnings=self._shared,
            )
        except UncoveredError:
            return None

    def _look_at_run(self, experiment: Experiment) -> Finding | None:
        return Finding(experiment.live[0]) if experiment.live else None

    def _look_at_crashes(self, experiment: Experiment) -> Finding | None:
        try:
            return next(experiment.sweep(self._count), None)
        except UncoveredError:
            # The bug makes the code differ from run to run, which no tape can
            # show. Another program may show it properly.
            return None

    def _candidate(self, at: int) -> tuple[str, int | None, Any]:
        corpus = self.unit.corpus
        if at < len(corpus):
            return f"corpus {at + 1}", None, self.subject.decode(corpus[at])
        seed = self.unit.seeds[0] + at - len(corpus)
        return f"seed {seed}", seed, self.subject.generate(seed)

    def _count(self, closure: Any) -> None:
        self.executions += closure.executions


def _catch(unit: Catch) -> Planted:
    subject = unit.stage.subject()
    begun = time.process_time()
    details = getattr(subject, "mutant_details", None)
    told = details(unit.name) if details is not None else {}
    blank = Planted(
        unit.name,
        unit.summary,
        "survived",
        origin=str(told.get("origin", "")),
        needs=str(told.get("needs", "")),
    )
    with subject.mutant(unit.name):
        hunt = _Hunt(unit, subject, told.get("seed"))
        found = hunt.run()
        seconds = time.process_time() - begun
        known = replace(
            blank,
            programs=hunt.programs,
            executions=hunt.executions,
            seconds=round(seconds, 3),
        )
        if found is None:
            return replace(
                known, reason=f"{hunt.programs} programs broke no promise with it"
            )
        told_as, _ = report(
            hunt.plan.origin(),
            *found,
            seed=hunt.seed,
            shrink=unit.shrink,
            reason=unit.shrink,
        )
    return replace(
        known,
        fate="caught",
        property=told_as.property,
        found_by=hunt.found_by,
        size=told_as.shrunk_size,
        dishonest=_dishonest(told_as.failure),
        shrunk=told_as.shrunk,
    )


def _dishonest(failure: Failure) -> int:
    """Dishonest choices of a schedule such as 37i:0.2.1."""
    tape = failure.at.partition(":")[2]
    return sum(answer not in {"", "0"} for answer in tape.split("."))


def _tell(unit: Tell) -> Told:
    subject = unit.stage.subject()
    found = unit.violation
    plan, failure = unit.stage.plan(), found.failure
    afresh = _afresh(unit.stage) if failure.afresh else None
    with contextlib.ExitStack() as stack:
        if failure.mutant is not None:
            stack.enter_context(subject.mutant(failure.mutant))
        program = subject.decode(failure.program)
        experiment = Experiment(subject, program, plan.model, cap=plan.cap)
        if afresh is None:
            finding = experiment.first(found.property)
        else:
            finding = afresh.broken(experiment, failure.mutant, found.property)
        if finding is not None:
            found, _ = report(
                plan.origin(), experiment, finding, seed=found.seed, afresh=afresh
            )
    try:
        return Told(found, scene_of(subject, found.failure), "")
    except (SceneError, UncoveredError, ValueError) as error:
        return Told(found, None, str(error))
