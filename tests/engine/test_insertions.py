"""`update`: nobody can tell it from puts, one after the other."""

import random

import pytest

import shearbolt
from shearbolt import (
    BucketNotFoundError,
    IncompatibleValueError,
    KeyRequiredError,
    KeyTooLargeError,
    TxClosedError,
    TxNotWritableError,
)
from shearbolt.tree import insertions, records
from shearbolt.tree.leafpairs import LeafPairs
from shearbolt.tree.records import Records

PAGE = 1024


@pytest.fixture
def db(tmp_path):
    with shearbolt.open(tmp_path / "x.db", page_size=PAGE, no_sync=True) as handle:
        yield handle
        with handle.view() as tx:
            assert tx.check() == []


@pytest.fixture
def bucket(db):
    with db.update() as tx:
        yield tx.create_bucket(b"b")


def one_by_one(bucket, pairs):
    for key, value in pairs:
        bucket.put(key, value)


def program(path, seed, update):
    """The file and the content after random puts, many of them together."""
    rng = random.Random(seed)
    alike = rng.random() < 0.6
    names = [
        b"%06d" % number if alike else b"%d" % number
        for number in range(rng.choice([50, 500, 3000]))
    ]
    sizes = rng.choice([(20,), (0, 5, 300), (20, 3000)])
    states = []
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        for _ in range(rng.randrange(1, 4)):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                for _ in range(rng.randrange(1, 5)):
                    chosen = rng.choices(names, k=rng.randrange(1, 2 * len(names)))
                    if rng.random() < 0.5:
                        chosen = rng.sample(names, len(names) // 2)
                    if rng.random() < 0.3:
                        chosen.sort()
                    update(bucket, [(key, b"v" * rng.choice(sizes)) for key in chosen])
                    what = rng.randrange(8)
                    key = rng.choice(names)
                    if what == 0:
                        states.append(bucket.get(key))
                    elif what == 6:
                        bucket.create_bucket_if_not_exists(b"a bucket").put(b"k", b"v")
                    elif what == 7:
                        bucket.clear()
                        if b"a bucket" in dict(bucket.buckets()):
                            bucket.delete_bucket(b"a bucket")
                    elif what == 1:
                        bucket.delete(key)
                    elif what == 2:
                        bucket.put(key, b"by itself")
                    elif what == 3:
                        states.append(dict(bucket.items()))
            with db.view() as tx:
                assert tx.check() == []
                states.append(dict(tx.bucket(b"b").items()))
    return path.read_bytes(), states


EMPTIED = {
    "a pair": lambda b: (b.put(b"k", b"v"), b.delete(b"k")),
    "a bucket": lambda b: (b.create_bucket(b"k"), b.delete_bucket(b"k")),
    "a moved bucket": lambda b: (
        b.create_bucket(b"k").put(b"k", b"v"),
        b.move_bucket(b"k", b.tx.root_bucket),
    ),
}


@pytest.mark.parametrize("there_was", EMPTIED)
@pytest.mark.parametrize("first", [0, 70])
def test_a_leaf_that_was_emptied_takes_many_pairs(db, there_was, first):
    """Of a leaf that had a bucket once, keys were written with their values in them."""
    pairs = [(b"%05d" % number, b"v" * 30) for number in range(200)]
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        EMPTIED[there_was](bucket)
        bucket.update(pairs[:first])
        bucket.update(pairs[first:])
    with db.view() as tx:
        assert list(tx.bucket(b"b").items()) == pairs
        assert tx.check() == []


@pytest.mark.seeds(8)
def test_the_file_is_the_same_to_the_byte(seed, tmp_path):
    together = program(tmp_path / "together.db", seed, shearbolt.Bucket.update)
    assert program(tmp_path / "alone.db", seed, one_by_one) == together


def pairs_of(count, first=0):
    return [(b"%06d" % n, b"v%d" % n) for n in range(first, first + count)]


@pytest.mark.parametrize(
    "given",
    [
        dict,
        list,
        tuple,
        iter,
        lambda pairs: (pair for pair in pairs),
        lambda pairs: map(list, pairs),
        lambda pairs: map(iter, pairs),
        lambda pairs: dict(pairs).items(),
        lambda pairs: [(bytearray(key), memoryview(value)) for key, value in pairs],
    ],
    ids=[
        "dict", "list", "tuple", "iterator", "generator", "lists", "iterators", "items",
        "other-bytes",
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 63, 64, 1024, 3000])
def test_whatever_gives_pairs_is_taken(given, count, bucket):
    bucket.update(given(pairs_of(count)))
    assert list(bucket.items()) == pairs_of(count)


def test_what_only_has_keys_is_a_mapping_too(bucket):
    class Squares:
        def keys(self):
            return [b"%06d" % n for n in range(2000)]

        def __getitem__(self, key):
            return b"%d" % int(key) ** 2

    bucket.update(Squares())
    assert bucket[b"000012"] == b"144"
    assert len(bucket) == 2000


def test_another_bucket_is_a_mapping_and_so_is_the_same(db, bucket):
    bucket.update(pairs_of(3000))
    other = bucket.tx.create_bucket(b"other")
    other.update(bucket)
    other.update(other)
    other.update()
    assert list(other.items()) == pairs_of(3000)


# -- what is refused --------------------------------------------------------------

REFUSED = {
    "text": ((b"k", "text"), TypeError),
    "text-key": (("k", b"v"), TypeError),
    "none": ((b"k", None), TypeError),
    "no-key": ((b"", b"v"), KeyRequiredError),
    "large-key": ((b"k" * 32769, b"v"), KeyTooLargeError),
    "three": ((b"k", b"v", b"w"), ValueError),
    "one": ((b"k",), ValueError),
    "number": (7, TypeError),
    "bucket": ((b"name", b"v"), IncompatibleValueError),
}


# Each kind within a chunk and at the end of one; the other places by two kinds.
@pytest.mark.parametrize(
    ("bad", "at"),
    [
        *((bad, at) for bad in REFUSED for at in (500, 1024)),
        *((bad, at) for bad in ("text", "bucket") for at in (0, 63, 1023, 2500)),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_pairs_before_a_bad_one_are_put_and_those_behind_it_are_not(
    bad, at, lazy, bucket
):
    pair, error = REFUSED[bad]
    if bad == "bucket":
        bucket.create_bucket(b"name")
    pairs = [*pairs_of(at), pair, *pairs_of(3000 - at, at)]
    with pytest.raises(error):
        bucket.update(iter(pairs) if lazy else pairs)
    assert list(bucket.items()) == pairs_of(at)


def test_a_value_that_is_put_twice_is_looked_at_both_times(bucket):
    pairs = pairs_of(2000)
    pairs[1000] = (b"000005", "text")
    pairs[1001] = (b"000005", b"again")
    with pytest.raises(TypeError):
        bucket.update(pairs)
    assert list(bucket.items()) == pairs_of(1000)


def test_two_pairs_whose_parts_would_make_two_others_are_refused(bucket):
    pairs = [*pairs_of(100), (b"a", b"b", b"c"), (b"d",), *pairs_of(100, 200)]
    with pytest.raises(ValueError, match="unpack"):
        bucket.update(pairs)
    assert list(bucket.items()) == pairs_of(100)


@pytest.mark.parametrize("at", [0, 500, 1024, 1500])
def test_pairs_before_an_error_of_who_gives_them_are_put(at, bucket):
    def given():
        yield from pairs_of(at)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        bucket.update(given())
    assert list(bucket.items()) == pairs_of(at)


def test_a_keyword_is_no_key(bucket):
    with pytest.raises(TypeError):
        bucket.update(key=b"v")


def test_a_transaction_that_may_not_write_refuses_it(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.update(pairs_of(100))
    with pytest.raises(TxClosedError):
        bucket.update(pairs_of(100))
    with db.view() as tx, pytest.raises(TxNotWritableError):
        tx.bucket(b"b").update(pairs_of(100))
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        tx.delete_bucket(b"b")
        with pytest.raises(BucketNotFoundError):
            bucket.update(pairs_of(100))


def test_values_are_copies(bucket):
    value = bytearray(b"before")
    bucket.update([(b"%06d" % n, value) for n in range(200)])
    value[:] = b"after!"
    assert bucket[b"000100"] == b"before"


def test_a_cursor_notices(bucket):
    bucket.update(pairs_of(100))
    cursor = bucket.cursor()
    assert cursor.seek(b"000098") == (b"000098", b"v98")
    bucket.update(pairs_of(100, 50))
    assert cursor.next() == (b"000099", b"v99")
    assert cursor.next() == (b"000100", b"v100")


def test_deletes_that_were_gathered_come_first(db, monkeypatch):
    with db.update() as tx:
        tx.create_bucket(b"b").update(pairs_of(3000))
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        for key, _ in pairs_of(2900):
            bucket.delete(key)
        assert bucket._doomed
        bucket.update(pairs_of(100))
        assert len(bucket) == 200


# -- records ----------------------------------------------------------------------


def test_a_load_is_made_of_records_and_of_nothing_else(db, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LeafPairs, "_to_dict", None)
        patch.setattr(Records, "pairs", None)
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for first in (2000, 0, 1000):
                bucket.update(pairs_of(1000, first))
    with db.view() as tx:
        assert list(tx.bucket(b"b").items()) == pairs_of(3000)


@pytest.mark.parametrize("sizes", [(10,), (9, 10, 11)])
@pytest.mark.parametrize("count", [64, 100, 119, 120, 140, 200])
def test_a_leaf_of_records_is_as_large_as_its_pairs(count, sizes, tmp_path):
    # About a page of 4 KiB: whether they are cut is a matter of bytes.
    pairs = [(b"%06d" % i, b"v" * sizes[i % len(sizes)]) for i in range(count)]
    files = []
    for name, put in (("one", one_by_one), ("all", shearbolt.Bucket.update)):
        with (
            shearbolt.open(tmp_path / name, page_size=4096, no_sync=True) as db,
            db.update() as tx,
        ):
            put(tx.create_bucket(b"b"), pairs)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("ordered", [False, True])
def test_records_of_a_dict_are_its_pairs_in_order(ordered):
    pairs = pairs_of(3000)
    if not ordered:
        random.Random(1).shuffle(pairs)
    made = Records.of(dict(pairs))
    assert made.key_size == 6
    assert made.in_order() == [key + value for key, value in pairs_of(3000)]


@pytest.mark.parametrize(
    "items",
    [
        {},
        {b"a": b"", b"bb": b""},
        {**dict(pairs_of(3000)), b"longer key": b""},
        {b"k": bytes(records.MAX_RECORD)},
    ],
    ids=["none", "sizes", "late", "large"],
)
def test_there_are_no_records_of_keys_that_differ_in_size_or_of_large_values(items):
    assert Records.of(items) is None


def test_of_a_key_that_comes_twice_the_last_one_counts():
    taken = Records(1)
    taken.take([b"a", b"b"], [b"a1", b"b1"], {2})
    assert taken.in_order() == [b"a1", b"b1"]
    taken.take([b"0"], [b"01"], {2})
    assert taken.in_order() == [b"01", b"a1", b"b1"]
    taken.take([b"a"], [b"a0"], {2})
    assert taken.in_order() is None
    assert taken.pairs() == {b"a": b"0", b"b": b"1", b"0": b"1"}


def test_keys_of_another_size_may_follow(db):
    longer = [(key + b"+", value) for key, value in pairs_of(500)]
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.update(pairs_of(500))
        bucket.update(longer)
    with db.view() as tx:
        assert list(tx.bucket(b"b").items()) == sorted(pairs_of(500) + longer)


def test_few_pairs_are_put_one_by_one(bucket, monkeypatch):
    monkeypatch.setattr(insertions, "_looked_over", None)
    bucket.update(pairs_of(insertions._MANY - 1))
    assert len(bucket) == insertions._MANY - 1
