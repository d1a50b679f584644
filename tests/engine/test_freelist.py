"""The freelist: what is free, since when, and what a rollback gives back."""

import random
from itertools import pairwise

import pytest

from shearbolt.errors import CorruptPageError
from shearbolt.pages.decoding import decode_freelist
from shearbolt.pages.encoding import encode_freelist
from shearbolt.pages.format import COUNT_OVERFLOW
from shearbolt.pages.freelist import (
    ArrayFreelist,
    FreelistError,
    HashmapFreelist,
    make_freelist,
)

KINDS = pytest.mark.parametrize("kind", ["array", "hashmap"])


@KINDS
def test_a_freed_page_is_pending_and_then_free(kind):
    freelist = make_freelist(kind)
    freelist.free(100, 12, 0)
    freelist.free(102, 39, 2)
    assert (freelist.free_count, freelist.pending_count) == (0, 4)
    assert 40 in freelist
    assert freelist.allocate(102, 1) == 0
    freelist.release([101, 102])
    assert freelist.ids() == [12, 39, 40, 41]
    assert (freelist.free_count, freelist.pending_count) == (1, 3)
    freelist.release([])
    assert (freelist.free_count, freelist.pending_count) == (4, 0)


@KINDS
def test_freeing_twice_is_refused(kind):
    freelist = make_freelist(kind, [7])
    freelist.free(1, 10, 1)
    for pgid, overflow in [(10, 0), (11, 0), (9, 1), (7, 0), (6, 1)]:
        with pytest.raises(FreelistError, match="already freed") as caught:
            freelist.free(2, pgid, overflow)
        assert caught.value.pgid in {7, 10, 11}
    assert len(freelist) == 3


@KINDS
def test_many_are_freed_as_one_by_one(kind):
    together, single = (
        make_freelist(kind, range(5, 60)),
        make_freelist(kind, range(5, 60)),
    )
    for freelist in (together, single):
        assert [freelist.allocate(3, 1) for _ in range(40)] == list(range(5, 45))
    gone = [30, 7, 8, 44, 12]
    together.free_all(4, gone)
    for pgid in gone:
        single.free(4, pgid, 0)
    for freelist in (together, single):
        # A reader of version 3 sees them, transaction 3 having allocated them. One of
        # version 2 does not.
        freelist.release([3])
        assert freelist.ids() == [*sorted(gone), *range(45, 60)]
        assert freelist.free_count == 15
        freelist.release([2])
        assert freelist.free_count == 20


@KINDS
def test_of_many_that_are_freed_none_may_be_free(kind):
    freelist = make_freelist(kind, [7])
    freelist.free(1, 10, 0)
    for pgids, twice in [([3, 10, 4], 10), ([7], 7), ([5, 4, 5], 5), ([6, 1], 1)]:
        with pytest.raises(FreelistError) as caught:
            freelist.free_all(2, pgids)
        assert caught.value.pgid == twice
        assert freelist.ids() == [7, 10]
    freelist.free_all(2, [])
    freelist.free_all(2, [4, 3])
    freelist.rollback(2)
    assert freelist.ids() == [7, 10]


@pytest.mark.parametrize("meta", [0, 1])
def test_meta_pages_are_never_free(meta):
    with pytest.raises(FreelistError, match=f"cannot free page 0 or 1: {meta}"):
        ArrayFreelist().free(1, meta, 0)


def test_array_takes_the_lowest_address_that_fits():
    freelist = ArrayFreelist([3, 4, 5, 6, 7, 9, 12, 13, 18])
    taken = [freelist.allocate(1, n) for n in (3, 1, 3, 2, 1, 0, 1, 1, 1)]
    assert taken == [3, 6, 0, 12, 7, 0, 9, 18, 0]
    assert freelist.ids() == []


def test_hashmap_takes_the_run_that_fits_exactly():
    freelist = HashmapFreelist([3, 4, 5, 6, 7, 9, 12, 13, 18])
    assert freelist.allocate(1, 1) == 9
    assert freelist.allocate(1, 2) == 12
    assert freelist.allocate(1, 3) == 3
    assert freelist.allocate(1, 2) == 6
    assert freelist.allocate(1, 2) == 0


def test_hashmap_merges_neighbours_into_longer_runs():
    freelist = HashmapFreelist([3, 4, 7, 8])
    freelist.free(1, 5, 1)
    freelist.release([])
    assert list(freelist.runs()) == [(3, 6)]
    assert freelist.allocate(2, 6) == 3


