"""A remembered recovery shows what one that runs would have shown."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from boltmodel.mutants import MUTANTS
from boltmodel.subject import ShearboltSubject
from tornpage.choices import Replay, ReplayError
from tornpage.disk import Disk
from tornpage.experiment import Experiment
from tornpage.memory import Memory
from tornpage.model import CrashModel

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

SUBJECT = ShearboltSubject()
MODEL = CrashModel.parse("tear=sector")


def everything(
    seeds: Sequence[int], mutant: str | None, memory: Memory | None
) -> list[object]:
    """All closures and findings of some programs, and the faults of each."""
    seen: list[object] = []
    with SUBJECT.mutant(mutant) if mutant else nullcontext():
        for seed in seeds:
            one = Experiment(
                SUBJECT, SUBJECT.generate(seed), MODEL, cap=300, memory=memory
            )
            seen += [*one.sweep(seen.append, stop=False), one.take_faults()]
    return seen


@pytest.mark.parametrize("mutant", [None, *sorted(MUTANTS)[::6]])
def test_outcomes_tapes_and_findings_are_those_without_memory(
    mutant: str | None,
) -> None:
    memory = Memory()
    seeds = (0, 1, 2)
    assert everything(seeds, mutant, memory) == everything(seeds, mutant, None)
    assert memory.ran


def test_programs_that_begin_alike_share_executions() -> None:
    memory = Memory()
    everything((0,), None, memory)
    ran = memory.ran
    everything((0,), None, memory)
    assert memory.ran == ran
    assert memory.known >= ran


def test_forgetting_changes_nothing() -> None:
    memory = Memory(bound=20_000)
    assert everything((0, 1), None, memory) == everything((0, 1), None, None)


def _first_byte(disk: Disk) -> Hashable:
    return disk.open("f").pread(1, 0)


def test_another_answer_of_the_disk_runs_recovery() -> None:
    memory = Memory()
    shown = [memory.outcome(Disk({"f": b}), _first_byte) for b in (b"a", b"b", b"a")]
    assert shown == [b"a", b"b", b"a"]
    assert (memory.ran, memory.known) == (2, 1)


def test_recovery_that_asks_otherwise_after_the_same_answers_is_refused() -> None:
    memory = Memory()
    memory.outcome(Disk({"f": b"a"}), _first_byte)
    with pytest.raises(ReplayError, match="after the same"):
        memory.outcome(Disk({"f": b"b"}), lambda disk: disk.exists("g"))


def test_recovery_that_ends_early_after_the_same_answers_is_refused() -> None:
    memory = Memory()
    memory.outcome(Disk({"f": b"a"}), _first_byte)
    with pytest.raises(ReplayError, match="recovery ended"):
        memory.outcome(Disk({"f": b"b"}), lambda _: "nothing")


def test_a_crash_inside_recovery_is_not_remembered() -> None:
    memory = Memory()

    def crashing(disk: Disk) -> Hashable:
        return _first_byte(disk.crash(Replay(())))

    for _ in range(2):
        assert memory.outcome(Disk({"f": b"a"}), crashing) == b"a"
    assert (memory.ran, memory.known) == (2, 0)
