"""What a run proved, in numbers that add up: the certificate.

    verdict        says                                          exit status
    consistent     every crash image of every crash point of         0
                   every program was covered, and no promise
                   was broken
    violated       at least one promise was broken, here is how      1
    unverifiable   neither: something was left out                   3

"Consistent" is a proof about the programs that were run and the crashes that the
model allows, and about nothing else; the text says so. It is refused

* when a crash point was not closed (the cap was hit),
* when a program was started and not finished (time, Ctrl-C),
* when there was nothing to prove: no crash point, or no execution in which the
  disk did anything an honest disk does not. A gate that passes because it did
  nothing is the failure mode that certificates exist for, so it is said first.

A violation outranks all that: it is a fact, however little else was covered.

Certificates of parts of one run merge into that run's certificate. `merge` is
associative, exactly: counts are integers, images are counted as whole numbers of
any length and only shown as logarithms, time is in nanoseconds. The rejected way,
adding logarithms, gives other last digits for another order of merging.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornpage.failure import Failure

__all__ = [
    "EXIT_STATUS",
    "Certificate",
    "Coverage",
    "MergeError",
    "ReportedViolation",
    "Scope",
    "Verdict",
    "exclusions",
    "faults_with_zeros",
    "images_from_log2",
    "log2_of",
    "merge",
    "tornpage_version",
]

Verdict = Literal["consistent", "violated", "unverifiable"]

EXIT_STATUS: Final[Mapping[Verdict, int]] = {
    "consistent": 0,
    "violated": 1,
    "unverifiable": 3,
}

_DOUBLE_BITS = 53

# Kinds of dishonesty that are shown even when they never happened: a zero here is
# news. Other kinds, of other models, appear once they did happen.
_FAULTS = ("dropped", "torn", "size lost", "entry lost")


# What each value of a model parameter leaves out, in words; and what all do.
_EXCLUDED: Final[Mapping[str, str]] = {
    "tear=page": "pages of 4,096 bytes never tear",
    "tear=sector": "sectors of 512 bytes never tear",
    "order=ordered": "writes never reach the platter out of order",
    "size=with-data": "a file never grows before its data is there",
    "entries=prefix": "names never change out of order",
}
_NEVER_COVERED: Final = (
    "no sync lies",
    "no sync, write or read fails",
    "what is durable does not rot",
)


def exclusions(model: object) -> tuple[str, ...]:
    """What a crash model leaves out, one clause each.

    Args:
        model: A crash model; its text is a list of parameter=value.
    """
    values = str(model).split(",")
    return (*(_EXCLUDED[v] for v in values if v in _EXCLUDED), *_NEVER_COVERED)


class MergeError(ValueError):
    """Two certificates are not parts of one run."""


@cache
def tornpage_version() -> str:
    """The version of the distribution that tornpage comes in."""
    try:
        return metadata.version("shearbolt")
    except metadata.PackageNotFoundError:
        return "not installed"


def images_from_log2(exponent: float) -> int:
    """2**exponent to the precision of a double, as an integer of any length."""
    whole = math.floor(exponent)
    if whole < _DOUBLE_BITS:
        return round(math.exp2(exponent))
    mantissa = round(math.exp2(exponent - whole + _DOUBLE_BITS))
    return mantissa << (whole - _DOUBLE_BITS)


def log2_of(count: int) -> float:
    """log2 of a number of images; 0 when there are none."""
    return math.log2(count) if count else 0.0


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(left) + Counter(right))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was visited. Every field is a sum or a maximum, so parts add up.

    Attributes:
        programs: Programs whose crash points were all visited.
        crash_points: Crash points visited.
        closed: Those of which every legal image was covered.
        reused: Those answered by executions made at an earlier crash point.
        executions: Recoveries that were really run, shrinking not included.
        images: Legal crash images the crash points stand for, summed up.
        largest: Legal crash images of the largest single crash point.
        operations: Disk operations of the programs, by kind.
        points: Crash points by where they lie ("inside write").
        faults: Choices in which the disk was dishonest, by kind.
        violating: Programs that broke a promise, by property.
        nanoseconds: Time spent; of parallel parts, the sum.
    """

    programs: int = 0
    crash_points: int = 0
    closed: int = 0
    reused: int = 0
    executions: int = 0
    images: int = 0
    largest: int = 0
    operations: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    violating: Mapping[str, int] = field(default_factory=dict)
    nanoseconds: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            programs=self.programs + other.programs,
            crash_points=self.crash_points + other.crash_points,
            closed=self.closed + other.closed,
            reused=self.reused + other.reused,
            executions=self.executions + other.executions,
            images=self.images + other.images,
            largest=max(self.largest, other.largest),
            operations=_sum(self.operations, other.operations),
            points=_sum(self.points, other.points),
            faults=_sum(self.faults, other.faults),
            violating=_sum(self.violating, other.violating),
            nanoseconds=self.nanoseconds + other.nanoseconds,
        )

    @property
    def closed_share(self) -> float:
        """Share of the crash points that were closed; 0 when there were none.

        Rounded down, so that 1.0 always means all of them.
        """
        if self.closed == self.crash_points:
            return 1.0 if self.crash_points else 0.0
        return math.floor(self.closed / self.crash_points * 1e6) / 1e6


@dataclass(frozen=True, slots=True)
class Scope:
    """What a certificate is about. Only equal scopes merge.

    Attributes:
        subject: The name the subject is found by.
        model: The crash model as text.
        exclusions: What that model leaves out, one clause each.
        mutant: The planted bug that was active, or None.
        database: SHA-256 of the file the programs start from, or None.
        cap: Most executions for one crash point.
        python: Version of the interpreter.
        tornpage: Version of tornpage.
    """

    subject: str
    model: str
    exclusions: tuple[str, ...] = ()
    mutant: str | None = None
    database: str | None = None
    cap: int = 0
    python: str = field(default_factory=platform.python_version)
    tornpage: str = field(default_factory=tornpage_version)


