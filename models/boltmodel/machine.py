"""The Hypothesis machine: draws operations, crashes and what each crash leaves.

Theory
======
The same `Session` that runs whole programs is driven one rule at a time. What
the crash sweep enumerates, Hypothesis draws: the workload, the crash point, and
every choice of the crashed disk, through one chooser. So a failing example
shrinks in all three at once, and reads "these operations, a crash there, an
honest disk everywhere except ...".

    life 1                  life 2                       life 3
    put commit put -crash-> recover, put commit -crash-> ...
                    |
                    any point of this life's trace, not only its end

A crash does not end the run. What recovery chose among the legal states becomes
the model's state, and what it left undecided on the disk stays undecided: the
next crash can still bring back what the first one had pending. That is the
part the sweep of single programs does not have. A file that is damaged, because
commits in it waited for a sync, is thrown away and a new one made.

`close_points` closes a few crash points exhaustively: all choices, depth first. A
commit is open to a torn meta at one point of its trace and by a few of some forty
choices there, which drawing alone meets too rarely.

What it is not: a proof. It samples; the sweep covers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from boltmodel.contract import Outcome, judge, promise_of
from boltmodel.interpret import READ_AHEAD, LiveFailure, Session
from boltmodel.programs import (
    FREELIST_TYPES,
    Commit,
    CreateBucket,
    Delete,
    DeleteBucket,
    Fill,
    Get,
    MoveBucket,
    NextSequence,
    NoSync,
    Operation,
    Program,
    Put,
    ReaderCheck,
    ReaderClose,
    ReaderOpen,
    Reopen,
    Rollback,
    Scan,
    SetSequence,
    Sync,
    Thin,
    Value,
    fill_key,
)
from boltmodel.recovery import recover
from tornpage.choices import Enumerator
from tornpage.disk import Disk
from tornpage.hypothesis_driver import Drawn
from tornpage.model import CrashModel
from tornpage.trace import Mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltmodel.model import Path

__all__ = ["BrokenPromiseError", "CrashMachine"]

# Tears inside a sector are what the meta page's checksum is for.
_MODEL: Final = CrashModel(tear="byte")

_NAMES: Final = (b"a", b"b", b"deep")
_KEYS: Final = (b"k", b"key", b"apple", b"zebra", b"\x00")
# Inline border of 1 KiB and 4 KiB pages, a page, an overflow run.
_LENGTHS: Final = (5, 0, 100, 223, 224, 991, 992, 1024, 4096, 9000)
_SLOTS: Final = 2

# A commit ends with: pages, sync, meta, sync. From any of these points the two
# before it reach the next interesting one.
_NEIGHBOURS: Final = 2

# Executions for one crash point that `close_points` spends at most. A point that
# needs more is left open; the sweep has the larger cap.
_CAP: Final = 200
# Where nothing is promised there is no end of them, and little to see.
_LOOSE_CAP: Final = 8

_INDEX: Final = st.integers(0, 5)
_SLOT: Final = st.integers(0, _SLOTS - 1)


class BrokenPromiseError(AssertionError):
    """The engine broke its contract."""


class CrashMachine(RuleBasedStateMachine):
    """Operations, commits, readers, openings and crashes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._disk = Disk(model=_MODEL)
        self._options = Program(())
        self._session: Session | None = None
        self._paths: tuple[Path, ...] = ()
        self._keys: tuple[bytes, ...] = ()
        self._values = 0
        # Whether this run switches syncs off, and calls them.
        self._relaxes = False

    @initialize(
        page_size=st.sampled_from((4096, 1024)),
        freelist_type=st.sampled_from(FREELIST_TYPES),
        no_freelist_sync=st.booleans(),
        in_bulk=st.booleans(),
        small_cache=st.booleans(),
        reads_ahead=st.booleans(),
        relaxes=st.sampled_from((False, False, False, True)),
        paths=st.lists(
            st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map(tuple),
            min_size=1,
            max_size=3,
            unique=True,
        ),
        keys=st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3, unique=True),
    )
    def start(
        self,
        page_size: int,
        freelist_type: str,
        no_freelist_sync: bool,
        in_bulk: bool,
        small_cache: bool,
        reads_ahead: bool,
        relaxes: bool,
        paths: list[Path],
        keys: list[bytes],
    ) -> None:
        """Draw the options and the names of this run, and make the database."""
        self._options = Program(
            (),
            page_size,
            freelist_type,
            no_freelist_sync,
            in_bulk=in_bulk,
            small_cache=small_cache,
            reads_ahead=reads_ahead,
        )
        self._paths, self._keys = tuple(paths), tuple(keys)
        self._relaxes = relaxes
        self._begin(base_known=False, outcome=None)

    # -- operations ---------------------------------------------------------------

    @rule(path=_INDEX, key=_INDEX, length=st.sampled_from(_LENGTHS))
    def put(self, path: int, key: int, length: int) -> None:
        """Store a value."""
        self._step(Put(self._path(path), self._key(key), self._value(length)))

    @rule(path=_INDEX, key=_INDEX, length=st.sampled_from(_LENGTHS))
    def put_and_close(self, path: int, key: int, length: int) -> None:
        """Commit a value and judge every crash in the second half of the commit."""
        self._step(Put(self._path(path), self._key(key), self._value(length)))
        self._step(Commit())
        self._close_up_to(len(self._disk.trace.operations()))

    @rule(
        path=_INDEX,
        first=st.sampled_from((0, 20)),
        count=st.sampled_from((3, 20, 60)),
        length=st.sampled_from((5, 60, 120)),
    )
    def fill(self, path: int, first: int, count: int, length: int) -> None:
        """Store many values, so that trees get branches."""
        self._step(Fill(self._path(path), first, count, 1, self._value(length)))

    @rule(
        path=_INDEX,
        start=st.sampled_from((b"", fill_key(10))),
        step=st.sampled_from((1, 2)),
        count=st.sampled_from((5, 60)),
    )
    def thin(self, path: int, start: bytes, step: int, count: int) -> None:
        """Delete many values by cursor, so that pages merge."""
        self._step(Thin(self._path(path), start, step, count))

    @rule(path=_INDEX, key=_INDEX)
    def delete(self, path: int, key: int) -> None:
        """Remove a value."""
        self._step(Delete(self._path(path), self._key(key)))

    @rule(path=_INDEX)
    def nest(self, path: int) -> None:
        """Make a bucket."""
        self._step(CreateBucket(self._path(path)))

    @rule(path=_INDEX)
    def delete_bucket(self, path: int) -> None:
        """Remove a bucket with everything in it."""
        self._step(DeleteBucket(self._path(path)))

    @rule(path=_INDEX, goal=_INDEX)
    def move_bucket(self, path: int, goal: int) -> None:
        """Move a bucket; index 0 is the root."""
        target = self._path(goal) if goal else ()
        self._step(MoveBucket(self._path(path), target))

    @rule(path=_INDEX, number=st.sampled_from((None, 7, 2**64 - 1)))
    def sequence(self, path: int, number: int | None) -> None:
        """Advance or set a sequence."""
        where = self._path(path)
        self._step(
            NextSequence(where) if number is None else SetSequence(where, number)
        )

    @rule(path=_INDEX, key=_INDEX)
    def get(self, path: int, key: int) -> None:
        """Read one key."""
        self._step(Get(self._path(path), self._key(key)))

    @rule(path=_INDEX, key=_INDEX, reverse=st.booleans())
    def scan(self, path: int, key: int, reverse: bool) -> None:
        """Read a range."""
        self._step(Scan(self._path(path), self._key(key), None, reverse))

    @rule()
    def commit(self) -> None:
        """Commit; an empty transaction if none is open."""
        self._step(Commit())

    @rule()
    def roll_back(self) -> None:
        """Roll back."""
        self._step(Rollback())

    @precondition(lambda self: self._relaxes)
    @rule(on=st.booleans())
    def no_sync(self, on: bool) -> None:
        """Switch syncs off or on for the commits to come."""
        self._step(NoSync(on))

    @precondition(lambda self: self._relaxes)
    @rule(path=_INDEX, key=_INDEX)
    def wait_and_sync(self, path: int, key: int) -> None:
        """Commit without a sync, sync, and judge the crashes behind that."""
        self._step(Rollback())
        self._step(NoSync(True))
        self._step(Put(self._path(path), self._key(key), self._value(5)))
        self._step(Commit())
        self._step(Sync())
        self._close_up_to(len(self._disk.trace.operations()))

    @precondition(lambda self: self._relaxes)
    @rule()
    def sync(self) -> None:
        """Make everything durable that waits for it."""
        self._step(Sync())

    @rule(slot=_SLOT)
    def reader_open(self, slot: int) -> None:
        """Open a reader that stays."""
        self._step(ReaderOpen(slot))

    @rule(slot=_SLOT)
    def reader_check(self, slot: int) -> None:
        """Read everything through a reader."""
        self._step(ReaderCheck(slot))

    @rule(slot=_SLOT)
    def reader_close(self, slot: int) -> None:
        """Read everything through a reader and close it."""
        self._step(ReaderClose(slot))

    @rule()
    def reopen(self) -> None:
        """Close cleanly and open again."""
        self._step(Reopen())

    # -- crashes ------------------------------------------------------------------

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Lose power at some point of this life and go on from what is left."""
        operations = self._draw_point(data)
        crashed = self._disk.crash(Drawn(data), operations)
        outcome = recover(crashed, forward=False)
        self._judge(outcome, operations)
        known = promise_of(self._open.history, self._marks(operations)).exists
        self._open.abandon()
        if outcome.error or outcome.problems or outcome.again:
            # It is no violation, so that nothing was promised.
            self._disk = Disk(model=_MODEL)
            self._begin(base_known=False, outcome=None)
            return
        self._disk = crashed
        self._begin(base_known=known, outcome=outcome)

    @precondition(lambda self: self._disk.trace)
    @rule(data=st.data())
    def close_points(self, data: st.DataObject) -> None:
        """Judge all that a crash at neighbouring points may leave; none happens."""
        self._close_up_to(self._draw_point(data))

    def teardown(self) -> None:
        """Compare everything once more and close."""
        session = self._session
        if session is not None:
            self._session = None
            try:
                session.close()
            except LiveFailure as failure:
                session.abandon()
                raise BrokenPromiseError(str(failure)) from failure

    # -- inside -------------------------------------------------------------------

    @property
    def _open(self) -> Session:
        assert self._session is not None, "start() has not run"
        return self._session

    def _path(self, index: int) -> Path:
        return self._paths[index % len(self._paths)]

    def _key(self, index: int) -> bytes:
        return self._keys[index % len(self._keys)]

    def _value(self, length: int) -> Value:
        self._values += 1
        return Value(self._values, length)

    def _begin(self, *, base_known: bool, outcome: Outcome | None) -> None:
        base = outcome.content if base_known and outcome is not None else None
        if self._options.reads_ahead:
            self._disk.read_ahead = READ_AHEAD
        self._session = Session(
            self._options, self._disk, mark=self._disk.mark, base=base
        )
        self._alive(self._session.open)

    def _step(self, op: Operation) -> None:
        self._alive(lambda: self._open.step(op))

    def _alive(self, call: Callable[[], None]) -> None:
        try:
            call()
        except LiveFailure as failure:
            self._open.abandon()
            self._session = None
            raise BrokenPromiseError(str(failure)) from failure

    def _close_up_to(self, last: int) -> None:
        for operations in range(max(0, last - _NEIGHBOURS), last + 1):
            choices = Enumerator()
            promise = promise_of(self._open.history, self._marks(operations))
            for _ in range(_LOOSE_CAP if promise.unsynced else _CAP):
                crashed = self._disk.crash(choices, operations)
                self._judge(recover(crashed, forward=False), operations)
                if not choices.advance():
                    break

    def _draw_point(self, data: st.DataObject) -> int:
        total = len(self._disk.trace.operations())
        # Counted from the end: the newest operations are the simplest.
        # Half of the draws stay within the last commit, where most is pending.
        near, anywhere = st.integers(0, min(total, 4)), st.integers(0, total)
        back = data.draw(near | anywhere, label="operations not reached")
        note(f"crash after {total - back} of {total} operations")
        return total - back

    def _marks(self, operations: int) -> list[Mark]:
        """The marks made before operation number `operations` + 1 began."""
        marks: list[Mark] = []
        passed = 0
        for record in self._disk.trace:
            if isinstance(record, Mark):
                marks.append(record)
            elif passed == operations:
                break
            else:
                passed += 1
        return marks

    def _judge(self, outcome: Outcome, operations: int) -> None:
        history = self._open.history
        broken = judge(history, self._marks(operations), outcome)
        if broken:
            first = broken[0]
            rows = "".join(
                f"\n  {name}: promised {promised}, found {found}"
                for name, promised, found in first.facts
            )
            self._open.abandon()
            self._session = None
            raise BrokenPromiseError(f"{first.property}: {first.message}{rows}")
