"""Pages of a file that need not be believed: what the bytes say, and no more.

The engine refuses a damaged file. Whoever wants to look at one, or change a page of
it by hand, reads it through a `PageFile`:

    file --size--> bound for every read
         --meta 0, else meta 1--> page size, high-water mark
         --page(n)--> RawPage: header, and elements or ids or a RawMeta

The page's content is decoded with the engine's own decoders, so nothing is read
beyond the page run, and a run is never longer than the file. The page size comes
from meta 0 when that has the magic number, its checksum right or wrong, else from a
meta 1 that is whole.

It takes no lock and keeps nothing in memory. A live file may change between two
reads; that is the price of looking at a database that another process has open.

Source: bbolt internal/guts_cli. Different from there: the high-water mark is the
live meta's, not meta 0's, and a run has to lie inside the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from shearbolt.errors import BoltError, StorageError
from shearbolt.options import file_name
from shearbolt.pages.decoding import decode_branch, decode_freelist, decode_leaf
from shearbolt.pages.format import (
    BRANCH,
    LEAF,
    MAGIC,
    MAX_FOREIGN_PAGE_SIZE,
    META_SIZE,
    MIN_PAGE_SIZE,
    PAGE_HEADER_SIZE,
    VERSION,
    Branch,
    FormatError,
    Header,
    Meta,
    MetaError,
    Page,
    fnv1a,
    page_kind,
)
from shearbolt.pages.pager import Pager
from shearbolt.storage import OSStorage
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType

    from shearbolt.storage import Storage

__all__ = ["PageFile", "RawMeta", "RawPage", "UnreadablePageError"]

_META: Final = struct.Struct("<IIIIQQQQQQ")
_META_PAGES: Final = 2
_LARGE: Final = 1 << 26
"""Bytes of a run that nobody is asked about: 64 MiB."""


class UnreadablePageError(BoltError):
    """The file has no such page, or the page cannot be what it says."""


# -- metas that may be wrong -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RawMeta:
    """The ten fields of a meta page, right or wrong.

    `format.Meta` exists for valid metas only; this is what the bytes say.

    Attributes:
        magic: 0xED0CDAED in a bolt file.
        version: 2.
        page_size: Bytes a page.
        flags: 0; 4 after `update_meta`.
        root: Page of the root bucket.
        sequence: The root bucket's sequence.
        freelist: Page of the freelist, or `NO_FREELIST`.
        high_water_mark: The first page id never used.
        txid: The transaction that wrote it.
        checksum: FNV-1a of the fields before it, if it is right.
    """

    magic: int
    version: int
    page_size: int
    flags: int
    root: int
    sequence: int
    freelist: int
    high_water_mark: int
    txid: int
    checksum: int

    @classmethod
    def decode(cls, data: bytes) -> RawMeta:
        """Read the 64 bytes behind a page header.

        Raises:
            UnreadablePageError: There are fewer.
        """
        if len(data) < META_SIZE:
            raise UnreadablePageError("the file ends inside a meta page")
        return cls(*_META.unpack_from(data))

    def _fields(self) -> tuple[int, ...]:
        return (
            self.magic, self.version, self.page_size, self.flags, self.root,
            self.sequence, self.freelist, self.high_water_mark, self.txid,
            self.checksum,
        )  # fmt: skip

    def encode(self) -> bytes:
        """The 64 bytes, the checksum as it is here."""
        return _META.pack(*self._fields())

    def sealed(self) -> RawMeta:
        """The same with the right checksum."""
        return replace(self, checksum=fnv1a(self.encode()[:-8]))

    def problem(self) -> str | None:
        """Why the engine would not take it, in bbolt's words; None: it would."""
        if self.magic != MAGIC:
            return "invalid database"
        if self.version != VERSION:
            return "version mismatch"
        if self.checksum != self.sealed().checksum:
            return "checksum error"
        return None


