"""Names in one life of a disk: looked up on the platter, changed in the cache.

Theory
======
A place (see `entries`) stands for what this life put or found there, else for what
the platter has. There the changes since the last sync of the directory are pending;
each of them is kept or lost:

    settled   a -> 1
    pending   #1 a -> 2     #2 a -> none     #3 b -> 2

    look up a:   #2 kept?  yes: there is none
                           no:  #1 kept?  yes: 2   no: 1

The newest change is asked for first, and nothing is asked that makes no difference.
Where a directory is found it is only asked for whether one of the later changes has
taken it elsewhere.
Under `entries=prefix` (and under `order=ordered`, among all operations) the answers
narrow the crash positions, see `bounds`.

What it is not: it makes no files and gives them no inodes (`life`), and it follows no
path (`simulated`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornpage.platter.cell import ALWAYS, NEVER
from tornpage.platter.entries import HERE, ROOT, is_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.choices import Chooser
    from tornpage.platter.bounds import Bounds
    from tornpage.platter.image import Image
    from tornpage.platter.pieces import NameChange, Place

__all__ = ["UNKNOWN", "Names"]

UNKNOWN: Final = 0
"""What a name stands for that nobody has spoken of: perhaps a directory."""


class Names:
    """What a life knows of the names.

    Args:
        image: What the platter may hold. It is read, not changed.
        chooser: Decides what it does hold.
        bounds: What is still possible; shared with the files of the life.
    """

    __slots__ = (
        "_assumed",
        "_bounds",
        "_chooser",
        "_entries",
        "_in_order",
        "_kept",
        "_known",
        "_last",
        "_mine",
        "_placed",
        "_where",
        "_whole",
    )

    def __init__(self, image: Image, chooser: Chooser, bounds: Bounds) -> None:
        self._entries = image.entries
        self._chooser = chooser
        self._bounds = bounds
        # Places that were looked up or changed in this life.
        self._known: dict[Place, int | None] = {}
        self._kept: dict[int, bool] = dict(image.entries.kept)
        # Places that this life gave an entry.
        self._mine: set[Place] = set()
        # Directories that have nothing in them that nobody spoke of, and places of
        # which any directory is such a one.
        self._whole: set[int] = set()
        self._assumed: set[Place] = set()
        # Where directories stand that were looked up or put somewhere.
        self._where: dict[int, Place] = {}
        self._last = image.entries.last
        model = image.model
        self._in_order = model.order == "ordered"
        self._placed = model.entries == "prefix" or self._in_order

    def is_looked_up(self, place: Place) -> bool:
        """Whether this life has looked it up or changed it."""
        return place in self._known

    def is_unknown(self, place: Place) -> bool:
        """Whether nobody has spoken of it, and something may be there."""
        folder = place[0]
        return not (
            place in self._mine
            or place in self._entries.known
            or folder in self._whole
            or folder in self._entries.made
        )

    def set(self, place: Place, number: int | None) -> None:
        """Set what a place stands for; None: nothing."""
        self._known[place] = number
        self._mine.add(place)
        if number is not None and is_directory(number):
            self._stands(number, place)

    def new_folder(self, place: Place) -> int:
        """Put a directory there that has been there, with whatever is in it."""
        self._last -= 1
        self.set(place, self._last)
        return self._last

    def make_folder(self, place: Place) -> int:
        """Make a directory, which is empty."""
        number = self.new_folder(place)
        self._whole.add(number)
        return number

    def assume(self, place: Place) -> int:
        """A directory has been there, with nothing in it that nobody spoke of.

        Returns:
            Its number when nobody has spoken of it either; otherwise 0.
        """
        self._assumed.add(place)
        number = self._known.get(place)
        if number is not None:
            self._whole.add(number)
        return self.new_folder(place) if self.is_unknown(place) else 0

    def _stands(self, folder: int, place: Place) -> None:
        self._where[folder] = place
        if place in self._assumed:
            self._whole.add(folder)

    def lookup(self, place: Place) -> int | None:
        """What a place stands for, decided if need be: a file, a directory or None."""
        if place not in self._known:
            number = self._known[place] = self._on_platter(place)
            if number is not None and is_directory(number):
                self._stands(number, place)
        return self._known[place]

    def is_pending(self, place: Place) -> bool:
        """Whether a change of this place may or may not be on the platter."""
        entries = self._entries
        folder = entries.settled.get(place)
        moved = folder is not None and is_directory(folder)
        return any(
            other == place or (moved and number == folder)
            for one in entries.pending
            for other, number in one.changes
        )

    def below(self, folder: int) -> tuple[str, ...]:
        """The names that there may be in a directory, sorted."""
        mine = {
            name
            for (inside, name), number in self._known.items()
            if inside == folder and number is not None
        }
        return tuple(sorted(mine | self._entries.below(folder)))

    def path(self, place: Place) -> str:
        """The path of a place in a directory that was looked up."""
        folder, name = place
        if folder == HERE:
            return name
        if folder == ROOT:
            return f"/{name}"
        above = self._place_of(folder)
        return name if above is None else f"{self.path(above)}/{name}"

    def folder_path(self, folder: int) -> str | None:
        """The path of a directory that was looked up; None: it was removed since."""
        if folder in {HERE, ROOT}:
            return "." if folder == HERE else "/"
        place = self._place_of(folder)
        if place is None or self._known.get(place, folder) != folder:
            return None
        above = self.folder_path(place[0])
        return None if above is None else self.path(place)

    def _place_of(self, folder: int) -> Place | None:
        # What was jumped over (see `memory`) is not in doubt on the platter.
        return self._where.get(folder) or self._entries.place_of(folder)

    def kept(self) -> dict[int, bool]:
        """Whether pending changes are on the platter, where that is known, by key."""
        for change in self._entries.pending:
            kept = self._is_kept(change)
            if kept is not None:
                self._kept[change.key] = kept
        return self._kept

    def _changes_of(self, place: Place) -> Iterator[tuple[int, NameChange, int | None]]:
        """Its pending changes and what it stands for after each, newest first."""
        pending = self._entries.pending
        for at in range(len(pending) - 1, -1, -1):
            for other, number in pending[at].changes:
                if other == place:
                    yield at, pending[at], number

    def _on_platter(self, place: Place) -> int | None:
        """What the platter has in a place; asks when it must."""
        mine = list(self._changes_of(place))
        settled = self._entries.settled.get(place)
        for n, (at, one, number) in enumerate(mine):
            kept = self._is_kept(one)
            if kept is None:
                rest = {other for _, _, other in mine[n:]} | {settled}
                kept = rest == {number} or self._ask(one, place)
            if kept:
                return self._unmoved(number, place, at + 1)
        return self._unmoved(settled, place, 0)

    def _unmoved(self, number: int | None, place: Place, since: int) -> int | None:
        """The same; None for a directory that went elsewhere since."""
        if number is None or not is_directory(number):
            return number
        for one in self._entries.moves(number, place, since):
            kept = self._is_kept(one)
            if self._ask(one, place) if kept is None else kept:
                return None
        return number

    def _ask(self, change: NameChange, place: Place) -> bool:
        """Decide whether a change is on the platter, for what is in a place."""
        path = self.path(place)
        answers = (f"{path} changed", f"{path} as before")
        label = ("name", path, change.stamp, answers)
        kept = self._chooser.choose(2, label) == 0
        self._decide(change, kept=kept)
        return kept

    def _decide(self, change: NameChange, *, kept: bool) -> None:
        self._kept[change.key] = kept
        if not kept:
            self._bounds.lie(change.need)
        if self._placed:
            at = self._position(change)
            first, last = (at, NEVER) if kept else (ALWAYS, at)
            self._bounds.narrow(change.life, first, last)

    def _is_kept(self, change: NameChange) -> bool | None:
        """Whether a pending change is on the platter; None: may be."""
        kept = self._kept.get(change.key)
        if kept is not None:
            return kept
        if self._placed:
            first, last = self._bounds.cut(change.life)
            at = self._position(change)
            if at < first:
                return True
            if at > last:
                return False
        return None if self._bounds.believable(change.need) else True

    def _position(self, change: NameChange) -> int:
        """Where it stands among what is cut: all operations, or changes of names."""
        return change.stamp if self._in_order else change.key
