"""A KeyboardInterrupt of a batch's leader, at each place where one can come.

What the leader's call came to only it knows. Everybody else's returns, has been
committed then, and once: what runs here counts how often it was.
"""

import threading
from contextlib import suppress

import places
import pytest

import shearbolt
from shearbolt.database import batch as batch_module
from shearbolt.database import tx as tx_module

CODE = (batch_module.__file__, tx_module.__file__, threading.__file__)
"""Conditions are Python code of the standard library, and would be cut in two."""


@pytest.fixture
def db(path, monkeypatch):
    monkeypatch.setattr(batch_module, "_PATIENCE", 0.01)
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")
        db.max_batch_size, db.max_batch_delay = 3, 0.01
        yield db


def counting(key):
    def count(tx):
        bucket = tx.bucket(b"b")
        bucket[key] = (bucket.get(key) or b"") + b"1"
        return key

    return count


def counts(db, *keys):
    with db.view() as tx:
        return [len(tx.bucket(b"b").get(key) or b"") for key in keys]


def batch_with_company(db, place, monkeypatch, code=CODE):
    """A batch whose leader, this thread, is interrupted; another one joins it.

    Returns:
        What the other call gave, and whether there was such a place.
    """
    real, results = batch_module._Call.wait, []
    # No event: that is Python code as well, and would be interrupted here.
    waits = threading.Lock()
    waits.acquire()

    def tell():
        with suppress(RuntimeError):
            waits.release()

    def wait(self, seconds):
        tell()
        return real(self, seconds)

    def join():
        waits.acquire(timeout=10)
        results.append(db.batch(counting(b"joined %d" % place)))

    with monkeypatch.context() as patch:
        patch.setattr(batch_module._Call, "wait", wait)
        thread = threading.Thread(target=join, daemon=True)
        thread.start()
        interrupts = places.Interrupts([place], code=code)
        with interrupts, suppress(KeyboardInterrupt):
            db.batch(counting(b"led %d" % place))
        tell()
        thread.join(5)
    assert not thread.is_alive(), f"the other waits, after an interrupt at {place}"
    return results, not interrupts.places


def test_an_interrupt_of_the_leader_anywhere_lets_the_others_go_once(db, monkeypatch):
    place, there = 0, True
    while there:
        results, there = batch_with_company(db, place, monkeypatch)
        assert results == [b"joined %d" % place]
        # Nobody joins a batch that has no leader.
        assert db._batcher._gathering is None
        led, joined = counts(db, b"led %d" % place, b"joined %d" % place)
        assert led <= 1
        assert joined == 1, place
        place += 1
    # The sweep went to the end, and past it.
    assert led == 1
    assert place > 60
    assert db.batch(counting(b"after")) == b"after"


def test_a_batch_waits_no_longer_than_its_delay_says_however_large(db, monkeypatch):
    """More seconds than a lock can count are cut into pieces."""
    db.max_batch_size, db.max_batch_delay = 2, 1e300
    results, _ = batch_with_company(db, 1 << 40, monkeypatch)
    assert results == [b"joined %d" % (1 << 40)]


def interrupted_in_two(path, who, where):
    """A batch of two in new threads' turns, one of whom is interrupted.

    Returns:
        How many places that one passed.
    """
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            if b"b" in dict(tx.buckets()):
                tx.delete_bucket(b"b")
            tx.create_bucket(b"b")
        db.max_batch_size, db.max_batch_delay = 2, 0.05
        passed, done, gone = [], set(), threading.Event()

        def call(name):
            with suppress(KeyboardInterrupt):
                if name == who:
                    with places.Interrupts(where) as interrupts:
                        passed.append(interrupts)
                        db.batch(counting(name))
                        done.add(name)
                else:
                    db.batch(counting(name))
                    done.add(name)

        def join():
            while not db._batcher._gathering and not gone.wait(0.0005):
                pass
            call(b"joins")

        thread = threading.Thread(target=join)
        thread.start()
        call(b"leads")
        gone.set()
        thread.join(20)
        assert not thread.is_alive()
        with db.view() as tx:
            found = dict(tx.bucket(b"b"))
        assert done >= {b"leads", b"joins"} - {who}
        assert done <= found.keys()
        assert set(found.values()) <= {b"1"}
        return passed[0].count


@pytest.mark.seeds(1)
@pytest.mark.parametrize("who", [b"leads", b"joins"])
def test_an_interrupt_anywhere_in_the_engine_leaves_nobody_waiting(
    tmp_path, monkeypatch, who, seed
):
    """Of the leader, or of who joins. And what is committed is not done again."""
    monkeypatch.setattr(batch_module, "_PATIENCE", 0.05)
    whole = interrupted_in_two(tmp_path / "db", who, ())
    # The beginning and the end are the batch's own; the commit is between them.
    chosen = {*range(12), *range(max(whole - 20, 0), whole)}
    chosen.update(range(seed % 40, whole, 40))
    for place in sorted(chosen):
        interrupted_in_two(tmp_path / "db", who, [place])
