"""A planted bug is hunted with what is proven without it, cheapest search first."""

from __future__ import annotations

import pytest
from gating import units
from gating.lanes import Gate
from tests.ci.small_gates import a_policy
from toy_store import MUTANTS, Toy

from tornpage.uncovered import UnsupportedCallError


def test_planted_bugs_are_hunted_with_programs_that_are_proven_without_them(here):
    policy = a_policy(programs=2, planted_programs=50)
    hunts = Gate(policy)._catches
    assert {hunt.seeds for hunt in hunts} == {(0, 2)}


@pytest.fixture
def met(monkeypatch):
    """What a hunt does: the programs that it runs, and "crashed" between them."""
    done = []
    run, recover = Toy.run, Toy.recover

    def noted_run(self, program, disk):
        done.append(program)
        return run(self, program, disk)

    def noted_recover(self, disk):
        if done[-1] != "crashed":
            done.append("crashed")
        return recover(self, disk)

    monkeypatch.setattr(Toy, "run", noted_run)
    monkeypatch.setattr(Toy, "recover", noted_recover)
    return done


def hunted(name, programs=6, first=0):
    policy = a_policy(programs=programs, planted_programs=programs, seed=first)
    (hunt,) = (one for one in Gate(policy)._catches if one.name == name)
    return units.do(hunt)


def naming(monkeypatch, seed):
    told = {"seed": seed}
    monkeypatch.setattr(Toy, "mutant_details", lambda *_: told, raising=False)


def test_a_hunted_bug_is_met_by_every_program_once_before_any_is_crashed(met):
    for name, crashed in (("no-checksum", True), ("forgetful", False)):
        met.clear()
        assert hunted(name).fate == "caught"
        assert ("crashed" in met) == crashed
        if crashed:
            programs = [Toy().generate(seed) for seed in range(6)]
            assert met[:7] == [*programs, "crashed"]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_looked_for_first_in_the_program_that_its_subject_names(
    name, met, monkeypatch
):
    seed = 5
    while (whole := hunted(name, programs=1, first=seed)).fate != "caught":
        seed += 1
    naming(monkeypatch, seed)
    met.clear()
    found = hunted(name, programs=seed + 1)
    assert found.found_by == f"seed {seed}"
    assert (found.property, found.executions) == (whole.property, whole.executions)
    assert [one for one in met if one != "crashed"] == [Toy().generate(seed)]


def test_a_program_that_shows_nothing_is_named_in_vain_and_looked_at_once(
    met, monkeypatch
):
    shown = [
        seed
        for seed in range(12)
        if hunted("no-checksum", programs=1, first=seed).fate == "caught"
    ]
    barren = next(seed for seed in range(12) if seed not in shown)
    naming(monkeypatch, barren)
    met.clear()
    found = hunted("no-checksum", programs=12)
    assert (found.fate, found.found_by) == ("caught", f"seed {shown[0]}")
    others = [Toy().generate(seed) for seed in range(12) if seed != barren]
    assert met[:3] == [Toy().generate(barren), "crashed", others[0]]
    assert [one for one in met if one != "crashed"][1:] == others
    monkeypatch.setattr("toy_store.MUTANTS", {"nothing": "changes nothing"})
    named = hunted("nothing")
    naming(monkeypatch, None)
    assert (named.fate, named.executions) == ("survived", hunted("nothing").executions)


@pytest.mark.parametrize("part", ["run", "recover"])
@pytest.mark.parametrize(
    ("most", "fate", "found_by"), [(4, "caught", "seed 4"), (6, "survived", "")]
)
def test_a_program_that_cannot_be_followed_with_a_bug_shows_nothing_of_it(
    part, most, fate, found_by, monkeypatch
):
    """Nor does it end the hunt: another may show it properly."""
    real = getattr(Toy, part)
    refused = []

    def unfollowed(self, *given):
        # Once a program: what is refused ends its run, or the search in its crashes.
        if self.bugs and len(refused) < most:
            refused.append(given)
            raise UnsupportedCallError("what is not here")
        return real(self, *given)

    monkeypatch.setattr(Toy, part, unfollowed)
    found = hunted("no-sync")
    assert (found.fate, found.found_by) == (fate, found_by)


def test_a_program_that_no_lane_runs_is_not_hunted_with_though_it_is_named(
    met, monkeypatch
):
    for seed in (2, 9):
        naming(monkeypatch, seed)
        met.clear()
        assert hunted("no-checksum", first=3).fate == "caught"
        assert Toy().generate(seed) not in met


def test_a_bug_that_needs_no_crash_is_found_without_one(here):
    planted = {one.name: one for one in Gate(a_policy()).run().planted}
    assert planted["forgetful"].executions == planted["run-raises"].executions == 0
    assert planted["no-sync"].executions > 0


def test_what_a_subject_tells_of_its_bugs_is_shown(here, monkeypatch):
    told = {"origin": "a book", "needs": "a crash"}
    monkeypatch.setattr("toy_store.Toy.mutant_details", lambda *_: told, raising=False)
    planted = Gate(a_policy()).run().planted
    assert {(one.origin, one.needs) for one in planted} == {("a book", "a crash")}


def test_a_lower_cap_in_the_hunt_invents_no_bug(here, monkeypatch):
    # A planted bug that changes nothing has to survive, however hard one looks.
    monkeypatch.setattr(units, "_HUNTING_CAP", 2)
    monkeypatch.setattr("toy_store.MUTANTS", {"nothing": "changes nothing"})
    (one,) = Gate(a_policy()).run().planted
    assert (one.fate, one.reason) == ("survived", "3 programs broke no promise with it")
