"""Who runs when, as text.

    0:57>1:12>0    thread 0 passes 57 places and is made to stop, thread 1 passes 12 and
                   is made to stop, thread 0 goes on
    0~0>2~1>1      thread 0 begins; when it waits or ends, 2 goes on; when somebody
                   waits or ends for the second time after that, 1 does

What is not said is decided by a rule (see `turns`), so that a text is one run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Schedule", "Switch"]

_MARKS: Final = {False: ":", True: "~"}
_FIRST: Final = re.compile(r"[0-9]+")
_SWITCH: Final = re.compile(r"([:~])([0-9]+)>([0-9]+)")
_TEXT: Final = re.compile(rf"{_FIRST.pattern}(?:{_SWITCH.pattern})*")


@dataclass(frozen=True, slots=True)
class Switch:
    """A thread stops, and another one goes on.

    Attributes:
        places: How many places are passed since the switch before; or, with `waits`,
            how many times a thread has waited or ended since then.
        thread: Who goes on.
        waits: The thread is not made to stop: it waits or ends. It may be the one
            that goes on: then its wait ends before its time.
    """

    places: int
    thread: int
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who begins, and who goes on when.

    Attributes:
        first: The thread that begins.
        switches: In their order.
    """

    first: int = 0
    switches: tuple[Switch, ...] = ()

    def __str__(self) -> str:
        return f"{self.first}" + "".join(
            f"{_MARKS[switch.waits]}{switch.places}>{switch.thread}"
            for switch in self.switches
        )

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule of which this is the text.

        Raises:
            ValueError: It is none.
        """
        if not _TEXT.fullmatch(text):
            raise ValueError(
                f"{text!r} is no schedule: 0:57>1:12>0, say, is thread 0, after 57 "
                "places thread 1, after 12 more thread 0; 0~2>1 is thread 0, and when "
                "for the third time somebody waits or ends, thread 1"
            )
        return cls(
            int(_FIRST.match(text)[0]),  # type: ignore[index]
            tuple(
                Switch(int(places), int(thread), mark == _MARKS[True])
                for mark, places, thread in _SWITCH.findall(text)
            ),
        )
