"""Our command answers as bbolt 1.5's did, word for word, when it was recorded.

The databases stand in the recordings, so that nothing depends on how today's engine
lays pages out. See `record.py`.
"""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from tests.command.conftest import call
from tests.command.record import FOLDER, shown, word_bytes

RECORDED = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name, folder):
    """A recording: the database, written out, and [line, status, output] rows."""
    data = json.loads(FOLDER.joinpath(f"{name}.json").read_text("utf-8"))
    path = folder / "recorded.db"
    path.write_bytes(zlib.decompress(base64.b64decode(data["database"])))
    return path, data["answers"]


def differing(path, answers) -> list:
    """The rows that we answer otherwise, with our answer."""
    wrong = []
    for line, status, output in answers:
        ours = call(*(word_bytes(word, path) for word in line))
        if (ours.status, shown(ours.stdout)) != (status, output):
            wrong.append((line, (status, output), ours))
    return wrong


def test_there_are_recordings_of_at_least_twenty_databases() -> None:
    assert len(RECORDED) >= 20


@pytest.mark.parametrize("name", RECORDED)
def test_the_answer_is_bbolts(name, tmp_path) -> None:
    path, answers = load(name, tmp_path)
    before = path.read_bytes()
    assert len(answers) >= 10
    assert not differing(path, answers)
    assert path.read_bytes() == before


def test_every_reading_subcommand_of_bbolt_is_recorded(tmp_path) -> None:
    words = set()
    for name in RECORDED:
        words |= {line[0] for line, _, _ in load(name, tmp_path)[1]}
    assert words == {
        "buckets", "check", "dump", "get", "info", "inspect", "keys", "page",
        "page-item", "pages", "stats", "surgery",
    }  # fmt: skip


def test_a_changed_word_in_a_recording_is_noticed(tmp_path) -> None:
    path, answers = load("nested", tmp_path)
    planted = [[line, status, f"{output} "] for line, status, output in answers]
    assert len(differing(path, planted)) == len(answers)


def test_a_changed_status_in_a_recording_is_noticed(tmp_path) -> None:
    path, answers = load("nested", tmp_path)
    planted = [[line, status + 1, output] for line, status, output in answers]
    assert len(differing(path, planted)) == len(answers)
