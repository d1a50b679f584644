"""Every decision of a simulated device, as one tape of small integers.

Theory
======
Whatever a device, a file system or a scheduler may do is asked as

    choose(n, label) -> 0 .. n-1        0 is the honest, simplest answer

and answered by a driver. The answers in order are the *tape*; the same tape
gives the same execution to the byte.

    Enumerator   depth-first, every tape once        exhaustive search
    Sampler      seeded, mostly honest               throughput
    Replay       a recorded tape, then all zeros     reproduction, shrinking

A label says what was asked. It is a tuple, because millions of choices are
made and a handful is ever read: `format_label` turns it into text when a story
is printed.

What it is not: no driver knows what a disk is, and none can skip a choice. A
choice with one alternative is not asked at all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Protocol

from tornpage.uncovered import UncoveredError

__all__ = [
    "Choice",
    "Chooser",
    "Enumerator",
    "Label",
    "Recorder",
    "Replay",
    "ReplayError",
    "Sampler",
    "Tape",
    "format_label",
]

Tape = tuple[int, ...]
Label = tuple[Any, ...]


class ReplayError(UncoveredError, ValueError):
    """The tape does not belong to the execution that it is replayed on."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision that was taken.

    Attributes:
        picked: The answer, 0 being the honest one.
        alternatives: How many answers there were.
        label: What was asked; see `format_label`.
    """

    picked: int
    alternatives: int
    label: Label

    def __str__(self) -> str:
        return format_label(self.label, self.picked)


class Chooser(Protocol):
    """Answers the questions of one execution, and remembers the answers."""

    @property
    def log(self) -> list[Choice]:
        """The choices of the present execution, in order."""
        ...

    @property
    def tape(self) -> Tape:
        """The answers alone; `Replay` of it repeats the execution."""
        ...

    @property
    def asked(self) -> int:
        """How many choices the present execution has made."""
        ...

    def choose(self, n: int, label: Label) -> int:
        """Pick one of `n` >= 2 alternatives."""
        ...


class Recorder:
    """The part that all drivers share: the record of the answers.

    Attributes:
        asked: How many choices the present execution has made. Kept beside the record:
            it is looked at twice for each read, and choices are few.

    The log is kept as three parallel facts in one tuple and turned into
    `Choice` objects only when somebody looks: making the object costs more
    than making the choice.
    """

    __slots__ = ("_made", "asked")

    def __init__(self) -> None:
        self._made: list[tuple[int, int, Label]] = []
        self.asked = 0

    @property
    def log(self) -> list[Choice]:
        """The choices of the present execution, in order."""
        return [Choice(*made) for made in self._made]

    @property
    def tape(self) -> Tape:
        """The answers alone."""
        return tuple([made[0] for made in self._made])


class Enumerator(Recorder):
    """Visits every leaf of the tree of choices once, depth first.

        chooser = Enumerator()
        while True:
            run(chooser)
            if not chooser.advance():
                break

    The first execution is the honest one. The run must ask the same questions
    after the same answers; one that does not is reported.
    """

    __slots__ = ("_plan",)

    def __init__(self) -> None:
        super().__init__()
        # (answer, alternatives) of the choices to repeat before new ones.
        self._plan: list[tuple[int, int]] = []

    def choose(self, n: int, label: Label) -> int:
        """Repeat the plan; beyond it, take alternative 0.

        Raises:
            ReplayError: The execution is not deterministic: after the same
                answers it asks another question.
        """
        depth = len(self._made)
        picked = 0
        if depth < len(self._plan):
            picked, expected = self._plan[depth]
            if expected != n:
                raise ReplayError(
                    f"choice {depth} had {expected} alternatives in the previous "
                    f"execution and has {n} now ({format_label(label)}): recovery "
                    "must depend on nothing but what it reads from the disk"
                )
        self._made.append((picked, n, label))
        self.asked = depth + 1
        return picked

    def advance(self) -> bool:
        """Turn to the next leaf; False when all were visited.

        Raises:
            ReplayError: The last execution ended before it had asked what
                the execution it repeats had asked.
        """
        made = self._made
        if len(made) < len(self._plan):
            raise ReplayError(
                f"an execution that repeats {len(self._plan)} choices ended after "
                f"{len(made)}: recovery must depend on nothing but what it reads "
                "from the disk"
            )
        self.asked = 0
        while made:
            picked, n, _ = made.pop()
            if picked + 1 < n:
                self._plan = [(one[0], one[1]) for one in made]
                self._plan.append((picked + 1, n))
                made.clear()
                return True
        self._plan = []
        return False


class Sampler(Recorder):
    """Seeded random answers, honest more often than not.

    How dishonest a whole execution is gets drawn once, not per choice: a disk
    that is a little dishonest everywhere never shows the single lost sector.

    Args:
        seed: Same seed, same answers.
    """

    __slots__ = ("_honest", "_random")

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._honest = self._random.choice((0.95, 0.75, 0.5, 0.1))

    def choose(self, n: int, label: Label) -> int:
        """Draw one of `n` alternatives."""
        draw = self._random.random
        picked = 0 if draw() < self._honest else int(draw() * n)
        self._made.append((picked, n, label))
        self.asked += 1
        return picked


class Replay(Recorder):
    """Repeats a recorded tape; beyond its end everything is honest."""

    __slots__ = ("_tape",)

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def choose(self, n: int, label: Label) -> int:
        """The next answer of the tape.

        Raises:
            ReplayError: The tape has an answer that this question has not.
        """
        depth = len(self._made)
        picked = self._tape[depth] if depth < len(self._tape) else 0
        if not 0 <= picked < n:
            raise ReplayError(
                f"choice {depth} of the tape is {picked}, but there are {n} "
                f"alternatives ({format_label(label)}): the tape belongs to another "
                "program, seed or crash model"
            )
        self._made.append((picked, n, label))
        self.asked = depth + 1
        return picked


def format_label(label: Label, picked: int | None = None) -> str:
    """A label in words.

    The last element of a label may be a tuple of alternatives; the one that
    was picked is then described by its `str`.

    Args:
        label: ("kind", facts ..., alternatives).
        picked: Which alternative was taken; None leaves it out.
    """
    facts = list(label)
    answers = facts.pop() if facts and isinstance(facts[-1], tuple) else ()
    if len(facts) == 4 and facts[0] == "data":
        _, path, offset, length = facts
        text = f"{path} bytes {offset}..{offset + length}"
    else:
        text = " ".join(str(fact) for fact in facts)
    if picked is not None:
        what = str(answers[picked]) if picked < len(answers) else f"answer {picked}"
        text = f"{text}: {what}"
    return text
