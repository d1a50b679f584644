"""Programs on a disk whose calls fail: what the engine owes its caller then.

Theory
======
Property E. When the system refuses a call, the caller gets a typed error, and
then one of two things is true of the handle: it works on correctly, or it refuses
to write and says so. Never anything else, and never for good: once the disk
works again, closing and opening does. Except when commits that waited for a sync may be
lost (`unsynced`): then no handle of that process writes the file any more.

An `ErrorSession` runs a program as `interpret` does and excuses exactly the
errors that were injected. After each of them it goes on with the next operation,
on the same handle:

    StorageError during an operation, a fault was injected into it    excused
    DatabaseFailedError, a fault was injected earlier                 excused
    any other error                                                   M, E or R

    op op op X op op ...  | faults are lifted |  aftermath
             '- rolled back

The aftermath is one of three endings:

    continue  readers, content and checker agree; one more commit on the same
              handle; close, open, one more commit
    reopen    close, open, one more commit
    kill      the process dies, another one opens what the page cache shows

A process also dies where the script says so (`fdatasync#5=kill`). Another one goes on
with the next operation, under the rest of the script:

    op op op#  | killed |  open  op op X op ...
                           '- what was acknowledged, or what the dead one was about to
                              commit: the page cache shows it, durable or not

It knows nothing of the first: what the engine remembers of a disk it remembers by
storage, and each process has its own.

One case is a limit of the engine and is left out here, see `ErrorHistory.unhealed`:
a write or sync of a meta has failed, and the process dies before the slot is certain
again. What is known of the doubt dies too, and the page cache shows as durable what is
not. A process that dies between the write of a meta and its sync, nothing having
failed, is no such case.

Nor is there anything to compare with when a sync has failed while commits made with
`no_sync` waited for it, and the page cache has gone back to what the disk has
(fail=revert): the run ends there, see `ErrorHistory.reverted`.

A commit that failed may still have taken effect: its marks say `begin` and no
`acked`. Once a write transaction could begin (mark `certain`) the engine says
that it has not. `error_contract` judges crashes by these marks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from boltmodel.interpret import DATABASE, READ_AHEAD, LiveFailure, Session
from boltmodel.model import EMPTY, Bucket, ModelTx
from boltmodel.programs import Commit, NoSync, Program, Put, Value
from boltmodel.unsynced import Waiting
from shearbolt import (
    BoltError,
    DatabaseFailedError,
    LockTimeoutError,
    StorageError,
)
from shearbolt.database import doubt
from tornpage.faults import FaultyDisk, KilledError, Script
from tornpage.subject import Violation
from tornpage.trace import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shearbolt import Tx
    from shearbolt.storage import Storage
    from tornpage.disk import Disk

__all__ = ["ENDINGS", "Attempt", "ErrorHistory", "ErrorSession", "run_under_errors"]

ENDINGS: Final = ("continue", "reopen", "kill")

# A transient fault meets one try of opening; a script of a few faults, a few.
_TRIES: Final = 6

_AFTER: Final = (b"after the faults",)
_LONG: Final = 700
_SHORT: Final = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A commit that was called, or a content that was opened.

    Attributes:
        txid: Its transaction id; two attempts may have the same one, when the
            first of them failed.
        content: What the database holds if it took effect.
    """

    txid: int
    content: Bucket


@dataclass(slots=True)
class ErrorHistory:
    """What a run under a fault script promised.

    Attributes:
        base: Content before the program; None when it made the database.
        attempts: Everything that may ever be seen; marks refer to it by number.
        loose_txid: As `interpret.History`.
        errors: Names of the errors that were raised and excused, in order.
        refused: Whether the handle refused to write after the faults were lifted.
        takeovers: Processes that died before the program had ended, each followed
            by another one.
        unhealed: Whether a process was to die with a meta slot in doubt.
        reverted: Whether commits that waited for a sync are gone from the page cache.
        live: Promises broken during the run; at most one.
    """

    base: Bucket | None
    attempts: list[Attempt] = field(default_factory=list)
    loose_txid: bool = False
    errors: list[str] = field(default_factory=list)
    refused: bool = False
    takeovers: int = 0
    unhealed: bool = False
    reverted: bool = False
    live: tuple[Violation, ...] = ()


def run_under_errors(
    program: Program, disk: Disk, script: Script, ending: str = "continue"
) -> tuple[ErrorHistory, FaultyDisk]:
    """Run a program while the script's faults happen.

    Args:
        program: What to do.
        disk: An honest disk, new or with a database on it that is empty.
        script: What goes wrong.
        ending: One of `ENDINGS`.

    Returns:
        The history, and the disk in front of `disk` with what was injected.
    """
    if program.reads_ahead:
        disk.read_ahead = READ_AHEAD
    faulty = FaultyDisk(disk, script)
    session = ErrorSession(program, faulty)
    try:
        session.run(ending)
    except LiveFailure as failure:
        session.errors.live = (failure.violation,)
        session.abandon()
    return session.errors, faulty


