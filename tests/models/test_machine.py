"""The Hypothesis machine: passes on the engine, finds what is planted in it."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from boltmodel.machine import BrokenPromiseError, CrashMachine
from boltmodel.mutants import mutant

# Hypothesis' own defaults, but for time: nothing is stored, and a planted bug
# need not be shrunk to be found.
PROFILE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
FINDING = settings(PROFILE, phases=(Phase.generate,), report_multiple_bugs=False)
# Short runs find most of the bugs in less than half the time that 50 steps take.
STEPS = 20

SEVEN = (
    "no-data-sync",
    "wrong-slot",
    "checksum-unverified",
    "early-reuse",
    "no-dir-sync",
    "first-pair-wins",
    "sync-does-nothing",
)
# Not to be seen in a hundred short ones.
IN_LONG_RUNS = {"first-pair-wins": 50}


def test_the_machine_finds_nothing_in_the_engine():
    examples = 6 * int(os.environ.get("SHEARBOLT_SEEDS", "1"))
    run_state_machine_as_test(
        CrashMachine, settings=settings(PROFILE, max_examples=examples)
    )


@pytest.mark.thorough(rows=3)
@pytest.mark.parametrize("name", SEVEN)
def test_the_machine_finds_a_planted_bug(name):
    steps = IN_LONG_RUNS.get(name, STEPS)
    with mutant(name), pytest.raises(BrokenPromiseError):
        run_state_machine_as_test(
            CrashMachine, settings=settings(FINDING, stateful_step_count=steps)
        )


def test_the_machine_finds_a_commit_that_returns_too_early():
    with mutant("no-meta-sync"), pytest.raises(BrokenPromiseError):
        run_state_machine_as_test(
            CrashMachine, settings=settings(FINDING, stateful_step_count=STEPS)
        )
