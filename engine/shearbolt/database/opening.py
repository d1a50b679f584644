"""Opening: from a path to a database.

    storage.open -> flock -> metas -> freelist -> DB

Creation
========
A new file gets its freelist and root page, then meta 1, then meta 0, each synced
before the next, so that a crash leaves one page in doubt and not four; then its
directory is synced. Only then does `open` return. A crash before that leaves a
file of which every byte is zero or that of the new database. bbolt cannot open
such a file any more (#567). Here it is recognised (`_new_page_size`) and made
anew: nothing can have been stored in it.

Which meta counts
=================
The valid one with the higher txid. Page 0 stands at the same place whatever the
page size; when it is damaged, page 1 is looked for at every place it could be.

A file that cannot be opened is left as it is. One exception: a file that is empty,
or whose creation was cut short, becomes a database when it is opened for writing.

Source: bbolt db.go.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import mul
from typing import TYPE_CHECKING, Final, Protocol
from weakref import ref

from shearbolt.check import free_ids
from shearbolt.database import doubt
from shearbolt.database.growth import DEFAULT_ALLOC_SIZE
from shearbolt.database.handle import DB
from shearbolt.errors import (
    ChecksumError,
    InvalidDatabaseError,
    OptionError,
    StorageError,
    VersionMismatchError,
)
from shearbolt.options import check_permissions, check_seconds, check_size, file_name
from shearbolt.pages.format import (
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
from shearbolt.pages.freelist import FREELIST_TYPES, make_freelist
from shearbolt.pages.pager import DEFAULT_CACHE_SIZE
from shearbolt.pages.shared import pager_for
from shearbolt.storage import OSStorage, Storage
from shearbolt.storage.locking import open_locked
from shearbolt.storage.robust import RobustFile
from shearbolt.storage.twice import SyncedTwice

if TYPE_CHECKING:
    from os import PathLike

    from shearbolt.pages.pager import Pager
    from shearbolt.storage import File
    from shearbolt.storage.robust import View

__all__ = ["DB", "OpenFile", "open_database"]

DEFAULT_PAGE_SIZE: Final = 4096
"""bbolt takes the system's page size. A fixed one gives the same file anywhere."""

_NEW_PAGES: Final = 4

_STEP: Final = 512
"""Bytes looked at at once for whether they are part of a new database."""

_MACHINE: Final = OSStorage()

# What a storage is asked for, see `Storage`.
_CALLED: Final = (
    *("open", "exists", "rename", "unlink", "fsync_dir", "monotonic", "sleep"),
    *("pid", "thread_id", "mutex"),
)
_log: Final = logging.getLogger("shearbolt")


class OpenFile(Protocol):
    """What the option `open_file` takes: something that opens the file."""

    def __call__(
        self, path: str, /, *, read_only: bool, create: bool, perm: int
    ) -> File:
        """Open the file at `path`; see `Storage.open`."""
        ...


