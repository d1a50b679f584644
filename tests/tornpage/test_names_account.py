"""Names after a crash: the explorer against an account from the document alone.

`names_book` has the account. Here are the random programs that both are given, with
syncs that work, fail and lie and one crash or two, and the faults that are noticed.
"""

import contextlib
import errno
import itertools
import random

import pytest
from names_book import (
    TooManyError,
    by_the_book,
)

from tornpage.choices import Enumerator
from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer, explorer
from tornpage.model import CrashModel
from tornpage.platter import transition
from tornpage.platter.entries import HERE, ROOT, Entries

MODELS = [
    CrashModel(
        tear="page",
        order=order,
        entries=entries,
        rename=rename,
        names=names,
        sync=sync,
        fail=fail,
        journal=journal,
    )
    for order, entries, rename, names, sync, (fail, journal) in itertools.product(
        ("any", "ordered"),
        ("prefix", "free"),
        ("atomic", "synced", "split"),
        ("dirsync", "fsync"),
        ("honest", "lying:1", "lying:2"),
        (("clean", "own"), ("read-only", "own"), ("clean", "shared")),
    )
    if order == "any" or sync == "honest"
]
# Executions, and states of the first of two crashes: cases of more are not compared.
_EXECUTIONS, _ROWS = 3_000, 100


# -- programs -------------------------------------------------------------------------

FOLDERS = ("d", "e", "d/e", "e/d")
NAMES = ("x", "y", "d/x", "e/x", "d/e/x")


def life(seed, length, failing=0.0, writes=False, looks=True, stubborn=False):
    """A program that does things to names, and perhaps to bytes.

    A stubborn one has only syncs of files that fail, and asks again at once.

    One that looks does only what can be done. One that does not leaves open what a
    crash has left open.
    """

    def run(disk):
        draw = random.Random(seed)
        handles = {}

        def some(names, there):
            if looks:
                names = [one for one in names if there(one)] or names[:1]
            return draw.choice(names)

        def free(names):
            name = draw.choice(names)
            outer = name.rpartition("/")[0]
            return name if not outer or disk.is_dir(outer) else name[-1]

        for number in range(length):
            what = draw.random()
            error = errno.EIO if draw.random() < failing else 0
            disk.fail_sync = lambda kind, *_, error=error: (
                0 if stubborn and kind == "syncdir" else error
            )
            if stubborn and handles and draw.random() < 0.4:
                what = 1.0
            with contextlib.suppress(OSError):
                if what < 0.2:
                    name = free(NAMES)
                    handles[name] = disk.open(name, create=True)
                    if writes and draw.random() < 0.7:
                        handles[name].pwritev([bytes([65 + number])], 0)
                elif what < 0.3:
                    disk.mkdir(free(FOLDERS))
                elif what < 0.34:
                    disk.rmdir(some(FOLDERS, disk.is_dir))
                elif what < 0.4:
                    disk.unlink(some(NAMES, disk.exists))
                elif what < 0.49:
                    disk.rename(some(NAMES, disk.exists), free(NAMES))
                elif what < 0.62:
                    disk.rename(some(FOLDERS, disk.is_dir), free(FOLDERS))
                elif what < 0.67:
                    disk.link(some(NAMES, disk.exists), free(NAMES))
                elif what < 0.76:
                    disk.fsync_dir(free((*NAMES, *FOLDERS)))
                elif what < 0.8:
                    disk.open_dir(some(FOLDERS, disk.is_dir)).fsync()
                elif not handles:
                    continue
                else:
                    name = draw.choice(sorted(handles))
                    file = handles[name]
                    if stubborn:
                        sync_again(disk, file, name, draw, free(NAMES))
                    elif not writes or what < 0.93:
                        (file.fsync if draw.random() < 0.8 else file.fdatasync)()
                    elif draw.random() < 0.5:
                        file.ftruncate(draw.choice((0, 1, 2)))
                    else:
                        file.pwritev([bytes([65 + number])], draw.choice((0, 1)))

    return run


