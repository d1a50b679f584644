"""The reference model: nested buckets as plain dicts.

Theory
======
A Bolt database is a tree of buckets. A bucket maps keys to values or to
further buckets, in one key space, and carries a 64-bit sequence. That is all a
user can see, so it is all the model holds:

    Bucket(sequence, entries)
      entries:  b"apple" -> b"red"
                b"trees" -> Bucket(sequence, entries)

The model is the oracle, so it must be obviously right: no pages, no order on
disk, no freelist. A commit is cheap to remember because committed buckets are
frozen and shared. A write transaction copies the buckets on the path it
changes (`ModelTx`), so a hundred states of one database cost what changed
between them.

`digest` covers a bucket's sequence and every key with its value or with the digest
of the bucket below. The entries of a bucket count as the sum of a hash of each, so
that what a few puts change is a few terms of it, and so that the parts of a tree can
be summed one by one (`survey`). Both hashes have 128 bits: contents that differ have
one digest by chance only. It depends on content alone, not on insertion order and
not on PYTHONHASHSEED.

What it is not: it does not know the engine, transaction ids, crashes or promises.
Those are `observation`, `interpret` and `contract`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from boltmodel.overlay import copied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping, Sequence

__all__ = [
    "EMPTY",
    "MAX_KEY_SIZE",
    "Bucket",
    "Difference",
    "Entry",
    "ModelTx",
    "Path",
    "Refused",
    "bucket_digest",
    "difference",
    "entry_sum",
    "named_sum",
    "path_text",
    "shown",
    "walk",
]

Path: TypeAlias = tuple[bytes, ...]

# Bolt's limits (errors.go, bucket.go): longer keys are refused by put.
MAX_KEY_SIZE: Final = 32768

_SEQUENCE_MODULUS: Final = 1 << 64
_LENGTHS: Final = struct.Struct("<II")
_SEQUENCE: Final = struct.Struct("<Q")
_DIGEST_BYTES: Final = 16
_SUMS: Final = 1 << (8 * _DIGEST_BYTES)
# A length no value has: the entry is a bucket and its digest follows.
_BUCKET_LENGTH: Final = 0xFFFFFFFF
# Sums of pairs with values up to so many bytes are remembered: a database has nearly
# all of its pairs in common with what it was a commit ago.
_REMEMBERED: Final = 256
_MOST_REMEMBERED: Final = 8192
# How much of a key or value a message shows.
_SHOWN: Final = 24


class Refused(Exception):  # noqa: N818 - it is an answer, not a defect.
    """The model refuses an operation, as Bolt does.

    Attributes:
        error: Name of the engine's exception class for this refusal.
    """

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class Bucket:
    """One bucket: a sequence and entries, each a value or another bucket.

    Args:
        entries: What is in it; None: nothing.
        sequence: The bucket's counter.
        names: Of the buckets among the entries, when they are known.

    Attributes:
        entries: Values and buckets by key, in no particular order.
        sequence: The bucket's counter, 0..2**64-1.
        frozen: Part of a remembered state; changing it would rewrite history.
    """

    __slots__ = (
        "__weakref__",
        "_digest",
        "_names",
        "_plain",
        "_sorted",
        "entries",
        "frozen",
        "sequence",
    )

    def __init__(
        self,
        entries: MutableMapping[bytes, Entry] | None = None,
        sequence: int = 0,
        names: Iterable[bytes] | None = None,
    ) -> None:
        self.entries: MutableMapping[bytes, Entry] = {} if entries is None else entries
        self.sequence = sequence
        self.frozen = False
        self._digest: bytes | None = None
        # The names of the buckets, once they are known, and the sum of the values, once
        # asked for: then the names are known too.
        self._names = None if names is None else set(names)
        self._plain: int | None = None
        self._sorted: list[bytes] | None = None

    def freeze(self) -> Bucket:
        """Make this bucket and everything below it immutable; gives itself."""
        # An unfrozen bucket hangs below unfrozen buckets only, so a frozen one
        # ends the descent.
        if not self.frozen:
            self.frozen = True
            for _, inner in self.buckets():
                inner.freeze()
        return self

    def buckets(self) -> list[tuple[bytes, Bucket]]:
        """The buckets in it by name, in no particular order."""
        entries, names = self.entries, self._names
        if names is None:
            found = [(k, one) for k, one in entries.items() if isinstance(one, Bucket)]
            self._names = {name for name, _ in found}
            return found
        named = ((name, entries[name]) for name in names)
        return [(name, one) for name, one in named if isinstance(one, Bucket)]

    def thaw(self) -> Bucket:
        """A changeable copy of this bucket; buckets below stay shared."""
        # What may still change cannot be what another one stands on.
        entries = copied(self.entries) if self.frozen else dict(self.entries)
        made = Bucket(entries, self.sequence)
        made._plain = self._plain
        made._names = None if self._names is None else set(self._names)
        return made

    def store(self, key: bytes, entry: Entry) -> None:
        """Put an entry under a key, replacing what stands there."""
        if self._names is not None:
            self._uncount(key)
            if isinstance(entry, Bucket):
                self._names.add(key)
            elif self._plain is not None:
                self._plain += entry_sum(key, entry)
        self.entries[key] = entry

    def drop(self, key: bytes) -> None:
        """Remove an entry, if there is one."""
        self._uncount(key)
        self.entries.pop(key, None)

    def _uncount(self, key: bytes) -> None:
        if self._names is None:
            return
        old = self.entries.get(key)
        if isinstance(old, Bucket):
            self._names.discard(key)
        elif old is not None and self._plain is not None:
            self._plain -= entry_sum(key, old)

    @property
    def total(self) -> int:
        """The sum of all entries."""
        if self._plain is None:
            self._plain = sum(
                entry_sum(key, entry)
                for key, entry in self.entries.items()
                if not isinstance(entry, Bucket)
            )
        return self._plain + sum(entry_sum(*below) for below in self.buckets())

    @property
    def digest(self) -> bytes:
        """16 bytes that stand for the whole content below this bucket."""
        known = self._digest
        if known is not None:
            return known
        made = bucket_digest(self.sequence, self.total)
        if self.frozen:
            self._digest = made
        return made

    def plain_keys(self) -> Sequence[bytes]:
        """The keys of the values, in order."""
        known = self._sorted
        if known is None:
            known = sorted(
                key
                for key, entry in self.entries.items()
                if not isinstance(entry, Bucket)
            )
            if self.frozen:
                self._sorted = known
        return known

    def find(self, path: Path) -> Bucket:
        """The bucket at `path`.

        Raises:
            Refused: There is none (BucketNotFoundError).
        """
        here = self
        for name in path:
            entry = here.entries.get(name)
            if not isinstance(entry, Bucket):
                raise Refused("BucketNotFoundError")
            here = entry
        return here

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`; None when there is none or it is a bucket."""
        entry = self.entries.get(key)
        return None if isinstance(entry, Bucket) else entry

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Bucket):
            return NotImplemented
        return self.sequence == other.sequence and self.entries == other.entries

    def __hash__(self) -> int:
        # A hash must not follow later changes, so only a frozen bucket has one.
        if not self.frozen:
            raise TypeError("a bucket that may still change has no hash")
        return int.from_bytes(self.digest[:8], "little")

    def __repr__(self) -> str:
        return (
            f"<Bucket {self.digest.hex()[:12]}, {len(self.entries)} entries, "
            f"sequence {self.sequence}>"
        )


