"""Programs by seed: what both engines are made to do to a file.

Two families, because bbolt's output is not always the same twice:

* `single(seed)`: one dirty bucket and at most one deleted key a transaction.
  Here the array freelist makes bbolt deterministic, so files are compared by
  their bytes. (Go walks a map of dirty buckets and of unbalanced nodes in random
  order: two of either and the page ids differ from run to run.)
* `nested(seed)`: buckets in buckets, many changes a transaction, calls that must
  fail. Compared by content, by what every call answered, and by both checkers.

What bbolt 1.3.6 does wrong is left out of `nested`, because there the two are
meant to differ: deleting through a cursor and going on (it skips a key), going
backwards over leaves that were emptied in the same transaction (it stops early),
deleting a bucket whose inside was changed in the same transaction (it leaks
pages), and naming no bucket to delete (its error depends on the contents).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.interop.oracle import Operation, Transaction

__all__ = ["Session", "nested", "single"]


@dataclass(frozen=True, slots=True)
class Session:
    """What happens between one open of the file and its close."""

    transactions: tuple[Transaction, ...]


def single(seed: int) -> list[Session]:
    """A program of the deterministic family.

    Every third drains a bucket, a key a transaction; the others are mixtures of
    1-12 transactions.
    """
    rng = random.Random(f"single {seed}")
    if seed % 3 == 2:
        return _drain(rng)
    keys: dict[bytes, set[bytes]] = {}
    largest = rng.choice((40, 300, 3000, 20_000))
    return [
        Session(
            tuple(
                _single_transaction(rng, keys, largest)
                for _ in range(rng.randint(1, 4))
            )
        )
        for _ in range(rng.randint(1, 3))
    ]


def _drain(rng: random.Random) -> list[Session]:
    """Fill a bucket, then take out neighbours one by one, so that leaves merge.

    In the mixtures merges hardly happen: with one key deleted a transaction it
    takes many transactions to empty a leaf.
    """
    name = b"bucket"
    size = rng.choice((10, 60, 200))
    keys = [b"%04d" % i for i in range(rng.choice((60, 120, 240)))]
    fill = Transaction(
        (
            Operation("create_bucket", key=name),
            *(Operation("put", (name,), key, key * (size // 4)) for key in keys),
        )
    )
    start = rng.randrange(len(keys) // 2)
    gone = keys[start : start + rng.randint(10, 50)]
    if rng.random() < 0.5:
        gone.reverse()
    drops = [Transaction((Operation("delete", (name,), key),)) for key in gone]
    half = len(drops) // 2
    return [Session((fill, *drops[:half])), Session(tuple(drops[half:]))]


def _single_transaction(
    rng: random.Random, keys: dict[bytes, set[bytes]], largest: int
) -> Transaction:
    """One transaction on one of three buckets; `keys` follows what is stored."""
    name = rng.choice((b"a", b"bucket", b"c" * 40))
    rollback = rng.random() < 0.1
    stored = set(keys.get(name, ()))
    if name in keys and rng.random() < 0.08:
        if not rollback:
            del keys[name]
        return Transaction((Operation("delete_bucket", key=name),), rollback)

    ops = [Operation("create_bucket_if_not_exists", key=name)]
    for _ in range(rng.choice((0, 1, 5, 40, 150))):
        key = b"%0*d" % (rng.choice((1, 5, 30)), rng.randrange(400))
        size = rng.randint(0, largest if rng.random() < 0.1 else 60)
        ops.append(Operation("put", (name,), key, bytes([rng.randrange(256)]) * size))
        stored.add(key)
    if stored and rng.random() < 0.6:
        gone = rng.choice(sorted(stored))
        ops.insert(rng.randint(1, len(ops)), Operation("delete", (name,), gone))
        # A put behind the delete brings the key back; then none is missing, and
        # a later transaction deletes at most a key that is not there.
        stored.discard(gone)
    if rng.random() < 0.2:
        ops.append(Operation("next_sequence", (name,)))
    if not rollback:
        keys[name] = stored
    return Transaction(tuple(ops), rollback)


Path = tuple[bytes, ...]

WEIGHTS = {
    "create_bucket": 3,
    "create_bucket_if_not_exists": 6,
    "put": 20,
    "delete": 8,
    "get": 2,
    "sequence": 1,
    "set_sequence": 1,
    "next_sequence": 1,
    "cursor": 2,
}
NAMES = (b"a", b"b", b"bb", b"long name " * 5)


def nested(seed: int) -> list[Session]:
    """A program of the other family: 2-4 sessions, 4-24 transactions."""
    writer = _Nested(random.Random(f"nested {seed}"))
    rng = writer.rng
    return [
        Session(tuple(writer.transaction() for _ in range(rng.randint(2, 6))))
        for _ in range(rng.randint(2, 4))
    ]


class _Nested:
    """Writes the transactions of one nested program.

    It follows which buckets there are, so that most calls have something to
    act on; one call in ten goes to a bucket that may not exist.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._alive: set[Path] = set()

    def transaction(self) -> Transaction:
        """The next transaction."""
        before = set(self._alive)
        ops = []
        if self.rng.random() < 0.5:
            # Before anything is changed a cursor may go both ways.
            ops.append(self._walk((("next",), ("prev",)), self._key()))
        if self.rng.random() < 0.3:
            # While nothing below it can have been changed.
            *parent, name = self._path()
            ops.append(Operation("delete_bucket", tuple(parent), name))
            gone = (*parent, name)
            self._alive = {p for p in self._alive if p[: len(gone)] != gone}
        ops.extend(self._operation() for _ in range(self.rng.choice((3, 10, 40, 120))))
        rollback = self.rng.random() < 0.15
        if rollback:
            self._alive = before
        return Transaction(tuple(ops), rollback)

    def _path(self) -> Path:
        if self._alive and self.rng.random() < 0.9:
            return self.rng.choice(sorted(self._alive))
        return tuple(self.rng.choice(NAMES) for _ in range(self.rng.randint(1, 3)))

    def _key(self) -> bytes:
        # Now and then a bucket's name, or none: both are refused by put.
        if self.rng.random() < 0.1:
            return self.rng.choice((*NAMES, b""))
        return b"key-%d" % self.rng.randrange(60) * self.rng.choice((1, 1, 1, 20))

    def _walk(self, ways: tuple[tuple[str], ...], key: bytes) -> Operation:
        step = self.rng.choice(ways)
        end = "last" if step == ("prev",) else "first"
        steps = [step] * 5
        if self.rng.random() < 0.5:
            return Operation("cursor", self._path(), moves=(("seek", key), *steps))
        return Operation("cursor", self._path(), moves=((end,), *steps))

    def _operation(self) -> Operation:
        kinds = tuple(WEIGHTS)
        (kind,) = self.rng.choices(kinds, tuple(WEIGHTS.values()))
        path = self._path()
        key = self._key()
        if kind.startswith("create"):
            parent = self.rng.choice([(), path[:3]])
            name = self.rng.choice((*NAMES, b""))
            if name and (not parent or parent in self._alive):
                self._alive.add((*parent, name))
            return Operation(kind, parent, name)
        if kind == "put":
            size = self.rng.choice((0, 5, 50, 50, 200, 1500, 9000))
            value = bytes([self.rng.randrange(256)]) * size
            return Operation(kind, path, key, value)
        if kind == "set_sequence":
            return Operation(kind, path, sequence=self.rng.randrange(1 << 64))
        if kind == "cursor":
            return self._walk((("next",),), key)
        if kind.endswith("sequence"):
            return Operation(kind, path)
        return Operation(kind, path, key)
