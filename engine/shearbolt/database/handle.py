"""The open database: which transactions are open, who reads and who writes.

    many readers, one writer  -->  DB  -->  Pager        -->  File
                                       -->  DurableFile  -->  File

Who may do what:

* One process has the file open for writing, or any number for reading: flock on
  the file itself, as bbolt.
* Within the process any number of threads read beside one writer, `_write_tx`.
  The next ones wait in a `Line`; whoever ends rings the first one's bell.
* Beginning to read waits for nobody: a reader puts itself on the list and then looks
  whether the version it read is still the live one; if not, it takes the next. A writer
  looks at the list when its predecessor's version is live. So either it sees the
  reader, or the reader sees the new version.
* Ending a transaction waits for nobody.
* `committing` is held while the file is written, and by `close`.
* Growing the file concerns nobody: there is no memory map.

Foreign code in the middle
==========================
A signal handler, or what the collector finalizes, runs in the middle of what its
thread was doing, and may begin or end a transaction there. (So does a generator with a
`view()` block in it, lost in a cycle.) Therefore no lock is held where any can run:

    _state       to become the writer, to swap the live version, to count, to close: a
                 few steps without a call. CPython runs nothing else of that thread in
                 between.
    ending       to end a transaction: the same, and one by itself, because that may be
                 what runs in the middle of anything else.
    committing   `Alone`: whoever would wait for its own thread is refused.

Threads that run at the same time
=================================
A build of CPython without its global lock runs threads between any two instructions of
each other. What is one step to others is therefore one instruction or done with a lock:
that of a dict, a list or a set for what is done to one of them (the list of readers),
`_state` or `ending` for the rest. The cache of pages has a variant for such builds
(`shearbolt.pages.shared`).

    close     ends transactions | takes the pages away
    a get     looks at the pages | looks whether it has ended     so it never believes
                                                                  those of a closed file

What it is not: it writes nothing. How a version becomes durable and the live one is
`durable`'s affair, what is in it `tx`'s.

Lost transactions
=================
The handle refers to its transactions weakly. One that the program lost without
ending it is rolled back when Python collects it. A transaction and its buckets
refer to each other, so that is the cyclic collector's work, and a writer that
has waited for a second calls it.

Interrupts
==========
An exception of a signal handler (KeyboardInterrupt) can come between any two steps.
So nothing that outlives a transaction depends on its last steps:

    who writes      `_write_tx`, one assignment. Bells only spare waiting: who has
                    waited for a second looks whether there is a writer
    was it durable  the live meta says so, not the way by which it ended
    the freelist    a change that did not end leaves it `in_doubt`: it is read again
    the cache       pages of a commit of which nobody knows are dropped

Forks
=====
A child process has the parent's handle with a copy of its freelist, and would keep its
lock as long as it lives: when the parent was killed nobody could open the file. So its
copy of the file is closed as Python forks, which leaves the parent's lock alone. It may
close the handle and roll transactions back. Whatever else reads or changes anything
raises `ForkedError`, in transactions that were open, too: they are marked when Python
forks (see `storage.forks`), which costs a `get` nothing.

Source: bbolt db.go.
"""

from __future__ import annotations

import gc
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar
from weakref import ref

from shearbolt.check import free_ids
from shearbolt.database.alone import Alone
from shearbolt.database.batch import Batcher
from shearbolt.database.durable import DurableFile
from shearbolt.database.line import Line, Place
from shearbolt.database.managed import Managed
from shearbolt.database.settings import Settings
from shearbolt.database.tx import Tx
from shearbolt.errors import (
    DatabaseNotOpenError,
    DatabaseReadOnlyError,
    ForkedError,
    InvalidDatabaseError,
    StorageError,
    WouldDeadlockError,
)
from shearbolt.pages.encoding import freelist_size
from shearbolt.pages.format import MAX_TXID
from shearbolt.pages.freelist import ArrayFreelist
from shearbolt.pages.pager import Pager
from shearbolt.stats import Info, Stats, Work
from shearbolt.storage.closed import ClosedFile, let_go
from shearbolt.storage.forks import tell_in_child
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from shearbolt.pages.format import Meta
    from shearbolt.storage import File, Storage

__all__ = ["DB"]

T = TypeVar("T")

DEFAULT_MAX_BATCH_SIZE: Final = 1000
DEFAULT_MAX_BATCH_DELAY: Final = 0.01

_PATIENCE: Final = 1.0
"""Seconds a writer waits before it looks for a lost write transaction. Collecting
a heap of 10 million objects takes about as long."""
_MAX_PATIENCE: Final = 60.0

