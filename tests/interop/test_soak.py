"""Real bbolt and ours want one file at the same time, again and again.

    turn      Go process                 this process
    n         open (waits: flock)        open (waits: flock)
              commits of its session     commits of its session
              close                      close
    both read, both check, and compare with a file that only real bbolt writes

Which of the two gets the file first is up to the kernel. The transaction ids of
the answers tell it afterwards, and in that order real bbolt runs both sessions
alone, on a file of its own. So every answer, every id and all content must be
as if one bbolt had made every commit. A lost commit, a page taken twice or a
stale freelist shows in the turn it happens in.

SHEARBOLT_SOAK sets the number of transactions (200).
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.interop import engine
from tests.interop.oracle import Operation, Oracle, Transaction
from tests.interop.programs import nested
from tests.interop.test_locks import wrong_kind_of_lock
from tests.interop.test_same_content import comparable

import shearbolt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest

SOAK = int(os.environ.get("SHEARBOLT_SOAK", "200"))
PATIENCE = 30.0  # Seconds that one waits for the other to let go of the file.
# Longer than a Go process needs for its open, so that it is first now and then.
HEAD_START = 0.01


def sessions() -> Iterator[tuple[Transaction, ...]]:
    """Random sessions without end."""
    seed = 10_000  # Other programs than those of test_same_content.
    while True:
        yield from (session.transactions for session in nested(seed))
        seed += 1


def options_of(rng: random.Random) -> dict[str, Any]:
    """How one of them opens the file in a turn; the other may differ."""
    return {
        "freelist_type": rng.choice(("array", "hashmap")),
        "no_freelist_sync": rng.random() < 0.25,
    }


def ours(path: str, session: Sequence[Transaction], head: float, **options: Any) -> Any:
    time.sleep(head)
    return engine.apply(path, session, timeout=PATIENCE, **options)


def test_taking_turns_is_as_if_one_bbolt_had_made_every_commit(
    oracle_program: str, oracle: Oracle, tmp_path: Path
) -> None:
    rng = random.Random("soak")
    path, alone = str(tmp_path / "shared.db"), str(tmp_path / "alone.db")
    # Made before the race, so that both have the same first transaction id.
    oracle.apply(path, [], page_size=1024)
    oracle.apply(alone, [], page_size=1024)
    source = sessions()
    done, ours_first = 0, []
    # `oracle` reads in this thread; `writer` is asked from the other one.
    with Oracle(oracle_program) as writer, ThreadPoolExecutor(1) as other:
        while done < SOAK:
            mine, its = next(source), next(source)
            head = rng.choice((0.0, HEAD_START))
            # Opening a file that lacks a freelist and shall have one commits it,
            # so the bbolt that is alone needs the same options in each turn.
            how, its_how = options_of(rng), options_of(rng)
            wait = int(PATIENCE * 1000)
            pending = other.submit(writer.apply, path, its, timeout_ms=wait, **its_how)
            answered = ours(path, mine, head, **how)
            both = [
                ("ours", answered, mine, how),
                ("bbolt's", pending.result(), its, its_how),
            ]
            both.sort(key=lambda one: one[1][0].txid)
            ours_first.append(both[0][0] == "ours")
            for whose, answers, session, options in both:
                expected = oracle.apply(alone, session, no_sync=True, **options)
                where = f"{whose}, behind {done} transactions"
                assert comparable(answers) == comparable(expected), where
                done += len(session)
            content = oracle.dump(alone)
            assert oracle.dump(path) == content, done
            assert engine.dump(path) == content, done
            assert oracle.check(path) == [], done
            assert engine.check(path) == [], done
    # Else the turns were no race.
    assert set(ours_first) == {True, False}


def test_without_the_lock_a_commit_is_lost(
    oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fault the soak guards against, in its smallest form: ours has read the
    # meta page, and lets bbolt commit before it commits itself.
    wrong_kind_of_lock(monkeypatch)
    path, alone = str(tmp_path / "shared.db"), str(tmp_path / "alone.db")
    its = Transaction((Operation("create_bucket", key=b"its"),))
    mine = Transaction((Operation("create_bucket", key=b"mine"),))
    for name in (path, alone):
        oracle.apply(name, [])
    oracle.apply(alone, [its, mine])
    with shearbolt.open(path) as db:
        (answered,) = oracle.apply(path, [its])
        with db.update() as tx:
            assert tx.txid == answered.txid
            tx.create_bucket(b"mine")
    assert oracle.dump(path) != oracle.dump(alone)
    assert [name for name, _ in oracle.dump(path).entries] == [b"mine"]


def test_an_answer_given_by_a_stale_reader_would_be_seen(
    oracle: Oracle, tmp_path: Path
) -> None:
    # Ids and answers are compared, too: a session that ran behind another one
    # answers differently than before it.
    session = [Transaction((Operation("create_bucket", key=b"b"),))]
    path, alone = str(tmp_path / "shared.db"), str(tmp_path / "alone.db")
    first = comparable(engine.apply(path, session))
    assert first == comparable(oracle.apply(alone, session))
    assert comparable(engine.apply(path, session)) != first
