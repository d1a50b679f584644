"""The threads of an execution: which ones it has, and that they end with it.

Theory
======
An execution is what one call of `run` or `recover` does. It may use threads. They are
*followed*: the thread that began the block, what a followed thread begins, and whoever
uses the disk.

    block begins      main ----begins----> flusher
      |                 |                    |
    block ends        main returns         ended?   fine
                                           alive?   what it does later is not covered

A thread that is alive at the end makes the execution unverifiable, and may not touch a
disk any more: the next one that is patched in under the same name is another
execution's. One that is just about to end gets a moment to do so.

What it is not: it tries no other schedule of the threads than the one that happened.
The disk remembers that there were several (`Disk.several_threads`), and the certificate
says so.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from tornpage.uncovered import UnsupportedCallError
from tornpage.waits import about_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tornpage.disk.simulated import Disk

__all__ = ["Threads", "Turnstile"]

# A thread that was told to end, and not waited for, takes far less than this.
_GRACE_SECONDS: Final = 1.0

# Threads of blocks that ended before they did.
_left: WeakSet[threading.Thread] = WeakSet()


class Threads:
    """The threads of one block.

    Args:
        disk: The disk that they use.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._first = threading.current_thread()
        self._followed = {self._first}
        self._users: set[threading.Thread] = set()

    def own(self) -> bool:
        """Whether the calling thread is followed."""
        return threading.current_thread() in self._followed

    def use(self) -> None:
        """The calling thread is about to use the disk.

        Raises:
            UnsupportedCallError: It is left from an earlier block.
        """
        thread = threading.current_thread()
        if thread in self._users:
            return
        if thread in _left:
            # Of the disk of now nothing is refused: its execution is another one.
            raise UnsupportedCallError(
                f"thread {thread.name!r} belongs to an execution that is over"
            )
        self._users.add(thread)
        self._followed.add(thread)
        if len(self._users) > 1:
            self._disk.several_threads = True

    def starting(
        self, real: Callable[[threading.Thread], None]
    ) -> Callable[[threading.Thread], None]:
        """threading.Thread.start, which notes who is begun."""

        def start(thread: threading.Thread) -> None:
            if self.own():
                self._followed.add(thread)
            real(thread)

        return start

    def end(self, *, raised: bool) -> None:
        """The block is over.

        Args:
            raised: Whether an exception ended it. That is an outcome by itself, and
                often the reason that nobody stopped the threads.
        """
        until = time.monotonic() + _GRACE_SECONDS * (not raised)
        for thread in sorted(self._followed - {self._first}, key=lambda one: one.name):
            # One that Python did not begin cannot be waited for.
            if not isinstance(thread, threading._DummyThread):
                if thread.ident is None:
                    continue
                thread.join(max(0.0, until - time.monotonic()))
                if not thread.is_alive():
                    continue
            _left.add(thread)
            if not raised:
                self._disk.refuse(
                    f"thread {thread.name!r} was still running at the end; what it"
                    " does later is not covered: have the store end its threads"
                )


class Turnstile:
    """A lock that counts who goes through.

    Args:
        threads: Told of each thread.
    """

    def __init__(self, threads: Threads) -> None:
        self._lock = threading.RLock()
        self._threads = threads

    def __enter__(self) -> None:
        self._threads.use()
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            about_to_wait()
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
