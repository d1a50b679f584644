"""Without CPython's global lock threads may switch before any instruction.

These run with it: it is the schedule that switches there. SHEARBOLT_SCHEDULES is how
many hundredths of a percent of the schedules with one switch are tried (10); `python -m
boltmodel.lanes.threads --free-threaded` tries all of them, in an hour.
"""

import os
import shlex

import pytest

from boltmodel.lanes import threads
from boltmodel.lanes.threads import SCENARIOS, sweep
from boltmodel.mutants.free_threads import IN_FREE_THREADS
from boltmodel.quiet import quiet
from shearbolt.pages.pager import Pager
from shearbolt.pages.shared import SharedPager

SHARE = int(os.environ.get("SHEARBOLT_SCHEDULES", "1")) / 1000

BUGS = {bug.name: bug for bug in IN_FREE_THREADS}

# Where each is seen, and which hundredth of the schedules shows it.
SEEN_IN = {
    "cache-uncounted": ("gets", 0.05, 0, False),
    "readers-uncounted": ("two-readers", 0.1, 0, True),
    "ended-twice": ("lost-to-two", 0.1, 0, True),
}


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_switch_between_two_instructions_breaks_a_promise(name):
    swept = sweep(SCENARIOS[name], share=SHARE, seed=5, free_threaded=True)
    assert not swept.broken, swept.broken[0]
    assert swept.schedules > 2
    assert swept.closed == swept.crash_points
    assert bool(swept.left_out) is (SHARE < 1)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_that_the_global_lock_hides_is_found_without_it(name):
    where, share, seed, core = SEEN_IN[name]
    scenario = SCENARIOS[where]

    def broken(*, free_threaded, **options):
        found = sweep(scenario, core=core, free_threaded=free_threaded, **options)
        return found.broken

    with BUGS[name].plant():
        found = broken(share=share, seed=seed, most_broken=1, free_threaded=True)
        assert found, name
        again = shlex.split(str(found[0]).partition("again: ")[2])
        assert threads.main(again[3:]) == 1
        # With the lock it is none.
        assert not broken(share=share, seed=seed, free_threaded=False)
    # And not without the bug, under the very schedule that has shown it.
    assert threads.main(again[3:]) == 0


def test_every_bug_has_a_scenario_that_shows_it():
    assert set(SEEN_IN) == set(BUGS)
    assert {bug.needs for bug in IN_FREE_THREADS} == {"threads"}


def test_the_cache_has_a_lock_where_threads_run_at_the_same_time():
    """And is the one for the global lock where that is."""
    seen = set()

    def looked_at(world):
        seen.add(type(world.db.pager))
        return SCENARIOS["writers"].threads(world)

    scenario = threads.Scenario("looked-at", "", looked_at)
    for free_threaded, kind in ((False, Pager), (True, SharedPager)):
        seen.clear()
        sweep(scenario, share=0, free_threaded=free_threaded)
        assert seen == {kind}
