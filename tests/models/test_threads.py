"""Threads may switch anywhere in the engine, and the power may go in any of their runs.

SHEARBOLT_SCHEDULES is how many percent of the schedules with one switch are tried (1);
`python -m boltmodel.lanes.threads` tries all of them, in minutes.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from boltmodel.lanes import threads
from boltmodel.lanes.threads import SCENARIOS, sweep
from boltmodel.mutants.threads import IN_THREADS
from boltmodel.quiet import quiet
from shearbolt import TxClosedError
from tornpage.threads import Schedule

SHARE = int(os.environ.get("SHEARBOLT_SCHEDULES", "1")) / 100

BUGS = {bug.name: bug for bug in IN_THREADS}

# Where each is seen, the share of the schedules that is tried first, which ones, and
# whether a switch in the core shows it: then one of all places does, too. Most bugs are
# shown by many schedules in a row, some by few at the beginning.
SEEN_IN = {
    "begin-unlooked": ("readers", 1.0, 0, True),
    "turn-unlooked": ("writers", 0.1, 0, True),
    "ended-too-early": ("rolled-back", 0.05, 1, True),
    "close-waits-for-nobody": ("closed", 0.05, 11, True),
    "live-too-early": ("readers", 0.03, 2, True),
    "batch-joined-late": ("batches", 0.05, 0, True),
    "put-back-late": ("ended", 0.03, 1, False),
    "freed-in-another": ("ended-writer", 1.0, 0, False),
}


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield


@pytest.mark.thorough(rows=8)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_switch_of_threads_breaks_a_promise(name):
    swept = sweep(SCENARIOS[name], share=SHARE, seed=7)
    assert not swept.broken, swept.broken[0]
    assert swept.schedules > 2
    assert swept.closed == swept.crash_points
    assert bool(swept.crash_points) is SCENARIOS[name].crashes
    assert bool(swept.left_out) is (SHARE < 1)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_that_only_another_thread_shows_is_found(name):
    where, first, seed, core = SEEN_IN[name]
    scenario = SCENARIOS[where]
    with BUGS[name].plant():
        for share in (first, 1.0):
            found = sweep(
                scenario, core=core, most_broken=1, share=share, seed=seed
            ).broken
            if found:
                break
    assert found, name
    # And not without the bug, under the very schedule that has shown it.
    only = Schedule.parse(found[0].schedule)
    assert not sweep(scenario, core=core, only=only).broken
    with BUGS[name].plant():
        assert sweep(scenario, core=core, only=only).broken[0] == found[0]


def test_the_core_is_a_part_of_the_engine_and_of_the_places():
    """A module that was renamed would not be switched in, and nobody would know."""
    for file in threads.CORE:
        assert os.path.isfile(file), file
        assert file.startswith(threads.PLACES), file
    for place in threads.PLACES:
        assert os.path.exists(place), place


def test_two_switches_in_the_core_break_no_promise():
    swept = sweep(SCENARIOS["closed"], switches=2, share=SHARE / 2, core=True, seed=3)
    assert not swept.broken, swept.broken[0]
    assert swept.schedules > 5


def test_every_bug_has_a_scenario_that_shows_it():
    assert set(SEEN_IN) == set(BUGS)
    assert {bug.needs for bug in IN_THREADS} == {"threads"}


def test_errors_that_are_not_allowed_are_broken_promises():
    strict = replace(SCENARIOS["closed"], allowed=())
    found = sweep(strict, share=0.2, most_broken=1).broken
    assert "NotOpen" in found[0].message or "Closed" in found[0].message
    assert SCENARIOS["closed"].allowed[1] is TxClosedError


def test_the_command_says_what_it_found_and_how_to_see_it_again(capsys):
    assert threads.main(["rolled-back", "--share", "0.01"]) == 3
    said = capsys.readouterr().out
    assert said.startswith("rolled-back: ")
    assert "0 promises broken" in said
    with BUGS["begin-unlooked"].plant():
        found = sweep(SCENARIOS["readers"], most_broken=1).broken[0]
        again = shlex.split(str(found).partition("again: ")[2])
        assert again[:3] == ["python", "-m", "boltmodel.lanes.threads"]
        assert threads.main(again[3:]) == 1
    assert "reader 4: a/00: promised" in capsys.readouterr().out
    assert threads.main(again[3:]) == 0
    assert threads.main(["readers", "--schedule", "0:99999>1"]) == 3
    assert "not covered: of the schedule" in capsys.readouterr().out
    with BUGS["begin-unlooked"].plant():
        found = sweep(SCENARIOS["readers"], most_broken=1, core=True).broken[0]
        again = shlex.split(str(found).partition("again: ")[2])
        # Its places are counted in the core: elsewhere it is another schedule.
        assert "--core" in again
        assert threads.main(again[3:]) == 1
    assert "reader 4: " in capsys.readouterr().out
    for wrong, why in (
        (["no-such"], "there are readers, "),
        (["readers", "--schedule", "x"], "is no schedule"),
        (["--schedule", "0"], "name one"),
    ):
        with pytest.raises(SystemExit):
            threads.main(wrong)
        assert why in capsys.readouterr().err


@pytest.mark.thorough
def test_a_process_that_has_run_nothing_yet_tries_the_same_schedules():
    # Caches of a process fill in its first run. Which places there are must not depend
    # on that, or a schedule that was printed cannot be played again elsewhere.
    program = (
        "from boltmodel.lanes.threads import SCENARIOS, sweep\n"
        "print(sweep(SCENARIOS['small-cache'], share=0.003, seed=7))\n"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    here = sweep(SCENARIOS["small-cache"], share=0.003, seed=7)
    assert fresh.stdout == f"{here}\n"
