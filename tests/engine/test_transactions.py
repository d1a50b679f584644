"""Transactions: beginning, ending, what they see, who waits for whom."""

import gc
import os
import threading
import time

import pytest

import shearbolt
from shearbolt import (
    DatabaseNotOpenError,
    DatabaseReadOnlyError,
    MaxSizeReachedError,
    OptionError,
    StrictModeError,
    TxClosedError,
    TxManagedError,
    TxNotWritableError,
    WouldDeadlockError,
)


def put(db, key, value=b"v"):
    with db.update() as tx:
        tx.create_bucket_if_not_exists(b"b")[key] = value


def keys(db):
    with db.view() as tx:
        return list(tx.bucket(b"b"))


# -- begin and end --


def test_a_commit_is_seen_by_later_transactions_only(db):
    put(db, b"a")
    reader = db.begin()
    put(db, b"b")
    assert list(reader.bucket(b"b")) == [b"a"]
    assert keys(db) == [b"a", b"b"]
    reader.rollback()


def test_a_rollback_leaves_nothing_behind(db):
    put(db, b"a")
    pages = db.stats().free_page_n, db.stats().pending_page_n
    tx = db.begin(writable=True)
    tx.bucket(b"b")[b"b"] = b"v"
    tx.delete_bucket(b"b")
    tx.rollback()
    assert keys(db) == [b"a"]
    assert sum(pages) == db.stats().free_page_n + db.stats().pending_page_n


def test_an_exception_rolls_back_and_frees_the_writer(db):
    put(db, b"a")
    with pytest.raises(ZeroDivisionError), db.update() as tx:
        tx.bucket(b"b")[b"b"] = b"%d" % (1 / 0)
    put(db, b"c")
    assert keys(db) == [b"a", b"c"]


def test_an_exception_in_a_view_ends_it(db):
    with pytest.raises(ZeroDivisionError), db.view():
        _ = 1 / 0
    assert db.stats().open_tx_n == 0


def test_ids_count_commits_and_are_used_again_after_a_rollback(db):
    put(db, b"a")
    with db.view() as tx:
        first = tx.id
    tx = db.begin(writable=True)
    assert tx.id == first + 1
    tx.rollback()
    assert tx.id == -1
    with db.update() as tx:
        assert tx.id == first + 1
    with db.view() as one, db.view() as other:
        assert one.id == other.id == first + 1


def test_an_empty_commit_counts(db):
    with db.update() as tx:
        before = tx.id
    with db.view() as tx:
        assert tx.id == before


def test_ending_twice_is_refused(db):
    for writable in (False, True):
        tx = db.begin(writable)
        tx.rollback()
        for call in (tx.rollback, tx.commit):
            with pytest.raises(TxClosedError, match="tx closed"):
                call()
    tx = db.begin(writable=True)
    tx.commit()
    for call in (tx.rollback, tx.commit):
        with pytest.raises(TxClosedError):
            call()


def test_a_read_transaction_does_not_commit(db):
    with db.begin() as tx, pytest.raises(TxNotWritableError, match="tx not writable"):
        tx.commit()


@pytest.mark.parametrize("method", ["update", "view"])
def test_a_managed_transaction_is_ended_by_its_block_only(db, method):
    with getattr(db, method)() as tx:
        with pytest.raises(TxManagedError, match="commit not allowed"):
            tx.commit()
        with pytest.raises(TxManagedError, match="rollback not allowed"):
            tx.rollback()
    assert tx.closed


@pytest.mark.parametrize("method", ["update", "view"])
def test_a_block_that_is_entered_twice_leaves_no_transaction_open(db, method):
    block = getattr(db, method)()
    with block as tx:
        with pytest.raises(TxManagedError, match="call it again"), block:
            raise AssertionError
        assert not tx.closed
    assert tx.closed
    assert db.stats().open_tx_n == 0
    with db.update() as again:
        again.create_bucket(b"not blocked by a writer")
    # When its block is over it may be used again.
    with block as other:
        assert other is not tx
        assert other.bucket(b"not blocked by a writer") is not None
    assert db.stats().open_tx_n == 0


def test_a_transaction_in_a_with_block_rolls_back_unless_committed(db):
    with db.begin(writable=True) as tx:
        tx.create_bucket(b"b")
    with db.begin(writable=True) as tx:
        tx.create_bucket(b"c")
        tx.commit()
    with db.view() as tx:
        assert [name for name, _ in tx.buckets()] == [b"c"]


def test_commit_handlers_run_in_order_and_only_after_success(db):
    called = []
    with db.update() as tx:
        tx.on_commit(lambda: called.append(1))
        # All locks are released: a handler may write.
        tx.on_commit(lambda: put(db, b"from the handler"))
        tx.on_commit(lambda: called.append(2))
        assert called == []
    assert called == [1, 2]
    assert keys(db) == [b"from the handler"]
    tx = db.begin(writable=True)
    tx.on_commit(lambda: called.append(3))
    tx.rollback()
    with pytest.raises(TxClosedError):
        tx.on_commit(lambda: called.append(4))
    assert called == [1, 2]


