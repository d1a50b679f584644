"""What an operation of the trace changes of an image.

Theory
======
A write changes nothing that is durable. It adds one more to what the pieces may be,
and `apply` says of which:

    write, truncate   +1 version of each atom, +1 size     pending in `FileImage`
    names             +1 change of an entry                pending in `Entries`
    sync              all of these decided, or fewer left  see `settling`

Cutting a file short changes no content, only the size. The bytes behind it
become zero when the file grows over them again, and that is when atoms get
their zero version: so the old size always comes with the old bytes, as on a
journalling file system, and growing costs what is grown over. A write there gives
two, because what was zero until then may have reached the platter without it:

    cut to 0      A
    write B       A   zero   B

What it is not: it makes nothing durable (`settling`), and it keeps nothing of its
own: all state is in the `Image`.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from tornpage.platter import settling
from tornpage.platter.file_image import Extension, FileImage
from tornpage.platter.pieces import Changes
from tornpage.trace import (
    Create,
    Forget,
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
    from collections.abc import Container

    from tornpage.platter.image import Image
    from tornpage.platter.pieces import Place
    from tornpage.trace import Operation

__all__ = ["apply"]


def apply(image: Image, record: Operation) -> Changes:
    """Advance an image by one operation.

    Args:
        image: It is changed.
        record: What was done.

    Returns:
        The pieces of which it changed what they may be.
    """
    changes = Changes()
    stamp = image.clock
    image.clock += 1
    if image.spoiled:
        image.spoiled = {}
    if image.answers:
        image.answers = {}
    if isinstance(record, Sync | SyncDir):
        image.last_sync = stamp
    if isinstance(record, Write):
        if image.entries.stuck:
            _change_again(image, record.inode)
        _write(image, record, stamp, changes)
    elif isinstance(record, Sync):
        settling.sync_file(image, record, stamp, changes)
    elif isinstance(record, Truncate):
        if record.size != image.files[record.inode].size:
            _change_again(image, record.inode)
        _resize(image, image.files[record.inode], record.size, stamp, changes)
    elif isinstance(record, Forget):
        file = image.files[record.inode]
        file.blocks = file.blocks.forgotten()
    elif isinstance(record, SyncDir):
        if record.result == "ok":
            settling.sync_dir(image, posixpath.dirname(record.path), stamp, changes)
    elif isinstance(record, Create):
        image.files[record.inode] = FileImage(record.inode, b"", image.model.atom)
        place = _find(image, record.path, changes)
        _name(image, stamp, changes, (place, record.inode))
    elif isinstance(record, Rename):
        _rename(image, record, stamp, changes)
    elif isinstance(record, Link):
        source = _find(image, record.path, changes)
        target = _find(image, record.target, changes)
        number = image.entries.present(source)
        _change_again(image, number)
        _name(image, stamp, changes, (target, number))
    elif isinstance(record, Unlink):
        place = _find(image, record.path, changes)
        _change_again(image, image.entries.present(place))
        _name(image, stamp, changes, (place, None))
    elif isinstance(record, Mkdir):
        place = _find(image, record.path, changes)
        changes.names |= image.entries.make_folder(stamp, image.life, place)
        _count_names(image, stamp)
    elif isinstance(record, Rmdir):
        place, _ = _find_folder(image, record.path, changes)
        _name(image, stamp, changes, (place, None))
    return changes


def _write(image: Image, record: Write, stamp: int, changes: Changes) -> None:
    file = image.files[record.inode]
    offset, data = record.offset, record.data
    if not data:
        return
    end = offset + len(data)
    file.rewritten = max(file.rewritten, end)
    if image.model.unwritten:
        file.blocks = file.blocks.written(offset, end)
    atom = image.model.atom
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
        coupled = image.model.coupled_from(file.size)
        longer = range(max(first, coupled // atom), behind)
        begin = max(offset, coupled)
        if begin < end:
            file.extensions.append(Extension(stamp, begin, end, since=stamp))
        if image.model.extend == "garbage":
            whole = range(max(first, -(-file.size // atom)), behind)
            changes.atoms_of(file.inode).update(whole)
            file.grown_by(whole, stamp)
        handed = _handed(image, file, range(first, behind))
        alone = min(coupled, end) if image.model.with_data else end
        _zero_what_was_cut(image, file, range(first, behind), alone, stamp, changes)
        image.set_size(file, end, stamp, changes)
        image.set_atoms(file, changed, stamp, changes, longer, handed)
        return
    _zero_what_was_cut(image, file, range(first, behind), 0, stamp, changes)
    handed = range(first, behind) if image.model.spoils else ()
    image.set_atoms(file, changed, stamp, changes, handed=handed)


def _zero_what_was_cut(
    image: Image,
    file: FileImage,
    written: range,
    alone: int,
    stamp: int,
    changes: Changes,
) -> None:
    """Give atoms the version that they have had since the file was cut.

    Those that operation `stamp` writes next, and those that its size may show without
    its data: they lie before byte `alone`.
    """
    size = file.size
    if file.life != image.life or size == max(one.size for one in file.sizes):
        return
    tail, inside = divmod(size, image.model.atom)
    zeros: list[tuple[int, bytes]] = []
    if alone > size:
        zeros = file.bared(alone)
    elif inside and tail in written:
        zeros = [(tail, file.newest(tail))]
    image.set_atoms(file, zeros, stamp, changes, since=file.sizes[-1].stamp)


def _resize(
    image: Image, file: FileImage, size: int, stamp: int, changes: Changes
) -> None:
    if size > file.size:
        bared = file.bared(size)
        handed = _handed(image, file, range(0))
        image.set_atoms(file, bared, stamp, changes, handed=handed)
    if image.model.unwritten:
        file.blocks = file.blocks.cut(size)
    file.extensions = [
        one for whole in file.extensions for one in whole.cut(size, stamp)
    ]
    image.set_size(file, size, stamp, changes)


def _handed(image: Image, file: FileImage, written: range) -> Container[int]:
    """Atoms that growing a file hands to the drive, with what is written."""
    if not image.model.spoils:
        return ()
    tail, inside = divmod(file.size, image.model.atom)
    return {*written, tail} if inside else written


def _rename(image: Image, record: Rename, stamp: int, changes: Changes) -> None:
    source = _find(image, record.path, changes)
    number = image.entries.present(source)
    if number is None:
        source, number = _find_folder(image, record.path, changes)
    _change_again(image, number)
    target = _find(image, record.target, changes)
    if image.model.rename == "atomic":
        _name(image, stamp, changes, (target, number), (source, None))
    elif image.model.rename == "synced" and _just_synced(image, number):
        _name(image, stamp, changes, (target, number))
        # That the old name goes brings the new one, in whatever order they arrive.
        _name(
            image, stamp, changes, (target, number), (source, None), directory=source[0]
        )
    else:
        _name(image, stamp, changes, (target, None))
        _name(image, stamp, changes, (target, number))
        _name(image, stamp, changes, (source, None))


def _change_again(image: Image, number: int | None) -> None:
    """A file is changed: a sync that works writes the names again that it was given."""
    if image.entries.stuck and number is not None:
        image.entries.stuck.pop(number, None)


def _just_synced(image: Image, number: int) -> bool:
    """Whether that is a file of which the last sync was, and no lie."""
    file = image.files.get(number)
    if file is None or image.model.lies or image.last_sync < 0:
        return False
    return file.synced == image.last_sync


def _find(image: Image, path: str, changes: Changes) -> Place:
    """A place by its path; directories on the way may turn out to have been."""
    place, new = image.entries.find(path)
    changes.names |= new
    return place


def _find_folder(image: Image, path: str, changes: Changes) -> tuple[Place, int]:
    """A directory; one that goes though nobody spoke of it has been there."""
    place = _find(image, path, changes)
    return place, image.entries.find_folder(place)


def _name(
    image: Image,
    stamp: int,
    changes: Changes,
    *entries: tuple[Place, int | None],
    directory: int | None = None,
) -> None:
    changes.names |= image.entries.change(
        stamp, image.life, *entries, directory=directory
    )
    _count_names(image, stamp)


def _count_names(image: Image, stamp: int) -> None:
    if image.model.order == "ordered":
        image.tally.reaches(stamp, 1.0)
