"""The names of brute force: a tree for each set of changes that a crash may keep.

Theory
======
Files are numbers above zero, directories below it. An entry is (directory, name) ->
number, a tree is all entries, and a directory has one place in it. Nothing is ever
changed in a tree; each is made anew from what there was and the changes that count:

    there was       (".", d) -> -3      (-3, a) -> 1
    #0              (-3, b) -> 2
    #1              (-3, a) -> none
    tree of {#0}    ./d/a is 1, ./d/b is 2
    tree of {#1}    ./d is empty

What it is not: it knows nothing of files but their numbers (`brute`), and shares no
code with `entries` and `names`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tornpage.model import CrashModel

__all__ = ["Place", "Tree", "Trees", "paths_of"]

# Directories are numbers below zero; names begin in one of these.
_HERE, _ROOT = -1, -2

Place = tuple[int, str]
"""A directory and a name in it."""

Tree = dict[Place, int]
"""What each name stands for."""


class _Change(NamedTuple):
    """One change of names; stamp -1 once it is durable."""

    stamp: int
    number: int
    changes: list[tuple[Place, int | None]]


class Trees:
    """What the names were at first, and all changes of them.

    Args:
        model: What a crash may do.
    """

    __slots__ = (
        "_changes",
        "_folders",
        "_halves",
        "_made",
        "_makings",
        "_model",
        "_settled",
        "_spoken",
        "_stuck",
    )

    def __init__(self, model: CrashModel) -> None:
        self._model = model
        self._settled: Tree = {}
        # Places that had an entry at any time, directories that somebody made.
        self._spoken: set[Place] = set()
        self._made: set[int] = set()
        # Those that were made by an operation.
        self._makings: set[int] = set()
        self._folders = _ROOT
        self._changes: list[_Change] = []
        # Changes of which the first half says whose sync makes them durable.
        self._halves: set[int] = set()
        # Of each file whose sync has failed the operations that had given it a name,
        # until it is changed again.
        self._stuck: dict[int, set[int]] = {}

    def put(self, place: Place, number: int) -> None:
        """What a place has stood for from the beginning."""
        self._settled[place] = number

    def spoken_of(self, known: Iterable[str]) -> None:
        """Names that there have been, with "/" behind directories that were made."""
        paths = paths_of(self._settled)
        for name in known:
            outer, _, last = name.rstrip("/").rpartition("/")
            folder = paths.get(outer + "/" * (outer != "" or name.startswith("/")))
            if folder is not None:
                self._spoken.add((folder, last))
                if name.endswith("/") and (folder, last) in self._settled:
                    self._made.add(self._settled[folder, last])

    def place(self, path: str) -> Place:
        """Where something is done; the directories on the way have been there."""
        folder = _ROOT if path.startswith("/") else _HERE
        *outer, last = path.strip("/").split("/")
        for name in outer:
            folder = self.found((folder, name))
        return folder, last

    def found(self, place: Place) -> int:
        """What is in a place: if nothing is, a directory that has been there."""
        tree = self.tree()
        if place not in tree:
            self._folders -= 1
            self._settled[place] = self._folders
            return self._folders
        return tree[place]

    def tree(self) -> Tree:
        """What the running program sees."""
        return self._tree(self._changes)

    def change(self, stamp: int, *changes: tuple[Place, int | None]) -> None:
        """Change entries, all of them or none."""
        self._spoken.update(place for place, _ in changes)
        self._changes.append(_Change(stamp, len(self._changes), [*changes]))

    def change_half(self, stamp: int, *changes: tuple[Place, int | None]) -> None:
        """As `change`, but durable with the directory of the first entry alone."""
        self._halves.add(len(self._changes))
        self.change(stamp, *changes)

    def make_folder(self, stamp: int, place: Place) -> None:
        """Make an empty directory."""
        self._folders -= 1
        self._made.add(self._folders)
        self._makings.add(self._folders)
        self.change(stamp, (place, self._folders))

    def pending(self) -> set[int]:
        """The changes that a crash may keep or lose."""
        return {one.number for one in self._changes if one.stamp >= 0}

    def upto(self, stamp: int) -> set[int]:
        """The changes that operations up to this one have made."""
        return {one.number for one in self._changes if one.stamp <= stamp}

    def stamp(self, number: int) -> int:
        """The operation of a change; -1 when it is durable."""
        return self._changes[number].stamp

    def of_directory(self, folder: str) -> set[int]:
        """The changes that a sync of this directory makes durable."""
        paths = paths_of(self.tree())
        directory = paths.get(folder.rstrip("/") + "/" if folder else "")
        mine = {
            one.number
            for one in self._changes
            if directory in self._directories(one) and not self._is_stuck(one)
        }
        if self._model.names == "fsync" and directory is not None:
            mine |= self.called(directory)
        return mine

    def _directories(self, one: _Change) -> set[int]:
        """Whose sync makes a change durable."""
        changes = one.changes[:1] if one.number in self._halves else one.changes
        return {place[0] for place, _ in changes}

    def called(self, number: int) -> set[int]:
        """The changes that give a file or directory its names, with what they need."""
        tree = self.tree()
        called: set[int] = set()
        for place, other in tree.items():
            if other == number and not self._is_stuck(self._newest(place)):
                called |= self._needed(place, len(self._changes))
        return called

    def _newest(self, place: Place) -> _Change | None:
        there = [one for one in self._changes if place in {at for at, _ in one.changes}]
        return there[-1] if there else None

    def _is_stuck(self, one: _Change | None) -> bool:
        """Whether no sync makes this change durable for its own sake."""
        return one is not None and any(
            one.stamp in stamps for stamps in self._stuck.values()
        )

    def stick(self, inode: int) -> None:
        """A sync of this file has failed."""
        self._stuck[inode] = {
            one.stamp
            for one in self._changes
            if one.stamp >= 0 and inode in {number for _, number in one.changes}
        }

    def written_again(self, inode: int) -> None:
        """This file is changed: a sync that works writes its names as well."""
        self._stuck.pop(inode, None)

    def _needed(self, place: Place, before: int) -> set[int]:
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

    def make_durable(self, numbers: set[int]) -> None:
        """No crash loses these changes any more."""
        self._changes = [
            one._replace(stamp=-1) if one.number in numbers else one
            for one in self._changes
        ]

    def states(self, place: int | None) -> list[Tree]:
        """Every tree that a crash may leave, each once.

        Args:
            place: The position among all operations; None: there is none.
        """
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

    def known(self, tree: Tree, paths: Mapping[str, int]) -> frozenset[str]:
        """Names that there have been, as far as an image can tell where."""
        there = {folder: path for path, folder in paths.items()}
        return frozenset(
            there[folder] + name + "/" * (tree.get((folder, name)) in self._made)
            for folder, name in self._spoken | self._settled.keys()
            if folder in there
        )

    def _tree(self, changes: Iterable[_Change]) -> Tree:
        tree = dict(self._settled)
        for one in changes:
            for place, number in one.changes:
                if number is not None and number < 0:
                    tree = {at: other for at, other in tree.items() if other != number}
                tree.pop(place, None)
                if number is not None:
                    tree[place] = number
        return tree


def paths_of(tree: Tree) -> dict[str, int]:
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
