"""Progress for somebody who watches: one line on standard error, then gone.

    toy ━━━━━━━━╸━━━━━ 23/50 programs  1,204 crash points  4,310/s  2,877 executions

A fuzzer has two lines, and what cannot wait is printed above them:

    toy ━━━━━━━━╸━━━━━ 61 of 900 s  fuzzing  412 programs  3,011 executions/s
    316 features, the newest 12 programs ago  41 kept  0 failures  2 x 61 MiB

It appears on a terminal only. In pipes, in CI and with --quiet nothing is written,
because a log full of carriage returns helps nobody, and rich is not even imported:
its import costs more than a short run.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Board",
    "Counts",
    "FuzzCounts",
    "Look",
    "Show",
    "Watch",
    "fuzzing",
    "is_watched",
    "make_room",
    "showing",
    "silent",
    "watching",
]

# A look at the clock costs 50 ns, a redraw some milliseconds; ten a second look
# smooth.
_REDRAW = 0.1


class Counts(Protocol):
    """What a watcher may look at while a run goes on."""

    programs: int
    crash_points: int
    executions: int


if TYPE_CHECKING:
    Watch = Callable[[Counts], None]


def silent(_: Counts) -> None:
    """Watch nothing."""


def is_watched(stream: TextIO) -> bool:
    """Whether somebody looks at this stream as it is written."""
    return (
        stream.isatty()
        and not os.environ.get("CI")
        and os.environ.get("TERM") != "dumb"
    )


def make_room(stream: TextIO, *, quiet: bool = False) -> None:
    """Take the line of `watching` away, for a result on the same terminal.

    It is drawn again below, at the next look.

    Args:
        stream: Where it is shown.
        quiet: It is not.
    """
    if not quiet and is_watched(stream):
        stream.write("\r\x1b[2K")
        stream.flush()


@dataclass(frozen=True, slots=True)
class Look:
    """How far something is.

    Attributes:
        done: How much is done, in any unit.
        total: How much there is to do, as far as is known; None: nobody knows.
        counts: What to say about it, in one line.
    """

    done: float
    total: float | None
    counts: str


if TYPE_CHECKING:
    # Called as often as one likes; what it is given is asked when something is drawn.
    Show = Callable[[Callable[[], Look]], None]


def _show_nobody(_: Callable[[], Look]) -> None:
    """Nobody watches."""


@contextmanager
def showing(name: str, stream: TextIO, *, quiet: bool = False) -> Iterator[Show]:
    """One line on `stream` about anything that takes long, when that is a terminal.

    Args:
        name: What it is.
        stream: Where to show it.
        quiet: Show nothing in any case.
    """
    if quiet or not is_watched(stream):
        yield _show_nobody
        return
    # Not at the top: see the module's head.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    drawn = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[counts]}"),
    )
    with Progress(
        *columns,
        console=Console(file=stream),
        transient=True,
        auto_refresh=False,
    ) as bar:
        task = bar.add_task(name, total=None, counts="")

        def show(ask: Callable[[], Look]) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn < _REDRAW:
                return
            drawn = now
            look = ask()
            bar.update(
                task,
                completed=look.done,
                total=look.total,
                refresh=True,
                counts=look.counts,
            )

        yield show


@contextmanager
def watching(
    name: str,
    stream: TextIO,
    *,
    programs: int | None,
    seconds: float | None,
    quiet: bool = False,
) -> Iterator[Watch]:
    """A watcher that shows a run's progress on `stream`, when that is a terminal.

    Args:
        name: The subject's name.
        stream: Where to show it.
        programs: How many programs are asked for, when that is known.
        seconds: How much time is given, when that limits the run.
        quiet: Show nothing in any case.
    """
    begun = time.monotonic()
    of_all = "" if programs is None else f"/{programs:,}"

    with showing(name, stream, quiet=quiet) as show:

        def watch(counts: Counts) -> None:
            def look() -> Look:
                seconds_gone = time.monotonic() - begun
                rate = counts.crash_points / max(seconds_gone, 0.001)
                return Look(
                    seconds_gone if programs is None else counts.programs,
                    seconds if programs is None else programs,
                    f"{counts.programs:,}{of_all} programs "
                    f" {counts.crash_points:,} crash points  {rate:,.0f}/s "
                    f" {counts.executions:,} executions",
                )

            show(look)

        yield watch


class FuzzCounts(Protocol):
    """What a watcher may look at while a fuzzer runs; see `fuzz.Status`."""

    seconds: float
    programs: int
    executions: int
    features: int
    newest: int
    failures: int
    kept: int
    running: int
    peak_rss: int
    replaced: int
    phase: str


@dataclass(frozen=True, slots=True)
class Board:
    """Where a fuzzer shows what it does.

    Attributes:
        show: Takes the counts, as often as it is called.
        say: Takes a sentence that should not wait for the end.
    """

    show: Callable[[FuzzCounts], None]
    say: Callable[[str], None]


def _fuzz_lines(counts: FuzzCounts) -> tuple[str, str]:
    rate = counts.executions / max(counts.seconds, 0.1)
    first = f"{counts.phase}  {counts.programs:,} programs  {rate:,.0f} executions/s"
    replaced = f"  {counts.replaced} replaced" if counts.replaced else ""
    second = (
        f"{counts.features:,} features, the newest"
        f" {counts.programs - counts.newest:,} programs ago  {counts.kept:,} kept "
        f" {counts.failures:,} failures  {counts.running} x"
        f" {counts.peak_rss >> 20:,} MiB{replaced}"
    )
    return first, second


@contextmanager
def fuzzing(
    name: str, stream: TextIO, seconds: float | None, *, quiet: bool = False
) -> Iterator[Board]:
    """A board on `stream`, live when that is a terminal.

    Elsewhere only sentences are written, a line each; with `quiet` nothing is.

    Args:
        name: The subject's name.
        stream: Where to show it.
        seconds: How much time is given, when that limits the run.
        quiet: Show nothing in any case.
    """

    def say(sentence: str) -> None:
        stream.write(f"{sentence}\n")
        stream.flush()

    def ignore(_: object) -> None:
        """Nobody watches."""

    if quiet:
        yield Board(ignore, ignore)
        return
    if not is_watched(stream):
        yield Board(ignore, say)
        return
    # Not at the top: see the module's head.
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stream)
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(counts: FuzzCounts) -> None:
            first, second = _fuzz_lines(counts)
            clock = f"{counts.seconds:,.0f} s"
            row: list[Any] = [Text(name, style="bold")]
            if seconds is not None:
                done = min(counts.seconds, seconds)
                row.append(ProgressBar(total=seconds, completed=done, width=12))
                clock = f"{counts.seconds:,.0f} of {seconds:,.0f} s"
            row += [clock, first]
            table = Table.grid(padding=(0, 1))
            table.add_row(*row)
            live.update(Group(table, Text(second, no_wrap=True)), refresh=True)

        def print_above(sentence: str) -> None:
            live.console.print(sentence, markup=False, highlight=False)

        yield Board(show, print_above)
