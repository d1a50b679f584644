"""What a sync settles, and what one that failed leaves.

Theory
======
Of the versions of an atom, oldest first, a crash leaves one. A sync takes some of
them away, of sizes and changes of names as of atoms:

    before                    durable   v1    v2    v3
    ok                                              v3    settled: v3 is held now
    ok, may have lied         durable   v1    v2    v3    all but v3 need the lie
    failed, silent, read-only durable   v1    v2    v3    no later sync takes them
                                                          until they are written again
    reverted                  durable   v1                v1 was there at the last sync

What a failed sync left of sizes and names is not taken away either, until the size, or
the file, was changed again: `FileImage.outlives`, `Entries.stuck`.

A sync of a file makes its newest contents `held`. What an earlier crash left
undecided and nobody wrote since is not dirty; it stays open through a sync. Under
`order=ordered` a sync settles everything, everywhere, up to the newest operation
that it is asked for.

What it is not: it asks nobody whether a sync fails. The trace says so; a disk decided
it (`life`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tornpage.platter.cell import ALWAYS, NEVER, Cell
from tornpage.platter.file_image import zero_from

if TYPE_CHECKING:
    from tornpage.platter.file_image import FileImage, Fresh
    from tornpage.platter.image import Image
    from tornpage.platter.pieces import Changes, NameChange
    from tornpage.trace import Sync

__all__ = ["sync_dir", "sync_file"]


def sync_file(image: Image, record: Sync, stamp: int, changes: Changes) -> None:
    """The sync of a file, whatever became of it."""
    file = image.files[record.inode]
    if record.result == "reverted":
        _revert(image, file, changes)
    elif record.result in {"failed", "silent", "read-only"}:
        _mark_clean(image, file, changes)
        if record.result != "silent":
            _stick(image, file, stamp)
        if image.model.unwritten:
            file.blocks = file.blocks.failed()
    if record.result != "ok":
        return
    file.synced = stamp
    file.again.clear()
    if image.model.unwritten:
        file.blocks = file.blocks.synced()
    called: list[NameChange] = []
    if image.model.names == "fsync" and record.kind == "fsync":
        called = image.entries.of_file(record.inode)
    if image.model.order == "ordered":
        stamps = [
            cell.stamps[-1] for at, cell in file.dirty.items() if at not in file.clean
        ]
        if file.life == image.life and not file.size_is_stuck:
            stamps.append(file.sizes[-1].stamp)
        stamps += [one.stamp for one in called]
        if stamps:
            _settle(image, max(stamps), stamp, changes)
        return
    if image.model.lies:
        _doubt(image, file, stamp, changes)
    else:
        _settle_file(image, file, NEVER, changes)
    if called:
        _settle_called(image, called, stamp, changes)


def _mark_clean(image: Image, file: FileImage, changes: Changes) -> None:
    """Every page was handed over, some arrived; none is tried again."""
    for at, cell in file.dirty.items():
        file.dirty[at] = cell.freed()
    file.sift_fresh(lambda _, one: replace(one, freed=True))
    file.clean.update(file.dirty, file.fresh)
    # The size may now come alone. One that an earlier crash left came, if it did,
    # with its data: no sync changes that.
    if file.life == image.life:
        file.extensions = []
    changes.everything = True


def _stick(image: Image, file: FileImage, stamp: int) -> None:
    """No sync is for the size any more, nor for the names that the file was given.

    Until they are changed. After a silent failure they are as they were: what was not
    written then is data, and the journal was.
    """
    file.failed = stamp
    file.rewritten = 0
    image.entries.stick(file.inode, image.life)


def _revert(image: Image, file: FileImage, changes: Changes) -> None:
    """Give up everything since the last sync, in the cache and below."""
    since = file.synced
    for at, cell in list(file.dirty.items()):
        image.tally.add(cell.bits(), -1)
        kept = cell.reverted(since)
        if len(kept.contents) > 1:
            file.dirty[at] = kept
            image.tally.add(kept.bits())
            continue
        del file.dirty[at]
        if at in file.open:
            image.tally.add(file.open[at].bits())
    if file.life == image.life:
        image.tally.add(file.size_bits, -1)
        first, *rest = file.sizes
        file.sizes = (first, *(one for one in rest if one.stamp <= since))
        if file.size_bits:
            image.tally.add(file.size_bits)
        file.extensions = [
            replace(one, until=one.until if one.until <= since else NEVER)
            for one in file.extensions
            if one.since <= since
        ]
    file.sift_fresh(lambda _, one: one if one.stamp <= since else None)
    changes.everything = True


def _doubt(image: Image, file: FileImage, sync: int, changes: Changes) -> None:
    """A sync that was ok, or else one of the few that lied."""
    lies = image.model.lies
    more = frozenset((sync,))
    longest = max(one.size for one in file.sizes)
    if longest > file.size and file.life == image.life and not file.size_is_stuck:
        # Behind a size that may be durable all is gone, if it is.
        bared = file.bared(longest)
        image.set_atoms(
            file, [one for one in bared if one[0] not in file.clean], sync, changes
        )
    _note_change(image, file, changes)
    for at, cell in list(file.dirty.items()):
        if at in file.clean:
            continue
        image.tally.add(cell.bits(), -1)
        kept = cell.doubted(sync, lies)
        if kept.inner is None:
            file.open.pop(at, None)
        if len(kept.contents) > 1:
            file.dirty[at] = kept
            image.tally.add(kept.bits())
        else:
            file.held[at] = kept.contents[0]
            del file.dirty[at]
    if file.life == image.life and len(file.sizes) > 1:
        changes.sizes[file.inode] = min(one.size for one in file.sizes)
        image.tally.add(file.size_bits, -1)
        left = [
            one if file.outlives(one) else replace(one, need=one.need | more)
            for one in file.sizes
        ]
        file.sizes = tuple(one for one in left if len(one.need) <= lies)
        if file.size_bits:
            image.tally.add(file.size_bits)
        if len(file.sizes) == 1:
            _forget_behind(image, file, file.size)
    if file.life == image.life:
        grown = [replace(one, need=one.need | more) for one in file.extensions]
        file.extensions = [one for one in grown if len(one.need) <= lies]

    def doubted(at: int, one: Fresh) -> Fresh | None:
        if at in file.clean:
            return one
        need = one.need | more
        return replace(one, need=need) if len(need) <= lies else None

    file.sift_fresh(doubted)


def _note_change(image: Image, file: FileImage, changes: Changes) -> None:
    """The sync of a file changes what its pending atoms may be."""
    noted = changes.atoms_of(file.inode)
    noted.update(file.fresh)
    if image.model.unit_atoms == 1:
        noted.update(file.dirty)
    else:
        for at in file.dirty:
            noted.update(image.unit_of(at))


def _settle(image: Image, stamp: int, sync: int, changes: Changes) -> None:
    """Make everything up to operation `stamp` durable, everywhere."""
    for file in image.files.values():
        _settle_file(image, file, stamp, changes)
    upto = [one for one in image.entries.pending if one.stamp <= stamp]
    _settle_names(image, upto, sync, changes)
    for old in [one for one in image.tally.reach if one <= stamp]:
        del image.tally.reach[old]


def _settle_file(image: Image, file: FileImage, stamp: int, changes: Changes) -> None:
    dirty = file.dirty
    if dirty or file.fresh:
        _note_change(image, file, changes)
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
            image.tally.add(cell.bits(), -1)
            kept = cell.settled(stamp)
            if len(kept.contents) == 1:
                file.held[at] = kept.contents[0]
                file.open.pop(at, None)
            else:
                left[at] = kept
                image.tally.add(kept.bits())
                if kept.inner is None:
                    file.open.pop(at, None)
        file.dirty = left
    if file.life == image.life and len(file.sizes) > 1:
        changes.sizes[file.inode] = min(one.size for one in file.sizes)
        image.tally.add(file.size_bits, -1)
        stuck = file.size_is_stuck
        if image.model.order == "ordered":
            keep = max(
                (at for at, one in enumerate(file.sizes) if one.stamp <= stamp),
                default=0,
            )
            settled, file.sizes = keep > 0, file.sizes[keep:]
        else:
            # What is behind a size that is stuck may come back with a longer one.
            settled = not stuck
            file.sizes = tuple(one for one in file.sizes if file.outlives(one))
        bits = file.size_bits
        if bits:
            image.tally.add(bits)
        if settled:
            _forget_behind(image, file, file.sizes[0].size, stamp)
    if file.life == image.life:
        file.extensions = [one for one in file.extensions if one.stamp > stamp]


def _forget_behind(
    image: Image, file: FileImage, size: int, stamp: int = NEVER
) -> None:
    """A durable size: what the platter has behind it cannot come back."""
    file.forget_behind(size)
    atom = image.model.atom
    if image.model.order != "ordered":
        return
    # Later versions may be pending over what is cut off.
    for at, cell in list(file.dirty.items()):
        keep = size - at * atom
        if keep >= atom or file.is_left(at, stamp):
            continue
        durable = zero_from(cell.contents[0], keep, atom)
        same = cell.contents[0] != durable == cell.contents[1]
        rest, stamps = cell.contents[1 + same :], cell.stamps[1 + same :]
        image.tally.add(cell.bits(), -1)
        if rest:
            cut = Cell(
                (durable, *rest),
                (-1, *stamps),
                image.model,
                image.life,
                levels=cell.levels and (ALWAYS, *cell.levels[1 + same :]),
            )
            file.dirty[at] = cut
            image.tally.add(cut.bits())
        else:
            file.held[at] = durable
            del file.dirty[at]


def sync_dir(image: Image, path: str, sync: int, changes: Changes) -> None:
    """The sync of a directory that returned 0."""
    directory = image.entries.folder(path)
    if directory is None:
        return
    mine = image.entries.of_directory(directory, image.life)
    if not mine:
        return
    if image.model.order == "ordered":
        _settle(image, mine[-1].stamp, sync, changes)
    else:
        _settle_called(image, mine, sync, changes)


def _settle_called(
    image: Image, called: list[NameChange], sync: int, changes: Changes
) -> None:
    """Make changes of names durable, and those before them if they have to."""
    if image.model.entries == "prefix":
        called = image.entries.upto(called[-1])
    _settle_names(image, called, sync, changes)


def _settle_names(
    image: Image, settled: list[NameChange], sync: int, changes: Changes
) -> None:
    changes.names.update(image.entries.settle(settled, sync, image.life))
