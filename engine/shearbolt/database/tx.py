"""A transaction: one version of the database, or the making of the next one.

A read transaction copies the live meta when it begins and reads what that meta
leads to. A write transaction does the same under the next txid, collects changes
in nodes, and on commit writes a new version beside the old one:

    1  rebalance, spill          nodes become pages, in memory
    2  free the old freelist, write the new one, in memory
    3  ftruncate, fsync          only when the file has to grow
    4  pwrite, ascending         all new pages, none of them part of the old version
       fdatasync                 barrier: now the new version is complete on disk
    5  pwrite of the meta        into the slot of the version before the old one
       fdatasync                 barrier: now it is the live one

At a crash anywhere the newer meta with a right checksum decides, and the pages
behind it are complete (bbolt tx.go Commit, the same order).

When it fails
=============
Up to step 4 nothing that matters has been written: allocations and frees are
undone in memory and the old version stays live.

In step 5 it is unknown what the slot holds now, and after a failed fdatasync it
cannot be found out: Linux marks the page clean, so that reading it gives the new
content and syncing again reports success without writing (Rebello et al., "Can
Applications Recover from fsync Failures?", ATC 2020). bbolt goes on from what it
reads there and destroys the durable version. Here the handle does not believe
the slot: it writes the old version into it (`DurableFile.heal`) and syncs. Until
this has succeeded the handle refuses to write.

Source: bbolt tx.go.
"""

from __future__ import annotations

from functools import partial
from typing import IO, TYPE_CHECKING, BinaryIO, Final, Self, TypeVar

from shearbolt.check import check, free_map
from shearbolt.database.copy import replace_file, write_to
from shearbolt.database.strangers import require_unchanged
from shearbolt.errors import (
    ForkedError,
    FreePagesNotLoadedError,
    StrictModeError,
    TxClosedError,
    TxManagedError,
    TxNotWritableError,
    WouldDeadlockError,
)
from shearbolt.options import check_permissions, file_name
from shearbolt.pages.format import (
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    FormatError,
    Header,
    Meta,
    page_kind,
)
from shearbolt.pages.freelist import FreelistError
from shearbolt.pages.newpages import NewPages
from shearbolt.stats import PageInfo, Work
from shearbolt.storage.single import Single
from shearbolt.tree.bucket import Bucket, require_bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike
    from types import TracebackType
    from weakref import ref

    from shearbolt.check import Problem
    from shearbolt.database.handle import DB
    from shearbolt.errors import CorruptPageError
    from shearbolt.pages.format import Page
    from shearbolt.pages.pagemap import PageMap
    from shearbolt.pages.pager import Pager
    from shearbolt.stats import BucketStructure, TxStats
    from shearbolt.tree.cursor import Cursor

__all__ = ["Tx"]

T = TypeVar("T")

_COPY_CHUNK: Final = 1 << 20
"""Bytes of the database in memory at once while it is copied."""


