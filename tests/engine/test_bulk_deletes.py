"""`delete_many`: nobody can tell it from deletes, one after the other."""

import random

import pytest

import shearbolt
from shearbolt import (
    BucketNotFoundError,
    CorruptPageError,
    IncompatibleValueError,
    TxClosedError,
    TxNotWritableError,
)
from shearbolt.pages.format import BucketValue
from shearbolt.tree import deletions
from shearbolt.tree import tree as trees
from shearbolt.tree.chunks import CHUNK

PAGE = 1024


@pytest.fixture
def db(tmp_path):
    with shearbolt.open(tmp_path / "x.db", page_size=PAGE, no_sync=True) as handle:
        with handle.update() as tx:
            tx.create_bucket(b"b").update((key, b"v" * 20) for key in names(3000))
        yield handle
        with handle.view() as tx:
            assert tx.check() == []


@pytest.fixture
def bucket(db):
    with db.update() as tx:
        yield tx.bucket(b"b")


def names(count, first=0):
    return [b"%06d" % number for number in range(first, first + count)]


def one_by_one(bucket, keys):
    for key in keys:
        bucket.delete(key)


# -- the same as one by one ------------------------------------------------------


class GivesUpError(Exception):
    """Whoever gives keys has no more."""


def draw(rng, known):
    """Keys to be deleted in one go, and how they are handed over."""
    keys = rng.choices(known, k=rng.choice([0, 1, 30, 1023, 1024, 1025, 2500]))
    how = rng.randrange(8)
    if how == 0:
        keys = sorted(set(keys))
    elif how == 1:
        keys += [key + b"absent" for key in keys]
    at = rng.randrange(len(keys) + 1)
    bad = {
        2: b"a bucket",
        3: "text",
        4: bytearray(b"000007"),
        5: BucketValue(b"000007"),
        6: b"",
    }
    if how in bad:
        keys.insert(at, bad[how])
    kind = rng.randrange(4)

    def given():
        if kind == 0:
            return keys
        if kind == 1:
            return iter(keys)
        if kind == 2:
            return tuple(keys)
        return raising()

    def raising():
        yield from keys[:at]
        raise GivesUpError

    return given


def program(path, seed, delete_many):
    """The file, the contents and the errors of a random program."""
    rng = random.Random(seed)
    known = names(rng.choice([40, 700, 4000]))
    with_buckets = rng.random() < 0.4
    seen = []
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        for _ in range(rng.randrange(1, 4)):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                for key in rng.sample(known, rng.randrange(len(known))):
                    bucket.put(key, b"v" * rng.choice([0, 20, 300]))
                if with_buckets:
                    bucket.create_bucket_if_not_exists(b"a bucket").put(b"k", b"v")
            if rng.random() < 0.5:
                db.pager.clear()
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                for _ in range(rng.randrange(1, 5)):
                    given = draw(rng, known)
                    try:
                        delete_many(bucket, given())
                    except (GivesUpError, TypeError, IncompatibleValueError) as error:
                        seen.append(type(error))
                    what = rng.randrange(6)
                    key = rng.choice(known)
                    if what == 0:
                        seen.append(bucket.get(key))
                    elif what == 1:
                        bucket.delete(key)
                    elif what == 2:
                        bucket.put(key, b"by itself")
                    elif what == 3:
                        seen.append(dict(bucket.items()))
                    elif what == 4 and with_buckets:
                        bucket.bucket(b"a bucket").delete_many([b"k", key])
            with db.view() as tx:
                assert tx.check() == []
                seen.append(dict(tx.bucket(b"b").items()))
                seen += [name for name, _ in tx.bucket(b"b").buckets()]
    return path.read_bytes(), seen


@pytest.mark.seeds(9)
def test_the_file_is_the_same_to_the_byte(seed, tmp_path):
    together = program(tmp_path / "together.db", seed, shearbolt.Bucket.delete_many)
    assert program(tmp_path / "alone.db", seed, one_by_one) == together


@pytest.mark.parametrize(
    "given",
    [
        list,
        tuple,
        set,
        frozenset,
        dict.fromkeys,
        iter,
        lambda keys: (key for key in keys),
        lambda keys: map(bytearray, keys),
        lambda keys: map(memoryview, keys),
        lambda keys: keys + keys,
    ],
    ids=[
        "list", "tuple", "set", "frozenset", "dict", "iterator", "generator",
        "bytearrays", "views", "twice",
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 15, 1024, 3000])
def test_whatever_gives_keys_is_taken(given, count, bucket):
    bucket.delete_many(given(names(count)))
    assert list(bucket) == names(3000 - count, count)


