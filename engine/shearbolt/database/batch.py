"""Batches: the changes of several threads in one commit.

A commit costs two syncs, whatever it carries. Threads that each have a small
change can share them:

    thread A  batch(f) --leader: waits--+--update: f, g, h; commit--> f's result
    thread B     batch(g) --joins-------+        waits            --> g's result
    thread C        batch(h) --joins----+        waits            --> h's result

The first to come is the batch's leader. It waits for company until the batch is
full or the delay is over, then runs everybody's function in one transaction, in
its own thread. (bbolt gives that work to a timer's goroutine. A leader needs no
thread of its own, and an interrupt reaches somebody who can act on it.)

A function that raises must not spoil the others: the transaction is rolled back,
the guilty function is taken out and runs again alone, in the thread that brought
it, where its exception belongs; the rest are tried again together. So a function
may run more than once and must have no effect besides its transaction. This holds
whatever it raises, with two exceptions: `KeyboardInterrupt` and `SystemExit` may come
from a signal that has met the leader while it ran somebody else's function. They are
the leader's, and each of the others runs alone.

What a function has registered with `Tx.on_commit` is called in the thread that brought
it, too: it neither keeps others' handlers from being called nor fails their calls.

Source: bbolt db.go Batch.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.database.handle import DB
    from shearbolt.database.tx import Tx
    from shearbolt.storage import Mutex, Storage

__all__ = ["Batcher"]


class _Call:
    """One thread's function, and what became of it.

    Args:
        function: The function.
        bell: A mutex of its own. It is taken now, and given back when the thread is to
            look at what has become of its call, or at its batch when it leads that.
    """

    __slots__ = (
        "alone",
        "bell",
        "done",
        "error",
        "function",
        "handlers",
        "result",
        "tx",
    )

    def __init__(self, function: Callable[[Tx], Any], bell: Mutex) -> None:
        self.function = function
        self.result: Any = None
        # To be called when it is committed.
        self.handlers: list[Callable[[], None]] = []
        self.error: BaseException | None = None
        # It failed in company: to be run again by its own thread.
        self.alone = False
        self.done = False
        # The transaction that it ran in last.
        self.tx: Tx | None = None
        self.bell = bell
        bell.acquire()

    def ring(self) -> None:
        """Wake its thread, also when it is awake already."""
        self.bell.acquire(False)
        # CPython says so while the thread that has just got it is about to go on.
        with suppress(RuntimeError):
            self.bell.release()


class Batcher:
    """Gathers calls into batches. One a database."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._mutex = storage.mutex()
        # Threads that are in the middle of a call.
        self._inside: set[int] = set()
        # The batch that takes more calls, if there is one: the leader's comes first.
        self._gathering: list[_Call] | None = None

    def run(self, db: DB, function: Callable[[Tx], Any]) -> Any:
        """Run a function in a transaction together with others; see `DB.batch`."""
        thread = self._storage.thread_id()
        if thread in self._inside:
            # A signal handler or a finalizer in the middle of its thread's call, which
            # may have the lock in its hands.
            with db.update() as tx:
                return function(tx)
        call = _Call(function, self._storage.mutex())
        try:
            self._inside.add(thread)
            self._take_part(db, call)
        finally:
            self._inside.discard(thread)
        if call.alone:
            with db.update() as tx:
                return function(tx)
        if call.error is not None:
            raise call.error
        for handler in call.handlers:
            handler()
        return call.result

    def _take_part(self, db: DB, call: _Call) -> None:
        """Lead a batch with this call, or join one and wait for its end."""
        own = batch = [call]
        try:
            batch = self._join(own, db.max_batch_size)
            if batch is own:
                if self._gathering is own:
                    call.bell.acquire(timeout=max(0, db.max_batch_delay))
                self._close(own)
                self._lead(db, own)
        finally:
            if batch is own:
                try:
                    self._dismiss(own)
                except BaseException:
                    # An interrupt (Ctrl-C) in the middle of it: the others wait.
                    self._dismiss(own)
                    raise
        while not call.done:
            call.bell.acquire()

    def _join(self, own: list[_Call], most: int) -> list[_Call]:
        """The batch that a call is part of now: its own, unless one is gathering."""
        with self._mutex:
            batch = self._gathering
            if batch is None or most <= 1:
                if most > 1:
                    self._gathering = own
                return own
            batch += own
            full = len(batch) >= most
            if full:
                self._gathering = None
        if full:
            batch[0].ring()
        return batch

    def _close(self, own: list[_Call]) -> None:
        """From here on nobody joins this batch."""
        with self._mutex:
            if self._gathering is own:
                self._gathering = None

    def _lead(self, db: DB, batch: list[_Call]) -> None:
        """Run a batch's calls until none is left that fails."""
        waiting = list(batch)
        try:
            while waiting:
                guilty = self._try(db, waiting)
                if guilty is None:
                    break
                waiting.remove(guilty)
                guilty.alone = True
        except Exception as error:  # noqa: BLE001 - handed on, not swallowed.
            # Not a function's fault: the transaction could not be begun or
            # committed. Everybody hears of it.
            for call in waiting:
                call.error = error

    @staticmethod
    def _try(db: DB, calls: list[_Call]) -> _Call | None:
        """All calls in one transaction; the one that raised, if one did."""
        guilty: _Call | None = None
        try:
            with db.update() as tx:
                for call in calls:
                    call.tx = tx
                for call in calls:
                    guilty = call
                    call.result = call.function(tx)
                    call.handlers = tx.take_handlers()
                guilty = None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            if guilty is None:
                raise
        return guilty

    def _dismiss(self, own: list[_Call]) -> None:
        """Let those who joined this batch go, also when its leader leaves early."""
        self._close(own)
        for call in own:
            if not call.done:
                # In steps without a call: all of it or, before an interrupt, nothing.
                # That can come behind the commit, too. And whoever keeps a transaction
                # that was lost on the way keeps others from writing.
                committed = call.tx is not None and call.tx.committed
                call.alone = not (committed or call.error)
                call.tx = None
                call.done = True
            call.ring()
