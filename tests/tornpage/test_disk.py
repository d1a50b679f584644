"""The live disk: it behaves like a machine, and fails like one."""

import errno
import os
import random
import threading

import pytest

from tornpage.choices import Replay
from tornpage.disk import Disk
from tornpage.model import CrashModel


def failing(number):
    return pytest.raises(OSError, check=lambda error: error.errno == number)


@pytest.mark.parametrize("tear", ["page", "sector", "byte"])
@pytest.mark.parametrize("seed", range(8))
def test_reads_writes_and_truncates_do_what_the_real_ones_do(seed, tear, tmp_path):
    draw = random.Random(seed)
    start = draw.randbytes(draw.choice((0, 3, 5000)))
    real_path = tmp_path / "file"
    real_path.write_bytes(start)
    real = os.open(real_path, os.O_RDWR)
    file = Disk({"file": start}, CrashModel(tear)).open("file")
    for _ in range(150):
        at, length = draw.randrange(9000), draw.choice((0, 1, 100, 512, 4096, 6000))
        what = draw.random()
        if what < 0.4:
            data = [draw.randbytes(length), b"", draw.randbytes(3)]
            assert file.pwritev(data, at) == os.pwritev(real, data, at)
        elif what < 0.5:
            file.ftruncate(at)
            os.ftruncate(real, at)
        else:
            assert file.pread(length, at) == os.pread(real, length, at)
        assert file.size() == os.fstat(real).st_size
    os.close(real)


def test_open_fails_as_the_real_one_does():
    disk = Disk({"db": b""})
    with pytest.raises(FileNotFoundError):
        disk.open("nothing")
    with pytest.raises(FileExistsError):
        disk.open("db", create=True, exclusive=True)
    disk.open("./db")
    disk.open("db", create=True)


def test_a_missing_name_cannot_be_renamed_or_removed():
    disk = Disk()
    with pytest.raises(FileNotFoundError):
        disk.rename("a", "b")
    with pytest.raises(FileNotFoundError):
        disk.unlink("a")
    assert not disk.trace


def test_what_fails_finds_no_directory_that_nobody_has_spoken_of():
    disk = Disk({"a": b""})
    for source, target in [("d/x", "d/x"), ("d/x", "e/y"), ("a", "a/b/c")]:
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            disk.rename(source, target)
    with pytest.raises(FileNotFoundError):
        disk.link("d/x", "e/y")
    for call in (disk.unlink, disk.rmdir):
        with pytest.raises(FileNotFoundError):
            call("d/x")
    assert not disk.is_dir("d")
    assert not disk.is_dir("e")
    disk.rename("a", "d/x")
    assert disk.is_dir("d")


def test_rename_replaces_and_an_open_file_keeps_its_content():
    disk = Disk({"a": b"aaa", "b": b"bbb"})
    old = disk.open("b")
    disk.rename("a", "b")
    assert not disk.exists("a")
    assert disk.open("b").pread(9, 0) == b"aaa"
    assert old.pread(9, 0) == b"bbb"
    disk.unlink("b")
    assert not disk.exists("b")
    assert old.identity() != disk.open("b", create=True).identity()


def test_directories_fail_as_the_real_ones_do():
    disk = Disk({"a": b"1", "d/x": b"2"})
    disk.mkdir("e")
    with failing(errno.EEXIST):
        disk.mkdir("e")
    with failing(errno.EEXIST):
        disk.mkdir("a")
    with failing(errno.EEXIST):
        disk.mkdir(".")
    with failing(errno.ENOENT):
        disk.mkdir("e/f/g")
    with failing(errno.ENOENT):
        disk.open("e/f/g", create=True)
    with failing(errno.ENOTDIR):
        disk.open("a/x", create=True)
    with failing(errno.EISDIR):
        disk.open("e", create=True)
    with failing(errno.EISDIR):
        disk.unlink("d")
    with failing(errno.EISDIR):
        disk.rename("a", "d")
    with failing(errno.ENOENT):
        disk.rename("a", "e/f/g")
    with failing(errno.ENOTEMPTY):
        disk.rmdir("d")
    with failing(errno.ENOTDIR):
        disk.rmdir("a")
    with failing(errno.ENOENT):
        disk.rmdir("g")
    with failing(errno.EBUSY):
        disk.rmdir(".")
    with failing(errno.ENOTDIR):
        disk.listdir("a")
    with failing(errno.ENOENT):
        disk.listdir("g")
    with failing(errno.ENOTDIR):
        disk.rename("d", "a")
    with failing(errno.ENOTEMPTY):
        disk.rename("e", "d")
    with failing(errno.EINVAL):
        disk.rename("d", "d/y")
    with failing(errno.EBUSY):
        disk.rename(".", "d")
    with failing(errno.ENOENT):
        disk.rename("g", "h")
    with failing(errno.ENOENT):
        disk.open_dir("g")
    with failing(errno.ENOTDIR):
        disk.open_dir("a")
    with failing(errno.ENOENT):
        disk.fsync_dir("e/f/g")
    assert disk.listdir(".") == ["a", "d", "e"]
    assert [disk.is_dir(name) for name in ("a", "d", "e", "g")] == [0, 1, 1, 0]
    disk.unlink("d/x")
    disk.rmdir("d")
    assert disk.listdir(".") == ["a", "e"]
    with failing(errno.ENOENT):
        disk.open("d/y", create=True)


