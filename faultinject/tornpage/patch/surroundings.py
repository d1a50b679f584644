"""What a program finds besides its files: the time of day, and chance.

Theory
======
A run is crashed at each of its operations, and is made again for that: the second time
it has to do what it did the first time. So what it gets of the machine may not differ.

    2000-01-01    a run on an empty disk, or what makes the files of one
    2000-01-02    a run on a disk that has files
    2000-01-03    every recovery

An operation of the disk takes a millisecond, and a look at the clock a microsecond,
until the next operation: a log that is written in one process and not in another looks,
too, and the stamps of later operations are the same. A sleep of `Disk.sleep` takes what
it says. Of the time that really passes whole steps of five seconds are added: code that
waits for its clock gets on, and a run that takes less sees the same times whenever it
is made. Other threads see the time of the one that the block is in, and their looks
take none: how often a thread in the background looks is different each time.

All recoveries have the same day: what one does must follow from what it finds on the
platter, or it could not stand for others (`explore`). After a second crash the clock is
back at the beginning of that day.

Chance is a fixed sequence, and another one on each of these days: a name that is drawn
in recovery is none that the run has drawn.

What it is not: it does not replace `datetime.now` and `uuid.uuid1`, which ask the
machine in C, and not the clocks that begin anywhere (`time.monotonic`).
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tornpage.patch.stand_ins import beneath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tornpage.disk.simulated import Disk

__all__ = ["BEGINNING", "DAY_SECONDS", "Surroundings"]

BEGINNING: Final = 946_684_800
"""2000-01-01, in seconds as time.time counts them."""

DAY_SECONDS: Final = 86_400

_OPERATION_SECONDS: Final = 1e-3
_LOOK_SECONDS: Final = 1e-6
_MOST_LOOKS: Final = 999
_STEP_SECONDS: Final = 5


class Surroundings:
    """The time and the chance of one block.

    Args:
        disk: The disk of the block.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._day = 2 if disk.crashed else int(disk.used)
        self._thread = threading.get_ident()
        self._done = self._looks = 0
        self._began = time.monotonic()
        self._chance = random.Random(f"{self._day} {len(disk.trace.data)}")

    def now(self) -> float:
        """Seconds, as time.time has them."""
        done = len(self._disk.trace.data)
        if done != self._done:
            self._done, self._looks = done, 0
        if threading.get_ident() == self._thread:
            self._looks = min(self._looks + 1, _MOST_LOOKS)
        passed = int(time.monotonic() - self._began) // _STEP_SECONDS * _STEP_SECONDS
        return (
            BEGINNING
            + self._day * DAY_SECONDS
            + self._disk.monotonic()
            + done * _OPERATION_SECONDS
            + self._looks * _LOOK_SECONDS
            + passed
        )

    def urandom(self, size: int, /) -> bytes:
        """As os.urandom."""
        if size < 0:
            raise ValueError("negative argument not allowed")
        return self._chance.randbytes(size)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """While entered, the functions of `random` draw from a fixed sequence.

        And threads and pools that nobody names are numbered from the first on: a store
        may call a file after them.
        """
        before = random.getstate()
        random.seed(self._chance.getrandbits(64))
        numbers: Any = threading
        counted = [(numbers, numbers._counter, itertools.count(1).__next__)]
        pools = sys.modules.get("concurrent.futures.thread")
        if pools is not None:
            pool = pools.ThreadPoolExecutor
            counted.append((pool, pool._counter, itertools.count().__next__))
        for owner, _, anew in counted:
            owner._counter = anew
        try:
            yield
        finally:
            for owner, real, _ in counted:
                owner._counter = real
            random.setstate(before)

    def of_time(self) -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
        """The functions of `time` that say what time it is.

        Yields:
            Name, the real one, what is done instead.
        """
        local = beneath(time, "localtime")

        def given_none(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(seconds: float | None = None, /) -> Any:
                return real(self.now() if seconds is None else seconds)

            return call

        def without(real: Callable[..., Any], arguments: int) -> Callable[..., Any]:
            def call(*given: Any) -> Any:
                # Its own complaint about too few.
                now = (local(self.now()),) * (len(given) == arguments)
                return real(*given, *now)

            return call

        for name in ("localtime", "gmtime", "ctime"):
            yield name, (real := beneath(time, name)), given_none(real)
        for name, arguments in (("asctime", 0), ("strftime", 1)):
            yield name, (real := beneath(time, name)), without(real, arguments)
        yield "time", beneath(time, "time"), self.now
        yield (
            "time_ns",
            beneath(time, "time_ns"),
            lambda: round(self.now() * 1e6) * 1000,
        )
