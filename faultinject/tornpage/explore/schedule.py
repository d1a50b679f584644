"""Crash points and schedules: names for one crash of one run.

Theory
======
A run of n operations has 2 n + 1 crash points, one before each operation, one
inside each, one at the end:

    marks       b              a           b
    operations   | write | sync |  | write |
    points      0   0i   1  1i  2     2i   3

Point `k` is the moment before operation k is issued. All marks that stand
between operations k - 1 and k have been made by then: what was acknowledged
there must be kept. At point `ki` operation k is under way; the same marks have
been made. The moment between operation k - 1 and its mark is no point of its
own: the platter is the same and less is promised.

A schedule is a crash point and a tape, written `37i:0.2.1`. Trailing zeros are
left out, because beyond the end of a tape everything is honest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tornpage.choices import Tape

__all__ = ["CrashPoint", "ScheduleError", "format_schedule", "parse_schedule"]

_FORM = re.compile(r"(\d+)(i?)(?::(\d+(?:\.\d+)*)?)?", re.ASCII)


class ScheduleError(ValueError):
    """The text is not a schedule."""


@dataclass(frozen=True, slots=True, order=True)
class CrashPoint:
    """A moment of a run.

    Attributes:
        index: How many operations have ended; marks are no operations.
        inside: Whether the next operation is under way.
    """

    index: int
    inside: bool = False

    def __str__(self) -> str:
        return f"{self.index}i" if self.inside else str(self.index)


def format_schedule(point: CrashPoint, tape: Tape) -> str:
    """The stable name of a crash: "37i:0.2.1"."""
    end = len(tape)
    while end and tape[end - 1] == 0:
        end -= 1
    return f"{point}:{'.'.join(map(str, tape[:end]))}"


def parse_schedule(text: str) -> tuple[CrashPoint, Tape]:
    """The crash point and the tape of a schedule.

    Raises:
        ScheduleError: It is not one.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ScheduleError(f"{text!r} is not a schedule; one looks like 37i:0.2.1")
    index, inside, tape = found.groups()
    answers = tuple(map(int, tape.split("."))) if tape else ()
    return CrashPoint(int(index), bool(inside)), answers
