"""The database: one open file, its lock, its live meta, its freelist.

    storage.open -> flock -> metas -> freelist -> many readers, one writer

Who may do what:

* One process has the file open for writing, or any number for reading: flock on
  the file itself, as bbolt.
* Within the process any number of threads read beside one writer. `_writer` is
  held by the write transaction from begin to end. `_state` is held for a moment,
  to read or swap the live meta together with the list of readers; nobody waits
  for anything else while holding it, so there is no order to get wrong and
  readers and the writer cannot deadlock, not even within one thread.
* Growing the file concerns nobody: there is no memory map.

Creation
========
A new file gets its freelist and root page, then meta 1, then meta 0, each synced
before the next, so that a crash leaves one page in doubt and not four; then its
directory is synced. Only then does `open` return. A crash before that leaves a
file of which every byte is zero or that of the new database. bbolt cannot open such a file any more
(#567). Here it is recognised (`_creation_cut_short`) and made anew: nothing can
have been stored in it.

Taking over
===========
The live meta of a file may be in the page cache only: the process that wrote it
may have been killed before its fdatasync. So the first commit of a handle syncs
before it writes over any page (`settle`). And when this process knows that a
meta write or sync failed (see `tx`), the slot is rewritten first (`heal`), also by
a later handle on the same file: `_doubts` remembers.

Source: bbolt db.go.
"""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from os import fsdecode
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary

from shearbolt.check import unreachable_pages
from shearbolt.errors import (
    ChecksumError,
    DatabaseFailedError,
    DatabaseNotOpenError,
    DatabaseReadOnlyError,
    ForkedError,
    InvalidDatabaseError,
    LockTimeoutError,
    MaxSizeReachedError,
    OptionError,
    StorageError,
    VersionMismatchError,
    WouldDeadlockError,
)
from shearbolt.format import (
    MAX_FOREIGN_PAGE_SIZE,
    MAX_PAGE_SIZE,
    META_SIZE,
    MIN_PAGE_SIZE,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    Meta,
    MetaError,
    empty_database,
)
from shearbolt.freelist import FREELIST_TYPES, ArrayFreelist, make_freelist
from shearbolt.pager import DEFAULT_CACHE_SIZE, Pager
from shearbolt.storage import OSStorage
from shearbolt.tx import Tx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from types import TracebackType

    from shearbolt.storage import File, Storage

__all__ = ["DB", "open_database"]

DEFAULT_PAGE_SIZE: Final = 4096
"""bbolt takes the system's page size. A fixed one gives the same file anywhere."""

DEFAULT_ALLOC_SIZE: Final = 16 * 1024 * 1024
"""How much a large file grows at once, in bytes (bbolt AllocSize)."""

_LOCK_RETRY: Final = 0.05
"""Seconds between two tries for the file lock (bbolt flockRetryTimeout)."""

_MIN_MAP: Final = 1 << 15
_MAX_MAP_STEP: Final = 1 << 30
_NEW_PAGES: Final = 4

_MACHINE: Final = OSStorage()
_log: Final = logging.getLogger("shearbolt")


