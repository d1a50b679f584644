"""Cursors: every movement from every place, and changes under way."""

import random
from bisect import bisect_left, bisect_right

import pytest

from shearbolt import (
    CursorError,
    IncompatibleValueError,
    TxClosedError,
    TxNotWritableError,
)


@pytest.fixture(params=["empty", "inline", "leaf", "tree", "dirty"])
def loaded(db, request):
    """(bucket, its sorted keys), of different shapes."""
    count = {"empty": 0, "inline": 5, "leaf": 40, "tree": 3000, "dirty": 3000}
    keys = [b"%06d" % (2 * i) for i in range(count[request.param])]
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for key in keys:
            bucket[key] = b"v" * 40
    with db.begin(writable=request.param == "dirty") as tx:
        bucket = tx.bucket(b"b")
        if request.param == "dirty":
            # Whole leaves emptied: movements have to pass them.
            for key in keys[100:600] + keys[:50] + keys[-50:]:
                bucket.delete(key)
            keys = keys[50:100] + keys[600:-50]
        yield bucket, keys


def key_of(pair):
    return pair and pair[0]


def test_forward_meets_every_key_in_order(loaded):
    bucket, keys = loaded
    cursor = bucket.cursor()
    seen, pair = [], cursor.first()
    while pair:
        seen.append(pair[0])
        pair = cursor.next()
    assert seen == keys


def test_backward_meets_every_key_in_order(loaded):
    bucket, keys = loaded
    cursor = bucket.cursor()
    seen, pair = [], cursor.last()
    while pair:
        seen.append(pair[0])
        pair = cursor.prev()
    assert seen == keys[::-1]


def test_a_cursor_may_start_again(loaded):
    bucket, keys = loaded
    cursor = bucket.cursor()
    for _ in range(3):
        assert key_of(cursor.first()) == (keys[0] if keys else None)
        cursor.next()
        assert key_of(cursor.last()) == (keys[-1] if keys else None)


def test_random_walks_agree_with_a_sorted_list(loaded):
    bucket, keys = loaded
    rng, cursor, at = random.Random(3), bucket.cursor(), None
    for _ in range(3000):
        move = rng.choice(["first", "last", "next", "prev", "next", "prev", "seek"])
        if move == "seek":
            target = b"%06d" % rng.randrange(0, 6100)
            at = bisect_left(keys, target)
            found = cursor.seek(target)
            assert key_of(found) == (keys[at] if at < len(keys) else None)
            continue
        found = getattr(cursor, move)()
        if move == "first":
            at = 0 if keys else None
        elif move == "last":
            at = len(keys) - 1 if keys else None
        elif at is None or not keys:
            assert found is None
            continue
        else:
            there = at + (1 if move == "next" else -1)
            if not 0 <= there < len(keys):
                assert found is None
                continue
            at = there
        assert key_of(found) == (keys[at] if at is not None else None)


def test_a_new_cursor_is_nowhere(loaded):
    bucket, _ = loaded
    cursor = bucket.cursor()
    assert cursor.bucket is bucket
    assert cursor.next() is None
    assert cursor.prev() is None


def test_next_at_the_end_stays_and_prev_goes_on_from_there(loaded):
    bucket, keys = loaded
    cursor = bucket.cursor()
    cursor.last()
    assert [cursor.next(), cursor.next()] == [None, None]
    assert key_of(cursor.prev()) == (keys[-2] if keys else None)


def test_prev_at_the_beginning_stays_and_next_gives_the_second(loaded):
    bucket, keys = loaded
    cursor = bucket.cursor()
    cursor.first()
    assert [cursor.prev(), cursor.prev()] == [None, None]
    assert key_of(cursor.next()) == (keys[1] if keys else None)


def test_prev_after_a_seek_past_the_end_gives_the_last(loaded):
    bucket, keys = loaded
    cursor = bucket.cursor()
    assert cursor.seek(b"zzz") is None
    assert cursor.next() is None
    assert key_of(cursor.prev()) == (keys[-1] if keys else None)


def test_seek_of_nothing_gives_the_first(loaded):
    bucket, keys = loaded
    assert key_of(bucket.cursor().seek(b"")) == (keys[0] if keys else None)


