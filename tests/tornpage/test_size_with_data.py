"""A size that comes with its data, on a disk that damages what it writes.

Such a size says of some writes that they have ended, so that they damage nothing any
more. The explorer and brute force have to agree on which, and brute force with a third
one: `by_the_book` walks the bytes of one file as the documents have them. It knows
disks without order, and of programs writes, cuts and syncs that work or fail.
"""

import contextlib
import dataclasses
import errno
import itertools
import math
import random

import pytest
from explorer_cases import differences, random_question
from test_several_crashes import crash_after_crash

from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.platter.brute import Device, Platter, TooManyImages
from tornpage.platter.brute_file import CachedFile
from tornpage.platter.cell import Cell
from tornpage.platter.damage import garbage
from tornpage.platter.file_image import Extension, FileImage
from tornpage.trace import Forget, Sync, Write

MODELS = [
    CrashModel(tear=tear, unit=unit, order=order, extend=extend, size="with-data")
    for tear, unit, order, extend in itertools.product(
        ("sector", "byte", "garbage", "page"),
        ("none", "4096", "8192"),
        ("any", "append"),
        ("zero", "garbage"),
    )
]
# Images that are built for one crash point, of a file and with all that looks at it.
_IMAGES, _FEW = 400, 100


def program(seed, model, failing=0.0):
    """(files, trace) of writes, cuts and syncs of one file around the ends of atoms."""
    draw = random.Random(seed)
    few = model.mixes
    content = b"\x01" * draw.choice((0, 100, 520) if few else (0, 100, 512, 520, 1500))
    disk = Disk({"f": content}, model)
    file = disk.open("f")
    far = model.atom - 512
    for step in range(draw.choice((3, 4, 5))):
        what = draw.random()
        if what < 0.6:
            length = draw.choice((1, 2) if few else (1, 3, 20, 520, 1100))
            at = draw.choice((0, 10, 300, 500, 511, 512, 600, 1024))
            file.pwritev([bytes([10 + step]) * length], at + draw.choice((0, far)))
        elif what < 0.93:
            size = draw.choice((0, 50, 300, 512, 600, 1030, 1200))
            file.ftruncate(size + draw.choice((0, far)))
        else:
            sync(file)
        if failing and draw.random() < failing:
            disk.fail_sync = lambda *_: errno.EIO
            sync(file)
            disk.fail_sync = None
    return {"f": content}, disk.trace


def written_again(seed, model):
    """The same of blocks whose first write may fail, and is made again."""
    draw = random.Random(seed)
    content = b"\x01" * draw.choice((0, 0, 100))
    disk = Disk({"f": content}, model)
    file = disk.open("f")
    for step in range(draw.choice((3, 4, 5))):
        file.pwritev([bytes([10 + step])], draw.choice((0, 10, 600, 4100)))
        what = draw.random()
        if what < 0.15:
            file.forget()
        number = errno.EIO if draw.random() < 0.7 else 0
        disk.fail_sync = lambda *_, number=number: number
        if draw.random() < 0.8:
            sync(file)
        if what > 0.7:
            file.forget()
        elif what > 0.6:
            file.ftruncate(draw.choice((0, 11, 4096)))
    return {"f": content}, disk.trace


def sync(file):
    """Sync a file, whatever becomes of it."""
    with contextlib.suppress(OSError):
        file.fsync()


def look(seed):
    """A recovery that reads and asks, and sometimes writes, here and there."""

    def recover(disk):
        draw = random.Random(seed)
        seen = []
        file = disk.open("f")
        for _ in range(draw.choice((2, 3, 5))):
            what, at = draw.random(), draw.choice((0, 5, 300, 512, 1000, 1024, 4100))
            if what < 0.65:
                seen.append(file.pread(draw.choice((1, 20, 600, 3000)), at))
            elif what < 0.8:
                seen.append(file.size())
            elif what < 0.9:
                try:
                    seen.append(file.ask(random_question(seed, at)))
                except ZeroDivisionError:
                    seen.append(None)
            else:
                file.pwritev([b"\x07" * draw.choice((1, 512))], at)
        return tuple(seen)

    return recover


