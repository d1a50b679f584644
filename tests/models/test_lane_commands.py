"""Lanes as commands: who stops one is told what it knows by then, and no verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltmodel.lanes import errors_sweep, kill, museum, presets, takeover, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _stopping(after: int, call: Callable[..., object]) -> Callable[..., object]:
    """A function that is stopped in one of its calls."""
    left = after

    def stopped(*args: object, **options: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return call(*args, **options)

    return stopped


def test_a_sweep_of_threads_says_what_it_has_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "_judge", _stopping(5, threads._judge))
    assert threads.main(["readers", "rolled-back"]) == 3
    said = capsys.readouterr().out
    assert said.startswith("readers: 5 schedules, ")
    assert ", 0 left out" not in said
    assert said.endswith("0 promises broken, interrupted\n")
    # The other scenario is not begun.
    assert said.count("\n") == 1


def test_a_sweep_of_errors_says_in_which_program_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = _stopping(9, errors_sweep.run_under_errors)
    monkeypatch.setattr(errors_sweep, "run_under_errors", running)
    assert errors_sweep.main(["--programs", "4", "--points", "0"]) == 3
    said = capsys.readouterr().out.splitlines()
    # The first run is the honest one.
    assert said[0] == "1 programs, 8 runs with a fault"
    assert said[-1].startswith("interrupted in program 1 of 4")


def test_a_sweep_of_kills_says_that_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(takeover, "_judge", _stopping(3, takeover._judge))
    assert takeover.main([]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "fail=clean"
    assert said[-1].startswith("interrupted")
    assert sum(line.startswith("fail=") for line in said) == 1


def test_a_lane_of_real_kills_says_that_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kill, "_kill_one", _stopping(2, kill._kill_one))
    assert kill.main(["--cycles", "40"]) == 3
    said = capsys.readouterr().out
    assert said.startswith("not growing, without readers: 2 processes killed")
    assert said.endswith("interrupted\n")


def _rows_until_stopped(*_: object) -> Iterator[presets.Row]:
    yield presets.Row("strict", "no file", "consistent", 3, 90, 1.0, 12)
    raise KeyboardInterrupt


@pytest.mark.parametrize("layout", [[], ["--markdown"]])
def test_a_table_of_presets_keeps_its_whole_rows(
    layout: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(presets, "rows", _rows_until_stopped)
    assert presets.main(layout) == 3
    said = capsys.readouterr().out
    assert "strict" in said
    total = len(presets.PRESETS) * len(presets.START)
    assert said.endswith(f"interrupted: 1 of {total} rows\n")


def test_a_museum_says_how_many_bugs_were_not_hunted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(museum, "_told", _stopping(1, museum._told))
    names = ["no-data-sync", "no-meta-sync", "no-sync"]
    assert museum.main(names[:2]) == 3
    said = capsys.readouterr().out
    assert "1 of 1 found" in said
    assert said.count("interrupted: 1 were not hunted") == 1
