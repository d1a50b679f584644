"""A sync takes images away, and brings none.

A kernel may write back whenever it likes. So what a crash leaves of a program that
syncs somewhere it may leave of the program without that sync, too, as if the kernel
had done it by itself. Nothing of this is in the explorer or in brute force.

Left out: two cuts of an atom between which nothing was written there.
"""

import random

import pytest

from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.platter import transition

# Not those whose syncs lie: there one zeroes what is behind the end of a file.
MODELS = (
    *("order=any", "tear=page", "size=with-data", "size=with-block", "order=append"),
    *("order=append,size=with-block", "order=ordered", "calls=paged", "ext4-o", "xfs"),
)


def steps(draw):
    """A cut of one file, and writes around the ends of its two atoms."""
    program = [("cut", draw.choice((0, 1, 300, 512)))]
    for number in range(draw.choice((1, 2, 3))):
        data = bytes([66 + number]) * draw.choice((1, 600))
        program.append(("write", draw.choice((0, 1, 300, 512)), data))
    return program


def left(program, content, model):
    """What a crash behind the program may leave: sizes, and bytes here and there."""
    disk = Disk({"f": content}, model)
    file = disk.open("f")
    for what, *given in program:
        if what == "cut":
            file.ftruncate(*given)
        elif what == "write":
            file.pwritev([given[1]], given[0])
        else:
            file.fsync()

    def look(crashed):
        found = crashed.open("f", read_only=True)
        places = 0, 1, 299, 511, 512, 899
        return found.size(), *(found.pread(1, at) for at in places)

    explorer = Explorer({"f": content}, disk.trace, look, model)
    closure = explorer.close(max(explorer.points()))
    assert closure.closed
    return {one.outcome for one in closure.outcomes}


def brought(text, numbers):
    """What a sync brings, with the program; and how many images one takes away."""
    model, taken = CrashModel.parse(text), 0
    for number in numbers:
        draw = random.Random(number)
        content = b"A" * draw.choice((512, 600))
        program = steps(draw)
        at = draw.randrange(1, len(program))
        without = left(program, content, model)
        synced = left([*program[:at], ("sync",), *program[at:]], content, model)
        if more := synced - without:
            return (number, program, at, sorted(more)), taken
        taken += len(without - synced)
    return None, taken


@pytest.mark.parametrize("text", MODELS)
def test_a_sync_takes_images_away_and_brings_none(text):
    found, taken = brought(text, range(4))
    assert found is None
    assert taken


# XFS has it from zeros that a cut writes, and from sizes that come with their data.
@pytest.mark.parametrize("text", MODELS[:-1])
def test_a_cut_that_is_forgotten_by_what_grows_over_it_is_noticed(text, monkeypatch):
    monkeypatch.setattr(transition, "_zero_what_was_cut", lambda *_: None)
    assert brought(text, (0, 2, 39))[0] is not None
