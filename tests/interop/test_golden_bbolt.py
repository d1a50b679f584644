"""The golden vectors are what real bbolt writes.

`tests/engine/test_golden.py` holds the engine to the same data without Go. If
a figure in `tests/data/golden.json` were wrong, this test says so first.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.interop.oracle import LATER, Operation, Oracle, Transaction

VECTORS = json.loads(
    Path(__file__).parents[1].joinpath("data", "golden.json").read_text("utf-8")
)


def transactions(vector) -> list[Transaction]:
    """The vector's steps as bbolt transactions."""
    return [
        Transaction(
            (
                Operation("create_bucket_if_not_exists", key=b"b"),
                *(
                    Operation(step[0], (b"b",), b"%05d" % i, value(step, i))
                    for i in range(*step[1:4])
                ),
            )
        )
        for step in vector["steps"]
    ]


def value(step, i: int) -> bytes:
    return bytes([i % 251]) * step[4] if step[0] == "put" else b""


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_real_bbolt_writes_the_golden_file(
    vector, oracle: Oracle, tmp_path: Path
) -> None:
    path = str(tmp_path / "golden.db")
    oracle.apply(
        path,
        transactions(vector),
        page_size=vector["page_size"],
        no_freelist_sync=vector["no_freelist_sync"],
        no_sync=True,
    )
    data = Path(path).read_bytes()
    assert oracle.check(path) == []
    stats = oracle.stats(path)
    assert {name: stats[name] for name in vector["stats"]} == vector["stats"]
    info = oracle.info(path)
    assert info["txid"] == vector["meta"]["txid"]
    assert info["root"] == vector["meta"]["root"]
    assert info["size"] == vector["meta"]["high_water"] * vector["page_size"]
    # The same pages; later versions only extend the file further.
    later = vector.get("later", vector)
    expected = later if LATER else vector
    assert len(data) == expected["size"]
    assert hashlib.sha256(data).hexdigest() == expected["sha256"]
    longer = data.ljust(later["size"], b"\0")
    assert hashlib.sha256(longer).hexdigest() == later["sha256"]
