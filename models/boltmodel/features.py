"""What a program really exercised: the shapes its trees went through.

Theory
======
A run that finds nothing is worth what it did. Counting operations says little: a
thousand puts may all have gone to one inline bucket. So the trace of a run is read
again, as bytes: every meta that was written describes a version, every version is
walked from its root, and two neighbouring versions tell what a commit did.

    write, write, ... write of a meta  -->  version t:  {bucket: shape}
                                            version t+1:  ...
                                                 |
                       "leaf split", "inline to pages", "freelist overflow" ...

A feature is a short text; a set of them is what a program covers. `SOMETIMES` are
those that a run of some length must have seen: one that was never seen makes a pass
suspicious.

What it is not: it judges nothing, and asks the engine for nothing but how bytes
are laid out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from boltmodel.unsynced import is_relaxed
from shearbolt.pages.decoding import decode_branch, decode_bucket, decode_leaf
from shearbolt.pages.format import (
    BRANCH,
    FREELIST,
    META,
    META_SIZE,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    BucketValue,
    FormatError,
    Header,
    Meta,
    Page,
)
from tornpage.certificate import NOTHING_PROMISED
from tornpage.trace import Mark, Truncate, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from boltmodel.model import Path
    from tornpage.trace import Record

__all__ = ["SOMETIMES", "Shape", "features", "never_seen"]

_MAX_DEPTH: Final = 6
_BLOCK: Final = 1024
_NOTHING: Final = bytes(_BLOCK)
_FLAGS_AT: Final = slice(8, 10)
"""Where a page's header says what it is."""

SOMETIMES: Final = frozenset(
    {
        "depth 2",
        "depth 3",
        "leaf split",
        "leaves merged",
        "tree grows a level",
        "tree loses a level",
        "overflow leaf",
        "inline to pages",
        "pages to inline",
        "inline bucket",
        "empty bucket",
        "nesting 2",
        "freelist overflow",
        "no freelist",
        "page used again",
        "file grows",
        "bucket deleted",
        "reopened",
    }
)
"""Features that a run of a hundred programs has seen at least once."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One bucket of one version.

    Attributes:
        depth: Levels of pages, 0 when it is inline.
        leaves: Leaf pages.
        overflow: Whether a leaf goes on in further pages.
        keys: Keys, of values and of buckets.
    """

    depth: int
    leaves: int
    overflow: bool
    keys: int


def features(trace: Iterable[Record]) -> frozenset[str]:
    """What the run with this trace went through."""
    seen: set[str] = set()
    pages = _Pages()
    before: dict[Path, Shape] | None = None
    opened = 0
    for record in trace:
        if isinstance(record, Mark):
            opened += record.label == "opened"
            if record.label == "begin" and is_relaxed(record):
                seen.add(NOTHING_PROMISED)
        elif isinstance(record, Truncate):
            seen.add("file grows")
        elif isinstance(record, Write):
            meta = pages.written(record, seen)
            if meta is None:
                continue
            version = pages.version(meta, seen)
            seen.update(_of_version(version))
            if before is not None:
                seen.update(_of_commit(before, version))
            before = version
    if opened > 1:
        seen.add("reopened")
    return frozenset(seen)


def never_seen(seen: Iterable[str]) -> list[str]:
    """What a run should have seen and has not, sorted."""
    return sorted(SOMETIMES.difference(seen))


