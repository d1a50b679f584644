"""A disk that fails at every single operation, in every way, loses nothing promised.

The machine is a small one in memory (`machine`). A workload runs once for each
operation it makes, and that operation fails. Then:

* the commit raised a typed error, or was not affected and is there;
* a reader opened before reads what it read;
* the handle goes on soundly, or refuses with DatabaseFailedError until the disk
  works again;
* after losing the power everything acknowledged is there, and nothing mixed.
"""

import errno
import functools
import random
import sys
import threading
from bisect import bisect_left, bisect_right
from collections import Counter

import pytest
from failing import (
    FIRST,
    READY,
    change,
    content,
    fail_sync,
    fail_syncs_from,
    opened,
)
from machine import PATH, Machine

import shearbolt
from shearbolt import BoltError, DatabaseFailedError, StorageError
from shearbolt.storage.robust import RobustFile
from tornpage.choices import Enumerator
from tornpage.disk import Disk


def workload(machine):
    """Run it; the acknowledged content, and that with a commit in doubt added."""
    acknowledged = possible = dict(FIRST)
    failed = False
    try:
        db = shearbolt.open(PATH, storage=machine, cache_size=1)
    except BoltError:
        return acknowledged, possible
    reader = db.begin()
    before = dict(FIRST)
    for number in range(4):
        adds = {}
        try:
            with db.update() as tx:
                adds = change(tx, number)
        except DatabaseFailedError:
            failed = True
        except (BoltError, OSError) as error:
            if not isinstance(error, BoltError):
                pytest.fail(f"untyped: {error!r}")
            possible = acknowledged | adds
        else:
            acknowledged = possible = acknowledged | adds
            failed = False
    machine.plan = lambda _operation, _number: None
    assert dict(reader.bucket(b"a").items()) == {k: v for (_, k), v in before.items()}
    reader.rollback()
    assert content(db) == acknowledged
    if failed:
        machine_after = machine.power_off()
        with shearbolt.open(PATH, storage=machine_after) as again:
            assert content(again) in (acknowledged, possible)
    # The disk works again, so the handle does.
    with db.update() as tx:
        acknowledged = acknowledged | change(tx, 9)
    assert content(db) == acknowledged
    db.close()
    return acknowledged, acknowledged


def operations():
    machine = READY.power_off()
    workload(machine)
    return machine.log


NUMBERED = list(enumerate(operations()))
FAILURES = [errno.EIO, errno.ENOSPC, errno.EINTR]
STRANGE = ["short", "nothing"]
CHANGES = {"open", "pwritev", "ftruncate", "fdatasync", "fsync", "fsync_dir"}


def survives(plan, *, keep=False):
    machine = READY.power_off()
    machine.plan = plan
    machine.keep_on_failed_sync = keep
    promised = workload(machine)
    assert after_power_loss(bytes(machine.disk[PATH])) in promised
    machine.plan = lambda _operation, _number: None
    assert goes_on(machine) in promised


@functools.lru_cache(maxsize=64)
def after_power_loss(disk):
    """What is found: nothing but these bytes is left, and they are often the same."""
    return goes_on(Machine({PATH: disk}))


def goes_on(machine):
    """The content of the database on it, which takes a commit that lasts."""
    with shearbolt.open(PATH, storage=machine) as db:
        found = content(db)
        with db.update() as tx:
            tx.create_bucket_if_not_exists(b"later")[b"k"] = b"v"
    with shearbolt.open(PATH, storage=machine.power_off()) as db:
        assert (b"later", b"k") in content(db)
    return found


def test_the_workload_makes_every_kind_of_operation():
    kinds = {operation for _, operation in NUMBERED}
    assert kinds >= {"pread", "pwritev", "ftruncate", "fdatasync", "fsync", "size"}
    assert len(NUMBERED) > 80


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("failure", FAILURES, ids=errno.errorcode.get)
def test_one_failure_at_any_operation_loses_nothing(failure):
    for at, operation in NUMBERED:
        # No read is told that there is no space; to the engine one error of a read is
        # as good as another.
        if failure != errno.ENOSPC or operation in CHANGES:
            survives(lambda _, n, at=at: failure if n == at else None)


@pytest.mark.parametrize("failure", FAILURES, ids=errno.errorcode.get)
def test_nor_does_a_failed_sync_that_has_written_everything(failure):
    for at, operation in NUMBERED:
        if operation in {"fdatasync", "fsync"}:
            survives(lambda _, n, at=at: failure if n == at else None, keep=True)


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("lasting", [2, 12, 10_000])
def test_failures_that_last_lose_nothing(lasting):
    for at, _ in NUMBERED:
        survives(lambda _, n, at=at: errno.EIO if at <= n < at + lasting else None)