def test_the_keys_of_a_bucket_may_be_given_while_they_go(db, bucket):
    bucket.delete_many(bucket.keys(b"000500", b"002600"))
    assert list(bucket) == [*names(500), *names(400, 2600)]
    bucket.delete_many(bucket)
    assert not bucket


def test_keys_of_many_tries_are_what_is_left(bucket):
    rng = random.Random(1)
    left = set(names(3000))
    for _ in range(20):
        doomed = rng.choices(names(3000), k=rng.choice([1, 100, 1100]))
        bucket.delete_many(doomed)
        left -= set(doomed)
        if rng.random() < 0.4:
            assert list(bucket) == sorted(left)
    assert list(bucket) == sorted(left)


# -- gathered at once ------------------------------------------------------------


def test_many_keys_are_gathered_from_the_first_on(bucket, monkeypatch):
    monkeypatch.setattr(shearbolt.Bucket, "delete", None)
    bucket.delete_many(names(1500))
    assert bucket._doomed.in_order() == names(1500)


def test_how_many_are_coming_counts(bucket, monkeypatch):
    # A tree so large that one chunk is less than a key for sixteen leaves.
    monkeypatch.setattr(trees, "patience", lambda tree, key: 2 * CHUNK)
    bucket.delete_many(iter(names(CHUNK)))
    assert bucket._doomed is None
    bucket.delete_many(names(CHUNK, CHUNK))
    assert bucket._doomed is None
    assert len(bucket) == 3000 - 2 * CHUNK


def test_a_list_of_many_is_gathered_before_the_first_is_deleted(bucket, monkeypatch):
    monkeypatch.setattr(trees, "patience", lambda tree, key: 2 * CHUNK)
    monkeypatch.setattr(shearbolt.Bucket, "delete", None)
    bucket.delete_many(names(2 * CHUNK + 1))
    assert len(bucket._doomed) == 2 * CHUNK + 1


