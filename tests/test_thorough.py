"""The suite leaves out what is marked thorough, and nothing else."""

from pathlib import Path
from types import SimpleNamespace

import pytest

SUITE = ["rows[0]", "rows[2]", "usual[0]", "usual[1]"]
ROWS = [f"rows[{row}]" for row in range(5)]
USUAL = ["usual[0]", "usual[1]"]


class Item:
    """A test, as the suite's conftest looks at it."""

    def __init__(self, name, mark):
        self.nodeid, self.path, self._mark = f"test_file.py::{name}", "file", mark

    def get_closest_marker(self, name):
        return self._mark if name == "thorough" else None


def items():
    yield Item("whole", pytest.mark.thorough.mark)
    for name in ROWS:
        yield Item(name, pytest.mark.thorough(rows=2).mark)
    for name in USUAL:
        yield Item(name, None)


@pytest.mark.parametrize(
    ("times", "argument", "marked", "left"),
    [
        (1, "tests", "", SUITE),
        (1, "tests", "not interop", SUITE),
        (1, "tests", "thorough", ["whole", *ROWS, *USUAL]),
        (2, "tests", "", ["whole", *ROWS, *USUAL]),
        (1, "tests/test_file.py::whole", "", ["whole", *ROWS, *USUAL]),
    ],
)
def test_what_is_thorough_is_left_out_unless_it_is_asked_for(
    times, argument, marked, left, pytestconfig, monkeypatch
):
    """Of a table so many rows stay, the first among them."""
    path = Path(__file__).with_name("conftest.py")
    conftest = pytestconfig.pluginmanager.get_plugin(str(path))
    monkeypatch.setattr(conftest, "TIMES", times)
    monkeypatch.setattr(conftest, "WORKER", None)
    told, found = [], [*items()]

    def note(items):
        told.extend(items)

    config = SimpleNamespace(
        args=[argument],
        option=SimpleNamespace(markexpr=marked),
        hook=SimpleNamespace(pytest_deselected=note),
    )
    conftest.pytest_collection_modifyitems(config, found)
    assert [one.nodeid.removeprefix("test_file.py::") for one in found] == left
    assert len(told) + len(found) == len([*items()])
