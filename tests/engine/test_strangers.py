"""A commit writes nothing into a file that somebody else has cut or replaced."""

import errno
import os
import pathlib
import shutil
import sys

import pytest
from machine import PATH, Machine

import shearbolt
from shearbolt import FileChangedError
from shearbolt.database import tx as transactions


def filled(path, pairs=300, commits=1, **options):
    db = shearbolt.open(path, no_sync=True, **options)
    for _ in range(commits):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"b")
            bucket.update((b"%05d" % at, b"v" * 50) for at in range(pairs))
    return db


def content(path):
    return pathlib.Path(path).read_bytes()


def put(db):
    with db.update() as tx:
        tx.bucket(b"b").put(b"new", b"v" * 3000)


def pairs(db):
    with db.view() as tx:
        return len(tx.bucket(b"b"))


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.99])
def test_a_commit_into_a_file_cut_short_is_refused(path, share):
    db = filled(path)
    assert pairs(db) == 300
    cut = int(db.durable.live.high_water_mark * db.page_size * share)
    os.truncate(path, cut)
    before = content(path)
    for _ in range(2):
        with pytest.raises(FileChangedError, match=f"cut short, {cut} bytes") as caught:
            put(db)
        assert caught.value.path == path
    db.close()
    assert content(path) == before


@pytest.mark.parametrize("commits", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 3000])
def test_a_commit_into_a_file_replaced_in_place_is_refused(path, commits, size):
    backup = path + ".backup"
    filled(backup, size, commits).close()
    db = filled(path)
    shutil.copyfile(backup, path)
    with pytest.raises(FileChangedError):
        put(db)
    db.close()
    assert content(path) == content(backup)
    with shearbolt.open(path) as db:
        assert pairs(db) == size


def test_at_a_takeover_a_file_that_was_replaced_is_not_even_synced():
    """When that fails the live meta is written again, over what was restored."""
    machine, other = Machine(), Machine()
    for one, commits in ((machine, 3), (other, 6)):
        filled(PATH, 30, commits, storage=one).close()
    db = shearbolt.open(PATH, storage=machine)
    restored = bytes(other.cache[PATH])
    machine.cache[PATH][:] = restored
    machine.plan = lambda operation, _: errno.EIO if operation == "fdatasync" else None
    with pytest.raises(FileChangedError):
        put(db)
    assert machine.cache[PATH] == restored
    machine.plan = lambda *_: None
    db.close()


def test_the_next_commit_is_accepted_when_the_file_is_back(path):
    db = filled(path)
    before = content(path)
    os.truncate(path, 4096)
    with pytest.raises(FileChangedError):
        put(db)
    with open(path, "r+b") as file:
        file.write(before)
    put(db)
    db.close()
    with shearbolt.open(path) as db, db.view() as tx:
        assert tx.check() == []
        assert len(tx.bucket(b"b")) == 301


def test_room_that_was_cut_off_is_made_again_and_synced():
    """Only pages that nobody uses are gone: the commit grows the file."""
    machine = Machine()
    db = shearbolt.open(PATH, storage=machine)
    with db.update() as tx:
        tx.create_bucket(b"b")
    used = db.durable.live.high_water_mark * db.page_size
    size = len(machine.cache[PATH])
    assert size > used
    for held in (machine.cache[PATH], machine.disk[PATH]):
        del held[used:]
    machine.log.clear()
    with db.update() as tx:
        tx.bucket(b"b").put(b"k", b"v" * 3000)
    # So much it had once.
    assert used < db.durable.live.high_water_mark * db.page_size < size
    assert machine.log.index("ftruncate") < machine.log.index("pwritev")
    assert "fsync" in machine.log
    db.close()
    with shearbolt.open(PATH, storage=machine.power_off()) as db, db.view() as tx:
        assert tx.check() == []


def test_a_live_meta_in_the_slot_of_the_other_is_the_live_one(path):
    """As the `surgery` command leaves it when it brings an old version back."""
    db = filled(path, commits=2)
    size = db.page_size
    db.close()
    with open(path, "r+b") as file:
        metas = [file.read(size), file.read(size)]
        live = max(metas, key=lambda page: page[64:72])
        file.seek(0)
        other = metas.index(live) ^ 1
        file.seek(other * size)
        file.write(live)
        file.seek((1 - other) * size)
        file.write(bytes(size))
    with shearbolt.open(path) as db:
        put(db)
        assert pairs(db) == 301


@pytest.mark.parametrize("looked_at", ["size", "meta"])
def test_it_is_noticed_when_a_commit_does_not_look(path, monkeypatch, looked_at):
    """Both looks are needed: without either a file of somebody else is written to."""

    def careless(durable):
        file = durable.pager.file
        needed = durable.live.high_water_mark * durable.pager.page_size
        if looked_at == "size":
            if file.size() < needed:
                raise FileChangedError("cut", path=path)
        elif not durable.live.stands_in(
            file.read(durable.live.slot * durable.pager.page_size + 16, 64)
        ):
            raise FileChangedError("other", path=path)

    monkeypatch.setattr(transactions, "require_unchanged", careless)
    db = filled(path)
    if looked_at == "size":
        filled(path + ".backup", 3000).close()
        shutil.copyfile(path + ".backup", path)
    else:
        os.truncate(path, 3 * 4096)
    before = content(path)
    put(db)
    db.close()
    assert content(path) != before


def _over(path):
    filled(path + ".new", 7).close()
    os.replace(path + ".new", path)


OPEN_STAYS = pytest.mark.skipif(
    sys.platform == "win32", reason="an open file cannot be replaced or removed there"
)


@OPEN_STAYS
@pytest.mark.parametrize("gone", [os.unlink, _over])
@pytest.mark.parametrize("sync_twice", [False, True])
def test_a_commit_into_a_file_that_lost_its_name_is_refused(path, gone, sync_twice):
    db = filled(path, sync_twice=sync_twice)
    gone(path)
    for _ in range(2):
        with pytest.raises(FileChangedError, match="removed") as caught:
            put(db)
        assert caught.value.path == path
    # What it has can be had yet.
    with db.view() as tx:
        tx.copy_file(path + ".saved")
    db.close()
    with shearbolt.open(path + ".saved") as db:
        assert pairs(db) == 300


@OPEN_STAYS
def test_a_commit_into_a_file_with_another_name_is_made(path):
    db = filled(path)
    os.link(path, path + ".second")
    os.unlink(path)
    put(db)
    os.rename(path + ".second", path + ".third")
    put(db)
    db.close()
    with shearbolt.open(path + ".third") as db:
        assert pairs(db) == 301


def test_a_file_that_never_had_a_name_is_written(path, monkeypatch):
    # As of a FUSE file system that counts no links, and of an inherited O_TMPFILE.
    fstat = os.fstat

    def uncounted(fd):
        status = fstat(fd)
        return os.stat_result((*status[:3], 0, *status[4:]))

    monkeypatch.setattr(os, "fstat", uncounted)
    assert os.fstat(0).st_nlink == 0
    db = filled(path)
    put(db)
    db.close()
