"""What the gate found, as one record that every report is made from.

    lane        what was run                               its certificate
    corpus      programs kept because they show something
    programs    new programs, by seed
    file ...    programs that start from a file
    model ...   the same under another crash model

    planted     each planted bug: caught, survived, or not finished
    exhibits    failures worth a picture, with the test that keeps them away

    verdict     violated       some lane is violated
                unverifiable   some lane is unverifiable, or the gate itself cannot be
                               trusted: planted bugs survived, work was left out
                consistent     neither

A planted bug that survives makes the gate *unverifiable*, not violated: nothing is
known to be wrong with the storage code; what is known is that the checker would not
have noticed. So does a sabotaged checker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tornpage.certificate.record import (
    EXIT_STATUS,
    Coverage,
    faults_with_zeros,
    log2_of,
)

if TYPE_CHECKING:
    from tornpage.certificate.record import Certificate, ReportedViolation, Verdict
    from tornpage.reports.scene import Scene

__all__ = ["Exhibit", "Fate", "GateResult", "Lane", "Planted"]

Fate = Literal["caught", "survived", "not finished"]


@dataclass(frozen=True, slots=True)
class Lane:
    """One part of what the gate ran.

    Attributes:
        name: Short and unique: "corpus", "model adversarial".
        what: One sentence about it.
        certificate: What it showed.
    """

    name: str
    what: str
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Planted:
    """What became of one planted bug.

    Attributes:
        name: What the command calls it.
        summary: One line: what is wrong.
        fate: Whether it was caught.
        origin: Who had this bug, when the subject tells.
        needs: The least that shows it, when the subject tells.
        reason: Why it was not caught; "" when it was.
        property: The promise it broke.
        found_by: The program that caught it: "corpus 3" or "seed 17".
        programs: Programs tried, that one included.
        executions: Recoveries until it was caught, shrinking not included.
        seconds: Processor time until it was caught, shrinking not included.
        size: Operations of the program in its story.
        dishonest: Dishonest choices of the disk in its story.
        shrunk: Whether the story was shrunk.
    """

    name: str
    summary: str
    fate: Fate
    origin: str = ""
    needs: str = ""
    reason: str = ""
    property: str = ""
    found_by: str = ""
    programs: int = 0
    executions: int = 0
    seconds: float = 0.0
    size: int = 0
    dishonest: int = 0
    shrunk: bool = False


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A failure with everything a person needs to act on it.

    Attributes:
        lane: The lane it was found in.
        violation: The failure, shrunk and told.
        scene: The same unfolded for a picture; None when it could not be.
        missing: Why there is no scene; "" when there is one.
        test_name: File name of the regression test.
        test: Its text.
    """

    lane: str
    violation: ReportedViolation
    scene: Scene | None
    missing: str
    test_name: str
    test: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """Everything about one run of the gate.

    Attributes:
        subject: The name of the code under test.
        tier: "pr", "nightly" or another tier of the policy.
        lanes: What was run, in the order of the policy.
        planted: The planted bugs, in the subject's order.
        kill_rate: The least share of them that has to be caught.
        tried: Whether planted bugs were to be tried at all.
        exhibits: Failures.
        curve: (programs covered, different behaviours seen), rising.
        left_out: Work that was to be done and was not, one clause each.
        seconds: Wall-clock time.
        budget: Seconds that the tier has.
        workers: Processes.
        commit: The commit under test, when that is known.
    """

    subject: str
    tier: str
    lanes: tuple[Lane, ...]
    planted: tuple[Planted, ...] = ()
    kill_rate: float = 1.0
    tried: bool = True
    exhibits: tuple[Exhibit, ...] = ()
    curve: tuple[tuple[int, int], ...] = ()
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0
    budget: float = 0.0
    workers: int = 1
    commit: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict; see the module's head."""
        if any(lane.certificate.verdict == "violated" for lane in self.lanes):
            return "violated"
        return "unverifiable" if self.doubts() else "consistent"

    @property
    def exit_status(self) -> int:
        """The exit status of a command that ends with this result."""
        return EXIT_STATUS[self.verdict]

    @property
    def caught(self) -> int:
        """Planted bugs that were caught."""
        return sum(one.fate == "caught" for one in self.planted)

    def doubts(self) -> tuple[str, ...]:
        """Why this may not be called consistent, most damning first."""
        doubts = [] if self.lanes else ["nothing was run"]
        if self.tried and not self.planted:
            doubts.append(
                "there are no planted bugs: nothing shows that a bug would be noticed"
            )
        missed = [one.name for one in self.planted if one.fate != "caught"]
        if self.planted and self.caught < math.ceil(
            self.kill_rate * len(self.planted) - 1e-9
        ):
            doubts.append(
                f"{len(missed)} of {len(self.planted)} planted bugs were not caught,"
                f" so the checker would miss real ones: {', '.join(missed)}"
            )
        doubts += self.left_out
        for lane in self.lanes:
            if lane.certificate.verdict == "unverifiable":
                doubts += [f"{lane.name}: {why}" for why in lane.certificate.doubts()]
        return tuple(doubts)

    def never_seen(self) -> tuple[str, ...]:
        """Behaviours that every run should show, and no lane of this one did."""
        wanted = {
            name for lane in self.lanes for name in lane.certificate.scope.sometimes
        }
        seen = {
            name for lane in self.lanes for name in lane.certificate.coverage.features
        }
        return tuple(sorted(wanted - seen))

    def total(self) -> dict[str, Any]:
        """Counts over all lanes, by the names that certificates use."""
        parts = [lane.certificate.coverage for lane in self.lanes]
        if not parts:
            return {}
        whole = Coverage.total(parts)
        return {
            "programs": whole.programs,
            "crash_points": whole.crash_points,
            "closed": whole.closed_share,
            "executions": whole.executions,
            "images_log2": round(log2_of(whole.images), 3),
            "images_log2_largest": round(log2_of(whole.largest), 3),
            "operations": dict(sorted(whole.operations.items())),
            "crash_points_by_kind": dict(sorted(whole.points.items())),
            "faults": faults_with_zeros(whole.faults),
            "features": len(whole.features),
        }

    def to_json(self) -> dict[str, Any]:
        """This result as JSON values; docs/gate.md lists the fields."""
        return {
            "format": 1,
            "verdict": self.verdict,
            "doubts": list(self.doubts()),
            "never_seen": list(self.never_seen()),
            "subject": self.subject,
            "tier": self.tier,
            "commit": self.commit,
            "seconds": round(self.seconds, 3),
            "budget": self.budget,
            "workers": self.workers,
            **self.total(),
            "new_behaviour": [list(point) for point in self.curve],
            "planted_bugs": len(self.planted),
            "planted_bugs_caught": self.caught,
            "kill_rate_wanted": self.kill_rate,
            "planted": [
                {name: getattr(one, name) for name in Planted.__slots__}
                for one in self.planted
            ],
            "failures": [
                {
                    "lane": one.lane,
                    "test": f"tests/{one.test_name}",
                    **one.violation.to_json(),
                }
                for one in self.exhibits
            ],
            "lanes": [
                {
                    "name": lane.name,
                    "what": lane.what,
                    "certificate": lane.certificate.to_json(),
                }
                for lane in self.lanes
            ],
        }
