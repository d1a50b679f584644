"""The contract: each promise is checked, and each check can fail."""

import pytest

from boltmodel.contract import (
    CHECKERS,
    Outcome,
    Promise,
    judge,
    legal_contents,
    promise_of,
)
from boltmodel.contract import broken as broken_of
from boltmodel.interpret import History
from boltmodel.model import EMPTY, ModelTx
from tornpage.trace import Mark


def state(value):
    tx = ModelTx(EMPTY)
    tx.ensure((b"a",))
    tx.put((b"a",), b"k", value)
    return tx.commit()


ONE, TWO, THREE = state(b"1"), state(b"2"), state(b"3")
HISTORY = History(None, {1: EMPTY, 2: ONE, 3: TWO, 4: THREE})
OPENED = [Mark("opening"), Mark("opened", (("txid", 1),))]


def begin(txid):
    return Mark("begin", (("txid", txid),))


def acked(txid):
    return Mark("acked", (("txid", txid),))


def shows(txid, content, **other):
    return Outcome(
        existed=True, txid=txid, digest=content.digest, content=content, **other
    )


IN_FLIGHT = [*OPENED, begin(2), acked(2), begin(3)]
ACKED = [*IN_FLIGHT, acked(3)]


def broken(marks, outcome, history=HISTORY):
    return [v.property[0] for v in judge(history, marks, outcome)]


def test_marks_become_promises():
    assert promise_of(HISTORY, []) == Promise()
    assert promise_of(HISTORY, OPENED[:1]) == Promise()
    assert promise_of(HISTORY, OPENED) == Promise(True, 1, None)
    assert promise_of(HISTORY, IN_FLIGHT) == Promise(True, 2, 3)
    assert promise_of(HISTORY, ACKED) == Promise(True, 3, None)
    assert promise_of(HISTORY, [*ACKED, Mark("closed")]) == Promise(True, 3, None)
    assert promise_of(History(ONE), []) == Promise(exists=True)


def test_before_and_after_are_legal_while_in_flight_and_nothing_else():
    assert broken(IN_FLIGHT, shows(2, ONE)) == []
    assert broken(IN_FLIGHT, shows(3, TWO)) == []
    assert legal_contents(HISTORY, promise_of(HISTORY, IN_FLIGHT)) == {2: ONE, 3: TWO}
    assert legal_contents(HISTORY, promise_of(HISTORY, ACKED)) == {3: TWO}


def test_a_database_nobody_was_told_of_may_be_missing_but_must_open():
    for marks in ([], OPENED[:1]):
        assert broken(marks, Outcome(False, txid=1, digest=EMPTY.digest)) == []
        assert broken(marks, shows(1, EMPTY)) == []
        assert broken(marks, shows(1, ONE)) == ["A"]
        assert broken(marks, Outcome(False, txid=1, digest=ONE.digest)) == ["A"]
        assert broken(marks, Outcome(True, error="ChecksumError: bad")) == ["P"]


def test_persistence_a_lost_file_is_a_violation_once_it_was_opened():
    lost = Outcome(False, txid=1, digest=EMPTY.digest, content=EMPTY)
    assert broken(OPENED, lost) == ["P"]
    assert broken([], lost, History(ONE)) == ["P"]


def test_persistence_a_database_that_does_not_open_is_a_violation():
    assert broken(ACKED, Outcome(True, error="ChecksumError: bad")) == ["P"]


def test_persistence_an_older_transaction_is_a_violation():
    assert broken(ACKED, shows(2, ONE)) == ["P"]
    (found,) = judge(HISTORY, ACKED, shows(2, ONE))
    assert "transaction 3 was acknowledged, recovery shows transaction 2" in (
        found.message
    )


def test_atomicity_mixed_content_is_a_violation_with_the_first_difference():
    mixed = state(b"half")
    assert broken(IN_FLIGHT, shows(3, mixed)) == ["A"]
    (found,) = judge(HISTORY, IN_FLIGHT, shows(3, mixed))
    assert ("a/k", "1 bytes 2", "4 bytes half") in found.facts


def test_atomicity_content_under_a_foreign_id_is_a_violation():
    assert broken(IN_FLIGHT, shows(3, ONE)) == ["A"]
    assert broken(IN_FLIGHT, shows(2, TWO)) == ["A"]


