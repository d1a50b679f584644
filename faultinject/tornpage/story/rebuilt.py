"""A platter that has everything but one operation, or a part of it.

Theory
======
To ask what the loss of one operation does is to build the disk that shows it. Only
disks that the crash model has are worth asking: an explanation by another one is no
fact. So what arrives comes as on a disk, by atoms and not by operations:

    cache     A A A A | . . . .      write A
              A A B B | . . . .      write B, A lost: what goes to the platter is
    platter   A A B B | . . . .      the atom as the cache has it, A's bytes in it

An operation that arrives brings each atom that it touched, with all that was there
in the page cache by then, and the size if it changed that. One that is lost brings
nothing. One that is torn brings a part:

    only its size       the file is longer, and reads as before (`size=free`)
    only its bytes      as many of them as the old size shows
    some atoms          cut between two of them; inside of one where `tear` has it

A sync that reverts takes the page cache back to the last good one, and the platter.
What it is not: it does not say what the model loses together with an operation
(`reason`), and knows no lies and no garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tornpage.model import SECTOR, CrashModel
from tornpage.platter import transition
from tornpage.platter.file_image import FileImage
from tornpage.platter.image import Image
from tornpage.trace import Create, NamesOnly, Sync, SyncDir, Truncate, Write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Sequence as Seq
    from collections.abc import Set as AbstractSet

    from tornpage.trace import Operation

__all__ = ["Part", "parts", "platter_but", "sizes_before"]

_MOST_CUTS: Final = 40
_HEAD: Final = 36


class Part(NamedTuple):
    """What of a write arrives.

    Attributes:
        first: First byte of it that does, and
        behind: the one behind the last, counted from its beginning.
        grown: Whether the file is as long as the write made it.
    """

    first: int
    behind: int
    grown: bool


def parts(record: Write, before: int, model: CrashModel) -> Iterator[Part]:
    """The ways in which a write may arrive in part, the simplest first.

    Both ways round: a drive may write the sectors of a page in any order.

    Args:
        record: The write.
        before: How many bytes the file had before it.
        model: What a crash may do.
    """
    length, atom = len(record.data), model.atom
    old = before - record.offset
    longer = old < length
    # A size that comes with its data cannot come without.
    alone = model.size == "free" or model.order == "ordered"
    if longer and alone:
        yield Part(0, 0, grown=True)
    if longer and old > 0:
        yield Part(0, old, grown=False)
    seen = length if alone else min(length, old)
    first = atom - record.offset % atom
    cuts = [*range(first, seen, atom)[:_MOST_CUTS]]
    if model.mixes:
        step = max(1, min(length, SECTOR) // _MOST_CUTS)
        # Where a head has its fields, each is a place of its own.
        inside = {*range(4, _HEAD, 4), *range(step, SECTOR, step)}
        cuts += sorted(at for at in inside if at < seen)
    for at in cuts:
        yield Part(0, at, grown=longer and alone)
        yield Part(at, seen, grown=longer and alone)


def sizes_before(
    files: Mapping[str, bytes], operations: Seq[Operation]
) -> Iterator[int]:
    """How many bytes the file of each operation has before it; 0: it has no file."""
    image = Image(files, CrashModel())
    sizes = {inode: len(file.base) for inode, file in image.files.items()}
    synced = dict(sizes)
    for record in operations:
        yield sizes.get(getattr(record, "inode", -1), 0)
        match record:
            case Create():
                sizes[record.inode] = synced[record.inode] = 0
            case Write():
                end = record.offset + len(record.data)
                sizes[record.inode] = max(sizes[record.inode], end)
            case Truncate():
                sizes[record.inode] = record.size
            case Sync(result="ok"):
                synced[record.inode] = sizes[record.inode]
            case Sync(result="reverted"):
                sizes[record.inode] = synced[record.inode]


def platter_but(
    files: Mapping[str, bytes],
    model: CrashModel,
    operations: Seq[Operation],
    lost: AbstractSet[int],
    torn: tuple[int, Part] | None,
) -> Image:
    """The platter when all operations have arrived but some, and of one a part.

    Args:
        files: What was durable before.
        model: What a crash may do.
        operations: What was issued.
        lost: Those that have not arrived, by their numbers; the torn one may be in it.
        torn: The one that has arrived in part, and what of it.
    """
    image = Image(files, model)
    contents = {
        inode: _Content(file.base, model) for inode, file in image.files.items()
    }
    for index, record in enumerate(operations):
        part = torn[1] if torn is not None and torn[0] == index else None
        arrives = index not in lost
        match record:
            case Write():
                whole = Part(0, len(record.data), grown=True) if arrives else None
                contents[record.inode].write(record, part or whole)
            case Truncate():
                contents[record.inode].truncate(record.size, arrives=arrives)
            case Sync():
                contents[record.inode].sync(record.result)
            case Create():
                contents[record.inode] = _Content(b"", model)
        if isinstance(record, NamesOnly | Sync | SyncDir):
            image.clock = index
            transition.apply(image, record)
    for one in image.entries.pending:
        image.entries.kept[one.key] = one.stamp not in lost
    for inode, content in contents.items():
        image.files[inode] = FileImage(inode, content.shown(), model.atom)
    return image


class _Content:
    """A file as the page cache has it, and as the platter does.

    The platter keeps what is behind the end until a shorter size is durable, or, where
    what happens comes in order, there: any longer size comes behind it.
    """

    __slots__ = (
        "_atom",
        "_cache",
        "_in_order",
        "_pending",
        "_platter",
        "_rewritten",
        "_size",
        "_stuck",
        "_synced",
    )

    def __init__(self, base: bytes, model: CrashModel) -> None:
        self._atom = model.atom
        self._in_order = model.order == "ordered"
        self._cache = bytearray(base)
        self._synced = bytes(base)
        self._platter = bytearray(base)
        self._size = len(base)
        # Whether the size was changed since it was durable; whether a sync has failed
        # since then; behind the last byte written since that one.
        self._pending = self._stuck = False
        self._rewritten = 0

    def shown(self) -> bytes:
        """What the platter has up to the file's end."""
        return bytes(self._platter[: self._size]).ljust(self._size, b"\0")

    def write(self, record: Write, part: Part | None) -> None:
        """Write; `part` of it arrives, or nothing."""
        cache, start = self._cache, record.offset
        old, end = len(cache), record.offset + len(record.data)
        cache.extend(bytes(max(end - old, 0)))
        cache[start:end] = record.data
        self._rewritten = max(self._rewritten, end)
        if end > old:
            self._pending, self._stuck = True, False
        if part is None:
            return
        if end > old and part.grown:
            self._size = end
        if part.first == part.behind:
            return
        # What is beside its bytes in its first and in its last atom comes with these;
        # so does the hole that it leaves behind the old end.
        whole = part.behind == len(record.data)
        low = start + part.first if part.first else None
        self._bring(min(old, start), end, low, None if whole else start + part.behind)

    def truncate(self, size: int, *, arrives: bool) -> None:
        """Set the size, in bytes."""
        old = len(self._cache)
        del self._cache[size:]
        self._cache.extend(bytes(max(size - old, 0)))
        if size != old:
            self._pending, self._stuck = True, False
        if arrives and size != old:
            self._size = size
            if self._in_order:
                del self._platter[size:]
            self._bring(old, size)

    def sync(self, result: str) -> None:
        """Sync, with this result.

        What it makes durable has arrived, but for the size of a write whose bytes an
        earlier sync has failed to write.
        """
        if result == "ok":
            self._synced = bytes(self._cache)
            if self._stuck and self._size >= self._rewritten:
                return
            self._size = len(self._cache)
            if not self._stuck:
                self._pending = False
                del self._platter[self._size :]
        elif result in {"failed", "silent", "read-only"}:
            self._stuck, self._rewritten = self._pending, 0
        elif result == "reverted":
            self._cache[:] = self._platter[:] = self._synced
            self._size = len(self._synced)

    def _bring(
        self, first: int, behind: int, low: int | None = None, high: int | None = None
    ) -> None:
        """Bring the atoms of [first, behind) as they are now, between `low` and `high`.

        None: no cut there.
        """
        if first >= behind:
            return
        atom, platter = self._atom, self._platter
        begin = first // atom * atom if low is None else low
        stop = -(-behind // atom) * atom if high is None else high
        platter.extend(bytes(max(stop - len(platter), 0)))
        platter[begin:stop] = self._cache[begin:stop].ljust(stop - begin, b"\0")
