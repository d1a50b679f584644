"""One operation on both sides: what the model says of it, and what the engine does.

Theory
======
    do_on_model     ModelTx  --.                      .-- a value: None, a number,
                                >  one operation  -->     what was read or deleted
    do_on_engine    Tx       --'                      '-- a `Refusal`

The two answers of an operation are to be equal. The same operation has several forms
on the engine: pairs one by one or all in one call, keys deleted by a cursor, by the
bucket, or many at once. The model knows one.

What the engine is given is chosen to be awkward: the buffer of a value is overwritten
as soon as `put` has returned, many pairs come in no order, keys twice, in lists,
tuples and iterators.

What it is not: it does not compare, and of the engine's errors it knows nothing
(`interpret`).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

from boltmodel.model import Bucket, ModelTx, Path, Refused
from boltmodel.programs import (
    CreateBucket,
    Delete,
    DeleteBucket,
    Fill,
    Get,
    MoveBucket,
    NextSequence,
    Operation,
    Program,
    Put,
    Scan,
    SetSequence,
    Thin,
    fill_key,
    value_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import shearbolt
    from shearbolt import Tx

__all__ = [
    "Refusal",
    "do_on_engine",
    "do_on_model",
    "read_in_engine",
    "read_in_model",
]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """That an operation was refused, by the name of the exception's class."""

    name: str


def do_on_model(op: Operation, tx: ModelTx) -> object:
    """What an operation that writes gives on the model: its answer, or a `Refusal`."""
    try:
        return _change_model(op, tx)
    except Refused as refused:
        return Refusal(refused.error)


def _change_model(op: Operation, tx: ModelTx) -> object:
    match op:
        case Put(path, key, value):
            tx.ensure(path)
            tx.put(path, key, value_bytes(value))
        case Fill(path, first, count, step, value):
            tx.ensure(path)
            for number in range(first, first + count * step, step):
                tx.put(path, fill_key(number), value_bytes(value))
        case Thin(path, start, step, count):
            doomed = _thinned(tx.bucket(path), start, step, count)
            for key in doomed:
                tx.delete(path, key)
            return doomed
        case Delete(path, key):
            tx.delete(path, key)
        case CreateBucket(path):
            tx.create_bucket(path)
        case DeleteBucket(path):
            tx.delete_bucket(path)
        case MoveBucket(path, target):
            tx.move_bucket(path, target)
        case NextSequence(path):
            return tx.next_sequence(path)
        case SetSequence(path, number):
            tx.set_sequence(path, number)
        case _:
            raise AssertionError(f"{op} does not write")
    return None


def _thinned(bucket: Bucket, start: bytes, step: int, count: int) -> list[bytes]:
    plain = bucket.plain_keys()
    return list(plain[bisect_left(plain, start) :: step][:count])


def do_on_engine(op: Operation, tx: Tx, options: Program) -> object:
    """What it gives on the engine.

    Raises:
        BoltError: The engine refuses it.
    """
    fill = options.fill_percent / 100
    match op:
        case Put(path, key, value):
            bucket = _ensure(tx, path)
            bucket.fill_percent = fill
            # The caller's buffer is the caller's: it may change it afterwards.
            buffer = bytearray(value_bytes(value))
            bucket.put(key, cast("bytes", buffer))
            buffer[:] = bytes(len(buffer))
        case Fill(path) if options.in_bulk:
            bucket = _ensure(tx, path)
            bucket.fill_percent = fill
            bucket.update(_in_some_form(_pairs(op), op.value.seed))
        case Fill(path, first, count, step, value):
            bucket = _ensure(tx, path)
            bucket.fill_percent = fill
            for number in range(first, first + count * step, step):
                bucket.put(fill_key(number), value_bytes(value))
        case Thin(path) if options.in_bulk:
            return _thin_at_once(_bucket(tx, path), op)
        case Thin(path, start, step, count):
            return _thin_engine(_bucket(tx, path), start, step, count)
        case Delete(path, key):
            _bucket(tx, path).delete(key)
        case CreateBucket(path):
            _bucket(tx, path[:-1]).create_bucket(path[-1])
        case DeleteBucket(path):
            _bucket(tx, path[:-1]).delete_bucket(path[-1])
        case MoveBucket(path, target):
            source, goal = _bucket(tx, path[:-1]), _bucket(tx, target)
            source.move_bucket(path[-1], goal)
        case NextSequence(path):
            return _bucket(tx, path).next_sequence()
        case SetSequence(path, number):
            _bucket(tx, path).set_sequence(number)
        case _:
            raise AssertionError(f"{op} does not write")
    return None


