"""The names on the platter, of files and of directories: durable, then pending.

Theory
======
An entry stands in a directory and says what a name in it stands for: a file, a
directory or nothing. Files and directories are numbers, so an entry goes wherever
its directory goes:

    number    -1 is ".", -2 is "/", other directories are -3 and less, files 1 and more
    place     (directory, name)        "d/a" is (-3, "a") when "d" is -3
    settled   (-1, d) -> -3            (-3, a) -> 1
    pending   #1 (-3, b) -> 2          #2 (-3, a) -> none       #3 (-1, e) -> -3
                                                                   (-1, d) -> none

Changes of entries are pending until a sync of the directory that they are in; a crash
keeps some of them. #3 gives `d` another name: with it the file is `e/b` or nowhere,
depending on #1. What is in a directory that has no name is lost, however durable;
what is in a new one was put there since, as its number is new.

A file may have several names (hard links). A directory has one: a change that names
it takes it from where it was, even if the changes that brought it there are lost.

A directory that nobody made and that something is put into has been there before:
it is durable. A program that makes no directories need not think of them. (In one
that was made there is nothing but what was put there.)

Under `names=fsync` a sync of a file or directory makes its own name durable, too, and
each name comes with the directories that were made for it:

    mkdir d         #1
    create d/x      #2    comes with #1
    rename d e      #3    comes with nothing: no name in it needs it
    fsync e/x             #2 and #1 are durable; the file is d/x or e/x

File systems were seen to lose #3 there: it changed nothing of the file.

A change that gave a file a name is *stuck* when a sync of the file fails: no sync is
for it any more, until the file is changed. It stays in its place in the order, so under
`entries=prefix` a later one that is settled brings it along.

What it is not: it chooses nothing (`names`), and it knows no files (`image`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tornpage.platter.pieces import NameChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tornpage.model import CrashModel
    from tornpage.platter.pieces import Place

__all__ = ["HERE", "ROOT", "Entries", "is_directory", "names_of"]

HERE: Final = -1
"""The directory that relative names are in."""

ROOT: Final = -2
"""The directory that absolute names are in."""


def is_directory(number: int | None) -> bool:
    """Whether that is what a name stands for."""
    return number is not None and number < 0


def names_of(path: str) -> tuple[int, list[str]]:
    """The directory that a normalised path begins in, and the names on it."""
    if path.startswith("/"):
        return ROOT, [name for name in path.split("/") if name]
    return HERE, [] if path in {"", "."} else path.split("/")


class Entries:
    """All names of a device.

    Args:
        model: What a crash may do.

    Attributes:
        settled: Durable entries.
        pending: Changes of entries that are not durable, in order.
        kept: Whether a pending change is on the platter, where that is known, by
            key.
        known: Places that have an entry or had one. Of others nobody has said
            anything yet.
        made: Directories that somebody has made.
        last: The number of the newest directory.
        stuck: Of files that have not been changed since a sync of them failed the
            changes, by key, that gave them names: no sync writes these.
    """

    __slots__ = (
        "_keys",
        "_made_with",
        "_model",
        "_named",
        "_stands",
        "kept",
        "known",
        "last",
        "made",
        "pending",
        "settled",
        "stuck",
    )

    def __init__(self, model: CrashModel) -> None:
        self._model = model
        self.settled: dict[Place, int] = {}
        self.pending: list[NameChange] = []
        self.kept: dict[int, bool] = {}
        self.known: set[Place] = set()
        self.made: set[int] = set()
        self.last = ROOT
        self.stuck: dict[int, frozenset[int]] = {}
        self._keys = 0
        # Under names=fsync, of this life: what stands in a place that was given to it;
        # of that, by place, the keys of the changes that the name comes with; and those
        # of each directory that was made, where it was made.
        self._stands: dict[Place, int] = {}
        self._named: dict[int, dict[Place, frozenset[int]]] = {}
        self._made_with: dict[int, frozenset[int]] = {}

    def fork(self) -> Entries:
        """A copy to advance independently."""
        made = Entries(self._model)
        made.settled = dict(self.settled)
        made.pending = list(self.pending)
        made.kept = dict(self.kept)
        made.known = set(self.known)
        made.made = set(self.made)
        made.last = self.last
        made.stuck = dict(self.stuck)
        made._keys = self._keys
        made._stands = dict(self._stands)
        made._named = {number: dict(one) for number, one in self._named.items()}
        made._made_with = dict(self._made_with)
        return made

    def begin_life(self, kept: Mapping[int, bool]) -> None:
        """A life begins, of which these changes turned out to be there or not."""
        self.kept = dict(kept)
        self.stuck.clear()
        self._stands.clear()
        self._named.clear()
        self._made_with.clear()

    # -- what there is -----------------------------------------------------------

    def present(self, place: Place) -> int | None:
        """What the running program sees there."""
        for at, one in reversed(list(enumerate(self.pending))):
            if self.kept.get(one.key, True):
                for other, number in one.changes:
                    if other == place:
                        return self._unmoved(number, place, at + 1)
        return self._unmoved(self.settled.get(place), place, 0)

    def _unmoved(self, number: int | None, place: Place, since: int) -> int | None:
        """The same; None for a directory that went elsewhere since."""
        if number is None or not is_directory(number):
            return number
        later = self.moves(number, place, since)
        gone = any(self.kept.get(one.key, True) for one in later)
        return None if gone else number

    def moves(self, folder: int, place: Place, since: int) -> Iterator[NameChange]:
        """The pending changes that name a directory elsewhere, newest first."""
        for one in reversed(self.pending[since:]):
            if any(number == folder and at != place for at, number in one.changes):
                yield one

    def below(self, folder: int) -> set[str]:
        """Every name that there may be in a directory."""
        names = {name for inside, name in self.settled if inside == folder}
        names.update(
            name
            for one in self.pending
            for (inside, name), _ in one.changes
            if inside == folder
        )
        return names

    def place_of(self, folder: int) -> Place | None:
        """Where the running program sees a directory."""
        changes = [
            (place, number)
            for one in reversed(self.pending)
            if self.kept.get(one.key, True)
            for place, number in one.changes
        ]
        for place, number in (*changes, *self.settled.items()):
            if number == folder:
                return place
        return None

    def folder(self, path: str) -> int | None:
        """The directory of this path; None: there is none, or none that is known."""
        number: int | None
        number, names = names_of(path)
        for name in names:
            number = self.present((number, name))
            if number is None or not is_directory(number):
                return None
        return number

    # -- what has been there -----------------------------------------------------

    def find(self, path: str) -> tuple[Place, set[Place]]:
        """Where something is put: directories nobody made have been there before.

        Returns:
            The place, and those of directories that were not known of.
        """
        folder, names = names_of(path)
        new = set()
        for name in names[:-1]:
            place = folder, name
            if place not in self.known:
                new.add(place)
            folder = self.find_folder(place)
        return (folder, names[-1]), new

    def find_folder(self, place: Place) -> int:
        """The directory in a place, which has been there when nobody spoke of it."""
        number = self.present(place)
        if number is None:
            number = self._new_number()
            self.put(place, number)
        return number

    def put(self, place: Place, number: int) -> None:
        """Make an entry that has always been there."""
        self.known.add(place)
        self.settled[place] = number

    def spoken_of(self, names: Iterable[str]) -> None:
        """There have been these names; "/" stands behind a directory that was made."""
        for name in names:
            bare = name.rstrip("/")
            outer, _, last = bare.rpartition("/")
            folder = self.folder(outer or "/" * name.startswith("/"))
            # In a directory that is not there any more nothing can be looked for.
            if folder is None:
                continue
            self.known.add((folder, last))
            number = self.present((folder, last))
            if number is not None and bare != name:
                self.made.add(number)

    def _new_number(self) -> int:
        self.last -= 1
        return self.last

    # -- changes -----------------------------------------------------------------

    def change(
        self,
        stamp: int,
        life: int,
        *changes: tuple[Place, int | None],
        directory: int | None = None,
    ) -> set[Place]:
        """Change entries, all of them or none.

        Args:
            stamp: The operation that does it.
            life: The life of the disk.
            changes: Places, each with what it stands for from now on.
            directory: Only a sync of this one makes it durable; None: of any of those
                that the places are in.

        Returns:
            The places of which it changed what they may stand for.
        """
        directories = frozenset(folder for (folder, _), _ in changes)
        if directory is not None:
            directories = frozenset({directory})
        self._keys += 1
        self.known.update(place for place, _ in changes)
        touched = self._places(changes)
        if self._model.names == "fsync":
            self._note_names(changes)
        self.pending.append(NameChange(self._keys, stamp, life, changes, directories))
        return touched

    def make_folder(self, stamp: int, life: int, place: Place) -> set[Place]:
        """Make a directory; returns as `change`."""
        number = self._new_number()
        self.made.add(number)
        touched = self.change(stamp, life, (place, number))
        if number in self._named:
            self._made_with[number] = self._named[number][place]
        return touched

    def _note_names(self, changes: Iterable[tuple[Place, int | None]]) -> None:
        """Note what the names that the newest change gives come with."""
        for place, number in changes:
            before = self._stands.pop(place, None)
            if before is not None:
                del self._named[before][place]
            if number is None:
                continue
            keys = {self._keys}
            folder = place[0]
            while folder not in {HERE, ROOT}:
                keys |= self._made_with.get(folder, frozenset())
                above = self.place_of(folder)
                folder = HERE if above is None else above[0]
            self._stands[place] = number
            self._named.setdefault(number, {})[place] = frozenset(keys)

    def _places(self, changes: Iterable[tuple[Place, int | None]]) -> set[Place]:
        """Where these change something: a directory that is moved goes from there."""
        places = {place for place, _ in changes}
        moved = {number for _, number in changes if is_directory(number)}
        if moved:
            places.update(at for at, number in self.settled.items() if number in moved)
            places.update(
                at
                for one in self.pending
                for at, number in one.changes
                if number in moved
            )
        return places

    # -- what a sync is about ----------------------------------------------------

    def of_directory(self, directory: int, life: int) -> list[NameChange]:
        """What a sync of a directory makes durable."""
        names = self._keys_of(directory)
        stuck = self._all_stuck()
        return [
            one
            for one in self.pending
            if one.key in names
            or (
                one.life == life
                and directory in one.directories
                and one.key not in stuck
            )
        ]

    def of_file(self, inode: int) -> list[NameChange]:
        """What a sync of a file makes durable (`names=fsync`)."""
        names = self._keys_of(inode)
        return [one for one in self.pending if one.key in names]

    def _keys_of(self, number: int) -> frozenset[int]:
        """The changes that the names of a file or directory come with."""
        named = list(self._named.get(number, {}).values())
        stuck = self.stuck.get(number)
        if stuck:
            # The newest of them is the one that gave the name.
            named = [one for one in named if max(one) not in stuck]
        return frozenset().union(*named)

    def _all_stuck(self) -> frozenset[int]:
        return frozenset().union(*self.stuck.values())

    def stick(self, inode: int, life: int) -> None:
        """A sync of this file has failed: no sync is for its names any more."""
        mine = [one for one in self.pending if one.life == life]
        # A rename may be several changes, of which some do not speak of the file.
        stamps = {
            one.stamp
            for one in mine
            if any(number == inode for _, number in one.changes)
        }
        if stamps:
            self.stuck[inode] = frozenset(
                one.key for one in mine if one.stamp in stamps
            )

    def upto(self, newest: NameChange) -> list[NameChange]:
        """The pending changes up to this one."""
        return [one for one in self.pending if one.key <= newest.key]

    def settle(self, settled: Iterable[NameChange], sync: int, life: int) -> set[Place]:
        """A sync has made changes durable, unless it is one that lied.

        Returns:
            The places of which it changed what they may stand for.
        """
        lies = self._model.lies
        at = {one.key: number for number, one in enumerate(self.pending)}
        places: set[Place] = set()
        for one in settled:
            if one.life != life or one.key in self.kept:
                continue
            places |= self._places(one.changes)
            need = one.need | {sync}
            if len(need) <= lies:
                self.pending[at[one.key]] = replace(one, need=need)
            else:
                self.kept[one.key] = True
        # A durable change goes under the pending ones only when none of these
        # is older: they would otherwise cover it.
        while self.pending and self.pending[0].key in self.kept:
            one = self.pending.pop(0)
            if self.kept.pop(one.key):
                self._settle(one.changes)
        return places

    def _settle(self, changes: Sequence[tuple[Place, int | None]]) -> None:
        for place, number in changes:
            if number is None:
                self.settled.pop(place, None)
                continue
            if is_directory(number):
                for old in [at for at, one in self.settled.items() if one == number]:
                    del self.settled[old]
            self.settled[place] = number
