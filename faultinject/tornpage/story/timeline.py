"""The disk's operations around a crash, as a story shows them.

       5  write     toy.db 2048..2176 slot 1                 toy_store.py:106
       6  fdatasync toy.db                                   toy_store.py:98
          mark      acknowledged txid=1                      toy_store.py:160
       7  write     toy.db 0..128 slot 0                     toy_store.py:106
    >>>>  crash here; not yet durable: operation 7
          without the crash there would have followed:
       8  fdatasync toy.db                                   toy_store.py:98

Operations are numbered from 1, as people count; the explorer counts how many were
completed, so "after operation n" is its index n. Of a long trace the last few before
the crash are shown and two that never came to be; what is left out is counted.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from tornpage.trace import (
    Link,
    Mark,
    Rename,
    Sync,
    SyncDir,
    Truncate,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tornpage.explore.explorer import CrashPoint
    from tornpage.subject import Subject
    from tornpage.trace import Operation, Record, Trace

__all__ = ["directory_of", "kind_of", "line_of", "timeline", "where"]

_WIDTH = 80
_LEFT = 18
_BEFORE = 14
_AFTER = 2
_FAILED = {
    "failed": "FAILED",
    "silent": "FAILED, and returned 0",
    "reported": "FAILED, for an earlier one",
    "reverted": "FAILED",
    "read-only": "FAILED: read-only from here on",
    "idle": "returned 0, and did nothing",
}
# Paths of so many characters are not cut.
_LONG = 16


def kind_of(operation: Operation) -> str:
    """The system call's name."""
    if isinstance(operation, Sync):
        return operation.kind
    if isinstance(operation, SyncDir):
        return "fsync dir"
    return operation.op


def directory_of(path: str) -> str:
    """What the sync of a directory is of, for people.

    It is known by a path in the directory; the one that says which is `d/.`.
    """
    return (path.removesuffix("/.") or "/") if path.endswith("/.") else path


def where(operations: Sequence[Operation], point: CrashPoint) -> str:
    """Where a crash point lies, as a kind: "inside write", "before fsync"."""
    if point.index >= len(operations):
        return "at the end"
    side = "inside" if point.inside else "before"
    return f"{side} {kind_of(operations[point.index])}"


def line_of(subject: Subject, record: Record) -> str:
    """What a record did, without its number and its source line."""
    match record:
        case Sync(path=path, result=result) | SyncDir(path=path, result=result) if (
            result != "ok"
        ):
            return f"{path}  {_FAILED[result]}"
        case Mark(label=label, data=data):
            facts = " ".join(f"{name}={value}" for name, value in data)
            return f"{label} {facts}".rstrip()
        case Write(path=path, offset=offset, data=data):
            place = subject.locate(path, offset, data)
            return f"{path} {offset}..{offset + len(data)}  {place}".rstrip()
        case Truncate(path=path, size=size):
            return f"{path} to {size} bytes"
        case Rename(path=path, target=target):
            return f"{path} to {target}"
        case Link(path=path, target=target):
            return f"{path} as {target}"
        case SyncDir(path=path):
            return f"of {directory_of(path)}"
        case _:
            return record.path


def timeline(
    subject: Subject,
    trace: Trace | Sequence[Record],
    point: CrashPoint,
    pending: Iterable[int],
) -> list[str]:
    """The lines around the crash, 80 columns at most.

    Args:
        subject: Says what stands at a place in a file.
        trace: What was done.
        point: The crash.
        pending: Operations that it may lose, whole or in part, counted from 0.
    """
    before, during, after = _split(trace, point)
    hidden = max(0, len(before) - _BEFORE)
    shown = (*before[hidden:], *during)
    rest = after[:_AFTER]
    # Sites are right of everything and as wide as the widest, so that what was
    # done keeps as much room as it can.
    sites = max((len(record.site) for _, record in (*shown, *rest)), default=0)
    room = _WIDTH - _LEFT - sites - 2

    def rows(entries: Iterable[tuple[str, Record]]) -> Iterator[str]:
        for number, record in entries:
            kind = "mark" if isinstance(record, Mark) else kind_of(record)
            text = _fit(line_of(subject, record), room)
            left = f"  {number:>4}  {kind:<9} {text:<{room}}"
            yield f"{left}  {record.site}".rstrip()[:_WIDTH]

    lines = []
    if hidden:
        earlier = sum(not isinstance(record, Mark) for _, record in before[:hidden])
        lines.append(f"        ... {earlier:,} earlier operations ...")
    lines += rows(shown)
    place = "while this is going on" if during else "here"
    lost = _spans([one + 1 for one in sorted(pending)])
    crash = f"crash {place}; not yet durable: {lost}"
    lines += textwrap.wrap(
        crash, _WIDTH, initial_indent="  >>>>  ", subsequent_indent=" " * 8
    )
    if rest:
        lines.append("        without the crash there would have followed:")
        lines += rows(rest)
    return lines


def _fit(text: str, room: int) -> str:
    """A line in so many columns. Of a long path the end says most."""
    if len(text) <= room:
        return text
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if "/" in word and len(word) > _LONG]
    if long:
        left = room - (len(text) - sum(len(words[at]) for at in long))
        each = max(left // len(long), _LONG)
        for at in long:
            if len(words[at]) > each:
                words[at] = f"...{words[at][3 - each :]}"
    return textwrap.shorten(" ".join(words), room, placeholder="...")


_Numbered = list[tuple[str, "Record"]]


def _split(
    trace: Trace | Sequence[Record], point: CrashPoint
) -> tuple[_Numbered, _Numbered, _Numbered]:
    """Records before the crash, the one it happens in, and the rest.

    A mark belongs before the crash when every operation before it was completed.
    """
    before: _Numbered = []
    during: _Numbered = []
    after: _Numbered = []
    done = 0
    for record in trace:
        if isinstance(record, Mark):
            (before if done <= point.index and not during else after).append(
                ("", record)
            )
            continue
        entry = (str(done + 1), record)
        if done < point.index:
            before.append(entry)
        elif done == point.index and point.inside:
            during.append(entry)
        else:
            after.append(entry)
        done += 1
    return before, during, after


def _spans(numbers: Sequence[int]) -> str:
    """Say "operations 3, 5-9" for [3, 5, 6, 7, 8, 9]."""
    if not numbers:
        return "nothing"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
    return f"operation{'s' * (len(numbers) > 1)} {text}"
