"""Surgery: look at and change single pages of a database that may be damaged.

The engine believes nothing that a damaged file says and so refuses to touch it.
Here a human decides. Every operation works on a copy, never on the patient:

    source --copy--> output.PID.partial --one change--> fdatasync --rename--> output

so that a file called `output` is a finished one, also after a crash.

| operation             | what it does to the copy                                  |
|-----------------------|-----------------------------------------------------------|
| `revert_meta_page`    | the older meta replaces the newer: undo one transaction   |
| `copy_page`           | a page's bytes under another number                       |
| `clear_page`          | a leaf or branch loses all its elements                   |
| `clear_page_elements` | ... or some                                               |
| `abandon_freelist`    | both metas say that there is no freelist                  |
| `rebuild_freelist`    | a file without freelist gets one                          |
| `update_meta`         | fields of one meta, its checksum made right               |
| `validate_metas`      | changes nothing: what is wrong with either meta           |

None of them makes a database consistent by itself: `shearbolt check` afterwards, and
`shearbolt repair` when there is nothing to decide.

Source: bbolt internal/surgeon, internal/guts_cli, cmd/bbolt surgery commands.
Different from there: the page run of a cleared page is written anew instead of
leaving holes, removing a bucket that has pages counts as leaving them behind, and a
copied run has to fit into the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from shearbolt.database.copy import name_beside, take_name
from shearbolt.database.opening import open_database
from shearbolt.errors import BoltError, StorageError
from shearbolt.options import check_seconds, file_name
from shearbolt.pagefile import PageFile
from shearbolt.pages.decoding import decode_bucket
from shearbolt.pages.encoding import encode_branch, encode_leaf
from shearbolt.pages.format import (
    BRANCH,
    LEAF,
    MAGIC,
    META,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    VERSION,
    BucketValue,
    FormatError,
    Header,
)
from shearbolt.storage import OSStorage
from shearbolt.storage.locking import open_locked
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from os import PathLike

    from shearbolt.pagefile import RawMeta
    from shearbolt.storage import Storage

    Progress = Callable[[int, int], None]
    Path = str | bytes | PathLike[str]

__all__ = [
    "META_FIELDS",
    "Cleared",
    "MetaUpdated",
    "SurgeryError",
    "abandon_freelist",
    "clear_page",
    "clear_page_elements",
    "copy_page",
    "rebuild_freelist",
    "revert_meta_page",
    "update_meta",
    "validate_metas",
]

META_FIELDS: Final = {
    "pageSize": "page_size",
    "root": "root",
    "freelist": "freelist",
    "pgid": "high_water_mark",
}
"""The meta fields that may be set, by bbolt's names."""

_CHUNK: Final = 1 << 20
_META_PAGES: Final = 2


class SurgeryError(BoltError):
    """The operation cannot be done on this file, or makes no sense."""


# -- the copy ----------------------------------------------------------------------


@contextmanager
def _copy(
    source: Path,
    output: Path,
    storage: Storage,
    timeout: float,
    progress: Progress | None,
) -> Iterator[str]:
    """A copy of `source` to work on, which becomes `output` at the end.

    After an error there is neither.
    """
    target = file_name(output)
    name = file_name(source)
    check_seconds("timeout", timeout)
    if storage.exists(target):
        raise _exists(target)
    unfinished = name_beside(target, f".{storage.pid()}.partial")
    try:
        _copy_file(storage, name, unfinished, timeout, progress)
        yield unfinished
        try:
            take_name(storage, unfinished, target)
        except FileExistsError:
            raise _exists(target) from None
    except BaseException:
        if storage.exists(unfinished):
            storage.unlink(unfinished)
        raise


def _exists(target: str) -> SurgeryError:
    return SurgeryError(f'output file "{target}" already exists')


