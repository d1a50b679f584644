"""Garbage: what nobody wrote and a crash may leave all the same.

Theory
======
Three parameters of the crash model let an atom hold something else than one
of its contents. Each says when:

    tear=garbage      while one of its own contents replaces another
    unit=n            while that happens to another atom of its aligned unit
    extend=garbage    while a write that made the file longer has not arrived

"While" is a *flight*: a content on its way to an atom, a stretch of crash
positions and the syncs that must have lied (see `cell`). Outside of all flights
an atom is never garbage.

Of the last there may be several in one atom, when the file was cut between them.
A later one does not undo that an earlier one may not have arrived.

Under `size=with-data` a size is not there before what it shows of the writes
that made the file longer. So it ends flights: those of contents up to the last
one that it came with, in each atom that these writes are in. What they have
damaged does not come with that size, neither in the atom nor in its unit. All
other flights go on, also those behind the end of the file. With `extend=garbage`
no size shows what has not arrived, but for a size that a failed sync let come
without its data: only writes of which a sync failed are such flights, and they end
with a later size that came with data of the same atom.

What garbage looks like
-----------------------
An arbitrary content is represented by one: bytes that follow from the number
of the atom alone. They are the same in every file, run and process, so that a
tape replays; they are as random as a hash, so that no checksum, magic number or
page number fits them by design. One is enough for code that either detects
damage or does not look at it. It is not enough to find code that only certain
bytes can fool, a checksum of eight bits, say, or a reader that takes zero for
"empty": for these the model stands for the one garbage, not for all.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

from tornpage.platter.cell import ALWAYS, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.model import CrashModel
    from tornpage.platter.cell import Flight
    from tornpage.platter.file_image import FileImage

__all__ = ["endangered", "flights", "garbage"]


@functools.lru_cache(maxsize=4096)
def garbage(atom: int, size: int) -> bytes:
    """The garbage of atom number `atom`, `size` bytes."""
    return hashlib.shake_128(b"garbage %d" % atom).digest(size)


def flights(file: FileImage, atom: int, model: CrashModel) -> list[Flight]:
    """When this atom may be garbage, each time once."""
    found: list[Flight] = []
    cell = file.dirty.get(atom)
    if model.tear == "garbage" and cell is not None:
        found += cell.flights(atom)
    unit = model.unit_atoms
    if unit > 1:
        begin = atom - atom % unit
        for other in range(begin, begin + unit):
            if other != atom and other in file.dirty:
                found += file.dirty[other].flights(other)
    for one in file.fresh.get(atom, ()):
        if _waits(model) and not one.freed:
            # No size shows this atom before the data of this write is there.
            continue
        whole = one.freed or model.order != "ordered"
        when = (ALWAYS, NEVER) if whole else (one.stamp, one.stamp)
        found.append((atom, one.stamp, *when, one.need))
    # What no size ends differs in its time alone; an ending one at that time adds
    # nothing.
    endless = dict.fromkeys(
        _endless(one) for one in found if not _may_end(file, one, model)
    )
    ending = dict.fromkeys(one for one in found if _endless(one) not in endless)
    return [*endless, *ending]


def _endless(flight: Flight) -> Flight:
    _, _, first, last, need = flight
    return 0, NEVER, first, last, need


def endangered(file: FileImage, model: CrashModel) -> Iterator[int]:
    """The atoms that may be garbage, and perhaps some more."""
    unit = model.unit_atoms
    begins = {atom - atom % unit for atom in file.dirty}
    near = {begin + at for begin in begins for at in range(unit)}
    sectors = -(-max(one.size for one in file.sizes) // model.atom)
    return (atom for atom in sorted(near | file.fresh.keys()) if atom < sectors)


def _may_end(file: FileImage, flight: Flight, model: CrashModel) -> bool:
    """Whether some size says that this content is on the platter."""
    atom, stamp, *_ = flight
    return _waits(model) and any(
        stamp <= one.stamp and atom in one.atoms(model.atom) for one in file.extensions
    )


def _waits(model: CrashModel) -> bool:
    """Whether a size waits for data."""
    return model.with_data
