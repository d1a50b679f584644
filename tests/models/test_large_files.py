"""Programs on a large given file: what is compared is small, and nothing gets by.

The file is surveyed and the engine's own view is compared around what the program has
named. Planted here: content that differs in the file, a page that is lost, a view that
differs from the file.
"""

import random
from contextlib import nullcontext

import pytest

import shearbolt
from boltmodel import interpret, observation
from boltmodel.interpret import DATABASE, LiveFailure, Session
from boltmodel.model import EMPTY, Bucket
from boltmodel.nearby import Places
from boltmodel.overlay import Overlay, copied
from boltmodel.programs import (
    Commit,
    CreateBucket,
    Delete,
    DeleteBucket,
    Fill,
    Get,
    MoveBucket,
    NextSequence,
    Program,
    Put,
    ReaderCheck,
    ReaderOpen,
    Reopen,
    Thin,
    Value,
)
from boltmodel.recovery import look
from boltmodel.subject import ShearboltSubject
from boltmodel.survey import survey
from shearbolt.pages.freelist import ArrayFreelist
from shearbolt.storage import OSStorage
from shearbolt.tree.cursor import Cursor
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.run import Experiment
from tornpage.run.experiment import beginnings_of

PAGE = 1024
BYTES = CrashModel(tear="byte")
KEYS = 900


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of more pages than are looked at in full."""
    path = tmp_path_factory.mktemp("large") / "large.db"
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db, db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(KEYS):
            bucket[b"%06d" % i] = b"v%03d" % (i % 1000) * 30
        bucket.create_bucket(b"in")[b"k"] = b"v"
    return path


@pytest.fixture(scope="module")
def subject(path):
    return ShearboltSubject().with_database(str(path))


def program(*operations):
    return Program((*operations, Commit()), page_size=PAGE)


TOUCHES = program(
    Put((b"b",), b"000100", Value(1, 40)),
    Commit(),
    ReaderOpen(0),
    Delete((b"b",), b"000500"),
    NextSequence((b"b", b"in")),
    Commit(),
    ReaderCheck(0),
    Fill((b"b",), 10, 5, 2, Value(2, 20)),
    Thin((b"b",), b"000700", 3, 4),
    Commit(),
    CreateBucket((b"new",)),
    MoveBucket((b"b", b"in"), (b"new",)),
    Commit(),
    Reopen(),
    DeleteBucket((b"new", b"in")),
    Get((b"b",), b"000100"),
)


def test_a_program_on_a_large_file_compares_what_it_changed(subject, monkeypatch):
    observed = []
    right = observation.observe
    monkeypatch.setattr(
        interpret, "observe", lambda tx: observed.append(tx) or right(tx)
    )
    beginnings = beginnings_of(subject, BYTES)
    for _ in range(2):
        made = Experiment(subject, TOUCHES, BYTES, cap=100, beginnings=beginnings)
        assert not made.live
    assert not observed


def test_without_a_file_everything_is_compared(monkeypatch):
    observed = []
    right = observation.observe
    monkeypatch.setattr(
        interpret, "observe", lambda tx: observed.append(tx) or right(tx)
    )
    history = interpret.run(TOUCHES, Disk())
    assert observed
    assert not history.live


@pytest.mark.thorough
def test_crash_points_are_the_same_when_programs_share_what_was_asked(subject):
    beginnings = beginnings_of(subject, BYTES)
    branched = 0
    for operations in (TOUCHES.operations[:2], TOUCHES.operations[:7]):
        shared = Experiment(
            subject, program(*operations), BYTES, cap=400, beginnings=beginnings
        )
        files = subject.prepare(shared.program)
        alone = Explorer(
            files, shared.disk.trace, subject.recover, BYTES, cap=400, reuse=False
        )
        closures = []
        assert not list(shared.sweep(closures.append))
        for one, other in zip(closures, alone.sweep(), strict=True):
            assert one.closed
            assert other.closed
            assert {r.outcome for r in one.outcomes} == {
                r.outcome for r in other.outcomes
            }
            branched += len(one.outcomes) > 1
    assert branched


def failure(subject, ops=TOUCHES):
    """The promise that a run of a program breaks, in words."""
    live = subject.run(ops, Disk(subject.prepare(ops))).live
    return f"{live[0].property}: {live[0].message}" if live else ""


def test_content_that_differs_in_the_file_is_found_and_named(subject, monkeypatch):
    right = shearbolt.Bucket.put

    def put(self, key, value):
        right(self, key, value)
        if bytes(key) == b"000100":
            right(self, b"000850", b"not asked for")

    monkeypatch.setattr(shearbolt.Bucket, "put", put)
    assert "b/000850" in failure(subject)


def test_a_page_that_is_lost_is_found_and_named(subject, monkeypatch):
    right = ArrayFreelist.free

    def free(self, pgid, overflow=0):
        if not free.lost:
            free.lost.append(pgid)
            return
        right(self, pgid, overflow)

    free.lost = []
    monkeypatch.setattr(ArrayFreelist, "free", free)
    assert "unreachable unfreed" in failure(subject)


def test_a_cursor_that_shows_something_else_than_the_file_is_found(
    subject, monkeypatch
):
    right = Cursor.next

    def step(self):
        pair = right(self)
        if pair and pair[0] == b"000105":
            return pair[0], b"another value"
        return pair

    monkeypatch.setattr(Cursor, "next", step)
    assert "b/000105" in failure(subject)


def test_a_reader_that_sees_a_later_version_is_found(subject, monkeypatch):
    right = interpret._Reader

    def reader(tx, content):
        other = content.thaw()
        bucket = other.entries[b"b"].thaw()
        bucket.store(b"000100", b"as it was not")
        other.entries[b"b"] = bucket
        return right(tx, other.freeze())

    monkeypatch.setattr(interpret, "_Reader", reader)
    assert failure(subject).startswith("R readers")


def test_a_live_page_that_is_written_over_is_found(subject):
    # What was asked of it before does not hold any more, in this life.
    beginnings = beginnings_of(subject, BYTES)
    made = Experiment(subject, TOUCHES, BYTES, cap=100, beginnings=beginnings)
    assert not made.live
    files = subject.prepare(TOUCHES)
    disk = Disk(files, BYTES)
    beginnings.memory.parts.begin(files)
    disk.remember(beginnings.memory.parts)
    session = Session(TOUCHES, disk, base=subject._base)
    session.open()
    session.check()
    at = files[DATABASE].index(b"v333")
    file = disk.open(DATABASE)
    file.pwritev([b"w"], at)
    with pytest.raises(LiveFailure, match="b/000333"):
        session.check()
    file.pwritev([b"v"], at)
    session.check()
    session.close()


@pytest.fixture
def tx(path):
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        yield tx


def changed(content, change):
    made = content.thaw()
    bucket = made.entries[b"b"].thaw()
    change(bucket)
    made.entries[b"b"] = bucket
    return made.freeze()


@pytest.mark.parametrize(
    ("named", "change"),
    [
        (Put((b"b",), b"000300", Value(1, 1)), lambda b: b.store(b"000300", b"x")),
        (Put((b"b",), b"000300", Value(1, 1)), lambda b: b.drop(b"000302")),
        (Delete((b"b",), b"000300"), lambda b: b.drop(b"000300")),
        (Put((b"b",), b"0003", Value(1, 1)), lambda b: b.store(b"0003", b"x")),
        (Thin((b"b",), b"000300", 2, 2), lambda b: b.store(b"000301", b"x")),
        (Fill((b"b",), 3, 4, 2, Value(1, 1)), lambda b: b.store(b"00009", b"x")),
        (NextSequence((b"b",)), lambda b: setattr(b, "sequence", 9)),
        (CreateBucket((b"b", b"in")), lambda b: b.drop(b"in")),
        (DeleteBucket((b"b", b"in")), lambda b: b.store(b"in", b"x")),
        (MoveBucket((b"in",), (b"b",)), lambda b: b.drop(b"in")),
        (NextSequence((b"b", b"in")), lambda b: b.drop(b"in")),
        (NextSequence((b"b", b"out")), lambda b: b.store(b"out", Bucket())),
    ],
)
def test_what_a_program_has_named_is_compared(named, change, tx):
    content = observation.observe(tx)
    places = Places()
    places.name(named)
    assert places.agree(tx, content)
    assert not places.agree(tx, changed(content, change))


def test_a_damaged_page_is_no_agreement(path):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    disk = Disk({DATABASE: bytes(data)})
    with shearbolt.open(DATABASE, storage=disk, read_only=True) as db:
        content = look(db).content
    places = Places()
    places.name(Get((b"b",), b"000300"))
    places.name(Delete((b"b",), b"000300"))
    at = data.index(b"000300")
    data[at - at % PAGE + 8] ^= 0xFF
    disk = Disk({DATABASE: bytes(data)})
    with shearbolt.open(DATABASE, storage=disk, read_only=True) as db, db.view() as tx:
        assert not places.agree(tx, content)


def test_of_a_storage_that_answers_no_questions_nothing_is_said(path):
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        meta = tx.meta
    assert survey(OSStorage(), str(path), meta) is None
    with open(path, "rb") as file:
        disk = Disk({DATABASE: file.read()})
    assert survey(disk, DATABASE, meta) is not None


# -- entries of which copies are cheap --


def test_an_overlay_is_the_dict_that_it_stands_for():
    draw = random.Random(3)
    base = {b"%d" % i: b"v%d" % i for i in range(40)}
    before = dict(base)
    overlay, plain = Overlay(base), dict(base)
    kinds = set()
    for _ in range(4000):
        key = b"%d" % draw.randrange(60)
        match draw.randrange(5):
            case 0 | 1:
                overlay[key] = plain[key] = draw.randbytes(2)
            case 2:
                assert overlay.pop(key, None) == plain.pop(key, None)
            case 3:
                with nullcontext() if key in plain else pytest.raises(KeyError):
                    del overlay[key]
                plain.pop(key, None)
            case _:
                made = overlay.copy()
                kinds.add(type(made))
                overlay = made if isinstance(made, Overlay) else Overlay(base)
                plain = dict(overlay)
        assert overlay == plain
        assert len(overlay) == len(plain)
        assert (key in overlay) == (key in plain)
        assert overlay.get(key) == plain.get(key)
    assert base == before
    assert kinds == {dict, Overlay}


def test_a_changed_copy_of_many_entries_shares_them():
    entries = {b"%06d" % i: b"v" for i in range(5000)}
    first = Bucket(entries).freeze()
    second = first.thaw()
    second.store(b"000001", b"w")
    second.freeze()
    third = second.thaw()
    third.drop(b"000002")
    assert isinstance(second.entries, Overlay)
    assert isinstance(third.entries, Overlay)
    assert third.entries._base is entries
    assert first.entries is entries
    assert first.get(b"000001") == b"v"
    assert second.get(b"000001") == b"w"
    assert second.get(b"000002") == b"v"
    assert third.get(b"000002") is None
    assert len(third.entries) == 4999
    assert third.total == Bucket(dict(third.entries)).total
    assert first.plain_keys() == sorted(entries)
    assert isinstance(copied({b"a": b"b"}), dict)


def test_what_may_still_change_is_copied_whole():
    one = Bucket({b"%06d" % i: b"v" for i in range(5000)})
    two = one.thaw()
    one.store(b"000001", b"w")
    assert two.get(b"000001") == b"v"
    assert EMPTY.thaw().entries == {}
