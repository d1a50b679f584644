"""Who waits for whom: threads and transactions take turns, and none waits for ever."""

import threading
import time

import pytest
from filling import keys, put
from running import run_threads

import shearbolt
from shearbolt import (
    DatabaseNotOpenError,
    TxClosedError,
    WouldDeadlockError,
)


def test_who_fails_to_begin_leaves_the_turn_to_the_next(db, monkeypatch):
    # What an interrupted change has left in doubt is read again, and cannot be.
    db.freelist.in_doubt = True
    # An error that is kept keeps the transaction, and nobody finds it lost.
    errors = []
    with monkeypatch.context() as patch:
        patch.setattr("shearbolt.database.handle.free_ids", lambda *_: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError) as caught:
                db.begin(True)
            errors.append(caught.value)
    with db.update() as tx:
        tx.create_bucket(b"b")


def test_who_fails_to_begin_does_not_take_anothers_turn(db, monkeypatch):
    tx = db.begin(True)
    monkeypatch.setattr(type(db), "_require_healthy", lambda _: 1 / 0)
    failed = []

    def begin():
        try:
            db.begin(True)
        except ZeroDivisionError as error:
            failed.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join(20)
    assert failed
    # Else another one would begin beside it.
    assert db._writes_here(threading.get_ident())
    tx.rollback()


def test_a_reader_and_a_writer_in_one_thread_never_wait_for_each_other(db):
    put(db, b"a")
    with db.view() as reader:
        for i in range(5):
            # Grows the file several times under the reader.
            put(db, b"%d" % i, b"v" * (1 << 20))
            with db.view() as other:
                assert len(other.bucket(b"b")) == i + 2
        assert list(reader.bucket(b"b")) == [b"a"]


def test_a_second_write_transaction_in_one_thread_is_refused_not_hung(db):
    with db.update():
        with pytest.raises(WouldDeadlockError, match="open write"):
            db.begin(writable=True)
        with pytest.raises(WouldDeadlockError):
            db.batch(lambda _: None)
    put(db, b"a")


def test_writers_of_several_threads_take_turns(db):
    def work(name):
        for i in range(20):
            put(db, b"%d-%d" % (name, i))

    run_threads([lambda n=n: work(n) for n in range(4)])
    assert len(keys(db)) == 80


def test_readers_in_many_threads_see_whole_versions_beside_a_writer(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(300):
            bucket[b"%03d" % i] = b"%06d" % 0 * 20
    over = threading.Event()
    versions = set()

    def read():
        while not over.is_set():
            with db.view() as tx:
                values = set(tx.bucket(b"b").values())
                assert len(values) == 1
                versions.update(values)

    def write():
        try:
            for version in range(1, 30):
                with db.update() as tx:
                    bucket = tx.bucket(b"b")
                    for i in range(300):
                        bucket[b"%03d" % i] = b"%06d" % version * 20
        finally:
            over.set()

    run_threads([write, read, read, read])
    assert len(versions) > 1


def test_long_readers_keep_their_version_while_others_come_and_go(db):
    put(db, b"k", b"0")
    readers = []
    for i in range(1, 30):
        readers.append((b"%d" % (i - 1), db.begin()))
        put(db, b"k", b"%d" % i)
        if i % 3 == 0:
            readers.pop(len(readers) // 2)[1].rollback()
        for value, tx in readers:
            assert tx.bucket(b"b")[b"k"] == value
            assert tx.check() == []
    for _, tx in readers:
        tx.rollback()


def test_closing_while_threads_read_and_write_raises_typed_errors_only(path):
    db = shearbolt.open(path, no_sync=True, cache_size=1)
    for i in range(200):
        put(db, b"%d" % i, b"v" * 300)
    started = threading.Barrier(4)

    def endlessly(work):
        started.wait()
        try:
            while True:
                work()
        except (DatabaseNotOpenError, TxClosedError):
            pass

    def close():
        started.wait()
        time.sleep(0.1)
        db.close()

    run_threads(
        [
            lambda: endlessly(lambda: keys(db)),
            lambda: endlessly(lambda: put(db, b"k", b"w" * 500)),
            lambda: endlessly(lambda: db.batch(lambda tx: tx.bucket(b"b"))),
            close,
        ]
    )
    with shearbolt.open(path, timeout=5) as again, again.view() as tx:
        assert tx.check() == []


def test_a_writer_that_waits_hears_of_the_closing(path):
    db = shearbolt.open(path)
    tx = db.begin(writable=True)
    heard = []

    def wait():
        try:
            db.begin(writable=True)
        except DatabaseNotOpenError as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    db.close()
    thread.join(10)
    assert len(heard) == 1
    assert tx.closed


def test_many_threads_open_and_close_one_file(path):
    def work():
        for _ in range(5):
            with shearbolt.open(path, timeout=30, no_sync=True) as db:
                put(db, b"%d" % threading.get_ident())

    run_threads([work] * 4)
    with shearbolt.open(path) as db:
        assert 1 <= len(keys(db)) <= 4
        with db.view() as tx:
            assert tx.id == 21
