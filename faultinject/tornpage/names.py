"""Names in one life of a disk: looked up on the platter, changed in the cache.

Theory
======
A name stands for the inode that this life gave it or found under it, else for what
the platter has. There the changes since the last sync of the directory are pending;
each of them is kept or lost:

    settled   a -> 1
    pending   #1 a -> 2     #2 a -> none     #3 b -> 2

    look up a:   #2 kept?  yes: there is none
                           no:  #1 kept?  yes: 2   no: 1

The newest change is asked for first, and nothing is asked that makes no difference.
A directory that this life has made is empty: of what is below nothing is asked at all.
Under `entries=prefix` (and under `order=ordered`, among all operations) the answers
narrow the crash positions, see `bounds`.

What it is not: it makes no files and gives no inodes (`life`), and looks up one name
at a time, whatever becomes of the directories above it (`disk`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornpage.cell import ALWAYS, NEVER
from tornpage.entries import DIRECTORY, above, is_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.bounds import Bounds
    from tornpage.choices import Chooser
    from tornpage.image import Image
    from tornpage.pieces import NameChange

__all__ = ["Names"]


class Names:
    """What a life knows of the names.

    Args:
        image: What the platter may hold. It is read, not changed.
        chooser: Decides what it does hold.
        bounds: What is still possible; shared with the files of the life.
    """

    __slots__ = (
        "_bounds",
        "_chooser",
        "_entries",
        "_in_order",
        "_kept",
        "_known",
        "_mine",
        "_new",
        "_placed",
        "_whole",
    )

    def __init__(self, image: Image, chooser: Chooser, bounds: Bounds) -> None:
        self._entries = image.entries
        self._chooser = chooser
        self._bounds = bounds
        # Names that were looked up or changed in this life.
        self._known: dict[str, int | None] = {}
        self._kept: dict[int, bool] = dict(image.entries.kept)
        # Names that this life gave an entry; directories that it made, and those of
        # which it knows that they have nothing unknown in them.
        self._mine: set[str] = set()
        self._new: set[str] = set()
        self._whole: set[str] = set()
        model = image.model
        self._in_order = model.order == "ordered"
        self._placed = model.entries == "prefix" or self._in_order

    def is_looked_up(self, name: str) -> bool:
        """Whether this life has looked it up or changed it."""
        return name in self._known

    def set(self, name: str, inode: int | None) -> None:
        """Set what a name stands for; None: nothing."""
        self._known[name] = inode
        self._mine.add(name)
        if inode is not None:
            self._found(name)

    def _found(self, name: str) -> None:
        """Something is put there: directories nobody made have been there before."""
        for folder in above(name):
            if self.is_made(folder) is None:
                self._mine.add(folder)
                self._known[folder] = DIRECTORY

    def is_made(self, name: str) -> bool | None:
        """Whether somebody made a directory of this name.

        Returns:
            None when the name has no entry and never had one.
        """
        if name in self._whole or name in self._entries.made:
            return True
        return False if name in self._mine or name in self._entries.known else None

    def make(self, folder: str) -> None:
        """Make a directory."""
        self.set(folder, DIRECTORY)
        self._new.add(folder)
        self._whole.add(folder)

    def assume(self, folder: str) -> None:
        """A directory has been there, with nothing in it that nobody spoke of."""
        self._found(f"{folder}/")
        self._whole.add(folder)

    def lookup(self, name: str) -> int | None:
        """What a name stands for, decided if need be: an inode, DIRECTORY or None."""
        if name not in self._known:
            new = self._new and above(name, self._new)
            self._known[name] = None if new else self._on_platter(name)
        return self._known[name]

    def is_pending(self, name: str) -> bool:
        """Whether a change of this name may or may not be on the platter."""
        return any(True for _ in self._changes_of(name))

    def below(self, folder: str) -> tuple[str, ...]:
        """The names below a folder that there may be, sorted."""
        mine = {name for name, inode in self._known.items() if inode is not None}
        names = {one for one in mine if is_below(one, folder)}
        return tuple(sorted(names | self._entries.below(folder)))

    def kept(self) -> dict[int, bool]:
        """Whether pending changes are on the platter, where that is known, by key."""
        for change in self._entries.pending:
            kept = self._is_kept(change)
            if kept is not None:
                self._kept[change.key] = kept
        return self._kept

    def _changes_of(self, name: str) -> Iterator[tuple[NameChange, int | None]]:
        """Its pending changes and what it stands for after each, newest first."""
        for one in reversed(self._entries.pending):
            for path, inode in one.changes:
                if path == name:
                    yield one, inode

    def _on_platter(self, name: str) -> int | None:
        """What the platter has under a name; asks when it must."""
        mine = list(self._changes_of(name))
        settled = self._entries.settled.get(name)
        for at, (one, inode) in enumerate(mine):
            kept = self._is_kept(one)
            if kept is None:
                rest = {other for _, other in mine[at:]} | {settled}
                if rest == {inode}:
                    return inode
                answers = (f"{name} changed", f"{name} as before")
                label = ("name", name, one.stamp, answers)
                kept = self._chooser.choose(2, label) == 0
                self._decide(one, kept=kept)
            if kept:
                return inode
        return settled

    def _decide(self, change: NameChange, *, kept: bool) -> None:
        self._kept[change.key] = kept
        if not kept:
            self._bounds.lie(change.need)
        if self._placed:
            place = self._place(change)
            first, last = (place, NEVER) if kept else (ALWAYS, place)
            self._bounds.narrow(change.life, first, last)

    def _is_kept(self, change: NameChange) -> bool | None:
        """Whether a pending change is on the platter; None: may be."""
        kept = self._kept.get(change.key)
        if kept is not None:
            return kept
        if self._placed:
            first, last = self._bounds.cut(change.life)
            place = self._place(change)
            if place < first:
                return True
            if place > last:
                return False
        return None if self._bounds.believable(change.need) else True

    def _place(self, change: NameChange) -> int:
        """Where it stands among what is cut: all operations, or changes of names."""
        return change.stamp if self._in_order else change.key
