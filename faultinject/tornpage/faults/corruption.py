"""Silent corruption: what happens to data that goes bad without an error.

Theory
======
A disk may give back other bytes than it was given and not know it:

    rot          a bit of what is stored changes
    lost         a write is reported as done and never happens
    misdirected  a write lands, or a read is taken, somewhere else
    stale        a read returns what was there before the last write

No store without checksums over everything can notice all of it. The contract is:
*detected or harmless*, and a list of the exceptions. The list is not written by
hand. It is what a survey finds: many single faults, each tried on storage of its
own, each told by the place that it hit.

    detected     an error, or the store's checker complains
    harmless     everything reads as it should
    older        a whole earlier version reads, and nobody complains
    undetected   something else reads, and nobody complains
    broken       the code raised what it does not document, or hung

`older` and `undetected` are properties of the format; `broken` is a bug of the
code. What it is not: a proof. A place that was never undetected among so many
tries is reported with the number of tries.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["VERDICTS", "Span", "Survey", "flip", "rot"]

VERDICTS: Final = ("detected", "harmless", "older", "undetected", "broken")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file that mean one thing.

    Attributes:
        start: First byte.
        stop: Behind the last one.
        place: What they are ("leaf: key").
    """

    start: int
    stop: int
    place: str


@dataclass(slots=True)
class Survey:
    """Verdicts by kind of fault and place.

    Attributes:
        counts: (fault, place, verdict) -> how often.
        examples: (fault, place, verdict) -> the first one, in words.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add(self, fault: str, place: str, verdict: str, example: str = "") -> None:
        """Count one try.

        Raises:
            ValueError: There is no such verdict.
        """
        if verdict not in VERDICTS:
            raise ValueError(f"{verdict!r} is no verdict; they are {VERDICTS}")
        self.counts[fault, place, verdict] += 1
        self.examples.setdefault((fault, place, verdict), example)

    def total(self, verdict: str) -> int:
        """How many tries ended so."""
        return sum(n for key, n in self.counts.items() if key[2] == verdict)

    def undetected(self) -> list[tuple[str, str]]:
        """The faults and places that the contract has to except, sorted."""
        exceptions = {"older", "undetected"}
        return sorted({key[:2] for key in self.counts if key[2] in exceptions})

    def table(self) -> Iterator[str]:
        """The survey as a table in Markdown."""
        yield f"| fault | place | {' | '.join(VERDICTS)} |"
        yield "|---|---|" + "---|" * len(VERDICTS)
        for fault, place in sorted({key[:2] for key in self.counts}):
            row = [str(self.counts[fault, place, one] or "") for one in VERDICTS]
            yield f"| {fault} | {place} | {' | '.join(row)} |"


def flip(content: bytes, bit: int) -> bytes:
    """The content with one bit changed; bits count from byte 0, lowest first."""
    at, shift = divmod(bit, 8)
    return content[:at] + bytes([content[at] ^ (1 << shift)]) + content[at + 1 :]


def rot(spans: Iterable[Span], tries: int, seed: int) -> Iterator[tuple[str, int]]:
    """Single bits to change, spread evenly over places.

    A rare field gets as many tries as a common one: bits that are drawn from the
    whole file hit nothing but values.

    Args:
        spans: What the file is made of.
        tries: Most bits for each place; fewer when it has no more.
        seed: Same seed, same bits.

    Yields:
        (place, bit of the file).
    """
    by_place: dict[str, list[Span]] = {}
    for one in spans:
        by_place.setdefault(one.place, []).append(one)
    for place, found in sorted(by_place.items()):
        draw = random.Random(f"rot {seed} {place}")
        bits: set[int] = set()
        total = sum(8 * (one.stop - one.start) for one in found)
        while len(bits) < min(tries, total):
            span = draw.choice(found)
            if span.stop > span.start:
                bits.add(draw.randrange(8 * span.start, 8 * span.stop))
        for bit in sorted(bits):
            yield place, bit
