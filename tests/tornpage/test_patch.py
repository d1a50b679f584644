"""What reaches the disk when, what a patch refuses, and what it leaves alone."""

# ruff: noqa: SIM115 - files that are not closed at once are what is tested.

import _posixshmem
import builtins
import contextlib
import errno
import fcntl
import gc
import glob
import inspect
import io
import mmap
import os
import pathlib
import posix
import re
import shutil
import tempfile
import threading
import types
import weakref

import pytest
from refusing import refusing

from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer
from tornpage.functions import subject_from
from tornpage.patch import PatchError, UnsupportedCallError, patched
from tornpage.patch.kept import Kept
from tornpage.registry import spec_of
from tornpage.run import Plan, run
from tornpage.trace import Sync, SyncDir, Write


def test_a_directory_stays_when_its_last_file_goes():
    disk = Disk({"/db/d/e/x": b"1", "/db/f/y": b"2"})
    with patched(disk) as root:
        os.unlink(f"{root}/d/e/x")
        os.rename(f"{root}/f/y", f"{root}/y")
        assert os.listdir(f"{root}/d/e") == os.listdir(f"{root}/f") == []
        os.rmdir(f"{root}/d/e")
        assert sorted(os.listdir(root)) == ["d", "f", "y"]
        shutil.rmtree(root)
        assert not os.path.exists(root)


def _written(disk):
    return [one.data for one in disk.trace if isinstance(one, Write)]


def test_data_reach_the_disk_when_a_buffer_is_flushed_closed_or_full():
    disk = Disk()
    with patched(disk) as root:
        file = open(f"{root}/x", "w", encoding="ascii")
        file.write("a")
        assert _written(disk) == []
        file.flush()
        assert _written(disk) == [b"a"]
        file.write("b")
        file.close()
        assert _written(disk) == [b"a", b"b"]
        with open(f"{root}/y", "wb", buffering=8) as file:
            file.write(b"1234567")
            assert len(_written(disk)) == 2
            file.write(b"89")
            assert len(_written(disk)) == 3


def test_what_nobody_flushed_before_the_end_never_reaches_the_disk():
    disk = Disk()
    with patched(disk) as root:
        file = open(f"{root}/x", "w", encoding="ascii")
        file.write("lost")
    before = len(disk.trace)
    del file
    gc.collect()
    assert len(disk.trace) == before


def test_syncs_are_those_that_were_asked_for():
    disk = Disk()
    with patched(disk) as root:
        os.mkdir(f"{root}/d")
        fd = os.open(f"{root}/d/x", os.O_RDWR | os.O_CREAT)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
        folder = os.open(f"{root}/d", os.O_RDONLY)
        os.fsync(folder)
        for flag in (os.O_SYNC, os.O_DSYNC):
            os.write(os.open(f"{root}/d/x", os.O_WRONLY | flag), b"1")
    kinds = [one.kind for one in disk.trace if isinstance(one, Sync)]
    assert kinds == ["fsync", "fdatasync", "fsync", "fdatasync"]
    [synced] = [one for one in disk.trace if isinstance(one, SyncDir)]
    assert os.path.dirname(synced.path) == "/db/d"


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_a_write_that_syncs_itself_is_refused_over_others_that_are_not(flag):
    disk = Disk()
    with patched(disk) as root:
        plain = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        synced = os.open(f"{root}/x", os.O_WRONLY | flag)
        os.write(plain, b"1")
        os.fsync(plain)
        os.write(synced, b"2")
        os.ftruncate(plain, 0)
        os.pwrite(synced, b"3", 1)
        os.pwrite(synced, b"4", 512)
    refused = pytest.raises(UnsupportedCallError, match="not synced")
    with refused, patched(disk) as root:
        os.write(os.open(f"{root}/x", os.O_WRONLY), b"5")
        os.pwrite(os.open(f"{root}/x", os.O_WRONLY | flag), b"6", 512)


