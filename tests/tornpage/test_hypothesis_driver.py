"""Crashes drawn by Hypothesis: legal, remembered, shrunk to the honest disk."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tornpage.choices import Replay
from tornpage.disk import Disk
from tornpage.hypothesis_driver import Drawn


def written_disk():
    disk = Disk({"f": bytes(4096)})
    disk.open("f").pwritev([b"x" * 4096], 0)
    return disk


def read_all(disk):
    file = disk.open("f", read_only=True)
    return b"".join(file.pread(512, at) for at in range(0, 4096, 512))


def test_a_drawn_crash_is_replayed_by_its_tape():
    @settings(max_examples=30, derandomize=True, database=None)
    @given(st.data())
    def check(data):
        disk = written_disk()
        drawn = Drawn(data)
        seen = read_all(disk.crash(drawn))
        assert read_all(disk.crash(Replay(drawn.tape))) == seen
        assert len(drawn.log) == len(drawn.tape) == 8

    check()


@pytest.mark.parametrize("quiet", [False, True])
def test_a_failing_crash_shrinks_to_one_dishonest_choice(quiet):
    smallest = []

    # To explain a failure takes as many runs as to find and to shrink it.
    @settings(
        max_examples=200,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.data())
    def check(data):
        drawn = Drawn(data, quiet=quiet)
        seen = read_all(written_disk().crash(drawn))
        if b"\0" in seen:
            smallest[:] = [drawn.tape]
            raise AssertionError("a sector was lost")

    with pytest.raises(AssertionError, match="a sector was lost") as caught:
        check()
    assert sum(smallest[0]) == 1
    notes = "\n".join(getattr(caught.value, "__notes__", ()))
    assert ("bytes 0..512" in notes) is not quiet
