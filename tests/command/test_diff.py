"""diff: every difference is found, and nothing else is called one."""

from __future__ import annotations

import pytest
from tests.command.databases import KINDS, content, make

import shearbolt
from shearbolt.command.diff import differences


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