def test_a_sync_of_everything_syncs_files_and_directories_of_the_disk(monkeypatch):
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("the machine was synced"))
    disk = Disk()
    with patched(disk) as root:
        os.mkdir(f"{root}/d")
        for name in ("d/x", "y"):
            pathlib.Path(root, name).write_bytes(b"1")
        os.rename(f"{root}/y", f"{root}/d/z")
        os.sync()
    # Whatever a crash leaves, nothing of it is lost.
    explorer = Explorer({}, disk.trace, _all_files)
    [reached] = explorer.close(list(explorer.points())[-1]).outcomes
    assert reached.outcome == (("/db/d/x", b"1"), ("/db/d/z", b"1"))


def _all_files(disk):
    with patched(disk) as root:
        return tuple(
            (str(path), path.read_bytes())
            for path in sorted(pathlib.Path(root).rglob("*"))
            if path.is_file()
        )


def test_temporary_files_without_a_name_are_had():
    with patched(Disk()) as root:
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"1")
            file.seek(0)
            assert file.read() == b"1"
        with tempfile.SpooledTemporaryFile(max_size=1, dir=root) as file:
            file.write(b"12")
            file.seek(0)
            assert file.read() == b"12"
        assert os.listdir(root) == []


def test_a_range_of_descriptors_is_closed():
    with refusing(Disk()) as root:
        first, second, third = (
            os.open(f"{root}/{name}", os.O_CREAT | os.O_WRONLY) for name in "abc"
        )
        os.closerange(first, third)
        for closed in (first, second):
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(closed)
        os.close(third)
        with pytest.raises(UnsupportedCallError, match="closerange"):
            os.closerange(1 << 20, third)


def test_names_of_temporary_files_are_those_of_last_time():
    """Random ones would make every store differ from run to run."""

    def made(disk):
        with patched(disk) as root:
            with tempfile.NamedTemporaryFile(dir=root, delete=False) as file:
                named = file.name
            return named, tempfile.mkdtemp(dir=root), tempfile.mkstemp(dir=root)[1]

    disk = Disk()
    first = made(disk)
    assert made(Disk()) == first
    with patched(disk) as root:
        # It removes itself with a function that it kept.
        with tempfile.NamedTemporaryFile(dir=root) as file:
            assert os.path.exists(file.name)
        assert not os.path.exists(file.name)
    # What is left from before has its name still.
    assert not set(made(disk)) & set(first)


def test_the_line_that_is_blamed_is_the_users():
    disk = Disk()
    with patched(disk) as root:
        with open(f"{root}/x", "w", encoding="ascii") as file:
            file.write("1" * 100_000)
        pathlib.Path(root, "x").write_text("2", encoding="ascii")
        shutil.copyfile(f"{root}/x", f"{root}/y")
        shutil.move(f"{root}/y", f"{root}/z")
        os.makedirs(f"{root}/d/e")
    sites = {one.site.partition(":")[0] for one in disk.trace}
    assert sites == {"test_patch.py"}


def test_slashes_at_the_beginning_are_one():
    """POSIX lets two mean something else; on Linux "//db/x" is "/db/x"."""
    disk = Disk()
    with patched(disk) as root:
        for slashes in "/", "//":
            pathlib.Path(f"{slashes}{root[1:]}/x").write_bytes(b"1")
            with open(f"{slashes}{root}/x", "ab") as file:
                file.write(b"2")
            assert os.path.exists(f"/{root}/x")
    assert disk.open("/db/x").pread(9, 0) == b"12"


