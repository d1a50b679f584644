"""Progress for somebody who watches: one line on standard error, then gone.

    toy ━━━━━━━━╸━━━━━ 23/50 programs  1,204 crash points  4,310/s  2,877 executions

It appears on a terminal only. In pipes, in CI and with --quiet nothing is written,
because a log full of carriage returns helps nobody, and rich is not even imported:
its import costs more than a short run.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Counts", "Watch", "is_watched", "silent", "watching"]

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
    if quiet or not is_watched(stream):
        yield silent
        return
    try:
        # Not at the top: see the module's head.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
    except ImportError:
        yield silent
        return
    begun = time.monotonic()
    drawn = begun
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
        total = seconds if programs is None else programs
        task = bar.add_task(name, total=total, counts="")

        def watch(counts: Counts) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn < _REDRAW:
                return
            drawn = now
            rate = counts.crash_points / (now - begun)
            of_all = "" if programs is None else f"/{programs:,}"
            bar.update(
                task,
                completed=now - begun if programs is None else counts.programs,
                refresh=True,
                counts=(
                    f"{counts.programs:,}{of_all} programs "
                    f" {counts.crash_points:,} crash points  {rate:,.0f}/s "
                    f" {counts.executions:,} executions"
                ),
            )

        yield watch
