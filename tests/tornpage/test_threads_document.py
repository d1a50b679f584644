"""docs/threads.md does what it says: its code, its diff, its output."""

from pathlib import Path

import pytest
import test_wal_document as wal

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "threads.md"


@pytest.fixture(autouse=True)
def _this_document(monkeypatch):
    monkeypatch.setattr(wal, "DOCUMENT", DOCUMENT)


def said_of(folder, diffs):
    """What pytest says of the document's files, repaired or not."""
    sources = wal._sources()
    log = sources["grouped.py"]
    for diff in wal._blocks("diff")[:diffs]:
        log = wal._apply(log, diff)
    (folder / "grouped.py").write_text("# grouped.py\n" + log)
    (folder / "test_grouped.py").write_text(
        "# test_grouped.py\n" + sources["test_grouped.py"]
    )
    return wal.run_pytest(folder, "test_grouped.py")


def test_the_note_that_is_not_true_yet_is_found_as_shown(tmp_path):
    status, lines = said_of(tmp_path, 0)
    assert status == 1
    assert wal._contains(lines, wal._shown(1))


def test_a_note_of_what_is_true_passes(tmp_path):
    status, lines = said_of(tmp_path, 1)
    assert status == 0, lines
