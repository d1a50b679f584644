"""One database that threads share: what they do with it, and what each has to see.

    World      the database, the model beside it, what somebody was told so far
    Scenario   what two or three threads do with one

Whoever runs them says when they switch (`boltmodel.lanes.threads`). What a thread sees
that it must not see it raises as a `BrokenError`.

What it is not: a judge of crashes. A world notes in its trace what was called and what
was told; the contract says what has to be left of that.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.interpret import DATABASE
from boltmodel.model import EMPTY, ModelTx, difference
from boltmodel.observation import observe
from shearbolt import (
    BoltError,
    DatabaseNotOpenError,
    TxClosedError,
    WouldDeadlockError,
)
from tornpage.disk import Disk
from tornpage.threads import under_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltmodel.model import Bucket
    from shearbolt import Tx
    from shearbolt.database.managed import Managed
    from tornpage.threads import Turns

__all__ = ["SCENARIOS", "BrokenError", "Scenario", "World"]

_KEYS: Final = 12
_BUCKET: Final = b"a"
_READ_AHEAD: Final = 8192


class BrokenError(Exception):
    """A thread saw what it must not see."""


class World:
    """One database, the threads' deeds, and what was promised.

    Args:
        turns: The run.
        options: Of `shearbolt.open`.

    Attributes:
        db: The database.
        disk: The disk it is on.
        states: Content by transaction, of each whose commit was called.
    """

    def __init__(self, turns: Turns, options: dict[str, int | bool]) -> None:
        self.disk = Disk()
        if options.pop("read_ahead", False):
            self.disk.read_ahead = _READ_AHEAD
        self._storage = under_turns(self.disk, turns)
        self._options = options
        self.db = self._open()
        self.states: dict[int, Bucket] = {self.db.info().txid: EMPTY}
        # The newest version that anybody was shown, or told to be committed.
        self._newest = self.db.info().txid
        # The last one to have been changed.
        self._changed: Tx | None = None
        self.disk.mark("told", txid=self._newest)
        for number in range(3):
            self.write(number)

    def _open(self) -> shearbolt.DB:
        # Readers that its handle has begun.
        self._begun = 0
        return shearbolt.open(
            DATABASE,
            storage=self._storage,
            page_size=1024,
            **self._options,  # type: ignore[arg-type]
        )

    # -- what threads do --

    def write(self, number: int) -> None:
        """One commit."""
        with self.db.update() as tx:
            txid = self.change(tx, number)
        self.told(txid)

    def write_slowly(self, number: int) -> None:
        """One commit by a thread that sleeps in the middle of its transaction."""
        with self.db.update() as tx:
            txid = self.change(tx, number)
            self._storage.sleep(1)
        self.told(txid)

    def change(self, tx: Tx, number: int) -> int:
        """Change a third of the pairs; the transaction's id."""
        self.put(
            tx,
            {b"%02d" % at: b"%d" % number * 90 for at in range(number % 3, _KEYS, 3)},
        )
        return tx.txid

    def put(self, tx: Tx, pairs: dict[bytes, bytes]) -> None:
        """Put pairs into a transaction that will be committed, and into the model."""
        model = ModelTx(self._content(tx))
        model.ensure((_BUCKET,))
        bucket = tx.create_bucket_if_not_exists(_BUCKET)
        for key, value in pairs.items():
            model.put((_BUCKET,), key, value)
            bucket.put(key, value)
        self.states[tx.txid] = model.commit()
        self._changed = tx
        self.disk.mark("called", txid=tx.txid)

    def _content(self, tx: Tx) -> Bucket:
        """What a writer has made so far; it begins from the newest version."""
        if self._changed is tx:
            # One function of several in a batch.
            return self.states[tx.txid]
        known = self.states.get(tx.txid - 1)
        if known is None or tx.txid <= self._newest:
            raise BrokenError(
                f"a writer is transaction {tx.txid}, and {self._newest} was committed"
            )
        self._same(tx, known, f"writer {tx.txid}")
        return known

    def told(self, txid: int) -> None:
        """Somebody knows now that this version is committed."""
        self._newest = max(self._newest, txid)
        self.disk.mark("told", txid=txid)

    def view(self) -> Managed:
        """A reader for a `with` block."""
        self._begun += 1
        return self.db.view()

    def begin(self) -> Tx:
        """A reader that somebody has to end."""
        self._begun += 1
        return self.db.begin()

    def read(self) -> None:
        """Look at the newest version, twice."""
        floor = self._newest
        with self.view() as tx:
            if tx.txid < floor:
                raise BrokenError(
                    f"a reader shows transaction {tx.txid}, and {floor} was committed"
                )
            for look in ("reader", "the second look of reader"):
                self._same(tx, self.states[tx.txid], f"{look} {tx.txid}")
            txid = tx.txid
        self.told(txid)

    def get(self) -> None:
        """Ask the newest version for its pairs, one by one, until it has an index."""
        with self.view() as tx:
            promised = self.states[tx.txid].find((_BUCKET,))
            bucket = tx.bucket(_BUCKET)
            for _ in range(3):
                for at in range(_KEYS):
                    key = b"%02d" % at
                    if bucket.get(key) != promised.get(key):
                        raise BrokenError(f"a get of {tx.txid}: {key!r} is another")
            txid = tx.txid
        self.told(txid)

    def _same(self, tx: Tx, promised: Bucket, who: str) -> None:
        differs = difference(promised, observe(tx))
        if differs is not None:
            raise BrokenError(f"{who}: {differs}")

    def forget(self) -> None:
        """Open the database anew, so that its cache is empty."""
        self.db.close()
        self.db = self._open()

    def close(self) -> None:
        """Close the database under the others."""
        self.db.close()

    # -- in the end --

    def settle(self) -> None:
        """Look whether the handle is as it should be, and close the database.

        Raises:
            BrokenError: It is not.
            BoltError: It does not do what it should.
        """
        try:
            self.db.info()
        except DatabaseNotOpenError:
            self.db = self._open()
            newest = self.db.info().txid
            if newest < self._newest or newest not in self.states:
                raise BrokenError(
                    f"opened again it shows transaction {newest}, and {self._newest} "
                    "was committed"
                ) from None
        gc.collect()
        self.write(7)
        self.read()
        with self.view() as tx:
            problems = tx.check()
        if problems:
            raise BrokenError(f"the checker says: {problems[0]}")
        stats = self.db.stats()
        if stats.open_tx_n:
            raise BrokenError(
                f"{stats.open_tx_n} transactions count as open, and none is"
            )
        if stats.tx_n != self._begun:
            raise BrokenError(f"{self._begun} readers began, and {stats.tx_n} count")
        pager = self.db.pager
        if pager.spent < pager.held():
            raise BrokenError(
                f"the cache counts {pager.spent} bytes and holds {pager.held()}"
            )
        self.db.close()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What some threads do with one database.

    Attributes:
        name: Short, with hyphens.
        summary: One line.
        threads: What each does.
        options: Of `shearbolt.open`, with `read_ahead` for the disk.
        allowed: Errors that a thread may get.
        crashes: Whether crashes are judged by the contract of commits with syncs.
    """

    name: str
    summary: str
    threads: Callable[[World], list[Callable[[], object]]]
    options: tuple[tuple[str, int | bool], ...] = ()
    allowed: tuple[type[BoltError], ...] = ()
    crashes: bool = True


def _writes(world: World, *numbers: int) -> Callable[[], None]:
    def write() -> None:
        for number in numbers:
            world.write(number)

    return write


def _readers(world: World) -> list[Callable[[], object]]:
    return [world.read, _writes(world, 3, 4, 5)]


def _two_readers(world: World) -> list[Callable[[], object]]:
    def twice() -> None:
        world.read()
        world.read()

    return [world.read, _writes(world, 3, 4), twice]


def _gets(world: World) -> list[Callable[[], object]]:
    world.forget()
    return [world.get, _writes(world, 3), world.get]


def _writers(world: World) -> list[Callable[[], object]]:
    return [_writes(world, 3, 5), _writes(world, 4, 6)]


def _rolled_back(world: World) -> list[Callable[[], object]]:
    def roll_back() -> None:
        for number in (3, 5):
            tx = world.db.begin(writable=True)
            bucket = tx.bucket(_BUCKET)
            for at in range(_KEYS):
                bucket.put(b"%02d" % at, b"never" * number)
            tx.rollback()

    return [roll_back, _writes(world, 4, 6)]


def _batches(world: World) -> list[Callable[[], object]]:
    """Three calls; one raises, which is nobody else's affair."""
    # So that a full batch is led while another call comes.
    world.db.max_batch_size = 2

    def call(number: int) -> Callable[[], None]:
        def function(tx: Tx) -> int:
            world.put(tx, {b"batch %d" % number: b"x" * 50})
            return tx.txid

        def thread() -> None:
            world.told(world.db.batch(function))
            with world.view() as tx:
                if tx.bucket(_BUCKET).get(b"batch %d" % number) is None:
                    raise BrokenError(f"call {number} of a batch is not there")

        return thread

    def guilty() -> None:
        def function(tx: Tx) -> None:
            tx.bucket(_BUCKET).put(b"guilty", b"x")
            raise ZeroDivisionError

        try:
            world.db.batch(function)
        except ZeroDivisionError:
            return
        raise BrokenError("the error of a batch's function got lost")

    return [call(1), guilty, call(2)]


