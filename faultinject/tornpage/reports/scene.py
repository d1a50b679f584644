"""One failure as plain data, ready to be drawn.

    token --> failure --> experiment --> Scene --> SVG, HTML, anything else
                          (replayed)

A story is text for people. A picture needs the same facts unfolded: what each
operation was, on which place of which file, and above all what became of it.

    fate        of an operation that the crash may have touched
    durable     nothing of it could be lost any more
    arrived     not synced, and recovery read it whole
    lost        not synced, and recovery read what was there before it
    torn        not synced, and recovery read a part of it
    undecided   not synced, and recovery read nothing that depends on it: the
                failure is the same whether it arrived or not
    unfinished  a sync or another operation that the crash interrupted
    failed      a sync that failed, whether it said so or not
    never       it would have followed, without the crash

"Undecided" is not ignorance: one execution stands for all images that agree on
what recovery read, and this operation is where they differ.

What it is not: it explains nothing and judges nothing. It holds no object of the
explorer, so it can be sent between processes and written as JSON.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tornpage.certificate.token import LIVE
from tornpage.explore.explorer import parse_schedule
from tornpage.interruption import CRASH_AGAIN, interruptions, issued
from tornpage.model import CrashModel
from tornpage.run.experiment import Experiment, Finding, outcome_lines
from tornpage.story.timeline import kind_of, line_of
from tornpage.trace import Mark, Sync, SyncDir, Write

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from tornpage.certificate.token import Failure
    from tornpage.choices import Choice
    from tornpage.subject import Subject
    from tornpage.trace import Record

__all__ = ["Change", "Scene", "SceneError", "Span", "Step", "scene_of"]

# A page is 4,096 bytes; a read that differs in more is cut for the picture.
_MOST_BYTES = 4_096
_MOST_FIELDS = 12
# Differing bytes this near to each other are shown as one run.
_GAP = 8


class SceneError(ValueError):
    """The failure does not happen any more, so there is nothing to draw."""


@dataclass(frozen=True, slots=True)
class Step:
    """One record of the trace.

    Attributes:
        number: Counted from 1 over operations; 0 for a mark.
        kind: The system call, or "mark".
        place: What it is about: "page 4, leaf", a path, a mark's facts.
        line: All of it in one line.
        path: The file; "" for a mark.
        offset: First byte of a write.
        length: Bytes of a write.
        site: Source line that issued it.
        fate: One of the words at the head of the module; "" for a mark before
            the crash.
    """

    number: int
    kind: str
    place: str
    line: str
    path: str
    offset: int
    length: int
    site: str
    fate: str


@dataclass(frozen=True, slots=True)
class Span:
    """A transaction: from the mark that begins it to the one that ends it.

    Attributes:
        name: "txid 3".
        first: Index of the step that begins it.
        last: Index of the step that ends it; None when the crash came first.
        ending: The label of that step ("acked"), or "".
    """

    name: str
    first: int
    last: int | None
    ending: str


@dataclass(frozen=True, slots=True)
class Change:
    """Bytes that recovery read otherwise than an honest disk would have them.

    Attributes:
        place: Where, for people.
        field: Which field of it, when the subject can tell.
        offset: First byte in the file; -1 when it is not about bytes.
        got: What recovery read.
        honest: What an honest disk has.
        said: The same in words, for what is not about bytes.
    """

    place: str
    field: str
    offset: int
    got: bytes
    honest: bytes
    said: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """A failure, unfolded.

    Attributes:
        program: One line an operation of the program.
        steps: The trace.
        spans: Its transactions.
        crash: Index of the first step that the crash kept from being completed;
            None when no crash was needed.
        inside: Whether that step was under way.
        changes: What the disk was dishonest about.
        overtaken: (lost or torn step, later step that arrived) by index: writes
            that reached the platter out of order.
        reason: The order that is missing, as a clause, or "".
        facts: Rows (field, promised, found).
        saw: What recovery saw, in lines.
        model: The crash model.
        at: The schedule.
    """

    program: tuple[str, ...]
    steps: tuple[Step, ...]
    spans: tuple[Span, ...]
    crash: int | None
    inside: bool
    changes: tuple[Change, ...]
    overtaken: tuple[tuple[int, int], ...]
    reason: str
    facts: tuple[tuple[str, str, str], ...]
    saw: tuple[str, ...]
    model: str
    at: str


def scene_of(subject: Subject, failure: Failure) -> Scene:
    """Replay a failure and unfold it.

    Args:
        subject: The code under test, started from the failure's database.
        failure: What to replay.

    Raises:
        SceneError: It does not reproduce.
        ValueError: The failure means nothing to this subject.
        ReplayError: Its tape does not fit any more.
    """
    if failure.afresh:
        raise SceneError("it is seen only where the program was not run")
    model = CrashModel.parse(failure.model)
    program = subject.decode(failure.program)
    with ExitStack() as stack:
        if failure.mutant is not None:
            stack.enter_context(subject.mutant(failure.mutant))
        experiment = Experiment(subject, program, model, cap=1)
        finding = _again(experiment, failure)
        return _unfold(subject, experiment, finding, failure)


def _again(experiment: Experiment, failure: Failure) -> Finding:
    if failure.at == LIVE:
        for violation in experiment.live:
            if violation.property == failure.property:
                return Finding(violation)
        raise SceneError(f"the program keeps {failure.property!r} now")
    point, tape = parse_schedule(failure.at)
    try:
        found = experiment.replay(point, tape, failure.property)
    except IndexError as error:
        raise SceneError(str(error)) from error
    if found is None:
        raise SceneError(f"after this crash {failure.property!r} is kept now")
    return found


def _unfold(
    subject: Subject, experiment: Experiment, finding: Finding, failure: Failure
) -> Scene:
    trace = list(experiment.disk.trace)
    reached, point = finding.reached, finding.point
    choices = reached.choices if reached else ()
    crash = None
    inside = False
    if point is not None:
        crash, inside = _index_of(trace, point.index), point.inside
    # Numbers behind these are of operations of recovery.
    own = len(trace)
    if point is not None and interruptions(choices):
        own = issued(experiment.operations, point)
    seen = _Seen(choices, own)
    fates = _fates(trace, crash, inside, seen, experiment.pending(finding))
    steps = tuple(_steps(subject, trace, fates))
    return Scene(
        program=tuple(subject.describe(experiment.program)),
        steps=steps,
        spans=tuple(_spans(trace, crash)),
        crash=crash,
        inside=inside,
        changes=tuple(_changes(subject, choices)),
        overtaken=tuple(_overtaken(trace, steps)),
        reason=experiment.reason(finding),
        facts=tuple(finding.violation.facts),
        saw=tuple(outcome_lines(subject, reached.outcome)) if reached else (),
        model=failure.model,
        at=failure.at,
    )


def _index_of(trace: Sequence[Record], operations: int) -> int:
    """Where in the trace the operation stands that comes after so many.

    Marks between the last completed operation and it were made before the crash.
    """
    done = 0
    for index, record in enumerate(trace):
        if isinstance(record, Mark):
            continue
        if done == operations:
            return index
        done += 1
    return len(trace)


class _Seen:
    """What the choices of an execution say about each operation, by its stamp.

    Args:
        choices: The choices.
        own: Stamps below this are of the program.

    Attributes:
        lost: Operations of which recovery read what was there before.
        present: Operations of which recovery read something.
        torn: Operations that were mixed with others inside one sector.
    """

    def __init__(self, choices: Sequence[Choice], own: int) -> None:
        self.lost: set[int] = set()
        self.present: set[int] = set()
        self.torn: set[int] = set()
        for choice in choices:
            kind = choice.label[0]
            if kind == "data":
                self._data(choice)
            elif kind == "size":
                if choice.picked:
                    self.lost.add(choice.label[-1][0].stamp)
            elif kind == "name":
                (self.lost if choice.picked else self.present).add(choice.label[2])
        for stamps in self.lost, self.present, self.torn:
            stamps.intersection_update(range(own))

    def _data(self, choice: Choice) -> None:
        group = choice.label[-1][choice.picked]
        cell = group.cell
        stamps, (i, j, *_) = cell.stamps, cell.members[0]
        newest = len(stamps) - 1
        if max(i, j) > newest:
            # Garbage: nothing of what was pending can be read there.
            self.torn.update(stamps[1:])
            return
        self.present.update(stamps[1 : min(i, j) + 1])
        self.lost.update(stamps[max(i, j) + 1 :])
        self.torn.update(stamps[min(i, j) + 1 : max(i, j) + 1])


def _fates(
    trace: Sequence[Record],
    crash: int | None,
    inside: bool,
    seen: _Seen,
    pending: Container[int],
) -> list[str]:
    """What became of each record."""
    fates = []
    stamp = -1
    end = len(trace) if crash is None else crash
    for index, record in enumerate(trace):
        if isinstance(record, Mark):
            fates.append("never" if index > end else "")
            continue
        stamp += 1
        if index > end or (index == end and not inside):
            fates.append("never")
        elif isinstance(record, Sync | SyncDir):
            fates.append(_fate_of_sync(record, unfinished=index == end))
        elif crash is None:
            fates.append("durable")
        elif stamp in seen.torn or (stamp in seen.lost and stamp in seen.present):
            fates.append("torn")
        elif stamp in seen.lost:
            fates.append("lost")
        elif stamp not in pending:
            fates.append("durable")
        elif stamp in seen.present:
            fates.append("arrived")
        else:
            fates.append("undecided")
    return fates


def _fate_of_sync(record: Sync | SyncDir, *, unfinished: bool) -> str:
    if unfinished:
        return "unfinished"
    return "durable" if record.result == "ok" else "failed"


def _steps(
    subject: Subject, trace: Sequence[Record], fates: Sequence[str]
) -> Iterator[Step]:
    number = 0
    for record, fate in zip(trace, fates, strict=True):
        line = line_of(subject, record)
        if isinstance(record, Mark):
            yield Step(0, "mark", line, line, "", 0, 0, record.site, fate)
            continue
        number += 1
        offset = length = 0
        place = record.path
        if isinstance(record, Write):
            offset, length = record.offset, len(record.data)
            place = subject.locate(record.path, offset, record.data)
            place = place or f"{record.path} {offset}"
        yield Step(
            number,
            kind_of(record),
            place,
            line,
            record.path,
            offset,
            length,
            record.site,
            fate,
        )


def _spans(trace: Sequence[Record], crash: int | None) -> Iterator[Span]:
    """Marks that name one transaction, in pairs; those of others are left alone."""
    end = len(trace) if crash is None else crash
    opened: dict[Any, int] = {}
    for index, record in enumerate(trace):
        if not isinstance(record, Mark):
            continue
        data: Mapping[str, Any] = dict(record.data)
        txid = data.get("txid")
        if txid is None:
            continue
        if record.label.startswith("begin"):
            if index <= end:
                opened[txid] = index
        elif txid in opened:
            first = opened.pop(txid)
            if index <= end:
                yield Span(f"txid {txid}", first, index, record.label)
            else:
                yield Span(f"txid {txid}", first, None, "")
    for txid, first in opened.items():
        yield Span(f"txid {txid}", first, None, "")


def _overtaken(
    trace: Sequence[Record], steps: Sequence[Step]
) -> Iterator[tuple[int, int]]:
    """For each write that is not wholly there, the next later one that is."""
    for index, step in enumerate(steps):
        if step.kind != "write" or step.fate not in {"lost", "torn"}:
            continue
        for later in range(index + 1, len(steps)):
            record: Record = trace[later]
            if isinstance(record, Write) and steps[later].fate == "arrived":
                yield index, later
                break


def _changes(subject: Subject, choices: Sequence[Choice]) -> Iterator[Change]:
    for choice in choices:
        if not choice.picked:
            continue
        match choice.label[0]:
            case "data":
                _, path, offset, _, groups = choice.label
                yield from _differences(
                    subject,
                    path,
                    offset,
                    groups[choice.picked].value[:_MOST_BYTES],
                    groups[0].value[:_MOST_BYTES],
                )
            case "size":
                _, path, sizes = choice.label
                got, honest = sizes[choice.picked].size, sizes[0].size
                said = f"{got:,} bytes instead of {honest:,}"
                yield Change(path, "size", -1, b"", b"", said)
            case "name":
                said = "the change of this directory entry did not arrive"
                yield Change(choice.label[1], "name", -1, b"", b"", said)
            case _ if choice.label[0] == CRASH_AGAIN:
                said = f"the power went once more {choice.label[-1][choice.picked]}"
                yield Change("recovery", "", -1, b"", b"", said)
            case _:
                yield Change("disk", "", -1, b"", b"", str(choice))


def _differences(
    subject: Subject, path: str, offset: int, got: bytes, honest: bytes
) -> Iterator[Change]:
    """The differing bytes, a row for each field when the subject knows fields."""
    labels = [subject.locate(path, offset + n, b"\0") for n in range(len(got))]
    fields = []
    start = 0
    for label, same in groupby(labels):
        stop = start + len(list(same))
        fields.append((label, start, stop))
        start = stop
    # A subject without names for single bytes gives each a name of its own, or
    # all the same one.
    named = len(fields) * 2 <= len(got)
    pieces = fields if named else [("", a, b) for a, b in _runs(got, honest)]
    shown = 0
    for label, start, stop in pieces:
        if got[start:stop] == honest[start:stop]:
            continue
        whole = subject.locate(path, offset + start, honest[start:stop])
        name = whole or label or path
        place, _, field = name.partition(", ") if named else (name, "", "")
        yield Change(place, field, offset + start, got[start:stop], honest[start:stop])
        shown += 1
        if shown == _MOST_FIELDS:
            return


def _runs(got: bytes, honest: bytes) -> Iterator[tuple[int, int]]:
    """Spans of differing bytes, small gaps included."""
    first = last = -1
    for at, (a, b) in enumerate(zip(got, honest, strict=True)):
        if a == b:
            continue
        if first >= 0 and at - last > _GAP:
            yield first, last + 1
            first = at
        elif first < 0:
            first = at
        last = at
    if first >= 0:
        yield first, last + 1
