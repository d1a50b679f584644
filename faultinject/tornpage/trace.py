"""What was done to a disk: one list of records, in order.

Theory
======
A trace is the whole input of the crash explorer. Each record is one operation
that reached the operating system, with its data and with the source line that
issued it. Reads are not in it: they change nothing.

    Create  Write  Truncate  Sync  SyncDir  Forget               operations
    Rename  Link  Unlink  Mkdir  Rmdir
    Mark                                                         not one

A `Mark` is a remark of the program under test ("transaction 7 acknowledged").
It takes no time and moves no byte, so there is no crash inside it; where it
stands among the operations decides from which crash on a promise holds.

Operations on file content carry the inode next to the path: a file keeps its
inode when it is renamed or unlinked while open, its path is only what it was
called when it was opened.

On paper a trace is JSON, one record a line, bytes in base 64:

    {"op": "write", "path": "db", "inode": 1, "offset": 0, "data": "AAEC",
     "site": "tx.py:212"}                                       (one line)
    {"op": "sync", "path": "db", "inode": 1, "kind": "fsync", "site": "tx.py:219"}
    {"op": "mark", "label": "acked", "data": {"txid": 7}, "site": "subject.py:40"}

A `Mark` has no path of its own; its `path` is "".

A sync has a result. What each does to the platter is told in `image`, which of
them a failing disk produces in `model` (parameter `fail`):

    ok          returned 0 and is believed; under sync=lying it may be a lie
    failed      raised; the pages count as clean, some of them arrived
    silent      like failed, but returned 0
    reported    raised for an earlier silent one; nothing was written
    reverted    raised; the page cache went back to the last sync
    read-only   raised; the pages count as clean, nothing can be changed any more
    idle        returned 0 and did nothing, behind that; or, with journal=shared,
                behind one that failed before anything else was changed

A line without a result is a sync that was ok.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import UserList
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "RECORDS",
    "Create",
    "Forget",
    "Link",
    "Mark",
    "Mkdir",
    "NamesOnly",
    "Operation",
    "Record",
    "Rename",
    "Rmdir",
    "Sync",
    "SyncDir",
    "Trace",
    "TraceError",
    "Truncate",
    "Unlink",
    "Write",
    "frozen",
]


class TraceError(ValueError):
    """A line is not a record of a trace."""


@dataclass(frozen=True, slots=True)
class Create:
    """A new empty file got its first name."""

    op: ClassVar[str] = "create"
    path: str
    inode: int
    site: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were handed to the page cache at `offset`."""

    op: ClassVar[str] = "write"
    path: str
    inode: int
    offset: int
    data: bytes = field(repr=False)
    site: str = ""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The size was set, in bytes; bytes added read as zero."""

    op: ClassVar[str] = "truncate"
    path: str
    inode: int
    size: int
    site: str = ""


@dataclass(frozen=True, slots=True)
class Sync:
    """A file was to be made durable; `kind` is "fsync" or "fdatasync".

    `result` is one of the words at the head of the module.
    """

    op: ClassVar[str] = "sync"
    path: str
    inode: int
    kind: str
    site: str = ""
    result: str = "ok"


@dataclass(frozen=True, slots=True)
class SyncDir:
    """The entries of the directory that holds `path` were to be made durable.

    `result` is "ok", "read-only" or "idle".
    """

    op: ClassVar[str] = "syncdir"
    path: str
    site: str = ""
    result: str = "ok"


@dataclass(frozen=True, slots=True)
class Forget:
    """The system was asked to drop what it keeps of a file and need not write."""

    op: ClassVar[str] = "forget"
    path: str
    inode: int
    site: str = ""


@dataclass(frozen=True, slots=True)
class Rename:
    """`path` is called `target` now; what was called so lost that name.

    Of a directory with all that is in it.
    """

    op: ClassVar[str] = "rename"
    path: str
    target: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """The file called `path` is called `target` as well."""

    op: ClassVar[str] = "link"
    path: str
    target: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name was removed."""

    op: ClassVar[str] = "unlink"
    path: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Mkdir:
    """A new empty directory got its name."""

    op: ClassVar[str] = "mkdir"
    path: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Rmdir:
    """The name of an empty directory was removed."""

    op: ClassVar[str] = "rmdir"
    path: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A remark of the program under test; not an operation.

    Attributes:
        label: What kind of remark.
        data: JSON values, as (name, value) pairs sorted by name.
        path: Always "".
        site: The line that made it.
    """

    op: ClassVar[str] = "mark"
    label: str
    data: tuple[tuple[str, Any], ...] = ()
    path: str = ""
    site: str = ""

    def __getitem__(self, name: str) -> Any:
        """The value called `name`.

        Raises:
            KeyError: The mark has no such value.
        """
        for key, value in self.data:
            if key == name:
                return value
        raise KeyError(name)


NamesOnly = Create | Rename | Link | Unlink | Mkdir | Rmdir
"""Operations that change names and no content."""

Operation = Write | Truncate | Sync | SyncDir | Forget | NamesOnly
Record = Operation | Mark

_RESULTS = {
    Sync: ("ok", "failed", "silent", "reported", "reverted", "read-only", "idle"),
    SyncDir: ("ok", "read-only", "idle"),
}

RECORDS: Mapping[str, type[Record]] = {
    kind.op: kind
    for kind in (
        Create,
        Write,
        Truncate,
        Sync,
        SyncDir,
        Forget,
        Rename,
        Link,
        Unlink,
        Mkdir,
        Rmdir,
        Mark,
    )
}
"""The kinds of records by their `op`."""


class Trace(UserList[Record]):
    """Records in the order in which they happened.

    Attributes:
        plumbing: Names of source files that only pass operations on: the line
            of an operation is the innermost one outside of them.
    """

    plumbing: frozenset[str] = frozenset()

    def operations(self) -> list[Operation]:
        """Everything but the marks."""
        return [one for one in self.data if not isinstance(one, Mark)]

    def to_json_lines(self) -> str:
        """The trace on paper, one record a line."""
        return "".join(json.dumps(_to_json(one)) + "\n" for one in self.data)

    @classmethod
    def from_json_lines(cls, lines: str | Iterable[str]) -> Trace:
        """The trace back from paper.

        Raises:
            TraceError: A line is not a record; the message has its number.
        """
        if isinstance(lines, str):
            lines = lines.splitlines()
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(_from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError, binascii.Error) as error:
                raise TraceError(f"line {number} is not a record: {error}") from error
        return cls(records)


def _to_json(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"op": record.op}
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode("ascii")
        elif isinstance(record, Mark) and one.name == "data":
            value = dict(value)
        row[one.name] = value
    return row


def _from_json(row: dict[str, Any]) -> Record:
    rest = dict(row)
    kind = RECORDS[rest.pop("op")]
    if kind is Write:
        rest["data"] = base64.b64decode(rest["data"], validate=True)
    elif kind is Mark:
        rest["data"] = tuple(
            (name, frozen(value)) for name, value in sorted(rest["data"].items())
        )
    elif kind in _RESULTS and rest.get("result", "ok") not in _RESULTS[kind]:
        raise ValueError(f"{kind.op} has no result {rest['result']!r}")
    return kind(**rest)


def frozen(value: Any) -> Any:
    """A JSON value with tuples for lists: what a mark holds."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value