def sync_again(disk, file, name, draw, other):
    """Sync a file; if that fails do something, or not, and sync it or its directory."""
    try:
        (file.fsync if draw.random() < 0.8 else file.fdatasync)()
    except OSError:
        disk.fail_sync = None
        what = draw.random()
        if what < 0.3:
            disk.link(name, other)
        elif what < 0.6:
            file, name = disk.open(other, create=True), other
        if draw.random() < 0.5:
            file.fsync()
        else:
            disk.fsync_dir(name)


def first_state(draw):
    files = {}
    for folder in ("d", "d/e", "e"):
        if draw.random() < 0.4 and (folder != "d/e" or "d/" in files):
            files[f"{folder}/"] = b""
    for name in NAMES:
        outer = name.rpartition("/")[0]
        if draw.random() < 0.3 and (not outer or f"{outer}/" in files):
            files[name] = b"0"
    return tuple(sorted(files.items())), ()


def walk(disk):
    """All that is on a disk, as a state."""
    found, inodes = [], {}

    def down(folder, prefix):
        for name in disk.listdir(folder):
            path = prefix + name
            if disk.is_dir(path):
                found.append((f"{path}/", b""))
                down(path, f"{path}/")
            else:
                file = disk.open(path)
                found.append((path, file.pread(9, 0)))
                inodes.setdefault(file._node.inode, []).append(path)

    down(".", "")
    # In the order of the account: the names of a file as a walk finds them.
    links = tuple(sorted((n, same[0]) for same in inodes.values() for n in same[1:]))
    return tuple(sorted(found)), links


def glance(seed):
    """A recovery that looks at a few names, in any order."""

    def look(disk):
        draw = random.Random(seed)
        seen = []
        for _ in range(draw.choice((1, 2, 3))):
            what, name = draw.random(), draw.choice((*NAMES, *FOLDERS))
            try:
                if what < 0.3:
                    seen.append(disk.exists(name))
                elif what < 0.6:
                    seen.append(disk.is_dir(name))
                elif what < 0.8:
                    seen.append(tuple(disk.listdir(name)))
                else:
                    seen.append(disk.open(name, read_only=True).pread(9, 0))
            except OSError as error:
                seen.append(error.errno)
        return tuple(seen)

    return look


def disk_of(state, model):
    files, links = state
    names = {path: content for path, content in files if path not in dict(links)}
    return Disk(names, model, None, dict(links))


def first_life(seed, model, writes, failing=0.1, stubborn=False):
    """What there was, an explorer of a program, and what looks at the disk."""
    start = first_state(random.Random(seed))
    disk = disk_of(start, model)
    length = (4, 5, 6, 8, 10)[seed % 5]
    if writes and not stubborn:
        failing = 0.0
    life(seed * 3 + 1, length, failing, writes, True, stubborn)(disk)
    recover = walk if seed % 3 else glance(seed)
    explorer = Explorer(dict(start[0]), disk.trace, recover, model, cap=_EXECUTIONS)
    return start, explorer, recover


def outcomes(states, recover, model):
    if recover is walk:
        return set(states)
    return {recover(disk_of(one, model)) for one in states}


def points_of_one_crash(seed, model, writes, **failing):
    """(point, outcomes by choices, outcomes by the book) of a program."""
    start, explorer, recover = first_life(seed, model, writes, **failing)
    operations = explorer._operations
    for closure in explorer.sweep():
        if closure.point.inside:
            continue
        done = operations[: closure.point.index]
        states = by_the_book(start, done, model, model.lies)
        if not closure.closed:
            raise TooManyError
        reached = {one.outcome for one in closure.outcomes}
        yield closure.point, reached, outcomes(states, recover, model)


def two_crashes(seed, model, writes):
    """(point, outcomes by choices, outcomes by the book) of two lives."""
    start, explorer, recover = first_life(seed, model, writes)
    operations = explorer._operations
    draw = random.Random(seed)
    again = life(seed * 3 + 2, draw.choice((2, 3, 4)), 0.0, writes, looks=False)
    point = draw.choice([one for one in explorer.points() if not one.inside])
    level = by_the_book(start, operations[: point.index], model, model.lies)
    if len(level) > _ROWS:
        raise TooManyError
    states = set()
    for state, lied in level.items():
        disk = disk_of(state, model)
        again(disk)
        done = disk.trace.operations()
        states |= by_the_book(state, done, model, model.lies - lied).keys()
    reached = set()
    chooser = Enumerator()
    for _ in range(_EXECUTIONS):
        disk = explorer.disk(point, chooser)
        again(disk)
        reached.add(recover(disk.crash(chooser)))
        if not chooser.advance():
            yield point, reached, outcomes(states, recover, model)
            return
    raise TooManyError


