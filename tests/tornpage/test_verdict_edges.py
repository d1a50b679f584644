"""What turns explored crashes into a verdict, at its edges.

Each was made because one operator on the way from an execution to the exit status could
be another one, and the tests that were run against it passed.
"""

import dataclasses
import json

import pytest
import remembering
from toy_store import Toy

from tornpage.explore.explorer import CrashPoint, Reached
from tornpage.run import Plan, run
from tornpage.run.afresh import Afresh
from tornpage.run.experiment import Experiment, Finding
from tornpage.run.fingerprint import trace_digest
from tornpage.run.report import Origin, _Judge, _smallest_tape
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
    experiment = Experiment(
        Toy(), Toy().generate(0), Plan("toy", programs=1).model, cap=1
    )
    answers = {(0, 2): found(0, 1), (0, 1): again}
    judge = Answers(experiment.explorer.model, answers)
    small = _smallest_tape(judge, experiment, found(3, 2), Budget(99))
    assert judge.asked[judge.asked.index((0, 2)) + 1] == (0, 1)
    assert small.tape == ((0, 1) if again else (3, 2))


@pytest.mark.usefixtures("processes")
def test_what_is_replayed_afresh_is_found_where_and_as_it_was_found():
    subject = remembering.module_unsynced
    with Afresh(subject) as afresh:
        experiment = Experiment(
            subject, subject.generate(0), remembering.plan("x").model, cap=99
        )
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
    trace = [
        *Experiment(Toy(), program, Plan("toy", programs=1).model, cap=1).disk.trace
    ]
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
