"""Writers that wait for their turn, first come, first served.

    begin --nobody waits--> takes the turn, if it is free
      `----somebody does--> | first | second | third |  each with a bell of its own
                               ^
    end --rings it-------------+

Whoever ends and begins again at once has the interpreter, and takes the turn long
before a thread that was woken can look. So one that waited beside a thread that did
nothing but commit waited for 28 s, and 3,539 commits. (A `threading.Lock` is such a
bell for all; Go's mutex, in bbolt, is handed on to who has waited for a millisecond.)
Therefore who comes while others wait goes behind them.

That is an order, not a lock: who has waited for long (`_wait_for_turn` in `handle`)
looks out of turn whether there is a writer. An interrupt can keep a bell from being
rung, and the first one may be in the middle of a signal handler that waits behind it.

An interrupt can take away one that waits, at any place. So it leaves by an assignment,
and is passed over until the next bell is rung.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shearbolt.storage import Mutex

__all__ = ["Line", "Place"]


class Place:
    """One that waits.

    Attributes:
        bell: Rung when it is its turn; taken until then.
        thread: Whose it is.
        left: Whether it does not wait any more.
    """

    __slots__ = ("bell", "left", "thread")

    def __init__(self, bell: Mutex, thread: int) -> None:
        bell.acquire()
        self.bell: Final = bell
        self.thread: Final = thread
        self.left = False


class Line:
    """Those who wait. One a database."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        # Each thing that is done to it is one step.
        self._places: list[Place] = []

    def __bool__(self) -> bool:
        """Whether somebody may wait: some of them may have left."""
        return bool(self._places)

    def join(self, place: Place) -> None:
        """Go behind the others."""
        self._places.append(place)

    def comes_first(self, place: Place) -> bool:
        """Whether nobody is before it, but what its own thread does next."""
        for other in list(self._places):
            if other is place:
                break
            # What was interrupted goes on behind the handler that asks.
            if not other.left and other.thread != place.thread:
                return False
        return True

    def ring(self) -> None:
        """Wake the first one, now or when it waits next; forget those who left."""
        first: Place | None = None
        for place in list(self._places):
            if place.left:
                with suppress(ValueError):
                    self._places.remove(place)
            elif first is None or place.thread == first.thread:
                # What a signal handler has interrupted goes on behind it.
                first = place
        if first is not None:
            # It may be rung already.
            with suppress(RuntimeError):
                first.bell.release()
