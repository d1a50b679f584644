"""A real etcd stops, its database is rewritten by us, and it starts again on that.

It must have all keys it had, and take new ones. The write-ahead log does not bring
back what the file lacks: one pair left out is one key that is gone.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal

import pytest
from tests.command.conftest import call
from tests.interop.conftest import INSTALL, missing
from tests.interop.make_etcd_database import (
    PATIENCE,
    object_key,
    object_value,
    start,
)

import shearbolt

pytestmark = pytest.mark.interop


def compacted(database, output) -> None:
    assert call("compact", database, "-o", output).status == 0


def exported_and_imported(database, output) -> None:
    lines = call("export", database).stdout
    assert call("import", "-o", output, stdin=lines).status == 0


def repaired(database, output) -> None:
    assert call("repair", database, "-o", output).status == 0


def compacted_but_for_one_pair(database, output) -> None:
    compacted(database, output)
    with shearbolt.open(output) as db, db.update() as tx:
        revisions = tx.bucket(b"key")
        del revisions[list(revisions)[100]]


@contextlib.contextmanager
def running(folder):
    process, gateway = start(folder)
    try:
        with contextlib.closing(gateway):
            yield gateway
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()


def objects(gateway) -> dict[bytes, bytes]:
    reply = gateway.call("kv/range", key=b"/", range_end=b"0")
    return {
        base64.b64decode(pair["key"]): base64.b64decode(pair["value"])
        for pair in reply.get("kvs", [])
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """An etcd's folder with 200 objects, and what they are."""
    if shutil.which("etcd") is None:
        missing(f"etcd is not installed: {INSTALL}")
    folder = tmp_path_factory.mktemp("etcd")
    with running(folder) as gateway:
        for i in range(200):
            gateway.call("kv/put", key=object_key(i), value=object_value(i, 1, 150))
        for i in range(0, 200, 9):
            gateway.call("kv/deleterange", key=object_key(i))
        stored = objects(gateway)
    assert len(stored) == 177
    return folder, stored


def rewrite(folder, target, how) -> None:
    shutil.copytree(folder, target)
    database = target / "data" / "member" / "snap" / "db"
    how(database, database.with_name("new"))
    database.with_name("new").replace(database)


@pytest.mark.parametrize("how", [compacted, exported_and_imported, repaired])
def test_etcd_starts_again_with_everything_it_had(how, stopped, tmp_path) -> None:
    folder, stored = stopped
    rewrite(folder, tmp_path / "etcd", how)
    with running(tmp_path / "etcd") as gateway:
        assert objects(gateway) == stored
        gateway.call("kv/put", key=b"/after", value=b"1")
        assert objects(gateway) == {**stored, b"/after": b"1"}
    database = tmp_path / "etcd" / "data" / "member" / "snap" / "db"
    assert call("check", database)[:2] == (0, b"OK\n")


def test_one_pair_missing_from_the_rewritten_file_is_noticed(stopped, tmp_path) -> None:
    folder, stored = stopped
    rewrite(folder, tmp_path / "etcd", compacted_but_for_one_pair)
    with running(tmp_path / "etcd") as gateway:
        assert len(objects(gateway)) == len(stored) - 1
