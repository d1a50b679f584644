"""docs/your-own-store.md does what it says: its code, its diffs, its output."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "your-own-store.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def _blocks(language):
    text = DOCUMENT.read_text("utf-8")
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def _sources():
    """The files of the document by name."""
    named = {}
    for body in _blocks("python"):
        head, _, code = body.partition("\n")
        named[head.removeprefix("# ")] = code
    return named


def _apply(code, diff):
    lines = diff.splitlines()
    old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    assert code.count(old) == 1
    return code.replace(old, new)


def _write(folder, diffs, check="tornpage.check(WAL)"):
    """Put the document's files there, the log with so many of its repairs."""
    sources = _sources()
    wal = sources["wal.py"]
    for diff in _blocks("diff")[:diffs]:
        wal = _apply(wal, diff)
    # A line of the file is the line that the document shows: its name is line 1.
    (folder / "wal.py").write_text("# wal.py\n" + wal)
    test = sources["test_wal.py"].replace("tornpage.check(WAL)", check)
    (folder / "test_wal.py").write_text("# test_wal.py\n" + test)


def _pytest(folder, diffs, check="tornpage.check(WAL)"):
    _write(folder, diffs, check)
    return run_pytest(folder, "test_wal.py")


def run_pytest(folder, name):
    """Run a file of tests; its exit status and the lines it printed."""
    options = ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "."]
    # Nothing here uses it, and it takes 2 s to import where no bytecode is kept.
    options += ["-p", "no:hypothesispytest", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    return done.returncode, [line.removeprefix("E").strip() for line in lines]


def _shown(number):
    return [line.strip() for line in _blocks("")[number].splitlines()]


def _contains(lines, part):
    return any(
        lines[at : at + len(part)] == part for at in range(len(lines) - len(part) + 1)
    )


def test_the_log_and_its_test_are_as_short_as_is_said():
    sources = _sources()
    assert len(sources["wal.py"].splitlines()) <= 30
    code = [line for line in sources["test_wal.py"].splitlines() if line]
    assert len(code) <= 15


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("diffs", [0, 1])
def test_each_missing_fsync_is_found_with_the_story_that_is_shown(diffs, tmp_path):
    status, lines = _pytest(tmp_path, diffs)
    assert status == 1
    shown = _shown(diffs)
    assert shown[0].startswith("AssertionError: BROKEN")
    assert _contains(lines, shown)


def test_the_log_with_both_is_consistent_and_every_point_is_closed(tmp_path):
    status, lines = _pytest(tmp_path, 2)
    assert status == 0
    [shown] = _shown(2)
    assert shown in lines
    points, closed = re.search(
        r"([\d,]+) crash points \(([\d,]+) closed", shown
    ).groups()
    assert points == closed


@pytest.mark.thorough
def test_recovery_of_the_log_can_be_crashed(tmp_path):
    checks = [line.strip() for body in _blocks("python") for line in body.splitlines()]
    assert "tornpage.check(WAL, crashes=2)" in checks
    status, lines = _pytest(tmp_path, 2, "tornpage.check(WAL, crashes=2)")
    assert status == 0
    points, closed = re.search(
        r"([\d,]+) crash points \(([\d,]+) closed", "\n".join(lines)
    ).groups()
    assert points == closed


def _tornpage(folder, command):
    """Run it beside the document's files with its planted bugs."""
    _write(folder, 2)
    bugs = "# test_bugs.py\n" + _sources()["test_bugs.py"]
    (folder / "test_bugs.py").write_text(bugs)
    return subprocess.run(
        [sys.executable, "-m", "tornpage", *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_planted_bugs_are_caught_as_is_shown(tmp_path):
    done = _tornpage(tmp_path, "mutants test_bugs:WAL --check")
    assert done.returncode == 0, done.stderr
    shown = _blocks("")[3]
    # Seconds are those of one machine.
    seconds = re.compile(r"\d+\.\d s")
    assert seconds.sub("", done.stdout) == seconds.sub("", shown)


def test_the_document_names_the_command_that_tells_of_one(tmp_path):
    command = "run test_bugs:WAL --mutant no-fsync"
    assert f"`tornpage {command}`" in DOCUMENT.read_text("utf-8")
    # A few of its programs show it as all do.
    done = _tornpage(tmp_path, command + " --programs 8")
    assert done.returncode == 1
    assert "BROKEN: check" in done.stdout


@pytest.mark.thorough
def test_where_fsync_takes_the_name_along_the_first_sync_is_enough(tmp_path):
    model = 'tornpage.check(WAL, model="names=fsync")'
    assert f"`{model}`" in DOCUMENT.read_text("utf-8")
    # That it is not enough elsewhere is shown above.
    status, _ = _pytest(tmp_path, 1, model)
    assert status == 0
