"""Parts of questions: kept while their bytes stay, and for the next program."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.model import CrashModel
from tornpage.platter.parts import Part, Parts
from tornpage.platter.pieces import Changes

if TYPE_CHECKING:
    import pytest

    from tornpage.disk.question import View

BLOCK = 4096
BLOCKS = 50
MODEL = CrashModel()
FILES = {"big": b"".join(bytes([number]) * BLOCK for number in range(BLOCKS))}
asked: list[int] = []


class Block(NamedTuple):
    """The sum of a block."""

    number: int

    def __call__(self, view: View) -> int:
        """Ask."""
        asked.append(self.number)
        return view(zlib.crc32, self.number * BLOCK, BLOCK)


class Range(NamedTuple):
    """The sums of some blocks, halved down to one."""

    first: int
    count: int

    def __call__(self, view: View) -> int:
        """Ask."""
        if self.count == 1:
            return view.part(Block(self.first))  # type: ignore[arg-type]
        half = self.count // 2
        left: int = view.part(Range(self.first, half))  # type: ignore[arg-type]
        right: int = view.part(
            Range(self.first + half, self.count - half)  # type: ignore[arg-type]
        )
        return zlib.crc32(b"%d %d" % (left, right))


def recover(disk: Disk) -> int:
    """The sum of all blocks."""
    file = disk.open("big", read_only=True)
    file.size()
    found: int = file.ask(Range(0, BLOCKS))  # type: ignore[arg-type]
    return found


def program(*places: int) -> Disk:
    """Writes in the middle of blocks, each of them synced."""
    disk = Disk(FILES, MODEL)
    file = disk.open("big")
    for place in places:
        file.pwritev([b"new"], place * BLOCK + 1000)
        file.fdatasync()
    return disk


def swept(disk: Disk, memory: Memory | None = None) -> list[frozenset[object]]:
    """The outcomes at each crash point."""
    asked.clear()
    explorer = Explorer(
        FILES,
        disk.trace,
        recover,
        MODEL,
        beginnings=Beginnings(memory) if memory else None,
    )
    return [
        frozenset(one.outcome for one in closure.outcomes)
        for closure in explorer.sweep()
    ]


def test_a_part_is_asked_again_only_when_its_bytes_change() -> None:
    found = swept(program(7, 30))
    assert len(set(found)) == 5  # old, old or new, new; and again.
    assert sorted(set(asked)) == list(range(BLOCKS))
    assert all(asked.count(number) == 1 for number in set(range(BLOCKS)) - {7, 30})
    assert asked.count(7) > 1
    assert asked.count(30) > 1


def test_without_keeping_the_outcomes_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = swept(program(7, 30, 7))
    few = len(asked)
    monkeypatch.setattr(Parts, "find", lambda *_: None)
    assert swept(program(7, 30, 7)) == kept
    assert len(asked) > 3 * few


def test_what_no_program_has_touched_is_known_to_the_next() -> None:
    memory = Memory(jumps=True)
    swept(program(7), memory)
    found = swept(program(30), memory)
    # 7 was changed by the first program and is as it was for the second.
    assert 7 not in asked
    assert set(asked) == {30}
    assert found == swept(program(30))


def test_what_a_program_wrote_is_not_known_to_the_next() -> None:
    memory = Memory(jumps=True)
    first = swept(program(7, 8), memory)
    second = swept(program(8, 7), memory)
    assert first[0] == second[0]
    assert first[-1] == second[-1]
    assert first[4] != second[4]
    assert second == swept(program(8, 7))


def test_other_files_are_not_taken_for_the_same() -> None:
    parts = Parts()
    parts.begin({"f": b"one"})
    parts.add(1, "what", "answer", {0}, 3, ())
    parts.begin({"f": b"two"})
    assert parts.find(1, "what") is None


def test_when_enough_is_kept_nothing_more_is() -> None:
    parts = Parts(most=2)
    files = {"f": bytes(512)}
    parts.begin(files)
    made = [parts.add(1, number, number, {0}, 3, ()) for number in range(3)]
    assert isinstance(made[1], Part)
    assert made[2] is None
    # And begins anew with the next program.
    parts.begin(files)
    assert parts.find(1, 0) is None


def test_a_shorter_file_breaks_what_reached_behind_its_end() -> None:
    parts = Parts()
    parts.begin({"f": bytes(2048)})
    near = parts.add(1, "near", 1, {0}, 512, ())
    far = parts.add(1, "far", 2, {2}, 1500, ())
    above = parts.add(1, "above", 3, (), 0, {p for p in (near, far) if p})
    changes = Changes(sizes={1: 1000})
    parts.apply(changes)
    assert changes.broken == {far, above}
    assert parts.find(1, "near") is near
    assert parts.find(1, "far") is None
    assert parts.find(1, "above") is None


def test_a_change_of_anything_breaks_everything() -> None:
    parts = Parts()
    files = {"f": bytes(2048)}
    parts.begin(files)
    parts.add(1, "near", 1, {0}, 512, ())
    parts.apply(Changes(everything=True))
    assert parts.find(1, "near") is None
    # What is answered from here on is this program's alone.
    parts.add(1, "later", 1, {0}, 512, ())
    parts.begin(files)
    assert parts.find(1, "later") is None
    assert parts.find(1, "near") is not None
