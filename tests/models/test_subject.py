"""The subject: what tornpage sees of the engine."""

import os
from dataclasses import replace

import hypothesis
import pytest

import shearbolt
from boltmodel import recovery
from boltmodel.contract import UNTYPED, Outcome
from boltmodel.interpret import DATABASE
from boltmodel.model import EMPTY
from boltmodel.mutants import mutant
from boltmodel.observation import OrderError
from boltmodel.programs import Commit, Fill, Program, Put, Value
from boltmodel.recovery import FORWARD_BUCKET, recover
from boltmodel.subject import ShearboltSubject
from shearbolt.storage.robust import RobustFile
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.run import Experiment
from tornpage.trace import Write
from tornpage.uncovered import UncoveredError

MODEL = CrashModel(tear="byte")
SHORT = Program((Put((b"a",), b"k", Value(1, 5)), Commit()))
ETCD = os.path.join(os.path.dirname(__file__), "..", "data", "etcd.db")


def experiment(program, subject=None, model=MODEL):
    return Experiment(subject or ShearboltSubject(), program, model, cap=5000)


def sweep(made):
    closures = []
    findings = list(made.sweep(closures.append))
    return closures, findings


def test_a_short_program_is_consistent_and_closed_everywhere():
    closures, findings = sweep(experiment(SHORT))
    assert findings == []
    assert all(closure.closed for closure in closures)
    txids = {r.outcome.txid for c in closures for r in c.outcomes}
    assert txids == {1, 2}


def test_both_outcomes_are_seen_while_a_commit_is_in_flight():
    closures, _ = sweep(experiment(SHORT))
    assert any({r.outcome.txid for r in c.outcomes} == {1, 2} for c in closures)


@pytest.mark.parametrize("seed", [3, 8, 21])
def test_generated_programs_are_consistent(seed):
    subject = ShearboltSubject()
    closures, findings = sweep(experiment(subject.generate(seed), subject))
    assert findings == []
    assert all(closure.closed for closure in closures)


def test_programs_survive_json():
    subject = ShearboltSubject()
    program = subject.generate(5)
    assert subject.decode(subject.encode(program)) == program
    assert len(subject.describe(program)) == len(program.operations)


def test_a_real_database_is_the_state_before_the_program():
    subject = ShearboltSubject().with_database(ETCD)
    program = Program((Put((b"key",), b"new", Value(1, 5)), Commit()))
    closures, findings = sweep(experiment(program, subject))
    assert findings == []
    assert all(closure.closed for closure in closures)


def test_programs_for_a_real_database_meet_what_is_in_it():
    subject = ShearboltSubject().with_database(ETCD)
    named = {
        op.path[0]
        for seed in range(10)
        for op in subject.generate(seed).operations
        if getattr(op, "path", ())
    }
    assert {b"key", b"meta"} & named
    assert subject.generate(4) == ShearboltSubject().with_database(ETCD).generate(4)


def test_what_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "junk"
    path.write_bytes(b"junk" * 5000)
    with pytest.raises(ValueError, match="junk is no bolt database"):
        ShearboltSubject().with_database(str(path))
    with pytest.raises(FileNotFoundError):
        ShearboltSubject().with_database(str(tmp_path / "none"))


def test_recovery_never_raises_whatever_is_in_the_file():
    disk = Disk({DATABASE: b"\xff" * 9000})
    outcome = recover(disk)
    assert outcome.error.startswith("opening: InvalidDatabaseError")


def test_recovery_reports_damage_behind_the_metas():
    disk = Disk()
    with shearbolt.open(DATABASE, storage=disk) as db, db.update() as tx:
        bucket = tx.create_bucket(b"a")
        for number in range(200):
            bucket[b"%04d" % number] = b"v" * 100
    content = bytearray(_content(disk))
    content[5 * 4096 : 6 * 4096] = bytes(4096)
    outcome = recover(Disk({DATABASE: bytes(content)}))
    assert outcome.error.startswith("reading: CorruptPageError")


def test_recovery_says_when_the_file_is_missing():
    outcome = recover(Disk())
    assert not outcome.existed
    assert (outcome.error, outcome.again, outcome.progress) == ("", "", "")


def test_recovery_notices_a_second_opening_that_differs(monkeypatch):
    """Planted: opening commits a transaction each time."""
    real = shearbolt.open

    def restless(*arguments, **options):
        db = real(*arguments, **options)
        with db.update():
            pass
        return db

    disk = _small_disk()
    monkeypatch.setattr(shearbolt, "open", restless)
    assert recover(disk).again == "transaction 3, then transaction 4"


@pytest.mark.parametrize(
    ("look", "change", "said"),
    [
        (2, {"shown": EMPTY}, "a: promised a bucket of 1, found nothing"),
        (2, {"problems": ("page 4",)}, "checker: (), then ('page 4',)"),
        (3, {"shown": EMPTY}, "the content is then not the promised one"),
        (3, {"problems": ("page 4",)}, "the checker then says: page 4"),
    ],
)
def test_recovery_compares_all_that_another_opening_shows(
    look, change, said, monkeypatch
):
    """Planted: the second opening, or that after a commit, shows something else."""
    opened, sight, looks = shearbolt.open, recovery._sight, []

    def busy(*arguments, storage, **options):
        # Else nothing was written, and nobody looks a second time.
        storage.open("other", create=True).pwritev([b"x"], 0)
        return opened(*arguments, storage=storage, **options)

    def other(*given):
        looks.append(sight(*given))
        return replace(looks[-1], **(change if len(looks) == look else {}))

    monkeypatch.setattr(shearbolt, "open", busy)
    monkeypatch.setattr(recovery, "_sight", other)
    outcome = recover(_small_disk())
    assert said in (outcome.again if look == 2 else outcome.progress)
    assert not (outcome.progress if look == 2 else outcome.again)


