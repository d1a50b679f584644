"""Deletes that are gathered, and leaves that are taken together, survive every crash.

Where pages are read exactly the way that takes a page's bytes as they are is not
walked. So the program's disk has it read ahead, as real files do; recovery's has not.
"""

import pytest

import shearbolt
from boltmodel.interpret import DATABASE, READ_AHEAD
from boltmodel.recovery import look, recover
from shearbolt.tree import leafrun
from shearbolt.tree.leafrun import LeafRun
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel

KEYS = [b"%05d" % number for number in range(600)]


def database():
    disk = Disk()
    with (
        shearbolt.open(DATABASE, storage=disk, page_size=1024) as db,
        db.update() as tx,
    ):
        bucket = tx.create_bucket(b"b")
        for key in KEYS:
            bucket[key] = key * 6
    file = disk.open(DATABASE, read_only=True)
    return {DATABASE: file.pread(file.size(), 0)}


def digest_of(files):
    with shearbolt.open(DATABASE, storage=Disk(files), read_only=True) as db:
        found = look(db)
    assert not found.problems
    return found.content.digest


@pytest.mark.parametrize("model", ["tear=byte", "xfs"])
def test_a_crash_shows_all_gathered_deletes_or_none(model, monkeypatch):
    used = []
    right = LeafRun.take_out

    def take_out(self, *given):
        used.append(self)
        return right(self, *given)

    monkeypatch.setattr(LeafRun, "take_out", take_out)
    shapes = leafrun._shapes
    shapes.clear()
    files, crash = database(), CrashModel.parse(model)
    disk = Disk(files, crash)
    disk.read_ahead = READ_AHEAD
    with shearbolt.open(DATABASE, storage=disk) as db, db.update() as tx:
        bucket = tx.bucket(b"b")
        for key in KEYS[::-2]:
            bucket.delete(key)
    # Cut from bytes, and not from decoded pages.
    assert used
    assert shapes
    file = disk.open(DATABASE, read_only=True)
    after = {DATABASE: file.pread(file.size(), 0)}
    legal = {digest_of(files), digest_of(after)}
    assert len(legal) == 2
    seen = set()
    for closure in Explorer(files, disk.trace, recover, crash).sweep():
        assert closure.closed
        for reached in closure.outcomes:
            outcome = reached.outcome
            assert outcome.error == outcome.progress == ""
            assert outcome.problems == ()
            seen.add(outcome.digest)
    assert seen == legal


def test_a_leaf_cut_wrong_is_no_legal_content(monkeypatch):
    # What the test above would see of a pair that is taken for a deleted one.
    monkeypatch.setattr(leafrun, "compress", lambda given, kept: given[: sum(kept)])
    files = database()
    disk = Disk(files)
    disk.read_ahead = READ_AHEAD
    with shearbolt.open(DATABASE, storage=disk) as db:
        with db.update() as tx:
            bucket = tx.bucket(b"b")
            for key in KEYS[::-2]:
                bucket.delete(key)
        with db.view() as tx:
            assert list(tx.bucket(b"b").keys()) != KEYS[0::2]
