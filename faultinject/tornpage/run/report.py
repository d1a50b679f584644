"""From a finding to something worth reading, and back.

    report    finding --shrink program--> --shrink tape--> failure --tell--> story
    replay    token --> failure --> experiment --> finding --tell--> the same story

Both ends meet in `_told`: a story is a function of the failure alone, and of the
storage code. What only the first run knows (the seed, how large the program was, how
many attempts shrinking took) stays out of it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tornpage.certificate.record import ReportedViolation
from tornpage.certificate.token import FAILURES, LIVE, Failure
from tornpage.explore.explorer import format_schedule, parse_schedule
from tornpage.interruption import interruptions
from tornpage.model import CrashModel
from tornpage.quotation import shown
from tornpage.run.afresh import Afresh
from tornpage.run.experiment import (
    Experiment,
    Finding,
    outcome_lines,
    programs_were_run,
)
from tornpage.run.shrink import Budget, shrink_program, shrink_tape, strip
from tornpage.story.cause import cause_of
from tornpage.story.chapter import Chapter, tell
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.choices import Tape
    from tornpage.explore.schedule import CrashPoint
    from tornpage.subject import Subject

__all__ = ["Gone", "Origin", "replay", "report"]

# A longer token goes into a file only: terminals and chats break such lines, and
# Linux refuses arguments beyond 128 KiB.
_LONGEST_TOKEN = 4_000


class Gone(Exception):  # noqa: N818 - it is good news
    """A failure does not reproduce any more; the message says how it differs."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where findings come from.

    Attributes:
        spec: The name the subject is found by.
        model: What a crash may do.
        mutant: Planted bug, or None.
        database: Path of the file the programs start from, or None.
        database_digest: SHA-256 of that file.
        cap: Most executions for one crash point.
    """

    spec: str
    model: CrashModel
    mutant: str | None = None
    database: str | None = None
    database_digest: str | None = None
    cap: int = 1


_Case = tuple[Experiment, Finding]


def report(
    origin: Origin,
    experiment: Experiment,
    finding: Finding,
    *,
    seed: int | None,
    shrink: bool = True,
    reason: bool = True,
    afresh: Afresh | None = None,
) -> tuple[ReportedViolation, bool]:
    """Shrink a finding and tell its story.

    Args:
        origin: Where it comes from; its mutant must be entered.
        experiment: What it was found with.
        finding: A broken promise.
        seed: Seed of the program, for the report; None when it has none.
        shrink: Whether to look for something smaller; without it the story is of
            the finding as it is.
        reason: Whether to look for the order that is missing; without either no
            recovery runs.
        afresh: Makes recoveries where no program was run; without it what was found
            so is not shrunk. What is smaller counts only if the promise is broken
            there, too: recoveries that were tried on the way may be remembered.

    Returns:
        The report, and whether Ctrl-C cut the shrinking short; the story is then
        of the smallest failure known by then.
    """
    subject = experiment.subject
    original = subject.describe(experiment.program)
    # Each attempt would take all the time that there is.
    shrink = shrink and not finding.overdue
    judge = _Judge(origin, finding)
    if finding.afresh:
        shrink = shrink and afresh is not None
        judge = _JudgeAfresh(origin, finding, afresh)
    budget, tape_budget = Budget(judge.attempts), Budget(judge.attempts)
    smaller, small, how = experiment, finding, "not shrunk"
    if shrink:
        smaller, small = _fewest_crashes(judge, smaller, small, budget)
        smaller, small = _smallest_program(judge, smaller, small, budget)
        if budget.interrupted:
            tape_budget.interrupt()
        small = _smallest_tape(judge, smaller, small, tape_budget)
        how = f"program {budget.describe()}; tape {tape_budget.describe()}"
    if shrink and _remembered(smaller, small, origin, afresh):
        shrink = reason = False
        judge.model = origin.model
        smaller, small = experiment, finding
        how = "not shrunk: anything smaller showed only what recovery remembers"
    failure = Failure(
        subject=origin.spec,
        program=subject.encode(smaller.program),
        model=str(judge.model),
        at=_schedule(small),
        property=small.violation.property,
        mutant=origin.mutant,
        database=origin.database_digest,
        afresh=small.afresh,
    )
    command = _command(failure, origin.database)
    reported = ReportedViolation(
        property=small.violation.property,
        message=shown(small.violation.message),
        seed=seed,
        found_size=len(original),
        shrunk_size=len(subject.describe(smaller.program)),
        shrinking=how,
        story=_told(smaller, small, command, reason=reason),
        replay=command,
        failure=failure,
        cause=cause_of(smaller.operations, small),
        shrunk=shrink,
    )
    return reported, tape_budget.interrupted


class _Judge:
    """Says of smaller programs and tapes whether they break the same promise.

    Args:
        origin: Where the finding comes from.
        finding: What was found.

    Attributes:
        attempts: Most programs, and most tapes, to ask about.
        model: What a crash may do.
    """

    attempts = 1_000

    def __init__(self, origin: Origin, finding: Finding) -> None:
        self.origin = origin
        self.promise = finding.violation.property
        self.model = origin.model

    def first(self, candidate: Experiment) -> Finding | None:
        """What breaks the promise first."""
        return candidate.first(self.promise)

    def replay(
        self, candidate: Experiment, point: CrashPoint, tape: Tape
    ) -> Finding | None:
        """What breaks it after this very crash."""
        return candidate.replay(point, tape, self.promise)

    def case(self, program: Any, subject: Subject, budget: Budget) -> _Case | None:
        """The program and what breaks the promise, or None."""
        try:
            candidate = Experiment(subject, program, self.model, cap=self.origin.cap)
            found = self.first(candidate)
            if candidate.overdue:
                budget.stop("a smaller program does not return")
        except UncoveredError:
            # Not deterministic: whatever it shows cannot be shown again.
            return None
        return None if found is None else (candidate, found)


class _JudgeAfresh(_Judge):
    """The same, by recoveries where the program was not run.

    Args:
        origin: Where the finding comes from.
        finding: What was found.
        afresh: Makes these recoveries; None: nobody is asked.
    """

    # Each takes a few processes, 20 ms.
    attempts = 100

    def __init__(self, origin: Origin, finding: Finding, afresh: Afresh | None) -> None:
        super().__init__(origin, finding)
        self._afresh = afresh

    def first(self, candidate: Experiment) -> Finding | None:
        """What breaks the promise first."""
        assert self._afresh is not None
        return self._afresh.broken(candidate, self.origin.mutant, self.promise)

    def replay(
        self, candidate: Experiment, point: CrashPoint, tape: Tape
    ) -> Finding | None:
        """What breaks it after this very crash."""
        assert self._afresh is not None
        mutant = self.origin.mutant
        return self._afresh.replay(candidate, mutant, point, tape, self.promise)


def _remembered(
    experiment: Experiment, finding: Finding, origin: Origin, afresh: Afresh | None
) -> bool:
    """Whether recovery breaks the promise only in this process, see `afresh`."""
    if afresh is None or finding.afresh:
        return False
    return afresh.overturned(experiment, origin.mutant, finding) is not None


def _fewest_crashes(
    judge: _Judge, experiment: Experiment, finding: Finding, budget: Budget
) -> _Case:
    """The same with as few crashes in a row as break the promise.

    A search comes upon a second crash before it has seen all that one crash may leave.
    The judge goes on with as many as are needed.
    """
    whole = judge.model
    reached = finding.reached
    needed = 1 + len(interruptions(reached.choices if reached else ()))
    fails = _until_interrupted(
        lambda program: judge.case(program, experiment.subject, budget), budget
    )
    for crashes in range(1, needed):
        judge.model = replace(whole, crashes=crashes)
        found: _Case | None = None
        if budget.spend():
            found = fails(experiment.program)
        if found is not None:
            return found
    judge.model = replace(whole, crashes=needed)
    return experiment, finding


def _smallest_program(
    judge: _Judge, experiment: Experiment, finding: Finding, budget: Budget
) -> _Case:
    subject = experiment.subject

    def fails(program: Any) -> _Case | None:
        return judge.case(program, subject, budget)

    return shrink_program(
        experiment.program,
        (experiment, finding),
        simplify=subject.simplify,
        fails=_until_interrupted(fails, budget),
        key=lambda program: json.dumps(subject.encode(program), sort_keys=True),
        budget=budget,
    ).found


def _smallest_tape(
    judge: _Judge, experiment: Experiment, finding: Finding, budget: Budget
) -> Finding:
    point = finding.point
    if point is None:
        return finding
    met: dict[Tape, Finding] = {strip(finding.tape): finding}

    def fails(tape: Tape) -> Tape | None:
        try:
            found = judge.replay(experiment, point, tape)
            if found is not None and strip(found.tape) != tape:
                # What was made is not what was asked for: choices vanished, or
                # code that catches everything caught the objection of the tape.
                # Only what repeats itself counts.
                found = judge.replay(experiment, point, strip(found.tape))
        except UncoveredError:
            # Another answer early on leaves fewer alternatives later.
            return None
        if found is None:
            return None
        met[strip(found.tape)] = found
        return found.tape

    tape = shrink_tape(
        finding.tape, fails=_until_interrupted(fails, budget), budget=budget
    )
    return met[tape]


def _until_interrupted(
    fails: Callable[[Any], Any], budget: Budget
) -> Callable[[Any], Any]:
    """The oracle, ending the search instead of the report on Ctrl-C."""

    def guarded(candidate: Any) -> Any:
        try:
            return fails(candidate)
        except KeyboardInterrupt:
            budget.interrupt()
            return None

    return guarded


def _schedule(finding: Finding) -> str:
    if finding.point is None:
        return LIVE
    return format_schedule(finding.point, strip(finding.tape))


def _command(failure: Failure, database: str | None) -> str:
    token = failure.token()
    if len(token) > _LONGEST_TOKEN:
        token = f"{FAILURES}/{failure.identity()}.json"
    words = ["tornpage", "run", failure.subject, "--replay", token]
    if database is not None:
        words[3:3] = ["--database", database]
    return shlex.join(words)


def _told(
    experiment: Experiment, finding: Finding, command: str, *, reason: bool = True
) -> str:
    subject = experiment.subject
    reached = finding.reached
    chapter = Chapter(
        violation=finding.violation,
        program=subject.describe(experiment.program),
        trace=experiment.disk.trace,
        point=finding.point,
        pending=experiment.pending(finding),
        choices=reached.choices if reached else (),
        reason=experiment.reason(finding) if reason else "",
        outcome=outcome_lines(subject, reached.outcome) if reached else (),
        replay=command,
        relapses=experiment.relapses(finding),
    )
    return shown(tell(subject, chapter))


def replay(subject: Subject, failure: Failure, *, database: str | None = None) -> str:
    """The story of a failure, told again.

    Args:
        subject: The code under test, started from the failure's database.
        failure: What to reproduce.
        database: Path of that database, for the replay command in the story.

    Raises:
        Gone: It does not reproduce; the code has changed.
        ValueError: The failure's program, model, schedule or mutant does not
            mean anything to this subject.
    """
    if failure.afresh and programs_were_run():
        return _replayed_in_a_new_process(failure, database)
    model = CrashModel.parse(failure.model)
    if failure.mutant is not None and failure.mutant not in subject.mutants():
        raise ValueError(f"{subject.name} has no planted bug {failure.mutant!r} now.")
    program = subject.decode(failure.program)
    with ExitStack() as stack:
        afresh = stack.enter_context(Afresh(subject)) if failure.afresh else None
        if failure.mutant is not None:
            stack.enter_context(subject.mutant(failure.mutant))
        experiment = Experiment(subject, program, model, cap=1)
        finding = _again(experiment, failure, afresh)
        return _told(experiment, finding, _command(failure, database))


def _replayed_in_a_new_process(failure: Failure, database: str | None) -> str:
    """As `replay`, by the command: this process has run programs."""
    path = os.pathsep.join(one or os.getcwd() for one in sys.path)
    given = ["run", failure.subject, "--replay", failure.token()]
    if database is not None:
        given += ["--database", database]
    done = subprocess.run(  # noqa: S603 - it is this very program.
        [sys.executable, "-m", "tornpage", *given],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 1:
        return done.stdout
    if done.returncode == 0:
        raise Gone(done.stdout.rpartition(": ")[2].strip())
    raise ValueError(done.stderr.strip())


def _again(experiment: Experiment, failure: Failure, afresh: Afresh | None) -> Finding:
    if failure.at == LIVE:
        for violation in experiment.live:
            if violation.property == failure.property:
                return Finding(violation)
        raise Gone(f"the program keeps {failure.property!r}.")
    point, tape = parse_schedule(failure.at)
    try:
        if afresh is None:
            found = experiment.replay(point, tape, failure.property)
        else:
            found = afresh.replay(
                experiment, failure.mutant, point, tape, failure.property
            )
    except (UncoveredError, IndexError) as error:
        raise Gone(f"the tape no longer fits: {error}.") from error
    if found is not None and strip(found.tape) != strip(tape):
        raise Gone("recovery asks other questions of the disk than it did.")
    if found is None:
        raise Gone(f"after this crash {failure.property!r} is kept.")
    return found
