"""Planted bugs in what is believed when a database is made or opened.

file --> meta 0, meta 1 --> valid? --> newer --> live --> freelist
            |                 |          |
       page size         checksum    which one, and what comes next
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Gallery
from shearbolt.database import opening as database
from shearbolt.pages.format import META_SIZE, PAGE_HEADER_SIZE, Meta, MetaError, fnv1a

if TYPE_CHECKING:
    from boltmodel.mutants.plant import Call, Planter
    from shearbolt.storage import Storage
    from shearbolt.storage.robust import View

__all__ = ["MUTANTS"]

_bugs = Gallery()

# The checksum follows the bytes that it covers, the txid is the last of them, and
# the first 16 are the same in every meta of a database (format module).
_CHECKED = 56
_TXID = 48
_CONSTANT = 16
_USUAL_PAGE_SIZE = 4096


class _NoDirectorySync:
    """A storage whose directory syncs do nothing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def fsync_dir(self, path: str, /) -> None:
        """Not done: the bug."""


@_bugs.add(
    "no-dir-sync",
    "A new file is not made durable in its directory.",
    origin="generic: no directory sync",
    breaks="P",
    needs="crash",
)
def _no_dir_sync(planter: Planter) -> None:
    def create(
        original: Call, storage: Storage, *arguments: Any, **options: Any
    ) -> bool:
        made: bool = original(_NoDirectorySync(storage), *arguments, **options)
        return made

    planter.instead(database, "_create", create)


@_bugs.add(
    "creation-cut-short",
    "A crash while the file is made leaves one that does not open.",
    origin="bbolt #567, PR #1151, etcd#16596",
    breaks="P",
    needs="crash",
)
def _creation_not_finished(planter: Planter) -> None:
    def new_page_size(original: Call, view: View, size: int, *rest: Any) -> int | None:
        found: int | None = original(view, size, *rest) if not size else None
        return found

    planter.instead(database, "_new_page_size", new_page_size)


@_bugs.add(
    "checksum-unverified",
    "The meta's checksum is not compared.",
    origin="bbolt ea42d39: a checksum of 0 was accepted",
    breaks="AP",
    needs="torn",
)
def _checksum_unverified(planter: Planter) -> None:
    original = Meta.examine

    def examine(_: type[Meta], data: bytes) -> Any:
        body = data[:_CHECKED]
        return original(body + fnv1a(body).to_bytes(8, "little"))

    planter.replace(Meta, "examine", classmethod(examine))


@_bugs.add(
    "checksum-too-short",
    "The meta's checksum covers only the fields that never change.",
    origin="generic: checksum skipped",
    breaks="AP",
    needs="torn",
)
def _checksum_too_short(planter: Planter) -> None:
    original = Meta.examine

    def encode(made: Call, self: Meta) -> bytes:
        body: bytes = made(self)[:_CHECKED]
        return body + fnv1a(body[:_CONSTANT]).to_bytes(8, "little")

    def examine(_: type[Meta], data: bytes) -> Any:
        body, stored = data[:_CHECKED], data[_CHECKED:]
        if stored != fnv1a(body[:_CONSTANT]).to_bytes(8, "little"):
            return original(data)
        return original(body + fnv1a(body).to_bytes(8, "little"))

    planter.instead(Meta, "encode", encode)
    planter.replace(Meta, "examine", classmethod(examine))


@_bugs.add(
    "no-fallback",
    "One damaged meta is enough to refuse the file.",
    origin="boltdb #548, PR #555",
    breaks="P",
    needs="torn",
)
def _no_fallback(planter: Planter) -> None:
    def live_meta(original: Call, metas: list[Meta | MetaError]) -> Any:
        damaged = [meta for meta in metas if isinstance(meta, MetaError)]
        return original(damaged or metas)

    planter.instead(database, "_live_meta", live_meta)


@_bugs.add(
    "newest-before-valid",
    "The meta with the higher id is chosen first and verified afterwards.",
    origin="boltdb #548, PR #555",
    breaks="P",
    needs="torn",
)
def _newest_before_valid(planter: Planter) -> None:
    seen: dict[int, int] = {}

    def read_meta(original: Call, view: View, place: int) -> Any:
        if not place:
            seen.clear()
        data = view(bytes, place + PAGE_HEADER_SIZE, META_SIZE)
        seen[place] = int.from_bytes(data[_TXID:_CHECKED], "little")
        return original(view, place)

    def live_meta(original: Call, metas: list[Meta | MetaError]) -> Any:
        if len(metas) == len(seen):
            newest = max(range(len(metas)), key=list(seen.values()).__getitem__)
            metas = metas[newest : newest + 1]
        return original(metas)

    planter.instead(database, "_read_meta", read_meta)
    planter.instead(database, "_live_meta", live_meta)


@_bugs.add(
    "first-meta-only",
    "The page size is known from meta 0 alone.",
    origin="bbolt PR #294 (8e6a116, c19ea9b)",
    breaks="P",
    needs="torn",
)
def _first_meta_only(planter: Planter) -> None:
    read = database._read_meta

    def read_metas(_: Call, view: View, size: int) -> list[Meta | MetaError]:
        del size
        first = read(view, 0)
        known = first.page_size if isinstance(first, Meta) else _USUAL_PAGE_SIZE
        return [first, read(view, known)]

    planter.instead(database, "_read_metas", read_metas)


@_bugs.add(
    "meta-zero-preferred",
    "Meta 0 is live whenever it is valid.",
    origin="generic: wrong slot",
    breaks="MP",
    needs="run",
)
def _meta_zero_preferred(planter: Planter) -> None:
    def live_meta(original: Call, metas: list[Meta | MetaError]) -> Any:
        return metas[0] if isinstance(metas[0], Meta) else original(metas)

    planter.instead(database, "_live_meta", live_meta)


@_bugs.add(
    "damaged-made-anew",
    "A small file with a damaged meta is taken for one whose creation was cut short.",
    origin="generic: recovery that destroys",
    breaks="PA",
    needs="torn",
)
def _damaged_made_anew(planter: Planter) -> None:
    def read_metas(original: Call, view: View, size: int) -> list[Meta | MetaError]:
        metas: list[Meta | MetaError] = original(view, size)
        damaged: list[Meta | MetaError] = []
        damaged += [meta for meta in metas if isinstance(meta, MetaError)]
        return damaged or metas

    def new_page_size(
        original: Call, view: View, size: int, known: list[int], wanted: int
    ) -> int | None:
        found: int | None = original(view, size, known, wanted)
        return found or wanted

    planter.instead(database, "_read_metas", read_metas)
    planter.instead(database, "_new_page_size", new_page_size)


MUTANTS = tuple(_bugs)
