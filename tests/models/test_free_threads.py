"""Without CPython's global lock threads may switch before any instruction.

These run with it: it is the schedule that switches there. SHEARBOLT_SCHEDULES is how
many times a twentieth of a percent of the schedules with one switch are tried (1);
`python -m boltmodel.lanes.threads --free-threaded` tries all of them.
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

SHARE = int(os.environ.get("SHEARBOLT_SCHEDULES", "1")) / 2000

BUGS = {bug.name: bug for bug in IN_FREE_THREADS}

# Where each is seen, whether in the core, and the share and the seed that show it soon
# on 3.11; other versions have other places.
SEEN_IN = {
    "cache-uncounted": ("gets", False, 0.001, 4),
    "readers-uncounted": ("two-readers", True, 0.004, 1),
    "ended-twice": ("lost-to-two", True, 0.004, 15),
}


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield


@pytest.mark.thorough(rows=7)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_switch_between_two_instructions_breaks_a_promise(name):
    swept = sweep(SCENARIOS[name], share=SHARE, seed=5, free_threaded=True)
    assert not swept.broken, swept.broken[0]
    assert swept.schedules > 2
    assert swept.closed == swept.crash_points
    assert bool(swept.left_out) is (SHARE < 1)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_that_the_global_lock_hides_is_found_without_it(name):
    where, core, first, seed = SEEN_IN[name]
    scenario = SCENARIOS[where]
    with BUGS[name].plant():
        for share in (first, 0.1, 1.0):
            found = sweep(
                scenario,
                share=share,
                seed=seed,
                core=core,
                free_threaded=True,
                most_broken=1,
            ).broken
            if found:
                break
        assert found, name
        again = shlex.split(str(found[0]).partition("again: ")[2])
        assert threads.main(again[3:]) == 1
        # With the lock it is none.
        assert not sweep(scenario, share=0.01, seed=seed, core=core).broken
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
