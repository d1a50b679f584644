"""What a transaction of the engine shows, as a bucket of the reference model.

    transaction --cursors, bucket by bucket--> model.Bucket, frozen

It goes through cursors only, so it sees what an application sees, and it refuses
keys that come out of order: a dict would hide that.

What it is not: quick with much. `survey` looks at large databases page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from boltmodel.model import Bucket, path_text, shown

if TYPE_CHECKING:
    from boltmodel.model import Entry, Path

__all__ = ["OrderError", "Readable", "Walkable", "observe", "observe_bucket"]

# A bucket of a damaged file may be in itself. Python ends at a thousand calls.
_DEEPEST: Final = 100


class OrderError(Exception):
    """A cursor gave keys that are not strictly ascending, or buckets without end."""


class _Cursor(Protocol):
    """What a walk needs of a cursor of the engine."""

    def first(self) -> tuple[bytes, bytes | None] | None: ...

    def next(self) -> tuple[bytes, bytes | None] | None: ...


class Walkable(Protocol):
    """What a walk needs of a bucket of the engine."""

    @property
    def sequence(self) -> int:
        """The bucket's counter."""
        ...

    def cursor(self) -> _Cursor:
        """A cursor over keys and sub-buckets."""
        ...

    def bucket(self, name: bytes, /) -> Walkable:
        """The sub-bucket of this name."""
        ...


class Readable(Protocol):
    """What a walk needs of a transaction of the engine."""

    def cursor(self) -> _Cursor:
        """A cursor over the root bucket."""
        ...

    def bucket(self, name: bytes, /) -> Walkable:
        """The top-level bucket of this name."""
        ...


def observe(tx: Readable) -> Bucket:
    """Everything a transaction shows, as a frozen model bucket.

    Raises:
        OrderError: Keys do not come out in strictly ascending order, or there is
            always one more bucket in a bucket.
    """
    return _observed(tx, (), 0).freeze()


def observe_bucket(bucket: Walkable) -> Bucket:
    """Everything that a bucket shows, as a frozen model bucket; errors as above."""
    return _observed(bucket, (), bucket.sequence).freeze()


def _observed(source: Readable | Walkable, path: Path, sequence: int) -> Bucket:
    if len(path) > _DEEPEST:
        raise OrderError(
            f"there are more than {_DEEPEST} buckets in one another, the first of "
            f"them {path_text(path[:4])}: a damaged one may contain itself"
        )
    entries: dict[bytes, Entry] = {}
    cursor = source.cursor()
    step = cursor.next
    below: list[bytes] = []
    last = b""
    pair = cursor.first()
    while pair is not None:
        key, value = pair
        # Bolt has no empty key, so the first key must be above b"" as well.
        if key <= last:
            raise OrderError(
                f"cursor of bucket {path_text(path)} gave {shown(key)} "
                f"after {shown(last)}: keys must ascend"
            )
        last = key
        if value is None:
            below.append(key)
        else:
            entries[key] = value
        pair = step()
    # After the walk, not during it: one cursor at a time keeps the order of
    # reads, and with it the crash explorer's tree, simple.
    for key in below:
        bucket = source.bucket(key)
        entries[key] = _observed(bucket, (*path, key), bucket.sequence)
    return Bucket(entries, sequence, below)
