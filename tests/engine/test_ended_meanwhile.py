"""A signal handler rolls back the very transaction that its thread is using.

Nobody should; a handler for a timeout may, and so may another thread that ends what
reads for too long. Whatever the interrupted call then returns or raises, it has no
effect: not on what others read, not on the pages that the next commit takes, and not on
other databases of the process.
"""

import contextlib
import random

import pytest
from places import Interrupts

import shearbolt
from shearbolt.database import tx as transactions
from shearbolt.database.tx import Tx
from shearbolt.errors import TxClosedError, WouldDeadlockError
from shearbolt.pages.freelist import ArrayFreelist
from shearbolt.storage import OSStorage
from shearbolt.tree.node import Node
from tornpage.disk import Disk
from tornpage.threads import Schedules, under_turns

KEYS = [b"%03d" % number for number in range(60)]


class AtOnce(OSStorage):
    """This machine, as if its threads ran at the same time: with another cache."""

    free_threaded = True


def opened(path, storage=None):
    options = {"no_sync": True, "cache_size": 1 << 16, "storage": storage}
    db = shearbolt.open(path, page_size=1024, **options)
    with db.update() as tx:
        tx.create_bucket(b"a").update([(key, key * 20) for key in KEYS])
        nested = tx.create_bucket(b"b").create_bucket(b"nested")
        nested.update([(key, key * 10) for key in KEYS])
    db.close()
    # With an empty cache.
    return shearbolt.open(path, **options)


def got(tx):
    for key in KEYS:
        assert tx.bucket(b"a").get(key) is not None


def walked(tx):
    assert len(list(tx.bucket(b"a").items())) == len(KEYS)
    assert len(list(tx.bucket(b"b").bucket(b"nested").items(reverse=True))) == len(KEYS)


def put(tx):
    bucket = tx.bucket(b"a")
    for key in KEYS[::7]:
        bucket.put(key, b"never" * 30)
    for key in KEYS[3::7]:
        bucket.delete(key)
    list(bucket.items())


def put_together(tx):
    bucket = tx.bucket(b"a")
    bucket.update([(key + b"x", b"never") for key in KEYS])
    bucket.delete_many(KEYS[:40])
    list(bucket.keys())


def made_and_moved(tx):
    bucket = tx.create_bucket(b"new")
    bucket.create_bucket(b"inner").put(b"k", b"never")
    tx.move_bucket(b"new", None, tx.bucket(b"b"))


def deleted(tx):
    tx.delete_bucket(b"b")
    tx.delete_bucket(b"a")


def committed(tx):
    tx.bucket(b"a").put(b"committed", b"v")
    tx.bucket(b"b").delete_bucket(b"nested")
    tx.commit()


READING = (got, walked)
WRITING = (put, put_together, made_and_moved, deleted, committed)


class Handler:
    """Rolls a transaction back and uses its pages, as far as it may."""

    def __init__(self, db, tx):
        self.db = db
        self.tx = tx
        self.ended = self.wrote = False

    def __call__(self):
        # It is refused in the middle of a commit, also of one that is as good as over.
        with contextlib.suppress(WouldDeadlockError, TxClosedError):
            self.tx.rollback()
            self.ended = True
            for number in range(4):
                with self.db.update() as tx:
                    tx.bucket(b"a").update([(key, b"%d" % number * 70) for key in KEYS])
                self.wrote = True


def interrupted(path, way, place, storage=None):
    """Use a transaction in a way, with a handler at this place."""
    db = opened(path, storage)
    tx = db.begin(writable=way in WRITING)
    handler = Handler(db, tx)
    raised = None
    with Interrupts([place], handler) as interrupts:
        try:
            way(tx)
        except Exception as error:  # noqa: BLE001 - whatever it is, it has no effect.
            raised = error
    if not handler.ended and raised is not None:
        raise raised
    if not tx.closed:
        tx.rollback()
    a = {key: b"3" * 70 if handler.wrote else key * 20 for key in KEYS}
    nested = {key: key * 10 for key in KEYS}
    if tx.committed:
        a[b"committed"] = b"v"
        nested = {}
    # What the cache has, then what the next commits make of it, then what the file has.
    for number in range(3):
        with db.view() as tx:
            assert dict(tx.bucket(b"a").items()) == a
            inner = tx.bucket(b"b").bucket(b"nested") if nested else {}
            assert dict(inner.items()) == nested
            assert not tx.check()
        with db.update() as tx:
            tx.bucket(b"a").update([(key, b"%d" % number * 80) for key in KEYS[::2]])
            a.update((key, b"%d" % number * 80) for key in KEYS[::2])
        if number == 1:
            db.close()
            db = shearbolt.open(path, storage=storage)
    db.close()
    return interrupts.count, handler.ended, raised


@pytest.mark.thorough(rows=7)
@pytest.mark.seeds(1)
@pytest.mark.parametrize("storage", [None, AtOnce()], ids=["in turns", "at once"])
@pytest.mark.parametrize("way", READING + WRITING)
def test_what_goes_on_in_a_transaction_that_was_ended_has_no_effect(
    tmp_path, way, storage, seed
):
    count, _, _ = interrupted(tmp_path / "whole.db", way, 1 << 30, storage)
    draw = random.Random(f"{way.__name__} {seed}")
    endings = set()
    for number, place in enumerate(draw.sample(range(count), 12)):
        _, ended, raised = interrupted(tmp_path / f"{number}.db", way, place, storage)
        endings.add((ended, type(raised)))
    assert (True, TxClosedError) in endings


