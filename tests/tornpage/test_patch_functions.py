"""A subject from three functions is a subject like any other."""

import json
import os
import pathlib
import random

import pytest

from tornpage.command import main
from tornpage.disk import Disk
from tornpage.experiment import Experiment
from tornpage.functions import Seen, _key, subject_from
from tornpage.model import CrashModel
from tornpage.registry import load, spec_of
from tornpage.run import Plan, run

PATH = "/notes"


def add(disk, work, ack, *, sync=True):
    file = disk.open(PATH, create=True)
    disk.fsync_dir(PATH)
    for at, one in enumerate(work):
        file.pwritev([one.encode()], at)
        if sync:
            file.fdatasync()
        ack(one)


def read(disk):
    if not disk.exists(PATH):
        return []
    file = disk.open(PATH)
    return list(file.pread(file.size(), 0).decode().strip("\0"))


def whole(acked, in_flight, seen):
    if tuple(seen) in {acked, acked + in_flight}:
        return None
    return f"{acked} and perhaps {in_flight} are not {seen}"


GOOD = subject_from("GOOD", run=add, recover=read, check=whole, work=["a", "b", "c"])
BAD = subject_from(
    "BAD",
    run=lambda disk, work, ack: add(disk, work, ack, sync=False),
    recover=read,
    check=whole,
    work=["a", "b", "c"],
)


def _run(subject, **more):
    return run(subject, Plan(spec=spec_of(subject), programs=1, **more))


def test_what_syncs_is_consistent_and_what_does_not_is_violated():
    assert _run(GOOD).verdict == "consistent"
    assert _run(BAD).verdict == "violated"


def test_at_every_crash_check_gets_what_was_acknowledged_and_what_came_next():
    asked = set()

    def noting(acked, in_flight, seen):
        asked.add((acked, in_flight))

    subject = subject_from("S", run=add, recover=read, check=noting, work=["a", "b"])
    list(Experiment(subject, ("a", "b"), CrashModel(), cap=100).sweep())
    assert asked == {((), ("a",)), (("a",), ("b",)), (("a", "b"), ())}


def test_plumbing_is_not_blamed_for_what_passes_through_it():
    def sites(**more):
        subject = subject_from(
            "S", run=add, recover=read, check=whole, work=["a"], **more
        )
        experiment = Experiment(subject, ("a",), CrashModel(), cap=10)
        return {one.site.partition(":")[0] for one in experiment.operations}

    assert sites() == {"test_patch_functions.py"}
    assert "test_patch_functions.py" not in sites(plumbing=["test_patch_functions.py"])


def linking(root, *, swallows):
    try:
        os.symlink(f"{root}/a", f"{root}/b")
    except Exception:
        if not swallows:
            raise
    return []


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("where", ["run", "recover"])
def test_a_call_that_is_not_simulated_is_no_broken_promise(where, swallows):
    """It is no kept one either, whatever the store makes of it."""
    subject = subject_from(
        "LINKING",
        run=lambda root, work, ack: (
            pathlib.Path(root, "a").write_bytes(b"1"),
            where == "run" and linking(root, swallows=swallows),
        ),
        recover=lambda root: where == "recover" and linking(root, swallows=swallows),
        check=lambda acked, in_flight, seen: None,
        work=["a"],
        root="/db",
    )
    certificate = _run(subject)
    assert certificate.verdict == "unverifiable"
    assert "os.symlink('/db/a', '/db/b')" in certificate.doubts()[0]
    assert "the simulated disk has no such call" in certificate.doubts()[0]


def test_a_subject_is_found_again_by_the_name_it_was_given(monkeypatch):
    assert spec_of(GOOD) == f"{__name__}:GOOD"
    monkeypatch.setitem(__import__("sys").modules, "three_functions", _module())
    assert load("three_functions:GOOD") is GOOD


def _module():
    class Module:
        """What the registry imports."""

    Module.GOOD = GOOD
    return Module


def test_the_replay_command_of_a_failure_breaks_the_same_promise(
    monkeypatch, capsys, elsewhere
):
    source = """
from tornpage.functions import subject_from

def add(disk, work, ack):
    disk.open("/x", create=True).pwritev([b"1"], 0)
    ack(1)

def read(disk):
    return disk.exists("/x")

def check(acked, in_flight, seen):
    return "lost" if acked and not seen else None

LOST = subject_from("LOST", run=add, recover=read, check=check, work=[1])
"""
    (elsewhere / "lost_subject.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(elsewhere)
    lost = load("lost_subject:LOST")
    assert spec_of(lost) == "lost_subject:LOST"
    story = _run(lost).violations[0].story
    command = next(line for line in story.splitlines() if "--replay" in line)
    assert main(command.split()[1:]) == 1
    assert "lost" in capsys.readouterr().out


def test_a_name_that_no_variable_can_have_is_refused():
    with pytest.raises(ValueError, match="variable"):
        subject_from("a b", run=add, recover=read, check=whole, work=[])


def test_work_that_is_drawn_is_that_of_its_seed_and_travels_as_json():
    subject = subject_from(
        "S", run=add, recover=read, check=whole, work=lambda draw: [draw.random()]
    )
    assert subject.generate(3) == (random.Random(3).random(),) == subject.generate(3)
    assert subject.generate(3) != subject.generate(4)
    program = subject.generate(5)
    encoded = json.loads(json.dumps(subject.encode(program)))
    assert subject.decode(encoded) == program
    with pytest.raises(ValueError, match="list"):
        subject.decode({})


def test_things_seen_are_told_apart_and_equal_things_are_not():
    values = [1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 2}, {1: 3}, None, [[1]]]
    assert len({_key(one) for one in values}) == len(values)
    assert Seen(_key({1: 2, 3: 4}), 0) == Seen(_key({3: 4, 1: 2}), 1)
    assert hash(_key({1: [2, {3}], "x": bytearray(b"4")}))


def test_with_a_root_the_functions_get_a_path_and_real_functions():
    def write(root, work, ack):
        with open(f"{root}/x", "w", encoding="ascii") as file:
            file.writelines(work)

    def look(root):
        with open(f"{root}/x", encoding="ascii") as file:
            return file.read()

    subject = subject_from(
        "S", run=write, recover=look, check=whole, work=["a"], root="/store"
    )
    disk = Disk()
    subject.run(("a",), disk)
    assert disk.exists("/store/x")
    assert subject.recover(disk).value == "a"
