"""Cuts: block by block the same as bbolt's rules say of the whole node."""

import random
from itertools import accumulate

import pytest

from shearbolt import cut
from shearbolt.cut import is_one_piece, pieces

HEADER = ELEMENT = 16


def whole(sizes, page_size, fill):
    """The rules, read off node.go: index behind every piece."""
    cuts, start = [], 0
    while len(sizes) - start > 4 and (
        HEADER + sum(sizes[start:]) + ELEMENT * (len(sizes) - start) >= page_size
    ):
        room, taken = int(page_size * fill), HEADER
        index = start
        for index in range(start, len(sizes) - 2):
            taken += ELEMENT + sizes[index]
            if index - start >= 2 and taken > room:
                break
        cuts.append(index)
        start = index
    return [*cuts, len(sizes)]


@pytest.mark.parametrize("seed", range(40))
def test_cuts_are_the_same_however_little_is_in_sight(seed, monkeypatch):
    rng = random.Random(seed)
    page_size = rng.choice([64, 256, 1024])
    monkeypatch.setattr(cut, "_BLOCK", rng.choice([1, 7, 10_000]))
    fill = rng.choice([0.1, 0.5, 1.0])
    largest = rng.choice([1, 20, page_size // 4, 2 * page_size])
    sizes = [rng.randrange(largest) for _ in range(rng.choice([5, 50, 400]))]
    keys = [bytes(size) for size in sizes]
    size = HEADER + sum(sizes) + ELEMENT * len(sizes)
    expected = whole(sizes, page_size, fill)
    assert is_one_piece(len(keys), size, page_size) == (len(expected) == 1)
    if len(expected) == 1:
        return
    numbers = list(range(len(keys)))
    found = list(
        pieces(
            keys,
            lambda first, end: numbers[first:end],
            lambda keys, _: map(len, keys),
            page_size,
            fill,
        )
    )
    assert list(accumulate(len(keys) for keys, _, _ in found)) == expected
    assert [key for keys, _, _ in found for key in keys] == keys
    assert [number for _, numbers, _ in found for number in numbers] == numbers
    for names, _, content in found:
        assert content == sum(map(len, names)) + ELEMENT * len(names)


def test_a_piece_has_no_more_elements_than_its_header_can_count():
    count = 3 * 65_535
    sizes = [
        len(names)
        for names, _, _ in pieces(
            [b""] * count,
            lambda first, end: [0] * (end - first),
            lambda keys, _: map(len, keys),
            16 << 20,
            1.0,
        )
    ]
    assert sum(sizes) == count
    assert max(sizes) == 65_534
