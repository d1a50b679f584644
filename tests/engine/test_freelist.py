"""The freelist: what is free, since when, and what a rollback gives back."""

import copy
import gc
import random
import sys
from contextlib import suppress
from itertools import count, islice, pairwise

import pytest
from places import Interrupts

from shearbolt.errors import CorruptPageError
from shearbolt.pages import decoding
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
    freelist.free(12, 0)
    freelist.commit(100)
    freelist.free(39, 2)
    assert (freelist.free_count, freelist.pending_count) == (0, 4)
    assert 40 in freelist
    assert freelist.allocate(1) == 0
    freelist.commit(102)
    freelist.release([101, 102])
    assert freelist.ids() == [12, 39, 40, 41]
    assert (freelist.free_count, freelist.pending_count) == (1, 3)
    freelist.release([])
    assert (freelist.free_count, freelist.pending_count) == (4, 0)


@KINDS
@pytest.mark.parametrize("committed", [True, False])
def test_freeing_twice_is_refused(kind, committed):
    freelist = make_freelist(kind, [7])
    freelist.free(10, 1)
    freelist.free(13, 0)
    if committed:
        freelist.commit(1)
    twice = [(10, 0), (11, 0), (9, 1), (7, 0), (6, 1), (13, 0), (12, 1), (8, 9)]
    for pgid, overflow in twice:
        with pytest.raises(FreelistError, match="already freed") as caught:
            freelist.free(pgid, overflow)
        assert caught.value.pgid in {7, 10, 11, 13}
    assert len(freelist) == 4


LONG = 2000
START = 5000
PLACES = {"beginning": START, "middle": START + 900, "end": START + LONG - 1}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["free", "pending", "freed", "freed with others"])
def test_a_page_of_a_long_run_that_is_free_already_is_named(place, how):
    """The lowest one, wherever it is; and pages beside the run do not count."""
    page = PLACES[place]
    beside = [START - 1, START + LONG]
    # Enough of them, so that they are in several pieces of the set.
    others = [*range(2, 4000), *beside, *range(9000, 12_000)]
    freelist = ArrayFreelist([*others, page] if how == "free" else others)
    if how == "freed with others":
        # Two, of which the second one may be in the run as well.
        freelist.free(page, 1 if place != "end" else 0)
    elif how != "free":
        freelist.free(page, 0)
        if place != "end":
            freelist.free(START + LONG - 1, 0)
    if how == "pending":
        freelist.commit(1)
    count = len(freelist)
    with pytest.raises(FreelistError, match=f"page {page} already freed") as caught:
        freelist.free(START, LONG - 1)
    assert caught.value.pgid == page
    assert len(freelist) == count
    freelist.free(START - 500, 498)


@pytest.mark.parametrize("lowest", ["listed", "freed", "freed with others"])
def test_of_several_pages_that_are_free_already_the_lowest_is_named(lowest):
    how = ["listed", "freed", "freed with others"]
    how.remove(lowest)
    place = dict(zip([lowest, *how], (105, 110, 120), strict=True))
    freelist = ArrayFreelist([place["listed"]])
    freelist.free(place["freed"], 0)
    freelist.free(place["freed with others"], 1)
    with pytest.raises(FreelistError, match="page 105 already freed"):
        freelist.free(100, 50)


@pytest.mark.parametrize("how", ["run in run", "single in run", "run around run"])
def test_runs_freed_by_one_transaction_do_not_overlap(how):
    freelist = ArrayFreelist()
    freelist.free(100, 9)
    freelist.free(200, 9)
    again = {"run in run": (105, 1), "single in run": (109, 0)}
    pgid, overflow = again.get(how, (190, 30))
    with pytest.raises(FreelistError) as caught:
        freelist.free(pgid, overflow)
    assert caught.value.pgid == max(pgid, 200 if pgid == 190 else 0)
    for fits in ((90, 9), (110, 89), (210, 0)):
        freelist.free(*fits)
    assert freelist.ids() == [*range(90, 211)]


@KINDS
def test_many_are_freed_as_one_by_one(kind):
    together, single = (
        make_freelist(kind, range(5, 60)),
        make_freelist(kind, range(5, 60)),
    )
    for freelist in (together, single):
        assert [freelist.allocate(1) for _ in range(40)] == list(range(5, 45))
        freelist.commit(3)
    gone = [30, 7, 8, 44, 12]
    together.free_all(gone)
    for pgid in gone:
        single.free(pgid, 0)
    for freelist in (together, single):
        freelist.commit(4)
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
    freelist.free(10, 0)
    freelist.commit(1)
    freelist.free(12, 0)
    freelist.free(20, 2)
    known = [7, 10, 12, 20, 21, 22]
    for pgids, twice in [
        ([3, 10, 4], 10),
        ([7], 7),
        ([5, 4, 5], 5),
        ([6, 1], 1),
        ([13, 12], 12),
        ([24, 21], 21),
        ([*range(30, 60), 7], 7),
    ]:
        with pytest.raises(FreelistError) as caught:
            freelist.free_all(pgids)
        assert caught.value.pgid == twice
        assert freelist.ids() == known
    freelist.free_all([])
    freelist.free_all([4, 3])
    assert freelist.ids() == [3, 4, *known]
    freelist.rollback()
    assert freelist.ids() == [7, 10]


