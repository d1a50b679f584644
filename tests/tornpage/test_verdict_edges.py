"""What turns explored crashes into a verdict, at its edges.

Each was made because one operator on the way from an execution to the exit status could
be another one, and the tests that were run against it passed.
"""

import dataclasses
import json

import pytest
import remembering
from toy_store import Toy

from tornpage.certificate.token import LIVE, Failure
from tornpage.disk import Disk
from tornpage.explore.explorer import CrashPoint, Explorer, Reached
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.run import Plan, run
from tornpage.run.afresh import Afresh, _Crash
from tornpage.run.experiment import Experiment, Finding
from tornpage.run.fingerprint import trace_digest
from tornpage.run.report import Gone, Origin, _Judge, _smallest_tape, replay
from tornpage.run.shrink import Budget
from tornpage.run.verify import verify_file
from tornpage.subject import Violation

POINT = CrashPoint(3)


def found(*tape):
    return Finding(Violation("P", "lost"), POINT, Reached("outcome", tape, ()))


class Answers(_Judge):
    """Says of each tape what it is told to."""

    def __init__(self, model, answers):
        super().__init__(Origin("toy", model), found())
        self.answers = answers
        self.asked = []

    def replay(self, candidate, point, tape):
        self.asked.append(tape)
        return self.answers.get(tape)


@pytest.mark.parametrize("again", [None, found(0, 1)])
def test_a_tape_that_was_made_of_another_one_counts_if_it_breaks_the_promise_itself(
    again,
):
    """(0, 2) is asked for and (0, 1) comes out: the story is of a tape that repeats."""
    experiment = Experiment(Toy(), Toy().generate(0), CrashModel(), cap=1)
    answers = {(0, 2): found(0, 1), (0, 1): again}
    judge = Answers(experiment.explorer.model, answers)
    small = _smallest_tape(judge, experiment, found(3, 2), Budget(99))
    assert judge.asked[judge.asked.index((0, 2)) + 1] == (0, 1)
    assert small.tape == ((0, 1) if again else (3, 2))


@pytest.mark.usefixtures("processes")
def test_what_is_replayed_afresh_is_found_where_and_as_it_was_found():
    subject = remembering.module_unsynced
    with Afresh(subject) as afresh:
        experiment = Experiment(subject, subject.generate(0), CrashModel(), cap=99)
        first = afresh.broken(experiment, None)
        promise = first.violation.property
        again = afresh.replay(
            experiment, None, first.point, first.reached.tape, promise
        )
        kept = afresh.replay(experiment, None, first.point, first.reached.tape, "other")
    assert again == first
    assert (again.violation.property, again.afresh) == (promise, True)
    assert kept is None


@pytest.mark.usefixtures("elsewhere")
def test_a_program_is_made_again_with_the_bug_that_it_was_made_with(
    elsewhere, monkeypatch
):
    right = Toy.generate

    def generate(self, seed):
        return right(self, seed + 100 * bool(self.bugs))

    monkeypatch.setattr(Toy, "generate", generate)
    plan = Plan("toy_store:Toy", programs=2, mutant="forgetful", keep_going=True)
    certificate = run(Toy(), plan)
    assert certificate.records
    (elsewhere / "c.json").write_text(json.dumps(certificate.to_json()))
    assert verify_file("c.json").verdict == "verified"


def test_a_digest_of_a_trace_has_all_that_the_disk_saw_and_no_source_lines():
    program = Toy().generate(0)
    trace = [*Experiment(Toy(), program, CrashModel(), cap=1).disk.trace]
    seen = {trace_digest(trace)}
    for at, record in enumerate(trace):
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            other = value + (1 if isinstance(value, int) else value[:1])
            changed = dataclasses.replace(record, **{field.name: other})
            digest = trace_digest([*trace[:at], changed, *trace[at + 1 :]])
            if field.name == "site" or other == value:
                assert digest == trace_digest(trace)
            else:
                assert digest not in seen
                seen.add(digest)
    assert len(seen) > 2 * len(trace)


def test_a_failure_without_a_crash_is_seen_again_only_if_it_is_the_same_promise():
    subject = Toy()
    program = (("put", "a", "x"), ("put", "a", "y"), ("commit",))
    failure = Failure(
        "toy", subject.encode(program), "tear=sector", LIVE, "L live", "forgetful"
    )
    assert replay(subject, failure).startswith("BROKEN: L live")
    with pytest.raises(Gone, match="the program keeps 'L other'"):
        replay(subject, dataclasses.replace(failure, property="L other"))


