"""diff: every difference is found, and nothing else is called one."""

from __future__ import annotations

import random

import pytest
from tests.command.databases import KINDS, content, make

import shearbolt
from shearbolt.command.diff import differences
from shearbolt.export import BucketRecord, PairRecord, records


@pytest.fixture
def db(tmp_path):
    return make("nested", tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_a_database_is_not_different_from_its_compacted_copy(
    name, made, tmp_path, run
) -> None:
    copy = tmp_path / "copy.db"
    assert run("compact", made(name), "-o", copy).status == 0
    assert run("diff", made(name), copy)[:2] == (0, b"")


def test_diff_shows_what_is_added_removed_and_changed(db, tmp_path, run) -> None:
    other = tmp_path / "other.db"
    run("compact", db, "-o", other)
    with shearbolt.open(other) as opened, opened.update() as tx:
        tx.bucket(b"top").put(b"plain", b"changed\n")
        tx.bucket(b"top").set_sequence(8)
        tx.bucket(b"top").delete_bucket(b"middle")
        tx.bucket(b"top").put(b"middle", b"now a key")
        tx.create_bucket(b"\xff").put(b"k", b"v")
        tx.delete_bucket(b"z")
    answer = run("diff", db, other)
    assert answer.status == 1
    assert answer.text.splitlines() == [
        '- "top"/ sequence 7',
        '+ "top"/ sequence 8',
        '- "top"/"middle"/ sequence 1099511627776',
        '+ "top"/"middle" = "now a key"',
        '- "top"/"middle"/"bottom"/ sequence 0',
        '- "top"/"middle"/"bottom"/"k" = "v"',
        '- "top"/"middle"/"other"/ sequence 0',
        '- "top"/"plain" = "value"',
        '+ "top"/"plain" = "changed\\n"',
        '- "z"/ sequence 0',
        r'+ "\xff"/ sequence 0',
        r'+ "\xff"/"k" = "v"',
    ]
    assert run("diff", "-q", db, other)[:2] == (
        1, f"Databases {db} and {other} differ\n".encode(),
    )  # fmt: skip
    # The other way round: the same lines with the signs changed.
    backwards = run("diff", other, db).text.translate(str.maketrans("+-", "-+"))
    assert sorted(backwards.splitlines()) == sorted(answer.text.splitlines())


def test_diff_finds_each_single_difference(tmp_path) -> None:
    # Planted one by one: an entry missing, a value changed, a sequence changed.
    path = make("prefixes", tmp_path)
    found = 0
    for index, record in enumerate(content(path)[:40]):
        other = tmp_path / f"{index}.db"
        other.write_bytes(path.read_bytes())
        with shearbolt.open(other, no_sync=True) as db, db.update() as tx:
            bucket = tx.bucket(record.path[0])
            if hasattr(record, "key"):
                if index % 2:
                    bucket.delete(record.key)
                else:
                    bucket.put(record.key, b"otherwise")
            else:
                bucket.set_sequence(1)
        with (
            shearbolt.open(path, read_only=True) as a,
            shearbolt.open(other, read_only=True) as b,
            a.view() as one,
            b.view() as two,
        ):
            [(before, after)] = differences(one, two)
        assert before == record
        assert after != record
        found += 1
    assert found == 40


def _fill(bucket, rng, depth=0) -> None:
    for name in rng.sample([b"a", b"aa", b"b", b"c", b"d"], rng.randint(0, 4)):
        if depth < 4 and rng.random() < 0.6:
            child = bucket.create_bucket(name)
            child.set_sequence(rng.choice([0, 0, 1]))
            _fill(child, rng, depth + 1)
        elif depth:
            bucket.put(name, rng.choice([b"0", b"1"]))


def _defined(a, b):
    """The differences, by the place of every record."""
    left = {record.place: record for record in records(a)}
    right = {record.place: record for record in records(b)}
    for place in sorted({*left, *right}):
        one, two = left.get(place), right.get(place)
        if type(one) is type(two) or one is None or two is None:
            if one != two:
                yield one, two
        else:
            yield from ((one, None), (None, two))


@pytest.mark.parametrize("seed", range(16))
def test_the_differences_of_nested_buckets_are_those_of_places(seed, tmp_path) -> None:
    rng = random.Random(seed)
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        with shearbolt.open(path, no_sync=True) as db, db.update() as tx:
            # Often the same ones.
            _fill(tx.root_bucket, random.Random(rng.choice([seed, seed, rng.random()])))
    with (
        shearbolt.open(paths[0]) as one,
        shearbolt.open(paths[1]) as two,
        one.view() as a,
        two.view() as b,
    ):
        assert list(differences(a, b)) == list(_defined(a, b))


def test_a_chain_of_buckets_is_not_compared_name_by_name(tmp_path, monkeypatch) -> None:
    """That took the square of its length: a minute for 8,000 buckets."""
    path, depth = tmp_path / "deep.db", 300
    with shearbolt.open(path, no_sync=True) as db, db.update() as tx:
        bucket = tx.root_bucket
        for _ in range(depth):
            bucket = bucket.create_bucket(b"n")
            bucket.put(b"k", b"")

    def compared(self):
        pytest.fail("all names that lead to a record were looked at")

    for kind in (BucketRecord, PairRecord):
        monkeypatch.setattr(kind, "place", property(compared))
        monkeypatch.setattr(kind, "__eq__", lambda self, other: compared(self))
    with shearbolt.open(path, read_only=True) as db, db.view() as a, db.view() as b:
        assert list(differences(a, b)) == []
