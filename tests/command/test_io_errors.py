"""An I/O error at any operation: one line, no output, the source as it was.

Each subcommand runs once to count its storage operations, and then once for each of
them, with that one failing.
"""

from __future__ import annotations

import errno
from contextlib import suppress

import pytest
from tests.command.conftest import call

import shearbolt
from shearbolt.export import PairRecord, records, to_lines
from tornpage.choices import Enumerator
from tornpage.disk import Disk

COMMANDS = [
    ("check", "/a.db"),
    ("export", "/a.db"),
    ("pages", "/a.db"),
    ("page", "/a.db", "--all"),
    ("diff", "/a.db", "/a.db"),
    ("compact", "/a.db", "-o", "/out.db"),
    ("import", "--output", "/out.db"),
    ("put", "/a.db", "top", "k", "v"),
    ("surgery", "revert-meta-page", "/a.db", "--output", "/out.db"),
    ("surgery", "clear-page", "/a.db", "--output", "/out.db", "--pageId", "4"),
    ("surgery", "freelist", "abandon", "/a.db", "--output", "/out.db"),
    ("surgery", "freelist", "rebuild", "/none.db", "--output", "/out.db"),
]
FAILING = {
    "open", "rename", "fsync_dir", "pread", "pwritev", "ftruncate", "fdatasync",
    "fsync", "size", "lock",
}  # fmt: skip


class Broken:
    """A storage, or a file of one, whose operation number `at` fails."""

    def __init__(self, inner, counter: list[int]) -> None:
        self._inner = inner
        self._counter = counter
        self.left_open: list[Broken] = []
        self._closing: list[Broken] = []

    def __getattr__(self, name: str):
        method = getattr(self._inner, name)
        if name == "close" and self in self._closing:
            self._closing.remove(self)
        if name not in FAILING:
            return method

        def operation(*arguments, **options):
            self._counter[0] -= 1
            if self._counter[0] == 0:
                raise OSError(errno.EIO, "Input/output error")
            result = method(*arguments, **options)
            if name != "open":
                return result
            file = Broken(result, self._counter)
            file._closing = self.left_open
            self.left_open.append(file)
            return file

        return operation


@pytest.fixture
def files(made, tmp_path):
    return {
        "/a.db": made("nested").read_bytes(),
        "/none.db": made("no-freelist-4k").read_bytes(),
    }


LINES = b"".join(to_lines([PairRecord((b"b",), b"k", b"v")]))


def content(disk: Disk, path: str) -> list:
    with shearbolt.open(path, read_only=True, storage=disk) as db, db.view() as tx:
        assert tx.check() == []
        return list(records(tx))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_an_error_at_any_operation_is_one_line_and_harms_nothing(words, files) -> None:
    counter = [0]
    undisturbed = Disk(files)
    answer = call(*words, storage=Broken(undisturbed, counter), stdin=LINES)
    assert answer.status == 0, answer.stderr
    operations = -counter[0]
    assert operations >= 5
    failed = 0
    for at in range(1, operations + 1):
        disk = Disk(files)
        broken = Broken(disk, [at])
        answer = call(*words, storage=broken, stdin=LINES)
        assert not broken.left_open, at
        if answer.status == 0 and words[0] == "page":
            # A page that could not be read is said in its place.
            assert b"Input/output error" in answer.stdout
        elif answer.status == 0:
            # The engine has healed a failed sync; then the work is done, for good.
            found = disk.crash(Enumerator())
            for path in ("/a.db", "/out.db"):
                assert found.exists(path) == undisturbed.exists(path)
                if found.exists(path):
                    assert content(found, path) == content(undisturbed, path)
        else:
            failed += 1
            assert answer.stderr.startswith("Error: "), at
            assert answer.stderr.count("\n") == 1
            assert "Input/output error" in answer.stderr
            unchanged = content(Disk(files), "/a.db")
            assert content(disk, "/a.db") == unchanged or words[0] == "put"
            # Only the sync of its name may have failed.
            if disk.exists("/out.db"):
                assert content(disk, "/out.db") == content(undisturbed, "/out.db")
    assert failed >= operations // 2 or words[0] == "page"
    assert failed >= 3


def test_the_sweep_would_notice_an_operation_whose_error_is_ignored(files) -> None:
    class Deaf(Broken):
        """Reports success for a sync that failed."""

        def __getattr__(self, name: str):
            operation = super().__getattr__(name)
            if name == "open":
                return lambda *words, **options: Deaf(
                    operation(*words, **options)._inner, self._counter
                )
            if name != "fdatasync":
                return operation

            def sync() -> None:
                with suppress(OSError):
                    operation()

            return sync

    words = ("import", "--output", "/out.db")
    counter = [0]
    call(*words, storage=Deaf(Disk(files), counter), stdin=LINES)
    # From the end: the last sync of the file is the one that matters.
    assert any(breaks(words, Deaf, files, at) for at in range(-counter[0], 0, -1))


def breaks(words, kind, files, at: int) -> bool:
    """Whether a success at operation `at` may be gone, or broken, after a crash."""
    disk = Disk(files)
    if call(*words, storage=kind(disk, [at]), stdin=LINES).status:
        return False
    tree = Enumerator()
    for _ in range(200):
        try:
            content(disk.crash(tree), "/out.db")
        except (shearbolt.BoltError, AssertionError):
            return True
        if not tree.advance():
            break
    return False
