"""Databases are reached through the storage seam only, and outputs survive crashes.

The disk is tornpage's. A crash at any point of `compact` or of surgery must leave
either no output of that name or a whole one: that is what lets a script trust the
name it gave.
"""

from __future__ import annotations

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


# An audit hook cannot be removed, so there is one, which listens while it is told to.
_opened: list[str] | None = None


def _listen(event: str, arguments: tuple) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


sys.addaudithook(_listen)


def opened_by(words, disk):
    global _opened  # noqa: PLW0603 - the hook is global, too
    _opened = []
    try:
        answer = call(*words, storage=disk)
        return answer, [name for name in _opened if name.endswith(".db")]
    finally:
        _opened = None


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_no_database_is_opened_past_the_seam(words, disk) -> None:
    answer, opened = opened_by(words, disk)
    assert answer.status == 0, answer.stderr
    assert opened == []


def test_the_listener_would_notice_a_file_opened_past_the_seam(made) -> None:
    answer, opened = opened_by(("info", made("nested")), None)
    assert answer.status == 0
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
