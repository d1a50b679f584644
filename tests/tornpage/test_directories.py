"""Directories: made, synced, lost with all that is in them, and made again.

Programs that make and remove directories, and recoveries that look into them, list
them and make them again, are compared with brute force (`test_several_crashes`).
"""

import contextlib
import itertools
import random
from dataclasses import replace

import pytest
from explorer_cases import differences, drawn_models
from test_several_crashes import compare, crash_after_crash

from tornpage.brute import TooManyImages
from tornpage.disk import Disk
from tornpage.entries import Entries, above
from tornpage.explore import Explorer
from tornpage.life import Life
from tornpage.model import CrashModel
from tornpage.names import Names

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


def make_anew(disk, folder):
    """Empty a directory, remove it and make it again."""
    if disk.is_dir(folder):
        for name in disk.listdir(folder):
            (disk.rmdir if disk.is_dir(f"{folder}/{name}") else disk.unlink)(
                f"{folder}/{name}"
            )
        disk.rmdir(folder)
    disk.mkdir(folder)


def step(disk, draw, number):
    """One thing that a program does with directories and files in them."""
    what, name, folder = draw.random(), draw.choice(FILES), draw.choice(FOLDERS)
    if what < 0.15:
        disk.mkdir(folder)
    elif what < 0.27:
        make_anew(disk, folder)
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
                elif what < 0.85:
                    folder = draw.choice(FOLDERS)
                    if not disk.is_dir(folder):
                        disk.mkdir(folder)
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


@pytest.mark.seeds(1)
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


@pytest.mark.seeds(1)
@pytest.mark.parametrize("crashes", [1, 2, 3])
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["names", "drawn"])
def test_directories_are_lost_as_brute_force_loses_them(models, crashes, seed):
    seeds = range(seed * 60, (seed + 1) * 60)
    assert compare(seeds, models, lambda one: case(one, models, crashes)) > 5


def keeps_files_of_a_lost_directory(patch):
    patch.setattr(Disk, "_gap", lambda self, path: None)


def fills_a_new_directory_with_what_was_in_the_old(patch):
    right = Entries.change_folder

    def change(self, stamp, life, name, to):
        right(self, stamp, life, name, to)
        self.pending[-1] = replace(self.pending[-1], changes=((name, to),))

    patch.setattr(Entries, "change_folder", change)


def looks_into_a_directory_that_this_life_made(patch):
    right = Names.make

    def make(self, folder):
        right(self, folder)
        self._new.clear()

    patch.setattr(Names, "make", make)


def makes_a_directory_durable_with_its_entries(patch):
    right = Entries.of_directory

    def of_directory(self, directory, life):
        mine = right(self, directory, life)
        return self._with_the_way(mine, [f"{directory}/"], life)

    patch.setattr(Entries, "of_directory", of_directory)


def syncs_a_file_without_the_way_to_it(patch):
    patch.setattr(Entries, "_with_the_way", lambda self, mine, names, life: mine)


def loses_directories_that_nobody_made(patch):
    def found(self, name):
        new = [one for one in above(name) if one not in self.known]
        self.known.update(new)
        return new

    patch.setattr(Entries, "found", found)


def takes_any_directory_for_one_that_was_there(patch):
    right = Names.is_made
    patch.setattr(
        Names, "is_made", lambda self, name: right(self, name) is not None and None
    )


def forgets_that_directories_were_asked_for(patch):
    right = Life.folder

    def folder(self, name):
        found = right(self, name)
        self._watch.names.difference_update(FOLDERS)
        return found

    patch.setattr(Life, "folder", folder)


FAULTS = [
    keeps_files_of_a_lost_directory,
    fills_a_new_directory_with_what_was_in_the_old,
    looks_into_a_directory_that_this_life_made,
    makes_a_directory_durable_with_its_entries,
    syncs_a_file_without_the_way_to_it,
    loses_directories_that_nobody_made,
    takes_any_directory_for_one_that_was_there,
    forgets_that_directories_were_asked_for,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_brute_force_notices_an_explorer_that(plant, monkeypatch):
    plant(monkeypatch)
    for seed in range(400):
        model = MODELS[seed % len(MODELS)]
        with contextlib.suppress(TooManyImages):
            if seed % 4 == 0 and differences(first_life(seed, model, 9), 200)[0]:
                return
            reached, every = case(seed, MODELS, 2)
            if reached != every:
                return
    pytest.fail("no case told the faulty explorer from brute force")
