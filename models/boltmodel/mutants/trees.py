"""Planted bugs in what stands in buckets and nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltmodel.mutants.plant import Mutant, Planter
from shearbolt.bucket import Bucket
from shearbolt.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MUTANTS"]


def _sequence_lost(planter: Planter) -> None:
    def set_sequence(self: Bucket, value: int) -> None:
        self._sequence = value

    planter.replace(Bucket, "set_sequence", set_sequence)


def _move_forgets(planter: Planter) -> None:
    def around(original: Callable[..., None]) -> Callable[..., None]:
        def move_bucket(self: Bucket, name: bytes, target: Bucket) -> None:
            original(self, name, target)
            del target._children[name]

        return move_bucket

    planter.wrap(Bucket, "move_bucket", around)


def _delete_skips(planter: Planter) -> None:
    def around(original: Callable[[Cursor], None]) -> Callable[[Cursor], None]:
        def delete(self: Cursor) -> None:
            original(self)
            # As if the path were still good: it points at the next element
            # already, so that `next` steps over that one.
            self._seen = self._bucket.changes

        return delete

    planter.wrap(Cursor, "delete", around)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "sequence-lost",
        "A change of the sequence alone is not written (bbolt #296).",
        "M",
        _sequence_lost,
    ),
    Mutant(
        "move-forgets",
        "A moved bucket loses its changes of this transaction (bbolt PR #1239).",
        "M",
        _move_forgets,
    ),
    Mutant(
        "delete-skips",
        "After a delete the cursor's next steps over an element (bbolt #146).",
        "M",
        _delete_skips,
    ),
)
