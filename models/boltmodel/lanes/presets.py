"""What the engine keeps on each kind of disk: one row a preset, by running it.

    python -m boltmodel.lanes.presets [--programs 200] [-n 2] [--markdown]

Every preset of the crash model is run three times: with programs that begin with no
file, so that its creation is among what a crash interrupts, and with programs on a
small database that is there already, with pages smaller than what a device writes
at once, and with pages as large. A row says whether every crash image the preset allows
keeps every promise, or which promise breaks first, and by which dishonest choice.

What it is not: it judges nothing and knows no preset; both are tornpage's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.subject import ShearboltSubject
from tornpage.command.arguments import positive
from tornpage.command.program import as_program
from tornpage.model import PRESETS, CrashModel
from tornpage.progress import Look, make_room, showing
from tornpage.run import Plan, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["START", "Row", "main", "rows", "small_database"]

START: Final = {"no file": 0, "1 KiB pages": 1024, "4 KiB pages": 4096}
"""What is there before the programs begin, with its page size in bytes."""

_PROPERTIES: Final = "P A S F I R E"


@dataclass(frozen=True, slots=True)
class Row:
    """One preset, from one start.

    Attributes:
        preset: Its name.
        start: What is there before the programs begin, one of `START`.
        verdict: The certificate's.
        programs: How many were run.
        crash_points: Crash points visited.
        closed: Share of them closed exhaustively.
        executions: Recoveries run.
        broken: The promise that was broken first, "" for none.
        message: What was found then.
    """

    preset: str
    start: str
    verdict: str
    programs: int
    crash_points: int
    closed: float
    executions: int
    broken: str = ""
    message: str = ""


def small_database(path: str, page_size: int) -> None:
    """Make a database with a nested, an inline and a two-level bucket."""
    with shearbolt.open(path, page_size=page_size) as db, db.update() as tx:
        tree = tx.create_bucket(b"a")
        for number in range(40):
            tree.put(b"k%02d" % number, b"v" * (page_size // 20))
        tree.create_bucket(b"b").put(b"k", b"nested")
        tx.create_bucket(b"c").put(b"k", b"inline")


def row(preset: str, start: str, programs: int) -> Row:
    """Run one preset from one start."""
    subject = ShearboltSubject()
    model = CrashModel.parse(preset)
    if START[start]:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "start.db"))
            small_database(path, START[start])
            subject = subject.with_database(path)
    plan = Plan("shearbolt", programs=programs, model=model, shrink=False)
    found = run(subject, plan)
    seen = found.coverage
    first = found.violations[0] if found.violations else None
    return Row(
        preset,
        start,
        found.verdict,
        seen.programs,
        seen.crash_points,
        seen.closed / seen.crash_points if seen.crash_points else 0.0,
        seen.executions,
        first.property if first else "",
        first.message if first else "",
    )


def rows(programs: int, workers: int = 1) -> Iterator[Row]:
    """All rows, in the order of the presets."""
    jobs = [(preset, start) for preset in PRESETS for start in START]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(row, *job, programs) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            # Nobody waits for the rest, hours of it with many programs.
            pool.shutdown(cancel_futures=True)
            raise


def _line(one: Row) -> str:
    counts = f"{one.programs:4} programs {one.crash_points:7,} points"
    return f"{one.preset:18}{one.start:12}{one.verdict:13}{counts}  {one.broken}"


def _markdown(found: Sequence[Row]) -> Iterator[str]:
    yield "| preset | starting from | verdict | programs | crash points | recoveries |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        verdict = f"all of {_PROPERTIES} hold"
        if one.broken:
            verdict = f"**{one.broken} breaks**: {one.message}"
        elif one.verdict != "consistent":
            verdict = f"{one.verdict}, {one.closed:.1%} closed"
        yield (
            f"| `{one.preset}` | {one.start} | {verdict} | {one.programs} | "
            f"{one.crash_points:,} | {one.executions:,} |"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table.

    Returns:
        The exit status: 0, whatever the table says; 3 when Ctrl-C ended it.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.presets",
        description="What the engine keeps on each kind of disk.",
    )
    parser.add_argument("--programs", type=positive, default=20, help="a row (20)")
    parser.add_argument("-n", dest="workers", type=int, default=1, help="processes")
    parser.add_argument("--markdown", action="store_true", help="as a table")
    options = parser.parse_args(argv)
    found: list[Row] = []
    total = len(PRESETS) * len(START)
    interrupted = False
    with showing("presets", sys.stderr) as show:
        try:
            for one in rows(options.programs, options.workers):
                found.append(one)
                if not options.markdown:
                    make_room(sys.stderr)
                    print(_line(one), flush=True)  # noqa: T201 - it is a command
                show(lambda: Look(len(found), total, f"{len(found)}/{total} rows"))
        except KeyboardInterrupt:
            interrupted = True
    if options.markdown:
        print("\n".join(_markdown(found)))  # noqa: T201
    if interrupted:
        print(f"interrupted: {len(found)} of {total} rows")  # noqa: T201
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(as_program("presets", main))
