"""The durability contract: what a database must show after a crash.

Theory
======
A run leaves marks (`interpret`) and a history of contents. A crash falls
somewhere between the marks. With transaction t acknowledged and t+1 possibly
in flight, these are the promises, one small checker each:

    P persistence   the database opens, and its transaction is t or newer
    A atomicity     the content is exactly that of t, or of t+1 if the commit
                    of t+1 had been called; nothing mixed, nothing newer
    S space         every page is meta, freelist, reachable or free, exactly
                    one of these: the engine's checker is content
    I idempotence   opening once more shows the same database
    F progress      one more commit succeeds and is there afterwards
    R readers       live, see `interpret`

                 opening   opened      begin t+1        acked t+1
    ----------------|---------|------------|----------------|------->
    no file or      | nothing | t          | t or t+1       | t+1
    content `base`  | or base |            |                |

Until a new database is `opened` for the first time nobody was told that it
exists: no file, an empty file and an empty database are all legal, but it must
open. A file that was there before the program is under contract from the start.

While commits made with `no_sync` wait for a sync (`unsynced`) these promises do not
hold, but for what is left of them, which is `remains`.

Each checker takes the same three things: the history, what the marks before
the crash promise (`Promise`), and the outcome of recovery.

What it is not: it does not recover anything (`recovery`), and it never asks
the engine whether the engine is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from boltmodel.model import EMPTY, Bucket, difference, path_text
from boltmodel.unsynced import Waiting
from tornpage.subject import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltmodel.interpret import History
    from tornpage.trace import Mark

__all__ = [
    "CHECKERS",
    "UNTYPED",
    "Outcome",
    "Promise",
    "atomicity",
    "broken",
    "idempotence",
    "judge",
    "legal_contents",
    "persistence",
    "progress",
    "promise_of",
    "remains",
    "space",
]

UNTYPED: Final = "(not a BoltError)"
"""In an outcome's words: what was raised is no error that a caller expects."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What recovery saw. Equal outcomes are one outcome.

    Attributes:
        existed: The directory had an entry for the file.
        error: Why the database did not open or could not be read, as
            "ClassName: message"; empty when it could.
        txid: The transaction it shows; 0 with an error.
        digest: Digest of the content; empty with an error.
        problems: What the engine's checker said.
        again: How a second opening differed; empty when it did not.
        progress: What went wrong with one more commit; empty when nothing.
        content: The content itself, for messages; `digest` stands for it.
    """

    existed: bool
    error: str = ""
    txid: int = 0
    digest: bytes = b""
    problems: tuple[str, ...] = ()
    again: str = ""
    progress: str = ""
    content: Bucket | None = field(default=None, compare=False, repr=False)

    def __hash__(self) -> int:
        # It is looked up for every outcome of every crash point, and these two tell
        # nearly all apart.
        return hash((self.digest, self.error))


@dataclass(frozen=True, slots=True)
class Promise:
    """What the marks before a crash promise.

    Attributes:
        exists: The database was opened at least once, so it must be there.
        acked: Newest acknowledged transaction; None before the first opening.
        in_flight: Transaction whose commit had been called and not returned.
        unsynced: Commits wait for a sync: nothing of the content is promised.
    """

    exists: bool = False
    acked: int | None = None
    in_flight: int | None = None
    unsynced: bool = False


def promise_of(history: History, marks: Sequence[Mark]) -> Promise:
    """Read the promise off the marks before a crash."""
    exists = history.base is not None
    acked: int | None = None
    in_flight: int | None = None
    waiting = Waiting()
    for mark in marks:
        waiting.note(mark)
        data = dict(mark.data)
        match mark.label:
            case "opened" | "acked":
                exists, in_flight = True, None
                acked = int(data["txid"])
            case "begin":
                in_flight = int(data["txid"])
            case _:
                continue
    return Promise(exists, acked, in_flight, waiting.for_sync)


def legal_contents(history: History, promise: Promise) -> dict[int | None, Bucket]:
    """The contents recovery may show, by the transaction that made them.

    The key None stands for "before the first opening": the transaction id is
    the engine's business there.
    """
    legal: dict[int | None, Bucket] = {}
    if promise.acked is None:
        legal[None] = EMPTY if history.base is None else history.base
    else:
        legal[promise.acked] = history.states[promise.acked]
    if promise.in_flight is not None:
        legal[promise.in_flight] = history.states[promise.in_flight]
    return legal


def persistence(
    history: History, promise: Promise, outcome: Outcome
) -> Violation | None:
    """P: the database is there, opens, and is not older than acknowledged."""
    if promise.exists and not outcome.existed:
        return _gone(promise)
    if outcome.error:
        return _violation(
            "P persistence",
            f"the database cannot be used after the crash: {outcome.error}",
            [("database", "opens and reads", outcome.error)],
            promise,
        )
    if promise.acked is not None and outcome.txid < promise.acked:
        older = _age_text(history, outcome)
        return _violation(
            "P persistence",
            f"transaction {promise.acked} was acknowledged, recovery shows "
            f"transaction {outcome.txid}{older}",
            [("txid", _txids_text(promise), str(outcome.txid))],
            promise,
        )
    return None


def atomicity(history: History, promise: Promise, outcome: Outcome) -> Violation | None:
    """A: the content is one of the legal ones, under its own transaction id."""
    if outcome.error or (promise.exists and not outcome.existed):
        return None
    legal = legal_contents(history, promise)
    matching = [txid for txid, state in legal.items() if state.digest == outcome.digest]
    if any(_txid_fits(history, txid, outcome.txid) for txid in matching):
        return None
    if promise.acked is not None and outcome.txid < promise.acked and not matching:
        known = history.states.get(outcome.txid)
        if known is not None and known.digest == outcome.digest:
            # A whole older state: lost, not mixed. That is persistence's case.
            return None
    if matching:
        promised = " or ".join(str(txid) for txid in matching)
        return _violation(
            "A atomicity",
            f"recovery shows the content of transaction {promised} "
            f"under the id {outcome.txid}",
            [("txid", promised, str(outcome.txid))],
            promise,
        )
    # Compare with the state the recovered id claims to be; else with the
    # acknowledged one.
    key = outcome.txid if outcome.txid in legal else next(iter(legal))
    rows = [("txid", _txids_text(promise), str(outcome.txid))]
    where = ""
    if outcome.content is not None:
        differs = difference(legal[key], outcome.content)
        if differs is not None:
            where = f", first at {path_text(differs.path)}"
            rows.append((path_text(differs.path), differs.promised, differs.found))
    return _violation(
        "A atomicity",
        f"recovery shows transaction {outcome.txid} with content that no "
        f"legal transaction had{where}",
        rows,
        promise,
    )


def space(history: History, promise: Promise, outcome: Outcome) -> Violation | None:
    """S: the engine's checker finds nothing."""
    del history
    if not outcome.problems:
        return None
    return _violation(
        "S space",
        f"the checker finds {len(outcome.problems)} problems after recovery, "
        f"the first: {outcome.problems[0]}",
        [("check", "no problems", problem) for problem in outcome.problems[:4]],
        promise,
    )