def test_keys_that_are_done_are_not_coming(bucket, monkeypatch):
    monkeypatch.setattr(trees, "patience", lambda tree, key: 3 * CHUNK)
    bucket.delete_many(names(5 * CHUNK // 2))
    assert bucket._doomed is None


def test_few_keys_are_deleted_at_once(bucket, monkeypatch):
    # To look at all leaves for a bucket takes more than they do.
    monkeypatch.setattr(deletions, "_unless_plain", None)
    bucket.delete_many(names(2))
    assert bucket._doomed is None
    assert len(bucket) == 2998


def test_nobody_is_asked_how_many_there_are(bucket):
    class Uncounted(list):
        def __len__(self):
            raise AssertionError

    class Lazy:
        def __iter__(self):
            return iter(names(2000))

        def __len__(self):
            raise AssertionError

    bucket.delete_many(Lazy())
    bucket.delete_many(Uncounted(names(500, 2000)))
    assert len(bucket) == 500


def test_they_take_no_more_memory_than_they_may(bucket, monkeypatch):
    monkeypatch.setattr(trees, "MOST_GATHERED", 1500)
    most = 0
    for first in range(0, 20000, 500):
        bucket.delete_many(key + b"absent" for key in names(500, first))
        most = max(most, len(bucket._doomed or ()))
    assert 1000 <= most <= 1500 + CHUNK
    bucket.delete_many(names(2000))
    assert len(bucket) == 1000


def test_keys_that_are_not_there_change_no_page(db):
    with db.view() as tx:
        root = tx.meta.root
    with db.update() as tx:
        tx.bucket(b"b").delete_many(key + b"absent" for key in names(3000))
        assert not tx.bucket(b"b").stats().uncommitted
    with db.view() as tx:
        assert tx.meta.root == root


def test_a_cursor_notices(bucket):
    cursor = bucket.cursor()
    assert cursor.seek(b"000500") == (b"000500", b"v" * 20)
    bucket.delete_many(names(1000, 400))
    assert cursor.next() == (b"001400", b"v" * 20)


def test_puts_that_came_before_are_deleted_and_those_behind_are_not(bucket):
    bucket.update((key, b"new") for key in names(200, 2900))
    bucket.delete_many(names(3100))
    bucket.put(b"000007", b"last")
    assert dict(bucket.items()) == {b"000007": b"last"}


# -- what is refused -------------------------------------------------------------


# Each kind within a chunk and at the end of one; the other places by one kind.
@pytest.mark.parametrize(
    ("bad", "at"),
    [
        *((bad, at) for bad in ("text", None, 7) for at in (500, 1024)),
        *(("text", at) for at in (0, 1, 1023, 2500)),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_keys_before_a_bad_one_are_removed_and_those_behind_it_are_not(
    bad, lazy, at, bucket
):
    keys = [*names(at), bad, *names(3000 - at, at)]
    with pytest.raises(TypeError):
        bucket.delete_many(iter(keys) if lazy else keys)
    assert list(bucket) == names(3000 - at, at)


@pytest.mark.parametrize("at", [0, 500, 1024, 2500])
def test_the_name_of_a_bucket_is_refused_and_so_is_what_comes_behind_it(at, bucket):
    bucket.delete(b"%06d" % at)
    bucket.create_bucket(b"%06d" % at)
    with pytest.raises(IncompatibleValueError):
        bucket.delete_many(names(3000))
    assert list(bucket) == names(2999 - at, at + 1)
    assert [name for name, _ in bucket.buckets()] == [b"%06d" % at]


def test_a_bucket_made_while_keys_come_is_refused(bucket):
    def given():
        yield from names(1024)
        bucket.create_bucket(b"002000-")
        yield from names(976, 1024)
        yield b"002000-"
        yield from names(1000, 2000)

    with pytest.raises(IncompatibleValueError):
        bucket.delete_many(given())
    assert list(bucket) == names(1000, 2000)


@pytest.mark.parametrize("at", [0, 500, 1024, 1500])
def test_keys_before_an_error_of_who_gives_them_are_removed(at, bucket):
    def given():
        yield from names(at)
        raise GivesUpError

    with pytest.raises(GivesUpError):
        bucket.delete_many(given())
    assert list(bucket) == names(3000 - at, at)


def test_a_number_or_text_gives_no_keys(bucket):
    with pytest.raises(TypeError):
        bucket.delete_many(7)
    with pytest.raises(TypeError):
        bucket.delete_many(b"000001")
    with pytest.raises(TypeError):
        bucket.delete_many("000001")
    assert len(bucket) == 3000


@pytest.mark.parametrize("count", [1, 2000])
def test_a_transaction_that_may_not_write_refuses_them(count, db):
    with db.view() as tx, pytest.raises(TxNotWritableError):
        tx.bucket(b"b").delete_many(names(count))
    tx = db.begin(True)
    bucket = tx.bucket(b"b")
    bucket.delete_many(names(count))
    tx.rollback()
    with pytest.raises(TxClosedError):
        bucket.delete_many(names(count))
    with db.update() as tx:
        bucket = tx.create_bucket(b"other")
        bucket.update((key, b"v") for key in names(2000))
        tx.delete_bucket(b"other")
        with pytest.raises(BucketNotFoundError):
            bucket.delete_many(names(count))
    with db.view() as tx:
        assert len(tx.bucket(b"b")) == 3000


def test_a_database_that_was_closed_takes_no_more(tmp_path):
    db = shearbolt.open(tmp_path / "y.db", page_size=PAGE, no_sync=True)
    with db.update() as tx:
        tx.create_bucket(b"b").update((key, b"v") for key in names(2000))
    bucket = db.begin(True).bucket(b"b")
    bucket.delete_many(names(1000))
    db.close()
    with pytest.raises(TxClosedError):
        bucket.delete_many(names(1000))


def test_a_transaction_that_ends_while_keys_come_refuses_the_rest(db):
    tx = db.begin(True)

    def given():
        yield from names(CHUNK)
        tx.commit()
        yield from names(CHUNK, CHUNK)

    with pytest.raises(TxClosedError):
        tx.bucket(b"b").delete_many(given())
    with db.view() as tx:
        assert list(tx.bucket(b"b")) == names(3000 - CHUNK, CHUNK)


def test_a_damaged_page_is_met_by_who_deletes_from_it(db, tmp_path):
    with db.view() as tx:
        bucket = tx.bucket(b"b")
        leaf = bucket._leaf(b"001500")
    db.pager.clear()
    path = tmp_path / "x.db"
    with path.open("r+b") as file:
        file.seek(leaf.pgid * PAGE)
        kept = file.read(PAGE)
        file.seek(leaf.pgid * PAGE)
        file.write(bytes(PAGE))
    tx = db.begin(True)
    bucket = tx.bucket(b"b")
    with pytest.raises(CorruptPageError):
        bucket.delete_many(names(3000))
    # One by one, therefore: those before it are gone.
    before = leaf.keys[0]
    assert bucket.get(b"%06d" % (int(before) - 1)) is None
    tx.rollback()
    with path.open("r+b") as file:
        file.seek(leaf.pgid * PAGE)
        file.write(kept)