def _copy_file(
    storage: Storage,
    source: str,
    target: str,
    timeout: float,
    progress: Progress | None,
) -> None:
    # Its lock keeps writers out while it is copied.
    patient = open_locked(
        storage, source, partial(storage.open, source, read_only=True),
        named=True, exclusive=False, timeout=timeout,
    )  # fmt: skip
    try:
        try:
            copy = storage.open(target, create=True)
        except OSError as error:
            raise StorageError.of(error, "open", target) from error
        try:
            try:
                copy.ftruncate(0)
            except OSError as error:
                raise StorageError.of(error, "ftruncate", target) from error
            _copy_bytes(RobustFile(patient, source), RobustFile(copy, target), progress)
        finally:
            copy.close()
    finally:
        patient.close()


def _copy_bytes(
    source: RobustFile, target: RobustFile, progress: Progress | None
) -> None:
    size, done = source.size(), 0
    # Holes stay holes: a file of a terabyte may have a few pages only.
    for first, behind in source.stored(0, size):
        done = first
        while done < behind:
            chunk = source.read(done, min(_CHUNK, behind - done))
            if not chunk:
                break
            target.write(done, [chunk])
            done += len(chunk)
            if progress is not None:
                progress(done, size)
    if done < size:
        target.grow(size)
    target.fdatasync()


@contextmanager
def _patient(
    source: Path,
    output: Path,
    storage: Storage | None,
    timeout: float,
    progress: Progress | None,
) -> Iterator[PageFile]:
    """A writable copy of `source`; durable at the end, gone after an error."""
    machine = storage or OSStorage()
    with (
        _copy(source, output, machine, timeout, progress) as partial,
        PageFile(partial, writable=True, storage=machine) as file,
    ):
        yield file
        file.sync()


# -- the operations ----------------------------------------------------------------


