"""Every error at every call: the sweep behind property E.

Theory
======
A program makes n calls on an honest disk. It is run again for each of them
and for each thing that can go wrong there, once for a moment and once for good:

    EIO       any call                      EIO!     from there on
    ENOSPC    calls that change the disk    ENOSPC!  it stays full
    EINTR     any call
    short     reads and writes

Each run is judged while it goes (`under_errors`), and then the disk loses power
at the points of its trace behind the first fault. Most faults change nothing about
what reaches the disk: a trace that was crashed before is not crashed again, and
the points that are left are sampled by distance when there are more of them than
`points`. Crash points are closed exhaustively or counted as not closed.

    python -m boltmodel.lanes.errors_sweep --programs 50

exits with 1 when a promise was broken: each is printed with the seed and the
script that show it again. 3: nothing was broken, and some crash points were left
out or not closed. 0: nothing was broken anywhere, which takes `--points 0`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from boltmodel.contract import Outcome
from boltmodel.error_contract import judge_errors
from boltmodel.generate import generate
from boltmodel.quiet import quiet
from boltmodel.recovery import recover
from boltmodel.under_errors import ENDINGS, run_under_errors
from tornpage.command.arguments import positive
from tornpage.command.program import as_program
from tornpage.disk import Disk
from tornpage.explore import CrashPoint, Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.faults import Fault, Script
from tornpage.model import CrashModel
from tornpage.progress import Look, showing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boltmodel.programs import Program
    from boltmodel.under_errors import ErrorHistory
    from tornpage.faults import FaultyDisk
    from tornpage.subject import Violation

__all__ = ["Broken", "Sweep", "main", "scripts_of", "sweep_program"]

_CAP: Final = 2_000


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that did not hold.

    Attributes:
        seed: The program's.
        script: What went wrong.
        ending: What was done afterwards.
        point: Where power was lost; None: it was not needed.
        violation: The promise.
    """

    seed: int
    script: str
    ending: str
    point: CrashPoint | None
    violation: Violation

    def __str__(self) -> str:
        crash = "" if self.point is None else f", power lost at {self.point}"
        return (
            f"seed {self.seed}, {self.script}, then {self.ending}{crash}: "
            f"{self.violation.property}: {self.violation.message}"
        )


@dataclass(slots=True)
class Sweep:
    """What was tried, and what was found.

    Attributes:
        programs: Programs.
        runs: Runs of a program under a script.
        faults: Faults that happened, by effect and call ("EIO pwrite").
        errors: Errors that callers got, by name.
        refusals: Runs whose handle refused to write after the fault.
        takeovers: Processes that were killed in the middle of a program.
        unhealed: Runs whose process was to die with a meta slot in doubt; there
            the engine promises nothing to the next process.
        crash_points: Crash points that were closed or given up.
        closed: Those that were closed exhaustively.
        left_out: Crash points that were not looked at.
        executions: Recoveries.
        same_trace: Runs whose trace had been crashed before.
        broken: Promises that did not hold.
        beginnings: What the runs have in common, by crash model: one program under
            many scripts does the same up to the fault. So a sweep is of one engine:
            whoever plants a bug in it begins another.
    """

    programs: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    takeovers: int = 0
    unhealed: int = 0
    crash_points: int = 0
    closed: int = 0
    left_out: int = 0
    executions: int = 0
    same_trace: int = 0
    broken: list[Broken] = field(default_factory=list)
    beginnings: dict[CrashModel, Beginnings] = field(default_factory=dict)

    def counts(self) -> str:
        """The counts that go up, for one line."""
        return (
            f"{self.runs:,} runs  {self.crash_points:,} crash points "
            f" {len(self.broken)} broken"
        )

    def lines(self) -> Iterator[str]:
        """The counts, for people."""
        yield f"{self.programs} programs, {self.runs} runs with a fault"
        for name, number in sorted(self.faults.items()):
            yield f"  {name}: {number}"
        raised = ", ".join(f"{k} {v}" for k, v in sorted(self.errors.items()))
        yield f"errors raised: {raised or 'none'}"
        yield (
            f"refused to write: {self.refusals}, killed: {self.takeovers}, "
            f"died in doubt: {self.unhealed}"
        )
        yield (
            f"{self.crash_points} crash points, {self.closed} closed, "
            f"{self.left_out} left out, {self.executions} recoveries, "
            f"{self.same_trace} runs with a known trace"
        )
        yield f"{len(self.broken)} promises broken"


def scripts_of(calls: Sequence[str]) -> Iterator[Script]:
    """Everything that can go wrong once, at each call of an honest run.

    Args:
        calls: The calls in order, as `FaultyDisk.calls` has them.
    """
    counted: Counter[str] = Counter()
    for nth, call in enumerate(calls, 1):
        counted[call] += 1
        for effect in ("EIO", "EIO!", "EINTR"):
            yield Script.parse(f"any#{nth}={effect}")
        if Fault("change", 1, "ENOSPC").matches(call):
            counted["change"] += 1
            for effect in ("ENOSPC", "ENOSPC!"):
                yield Script.parse(f"change#{counted['change']}={effect}")
        if call in {"pread", "pwrite"}:
            # Not a multiple of anything; and nothing at all, for a write.
            for amount in (7, 0) if call == "pwrite" else (7,):
                yield Script.parse(f"{call}#{counted[call]}=short:{amount}")


