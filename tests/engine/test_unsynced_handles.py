"""What waits for a sync, and what is lost, outlives the handle that wrote it.

A sync that fails is treated the same whichever handle of this process makes it, as
long as it is the same file (`shearbolt.database.unsynced`). Failed syncs of one handle
are in `test_failing_syncs`.
"""

import errno
import gc
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import replace

import pytest
from failing import (
    READY,
    change,
    content,
    fail_sync,
    fail_syncs_from,
    opened,
    taken_over,
)
from machine import PATH, Machine

import shearbolt
from shearbolt import DatabaseFailedError, StorageError
from shearbolt.database import doubt, unsynced
from shearbolt.pages.format import Meta
from shearbolt.storage import OSStorage


def left_unsynced(**options):
    """A machine with commits that wait, made by a handle that was closed."""
    machine, db = opened(no_sync=True, **options)
    db.close()
    return machine


def mend(machine):
    machine.plan = lambda *_: None


def refuses(db):
    before = content(db)
    for call in (db.sync, lambda: db.begin(writable=True)):
        with pytest.raises(DatabaseFailedError, match="no_sync"):
            call()
    assert content(db) == before


def commit(db):
    with db.update() as tx:
        change(tx, 1)


def a_later_handle_fails_for_it(machine, call):
    """What waits in the file for a sync is lost with the next one, which fails."""
    with shearbolt.open(PATH, storage=machine) as db:
        fail_sync(machine, 1)
        with pytest.raises(StorageError):
            call(db)
        mend(machine)
        refuses(db)


@pytest.mark.parametrize("call", [shearbolt.DB.sync, commit])
@pytest.mark.parametrize("again", range(3))
def test_the_first_sync_of_a_later_handle_fails_for_the_commits_of_an_earlier(
    call, again
):
    machine = left_unsynced()
    for _ in range(again):
        # Another that writes and syncs nothing changes nothing.
        shearbolt.open(PATH, storage=machine).close()
    a_later_handle_fails_for_it(machine, call)


def test_a_handle_that_was_lost_and_not_closed_leaves_the_same():
    machine, db = opened(no_sync=True)
    del db
    gc.collect()
    a_later_handle_fails_for_it(machine, shearbolt.DB.sync)


def test_a_slot_that_opening_cannot_heal_loses_what_waits():
    machine, db = opened(no_sync=True)
    start = machine.log.count("pwritev")
    commit(db)
    writes = machine.log.count("pwritev") - start
    machine, db = opened(no_sync=True)
    # The meta fails, the last of them, and again when the live one is written.
    machine.plan = lambda operation, _: (
        errno.EIO
        if operation == "pwritev" and machine.log.count("pwritev") >= start + writes
        else None
    )
    with pytest.raises(StorageError):
        commit(db)
    mend(machine)
    db.close()
    assert doubt.doubt_about(doubt.known(machine), db.identity)
    fail_sync(machine, 1)
    with pytest.raises(DatabaseFailedError):
        shearbolt.open(PATH, storage=machine)
    mend(machine)
    start = len(machine.log)
    with shearbolt.open(PATH, storage=machine) as db:
        refuses(db)
    assert "pwritev" not in machine.log[start:]


@pytest.mark.parametrize("options", [{}, {"no_freelist_sync": True}])
def test_what_is_lost_stays_so_for_every_later_handle(options):
    machine, db = opened(no_sync=True, **options)
    fail_sync(machine, 1)
    with pytest.raises(StorageError):
        db.sync()
    mend(machine)
    db.close()
    for later in ({}, {"read_only": True}, {}):
        with shearbolt.open(PATH, storage=machine, **later) as db:
            if later:
                assert content(db)
            else:
                refuses(db)
    # Another process, or this one after a restart.
    other = Machine()
    other.disk, other.cache, other.dirty = machine.disk, machine.cache, machine.dirty
    with shearbolt.open(PATH, storage=other) as db:
        commit(db)


@pytest.mark.parametrize("reading", [False, True])
def test_a_sync_of_a_later_handle_that_works_is_one_for_all(reading):
    machine = left_unsynced()
    with shearbolt.open(PATH, storage=machine, read_only=reading) as db:
        known = content(db)
        db.sync()
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known
    with shearbolt.open(PATH, storage=machine) as db:
        # Nothing waits, so nothing is lost by this failure.
        fail_sync(machine, 1)
        commit(db)
        mend(machine)
        commit(db)


def test_commits_that_are_synced_before_the_end_leave_no_note():
    machine, db = opened(no_sync=True)
    notes = unsynced.known(machine)
    assert notes.waits(db.identity)
    db.no_sync = False
    commit(db)
    assert not notes.waits(db.identity)
    db.no_sync = True
    commit(db)
    assert notes.waits(db.identity)
    db.sync()
    db.close()
    assert not notes.waits(db.identity)