def points_behind_failed_syncs(seed, model, writes):
    """The same of a program that asks again when a sync of a file fails."""
    yield from points_of_one_crash(seed, model, writes, failing=0.7, stubborn=True)


CRASHES = {
    "one crash": points_of_one_crash,
    "failed syncs": points_behind_failed_syncs,
    "two crashes": two_crashes,
}


def first_difference(crashes, cases, writes):
    """The first crash told in two ways, if any; and how many left several states."""
    several = 0
    for seed, model in cases:
        with contextlib.suppress(TooManyError):
            for point, reached, book in CRASHES[crashes](seed, model, writes):
                if reached != book:
                    missing, excess = book - reached, reached - book
                    return (seed, str(model), str(point), missing, excess), several
                several += len(book) > 2
    return None, several


def cases(first, last):
    return ((seed, MODELS[seed % len(MODELS)]) for seed in range(first, last))


@pytest.mark.thorough(rows=3)
@pytest.mark.seeds(1)
@pytest.mark.parametrize(
    ("crashes", "writes"),
    [
        ("one crash", False),
        ("one crash", True),
        ("failed syncs", False),
        ("failed syncs", True),
        ("two crashes", False),
        ("two crashes", True),
    ],
    ids=lambda what: (
        what if isinstance(what, str) else "and bytes" if what else "names"
    ),
)
def test_a_crash_leaves_the_states_that_the_document_describes(crashes, writes, seed):
    some = cases(seed * len(MODELS), (seed + 1) * len(MODELS))
    found, several = first_difference(crashes, some, writes)
    assert found is None
    assert several > 30


def brings_renamed_directories_with_a_file(patch):
    """As it was until real file systems were seen not to."""
    right = Entries._keys_of

    def keys_of(self, number):
        keys = right(self, number)
        for folder, _ in self._named.get(number, ()):
            way = folder
            while way not in {HERE, ROOT}:
                for one in self.pending:
                    if way in {at for _, at in one.changes}:
                        keys |= {one.key}
                way = (self.place_of(way) or (HERE,))[0]
        return keys

    patch.setattr(Entries, "_keys_of", keys_of)


def leaves_new_directories_behind(patch):
    right = Entries.make_folder

    def make_folder(self, stamp, life, place):
        touched = right(self, stamp, life, place)
        self._made_with.clear()
        return touched

    patch.setattr(Entries, "make_folder", make_folder)


def brings_names_that_a_file_has_no_more(patch):
    def of_file(self, inode):
        keys = self._keys_of(inode)
        return [
            one
            for one in self.pending
            if one.key in keys or inode in {number for _, number in one.changes}
        ]

    patch.setattr(Entries, "of_file", of_file)


def forgets_the_name_of_a_directory_that_is_synced(patch):
    right = Entries._keys_of
    patch.setattr(
        Entries,
        "_keys_of",
        lambda self, number: right(self, number) if number > 0 else frozenset(),
    )


def makes_a_rename_durable_in_one_directory_only(patch):
    right = Entries.change

    def change(self, stamp, life, *changes, directory=None):
        (folder, _), _ = changes[0]
        only = folder if directory is None else directory
        return right(self, stamp, life, *changes, directory=only)

    patch.setattr(Entries, "change", change)


def forgets_that_a_directory_was_moved(patch):
    patch.setattr(Entries, "moves", lambda self, folder, place, since: iter(()))


def takes_every_file_for_synced(patch):
    patch.setattr(transition, "_just_synced", lambda image, number: number > 0)


def forgets_syncs_of_directories(patch):
    right = transition._just_synced

    def just_synced(image, number):
        if number in image.files and not image.model.lies:
            return image.files[number].synced >= 0
        return right(image, number)

    patch.setattr(transition, "_just_synced", just_synced)


def settles_names_that_a_failed_sync_left(patch):
    patch.setattr(Entries, "stick", lambda self, inode, life: None)


