"""Recovery: reopen what a crash left and say everything that can be seen.

Theory
======
    exists?  ->  open  ->  walk everything, check  ->  one more commit  ->  close
                                                             |
             open again  <-----------------------------------+
             walk everything: what was there, and the new commit

This runs once for every leaf of the crash explorer's tree of choices, tens of
thousands of times, so it looks at everything exactly once.

There are two ways to look. A database of few pages is walked with the engine's
cursors and its checker. A larger one is surveyed (`survey`), which
takes as long as what has changed; what the survey does not find in order is walked
as well, to be told in words. Which way it is depends on the high-water mark alone:
recovery asks a disk the same things whoever explores it.

Idempotence costs nothing in the common case. The engine is deterministic, and
once decided the disk's bytes stay decided: if opening, walking and closing
wrote nothing, a second opening reads the same bytes and shows the same. Only
when the trace grew is the database opened a second time before the commit.

Whatever the engine raises is an outcome, typed or not. Exceptions of the
explorer and of Hypothesis are none of the engine's and pass through.

What it is not: it judges nothing (`contract`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import shearbolt
from boltmodel.contract import UNTYPED, Outcome
from boltmodel.interpret import DATABASE
from boltmodel.model import (
    Bucket,
    ModelTx,
    bucket_digest,
    difference,
    entry_sum,
)
from boltmodel.observation import OrderError, observe, observe_bucket
from boltmodel.survey import survey
from shearbolt.check import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt import DB, Tx
    from shearbolt.pages.format import Page
    from tornpage.disk import Disk

T = TypeVar("T")

__all__ = ["FORWARD_BUCKET", "Look", "Sight", "look", "recover"]

# The bucket the commit after recovery writes to. It sorts before all others, so
# the commit rewrites the leftmost leaf.
FORWARD_BUCKET: Final = b"\x00forward"
_FORWARD_KEY: Final = b"alive"
_FORWARD_VALUE: Final = b"yes"

# Seconds to wait for the lock, on the disk's clock: nobody else is there to give it
# back, and without an end a handle that is not closed hangs whoever calls `recover`.
_PATIENCE: Final = 1.0

# Whose exceptions are not the engine's doing.
_DRIVERS: Final = frozenset({"tornpage", "hypothesis"})

# More problems than this say nothing more, and a checker gone wild must not
# fill the memory with outcomes.
_MAX_PROBLEMS: Final = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What one opening showed."""

    txid: int
    content: Bucket
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What one opening showed.

    Attributes:
        txid: The transaction.
        shown: Everything, or the sum of the root bucket's entries when it was surveyed.
        problems: What the checker said.
    """

    txid: int
    shown: Bucket | int
    problems: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """The digest of the content."""
        shown = self.shown
        return bucket_digest(0, shown) if isinstance(shown, int) else shown.digest


def look(db: DB) -> Look:
    """Everything an open database shows.

    Raises:
        BoltError: A page cannot be read.
        OrderError: Keys come out of order.
    """
    with db.view() as tx:
        return _walked(tx, tx.db.pager.read_page)


def _walked(tx: Tx, read: Callable[[int, int], Page]) -> Look:
    content = observe(tx)
    found = check(tx.db.pager, tx.meta, read=read)
    problems = tuple(map(str, islice(found, _MAX_PROBLEMS)))
    return Look(tx.id, content, problems)


def _sight(db: DB, disk: Disk) -> Sight:
    """See everything, the way that is right for its size; errors as for `look`."""
    with db.view() as tx:
        total = survey(disk, DATABASE, tx.meta)
        if total is not None:
            return Sight(tx.id, total)
        # The checker takes the pages that the cursors have just read, nothing written
        # since: what a crash has left reads the same each time, and to read it again
        # was half of all that recovery reads.
        seen = _walked(tx, tx.db.pager.page)
    return Sight(seen.txid, seen.content, seen.problems)


def recover(disk: Disk, *, forward: bool = True) -> Outcome:
    """Open the database of a crashed disk and report what is there.

    Args:
        disk: What the crash left. It is written to.
        forward: Also make one more commit (property F).
    """
    existed = disk.exists(DATABASE)
    operations = len(disk.trace)
    db, error = _attempt(lambda: _opened(disk))
    if db is None:
        return Outcome(existed, error=f"opening: {error}")
    first, error = _attempt(lambda: _sight(db, disk))
    if first is None:
        _close(db)
        return Outcome(existed, error=f"reading: {error}")
    again = progress = ""
    handle: DB | None = db
    if len(disk.trace) != operations:
        handle = None
        again = _said(_attempt(lambda: _second_opening(db, disk, first)))
    # What comes now is a user's, not recovery's: a crash in it has promises of its own.
    disk.recovered()
    if forward and not first.problems and not again:
        progress = _said(_attempt(lambda: _one_more_commit(handle, disk, first)))
    _close(db)
    return Outcome(
        existed,
        txid=first.txid,
        digest=first.digest,
        problems=first.problems,
        again=again,
        progress=progress,
        content=first.shown if isinstance(first.shown, Bucket) else None,
    )


def _opened(disk: Disk) -> DB:
    return shearbolt.open(DATABASE, storage=disk, timeout=_PATIENCE)


def _second_opening(db: DB, disk: Disk, first: Sight) -> str:
    """Close `db`, open, look, close; how it differs from the first look."""
    db.close()
    with _opened(disk) as reopened:
        second = _sight(reopened, disk)
    if first.txid != second.txid:
        return f"transaction {first.txid}, then transaction {second.txid}"
    differs = _differs(first.shown, second)
    if differs:
        return differs
    if first.problems != second.problems:
        return f"checker: {first.problems}, then {second.problems}"
    return ""


def _one_more_commit(db: DB | None, disk: Disk, before: Sight) -> str:
    """Commit, close, open, compare; "" when all is well.

    Without a `db` that is still open it opens one.
    """
    live = _opened(disk) if db is None else db
    with live, live.update() as tx:
        expected = _with_forward(before.shown, tx)
        bucket = tx.create_bucket_if_not_exists(FORWARD_BUCKET)
        bucket.put(_FORWARD_KEY, _FORWARD_VALUE)
    # A handle of its own: the page cache of the first one would show what was
    # meant to be written, not what stands in the file.
    with _opened(disk) as fresh:
        after = _sight(fresh, disk)
    if after.problems:
        return f"the checker then says: {after.problems[0]}"
    differs = _differs(expected, after)
    if differs:
        return f"the content is then not the promised one, first at {differs}"
    return ""


def _with_forward(before: Bucket | int, tx: Tx) -> Bucket | int:
    """What is there after one more commit, everything or the sum."""
    if isinstance(before, Bucket):
        model = ModelTx(before)
        model.ensure((FORWARD_BUCKET,))
        model.put((FORWARD_BUCKET,), _FORWARD_KEY, _FORWARD_VALUE)
        return model.commit()
    total, old = before, Bucket()
    # Left by an earlier recovery of the same file.
    with suppress(shearbolt.BucketNotFoundError):
        old = observe_bucket(tx.bucket(FORWARD_BUCKET))
        total -= entry_sum(FORWARD_BUCKET, old)
    new = old.thaw()
    new.store(_FORWARD_KEY, _FORWARD_VALUE)
    return total + entry_sum(FORWARD_BUCKET, new)


def _differs(promised: Bucket | int, found: Sight) -> str:
    """How what was found differs from what was promised; "" when it does not."""
    if isinstance(promised, Bucket):
        if isinstance(found.shown, Bucket):
            return str(difference(promised, found.shown) or "")
        promised = promised.total
    digest = bucket_digest(0, promised)
    if digest == found.digest:
        return ""
    return f"digest {digest.hex()[:12]}, then {found.digest.hex()[:12]}"


def _close(db: DB) -> None:
    # A database that cannot be closed after it showed an error has said what
    # matters already.
    with suppress(shearbolt.BoltError):
        db.close()


def _attempt(call: Callable[[], T]) -> tuple[T, str] | tuple[None, str]:
    """The result and "", or None and the error in words.

    Raises:
        Exception: Whatever a driver of the run threw, unchanged.
    """
    try:
        return call(), ""
    except Exception as error:
        if type(error).__module__.partition(".")[0] in _DRIVERS:
            raise
        kind = type(error).__name__
        # That keys are out of order is said by who looked, and nobody's exception.
        if not isinstance(error, shearbolt.BoltError | OrderError):
            kind = f"{kind} {UNTYPED}"
        return None, f"{kind}: {error}"


def _said(attempt: tuple[str, str] | tuple[None, str]) -> str:
    said, error = attempt
    return error if said is None else said