def test_an_interrupt_of_what_notes_a_commit_that_waits_says_rather_too_much(
    monkeypatch,
):
    machine = READY.power_off()
    db = shearbolt.open(PATH, storage=machine, no_sync=True)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unsynced.Unsynced, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            commit(db)
    commit(db)
    db.close()
    a_later_handle_fails_for_it(machine, shearbolt.DB.sync)


def test_a_sync_of_a_reader_that_fails_is_one_for_all():
    machine = left_unsynced()
    reader, other = (
        shearbolt.open(PATH, storage=machine, read_only=True) for _ in "ab"
    )
    fail_sync(machine, 1)
    with pytest.raises(StorageError):
        reader.sync()
    mend(machine)
    for one in (reader, other):
        with pytest.raises(DatabaseFailedError, match="no_sync"):
            one.sync()
        assert content(one)
        one.close()
    with shearbolt.open(PATH, storage=machine) as db:
        refuses(db)


def test_a_database_that_is_made_anew_in_the_same_file_has_lost_nothing():
    machine, db = opened(no_sync=True)
    fail_sync(machine, 1)
    with pytest.raises(StorageError):
        db.sync()
    mend(machine)
    db.close()
    machine.cache[PATH] = bytearray()
    with shearbolt.open(PATH, storage=machine) as db:
        # Nor does anything wait that a failure could lose.
        machine.plan = lambda operation, _: (
            errno.EIO if operation in {"fsync", "fdatasync"} else None
        )
        with pytest.raises(StorageError):
            commit(db)
        mend(machine)
        commit(db)
        known = content(db)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_notes_take_no_more_memory_than_so_much(monkeypatch):
    monkeypatch.setattr(unsynced, "_MOST", 3)
    notes = unsynced.Unsynced()
    for number in range(100):
        notes.begin((1, number))
        assert len(notes._waiting) <= 3
    # What was dropped counts as waiting, as does all else.
    assert all(notes.waits((1, number)) for number in range(200))
    assert not notes.is_lost((1, 5))


# -- real files --


class FailingStorage(OSStorage):
    """The real machine; its files' syncs fail while `failing`."""

    __slots__ = ("failing",)

    def __init__(self):
        self.failing = False

    def open(self, path, /, **options):
        file = super().open(path, **options)
        return FailingFile(self, file)


class FailingFile:
    def __init__(self, storage, file):
        self.storage, self.file = storage, file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def fdatasync(self):
        if self.storage.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.file.fdatasync()


def lost(path):
    storage = FailingStorage()
    with shearbolt.open(path, storage=storage, no_sync=True) as db:
        commit(db)
        storage.failing = True
        with pytest.raises(StorageError):
            db.sync()
        storage.failing = False
    return storage


@pytest.mark.skipif(
    sys.platform == "win32", reason="an open file cannot be replaced there"
)
def test_a_file_that_was_put_in_the_place_of_a_lost_one_is_written(tmp_path):
    path = tmp_path / "a.db"
    storage = lost(path)
    with shearbolt.open(path, storage=storage) as db:
        refuses(db)
        with db.view() as tx:
            tx.copy_file(tmp_path / "b.db")
    os.replace(tmp_path / "b.db", path)
    # Whichever number the next file gets, it is none that was lost.
    for number in range(5):
        copy = shutil.copy(path, tmp_path / str(number))
        for name in (path, copy):
            with shearbolt.open(name, storage=storage) as db:
                commit(db)


def test_a_file_that_waits_is_not_kept_open(tmp_path):
    storage = FailingStorage()

    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for number in range(20):
        with shearbolt.open(
            tmp_path / str(number), storage=storage, no_sync=True
        ) as db:
            commit(db)
    assert descriptors() == before


def times_open(path):
    """How often this process has the file open."""
    gc.collect()
    times = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            times += os.readlink(f"/proc/self/fd/{number}") == os.path.realpath(path)
    return times


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="nobody lists a process's files here"
)
def test_a_closed_file_is_kept_open_while_a_slot_of_it_is_in_doubt(path):
    """And no longer: a file system with an open file on it cannot be unmounted."""
    storage = FailingStorage()
    with shearbolt.open(path, storage=storage) as db:
        commit(db)
    assert times_open(path) == 0
    # A takeover that cannot make the live meta durable.
    with shearbolt.open(path, storage=storage) as db:
        storage.failing = True
        with pytest.raises(StorageError):
            commit(db)
    assert times_open(path) == 1
    storage.failing = False
    with shearbolt.open(path, storage=storage) as db:
        commit(db)
        assert times_open(path) == 1
    assert times_open(path) == 0


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


