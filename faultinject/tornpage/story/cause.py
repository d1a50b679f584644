"""The cause of a broken promise, short enough to tell failures apart by.

A fuzzer that runs all night meets one bug a thousand times. Failures count as the
same when the same promise is broken and their causes are equal:

    lost tx.py:212 write; before fdatasync tx.py:219
    |                     '- where the crash was
    '- which operations the crashed disk did not bring, or not wholly

A crash during recovery is told behind that: "; then recovery, after truncate wal.py:9".

Source lines name the place in the storage code and not the place in the file, so
that programs of different sizes agree. Without a crash, or when the crash alone is
enough, the beginning of the violation's sentence, up to the first comma or colon and
without numbers and quotations, has to do.

The price is known. One bug can have several causes (each of two writes that lack
the same barrier), and two bugs one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tornpage.interruption import CRASH_AGAIN, interruptions
from tornpage.story.deeds import deeds_of
from tornpage.story.timeline import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tornpage.choices import Choice
    from tornpage.run.experiment import Finding
    from tornpage.story.deeds import Deed
    from tornpage.trace import Operation

__all__ = ["cause_of", "lost_by"]

_VARIABLE = re.compile(r"b?'[^']*'|b?\"[^\"]*\"|\b0x[0-9a-f]+\b|\d+")
_BREAK = re.compile(r"[:;,(]")


def cause_of(operations: Sequence[Operation], finding: Finding) -> str:
    """The cause of a finding.

    Args:
        operations: What the program did to the disk.
        finding: The broken promise.
    """
    point, reached = finding.point, finding.reached
    template = _beginning(finding.violation.message)
    if point is None or reached is None:
        return f"without a crash: {template}"
    if point.index < len(operations):
        crash = operations[point.index]
        side = "inside" if point.inside else "before"
        where = f"{side} {kind_of(crash)} {crash.site}"
    else:
        where = "at the end"
    deeds = deeds_of(operations, point, reached.choices)
    lost = sorted(
        {
            text
            for choice in reached.choices
            if choice.picked and choice.label[0] != CRASH_AGAIN
            for text in _lost(deeds, choice)
        }
    )
    for again in interruptions(reached.choices):
        last = again.issued[-1]
        where += f"; then recovery, after {kind_of(last)} {last.site}"
    if not lost:
        return f"{where}: {template}"
    return f"lost {', '.join(lost)}; {where}"


def _beginning(message: str) -> str:
    # A site such as store.py:12 is no end of a clause: it says which line raised.
    raised = re.search(r"raised \w+ at [\w.]+:\d+", message)
    if raised is not None:
        return raised.group()
    return _VARIABLE.sub("#", _BREAK.split(message, maxsplit=1)[0]).strip()


def _lost(deeds: Sequence[Deed], choice: Choice) -> Iterator[str]:
    """What a dishonest choice left out, by source line and kind."""
    stamps = lost_by(choice)
    if stamps is None:
        yield str(choice.label[0])
        return
    for stamp in stamps:
        if 0 <= stamp < len(deeds):
            operation = deeds[stamp].operation
            yield f"{operation.site} {kind_of(operation)}"


def lost_by(choice: Choice) -> Sequence[int] | None:
    """The operations that a dishonest choice left out, or did not bring wholly.

    Returns:
        Their numbers, see `deeds`; None when it is no choice of what a crash left.
    """
    match choice.label[0]:
        case "data":
            cell = choice.label[-1][choice.picked].cell
            oldest: int = min(cell.members[0][:2])
            stamps: Sequence[int] = cell.stamps[oldest + 1 :]
            return stamps
        case "size":
            return (choice.label[-1][0].stamp,)
        case "name":
            return (choice.label[2],)
    return None
