"""Ending a transaction waits for nobody, and no version is taken back.

Python ends what a program has lost wherever it happens to be: the collector of cycles
finalizes a generator with a `view()` block in it in the middle of beginning another
transaction. And a version that another thread may have begun to read stays as it is.
"""

import contextlib
import gc
import os
import sys
import threading

import pytest

import shearbolt
from shearbolt.database import doubt, handle
from shearbolt.pages.freelist import ArrayFreelist


class _Meanwhile:
    """A mutex that does something while it is held: what the collector could do.

    Args:
        mutex: The mutex.
        call: Called once, behind the next time it is taken.
    """

    def __init__(self, mutex, call):
        self._mutex = mutex
        self._call = call

    def __enter__(self):
        self._mutex.acquire()
        call, self._call = self._call, lambda: None
        call()

    def __exit__(self, *_):
        self._mutex.release()


def within_seconds(call):
    """Whether it returns."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


def begin_read(db):
    db.begin().rollback()


def begin_write(db):
    db.begin(writable=True).rollback()


def commit(db):
    with db.update() as tx:
        tx.bucket(b"b").put(b"k", b"new")


READERS_AND = [begin_read, begin_write, commit, shearbolt.DB.stats, shearbolt.DB.close]
# There is one writer.
THE_WRITER_AND = [begin_read, shearbolt.DB.stats, shearbolt.DB.close]


@pytest.mark.parametrize(
    ("writable", "busy"),
    [(False, busy) for busy in READERS_AND] + [(True, busy) for busy in THE_WRITER_AND],
)
def test_a_block_that_the_collector_ends_waits_for_no_lock_of_its_own_thread(
    path, writable, busy
):
    db = shearbolt.open(path, no_sync=True)
    with db.update() as tx:
        tx.create_bucket(b"b").put(b"k", b"v")

    def pairs():
        with db.update() if writable else db.view() as tx:
            yield from tx.bucket(b"b").items()

    def run():
        lost = pairs()
        next(lost)
        mutex = db._state
        db._state = db.durable._swapping = _Meanwhile(mutex, lost.close)
        busy(db)
        db._state = db.durable._swapping = mutex

    assert within_seconds(run)
    db.close()
    with shearbolt.open(path) as db, db.update() as tx:
        assert tx.bucket(b"b").get(b"k") == (b"new" if busy is commit else b"v")
        assert not tx.check()


def test_lost_generators_in_cycles_stop_nobody(path):
    db = shearbolt.open(path, no_sync=True)
    with db.update() as tx:
        tx.create_bucket(b"b").update((b"%d" % i, b"v") for i in range(50))

    def lose():
        def pairs():
            with db.view() as tx:
                yield from tx.bucket(b"b").items()

        running = pairs()
        next(running)
        cycle = [running]
        cycle.append(cycle)

    def run():
        before = gc.get_threshold()
        try:
            # Wherever in it the collector runs.
            for threshold in range(1, 60):
                gc.set_threshold(threshold, 1, 1)
                for _ in range(10):
                    lose()
                    begin_read(db)
        finally:
            gc.set_threshold(*before)

    assert within_seconds(run)
    gc.collect()
    begin_read(db)
    assert db.stats().open_tx_n == 0
    db.close()


def test_transactions_that_a_read_only_handle_has_lost_leave_nothing_behind(path):
    shearbolt.open(path).close()
    with shearbolt.open(path, read_only=True) as db:
        for _ in range(5):
            db.begin().root_bucket.cursor()
            gc.collect()
        begin_read(db)
        assert db.stats().open_tx_n == 0
        assert not db._lost


def test_the_work_of_ended_transactions_is_counted_once(db):
    with db.update() as tx:
        tx.create_bucket(b"b")
    for _ in range(3):
        with db.view() as tx:
            tx.bucket(b"b").cursor()
        commit(db)
    assert db.stats().tx_stats.cursor_count == 3
    assert db.stats().tx_stats.cursor_count == 3
    with db.view() as tx:
        tx.bucket(b"b").cursor()
    assert db.stats().tx_stats.cursor_count == 4
    for _ in range(3):
        commit(db)
        # Nor does it wait for who asks: a program may do nothing but commit.
        assert len(db._uncounted) == 1


@pytest.mark.parametrize("twice", [False, True])
def test_a_version_that_somebody_reads_is_not_taken_back(path, monkeypatch, twice):
    monkeypatch.setattr(handle, "_PATIENCE", 0.01)
    db = shearbolt.open(path)
    with db.update() as tx:
        tx.create_bucket(b"b").put(b"k", b"old")
    readers = []
    end = doubt.end

    def interrupted(*arguments):
        # Where another thread could begin to read, before an interrupt arrives.
        if db.durable.live.txid == 3 and len(readers) < 1 + twice:
            readers.append(db.begin())
            raise KeyboardInterrupt
        end(*arguments)

    monkeypatch.setattr(doubt, "end", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        commit(db)
    assert readers[0].bucket(b"b").get(b"k") == b"new"
    with db.view() as tx:
        assert tx.bucket(b"b").get(b"k") == b"new"
    for i in range(5):
        with db.update() as tx:
            tx.bucket(b"b").put(b"k", b"%d" % i * 3000)
            tx.bucket(b"b").put(b"j", b"%d" % i)
        assert not readers[0].check()
        db.pager.clear()
        assert dict(readers[0].bucket(b"b").items()) == {b"k": b"new"}
    db.close()
    with shearbolt.open(path) as db, db.view() as tx:
        assert tx.bucket(b"b").get(b"j") == b"4"


def test_a_version_that_was_read_is_there_when_opened_again(path, monkeypatch):
    db = shearbolt.open(path)
    with db.update() as tx:
        tx.create_bucket(b"b").put(b"k", b"old")
    end, left = doubt.end, [True, True]

    def interrupted(*arguments):
        if db.durable.live.txid == 3 and left:
            left.pop()
            raise KeyboardInterrupt
        end(*arguments)

    monkeypatch.setattr(doubt, "end", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        commit(db)
    with db.view() as tx:
        assert tx.bucket(b"b").get(b"k") == b"new"
    db.close()
    with shearbolt.open(path) as db, db.view() as tx:
        assert tx.bucket(b"b").get(b"k") == b"new"


def test_a_program_that_ends_its_transactions_is_not_said_to_have_lost_one(db, caplog):
    with db.update() as tx:
        tx.create_bucket(b"b")
    begun = threading.Barrier(3)

    def write():
        begun.wait()
        for _ in range(40):
            commit(db)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    begin_write(db)
    assert not caplog.records


class _Overtaken:
    """Makes transactions; something else happens before one is known.

    Args:
        meanwhile: Called once.
        writable: The first one of which kind.
    """

    def __init__(self, meanwhile, *, writable=False):
        self.made = 0
        self._meanwhile = meanwhile
        self._writable = writable

    def __call__(self, *arguments, writable):
        if writable == self._writable:
            self.made += 1
            call, self._meanwhile = self._meanwhile, lambda: None
            call()
        return shearbolt.Tx(*arguments, writable=writable)


def test_a_reader_that_commits_overtake_while_it_begins_reads_the_last_version(
    path, monkeypatch
):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b").update((b"%03d" % i, b"old") for i in range(200))

        def commits():
            for number in range(3):
                with db.update() as tx:
                    bucket = tx.bucket(b"b")
                    bucket.update((b"%03d" % i, b"%d" % number) for i in range(200))

        made = _Overtaken(commits)
        monkeypatch.setattr(handle, "Tx", made)
        reader = db.begin()
        assert made.made == 2
        commits()
        db.pager.clear()
        assert not reader.check()
        assert set(reader.bucket(b"b").values()) == {b"2"}
        reader.rollback()
        assert db.stats().open_tx_n == 0


def test_a_writer_that_commits_overtake_while_it_begins_builds_on_the_last_version(
    db, monkeypatch
):
    with db.update() as tx:
        tx.create_bucket(b"b")

    def commits():
        for number in range(3):
            with db.update() as tx:
                tx.bucket(b"b")[b"%d" % number] = b"other"

    monkeypatch.setattr(handle, "Tx", _Overtaken(commits, writable=True))
    with db.update() as tx:
        tx.bucket(b"b")[b"3"] = b"own"
    with db.view() as tx:
        assert list(tx.bucket(b"b")) == [b"0", b"1", b"2", b"3"]


def test_a_freelist_that_is_read_again_keeps_what_readers_see(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:

        def write(value):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket.update((b"%03d" % i, value) for i in range(200))

        write(b"old")
        reader = db.begin()
        write(b"new")
        # As an interrupt leaves it in the middle of a change.
        db.freelist.in_doubt = True
        for _ in range(3):
            write(b"newer")
        db.pager.clear()
        assert not reader.check()
        assert set(reader.bucket(b"b").values()) == {b"old"}
        reader.rollback()


def test_an_interrupt_as_a_commit_ends_is_told_and_leaves_the_freelist_in_doubt(
    db, monkeypatch
):
    with db.update() as tx:
        tx.create_bucket(b"b")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArrayFreelist, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            commit(db)
    assert db.freelist.in_doubt
    with db.view() as tx:
        assert tx.bucket(b"b")[b"k"] == b"new"
    commit(db)
    # Else each transaction would read again what is known.
    assert not db.freelist.in_doubt
    assert not db.pager.in_doubt


def test_what_ends_a_write_transaction_in_the_middle_of_its_end_does_nothing(
    db, monkeypatch
):
    with db.update() as tx:
        tx.create_bucket(b"b")
    commits, ended = ArrayFreelist.commit, []

    def commit_and_look(freelist, txid):
        ended.append(db._end_write(db._write_tx[0]))
        commits(freelist, txid)

    monkeypatch.setattr(ArrayFreelist, "commit", commit_and_look)
    commit(db)
    assert ended == [False]


def test_a_file_that_was_in_use_is_closed_by_who_used_it_last(path):
    """Not by the handle or a transaction, which a program may keep for ever."""
    db = shearbolt.open(path)
    reader, descriptor = db.begin(), db.pager.file.raw._fd
    os.fstat(descriptor)
    db.close()
    with pytest.raises(OSError, match=r"Bad file descriptor|Invalid handle"):
        os.fstat(descriptor)
    assert reader.closed


def test_a_reader_that_begins_while_the_database_is_closed_is_refused(
    path, monkeypatch
):
    db = shearbolt.open(path)
    monkeypatch.setattr(handle, "Tx", _Overtaken(db.close))
    with pytest.raises(shearbolt.DatabaseNotOpenError):
        db.begin()
    assert not db._readers
