"""Gets with an index beside the tree answer what the tree answers."""

import random
import sys
import threading

import pytest

import shearbolt
from shearbolt import TxClosedError


@pytest.fixture
def small(path, request, monkeypatch):
    """A database with small pages, so that little makes a tree of many leaves."""
    if getattr(request, "param", "in turns") == "at once":
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with shearbolt.open(path, page_size=1024, no_sync=True) as handle:
        yield handle


def key(number):
    return b"%05d" % number


def filled(db, count=400):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(count):
            bucket.put(key(i), b"value %d" % i)


def get_all(bucket, count=400):
    return [bucket.get(key(i)) for i in range(count)]


def index_of(bucket):
    return bucket.root_element_page().pairs


def leaves_in_cache(db):
    pages = {**db.pager.young, **db.pager._old}
    return {pgid: page for pgid, page in pages.items() if page.is_leaf}


def indexed(tx, count=400):
    """The bucket, after gets enough for an index of all its pairs."""
    bucket = tx.bucket(b"b")
    for _ in range(3):
        get_all(bucket, count)
    assert index_of(bucket)
    return bucket


def test_every_version_has_pairs_of_its_own(small):
    rng = random.Random(4)
    model, views, used = {}, [], 0
    with small.update() as tx:
        tx.create_bucket(b"b")
        tx.create_bucket(b"other")
    for version in range(40):
        with small.update() as tx:
            bucket = tx.bucket(b"b")
            for number in rng.sample(range(300), 60):
                if model.get(key(number)) == "bucket":
                    bucket.delete_bucket(key(number))
                    del model[key(number)]
                elif rng.random() < 0.4:
                    bucket.delete(key(number))
                    model.pop(key(number), None)
                elif rng.random() < 0.1 and key(number) not in model:
                    bucket.create_bucket(key(number))
                    model[key(number)] = "bucket"
                else:
                    model[key(number)] = b"%d/%d" % (version, number) * 3
                    bucket.put(key(number), model[key(number)])
        other = {key(i): b"other %d" % version for i in range(0, 300, 7)}
        with small.update() as tx:
            for pair in other.items():
                tx.bucket(b"other").put(*pair)
        tx = small.begin()
        views.append((tx, tx.bucket(b"b"), dict(model), tx.bucket(b"other"), other))
        if len(views) > 4:
            views.pop(rng.randrange(len(views)))[0].rollback()
        for _, bucket, pairs, second, others in views:
            for number in rng.choices(range(300), k=400):
                found = bucket.get(key(number), "none")
                wanted = pairs.get(key(number), "none")
                assert found == ("none" if wanted == "bucket" else wanted)
                assert second.get(key(number)) == others.get(key(number))
            used += bool(index_of(bucket))
    for tx, *_ in views:
        tx.rollback()
    assert used > 100


