"""Presets and the engine against real file systems: `sudo python -m ci.real LANE`.

    litmus     every litmus line, pushed out in two orders
    programs   random programs of a few files and directories
    failing    every request of a sync answered with an error, once
    store      commits of shearbolt, its promises after each crash
    store-failing  the same while a request, and a few behind it, fail

    python -m ci.real litmus                            # all file systems here
    python -m ci.real programs ext4-o xfs --seconds 300 --seed 5
    python -m ci.real litmus ext4-o --model order=ordered       # must fail
    python -m ci.real store xfs --planted no-data-sync          # must fail
    python -m ci.real store-failing ext4-o --planted sync-retried       # must fail

For each the file system runs on a device that records every write and flush; crash
images are made of the record: what was flushed is there, of the rest any part. See
`ci.real`. A failure prints the command that runs it again.

Needs root, /dev/fuse, loop devices, mfusepy with libfuse, and mkfs of the file
systems; what is missing is skipped and said. Exit status: 0 right, 1 something was
outside, 2 nothing ran.
"""

from __future__ import annotations

import argparse
import errno
import functools
import logging
import platform
import shlex
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from ci.real.check import checked
from ci.real.device import missing
from ci.real.enduring import endured
from ci.real.failing import LONGER, failures
from ci.real.programs import Program, drawn, litmus_programs
from ci.real.store import kept
from ci.real.systems import FILE_SYSTEMS, missing_for, workplace
from ci.real.trial import bench

from tornpage.model import CrashModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ci.real.store import Kept
    from ci.real.trial import Bench

_SHOWN = 3
_COMMITS = 30
_STRIDE = 89
"""A prime: requests to fail are that far apart."""


@dataclass(slots=True)
class Tally:
    """One lane on one file system.

    Attributes:
        counts: Numbers by what they count, in the order in which they are shown.
        outside: How many crash images were outside.
        facts: What failing requests led to, and how often.
        notes: Anything else to say at the end.
    """

    counts: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    facts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __str__(self) -> str:
        texts = [
            f"{number:,} {name}"
            for name, number in self.counts.items()
            if name not in {"seen", "allowed"}
        ]
        if self.counts["allowed"]:
            share = 100 * self.counts["seen"] / self.counts["allowed"]
            texts.append(
                f"{self.counts['seen']:,} of {self.counts['allowed']:,} outcomes seen"
                f" ({share:.0f} %)"
            )
        return ", ".join([*texts, f"{self.outside:,} outside"])


class Lane:
    """One lane on one file system.

    Args:
        options: What was asked for.
        name: Of the file system.
        there: The file system.
    """

    def __init__(self, options: argparse.Namespace, name: str, there: Bench) -> None:
        self.options = options
        self.name = name
        self.bench = there
        self.model = CrashModel.parse(options.model or name)
        self.tally = Tally()
        self._end = time.monotonic() + options.seconds
        self._requests = 0

    def numbers(self) -> Iterator[int]:
        """Seeds, as long as there is time."""
        number = self.options.seed
        while time.monotonic() < self._end:
            yield number
            number += 1

    def show(self, texts: Sequence[str], **again: object) -> None:
        """Say what is outside, and how to run it again."""
        if not texts:
            return
        self.tally.outside += len(texts)
        shown = texts if self.options.verbose else texts[:_SHOWN]
        self._clear()
        for text in shown:
            print(f"  OUTSIDE {text}")
        if len(texts) > len(shown):
            print(f"  and {len(texts) - len(shown)} more")
        words = [self.options.lane, self.name]
        for option in ("model", "planted"):
            if getattr(self.options, option):
                words += [f"--{option}", getattr(self.options, option)]
        if self.options.forgetful:
            words.append("--forgetful")
        if self.options.errno != "EIO":
            words += ["--errno", self.options.errno]
        again.setdefault("images", self.options.images)
        for option, value in again.items():
            words += [f"--{option}", str(value)]
        print(f"  again: python -m ci.real {shlex.join(words)}", flush=True)

    def _clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def progress(self) -> None:
        """One line for somebody who watches."""
        if sys.stderr.isatty():
            self._clear()
            print(f"{self.name}: {self.tally}", end="", file=sys.stderr, flush=True)

    def program(self, program: Program, seed: int) -> None:
        """Run one program, crash it, compare."""
        one = checked(
            self.bench, program, self.model, seed=seed, images=self.options.images
        )
        counts = self.tally.counts
        counts["programs"] += 1
        counts["crash images"] += one.images
        counts["repaired"] += one.repaired
        counts["seen"] += one.seen
        counts["allowed"] += one.allowed
        self.show([str(each) for each in one.outside], program=program, seed=seed)
        self.progress()

    def failure(self, program: Program, seed: int) -> None:
        """Run one program with each request of its sync failed."""
        one = failures(
            self.bench, program, self.model,
            seed=seed, images=self.options.images, forgetful=self.options.forgetful,
            error=getattr(errno, self.options.errno),
        )  # fmt: skip
        counts = self.tally.counts
        counts["programs"] += 1
        counts["requests failed"] += one.runs
        counts["crash images"] += one.images
        counts["repaired"] += one.repaired
        self.tally.facts += one.facts
        texts = [
            f"request {number} of the sync: {each}" for number, each in one.outside
        ]
        self.show(texts, program=program, seed=seed)
        self.progress()

    def commits(self, seed: int) -> None:
        """Run commits of the engine."""
        one = kept(
            self.bench, commits=_COMMITS, seed=seed, images=self.options.images,
            planted=self.options.planted,
        )  # fmt: skip
        self._count(one)
        self.show([str(each) for each in one.broken], seed=seed, seconds=0.1)
        self.progress()

    def failing_commits(self, seed: int) -> None:
        """Run commits of the engine, some requests of which fail."""
        run = functools.partial(
            endured, self.bench, commits=_COMMITS, images=self.options.images,
            error=getattr(errno, self.options.errno),
            planted=self.options.planted, forgetful=self.options.forgetful,
        )  # fmt: skip
        if not self._requests:
            # How many requests there are to fail.
            self._requests = run(seed=0, position=None, images=0, planted="").requests
        # Each in turn, far from the one before.
        one = run(seed=seed, position=seed * _STRIDE % self._requests)
        self._count(one)
        counts = self.tally.counts
        counts["requests failed"] += one.failed
        counts["commits refused"] += one.refused
        counts["remounts"] += one.remounts
        self.tally.facts += one.facts
        texts = [*one.lies, *map(str, one.broken)]
        self.show(texts, seed=seed, seconds=0.1)
        self.progress()

    def _count(self, one: Kept) -> None:
        counts = self.tally.counts
        counts["runs"] += 1
        counts["commits"] += one.commits
        counts["requests"] += one.requests
        counts["crash images"] += one.images
        counts["repaired"] += one.repaired
        counts["moments with the commit in flight there"] += one.newer


