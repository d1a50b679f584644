"""The interpreter: engine and model side by side, and what it notices."""

import pytest

import shearbolt
from boltmodel.generate import generate
from boltmodel.interpret import DATABASE, READ_AHEAD, LiveFailure, Session, run
from boltmodel.model import EMPTY, Bucket, ModelTx
from boltmodel.mutants import mutant
from boltmodel.observation import observe
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
    ReaderClose,
    ReaderOpen,
    Reopen,
    Rollback,
    Scan,
    Thin,
    Value,
)
from boltmodel.subject import ShearboltSubject
from tornpage.disk import Disk
from tornpage.trace import Mark

A = (b"a",)


def live(*operations, **options):
    program = Program(tuple(operations), **options)
    return [v.property[0] for v in run(program, Disk()).live]


def put(key, seed=1, length=5, path=A):
    return Put(path, key, Value(seed, length))


@pytest.mark.parametrize("block", range(8))
def test_engine_and_model_agree_on_generated_programs(block):
    for seed in range(block * 25, block * 25 + 25):
        history = run(generate(seed), Disk(), check_commits=seed % 5 == 0)
        assert history.live == (), f"seed {seed}"


def test_every_promise_is_marked_in_order():
    disk = Disk()
    program = Program((put(b"k"), Commit(), put(b"l"), Rollback(), Commit(), Reopen()))
    run(program, disk, mark=disk.mark)
    marks = [
        (one.label, *dict(one.data).values())
        for one in disk.trace
        if isinstance(one, Mark)
    ]
    assert marks == [
        ("opening",),
        ("opened", 1),
        ("begin", 2),
        ("acked", 2),
        ("begin", 3),
        ("acked", 3),
        ("closed", 3),
        ("opening",),
        ("opened", 3),
        ("closed", 3),
    ]


def test_begin_is_marked_before_the_first_write_of_its_commit():
    disk = Disk()
    run(Program((put(b"k"), Commit())), disk, mark=disk.mark)
    kinds = [getattr(one, "label", one.op) for one in disk.trace]
    inside = kinds[kinds.index("begin") : kinds.index("acked")]
    assert inside.count("write") >= 2
    assert "write" not in kinds[kinds.index("opened") : kinds.index("begin")]


def test_history_has_the_content_of_every_transaction():
    disk = Disk()
    history = run(Program((put(b"k", 1), Commit(), put(b"k", 2), Commit())), disk)
    assert [*history.states] == [1, 2, 3]
    assert history.states[1] == EMPTY
    assert history.states[2].find(A).get(b"k") == b"00000"
    with shearbolt.open(DATABASE, storage=disk) as db, db.view() as tx:
        assert observe(tx) == history.states[3]


def test_refused_operations_agree_and_do_no_harm():
    assert not live(
        CreateBucket((b"no", b"b")),
        Delete(A, b"k"),
        put(b"k"),
        put(b"x", path=(b"a", b"k")),
        CreateBucket(A),
        DeleteBucket((b"a", b"k")),
        DeleteBucket((b"b",)),
        MoveBucket(A, A),
        put(b""),
        put(b"L" * 32769),
        put(b"K" * 32768),
        NextSequence((b"b",)),
        Get((b"b",), b"k"),
        Scan((b"b",), None, None, reverse=False),
        Commit(),
    )


def test_a_reader_survives_commits_until_it_is_closed():
    assert not live(
        Fill(A, 0, 80, 1, Value(1, 60)),
        Commit(),
        ReaderOpen(0),
        Thin(A, b"", 1, 80),
        Commit(),
        ReaderOpen(1),
        Fill(A, 0, 80, 1, Value(2, 60)),
        Commit(),
        Fill(A, 0, 80, 1, Value(3, 60)),
        Commit(),
        ReaderCheck(0),
        ReaderClose(1),
        ReaderClose(0),
        ReaderClose(0),
    )


def test_reopening_rolls_back_and_closes_readers():
    assert not live(put(b"k"), ReaderOpen(0), Reopen(), Get(A, b"k"), ReaderCheck(0))