def open_database(
    path: str | bytes | PathLike[str],
    *,
    read_only: bool = False,
    create: bool = True,
    timeout: float | None = None,
    page_size: int | None = None,
    freelist_type: str = "array",
    no_sync: bool = False,
    no_freelist_sync: bool = False,
    no_grow_sync: bool = False,
    sync_twice: bool = False,
    strict_mode: bool = False,
    max_size: int = 0,
    initial_mmap_size: int = 0,
    alloc_size: int = DEFAULT_ALLOC_SIZE,
    cache_size: int = DEFAULT_CACHE_SIZE,
    perm: int = 0o600,
    statistics: bool = True,
    preload_freelist: bool = False,
    open_file: OpenFile | None = None,
    storage: Storage | None = None,
) -> DB:
    """Open a bolt database, made when there is none.

    Args:
        path: The file.
        read_only: Share the file with other readers; nothing is made or written.
        create: Make the file when there is none.
        timeout: Seconds to wait for the file lock; None waits for ever.
        page_size: Bytes a page of a new database, a power of two from 1,024
            to 65,536; None: 4,096. An existing file keeps its own.
        freelist_type: "array" or "hashmap", see `shearbolt.pages.freelist`.
        no_sync: Do not wait for the disk: a crash may lose or damage data.
        no_freelist_sync: Do not keep the freelist in the file: smaller commits,
            slower opening.
        no_grow_sync: Do not sync the file's size by itself after growing it.
        sync_twice: Make every sync twice: for file systems that report a failed
            sync with the next one (ext4 data=journal), where one sync may
            acknowledge what is lost. See `shearbolt.storage.twice`.
        strict_mode: Check the whole database before every commit (slow).
        max_size: Refuse to grow the file beyond this, in bytes; 0: no limit.
        initial_mmap_size: Let the file grow to this size at once when it first
            grows, in bytes; beyond `alloc_size` only by that much, as in bbolt.
        alloc_size: How much a large file grows at once, in bytes.
        cache_size: Bytes of decoded pages kept in memory at most; a page that is
            larger by itself is read anew each time.
        perm: Permission bits of a file that is made.
        statistics: Count what `DB.stats` reports.
        preload_freelist: Read the freelist of a read-only database, too; needed
            for `Tx.page`, and finds a damaged one at once.
        open_file: Opens the file instead of the storage: a descriptor that was
            inherited, a file by another name. It returns what
            `shearbolt.storage.Storage.open` returns.
        storage: The machine to run on; None: this one.

    Raises:
        OptionError: An option has a value that means nothing, or no file can have
            this name.
        TypeError: `path` is no path.
        DatabaseNotFoundError: There is no such file, and it is not to be made.
        LockTimeoutError: Somebody else had the file open all the time.
        InvalidDatabaseError: It is no bolt database (VersionMismatchError,
            ChecksumError: it is nearly one). The file is left as it is.
        CorruptPageError: The freelist is damaged.
        StorageError: The system refused.
    """
    name = file_name(path)
    _check_options(freelist_type, page_size, timeout, open_file, storage)
    check_size("max_size", max_size)
    check_size("initial_mmap_size", initial_mmap_size)
    check_size("alloc_size", alloc_size)
    check_size("cache_size", cache_size)
    check_permissions(perm)
    if storage is None:
        storage = _MACHINE
    opens = partial(
        open_file or storage.open,
        name, read_only=read_only, create=create and not read_only, perm=perm,
    )  # fmt: skip
    file = open_locked(
        storage, name, opens,
        named=open_file is None, exclusive=not read_only, timeout=timeout,
    )  # fmt: skip
    try:
        if sync_twice:
            file = SyncedTwice(file)
        pager, meta, is_new = _load(
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
            statistics=statistics,
            settled=is_new,
        )
        if not read_only and not db.durable.failed:
            db.durable.heal()
        if not read_only or preload_freelist:
            db.load_freelist(make_freelist(freelist_type, free_ids(pager, meta)))
        keeps = not no_freelist_sync and not db.durable.failed
        if not read_only and keeps and meta.freelist == NO_FREELIST:
            # So that programs that know no such files can open it again.
            db.begin(writable=True).commit()
        # Here: who keeps an interrupt's traceback would have the handle, and its lock.
        _log.debug("%s: open, transaction %d", name, meta.txid)
    except BaseException:
        # Why it could not be opened is what matters, not how closing went.
        with suppress(OSError):
            file.close()
        raise
    return db


def _check_options(
    freelist_type: str,
    page_size: int | None,
    timeout: float | None,
    open_file: OpenFile | None,
    storage: Storage | None,
) -> None:
    # A list is in no table, and cannot be looked for in one.
    if not isinstance(freelist_type, str) or freelist_type not in FREELIST_TYPES:
        known = ", ".join(sorted(FREELIST_TYPES))
        raise OptionError(f"freelist_type is one of {known}, not {freelist_type!r}")
    if page_size is not None and not _is_page_size(page_size):
        raise OptionError(
            f"page_size is a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, "
            f"not {page_size!r}"
        )
    if timeout is not None:
        check_seconds("timeout", timeout)
    if open_file is not None and not callable(open_file):
        raise OptionError(f"open_file is something to call, not {open_file!r}")
    if storage is not None:
        # From 3.12 on isinstance does not see what `__getattr__` hands on.
        if not all(callable(getattr(storage, name, None)) for name in _CALLED):
            raise OptionError(
                f"storage is a shearbolt.storage.Storage, not {storage!r}"
            )
        try:
            hash(storage)
            ref(storage)
        except TypeError as error:
            # Slots in doubt are remembered by storage (see `shearbolt.database.doubt`).
            raise OptionError(f"this storage cannot be used: {error}") from None