# -- pages that may be wrong -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page run as it stands in the file.

    Attributes:
        header: Its first 16 bytes.
        data: All its bytes, overflow pages included.
    """

    header: Header
    data: bytes

    @property
    def kind(self) -> str:
        """The word bbolt has for what its flags say."""
        return page_kind(self.header.flags)

    def meta(self) -> RawMeta:
        """The fields of a meta page.

        Raises:
            UnreadablePageError: The page is too short for one.
        """
        return RawMeta.decode(self.data[PAGE_HEADER_SIZE:])

    def elements(self) -> Page:
        """A leaf's or branch's content.

        Raises:
            UnreadablePageError: It is none, or its elements lie outside of it.
        """
        header = self.header
        if header.flags not in {LEAF, BRANCH}:
            raise UnreadablePageError(f"a {self.kind} page has no elements")
        if header.flags == BRANCH and not header.count:
            # What `clear_page` leaves. The engine reads it as an empty tree, as a
            # leaf: see `Pager.read_page`. Here it stays what it says it is.
            return Branch(header.pgid, header.overflow, [], [])
        decode = decode_leaf if header.flags == LEAF else decode_branch
        try:
            page: Page = decode(
                header.pgid, header.count, header.overflow, self._read, len(self.data)
            )
        except FormatError as error:
            raise UnreadablePageError(f"page {header.pgid}: {error}") from None
        return page

    def free_ids(self) -> list[int]:
        """The ids in a freelist page, as they stand there.

        Raises:
            UnreadablePageError: There are more than the page can hold.
        """
        try:
            return decode_freelist(self.header.count, self._read, len(self.data))
        except FormatError as error:
            raise UnreadablePageError(f"page {self.header.pgid}: {error}") from None

    def _read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


class PageFile:
    """A database file, read page by page. A context manager.

    Takes no lock: a live file may change between two reads. That is what looking
    at a database that another process has open needs; operations lock when they
    copy.

    Args:
        path: The file.
        writable: Also allow `write`.
        storage: The machine; None: this one.

    Attributes:
        size: Bytes of the file.
        page_size: Bytes a page.
        high_water_mark: The live meta's; the number of pages in the file when
            neither meta is valid.
        pager: Reads its bytes.

    Raises:
        DatabaseNotFoundError: There is no such file.
        UnreadablePageError: Neither meta page tells the page size.
        StorageError: The system refused.
    """

    def __init__(
        self,
        path: str | bytes | PathLike[str],
        *,
        writable: bool = False,
        storage: Storage | None = None,
    ) -> None:
        name = file_name(path)
        try:
            raw = (storage or OSStorage()).open(name, read_only=not writable)
        except OSError as error:
            raise StorageError.of(error, "open", name) from error
        self._file = RobustFile(raw, name)
        try:
            self.size = self._file.size()
            self.page_size = self._find_page_size()
            self.pager = Pager(self._file, self.page_size)
            self.high_water_mark = self._find_high_water_mark()
        except BaseException:
            self._file.raw.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.raw.close()

    def _find_page_size(self) -> int:
        first = self._file.read(PAGE_HEADER_SIZE, META_SIZE)
        if len(first) == META_SIZE:
            meta = RawMeta.decode(first)
            smallest = PAGE_HEADER_SIZE + META_SIZE
            if meta.magic == MAGIC and (
                smallest <= meta.page_size <= MAX_FOREIGN_PAGE_SIZE
            ):
                return meta.page_size
        place = MIN_PAGE_SIZE
        while place <= MAX_FOREIGN_PAGE_SIZE and place < self.size:
            try:
                second = Meta.decode(
                    self._file.read(place + PAGE_HEADER_SIZE, META_SIZE)
                )
            except MetaError:
                place *= 2
                continue
            if second.page_size == place:
                return place
            place *= 2
        raise UnreadablePageError(
            "the Meta Page has wrong (unexpected) magic, and no second meta page "
            "was found: this is no bolt database, or too damaged for surgery"
        )

    def _find_high_water_mark(self) -> int:
        metas = []
        for slot in range(_META_PAGES):
            data = self._file.read(slot * self.page_size + PAGE_HEADER_SIZE, META_SIZE)
            if len(data) == META_SIZE:
                metas.append(RawMeta.decode(data))
        valid = [meta for meta in metas if meta.problem() is None]
        if valid:
            return max(valid, key=lambda meta: meta.txid).high_water_mark
        # Nothing can be believed. The file's length is the only bound left.
        return max(self.size // self.page_size, 1)

    def meta(self, slot: int) -> RawMeta:
        """The fields of meta page 0 or 1, right or wrong.

        Raises:
            UnreadablePageError: The file ends before it.
        """
        data = self._file.read(slot * self.page_size + PAGE_HEADER_SIZE, META_SIZE)
        return RawMeta.decode(data)

    def block(self, pgid: int) -> bytes:
        """The bytes of one page, without its overflow.

        Raises:
            UnreadablePageError: The file ends before its end.
        """
        return self._bytes(pgid, 1)

    def page(self, pgid: int) -> RawPage:
        """A page with its overflow.

        Raises:
            UnreadablePageError: It says it is another page, or its overflow leaves the
                database; or the file ends before its end.
        """
        header = Header.decode(self._bytes(pgid, 1))
        if header.pgid != pgid:
            raise UnreadablePageError(
                "error: invalid value due to unexpected Page id: "
                f"{header.pgid} != {pgid}"
            )
        # Two metas and the page itself cannot be overflow.
        if header.overflow and header.overflow >= max(self.high_water_mark - 3, 1):
            raise UnreadablePageError(
                f"error: invalid value, Page claims to have {header.overflow} overflow "
                f"pages (>=hwm={self.high_water_mark}). Interrupting to avoid risky OOM"
            )
        self._require_stored(pgid, header.overflow)
        return RawPage(header, self._bytes(pgid, header.overflow + 1))

    def _require_stored(self, pgid: int, overflow: int) -> None:
        """A large run must be in the file, and not a hole of it: it comes into memory.

        Raises:
            UnreadablePageError: Most of it is a hole.
        """
        start, length = pgid * self.page_size, (overflow + 1) * self.page_size
        end = min(start + length, self.size)
        if length > _LARGE and self._file.hole(start, end) > length // 2:
            raise UnreadablePageError(
                f"page {pgid} claims to have {overflow} overflow pages, and most of "
                "them are a hole of the file"
            )

    def _bytes(self, pgid: int, pages: int) -> bytes:
        offset, length = pgid * self.page_size, pages * self.page_size
        # Before reading: what a damaged header claims must not be allocated.
        if offset + length > self.size:
            raise UnreadablePageError(
                f"page {pgid} (offset {offset}, {length} bytes) does not lie in the "
                f"file: EOF at {self.size}"
            )
        return self._file.read(offset, length)

    def write(self, pgid: int, data: bytes) -> None:
        """Write bytes from the start of a page on; not durable before `sync`.

        Raises:
            UnreadablePageError: They would leave the file.
            StorageError: The system refused.
        """
        offset = pgid * self.page_size
        if offset + len(data) > self.size:
            raise UnreadablePageError(
                f"page {pgid} with {len(data)} bytes does not lie in the file: "
                f"EOF at {self.size}"
            )
        self._file.write(offset, [data])

    def write_meta(self, slot: int, meta: RawMeta) -> None:
        """Replace the 64 bytes of a meta; its page header stays."""
        self._file.write(slot * self.page_size + PAGE_HEADER_SIZE, [meta.encode()])

    def sync(self) -> None:
        """Make what was written durable.

        Raises:
            StorageError: The system refused.
        """
        self._file.fdatasync()
