"""Threads that really run at the same time, where CPython lets them.

On a build with the global lock they take turns, and these tests show little there. What
can go wrong without it is searched by `boltmodel.lanes.threads --free-threaded`.

SHEARBOLT_THREADED_COMMITS is how many commits the threads make together (40).
"""

import gc
import os
import sys
import threading

import pytest

import shearbolt
from shearbolt import stats
from shearbolt.database import tx as transactions
from shearbolt.pages import pager, shared
from shearbolt.pages.format import Branch, Leaf
from shearbolt.pages.pager import Pager
from shearbolt.pages.shared import SharedPager
from shearbolt.stats import Work
from shearbolt.storage import OSStorage
from shearbolt.storage.free_threading import is_free_threaded
from shearbolt.tree import lookup
from tornpage.disk import Disk
from tornpage.threads import Schedules, under_turns

COMMITS = int(os.environ.get("SHEARBOLT_THREADED_COMMITS", "24"))
KEYS = [b"%04d" % at for at in range(300)]


def together(*bodies):
    """Run these in a thread each, begun at once; what they raised."""
    ready, raised = threading.Barrier(len(bodies)), []

    def work(body):
        ready.wait()
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - handed to the test.
            raised.append(error)

    threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("cache_size", [1, 20_000, 1 << 20])
