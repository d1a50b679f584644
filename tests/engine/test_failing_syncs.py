"""A sync that fails is believed by nobody: at a takeover, and without syncs before it.

What a failed sync should have written may be gone, and the next one reports success
(`machine`). So it matters who was waiting for it: the live meta that another process
has written and not synced, and commits made with `no_sync`.
"""

import errno
from contextlib import suppress

import pytest
from failing import (
    FIRST,
    READY,
    KilledError,
    change,
    content,
    fail_sync,
    opened,
    taken_over,
)
from machine import PATH

import shearbolt
from shearbolt import BoltError, DatabaseFailedError, StorageError

# -- taking over --


@pytest.mark.parametrize("failures", range(6))
def test_a_takeover_whose_syncs_fail_writes_over_nothing_that_may_count(failures):
    """Not before the live meta is durable: until then the one before it counts."""
    ends = set()
    for at in range(1, 60):
        machine = taken_over()
        left = [failures]

        def failing(operation, _number, left=left):
            if operation == "fdatasync" and left[0]:
                left[0] -= 1
                return errno.EIO
            return None

        def killing(operation, number, failing=failing, last=at):
            if number >= last:
                raise KilledError
            return failing(operation, number)

        db = shearbolt.open(PATH, storage=machine)
        machine.plan, machine.count = killing, 0
        end = "killed"
        try:
            while True:
                with suppress(BoltError):
                    with db.update() as tx:
                        tx.bucket(b"a")[b"new"] = b"n" * 900
                    end = "committed"
        except KilledError:
            pass
        machine.plan = lambda _operation, _number: None
        with shearbolt.open(PATH, storage=machine.power_off()) as found:
            there = content(found)
        second = FIRST | {(b"a", b"killed"): b"k" * 400}
        third = second | {(b"a", b"new"): b"n" * 900}
        assert there == third if end == "committed" else there in (FIRST, second, third)
        ends.add(end)
    assert ends == {"killed", "committed"}


def test_an_interrupt_of_a_takeover_makes_nothing_durable():
    machine = taken_over()

    def plan(operation, _number):
        if operation == "fdatasync":
            raise KeyboardInterrupt

    with shearbolt.open(PATH, storage=machine) as db:
        machine.plan = plan
        with pytest.raises(KeyboardInterrupt), db.update() as tx:
            change(tx, 1)
        machine.plan = lambda *_: None
        start = len(machine.log)
        with db.update() as tx:
            change(tx, 2)
    done = [op for op in machine.log[start:] if op in {"pwritev", "fdatasync"}]
    assert done[0] == "fdatasync"


SECOND = FIRST | {(b"a", b"killed"): b"k" * 400}
"""What a file that was taken over holds, durable or not."""


def the_next_commit_is_safe(machine, db):
    """Whenever the power goes in it, one of the versions is there."""
    crashed = []
    machine.plan = lambda *_: crashed.append(machine.power_off())
    with db.update() as tx:
        third = SECOND | change(tx, 1)
    machine.plan = lambda *_: None
    for after in crashed:
        assert content(shearbolt.open(PATH, storage=after)) in (FIRST, SECOND, third)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == third


@pytest.mark.parametrize("failures", range(5))
def test_a_call_of_sync_that_fails_at_a_takeover_settles_nothing(failures):
    machine = taken_over()
    left = [failures]

    def plan(operation, _number):
        if operation == "fdatasync" and left[0]:
            left[0] -= 1
            return errno.EIO
        return None

    with shearbolt.open(PATH, storage=machine) as db:
        machine.plan = plan
        with suppress(StorageError):
            db.sync()
            assert content(shearbolt.open(PATH, storage=machine.power_off())) == SECOND
        the_next_commit_is_safe(machine, db)