def test_nodes_of_a_transaction_that_was_ended_share_nothing_that_changes(tmp_path):
    """A call that goes on with one of them would give others a child: any database."""
    db = opened(tmp_path / "db")
    tx = db.begin(writable=True)
    put(tx)
    nodes = [*tx.bucket(b"a")._nodes.values()]
    branches = [node for node in nodes if not node.is_leaf]
    tx.rollback()
    assert branches
    for branch in branches:
        branch.nodes.append(branch)
    fresh = Node(branches[0].bucket, None)
    assert not fresh.nodes
    db.close()


@pytest.mark.parametrize("refused", [True, False])
def test_pages_are_freed_by_a_transaction_that_is_open_or_by_none(
    tmp_path, monkeypatch, refused
):
    """While it frees some it is not rolled back, and once it is it frees no more."""
    db = opened(tmp_path / "db")
    tx = db.begin(writable=True)
    place, name = (ArrayFreelist, "free") if refused else (Tx, "free_page")
    right = getattr(place, name)
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            tx.rollback()
        right(*arguments)

    monkeypatch.setattr(place, name, interrupted)
    with pytest.raises(WouldDeadlockError if refused else TxClosedError):
        tx.delete_bucket(b"a")
    monkeypatch.undo()
    assert len(calls) == 3
    if refused:
        tx.rollback()
    assert tx.closed
    with db.update() as tx:
        assert len(tx.bucket(b"a")) == len(KEYS)
        tx.bucket(b"a").put(b"k", b"v")
    with db.view() as tx:
        assert not tx.check()
    db.close()


def test_many_pages_are_freed_by_a_transaction_that_is_open(tmp_path, monkeypatch):
    db = opened(tmp_path / "db")
    tx = db.begin(writable=True)
    monkeypatch.setattr(ArrayFreelist, "free_all", lambda *_: tx.rollback())
    with pytest.raises(WouldDeadlockError):
        tx.free_pages([3, 4])
    monkeypatch.undo()
    tx.rollback()
    with pytest.raises(TxClosedError):
        tx.free_pages([3, 4])
    assert not db.freelist._freed
    db.close()


def test_a_commit_that_is_interrupted_as_it_begins_can_be_rolled_back(
    tmp_path, monkeypatch
):
    db = opened(tmp_path / "db")
    tx = db.begin(writable=True)
    begin = Tx._begin_work

    def interrupted(self):
        begin(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tx, "_begin_work", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tx.commit()
    monkeypatch.undo()
    tx.rollback()
    db.close()


def with_a_writer(turns):
    """A database that has zeros, and a transaction that has put ones in their place."""
    db = shearbolt.open("/db", storage=under_turns(Disk(), turns), page_size=1024)
    with db.update() as tx:
        tx.create_bucket(b"a").update(dict.fromkeys(KEYS, b"0" * 40))
    shared = db.begin(writable=True)
    shared.bucket(b"a").update(dict.fromkeys(KEYS, b"1" * 40))
    return db, shared


def test_a_transaction_is_committed_or_rolled_back_by_two_threads_that_try_both():
    """Also where each stops in the middle of it once: a fifth of these schedules."""
    seen = set()

    def once(turns):
        db, shared = with_a_writer(turns)

        def commit():
            with contextlib.suppress(TxClosedError):
                shared.commit()

        def end():
            with contextlib.suppress(TxClosedError, WouldDeadlockError):
                shared.rollback()
            with db.update() as tx:
                tx.create_bucket(b"b")

        yield [commit, end]
        with db.update() as tx:
            tx.create_bucket(b"c")
        with db.view() as tx:
            assert not tx.check()
            value = tx.bucket(b"a").get(KEYS[0])
            assert value == (b"1" if shared.committed else b"0") * 40
            tx.bucket(b"b")
        seen.add(shared.committed)
        db.close()

    code = (transactions.__file__,)
    for one in Schedules(once, code, switches=2, share=0.2, seed=5):
        one.require_success()
    assert seen == {True, False}


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("in_a_block", [False, True])
def test_of_two_threads_that_roll_a_transaction_back_one_does(in_a_block):
    """The other one would forget pages of the next writer. Blocks just end."""
    seen = set()

    def once(turns):
        db, shared = with_a_writer(turns)
        done = []

        def end(name):
            if in_a_block:
                with shared:
                    pass
            else:
                with contextlib.suppress(TxClosedError):
                    shared.rollback()
                    done.append(name)
            with db.update() as tx:
                tx.create_bucket(name)

        yield [lambda: end(b"b"), lambda: end(b"c")]
        with db.view() as tx:
            assert not tx.check()
            assert tx.bucket(b"a").get(KEYS[0]) == b"0" * 40
            tx.bucket(b"b")
            tx.bucket(b"c")
        assert in_a_block or len(done) == 1
        seen.update(done)
        db.close()

    code = (transactions.__file__,)
    for one in Schedules(once, code, switches=1):
        one.require_success()
    assert in_a_block or seen == {b"b", b"c"}


def test_a_copy_ends_with_its_transaction(db):
    """What is read behind that may have been written over."""
    with db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v" * 5000
    tx = db.begin()

    class Ends:
        written = 0

        def write(self, data):
            self.written += len(data)
            if self.written == tx.high_water_mark * db.page_size:
                tx.rollback()
            return len(data)

    with pytest.raises(shearbolt.TxClosedError):
        tx.write_to(Ends())
    assert tx.closed
