"""A failed sync of one file that may have killed the journal of all (`journal=shared`).

What is legal is said by the litmus lines. Here are random programs of several files,
of which the explorer and brute force find out by themselves which syncs do nothing:
the disk says so in the trace, brute force looks at what went before. Faults are planted
on both sides.
"""

import contextlib
import errno
import itertools
import random

import pytest
from explorer_cases import differences, random_recovery
from test_size_with_data import program

from tornpage.choices import Replay
from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer, explorer
from tornpage.model import PRESETS, CrashModel
from tornpage.platter.brute import Device, Platter, TooManyImages
from tornpage.trace import Forget, Truncate

MODELS = [
    CrashModel(
        tear=tear,
        order=order,
        size=size,
        entries=entries,
        names=names,
        fail=fail,
        journal="shared",
    )
    for tear, order, size, entries, names, fail in itertools.product(
        ("sector", "page"),
        ("any", "append", "ordered"),
        ("free", "with-data"),
        ("prefix", "free"),
        ("dirsync", "fsync"),
        ("clean", "unwritten"),
    )
    if order != "ordered" or fail != "unwritten"
]
NAMES = ("a", "b", "d/c")
_IMAGES = 300


def asking_again(seed, model):
    """(files, trace) of a program that syncs other files when one sync has failed."""
    draw = random.Random(seed)
    files = {name: b"\x01" * draw.choice((1, 600)) for name in NAMES[: seed % 3]}
    disk = Disk(files, model)
    handles = {name: disk.open(name, create=True) for name in NAMES}

    def change(step):
        file = handles[draw.choice(NAMES)]
        what = draw.random()
        if what < 0.6:
            file.pwritev([bytes([10 + step])], draw.choice((0, 1, 520)))
        elif what < 0.75:
            # Most often to the size that it has.
            file.ftruncate(draw.choice((1, 600, file.size(), file.size())))
        elif what < 0.85:
            disk.open("e", create=True)
        elif disk.exists("a"):
            disk.rename("a", "d/e")

    def sync():
        file = handles[draw.choice(NAMES)]
        with contextlib.suppress(OSError):
            if draw.random() < 0.3:
                disk.fsync_dir(draw.choice(NAMES))
            else:
                (file.fsync if draw.random() < 0.7 else file.fdatasync)()

    for step in range(draw.choice((1, 2, 3))):
        change(step)
    disk.fail_sync = lambda kind, *_: errno.EIO * (kind != "syncdir")
    sync()
    disk.fail_sync = None
    for step in range(draw.choice((1, 2, 3))):
        if draw.random() < 0.5:
            change(20 + step)
        sync()
    return files, disk.trace


def case(seed):
    model = MODELS[seed * 7 % len(MODELS)]
    files, trace = asking_again(seed, model)
    return Explorer(files, trace, random_recovery(seed), model, cap=4 * _IMAGES)


@pytest.mark.seeds(1)
def test_the_explorer_has_the_outcomes_of_brute_force(seed):
    agreed = idle = 0
    for number in range(seed * len(MODELS), (seed + 1) * len(MODELS)):
        explorer = case(number)
        found, same = differences(explorer, _IMAGES)
        assert not found, (number, str(explorer.model))
        agreed += same
        results = [getattr(one, "result", "") for one in explorer._operations]
        idle += "idle" in results
    assert agreed > 5 * len(MODELS)
    assert idle > len(MODELS) // 3


# -- faults of the disk, with which the explorer goes wrong ----------------------


def takes_a_failed_sync_for_one_of_its_file(patch):
    patch.setattr(Life, "_in_doubt", property(lambda _: False, lambda *_: None))


def believes_the_sync_of_a_file_behind_one(patch):
    right = Life.sync

    def sync(self, node, kind, path):
        result, number = right(self, node, kind, path)
        return "ok" if result == "idle" else result, number

    patch.setattr(Life, "sync", sync)


def believes_the_sync_of_a_directory_behind_one(patch):
    right = Life.sync_dir

    def sync_dir(self, path):
        result, number = right(self, path)
        return "ok" if result == "idle" else result, number

    patch.setattr(Life, "sync_dir", sync_dir)


def keeping_the_doubt(patch, method):
    right = getattr(Life, method)

    def change(self, *what):
        doubt = self._in_doubt
        found = right(self, *what)
        self._in_doubt = doubt
        return found

    patch.setattr(Life, method, change)


def stays_in_doubt_behind_a_write(patch):
    keeping_the_doubt(patch, "write")


def stays_in_doubt_behind_a_cut(patch):
    keeping_the_doubt(patch, "resize")


def stays_in_doubt_behind_a_name(patch):
    keeping_the_doubt(patch, "name")


def takes_a_cut_to_the_same_size_for_a_change(patch):
    right = Life.resize

    def resize(self, node, size):
        right(self, node, size)
        self._in_doubt = False

    patch.setattr(Life, "resize", resize)


# -- faults of brute force -------------------------------------------------------


def builds_other_files_as_if_they_were_synced(patch):
    never = property(lambda _: False, lambda *_: None)
    patch.setattr(Platter, "_may_be_dead", never, raising=False)


