"""The online detector: an unsafe write is reported when it is made, crash or not.

Theory
======
Storage that never overwrites what it needs after a crash has one rule behind
nearly everything it promises:

    no write touches a byte that the newest durable version, or a version that
    somebody is still reading, is made of.

A crash shows a breach of it only when the write reaches the platter and the version
that replaces the old one does not, and something reads the place. The rule itself can
be checked at every write, in the run, at once, and it names the line:

    tx.py:560 writes /db [20480, 24576): page 5, reachable from transaction 3

Who knows which bytes a version is made of is a `Guard`, written for one file format. It
sees the disk's bytes, not the code's opinion of them.

This is no replacement for crashing: storage that writes in place under a
journal breaks the rule and is right. And a rule that is kept says nothing about
syncs that are missing. It is the fast half: no crash, no recovery, no search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tornpage.subject import Violation

if TYPE_CHECKING:
    from tornpage.disk.observer import Change
    from tornpage.disk.simulated import Disk

__all__ = ["Detector", "Guard", "Touched"]


class Guard(Protocol):
    """Knows which bytes must stay as they are."""

    def made_of(self, path: str, start: int, stop: int, disk: Disk) -> str:
        """Why bytes [start, stop) of a file must not change now, or ""."""
        ...

    def written(self, path: str, start: int, stop: int) -> None:
        """These bytes have changed: what was known of them is out of date."""
        ...

    def synced(self, path: str, disk: Disk) -> None:
        """A sync of the file worked: there may be a newer durable version."""
        ...


@dataclass(frozen=True, slots=True)
class Touched:
    """A write to bytes that are needed.

    Attributes:
        site: The source line that is to blame.
        chain: All lines that led to the write, innermost first.
        path: The file.
        offset: First byte of the write.
        length: Bytes of it.
        why: What these bytes are part of.
        index: Which operation of the trace it is.
    """

    site: str
    chain: tuple[str, ...]
    path: str
    offset: int
    length: int
    why: str
    index: int

    def __str__(self) -> str:
        end = self.offset + self.length
        return f"{self.site} writes {self.path} [{self.offset}, {end}): {self.why}"

    def violation(self) -> Violation:
        """The same as a broken promise."""
        return Violation(
            "D detector",
            f"A write touches what is needed after a crash: {self}.",
            (
                ("written by", "-", " < ".join(reversed(self.chain))),
                ("bytes", "unchanged", self.why),
            ),
        )


class Detector:
    """An observer that asks its guard at every write; see `observed`.

    Args:
        guard: Knows the file format.
        plumbing: Names of source files that only pass writes on ("pager.py").

    Attributes:
        touched: Every unsafe write so far.
        checked: How many writes and truncates were checked.
    """

    def __init__(self, guard: Guard, plumbing: frozenset[str] = frozenset()) -> None:
        self.touched: list[Touched] = []
        self.checked = 0
        self._guard = guard
        self._plumbing = plumbing

    def before(self, change: Change, disk: Disk) -> None:
        """Check a write or truncate against the guard."""
        if change.op == "write":
            start, stop = change.offset, change.offset + len(change.data)
        elif change.op == "truncate":
            start, stop = change.size, disk.open(change.path).size()
        else:
            return
        self.checked += 1
        if stop <= start or _same(change, disk):
            return
        why = self._guard.made_of(change.path, start, stop, disk)
        if why:
            self.touched.append(
                Touched(
                    change.at(self._plumbing),
                    change.chain,
                    change.path,
                    start,
                    stop - start,
                    why,
                    change.index,
                )
            )

    def after(self, change: Change, disk: Disk) -> None:
        """Keep the guard up to date."""
        if change.op == "write":
            end = change.offset + len(change.data)
            self._guard.written(change.path, change.offset, end)
        elif change.op == "sync":
            self._guard.synced(change.path, disk)


def _same(change: Change, disk: Disk) -> bool:
    """Whether a write puts back what is there: it can hurt nobody.

    Not true of a device whose torn sectors become garbage; the crash model
    knows of those, this rule does not.
    """
    if change.op != "write":
        return False
    # Most writes go behind the end or over other bytes: look at few first.
    file = disk.open(change.path)
    for length in (min(len(change.data), 80), len(change.data)):
        if file.pread(length, change.offset) != change.data[:length]:
            return False
    return True
