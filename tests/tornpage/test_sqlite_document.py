"""docs/sqlite.md does what it says: its code, its diff, its output."""

import sqlite3
from pathlib import Path

import pytest
import test_wal_document as wal

from tornpage.patch import sqlite

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "sqlite.md"
SHOWN_WITH = "3.40.1"

pytestmark = pytest.mark.skipif(
    not sqlite.reachable(), reason="this Python has SQLite inside, out of reach"
)


@pytest.fixture(autouse=True)
def _this_document(monkeypatch):
    monkeypatch.setattr(wal, "DOCUMENT", DOCUMENT)


def said_of(folder, diffs):
    """What pytest says of the document's files, repaired or not."""
    sources = wal._sources()
    for diff in wal._blocks("diff")[:diffs]:
        sources["visits.py"] = wal._apply(sources["visits.py"], diff)
    for name, code in sources.items():
        # A line of the file is the line that the document shows: its name is line 1.
        (folder / name).write_text(f"# {name}\n{code}")
    return wal.run_pytest(folder, "test_visits.py")


def test_the_last_visit_that_comes_back_out_is_found_as_shown(tmp_path):
    status, lines = said_of(tmp_path, 0)
    assert status == 1
    shown = wal._shown(0)
    at = next(i for i, line in enumerate(shown) if line.startswith("In short"))
    assert wal._contains(lines, shown[at : at + 2])
    assert "unlink" in shown[at]
    if sqlite3.sqlite_version == SHOWN_WITH:
        assert wal._contains(lines, shown)


@pytest.mark.thorough
def test_with_the_folder_synced_no_visit_is_lost(tmp_path):
    status, lines = said_of(tmp_path, 1)
    assert status == 0, lines
    [shown] = wal._shown(1)
    if sqlite3.sqlite_version == SHOWN_WITH:
        assert shown in lines
