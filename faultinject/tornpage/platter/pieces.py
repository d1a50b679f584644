"""The records that an image is kept in, besides files: names, watches, counts.

Theory
======
A *change of names* is pending until a sync of its directory. A *watch* is a set
of pieces that somebody consumed, *changes* are the pieces of which an operation
changed what they may be: as long as these do not meet, an answer holds. That is
what lets the explorer reuse it. A *tally* knows how many images there are without
making one: pieces are independent, so it counts how many pieces have how many
contents.

    images    2 ** sum(log2(contents) * pieces)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tornpage.platter.cell import NO_NEED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornpage.platter.cell import Need
    from tornpage.platter.parts import Part

__all__ = ["Changes", "CutKey", "NameChange", "Place", "Tally", "Watch"]

# Most watches use none, and thousands of watches are made. Never added to.
_NO_PARTS: Final[set[Part]] = set()

CutKey = int | tuple[int, int]
"""A life, or a life and an inode."""


Place = tuple[int, str]
"""A directory and a name in it, see `entries`."""


@dataclass(frozen=True, slots=True)
class NameChange:
    """One change of directory entries, all of it or nothing.

    Attributes:
        key: Its own number, in the order of the changes.
        stamp: The operation that made it.
        life: The life of the disk in which it was made.
        changes: (place, file, directory or None) pairs.
        directories: The directories they are in.
        need: Syncs that must have lied if it is lost.
    """

    key: int
    stamp: int
    life: int
    changes: tuple[tuple[Place, int | None], ...]
    directories: frozenset[int]
    need: Need = NO_NEED


@dataclass(slots=True)
class Changes:
    """Pieces of which an operation changed what they may be.

    Attributes:
        atoms: Atom numbers by inode.
        sizes: The least that a size may be now, by inode, where it may be another.
        names: Places that may have another entry.
        everything: Whether it may have been anything.
        broken: Kept answers that rested on one of these, see `parts`.
    """

    atoms: dict[int, set[int]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    names: set[Place] = field(default_factory=set)
    everything: bool = False
    broken: set[Part] = field(default_factory=set)

    def atoms_of(self, inode: int) -> set[int]:
        """The atoms of a file, to be added to."""
        return self.atoms.setdefault(inode, set())


class Watch:
    """Pieces of a disk that somebody consumed.

    Attributes:
        atoms: Atom numbers by inode.
        reach: Up to where a file was read without asking for its size: as long as
            no size ends before, it does not matter. NEVER where it was asked for.
        names: Places that were looked up.
        any_name: Whether all names were asked for.
        parts: Kept answers that were used: they stand for the atoms they rest on.
        own: Whether something was read that had been written in the same life.
    """

    __slots__ = ("any_name", "atoms", "names", "own", "parts", "reach")

    def __init__(self) -> None:
        self.atoms: dict[int, set[int]] = {}
        self.reach: dict[int, int] = {}
        self.names: set[Place] = set()
        self.any_name = False
        self.parts = _NO_PARTS
        self.own = False

    def meets(self, changes: Changes) -> bool:
        """Whether one of these pieces may be something else now."""
        if changes.everything:
            return True
        for inode, least in changes.sizes.items():
            if self.reach.get(inode, 0) > least:
                return True
        if changes.names and (
            self.any_name or not self.names.isdisjoint(changes.names)
        ):
            return True
        if self.parts and not self.parts.isdisjoint(changes.broken):
            return True
        for inode, changed in changes.atoms.items():
            consumed = self.atoms.get(inode)
            if consumed and not consumed.isdisjoint(changed):
                return True
        return False

    def add(self, other: Watch) -> None:
        """Take over what another one has."""
        for inode, atoms in other.atoms.items():
            mine = self.atoms.get(inode)
            if mine is None:
                self.atoms[inode] = set(atoms)
            elif atoms:
                mine |= atoms
        for inode, end in other.reach.items():
            if end > self.reach.get(inode, 0):
                self.reach[inode] = end
        if other.names:
            self.names |= other.names
        self.any_name = self.any_name or other.any_name
        self.own = self.own or other.own
        if other.parts:
            self.use(other.parts)

    def use(self, parts: Iterable[Part]) -> None:
        """Note that kept answers were used."""
        if self.parts is _NO_PARTS:
            self.parts = set()
        self.parts.update(parts)


class Tally:
    """How many atoms and sizes have how many legal contents, as log2.

    Attributes:
        reach: For each pending operation, log2 of the images that it adds by
            being in flight (`order=ordered`).
    """

    __slots__ = ("_pieces", "reach")

    def __init__(self) -> None:
        self._pieces: Counter[float] = Counter()
        self.reach: dict[int, float] = {}

    def add(self, bits: float, by: int = 1) -> None:
        """One more, or with `by` = -1 one less, piece of so many contents."""
        left = self._pieces.get(bits, 0) + by
        if left:
            self._pieces[bits] = left
        else:
            self._pieces.pop(bits, None)

    def reaches(self, stamp: int, bits: float) -> None:
        """Operation `stamp` may leave so many more images while in flight."""
        self.reach[stamp] = self.reach.get(stamp, 0.0) + bits

    def product(self) -> float:
        """log2 of the number of combinations of all pieces."""
        return sum(bits * n for bits, n in self._pieces.items())

    def positions(self) -> float:
        """log2 of the number of images, each for one operation in flight."""
        total = 0.0
        for bits in self.reach.values():
            high, low = max(total, bits), min(total, bits)
            # log2 of 2**total + 2**bits - 1: having nothing of it is shared.
            total = high + math.log2(1.0 + 2.0 ** (low - high) - 2.0**-high)
        return total

    def clear(self) -> None:
        """Nothing is counted."""
        self._pieces.clear()
        self.reach.clear()

    def fork(self) -> Tally:
        """A copy."""
        made = Tally()
        made._pieces = Counter(self._pieces)
        made.reach = dict(self.reach)
        return made
