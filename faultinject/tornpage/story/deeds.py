"""Operations by the numbers that choices know them by, with names for people.

    number      0 1 2 3 4 5 | 6 7 8              | 9 ...
    operation   of the      | of recovery, until | of the second
                program     | the power went     | recovery
    name        1 2 3 4 5 6   1 2 3                1 ...

What the program would have done after the crash has no number here once recovery has
done something that counts: see `interruption`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornpage.interruption import interruptions, issued

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tornpage.choices import Choice
    from tornpage.explore.schedule import CrashPoint
    from tornpage.trace import Operation

__all__ = ["Deed", "deeds_of", "ordinal", "recovery_named"]

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


@dataclass(frozen=True, slots=True)
class Deed:
    """One operation.

    Attributes:
        operation: What was done.
        number: Which of its program or recovery, counted from 1.
        recovery: Which recovery did it, counted from 1; 0: the program.
    """

    operation: Operation
    number: int
    recovery: int = 0

    def __str__(self) -> str:
        name = f"operation {self.number}"
        if self.recovery == 1:
            name += " of recovery"
        elif self.recovery:
            name += f" of the {ordinal(self.recovery)} recovery"
        return name


def ordinal(number: int) -> str:
    """Say "second" for 2."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    return f"{number}th"


def recovery_named(number: int) -> str:
    """Say "recovery" for 1, and "the second recovery" for 2."""
    return "recovery" if number == 1 else f"the {ordinal(number)} recovery"


def deeds_of(
    operations: Sequence[Operation], point: CrashPoint, choices: Iterable[Choice]
) -> list[Deed]:
    """The operations, by number.

    Args:
        operations: What the program did.
        point: Where it crashed.
        choices: What was chosen then.
    """
    again = interruptions(choices)
    mine = operations[: issued(operations, point)] if again else operations
    deeds = [Deed(one, number) for number, one in enumerate(mine, 1)]
    for recovery, crash in enumerate(again, 1):
        done = enumerate(crash.issued, 1)
        deeds += (Deed(one, number, recovery) for number, one in done)
    return deeds
