"""Forked children: they may let go of what is their parent's, and no more."""

import ctypes
import errno
import gc
import io
import os
from contextlib import contextmanager

import pytest

import shearbolt
from shearbolt import ForkedError
from shearbolt.storage import _posix


def put(db, key, value=b"v"):
    with db.update() as tx:
        tx.create_bucket_if_not_exists(b"b")[key] = value


def keys(db):
    with db.view() as tx:
        return list(tx.bucket(b"b"))


def in_child(call):
    """What `call` returns (bytes) in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, call())
        finally:
            os._exit(0)
    os.close(write)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return status, pipe.read()


def test_a_child_may_not_use_its_parents_handle(db, path):
    put(db, b"a")
    writer, reader = db.begin(writable=True), db.begin()
    writer.bucket(b"b")[b"from"] = b"the child"

    def call():
        seen = []
        for attempt in (
            db.begin,
            lambda: db.begin(writable=True),
            writer.commit,
            db.sync,
            lambda: db.batch(lambda _: None),
        ):
            try:
                attempt()
            except ForkedError:
                seen.append(b"F")
        # Ending and closing do nothing to the parent.
        reader.rollback()
        db.close()
        return b"".join(seen)

    assert in_child(call) == (0, b"FFFFF")
    # The parent still holds its lock, its transaction and its reader.
    with pytest.raises(shearbolt.LockTimeoutError):
        shearbolt.open(path, timeout=0)
    assert list(reader.bucket(b"b")) == [b"a"]
    reader.rollback()
    writer.commit()
    assert keys(db) == [b"a", b"from"]


def test_a_child_made_behind_pythons_back_lets_go_of_the_file_only(path):
    """It is not told, as by `os.fork`: what begins anything finds it out."""
    db = shearbolt.open(path)
    put(db, b"a")
    fd = db.pager.file.raw._fd
    child = ctypes.PyDLL(None).fork()
    if not child:
        status = 1
        try:
            with pytest.raises(ForkedError):
                db.begin()
            db.close()
            with pytest.raises(shearbolt.DatabaseNotOpenError):
                db.begin()
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(shearbolt.LockTimeoutError):
        shearbolt.open(path, timeout=0)
    put(db, b"b")
    db.close()


def of_a_transaction(tx, bucket, cursor, running):
    """Everything that asks a transaction, its buckets or a cursor for content."""
    yield from (
        lambda: tx.bucket(b"b"),
        lambda: tx.root_bucket,
        lambda: list(tx.buckets()),
        tx.cursor,
        tx.inspect,
        tx.check,
        lambda: tx.page(0),
        lambda: tx.write_to(io.BytesIO()),
        lambda: tx.on_commit(print),
        lambda: tx.load(3),
        tx.commit,
        lambda: bucket.get(b"0001"),
        lambda: bucket.get(b"absent"),
        lambda: bucket[b"0001"],
        lambda: b"0001" in bucket,
        lambda: len(bucket),
        lambda: list(bucket),
        lambda: list(bucket.items(b"0", reverse=True)),
        lambda: list(bucket.values(prefix=b"00")),
        lambda: bucket.bucket(b"below"),
        lambda: list(bucket.buckets()),
        lambda: bucket.sequence,
        bucket.stats,
        bucket.inspect,
        bucket.cursor,
        cursor.first,
        cursor.next,
        cursor.prev,
        cursor.last,
        lambda: cursor.seek(b"0002"),
        lambda: list(running),
    )
    if tx.writable:
        yield from (
            lambda: bucket.put(b"k", b"v"),
            lambda: bucket.delete(b"0001"),
            lambda: bucket.delete_many([b"0001"]),
            lambda: bucket.update({b"k": b"v"}),
            bucket.clear,
            bucket.next_sequence,
            lambda: bucket.set_sequence(1),
            lambda: bucket.create_bucket(b"new"),
            lambda: bucket.delete_bucket(b"below"),
            lambda: tx.create_bucket(b"new"),
            lambda: tx.delete_bucket(b"b"),
            cursor.delete,
        )


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("writable", [False, True])
def test_a_child_may_not_use_its_parents_transactions(
    writable, changed, warm, db, path
):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.update((b"%04d" % i, bytes(50)) for i in range(2000))
        bucket.create_bucket(b"below")
    tx = db.begin(writable)
    bucket = tx.bucket(b"b")
    cursor = bucket.cursor()
    cursor.first()
    running = iter(bucket.items())
    next(running)
    if warm:
        # So often that there is an index of all pairs.
        assert all(bucket.get(b"%04d" % (i % 2000)) for i in range(8000))
    if writable and changed:
        bucket[b"0001"] = b"changed"
        bucket.delete(b"0005")

    def call():
        wrong = []
        for number, attempt in enumerate(of_a_transaction(tx, bucket, cursor, running)):
            try:
                attempt()
            except ForkedError:
                continue
            except Exception as error:  # noqa: BLE001 - told to the parent.
                wrong.append((number, repr(error)))
            else:
                wrong.append((number, "worked"))
        tx.rollback()
        return repr(wrong).encode()

    assert in_child(call) == (0, b"[]")
    # The parent goes on with it.
    assert bucket[b"0002"] == bytes(50)
    assert cursor.next() is not None
    if writable:
        tx.commit()
    else:
        tx.rollback()


class LeavingError(Exception):
    pass


def test_a_child_leaves_its_parents_blocks_in_peace(db):
    put(db, b"a")
    read, write = os.pipe()
    child = None
    try:
        with db.update() as tx, db.view(), db.begin():
            tx.bucket(b"b")[b"new"] = b"v"
            child = os.fork()
            if not child:
                raise LeavingError
    except BaseException as error:
        if child == 0:
            os.write(write, type(error).__name__.encode())
            os._exit(0)
        raise
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"LeavingError"
    os.waitpid(child, 0)
    assert keys(db) == [b"a", b"new"]


@contextmanager
def living_child(work=bytes):
    """A forked child that works at the end of the block; gives what it returned."""
    go, goes = os.pipe()
    answer, answers = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.read(go, 1)
            os.write(answers, work())
        finally:
            os._exit(0)
    os.close(answers)
    said = []
    try:
        yield said
    finally:
        os.write(goes, b".")
        with os.fdopen(answer, "rb") as pipe:
            said.append(pipe.read())
        os.waitpid(child, 0)
        os.close(go)
        os.close(goes)


@pytest.mark.parametrize("sync", [1, 2])
def test_a_child_made_during_a_commit_keeps_what_was_acknowledged_since(
    sync, path, monkeypatch
):
    """Its parent's threads do not come along, and what they were doing is not in doubt.

    The child is made in the sync of the pages, or of the meta.
    """

    def work():
        with shearbolt.open(path, timeout=5) as opened:
            return b" ".join(keys(opened))

    db = shearbolt.open(path)
    put(db, b"a")
    syncs, children, real = [], [], _posix._fdatasync

    def fork_here(fd):
        syncs.append(fd)
        if len(syncs) == sync:
            children.append(living_child(work))
            said.append(children[0].__enter__())
        real(fd)

    said = []
    monkeypatch.setattr(_posix, "_fdatasync", fork_here)
    put(db, b"b")
    monkeypatch.undo()
    db.close()
    children[0].__exit__(None, None, None)
    assert said == [[b"a b"]]
    with shearbolt.open(path) as db:
        assert keys(db) == [b"a", b"b"]


def test_a_child_still_doubts_what_had_failed_before_it_was_made(path, monkeypatch):
    def work():
        with shearbolt.open(path, timeout=5) as opened:
            return b" ".join(keys(opened))

    db = shearbolt.open(path)
    put(db, b"a")
    syncs, real = [], _posix._fdatasync

    def refused(*_):
        raise OSError(errno.EIO, "planted")

    def failing(fd):
        syncs.append(fd)
        if len(syncs) > 1:
            # Nor can the version before it be written again.
            monkeypatch.setattr(_posix.OSFile, "pwritev", refused)
            refused()
        real(fd)

    monkeypatch.setattr(_posix, "_fdatasync", failing)
    with pytest.raises(shearbolt.StorageError):
        put(db, b"b")
    monkeypatch.undo()
    with living_child(work) as said:
        db.close()
    assert said == [b"a"]


@pytest.mark.parametrize("options", [{}, {"sync_twice": True}, {"read_only": True}])
def test_a_child_does_not_keep_the_lock_when_its_parent_has_gone(options, path):
    """A parent that was killed is started again beside children that live on."""
    shearbolt.open(path).close()
    db = shearbolt.open(path, **options)
    with living_child():
        # Without closing, which would give the lock back for everybody.
        del db
        gc.collect()
        with shearbolt.open(path, timeout=5):
            pass