def test_atomicity_a_transaction_before_its_commit_was_called_is_a_violation():
    assert broken([*OPENED, begin(2), acked(2)], shows(3, TWO)) == ["A"]


def test_atomicity_old_txid_with_wrong_content_breaks_both():
    assert broken(ACKED, shows(2, state(b"odd"))) == ["P", "A"]
    assert broken(ACKED, shows(0, state(b"odd"))) == ["P", "A"]


def test_space_a_complaint_of_the_checker_is_a_violation():
    outcome = shows(3, TWO, problems=("page 5: unreachable unfreed",))
    assert broken(ACKED, outcome) == ["S"]
    assert "page 5" in judge(HISTORY, ACKED, outcome)[0].message


def test_idempotence_another_second_opening_is_a_violation():
    assert broken(ACKED, shows(3, TWO, again="transaction 3, then 2")) == ["I"]


def test_progress_a_commit_that_fails_is_a_violation():
    assert broken(ACKED, shows(3, TWO, progress="it did not stay")) == ["F"]


def test_a_commit_made_by_opening_is_allowed_only_where_it_is_declared():
    assert broken(ACKED, shows(4, TWO)) == ["A"]
    loose = History(None, HISTORY.states, loose_txid=True)
    assert broken(ACKED, shows(4, TWO), loose) == []
    assert broken(ACKED, shows(5, TWO), loose) == ["A"]
    assert broken(ACKED, shows(4, ONE), loose) == ["A"]


def test_a_given_database_is_under_contract_before_the_first_mark():
    history = History(ONE, {8: ONE})
    assert broken([], shows(7, ONE), history) == []
    assert broken([], shows(7, EMPTY), history) == ["A"]


def test_equal_outcomes_are_one_whatever_object_holds_the_content():
    assert shows(3, state(b"2")) == shows(3, TWO)
    assert hash(shows(3, state(b"2"))) == hash(shows(3, TWO))


PLANTED = {
    "P": (ACKED, shows(2, ONE)),
    "A": (IN_FLIGHT, shows(3, state(b"half"))),
    "S": (ACKED, shows(3, TWO, problems=("page 5: already freed",))),
    "I": (ACKED, shows(3, TWO, again="other")),
    "F": (ACKED, shows(3, TWO, progress="failed")),
}


@pytest.mark.parametrize("name", CHECKERS)
def test_only_its_own_checker_sees_a_planted_violation(name):
    """Without the checker the plant goes unseen: no check covers for another."""
    marks, outcome = PLANTED[name]
    promise = promise_of(HISTORY, marks)
    seen = {
        other
        for other, check in CHECKERS.items()
        if check(HISTORY, promise, outcome) is not None
    }
    assert seen == {name}


LOOSE = History(None, HISTORY.states, loose_txid=True)
WAITING = Promise(exists=True, acked=3, in_flight=4, unsynced=True)


def remaining(outcome, history=HISTORY, promise=WAITING):
    return [v.property[0] for v in broken_of(history, promise, outcome)]


def test_of_commits_that_wait_for_a_sync_no_content_is_promised():
    for outcome in (
        shows(1, EMPTY),
        shows(4, state(b"half")),
        shows(3, TWO, problems=("page 5: unreachable unfreed",)),
        Outcome(True, error="opening: ChecksumError: bad"),
        shows(3, TWO, again="reading: ChecksumError: bad"),
        shows(3, TWO, progress="CorruptPageError: bad"),
    ):
        assert remaining(outcome) == []


def test_but_the_file_is_and_no_transaction_that_was_never_begun():
    assert remaining(Outcome(False)) == ["P"]
    assert remaining(Outcome(False), promise=Promise(unsynced=True)) == []
    assert remaining(shows(5, THREE)) == ["A"]
    assert remaining(shows(5, THREE), LOOSE) == []
    assert remaining(shows(6, THREE), LOOSE) == ["A"]
    for promise in (
        Promise(exists=True, acked=3, unsynced=True),
        Promise(exists=True, in_flight=3, unsynced=True),
    ):
        assert remaining(shows(3, TWO), promise=promise) == []
        assert remaining(shows(4, TWO), promise=promise) == ["A"]
    assert remaining(shows(9, TWO), promise=Promise(unsynced=True)) == []
