"""The oracle itself: that it reports, refuses and survives."""

from __future__ import annotations

import os

import pytest
from tests.interop.oracle import (
    Bucket,
    Operation,
    Oracle,
    OracleDiedError,
    OracleError,
    Transaction,
)

PAGE = 4096


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "oracle.db")


def put(key: bytes, value: bytes, *bucket: bytes) -> Operation:
    return Operation("put", bucket, key, value)


def test_dump_returns_what_was_applied(oracle: Oracle, path: str) -> None:
    applied = oracle.apply(
        path,
        [
            Transaction(
                (
                    Operation("create_bucket", key=b"outer"),
                    Operation("create_bucket", (b"outer",), b"inner"),
                    put(b"k", b"", b"outer", b"inner"),
                    put(b"z", b"\x00\xff", b"outer"),
                    Operation("next_sequence", (b"outer", b"inner")),
                )
            ),
            Transaction((put(b"never", b"seen", b"outer"),), rollback=True),
        ],
    )
    assert [one.txid for one in applied] == [2, 3]
    assert [one.error for one in applied] == ["", ""]
    assert applied[0].outcomes[-1] == ("value", 1)
    inner = Bucket(1, ((b"k", b""),))
    outer = Bucket(0, ((b"inner", inner), (b"z", b"\x00\xff")))
    assert oracle.dump(path) == Bucket(0, ((b"outer", outer),))
    assert oracle.check(path) == []


def test_each_operation_reports_bbolts_own_error(oracle: Oracle, path: str) -> None:
    (applied,) = oracle.apply(
        path,
        [
            Transaction(
                (
                    Operation("create_bucket", key=b"b"),
                    Operation("create_bucket", key=b"b"),
                    Operation("delete_bucket", key=b"absent"),
                    put(b"", b"", b"b"),
                    put(b"k", b"", b"absent"),
                    Operation("create_bucket", key=b""),
                )
            )
        ],
    )
    assert [kind for kind, _ in applied.outcomes] == ["value"] + ["error"] * 5
    assert [text for _, text in applied.outcomes[1:]] == [
        "bucket already exists",
        "bucket not found",
        "key required",
        "bucket not found",
        "bucket name required",
    ]


def test_cursor_reports_every_move(oracle: Oracle, path: str) -> None:
    (applied,) = oracle.apply(
        path,
        [
            Transaction(
                (
                    Operation("create_bucket", key=b"b"),
                    put(b"a", b"1", b"b"),
                    Operation("create_bucket", (b"b",), b"c"),
                    Operation(
                        "cursor",
                        (b"b",),
                        moves=(("seek", b"b"), ("prev",), ("prev",), ("last",)),
                    ),
                )
            )
        ],
    )
    assert applied.outcomes[-1] == (
        "value",
        [["63", None], ["61", "31"], None, ["63", None]],
    )


def test_check_speaks_up_about_a_leaked_page(oracle: Oracle, path: str) -> None:
    # The fault the check is there for: the freelist forgets its last page.
    oracle.apply(path, [Transaction((Operation("create_bucket", key=b"b"),))])
    freelist = next(page for page in oracle.pages(path) if page.type == "freelist")
    with open(path, "r+b") as file:
        file.seek(freelist.id * PAGE + 10)
        file.write((freelist.count - 1).to_bytes(2, "little"))
    assert oracle.check(path) == ["page 3: unreachable unfreed"]


def test_looking_changes_no_byte(oracle: Oracle, path: str) -> None:
    # Without a stored freelist a careless read-write open would commit one.
    oracle.apply(
        path,
        [Transaction((Operation("create_bucket", key=b"b"),))],
        no_freelist_sync=True,
    )
    with open(path, "rb") as file:
        before = file.read()
    oracle.dump(path)
    oracle.check(path)
    oracle.pages(path)
    oracle.stats(path)
    oracle.info(path)
    with open(path, "rb") as file:
        assert file.read() == before


def test_a_file_that_is_no_database_is_an_error(oracle: Oracle, path: str) -> None:
    with open(path, "wb") as file:
        file.write(os.urandom(4 * PAGE))
    with pytest.raises(OracleError, match="invalid database"):
        oracle.dump(path)


def test_a_dead_oracle_is_reported_and_replaced(oracle_program: str, path: str) -> None:
    with Oracle(oracle_program) as mortal:
        mortal.apply(path, [Transaction((Operation("create_bucket", key=b"b"),))])
        mortal._process.kill()
        with pytest.raises(OracleDiedError, match="bbolt ended in check"):
            mortal.check(path)
        assert mortal.check(path) == []
