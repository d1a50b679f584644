"""What the platter may hold: the state of a simulated device between operations.

Theory
======
An image always knows every legal outcome of losing power *now*. It holds no image in
the usual sense; it holds what each piece may be, and the pieces are few:

    file     durable content, versions since the last sync, what an earlier
             crash left undecided, sizes: see `file_image`
    names    durable names, then the pending changes in order: see `entries`

It follows a trace, one operation at a time. What an operation changes is the
business of `transition`; here are the two changes that all it does to files consists
of, because the image keeps count of them:

    set_atoms    an atom may hold one content more
    set_size     a file may have one size more

Inside and between
------------------
A crash inside a write, a truncate or a directory change leaves one of the
images of the point after it: each of its pieces has arrived or not. A crash
inside a sync leaves one of the images of the point before it. So an image
between two operations is all that the explorer needs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tornpage.platter.blocks import BLOCK, Blocks
from tornpage.platter.cell import ALWAYS, NO_NEED, Cell
from tornpage.platter.damage import endangered, flights, garbage
from tornpage.platter.entries import Entries
from tornpage.platter.file_image import FileImage, Size
from tornpage.platter.pieces import CutKey, Tally

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from tornpage.model import CrashModel
    from tornpage.platter.cell import Need
    from tornpage.platter.parts import Parts
    from tornpage.platter.pieces import Changes, Watch

__all__ = ["Image"]


class Image:
    """All files and names of a device.

    Args:
        files: Durable files by name; a name that ends with "/" is a directory.
        model: What a crash may do.
        known: Names that there have been, with a "/" behind directories that somebody
            made; None: those directories of `files`.
        links: Further names of files, each with one that is in `files`.

    Attributes:
        files: By inode.
        entries: All names.
        cuts: First and last crash position still possible, by life (and file,
            under `order=append`), as far as a life after the crash found out.
        lied: Syncs that turned out to have lied.
        life: How many crashes the disk has had.
        clock: Stamp of the next operation.
        last_sync: The last sync of this life, of whatever; -1: there was none.
        tally: How many images there are.
        answers: What was asked of this platter and may be answered, by inode and
            question, with what it takes to ask; see `question`.
        parts: Answers that are kept while it advances; None: none are.
        spoiled: Atoms that may be garbage, by inode and number, as far as somebody
            asked since the last operation.
    """

    __slots__ = (
        "answers",
        "clock",
        "cuts",
        "entries",
        "files",
        "last_sync",
        "lied",
        "life",
        "model",
        "parts",
        "spoiled",
        "tally",
    )

    def __init__(
        self,
        files: Mapping[str, bytes],
        model: CrashModel,
        known: Iterable[str] | None = None,
        links: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.files: dict[int, FileImage] = {}
        self.entries = Entries(model)
        self.cuts: dict[CutKey, tuple[int, int]] = {}
        self.lied = NO_NEED
        self.life = 0
        self.clock = 0
        self.last_sync = -1
        self.tally = Tally()
        self.spoiled: dict[tuple[int, int], Cell] = {}
        self.answers: dict[tuple[int, object], tuple[Any, Watch]] = {}
        self.parts: Parts | None = None
        for path in sorted(files):
            place, _ = self.entries.find(path.rstrip("/"))
            if path.endswith("/"):
                self.entries.find_folder(place)
            else:
                inode = len(self.files) + 1
                file = self.files[inode] = FileImage(inode, files[path], model.atom)
                file.blocks = Blocks.of(len(file.base))
                self.entries.put(place, inode)
        for path, other in (links or {}).items():
            there, _ = self.entries.find(other)
            place, _ = self.entries.find(path)
            self.entries.put(place, self.entries.settled[there])
        if known is None:
            known = [path for path in files if path.endswith("/")]
        self.entries.spoken_of(known)

    def fork(self) -> Image:
        """A copy to advance independently; base bytes and cells are shared."""
        made = Image({}, self.model)
        made.files = {inode: one.fork() for inode, one in self.files.items()}
        made.entries = self.entries.fork()
        made.cuts = dict(self.cuts)
        made.lied = self.lied
        made.life = self.life
        made.clock = self.clock
        made.last_sync = self.last_sync
        made.tally = self.tally.fork()
        return made

    def reborn(
        self,
        kept: Mapping[int, bool],
        cuts: Mapping[CutKey, tuple[int, int]],
        lied: Need,
    ) -> Image:
        """The same platter at the start of another life, with an empty cache.

        Args:
            kept: Which pending changes of names turned out to be there.
            cuts: Which crash positions turned out to be possible.
            lied: Which syncs turned out to have lied.
        """
        made = self.fork()
        made.life += 1
        made.last_sync = -1
        made.entries.begin_life(kept)
        made.cuts = dict(cuts)
        made.lied = lied
        for inode, one in made.files.items():
            one.open.update(one.dirty)
            if self.model.spoils:
                old = self.files[inode]
                for at in endangered(old, self.model):
                    cell = self.undecided(old, at)
                    if cell is not None:
                        one.open[at] = cell
            one.dirty.clear()
            one.clean.clear()
            one.again.clear()
            one.fresh.clear()
            one.failed = ALWAYS
        return made

    def undecided(self, file: FileImage, at: int) -> Cell | None:
        """What an atom may hold after a crash now; None when that is known."""
        cell = file.cell(at)
        if not self.model.spoils:
            return cell
        known = self.spoiled.get((file.inode, at))
        if known is not None:
            return known
        when = flights(file, at, self.model)
        if not when:
            return cell
        if at not in file.dirty:
            cell = self.clean_cell(file, at)
        assert cell is not None
        # Kept, because a cell remembers what its reads may return.
        cell = cell.spoiled(garbage(at, self.model.atom), when)
        self.spoiled[file.inode, at] = cell
        return cell

    def begin(self) -> None:
        """Count what is undecided, after a new life was given its decisions."""
        self.tally.clear()
        for file in self.files.values():
            if self.model.unwritten:
                # Whoever writes behind the least size has decided it.
                file.blocks = Blocks.of(min(one.size for one in file.sizes))
            if len({one.size for one in file.sizes}) == 1:
                file.forget_behind(file.size)
            for cell in file.open.values():
                self.tally.add(cell.bits())
            self.tally.add(file.size_bits)

    def images_log2(self) -> float:
        """log2 of the number of distinct devices that a crash now may leave.

        Two devices differ when an atom, a size or a pending change of names
        does. Under `order=ordered` an image is counted once for each
        operation that may have been in flight. Not counted: images for which a
        sync must have lied, and garbage in other atoms than those being
        written. Counted though not all legal: combinations of appends that
        `order=append` forbids, and of sizes and data under `size=with-data`.
        """
        if self.model.order == "ordered":
            return self.tally.positions()
        names = sum(
            1.0
            for one in self.entries.pending
            if one.key not in self.entries.kept and not one.need
        )
        if self.model.entries == "prefix":
            names = math.log2(names + 1.0)
        return names + self.tally.product()

    def pending(self) -> frozenset[int]:
        """The operations of which a crash now may lose something, by their stamps."""
        stamps = {
            one.stamp
            for one in self.entries.pending
            if one.key not in self.entries.kept
        }
        for file in self.files.values():
            # The first of all that may be there is what is durable.
            stamps.update(one.stamp for one in file.sizes[1:])
            stamps.update(one.stamp for some in file.fresh.values() for one in some)
            for cell in file.dirty.values():
                stamps.update(cell.stamps[1:])
        return frozenset(one for one in stamps if one >= 0)

    def set_atoms(
        self,
        file: FileImage,
        changed: Iterable[tuple[int, bytes]],
        stamp: int,
        changes: Changes,
        longer: range = range(0),
        handed: Container[int] = (),
        since: int | None = None,
    ) -> None:
        """Give atoms a new content.

        Args:
            file: Their file.
            changed: Number and content of each.
            stamp: The operation that does it.
            changes: Gets them.
            longer: Those that an append adds to.
            handed: Those that go out to the platter even when they hold these
                bytes already; it matters where that may spoil something.
            since: The operation from which on they have had it; None: this one.
        """
        dirty = file.dirty
        noted = changes.atoms_of(file.inode)
        in_order = self.model.order == "ordered"
        appends = self.model.order == "append"
        marked = file.blocks.marked
        made = stamp if since is None else since
        level: int | None = made if in_order else None
        fresh = 0.0
        for at, content in changed:
            cell = dirty.get(at)
            if cell is None:
                cell = self.clean_cell(file, at)
                before = cell.bits() if at in file.open else 0.0
            else:
                before = cell.bits()
            if marked and at * self.model.atom // BLOCK in marked:
                file.clean.add(at)
            elif at in file.clean:
                file.clean.discard(at)
                file.again[at] = stamp
            if appends:
                level = stamp if at in longer else None
            new = cell.written(content, made, level, always=at in handed)
            if new is cell:
                continue
            dirty[at] = new
            noted.update(self.unit_of(at))
            bits = new.bits()
            if before:
                self.tally.add(before, -1)
            self.tally.add(bits)
            if in_order:
                pair = Cell(new.contents[-2:], new.stamps[-2:], self.model)
                # Over an undecided content: it arrived or it did not.
                fresh += pair.bits() if pair.contents[0] else 1.0
        if fresh:
            self.tally.reaches(made, fresh)

    def unit_of(self, at: int) -> Iterable[int]:
        """The atoms of which a change of this one changes what they may be."""
        unit = self.model.unit_atoms
        if unit == 1:
            return (at,)
        begin = at - at % unit
        return range(begin, begin + unit)

    def clean_cell(self, file: FileImage, at: int) -> Cell:
        """The oldest content of an atom that is not dirty."""
        inner = file.open.get(at)
        if inner is None:
            content = file.durable(at, 0, self.model.atom)
            return Cell((content,), (-1,), self.model, self.life)
        # The placeholder is never equal to a content, so that even writing
        # what is there already makes a version.
        return Cell((b"",), (-1,), self.model, self.life, inner=inner)

    def set_size(
        self, file: FileImage, size: int, stamp: int, changes: Changes
    ) -> None:
        """Give a file a new size; says so in `changes`."""
        if size == file.size:
            return
        before = file.size_bits
        if file.life != self.life:
            # An earlier life's sizes: the program has decided on one of them.
            file.sizes = (Size(file.size, -1),)
            file.life = self.life
        last = file.sizes[-1]
        if self.model.order == "ordered":
            old = replace(last, last=stamp)
            file.sizes = (*file.sizes[:-1], old, Size(size, stamp, stamp))
            self.tally.reaches(stamp, 1.0)
        else:
            file.sizes = (*file.sizes, Size(size, stamp))
        if before:
            self.tally.add(before, -1)
        self.tally.add(file.size_bits)
        changes.sizes[file.inode] = min(one.size for one in file.sizes)
