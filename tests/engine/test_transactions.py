"""Transactions: beginning, ending, what they see and what is left of them."""

import gc

import pytest
from filling import keys, put

import shearbolt
from shearbolt import (
    DatabaseNotOpenError,
    TxClosedError,
    TxManagedError,
    TxNotWritableError,
)


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
    assert "test.db" in repr(db)


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
