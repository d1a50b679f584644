"""Crashes during recovery: brute force over all rows of crashes, and small stores.

Brute force builds every image of the first crash, runs recovery on each, builds every
image of a crash after each of its operations, and so on.
"""

import contextlib
import functools
import os
import re
import struct
import zlib
from unittest import mock

import pytest
from explorer_cases import (
    DRAWN,
    MODELS,
    add_images,
    device_of,
    disk_of,
    random_asking,
    random_recovery,
    random_repair,
    random_run,
)

from tornpage.certificate.as_text import render
from tornpage.certificate.record import MergeError, merge
from tornpage.choices import ReplayError
from tornpage.command import main
from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer, recoveries
from tornpage.explore import explorer as explorer_module
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.explorer import parse_schedule
from tornpage.explore.memory import Memory
from tornpage.explore.turns import End
from tornpage.extras import model_for
from tornpage.functions import subject_from
from tornpage.model import CrashModel, ModelError
from tornpage.platter.brute import Device, TooManyImages, arrives_in_pieces, platters
from tornpage.reports.scene import scene_of
from tornpage.run import Experiment, Plan, relapse, run
from tornpage.run.plan_as_json import plan_from_json, plan_to_json
from tornpage.run.report import replay
from tornpage.subject import SubjectError

# Images of the first crash and of later ones, and executions of the explorer. Cases of
# more are not compared.
_FIRST, _LATER, _EXECUTIONS = 40, 200, 40


def every_row(explorer, point, recover):
    """The outcomes of all rows of crashes of which this is the first."""
    model, ended = explorer.model, point.index
    operations = explorer._operations
    if point.inside and arrives_in_pieces(operations[ended]):
        ended += 1
    level = {}
    done = operations[:ended]
    start = Device(dict(explorer._files))
    add_images(level, platters(start, model, done), 0, _FIRST)
    outcomes = set()
    for crash in range(1, model.crashes + 1):
        before, level = level, {}
        for key, lied in before.items():
            disk = disk_of(key, model)
            outcomes.add(recover(disk))
            done = disk.trace.operations()
            for ended in range(1, len(done) + 1) if crash < model.crashes else ():
                found = platters(device_of(key), model, done[:ended], model.lies - lied)
                add_images(level, found, lied, _LATER)
        if len(level) > _LATER:
            raise TooManyImages("too many images for a small case")
    return outcomes


RECOVERIES = (random_repair, random_recovery, random_asking)


