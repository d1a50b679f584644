"""The interpreter: runs a program on the engine and on the model together.

Theory
======
There is one interpreter. The crash sweep runs whole programs through `run`,
the Hypothesis machine drives the same `Session` one operation at a time, so
what one of them means by "put" is what the other means.

Each operation is done twice (`both_sides`) and the two answers are compared: the
value read, the sequence drawn, the pairs scanned, the error raised. The first
disagreement ends the run as a `LiveFailure` that carries a violation:

    M model     engine and model answer differently without any crash
    R readers   an open reader shows something else than when it was opened
    S space     the checker of the engine finds a problem in a live database
    E errors    the engine raised something that is not a BoltError

For the crash sweep the session leaves marks on the disk's trace, and the model
state of every transaction in the history:

    opening                   the database is being opened
    opened   txid=T           it is open and shows transaction T
    begin    txid=T           commit of T was called
    acked    txid=T           commit of T returned
    synced   txid=T           `DB.sync` returned, T was acknowledged last
    closed   txid=T           the database was closed cleanly

Those of a commit that syncs nothing say so: `no_sync=True`.

`begin` stands at the call of commit, not where the transaction opened: until
commit is called nothing of it may ever be seen.

Readers are compared only when an operation says so. A comparison reads every
page of the snapshot into the engine's page cache, and from then on the cache
would hide that a page was reused too early.

A program on a given file may find a gigabyte there, and changes a few pages of it.
There the file is surveyed (`survey`), which takes as long as what has changed, and
the engine's own view is compared around every key that the program has named. Only
what is not found in order is compared in full, to be told in words.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import shearbolt
from boltmodel.both_sides import (
    Refusal,
    do_on_engine,
    do_on_model,
    read_in_engine,
    read_in_model,
)
from boltmodel.model import (
    EMPTY,
    Bucket,
    ModelTx,
    difference,
    path_text,
)
from boltmodel.nearby import Places
from boltmodel.observation import OrderError, observe
from boltmodel.programs import (
    Commit,
    Get,
    NoSync,
    Operation,
    Program,
    ReaderCheck,
    ReaderClose,
    ReaderOpen,
    Reopen,
    Rollback,
    Scan,
    Sync,
)
from boltmodel.survey import survey
from shearbolt import BoltError
from shearbolt.pages.pager import DEFAULT_CACHE_SIZE
from tornpage.disk import Disk
from tornpage.subject import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt import DB, Tx
    from shearbolt.storage import Storage

__all__ = ["DATABASE", "READ_AHEAD", "History", "LiveFailure", "Session", "run"]

# As a real file of the engine's. One piece is a whole file of most programs.
READ_AHEAD: Final = 32768

# The file's name on the simulated disk, in every program.
DATABASE: Final = "/data/bolt.db"


class LiveFailure(Exception):  # noqa: N818 - a finding, not an error of ours.
    """The engine broke a promise while it was running.

    Attributes:
        violation: Which promise, and how.
    """

    def __init__(self, violation: Violation) -> None:
        super().__init__(f"{violation.property}: {violation.message}")
        self.violation = violation


@dataclass(slots=True)
class History:
    """What a run promised.

    Attributes:
        base: Content before the program; None when it made the database.
        states: Content by transaction id, of every commit that was called.
        loose_txid: Opening may commit a transaction of its own (it writes
            the freelist that the file does not hold), so that the recovered
            txid may be one higher than the content's.
        live: Promises broken during the run itself; at most one, since a
            broken engine proves nothing more.
    """

    base: Bucket | None
    states: dict[int, Bucket] = field(default_factory=dict)
    loose_txid: bool = False
    live: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reader:
    """A read transaction that stays open, and what it must go on showing."""

    tx: Tx
    content: Bucket


def run(
    program: Program,
    storage: Storage,
    *,
    mark: Callable[..., None] | None = None,
    base: Bucket | None = None,
    check_commits: bool = False,
) -> History:
    """Run a program and close the database.

    Args:
        program: What to do.
        storage: Where the database lives, as `DATABASE`.
        mark: Called with a label and keywords where a promise begins.
        base: Content the file has; None when there is no file.
        check_commits: Run the engine's checker after every commit.

    Returns:
        The history, with the first broken promise in `live`.
    """
    if program.reads_ahead and isinstance(storage, Disk):
        storage.read_ahead = READ_AHEAD
    session = Session(
        program, storage, mark=mark, base=base, check_commits=check_commits
    )
    try:
        session.open()
        for op in program.operations:
            session.step(op)
        session.close()
    except LiveFailure as failure:
        session.history.live = (failure.violation,)
        session.abandon()
    return session.history


class Session:
    """A database and its model, driven by operations.

    Attributes:
        history: What has been promised so far.
        committed: The content the last acknowledged commit left.
        txid: That commit's transaction id.
    """

    def __init__(
        self,
        options: Program,
        storage: Storage,
        *,
        mark: Callable[..., None] | None = None,
        base: Bucket | None = None,
        check_commits: bool = False,
    ) -> None:
        self.history = History(base, loose_txid=options.no_freelist_sync)
        self.committed = EMPTY if base is None else base
        self.txid = 0
        self._options = options
        self._storage = storage
        self._mark: Callable[..., None] = _ignore if mark is None else mark
        self._check_commits = check_commits
        # What `NoSync` has said last.
        self._no_sync = False
        self._db: DB | None = None
        self._writer: tuple[Tx, ModelTx] | None = None
        self._readers: dict[int, _Reader] = {}
        # What the program has named, in a file that was there before it.
        self._places = None if base is None else Places()

    # -- life -------------------------------------------------------------------

    def open(self) -> None:
        """Open the database and compare it with the model.

        Raises:
            LiveFailure: It does not open, or shows something else.
        """
        options = self._options
        self._mark("opening")
        self._db = self._guard(
            lambda: shearbolt.open(
                DATABASE,
                page_size=options.page_size,
                freelist_type=options.freelist_type,
                no_sync=self._no_sync,
                no_freelist_sync=options.no_freelist_sync,
                cache_size=1 if options.small_cache else DEFAULT_CACHE_SIZE,
                storage=self._storage,
            ),
            "open",
        )
        tx = self._guard(lambda: self._open_db.begin(writable=False), "begin")
        self.txid = tx.id
        self._compare(tx, self.committed, "M model", "after opening")
        self._guard(tx.rollback, "rollback")
        self.history.states[self.txid] = self.committed
        self._mark("opened", txid=self.txid)

    def close(self) -> None:
        """Roll back, compare and close all readers, check, close.

        Raises:
            LiveFailure: A promise was broken.
        """
        self._roll_back()
        for slot in sorted(self._readers):
            self._close_reader(slot)
        self.check()
        self._guard(self._open_db.close, "close")
        self._db = None
        self._mark("closed", txid=self.txid)

    def abandon(self) -> None:
        """Forget the database as it is; it is closed if that works.

        After a broken promise nothing that closing says is of interest, but
        an open handle would outlive the run.
        """
        calls = [reader.tx.rollback for reader in self._readers.values()]
        if self._writer is not None:
            calls.append(self._writer[0].rollback)
        if self._db is not None:
            calls.append(self._db.close)
        self._readers.clear()
        self._writer = self._db = None
        for call in calls:
            with suppress(Exception):
                call()

    def check(self) -> None:
        """Compare the committed content and run the engine's checker.

        Raises:
            LiveFailure: They differ (M), or the checker complains (S).
        """
        tx = self._guard(lambda: self._open_db.begin(writable=False), "begin")
        problems: list[str] = []
        if not self._is_whole(tx, self.committed):
            self._compare_in_full(tx, self.committed, "M model", f"transaction {tx.id}")
            problems = [str(problem) for problem in self._guard(tx.check, "check")]
        self._guard(tx.rollback, "rollback")
        if problems:
            raise LiveFailure(
                Violation(
                    "S space",
                    f"the checker finds {len(problems)} problems in the live "
                    f"database, the first: {problems[0]}",
                    (("check", "no problems", problems[0]),),
                )
            )

    # -- operations -------------------------------------------------------------

    def step(self, op: Operation) -> None:
        """Do one operation on both sides.

        Raises:
            LiveFailure: The answers differ.
        """
        match op:
            case Commit():
                self._commit()
            case Rollback():
                self._roll_back()
            case NoSync(on):
                self._no_sync = on
            case Sync():
                self._guard(self._open_db.sync, "sync")
                self._mark("synced", txid=self.txid)
            case ReaderOpen(slot):
                if slot in self._readers:
                    self._close_reader(slot)
                tx = self._guard(lambda: self._open_db.begin(writable=False), "begin")
                self._readers[slot] = _Reader(tx, self.committed)
            case ReaderCheck(slot):
                self._check_reader(slot)
            case ReaderClose(slot):
                self._close_reader(slot)
            case Reopen():
                self.close()
                self.open()
            case Get() | Scan():
                self._read(op)
            case _:
                self._write(op)

    def _write(self, op: Operation) -> None:
        if self._places is not None:
            self._places.name(op)
        tx, model = self._write_tx()
        expected = do_on_model(op, model)
        options = self._options
        found = self._answer(lambda: do_on_engine(op, tx, options), op)
        _agree(op, expected, found)

    def _read(self, op: Get | Scan) -> None:
        if self._writer is not None:
            tx, model = self._writer
            root = model.root
        else:
            tx = self._guard(lambda: self._open_db.begin(writable=False), "begin")
            root = self.committed
        expected = read_in_model(op, root)
        found = self._answer(lambda: read_in_engine(op, tx), op)
        if self._writer is None:
            self._guard(tx.rollback, "rollback")
        _agree(op, expected, found)

    def _write_tx(self) -> tuple[Tx, ModelTx]:
        if self._writer is None:
            # Between transactions, where the engine says that it may be changed.
            self._open_db.no_sync = self._no_sync
            tx = self._guard(lambda: self._open_db.begin(writable=True), "begin")
            self._writer = tx, ModelTx(self.committed)
        return self._writer

    def _commit(self) -> None:
        tx, model = self._write_tx()
        txid = tx.id
        if txid <= self.txid:
            raise LiveFailure(
                Violation(
                    "M model",
                    f"a write transaction after {self.txid} got the id {txid}",
                    (("txid", f"> {self.txid}", str(txid)),),
                )
            )
        state = model.commit()
        self.history.states[txid] = state
        how = {"no_sync": True} if self._open_db.no_sync else {}
        self._mark("begin", txid=txid, **how)
        self._guard(tx.commit, f"commit of transaction {txid}")
        self._writer = None
        self.committed, self.txid = state, txid
        self._mark("acked", txid=txid, **how)
        if self._check_commits:
            self.check()

    def _roll_back(self) -> None:
        if self._writer is not None:
            tx, _ = self._writer
            self._writer = None
            self._guard(tx.rollback, "rollback")

    def _check_reader(self, slot: int) -> None:
        reader = self._readers.get(slot)
        if reader is not None:
            what = f"reader {slot}, opened at transaction {reader.tx.id}"
            self._compare(reader.tx, reader.content, "R readers", what)

    def _close_reader(self, slot: int) -> None:
        self._check_reader(slot)
        reader = self._readers.pop(slot, None)
        if reader is not None:
            self._guard(reader.tx.rollback, "rollback")

    # -- comparing --------------------------------------------------------------

    @property
    def _open_db(self) -> DB:
        assert self._db is not None, "the session is not open"
        return self._db

    def _compare(self, tx: Tx, promised: Bucket, prop: str, what: str) -> None:
        if not self._is_whole(tx, promised):
            self._compare_in_full(tx, promised, prop, what)

    def _is_whole(self, tx: Tx, promised: Bucket) -> bool:
        """Whether it is soon said that all is as promised, and every page one thing."""
        if self._places is None:
            return False
        total = survey(self._storage, DATABASE, tx.meta)
        return total == promised.total and self._places.agree(tx, promised)

    def _compare_in_full(self, tx: Tx, promised: Bucket, prop: str, what: str) -> None:
        try:
            found = observe(tx)
        except (BoltError, OrderError) as error:
            raise LiveFailure(
                Violation(
                    prop,
                    f"{what} cannot be read: {type(error).__name__}: {error}",
                    (("content", "readable", type(error).__name__),),
                )
            ) from error
        except Exception as error:
            raise LiveFailure(_untyped(what, error)) from error
        differs = difference(promised, found)
        if differs is not None:
            raise LiveFailure(
                Violation(
                    prop,
                    f"{what} shows other content than promised, first at {differs}",
                    ((path_text(differs.path), differs.promised, differs.found),),
                )
            )

    def _answer(self, call: Callable[[], Any], op: Operation) -> Any:
        """What the engine answers: a value, or the refusal as `Refusal`."""
        try:
            return call()
        except BoltError as error:
            return Refusal(type(error).__name__)
        except Exception as error:
            raise LiveFailure(_untyped(type(op).__name__, error)) from error

    def _guard(self, call: Callable[[], Any], what: str) -> Any:
        """Call what must succeed.

        Raises:
            LiveFailure: It did not: M for a typed error, E for any other.
        """
        try:
            return call()
        except BoltError as error:
            raise LiveFailure(
                Violation(
                    "M model",
                    f"{what} failed on an honest disk: {type(error).__name__}: {error}",
                    ((what, "success", type(error).__name__),),
                )
            ) from error
        except Exception as error:
            raise LiveFailure(_untyped(what, error)) from error


def _ignore(label: str, **data: object) -> None:
    """The mark of a run that nobody crashes."""
    del label, data


def _untyped(what: str, error: Exception) -> Violation:
    text = f"{type(error).__name__}: {error}"
    return Violation(
        "E errors",
        f"{what} raised what is not a BoltError: {text}",
        ((what, "a result or a BoltError", type(error).__name__),),
    )


def _agree(op: Operation, expected: object, found: object) -> None:
    if expected != found:
        raise LiveFailure(
            Violation(
                "M model",
                f"{type(op).__name__} of {path_text(getattr(op, 'path', ()))} "
                f"gave {_short(found)}, the model says {_short(expected)}",
                ((type(op).__name__, _short(expected), _short(found)),),
            )
        )


def _short(answer: object) -> str:
    text = answer.name if isinstance(answer, Refusal) else repr(answer)
    return text if len(text) <= 80 else text[:77] + "..."