def _closed(world: World) -> list[Callable[[], object]]:
    return [world.read, world.close, _writes(world, 3, 4)]


def _lost(world: World) -> list[Callable[[], object]]:
    def lose() -> None:
        tx = world.db.begin(writable=True)
        tx.bucket(_BUCKET).put(b"00", b"never")
        del tx
        gc.collect()
        reader = world.begin()
        observe(reader)
        del reader
        gc.collect()

    return [lose, _writes(world, 3, 4)]


def _lost_to_two(world: World) -> list[Callable[[], object]]:
    def lose() -> None:
        tx = world.db.begin(writable=True)
        tx.bucket(_BUCKET).put(b"00", b"never")
        del tx
        gc.collect()

    return [lose, _writes(world, 3), lambda: world.write_slowly(4)]


def _ended(world: World) -> list[Callable[[], object]]:
    """One reads in a transaction that the other ends, whose pages that one then uses.

    What it reads from there on is anybody's guess; what others read is not.
    """
    world.forget()
    tx = world.begin()

    def get() -> None:
        bucket = tx.bucket(_BUCKET)
        for at in range(_KEYS):
            bucket.get(b"%02d" % at)

    def end() -> None:
        tx.rollback()
        for number in (3, 4, 5, 6):
            world.write(number)
        world.read()

    return [get, end]