def _is_page_size(size: object) -> bool:
    return (
        isinstance(size, int)
        and MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE
        and not size & (size - 1)
    )


def _load(
    storage: Storage,
    file: File,
    path: str,
    *,
    read_only: bool,
    page_size: int,
    cache_size: int,
) -> tuple[Pager, Meta, bool]:
    """Find page size and live meta; make the database when there is none.

    Returns:
        Pager, live meta, and whether the database was made just now.
    """
    is_new = False
    robust = RobustFile(file, path)
    size = robust.size()
    found = robust.ask(partial(_what_stands, size=size, wanted=page_size))
    if found.new:
        is_new = _create(storage, robust, size, found.new, read_only=read_only)
        found = robust.ask(partial(_what_stands, size=2 * found.new, wanted=0))
    live = found.live
    if live is None:
        raise _refusal(found.fault, path)
    pager = pager_for(storage, robust, live.page_size, cache_size)
    identity = robust.identity()
    doubts = doubt.known(storage)
    unknown = doubt.doubt_about(doubts, identity)
    if unknown is not None:
        if unknown.stands(live):
            live = unknown.live
        else:
            doubt.end(doubts, identity)
    needed = live.high_water_mark * live.page_size
    size = robust.size()
    if size < needed:
        raise InvalidDatabaseError(
            f"the file is cut short: {size} bytes, the database has {needed}",
            path=path,
        )
    return pager, live, is_new


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a file is, as far as its first pages say.

    Attributes:
        live: The meta that counts; None when there is none.
        fault: Kind, reason and place of what is wrong with the first meta, when
            there is none.
        new: Page size of the database to be made here; 0: there is one.
    """

    live: Meta | None
    fault: tuple[str, str, int] = ("", "", 0)
    new: int = 0


def _what_stands(view: View, *, size: int, wanted: int) -> _Standing:
    """Which version is live, or what is to be made.

    Nothing else of the metas reaches the engine: two files of which this is the
    same are the same to it (see `RobustFile.ask`).

    Args:
        view: Reads.
        size: Bytes of the file.
        wanted: Page size of a new database; 0: there is none to be made.
    """
    metas = _read_metas(view, size)
    if wanted and not any(isinstance(one, Meta) and one.txid > 1 for one in metas):
        # Nothing was ever committed: new, or its creation was cut short.
        known = [meta.page_size for meta in metas if isinstance(meta, Meta)]
        new = _new_page_size(view, size, known, wanted)
        if new:
            return _Standing(None, new=new)
    live = _live_meta(metas)
    if isinstance(live, Meta):
        return _Standing(live)
    return _Standing(None, (live.kind, str(live), live.at))


def _read_metas(view: View, size: int) -> list[Meta | MetaError]:
    """Both metas, or why not; the page size is found on the way (db.go getPageSize).

    Meta 0 stands at the same place for all page sizes. When it is damaged,
    meta 1 is looked for at every place it could be.
    """
    first = _read_meta(view, 0)
    if isinstance(first, Meta):
        return [first, _read_meta(view, first.page_size)]
    place = MIN_PAGE_SIZE
    while place <= MAX_FOREIGN_PAGE_SIZE and place < size:
        second = _read_meta(view, place)
        if isinstance(second, Meta):
            return [first, second]
        place *= 2
    return [first]


def _read_meta(view: View, place: int) -> Meta | MetaError:
    meta = view(_decoded, place + PAGE_HEADER_SIZE, META_SIZE)
    return meta if isinstance(meta, Meta) else MetaError(*meta)


def _decoded(data: bytes) -> Meta | tuple[str, str, int]:
    """The meta, or kind, reason and place of what is wrong with it.

    No exception, because two of the same are not equal.
    """
    meta = Meta.examine(data)
    if isinstance(meta, Meta) and meta.page_size < PAGE_HEADER_SIZE + META_SIZE:
        return "invalid", f"a page size of {meta.page_size} bytes", 24
    return meta


def _live_meta(metas: list[Meta | MetaError]) -> Meta | MetaError:
    """The valid meta with the higher txid; meta 0 on a tie (db.go meta).

    When none is valid: what is wrong with the first.
    """
    valid = [meta for meta in metas if isinstance(meta, Meta)]
    return max(valid, key=lambda meta: meta.txid) if valid else metas[0]


def _refusal(fault: tuple[str, str, int], path: str) -> InvalidDatabaseError:
    kind, reason, at = fault
    kinds = {"version": VersionMismatchError, "checksum": ChecksumError}
    return kinds.get(kind, InvalidDatabaseError)(
        f"not a bolt database, or both its meta pages are damaged: {reason}",
        path=path,
        offset=at,
    )


def _new_page_size(view: View, size: int, known: list[int], wanted: int) -> int | None:
    """The page size of a database whose creation was cut short, or None.

    Every byte of such a file is zero or that of the new database: the write of
    the four pages may have been torn anywhere. There can be nothing in it.
    """
    sizes = known or [wanted, *(1 << shift for shift in range(10, 17))]
    # Nobody makes databases with larger pages, and `empty_database` would take
    # four times whatever a damaged meta says.
    sizes = [each for each in sizes if each <= MAX_PAGE_SIZE]
    if not sizes or size > _NEW_PAGES * max(sizes):
        return None
    for page_size in sizes:
        new = empty_database(page_size)
        if size <= len(new) and _is_remnant(view, new[:size]):
            return page_size
    return None


def _is_remnant(view: View, whole: bytes) -> bool:
    """Whether every byte of the file is zero or that of `whole`."""
    for at in range(0, len(whole), _STEP):
        right = whole[at : at + _STEP]
        if not view(partial(_is_part, right), at, len(right)):
            return False
    return True


def _is_part(right: bytes, data: bytes) -> bool:
    # Nearly all are one of these two, and compare at memory speed.
    if data in (right, bytes(len(right))):
        return True
    differs = int.from_bytes(data, "big") ^ int.from_bytes(right, "big")
    return not any(map(mul, data, differs.to_bytes(len(right), "big")))


def _create(
    storage: Storage,
    file: RobustFile,
    size: int,
    page_size: int,
    *,
    read_only: bool,
) -> bool:
    """Make the new database, or make it again, durably.

    Always writes, even what is there: the bytes may be in the page cache only,
    and after a failed sync another sync would not write them.

    Returns:
        True; False for a read-only one, which is new but may not be durable.
    """
    new = empty_database(page_size)
    if read_only:
        if size == len(new) and file.read(0, size) == new:
            return False
        raise InvalidDatabaseError(
            "the file is empty, or the creation of the database was cut short; "
            "open it once for writing",
            path=file.path,
        )
    for first, end in ((2, 4), (1, 2), (0, 1)):
        file.write(first * page_size, [new[first * page_size : end * page_size]])
        try:
            file.fdatasync()
        except StorageError:
            # Whoever opens it next writes all of it again, and anew (see `durable`).
            cut = False
            if not size:
                # As it was found. What is in its blocks may be what somebody else has
                # left there (ext3), and nobody would know it for a new database.
                with suppress(OSError):
                    file.raw.ftruncate(0)
                    cut = True
            if not cut:
                file.forget()
            raise
    try:
        storage.fsync_dir(file.path)
    except OSError as error:
        raise StorageError.of(error, "fsync of the directory", file.path) from error
    return True
