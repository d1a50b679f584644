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
from tornpage.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.certificate import Certificate
    from tornpage.progress import Watch
    from tornpage.run import Plan
    from tornpage.subject import Subject

__all__ = ["KillRate", "check_mutants"]


@dataclass(frozen=True, slots=True)
class KillRate:
    """What a plan makes of a subject and of each of its planted bugs.

    Attributes:
        baseline: The certificate without a planted bug.
        mutants: The certificate with each, by name.
    """

    baseline: Certificate
    mutants: dict[str, Certificate]

    @property
    def caught(self) -> int:
        """How many planted bugs broke a promise."""
        return sum(c.verdict == "violated" for c in self.mutants.values())

    @property
    def passed(self) -> bool:
        """Whether the checker deserves trust: no false alarm, nothing missed."""
        return (
            self.baseline.verdict == "consistent"
            and bool(self.mutants)
            and self.caught == len(self.mutants)
        )

    def render(self) -> str:
        """A table for people, 80 columns at most."""
        width = max(map(len, (*self.mutants, "(no bug)"))) + 2
        rows = [("(no bug)", self.baseline), *self.mutants.items()]
        lines = [f"  {name.ljust(width)}{_row(found)}"[:80] for name, found in rows]
        lines.append("")
        lines.append(f"  {self.caught} of {len(self.mutants)} planted bugs caught")
        if self.baseline.verdict != "consistent":
            lines.append(
                "  which says little: without a planted bug the run is"
                f" {self.baseline.verdict}"
            )
        return "\n".join(lines)


def _row(found: Certificate) -> str:
    seconds = found.coverage.nanoseconds / 1e9
    text = f"{found.verdict:<14}{seconds:5.1f} s"
    for violation in found.violations[:1]:
        text += f"  {violation.shrunk_size} operations, {violation.property}"
    return text


def check_mutants(
    subject: Subject,
    plan: Plan,
    *,
    watch: Watch = silent,
    seen: Callable[[str, Certificate], None] = lambda _name, _found: None,
) -> KillRate:
    """Run a plan without a planted bug and then with each.

    Args:
        subject: The code under test.
        plan: What to run; its mutant is ignored.
        watch: Called after each crash point.
        seen: Called with each mutant's name and certificate as they come in.
    """
    baseline = run(subject, replace(plan, mutant=None), watch=watch)
    found = {}
    for name in subject.mutants():
        found[name] = run(subject, replace(plan, mutant=name), watch=watch)
        seen(name, found[name])
    return KillRate(baseline, found)
