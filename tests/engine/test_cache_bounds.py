"""What the cache counts is what it holds, and it holds no more than it may."""

import contextlib
import random
import sys
import tracemalloc

import pytest
from machine import PATH, Machine

import shearbolt
from shearbolt.pages.pager import Pager

PAGE = 1024


def size_of(page):
    """Bytes of memory that a page alone is the reason for."""
    held = {id(each): sys.getsizeof(each) for each in (*page.keys, *page.values)}
    lists = [page, page.keys, page.values]
    if not page.is_leaf:
        lists += [page.children, page.data]
    data = getattr(page, "_data", b"")
    return sum(held.values()) + sum(map(sys.getsizeof, lists)) + sys.getsizeof(data)


def fill(db, length, pairs):
    for begin in range(0, pairs, 50):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"b")
            for at in range(begin, begin + 50):
                bucket.put(b"%05d" % at + bytes(length - 5), b"v" * 20)


def pages(pager):
    return [*pager.young.values(), *pager._old.values()]


@pytest.mark.parametrize("length", [5, 300, 3000, 30_000])
@pytest.mark.parametrize("again", [False, True])
def test_a_cached_page_costs_what_it_takes(path, length, again):
    db = shearbolt.open(path, no_sync=True, page_size=PAGE)
    fill(db, length, 200)
    if again:
        db.close()
        db = shearbolt.open(path)
    with db, db.view() as tx:
        assert len(list(tx.bucket(b"b").items())) == 200
        assert any(not page.is_leaf for page in pages(db.pager))
        for page in pages(db.pager):
            assert size_of(page) < 1.2 * page.cost + 200


def test_large_keys_do_not_exceed_the_bound(path):
    bound = 1 << 20
    with shearbolt.open(path, no_sync=True, page_size=PAGE) as db:
        fill(db, 30_000, 200)
    with shearbolt.open(path, cache_size=bound) as db, db.view() as tx:
        assert len(list(tx.bucket(b"b").items())) == 200
        for at in range(200):
            assert tx.bucket(b"b").get(b"%05d" % at + bytes(29_995))
        assert sum(map(size_of, pages(db.pager))) < 1.1 * bound


def change(db, draw):
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(draw.choice([b"one", b"two"]))
        for _ in range(draw.randrange(1, 120)):
            key = b"%04d" % draw.randrange(2000)
            if draw.random() < 0.3:
                bucket.delete(key)
            else:
                bucket.put(key, bytes(draw.choice([5, 50, 50, 300, 3000])))
        if draw.random() < 0.1:
            raise ZeroDivisionError


def look(db, draw):
    with db.view() as tx:
        for _, bucket in tx.buckets():
            for _ in range(draw.choice([10, 200])):
                bucket.get(b"%04d" % draw.randrange(2000))
            if draw.random() < 0.3:
                list(bucket.items())


@pytest.mark.seeds(3)
@pytest.mark.parametrize("bound", [5000, 50_000, 300_000, 1 << 24])
def test_the_count_is_exact_after_any_program_of_one_thread(seed, bound):
    draw = random.Random(f"{seed} {bound}")
    with shearbolt.open(
        PATH, storage=Machine(), page_size=PAGE, no_sync=True, cache_size=bound
    ) as db:
        for _ in range(15):
            with contextlib.suppress(ZeroDivisionError):
                change(db, draw)
            look(db, draw)
            assert db.pager.spent == db.pager.held() <= bound


def test_a_page_that_two_threads_read_at_once_makes_the_cache_no_fuller(
    path, monkeypatch
):
    with shearbolt.open(path, no_sync=True, page_size=PAGE) as db:
        fill(db, 100, 500)
    read = Pager._from_file
    inside = []

    def twice(self, pgid, high_water_mark):
        # What another thread does while this one reads.
        if not inside:
            inside.append(pgid)
            self.page(pgid, high_water_mark)
            inside.clear()
        return read(self, pgid, high_water_mark)

    with shearbolt.open(path) as db, db.view() as tx:
        tx.bucket(b"b").get(b"x")
        list(tx.bucket(b"b").items())
        needed = db.pager.held()
    monkeypatch.setattr(Pager, "_from_file", twice)
    with shearbolt.open(path, cache_size=needed + needed // 4) as db, db.view() as tx:
        bucket = tx.bucket(b"b")
        for at in range(500):
            assert bucket.get(b"%05d" % at + bytes(95)) is not None
        assert db.pager._full == 0
        assert len(pages(db.pager)) > 50


def test_deleting_a_bucket_takes_no_memory_for_its_pairs(path):
    """Its pages are read, to know what is in them, and not kept."""
    with shearbolt.open(path, no_sync=True) as db:
        for begin in range(0, 40_000, 10_000):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket.update(
                    (b"%06d" % at, b"v" * 100) for at in range(begin, begin + 10_000)
                )
    with shearbolt.open(path, no_sync=True, cache_size=1 << 18) as db:
        with db.update() as tx:
            tracemalloc.start()
            try:
                tx.delete_bucket(b"b")
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        # 4 MB of pairs; a page's number, its list's place, and what the cache holds.
        assert most < 1_200_000
        with db.view() as tx:
            assert not tx.check()