def interrupted_as_it_fails(machine, monkeypatch, call):
    """Ctrl-C while the system is at a sync: Python raises it when that has failed."""

    def interrupted(*_):
        raise KeyboardInterrupt

    fail_sync(machine, 1)
    with monkeypatch.context() as patch:
        patch.setattr(StorageError, "of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call()
    machine.plan = lambda *_: None


@pytest.mark.parametrize("by", ["sync", "commit"])
def test_a_takeover_whose_sync_fails_beside_an_interrupt_is_not_made_good_by_the_next(
    by, monkeypatch
):
    machine = taken_over()

    def commit():
        with db.update() as tx:
            change(tx, 1)

    with shearbolt.open(PATH, storage=machine) as db:
        interrupted_as_it_fails(machine, monkeypatch, commit)
        if by == "sync":
            db.sync()
            found = content(shearbolt.open(PATH, storage=machine.power_off()))
            assert found == SECOND
        the_next_commit_is_safe(machine, db)


# -- commits without syncs --


def test_a_failed_sync_of_unsynced_commits_is_final():
    machine, db = opened(no_sync=True)
    fail_sync(machine, 1)
    with pytest.raises(StorageError):
        db.sync()
    machine.plan = lambda *_: None
    for call in (db.sync, lambda: db.begin(writable=True)):
        with pytest.raises(DatabaseFailedError, match="no_sync"):
            call()
    content(db)


def test_a_sync_makes_unsynced_commits_durable():
    machine, db = opened(no_sync=True)
    known = content(db)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == FIRST
    db.sync()
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_a_synced_commit_after_unsynced_ones_carries_them():
    machine, db = opened(no_sync=True)
    db.no_sync = False
    known = content(db)
    with db.update() as tx:
        known |= change(tx, 1)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def refuses_for_good(db):
    for call in (db.sync, lambda: db.begin(writable=True)):
        with pytest.raises(DatabaseFailedError, match="no_sync"):
            call()
    content(db)


def test_a_failed_sync_of_unsynced_commits_is_final_beside_an_interrupt(monkeypatch):
    machine, db = opened(no_sync=True)
    interrupted_as_it_fails(machine, monkeypatch, db.sync)
    refuses_for_good(db)
    db.close()
    with shearbolt.open(PATH, storage=machine) as later:
        refuses_for_good(later)


def test_a_takeover_that_fails_with_unsynced_commits_waiting_is_final():
    machine = READY.power_off()
    with shearbolt.open(PATH, storage=machine, no_sync=True) as db:
        with db.update() as tx:
            change(tx, 0)
        db.no_sync = False
        fail_sync(machine, 1)
        with pytest.raises(StorageError), db.update() as tx:
            change(tx, 1)
        machine.plan = lambda *_: None
        refuses_for_good(db)


def test_growing_that_fails_with_unsynced_commits_waiting_is_final():
    machine, db = opened()
    db.no_sync = True
    with db.update() as tx:
        change(tx, 1)
    db.no_sync = False
    machine.plan = lambda operation, _: errno.EIO if operation == "fsync" else None
    with pytest.raises(StorageError, match="fsync"), db.update() as tx:
        change(tx, 2)
    machine.plan = lambda *_: None
    refuses_for_good(db)


def test_growing_that_never_got_to_its_sync_is_not():
    machine, db = opened()
    db.no_sync = True
    with db.update() as tx:
        known = content(db) | change(tx, 1)
    db.no_sync = False
    machine.plan = lambda operation, _: errno.EIO if operation == "ftruncate" else None
    with pytest.raises(StorageError, match="ftruncate"), db.update() as tx:
        change(tx, 2)
    machine.plan = lambda *_: None
    db.sync()
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def before_a_failed_meta_write():
    """Unsynced commits, and a plan in which the next one's meta is not written."""
    machine, db = opened(no_sync=True)
    start = len(machine.log)
    with db.update() as tx:
        change(tx, 1)
    writes = machine.log[start:].count("pwritev")
    machine, db = opened(no_sync=True)
    start = len(machine.log)

    def plan(operation, _number):
        at_meta = machine.log[start:].count("pwritev") == writes
        return errno.EIO if operation == "pwritev" and at_meta else None

    return machine, db, plan


def test_a_slot_that_cannot_be_healed_with_unsynced_commits_waiting_is_final():
    machine, db, meta_fails = before_a_failed_meta_write()
    machine.plan = lambda operation, number: (
        errno.EIO if operation == "fdatasync" else meta_fails(operation, number)
    )
    with pytest.raises(StorageError, match="pwrite"), db.update() as tx:
        change(tx, 1)
    machine.plan = lambda *_: None
    refuses_for_good(db)


def test_a_slot_that_is_healed_makes_unsynced_commits_durable():
    machine, db, machine.plan = before_a_failed_meta_write()
    known = content(db)
    with pytest.raises(StorageError, match="pwrite"), db.update() as tx:
        change(tx, 1)
    machine.plan = lambda *_: None
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known
    # So a sync that fails now loses none of them.
    fail_sync(machine, 1)
    with suppress(StorageError):
        db.sync()
    machine.plan = lambda *_: None
    with db.update() as tx:
        known |= change(tx, 2)
    db.sync()
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known
