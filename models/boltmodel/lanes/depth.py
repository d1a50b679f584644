"""Crashes during recovery, and during the commits after it.

Theory
======
A crash is followed by a life, and a life can end with a crash:

    program --crash--> open, look, commit --crash--> open, look, commit ...
      life 1   |            life 2           |            life 3
               '- any point of its trace     '- any point of its trace
                  (also inside creation)        (also inside recovery)

What the first crash left undecided and life 2 did not read is still undecided
in life 3: the platter is handed on with its choices open (`Disk.image`). So an
old torn sector under a new write is covered, too.

Promises are handed on. Before life 2 has opened the database the second crash may
show what the first one might have. From then on, what it showed is a fact: after
a crash there is no page cache that could pretend. So life 3 must show the same
transaction, or the commit of life 2 when that was in flight.

    exhaust   all pairs of crashes, closed exhaustively (depth 2)
    sample    seeded chains of any depth

Outcomes of life 1's crash points are not reused at later points, unlike in the
explorer's sweep: what life 3 reads is not among what life 2 consumed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.contract import Outcome, judge
from boltmodel.generate import Universe, generate
from boltmodel.interpret import DATABASE, History, run
from boltmodel.model import Bucket, ModelTx
from boltmodel.recovery import _attempt, look, recover
from tornpage.choices import Sampler
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.trace import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltmodel.programs import Program
    from tornpage.subject import Violation

__all__ = ["Depth", "TwoCrashes", "exhaust", "live_on", "sample", "small_program"]

_BUCKET: Final = b"lives"
_LIFE: Final = b"life" * 30
_MOST_OPERATIONS: Final = 7
_CAP: Final = 5_000


@dataclass(frozen=True, slots=True)
class TwoCrashes:
    """What one crash led to, and what every second crash after it led to.

    Attributes:
        first: What life 2 saw.
        later: (marks that life 2 had made, what life 3 saw).
        closed: Whether the second crashes were closed exhaustively.
    """

    first: Outcome
    later: frozenset[tuple[int, Outcome]]
    closed: bool


@dataclass(slots=True)
class Depth:
    """What was tried, and what was found.

    Attributes:
        programs: Programs.
        first_points: Points of the first crash.
        second_points: Points of the second crash, over all first ones.
        executions: Recoveries.
        closed: Whether everything was closed exhaustively.
        broken: (the points' names, the promise) of what did not hold.
    """

    programs: int = 0
    first_points: int = 0
    second_points: int = 0
    executions: int = 0
    closed: bool = True
    broken: list[tuple[str, Violation]] = field(default_factory=list)


def small_program(seed: int) -> Program:
    """A program of a few operations on a new database, so creation is in it."""
    drawn = generate(seed, Universe(((b"a",), (b"a", b"b")), (b"k", b"l")))
    return replace(drawn, operations=drawn.operations[:_MOST_OPERATIONS])


def live_on(disk: Disk) -> tuple[Outcome, History]:
    """One life after a crash: open, look, commit, close.

    Marks are those of a program's run.

    Returns:
        What was there, and a history for the crash that ends this life.
    """
    existed = disk.exists(DATABASE)
    history = History(None)
    db, error = _attempt(lambda: shearbolt.open(DATABASE, storage=disk))
    if db is None:
        return Outcome(existed, error=f"opening: {error}"), history
    seen, error = _attempt(lambda: look(db))
    if seen is None:
        _attempt(db.close)
        return Outcome(existed, error=f"reading: {error}"), history
    history.states[seen.txid] = seen.content
    disk.mark("opened", txid=seen.txid)
    _, error = _attempt(lambda: _commit(db, disk, history, seen.txid, seen.content))
    outcome = Outcome(
        existed,
        txid=seen.txid,
        digest=seen.content.digest,
        problems=seen.problems,
        progress=error,
        content=seen.content,
    )
    _attempt(db.close)
    return outcome, history


def _commit(
    db: shearbolt.DB, disk: Disk, history: History, txid: int, before: Bucket
) -> None:
    tx = db.begin(writable=True)
    tx.create_bucket_if_not_exists(_BUCKET).put(b"%08d" % txid, _LIFE)
    number = tx.id
    history.states[number] = _with_life(before, txid)
    disk.mark("begin", txid=number)
    tx.commit()
    disk.mark("acked", txid=number)


def exhaust(program: Program, into: Depth, model: CrashModel | None = None) -> None:
    """Every crash of a program, and every crash of every life after it."""
    model = model if model is not None else CrashModel()
    disk = Disk(model=model)
    history = run(program, disk, mark=disk.mark)
    into.programs += 1

    def second(crashed: Disk) -> TwoCrashes:
        first, _ = live_on(crashed)
        explorer = Explorer(crashed.image(0), crashed.trace, recover, cap=_CAP)
        later: set[tuple[int, Outcome]] = set()
        closed = True
        for closure in explorer.sweep():
            into.second_points += 1
            into.executions += closure.executions
            closed = closed and closure.closed
            marks = len(explorer.marks(closure.point))
            for reached in closure.outcomes:
                assert isinstance(reached.outcome, Outcome)
                later.add((marks, reached.outcome))
        return TwoCrashes(first, frozenset(later), closed)

    explorer = Explorer({}, disk.trace, second, model, cap=_CAP, reuse=False)
    for closure in explorer.sweep():
        into.first_points += 1
        into.executions += closure.executions
        into.closed = into.closed and closure.closed
        marks = explorer.marks(closure.point)
        for reached in closure.outcomes:
            both = reached.outcome
            assert isinstance(both, TwoCrashes)
            into.closed = into.closed and both.closed
            for where, violation in _judge(history, marks, both):
                into.broken.append((f"{closure.point}, then {where}", violation))


def sample(
    seed: int, program: Program, model: CrashModel | None = None, *, lives: int = 5
) -> list[tuple[str, Violation]]:
    """One random chain of crashes; what it breaks.

    Args:
        seed: Same seed, same chain.
        program: The first life.
        model: What a crash may do.
        lives: How many lives there are, the program's included.
    """
    model = model if model is not None else CrashModel()
    draw = random.Random(f"lives {seed}")
    disk = Disk(model=model)
    history = run(program, disk, mark=disk.mark)
    marks: tuple[Mark, ...] = ()
    names: list[str] = []
    for life in range(1, lives):
        made = len(disk.trace.operations())
        at = draw.randrange(made + 1)
        before = _marks_before(disk, at)
        if life == 1 or before:
            marks, told = before, history
        disk = disk.crash(Sampler(draw.randrange(1 << 30)), at)
        names.append(str(at))
        outcome, history = live_on(disk)
        found = judge(told, marks, outcome)
        if found:
            return [(" > ".join(names), one) for one in found]
    return []


def _marks_before(disk: Disk, operations: int) -> tuple[Mark, ...]:
    """The marks made before the last of so many operations was under way."""
    marks: list[Mark] = []
    seen = 0
    for record in disk.trace:
        if not isinstance(record, Mark):
            seen += 1
            if seen >= operations:
                break
        else:
            marks.append(record)
    return tuple(marks)


def _judge(
    history: History, marks: Sequence[Mark], both: TwoCrashes
) -> list[tuple[str, Violation]]:
    """Judge both crashes; names the life after which a promise was broken."""
    first = both.first
    found = [("life 2", one) for one in judge(history, marks, first)]
    if first.content is None:
        return found
    handed = History(None, loose_txid=history.loose_txid)
    handed.states = {
        first.txid: first.content,
        first.txid + 1: _with_life(first.content, first.txid),
    }
    made = [
        Mark("opened", (("txid", first.txid),)),
        Mark("begin", (("txid", first.txid + 1),)),
        Mark("acked", (("txid", first.txid + 1),)),
    ]
    for stage, outcome in sorted(both.later, key=lambda one: (one[0], one[1].txid)):
        if stage:
            broken = judge(handed, made[:stage], outcome)
        else:
            broken = judge(history, marks, outcome)
        found += [(f"life 3, {stage} marks", one) for one in broken]
    return found


def _with_life(before: Bucket, txid: int) -> Bucket:
    """The content after the commit that a life makes."""
    model = ModelTx(before)
    model.ensure((_BUCKET,))
    model.put((_BUCKET,), b"%08d" % txid, _LIFE)
    return model.commit()
