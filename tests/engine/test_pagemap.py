"""The flags of pages: the same as a byte for each, without a byte for each."""

import random
import tracemalloc

import pytest

from shearbolt.pages import pagemap
from shearbolt.pages.pagemap import PageMap


def flagged(flags, start, length, wanted):
    """The first page of a run with any of these flags, by looking at each."""
    run = range(start, start + length)
    return next((page for page in run if flags[page] & wanted), 0)


def unflagged(flags, start, end):
    """The runs without any, by looking at each page."""
    runs = []
    for page in range(start, end):
        if flags[page]:
            continue
        if runs and runs[-1][1] == page:
            runs[-1] = (runs[-1][0], page + 1)
        else:
            runs.append((page, page + 1))
    return runs


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_random_histories_agree_with_a_byte_a_page(seed, small, monkeypatch):
    if small:
        # Runs of a few hundred pages are blocks, too.
        monkeypatch.setattr(pagemap, "_BLOCK", 9)
        monkeypatch.setattr(pagemap, "_WIDE", 512)
    rng = random.Random(seed)
    pages = rng.choice([600, 3000] if small else [3000, 150_000])
    known, plain = PageMap(), bytearray(pages)
    for _ in range(rng.randint(1, 40)):
        start = rng.randrange(2, pages)
        length = rng.choice([1, 1, 1, 2, 5, 300, 1000, rng.randrange(1, pages)])
        length = min(length, pages - start)
        flag = rng.choice([1, 2, 4])
        if rng.random() < 0.5:
            known.add(start, length, flag)
        else:
            unless = rng.choice([0, flag, flag | 1, 7])
            there = flagged(plain, start, length, unless or flag)
            assert known.claim(start, length, flag, unless) == there
            if there:
                continue
        changed = bytes(range(256)).translate(bytes(f | flag for f in range(256)))
        run = slice(start, start + length)
        plain[run] = plain[run].translate(changed)
        assert known.first(2, pages - 2, 5) == flagged(plain, 2, pages - 2, 5)
        # Of many pages this takes long.
        if small:
            assert list(known.gaps(2, pages)) == unflagged(plain, 2, pages)
    assert all(known[page] == plain[page] for page in rng.sample(range(pages), 300))
    start = rng.randrange(pages)
    end = rng.randrange(start + 1, pages + 1)
    assert list(known.gaps(start, end)) == unflagged(plain, start, end)


def test_memory_follows_the_pages_that_were_met():
    known = PageMap()
    tracemalloc.start()
    try:
        for page in range(2, 20_000):
            known.claim(page, 1)
        assert tracemalloc.get_traced_memory()[0] < 2 * 20_000
        # Far from each other; and all pages of 4 TiB.
        for page in range(1, 201):
            known.claim(page << 40, 1)
        known.claim(1 << 50, 1 << 32)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()
    assert known.first(1 << 49, 1 << 60, 1) == 1 << 50
    assert list(known.gaps(1 << 50, (1 << 50) + (1 << 33))) == [
        ((1 << 50) + (1 << 32), (1 << 50) + (1 << 33))
    ]
