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
do to them is the business of `transition`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tornpage.platter.blocks import Blocks
from tornpage.platter.cell import ALWAYS, NEVER, NO_NEED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.platter.cell import Cell, Need

__all__ = ["Extension", "FileImage", "Fresh", "Size", "zero_from"]


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


@dataclass(frozen=True, slots=True)
class Extension:
    """Bytes by which a write made a file longer, as long as sizes show them.

    Attributes:
        stamp: The write.
        start: First byte and
        end: byte behind the last.
        since: First operation whose size shows them and
        until: the first one after it whose size does not, because the file was cut.
        need: Syncs that must have lied if they are not durable.
    """

    stamp: int
    start: int
    end: int
    since: int
    until: int = NEVER
    need: Need = NO_NEED

    def atoms(self, atom: int) -> range:
        """The atoms that they are in."""
        return range(self.start // atom, -(-self.end // atom))

    def cut(self, size: int, stamp: int) -> tuple[Extension, ...]:
        """What is to be known once operation `stamp` has cut the file to `size`."""
        if self.until < NEVER or size >= self.end:
            return (self,)
        before = replace(self, until=stamp)
        if size <= self.start:
            return (before,)
        return before, replace(self, end=size, since=stamp)


@dataclass(frozen=True, slots=True)
class Fresh:
    """A write that made the file longer by an atom and is not durable there.

    Attributes:
        stamp: The write.
        need: Syncs that must have lied if it is not durable.
        freed: Whether a failed sync took it out of the order, and from what its
            size comes with.
    """

    stamp: int
    need: Need = NO_NEED
    freed: bool = False


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
        again: Of atoms that were clean the operation that wrote them again: a sync
            that makes durable only what was before it does not write them.
        sizes: Legal sizes, oldest first; the last one is the present one.
        life: The life of the disk in which the sizes were made.
        extensions: What writes that are not durable made the file longer by, in
            their order.
        fresh: Atom -> the writes that made the file longer by it, as long as
            their data is not durable (extend=garbage). There are several when the
            file was cut between them; the newest does not undo the others.
        synced: Stamp of the last sync that returned 0.
        failed: Stamp of the last sync that left pages clean: sizes up to it are stuck.
        rewritten: Behind the last byte that was written since then.
        blocks: Under `fail=unwritten`, the state of its blocks.
    """

    __slots__ = (
        "again",
        "atom",
        "base",
        "blocks",
        "clean",
        "dirty",
        "extensions",
        "failed",
        "fresh",
        "held",
        "inode",
        "life",
        "limit",
        "open",
        "rewritten",
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
        self.again: dict[int, int] = {}
        self.sizes: tuple[Size, ...] = (Size(len(base), -1),)
        self.life = 0
        self.extensions: list[Extension] = []
        self.fresh: dict[int, tuple[Fresh, ...]] = {}
        self.synced = ALWAYS
        self.failed = ALWAYS
        self.rewritten = 0
        self.blocks = Blocks()

    @property
    def size(self) -> int:
        """The size that the running program sees."""
        return self.sizes[-1].size

    @property
    def size_bits(self) -> float:
        """log2 of the number of sizes that the file may have."""
        return math.log2(len({one.size for one in self.sizes}))

    @property
    def size_is_stuck(self) -> bool:
        """Whether the present size is one that a failed sync left."""
        return len(self.sizes) > 1 and self.sizes[-1].stamp <= self.failed

    def outlives(self, size: Size) -> bool:
        """Whether this size is there still when a sync of the file has worked.

        One that is older than the present one goes, but when that is stuck. Then the
        sync brings the size as far as it writes.
        """
        if size is self.sizes[-1]:
            return True
        return self.size_is_stuck and size.size >= self.rewritten

    def came(self, atom: int, arrived: int) -> int:
        """The newest write that came to this atom with the size of an operation.

        Args:
            atom: Its number.
            arrived: The operation. Under `size=with-data` its size is not there
                without what it shows of the writes that made the file longer.

        Returns:
            The stamp of the write; ALWAYS when there is none.
        """
        low = atom * self.atom
        high = low + self.atom
        for one in reversed(self.extensions):
            if one.start < high and low < one.end and one.since <= arrived < one.until:
                return one.stamp
        return ALWAYS

    def has_grown(self, atom: int) -> bool:
        """Whether a write that is not durable made the file longer in this atom."""
        low = atom * self.atom
        high = low + self.atom
        return any(one.start < high and low < one.end for one in self.extensions)

    def is_left(self, atom: int, stamp: int) -> bool:
        """Whether what makes all up to `stamp` durable leaves this atom as it is."""
        return atom in self.clean or self.again.get(atom, ALWAYS) > stamp

    def grown_by(self, atoms: range, stamp: int) -> None:
        """Operation `stamp` made the file longer by these atoms."""
        one = Fresh(stamp)
        for at in atoms:
            self.fresh[at] = (*self.fresh.get(at, ()), one)

    def sift_fresh(self, left: Callable[[int, Fresh], Fresh | None]) -> None:
        """Change what is `fresh`: what is left of each write in each atom, if any."""
        sifted: dict[int, tuple[Fresh, ...]] = {}
        for at, some in self.fresh.items():
            kept = tuple(new for one in some if (new := left(at, one)) is not None)
            if kept:
                sifted[at] = kept
        self.fresh = sifted

    def weakest(self, sizes: Sequence[Size]) -> tuple[Size, ...]:
        """For each size the one that stands for it: it is equal and allows more.

        A file that was cut and grew again has come to one size in several ways, and
        with other data in each (`size=with-data`). Most often one way allows all
        that the others allow; where none does, several sizes stand for themselves.
        """
        if len({one.size for one in sizes}) == len(sizes):
            return tuple(sizes)
        left: list[Size] = []
        for one in sizes:
            if not any(self._allows(other, one) for other in left):
                left = [other for other in left if not self._allows(one, other)]
                left.append(one)
        return tuple(
            next(other for other in left if self._allows(other, one)) for one in sizes
        )

    def _allows(self, one: Size, other: Size) -> bool:
        """Whether a size has every image that another one has."""
        if one.size != other.size or not one.need <= other.need:
            return False
        came = self._all_that_came(other.stamp)
        return all(
            came.get(at, ALWAYS) >= stamp
            for at, stamp in self._all_that_came(one.stamp).items()
        )

    def _all_that_came(self, arrived: int) -> dict[int, int]:
        """`came` of all atoms that have one."""
        return {
            at: one.stamp
            for one in self.extensions
            if one.since <= arrived < one.until
            for at in one.atoms(self.atom)
        }

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
        made.again = dict(self.again)
        made.sizes = self.sizes
        made.life = self.life
        made.extensions = list(self.extensions)
        made.fresh = dict(self.fresh)
        made.synced = self.synced
        made.failed = self.failed
        made.rewritten = self.rewritten
        made.blocks = self.blocks
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