def leaves_names_behind_that_are_written_again(patch):
    patch.setattr(transition, "_change_again", lambda image, number: None)


def leaves_half_a_rename_behind(patch):
    def stick(self, inode, life):
        self.stuck[inode] = frozenset(
            one.key
            for one in self.pending
            if one.life == life and inode in {number for _, number in one.changes}
        )

    patch.setattr(Entries, "stick", stick)


def lets_a_directory_bring_what_a_failed_sync_left(patch):
    patch.setattr(Entries, "_all_stuck", lambda self: frozenset())


def takes_what_a_failed_sync_left_out_of_the_order(patch):
    right = Entries.upto

    def upto(self, newest):
        stuck = self._all_stuck()
        return [one for one in right(self, newest) if one.key not in stuck]

    patch.setattr(Entries, "upto", upto)


def explored_all_the_same(patch):
    """An explorer refuses the trace of such a disk, before the account sees it."""
    patch.setattr(explorer, "departure", lambda *_: "")


def takes_a_failed_sync_for_one_of_its_file(patch):
    explored_all_the_same(patch)
    patch.setattr(Life, "_in_doubt", property(lambda _: False, lambda *_: None))


def believes_the_sync_of_a_directory_behind_one(patch):
    explored_all_the_same(patch)
    right = Life.sync_dir

    def sync_dir(self, path):
        doubt, self._in_doubt = self._in_doubt, False
        found = right(self, path)
        self._in_doubt = doubt
        return found

    patch.setattr(Life, "sync_dir", sync_dir)


def stays_in_doubt_when_a_name_is_changed(patch):
    right = Life.name

    def name(self, place, number):
        doubt = self._in_doubt
        right(self, place, number)
        self._in_doubt = doubt

    patch.setattr(Life, "name", name)


# Each with a case that shows it.
PLANTS = {
    brings_renamed_directories_with_a_file: (935, "names=fsync,entries=free"),
    leaves_new_directories_behind: (13, "names=fsync,entries=free"),
    brings_names_that_a_file_has_no_more: (259, "names=fsync,order=ordered"),
    forgets_the_name_of_a_directory_that_is_synced: (23, "names=fsync"),
    makes_a_rename_durable_in_one_directory_only: (102, "entries=free"),
    forgets_that_a_directory_was_moved: (1, "rename=split"),
    takes_every_file_for_synced: (28, "rename=synced"),
    forgets_syncs_of_directories: (2279, "rename=synced"),
    settles_names_that_a_failed_sync_left: (30, "rename=split,names=fsync"),
    leaves_names_behind_that_are_written_again: (
        184,
        "order=ordered,entries=free,rename=synced",
    ),
    leaves_half_a_rename_behind: (284, "order=ordered,entries=free,rename=split"),
    lets_a_directory_bring_what_a_failed_sync_left: (
        76,
        "order=ordered,rename=synced",
    ),
    takes_what_a_failed_sync_left_out_of_the_order: (582, "names=fsync"),
    takes_a_failed_sync_for_one_of_its_file: (4, "journal=shared"),
    believes_the_sync_of_a_directory_behind_one: (13, "journal=shared,names=fsync"),
    stays_in_doubt_when_a_name_is_changed: (41, "journal=shared,entries=free"),
}
BEHIND_FAILED_SYNCS = {
    settles_names_that_a_failed_sync_left,
    leaves_names_behind_that_are_written_again,
    leaves_half_a_rename_behind,
    lets_a_directory_bring_what_a_failed_sync_left,
    takes_what_a_failed_sync_left_out_of_the_order,
    takes_a_failed_sync_for_one_of_its_file,
    believes_the_sync_of_a_directory_behind_one,
    stays_in_doubt_when_a_name_is_changed,
}


def shown(plant):
    """The difference in the case of a plant."""
    seed, model = PLANTS[plant]
    case = seed, CrashModel.parse(f"tear=page,{model}")
    crashes = "failed syncs" if plant in BEHIND_FAILED_SYNCS else "one crash"
    return first_difference(crashes, [case], False)[0]


@pytest.mark.parametrize("plant", PLANTS)
def test_the_account_notices_an_explorer_that(plant, monkeypatch):
    assert shown(plant) is None
    plant(monkeypatch)
    assert shown(plant) is not None