# (txid, page, allocated by), readers, what is free then; from bbolt's table of
# releaseRange cases, seen through begin(True) with these readers.
RELEASES = [
    ([(100, 9, 1)], [], [9]),
    ([(100, 9, 1)], [100], []),
    ([(100, 9, 1)], [101], [9]),
    ([(100, 9, 100)], [50], [9]),
    ([(100, 9, 50)], [50], []),
    ([(100, 9, 51)], [50], [9]),
    ([(100, 9, 0)], [50], []),
    ([(100, 9, 60)], [50, 70], []),
    ([(65, 9, 60)], [50, 70], [9]),
    ([(65, 9, 60), (80, 10, 75), (80, 11, 60)], [50, 70], [9, 10]),
    ([(50, 9, 40), (49, 10, 30)], [50], [10]),
]


@KINDS
@pytest.mark.parametrize(("freed", "readers", "expected"), RELEASES)
def test_a_page_no_reader_can_see_is_free(kind, freed, readers, expected):
    freelist = make_freelist(kind)
    for txid, page, by in freed:
        if by:
            freelist._allocated_by[page] = by
        freelist.free(txid, page, 0)
    for _ in range(2):
        freelist.release(readers)
        free = [
            page for start, n in freelist.runs() for page in range(start, start + n)
        ]
        assert free == expected


@KINDS
def test_a_rollback_gives_back_what_was_taken_and_keeps_what_was_freed(kind):
    freelist = make_freelist(kind, [3, 4, 5, 9])
    first = freelist.allocate(5, 1)
    freelist.commit()
    before = freelist.ids(), list(freelist.runs())
    freelist.allocate(6, 2)
    freelist.free(6, first, 0)
    freelist.free(6, 20, 3)
    freelist.rollback(6)
    assert (freelist.ids(), list(freelist.runs())) == before
    # Who allocated the page is known as before: 5, between the readers.
    freelist.free(7, first, 0)
    freelist.release([4])
    assert first in [start for start, _ in freelist.runs()]


@KINDS
def test_a_rollback_of_nothing_is_nothing(kind):
    freelist = make_freelist(kind, [3])
    freelist.rollback(9)
    assert freelist.ids() == [3]


@KINDS
@pytest.mark.parametrize("seed", range(6))
def test_random_histories_agree_with_plain_sets(kind, seed):
    rng = random.Random(seed)
    freelist = make_freelist(kind, range(2, 400))
    free, pending, used = set(range(2, 400)), {}, []
    for txid in range(1, 150):
        freelist.release([])
        free = free.union(*pending.values())
        pending = {}
        undo = set(free), list(used)
        gone = set()
        for _ in range(rng.randrange(8)):
            count = rng.choice([1, 1, 1, 2, 3, 17])
            start = freelist.allocate(txid, count)
            run = set(range(start, start + count))
            if start:
                assert run <= free
                free -= run
                used.append((start, count))
            else:
                assert not any(set(range(p, p + count)) <= free for p in free)
        for _ in range(rng.randrange(6)):
            old = [run for run in used if run in undo[1]]
            if old:
                start, count = rng.choice(old)
                used.remove((start, count))
                freelist.free(txid, start, count - 1)
                gone |= set(range(start, start + count))
        if rng.random() < 0.3:
            freelist.rollback(txid)
            free, used = undo
        else:
            freelist.commit()
            pending[txid] = gone
        everything = free.union(*pending.values())
        assert freelist.ids() == sorted(everything)
        assert len(freelist) == len(everything)
        assert all((page in freelist) == (page in everything) for page in range(402))
        runs = list(freelist.runs())
        assert {page for start, n in runs for page in range(start, start + n)} == free
        assert all(a + n < b for (a, n), (b, _) in pairwise(runs))


@KINDS
def test_many_pages_released_at_once_are_merged(kind):
    freelist = make_freelist(kind, range(1000, 3000, 4))
    for page in range(1001, 3000, 4):
        freelist.free(1, page, 1)
    freelist.release([])
    assert freelist.free_count == 1500
    assert all(length == 3 for _, length in freelist.runs())
    assert freelist.allocate(2, 3) == 1000
    assert freelist.allocate(2, 4) == 0


@pytest.mark.parametrize("count", [0, 1, 65_534, 65_535, 65_536, 100_000])
def test_a_written_list_is_read_again(count):
    ids = list(range(2, count + 2))
    data = encode_freelist(7, 0, ids)
    head = int.from_bytes(data[10:12], "little")
    assert head == min(count, COUNT_OVERFLOW)
    assert decode_freelist(head, lambda at, n: data[at : at + n], len(data)) == ids


def test_lists_of_one_kind_are_read_by_the_other():
    ids = [3, 4, 9, 11, 12, 13]
    assert make_freelist("array", ids).ids() == make_freelist("hashmap", ids).ids()


def test_a_double_free_in_a_file_names_the_page(db):
    with db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v" * 5000
    tx = db.begin(writable=True)
    page = tx.bucket(b"b").root
    tx.free_page(page, 0)
    with pytest.raises(CorruptPageError, match="already freed") as caught:
        tx.free_page(page, 0)
    assert caught.value.pgid == page
    tx.rollback()
