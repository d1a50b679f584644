"""One operation over and over, in a process of its own: what a profiler looks at.

    python -m ci.bench.tasks TASK DATASET STORE SECONDS

    commit         one put, one durable commit
    get cold       all keys of a handle that has just been opened; get warm: again
    scan cold      the same with all pairs in order; scan warm: again
    range          100 pairs from a key on
    load           all pairs into a new file, in random order or in that of the keys
    delete half    every second key, one transaction
    crash point    closing the crash points of the default programs

What is between two rounds, a copy of the database, an opening, a pass that warms the
cache, is not below `measured`: it is neither in the time nor, for who leaves out what
has no such frame, in the profile.

The output is one JSON object: {"seconds": of one operation on the wall, the median of
the rounds; "operations": in all rounds; "recoveries": how many were run, 0 for all
tasks but crash points}.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from contextlib import closing, contextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from ci.bench.explorer import experiments
from ci.bench.peers import Shearbolt, remove
from ci.bench.worker import frozen
from ci.bench.workloads import Dataset

from boltmodel.subject import ShearboltSubject
from tornpage.model import CrashModel
from tornpage.run.programs import few_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from boltmodel.contract import Outcome
    from tornpage.disk import Disk
    from tornpage.explore import Closure

__all__ = ["TASKS", "measured"]

TASKS: Final = (
    "commit",
    "get cold",
    "get warm",
    "scan cold",
    "scan warm",
    "range",
    "load random",
    "load sorted",
    "delete half",
    "crash point",
)
"""All tasks, in the order of the report."""

_WARM_ROUNDS: Final = 8
_UNMEASURED_COMMITS: Final = 100

Round = tuple[float, int]
"""Seconds of some operations, and how many they were."""


def measured(call: Callable[[], object]) -> float:
    """Seconds of a call. Its frame marks what belongs to the task."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


class _Counted(ShearboltSubject):
    """The engine as a subject, its recoveries counted."""

    recoveries = 0

    def recover(self, disk: Disk) -> Outcome:
        self.recoveries += 1
        return super().recover(disk)


def _crash_points(subject: _Counted) -> Generator[Round]:
    """The default programs again and again; nothing is remembered in between."""
    model = CrashModel.parse("tear=byte")
    while True:
        seconds = 0.0
        points: list[Closure] = []
        for experiment in experiments(subject, model):
            with few_collections():
                sweep = partial(experiment.sweep, points.append)
                seconds += measured(lambda sweep=sweep: list(sweep()))  # type: ignore[misc]
        yield seconds, len(points)


@contextmanager
def _opened(peer: Shearbolt, store: str) -> Iterator[None]:
    peer.open(store)
    try:
        yield
    finally:
        peer.close()


def _loads(data: Dataset, store: str, *, in_order: bool) -> Generator[Round]:
    pairs, peer = data.pairs(), Shearbolt()
    if in_order:
        pairs.sort()
    while True:
        remove(store)
        with _opened(peer, store):
            gc.collect()
            yield measured(lambda: peer.load(pairs)), len(pairs)


def _on_a_database(task: str, data: Dataset, store: str) -> Generator[Round]:
    """The tasks that have a database of all pairs, each round a new copy of it."""
    full, peer = store + ".full", Shearbolt()
    remove(full)
    with _opened(peer, full):
        peer.load(data.pairs())
    new = [(key, data.value(index)) for index, key in enumerate(data.commits)]
    doomed, pairs = data.doomed(), len(data.keys)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "commit": (
            lambda: peer.commits(new[_UNMEASURED_COMMITS:]),
            len(new) - _UNMEASURED_COMMITS,
        ),
        "delete half": (lambda: peer.delete(doomed), len(doomed)),
        "range": (lambda: peer.ranges(data.starts), len(data.starts)),
        "get": (lambda: peer.gets(data.gets), pairs),
        "scan": (peer.scan, pairs),
    }
    call, count = calls[task.removesuffix(" cold").removesuffix(" warm")]
    while True:
        shutil.copy(full, store)
        with _opened(peer, store):
            if task == "commit":
                peer.commits(new[:_UNMEASURED_COMMITS])
            elif task == "range" or task.endswith(" warm"):
                call()
            gc.collect()
            for _ in range(_WARM_ROUNDS if task.endswith(" warm") else 1):
                yield measured(call), count


def main(arguments: list[str]) -> int:
    """Run as a process; see the module."""
    task, folder, store, seconds = arguments
    data, subject = Dataset.read(folder), _Counted()
    if task == "crash point":
        rounds = _crash_points(subject)
    elif task.startswith("load"):
        rounds = _loads(data, store, in_order=task == "load sorted")
    else:
        rounds = _on_a_database(task, data, store)
    each, operations = [], 0
    with frozen(), closing(rounds):
        end = time.perf_counter() + float(seconds)
        for took, count in rounds:
            each.append(took / count)
            operations += count
            if time.perf_counter() > end:
                break
    found = {
        "seconds": median(each),
        "operations": operations,
        "recoveries": subject.recoveries,
    }
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # Neither the store nor the lists need to be taken apart.
    os._exit(status)
