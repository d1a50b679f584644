"""Cases at the edges of what the explorer decides, each told apart by hand.

Each was made because one operator of the explorer could be another one and the tests
that were run against it passed: random programs seldom come here. What must come out is
said by brute force, or by the case itself where that builds no such image.
"""

import itertools
import zlib

import pytest
from explorer_cases import differences

from tornpage.choices import Choice, Enumerator, ReplayError
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.interruption import CRASH_AGAIN, Interruption, by_recovery, interruptions
from tornpage.model import CrashModel


def explored(program, recover, files=(), model=""):
    """An explorer of a program on these files."""
    model = CrashModel.parse(model)
    disk = Disk(dict(files), model)
    program(disk)
    return Explorer(dict(files), disk.trace, recover, model)


def agree(explorer):
    """All crash points have the outcomes of brute force; returns those of each."""
    found, agreed = differences(explorer)
    assert not found
    points = list(explorer.points())
    assert agreed == len(points)
    return [{one.outcome for one in closure.outcomes} for closure in explorer.sweep()]


def test_a_sync_of_a_directory_decides_every_name_that_it_makes_durable():
    def program(disk):
        for name in ("a", "b", "c"):
            disk.open(name, create=True)
        disk.fsync_dir("a")

    for name in ("a", "b", "c"):
        every = agree(explored(program, lambda disk, name=name: disk.exists(name)))
        assert every[-2] == {True, False}
        assert every[-1] == {True}


def test_a_question_about_several_sectors_rests_on_each_of_them():
    def program(disk):
        file = disk.open("f")
        for at in (1024, 512, 0):
            file.pwritev([b"n" * 512], at)

    for first, last in ((0, 2), (0, 3), (1, 3)):

        def recover(disk, at=512 * first, length=512 * (last - first)):
            return disk.open("f").ask(lambda view: view(zlib.crc32, at, length))

        every = agree(explored(program, recover, {"f": b"o" * 2048}))
        assert len(every[-1]) == 2 ** (last - first)


def test_a_file_that_was_cut_off_for_good_grows_with_zeros():
    def program(disk):
        file = disk.open("f")
        file.ftruncate(100)
        file.fsync()
        file.ftruncate(1500)

    def recover(disk):
        return set(disk.open("f").pread(1500, 0)[100:])

    every = agree(
        explored(program, lambda disk: bytes(recover(disk)), {"f": b"o" * 1500})
    )
    assert every[-1] == {b"", b"\0"}


def rows(disk, *lives):
    """What lives in a row, each cut off at its end, may see."""
    chooser, found = Enumerator(), set()
    image = disk.image()
    while True:
        crashed, seen = Disk.on_image(image, chooser), []
        for life in lives:
            seen.append(life(crashed))
            crashed = crashed.crash(chooser)
        found.add(tuple(seen))
        if not chooser.advance():
            return found


# What a crash left undecided in one way or another, and the contents that it may have.
UNDECIDED = [
    ("tear=sector", {b"oo", b"nn"}),
    ("tear=byte", {b"oo", b"no", b"on", b"nn"}),
    ("tear=byte,size=with-data", {b"oo", b"no", b"on", b"nn"}),
    ("tear=byte,order=ordered", {b"oo", b"no", b"on", b"nn"}),
    ("tear=byte,order=append,size=with-data", {b"oo", b"no", b"on", b"nn"}),
    ("tear=byte,sync=lying:1", {b"oo", b"no", b"on", b"nn"}),
]


def read_two(disk):
    file = disk.open("f")
    return file.pread(1, 0) + file.pread(1, 1)


@pytest.mark.parametrize(("model", "contents"), UNDECIDED)
def test_what_one_recovery_has_read_the_next_one_reads_again(model, contents):
    disk = Disk({"f": b"oo"}, CrashModel.parse(model))
    disk.open("f").pwritev([b"nn"], 0)
    assert rows(disk, read_two, read_two) == {(one, one) for one in contents}
    # Nor does a life that looks at nothing take anything away.
    assert rows(disk, bool, read_two) == {(True, one) for one in contents}