def test_recovery_notices_a_commit_that_does_not_stay(monkeypatch):
    """Planted: commits reach the handle's own pages but not the file."""
    disk = _small_disk()
    monkeypatch.setattr(RobustFile, "write", lambda *given: sum(map(len, given[2])))
    assert "promised a bucket of 1, found nothing" in recover(disk).progress


def test_what_tornpage_raises_is_no_outcome_of_recovery(monkeypatch):
    """What cannot be followed would be taken for a database that does not open."""

    def raises(error):
        def opened(*_, **__):
            raise error

        monkeypatch.setattr(shearbolt, "open", opened)
        return recover(Disk())

    with pytest.raises(UncoveredError):
        raises(UncoveredError("it cannot be followed"))
    with pytest.raises(hypothesis.errors.StopTest):
        raises(hypothesis.errors.StopTest(1))
    assert UNTYPED in raises(KeyError(3)).error
    for error in (shearbolt.BoltError("no"), OrderError("no")):
        assert raises(error).error == f"opening: {type(error).__name__}: no"


def test_recovery_leaves_progress_out_when_told_so():
    disk = _small_disk()
    before = len(disk.trace)
    outcome = recover(disk, forward=False)
    assert len(disk.trace) == before
    assert outcome.content is not None
    assert FORWARD_BUCKET not in outcome.content.entries
    assert recover(disk).txid == outcome.txid


def test_an_outcome_is_told_in_lines():
    subject = ShearboltSubject()
    lines = subject.describe_outcome(recover(_small_disk()))
    assert lines[0] == "transaction 2"
    assert "  a: 1 keys, sequence 0" in lines
    broken = subject.describe_outcome(Outcome(False, error="opening: X: y"))
    assert broken == [
        "the file was not in the directory",
        "opening failed: opening: X: y",
    ]


def test_places_in_the_file_have_names():
    subject = ShearboltSubject()
    disk = Disk(model=MODEL)
    subject.run(Program((Fill((b"a",), 0, 60, 1, Value(1, 100)), Commit())), disk)
    names = [
        subject.locate(one.path, one.offset, one.data)
        for one in disk.trace
        if isinstance(one, Write)
    ]
    assert names[0] == "freelist page 2 + 1 pages"
    assert "meta 1, txid 1, root 3" in names
    assert any(name.startswith("leaf page 4") for name in names)
    assert names[-1].startswith("meta 0, txid 2, root ")
    assert subject.locate(DATABASE, 4096 + 64, bytes(8)) == "meta 1, txid"
    assert subject.locate(DATABASE, 16, bytes(64)) == "meta 0, magic to checksum"
    assert subject.locate(DATABASE, 5 * 4096 + 512, bytes(512)) == "page 5 + 512"
    assert subject.locate("/other", 0, b"") == ""


def test_a_commit_of_500_pages_is_closed_in_three_executions_a_point():
    program = Program((Fill((b"a",), 0, 4, 1, Value(1, 520_000)), Commit()))
    made = experiment(program, model=CrashModel())
    closures, findings = sweep(made)
    assert findings == []
    assert all(closure.closed for closure in closures)
    assert max(closure.images_log2 for closure in closures) >= 4000
    # The creation of the file has more outcomes to tell apart.
    commit = [c for c in closures if c.images_log2 >= 100]
    assert commit
    assert max(closure.executions for closure in commit) <= 3


def test_reuse_changes_no_outcome():
    subject = ShearboltSubject()
    program = subject.generate(2)
    disk = Disk(model=MODEL)
    subject.run(program, disk)
    runs = [
        [
            frozenset(reached.outcome for reached in closure.outcomes)
            for closure in Explorer(
                {}, disk.trace, subject.recover, MODEL, reuse=reuse
            ).sweep()
        ]
        for reuse in (True, False)
    ]
    assert runs[0] == runs[1]


def test_mutants_are_offered_by_name_and_undone():
    subject = ShearboltSubject()
    assert {
        "no-data-sync",
        "wrong-slot",
        "checksum-unverified",
        "early-reuse",
        "no-dir-sync",
    } <= set(subject.mutants())
    with pytest.raises(KeyError):
        subject.mutant("no-such-bug")
    with mutant("no-data-sync"):
        _, findings = sweep(experiment(SHORT))
        assert findings
    _, findings = sweep(experiment(SHORT))
    assert findings == []


def _small_disk():
    disk = Disk()
    with shearbolt.open(DATABASE, storage=disk) as db, db.update() as tx:
        tx.create_bucket(b"a")[b"k"] = b"v"
    return disk


def _content(disk):
    file = disk.open(DATABASE, read_only=True)
    return file.pread(file.size(), 0)


def test_a_handle_that_keeps_the_lock_is_an_outcome_and_no_endless_wait(monkeypatch):
    """Whoever called recovery was hung by it: the lock's clock is the disk's."""
    disk = Disk()
    with shearbolt.open(DATABASE, storage=disk):
        pass
    right = recover(disk)
    monkeypatch.setattr(shearbolt.DB, "close", lambda _: None)
    outcome = recover(disk)
    assert (right.error, right.progress) == ("", "")
    assert outcome.progress.startswith("LockTimeoutError: ")
    assert recover(disk).error.startswith("opening: LockTimeoutError: ")
