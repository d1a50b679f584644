"""What the platter may hold: the state of a simulated device between operations.

Theory
======
An image follows a trace, one operation at a time, and always knows every legal
outcome of losing power *now*. It holds no image in the usual sense; it holds
what each piece may be, and the pieces are few:

    file     durable content, versions since the last sync, what an earlier
             crash left undecided, sizes: see `file_image`
    names    durable names, then the pending changes in order: see `entries`

A sync of a file makes its newest contents `held`. What an earlier crash left
undecided and nobody wrote since is not dirty; it stays open through a sync.

Cutting a file short changes no content, only the size. The bytes behind it
become zero when the file grows over them again, and that is when atoms get
their zero version: so the old size always comes with the old bytes, as on a
journalling file system, and growing costs what is grown over.

Inside and between
------------------
A crash inside a write, a truncate or a directory change leaves one of the
images of the point after it: each of its pieces has arrived or not. A crash
inside a sync leaves one of the images of the point before it. So an image
between two operations is all that the explorer needs.
"""

from __future__ import annotations

import math
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tornpage.platter.cell import ALWAYS, NEVER, NO_NEED, Cell
from tornpage.platter.damage import endangered, flights, garbage
from tornpage.platter.entries import Entries
from tornpage.platter.file_image import Extension, FileImage, Size, zero_from
from tornpage.platter.pieces import Changes, CutKey, NameChange, Tally
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
    from collections.abc import Container, Iterable, Mapping

    from tornpage.model import CrashModel
    from tornpage.platter.cell import Need
    from tornpage.platter.file_image import Fresh
    from tornpage.platter.parts import Parts
    from tornpage.platter.pieces import Place, Watch
    from tornpage.trace import Operation

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
    """

    __slots__ = (
        "_undecided",
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
        # Atoms that may be garbage, as asked for since the last operation.
        self._undecided: dict[tuple[int, int], Cell] = {}
        self.answers: dict[tuple[int, object], tuple[Any, Watch]] = {}
        self.parts: Parts | None = None
        for path in sorted(files):
            place, _ = self.entries.find(path.rstrip("/"))
            if path.endswith("/"):
                self.entries.find_folder(place)
            else:
                inode = len(self.files) + 1
                self.files[inode] = FileImage(inode, files[path], model.atom)
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
        return made

    def undecided(self, file: FileImage, at: int) -> Cell | None:
        """What an atom may hold after a crash now; None when that is known."""
        cell = file.cell(at)
        if not self.model.spoils:
            return cell
        known = self._undecided.get((file.inode, at))
        if known is not None:
            return known
        when = flights(file, at, self.model)
        if not when:
            return cell
        if at not in file.dirty:
            cell = self._clean_cell(file, at)
        assert cell is not None
        # Kept, because a cell remembers what its reads may return.
        cell = cell.spoiled(garbage(at, self.model.atom), when)
        self._undecided[file.inode, at] = cell
        return cell

    def begin(self) -> None:
        """Count what is undecided, after a new life was given its decisions."""
        self.tally.clear()
        for file in self.files.values():
            if len({one.size for one in file.sizes}) == 1:
                self._forget_behind(file, file.size)
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

    def apply(self, record: Operation) -> Changes:
        """Advance by one operation.

        Args:
            record: What was done.

        Returns:
            The pieces of which it changed what they may be.
        """
        changes = Changes()
        stamp = self.clock
        self.clock += 1
        if self._undecided:
            self._undecided = {}
        if self.answers:
            self.answers = {}
        if isinstance(record, Sync | SyncDir):
            self.last_sync = stamp
        if isinstance(record, Write):
            self._write(record, stamp, changes)
        elif isinstance(record, Sync):
            self._sync(record, stamp, changes)
        elif isinstance(record, Truncate):
            self._resize(self.files[record.inode], record.size, stamp, changes)
        elif isinstance(record, SyncDir):
            if record.result == "ok":
                self._sync_dir(posixpath.dirname(record.path), stamp, changes)
        elif isinstance(record, Create):
            self.files[record.inode] = FileImage(record.inode, b"", self.model.atom)
            place = self._find(record.path, changes)
            self._name(stamp, changes, (place, record.inode))
        elif isinstance(record, Rename):
            self._rename(record, stamp, changes)
        elif isinstance(record, Link):
            source = self._find(record.path, changes)
            target = self._find(record.target, changes)
            self._name(stamp, changes, (target, self.entries.present(source)))
        elif isinstance(record, Unlink):
            self._name(stamp, changes, (self._find(record.path, changes), None))
        elif isinstance(record, Mkdir):
            place = self._find(record.path, changes)
            changes.names |= self.entries.make_folder(stamp, self.life, place)
            self._count_names(stamp)
        elif isinstance(record, Rmdir):
            place, _ = self._find_folder(record.path, changes)
            self._name(stamp, changes, (place, None))
        return changes

    def _write(self, record: Write, stamp: int, changes: Changes) -> None:
        file = self.files[record.inode]
        offset, data = record.offset, record.data
        if not data:
            return
        end = offset + len(data)
        atom = self.model.atom
        first, behind = offset // atom, -(-end // atom)
        grows = end > file.size
        # The old size still rules while the parts around the write are taken
        # from the cache: what lies behind it is zero.
        changed: list[tuple[int, bytes]] = []
        for at in range(first, behind):
            low, high = at * atom, (at + 1) * atom
            if offset <= low and high <= end:
                changed.append((at, data[low - offset : high - offset]))
                continue
            old = file.newest(at)
            start, stop = max(offset, low), min(end, high)
            changed.append(
                (
                    at,
                    old[: start - low]
                    + data[start - offset : stop - offset]
                    + old[stop - low :],
                )
            )
        if grows:
            changed = [*file.bared(offset, skip=first), *changed]
            coupled = self.model.coupled_from(file.size)
            longer = range(max(first, coupled // atom), behind)
            begin = max(offset, coupled)
            if begin < end:
                file.extensions.append(Extension(stamp, begin, end, since=stamp))
            if self.model.extend == "garbage":
                whole = range(max(first, -(-file.size // atom)), behind)
                changes.atoms_of(file.inode).update(whole)
                file.grown_by(whole, stamp)
            handed = self._handed(file, range(first, behind))
            self._set_size(file, end, stamp, changes)
            self._set_atoms(file, changed, stamp, changes, longer, handed)
            return
        handed = range(first, behind) if self.model.spoils else ()
        self._set_atoms(file, changed, stamp, changes, handed=handed)

    def _resize(self, file: FileImage, size: int, stamp: int, changes: Changes) -> None:
        if size > file.size:
            bared = file.bared(size)
            handed = self._handed(file, range(0))
            self._set_atoms(file, bared, stamp, changes, handed=handed)
        file.extensions = [
            one for whole in file.extensions for one in whole.cut(size, stamp)
        ]
        self._set_size(file, size, stamp, changes)

    def _handed(self, file: FileImage, written: range) -> Container[int]:
        """Atoms that growing a file hands to the drive, with what is written."""
        if not self.model.spoils:
            return ()
        tail, inside = divmod(file.size, self.model.atom)
        return {*written, tail} if inside else written

    def _set_atoms(
        self,
        file: FileImage,
        changed: Iterable[tuple[int, bytes]],
        stamp: int,
        changes: Changes,
        longer: range = range(0),
        handed: Container[int] = (),
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
        """
        dirty = file.dirty
        noted = changes.atoms_of(file.inode)
        in_order = self.model.order == "ordered"
        appends = self.model.order == "append"
        level: int | None = stamp if in_order else None
        fresh = 0.0
        for at, content in changed:
            cell = dirty.get(at)
            if cell is None:
                cell = self._clean_cell(file, at)
                before = cell.bits() if at in file.open else 0.0
            else:
                before = cell.bits()
            if at in file.clean:
                file.clean.discard(at)
                file.again[at] = stamp
            if appends:
                level = stamp if at in longer else None
            new = cell.written(content, stamp, level, always=at in handed)
            if new is cell:
                continue
            dirty[at] = new
            noted.update(self._unit(at))
            bits = new.bits()
            if before:
                self.tally.add(before, -1)
            self.tally.add(bits)
            if in_order:
                pair = Cell(new.contents[-2:], new.stamps[-2:], self.model)
                # Over an undecided content: it arrived or it did not.
                fresh += pair.bits() if pair.contents[0] else 1.0
        if fresh:
            self.tally.reaches(stamp, fresh)

    def _unit(self, at: int) -> Iterable[int]:
        """The atoms of which a change of this one changes what they may be."""
        unit = self.model.unit_atoms
        if unit == 1:
            return (at,)
        begin = at - at % unit
        return range(begin, begin + unit)

    def _clean_cell(self, file: FileImage, at: int) -> Cell:
        """The oldest content of an atom that is not dirty."""
        inner = file.open.get(at)
        if inner is None:
            content = file.durable(at, 0, self.model.atom)
            return Cell((content,), (-1,), self.model, self.life)
        # The placeholder is never equal to a content, so that even writing
        # what is there already makes a version.
        return Cell((b"",), (-1,), self.model, self.life, inner=inner)

    def _set_size(
        self, file: FileImage, size: int, stamp: int, changes: Changes
    ) -> None:
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

    def _sync(self, record: Sync, stamp: int, changes: Changes) -> None:
        file = self.files[record.inode]
        if record.result == "reverted":
            self._revert(file, changes)
        elif record.result in {"failed", "silent", "read-only"}:
            self._mark_clean(file, changes)
        if record.result != "ok":
            return
        file.synced = stamp
        file.again.clear()
        called: list[NameChange] = []
        if self.model.names == "fsync" and record.kind == "fsync":
            called = self.entries.of_file(record.inode)
        if self.model.order == "ordered":
            stamps = [
                cell.stamps[-1]
                for at, cell in file.dirty.items()
                if at not in file.clean
            ]
            if file.life == self.life:
                stamps.append(file.sizes[-1].stamp)
            stamps += [one.stamp for one in called]
            if stamps:
                self._settle(max(stamps), stamp, changes)
            return
        if self.model.lies:
            self._doubt(file, stamp, changes)
        else:
            self._settle_file(file, NEVER, changes)
        if called:
            self._settle_called(called, stamp, changes)

    def _mark_clean(self, file: FileImage, changes: Changes) -> None:
        """Every page was handed over, some arrived; none is tried again."""
        for at, cell in file.dirty.items():
            file.dirty[at] = cell.freed()
        file.sift_fresh(lambda _, one: replace(one, freed=True))
        file.clean.update(file.dirty, file.fresh)
        # The size is metadata and stays pending; it may now come alone. One that an
        # earlier crash left came, if it did, with its data: no sync changes that.
        if file.life == self.life:
            file.extensions = []
        changes.everything = True

    def _revert(self, file: FileImage, changes: Changes) -> None:
        """Give up everything since the last sync, in the cache and below."""
        since = file.synced
        for at, cell in list(file.dirty.items()):
            self.tally.add(cell.bits(), -1)
            kept = cell.reverted(since)
            if len(kept.contents) > 1:
                file.dirty[at] = kept
                self.tally.add(kept.bits())
                continue
            del file.dirty[at]
            if at in file.open:
                self.tally.add(file.open[at].bits())
        if file.life == self.life:
            self.tally.add(file.size_bits, -1)
            first, *rest = file.sizes
            file.sizes = (first, *(one for one in rest if one.stamp <= since))
            if file.size_bits:
                self.tally.add(file.size_bits)
            file.extensions = [
                replace(one, until=one.until if one.until <= since else NEVER)
                for one in file.extensions
                if one.since <= since
            ]
        file.sift_fresh(lambda _, one: one if one.stamp <= since else None)
        changes.everything = True

    def _doubt(self, file: FileImage, sync: int, changes: Changes) -> None:
        """A sync that was ok, or else one of the few that lied."""
        lies = self.model.lies
        more = frozenset((sync,))
        longest = max(one.size for one in file.sizes)
        if longest > file.size and file.life == self.life:
            # Behind a size that may be durable all is gone, if it is.
            bared = file.bared(longest)
            self._set_atoms(
                file, [one for one in bared if one[0] not in file.clean], sync, changes
            )
        self._note_change(file, changes)
        for at, cell in list(file.dirty.items()):
            if at in file.clean:
                continue
            self.tally.add(cell.bits(), -1)
            kept = cell.doubted(sync, lies)
            if kept.inner is None:
                file.open.pop(at, None)
            if len(kept.contents) > 1:
                file.dirty[at] = kept
                self.tally.add(kept.bits())
            else:
                file.held[at] = kept.contents[0]
                del file.dirty[at]
        if file.life == self.life and len(file.sizes) > 1:
            changes.sizes[file.inode] = min(one.size for one in file.sizes)
            self.tally.add(file.size_bits, -1)
            *old, last = file.sizes
            old = [replace(one, need=one.need | more) for one in old]
            file.sizes = (*(one for one in old if len(one.need) <= lies), last)
            if file.size_bits:
                self.tally.add(file.size_bits)
            if len(file.sizes) == 1:
                self._forget_behind(file, last.size)
        if file.life == self.life:
            grown = [replace(one, need=one.need | more) for one in file.extensions]
            file.extensions = [one for one in grown if len(one.need) <= lies]

        def doubted(at: int, one: Fresh) -> Fresh | None:
            if at in file.clean:
                return one
            need = one.need | more
            return replace(one, need=need) if len(need) <= lies else None

        file.sift_fresh(doubted)

    def _note_change(self, file: FileImage, changes: Changes) -> None:
        """The sync of a file changes what its pending atoms may be."""
        noted = changes.atoms_of(file.inode)
        noted.update(file.fresh)
        if self.model.unit_atoms == 1:
            noted.update(file.dirty)
        else:
            for at in file.dirty:
                noted.update(self._unit(at))

    def _settle(self, stamp: int, sync: int, changes: Changes) -> None:
        """Make everything up to operation `stamp` durable, everywhere."""
        for file in self.files.values():
            self._settle_file(file, stamp, changes)
        upto = [one for one in self.entries.pending if one.stamp <= stamp]
        self._settle_names(upto, sync, changes)
        for old in [one for one in self.tally.reach if one <= stamp]:
            del self.tally.reach[old]

    def _settle_file(self, file: FileImage, stamp: int, changes: Changes) -> None:
        dirty = file.dirty
        if dirty or file.fresh:
            self._note_change(file, changes)
            file.sift_fresh(
                lambda at, one: (
                    one if one.stamp > stamp or file.is_left(at, stamp) else None
                )
            )
            left: dict[int, Cell] = {}
            for at, cell in dirty.items():
                if file.is_left(at, stamp):
                    left[at] = cell
                    continue
                self.tally.add(cell.bits(), -1)
                kept = cell.settled(stamp)
                if len(kept.contents) == 1:
                    file.held[at] = kept.contents[0]
                    file.open.pop(at, None)
                else:
                    left[at] = kept
                    self.tally.add(kept.bits())
                    if kept.inner is None:
                        file.open.pop(at, None)
            file.dirty = left
        if file.life == self.life and len(file.sizes) > 1:
            changes.sizes[file.inode] = min(one.size for one in file.sizes)
            self.tally.add(file.size_bits, -1)
            keep = max(
                (at for at, one in enumerate(file.sizes) if one.stamp <= stamp),
                default=0,
            )
            file.sizes = file.sizes[keep:]
            bits = file.size_bits
            if bits:
                self.tally.add(bits)
            if keep:
                self._forget_behind(file, file.sizes[0].size, stamp)
        if file.life == self.life:
            file.extensions = [one for one in file.extensions if one.stamp > stamp]

    def _forget_behind(self, file: FileImage, size: int, stamp: int = NEVER) -> None:
        """A durable size: what the platter has behind it cannot come back."""
        file.forget_behind(size)
        atom = self.model.atom
        if self.model.order != "ordered":
            return
        # Later versions may be pending over what is cut off.
        for at, cell in list(file.dirty.items()):
            keep = size - at * atom
            if keep >= atom or file.is_left(at, stamp):
                continue
            durable = zero_from(cell.contents[0], keep, atom)
            same = cell.contents[0] != durable == cell.contents[1]
            rest, stamps = cell.contents[1 + same :], cell.stamps[1 + same :]
            self.tally.add(cell.bits(), -1)
            if rest:
                cut = Cell(
                    (durable, *rest),
                    (-1, *stamps),
                    self.model,
                    self.life,
                    levels=cell.levels and (ALWAYS, *cell.levels[1 + same :]),
                )
                file.dirty[at] = cut
                self.tally.add(cut.bits())
            else:
                file.held[at] = durable
                del file.dirty[at]

    def _rename(self, record: Rename, stamp: int, changes: Changes) -> None:
        source = self._find(record.path, changes)
        number = self.entries.present(source)
        if number is None:
            source, number = self._find_folder(record.path, changes)
        target = self._find(record.target, changes)
        if self.model.rename == "atomic":
            self._name(stamp, changes, (target, number), (source, None))
        elif self.model.rename == "synced" and self._just_synced(number):
            self._name(stamp, changes, (target, number))
            # That the old name goes brings the new one, in whatever order they arrive.
            self._name(
                stamp, changes, (target, number), (source, None), directory=source[0]
            )
        else:
            self._name(stamp, changes, (target, None))
            self._name(stamp, changes, (target, number))
            self._name(stamp, changes, (source, None))

    def _just_synced(self, number: int) -> bool:
        """Whether that is a file of which the last sync was, and no lie."""
        file = self.files.get(number)
        if file is None or self.model.lies or self.last_sync < 0:
            return False
        return file.synced == self.last_sync

    def _find(self, path: str, changes: Changes) -> Place:
        """A place by its path; directories on the way may turn out to have been."""
        place, new = self.entries.find(path)
        changes.names |= new
        return place

    def _find_folder(self, path: str, changes: Changes) -> tuple[Place, int]:
        """A directory; one that goes though nobody spoke of it has been there."""
        place = self._find(path, changes)
        if place not in self.entries.known:
            changes.names.add(place)
        return place, self.entries.find_folder(place)

    def _name(
        self,
        stamp: int,
        changes: Changes,
        *entries: tuple[Place, int | None],
        directory: int | None = None,
    ) -> None:
        changes.names |= self.entries.change(
            stamp, self.life, *entries, directory=directory
        )
        self._count_names(stamp)

    def _count_names(self, stamp: int) -> None:
        if self.model.order == "ordered":
            self.tally.reaches(stamp, 1.0)

    def _sync_dir(self, path: str, sync: int, changes: Changes) -> None:
        directory = self.entries.folder(path)
        if directory is None:
            return
        mine = self.entries.of_directory(directory, self.life)
        if not mine:
            return
        if self.model.order == "ordered":
            self._settle(mine[-1].stamp, sync, changes)
        else:
            self._settle_called(mine, sync, changes)

    def _settle_called(
        self, called: list[NameChange], sync: int, changes: Changes
    ) -> None:
        """Make changes of names durable, and those before them if they have to."""
        if self.model.entries == "prefix":
            called = self.entries.upto(called[-1])
        self._settle_names(called, sync, changes)

    def _settle_names(
        self, settled: list[NameChange], sync: int, changes: Changes
    ) -> None:
        changes.names.update(self.entries.settle(settled, sync, self.life))