class ErrorSession(Session):
    """A session that survives injected errors.

    Attributes:
        errors: What it promised, and which errors there were.
    """

    def __init__(self, program: Program, faulty: FaultyDisk) -> None:
        self.errors = ErrorHistory(None, loose_txid=program.no_freelist_sync)
        self._faulty = faulty
        self._program = program
        # Number of the attempt that the database shows.
        self._shown = -1
        # What a process may find that has not opened the database yet.
        self._heritage: list[Bucket] = []
        super().__init__(program, cast("Storage", faulty), mark=self._promise)

    def run(self, ending: str) -> None:
        """The whole program and one of the `ENDINGS`.

        Raises:
            LiveFailure: A promise was broken.
        """
        if self._open_patiently():
            for op in self._program.operations:
                self._excusing(partial(self.step, op))
                if self.errors.reverted:
                    break
                if self._db is None and not self._open_patiently():
                    break
        self._faulty.lift()
        if self.errors.unhealed or self.errors.reverted:
            self.abandon()
        elif self._faulty.read_only:
            # The file system takes nothing more before the next mount. What has
            # been promised so far, the crashes after this run will tell.
            self.errors.refused = True
            self.abandon()
        elif ending == "kill":
            self._die()
            if not self.errors.unhealed:
                self._aftermath(same_handle=False)
        else:
            self._aftermath(same_handle=ending == "continue")

    def in_doubt(self) -> bool:
        """Whether the engine knows of a meta slot that it does not know."""
        disk = self._faulty.disk
        if not disk.exists(DATABASE):
            return False
        identity = disk.open(DATABASE).identity()
        doubts = doubt.known(cast("Storage", self._faulty))
        return doubt.doubt_about(doubts, identity) is not None

    # -- promises ---------------------------------------------------------------

    def _promise(self, label: str, **data: Any) -> None:
        """Number what `interpret` calls by its transaction id."""
        attempts = self.errors.attempts
        if label in {"opened", "begin"}:
            txid = int(data["txid"])
            attempts.append(Attempt(txid, self.history.states[txid]))
        if label in {"opened", "begin", "acked"}:
            data["attempt"] = len(attempts) - 1
        if label in {"opened", "acked"}:
            self._shown = len(attempts) - 1
        if label == "synced":
            data["attempt"] = self._shown
        self._faulty.mark(label, **data)

    def _write_tx(self) -> tuple[Tx, ModelTx]:
        if self._writer is not None:
            return self._writer
        made = super()._write_tx()
        self._faulty.mark("certain")
        return made

    # -- errors -----------------------------------------------------------------

    def _excusing(self, call: Callable[[], None]) -> bool:
        """Make a call that injected errors may end; whether it ended well."""
        hits = len(self._faulty.injected)
        try:
            call()
            if len(self._faulty.injected) > hits:
                self.errors.reverted = self._has_reverted()
        except KilledError:
            self.errors.takeovers += 1
            self._die()
            return False
        except LiveFailure as failure:
            error = failure.__cause__
            self.errors.reverted = self._has_reverted()
            if self.errors.reverted and isinstance(error, BoltError | None):
                return False
            if not self._is_excused(error, hits):
                raise
            self.errors.errors.append(type(error).__name__)
            self._go_on()
            return False
        return True

    def _is_excused(self, error: BaseException | None, hits: int) -> bool:
        if isinstance(error, DatabaseFailedError):
            return not all(one.kills for one in self._faulty.injected)
        if isinstance(error, StorageError | LockTimeoutError):
            return len(self._faulty.injected) > hits
        return False

    def _has_reverted(self) -> bool:
        """Whether the page cache has lost commits that waited for a sync."""
        if self._faulty.model.fail != "revert":
            return False
        waiting = self._waiting()
        return waiting.failed or waiting.lost

    def _waiting(self) -> Waiting:
        waiting = Waiting()
        for record in self._faulty.trace:
            if isinstance(record, Mark):
                waiting.note(record)
        return waiting

    def _go_on(self) -> None:
        """Leave the operation that failed, keep the handle."""
        if self._db is None:
            return
        if self._writer is not None:
            tx, _ = self._writer
            self._writer = None
            if tx.closed:
                self._faulty.mark("failed")
            else:
                self._guard(tx.rollback, "rollback after an error")
        # A read that failed halfway through an operation was left open. When
        # Python would collect it is nobody's choice, so it is ended here.
        kept = {id(reader.tx) for reader in self._readers.values()}
        for handle in list(self._open_db._readers):
            left = handle()
            if left is not None and id(left) not in kept:
                self._guard(left.rollback, "rollback after an error")

    def _answer(self, call: Callable[[], Any], op: Any) -> Any:
        """As `Session`, but the machine's refusals are no answers."""

        def asked() -> Any:
            try:
                return call()
            except (StorageError, DatabaseFailedError) as error:
                refusals.append(error)
                raise

        refusals: list[BoltError] = []
        answer = super()._answer(asked, op)
        if refusals:
            what = type(op).__name__
            raise LiveFailure(_failed_violation(what, refusals[0])) from refusals[0]
        return answer

    def _open_patiently(self) -> bool:
        """Open the database, again when a fault prevented it."""
        for _ in range(_TRIES):
            if self.errors.unhealed:
                break
            if self._excusing(self.open):
                return True
            self.abandon()
        return False

    # -- endings ----------------------------------------------------------------

    def _aftermath(self, *, same_handle: bool) -> None:
        if self._db is not None:
            if same_handle:
                self._roll_back()
                self._one_more_commit(may_refuse=True)
            self.close()
        if not self._open_patiently():
            raise LiveFailure(
                Violation("E errors", "it does not open although the disk works again")
            )
        self._one_more_commit(may_refuse=self._waiting().failed)
        self.close()

    def _one_more_commit(self, *, may_refuse: bool) -> None:
        # While commits wait for a sync a long one is torn in more ways than can be
        # tried; see `relaxing`.
        relaxed = any(isinstance(op, NoSync) for op in self._program.operations)
        length = _SHORT if relaxed else _LONG
        value = Value(9_000_000 + len(self.errors.attempts), length)
        # One that promises something, and makes durable what waits for a sync.
        self.step(NoSync(False))

        def commit() -> None:
            self.step(Put(_AFTER, b"k%d" % value.seed, value))
            self.step(Commit())

        # The error of an earlier sync may be raised now, once.
        if self._excusing(commit) or self._excusing(commit):
            return
        refusal = self.errors.errors[-1] == DatabaseFailedError.__name__
        if not (may_refuse and refusal):
            raise LiveFailure(
                Violation(
                    "E errors",
                    "no commit succeeds although the disk works again, the last "
                    f"error: {self.errors.errors[-1]}",
                )
            )
        self.errors.refused = True

    def _die(self) -> None:
        """The process dies; the next one has what the page cache shows."""
        self.errors.unhealed = self._failed_lately() and self.in_doubt()
        self._heritage = self._legal_now()
        # What the first process knew about its disk dies with it.
        self._faulty = self._faulty.successor()
        self._storage = cast("Storage", self._faulty)
        self._faulty.mark("killed")
        self._readers.clear()
        self._writer = self._db = None

    def _compare(self, tx: Tx, promised: Bucket, prop: str, what: str) -> None:
        """As `Session`; the first look of a process finds one of what is legal."""
        if not self._heritage:
            super()._compare(tx, promised, prop, what)
            return
        for content in self._heritage:
            try:
                super()._compare(tx, content, prop, what)
            except LiveFailure as failure:
                if failure.__cause__ is not None:
                    raise
            else:
                problems = self._guard(tx.check, "check")
                if problems:
                    raise LiveFailure(
                        _heirs_violation(tx.id, f"checker: {problems[0]}")
                    )
                self.committed, self._heritage = content, []
                return
        raise LiveFailure(_heirs_violation(tx.id, "content that no legal one had"))

    def _lately(self) -> Iterator[Mark]:
        """The marks since the engine was certain of its slots, newest first."""
        for record in reversed(self._faulty.trace.data):
            if isinstance(record, Mark):
                if record.label in {"acked", "opened", "certain"}:
                    return
                yield record

    def _failed_lately(self) -> bool:
        return any(
            mark.label == "fault" and not str(mark["script"]).endswith("=kill")
            for mark in self._lately()
        )

    def _legal_now(self) -> list[Bucket]:
        """What a process that knows nothing may see: promised or attempted."""
        attempts = self.errors.attempts
        begun = [int(one["attempt"]) for one in self._lately() if one.label == "begin"]
        legal = [self.committed, *(attempts[number].content for number in begun)]
        if not any(getattr(one, "label", "") == "opened" for one in self._faulty.trace):
            legal.append(EMPTY)
        return legal


def _heirs_violation(txid: int, found: str) -> Violation:
    return Violation(
        "E errors",
        f"after the process died another one sees transaction {txid}, with {found}",
        (("content", "a legal one", found),),
    )


def _failed_violation(what: str, error: BoltError) -> Violation:
    return Violation(
        "M model",
        f"{what} failed on an honest disk: {type(error).__name__}: {error}",
        ((what, "success", type(error).__name__),),
    )
