"""The gate says what it found, and does not say more."""

from __future__ import annotations

import signal
import sys

import pytest
from gating.lanes import Gate
from tests.ci.small_gates import a_policy
from toy_store import MUTANTS, Toy


def test_a_correct_store_is_consistent_and_every_planted_bug_is_caught(here):
    result = Gate(a_policy(planted_programs=24, programs=24)).run()
    assert (result.verdict, result.exit_status) == ("consistent", 0)
    assert result.caught == len(result.planted) == len(MUTANTS)
    assert not result.doubts()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_store_is_violated_and_each_failure_is_kept(here, mutant):
    result = Gate(a_policy(programs=6), mutant=mutant).run()
    assert (result.verdict, result.exit_status) == ("violated", 1)
    assert result.exhibits
    assert all(one.violation.shrunk for one in result.exhibits)
    assert all(one.scene is not None for one in result.exhibits)


@pytest.mark.parametrize("bug", ["no-sync", "run-raises"])
def test_a_store_that_is_broken_by_itself_is_violated_and_told(here, bug, monkeypatch):
    monkeypatch.setattr(
        Toy, "__init__", lambda self: setattr(self, "bugs", frozenset({bug}))
    )
    result = Gate(a_policy(programs=6)).run()
    assert (result.verdict, result.exit_status) == ("violated", 1)
    assert result.exhibits
    for one in result.exhibits:
        assert one.violation.failure.mutant is None
        assert (one.violation.shrunk, one.scene is not None) == (True, True)


def test_a_sabotaged_checker_is_noticed_by_the_bugs_that_survive_it(here):
    result = Gate(a_policy("toy_store:Blind")).run()
    assert (result.verdict, result.exit_status) == ("unverifiable", 3)
    assert all(lane.certificate.verdict == "consistent" for lane in result.lanes)
    assert "planted bugs were not caught" in result.doubts()[0]


def test_a_store_that_does_nothing_is_not_called_consistent(here):
    result = Gate(a_policy("toy_store:Idle", planted=False)).run()
    assert result.verdict == "unverifiable"
    assert any("nothing was exercised" in doubt for doubt in result.doubts())


def test_work_that_was_not_begun_in_time_makes_it_unverifiable(here):
    moments = iter(range(10_000))
    policy = a_policy(seconds=10.0, programs=9)
    result = Gate(policy, clock=lambda: float(next(moments))).run()
    assert result.verdict == "unverifiable"
    assert result.lanes[0].certificate.verdict == "consistent"
    assert any("time was up" in doubt for doubt in result.doubts())
    assert {one.fate for one in result.planted} == {"not finished"}


def test_a_crash_model_that_is_too_much_for_the_cap_is_unverifiable(here):
    policy = a_policy(models=("tear=byte",), model_programs=1, cap=50, planted=False)
    result = Gate(policy).run()
    assert [lane.certificate.verdict for lane in result.lanes] == [
        "consistent",
        "unverifiable",
    ]
    assert result.verdict == "unverifiable"


def test_a_kill_rate_below_one_forgives_only_so_many(here):
    # With one program some planted bugs survive; how many is counted, not assumed.
    policy = a_policy(programs=1, planted_programs=1, kill_rate=0.0)
    lenient = Gate(policy).run()
    share = lenient.caught / len(lenient.planted)
    assert share > 0
    strict = Gate(a_policy(programs=1, planted_programs=1, kill_rate=1.0)).run()
    assert lenient.verdict == "consistent"
    assert strict.verdict == ("consistent" if share == 1 else "unverifiable")


def test_seeds_fill_the_time_only_when_the_policy_says_so(here):
    moments = iter(range(10_000))
    policy = a_policy(planted=False, fill=True, seconds=100.0)
    result = Gate(policy, clock=lambda: float(next(moments))).run()
    assert result.lanes[0].certificate.coverage.programs > policy.programs
    assert result.verdict == "consistent"


def test_code_that_is_edited_meanwhile_makes_it_unverifiable(here, monkeypatch):
    digests = iter(range(100))
    monkeypatch.setattr(
        "tornpage.run.programs.code_digest", lambda _: f"{next(digests):064}"
    )
    result = Gate(a_policy(planted=False)).run()
    assert result.verdict == "unverifiable"
    assert "do not merge: they differ in code" in result.doubts()[0]


def test_a_gate_that_is_ended_from_within_does_not_pass(tmp_path, monkeypatch, capsys):
    gate = __import__("gate")
    monkeypatch.setattr(gate.Gate, "run", lambda self: sys.exit(0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.tornpage.gate]\nsubject = "toy_store:Toy"\n'
    )
    assert gate.main([]) == 3
    assert "without a verdict" in capsys.readouterr().err


def test_what_the_command_line_says_is_what_the_gate_is_held_to(tmp_path, monkeypatch):
    gate = __import__("gate")
    held = []

    class Told:
        def __init__(self, policy, **_others):
            held.append(policy)

        def run(self):
            sys.exit(0)

    monkeypatch.setattr(gate, "Gate", Told)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.tornpage.gate]\nsubject = "toy_store:Toy"\nprograms = 7\n'
    )
    said = {"seconds": 12.5, "workers": 3, "seed": 5, "programs": 41}
    gate.main([f"--{name}={value}" for name, value in said.items()])
    gate.main([])
    given, policy = held
    assert {name: getattr(given, name) for name in said} == said
    assert policy.programs == 7