def _thin_engine(
    bucket: shearbolt.Bucket, start: bytes, step: int, count: int
) -> list[bytes]:
    doomed: list[bytes] = []
    cursor = bucket.cursor()
    pair = cursor.seek(start)
    plain = 0
    while pair is not None and len(doomed) < count:
        key, value = pair
        if value is not None:
            if plain % step == 0:
                doomed.append(key)
                cursor.delete()
            plain += 1
        pair = cursor.next()
    return doomed


def _pairs(op: Fill) -> list[tuple[bytes, bytes]]:
    numbers = [op.first + at * op.step for at in range(op.count)]
    random.Random(op.value.seed).shuffle(numbers)
    pairs = [(fill_key(number), value_bytes(op.value)) for number in numbers]
    # Of a key that is given twice the last value counts.
    early = [(key, b"early" + value) for key, value in pairs[: op.count % 3]]
    return early + pairs


def _in_some_form(given: list[_T], seed: int) -> Iterable[_T]:
    """What is handed over: its length is known in two forms of three."""
    return (given, tuple(given), iter(given))[seed % 3]


def _thin_at_once(bucket: shearbolt.Bucket, op: Thin) -> list[bytes]:
    every = islice(bucket.keys(op.start), 0, None, op.step)
    doomed = list(islice(every, op.count))
    # Deletes of single keys in a row are gathered, too. (Those of a cursor are not.)
    given = random.Random(op.count).sample(doomed, len(doomed))
    if op.count % 3:
        bucket.delete_many(_in_some_form(given, op.step))
    else:
        for key in given:
            bucket.delete(key)
    return doomed


def _bucket(tx: Tx, path: Path) -> shearbolt.Bucket:
    here = tx.root_bucket
    for name in path:
        here = here.bucket(name)
    return here


def _ensure(tx: Tx, path: Path) -> shearbolt.Bucket:
    here = tx.root_bucket
    for name in path:
        here = here.create_bucket_if_not_exists(name)
    return here


def read_in_model(op: Get | Scan, root: Bucket) -> object:
    """What an operation that reads gives on the model: its answer, or a `Refusal`."""
    try:
        bucket = root.find(op.path)
    except Refused as refused:
        return Refusal(refused.error)
    if isinstance(op, Get):
        return bucket.get(op.key)
    keys = sorted(
        key
        for key in bucket.entries
        if (op.start is None or key >= op.start) and (op.stop is None or key < op.stop)
    )
    if op.reverse:
        keys.reverse()
    pairs = [
        (key, entry) for key in keys if isinstance(entry := bucket.entries[key], bytes)
    ]
    # Where the walk comes to when it turns round at its end.
    everything = sorted(bucket.entries, reverse=op.reverse)
    turned = None
    if keys and keys[-1] == everything[-1]:
        turned = everything[-2] if len(everything) > 1 else None
    return pairs, keys, turned


def read_in_engine(op: Get | Scan, tx: Tx) -> object:
    """What it gives on the engine.

    Raises:
        BoltError: The engine refuses it.
    """
    bucket = _bucket(tx, op.path)
    if isinstance(op, Get):
        return bucket.get(op.key)
    pairs = list(bucket.items(op.start, op.stop, reverse=op.reverse))
    return pairs, *_walk_engine(op, bucket.cursor())


def _walk_engine(
    op: Scan, cursor: shearbolt.Cursor
) -> tuple[list[bytes], bytes | None]:
    """The keys a cursor meets, and where it gets to when it turns at the end."""
    keys: list[bytes] = []
    if op.reverse:
        step, back = cursor.prev, cursor.next
        if op.stop is None:
            pair = cursor.last()
        else:
            cursor.seek(op.stop)
            pair = cursor.prev()
    else:
        step, back = cursor.next, cursor.prev
        pair = cursor.first() if op.start is None else cursor.seek(op.start)
    while pair is not None and _is_within(op, pair[0]):
        keys.append(pair[0])
        pair = step()
    turned = back() if keys and pair is None else None
    return keys, None if turned is None else turned[0]


def _is_within(op: Scan, key: bytes) -> bool:
    if op.reverse:
        return op.start is None or key >= op.start
    return op.stop is None or key < op.stop
