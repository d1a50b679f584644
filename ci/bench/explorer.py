"""How fast crash points are closed: `python -m ci.bench explorer`.

Three questions, each with a workload of its own:

    default     the programs that `tornpage run shearbolt` runs without options: how
                many crash points a second does one core close
    commit      one commit of 8 to 4,096 dirty pages: how many recoveries does a
                crash point take, when there are 2^n images
    database    programs of ten commits on databases of growing size, run, compared
                and closed: what does a crash point cost that changes little. The
                first look, which reads the file and takes a first program through
                all of this, sees everything and is timed by itself

Seconds are of the processor, on one core, collector and everything else included:
the machine may be busy. A crash point counts as closed only when the explorer says
so; a run that leaves one open, or finds anything, ends the benchmark.

What it is not: a comparison. No other tool closes crash points, so there is nothing
to run beside it; what others have published is in docs/capabilities.md.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.interpret import DATABASE
from boltmodel.programs import Commit, Program, Put, Value
from boltmodel.recovery import recover
from boltmodel.subject import ShearboltSubject
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.model import CrashModel
from tornpage.run import Experiment, Plan, run
from tornpage.run.experiment import beginnings_of
from tornpage.run.programs import DEFAULT_CAP, few_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shearbolt import DB
    from tornpage.explore import Closure

__all__ = [
    "Closing",
    "NotClosedError",
    "commits",
    "databases",
    "default",
    "experiments",
    "table",
]

MODELS: Final = ("tear=byte", "tear=sector")
DIRTY_PAGES: Final = (8, 64, 512, 4096)
SIZES: Final = (64 << 10, 1 << 20, 16 << 20, 128 << 20, 1 << 30)
"""Bytes of pages in use, most of them leaves."""

_BUCKET: Final = b"bench"
_PER_PAGE: Final = 4
_COMMITS: Final = 10
_ROUNDS: Final = 3
_BRANCHES: Final = 0.99
"""The share of a database's pages that are leaves: a branch has some 170 children."""


class NotClosedError(Exception):
    """A crash point was not closed, or recovery broke a promise."""


@dataclass(frozen=True, slots=True)
class Closing:
    """What closing the crash points of one workload took.

    Attributes:
        workload: What was done, in words.
        model: The crash model.
        points: Crash points closed.
        executions: Recoveries that differ in what they read.
        most: The most of these at one crash point; 0: not counted.
        images: log2 of the crash images of the point with the most.
        seconds: Processor seconds.
        first: Of the first look, which are not in `seconds`; 0: there is none.
    """

    workload: str
    model: str
    points: int
    executions: int
    most: int
    images: float
    seconds: float
    first: float = 0.0


def default(rounds: int = 3) -> Iterator[Closing]:
    """The programs of a run without options, under each model, in two ways.

    First closing alone: the programs have run before. Then the whole run, from
    drawing a program to the certificate.

    Raises:
        NotClosedError: A crash point was not closed, or a promise was broken.
    """
    for model in MODELS:
        crash = CrashModel.parse(model)
        yield _best([_sweeps(model, crash) for _ in range(rounds)])
        yield _best([_run(model, crash) for _ in range(rounds)])


