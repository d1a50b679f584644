"""Real processes, a real file, SIGKILL: every acknowledged commit is there.

Theory
======
The crash explorer runs the engine on a simulated disk. This lane runs it on a real
one, kills the process that writes, and looks:

    this process                         child
    fork  ------------------------------>  open the file, with readers open or not
                                           commit 1, say 1, commit 2, say 2, ...
    hear some of it, wait a random
    while, SIGKILL  -------------------->  (gone)
    read what else it said; open the file:
      the last commit said, or one later; its content exactly; the checker finds
      nothing; one more commit succeeds

A commit is a number; the content after it is a function of the number (`content`),
so nothing but the number has to be passed on. The file lives on through the cycles
and is made anew now and then, so that creation is killed, too.

What this lane cannot see
=========================
Killing a process loses nothing that was handed to the operating system: the page
cache survives. An engine without a single fsync passes. So this lane says that the
order of system calls and the recovery from a half-made commit are right on a real
kernel; that syncs are where they must be only the simulated disk can say. A test
runs both on the engine without its data sync: this lane passes, the explorer finds
the loss.

Hence the file may as well be in memory (tmpfs), where a sync costs nothing and a
cycle takes milliseconds; that is the default where there is one.

The moment of the kill is random within a commit, not within a second: first some
acknowledgements are awaited, so that a busy machine sees as many commits as an idle
one, then up to the time that one or two commits take.

The child is forked and not spawned, so that a cycle takes milliseconds and not the
start of an interpreter; this process must have one thread only.

    python -m boltmodel.lanes.kill --cycles 5000

Exit status: 0 nothing was lost, 1 something was, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import struct
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

import shearbolt
from boltmodel.mutants import MUTANTS, mutant
from tornpage.command.arguments import positive
from tornpage.command.program import ENDING, as_program
from tornpage.progress import Look, showing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shearbolt import DB, Tx
    from tornpage.progress import Show

__all__ = ["Lane", "Loss", "Result", "content", "main", "run"]

_SAID: Final = struct.Struct("<Q")
_BUCKET: Final = b"lane"
_NESTED: Final = b"nested"
_COUNT: Final = b"count"
# Keys that one commit writes, of a universe this large: later commits overwrite.
_KEYS_A_COMMIT: Final = 3
_UNIVERSE: Final = 40
# A file is made anew after so many cycles, so that it stays small.
_CYCLES_A_FILE: Final = 40
# With growth, every commit adds a value that needs pages of its own.
_GROWTH_BYTES: Final = 9_000
_READERS: Final = 3


@dataclass(frozen=True, slots=True)
class Lane:
    """What to do.

    Attributes:
        cycles: How often a process is killed.
        seed: Of the waits and the choice of what a cycle does.
        grow: Commits add large values, so that the file grows all the time.
        readers: The child keeps snapshots open while it commits, and checks them.
        most: Acknowledgements that are awaited at most; sometimes none is.
        longest: Seconds from there to the kill, at most.
        mutant: Planted bug of the engine, or None.
        hasty: Planted bug of the child: it says a number before it commits it.
    """

    cycles: int
    seed: int = 0
    grow: bool = False
    readers: bool = False
    most: int = 3
    longest: float = 0.002
    mutant: str | None = None
    hasty: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """A promise broken in some cycle.

    Attributes:
        cycle: Which.
        said: The last commit that the child acknowledged.
        message: What is wrong.
    """

    cycle: int
    said: int
    message: str


@dataclass(slots=True)
class Result:
    """What a lane saw.

    Attributes:
        cycles: Processes killed.
        acknowledged: Commits that were acknowledged, all cycles together.
        in_flight: Cycles in which a commit was there that had not been
            acknowledged: the process died between commit and acknowledgement.
        unborn: Cycles whose process died before its first commit.
        largest: Bytes of the largest file.
        losses: Promises broken.
        seconds: How long it took.
        interrupted: Whether Ctrl-C ended it.
    """

    cycles: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    unborn: int = 0
    largest: int = 0
    losses: list[Loss] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def __str__(self) -> str:
        rate = self.seconds / max(self.cycles, 1) * 1e3
        return (
            f"{self.cycles:,} processes killed, {self.acknowledged:,} commits"
            f" acknowledged, {len(self.losses):,} losses; {self.in_flight:,} commits"
            f" there before they were acknowledged, {self.unborn:,} processes died"
            f" before their first; largest file {self.largest >> 10:,} KiB;"
            f" {rate:.1f} ms a cycle{', interrupted' * self.interrupted}"
        )


def _writes(number: int, *, grow: bool) -> list[tuple[bytes, bytes]]:
    """The pairs that commit `number` writes."""
    draw = random.Random(number)
    pairs = []
    for _ in range(_KEYS_A_COMMIT):
        key = b"key%03d" % draw.randrange(_UNIVERSE)
        pairs.append((key, b"%d " % number * draw.choice((1, 30, 200))))
    if grow:
        pairs.append((b"big%06d" % number, b"%06d" % number * (_GROWTH_BYTES // 6)))
    return pairs


def content(number: int, *, grow: bool = False) -> dict[bytes, bytes]:
    """What the bucket holds after commits 1 to `number`."""
    pairs: dict[bytes, bytes] = {}
    for one in range(1, number + 1):
        pairs.update(_writes(one, grow=grow))
        pairs[_COUNT] = b"%d" % one
    return pairs


def _commit(db: DB, number: int, *, grow: bool) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(_BUCKET)
        for key, value in _writes(number, grow=grow):
            bucket.put(key, value)
        bucket.put(_COUNT, b"%d" % number)
        nested = bucket.create_bucket_if_not_exists(_NESTED)
        nested.put(b"%d" % (number % 7), b"%d" % number)


def _pairs(tx: Tx) -> dict[bytes, bytes]:
    try:
        bucket = tx.bucket(_BUCKET)
    except shearbolt.BucketNotFoundError:
        return {}
    return dict(bucket.items())


# -- the child ------------------------------------------------------------------------


def _live(path: str, lane: Lane, first: int, say: Callable[[int], None]) -> None:
    """Commit until killed; complain by saying 0 when a reader sees changes."""
    db = shearbolt.open(path)
    snapshots: list[tuple[Tx, dict[bytes, bytes]]] = []
    number = first
    while True:
        if lane.readers:
            tx = db.begin(writable=False)
            snapshots.append((tx, _pairs(tx)))
            if len(snapshots) > _READERS:
                oldest, seen = snapshots.pop(0)
                if _pairs(oldest) != seen:
                    say(0)
                oldest.rollback()
        if lane.hasty:
            say(number)
        _commit(db, number, grow=lane.grow)
        if not lane.hasty:
            say(number)
        number += 1


def _child(path: str, lane: Lane, first: int, pipe: int) -> NoReturn:
    def say(number: int) -> None:
        os.write(pipe, _SAID.pack(number))

    status = 1
    try:
        _live(path, lane, first, say)
    except BaseException as error:  # noqa: BLE001 - the parent is told, whatever it is
        with contextlib.suppress(OSError):
            text = f"{type(error).__name__}: {error}".encode()[:4000]
            os.write(pipe, _SAID.pack(2**64 - 1) + text)
    finally:
        # Not sys.exit: nothing of the parent may run in here.
        os._exit(status)


# -- the parent -----------------------------------------------------------------------


def _kill_one(
    path: str, lane: Lane, first: int, commits: int, wait: float
) -> tuple[bytes, str]:
    """Fork, hear, wait, kill; what the child said, and how it ended if not by us."""
    psutil: Any = import_module("psutil")
    read_end, write_end = os.pipe()
    # Python drops an interrupt that meets what it calls as it forks (logging's lock is
    # let go of there), and most of a cycle is that. In the child it stays blocked:
    # the parent ends it.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDING})
    pid = os.fork()
    if not pid:
        os.close(read_end)
        _child(path, lane, first, write_end)
    process = psutil.Process(pid)
    said = b""
    try:
        os.close(write_end)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        while len(said) < commits * _SAID.size:
            chunk = os.read(read_end, _SAID.size)
            if not chunk:
                break
            said += chunk
        time.sleep(wait)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        while chunk := os.read(read_end, 1 << 16):
            said += chunk
        os.close(read_end)
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return said, ""
    return said, f"the process ended by itself, status {status}"


def _understood(said: bytes, last: int) -> tuple[int, str]:
    """The last number that was said, and a complaint among the numbers."""
    for (number,) in _SAID.iter_unpack(said[: len(said) // 8 * 8]):
        if number == 0:
            return last, "a reader saw a later commit"
        if number == 2**64 - 1:
            at = said.index(_SAID.pack(number)) + 8
            return last, said[at:].decode(errors="replace")
        last = number
    return last, ""


def _found(path: str, lane: Lane, said: int) -> tuple[int, str]:
    """The commit that is there, and what is wrong with it, "" when nothing is."""
    if not os.path.exists(path):
        return 0, f"the file is gone, commit {said} was acknowledged" if said else ""
    try:
        with shearbolt.open(path) as db:
            with db.view() as tx:
                pairs = _pairs(tx)
                problems = tx.check()
            number = int(pairs.get(_COUNT, b"0"))
            if number not in (said, said + 1):
                return number, f"commit {said} was acknowledged, {number} is there"
            if pairs != content(number, grow=lane.grow):
                return number, f"the content is not that of commit {number}"
            if problems:
                return number, f"the checker finds {problems[0]}"
            # Forward progress, and the next cycle's first reader sees a commit that
            # another process made.
            _commit(db, number + 1, grow=lane.grow)
            return number + 1, ""
    except shearbolt.BoltError as error:
        return said, f"it cannot be opened: {type(error).__name__}: {error}"


def run(
    lane: Lane, folder: str, *, watch: Callable[[Result], None] | None = None
) -> Result:
    """Kill as many processes as the lane says; stop at ten losses.

    Ctrl-C ends it with what is known by then.

    Args:
        lane: What to do.
        folder: Where the file is; on a real file system.
        watch: Called after each cycle.

    Raises:
        RuntimeError: This process has several threads, and forking one that holds
            a lock would hang the child.
        KeyError: There is no such planted bug.
    """
    if threading.active_count() > 1:
        raise RuntimeError(
            "The kill lane forks, which needs a process with one thread."
            " Start it with python -m boltmodel.lanes.kill."
        )
    result = Result()
    planted = contextlib.nullcontext() if lane.mutant is None else mutant(lane.mutant)
    with planted:
        try:
            _kill_all(lane, os.path.join(folder, "kill.bolt"), result, watch)
        except KeyboardInterrupt:
            result.interrupted = True
    return result


def _kill_all(
    lane: Lane, path: str, result: Result, watch: Callable[[Result], None] | None
) -> None:
    draw = random.Random(f"kill {lane.seed}")
    begun = time.monotonic()
    last = 0
    anew = True
    for cycle in range(lane.cycles):
        if anew or cycle % _CYCLES_A_FILE == 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            last = 0
        commits, wait = draw.randint(0, lane.most), draw.uniform(0, lane.longest)
        said, ended = _kill_one(path, lane, last + 1, commits, wait)
        number, wrong = _understood(said, last)
        acknowledged = number - last
        there = number
        if not wrong:
            there, wrong = _found(path, lane, number)
        result.cycles += 1
        result.acknowledged += acknowledged
        result.unborn += not acknowledged
        result.in_flight += there == number + 2
        result.seconds = time.monotonic() - begun
        if os.path.exists(path):
            result.largest = max(result.largest, os.path.getsize(path))
        anew = bool(wrong or ended)
        if anew:
            message = "; ".join(part for part in (wrong, ended) if part)
            result.losses.append(Loss(cycle, number, message))
            if len(result.losses) >= 10:
                return
        last = there
        if watch is not None:
            watch(result)


def _fast_folder() -> str | None:
    """Where files cost no disk writes; None: wherever temporary files go."""
    memory = "/dev/shm"  # noqa: S108 - a folder of our own is made inside
    return memory if os.access(memory, os.W_OK) else None


def _show(show: Show, cycles: int, result: Result) -> None:
    counts = f"{result.cycles:,}/{cycles:,} processes  {len(result.losses)} losses"
    show(lambda: Look(result.cycles, cycles, counts))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lane in its four forms: growing or not, with readers or without.

    Returns:
        The exit status: 1 when something was lost, 3 when nothing was and Ctrl-C ended
        it, else 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boltmodel.lanes.kill",
        description="Kill processes that write, and look whether anything is lost.",
    )
    parser.add_argument("--cycles", type=positive, default=5000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), metavar="NAME")
    parser.add_argument("--hasty", action="store_true", help="say before committing")
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="default: a temporary one, in memory if possible",
    )
    options = parser.parse_args(argv)
    lost, interrupted = 0, False
    with contextlib.ExitStack() as stack:
        folder = options.folder or stack.enter_context(
            tempfile.TemporaryDirectory(dir=_fast_folder())
        )
        for part, (grow, readers) in enumerate(
            ((False, False), (True, False), (False, True), (True, True))
        ):
            lane = Lane(
                cycles=(options.cycles + 3 - part) // 4,
                seed=options.seed + part,
                grow=grow,
                readers=readers,
                mutant=options.mutant,
                hasty=options.hasty,
            )
            how = "growing" if grow else "not growing"
            how += ", with readers" if readers else ", without readers"
            with showing(how, sys.stderr) as show:
                result = run(lane, folder, watch=partial(_show, show, lane.cycles))
            lost += len(result.losses)
            sys.stdout.write(f"{how}: {result}\n")
            for loss in result.losses[:3]:
                sys.stdout.write(
                    f"  cycle {loss.cycle}, commit {loss.said} said: {loss.message}\n"
                )
            interrupted = result.interrupted
            if interrupted:
                break
    return 1 if lost else 3 * interrupted


if __name__ == "__main__":
    sys.exit(as_program("kill", main))
