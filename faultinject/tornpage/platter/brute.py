"""Every image of a crash, built in full: the check on the explorer.

Theory
======
This module says again, in the simplest way, what a crash model allows, and
shares no code with `cell`, `image`, `transition` and `life`, only what garbage
looks like. It keeps the whole page cache of every file, notes after each operation
what each atom of it looked like, and at a crash takes the product of all
possibilities.
It is slow on purpose: two small programs that agree on thousands of random
cases are worth more than one clever one.

    a crash        for each set of syncs that may have lied: a platter on which
                   these did nothing
    order=any      product over atoms of (versions, mixtures, garbage), over
                   sizes, over sets of changes of names
    order=append   the same for each position among the appends of each file
    order=ordered  the same for each position among all operations

A version has a level, the position from which on it is there. At position c the
legal ones are those that c has reached and that nothing before c has replaced.

Names are a tree of numbers, made anew for each set of changes that is kept: entries
are (directory, name) -> file or directory, and a directory has one place.

What it is not: it has no place in a run. Beyond a limit it refuses.
"""

from __future__ import annotations

import functools
import itertools
import math
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tornpage.platter.damage import garbage
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from tornpage.model import CrashModel
    from tornpage.trace import Operation

__all__ = ["Device", "Platter", "TooManyImages", "arrives_in_pieces", "platters"]

_END = 1 << 60
# Directories are numbers below zero; names begin in one of these.
_HERE, _ROOT = -1, -2


class TooManyImages(ValueError):  # noqa: N818 - a refusal, not a defect.
    """There are more images than the caller was ready to wait for."""


class _Version(NamedTuple):
    """One content of an atom: who made it, from where on it is there."""

    stamp: int
    level: int
    content: bytes


class _Change(NamedTuple):
    """One change of names; stamp -1 once it is durable."""

    stamp: int
    number: int
    changes: list[tuple[_Place, int | None]]


@dataclass(slots=True)
class _File:
    """The page cache of one file and what became of each atom.

    `versions` has for each atom its contents, durable first; `sizes` has
    (stamp, size); `grown` has (stamp, first, last byte + 1); `fresh` has (atom,
    stamp, whether its sync failed) for each atom that a write brought by making
    the file longer; `stuck` are atoms that no sync writes, `again` has for those
    that were stuck the stamp of the operation that changed it.
    """

    cache: bytearray
    versions: dict[int, list[_Version]] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grown: list[tuple[int, int, int]] = field(default_factory=list)
    fresh: list[tuple[int, int, bool]] = field(default_factory=list)
    stuck: set[int] = field(default_factory=set)
    again: dict[int, int] = field(default_factory=dict)
    synced: int = -1


class Device(NamedTuple):
    """A device of which nothing is undecided, as `Disk` takes it.

    Attributes:
        files: Content by name; a name that ends with "/" is a directory.
        known: Names that there have been, with "/" behind directories that were made.
        links: Further names of files, each with one that is in `files`.
    """

    files: dict[str, bytes]
    known: frozenset[str] | None = None
    links: frozenset[tuple[str, str]] = frozenset()


_Place = tuple[int, str]
_Tree = dict[_Place, int]
_T = TypeVar("_T")


def platters(
    start: Device,
    model: CrashModel,
    operations: Sequence[Operation],
    lies: int | None = None,
) -> Iterator[tuple[int, Platter]]:
    """Every platter that lying syncs may leave, with the number of lies.

    Args:
        start: What there was before.
        model: What a crash may do.
        operations: What was done.
        lies: How many syncs may lie; None: as many as the model says.
    """
    syncs = [
        at
        for at, one in enumerate(operations)
        if isinstance(one, Sync | SyncDir) and one.result == "ok"
    ]
    for n in range((model.lies if lies is None else lies) + 1):
        for lied in itertools.combinations(syncs, n):
            platter = Platter(start, model, frozenset(lied))
            for record in operations:
                platter.apply(record)
            yield n, platter


def arrives_in_pieces(record: Operation) -> bool:
    """Whether a crash inside leaves what one after it may leave.

    Everything but a sync; of a sync that fails some pages may have failed
    already and not others. Going read-only takes nothing back.
    """
    if isinstance(record, Sync):
        return record.result in {"failed", "silent", "read-only"}
    return not isinstance(record, SyncDir)


