"""Processes that do units, and what is said when they cannot.

    units, in order --> batches --> [ queue ] --> worker, worker --> (unit, result)

A batch is a few programs: to hand one over takes 2 ms, and to explore one takes 35. So
that a worker does not stand still meanwhile, the next batch waits for each of them in
the queue. What may take long, a planted bug or a failure to tell, is a batch by itself.

Results come back as they are ready; whoever merges them must not depend on that
order. When the deadline has passed no further unit is begun, not even of a batch, and
those in progress are finished: each has a limit of its own. A worker that dies takes
the pool with it, and every unit without a result is reported as lost: the verdict is
then unverifiable.

The pool is `concurrent.futures` with spawned processes. `tornpage.run.pool`, which
watches memory and replaces workers, was not taken: it serves one plan for hours; the
gate has a hundred plans for seconds each, and a start costs half a second. An end would
cost as much, for all that a worker remembers would be taken apart piece by piece: once
every result is here workers are killed.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from gating.units import OVERDUE, Cover, Lost, begin_worker, do_all, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from gating.units import Stage, Unit

__all__ = ["Crew"]

_DIED = "a worker process died"

_BATCH = 4
# So many batches are left for each worker, or they become smaller: at the end all of
# them are to be done at the same time.
_LEFT = 8
# Batches of a worker, the one that it does and the one that waits.
_HANDED_OVER = 2


class Crew:
    """Some worker processes. Use it as a context manager.

    Args:
        size: How many.
        deadline: When no further unit is begun, on `clock`.
        clock: Seconds; tests put their own here.
        stages: Of these recovery can be made afresh in each worker, whatever it has
            run before.

    Attributes:
        broken: Why the workers are gone; "" while they are there.
    """

    def __init__(
        self,
        size: int,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        stages: Iterable[Stage] = (),
    ) -> None:
        self.broken = ""
        self._size = size
        self._deadline = deadline
        self._clock = clock
        self._pool = ProcessPoolExecutor(
            size,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=begin_worker,
            initargs=(tuple(sys.path), tuple(dict.fromkeys(stages))),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever interrupts does not want to wait for units in progress either.
        for process in self._pool._processes.values():
            process.kill()
        self._pool.shutdown(cancel_futures=True)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock() >= self._deadline

    def results(
        self, units: Iterable[Unit], more: Iterator[Unit] | None = None
    ) -> Iterator[tuple[Unit, Any]]:
        """Do units and yield each with its result, in the order of readiness.

        Args:
            units: What has to be done. One that was not begun before the deadline
                is yielded as lost.
            more: What may be done with time that is left; not reported when it is
                not begun.
        """
        waiting = deque(units)
        further = more or iter(())
        running: dict[Future[Any], list[Unit]] = {}
        optional: set[Future[Any]] = set()
        most = self._size * _HANDED_OVER
        while True:
            while len(running) < most and not self.broken and not self.late:
                batch, needed = self._batch(waiting), True
                if not batch:
                    batch, needed = list(islice(further, 1)), False
                if not batch:
                    break
                try:
                    future = self._pool.submit(do_all, batch, self._until())
                except BrokenProcessPool:
                    self.broken = _DIED
                    for unit in batch:
                        yield unit, Lost(_DIED)
                    break
                running[future] = batch
                if not needed:
                    optional.add(future)
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            # In the order in which they were handed over: a set has none.
            for future in [one for one in running if one in done]:
                batch = running.pop(future)
                results = self._results(future, len(batch))
                # Waited in the queue when the deadline came.
                if future not in optional or results != [Lost(OVERDUE)]:
                    yield from zip(batch, results, strict=True)
        reason = self.broken or OVERDUE
        for unit in waiting:
            yield unit, Lost(reason)

    def _until(self) -> float:
        """The deadline on the one clock that all processes of a machine share."""
        return time.monotonic() + self._deadline - self._clock()

    def _batch(self, waiting: deque[Unit]) -> list[Unit]:
        """The next units to be done by one worker; empty when there is none."""
        most = min(_BATCH, max(1, len(waiting) // (self._size * _LEFT)))
        batch: list[Unit] = []
        while waiting and len(batch) < most:
            if batch and not isinstance(waiting[0], Cover):
                break
            batch.append(waiting.popleft())
            if not isinstance(batch[0], Cover):
                break
        return batch

    def _results(self, future: Future[Any], count: int) -> list[Any]:
        try:
            results: list[Any] = future.result()
        except BrokenProcessPool:
            self.broken = _DIED
            return [Lost(_DIED)] * count
        except Exception as error:  # noqa: BLE001 - nothing was covered
            # What was found cannot be sent, say.
            return [Lost(raised(error))] * count
        return results
