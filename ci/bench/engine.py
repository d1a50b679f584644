"""The engine benchmark: rounds of worker processes, peers interleaved.

    round 1   20,000 pairs    shearbolt  sqlite3  lmdb ...    each a process
              100,000 pairs   shearbolt  sqlite3  lmdb ...    of its own
    round 2   20,000 pairs    sqlite3  lmdb ...  shearbolt    rotated by one
    ...

Rotation keeps a peer from always running after the same other one, whose
writeback the disk may still be busy with. Every round has all sizes, so that growth
from one to the next is a ratio within a round too.

Not every peer can do everything: real bbolt's put in one transaction is
quadratic in random order (a million pairs would take an hour), PyPI's boltdb
is slow and its delete fails. `LIMITS` says up to which size each one is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from ci.bench.machine import describe
from ci.bench.peers import PEERS, PeerMissingError
from ci.bench.report import OURS, Fact, Report, Sample
from ci.bench.workloads import WORKLOADS, Sizes, make_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["MODES", "ROOT", "Mode", "WorkerFailedError", "folder", "run"]

GO_BBOLT: Final = "bbolt (Go)"
_HERE: Final = os.path.dirname(os.path.abspath(__file__))
ROOT: Final = os.path.dirname(os.path.dirname(_HERE))
_DEBIAN_GOPATH: Final = "/usr/share/gocode"
_PATIENCE: Final = 3600

LIMITS: Final[dict[tuple[str, str], int]] = {
    (GO_BBOLT, "load random"): 100_000,
    ("boltdb (PyPI)", "*"): 20_000,
}
"""(peer, workload or "*") -> the largest number of pairs it is asked to do."""


class WorkerFailedError(Exception):
    """A worker process ended with an error; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How much a run does: one entry of `plan` a size."""

    rounds: int
    plan: tuple[Sizes, ...]


MODES: Final = {
    "smoke": Mode(1, (Sizes(2000, commits=20, ranges=20, opens=1),)),
    "quick": Mode(2, (Sizes(20_000, commits=200), Sizes(100_000, commits=500))),
    "full": Mode(5, (Sizes(20_000), Sizes(100_000), Sizes(1_000_000))),
}
"""`smoke` shows that it works, `quick` is for work on the engine, `full` for docs."""


@contextmanager
def folder(parent: str | None) -> Iterator[str]:
    """A folder for stores, removed at the end; `parent` None: the system's place."""
    made = tempfile.mkdtemp(prefix="shearbolt-bench-", dir=parent)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def run(
    mode: Mode,
    command: str,
    *,
    peers: Sequence[str] | None = None,
    parent: str | None = None,
    seed: int = 1,
    say: Callable[[str], None] = print,
) -> Report:
    """Measure everything a mode asks for.

    Args:
        mode: Rounds and sizes.
        command: What the user typed, for the report.
        peers: Names of those to run; None: all stores that are installed.
        parent: Where stores are made: a folder on the disk in question. None:
            the system's folder for temporary files.
        seed: Of the data.
        say: Where progress goes, a line a worker.

    Raises:
        WorkerFailedError: A peer crashed, or gave a wrong answer.
    """
    with folder(parent) as place:
        report = Report(command, describe(place).to_json())
        commands = _find_peers(peers, place, report)
        names = list(commands)
        for sizes in mode.plan:
            os.mkdir(_data(place, sizes))
            make_dataset(_data(place, sizes), sizes, seed)
        for number in range(mode.rounds):
            turn = number % len(names) if names else 0
            for sizes in mode.plan:
                for name in names[turn:] + names[:turn]:
                    skip = _skipped(name, sizes.pairs)
                    if len(skip) == len(WORKLOADS):
                        continue
                    data = _data(place, sizes)
                    answer = _work(commands[name], data, place, sizes, skip)
                    _note(report, name, sizes.pairs, number, answer)
                    say(_progress(name, sizes.pairs, number, mode.rounds, answer))
    return report


def _data(place: str, sizes: Sizes) -> str:
    return os.path.join(place, f"data-{sizes.pairs}")


def _find_peers(
    wanted: Sequence[str] | None, folder: str, report: Report
) -> dict[str, list[str]]:
    """Commands of the peers that can run; notes versions and absentees."""
    commands = {}
    for name, peer in PEERS.items():
        if name not in wanted if wanted is not None else not peer.is_store:
            continue
        try:
            report.versions[name] = peer.version()
        except PeerMissingError as missing:
            report.skipped[name] = str(missing)
            continue
        commands[name] = [sys.executable, "-m", "ci.bench.worker", name]
    if wanted is None or GO_BBOLT in wanted:
        try:
            report.versions[GO_BBOLT], program = _build_go(folder)
            commands[GO_BBOLT] = [program]
        except PeerMissingError as missing:
            report.skipped[GO_BBOLT] = str(missing)
    return commands


def _build_go(folder: str) -> tuple[str, str]:
    """Version and path of the Go worker, compiled against Debian's bbolt."""
    source = os.path.join(_DEBIAN_GOPATH, "src", "go.etcd.io", "bbolt")
    if shutil.which("go") is None or not os.path.isdir(source):
        raise PeerMissingError(
            "apt-get install golang-go golang-github-coreos-bbolt-dev"
        )
    program = os.path.join(folder, "gobolt")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": _DEBIAN_GOPATH,
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    subprocess.run(
        ["go", "build", "-o", program, os.path.join(_HERE, "gobolt", "main.go")],
        env=environment,
        check=True,
    )
    return f"{_debian_version()}, {_go_version()}", program


def _debian_version() -> str:
    """The version of bbolt: only the package manager knows it."""
    name = "golang-github-coreos-bbolt-dev"
    try:
        found = subprocess.run(
            ["dpkg-query", "-W", "-f=${Version}", name],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown version"
    return found.stdout


def _go_version() -> str:
    found = subprocess.run(
        ["go", "version"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()[2]


def _skipped(peer: str, pairs: int) -> list[str]:
    return [
        workload
        for workload in WORKLOADS
        if pairs > min(LIMITS.get((peer, key), pairs) for key in (workload, "*"))
    ]


def _work(
    command: list[str], data: str, folder: str, sizes: Sizes, skip: list[str]
) -> dict[str, Any]:
    """Run one worker and read what it printed."""
    store = os.path.join(folder, "store")
    arguments = [data, store, json.dumps(asdict(sizes)), json.dumps(skip)]
    ended = subprocess.run(
        command + arguments,
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE,
    )  # fmt: skip
    if ended.returncode:
        words = ended.stderr.strip().splitlines()[-3:]
        raise WorkerFailedError(f"{' '.join(command)}: {' | '.join(words)}")
    # What earlier workers wrote must not be flushed in the next one's time.
    os.sync()
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def _note(
    report: Report, peer: str, pairs: int, number: int, answer: dict[str, Any]
) -> None:
    for workload, time in answer["times"].items():
        report.samples.append(Sample(peer, pairs, number, workload, **time))
    for name, amount in answer["facts"].items():
        report.facts.append(Fact(peer, pairs, number, name, amount))
    for workload, text in answer["failures"].items():
        report.failures[peer, pairs, workload] = text


def _progress(
    peer: str, pairs: int, number: int, rounds: int, answer: dict[str, Any]
) -> str:
    seconds = sum(time["seconds"] for time in answer["times"].values())
    mark = "*" if peer == OURS else " "
    return (
        f"{mark} round {number + 1}/{rounds}  {pairs:>9,}  {peer:<16} {seconds:6.1f} s"
    )
