"""Repeated crashes: what survives one crash survives the next ones."""

import os

import pytest

from boltmodel.contract import Outcome
from boltmodel.lanes import depth
from boltmodel.lanes.depth import Depth, exhaust, live_on, sample, small_program
from boltmodel.mutants import mutant
from boltmodel.programs import Program
from tornpage.choices import Enumerator, Sampler
from tornpage.disk import Disk

PROGRAMS = int(os.environ.get("SHEARBOLT_DEPTH", "1"))


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_two_crashes_are_closed_exhaustively_creation_included(seed):
    found = Depth()
    exhaust(small_program(seed), found)
    assert not found.broken, found.broken[:3]
    assert found.closed
    assert found.second_points > 20 * found.first_points


def test_chains_of_crashes_lose_nothing():
    for seed in range(60):
        assert not sample(seed, small_program(seed % 15)), seed


@pytest.mark.thorough
def test_a_planted_bug_breaks_a_later_life():
    """A file made in life 2, since the first crash lost it, is lost in life 3."""
    found = Depth()
    with mutant("no-dir-sync"):
        exhaust(Program(()), found)
    assert any("life 3" in where for where, _ in found.broken)


def test_a_planted_bug_is_found_by_sampling_too():
    with mutant("no-data-sync"):
        assert any(sample(seed, small_program(seed % 15)) for seed in range(60))


def test_a_second_crash_that_forgets_the_first_promise_is_noticed(monkeypatch):
    """Sabotage: what life 2 showed is not handed on, and life 3 shows less."""

    def lazy(disk):
        outcome, history = live_on(disk)
        disk.trace.data[:] = [one for one in disk.trace if one.op != "sync"]
        return outcome, history

    monkeypatch.setattr(depth, "live_on", lazy)
    # Without syncs the trees are large; what is looked for comes early.
    monkeypatch.setattr(depth, "_CAP", 2)
    found = Depth()
    exhaust(Program(()), found)
    assert not found.closed, "what the cap cut off is not closed"
    assert any(
        "life 3" in where and violation.property[0] in "PA"
        for where, violation in found.broken
    )


def test_what_nobody_read_stays_undecided_over_two_crashes():
    """Two sectors pending at the first crash; life 2 reads one of them."""
    disk = Disk({"/f": b"a" * 1024})
    disk.open("/f").pwritev([b"b" * 1024], 0)
    seen = set()
    chooser = Enumerator()
    while True:
        second = disk.crash(chooser)
        first = second.open("/f").pread(1, 0)
        third = second.crash(chooser)
        file = third.open("/f")
        again, other = file.pread(1, 0), file.pread(1, 512)
        assert again == first, "what was read once is a fact"
        seen.add((first, other))
        if not chooser.advance():
            break
    assert len(seen) == 4


def test_a_life_reports_what_it_saw_and_commits():
    disk = Disk()
    outcome, history = live_on(disk)
    assert isinstance(outcome, Outcome)
    assert not outcome.existed
    assert not outcome.progress
    assert [one.label for one in disk.trace if one.op == "mark"] == [
        "opened", "begin", "acked",
    ]  # fmt: skip
    again, _ = live_on(disk.crash(Sampler(1)))
    assert again.txid == max(history.states)
    assert again.digest == history.states[again.txid].digest
