"""The engine writes the bytes that bbolt writes.

`tests/data/golden.json` describes files: a recipe, and what real bbolt makes of
it (1.3.6 and 1.5 agree on every byte but for G8's trailing zeros). A recipe is
a list of steps, each one transaction:

    ["put", start, stop, step, n]   key "%05d" % i, value n bytes of i % 251
    ["delete", start, stop, step]

All keys go to the one bucket "b". bbolt's output is deterministic only with
the array freelist and one dirty bucket a transaction, which is why the recipes
are no richer; `tests/interop/` compares richer ones with the real program.

A digest says only that something differs. So the live meta page is compared
first, field by field, and where pages went is the usual reason.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

import shearbolt

VECTORS = json.loads(
    Path(__file__).parents[1].joinpath("data", "golden.json").read_text("utf-8")
)

# magic, version, page size, flags, root, sequence, freelist, high water, txid, sum
META = struct.Struct("<IIIIQQQQQQ")
HEADER_SIZE = 16

# sha256 of a file that was only made, never written: the four initial pages.
FRESH = {
    4096: "f80ea184425737cdc7de57b1c8d4797e8a57ccee797991395e3800cd4ed0ac1e",
}
# Checksums of both meta pages of a fresh file, per page size.
FRESH_SUMS = {
    4096: (0x07516E114689FDEE, 0x264C351A5179480F),
    16384: (0x90F347E30DDDF37E, 0xAFEE0EEC18CD3D9F),
    65536: (0x05C392110DCBA3A7, 0xE6C8CB0802DC5986),
}


def carry_out(tx, step) -> None:
    """One step of a recipe."""
    bucket = tx.create_bucket_if_not_exists(b"b")
    for i in range(*step[1:4]):
        if step[0] == "put":
            bucket.put(b"%05d" % i, bytes([i % 251]) * step[4])
        else:
            bucket.delete(b"%05d" % i)


def make(vector, path: Path, *, skip_last_key: bool = False) -> bytes:
    """The file that the engine makes of a recipe."""
    steps = [list(step) for step in vector["steps"]]
    if skip_last_key:
        steps[-1][2] -= steps[-1][3]
    with shearbolt.open(
        str(path),
        page_size=vector["page_size"],
        no_freelist_sync=vector["no_freelist_sync"],
        no_sync=True,
    ) as db:
        for step in steps:
            with db.update() as tx:
                carry_out(tx, step)
    return path.read_bytes()


def live_meta(data: bytes, page_size: int) -> dict[str, int]:
    """What the meta page with the higher txid says."""
    metas = [META.unpack_from(data, at + HEADER_SIZE) for at in (0, page_size)]
    newest = max(metas, key=lambda meta: meta[8])
    return {
        "txid": newest[8],
        "root": newest[4],
        "freelist": newest[6],
        "high_water": newest[7],
    }


def acceptable(vector) -> dict[int, str]:
    """The digests of real bbolt, by file size."""
    digests = {vector["size"]: vector["sha256"]}
    if "later" in vector:
        digests[vector["later"]["size"]] = vector["later"]["sha256"]
    return digests


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_file_is_bbolts_to_the_byte(vector, tmp_path: Path) -> None:
    data = make(vector, tmp_path / "golden.db")
    assert live_meta(data, vector["page_size"]) == vector["meta"]
    digests = acceptable(vector)
    assert len(data) in digests
    assert hashlib.sha256(data).hexdigest() == digests[len(data)]


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_one_key_less_gives_another_digest(vector, tmp_path: Path) -> None:
    # The fault the digests guard against, at its smallest.
    data = make(vector, tmp_path / "golden.db", skip_last_key=True)
    assert hashlib.sha256(data).hexdigest() not in acceptable(vector).values()


@pytest.mark.parametrize("page_size", sorted(FRESH_SUMS))
def test_fresh_file_is_bbolts(page_size: int, tmp_path: Path) -> None:
    path = tmp_path / "fresh.db"
    shearbolt.open(str(path), page_size=page_size).close()
    data = path.read_bytes()
    assert len(data) == 4 * page_size
    metas = [META.unpack_from(data, at + HEADER_SIZE) for at in (0, page_size)]
    assert tuple(meta[9] for meta in metas) == FRESH_SUMS[page_size]
    if page_size in FRESH:
        assert hashlib.sha256(data).hexdigest() == FRESH[page_size]