def case(seed, models, crashes, failing=0.0):
    """An explorer of a random program, and its recovery."""
    model = models[seed % len(models)]
    model = CrashModel.parse(f"{model},crashes={crashes}")
    files, trace = random_run(seed, model, 6, failing=failing)
    recover = RECOVERIES[seed // len(models) % 3](seed)
    return Explorer(files, trace, recover, model, cap=_EXECUTIONS), recover


def compared(seeds, models, crashes, failing=0.0):
    """How many crash points were compared; fails where two differ."""
    count = 0
    for seed in seeds:
        explorer, recover = case(seed, models, crashes, failing)
        for closure in explorer.sweep():
            if not closure.closed:
                break
            with contextlib.suppress(TooManyImages):
                every = every_row(explorer, closure.point, recover)
                found = {one.outcome for one in closure.outcomes}
                assert found == every, f"seed {seed}, {explorer.model}, {closure.point}"
                count += len(every) > 1
    return count


# Garbage makes too many images for brute force, and takes long to find that out.
SMALL = [one for one in DRAWN if not one.spoils]


@pytest.mark.thorough(rows=2)
@pytest.mark.seeds(1)
@pytest.mark.parametrize(
    ("models", "crashes", "cases"), [(MODELS, 2, 6), (SMALL, 2, 6), (MODELS, 3, 6)]
)
def test_recoveries_that_are_crashed_have_the_outcomes_of_brute_force(
    models, crashes, cases, seed
):
    seeds = range(seed * cases, (seed + 1) * cases)
    # Some seeds have hardly a point that is small enough.
    assert compared(seeds, models, crashes, 0.1) > (0 if seed else 20)


def spares_the_last_operation(patch):
    right = recoveries.ended

    def ended(recover, crashes, disk):
        end = right(recover, crashes, disk)
        return End(end.outcome, end.operations[:-1])

    patch.setattr(explorer_module, "ended", ended)


def forgets_what_recovery_decided(patch):
    def image(life):
        return life._image.reborn({}, {}, life._image.lied)

    patch.setattr(Life, "image", image)


def forgets_what_a_remembered_recovery_did(patch):
    right = Memory.end

    def end(self, disk, recover, watch):
        found, new = right(self, disk, recover, watch)
        return (found if len(disk.trace) else End(found.outcome)), new

    patch.setattr(Memory, "end", end)


def never_crashes_the_second_recovery(patch):
    right = recoveries.recover_in_a_row

    def recover(disk, chooser, recover, crashes):
        return right(disk, chooser, recover, min(crashes, 2))

    patch.setattr(explorer_module, "recover_in_a_row", recover)


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize(
    ("plant", "crashes"),
    [
        (spares_the_last_operation, 2),
        (forgets_what_recovery_decided, 2),
        (forgets_what_a_remembered_recovery_did, 2),
        (never_crashes_the_second_recovery, 3),
    ],
)
def test_brute_force_notices_an_explorer_that(plant, crashes, monkeypatch):
    plant(monkeypatch)
    with pytest.raises((AssertionError, ReplayError)):
        compared(range(12), MODELS, crashes, 0.1)


def reuses_what_crashed_recoveries_led_to(patch):
    right = Explorer._search

    def search(self, *given):
        closure, alone = right(self, *given)
        return closure, alone and not closure.closed

    patch.setattr(Explorer, "_search", search)


def two_steps(disk):
    """A recovery that looks at `b` only where an earlier one has been at `a`."""
    first, second = disk.open("a"), disk.open("b")
    if first.pread(1, 0) == b"\0":
        first.pwritev([b"\7"], 0)
        return "begun"
    return second.pread(1, 0)


def seen_at_the_end():
    """What the last crash point may show after two writes to `b`."""
    files, model = {"a": b"\0", "b": b"\0"}, CrashModel(crashes=2)
    disk = Disk(files, model)
    disk.open("b").pwritev([b"\1"], 0)
    disk.open("b").pwritev([b"\2"], 0)
    *_, last = Explorer(files, disk.trace, two_steps, model).sweep()
    return {one.outcome for one in last.outcomes}


def test_what_only_a_second_recovery_reads_is_not_reused(monkeypatch):
    assert seen_at_the_end() == {"begun", b"\0", b"\1", b"\2"}
    reuses_what_crashed_recoveries_led_to(monkeypatch)
    assert seen_at_the_end() != {"begun", b"\0", b"\1", b"\2"}


def test_beginnings_that_jump_are_refused():
    """A recovery that is jumped over leaves no disk that could be crashed."""
    model = CrashModel(crashes=2)
    with pytest.raises(ValueError, match="Memory"):
        Explorer({}, [], len, model, beginnings=Beginnings(Memory(jumps=True)))


def test_a_number_of_crashes_is_read_and_written():
    model = CrashModel.parse("xfs,crashes=3")
    assert model.crashes == 3
    assert CrashModel.parse(str(model)) == model
    assert "crashes" not in str(CrashModel())


@pytest.mark.parametrize("wrong", ["0", "10", "two", "-1", ""])
def test_another_number_of_crashes_is_refused(wrong):
    with pytest.raises(ModelError, match="crashes is a number from 1 to 9"):
        CrashModel.parse(f"crashes={wrong}")


# -- a table and a log: recovery brings what is in the log into the table --------------

WRONG = {
    "empties the log first": "recovery empties the log before the table has it",
    "syncs no table": "recovery empties the log while the table is not durable",
    "brings it twice": "recovery brings what an interrupted one has brought",
}


class Table:
    """Texts, each put into a log, and by opening from there into the table."""

    wrong = ""

    def __init__(self, disk):
        new = not (disk.exists("log") and disk.exists("table"))
        self.log = disk.open("log", create=True)
        self.table = disk.open("table", create=True)
        if new:
            disk.fsync_dir("log")
        texts = self.logged()
        if texts:
            self.bring(texts)

    def logged(self):
        texts, at = [], 0
        while (text := self.record(at)) is not None:
            texts.append(text)
            at += 6 + len(text)
        return texts

    def record(self, at):
        head = self.log.pread(6, at)
        if len(head) < 6:
            return None
        length, check = struct.unpack("<HI", head)
        text = self.log.pread(length, at + 6)
        right = length and zlib.crc32(head[:2] + text) == check
        return text if right else None

    def bring(self, texts):
        end = self.table.size()
        end -= end % 8
        if self.wrong == "empties the log first":
            self.empty()
        known = [] if self.wrong == "brings it twice" else self.read()
        # Some of them may have been brought before, when the power went.
        new = [one for one in texts if one.decode() not in known]
        self.table.pwritev([one.ljust(8) for one in new] or [b""], end)
        if self.wrong != "syncs no table":
            self.table.fsync()
        if self.wrong != "empties the log first":
            self.empty()

    def empty(self):
        self.log.ftruncate(0)
        self.log.fsync()

    def add(self, text):
        data = text.encode()
        head = struct.pack("<H", len(data))
        check = struct.pack("<I", zlib.crc32(head + data))
        self.log.pwritev([head + check + data], self.log.size())
        self.log.fsync()

    def read(self):
        data = self.table.pread(self.table.size(), 0)
        cells = [data[at : at + 8] for at in range(0, len(data) - 7, 8)]
        return [one.decode().rstrip() for one in cells if one.strip(b"\0")]


def add_all(disk, work, ack):
    table = Table(disk)
    for text in work:
        table.add(text)
        ack(text)


def look(disk):
    return Table(disk).read()


def compare(acked, in_flight, seen):
    if tuple(seen) not in {acked, acked + in_flight}:
        return f"acknowledged were {list(acked)}, seen {seen}"
    return None


@contextlib.contextmanager
def going(wrong):
    with mock.patch.object(Table, "wrong", wrong):
        yield


def table(crashes=1, **given):
    return subject_from(
        "TABLE",
        run=add_all,
        recover=look,
        check=compare,
        work=["one", "two"],
        crashes=crashes,
        bugs={
            name: (text, functools.partial(going, name)) for name, text in WRONG.items()
        },
        **given,
    )


TABLE = table(2)
TWO = CrashModel(crashes=2)


def certificate(subject, mutant=None, **given):
    model = given.pop("model", None) or model_for(subject)
    return run(
        subject,
        Plan(spec=f"{__name__}:TABLE", programs=1, mutant=mutant, model=model, **given),
    )


@functools.cache
def broken_by(wrong):
    """What is found with one of the bugs; several tests look at it."""
    (violation,) = certificate(TABLE, wrong).violations
    return violation


@pytest.mark.parametrize("crashes", [1, 2, 3])
def test_a_right_recovery_is_consistent_however_often_it_is_crashed(crashes):
    assert certificate(table(crashes)).verdict == "consistent"


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_one_is_found_with_a_second_crash_and_not_without(wrong):
    assert certificate(table(1), wrong).verdict == "consistent"
    found = certificate(TABLE, wrong)
    assert found.verdict == "violated"
    (violation,) = found.violations
    assert replay(TABLE, violation.failure) == violation.story
    assert broken_by(wrong).story == violation.story


def test_the_story_tells_what_recovery_did_and_what_the_second_crash_left():
    story = broken_by("syncs no table").story
    recovery = story[story.index("Recovery, in which the power goes once more") :]
    assert [line.split()[1] for line in recovery.splitlines()[1:3]] == [
        "write",
        "truncate",
    ]
    assert "crash here; not yet durable: operations 1-2" in recovery
    assert "lost is operation 1 of recovery (write, " in recovery
    # The program wrote to those bytes, too, but of another file.
    assert "it is what was there before the program began" in recovery
    assert "The second recovery saw" in recovery
    assert story.index("  >>>>  crash") < story.index("Recovery, in which")


def in_short(violation):
    story = " ".join(violation.story.split())
    return re.sub(r"test_\w+\.py:(\d+)", "here", story).partition("In short: ")[2]


EARLY = "in recovery nothing has to be lost; it is broken as soon as the "
REASONS = {
    "empties the log first": f"{EARLY}truncate at here (log) has arrived.",
    "syncs no table": "in recovery the write at here (table) must be durable before"
    " the truncate at here (log).",
    "brings it twice": f"{EARLY}write at here (table) has arrived.",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_it_says_in_short_which_order_recovery_fails_to_enforce(wrong):
    violation = broken_by(wrong)
    assert in_short(violation).startswith(REASONS[wrong])
    assert scene_of(TABLE, violation.failure).reason in " ".join(
        violation.story.split()
    )


class Stepping:
    """Its second recovery, and no other, takes the text away before it is elsewhere."""

    def __init__(self, disk):
        self.disk = disk

    def write(self, name, data):
        with contextlib.closing(self.disk.open(name, create=True)) as file:
            file.pwritev([data], 0)
            file.fsync()
        self.disk.fsync_dir(name)

    def read(self, name):
        if not self.disk.exists(name):
            return b""
        with contextlib.closing(self.disk.open(name)) as file:
            return file.pread(file.size(), 0)

    def recover(self):
        if not self.read("db/text"):
            return self.read("db/other")
        if not self.read("db/mark"):
            self.write("db/mark", b"seen once")
            return self.read("db/text")
        text = self.read("db/text")
        with contextlib.closing(self.disk.open("db/text")) as file:
            file.ftruncate(0)
        self.write("db/other", text)
        return text


def step(disk, work, ack):
    for text in work:
        Stepping(disk).write("db/text", text.encode())
        ack(text)


STEPPING = subject_from(
    "STEPPING",
    run=step,
    recover=lambda disk: Stepping(disk).recover(),
    check=lambda acked, _, seen: None if not acked or seen else "it is lost",
    work=["one"],
    crashes=3,
)


@pytest.mark.thorough
def test_it_says_which_recovery_that_is():
    (violation,) = certificate(STEPPING).violations
    assert in_short(violation).startswith(
        "in the second recovery nothing has to be lost; it is broken as soon as the"
        " truncate at here (db/text) has arrived."
    )


def write_both(disk, work, ack):
    for name in "ab":
        with contextlib.closing(disk.open(name, create=True)) as file:
            disk.fsync_dir(name)
            file.pwritev([b"new"], 0)


def repair(disk):
    """It has something to do only where the first write is lost and the second not."""
    step = Stepping(disk)
    if step.read("begun") and not step.read("ended"):
        return "half"
    if step.read("b") and not step.read("a"):
        step.write("begun", b"1")
        step.write("ended", b"1")
    return "whole"


def test_recovery_is_looked_at_where_the_first_crash_has_left_it():
    subject = subject_from(
        "repairing",
        run=write_both,
        recover=repair,
        check=lambda *given: "it is half" if given[2] == "half" else None,
        work=["one"],
        crashes=2,
    )
    (violation,) = certificate(subject).violations
    assert "lost is operation 3 (write" in violation.story
    assert in_short(violation).startswith(f"{EARLY}write at here (begun) has arrived.")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"log": b"", "table": b"two     "},
        {"log": b"", "table": b""},
    ],
    ids=["it begins anew", "it has nothing to do", "it is broken already"],
)
def test_nothing_is_said_from_files_on_which_recovery_does_other_things(
    files, monkeypatch
):
    monkeypatch.setattr(relapse, "_contents", lambda _: files)
    (violation,) = certificate(TABLE, "syncs no table").violations
    assert "In short" not in violation.story


