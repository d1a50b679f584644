"""Directories: made, synced, lost with all that is in them, and made again.

Programs that make and remove directories, and recoveries that look into them, list
them and make them again, are compared with brute force (`test_several_crashes`).
"""

import contextlib
import itertools
import random

import pytest
from explorer_cases import differences, drawn_models
from test_several_crashes import compare, crash_after_crash

from tornpage.choices import Enumerator
from tornpage.disk import Disk
from tornpage.explore import CrashPoint, Explorer
from tornpage.model import CrashModel

FOLDERS = ("d", "d/e")
FILES = ("c", "d/a", "d/e/b", "d/b")
# Contents are not what this is about: pages that arrive or do not.
MODELS = [
    CrashModel(tear="page", order=order, entries=entries, names=names, sync=sync)
    for order, entries, names, sync in itertools.product(
        ("any", "ordered"),
        ("prefix", "free"),
        ("dirsync", "fsync"),
        ("honest", "lying:1"),
    )
    if (order, sync) != ("ordered", "lying:1")
]
DRAWN = drawn_models(2, 60)


def step(disk, draw, number):
    """One thing that a program does with directories and files in them."""
    what, name, folder = draw.random(), draw.choice(FILES), draw.choice(FOLDERS)
    if what < 0.25:
        disk.mkdir(folder)
    elif what < 0.33:
        disk.rmdir(folder)
    elif what < 0.6:
        file = disk.open(name, create=True)
        if draw.random() < 0.4:
            file.pwritev([bytes([10 + number])], 0)
        if draw.random() < 0.4:
            draw.choice((file.fsync, file.fdatasync))()
    elif what < 0.8:
        disk.fsync_dir(draw.choice((*FILES, *FOLDERS)))
    elif what < 0.88:
        disk.unlink(name)
    elif what < 0.94:
        disk.rename(name, draw.choice(FILES))
    elif disk.is_dir(folder):
        disk.listdir(folder)


def life(seed, length):
    def run(disk):
        draw = random.Random(seed)
        for number in range(length):
            with contextlib.suppress(OSError):
                step(disk, draw, number)

    return run


def first_files(draw):
    files = {}
    if draw.random() < 0.3:
        files["d/a"] = b"\x01"
    if draw.random() < 0.3:
        files[draw.choice(("d/", "d/e/"))] = b""
    return files


def random_look(seed):
    """A recovery that looks here and there, and puts some of it right."""

    def recover(disk):
        draw = random.Random(seed)
        seen = []
        for number in range(draw.choice((2, 3, 5))):
            what, name = draw.random(), draw.choice(FILES)
            folder = draw.choice((*FOLDERS, "."))
            try:
                if what < 0.25:
                    seen.append(disk.exists(name))
                elif what < 0.5:
                    seen.append(disk.open(name, read_only=True).pread(1, 0))
                elif what < 0.6:
                    seen.append(disk.is_dir(folder))
                elif what < 0.75:
                    seen.append(tuple(disk.listdir(folder)))
                elif disk.model.rename == "atomic":
                    step(disk, draw, 50 + number)
            except OSError as error:
                seen.append(error.errno)
        return tuple(seen)

    return recover


def first_life(seed, model, length):
    files = first_files(random.Random(seed))
    disk = Disk(files, model)
    life(seed * 3 + 1, length)(disk)
    return Explorer(files, disk.trace, random_look(seed + 1), model)


def case(seed, models, crashes=1):
    explorer = first_life(seed, models[seed % len(models)], 9 - crashes)
    draw = random.Random(seed)
    point = draw.choice([one for one in explorer.points() if not one.inside])
    lives = [
        (life(seed * 5 + 1000 * at, 4), draw.choice((1, 2, 3, None)))
        for at in range(crashes - 1)
    ]
    return crash_after_crash(explorer, point, lives, random_look(seed + 1))


@pytest.mark.seeds(2)
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["names", "drawn"])
def test_what_is_known_of_directories_holds_from_point_to_point(models, seed):
    """A sweep reuses what nobody has changed; brute force does not."""
    agreed = 0
    for one in range(seed * 50, (seed + 1) * 50):
        explorer = first_life(one, models[one % len(models)], 9)
        found, same = differences(explorer, 200)
        assert not found, f"seed {one}, {explorer.model}"
        agreed += same
    assert agreed > 200


@pytest.mark.seeds(2)
@pytest.mark.parametrize("crashes", [1, 2, 3])
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["names", "drawn"])
def test_directories_are_lost_as_brute_force_loses_them(models, crashes, seed):
    seeds = range(seed * 60, (seed + 1) * 60)
    assert compare(seeds, models, lambda one: case(one, models, crashes)) > 5
