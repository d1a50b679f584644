"""The metas of a damaged file: which version to salvage.

    sound metas            the one with the wanted txid, else the newest
    damaged, magic there   its root and page size are hints, to be tried
    nothing                page size guessed from the pages, see `pages`

A meta can have a right checksum and be absurd all the same, because whoever
wrote it may have been broken. One whose page size or root cannot exist is not
believed here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shearbolt.errors import InvalidDatabaseError, OptionError
from shearbolt.pages.format import (
    MAGIC,
    MAX_FOREIGN_PAGE_SIZE,
    META_SIZE,
    MIN_PAGE_SIZE,
    PAGE_HEADER_SIZE,
    Meta,
    MetaError,
)
from shearbolt.salvage.pages import guess_page_size
from shearbolt.salvage.records import MetaState

if TYPE_CHECKING:
    from shearbolt.storage.robust import RobustFile

__all__ = ["FoundMetas", "find_metas"]

_FIELDS: Final = struct.Struct("<IIIIQQQQQQ")
_SMALLEST_PAGE: Final = PAGE_HEADER_SIZE + META_SIZE


@dataclass(frozen=True, slots=True)
class FoundMetas:
    """What the metas tell.

    Attributes:
        page_size: Bytes a page, from a meta or guessed.
        meta: The version to read, None when no meta can be believed.
        states: Both slots.
        hints: Root pages named by metas that cannot be believed.
    """

    page_size: int
    meta: Meta | None
    states: tuple[MetaState, ...]
    hints: tuple[int, ...]


def find_metas(
    probe: RobustFile, size: int, *, txid: int | None, page_size: int | None
) -> FoundMetas:
    """Read both metas, or what is left of them.

    Args:
        probe: The file.
        size: Its bytes.
        txid: The version wanted, None for the newest.
        page_size: What the caller knows it to be, or None.

    Raises:
        InvalidDatabaseError: Nothing looks like a bolt database.
        OptionError: There is no sound meta of this txid.
        StorageError: The file could not be read.
    """
    found = [_read(probe, 0)]
    first = found[0]
    hint = first.page_size_hint
    if page_size is not None:
        found.append(_read(probe, page_size))
    elif isinstance(first.meta, Meta):
        page_size = first.meta.page_size
        found.append(_read(probe, page_size))
    else:
        place = MIN_PAGE_SIZE
        while place <= MAX_FOREIGN_PAGE_SIZE and place < size:
            second = _read(probe, place)
            if isinstance(second.meta, Meta):
                page_size = second.meta.page_size
                found.append(second)
                break
            if second.page_size_hint == place:
                # It stands where it says it does.
                hint = place
            place *= 2
    if page_size is None:
        page_size = guess_page_size(probe, size) or hint
        if page_size is None:
            raise InvalidDatabaseError(
                "neither meta page can be read and no page size makes its pages "
                "say their own numbers: not a bolt database, or nothing is left "
                "of it; pass the page size if you know it",
                path=probe.path,
            )
        found.append(_read(probe, page_size))
    sound = [slot.meta for slot in found if isinstance(slot.meta, Meta)]
    if txid is None:
        meta = max(sound, key=lambda meta: meta.txid, default=None)
    else:
        meta = next((meta for meta in sound if meta.txid == txid), None)
        if meta is None:
            known = ", ".join(str(meta.txid) for meta in sound) or "none"
            raise OptionError(
                f"{probe.path} has no sound meta of txid {txid}; it has: {known}"
            )
    states = tuple(slot.state(index) for index, slot in enumerate(found))
    hints = tuple(slot.root_hint for slot in found if slot.root_hint)
    return FoundMetas(page_size, meta, states, hints)


@dataclass(frozen=True, slots=True)
class _Slot:
    """One place where a meta should be."""

    place: int
    meta: Meta | MetaError
    root_hint: int = 0
    page_size_hint: int | None = None

    def state(self, slot: int) -> MetaState:
        if isinstance(self.meta, Meta):
            return MetaState(slot, self.place, self.meta.txid)
        return MetaState(slot, self.place, -1, str(self.meta))


def _read(probe: RobustFile, place: int) -> _Slot:
    data = probe.read(place + PAGE_HEADER_SIZE, META_SIZE)
    try:
        meta = Meta.decode(data)
        _require_sense(meta)
    except MetaError as error:
        if len(data) < META_SIZE:
            return _Slot(place, error)
        fields = _FIELDS.unpack(data)
        if fields[0] != MAGIC:
            return _Slot(place, error)
        page_size = fields[2] if fields[2] >= _SMALLEST_PAGE else None
        if page_size is not None and page_size > MAX_FOREIGN_PAGE_SIZE:
            page_size = None
        return _Slot(place, error, fields[4], page_size)
    return _Slot(place, meta)


def _require_sense(meta: Meta) -> None:
    if not _SMALLEST_PAGE <= meta.page_size <= MAX_FOREIGN_PAGE_SIZE:
        raise MetaError("invalid", f"a page size of {meta.page_size} bytes", 24)
    if not 2 <= meta.root < meta.high_water_mark:
        raise MetaError(
            "invalid",
            f"root page {meta.root}, but pages end at {meta.high_water_mark}",
            32,
        )
