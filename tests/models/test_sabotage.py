"""Sabotaged checkers: each lets a planted bug live, so the museum notices."""

import pytest

from boltmodel.corpus import BY_NAME
from boltmodel.lanes.museum import exhibit
from boltmodel.lanes.sabotage import SABOTAGES, sabotaged
from boltmodel.mutants import MUTANTS, mutant
from boltmodel.mutants.shown import SHOWN


def test_there_are_at_least_eight():
    assert len(SABOTAGES) >= 8


@pytest.mark.thorough(rows=10)
@pytest.mark.parametrize("name", SABOTAGES)
def test_a_planted_bug_survives_and_so_gives_it_away(name):
    hidden = SABOTAGES[name].hides
    programs = (BY_NAME[SHOWN[hidden][1]],)
    with sabotaged(name):
        assert not exhibit(hidden, programs).killed
    assert exhibit(hidden, programs).killed


@pytest.mark.parametrize("name", SABOTAGES)
def test_each_has_its_label(name):
    one = SABOTAGES[name]
    assert one.name == name
    assert one.summary.endswith(".")
    assert one.hides in MUTANTS


def test_no_bug_and_no_sabotage_is_left_behind():
    with sabotaged("judge-content"), mutant("no-data-sync"):
        pass
    assert exhibit("no-data-sync", (BY_NAME[SHOWN["no-data-sync"][1]],)).killed