class Platter:
    """All versions of everything, after some operations.

    Args:
        start: What there was before.
        model: What a crash may do.
        lied: Which operations are syncs that do nothing.
    """

    def __init__(
        self,
        start: Device,
        model: CrashModel,
        lied: frozenset[int] = frozenset(),
    ) -> None:
        self._model = model
        self._lied = lied
        self._files: dict[int, _File] = {}
        self._names: _Tree = {}
        # Places that had an entry at any time, directories that somebody made.
        self._spoken: set[_Place] = set()
        self._made: set[int] = set()
        # Those that were made by an operation.
        self._makings: set[int] = set()
        self._folders = _ROOT
        self._changes: list[_Change] = []
        self._clock = 0
        # The file that the last sync was of; changes of which the first half counts.
        self._just_synced: int | None = None
        self._halves: set[int] = set()
        for name in sorted(start.files):
            place = self._place(name.rstrip("/"))
            if name.endswith("/"):
                self._found(place)
            else:
                inode = self._names[place] = len(self._files) + 1
                self._files[inode] = self._new_file(start.files[name])
        for name, other in start.links:
            self._names[self._place(name)] = self._names[self._place(other)]
        known = start.known
        if known is None:
            known = frozenset(name for name in start.files if name.endswith("/"))
        paths = _paths(self._names)
        for name in known:
            outer, _, last = name.rstrip("/").rpartition("/")
            folder = paths.get(outer + "/" * (outer != "" or name.startswith("/")))
            if folder is not None:
                self._spoken.add((folder, last))
                if name.endswith("/") and (folder, last) in self._names:
                    self._made.add(self._names[folder, last])

    def apply(self, record: Operation) -> None:
        """Advance by one operation."""
        stamp = self._clock
        self._clock += 1
        if isinstance(record, Sync | SyncDir):
            self._just_synced = None
            if isinstance(record, Sync) and record.result == "ok":
                self._just_synced = None if self._model.lies else record.inode
        if isinstance(record, Write):
            self._write(self._files[record.inode], record, stamp)
        elif isinstance(record, Truncate):
            file = self._files[record.inode]
            old = len(file.cache)
            if record.size > old:
                file.cache.extend(bytes(record.size - old))
                tail = {old // self._model.atom} if old % self._model.atom else set()
                self._note(file, old, record.size, stamp, handed=tail)
            del file.cache[record.size :]
            if record.size != old:
                file.sizes.append((stamp, record.size))
        elif isinstance(record, Sync):
            self._sync(record, stamp)
        elif isinstance(record, SyncDir):
            if record.result == "ok" and stamp not in self._lied:
                folder = posixpath.dirname(record.path)
                paths = _paths(self._tree(self._changes))
                directory = paths.get(folder.rstrip("/") + "/" if folder else "")
                mine = {
                    one.number
                    for one in self._changes
                    if directory in self._directories(one)
                }
                if self._model.names == "fsync" and directory is not None:
                    mine |= self._called(directory)
                self._sync_names(mine)
        elif isinstance(record, Create):
            self._files[record.inode] = self._new_file(b"")
            self._rename(stamp, (self._place(record.path), record.inode))
        elif isinstance(record, Link):
            inode = self._tree(self._changes)[self._place(record.path)]
            self._rename(stamp, (self._place(record.target), inode))
        elif isinstance(record, Rename):
            source = self._place(record.path)
            inode = self._found(source)
            target = self._place(record.target)
            if self._model.rename == "atomic":
                self._rename(stamp, (target, inode), (source, None))
            elif self._model.rename == "synced" and inode == self._just_synced:
                # A sync of one directory, or one of two changes, is half of it.
                self._rename(stamp, (target, inode))
                self._rename(stamp, (source, None), (target, inode))
                self._halves.add(len(self._changes) - 1)
            else:
                self._rename(stamp, (target, None))
                self._rename(stamp, (target, inode))
                self._rename(stamp, (source, None))
        elif isinstance(record, Unlink):
            self._rename(stamp, (self._place(record.path), None))
        elif isinstance(record, Mkdir):
            place = self._place(record.path)
            self._folders -= 1
            self._made.add(self._folders)
            self._makings.add(self._folders)
            self._rename(stamp, (place, self._folders))
        elif isinstance(record, Rmdir):
            place = self._place(record.path)
            self._found(place)
            self._rename(stamp, (place, None))

    def images(self, limit: int) -> Iterator[Device]:
        """Every image; some may come more than once.

        Raises:
            TooManyImages: There are more than `limit`.
        """
        made = 0
        in_order = self._model.order == "ordered"
        for place in range(self._clock + 1) if in_order else (None,):
            for tree in self._name_states(place):
                paths = _paths(tree)
                folders = {path: b"" for path in paths if path not in {"", "/"}}
                names: dict[int, list[str]] = {}
                for path, folder in paths.items():
                    for (inside, name), number in tree.items():
                        if inside == folder and number > 0:
                            names.setdefault(number, []).append(path + name)
                names = {inode: sorted(some) for inode, some in names.items()}
                inodes = sorted(names)
                known = self._known(tree, paths)
                links = frozenset(
                    (other, first)
                    for first, *others in names.values()
                    for other in others
                )
                states = [
                    self._file_states(self._files[inode], place, limit)
                    for inode in inodes
                ]
                made = _within(limit, made, states)
                for contents in itertools.product(*states):
                    found = {
                        names[inode][0]: content
                        for inode, content in zip(inodes, contents, strict=True)
                    }
                    yield Device({**folders, **found}, known, links)

    def _known(self, tree: _Tree, paths: Mapping[str, int]) -> frozenset[str]:
        """Names that there have been, as far as an image can tell where."""
        there = {folder: path for path, folder in paths.items()}
        return frozenset(
            there[folder] + name + "/" * (tree.get((folder, name)) in self._made)
            for folder, name in self._spoken | self._names.keys()
            if folder in there
        )

    # -- what operations do --------------------------------------------------

    def _new_file(self, content: bytes) -> _File:
        file = _File(bytearray(content))
        file.sizes = [(-1, len(content))]
        atom = self._model.atom
        for at in range(-(-len(content) // atom)):
            file.versions[at] = [_Version(-1, -1, self._atom(file, at))]
        return file

    def _atom(self, file: _File, at: int) -> bytes:
        atom = self._model.atom
        return bytes(file.cache[at * atom : (at + 1) * atom]).ljust(atom, b"\0")

    def _chain(self, file: _File, at: int) -> list[_Version]:
        zero = _Version(-1, -1, bytes(self._model.atom))
        return file.versions.setdefault(at, [zero])

    def _write(self, file: _File, record: Write, stamp: int) -> None:
        atom = self._model.atom
        end = record.offset + len(record.data)
        old = len(file.cache)
        longer = range(0)
        if end > old:
            file.cache.extend(bytes(end - old))
            file.sizes.append((stamp, end))
            begin = max(old, record.offset)
            file.grown.append((stamp, begin, end))
            longer = range(begin // atom, -(-end // atom))
            if self._model.extend == "garbage":
                file.fresh += [(at, stamp, False) for at in longer if at * atom >= old]
        file.cache[record.offset : end] = record.data
        handed = {*range(record.offset // atom, -(-end // atom))}
        if end > old and old % atom:
            handed.add(old // atom)
        self._note(file, min(old, record.offset), end, stamp, longer, handed)

    def _note(
        self,
        file: _File,
        start: int,
        end: int,
        stamp: int,
        longer: range = range(0),
        handed: AbstractSet[int] = frozenset(),
    ) -> None:
        """Take a snapshot of the atoms that [start, end) touches.

        `handed` are those that go to the drive even with the bytes they have.
        """
        atom, order = self._model.atom, self._model.order
        for at in range(start // atom, -(-end // atom)):
            if at in file.stuck:
                file.stuck.remove(at)
                file.again[at] = stamp
            chain = self._chain(file, at)
            now = self._atom(file, at)
            if chain[-1].content != now or (self._model.spoils and at in handed):
                own = order == "ordered" or (order == "append" and at in longer)
                level = stamp if own else chain[-1].level
                chain.append(_Version(stamp, level, now))

    def _sync(self, record: Sync, stamp: int) -> None:
        file = self._files[record.inode]
        if record.result in {"failed", "silent", "read-only"}:
            self._stick(file)
        elif record.result == "reverted":
            self._revert(file)
        elif record.result == "ok":
            file.synced = stamp
            file.again = {}
            if stamp in self._lied:
                longest = max(size for _, size in file.sizes)
                if longest > len(file.cache):
                    stuck = set(file.stuck)
                    chains = {at: list(file.versions[at]) for at in stuck}
                    self._note(file, len(file.cache), longest, stamp)
                    file.versions.update(chains)
                    file.stuck = stuck
                return
            mine = set()
            if self._model.names == "fsync" and record.kind == "fsync":
                mine = self._called(record.inode)
            if self._model.order == "ordered":
                stamps = [
                    chain[-1].stamp
                    for at, chain in file.versions.items()
                    if at not in file.stuck
                ]
                stamps += [file.sizes[-1][0], *map(self._stamp, mine)]
                self._settle(max(stamps))
            else:
                self._settle_file(file, stamp)
                self._sync_names(mine)

    def _stick(self, file: _File) -> None:
        """Some of it arrived, nothing of it will be tried again."""
        for at, chain in file.versions.items():
            if len(chain) > 1:
                file.stuck.add(at)
                chain[:] = [one._replace(level=-1) for one in chain]
        for at, _, _ in file.fresh:
            self._chain(file, at)
            file.stuck.add(at)
        file.fresh = [(at, stamp, True) for at, stamp, _ in file.fresh]
        file.grown = []

    def _revert(self, file: _File) -> None:
        """Back to the last sync, in the cache and on the platter."""
        since = file.synced
        for chain in file.versions.values():
            chain[1:] = [one for one in chain[1:] if one.stamp <= since]
        file.sizes[1:] = [one for one in file.sizes[1:] if one[0] <= since]
        file.grown = [one for one in file.grown if one[0] <= since]
        file.fresh = [one for one in file.fresh if one[1] <= since]
        size = file.sizes[-1][1]
        atoms = range(-(-size // self._model.atom))
        content = b"".join(self._chain(file, at)[-1].content for at in atoms)
        file.cache = bytearray(content[:size])

    def _settle(self, stamp: int) -> None:
        if stamp < 0:
            return
        for file in self._files.values():
            self._settle_file(file, stamp)
        self._make_durable({one.number for one in self._changes if one.stamp <= stamp})

    def _settle_file(self, file: _File, stamp: int) -> None:
        """Everything up to `stamp` is durable; nothing is left behind the end."""
        kept = file.stuck | {at for at, one in file.again.items() if one > stamp}
        size = [one for at, one in file.sizes if at <= stamp][-1]
        file.sizes = [(-1, size)] + [one for one in file.sizes if one[0] > stamp]
        file.grown = [one for one in file.grown if one[0] > stamp]
        file.fresh = [one for one in file.fresh if one[0] in kept or one[1] > stamp]
        atom = self._model.atom
        for at, chain in file.versions.items():
            if at in kept:
                continue
            whole = [one.content for one in chain if one.stamp <= stamp][-1]
            durable = whole[: max(size - at * atom, 0)].ljust(atom, b"\0")
            rest = [one for one in chain if one.stamp > stamp]
            if rest and whole != durable == rest[0].content:
                rest.pop(0)
            chain[:] = [_Version(-1, -1, durable), *rest]

    def _place(self, path: str) -> _Place:
        """Where something is done; the directories on the way have been there."""
        folder = _ROOT if path.startswith("/") else _HERE
        *outer, last = path.strip("/").split("/")
        for name in outer:
            folder = self._found((folder, name))
        return folder, last

    def _found(self, place: _Place) -> int:
        """What is in a place: if nothing is, a directory that has been there."""
        tree = self._tree(self._changes)
        if place not in tree:
            self._folders -= 1
            self._names[place] = self._folders
            return self._folders
        return tree[place]

    def _rename(self, stamp: int, *changes: tuple[_Place, int | None]) -> None:
        self._spoken.update(place for place, _ in changes)
        self._changes.append(_Change(stamp, len(self._changes), [*changes]))

    def _pending(self) -> list[_Change]:
        return [one for one in self._changes if one.stamp >= 0]

    def _directories(self, one: _Change) -> set[int]:
        """Whose sync makes a change durable."""
        changes = one.changes[:1] if one.number in self._halves else one.changes
        return {place[0] for place, _ in changes}

    def _stamp(self, number: int) -> int:
        return self._changes[number].stamp

    def _called(self, number: int) -> set[int]:
        """The changes that give a file or directory its names, with what they need."""
        tree = self._tree(self._changes)
        called: set[int] = set()
        for place, other in tree.items():
            if other == number:
                called |= self._needed(place, len(self._changes))
        return called

    def _needed(self, place: _Place, before: int) -> set[int]:
        """The newest change of a place, and those that made directories for it."""
        newest = [
            one.number
            for one in self._changes[:before]
            if place in {at for at, _ in one.changes}
        ][-1:]
        needed = set(newest)
        for number in newest:
            tree = self._tree(self._changes[:number])
            above = {other: inside for (inside, _), other in tree.items()}
            folder = place[0]
            while folder not in {_HERE, _ROOT}:
                # The first change of a directory that was made made it.
                first = [
                    (one.number, at)
                    for one in self._changes
                    for at, other in one.changes
                    if other == folder and folder in self._makings
                ][:1]
                for made, at in first:
                    needed |= self._needed(at, made + 1)
                folder = above.get(folder, _HERE)
        return needed

    def _sync_names(self, mine: set[int]) -> None:
        mine &= {one.number for one in self._pending()}
        if not mine:
            return
        if self._model.order == "ordered":
            self._settle(max(map(self._stamp, mine)))
        elif self._model.entries == "prefix":
            self._make_durable(set(range(max(mine) + 1)))
        else:
            self._make_durable(mine)

    def _make_durable(self, numbers: set[int]) -> None:
        self._changes = [
            one._replace(stamp=-1) if one.number in numbers else one
            for one in self._changes
        ]

    # -- what a crash leaves -------------------------------------------------

    def _tree(self, changes: Iterable[_Change]) -> _Tree:
        tree = dict(self._names)
        for one in changes:
            for place, number in one.changes:
                if number is not None and number < 0:
                    tree = {at: other for at, other in tree.items() if other != number}
                tree.pop(place, None)
                if number is not None:
                    tree[place] = number
        return tree

    def _name_states(self, place: int | None) -> list[_Tree]:
        if place is not None:
            open_ones = [one.number for one in self._changes if one.stamp == place]
            there = {one.number for one in self._changes if one.stamp < place}
        else:
            open_ones = [one.number for one in self._changes if one.stamp >= 0]
            there = {one.number for one in self._changes if one.stamp < 0}
        if place is None and self._model.entries == "prefix":
            kept = [set(open_ones[:n]) for n in range(len(open_ones) + 1)]
        else:
            kept = [
                set(some)
                for n in range(len(open_ones) + 1)
                for some in itertools.combinations(open_ones, n)
            ]
        states = [
            self._tree(one for one in self._changes if one.number in there | some)
            for some in kept
        ]
        return [one for at, one in enumerate(states) if one not in states[:at]]

    def _file_states(self, file: _File, place: int | None, limit: int) -> list[bytes]:
        places: Sequence[int | None] = (place,)
        if self._model.order == "append":
            levels = {one.level for chain in file.versions.values() for one in chain}
            places = [*sorted(levels), _END]
        made = 0
        states: list[bytes] = []
        for where in places:
            for n, (stamp, size) in enumerate(file.sizes):
                if place is not None and not self._size_is_there(file, n, place):
                    continue
                choices: list[list[bytes]] = []
                for at in range(-(-size // self._model.atom)):
                    choices.append(self._atom_states(file, at, stamp, where))
                    _within(limit, made, choices)
                made = _within(limit, made, choices)
                states += [b"".join(one)[:size] for one in itertools.product(*choices)]
        return _distinct(states)

    def _size_is_there(self, file: _File, n: int, place: int) -> bool:
        begun = not n or file.sizes[n][0] <= place
        return begun and (n + 1 == len(file.sizes) or file.sizes[n + 1][0] >= place)

    def _there(self, chain: list[_Version], place: int | None) -> list[bool]:
        """Which versions are legal at a position."""
        if place is None:
            return [True] * len(chain)
        found = []
        for n, one in enumerate(chain):
            later = [other.level for other in chain if other.level > one.level]
            begun = not n or one.level <= place
            found.append(begun and place <= min(later, default=_END))
        return found

    def _came(self, file: _File, at: int, arrived: int) -> int:
        """The last write that came to an atom with the size of operation `arrived`."""
        model, atom = self._model, self._model.atom
        came = -1
        if model.size == "with-data" and model.order != "ordered":
            for stamp, start, end in file.grown:
                if stamp > arrived:
                    continue
                # What the file was cut to since: the rest is not what this size shows.
                least = min(size for t, size in file.sizes if stamp <= t <= arrived)
                shown = min(end, least)
                if start < shown and start < (at + 1) * atom and at * atom < shown:
                    came = stamp
        return came

    def _oldest(self, file: _File, at: int, arrived: int) -> int:
        """The first version that goes with the size of operation `arrived`."""
        came = self._came(file, at, arrived)
        if came < 0:
            return 0
        chain = file.versions[at]
        return max(n for n, one in enumerate(chain) if one.stamp <= came)

    def _legal(
        self, file: _File, at: int, arrived: int, place: int | None
    ) -> list[bool]:
        """Which versions go with that size and that position."""
        oldest = self._oldest(file, at, arrived)
        there = self._there(file.versions[at], place)
        return [one and n >= oldest for n, one in enumerate(there)]

    def _in_flight(self, file: _File, at: int, arrived: int, place: int | None) -> bool:
        """Whether one version may be replacing another."""
        legal = self._legal(file, at, arrived, place)
        return any(one and other for one, other in itertools.pairwise(legal))

    def _atom_states(
        self, file: _File, at: int, arrived: int, place: int | None
    ) -> list[bytes]:
        """Contents of an atom when the size of operation `arrived` is there."""
        model, atom = self._model, self._model.atom
        chain = self._chain(file, at)
        legal = self._legal(file, at, arrived, place)
        contents = [
            one.content for one, there in zip(chain, legal, strict=True) if there
        ]
        if not contents:
            # The size does not go with the position; damage does not change that.
            return []
        if model.tear in {"byte", "garbage"}:
            contents = [*_with_mixtures(tuple(contents))]
        if self._may_be_garbage(file, at, arrived, place):
            contents.append(garbage(at, atom))
        return _distinct(contents)

    def _may_be_garbage(
        self, file: _File, at: int, arrived: int, place: int | None
    ) -> bool:
        model, atom = self._model, self._model.atom
        if model.tear == "garbage" and self._in_flight(file, at, arrived, place):
            return True
        if model.unit != "none":
            each = max(int(model.unit) // atom, 1)
            for other in range(at // each * each, at // each * each + each):
                if (
                    other != at
                    and other in file.versions
                    and self._in_flight(file, other, arrived, place)
                ):
                    return True
        return any(
            self._may_be_stale(file, at, arrived, place, stamp, failed)
            for number, stamp, failed in file.fresh
            if number == at
        )

    def _may_be_stale(
        self,
        file: _File,
        at: int,
        arrived: int,
        place: int | None,
        stamp: int,
        failed: bool,
    ) -> bool:
        """Whether an atom may lack what a write put there that made the file longer."""
        if self._model.order == "ordered":
            return failed or place == stamp
        if self._model.size == "with-data":
            return failed and self._came(file, at, arrived) < stamp
        return True


def _paths(tree: _Tree) -> dict[str, int]:
    """The directories that there are, by their path and a "/"."""
    paths = {"": _HERE, "/": _ROOT}
    todo = [*paths.items()]
    while todo:
        path, folder = todo.pop()
        for (inside, name), number in tree.items():
            if inside == folder and number < 0:
                paths[f"{path}{name}/"] = number
                todo.append((f"{path}{name}/", number))
    return paths


@functools.lru_cache(maxsize=256)
def _with_mixtures(contents: tuple[bytes, ...]) -> list[bytes]:
    """The contents, and each prefix of one with the rest of another."""
    return _distinct(
        itertools.chain(
            contents,
            (
                left[:cut] + right[cut:]
                for left, right in itertools.permutations(contents, 2)
                for cut in range(1, len(left))
            ),
        )
    )


def _within(limit: int, made: int, choices: Sequence[Sequence[object]]) -> int:
    """`made` and the size of a product, refused before it is made.

    Raises:
        TooManyImages: It is above the limit.
    """
    made += math.prod(map(len, choices))
    if made > limit:
        raise TooManyImages(
            f"more than {limit} images: give a higher limit or a smaller case"
        )
    return made


def _distinct(items: Iterable[_T]) -> list[_T]:
    """The items without repetitions, in order."""
    return list(dict.fromkeys(items))
