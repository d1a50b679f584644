"""The subcommand bench: how fast this machine writes and reads a new database.

    write   --count pairs in transactions of --batch-size, in order or not, flat or
            each transaction in a bucket of its own
    read    the same pairs, again and again, for at least a second

Keys are 32-bit numbers, big-endian, filled up with zeros to --key-size; values are
zeros. That is bbolt's benchmark, so figures can be held against each other.

Profiles are Python's: --cpuprofile writes what `pstats` reads, --memprofile the lines
of the program that hold most memory. There is no --blockprofile: nothing here waits
for another thread.

Source: bbolt cmd/bbolt/command/command_bench.go.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from shearbolt.command.arguments import add_json, size
from shearbolt.command.session import Command, CommandError, UsageError, opener
from shearbolt.command.text import duration
from shearbolt.database.opening import open_database
from shearbolt.tree.bucket import DEFAULT_FILL_PERCENT

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from shearbolt.command.session import Session
    from shearbolt.database.opening import DB

__all__ = ["COMMANDS"]

_BUCKET: Final = b"bench"
_SECOND: Final = 1_000_000_000
_KEY_BYTES: Final = 4

# The bucket within the benchmark's, None for none, and the key.
Place = tuple[bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Result:
    """So many operations in so many nanoseconds."""

    operations: int
    nanoseconds: int

    @property
    def each(self) -> int:
        """Whole nanoseconds an operation."""
        return self.nanoseconds // self.operations if self.operations else 0

    @property
    def per_second(self) -> int:
        """Operations a second, as bbolt computes it: from whole nanoseconds."""
        return _SECOND // self.each if self.each else 0


def _fill(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--profile-mode", choices=("rw", "r", "w"), default="rw", help="what to profile"
    )
    add(
        "--write-mode",
        metavar="MODE",
        default="seq",
        help="seq, rnd, seq-nest or rnd-nest (default: seq)",
    )
    add("--read-mode", choices=("seq", "rnd"), default="seq", help="in what order")
    add("--count", metavar="N", type=size, default=1000, help="pairs (1000)")
    add(
        "--batch-size", metavar="N", type=size, default=0,
        help="pairs a transaction (0: all); divides --count",
    )  # fmt: skip
    add("--key-size", metavar="BYTES", type=size, default=8, help="of a key (8)")
    add("--value-size", metavar="BYTES", type=size, default=32, help="of a value (32)")
    add("--cpuprofile", metavar="FILE", help="write where the time went")
    add("--memprofile", metavar="FILE", help="write where the memory went")
    add("--blockprofile", metavar="FILE", help="not available; accepted by bbolt")
    add(
        "--fill-percent", metavar="SHARE", type=_fill, default=DEFAULT_FILL_PERCENT,
        help="how full pages are made (0.5)",
    )  # fmt: skip
    add("--no-sync", action="store_true", help="do not wait for the disk")
    add("--work", action="store_true", help="keep the database, and say where it is")
    add("--path", metavar="FILE", help="where to make it (default: a temporary file)")
    add("--gobench-output", action="store_true", help="print what benchstat reads")
    add("--page-size", metavar="BYTES", type=size, default=4096, help="(4096)")
    add(
        "--initial-mmap-size", metavar="BYTES", type=size, default=0,
        help="let the file grow so far at once",
    )  # fmt: skip
    add_json(parser)


def _validate(options: Namespace) -> None:
    if options.batch_size > 0 and options.count % options.batch_size:
        raise UsageError("the number of iterations must be divisible by the batch size")
    if options.write_mode not in {"seq", "rnd", "seq-nest", "rnd-nest"}:
        raise UsageError(
            "the write mode should be one of seq, rnd, seq-nest, or rnd-nest"
        )
    if options.key_size < _KEY_BYTES:
        raise UsageError(f"a key has at least {_KEY_BYTES} bytes")
    if not options.count:
        raise UsageError("there is nothing to do: --count is 0")
    if options.blockprofile:
        raise UsageError("--blockprofile is not available: Python has no such profile")


def _bench(session: Session, options: Namespace) -> int:
    import tempfile  # noqa: PLC0415

    _validate(options)
    # Also a link to nothing: the link would be deleted, and what it means stay behind.
    if options.path is not None and session.storage.exists(options.path):
        raise UsageError(f'"{options.path}" exists: it would be written to and deleted')
    path = options.path or os.path.join(tempfile.mkdtemp(prefix="bolt-bench-"), "db")
    if options.work:
        session.note(f"work: {path}")
    try:
        with open_database(
            path,
            no_sync=options.no_sync,
            page_size=options.page_size,
            initial_mmap_size=options.initial_mmap_size,
            storage=session.storage,
        ) as db:
            written, read = _measure(session, db, options)
    finally:
        if not options.work:
            _remove(session, path, temporary=options.path is None)
    if options.json:
        session.json({"write": _members(written), "read": _members(read)})
    elif options.gobench_output:
        session.line(f"BenchmarkWrite\t{_go_result(written)}")
        session.line(f"BenchmarkRead \t{_go_result(read)}")
        session.line()
    else:
        session.line(_text("Write", written))
        session.line(_text("Read", read))
        session.line()
    return 0


def _remove(session: Session, path: str, *, temporary: bool) -> None:
    if session.storage.exists(path):
        session.storage.unlink(path)
    if temporary:
        os.rmdir(os.path.dirname(path))


def _measure(session: Session, db: DB, options: Namespace) -> tuple[Result, Result]:
    mode = options.profile_mode
    with _profiles(options, "w" in mode and mode != "rw"):
        if mode == "rw":
            with _profiles(options, wanted=True):
                return _write(session, db, options), _read(session, db, options)
        written = _write(session, db, options)
    with _profiles(options, mode == "r"):
        return written, _read(session, db, options)


@contextmanager
def _profiles(options: Namespace, wanted: bool) -> Iterator[None]:
    """Profile the block, as far as profiles are asked for."""
    # Here, as the other imports inside functions of this module: they would cost
    # every run of every subcommand 20 ms.
    import cProfile  # noqa: PLC0415
    import tracemalloc  # noqa: PLC0415

    cpu = cProfile.Profile() if wanted and options.cpuprofile else None
    memory = wanted and options.memprofile
    if memory:
        tracemalloc.start()
    if cpu:
        cpu.enable()
    try:
        yield
    finally:
        if cpu:
            cpu.disable()
            cpu.dump_stats(options.cpuprofile)
        if memory:
            lines = tracemalloc.take_snapshot().statistics("lineno")
            tracemalloc.stop()
            with open(options.memprofile, "w", encoding="utf-8", opener=opener) as file:
                file.writelines(f"{line}\n" for line in lines)


def _write(session: Session, db: DB, options: Namespace) -> Result:
    draw = _numbers(options.write_mode, options.key_size)
    nested = options.write_mode.endswith("-nest")
    value = bytes(options.value_size)
    batch = options.batch_size or options.count
    done = 0
    began = time.perf_counter_ns()
    with session.progress("write", "pairs") as progress:
        while done < options.count:
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(_BUCKET)
                bucket.fill_percent = options.fill_percent
                if nested:
                    bucket = bucket.create_bucket_if_not_exists(draw())
                    bucket.fill_percent = options.fill_percent
                for _ in range(batch):
                    bucket.put(draw(), value)
                    done += 1
                    if progress is not None:
                        progress(done, options.count)
    return Result(done, time.perf_counter_ns() - began)


def _numbers(mode: str, key_size: int) -> Callable[[], bytes]:
    if mode.startswith("seq"):
        ascending = count(1)

        def draw() -> int:
            return next(ascending) & 0xFFFF_FFFF

    else:
        import random  # noqa: PLC0415

        # Not seeded, as bbolt's: a benchmark should not depend on one order.
        source = random.Random()

        def draw() -> int:
            return source.getrandbits(32)

    rest = bytes(key_size - _KEY_BYTES)
    return lambda: draw().to_bytes(_KEY_BYTES, "big") + rest


def _read(session: Session, db: DB, options: Namespace) -> Result:
    with db.view() as tx:
        top = tx.bucket(_BUCKET)
        places: list[Place] = []
        if options.read_mode == "rnd":
            import random  # noqa: PLC0415

            for name, bucket in [(None, top), *top.buckets()]:
                places += [(name, key) for key in bucket]
            random.Random().shuffle(places)
        done = 0
        began = time.perf_counter_ns()
        with session.progress("read", "pairs") as progress:
            while True:
                if options.read_mode == "rnd":
                    found = _read_places(db, places)
                else:
                    found = _read_in_order(db)
                if options.write_mode in {"seq", "seq-nest"} and found != options.count:
                    raise CommandError(
                        f"bench: read {options.write_mode}: iter mismatch: expected "
                        f"{options.count}, got {found}"
                    )
                done += found
                if progress is not None:
                    progress(done)
                taken = time.perf_counter_ns() - began
                if taken >= _SECOND:
                    return Result(done, taken)


def _read_in_order(db: DB) -> int:
    found = 0
    with db.view() as tx:
        top = tx.bucket(_BUCKET)
        for bucket in [top, *(child for _, child in top.buckets())]:
            for _ in bucket.items():
                found += 1
    return found


def _read_places(db: DB, places: list[Place]) -> int:
    with db.view() as tx:
        top = tx.bucket(_BUCKET)
        for name, key in places:
            bucket = top if name is None else top.bucket(name)
            if bucket.get(key) is None:
                raise CommandError("bench: read: invalid value")
    return len(places)


def _text(what: str, result: Result) -> str:
    return (
        f"# {what}\t{result.operations}(ops)\t{duration(result.nanoseconds)}\t"
        f"({duration(result.each)}/op)\t({result.per_second} op/sec)"
    )


def _members(result: Result) -> dict[str, Any]:
    return {
        "operations": result.operations,
        "nanoseconds": result.nanoseconds,
        "nanoseconds_each": result.each,
        "per_second": result.per_second,
    }


def _go_result(result: Result) -> str:
    """A line of Go's testing.BenchmarkResult."""
    each = result.nanoseconds / result.operations if result.operations else 0.0
    # Four significant digits, the points below each other.
    for bound, form in ((999.95, "10.0f"), (99.995, "12.1f"), (9.9995, "13.2f")):
        if not each or each >= bound:
            return f"{result.operations:8d}\t{each:{form}} ns/op"
    return f"{result.operations:8d}\t{each:14.3f} ns/op"


COMMANDS: Final = (
    Command(
        "bench",
        "measure writing and reading",
        _arguments,
        _bench,
        "shearbolt bench --count 100000 --batch-size 1000\n"
        "shearbolt bench --write-mode rnd --read-mode rnd --work --path /mnt/disk/db",
        "Writes a new database, reads it for a second, deletes it. A file that "
        "exists is not touched.",
    ),
)
