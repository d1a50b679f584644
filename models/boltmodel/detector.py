"""The guard of bolt files for the online detector.

Theory
======
A version of a bolt file is its meta page, its freelist and every page that can be
reached from its root bucket, through branches, leaves and the roots of buckets:

    meta --> freelist run
        '--> root leaf/branch --> branch --> leaf --> bucket's root --> ...

Protected are the version of the newest valid meta that a sync has covered, and
every version that an open reader reads. The pages of a version are listed once,
when it becomes durable, by reading the disk: 24 bytes a page and the element
headers. What the engine's own freelist says is what is being checked, so it is
not asked. Its readers are: who reads is known to nobody else.

What has been read of a page is kept until the page is written. A commit changes
few pages, so that listing the next version costs little reading.

A reader has its meta in memory: of an older version the meta page is not needed.

What it is not: a checker of files. Of a version that is not sound it lists what
lies inside the file. Nor is it for programs that switch `no_sync` on: commits that wait
for no sync may write over the durable version, and do.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from boltmodel.interpret import DATABASE, History, LiveFailure, Session
from shearbolt.pages import format as layout
from tornpage.disk import observed
from tornpage.run.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boltmodel.programs import Program
    from tornpage.disk import Disk, DiskFile

__all__ = ["PLUMBING", "BoltGuard", "run_watched"]

PLUMBING: Final = frozenset({"pager.py", "robust.py"})
"""Files of the engine that pass writes on and decide nothing."""

_HEADER: Final = struct.Struct("<QHHI")
_LEAF_ELEMENT: Final = struct.Struct("<IIII")
_BRANCH_ELEMENT: Final = struct.Struct("<IIQ")
_BUCKET_FLAG: Final = 1


class BoltGuard:
    """Knows the pages of the durable version and of those that are read.

    Args:
        path: The database file.
        readers: The transaction ids that are being read now.
    """

    def __init__(
        self, path: str = DATABASE, readers: Callable[[], Iterable[int]] = tuple
    ) -> None:
        self._path = path
        self.readers = readers
        self._page_size = 0
        self._durable = -1
        # Pages of each version that is or may be needed, by transaction.
        self._versions: dict[int, frozenset[int]] = {}
        # Page -> (run length, pages it leads to), until it is written.
        self._known: dict[int, tuple[int, tuple[int, ...]]] = {}

    def made_of(self, path: str, start: int, stop: int, disk: Disk) -> str:
        """Why these bytes must not change now, or ""."""
        del disk
        if path != self._path or not self._page_size:
            return ""
        pages = range(start // self._page_size, -(-stop // self._page_size))
        for txid in dict.fromkeys((self._durable, *self.readers())):
            version = self._versions.get(txid, frozenset())
            durable = txid == self._durable
            for pgid in sorted(version.intersection(pages)):
                if durable or pgid > 1:
                    whose = "the newest durable" if durable else "read"
                    return f"page {pgid} of transaction {txid}, which is {whose}"
        return ""

    def written(self, path: str, start: int, stop: int) -> None:
        """Forget what was read of these pages."""
        if path == self._path and self._page_size:
            for pgid in range(start // self._page_size, -(-stop // self._page_size)):
                self._known.pop(pgid, None)

    def synced(self, path: str, disk: Disk) -> None:
        """List the pages of the newest version, if there is a new one."""
        if path != self._path:
            return
        file = disk.open(path)
        meta = self._newest(file)
        if meta is None:
            return
        if meta.txid == self._durable:
            return
        self._versions[meta.txid] = self._pages_of(meta, file)
        self._durable = meta.txid
        needed = {meta.txid, *self.readers()}
        for txid in [one for one in self._versions if one not in needed]:
            del self._versions[txid]

    def _newest(self, file: DiskFile) -> layout.Meta | None:
        found: layout.Meta | None = None
        for slot in range(2):
            # Which the first meta tells, when none was read before.
            place = slot * (self._page_size or 4096)
            try:
                meta = layout.Meta.decode(
                    file.pread(layout.META_SIZE, place + layout.PAGE_HEADER_SIZE)
                )
            except layout.MetaError:
                continue
            if found is None or meta.txid > found.txid:
                found = meta
            self._page_size = meta.page_size
        return found

    def _pages_of(self, meta: layout.Meta, file: DiskFile) -> frozenset[int]:
        """All pages of a version."""
        pages = {meta.slot}
        end = meta.high_water_mark
        waiting = [meta.root]
        if meta.freelist != layout.NO_FREELIST:
            waiting.append(meta.freelist)
        while waiting:
            pgid = waiting.pop()
            if pgid in pages or not 2 <= pgid < end:
                continue
            run, children = self._page(pgid, file)
            pages.update(range(pgid, min(pgid + run, end)))
            waiting += children
        return frozenset(pages)

    def _page(self, pgid: int, file: DiskFile) -> tuple[int, tuple[int, ...]]:
        known = self._known.get(pgid)
        if known is None:
            known = self._known[pgid] = self._read(pgid, file)
        return known

    def _read(self, pgid: int, file: DiskFile) -> tuple[int, tuple[int, ...]]:
        base = pgid * self._page_size
        header = file.pread(_HEADER.size, base).ljust(_HEADER.size, b"\0")
        _, flags, count, overflow = _HEADER.unpack(header)
        children: list[int] = []
        table = file.pread(16 * count, base + 16) if flags & 3 else b""
        table = table[: len(table) // 16 * 16]
        if flags == layout.BRANCH:
            children = [one[2] for one in _BRANCH_ELEMENT.iter_unpack(table)]
        elif flags == layout.LEAF:
            for at, (kind, pos, ksize, _) in enumerate(
                _LEAF_ELEMENT.iter_unpack(table)
            ):
                if kind & _BUCKET_FLAG:
                    value = file.pread(8, base + 16 + 16 * at + pos + ksize)
                    root = int.from_bytes(value, "little")
                    if root:  # 0: the bucket is inline
                        children.append(root)
        return overflow + 1, tuple(children)


def run_watched(program: Program, disk: Disk) -> tuple[History, Detector]:
    """Run a program with the detector on; as `interpret.run` otherwise."""
    guard = BoltGuard()
    detector = Detector(guard, PLUMBING)
    session = Session(program, observed(disk, detector), mark=disk.mark)

    def readers() -> list[int]:
        return [*session._db._readers.values()] if session._db is not None else []

    guard.readers = readers
    try:
        session.open()
        for op in program.operations:
            session.step(op)
        session.close()
    except LiveFailure as failure:
        session.history.live = (failure.violation,)
        session.abandon()
    return session.history, detector
