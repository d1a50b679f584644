"""The names on the platter, of files and of directories: durable, then pending.

Theory
======
An entry says what a name stands for: a file, a directory or nothing. Changes of
entries are pending until a sync of the directory that they are in; a crash keeps
some of them:

    settled   d -> directory      d/a -> 1
    pending   #1 d/b -> 2         #2 d/a -> none      #3 e -> directory

A name counts only below directories that are there: lose #3, and whatever was put
into `e` is lost with it, however durable. A new directory is empty and one that is
removed leaves nothing behind, so both changes say of every name below that it
stands for nothing; without that, what lay in an older directory of that name would
come back in the new one.

A directory that nobody made and that something is put into has been there before:
it is durable. A program that makes no directories need not think of them. (In one
that was made there is nothing but what was put there.)

What it is not: it chooses nothing (`names`), and it knows no files (`image`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tornpage.pieces import NameChange, directory_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from tornpage.model import CrashModel

__all__ = ["DIRECTORY", "Entries", "above", "is_below"]

DIRECTORY: Final = -1
"""What the name of a directory stands for; files have numbers from 1 on."""


def above(name: str, among: Container[str] | None = None) -> list[str]:
    """The directories of a name, outermost first, without "/" and ".".

    Args:
        name: A normalised path.
        among: Only those among these; None: all.
    """
    if "/" not in name:
        return []
    found = [name[:at] for at, letter in enumerate(name) if letter == "/" and at]
    return found if among is None else [one for one in found if one in among]


def is_below(name: str, folder: str) -> bool:
    """Whether a name is in a directory, or in one of those in it."""
    if folder in {".", "/"}:
        return name.startswith("/") == (folder == "/")
    return name.startswith(folder + "/")


class Entries:
    """All names of a device.

    Args:
        model: What a crash may do.

    Attributes:
        settled: Durable names.
        pending: Changes of names that are not durable, in order.
        kept: Whether a pending change is on the platter, where that is known, by
            key.
        known: Names that have an entry or had one. Of others nobody has said
            anything yet.
        made: Directories among them that somebody has made.
    """

    __slots__ = ("_keys", "_model", "kept", "known", "made", "pending", "settled")

    def __init__(self, model: CrashModel) -> None:
        self._model = model
        self.settled: dict[str, int] = {}
        self.pending: list[NameChange] = []
        self.kept: dict[int, bool] = {}
        self.known: set[str] = set()
        self.made: set[str] = set()
        self._keys = 0

    def fork(self) -> Entries:
        """A copy to advance independently."""
        made = Entries(self._model)
        made.settled = dict(self.settled)
        made.pending = list(self.pending)
        made.kept = dict(self.kept)
        made.known = set(self.known)
        made.made = set(self.made)
        made._keys = self._keys
        return made

    def present(self, name: str) -> int | None:
        """What the running program sees under a name."""
        for one in reversed(self.pending):
            if self.kept.get(one.key, True):
                for path, inode in one.changes:
                    if path == name:
                        return inode
        return self.settled.get(name)

    def below(self, folder: str) -> set[str]:
        """Every name in a directory and its directories that there may be."""
        names = {*self.settled}
        names.update(path for one in self.pending for path, _ in one.changes)
        return {one for one in names if is_below(one, folder)}

    def found(self, name: str) -> list[str]:
        """Something is put there: directories nobody made have been there before.

        Returns:
            Those that were not known of.
        """
        new = [one for one in above(name) if one not in self.known]
        for one in new:
            self.put(one, DIRECTORY)
        return new

    def spoken_of(self, names: Iterable[str]) -> None:
        """There have been these names; "/" stands behind a directory that was made."""
        for name in names:
            bare = name.rstrip("/")
            self.known.add(bare)
            if bare != name:
                self.made.add(bare)

    def put(self, name: str, inode: int) -> None:
        """Make an entry that has always been there."""
        self.known.add(name)
        self.settled[name] = inode

    def change(
        self, stamp: int, life: int, *changes: tuple[str, int | None]
    ) -> NameChange:
        """Change entries, all of them or none."""
        directories = frozenset(directory_of(name) for name, _ in changes)
        self._keys += 1
        self.known.update(name for name, _ in changes)
        one = NameChange(self._keys, stamp, life, changes, directories)
        self.pending.append(one)
        return one

    def change_folder(self, stamp: int, life: int, name: str, to: int | None) -> None:
        """Make or remove a directory, and with it what may lie below that name."""
        if to is not None:
            self.made.add(name)
        one = self.change(stamp, life, (name, to))
        below = tuple((other, None) for other in sorted(self.below(name)))
        self.pending[-1] = replace(one, changes=(*one.changes, *below))

    # -- what a sync is about ----------------------------------------------------

    def of_directory(self, directory: str, life: int) -> list[NameChange]:
        """What a sync of a directory makes durable."""
        mine = [
            one
            for one in self.pending
            if one.life == life and directory in one.directories
        ]
        if self._model.names == "fsync":
            mine = self._with_the_way(mine, [f"{directory}/"], life)
        return mine

    def of_file(self, inode: int, life: int) -> list[NameChange]:
        """What a sync of a file makes durable (`names=fsync`)."""
        mine = [
            one
            for one in self.pending
            if one.life == life and any(file == inode for _, file in one.changes)
        ]
        names = [name for one in mine for name, file in one.changes if file == inode]
        return self._with_the_way(mine, names, life)

    def _with_the_way(
        self, mine: list[NameChange], names: Iterable[str], life: int
    ) -> list[NameChange]:
        """The same with the changes that made the directories of these names."""
        folders = {folder for name in names for folder in above(name)}
        if not folders:
            return mine
        keys = {one.key for one in mine}
        return [
            one
            for one in self.pending
            if one.key in keys
            or (
                one.life == life
                and any(to == DIRECTORY and name in folders for name, to in one.changes)
            )
        ]

    def upto(self, newest: NameChange) -> list[NameChange]:
        """The pending changes up to this one."""
        return [one for one in self.pending if one.key <= newest.key]

    def settle(self, settled: Iterable[NameChange], sync: int, life: int) -> set[str]:
        """A sync has made changes durable, unless it is one that lied.

        Returns:
            The names of which it changed what they may stand for.
        """
        lies = self._model.lies
        place = {one.key: at for at, one in enumerate(self.pending)}
        names: set[str] = set()
        for one in settled:
            if one.life != life or one.key in self.kept:
                continue
            names.update(name for name, _ in one.changes)
            need = one.need | {sync}
            if len(need) <= lies:
                self.pending[place[one.key]] = replace(one, need=need)
            else:
                self.kept[one.key] = True
        # A durable change goes under the pending ones only when none of these
        # is older: they would otherwise cover it.
        while self.pending and self.pending[0].key in self.kept:
            one = self.pending.pop(0)
            if self.kept.pop(one.key):
                for name, inode in one.changes:
                    if inode is None:
                        self.settled.pop(name, None)
                    else:
                        self.settled[name] = inode
        return names
