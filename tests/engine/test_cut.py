"""Cuts: block by block the same as bbolt's rules say of the whole node."""

import random

import pytest

from shearbolt.tree import cut
from shearbolt.tree.cut import is_one_piece, pieces

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


# Draws that a seed stands for: one takes less time than a test by itself.
DRAWS = 40


@pytest.mark.seeds(1)
def test_cuts_are_the_same_however_little_is_in_sight(seed, monkeypatch):
    for number in range(seed * DRAWS, (seed + 1) * DRAWS):
        look_at_a_part(random.Random(number), monkeypatch)


def look_at_a_part(rng, monkeypatch):
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
    asked = []

    def sizes_of(first, end):
        asked.append((first, end))
        return map(len, keys[first:end])

    found = []
    for block in pieces(len(keys), sizes_of, page_size, fill):
        for first, end, content in block:
            # A block holds all of its pieces, and begins where one ended.
            assert asked[-1][0] <= first < end <= asked[-1][1]
            found.append((first, end))
            assert content == sum(map(len, keys[first:end])) + ELEMENT * (end - first)
    assert [end for _, end in found] == expected
    assert [first for first, _ in found] == [0, *expected[:-1]]
    # (It may have none, when it ends inside the first.)
    assert {first for first, _ in asked} <= {first for first, _ in found}


@pytest.mark.seeds(4)
def test_elements_of_one_size_are_cut_by_arithmetic_as_any_others(seed, monkeypatch):
    for number in range(seed * DRAWS, (seed + 1) * DRAWS):
        cut_by_arithmetic(random.Random(number), monkeypatch)


def cut_by_arithmetic(rng, monkeypatch):
    page_size = rng.choice([64, 256, 1024])
    monkeypatch.setattr(cut, "_BLOCK", rng.choice([1, 7, 100, 10_000]))
    fill = rng.choice([0.1, 0.5, 0.77, 1.0])
    each = rng.randrange(1, rng.choice([3, 20, page_size // 4, 2 * page_size]))
    count = rng.choice([5, 6, 7, 50, 400, rng.randrange(5, 1000)])
    if is_one_piece(count, HEADER + (each + ELEMENT) * count, page_size):
        return

    def sizes_of(first, end):
        return [each] * (end - first)

    found = list(pieces(count, sizes_of, page_size, fill, each))
    assert found == list(pieces(count, sizes_of, page_size, fill))
    ends = [end for block in found for _, end, _ in block]
    assert ends == whole([each] * count, page_size, fill)


@pytest.mark.parametrize("page_size", [16 << 20, 1_200_000])
@pytest.mark.parametrize("each", [0, 1])
def test_a_piece_has_no_more_elements_than_its_header_can_count(each, page_size):
    count = 3 * 65_535
    blocks = pieces(
        count, lambda first, end: [each] * (end - first), page_size, 1.0, each
    )
    sizes = [end - first for block in blocks for first, end, _ in block]
    assert sum(sizes) == count
    assert max(sizes) == 65_534