class Twice(Toy):
    """Whatever breaks a promise breaks another one, too."""

    def judge(self, history, marks, outcome):
        found = super().judge(history, marks, outcome)
        return (*found, *(Violation("Q", one.message) for one in found))


def test_of_several_broken_promises_the_one_that_is_asked_for_is_found():
    subject = Twice()
    with subject.mutant("no-sync"):
        experiment = Experiment(subject, subject.generate(0), CrashModel(), cap=99)
        first = experiment.first("Q")
        assert first.violation.property == "Q"
        again = experiment.replay(first.point, first.tape, "Q")
        assert again.violation.property == "Q"
        assert experiment.first("R") is None
        assert experiment.replay(first.point, first.tape, "R") is None
        swept = [one.violation.property for one in experiment.sweep(stop=False)]
        assert swept.count("Q") == len(swept) / 2 > 1


def acknowledged_too_early(disk, work, ack):
    other, file = (disk.open(name, create=True) for name in ("other", "file"))
    for text in work:
        file.pwritev([text.encode()], 0)
        ack(text)
        # Recovery never looks at it: from here on nothing is new but the promise.
        other.pwritev([b"x"], 0)


def what_is_there(disk):
    return disk.open("file").pread(9, 0) if disk.exists("file") else b""


def test_outcomes_that_are_known_are_judged_again_when_more_is_promised():
    subject = subject_from(
        "early",
        run=acknowledged_too_early,
        recover=what_is_there,
        check=lambda acked, _, seen: None if seen or not acked else "it is lost",
        work=["one"],
    )
    certificate = run(subject, Plan("early", programs=1, shrink=False))
    assert certificate.verdict == "violated"
    assert certificate.coverage.reused


def emptied_later(disk, work, ack):
    file = disk.open("file", create=True)
    disk.fsync_dir("file")
    for text in work:
        file.pwritev([text.encode()], 0)
        file.fsync()
        ack(text)
    file.ftruncate(0)


@pytest.mark.parametrize("keep_going", [False, True])
def test_what_is_new_is_judged_where_nothing_more_is_promised(keep_going):
    subject = subject_from(
        "emptied",
        run=emptied_later,
        recover=what_is_there,
        check=lambda acked, _, seen: None if seen or not acked else "it is lost",
        work=["one"],
    )
    plan = Plan("emptied", programs=1, shrink=False, keep_going=keep_going)
    assert run(subject, plan).verdict == "violated"


def test_what_breaks_without_a_crash_is_not_found_for_another_promise():
    subject = Toy()
    program = (("put", "a", "x"), ("put", "a", "y"), ("commit",))
    with subject.mutant("forgetful"):
        experiment = Experiment(subject, program, CrashModel(), cap=99)
        assert experiment.first("L live").point is None
        assert experiment.first("L other") is None


def digests(run_, recover, check):
    subject = subject_from("x", run=run_, recover=recover, check=check, work=["one"])
    plan = Plan("x", programs=1, shrink=False, keep_going=True)
    (record,) = run(subject, plan).records
    return record.trace, record.outcomes


def test_a_digest_of_outcomes_has_those_of_every_crash_point():
    def written(disk, work, ack):
        disk.open("file", create=True).pwritev([b"one"], 0)

    one = digests(written, what_is_there, lambda *_: None)
    other = digests(written, lambda disk: what_is_there(disk).upper(), lambda *_: None)
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize("program", [emptied_later, acknowledged_too_early])
def test_a_digest_of_outcomes_has_the_promises_that_break_at_every_point(program):
    def lost(acked, in_flight, seen):
        return None if seen or not acked else "it is lost"

    one = digests(program, what_is_there, lambda *_: None)
    other = digests(program, what_is_there, lost)
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize(("tape", "content", "made"), [(None, b"o", 0), ((), b"2", 1)])
def test_a_crash_that_loses_all_that_it_may_leaves_the_oldest_there_is(
    tape, content, made
):
    files = {"f": b"o" * 512}
    disk = Disk(files)
    for text in (b"1", b"2"):
        disk.open("f").pwritev([text * 512], 0)
    disk.open("new", create=True)
    explorer = Explorer(files, disk.trace, lambda _: None)
    crash = _Crash([*explorer.points()][-1], tape)
    left = explorer.disk(crash.point, crash.chooser())
    assert left.open("f").pread(1, 0) == content
    assert left.exists("new") == bool(made)