def _ended_writer(world: World) -> list[Callable[[], object]]:
    """One frees the pages of a bucket in a transaction that the other ends."""
    tx = world.db.begin(writable=True)

    def delete() -> None:
        try:
            tx.delete_bucket(_BUCKET)
        finally:
            with suppress(TxClosedError):
                tx.rollback()

    def end() -> None:
        with suppress(TxClosedError, WouldDeadlockError):
            tx.rollback()
        for number in (3, 4):
            world.write(number)
        world.read()

    return [delete, end]


def _synced(world: World) -> list[Callable[[], object]]:
    return [_writes(world, 3, 4), world.db.sync, world.read]


SCENARIOS: Final = {
    one.name: one
    for one in (
        Scenario("readers", "one reads, one commits three times", _readers),
        Scenario(
            "cold-readers",
            "the same, with a cache for one page",
            _readers,
            (("cache_size", 1),),
        ),
        Scenario(
            "small-cache",
            "the same, with a cache that is too small, and wide reads",
            _two_readers,
            (("cache_size", 3000), ("read_ahead", True)),
        ),
        Scenario("two-readers", "two read, one commits twice", _two_readers),
        Scenario("gets", "two ask for pairs with an empty cache, one commits", _gets),
        Scenario("writers", "two commit twice each", _writers),
        Scenario(
            "rolled-back", "one rolls back twice, one commits twice", _rolled_back
        ),
        Scenario("batches", "three calls to batch, one of which raises", _batches),
        Scenario(
            "closed",
            "one reads, one commits, one closes the database",
            _closed,
            allowed=(DatabaseNotOpenError, TxClosedError),
        ),
        Scenario("lost", "one loses its transactions, one commits twice", _lost),
        Scenario(
            "lost-to-two",
            "one loses a transaction, two commit, one of them slowly",
            _lost_to_two,
        ),
        Scenario(
            "ended",
            "one reads in a transaction that the other ends, and commits",
            _ended,
            allowed=(TxClosedError,),
        ),
        Scenario(
            "ended-writer",
            "one deletes in a transaction that the other ends, and commits",
            _ended_writer,
            allowed=(TxClosedError,),
        ),
        Scenario(
            "synced",
            "one commits without syncs, one syncs, one reads",
            _synced,
            (("no_sync", True),),
            crashes=False,
        ),
    )
}
