"""Killing real processes: what the lane finds, and what it cannot find."""

import re
import subprocess
import sys

import pytest

from boltmodel.lanes import errors_sweep, kill, presets
from boltmodel.lanes.kill import Lane, run
from boltmodel.subject import ShearboltSubject
from tornpage.model import CrashModel
from tornpage.run import Plan
from tornpage.run import run as explore

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="forks, and kills with SIGKILL"
)


def lane(*options):
    """The lane in a process of its own: it forks, and pytest has threads."""
    return subprocess.run(
        [sys.executable, "-m", "boltmodel.lanes.kill", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def numbers(done, what):
    return [
        int(n.replace(",", "")) for n in re.findall(rf"([\d,]+) {what}", done.stdout)
    ]


def test_no_acknowledged_commit_is_lost_growing_or_not_with_readers_or_without():
    done = lane("--cycles", "40")
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(done, "processes killed") == [10, 10, 10, 10]
    assert numbers(done, "losses") == [0, 0, 0, 0]
    # A lane whose children never commit would pass, too.
    assert min(numbers(done, "commits acknowledged")) > 10


def test_a_commit_acknowledged_too_early_is_noticed():
    done = lane("--cycles", "60", "--hasty")
    assert done.returncode == 1
    assert re.search(r"commit \d+ was acknowledged, \d+ is there", done.stdout)


@pytest.mark.thorough
def test_pages_given_out_too_early_are_noticed():
    done = lane("--cycles", "120", "--mutant", "early-reuse")
    assert done.returncode == 1
    assert "a reader saw a later commit" in done.stdout


@pytest.mark.thorough
def test_the_lane_does_not_see_a_missing_sync_and_the_simulated_disk_does():
    done = lane("--cycles", "20", "--mutant", "no-data-sync")
    assert done.returncode == 0, done.stdout
    plan = Plan(
        spec="shearbolt",
        programs=3,
        model=CrashModel.parse("tear=byte"),
        mutant="no-data-sync",
        shrink=False,
    )
    assert explore(ShearboltSubject(), plan).verdict == "violated"


@pytest.mark.parametrize("main", [kill.main, errors_sweep.main, presets.main])
@pytest.mark.parametrize("number", ["0", "-4"])
def test_a_lane_that_would_do_nothing_does_not_pass(main, number, capsys):
    option = "--cycles" if main is kill.main else "--programs"
    with pytest.raises(SystemExit) as ended:
        main([option, number])
    assert ended.value.code == 2
    assert "less than 1" in capsys.readouterr().err


def test_a_process_with_threads_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("threading.active_count", lambda: 2)
    with pytest.raises(RuntimeError, match="one thread"):
        run(Lane(cycles=1), str(tmp_path))


_INTERRUPTED_AS_IT_FORKS = """
import os, signal, sys
from boltmodel.lanes.kill import Lane, run

def once():
    if not sent:
        sent.append(True)
        os.kill(os.getpid(), signal.SIGINT)

sent = []
os.register_at_fork(after_in_parent=once)
result = run(Lane(cycles=30, seed=0), sys.argv[1])
print(result.interrupted, result.cycles, len(result.losses))
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child is left")
"""


def test_an_interrupt_as_it_forks_ends_it(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_AS_IT_FORKS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "True 0 0\nno child is left\n", done.stderr
