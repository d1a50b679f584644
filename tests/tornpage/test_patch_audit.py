"""What gets past the patch is never a pass: other names, processes and threads."""

import contextlib
import errno
import fcntl
import io
import mmap
import multiprocessing
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from types import ModuleType

import pytest
from refusing import refusing

from tornpage.certificate import render
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.functions import subject_from
from tornpage.patch import UnsupportedCallError, patched
from tornpage.registry import spec_of
from tornpage.run import Plan, cover, run
from tornpage.run.afresh import Afresh

# -- a right store with something in it that the patch does not reach --------------


def save(root, text):
    with open(f"{root}/new", "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{root}/new", f"{root}/x")
    folder = os.open(root, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def load(root):
    try:
        with open(f"{root}/x", encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _certificate(*, running=lambda root: None, recovering=lambda root: None):
    def running_(root, work, ack):
        save(root, "1")
        ack("1")
        running(root)

    def recovering_(root):
        seen = load(root)
        recovering(root)
        return seen

    subject = subject_from(
        "S",
        run=running_,
        recover=recovering_,
        check=lambda acked, in_flight, seen: (
            None if seen in {*acked[-1:], *in_flight} or not acked else "lost"
        ),
        work=["1"],
        root="/db",
    )
    return run(subject, Plan(spec=spec_of(subject), programs=1))


# Functions of the machine, taken in a way that nobody sees: they are not even held.
UNSEEN = {
    one.__name__: weakref.ref(one)
    for one in (os.listdir, os.mkdir, os.open, os.rename, os.truncate, os.unlink)
}
UNSEEN["io.open"] = weakref.ref(open)


def _unseen(name, *given):
    """A call of one of these, with a path and then with `given`."""
    return lambda path: UNSEEN[name]()(path, *given)


def _forked():
    if os.fork() == 0:
        os._exit(0)


def _beneath(call):
    return lambda root: call(f"{root}/x")


HERE = object()

PAST = {
    "os.remove('/db/x'": _beneath(_unseen("unlink")),
    "os.rename('/db/x'": _beneath(_unseen("rename", "/db/y")),
    "open('/db/x'": _beneath(_unseen("open", os.O_RDONLY)),
    "open('/db/x', 'w'": _beneath(_unseen("io.open", "w")),
    "open(1": lambda root: io.FileIO(os.open(f"{root}/x", os.O_RDONLY)),
    "open('/db/x', 'r'": _beneath(io.FileIO),
    "os.mkdir('/db/x'": _beneath(_unseen("mkdir")),
    "os.truncate('/db/x'": _beneath(_unseen("truncate", 0)),
    "os.listdir('/db'": _unseen("listdir"),
    "os.chdir('/db'": os.chdir,
    "os.system(": lambda root: os.system(f"rm -f {root}/x 2>/dev/null"),
    "subprocess.Popen('true'": lambda root: subprocess.run(["true"], check=True),
    "os.fork()": lambda root: _forked(),
    "os.posix_spawn(": lambda root: os.posix_spawn("/bin/true", ["true"], {}),
    "fork_exec(": lambda root: (
        multiprocessing.get_context("spawn").Process(target=print).start()
    ),
    "os._exit(0)": lambda root: os._exit(0),
    "_thread.start_new_thread(": lambda root: __import__("_thread").start_new_thread(
        print, ()
    ),
}


@pytest.mark.parametrize("name", PAST)
@pytest.mark.parametrize("where", ["running", "recovering"])
def test_what_gets_past_the_patch_and_is_swallowed_is_unverifiable(where, name):
    def swallowing(root):
        with contextlib.suppress(Exception):
            PAST[name](root)

    certificate = _certificate(**{where: swallowing})
    assert certificate.verdict == "unverifiable"
    assert name in certificate.doubts()[0]


# Whatever the argument that is the disk's: the others are "-", which is nowhere.
BY_PATH = [
    *(("chmod", (HERE, 0)), ("chown", (HERE, 0, 0)), ("getxattr", (HERE, "a"))),
    *(("link", (HERE, "-")), ("link", ("-", HERE)), ("listxattr", (HERE,))),
    *(("removexattr", (HERE, "a")), ("rename", (HERE, "-")), ("rename", ("-", HERE))),
    *(("rmdir", (HERE,)), ("scandir", (HERE,)), ("setxattr", (HERE, "a", b""))),
    *(("symlink", (HERE, "-")), ("symlink", ("-", HERE)), ("utime", (HERE,))),
]
BY_FOLDER = [
    *(("chmod", ("-", 0), ("dir_fd",)), ("chown", ("-", 0, 0), ("dir_fd",))),
    ("link", ("-", "-"), ("src_dir_fd", "dst_dir_fd")),
    *(("mkdir", ("-",), ("dir_fd",)), ("unlink", ("-",), ("dir_fd",))),
    ("rename", ("-", "-"), ("src_dir_fd", "dst_dir_fd")),
    *(("rmdir", ("-",), ("dir_fd",)), ("symlink", ("-", "-"), ("dir_fd",))),
    ("utime", ("-",), ("dir_fd",)),
]
BY_DESCRIPTOR = [
    *((fcntl, "fcntl", (1,)), (fcntl, "flock", (fcntl.LOCK_EX,))),
    *((fcntl, "ioctl", (0,)), (fcntl, "lockf", (fcntl.LOCK_EX,))),
    *((mmap, "mmap", (1,)), (os, "lockf", (os.F_LOCK, 0))),
    *((os, "chmod", (0,)), (os, "chown", (0, 0)), (os, "listdir", ())),
    *((os, "scandir", ()), (os, "truncate", (0,)), (os, "utime", ())),
]


def test_every_place_of_a_path_or_a_descriptor_is_watched():
    """Of functions of which the interpreter tells, and that nobody is seen to hold."""
    real = weakref.WeakValueDictionary(
        {(one, name): getattr(one, name) for one, name, _ in BY_DESCRIPTOR}
        | {(os, name): getattr(os, name) for name, *_ in BY_PATH + BY_FOLDER}
    )
    disk = Disk()
    with refusing(disk) as root:
        file = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        folder = os.open(root, os.O_RDONLY)
        calls = [
            *(
                (os, n, [f"{root}/x" if a is HERE else a for a in g], {})
                for n, g in BY_PATH
            ),
            *((os, n, g, {key: folder}) for n, g, keys in BY_FOLDER for key in keys),
            *((one, n, [file, *g], {}) for one, n, g in BY_DESCRIPTOR),
        ]
        for module, name, given, named in calls:
            with pytest.raises(UnsupportedCallError, match="past the patch"):
                real[module, name](*given, **named)
    assert len(disk.refused) == len(calls)


@pytest.mark.parametrize("call", ["bind", "connect"])
def test_a_socket_is_no_file_of_the_disk(call):
    refused = refusing(Disk(), f"socket.{call}")
    with refused as root, socket.socket(socket.AF_UNIX) as one:
        getattr(one, call)(f"{root}/x")


def test_the_store_of_these_tests_is_right():
    assert _certificate().verdict == "consistent"


def test_code_outside_the_root_and_outside_the_block_is_left_alone(tmp_path):
    began, done = threading.Event(), threading.Event()
    seen = []

    def somebody_else():
        began.wait()
        seen.append(subprocess.run(["true"], check=True).returncode)
        seen.append(threading.Thread(target=done.wait))
        seen[-1].start()

    other = threading.Thread(target=somebody_else)
    other.start()
    disk = Disk()
    with patched(disk) as root:
        began.set()
        other.join()
        UNSEEN["open"]()(tmp_path / "x", os.O_RDONLY | os.O_CREAT)
        with open(f"{root}/x", "w", encoding="ascii"):
            pass
    assert disk.refused == []
    assert not disk.several_threads
    done.set()
    seen[1].join()
    assert seen[0] == subprocess.run(["true"], check=True).returncode == 0


# -- names of modules ---------------------------------------------------------------


KEEPING = """
import os
import re

class Proxy:
    def __getattribute__(self, name):
        raise RuntimeError("nobody may ask for anything")

proxy = Proxy()
from os import fsync, open, path, write
show = open
builtin = len

class Writer:
    opened = os.open
    counted = len

    def write(self, fd, *, write=os.write, other=len):
        return write(fd, b"2"), self.opened, self.counted

def sync(fd, other=1, fsync=os.fdatasync):
    fsync(fd)
"""


@pytest.fixture
def kept(monkeypatch):
    """A module that took functions of os at its import."""
    module = ModuleType("kept_names")
    exec(KEEPING, vars(module))
    monkeypatch.setitem(sys.modules, "kept_names", module)
    return module


def test_functions_that_a_module_took_before_the_block_go_to_the_disk(kept):
    before = dict(vars(kept)), dict(vars(kept.Writer))
    for number in range(2):
        disk = Disk()
        with patched(disk, f"/db{number}") as root:
            fd = kept.show(f"{root}/x", os.O_WRONLY | os.O_CREAT)
            kept.write(fd, b"1")
            kept.fsync(fd)
            kept.Writer().write(
                kept.Writer().opened(f"{root}/y", os.O_RDWR | os.O_CREAT)
            )
            kept.sync(fd)
        names = ["create", "write", "sync", "create", "write", "sync"]
        assert [one.op for one in disk.trace] == names
        assert (dict(vars(kept)), dict(vars(kept.Writer))) == before
        assert kept.Writer.write.__kwdefaults__ == {"write": os.write, "other": len}
        assert kept.sync.__defaults__ == (1, os.fdatasync)


def test_descriptors_are_told_from_offsets():
    """An offset may be as large as a simulated descriptor."""
    disk = Disk()
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as other:
        one.write(b"12")
        one.flush()
        with patched(disk) as root:
            copied = os.copy_file_range(
                one.fileno(), dst=other.fileno(), count=2, offset_src=1 << 40
            )
            fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
            assert os.copy_file_range(src=fd, dst=fd, count=1, offset_dst=9) == 0
            for two in ((fd, one.fileno()), (one.fileno(), fd)):
                # With which shutil and pathlib go on to other calls.
                with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
                    os.copy_file_range(*two, 1)
        assert copied == 0


def test_a_second_run_that_is_refused_is_a_departure():
    """It did the same to the disk, and one thing that cannot be followed."""
    runs = []

    def running(root):
        runs.append(1)
        if len(runs) == 2:
            with contextlib.suppress(Exception):
                os.fork()

    certificate = _certificate(running=running)
    assert certificate.verdict == "unverifiable"
    assert "os.fork()" in certificate.doubts()[0]


def test_functions_that_a_module_took_inside_a_block_are_given_back(
    tmp_path, monkeypatch
):
    (tmp_path / "imported_late.py").write_text(
        "import os\nfrom os import open, fsync\ndef sync(fd, how=os.fsync): how(fd)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    disk = Disk()
    with patched(disk) as root:
        import imported_late

        imported_late.open(f"{root}/x", os.O_WRONLY | os.O_CREAT)
    assert (imported_late.open, imported_late.fsync) == (os.open, os.fsync)
    with patched(disk) as root:
        imported_late.fsync(imported_late.open(f"{root}/y", os.O_CREAT))
        imported_late.sync(imported_late.open(f"{root}/y", os.O_CREAT))
    names = ["create", "create", "sync", "sync"]
    assert [one.op for one in disk.trace] == names
    assert imported_late.sync.__defaults__ == (os.fsync,)
    del sys.modules["imported_late"]


# -- threads ------------------------------------------------------------------------


class Background:
    """A thread that does something now and then until it is told to end."""

    def __init__(self, call=lambda: None):
        self.ending = threading.Event()
        self.failed = []
        self.thread = threading.Thread(target=self._go, args=(call,), name="flusher")
        self.thread.daemon = True
        self.thread.start()

    def _go(self, call):
        while not self.ending.wait(0.001):
            try:
                call()
            except (OSError, UnsupportedCallError) as error:
                self.failed.append(error)

    def end(self):
        self.ending.set()
        self.thread.join()


@pytest.fixture
def background():
    begun = []

    def begin(call=lambda: None):
        begun.append(Background(call))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


@pytest.mark.parametrize("where", ["running", "recovering"])
def test_a_thread_that_outlives_its_execution_is_unverifiable(where, background):
    certificate = _certificate(**{where: lambda root: background()})
    assert certificate.verdict == "unverifiable"
    assert "thread 'flusher' was still running" in certificate.doubts()[0]


def test_a_thread_that_is_ended_and_not_waited_for_is_fine(background):
    certificate = _certificate(running=lambda root: background().ending.set())
    assert certificate.verdict == "consistent"


def test_a_thread_that_is_left_touches_no_later_disk(background):
    with refusing(Disk(), match="still running") as root:
        # First, or it has whatever number the other thread leaves it.
        fd = os.open(f"{root}/y", os.O_RDWR | os.O_CREAT)
        left = background(lambda: save(root, "2"))
        number = background(lambda: os.write(fd, b"2"))
    later = Disk()
    with patched(later) as root:
        assert os.open(f"{root}/y", os.O_RDWR | os.O_CREAT) == fd
        before = [len(one.failed) for one in (left, number)]

        def refused():
            # What failed first may have begun before this disk was there.
            return [
                any(isinstance(error, UnsupportedCallError) for error in failed)
                for failed in (left.failed[before[0] :], number.failed[before[1] :])
            ]

        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not all(refused()):
            time.sleep(0.001)
        assert refused() == [True, True]
        assert load(root) == ""
    assert [one.op for one in later.trace] == ["create"]
    assert later.refused == []


def test_an_exception_is_an_outcome_whoever_is_still_running(background):
    def failing(root):
        background()
        raise KeyError(1)

    assert _certificate(running=failing).verdict == "violated"


def _in_a_thread(root):
    one = threading.Thread(target=save, args=(root, "1"))
    one.start()
    one.join()


@pytest.mark.parametrize("where", ["running", "recovering"])
def test_of_several_threads_only_the_schedule_that_happened_is_said_to_be_covered(
    where,
):
    said = "than the one that happened"
    assert said not in render(_certificate())
    certificate = _certificate(**{where: _in_a_thread})
    assert certificate.verdict == "consistent"
    assert said in " ".join(render(certificate).split())


# -- files that are not on the disk --------------------------------------------------


def _write(path):
    with open(path, "w", encoding="ascii") as file:
        file.write("1")


def _read(path):
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
        file.read()


def _sort(path):
    """Use a scratch file, made anew each time."""
    with open(path, "w+", encoding="ascii") as file:
        file.write("1")
    _read(path)


def _log(path):
    with open(path, "a", encoding="ascii") as file:
        file.write("1")


def _moved(path):
    _write(f"{path}.new")
    os.replace(f"{path}.new", path)


def _in_a_table(path):
    with contextlib.closing(sqlite3.connect(path)) as table:
        table.execute("create table if not exists t (x)")


REMEMBERED = {
    "written, then read": (_write, _read),
    "renamed, then read": (_moved, _read),
    "written, then read to be changed": (
        _write,
        lambda path: open(path, "r+", encoding="ascii").close(),
    ),
    "a table in both": (_in_a_table, _in_a_table),
    "written by recovery, read by the next one": (
        lambda path: None,
        lambda path: (_read(path), _write(path)),
    ),
}


@pytest.mark.parametrize("name", REMEMBERED)
def test_what_a_store_remembers_on_the_machine_is_out_of_reach_of_crashes(
    name, tmp_path
):
    path = str(tmp_path / "x")
    run_, recover_ = REMEMBERED[name]
    certificate = _certificate(
        running=lambda root: run_(path), recovering=lambda root: recover_(path)
    )
    assert certificate.verdict == "unverifiable"
    assert f"{path} is a file of the machine" in certificate.doubts()[0]


def _directory_moved(path):
    os.mkdir(f"{path}.new")
    _write(f"{path}.new/a")
    os.rename(f"{path}.new", path)


@pytest.mark.parametrize(
    ("name_it", "below"),
    [
        (lambda path: os.link(_written(f"{path}.new"), path), ""),
        (lambda path: os.symlink(_written(f"{path}.new"), path), ""),
        (_directory_moved, "/a"),
    ],
)
def test_a_name_that_one_execution_has_given_is_read_by_no_later_one(
    name_it, below, tmp_path
):
    path = f"{tmp_path}/x"
    with patched(Disk()):
        name_it(path)
        _read(f"{path}{below}")
    refusal = pytest.raises(UnsupportedCallError, match=f"{path}{below} is a file of")
    with refusal, patched(Disk()):
        _read(f"/{path}{below}")
    with patched(Disk()):
        _sort(f"{path}{below}")


def test_what_is_beside_a_file_without_a_name_is_read_by_everybody(tmp_path):
    for _ in range(2):
        with patched(Disk()), contextlib.suppress(OSError):
            _read(f"{tmp_path}/x")
            os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR | os.O_EXCL))


def _written(path):
    _write(path)
    return path


FORGOTTEN = {
    "a scratch file": (_sort, _sort),
    "a log": (_log, _log),
    "read by nobody later": (_write, lambda path: None),
    "written by nobody": (_read, _read),
    "no file": (lambda path: _write(os.devnull), lambda path: _read(os.devnull)),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_files_of_the_machine_that_tell_a_later_execution_nothing_are_fine(
    name, tmp_path
):
    path = str(tmp_path / "x")
    run_, recover_ = FORGOTTEN[name]
    certificate = _certificate(
        running=lambda root: run_(path), recovering=lambda root: recover_(path)
    )
    assert certificate.verdict == "consistent", certificate.doubts()


def test_whatever_line_a_run_is_begun_from_recovery_does_the_same_in_a_copy():
    def running(root, work, ack):
        save(root, "1")
        ack("1")

    subject = subject_from(
        "S", run=running, recover=load, check=lambda *_: None, work=["1"], root="/a/db"
    )
    asked = Plan(spec=spec_of(subject), programs=1)
    afresh = Afresh(subject)

    def begin(seed):
        return cover(subject, asked, subject.generate(seed), seed, afresh=afresh)

    try:
        first = begin(0)
        second = begin(1)
    finally:
        afresh.close()
    assert first.doubts() == ()
    assert second.doubts() == ()


COUNTING = """
import sys
from tornpage.disk import Disk
from tornpage.patch import patched
from tornpage.patch.block import look_around

def enter():
    with patched(Disk()):
        pass
    look_around()

enter()
told = []
sys.addaudithook(lambda event, given: told.append(event))
enter()
print(told.count("builtins.id"))
"""


def test_a_block_that_finds_nothing_new_asks_for_no_id_as_that_is_told_to_hooks():
    done = subprocess.run(
        [sys.executable, "-c", COUNTING],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "0\n"


def test_what_is_refused_names_the_line_that_did_it():
    disk = Disk()
    with pytest.raises(UnsupportedCallError) as went_past, patched(disk):
        io.FileIO("/db/x", "w")
    assert re.search(
        r"past the patch, at test_patch_audit.py:\d+:", str(went_past.value)
    )
    with pytest.raises(UnsupportedCallError) as refused, patched(disk):
        os.statvfs("/db/x")
    assert re.search(r"at test_patch_audit.py:\d+: the simulated", str(refused.value))


def swallow(root):
    with contextlib.suppress(RuntimeError):
        os.symlink(f"{root}/x", f"{root}/y")


def swallow_and_raise(root):
    swallow(root)
    raise KeyError(1)


def test_what_was_refused_ends_the_block_though_the_code_goes_on():
    """A test with a disk of its own passed: nobody had asked what was refused."""
    with (
        pytest.raises(UnsupportedCallError, match="symlink"),
        patched(Disk()) as root,
    ):
        swallow(root)
    # What else is raised is not hidden.
    with pytest.raises(KeyError), patched(Disk()) as root:
        swallow_and_raise(root)
    # Each block has its own.
    disk = Disk()
    with contextlib.suppress(UnsupportedCallError), patched(disk) as root:
        swallow(root)
    with patched(disk) as root:
        assert not os.path.exists(f"{root}/y")


def test_an_explorer_of_ones_own_takes_no_outcome_of_what_was_refused():
    disk = Disk({"x": b"1"})
    disk.open("x").pwritev([b"2"], 0)

    def recover(disk):
        disk.refuse("something")
        return disk.open("x", read_only=True).pread(1, 0)

    with pytest.raises(UnsupportedCallError, match="something"):
        list(Explorer({"x": b"1"}, disk.trace, recover).sweep())


LEAVING = """
import os, sys
from tornpage import Disk, patched

with patched(Disk()):
    pass

class Late:
    def __init__(self):
        # In a circle, and where the interpreter looks last.
        self.tell, self.write, self.itself = sys.audit, os.write, self
        sys.late = self

    def __del__(self):
        self.tell("ctypes.dlsym", 0, "fsync")
        self.tell("open", "left", "r", 0)
        self.write(1, b"told")

Late()
"""


def test_what_is_done_at_the_interpreters_end_is_no_complaint_of_the_hook():
    done = subprocess.run(
        [sys.executable, "-c", LEAVING],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("told", "")
