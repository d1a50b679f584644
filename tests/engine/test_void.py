"""Leaves that a transaction has emptied are passed by once, and hide nothing."""

import random

import pytest

import shearbolt
from shearbolt.tree.tree import Tree


@pytest.fixture
def db(path):
    with shearbolt.open(path, no_sync=True, page_size=1024) as db:
        yield db


def filled(tx, count):
    bucket = tx.create_bucket_if_not_exists(b"b")
    bucket.update((b"%06d" % number, b"v" * 40) for number in range(count))
    return bucket


def first_of_range(bucket):
    return next(iter(bucket.items()), None)


def last_of_range(bucket):
    return next(iter(bucket.items(reverse=True)), None)


def first_of_cursor(bucket):
    return bucket.cursor().first()


def last_of_cursor(bucket):
    return bucket.cursor().last()


ENDS = [first_of_range, last_of_range, first_of_cursor, last_of_cursor]


@pytest.mark.parametrize("end", ENDS)
def test_taking_from_one_end_costs_the_same_however_much_was_taken(
    end, db, monkeypatch
):
    real, elements = Tree.element, []

    def element(self, pgid):
        elements.append(pgid)
        return real(self, pgid)

    with db.update() as tx:
        filled(tx, 2000)
    monkeypatch.setattr(Tree, "element", element)
    costs = []
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        while (pair := end(bucket)) is not None:
            bucket.put(pair[0], b"changed")
            bucket.cursor().seek(pair[0])
            cursor = bucket.cursor()
            cursor.seek(pair[0])
            cursor.delete()
            elements.clear()
            end(bucket)
            costs.append(len(elements))
    assert len(costs) == 2000
    # 150 leaves were emptied. To find the next key takes the way to it and a few more.
    assert max(costs[:-1]) < 20


def pairs_of(bucket):
    cursor = bucket.cursor()
    pair = cursor.first()
    while pair is not None:
        yield pair
        pair = cursor.next()


def change(draw, bucket, pairs):
    """One change near an end, where the emptied leaves are."""
    way = draw.randrange(8)
    key = b"%06d" % draw.choice([draw.randrange(600), draw.randrange(20)])
    if way < 2:
        cursor = bucket.cursor()
        for _ in range(draw.choice([1, 40, 200])):
            # Ranges see no buckets; they note what is not there all the same.
            draw.choice(ENDS)(bucket)
            pair = cursor.last() if way else cursor.first()
            if pair is None:
                return
            if pair[1] is None:
                bucket.delete_bucket(pair[0])
            else:
                cursor.delete()
            assert pair[0] == (max(pairs) if way else min(pairs))
            del pairs[pair[0]]
    elif way == 2 and pairs.get(key, b"") is not None:
        bucket.put(key, b"put")
        pairs[key] = b"put"
    elif way == 3 and key not in pairs:
        bucket.create_bucket(key)
        pairs[key] = None
    elif way == 4:
        many = [(b"%06d" % draw.randrange(600), b"many") for _ in range(100)]
        many = [pair for pair in many if pairs.get(pair[0], b"") is not None]
        bucket.update(many)
        pairs.update(many)
    elif way == 5 and key not in pairs:
        bucket.tx.create_bucket_if_not_exists(key)
        bucket.tx.move_bucket(key, target=bucket)
        pairs[key] = None
    elif way == 6:
        gone = [name for name in pairs if name < key and pairs[name] is not None]
        bucket.delete_many(gone)
        for name in gone:
            del pairs[name]


def assert_same(draw, bucket, pairs):
    ordered = sorted(pairs.items())
    plain = [pair for pair in ordered if pair[1] is not None]
    assert list(bucket.items()) == plain
    assert list(bucket.items(reverse=True)) == plain[::-1]
    low, high = sorted(b"%06d" % draw.randrange(600) for _ in range(2))
    there = [pair for pair in plain if low <= pair[0] < high]
    assert list(bucket.items(low, high)) == there
    assert list(bucket.items(low, high, reverse=True)) == there[::-1]
    assert list(pairs_of(bucket)) == ordered
    assert bucket.cursor().last() == (ordered[-1] if ordered else None)


@pytest.mark.seeds(5)
def test_a_key_is_found_whatever_was_passed_by_before_it_came(seed, db):
    draw = random.Random(seed)
    with db.update() as tx:
        bucket = filled(tx, 600)
        pairs = dict(bucket.items())
    for _ in range(3):
        with db.update() as tx:
            bucket = tx.bucket(b"b")
            for _ in range(15):
                change(draw, bucket, pairs)
                assert_same(draw, bucket, pairs)
        with db.view() as tx:
            assert tx.check() == []
            assert_same(draw, tx.bucket(b"b"), pairs)


@pytest.mark.parametrize("end", ENDS)
def test_what_is_put_together_into_an_emptied_bucket_is_there(end, db):
    with db.update() as tx:
        pairs = dict(filled(tx, 2000).items())
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        for _ in range(100):
            bucket.delete(end(bucket)[0])
        end(bucket)
        bucket.delete_many(pairs)
        assert end(bucket) is None
        bucket.update(pairs)
        assert end(bucket) in {min(pairs.items()), max(pairs.items())}
        assert list(bucket.items()) == sorted(pairs.items())
        assert len(list(pairs_of(bucket))) == len(pairs)
