"""A report as Markdown: what docs/performance.md holds and the terminal shows."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ci.bench.report import OURS
from ci.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ci.bench.report import Report

__all__ = ["markdown", "short_number"]

_FACTS = (
    ("file load sorted", "file, sorted load"),
    ("file load random", "file, random load"),
    ("file end", "file in the end"),
    ("memory load random", "memory, random load"),
    ("memory reads", "memory, reads"),
)


def markdown(report: Report) -> str:
    """The whole report."""
    parts = [_origin(report)]
    for pairs in report.sizes():
        parts += [
            f"### {pairs:,} pairs\n",
            _rates(report, pairs),
            _amounts(report, pairs),
        ]
    growth = _growth(report)
    if growth:
        parts += ["### Cost per operation as the database grows\n", growth]
    targets = _targets(report)
    if targets:
        parts += ["### Targets\n", targets]
    return "\n".join(parts)


def short_number(number: float) -> str:
    """Three digits and a unit: 1.23k, 45.6M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def _origin(report: Report) -> str:
    machine = report.machine
    hardware = (
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory'] / 2**30:.0f} GiB, {machine['system']}, "
        f"{machine['filesystem']}; load before the run {machine['busy']:.1f}"
    )
    peers = ", ".join(f"{name} {text}" for name, text in report.versions.items())
    lines = [
        f"Command: `{report.command}`",
        f"Machine: {hardware}",
        f"Python: {machine['python']} ({machine['build']})",
        f"Peers: {peers}",
        f"Clock: {'wall' if report.clock == 'wall' else 'CPU seconds of the process'}",
    ]
    lines += [f"Not run: {name} ({why})" for name, why in report.skipped.items()]
    lines += [
        f"Failed: {peer}, {workload} at {pairs:,} pairs: {text}"
        for (peer, pairs, workload), text in report.failures.items()
    ]
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _rates(report: Report, pairs: int) -> str:
    rows = []
    for peer in report.peers(pairs):
        row = [f"**{peer}**" if peer == OURS else peer]
        for workload in WORKLOADS:
            rate = report.rate(peer, pairs, workload)
            ratio = report.ratio(peer, pairs, workload)
            if rate is None:
                row.append("-")
            elif workload == "open":
                row.append(f"{1e6 / rate:,.0f} us")
            elif peer == OURS or ratio is None:
                row.append(short_number(rate))
            else:
                row.append(f"{short_number(rate)} ({ratio:.2f}x)")
        rows.append(row)
    return (
        "Operations per second; in brackets how many times faster shearbolt is.\n\n"
        + _table(["peer", *WORKLOADS], rows)
    )


def _amounts(report: Report, pairs: int) -> str:
    rows = []
    for peer in report.peers(pairs):
        amounts = [report.amount(peer, pairs, name) for name, _ in _FACTS]
        rows.append(
            [peer, *("-" if one is None else f"{one / 1e6:.1f}" for one in amounts)]
        )
    return "Megabytes.\n\n" + _table(["peer", *(title for _, title in _FACTS)], rows)


def _growth(report: Report) -> str:
    parts = []
    for small, large in pairwise(report.sizes()):
        few = report.peers(small)
        peers = [peer for peer in report.peers(large) if peer in few]
        rows = []
        for workload in WORKLOADS:
            row = [workload]
            for peer in peers:
                growth = report.growth(small, large, workload, peer)
                row.append("-" if growth is None else f"{growth:.2f}")
            rows.append(row)
        parts += [
            f"{small:,} to {large:,} pairs.\n",
            _table(["workload", *peers], rows),
        ]
    return "\n".join(parts)


def _targets(report: Report) -> str:
    rows = []
    for one in report.judged():
        workloads = one.target.workloads
        what = workloads[0] if len(workloads) == 1 else f"mean of {len(workloads)}"
        measured = "not measured" if one.ratio is None else f"{one.ratio:.2f}"
        verdict = "met" if one.met else "MISSED"
        rows.append(
            [one.target.peer, what, f"{one.pairs:,}", f"{one.target.least:g}",
             measured, verdict]
        )  # fmt: skip
    return _table(["against", "workload", "pairs", "at least", "ratio", ""], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        + " |"
        for row in (head, ["-" * width for width in widths], *rows)
    ]
    return "\n".join(lines) + "\n"