def test_a_renamed_directory_takes_along_what_is_in_it():
    disk = Disk({"d/e/x": b"1", "f/": b""})
    file, folder = disk.open("d/e/x"), disk.open_dir("d/e")
    disk.rename("d", "d")
    disk.rename("d", "f")
    disk.rename("f/e", "g")
    assert disk.listdir(".") == ["f", "g"]
    assert disk.listdir("g") == ["x"]
    assert disk.open("g/x").identity() == file.identity()
    assert disk.open_dir("g").number == folder.number
    disk.mkdir("d")
    assert not disk.listdir("d")
    with failing(errno.ENOENT):
        disk.open("d/e/x")


def test_an_open_directory_is_synced_wherever_it_is():
    disk = Disk()
    disk.mkdir("d")
    folder = disk.open_dir("d")
    disk.rename("d", "e")
    folder.fsync()
    assert disk.trace.operations()[-1].path == "e/."
    disk.rmdir("e")
    before = len(disk.trace)
    folder.fsync()
    assert len(disk.trace) == before


def test_a_file_has_the_names_that_it_is_given():
    disk = Disk({"a": b"1", "d/": b""}, links={"b": "a"})
    disk.link("b", "d/c")
    for name in ("a", "b", "d/c"):
        assert disk.open(name).identity() == disk.open("a").identity()
    disk.open("d/c").pwritev([b"22"], 0)
    disk.unlink("a")
    assert disk.open("b").pread(9, 0) == b"22"
    disk.rename("b", "d/c")
    assert disk.exists("b")
    assert disk.exists("d/c")
    with failing(errno.EEXIST):
        disk.link("b", "d/c")
    with failing(errno.EPERM):
        disk.link("d", "e")
    with failing(errno.ENOENT):
        disk.link("a", "e")
    with failing(errno.ENOENT):
        disk.link("b", "d/e/f")


def test_a_directory_that_nobody_made_has_been_there():
    disk = Disk()
    assert not disk.is_dir("d")
    disk.open("d/e/x", create=True).fsync()
    assert disk.listdir("d") == ["e"]
    disk.fsync_dir("d/e/x")
    after = disk.crash(Replay([]))
    assert after.exists("d/e/x")
    with failing(errno.EEXIST):
        after.mkdir("d/e")


def test_a_directory_that_was_made_is_lost_with_what_is_in_it():
    disk = Disk({"given/": b""}, CrashModel(entries="free"))
    disk.mkdir("d")
    file = disk.open("d/x", create=True)
    file.pwritev([b"1"], 0)
    file.fsync()
    disk.fsync_dir("d/x")
    after = disk.crash(Replay([1]))
    assert not after.exists("d/x")
    assert after.listdir(".") == ["given"]
    with failing(errno.ENOENT):
        after.open("d/x", create=True)
    after.mkdir("d")
    assert after.listdir("d") == []
    # As is the sync of the directory that it is in what makes it durable.
    disk.fsync_dir("d")
    assert disk.crash(Replay([])).exists("d/x")


def test_a_directory_that_is_assumed_has_nothing_unknown_in_it():
    disk = Disk({"d/x": b"1"})
    disk.assume_dir("d")
    disk.assume_dir("e")
    for name in ("d/f/x", "e/f/x"):
        with failing(errno.ENOENT):
            disk.open(name, create=True)
    assert [disk.listdir(name) for name in ("d", "e")] == [["x"], []]
    disk.rmdir("e")
    disk.assume_dir("e")
    assert not disk.is_dir("e")
    assert [one.op for one in disk.trace] == ["rmdir"]
    assert disk.crash(Replay([1])).is_dir("e")


