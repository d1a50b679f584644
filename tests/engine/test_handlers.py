"""A signal handler or a finalizer may use the database, whatever its thread is doing.

It runs in the middle of something: its thread may be beginning, committing, closing.
It gets what it asks for, or a `WouldDeadlockError` when that would have to wait for its
own thread. It never waits for ever, and what it has interrupted goes on.

Every mutex of these databases fails when its own thread would wait for it.
"""

import contextlib
import gc
import random
import threading

import pytest
from places import Interrupts

import shearbolt
from shearbolt.database import handle
from shearbolt.database.durable import DurableFile
from shearbolt.errors import WouldDeadlockError
from shearbolt.pages.pager import Pager
from shearbolt.storage import OSStorage


@pytest.fixture(autouse=True)
def _small_heap():
    """Whoever is refused has looked for lost transactions in all of the heap."""
    gc.collect()
    gc.freeze()


class DeadlockError(BaseException):
    """A thread waits for itself. (No `Exception`: nobody may take it for a failure.)"""


class Careful:
    """A mutex that a thread cannot wait for while it has it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._holder = None

    def acquire(self, blocking=True, timeout=-1):
        me = threading.get_ident()
        if blocking and timeout < 0 and self._holder == me:
            raise DeadlockError
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._holder = me
        return taken

    def release(self):
        self._holder = None
        self._lock.release()

    def locked(self):
        return self._lock.locked()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


class CarefulStorage(OSStorage):
    """This machine, with mutexes that tell."""

    def mutex(self):
        return Careful()


class Handler:
    """Does with the database what a signal handler could."""

    def __init__(self, db):
        self.db = db
        self.written = 0
        self.refused = 0

    def __call__(self):
        with self.db.view() as tx:
            assert tx.bucket(b"b").get(b"k") == b"v"
        self.db.stats()
        with contextlib.suppress(WouldDeadlockError):
            self.db.sync()
        self.write()
        self.write_in_batch()

    def write(self):
        try:
            with self.db.update() as tx:
                self.put(tx)
        except WouldDeadlockError:
            self.refused += 1
        else:
            self.written += 1

    def write_in_batch(self):
        try:
            self.db.batch(self.put)
        except WouldDeadlockError:
            self.refused += 1
        else:
            self.written += 1

    def put(self, tx):
        tx.bucket(b"b").put(b"handler %d" % self.written, b"v")


def in_a_block(db):
    with db.update() as tx:
        tx.bucket(b"b").put(b"way", b"v" * 500)


def rolled_back(db):
    with contextlib.suppress(ZeroDivisionError), db.update() as tx:
        tx.bucket(b"b").put(b"way", b"other")
        raise ZeroDivisionError


def lost(db):
    db.begin(writable=True).bucket(b"b").put(b"way", b"other")
    gc.collect()
    db.begin(writable=True).rollback()


def in_a_batch(db):
    db.batch(lambda tx: tx.bucket(b"b").put(b"way", b"v" * 500))


def read(db):
    with db.view() as tx:
        assert tx.bucket(b"b").get(b"k") == b"v"


def looked(db):
    db.sync()
    db.stats()


WAYS = (in_a_block, rolled_back, lost, in_a_batch, read, looked)


def opened(path, name):
    db = shearbolt.open(path / f"{name}.db", storage=CarefulStorage(), no_sync=True)
    db.max_batch_delay = 0.0
    with db.update() as tx:
        tx.create_bucket(b"b").put(b"k", b"v")
    return db


def some(count, number, draw):
    """Places to look at: the first and the last are of beginning and ending."""
    wanted = [*range(60), *range(max(count - 120, 0), count), *range(count)]
    return sorted({draw.choice(wanted) % count for _ in range(number)})


def places_of(way, db):
    """The places in it."""
    with Interrupts(()) as whole:
        way(db)
    return whole


@pytest.mark.seeds(1)
@pytest.mark.parametrize("way", WAYS)
def test_a_handler_anywhere_is_served_or_refused(tmp_path, way, seed):
    db = opened(tmp_path, "db")
    whole = places_of(way, db)
    handler = Handler(db)
    places = some(whole.count, 20, random.Random(f"{way.__name__} {seed}"))
    happened = 0
    for place in places:
        with Interrupts([place], handler) as interrupts:
            way(db)
        happened += not interrupts.places
    with db.update() as tx:
        names = [key for key, _ in tx.bucket(b"b").items(prefix=b"handler")]
        assert len(names) == handler.written
        assert tx.bucket(b"b").get(b"way") != b"other"
        assert not tx.check()
    db.close()
    assert happened > len(places) // 2
    assert handler.written + handler.refused >= happened


@pytest.mark.seeds(1)
@pytest.mark.parametrize("way", [in_a_block, in_a_batch, read, rolled_back])
def test_a_handler_that_closes_does_so_or_is_refused(tmp_path, way, seed):
    db = opened(tmp_path, "whole")
    whole = places_of(way, db)
    db.close()
    outcomes = set()
    places = some(whole.count, 12, random.Random(seed))
    for place in places:
        db = opened(tmp_path, f"{place}")

        def close(db=db):
            try:
                db.close()
            except WouldDeadlockError:
                outcomes.add("refused")
            else:
                outcomes.add("closed")

        with contextlib.suppress(shearbolt.BoltError), Interrupts([place], close):
            way(db)
        db.close()
        with shearbolt.open(tmp_path / f"{place}.db", timeout=1) as db, db.view() as tx:
            assert not tx.check()
            assert tx.bucket(b"b").get(b"way") in {None, b"v" * 500}
    assert outcomes <= {"closed", "refused"}
    assert "closed" in outcomes or way in {in_a_block, in_a_batch}


def test_a_handler_does_not_roll_back_what_is_being_committed(tmp_path, monkeypatch):
    """The commit would go on, with pages that somebody else may take."""
    db = opened(tmp_path, "db")
    tx = db.begin(writable=True)
    tx.bucket(b"b").put(b"way", b"v")
    write = Pager.write

    def interrupted(*arguments):
        with pytest.raises(WouldDeadlockError):
            tx.rollback()
        return write(*arguments)

    monkeypatch.setattr(Pager, "write", interrupted)
    tx.commit()
    with db.update() as tx:
        assert tx.bucket(b"b").get(b"way") == b"v"
        assert not tx.check()
    db.close()


def test_a_handler_in_the_middle_of_a_sync_begins_nothing_that_it_could_not_commit(
    tmp_path, monkeypatch
):
    db = opened(tmp_path, "db")
    sync, refused = DurableFile.sync, []

    def interrupted(durable):
        with pytest.raises(WouldDeadlockError) as error:
            db.begin(writable=True)
        refused.append(error)
        sync(durable)

    monkeypatch.setattr(DurableFile, "sync", interrupted)
    db.sync()
    assert len(refused) == 1
    db.close()


def test_a_handler_may_close_what_is_being_closed(tmp_path, monkeypatch):
    db = opened(tmp_path, "db")
    let_go, closed = handle.let_go, []

    def interrupted(*arguments, **options):
        db.close()
        closed.append(db)
        let_go(*arguments, **options)

    monkeypatch.setattr(handle, "let_go", interrupted)
    db.close()
    assert closed == [db]
    shearbolt.open(tmp_path / "db.db", timeout=0).close()
