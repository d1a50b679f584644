"""Crash images of a recorded device, and their comparison, as far as no root goes."""

import errno
import itertools
import os
import random
import sys

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, ROOT)

from ci.real import __main__ as command  # noqa: E402
from ci.real import device, enduring, failing, store  # noqa: E402
from ci.real.check import compared  # noqa: E402
from ci.real.device import Fault, Request  # noqa: E402
from ci.real.images import SECTOR, Image, apply, sampled, split  # noqa: E402
from ci.real.judge import Judge, letters_of  # noqa: E402
from ci.real.machine import RealMachine, lay, tree_of  # noqa: E402
from ci.real.programs import Program, drawn, litmus_programs, performed  # noqa: E402
from ci.real.systems import FILE_SYSTEMS, copied  # noqa: E402
from ci.real.trial import Crash, Run  # noqa: E402

import shearbolt  # noqa: E402
from shearbolt.storage.robust import RobustFile  # noqa: E402
from tornpage.disk import Disk  # noqa: E402
from tornpage.explore import Explorer  # noqa: E402
from tornpage.litmus import OnDisk  # noqa: E402
from tornpage.model import PRESETS, CrashModel  # noqa: E402
from tornpage.platter.damage import garbage  # noqa: E402

sys.path.remove(ROOT)

FLUSH = Request(-1, b"")
BAD_FLUSH = Request(-1, b"", errno.EIO)


def write(letter, *, at=0, sectors=1, failed=0):
    return Request(at * SECTOR, letter.encode() * (sectors * SECTOR), failed)


def content(image, record, size=8):
    found = bytearray(b"." * (size * SECTOR))
    for offset, data in apply(image, record):
        found[offset : offset + len(data)] = data
    return bytes(found[at * SECTOR] for at in range(size)).decode()


# -- what a drive may hold -----------------------------------------------------


def test_a_flush_that_was_ok_makes_what_was_written_before_it_sure():
    record = [write("A"), write("B"), FLUSH, write("C")]
    assert split(record, 2) == (frozenset(), (0, 1))
    assert split(record, 4) == ({0, 1}, (3,))
    assert split(record, 2, begin=1) == ({0}, (1,))


def test_a_write_that_failed_is_never_sure_and_a_flush_that_failed_is_none():
    record = [write("A", failed=5), write("B"), BAD_FLUSH, write("C"), FLUSH]
    assert split(record, 4) == (frozenset(), (0, 1, 3))
    assert split(record, 5) == ({1, 3}, (0,))
    assert split(record, 5, forgetful=True) == ({3}, (0, 1))


def drawn_record(seed):
    draw = random.Random(seed)
    record = []
    for letter in "ABCDE":
        record.append(write(letter, at=draw.randrange(5), sectors=draw.choice((1, 2))))
        if draw.random() < 0.3:
            record.append(draw.choice((FLUSH, FLUSH, BAD_FLUSH)))
    return record