def by_the_book(content, operations, model):
    """Every content of the file after a crash, from what the documents say."""
    atom = model.atom
    cache = bytearray(content)
    # Of each atom what it has looked like, and which operation made it so.
    looks = {}
    # What a failed sync left behind, and of it what the blocks may lack: the write
    # that made the file longer by this atom.
    clean = set()
    fresh, lacking = {}, {}

    def note(start, end, step, handed=()):
        for at in range(start // atom, -(-end // atom)):
            if at * atom // 4096 in bad:
                clean.add(at)
            else:
                clean.discard(at)
            now = bytes(cache[at * atom : (at + 1) * atom]).ljust(atom, b"\0")
            past = looks.setdefault(at, [(-1, bytes(atom))])
            if now != past[-1][1] or at in handed:
                past.append((step, now))

    def settle():
        for at in {*looks, *range(-(-len(cache) // atom))} - clean:
            lacking.pop(at, None)
            now = bytes(cache[at * atom : (at + 1) * atom]).ljust(atom, b"\0")
            looks[at] = [(-1, now)]

    settle()
    # Under fail=unwritten blocks of 4,096 bytes: which have come, which are on their
    # way, and which are zeros for good, perhaps.
    had = set(range(-(-len(content) // 4096)))
    going, bad = set(), set()
    # Of each byte that is there because a write made the file longer: which one.
    added = {}
    # Each size with the operation that made it, and the bytes that it shows.
    sizes = [(len(content), {})]
    # Whether a sync has failed since the size was changed; what was written since then.
    stuck, reached = False, 0
    # The operation that made the present size.
    since = -1
    for step, one in enumerate(operations):
        old = len(cache)
        if isinstance(one, Sync):
            if one.result == "ok":
                had |= going - bad
            elif model.fail == "unwritten":
                bad |= going - had
            going = set()
            if one.result == "ok" and stuck:
                # What is behind the end is there still, if a longer size is.
                for at in looks.keys() - clean:
                    lacking.pop(at, None)
                    looks[at] = [(-1, looks[at][-1][1])]
                sizes = [size for size in sizes if size[0] >= reached]
            elif one.result == "ok":
                settle()
                sizes = [(old, {})]
            else:
                stuck, reached = len(sizes) > 1, 0
                clean |= {at for at, past in looks.items() if len(past) > 1}
                clean |= fresh.keys()
                lacking.update(fresh)
                # They may come alone from now on.
                sizes = [(size, {}) for size, _ in sizes]
            added, fresh = {}, {}
            continue
        if isinstance(one, Forget):
            bad &= going
            continue
        # What goes to the drive, be it new or not.
        handed = set()
        if isinstance(one, Write):
            start, end = one.offset, one.offset + len(one.data)
            reached = max(reached, end)
            if (
                old % atom
                and start < -(-old // atom) * atom
                and old // atom * atom < end
            ):
                # What was cut off has been zero since then.
                note(old, old + 1, since)
            going |= set(range(start // 4096, -(-end // 4096)))
            handed |= {*range(start // atom, -(-end // atom))}
            cache.extend(bytes(max(end - old, 0)))
            cache[start:end] = one.data
            added.update(dict.fromkeys(range(max(start, old), end), step))
            whole = range(max(start // atom, -(-old // atom)), -(-end // atom))
            fresh.update(dict.fromkeys(whole, step))
        else:
            # A cut is a change of the size alone, and so is a hole but for the end.
            start = end = one.size
            cache.extend(bytes(max(end - old, 0)))
            del cache[end:]
            added = {at: by for at, by in added.items() if at < end}
            for blocks in (had, going, bad):
                blocks -= {block for block in blocks if block * 4096 >= end}
        if end > old and old % atom:
            handed.add(old // atom)
        if start < end or end > old:
            note(min(start, old), end, step, handed if model.spoils else ())
        if len(cache) != old:
            since = step
            sizes.append((len(cache), added.copy()))
            stuck = False
    found = set()
    for size, shown in sizes:
        # What came with the size is there. The drive may have gone on from it.
        came = {}
        for at, step in shown.items():
            came[at // atom] = max(came.get(at // atom, -1), step)
        still = {}
        for at, past in looks.items():
            reached = [n for n, one in enumerate(past) if one[0] <= came.get(at, -1)]
            still[at] = past[reached[-1] :]
        writing = {at for at, past in still.items() if len(past) > 1}
        choices = []
        for at in range(-(-size // atom)):
            whole = [one for _, one in still.get(at, [(-1, bytes(atom))])]
            legal = {*whole}
            if model.mixes:
                for one, other in itertools.permutations(whole, 2):
                    legal |= {one[:k] + other[k:] for k in range(1, atom)}
            unit = model.unit_atoms
            near = {one for one in writing if one // unit == at // unit and one != at}
            stale = model.extend == "garbage" and lacking.get(at, -1) > came.get(at, -1)
            if near or stale or (model.tear == "garbage" and at in writing):
                legal.add(garbage(at, atom))
            choices.append(legal)
        if math.prod(map(len, choices)) > _IMAGES:
            raise TooManyImages("too many images for a small case")
        found |= {b"".join(one)[:size] for one in itertools.product(*choices)}
    return found


def compared_with_the_book(numbers, failing, fail="clean"):
    """How many programs have the images of the book, and how many have several."""
    compared = several = 0
    free = [one for one in MODELS if one.order == "any"]
    for number in numbers:
        model = dataclasses.replace(free[number % len(free)], fail=fail)
        if model.unwritten:
            files, trace = written_again(number, model)
        else:
            files, trace = program(number, model, failing)
        try:
            book = by_the_book(files["f"], trace.operations(), model)
        except TooManyImages:
            continue
        platter = Platter(Device(files), model)
        for one in trace.operations():
            platter.apply(one)
        images = {one.files["f"] for one in platter.images(20 * _IMAGES)}
        assert images == book, (number, str(model))
        compared += 1
        several += len(book) > 5
    return compared, several


@pytest.mark.seeds(1)
@pytest.mark.parametrize(
    ("failing", "fail"), [(0.0, "clean"), (0.4, "clean"), (0.4, "unwritten")]
)
def test_brute_force_has_the_images_that_the_documents_describe(seed, failing, fail):
    numbers = range(seed * 120, (seed + 1) * 120)
    compared, several = compared_with_the_book(numbers, failing, fail)
    assert compared > 80
    assert several > 40


def settles_a_size_that_a_failed_sync_left(patch):
    patch.setattr(CachedFile, "_size_is_stuck", lambda self: False)


def brings_nothing_of_it_by_writing(patch):
    patch.setattr(CachedFile, "rewritten", property(lambda *_: 0, lambda *_: None))


def forgets_what_need_be_written(patch):
    patch.setattr(
        CachedFile, "forget", lambda self: self.blocks.clear() or self.stuck.clear()
    )


def knows_no_blocks(patch):
    patch.setattr(CachedFile, "blocks", property(lambda _: {}, lambda *_: None))


BROKEN = {
    settles_a_size_that_a_failed_sync_left: "clean",
    brings_nothing_of_it_by_writing: "clean",
    knows_no_blocks: "unwritten",
    forgets_what_need_be_written: "unwritten",
}


@pytest.mark.parametrize("plant", BROKEN)
def test_the_book_notices_brute_force_that(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        compared_with_the_book(range(120), 0.4, BROKEN[plant])


def case(number, failing=0.0):
    # Twenty-four in a row have all values of all parameters.
    model = MODELS[number * 5 % len(MODELS)]
    files, trace = program(number, model, failing)
    return Explorer(files, trace, look(number), model, cap=4 * _IMAGES)


@pytest.mark.seeds(1)
def test_the_explorer_has_the_outcomes_of_brute_force(seed):
    agreed = 0
    for number in range(seed * 24, (seed + 1) * 24):
        explorer = case(number)
        found, same = differences(explorer, _FEW)
        assert not found, (number, str(explorer.model))
        agreed += same
    assert agreed > 100


def believes_that_no_write_has_ended(patch):
    patch.setattr(Cell, "ended", lambda self, came: self)


def believes_that_every_write_has_ended(patch):
    right = Cell.ended
    patch.setattr(Cell, "ended", lambda self, came: right(self, lambda at: 1 << 60))


def ends_writes_of_a_longer_file_with_any_size(patch):
    right = FileImage.came
    patch.setattr(FileImage, "came", lambda self, at, arrived: right(self, at, 1 << 60))


def spares_the_neighbours_of_what_has_grown(patch):
    right = Cell.spoiled

    def spoiled(self, noise, flights):
        return right(self, noise, [one for one in flights if one[1] == 1 << 62])

    patch.setattr(Cell, "spoiled", spoiled)


def takes_a_file_for_never_cut(patch):
    patch.setattr(Extension, "cut", lambda self, size, stamp: (self,))


# Each with a case that shows it.
PLANTS = {
    believes_that_no_write_has_ended: 2,
    believes_that_every_write_has_ended: 2,
    ends_writes_of_a_longer_file_with_any_size: 2,
    spares_the_neighbours_of_what_has_grown: 2,
    takes_a_file_for_never_cut: 182,
}


@pytest.mark.parametrize("plant", PLANTS)
def test_brute_force_notices_an_explorer_that(plant, monkeypatch):
    assert not differences(case(PLANTS[plant]), _FEW)[0]
    plant(monkeypatch)
    assert differences(case(PLANTS[plant]), _FEW)[0]


def settles_a_stuck_size(patch):
    patch.setattr(FileImage, "size_is_stuck", property(lambda self: False))


def keeps_a_size_that_was_written_again(patch):
    def outlives(self, size):
        return size is self.sizes[-1] or self.size_is_stuck

    patch.setattr(FileImage, "outlives", outlives)


def settles_a_stuck_size_by_any_write(patch):
    def outlives(self, size):
        return size is self.sizes[-1] or (self.size_is_stuck and not self.rewritten)

    patch.setattr(FileImage, "outlives", outlives)


def keeps_a_size_stuck_that_was_changed(patch):
    def is_stuck(self):
        return len(self.sizes) > 1 and self.failed >= 0

    patch.setattr(FileImage, "size_is_stuck", property(is_stuck))


# Each with a case that shows it.
STUCK = {
    settles_a_stuck_size: 8,
    keeps_a_size_that_was_written_again: 16,
    settles_a_stuck_size_by_any_write: 130,
    keeps_a_size_stuck_that_was_changed: 15,
}


@pytest.mark.parametrize("plant", STUCK)
def test_brute_force_notices_behind_a_failed_sync_an_explorer_that(plant, monkeypatch):
    assert not differences(case(STUCK[plant], 0.4), _FEW)[0]
    plant(monkeypatch)
    assert differences(case(STUCK[plant], 0.4), _FEW)[0]


def rows_of_two_crashes(places):
    """A write in the unit of a longer end that the first crash left undecided."""
    model = CrashModel.parse("size=with-data,unit=4096")
    files = {"f": b"A" * 1024}
    disk = Disk(files, model)
    disk.open("f").pwritev([b"B"], 1024)

    def write(disk):
        disk.open("f").pwritev([b"C" * 512], 0)

    def recover(disk):
        file = disk.open("f")
        return tuple(file.pread(1, at) for at in places)

    explorer = Explorer(files, disk.trace, recover, model)
    end = max(explorer.points())
    return crash_after_crash(explorer, end, [(write, None)], recover)


@pytest.mark.parametrize("places", [(0, 512, 1024), (1024, 0, 512)])
def test_a_write_beside_a_longer_end_decides_whether_it_is_there(places):
    """The end was there without its data, under what the second crash damaged."""
    reached, every = rows_of_two_crashes(places)
    assert reached == every
    assert len(every) == 14


def test_rows_of_images_notice_an_explorer_that_does_not_decide_it(monkeypatch):
    def near(self, node, first, behind):
        return any(
            at in one.atoms(512)
            for one in node.image.extensions
            for at in range(first, behind)
        )

    monkeypatch.setattr(Life, "_near_extension", near)
    reached, every = rows_of_two_crashes((0, 512, 1024))
    assert reached > every


@pytest.mark.parametrize("reads", [False, True])
def test_zeros_over_what_a_size_says_is_zero_are_no_write(reads):
    """The next life's write of zeros put a sector in flight that held nothing else."""
    model = CrashModel.parse("size=with-data,unit=8192")
    disk = Disk({"f": b""}, model)
    disk.open("f").pwritev([b"B" * 520], 1024)

    def again(disk):
        file = disk.open("f")
        if reads:
            file.pread(1, 0)
        file.ftruncate(0)
        file.pwritev([b"C" * 512], 512)

    def recover(disk):
        return disk.open("f").pread(1600, 0)

    explorer = Explorer({"f": b""}, disk.trace, recover, model)
    end = max(explorer.points())
    reached, every = crash_after_crash(explorer, end, [(again, None)], recover)
    assert reached == every
    assert len(every) > 10


BLOCKS = [
    CrashModel(tear=tear, order=order, extend=extend, unit=unit, size="with-block")
    for tear, order, extend, unit in (
        ("sector", "any", "zero", "none"),
        ("page", "any", "zero", "none"),
        ("sector", "append", "garbage", "4096"),
    )
]


def compared_blocks(seeds):
    """How many crash points of several outcomes brute force agrees on."""
    compared = 0
    for number in seeds:
        model = BLOCKS[number % len(BLOCKS)]
        files, trace = program(number, model, failing=0.2 * (number % 2))
        explorer = Explorer(files, trace, look(number), model)
        for closure in explorer.sweep():
            with contextlib.suppress(TooManyImages):
                every = explorer.eager(closure.point, _FEW)
                assert closure.closed
                assert {one.outcome for one in closure.outcomes} == every
                compared += len(every) > 1
    return compared


@pytest.mark.seeds(1)
def test_brute_force_agrees_on_sizes_that_come_with_new_blocks_only(seed):
    assert compared_blocks(range(seed * 30, (seed + 1) * 30)) > 30


def test_brute_force_notices_an_explorer_that_takes_a_block_for_its_data(monkeypatch):
    monkeypatch.setattr(CrashModel, "coupled_from", lambda _, size: size)
    with pytest.raises(AssertionError):
        compared_blocks(range(30))