class DB:
    """An open database. Made by `shearbolt.open`.

    As a context manager it closes at the end of the block.

    Attributes:
        path: The file.
        page_size: Bytes a page.
        read_only: Whether write transactions are refused.
        no_sync: Commits do not wait for the disk: fast, and a crash may lose
            or damage the database.
        no_freelist_sync: The freelist is not kept in the file; opening for
            writing then reads the whole tree.
        no_grow_sync: The file's new size is not synced by itself.
        strict_mode: Check the whole database before every commit.
        max_size: The file may not grow beyond this, in bytes; 0: no limit.
        alloc_size: How much a large file grows at once, in bytes.
        pager: Its pages.
        freelist: Its free pages; empty when read-only.
        committing: Held while a commit is written; `close` waits for it.
    """

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
    ) -> None:
        self.path: Final = pager.path
        self.page_size: Final = pager.page_size
        self.read_only: Final = read_only
        self.no_sync = no_sync
        self.no_freelist_sync = no_freelist_sync
        self.no_grow_sync = no_grow_sync
        self.strict_mode = strict_mode
        self.max_size = max_size
        self.alloc_size = alloc_size
        self.pager = pager
        self.freelist = ArrayFreelist()
        self._storage: Final = storage
        self._identity: Final = pager.file.identity()
        self._pid: Final = storage.pid()
        self._meta = meta
        self._state: Final = storage.mutex()
        self._writer: Final = storage.mutex()
        self.committing: Final = storage.mutex()
        self._writer_thread: int | None = None
        self._write_tx: Tx | None = None
        self._readers: dict[int, Tx] = {}
        self._open = True
        self._settled = False
        self._file_size = pager.file_size()
        # What bbolt would have mapped: its file sizes follow from it.
        self._map_size = _map_size(max(self._file_size, initial_size), self.page_size)

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
        self.close()

    # -- transactions --

    def begin(self, writable: bool = False) -> Tx:
        """Begin a transaction, to be ended with `commit` or `rollback`.

        A write transaction waits for the running one to end. A read
        transaction waits for nobody; while it is open the pages it can see
        are not used again, so a forgotten one makes the file grow.

        Raises:
            DatabaseNotOpenError: The database is closed.
            DatabaseReadOnlyError: Writable, on a read-only database.
            DatabaseFailedError: Writable, after a failure that cannot be
                healed yet.
            WouldDeadlockError: Writable, and this thread has one open.
            ForkedError: The database was opened before a fork.
        """
        self._require_open()
        return self._begin_write() if writable else self._begin_read()

    def update(self) -> _Managed:
        """A write transaction for a `with` block.

        Commits at the end of the block, rolls back on an exception.
        """
        return _Managed(self, writable=True)

    def view(self) -> _Managed:
        """A read transaction for a `with` block."""
        return _Managed(self, writable=False)

    def _begin_read(self) -> Tx:
        with self._state:
            self._require_open()
            tx = Tx(self, self._meta, self._meta.txid, writable=False)
            self._readers[id(tx)] = tx
        return tx

    def _begin_write(self) -> Tx:
        if self.read_only:
            raise DatabaseReadOnlyError
        thread = self._storage.thread_id()
        if self._writer_thread == thread:
            raise WouldDeadlockError(
                "this thread has an open write transaction: end it before the next"
            )
        self._writer.acquire()
        try:
            self._require_open()
            self.heal()
            with self._state:
                self.freelist.release(tx.txid for tx in self._readers.values())
                tx = Tx(self, self._meta, self._meta.txid + 1, writable=True)
                self._write_tx = tx
            self._writer_thread = thread
        except BaseException:
            self._writer.release()
            raise
        return tx

    def end_read(self, tx: Tx) -> None:
        """A read transaction has ended; called by it."""
        with self._state:
            self._readers.pop(id(tx), None)

    def end_write(self, tx: Tx, *, rolled_back: bool) -> None:
        """The write transaction has ended; called by it."""
        if rolled_back:
            self.freelist.rollback(tx.txid)
        else:
            self.freelist.commit()
        with self._state:
            self._write_tx = None
            self._writer_thread = None
        self._writer.release()

    # -- what a commit needs --

    def plan_growth(self, size: int) -> None:
        """Note that the database will need so many bytes.

        Raises:
            MaxSizeReachedError: The file would exceed `max_size`.
        """
        if size < self._map_size:
            return
        planned = _map_size(max(self._file_size, size), self.page_size)
        if self.max_size and self._grown(size, planned) > self.max_size:
            raise MaxSizeReachedError(size, self.max_size)
        self._map_size = planned

    def _grown(self, size: int, map_size: int) -> int:
        """The file size bbolt would choose (db.go grow)."""
        if map_size <= self.alloc_size:
            return map_size
        return size + self.alloc_size

    def grow(self, size: int) -> None:
        """Make the file large enough for so many bytes, durably.

        Raises:
            StorageError: The system refused.
        """
        if size <= self._file_size:
            return
        size = self._grown(size, self._map_size)
        self.pager.grow(size, sync=not (self.no_grow_sync or self.no_sync))
        self._file_size = size

    def settle(self) -> None:
        """Before the first page is written: make what is live durable.

        Raises:
            StorageError: The sync failed; nothing was written.
        """
        if self._settled or self.no_sync:
            return
        with self._in_doubt(self._meta.slot):
            self.pager.fdatasync()
        self._settled = True

    def publish(self, meta: Meta) -> None:
        """Write a meta and make it the live one.

        Raises:
            StorageError: It is not durable; the old one stays live.
        """
        with self._in_doubt(meta.slot):
            self._write_meta(meta)
        with self._state:
            self._meta = meta

    def _write_meta(self, meta: Meta) -> None:
        slot = meta.slot
        self.pager.write(slot * self.page_size, [meta.encode_page(slot)])
        if not self.no_sync:
            self.pager.fdatasync()

    @contextmanager
    def _in_doubt(self, slot: int) -> Iterator[None]:
        """While inside, and after a failure, this meta slot is not believed."""
        doubts = _doubts.setdefault(self._storage, {})
        doubts[self._identity] = _Doubt(self._meta, slot)
        try:
            yield
        except BaseException:
            try:
                self.heal()
            except DatabaseFailedError as error:
                _log.warning("%s", error)
            raise
        del doubts[self._identity]

    def heal(self) -> None:
        """Make a meta slot certain again after its write or sync has failed.

        Raises:
            DatabaseFailedError: That failed too; a later call may succeed.
        """
        _heal(self._storage, self.pager, self._identity)

    # -- the end --

    def close(self) -> None:
        """Close the database. Closing twice is allowed.

        Waits for a commit that is being written. Transactions that are still
        open are rolled back and raise `TxClosedError` from then on, in
        whichever thread they are: nothing was promised for them, and waiting
        for one that nobody ends would be for ever.
        """
        if self._storage.pid() != self._pid:
            # After a fork the parent owns the lock: let go of this copy only.
            self._open = False
            self.pager.file.close()
            return
        with self.committing:
            with self._state:
                if not self._open:
                    return
                self._open = False
                transactions = list(self._readers.values())
                if self._write_tx is not None:
                    transactions.append(self._write_tx)
            for tx in transactions:
                tx.abandon()
            file = self.pager.file
            file.unlock()
            # Another thread may be inside a read of a transaction just ended.
            # Closing the descriptor under it could make it read another file,
            # so then it is closed when the last such read lets go of it.
            self.pager = Pager(_ClosedFile(), self.path, self.page_size)
            if not transactions:
                file.close()

    def _require_open(self) -> None:
        if not self._open:
            raise DatabaseNotOpenError
        if self._storage.pid() != self._pid:
            raise ForkedError(
                f"{self.path} was opened in another process: open it anew in this one"
            )


