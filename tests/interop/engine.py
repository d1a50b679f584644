"""The engine under test, asked in the oracle's words.

`apply`, `dump` and `check` do with `shearbolt` what the methods of `Oracle` of
the same names do with real bbolt, and answer in the same types, so that a test
compares two values. Errors are compared by bbolt's text: a `BoltError` carries
more than that (the key, the bucket), so its type is translated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.interop.oracle import Applied, Bucket, Operation, Transaction

import shearbolt
from shearbolt import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["apply", "check", "dump"]

BBOLTS_TEXT = {
    errors.BucketNotFoundError: "bucket not found",
    errors.BucketExistsError: "bucket already exists",
    errors.BucketNameRequiredError: "bucket name required",
    errors.IncompatibleValueError: "incompatible value",
    errors.KeyRequiredError: "key required",
}


MOST_READERS = 3


def apply(
    path: str,
    transactions: Sequence[Transaction],
    *,
    readers_every: int = 0,
    **options: Any,
) -> list[Applied]:
    """Run transactions on a file, made when missing."""
    applied: list[Applied] = []
    readers: list[Any] = []
    with shearbolt.open(path, **options) as db:
        for number, transaction in enumerate(transactions):
            if readers_every and number % readers_every == 0:
                if len(readers) == MOST_READERS:
                    readers.pop(0).rollback()
                readers.append(db.begin())
            applied.append(_apply_one(db, transaction))
    return applied


def _apply_one(db: Any, transaction: Transaction) -> Applied:
    tx = db.begin(True)
    try:
        txid = tx.txid
        outcomes = tuple(perform(tx, op) for op in transaction.ops)
    except BaseException:
        tx.rollback()
        raise
    if transaction.rollback:
        tx.rollback()
    else:
        tx.commit()
    return Applied(txid, "", outcomes)


def perform(tx: Any, op: Operation) -> tuple[str, Any]:
    """One operation; ("error", text) or ("value", value) as the oracle has it."""
    try:
        place = tx
        for name in op.bucket:
            place = place.bucket(name)
        return ("value", _call(place, op))
    except tuple(BBOLTS_TEXT) as error:
        return ("error", BBOLTS_TEXT[type(error)])


def _call(place: Any, op: Operation) -> Any:
    match op.op:
        case "put":
            place.put(op.key, op.value)
        case "create_bucket" | "create_bucket_if_not_exists" | "delete_bucket":
            getattr(place, op.op)(op.key)
        case "delete":
            place.delete(op.key)
        case "get":
            value = place.get(op.key)
            return None if value is None else value.hex()
        case "sequence":
            return place.sequence
        case "set_sequence":
            place.set_sequence(op.sequence)
        case "next_sequence":
            return place.next_sequence()
        case "cursor":
            return _walk(place.cursor(), op)
        case _:
            raise AssertionError(f"unknown operation {op.op!r}")
    return None


def _walk(cursor: Any, op: Operation) -> list[Any]:
    places: list[Any] = []
    for name, *key in op.moves:
        found = getattr(cursor, name)(*key)
        if found is None:
            places.append(None)
        else:
            key_found, value = found
            places.append([key_found.hex(), None if value is None else value.hex()])
    return places


def dump(path: str, **options: Any) -> Bucket:
    """The root bucket, with everything below it."""
    with (
        shearbolt.open(path, read_only=True, **options) as db,
        db.view() as tx,
    ):
        # The root bucket's sequence is never stored; bbolt reads 0.
        return Bucket(0, _entries(tx))


def _entries(place: Any) -> tuple[tuple[bytes, bytes | Bucket], ...]:
    entries: list[tuple[bytes, bytes | Bucket]] = []
    cursor = place.cursor()
    found = cursor.first()
    while found is not None:
        key, value = found
        if value is None:
            below = place.bucket(key)
            entries.append((key, Bucket(below.sequence, _entries(below))))
        else:
            entries.append((key, value))
        found = cursor.next()
    return tuple(entries)


def check(path: str, **options: Any) -> list[str]:
    """What the engine's checker finds wrong; [] for a sound file."""
    with (
        shearbolt.open(path, read_only=True, **options) as db,
        db.view() as tx,
    ):
        return [str(problem) for problem in tx.check()]