def test_nothing_is_said_when_the_promise_is_broken_without_the_last_crash():
    violation = broken_by("syncs no table")
    found = []

    def broken(marks, outcome):
        found.append(outcome)
        return [violation]

    with TABLE.mutant("syncs no table"):
        made = Experiment(TABLE, TABLE.decode(violation.failure.program), TWO, cap=1)
        point, tape = parse_schedule(violation.failure.at)
        reached = made.explorer.replay(point, tape)
        said = relapse.relapse_reason(
            made.explorer, point, reached, look, broken, locate=TABLE.locate, limit=99
        )
    assert (said, found) == ("", [["two"]])


def test_its_cause_names_where_recovery_was():
    violation = broken_by("syncs no table")
    assert re.search(
        r"lost test_crashes\w+\.py:\d+ write; at the end;"
        r" then recovery, after truncate test_crashes\w+\.py:\d+",
        violation.cause,
    )


def test_a_scene_keeps_what_recovery_did_apart_from_what_the_program_did():
    violation = broken_by("syncs no table")
    scene = scene_of(TABLE, violation.failure)
    assert not {step.fate for step in scene.steps} & {"lost", "torn"}
    (said,) = [one.said for one in scene.changes if one.place == "recovery"]
    assert said.startswith("the power went once more after operation 2 of recovery")