def _litmus(lane: Lane) -> None:
    """Every line once, and again with other images as long as there is time."""
    programs = list(litmus_programs())
    for seed in lane.numbers():
        for program in programs:
            lane.program(program, seed)
        # What a second round shows is counted again: of each round a share.


def _programs(lane: Lane) -> None:
    for seed in lane.numbers():
        # One in eight waits, a second and more, for what the kernel does by itself.
        lane.program(drawn(seed, waits=seed % 8 == 0), seed)


def _failing(lane: Lane) -> None:
    for program in (*LONGER, *litmus_programs(failing=True)):
        lane.failure(program, lane.options.seed)


def _store(lane: Lane) -> None:
    for seed in lane.numbers():
        lane.commits(seed)


def _store_failing(lane: Lane) -> None:
    # What it warns of is what is done to it.
    logging.getLogger("shearbolt").setLevel(logging.ERROR)
    for seed in lane.numbers():
        lane.failing_commits(seed)


_LANES: dict[str, Callable[[Lane], None]] = {
    "litmus": _litmus,
    "programs": _programs,
    "failing": _failing,
    "store": _store,
    "store-failing": _store_failing,
}


def _one(lane: Lane) -> None:
    """What was asked for: one program, or a lane."""
    if lane.options.program is None:
        _LANES[lane.options.lane](lane)
    elif lane.options.lane == "failing":
        lane.failure(lane.options.program, lane.options.seed)
    else:
        lane.program(lane.options.program, lane.options.seed)


def tried(options: argparse.Namespace, name: str) -> Tally | None:
    """Try one file system; None if it cannot be."""
    system = FILE_SYSTEMS[name]
    lacking = missing_for(system)
    if lacking:
        print(f"{name}: skipped, there is no {', '.join(lacking)}")
        return None
    with workplace() as place:
        try:
            there = bench(system, place)
            with there as ready:
                lane = Lane(options, name, ready)
                _one(lane)
        except OSError as error:
            # It ends this file system only; where nothing ran, the status says so.
            print(f"{name}: skipped, {error}")
            return None
    print(f"{name}: {lane.tally}, {lane.model}", flush=True)
    for (kind, text), count in sorted(lane.tally.facts.items()):
        print(f"    {count:4} x {kind}: {text}")
    return lane.tally


def _ended(number: int, _frame: object) -> NoReturn:
    """Take a signal for an exception, so that everything is unmounted."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ci.real", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("lane", choices=_LANES)
    parser.add_argument("names", nargs="*", metavar="PRESET", help="default: all")
    parser.add_argument("--model", help="compare with this model instead")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="for each file system; 20"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first program; 0")
    parser.add_argument("--images", type=int, default=40, help="a program at most; 40")
    parser.add_argument("--program", type=Program.parse, help="only this one")
    parser.add_argument("--planted", default="", help="a bug of boltmodel.mutants")
    parser.add_argument(
        "--forgetful",
        action="store_true",
        help="the drive drops what a failed flush was to make durable",
    )
    parser.add_argument(
        "--errno",
        default="EIO",
        choices=("EIO", "ENOSPC"),
        help="what a failing request is answered with; EIO",
    )
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - FILE_SYSTEMS.keys()
    if unknown:
        parser.error(f"no such file system here: {', '.join(sorted(unknown))}")
    reason = missing()
    if reason:
        print(f"ci.real: {reason}; nothing was run")
        return 2
    signal.signal(signal.SIGTERM, _ended)
    print(f"{options.lane} on {platform.system()} {platform.release()}", flush=True)
    results = [tried(options, name) for name in options.names or FILE_SYSTEMS]
    ran = [one for one in results if one is not None]
    return 2 if not ran else int(any(one.outside for one in ran))


if __name__ == "__main__":
    sys.exit(main())
