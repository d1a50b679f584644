"""Stories: complete, 80 columns wide, and the same when replayed."""

import contextlib
import dataclasses
import errno
import functools
import json
import os
import re

import pytest
from toy_store import MUTANTS, Toy

from tornpage.certificate import Failure
from tornpage.disk import Disk
from tornpage.faults import Script, under_script
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.run import Plan, run
from tornpage.run.report import Gone, replay
from tornpage.story import reason as explain
from tornpage.story import timeline

PLAN = Plan(spec="toy_store:Toy", programs=6)


@functools.cache
def violation(mutant):
    """What is found with a bug planted; the tests only look at it."""
    return found_anew(mutant)


def found_anew(mutant):
    return run(Toy(), dataclasses.replace(PLAN, mutant=mutant)).violations[0]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_story_fits_eighty_columns_but_for_the_replay_command(mutant):
    found = violation(mutant)
    lines = found.story.splitlines()
    assert lines.pop() == found.replay
    assert max(map(len, lines)) <= 80
    assert found.story.isascii()
    assert not any(line != line.rstrip() for line in lines)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_replaying_tells_the_same_story_byte_for_byte(mutant):
    found = violation(mutant)
    token = found.replay.split()[-1]
    assert replay(Toy(), Failure.from_token(token)) == found.story


def test_the_story_of_a_torn_commit_has_every_chapter():
    found = violation("no-checksum")
    story = found.story
    order = [
        "BROKEN: ",
        "Program (",
        "Disk",
        ">>>>  crash",
        "An honest disk everywhere except:",
        "lost is operation",
        "Recovery: what was promised, what was found",
        "Recovery saw",
        "Replay",
        "tornpage run toy_store:Toy --replay tp1.",
    ]
    places = [story.index(part) for part in order]
    assert places == sorted(places)
    assert re.search(r"lost is operation \d+ \(write, toy_store\.py:\d+\)", story)
    assert "slot" in story


def test_a_lost_entry_is_told_as_such():
    story = violation("no-dir-sync").story
    assert "the directory entry of toy.db is as it was" in story
    assert re.search(r"lost is operation 1 \(create, toy_store\.py:\d+\)", story)


def test_a_promise_broken_without_a_crash_is_told_without_one():
    story = violation("forgetful").story
    assert "No crash and no fault" in story
    assert ">>>>" not in story


def test_code_that_raises_is_told_with_the_line_that_raised():
    assert re.search(
        r"raised KeyError at toy_store\.py:\d+", violation("run-raises").story
    )
    assert re.search(
        r"raised RuntimeError at\s+toy_store\.py:\d+", violation("raises").story
    )


def test_the_facts_stand_side_by_side_by_field_name():
    lines = violation("no-sync").story.splitlines()
    head = next(
        line for line in lines if line.split() == ["field", "promised", "found"]
    )
    row = lines[lines.index(head) + 1]
    assert row.split()[0] in {"txid", "store", "content"}
    assert row.index(row.split()[1]) == head.index("promised")


def test_the_shrunk_tape_has_only_dishonest_choices_that_are_needed():
    found = violation("no-checksum")
    _, tape = found.failure.at.split(":")
    assert sum(pick != "0" for pick in tape.split(".")) == 1


def test_a_failure_that_was_repaired_is_gone():
    found = violation("no-sync")
    repaired = dataclasses.replace(found.failure, mutant=None)
    with pytest.raises(Gone):
        replay(Toy(), repaired)


def test_a_live_failure_that_was_repaired_is_gone():
    repaired = dataclasses.replace(violation("forgetful").failure, mutant=None)
    with pytest.raises(Gone):
        replay(Toy(), repaired)


def test_a_tape_that_fits_no_more_is_gone_and_no_traceback():
    failure = violation("no-checksum").failure
    failure = dataclasses.replace(failure, at=failure.at.replace(":", ":99."))
    with pytest.raises(Gone):
        replay(Toy(), failure)


def test_a_crash_point_that_is_no_more_is_gone_and_no_traceback():
    failure = dataclasses.replace(violation("no-checksum").failure, at="9999:0.1")
    with pytest.raises(Gone):
        replay(Toy(), failure)


@pytest.mark.parametrize(
    "wrong",
    [
        {"program": "commit"},
        {"model": "tear=everything"},
        {"at": "nowhere"},
        {"mutant": "unheard-of"},
    ],
)
def test_a_failure_that_means_nothing_is_a_value_error(wrong):
    failure = dataclasses.replace(violation("no-sync").failure, **wrong)
    with pytest.raises(ValueError, match=r".+"):
        replay(Toy(), failure)


def test_a_long_token_is_left_in_its_file(elsewhere, monkeypatch):
    monkeypatch.setattr("tornpage.run.report._LONGEST_TOKEN", 20)
    found = found_anew("no-sync")
    path = found.replay.split()[-1]
    assert path == f".tornpage/failures/{found.failure.identity()}.json"
    assert replay(Toy(), found.failure) == found.story


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("/a/short/path 0..41", "/a/short/path 0..41"),
        (f"/db/{'x' * 60}/y.lock 0..41", f"...{'x' * 34}/y.lock 0..41"),
        ("/short/enough/to/stay to " + "/z" * 40, None),
        ("no path here " * 9, None),
    ],
)
def test_of_a_path_that_is_too_long_the_end_is_shown(line, shown):
    found = timeline._fit(line, 50)
    assert len(found) <= 50
    assert shown is None or found == shown
    if line.startswith("/short"):
        # The other one is cut, and what needs no cut has none.
        assert re.fullmatch(r"/short/enough/to/stay to \.\.\.[z/]+", found)