def test_a_sector_that_was_read_as_no_garbage_is_none_after_the_next_crash():
    disk = Disk({"f": b""}, CrashModel.parse("extend=garbage"))
    disk.open("f").pwritev([b"n" * 512], 0)

    def recover(disk):
        return disk.open("f").pread(512, 0)

    found = rows(disk, recover, recover)
    assert {one for one, other in found if one == other} >= {b"", b"n" * 512}
    assert len(found) == 4
    assert all(one == other for one, other in found)
    assert {one for _, one in rows(disk, bool, recover)} == {one for one, _ in found}


def test_what_was_read_below_a_pending_write_of_a_whole_sector_stays_so():
    disk = Disk({"f": b"o" * 512}, CrashModel.parse("tear=sector"))
    disk.open("f").pwritev([b"n" * 512], 0)

    def write(disk):
        disk.open("f").pwritev([b"w" * 512], 0)

    def recover(disk):
        return read_two(disk) + read_two(disk)

    found = {last for *_, last in rows(disk, write, recover)}
    assert found == {b"oooo", b"nnnn", b"wwww"}


def test_a_recovery_that_was_not_crashed_counts_as_no_crash():
    label = (CRASH_AGAIN, tuple(Interruption((), at) for at in range(2)))
    choices = [Choice(0, 2, ("size", "f")), Choice(0, 2, label)]
    assert interruptions(choices) == ()
    assert by_recovery(choices) == [choices[:1]]
    choices.insert(1, Choice(1, 2, label))
    assert [one.after for one in interruptions(choices)] == [1]
    assert by_recovery(choices) == [choices[:1], []]


@pytest.mark.parametrize("order", [*itertools.permutations((0, 1, 510, 511))])
def test_a_sector_may_be_torn_at_every_byte_in_whatever_order_it_is_read(order):
    disk = Disk({"f": b"o" * 512}, CrashModel.parse("tear=byte"))
    disk.open("f").pwritev([b"n" * 512], 0)

    def recover(disk):
        seen = {at: disk.open("f").pread(1, at) for at in order}
        return b"".join(seen[at] for at in sorted(seen))

    pairs = ((b"o", b"n"), (b"n", b"o"))
    torn = {a * at + b * (4 - at) for at in range(5) for a, b in pairs}
    assert rows(disk, recover) == {(one,) for one in torn}


def test_a_sector_of_which_all_older_contents_are_ruled_out_is_decided():
    disk = Disk({"f": b"o" * 512}, CrashModel.parse("sync=lying:1"))
    disk.open("f").pwritev([b"n" * 512], 0)

    def write(disk):
        file = disk.open("f")
        file.pwritev([b"w" * 512], 0)
        file.fsync()
        file.fsync()

    assert {last for *_, last in rows(disk, write, read_two)} == {b"ww"}


# What is asked in two looks of which the second decides a sector that the first has
# only assumed: it goes beyond where the file was cut, or begins in what was written.
ASKED = [
    (lambda view: (view(bytes, 0, 1), view(sum, 1, 700))),
    (lambda view: (view(bytes, 512, 1), view(sum, 500, 14))),
    (lambda view: (view(sum, 513, 1) % 2, view(sum, 500, 14) % 2)),
]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("change", ["cut", "write"])
def test_a_look_that_decides_what_another_assumed_is_no_way_of_a_question(
    asked, change
):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"nn"], 0)
        file.pwritev([b"nn"], 512)

    def recover(disk):
        file = disk.open("f")
        if change == "cut":
            file.ftruncate(600)
            file.ftruncate(1024)
        else:
            file.pwritev([b"w" * 512], 0)
        return file.ask(asked), file.pread(2, 0), file.pread(2, 512)

    agree(explored(program, recover, {"f": b"o" * 1024}, "tear=byte"))


def test_garbage_of_a_write_that_arrived_in_order_does_not_come_later():
    def program(disk):
        disk.open("f").pwritev([b"n" * 512], 0)
        disk.open("g").pwritev([b"n"], 0)

    def recover(disk):
        return disk.open("g").pread(1, 0), disk.open("f").pread(512, 0)

    model = "order=ordered,extend=garbage"
    every = agree(explored(program, recover, {"f": b"", "g": b"o"}, model))
    assert {data for first, data in every[-1] if first == b"n"} == {b"n" * 512}


