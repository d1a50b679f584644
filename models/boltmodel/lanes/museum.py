"""The museum: what it takes to notice each planted bug, and whether we do.

Theory
======
A bug is shown to the same search that an honest engine goes through: the same
programs in the same order, each judged in the same ways, cheapest first.

    run             every program once; engine, model and checker agree
    readers         the same, programs with readers that stay open
    crash           every crash point, sectors whole
    errors          programs with calls that fail, once
    errors, crash   programs with calls that fail, every crash point
    torn            every crash point, sectors torn at any byte
    errors, torn    the same, sectors torn

The first of these that breaks a promise is what the bug needs. The programs are
the corpus (`corpus`): no program is there for one bug's search only, so that a
bug found in three executions has been found by what runs before every merge.

A bug that survives has shown a hole in the search, or is no bug: nothing that
anybody can observe is wrong. Those are not counted but argued, in
`docs/museum.md`, and are not in the gallery.

    python -m boltmodel.lanes.museum              hunt all; status 1 when one survives
    python -m boltmodel.lanes.museum --markdown   the same as the table of the docs
    python -m boltmodel.lanes.museum --record F   keep which program showed which bug

What was recorded (`boltmodel.mutants.shown`) lets a test look at each bug in
milliseconds, the one lane and the one program, and lets the gate begin there.

What it is not: it knows no fault and no promise. `Experiment` crashes, the
subject judges.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from boltmodel.corpus import BY_NAME
from boltmodel.mutants import MUTANTS, mutant
from boltmodel.mutants.shown import SHOWN
from boltmodel.programs import ReaderOpen, describe, encode
from boltmodel.quiet import quiet
from boltmodel.subject import ShearboltSubject
from tornpage.command.program import as_program
from tornpage.model import CrashModel
from tornpage.progress import Look, make_room, showing
from tornpage.run import Experiment, Finding
from tornpage.run.shrink import Budget, shrink_program, shrink_tape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from boltmodel.programs import Program
    from tornpage.subject import Violation

__all__ = [
    "Exhibit",
    "Hit",
    "Story",
    "exhibit",
    "hunt",
    "main",
    "shown",
    "shrink",
    "survey",
]

_ALL: Final = tuple(BY_NAME.values())
_SUBJECT: Final = ShearboltSubject()
_WHOLE: Final = CrashModel()
_TORN: Final = CrashModel(tear="byte")

# Lanes without a crash.
_LIVE: Final = frozenset({"run", "readers", "errors"})

# Executions for one crash point. A sound engine needs 41 at most for a corpus
# program; a bug can make it need very many, and shows in the first ones.
_CAP: Final = 300
_ATTEMPTS: Final = 400


@dataclass(frozen=True, slots=True)
class Hit:
    """The first broken promise of a search.

    Attributes:
        lane: The way of searching that met it.
        place: Number of the program.
        program: The program.
        violation: The promise.
        executions: Programs run and recoveries made until then.
        seconds: How long that took.
    """

    lane: str
    place: int
    program: Program
    violation: Violation
    executions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Story:
    """A hit made small.

    Attributes:
        program: What is left of the program.
        crashes: 0 or 1.
        choices: Dishonest choices of the disk that are needed.
    """

    program: Program
    crashes: int
    choices: int

    @property
    def operations(self) -> int:
        """Lines of the program, its faults being one of them."""
        return len(describe(self.program))


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A planted bug and what became of it.

    Attributes:
        name: The bug.
        hit: How it was found; None: it survived.
        story: The hit made small; None: not asked for.
        false_alarm: The same search finds the same program broken without
            the bug: the hit proves nothing.
    """

    name: str
    hit: Hit | None
    story: Story | None = None
    false_alarm: bool = False

    @property
    def killed(self) -> bool:
        """Whether the bug was found, and was what was found."""
        return self.hit is not None and not self.false_alarm


