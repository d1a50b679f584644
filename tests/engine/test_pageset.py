"""The set of page ids: it says the same as a plain set, also in bytes."""

import random
import struct
import sys
from itertools import count, takewhile

import pytest

from shearbolt.pages import pageset
from shearbolt.pages.pageset import PageSet


def listed(pages):
    return list(struct.unpack(f"<{len(pages)}Q", pages.encoded()))


def sound(pages):
    """Everything that the set relies on."""
    chunks, firsts = pages._chunks, pages._firsts
    assert firsts[0] == 0
    assert len(firsts) == len(chunks)
    assert len(pages) == sum(map(len, chunks))
    assert all(map(len, chunks[1:]))
    assert all(len(chunk) <= 2 * pageset._CHUNK for chunk in chunks)
    ends = [*firsts[1:], 1 << 64]
    for first, chunk, behind in zip(firsts, chunks, ends, strict=True):
        assert all(first <= page < behind for page in chunk)
    return pages


@pytest.mark.thorough(rows=3)
@pytest.mark.seeds(2)
@pytest.mark.parametrize("size", [4, 32, 1024])
def test_random_histories_agree_with_a_plain_set(seed, size, monkeypatch):
    # Small chunks are cut and joined all the time.
    monkeypatch.setattr(pageset, "_CHUNK", size)
    rng = random.Random(seed)
    plain = set(rng.sample(range(12_288), rng.choice([0, 500])))
    pages = sound(PageSet(sorted(plain)))
    for _ in range(150):
        known, before = pages, sorted(plain)
        start = rng.randrange(12_288)
        length = rng.choice([1, 2, 50, 2000])
        run = range(start, start + length)
        there = plain.intersection(run)
        assert pages.first_in(start, length) == min(there, default=None)
        some = sorted(rng.sample(range(12_288), rng.choice([1, 5, 40])))
        assert pages.first_of(some) == min(plain.intersection(some), default=None)
        if not there:
            pages = pages.changed(new_runs=[(start, length)])
            plain.update(run)
        elif len(there) == length:
            pages = pages.changed(gone_runs=[(start, length)])
            plain.difference_update(run)
        else:
            new = sorted(set(run) - plain)[: rng.choice([3, 400])]
            # Now and then all but a few.
            gone = rng.choice([3, 400]) if rng.random() < 0.9 else len(before) - 7
            gone = sorted(rng.sample(before, max(min(len(before), gone), 0)))
            # And runs, beside these, as far as they reach.
            page, most = rng.choice(before), rng.choice([2, 30, 600])
            old = list(takewhile(plain.difference(gone).__contains__, count(page)))
            other = rng.randrange(12_288)
            free = set(range(20_000)).difference(plain, new)
            more = list(takewhile(free.__contains__, range(other, other + most)))
            pages = pages.changed(
                gone,
                new,
                [(page, len(old[:most]))] if old else [],
                [(other, len(more))] if more else [],
            )
            plain = plain.difference(gone, old[:most]).union(new, more)
        sound(pages)
        assert list(pages) == listed(pages) == sorted(plain)
        assert listed(known) == before
    assert all((page in pages) == (page in plain) for page in range(20_000))


@pytest.mark.seeds(1)
def test_a_set_that_becomes_small_or_large_stays_the_same_set(seed):
    rng = random.Random(seed)
    plain: set[int] = set()
    pages = sound(PageSet())
    for step in range(300):
        known, before = pages, sorted(plain)
        # It grows and shrinks past the border where it is kept otherwise.
        more = rng.randrange(12) if step % 60 < 30 else rng.randrange(4)
        fewer = rng.randrange(4) if step % 60 < 30 else rng.randrange(12)
        new = sorted(set(rng.sample(range(2, 400), more)) - plain)
        gone = sorted(rng.sample(before, min(fewer, len(before))))
        run = range(500 + 10 * step, 500 + 10 * step + rng.choice([0, 0, 0, 3]))
        runs = [(run.start, len(run))] if run else []
        pages = sound(pages.changed(gone, new, (), runs))
        plain = plain.difference(gone).union(new, run)
        assert listed(pages) == sorted(plain)
        assert {page for page in range(4000) if page in pages} == plain
        assert pages.first_of([*range(0, 4000, 7)]) == min(
            plain.intersection(range(0, 4000, 7)), default=None
        )
        assert listed(known) == before
        assert all(page in known for page in before)


def test_a_set_that_is_empty_again_takes_no_room():
    pages = PageSet().changed(new_runs=[(10_000_000, 9000)])
    pages = pages.changed(gone_runs=[(10_000_000, 9000)])
    assert pages._chunks == [pageset.array("Q")]
    assert pages.encoded() == b""


def test_what_did_not_change_is_shared():
    pages = PageSet(range(0, 20_000, 2))
    other = pages.changed([100, 102], [101, 15_001])
    shared = set(map(id, pages._chunks)).intersection(map(id, other._chunks))
    assert len(shared) == len(pages._chunks) - 2


@pytest.mark.parametrize("members", [0, 1, 1023, 5000])
@pytest.mark.parametrize(("first", "size"), [(1, 1), (5, 100), (1022, 1024), (3, 9000)])
def test_pieces_are_all_bytes_in_order(members, first, size):
    pages = PageSet(range(3, 3 + 2 * members, 2))
    pieces = list(pages.pieces(first, size))
    assert b"".join(pieces) == pages.encoded()
    sizes = [len(piece) // 8 for piece in pieces]
    assert sizes[:1] == [min(first, members)][: len(sizes)]
    assert all(one == size for one in sizes[1:-1])
    assert all(sizes)


def test_bytes_are_little_endian_on_a_big_endian_machine(monkeypatch):
    pages = PageSet([2, 3, 5000])
    here = pages.encoded()
    assert here == struct.pack("<3Q", 2, 3, 5000)
    other = {"little": "big", "big": "little"}[sys.byteorder]
    monkeypatch.setattr("sys.byteorder", other)
    # There the arrays hold the bytes the other way round, so these come out swapped.
    assert pages.encoded() == struct.pack(">3Q", 2, 3, 5000)
    pieces = struct.pack(">2Q", 2, 3), struct.pack(">Q", 5000)
    assert tuple(pages.pieces(2, 1)) == pieces
    monkeypatch.undo()
    assert pages.encoded() == here


def test_pages_far_apart_cost_no_more_than_neighbours():
    pages = PageSet(range(0, 1 << 40, 1 << 28))
    assert len(pages) == 4096
    assert len(pages._chunks) == 8