@pytest.mark.parametrize("meta", [0, 1])
def test_meta_pages_are_never_free(meta):
    with pytest.raises(FreelistError, match=f"cannot free page 0 or 1: {meta}"):
        ArrayFreelist().free(meta, 0)


def test_array_takes_the_lowest_address_that_fits():
    freelist = ArrayFreelist([3, 4, 5, 6, 7, 9, 12, 13, 18])
    taken = [freelist.allocate(n) for n in (3, 1, 3, 2, 1, 0, 1, 1, 1)]
    assert taken == [3, 6, 0, 12, 7, 0, 9, 18, 0]
    assert freelist.ids() == []


def test_hashmap_takes_the_run_that_fits_exactly():
    freelist = HashmapFreelist([3, 4, 5, 6, 7, 9, 12, 13, 18])
    assert freelist.allocate(1) == 9
    assert freelist.allocate(2) == 12
    assert freelist.allocate(3) == 3
    assert freelist.allocate(2) == 6
    assert freelist.allocate(2) == 0


def test_hashmap_merges_neighbours_into_longer_runs():
    freelist = HashmapFreelist([3, 4, 7, 8])
    freelist.free(5, 1)
    freelist.commit(1)
    freelist.release([])
    assert list(freelist.runs()) == [(3, 6)]
    assert freelist.allocate(6) == 3


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
    ([(65, 9, 60), (80, 12, 75), (80, 15, 60)], [50, 70], [9, 12]),
    ([(50, 9, 40), (49, 12, 30)], [50], [12]),
    # The first and the last transaction between two readers.
    ([(51, 9, 51)], [50, 70], [9]),
    ([(69, 9, 69)], [50, 70], [9]),
    ([(70, 9, 69)], [50, 70], []),
]


@KINDS
@pytest.mark.parametrize("overflow", [0, 2])
@pytest.mark.parametrize(("freed", "readers", "expected"), RELEASES)
def test_a_page_no_reader_can_see_is_free(kind, freed, readers, expected, overflow):
    freelist = make_freelist(kind)
    for txid in sorted({txid for txid, _, _ in freed}):
        for one, page, by in freed:
            if one == txid:
                if by:
                    freelist._allocated_by[page] = by
                freelist.free(page, overflow)
        freelist.commit(txid)
    for _ in range(2):
        freelist.release(readers)
        free = [
            page for start, n in freelist.runs() for page in range(start, start + n)
        ]
        assert free == [page + n for page in expected for n in range(overflow + 1)]


@KINDS
@pytest.mark.seeds(12)
def test_readers_that_come_and_go_in_any_order_hold_what_they_can_see(kind, seed):
    rng = random.Random(seed)
    freelist = make_freelist(kind)
    in_use, readers, behind = list(range(2, 20)), [], count(20)
    allocated_by, pending, free = {}, {}, set()
    for txid in range(2, 120):
        for _ in range(rng.randrange(3)):
            if rng.random() < 0.5:
                readers.append(txid - 1)
            elif readers:
                readers.remove(rng.choice(readers))
        if seed % 3 == 0:
            readers = [*readers, 2]
        freelist.release(readers)
        # bbolt's rule, without a memory.
        bounds = [*sorted(set(readers)), 1 << 64]
        for freed, pages in pending.items():
            for page in sorted(pages):
                by = allocated_by.get(page, 0)
                between = any(a < by and a < freed < b for a, b in pairwise(bounds))
                if freed < bounds[0] or between:
                    pages.remove(page)
                    free.add(page)
                    allocated_by.pop(page, None)
        assert freelist.counts() == (len(free), sum(map(len, pending.values())))
        listed = set(freelist.ids())
        assert listed == free.union(*pending.values())
        gone = rng.sample(in_use, rng.randrange(6))
        for page in gone:
            freelist.free(page, 0)
            in_use.remove(page)
        taken = list(filter(None, (freelist.allocate(1) for _ in range(4))))
        assert free.issuperset(taken)
        free.difference_update(taken)
        in_use += [*taken, *islice(behind, 4 - len(taken))]
        freelist.commit(txid)
        allocated_by.update(dict.fromkeys(taken, txid))
        pending[txid] = set(gone)