class _Pages:
    """The file as the program sees it, page by page."""

    def __init__(self) -> None:
        # Only what was written: a program may write behind a gigabyte of others' pages.
        self._blocks: dict[int, bytes] = {}
        self._size = 0
        self._used: set[int] = set()

    def written(self, record: Write, seen: set[str]) -> Meta | None:
        """Take a write in; the meta it wrote, if it wrote one."""
        end = record.offset + len(record.data)
        self._write(record.offset, record.data)
        flags = int.from_bytes(record.data[_FLAGS_AT], "little")
        if flags == META:
            try:
                meta = Meta.decode(record.data[PAGE_HEADER_SIZE:][:META_SIZE])
            except FormatError:
                return None
            self._size = meta.page_size
            return meta
        if self._size:
            first = record.offset // self._size
            numbers = range(first, -(-end // self._size))
            if self._used.intersection(numbers):
                seen.add("page used again")
            self._used.update(numbers)
        return None

    def _write(self, offset: int, data: bytes) -> None:
        at, low = divmod(offset, _BLOCK)
        if not low and not len(data) % _BLOCK:
            for begin in range(0, len(data), _BLOCK):
                self._blocks[at + begin // _BLOCK] = data[begin : begin + _BLOCK]
            return
        whole = self._read(at * _BLOCK, low) + data
        behind = at + -(-len(whole) // _BLOCK)
        whole += self._read(at * _BLOCK + len(whole), -len(whole) % _BLOCK)
        for number in range(at, behind):
            begin = (number - at) * _BLOCK
            self._blocks[number] = whole[begin : begin + _BLOCK]

    def _read(self, start: int, length: int) -> bytes:
        """Bytes of the file, zeros where nobody has written."""
        first, behind = start // _BLOCK, -(-(start + length) // _BLOCK)
        blocks = [self._blocks.get(at, _NOTHING) for at in range(first, behind)]
        begin = start - first * _BLOCK
        return b"".join(blocks)[begin : begin + length]

    def version(self, meta: Meta, seen: set[str]) -> dict[Path, Shape]:
        """The shapes of all buckets of a version."""
        if meta.freelist == NO_FREELIST:
            seen.add("no freelist")
        elif self._header(meta.freelist).flags == FREELIST and (
            self._header(meta.freelist).overflow
        ):
            seen.add("freelist overflow")
        found: dict[Path, Shape] = {}
        pending: list[tuple[Path, bytes | int]] = [((), meta.root)]
        while pending:
            path, place = pending.pop()
            try:
                shape, below = self._bucket(place)
            except (FormatError, IndexError):
                # A write of a meta may come before its pages, in broken code.
                continue
            found[path] = shape
            pending += [((*path, name), value) for name, value in below]
        return found

    def _bucket(self, place: bytes | int) -> tuple[Shape, list[tuple[bytes, bytes]]]:
        if isinstance(place, bytes):
            root, _, inline = decode_bucket(place)
            if inline is not None:
                return Shape(0, 0, False, len(inline.keys)), []
        else:
            root = place
        level, depth = [self._page(root)], 1
        while level and not level[0].is_leaf and depth < _MAX_DEPTH:
            level = [self._page(child) for page in level for child in page.children]
            depth += 1
        leaves = [page for page in level if page.is_leaf]
        below = [
            (name, bytes(value))
            for page in leaves
            for name, value in zip(page.keys, page.values, strict=True)
            if value.__class__ is BucketValue
        ]
        overflow = any(page.overflow for page in leaves)
        keys = sum(len(page.keys) for page in leaves)
        return Shape(depth, len(leaves), overflow, keys), below

    def _header(self, pgid: int) -> Header:
        return Header.decode(self._read(pgid * self._size, PAGE_HEADER_SIZE))

    def _page(self, pgid: int) -> Page:
        at, head = pgid * self._size, self._header(pgid)

        def read(start: int, length: int) -> bytes:
            return self._read(at + start, length)

        limit = (head.overflow + 1) * self._size
        decode = decode_branch if head.flags == BRANCH else decode_leaf
        page: Page = decode(pgid, head.count, head.overflow, read, limit)
        return page


def _of_version(version: Mapping[Path, Shape]) -> Iterator[str]:
    for path, shape in version.items():
        if path:
            yield f"nesting {min(len(path), 3)}"
            if not shape.keys:
                yield "empty bucket"
        if not shape.depth:
            yield "inline bucket"
            continue
        yield f"depth {min(shape.depth, 4)}"
        if shape.overflow:
            yield "overflow leaf"


def _of_commit(
    before: Mapping[Path, Shape], after: Mapping[Path, Shape]
) -> Iterator[str]:
    for path, new in after.items():
        old = before.get(path)
        if old is None:
            continue
        if old.depth and new.depth:
            if new.depth != old.depth:
                grown = new.depth > old.depth
                yield "tree grows a level" if grown else "tree loses a level"
            if new.leaves > old.leaves:
                yield "leaf split"
            elif new.leaves < old.leaves:
                yield "leaves merged"
        elif new.depth:
            yield "inline to pages"
        elif old.depth:
            yield "pages to inline"
    if before.keys() - after.keys():
        yield "bucket deleted"
