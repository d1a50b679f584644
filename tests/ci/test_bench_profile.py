"""Profiles and floors say what was sampled and measured. Nothing timed, no profiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ci.bench import flame, profiles, tasks  # noqa: E402
from ci.bench.floors import floor, primitives  # noqa: E402
from ci.bench.workloads import Dataset, Sizes, make_dataset  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

SVG = "{http://www.w3.org/2000/svg}"

LINES = (
    "<module> (ci/bench/tasks.py);main (ci/bench/tasks.py) 50",
    "main (t.py);measured (t.py) 7",
    "main (t.py);measured (t.py);outer (a.py) 3",
    "main (t.py);measured (t.py);outer (a.py);inner (b/c.py) 5",
    "main (t.py);measured (t.py);outer (a.py);__init__ (<string>) 2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small dataset."""
    made = str(tmp_path_factory.mktemp("profile"))
    make_dataset(made, Sizes(2000, commits=120, ranges=20), seed=1)
    return made


def test_only_what_is_below_the_root_is_counted() -> None:
    stacks = flame.parse(LINES, "measured")
    assert stacks == {
        ("outer (a.py)",): 3,
        ("outer (a.py)", "inner (b/c.py)"): 5,
        ("outer (a.py)", "__init__ (<string>)"): 2,
    }


def test_a_share_is_of_what_a_module_does_itself() -> None:
    stacks = flame.parse(LINES, "measured")
    # What a record's own `__init__` takes is its caller's.
    assert flame.own_shares(stacks, 5) == [("a", 0.5), ("c", 0.5)]
    assert flame.own_shares(stacks, 1) == [("a", 0.5)]


@pytest.mark.parametrize("line", ["", "a;b", "a;b many", " 3"])
def test_what_is_no_stack_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no collapsed stack"):
        flame.parse([line], "measured")


def test_a_frame_is_as_wide_as_its_samples_and_lies_on_who_called_it() -> None:
    tree = ET.fromstring(flame.flame_graph(flame.parse(LINES, "measured"), "a <task>"))
    boxes = {
        group.findtext(f"{SVG}title"): group.find(f"{SVG}rect")
        for group in tree.iter(f"{SVG}g")
    }
    outer, inner = boxes["outer (a.py): 100.0 %"], boxes["inner (b/c.py): 50.0 %"]
    record = boxes["__init__ (<string>): 20.0 %"]
    assert outer is not None
    assert inner is not None
    assert record is not None
    width = float(tree.attrib["width"])
    assert float(outer.attrib["width"]) == pytest.approx(width, abs=1)
    assert float(inner.attrib["width"]) == pytest.approx(width / 2, abs=1)
    assert float(inner.attrib["y"]) < float(outer.attrib["y"])
    spans = sorted(
        (float(one.attrib["x"]), float(one.attrib["x"]) + float(one.attrib["width"]))
        for one in (inner, record)
    )
    assert spans[0][1] <= spans[1][0]


def test_a_flame_graph_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples of scan"):
        flame.flame_graph(flame.parse(LINES, "somebody"), "scan")


def test_every_task_has_a_floor_of_primitives_that_are_measured(folder: str) -> None:
    cost = primitives(Dataset.read(folder), folder)
    assert all(seconds > 0 for seconds in cost.values())
    used: set[str] = set()
    for task in tasks.TASKS:
        seconds, text = floor(task, cost, 0.25)
        assert seconds > 0
        terms = [term.partition(" ") for term in text.split(" + ")]
        used |= {
            rest if number[0].isdigit() else f"{number} {rest}".strip()
            for number, _, rest in terms
        }
    assert used == cost.keys()
    assert not os.path.exists(os.path.join(folder, "floors"))


def test_a_floor_is_the_sum_that_its_words_say() -> None:
    cost = {"lookup": 3.0, "read": 30.0, "decode": 15.0, "encode": 2.0, "sync": 50.0}
    assert floor("get cold", cost, 0) == (6.0, "lookup + 1/15 read + 1/15 decode")
    assert floor("commit", cost, 0) == (108.0, "4 encode + 2 sync")
    assert floor("crash point", {"recovery": 8.0}, 0.25) == (2.0, "0.25 recovery")


@pytest.mark.thorough(rows=9)
@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_task_measures_its_operations_only(
    task: str, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tasks.main([task, folder, str(tmp_path / "store.db"), "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] > 0
    once = {"commit": 20, "range": 20, "delete half": 1000}
    if task == "crash point":
        assert 0 < found["recoveries"] < found["operations"]
    else:
        assert found["operations"] == once.get(task, 2000)
        assert found["recoveries"] == 0


def test_a_profile_without_a_profiler_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(profiles.shutil, "which", lambda *_, **__: None)
    with pytest.raises(profiles.ProfilerError, match="--group bench"):
        list(profiles.profiles(str(tmp_path), ["commit"], 0.1))


@pytest.mark.thorough
def test_a_profiler_that_fails_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spy = tmp_path / "py-spy"
    spy.write_text("#!/bin/sh\necho 'Permission denied: ptrace' >&2\nexit 1\n")
    spy.chmod(0o755)
    monkeypatch.setattr(profiles.shutil, "which", lambda *_, **__: str(spy))
    monkeypatch.setattr(profiles, "primitives", lambda *_: {"loop": 1.0})
    with pytest.raises(profiles.ProfilerError, match="ptrace"):
        list(profiles.profiles(str(tmp_path), ["scan warm"], 0.0, pairs=200))
    ran = subprocess.run(
        [sys.executable, "-m", "ci.bench", "profile", "--task", "nothing"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2


def test_a_report_has_a_row_for_each_profile() -> None:
    stacks = flame.parse(LINES, "measured")

    def rows(found: Iterable[profiles.Profile]) -> list[str]:
        return profiles.table(list(found)).splitlines()[2:]

    one = profiles.Profile("get warm", 4e-6, 2e-6, "lookup", stacks)
    assert rows([one]) == [
        "| get warm | 4.00 | 2.00 | 2.0 | lookup | `a` 50 %, `c` 50 % |"
    ]
    assert rows([]) == []
