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


@pytest.fixture
def db(path, monkeypatch):
    monkeypatch.setattr(batch_module, "_PATIENCE", 0.01)
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")
        db.max_batch_size, db.max_batch_delay = 2, 0.01
        yield db


class Told:
    """A condition that says when somebody waits for company."""

    def __init__(self, real, waiting):
        self._real, self._waiting = real, waiting

    def __enter__(self):
        return self._real.__enter__()

    def __exit__(self, *error):
        return self._real.__exit__(*error)

    def wait(self, timeout):
        self._waiting.set()
        return self._real.wait(timeout)

    def notify_all(self):
        self._real.notify_all()


def counting(key):
    def count(tx):
        bucket = tx.bucket(b"b")
        bucket[key] = (bucket.get(key) or b"") + b"1"
        return key

    return count


def counts(db, *keys):
    with db.view() as tx:
        return [len(tx.bucket(b"b").get(key) or b"") for key in keys]


def batch_with_company(db, place, module):
    """A batch whose leader, this thread, is interrupted; another one joins it.

    Returns:
        What the other call gave, and whether there was such a place.
    """
    real, waiting, results = db._batcher._changed, threading.Event(), []
    db._batcher._changed = Told(real, waiting)

    def join():
        waiting.wait(10)
        results.append(db.batch(counting(b"joined %d" % place)))

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    interrupts = places.Interrupts([place], code=(module.__file__,))
    with interrupts, suppress(KeyboardInterrupt):
        db.batch(counting(b"led %d" % place))
    waiting.set()
    thread.join(5)
    db._batcher._changed = real
    if thread.is_alive():
        # It waits for a second look that never comes, and would for ever.
        with real:
            real.notify_all()
        pytest.fail(f"the other call still waits, after an interrupt at {place}")
    return results, not interrupts.places


@pytest.mark.parametrize("module", [batch_module, tx_module])
def test_an_interrupt_of_the_leader_anywhere_lets_the_others_go_once(module, db):
    place, there = 0, True
    while there:
        results, there = batch_with_company(db, place, module)
        assert results == [b"joined %d" % place]
        led, joined = counts(db, b"led %d" % place, b"joined %d" % place)
        assert led <= 1
        assert joined == 1, place
        place += 1
    # The sweep went to the end, and past it.
    assert led == 1
    assert place > 20
    assert db.batch(counting(b"after")) == b"after"


def test_a_batch_waits_no_longer_than_its_delay_says_however_large(db):
    """More seconds than a lock can count are cut into pieces."""
    db.max_batch_delay = 1e300
    results, _ = batch_with_company(db, 1 << 40, batch_module)
    assert results == [b"joined %d" % (1 << 40)]
