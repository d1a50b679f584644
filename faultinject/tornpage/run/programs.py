"""A run: programs of consecutive seeds, every crash of each, one certificate.

    for each seed:  generate -> run -> sweep all crash points -> judge
                                              |
                    first broken promise:  shrink -> story -> stop (or keep going)

Work is bounded by a number of programs, by time, or by both, whichever comes first.
Time only decides whether another program is started. One that was started is
finished; if that takes far longer than was given it is given up, and the certificate
says so and is unverifiable: a number that silently stands for less than it says is
worth nothing.

`cover` is the unit of parallel work: a pure function of one program, the plan and the
code, whose certificate merges with those of all other programs.

What it is not: it does no output and touches no file. The command does.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tornpage.certificate.record import (
    MOST_UNCLOSED,
    Certificate,
    Coverage,
    ProgramRecord,
    ReportedViolation,
    Scope,
    Unclosed,
    exclusions,
    images_from_log2,
)
from tornpage.model import CrashModel, require_model
from tornpage.progress import silent
from tornpage.run.afresh import Afresh
from tornpage.run.behaviour import Behaviour, sometimes
from tornpage.run.code_digest import code_digest
from tornpage.run.experiment import Experiment, Finding, beginnings_of
from tornpage.run.fingerprint import Fingerprint, program_id
from tornpage.run.report import Origin, report
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tornpage.explore.beginnings import Beginnings
    from tornpage.explore.explorer import Closure
    from tornpage.progress import Watch
    from tornpage.run.afresh import Difference
    from tornpage.run.experiment import Places
    from tornpage.subject import Subject

__all__ = [
    "DEFAULT_CAP",
    "Plan",
    "Tally",
    "cover",
    "few_collections",
    "is_time",
    "run",
]

# Measured on correct stores, a crash point takes 1 to 40 executions. One that takes
# this many belongs to a store that reads before it checks.
DEFAULT_CAP = 10_000

# A program in progress when time is up gets this share of the time again, and never
# less than these seconds, before it is given up.
_OVERTIME_SHARE = 1.0
_OVERTIME_SECONDS = 5.0

# A machine may answer otherwise, and the store may do something else then.
_TOLD = "what the store does by "

# New containers between two collections; Python's own value is 700.
_COLLECT_AFTER = 50_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        spec: The name the subject is found by, for replay commands.
        seed: Seed of the first program.
        programs: Most programs; None: as many as fit into the time.
        seconds: Start no program after this many seconds; None: no limit.
        model: What a crash may do.
        mutant: Planted bug to run with, or None.
        database: Path of the file the programs start from, for replay commands.
        database_digest: SHA-256 of that file.
        cap: Most executions for one crash point.
        keep_going: Do not stop at the first broken promise.
        shrink: Shrink what is found; otherwise it is told as it was found.

    Raises:
        ModelError: `model` is none.
        ValueError: There is no end to it, or a number is none.
    """

    spec: str
    seed: int = 0
    programs: int | None = None
    seconds: float | None = None
    model: CrashModel = field(default_factory=CrashModel)
    mutant: str | None = None
    database: str | None = None
    database_digest: str | None = None
    cap: int = DEFAULT_CAP
    keep_going: bool = False
    shrink: bool = True

    def __post_init__(self) -> None:
        if self.programs is None and self.seconds is None:
            raise ValueError("A run needs an end: give programs, seconds or both.")
        require_model(self.model)
        _require(isinstance(self.seed, int), "seed is a whole number", self.seed)
        fits = self.programs is None or _is_count(self.programs, 0)
        _require(fits, "programs is a number from 0 on", self.programs)
        fits = self.seconds is None or is_time(self.seconds)
        _require(fits, "seconds is a number above 0, and not infinite", self.seconds)
        _require(_is_count(self.cap, 1), "cap is a number from 1 on", self.cap)

    def scope(self, subject: Subject) -> Scope:
        """What the certificate of this run of the subject is about."""
        return Scope(
            subject=self.spec,
            model=str(self.model),
            exclusions=exclusions(self.model),
            mutant=self.mutant,
            database=self.database_digest,
            cap=self.cap,
            code=code_digest(subject),
            sometimes=sometimes(subject),
        )

    def origin(self) -> Origin:
        """What a report needs to know of this plan."""
        return Origin(
            spec=self.spec,
            model=self.model,
            mutant=self.mutant,
            database=self.database,
            database_digest=self.database_digest,
            cap=self.cap,
        )


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and value >= least


