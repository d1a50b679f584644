"""Signals that end the command: it leaves nothing behind, and says which it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

import shearbolt
from shearbolt.command import main, transfer

# The command, stopped in the middle of its work until a signal comes.
STOPPED = """
import signal, sys
import shearbolt.salvage.repair, shearbolt.surgery, shearbolt.compact
from shearbolt.command import main, transfer
def stop(*_, **__):
    if sys.argv[1] == "ignored":
        print("ready", flush=True)
        signal.sigtimedwait([signal.SIGUSR1], 0.2)
        return iter(())
    print("ready", flush=True)
    signal.pause()
# Whoever runs the tests may ignore some, as `nohup` does.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
ignored = sys.argv[1] == "ignored"
signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
shearbolt.compact.records = stop
sys.modules["shearbolt.salvage.repair"]._verify = stop
shearbolt.surgery.open_database = stop
transfer.records = stop
sys.exit(main(sys.argv[2:]))
"""


def ended_by(signum, kind, *words):
    """The exit status and the standard error of a command that a signal met."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, kind, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signum)
            _, error = process.communicate(timeout=60)
        finally:
            # Nothing to do, but when a signal was not heard: it would be waited for.
            process.kill()
    return process.returncode, error


COMPACT = ("compact", "PATH", "-o", "OUT")


# What turns a signal into an exception is the same for all subcommands.
@pytest.mark.thorough(rows=3)
@pytest.mark.parametrize(
    ("words", "signum"),
    [
        (COMPACT, signal.SIGTERM),
        (COMPACT, signal.SIGHUP),
        (COMPACT, signal.SIGINT),
        (("repair", "PATH", "-o", "OUT"), signal.SIGTERM),
        (
            ("surgery", "freelist", "rebuild", "PATH", "--output", "OUT"),
            signal.SIGHUP,
        ),
        (("export", "PATH", "-o", "OUT"), signal.SIGTERM),
        (("export", "PATH", "-o", "OUT"), signal.SIGINT),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else one.name,
)
def test_a_signal_that_ends_it_leaves_no_file_behind(words, signum, tmp_path) -> None:
    path = tmp_path / "a.db"
    with shearbolt.open(path, no_freelist_sync=True) as db, db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v"
    before = path.read_bytes()
    places = {"PATH": path, "OUT": tmp_path / "out.db"}
    words = [places.get(word, word) for word in words]
    assert ended_by(signum, "plain", *words) == (128 + signum, b"")
    assert os.listdir(tmp_path) == ["a.db"]
    assert path.read_bytes() == before


def test_a_signal_that_somebody_ignores_stays_ignored(nested, tmp_path) -> None:
    words = ("compact", nested, "-o", tmp_path / "out.db")
    assert ended_by(signal.SIGHUP, "ignored", *words) == (0, b"")
    assert (tmp_path / "out.db").exists()


def test_an_interrupt_as_an_export_is_made_leaves_nothing(
    nested, tmp_path, monkeypatch
) -> None:
    real, target = transfer.opener, tmp_path / "out.jsonl"

    def made_and_interrupted(path, flags):
        os.close(real(path, flags))
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "opener", made_and_interrupted)
    assert main(["export", str(nested), "-o", str(target)]) == 128 + signal.SIGINT
    assert not target.exists()

    def made_by_others(path, flags):
        target.write_text("others'")
        return real(path, flags)

    monkeypatch.setattr(transfer, "opener", made_by_others)
    assert main(["export", str(nested), "-o", str(target)]) == 1
    assert target.read_text() == "others'"


def test_the_command_as_a_function_leaves_the_signals_as_they_were(nested) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    assert main(["check", str(nested)]) == 0
    statuses = []
    thread = threading.Thread(
        target=lambda: statuses.append(main(["check", str(nested)]))
    )
    thread.start()
    thread.join(60)
    assert statuses == [0]
    assert before == [
        signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)
    ]


INTERRUPTED_IMPORT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
def look(event, arguments):
    if event == "import" and arguments[0] == "{}":
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(look)
from shearbolt.__main__ import main
sys.argv[1:] = ["version"]
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["argparse", "shearbolt.command"])
def test_ctrl_c_while_the_command_is_imported_is_no_traceback(module) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT.format(module)],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
