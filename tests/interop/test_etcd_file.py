"""A file that a real etcd wrote: read alike, and written for real bbolt to read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.interop import engine, make_etcd_database
from tests.interop.oracle import Bucket, Oracle

import shearbolt

ETCD = Path(__file__).parents[1] / "data" / "etcd.db"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(shutil.copyfile(ETCD, tmp_path / "etcd.db"))


def test_it_is_the_database_it_is_said_to_be(oracle: Oracle, path: str) -> None:
    # The premise of the other tests: buckets, history, overflow, free pages.
    root = oracle.dump(path)
    buckets = dict(root.entries)
    assert {b"key", b"lease", b"meta", b"members", b"cluster"} <= set(buckets)
    assert all(isinstance(bucket, Bucket) for bucket in buckets.values())
    assert root.count() > 300
    stats = oracle.stats(path)
    assert stats["branch_pages"] >= 1
    assert stats["leaf_overflow"] >= 3
    assert stats["free"] >= 10
    assert oracle.check(path) == []


def test_etcd_still_writes_the_same_history(
    etcd: str, oracle: Oracle, path: str, tmp_path: Path
) -> None:
    # So the file that is kept is what the script makes, not something else.
    again = tmp_path / "again.db"
    # Where etcd has bbolt 1.4 the same file is longer: it grows to powers of two.
    make_etcd_database.make(again, largest=1 << 20)
    for name in (b"key", b"lease"):
        kept = dict(dict(oracle.dump(path).entries)[name].entries)
        made = dict(dict(oracle.dump(str(again)).entries)[name].entries)
        assert made.items() >= kept.items()
        # Etcd 3.5 keeps what was deleted by the very revision that it compacts to.
        assert [key[17:] for key in made.keys() - kept.keys()] in ([], [b"t"])


def test_both_read_the_same(oracle: Oracle, path: str) -> None:
    assert engine.dump(path) == oracle.dump(path)
    assert engine.check(path) == []


def test_reading_changes_no_byte(path: str) -> None:
    engine.dump(path)
    engine.check(path)
    assert Path(path).read_bytes() == ETCD.read_bytes()


@pytest.mark.parametrize("bare", [True, False], ids=["no-freelist", "freelist"])
def test_real_bbolt_accepts_and_reads_our_writes(
    oracle: Oracle, path: str, bare: bool
) -> None:
    before = oracle.dump(path)
    for turn in range(6):
        with (
            shearbolt.open(path, no_freelist_sync=bare) as db,
            db.update() as tx,
        ):
            keys = tx.bucket(b"key")
            for key in list(keys.keys())[turn::7]:
                keys.delete(key)
            for i in range(40):
                keys.put(b"\xff%d/%03d" % (turn, i), b"%d" % i * (turn * 50))
            tx.bucket(b"lease").create_bucket(b"below %d" % turn).put(b"k", b"v")
            tx.bucket(b"meta").next_sequence()
        assert oracle.check(path) == []
        assert engine.check(path) == []
        assert oracle.dump(path) == engine.dump(path)
    after = oracle.dump(path)
    assert after != before
    assert dict(after.entries)[b"meta"].sequence == 6


def test_a_lost_pair_would_be_seen(oracle: Oracle, path: str) -> None:
    expected = engine.dump(path)
    with shearbolt.open(path) as db, db.update() as tx:
        keys = tx.bucket(b"key")
        keys.delete(next(iter(keys.keys())))
    assert oracle.dump(path) != expected
