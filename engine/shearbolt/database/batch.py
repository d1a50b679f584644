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

Nobody waits for one who has gone
=================================
An interrupt can take the leader away at any place, and leaves nobody waiting:

    its call is `left`, by an assignment     who waits looks at it every second; the
                                             bell only spares that
    a call knows the transaction it ran in   so who brought it knows whether it is
                                             committed, and runs it again only if not

Each call has a bell of its own, a mutex that is taken until it is rung. Not a
`threading.Condition`: that is Python code, and an interrupt in the middle of its
`__enter__` or `wait` leaves it locked for ever, or unlocked for `__exit__`.

What a function has registered with `Tx.on_commit` is called in the thread that brought
it, too: it neither keeps others' handlers from being called nor fails their calls.

Source: bbolt db.go Batch.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.database.handle import DB
    from shearbolt.database.tx import Tx
    from shearbolt.storage import Mutex, Storage

__all__ = ["Batcher"]

_PATIENCE: Final = 1.0
"""Seconds a call waits before it looks whether its batch still has a leader."""


class _Call:
    """One thread's function, and what became of it."""

    __slots__ = (
        "_bell",
        "alone",
        "done",
        "error",
        "function",
        "handlers",
        "left",
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
        # Its thread is not at it any more; of a leader: nobody leads its batch.
        self.left = False
        # The last one it ran in.
        self.tx: Tx | None = None
        self._bell: Final = bell
        bell.acquire()

    def committed(self) -> bool:
        """Whether the transaction it ran in is."""
        return self.tx is not None and self.tx.committed

    def wait(self, seconds: float) -> bool:
        """Until somebody rings; False when nobody did for so long."""
        return self._bell.acquire(timeout=seconds)

    def ring(self) -> None:
        """Wake its thread, now or when it waits next."""
        # It may be rung already, or just now by another thread.
        with suppress(RuntimeError):
            self._bell.release()


class Batcher:
    """Gathers calls into batches. One a database."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        # Held while a call gets into a batch, or finds that it is to lead one.
        self._joining = storage.mutex()
        # Threads that are in the middle of a call.
        self._inside: set[int] = set()
        # The batch that takes more calls, if there is one; its leader's call first.
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
            # No call before these, so no interrupt either.
            call.left = True
            gathering = self._gathering
            if gathering is not None and gathering[0] is call:
                self._gathering = None
            # A transaction that nobody has ended is lost when nobody has it.
            call.tx = None
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
        most = db.max_batch_size
        with self._joining:
            batch = None if most <= 1 else self._gathering
            leads = batch is None
            if batch is None:
                batch = [call]
                if most > 1:
                    self._gathering = batch
            else:
                batch.append(call)
                if len(batch) >= most:
                    self._gathering = None
        if leads:
            self._wait_for_company(batch, db.max_batch_delay)
            self._lead(db, batch)
            return
        leader = batch[0]
        if self._gathering is not batch:
            leader.ring()
        while not (call.done or leader.left):
            call.wait(_PATIENCE)
        if not call.done:
            call.alone = not call.committed()

    def _wait_for_company(self, batch: list[_Call], delay: float) -> None:
        """Until the batch is full or the delay, in seconds, is over."""
        # By pieces: no clock counts as many seconds as a number can have.
        while self._gathering is batch and delay > 0:
            piece = min(delay, _PATIENCE)
            if not batch[0].wait(piece):
                delay -= piece
        with self._joining:
            if self._gathering is batch:
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
        except BaseException:
            for call in waiting:
                call.alone = not call.committed()
            raise
        finally:
            self._dismiss(batch)

    @staticmethod
    def _try(db: DB, calls: list[_Call]) -> _Call | None:
        """All calls in one transaction; the one that raised, if one did."""
        guilty: _Call | None = None
        try:
            with db.update() as tx:
                for call in calls:
                    guilty = call
                    call.tx = tx
                    call.result = call.function(tx)
                    call.handlers = tx.take_handlers()
                guilty = None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            if guilty is None:
                raise
        return guilty

    def _dismiss(self, batch: list[_Call]) -> None:
        """Let the batch's threads go."""
        for call in batch:
            call.done = True
            call.ring()