def test_the_first_index_waits_for_an_eighth_as_many_gets_as_there_are_leaves(small):
    filled(small, 4000)
    with small.view() as tx:
        bucket = tx.bucket(b"b")
        leaves = bucket.stats().leaf_page_n
        get_all(bucket, leaves // 16)
        assert index_of(bucket) is None
        get_all(bucket, leaves // 4)
        assert index_of(bucket)


@pytest.mark.parametrize("whole", [True, False])
def test_later_indexes_wait_for_as_many_gets_as_there_are_leaves(small, whole):
    filled(small, 4000)
    with small.view() as tx:
        bucket = tx.bucket(b"b")
        leaves = bucket.stats().leaf_page_n
        if whole:
            indexed(tx, 4000)
        else:
            get_all(bucket, leaves // 4)
        assert index_of(bucket)
    with small.update() as tx:
        tx.bucket(b"b").put(key(0), b"again")
    with small.view() as tx:
        bucket = tx.bucket(b"b")
        get_all(bucket, leaves // 2)
        assert index_of(bucket) is None
        get_all(bucket, leaves * 2)
        assert index_of(bucket)


def test_after_indexes_that_came_to_nothing_the_next_ones_wait_longer(small):
    filled(small, 4000)

    def indexed_after(gets):
        """Whether that many gets of a new version make an index."""
        with small.update() as tx:
            tx.bucket(b"b").put(key(0), b"again")
        with small.view() as tx:
            bucket = tx.bucket(b"b")
            for number in random.Random(gets).choices(range(4000), k=gets):
                bucket.get(key(number))
            return bool(index_of(bucket))

    with small.view() as tx:
        leaves = tx.bucket(b"b").stats().leaf_page_n
    assert sum(indexed_after(2 * leaves) for _ in range(20)) <= 3
    assert indexed_after(100 * leaves)
    assert indexed_after(2 * leaves)


@pytest.mark.parametrize("small", ["in turns", "at once"], indirect=True)
def test_an_index_outlives_its_transaction_and_not_its_version(small):
    """Whether threads run in turns or at the same time."""
    filled(small)
    with small.update() as tx:
        tx.create_bucket(b"other")
    with small.view() as tx:
        before = indexed(tx)
        known = dict(index_of(before))
    with small.update() as tx:
        tx.bucket(b"other").put(b"key", b"value")
    old = small.begin()
    assert index_of(old.bucket(b"b")) == known
    with small.update() as tx:
        tx.bucket(b"b").put(key(7), b"changed")
    assert index_of(before) is None
    with small.view() as new:
        assert indexed(new).get(key(7)) == b"changed"
        assert indexed(old).get(key(7)) == b"value 7"
    old.rollback()


def test_a_write_transaction_sees_its_own_changes_not_the_index(small):
    filled(small)
    with small.update() as tx:
        bucket = indexed(tx)
        bucket.put(key(7), b"changed")
        bucket.delete(key(8))
        assert bucket.get(key(7)) == b"changed"
        assert bucket.get(key(8)) is None
        assert bucket.get(key(9)) == b"value 9"


def test_absent_keys_buckets_and_other_types_are_as_without_an_index(small):
    filled(small)
    with small.update() as tx:
        tx.bucket(b"b").create_bucket(key(7) + b"b")
    with small.view() as tx:
        bucket = indexed(tx)
        for _ in range(2):
            assert bucket.get(key(7) + b"b", b"d") == b"d"
            assert bucket.get(key(7) + b"c", b"d") == b"d"
        assert bucket.get(bytearray(key(7))) == b"value 7"
        assert bucket.get(memoryview(key(7))) == b"value 7"
        with pytest.raises(TypeError):
            bucket.get("00007")
    with pytest.raises(TxClosedError):
        bucket.get(key(7))


def test_an_index_takes_only_room_that_is_left(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 4000)
    pages = _content(path, 1 << 30)
    whole = sys.getsizeof(dict.fromkeys(range(4000)))
    for size, expected in (
        (pages // 2, 0),
        (pages + whole // 4, 600),
        (pages + whole * 3 // 4, 2400),
        (pages + whole * 5 // 4, 4000),
    ):
        with shearbolt.open(path, cache_size=size) as db, db.view() as tx:
            bucket = tx.bucket(b"b")
            most = 0
            for number in random.Random(1).choices(range(4000), k=20_000):
                assert bucket.get(key(number)) == b"value %d" % number
                pairs = index_of(bucket) or ()
                most = max(most, len(pairs))
                if number % 50 == 0:
                    held = _kept(db.pager)
                    # What the index holds is counted with the pages that hold it too.
                    assert set(pairs) <= {name for page in held for name in page.keys}
                    cost = sum(page.cost for page in held) + sys.getsizeof(pairs)
                    assert cost <= size + sys.getsizeof({})
            if size > pages:
                assert len(_kept(db.pager)) == len(db.pager.young)
                assert most >= expected


def test_a_full_cache_keeps_what_it_has_while_other_leaves_are_asked_once(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 4000)
    with (
        shearbolt.open(path, cache_size=_content(path, 1 << 30) // 3) as db,
        db.view() as tx,
    ):
        bucket = tx.bucket(b"b")
        assert len(bucket) == 4000
        cached = leaves_in_cache(db)
        numbers = [
            number
            for number in range(0, 4000, 40)
            if not any(key(number) in leaf.keys for leaf in cached.values())
        ]
        assert len(numbers) > 50
        for number in numbers:
            assert bucket.get(key(number)) == b"value %d" % number
        assert leaves_in_cache(db) == cached
        assert 0 < len(db.pager._asked) <= db.pager._full


def test_a_leaf_that_is_asked_again_gets_into_a_full_cache(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 4000)
    with (
        shearbolt.open(path, cache_size=_content(path, 1 << 30) // 3) as db,
        db.view() as tx,
    ):
        bucket = tx.bucket(b"b")
        assert len(bucket) == 4000
        for number in range(0, 400, 40):
            for _ in range(2):
                assert bucket.get(key(number)) == b"value %d" % number
            leaves = leaves_in_cache(db).values()
            assert any(key(number) in leaf.keys for leaf in leaves)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_walk_over_more_than_there_is_room_for_drives_nothing_out(path, reverse):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 4000)
    with (
        shearbolt.open(path, cache_size=_content(path, 1 << 30) // 3) as db,
        db.view() as tx,
    ):
        bucket = tx.bucket(b"b")
        before = None
        for _ in range(4):
            found = list(iter(bucket.keys(reverse=reverse)))
            assert found == sorted(map(key, range(4000)), reverse=reverse)
            before = before or leaves_in_cache(db)
            assert leaves_in_cache(db) == before
            assert len(db.pager._asked) <= db.pager._full


def test_a_full_cache_gives_what_it_has_not_used_lately_without_reading(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 4000)
    with (
        shearbolt.open(path, cache_size=_content(path, 1 << 30) // 3) as db,
        db.view() as tx,
    ):
        bucket = tx.bucket(b"b")
        assert len(bucket) == 4000
        old = [page for page in db.pager._old.values() if page.is_leaf]
        assert len(old) > 5
        for leaf in old:
            assert bucket.get(leaf.keys[0]) == leaf.values[0]
            assert db.pager.young[leaf.pgid] is leaf


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_what_is_read_again_and_again_drives_out_what_is_not(path, share):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 4000)
    with (
        shearbolt.open(path, cache_size=_content(path, 1 << 30) // 3) as db,
        db.view() as tx,
    ):
        bucket = tx.bucket(b"b")
        assert len(bucket) == 4000
        many = int(4000 / 3 * share)
        for first in (2600, 0):
            for _ in range(5):
                found = [*iter(bucket.keys(key(first), key(first + many)))]
                assert len(found) == many
            leaves = leaves_in_cache(db).values()
            assert {name for leaf in leaves for name in leaf.keys} >= set(found)


def _content(path, size):
    """What all pages cost, with a cache of this size."""
    with shearbolt.open(path, cache_size=size) as db, db.view() as tx:
        assert len(tx.bucket(b"b")) == 4000
        return sum(page.cost for page in db.pager.young.values())


def test_an_index_that_two_threads_drop_at_once_is_dropped_once(small):
    filled(small, 4000)
    pager = small.pager
    with small.view() as tx:
        root = indexed(tx, 4000).root_element_page()
        spent = pager.spent - sum(page.cost for page in pager.young.values())
        assert spent > 0
        pager.patience = 64

        def another_thread_comes_between(_):
            pager.drop_indexes()
            return True

        pager.drop_indexes(another_thread_comes_between)
        assert root.pairs is None
        assert pager.spent == sum(page.cost for page in pager.young.values())
        assert pager.patience == 64
        # And it can be made again.
        assert index_of(indexed(tx, 4000))


def test_threads_that_share_an_index_get_what_is_there(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        filled(db, 2000)
    wrong = []

    def read(db, seed):
        rng = random.Random(seed)
        with db.view() as tx:
            bucket = tx.bucket(b"b")
            for number in rng.choices(range(2200), k=8000):
                wanted = b"value %d" % number if number < 2000 else None
                if bucket.get(key(number)) != wanted:
                    wrong.append(number)

    # Room for some pages or for all, and for indexes that come and go.
    for size in (60_000, 300_000, 1 << 24):
        with shearbolt.open(path, cache_size=size) as db:
            threads = [
                threading.Thread(target=read, args=(db, seed)) for seed in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert wrong == []


def _kept(pager):
    return [*pager.young.values(), *pager._old.values()]


@pytest.mark.parametrize("size", [1 << 20, 3_000_000, 5_000_000, 1])
@pytest.mark.parametrize("writable", [False, True])
def test_the_cache_keeps_no_more_than_its_bound_however_large_values_are(
    writable, size, path
):
    with shearbolt.open(path, no_sync=True) as db, db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.update((b"%02d" % i, bytes(1 << (12 + i % 11))) for i in range(40))
    with shearbolt.open(path, no_sync=True, cache_size=size) as db:
        for turn in range(2):
            with db.update() if writable else db.view() as tx:
                bucket = tx.bucket(b"b")
                for i in range(40):
                    assert len(bucket[b"%02d" % i]) == 1 << (12 + i % 11)
                    assert sum(page.cost for page in _kept(db.pager)) <= size
                assert sum(map(len, bucket.values())) > 1 << 24
                if writable:
                    bucket[b"%02d" % turn] = bytes(1 << (12 + turn % 11))
            assert sum(page.cost for page in _kept(db.pager)) <= size
        assert db.pager.spent <= size


def test_a_value_larger_than_the_cache_drives_nothing_out_of_it(path):
    with shearbolt.open(path, no_sync=True) as db, db.update() as tx:
        tx.create_bucket(b"a").update((b"%04d" % i, bytes(50)) for i in range(2000))
        tx.create_bucket(b"b")[b"large"] = bytes(4 << 20)
    with shearbolt.open(path, read_only=True, cache_size=1 << 20) as db:
        with db.view() as tx:
            assert len(list(tx.bucket(b"a").items())) == 2000
            before = {page.pgid for page in _kept(db.pager)}
            assert len(before) > 30
            for _ in range(3):
                assert len(tx.bucket(b"b")[b"large"]) == 4 << 20
        assert {page.pgid for page in _kept(db.pager)} >= before
