"""Several things that one sync makes durable are one promise."""

import itertools

import pytest

from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.run import Plan, run

GROUPS = [["a", "b"], ["c"], ["d", "e", "f"]]
LINE = 8


def line(text):
    return text.ljust(LINE - 1).encode() + b"\n"


def commit_groups(disk, work, ack, *, fault=""):
    """A line for each text of a group, then one sync, then one promise."""
    file = disk.open("log", create=True)
    disk.fsync_dir("log")
    end = 0
    for group in work:
        if fault == "promised before the sync":
            ack(*group)
        for number, text in enumerate(group):
            if fault == "synced before the last" and number == len(group) - 1:
                file.fsync()
            file.pwritev([line(text)], end)
            end += LINE
            if fault == "promised one by one":
                ack(text)
        if fault != "synced before the last":
            file.fsync()
        if not fault.startswith("promised"):
            ack(*group)


def whole_lines(disk):
    if not disk.exists("log"):
        return []
    file = disk.open("log")
    data = file.pread(file.size(), 0)
    found = [data[at : at + LINE] for at in range(0, len(data), LINE)]
    whole = itertools.takewhile(lambda one: one[-1:] == b"\n", found)
    return [one.decode().strip() for one in whole]


def any_beginning(acked, in_flight, seen):
    """Of a group in flight the first texts may be there."""
    if tuple(seen[: len(acked)]) != acked:
        return "an acknowledged text is lost"
    if tuple(seen) != (acked + in_flight)[: len(seen)]:
        return f"{seen} is no beginning of {acked + in_flight}"
    return None


def all_or_nothing(acked, in_flight, seen):
    if tuple(seen) not in {acked, acked + in_flight}:
        return "a group is there in part"
    return None


def grouping(check, fault="", recover=whole_lines, commit=commit_groups):
    return subject_from(
        "GROUPS",
        run=lambda disk, work, ack: commit(disk, work, ack, fault=fault),
        recover=recover,
        check=check,
        work=GROUPS,
    )


def verdict(subject):
    model = CrashModel.parse("tear=sector")
    return run(subject, Plan(spec="GROUPS", programs=1, model=model)).verdict


def test_a_right_log_that_commits_groups_is_consistent():
    assert verdict(grouping(any_beginning)) == "consistent"


@pytest.mark.parametrize(
    "fault",
    ["promised before the sync", "synced before the last", "promised one by one"],
)
def test_a_wrong_one_is_violated(fault):
    assert verdict(grouping(any_beginning, fault)) == "violated"


def commit_sealed(disk, work, ack, *, fault=""):
    """The texts of a group, and behind them how many there are now."""
    file = disk.open("log", create=True)
    disk.fsync_dir("log")
    end, total = 1, 0
    for group in work:
        for text in group:
            file.pwritev([line(text)], end)
            end += LINE
        if not fault:
            file.fsync()
        total += len(group)
        file.pwritev([bytes([total])], 0)
        file.fsync()
        ack(*group)


def sealed_lines(disk):
    if not disk.exists("log"):
        return []
    file = disk.open("log")
    total = (file.pread(1, 0) or b"\0")[0]
    data = file.pread(total * LINE, 1)
    return [data[at : at + LINE].decode().strip() for at in range(0, len(data), LINE)]


def test_all_or_nothing_is_for_check_to_say():
    """The log above keeps less than this one, and one check asks for the more."""
    assert verdict(grouping(all_or_nothing)) == "violated"
    sealed = grouping(all_or_nothing, recover=sealed_lines, commit=commit_sealed)
    assert verdict(sealed) == "consistent"
    one_sync = grouping(all_or_nothing, "one sync", sealed_lines, commit_sealed)
    model = CrashModel.parse("tear=byte")
    plan = Plan(spec="GROUPS", programs=1, model=model)
    assert run(one_sync, plan).verdict == "violated"


def asked_of(subject):
    """(acked, in flight) at every number of marks, and the marks."""
    program = subject.generate(0)
    disk = Disk()
    history = subject.run(program, disk)
    marks = [one for one in disk.trace if one.op == "mark"]
    asked = []
    subject._check = lambda acked, in_flight, seen: asked.append((acked, in_flight))
    outcome = subject.recover(disk)
    for done in range(len(marks) + 1):
        subject.judge(history, marks[:done], outcome)
    return asked, marks


def test_no_part_of_a_group_is_acknowledged_before_the_rest():
    asked, marks = asked_of(grouping(any_beginning))
    assert asked == [
        ((), ("a", "b")),
        (("a", "b"), ("c",)),
        (("a", "b", "c"), ("d", "e", "f")),
        (("a", "b", "c", "d", "e", "f"), ()),
    ]
    # A story says how many texts have been promised.
    assert [one["txid"] for one in marks] == [2, 3, 6]


def test_what_check_is_asked_at_every_crash_is_one_of_these():
    asked = set()

    def noting(acked, in_flight, seen):
        asked.add((len(acked), len(in_flight)))
        return any_beginning(acked, in_flight, seen)

    assert verdict(grouping(noting)) == "consistent"
    assert asked == {(0, 2), (2, 1), (3, 3), (6, 0)}


def test_nothing_acknowledged_is_no_promise():
    def commit(disk, work, ack, *, fault):
        ack()
        commit_groups(disk, [[], *work, []], ack)

    asked, _ = asked_of(grouping(any_beginning, commit=commit))
    assert asked[0] == ((), ("a", "b"))
    assert asked[-1][1] == ()
    assert len(asked) == 4


def test_a_group_is_what_it_was_when_it_was_acknowledged():
    def commit(disk, work, ack, *, fault):
        disk.open("log", create=True)
        one, two = [1], [2]
        ack(one, two)
        one.append(3)
        ack(one)

    asked, _ = asked_of(grouping(any_beginning, commit=commit))
    assert asked == [
        ((), ([1], [2])),
        (([1], [2]), ([1, 3],)),
        (([1], [2], [1, 3]), ()),
    ]


def test_a_group_that_is_one_value_is_one_thing():
    def commit(disk, work, ack, *, fault):
        disk.open("log", create=True)
        ack(("a", "b"))

    asked, _ = asked_of(grouping(any_beginning, commit=commit))
    assert asked == [((), (("a", "b"),)), ((("a", "b"),), ())]


@pytest.mark.parametrize("check", [any_beginning, all_or_nothing])
def test_marks_of_the_store_are_no_promises_whatever_they_are_called(check):
    """They were counted as calls of `ack`, by their label."""

    def commit(disk, work, ack, *, fault):
        disk.mark("acknowledged", txid=1)
        mine = commit_groups if check is any_beginning else commit_sealed

        def noted(*group):
            disk.mark("acknowledged", txid=99)
            ack(*group)
            disk.mark("acknowledged")

        mine(disk, work, noted)

    recover = whole_lines if check is any_beginning else sealed_lines
    assert verdict(grouping(check, recover=recover, commit=commit)) == "consistent"
    asked, marks = asked_of(grouping(check, recover=recover, commit=commit))
    assert [len(acked) for acked, _ in asked] == [0, 0, 0, 2, 2, 2, 3, 3, 3, 6, 6]
    assert len(marks) == 10