@pytest.mark.parametrize("wrong", WRONG)
def test_what_one_crash_breaks_is_told_with_one(wrong, monkeypatch):
    """The second crash is tried before all that the first may leave was seen."""
    monkeypatch.setattr(Table, "add", add_without_a_sync)
    # Recovery is wrong as well, so that the second crash shows something first.
    (found,) = certificate(TABLE, wrong, shrink=False).violations
    assert "once more" in found.story
    (violation,) = certificate(TABLE, wrong).violations
    assert "once more" not in violation.story
    assert "crashes" not in violation.failure.model
    assert replay(TABLE, violation.failure) == violation.story


def add_without_a_sync(self, text):
    with mock.patch.object(type(self.log), "fsync"):
        right_add(self, text)


right_add = Table.add


def test_a_certificate_says_how_many_crashes_in_a_row_are_proven():
    one, two = map(plain, (certificate(table(1)), certificate(TABLE)))
    assert "no crash comes during recovery" in one
    assert "crashes in a row" not in one
    assert "So does recovery from up to 2 crashes in a row" in two
    assert "no more than 2 crashes come in a row" in two
    assert "No recovery changed anything" not in two


def plain(found):
    return " ".join(render(found).split())


def test_it_says_when_no_recovery_could_be_crashed():
    subject = subject_from(
        "READS",
        run=lambda disk, work, ack: disk.open("f").pwritev([b"\1"], 0),
        recover=lambda disk: disk.open("f").pread(1, 0),
        check=lambda acked, in_flight, seen: None,
        work=[],
        files={"f": b"\0"},
        crashes=2,
    )
    text = plain(certificate(subject))
    assert "CONSISTENT" in text
    assert "No recovery changed anything, so none could be crashed" in text