def test_buckets_have_no_value_and_are_passed_in_order(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(500):
            bucket.create_bucket(b"%03d" % i)
    with db.view() as tx:
        cursor = tx.bucket(b"b").cursor()
        seen, pair = [], cursor.first()
        while pair:
            seen.append(pair)
            pair = cursor.next()
        assert seen == [(b"%03d" % i, None) for i in range(500)]
        pair = cursor.last()
        while pair:
            assert pair == seen.pop()
            pair = cursor.prev()
        assert seen == []


def test_the_root_bucket_has_a_cursor_and_may_hold_pairs(db):
    with db.update() as tx:
        tx.create_bucket(b"bucket")
        tx.cursor().bucket.put(b"key", b"value")
    with db.view() as tx:
        cursor = tx.cursor()
        assert [cursor.first(), cursor.next()] == [
            (b"bucket", None),
            (b"key", b"value"),
        ]
        assert [name for name, _ in tx.buckets()] == [b"bucket"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("forward", [False, True])
def test_deleting_at_the_cursor_skips_nothing(db, fresh, forward):
    keys = [b"%06d" % i for i in range(2000)]

    def fill(bucket):
        for key in keys:
            bucket[key] = b"v" * 40

    with db.update() as tx:
        fill(tx.create_bucket(b"b"))
    with db.update() as tx:
        bucket = tx.create_bucket(b"new") if fresh else tx.bucket(b"b")
        if fresh:
            fill(bucket)
        cursor, seen = bucket.cursor(), []
        pair = cursor.first() if forward else cursor.last()
        while pair:
            seen.append(pair[0])
            cursor.delete()
            pair = cursor.next() if forward else cursor.prev()
        assert seen == (keys if forward else keys[::-1])
        assert not bucket


def test_random_changes_under_a_cursor_agree_with_a_sorted_list(db):
    rng = random.Random(11)
    keys = sorted(b"%05d" % i for i in rng.sample(range(10_000), 1500))
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for key in keys:
            bucket[key] = b"v" * 60
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        cursor = bucket.cursor()
        at = cursor.first()[0]
        for _ in range(4000):
            deed = rng.random()
            key = b"%05d" % rng.randrange(10_000)
            if deed < 0.15 and key not in keys:
                bucket[key] = b"w"
                keys.insert(bisect_left(keys, key), key)
            elif deed < 0.3:
                bucket.delete(key)
                if key in keys:
                    keys.remove(key)
            elif deed < 0.4:
                cursor.delete()
                if at in keys:
                    keys.remove(at)
            elif deed < 0.7:
                place = bisect_right(keys, at)
                expected = keys[place] if place < len(keys) else None
                assert key_of(cursor.next()) == expected
                at = expected or at
            else:
                place = bisect_left(keys, at) - 1
                expected = keys[place] if place >= 0 else None
                assert key_of(cursor.prev()) == expected
                at = expected or at
        assert list(bucket) == keys


def test_deleting_twice_at_one_place_deletes_once_and_skips_nothing(bucket):
    bucket.update({b"a": b"1", b"b": b"2", b"c": b"3"})
    cursor = bucket.cursor()
    cursor.first()
    cursor.delete()
    cursor.delete()
    assert list(bucket) == [b"b", b"c"]
    assert cursor.next() == (b"b", b"2")


def test_delete_behind_the_end_and_in_an_empty_bucket_is_nothing(bucket):
    cursor = bucket.cursor()
    cursor.first()
    cursor.delete()
    bucket[b"a"] = b"1"
    assert cursor.seek(b"z") is None
    cursor.delete()
    assert list(bucket) == [b"a"]


def test_delete_errors(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.create_bucket(b"inner")
        with pytest.raises(CursorError, match="first"):
            bucket.cursor().delete()
        cursor = bucket.cursor()
        cursor.first()
        with pytest.raises(IncompatibleValueError):
            cursor.delete()
    with db.view() as tx, pytest.raises(TxNotWritableError):
        tx.bucket(b"b").cursor().delete()
    with pytest.raises(TxClosedError):
        cursor.delete()


@pytest.mark.parametrize("move", ["first", "last", "next", "prev", "seek"])
def test_movements_of_a_closed_transaction_are_refused(db, move):
    with db.update() as tx:
        cursor = tx.create_bucket(b"b").cursor()
        cursor.first()
    arguments = [b"k"] if move == "seek" else []
    with pytest.raises(TxClosedError):
        getattr(cursor, move)(*arguments)
    with pytest.raises(TxClosedError):
        tx.cursor()