def idempotence(
    history: History, promise: Promise, outcome: Outcome
) -> Violation | None:
    """I: a second opening shows the same."""
    del history
    if not outcome.again:
        return None
    return _violation(
        "I idempotence",
        f"opening once more shows another database: {outcome.again}",
        [("second opening", "the same", outcome.again)],
        promise,
    )


def progress(history: History, promise: Promise, outcome: Outcome) -> Violation | None:
    """F: one more commit succeeds and is there."""
    del history
    if not outcome.progress:
        return None
    return _violation(
        "F progress",
        f"after recovery one more commit fails: {outcome.progress}",
        [("next commit", "succeeds and stays", outcome.progress)],
        promise,
    )


def remains(history: History, promise: Promise, outcome: Outcome) -> Violation | None:
    """What is promised of a file whose commits wait for a sync."""
    if promise.exists and not outcome.existed:
        return _gone(promise)
    for said in (outcome.error, outcome.again, outcome.progress):
        if UNTYPED in said:
            return _violation(
                "E errors",
                f"a file with commits that no sync has followed is refused with what "
                f"is not a BoltError: {said}",
                [("damage", "none, or a BoltError", said)],
                promise,
            )
    known = [txid for txid in (promise.acked, promise.in_flight) if txid is not None]
    if known and outcome.txid > max(known) + history.loose_txid:
        return _violation(
            "A atomicity",
            f"recovery shows transaction {outcome.txid}, which was never begun",
            [("txid", f"at most {max(known)}", str(outcome.txid))],
            promise,
        )
    return None


# In the order in which they are reported: the first says most.
CHECKERS: Final[
    Mapping[str, Callable[[History, Promise, Outcome], Violation | None]]
] = {
    "P": persistence,
    "A": atomicity,
    "S": space,
    "I": idempotence,
    "F": progress,
}


def judge(
    history: History, marks: Sequence[Mark], outcome: Outcome
) -> tuple[Violation, ...]:
    """The promises an outcome breaks, in the order P, A, S, I, F."""
    return broken(history, promise_of(history, marks), outcome)


def broken(
    history: History, promise: Promise, outcome: Outcome
) -> tuple[Violation, ...]:
    """As `judge`, for a promise that is known."""
    checks = (remains,) if promise.unsynced else CHECKERS.values()
    found = (check(history, promise, outcome) for check in checks)
    return tuple(violation for violation in found if violation is not None)


def _txid_fits(history: History, txid: int | None, found: int) -> bool:
    if txid is None:
        return True
    # Opening a file that holds no freelist commits one, under an id of its own.
    return found == txid or (history.loose_txid and found == txid + 1)


def _violation(
    prop: str, message: str, rows: list[tuple[str, str, str]], promise: Promise
) -> Violation:
    rows.append(("acknowledged", _number_text(promise.acked), ""))
    rows.append(("in flight", _number_text(promise.in_flight), ""))
    return Violation(prop, message, tuple(rows))


def _gone(promise: Promise) -> Violation:
    return _violation(
        "P persistence",
        f"the database file is gone; {_acked_text(promise)}",
        [("file", "there", "no such entry in the directory")],
        promise,
    )


def _number_text(txid: int | None) -> str:
    return "none" if txid is None else f"transaction {txid}"


def _acked_text(promise: Promise) -> str:
    if promise.acked is None:
        return "it was there before the program"
    return f"transaction {promise.acked} was acknowledged"


def _txids_text(promise: Promise) -> str:
    known = [t for t in (promise.acked, promise.in_flight) if t is not None]
    return " or ".join(map(str, known)) if known else "any"


def _age_text(history: History, outcome: Outcome) -> str:
    state = history.states.get(outcome.txid)
    if state is None:
        return ""
    if state.digest == outcome.digest:
        return " with the content it had then"
    return " with content it never had"