Entry: TypeAlias = bytes | Bucket


def entry_sum(key: bytes, entry: Entry) -> int:
    """What an entry adds to the sum of its bucket; below 2**128."""
    if isinstance(entry, Bucket):
        return named_sum(key, entry.digest)
    if len(entry) <= _REMEMBERED:
        return _pair_sum(key, entry)
    return _summed(key, entry)


def _summed(key: bytes, entry: bytes) -> int:
    content = _LENGTHS.pack(len(key), len(entry)) + key + entry
    made = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(made, "little")


_pair_sum = lru_cache(_MOST_REMEMBERED)(_summed)


def named_sum(name: bytes, digest: bytes) -> int:
    """The same for a bucket of this digest."""
    content = _LENGTHS.pack(len(name), _BUCKET_LENGTH) + name + digest
    made = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(made, "little")


def bucket_digest(sequence: int, total: int) -> bytes:
    """The digest of a bucket whose entries have this sum."""
    content = _SEQUENCE.pack(sequence) + (total % _SUMS).to_bytes(16, "little")
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


EMPTY: Final = Bucket().freeze()


class ModelTx:
    """A write transaction on the model.

    Nothing is seen by anybody until `commit` gives the new state, so a
    rollback is to forget the object.

    Every method mirrors the engine's and raises `Refused` where the engine
    raises; the order in which conditions are tested is Bolt's (bucket.go).
    """

    __slots__ = ("root",)

    def __init__(self, base: Bucket) -> None:
        self.root = base.thaw()

    def commit(self) -> Bucket:
        """The state this transaction leaves behind."""
        return self.root.freeze()

    def bucket(self, path: Path) -> Bucket:
        """The bucket at `path`, made changeable.

        Raises:
            Refused: BucketNotFoundError.
        """
        here = self.root
        for name in path:
            entry = here.entries.get(name)
            if not isinstance(entry, Bucket):
                raise Refused("BucketNotFoundError")
            if entry.frozen:
                entry = here.entries[name] = entry.thaw()
            here = entry
        return here

    def create_bucket(self, path: Path) -> None:
        """Make an empty bucket; its parent must exist.

        Raises:
            Refused: BucketNotFoundError (parent), BucketNameRequiredError,
                BucketExistsError, IncompatibleValueError.
        """
        parent = self.bucket(path[:-1])
        name = path[-1]
        if not name:
            raise Refused("BucketNameRequiredError")
        entry = parent.entries.get(name)
        if isinstance(entry, Bucket):
            raise Refused("BucketExistsError")
        if entry is not None:
            raise Refused("IncompatibleValueError")
        parent.store(name, Bucket())

    def ensure(self, path: Path) -> None:
        """Make every bucket of `path` that is missing, outermost first.

        Raises:
            Refused: BucketNameRequiredError, IncompatibleValueError.
        """
        for depth in range(1, len(path) + 1):
            try:
                self.create_bucket(path[:depth])
            except Refused as refused:
                if refused.error != "BucketExistsError":
                    raise

    def delete_bucket(self, path: Path) -> None:
        """Remove a bucket with everything in it.

        Raises:
            Refused: BucketNotFoundError, IncompatibleValueError.
        """
        parent = self.bucket(path[:-1])
        entry = parent.entries.get(path[-1])
        if entry is None:
            raise Refused("BucketNotFoundError")
        if not isinstance(entry, Bucket):
            raise Refused("IncompatibleValueError")
        parent.drop(path[-1])

    def move_bucket(self, path: Path, target: Path) -> None:
        """Move a bucket with everything in it; `target` () is the root.

        Raises:
            Refused: BucketNotFoundError, IncompatibleValueError,
                SameBucketsError, BucketExistsError.
        """
        parent = self.bucket(path[:-1])
        goal = self.bucket(target)
        name = path[-1]
        entry = parent.entries.get(name)
        if entry is None:
            raise Refused("BucketNotFoundError")
        if not isinstance(entry, Bucket):
            raise Refused("IncompatibleValueError")
        if goal is parent or target[: len(path)] == path:
            raise Refused("SameBucketsError")
        there = goal.entries.get(name)
        if isinstance(there, Bucket):
            raise Refused("BucketExistsError")
        if there is not None:
            raise Refused("IncompatibleValueError")
        parent.drop(name)
        goal.store(name, entry)

    def put(self, path: Path, key: bytes, value: bytes) -> None:
        """Store a value.

        Raises:
            Refused: BucketNotFoundError, KeyRequiredError, KeyTooLargeError,
                IncompatibleValueError (the key is a bucket).
        """
        bucket = self.bucket(path)
        if not key:
            raise Refused("KeyRequiredError")
        if len(key) > MAX_KEY_SIZE:
            raise Refused("KeyTooLargeError")
        if isinstance(bucket.entries.get(key), Bucket):
            raise Refused("IncompatibleValueError")
        bucket.store(key, value)

    def delete(self, path: Path, key: bytes) -> None:
        """Remove a value; a missing key is no error.

        Raises:
            Refused: BucketNotFoundError, IncompatibleValueError.
        """
        bucket = self.bucket(path)
        if isinstance(bucket.entries.get(key), Bucket):
            raise Refused("IncompatibleValueError")
        bucket.drop(key)

    def set_sequence(self, path: Path, number: int) -> None:
        """Set a bucket's sequence.

        Raises:
            Refused: BucketNotFoundError.
        """
        self.bucket(path).sequence = number % _SEQUENCE_MODULUS

    def next_sequence(self, path: Path) -> int:
        """Add one to a bucket's sequence and give the new number.

        Raises:
            Refused: BucketNotFoundError.
        """
        bucket = self.bucket(path)
        bucket.sequence = (bucket.sequence + 1) % _SEQUENCE_MODULUS
        return bucket.sequence


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two contents differ, in key order.

    Attributes:
        path: Bucket names, and the key when a key differs.
        promised: What stands there on the left side, for people.
        found: What stands there on the right side, for people.
    """

    path: Path
    promised: str
    found: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: promised {self.promised}, found {self.found}"


def difference(promised: Bucket, found: Bucket) -> Difference | None:
    """The first difference by path; None when the contents are equal."""
    # Said in C, and nearly always the end of it.
    return None if promised == found else _difference(promised, found, ())


def _difference(promised: Bucket, found: Bucket, path: Path) -> Difference | None:
    if promised is found:
        return None
    if promised.sequence != found.sequence:
        return Difference(
            path, f"sequence {promised.sequence}", f"sequence {found.sequence}"
        )
    left, right = promised.entries, found.entries
    for key in sorted(left.keys() | right.keys()):
        one, two = left.get(key), right.get(key)
        if isinstance(one, Bucket) and isinstance(two, Bucket):
            below = _difference(one, two, (*path, key))
            if below is not None:
                return below
        elif one != two:
            return Difference((*path, key), _entry_text(one), _entry_text(two))
    return None


def walk(root: Bucket) -> Iterator[tuple[Path, Bucket]]:
    """Every bucket below `root` with its path, in key order, parents first."""
    pending: list[tuple[Path, Bucket]] = [((), root)]
    while pending:
        path, bucket = pending.pop()
        if path:
            yield path, bucket
        below = [((*path, name), inner) for name, inner in bucket.buckets()]
        pending.extend(sorted(below, key=_path_of, reverse=True))


def path_text(path: Path) -> str:
    """A path for people: names joined by slashes, "/" for the root."""
    return "/".join(shown(name) for name in path) if path else "/"


def _path_of(item: tuple[Path, Bucket]) -> Path:
    return item[0]


def shown(raw: bytes) -> str:
    """A key or value for people, shortly."""
    if raw.isascii() and raw.decode("ascii").isprintable():
        text = raw.decode("ascii")
    else:
        text = "0x" + raw.hex()
    if len(text) > _SHOWN:
        return f"{text[:_SHOWN]}...({len(raw)} bytes)"
    return text


def _entry_text(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    if isinstance(entry, Bucket):
        return f"a bucket of {len(entry.entries)}"
    return f"{len(entry)} bytes {shown(entry)}".rstrip()