class Tx(Single):
    """A transaction; made by `DB.begin`, `DB.update` and `DB.view`.

    As a context manager it rolls back at the end of the block unless it was
    committed before. A transaction may be used in one thread at a time.

    Attributes:
        db: The database.
        writable: Whether it may change anything.
        page_size: Bytes a page.
        closed: Whether it was committed or rolled back.
        committed: Whether it was committed.
        managed: Whether `update` or `view` ends it.
        txid: As `id`, also when it is closed.
        handle: By what the database knows it while it is open.
        pages: The pages it makes when it commits; a read transaction has none.
        work: Counts what it does.
    """

    __slots__ = (
        "__weakref__",
        "_at_work",
        "_commit_handlers",
        "_damage",
        "_free_pages",
        "_meta",
        "_root",
        "closed",
        "committed",
        "db",
        "handle",
        "managed",
        "page_size",
        "pages",
        "txid",
        "work",
        "writable",
    )

    def __init__(self, db: DB, meta: Meta, txid: int, *, writable: bool) -> None:
        self.db: Final = db
        self.txid: Final = txid
        self.writable: Final = writable
        self.page_size: Final = db.page_size
        self.closed = False
        self.committed = False
        # Whether it is being committed or frees pages, and may not be rolled back.
        self._at_work = False
        self._meta = meta
        self._root: Bucket | None = Bucket(self, None, b"", meta.root, meta.sequence)
        self.managed = False
        self.handle: ref[Tx] | None = None
        self.work: Final = Work()
        if writable:
            self.pages: Final = NewPages(db, meta, self.work)
        self._commit_handlers: list[Callable[[], None]] = []
        # Why it must not be committed: a change stopped halfway.
        self._damage: CorruptPageError | None = None
        self._free_pages: PageMap | None = None

    def __repr__(self) -> str:
        kind = "write" if self.writable else "read"
        state = " (closed)" if self.closed else ""
        return f"<shearbolt.Tx {self.txid} {kind}{state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.closed:
            self.give_up()

    # -- about the transaction --

    @property
    def id(self) -> int:
        """The version it reads, or makes; -1 when it is closed."""
        return -1 if self.closed else self.txid

    @property
    def meta(self) -> Meta:
        """The meta of the version it reads; a write transaction makes the next."""
        return self._meta

    @property
    def size(self) -> int:
        """Bytes of the database as this transaction sees it."""
        return self.high_water_mark * self.page_size

    @property
    def high_water_mark(self) -> int:
        """The first page id that no page of this version has."""
        return (self.pages if self.writable else self._meta).high_water_mark

    @property
    def root_bucket(self) -> Bucket:
        """The bucket that holds the top-level buckets."""
        if self.closed:
            self.require_open()
        # Looked at once: `close` takes it away, in another thread.
        root = self._root
        if root is None:
            raise TxClosedError
        return root

    def require_open(self) -> None:
        """Raise when the transaction has ended.

        Raises:
            TxClosedError: It has.
            ForkedError: It is the parent process's.
        """
        if self.closed:
            raise TxClosedError

    # -- buckets --

    def bucket(self, name: bytes) -> Bucket:
        """The top-level bucket of this name.

        Raises:
            BucketNotFoundError: There is none.
        """
        return self.root_bucket.bucket(name)

    def create_bucket(self, name: bytes) -> Bucket:
        """Make a top-level bucket; errors as `Bucket.create_bucket`."""
        return self.root_bucket.create_bucket(name)

    def create_bucket_if_not_exists(self, name: bytes) -> Bucket:
        """Make a top-level bucket, or open it when it is there."""
        return self.root_bucket.create_bucket_if_not_exists(name)

    def delete_bucket(self, name: bytes) -> None:
        """Remove a top-level bucket; errors as `Bucket.delete_bucket`."""
        self.root_bucket.delete_bucket(name)

    def move_bucket(
        self,
        name: bytes,
        source: Bucket | None = None,
        target: Bucket | None = None,
    ) -> None:
        """Move a bucket from one to another, None being the top level.

        Raises:
            BoltError: As `Bucket.move_bucket`.
            TypeError: `source` or `target` is no bucket.
        """
        source = self.root_bucket if source is None else source
        require_bucket(source)
        source.move_bucket(name, self.root_bucket if target is None else target)

    def buckets(self) -> Iterator[tuple[bytes, Bucket]]:
        """The top-level buckets, (name, bucket), in name order, lazily."""
        return self.root_bucket.buckets()

    def cursor(self) -> Cursor:
        """A cursor over the top-level buckets."""
        return self.root_bucket.cursor()

    def inspect(self) -> BucketStructure:
        """Names and key counts of all buckets; the outermost is b"root"."""
        return self.root_bucket.inspect()

    def stats(self) -> TxStats:
        """What the transaction has done so far."""
        return self.work.frozen()

    # -- the file --

    def check(
        self,
        *,
        from_page: int | None = None,
        format_key: Callable[[bytes], str] = bytes.hex,
    ) -> list[Problem]:
        """Look for damage in the version this transaction reads.

        Reads every page. A write transaction's own changes are not part of it.

        Args:
            from_page: Only the tree below this page.
            format_key: How keys are shown in messages.

        Returns:
            All problems found, an empty list when there is none.

        Raises:
            StorageError: The file could not be read.
        """
        return list(self.problems(from_page=from_page, format_key=format_key))

    def problems(
        self,
        *,
        from_page: int | None = None,
        format_key: Callable[[bytes], str] = bytes.hex,
    ) -> Iterator[Problem]:
        """As `check`, one by one while the file is read."""
        found = check(
            self.open_pager(), self._meta, from_page=from_page, format_key=format_key
        )
        for problem in found:
            yield problem
            self.require_open()

    def page(self, pgid: int) -> PageInfo | None:
        """What a page is; None when the database has no page of this number.

        Pages are those of the version this transaction began from.

        Raises:
            TxClosedError: The transaction has ended.
            FreePagesNotLoadedError: The database is read-only and was opened
                without `preload_freelist`.
            CorruptPageError: The freelist is damaged.
            StorageError: The file could not be read.
        """
        db, meta, pager = self.db, self._meta, self.open_pager()
        if not 0 <= pgid < meta.high_water_mark:
            return None
        if not db.freelist_loaded:
            raise FreePagesNotLoadedError
        if self._free_pages is None:
            # Of this version, not of the newest: the same answer for as long
            # as the transaction lives, and no race with the writer.
            self._free_pages = free_map(pager, meta)
        data = pager.file.read(pgid * self.page_size, PAGE_HEADER_SIZE)
        try:
            header = Header.decode(data)
        except FormatError as error:
            raise self.corrupt(pgid, str(error)) from None
        free = bool(self._free_pages[pgid])
        kind = "free" if free else page_kind(header.flags)
        return PageInfo(pgid, kind, header.count, header.overflow)

    def write_to(self, file: BinaryIO | IO[bytes]) -> int:
        """Write a copy of the database, as this transaction sees it.

        The copy is a database by itself: both metas describe this version.
        A write transaction's own changes are not in it.

        Args:
            file: Anything with a `write` for bytes that answers how many it took.
                It may take fewer than it is given, as a file without a buffer does.

        Returns:
            The number of bytes written, `size` of a read transaction.

        Raises:
            TxClosedError: The transaction has ended.
            StorageError: The database could not be read, or `file` took no more;
                its `offset` is how many bytes were written.
            OSError: What `file` raised.
        """
        return write_to(file, self._copy())

    def copy_file(self, path: str | bytes | PathLike[str], *, perm: int = 0o600) -> int:
        """Write a copy into a file that appears whole and durable, or not at all.

        It is written under another name beside `path`, synced, and renamed,
        replacing what stood there. A symbolic link is replaced, too, and not
        followed.

        Returns:
            The number of bytes written.

        Raises:
            TxClosedError: The transaction has ended.
            OptionError: `path` is the database itself, or no file can have this
                name; or `perm` means nothing.
            StorageError: The system refused; what stood at `path` is still there.
                But when its `operation` is "fsync of the directory": then the copy
                is, and whole, and a crash may bring back what it has replaced.
        """
        self.require_open()
        name = file_name(path)
        check_permissions(perm)
        return replace_file(self.db.storage, name, self._copy(), perm, self.db.identity)

    def _copy(self) -> Iterator[bytes]:
        """The bytes of a copy, piece by piece."""
        meta, pager = self._meta, self.open_pager()
        # The same version twice, under neighbouring txids (bbolt WriteTo).
        yield meta.encode_page(0)
        yield meta.with_txid(max(meta.txid - 1, 0)).encode_page(1)
        at, end = 2 * self.page_size, meta.high_water_mark * self.page_size
        while at < end:
            chunk = pager.file.read(at, min(_COPY_CHUNK, end - at))
            if not chunk:
                pgid = at // self.page_size
                raise pager.corrupt(pgid, "the file ends before it")
            yield chunk
            self.require_open()
            at += len(chunk)

    # -- pages of the version it reads, for buckets and nodes --

    def open_pager(self) -> Pager:
        """The pages of the open file.

        Raises:
            TxClosedError: The transaction has ended.
        """
        # In this order: `close` ends all transactions and then takes the pages away,
        # in another thread. Who looks at them last finds those of a closed file.
        pager = self.db.pager
        if self.closed:
            self.require_open()
        return pager

    def load(self, pgid: int) -> Page:
        """A committed leaf or branch page.

        Raises:
            CorruptPageError: It is damaged, or none of these.
        """
        # As `open_pager`, which takes as long as all else that is done here.
        pager = self.db.pager
        if self.closed:
            self.require_open()
        return pager.page(pgid, self._meta.high_water_mark)

    def pass_by(self, pgid: int) -> Page:
        """The same for a page that will not be looked at again.

        Raises:
            CorruptPageError: As `load`.
        """
        return self.open_pager().pass_by(pgid, self._meta.high_water_mark)

    def corrupt(self, pgid: int, reason: str) -> CorruptPageError:
        """The error for a page that is not what its place requires."""
        return self.db.pager.corrupt(pgid, reason)

    def free_page(self, pgid: int, overflow: int) -> None:
        """Give back a page of the version this transaction began from.

        Raises:
            CorruptPageError: It is free already: two places refer to it.
            TxClosedError: The transaction has ended meanwhile.
        """
        was = self._at_work
        try:
            self._begin_work()
            self.db.freelist.free(pgid, overflow)
        except FreelistError as error:
            # Some pages of the same tree may have been freed already.
            self._damage = self.corrupt(error.pgid, str(error))
            raise self._damage from None
        finally:
            self._at_work = was

    def free_pages(self, pgids: list[int]) -> None:
        """The same for many pages without overflow.

        Raises:
            CorruptPageError: As `free_page`.
            TxClosedError: As there.
        """
        was = self._at_work
        try:
            self._begin_work()
            self.db.freelist.free_all(pgids)
        except FreelistError as error:
            self._damage = self.corrupt(error.pgid, str(error))
            raise self._damage from None
        finally:
            self._at_work = was

    def _begin_work(self) -> None:
        """See to it that nobody rolls it back while it is `_at_work`.

        Raises:
            TxClosedError: Somebody has.
        """
        with self.db.ending:
            closed = self.closed
            if not closed:
                self._at_work = True
        if closed:
            raise TxClosedError

    # -- the end --

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call this after a successful commit, when all locks are released.

        Calls are made in this order. What one raises comes out of `commit`,
        although the transaction is committed; those behind it are not made.

        Raises:
            TxClosedError: The transaction has ended.
            TypeError: It cannot be called.
        """
        self.require_open()
        # At the commit it would be too late: that has taken effect by then.
        if not callable(call):
            raise TypeError(f"on_commit takes a function, not {type(call).__name__}")
        self._commit_handlers.append(call)

    def take_handlers(self) -> list[Callable[[], None]]:
        """What `on_commit` was given; `commit` does not call it then.

        A batch calls each function's in the thread that brought the function.
        """
        handlers, self._commit_handlers = self._commit_handlers, []
        return handlers

    def rollback(self) -> None:
        """End the transaction and forget its changes.

        Raises:
            TxClosedError: It has ended already.
            TxManagedError: It belongs to `update()` or `view()`.
            WouldDeadlockError: It is being committed, or frees pages; a signal handler
                has called this, say.
        """
        self.require_open()
        if self.managed:
            raise TxManagedError("managed tx rollback not allowed")
        if not self.give_up():
            raise TxClosedError

    def give_up(self) -> bool:
        """Roll back unless it has ended, and say whether this did; see `rollback`.

        Raises:
            WouldDeadlockError: As there.
        """
        mine = False
        try:
            with self.db.ending:
                at_work = self._at_work
                # Another thread, or a signal handler, may have been faster.
                if not (at_work or self.closed):
                    self.closed = mine = True
        finally:
            if mine:
                try:
                    self._close()
                finally:
                    # Others wait for it: also when an interrupt comes as it begins.
                    if self.handle is not None:
                        self.db.end(self)
        if at_work:
            # It would go on, with pages that are free, or in the next one's freelist.
            raise WouldDeadlockError("the transaction is committing or frees pages")
        return mine

    def commit(self) -> None:
        """Write all changes to disk and end the transaction.

        Returns when they are durable. On any error the transaction is rolled
        back: readers and later transactions see the version before it.

        Raises:
            TxClosedError: It has ended already.
            TxNotWritableError: It is a read transaction.
            TxManagedError: It belongs to `update()`.
            StorageError: The system refused a write or a sync.
            FileChangedError: Somebody else has cut the file, or written over it.
            MaxSizeReachedError: The file would become larger than allowed.
            CorruptPageError: Damage was met on the way.
            WouldDeadlockError: A signal handler has interrupted another commit.
        """
        if self.closed:
            raise TxClosedError
        if self.managed:
            raise TxManagedError("managed tx commit not allowed")
        if not self.writable:
            raise TxNotWritableError
        handlers = self._commit_handlers
        self.db.committing.run(self._commit)
        for call in handlers:
            call()

    def _commit(self) -> None:
        try:
            self._begin_work()
        except BaseException:
            self._at_work = False
            raise
        db = self.db
        try:
            db.require_open()
            if self._damage is not None:
                raise self._damage
            meta = self._write_pages()
            clock, work = db.storage.monotonic, self.work
            began = clock()
            db.durable.publish(meta, not db.no_sync)
            db.pager.drop_indexes(db.freelist.__contains__)
            work.write += 1
            work.write_time += clock() - began
        finally:
            # No call before these, so no interrupt either: who asks later (a batch,
            # whether to run a function again) could not find it out. Whether it is
            # committed the database knows: an interrupt can arrive behind the last
            # moment at which the commit could have failed.
            self.committed = db.durable.live.txid == self.txid
            self.closed = True
            self._at_work = False
            try:
                self._close()
            finally:
                # As in `give_up`.
                if self.handle is not None:
                    self.db.end(self)

    def abandon(self) -> None:
        """Roll back because the database is being closed; called by it."""
        if not self.closed:
            self.closed = True
            # Another thread may be inside one of the buckets: they stay as they are.
            self._root = None
            self._close()

    def disown(self) -> None:
        """Leave it to the parent; called in a forked child by the database."""
        # No further thread is here, and nothing is given back: it is not ours.
        self.closed = True
        self.__class__ = _ParentsTx

    def _write_pages(self) -> Meta:
        """Steps 1 to 4; the meta to publish."""
        db, work, pages = self.db, self.work, self.pages
        clock = db.storage.monotonic
        durable, sync = db.durable, not db.no_sync
        require_unchanged(durable)
        durable.settle(sync)
        began = clock()
        top = self.root_bucket
        top.rebalance()
        rebalanced = clock()
        root = top.spill()
        spilled = clock()
        freelist = self._write_freelist()
        if pages.high_water_mark > self._meta.high_water_mark:
            size = (pages.high_water_mark + 1) * self.page_size
            durable.grow(size, db.max_size, db.alloc_size, sync and not db.no_grow_sync)
        meta = Meta(
            self.page_size,
            root,
            freelist,
            pages.high_water_mark,
            self.txid,
            # bbolt keeps what a file has there; its API cannot reach it.
            top.sequence,
            self._meta.flags,
        )
        writing = clock()
        pages.write_out(partial(self._while_writing, meta))
        work.rebalance_time += rebalanced - began
        work.spill_time += spilled - rebalanced
        work.write_time += clock() - writing
        work.spill += len(pages.decoded) + len(pages.contents)
        if db.strict_mode:
            problems = list(check(db.pager, meta))
            if problems:
                raise StrictModeError(f"check fail: {problems[0]}")
        return meta

    def _while_writing(self, meta: Meta) -> None:
        """What is left to do when all pages are on their way to the disk."""
        # Its checksum is remembered until it is published.
        meta.encode()
        pager = self.db.pager
        pager.in_doubt = True
        self.pages.into_cache(pager)
        self._let_go()

    def _write_freelist(self) -> int:
        """Free the old freelist page; put the list into new ones."""
        db = self.db
        old = self._meta.freelist
        if old != NO_FREELIST:
            # Each commit writes its own, so this one is its version's (bbolt Free).
            db.freelist.made_by(old, self._meta.txid)
            self.free_page(old, db.durable.freelist_overflow(self._meta))
        if db.no_freelist_sync:
            return NO_FREELIST
        pgid, overflow = self.pages.write_freelist()
        db.durable.note_freelist(self.txid, overflow)
        return pgid

    def _close(self) -> None:
        """What is to be done when it is `closed`."""
        try:
            self._commit_handlers = []
            if self.writable:
                self._forget_pages()
            self._let_go()
        finally:
            self.db.end(self)

    def _let_go(self) -> None:
        root, self._root = self._root, None
        # Freed now, and not when the cyclic collector comes round: for commits of one
        # put that is 8 % of their time, and it walks the cache, too.
        if root is not None and self.writable:
            root.let_go()

    def _forget_pages(self) -> None:
        pager = self.db.pager
        if not self.committed:
            pager.forget_all(self.pages.encoded)
        pager.in_doubt = False
        self.pages.forget()


class _ParentsTx(Tx):
    """A transaction in a forked child: it is the parent's, who goes on with it.

    It counts as closed, and whoever meets a closed transaction asks it why.
    """

    __slots__ = ()

    def require_open(self) -> None:
        raise ForkedError(self.db.path)

    def commit(self) -> None:
        self.require_open()

    def rollback(self) -> None:
        """Nothing to undo: a child may leave its parent's blocks in peace."""
