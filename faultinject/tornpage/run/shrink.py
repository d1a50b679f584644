"""Making a failure small enough to understand: program, crash point, tape.

    1. program       try the smaller programs the subject offers, most drastic first;
                     take the first that still fails, start again from it
    2. crash point   the earliest at which the small program fails; it needs no
                     search, because crash points are always visited in order
    3. tape          fewest dishonest choices, then the least dishonest ones

                     2 0 3 0 0 1     as found
                     0 0 3 0 0 1     is the first needed?     no
                     0 0 0 0 0 1     is the second needed?    yes, so keep it
                     0 0 3           is the last needed?      no
                     0 0 1           will a smaller pick do?  yes

The oracle is the name of the broken promise, not the exact message: a smaller
program shows the same bug with other numbers in it. The known price is slippage: a
bug that breaks one promise in two ways may be swapped for the simpler way.

What comes out is a local minimum: no single step makes it smaller. Finding the
smallest would need every subset. Attempts are bounded by number, not by time, so
that the same failure shrinks to the same story on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from tornpage.choices import Tape

__all__ = ["Budget", "Shrunk", "shrink_program", "shrink_tape", "strip"]

Found = TypeVar("Found")


def _times(count: int) -> str:
    return f"{count:,} attempt{'s' * (count != 1)}"


class Budget:
    """How many attempts are left, and whether that was the reason to stop.

    Attributes:
        limit: Most attempts.
        spent: Attempts made.
        ended: Why attempts were refused; "" while none was.
        interrupted: Whether that was Ctrl-C.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.ended = ""
        self.interrupted = False

    def spend(self) -> bool:
        """Take one attempt; False when there is none left."""
        if self.spent >= self.limit:
            limit = f"stopped at the limit of {_times(self.limit)}"
            self.ended = self.ended or limit
        if self.ended:
            return False
        self.spent += 1
        return True

    def interrupt(self) -> None:
        """Refuse every further attempt: the user has seen enough."""
        self.interrupted = True
        self.ended = f"interrupted after {_times(self.spent)}"

    def stop(self, reason: str) -> None:
        """Refuse every further attempt: it would take too long."""
        self.ended = f"stopped after {_times(self.spent)}: {reason}"

    def describe(self) -> str:
        """How shrinking ended, in words."""
        return self.ended or f"to a local minimum in {_times(self.spent)}"


@dataclass(frozen=True, slots=True)
class Shrunk(Generic[Found]):
    """A smaller program and what was found with it.

    Attributes:
        program: The program.
        found: What the oracle said of it.
    """

    program: Any
    found: Found


def shrink_program(
    program: Any,
    found: Found,
    *,
    simplify: Callable[[Any], Iterable[Any]],
    fails: Callable[[Any], Found | None],
    key: Callable[[Any], Hashable],
    budget: Budget,
) -> Shrunk[Found]:
    """Walk down to a program none of whose simpler neighbours fails.

    Args:
        program: A program that fails.
        found: What the oracle found with it.
        simplify: Simpler programs to try instead, most drastic first.
        fails: The oracle: what is found with a program, None when it is fine.
        key: Tells programs apart, so that none is tried twice; this also ends
            the walk when `simplify` goes round in circles.
        budget: One attempt is one call of the oracle.
    """
    best = Shrunk(program, found)
    tried = {key(program)}
    while True:
        smaller = _first_failing(simplify(best.program), tried, fails, key, budget)
        if smaller is None:
            return best
        best = smaller


def _first_failing(
    candidates: Iterable[Any],
    tried: set[Hashable],
    fails: Callable[[Any], Found | None],
    key: Callable[[Any], Hashable],
    budget: Budget,
) -> Shrunk[Found] | None:
    for candidate in candidates:
        name = key(candidate)
        if name in tried:
            continue
        if not budget.spend():
            return None
        tried.add(name)
        found = fails(candidate)
        if found is not None:
            return Shrunk(candidate, found)
    return None


def strip(tape: Tape) -> Tape:
    """The tape without honest choices at its end: replay supplies those."""
    length = len(tape)
    while length and tape[length - 1] == 0:
        length -= 1
    return tape[:length]


def _cost(tape: Tape) -> tuple[int, int, int, Tape]:
    """What is minimised: dishonest choices, then picks, then length."""
    return sum(map(bool, tape)), sum(tape), len(tape), tape


def _simpler(tape: Tape) -> Iterator[Tape]:
    """Every tape one step simpler, most drastic first."""
    dishonest = [place for place, pick in enumerate(tape) if pick]
    for place in dishonest:
        yield tape[:place]
    for place in dishonest:
        yield (*tape[:place], 0, *tape[place + 1 :])
    for place in dishonest:
        for pick in range(1, tape[place]):
            yield (*tape[:place], pick, *tape[place + 1 :])


def shrink_tape(
    tape: Tape, *, fails: Callable[[Tape], Tape | None], budget: Budget
) -> Tape:
    """Walk down to a tape of which every dishonest choice is needed.

    Args:
        tape: A tape that fails.
        fails: The oracle: the choices really made when this tape is replayed, None
            when it does not fail. An honest choice can make later ones vanish or
            appear, so what was asked for and what was made can differ.
        budget: One attempt is one call of the oracle.
    """
    best = strip(tape)
    tried = {best}
    while True:
        for asked in _simpler(best):
            candidate = strip(asked)
            if candidate in tried:
                continue
            if not budget.spend():
                return best
            tried.add(candidate)
            made = fails(candidate)
            if made is not None and _cost(strip(made)) < _cost(best):
                best = strip(made)
                break
        else:
            return best
