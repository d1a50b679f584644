"""What salvage says: what it found, and what it could not read.

A scan is a stream of three kinds of entry, in this order:

    FoundBucket            before anything that lies in it
      FoundPair ...        in the order the pages hold them
      Damage               where something could not be read, or was mended
      FoundBucket ...      sub-buckets where their names stand

A repair ends in a `Repaired`: totals, and the damage arranged as a tree of the
buckets it lies in. All of them are frozen; entries name their bucket by the
`FoundBucket` it is, so that a path costs nothing until somebody asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Damage",
    "DamagedBucket",
    "Entry",
    "FoundBucket",
    "FoundPair",
    "MetaState",
    "Repaired",
]

_LONGEST_KEY_SHOWN: Final = 32
_MOST_NAMES_SHOWN: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class FoundBucket:
    """A bucket of the damaged file.

    Two are the same bucket only if they are the same object.

    Attributes:
        name: Its name; b"" for the root bucket.
        parent: The bucket it lies in, None for the root bucket.
        sequence: Its counter, 0 where that is lost.
        pgid: The page its name was found in, 0 where there is none.
        depth: How many names its path has.
    """

    name: bytes
    parent: FoundBucket | None
    sequence: int = 0
    pgid: int = 0
    depth: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.parent is not None:
            object.__setattr__(self, "depth", self.parent.depth + 1)

    @property
    def path(self) -> tuple[bytes, ...]:
        """The names that lead here from the root."""
        names = []
        bucket = self
        while bucket.parent is not None:
            names.append(bucket.name)
            bucket = bucket.parent
        return tuple(reversed(names))

    def __repr__(self) -> str:
        return f"<FoundBucket {'/'.join(map(repr, self.path)) or '(root)'}>"


@dataclass(frozen=True, slots=True)
class FoundPair:
    """A key with its value.

    Attributes:
        bucket: Where it belongs.
        key: The key.
        value: Its value.
        pgid: The page it was read from.
    """

    bucket: FoundBucket
    key: bytes
    value: bytes
    pgid: int


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with the file.

    Attributes:
        pgid: The page.
        offset: Byte offset of the damage in the file.
        reason: What is wrong there.
        lost: What that costs: "" when nothing is lost.
        bucket: The one it lies in; None: no bucket, or the root bucket.
        low: First key that may be missing; None: from the bucket's beginning.
        high: First key behind these; None: to the bucket's end.
    """

    pgid: int
    offset: int
    reason: str
    lost: str = ""
    # By the page and the offset the same damage is the same.
    bucket: FoundBucket | None = field(default=None, compare=False)
    low: bytes | None = None
    high: bytes | None = None

    @property
    def path(self) -> tuple[bytes, ...]:
        """Names of the bucket it lies in, from the root.

        Made when it is asked for: one for each damage in buckets thousands deep took
        the square of the depth.
        """
        return () if self.bucket is None else self.bucket.path

    def __str__(self) -> str:
        where = _way(self.bucket) or "(root)"
        lost = f"lost: {self.lost}" if self.lost else "nothing is lost"
        return (
            f"page {self.pgid} (offset {self.offset}), bucket {where}: "
            f"{self.reason}; {lost}"
        )


Entry = FoundBucket | FoundPair | Damage


def key_range(low: bytes | None, high: bytes | None) -> str:
    """A key range in words, for `Damage.lost`."""
    if low is None and high is None:
        return "all keys"
    if low is None:
        return f"the keys before {_shown(high or b'')}"
    if high is None:
        return f"the keys from {_shown(low)} on"
    return f"the keys from {_shown(low)} to before {_shown(high)}"


def _way(bucket: FoundBucket | None) -> str:
    """The names that lead to a bucket, the last ones when they are many."""
    names: list[str] = []
    while bucket is not None and bucket.parent is not None:
        if len(names) == _MOST_NAMES_SHOWN:
            names.append(f"({bucket.depth} above)")
            break
        names.append(_shown(bucket.name))
        bucket = bucket.parent
    return "/".join(reversed(names))


def _shown(key: bytes) -> str:
    if len(key) <= _LONGEST_KEY_SHOWN:
        return repr(key)
    return f"{key[:_LONGEST_KEY_SHOWN]!r}... ({len(key)} bytes)"


@dataclass(frozen=True, slots=True)
class MetaState:
    """What became of one meta page.

    Attributes:
        slot: 0 or 1.
        offset: Its first byte in the file; -1 when its place is unknown.
        txid: The transaction that wrote it, -1 when that cannot be believed.
        reason: Why it cannot be used, "" when it can.
    """

    slot: int
    offset: int
    txid: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DamagedBucket:
    """A bucket with damage in it or below it.

    Attributes:
        name: Its name; b"" for the root bucket.
        damage: What is wrong in the bucket itself.
        buckets: Damaged buckets in it, by name.
    """

    name: bytes
    damage: tuple[Damage, ...] = ()
    buckets: tuple[DamagedBucket, ...] = ()

    def walk(self) -> Iterator[Damage]:
        """All damage here and below, a bucket's own first."""
        stack = [self]
        while stack:
            bucket = stack.pop()
            yield from bucket.damage
            stack += reversed(bucket.buckets)


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair kept and what it lost.

    Attributes:
        source: The damaged file.
        output: The new, sound one.
        page_size: Bytes a page, of both.
        txid: The version that was salvaged, -1 when both metas are damaged.
        buckets: Buckets written.
        pairs: Pairs written.
        content: Bytes of keys and values written.
        root: The damage, as a tree of buckets.
        unlisted: Damage beyond `MAX_LISTED`, counted only.
        lost: How many entries of damage, listed or not, cost content.
    """

    source: str
    output: str
    page_size: int
    txid: int
    buckets: int
    pairs: int
    content: int
    root: DamagedBucket = field(default_factory=lambda: DamagedBucket(b""))
    unlisted: int = 0
    lost: int = 0

    @property
    def damage(self) -> tuple[Damage, ...]:
        """All listed damage."""
        return tuple(self.root.walk())

    @property
    def complete(self) -> bool:
        """Whether nothing was lost, as far as can be told."""
        return not self.lost