class _Managed:
    """The context manager behind `update` and `view`."""

    __slots__ = ("_db", "_tx", "_writable")

    def __init__(self, db: DB, *, writable: bool) -> None:
        self._db = db
        self._writable = writable

    def __enter__(self) -> Tx:
        self._tx = self._db.begin(self._writable)
        self._tx.managed = True
        return self._tx

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tx = self._tx
        tx.managed = False
        if kind is None and self._writable:
            tx.commit()
        elif not tx.closed:
            tx.rollback()


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A meta slot whose content on disk is unknown, and the version to keep."""

    live: Meta
    slot: int


# In this process: files with such a slot, by storage and file identity. A later
# handle on the file must know, because what it reads may not be on disk.
_doubts: WeakKeyDictionary[Storage, dict[tuple[int, int], _Doubt]] = WeakKeyDictionary()


def _doubt_about(storage: Storage, identity: tuple[int, int]) -> _Doubt | None:
    return _doubts.get(storage, {}).get(identity)


def _heal(storage: Storage, pager: Pager, identity: tuple[int, int]) -> None:
    """Write the live version into the slot in doubt, and sync.

    The slot of the live meta gets the same bytes again, because only a page
    that was written is sure to be synced. The other slot gets the live version
    under the txid before, which is what a copy of a database has there too
    (bbolt WriteTo): what failed cannot come back, and what was there before
    is not needed any more.
    """
    doubt = _doubt_about(storage, identity)
    if doubt is None:
        return
    meta, slot = doubt.live, doubt.slot
    if slot != meta.slot:
        meta = meta.with_txid(max(meta.txid - 1, 0))
    try:
        pager.write(slot * pager.page_size, [meta.encode_page(slot)])
        pager.fdatasync()
    except StorageError as error:
        raise DatabaseFailedError(
            f"{pager.path}: an earlier write or sync of meta page {slot} failed and "
            f"could not be undone ({error.strerror}); reads go on, writes are "
            "refused until the disk accepts them"
        ) from error
    del _doubts[storage][identity]


class _ClosedFile:
    """Stands in for the file of a closed database."""

    def _refuse(self, *_: object) -> Any:
        raise OSError(errno.EBADF, "the database is closed")

    pread = pwritev = ftruncate = fdatasync = fsync = _refuse
    size = lock = unlock = identity = _refuse

    def close(self) -> None:
        """Closed already."""


def _map_size(size: int, page_size: int) -> int:
    """How much bbolt would map for so many bytes (db.go mmapSize)."""
    if size <= _MAX_MAP_STEP:
        return max(_MIN_MAP, 1 << (size - 1).bit_length())
    size = -(-size // _MAX_MAP_STEP) * _MAX_MAP_STEP
    return -(-size // page_size) * page_size


# -- opening -----------------------------------------------------------------------


def open_database(
    path: str | bytes | PathLike[str],
    *,
    read_only: bool = False,
    timeout: float | None = None,
    page_size: int | None = None,
    freelist_type: str = "array",
    no_sync: bool = False,
    no_freelist_sync: bool = False,
    no_grow_sync: bool = False,
    strict_mode: bool = False,
    max_size: int = 0,
    initial_mmap_size: int = 0,
    alloc_size: int = DEFAULT_ALLOC_SIZE,
    cache_size: int = DEFAULT_CACHE_SIZE,
    perm: int = 0o600,
    storage: Storage | None = None,
) -> DB:
    """Open a bolt database, made when there is none.

    Args:
        path: The file.
        read_only: Share the file with other readers; nothing is made or written.
        timeout: Seconds to wait for the file lock; None waits for ever.
        page_size: Bytes a page of a new database, a power of two from 1,024
            to 65,536; None: 4,096. An existing file keeps its own.
        freelist_type: "array" or "hashmap", see `shearbolt.freelist`.
        no_sync: Do not wait for the disk: a crash may lose or damage data.
        no_freelist_sync: Do not keep the freelist in the file: smaller commits,
            slower opening.
        no_grow_sync: Do not sync the file's size by itself after growing it.
        strict_mode: Check the whole database before every commit (slow).
        max_size: Refuse to grow the file beyond this, in bytes; 0: no limit.
        initial_mmap_size: Let the file grow to this size at once when it first
            grows, in bytes.
        alloc_size: How much a large file grows at once, in bytes.
        cache_size: Bytes of decoded pages kept in memory.
        perm: Permission bits of a file that is made.
        storage: The machine to run on; None: this one.

    Raises:
        OptionError: An option has a value that means nothing.
        DatabaseNotFoundError: Read-only, and there is no such file.
        LockTimeoutError: Somebody else had the file open all the time.
        InvalidDatabaseError: It is no bolt database (VersionMismatchError,
            ChecksumError: it is nearly one). The file is left as it is.
        CorruptPageError: The freelist is damaged.
        StorageError: The system refused.
    """
    if freelist_type not in FREELIST_TYPES:
        known = ", ".join(sorted(FREELIST_TYPES))
        raise OptionError(f"freelist_type is one of {known}, not {freelist_type!r}")
    if page_size is not None and not _is_page_size(page_size):
        raise OptionError(
            f"page_size is a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, "
            f"not {page_size!r}"
        )
    if timeout is not None and timeout < 0:
        raise OptionError(f"timeout is a number of seconds, not {timeout!r}")
    if storage is None:
        storage = _MACHINE
    name = fsdecode(path)
    try:
        file = storage.open(name, read_only=read_only, create=not read_only, perm=perm)
    except OSError as error:
        raise StorageError.of(error, "open", name) from error
    try:
        _lock(storage, file, name, exclusive=not read_only, timeout=timeout)
        pager, meta = _load(
            storage, file, name,
            read_only=read_only, page_size=page_size or DEFAULT_PAGE_SIZE,
            cache_size=cache_size,
        )  # fmt: skip
        db = DB(
            storage,
            pager,
            meta,
            read_only=read_only,
            no_sync=no_sync,
            no_freelist_sync=no_freelist_sync,
            no_grow_sync=no_grow_sync,
            strict_mode=strict_mode,
            max_size=max_size,
            alloc_size=alloc_size,
            initial_size=initial_mmap_size,
        )
        if not read_only:
            db.freelist = make_freelist(freelist_type, _free_ids(pager, meta))
            if meta.freelist == NO_FREELIST and not no_freelist_sync:
                # So that programs that know no such files can open it again.
                db.begin(writable=True).commit()
    except BaseException:
        file.close()
        raise
    return db


def _is_page_size(size: object) -> bool:
    return (
        isinstance(size, int)
        and MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE
        and not size & (size - 1)
    )


def _lock(
    storage: Storage, file: File, path: str, *, exclusive: bool, timeout: float | None
) -> None:
    began = storage.monotonic()
    while True:
        try:
            if file.lock(exclusive):
                return
        except InterruptedError:
            continue
        except OSError as error:
            raise StorageError.of(error, "flock", path) from error
        if timeout is not None and storage.monotonic() - began > timeout - _LOCK_RETRY:
            raise LockTimeoutError(
                f"{path}: another process or handle has the database open "
                f"(waited {timeout} s); close it, or pass a longer timeout"
            )
        storage.sleep(_LOCK_RETRY)


def _load(
    storage: Storage,
    file: File,
    path: str,
    *,
    read_only: bool,
    page_size: int,
    cache_size: int,
) -> tuple[Pager, Meta]:
    """Find page size and live meta; make the database when there is none."""
    probe = Pager(file, path, page_size)
    size = probe.file_size()
    metas = _read_metas(probe, size)
    if not any(isinstance(meta, Meta) and meta.txid > 1 for meta in metas):
        # Nothing was ever committed: new, or its creation was cut short.
        known = [meta.page_size for meta in metas if isinstance(meta, Meta)]
        found = _new_page_size(probe, size, known, page_size)
        if found:
            _create(storage, probe, path, size, found, read_only=read_only)
            metas = _read_metas(probe, 2 * found)
    live = _live_meta(metas, path)
    pager = Pager(file, path, live.page_size, cache_size)
    doubt = _doubt_about(storage, file.identity())
    if doubt is not None:
        live = doubt.live
        if not read_only:
            _heal(storage, pager, file.identity())
    needed = live.high_water_mark * live.page_size
    if probe.file_size() < needed:
        raise InvalidDatabaseError(
            f"the file is cut short: {size} bytes, the database has {needed}",
            path=path,
        )
    return pager, live


def _read_metas(pager: Pager, size: int) -> list[Meta | MetaError]:
    """Both metas, or why not; the page size is found on the way (db.go getPageSize).

    Meta 0 stands at the same place for all page sizes. When it is damaged,
    meta 1 is looked for at every place it could be.
    """
    first = _read_meta(pager, 0)
    if isinstance(first, Meta):
        return [first, _read_meta(pager, first.page_size)]
    place = MIN_PAGE_SIZE
    while place <= MAX_FOREIGN_PAGE_SIZE and place < size:
        second = _read_meta(pager, place)
        if isinstance(second, Meta):
            return [first, second]
        place *= 2
    return [first]


def _read_meta(pager: Pager, place: int) -> Meta | MetaError:
    try:
        meta = Meta.decode(pager.read(place + PAGE_HEADER_SIZE, META_SIZE))
        if meta.page_size < PAGE_HEADER_SIZE + META_SIZE:
            raise MetaError("invalid", f"a page size of {meta.page_size} bytes", 24)
    except MetaError as error:
        return error
    return meta


def _live_meta(metas: list[Meta | MetaError], path: str) -> Meta:
    """The valid meta with the higher txid; meta 0 on a tie (db.go meta)."""
    valid = [meta for meta in metas if isinstance(meta, Meta)]
    if valid:
        return max(valid, key=lambda meta: meta.txid)
    error = next(meta for meta in metas if isinstance(meta, MetaError))
    kinds = {"version": VersionMismatchError, "checksum": ChecksumError}
    kind = kinds.get(error.kind, InvalidDatabaseError)
    raise kind(
        f"not a bolt database, or both its meta pages are damaged: {error}",
        path=path,
        offset=error.at,
    )


def _new_page_size(
    pager: Pager, size: int, known: list[int], wanted: int
) -> int | None:
    """The page size of a database whose creation was cut short, or None.

    Every byte of such a file is zero or that of the new database: the write of
    the four pages may have been torn anywhere. There can be nothing in it.
    """
    sizes = known or [wanted, *(1 << shift for shift in range(10, 17))]
    if size > _NEW_PAGES * max(sizes):
        return None
    content = pager.read(0, size)
    for page_size in sizes:
        new = empty_database(page_size)
        if size <= len(new) and all(
            byte in (0, there) for byte, there in zip(content, new, strict=False)
        ):
            return page_size
    return None


def _create(
    storage: Storage,
    pager: Pager,
    path: str,
    size: int,
    page_size: int,
    *,
    read_only: bool,
) -> None:
    """Make the new database, or make it again, durably.

    Always writes, even what is there: the bytes may be in the page cache only,
    and after a failed sync another sync would not write them.
    """
    new = empty_database(page_size)
    if read_only:
        if size == len(new) and pager.read(0, size) == new:
            return
        raise InvalidDatabaseError(
            "the file is empty, or the creation of the database was cut short; "
            "open it once for writing",
            path=path,
        )
    for first, end in ((2, 4), (1, 2), (0, 1)):
        pager.write(first * page_size, [new[first * page_size : end * page_size]])
        pager.fdatasync()
    try:
        storage.fsync_dir(path)
    except OSError as error:
        raise StorageError.of(error, "fsync of the directory", path) from error


def _free_ids(pager: Pager, meta: Meta) -> list[int]:
    """The free pages, from the freelist page or by looking for them."""
    if meta.freelist == NO_FREELIST:
        return unreachable_pages(pager, meta)
    ids = sorted(pager.freelist_ids(meta.freelist, meta.high_water_mark))
    for index, pgid in enumerate(ids):
        if not 2 <= pgid < meta.high_water_mark:
            raise pager.corrupt(meta.freelist, f"page {pgid} in it does not exist")
        if index and ids[index - 1] == pgid:
            raise pager.corrupt(meta.freelist, f"page {pgid} is in it twice")
    return ids
