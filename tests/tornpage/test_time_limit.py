"""Code that never returns ends as a broken promise, and nothing else is disturbed."""

import contextlib
import gc
import os
import shutil
import signal
import sys
import threading
import time

import pytest
from toy_store import Toy

from tornpage import time_limit
from tornpage.command import main
from tornpage.disk import Disk
from tornpage.disk import file as file_module
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.registry import spec_of
from tornpage.run import Experiment, Plan, experiment, run
from tornpage.time_limit import Limit, OverdueError

SECONDS = 0.05
TIMERS = (signal.ITIMER_VIRTUAL, signal.ITIMER_REAL, signal.ITIMER_PROF)
SIGNALS = (signal.SIGVTALRM, signal.SIGALRM, signal.SIGPROF)


def _state():
    timers = [signal.getitimer(one)[0] > 0 for one in TIMERS]
    return timers, [signal.getsignal(one) for one in SIGNALS]


@pytest.fixture(autouse=True)
def nothing_stays():
    before = _state()
    yield
    assert _state() == before


def loop(root=None):
    """Loops for ever, in the simulator much of the time."""
    while True:
        sum(range(200))
        if root is not None:
            os.path.exists(f"{root}/x")


def wait(root=None):
    threading.Event().wait()


def swallow(root=None):
    with contextlib.suppress(BaseException):
        loop()


def replace(root=None):
    try:
        loop()
    except BaseException:  # noqa: BLE001 - code under test may do that.
        raise KeyError(1) from None


def _subject(*, running=None, recovering=None, seconds=SECONDS, work=("a", "b")):
    def running_(root, work, ack):
        for one in work:
            with open(f"{root}/{one}", "w", encoding="ascii") as file:
                file.write(one)
            ack(one)
        if running:
            running(root)

    def recovering_(root):
        seen = os.listdir(root)
        if recovering and "a" in seen:
            recovering(root)
        return seen

    return subject_from(
        "S",
        run=running_,
        recover=recovering_,
        check=lambda *_: None,
        work=work,
        root="/db",
        returns_within=seconds,
    )


def _run(subject, **more):
    return run(subject, Plan(spec=spec_of(subject), programs=1, **more))


def test_a_program_that_does_not_return_is_not_run_again():
    runs = []

    def running(root):
        runs.append(1)
        loop(root)

    assert _run(_subject(running=running)).verdict == "violated"
    assert len(runs) == 1


@pytest.mark.parametrize("call", [loop, wait, swallow, replace])
@pytest.mark.parametrize("where", ["running", "recovering"])
def test_what_does_not_return_is_a_broken_promise_that_names_a_line(where, call):
    certificate = _run(_subject(**{where: call}))
    assert certificate.verdict == "violated"
    [found] = certificate.violations
    promise, who = {
        "running": ("program ends", "The program"),
        "recovering": ("recovery ends", "Recovery"),
    }[where]
    assert found.property == promise
    assert found.message.startswith(f"{who} has not returned after")
    # Event.wait is threading's.
    assert "it was at test_time_limit.py:" in found.message or call is wait


def test_what_does_not_return_is_not_shrunk_and_ends_its_program():
    recoveries = []

    def recovering(root):
        recoveries.append(1)
        loop(root)

    certificate = _run(_subject(recovering=recovering), keep_going=True)
    assert len(recoveries) == 1
    assert not certificate.violations[0].shrunk
    assert "did not return" in certificate.cut[0]


SOURCE = """
from tornpage.functions import subject_from

def add(root, work, ack):
    with open(f"{root}/x", "wb") as file:
        file.write(bytes([2]) * 2)

def read(root):
    with open(f"{root}/x", "rb") as file:
        data, at = file.read(), 0
    while at < len(data):
        at += data[at]

S = subject_from("S", run=add, recover=lambda root: read(root), check=lambda *_: None,
                 work=["a"], root="/db", files={"/db/x": b""}, returns_within=0.05)
"""