def _best(rounds: list[Closing]) -> Closing:
    """The round in the middle."""
    return sorted(rounds, key=lambda one: one.seconds)[len(rounds) // 2]


def _sweeps(model: str, crash: CrashModel) -> Closing:
    points: list[Closure] = []
    seconds = 0.0
    for seed, experiment in enumerate(experiments(ShearboltSubject(), crash)):
        with few_collections():
            began = time.process_time()
            findings = list(experiment.sweep(points.append))
            seconds += time.process_time() - began
        if findings:
            raise NotClosedError(f"program {seed}, {model}: {findings[0].violation}")
    return _summed("default programs, closing alone", model, points, seconds)


def experiments(subject: ShearboltSubject, crash: CrashModel) -> Iterator[Experiment]:
    """The default programs, each run when it is asked for, its crash points open."""
    beginnings = beginnings_of(subject, crash)
    for seed in range(subject.default_programs):
        yield Experiment(
            subject,
            subject.generate(seed),
            crash,
            cap=DEFAULT_CAP,
            beginnings=beginnings,
        )


def _run(model: str, crash: CrashModel) -> Closing:
    subject = ShearboltSubject()
    plan = Plan("shearbolt", programs=subject.default_programs, model=crash)
    began = time.process_time()
    found = run(subject, plan)
    seconds = time.process_time() - began
    if found.verdict != "consistent":
        raise NotClosedError(f"default programs, {model}: {found.verdict}")
    seen = found.coverage
    return Closing(
        "default programs, the whole run",
        model,
        seen.crash_points,
        seen.executions,
        0,
        max(seen.largest.bit_length() - 1.0, 0.0),
        seconds,
    )


def _summed(
    workload: str, model: str, closures: Sequence[Closure], seconds: float
) -> Closing:
    left = [one.point for one in closures if not one.closed]
    if left:
        raise NotClosedError(f"{workload}, {model}: crash point {left[0]}")
    return Closing(
        workload,
        model,
        len(closures),
        sum(one.executions for one in closures),
        max(one.executions for one in closures),
        max(one.images_log2 for one in closures),
        seconds,
    )


def commits(dirty: Sequence[int] = DIRTY_PAGES) -> Iterator[Closing]:
    """One commit that changes so many leaf pages."""
    for model in MODELS:
        for pages in dirty:
            files = _database(partial(_fill, pages=pages))

            def change(db: DB, pages: int = pages) -> None:
                with db.update() as tx:
                    bucket = tx.bucket(_BUCKET)
                    for page in range(pages):
                        bucket.put(_key(page * _PER_PAGE), bytes(900))

            yield _close(f"commit of {pages:,} dirty leaf pages", model, files, change)


def databases(sizes: Sequence[int] = SIZES) -> Iterator[Closing]:
    """Programs of ten commits of one put each, on databases of these sizes.

    As `tornpage run --database` does: a program is run on the engine and the model,
    both are compared when it opens and when it closes the file, and all its crash
    points are closed and judged. All sizes in each round, because the speed of the
    machine changes meanwhile.

    Raises:
        NotClosedError: A crash point was not closed, or a promise was broken.
    """
    with tempfile.TemporaryDirectory(prefix="shearbolt-bench-") as folder:
        paths = {}
        for size in sizes:
            leaves = int(size * _BRANCHES) // 4096
            paths[size] = os.path.join(folder, f"{size}.db")
            _made(paths[size], partial(_fill, pages=leaves))
        for model in MODELS:
            looked = {size: _Looked(path, model) for size, path in paths.items()}
            rounds: dict[int, list[Closing]] = {size: [] for size in sizes}
            for at in range(1, _ROUNDS + 1):
                for size, there in looked.items():
                    what = f"ten puts, {_bytes(size)} of pages"
                    rounds[size].append(there.close(what, at))
            yield from map(_best, rounds.values())


class _Looked:
    """A database that a first program has been through."""

    def __init__(self, path: str, model: str) -> None:
        self._model = model
        self._crash = CrashModel.parse(model)
        began = time.process_time()
        self._subject = ShearboltSubject().with_database(path)
        self._beginnings = beginnings_of(self._subject, self._crash)
        self.close("the first program", 0)
        # What the first look leaves behind is looked through once: its doing.
        gc.collect()
        self._first = time.process_time() - began

    def close(self, workload: str, number: int) -> Closing:
        """Run another program and close its crash points."""
        program = Program(
            tuple(
                operation
                for at in range(number * _COMMITS, (number + 1) * _COMMITS)
                for operation in (Put((_BUCKET,), _key(at), Value(at, 900)), Commit())
            )
        )
        points: list[Closure] = []
        with few_collections():
            began = time.process_time()
            experiment = Experiment(
                self._subject,
                program,
                self._crash,
                cap=DEFAULT_CAP,
                beginnings=self._beginnings,
            )
            findings = list(experiment.sweep(points.append))
            seconds = time.process_time() - began
        if findings:
            raise NotClosedError(f"{workload}: {findings[0].violation}")
        closed = _summed(workload, self._model, points, seconds)
        return replace(closed, first=self._first if number else 0.0)


def _key(number: int) -> bytes:
    return b"%08d" % number


def _fill(db: DB, pages: int) -> None:
    """As many leaf pages, each with four values."""
    with db.update() as tx:
        bucket = tx.create_bucket(_BUCKET)
        bucket.fill_percent = 1.0
        for number in range(pages * _PER_PAGE):
            bucket.put(_key(number), bytes(900))


def _made(path: str, fill: Callable[[DB], None]) -> None:
    with shearbolt.open(path, no_sync=True) as db:
        fill(db)


def _database(fill: Callable[[DB], None]) -> dict[str, bytes]:
    """A simulated disk with a database, as if it had always been there."""
    with tempfile.TemporaryDirectory(prefix="shearbolt-bench-") as folder:
        path = os.path.join(folder, "made.db")
        _made(path, fill)
        with open(path, "rb") as file:
            return {DATABASE: file.read()}


def _close(
    workload: str, model: str, files: dict[str, bytes], change: Callable[[DB], None]
) -> Closing:
    """Run a program and close its crash points."""
    crash = CrashModel.parse(model)
    disk = Disk(files, crash)
    with shearbolt.open(DATABASE, storage=disk) as db:
        change(db)
    # As in a run, whose programs share this: it is not given back between them.
    beginnings = Beginnings(Memory(jumps=crash.jumps))
    explorer = Explorer(files, disk.trace, recover, crash, beginnings=beginnings)
    with few_collections():
        began = time.process_time()
        closures = list(explorer.sweep())
        ended = time.process_time()
    for one in closures:
        wrong = [made.outcome for made in one.outcomes if _broken(made.outcome)]
        if wrong:
            raise NotClosedError(f"{workload}, {model}, point {one.point}: {wrong}")
    return _summed(workload, model, closures, ended - began)


def _broken(outcome: object) -> bool:
    said = ("error", "problems", "again", "progress")
    return any(getattr(outcome, name, "no outcome") for name in said)


def table(closings: Sequence[Closing]) -> str:
    """The measurements as Markdown; the rate is crash points a second."""
    columns = (
        "workload", "model", "points", "recoveries", "per point", "most", "images",
        "first look", "rate",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [
        f"| {one.workload} | {one.model} | {one.points:,} | {one.executions:,} | "
        f"{one.executions / one.points:.2f} | {one.most or '-'} | "
        f"2^{one.images:,.0f} | {_first(one)} | {one.points / one.seconds:,.0f} |"
        for one in closings
    ]
    return "\n".join(lines) + "\n"


def _first(one: Closing) -> str:
    return f"{one.first:.2f} s" if one.first else "-"


def _bytes(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size >> 10} KiB"
