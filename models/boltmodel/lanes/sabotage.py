"""Sabotaged checkers: the test of the museum.

Theory
======
A planted bug shows that the checker works. What shows that the planted bugs do?
A checker that has been made blind in one eye must let at least one of them live:

                    engine sound        engine with the bug
    checker sound   consistent          violated
    sabotaged       consistent          consistent: the bug survives

So the kill rate falls below 100 percent, and the gate says so. A sabotage that
raises false alarms instead is noticed even earlier, by the sound engine.

Each record names one bug that its blindness hides (`hides`). If the museum lost
that bug, nobody would notice the sabotage: that is what the bug is there for.

What is sabotaged is whatever a verdict rests on: the contract, what it says of commits
that wait for a sync, the comparison with the model, the readers, the engine's checker,
the explorer, and the disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from posixpath import dirname
from typing import TYPE_CHECKING, Any, Final

from boltmodel import interpret, model, recovery, subject
from boltmodel.mutants.plant import Planter
from boltmodel.programs import NoSync
from boltmodel.under_errors import ErrorHistory, ErrorSession
from boltmodel.unsynced import Waiting
from shearbolt import Tx
from tornpage.explore import Explorer
from tornpage.faults import FaultyDisk
from tornpage.model import CrashModel
from tornpage.platter import settling, transition
from tornpage.platter.cell import Cell
from tornpage.trace import Sync, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from boltmodel.contract import Outcome
    from boltmodel.interpret import Session
    from boltmodel.mutants.plant import Call
    from tornpage.explore import CrashPoint
    from tornpage.platter.image import Image
    from tornpage.platter.pieces import Changes
    from tornpage.subject import Violation
    from tornpage.trace import Mark, Operation

__all__ = ["SABOTAGES", "Sabotage", "sabotaged"]

# Making a database takes nine operations, its first commit six.
_FIRST_OPERATIONS: Final = 14


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One way of being blind.

    Attributes:
        name: Short, with hyphens.
        summary: One line: what is not seen.
        hides: A planted bug that survives under it.
        put: Puts it in place.
    """

    name: str
    summary: str
    hides: str
    put: Callable[[Planter], None]


def _judge_content(planter: Planter) -> None:
    planter.replace(subject, "judge", lambda *_: ())


def _any_transaction(planter: Planter) -> None:
    def judge(
        original: Call, history: Any, marks: Sequence[Mark], outcome: Outcome
    ) -> tuple[Violation, ...]:
        for state in history.states.values():
            if state.digest == outcome.digest:
                return ()
        found: tuple[Violation, ...] = original(history, marks, outcome)
        return found

    planter.instead(subject, "judge", judge)


def _own_output(planter: Planter) -> None:
    def judge(
        original: Call, history: Any, marks: Sequence[Mark], outcome: Outcome
    ) -> tuple[Violation, ...]:
        known = [int(mark["txid"]) for mark in marks if mark.label == "acked"]
        if known and not outcome.error:
            content = history.states[known[-1]]
            outcome = replace(outcome, txid=known[-1], digest=content.digest)
        found: tuple[Violation, ...] = original(history, marks, outcome)
        return found

    planter.instead(subject, "judge", judge)


def _sequences_skipped(planter: Planter) -> None:
    class Nothing:
        @staticmethod
        def pack(_: int) -> bytes:
            return b""

    def difference(original: Call, promised: Any, found: Any) -> Any:
        differs = original(promised, found)
        if differs is not None and differs.promised.startswith("sequence "):
            return None
        return differs

    planter.replace(model, "_SEQUENCE", Nothing)
    for module in (interpret, recovery):
        planter.instead(module, "difference", difference)


def _answers_ignored(planter: Planter) -> None:
    planter.replace(interpret, "_agree", lambda *_: None)


def _readers_unread(planter: Planter) -> None:
    def check_reader(_: Call, self: Session, slot: int) -> None:
        del self, slot

    planter.instead(interpret.Session, "_check_reader", check_reader)


def _checker_silenced(planter: Planter) -> None:
    planter.instead(Tx, "check", lambda *_, **__: [])
    planter.replace(recovery, "check", lambda *_, **__: iter(()))


def _errors_excused(planter: Planter) -> None:
    planter.instead(ErrorSession, "_is_excused", lambda *_: True)


def _errors_unjudged(planter: Planter) -> None:
    def judge(
        original: Call, self: Any, history: Any, marks: Any, outcome: Any
    ) -> Sequence[Violation]:
        if isinstance(history, ErrorHistory):
            return ()
        found: Sequence[Violation] = original(self, history, marks, outcome)
        return found

    planter.instead(subject.ShearboltSubject, "judge", judge)


def _dead_remembered(planter: Planter) -> None:
    def successor(_: Call, self: FaultyDisk) -> FaultyDisk:
        self.disk.kill()
        self._killed = False
        return self

    planter.instead(FaultyDisk, "successor", successor)


def _syncs_stay_on(planter: Planter) -> None:
    def step(original: Call, self: Session, op: Any) -> None:
        if not isinstance(op, NoSync):
            original(self, op)

    planter.instead(interpret.Session, "step", step)


def _synced_for_nothing(planter: Planter) -> None:
    def note(original: Call, self: Waiting, mark: Mark) -> None:
        if mark.label not in {"synced", "acked"}:
            original(self, mark)

    planter.instead(Waiting, "note", note)


