"""An explorer refuses the trace of a disk that is another one than it asks about.

It took the operations as they were, and left out what its own disk may do: no size on
the way of a write under `calls=paged`, no sync that does nothing under
`journal=shared`. A store that rests on the other could be called consistent.
"""

import errno

import pytest

from tornpage.disk import Disk
from tornpage.explore import Explorer, recorded
from tornpage.model import CrashModel

FILES = {"f": b"A" * 100, "g": b"A"}


def grows(disk):
    disk.open("f").pwritev([b"B" * 9000], 100)


def leaves_a_hole(disk):
    # Ten pages: under `ext4-o` a crash may leave the file as long as any of them.
    disk.open("f").pwritev([b"B"], 40_000)


def is_cut(disk):
    file = disk.open("f")
    file.ftruncate(8192)
    file.ftruncate(5000)


def fails(disk):
    disk.fail_sync = lambda _kind, _path, index: 0 if index else errno.EIO
    one, other = disk.open("f"), disk.open("g")
    for file in one, other:
        file.pwritev([b"B"], 0)
    with pytest.raises(OSError, match="error"):
        one.fsync()
    other.fsync()


def outcomes(program, recorded_on, explored_as):
    disk = Disk(FILES, model=CrashModel.parse(recorded_on))
    program(disk)

    def recover(disk):
        return disk.open("f", read_only=True).size()

    found = Explorer(FILES, disk.trace, recover, CrashModel.parse(explored_as)).sweep()
    return {one.outcome for closure in found for one in closure.outcomes}


@pytest.mark.parametrize(
    ("program", "recorded_on", "explored_as", "said"),
    [
        (grows, "calls=whole", "calls=paged", "longer by more than a page"),
        (leaves_a_hole, "calls=whole", "ext4-o", "longer by more than a page"),
        (is_cut, "calls=whole", "xfs", "cut inside a page"),
        (fails, "journal=own", "journal=shared", "works right behind one that failed"),
        (fails, "fail=clean", "fail=revert", "is 'failed'"),
    ],
)
def test_a_trace_of_another_disk_is_refused(program, recorded_on, explored_as, said):
    with pytest.raises(ValueError, match=said):
        outcomes(program, recorded_on, explored_as)
    assert outcomes(program, explored_as, explored_as)


def test_a_trace_that_says_more_is_taken():
    assert outcomes(grows, "calls=paged", "calls=whole") == {100, 4096, 8192, 9100}


@pytest.mark.parametrize("model", ["ext3-w", "ext4-o", "xfs", "btrfs", "calls=paged"])
@pytest.mark.parametrize("program", [grows, leaves_a_hole, is_cut])
def test_a_disk_of_the_model_is_never_refused(program, model):
    disk = Disk(FILES, model=CrashModel.parse(model))
    program(disk)
    sizes = {1: 100, 2: 1}
    assert not recorded.departure(disk.trace.operations(), sizes, disk.model)


@pytest.mark.parametrize(
    "program", [grows, is_cut, lambda disk: disk.open("f").fsync()]
)
def test_a_trace_of_other_files_is_refused(program):
    disk = Disk(FILES)
    program(disk)
    with pytest.raises(ValueError, match="f is not among the files"):
        Explorer({}, disk.trace, lambda _: 0)
