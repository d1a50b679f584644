"""Blocks whose first write failed (`fail=unwritten`): written again they may be zero.

What is legal is said by the litmus lines; here are the faults that they notice, random
programs, and the call by which a program has such a block forgotten.
"""

import contextlib
import dataclasses
import errno
import itertools
import os

import pytest
from explorer_cases import differences, random_cases
from test_model_litmus import LITMUS, found_under

from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.patch import patched
from tornpage.platter.blocks import Blocks
from tornpage.trace import Forget

MODELS = [
    CrashModel(fail="unwritten", tear=tear, order=order, size=size, extend=extend)
    for tear, order, size, extend in itertools.product(
        ("sector", "page"),
        ("any", "append"),
        ("free", "with-data"),
        ("zero", "garbage"),
    )
]
LINES = [one for one in LITMUS if one.model == "fail=unwritten"]


@pytest.mark.seeds(1)
def test_the_explorer_has_the_outcomes_of_brute_force(seed):
    agreed = 0
    seeds = range(seed * len(MODELS), (seed + 1) * len(MODELS))
    for explorer in random_cases(seeds, 8, MODELS, 0.4):
        found, same = differences(explorer, 150)
        assert not found, explorer.model
        agreed += same
    assert agreed > 100


def takes_no_block_for_stuck_for_good(patch):
    patch.setattr(Blocks, "failed", Blocks.synced)


def forgets_no_block(patch):
    patch.setattr(Blocks, "forgotten", lambda self: self)


def forgets_blocks_that_are_to_be_written(patch):
    def forgotten(self):
        return dataclasses.replace(self, marked=frozenset())

    patch.setattr(Blocks, "forgotten", forgotten)


def keeps_blocks_that_were_cut_off(patch):
    patch.setattr(Blocks, "cut", lambda self, size: self)


def takes_every_block_for_new(patch):
    right = Blocks.failed

    def failed(self):
        return right(dataclasses.replace(self, old=frozenset(), found=0))

    patch.setattr(Blocks, "failed", failed)


PLANTS = (
    takes_no_block_for_stuck_for_good,
    forgets_no_block,
    forgets_blocks_that_are_to_be_written,
    keeps_blocks_that_were_cut_off,
    takes_every_block_for_new,
)


@pytest.mark.parametrize("plant", PLANTS)
def test_the_lines_notice_an_explorer_that(plant, monkeypatch):
    plant(monkeypatch)
    # Not the one that keeps what it has found.
    fresh = found_under.__wrapped__
    found = []
    for line in LINES:
        with contextlib.suppress(AssertionError):
            found.append(fresh(LITMUS.index(line), CrashModel.parse(line.model)))
    assert found != [line.allowed for line in LINES]


@pytest.mark.parametrize("length", [0, 4096])
def test_advice_to_drop_all_pages_of_a_file_has_its_blocks_forgotten(length):
    disk = Disk({}, CrashModel(fail="unwritten"))
    disk.fail_sync = lambda _kind, _path, index: errno.EIO * (index == 1)
    with patched(disk, "/db") as root:
        file = os.open(f"{root}/f", os.O_RDWR | os.O_CREAT)
        folder = os.open(root, os.O_RDONLY)
        os.fsync(folder)
        os.write(file, b"B")
        with pytest.raises(OSError, match="Input/output error"):
            os.fsync(file)
        os.posix_fadvise(file, 0, length, os.POSIX_FADV_DONTNEED)
        os.pwrite(file, b"C", 0)
        os.fsync(file)

    def look(disk):
        return disk.open("/db/f").pread(9, 0)

    explorer = Explorer({}, disk.trace, look, disk.model)
    end = explorer.close(max(explorer.points()))
    seen = {one.outcome for one in end.outcomes}
    # Part of a file stays: a disk that takes a hint as none is the weaker one.
    assert seen == ({b"C"} if not length else {b"\0", b"B", b"C"})
    kinds = [type(one) for one in disk.trace.operations()]
    assert kinds.count(Forget) == (not length)


def test_what_is_forgotten_is_an_operation_only_where_it_matters():
    disk = Disk({"f": b"A"})
    file = disk.open("f")
    file.forget()
    assert not disk.trace
    disk = Disk({"f": b"A"}, CrashModel(fail="unwritten"))
    disk.open("f").forget()
    assert [one.op for one in disk.trace] == ["forget"]
    assert type(disk.trace).from_json_lines(disk.trace.to_json_lines()) == disk.trace