PLANTED = {
    "sequence-lost": ("M", (CreateBucket(A), Commit(), NextSequence(A), Commit())),
    "move-forgets": (
        "M",
        (
            put(b"k", path=(b"a", b"b")),
            Commit(),
            put(b"l", path=(b"a", b"b")),
            MoveBucket((b"a", b"b"), ()),
            Commit(),
        ),
    ),
    "delete-skips": ("M", (Fill(A, 0, 9, 1, Value(1, 5)), Thin(A, b"", 1, 9))),
    "readers-ignored": (
        "R",
        (
            Fill(A, 0, 90, 1, Value(1, 60)),
            Commit(),
            ReaderOpen(0),
            Fill(A, 0, 90, 1, Value(2, 60)),
            Commit(),
            Fill(A, 0, 90, 1, Value(3, 60)),
            Commit(),
            ReaderClose(0),
        ),
    ),
    "overflow-leaked": ("S", (put(b"k", 1, 20_000), Commit(), put(b"k"), Commit())),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_broken_promise_is_noticed_during_the_run(name):
    promise, operations = PLANTED[name]
    with mutant(name):
        assert live(*operations) == [promise]
    assert not live(*operations)


def test_errors_that_are_not_typed_are_noticed(monkeypatch):
    def get(self, key, default=None):
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(shearbolt.Bucket, "get", get)
    assert live(put(b"k"), Get(A, b"k")) == ["E"]


@pytest.mark.parametrize("when", ["at each commit", "at the end"])
def test_the_engines_checker_is_asked_at_each_commit_where_that_is_wanted(
    monkeypatch, when
):
    monkeypatch.setattr(shearbolt.Tx, "check", lambda _: iter(["page 7: odd"]))
    program = Program((put(b"k"), Commit(), put(b"l"), Commit()))
    history = run(program, Disk(), check_commits=when == "at each commit")
    assert [one.property for one in history.live] == ["S space"]
    assert len(history.states) == (2 if when == "at each commit" else 3)


def test_what_only_reads_begins_no_write_transaction(monkeypatch):
    begin, begun = shearbolt.DB.begin, []

    def noted(db, *, writable):
        begun.append(writable)
        return begin(db, writable=writable)

    session = Session(Program(()), Disk())
    session.open()
    monkeypatch.setattr(shearbolt.DB, "begin", noted)
    scan = Scan(A, None, None, reverse=False)
    for op in (scan, Get(A, b"k"), ReaderOpen(0), put(b"k"), scan, Commit()):
        session.step(op)
    # The second scan is one of the transaction that has been begun.
    assert begun == [False, False, False, True]
    # What is read is let go: pages that nobody reads are used again.
    assert len(session._db._readers) == 1
    session.close()


@pytest.mark.parametrize("op", [ReaderCheck(0), ReaderClose(0), ReaderOpen(0)])
def test_a_reader_is_looked_at_when_an_operation_says_so(monkeypatch, op):
    """Not only when it is closed at the end: by then its pages may be right again."""
    session = Session(Program(()), Disk())
    session.open()
    session.step(ReaderOpen(0))
    monkeypatch.setattr("boltmodel.interpret.observe", lambda _: ModelTx(EMPTY).root)
    session.step(op)
    odd = Bucket({b"odd": b"1"}).freeze()
    session.step(ReaderOpen(0))
    monkeypatch.setattr("boltmodel.interpret.observe", lambda _: odd)
    with pytest.raises(LiveFailure, match="reader 0, opened at") as failure:
        session.step(op)
    assert failure.value.violation.property == "R readers"
    session.abandon()


def test_wrong_answers_are_noticed_with_both_answers(monkeypatch):
    monkeypatch.setattr(shearbolt.Bucket, "get", lambda *_: b"odd")
    (found,) = run(Program((put(b"k"), Get(A, b"k"))), Disk()).live
    assert found.property == "M model"
    assert found.facts == (("Get", "b'00000'", "b'odd'"),)


@pytest.mark.parametrize("faults", ["", "pwrite#99=EIO"])
def test_a_program_that_reads_ahead_has_its_disk_read_ahead(faults):
    """Or what a look at many pages at once does to an engine is tried by no program."""
    subject = ShearboltSubject()
    for ahead in (False, True):
        disk = Disk()
        subject.run(Program((), reads_ahead=ahead, faults=faults), disk)
        assert disk.read_ahead == (READ_AHEAD if ahead else 0)


def test_a_failed_run_leaves_nothing_open():
    disk = Disk()
    with mutant("delete-skips"):
        run(Program((Fill(A, 0, 9, 1, Value(1, 5)), Thin(A, b"", 1, 9))), disk)
    # The lock is free again, or this would wait.
    with shearbolt.open(DATABASE, storage=disk, timeout=0):
        pass


def test_a_given_content_must_be_what_is_found():
    disk = Disk()
    run(Program((put(b"k"), Commit())), disk)
    session = Session(Program(()), disk, base=EMPTY)
    with pytest.raises(LiveFailure, match="after opening shows other content"):
        session.open()
    session.abandon()
