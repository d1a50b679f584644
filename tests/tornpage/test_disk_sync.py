"""Syncs that fail: what the program is told, and what it sees afterwards."""

import errno
import itertools

import pytest

from tornpage.choices import Replay
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel


def failing(number):
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def disk_of(fail, *numbers, files=None):
    """A disk whose syncs of these numbers fail with EIO."""
    disk = Disk(
        files if files is not None else {"f": b"A" * 1024}, CrashModel(fail=fail)
    )
    disk.fail_sync = lambda _kind, _path, index: errno.EIO * (index in numbers)
    return disk


def results(disk):
    return [one.result for one in disk.trace if one.op.startswith("sync")]


def test_every_sync_is_asked_about_with_its_kind_path_and_number():
    asked = []
    disk = Disk({"d/f": b""})
    disk.fail_sync = lambda *what: asked.append(what) or 0
    file = disk.open("d/f")
    file.fsync()
    file.fdatasync()
    disk.fsync_dir("./d/f")
    assert asked == [
        ("fsync", "d/f", 0),
        ("fdatasync", "d/f", 1),
        ("syncdir", "d/f", 2),
    ]
    disk.fail_sync = None
    file.fsync()
    assert len(asked) == 3


def test_the_errno_is_the_one_that_was_given():
    disk = Disk({"f": b""})
    disk.fail_sync = lambda *_: errno.ENOSPC
    with failing(errno.ENOSPC):
        disk.open("f").fsync()


def test_clean_raises_at_once_and_keeps_the_new_content_in_the_cache():
    disk = disk_of("clean", 0)
    file = disk.open("f")
    file.pwritev([b"B"], 0)
    with failing(errno.EIO):
        file.fsync()
    file.fsync()
    assert file.pread(2, 0) == b"BA"
    assert results(disk) == ["failed", "ok"]


def test_late_returns_raises_next_time_and_is_forgotten_then():
    disk = disk_of("late", 0)
    file, other = disk.open("f"), disk.open("f")
    file.pwritev([b"B"], 0)
    file.fsync()
    with failing(errno.EIO):
        other.fdatasync()
    file.fsync()
    assert results(disk) == ["silent", "reported", "ok"]


def test_revert_takes_content_and_size_back_to_the_last_sync():
    disk = disk_of("revert", 1)
    file = disk.open("f")
    file.pwritev([b"B"], 0)
    file.fsync()
    file.pwritev([b"C"], 0)
    file.pwritev([b"C"], 5000)
    file.ftruncate(600)
    file.ftruncate(9000)
    with failing(errno.EIO):
        file.fsync()
    assert (file.size(), file.pread(9999, 0)) == (1024, b"B" + b"A" * 1023)
    file.pwritev([b"D"], 1)
    assert file.pread(3, 0) == b"BDA"
    assert results(disk) == ["ok", "reverted"]


def test_read_only_refuses_every_change_until_the_crash_and_allows_reads():
    disk = disk_of("read-only", 0)
    file = disk.open("f")
    file.pwritev([b"B"], 0)
    with failing(errno.EIO):
        file.fsync()
    before = list(disk.trace)
    for call in (
        lambda: file.pwritev([b"C"], 0),
        lambda: file.ftruncate(1),
        lambda: disk.open("new", create=True),
        lambda: disk.rename("f", "g"),
        lambda: disk.unlink("f"),
    ):
        with failing(errno.EROFS):
            call()
    assert disk.trace == before
    disk.kill()
    assert disk.read_only
    assert disk.open("f").pread(2, 0) == b"BA"
    again = disk.crash(Replay(()))
    assert not again.read_only
    again.open("f").pwritev([b"C"], 0)


@pytest.mark.parametrize("fail", ["clean", "late", "revert", "read-only"])
def test_a_directory_sync_that_fails_makes_the_file_system_read_only(fail):
    disk = disk_of(fail, 0)
    disk.open("x", create=True)
    with failing(errno.EIO):
        disk.fsync_dir("x")
    assert disk.read_only
    assert results(disk) == ["read-only"]


@pytest.mark.parametrize("fail", ["clean", "late", "revert", "read-only"])
def test_on_a_read_only_file_system_syncs_return_0_and_do_nothing(fail):
    disk = disk_of(fail, 0, 2)
    file = disk.open("f")
    file.pwritev([b"B" * 2000], 0)
    disk.open("x", create=True)
    with failing(errno.EIO):
        disk.fsync_dir("x")
    file.fsync()
    with failing(errno.EIO):
        file.fdatasync()
    disk.fsync_dir("x")
    disk.open_dir(".").fsync()
    assert results(disk) == ["read-only", "idle", "reported", "idle", "idle"]

    def look(disk):
        file = disk.open("f")
        return disk.exists("x"), file.size(), file.pread(1, 0)

    explorer = Explorer({"f": b"A" * 1024}, disk.trace, look, disk.model)
    end = max(explorer.points())
    seen = {one.outcome for one in explorer.close(end).outcomes}
    every = itertools.product((False, True), (1024, 2000), (b"A", b"B"))
    assert seen == explorer.eager(end) == set(every)


@pytest.mark.parametrize("fail", ["clean", "late"])
def test_writing_the_same_bytes_again_is_what_makes_the_next_sync_work(fail):
    def look(disk):
        return disk.open("f").pread(1, 0)

    seen = {}
    for again in (False, True):
        disk = disk_of(fail, 0)
        file = disk.open("f")
        file.pwritev([b"B"], 0)
        for _ in range(2):
            try:
                file.fsync()
            except OSError as error:
                seen.setdefault("errors", []).append(error.errno)
        if again:
            file.pwritev([b"B"], 0)
        file.fsync()
        explorer = Explorer({"f": b"A" * 1024}, disk.trace, look, disk.model)
        end = max(explorer.points())
        seen[again] = {one.outcome for one in explorer.close(end).outcomes}
        assert explorer.eager(end) == seen[again]
    assert seen == {False: {b"A", b"B"}, True: {b"B"}, "errors": [errno.EIO] * 2}


def test_a_trace_on_paper_replays_without_the_fault_script():
    disk = disk_of("clean", 0)
    file = disk.open("f")
    file.pwritev([b"B"], 0)
    with failing(errno.EIO):
        file.fsync()
    file.fsync()
    paper = type(disk.trace).from_json_lines(disk.trace.to_json_lines())
    explorer = Explorer(
        {"f": b"A" * 1024}, paper, lambda one: one.open("f").pread(1, 0), disk.model
    )
    end = explorer.close(max(explorer.points()))
    assert {one.outcome for one in end.outcomes} == {b"A", b"B"}
    for one in end.outcomes:
        assert explorer.replay(end.point, one.tape) == one
