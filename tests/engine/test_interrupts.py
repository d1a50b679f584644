"""Ctrl-C anywhere in the engine loses and damages nothing.

A trace function raises KeyboardInterrupt where a signal handler could (see `places`).
Once, or a second time shortly after, while the first is on its way. Whatever was
interrupted (beginning, changing, committing, rolling back, closing), the transaction is
there or not; the handle goes on writing; the pages in use are those of one version.
"""

import contextlib
import random
import threading

import pytest
from machine import PATH, Machine
from places import Interrupts

import shearbolt
from shearbolt.database import handle
from shearbolt.database.tx import Tx


def filled(options):
    machine = Machine()
    with shearbolt.open(PATH, storage=machine, page_size=1024, **options) as db:
        for number in range(3):
            with db.update() as tx:
                change(tx, number)
    return machine


def change(tx, number):
    """Change two trees, make and delete a bucket."""
    for name in (b"one", b"two"):
        bucket = tx.create_bucket_if_not_exists(name)
        for at in range(number % 3, 40, 3):
            bucket[b"%03d" % at] = b"%d" % number * (60 if at % 9 else 700)
        del bucket[b"%03d" % (number % 3)]
    if number % 2:
        tx.delete_bucket(b"more")
    else:
        tx.create_bucket(b"more")[b"k"] = b"v" * 1500


def content(db):
    with db.view() as tx:
        assert not list(tx.check())
        return {name: dict(tx.bucket(name).items()) for name, _ in tx.buckets()}


def in_a_block(db):
    with db.update() as tx:
        change(tx, 3)


def by_hand(db):
    tx = db.begin(writable=True)
    change(tx, 3)
    tx.commit()


def rolled_back(db):
    tx = db.begin(writable=True)
    change(tx, 3)
    tx.rollback()


def lost(db):
    change(db.begin(writable=True), 3)


def with_an_error(db):
    with contextlib.suppress(ZeroDivisionError), db.update() as tx:
        change(tx, 3)
        raise ZeroDivisionError


WAYS = (in_a_block, by_hand, rolled_back, lost, with_an_error)


def undisturbed(machine, options, way):
    """How many places there are in it, and what is there after it."""
    with shearbolt.open(PATH, storage=machine, **options) as db:
        content(db)
        with Interrupts(()) as whole:
            way(db)
        return whole.count, content(db)


def interrupted(seed):
    """One case: how often it was interrupted."""
    draw = random.Random(seed)
    options = draw.choice(
        ({}, {"freelist_type": "hashmap"}, {"no_freelist_sync": True})
    )
    machine, way = filled(options), draw.choice(WAYS)
    count, changed = undisturbed(machine.power_off(), options, way)
    # The end of a transaction is short, and most delicate.
    first = draw.choice((draw.randrange(count), count - 1 - draw.randrange(200)))
    db = shearbolt.open(PATH, storage=machine, **options)
    seen = content(db)
    reader = db.begin() if draw.random() < 0.3 else None
    places = [first]
    if draw.random() < 0.4:
        places.append(first + draw.choice((1, 5, 50)) * draw.randrange(1, 10))
    try:
        with Interrupts(places) as interrupts:
            way(db)
    except KeyboardInterrupt:
        pass
    happened = len(places) - len(interrupts.places)
    found = content(db)
    assert found in (seen, changed)
    if reader is not None:
        assert dict(reader.bucket(b"one").items()) == seen[b"one"]
    for number in range(3 if found == seen else 4, 9):
        with db.update() as tx:
            if number == 6 and reader is not None:
                assert dict(reader.bucket(b"one").items()) == seen[b"one"]
                reader.rollback()
            change(tx, number)
        found = content(db)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == found
    return happened


@pytest.mark.seeds(1)
def test_an_interrupt_anywhere_leaves_one_version_and_a_handle_that_writes(
    seed, monkeypatch
):
    monkeypatch.setattr(handle, "_PATIENCE", 0.01)
    happened = [interrupted(one) for one in range(seed * 24, (seed + 1) * 24)]
    assert sum(happened) > 18


def by_rollback(tx):
    tx.rollback()


def by_block(tx):
    with tx:
        pass


def by_commit(tx):
    tx.commit()


def written_elsewhere(db):
    """Whether another thread gets to write."""

    def write():
        with db.update() as tx:
            tx.create_bucket_if_not_exists(b"elsewhere")

    # A daemon: it may wait for good.
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


@pytest.mark.parametrize(
    ("way", "writable"),
    [
        (by_rollback, True),
        (by_rollback, False),
        (by_block, True),
        (by_block, False),
        (by_commit, True),
    ],
)
def test_an_interrupted_end_keeps_nobody_waiting_though_the_transaction_is_kept(
    way, writable, monkeypatch
):
    """Its traceback keeps it, say, and the thread that ended it does nothing more."""
    monkeypatch.setattr(handle, "_PATIENCE", 0.01)

    def ended(places):
        db = shearbolt.open(PATH, storage=filled({}), page_size=1024)
        tx = db.begin(writable)
        if writable:
            tx.bucket(b"one")[b"new"] = b"v"
        interrupts = Interrupts(places)
        with contextlib.suppress(KeyboardInterrupt), interrupts:
            way(tx)
        # Else another would write while this one can still be rolled back.
        assert tx.closed is (db._write_tx is None and not db._readers)
        if not tx.closed:
            # It came before the end: whoever has it can end it.
            tx.rollback()
        return db, tx, interrupts.count

    _, _, count = ended(())
    for place in range(max(count - 160, 0), count):
        db, tx, _ = ended((place,))
        assert written_elsewhere(db), place
        assert db.stats().open_tx_n == 0, place
        assert tx.closed


def test_a_second_interrupt_as_a_failed_commit_ends_leaves_no_open_transaction(
    monkeypatch,
):
    """It comes when the first line of ending has not run yet."""
    close, calls = Tx._close, []

    def interrupted_once(self):
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        close(self)

    def interrupt(self):
        raise KeyboardInterrupt

    with shearbolt.open(PATH, storage=Machine(), page_size=1024) as db:
        with db.update() as tx:
            change(tx, 0)
        before = content(db)
        with monkeypatch.context() as patch:
            patch.setattr(Tx, "_close", interrupted_once)
            patch.setattr(Tx, "_write_pages", interrupt)
            with pytest.raises(KeyboardInterrupt) as raised, db.update() as tx:
                change(tx, 1)
        # It is kept by its traceback: nobody would find it lost.
        assert raised.value.__traceback__
        assert calls[-1].closed
        assert content(db) == before
        with db.update() as tx:
            change(tx, 1)
