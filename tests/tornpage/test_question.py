"""A question's answer is what the explorer branches on, and nothing else."""

from __future__ import annotations

import pytest

from tornpage.choices import Enumerator
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel

MODEL = CrashModel.parse("tear=byte")


def torn() -> tuple[dict[str, bytes], Disk]:
    """A sector of 64 equal bytes, being written over with 64 others."""
    files = {"f": b"\x01" * 512}
    disk = Disk(files, MODEL)
    disk.open("f").pwritev([b"\x02" * 64], 0)
    return files, disk


def leaves(recover: object) -> list[tuple[object, tuple[int, ...]]]:
    """Every execution after a crash while the write is going on."""
    image = torn()[1].image()
    found = []
    chooser = Enumerator()
    while True:
        crashed = Disk.on_image(image, chooser)
        found.append((recover(crashed), chooser.tape))  # type: ignore[operator]
        if not chooser.advance():
            return found


def whole(data: bytes) -> int:
    """Which version these bytes are, 0 for none."""
    return data[0] if len(set(data)) == 1 else 0


def reciprocal(data: bytes) -> int:
    """Of one of these bytes, which may not have any."""
    return 1 // (data[9] - 1)


def test_contents_with_one_answer_are_one_execution() -> None:
    read = leaves(lambda disk: whole(disk.open("f").pread(64, 0)))
    asked = leaves(lambda disk: disk.open("f").ask(lambda view: view(whole, 0, 64)))
    assert len(read) == 128
    assert sorted(outcome for outcome, _ in asked) == [0, 1, 2]
    assert {outcome for outcome, _ in read} == {outcome for outcome, _ in asked}


def test_a_question_is_run_once_for_what_a_view_makes_of_the_contents() -> None:
    runs = []

    def question(view):  # type: ignore[no-untyped-def]
        runs.append(1)
        return view(whole, 0, 64)

    _, disk = torn()
    Disk.on_image(disk.image(), Enumerator()).open("f").ask(question)
    # New, old, and torn in one of 126 ways.
    assert len(runs) == 3


def test_what_comes_to_one_answer_in_the_end_is_one_execution() -> None:
    def question(view):  # type: ignore[no-untyped-def]
        first = view(whole, 0, 64)
        # The second half says the same, where it matters.
        return first == 2 and view(whole, 32, 32) == 2

    asked = leaves(lambda disk: disk.open("f").ask(question))
    assert sorted(asked) == [(False, (1,)), (True, (0,))]


def test_the_bytes_are_open_still_among_those_with_the_answer() -> None:
    def recover(disk: Disk) -> object:
        file = disk.open("f")
        return file.ask(lambda view: view(whole, 0, 64)), file.pread(64, 0)

    read = {content for content, _ in leaves(lambda disk: disk.open("f").pread(64, 0))}
    both = [outcome for outcome, _ in leaves(recover)]
    assert all(answer == whole(content) for answer, content in both)  # type: ignore[misc]
    assert {content for _, content in both} == read  # type: ignore[misc]


def test_a_question_that_raises_on_some_contents_raises_on_these_only() -> None:
    def recover(disk: Disk) -> object:
        try:
            return disk.open("f").ask(
                lambda view: view(lambda b: 1 // (b[9] - 1), 0, 64)
            )
        except ZeroDivisionError:
            return "raised"

    files, disk = torn()
    explorer = Explorer(files, disk.trace, recover, MODEL)
    for closure in explorer.sweep():
        assert {one.outcome for one in closure.outcomes} == explorer.eager(
            closure.point
        )
    assert {one.outcome for one in closure.outcomes} == {"raised", 1}


def test_an_answer_that_cannot_be_compared_is_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match="return a tuple"):
        Disk({"f": b"ab"}).open("f").ask(lambda view: [view(len, 0, 2)])


def test_the_faults_of_all_contents_with_an_answer_are_counted() -> None:
    from tornpage.story.wording import fault_kinds

    files, disk = torn()
    kinds: list[str] = []
    explorer = Explorer(
        files,
        disk.trace,
        lambda disk: disk.open("f").ask(lambda view: view(whole, 0, 64)),
        MODEL,
        notice=lambda choices: kinds.extend(
            kind for choice in choices for kind in fault_kinds(choice)
        ),
    )
    assert all(closure.closed for closure in explorer.sweep())
    assert kinds.count("dropped") == 1
    assert kinds.count("torn") == 126
