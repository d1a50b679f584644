"""A lock between threads that `with` takes and gives back without being cut in two.

    up to 3.13      with lock:  one instruction takes it and enters the block
    3.14            with lock:  a call takes it | the block begins
                                                ^ here a signal's handler may run

CPython runs the handlers of signals, finalizers and other threads behind calls in C
(Python/ceval.c, the eval breaker). From 3.14 on `with` is made of calls, so that an
interrupt (Ctrl-C) comes between taking a `threading.Lock` and the block that gives it
back: nobody ever does. In a loop of `with lock: pass` that happens to every second
interrupt; with earlier versions it never does. A handler that runs there, in the middle
of its thread, waits for itself when it needs the lock.

So from 3.14 on the lock is not taken by a call in Python's eyes, but by the step of a
`for` loop, which calls it in C and goes straight on; nothing is looked at when a
function written in Python returns. What gives it back is the lock's own `__exit__`:
whatever comes behind that call finds it given back.

What it is not: reentrant.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from shearbolt.storage import Mutex

__all__ = ["mutex"]


class Uncut:
    """The lock for 3.14 and later; see `shearbolt.storage.Mutex`."""

    __slots__ = ("__exit__", "_taken", "acquire", "release")

    __exit__: Callable[
        [type[BaseException] | None, BaseException | None, TracebackType | None], None
    ]

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire = lock.acquire
        self.release = lock.release
        self.__exit__ = lock.__exit__
        # It has no end: without a limit of time `acquire` never returns False.
        self._taken: Iterator[bool] = iter(lock.acquire, False)

    def __enter__(self) -> bool:
        for taken in self._taken:
            return taken
        raise AssertionError


def mutex() -> Mutex:
    """A new lock between threads.

    Raises:
        MemoryError: There is none left for it.
    """
    try:
        return Uncut() if sys.version_info >= (3, 14) else threading.Lock()
    except RuntimeError as error:
        # So CPython says it up to 3.12, and who goes on when memory is short
        # (`except MemoryError`) would not know what this is.
        raise MemoryError(str(error)) from error
