"""Why a crash during recovery breaks a promise.

Theory
======
A recovery that the power goes in is a program as any other: it starts on files, and
does operations of which a crash may lose some. So the order that is missing is looked
for as it is for programs (`story.reason`), with

    the files       as they were when the last recovery that was crashed began: what
                    it, and those before it, found there; where nobody looked, what an
                    honest disk has
    the program     that recovery
    the promises    those of the first crash: nobody was told anything since

The files are made in full and recovery is run on them. Unless it does what it did and
keeps the promise when the power stays, nothing is said: then these are other files.

What it is not: a search in several recoveries. What the first crash must not lose, and
the second one shows, has no reason here.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from tornpage.choices import Replay
from tornpage.disk.simulated import Disk
from tornpage.explore.schedule import CrashPoint
from tornpage.interruption import by_recovery, interruptions
from tornpage.story.cause import lost_by
from tornpage.story.deeds import recovery_named
from tornpage.story.reason import explain
from tornpage.story.timeline import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from tornpage.explore.explorer import Explorer, Reached
    from tornpage.subject import Violation
    from tornpage.trace import Mark, Operation

__all__ = ["relapse_reason"]

_ROOTS: Final = ("/", ".")


def relapse_reason(
    explorer: Explorer,
    point: CrashPoint,
    reached: Reached,
    recover: Callable[[Disk], Hashable],
    broken: Callable[[Sequence[Mark], Hashable], Sequence[Violation]],
    *,
    locate: Callable[[str, int, bytes], str],
    limit: int,
) -> str:
    """The order that a recovery fails to enforce, as a clause; "" when none is found.

    Args:
        explorer: Of the program.
        point: Where the program crashed.
        reached: The execution, in which recovery was crashed.
        recover: Reopens what a crash left.
        broken: What an outcome breaks of the promise in question.
        locate: What bytes of a file are.
        limit: Most disks to rebuild and recover.

    Raises:
        UncoveredError: A recovery cannot be followed.
        ReplayError: The execution does not come again.
    """
    again = interruptions(reached.choices)
    if not again:
        return ""
    number, marks, model = len(again), explorer.marks(point), explorer.model
    rows = by_recovery(reached.choices)
    row = explorer.row(point, reached.tape)
    left = row[number - 1].left
    assert left is not None
    # What it found: a recovery decides, and what it has decided stays.
    answers = Replay(tuple(one.picked for one in rows[number - 1]))
    before = row[number - 2].left if number > 1 else None
    here = explorer.disk(point, answers)
    if before is not None:
        here = Disk.on_image(before, answers)
    recover(here)
    files = _contents(Disk.on_image(here._life.image(), Replay(())))
    alone = Disk(files, model)
    outcome = recover(alone)
    done = alone.trace.operations()[: alone.recovered_after]
    if _deeds(done) != _deeds(again[-1].operations) or broken(marks, outcome):
        return ""
    first = left.clock - again[-1].after
    lost = [
        one for choice in rows[number] if choice.picked for one in lost_by(choice) or ()
    ]
    found = explain(
        files,
        done,
        recover,
        lambda _, outcome: broken(marks, outcome),
        CrashPoint(again[-1].after),
        model=model,
        locate=locate,
        suspects=[one - first for one in lost if one >= first],
        limit=limit,
    )
    return "" if found is None else f"in {recovery_named(number)} {found.sentence}"


def _contents(disk: Disk) -> dict[str, bytes]:
    """Everything on a disk."""
    found: dict[str, bytes] = {}
    folders = list(_ROOTS)
    while folders:
        folder = folders.pop()
        for name in disk.listdir(folder):
            path = posixpath.normpath(posixpath.join(folder, name))
            if disk.is_dir(path):
                folders.append(path)
                found[f"{path}/"] = b""
            else:
                file = disk.open(path, read_only=True)
                found[path] = file.pread(file.size(), 0)
                file.close()
    return found


def _deeds(operations: Sequence[Operation]) -> list[tuple[str, str, str, object]]:
    """What recovery did, but for the numbers that its files had."""
    return [
        (kind_of(one), one.path, one.site, getattr(one, "data", None))
        for one in operations
    ]
