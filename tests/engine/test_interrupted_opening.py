"""An interrupt at each place of opening: the file is free, or somebody has the handle.

Also while its traceback is kept: by a future, a log, a shell.
"""

import os
import sys

import places
import pytest

import shearbolt
from shearbolt.storage import OSStorage

# One that comes while the file is thrown away is printed by Python, and gone.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


CODE = (
    os.path.join(places.ENGINE, "database", "opening.py"),
    os.path.join(places.ENGINE, "storage"),
)


def opened_or_interrupted(path, place, options):
    """The handle, or the interrupt with its traceback; and whether there was one."""
    interrupts = places.Interrupts([place], code=CODE)
    try:
        with interrupts:
            return shearbolt.open(path, **options), not interrupts.places
    except KeyboardInterrupt as error:
        return error, True


@pytest.mark.parametrize(
    ("options", "there_is_one"),
    [({"sync_twice": True}, False), ({}, True)],
)
def test_an_interrupted_opening_leaves_the_file_unlocked(
    options, there_is_one, path, monkeypatch
):
    # The disk is not what this is about.
    machine = sys.modules[OSStorage.__module__]
    for sync in "_fdatasync", "_fsync":
        monkeypatch.setattr(machine, sync, bool, raising=False)
    if there_is_one:
        shearbolt.open(path).close()
    place, there = 0, True
    while there:
        # A file that is open can have no other made in its place everywhere.
        name = path if there_is_one else f"{path}-{place}"
        kept, there = opened_or_interrupted(name, place, options)
        if isinstance(kept, shearbolt.DB):
            kept.close()
        if os.path.exists(name):
            other = OSStorage().open(name)
            assert other.lock(True), place
            other.close()
        place += 1
    assert place > 20