def test_a_closed_file_is_a_bad_descriptor():
    file = Disk({"db": b"x"}).open("db")
    file.close()
    file.close()
    for call in (
        lambda: file.pread(1, 0),
        lambda: file.pwritev([b"x"], 0),
        lambda: file.ftruncate(0),
        file.fsync,
        file.fdatasync,
        file.size,
        file.unlock,
        file.identity,
        lambda: file.lock(True),
    ):
        with failing(errno.EBADF):
            call()


def test_a_file_opened_for_reading_refuses_to_change():
    disk = Disk({"db": b"x"})
    file = disk.open("db", read_only=True)
    with failing(errno.EBADF):
        file.pwritev([b"y"], 0)
    with failing(errno.EINVAL):
        file.ftruncate(0)
    assert file.pread(9, 0) == b"x"
    assert not disk.trace


def test_negative_offsets_and_sizes_are_refused():
    file = Disk({"db": b"x"}).open("db")
    for call in (
        lambda: file.pread(1, -1),
        lambda: file.pread(-1, 0),
        lambda: file.pwritev([b"y"], -1),
        lambda: file.ftruncate(-1),
    ):
        with failing(errno.EINVAL):
            call()


def test_locks_belong_to_open_files_as_with_flock():
    disk = Disk({"db": b""})
    one, other, third = (disk.open("db") for _ in range(3))
    assert one.lock(False)
    assert other.lock(False)
    assert not third.lock(True)
    assert not one.lock(True)  # A failed conversion loses the lock ...
    assert other.lock(True)  # ... so that this one succeeds.
    assert not third.lock(False)
    other.close()
    assert third.lock(True)
    third.unlock()
    assert one.lock(True)


def test_a_killed_process_loses_its_files_and_locks_and_nothing_else():
    disk = Disk({"db": b"old"})
    file = disk.open("db")
    assert file.lock(True)
    file.pwritev([b"new!"], 0)
    disk.kill()
    with failing(errno.EBADF):
        file.pread(1, 0)
    again = disk.open("db")
    assert again.lock(True)
    assert again.pread(9, 0) == b"new!"
    assert again.size() == 4


def test_time_passes_only_in_sleep_and_timers_fire_on_the_way():
    disk = Disk()
    seen = []
    disk.timer(2.0, lambda: seen.append(("b", disk.monotonic())))
    disk.timer(1.0, lambda: seen.append(("a", disk.monotonic())))
    disk.timer(1.0, lambda: seen.append(("c", disk.monotonic())))
    never = disk.timer(1.5, lambda: seen.append(("never", 0.0)))
    assert disk.monotonic() == 0.0
    never.cancel()
    disk.sleep(1.0)
    assert seen == [("a", 1.0), ("c", 1.0)]
    disk.sleep(5.0)
    assert seen[2:] == [("b", 2.0)]
    assert disk.monotonic() == 6.0


def test_waiting_with_a_time_out_takes_simulated_time_only():
    disk = Disk()
    condition = disk.condition()
    with condition:
        assert not condition.wait(1000.0)
    mutex = disk.mutex()
    with mutex:
        assert not mutex.acquire(blocking=False)
        assert disk.monotonic() == 1000.0
        assert not mutex.acquire(timeout=500.0)
        disk.timer(100.0, mutex.release)
        assert mutex.acquire(timeout=500.0)
        assert mutex.locked()
    assert mutex.acquire(timeout=500.0)
    assert disk.monotonic() == 2000.0
    assert disk.thread_id() == threading.get_ident()
    assert disk.pid() == Disk().pid()


def test_a_condition_without_time_out_waits_for_the_other_thread():
    condition = Disk().condition()
    ready = []

    def other():
        with condition:
            ready.append(True)
            condition.notify_all()

    with condition:
        thread = threading.Thread(target=other)
        thread.start()
        while not ready:
            assert condition.wait()
    thread.join()


class Untouchable(bytes):
    """Base content that may be sliced in small pieces and never copied."""

    largest = 0

    def __getitem__(self, key):
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            Untouchable.largest = max(Untouchable.largest, stop - start)
        return super().__getitem__(key)


def test_the_base_is_shared_and_read_in_small_pieces_only():
    base = Untouchable(64 << 20)
    disk = Disk({"db": base})
    file = disk.open("db")
    file.pwritev([b"x" * 5000], 32 << 20)
    assert file.pread(4, (32 << 20) - 2) == b"\0\0xx"
    assert disk.image().files[1].base is base
    assert Untouchable.largest <= 4096
