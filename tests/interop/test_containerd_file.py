"""A second real program's file: read alike, written to, and started on again.

etcd's database is a few wide buckets. containerd's is many narrow ones, deep in
each other, most in one page or inline in another.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.command.conftest import call
from tests.interop import engine, make_containerd_database
from tests.interop.make_containerd_database import database, objects, running
from tests.interop.oracle import Bucket, Oracle

import shearbolt

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINERD = Path(__file__).parents[1] / "data" / "containerd.db"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(shutil.copyfile(CONTAINERD, tmp_path / "containerd.db"))


@pytest.fixture(scope="module")
def containerd() -> None:
    """Skips where there is none: the file that is kept is tested all the same."""
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("containerd is not installed: apt-get install containerd")
    if os.geteuid() != 0:
        pytest.skip("containerd wants to be root")


@pytest.fixture(scope="module")
def stopped(
    containerd: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[list[str]]]]:
    """The folder of a containerd that was filled and stopped, and what it had."""
    folder = tmp_path_factory.mktemp("containerd")
    with running(folder) as client:
        make_containerd_database.fill(client, Path("/var/empty"))
        had = objects(client)
    return folder, had


def buckets(bucket: Bucket, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    for key, value in bucket.entries:
        if isinstance(value, Bucket):
            yield depth, key
            yield from buckets(value, depth + 1)


def shape(bucket: Bucket) -> tuple[object, ...]:
    """The names of everything, without values: these are times here and there."""
    return tuple(
        (key, shape(value) if isinstance(value, Bucket) else None)
        for key, value in bucket.entries
    )


def test_it_is_the_database_it_is_said_to_be(oracle: Oracle, path: str) -> None:
    found = list(buckets(oracle.dump(path)))
    assert len(found) > 60
    assert max(depth for depth, _ in found) >= 5
    assert {b"v1", b"k8s.io", b"blob", b"containers", b"leases"} <= {
        name for _, name in found
    }
    stats = oracle.stats(path)
    assert stats["inline_buckets"] > 20
    assert stats["free"] >= 5
    assert oracle.check(path) == []


def test_both_read_the_same(oracle: Oracle, path: str) -> None:
    assert engine.dump(path) == oracle.dump(path)
    assert engine.check(path) == []
    assert Path(path).read_bytes() == CONTAINERD.read_bytes()


def grow(bucket: shearbolt.Bucket, turn: int) -> None:
    """Write into a bucket and all below; every third loses its first pair."""
    for at, (_, below) in enumerate(list(bucket.buckets())):
        grow(below, turn + at)
    if turn % 3 == 0:
        for key in list(bucket.keys())[:1]:
            bucket.delete(key)
    bucket.put(b"zz/%d" % turn, b"grown" * (turn * 40))


@pytest.mark.parametrize("bare", [True, False], ids=["no-freelist", "freelist"])
def test_real_bbolt_accepts_and_reads_our_writes(
    oracle: Oracle, path: str, bare: bool
) -> None:
    before = oracle.dump(path)
    for turn in range(4):
        with shearbolt.open(path, no_freelist_sync=bare) as db, db.update() as tx:
            top = tx.bucket(b"v1")
            grow(top, turn)
            top.create_bucket(b"added %d" % turn).next_sequence()
            if turn == 2:
                top.bucket(b"k8s.io").delete_bucket(b"content")
        assert oracle.check(path) == []
        assert engine.check(path) == []
        assert oracle.dump(path) == engine.dump(path)
    after = dict(oracle.dump(path).entries)[b"v1"]
    assert isinstance(after, Bucket)
    assert after.count() > before.count()
    assert (2, b"content") in set(buckets(before))
    assert b"content" not in dict(dict(after.entries)[b"k8s.io"].entries)


def test_a_lost_label_would_be_seen(oracle: Oracle, path: str) -> None:
    expected = engine.dump(path)
    with shearbolt.open(path) as db, db.update() as tx:
        tx.bucket(b"v1").bucket(b"default").bucket(b"labels").delete(b"owner")
    assert oracle.dump(path) != expected


def test_containerd_still_writes_the_same_names(
    containerd: None, oracle: Oracle, tmp_path: Path
) -> None:
    again = tmp_path / "again.db"
    make_containerd_database.make(again)
    assert shape(oracle.dump(str(again))) == shape(oracle.dump(str(CONTAINERD)))


def compacted(source: Path, target: Path) -> None:
    assert call("compact", source, "-o", target).status == 0


def repaired(source: Path, target: Path) -> None:
    assert call("repair", source, "-o", target).status == 0


def compacted_but_for_one_label(source: Path, target: Path) -> None:
    compacted(source, target)
    with shearbolt.open(target) as db, db.update() as tx:
        del tx.bucket(b"v1").bucket(b"default").bucket(b"labels")[b"owner"]


def rewrite(folder: Path, target: Path, how) -> Path:
    # Not the file alone: containerd wants the blobs that it has records of.
    shutil.copytree(folder, target)
    file = database(target)
    how(file, file.with_name("new"))
    file.with_name("new").replace(file)
    return file


@pytest.mark.parametrize("how", [compacted, repaired])
def test_containerd_starts_again_with_everything_it_had(
    how, stopped, oracle: Oracle, tmp_path: Path
) -> None:
    folder, had = stopped
    file = rewrite(folder, tmp_path / "again", how)
    assert oracle.dump(str(file)) == oracle.dump(str(database(folder)))
    with running(tmp_path / "again") as client:
        assert objects(client) == had
        client.call("namespaces", "create", "after", "number=1")
        assert ["after", "number=1"] in objects(client)["namespaces"]
    assert engine.check(str(file)) == []
    assert oracle.check(str(file)) == []
    assert engine.dump(str(file)) == oracle.dump(str(file))


def test_one_label_missing_from_the_rewritten_file_is_noticed(
    stopped, tmp_path: Path
) -> None:
    folder, had = stopped
    rewrite(folder, tmp_path / "again", compacted_but_for_one_label)
    with running(tmp_path / "again") as client:
        found = objects(client)
    assert found["namespaces"] != had["namespaces"]
    assert {**found, "namespaces": had["namespaces"]} == had