def is_time(value: object) -> bool:
    """Whether a run may end after so many seconds."""
    # Whole numbers may be larger than any other one.
    return isinstance(value, (int, float)) and 0 < value <= sys.float_info.max


def _require(fits: bool, wanted: str, value: object) -> None:
    if not fits:
        raise ValueError(f"{wanted}, not {value!r}")


class Tally:
    """Counts of a run in progress; becomes a `Coverage`.

    Attributes:
        programs: Programs whose crash points were all visited.
        crash_points: Crash points visited.
        executions: Recoveries run.
    """

    def __init__(self) -> None:
        self.programs = 0
        self.crash_points = 0
        self.executions = 0
        self._closed = 0
        self._reused = 0
        self._images = 0
        self._largest = 0
        self._operations: Counter[str] = Counter()
        self._points: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self.violating: Counter[str] = Counter()
        self.features: Counter[str] = Counter()

    def program(self, experiment: Experiment) -> None:
        """Count the operations of a program that ran."""
        self._operations.update(experiment.operation_kinds())

    def closure(self, where: str, closure: Closure, faults: Mapping[str, int]) -> None:
        """Count one crash point, its place as a kind, and its executions' faults."""
        self.crash_points += 1
        self.executions += closure.executions
        self._closed += closure.closed
        self._reused += closure.reused
        images = images_from_log2(closure.images_log2)
        self._images += images
        self._largest = max(self._largest, images)
        self._points[where] += 1
        if faults:
            self._faults.update(faults)

    def coverage(self, nanoseconds: int) -> Coverage:
        """The counts so far."""
        return Coverage(
            programs=self.programs,
            crash_points=self.crash_points,
            closed=self._closed,
            reused=self._reused,
            executions=self.executions,
            images=self._images,
            largest=self._largest,
            operations=dict(self._operations),
            points=dict(self._points),
            faults=dict(self._faults),
            violating=dict(self.violating),
            features=dict(self.features),
            nanoseconds=nanoseconds,
        )


class _GivenUp(Exception):  # noqa: N818 - it is a signal, nothing is wrong
    """The program in progress takes too long."""


