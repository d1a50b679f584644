"""A changing leaf's pairs: in both forms they say the same as a plain dict."""

import random

import pytest

from shearbolt.errors import IncompatibleValueError
from shearbolt.pages.format import BucketValue
from shearbolt.tree.leafpairs import LeafPairs


def made(plain):
    keys = sorted(plain)
    values = [plain[key] for key in keys]
    content = sum(map(len, keys)) + sum(map(len, values))
    return LeafPairs(keys, values, has_buckets=False, content=content)


def require_same(pairs, plain):
    assert list(pairs.keys) == sorted(plain)
    assert list(pairs.values()) == [plain[key] for key in sorted(plain)]
    assert list(pairs.values(1, 3)) == list(pairs.values())[1:3]
    require_same_sizes(pairs, plain)


def require_same_sizes(pairs, plain):
    assert len(pairs) == len(plain)
    assert pairs.content == sum(len(key) + len(plain[key]) for key in plain)


@pytest.mark.seeds(36)
def test_random_histories_agree_with_a_plain_dict(seed):
    rng = random.Random(seed)
    # Few names, so that keys that were deleted come back.
    names = [b"%d" % number for number in range(rng.choice([8, 30, 60, 200]))]
    plain = {name: rng.randbytes(rng.randrange(9)) for name in names[::3]}
    pairs = made(plain)
    # The puts that turn lists into a dict come early, late or never.
    deleting = rng.choice([0.1, 0.3, 0.6, 1.0])
    looked = rng.choice([0.05, 0.5])
    for _ in range(300):
        key = rng.choice(names)
        if rng.random() < deleting:
            assert pairs.delete(key) == (plain.pop(key, None) is not None)
        else:
            plain[key] = rng.randbytes(rng.randrange(9))
            rng.choice([pairs.put, pairs.put_plain])(key, plain[key])
        require_same_sizes(pairs, plain)
        assert pairs.get(key) == plain.get(key)
        if rng.random() < looked:
            require_same(pairs, plain)
    require_same(pairs, plain)


def put_a_bucket(pairs, plain):
    plain[b"bb"] = BucketValue(b"header")
    pairs.put(b"bb", plain[b"bb"])
    with pytest.raises(IncompatibleValueError):
        pairs.put_plain(b"bb", b"")


def put_one(pairs, plain):
    plain[b"03"] = b"new"
    pairs.put_plain(b"03", b"new")


def delete_one(pairs, plain):
    assert pairs.delete(b"03") == (plain.pop(b"03", None) is not None)


def put_others(pairs, plain):
    """Keys of another size, which those records cannot take."""
    more = {b"longer": b"1", b"longest": b"2"}
    plain.update(more)
    assert pairs.put_all(list(more), list(more.values()), [], set())


def count(pairs, plain):
    assert len(pairs) == len(plain)


def weigh(pairs, plain):
    assert pairs.content == sum(len(key) + len(plain[key]) for key in plain)


def get_one(pairs, plain):
    assert pairs.get(b"03") == plain[b"03"]


def take_over(pairs, plain):
    plain[b"zz"] = b"1"
    pairs.absorb(made({b"zz": b"1"}))


def be_taken_over(pairs, plain):
    left = made({b"": b"first"})
    left.absorb(pairs)
    require_same(left, plain | {b"": b"first"})


def take_records(pairs, plain):
    taken = pairs.records()
    assert taken is not None
    assert taken[1] == [key + plain[key] for key in sorted(plain)]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(
    "first",
    [
        put_a_bucket,
        put_one,
        delete_one,
        put_others,
        take_over,
        be_taken_over,
        take_records,
        require_same,
        require_same_sizes,
        count,
        weigh,
        get_one,
    ],
)
def test_records_are_pairs_for_whoever_looks_first(first, twice):
    keys = [b"%02d" % number for number in random.Random(1).sample(range(99), 40)]
    keys += [b"03"] if twice or b"03" not in keys else []
    plain = {b"gone": b""}
    pairs = made(plain)
    assert pairs.delete(b"gone")
    values = list(map(b"%03d".__mod__, range(len(keys))))
    plain = dict(zip(keys, values, strict=True))
    records = [key + value for key, value in zip(keys, values, strict=True)]
    assert pairs.put_all(keys, values, records, {5})
    first(pairs, plain)
    require_same(pairs, plain)
    delete_one(pairs, plain)
    require_same(pairs, plain)


