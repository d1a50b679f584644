"""A certificate as text for people: 80 columns, verdict first, limits last.

    CONSISTENT  toy: 6 programs from seed 0

      crash points    208, closed exhaustively: 100 %
      ...
      proven          whichever crash image the model allows ...
      not proven      anything about other programs, or about ...

Below the verdict come the reasons to doubt it, and below these what the subject
wants to see in every run and this one never showed: that makes a pass suspicious.

The last paragraph is not a disclaimer in small print. Whoever reads "consistent" has
to know what was taken for granted, and that is as much part of the result.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Final

from tornpage.certificate.record import (
    FAULTS_UNMET,
    NOTHING_PROMISED,
    SEVERAL_THREADS,
    crashes_in_a_row,
    faults_with_zeros,
    log2_of,
)
from tornpage.certificate.token import LIVE
from tornpage.interruption import CRASH_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tornpage.certificate.record import Certificate, Verdict

__all__ = ["headline", "render"]

_WIDTH = 80
_LABEL = 18

_PROVEN: Final[Mapping[Verdict, str]] = {
    "consistent": (
        "whichever crash image the model allows is left by a crash at any of these"
        " points, recovery keeps every promise."
    ),
    "violated": "at least one crash image that the model allows breaks a promise.",
    "unverifiable": (
        "nothing. No broken promise was met, but not everything was looked at."
    ),
}


def headline(certificate: Certificate) -> str:
    """One line: the verdict and what it is about."""
    scope, seeds = certificate.scope, certificate.seeds
    count = sum(many for _, many in seeds)
    programs = f"{count:,} program{'s' * (count != 1)}"
    if len(seeds) == 1:
        programs += f" from seed {seeds[0][0]}"
    if kept := sum(record.seed is None for record in certificate.records):
        programs += f", {kept:,} of the corpus"
    bug = f", planted bug {scope.mutant}" if scope.mutant else ""
    return f"{certificate.verdict.upper()}  {scope.subject}{bug}: {programs}"


def render(certificate: Certificate) -> str:
    """The whole certificate, without its stories; no newline at the end."""
    lines = _wrapped("", headline(certificate), hang=2)
    if not certificate.violations:
        for doubt in certificate.doubts():
            lines += _wrapped("  because", f"{doubt}.")
        # One that has ended at a broken promise has seen no more than that.
        if missing := certificate.never_seen():
            lines += _wrapped("  suspicious", f"never seen: {', '.join(missing)}.")
    lines.append("")
    for name, text in _numbers(certificate):
        lines += _wrapped(f"  {name}", text)
    lines.append("")
    lines += _wrapped("  proven", _proven(certificate))
    lines += _wrapped("  not proven", _not_proven(certificate))
    return "\n".join(lines)


def _numbers(certificate: Certificate) -> Iterable[tuple[str, str]]:
    seen, scope = certificate.coverage, certificate.scope
    closed = _percent(seen.closed_share)
    yield "crash points", f"{seen.crash_points:,}, closed exhaustively: {closed}"
    reused = f"{seen.reused:,} crash points needed none"
    yield "executions", f"{seen.executions:,}; {reused}"
    largest = f"of the largest crash point 2^{log2_of(seen.largest):.1f}"
    yield "crash images", f"2^{log2_of(seen.images):.1f}, {largest}"
    yield "disk operations", _counts(_most_first(seen.operations))
    yield "crashes", _counts(_most_first(seen.points))
    yield "faults taken", _counts(faults_with_zeros(seen.faults))
    if seen.features:
        families = Counter(name.partition(" ")[0] for name in seen.features)
        yield "behaviour seen", _counts(_most_first(families))
    if seen.violating:
        yield "broken promises", _counts(_most_first(seen.violating))
    rate = seen.crash_points * 1_000_000_000 // max(seen.nanoseconds, 1)
    yield "time", f"{seen.nanoseconds / 1e9:.1f} s, {rate:,} crash points/s"
    if scope.database:
        yield "database", f"sha256 {scope.database[:16]}"
    yield "versions", f"python {scope.python}, tornpage {scope.tornpage}"


def _proven(certificate: Certificate) -> str:
    crashes = crashes_in_a_row(certificate.scope.model)
    text = _PROVEN[certificate.verdict]
    found = certificate.violations
    if found and all(one.failure.at == LIVE for one in found):
        return "a promise is broken without any crash, on an honest disk."
    if certificate.verdict != "consistent" or crashes == 1:
        return text
    text += (
        f" So does recovery from up to {crashes} crashes in a row, each but the first"
        " at any disk operation of the recovery before."
    )
    if not certificate.coverage.faults.get(CRASH_AGAIN):
        text += " (No recovery changed anything, so none could be crashed.)"
    return text


def _not_proven(certificate: Certificate) -> str:
    scope = certificate.scope
    assumed = "; ".join((f"the model is {scope.model}", *scope.exclusions))
    schedules = ""
    if certificate.coverage.features.get(SEVERAL_THREADS):
        schedules = ", about other schedules of its threads than the one that happened"
    loose = ""
    if count := certificate.coverage.features.get(f"subject {NOTHING_PROMISED}"):
        loose = (
            ", about what a crash leaves at the points at which the subject promises"
            f" nothing of it ({count:,} program{'s' * (count != 1)} came by some)"
        )
    unmet = ""
    if count := certificate.coverage.features.get(FAULTS_UNMET):
        unmet = (
            ", about what faults do that no call has met (the scripts of"
            f" {count:,} program{'s' * (count != 1)} have some)"
        )
    unchecked = "".join(f", about {one}" for one in certificate.unchecked)
    return (
        f"anything about other programs{schedules}{loose}{unmet}{unchecked}, or about"
        f" crashes outside what is assumed: {assumed}."
    )


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _percent(share: float) -> str:
    return "100 %" if share == 1.0 else f"{math.floor(share * 1000) / 10:.1f} %"


def _wrapped(label: str, text: str, hang: int = _LABEL) -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=label.ljust(hang) if label else "",
        subsequent_indent=" " * hang,
    )