@FORKS
def test_a_child_knows_what_waits_when_it_is_made(tmp_path):
    path, storage = tmp_path / "a.db", FailingStorage()
    with shearbolt.open(path, storage=storage, no_sync=True) as db:
        commit(db)
    child = os.fork()
    if not child:
        status = 1
        with suppress(BaseException):
            storage.failing = True
            db = shearbolt.open(path, storage=storage)
            with suppress(StorageError):
                db.sync()
            storage.failing = False
            refuses(db)
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@FORKS
@pytest.mark.parametrize("fails", ["a sync of commits that wait", "a meta page"])
def test_a_child_keeps_open_what_is_noted_by_number(tmp_path, fails):
    """Else the next file gets the number, and is taken for the one that is noted."""
    path, storage = tmp_path / "a.db", FailingStorage()
    waits = fails.startswith("a sync")
    db = shearbolt.open(path, storage=storage, no_sync=waits)
    commit(db)
    storage.failing = True
    if waits:
        with pytest.raises(StorageError):
            db.sync()
    else:
        tried = replace(db.durable.live, txid=db.durable.live.txid + 1)
        with pytest.raises(StorageError):
            db.durable.publish(tried, sync=True)
        assert db.durable.in_doubt()
    storage.failing = False
    child = os.fork()
    if not child:
        status = 1
        with suppress(BaseException):
            os.fstat(db.pager.file.raw.file._fd)
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    db.close()


# -- a slot in doubt, and who else has been there --


def in_doubt(first):
    """A machine on which a commit's meta failed, and could not be undone."""
    machine, db = opened()
    known = content(db)
    fail_syncs_from(machine, first)
    with pytest.raises(StorageError):
        commit(db)
    mend(machine)
    db.close()
    assert doubt.doubt_about(doubt.known(machine), db.identity)
    return machine, known


def test_a_doubt_stands_as_long_as_what_is_found_is_what_this_process_has_left():
    before, live, tried = (
        Meta(4096, 2, 3, 9, txid, sequence=0, flags=0) for txid in (6, 7, 8)
    )
    for found in (live, tried):
        assert doubt.Doubt(live, tried, None).stands(found)
    for found in (before, replace(live, root=4), replace(tried, root=4)):
        assert not doubt.Doubt(live, tried, None).stands(found)
    # The live one was being written again: there is one slot to believe, if any.
    for found in (before, live):
        assert doubt.Doubt(live, live, None).stands(found)
    for found in (replace(live, root=4), tried):
        assert not doubt.Doubt(live, live, None).stands(found)


def test_a_doubt_ends_when_another_process_has_committed_since():
    """Writing again what was live here would destroy what is acknowledged there."""
    machine, _ = in_doubt(2)
    other = Machine()
    other.disk, other.cache, other.dirty = machine.disk, machine.cache, machine.dirty
    for number in range(3):
        with shearbolt.open(PATH, storage=other) as db, db.update() as tx:
            tx.create_bucket(b"%d" % number)[b"k"] = b"v" * 5000
        with shearbolt.open(PATH, storage=other) as db:
            known = content(db)
        for reading in (True, False):
            with shearbolt.open(PATH, storage=machine, read_only=reading) as db:
                assert content(db) == known
        assert content(shearbolt.open(PATH, storage=other.power_off())) == known


def test_a_doubt_ends_when_a_backup_was_put_there():
    machine, _ = in_doubt(2)
    machine.cache[PATH][:] = READY.disk[PATH]
    machine.disk[PATH] = bytearray(READY.disk[PATH])
    machine.dirty[PATH].clear()
    known = content(shearbolt.open(PATH, storage=READY.power_off()))
    with shearbolt.open(PATH, storage=machine) as db:
        assert content(db) == known
    assert machine.cache[PATH] == READY.disk[PATH]


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("failures", range(1, 6))
def test_a_sync_that_failed_is_not_made_good_by_the_next(failures, reading):
    """What it was for, the live meta of a killed process, has to be written again."""
    machine = taken_over()
    left = [failures]

    def plan(operation, _number):
        if operation == "fdatasync" and left[0]:
            left[0] -= 1
            return errno.EIO
        return None

    machine.plan = plan
    with shearbolt.open(PATH, storage=machine, read_only=reading) as db:
        known = content(db)
        start = len(machine.log)
        for _ in range(failures + 1):
            with suppress(StorageError, DatabaseFailedError):
                db.sync()
                break
        else:
            assert reading
        if reading:
            assert "pwritev" not in machine.log[start:]
            mend(machine)
            with shearbolt.open(PATH, storage=machine) as writer:
                writer.sync()
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known
