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

A pass may also be *suspicious*: consistent, but something that the subject wants to
see in every run was never seen. That is no doubt about what was covered, so it does
not change the verdict; it is said right below it.

On paper a certificate is JSON, see `as_json`.
"""

from __future__ import annotations

import math
import platform
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from tornpage import __version__
from tornpage.interruption import CRASH_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tornpage.certificate.token import Failure

__all__ = [
    "EXIT_STATUS",
    "FAULTS_UNMET",
    "MOST_UNCLOSED",
    "NOTHING_PROMISED",
    "SEVERAL_THREADS",
    "Certificate",
    "Coverage",
    "MergeError",
    "ProgramRecord",
    "ReportedViolation",
    "Scope",
    "Unclosed",
    "Verdict",
    "crashes_in_a_row",
    "exclusions",
    "faults_with_zeros",
    "images_from_log2",
    "log2_of",
    "merge",
    "merge_all",
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


SEVERAL_THREADS: Final = "threads several"
"""The feature of programs whose threads could have come in another order."""

FAULTS_UNMET: Final = "script unmet"
"""The feature of programs under a fault script of which something never happened."""

NOTHING_PROMISED: Final = "nothing promised"
"""A feature that a subject's `features` may name: the program has crash points at which
nothing is promised of what a crash leaves. They are visited and closed as all others
are, and the certificate says how many programs have some."""

# Crash points that were given up are named, but not all of a million.
MOST_UNCLOSED: Final = 12
_UNCLOSED_SAID: Final = 3

# What each value of a model parameter leaves out, in words; and what all do.
_EXCLUDED: Final[Mapping[str, str]] = {
    "tear=page": "pages of 4,096 bytes never tear",
    "tear=sector": "sectors of 512 bytes never tear",
    "order=ordered": "writes never reach the platter out of order",
    "size=with-data": "a file never grows before its data is there",
    "size=with-block": "a file never grows by a block before its data is there",
    "entries=prefix": "names never change out of order",
}
_NO_MORE: Final = (
    "no more than {} crashes come in a row without a recovery that ends",
    "no crash comes during recovery (--crashes 2 has them come)",
)
_NEVER_COVERED: Final = (
    "no sync lies",
    "no sync, write or read fails unless the program makes it fail",
    "what is durable does not rot",
)


def exclusions(model: object) -> tuple[str, ...]:
    """What a crash model leaves out, one clause each.

    Args:
        model: A crash model; its text is a list of parameter=value.
    """
    values = str(model).split(",")
    deep = crashes_in_a_row(str(model))
    more = _NO_MORE[deep == 1].format(deep)
    return (*(_EXCLUDED[v] for v in values if v in _EXCLUDED), more, *_NEVER_COVERED)


def crashes_in_a_row(model: str) -> int:
    """How many crashes a crash model, as text, has come one during the other."""
    found = re.search(r"\bcrashes=(\d+)", model)
    return int(found[1]) if found else 1


class MergeError(ValueError):
    """Two certificates are not parts of one run."""


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


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


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
        features: Programs that showed a behaviour, by feature (see `behaviour`).
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
    features: Mapping[str, int] = field(default_factory=dict)
    nanoseconds: int = 0

    @classmethod
    def total(cls, parts: Sequence[Coverage]) -> Coverage:
        """All of these together, names in the order in which they come up."""
        return cls(
            programs=sum(part.programs for part in parts),
            crash_points=sum(part.crash_points for part in parts),
            closed=sum(part.closed for part in parts),
            reused=sum(part.reused for part in parts),
            executions=sum(part.executions for part in parts),
            images=sum(part.images for part in parts),
            largest=max((part.largest for part in parts), default=0),
            operations=_sum(part.operations for part in parts),
            points=_sum(part.points for part in parts),
            faults=_sum(part.faults for part in parts),
            violating=_sum(part.violating for part in parts),
            features=_sum(part.features for part in parts),
            nanoseconds=sum(part.nanoseconds for part in parts),
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
        code: SHA-256 of the code under test and of tornpage.
        sometimes: Features that every run should show at least once.
        python: Version of the interpreter.
        tornpage: Version of tornpage.
    """

    subject: str
    model: str
    exclusions: tuple[str, ...] = ()
    mutant: str | None = None
    database: str | None = None
    cap: int = 0
    code: str = ""
    sometimes: tuple[str, ...] = ()
    python: str = field(default_factory=platform.python_version)
    tornpage: str = __version__


