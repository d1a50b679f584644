"""Planted bugs in what a commit syncs, when, and where it writes.

right      pages  SYNC  meta  SYNC  acknowledged
no-data-sync        -
no-meta-sync                   -
meta-first  meta  SYNC  pages SYNC
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Mutant, Planter
from shearbolt.db import DB
from shearbolt.format import Meta
from shearbolt.pager import Pager
from shearbolt.tx import Tx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MUTANTS"]


def _without_sync_in(planter: Planter, owner: type, name: str) -> None:
    """`Pager.fdatasync` does nothing while this method runs."""
    depth = 0

    def around_sync(original: Callable[..., Any]) -> Callable[..., Any]:
        def fdatasync(self: Pager) -> None:
            if not depth:
                original(self)

        return fdatasync

    def around_method(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                return original(*arguments, **options)
            finally:
                depth -= 1

        return method

    planter.wrap(Pager, "fdatasync", around_sync)
    planter.wrap(owner, name, around_method)


def _no_data_sync(planter: Planter) -> None:
    _without_sync_in(planter, Tx, "_write_pages")


def _no_meta_sync(planter: Planter) -> None:
    _without_sync_in(planter, DB, "publish")


def _meta_first(planter: Planter) -> None:
    """Pages are held back until the meta is durable."""
    held: list[tuple[int, tuple[bytes, ...]]] = []
    holding = False
    write, sync = Pager.write, Pager.fdatasync

    def hold_write(self: Pager, offset: int, buffers: Sequence[bytes]) -> None:
        if holding:
            held.append((offset, tuple(buffers)))
        else:
            write(self, offset, buffers)

    def hold_sync(self: Pager) -> None:
        if not holding:
            sync(self)

    def around_pages(original: Callable[[Tx], Meta]) -> Callable[[Tx], Meta]:
        def write_pages(self: Tx) -> Meta:
            nonlocal holding
            held.clear()
            holding = True
            try:
                return original(self)
            finally:
                holding = False

        return write_pages

    def around_publish(
        original: Callable[[DB, Meta], None],
    ) -> Callable[[DB, Meta], None]:
        def publish(self: DB, meta: Meta) -> None:
            original(self, meta)
            for offset, buffers in held:
                write(self.pager, offset, buffers)
            sync(self.pager)

        return publish

    planter.replace(Pager, "write", hold_write)
    planter.replace(Pager, "fdatasync", hold_sync)
    planter.wrap(Tx, "_write_pages", around_pages)
    planter.wrap(DB, "publish", around_publish)


def _wrong_slot(planter: Planter) -> None:
    # Always page 0: from the second commit on it is the live meta itself that
    # is written over, and a torn write leaves only a meta of long ago.
    planter.replace(Meta, "slot", property(lambda _: 0))


MUTANTS = (
    Mutant(
        "no-data-sync",
        "Pages are not synced before the meta is written (boltdb 5ce378b, 2014).",
        "PA",
        _no_data_sync,
    ),
    Mutant(
        "no-meta-sync",
        "A commit returns before its meta is synced (sync error ignored, bfb02ae).",
        "P",
        _no_meta_sync,
    ),
    Mutant(
        "meta-first",
        "The meta is written and synced before the pages it points to.",
        "PA",
        _meta_first,
    ),
    Mutant(
        "wrong-slot",
        "Every meta goes to page 0, over the live one, instead of alternating.",
        "P",
        _wrong_slot,
    ),
)