def _searches(
    programs: Sequence[Program],
) -> Iterator[tuple[str, CrashModel | None, int, Program]]:
    """(lane, crash model or None, place, program), cheapest lane first."""
    numbered = list(enumerate(programs))
    faulty = [one for one in numbered if one[1].faults]
    plain = [one for one in numbered if not one[1].faults]
    pinned = [
        (place, program)
        for place, program in plain
        if any(isinstance(op, ReaderOpen) for op in program.operations)
    ]
    alone = [one for one in plain if one not in pinned]
    lanes: tuple[tuple[str, CrashModel | None, list[tuple[int, Program]]], ...] = (
        ("run", None, alone),
        ("readers", None, pinned),
        ("crash", _WHOLE, plain),
        ("errors", None, faulty),
        ("errors, crash", _WHOLE, faulty),
        ("torn", _TORN, plain),
        ("errors, torn", _TORN, faulty),
    )
    for lane, model, chosen in lanes:
        for place, program in chosen:
            yield lane, model, place, program


def hunt(programs: Sequence[Program] = _ALL) -> Hit | None:
    """Search the engine as it is now; the first broken promise, or None."""
    began = time.monotonic()
    executions = 0
    for lane, model, place, program in _searches(programs):
        found: Violation | None = None
        if model is None:
            executions += 1
            found = _live(program)
        else:
            made = Experiment(_SUBJECT, program, model, cap=_CAP)
            for finding in _counting(made, counted := [0]):
                found = finding.violation
                break
            executions += 1 + counted[0]
        if found is not None:
            seconds = time.monotonic() - began
            return Hit(lane, place, program, found, executions, seconds)
    return None


def shown(name: str) -> Violation | None:
    """What the recorded lane and program of a bug find on the engine as it is.

    Raises:
        KeyError: Nothing was recorded for this bug.
    """
    lane, program = SHOWN[name]
    return _look(BY_NAME[program], lane)


def _look(program: Program, lane: str) -> Violation | None:
    if lane in _LIVE:
        return _live(program)
    model = _TORN if "torn" in lane else _WHOLE
    made = Experiment(_SUBJECT, program, model, cap=_CAP)
    return next((finding.violation for finding in made.sweep()), None)


def _counting(made: Experiment, counted: list[int]) -> Iterator[Finding]:
    def count(closure: object) -> None:
        counted[0] += getattr(closure, "executions", 0)

    return made.sweep(count)


def _live(program: Program) -> Violation | None:
    made = Experiment(_SUBJECT, program, _WHOLE, cap=1)
    return made.live[0] if made.live else None


def _finding(program: Program, lane: str, wanted: str) -> Finding | None:
    """What this lane finds of this property, or None."""
    if lane in _LIVE:
        seen = _live(program)
        return Finding(seen) if seen and seen.property == wanted else None
    model = _TORN if "torn" in lane else _WHOLE
    made = Experiment(_SUBJECT, program, model, cap=_CAP)
    return made.first(wanted)


def shrink(hit: Hit) -> Story:
    """Make a hit small, with the bug in place."""
    wanted = hit.violation.property
    found = _finding(hit.program, hit.lane, wanted)
    assert found is not None, "what was found once is found again"
    small = shrink_program(
        hit.program,
        found,
        simplify=_SUBJECT.simplify,
        fails=lambda program: _finding(program, hit.lane, wanted),
        key=lambda program: str(encode(program)),
        budget=Budget(_ATTEMPTS),
    )
    point = small.found.point
    if point is None:
        return Story(small.program, 0, 0)
    model = _TORN if "torn" in hit.lane else _WHOLE
    made = Experiment(_SUBJECT, small.program, model, cap=_CAP)

    def fails(tape: tuple[int, ...]) -> tuple[int, ...] | None:
        again = made.replay(point, tape, wanted)
        return None if again is None else again.tape

    tape = shrink_tape(small.found.tape, fails=fails, budget=Budget(_ATTEMPTS))
    return Story(small.program, 1, sum(map(bool, tape)))


def exhibit(
    name: str, programs: Sequence[Program] = _ALL, *, told: bool = False
) -> Exhibit:
    """Hunt one planted bug.

    Args:
        name: Which one.
        programs: What to run.
        told: Also make the hit small.

    Raises:
        KeyError: There is no planted bug of this name.
    """
    with mutant(name):
        hit = hunt(programs)
        story = shrink(hit) if told and hit is not None else None
    if hit is None:
        return Exhibit(name, None)
    # Without the bug the same program keeps the promise.
    for program in (hit.program, *([story.program] if story else [])):
        if _finding(program, hit.lane, hit.violation.property) is not None:
            return Exhibit(name, hit, story, false_alarm=True)
    return Exhibit(name, hit, story)


