"""Databases are reached through the storage seam only, and outputs survive crashes.

The disk is tornpage's. A crash at any point of `compact` or of surgery must leave
either no output of that name or a whole one: that is what lets a script trust the
name it gave.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.command.conftest import call

import shearbolt
from shearbolt.export import records
from tornpage.choices import Enumerator
from tornpage.disk import Disk

COMMANDS = [
    ("info", "/a.db"),
    ("check", "/a.db"),
    ("buckets", "/a.db"),
    ("keys", "/a.db", "top"),
    ("get", "/a.db", "top", "plain"),
    ("pages", "/a.db"),
    ("page", "--all", "/a.db"),
    ("page-item", "/a.db", "4", "0"),
    ("dump", "/a.db", "0"),
    ("stats", "/a.db"),
    ("inspect", "/a.db"),
    ("compact", "/a.db", "-o", "/out.db"),
    ("export", "/a.db"),
    ("import", "--partial", "--into", "/a.db"),
    ("import", "--partial", "--output", "/out.db"),
    ("diff", "/a.db", "/a.db"),
    ("put", "/a.db", "top", "k", "v"),
    ("delete", "/a.db", "top", "plain"),
    ("repair", "/a.db", "-o", "/out.db"),
    ("surgery", "revert-meta-page", "/a.db", "--output", "/out.db"),
    ("surgery", "copy-page", "/a.db", "--output", "/out.db", "--from-page", "0",
     "--to-page", "1"),
    ("surgery", "freelist", "abandon", "/a.db", "--output", "/out.db"),
    ("surgery", "meta", "validate", "/a.db"),
    ("surgery", "meta", "update", "/a.db", "--output", "/out.db"),
]  # fmt: skip


@pytest.fixture
def disk(made):
    return Disk({"/a.db": made("nested").read_bytes()})


# An audit hook cannot be removed, and each of the interpreter's events would go through
# it in all tests that follow: the commands are run under it in a process of their own.
LISTENING = """
import io, json, sys
from shearbolt.command import main
from tornpage.disk import Disk

opened = []
sys.addaudithook(lambda event, about: event == "open" and opened.append(str(about[0])))

def call(words, storage):
    sys.stdin, sys.stdout = (io.TextIOWrapper(io.BytesIO()) for _ in range(2))
    sys.stderr = io.StringIO()
    del opened[:]
    status = main(words, storage=storage)
    past = [name for name in opened if name.endswith(".db")]
    return status, sys.stderr.getvalue(), past

streams = sys.stdout, sys.stderr
path, *commands = json.load(sys.stdin)
with open(path, "rb") as file:
    content = file.read()
found = [call(words, Disk({"/a.db": content})) for words in commands]
found.append(call(["info", path], None))
sys.stdout, sys.stderr = streams
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def heard(made):
    """(status, errors, databases opened past the seam) by the words of a command.

    "past" is a command without a simulated disk.
    """
    done = subprocess.run(
        [sys.executable, "-c", LISTENING],
        input=json.dumps([str(made("nested")), *COMMANDS]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip([*COMMANDS, "past"], json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_no_database_is_opened_past_the_seam(words, heard) -> None:
    status, errors, opened = heard[words]
    assert status == 0, errors
    assert opened == []


def test_the_listener_would_notice_a_file_opened_past_the_seam(heard) -> None:
    status, _, opened = heard["past"]
    assert status == 0
    assert len(opened) == 1


def content(storage, path):
    with (
        shearbolt.open(path, read_only=True, storage=storage, timeout=0) as db,
        db.view() as tx,
    ):
        assert tx.check() == []
        return list(records(tx))


def outcomes(disk: Disk, path: str) -> tuple[int, set[str]]:
    """Crash after every operation, every way; what stands under the name then."""
    crashes, found = 0, set()
    for operations in range(len(disk.trace.operations()) + 1):
        tree = Enumerator()
        while True:
            crashes += 1
            after = disk.crash(tree, operations)
            if not after.exists(path):
                found.add("nothing")
            else:
                found.add(str(content(after, path)))
            if not tree.advance():
                break
    return crashes, found


@pytest.mark.parametrize(
    "words",
    [
        ("compact", "/a.db", "-o", "/out.db"),
        ("import", "--output", "/out.db"),
        ("surgery", "freelist", "abandon", "/a.db", "--output", "/out.db"),
        ("repair", "/a.db", "--output", "/out.db"),
    ],
    ids=lambda words: words[0],
)
def test_after_a_crash_there_is_no_output_or_a_whole_one(words, disk) -> None:
    lines = call("export", "/a.db", storage=disk).stdout
    assert call(*words, storage=disk, stdin=lines).status == 0
    crashes, found = outcomes(disk, "/out.db")
    assert found == {"nothing", str(content(disk, "/a.db"))}
    assert crashes > len(disk.trace.operations())


def test_without_the_sync_before_the_rename_a_crash_leaves_a_broken_output(
    disk,
) -> None:
    words = ("compact", "/a.db", "-o", "/out.db", "--no-sync")
    assert call(*words, storage=disk).status == 0
    with pytest.raises((shearbolt.BoltError, AssertionError)):
        outcomes(disk, "/out.db")


@pytest.mark.parametrize(
    "words",
    [
        ("surgery", "freelist", "abandon", "/a.db", "--output", "/out.db"),
        ("put", "--create", "/out.db", "b", "k", "v"),
        ("compact", "/a.db", "-o", "/out.db"),
        ("repair", "/a.db", "--output", "/out.db"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_returns_when_its_work_is_durable(words, disk) -> None:
    assert call(*words, storage=disk).status == 0
    expected = content(disk, "/out.db")
    tree = Enumerator()
    while True:
        assert content(disk.crash(tree), "/out.db") == expected
        if not tree.advance():
            break