def test_readers_and_writers_at_once_see_whole_versions(tmp_path, cache_size):
    path = tmp_path / "db"
    with shearbolt.open(path, page_size=1024) as db, db.update() as tx:
        tx.create_bucket(b"a").update(dict.fromkeys(KEYS, b"0" * 40))
    done = threading.Event()
    with shearbolt.open(path, cache_size=cache_size, no_sync=True) as db:

        def write():
            for _ in range(COMMITS // 2):
                with db.update() as tx:
                    bucket = tx.bucket(b"a")
                    value = b"%d" % tx.txid * 10
                    for key in KEYS[tx.txid % 3 :: 3]:
                        bucket.put(key, value)
                    bucket.put(b"last", b"%d" % tx.txid)

        def read(look):
            newest, looks = 0, 0
            while not done.is_set() or not looks:
                with db.view() as tx:
                    assert tx.txid >= newest
                    newest = tx.txid
                    bucket = tx.bucket(b"a")
                    last = bucket.get(b"last")
                    assert last is None or int(last) == newest
                    assert len(look(bucket)) == len(KEYS)
                looks += 1

        def gets(bucket):
            found = [bucket.get(key) for key in KEYS for _ in range(2)][::2]
            assert all(found)
            return found

        def scan(bucket):
            return [pair for pair in bucket.items() if pair[0] != b"last"]

        def writers():
            try:
                assert together(write, write) == []
            finally:
                done.set()

        raised = together(
            writers, lambda: read(gets), lambda: read(gets), lambda: read(scan)
        )
        assert raised == []
        counted = db.stats()
        assert counted.open_tx_n == 0
        assert db.info().txid == 2 + COMMITS // 2 * 2
        with db.view() as tx:
            assert tx.check() == []
        assert db.pager.spent >= db.pager.held()


def test_lost_transactions_of_many_threads_are_ended_once(tmp_path):
    with shearbolt.open(tmp_path / "db", no_sync=True) as db:

        def lose():
            for number in range(5):
                tx = db.begin(writable=True)
                tx.create_bucket_if_not_exists(b"a").put(b"%d" % number, b"x")
                del tx
                gc.collect()

        def commit():
            for number in range(COMMITS // 4):
                with db.update() as tx:
                    tx.create_bucket_if_not_exists(b"b").put(b"%d" % number, b"x")

        assert together(lose, commit, commit) == []
        with db.view() as tx:
            assert tx.check() == []
        assert db.stats().open_tx_n == 0


def test_batches_of_threads_that_run_at_once_keep_every_call(tmp_path):
    with shearbolt.open(tmp_path / "db", no_sync=True) as db:
        db.max_batch_delay = 0.001

        def call(name):
            for number in range(COMMITS // 4):
                db.batch(
                    lambda tx, key=b"%d %d" % (name, number): (
                        tx.create_bucket_if_not_exists(b"a").put(key, b"x")
                    )
                )

        calls = [lambda name=name: call(name) for name in range(4)]
        assert together(*calls) == []
        with db.view() as tx:
            assert len(tx.bucket(b"a")) == 4 * (COMMITS // 4)


def test_a_storage_may_say_whether_its_threads_run_at_once():
    assert (
        is_free_threaded(OSStorage())
        is not getattr(sys, "_is_gil_enabled", lambda: True)()
    )
    disk = Disk()
    for said in (True, False):
        disk.free_threaded = said
        assert is_free_threaded(disk) is said
        with shearbolt.open("/db", storage=disk) as db:
            assert isinstance(db.pager, SharedPager) is said


def test_a_build_that_runs_without_its_lock_has_the_cache_for_that(
    tmp_path, monkeypatch
):
    for has_lock in (False, True):
        monkeypatch.setattr(
            sys, "_is_gil_enabled", lambda now=has_lock: now, raising=False
        )
        with shearbolt.open(tmp_path / "db") as db:
            assert isinstance(db.pager, SharedPager) is not has_lock


def test_the_cache_for_that_takes_in_and_drops_as_the_other_does():
    disk = Disk()
    file = disk.open("/f", create=True)
    for made in (SharedPager(disk, file, 1024), Pager(file, 1024)):
        leaves = [
            Leaf(pgid, 0, (b"k",), (b"v",), 500, has_buckets=False) for pgid in (2, 3)
        ]
        made._take(leaves, made.settled)
        assert list(made.young.values()) == leaves
        made.clear()
        assert not made.young
        assert made.spent == 0


# -- every schedule of small pieces, on any build --


def schedules(once, *modules, switches=2, free_threaded=True):
    code = tuple(module.__file__ for module in modules)
    played = Schedules(once, code, switches=switches, free_threaded=free_threaded)
    for one in played:
        one.require_success()
    return played.played


def test_work_is_added_up_whatever_other_threads_add():
    total, parts = None, [Work(), Work()]
    for part in parts:
        for name in Work.__slots__:
            setattr(part, name, 3)

    def once(turns):
        nonlocal total
        total, mutex = Work(), under_turns(Disk(), turns).mutex()
        yield [lambda part=part: total.add(part, mutex) for part in parts]
        assert {getattr(total, name) for name in Work.__slots__} == {6}

    assert schedules(once, stats) > 50


def leaf(pgid, size=500):
    return Leaf(pgid, 0, (b"k",), (b"v",), size, has_buckets=False)


@pytest.mark.parametrize("budget", [100_000, 1_200])
def test_the_shared_cache_never_counts_less_than_it_has(budget):
    made = None

    def once(turns):
        nonlocal made
        machine = under_turns(Disk(), turns)
        file = machine.open("/f", create=True)
        made = SharedPager(machine, file, 1024, budget)
        made.keep(leaf(2))

        def keep():
            made.keep(leaf(3))
            made.keep(leaf(2))

        def drop():
            made.keep(leaf(4))
            made.forget_all([2])

        yield [keep, drop]
        assert made.held() <= made.spent <= 2_500
        assert made.held() <= budget or len(made.young) + len(made._old) <= 1

    assert schedules(once, shared, pager, switches=1) > 200


@pytest.mark.parametrize("free_threaded", [False, True])
def test_an_index_that_grows_while_another_thread_drops_it_is_counted(free_threaded):
    """Also with the global lock: the cache held more than it counted for ever."""
    made = None

    def once(turns):
        nonlocal made
        machine = under_turns(Disk(), turns)
        file = machine.open("/f", create=True)
        kind = SharedPager if free_threaded else lambda _, *rest: Pager(*rest)
        made = kind(machine, file, 1024, 100_000)
        leaves = [
            Leaf(
                pgid,
                0,
                tuple(b"%d %d" % (pgid, at) for at in range(5)),
                (b"v",) * 5,
                500,
                has_buckets=False,
            )
            for pgid in (2, 3)
        ]
        root = Branch(4, 0, [b"2 0", b"3 0"], [2, 3], 6, b"")
        for page in (*leaves, root):
            made.keep(page)

        def note():
            for page in leaves:
                made.note(root, page)

        yield [note, made.drop_indexes]
        assert made.held() <= made.spent

    # Two need 15 s without the lock.
    switches = 1 if free_threaded else 2
    tried = schedules(
        once, shared, pager, switches=switches, free_threaded=free_threaded
    )
    assert tried > 50


@pytest.mark.parametrize("full", [False, True])
def test_what_is_kept_while_another_thread_drops_pages_stays_counted(full):
    """With the global lock: `self.spent -= f()` reads before the call."""
    made = None

    def once(turns):
        nonlocal made
        file = under_turns(Disk(), turns).open("/f", create=True)
        made = Pager(file, 1024, 1_600 if full else 100_000)
        first = Leaf(2, 0, (b"k",), (b"v",), 500, has_buckets=False)
        root = Branch(4, 0, [b"k"], [2], 1, b"")
        made.keep(first)
        if not full:
            made.note(root, first)
        drop = (lambda: made.keep(leaf(5, 1_200))) if full else made.drop_indexes
        yield [drop, lambda: made.keep(leaf(3))]
        assert made.held() <= made.spent

    # With two a full cache may count too little until it is full the next time.
    tried = schedules(once, pager, switches=1 if full else 2, free_threaded=False)
    assert tried > 10


def test_a_get_under_a_close_ends_with_the_transaction_and_not_with_the_file():
    """Between any two instructions of it, also without the global lock."""
    seen = set()

    def once(turns):
        machine = under_turns(Disk(), turns)
        db = shearbolt.open("/db", storage=machine, page_size=1024, cache_size=1)
        with db.update() as tx:
            tx.create_bucket(b"a").update(dict.fromkeys(KEYS[:60], b"0" * 40))
        tx = db.begin()

        def get():
            try:
                seen.add(tx.bucket(b"a").get(KEYS[30]))
            except shearbolt.TxClosedError:
                seen.add(None)

        yield [get, db.close]

    assert schedules(once, transactions, lookup, switches=1) > 50
    assert seen == {None, b"0" * 40}