def test_a_name_is_looked_up_again_where_one_answer_has_two_causes():
    def program(disk):
        disk.rename("c", "t")
        disk.rename("e", "d")
        disk.rename("t", "c")

    def recover(disk):
        return disk.exists("c"), disk.exists("d")

    every = agree(explored(program, recover, {"c": b"", "e": b""}))
    assert every[-1] == set(itertools.product((True, False), repeat=2))


def test_outcomes_of_a_point_that_was_given_up_are_no_closure_where_they_are_reused():
    def program(disk):
        disk.open("f").pwritev([b"n" * 2048], 0)
        disk.open("g").pwritev([b"n"], 0)

    def recover(disk):
        return disk.open("f").pread(2048, 0)

    explorer = explored(program, recover, {"f": b"o" * 2048, "g": b""})
    explorer._cap = 3
    *_, last = explorer.sweep()
    assert last.reused
    assert not last.closed


@pytest.mark.parametrize("model", ["tear=garbage", "unit=4096", "extend=garbage"])
@pytest.mark.parametrize("order", ["any", "append", "ordered"])
def test_garbage_is_there_while_something_is_on_its_way_and_no_longer(model, order):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"n" * 4], 4)
        file.pwritev([b"m" * 4], 512)
        file.pwritev([b"k" * 4], 4)

    def recover(disk):
        file = disk.open("f")
        return tuple(file.pread(2, at) for at in (512, 6, 1020))

    files = {"f": b"o" * (512 if model == "extend=garbage" else 1024)}
    agree(explored(program, recover, files, f"{model},order={order}"))


@pytest.mark.parametrize("model", ["order=any", "order=append", "sync=lying:1"])
def test_garbage_of_two_writes_that_made_a_file_longer(model):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"n" * 512], 512)
        file.pwritev([b"m" * 512], 1024)

    def recover(disk):
        file = disk.open("f")
        return tuple(file.pread(2, at) for at in (1024, 512))

    agree(explored(program, recover, {"f": b"o" * 512}, f"extend=garbage,{model}"))


@pytest.mark.parametrize("model", ["tear=garbage", "unit=4096", "extend=garbage"])
def test_a_life_that_looks_at_nothing_leaves_all_garbage_possible(model):
    disk = Disk({"f": b"o" * 8192}, CrashModel.parse(model))
    place = 5000 if model == "unit=4096" else 8190
    disk.open("f").pwritev([b"n" * 4], place)

    def recover(disk):
        file = disk.open("f")
        return tuple(file.pread(2, at) for at in (4094, 4096, place, 8190, 8192))

    seen = {one for (one,) in rows(disk, recover)}
    assert {one for _, one in rows(disk, bool, recover)} == seen
    # Of the sector written to, and of what the file grew by or of two in its unit.
    ways = {"tear=garbage": 5 * 6, "unit=4096": 2 * 2 * 2, "extend=garbage": 2 * 4}
    assert len(seen) == ways[model]


@pytest.mark.parametrize("model", ["", "order=ordered", "size=with-data"])
@pytest.mark.parametrize("synced", [False, True])
def test_a_whole_sector_that_was_cut_off_is_zero_when_the_file_grows_again(
    model, synced
):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"n" * 512], 512)
        if synced:
            file.fsync()
        file.ftruncate(512)
        file.ftruncate(1024)
        file.fsync()

    def recover(disk):
        return disk.open("f").pread(512, 512)

    for length in (512, 1024):
        every = agree(explored(program, recover, {"f": b"o" * length}, model))
        assert every[-1] == {bytes(512)}


def test_whatever_makes_a_name_in_a_directory_that_nobody_spoke_of_speaks_of_it():
    def made(disk):
        disk.mkdir("d/e")

    def created(disk):
        disk.open("d/e", create=True)

    def renamed(disk):
        disk.rename("f", "d/e")

    def recover(disk):
        return disk.is_dir("d"), disk.is_dir("d/e"), disk.exists("d/e")

    for program in (made, created, renamed):
        every = agree(explored(program, recover, {"f": b""}))
        assert every[0] != every[-1]


