"""The engine's own view of a large database, around what a program has named.

A survey reads the file. It says nothing of the handle through which a program reads:
of its page cache, its index, its cursors. Where there is too much to compare, what can
have gone wrong there is near what was changed:

    named      the keys and buckets of the program's operations
    compared   the bucket's sequence, the key by itself, and the pairs from it on

What it is not: a comparison of everything. That the other pairs are right in the file
is what the survey says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boltmodel.model import Bucket, Refused
from boltmodel.programs import (
    CreateBucket,
    Delete,
    DeleteBucket,
    Fill,
    MoveBucket,
    NextSequence,
    Put,
    SetSequence,
    Thin,
    fill_key,
)
from shearbolt import BoltError, BucketNotFoundError

if TYPE_CHECKING:
    from boltmodel.model import Path
    from boltmodel.programs import Operation
    from shearbolt import Tx

__all__ = ["Places"]

_STEPS: Final = 16
"""Pairs compared from a key on: a page of usual pairs, and some of the next."""


class Places:
    """What a program has named so far: keys, by bucket."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[Path, set[bytes]] = {}

    def name(self, op: Operation) -> None:
        """Note what an operation names."""
        match op:
            case Put(path, key) | Delete(path, key):
                self._add(path, key)
            case Fill(path, first, count, step):
                self._add(path, fill_key(first))
                self._add(path, fill_key(first + max(count - 1, 0) * step))
            case Thin(path, start):
                self._add(path, start)
            case CreateBucket(path) | DeleteBucket(path):
                self._add(path[:-1], *path[-1:])
            case MoveBucket(path, target):
                self._add(path[:-1], *path[-1:])
                self._add(target, *path[-1:])
            case NextSequence(path) | SetSequence(path):
                self._add(path)

    def _add(self, path: Path, *keys: bytes) -> None:
        self._keys.setdefault(path, set()).update(keys)

    def agree(self, tx: Tx, promised: Bucket) -> bool:
        """Whether a transaction shows what is promised, at and behind these keys."""
        try:
            return all(
                _agrees(tx, promised, path, keys) for path, keys in self._keys.items()
            )
        except BoltError:
            return False


def _agrees(tx: Tx, promised: Bucket, path: Path, keys: set[bytes]) -> bool:
    try:
        model = promised.find(path)
    except Refused:
        model = None
    bucket = tx.root_bucket
    try:
        for name in path:
            bucket = bucket.bucket(name)
    except BucketNotFoundError:
        return model is None
    if model is None or bucket.sequence != model.sequence:
        return False
    entries = model.entries
    for key in keys:
        if bucket.get(key) != model.get(key):
            return False
        cursor = bucket.cursor()
        pair = cursor.seek(key)
        behind = b""
        for _ in range(_STEPS):
            if pair is None:
                break
            found, value = pair
            there = entries.get(found)
            if there is None or found <= behind or found < key:
                return False
            if value != (None if isinstance(there, Bucket) else there):
                return False
            behind = found
            pair = cursor.next()
    return True