def test_a_replay_of_it_does_not_return_either(elsewhere, monkeypatch, capsys):
    """Its last byte is zero where it was lost: recovery never moves on."""
    (elsewhere / "never_ending.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(elsewhere))
    assert main(["run", "never_ending:S"]) == 1
    story = capsys.readouterr().out
    assert "recovery ends" in story
    assert "1 operations; not shrunk." in story
    assert "Recovery has not returned after 0.05 s of processor time" in story
    command = next(line for line in story.splitlines() if "--replay" in line)
    assert main(command.split()[1:]) == 1
    assert "recovery ends" in capsys.readouterr().out


def test_a_smaller_program_that_does_not_return_ends_the_shrinking():
    """Each attempt would take as long as the limit is."""
    tried = []

    def running(root, work, ack):
        tried.append(work)
        if len(work) < 3:
            loop(root)
        raise KeyError

    subject = subject_from(
        "S",
        run=running,
        recover=lambda root: None,
        check=lambda *_: None,
        work=[1, 2, 3],
        root="/db",
        returns_within=SECONDS,
    )
    [found] = _run(subject).violations
    assert found.property == "program returns"
    assert "does not return" in found.shrinking
    # Twice to see whether it repeats itself.
    assert [len(one) for one in tried] == [3, 3, 2]


class SlowWhileReasoning(Toy):
    """Its recovery returns until somebody asks why a promise is broken."""

    returns_within = SECONDS
    reasoning = False

    def recover(self, disk):
        while self.reasoning:
            pass
        return super().recover(disk)


def test_a_failure_is_told_though_the_search_for_its_reason_does_not_return(
    monkeypatch,
):
    subject = SlowWhileReasoning()
    explain, asked = experiment.explain, []

    def explained(*given, **named):
        asked.append(given)
        subject.reasoning = True
        return explain(*given, **named)

    monkeypatch.setattr(experiment, "explain", explained)
    plan = Plan(spec="toy_store:Toy", programs=1, mutant="no-sync", shrink=False)
    certificate = run(subject, plan)
    assert asked
    [found] = certificate.violations
    assert found.property == "P persistence"
    assert found.failure.token() in found.story.replace("\n", "")


def test_code_that_is_not_under_test_takes_its_time():
    def slowly(*_):
        until = time.process_time() + 3 * SECONDS
        while time.process_time() < until:
            pass

    subject = _subject(work=["a"])
    subject.judge = lambda *_: slowly() or ()
    assert _run(subject).verdict == "consistent"


def test_none_is_no_limit():
    with Limit(None):
        assert not any(_state()[0])


def test_a_timer_that_somebody_has_is_left_alone():
    fired = []
    before = signal.signal(signal.SIGALRM, lambda *_: fired.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        assert _run(_subject(recovering=loop)).verdict == "violated"
        assert fired == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_other_threads_have_no_limit_and_are_not_disturbed():
    found = []
    one = threading.Thread(target=lambda: found.append(_run(_subject(work=["a"]))))
    one.start()
    one.join()
    assert found[0].verdict == "consistent"


def test_the_simulator_is_not_interrupted(monkeypatch):
    """Its state is needed for what is told of the failure."""
    where = []
    right = Limit._overdue

    def noting(self, number, frame):
        try:
            right(self, number, frame)
        except OverdueError:
            where.append(frame.f_code.co_filename)
            raise

    monkeypatch.setattr(Limit, "_overdue", noting)
    for _ in range(4):
        Experiment(_subject(running=loop), ("a",), CrashModel(), cap=9)
    assert set(where) == {__file__}
    assert len(where) == 4


PROBE = """
def probe(*arguments):
    frames.append(sys._getframe())
    return record(*arguments)
"""


def test_what_has_no_file_belongs_to_whoever_calls_it(monkeypatch):
    """A record's `__init__` was interrupted in the middle of a write of the disk."""
    frames = []
    names = {"frames": frames, "sys": sys, "record": file_module.Write}
    exec(PROBE, names)
    monkeypatch.setattr(file_module, "Write", names["probe"])
    file = Disk().open("f", create=True)
    file.pwritev([b"x"], 0)
    names["record"] = tuple
    names["probe"]()
    inside, outside = frames
    assert inside.f_code.co_filename == outside.f_code.co_filename == "<string>"
    assert time_limit._in_simulator(inside)
    assert not time_limit._in_simulator(outside)


def test_a_library_function_that_is_all_there_is_is_ended_too():
    subject = subject_from(
        "S",
        run=lambda root, work, ack: os.mkdir(f"{root}/d"),
        recover=lambda root: 1,
        check=lambda *_: None,
        work=["a"],
        root="/db",
        returns_within=0.01,
    )
    subject._recover = lambda root: shutil.rmtree(root) or loop()
    assert _run(subject).verdict == "violated"


def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_limit_that_is_over_in_a_callback_of_the_collector_is_not_forgotten(
    monkeypatch,
):
    def slow(_phase, _info):
        busy(0.04)

    def collecting():
        while True:
            gc.collect()
            busy(0.02)

    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    gc.callbacks.append(slow)
    try:
        with pytest.raises(OverdueError), Limit(0.03):
            collecting()
    finally:
        gc.callbacks.remove(slow)
    assert not [one for one in told if one.object is slow]