def test_a_store_that_takes_the_last_name_of_a_listing_for_the_newest_is_found():
    """No file system lists by name: where names came in order it was consistent."""

    def add(root, work, ack):
        folder = os.open(root, os.O_RDONLY)
        for number, text in enumerate(work):
            with open(f"{root}/{number}", "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.fsync(folder)
            ack(text)

    def newest(root, names):
        return [open_text(f"{root}/{name}") for name in names(os.listdir(root))][-1:]

    def open_text(path):
        with open(path, encoding="ascii") as file:
            return file.read()

    def judged(names):
        subject = subject_from(
            "S",
            run=add,
            recover=lambda root: newest(root, names),
            # The one in flight may be there, and not whole.
            check=lambda acked, in_flight, seen: (
                "old" if seen and seen[0] in acked[:-1] else None
            ),
            work=["a", "b"],
            root="/db",
        )
        return run(subject, Plan(spec=spec_of(subject), programs=1)).verdict

    assert judged(sorted) == "consistent"
    assert judged(list) == "violated"


def test_reuse_does_not_change_what_listings_see():
    """A name that did not exist when a folder was listed changes the listing."""
    disk = Disk()
    with patched(disk) as root:
        for name in ("a", "b"):
            pathlib.Path(root, name).write_bytes(b"")
        os.rename(f"{root}/a", f"{root}/c")
        os.unlink(f"{root}/b")

    def listing(crashed):
        with patched(crashed) as root:
            return tuple(sorted(os.listdir(root)))

    swept = [
        [
            {one.outcome for one in closure.outcomes}
            for closure in Explorer({}, disk.trace, listing, reuse=reuse).sweep()
        ]
        for reuse in (True, False)
    ]
    assert swept[0] == swept[1]
    seen = set().union(*swept[0])
    assert seen == {(), ("a",), ("a", "b"), ("b", "c"), ("c",)}
    explorer = Explorer({}, disk.trace, listing)
    for point, outcomes in zip(explorer.points(), swept[0], strict=True):
        assert explorer.eager(point) == outcomes


PATCHED = (
    *((os, name) for name in ("open", "read", "write", "fsync", "stat", "rename")),
    (builtins, "open"),
    (io, "open"),
    (fcntl, "flock"),
    (mmap, "mmap"),
    (os.path, "exists"),
)


def test_everything_is_put_back_even_after_an_error():
    def identities():
        return [id(getattr(module, name)) for module, name in PATCHED]

    before = identities()
    with pytest.raises(KeyError), patched(Disk()):  # noqa: PT012
        assert not {*before} & {*identities()}
        raise KeyError
    assert identities() == before


def test_a_second_disk_is_refused_and_the_first_one_stays():
    disk = Disk()
    with patched(disk) as root:
        with pytest.raises(PatchError, match="already"), patched(Disk(), "/other"):
            pass
        pathlib.Path(root, "x").write_bytes(b"1")
    assert disk.exists("/db/x")
    with patched(Disk()):
        pass


def test_a_block_that_could_not_begin_is_not_taken_for_one(monkeypatch):
    monkeypatch.setattr(Kept, "places", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), patched(Disk()):
        pass
    monkeypatch.undo()
    with patched(Disk()):
        pass


@pytest.mark.parametrize("root", ["/", "db", "/tmp", "/usr/.."])
def test_a_root_that_could_touch_real_files_is_refused(root):
    with pytest.raises(PatchError), patched(Disk(), root):
        pass


@pytest.mark.parametrize("disk", [None, "/db", {}, Disk])
def test_what_is_no_disk_is_not_patched_in(disk):
    """It had no attribute `trace`, three calls deep."""
    with pytest.raises(PatchError, match=r"^disk is a tornpage\.Disk, not "):
        patched(disk, "/db").__enter__()
    with patched(Disk(), "/db") as root:
        assert root == "/db"


@pytest.mark.parametrize("root", ["/db/", b"/db", pathlib.Path("/db")])
def test_the_root_may_be_any_path(root):
    with patched(Disk(), root) as normal:
        assert normal == "/db"


def test_other_paths_are_the_machines(tmp_path):
    disk = Disk()
    path = tmp_path / "x"
    with patched(disk) as root:
        path.write_text("real", encoding="ascii")
        assert os.listdir(tmp_path) == ["x"]
        assert not os.path.exists(f"{root}x")
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
            os.rename(path, f"{root}/x")
        shutil.move(path, f"{root}/x")
    assert not path.exists()
    assert disk.open("/db/x").pread(9, 0) == b"real"


def test_calls_the_disk_does_not_have_are_refused_loudly():
    """Each by its name, with the line that made it where no path tells it apart."""
    disk = Disk()
    with refusing(disk) as root:
        pathlib.Path(root, "x").write_bytes(b"1")
        with open(f"{root}/x", "rb+") as file:
            fd = file.fileno()
            folder = os.open(root, os.O_RDONLY)
            calls = {
                "mmap of /db/x": lambda: mmap.mmap(fd, 1),
                "os.symlink('/db/x', '/db/y')": lambda: os.symlink("/db/x", "/db/y"),
                f"os.posix_fallocate({fd}, 0, 1)": lambda: os.posix_fallocate(fd, 0, 1),
                "fcntl.flock of /db": lambda: fcntl.flock(folder, fcntl.LOCK_EX),
                "/db: a name without its file": lambda: os.open(root, os.O_PATH),
                "os.lseek for holes": lambda: os.lseek(fd, 0, os.SEEK_HOLE),
                "os.preadv with flags": lambda: os.preadv(
                    fd, [bytearray(1)], 0, os.RWF_NOWAIT
                ),
                f"os.dup2({fd}, 900)": lambda: os.dup2(fd, 900),
                f"os.dup2(900, {fd})": lambda: os.dup2(900, fd),
                f"os.fchdir({folder})": lambda: os.fchdir(folder),
                "os.chdir('/db')": lambda: os.chdir(root),
                "_posixshmem.shm_open('/x', 0)": lambda: _posixshmem.shm_open("/x", 0),
                f"os.lockf({fd}, 1, 0)": lambda: os.lockf(fd, os.F_LOCK, 0),
                "fcntl.ioctl of /db/x with request 21505": lambda: fcntl.ioctl(
                    file, 0x5401
                ),
                "fcntl.fcntl of /db/x with command 4": lambda: fcntl.fcntl(
                    file, fcntl.F_SETFL, 0
                ),
            }
            for number, (named, call) in enumerate(calls.items(), 1):
                with pytest.raises(UnsupportedCallError) as refused:
                    call()
                said = str(refused.value)
                assert said.startswith(named)
                # Whoever catches it and goes on is not followed all the same.
                assert disk.refused[number - 1 :] == [said]
                if ", at " in said:
                    line = call.__code__.co_firstlineno
                    assert f", at test_patch.py:{line}: " in said
            # As Linux does with the root of a file system.
            with pytest.raises(OSError, match="Invalid argument"):
                os.rename(root, f"{root}/y")
    assert len(disk.refused) == len(calls)


# What takes no descriptor of a file, and what the interpreter tells of (`audit`).
LEFT = re.compile(
    "chdir|(eventfd|timerfd)_.*|execve?|fspath|login_tty|setns|.*pt|ptsname"
)


def test_nothing_that_takes_a_path_or_a_descriptor_is_left_to_the_machine():
    """Of what is new in a Python, too: it is simulated, refused or listed above."""

    def takes_one(function):
        with contextlib.suppress(ValueError):
            parameters = inspect.signature(function).parameters
            return not parameters.keys().isdisjoint(
                ("dst", "fd", "fd2", "fd_low", "in_fd", "out_fd", "path", "src")
            )
        return False

    with patched(Disk()):
        left = [
            name
            for name, one in [*vars(posix).items()]
            if isinstance(one, types.BuiltinFunctionType) and takes_one(one)
        ]
    assert "chdir" in left
    assert [name for name in left if name[0] != "_" and not LEFT.fullmatch(name)] == []


@pytest.mark.parametrize("leads", ["x", "/elsewhere", "/db/x"])
def test_a_symbolic_link_is_refused_as_one_wherever_it_leads(leads):
    """A relative one "went to the machine past the patch", which says nothing of it."""
    for call in (
        lambda link: os.symlink(leads, link),
        lambda link: os.symlink(src=leads, dst=link),
        lambda link: pathlib.Path(link).symlink_to(leads),
    ):
        with pytest.raises(UnsupportedCallError) as refused, patched(Disk()) as root:
            call(f"{root}/y")
        assert "no such call" in str(refused.value)
        assert os.path.basename(__file__) in str(refused.value)


def test_a_symbolic_link_elsewhere_is_made(tmp_path):
    with patched(Disk()):
        os.symlink("x", tmp_path / "y")
    assert os.readlink(tmp_path / "y") == "x"


def test_what_is_mapped_cannot_be_changed_meanwhile():
    disk = Disk()
    with refusing(disk) as root:
        path = pathlib.Path(root, "x")
        path.write_bytes(b"123")
        with open(path, "rb+", buffering=0) as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            for call in (
                lambda: file.write(b"4"),
                lambda: file.truncate(1),
                lambda: os.truncate(path, 1),
                lambda: open(path, "wb"),
            ):
                with pytest.raises(UnsupportedCallError, match="while it is mapped"):
                    call()
            assert mapping[:] == path.read_bytes() == b"123"
            mapping.close()
            file.write(b"4")
        assert path.read_bytes() == b"423"
    assert len(disk.refused) == 4


def test_a_class_of_mappings_that_is_kept_maps_files_of_the_next_disk_and_real_ones():
    with patched(Disk()):
        kept = mmap.mmap
    with (
        patched(Disk({"/db/x": b"of the next"})) as root,
        open(f"{root}/x") as file,
        kept(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping,
    ):
        assert mapping[:] == b"of the next"
    with tempfile.TemporaryFile() as file:
        file.write(b"real")
        file.flush()
        with kept(file.fileno(), 0) as mapping:
            mapping[:4] = b"REAL"
        assert os.pread(file.fileno(), 9, 0) == b"REAL"


def test_a_lock_that_would_be_waited_for_for_ever_is_an_error():
    with refusing(Disk()) as root:
        one, two = (os.open(f"{root}/x", os.O_RDWR | os.O_CREAT) for _ in "12")
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(UnsupportedCallError, match="never end"):
            fcntl.flock(two, fcntl.LOCK_EX)


def test_what_no_patch_reaches_fails_instead_of_touching_the_machine():
    # Nobody is seen to hold them.
    kept_stat, kept_write = weakref.ref(os.stat), weakref.ref(os.write)
    with patched(Disk()) as root:
        fd = os.open(f"{root}/x", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(FileNotFoundError):
            kept_stat()(f"{root}/x")
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            kept_write()(fd, b"1")


def test_threads_share_a_file_without_losing_a_write():
    disk = Disk()
    with patched(disk) as root:
        fd = os.open(f"{root}/x", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        threads = [
            threading.Thread(target=lambda: [os.write(fd, b"1") for _ in range(200)])
            for _ in range(4)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert os.fstat(fd).st_size == 800


def test_a_listing_that_consumes_only_what_it_finds_is_noticed(monkeypatch):
    right = Life.names_in

    def names_in(self, folder):
        found = right(self, folder)
        self._watch.any_name = False
        return found

    monkeypatch.setattr(Life, "names_in", names_in)
    with pytest.raises(AssertionError):
        test_reuse_does_not_change_what_listings_see()


def test_what_the_library_keeps_of_os_is_put_back():
    kept = glob.__dict__.get("_StringGlobber", glob)
    before = dict(vars(kept))
    with patched(Disk()) as root:
        pathlib.Path(root, "x").write_bytes(b"")
        assert [one.name for one in pathlib.Path(root).glob("*")] == ["x"]
        assert glob.glob(f"{root}/*") == [f"{root}/x"]
    assert dict(vars(kept)) == before
