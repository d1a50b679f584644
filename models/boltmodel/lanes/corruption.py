"""What bolt's format notices of silent corruption, found by trying.

Theory
======
A sample database with every kind of page gets one fault, then everything is
done with it that a user can do to notice: open, read all, run the checker.

    rot                one bit of the file, as many tries for each field
    lost write         one write of a commit never happens
    misdirected write  one write of a commit lands on another page
    stale read         one read while opening and reading returns older bytes
    misdirected read   one read is taken from another page

bolt has checksums on its meta pages and nowhere else. Data pages know their own
number, which is what notices most of the misdirected ones. So values and keys
rot unnoticed; `python -m boltmodel.lanes.corruption` prints the whole list, and
`docs/injected-errors.md` holds it.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from typing import TYPE_CHECKING, Final, cast

import shearbolt
from boltmodel.fields import field_at, spans
from boltmodel.interpret import DATABASE, Session
from boltmodel.programs import Commit, CreateBucket, Delete, Fill, Program, Put, Value
from boltmodel.recovery import look
from tornpage.command.program import as_program
from tornpage.disk import Disk
from tornpage.faults import Fault, FaultyDisk, Script, Survey, flip, rot, under_script
from tornpage.trace import Write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltmodel.programs import Operation
    from boltmodel.recovery import Look

__all__ = ["SAMPLE", "sample_file", "survey"]

SAMPLE: Final = Program(
    (
        Fill((b"many",), 0, 90, 7, Value(1, 40)),
        Put((b"many", b"nested"), b"k", Value(2, 30)),
        Put((b"large",), b"run", Value(3, 3000)),
        CreateBucket((b"empty",)),
        Commit(),
        Fill((b"many",), 70, 20, 7, Value(4, 60)),
        Put((b"inline",), b"k", Value(5, 20)),
        Commit(),
        Fill((b"many",), 350, 30, 7, Value(6, 50)),
        Delete((b"large",), b"run"),
        Put((b"large",), b"run", Value(7, 2500)),
        Commit(),
    ),
    page_size=1024,
)
"""Leaves, branches, a run of pages, nested, inline and empty buckets, free pages."""

_NEXT: Final[tuple[Operation, ...]] = (
    Fill((b"many",), 210, 12, 7, Value(8, 45)),
    Put((b"inline",), b"k", Value(9, 22)),
    Commit(),
)


@cache
def sample_file(next_commit: str | None = None) -> tuple[bytes, str]:
    """The sample database as bytes.

    Args:
        next_commit: Also make one more commit, under this fault script.

    Returns:
        The file, and the error that the commit ended with, if any.
    """
    disk = Disk()
    session = Session(SAMPLE, disk)
    session.open()
    for op in SAMPLE.operations:
        session.step(op)
    session.close()
    error = ""
    if next_commit is not None:
        front = under_script(disk, Script())
        again = Session(SAMPLE, front)
        again.committed = session.committed
        again.open()
        front.script = Script.parse(next_commit)  # type: ignore[attr-defined]
        try:
            for op in _NEXT:
                again.step(op)
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is noticed.
            error = f"{type(raised).__name__}: {raised}"
        again.abandon()
    file = disk.open(DATABASE)
    return file.pread(file.size(), 0), error


def examine(disk: Disk, expected: Look, earlier: bytes) -> tuple[str, str]:
    """Open, read and check a database; the verdict, and why.

    Args:
        disk: It is on this one.
        expected: What it should show.
        earlier: Digest of the content before the last commit.
    """
    try:
        with shearbolt.open(DATABASE, storage=disk) as db:
            seen = look(db)
    except shearbolt.BoltError as error:
        return "detected", f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - that is the finding.
        # Keys out of order are noticed by whoever reads in order.
        kind = "detected" if type(error).__name__ == "OrderError" else "broken"
        return kind, f"{type(error).__name__}: {error}"
    if seen.problems:
        return "detected", seen.problems[0]
    if seen.content.digest == expected.content.digest:
        return "harmless", ""
    if seen.content.digest == earlier:
        return "older", f"transaction {seen.txid}, not {expected.txid}"
    return "undetected", "other content, and no complaint"


def _before(number: int) -> bytes:
    """Digest of the content that so many commits of sample and next commit leave."""
    disk = Disk()
    session = Session(SAMPLE, disk)
    session.open()
    made = 0
    for op in (*SAMPLE.operations, *_NEXT):
        session.step(op)
        made += isinstance(op, Commit)
        if made == number:
            break
    session.close()
    return session.committed.digest


def _sound(content: bytes) -> Look:
    with shearbolt.open(DATABASE, storage=Disk({DATABASE: content})) as db:
        return look(db)


def survey(tries: int = 40, seed: int = 0) -> Survey:
    """Try every kind of silent fault on the sample database.

    Args:
        tries: Bits for each place, under rot.
        seed: Which bits.
    """
    found = Survey()
    _rot(found, tries, seed)
    _writes(found)
    _reads(found)
    return found


def _rot(found: Survey, tries: int, seed: int) -> None:
    content, _ = sample_file()
    expected, earlier = _sound(content), _before(2)
    for place, bit in rot(spans(content), tries, seed):
        disk = Disk({DATABASE: flip(content, bit)})
        found.add("rot", place, *examine(disk, expected, earlier))


def _writes(found: Survey) -> None:
    before, _ = sample_file()
    after, _ = sample_file("")
    expected, earlier = _sound(after), _before(3)
    pages = len(before) // SAMPLE.page_size
    for nth, offset in enumerate(_offsets_written(), 1):
        place = field_at(after, offset).partition(":")[0]
        at = [f"at:{pgid * SAMPLE.page_size}" for pgid in range(pages)]
        for effect in ("lost", *at):
            content, error = sample_file(f"pwrite#{nth}={effect}")
            what = "lost write" if effect == "lost" else "misdirected write"
            if error:
                found.add(what, place, "detected", error)
            else:
                disk = Disk({DATABASE: content})
                found.add(what, place, *examine(disk, expected, earlier))


@cache
def _offsets_written() -> tuple[int, ...]:
    """Where the writes of the next commit go, in order."""
    content, _ = sample_file()
    disk = Disk({DATABASE: content})
    session = Session(SAMPLE, disk)
    session.committed = _sound(content).content
    session.open()
    for op in _NEXT:
        session.step(op)
    session.abandon()
    writes = [one for one in disk.trace.operations() if isinstance(one, Write)]
    return tuple(one.offset for one in writes)


def _reads(found: Survey) -> None:
    content, _ = sample_file("")
    expected, earlier = _sound(content), _before(3)
    size = SAMPLE.page_size
    for fault in _read_faults(content):
        disk = Disk({DATABASE: sample_file()[0]})
        front = FaultyDisk(disk, Script((fault,)))
        file = disk.open(DATABASE)
        if fault.effect == "stale":
            # What was there before the last commit, page by page.
            old = file.pread(file.size(), 0)
            front._journal = [(DATABASE, 0, old)]
        file.pwritev([content], 0)
        verdict = examine(cast("Disk", front), expected, earlier)
        if front.injected:
            offset = front.injected[0].offset
            place = field_at(content, offset // size * size).partition(":")[0]
            what = "stale read" if fault.effect == "stale" else "misdirected read"
            found.add(what, place, *verdict)


def _read_faults(content: bytes) -> Iterator[Fault]:
    front = FaultyDisk(Disk({DATABASE: content}), Script())
    with shearbolt.open(DATABASE, storage=cast("Disk", front)) as db:
        look(db)
    reads = front.calls.count("pread")
    size = SAMPLE.page_size
    for nth in range(1, reads + 1):
        yield Fault("pread", nth, "stale")
        for pgid in range(nth % 7, len(content) // size, 7):
            yield Fault("pread", nth, "at", pgid * size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the survey; 1 when the engine raised what it does not document."""
    argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.corruption",
        description="What the format notices of silent corruption.",
    ).parse_args(arguments)
    found = survey()
    sys.stdout.writelines(f"{line}\n" for line in found.table())
    return 1 if found.total("broken") else 0


if __name__ == "__main__":
    sys.exit(as_program("corruption", main))
