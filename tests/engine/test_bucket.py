"""Buckets: pairs, sub-buckets, limits and errors in bbolt's order."""

import random

import pytest

import shearbolt
from shearbolt import (
    MAX_KEY_SIZE,
    BucketExistsError,
    BucketNameRequiredError,
    BucketNotFoundError,
    DifferentDatabaseError,
    IncompatibleValueError,
    KeyRequiredError,
    KeyTooLargeError,
    SameBucketsError,
    TxClosedError,
    TxNotWritableError,
    ValueTooLargeError,
)


def filled(db, count=1000, size=20, name=b"b"):
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(name)
        for i in range(count):
            bucket.put(b"%06d" % i, bytes([i % 251]) * size)


# -- pairs --


def test_a_missing_key_reads_as_none_or_the_default(bucket):
    assert bucket.get(b"absent") is None
    assert bucket.get(b"absent", b"instead") == b"instead"
    with pytest.raises(KeyError):
        bucket[b"absent"]


def test_a_put_is_seen_at_once_in_its_transaction(bucket):
    bucket.put(b"baz", b"bat")
    assert bucket.get(b"baz") == b"bat"


def test_a_put_replaces_the_value(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.put(b"foo", b"bar")
        bucket.put(b"foo", b"baz")
    with db.view() as tx:
        assert tx.bucket(b"b")[b"foo"] == b"baz"


def test_the_same_pair_put_again_and_again_stays_one(db):
    for _ in range(20):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"b")
            bucket.put(b"foo", b"bar")
    with db.view() as tx:
        assert list(tx.bucket(b"b").items()) == [(b"foo", b"bar")]


def test_values_of_many_lengths_come_back(db):
    lengths = [0, 1, 15, 16, 991, 992, 1024, 4064, 4096, 4097, 100_000, 1_000_000]
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for length in lengths:
            bucket[b"%d" % length] = b"v" * length
    with db.view() as tx:
        for length in lengths:
            assert tx.bucket(b"b")[b"%d" % length] == b"v" * length


def test_keys_of_the_longest_length_work(db):
    longest = b"k" * MAX_KEY_SIZE
    with db.update() as tx:
        tx.create_bucket(b"b")[longest] = b"v"
    with db.view() as tx:
        assert list(tx.bucket(b"b")) == [longest]


