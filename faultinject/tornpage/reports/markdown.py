"""The gate's result as Markdown: what a pull request shows.

Short on purpose. It has the verdict, what stands against it, one table of numbers,
and for each failure what one needs to act: the promise, the program, the replay
command, the name of the test. Everything else is in the HTML report.

Text of the code under test goes into code spans and fenced blocks, with fences longer
than any run of backticks inside them, so it cannot break out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.reports.gate_result import Exhibit, GateResult

__all__ = ["render_markdown"]

_SIGN: Final = {
    "consistent": "\u2705",
    "violated": "\u274c",
    "unverifiable": "\u26a0\ufe0f",
}
_MOST_DOUBTS: Final = 8
_MOST_FAILURES: Final = 5
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def render_markdown(result: GateResult) -> str:
    """The summary, ending with a newline."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: GateResult) -> Iterator[str]:
    sign = _SIGN[result.verdict]
    yield f"## {sign} {result.verdict.capitalize()}: {_plain(result.subject)}"
    yield ""
    if missing := result.never_seen():
        names = ", ".join(_code(name) for name in missing)
        yield f"**Suspicious:** this run never showed {names}."
        yield ""
    doubts = result.doubts()
    for doubt in doubts[:_MOST_DOUBTS]:
        yield f"- {_plain(doubt)}."
    if len(doubts) > _MOST_DOUBTS:
        yield f"- and {len(doubts) - _MOST_DOUBTS} more reasons."
    if doubts:
        yield ""
    yield from _numbers(result)
    for one in result.exhibits[:_MOST_FAILURES]:
        yield ""
        yield from _failure(one)
    if len(result.exhibits) > _MOST_FAILURES:
        yield ""
        yield f"And {len(result.exhibits) - _MOST_FAILURES} more in the HTML report."


def _numbers(result: GateResult) -> Iterator[str]:
    yield "| lane | verdict | programs | crash points | closed | recoveries |"
    yield "|---|---|--:|--:|--:|--:|"
    for lane in result.lanes:
        seen = lane.certificate.coverage
        verdict = lane.certificate.verdict
        yield (
            f"| {_plain(lane.name)} | {verdict} | {seen.programs:,} |"
            f" {seen.crash_points:,} | {seen.closed_share * 100:.4g} % |"
            f" {seen.executions:,} |"
        )
    yield ""
    said = [f"{_plain(result.tier)} tier, {result.seconds:,.0f} s"]
    if result.planted:
        count = len(result.planted)
        said.insert(0, f"planted bugs caught: **{result.caught} of {count}**")
    if total := result.total():
        said.append(f"images covered: 2^{total['images_log2']:,.0f}")
    text = "; ".join(said)
    yield f"{text[0].upper()}{text[1:]}."


def _failure(one: Exhibit) -> Iterator[str]:
    found = one.violation
    yield f"### {_plain(found.property)}"
    yield ""
    yield _plain(found.message)
    yield ""
    yield "<details open><summary>Replay</summary>"
    yield ""
    yield from _fenced(found.replay, "sh")
    yield ""
    yield "</details>"
    yield "<details><summary>Story</summary>"
    yield ""
    yield from _fenced(found.story.rstrip("\n"), "text")
    yield ""
    yield "</details>"
    yield ""
    yield f"Regression test: {_code(f'tests/{one.test_name}')} in the report's folder."


def _plain(text: str) -> str:
    """Text without meaning to Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _ticks(text: str, least: int) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def _code(text: str) -> str:
    ticks = _ticks(text, 1)
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{' '.join(text.split())}{pad}{ticks}"


def _fenced(text: str, language: str) -> Iterator[str]:
    fence = _ticks(text, 3)
    yield f"{fence}{language}"
    yield text
    yield fence
