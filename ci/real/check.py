"""One program's crashes against its preset: what was seen outside, and how much of it.

An image counts once, for all moments at which it can be what the crash left. It is
*outside* if the model does not allow its tree at one of them. An image that the file
system refuses to mount is given to its repair tool first, as an administrator would,
and counted; what the tool leaves has to be right as well.

How loose a preset is can be said of litmus lines: of what the model allows after
each step, this many outcomes were seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ci.real.judge import Judge, letters_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ci.real.programs import Program
    from ci.real.trial import Bench, Crash, Run

    from tornpage.model import CrashModel

__all__ = ["Outside", "Result", "checked", "compared"]

Looks = dict[int, set[str]]


@dataclass(frozen=True, slots=True)
class Outside:
    """One crash whose outcome the model does not allow.

    Attributes:
        crash: The crash.
        step: How many steps were done, or the number of the one going on.
        inside: Whether that step was going on.
        text: What was found, for people.
    """

    crash: Crash
    step: int
    inside: bool
    text: str

    def __str__(self) -> str:
        moment = f"{'inside' if self.inside else 'after'} step {self.step}"
        return (
            f"{moment}, request {self.crash.position}, {self.crash.image}: {self.text}"
        )


@dataclass(slots=True)
class Result:
    """What the crashes of one program showed.

    Attributes:
        images: How many were mounted.
        repaired: How many of them only after a repair.
        outside: Those that the model does not allow, one for each image.
        seen: Outcomes of the look that were seen and are allowed, and
        allowed: all that are, over all steps.
    """

    images: int = 0
    repaired: int = 0
    outside: list[Outside] = field(default_factory=list)
    seen: int = 0
    allowed: int = 0


def compared(
    program: Program, run: Run, crashes: Iterable[Crash], judges: Iterable[Judge]
) -> Result:
    """Compare crashes with what models allow; one of these is enough.

    Args:
        program: What was run.
        run: How it went.
        crashes: What was found.
        judges: The program on each model.
    """
    judges = list(judges)
    result, mounted, wrong = Result(), set(), set()
    looks: dict[int, set[str]] = {}
    for crash in crashes:
        if crash.image not in mounted:
            mounted.add(crash.image)
            result.images += 1
            result.repaired += crash.repaired
        for step, inside in run.moments(crash.position):
            text = crash.error
            if crash.tree is not None:
                text = shown(program, crash)
                if any(
                    one.allows(
                        crash.tree, one.inside(step) if inside else one.after(step)
                    )
                    for one in judges
                ):
                    if not inside and program.look:
                        looks.setdefault(judges[0].done[step], set()).add(
                            letters_of(crash.tree, program.look)
                        )
                    continue
            if crash.image not in wrong:
                wrong.add(crash.image)
                result.outside.append(Outside(crash, step, inside, text))
    if program.look:
        for point in {judges[0].after(at) for at in range(len(program.steps) + 1)}:
            allowed = judges[0].looks(program.look, point[0])
            result.allowed += len(allowed)
            result.seen += len(looks.get(point[0].index, set()) & allowed)
    return result


def checked(
    bench: Bench, program: Program, model: CrashModel, *, seed: int, images: int
) -> Result:
    """Run a program, crash it, compare.

    Raises:
        OSError: The file system could not be used at all.
        RuntimeError: The model was not closed.
    """
    run = bench.run(program)
    crashes = bench.crashes(run, random.Random(seed), images)
    return compared(program, run, crashes, [Judge(program, model)])


def shown(program: Program, crash: Crash) -> str:
    """What was found, shortly."""
    if program.look and crash.tree is not None:
        return f"{' '.join(program.look)}: {letters_of(crash.tree, program.look)}"
    return (
        ", ".join(
            f"{name}/" if content is None else f"{name}={_runs(content)}"
            for name, content in crash.tree or ()
        )
        or "nothing"
    )


def _runs(content: bytes) -> str:
    """Bytes as letters and how often: A512 B1 ..; at most eight of them."""
    found: list[tuple[int, int]] = []
    for byte in content:
        if found and found[-1][0] == byte:
            found[-1] = byte, found[-1][1] + 1
        else:
            found.append((byte, 1))
    texts = [
        f"{chr(byte) if bytes((byte,)).isalnum() else '#' if byte else '0'}{count}"
        for byte, count in found
    ]
    return "+".join(texts[:8]) + ("+..." if len(texts) > 8 else "") or "empty"