def test_an_empty_value_is_empty_before_and_after_commit(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.put(b"k", b"")
        assert bucket.get(b"k") == b""
        assert b"k" in bucket
    with db.view() as tx:
        assert tx.bucket(b"b").get(b"k") == b""


def test_the_callers_buffer_may_be_changed_after_put(db):
    key, value = bytearray(b"key"), bytearray(b"value")
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.put(key, value)
        key[:] = value[:3] = b"zzz"
    with db.view() as tx:
        assert dict(tx.bucket(b"b")) == {b"key": b"value"}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_call_takes_any_kind_of_bytes(kind, db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.update({b"a": b"1", b"ab": b"2", b"b": b"3", b"c": b"4"})
        assert kind(b"a") in bucket
        assert kind(b"x") not in bucket
        assert bucket[kind(b"a")] == bucket.get(kind(b"a")) == b"1"
        assert list(bucket.keys(prefix=kind(b"a"))) == [b"a", b"ab"]
        assert list(bucket.keys(kind(b"ab"), kind(b"c"))) == [b"ab", b"b"]
        assert list(bucket.values(stop=kind(b"ab"))) == [b"1"]
        assert list(bucket.items(kind(b"b"), reverse=True)) == [
            (b"c", b"4"),
            (b"b", b"3"),
        ]
        assert kind(b"a") in bucket.keys(prefix=kind(b"a"))
        assert kind(b"b") not in bucket.keys(prefix=kind(b"a"))
        assert (kind(b"a"), b"1") in bucket.items()
        assert (kind(b"a"), b"2") not in bucket.items()
        assert bucket.cursor().seek(kind(b"ab")) == (b"ab", b"2")
        assert bucket.setdefault(kind(b"a"), b"new") == b"1"
        assert bucket.pop(kind(b"a")) == b"1"
        assert bucket.pop(kind(b"a"), None) is None
        del bucket[kind(b"ab")]
        bucket.delete(kind(b"b"))
        assert list(bucket) == [b"c"]
        with pytest.raises(KeyError):
            del bucket[kind(b"b")]


@pytest.mark.parametrize("key", ["k", 5, None, ["k"]])
def test_every_call_refuses_what_is_no_bytes_with_the_same_error(key, bucket):
    bucket[b"k"] = b"v"
    calls = [
        lambda: bucket.get(key),
        lambda: bucket[key],
        lambda: key in bucket,
        lambda: bucket.put(key, b""),
        lambda: bucket.delete(key),
        lambda: bucket.__delitem__(key),
        lambda: bucket.pop(key),
        lambda: bucket.setdefault(key, b""),
        lambda: key in bucket.keys(),  # noqa: SIM118 - the view's own answer.
        lambda: (key, b"v") in bucket.items(),
        lambda: bucket.cursor().seek(key),
    ]
    if key is not None:
        calls += [
            lambda: bucket.items(key),
            lambda: bucket.keys(stop=key),
            lambda: bucket.values(prefix=key),
        ]
    for call in calls:
        with pytest.raises(TypeError, match=f" is bytes, not {type(key).__name__}"):
            call()
    assert dict(bucket) == {b"k": b"v"}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_key_may_be_any_kind_of_bytes_wherever_it_is_looked_for(db, kind):
    filled(db, 3)
    for writable in (False, True):
        with db.begin(writable) as tx:
            bucket = tx.bucket(kind(b"b"))
            if writable:
                bucket.put(b"new", b"v")
            assert bucket.get(kind(b"000001")) == b"\1" * 20
            assert bucket.cursor().seek(kind(b"000001"))[0] == b"000001"
            if writable:
                bucket.delete(kind(b"000001"))
                assert bucket.get(b"000001") is None


@pytest.mark.parametrize("wrong", ["text", 7, None])
def test_keys_and_values_that_are_not_bytes_are_refused(bucket, wrong):
    with pytest.raises(TypeError):
        bucket.put(wrong, b"v")
    with pytest.raises(TypeError):
        bucket.put(b"k", wrong)
    with pytest.raises(TypeError):
        bucket.get(wrong)
    with pytest.raises(TypeError):
        bucket.cursor().seek(wrong)
    assert list(bucket) == []


def test_pairs_read_outside_the_bucket_are_of_type_bytes(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.create_bucket(b"inner")[b"k"] = b"v"
        assert bucket.bucket(b"inner")[b"k"].__class__ is bytes
    with db.view() as tx:
        inner = tx.bucket(b"b").bucket(b"inner")
        assert inner[b"k"].__class__ is bytes


# -- put: errors in bbolt's order --


def test_put_in_a_closed_transaction(db):
    with db.begin(writable=True) as tx:
        bucket = tx.create_bucket(b"b")
    with pytest.raises(TxClosedError, match="tx closed"):
        bucket.put(b"", b"")


def test_put_in_a_read_transaction(db):
    filled(db, 1)
    with db.view() as tx, pytest.raises(TxNotWritableError, match="tx not writable"):
        tx.bucket(b"b").put(b"", b"")


NOTHING_TO_DO = {
    "clear": lambda bucket: bucket.clear(),
    "delete": lambda bucket: bucket.delete(b"absent"),
    "delete_many": lambda bucket: bucket.delete_many([]),
    "update": lambda bucket: bucket.update({}),
    "pop": lambda bucket: bucket.pop(b"absent", None),
    "popitem": lambda bucket: bucket.popitem(),
    "setdefault": lambda bucket: bucket.setdefault(b"k", b"v"),
    "create": lambda bucket: bucket.parent.create_bucket_if_not_exists(b"b"),
    "delete_bucket": lambda bucket: bucket.delete_bucket(b"absent"),
    "cursor": lambda bucket: bucket.cursor().delete(),
}


@pytest.mark.parametrize("change", NOTHING_TO_DO.values(), ids=NOTHING_TO_DO)
def test_a_change_is_refused_though_there_is_nothing_to_change(db, change):
    """Or a program that reads only would be right until there is something to do."""
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        if change is NOTHING_TO_DO["setdefault"]:
            bucket[b"k"] = b"v"
    with db.view() as tx:
        bucket = tx.bucket(b"b")
        with pytest.raises(TxNotWritableError):
            change(bucket)
    with pytest.raises(TxClosedError):
        change(bucket)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        tx.delete_bucket(b"b")
        if change not in (NOTHING_TO_DO["create"], NOTHING_TO_DO["cursor"]):
            with pytest.raises(BucketNotFoundError):
                change(bucket)


def test_put_of_an_empty_key(bucket):
    with pytest.raises(KeyRequiredError, match="key required"):
        bucket.put(b"", b"v")


def test_put_of_a_key_that_is_one_byte_too_long(bucket):
    with pytest.raises(KeyTooLargeError, match="key too large"):
        bucket.put(b"k" * (MAX_KEY_SIZE + 1), b"v")


def test_put_of_a_value_that_is_too_long(bucket, monkeypatch):
    monkeypatch.setattr("shearbolt.tree.bucket.MAX_VALUE_SIZE", 10)
    bucket.put(b"k", b"v" * 10)
    with pytest.raises(ValueTooLargeError, match="value too large"):
        bucket.put(b"k", b"v" * 11)


def test_the_largest_value_is_that_of_bbolt():
    assert (shearbolt.MAX_KEY_SIZE, shearbolt.MAX_VALUE_SIZE) == (
        1 << 15,
        (1 << 31) - 2,
    )


def test_the_key_is_judged_before_the_value(bucket, monkeypatch):
    monkeypatch.setattr("shearbolt.tree.bucket.MAX_VALUE_SIZE", 10)
    with pytest.raises(KeyTooLargeError):
        bucket.put(b"k" * (MAX_KEY_SIZE + 1), b"v" * 11)


def test_put_under_the_name_of_a_bucket(bucket):
    bucket.create_bucket(b"inner")
    with pytest.raises(IncompatibleValueError, match="incompatible value"):
        bucket.put(b"inner", b"v")


# -- delete --


def test_a_deleted_key_is_gone_at_once_and_after_commit(db):
    filled(db, 10)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        bucket.delete(b"000003")
        assert bucket.get(b"000003") is None
    with db.view() as tx:
        assert b"000003" not in tx.bucket(b"b")
        assert len(tx.bucket(b"b")) == 9


def test_deleting_what_is_not_there_changes_nothing(db):
    filled(db, 10)
    with db.update() as tx:
        tx.bucket(b"b").delete(b"0000035")
        tx.bucket(b"b").delete(b"")
        with pytest.raises(KeyError):
            del tx.bucket(b"b")[b"0000035"]
    with db.view() as tx:
        assert len(tx.bucket(b"b")) == 10


def test_deleting_a_missing_key_before_a_bucket_is_no_error(bucket):
    # Bbolt looked at the key behind the missing one once (boltdb#349).
    bucket.create_bucket(b"b")
    bucket.delete(b"a")
    assert [name for name, _ in bucket.buckets()] == [b"b"]


def test_delete_under_the_name_of_a_bucket(bucket):
    bucket.create_bucket(b"inner")
    with pytest.raises(IncompatibleValueError):
        bucket.delete(b"inner")


def test_delete_in_a_read_transaction(db):
    filled(db, 1)
    with db.view() as tx, pytest.raises(TxNotWritableError):
        tx.bucket(b"b").delete(b"000000")


def test_delete_in_a_closed_transaction(db):
    with db.begin(writable=True) as tx:
        bucket = tx.create_bucket(b"b")
    with pytest.raises(TxClosedError):
        bucket.delete(b"k")


def test_everything_can_be_deleted_in_random_order(db):
    filled(db, 2000, 40)
    keys = [b"%06d" % i for i in range(2000)]
    random.Random(1).shuffle(keys)
    for start in range(0, 2000, 400):
        with db.update() as tx:
            for key in keys[start : start + 400]:
                tx.bucket(b"b").delete(key)
        with db.view() as tx:
            assert tx.check() == []
            assert list(tx.bucket(b"b")) == sorted(keys[start + 400 :])


def test_large_values_can_be_deleted(db):
    filled(db, 100, 5000)
    with db.update() as tx:
        tx.bucket(b"b").clear()
    with db.view() as tx:
        assert list(tx.bucket(b"b")) == []


# -- buckets --


def test_a_bucket_in_a_bucket_in_a_bucket(db):
    with db.update() as tx:
        inner = tx.create_bucket(b"a").create_bucket(b"b").create_bucket(b"c")
        inner[b"k"] = b"v"
        assert inner.path == (b"a", b"b", b"c")
    with db.view() as tx:
        assert tx.bucket(b"a").bucket(b"b").bucket(b"c")[b"k"] == b"v"


def test_a_thousand_levels_of_buckets(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"n")
        for _ in range(1000):
            bucket = bucket.create_bucket(b"n")
        bucket[b"k"] = b"v"
    with db.view() as tx:
        assert tx.check() == []
        assert tx.bucket(b"n").stats().bucket_n == 1001
    with db.update() as tx:
        tx.delete_bucket(b"n")


def test_sub_buckets_do_not_disturb_their_parents_pairs(db):
    filled(db, 500)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        inner = bucket.create_bucket(b"0001-inner")
        for i in range(500):
            inner[b"%d" % i] = b"x" * 50
    with db.view() as tx:
        bucket = tx.bucket(b"b")
        assert len(bucket) == 500
        assert len(bucket.bucket(b"0001-inner")) == 500


def test_the_same_name_gives_the_same_object_in_a_write_transaction(db):
    with db.update() as tx:
        made = tx.create_bucket(b"b")
        assert tx.bucket(b"b") is made


def test_a_name_may_be_any_kind_of_bytes(db):
    with db.update() as tx:
        made = tx.create_bucket(bytearray(b"a"))
        made.create_bucket_if_not_exists(memoryview(b"m"))
        made.move_bucket(bytearray(b"m"), tx.create_bucket(b"b"))
        tx.bucket(b"b").delete_bucket(bytearray(b"m"))
        assert made.name.__class__ is bytes
    with db.view() as tx:
        assert [name for name, _ in tx.buckets()] == [b"a", b"b"]
        assert list(tx.bucket(b"b").buckets()) == []


def test_create_bucket_errors(db):
    with db.update() as tx:
        tx.create_bucket(b"b")[b"key"] = b"v"
        with pytest.raises(BucketExistsError, match="bucket already exists"):
            tx.create_bucket(b"b")
        with pytest.raises(BucketNameRequiredError, match="bucket name required"):
            tx.create_bucket(b"")
        with pytest.raises(IncompatibleValueError):
            tx.bucket(b"b").create_bucket(b"key")
        with pytest.raises(IncompatibleValueError):
            tx.bucket(b"b").create_bucket_if_not_exists(b"key")
        with pytest.raises(BucketNameRequiredError):
            tx.create_bucket_if_not_exists(b"")
    with db.view() as tx, pytest.raises(TxNotWritableError):
        tx.create_bucket(b"")
    with pytest.raises(TxClosedError):
        tx.create_bucket(b"")


def test_a_bucket_name_may_be_longer_than_any_key(db):
    name = b"n" * 40_000
    with db.update() as tx:
        tx.create_bucket(name)[b"k"] = b"v"
    with db.view() as tx:
        assert tx.bucket(name)[b"k"] == b"v"


def test_create_if_not_exists_opens_what_is_there(db):
    filled(db, 5)
    with db.update() as tx:
        assert len(tx.create_bucket_if_not_exists(b"b")) == 5


def test_a_plain_key_is_not_a_bucket(db):
    filled(db, 1)
    with db.view() as tx, pytest.raises(BucketNotFoundError):
        tx.bucket(b"b").bucket(b"000000")
    with db.view() as tx, pytest.raises(BucketNotFoundError, match="bucket not found"):
        tx.bucket(b"absent")


def test_a_bucket_is_not_a_plain_key(bucket):
    bucket.create_bucket(b"inner")
    assert bucket.get(b"inner") is None
    assert b"inner" not in bucket
    assert list(bucket.items()) == []
    assert not bucket


def test_a_deleted_bucket_is_gone_and_may_be_made_again(db):
    filled(db, 500)
    with db.update() as tx:
        tx.delete_bucket(b"b")
        with pytest.raises(BucketNotFoundError):
            tx.bucket(b"b")
        assert len(tx.create_bucket(b"b")) == 0
    with db.view() as tx:
        assert len(tx.bucket(b"b")) == 0


def test_a_handle_of_a_deleted_bucket_reads_empty_and_refuses_writes(db):
    filled(db, 50)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        inner = bucket.create_bucket(b"inner")
        cursor = bucket.cursor()
        cursor.first()
        tx.delete_bucket(b"b")
        assert list(bucket) == list(inner) == []
        assert cursor.next() is None
        cursor.delete()
        for handle in (bucket, inner):
            with pytest.raises(BucketNotFoundError):
                handle.put(b"k", b"v")


def test_delete_bucket_errors(db):
    with db.update() as tx:
        tx.create_bucket(b"b")[b"key"] = b"v"
        with pytest.raises(BucketNotFoundError):
            tx.delete_bucket(b"absent")
        with pytest.raises(IncompatibleValueError):
            tx.bucket(b"b").delete_bucket(b"key")
        for bucket in (tx.bucket(b"b"), tx.create_bucket(b"empty")):
            with pytest.raises(BucketNotFoundError):
                bucket.delete_bucket(b"")
    with db.view() as tx, pytest.raises(TxNotWritableError):
        tx.delete_bucket(b"b")
    with pytest.raises(TxClosedError):
        tx.delete_bucket(b"b")


def test_deleting_nested_buckets_frees_every_page(db):
    with db.update() as tx:
        top = tx.create_bucket(b"top")
        for i in range(20):
            child = top.create_bucket(b"%02d" % i)
            for j in range(20):
                child.create_bucket(b"%02d" % j)[b"k"] = b"v" * 900
    with db.update() as tx:
        tx.bucket(b"top")[b"dirty"] = b"v" * 700
        tx.delete_bucket(b"top")
    with db.view() as tx:
        assert tx.check() == []
        assert list(tx.buckets()) == []


def test_deleting_a_changed_bucket_leaks_no_page(db):
    # bbolt skips a bucket here and leaks page 4 (its check says so).
    with db.update() as tx:
        x = tx.create_bucket(b"a").create_bucket(b"x")
        x.create_bucket(b"zz").create_bucket(b"y")
        x.create_bucket(b"y").create_bucket(b"y")
    with db.update() as tx:
        a = tx.bucket(b"a")
        a.bucket(b"x").put(b"k", b"v" * 700)
        a.delete_bucket(b"x")
    with db.view() as tx:
        assert tx.check() == []


# -- move --


def test_a_moved_bucket_keeps_what_this_transaction_changed(db):
    with db.update() as tx:
        source, target = tx.create_bucket(b"s"), tx.create_bucket(b"t")
        moved = source.create_bucket(b"m")
        moved[b"k"] = b"v"
        moved.set_sequence(7)
        moved.create_bucket(b"inner")[b"i"] = b"j"
        source.move_bucket(b"m", target)
        moved[b"after"] = b"w"
        assert moved.path == (b"t", b"m")
    with db.view() as tx:
        moved = tx.bucket(b"t").bucket(b"m")
        assert dict(moved) == {b"k": b"v", b"after": b"w"}
        assert moved.sequence == 7
        assert moved.bucket(b"inner")[b"i"] == b"j"
        assert list(tx.bucket(b"s").buckets()) == []


@pytest.mark.parametrize("size", [1, 900, 9000])
@pytest.mark.parametrize("deep", [False, True])
def test_buckets_of_all_sizes_move_between_levels(db, size, deep):
    with db.update() as tx:
        source = tx.create_bucket(b"s")
        target = tx.create_bucket(b"t").create_bucket(b"u") if deep else tx.root_bucket
        for i in range(20):
            source.create_bucket_if_not_exists(b"m")[b"%d" % i] = b"v" * size
    with db.update() as tx:
        source = tx.bucket(b"s")
        target = tx.bucket(b"t").bucket(b"u") if deep else tx.root_bucket
        source.move_bucket(b"m", target)
    with db.view() as tx:
        home = tx.bucket(b"t").bucket(b"u") if deep else tx.root_bucket
        assert len(home.bucket(b"m")) == 20
        with pytest.raises(BucketNotFoundError):
            tx.bucket(b"s").bucket(b"m")


def test_a_transaction_moves_buckets_from_and_to_the_top(db):
    with db.update() as tx:
        tx.create_bucket(b"a").create_bucket(b"m")[b"k"] = b"v"
        b = tx.create_bucket(b"b")
        tx.move_bucket(b"m", tx.bucket(b"a"))
        assert tx.bucket(b"m")[b"k"] == b"v"
        tx.move_bucket(b"m", None, b)
        assert b.bucket(b"m")[b"k"] == b"v"
        with pytest.raises(SameBucketsError):
            tx.move_bucket(b"a")


@pytest.mark.parametrize("target", [b"b", "b", 1, {}])
def test_a_bucket_moves_into_a_bucket_and_into_nothing_else(target, db):
    with db.update() as tx:
        tx.create_bucket(b"a").create_bucket(b"in")
        for move in (tx.bucket(b"a").move_bucket, tx.root_bucket.move_bucket):
            with pytest.raises(TypeError, match="a bucket lies in a Bucket"):
                move(b"in", target)
        with pytest.raises(TypeError, match="a bucket lies in a Bucket"):
            tx.move_bucket(b"in", tx.bucket(b"a"), target)
        with pytest.raises(TypeError, match="a bucket lies in a Bucket"):
            tx.move_bucket(b"in", target)


def test_move_bucket_errors_in_bbolts_order(db, tmp_path):
    other_path = str(tmp_path / "other.db")
    with shearbolt.open(other_path, no_sync=True) as other, db.update() as tx:
        a, b = tx.create_bucket(b"a"), tx.create_bucket(b"b")
        a.create_bucket(b"m")
        a[b"plain"] = b"v"
        stranger = other.begin(writable=True)
        with pytest.raises(DifferentDatabaseError, match="different database"):
            a.move_bucket(b"absent", stranger.root_bucket)
        stranger.rollback()
        with other.begin() as stranger, pytest.raises(TxNotWritableError):
            a.move_bucket(b"absent", stranger.root_bucket)
        with db.begin() as stranger, pytest.raises(TxNotWritableError):
            a.move_bucket(b"absent", stranger.root_bucket)
        with pytest.raises(BucketNotFoundError):
            a.move_bucket(b"absent", a)
        with pytest.raises(IncompatibleValueError):
            a.move_bucket(b"plain", a)
        with pytest.raises(SameBucketsError, match="same bucket"):
            a.move_bucket(b"m", a)
        b.create_bucket(b"m")
        with pytest.raises(BucketExistsError):
            a.move_bucket(b"m", b)
        b.delete_bucket(b"m")
        b[b"m"] = b"v"
        with pytest.raises(IncompatibleValueError):
            a.move_bucket(b"m", b)
        closed = a
    with pytest.raises(TxClosedError):
        closed.move_bucket(b"m", b)


def test_a_bucket_does_not_move_into_itself(db):
    with db.update() as tx:
        a = tx.create_bucket(b"a")
        c = a.create_bucket(b"b").create_bucket(b"c")
        for target in (a, a.bucket(b"b"), c):
            with pytest.raises(SameBucketsError):
                tx.root_bucket.move_bucket(b"a", target)
    with db.view() as tx:
        assert tx.bucket(b"a").bucket(b"b").bucket(b"c").path == (b"a", b"b", b"c")


# -- sequence --


def test_the_sequence_counts_from_one_and_is_kept(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        assert bucket.sequence == 0
        assert [bucket.next_sequence() for _ in range(3)] == [1, 2, 3]
    with db.update() as tx:
        assert tx.bucket(b"b").next_sequence() == 4
    with db.view() as tx:
        assert tx.bucket(b"b").sequence == 4


def test_the_root_bucket_keeps_its_sequence(db):
    with db.update() as tx:
        tx.root_bucket.set_sequence(7)
    with db.update() as tx:
        tx.create_bucket_if_not_exists(b"b")
    with db.view() as tx:
        assert tx.root_bucket.sequence == 7


def test_a_change_of_the_sequence_alone_is_committed(db):
    filled(db, 500)
    with db.update() as tx:
        tx.bucket(b"b").set_sequence(1000)
    with db.view() as tx:
        assert tx.bucket(b"b").sequence == 1000


def test_the_sequence_has_64_bits(bucket):
    bucket.set_sequence(2**64 - 1)
    assert bucket.next_sequence() == 0
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="sequence"):
            bucket.set_sequence(wrong)


def test_sequences_are_refused_where_nothing_may_change(db):
    filled(db, 1)
    with db.view() as tx:
        with pytest.raises(TxNotWritableError):
            tx.bucket(b"b").next_sequence()
        with pytest.raises(TxNotWritableError):
            tx.bucket(b"b").set_sequence(1)
        bucket = tx.bucket(b"b")
    for call in (bucket.next_sequence, lambda: bucket.set_sequence(1)):
        with pytest.raises(TxClosedError):
            call()
    with pytest.raises(TxClosedError):
        _ = bucket.sequence


# -- sizes of pages --


def test_more_tiny_keys_than_a_page_can_count(path):
    # A page's element count has 16 bits; bbolt panics here ("inode overflow").
    with shearbolt.open(path, page_size=65536, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            bucket.fill_percent = 1.0
            for i in range(70_000):
                bucket.put(b"%x" % i, b"")
        with db.view() as tx:
            assert len(tx.bucket(b"b")) == 70_000
            assert tx.check() == []


@pytest.mark.parametrize("percent", [0.0, 0.1, 0.5, 0.9, 1.0, 5.0])
def test_fill_percent_decides_how_full_pages_are(path, percent):
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            bucket.fill_percent = percent
            for i in range(2000):
                bucket[b"%06d" % i] = b"v" * 50
        with db.view() as tx:
            stats = tx.bucket(b"b").stats()
            used = stats.leaf_inuse / stats.leaf_alloc
            assert abs(used - min(max(percent, 0.1), 1.0)) < 0.06
            assert tx.check() == []


def test_random_programs_agree_with_a_dict(db):
    rng, model = random.Random(7), {}
    for _ in range(30):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"b")
            for _ in range(rng.randrange(100)):
                key = b"%d" % rng.randrange(300)
                if rng.random() < 0.6:
                    model[key] = bucket[key] = rng.randbytes(rng.randrange(900))
                else:
                    bucket.delete(key)
                    model.pop(key, None)
            assert list(bucket.items()) == sorted(model.items())
        with db.view() as tx:
            assert list(tx.bucket(b"b").items()) == sorted(model.items())
            assert tx.check() == []


def test_a_bucket_whose_headers_fill_a_quarter_of_a_page_is_not_inline(db):
    # What decides is the size with the pairs, also where headers alone reach the limit.
    headers = 4096 // 4 // 16 - 1
    with db.update() as tx:
        for count in (headers - 5, headers):
            bucket = tx.create_bucket(b"%d" % count)
            for number in range(count):
                bucket[b"%c" % number] = b""
    with db.view() as tx:
        inline = tx.bucket(b"%d" % (headers - 5)), tx.bucket(b"%d" % headers)
        assert [bucket.root == 0 for bucket in inline] == [True, False]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (1.5, TypeError),
        (2.0, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (-1, ValueError),
        (1 << 64, ValueError),
    ],
)
def test_a_sequence_that_cannot_be_is_refused_when_it_is_set(value, error, db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.set_sequence(7)
        with pytest.raises(error, match="a sequence is"):
            bucket.set_sequence(value)
        assert bucket.sequence == 7
    with db.view() as tx:
        assert tx.bucket(b"b").sequence == 7


@pytest.mark.parametrize("value", [0, (1 << 64) - 1, True])
def test_a_sequence_is_kept_as_an_int(value, db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.set_sequence(value)
        assert type(bucket.sequence) is int
    with db.view() as tx:
        assert tx.bucket(b"b").sequence == int(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (-1e308, ValueError),
        ("0.5", TypeError),
        (None, TypeError),
    ],
)
def test_a_fill_percent_that_is_no_number_is_refused_when_it_is_set(
    value, error, bucket
):
    bucket.fill_percent = 0.9
    with pytest.raises(error, match="fill_percent is"):
        bucket.fill_percent = value
    assert bucket.fill_percent == 0.9


@pytest.mark.parametrize("value", [-999_999, -5, 0, 0.01, 1, 50, 999_999])
def test_a_fill_percent_out_of_range_is_taken_as_the_nearest(value, db):
    for keys in (range(2000), range(0, 2000, 3)):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"b")
            bucket.fill_percent = value
            bucket.update((b"%04d" % i, bytes(50)) for i in keys)
            for i in keys[::5]:
                bucket.delete(b"%04d" % i)
    with db.view() as tx:
        assert tx.check() == []
