"""The reference model: content, digests, differences, refusals."""

import os
import subprocess
import sys

import pytest

from boltmodel.model import (
    EMPTY,
    Bucket,
    ModelTx,
    Refused,
    difference,
    walk,
)
from boltmodel.observation import OrderError, observe


def build(base=EMPTY, *changes):
    tx = ModelTx(base)
    for name, *arguments in changes:
        getattr(tx, name)(*arguments)
    return tx.commit()


SMALL = build(
    EMPTY,
    ("create_bucket", (b"a",)),
    ("create_bucket", (b"a", b"deep")),
    ("put", (b"a",), b"k", b"v"),
    ("put", (b"a", b"deep"), b"k", b"w"),
    ("set_sequence", (b"a", b"deep"), 7),
)


class FakeCursor:
    def __init__(self, pairs):
        self.pairs = iter(pairs)

    def first(self):
        return self.next()

    def next(self):
        return next(self.pairs, None)


class FakeBucket:
    """A bucket of the engine's shape, made of a list of pairs."""

    def __init__(self, pairs, sequence=0):
        self.pairs, self.sequence = pairs, sequence

    def cursor(self):
        return FakeCursor(
            (k, v if isinstance(v, bytes) else None) for k, v in self.pairs
        )

    def bucket(self, name):
        return dict(self.pairs)[name]


def test_a_commit_leaves_the_states_before_it_untouched():
    digest = SMALL.digest
    after = build(SMALL, ("put", (b"a", b"deep"), b"k", b"other"))
    assert SMALL.digest == digest
    assert SMALL.find((b"a", b"deep")).get(b"k") == b"w"
    assert after.find((b"a", b"deep")).get(b"k") == b"other"


def test_a_commit_shares_the_buckets_it_did_not_touch():
    base = build(SMALL, ("create_bucket", (b"b",)))
    after = build(base, ("put", (b"b",), b"k", b"v"))
    assert after.entries[b"a"] is base.entries[b"a"]
    assert after.entries[b"b"] is not base.entries[b"b"]


def test_forgetting_a_transaction_rolls_it_back():
    tx = ModelTx(SMALL)
    tx.delete_bucket((b"a",))
    assert SMALL.find((b"a", b"deep")).sequence == 7


def test_digest_does_not_depend_on_insertion_order():
    one = Bucket({b"a": b"1", b"b": b"2"}).freeze()
    two = Bucket({b"b": b"2", b"a": b"1"}).freeze()
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "other",
    [
        Bucket({b"a": b"12"}),
        Bucket({b"a1": b"2"}),
        Bucket({b"a": b"1", b"": b"2"}),
        Bucket({b"a": b"1"}, sequence=1),
        Bucket({b"a": Bucket()}),
        Bucket({b"a": b""}),
        Bucket(),
    ],
)
def test_digest_tells_contents_apart(other):
    mine = Bucket({b"a": b"1"})
    assert mine.digest != other.digest
    assert mine != other


def test_digest_of_a_changing_bucket_follows_its_changes():
    tx = ModelTx(SMALL)
    before = tx.root.digest
    tx.put((b"a",), b"k", b"x")
    assert tx.root.digest != before


def test_digest_is_the_same_in_every_process():
    code = (
        "from boltmodel.generate import generate;"
        "from boltmodel.model import Bucket;"
        "b = Bucket({bytes([i]): Bucket({b'k': b'v'}) for i in range(50)});"
        "print(b.digest.hex(), generate(11))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(printed) == 1


def test_only_frozen_buckets_have_a_hash():
    assert hash(SMALL) == hash(build(SMALL))
    with pytest.raises(TypeError, match="may still change"):
        hash(Bucket())


def test_difference_names_the_first_path_in_key_order():
    after = build(
        SMALL, ("put", (b"a", b"deep"), b"k", b"x"), ("put", (b"a",), b"z", b"1")
    )
    found = difference(SMALL, after)
    assert found.path == (b"a", b"deep", b"k")
    assert (found.promised, found.found) == ("1 bytes w", "1 bytes x")


def test_difference_sees_sequences_kinds_and_missing_keys():
    lost = build(SMALL, ("delete", (b"a",), b"k"))
    assert difference(SMALL, lost).found == "nothing"
    counted = build(SMALL, ("next_sequence", (b"a",)))
    assert difference(SMALL, counted).promised == "sequence 0"
    swapped = build(
        SMALL, ("delete_bucket", (b"a", b"deep")), ("put", (b"a",), b"deep", b"v")
    )
    assert difference(SMALL, swapped).promised == "a bucket of 1"
    assert difference(SMALL, build(SMALL)) is None


def test_walk_gives_every_bucket_parents_first():
    assert [path for path, _ in walk(SMALL)] == [(b"a",), (b"a", b"deep")]


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("create_bucket", ((b"a",),), "BucketExistsError"),
        ("create_bucket", ((b"a", b"k"),), "IncompatibleValueError"),
        ("create_bucket", ((b"",),), "BucketNameRequiredError"),
        ("create_bucket", ((b"no", b"b"),), "BucketNotFoundError"),
        ("delete_bucket", ((b"no",),), "BucketNotFoundError"),
        ("delete_bucket", ((b"a", b"k"),), "IncompatibleValueError"),
        ("put", ((b"a",), b"", b"v"), "KeyRequiredError"),
        ("put", ((b"a",), b"k" * 32769, b"v"), "KeyTooLargeError"),
        ("put", ((b"a",), b"deep", b"v"), "IncompatibleValueError"),
        ("put", ((b"a", b"k"), b"x", b"v"), "BucketNotFoundError"),
        ("delete", ((b"a",), b"deep"), "IncompatibleValueError"),
        ("next_sequence", ((b"no",),), "BucketNotFoundError"),
        ("move_bucket", ((b"no",), ()), "BucketNotFoundError"),
        ("move_bucket", ((b"a",), (b"no",)), "BucketNotFoundError"),
        ("move_bucket", ((b"a", b"k"), ()), "IncompatibleValueError"),
        ("move_bucket", ((b"a",), ()), "SameBucketsError"),
        ("move_bucket", ((b"a",), (b"a", b"deep")), "SameBucketsError"),
    ],
)
def test_refuses_what_bolt_refuses(method, arguments, error):
    with pytest.raises(Refused) as refused:
        getattr(ModelTx(SMALL), method)(*arguments)
    assert refused.value.error == error


def test_deleting_a_missing_key_is_no_error():
    assert build(SMALL, ("delete", (b"a",), b"no")) == SMALL


def test_a_moved_bucket_takes_its_changes_along():
    after = build(
        SMALL,
        ("put", (b"a", b"deep"), b"new", b"1"),
        ("move_bucket", (b"a", b"deep"), ()),
    )
    assert after.find((b"deep",)).get(b"new") == b"1"
    assert after.find((b"deep",)).sequence == 7
    assert b"deep" not in after.find((b"a",)).entries


def test_sequence_wraps_at_64_bits():
    tx = ModelTx(SMALL)
    tx.set_sequence((b"a",), 2**64 - 1)
    assert tx.next_sequence((b"a",)) == 0


def test_observing_gives_what_the_model_holds():
    deep = FakeBucket([(b"k", b"w")], sequence=7)
    root = FakeBucket([(b"a", FakeBucket([(b"deep", deep), (b"k", b"v")]))])
    assert observe(root) == SMALL


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"], [b""]])
def test_observing_refuses_keys_out_of_order(keys):
    with pytest.raises(OrderError, match="must ascend"):
        observe(FakeBucket([(key, b"v") for key in keys]))
