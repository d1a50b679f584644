"""Where real bbolt is wrong, side by side with what happens here.

Each test first shows real bbolt's behaviour, so that it fails, and tells us, when
bbolt has been mended; then ours. What the oracle cannot show is tested in
`tests/engine/`: a failed sync of the meta, moved buckets, growth beside readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.interop import engine
from tests.interop.oracle import (
    LATER,
    Operation,
    OracleDiedError,
    OracleError,
    Transaction,
)

import shearbolt
from shearbolt.pages.format import empty_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.oracle import Oracle


def make(bucket: tuple[bytes, ...], name: bytes) -> Operation:
    return Operation("create_bucket", bucket, name)


def put(bucket: tuple[bytes, ...], key: bytes, value: bytes) -> Operation:
    return Operation("put", bucket, key, value)


def test_deleting_while_iterating_skips_nothing(oracle: Oracle, tmp_path: Path) -> None:
    keys = [b"a", b"b", b"c", b"d", b"e", b"f"]
    moves = [("first",)]
    for _ in keys:
        moves += [("delete",), ("next",)]
    program = [
        Transaction(
            (
                make((), b"w"),
                *(put((b"w",), key, b"v") for key in keys),
                Operation("cursor", (b"w",), moves=tuple(moves)),
            )
        )
    ]
    left = {}
    for name, side in (("theirs", oracle), ("ours", engine)):
        path = str(tmp_path / name)
        side.apply(path, program)
        (_, bucket) = engine.dump(path).entries[0]
        left[name] = [key for key, _ in bucket.entries]
    # It skipped every second key; the last deletion fell on the last key again.
    assert left["theirs"] == [b"b", b"d"]
    assert left["ours"] == []


def test_deleting_a_changed_bucket_leaks_no_page(
    oracle: Oracle, tmp_path: Path
) -> None:
    program = [
        Transaction(
            (
                make((), b"a"),
                make((b"a",), b"x"),
                make((b"a", b"x"), b"zz"),
                make((b"a", b"x", b"zz"), b"y"),
                make((b"a", b"x"), b"y"),
                make((b"a", b"x", b"y"), b"y"),
            )
        ),
        Transaction(
            (
                put((b"a", b"x"), b"k", b"v" * 700),
                Operation("delete_bucket", (b"a",), b"x"),
            )
        ),
    ]
    theirs, ours = str(tmp_path / "theirs"), str(tmp_path / "ours")
    options = {"page_size": 4096}
    oracle.apply(theirs, program, **options)
    engine.apply(ours, program, **options)
    assert any("unreachable unfreed" in line for line in oracle.check(theirs))
    assert any("unreachable unfreed" in line for line in engine.check(theirs))
    assert oracle.check(ours) == engine.check(ours) == []


@pytest.mark.parametrize("length", [1000, 4096, 8192, 12_288])
def test_a_file_whose_creation_was_cut_short_opens(
    oracle: Oracle, tmp_path: Path, length: int
) -> None:
    torn = empty_database(4096)[:length]
    # A file each: real bbolt keeps the lock of a file that it could not open.
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for path in (theirs, ours):
        path.write_bytes(torn)
    program = [Transaction((make((), b"b"),))]
    with pytest.raises(OracleError):
        oracle.apply(str(theirs), program)
    engine.apply(str(ours), program)
    assert oracle.check(str(ours)) == []
    assert [name for name, _ in oracle.dump(str(ours)).entries] == [b"b"]


def test_more_keys_than_a_page_can_count(oracle: Oracle, tmp_path: Path) -> None:
    fresh = empty_database(4 << 20)
    program = [
        Transaction(
            (make((), b"b"), *(put((b"b",), b"%x" % i, b"") for i in range(70_000)))
        )
    ]
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for path in (theirs, ours):
        path.write_bytes(fresh)
    with pytest.raises((OracleError, OracleDiedError), match="inode overflow"):
        oracle.apply(str(theirs), program)
    engine.apply(str(ours), program, no_sync=True)
    assert oracle.check(str(ours)) == []
    assert oracle.dump(str(ours)).count() == 70_000


def test_the_checker_looks_into_inline_buckets(oracle: Oracle, tmp_path: Path) -> None:
    path = tmp_path / "x"
    engine.apply(
        str(path),
        [
            Transaction(
                (
                    make((), b"small"),
                    put((b"small",), b"key1", b"v"),
                    put((b"small",), b"key2", b"v"),
                )
            )
        ],
    )
    content = path.read_bytes()
    # The second key becomes smaller than the first.
    path.write_bytes(content.replace(b"key2v", b"key0v"))
    assert oracle.check(str(path)) == []
    with shearbolt.open(str(path), read_only=True) as db, db.view() as tx:
        problems = tx.check()
    assert [problem.path for problem in problems] == [(b"small",)]


def test_a_meta_without_a_checksum_is_not_believed(
    oracle: Oracle, tmp_path: Path
) -> None:
    # bbolt until 1.3.6 takes a checksum of zero for "none"; later ones do not.
    path = tmp_path / "x"
    engine.apply(str(path), [Transaction((make((), b"b"),))], page_size=4096)
    content = bytearray(path.read_bytes())
    for slot in (0, 4096):
        content[slot + 72 : slot + 80] = bytes(8)
    path.write_bytes(content)
    if LATER:
        with pytest.raises(OracleError, match="checksum error"):
            oracle.dump(str(path))
    else:
        assert [name for name, _ in oracle.dump(str(path)).entries] == [b"b"]
    with pytest.raises(shearbolt.ChecksumError):
        shearbolt.open(str(path), read_only=True)
