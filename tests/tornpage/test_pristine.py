"""A process that was set aside in time: as it was, and no burden on anybody."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import psutil
import pytest
import remembering
from remembering import children, plan
from toy_store import Toy

from tornpage.patch.block import look_around
from tornpage.run import Plan, pristine, run
from tornpage.run.pristine import Pristine, PristineError

pytestmark = pytest.mark.usefixtures("processes")


def test_a_copy_knows_nothing_of_what_came_later():
    seen = [1]
    with Pristine(lambda _: list(seen)) as copy:
        seen.append(2)
        assert copy.ask(0, 10, alone=True) == [1]
        assert copy.ask(0, 10, alone=False) == [1]


def test_what_is_done_alone_leaves_nothing_behind():
    seen = []

    def note(one):
        seen.append(one)
        return list(seen)

    with Pristine(note) as copy:
        assert copy.ask(1, 10, alone=False) == [1]
        assert copy.ask(2, 10, alone=True) == [2]
        assert copy.ask(3, 10, alone=False) == [1, 3]
        assert copy.ask(4, 10, alone=True) == [4]


KEPT = types.ModuleType("kept")
exec(
    "from os import getpid, getppid\nfrom threading import get_native_id\n"
    "def numbers(pid=getpid): return pid(), getpid(), getppid(), get_native_id()",
    vars(KEPT),
)


def test_a_copy_has_the_numbers_of_the_process_however_it_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "kept", KEPT)

    def numbers(_=None):
        mine = os.getpid(), os.getppid(), threading.get_native_id()
        return KEPT.numbers(), mine

    look_around()
    with Pristine(numbers) as copy:
        assert copy.ask(0, 10, alone=True) == numbers()
        assert copy.ask(0, 10, alone=False) == numbers()


def test_a_machine_without_a_list_of_descriptors_waits_for_nothing(monkeypatch):
    real = os.listdir

    def listdir(path="."):
        if path == "/dev/fd":
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    # It would be killed after that: so long that no busy machine comes near it.
    monkeypatch.setattr(pristine, "_ENDS_SECONDS", 60.0)
    begun = time.monotonic()
    with Pristine(lambda _: os.getsid(0)) as copy:
        assert copy.ask(0, 10, alone=False) != os.getsid(0)
    assert time.monotonic() - begun < 30


def test_no_file_of_a_copy_gets_the_number_of_a_pipe_of_the_process():
    ours = *os.pipe(), *(one.detach() for one in socket.socketpair())

    def opened(_):
        made = os.open("/etc/passwd", os.O_RDONLY), *os.pipe()
        for descriptor in ours:
            os.write(descriptor, b"lost")
        return made, [os.read(descriptor, 4) for descriptor in ours]

    try:
        with Pristine(opened) as copy:
            made, read = copy.ask(0, 10, alone=True)
    finally:
        for descriptor in ours:
            os.close(descriptor)
    assert not set(made) & set(ours)
    assert read == [b""] * 4


def test_a_copy_that_raises_or_ends_says_so():
    with Pristine(lambda one: one / 0) as copy:
        with pytest.raises(PristineError, match="met ZeroDivisionError"):
            copy.ask(1, 10, alone=False)
        with pytest.raises(PristineError, match="met ZeroDivisionError"):
            copy.ask(1, 10, alone=True)
    with Pristine(os._exit) as copy:
        for alone in (False, True, False):
            with pytest.raises(PristineError, match="ended with status 3"):
                copy.ask(3, 10, alone=alone)


def test_many_bytes_go_both_ways():
    with Pristine(lambda data: data[::-1]) as copy:
        data = bytes(range(256)) * 20_000
        assert copy.ask(data, 30, alone=True) == data[::-1]


def test_an_interruption_ends_all_copies(processes):
    with Pristine(time.sleep) as copy:
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), 2))
        timer.start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            copy.ask(60, 60, alone=False)
        assert time.monotonic() - begun < 30
        timer.join()
        assert children() <= processes
        with pytest.raises(PristineError):
            copy.ask(0, 1, alone=False)


def test_threads_of_the_process_are_no_warning_and_no_hindrance():
    """Python warns of a fork beside threads; here warnings are errors."""
    ended = threading.Event()
    beside = threading.Thread(target=ended.wait)
    beside.start()
    try:
        certificate = run(remembering.PlainSynced(), plan("PlainSynced"))
    finally:
        ended.set()
        beside.join()
    assert certificate.verdict == "unverifiable"


def test_from_another_thread_than_the_main_one():
    found = []
    beside = threading.Thread(
        target=lambda: found.append(run(Toy(), Plan(spec="toy_store:Toy", programs=1)))
    )
    beside.start()
    beside.join()
    assert found[0].verdict == "consistent"
    assert not found[0].unchecked


SCRIPT = """
import atexit, gc, os, sys, threading
import remembering
from tornpage.run import Plan, run

class Flushed:
    def __del__(self):
        os.write(2, b"finalized\\n")

def loop():
    made = Flushed()
    made.itself = made

loop()
atexit.register(lambda: os.write(2, b"at exit\\n"))
file = open("buffered", "w")
file.write("once\\n")
print("before")
class Loud(remembering.PlainSynced):
    def recover(self, disk):
        print("recovering")
        return super().recover(disk)
print(run(Loud(), Plan(spec="remembering:PlainSynced", programs=1)).verdict)
"""


def test_nothing_is_printed_flushed_or_finalized_twice(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "before"
    assert done.stdout.splitlines()[-1] == "unverifiable"
    assert done.stdout.count("before") == done.stdout.count("unverifiable") == 1
    assert done.stderr.splitlines().count("at exit") == 1
    assert done.stderr.splitlines().count("finalized") == 1
    assert (tmp_path / "buffered").read_text() == "once\n"


ORPHAN = """
import os, signal, time
from tornpage.run.pristine import Pristine
copy = Pristine(time.sleep)
import psutil
print([one.pid for one in psutil.Process().children(recursive=True)], flush=True)
if {busy}:
    import threading
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    copy.ask(60, 60, alone=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_that_is_killed_leaves_no_copy_behind(busy):
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN.format(busy=busy)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    (process,) = json.loads(done.stdout)
    until = time.monotonic() + 10
    while time.monotonic() < until and _alive(process):
        time.sleep(0.05)
    assert not _alive(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_leaves_no_copy_behind(elsewhere, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "tornpage", "run", "toy_store:Toy", "--seconds", "60"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    copies = []
    until = time.monotonic() + 30
    while not copies and time.monotonic() < until:
        time.sleep(0.05)
        copies = psutil.Process(process.pid).children(recursive=True)
    # As a terminal does, to the whole group.
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode == 3
    assert copies
    until = time.monotonic() + 10
    while time.monotonic() < until and any(_alive(one.pid) for one in copies):
        time.sleep(0.05)
    assert not any(_alive(one.pid) for one in copies)


def _alive(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_pipes_of_the_process_are_not_kept_open():
    """Whoever waits for the end of a pipe is not to wait for a copy."""
    reads, writes = os.pipe()
    with Pristine(lambda _: None) as copy:
        copy.ask(0, 10, alone=True)
        os.close(writes)
        os.set_blocking(reads, False)
        assert os.read(reads, 1) == b""
    os.close(reads)