_BUSY: Final = (
    "this thread is in the middle of a commit, a sync or of closing the database, and "
    "what a signal handler or a finalizer does cannot wait for it: note what is to be "
    "done, and do it when the interrupted call has returned"
)

_log: Final = logging.getLogger("shearbolt")


class DB(Settings):
    """An open database. Made by `shearbolt.open`.

    As a context manager it closes at the end of the block.

    Attributes:
        path: The file.
        page_size: Bytes a page.
        read_only: Whether write transactions are refused.
        no_sync: Commits do not wait for the disk: fast, and a crash may lose
            or damage the database. May be changed between transactions.
        no_freelist_sync: The freelist is not kept in the file; opening for
            writing then reads the whole tree.
        no_grow_sync: The file's new size is not synced by itself.
        strict_mode: Check the whole database before every commit.
        statistics: Count for `stats`.
        max_size: The file may not grow beyond this, in bytes; 0: no limit. A
            delete takes pages, too: with none left, make the limit larger. This and
            the next three may be changed at any time, and refuse what means nothing
            (OptionError).
        alloc_size: How much a large file grows at once, in bytes.
        max_batch_size: Calls in one `batch`; 1 or less: every call by itself.
        max_batch_delay: Seconds a `batch` waits for more calls; 0 or less: not at
            all.
        pager: Its pages.
        durable: The file as commits need it, with the live meta.
        freelist: Its free pages; empty when read-only and not preloaded.
        freelist_loaded: Whether `freelist` is that of the file.
        committing: Held while the file is written; `close` waits for it.
        ending: Held by who ends a transaction, and by who sees to it that nobody does.
        storage: The machine it runs on.
        identity: (device, inode) of the file.
    """

    # Without a `__dict__`: a misspelt `no_sync` is no setting that nobody looks at.
    __slots__ = (
        "__weakref__", "_batcher", "_file", "_free_pages", "_in_use", "_lost", "_open",
        "_pid", "_readers", "_readers_begun", "_state", "_uncounted", "_work",
        "_write_tx", "_writers", "committing", "durable", "ending", "freelist",
        "freelist_loaded", "identity", "page_size", "pager", "path", "read_only",
        "storage",
    )  # fmt: skip

    def __init__(
        self,
        storage: Storage,
        pager: Pager,
        meta: Meta,
        *,
        read_only: bool,
        no_sync: bool,
        no_freelist_sync: bool,
        no_grow_sync: bool,
        strict_mode: bool,
        max_size: int,
        alloc_size: int,
        initial_size: int,
        statistics: bool,
        settled: bool,
    ) -> None:
        self.path: Final = pager.path
        self.page_size: Final = pager.page_size
        self.read_only: Final = read_only
        self.no_sync = no_sync
        self.no_freelist_sync = no_freelist_sync
        self.no_grow_sync = no_grow_sync
        self.strict_mode = strict_mode
        self.statistics = statistics
        self.max_size = max_size
        self.alloc_size = alloc_size
        self.max_batch_size = DEFAULT_MAX_BATCH_SIZE
        self.max_batch_delay = DEFAULT_MAX_BATCH_DELAY
        self.pager = pager
        pager.read_ahead()
        self.freelist = ArrayFreelist()
        self.freelist_loaded = False
        self.storage: Final = storage
        self._pid: Final = storage.pid()
        self._state: Final = storage.mutex()
        self.ending: Final = storage.mutex()
        self.durable: Final = DurableFile(
            storage,
            pager,
            meta,
            self._state,
            initial_size=initial_size,
            settled=settled,
            read_only=read_only,
        )
        self.identity: Final = self.durable.identity
        self._writers: Final = Line()
        self.committing: Final = Alone(storage, _BUSY)
        self._batcher: Final = Batcher(storage)
        # Open transactions and their txids; of the write transaction the thread that
        # began it, too, and the one that is ending it. A lost one's reference is put
        # into `_lost` by the collector, which may run anywhere: no locks there.
        self._write_tx: tuple[ref[Tx], int, int, int | None] | None = None
        self._readers: dict[ref[Tx], int] = {}
        self._lost: list[ref[Tx]] = []
        self._open = True
        # What is to be closed; None when it is.
        self._file: File | None = pager.file.raw
        # Whether transactions were open when closing began.
        self._in_use = False
        self._readers_begun = 0
        self._work: Final = Work()
        # What ended transactions did, to be added to it by the next that begins.
        self._uncounted: list[Work] = []
        self._free_pages = (0, 0)
        tell_in_child(self)

    def __repr__(self) -> str:
        state = "" if self._open else " (closed)"
        return f"<shearbolt.DB {self.path!r}{state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception:
            raise
        except BaseException:
            # An interrupt: whoever has left the block closes it no more.
            self.close()
            raise

    def load_freelist(self, freelist: ArrayFreelist) -> None:
        """Use this freelist; called once, while the database is opened."""
        self.freelist = freelist
        self.freelist_loaded = True
        self._free_pages = freelist.counts()

    # -- transactions --

    def begin(self, writable: bool = False) -> Tx:
        """Begin a transaction, to be ended with `commit` or `rollback`.

        A write transaction waits for the running one to end; threads have their
        turn in the order in which they came. A read transaction waits for nobody;
        while it is open the pages it can see are not used again, so a forgotten
        one makes the file grow.

        Raises:
            DatabaseNotOpenError: The database is closed.
            DatabaseReadOnlyError: Writable, on a read-only database.
            DatabaseFailedError: Writable, after a failure that is not healed.
            WouldDeadlockError: Writable, and this thread has one open; or a signal
                handler has interrupted a commit.
            ForkedError: The database was opened before a fork.
        """
        self.require_open()
        return self._begin_write() if writable else self._begin_read()

    def update(self) -> Managed:
        """A write transaction for a `with` block.

        Commits at the end of the block, rolls back on an exception.
        """
        return Managed(self, writable=True)

    def view(self) -> Managed:
        """A read transaction for a `with` block."""
        return Managed(self, writable=False)

    def batch(self, function: Callable[[Tx], T]) -> T:
        """Run a function in a write transaction shared with other threads.

        Waits up to `max_batch_delay` for calls from other threads and commits
        all of them at once. Returns when that commit is durable. The function
        may be called several times, and in another one of those threads: it must
        have no effect besides its transaction. Alone in its thread it is slower
        than `update`. What it registers with `Tx.on_commit` is called in this
        thread.

        Returns:
            What the function returned.

        Raises:
            BoltError: As `begin` and `Tx.commit`.
            Exception: What the function raised when it ran alone, or a handler of
                its `Tx.on_commit`, when it is committed.
        """
        self.require_open()
        if self.read_only:
            raise DatabaseReadOnlyError
        # The batch's leader would wait for this thread, and it for the leader.
        self._require_no_writer_here(self.storage.thread_id())
        result: T = self._batcher.run(self, function)
        return result

    # That this is no fork was seen by `begin`. A thread in the middle of one of these
    # does not come along into a child.

    def _begin_read(self) -> Tx:
        if self._lost:
            self._collect_lost()
        durable = self.durable
        while True:
            meta = durable.live
            tx = Tx(self, meta, meta.txid, writable=False)
            # The collector drops it from the list by way of `_lost`.
            handle = tx.handle = ref(tx, self._lost.append)
            self._readers[handle] = meta.txid
            # In this order, see above. `close` looks at the list, too.
            if durable.live is meta and self._open:
                break
            self._readers.pop(handle, None)
            self.require_open()
        with self._state:
            self._readers_begun += 1
        if self._uncounted:
            self._count()
        return tx

    def _begin_write(self) -> Tx:
        if self.read_only:
            raise DatabaseReadOnlyError
        thread = self.storage.thread_id()
        if self._writes_here(thread):
            self._require_no_writer_here(thread)
        self.committing.require_elsewhere()
        # Not before those who wait.
        tx = None if self._writers else self._take_turn(thread)
        return self._wait_for_turn(thread) if tx is None else tx

    def _take_turn(self, thread: int) -> Tx | None:
        """Become the writer; None when another has become it meanwhile, or was it."""
        handle = None
        try:
            if self._lost:
                self._collect_lost()
            if not self._open:
                raise DatabaseNotOpenError
            self._require_healthy()
            if self.durable.live.txid >= MAX_TXID:
                raise InvalidDatabaseError(
                    "the last transaction id is used up, so the meta page is "
                    "damaged: 'shearbolt repair' makes a new file",
                    path=self.path,
                )
            live = self.durable.live
            tx = Tx(self, live, live.txid + 1, writable=True)
            handle = tx.handle = ref(tx, self._lost.append)
            # Once it is dead it can be looked up only if it was hashed before.
            hash(handle)
            running = (handle, tx.txid, thread, None)
            with self._state:
                free = self._write_tx is None and self.durable.live is live
                if free and self._open:
                    self._write_tx = running
            if not free:
                return None
            self.require_open()
            if self.pager.in_doubt or self.freelist.in_doubt:
                self._remove_doubts()
            self.freelist.release(self._readers.values())
            if self._uncounted:
                self._count()
        except BaseException:
            self._end_turn(handle)
            raise
        return tx

    def _remove_doubts(self) -> None:
        """Make sure again of what an interrupted change has left uncertain."""
        if self.pager.in_doubt:
            self.pager.clear()
        if self.freelist.in_doubt:
            live = self.durable.live
            ids = free_ids(self.pager, live)
            self.freelist = self.freelist.held(ids, live.txid)

    def _end_turn(self, handle: ref[Tx] | None) -> None:
        """Let the next writer begin; nothing happens but that the bell is rung."""
        with self.ending:
            running = self._write_tx
            # Not the next writer's.
            if running is not None and running[0] is handle:
                self._write_tx = None
        self._ring()

    def _ring(self) -> None:
        """Wake who waits to be the next writer."""
        if self._writers:
            self._writers.ring()

    def _require_no_writer_here(self, thread: int) -> None:
        if not self._writes_here(thread):
            return
        gc.collect()
        self._collect_lost()
        if self._writes_here(thread):
            raise WouldDeadlockError(
                "this thread has an open write transaction: end it before the next"
            )

    def _writes_here(self, thread: int) -> bool:
        running = self._write_tx
        # Or ends somebody else's, that was lost.
        return running is not None and thread in running[2:]

    def _wait_for_turn(self, thread: int) -> Tx:
        """Become the writer, behind those who wait already."""
        writers, place = self._writers, Place(self.storage.mutex(), thread)
        patience = _PATIENCE
        tx: Tx | None = None
        try:
            writers.join(place)
            my_turn = writers.comes_first(place)
            while True:
                if my_turn:
                    tx = self._take_turn(thread)
                    if tx is not None:
                        return tx
                    # Without a writer it was another version that came in between.
                    if self._write_tx is None:
                        continue
                my_turn = place.bell.acquire(timeout=patience)
                if not my_turn:
                    gc.collect()
                    self._collect_lost()
                    # An interrupt came between ending and ringing the bell, or who is
                    # before this one cannot come. Or it is a slow beginning.
                    my_turn = self._write_tx is None
                    patience = min(patience * 2, _MAX_PATIENCE)
        finally:
            # No call before this, so no interrupt either; and none at all for the
            # writer, or nobody would have its transaction but a traceback.
            place.left = True
            if tx is None:
                # The bell may have been rung for this one.
                self._ring()

    def _collect_lost(self) -> None:
        """End transactions that the program has lost without ending them."""
        for handle in list(self._lost):
            known = self._readers.pop(handle, None) is not None
            known = self._end_write(handle) or known
            # Now, so that an interrupt loses none. Another thread may have been faster.
            with suppress(ValueError):
                self._lost.remove(handle)
            # Or it ended while somebody had a look at this.
            if known:
                _log.warning(
                    "%s: a transaction was lost without commit or rollback", self.path
                )
        running = self._write_tx
        if running is not None and running[2] == self.storage.thread_id():
            tx = running[0]()
            if tx is not None and tx.closed:
                # An interrupt came before its end had ended.
                self._end_write(running[0])

    def _require_healthy(self) -> None:
        """Raise when writing would be unsound; heal a meta slot in doubt."""
        durable = self.durable
        if durable.failed:
            durable.require_sound()
        # It may be a commit that is being written by another thread, see
        # `_wait_for_turn`: only behind it is the doubt one of a failure.
        if durable.in_doubt():
            self.committing.run(self._heal)

    def _heal(self) -> None:
        self.require_open()
        self.durable.heal()

    def end(self, tx: Tx) -> None:
        """A transaction has ended; called by it, once or more often."""
        handle = tx.handle
        if handle is None or self.storage.pid() != self._pid:
            return
        if tx.writable:
            ended = self._end_write(handle)
        else:
            # One step, as all that is done to it.
            ended = self._readers.pop(handle, None) is not None
        # Not before: with it, an interrupted end is ended once more.
        tx.handle = None
        # By `close`, too, perhaps: in two threads at once. Nothing else of a reader's
        # work is counted.
        if ended and self.statistics and (tx.writable or tx.work.cursor_count):
            self._uncounted.append(tx.work)

    def _count(self) -> None:
        """Add up what ended transactions did."""
        # Others may be at it, too: each takes out what it adds.
        with suppress(IndexError):
            while self._uncounted:
                self._work.add(self._uncounted.pop(), self._state)

    def _end_write(self, handle: ref[Tx]) -> bool:
        """End the running write transaction if it is this one, and say so.

        When an interrupt comes in between it can be called again.
        """
        running = self._write_tx
        if running is None or running[0] is not handle:
            return False
        # The thread that began it, and another that finds it lost, or a handler.
        ended = (*running[:3], self.storage.thread_id())
        mine = False
        try:
            with self.ending:
                if self._write_tx is running and running[3] is None:
                    self._write_tx = ended
                    mine = True
            if mine:
                if self.durable.is_live(running[1]):
                    self.freelist.commit(running[1])
                else:
                    self.freelist.rollback()
                self._free_pages = self.freelist.counts()
        except BaseException:
            if mine:
                self.freelist.in_doubt = True
            raise
        finally:
            if mine:
                # By no call, so that no interrupt comes before it.
                self._write_tx = None
        if mine:
            self._ring()
        return mine

    # -- about the database --

    def sync(self) -> None:
        """Make all commits durable; needed only after commits with `no_sync`.

        Raises:
            DatabaseNotOpenError: The database is closed.
            DatabaseFailedError: An earlier sync failed.
            StorageError: The system refused.
            WouldDeadlockError: A signal handler has interrupted a commit.
        """
        self.require_open()
        self.committing.run(self._sync)

    def _sync(self) -> None:
        self.require_open()
        self.durable.sync()

    def info(self) -> Info:
        """What the open file is.

        Raises:
            DatabaseNotOpenError: The database is closed.
            StorageError: Its size could not be had.
        """
        self.require_open()
        meta = self.durable.live
        try:
            size = self.pager.file.size()
        except StorageError:
            # Another thread may have closed it.
            self.require_open()
            raise
        return Info(self.path, self.page_size, size, meta.high_water_mark, meta.txid)

    def stats(self) -> Stats:
        """Counts since the database was opened; zeros without `statistics`.

        Changes of a transaction count when it has ended.
        """
        if not self.statistics:
            return Stats()
        self._count()
        free, pending = self._free_pages
        return Stats(
            free_page_n=free,
            pending_page_n=pending,
            free_alloc=(free + pending) * self.page_size,
            freelist_inuse=freelist_size(free + pending),
            tx_n=self._readers_begun,
            open_tx_n=len(self._readers),
            tx_stats=self._work.frozen(),
        )

    # -- the end --

    def close(self) -> None:
        """Close the database. Closing twice is allowed.

        An interrupt (KeyboardInterrupt) may leave it half closed; then it is to be
        closed once more, as a `with` block does.

        Waits for a commit that is being written. Transactions that are still
        open are rolled back and raise `TxClosedError` from then on, in
        whichever thread they are: nothing was promised for them, and waiting
        for one that nobody ends would be for ever.

        Raises:
            StorageError: The system reported an error; it is closed anyway.
            WouldDeadlockError: A signal handler has interrupted a commit; it is not
                closed.
        """
        if self._forked():
            # The parent owns the lock: let go of this copy of the file only.
            self._open = False
            self.pager.file.raw.close()
            return
        if not self._open and self.committing.here():
            return
        self.committing.run(self._close)

    def _close(self) -> None:
        # An interrupt can come between any two steps: who closes once more makes all of
        # them again.
        file = self._file
        if file is None:
            return
        with self._state:
            self._open = False
        transactions = self._open_transactions()
        if transactions:
            self._in_use = True
        for tx in transactions:
            tx.abandon()
        if (running := self._write_tx) is not None:
            # The interrupt came in the middle of that; a writer who waits would go on.
            self._end_write(running[0])
        closed = Pager(RobustFile(ClosedFile(), self.path), self.page_size)
        self.pager = self.durable.pager = closed
        # Another thread may be inside a read of a transaction just ended.
        # Closing the descriptor under it could make it read another file, so
        # then it is closed when the last such read lets go of it. The same
        # holds for a file that is in doubt, or has lost commits.
        in_use = self._in_use or self.durable.failed or self.durable.in_doubt()
        try:
            let_go(file, self.path, in_use=in_use)
        except StorageError:
            self._file = None
            raise
        self._file = None
        _log.debug("%s: closed", self.path)

    def _open_transactions(self) -> list[Tx]:
        handles = [*self._readers]
        if self._write_tx is not None:
            handles.append(self._write_tx[0])
        return [tx for tx in (handle() for handle in handles) if tx is not None]

    def require_open(self) -> None:
        """Raise unless the database is open, in this process.

        Raises:
            DatabaseNotOpenError: It has been closed.
            ForkedError: It was opened before a fork.
        """
        if not self._open:
            raise DatabaseNotOpenError
        if self._forked():
            raise ForkedError(self.path)

    def in_child(self) -> None:
        """In a forked child: the open transactions and the file are the parent's."""
        if not self._forked():
            return
        for tx in self._open_transactions():
            tx.disown()
        with suppress(OSError):
            self.durable.in_child()

    def _forked(self) -> bool:
        return self.storage.pid() != self._pid
