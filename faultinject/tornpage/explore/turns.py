"""The tree of what recovery asked, and what came after each answer.

    Turn lookup "db" --1--> Turn size --16384--> Straight [ask, read, read ...] --> End
                     '-none--> End

A *turn* is a question that was put and what came after each of its answers. Steps
that nobody has gone through twice stay as they were written down: a *straight* becomes
turns one by one, when somebody walks it. Most never are, because the next walk jumps
over them, by the *stretch* that hangs at the turn where it begins.

What it is not: it puts no question to any disk, and knows nothing of when it is filled.
See `memory`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tornpage.platter.pieces import Changes, Watch
    from tornpage.trace import Operation

__all__ = ["End", "Question", "Step", "Straight", "Stretch", "Turn"]

_NO_ANSWER: Final = object()

Question: TypeAlias = tuple[Any, ...]
"""What is put to a disk: the kind, then the arguments."""
Step: TypeAlias = tuple[Question, Any]
"""A question and the answer it got."""
_Below: TypeAlias = "Turn | Straight | End"


class Turn:
    """A question, and what came after each answer.

    Of nearly all questions one answer is known. It stands by itself: a dict for each
    was a fourth of what is remembered, and the collector of cycles looked through all
    of them.

    Attributes:
        question: What is put to the disk.
        stretch: The way from here to the next choice, if this program walked it.
    """

    __slots__ = ("_answer", "_below", "_others", "question", "stretch")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.stretch: Stretch | None = None
        self._answer: Any = _NO_ANSWER
        self._below: _Below | None = None
        self._others: dict[Any, _Below] | None = None

    def after(self, answer: Any) -> Turn | End | None:
        """What came after an answer, None if it is not known."""
        if self._answer is answer or self._answer == answer:
            below = self._below
            if isinstance(below, Straight):
                below = self._below = below.first()
            return below
        if self._others is None:
            return None
        below = self._others.get(answer)
        if isinstance(below, Straight):
            below = self._others[answer] = below.first()
        return below

    def goes_on(self, answer: Any, below: _Below) -> None:
        """Note what came after another answer."""
        if self._answer is _NO_ANSWER:
            self._answer, self._below = answer, below
            return
        if self._others is None:
            self._others = {}
        self._others[answer] = below


class Straight:
    """Steps with one known answer each, not made into turns yet.

    See the module's head.
    """

    __slots__ = ("_at", "_below", "_end", "_steps")

    def __init__(
        self, steps: Sequence[Step], at: int, end: int, below: Turn | End
    ) -> None:
        self._steps = steps
        self._at = at
        self._end = end
        self._below = below

    @staticmethod
    def before(steps: Sequence[Step], at: int, end: int, below: Turn | End) -> _Below:
        """Steps [at, end) and what comes behind them."""
        return Straight(steps, at, end, below) if at < end else below

    def first(self) -> Turn:
        """The turn of the first step."""
        question, answer = self._steps[self._at]
        turn = Turn(question)
        turn.goes_on(
            answer, self.before(self._steps, self._at + 1, self._end, self._below)
        )
        return turn


class End:
    """An outcome, after which nothing is asked.

    Attributes:
        outcome: What recovery reported.
        operations: What it did to the disk, where a crash during it is explored.
    """

    __slots__ = ("operations", "outcome")

    def __init__(
        self, outcome: Hashable, operations: tuple[Operation, ...] = ()
    ) -> None:
        self.outcome = outcome
        self.operations = operations


class Stretch:
    """Steps without a choice among them.

    Attributes:
        steps: The steps.
        end: What comes behind them.
        pieces: What they consumed.
        seen: So many of the program's changes came before it was walked, or were
            looked at and concern none of the pieces.
    """

    __slots__ = ("end", "pieces", "seen", "steps")

    def __init__(
        self,
        steps: list[Step],
        end: Turn | End,
        pieces: Watch,
        seen: int,
    ) -> None:
        self.steps = steps
        self.end = end
        self.pieces = pieces
        self.seen = seen

    def holds(self, changes: Sequence[Changes]) -> bool:
        """Whether its pieces are what they were."""
        while self.seen < len(changes):
            if self.pieces.meets(changes[self.seen]):
                return False
            self.seen += 1
        return True
