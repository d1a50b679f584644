"""An interrupt at each place of a copy: the copy is there, or nothing is."""

import os
import sys

import places
import pytest

import shearbolt

# One that comes while the file is thrown away is printed by Python, and gone.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def interrupted(place, call):
    """Whether there was such a place."""
    interrupts = places.Interrupts([place])
    try:
        with interrupts:
            call()
    except KeyboardInterrupt:
        return True
    return not interrupts.places


@pytest.mark.skipif(
    sys.platform == "win32", reason="what an interrupt leaves open cannot be removed"
)
def test_an_interrupted_copy_leaves_no_part_of_it(tmp_path):
    path, target = tmp_path / "a.db", tmp_path / "copy.db"
    with shearbolt.open(path, no_sync=True) as db, db.view() as tx:
        place, there = 0, True
        while there:
            there = interrupted(place, lambda: tx.copy_file(target))
            assert set(os.listdir(tmp_path)) <= {"a.db", "copy.db"}, place
            target.unlink(missing_ok=True)
            place += 1
    assert place > 40
