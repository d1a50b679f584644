"""Hypothesis profiles: what repeats, what is kept, and how long it takes."""

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from boltmodel.machine import BrokenPromiseError, CrashMachine
from boltmodel.mutants import mutant
from boltmodel.profiles import EXAMPLES, register


@pytest.fixture(autouse=True)
def profiles(tmp_path):
    register(str(tmp_path))


def test_pr_says_the_same_about_the_same_code():
    profile = settings.get_profile("pr")
    assert profile.derandomize
    assert profile.database is None


@pytest.mark.parametrize("name", ["fuzz", "nightly"])
def test_longer_profiles_draw_anew_and_keep_what_failed(name):
    profile = settings.get_profile(name)
    assert not profile.derandomize
    assert profile.database is not None
    assert profile.deadline is None


def test_longer_profiles_look_longer():
    assert EXAMPLES["pr"] < EXAMPLES["fuzz"] < EXAMPLES["nightly"]
    for name, number in EXAMPLES.items():
        assert settings.get_profile(name).max_examples == number


def test_pr_finds_a_planted_bug():
    # Shrinking is Hypothesis' affair, and takes longer than finding.
    quick = settings(settings.get_profile("pr"), phases=(Phase.generate,))
    with mutant("early-sync"), pytest.raises(BrokenPromiseError):
        run_state_machine_as_test(CrashMachine, settings=quick)
