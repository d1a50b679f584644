"""Why a crash breaks a promise: the one order that the code fails to enforce.

Theory
======
A violated crash point says which sectors were lost in one execution, often many.
The reason is nearly always one sentence:

    the write at tx.py:212 (leaf page 5) must be durable before
    the write at tx.py:240 (meta 0, txid 4)

It is found by asking for the simplest disk that shows the violation: everything
that was issued has arrived, except one operation A.

    ops     a  b  A  c  d  B  e |crash        A has no sync of its file behind it
    disk    a  b  -  c  d  B                  breaks the promise
            a  b  -  c  d                     does not

Then A lost and B kept is the reason. When it takes no later operation but a
promise ("acknowledged"), B is that. Two other reasons are asked for, in this order:

    nothing is lost at all        with A, and all before it, on the disk the promise
                                  is broken already
    no single A can be lost       A arrives in part, and is taken to be atomic, or to be
                                  whole before B; or its size comes and its bytes do not
    nor is one torn by itself     A is lost and B arrives in part: what A keeps is for
                                  just that, the old pages of an undo log say

Each answer is a disk that the crash model has (`rebuilt`): where the model keeps an
order, what comes after A in it is lost with A. It is recovered, so it is a fact and
not a guess. There may be others: the
first A in the order of issue is reported, suspects before all. What it is not: a
search for violations; it explains one that was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornpage.choices import Replay
from tornpage.disk.simulated import Disk
from tornpage.model import CrashModel
from tornpage.platter import transition
from tornpage.platter.image import Image
from tornpage.story.rebuilt import Part, parts, platter_but, sizes_before
from tornpage.story.timeline import directory_of, kind_of
from tornpage.trace import (
    Mark,
    NamesOnly,
    Sync,
    SyncDir,
    Truncate,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
    from collections.abc import Sequence as Seq

    from tornpage.explore.schedule import CrashPoint
    from tornpage.faults.corruption import Span
    from tornpage.subject import Violation
    from tornpage.trace import Operation, Record

__all__ = ["Cause", "Change", "changes", "explain", "strip"]


@dataclass(frozen=True, slots=True)
class Cause:
    """The order that is missing.

    Attributes:
        lost: The operation that may be lost, or arrive in part.
        kept: What makes that a violation: an operation or a mark; None when
            the crash alone does.
        lost_index: Which operation of the trace `lost` is.
        kept_index: The same for `kept`; -1 for a mark.
        torn: Which bytes of `lost` arrived, [first, behind the last), where it came
            in part; (0, 0): none, but the file is longer. None: nothing of it came.
        kept_torn: The same of `kept`; None where all of it came.
        early: Whether it is the other way round: `lost` did arrive, too early.
        violation: What it breaks.
        sentence: All of it in words.
    """

    lost: Operation
    kept: Operation | Mark | None
    lost_index: int
    kept_index: int
    torn: tuple[int, int] | None
    kept_torn: tuple[int, int] | None
    early: bool
    violation: Violation
    sentence: str


@dataclass(frozen=True, slots=True)
class Change:
    """A named part of a file that is not what it should be.

    Attributes:
        place: What it is ("live meta: txid").
        offset: Its first byte.
        promised: Its bytes as they should be.
        found: As they are.
    """

    place: str
    offset: int
    promised: bytes
    found: bytes

    def __str__(self) -> str:
        return f"{self.place} at {self.offset}: {_short(self.promised)} -> " + _short(
            self.found
        )


def explain(
    files: Mapping[str, bytes],
    trace: Iterable[Record],
    recover: Callable[[Disk], Hashable],
    judge: Callable[[tuple[Mark, ...], Hashable], Seq[Violation]],
    point: CrashPoint,
    *,
    model: CrashModel | None = None,
    locate: Callable[[str, int, bytes], str] | None = None,
    suspects: Iterable[int] = (),
    limit: int = 1_000,
) -> Cause | None:
    """The simplest reason why a crash at this point breaks a promise.

    Args:
        files: What was durable before the run.
        trace: The run.
        recover: Reopens what a crash left.
        judge: The promises that an outcome breaks, given the marks before.
        point: A crash point that was found to be violated.
        model: What may be lost at that point, and what the rebuilt disks are of.
        locate: What bytes of a file are, for the sentence; see `Subject.locate`.
        suspects: Operations to try before all others, by their place in the run.
        limit: Most disks to rebuild and recover.

    Returns:
        None when no single lost or torn operation explains it, nor one of each, or
        none was found on so many disks.
    """
    first = frozenset(suspects)
    search = _Search(files, list(trace), recover, judge, model, first, limit)
    upto = point.index
    if point.inside and not isinstance(search.operations[upto], Sync | SyncDir):
        upto += 1
    try:
        found = (
            search.early_one(upto)
            or search.lost_one(upto)
            or search.torn_one(upto)
            or search.lost_and_torn(upto)
        )
    except _EnoughError:
        return None
    return None if found is None else found.told(search.operations, _namer(locate))


def strip(points: Iterable[tuple[bool, bool]], width: int = 72) -> list[str]:
    """Crash points as lines of characters, one a point, in order.

    Args:
        points: (violated, closed) of each crash point.
        width: Most characters a line.

    Returns:
        "." nothing can go wrong, "X" a promise breaks, "?" not closed.
    """
    line = "".join(
        "X" if violated else "." if closed else "?" for violated, closed in points
    )
    return [line[at : at + width] for at in range(0, len(line), width)]


def changes(promised: bytes, found: bytes, spans: Iterable[Span]) -> Iterator[Change]:
    """What differs between two contents, by the names of its parts.

    Args:
        promised: The content as it should be.
        found: As it is; shorter is cut off, which reads as zero here.
        spans: What the parts of `promised` are.
    """
    for one in sorted(spans, key=lambda span: span.start):
        want = promised[one.start : one.stop]
        have = found[one.start : one.stop].ljust(len(want), b"\0")
        if want != have:
            yield Change(one.place, one.start, want, have)


@dataclass(frozen=True, slots=True)
class _Found:
    """An explanation; the attributes are those of `Cause`."""

    lost: int
    kept: Operation | Mark | None
    kept_index: int
    violation: Violation
    torn: Part | None = None
    kept_torn: Part | None = None
    early: bool = False

    def told(
        self, operations: Seq[Operation], name: Callable[[Operation], str]
    ) -> Cause:
        """The same in words."""
        lost = operations[self.lost]
        return Cause(
            lost,
            self.kept,
            self.lost,
            self.kept_index,
            _bytes(self.torn),
            _bytes(self.kept_torn),
            self.early,
            self.violation,
            self._sentence(name(lost), name),
        )

    def _sentence(self, lost: str, name: Callable[[Operation], str]) -> str:
        if self.early:
            return f"nothing has to be lost; it is broken as soon as {lost} has arrived"
        kept, torn = self.kept, self.torn
        # What comes before an operation is a matter of order, and a sync mends it.
        ordered = kept is not None and not isinstance(kept, Mark)
        if torn is not None and torn.behind and not ordered:
            sentence = f"{lost} is not atomic: only {_arriving(torn)} of it may arrive"
            if kept is not None:
                sentence += f", after {_arrived(kept, name)}"
            return sentence
        sentence = f"{lost} must be durable"
        if kept is not None:
            sentence += f" before {_arrived(kept, name)}"
        if torn is not None and torn.behind:
            sentence += f"; only {_arriving(torn)} of it may have arrived"
        elif torn is not None:
            sentence += "; the file may have its new size without these bytes"
        if self.kept_torn is not None and self.kept_torn.behind:
            sentence += f", of which only {_arriving(self.kept_torn)} may arrive"
        elif self.kept_torn is not None:
            sentence += ", of which only the new size of the file may arrive"
        return sentence


class _EnoughError(Exception):
    """As many disks were tried as was allowed."""


class _Search:
    """Rebuilds disks without one operation and judges what recovery shows."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        records: list[Record],
        recover: Callable[[Disk], Hashable],
        judge: Callable[[tuple[Mark, ...], Hashable], Seq[Violation]],
        model: CrashModel | None,
        suspects: frozenset[int],
        limit: int,
    ) -> None:
        self._suspects = suspects
        self._left = limit
        self._files = files
        self._recover = recover
        self._judge = judge
        self._model = model if model is not None else CrashModel()
        self._open: frozenset[int] = frozenset()
        self.operations: list[Operation] = []
        self._marks: list[Mark] = []
        # How many marks come before each operation, and before the end.
        self._before: list[int] = []
        for record in records:
            if isinstance(record, Mark):
                self._marks.append(record)
            else:
                self._before.append(len(self._marks))
                self.operations.append(record)
        self._before.append(len(self._marks))

    def early_one(self, upto: int) -> _Found | None:
        """The first operation that breaks a promise by having arrived."""
        for end in range(1, upto + 1):
            broken = self._broken(end, None, None, self._before[end])
            if broken is not None:
                return _Found(end - 1, None, -1, broken, early=True)
        return None

    def lost_one(self, upto: int) -> _Found | None:
        """An operation that is lost, and the first thing that makes it matter."""
        for lost in self._pending(upto):
            for end in range(lost + 1, upto + 1):
                broken = self._broken(end, lost, None, self._before[end])
                if broken is None:
                    continue
                return _Found(lost, *self._kept(end, lost, None), broken)
        return None

    def torn_one(self, upto: int) -> _Found | None:
        """A write that arrives in part."""
        for at, torn in self._parts(upto):
            broken = self._broken(upto, None, (at, torn), self._before[upto])
            if broken is not None:
                return _Found(at, *self._kept(upto, None, (at, torn)), broken, torn)
        return None

    def lost_and_torn(self, upto: int) -> _Found | None:
        """An operation that is lost before a write that arrives in part.

        Which parts there are rests on the size that the file had before.
        """
        sizes = [*sizes_before(self._files, self.operations[:upto])]
        pending = self._pending(upto)
        for at, torn in self._parts(upto):
            marks = self._before[at + 1]
            if self._broken(at + 1, None, (at, torn), marks) is not None:
                # It takes no loss.
                continue
            for lost in pending:
                if lost >= at or at in self._with(lost, at + 1):
                    continue
                if self._resized(lost, sizes[lost], self.operations[at]):
                    continue
                broken = self._broken(at + 1, lost, (at, torn), marks)
                if broken is not None:
                    write = self.operations[at]
                    return _Found(lost, write, at, broken, kept_torn=torn)
        return None

    def _resized(self, lost: int, before: int, file: Operation) -> bool:
        """Whether an operation changes the size of the file of another one."""
        record = self.operations[lost]
        match record:
            case Write():
                after = max(before, record.offset + len(record.data))
            case Truncate():
                after = record.size
            case _:
                return False
        return after != before and record.inode == getattr(file, "inode", None)

    def _parts(self, upto: int) -> Iterator[tuple[int, Part]]:
        """The writes before `upto` that may arrive in part, and the parts."""
        sizes = [*sizes_before(self._files, self.operations[:upto])]
        for at in self._pending(upto):
            record = self.operations[at]
            if isinstance(record, Write):
                for torn in parts(record, sizes[at], self._model):
                    yield at, torn

    def _kept(
        self, end: int, lost: int | None, torn: tuple[int, Part] | None
    ) -> tuple[Operation | Mark | None, int]:
        """What the violation needs besides the loss: the last thing before `end`."""
        marks = self._before[end]
        first = lost if torn is None else torn[0]
        assert first is not None
        if end - 1 > first:
            without = self._broken(end - 1, lost, torn, marks)
            if without is None:
                return self.operations[end - 1], end - 1
        while marks and self._broken(end, lost, torn, marks - 1) is not None:
            marks -= 1
        return (self._marks[marks - 1], -1) if marks else (None, -1)

    def _broken(
        self, end: int, lost: int | None, torn: tuple[int, Part] | None, marks: int
    ) -> Violation | None:
        """What breaks when the first `end` operations arrived, but not `lost`.

        Of the operation `torn[0]` only `torn[1]` arrived.
        """
        if not self._left:
            raise _EnoughError
        self._left -= 1
        outcome = self._recover(self._disk(self.operations[:end], lost, torn))
        found = self._judge(tuple(self._marks[:marks]), outcome)
        return found[0] if found else None

    def _disk(
        self, done: Seq[Operation], lost: int | None, torn: tuple[int, Part] | None
    ) -> Disk:
        gone: set[int] = set()
        for one in lost, torn and torn[0]:
            if one is not None:
                gone.update(self._with(one, len(done)))
        return Disk.on_image(
            platter_but(self._files, self._model, done, gone, torn), Replay(())
        )

    def _with(self, lost: int, end: int) -> Iterator[int]:
        """An operation that is lost, and those that the model then loses, too."""
        model, first = self._model, self.operations[lost]
        # Which writes made a file longer is not looked at: to lose too much makes
        # fewer explanations, and no wrong one.
        appends = model.order == "append" or model.size != "free"
        yield lost
        for at in sorted(self._open):
            if not lost < at < end:
                continue
            one = self.operations[at]
            names = isinstance(first, NamesOnly) and isinstance(one, NamesOnly)
            file = (
                isinstance(first, Write | Truncate)
                and isinstance(one, Write | Truncate)
                and one.inode == first.inode
            )
            if (
                model.order == "ordered"
                or (names and model.entries == "prefix")
                or (file and appends)
            ):
                yield at

    def _pending(self, upto: int) -> list[int]:
        """The operations before `upto` that may be lost, whole or in part.

        Others are not lost with one of them either: they are durable by then, though
        an earlier one is not whose sync had failed.
        """
        image = Image(self._files, self._model)
        for record in self.operations[:upto]:
            transition.apply(image, record)
        # An image's stamps count operations, as we do.
        self._open = frozenset(image.pending())
        if self._model.order == "ordered":
            # What a failed sync left is in no order any more, but for its size.
            failed = [
                at
                for at, one in enumerate(self.operations[:upto])
                if isinstance(one, Sync)
                and one.result not in {"ok", "reported", "idle"}
            ]
            self._open = frozenset(
                one for one in self._open if one > max(failed, default=-1)
            )
        return sorted(self._open, key=lambda one: (one not in self._suspects, one))


def _namer(
    locate: Callable[[str, int, bytes], str] | None,
) -> Callable[[Operation], str]:
    def name(operation: Operation) -> str:
        # One line of a store may write to many files, and give them their names.
        place: str = getattr(operation, "target", operation.path)
        if isinstance(operation, Write) and locate is not None:
            data = operation.data
            place = locate(operation.path, operation.offset, data) or place
        elif isinstance(operation, SyncDir):
            place = directory_of(place)
        return f"the {kind_of(operation)} at {operation.site} ({place})"

    return name


def _bytes(part: Part | None) -> tuple[int, int] | None:
    return None if part is None else (part.first, part.behind)


def _arriving(part: Part) -> str:
    return f"bytes {part.first} to {part.behind}"


def _arrived(kept: Operation | Mark, name: Callable[[Operation], str]) -> str:
    if isinstance(kept, Mark):
        facts = " ".join(f"{key}={value}" for key, value in kept.data)
        return f"the promise {kept.label}{' ' + facts if facts else ''}"
    return name(kept)


def _short(data: bytes) -> str:
    if len(data) <= 8:
        return str(int.from_bytes(data, "little"))
    text = data[:24].hex()
    return text if len(data) <= 24 else f"{text}... ({len(data)} bytes)"
