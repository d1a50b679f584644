"""Readers that run between any two I/O operations of the writer.

Theory
======
A commit is a row of writes and syncs. A reader in another thread can run before any of
them, between any two, and after the last:

    writer     pwrite   pwrite   fdatasync   pwrite meta   fdatasync   publish
    readers  ^        ^        ^           ^             ^           ^         ^

Readers write nothing and wait for nothing, so what one of them sees depends on the
state between two operations and on no other reader. Running *all* readers at *every*
such place therefore covers every schedule of readers and writer that switches at
I/O operations, with one execution instead of one for each of the schedules.

At each place every open reader has to show what it showed when it was opened (read
anew from the disk, not from the cache), and a reader that begins there has to show
the last acknowledged commit: not the one that is being written, however much of it is.

It runs in one thread, on purpose: the same program gives the same run.

What it is not: it does not switch between two lines of Python code. `threads` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltmodel.interpret import LiveFailure, Session
from shearbolt import DatabaseNotOpenError
from tornpage.disk import observed

if TYPE_CHECKING:
    from boltmodel.interpret import History
    from boltmodel.model import Bucket
    from boltmodel.programs import Program
    from shearbolt import DB, Tx
    from tornpage.disk import Change, Disk
    from tornpage.subject import Violation

__all__ = ["Interleaved", "run_interleaved"]


class Interleaved:
    """Runs all readers at every operation of the disk.

    Attributes:
        looks: How many places it looked at while readers could run.
        reads: How many reader transactions it looked through.
        violations: What they saw that they must not see; the first of each place.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.looks = 0
        self.reads = 0
        self.violations: list[Violation] = []
        self._looking = False

    def before(self, change: Change, _disk: Disk) -> None:
        """Called by the disk."""
        self._look(f"before {change.op} {change.index}")

    def after(self, change: Change, _disk: Disk) -> None:
        """Called by the disk."""
        self._look(f"after {change.op} {change.index}")

    def _look(self, where: str) -> None:
        session = self.session
        db = None if session is None else session._db
        if session is None or db is None or self._looking:
            return
        self._looking = True
        try:
            fresh = db.begin()
        except DatabaseNotOpenError:
            # It is being reopened: no reader can run.
            self._looking = False
            return
        self.looks += 1
        try:
            for slot, reader in sorted(session._readers.items()):
                self._compare(db, reader.tx, reader.content, f"reader {slot} {where}")
            what = f"a reader that begins {where}"
            self._compare(db, fresh, session.committed, what)
        except LiveFailure as failure:
            self.violations.append(failure.violation)
        finally:
            fresh.rollback()
            self._looking = False

    def _compare(self, db: DB, tx: Tx, promised: Bucket, what: str) -> None:
        assert self.session is not None
        self.reads += 1
        # From the disk again, not from what is remembered of it.
        db.pager.clear()
        tx.root_bucket._root_page = None
        self.session._compare(tx, promised, "R readers", what)


def run_interleaved(program: Program, disk: Disk) -> tuple[History, Interleaved]:
    """Run a program with readers at every operation; as `interpret.run` otherwise."""
    readers = Interleaved()
    session = Session(program, observed(disk, readers), mark=disk.mark)
    try:
        session.open()
        readers.session = session
        for op in program.operations:
            session.step(op)
        readers.session = None
        session.close()
    except LiveFailure as failure:
        session.history.live = (failure.violation,)
        readers.session = None
        session.abandon()
    return session.history, readers
