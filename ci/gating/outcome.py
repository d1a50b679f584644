"""What the gate leaves behind: files, and 80 columns in the terminal.

    OUT/
      report.html        everything, for people
      report.json        everything, for programs
      summary.md         for the pull request
      junit.xml          for the CI's test page
      certificates/      one JSON a lane, for `tornpage verify`
      tests/             one ready pytest file a failure

The folder is made new each time: a test of last week's failure beside this week's
report would be a lie. Only what the gate itself writes is removed from it.
"""

from __future__ import annotations

import glob
import json
import os
import re
import textwrap
from typing import TYPE_CHECKING

from tornpage.reports import render_html, render_junit, render_markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.reports import GateResult

__all__ = ["render_terminal", "write_outcome"]

_WIDTH = 80
_LABEL = 20
_SHOWN_FAILURES = 3


def write_outcome(result: GateResult, folder: str) -> None:
    """Write every report.

    Raises:
        OSError: Something cannot be written.
    """
    for name in ("certificates", "tests"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    for pattern in ("certificates/*.json", "tests/test_regression_*.py"):
        for old in glob.glob(os.path.join(glob.escape(folder), pattern)):
            os.unlink(old)
    files = {
        "report.html": render_html(result),
        "report.json": json.dumps(result.to_json(), indent=1) + "\n",
        "summary.md": render_markdown(result),
        "junit.xml": render_junit(result),
    }
    for lane in result.lanes:
        name = re.sub(r"[^\w.=-]+", "-", lane.name)
        certificate = lane.certificate.to_json()
        files[f"certificates/{name}.json"] = json.dumps(certificate, indent=1) + "\n"
    for one in result.exhibits:
        files[f"tests/{one.test_name}"] = one.test
    for name, text in files.items():
        path = os.path.join(folder, name)
        # The words of a program may hold characters that no file can.
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)


def render_terminal(result: GateResult, folder: str) -> str:
    """The result in 80 columns, replay commands excepted; ends with a newline."""
    return "\n".join(_lines(result, folder)) + "\n"


def _lines(result: GateResult, folder: str) -> Iterator[str]:
    time = f"{result.seconds:,.0f} s of {result.budget:,.0f} s"
    yield from _wrapped(
        "",
        f"{result.verdict.upper()}  {result.subject}: {result.tier} gate, {time}",
    )
    if missing := result.never_seen():
        yield from _wrapped("  suspicious", f"never seen: {', '.join(missing)}")
    for doubt in result.doubts():
        yield from _wrapped("  because", f"{doubt}.")
    yield ""
    yield (
        f"  {'lane':<24} {'programs':>8} {'crashes':>9} {'closed':>8}"
        f" {'recoveries':>10}  verdict"
    )
    for lane in result.lanes:
        seen = lane.certificate.coverage
        name = textwrap.shorten(lane.name, 24, placeholder="...")
        closed = f"{int(seen.closed_share * 1000) / 10:g} %"
        yield (
            f"  {name:<24} {seen.programs:>8,} {seen.crash_points:>9,} {closed:>8}"
            f" {seen.executions:>10,}  {lane.certificate.verdict}"
        )
    yield ""
    yield from _meaningful(result)
    for one in result.exhibits[:_SHOWN_FAILURES]:
        found = one.violation
        yield ""
        yield from _wrapped("  broken", f"{found.property}: {found.message}")
        yield from _wrapped("", "see it again:", indent=" " * _LABEL)
        yield found.replay
        test = os.path.join(folder, "tests", one.test_name)
        yield from _wrapped("", f"keep it away: {test}", indent=" " * _LABEL)
    more = len(result.exhibits) - _SHOWN_FAILURES
    if more > 0:
        yield f"  and {more} more in the report"
    yield ""
    yield f"  {'report':<{_LABEL - 2}}{os.path.join(folder, 'report.html')}"


def _meaningful(result: GateResult) -> Iterator[str]:
    if result.planted:
        count = f"{result.caught} of {len(result.planted)} caught"
        yield from _wrapped("  planted bugs", count)
    if result.curve:
        programs, seen = result.curve[-1]
        last = next(at for at, found in result.curve if found == seen)
        text = f"{seen:,}; the last new one in program {last:,} of {programs:,}"
        yield from _wrapped("  behaviours", text)
    if total := result.total():
        faults = ", ".join(
            f"{kind} {count:,}" if count else f"{kind} never"
            for kind, count in total["faults"].items()
        )
        yield from _wrapped("  faults taken", faults)
        yield from _wrapped("  images covered", f"2^{total['images_log2']:,.1f}")


def _wrapped(label: str, text: str, indent: str = "") -> list[str]:
    hang = " " * _LABEL if label or indent else "  "
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=label.ljust(_LABEL) if label else indent,
        subsequent_indent=hang,
        break_on_hyphens=False,
    )
