"""Fuzzing the parsers: damaged pages and damaged files, millions of them.

    python ci/fuzz_parser.py --seconds 60 --workers 2 --seed 1

The claim under test: whatever the bytes, every operation ends with a result or
with a `shearbolt.BoltError`, within `SECONDS_AN_INPUT` of the processor and within a
memory of `memory_limit(size)`. Anything else (another exception, a hang, a wrong
answer) is a failure, is shown with the input's number, and ends in exit status 1.

    seeds --mutate--> page --decode_leaf, decode_branch, ...----> same as a naive
      |                                                           decoder written
      |                                                           element by element
      +-----mutate--> file --open, walk, get, check------------> result or BoltError
                        |----salvage.scan, salvage.repair-------> no more than the
                        |                                         file holds; sound
                        +----put, delete, commit on a copy------> if it fails: the
                                                                  content is as before

A file that the checker calls sound must behave like one: all of it can be
read, the write succeeds, and the checker is still content. So the fuzzer also
looks for damage that the checker overlooks.

Page inputs cost about 0.1 ms, file inputs about 10 ms; `--file-every` mixes them.
An input is a pure function of (seed, number): `--only NUMBER` repeats one and
`--save DIR` keeps it.

Coverage-guided fuzzers (Atheris, python-afl) call `fuzz_one_input`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import resource
import signal
import struct
import sys
import time
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fuzz_inputs import make_seeds, mutate_file, mutate_page, page_runs, read_corpus
from fuzz_memory import MemoryFile, MemoryStorage

import shearbolt
from shearbolt import salvage
from shearbolt.pages import decoding
from shearbolt.pages import format as fmt
from shearbolt.pages.pager import Pager
from shearbolt.salvage.pages import read_tolerant
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS_AN_INPUT: Final = 5.0
"""More of the processor is called a hang. The files have at most 150 KiB."""

_WAITING: Final = 12
"""As many times as long by the clock is one, too: an operation that waits takes nothing
of the processor. On a machine with other work a sound one takes a few times as long."""

FILE_EVERY: Final = 50
"""One input in so many is a whole file."""

MEASURE_EVERY: Final = 40
"""Memory is traced for one file input in so many, and one page input in 40 times
as many: tracing makes everything four times slower."""


def memory_limit(size: int) -> int:
    """Bytes that one input of `size` bytes may take at its peak.

    An element of 16 bytes becomes two objects and two places in lists, about 160
    bytes; the walk, the copy that is written to and the output of the repair are held
    at the same time.
    """
    return 4 * 1024 * 1024 + 64 * size


class Wrong(Exception):  # noqa: N818
    """An operation ended with an answer it must not give."""


class Hang(BaseException):
    """An operation did not end in time. No `except Exception` may catch it."""


# -- what is done with a page ------------------------------------------------------


def exercise_page(data: bytes) -> str:
    """Give a page to every parser; the outcome in a word.

    Raises:
        Wrong: A parser disagrees with the naive one.
    """
    header = fmt.Header.decode(data)

    def read(start: int, length: int) -> bytes:
        part = data[start : start + length]
        if len(part) < length or start < 0:
            raise Wrong(f"read {length} bytes at {start} of {len(data)}")
        return part

    limit = len(data)
    outcomes = []
    for name, decode in (
        ("leaf", decoding.decode_leaf),
        ("branch", decoding.decode_branch),
    ):
        try:
            page: Any = decode(7, header.count, 0, read, limit)
        except fmt.FormatError:
            page = None
        expected = _naive(data, header.count, leaf=name == "leaf")
        _compare(name, page, expected, limit)
        outcomes.append(page is not None)
    try:
        ids = decoding.decode_freelist(header.count, read, limit)
    except fmt.FormatError:
        ids = None
    if ids is not None and 8 * len(ids) > limit:
        raise Wrong("more free pages than the page has room for")
    for decode_other in (fmt.Meta.decode, decoding.decode_bucket):
        try:
            decode_other(data[16:])
        except fmt.FormatError:
            outcomes.append(False)
    _tolerate(data)
    kind = {fmt.LEAF: 0, fmt.BRANCH: 1}.get(header.flags)
    if kind is None:
        return "page: neither leaf nor branch"
    return "page: decoded" if outcomes[kind] else "page: FormatError"


def _naive(data: bytes, count: int, *, leaf: bool) -> list[tuple[bytes, Any]] | None:
    """The same by the definition, slowly; None when it is damaged."""
    if 16 + 16 * count > len(data) or (not leaf and not count):
        return None
    pairs: list[tuple[bytes, Any]] = []
    total = 0
    for at in range(16, 16 + 16 * count, 16):
        if leaf:
            flags, pos, key_size, value_size = struct.unpack_from("<4I", data, at)
        else:
            pos, key_size, child = struct.unpack_from("<IIQ", data, at)
            flags = value_size = 0
        start, middle = at + pos, at + pos + key_size
        total += key_size + value_size
        if middle + value_size > len(data) or total > len(data):
            return None
        value = (flags & 1, data[middle : middle + value_size]) if leaf else child
        pairs.append((data[start:middle], value))
    return pairs


def _compare(
    name: str, page: Any, expected: list[tuple[bytes, Any]] | None, limit: int
) -> None:
    if page is None:
        # A parser may be stricter than the definition, in what no writer makes.
        return
    if expected is None:
        raise Wrong(f"{name}: decoded, though an element leaves the page")
    got: list[tuple[bytes, Any]]
    if name == "leaf":
        got = [
            (key, (int(value.__class__ is fmt.BucketValue), bytes(value)))
            for key, value in zip(page.keys, page.values, strict=True)
        ]
    else:
        got = list(zip(page.keys, page.children, strict=True))
    if got != expected:
        raise Wrong(f"{name}: other elements than the definition gives")
    if sum(map(len, page.keys)) > limit:
        raise Wrong(f"{name}: more content than bytes")


def _tolerate(data: bytes) -> None:
    pager = Pager(RobustFile(MemoryFile(bytearray(data), 0), "page"), len(data), 0)
    try:
        found = read_tolerant(pager, 0, 1)
    except fmt.FormatError:
        return
    page = found.page
    if sum(map(len, page.keys)) + sum(map(len, page.values)) > len(data):
        raise Wrong("tolerant: more content than bytes")


# -- what is done with a file ------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What reading a file gave."""

    outcome: str
    content: list[Any] = field(default_factory=list)
    problems: list[Any] = field(default_factory=list)