def test_crashes_in_recovery_alone_exercise_nothing():
    """Recovery writes, but what it reads no crash of the program can change."""
    subject = subject_from(
        "BLIND",
        run=lambda disk, work, ack: disk.open("f").pwritev([b"\1"], 0),
        recover=lambda disk: disk.open("g").pwritev([b"\1"], 0),
        check=lambda acked, in_flight, seen: None,
        work=[],
        files={"f": b"\0", "g": b"\0"},
        crashes=2,
    )
    assert certificate(subject).verdict == "unverifiable"


def test_more_executions_than_the_cap_are_unverifiable():
    assert certificate(table(1), cap=4).verdict == "consistent"
    found = certificate(TABLE, cap=4)
    assert found.verdict == "unverifiable"
    assert any("crash in recovery: " in one for one in found.doubts())


def test_what_is_tried_out_behind_recovery_is_not_crashed():
    """Another commit of recovery's own would be a text that nobody has promised."""

    def look_and_add(disk, *, says):
        table = Table(disk)
        if says:
            disk.recovered()
        seen = table.read()
        if seen:
            table.add("mine")
        return seen

    for says, verdict in (True, "consistent"), (False, "violated"):
        subject = table(2)
        subject._recover = functools.partial(look_and_add, says=says)
        assert certificate(subject).verdict == verdict


def test_two_runs_give_one_certificate_and_merge_with_their_like_only():
    first, second = certificate(TABLE), certificate(TABLE)
    assert first.records == second.records
    assert first.coverage.faults == second.coverage.faults
    with pytest.raises(MergeError, match="model"):
        merge(first, certificate(table(1)))


CACHE = {}


def test_a_recovery_that_remembers_the_one_that_was_crashed_is_a_doubt():
    """In a new process it does not: the story would be of no crash that there is."""

    def remembering(disk):
        brought = disk.open("g").pread(1, 0) == b"\1"
        if brought and CACHE:
            return "again"
        if not brought and disk.open("f").pread(1, 0) == b"\1":
            disk.open("g").pwritev([b"\1"], 0)
            CACHE["brought"] = True
        return "once"

    subject = subject_from(
        "REMEMBERS",
        run=lambda disk, work, ack: CACHE.clear() or put(disk),
        recover=remembering,
        check=lambda acked, in_flight, seen: None if seen == "once" else "again",
        work=[],
        files={"f": b"\0", "g": b"\0"},
        crashes=2,
    )
    found = certificate(subject)
    assert found.verdict == "unverifiable"
    assert "and another during recovery" in " ".join(found.cut)


def put(disk):
    disk.open("f").pwritev([b"\1"], 0)


# -- how many crashes a run has --------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "crashes", "expected"),
    [
        (None, None, 2),
        ("tear=byte", None, 2),
        ("tear=byte,crashes=3", None, 3),
        ("tear=byte,crashes=1", None, 1),
        ("tear=byte,crashes=3", 1, 1),
        (None, 4, 4),
    ],
)
def test_the_most_explicit_number_holds(given, crashes, expected):
    assert model_for(TABLE, given, crashes).crashes == expected


def test_a_subject_that_asks_for_no_number_is_refused():
    for wrong in 0, 10, "2", None:
        with pytest.raises(SubjectError, match="crashes: "):
            table(wrong)


def test_the_command_takes_it(monkeypatch, capsys):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    spec = "test_crashes_in_recovery:TABLE"
    wrong = ["run", spec, "--mutant", "syncs no table", "--quiet"]
    assert main(wrong) == 1
    assert main([*wrong, "--crashes", "1"]) == 0
    with pytest.raises(SystemExit):
        main(["run", spec, "--crashes", "10"])
    assert "--crashes: crashes=10" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", spec, "--crashes", "2", "--replay", "tp1.x"])


def test_a_worker_has_the_same_number():
    plan = Plan(spec="x", programs=1, model=model_for(TABLE))
    assert plan_from_json(plan_to_json(plan)).model.crashes == 2
