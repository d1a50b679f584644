"""Whoever breaks a checker is told: each sabotage changes a verdict somewhere.

Three verdicts are known: the engine is right, the engine with a planted bug is
not, and a table of outcomes made by hand. A checker that cannot fail, or looks at
the wrong thing, gets one of them wrong.
"""

import pytest

from boltmodel import contract, recovery
from boltmodel.contract import Outcome
from boltmodel.interpret import History, run
from boltmodel.model import EMPTY, Bucket, ModelTx
from boltmodel.mutants import mutant
from boltmodel.programs import Commit, Fill, NextSequence, Program, Put, Value
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.trace import Mark

PROGRAM = Program(
    (
        Fill((b"a",), 0, 12, 1, Value(1, 100)),
        Put((b"b", b"c"), b"k", Value(2, 20)),
        Commit(),
        Fill((b"a",), 0, 12, 1, Value(3, 100)),
        Put((b"b", b"c"), b"k", Value(4, 20)),
        NextSequence((b"a",)),
        Commit(),
    ),
    page_size=1024,
)


def state(value):
    tx = ModelTx(EMPTY)
    tx.ensure((b"a",))
    tx.put((b"a",), b"k", value)
    return tx.commit()


ONE, TWO = state(b"1"), state(b"2")
HISTORY = History(None, {1: EMPTY, 2: ONE, 3: TWO})
ACKED = [
    Mark("opened", (("txid", 1),)),
    Mark("begin", (("txid", 2),)),
    Mark("acked", (("txid", 2),)),
    Mark("begin", (("txid", 3),)),
    Mark("acked", (("txid", 3),)),
]


def shows(txid, content, **other):
    return Outcome(True, txid=txid, digest=content.digest, content=content, **other)


BY_HAND = [
    (ACKED, shows(3, TWO), ""),
    (ACKED, shows(2, ONE), "P"),
    (ACKED[:4], shows(3, TWO), ""),
    (ACKED[:4], shows(2, ONE), ""),
    (ACKED[:3], shows(3, TWO), "A"),
    (ACKED, shows(3, ONE), "A"),
    (ACKED, shows(3, TWO, problems=("page 5: unreachable unfreed",)), "S"),
    (ACKED, shows(3, TWO, again="another"), "I"),
    (ACKED, shows(3, TWO, progress="failed"), "F"),
]


def crash_verdict():
    """Letters of everything that any crash of the program breaks."""
    disk = Disk()
    history = run(PROGRAM, disk, mark=disk.mark)
    explorer = Explorer({}, disk.trace, recovery.recover, cap=3000)
    letters = {one.property[0] for one in history.live}
    for closure in explorer.sweep():
        marks = explorer.marks(closure.point)
        for reached in closure.outcomes:
            found = contract.judge(history, marks, reached.outcome)
            letters.update(one.property[0] for one in found)
    return letters


def wrong_verdicts():
    """What the checkers get wrong; nothing, as they are."""
    for number, (marks, outcome, letters) in enumerate(BY_HAND):
        found = contract.judge(HISTORY, marks, outcome)
        if "".join(one.property[0] for one in found) != letters:
            yield f"case {number}"
    if crash_verdict():
        yield "the engine as it is"
    with mutant("no-data-sync"):
        if not {"P", "A"} <= crash_verdict():
            yield "no-data-sync"


def test_the_checkers_as_they_are_get_everything_right():
    assert not list(wrong_verdicts())


@pytest.mark.parametrize("name", contract.CHECKERS)
def test_a_checker_that_is_always_content_is_noticed(name, monkeypatch):
    monkeypatch.setitem(contract.CHECKERS, name, lambda *_: None)
    assert next(wrong_verdicts())


def test_comparing_the_wrong_transaction_is_noticed(monkeypatch):
    def previous(history, promise):
        legal = original(history, promise)
        return {t: history.states.get((t or 1) - 1, EMPTY) for t in legal}

    original = contract.legal_contents
    monkeypatch.setattr(contract, "legal_contents", previous)
    assert next(wrong_verdicts())


def test_allowing_what_was_never_in_flight_is_noticed(monkeypatch):
    monkeypatch.setattr(
        contract, "legal_contents", lambda history, _: dict(history.states)
    )
    assert next(wrong_verdicts())


def without_last_bucket(bucket):
    names = [k for k, v in bucket.entries.items() if isinstance(v, Bucket)]
    kept = {k: v for k, v in bucket.entries.items() if k != max(names, default=None)}
    return Bucket(kept, bucket.sequence)


def without_tail(bucket):
    kept = dict(sorted(bucket.entries.items())[:5])
    cut = {k: without_tail(v) if isinstance(v, Bucket) else v for k, v in kept.items()}
    return Bucket(cut, bucket.sequence)


def without_sequences(bucket):
    cut = {
        k: without_sequences(v) if isinstance(v, Bucket) else v
        for k, v in bucket.entries.items()
    }
    return Bucket(cut, 0)


@pytest.mark.parametrize(
    "blind", [without_last_bucket, without_tail, without_sequences]
)
def test_looking_at_a_part_of_the_content_is_noticed(blind, monkeypatch):
    original = recovery.observe
    monkeypatch.setattr(recovery, "observe", lambda tx: blind(original(tx)))
    assert next(wrong_verdicts())


def test_reading_the_models_own_output_is_noticed(monkeypatch):
    """Whatever the disk holds, the content that was promised is reported."""

    def recover(disk):
        found = original(disk)
        if found.error:
            return found
        return shows(found.txid, known.states.get(found.txid, EMPTY))

    original = recovery.recover
    disk = Disk()
    known = run(PROGRAM, disk, mark=disk.mark)
    monkeypatch.setattr(recovery, "recover", recover)
    assert next(wrong_verdicts()) == "no-data-sync"
