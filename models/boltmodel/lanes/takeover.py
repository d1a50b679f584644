"""Taking over: a process is killed in a commit, the next one meets failing syncs.

Theory
======
A commit writes its meta and syncs it. A process that is killed in between leaves a
version that everybody sees and nobody has made durable:

    process 1   commit A  acked                     platter A      cache A
                commit B  pages synced, meta written, killed
                                                    platter A      cache B
    process 2   opens, sees B; A's pages are free to it
                sync: EIO, B's meta written again, sync: EIO ...
                commit C  writes its pages over A's platter neither
    power goes                                      nothing is left

Nothing has failed in process 1, so there is nothing that 2 could have been told.
It has to take for unknown what it finds, until a sync of its own has said otherwise;
a sync that fails leaves the page clean and B no more durable than before.
`double_fault` never comes here: there, whoever meets a failing sync knows which
slot it has written itself.

Here process 1 is killed before each of its calls that write, grow, sync or create
(`kills`): in the making of the file and in two commits. Process 2 goes on with the
program. Of the calls of its first commits one, two or three in a row fail, from each
of them on (`scripts_after`): whatever they are, or only the syncs, or only
the writes, what lies between them being done. Then the power goes, at every later
point, closed exhaustively, under each behaviour of a failed sync.

The contract is `error_contract`'s: what process 1 had acknowledged must be there; what
it had in flight may be, and process 2 seeing it is no acknowledgement; what
process 2 acknowledges must be there, and then nothing else.

Two limits are those of `double_fault`. `fail=late` is for handles that sync
twice. And a second process killed while *its* failed sync is not repaired leaves a
third one that cannot know of it: scripts here kill once.

    python -m boltmodel.lanes.takeover

exits with 1 when a promise was broken, 3 when some crash point was not closed, and
else with 0.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from boltmodel.lanes.double_fault import sync_twice
from boltmodel.lanes.errors_sweep import Broken, Sweep, crash_after
from boltmodel.programs import Commit, Fill, Program, Put, Value
from boltmodel.quiet import quiet
from boltmodel.under_errors import ENDINGS, run_under_errors
from tornpage.command.program import as_program
from tornpage.disk import Disk
from tornpage.faults import Fault, Script
from tornpage.model import CrashModel
from tornpage.progress import Look, showing
from tornpage.trace import Mark, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tornpage.faults import FaultyDisk
    from tornpage.progress import Show
    from tornpage.trace import Operation, Record

__all__ = ["FAILS", "PROGRAM", "Kill", "kills", "main", "scripts_after", "sweep"]

# Commits of the first process; the next one has the rest.
_FIRST: Final = 2
_ROUNDS: Final = 5

PROGRAM: Final = Program(
    tuple(
        op
        for number in range(_ROUNDS)
        for op in (
            Fill((b"a",), 0, 6, 1, Value(number, 120)),
            Put((b"b",), b"k%d" % number, Value(50 + number, 300)),
            Commit(),
        )
    ),
    page_size=1024,
)
"""Every commit replaces what the one before it wrote: the version before the live
one is written over as soon as the engine takes the live one for durable."""

FAILS: Final = ("clean", "unwritten", "revert", "read-only", "late")
"""The behaviours of a failed sync; under the last one handles sync twice."""

# Commits that the second process is disturbed in, and one more that shows what came
# of it.
_DISTURBED: Final = 2
_IN_A_ROW: Final = (1, 2, 3)
_KINDS: Final = ("change", "sync", "pwrite")
_CHANGES: Final = Fault("change", 1, "EIO")


@dataclass(frozen=True, slots=True)
class Kill:
    """The death of the first process, and what the second one does undisturbed.

    Attributes:
        fault: Where the first one dies.
        program: As much of `PROGRAM` as shows what comes of it.
        calls: Of both processes, up to where the second is not disturbed any more.
        first: How many of these the first one makes, with the one it dies at.
        at_meta: Whether the meta of a commit is in the page cache only.
    """

    fault: Fault
    program: Program
    calls: tuple[str, ...]
    first: int
    at_meta: bool


def _part(rounds: int) -> Program:
    return replace(PROGRAM, operations=PROGRAM.operations[: 3 * rounds])


def _run(program: Program, faults: tuple[Fault, ...] = ()) -> FaultyDisk:
    return run_under_errors(program, Disk(), Script(faults))[1]


def kills() -> Iterator[Kill]:
    """One for each call of the first process that changes the disk or syncs it.

    They are those of the engine as it is now: with every sync made twice there are
    more.
    """
    for nth, call in enumerate(_run(_part(_FIRST)).calls, 1):
        if not _CHANGES.matches(call):
            continue
        fault = Fault("any", nth, "kill")
        labels, last = _before(_run(PROGRAM, (fault,)))
        # The commit it is killed in is not made again; opening is.
        begun = labels.count("acked") + ("opened" in labels)
        calls = tuple(_run(_part(begun + _DISTURBED), (fault,)).calls)
        at_meta = isinstance(last, Write) and last.offset < 2 * PROGRAM.page_size
        yield Kill(
            fault,
            _part(begun + _DISTURBED + 1),
            calls,
            nth,
            at_meta=at_meta and "opened" in labels,
        )


def _before(disk: FaultyDisk) -> tuple[list[str], Operation | None]:
    """The marks before a process was killed, and the operation."""
    labels: list[str] = []
    last: Operation | None = None
    for one in disk.trace:
        if not isinstance(one, Mark):
            last = one
        elif one.label == "killed":
            break
        else:
            labels.append(one.label)
    return labels, last


def scripts_after(kill: Kill, in_a_row: Sequence[int] = _IN_A_ROW) -> Iterator[Script]:
    """The death, and what then fails; first nothing does.

    Args:
        kill: The death.
        in_a_row: Of each kind of call, how many fail together.
    """
    yield Script((kill.fault,))
    for kind in _KINDS:
        one = Fault(kind, 1, "EIO")
        counts = [sum(map(one.matches, kill.calls[:end])) for end in (kill.first, None)]
        for nth in range(counts[0] + 1, counts[1] + 1):
            for many in in_a_row:
                row = (Fault(kind, nth + more, "EIO") for more in range(many))
                yield Script((kill.fault, *row))


def sweep(
    fail: str,
    into: Sweep,
    *,
    chosen: Callable[[Kill], bool] = bool,
    in_a_row: Sequence[int] = _IN_A_ROW,
    endings: Sequence[str] = ENDINGS[:1],
    watch: Callable[[float], None] | None = None,
) -> None:
    """Every kill, every script, every later crash, under a behaviour of failed syncs.

    Args:
        fail: One of `FAILS`.
        into: Where to count; of one engine, as `Sweep.beginnings` says.
        chosen: Which of `kills`; all of them if not said.
        in_a_row: As `scripts_after` takes it.
        endings: What is done when the program is over.
        watch: Called before each run, with the share of the kills that is done, from 0
            to 1.
    """
    model = CrashModel.parse(f"fail={fail}")
    with sync_twice() if fail == "late" else nullcontext():
        deaths = list(filter(chosen, kills()))
        for number, kill in enumerate(deaths):
            into.programs += 1
            # The scripts of one death may leave the same trace; so does a short row
            # that reaches beyond what is done, and a longer one.
            known: set[tuple[Record, ...]] = set()
            for script in scripts_after(kill, in_a_row):
                for ending in endings:
                    if watch is not None:
                        watch(number / len(deaths))
                    _judge(kill.program, script, ending, model, known, into)


def _judge(
    program: Program,
    script: Script,
    ending: str,
    model: CrashModel,
    known: set[tuple[Record, ...]],
    into: Sweep,
) -> None:
    history, disk = run_under_errors(program, Disk(model=model), script, ending)
    into.runs += 1
    into.takeovers += history.takeovers
    into.refusals += history.refused
    into.unhealed += history.unhealed
    into.errors.update(history.errors)
    into.faults.update(one.call for one in disk.injected)
    for violation in history.live:
        into.broken.append(Broken(0, str(script), ending, None, violation))
    if history.live:
        return
    told = tuple(
        one for one in disk.trace if not isinstance(one, Mark) or one.label != "fault"
    )
    if told in known:
        into.same_trace += 1
        return
    known.add(told)
    for point, violation in crash_after(history, disk, into, model, None):
        into.broken.append(Broken(0, str(script), ending, point, violation))
        break


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep all, and print what was found.

    Returns:
        The exit status: 0, 1 or 3.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.takeover",
        description="Processes that are killed, their successors under failing syncs.",
    )
    parser.add_argument(
        "--fail", nargs="+", choices=FAILS, default=FAILS, help="failed syncs"
    )
    given = parser.parse_args(arguments)
    status = 0
    for fail in given.fail:
        made = Sweep()
        interrupted = False
        with quiet(), showing(f"fail={fail}", sys.stderr) as show:

            def watch(done: float, made: Sweep = made, show: Show = show) -> None:
                show(lambda: Look(done, 1, made.counts()))

            try:
                sweep(fail, made, endings=ENDINGS, watch=watch)
            except KeyboardInterrupt:
                interrupted = True
        sys.stdout.write(f"fail={fail}\n")
        sys.stdout.writelines(f"  {line}\n" for line in made.lines())
        sys.stdout.writelines(f"  {one}\n" for one in made.broken[:20])
        if made.broken:
            status = 1
        elif (interrupted or made.closed < made.crash_points) and not status:
            status = 3
        if interrupted:
            sys.stdout.write("interrupted: of the rest nothing is known\n")
            break
    return status


if __name__ == "__main__":
    sys.exit(as_program("takeover", main))
