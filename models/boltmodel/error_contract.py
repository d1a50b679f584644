"""The contract of a run with errors in it: which contents a crash may show.

Theory
======
Without errors one commit at most is in flight. With errors there may be
several that failed, and each of them may have taken effect or not, until the
engine is certain again:

    mark       acknowledged        may have taken effect
    opened     what was opened     nothing else
    begin      -                   this one, too
    failed     -                   -
    certain    -                   nothing else: a write transaction has begun
    acked      this one            nothing else
    killed     -                   - ; opening settles nothing now, `certain` only
                                   what this process has tried
    synced     what is shown       what was begun since that

    opened   begin 2   failed   certain   begin 2'   acked 2'
      1        1, 2     1, 2       1        1, 2'       2'

A failed transaction and the next one have the same id and other content, so
that attempts are numbered. An outcome is legal when it is legal for the acknowledged
content with no commit or one of these in flight; `contract` decides that.

After `killed` another process has the database. It sees what the page cache
shows, which may be a commit that failed; only its own first commit makes that
durable, or replaces it. Reading is no acknowledgement.

While commits wait for a sync nothing is promised of any content (`unsynced`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltmodel.contract import Outcome, Promise, broken
from boltmodel.interpret import History
from boltmodel.unsynced import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltmodel.under_errors import ErrorHistory
    from tornpage.subject import Violation
    from tornpage.trace import Mark

__all__ = ["ErrorPromise", "judge_errors", "promise_under_errors"]


@dataclass(frozen=True, slots=True)
class ErrorPromise:
    """What the marks before a crash promise, by number of the attempt.

    Attributes:
        exists: The database was opened at least once, so it must be there.
        acked: What was acknowledged last; None before the first opening.
        maybe: Commits that may have taken effect, oldest first.
        unsynced: Commits wait for a sync: nothing of the content is promised.
    """

    exists: bool = False
    acked: int | None = None
    maybe: tuple[int, ...] = ()
    unsynced: bool = False


def promise_under_errors(history: ErrorHistory, marks: Sequence[Mark]) -> ErrorPromise:
    """Read the promise off the marks before a crash."""
    exists = history.base is not None
    acked: int | None = None
    maybe: tuple[int, ...] = ()
    killed = False
    inherited: tuple[int, ...] = ()
    waiting = Waiting()
    for mark in marks:
        waiting.note(mark)
        match mark.label:
            case "acked":
                exists, acked, maybe = True, int(mark["attempt"]), ()
                killed = False
            case "opened" if killed:
                inherited = maybe = (*maybe, int(mark["attempt"]))
            case "opened":
                exists, acked, maybe = True, int(mark["attempt"]), ()
            case "begin":
                maybe = (*maybe, int(mark["attempt"]))
            case "certain":
                maybe = inherited if killed else ()
            case "killed":
                killed = True
            case "synced":
                # What a process has taken over is durable now, too.
                exists, acked, killed = True, int(mark["attempt"]), False
                maybe = tuple(number for number in maybe if number > acked)
            case _:
                continue
    return ErrorPromise(exists, acked, maybe, waiting.for_sync)


def judge_errors(
    history: ErrorHistory, marks: Sequence[Mark], outcome: Outcome
) -> tuple[Violation, ...]:
    """The promises an outcome breaks; empty when some legal story explains it."""
    promise = promise_under_errors(history, marks)
    first: tuple[Violation, ...] | None = None
    for in_flight in (None, *reversed(promise.maybe)):
        found = _judge_one(history, promise, in_flight, outcome)
        if not found:
            return ()
        # The strictest story gives the message, unless there is one in flight.
        if first is None or in_flight is not None:
            first = found
    return first or ()


def _judge_one(
    history: ErrorHistory,
    promise: ErrorPromise,
    in_flight: int | None,
    outcome: Outcome,
) -> tuple[Violation, ...]:
    """As `contract.judge`, for one story of what took effect."""
    # Older ones are not legal, but tell a lost commit from a mixture.
    before = history.attempts[: promise.acked]
    known = {one.txid: one.content for one in before}
    txids = []
    for number in (promise.acked, in_flight):
        txid = None
        if number is not None:
            attempt = history.attempts[number]
            txid = attempt.txid
            known[txid] = attempt.content
        txids.append(txid)
    told = History(history.base, known, history.loose_txid)
    plain = Promise(promise.exists, txids[0], txids[1], promise.unsynced)
    return broken(told, plain, outcome)