@pytest.mark.parametrize("model", ["tear=garbage", "unit=4096", "extend=garbage"])
def test_garbage_of_a_write_before_a_sync_needs_that_it_lied(model):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"n" * 4], 4)
        file.pwritev([b"m" * 4], 512)
        file.fsync()
        disk.open("g").pwritev([b"n"], 0)
        disk.open("g").fsync()

    def recover(disk):
        file = disk.open("f")
        seen = tuple(file.pread(2, at) for at in (1100, 6, 512))
        return disk.open("g").pread(1, 0), seen

    files = {"f": b"o" * (512 if model == "extend=garbage" else 1536), "g": b"o"}
    agree(explored(program, recover, files, f"{model},sync=lying:1"))


def test_a_write_beside_what_two_crashes_left_undecided_moves_nothing():
    disk = Disk({"f": b"o" * 512}, CrashModel.parse("tear=byte"))
    disk.open("f").pwritev([b"nn"], 0)

    def write(disk):
        disk.open("f").pwritev([b"ww".ljust(512, b"o")], 0)

    def recover(disk):
        return tuple(disk.open("f").pread(1, at) for at in (2, 511, 1, 0))

    def write_beside(disk):
        file = disk.open("f")
        seen = tuple(file.pread(1, at) for at in (2, 511, 1))
        file.pwritev([b"x"], 0)
        return seen

    found = rows(disk, write, write_beside, recover)
    assert all(before == after[:3] for _, before, after in found)
    assert {after[3] for *_, after in found} == {b"o", b"n", b"w", b"x"}


def test_a_choice_that_needs_no_lie_takes_none_back():
    def program(disk):
        for name in ("f", "g"):
            disk.open(name).ftruncate(100)
            disk.open(name).fsync()
        disk.open("h").ftruncate(100)

    def recover(disk):
        return tuple(disk.open(name).size() for name in ("f", "h", "g"))

    files = {"f": b"", "g": b"", "h": b""}
    every = agree(explored(program, recover, files, "sync=lying:1"))
    assert {(f, g) for f, _, g in every[-1]} == {(100, 100), (0, 100), (100, 0)}


def test_a_write_is_news_of_its_whole_unit_wherever_that_is():
    def program(disk):
        file = disk.open("f")
        for at in (0, 4096, 8192 - 512):
            file.pwritev([b"n" * 512], at)
            file.fsync()

    for sector in (1, 8, 15):

        def recover(disk, at=sector * 512):
            return disk.open("f").pread(2, at)

        explorer = explored(program, recover, {"f": b"o" * 8192}, "unit=4096")
        assert any(len(every) > 1 for every in agree(explorer))


@pytest.mark.parametrize("lies", [1, 2])
def test_garbage_of_a_longer_file_needs_that_every_sync_since_has_lied(lies):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"n" * 512], 0)
        file.fsync()
        file.fsync()
        disk.open("g").pwritev([b"n"], 0)
        disk.open("g").fsync()

    def recover(disk):
        return disk.open("g").pread(1, 0), disk.open("f").pread(2, 0)

    model = f"extend=garbage,sync=lying:{lies}"
    every = agree(explored(program, recover, {"f": b"", "g": b"o"}, model))
    assert len(every[-1]) == {1: 2, 2: 5}[lies]


def test_a_short_look_after_a_long_one_does_not_forget_where_the_file_has_to_reach():
    def program(disk):
        disk.open("f").ftruncate(1900)
        disk.open("f").ftruncate(500)

    def recover(disk):
        file = disk.open("f")
        return file.ask(lambda view: view(len, 0, 1000)), file.pread(10, 0)

    every = agree(explored(program, recover, {"f": b"o" * 2000}))
    assert [len(one) for one in every] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("model", ["tear=garbage", "unit=4096"])
