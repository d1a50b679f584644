"""Help teaches; progress is for somebody who watches, and leaves no trace."""

from __future__ import annotations

import io
from contextlib import contextmanager

import pytest

from shearbolt.command import COMMANDS
from shearbolt.command.session import Progress, Session


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_each_argument_and_shows_an_example(name, run) -> None:
    answer = run(*name.split(), "--help")
    assert answer.status == 0
    assert f"  shearbolt {name}" in answer.text.partition("example:")[2]
    assert run("help", *name.split()).stdout == answer.stdout
    assert all(len(line) <= 88 for line in answer.text.splitlines())


def test_the_list_of_subcommands_names_them_all(run) -> None:
    text = run().text
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "surgery meta" not in run("surgery", "freelist").text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def clock(monkeypatch, step: float):
    """Each look at the clock is so many seconds later than the one before."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += step
        return now[0]

    with monkeypatch.context() as patch:
        patch.setattr("shearbolt.command.session.time.monotonic", monotonic)
        yield


def test_progress_is_drawn_on_a_terminal_and_removed(monkeypatch) -> None:
    stream = Terminal()
    with clock(monkeypatch, 1.0):
        line = Progress(stream, "copy", "bytes")
        line(50, 200)
        line(1234)
        line.clear()
    assert stream.getvalue() == (
        "\rcopy  50 bytes  25%\x1b[K\rcopy  1,234 bytes\x1b[K\r\x1b[K"
    )


def test_progress_of_short_work_is_not_drawn(monkeypatch) -> None:
    stream = Terminal()
    with clock(monkeypatch, 0.001):
        line = Progress(stream, "copy", "bytes")
        for done in range(50):
            line(done)
        line.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("stream", "environment", "drawn"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"CI": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_progress_is_for_somebody_who_watches(
    stream, environment, drawn, monkeypatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = Session(stdin=io.BytesIO(), stdout=io.BytesIO(), stderr=stream)
    with session.progress("copy", "bytes") as progress:
        assert (progress is not None) is drawn
