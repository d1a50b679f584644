"""One peer, one process: run the workloads, print what they took.

    python -m ci.bench.worker PEER DATASET STORE SIZES(JSON) SKIP(JSON)

A process of its own for every peer and round: no peer inherits another's heap,
and memory is counted per peer. The collector of cyclic garbage stays as Python
sets it; a collection runs before each workload, not inside its time. But it does not
look through what the harness holds: with a million pairs these are lists of four
million entries, and doing so twice was a quarter of a cold scan with Python 3.11.

The output is one JSON object: {"times": {workload: {"seconds", "cpu", "operations"}},
"facts": {name: number}, "failures": {workload: text}}. `gobolt/main.go` prints
the same.

Memory is the peak of the resident set while a workload runs, over what the
process held before the store was opened, so that Python and the dataset do not
count. Linux only (/proc); elsewhere these facts are missing.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from ci.bench.peers import PEERS, Peer, disk_usage, remove
from ci.bench.workloads import RANGE_PAIRS, WORKLOADS, Dataset, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["Measured", "WrongAnswerError", "frozen", "measure"]

_FROZEN_AT_START: Final = 2000
"""More objects are frozen because somebody has said so: Python 3.12 begins with 375."""


class WrongAnswerError(Exception):
    """A peer read another number of pairs than there are."""


@dataclass(slots=True)
class Measured:
    """What one worker found.

    Attributes:
        times: Per workload, seconds, CPU seconds of all threads, operations.
        facts: Sizes and memory, in bytes.
        failures: Workloads that raised, with the error's text.
    """

    times: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measure(
    peer: Peer, data: Dataset, store: str, sizes: Sizes, skip: Collection[str] = ()
) -> Measured:
    """Run all workloads on one peer.

    Args:
        peer: The store.
        data: What to put in.
        store: A path the store may make and remove.
        sizes: How much to do.
        skip: Workloads to leave out: the peer cannot do them in bearable time.

    Raises:
        WrongAnswerError: It read too few pairs or too many.
    """
    result = Measured()
    pairs = data.pairs()
    commits = [(key, data.value(index)) for index, key in enumerate(data.commits)]
    count = sizes.pairs

    def timed(
        name: str, operations: int, call: Callable[[], int | None], expect: int
    ) -> None:
        if name in skip:
            return
        gc.collect()
        cpu, began = time.process_time(), time.perf_counter()
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
            result.failures[name] = f"{type(error).__name__}: {error}"
            return
        seconds = time.perf_counter() - began
        cpu = time.process_time() - cpu
        if answer is not None and answer != expect:
            raise WrongAnswerError(f"{peer.name}, {name}: {answer} pairs, not {expect}")
        result.times[name] = {"seconds": seconds, "cpu": cpu, "operations": operations}

    @contextmanager
    def opened() -> Iterator[None]:
        peer.open(store)
        try:
            yield
        finally:
            peer.close()

    ordered = sorted(pairs)
    with frozen():
        for name, batch in (("load sorted", ordered), ("load random", pairs)):
            if name in skip:
                continue
            remove(store)
            with _peak_memory(result, f"memory {name}"), opened():
                timed(name, count, lambda batch=batch: peer.load(batch), 0)  # type: ignore[misc]
            result.facts[f"file {name}"] = disk_usage(store)
        _time_opens(peer, store, sizes, result)
        with _peak_memory(result, "memory reads"):
            with opened():
                timed("get cold", count, lambda: peer.gets(data.gets), count)
                timed("get warm", count, lambda: peer.gets(data.gets), count)
            in_ranges = _pairs_in_ranges([key for key, _ in ordered], data.starts)
            with opened():
                timed("scan cold", count, peer.scan, count)
                timed("scan warm", count, peer.scan, count)
                timed(
                    "range", sizes.ranges, lambda: peer.ranges(data.starts), in_ranges
                )
        with opened():
            timed("commit", sizes.commits, lambda: peer.commits(commits), 0)
            result.facts["file commit"] = disk_usage(store)
            doomed = data.doomed()
            timed("delete half", len(doomed), lambda: peer.delete(doomed), 0)
            if "delete half" in result.times:
                left = count + len(commits) - len(doomed)
                if peer.scan() != left:
                    raise WrongAnswerError(f"{peer.name}: not {left} pairs in the end")
        result.facts["file end"] = disk_usage(store)
        remove(store)
    return result


def _time_opens(peer: Peer, store: str, sizes: Sizes, result: Measured) -> None:
    """Open and close a few times; the median, because the first loads code."""
    seconds, cpus = [], []
    for _ in range(sizes.opens):
        cpu, began = time.process_time(), time.perf_counter()
        peer.open(store)
        seconds.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
        peer.close()
    result.times["open"] = {
        "seconds": median(seconds),
        "cpu": median(cpus),
        "operations": 1,
    }


def _pairs_in_ranges(ordered: list[bytes], starts: list[bytes]) -> int:
    place = {key: index for index, key in enumerate(ordered)}
    return sum(min(RANGE_PAIRS, len(ordered) - place[start]) for start in starts)


@contextmanager
def frozen() -> Iterator[None]:
    """Keep the collector from what there is; from what it was kept before, for good."""
    # A test runner had hidden all of its own, and every full collection of the tests
    # that came behind this looked at 200,000 objects again.
    before = gc.get_freeze_count() > _FROZEN_AT_START
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not before:
            gc.unfreeze()


@contextmanager
def _peak_memory(result: Measured, name: str) -> Iterator[None]:
    """Note how far the resident set rose meanwhile; nothing where no /proc is."""
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        before = _status("VmRSS")
    except OSError:
        yield
        return
    yield
    result.facts[name] = _status("VmHWM") - before


def _status(field_name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no {field_name} in /proc/self/status")


def main(arguments: list[str]) -> int:
    """Run as a process; see the module."""
    name, folder, store, sizes, skip = arguments
    skipped: list[str] = json.loads(skip)
    unknown = set(skipped) - set(WORKLOADS)
    if unknown:
        raise ValueError(f"no such workloads: {sorted(unknown)}")
    given: dict[str, Any] = json.loads(sizes)
    measured = measure(
        PEERS[name](), Dataset.read(folder), store, Sizes(**given), skipped
    )
    json.dump(
        {
            "times": measured.times,
            "facts": measured.facts,
            "failures": measured.failures,
        },
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    # Peers may leave threads or finalisers that fail at exit (PyPI's boltdb
    # closes its file twice); the result has been printed by then.
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