@pytest.mark.parametrize("kind", ["fdatasync", "pwritev", "fsync", "pread"])
def test_a_kind_of_operation_that_never_works_again_loses_nothing(kind):
    for at, operation in NUMBERED:
        if operation == kind:
            survives(lambda op, n, at=at: errno.EIO if n >= at and op == kind else None)


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("strange", STRANGE)
def test_short_reads_and_writes_change_nothing(strange):
    for at, operation in NUMBERED:
        if operation in {"pwritev", "pread"}:
            survives(lambda _, n, at=at: strange if n == at else None)


def test_every_read_and_write_short_gives_the_same_file():
    machine = READY.power_off()
    machine.plan = lambda operation, _: "short" if operation[0] == "p" else None
    workload(machine)
    plain = READY.power_off()
    workload(plain)
    assert machine.disk == plain.disk


def test_interrupted_calls_are_made_again():
    machine = READY.power_off()
    machine.plan = lambda operation, n: (
        errno.EINTR if n % 2 and operation not in {"open", "close", "unlock"} else None
    )
    acknowledged, _ = workload(machine)
    assert (b"big", b"k") in acknowledged


# -- the meta, in words --


def test_a_failed_meta_sync_shows_nothing_and_harms_nothing():
    machine, db = opened()
    known = content(db)
    reader = db.begin()
    fail_sync(machine, 2)
    with pytest.raises(StorageError, match="fdatasync") as caught, db.update() as tx:
        change(tx, 1)
    assert caught.value.errno == errno.EIO
    assert caught.value.path == PATH
    assert content(db) == known
    for number in (2, 3):
        with db.update() as tx:
            known |= change(tx, number)
    assert (b"a", b"00") in known
    assert len(list(reader.bucket(b"a"))) == len([k for n, k in known if n == b"a"])
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_while_the_meta_cannot_be_healed_reads_go_on_and_writes_are_refused():
    machine, db = opened()
    known = content(db)
    fail_syncs_from(machine, 2)
    with pytest.raises(StorageError), db.update() as tx:
        change(tx, 1)
    with pytest.raises(DatabaseFailedError, match="refused until the disk accepts"):
        db.begin(writable=True)
    assert content(db) == known
    machine.plan = lambda *_: None
    with db.update() as tx:
        known |= change(tx, 2)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


@pytest.mark.parametrize("shows", ["the version before", "what has failed"])
def test_a_later_handle_does_not_believe_the_slot_either(shows):
    machine, db = opened()
    known = content(db)
    fail_syncs_from(machine, 2)
    fails = machine.plan

    def plan(operation, number):
        # What is in the slot is written over, or that fails, too.
        again = machine.log.count("fdatasync") - first == 2
        if operation == "pwritev" and again and shows == "what has failed":
            return "nothing"
        return fails(operation, number)

    first, machine.plan = machine.log.count("fdatasync"), plan
    with pytest.raises(StorageError), db.update() as tx:
        change(tx, 1)
    db.close()
    with shearbolt.open(PATH, storage=machine, read_only=True) as reader:
        assert content(reader) == known
    with pytest.raises(DatabaseFailedError):
        shearbolt.open(PATH, storage=machine)
    machine.plan = lambda *_: None
    with shearbolt.open(PATH, storage=machine) as again:
        assert content(again) == known
        with again.update() as tx:
            known |= change(tx, 2)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_a_doubt_about_one_file_is_none_about_another():
    machine, db = opened()
    known = content(db)
    other = shearbolt.open("/data/other.db", storage=machine)
    with other.update() as tx:
        theirs = change(tx, 3)
    fail_syncs_from(machine, 2)
    with pytest.raises(StorageError), db.update() as tx:
        change(tx, 1)
    machine.plan = lambda *_: None
    with other.update() as tx:
        theirs |= change(tx, 4)
    other.close()
    with shearbolt.open("/data/other.db", storage=machine) as other:
        assert content(other) == theirs
    assert db.durable.in_doubt()
    with db.update() as tx:
        known |= change(tx, 2)
    after = machine.power_off()
    for path, promised in ((PATH, known), ("/data/other.db", theirs)):
        assert content(shearbolt.open(path, storage=after)) == promised


