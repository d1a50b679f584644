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

import itertools
from dataclasses import dataclass, field

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

TOP = 0
# Changes that a crash may keep or lose, and states of a crash: cases of more are not
# compared.
_PENDING, _STATES = 7, 3_000


class TooManyError(Exception):
    """A case that takes too long."""


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
        # Whether the file system may be read-only, and no call has said so.
        self.silent = False
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
        worked = self.works(at, one)
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
            if worked and at not in self.lied:
                self.sync_names(self.called_by_folder(self.place(one.path)[0]))
        else:
            self.synced = None
            if one.result in {"failed", "read-only"}:
                file = self.files[one.inode]
                if len(file.looks) > 1 or len(file.sizes) > 1:
                    raise TooManyError
                self.stick(one.inode)
            if worked:
                self.synced = None if self.model.lies else one.inode
                self.sync_file(at, one)

    def works(self, at, one):
        """Whether this is a sync that returned 0 and did what it is for."""
        if isinstance(one, Truncate):
            self.silent &= one.size == len(self.files[one.inode].cache)
        elif not isinstance(one, Sync | SyncDir):
            self.silent = False
        elif one.result in {"ok", "idle"}:
            return not self.silent
        elif one.result != "failed" or self.model.journal == "shared":
            self.silent = True
        return False

    # -- bytes ---------------------------------------------------------------

    def content(self, at, one):
        file = self.files[one.inode]
        old = file.cache
        if isinstance(one, Write):
            # What was cut off has been zero since then.
            cut = old.ljust(self.atom, b"\0")
            if cut != file.looks[-1][1]:
                file.looks.append((file.sizes[-1][0], cut))
            head = old[: one.offset].ljust(one.offset, b"\0")
            new = head + one.data + old[one.offset + len(one.data) :]
        else:
            new = old[: one.size].ljust(one.size, b"\0")
        if isinstance(one, Write) or len(new) != len(old):
            self.stuck.pop(one.inode, None)
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