@dataclass(frozen=True, slots=True)
class ReportedViolation:
    """A broken promise as it is reported, shrunk and told.

    Attributes:
        property: Short name of the promise.
        message: One sentence.
        seed: Seed of the program it was found with.
        found_size: Operations of that program.
        shrunk_size: Operations of the shrunk program.
        shrinking: How shrinking ended, in words.
        story: The whole story, replay command included.
        replay: The replay command.
        failure: What reproduces it; holds the shrunk program.
    """

    property: str
    message: str
    seed: int
    found_size: int
    shrunk_size: int
    shrinking: str
    story: str
    replay: str
    failure: Failure

    def to_json(self) -> dict[str, Any]:
        """This record as JSON values."""
        return {
            "property": self.property,
            "message": self.message,
            "seed": self.seed,
            "found_size": self.found_size,
            "shrunk_size": self.shrunk_size,
            "shrinking": self.shrinking,
            "program": self.failure.program,
            "at": self.failure.at,
            "story": self.story,
            "replay": self.replay,
            "token": self.failure.token(),
        }


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result of a run, or of a part of one.

    Attributes:
        scope: What it is about.
        seeds: The programs run, as sorted ranges (first seed, how many).
        coverage: What was visited.
        violations: Broken promises, in the order they were found.
        cut: Why something that was started is not covered, one clause each.
    """

    scope: Scope
    seeds: tuple[tuple[int, int], ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    violations: tuple[ReportedViolation, ...] = ()
    cut: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict; see the module's head for the rules."""
        if self.violations:
            return "violated"
        return "unverifiable" if self.doubts() else "consistent"

    @property
    def exit_status(self) -> int:
        """The exit status of a command that ends with this certificate."""
        return EXIT_STATUS[self.verdict]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return any(clause.startswith("interrupted") for clause in self.cut)

    def doubts(self) -> tuple[str, ...]:
        """Why this may not be called consistent, most damning first."""
        seen = self.coverage
        doubts = []
        if not seen.crash_points:
            doubts.append("no crash point was visited: nothing was exercised")
        elif not sum(seen.faults.values()):
            doubts.append(
                "no execution met a dishonest disk: recovery never read anything"
                " that a crash could change, so nothing was exercised"
            )
        if missing := seen.crash_points - seen.closed:
            doubts.append(
                f"{missing:,} of {seen.crash_points:,} crash points were not closed;"
                f" a larger --cap than {self.scope.cap:,} may close them"
            )
        return (*doubts, *self.cut)

    def to_json(self) -> dict[str, Any]:
        """This certificate as JSON values; docs/certificate.md lists the fields."""
        seen = self.coverage
        return {
            "verdict": self.verdict,
            "doubts": list(self.doubts()),
            "crash_points": seen.crash_points,
            "executions": seen.executions,
            "images_log2": round(log2_of(seen.images), 3),
            "images_log2_largest": round(log2_of(seen.largest), 3),
            "closed": seen.closed_share,
            "reused": seen.reused,
            "programs": seen.programs,
            "operations": dict(sorted(seen.operations.items())),
            "crash_points_by_kind": dict(sorted(seen.points.items())),
            "faults": faults_with_zeros(seen.faults),
            "violating_programs": dict(sorted(seen.violating.items())),
            "seconds": round(seen.nanoseconds / 1e9, 3),
            "seed": self.seeds[0][0] if self.seeds else None,
            "seeds": [list(interval) for interval in self.seeds],
            "model": self.scope.model,
            "exclusions": list(self.scope.exclusions),
            "cap": self.scope.cap,
            "subject": self.scope.subject,
            "mutant": self.scope.mutant,
            "database_sha256": self.scope.database,
            "versions": {
                "python": self.scope.python,
                "tornpage": self.scope.tornpage,
            },
            "violations": [violation.to_json() for violation in self.violations],
        }


def faults_with_zeros(faults: Mapping[str, int]) -> dict[str, int]:
    """Faults by kind in a fixed order, those that never happened included."""
    rest = sorted(set(faults) - set(_FAULTS))
    return {kind: faults.get(kind, 0) for kind in (*_FAULTS, *rest)}


def _union(seeds: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges of seeds as few sorted ranges.

    Raises:
        MergeError: Two ranges have a seed in common.
    """
    joined: list[tuple[int, int]] = []
    for first, count in sorted(seeds):
        if joined and first < sum(joined[-1]):
            raise MergeError(
                f"These certificates do not merge: both cover seed {first}, whose"
                " crash points would count twice."
            )
        if joined and first == sum(joined[-1]):
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((first, count))
    return tuple(joined)


def merge(left: Certificate, right: Certificate) -> Certificate:
    """The certificate of two parts together; associative.

    Raises:
        MergeError: The parts are about different subjects, models, mutants,
            databases, caps or versions, or have a seed in common.
    """
    if left.scope != right.scope:
        differing = [
            f"{name} ({getattr(left.scope, name)!r} and {getattr(right.scope, name)!r})"
            for name in Scope.__slots__
            if getattr(left.scope, name) != getattr(right.scope, name)
        ]
        raise MergeError(
            f"These certificates do not merge: they differ in {', '.join(differing)}."
        )
    return replace(
        left,
        seeds=_union((*left.seeds, *right.seeds)),
        coverage=left.coverage + right.coverage,
        violations=(*left.violations, *right.violations),
        cut=(*left.cut, *right.cut),
    )
