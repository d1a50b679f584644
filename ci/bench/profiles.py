"""Where the time of each task goes: `python -m ci.bench profile`.

    for each task:  the task by itself       --> microseconds an operation
                    the task under py-spy    --> stacks --> shares, a flame graph
    once:           the primitives           --> a floor for each task

py-spy looks at the process from outside, some hundred times a second. The program does
not know it, and small functions are not slowed down more than large ones, as by a
profiler that is called at each call. It also sees who waits: a commit is in a system
call for a good part of its time. Where it may not look (it needs ptrace, which a
container may not have) the run ends and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ci.bench import flame
from ci.bench.engine import ROOT
from ci.bench.floors import floor, primitives
from ci.bench.tasks import measured
from ci.bench.workloads import Dataset, Sizes, make_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Profile", "ProfilerError", "profiles", "table"]

_PAIRS: Final = 100_000
_RATE: Final = 400
_NAMED: Final = 6
"""Modules that a row of the table names."""


class ProfilerError(Exception):
    """py-spy is missing, or may not look; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What one task takes, and where.

    Attributes:
        task: One of `tasks.TASKS`.
        seconds: Of one operation, on the wall.
        floor: Seconds that its primitives take by themselves.
        sum: Which these are, in words.
        stacks: Where the samples were.
    """

    task: str
    seconds: float
    floor: float
    sum: str
    stacks: flame.Stacks


def profiles(
    folder: str,
    tasks: Sequence[str],
    seconds: float,
    pairs: int = _PAIRS,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Profile]:
    """Measure tasks, one after the other.

    Args:
        folder: Where data and stores are made.
        tasks: Which.
        seconds: How long each runs, once by itself and once under the profiler.
        pairs: Pairs in the store.
        say: Called with a line before each step.

    Raises:
        ProfilerError: There is no profiler, or it failed.
    """
    spy = _profiler()
    make_dataset(folder, Sizes(pairs), seed=1)
    say("primitives")
    cost = primitives(Dataset.read(folder), folder)
    for task in tasks:
        say(task)
        command = _task(task, folder, seconds)
        alone = _run(command)
        found = json.loads(alone)
        say(f"{task}, under py-spy")
        raw = os.path.join(folder, "stacks")
        options = ["--idle", "--nolineno"]
        _run(
            [
                spy, "record", "--format", "raw", "--rate", str(_RATE),
                *options, "--output", raw, "--", *command,
            ]
        )  # fmt: skip
        with open(raw, encoding="utf-8") as file:
            stacks = flame.parse(file, measured.__name__)
        recoveries = found["recoveries"] / found["operations"]
        least, text = floor(task, cost, recoveries)
        yield Profile(task, found["seconds"], least, text, stacks)


def _profiler() -> str:
    beside = sysconfig.get_path("scripts")
    found = shutil.which("py-spy", path=beside) or shutil.which("py-spy")
    if found is None:
        raise ProfilerError("there is no py-spy: pip install -e . --group bench")
    return found


def _task(task: str, folder: str, seconds: float) -> list[str]:
    store = os.path.join(folder, "store.db")
    return [sys.executable, "-m", "ci.bench.tasks", task, folder, store, str(seconds)]


def _run(command: list[str]) -> str:
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-3:]
        raise ProfilerError("\n".join([f"{command[0]} failed:", *last]))
    return ran.stdout


def table(found: Sequence[Profile]) -> str:
    """The measurements as Markdown; shares are of samples in a module's own code."""
    lines = [
        "| task | us | floor, us | times | the floor is | most of it in |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        shares = flame.own_shares(one.stacks, _NAMED)
        where = ", ".join(f"`{name}` {100 * share:.0f} %" for name, share in shares)
        lines.append(
            f"| {one.task} | {1e6 * one.seconds:,.2f} | {1e6 * one.floor:,.2f} | "
            f"{one.seconds / one.floor:.1f} | {one.sum} | {where} |"
        )
    return "\n".join(lines) + "\n"