def revert_meta_page(
    source: Path,
    output: Path,
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> int:
    """Write the older meta over the newer one: undo the last transaction.

    The pages of the version before are still there as long as no later
    transaction has used them again.

    Args:
        source: The database; left as it is.
        output: The copy to make; it must not exist.
        storage: The machine; None: this one.
        timeout: Seconds to wait for a writer to end.
        progress: Called with (bytes copied, bytes to copy).

    Returns:
        The slot that was overwritten, 0 or 1.

    Raises:
        SurgeryError: `output` exists, or the older meta is not valid.
        UnreadablePageError: A meta page cannot be read.
        LockTimeoutError: A writer has the source open.
        StorageError: The system refused.
    """
    with _patient(source, output, storage, timeout, progress) as file:
        newer = 1 if file.meta(0).txid < file.meta(1).txid else 0
        problem = file.meta(1 - newer).problem()
        if problem is not None:
            raise SurgeryError(
                f"meta page {1 - newer} is the older one and not valid ({problem}): "
                "there is nothing to revert to"
            )
        _copy_run(file, 1 - newer, newer)
    return newer


def copy_page(
    source: Path,
    output: Path,
    from_page: int,
    to_page: int,
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> bool:
    """Write a page, its overflow with it, over another one.

    Args:
        source: The database; left as it is.
        output: The copy to make; it must not exist.
        from_page: The page to read.
        to_page: The page to write over.
        storage: The machine; None: this one.
        timeout: Seconds to wait for a writer to end.
        progress: Called with (bytes copied, bytes to copy).

    Returns:
        Whether the file has a freelist, which may be wrong now.

    Raises:
        SurgeryError: Both pages are one, `output` exists, the page cannot be
            read or does not fit there.
        LockTimeoutError: A writer has the source open.
        StorageError: The system refused.
    """
    if from_page == to_page:
        raise SurgeryError(
            f"'--from-page' and '--to-page' have the same value: {from_page}"
        )
    with _patient(source, output, storage, timeout, progress) as file:
        _copy_run(file, from_page, to_page)
        return _has_freelist(file)


def _copy_run(file: PageFile, from_page: int, to_page: int) -> None:
    page = file.page(from_page)
    header = replace(page.header, pgid=to_page)
    file.write(to_page, header.encode() + page.data[PAGE_HEADER_SIZE:])


def _has_freelist(file: PageFile) -> bool:
    metas = [file.meta(0), file.meta(1)]
    live = metas[0] if metas[0].txid > metas[1].txid else metas[1]
    return live.freelist != NO_FREELIST


@dataclass(frozen=True, slots=True)
class Cleared:
    """What clearing did.

    Attributes:
        removed: How many elements are gone.
        abandoned: Whether pages may now be neither reachable nor free, so that
            the freelist has to be made anew.
    """

    removed: int
    abandoned: bool


def clear_page(
    source: Path,
    output: Path,
    pgid: int,
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> Cleared:
    """Remove all elements of a leaf or branch page.

    Arguments and errors as for `clear_page_elements`.
    """
    return clear_page_elements(
        source, output, pgid, 0, -1,
        storage=storage, timeout=timeout, progress=progress,
    )  # fmt: skip


def clear_page_elements(
    source: Path,
    output: Path,
    pgid: int,
    start: int,
    end: int,
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> Cleared:
    """Remove the elements [start, end) of a leaf or branch page.

    Args:
        source: The database; left as it is.
        output: The copy to make; it must not exist.
        pgid: The page.
        start: The first element to go, from 0.
        end: The first one to stay behind them; -1: none stays.
        storage: The machine; None: this one.
        timeout: Seconds to wait for a writer to end.
        progress: Called with (bytes copied, bytes to copy).

    Raises:
        SurgeryError: It is a meta page or no leaf or branch, the range is
            empty or leaves the page, or `output` exists.
        LockTimeoutError: A writer has the source open.
        StorageError: The system refused.
    """
    if pgid < _META_PAGES:
        raise SurgeryError(f"the pageId must be at least 2, but got {pgid}")
    with _patient(source, output, storage, timeout, progress) as file:
        return _clear(file, pgid, start, end)


def _clear(file: PageFile, pgid: int, start: int, end: int) -> Cleared:
    raw = file.page(pgid)
    if raw.header.flags not in {LEAF, BRANCH}:
        raise SurgeryError(f'can\'t clear elements in "{raw.kind}" page')
    page = raw.elements()
    count = len(page.keys)
    if not count:
        return Cleared(0, abandoned=False)
    if not 0 <= start < count:
        raise SurgeryError(f"the start index ({start}) is out of range [0, {count})")
    if end != -1 and not 0 <= end <= count:
        raise SurgeryError(f"the end index ({end}) is out of range [0, {count}]")
    if end != -1 and start > end:
        raise SurgeryError(
            f"the start index ({start}) is bigger than the end index ({end})"
        )
    if start == end:
        raise SurgeryError(
            f"invalid: the start index ({start}) is equal to the end index ({end})"
        )
    stop = count if end == -1 else end
    keys = [*page.keys[:start], *page.keys[stop:]]
    try:
        if page.is_leaf:
            values = [*page.values[:start], *page.values[stop:]]
            body = encode_leaf(pgid, 0, keys, values)
        else:
            children = page.children[:start] + page.children[stop:]
            body = encode_branch(pgid, 0, keys, children)
    except FormatError as error:
        raise SurgeryError(f"page {pgid}: {error}; clear that element, too") from None
    pages = -(-len(body) // file.page_size)
    header = Header(pgid, raw.header.flags, len(keys), pages - 1)
    body = header.encode() + body[PAGE_HEADER_SIZE:]
    file.write(pgid, body.ljust(pages * file.page_size, b"\0"))
    # Pages that a branch led to, or that held the rest of the run, belong to
    # nobody now; so do those of a bucket, which bbolt does not count.
    lost = (
        not page.is_leaf
        or pages - 1 != raw.header.overflow
        or any(map(_has_pages, page.values[start:stop]))
    )
    return Cleared(stop - start, abandoned=lost)


def _has_pages(value: bytes) -> bool:
    """Whether it is a bucket with pages of its own."""
    if not isinstance(value, BucketValue):
        return False
    try:
        return decode_bucket(value)[0] != 0
    except FormatError:
        return False


def abandon_freelist(
    source: Path,
    output: Path,
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> None:
    """Make both metas say that there is no freelist.

    The next program that opens the copy for writing finds the free pages by
    reading the whole tree. Arguments and errors as for `revert_meta_page`.
    """
    with _patient(source, output, storage, timeout, progress) as file:
        for slot in range(_META_PAGES):
            meta = replace(file.meta(slot), freelist=NO_FREELIST)
            file.write_meta(slot, meta.sealed())


def rebuild_freelist(
    source: Path,
    output: Path,
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> None:
    """Give a file without a freelist one.

    Arguments as for `revert_meta_page`.

    Raises:
        SurgeryError: The file has a freelist, or `output` exists.
        CorruptPageError: The tree is damaged, so that free pages cannot be told
            from lost ones.
        LockTimeoutError: A writer has the source open.
        StorageError: The system refused.
    """
    with PageFile(source, storage=storage) as file:
        if _has_freelist(file):
            raise SurgeryError(
                "the file already has freelist, please consider to abandon the "
                "freelist to forcibly rebuild it"
            )
    machine = storage or OSStorage()
    with _copy(source, output, machine, timeout, progress) as partial:
        open_database(partial, timeout=timeout, storage=machine).close()


def validate_metas(
    path: Path, *, storage: Storage | None = None
) -> tuple[str | None, str | None]:
    """What is wrong with meta 0 and with meta 1; None: nothing.

    Raises:
        SurgeryError: The file ends before a meta page, or has none.
        StorageError: The system refused.
    """
    with PageFile(path, storage=storage) as file:
        return file.meta(0).problem(), file.meta(1).problem()


@dataclass(frozen=True, slots=True)
class MetaUpdated:
    """What `update_meta` did.

    Attributes:
        before: The meta as it was.
        after: As it is now.
        other_page_size: The page size in the other meta.
    """

    before: RawMeta
    after: RawMeta
    other_page_size: int


def update_meta(
    source: Path,
    output: Path,
    slot: int,
    fields: Mapping[str, int],
    *,
    storage: Storage | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> MetaUpdated:
    """Set fields of one meta page, and make it valid.

    Magic, version and checksum become right and flags 4, as with bbolt. A new
    root sets the root bucket's sequence to 0.

    Args:
        source: The database; left as it is.
        output: The copy to make; it must not exist.
        slot: Which meta page, 0 or 1.
        fields: New values by the names in `META_FIELDS`; may be empty.
        storage: The machine; None: this one.
        timeout: Seconds to wait for a writer to end.
        progress: Called with (bytes copied, bytes to copy).

    Raises:
        SurgeryError: No such slot or field, a value that does not fit its
            field, or `output` exists.
        LockTimeoutError: A writer has the source open.
        StorageError: The system refused.
    """
    if slot not in {0, 1}:
        raise SurgeryError(f"invalid meta page id: {slot}")
    changes: dict[str, int] = {}
    for name, value in fields.items():
        if name not in META_FIELDS:
            raise SurgeryError(f'field "{name}" isn\'t allowed to be updated')
        if not 0 <= value < 1 << (32 if name == "pageSize" else 64):
            raise SurgeryError(f'invalid value "{value}" for field "{name}"')
        changes[META_FIELDS[name]] = value
    if "root" in changes:
        changes["sequence"] = 0
    with _patient(source, output, storage, timeout, progress) as file:
        before = file.meta(slot)
        fixed = replace(before, magic=MAGIC, version=VERSION, flags=META)
        after = replace(fixed, **changes).sealed()
        file.write_meta(slot, after)
        return MetaUpdated(before, after, file.meta(1 - slot).page_size)