def test_a_handler_that_cannot_be_called_is_refused_before_the_commit(db):
    with db.update() as tx:
        for handler in (None, b"x", 1):
            with pytest.raises(TypeError, match="on_commit takes a function"):
                tx.on_commit(handler)


def test_what_a_handler_raises_comes_out_but_the_commit_stays(db):
    def handler():
        raise ZeroDivisionError

    tx = db.begin(writable=True)
    tx.create_bucket(b"b")[b"k"] = b"v"
    tx.on_commit(handler)
    with pytest.raises(ZeroDivisionError):
        tx.commit()
    assert keys(db) == [b"k"]


def test_size_is_that_of_the_pages_in_use(db):
    with db.view() as tx:
        assert tx.size == 4 * 4096
        assert tx.high_water_mark == 4
    assert repr(tx) == "<shearbolt.Tx 1 read (closed)>"
    assert "/test.db" in repr(db)


# -- who waits for whom --


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


def run_threads(calls):
    failures = []

    def guarded(call):
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - reported below.
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


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
            for version in range(1, 60):
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


# -- lost transactions --


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


def test_what_an_ended_transaction_held_is_freed_at_once(db):
    """Else every commit leaves its nodes to the cyclic collector."""

    def work(tx):
        bucket = tx.create_bucket_if_not_exists(b"b")
        inner = bucket.create_bucket_if_not_exists(b"inner")
        for number in range(2000):
            bucket.put(b"%d" % number, b"v" * 50)
            inner.put(b"%d" % number, b"")
        for number in range(0, 2000, 2):
            bucket.delete(b"%d" % number)

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with db.update() as tx:
                work(tx)
            tx = db.begin(writable=True)
            work(tx)
            tx.rollback()
            with db.view() as tx:
                assert list(tx.bucket(b"b"))
        del tx
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_bucket_outlives_its_transaction_and_says_so(db):
    for end in ("commit", "rollback"):
        tx = db.begin(writable=True)
        bucket = tx.create_bucket_if_not_exists(b"b")
        bucket.put(b"k", b"v")
        getattr(tx, end)()
        for call in (
            lambda: bucket.get(b"k"),  # noqa: B023
            lambda: bucket.put(b"k", b"v"),  # noqa: B023
            lambda: bucket.delete(b"k"),  # noqa: B023
            lambda: bucket.bucket(b"k"),  # noqa: B023
            lambda: list(bucket.items()),  # noqa: B023
            bucket.stats,
            lambda: tx.bucket(b"b"),  # noqa: B023
            lambda: tx.root_bucket,  # noqa: B023
            lambda: list(tx.buckets()),  # noqa: B023
        ):
            with pytest.raises(TxClosedError):
                call()


# -- the end of the database --


def test_nothing_begins_on_a_closed_database(path):
    db = shearbolt.open(path)
    db.close()
    for call in (
        db.begin,
        lambda: db.begin(writable=True),
        db.update().__enter__,
        db.view().__enter__,
        db.sync,
        db.info,
        lambda: db.batch(lambda _: None),
    ):
        with pytest.raises(DatabaseNotOpenError, match="database not open"):
            call()
    db.close()
    assert "closed" in repr(db)
    assert db.path == path


@pytest.mark.parametrize("writable", [False, True])
def test_closing_ends_open_transactions(path, writable):
    db = shearbolt.open(path)
    put(db, b"a")
    tx = db.begin(writable)
    bucket = tx.bucket(b"b")
    cursor = bucket.cursor()
    db.close()
    assert tx.closed
    for call in (tx.rollback, tx.commit, cursor.first, lambda: bucket.get(b"a")):
        with pytest.raises(TxClosedError):
            call()
    # The lock is free.
    with shearbolt.open(path, timeout=1) as again:
        assert keys(again) == [b"a"]


def test_closing_inside_update_is_an_error_of_the_block(path):
    db = shearbolt.open(path)
    with pytest.raises(TxClosedError), db.update():
        db.close()


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


# -- options --


def test_a_read_only_database_refuses_writers(path):
    shearbolt.open(path).close()
    with shearbolt.open(path, read_only=True) as db:
        assert db.read_only
        for call in (
            lambda: db.begin(writable=True),
            db.update().__enter__,
            lambda: db.batch(lambda _: None),
        ):
            with pytest.raises(DatabaseReadOnlyError, match="read-only mode"):
                call()


def test_a_full_database_refuses_and_goes_on(path):
    with shearbolt.open(path, max_size=1 << 20) as db:
        put(db, b"small")
        for _ in range(3):
            with pytest.raises(MaxSizeReachedError, match="maximum size"):
                put(db, b"large", b"v" * (1 << 20))
            put(db, b"small", b"w")
        assert keys(db) == [b"small"]
        assert os.path.getsize(path) <= 1 << 20


