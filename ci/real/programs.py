"""Programs: durable files, steps, and pushes between them; as text, and drawn.

    f=A4096 d/x=X1 | write f 0 B512; push f 0 512; fsync d/x

The steps are those of a litmus line (`tornpage.litmus`) and the pushes of
`ci.real.machine`. A program that failed is replayed from this text.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci.real.machine import PUSHES

from tornpage.litmus import LITMUS, letters, perform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ci.real.machine import RealMachine

    from tornpage.litmus import Machine

__all__ = ["Program", "drawn", "litmus_programs", "performed"]

Step = tuple[str, ...]
_FILES = ("a", "b", "d/c", "d/e")
_FOLDERS = ("d", "g")
_LETTERS = "BCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Attributes:
        files: Durable files, as ("f", "A4096").
        steps: Its steps and pushes.
        look: What a litmus line looks at; empty for programs without a line.
    """

    files: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    look: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Program:
        """The program of a text.

        Raises:
            ValueError: It has no "|".
        """
        files, bar, steps = text.partition("|")
        if not bar:
            raise ValueError(f"{text!r}: write files | step; step")
        pairs = (one.partition("=") for one in files.split())
        return cls(
            tuple((name, content) for name, _, content in pairs),
            tuple(tuple(one.split()) for one in steps.split(";") if one.strip()),
        )

    def __str__(self) -> str:
        files = " ".join(f"{name}={content}" for name, content in self.files)
        return f"{files} | {'; '.join(' '.join(one) for one in self.steps)}"

    def contents(self) -> dict[str, bytes]:
        """The durable files."""
        return {name: letters(content) for name, content in self.files}


def performed(steps: Sequence[Step], machine: Machine) -> Iterator[int]:
    """Run steps, also pushes if the machine has them; how many are done after each."""
    real: RealMachine | None = getattr(machine, "push", None) and machine  # type: ignore[assignment]
    for number, step in enumerate(steps, 1):
        if step[0] not in PUSHES:
            for _ in perform([step], machine):
                pass
        elif real is not None:
            real.push(step)
        yield number


def litmus_programs(*, failing: bool = False) -> Iterator[Program]:
    """The litmus lines, each with its ranges pushed out, forwards and backwards."""
    known: set[Program] = set()
    for line in LITMUS:
        if (("fail",) in line.program) != failing:
            continue
        files = tuple(
            (name, f"{chr(content[0])}{len(content)}") for name, content in line.files
        )
        spans = [
            ("push", words[0], words[1], words[2][1:])
            for verb, *words in line.program
            if verb == "write"
        ]
        for order in (1, -1):
            pushed = [one for span in spans[::order] for one in (span, ("commit",))]
            program = Program(
                files, (*line.program, *(pushed or [("commit",)])), line.look
            )
            if program not in known:
                known.add(program)
                yield program


def drawn(seed: int, *, waits: bool = False) -> Program:
    """A random program.

    Args:
        seed: The same one draws the same program.
        waits: Whether it may wait for the file system's own writeback.
    """
    draw = random.Random(seed)
    files = tuple(
        (name, f"A{draw.choice((1, 512, 1000, 4096, 6000, 9000))}")
        for name in _FILES
        if draw.random() < 0.6
    )
    letter = iter(_LETTERS)
    steps: list[Step] = []
    names = draw.sample(_FILES, 3) if draw.random() < 0.7 else list(_FILES)
    if not any(name.startswith("d/") for name, _ in files):
        steps.append(("mkdir", "d"))
    for _ in range(draw.randrange(3, 11)):
        name = draw.choice(names)
        roll = draw.random()
        if roll < 0.34:
            offset = draw.choice((0, 0, 100, 512, 1024, 4096, 4000, 8192, 9000))
            length = draw.choice((1, 100, 512, 1024, 4096, 5000))
            steps.append(("write", name, str(offset), f"{next(letter)}{length}"))
            if draw.random() < 0.3:
                steps.append(("push", name, str(offset), str(length)))
        elif roll < 0.42:
            size = draw.choice((0, 50, 512, 4096, 5000, 12000))
            steps.append(("truncate", name, str(size)))
        elif roll < 0.54:
            steps.append((draw.choice(("fsync", "fsync", "fdatasync")), name))
        elif roll < 0.64:
            steps.append(("create", name))
        elif roll < 0.74:
            steps.append(("rename", name, draw.choice(names)))
        elif roll < 0.79:
            steps.append(("link", name, draw.choice(names)))
        elif roll < 0.84:
            steps.append(("unlink", name))
        elif roll < 0.88:
            steps.append(("mkdir", draw.choice(_FOLDERS)))
        elif roll < 0.90:
            steps.append(("rmdir", draw.choice(_FOLDERS)))
        elif roll < 0.92:
            steps.append(("rename", "d", "g"))
            names = [one.replace("d/", "g/") for one in names]
        else:
            steps.append(("syncdir", name))
        if draw.random() < 0.12:
            steps.append(("commit",))
        if waits and draw.random() < 0.1:
            steps.append(("wait",))
    return Program(files, (*steps, ("commit",)))
