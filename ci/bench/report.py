"""From samples to a report: medians, ratios, targets.

A sample is one workload of one peer in one round. Rounds are interleaved, so
what disturbs the machine for a minute disturbs all peers of that round alike.
Therefore a ratio is taken inside each round, and the median of the rounds'
ratios is reported, not the ratio of medians.

    ratio = others' seconds per operation / ours        > 1: we are faster

Seconds are those of the clock on the wall. Each sample has the CPU seconds of
its process too, of all its threads: on a machine that others use meanwhile
`clock="cpu"` says more about everything that does not wait for the disk.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OURS", "TARGETS", "Fact", "Judged", "Report", "Sample", "Target"]

OURS: Final = "shearbolt"
_JUDGED_PAIRS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One workload of one peer in one round."""

    peer: str
    pairs: int
    round: int
    workload: str
    seconds: float
    cpu: float
    operations: int


@dataclass(frozen=True, slots=True)
class Fact:
    """A size of one peer in one round, in bytes."""

    peer: str
    pairs: int
    round: int
    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio must be at least.

    Attributes:
        peer: Against whom.
        workloads: One workload, or several of which the geometric mean counts.
        least: The ratio.
    """

    peer: str
    workloads: tuple[str, ...]
    least: float


_SEVEN: Final = (
    "load sorted",
    "load random",
    "commit",
    "get warm",
    "scan warm",
    "range",
    "delete half",
)
_AGAINST_BOLTDB: Final = tuple(
    Target("boltdb (PyPI)", (name,), 5.0) for name in (*_SEVEN, "get cold", "scan cold")
)

TARGETS: Final = (
    Target("sqlite3", ("get warm",), 3.0),
    Target("sqlite3", ("get cold",), 1.8),
    Target("sqlite3", ("scan cold",), 0.9),
    Target("sqlite3", ("scan warm",), 2.0),
    Target("sqlite3", ("range",), 2.0),
    Target("sqlite3", ("load sorted",), 1.2),
    Target("sqlite3", ("load random",), 2.5),
    Target("sqlite3", ("delete half",), 1.5),
    Target("sqlite3", ("commit",), 0.6),
    Target("lmdb", _SEVEN, 0.6),
    *(Target("lmdb", (name,), 0.35) for name in _SEVEN),
    Target("bbolt (Go)", ("load random",), 20.0),
    *_AGAINST_BOLTDB,
)
"""What the project promises itself; a commit here is two syncs, sqlite3's is one."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured; None when the peer did not run that."""

    target: Target
    pairs: int
    ratio: float | None

    @property
    def met(self) -> bool:
        """Whether it was measured and reached."""
        return self.ratio is not None and self.ratio >= self.target.least


@dataclass(slots=True)
class Report:
    """Everything one run found.

    Attributes:
        command: What made it.
        machine: `Machine.to_json`.
        versions: Peers that ran, with their versions.
        skipped: Peers that did not, and why.
        failures: (peer, pairs, workload) -> the peer's own error.
        samples: All times.
        facts: All sizes.
        clock: "wall" or "cpu": which seconds count.
    """

    command: str
    machine: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: dict[tuple[str, int, str], str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    clock: str = "wall"

    def sizes(self) -> list[int]:
        """The numbers of pairs that were measured, ascending."""
        return sorted({sample.pairs for sample in self.samples})

    def peers(self, pairs: int) -> list[str]:
        """Who was measured at this size, in the order of `versions`."""
        there = {sample.peer for sample in self.samples if sample.pairs == pairs}
        return [name for name in self.versions if name in there]

    def rate(self, peer: str, pairs: int, workload: str) -> float | None:
        """Operations a second, the median of the rounds."""
        costs = list(self._costs(peer, pairs, workload).values())
        return 1 / median(costs) if costs else None

    def ratio(self, peer: str, pairs: int, workload: str) -> float | None:
        """How many times faster ours is: the median of the rounds' ratios."""
        ours = self._costs(OURS, pairs, workload)
        theirs = self._costs(peer, pairs, workload)
        ratios = [theirs[one] / ours[one] for one in ours if one in theirs]
        return median(ratios) if ratios else None

    def mean_ratio(
        self, peer: str, pairs: int, workloads: Iterable[str]
    ) -> float | None:
        """The geometric mean over workloads; None when one is missing."""
        ratios = [self.ratio(peer, pairs, name) for name in workloads]
        known = [ratio for ratio in ratios if ratio is not None]
        if len(known) < len(ratios) or not known:
            return None
        return math.exp(sum(map(math.log, known)) / len(known))

    def growth(
        self, small: int, large: int, workload: str, peer: str = OURS
    ) -> float | None:
        """A peer's cost per operation at `large` over that at `small`.

        The median of the rounds' ratios, as in `ratio`.
        """
        few, many = (self._costs(peer, pairs, workload) for pairs in (small, large))
        ratios = [many[one] / few[one] for one in few if one in many]
        return median(ratios) if ratios else None

    def amount(self, peer: str, pairs: int, name: str) -> int | None:
        """A fact in bytes, the median of the rounds."""
        found = [
            fact.amount
            for fact in self.facts
            if (fact.peer, fact.pairs, fact.name) == (peer, pairs, name)
        ]
        return int(median(found)) if found else None

    def judged(self) -> list[Judged]:
        """All targets against peers that ran, at the largest size up to 100,000."""
        judged = []
        for target in TARGETS:
            sizes = [
                pairs
                for pairs in self.sizes()
                if pairs <= _JUDGED_PAIRS and target.peer in self.peers(pairs)
            ]
            if sizes:
                ratio = self.mean_ratio(target.peer, sizes[-1], target.workloads)
                judged.append(Judged(target, sizes[-1], ratio))
        return judged

    def _costs(self, peer: str, pairs: int, workload: str) -> dict[int, float]:
        return {
            sample.round: (sample.seconds if self.clock == "wall" else sample.cpu)
            / sample.operations
            for sample in self.samples
            if (sample.peer, sample.pairs, sample.workload) == (peer, pairs, workload)
        }

    def to_json(self) -> str:
        """The whole report as text."""
        failures = [
            {"peer": peer, "pairs": pairs, "workload": workload, "error": text}
            for (peer, pairs, workload), text in self.failures.items()
        ]
        content = {
            "command": self.command,
            "machine": self.machine,
            "versions": self.versions,
            "skipped": self.skipped,
            "failures": failures,
            "samples": [asdict(sample) for sample in self.samples],
            "facts": [asdict(fact) for fact in self.facts],
        }
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote."""
        content = json.loads(text)
        return cls(
            content["command"],
            content["machine"],
            content["versions"],
            content["skipped"],
            {
                (row["peer"], row["pairs"], row["workload"]): row["error"]
                for row in content["failures"]
            },
            [Sample(**row) for row in content["samples"]],
            [Fact(**row) for row in content["facts"]],
        )
