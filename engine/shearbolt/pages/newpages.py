"""The pages that a commit makes: numbered, encoded, kept, and written at last.

    write_leaf, write_branch, write_moved --> a number, bytes, the page decoded
    write_freelist                        --> a number, bytes
    write_out                             --> all bytes to the file, and a sync

Between the writes and the sync the disk is told to begin, and what is left to do in
memory is done: a sync waits, and the interpreter need not.

A number comes from the freelist, or from behind the last page. None of these pages
is part of the version that was live when the transaction began, so until its meta
is written nothing of this matters to anybody, and a commit that fails forgets it.

The decoded pages go into the cache when the commit has succeeded: the next one
will look for most of them. A load makes thousands of leaves; these are left to the
file.

Source: bbolt tx.go (allocate, write).
"""

from __future__ import annotations

from heapq import merge
from itertools import repeat
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Final

from shearbolt.pages.decoding import decode_leaf
from shearbolt.pages.encoding import (
    encode_bodies,
    encode_body,
    encode_branch,
    encode_freelist_body,
    encode_leaf,
    encode_moved,
    freelist_head,
    freelist_size,
)
from shearbolt.pages.format import (
    ELEMENT_SIZE,
    OWN_CHILD,
    PAGE_HEADER_SIZE,
    Branch,
    BucketValue,
    FormatError,
    Leaf,
    leaf_cost,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shearbolt.database.handle import DB
    from shearbolt.pages.format import Meta, Page
    from shearbolt.pages.pager import Pager
    from shearbolt.stats import Work

__all__ = ["EncodedLeaf", "NewPages"]

_MAX_RUN: Final = 1024
"""Buffers handed to the system at once: as many as Linux takes in one call."""

_FEW: Final = 8
"""So many pages are faster one by one: a commit of one put has five."""

_BEGUN: Final = 1 << 20
"""Bytes after which the disk begins with them, while more is written."""

_PIECE: Final = 1 << 18
"""Bytes of a long freelist at once. Three buffers of 8 MB, as it took to write one of a
million pages whole, may be given back to the system after every commit, by the place
that malloc has found for them. To get them again is 6,000 page faults, 20 ms."""

_MOST_KEPT: Final = 1024
"""When a commit makes more leaves than this the file keeps them: an object takes as
long to make as its page takes to be read, and a load leaves as much memory as it had
pairs."""


class EncodedLeaf(Leaf):
    """A leaf as it was written, decoded when somebody looks into it.

    A commit makes many, and most of them wait for long. To decode one takes as long as
    to read it from the file would; to keep its pairs from the beginning takes half of
    that, and 10 % of a load went into the collector of cycles then.

    Threads may look at once: each decodes it for itself, and finds the same.
    """

    __slots__ = ("_count", "_data")

    def __init__(
        self, pgid: int, overflow: int, count: int, cost: int, data: bytes
    ) -> None:
        # Not by `Leaf`'s: keys and values that are not set lead to `__getattr__`.
        self.pgid = pgid
        self.overflow = overflow
        self.has_buckets = False
        self.cost = cost
        self._count = count
        self._data = data

    def __getattr__(self, name: str) -> tuple[bytes, ...]:
        if name not in {"keys", "values"}:
            raise AttributeError(name)
        data = self._data

        def read(start: int, length: int) -> bytes:
            return data[start : start + length]

        # Another thread has decoded it since this one looked.
        if data:
            page = decode_leaf(self.pgid, self._count, self.overflow, read, len(data))
            self.keys, self.values = page.keys, page.values
            # The cache has counted one of both.
            self._data = b""
        return self.keys if name == "keys" else self.values


class NewPages:
    """The new pages of one transaction.

    Args:
        db: The database.
        meta: The version the transaction began from.
        work: Where it counts what it does.

    Attributes:
        page_size: Bytes a page.
        high_water_mark: The first page id that is not used, these pages included.
        encoded: Their bytes, without the zeros behind the content, by number.
        decoded: The leaf and branch pages among them that need not be decoded.
        contents: The others, by number: how many pairs they have.
    """

    __slots__ = (
        "_db",
        "_long_list",
        "_work",
        "contents",
        "decoded",
        "encoded",
        "high_water_mark",
        "page_size",
    )

    def __init__(self, db: DB, meta: Meta, work: Work) -> None:
        self._db = db
        self._work = work
        self.page_size: Final = db.page_size
        self.high_water_mark = meta.high_water_mark
        self.encoded: dict[int, bytes] = {}
        self.decoded: list[Page] = []
        self.contents: dict[int, int] = {}
        # Of a freelist that is written piece by piece: its first page, and how many.
        self._long_list: tuple[int, int] | None = None

    def forget(self) -> None:
        """Forget them: they are written, or will not be."""
        self.encoded = {}
        self.decoded = []
        self.contents = {}
        self._long_list = None

    def into_cache(self, pager: Pager) -> None:
        """Put the leaf and branch pages into the cache.

        Args:
            pager: The cache's.
        """
        settled = object()
        pager.settled = None
        try:
            for page in self.decoded:
                pager.keep(page)
            if len(self.contents) > _MOST_KEPT:
                pager.forget_all(self.contents)
            else:
                for pgid, count in self.contents.items():
                    pager.keep(self._encoded_leaf(pgid, count))
        finally:
            pager.settled = settled

    def _encoded_leaf(self, pgid: int, count: int) -> EncodedLeaf:
        data, page_size = self.encoded[pgid], self.page_size
        size = len(data)
        cost = leaf_cost(count, size - PAGE_HEADER_SIZE - ELEMENT_SIZE * count)
        return EncodedLeaf(pgid, (size - 1) // page_size, count, cost, data)

    def write_leaves(self, bodies: Sequence[bytes], counts: Sequence[int]) -> list[int]:
        """Put leaves of plain pairs into new pages, one behind the other.

        Args:
            bodies: Each leaf's `encoding.leaf_table`, and the content behind it.
            counts: How many pairs each has.

        Returns:
            The pages' ids.
        """
        if PAGE_HEADER_SIZE + max(map(len, bodies)) <= self.page_size:
            pgids = self._allocate_pages(len(bodies))
            pages = encode_bodies(pgids, counts, bodies)
            self.encoded.update(zip(pgids, pages, strict=True))
        else:
            pgids = []
            for body, count in zip(bodies, counts, strict=True):
                pgid, overflow = self._allocate_run(PAGE_HEADER_SIZE + len(body))
                self.encoded[pgid] = encode_body(pgid, overflow, count, body)
                pgids.append(pgid)
        self.contents.update(zip(pgids, counts, strict=True))
        return pgids

    def write_leaf(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        content: int,
        *,
        plain: bool = False,
    ) -> int:
        """Put a leaf's pairs, sorted, into new pages.

        Args:
            keys: Its keys.
            values: One a key.
            content: Bytes the elements take, their headers included.
            plain: It is known that no value is a bucket.

        Returns:
            The page's id.
        """
        pgid, overflow = self._allocate_run(PAGE_HEADER_SIZE + content)
        has_buckets = not plain and BucketValue in map(type, values)
        data = encode_leaf(pgid, overflow, keys, values, has_buckets)
        cost = leaf_cost(len(keys), content - ELEMENT_SIZE * len(keys))
        page = Leaf(pgid, overflow, tuple(keys), tuple(values), cost, has_buckets)
        self.encoded[pgid] = data
        self.decoded.append(page)
        return pgid

    def write_branch(
        self, keys: Sequence[bytes], children: Sequence[int], content: int
    ) -> int:
        """The same for a branch and its child pages.

        Raises:
            CorruptPageError: A page would become its own child.
        """
        pgid, overflow = self._allocate_run(PAGE_HEADER_SIZE + content)
        try:
            data = encode_branch(pgid, overflow, keys, children)
        except FormatError as error:
            raise self._db.pager.corrupt(pgid, str(error)) from None
        self.encoded[pgid] = data
        size = content - ELEMENT_SIZE * len(keys)
        page = Branch(pgid, overflow, list(keys), list(children), size, data)
        self.decoded.append(page)
        return pgid

    def write_moved(self, old: Branch, children: list[int], moved: list[int]) -> int:
        """The same for a branch that has the keys of an old page, and its bytes.

        Args:
            old: The page.
            children: All child pages.
            moved: Positions of those that the old page has not.

        Returns:
            The new page's id.

        Raises:
            CorruptPageError: A page would become its own child.
        """
        pgid, overflow = self._allocate_run(len(old.data))
        if pgid in children:
            raise self._db.pager.corrupt(pgid, OWN_CHILD)
        places = [(index, children[index]) for index in moved]
        data = encode_moved(old.data, pgid, overflow, places)
        self.encoded[pgid] = data
        size = len(old.data) - PAGE_HEADER_SIZE - ELEMENT_SIZE * len(children)
        self.decoded.append(Branch(pgid, overflow, old.keys, children, size, data))
        return pgid

    def _allocate_run(self, size: int) -> tuple[int, int]:
        count = -(-size // self.page_size)
        return self._allocate(count), count - 1

    def _allocate(self, count: int) -> int:
        """Consecutive pages from the freelist, or from behind the last one."""
        pgid = self._db.freelist.allocate(count)
        if not pgid:
            pgid = self.high_water_mark
            self._plan(pgid + count)
            self.high_water_mark += count
        self._work.page_count += count
        return pgid

    def _allocate_pages(self, count: int) -> list[int]:
        """So many single pages, as `_allocate` gives them one by one."""
        db = self._db
        pgids = db.freelist.allocate_singles(count)
        if more := count - len(pgids):
            first = self.high_water_mark
            behind = range(first, first + more)
            if not db.durable.growth.has_room((behind[-1] + 2) * self.page_size):
                for pgid in behind:
                    self._plan(pgid + 1)
            pgids += behind
            self.high_water_mark += more
        self._work.page_count += count
        return pgids

    def _plan(self, end: int) -> None:
        """Note that the file will end behind page `end`.

        Raises:
            MaxSizeReachedError: It would exceed `max_size`.
        """
        db = self._db
        size = (end + 1) * self.page_size
        db.durable.growth.plan(size, db.max_size)

    def write_freelist(self) -> tuple[int, int]:
        """Put the list of free and pending pages into new pages.

        Returns:
            The first one's id, and how many there are behind it.
        """
        freelist = self._db.freelist
        # One page more than needed when the size is a multiple of the page
        # size, as bbolt does: it takes part in the golden vectors.
        size = freelist_size(len(freelist))
        count = size // self.page_size + 1
        pgid = self._allocate(count)
        # It counts as allocated by this transaction, like any other page. When
        # the next one frees it, it must not count as allocated by that one: a
        # reader of this version would lose it (etcd#8813).
        if size > _PIECE:
            self._long_list = pgid, count
            return pgid, count - 1
        data = encode_freelist_body(pgid, count - 1, freelist.encoded())
        if len(data) <= (count - 1) * self.page_size:
            data = data.ljust(count * self.page_size, b"\0")
        self.encoded[pgid] = data
        return pgid, count - 1

    def write_out(self, meanwhile: Callable[[], None]) -> None:
        """Write all pages to the file, by address, and wait until they are durable.

        Args:
            meanwhile: Called between: the disk writes already.

        Raises:
            StorageError: The system refused a write or the sync.
        """
        db, page_size = self._db, self.page_size
        pager, sync = db.pager, not db.no_sync
        self._work.page_alloc = self._work.page_count * page_size
        start = behind = size = 0
        for pgid, run in self._contiguous():
            offset = pgid * page_size
            length = pager.write(offset, run)
            self._work.write += 1
            behind = offset + length
            size += length
            # Nothing else in between waits to be written: one call for all of it.
            start = start or offset
            if sync and size >= _BEGUN:
                pager.file.begin_writing(start, behind - start)
                start = size = 0
        if sync and size:
            pager.file.begin_writing(start, behind - start)
        meanwhile()
        db.durable.flush(sync)

    def _contiguous(self) -> Iterable[tuple[int, list[bytes]]]:
        """New pages by address, neighbours together: one system call each."""
        if self._long_list is None:
            if len(self.encoded) <= _FEW:
                return self._few_runs()
            return self._neighbours()
        pieces = self._freelist_pieces(*self._long_list)
        return merge(self._neighbours(), pieces, key=itemgetter(0))

    def _freelist_pieces(
        self, pgid: int, count: int
    ) -> Iterator[tuple[int, list[bytes]]]:
        """The freelist in the pages from `pgid` on, made as it is written."""
        page_size, freelist = self.page_size, self._db.freelist
        size = max(_PIECE // page_size, 1) * page_size
        head = freelist_head(pgid, count - 1, len(freelist))
        run, end = [head], pgid + count
        for piece in freelist.pieces((size - len(head)) // 8, size // 8):
            run.append(piece)
            length = sum(map(len, run))
            run.append(bytes(-length % page_size))
            yield pgid, run
            pgid += -(-length // page_size)
            run = []
        if pgid < end:
            yield pgid, [bytes((end - pgid) * page_size)]

    def _neighbours(self) -> Iterator[tuple[int, list[bytes]]]:
        """All that is in `encoded`.

        The zeros behind a page's content are buffers by themselves, one for each
        length: pages are half empty, and filling them up copied all of a large
        commit once more, into memory that had to be had for it.
        """
        pgids = sorted(self.encoded)
        zeros: dict[int, bytes] = {}
        at, count = 0, len(pgids)
        while at < count:
            start = pgids[at]
            end = min(at + _MAX_RUN // 2, count)
            run = None
            if _FEW < end - at == pgids[end - 1] - start + 1:
                run = self._singles(pgids[at:end], zeros)
            if run is None:
                run, end = self._run(pgids, at, zeros)
            yield start, run
            at = end

    def _few_runs(self) -> list[tuple[int, list[bytes]]]:
        """The same at once, for pages that are few."""
        encoded, page_size = self.encoded, self.page_size
        runs: list[tuple[int, list[bytes]]] = []
        behind = 0
        for pgid in sorted(encoded):
            data = encoded[pgid]
            if pgid != behind:
                run: list[bytes] = []
                runs.append((pgid, run))
            run.append(data)
            missing = -len(data) % page_size
            if missing:
                run.append(bytes(missing))
            behind = pgid + (len(data) + missing) // page_size
        return runs

    def _singles(self, pgids: list[int], zeros: dict[int, bytes]) -> list[bytes] | None:
        """The bytes of neighbours; None if one is more than a page, or a full one.

        As `_run`, without a step of the interpreter for each of them.
        """
        pages = list(map(self.encoded.__getitem__, pgids))
        missing = list(map(sub, repeat(self.page_size), map(len, pages)))
        if min(missing) <= 0:
            return None
        for length in set(missing) - zeros.keys():
            zeros[length] = bytes(length)
        run = [b""] * (2 * len(pages))
        run[0::2] = pages
        run[1::2] = map(zeros.__getitem__, missing)
        return run

    def _run(
        self, pgids: list[int], at: int, zeros: dict[int, bytes]
    ) -> tuple[list[bytes], int]:
        """The bytes of pages from one on as long as they are neighbours.

        Args:
            pgids: All pages, sorted.
            at: The position of the first one.
            zeros: Buffers of zeros by their length; more are added.

        Returns:
            Their bytes, and the position behind the last one.
        """
        page_size = self.page_size
        behind, run = pgids[at], list[bytes]()
        while at < len(pgids) and pgids[at] == behind and len(run) < _MAX_RUN - 1:
            data = self.encoded[behind]
            size = len(data)
            missing = -size % page_size
            run.append(data)
            if missing:
                run.append(
                    zeros.get(missing) or zeros.setdefault(missing, bytes(missing))
                )
            behind += (size + missing) // page_size
            at += 1
        return run, at
