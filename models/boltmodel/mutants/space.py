"""Planted bugs in which pages may be written, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltmodel.mutants.plant import Mutant, Planter
from shearbolt.freelist import ArrayFreelist
from shearbolt.tx import Tx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MUTANTS"]


def _early_reuse(planter: Planter) -> None:
    def around(original: Callable[..., None]) -> Callable[..., None]:
        def free(self: ArrayFreelist, txid: int, pgid: int, overflow: int) -> None:
            original(self, txid, pgid, overflow)
            self._release_ids(self._pending.pop(txid).ids)

        return free

    planter.wrap(ArrayFreelist, "free", around)


def _readers_ignored(planter: Planter) -> None:
    def around(original: Callable[..., None]) -> Callable[..., None]:
        def release(self: ArrayFreelist, readers: Iterable[int]) -> None:
            del readers
            original(self, ())

        return release

    planter.wrap(ArrayFreelist, "release", around)


def _rollback_forgotten(planter: Planter) -> None:
    def rollback(self: ArrayFreelist, txid: int) -> None:
        del self, txid

    planter.replace(ArrayFreelist, "rollback", rollback)


def _overflow_leaked(planter: Planter) -> None:
    def around(original: Callable[..., None]) -> Callable[..., None]:
        def free(self: ArrayFreelist, txid: int, pgid: int, overflow: int) -> None:
            del overflow
            original(self, txid, pgid, 0)

        return free

    planter.wrap(ArrayFreelist, "free", around)


def _freelist_stale(planter: Planter) -> None:
    def around(original: Callable[[Tx], int]) -> Callable[[Tx], int]:
        def write_freelist(self: Tx) -> int:
            old = self.meta.freelist
            return original(self) if self.db.no_freelist_sync else old

        return write_freelist

    planter.wrap(Tx, "_write_freelist", around)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "early-reuse",
        "A page is free for the transaction that frees it, before its commit.",
        "PA",
        _early_reuse,
    ),
    Mutant(
        "readers-ignored",
        "Pages an open reader can see are given out again (boltdb PR #67).",
        "R",
        _readers_ignored,
    ),
    Mutant(
        "rollback-forgotten",
        "A rollback does not undo what was freed (boltdb 4db9964).",
        "S",
        _rollback_forgotten,
    ),
    Mutant(
        "overflow-leaked",
        "Of a freed run only the first page is given back.",
        "S",
        _overflow_leaked,
    ),
    Mutant(
        "freelist-stale",
        "The freelist in the file is never written again (boltdb #100).",
        "SF",
        _freelist_stale,
    ),
)
