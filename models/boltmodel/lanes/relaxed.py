"""Property N: without syncs a crash may lose commits, but leaves no holes.

Theory
======
With `no_sync` a commit promises nothing. What may still be promised depends on the
device. When writes reach the platter in the order in which they were issued
(`order=ordered`), the newest meta that arrived has all its pages before it:

    commits      1   2   3   4   5        sync returned after 2
    legal            2   3   4   5        any one of these, whole
    not legal    1                        older than what was synced
                     2 and 4 mixed, 3 under the number of 4

That is what RocksDB calls a prefix without holes. On a device that writes in any
order it cannot be kept by any store that does not sync: meta 4 may arrive without
its pages. The sweep shows that, too; it is a limit, not a bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltmodel.contract import CHECKERS, Outcome, Promise
from boltmodel.interpret import History, LiveFailure, Session
from boltmodel.programs import NoSync, Sync
from boltmodel.recovery import recover
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.subject import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltmodel.programs import Operation, Program
    from tornpage.explore import CrashPoint
    from tornpage.model import CrashModel
    from tornpage.trace import Mark

__all__ = ["no_holes", "run_relaxed", "sweep_relaxed"]


def run_relaxed(program: Program, disk: Disk, *, sync_every: int = 3) -> History:
    """Run a program with `no_sync`, and call `DB.sync` now and then.

    Args:
        program: What to do.
        disk: An honest disk.
        sync_every: Sync after every so many commits; the mark is `synced`.
    """
    session = _Relaxed(program, disk, mark=disk.mark)
    acked = 0
    try:
        session.open()
        for op in program.operations:
            before = session.txid
            session.step(op)
            if session.txid != before:
                acked += 1
                if not acked % sync_every:
                    session.step(Sync())
        session.close()
    except LiveFailure as failure:
        session.history.live = (failure.violation,)
        session.abandon()
    return session.history


class _Relaxed(Session):
    """A session whose commits do not wait for the disk, whatever the program says."""

    def open(self) -> None:
        """Open as usual, then without syncs: creation is always synced."""
        self._no_sync = True
        super().open()

    def step(self, op: Operation) -> None:
        """As `Session.step`."""
        if not isinstance(op, NoSync):
            super().step(op)


def no_holes(
    history: History, marks: Sequence[Mark], outcome: Outcome
) -> Violation | None:
    """N: the content is that of one commit, not older than the last sync."""
    oldest, newest = None, None
    for mark in marks:
        if mark.label == "synced" or (mark.label == "opened" and oldest is None):
            oldest = int(mark["txid"])
        if mark.label in {"begin", "opened"}:
            newest = int(mark["txid"])
    if oldest is None or newest is None:
        return None
    if outcome.error or not outcome.existed:
        why = outcome.error or "the file is gone"
        return _violation(f"nothing can be read: {why}", oldest, newest)
    # Opening may make a transaction of its own, with the content of the last.
    shown = [outcome.txid, outcome.txid - 1] if history.loose_txid else [outcome.txid]
    legal = {history.states[t].digest for t in shown if t in history.states}
    if outcome.digest not in legal:
        return _violation(
            f"the content under transaction {outcome.txid} is that of no commit",
            oldest,
            newest,
        )
    if not oldest <= outcome.txid <= newest + history.loose_txid:
        return _violation(f"it shows transaction {outcome.txid}", oldest, newest)
    return None


def sweep_relaxed(
    program: Program, model: CrashModel, *, cap: int = 2_000
) -> Iterator[tuple[CrashPoint, bool, tuple[Violation, ...]]]:
    """Every crash of a relaxed run: (point, closed, what it breaks of N, S, I, F)."""
    disk = Disk(model=model)
    history = run_relaxed(program, disk)
    explorer = Explorer({}, disk.trace, recover, model, cap=cap)
    for closure in explorer.sweep():
        marks = explorer.marks(closure.point)
        found: list[Violation] = []
        for reached in closure.outcomes:
            outcome = reached.outcome
            assert isinstance(outcome, Outcome)
            first = no_holes(history, marks, outcome)
            if first is not None:
                found.append(first)
                continue
            rest = (CHECKERS[name](history, Promise(), outcome) for name in "SIF")
            found += [one for one in rest if one is not None]
        yield closure.point, closure.closed, tuple(found)


def _violation(message: str, oldest: int, newest: int) -> Violation:
    rows = (("commits", f"one of {oldest} to {newest}, whole", message),)
    return Violation("N no holes", message, rows)
