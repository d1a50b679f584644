"""Work that one thread does at a time, and never in the middle of itself.

    run(work) --another thread is at it--> waits --> work()
         `----this thread is at it-------> WouldDeadlockError

A signal handler runs in the middle of what its thread was doing, and so does what the
collector finalizes. There a mutex that the thread has already is waited for for ever; a
reentrant one would let it into a commit that is half done. So it is refused.

Who is at it is noted behind `with mutex`, in steps without a call. CPython looks for
signals behind calls, so that none comes in between, nor an interrupt (from 3.14 on by
what `shearbolt.storage._mutex` does).

Other threads wait at the mutex, whether they run at the same time or in turns; nobody
else looks at the note to learn about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from shearbolt.errors import WouldDeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.storage import Storage

__all__ = ["Alone"]

T = TypeVar("T")


class Alone:
    """Runs one piece of work at a time.

    Args:
        storage: The machine.
        refusal: What the error says.
    """

    __slots__ = ("_holder", "_mutex", "_refusal", "_thread_id")

    def __init__(self, storage: Storage, refusal: str) -> None:
        self._mutex: Final = storage.mutex()
        self._thread_id: Final = storage.thread_id
        self._refusal: Final = refusal
        self._holder: int | None = None

    def here(self) -> bool:
        """Whether this thread is at it."""
        return self._holder == self._thread_id()

    def require_elsewhere(self) -> None:
        """Raise when this thread is at it.

        Raises:
            WouldDeadlockError: It is.
        """
        if self.here():
            raise WouldDeadlockError(self._refusal)

    def run(self, work: Callable[[], T]) -> T:
        """Do this when nobody else does any.

        Raises:
            WouldDeadlockError: This thread is at it.
        """
        thread = self._thread_id()
        if self._holder == thread:
            raise WouldDeadlockError(self._refusal)
        with self._mutex:
            self._holder = thread
            try:
                # With `return` what comes behind the call is outside of the block.
                result = work()
            finally:
                self._holder = None
        return result
