"""One bucket: its pairs, their limits and errors in bbolt's order."""

import random

import pytest
from filling import filled

import shearbolt
from shearbolt import (
    MAX_KEY_SIZE,
    BucketNotFoundError,
    IncompatibleValueError,
    KeyRequiredError,
    KeyTooLargeError,
    TxClosedError,
    TxNotWritableError,
    ValueTooLargeError,
)

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
