"""What a batch returned from survives every crash, whoever it was that led it.

Threads share commits on a simulated disk, and each marks what it was acknowledged. How
they take turns differs from run to run, which is fine: a run leaves a trace, and it is
the trace that is crashed, at every point and in every way.
"""

import threading
import time

import pytest

import shearbolt
from shearbolt.database.batch import Batcher
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel

BUCKET = b"b"
BYTES = CrashModel.parse("tear=byte")


class GuiltyError(Exception):
    """A function of a batch that fails, after it has put something."""


class WithRealThreads:
    """The disk, on which waiting is for other threads and not for a simulated clock."""

    monotonic = staticmethod(time.monotonic)
    mutex = staticmethod(threading.Lock)

    def __init__(self, disk):
        self._disk = disk

    def __getattr__(self, name):
        return getattr(self._disk, name)


def run(disk, threads, calls):
    """Every thread makes its calls, the last one of each a guilty one."""
    storage = WithRealThreads(disk)
    with shearbolt.open("db", storage=storage, page_size=1024) as db:
        with db.update() as tx:
            tx.create_bucket(BUCKET)
        disk.mark("ready")
        db.max_batch_size, db.max_batch_delay = threads, 10.0
        gate = threading.Barrier(threads)
        failed = []

        def put(key, *, guilty):
            def change(tx):
                tx.bucket(BUCKET)[key] = b"v" * 200
                if guilty:
                    raise GuiltyError
                return key

            return change

        def work(number):
            for call in range(calls):
                guilty = number == call % threads
                key = b"%s %d %d" % (b"bad" if guilty else b"good", number, call)
                gate.wait(30)
                try:
                    assert db.batch(put(key, guilty=guilty)) == key
                    disk.mark("acked", key=key.decode())
                except GuiltyError:
                    disk.mark("refused", key=key.decode())
                except BaseException as error:  # noqa: BLE001 - given to the test.
                    failed.append(error)
                    gate.abort()
                    return

        workers = [threading.Thread(target=work, args=[n]) for n in range(threads)]
        for one in workers:
            one.start()
        for one in workers:
            one.join(60)
            assert not one.is_alive()
        assert not failed
        with db.view() as tx:
            # One commit for all of a batch but the guilty, one more call each round.
            assert tx.id <= 2 + calls


def recover(disk):
    if not disk.exists("db"):
        return None
    with shearbolt.open("db", storage=disk, page_size=1024) as db, db.view() as tx:
        assert tx.check() == []
        try:
            return frozenset(map(bytes.decode, tx.bucket(BUCKET)))
        except shearbolt.BucketNotFoundError:
            return None


def broken(disk):
    """The crash points, with what is wrong there."""
    explorer = Explorer({}, disk.trace, recover, BYTES)
    marks = {one.label for one in disk.trace if one.op == "mark"}
    assert {"ready", "acked", "refused"} <= marks
    points = 0
    for closure in explorer.sweep():
        assert closure.closed
        points += 1
        before = explorer.marks(closure.point)
        acked = {mark["key"] for mark in before if mark.label == "acked"}
        ready = any(mark.label == "ready" for mark in before)
        for reached in closure.outcomes:
            found = reached.outcome
            if found is None:
                if ready:
                    yield closure.point, "the bucket is gone"
                continue
            if lost := acked - found:
                yield closure.point, f"acknowledged and lost: {sorted(lost)}"
            if bad := [key for key in found if key.startswith("bad")]:
                yield closure.point, f"refused and there: {bad}"
    assert points > 20


@pytest.mark.seeds(1)
@pytest.mark.parametrize("threads", [2, 5])
def test_what_a_batch_returned_from_survives_every_crash(threads, seed):
    del seed  # Another run is another way to take turns.
    disk = Disk({}, BYTES)
    run(disk, threads, 5)
    assert list(broken(disk)) == []


def lets_go_before_the_commit(patch):
    right = Batcher._try

    def try_early(db, calls):
        class Early:
            """Lets the others go as soon as their functions have run."""

            def __call__(self, tx):
                del tx
                db._batcher._dismiss(calls)
                time.sleep(0.05)

        guilty = right(db, [*calls, _call(Early())])
        return guilty if guilty in calls else None

    patch.setattr(Batcher, "_try", staticmethod(try_early))


def _call(function):
    return shearbolt.database.batch._Call(function, threading.Lock())


def keeps_what_the_guilty_did(patch):
    @staticmethod
    def try_all(db, calls):
        with db.update() as tx:
            for call in calls:
                try:
                    call.result = call.function(tx)
                except GuiltyError as error:
                    call.error = error

    patch.setattr(Batcher, "_try", try_all)


@pytest.mark.parametrize(
    "plant", [lets_go_before_the_commit, keeps_what_the_guilty_did]
)
def test_a_batcher_is_noticed_that(plant, monkeypatch):
    plant(monkeypatch)
    disk = Disk({}, BYTES)
    run(disk, 3, 3)
    assert list(broken(disk)) != []
