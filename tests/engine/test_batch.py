"""Batches: many threads, few commits, and nobody spoils it for the others."""

import threading
import time

import pytest

import shearbolt
from shearbolt import MaxSizeReachedError, TxManagedError
from shearbolt.database import batch as batch_module
from shearbolt.database import handle
from shearbolt.database.managed import Managed


@pytest.fixture
def counting(db):
    """The database with a bucket, and a function that counts its commits."""
    with db.update() as tx:
        tx.create_bucket(b"b")
    with db.view() as tx:
        first = tx.id

    def commits():
        with db.view() as tx:
            return tx.id - first

    return db, commits


def together(calls):
    """Run all calls in threads of their own; what each returned or raised."""
    results = [None] * len(calls)

    def run(place):
        try:
            results[place] = calls[place]()
        except BaseException as error:  # noqa: BLE001 - handed to the test.
            results[place] = error

    threads = [threading.Thread(target=run, args=[i]) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def putting(db, key):
    def put(tx):
        tx.bucket(b"b")[key] = b"v"
        return key

    return lambda: db.batch(put)


def keys(db):
    with db.view() as tx:
        return set(tx.bucket(b"b"))


def test_a_batch_is_as_large_and_as_late_as_bbolts(db):
    assert (db.max_batch_size, db.max_batch_delay) == (1000, 0.01)


def test_one_call_is_a_transaction(counting):
    db, commits = counting
    assert putting(db, b"k")() == b"k"
    assert keys(db) == {b"k"}
    assert commits() == 1


def test_calls_of_many_threads_share_a_commit(counting, monkeypatch):
    db, commits = counting
    db.max_batch_delay = 60
    # Nobody looks by himself before the test is over: each has to be rung for.
    monkeypatch.setattr(batch_module, "_PATIENCE", 60)
    db.max_batch_size = 8
    names = [b"%d" % i for i in range(8)]
    began = time.monotonic()
    assert together([putting(db, name) for name in names]) == names
    assert keys(db) == set(names)
    assert commits() == 1
    # A full batch does not wait for the delay.
    assert time.monotonic() - began < 30


def test_a_batch_that_is_not_full_runs_after_the_delay(counting):
    db, commits = counting
    db.max_batch_delay = 0.3
    together([putting(db, b"a"), putting(db, b"b")])
    assert commits() == 1


def test_more_calls_than_fit_make_more_batches(counting):
    db, commits = counting
    db.max_batch_delay = 0.5
    db.max_batch_size = 4
    names = [b"%d" % i for i in range(12)]
    together([putting(db, name) for name in names])
    assert keys(db) == set(names)
    assert 3 <= commits() <= 5


@pytest.mark.parametrize("size", [1, 0, -1])
def test_without_batches_every_call_is_its_own(counting, size):
    db, commits = counting
    db.max_batch_size = size
    together([putting(db, b"%d" % i) for i in range(5)])
    assert commits() == 5


def test_a_call_that_fails_fails_alone_in_its_own_thread(counting):
    db, commits = counting
    db.max_batch_delay = 5
    db.max_batch_size = 5
    threads, runs = [], []

    def bad():
        def fail(tx):
            runs.append(tx.id)
            tx.bucket(b"b")[b"bad"] = b"v"
            raise ZeroDivisionError

        threads.append(threading.get_ident())
        try:
            db.batch(fail)
        except ZeroDivisionError:
            threads.append(threading.get_ident())
            raise

    names = [b"%d" % i for i in range(4)]
    results = together([bad, *(putting(db, name) for name in names)])
    assert isinstance(results[0], ZeroDivisionError)
    assert results[1:] == names
    assert keys(db) == set(names)
    assert threads[0] == threads[1]
    assert len(runs) == 2
    assert commits() == 1


def test_all_calls_may_fail(counting):
    db, commits = counting
    db.max_batch_size, db.max_batch_delay = 3, 5

    def bad():
        db.batch(lambda _: 1 / 0)

    assert all(isinstance(r, ZeroDivisionError) for r in together([bad] * 3))
    assert commits() == 0
    db.max_batch_delay = 0
    putting(db, b"after")()


def test_ending_the_transaction_inside_is_the_callers_own_error(counting):
    db, _ = counting
    with pytest.raises(TxManagedError):
        db.batch(lambda tx: tx.commit())


def test_a_commit_that_fails_is_everybodys_error(path):
    with shearbolt.open(path, max_size=1 << 16, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")
        db.max_batch_size, db.max_batch_delay = 3, 5

        def large():
            def put(tx):
                tx.bucket(b"b")[b"%d" % threading.get_ident()] = b"v" * 100_000

            db.batch(put)

        results = together([large] * 3)
        assert [type(result) for result in results] == [MaxSizeReachedError] * 3
        assert keys(db) == set()


def test_an_interrupt_of_the_leader_leaves_nobody_waiting(counting):
    db, _ = counting
    db.max_batch_size, db.max_batch_delay = 3, 5
    interrupted = []

    def interrupt(tx):
        if not interrupted:
            interrupted.append(threading.get_ident())
            raise KeyboardInterrupt
        tx.bucket(b"b")[b"i"] = b"v"

    results = together(
        [lambda: db.batch(interrupt), putting(db, b"a"), putting(db, b"b")]
    )
    assert sum(isinstance(r, KeyboardInterrupt) for r in results) == 1
    assert keys(db) >= {one for one in results if isinstance(one, bytes)}
    db.max_batch_delay = 0
    putting(db, b"after")()


def test_an_interrupt_of_the_leader_behind_the_commit_repeats_nothing(
    counting, monkeypatch
):
    db, commits = counting
    db.max_batch_size, db.max_batch_delay = 3, 5
    real, interrupted = type(db.durable).publish, []

    def publish(self, meta, sync):
        real(self, meta, sync)
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(type(db.durable), "publish", publish)
    results = together([putting(db, name) for name in (b"a", b"b", b"c")])
    assert sum(isinstance(one, KeyboardInterrupt) for one in results) == 1
    assert keys(db) == {b"a", b"b", b"c"}
    assert commits() == 1


class CancelledError(BaseException):
    """As asyncio's, which is no Exception either."""


def gathered(db, *calls):
    """The calls in one batch, the first of them its leader; what each gave."""
    db.max_batch_size, db.max_batch_delay = len(calls), 30
    results = [None] * len(calls)

    def run(place):
        try:
            results[place] = calls[place]()
        except BaseException as error:  # noqa: BLE001 - handed to the test.
            results[place] = error

    threads = []
    for place in range(len(calls)):
        thread = threading.Thread(target=run, args=[place])
        thread.start()
        threads.append(thread)
        until = time.monotonic() + 30
        # Each has come before the next one does; the last one fills the batch.
        while time.monotonic() < until and place + 1 < len(calls):
            if len(db._batcher._gathering or ()) > place:
                break
            time.sleep(0.001)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    db.max_batch_delay = 0
    return results


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", [CancelledError, GeneratorExit, ZeroDivisionError])
def test_whatever_a_call_raises_is_its_own_and_no_others(counting, kind, place):
    db, commits = counting

    def bad(tx):
        tx.bucket(b"b")[b"bad"] = b"v"
        raise kind("mine")

    calls = [putting(db, b"x"), putting(db, b"y")]
    calls.insert(place, lambda: db.batch(bad))
    results = gathered(db, *calls)
    assert type(results.pop(place)) is kind
    assert results == [b"x", b"y"]
    assert keys(db) == {b"x", b"y"}
    assert commits() == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_may_be_a_signals_is_the_leaders_and_the_others_succeed(counting, kind):
    db, _ = counting
    signals = [kind]

    def met(tx):
        if signals:
            raise signals.pop()
        tx.bucket(b"b")[b"met"] = b"v"
        return b"met"

    results = gathered(
        db, putting(db, b"leader"), lambda: db.batch(met), putting(db, b"z")
    )
    assert type(results[0]) is kind
    assert results[1:] == [b"met", b"z"]
    assert keys(db) == {b"met", b"z"}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_handler_that_raises_is_its_own_calls_error_and_no_others(counting, place):
    db, commits = counting
    called = []

    def handled(name):
        def put(tx):
            tx.bucket(b"b")[name] = b"v"
            tx.on_commit(lambda: called.append((name, threading.get_ident())))
            return name, threading.get_ident()

        return lambda: (db.batch(put)[0], threading.get_ident())

    def bad(tx):
        tx.bucket(b"b")[b"bad"] = b"v"
        tx.on_commit(lambda: 1 / 0)

    calls = [handled(b"x"), handled(b"y")]
    calls.insert(place, lambda: db.batch(bad))
    results = gathered(db, *calls)
    assert type(results.pop(place)) is ZeroDivisionError
    # The transaction is committed all the same, and each in its own thread hears it.
    assert keys(db) == {b"x", b"y", b"bad"}
    assert commits() == 1
    assert sorted(called) == sorted(results)
    assert [name for name, _ in results] == [b"x", b"y"]


def test_handlers_of_a_batch_that_is_not_committed_are_not_called(counting):
    db, _ = counting
    called = []

    def put(tx):
        tx.on_commit(lambda: called.append(1))
        tx.bucket(b"b")[b"k"] = b"v"
        tx.db.max_size = 1
        tx.bucket(b"b")[b"large"] = bytes(1 << 20)

    results = gathered(db, lambda: db.batch(put), lambda: db.batch(put))
    assert [type(each) for each in results] == [MaxSizeReachedError] * 2
    assert called == []


def test_an_interrupt_while_waiting_for_company_lets_the_others_go(
    counting, monkeypatch
):
    db, _ = counting
    real = batch_module._Call.wait
    leader = []

    def wait(self, seconds):
        rung = real(self, seconds)
        # Not the other one, whose call may be run already.
        gathering = db._batcher._gathering
        if not leader and gathering and gathering[0] is self and len(gathering) == 2:
            leader.append(threading.get_ident())
            raise KeyboardInterrupt
        return rung

    monkeypatch.setattr(batch_module._Call, "wait", wait)
    monkeypatch.setattr(batch_module, "_PATIENCE", 0.05)
    db.max_batch_delay = 3
    results = together([putting(db, b"a"), putting(db, b"b")])
    assert sum(isinstance(r, KeyboardInterrupt) for r in results) == 1
    assert len(keys(db)) == 1


def test_a_call_keeps_no_transaction_of_a_leader_that_was_taken_away(
    counting, monkeypatch
):
    """It runs again in one of its own, and that one would wait for the lost one."""
    db, _ = counting
    for module in (batch_module, handle):
        monkeypatch.setattr(module, "_PATIENCE", 0.05)
    end, outcomes, taken = Managed.__exit__, [], []

    def interrupted(block, *error):
        if not taken:
            taken.append(block._writable)
            raise KeyboardInterrupt
        return end(block, *error)

    monkeypatch.setattr(Managed, "__exit__", interrupted)
    db.max_batch_delay, db.max_batch_size = 20, 2

    def run(key):
        # Whoever keeps the interrupt keeps what was at hand.
        try:
            putting(db, key)()
        except KeyboardInterrupt:
            outcomes.append("taken away")
        else:
            outcomes.append("done")

    threads = [threading.Thread(target=run, args=[key]) for key in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert taken == [True]
    assert sorted(outcomes) == ["done", "taken away"]
    assert len(keys(db)) == 1
