"""Leaves that have lost pairs: the bytes say what the pairs would."""

import random
import struct

import pytest

from shearbolt import thinned
from shearbolt.encoding import encode_content, encode_leaf
from shearbolt.format import BucketValue, Leaf, leaf_cost
from shearbolt.leafpairs import LeafPairs
from shearbolt.thinned import Thinned, thin_bytes

PAGE = 4096


def leaf(rng, count, alike):
    """A leaf page, and its bytes."""
    keys = sorted({b"%04d" % rng.randrange(5000) for _ in range(count)})
    if not alike:
        keys = [key + b"k" * rng.randrange(9) for key in keys]
    values = [rng.randbytes(20 if alike else rng.randrange(40)) for _ in keys]
    content = sum(map(len, keys)) + sum(map(len, values))
    page = Leaf(
        7, 0, tuple(keys), tuple(values),
        has_buckets=False,
        cost=leaf_cost(len(keys), content),
    )  # fmt: skip
    return page, encode_leaf(7, 0, keys, values).ljust(PAGE, b"\0")


def doomed_of(rng, page):
    gone = rng.sample(page.keys, rng.randrange(len(page.keys) + 1))
    missing = [b"x%d" % rng.randrange(99) for _ in range(rng.randrange(3))]
    return gone + missing + gone[:1]


def same(left, pairs):
    unpacked = left.unpacked()
    assert list(unpacked.keys) == list(pairs.keys)
    assert list(unpacked.values()) == list(pairs.values())
    assert len(left) == len(pairs)
    assert len(left.content) == pairs.content == unpacked.content
    data = encode_leaf(3, 0, pairs.keys, pairs.values())
    assert encode_content(3, 0, left.sizes, left.content) == data
    assert left.size == len(data)
    if len(pairs):
        assert (left.first, left.last) == (pairs.keys[0], pairs.keys[-1])


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_is_what_pairs_have_left(seed, alike):
    rng = random.Random(seed)
    page, data = leaf(rng, rng.choice([1, 2, 15, 60]), alike)
    doomed = doomed_of(rng, page)
    pairs = LeafPairs.without(page, doomed)
    before = rng.randrange(2) * PAGE
    found = thin_bytes(7, b"\1" * before + data, before, PAGE, doomed)
    left = Thinned.without(page, doomed)
    assert found is not None
    if pairs is None:
        assert (left, found) == (None, (None,))
        return
    same(left, pairs)
    same(found[0], pairs)


@pytest.mark.parametrize("seed", range(10))
def test_neighbours_that_merge_have_the_pairs_of_both(seed):
    rng = random.Random(seed)
    left, pairs = (
        Thinned(b"", b"", b"", b""),
        LeafPairs((), (), has_buckets=False, content=0),
    )
    for number in range(4):
        page, _ = leaf(rng, rng.choice([1, 9]), alike=False)
        keys = tuple(b"%d" % number + key for key in page.keys)
        page = Leaf(1, 0, keys, page.values, has_buckets=False, cost=0)
        # Some have lost all they had.
        doomed = rng.choice([keys[:1], keys])
        left.absorb(Thinned.without(page, doomed))
        pairs.absorb(LeafPairs.without(page, doomed))
        same(left, pairs)


def test_a_page_that_is_not_quickly_said_is_left_to_others():
    page, data = leaf(random.Random(0), 15, alike=True)
    doomed = [page.keys[3]]

    def refused(changed, at=0):
        return thin_bytes(7, changed, at, PAGE, doomed) is None

    def field(form, place, value):
        changed = bytearray(data)
        struct.pack_into(form, changed, place, value)
        return bytes(changed)

    assert not refused(data)
    assert refused(field("<Q", 0, 8)), "another page"
    assert refused(field("<H", 8, 1)), "a branch"
    # One element less than there is content for is what surgery leaves.
    assert not refused(field("<H", 10, len(page.keys) - 1))
    assert refused(field("<H", 10, 0xFFFF))
    assert refused(field("<I", 12, 1)), "a run of pages"
    assert refused(field("<I", 16, 1)), "a bucket among the values"
    assert refused(field("<I", 24, 5)), "sizes and positions that differ"
    assert refused(data[:-1][:500]), "the file ends inside the content"
    assert refused(data[:100]), "or inside the table"
    assert refused(data[:15]), "or inside the header"
    assert refused(b"")
    keys = [page.keys[1], page.keys[0], *page.keys[2:]]
    assert refused(encode_leaf(7, 0, keys, page.values)), "keys that are not in order"
    twice = [page.keys[0], page.keys[0], *page.keys[2:]]
    assert refused(encode_leaf(7, 0, twice, page.values)), "a key that is there twice"
    assert refused(encode_leaf(7, 0, [b"k"], [BucketValue(bytes(16))]))
    large = encode_leaf(7, 0, [b"k"], [bytes(PAGE)])
    assert refused(large + bytes(PAGE)), "content that leaves the page"
    assert not refused(data)


def test_no_more_shapes_are_remembered_than_there_may_be():
    thinned._shapes.clear()
    for size in range(600):
        data = encode_leaf(7, 0, [b"k"], [bytes(size)])
        assert thin_bytes(7, data, 0, PAGE, [b"k"]) is not None
        assert len(thinned._shapes) <= 512
    many = encode_leaf(7, 0, [b"%04d" % i for i in range(300)], [b""] * 300)
    assert thin_bytes(7, many, 0, 1 << 14, [b"0000"]) is None
