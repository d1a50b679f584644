"""Names after a crash, told a second time from the document alone.

The explorer and brute force share what they take the document to say. `Book` shares
none of their code. It follows a program with a tree of its own, notes every change of
names with the syncs that make it durable, and lays the changes that are kept over the
tree that there was:

    create d/x   #0  d/x -> file 1
    rename d e   #1  e -> the directory, d -> nothing
    fsync e/x        under names=fsync #0 is durable

    kept   entries=free     the durable ones with any of the others
           entries=prefix   the durable ones with all before, then a few more
           order=ordered    all up to some operation, any piece of the one under way

Of a file it knows one atom: what it has looked like since its sync, and its sizes. A
disk that lies is one whose syncs did nothing, for each few of them.

Left out: files of several atoms, bytes that a failed sync left (`test_size_with_data`),
directories that nobody made (`test_directories`).
"""

import contextlib
import errno
import itertools
import random
from dataclasses import dataclass, field

import pytest

from tornpage.choices import Enumerator
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.platter import transition
from tornpage.platter.entries import HERE, ROOT, Entries
from tornpage.trace import (
    Create,
    Link,
    Mkdir,
    Rename,
    Rmdir,
    Sync,
    SyncDir,
    Truncate,
    Unlink,
    Write,
)

MODELS = [
    CrashModel(
        tear="page",
        order=order,
        entries=entries,
        rename=rename,
        names=names,
        sync=sync,
        fail=fail,
    )
    for order, entries, rename, names, sync, fail in itertools.product(
        ("any", "ordered"),
        ("prefix", "free"),
        ("atomic", "synced", "split"),
        ("dirsync", "fsync"),
        ("honest", "lying:1", "lying:2"),
        ("clean", "read-only"),
    )
    if order == "any" or sync == "honest"
]
TOP = 0
# Changes that a crash may keep or lose, executions, states of a crash, and of the first
# of two: cases of more are not compared.
_PENDING, _EXECUTIONS, _STATES, _ROWS = 7, 3_000, 3_000, 100


class TooManyError(Exception):
    """A case that takes too long."""


# -- what the document says -----------------------------------------------------------


@dataclass
class Change:
    """Some names changed by one operation, all of them or none."""

    at: int
    names: tuple[tuple[tuple[int, str], int | None], ...]
    # Whose sync makes it durable; none: that of any that a name is in.
    folders: set[int] = field(default_factory=set)