def sweep_program(
    seed: int,
    program: Program,
    into: Sweep,
    *,
    model: CrashModel | None = None,
    points: int | None = 12,
    watch: Callable[[float], None] | None = None,
) -> None:
    """Run a program once for every fault, and crash what is new about each run.

    Args:
        seed: For reports.
        program: What to do.
        into: Where to count.
        model: What a crash may do.
        points: Most crash points of one run; None: all of them.
        watch: Called before each run, with how many of them are done, from 0 to 1.
    """
    model = model if model is not None else CrashModel()
    _, honest = run_under_errors(program, Disk(model=model), Script())
    # Traces that were crashed, and from which operation on.
    seen: dict[tuple[object, ...], int] = {}
    into.programs += 1
    scripts = list(scripts_of(honest.calls))
    for number, script in enumerate(scripts):
        if watch is not None:
            watch(number / len(scripts))
        # The ending goes round: each meets every kind of call.
        ending = ENDINGS[number % len(ENDINGS)]
        history, disk = run_under_errors(program, Disk(model=model), script, ending)
        into.runs += 1
        into.refusals += history.refused
        into.takeovers += history.takeovers
        into.unhealed += history.unhealed
        into.errors.update(history.errors)
        for one in disk.injected:
            effect = one.fault.partition("=")[2].partition(":")[0] or "later"
            into.faults[f"{effect} {one.call}"] += 1
        for violation in history.live:
            into.broken.append(Broken(seed, str(script), ending, None, violation))
        if history.live or not disk.injected:
            continue
        identity, first = tuple(disk.trace), disk.injected[0].operations
        if seen.get(identity, first + 1) <= first:
            into.same_trace += 1
            continue
        seen[identity] = first
        for point, violation in crash_after(history, disk, into, model, points):
            into.broken.append(Broken(seed, str(script), ending, point, violation))


def crash_after(
    history: ErrorHistory,
    disk: FaultyDisk,
    into: Sweep,
    model: CrashModel,
    points: int | None,
) -> Iterator[tuple[CrashPoint, Violation]]:
    """Lose power behind the first fault of a run; what that breaks.

    Args:
        history: What the run promised.
        disk: The disk it ran on.
        into: Where to count.
        model: What a crash may do.
        points: Most crash points; None: all of them.
    """
    shared = into.beginnings.setdefault(model, Beginnings(Memory(jumps=model.jumps)))
    explorer = Explorer({}, disk.trace, recover, model, cap=_CAP, beginnings=shared)
    first = max(disk.injected[0].operations - 1, 0)
    if points is None:
        closures = (one for one in explorer.sweep() if one.point.index >= first)
    else:
        later = [one for one in explorer.points() if one.index >= first]
        step = max(1, -(-len(later) // points))
        into.left_out += len(later) - len(later[::step])
        closures = (explorer.close(one) for one in later[::step])
    for closure in closures:
        into.crash_points += 1
        into.closed += closure.closed
        into.executions += closure.executions
        marks = explorer.marks(closure.point)
        for reached in closure.outcomes:
            outcome = reached.outcome
            assert isinstance(outcome, Outcome)
            for violation in judge_errors(history, marks, outcome):
                yield closure.point, violation


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep programs of consecutive seeds and print what was found.

    Returns:
        The exit status: 0, 1 or 3.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.errors_sweep",
        description="Every error at every call of many programs.",
    )
    parser.add_argument("--programs", type=positive, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    parser.add_argument(
        "--points", type=int, default=12, help="most crash points of one run; 0: all"
    )
    parser.add_argument(
        "--model", type=CrashModel.parse, default=CrashModel(), help="crash model"
    )
    given = parser.parse_args(arguments)
    sweep, points = Sweep(), given.points or None
    interrupted = ""

    def watch(part: float) -> None:
        done = sweep.programs - 1 + part
        show(
            lambda: Look(
                done,
                given.programs,
                f"{sweep.programs}/{given.programs} programs  {sweep.counts()}",
            )
        )

    with quiet(), showing("errors", sys.stderr) as show:
        try:
            for seed in range(given.seed, given.seed + given.programs):
                sweep_program(
                    seed,
                    generate(seed),
                    sweep,
                    model=given.model,
                    points=points,
                    watch=watch,
                )
        except KeyboardInterrupt:
            interrupted = f"interrupted in program {sweep.programs} of {given.programs}"
    sys.stdout.writelines(f"{line}\n" for line in sweep.lines())
    sys.stdout.writelines(f"{one}\n" for one in sweep.broken[:20])
    if interrupted:
        sys.stdout.write(f"{interrupted}: of the rest nothing is known\n")
    if sweep.broken:
        return 1
    whole = not sweep.left_out and sweep.closed == sweep.crash_points
    return 0 if whole and not interrupted else 3


if __name__ == "__main__":
    sys.exit(as_program("errors_sweep", main))