@pytest.mark.parametrize(
    ("limit", "options"),
    [
        # bbolt compares with the limit only when its map grows; with a large map
        # the file grows by alloc_size past any limit.
        (3 << 20, {"initial_mmap_size": 1 << 30, "alloc_size": 1 << 20}),
        # And where it compares, with the step, from 2 MiB to 4.
        (3 << 20, {}),
        ((3 << 20) + 1, {}),
        (3 << 20, {"alloc_size": 1 << 20}),
        (1 << 15, {}),
        (40_000, {}),
    ],
)
def test_max_size_is_used_to_the_last_page_and_never_passed(path, limit, options):
    with shearbolt.open(path, max_size=limit, no_sync=True, **options) as db:
        refused = []
        for i in range(limit // 5000 + 10):
            try:
                put(db, b"%d" % i, b"v" * 5_000)
            except MaxSizeReachedError as error:
                refused.append(error)
        assert refused
        for error in refused:
            assert error.needed > error.limit == limit
        assert os.path.getsize(path) == limit
        with db.view() as tx:
            assert limit - 20_000 < tx.size <= limit
            assert tx.check() == []


def test_a_file_larger_than_max_size_opens_and_works(path):
    with shearbolt.open(path) as db, db.update() as tx:
        tx.create_bucket(b"large")[b"k"] = b"v" * (1 << 20)
    with shearbolt.open(path, max_size=1 << 20) as db:
        put(db, b"small")
        assert keys(db) == [b"small"]


def test_the_file_grows_to_initial_mmap_size_at_once(path):
    with shearbolt.open(path, initial_mmap_size=1 << 20) as db:
        put(db, b"a")
    assert os.path.getsize(path) == 1 << 20


def test_strict_mode_stops_a_commit_of_a_broken_tree(path, monkeypatch):
    from shearbolt.pages.freelist import ArrayFreelist

    with shearbolt.open(path, strict_mode=True) as db:
        put(db, b"a", b"v" * 3000)
        put(db, b"a", b"w" * 3000)
        monkeypatch.setattr(ArrayFreelist, "encoded", lambda _: b"")
        with pytest.raises(StrictModeError, match="check fail: page"):
            put(db, b"b")
        monkeypatch.undo()
        put(db, b"c")
        assert keys(db) == [b"a", b"c"]


@pytest.mark.parametrize("kind", ["array", "hashmap"])
@pytest.mark.parametrize("synced", [True, False])
def test_every_kind_of_freelist_can_take_over_from_every_other(path, kind, synced):
    for round_ in range(3):
        other = {"array": "hashmap", "hashmap": "array"}[kind]
        for freelist, no_freelist_sync in ((kind, not synced), (other, synced)):
            with shearbolt.open(
                path, freelist_type=freelist, no_freelist_sync=no_freelist_sync
            ) as db:
                for i in range(5):
                    put(db, b"%d" % (i + round_), b"v" * 3000)
                with db.view() as tx:
                    assert tx.check() == []
    assert os.path.getsize(path) <= 1 << 18


@pytest.mark.parametrize("page_size", [1024, 2048, 4096, 8192, 16384, 32768, 65536])
def test_every_page_size_is_made_and_found_again(path, page_size):
    with shearbolt.open(path, page_size=page_size) as db:
        put(db, b"a", b"v" * 100_000)
    with shearbolt.open(path, page_size=1024) as db:
        assert db.page_size == db.info().page_size == page_size
        assert keys(db) == [b"a"]


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": 512},
        {"page_size": 3000},
        {"page_size": 131072},
        {"page_size": "4096"},
        {"freelist_type": "tree"},
        {"timeout": -1},
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_made(path, options):
    with pytest.raises(OptionError):
        shearbolt.open(path, **options)
    assert not os.path.exists(path)


def test_a_storage_that_cannot_be_remembered_is_refused(path):
    class Storage(shearbolt.storage.OSStorage):
        __hash__ = None

    with pytest.raises(OptionError, match="storage"):
        shearbolt.open(path, storage=Storage())


def test_the_file_may_be_opened_by_the_caller(path):
    asked = []

    def open_file(name, /, **options):
        asked.append((name, options))
        return shearbolt.storage.OSStorage().open(name, **options)

    with shearbolt.open(path, open_file=open_file) as db:
        put(db, b"a")
    assert asked == [(path, {"read_only": False, "create": True, "perm": 0o600})]


@pytest.mark.parametrize("kind", [str, os.fsencode, "pathlib"])
def test_a_path_may_be_text_bytes_or_a_path(path, kind):
    import pathlib

    name = pathlib.Path(path) if kind == "pathlib" else kind(path)
    with shearbolt.open(name) as db:
        put(db, b"a")
    assert os.path.exists(path)


def test_a_new_file_has_the_permissions_asked_for(path):
    mask = os.umask(0)
    try:
        shearbolt.open(path, perm=0o640).close()
    finally:
        os.umask(mask)
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_what_happens_is_logged_under_one_name(path, caplog):
    caplog.set_level("DEBUG", logger="shearbolt")
    shearbolt.open(path).close()
    assert [record.name for record in caplog.records] == ["shearbolt"] * 2
    assert "open, transaction 1" in caplog.text


def test_many_databases_are_open_at_once(tmp_path):
    handles = [shearbolt.open(str(tmp_path / f"{i}.db")) for i in range(50)]
    for i, db in enumerate(handles):
        put(db, b"%d" % i)
    for i, db in enumerate(handles):
        assert keys(db) == [b"%d" % i]
        db.close()


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