def test_a_new_process_goes_on_soundly_after_a_failed_meta_sync():
    # The process whose meta sync failed is gone, and with it what it knew.
    machine, db = opened()
    old = content(db)
    fail_syncs_from(machine, 2)
    with pytest.raises(StorageError), db.update() as tx:
        change(tx, 1)
    machine.plan = lambda *_: None
    later = Machine()
    later.disk, later.cache = machine.disk, machine.cache
    later.dirty = {name: set() for name in machine.dirty}
    with shearbolt.open(PATH, storage=later) as again:
        assert content(again) in (old, old | {(b"a", b"07"): b"n1" * 60})
        known = content(again)
        for number in (2, 3):
            writes = later.log.count("pwritev")
            with again.update() as tx:
                adds = change(tx, number)
            assert later.log.count("pwritev") > writes
            known |= adds
            assert content(shearbolt.open(PATH, storage=later.power_off())) == known


def test_the_first_commit_syncs_what_is_live_before_it_writes_a_page():
    machine = READY.power_off()
    with shearbolt.open(PATH, storage=machine) as db:
        start = len(machine.log)
        with db.update() as tx:
            change(tx, 0)
    done = [op for op in machine.log[start:] if op in {"pwritev", "fdatasync"}]
    assert done[0] == "fdatasync"
    assert done.count("fdatasync") == 3


def test_an_interrupt_behind_the_meta_sync_does_not_undo_the_commit(monkeypatch):
    machine, db = opened()
    real = type(db.durable).publish

    def publish(self, meta, sync):
        real(self, meta, sync)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(db.durable), "publish", publish)
    known = content(db)
    with pytest.raises(KeyboardInterrupt), db.update() as tx:
        known |= change(tx, 1)
    monkeypatch.undo()
    assert content(db) == known
    for number in (2, 3, 4):
        with db.update() as tx:
            known |= change(tx, number)
    assert content(db) == known
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_a_commit_under_way_is_no_failure_to_who_begins_meanwhile():
    machine, db = opened()
    known = content(db)
    first = machine.log.count("fdatasync")
    inside, go_on, begun = threading.Event(), threading.Event(), threading.Event()

    def plan(operation, _):
        if operation == "fdatasync" and machine.log.count("fdatasync") == first + 2:
            inside.set()
            assert go_on.wait(10)

    def commit(number):
        with db.update() as tx:
            known.update(change(tx, number))

    def overtake():
        begun.set()
        commit(4)

    machine.plan = plan
    writer = threading.Thread(target=commit, args=(1,))
    other = threading.Thread(target=overtake)
    writer.start()
    assert inside.wait(10)
    other.start()
    assert begun.wait(10)
    # Until it waits for the commit, or is far beyond that.
    other.join(0.2)
    go_on.set()
    for thread in (writer, other):
        thread.join(10)
    assert content(db) == known
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_an_interrupt_inside_the_meta_sync_undoes_the_commit():
    machine, db = opened()
    known = content(db)
    start = machine.log.count("fdatasync")

    def plan(operation, _):
        if operation == "fdatasync" and machine.log.count("fdatasync") == start + 2:
            raise KeyboardInterrupt

    machine.plan = plan
    with pytest.raises(KeyboardInterrupt), db.update() as tx:
        change(tx, 1)
    machine.plan = lambda *_: None
    assert content(db) == known
    with db.update() as tx:
        known |= change(tx, 2)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_between_the_swap_and_the_end_undoes_neither(times, monkeypatch):
    machine, db = opened()
    known = content(db)
    real, interrupted = shearbolt.database.doubt.end, []

    def end(*arguments):
        if len(interrupted) < times:
            interrupted.append(True)
            raise KeyboardInterrupt
        real(*arguments)

    tx = db.begin(writable=True)
    known |= change(tx, 1)
    monkeypatch.setattr(shearbolt.database.doubt, "end", end)
    with pytest.raises(KeyboardInterrupt):
        tx.commit()
    # Another thread may have begun to read it.
    assert tx.committed
    assert content(db) == known
    # Nor does what the next commit does about the doubt, wherever that is cut short.
    left = []
    machine.plan = lambda *_: left.append(machine.power_off())
    with db.update() as tx:
        later = known | change(tx, 2)
    machine.plan = lambda *_: None
    for crashed in left:
        assert content(shearbolt.open(PATH, storage=crashed)) in (known, later)
    with db.update() as tx:
        later |= change(tx, 3)
    assert content(db) == later
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == later


