"""A command as a process: its status is right and it cleans up, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, sys, time
from tornpage.command.program import as_program

def body():
"""
END = """
sys.exit(as_program("lane", body))
"""


def shell(body: str, redirections: str = "") -> subprocess.CompletedProcess[bytes]:
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return subprocess.run(
        [
            *("sh", "-c", f'"$@" {redirections}', "sh"),
            *(sys.executable, "-c", BEGIN + lines + END),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=buffered,
        check=False,
        timeout=60,
    )


PRINTING = ("print('found')", "print('found', flush=True)", "print('f' * 100_000)")


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("line", PRINTING)
def test_a_verdict_that_could_not_be_written_is_one_line_and_none(line):
    done = shell(f"{line}\nreturn 0", ">/dev/full")
    wanted = (
        b"lane: the result cannot be written to standard output: No space left on "
        b"device\n"
    )
    assert (done.returncode, done.stderr) == (3, wanted)
    done = shell(f"time.sleep(0.3)\n{line}\nreturn 0", "| true")
    assert done.stderr == b""


def test_without_standard_output_nothing_is_run():
    done = shell("os.mkdir('/nonexistent/x')\nreturn 0", ">&-")
    assert done.returncode == 2
    assert done.stderr.startswith(b"lane: standard output is closed")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_without_standard_error_it_is_as_with_it(redirection):
    lines = "print('found')\nsys.stderr.isatty()"
    done = shell(f"{lines}\nreturn 0", redirection)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"found\n", b"")


def test_an_error_is_not_taken_for_a_broken_promise():
    done = shell("raise OSError(5, 'Input/output error', 'f')")
    assert done.returncode == 3
    assert b"no verdict was reached" in done.stderr


WAITING = """
made = sys.argv[1]
try:
    os.mkdir(made)
    print("there", flush=True)
    time.sleep(30)
finally:
    os.rmdir(made)
"""


# nohup, and `&` in a script, have some ignored.
HEARD = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.{hangup})
"""


def waiting(made, hangup="SIG_DFL") -> subprocess.Popen[bytes]:
    lines = "".join(f"    {line}\n" for line in WAITING.splitlines())
    process = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            *(HEARD.format(hangup=hangup) + BEGIN + lines + END, str(made)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"there\n"
    return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_ends_it_leaves_nothing_behind_and_no_verdict(signum, tmp_path):
    made = tmp_path / "made"
    process = waiting(made)
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (3, b"interrupted: no verdict was reached\n")
    assert not made.exists()


def test_what_somebody_ignores_stays_ignored(tmp_path):
    process = waiting(tmp_path / "made", "SIG_IGN")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 3
