"""A failing machine with a database on it, for the tests of what is done then."""

import errno

import pytest
from machine import PATH, Machine

import shearbolt

__all__ = [
    "FIRST",
    "READY",
    "KilledError",
    "change",
    "content",
    "fail_sync",
    "fail_syncs_from",
    "opened",
    "taken_over",
]


def content(db):
    with db.view() as tx:
        assert tx.check() == []
        return {
            (name, key): value
            for name, bucket in tx.buckets()
            for key, value in bucket.items()
        }


def made():
    """A machine with a database of several versions, and its content."""
    machine = Machine()
    with shearbolt.open(PATH, page_size=1024, storage=machine) as db:
        for round_ in range(4):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"a")
                for i in range(20):
                    bucket[b"%02d" % (i * (round_ + 1) % 40)] = b"%d" % round_ * 40
        return machine.power_off(), content(db)


READY, FIRST = made()


def change(tx, number):
    """One transaction of the workload; returns what it adds to the model."""
    bucket = tx.create_bucket_if_not_exists(b"a")
    change = {(b"a", b"%02d" % (7 * number % 40)): b"n%d" % number * 60}
    for (_, key), value in change.items():
        bucket[key] = value
    if number == 2:
        tx.create_bucket(b"big")[b"k"] = b"v" * 30_000
        change[b"big", b"k"] = b"v" * 30_000
    return change


def opened(**options):
    machine = READY.power_off()
    db = shearbolt.open(PATH, storage=machine, **options)
    with db.update() as tx:
        change(tx, 0)
    return machine, db


def fail_sync(machine, number):
    """The number-th fdatasync from now on fails."""
    _fail_syncs(machine, range(number, number + 1))


def fail_syncs_from(machine, first):
    """The first-th fdatasync from now on fails, and all behind it."""
    _fail_syncs(machine, range(first, 1 << 30))


def _fail_syncs(machine, numbers):
    start = machine.log.count("fdatasync")

    def plan(operation, _):
        done = machine.log.count("fdatasync") - start
        return errno.EIO if operation == "fdatasync" and done in numbers else None

    machine.plan = plan


class KilledError(BaseException):
    """The process is gone, in the middle of what it did."""


def taken_over():
    """A machine on which the live meta is in the page cache only.

    The process that wrote it was killed before its last fdatasync; everything that the
    meta leads to is durable.
    """
    first = READY.power_off()
    syncs = []

    def killed(operation, _number):
        syncs.extend([operation] * (operation == "fdatasync"))
        # The takeover, the pages, and then the meta.
        if len(syncs) >= 3:
            raise KilledError

    db = shearbolt.open(PATH, storage=first)
    first.plan = killed
    with pytest.raises(KilledError), db.update() as tx:
        tx.bucket(b"a")[b"killed"] = b"k" * 400
    # What is in doubt is remembered by storage: this one is another process's.
    second = Machine()
    second.disk, second.cache, second.dirty = first.disk, first.cache, first.dirty
    return second