def test_an_interrupt_of_what_handles_a_failure_leaves_the_slot_in_doubt(monkeypatch):
    machine, db = opened()
    known = content(db)

    def interrupted(real):
        def called(*arguments):
            if sys.exc_info()[0] is not None:
                raise KeyboardInterrupt
            real(*arguments)

        return called

    fail_sync(machine, 2)
    # Before whichever of them is called first while the failure is handled.
    for name in ("begin", "heal"):
        real = getattr(shearbolt.database.doubt, name)
        monkeypatch.setattr(shearbolt.database.doubt, name, interrupted(real))
    with pytest.raises(KeyboardInterrupt), db.update() as tx:
        change(tx, 1)
    monkeypatch.undo()
    machine.plan = lambda *_: None
    # What the slot shows is what nobody has promised, and may count after a crash.
    assert db.durable.in_doubt()
    with db.update() as tx:
        known |= change(tx, 2)
    assert content(shearbolt.open(PATH, storage=machine.power_off())) == known


def test_what_a_commit_has_put_into_the_cache_is_forgotten_though_its_end_was_not(
    monkeypatch,
):
    machine, db = opened()
    known = content(db)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(db.pager), "forget_all", interrupted)
        fail_sync(machine, 1)
        with pytest.raises(KeyboardInterrupt), db.update() as tx:
            change(tx, 1)
    machine.plan = lambda *_: None
    assert db.pager.young
    with db.update():
        assert not db.pager.young
        assert not db.pager._old
    assert content(db) == known


def test_what_makes_a_slot_certain_can_be_fallen_back_to():
    """It is no newer than the live version, and what comes next spares it."""
    machine, db = opened()
    known, live = content(db), db.durable.live
    fail_sync(machine, 2)
    with pytest.raises(StorageError), db.update() as tx:
        change(tx, 1)
    db.close()
    later = machine.power_off()
    size, slot = live.page_size, live.slot
    # The live meta goes bad: the slot that was in doubt is all there is.
    later.cache[PATH][slot * size : (slot + 1) * size] = bytes(size)
    spared = bytes(later.cache[PATH][(1 - slot) * size : (2 - slot) * size])
    with shearbolt.open(PATH, storage=later) as again:
        assert content(again) == known
        with again.update() as tx:
            known |= change(tx, 2)
        assert content(again) == known
    assert spared == later.cache[PATH][(1 - slot) * size : (2 - slot) * size]


# -- creation, copies, closing --


@pytest.mark.parametrize("failure", [errno.EIO, errno.ENOSPC])
def test_creation_that_fails_anywhere_can_be_repeated(failure):
    whole = Machine()
    shearbolt.open(PATH, storage=whole).close()
    for at in range(whole.count - 2):
        machine = Machine()
        machine.plan = lambda _, n, at=at: failure if n == at else None
        with pytest.raises(StorageError):
            shearbolt.open(PATH, storage=machine)
        machine.plan = lambda *_: None
        for after in (machine.power_off(), machine):
            with shearbolt.open(PATH, storage=after) as db, db.update() as tx:
                tx.create_bucket(b"b")
            assert content(shearbolt.open(PATH, storage=after.power_off())) == {}


def test_a_copy_is_whole_or_not_there():
    machine, db = opened()
    with db.view() as tx:
        start = machine.count
        tx.copy_file("/data/copy")
        total = machine.count - start
    whole = bytes(machine.cache["/data/copy"])
    for at in range(total):
        machine, db = opened()
        machine.cache["/data/copy"] = bytearray(b"old")
        machine.dirty["/data/copy"] = set()
        start = machine.count
        machine.plan = lambda _, n, at=at, start=start: (
            errno.EIO if n == start + at else None
        )
        try:
            with db.view() as tx:
                tx.copy_file("/data/copy")
        except StorageError:
            machine.plan = lambda *_: None
        left = {name for name in machine.cache if ".part-" in name}
        assert bytes(machine.cache["/data/copy"]) in (b"old", whole)
        assert not left or machine.log[-1] == "unlink"


def test_a_copy_whose_name_is_not_durable_is_not_said_to_be_made():
    machine, db = opened()
    machine.plan = lambda operation, _: errno.EIO if operation == "fsync_dir" else None
    with db.view() as tx, pytest.raises(StorageError, match="fsync of the directory"):
        tx.copy_file("/data/copy")


def test_a_copy_that_is_said_to_be_made_outlives_a_crash():
    """Its content and its name, whatever stood there before."""
    disk = Disk()
    with shearbolt.open("/a.db", storage=disk, page_size=1024) as db:
        for version in (b"old", b"new"):
            with db.update() as tx:
                tx.create_bucket_if_not_exists(b"b")[b"k"] = version * 500
            with db.view() as tx:
                tx.copy_file("/copy.db")
            tree = Enumerator()
            while True:
                with shearbolt.open("/copy.db", storage=disk.crash(tree)) as copy:
                    assert content(copy) == {(b"b", b"k"): version * 500}
                if not tree.advance():
                    break


