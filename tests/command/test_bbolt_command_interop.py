"""The real bbolt command and ours, side by side.

Needs a bbolt command of version 1.5: on the PATH, or named by SHEARBOLT_BBOLT.
Debian packages bbolt's library but not its command, so these tests are skipped on
most machines and `test_recorded_bbolt.py` speaks for them.

What is not compared, and why:

* `version`: it names the program;
* error texts: ours are one line on standard error, bbolt adds its usage; and wrong
  usage ends with 2 here and 1 there;
* `page --all` where meta 0 is not the live one: bbolt takes the number of pages from
  meta 0 and stops too early;
* `bench`: times;
* bytes behind the content of pages that `surgery clear-page...` made: zero here, what
  was there before in bbolt.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from tests.command.conftest import call
from tests.command.databases import KINDS, make
from tests.command.lines import lines
from tests.command.record import real_answer, written

import shearbolt
from shearbolt.export import records

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def bbolt() -> str:
    program = os.environ.get("SHEARBOLT_BBOLT") or shutil.which("bbolt")
    if program is None:
        pytest.skip(
            "no bbolt command on the PATH or in SHEARBOLT_BBOLT:"
            " go install go.etcd.io/bbolt/cmd/bbolt@v1.5"
        )
    said = subprocess.run([program, "version"], capture_output=True, check=False).stdout
    if not said.startswith(b"bbolt Version: 1.5"):
        pytest.skip(f"{program} is not version 1.5")
    return program


@pytest.mark.parametrize("name", KINDS)
def test_both_answer_the_same(bbolt, name, tmp_path) -> None:
    path = make(name, tmp_path)
    for line in lines(path):
        theirs = real_answer(bbolt, path, written(line))
        ours = call(*(path if word == "DB" else word for word in line))
        assert (ours.status, ours.stdout) == theirs, line


ONE_BUCKET = {
    "binary", "deep-tree", "emptied", "empty", "empty-1k", "empty-values",
    "long-keys", "many-free", "no-freelist", "one-inline", "one-tree", "one-tree-4k",
    "one-tree-64k", "overflow", "overflow-4k", "random", "random-16k", "sequence-only",
}  # fmt: skip


def content(path):
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        return list(records(tx))


LINES = [
    ("compact", "DB", "-o", "OUT"),
    ("compact", "DB", "-o", "OUT", "--tx-max-size", "0"),
    ("compact", "DB", "-o", "OUT", "--tx-max-size=500"),
    ("surgery", "revert-meta-page", "DB", "--output", "OUT"),
    ("surgery", "freelist", "abandon", "DB", "--output", "OUT"),
    ("surgery", "freelist", "rebuild", "DB", "--output", "OUT"),
    ("surgery", "meta", "update", "DB", "--output", "OUT"),
    ("surgery", "meta", "update", "DB", "--output", "OUT", "--fields", "pgid:9"),
    ("surgery", "copy-page", "DB", "--output", "OUT", "--from-page", "3",
     "--to-page", "2"),
    ("surgery", "clear-page", "DB", "--output", "OUT", "--pageId", "3"),
    ("surgery", "clear-page-elements", "DB", "--output", "OUT", "--pageId", "4",
     "--from-index", "0", "--to-index", "1"),
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_both_make_the_same_file(bbolt, name, tmp_path) -> None:
    path = make(name, tmp_path)
    for number, line in enumerate(LINES):
        folder = tmp_path / str(number)
        folder.mkdir()
        compare(bbolt, name, line, path, folder)


def compare(bbolt, name, line, path, folder) -> None:
    """The files that both make of one at `path`, in a new folder."""
    outputs = folder / "theirs.db", folder / "ours.db"

    def words(output):
        places = {"DB": str(path), "OUT": str(output)}
        return [places.get(word, word) for word in line]

    theirs = subprocess.run(
        [bbolt, *words(outputs[0])], capture_output=True, check=False
    )
    ours = call(*words(outputs[1]))
    assert ours.status == theirs.returncode, line
    if ours.status:
        return
    last = theirs.stdout.splitlines()[-1:]
    assert ours.stdout.splitlines()[-1:] == last, line
    if line[0] == "compact" and name not in ONE_BUCKET:
        # With several dirty buckets bbolt's pages follow Go's random map order.
        assert outputs[1].stat().st_size == outputs[0].stat().st_size, line
        assert content(outputs[1]) == content(outputs[0]), line
    elif line[1].startswith("clear-page"):
        assert content(outputs[1]) == content(outputs[0]), line
    else:
        assert outputs[1].read_bytes() == outputs[0].read_bytes(), line
