"""The set of page ids: it says the same as a plain set, also in bytes."""

import random
import struct
import sys

import pytest

from shearbolt.pages.pageset import PageSet


def listed(pages):
    return list(struct.unpack(f"<{len(pages)}Q", pages.encoded()))


@pytest.mark.parametrize("seed", range(5))
def test_random_histories_agree_with_a_plain_set(seed):
    rng = random.Random(seed)
    pages, plain = PageSet(), set()
    # Twelve chunks, so that runs end inside, at and behind their borders.
    first = sorted(rng.sample(range(12_288), 500))
    pages.update(first)
    plain.update(first)
    for _ in range(300):
        start = rng.choice([rng.randrange(12_288), 4095, 4096, 8190])
        length = rng.choice([1, 1, 2, 50, 5000])
        if length == 1 and rng.random() < 0.5:
            assert pages.insert(start) == (start not in plain)
            plain.add(start)
        elif rng.random() < 0.5:
            pages.add(start, length)
            plain.update(range(start, start + length))
        else:
            pages.remove(start, length)
            plain.difference_update(range(start, start + length))
        if rng.random() < 0.3:
            assert listed(pages) == sorted(plain)
        assert len(pages) == len(plain)
    assert all((page in pages) == (page in plain) for page in range(20_000))


@pytest.mark.parametrize(
    "change",
    [
        lambda pages: pages.add(7, 1),
        lambda pages: pages.remove(5, 1),
        lambda pages: pages.update([7]),
        lambda pages: pages.add(4000, 200),
    ],
)
def test_bytes_made_before_a_change_are_not_given_again(change):
    pages = PageSet()
    pages.update([5, 6, 4090, 5000])
    before = listed(pages)
    change(pages)
    assert listed(pages) == [page for page in range(9000) if page in pages]
    assert listed(pages) != before


def test_a_set_that_is_empty_again_takes_no_room():
    pages = PageSet()
    pages.add(10_000_000, 9000)
    pages.encoded()
    pages.remove(10_000_000, 9000)
    assert not pages._chunks
    assert pages.encoded() == b""


def test_bytes_are_little_endian_on_a_big_endian_machine(monkeypatch):
    pages = PageSet()
    pages.update([2, 3, 5000])
    here = pages.encoded()
    assert here == struct.pack("<3Q", 2, 3, 5000)
    other = {"little": "big", "big": "little"}[sys.byteorder]
    monkeypatch.setattr("sys.byteorder", other)
    # There the arrays hold the bytes the other way round, so these come out swapped.
    assert pages.encoded() == struct.pack(">3Q", 2, 3, 5000)
    monkeypatch.undo()
    assert pages.encoded() == here


def test_pages_far_apart_cost_no_memory_between_them():
    pages = PageSet()
    pages.update([2, 1 << 40])
    assert listed(pages) == [2, 1 << 40]
    assert len(pages._chunks) == 2


@pytest.mark.parametrize("seed", range(5))
def test_many_are_added_as_one_by_one_or_not_at_all(seed):
    rng = random.Random(seed)
    pages, plain = PageSet(), set()
    for _ in range(60):
        ids = sorted(rng.choices(range(9000), k=rng.choice([0, 1, 5, 30])))
        twice = {pgid for pgid in ids if ids.count(pgid) > 1 or pgid in plain}
        found = pages.insert_all(ids)
        if twice:
            assert found in twice
        else:
            assert found is None
            plain.update(ids)
        assert listed(pages) == sorted(plain)
        assert len(pages) == len(plain)
