"""Crashes in a row, as the choices of one execution tell them.

    choices      data  name | crash in recovery: 2 | data | crash in recovery: 1 | data
                 the first  |                      | the  |                      | the
                 recovery   |                      | 2nd  |                      | 3rd

An execution is a row of recoveries (`explore.recoveries`); each but the last was
interrupted by a crash. Whether, and when, is a choice as any other; its label has what
the recovery did. So the choices say what there is to tell.

Operations are numbered on: the first one of a recovery has the number after the last
one that was issued before the crash. These are the stamps that labels speak of.

What it is not: it runs nothing and knows no disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tornpage.trace import Sync, SyncDir

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tornpage.choices import Choice
    from tornpage.explore.schedule import CrashPoint
    from tornpage.trace import Operation

__all__ = [
    "CRASH_AGAIN",
    "Interruption",
    "by_recovery",
    "interruptions",
    "is_sync",
    "issued",
]

CRASH_AGAIN: Final = "crash in recovery"
"""The kind of choice that is no device's: whether the power goes once more."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """An answer to whether the power goes during a recovery.

    Attributes:
        operations: What the recovery does to the disk when it is let.
        after: How many of these had been issued when the power went; 0: it does not.
    """

    operations: tuple[Operation, ...]
    after: int

    @property
    def issued(self) -> tuple[Operation, ...]:
        """The operations before the crash."""
        return self.operations[: self.after]

    def __str__(self) -> str:
        if not self.after:
            return "none"
        one = self.operations[self.after - 1]
        return f"after operation {self.after} of recovery ({one.op} at {one.site})"


def interruptions(choices: Iterable[Choice]) -> tuple[Interruption, ...]:
    """The crashes during recovery, in order."""
    return tuple(
        one.label[-1][one.picked]
        for one in choices
        if one.label[0] == CRASH_AGAIN and one.picked
    )


def by_recovery(choices: Iterable[Choice]) -> list[list[Choice]]:
    """The choices of devices, those of each recovery by themselves."""
    rows: list[list[Choice]] = [[]]
    for one in choices:
        if one.label[0] != CRASH_AGAIN:
            rows[-1].append(one)
        elif one.picked:
            rows.append([])
    return rows


def issued(operations: Sequence[Operation], point: CrashPoint) -> int:
    """How many operations a crash at this point may leave something of.

    One inside an operation is one after it, but for a sync: there it is one before
    it. A failed sync that leaves pages clean is like a write in this: what it may
    leave is more than what there was before.
    """
    return point.index + (point.inside and not is_sync(operations[point.index]))


def is_sync(operation: Operation) -> bool:
    """Whether a crash inside is one before the operation, see `issued`."""
    return isinstance(operation, Sync | SyncDir) and operation.result not in {
        "failed",
        "silent",
        "read-only",
    }