@dataclass
class File:
    """What one atom and the size of a file have been since they were durable."""

    cache: bytes
    looks: list[tuple[int, bytes]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    changed: int = -1


def put(tree, changes):
    """The tree with these changes; a directory is in one place."""
    for place, one in changes:
        if one is not None and one < 0:
            tree = {at: other for at, other in tree.items() if other != one}
        tree = {at: other for at, other in tree.items() if at != place}
        if one is not None:
            tree[place] = one
    return tree


def paths(tree, folder=TOP, prefix=""):
    """(path, what it is) of everything that can be reached."""
    for (inside, name), one in sorted(tree.items()):
        if inside == folder:
            yield prefix + name, one
            if one < 0:
                yield from paths(tree, one, f"{prefix}{name}/")


class Book:
    """One life of a disk, and every state in which a crash may leave it."""

    def __init__(self, state, operations, model, lied=frozenset()):
        self.model = model
        self.atom = model.atom
        self.lied = lied
        self.now = {}
        self.folders = 0
        self.files = {}
        self.changes = []
        self.durable = set()
        # Of files whose sync has failed the changes that no sync is for.
        self.stuck = {}
        self.floor = -1
        files, links = state
        inode = 0
        for path, content in files:
            if path in dict(links):
                continue
            place = self.place(path.rstrip("/"))
            if path.endswith("/"):
                self.folders -= 1
                self.now[place] = self.folders
            else:
                inode += 1
                self.now[place] = inode
                self.files[inode] = self.new(content)
        for path, other in links:
            self.now[self.place(path)] = self.now[self.place(other)]
        self.before = dict(self.now)
        self.first = self.folders
        self.given = {}
        self.synced = None
        self.made = {}
        for at, one in enumerate(operations):
            self.follow(at, one)

    def new(self, content):
        return File(
            content, [(-1, content.ljust(self.atom, b"\0"))], [(-1, len(content))]
        )

    def place(self, path):
        *outer, last = path.split("/")
        folder = TOP
        for name in outer:
            folder = self.now[folder, name]
        return folder, last

    def change(self, at, *names):
        self.changes.append(Change(at, names))
        for place, one in names:
            # Of a name that is given: it, and what made the directories above it.
            self.given[place] = {len(self.changes) - 1}
            for folder in self.above(place[0]):
                self.given[place] |= self.made.get(folder, set())
            if one == self.folders and one not in self.made and one < self.first:
                self.made[one] = self.given[place]
        self.now = put(self.now, names)

    def above(self, folder):
        """A directory and those above it."""
        while folder != TOP:
            yield folder
            folder = next(at for (at, _), one in self.now.items() if one == folder)

    def follow(self, at, one):
        if isinstance(one, Create):
            self.files[one.inode] = self.new(b"")
            self.change(at, (self.place(one.path), one.inode))
        elif isinstance(one, Mkdir):
            self.folders -= 1
            self.change(at, (self.place(one.path), self.folders))
        elif isinstance(one, Unlink | Rmdir):
            self.stuck.pop(self.now[self.place(one.path)], None)
            self.change(at, (self.place(one.path), None))
        elif isinstance(one, Link):
            self.stuck.pop(self.now[self.place(one.path)], None)
            self.change(at, (self.place(one.target), self.now[self.place(one.path)]))
        elif isinstance(one, Rename):
            old, new = self.place(one.path), self.place(one.target)
            moved = self.now[old]
            self.stuck.pop(moved, None)
            mode = self.model.rename
            if mode == "synced" and moved == self.synced:
                # The new name first; that the old one goes is never without it.
                self.change(at, (new, moved))
                self.change(at, (old, None), (new, moved))
                self.changes[-1].folders = {old[0]}
            elif mode != "atomic":
                self.change(at, (new, None))
                self.change(at, (new, moved))
                self.change(at, (old, None))
            else:
                self.change(at, (new, moved), (old, None))
        elif isinstance(one, Write | Truncate):
            self.content(at, one)
        elif isinstance(one, SyncDir):
            self.synced = None
            if one.result == "ok" and at not in self.lied:
                self.sync_names(self.called_by_folder(self.place(one.path)[0]))
        else:
            self.synced = None
            if one.result in {"failed", "read-only"}:
                self.stick(one.inode)
            if one.result == "ok":
                self.synced = None if self.model.lies else one.inode
                self.sync_file(at, one)

    # -- bytes ---------------------------------------------------------------

    def content(self, at, one):
        file = self.files[one.inode]
        old = file.cache
        if isinstance(one, Write):
            head = old[: one.offset].ljust(one.offset, b"\0")
            new = head + one.data + old[one.offset + len(one.data) :]
        else:
            new = old[: one.size].ljust(one.size, b"\0")
        file.cache = new
        if isinstance(one, Write) or len(new) > len(old):
            look = new.ljust(self.atom, b"\0")
            if look != file.looks[-1][1]:
                file.looks.append((at, look))
                file.changed = at
        if len(new) != len(old):
            file.sizes.append((at, len(new)))
            file.changed = at

    def sync_file(self, at, one):
        file = self.files[one.inode]
        whole = file.cache.ljust(self.atom, b"\0")
        if at in self.lied:
            # What is behind the end may be zeroed.
            longer = any(size > len(file.cache) for _, size in file.sizes)
            if longer and whole != file.looks[-1][1]:
                file.looks.append((at, whole))
            return
        called = set()
        if self.model.names == "fsync" and one.kind == "fsync":
            called = self.called_by_name(one.inode)
        if self.model.order == "ordered":
            last = [file.changed, *(self.changes[n].at for n in called)]
            self.settle_all(max(last))
            return
        file.looks = [(-1, whole)]
        file.sizes = [(-1, len(file.cache))]
        self.sync_names(called)

    def settle_all(self, floor):
        """order=ordered: everything up to this operation is durable."""
        self.floor = max(self.floor, floor)
        for file in self.files.values():
            for some in (file.looks, file.sizes):
                while len(some) > 1 and some[1][0] <= floor:
                    del some[0]
            size = file.sizes[0][1]
            if file.looks[0][0] <= floor:
                stamp, look = file.looks[0]
                file.looks[0] = stamp, look[:size].ljust(self.atom, b"\0")

    # -- names ---------------------------------------------------------------

    def stick(self, inode):
        """No sync is for what gave this file its names, until it is changed."""
        given = {
            one.at for one in self.changes if inode in {what for _, what in one.names}
        }
        self.stuck[inode] = {n for n, one in enumerate(self.changes) if one.at in given}

    def called_by_folder(self, folder):
        called = {
            n
            for n, one in enumerate(self.changes)
            if folder in (one.folders or {at for (at, _), _ in one.names})
        }
        called = called.difference(*self.stuck.values())
        if self.model.names == "fsync":
            called |= self.called_by_name(folder)
        return called

    def called_by_name(self, one):
        """The changes that gave something the names it has, and made their folders."""
        called = set()
        for place, other in self.now.items():
            if other != one or place not in self.given:
                continue
            if max(self.given[place]) not in self.stuck.get(one, set()):
                called |= self.given[place]
        return called

    def sync_names(self, called):
        if not called:
            return
        if self.model.order == "ordered":
            self.settle_all(max(self.changes[n].at for n in called))
        elif self.model.entries == "prefix":
            self.durable |= set(range(max(called) + 1))
        else:
            self.durable |= called

    # -- after a crash -------------------------------------------------------

    def kept(self):
        """(which changes, position or None) of every crash."""
        every = range(len(self.changes))
        if self.model.order == "ordered":
            ends = {self.floor, *(one.at for one in self.changes)}
            for file in self.files.values():
                ends |= {at for at, _ in (*file.looks, *file.sizes)}
            for end in sorted(one for one in ends if one >= self.floor):
                there = {n for n in every if self.changes[n].at < end}
                under_way = [n for n in every if self.changes[n].at == end]
                if end == self.floor:
                    there, under_way = there | set(under_way), []
                for some in subsets(under_way):
                    yield there | some, end
                yield there | set(under_way), end
            return
        if self.model.entries == "prefix":
            first = max(self.durable, default=-1) + 1
            for end in range(first, len(self.changes) + 1):
                yield set(range(end)), None
            return
        for some in subsets([n for n in every if n not in self.durable]):
            yield self.durable | some, None

    def contents(self, file, end):
        found = set()
        for size, look in itertools.product(
            there(file.sizes, end), there(file.looks, end)
        ):
            found.add(look[:size])
        return found

    def states(self):
        """Every state that a crash may leave."""
        found = set()
        for kept, end in {(frozenset(some), at) for some, at in self.kept()}:
            tree = self.before
            for n, one in enumerate(self.changes):
                if n in kept:
                    tree = put(tree, one.names)
            names, folders = {}, []
            for path, one in paths(tree):
                if one < 0:
                    folders.append((f"{path}/", b""))
                else:
                    names.setdefault(one, []).append(path)
            choices = [self.contents(self.files[inode], end) for inode in names]
            links = tuple(
                sorted((n, same[0]) for same in names.values() for n in same[1:])
            )
            for some in itertools.product(*choices):
                files = [
                    (name, content)
                    for same, content in zip(names.values(), some, strict=True)
                    for name in same
                ]
                found.add((tuple(sorted((*folders, *files))), links))
                if len(found) > _STATES:
                    raise TooManyError
        return found


def subsets(items):
    if len(items) > _PENDING:
        raise TooManyError
    for n in range(len(items) + 1):
        yield from map(set, itertools.combinations(items, n))


def there(versions, end):
    """What may be there when the power goes during operation `end`."""
    if end is None:
        return [one for _, one in versions]
    before = [one for at, one in versions if at < end] or [versions[0][1]]
    return [before[-1], *(one for at, one in versions if at == end)]


def by_the_book(start, operations, model, lies):
    """Every state with the fewest lies that leave it."""
    syncs = [
        at
        for at, one in enumerate(operations)
        if isinstance(one, Sync | SyncDir) and one.result == "ok"
    ]
    found = {}
    for n in range(lies + 1):
        for lied in itertools.combinations(syncs, n):
            for state in Book(start, operations, model, frozenset(lied)).states():
                found.setdefault(state, n)
    return found


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
    life(seed * 3 + 1, length, 0.0 if writes else failing, writes, True, stubborn)(disk)
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


@pytest.mark.seeds(1)
@pytest.mark.parametrize(
    ("crashes", "writes"),
    [
        ("one crash", False),
        ("one crash", True),
        ("failed syncs", False),
        ("two crashes", False),
        ("two crashes", True),
    ],
    ids=lambda what: (
        what if isinstance(what, str) else "and bytes" if what else "names"
    ),
)
def test_a_crash_leaves_the_states_that_the_document_describes(crashes, writes, seed):
    some = cases(seed * len(MODELS) * 2, (seed + 1) * len(MODELS) * 2)
    found, several = first_difference(crashes, some, writes)
    assert found is None
    assert several > 60


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
}
BEHIND_FAILED_SYNCS = {
    settles_names_that_a_failed_sync_left,
    leaves_names_behind_that_are_written_again,
    leaves_half_a_rename_behind,
    lets_a_directory_bring_what_a_failed_sync_left,
    takes_what_a_failed_sync_left_out_of_the_order,
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