@pytest.mark.parametrize("looked", [False, True])
def test_a_key_that_is_deleted_and_put_again_hides_no_other(looked):
    # In a dict it has moved behind keys that came after it.
    plain = {b"%03d" % number: b"" for number in range(100)}
    pairs = made({})
    for key in plain:
        pairs.put(key, b"")
    if looked:
        require_same(pairs, plain)
    for key in (b"new 1", b"new 2", b"new 3"):
        pairs.put_plain(key, b"1")
        plain[key] = b"1"
    assert pairs.delete(b"042")
    pairs.put_plain(b"042", b"again")
    pairs.put_plain(b"new 4", b"1")
    plain[b"042"] = b"again"
    plain[b"new 4"] = b"1"
    require_same(pairs, plain)
    pairs.put(b"new 5", b"")
    plain[b"new 5"] = b""
    require_same(pairs, plain)


@pytest.mark.parametrize("puts", [0, 3, 40])
@pytest.mark.parametrize("others", [0, 3, 40])
def test_a_neighbours_pairs_are_taken_over_in_any_form(puts, others):
    left, right = {b"a%d" % n: b"x" for n in range(9)}, {b"c": b"y", b"d": b""}
    one, other = made(left), made(right)
    for plain, pairs, name, count in (
        (left, one, b"b%d", puts),
        (right, other, b"e%d", others),
    ):
        for number in range(count):
            plain[name % number] = b"new"
            pairs.put(name % number, b"new")
    assert one.delete(b"a3")
    assert other.delete(b"c")
    del left[b"a3"], right[b"c"]
    one.absorb(other)
    require_same(one, left | right)
    one.put(b"f", b"")
    assert one.delete(b"a4")
    del left[b"a4"]
    require_same(one, left | right | {b"f": b""})


@pytest.mark.parametrize("puts", [0, 40])
def test_what_a_leaf_has_is_not_copied_when_it_takes_over_another(puts):
    one, plain = made({}), {b"a%02d" % number: b"new" for number in range(puts)}
    for key in plain:
        one.put(key, b"new")
    kept = None
    for number in range(5):
        right = {b"b%d" % number: b"x", b"b%d_" % number: b"y"}
        one.absorb(made(right))
        plain |= right
        # A run of a thousand small leaves ends up in the one before them.
        assert kept is None or one.keys is kept
        kept = one.keys
        require_same(one, plain)


def test_a_pages_own_lists_are_never_changed():
    # They are in the cache: an open reader of the old version would see it.
    keys, values = [b"a", b"b", b"c"], [b"1", b"2", b"3"]
    before = keys.copy(), values.copy()
    changes = [
        lambda pairs: pairs.delete(b"b"),
        lambda pairs: pairs.put(b"b", b"new"),
        lambda pairs: pairs.put(b"aa", b"new"),
        lambda pairs: pairs.absorb(made({b"x": b""})),
        lambda pairs: [pairs.put(b"%d" % number, b"") for number in range(40)],
    ]
    for first in changes:
        for second in changes:
            pairs = LeafPairs(keys, values, has_buckets=False, content=6)
            first(pairs)
            second(pairs)
            assert pairs.keys
            assert (keys, values) == before


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("puts", [0, 40])
@pytest.mark.parametrize("merged", [False, True])
def test_a_bucket_is_neither_replaced_nor_removed_as_a_plain_pair(read, puts, merged):
    pairs = LeafPairs([], [], has_buckets=False, content=0)
    if read:
        value = BucketValue(b"x" * 16)
        pairs = LeafPairs([b"bucket"], [value], has_buckets=True, content=22)
    for number in range(puts):
        pairs.put(b"a%d" % number, b"")
    if not read:
        pairs.put(b"bucket", BucketValue(b"x" * 16))
    if merged:
        left = made({b"%d" % number: b"" for number in range(puts)})
        left.absorb(pairs)
        pairs = left
    with pytest.raises(IncompatibleValueError):
        pairs.put_plain(b"bucket", b"new")
    with pytest.raises(IncompatibleValueError):
        pairs.delete(b"bucket", plain=True)
    assert pairs.get(b"bucket").__class__ is BucketValue
    assert len(pairs) == (2 * puts if merged else puts) + 1
    assert pairs.delete(b"bucket")
    assert pairs.get(b"bucket") is None
