"""Keys that wait to be deleted are found by ranges, however they came."""

import random

import pytest

from shearbolt.tree import doomed
from shearbolt.tree.doomed import Doomed


def key(number):
    return b"%06d" % number


def arrivals(rng, count):
    """Keys in the order in which they come, in chunks and one by one."""
    numbers = rng.choices(range(2 * count), k=count)
    order = rng.randrange(4)
    if order == 1:
        numbers.sort()
    elif order == 2:
        numbers.sort(reverse=True)
    elif order == 3:
        half = count // 2
        numbers = sorted(numbers[:half]) + sorted(numbers[half:])
    return [key(number) for number in numbers]


def gathered(rng, keys):
    found = Doomed()
    at = 0
    while at < len(keys):
        size = rng.choice([1, 2, 30, 100])
        if size == 1:
            found.late.append(keys[at])
        else:
            found.add(keys[at : at + size])
        at += size
    return found


@pytest.fixture(params=["usual", "small"])
def sizes(request, monkeypatch):
    if request.param == "small":
        monkeypatch.setattr(doomed, "_SET", 8)
        monkeypatch.setattr(doomed, "_LISTS", 3)
        monkeypatch.setattr(doomed, "_NEAR", 1)


@pytest.mark.seeds(9)
def test_every_range_has_what_came_in_it(seed, sizes):
    rng = random.Random(seed)
    count = rng.choice([1, 50, 1000])
    keys = arrivals(rng, count)
    wait = gathered(rng, keys)
    assert len(wait) == count
    assert wait.any() in keys
    limits = [
        *map(key, sorted(rng.sample(range(2 * count + 2), k=min(count, 40)))),
        None,
    ]
    low = b""
    for limit in limits:
        inside = [one for one in keys if low <= one and (not limit or one < limit)]
        if rng.random() < 0.3:
            assert wait.between(low, limit) == sorted(inside)
        found = wait.around(low, limit)
        for number in range(2 * count + 1):
            one = key(number)
            if low <= one and (limit is None or one < limit):
                assert (one in found) == (one in inside)
            elif one in found:
                assert one in keys
        if rng.random() < 0.1:
            assert wait.from_on(low) == min((k for k in keys if k >= low), default=None)
        if limit is not None and rng.random() < 0.8:
            low = limit
    assert wait.in_order() == sorted(keys)
    assert len(wait) == count


@pytest.mark.seeds(5)
def test_ranges_may_be_asked_for_in_any_order(seed, sizes):
    rng = random.Random(seed)
    keys = arrivals(rng, 500)
    wait = gathered(rng, keys)
    for _ in range(60):
        low = key(rng.randrange(1100))
        limit = rng.choice([None, key(rng.randrange(1100))])
        inside = {one for one in keys if low <= one and (not limit or one < limit)}
        assert set(wait.between(low, limit)) == inside
        assert {one for one in keys if one in wait.around(low, limit)} >= inside


def test_a_range_that_ends_before_it_begins_is_empty():
    wait = Doomed()
    wait.add([key(number) for number in range(100)])
    assert wait.between(key(50), key(40)) == []
    assert key(45) not in wait.around(key(50), key(40))


def test_the_next_ranges_are_in_the_same_set(monkeypatch):
    rng = random.Random(1)
    keys = [key(number) for number in rng.sample(range(100_000), 50_000)]
    wait = Doomed()
    for at in range(0, len(keys), 1000):
        wait.add(keys[at : at + 1000])
    sets = []
    for first in range(0, 100_000, 500):
        found = wait.around(key(first), key(first + 500))
        if not sets or found is not sets[-1]:
            sets.append(found)
    assert len(sets) < 30
    assert max(map(len, sets)) < 3 * doomed._SET


@pytest.mark.parametrize("backwards", [False, True])
def test_keys_that_come_in_order_are_few_lists(backwards):
    wait = Doomed()
    chunks = [[key(100 * n + m) for m in range(100)] for n in range(200)]
    for chunk in reversed(chunks) if backwards else chunks:
        wait.add(chunk)
    wait.any()
    assert len(wait._lists) == (50 if backwards else 1)


def test_a_key_that_ends_a_list_may_begin_the_next():
    wait = Doomed()
    wait.add([b"a", b"c"])
    wait.add([b"d", b"c"])
    wait.late += [b"b", b"d"]
    assert wait.in_order() == [b"a", b"b", b"c", b"c", b"d", b"d"]