def _told(name: str) -> Exhibit:
    with quiet():
        return exhibit(name, told=True)


def survey(names: Iterable[str], workers: int = 1) -> Iterator[Exhibit]:
    """Hunt several, in order, each made small."""
    if workers == 1:
        yield from map(_told, names)
        return
    # A fresh interpreter each: what one bug leaves behind is not inherited.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_told, list(names))


_HEAD: Final = (
    "bug",
    "origin",
    "breaks",
    "needs",
    "executions",
    "seconds",
    "operations",
    "crashes",
    "choices",
)


def _cells(one: Exhibit) -> tuple[str, ...]:
    bug = MUTANTS[one.name]
    hit, story = one.hit, one.story
    if hit is None or story is None or one.false_alarm:
        fate = "FALSE ALARM" if one.false_alarm else "SURVIVED"
        return (one.name, bug.origin, fate, bug.needs, *["-"] * 5)
    return (
        one.name,
        bug.origin,
        hit.violation.property,
        hit.lane,
        str(hit.executions),
        f"{hit.seconds:.2f}",
        str(story.operations),
        str(story.crashes),
        str(story.choices),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all planted bugs and print the table.

    Returns:
        0 when all were found, 1 when one was not, 3 when Ctrl-C ended it before.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.museum",
        description="Plant every known bug and see how it is found.",
    )
    parser.add_argument("names", nargs="*", help="bugs; default: all")
    parser.add_argument("-n", type=int, default=1, help="worker processes")
    parser.add_argument("--markdown", action="store_true", help="print a table")
    parser.add_argument("--record", metavar="FILE", help="keep what showed what")
    given = parser.parse_args(arguments)
    names = given.names or list(MUTANTS)
    unknown = [name for name in names if name not in MUTANTS]
    if unknown:
        parser.error(f"no planted bug is called {unknown[0]}")
    began = time.monotonic()
    found: list[Exhibit] = []
    layout = "| {} |" if given.markdown else "{}"
    between = " | " if given.markdown else "  "
    print(layout.format(between.join(_HEAD)))  # noqa: T201 - it is a command
    if given.markdown:
        print("|" + "---|" * len(_HEAD))  # noqa: T201
    interrupted = ""
    with showing("museum", sys.stderr) as show:
        try:
            for one in survey(names, given.n):
                found.append(one)
                make_room(sys.stderr)
                print(layout.format(between.join(_cells(one))), flush=True)  # noqa: T201
                counts = f"{len(found)}/{len(names)} bugs"
                show(partial(Look, len(found), len(names), counts))
        except KeyboardInterrupt:
            interrupted = f", interrupted: {len(names) - len(found)} were not hunted"
    if given.record and not interrupted:
        _record(given.record, found)
    killed = sum(one.killed for one in found)
    seconds = time.monotonic() - began
    print(f"\n{killed} of {len(found)} found, {seconds:.0f} s{interrupted}")  # noqa: T201
    for name, values in _sizes(found):
        print(f"{name}: median {values[len(values) // 2]}, worst {values[-1]}")  # noqa: T201
    if killed < len(found):
        return 1
    return 3 if interrupted else 0


def _record(path: str, found: list[Exhibit]) -> None:
    names = list(BY_NAME)
    known = {
        one.name: [one.hit.lane, names[one.hit.place]]
        for one in found
        if one.hit is not None and one.killed
    }
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in known.items())
    with open(path, "w", encoding="utf-8") as target:
        target.write("{\n" + lines + "\n}\n")


def _sizes(found: list[Exhibit]) -> Iterator[tuple[str, list[int]]]:
    stories = [one.story for one in found if one.story is not None]
    for name in ("operations", "crashes", "choices"):
        if stories:
            yield name, sorted(getattr(story, name) for story in stories)


if __name__ == "__main__":
    sys.exit(as_program("museum", main))