def _waiting_always(planter: Planter) -> None:
    def note(original: Call, self: Waiting, mark: Mark) -> None:
        original(self, mark)
        self.for_sync = True

    planter.instead(Waiting, "note", note)


def _known_is_lost(planter: Planter) -> None:
    def note(original: Call, self: Waiting, mark: Mark) -> None:
        original(self, mark)
        self.lost = self.lost or self.failed

    planter.instead(Waiting, "note", note)


def _tail_ignored(planter: Planter) -> None:
    def points(original: Call, self: Explorer) -> Iterator[CrashPoint]:
        for point in original(self):
            if point.index < _FIRST_OPERATIONS:
                yield point

    planter.instead(Explorer, "points", points)


def _oldest_dropped(planter: Planter) -> None:
    def groups(original: Call, self: Cell, *where: Any) -> Any:
        found = original(self, *where)
        # Members are (content, content behind the tear, ...); 0 is the oldest.
        without = [
            group
            for group in found
            if any(one[0] and one[1] for one in group.cell.members)
        ]
        return tuple(without) or found

    planter.instead(Cell, "groups", groups)


def _untorn(planter: Planter) -> None:
    planter.replace(CrashModel, "mixes", property(lambda _: False))


def _writes_durable(planter: Planter) -> None:
    def apply(original: Call, image: Image, record: Operation) -> Changes:
        changes: Changes = original(image, record)
        if isinstance(record, Write):
            done = Sync(record.path, record.inode, "fsync", record.site)
            original(image, done)
            changes.everything = True
        return changes

    planter.instead(transition, "apply", apply)


def _names_durable(planter: Planter) -> None:
    def sync(original: Call, image: Image, record: Sync, *rest: Any) -> None:
        original(image, record, *rest)
        # As file systems do that nobody has promised it.
        settling.sync_dir(image, dirname(record.path), *rest)

    planter.instead(settling, "sync_file", sync)


SABOTAGES: Final[Mapping[str, Sabotage]] = {
    one.name: one
    for one in (
        Sabotage(
            "judge-content",
            "The judge of crashes is always content.",
            "no-data-sync",
            _judge_content,
        ),
        Sabotage(
            "any-transaction",
            "The content of any transaction will do, not only of the newest.",
            "no-meta-sync",
            _any_transaction,
        ),
        Sabotage(
            "own-output",
            "The model's content is compared with the model's.",
            "no-meta-sync",
            _own_output,
        ),
        Sabotage(
            "sequences-skipped",
            "Sequences are left out of every comparison.",
            "sequence-lost",
            _sequences_skipped,
        ),
        Sabotage(
            "answers-ignored",
            "What single calls return is not compared with the model.",
            "get-goes-left",
            _answers_ignored,
        ),
        Sabotage(
            "readers-unread",
            "Readers stay open and are never read.",
            "pin-one-short",
            _readers_unread,
        ),
        Sabotage(
            "checker-silenced",
            "The engine's checker finds nothing.",
            "old-freelist-leaked",
            _checker_silenced,
        ),
        Sabotage(
            "errors-excused",
            "Every error is excused, injected or not.",
            "untyped-error",
            _errors_excused,
        ),
        Sabotage(
            "errors-unjudged",
            "Crashes after injected errors are not judged.",
            "sync-retried",
            _errors_unjudged,
        ),
        Sabotage(
            "dead-remembered",
            "Who takes over from a killed process knows what that one knew.",
            "takeover-believed",
            _dead_remembered,
        ),
        Sabotage(
            "syncs-stay-on",
            "Programs never switch syncs off, so nothing waits for one.",
            "sync-does-nothing",
            _syncs_stay_on,
        ),
        Sabotage(
            "synced-for-nothing",
            "What once waited for a sync is promised by none.",
            "sync-does-nothing",
            _synced_for_nothing,
        ),
        Sabotage(
            "waiting-always",
            "All commits are taken for such that wait for a sync.",
            "takeover-sync-unsettled",
            _waiting_always,
        ),
        Sabotage(
            "known-is-lost",
            "A failed sync of which the handle knows excuses all that comes later.",
            "unsynced-forgotten",
            _known_is_lost,
        ),
        Sabotage(
            "tail-ignored",
            "Only crashes in the first operations of a run are tried.",
            "sync-only-when-growing",
            _tail_ignored,
        ),
        Sabotage(
            "oldest-dropped",
            "The explorer never leaves a piece, or part of it, at its oldest content.",
            "no-meta-sync",
            _oldest_dropped,
        ),
        Sabotage(
            "untorn",
            "The disk never tears a sector, whatever the crash model says.",
            "checksum-unverified",
            _untorn,
        ),
        Sabotage(
            "writes-durable",
            "The disk makes every write durable at once.",
            "early-sync",
            _writes_durable,
        ),
        Sabotage(
            "names-durable",
            "The disk makes names durable with the file.",
            "no-dir-sync",
            _names_durable,
        ),
    )
}


@contextmanager
def sabotaged(name: str) -> Iterator[None]:
    """While entered, what checks the engine is blind in this way.

    Raises:
        KeyError: There is no sabotage of this name.
    """
    planter = Planter()
    try:
        SABOTAGES[name].put(planter)
        yield
    finally:
        planter.restore()