@KINDS
def test_what_waits_behind_a_long_reader_is_not_looked_through_at_every_begin(kind):
    freelist = make_freelist(kind)
    steps = 0

    def step(frame, event, arg):
        nonlocal steps
        steps += 1
        return step

    def take(readers):
        nonlocal steps
        steps, before = 0, sys.gettrace()
        sys.settrace(step)
        try:
            freelist.release(readers)
        finally:
            sys.settrace(before)
        return steps

    for txid in range(2, 400):
        freelist.free(1000 + txid, 0)
        freelist.commit(txid)
        # One that stays, and one after the other beside it.
        assert take([1, txid]) < 100
    assert freelist.pending_count == 398
    assert take([1]) < 100
    assert take([]) > 398
    assert freelist.pending_count == 0


@KINDS
def test_a_rollback_gives_back_what_was_taken_and_keeps_what_was_freed(kind):
    freelist = make_freelist(kind, [3, 4, 5, 9])
    first = freelist.allocate(1)
    freelist.commit(5)
    before = freelist.ids(), list(freelist.runs())
    taken = freelist.allocate(2)
    freelist.free(first, 0)
    freelist.free(20, 3)
    listed = {*before[0], first, 20, 21, 22, 23}.difference([taken, taken + 1])
    assert freelist.ids() == sorted(listed)
    freelist.rollback()
    assert (freelist.ids(), list(freelist.runs())) == before
    # Who allocated the page is known as before: 5, between the readers.
    freelist.free(first, 0)
    freelist.commit(7)
    freelist.release([4])
    assert first in [start for start, _ in freelist.runs()]


@KINDS
def test_who_allocated_a_run_is_known_when_it_is_freed(kind):
    freelist = make_freelist(kind, range(5, 20))
    run, single = freelist.allocate(4), freelist.allocate(1)
    freelist.commit(3)
    freelist.free(run, 3)
    freelist.free(single, 0)
    freelist.commit(4)
    # A reader of version 3 sees them, one of version 2 does not.
    freelist.release([3])
    assert freelist.free_count == 10
    freelist.release([2])
    assert freelist.free_count == 15


@KINDS
def test_a_rollback_makes_nothing_certain_that_is_in_doubt(kind):
    freelist = make_freelist(kind, range(5, 20))
    assert not freelist.in_doubt
    freelist.allocate(2)
    freelist.in_doubt = True
    freelist.rollback()
    assert freelist.in_doubt


@KINDS
def test_a_rollback_of_nothing_is_nothing(kind):
    freelist = make_freelist(kind, [3])
    freelist.rollback()
    assert freelist.ids() == [3]


@KINDS
@pytest.mark.seeds(4)
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
            start = freelist.allocate(count)
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
                freelist.free(start, count - 1)
                gone |= set(range(start, start + count))
        waiting = sum(map(len, pending.values())) + len(gone)
        assert freelist.counts() == (len(free), waiting)
        if rng.random() < 0.3:
            freelist.rollback()
            free, used = undo
        else:
            freelist.commit(txid)
            pending[txid] = gone
        assert not freelist.in_doubt
        everything = free.union(*pending.values())
        assert freelist.ids() == sorted(everything)
        assert len(freelist) == len(everything)
        assert all((page in freelist) == (page in everything) for page in range(402))
        runs = list(freelist.runs())
        assert {page for start, n in runs for page in range(start, start + n)} == free
        assert all(a + n < b for (a, n), (b, _) in pairwise(runs))


def in_the_middle(kind):
    """A list with pending pages, and a transaction that has taken and freed some."""
    freelist = make_freelist(kind, [*range(5, 30), *range(40, 60), 70])
    runs = [freelist.allocate(length) for length in (3, 1, 4, 1, 1)]
    freelist.commit(2)
    freelist.free(runs[0], 2)
    freelist.free_all([runs[1], 90, 93, 96])
    freelist.commit(3)
    freelist.release([])
    freelist.free(runs[2], 3)
    freelist.free(runs[3], 0)
    freelist.commit(4)
    for length in (1, 1, 2):
        freelist.allocate(length)
    freelist.free(100, 4)
    freelist.free(110, 0)
    return freelist


def pages(freelist):
    return [page for start, n in freelist.runs() for page in range(start, start + n)]


def free_again(freelist):
    with suppress(FreelistError):
        freelist.free(116, 1)


def all_of_it(freelist):
    """What a list says now, and after each way to go on."""
    parts = []
    for follow in [
        lambda _: None,
        lambda f: f.commit(9),
        lambda f: f.rollback(),
        free_again,
    ]:
        its = copy.deepcopy(freelist)
        follow(its)
        parts += [its.ids(), its.counts(), pages(its)]
        its.release([])
        parts += [its.ids(), pages(its)]
    return parts