def builds_no_sync_behind_a_failed_one(patch):
    patch.setattr(Platter, "_changes", lambda self, record: False)


def builds_a_cut_to_the_same_size_as_a_change(patch):
    patch.setattr(Platter, "_changes", lambda self, record: True)


# Each with a case that shows it.
PLANTS = {
    takes_a_failed_sync_for_one_of_its_file: 0,
    believes_the_sync_of_a_file_behind_one: 6,
    believes_the_sync_of_a_directory_behind_one: 0,
    stays_in_doubt_behind_a_write: 3,
    stays_in_doubt_behind_a_cut: 49,
    stays_in_doubt_behind_a_name: 17,
    takes_a_cut_to_the_same_size_for_a_change: 33,
    builds_other_files_as_if_they_were_synced: 5,
    builds_no_sync_behind_a_failed_one: 9,
    builds_a_cut_to_the_same_size_as_a_change: 33,
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_difference_shows_a_side_that(plant, monkeypatch):
    assert not differences(case(PLANTS[plant]), _IMAGES)[0]
    plant(monkeypatch)
    # An explorer refuses the trace of such a disk, before anybody compares.
    monkeypatch.setattr(explorer, "departure", lambda *_: "")
    assert differences(case(PLANTS[plant]), _IMAGES)[0]


# -- what it means -----------------------------------------------------------------


def images(files, trace, model):
    platter = Platter(Device(files), model)
    for one in trace.operations():
        platter.apply(one)
    return {one.files["f"] for one in platter.images(_IMAGES)}


@pytest.mark.parametrize("fail", ["clean", "unwritten"])
def test_a_program_of_one_file_may_leave_what_it_may_leave_anyway(fail):
    compared = several = 0
    for number in range(120):
        seen = []
        for journal in ("own", "shared"):
            model = CrashModel(fail=fail, journal=journal)
            files, trace = program(number, model, failing=0.5)
            with contextlib.suppress(TooManyImages):
                seen.append(images(files, trace, model))
        if len(seen) == 2:
            assert seen[0] == seen[1], number
            compared += 1
            several += len(seen[0]) > 3
    assert compared > 80
    assert several > 40


def doubtful(model="journal=shared"):
    """A disk of which a sync has failed, with another file and a directory."""
    disk = Disk({"f": b"A", "g": b"A", "d/h": b"A"}, CrashModel.parse(model))
    disk.open("g").pwritev([b"B"], 0)
    disk.fail_sync = lambda *_: errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        disk.open("f").fsync()
    disk.fail_sync = None
    return disk


def results(disk):
    return [one.result for one in disk.trace if one.op.startswith("sync")]


@pytest.mark.parametrize(
    "change",
    [
        lambda disk: disk.open("f").pwritev([b"A"], 0),
        lambda disk: disk.open("d/h").ftruncate(0),
        lambda disk: disk.open("x", create=True),
        lambda disk: disk.rename("f", "x"),
        lambda disk: disk.link("f", "x"),
        lambda disk: disk.unlink("f"),
        lambda disk: disk.mkdir("x"),
    ],
    ids=["write", "truncate", "create", "rename", "link", "unlink", "mkdir"],
)
def test_syncs_of_all_files_and_directories_do_nothing_until(change):
    disk = doubtful()
    disk.open("g").fsync()
    disk.fsync_dir("d/h")
    disk.open_dir("d").fsync()
    disk.open("f").fdatasync()
    assert results(disk) == ["failed", "idle", "idle", "idle", "idle"]
    change(disk)
    disk.open("g").fsync()
    disk.fsync_dir("d/h")
    assert results(disk)[5:] == ["ok", "ok"]
    assert not disk.read_only


@pytest.mark.parametrize(
    "no_change",
    [
        lambda disk: disk.open("f").ftruncate(1),
        lambda disk: disk.open("f").pwritev([b""], 0),
        lambda disk: disk.open("f", create=True),
        lambda disk: disk.open("f").forget(),
        lambda disk: disk.rename("f", "f"),
        lambda disk: disk.kill(),
        lambda disk: disk.open("f").pread(1, 0),
    ],
    ids=["truncate", "write", "open", "forget", "rename", "kill", "read"],
)
@pytest.mark.parametrize("fail", ["clean", "unwritten"])
def test_what_no_file_system_refuses_shows_nothing_of_the_journal(no_change, fail):
    disk = doubtful(f"journal=shared,fail={fail}")
    no_change(disk)
    assert {type(one) for one in disk.trace.operations()[2:]} <= {Truncate, Forget}
    disk.open("g").fsync()
    assert results(disk) == ["failed", "idle"]


def test_the_next_life_has_a_journal_that_works():
    disk = doubtful().crash(Replay(()))
    disk.open("g").fsync()
    assert results(disk) == ["ok"]


def test_each_journal_of_its_own_is_told_of_its_own_syncs():
    disk = doubtful("journal=own")
    disk.open("g").fsync()
    assert results(disk) == ["failed", "ok"]


def test_the_file_systems_that_were_seen_to_do_it_have_it_and_no_others():
    shared = {name for name, one in PRESETS.items() if "journal" in one}
    assert shared == {"ext3-w", "ext3-o", "ext4-o", "ext4-fast-commit"}
