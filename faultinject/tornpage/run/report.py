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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tornpage.certificate.record import ReportedViolation
from tornpage.certificate.token import FAILURES, LIVE, Failure
from tornpage.explore.explorer import format_schedule, parse_schedule
from tornpage.model import CrashModel
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
    from tornpage.subject import Subject

__all__ = ["Gone", "Origin", "replay", "report"]

PROGRAM_ATTEMPTS = 1_000
TAPE_ATTEMPTS = 1_000

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

    Returns:
        The report, and whether Ctrl-C cut the shrinking short; the story is then
        of the smallest failure known by then.
    """
    subject = experiment.subject
    original = subject.describe(experiment.program)
    # Each attempt would take all the time that there is, or a process.
    shrink = shrink and not finding.overdue and not finding.afresh
    budget, tape_budget = Budget(PROGRAM_ATTEMPTS), Budget(TAPE_ATTEMPTS)
    smaller, small = experiment, finding
    if shrink:
        smaller, small = _smallest_program(origin, experiment, finding, budget)
        if budget.interrupted:
            tape_budget.interrupt()
        small = _smallest_tape(smaller, small, tape_budget)
        how = f"program {budget.describe()}; tape {tape_budget.describe()}"
    else:
        how = "not shrunk"
    failure = Failure(
        subject=origin.spec,
        program=subject.encode(smaller.program),
        model=str(origin.model),
        at=_schedule(small),
        property=small.violation.property,
        mutant=origin.mutant,
        database=origin.database_digest,
        afresh=small.afresh,
    )
    command = _command(failure, origin.database)
    reported = ReportedViolation(
        property=small.violation.property,
        message=small.violation.message,
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
    return reported, budget.interrupted or tape_budget.interrupted


def _smallest_program(
    origin: Origin, experiment: Experiment, finding: Finding, budget: Budget
) -> _Case:
    subject = experiment.subject
    promise = finding.violation.property

    def fails(program: Any) -> _Case | None:
        try:
            candidate = Experiment(subject, program, origin.model, cap=origin.cap)
            found = candidate.first(promise)
            if candidate.overdue:
                budget.stop("a smaller program does not return")
        except UncoveredError:
            # Not deterministic: whatever it shows cannot be shown again.
            return None
        return None if found is None else (candidate, found)

    return shrink_program(
        experiment.program,
        (experiment, finding),
        simplify=subject.simplify,
        fails=_until_interrupted(fails, budget),
        key=lambda program: json.dumps(subject.encode(program), sort_keys=True),
        budget=budget,
    ).found


def _smallest_tape(experiment: Experiment, finding: Finding, budget: Budget) -> Finding:
    point = finding.point
    if point is None:
        return finding
    met: dict[Tape, Finding] = {strip(finding.tape): finding}

    def fails(tape: Tape) -> Tape | None:
        promise = finding.violation.property
        try:
            found = experiment.replay(point, tape, promise)
            if found is not None and strip(found.tape) != tape:
                # What was made is not what was asked for: choices vanished, or
                # code that catches everything caught the objection of the tape.
                # Only what repeats itself counts.
                found = experiment.replay(point, strip(found.tape), promise)
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
    )
    return tell(subject, chapter)


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
            found = afresh.replay(experiment, failure, point, tape)
    except (UncoveredError, IndexError) as error:
        raise Gone(f"the tape no longer fits: {error}.") from error
    if found is not None and strip(found.tape) != strip(tape):
        raise Gone("recovery asks other questions of the disk than it did.")
    if found is None:
        raise Gone(f"after this crash {failure.property!r} is kept.")
    return found
