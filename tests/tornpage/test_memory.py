"""A remembered recovery shows what one that runs would have shown."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from boltmodel.mutants import durability, recovery
from boltmodel.subject import ShearboltSubject
from tornpage.choices import Replay, ReplayError
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.explore.memory import Memory
from tornpage.explore.turns import End
from tornpage.model import CrashModel
from tornpage.platter.pieces import Watch
from tornpage.run.experiment import beginnings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tornpage.disk.file import DiskFile
    from tornpage.explore.beginnings import Beginnings

SUBJECT = ShearboltSubject()
# Of a point with more the first are compared; planted faults show in as many.
SEEDS = int(os.environ.get("SHEARBOLT_SEEDS", "1"))
CAP = 30 * SEEDS
MODELS = [CrashModel.parse(text) for text in ("tear=byte", "xfs", "ext3-j")]


def explorer(
    seed: int,
    model: CrashModel,
    *,
    reuse: bool = True,
    beginnings: Beginnings | None = None,
) -> Explorer:
    """The explorer of a program of the engine."""
    program = SUBJECT.generate(seed)
    files = SUBJECT.prepare(program)
    disk = Disk(files, model)
    SUBJECT.run(program, disk)
    return Explorer(
        files,
        disk.trace,
        SUBJECT.recover,
        model,
        cap=CAP,
        reuse=reuse,
        beginnings=beginnings,
    )


def closures(seed: int, model: CrashModel, *, reuse: bool) -> list[object]:
    """What is known of every crash point of a program, but for the work it took."""
    return [
        (one.point, one.outcomes, one.images_log2, one.closed)
        for one in explorer(seed, model, reuse=reuse).sweep()
    ]


# Recovery of a broken store asks otherwise.
BROKEN = [bug.name for bugs in (durability.MUTANTS, recovery.MUTANTS) for bug in bugs]


@pytest.mark.thorough(rows=6)
@pytest.mark.parametrize("mutant", [None, *BROKEN])
def test_outcomes_and_tapes_are_those_without_memory(mutant: str | None) -> None:
    with SUBJECT.mutant(mutant) if mutant else nullcontext():
        for model in MODELS if mutant is None else MODELS[:1]:
            for seed in (1, 50) if mutant is None else (11,):
                remembered = closures(seed, model, reuse=True)
                assert remembered == closures(seed, model, reuse=False)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_programs_that_begin_alike_share_closures_and_count_as_if_alone(
    model: CrashModel,
) -> None:
    beginnings = beginnings_of(SUBJECT, model)
    assert beginnings is not None
    for seed in (0, 3, 50, 52):
        alone = list(explorer(seed, model).sweep())
        assert list(explorer(seed, model, beginnings=beginnings).sweep()) == alone
    # The last one ran nothing of what making a database takes.
    calls = []
    last = explorer(52, model, beginnings=beginnings)
    last._recover = lambda disk: calls.append(disk) or SUBJECT.recover(disk)  # type: ignore[func-returns-value]
    for closure in last.sweep():
        if closure.point.index < 8:
            assert not calls


def test_a_subject_that_does_not_say_so_shares_nothing() -> None:
    assert beginnings_of(Toy(), MODELS[0]) is None  # type: ignore[arg-type]


class Toy:
    """A subject that says nothing of its recovery."""


def first_byte(disk: Disk) -> Hashable:
    """Recovery of a store that is one byte."""
    return disk.open("f").pread(1, 0)


def recovered(
    memory: Memory, content: bytes, recover: Callable[[Disk], Hashable]
) -> tuple[object, bool]:
    """One execution on a file of this content."""
    disk = Disk({"f": content})
    end, new = memory.end(disk, lambda one: End(recover(one)), Watch())
    return end.outcome, new


def test_another_answer_of_the_disk_runs_recovery() -> None:
    memory = Memory(jumps=False)
    shown = [recovered(memory, one, first_byte) for one in (b"a", b"b", b"a")]
    assert shown == [(b"a", True), (b"b", True), (b"a", False)]


def test_recovery_that_asks_otherwise_after_the_same_answers_is_refused() -> None:
    memory = Memory(jumps=False)
    recovered(memory, b"a", first_byte)
    with pytest.raises(ReplayError, match="after the same"):
        recovered(memory, b"b", lambda disk: disk.exists("g"))


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda disk, _: disk.exists("/db/in/h"), "look up /db/in/h"),
        (lambda _, file: file.pread(1, 0), "read /db/in/f bytes 0..1"),
        (lambda _, file: file.ftruncate(0), "truncate /db/in/f to 0 bytes"),
    ],
)
def test_what_recovery_asks_otherwise_is_told_with_paths(
    ask: Callable[[Disk, DiskFile], object], told: str
) -> None:
    """A directory was its number, and a file its inode."""
    memory = Memory(jumps=False)

    def recover(content: bytes, ask: Callable[[Disk, DiskFile], object]) -> None:
        def whole(disk: Disk) -> End:
            ask(disk, disk.open("/db/in/f"))
            return End(disk.open("/db/g").pread(1, 0))

        memory.end(Disk({"/db/in/f": b"a", "/db/g": content}), whole, Watch())

    recover(b"1", ask)
    with pytest.raises(ReplayError, match=f"{told} and now to look up /db/"):
        recover(b"2", lambda disk, _: disk.exists("/db/in/z"))


def test_recovery_that_ends_early_after_the_same_answers_is_refused() -> None:
    memory = Memory(jumps=False)
    recovered(memory, b"a", first_byte)
    with pytest.raises(ReplayError, match="recovery ended"):
        recovered(memory, b"b", lambda _: "nothing")


def test_a_crash_inside_recovery_is_not_remembered() -> None:
    memory = Memory(jumps=False)

    def crashing(disk: Disk) -> Hashable:
        return first_byte(disk.crash(Replay(())))

    for _ in range(2):
        assert recovered(memory, b"a", crashing) == (b"a", True)


def test_forgetting_changes_nothing() -> None:
    memory = Memory(jumps=False, bound=1)
    shown = [recovered(memory, one, first_byte)[0] for one in (b"a", b"b", b"a")]
    assert shown == [b"a", b"b", b"a"]


def test_a_full_memory_is_forgotten_between_programs_and_counts_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tornpage.explore.beginnings._FULL", 1)
    beginnings = beginnings_of(SUBJECT, MODELS[0])
    assert beginnings is not None
    for seed in (0, 3, 50):
        alone = list(explorer(seed, MODELS[0]).sweep())
        assert list(explorer(seed, MODELS[0], beginnings=beginnings).sweep()) == alone


def test_two_sweeps_at_once_on_one_memory_are_refused() -> None:
    beginnings = beginnings_of(SUBJECT, MODELS[0])
    first = explorer(60, MODELS[0], beginnings=beginnings).sweep()
    for _ in range(40):
        next(first)
    list(explorer(61, MODELS[0], beginnings=beginnings).sweep())
    with pytest.raises(RuntimeError, match="one after the other"):
        list(first)


def test_what_one_program_left_alone_the_next_may_have_changed() -> None:
    # Both write the same places at the same time, but other bytes.
    model = MODELS[0]
    beginnings = beginnings_of(SUBJECT, model)
    alone = {
        seed: [
            (one.point, one.outcomes, one.closed)
            for one in explorer(seed, model).sweep()
        ]
        for seed in range(60, 66)
    }
    for seed in (*alone, *alone):
        shared = [
            (one.point, one.outcomes, one.closed)
            for one in explorer(seed, model, beginnings=beginnings).sweep()
        ]
        assert shared == alone[seed], seed
