"""Processes that do units, and what is said when they cannot.

    units, dearest first --> [ queue ] --> worker, worker --> (unit, result)

Results come back as they are ready; whoever merges them must not depend on that
order. When the deadline has passed no further unit is begun, those in progress are
finished: each has a limit of its own. A worker that dies takes the pool with it, and
every unit without a result is reported as lost: the verdict is then unverifiable.

The pool is `concurrent.futures` with spawned processes. `tornpage.run.pool`, which
watches memory and replaces workers, was not taken: it serves one plan for hours; the
gate has a hundred plans for seconds each, and a start costs half a second.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Self

from gating.units import Lost, begin_worker, do

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from gating.units import Unit

__all__ = ["Crew"]


class Crew:
    """Some worker processes. Use it as a context manager.

    Args:
        size: How many.
        deadline: When no further unit is begun, on `clock`.
        clock: Seconds; tests put their own here.

    Attributes:
        broken: Why the workers are gone; "" while they are there.
    """

    def __init__(
        self,
        size: int,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.broken = ""
        self._size = size
        self._deadline = deadline
        self._clock = clock
        self._pool = ProcessPoolExecutor(
            size,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=begin_worker,
            initargs=(tuple(sys.path),),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            # Whoever interrupts does not want to wait for units in progress.
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
        running: dict[Future[Any], Unit] = {}
        while True:
            while len(running) < self._size and not self.broken and not self.late:
                unit = waiting.popleft() if waiting else next(more or iter(()), None)
                if unit is None:
                    break
                try:
                    running[self._pool.submit(do, unit)] = unit
                except BrokenProcessPool:
                    self.broken = "a worker process died"
                    yield unit, Lost(self.broken)
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running[future], self._result(future)
                del running[future]
        reason = self.broken or "the time was up before it was begun"
        for unit in waiting:
            yield unit, Lost(reason)

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except BrokenProcessPool:
            self.broken = "a worker process died"
            return Lost(self.broken)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - nothing was covered
            # A worker's SystemExit, too, which would end the gate with status 0.
            return Lost(f"it raised {type(error).__name__}: {error}")
