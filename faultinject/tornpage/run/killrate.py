"""Checking the checker: does every planted bug get caught?

    a judge that always says "fine"     passes every run, catches no planted bug
    a judge that always complains       catches every planted bug, fails without one

Hence both are looked at: the subject as it is must be consistent, and each of its
planted bugs must be violated by the same plan. Without this a certificate only says
that two programs, of which one is the checker, agree.

A third thing is looked at: whether the bug is one. Code that raises as soon as it is
run, because what was planted is called wrongly say, breaks the promise that the program
returns, and any test at all would catch it:

    caught          a crash breaks a promise, or the subject's own look at the run does
    without a crash the latter; the report says of how many
    does not run    no program returns, whatever it does: that is not caught

Programs are the plan's, and those that are one step simpler than these.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

from tornpage.certificate.token import LIVE
from tornpage.progress import silent
from tornpage.run.experiment import RUN_RETURNS, Experiment
from tornpage.run.programs import run
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tornpage.certificate.record import Certificate, ReportedViolation
    from tornpage.progress import Watch
    from tornpage.run.programs import Plan
    from tornpage.subject import Subject

__all__ = ["KillRate", "check_mutants", "row"]

_WIDTH: Final = 80
# Programs that are run to see whether one returns, and how many simpler ones of each.
_MOST_TRIED: Final = 200
_MOST_SIMPLER: Final = 20


@dataclass(frozen=True, slots=True)
class KillRate:
    """What a plan makes of a subject and of each of its planted bugs.

    Attributes:
        baseline: The certificate without a planted bug.
        mutants: The certificate with each that was tried, by name.
        planned: How many planted bugs the subject has.
        dead: Those with which no program returns.
    """

    baseline: Certificate
    mutants: dict[str, Certificate]
    planned: int
    dead: tuple[str, ...] = ()

    @property
    def caught(self) -> int:
        """How many planted bugs broke a promise of code that runs."""
        return sum(
            one.verdict == "violated" and name not in self.dead
            for name, one in self.mutants.items()
        )

    @property
    def without_a_crash(self) -> int:
        """How many of these did so in a run that nothing crashed."""
        return sum(
            _live(one) is not None and name not in self.dead
            for name, one in self.mutants.items()
        )

    @property
    def passed(self) -> bool:
        """Whether the checker deserves trust: no false alarm, nothing missed."""
        return self.baseline.verdict == "consistent" and 0 < self.planned == self.caught

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it: what was not tried is not missed."""
        return any(one.interrupted for one in (self.baseline, *self.mutants.values()))

    def summary(self) -> str:
        """The result in a line or two, 80 columns at most."""
        if self.interrupted:
            tried = sum(not one.interrupted for one in self.mutants.values())
            return (
                f"  interrupted: of {self.planned} planted bugs {tried} were tried,"
                f" {self.caught} caught"
            )
        text = f"  {self.caught} of {self.planned} planted bugs caught"
        if self.without_a_crash:
            text += f", {self.without_a_crash} of them without a crash"
        for name in self.dead:
            live = _live(self.mutants[name])
            assert live is not None
            said = f"{name}: no program runs with it, so it says nothing about crashes."
            text += f"\n{_wrapped(f'{said} {live.message}')}"
        if self.baseline.verdict != "consistent":
            text += (
                "\n  which says little: without a planted bug the run is"
                f" {self.baseline.verdict}"
            )
        return text


def row(name: str, found: Certificate) -> str:
    """One line about one run, 80 columns at most."""
    seconds = found.coverage.nanoseconds / 1e9
    text = f"  {name:<22} {found.verdict:<13}{seconds:6.1f} s"
    for violation in found.violations[:1]:
        how = "no crash, " if _live(found) else ""
        text += f"  {violation.shrunk_size} operations, {how}{violation.property}"
    return text[:80]


def _live(found: Certificate) -> ReportedViolation | None:
    """The broken promise that took no crash, if it is that one that was found."""
    return next((v for v in found.violations[:1] if v.failure.at == LIVE), None)


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )


def _is_dead(subject: Subject, plan: Plan, found: Certificate) -> bool:
    """Whether no program returns with this bug."""
    live = _live(found)
    if live is None or live.property != RUN_RETURNS or found.scope.mutant is None:
        return False
    with subject.mutant(found.scope.mutant):
        for program in islice(_programs(subject, plan), _MOST_TRIED):
            try:
                one = Experiment(subject, program, plan.model, cap=1)
            except UncoveredError:
                return False
            if all(broken.property != RUN_RETURNS for broken in one.live):
                return False
    return True


def _programs(subject: Subject, plan: Plan) -> Iterator[Any]:
    """Programs of the plan, each with simpler ones; none of those that do nothing."""
    seeds: Iterable[int] = count(plan.seed)
    if plan.programs is not None:
        seeds = islice(seeds, plan.programs)
    for seed in seeds:
        program = subject.generate(seed)
        yield program
        for one in islice(subject.simplify(program), _MOST_SIMPLER):
            if subject.describe(one):
                yield one


def check_mutants(
    subject: Subject,
    plan: Plan,
    *,
    watch: Watch = silent,
    seen: Callable[[str, Certificate], None] = lambda _name, _found: None,
) -> KillRate:
    """Run a plan without a planted bug and then with each, or until Ctrl-C.

    Args:
        subject: The code under test.
        plan: What to run; its mutant is ignored.
        watch: Called after each crash point.
        seen: Called with each name and certificate as they come in; the name of
            the run without a planted bug is "(no bug)".
    """
    names = list(subject.mutants())
    baseline = run(subject, replace(plan, mutant=None), watch=watch)
    seen("(no bug)", baseline)
    found: dict[str, Certificate] = {}
    last = baseline
    for name in names:
        if last.interrupted:
            break
        last = found[name] = run(subject, replace(plan, mutant=name), watch=watch)
        seen(name, last)
    dead = tuple(name for name, one in found.items() if _is_dead(subject, plan, one))
    return KillRate(baseline, found, len(names), dead)
