"""The repair: a new, sound file with everything a scan could read.

    source --scan--> entries --transactions of a few MiB--> output.PID.partial
                                                               |  sync, check
                                                               v
                                                             output

The source is only read. The output gets its name when it is complete, durable
and has passed the checker; until then it has another one, and after a failure
nothing is left. Pairs go in as they come, in key order for everything that is
not damaged; where keys are out of order or there twice, the first one found stays.

The output is written without a sync per transaction: nobody can have relied on
it yet. One sync at the end, then the rename, then a sync of the directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shearbolt.database.copy import name_beside, take_name
from shearbolt.database.opening import open_database
from shearbolt.errors import (
    BucketExistsError,
    CorruptPageError,
    IncompatibleValueError,
    OptionError,
    StorageError,
)
from shearbolt.options import file_name
from shearbolt.pages.format import (
    MAX_KEY_SIZE,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
)
from shearbolt.salvage.records import Damage, DamagedBucket, FoundBucket, Repaired
from shearbolt.salvage.scan import scan
from shearbolt.storage import OSStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from shearbolt.database.opening import DB
    from shearbolt.database.tx import Tx
    from shearbolt.salvage.records import FoundPair
    from shearbolt.salvage.scan import Report
    from shearbolt.storage import Storage
    from shearbolt.tree.bucket import Bucket

__all__ = ["MAX_LISTED", "repair"]

MAX_LISTED: Final = 10_000
"""Damage described one by one; what goes beyond is only counted."""

_BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCH_PAIRS: Final = 20_000
"""A transaction of the output ends at whichever comes first. It bounds memory:
a dirty page costs about three times its bytes."""

_FILL: Final = 0.9
"""Keys come in order, so pages can be nearly full (as bbolt compact)."""

_TREE_DEPTH: Final = 64
"""The tree of damage is not made deeper; what lies below is listed there."""

_NO_NAME: Final = b"(no name)"


def repair(
    source: str | bytes | PathLike[str],
    output: str | bytes | PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    txid: int | None = None,
    page_size: int | None = None,
    storage: Storage | None = None,
) -> Repaired:
    """Write everything that can be read of `source` to a new, sound file.

    Args:
        source: The damaged file. It is not changed.
        output: The file to make. There must be none of this name.
        progress: Called now and then with (pages read, pages in all).
        txid: Which version to salvage; None for the newest with a sound meta.
        page_size: Bytes a page of the source, when the file does not tell.
        storage: The machine to run on; None: this one.

    Returns:
        What was kept, and everything that was lost.

    Raises:
        InvalidDatabaseError: Nothing in `source` looks like a bolt database.
        OptionError: `output` exists, or `txid` or `page_size` mean nothing.
        LockTimeoutError: Somebody has `source` open for writing.
        StorageError: The system refused.
    """
    if storage is None:
        storage = OSStorage()
    target = file_name(output)
    if storage.exists(target):
        raise _exists(target)
    partial = name_beside(target, f".{storage.pid()}.partial")
    with scan(source, txid=txid, page_size=page_size, storage=storage) as report:
        _remove(storage, partial)
        try:
            with open_database(
                partial,
                page_size=_sound_page_size(report.page_size),
                no_sync=True,
                timeout=0,
                storage=storage,
            ) as db:
                writer = _Writer(db, report, progress)
                writer.run()
                _verify(db)
                db.sync()
            try:
                take_name(storage, partial, target)
            except FileExistsError:
                raise _exists(target) from None
        except BaseException:
            if storage.exists(partial):
                storage.unlink(partial)
            raise
    return writer.result(target)


def _remove(storage: Storage, partial: str) -> None:
    """Of a process that was killed, and had the number that is ours now."""
    try:
        if storage.exists(partial):
            storage.unlink(partial)
    except OSError as error:
        raise StorageError.of(error, "unlink", partial) from error


def _sound_page_size(found: int) -> int:
    """The source's page size, or the nearest that a new file may have."""
    size = MIN_PAGE_SIZE
    while size < found and size < MAX_PAGE_SIZE:
        size *= 2
    return size


def _verify(db: DB) -> None:
    """The output must be what it is called.

    Raises:
        CorruptPageError: It is not: a mistake in this program.
    """
    with db.view() as tx:
        for problem in tx.check():
            raise CorruptPageError(
                f"the repaired file is not sound ({problem}); please report this",
                path=db.path,
                pgid=problem.pgid,
                offset=problem.offset,
            )


def _exists(target: str) -> OptionError:
    return OptionError(f"{target} exists: name a file that does not, or remove it")


@dataclass(slots=True)
class _Branch:
    """A `DamagedBucket` in the making."""

    damage: list[Damage] = field(default_factory=list)
    buckets: dict[bytes, _Branch] = field(default_factory=dict)

    def freeze(self, name: bytes) -> DamagedBucket:
        below = [self.buckets[name].freeze(name) for name in sorted(self.buckets)]
        return DamagedBucket(name, tuple(self.damage), tuple(below))


