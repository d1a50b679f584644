"""A broken promise as a story that can be read without the tool at hand.

    BROKEN: P persistence                            what
    Program                                          the least that does it
    Disk                                             what it did to the disk
    An honest disk everywhere except                 what the crash left
    Recovery                                         what it did until the power went
                                                     again, and what that left
    In short                                         the order that is missing
    Recovery                                         promised beside found
    Replay                                           one command

Plain text, 80 columns, the replay command excepted: that must be one line. No time,
no path of this machine, no number that another run would not have: replaying tells
the same story byte for byte, and a difference between two stories is a difference
between two failures.

What is honest? The disk that wrote everything it was given, in time. So the story
lists only the choices in which it did not, and who wrote what is missing.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornpage.interruption import by_recovery
from tornpage.story.deeds import deeds_of, recovery_named
from tornpage.story.timeline import timeline
from tornpage.story.wording import dishonest_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tornpage.choices import Choice
    from tornpage.explore.explorer import CrashPoint
    from tornpage.story.deeds import Deed
    from tornpage.subject import Subject, Violation
    from tornpage.trace import Operation, Trace

__all__ = ["WIDTH", "Chapter", "Relapse", "tell"]

WIDTH = 80
_MOST_LINES = 40
_FACT_COLUMNS = (20, 27, 27)


@dataclass(frozen=True, slots=True)
class Relapse:
    """A recovery that the power went in.

    Attributes:
        operations: What it did to the disk, or would have.
        point: When it came, among these.
        pending: Those that the crash may lose something of, counted from 0.
    """

    operations: Sequence[Operation]
    point: CrashPoint
    pending: frozenset[int]


@dataclass(frozen=True, slots=True)
class Chapter:
    """Everything a story is made from.

    Attributes:
        violation: The broken promise.
        program: The shrunk program, one line an operation.
        trace: What the program did to the disk.
        point: Where it crashed; None when no crash was needed.
        pending: Operations that the crash may lose something of, counted from 0.
        choices: What the crashed disk chose.
        reason: The order that is missing, as a clause, or "".
        outcome: What recovery saw, in lines.
        replay: The replay command.
        relapses: The recoveries that the power went in, in order.
    """

    violation: Violation
    program: Sequence[str]
    trace: Trace
    point: CrashPoint | None
    pending: frozenset[int]
    choices: Sequence[Choice]
    reason: str
    outcome: Sequence[str]
    replay: str
    relapses: Sequence[Relapse] = ()


def tell(subject: Subject, chapter: Chapter) -> str:
    """The story, ending with a newline."""
    lines = [
        *_wrapped(f"BROKEN: {chapter.violation.property}"),
        *_bounded(_wrapped(chapter.violation.message, indent="  ")),
        "",
        f"Program ({_count(len(chapter.program), 'operation')})",
        *_numbered(chapter.program),
        "",
        *_what_the_disk_did(subject, chapter),
        *_in_short(chapter),
        *_what_was_found(chapter),
        "Replay",
    ]
    return "\n".join((*lines, chapter.replay, ""))


def _what_the_disk_did(subject: Subject, chapter: Chapter) -> list[str]:
    if chapter.point is None:
        return ["No crash and no fault: this happens on an honest disk.", ""]
    operations, rows = chapter.trace.operations(), by_recovery(chapter.choices)
    deeds = deeds_of(operations, chapter.point, chapter.choices)
    what = timeline(subject, chapter.trace, chapter.point, chapter.pending)
    lines = ["Disk", *what, "", *_what_was_left(subject, deeds, rows[0])]
    for number, relapse in enumerate(chapter.relapses, 1):
        lines += (
            f"{recovery_named(number)}, in which the power goes once more".capitalize(),
            *timeline(
                subject,
                relapse.operations,
                relapse.point,
                relapse.pending,
            ),
            "",
            *_what_was_left(subject, deeds, rows[number]),
        )
    return lines


def _what_was_left(
    subject: Subject, deeds: Sequence[Deed], choices: Sequence[Choice]
) -> list[str]:
    dishonest = [choice for choice in choices if choice.picked]
    if not dishonest:
        return ["An honest disk everywhere: the crash alone is enough.", ""]
    lines = ["An honest disk everywhere except:"]
    # A rename that is several changes may have lost two in one place.
    told = dict.fromkeys(
        tuple(dishonest_lines(subject, deeds, choice)) for choice in dishonest
    )
    for number, (first, *rest) in enumerate(told, 1):
        lines += _wrapped(first, indent=f"  {number}. ", hang="     ")
        for line in rest:
            lines += _wrapped(line, indent="     ")
    return [*lines, ""]


def _in_short(chapter: Chapter) -> list[str]:
    if not chapter.reason:
        return []
    return [*_wrapped(f"In short: {chapter.reason}.", hang="  "), ""]


def _what_was_found(chapter: Chapter) -> list[str]:
    where = "Recovery" if chapter.point is not None else "The program"
    if chapter.relapses:
        where = recovery_named(len(chapter.relapses) + 1).capitalize()
    lines = []
    if chapter.violation.facts:
        lines.append(f"{where}: what was promised, what was found")
        rows = [("field", "promised", "found"), *chapter.violation.facts]
        for row in rows:
            lines += _row(row)
        lines.append("")
    if chapter.outcome:
        lines.append(f"{where} saw")
        for line in _bounded(chapter.outcome):
            lines += _bounded(_wrapped(line, indent="  ", hang="    "))
        lines.append("")
    return lines


def _row(row: Sequence[str]) -> list[str]:
    cells = [
        textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        for text, width in zip(row, _FACT_COLUMNS, strict=True)
    ]
    height = min(max(map(len, cells)), _MOST_LINES)
    lines = []
    for level in range(height):
        parts = [
            (cell[level] if level < len(cell) else "").ljust(width)
            for cell, width in zip(cells, _FACT_COLUMNS, strict=True)
        ]
        lines.append(f"  {' '.join(parts)}".rstrip())
    return lines


def _numbered(program: Sequence[str]) -> list[str]:
    lines = []
    for number, text in enumerate(program, 1):
        lines += _wrapped(text, indent=f"  {number:>3}  ", hang=" " * 7)
    return lines


def _bounded(lines: Sequence[str]) -> Iterable[str]:
    """The lines, or the first and last of them when there are too many."""
    if len(lines) <= _MOST_LINES:
        return lines
    half = _MOST_LINES // 2
    left_out = len(lines) - 2 * half
    return (*lines[:half], f"  ... {left_out:,} more lines ...", *lines[-half:])


def _wrapped(text: str, indent: str = "", hang: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hang is None else hang,
        break_on_hyphens=False,
    ) or [indent.rstrip()]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
