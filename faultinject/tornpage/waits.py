"""Calls to the machine, during which other threads run.

Python gives up its global lock while the system reads, writes or syncs. On a simulated
disk such a call takes no time and nothing is given up, so whoever runs threads under a
schedule has to be told of it, before it has done anything:

    self.unsynced = False
    os.fsync(file)           <- others run here, and nothing is durable yet
                             <- and here; it is

One at a time is told, and mostly nobody.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["about_to_wait", "told_of_waits"]

_told: list[Callable[[], None]] = []


def about_to_wait() -> None:
    """The calling thread is about to make such a call, and holds no lock for it."""
    for call in _told:
        call()


@contextmanager
def told_of_waits(call: Callable[[], None]) -> Iterator[None]:
    """While entered, `call` is called in each thread that is about to wait."""
    _told.append(call)
    try:
        yield
    finally:
        _told.remove(call)
