"""Random nested programs: same answers, same content, both checkers content.

The two take turns on each other's files as well: a session by one, the next by
the other. SHEARBOLT_INTEROP_PROGRAMS sets how many programs are run (20).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.interop import engine
from tests.interop.programs import nested

from shearbolt.pages.freelist import ArrayFreelist

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.oracle import Applied, Oracle

PROGRAMS = int(os.environ.get("SHEARBOLT_INTEROP_PROGRAMS", "20"))
PAGE_SIZES = (1024, 2048, 4096, 8192, 16384)
BATCH = 10


def comparable(applied: list[Applied]) -> list[Any]:
    """The answers, but for what a cursor says after it left the bucket.

    Before version 1.3.10 bbolt's cursors forget their place there.
    """
    return [
        (
            one.txid,
            one.error,
            [
                value[: value.index(None)]
                if isinstance(value, list) and None in value
                else value
                for _, value in one.outcomes
            ],
            [kind for kind, _ in one.outcomes],
        )
        for one in applied
    ]


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("batch", range(-(-PROGRAMS // BATCH)))
def test_nested_programs_agree(batch: int, oracle: Oracle, tmp_path: Path) -> None:
    for seed in range(batch * BATCH, min((batch + 1) * BATCH, PROGRAMS)):
        options = {
            "page_size": PAGE_SIZES[seed % len(PAGE_SIZES)],
            "freelist_type": "hashmap" if seed % 3 == 0 else "array",
            "no_freelist_sync": seed % 4 == 0,
            "no_sync": True,
        }
        ours = str(tmp_path / f"{seed}-ours.db")
        theirs = str(tmp_path / f"{seed}-theirs.db")
        both = str(tmp_path / f"{seed}-both.db")
        for turn, session in enumerate(nested(seed)):
            where = f"nested({seed}) with {options}, session {turn}"
            answers = comparable(engine.apply(ours, session.transactions, **options))
            expected = comparable(oracle.apply(theirs, session.transactions, **options))
            assert answers == expected, where
            (engine if turn % 2 else oracle).apply(
                both, session.transactions, **options
            )
            content = oracle.dump(theirs)
            for path in (ours, theirs, both):
                assert oracle.dump(path) == content, (where, path)
                assert engine.dump(path) == content, (where, path)
                assert oracle.check(path) == [], (where, path)
                assert engine.check(path) == [], (where, path)


def test_a_changed_answer_would_be_seen(oracle: Oracle, tmp_path: Path) -> None:
    # The same program but for one value: answers agree, contents must not.
    (first, *_) = nested(3)
    path, other = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    oracle.apply(path, first.transactions, no_sync=True)
    engine.apply(other, first.transactions, no_sync=True)
    assert engine.dump(other) == oracle.dump(path)
    with engine.shearbolt.open(other) as db, db.update() as tx:
        tx.create_bucket_if_not_exists(b"a").put(b"one more", b"")
    assert engine.dump(other) != oracle.dump(path)
    assert engine.dump(other) == oracle.dump(other)


def test_real_bbolt_reports_a_page_that_we_lost(
    oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fault the foreign check guards against.
    whole = ArrayFreelist.encoded
    monkeypatch.setattr(ArrayFreelist, "encoded", lambda self: whole(self)[:-8])
    (first, *_) = nested(3)
    path = str(tmp_path / "leaky.db")
    engine.apply(path, first.transactions, no_sync=True)
    assert any("unreachable unfreed" in message for message in oracle.check(path))