CHANGES = {
    "take one": lambda f: f.allocate(1),
    "take some": lambda f: f.allocate(2),
    "take many": lambda f: f.allocate_singles(7),
    "free one": lambda f: f.free(112, 0),
    "free some": lambda f: f.free(114, 3),
    "free many": lambda f: f.free_all([120, 122, 127]),
    "commit": lambda f: f.commit(5),
    "roll back": lambda f: f.rollback(),
    "release": lambda f: f.release([]),
    "release some": lambda f: f.release([3]),
    "count runs": lambda f: f.runs(),
}


@KINDS
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_interrupted_is_made_or_not_or_in_doubt(kind, change):
    freelist = in_the_middle(kind)
    before = all_of_it(freelist)
    CHANGES[change](freelist)
    after = all_of_it(freelist)
    for place in count():
        freelist = in_the_middle(kind)
        try:
            with Interrupts([place]) as interrupts:
                CHANGES[change](freelist)
        except KeyboardInterrupt:
            assert freelist.in_doubt or all_of_it(freelist) in (before, after)
        if not interrupts.places:
            continue
        break
    assert place
    assert not freelist.in_doubt
    assert all_of_it(freelist) == after


@KINDS
def test_many_pages_released_at_once_are_merged(kind):
    freelist = make_freelist(kind, range(1000, 3000, 4))
    for page in range(1001, 3000, 4):
        freelist.free(page, 1)
    freelist.commit(1)
    freelist.release([])
    assert freelist.free_count == 1500
    assert all(length == 3 for _, length in freelist.runs())
    assert freelist.allocate(3) == 1000
    assert freelist.allocate(4) == 0


@KINDS
@pytest.mark.parametrize("seed", range(2))
def test_pages_are_chosen_as_bbolt_does(kind, seed):
    """By looking at every page, as its array type does, or at every run."""
    rng = random.Random(seed)
    first = sorted(rng.sample(range(2, 900), 500))
    freelist, free = make_freelist(kind, first), set(first)
    used, freed = [], []
    for txid in range(1, 80):
        freelist.release([])
        free.update(page for run in freed for page in range(run[0], sum(run)))
        freed, old = [], used.copy()
        for _ in range(rng.choice([0, 3, 3, 40])):
            count = rng.choice([1, 1, 1, 1, 2, 3, 9])
            start = freelist.allocate(count)
            assert start == chosen(kind, free, count)
            if start:
                free.difference_update(range(start, start + count))
                used.append((start, count))
        if rng.random() < 0.2:
            singles = []
            for _ in range(17):
                singles.append(chosen(kind, free, 1))
                free.discard(singles[-1])
            assert freelist.allocate_singles(17) == [page for page in singles if page]
            used += [(page, 1) for page in singles if page]
        # What this transaction has taken it keeps.
        for run in rng.sample(old, min(len(old), rng.choice([3, 5, 90]))):
            freelist.free(run[0], run[1] - 1)
            used.remove(run)
            freed.append(run)
        freelist.commit(txid)


def chosen(kind, free, count):
    runs = []
    for page in sorted(free):
        if runs and sum(runs[-1]) == page:
            runs[-1][1] += 1
        else:
            runs.append([page, 1])
    fits = [(length, start) for start, length in runs if length >= count]
    if kind == "array":
        return min((start for _, start in fits), default=0)
    return min(fits, default=(0, 0))[1]


@KINDS
def test_the_collector_of_cycles_has_little_to_walk(kind):
    """However many free pages there are, and in how many runs.

    But for dicts of numbers, which it walks from Python 3.14 on.
    """
    freelist = make_freelist(kind, range(2, 40_000, 2))
    for page in range(40_001, 41_001, 2):
        freelist.free(page, 0)
    freelist.commit(1)
    freelist.release([])
    walked, waiting = 0, [vars(freelist)]
    while waiting:
        found = gc.get_referents(waiting.pop())
        walked += len(found)
        waiting += [
            one
            for one in found
            if gc.is_tracked(one)
            and type(one) is not type
            and not (sys.version_info >= (3, 14) and _has_numbers_only(one))
        ]
    assert walked < 2000


def _has_numbers_only(one):
    return type(one) is dict and {*map(type, one), *map(type, one.values())} == {int}


@pytest.mark.parametrize("count", [0, 1, 65_534, 65_535, 65_536, 100_000])
def test_a_written_list_is_read_again(count, monkeypatch):
    # Many at once, and in several pieces.
    monkeypatch.setattr(decoding, "_IDS", 1000)
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