@pytest.mark.parametrize("operation", ["unlock", "close"])
def test_a_database_is_closed_even_when_closing_fails(operation):
    machine, db = opened()
    machine.plan = lambda op, _: errno.EIO if op == operation else None
    with pytest.raises(StorageError, match="close"):
        db.close()
    db.close()
    with pytest.raises(shearbolt.DatabaseNotOpenError):
        db.begin()
    assert machine.log[-1] == "close"


def test_errors_while_reading_are_typed_and_pass():
    machine, db = opened(cache_size=1)
    machine.plan = lambda operation, _: errno.EIO if operation == "pread" else None
    with db.view() as tx:
        with pytest.raises(StorageError, match="pread at offset") as caught:
            list(tx.bucket(b"a"))
        assert caught.value.offset >= 0
        assert caught.value.operation == "pread"
        machine.plan = lambda *_: None
        assert len(tx.bucket(b"a")) > 10


@pytest.mark.parametrize("writable", [False, True])
def test_a_move_that_cannot_read_leaves_the_cursor_where_it_was(writable):
    keys = [b"%04d" % number for number in range(1500)]
    machine = READY.power_off()
    with shearbolt.open(PATH, storage=machine) as db, db.update() as tx:
        tx.create_bucket(b"c").update((key, b"v" * 30) for key in keys)
    rng = random.Random(3)
    failed = Counter()

    def failing(count):
        """The read that comes after so many others fails, or is interrupted."""
        left = iter(range(count))

        def plan(operation, _):
            if operation != "pread" or next(left, None) is not None:
                return None
            if rng.random() < 0.5:
                raise KeyboardInterrupt
            return errno.EIO

        return plan

    # Nothing is kept of what was read: every leaf is read again.
    with shearbolt.open(PATH, storage=machine, cache_size=0) as db:
        tx = db.begin(writable)
        bucket = tx.bucket(b"c")
        cursor = bucket.cursor()
        at = None
        for _ in range(3000):
            move = rng.choice(["next", "prev", "next", "prev", "seek", "first", "last"])
            given = rng.choice(keys)
            place = {
                "next": len(keys) if at is None else bisect_right(keys, at),
                "prev": -1 if at is None else bisect_left(keys, at) - 1,
                "seek": bisect_left(keys, given),
                "first": 0,
                "last": len(keys) - 1,
            }[move]
            expected = keys[place] if 0 <= place < len(keys) else None
            arguments = (given,) if move == "seek" else ()
            machine.plan = failing(rng.randrange(4))
            for _ in range(2):
                try:
                    pair = getattr(cursor, move)(*arguments)
                    break
                except (StorageError, KeyboardInterrupt):
                    failed[move] += 1
                    machine.plan = lambda *_: None
            machine.plan = lambda *_: None
            assert (pair and pair[0]) == expected
            at = expected or (given if move == "seek" else at)
            if writable and rng.random() < 0.1:
                bucket.delete(given)
                keys = [key for key in keys if key != given]
        assert min(failed.values()) > 10
        assert len(failed) == 5
        tx.rollback()


def test_a_change_that_stops_halfway_is_not_committed():
    _, db = opened()
    known = content(db)
    with db.update() as tx:
        tx.create_bucket(b"c").create_bucket(b"d")[b"k"] = b"v" * 5000
    tx = db.begin(writable=True)
    # Somebody else refers to a page of the bucket: it is free already.
    db.freelist.free(tx.bucket(b"c").bucket(b"d").root, 0)
    with pytest.raises(shearbolt.CorruptPageError, match="already freed"):
        tx.delete_bucket(b"c")
    with pytest.raises(shearbolt.CorruptPageError, match="already freed"):
        tx.commit()
    with db.update() as tx:
        tx.delete_bucket(b"c")
    assert content(db) == known


def test_nobody_else_runs_during_these_tests():
    # The machine counts operations: another thread would make that meaningless.
    assert threading.active_count() < 3


class Stuck:
    """A file that takes no bytes, and says that it has some where it has none."""

    def __init__(self):
        self.calls = 0

    def call(self, answer):
        self.calls += 1
        assert self.calls < 100, "it goes on for ever"
        return answer

    def pwritev(self, buffers, offset, /):
        return self.call(0)

    def stored(self, offset, /):
        return self.call((offset + 10, offset + 10))


def test_a_system_that_gets_nowhere_is_not_asked_for_ever():
    file = RobustFile(Stuck(), "x.db")
    with pytest.raises(StorageError, match="the system wrote nothing"):
        file.write(0, [b"data"])
    assert list(file.stored(0, 1000)) == []