class _Runner:
    """One run in progress."""

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        watch: Watch,
        clock: Callable[[], int],
        beginnings: Beginnings | None = None,
        afresh: Afresh | None = None,
    ) -> None:
        self.subject = subject
        self.afresh = afresh
        self.beginnings = beginnings or beginnings_of(subject, plan.model)
        self.plan = plan
        self.watch = watch
        self.clock = clock
        self.begun = clock()
        self.tally = Tally()
        self.started = 0
        # Whether the code repeats itself is looked at with the first program of each
        # set of places that programs come by; others take it as given.
        self.repeats = True
        self.repeated: set[Places] = set()
        self.reported: list[ReportedViolation] = []
        self.cut: list[str] = []
        self.records: list[ProgramRecord] = []
        self.unclosed: list[Unclosed] = []
        self.unchecked: set[str] = set()
        self.made_up: dict[str, str] = {}

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return (self.clock() - self.begun) / 1e9

    def run(self) -> None:
        """Run programs until the plan, or something else, says stop."""
        plan = self.plan
        seed = plan.seed
        try:
            while self._wants_another():
                seed = plan.seed + self.started
                self.started += 1
                self._one(seed)
        except _GivenUp:
            self.cut.append(
                f"the program of seed {seed} was given up after"
                f" {self.elapsed():.0f} s, its later crash points are not covered"
            )
        except UncoveredError as error:
            self.cut.append(f"the program of seed {seed} is not covered: {error}")
        except KeyboardInterrupt:
            self.cut.append(
                f"interrupted in the program of seed {seed}, its later crash points"
                " are not covered"
            )

    def _wants_another(self) -> bool:
        plan = self.plan
        return (
            (plan.keep_going or not self.reported)
            and not self.cut
            and (plan.programs is None or self.started < plan.programs)
            and (plan.seconds is None or self.elapsed() < plan.seconds)
        )

    def _one(self, seed: int) -> None:
        self.cover(self.subject.generate(seed), seed)

    def cover(self, program: Any, seed: int | None) -> None:
        """Visit every crash point of one program."""
        plan = self.plan
        experiment = Experiment(
            self.subject, program, plan.model, cap=plan.cap, beginnings=self.beginnings
        )
        self.tally.program(experiment)
        # Before the program is run again: a subject may remember its last run only.
        fingerprint, behaviour = Fingerprint(experiment), Behaviour(experiment)
        places = experiment.places()
        again = self.repeats and places not in self.repeated and not experiment.overdue
        if again and (departure := experiment.departure()):
            self.cut.append(
                f"the program of {_named(seed)} did other things when it was run"
                f" again ({departure}): what one run shows of its crashes does not"
                " hold for the next. It may use datetime.now, time.monotonic,"
                " uuid.uuid1, id() or a random.Random of its own, have a thread in the"
                " background, or remember its last run"
            )
            return
        self.repeated.add(places)

        def visit(closure: Closure) -> None:
            faults = experiment.take_faults()
            where = experiment.where(closure.point)
            self.tally.closure(where, closure, faults)
            behaviour.closure(where, closure, faults)
            fingerprint.closure(closure)
            self._given_up(experiment, closure, seed)
            self.watch(self.tally)
            self._check_time()

        broken: set[str] = set()
        for finding in experiment.sweep(visit, stop=not plan.keep_going):
            self._told(experiment)
            promise = finding.violation.property
            if promise in broken:
                continue
            broken.add(promise)
            new = all(known.property != promise for known in self.reported)
            if new and self._overturned(seed, experiment, finding):
                return
            self.tally.violating[promise] += 1
            if new:
                self._report(seed, experiment, finding)
            if not plan.keep_going:
                return
        self._told(experiment)
        if again and not broken and not experiment.overdue:
            self._compare(seed, experiment)
            if self.cut:
                return
        if experiment.overdue:
            self.cut.append(
                f"the program of {_named(seed)} was left when something did not"
                " return, its later crash points are not covered"
            )
            return
        if not broken and (asked := experiment.made_up_in_recovery):
            self.cut.append(
                f"the recoveries of the program of {_named(seed)} ask for"
                f" {', '.join(asked.values())}: what one does by that where a crash"
                " decides it is not covered"
            )
            return
        self.tally.programs += 1
        self.tally.features.update(behaviour.features())
        self.records.append(fingerprint.record(seed))

    def _told(self, experiment: Experiment) -> None:
        """Remember what the disk has made up, and who was the first to ask for it."""
        now = {**experiment.made_up_in_recovery, **experiment.made_up}
        self.made_up = {**now, **self.made_up}

    def _compare(self, seed: int | None, experiment: Experiment) -> None:
        """See whether recovery is the same where the program was not run."""
        afresh = self.afresh
        if afresh is None or not afresh.wants(experiment):
            return
        found = None
        if not afresh.missing(experiment):
            found = afresh.difference(experiment, self.plan.mutant)
            self._doubt(seed, experiment, found)
        if found is None and (missing := afresh.missing(experiment)):
            self.unchecked.add(
                f"recovery in a process that has not run the program ({missing})"
            )

    def _overturned(
        self, seed: int | None, experiment: Experiment, finding: Finding
    ) -> bool:
        """Whether a broken promise is kept where the program was not run."""
        if self.afresh is None:
            return False
        found = self.afresh.overturned(experiment, self.plan.mutant, finding)
        self._doubt(seed, experiment, found)
        return found is not None

    def _doubt(
        self, seed: int | None, experiment: Experiment, found: Difference | None
    ) -> None:
        if found is None:
            return
        self.cut.append(f"the program of {_named(seed)}: {found.clause}")
        if found.finding is not None:
            self.tally.violating[found.finding.violation.property] += 1
            self._report(seed, experiment, found.finding)

    def _given_up(
        self, experiment: Experiment, closure: Closure, seed: int | None
    ) -> None:
        """Remember a crash point that hit the cap, and start the next one's count."""
        counted = experiment.take_branching()
        if closure.closed or closure.executions + closure.recalled < self.plan.cap:
            return
        if len(self.unclosed) < MOST_UNCLOSED:
            encoded = self.subject.encode(experiment.program)
            self.unclosed.append(
                Unclosed(
                    program=program_id(encoded),
                    seed=seed,
                    point=str(closure.point),
                    where=experiment.where(closure.point),
                    executions=closure.executions,
                    reads=experiment.branching(closure, counted),
                )
            )

    def _check_time(self) -> None:
        limit = self.plan.seconds
        if limit is not None:
            overtime = max(limit * _OVERTIME_SHARE, _OVERTIME_SECONDS)
            if self.elapsed() > limit + overtime:
                raise _GivenUp

    def _report(
        self, seed: int | None, experiment: Experiment, finding: Finding
    ) -> None:
        plan = self.plan
        reported, interrupted = report(
            plan.origin(),
            experiment,
            finding,
            seed=seed,
            shrink=plan.shrink,
            afresh=self.afresh,
        )
        self.reported.append(reported)
        if interrupted:
            self.cut.append(
                f"interrupted while shrinking the program of {_named(seed)}"
            )

    def certificate(self, seeds: tuple[tuple[int, int], ...]) -> Certificate:
        """The certificate of what was run so far, from these seeds."""
        return Certificate(
            scope=self.plan.scope(self.subject),
            seeds=seeds,
            coverage=self.tally.coverage(self.clock() - self.begun),
            violations=tuple(self.reported),
            cut=tuple(self.cut),
            records=tuple(self.records),
            unclosed=tuple(self.unclosed),
            unchecked=tuple(
                sorted(self.unchecked | {_TOLD + one for one in self.made_up.values()})
            ),
        )


