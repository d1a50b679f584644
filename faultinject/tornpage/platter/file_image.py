"""One file on the platter: everything that each part of it may be.

Theory
======
A file is a base that is never written to and layers over it:

    base    bytes, shared by all copies, read as zero beyond `limit`
    held    atom -> durable content that differs from the base
    open    atom -> cell left undecided by an earlier crash, not written since
    dirty   atom -> cell with versions since the last sync
    sizes   what the size may be, durable first

    read of an atom:   dirty, else open, else held, else base

So a copy costs what was written, and a base of a gigabyte costs nothing.

This module holds the layers and answers questions about them. What operations
do to them is the business of `image`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornpage.platter.cell import ALWAYS, NEVER, NO_NEED

if TYPE_CHECKING:
    from tornpage.platter.cell import Cell, Need

__all__ = ["FileImage", "Size", "zero_from"]


@dataclass(frozen=True, slots=True)
class Size:
    """One size that a file may have.

    Attributes:
        size: In bytes.
        stamp: The operation that made it; -1 for a durable one.
        first: First and
        last: last crash position for which it is legal (`order=ordered`).
        need: Syncs that must have lied for it.
    """

    size: int
    stamp: int
    first: int = ALWAYS
    last: int = NEVER
    need: Need = NO_NEED

    def __str__(self) -> str:
        return f"size {self.size}"


class FileImage:
    """One file on the platter.

    Attributes:
        inode: Its number.
        base: Its first content; never written to.
        limit: Behind this byte the base reads as zero.
        held: Durable atoms that differ from the base.
        open: Atoms left undecided by an earlier crash, not written since.
        dirty: Atoms written since the last sync.
        clean: Atoms in `dirty` that a failed sync marked clean: no sync writes
            them until they are written again.
        sizes: Legal sizes, oldest first; the last one is the present one.
        life: The life of the disk in which the sizes were made.
        extensions: (stamp, first atom, behind the last atom, need) of writes
            that made the file longer and are not durable.
        fresh: Atom -> (stamp, need) of the write that made the file longer by
            it, as long as its data is not durable (extend=garbage). The stamp
            is ALWAYS once a failed sync has taken it out of the order.
        synced: Stamp of the last sync that returned 0.
    """

    __slots__ = (
        "atom",
        "base",
        "clean",
        "dirty",
        "extensions",
        "fresh",
        "held",
        "inode",
        "life",
        "limit",
        "open",
        "sizes",
        "synced",
    )

    def __init__(self, inode: int, base: bytes, atom: int) -> None:
        self.inode = inode
        self.base = base
        self.atom = atom
        self.limit = len(base)
        self.held: dict[int, bytes] = {}
        self.open: dict[int, Cell] = {}
        self.dirty: dict[int, Cell] = {}
        self.clean: set[int] = set()
        self.sizes: tuple[Size, ...] = (Size(len(base), -1),)
        self.life = 0
        self.extensions: list[tuple[int, int, int, Need]] = []
        self.fresh: dict[int, tuple[int, Need]] = {}
        self.synced = ALWAYS

    @property
    def size(self) -> int:
        """The size that the running program sees."""
        return self.sizes[-1].size

    @property
    def size_bits(self) -> float:
        """log2 of the number of sizes that the file may have."""
        return math.log2(len({one.size for one in self.sizes}))

    def cell(self, atom: int) -> Cell | None:
        """What is undecided about this atom; None when nothing is."""
        return self.dirty.get(atom) or self.open.get(atom)

    def durable(self, atom: int, low: int, high: int) -> bytes:
        """Bytes [low, high) of an atom that is not undecided."""
        content = self.held.get(atom)
        if content is not None:
            return content[low:high]
        start = atom * self.atom
        found = bytes(self.base[start + low : min(start + high, self.limit)])
        return found if len(found) == high - low else found.ljust(high - low, b"\0")

    def base_bytes(self, atoms: range, start: int, stop: int) -> bytes | None:
        """Bytes [start, stop) of these atoms, if nobody has ever written there."""
        if stop > self.limit or (self.held and not self.held.keys().isdisjoint(atoms)):
            return None
        return bytes(self.base[start:stop])

    def newest(self, atom: int) -> bytes:
        """The page cache: zero behind the present size.

        Bytes that an earlier crash left undecided read as zero here. Whoever
        writes a part of such an atom has decided the other bytes before.
        """
        cell = self.dirty.get(atom)
        if cell is not None:
            content = cell.contents[-1]
        elif atom in self.open:
            content = _decided_bytes(self.open[atom], 0, self.atom)
        else:
            content = self.durable(atom, 0, self.atom)
        keep = self.size - atom * self.atom
        return content if keep >= self.atom else zero_from(content, keep, self.atom)

    def bared(self, end: int, skip: int | None = None) -> list[tuple[int, bytes]]:
        """What growing to `end` makes zero: number and content of each atom.

        `skip` is an atom to stop before, because somebody writes from there on.
        """
        atom, size = self.atom, self.size
        first = size // atom
        behind = -(-end // atom) if skip is None else skip
        touched = {
            at
            for layer in (self.held, self.open, self.dirty, self.fresh)
            for at in layer
            if first <= at < behind
        }
        touched.update(range(first, min(behind, -(-self.limit // atom))))
        if size % atom and first < behind:
            # The end of the last atom is zeroed in any case.
            touched.add(first)
        return [(at, self.newest(at)) for at in sorted(touched)]

    def forget_behind(self, size: int) -> None:
        """What is not pending and lies behind a durable size is gone."""
        self.limit = min(self.limit, size)
        atom = self.atom
        for at in [one for one in self.held if (one + 1) * atom > size]:
            keep = size - at * atom
            if keep <= 0:
                del self.held[at]
            else:
                self.held[at] = zero_from(self.held[at], keep, atom)
        for at in [one for one in self.open if (one + 1) * atom > size]:
            keep = size - at * atom
            if keep <= 0:
                del self.open[at]
            else:
                self.open[at] = self.open[at].cut(keep)

    def fork(self) -> FileImage:
        """A copy that shares the base."""
        made = FileImage(self.inode, self.base, self.atom)
        made.limit = self.limit
        made.held = dict(self.held)
        made.open = dict(self.open)
        made.dirty = dict(self.dirty)
        made.clean = set(self.clean)
        made.sizes = self.sizes
        made.life = self.life
        made.extensions = list(self.extensions)
        made.fresh = dict(self.fresh)
        made.synced = self.synced
        return made


def zero_from(content: bytes, keep: int, atom: int) -> bytes:
    """An atom whose bytes from `keep` on are zero."""
    return content[: max(keep, 0)].ljust(atom, b"\0")


def _decided_bytes(cell: Cell, low: int, high: int) -> bytes:
    """Bytes [low, high) of a cell, zero where they are undecided."""
    value = _decided(cell, low, high)
    if value is not None:
        return value
    if high - low == 1:
        return b"\0"
    middle = (low + high) // 2
    return _decided_bytes(cell, low, middle) + _decided_bytes(cell, middle, high)


def _decided(cell: Cell, low: int, high: int) -> bytes | None:
    """Bytes [low, high) of a cell when all its members agree; else None."""
    oldest = None
    if cell.rests_on_inner and cell.inner is not None:
        oldest = _decided(cell.inner, low, high)
        if oldest is None:
            return None
    groups = cell.groups(low, high, oldest)
    return groups[0].value if len(groups) == 1 else None