@dataclass(frozen=True, slots=True)
class ReportedViolation:
    """A broken promise as it is reported, shrunk and told.

    Attributes:
        property: Short name of the promise.
        message: One sentence.
        seed: Seed of the program it was found with; None when it has none.
        found_size: Operations of that program.
        shrunk_size: Operations of the shrunk program.
        shrinking: How shrinking ended, in words.
        story: The whole story, replay command included.
        replay: The replay command.
        failure: What reproduces it; holds the shrunk program.
        cause: What tells it from other failures of the same promise.
        shrunk: Whether it was shrunk at all.
    """

    property: str
    message: str
    seed: int | None
    found_size: int
    shrunk_size: int
    shrinking: str
    story: str
    replay: str
    failure: Failure
    cause: str = ""
    shrunk: bool = True

    def rank(self) -> tuple[bool, int, int, str]:
        """The lower, the rather this one is told when two have one cause."""
        seed = -1 if self.seed is None else self.seed
        return not self.shrunk, self.shrunk_size * self.shrunk, seed, self.replay

    def order(self) -> tuple[int, str, str, str]:
        """By seed, those without one first."""
        seed = -1 if self.seed is None else self.seed
        return seed, self.property, self.cause, self.replay

    def to_json(self) -> dict[str, Any]:
        """This record as JSON values."""
        return {
            "property": self.property,
            "cause": self.cause,
            "shrunk": self.shrunk,
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
class ProgramRecord:
    """One program that was covered, and what it did; see `fingerprint`.

    Attributes:
        program: Digest of the program itself.
        seed: The seed it was generated from; None when it came from a corpus.
        trace: Digest of what it did to the disk.
        outcomes: Digest of what its crashes led to.
    """

    program: str
    seed: int | None
    trace: str
    outcomes: str

    def order(self) -> tuple[int, str, str, str]:
        """By seed, those without one first."""
        seed = -1 if self.seed is None else self.seed
        return seed, self.program, self.trace, self.outcomes


@dataclass(frozen=True, slots=True)
class Unclosed:
    """A crash point that was given up, and what made it so large.

    Attributes:
        program: Digest of the program.
        seed: Its seed; None when it came from a corpus.
        point: The crash point, as in a schedule.
        where: Where it lies ("inside fdatasync").
        executions: Executions made before it was given up.
        reads: What its executions branched on most, "db 4096..4112: 9,999".
    """

    program: str
    seed: int | None
    point: str
    where: str
    executions: int
    reads: tuple[str, ...]

    def __str__(self) -> str:
        name = f"program {self.program}" if self.seed is None else f"seed {self.seed}"
        branched = "; ".join(self.reads) or "nothing that was recorded"
        return f"{name}, point {self.point} ({self.where}), branched on {branched}"

    def order(self) -> tuple[int, str, str]:
        """By seed, those without one first."""
        return -1 if self.seed is None else self.seed, self.program, self.point


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result of a run, or of a part of one.

    Attributes:
        scope: What it is about.
        seeds: The programs run, as sorted ranges (first seed, how many).
        coverage: What was visited.
        violations: Broken promises, in the order they were found.
        cut: Why something that was started is not covered, one clause each.
        records: Digests of the programs that were covered, sorted.
        unclosed: The first crash points that were given up, `MOST_UNCLOSED` at most.
        unchecked: What could not be looked at here, though nothing is known to be
            wrong with it: no doubt, but not proven either; one clause each.
    """

    scope: Scope
    seeds: tuple[tuple[int, int], ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    violations: tuple[ReportedViolation, ...] = ()
    cut: tuple[str, ...] = ()
    records: tuple[ProgramRecord, ...] = ()
    unclosed: tuple[Unclosed, ...] = ()
    unchecked: tuple[str, ...] = ()

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
        """Why this may not be called consistent, causes before what they led to."""
        seen = self.coverage
        doubts = []
        if not seen.crash_points:
            doubts.append("no crash point was visited: nothing was exercised")
        elif not sum(seen.faults.values()) - seen.faults.get(CRASH_AGAIN, 0):
            doubts.append(
                "no execution met a dishonest disk: recovery never read anything"
                " that a crash could change, so nothing was exercised"
                if seen.operations
                else "nothing was exercised: no program changed anything on the disk."
                " The store has to use the disk, or the path, that run is given"
            )
        if missing := seen.crash_points - seen.closed:
            said = f"{missing:,} of {seen.crash_points:,} crash points were not closed"
            if self.unclosed or not (self.cut or self.violations):
                said += f"; a larger --cap than {self.scope.cap:,} may close them"
            doubts.append(said)
        doubts += [f"not closed: {one}" for one in self.unclosed[:_UNCLOSED_SAID]]
        return (*self.cut, *doubts)

    def never_seen(self) -> tuple[str, ...]:
        """Features that every run should show and this one did not."""
        seen = self.coverage.features
        return tuple(name for name in self.scope.sometimes if not seen.get(name))

    def to_json(self) -> dict[str, Any]:
        """This certificate as JSON values; docs/certificate.md lists the fields."""
        # Not at the top: that module imports this one.
        from tornpage.certificate.as_json import to_json  # noqa: PLC0415

        return to_json(self)

    @classmethod
    def from_json(cls, data: Any) -> Certificate:
        """The certificate that `to_json` gave.

        Raises:
            CertificateError: The values are not those of a certificate.
        """
        from tornpage.certificate.as_json import from_json  # noqa: PLC0415

        return from_json(data)


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


def _distinct(
    violations: Iterable[ReportedViolation],
) -> tuple[ReportedViolation, ...]:
    """One violation of each property and cause, by seed."""
    best: dict[tuple[str, str], ReportedViolation] = {}
    for one in violations:
        key = (one.property, one.cause)
        if key not in best or one.rank() < best[key].rank():
            best[key] = one
    return tuple(sorted(best.values(), key=ReportedViolation.order))


def merge(left: Certificate, right: Certificate) -> Certificate:
    """The certificate of two parts together; associative and commutative.

    Of two violations of one property with one cause, the one with the smaller
    program is kept.

    Raises:
        MergeError: The parts are about different subjects, code, models, mutants,
            databases, caps or versions, or have a seed in common.
    """
    return merge_all((left, right))


def merge_all(parts: Sequence[Certificate]) -> Certificate:
    """The certificate of several parts together; the same as merging them in turn.

    Raises:
        MergeError: As `merge`.
        ValueError: There are no parts.
    """
    if not parts:
        raise ValueError("There is no certificate of no parts: give at least one.")
    first = parts[0]
    for part in parts[1:]:
        if part.scope != first.scope:
            raise MergeError(_difference(first.scope, part.scope))
    return replace(
        first,
        seeds=_union([seeds for part in parts for seeds in part.seeds]),
        coverage=Coverage.total([part.coverage for part in parts]),
        violations=_distinct(v for part in parts for v in part.violations),
        cut=tuple(sorted(clause for part in parts for clause in part.cut)),
        records=tuple(
            sorted((r for p in parts for r in p.records), key=ProgramRecord.order)
        ),
        unclosed=tuple(
            sorted((u for p in parts for u in p.unclosed), key=Unclosed.order)
        )[:MOST_UNCLOSED],
        unchecked=tuple(sorted({one for part in parts for one in part.unchecked})),
    )


def _difference(left: Scope, right: Scope) -> str:
    differing = [
        f"{name} ({getattr(left, name)!r} and {getattr(right, name)!r})"
        for name in Scope.__slots__
        if getattr(left, name) != getattr(right, name)
    ]
    return f"These certificates do not merge: they differ in {', '.join(differing)}."
