"""Who watches is told how far it is; who does not is told nothing."""

from __future__ import annotations

import io

import pytest

from tornpage import progress
from tornpage.progress import Look, showing, watching
from tornpage.threads import Schedules


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "_REDRAW", 0.0)
    return Terminal()


def test_a_terminal_is_told_how_far_it_is_and_left_clean(watched: Terminal) -> None:
    with showing("sweep", watched) as show:
        show(lambda: Look(1, 4, "1/4 schedules"))
        show(lambda: Look(3, 4, "3/4 schedules"))
    shown = watched.getvalue()
    assert "sweep" in shown
    assert "1/4 schedules" in shown
    assert shown.index("1/4 schedules") < shown.index("3/4 schedules")
    # The line that was drawn last is erased.
    assert shown.rindex("\x1b[2K") > shown.rindex("schedules")


def test_what_is_shown_is_made_only_when_something_is_drawn(
    watched: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_REDRAW", 3600.0)
    with showing("sweep", watched) as show:
        show(lambda: pytest.fail("asked for nothing"))


@pytest.mark.parametrize("how", ["pipe", "CI", "dumb", "quiet"])
def test_nobody_is_told_anything_who_does_not_watch(
    how: str, watched: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream: io.StringIO = io.StringIO() if how == "pipe" else watched
    if how == "CI":
        monkeypatch.setenv("CI", "true")
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with showing("sweep", stream, quiet=how == "quiet") as show:
        show(lambda: pytest.fail("asked for nothing"))
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("programs", "shown"), [(8, "2/8 programs"), (None, "2 programs")]
)
def test_a_run_is_shown_by_its_counts(
    programs: int | None, shown: str, watched: Terminal
) -> None:
    class Counts:
        programs = 2
        crash_points = 1204
        executions = 7

    with watching("toy", watched, programs=programs, seconds=60) as watch:
        watch(Counts)
    assert f" {shown}  1,204 crash points" in watched.getvalue()
    assert "7 executions" in watched.getvalue()


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("switches", [0, 1, 2])
def test_in_the_end_all_schedules_that_were_known_were_run_or_left_out(
    switches: int, share: float
) -> None:
    counts: list[int] = []

    def once(turns: object) -> list[object]:
        counts.append(0)

        def body() -> None:
            counts[-1] += 1
            counts[-1] += 1

        return [body, body, body]

    every = Schedules(once, (__file__,), switches=switches, share=share)
    known = []
    for _ in every:
        known.append(every.known)
        assert every.played + every.left_out <= every.known
    assert known == sorted(known)
    assert every.known == every.played + every.left_out
    assert every.left_out > 0 or share == 1