@contextmanager
def few_collections() -> Iterator[None]:
    """While entered, the cyclic collector runs seldom: measured, 12 % of a run.

    What is remembered of recoveries is many objects that stay, and executions make
    few cycles.
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _named(seed: int | None) -> str:
    return "the corpus" if seed is None else f"seed {seed}"


def run(
    subject: Subject,
    plan: Plan,
    *,
    watch: Watch = silent,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Certificate:
    """Run a plan to its end, or to Ctrl-C, which only makes it end early.

    Args:
        subject: The code under test.
        plan: What to run.
        watch: Called after each crash point.
        clock: Nanoseconds; tests put their own here.

    Raises:
        KeyError: The subject has no planted bug of the plan's name.
    """
    with ExitStack() as stack:
        afresh = stack.enter_context(Afresh(subject))
        if plan.mutant is not None:
            stack.enter_context(subject.mutant(plan.mutant))
        stack.enter_context(few_collections())
        runner = _Runner(subject, plan, watch, clock, afresh=afresh)
        runner.run()
    return runner.certificate(((plan.seed, runner.started),) if runner.started else ())


def cover(
    subject: Subject,
    plan: Plan,
    program: Any,
    seed: int | None,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    beginnings: Beginnings | None = None,
    repeats: bool = True,
    repeated: set[Places] | None = None,
    afresh: Afresh | None = None,
    to_the_end: bool = False,
) -> Certificate:
    """Run one given program and visit all its crash points.

    Args:
        subject: The code under test.
        plan: How; its seed, programs, seconds and keep_going do not count.
        program: What to run.
        seed: The seed it was generated from; None when it was not.
        clock: Nanoseconds; tests put their own here.
        beginnings: What is known of programs that began alike, covered by the same
            plan.
        repeats: Whether to run the program twice, to see whether it does the same.
        repeated: `Experiment.places` of programs that were run twice; one of the same
            is not, others are added. `run` does likewise with its programs.
        afresh: Makes recoveries of such programs once more in a process that has run
            none; None: one is set aside for this program.
        to_the_end: Whether a program that breaks a promise is visited to its end.
            Most often it is not: recovery of a store that is broken may branch
            without end, and another program will show the rest.

    Raises:
        KeyError: The subject has no planted bug of the plan's name.
    """
    plan = replace(plan, programs=1, seconds=None, keep_going=to_the_end)
    with ExitStack() as stack:
        if afresh is None and repeats:
            afresh = stack.enter_context(Afresh(subject))
        if plan.mutant is not None:
            stack.enter_context(subject.mutant(plan.mutant))
        runner = _Runner(subject, plan, silent, clock, beginnings, afresh)
        runner.started = 1
        runner.repeats = repeats
        if repeated is not None:
            runner.repeated = repeated
        try:
            runner.cover(program, seed)
        except UncoveredError as error:
            runner.cut.append(f"the program of {_named(seed)} is not covered: {error}")
    return runner.certificate(() if seed is None else ((seed, 1),))
