"""A transaction that was dropped without an end blocks nobody and holds no pages."""

import gc
import threading

import pytest
from filling import keys, put

from shearbolt import (
    WouldDeadlockError,
)


def test_a_lost_write_transaction_does_not_block_its_own_thread(db, caplog):
    tx = db.begin(writable=True)
    tx.create_bucket(b"lost")
    del tx
    put(db, b"a")
    assert keys(db) == [b"a"]
    assert "lost without commit" in caplog.text
    with db.view() as tx:
        assert [name for name, _ in tx.buckets()] == [b"b"]


def test_a_lost_write_transaction_does_not_block_other_threads(db, monkeypatch):
    monkeypatch.setattr("shearbolt.database.handle._PATIENCE", 0.05)
    tx = db.begin(writable=True)
    tx.create_bucket(b"lost")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (put(db, b"a"), done.set()))
    thread.start()
    assert not done.wait(0.2)
    del tx
    assert done.wait(20)
    thread.join()
    assert keys(db) == [b"a"]


def test_a_lost_reader_gives_its_pages_back(db):
    for i in range(3):
        put(db, b"k", b"%d" % i * 2000)
    tx = db.begin()
    tx.bucket(b"b")
    del tx
    gc.collect()
    for i in range(10):
        put(db, b"k", b"%d" % i * 2000)
    assert db.stats().open_tx_n == 0
    assert db.stats().pending_page_n < 8


def test_a_lost_reader_does_not_end_the_writer(db):
    put(db, b"a")
    reader, writer = db.begin(), db.begin(writable=True)
    del reader
    for _ in range(2):
        with pytest.raises(WouldDeadlockError):
            db.begin(writable=True)
    assert not writer.closed
    writer.bucket(b"b")[b"b"] = b"v"
    writer.commit()
    assert keys(db) == [b"a", b"b"]


def test_a_lost_writer_is_found_beside_an_open_reader(db):
    put(db, b"a")
    reader = db.begin()
    db.begin(writable=True).bucket(b"b")[b"b"] = b"v"
    put(db, b"c")
    assert keys(db) == [b"a", b"c"]
    reader.rollback()


def test_ended_readers_are_not_taken_for_lost_ones(db, caplog):
    for _ in range(100):
        with db.view():
            pass
    gc.collect()
    put(db, b"a")
    assert "lost" not in caplog.text
    assert db._lost == []


def test_an_end_that_interrupts_never_let_begin_is_ended_by_its_own_thread(
    db, monkeypatch
):
    tx = db.begin(writable=True)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(db), "_end_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tx.rollback()
    assert tx.closed
    # Somebody has it still, so it is not lost.
    with db.update() as other:
        other.create_bucket(b"b")