def read_all(data: bytes) -> Seen:
    """Open, walk every bucket in every way, look keys up, check."""
    storage = MemoryStorage({"db": data})
    seen = Seen("")
    try:
        with (
            shearbolt.open("db", read_only=True, storage=storage) as db,
            db.view() as tx,
        ):
            seen.problems = tx.check()
            _walk(tx, seen, most=4 * len(data))
    except shearbolt.BoltError as error:
        seen.outcome = type(error).__name__
        return seen
    seen.outcome = "damage found by check" if seen.problems else "sound"
    return seen


def _walk(tx: Any, seen: Seen, most: int) -> None:
    stack = [tx.root_bucket]
    # Buckets may share pages, so that a walk over all paths may never end. That
    # is the walker's concern; one with a limit is what a careful user writes.
    left = most // 16
    while stack and left > 0:
        bucket = stack.pop()
        seen.content.append((bucket.path, bucket.sequence))
        pairs = list(bucket.items())
        left -= 16 + len(pairs)
        if len(pairs) > most:
            raise Wrong(f"{len(pairs)} pairs out of a file of {most // 4} bytes")
        seen.content += pairs
        back = list(bucket.items(reverse=True))
        if pairs[::-1] != back and not seen.problems:
            raise Wrong("another content from the other end")
        for key, value in pairs[:: max(1, len(pairs) // 4)]:
            if bucket.get(key) != value and not seen.problems:
                raise Wrong(f"{key!r} is met but not found")
        cursor = bucket.cursor()
        cursor.last()
        cursor.prev()
        cursor.seek(b"k")
        cursor.next()
        below = [child for _, child in bucket.buckets()]
        left -= 16 * len(below)
        stack += below


def write_some(data: bytes, before: Seen) -> str:
    """A write transaction on a copy; what is promised about it."""
    storage = MemoryStorage({"db": data})
    try:
        with shearbolt.open("db", storage=storage) as db, db.update() as tx:
            _change(tx)
    except shearbolt.BoltError as error:
        # A meta may say that no transaction is left; then nothing else is wrong.
        used_up = isinstance(error, shearbolt.InvalidDatabaseError)
        if before.outcome == "sound" and not used_up:
            raise Wrong(f"sound for the checker, not for a write: {error}") from error
        unsafe = any("freed" in str(problem) for problem in before.problems)
        if before.content and not unsafe:
            after = read_all(bytes(storage.files["db"]))
            if after.content != before.content:
                raise Wrong("a failed commit has changed what can be read") from error
        return f"write: {type(error).__name__}"
    if before.outcome == "sound":
        after = read_all(bytes(storage.files["db"]))
        if after.outcome != "sound":
            raise Wrong(f"sound before the write, then {after.outcome}")
        return "write: done, still sound"
    return "write: done"


def _change(tx: Any) -> None:
    tx.create_bucket_if_not_exists(b"zz fuzz").put(b"key", b"value" * 50)
    for name, bucket in list(tx.buckets())[:4]:
        keys = [key for key, _ in zip(bucket.keys(), range(64), strict=False)]
        for key in keys[::2]:
            bucket.delete(key)
        bucket.put(b"a fuzz", b"1" * 300)
        bucket.put(b"zz fuzz", b"2")
        below = [child for child, _ in bucket.buckets()]
        for child in below[:1]:
            bucket.delete_bucket(child)
        if name == b"deep":
            tx.delete_bucket(name)


def salvage_all(data: bytes, before: Seen, *, repair: bool) -> str:
    """Scan, and repair if asked; what is promised about both."""
    storage = MemoryStorage({"db": data})
    content = pairs = lost = 0
    lowered = False
    try:
        with salvage.scan("db", storage=storage) as report:
            for entry in report:
                if isinstance(entry, salvage.FoundPair):
                    pairs += 1
                    content += len(entry.key) + len(entry.value)
                elif isinstance(entry, salvage.Damage):
                    lost += bool(entry.lost)
                    lowered |= entry.reason.startswith("count ")
    except shearbolt.BoltError as error:
        if any(isinstance(item[0], bytes) for item in before.content):
            raise Wrong(f"readable, but not for salvage: {error}") from error
        return f"salvage: {type(error).__name__}"
    if content > len(data):
        raise Wrong(f"{content} bytes salvaged from a file of {len(data)}")
    if before.outcome == "sound":
        there = sum(
            len(item[0]) + len(item[1])
            for item in before.content
            if isinstance(item[0], bytes)
        )
        # Surgery lowers the count of a page, down to 0, and moves nothing. So does
        # damage, and only salvage says that the elements are still there.
        if content < there or (content > there and not lowered):
            raise Wrong(f"{content} bytes salvaged from a sound file of {there}")
    if repair:
        result = salvage.repair("db", "out", storage=storage)
        after = read_all(bytes(storage.files["out"]))
        if after.outcome != "sound":
            raise Wrong(f"repaired into a file that is {after.outcome}")
        if result.pairs > pairs:
            raise Wrong("more repaired than salvaged")
    return "salvage: with losses" if lost else "salvage: nothing lost"


def exercise_file(data: bytes, *, repair: bool = True) -> tuple[str, str, str]:
    """Everything that can be done with a file; the outcomes.

    Raises:
        Wrong: A promise was broken.
    """
    before = read_all(data)
    return (
        f"read: {before.outcome}",
        salvage_all(data, before, repair=repair),
        write_some(data, before),
    )


def fuzz_one_input(data: bytes) -> None:
    """For coverage-guided fuzzers: raises if the input breaks a promise.

    The first byte says what the rest is: odd a file, even a page.
    """
    if len(data) > 17:
        if data[0] & 1:
            exercise_file(data[1:])
        else:
            exercise_page(data[1:])


# -- the loop ----------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What a run did.

    Attributes:
        outcomes: Inputs by outcome.
        pages: Page inputs.
        files: File inputs.
        slowest: Seconds of the slowest input not traced, and its number.
        hungriest: Peak of memory, the input's size, its number.
        measured: Inputs whose memory was traced.
        failures: (input number, what happened).
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    files: int = 0
    slowest: tuple[float, int] = (0.0, -1)
    hungriest: tuple[int, int, int] = (0, 0, -1)
    measured: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Join the tally of another worker."""
        self.outcomes += other.outcomes
        self.pages += other.pages
        self.files += other.files
        self.slowest = max(self.slowest, other.slowest)
        self.hungriest = max(self.hungriest, other.hungriest)
        self.measured += other.measured
        self.failures += other.failures


class Fuzzer:
    """Inputs by number, and what becomes of them.

    Args:
        seed: Which sequence of inputs.
        file_every: One input in so many is a whole file, the others are pages.
    """

    def __init__(self, seed: int, file_every: int = FILE_EVERY) -> None:
        self.seed = seed
        self.file_every = file_every
        self.seeds = make_seeds()
        self.corpus = read_corpus()
        # Pages worth damaging: whole runs, so that overflow is there, too.
        self.runs = [
            run for data in self.seeds + self.corpus for run in page_runs(data)
        ]

    def input(self, number: int) -> tuple[bool, bytes]:
        """Input `number`: whether it is a file, and its bytes."""
        rng = random.Random(self.seed * 1_000_003 + number)
        if number % self.file_every == 0:
            # What is sound but for one thing says more than what was broken before.
            seeds = self.corpus if self.corpus and rng.random() < 0.25 else self.seeds
            return True, mutate_file(rng, rng.choice(seeds), rng.choice(self.seeds))
        data = bytearray(rng.choice(self.runs))
        mutate_page(rng, data, 0, 40)
        return False, bytes(data)

    def one(self, number: int, tally: Tally) -> None:
        """Run one input and note what happens."""
        is_file, data = self.input(number)
        every = MEASURE_EVERY * (1 if is_file else 40)
        measure = (number // self.file_every if is_file else number) % every == 0
        began = time.perf_counter()
        try:
            with _limits(data, tally, number, measure=measure):
                if is_file:
                    tally.outcomes.update(exercise_file(data, repair=number % 3 == 0))
                else:
                    tally.outcomes[exercise_page(data)] += 1
        except (Exception, Hang) as error:  # noqa: BLE001 - the finding itself
            kind = type(error).__name__
            tally.outcomes[f"FAILURE: {kind}"] += 1
            tally.failures.append((number, f"{kind}: {error}"))
        if not measure:
            tally.slowest = max(tally.slowest, (time.perf_counter() - began, number))
        tally.files += is_file
        tally.pages += not is_file


@contextmanager
def _limits(data: bytes, tally: Tally, number: int, *, measure: bool) -> Iterator[None]:
    """Stop what takes too long; refuse what takes too much memory."""
    seconds = SECONDS_AN_INPUT * (4 if measure else 1)
    if measure:
        tracemalloc.start()
    try:
        with time_limit(seconds):
            yield
    finally:
        if measure:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    if measure:
        tally.measured += 1
        tally.hungriest = max(tally.hungriest, (peak, len(data), number))
        if peak > memory_limit(len(data)):
            raise Wrong(f"{peak} bytes of memory for an input of {len(data)}")


def _too_late(signum: int, frame: object) -> None:
    del frame
    how = "busy" if signum == signal.SIGPROF else "waiting"
    raise Hang(f"not done in time, and {how}")


@contextmanager
def alarm() -> Iterator[None]:
    """Let what takes too long end as `Hang`; in the main thread only."""
    before = {
        signum: signal.signal(signum, _too_late)
        for signum in (signal.SIGPROF, signal.SIGALRM)
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Within `alarm`, let a block end as `Hang` after so much of the processor.

    Args:
        seconds: How much; by the clock, `_WAITING` times as much.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _WAITING * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(
    seed: int, first: int, step: int, inputs: float, seconds: float, file_every: int
) -> Tally:
    """Inputs `first`, `first + step`, ... until one of the limits is met."""
    fuzzer, tally = Fuzzer(seed, file_every), Tally()
    deadline = time.monotonic() + seconds
    with alarm():
        number = first
        while number < inputs and time.monotonic() < deadline:
            fuzzer.one(number, tally)
            number += step
            if len(tally.failures) >= 100:
                break
    return tally


def _worker(task: tuple[int, int, int, float, float, int]) -> Tally:
    # What allocates without bound ends in MemoryError, not in the machine's swap.
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    return run(*task)


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--inputs", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--file-every", type=int, default=FILE_EVERY)
    parser.add_argument("--only", type=int, help="run this one input, with traceback")
    parser.add_argument("--save", type=Path, help="with --only: keep the input here")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    if options.only is not None:
        return _only(options)
    if options.inputs == options.seconds == math.inf:
        options.seconds = 20.0
    began = time.monotonic()
    tasks = [
        (
            options.seed, first, options.workers,
            options.inputs, options.seconds, options.file_every,
        )
        for first in range(options.workers)
    ]  # fmt: skip
    tally = Tally()
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for part in pool.imap_unordered(_worker, tasks):
            tally.add(part)
    _show(tally, time.monotonic() - began, options)
    return 1 if tally.failures else 0


def _only(options: argparse.Namespace) -> int:
    fuzzer = Fuzzer(options.seed, options.file_every)
    is_file, data = fuzzer.input(options.only)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        name = f"seed{options.seed}-{options.only}.{'db' if is_file else 'page'}"
        options.save.joinpath(name).write_bytes(data)
    with alarm(), time_limit(SECONDS_AN_INPUT):
        print(exercise_file(data) if is_file else exercise_page(data))
    return 0


def _show(tally: Tally, seconds: float, options: argparse.Namespace) -> None:
    inputs = tally.pages + tally.files
    peak, size, at = tally.hungriest
    print(
        f"{inputs} inputs in {seconds:.0f} s: {tally.pages} pages, {tally.files} files"
    )
    for outcome, count in sorted(tally.outcomes.items()):
        print(f"  {count:9}  {outcome}")
    print(f"slowest: {tally.slowest[0] * 1000:.1f} ms (input {tally.slowest[1]})")
    print(
        f"most memory: {peak} bytes for {size} (input {at}; {tally.measured} measured, "
        f"limit {memory_limit(size)})"
    )
    for number, what in tally.failures[:20]:
        print(f"FAILURE: seed {options.seed}, input {number}: {what}")
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "inputs": inputs,
                    "pages": tally.pages,
                    "files": tally.files,
                    "seconds": round(seconds, 1),
                    "seed": options.seed,
                    "outcomes": dict(sorted(tally.outcomes.items())),
                    "slowest_seconds": tally.slowest[0],
                    "peak_bytes": peak,
                    "peak_input_bytes": size,
                    "memory_measured": tally.measured,
                    "failures": tally.failures,
                },
                indent=1,
            ),
            "utf-8",
        )


if __name__ == "__main__":
    sys.exit(main())