def story_of(add, model, check=lambda acked, _, __: "lost" if acked else None):
    """The story of a store that breaks its promise as soon as it has made one."""
    subject = subject_from(
        "told",
        run=add,
        recover=lambda disk: disk.exists("x") and disk.open("x").pread(2, 0),
        check=check,
        work=[1],
    )
    plan = Plan(spec="x", programs=1, model=CrashModel.parse(model), shrink=False)
    return run(subject, plan).violations[0].story


def test_what_a_failed_sync_left_is_not_called_durable():
    def add(disk, work, ack):
        file = disk.open("x", create=True)
        file.pwritev([b"11"], 0)
        file.fsync()
        disk.fsync_dir("x")
        file.pwritev([b"22"], 0)
        disk.fail_sync = lambda *_: errno.EIO
        with contextlib.suppress(OSError):
            file.fsync()
        disk.fail_sync = None
        file.fsync()
        ack(1)

    story = story_of(add, "tear=page")
    assert "not yet durable: operation 5" in story
    assert "fsync     x  FAILED" in story


@pytest.mark.parametrize(
    ("model", "pending"),
    [
        ("names=dirsync,entries=free", "operations 1, 4"),
        ("names=fsync,entries=free", "operation 4"),
        ("names=dirsync,entries=prefix", "operations 1, 4"),
    ],
)
def test_what_is_not_durable_yet_is_what_the_model_says(model, pending):
    def add(disk, work, ack):
        file = disk.open("x", create=True)
        file.pwritev([b"11"], 0)
        file.fsync()
        file.pwritev([b"33"], 0)
        ack(1)

    assert f"not yet durable: {pending}" in story_of(add, f"tear=page,{model}")


def test_a_rename_of_which_two_changes_are_lost_is_told_once():
    def add(disk, work, ack):
        file = disk.open("y", create=True)
        disk.fsync_dir("y")
        file.fsync()
        disk.rename("y", "x")
        ack(1)

    def check(acked, in_flight, seen):
        return "lost" if acked and seen is False else None

    story = story_of(add, "tear=page,rename=synced", check)
    assert story.count("the directory entry of x is as it was") == 1


def test_an_injected_fault_stands_where_it_happened():
    def add(disk, work, ack):
        faulty = under_script(disk, Script.parse("pwrite#1=short:1"))
        faulty.open("x", create=True).pwritev([b"22"], 0)
        ack(1)

    assert "mark      fault met=pwrite script=pwrite#1=short:1" in story_of(
        add, "tear=page"
    )


@pytest.mark.parametrize(("opened", "shown"), [("/db", "/db"), ("/", "/")])
def test_the_sync_of_an_open_directory_is_told_with_the_directorys_name(opened, shown):
    disk = Disk()
    disk.assume_dir("/db")
    disk.open_dir(opened).fsync()
    disk.fsync_dir("/db/x")
    told = [timeline.line_of(Toy(), one) for one in disk.trace]
    assert told == [f"of {shown}", "of /db/x"]
    named = [explain._namer(None)(one) for one in disk.trace]
    assert named[0].startswith("the fsync dir at test_story.py:")
    assert named[0].endswith(f" ({shown})")


def _json_in_place(recovered, said=None):
    def save(root, work, ack):
        with open(f"{root}/x", "w", encoding="ascii") as file:
            json.dump(work, file)
        ack(*work)

    subject = subject_from(
        "S", run=save, recover=recovered, check=said, work=["1"], root="/db"
    )
    return run(subject, Plan(spec="S", programs=1, shrink=False)).violations[0].story


def test_what_the_standard_library_raises_is_told_with_the_line_that_called_it():
    def load(root):
        if not os.path.exists(f"{root}/x"):
            return []
        with open(f"{root}/x", encoding="ascii") as file:
            return json.load(file)

    story = _json_in_place(load, lambda acked, in_flight, seen: None)
    line = load.__code__.co_firstlineno + 4
    assert re.search(
        rf"JSONDecodeError at decoder\.py:\d+, called\s+from\s+test_story\.py:{line}\.",
        story,
    )
    assert re.search(rf"called from +- +test_story\.py:{line}\n", story)


def test_what_a_store_raises_itself_is_told_with_its_line_alone():
    def load(root):
        raise ValueError("no")

    story = _json_in_place(load, lambda acked, in_flight, seen: None)
    assert "called from" not in story


@pytest.mark.parametrize("long", ["said", "raised"])
def test_however_long_a_message_is_the_story_is_not(long):
    text = "a word " * 5_000

    def load(root):
        if long == "raised" and os.path.exists(f"{root}/x"):
            raise ValueError(text)

    said = text if long == "said" else None
    story = _json_in_place(load, lambda acked, in_flight, seen: said)
    assert "more lines ..." in story
    assert len(story.splitlines()) < 200
