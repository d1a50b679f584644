"""docs/threads.md does what it says: its code, its diff, its output."""

from pathlib import Path

import pytest
import test_wal_document as wal

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "threads.md"


@pytest.fixture(autouse=True)
def _this_document(monkeypatch):
    monkeypatch.setattr(wal, "DOCUMENT", DOCUMENT)


def said_of(folder, repaired, name="grouped", diff=0, only=None, share=None):
    """What pytest says of a store of the document, repaired or not.

    With `only` under that schedule: all of them take many seconds. With `share` under
    that share of them.
    """
    sources = dict(wal._sources())
    if repaired:
        sources[f"{name}.py"] = wal._apply(
            sources[f"{name}.py"], wal._blocks("diff")[diff]
        )
    test = sources.pop("test_grouped.py").replace("grouped", name)
    if only is not None:
        assert test.count("schedules(switches=2)") == 1
        test = test.replace("schedules(switches=2)", f"[{only!r}]")
    if share is not None:
        assert test.count("switches=switches") == 1
        test = test.replace("switches=switches", f"switches=switches, share={share}")
    sources[f"test_{name}.py"] = test
    for file, source in sources.items():
        (folder / file).write_text(f"# {file}\n{source}")
    return wal.run_pytest(folder, f"test_{name}.py")


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("only", ["0:4>1:6>0", None])
def test_the_note_that_is_not_true_yet_is_found_as_shown(only, tmp_path):
    status, lines = said_of(tmp_path, repaired=False, only=only)
    assert status == 1
    assert wal._contains(lines, wal._shown(1))


@pytest.mark.thorough
def test_a_note_of_what_is_true_passes(tmp_path):
    # Without the repair this share of the schedules fails, a fifth does not.
    status, lines = said_of(tmp_path, repaired=True, share=0.4)
    assert status == 0, lines


SHOWN = "0~0>2:5>1"


@pytest.mark.thorough
def test_what_a_thread_of_the_store_syncs_too_little_is_found_as_shown(tmp_path):
    assert any(SHOWN in line for line in wal._shown(2))
    status, lines = said_of(tmp_path, False, "flushed", 1, SHOWN)
    assert status == 1
    assert wal._contains(lines, wal._shown(2))


@pytest.mark.thorough
def test_a_thread_of_the_store_that_syncs_enough_passes(tmp_path):
    status, lines = said_of(tmp_path, True, "flushed", 1, SHOWN)
    assert status == 0, lines
