"""A worker: does one unit of work after the other, in a process of its own.

    coordinator                                worker
    {"subject": ..., "model": ...}   ------->                     once
                                     <-------  {"ready": true, "code": ...}
    {"task": "seed", "seed": 17}     ------->
                                     <-------  {"certificate": ..., "program": ...}
    {"task": "program", ...}         ------->
                                     <-------  the same
    {"task": "shrink", ...}          ------->
                                     <-------  {"violation": ...}
    (end of file)                    ------->  exits

One JSON object a line, on the process's standard input and output. A unit is a pure
function of what is in its line, the first line and the code: no unit knows which
worker does it, or what came before it. That is what makes the merged certificate
the same for any number of workers, and it is all that a cluster would need.

Code under test may print. The protocol keeps the real standard output for itself
and points file descriptor 1 at standard error.

A worker ignores Ctrl-C: its coordinator hears it as well and decides. When the
coordinator is gone, its input ends, and so does the worker after the unit at hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, TextIO

from tornpage.certificate.as_json import to_json
from tornpage.certificate.token import Failure
from tornpage.registry import load, with_database
from tornpage.run.afresh import Afresh
from tornpage.run.code_digest import code_digest
from tornpage.run.experiment import Experiment, beginnings_of
from tornpage.run.plan_as_json import plan_from_json
from tornpage.run.programs import cover
from tornpage.run.report import report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornpage.explore.beginnings import Beginnings
    from tornpage.run.programs import Plan
    from tornpage.subject import Subject

__all__ = ["main", "serve", "work"]


def work(
    subject: Subject,
    plan: Plan,
    task: dict[str, Any],
    beginnings: Beginnings | None = None,
    afresh: Afresh | None = None,
) -> dict[str, Any]:
    """Do one unit of work.

    Args:
        subject: The code under test.
        plan: How to test it.
        task: What to do; see the module's head.
        beginnings: What is known of programs that began alike.
        afresh: Makes recoveries in a process that has run nothing.

    Returns:
        The answer, as JSON values.

    Raises:
        ValueError: The program of the task is not one of this subject.
    """
    if task["task"] == "shrink":
        return _shrink(subject, plan, task, afresh)
    seed: int | None = None
    if task["task"] == "seed":
        seed = task["seed"]
        program = subject.generate(task["seed"])
    else:
        program = subject.decode(task["program"])
    certificate = cover(
        subject, plan, program, seed, beginnings=beginnings, afresh=afresh
    )
    return {
        "certificate": to_json(certificate),
        "program": subject.encode(program),
        "size": len(subject.describe(program)),
    }


def _shrink(
    subject: Subject, plan: Plan, task: dict[str, Any], afresh: Afresh | None
) -> dict[str, Any]:
    """Find the failure of a token again and shrink it."""
    failure = Failure.from_token(task["token"])
    program = subject.decode(failure.program)
    with contextlib.ExitStack() as stack:
        if plan.mutant is not None:
            stack.enter_context(subject.mutant(plan.mutant))
        experiment = Experiment(subject, program, plan.model, cap=plan.cap)
        finding = None
        if not failure.afresh:
            finding = experiment.first(failure.property)
            if finding is not None and afresh is not None:
                # Programs that this process has run may be what is remembered.
                again = afresh.overturned(experiment, plan.mutant, finding)
                finding = finding if again is None else None
        elif afresh is not None:
            finding = afresh.broken(experiment, plan.mutant, failure.property)
        if finding is None:
            return {"violation": None}
        violation, _ = report(
            plan.origin(), experiment, finding, seed=task["seed"], afresh=afresh
        )
    return {"violation": violation.to_json()}


def serve(lines: Iterable[str], answers: TextIO) -> None:
    """Answer every line until there is none.

    Args:
        lines: The plan, then tasks.
        answers: Where the answers go.
    """
    incoming = iter(lines)
    first = json.loads(next(incoming))
    plan = plan_from_json(first)
    subject = load(plan.spec)
    if plan.database is not None:
        subject = with_database(subject, plan.database)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    with Afresh(subject) as afresh:
        say({"ready": True, "code": code_digest(subject)})
        beginnings = beginnings_of(subject, plan.model)
        for line in incoming:
            say(work(subject, plan, json.loads(line), beginnings, afresh))


def main() -> None:
    """Serve the process's standard input and output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A coordinator that is gone needs no traceback of ours.
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
