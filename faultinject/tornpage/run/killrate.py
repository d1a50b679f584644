"""Checking the checker: does every planted bug get caught?

    a judge that always says "fine"     passes every run, catches no planted bug
    a judge that always complains       catches every planted bug, fails without one

Hence both are looked at: the subject as it is must be consistent, and each of its
planted bugs must be violated by the same plan. Without this a certificate only says
that two programs, of which one is the checker, agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tornpage.progress import silent
from tornpage.run.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.certificate.record import Certificate
    from tornpage.progress import Watch
    from tornpage.run.programs import Plan
    from tornpage.subject import Subject

__all__ = ["KillRate", "check_mutants", "row"]


@dataclass(frozen=True, slots=True)
class KillRate:
    """What a plan makes of a subject and of each of its planted bugs.

    Attributes:
        baseline: The certificate without a planted bug.
        mutants: The certificate with each that was tried, by name.
        planned: How many planted bugs the subject has.
    """

    baseline: Certificate
    mutants: dict[str, Certificate]
    planned: int

    @property
    def caught(self) -> int:
        """How many planted bugs broke a promise."""
        return sum(c.verdict == "violated" for c in self.mutants.values())

    @property
    def passed(self) -> bool:
        """Whether the checker deserves trust: no false alarm, nothing missed."""
        return self.baseline.verdict == "consistent" and 0 < self.planned == self.caught

    def summary(self) -> str:
        """The result in a line or two, 80 columns at most."""
        text = f"  {self.caught} of {self.planned} planted bugs caught"
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
        text += f"  {violation.shrunk_size} operations, {violation.property}"
    return text[:80]


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
    return KillRate(baseline, found, len(names))