def test_zeros_written_behind_the_end_are_written_and_may_be_garbage_meanwhile(model):
    def program(disk):
        disk.open("f").pwritev([bytes(512)], 512)

    def recover(disk):
        return tuple(disk.open("f").pread(2, at) for at in (512, 50))

    every = agree(explored(program, recover, {"f": b"o" * 100}, model))
    assert len(every[-1]) > 2


def head(view):
    return view(bytes, 0, 4)


def test_a_part_of_a_question_is_not_known_to_the_next_program_that_began_alike():
    def recover(disk):
        file = disk.open("f")
        return file.size(), file.ask(lambda view: view.part(head))

    shared = Beginnings(Memory(jumps=True))
    for more in (False, True):

        def program(disk, more=more):
            file = disk.open("f")
            file.pwritev([b"new!"], 0)
            file.fsync()
            if more:
                file.pwritev([b"more"], 0)

        plain = explored(program, recover, {"f": b"o" * 512})
        trace, files = [*plain._operations], plain._files
        explorer = Explorer(files, trace, recover, plain.model, beginnings=shared)
        found = [{one.outcome for one in each.outcomes} for each in explorer.sweep()]
        assert found == agree(plain)


def test_what_recovery_makes_has_a_number_of_its_own_at_every_point():
    def program(disk):
        for name in ("a", "b"):
            disk.open(name, create=True).pwritev([name.encode()], 0)

    def recover(disk):
        file = disk.open("n", create=True)
        file.pwritev([b"xyz"], 0)
        seen = [disk.open(one).pread(3, 0) for one in "ab" if disk.exists(one)]
        return file.pread(3, 0), tuple(seen)

    agree(explored(program, recover))


@pytest.mark.parametrize("model", ["", "order=ordered", "sync=lying:1"])
def test_a_question_that_is_read_instead_has_its_answer(model):
    def program(disk):
        file = disk.open("f")
        file.pwritev([b"n"], 0)
        file.pwritev([b"n"], 512)

    def recover(disk):
        # Of two sectors in one look after a fork nothing is merged.
        return disk.open("f").ask(lambda view: (view(sum, 0, 1), view(sum, 0, 513)))

    every = agree(explored(program, recover, {"f": b"o" * 513}, model))
    assert len(every[-1]) == (3 if model == "order=ordered" else 4)


def test_the_same_question_about_another_file_is_another_question():
    """A recovery that mistakes one file for another is refused, not answered."""
    files = {"a": b"o" * 512, "b": b"o" * 512}
    asked = []

    def program(disk):
        for name in ("a", "b"):
            disk.open(name).pwritev([b"n" * 512], 0)

    def recover(disk):
        one, other = disk.open("a"), disk.open("b")
        asked.append(one)
        # The first recovery asks of the one, all others of the other.
        return (one if len(asked) == 1 else other).ask(lambda view: view(bytes, 0, 1))

    with pytest.raises(ReplayError, match="depend on nothing but what it reads"):
        [*explored(program, recover, files).sweep()]


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        ({"files": ["/db"]}, TypeError, "files is a mapping of names to bytes"),
        ({"trace": "write"}, TypeError, "trace is a disk's trace, .* not 'w'"),
        ({"trace": None}, TypeError, "trace is a disk's trace, .* not None"),
        ({"recover": None}, TypeError, "recover is a function of a disk, not None"),
        ({"notice": 1}, TypeError, "notice is a function of choices, not 1"),
        ({"cap": 0}, ValueError, "cap is a number of executions, 1 or more, not 0"),
        ({"cap": float("nan")}, ValueError, "cap is a number of executions"),
        ({"cap": "all"}, ValueError, "cap is a number of executions"),
    ],
)
def test_what_an_explorer_cannot_explore_is_refused_when_it_is_made(wrong, kind, says):
    """A trace of five letters had eleven crash points, and all of them were closed."""
    right = {"files": {}, "trace": Disk().trace, "recover": bool}
    with pytest.raises(kind, match=says):
        Explorer(**{**right, **wrong})


def test_files_of_a_disk_are_a_mapping():
    with pytest.raises(TypeError, match="files is a mapping of names to bytes, not"):
        Disk("x")
