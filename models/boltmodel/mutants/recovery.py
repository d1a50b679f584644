"""Planted bugs in what is believed when a database is made or opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Mutant, Planter
from shearbolt import db as database
from shearbolt.format import Meta, MetaError, fnv1a

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.pager import Pager
    from shearbolt.storage import Storage

__all__ = ["MUTANTS"]

# The checksum follows the bytes that it covers (format module).
_CHECKED = 56


class _NoDirectorySync:
    """A storage whose directory syncs do nothing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def fsync_dir(self, path: str, /) -> None:
        """Not done: the bug."""


def _no_dir_sync(planter: Planter) -> None:
    def around(original: Callable[..., None]) -> Callable[..., None]:
        def create(storage: Storage, *arguments: Any, **options: Any) -> None:
            original(_NoDirectorySync(storage), *arguments, **options)

        return create

    planter.wrap(database, "_create", around)


def _checksum_unverified(planter: Planter) -> None:
    original = Meta.decode

    def decode(_: type[Meta], data: bytes) -> Meta:
        body = data[:_CHECKED]
        return original(body + fnv1a(body).to_bytes(8, "little"))

    planter.replace(Meta, "decode", classmethod(decode))


def _no_fallback(planter: Planter) -> None:
    def around(original: Callable[..., Meta]) -> Callable[..., Meta]:
        def live_meta(metas: list[Meta | MetaError], path: str) -> Meta:
            damaged = [meta for meta in metas if isinstance(meta, MetaError)]
            return original(damaged or metas, path)

        return live_meta

    planter.wrap(database, "_live_meta", around)


def _first_meta_only(planter: Planter) -> None:
    read = database._read_meta

    def read_metas(pager: Pager, size: int) -> list[Meta | MetaError]:
        del size
        first = read(pager, 0)
        known = first.page_size if isinstance(first, Meta) else pager.page_size
        return [first, read(pager, known)]

    planter.replace(database, "_read_metas", read_metas)


def _creation_not_finished(planter: Planter) -> None:
    def around(original: Callable[..., int | None]) -> Callable[..., int | None]:
        def new_page_size(pager: Pager, size: int, *rest: Any) -> int | None:
            return original(pager, size, *rest) if not size else None

        return new_page_size

    planter.wrap(database, "_new_page_size", around)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "no-dir-sync",
        "A new file is not made durable in its directory.",
        "P",
        _no_dir_sync,
    ),
    Mutant(
        "checksum-unverified",
        "The meta's checksum is not compared (accepted as 0 until bbolt ea42d39).",
        "AP",
        _checksum_unverified,
    ),
    Mutant(
        "no-fallback",
        "One damaged meta is enough to refuse the file (boltdb #548).",
        "P",
        _no_fallback,
    ),
    Mutant(
        "first-meta-only",
        "The page size is known from meta 0 alone (bbolt PR #294).",
        "P",
        _first_meta_only,
    ),
    Mutant(
        "creation-cut-short",
        "A crash while the file is made leaves one that does not open (bbolt #567).",
        "P",
        _creation_not_finished,
    ),
)
