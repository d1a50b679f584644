"""Syncs that fail for real: each request of a sync is answered with an error, once.

    run 0   the first request of the sync fails     what did the call return, what
    run 1   the second                              does the program read now, what
    ...     until none is left                      do later calls, what is on disk

A request is of one of three kinds: the data of a file, anything else that is
written (journal, log, trees), a flush. File systems answer each in its own way.

What the crash model allows is asked about the history as it really was: a call that
was refused did nothing, a sync that returned 0 keeps its promise, however many
requests below it failed, and a sync that raised is a failing one of the preset.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ci.real.check import Outside, compared
from ci.real.device import Fault
from ci.real.judge import Judge
from ci.real.programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ci.real.device import Request
    from ci.real.trial import Bench, Run

    from tornpage.model import CrashModel

__all__ = ["KINDS", "LONGER", "Failures", "failures", "history", "kind_of"]

KINDS = ("data", "metadata", "flush")
"""What a failing request was."""

LONGER = tuple(
    Program.parse(text)
    for text in (
        "f=A8192 | write f 0 B8192; fail; fsync f; fsync f; create x; fsync x",
        "f=A8192 | write f 0 B512; fail; fsync f; write f 512 C512; fsync f",
        "f=A8192 | write f 0 B4096; fail; fsync f; write f 4096 C4096; fdatasync f",
        "f=A4096 | write f 4096 B8192; fail; fsync f; fsync f; write f 0 C1; fsync f",
        "g=A1 | create x; write x 0 B5000; fail; fsync x; fsync x; write g 0 C1",
    )
)
"""Besides the litmus lines, whose files are so small that Btrfs keeps them inline."""

_LETTERS = b"ABC"
_MOST = 30
_SYNCS = frozenset({"fsync", "fdatasync", "syncdir"})


@dataclass(slots=True)
class Failures:
    """What failing each request of a program's sync showed.

    Attributes:
        runs: How many requests were failed, one a run.
        images: How many crash images were mounted.
        repaired: How many of them only after a repair.
        outside: Outcomes that the model does not allow, with the request's number.
        facts: (kind of request, what happened) and how often.
    """

    runs: int = 0
    images: int = 0
    repaired: int = 0
    outside: list[tuple[int, Outside]] = field(default_factory=list)
    facts: Counter[tuple[str, str]] = field(default_factory=Counter)


def kind_of(request: Request) -> str:
    """Which of `KINDS` a request is; programs write nothing but letters."""
    if request.is_flush:
        return "flush"
    start = request.data[:8]
    ours = start[:1] in {b"A", b"B", b"C"} and not set(start) - set(_LETTERS + b"\0")
    return "data" if ours else "metadata"


def history(program: Program, run: Run) -> Program:
    """A program as it really went, for the model."""
    steps = list(program.steps)
    for at, step in enumerate(program.steps):
        if step == ("fail",):
            if not run.refused[at + 1]:
                steps[at] = ("wait",)
        elif run.refused[at] and program.steps[at - 1 : at] != (("fail",),):
            steps[at] = ("wait",)
    return Program(program.files, tuple(steps), program.look)


def _fact(program: Program, run: Run) -> str:
    """What a failing request led to, in words."""
    armed = program.steps.index(("fail",)) + 1

    def name(at: int) -> str:
        number = run.refused[at]
        return errno.errorcode.get(number, str(number)) if number else "0"

    before, after = run.live[armed - 2], run.live[armed]
    reads = "nothing" if after is None else "the new" if after == before else "the old"
    later = {
        ("sync" if step[0] in _SYNCS else "change"): name(at)
        for at, step in reversed([*enumerate(program.steps)])
        if at > armed and step[0] in {*_SYNCS, "create", "write"}
    }
    return ", ".join(
        [name(armed), f"reads {reads}", *(f"next {a} {b}" for a, b in later.items())]
    )


def failed(
    bench: Bench, program: Program, error: int = errno.EIO
) -> Iterator[tuple[int, Run]]:
    """Run a program with each request of its failing sync failed."""
    for number in range(_MOST):
        run = bench.run(program, Fault(after=number, number=error))
        if not any(one.failed for one in run.record):
            return
        yield number, run


def failures(
    bench: Bench,
    program: Program,
    model: CrashModel,
    *,
    seed: int,
    images: int,
    forgetful: bool,
    error: int = errno.EIO,
) -> Failures:
    """Fail each request of a program's failing sync, crash each run, compare.

    Args:
        bench: The file system.
        program: With one `fail`, right before a sync.
        model: What a crash may do.
        seed: Draws crash images.
        images: How many of them at most for each run.
        forgetful: Whether the drive drops what a failed flush was to make durable.
        error: The errno that requests are answered with.
    """
    result = Failures()
    for number, run in failed(bench, program, error):
        result.runs += 1
        (bad,) = (one for one in run.record if one.failed)
        result.facts[kind_of(bad), _fact(program, run)] += 1
        crashes = bench.crashes(run, random.Random(seed), images, forgetful=forgetful)
        judge = Judge(history(program, run), model)
        one = compared(program, run, crashes, [judge])
        result.images += one.images
        result.repaired += one.repaired
        result.outside += [(number, each) for each in one.outside]
    return result