class _Writer:
    """Puts entries into the output, one transaction after another."""

    def __init__(
        self, db: DB, report: Report, progress: Callable[[int, int], None] | None
    ) -> None:
        self._db = db
        self._report = report
        self._progress = progress
        self._tx: Tx | None = None
        # What this transaction has open, and where the last pair went.
        self._opened: dict[FoundBucket, Bucket] = {}
        self._here: FoundBucket | None = None
        self._into: Bucket
        # No key there is higher.
        self._last = b""
        self._batch_pairs = self._batch_bytes = 0
        self._damage = _Branch()
        # Those with damage in or below them, of what was listed.
        self._branches: dict[FoundBucket, _Branch] = {}
        self._listed = self._unlisted = self._lost = 0
        self.buckets = self.pairs = self.content = 0

    def run(self) -> None:
        """Write everything the scan yields."""
        for entry in self._report:
            if isinstance(entry, Damage):
                self._note(entry)
            elif isinstance(entry, FoundBucket):
                self._make(entry)
            else:
                self._put(entry)
            if self._batch_pairs >= _BATCH_PAIRS or self._batch_bytes >= _BATCH_BYTES:
                self._commit()
                self._tell(min(self._report.entered, self._report.pages))
        self._commit()
        self._tell(self._report.pages)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._report.pages)

    def result(self, output: str) -> Repaired:
        """The account, when all is written."""
        report = self._report
        return Repaired(
            source=report.path,
            output=output,
            page_size=report.page_size,
            txid=-1 if report.meta is None else report.meta.txid,
            buckets=self.buckets,
            pairs=self.pairs,
            content=self.content,
            root=self._damage.freeze(b""),
            unlisted=self._unlisted,
            lost=self._lost,
        )

    def _note(self, damage: Damage) -> None:
        self._lost += bool(damage.lost)
        if self._listed >= MAX_LISTED:
            self._unlisted += 1
            return
        self._listed += 1
        self._branch(damage.bucket).damage.append(damage)

    def _branch(self, bucket: FoundBucket | None) -> _Branch:
        """Where the damage in a bucket is listed."""
        # Up to one that is known, then down, as `_bucket` does.
        above: list[FoundBucket] = []
        while bucket is not None and bucket not in self._branches:
            above.append(bucket)
            bucket = bucket.parent
        branch = self._damage if bucket is None else self._branches[bucket]
        for one in reversed(above):
            if 0 < one.depth <= _TREE_DEPTH:
                branch = branch.buckets.setdefault(one.name, _Branch())
            self._branches[one] = branch
        return branch

    def _make(self, found: FoundBucket) -> None:
        """A bucket, so that empty ones are kept, with its sequence."""
        bucket = self._bucket(found)
        if found.sequence:
            bucket.set_sequence(found.sequence)
        self.buckets += 1
        self._count(found.name, b"")

    def _put(self, pair: FoundPair) -> None:
        key, value = pair.key, pair.value
        if not 0 < len(key) <= MAX_KEY_SIZE:
            self._refuse(pair, f"a key of {len(key)} bytes cannot be")
            return
        bucket = self._bucket(pair.bucket)
        if key <= self._last and key in bucket:
            self._refuse(pair, f"the key {key[:32]!r} is there twice: the first stays")
            return
        try:
            bucket.put(key, value)
        except IncompatibleValueError:
            self._refuse(pair, f"the key {key[:32]!r} names a bucket, too")
            return
        self._last = max(key, self._last)
        self.pairs += 1
        self.content += len(key) + len(value)
        self._count(key, value)

    def _refuse(self, pair: FoundPair, reason: str) -> None:
        self._note(
            Damage(
                pair.pgid,
                pair.pgid * self._report.page_size,
                reason,
                f"a value of {len(pair.value)} bytes",
                pair.bucket,
                pair.key,
                pair.key + b"\0",
            )
        )

    def _bucket(self, found: FoundBucket) -> Bucket:
        """The output's bucket for one of the source."""
        if found is self._here:
            return self._into
        if self._tx is None:
            self._tx = self._db.begin(writable=True)
        # Up to a bucket that this transaction has open, then down: walking from
        # the root every time would make deep nesting cost its depth squared.
        above: list[FoundBucket] = []
        way: FoundBucket = found
        while way not in self._opened and way.parent is not None:
            above.append(way)
            way = way.parent
        # Not `or`: an empty bucket is false.
        bucket = self._opened.get(way, self._tx.root_bucket)
        for step in reversed(above):
            bucket = self._below(bucket, step.name[:MAX_KEY_SIZE] or _NO_NAME)
            bucket.fill_percent = _FILL
            self._opened[step] = bucket
        # Pairs may have been put there before.
        end = bucket.cursor().last()
        self._here, self._into = found, bucket
        self._last = b"" if end is None else end[0]
        return bucket

    def _below(self, bucket: Bucket, name: bytes) -> Bucket:
        while True:
            try:
                return bucket.create_bucket(name)
            except BucketExistsError:
                return bucket.bucket(name)
            except IncompatibleValueError:
                # A plain key of this name came first.
                name = (name + b" (bucket)")[-MAX_KEY_SIZE:]

    def _count(self, key: bytes, value: bytes) -> None:
        self._batch_pairs += 1
        self._batch_bytes += len(key) + len(value)

    def _commit(self) -> None:
        if self._tx is not None:
            self._tx.commit()
        self._tx = self._here = None
        self._opened = {}
        self._batch_pairs = self._batch_bytes = 0