def every_content(record, position):
    """Each sector of each write there or not, but for what was flushed."""
    sure, _ = split(record, position)
    pieces = [
        (at, piece)
        for at, one in enumerate(record[:position])
        for piece in range(len(one.data) // SECTOR)
    ]
    choices = [(True,) if at in sure else (True, False) for at, _ in pieces]
    for there in itertools.product(*choices):
        found = ["."] * 8
        for (at, piece), kept in zip(pieces, there, strict=True):
            if kept:
                one = record[at]
                found[one.offset // SECTOR + piece] = one.data[:1].decode()
        yield "".join(found)


@pytest.mark.parametrize("seed", range(20))
def test_an_image_is_one_that_the_drive_may_leave(seed):
    record = drawn_record(seed)
    for position in range(len(record) + 1):
        legal = set(every_content(record, position))
        draw = random.Random(seed)
        found = {content(one, record) for one in sampled(record, position, draw)}
        assert found <= legal


def test_everything_nothing_each_loss_and_each_survivor_are_among_the_images():
    record = [write("A"), FLUSH, *(write(one, at=at) for at, one in enumerate("BCD"))]
    found = {content(one, record)[:3] for one in sampled(record, 5, random.Random(1))}
    assert found >= {"BCD", "A..", "ACD", "B.D", "BC.", "B..", "AC.", "A.D"}


def test_a_write_of_several_sectors_is_torn_unless_it_is_atomic():
    record = [write("A", sectors=8)]

    def found(atomic):
        draw = random.Random(3)
        return {
            content(one, record)
            for seed in range(10)
            for one in sampled(record, 1, draw, atomic=atomic)
        }

    assert len(found(())) > 4
    assert found((1024,)) == {"AAAAAAAA", "........"}


def test_an_image_has_one_name_wherever_the_power_went():
    record = [write("A"), FLUSH, write("B", at=1), write("C", at=2)]
    early = set(sampled(record, 3, random.Random(1)))
    late = set(sampled(record, 4, random.Random(1)))
    # All of the first three is the last one lost; nothing is nothing.
    assert {content(one, record)[:3] for one in early & late} == {"AB.", "A.."}
    for some in (early, late):
        assert len({content(one, record) for one in some}) == len(some)


def test_a_copy_has_every_byte_of_an_image_with_holes(tmp_path):
    image, target = tmp_path / "image", tmp_path / "copy"
    with open(image, "wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"x" * 5000, 300_000)
    copied(str(image), str(target))
    assert target.read_bytes() == image.read_bytes()


# -- the device ----------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    base = tmp_path / "base"
    base.write_bytes(b"0" * 8192)
    return device._Device(str(base))


def test_the_device_records_what_it_is_asked_in_order(served, tmp_path):
    served.write("/image", b"AA", 10, 0)
    served.fsync("/image", 0, 0)
    served.fallocate("/image", 2, 4096, 100, 0)
    assert served.taken() == [Request(10, b"AA"), FLUSH, Request(4096, bytes(100))]
    assert served.read("/image", 4, 9, 0) == b"0AA0"
    served.reset()
    assert served.length() == 0
    assert served.read("/image", 4, 9, 0) == b"0000"
    assert (tmp_path / "base").read_bytes() == b"0" * 8192


def test_the_device_fails_what_it_was_told_to_and_nothing_else(served):
    served.arm(Fault(after=1, count=2, number=errno.ENOSPC))
    served.write("/image", b"A", 0, 0)
    with pytest.raises(OSError, match="No space"):
        served.write("/image", b"B", 0, 0)
    with pytest.raises(OSError, match="No space"):
        served.fsync("/image", 0, 0)
    served.fsync("/image", 0, 0)
    assert [bool(one.failed) for one in served.taken()] == [False, True, True, False]
    assert served.read("/image", 1, 0, 0) == b"A"
    assert served.arm(Fault(flushes=True)) == 2
    served.write("/image", b"C", 0, 0)
    with pytest.raises(OSError, match="Input/output"):
        served.fsync("/image", 0, 0)


def test_what_a_loop_device_asks_by_itself_is_no_request_and_cannot_fail(served):
    served.arm(Fault())
    served.record(False)
    served.write("/image", b"A", 0, 0)
    served.fsync("/image", 0, 0)
    served.record(True)
    assert not served.length()
    assert served.read("/image", 1, 0, 0) == b"A"
    with pytest.raises(OSError, match="Input/output"):
        served.fsync("/image", 0, 0)


# -- programs ------------------------------------------------------------------


def test_a_program_is_its_text_and_a_seed_draws_one():
    programs = [drawn(seed) for seed in range(50)]
    assert programs == [drawn(seed) for seed in range(50)]
    assert len(set(programs)) == 50
    for one in programs:
        assert Program.parse(str(one)) == one
    with pytest.raises(ValueError, match=r"files \| step"):
        Program.parse("write f 0 B1")


def test_a_real_directory_without_a_crash_shows_what_the_model_allows(tmp_path):
    for number, program in enumerate(litmus_programs()):
        judge = Judge(program, CrashModel())
        folder = str(tmp_path / str(number))
        os.mkdir(folder)
        lay(folder, program.contents())
        for done in performed(program.steps, RealMachine(folder)):
            tree = tree_of(folder)
            assert judge.allows(tree, judge.after(done)), str(program)
            (point,) = judge.after(done)
            seen = letters_of(tree, program.look)
            assert seen in judge.looks(program.look, point), str(program)


# -- the judge -----------------------------------------------------------------


def tree_on(disk, names):
    """What is on a simulated disk, as a tree."""
    found = []
    for name in names:
        if disk.is_dir(name):
            found.append((name, None))
        elif disk.exists(name):
            file = disk.open(name, read_only=True)
            found.append((name, file.pread(file.size(), 0)))
    return tuple(found)


@pytest.mark.parametrize("preset", FILE_SYSTEMS)
def test_the_judge_allows_the_images_of_the_model_and_no_others(preset):
    model = CrashModel.parse(preset)
    program = Program.parse("f=A600 d/g=A1 | write f 100 B600; create x; rename x d/h")
    judge = Judge(program, model)
    disk = Disk(program.contents(), model)
    for _ in performed(program.steps, OnDisk(disk)):
        pass
    names = ("d", "d/g", "d/h", "f", "x")
    explorer = Explorer(
        program.contents(), disk.trace, lambda one: tree_on(one, names), model
    )
    some = {
        at: {one.outcome for one in explorer.close(judge.after(at)[0]).outcomes}
        for at in range(4)
    }
    for at, legal in some.items():
        for tree in set().union(*some.values()):
            assert judge.allows(tree, judge.after(at)) == (tree in legal)
        for tree in legal:
            assert not judge.allows((*tree, ("z", b"")), judge.after(at))
            assert not judge.allows(tree[1:], judge.after(at))


@pytest.mark.parametrize("preset", FILE_SYSTEMS)
def test_a_dead_journal_loses_other_files_where_it_is_shared(preset):
    program = Program.parse("| create x; create y; fail; fsync y; syncdir y")
    judge = Judge(program, CrashModel.parse(preset))
    shared = preset in {"ext3-w", "ext3-o", "ext4-o", "ext4-fast-commit"}
    assert judge.allows((), judge.after(5)) is shared
    assert judge.allows((), judge.after(4))


def test_garbage_of_the_model_stands_for_any_bytes():
    program = Program.parse("f=A512 | write f 512 B512")
    tree = (("f", b"A" * 512 + b"\xee" * 512),)
    for preset, right in (("ext3-w", True), ("ext3-o", False)):
        judge = Judge(program, CrashModel.parse(preset))
        assert judge.allows(tree, judge.after(1)) is right


def test_a_byte_that_looks_like_garbage_is_none_where_there_is_no_garbage():
    nobodys = garbage(0, 512)
    at, letter = next(
        (at, chr(one)) for at, one in enumerate(nobodys) if chr(one) in "BCDEFG"
    )
    program = Program.parse(f"f=A512 | write f {at} {letter}1; fsync f")
    judge = Judge(program, CrashModel())
    assert not judge.allows((("f", b"A" * 512),), judge.after(2))


# -- comparing -----------------------------------------------------------------


def test_the_moments_of_a_crash_are_those_with_as_many_requests():
    run = Run((), 10, ((10, 12), (12, 12), (14, 15)))
    moments = {at: list(run.moments(at)) for at in (10, 11, 12, 13, 14, 15, 16)}
    assert moments[10] == [(0, False), (1, True)]
    assert moments[11] == [(1, True)]
    assert moments[12] == [(1, True), (1, False), (2, True), (2, False)]
    assert moments[13] == [(2, False)]
    assert moments[14] == [(2, False), (3, True)]
    assert moments[15] == [(3, True), (3, False)]
    assert moments[16] == [(3, False)]


def test_a_crash_is_outside_if_the_model_does_not_allow_it_at_one_of_its_moments():
    program = Program.parse("f=A1 g=A1 | write f 0 B1; write g 0 B1; fsync f")
    program = Program(program.files, program.steps, ("f@0", "g@0"))
    run = Run((), 0, ((0, 1), (1, 2), (2, 4)))

    def outside(f, g, position, model="order=any"):
        crash = Crash(position, Image(position, ()), (("f", f), ("g", g)))
        judge = Judge(program, CrashModel.parse(model))
        return compared(program, run, [crash], [judge])

    lost = outside(b"A", b"B", 3)
    assert (lost.images, lost.outside) == (1, [])
    # At 4 the sync has returned: f must be there.
    assert "f@0 g@0: AB" in str(outside(b"A", b"B", 4).outside[0])
    # What is in flight may come in any order, unless the model says otherwise.
    assert outside(b"A", b"B", 2, "order=ordered").outside
    seen = outside(b"B", b"A", 4)
    assert seen.seen == 1
    assert seen.allowed == 1 + 2 + 4 + 2


def test_an_image_that_cannot_be_mounted_is_outside():
    program = Program.parse("f=A1 | write f 0 B1")
    crash = Crash(0, Image(0, ()), None, "mounting: no", repaired=False)
    result = compared(
        program, Run((), 0, ((0, 1),)), [crash], [Judge(program, CrashModel())]
    )
    assert "mounting: no" in str(result.outside[0])


# -- failing syncs, commits, the command ----------------------------------------


def test_the_history_of_a_failed_sync_is_what_was_refused_and_what_was_not():
    program = Program.parse("f=A1 | write f 0 B1; fail; fsync f; create x; fsync f")
    raised = Run((), 0, (), (0, 0, 5, 30, 0))
    assert str(failing.history(program, raised)) == (
        "f=A1 | write f 0 B1; fail; fsync f; wait; fsync f"
    )
    survived = Run((), 0, (), (0, 0, 0, 0, 5))
    assert str(failing.history(program, survived)) == (
        "f=A1 | write f 0 B1; wait; fsync f; create x; wait"
    )


def test_a_request_is_data_when_it_holds_what_programs_write():
    assert failing.kind_of(FLUSH) == "flush"
    assert failing.kind_of(Request(0, b"ABBB" + bytes(508))) == "data"
    assert failing.kind_of(Request(0, b"\xc0\x3b\x39\x98" * 128)) == "metadata"
    assert failing.kind_of(Request(0, b"BTRFS..." * 64)) == "metadata"


def test_a_store_is_known_by_its_content_and_damage_is_noticed(tmp_path):
    draw = random.Random(1)
    states, path = [{}], str(tmp_path / "bolt.db")
    with shearbolt.open(path, alloc_size=1 << 18) as db:
        for number in range(1, 6):
            states.append(store.changed(draw, number, states[-1]))
            store.commit(db, *states[-2:])
    whole = (tmp_path / "bolt.db").read_bytes()
    assert store._found(path, states) == (5, "")
    (tmp_path / "bolt.db").write_bytes(whole)
    assert store._found(path, states[:5]) == (None, "the content is that of no commit")
    (tmp_path / "bolt.db").write_bytes(whole[:8192].ljust(len(whole), b"\0"))
    found, error = store._found(path, states)
    assert found is None
    assert "corrupt" in error


def told(*marks):
    """A story of marks, each (how many requests there had been, label, attempt)."""
    lengths = iter([one[0] for one in marks])
    story = store.Story(lambda: next(lengths))
    for _, label, *attempt in marks:
        story.mark(label, *attempt)
    return story


def test_a_crash_shows_what_was_acknowledged_or_what_was_begun_since():
    story = told(
        *((0, "opening"), (4, "opened", 0), (4, "certain"), (4, "begin", 1)),
        *((9, "acked", 1), (9, "certain"), (10, "begin", 2), (15, "certain")),
        *((15, "begin", 3), (20, "acked", 3)),
    )
    assert set(story.legal(2)) == {(0,)}
    assert set(story.legal(6)) == {(0, 1)}
    # Both moments have nine requests: before it was acknowledged, and behind.
    assert set(story.legal(9)) == {(0, 1), (1,)}
    # It failed somewhere between 10 and 15, and until 15 it may have taken effect.
    assert set(story.legal(12)) == {(1, 2)}
    assert set(story.legal(15)) == {(1, 2), (1,), (1, 3)}
    assert set(story.legal(99)) == {(3,)}


def test_another_process_settles_nothing_by_opening_what_it_finds():
    begin = (0, "opening"), (1, "opened", 0), (2, "begin", 1), (9, "killed")
    story = told(*begin, (12, "opened", 1), (13, "certain"), (14, "begin", 2))
    assert story.now() == (0, 1, 1, 2)
    assert set(story.legal(10)) == {(0, 1)}
    story = told(*begin, (12, "opened", 1), (14, "begin", 2), (15, "acked", 2))
    assert story.now() == (2,)


def test_a_request_that_failed_is_settled_once_the_drive_was_read_from():
    record = [write("A"), write("B", failed=5), BAD_FLUSH, write("C", failed=5)]
    seen = enduring.settled(record, 3)
    assert content(Image(4, ()), record)[0] == "C"
    assert content(Image(3, ()), record)[0] == "B"
    assert content(Image(3, ()), seen)[0] == "A"
    assert content(Image(4, ()), seen)[0] == "C"
    assert enduring.settled(record, 4)[3].data == b""
    # Nor has a flush that failed dropped what was read.
    record = [write("A"), BAD_FLUSH, FLUSH]
    assert split(record, 3, forgetful=True) == (frozenset(), (0,))
    assert split(enduring.settled(record, 2), 3, forgetful=True)[0] == {0}


def test_a_run_is_crashed_before_at_and_behind_what_failed_and_at_its_end():
    record = [write("A")] * 20 + [write("B", failed=5)] * 2 + [write("C")] * 60
    groups = [(one[0], one[-1]) for one, _ in enduring.around(record, 5, 40)]
    assert groups == [(5, 19), (20, 21), (22, 29), (30, 53), (54, 82), (82, 82)]
    assert 30 <= sum(count for _, count in enduring.around(record, 5, 40)) <= 40
    # Where nothing failed it is only the run, and its end.
    assert [one for one, _ in enduring.around(record[:20], 5, 40)] == [
        range(5, 21),
        range(20, 21),
    ]


def test_a_request_of_the_store_is_told_by_what_is_in_it(tmp_path):
    with shearbolt.open(tmp_path / "bolt.db", page_size=4096) as db:
        store.commit(db, {}, {b"birds": {b"1": b"x" * 9000}})
    data = (tmp_path / "bolt.db").read_bytes()
    kinds = [
        enduring.kind_of(Request(0, data[at : at + 4096]))
        for at in range(0, len(data), 4096)
    ]
    assert kinds[:2] == ["meta page"] * 2
    assert kinds.count("page") >= 3
    # The rest of the file was never written.
    assert set(kinds[2:]) == {"page", "file system"}
    assert enduring.kind_of(FLUSH) == "flush"
    assert enduring.kind_of(Request(0, b"\xc0\x3b\x39\x98" * 128)) == "file system"


def test_a_bug_that_only_a_kernel_shows_can_be_planted_and_is_taken_out(tmp_path):
    calls = []

    class Told:
        def forget(self):
            calls.append("forget")

    file = RobustFile(Told(), "f")
    with store.planting("pages-not-forgotten"):
        file.forget()
    assert not calls
    with store.planting(""):
        file.forget()
    assert calls == ["forget"]
    with pytest.raises(KeyError):
        store.planting("no-such-bug")


def test_every_file_system_to_try_has_a_preset():
    assert FILE_SYSTEMS.keys() <= PRESETS.keys()


def test_without_root_nothing_runs_and_that_is_said(monkeypatch, capsys):
    monkeypatch.setattr(device.os, "geteuid", lambda: 1000)
    assert command.main(["litmus", "ext4-o"]) == 2
    assert "needs root" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        command.main(["litmus", "fat"])
