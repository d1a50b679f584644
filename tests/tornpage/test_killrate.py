"""The kill rate, from certificates that nobody had to make."""

import dataclasses
from types import SimpleNamespace

import pytest
from toy_store import MUTANTS, Toy

from tornpage.certificate import Certificate, Coverage, Failure
from tornpage.certificate.record import ReportedViolation, Scope
from tornpage.command import main
from tornpage.run import Plan, killrate
from tornpage.run.experiment import RUN_RETURNS
from tornpage.run.killrate import KillRate, check_mutants, row


class Idle(Toy):
    """Its programs are empty, and what is simpler is, too."""

    def generate(self, seed):
        return ()

    def simplify(self, program):
        return [()]


FINE = Certificate(
    Scope(subject="toy", model="m"),
    coverage=Coverage(1, 9, 9, 0, 9, 9, 9, {"write": 1}, faults={"torn": 1}),
)
DOUBTFUL = dataclasses.replace(FINE, cut=("it was cut",))
STOPPED = dataclasses.replace(FINE, cut=("interrupted in the program of seed 0",))


def broken(at, promise="P"):
    found = ReportedViolation(
        *(promise, "It raised.", 0, 9, 2, "", "a story\n", "x --replay y"),
        Failure("toy", [], "m", at, promise),
    )
    return dataclasses.replace(FINE, violations=(found,))


CRASH, LIVE, DEAD = broken("3i:0.1"), broken("live"), broken("live", RUN_RETURNS)


@pytest.mark.parametrize(
    ("found", "dead", "caught", "without"),
    [
        ([CRASH], (), 1, 0),
        ([LIVE], (), 1, 1),
        ([FINE], (), 0, 0),
        ([DOUBTFUL], (), 0, 0),
        ([DEAD], ("0",), 0, 0),
        ([CRASH, LIVE, DEAD, FINE, DOUBTFUL], ("2",), 2, 1),
    ],
)
def test_caught_is_what_broke_a_promise_of_code_that_runs(found, dead, caught, without):
    mutants = {str(at): one for at, one in enumerate(found)}
    rate = KillRate(FINE, mutants, len(mutants), dead)
    assert (rate.caught, rate.without_a_crash) == (caught, without)
    assert rate.passed == (caught == len(found))
    text = f"{caught} of {len(found)} planted bugs caught"
    text += f", {without} of them without a crash" * bool(without)
    first, *rest = rate.summary().splitlines()
    assert first.strip() == text
    assert bool(rest) == bool(dead)


@pytest.mark.parametrize("baseline", [DOUBTFUL, CRASH, STOPPED])
def test_a_checker_that_does_not_pass_the_code_as_it_is_deserves_no_trust(baseline):
    assert KillRate(FINE, {"a": CRASH}, 1).passed
    rate = KillRate(baseline, {"a": CRASH}, 1)
    assert not rate.passed
    if baseline is not STOPPED:
        assert f"without a planted bug the run is {baseline.verdict}" in rate.summary()


def test_bugs_that_were_not_tried_are_not_caught():
    rate = KillRate(FINE, {"a": CRASH, "b": STOPPED}, 3)
    assert rate.interrupted
    assert not rate.passed
    assert rate.summary().strip() == (
        "interrupted: of 3 planted bugs 1 were tried, 1 caught"
    )


def test_no_planted_bug_is_no_kill_rate():
    assert not KillRate(FINE, {}, 0).passed


def test_a_row_says_the_verdict_and_what_broke_first():
    assert row("a", FINE).split() == ["a", "consistent", "0.0", "s"]
    assert row("a", CRASH).split()[-3:] == ["2", "operations,", "P"]
    assert row("a", LIVE).split()[-5:] == ["2", "operations,", "no", "crash,", "P"]


def test_the_code_as_it_is_is_run_first_and_then_with_each_bug(monkeypatch):
    monkeypatch.setattr(killrate, "_is_dead", lambda *_: False)
    made, seen = SimpleNamespace(interrupted=False), []
    monkeypatch.setattr(
        killrate,
        "run",
        lambda _, plan, watch: seen.append(plan.mutant) or made,
    )
    told = []
    plan = Plan("toy_store:Toy", programs=1, mutant="no-sync")
    rate = check_mutants(Toy(), plan, seen=lambda name, _: told.append(name))
    assert seen == [None, *MUTANTS]
    assert told == ["(no bug)", *MUTANTS]
    assert (rate.planned, [*rate.mutants]) == (len(MUTANTS), [*MUTANTS])


def test_programs_that_do_nothing_are_not_tried():
    subject = Toy()
    plan = Plan("toy_store:Toy", programs=2, seed=3)
    tried = [*killrate._programs(subject, plan)]
    assert tried[0] == subject.generate(3)
    assert tried.index(subject.generate(4)) > 9
    assert all(tried)
    assert [*killrate._programs(Idle(), plan)] == [(), ()]


def test_planted_bugs_are_listed_in_two_columns(capsys):
    assert main(["mutants", "toy_store:Toy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    column = max(map(len, MUTANTS)) + 2
    assert [line[column:] for line in lines] == [*MUTANTS.values()]
    assert [line[:column].strip() for line in lines] == [*MUTANTS]
