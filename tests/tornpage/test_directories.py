"""Directories: made, renamed, synced, lost with all that is in them, and made again.

Programs that make, rename and remove directories, and recoveries that look into them,
list them and make them again, are compared with brute force (`test_several_crashes`).
"""

import contextlib
import itertools
import random

import pytest
from explorer_cases import differences, drawn_models
from test_several_crashes import compare, crash_after_crash

from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.disk.names import Names
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.platter.brute import TooManyImages
from tornpage.platter.entries import Entries, is_directory

FOLDERS = ("d", "d/e", "f")
FILES = ("c", "d/a", "d/e/b", "d/b", "f/a")
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
    elif what < 0.85:
        disk.unlink(name)
    elif what < 0.88:
        disk.rename(name, draw.choice(FILES))
    elif what < 0.91:
        disk.link(name, draw.choice(FILES))
    elif what < 0.97:
        disk.rename(folder, draw.choice(FOLDERS))
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


def moved_twice(look, model):
    """A directory that two changes move, of which a sync is only about the second."""
    files = {"d/a": b"\x01", "x/": b""}
    disk = Disk(files, model)
    disk.rename("d", "f")
    disk.rename("f", "x/g")
    disk.fsync_dir("x/g")
    return Explorer(
        files, disk.trace, lambda one: tuple(one.is_dir(name) for name in look), model
    )


def made_for_a_file(model):
    """A new directory that is synced by nothing but a file in it."""
    disk = Disk({}, model)
    disk.mkdir("d")
    disk.open("d/a", create=True).fsync()
    return Explorer({}, disk.trace, lambda one: one.exists("d/a"), model)


LOOKS = (("d",), ("d", "f", "x/g"), ("x/g", "f", "d"))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_directory_is_in_one_place(model, look):
    explorer = moved_twice(look, model)
    assert not differences(explorer, 200)[0]
    for closure in explorer.sweep():
        assert all(sum(one.outcome) <= 1 for one in closure.outcomes)


@pytest.mark.seeds(1)
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["names", "drawn"])
def test_what_is_known_of_directories_holds_from_point_to_point(models, seed):
    """A sweep reuses what nobody has changed; brute force does not."""
    agreed = 0
    for one in range(seed * 25, (seed + 1) * 25):
        explorer = first_life(one, models[one % len(models)], 9)
        found, same = differences(explorer, 200)
        assert not found, f"seed {one}, {explorer.model}"
        agreed += same
    assert agreed > 100


@pytest.mark.seeds(1)
@pytest.mark.parametrize("crashes", [1, 2, 3])
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["names", "drawn"])
def test_directories_are_lost_as_brute_force_loses_them(models, crashes, seed):
    seeds = range(seed * 30, (seed + 1) * 30)
    assert compare(seeds, models, lambda one: case(one, models, crashes)) > 2


def never_loses_a_directory(patch):
    right = Names._ask

    def ask(self, change, place):
        if any(is_directory(number) for _, number in change.changes):
            self._decide(change, kept=True)
            return True
        return right(self, change, place)

    patch.setattr(Names, "_ask", ask)


def fills_a_new_directory_with_what_was_in_the_old(patch):
    right = Entries.make_folder

    def make_folder(self, stamp, life, place):
        changes = [one for pending in self.pending for one in pending.changes]
        for at, number in (*changes, *self.settled.items()):
            if at == place and is_directory(number):
                return self.change(stamp, life, (place, number))
        return right(self, stamp, life, place)

    patch.setattr(Entries, "make_folder", make_folder)


def finds_a_directory_where_it_was_moved_from(patch):
    patch.setattr(Entries, "moves", lambda self, folder, place, since: iter(()))


def forgets_where_a_directory_was_moved_from(patch):
    patch.setattr(
        Entries, "_places", lambda self, changes: {place for place, _ in changes}
    )


def makes_a_directory_durable_with_its_entries(patch):
    right = Entries.of_directory

    def of_directory(self, directory, life):
        mine = {one.key for one in right(self, directory, life)}
        return [
            one
            for one in self.pending
            if one.key in mine or directory in {number for _, number in one.changes}
        ]

    patch.setattr(Entries, "of_directory", of_directory)


def syncs_a_file_without_the_way_to_it(patch):
    right = Entries.make_folder

    def make_folder(self, stamp, life, place):
        touched = right(self, stamp, life, place)
        self._made_with.clear()
        return touched

    patch.setattr(Entries, "make_folder", make_folder)


def loses_directories_that_nobody_made(patch):
    right = Entries.find_folder

    def find_folder(self, place):
        new = self.present(place) is None
        number = right(self, place)
        if new:
            del self.settled[place]
        return number

    patch.setattr(Entries, "find_folder", find_folder)


def takes_any_directory_for_one_that_was_there(patch):
    patch.setattr(
        Names,
        "is_unknown",
        lambda self, place: place not in self._mine | self._entries.settled.keys(),
    )


def forgets_that_directories_were_asked_for(patch):
    right = Life.folder

    def folder(self, place):
        found = right(self, place)
        self._watch.names.discard(place)
        return found

    patch.setattr(Life, "folder", folder)


def makes_links_durable_at_once(patch):
    right = Entries.change

    def change(self, stamp, life, *changes, directory=None):
        touched = right(self, stamp, life, *changes, directory=directory)
        ((place, number), *more) = changes
        if number in self.settled.values() and not more:
            self.pending.pop()
            self.settled[place] = number
        return touched

    patch.setattr(Entries, "change", change)


FAULTS = [
    never_loses_a_directory,
    fills_a_new_directory_with_what_was_in_the_old,
    finds_a_directory_where_it_was_moved_from,
    forgets_where_a_directory_was_moved_from,
    makes_a_directory_durable_with_its_entries,
    syncs_a_file_without_the_way_to_it,
    loses_directories_that_nobody_made,
    takes_any_directory_for_one_that_was_there,
    forgets_that_directories_were_asked_for,
    makes_links_durable_at_once,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_brute_force_notices_an_explorer_that(plant, monkeypatch):
    plant(monkeypatch)
    for model, look in itertools.product(MODELS, LOOKS):
        # A disk that loses its directories has none to be moved.
        with contextlib.suppress(FileNotFoundError):
            if differences(moved_twice(look, model), 200)[0]:
                return
    if any(differences(made_for_a_file(model), 200)[0] for model in MODELS):
        return
    for seed in range(400):
        model = MODELS[seed % len(MODELS)]
        with contextlib.suppress(TooManyImages):
            if seed % 4 == 0 and differences(first_life(seed, model, 9), 200)[0]:
                return
            reached, every = case(seed, MODELS, 2)
            if reached != every:
                return
    pytest.fail("no case told the faulty explorer from brute force")
