"""Crashes during recovery: an execution is a row of recoveries.

Theory
======
A recovery that writes can lose power itself. Where that happens is one more choice on
the tape, made when recovery has ended: 0 is that it does not happen, k that the power
went when k of its operations had been issued.

    crash --> recovery --0--> outcome
                       '--k--> recovery --0--> outcome
                                        '--k--> ...       as often as the model says

Why that covers every row of crashes. Up to its operation k a recovery that loses power
there does what one does that does not: it cannot know. That the one here went on, and
read on, decides pieces that the other never looked at; so an execution may stand for
fewer images than it could, and the others come in other executions, each with the same
k. What nobody read is still open at the next crash, and a choice only then.

As for the crashes of a program, a crash inside a write is one after it, which may have
arrived or not, and one inside a sync is one before it. A crash before the first
operation is the crash that there was, and recovery does what it did. So k is 1 or more,
and a recovery that changes nothing cannot be interrupted.

What must hold in the end is what had to hold before: nobody was told anything since.
That a recovery has ended, and has shown something, promises nothing here.

What it is not: it comes into nothing that a subject does after its recovery to try the
store out, see `Disk.recovered`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornpage.disk.simulated import Disk
from tornpage.explore.turns import End
from tornpage.interruption import CRASH_AGAIN, Interruption
from tornpage.platter import transition
from tornpage.uncovered import UnsupportedCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tornpage.choices import Chooser
    from tornpage.platter.image import Image

__all__ = ["Recovery", "ended", "recover_in_a_row"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """One recovery of a row.

    Attributes:
        end: How it ended, or would have.
        left: What the platter may hold after the crash that came into it; None: none.
    """

    end: End
    left: Image | None


def ended(recover: Callable[[Disk], Hashable], crashes: int, disk: Disk) -> End:
    """Run a recovery and say how it ended and, where that counts, what it did.

    Raises:
        UnsupportedCallError: It was refused something and went on without it.
    """
    outcome = recover(disk)
    if disk.refused:
        raise UnsupportedCallError(disk.refused[0])
    if crashes == 1:
        return End(outcome)
    return End(outcome, tuple(disk.trace.operations()[: disk.recovered_after]))


def recover_in_a_row(
    disk: Disk,
    chooser: Chooser,
    recover: Callable[[Disk, bool], End],
    crashes: int,
) -> list[Recovery]:
    """One execution: recoveries, each but the first from a crash of the one before.

    Args:
        disk: Fresh from the first crash.
        chooser: Decides for all of its disks, and when the power goes.
        recover: Called with a disk that has crashed, and whether it is the first.
        crashes: The most crashes, the first one included.

    Returns:
        The recoveries in order; the outcome of the execution is the last one's.
    """
    row: list[Recovery] = []
    while True:
        end = recover(disk, not row)
        done, after = end.operations, 0
        if len(row) + 1 < crashes and done:
            answers = tuple(Interruption(done, at) for at in range(len(done) + 1))
            after = chooser.choose(len(answers), (CRASH_AGAIN, answers))
        if not after:
            row.append(Recovery(end, None))
            return row
        # Not `disk.image`: a recovery that was not run has left nothing in the trace.
        image = disk._life.image()
        for operation in done[:after]:
            transition.apply(image, operation)
        row.append(Recovery(end, image))
        disk = Disk.on_image(image, chooser)
