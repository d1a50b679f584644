"""Recovery in a process that has not run the program, compared with what it did here.

Theory
======
After a crash there is a new process. Under test there is not: recovery runs in the one
that ran the program, and in thousands of recoveries before. A store that keeps things
outside of its files may see there what no disk has any more:

    store                          run        power lost     recover here    afresh
    CACHE[path] = content, no sync "a", "b"   nothing kept   "a", "b"        nothing

Nothing on the tape shows that: the disk was not even asked. So before the first program
is run the process is set aside (`pristine`). Of some crashes recovery is made once more
in a copy of it, after the same answers, and both are compared, call by call and by what
they return:

    program --> trace --> the crash at which most is pending, and the last one
                             | everything lost       everything there
                             | each file torn        '--> here, afresh
                             '--> here, afresh

What differs first is a doubt: outcomes say something of crashes only if recovery
follows from the disk. Where the one afresh breaks a promise, too, it is a violation.
Its token says that it was seen afresh, and it is replayed so. That is claimed only if,
with everything there, recovery afresh keeps all promises after the same crash: one that
cannot do without the process that ran the program is a doubt, no loss of data.

A file is torn where the first that recovery reads of it has come and the rest has not.
That is for stores that remember what they find damaged on the disk.

Which programs: those with operations or source lines that no earlier one had. So this
is a sample, two or three recoveries of each, and it finds what recovery always leans
on, not what it leans on after one crash of a thousand.

The same is done with a promise that is broken here: recovery that remembers shows what
there cannot be after a crash, and a strict judge complains of that. If the promise is
kept afresh after the very same crash, it is such a doubt and no story about a disk.

In a process in which programs were run before, by another test say, the copy has what
those left, and that may be just what the program leaves. There it first runs another
program, a simpler one: recovery that leans on the process leans on that one then. Such
a copy is no new process, so what it shows is a doubt and never a violation.

What it is not: a proof. A store may remember something in some states only.
"""

from __future__ import annotations

import pickle
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, Final, Self

from tornpage.choices import Choice, Recorder, Replay
from tornpage.disk.simulated import Disk
from tornpage.disk.witness import Call, witnessed
from tornpage.explore.explorer import Explorer, Reached
from tornpage.explore.schedule import format_schedule
from tornpage.interruption import by_recovery
from tornpage.patch.block import look_around
from tornpage.run.experiment import (
    Finding,
    Raised,
    outcome_lines,
    programs_were_run,
    recovered,
    run_apart,
)
from tornpage.run.pristine import NoCopyError, Pristine, PristineError, unpickled
from tornpage.seen import Seen
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from tornpage.choices import Label, Tape
    from tornpage.explore.schedule import CrashPoint
    from tornpage.model import CrashModel
    from tornpage.platter.cell import Group
    from tornpage.platter.image import Image
    from tornpage.run.experiment import Experiment
    from tornpage.subject import Subject
    from tornpage.trace import Operation

__all__ = ["Afresh", "Difference"]

# Without what is known of it, a recovery looks at all that there is: 2 s of a database
# of 57 MB.
_MOST_BYTES: Final = 64 << 20

# Crash points that are asked for what is pending.
_MOST_POINTS: Final = 1_000

# A copy takes as long as the process itself, unless something hangs in it.
_WAIT_SECONDS: Final = 30.0
_WAIT_TIMES: Final = 20

# Programs that are tried for one that is another.
_MOST_OTHERS: Final = 4

_SHOWN: Final = 72
_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]+")

_ELSEWHERE: Final = "a process that has not run the program"
_UNKNOWN: Final = f"what recovery does in {_ELSEWHERE}"

_FORGET: Final = (
    "recovery must forget what the store keeps outside of its files (a cache, an open"
    " file): have recover clear it"
)


class _Oldest(Recorder):
    """Loses whatever may be lost."""

    __slots__ = ()

    def choose(self, n: int, label: Label) -> int:
        """The alternative with the oldest content."""
        picked = self._lost(n, label)
        self._made.append((picked, n, label))
        return picked

    def _lost(self, n: int, label: Label) -> int:
        if label[0] != "data":
            return 1
        groups = label[-1]
        return min(range(n), key=lambda at: _age(groups[at]))


class _Torn(_Oldest):
    """Loses of each file all contents but the first that is asked for."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        super().__init__()
        self._begun: set[str] = set()

    def _lost(self, n: int, label: Label) -> int:
        if label[0] != "data":
            return 0
        path = label[1]
        if path not in self._begun:
            self._begun.add(path)
            return 0
        return super()._lost(n, label)


def _age(group: Group) -> tuple[int, bool]:
    """How new the newest content of a group is; whole ones before torn ones."""
    return min((max(one[:2]), one[0] != one[1]) for one in group.cell.members)


@dataclass(frozen=True, slots=True)
class _Crash:
    """A crash and the answers of its disk.

    Attributes:
        point: The crash point.
        tape: The answers, honest ones behind its end; None: the oldest content.
        torn: Whether the first content of each file is the newest, if there is no tape.
        left: What a crash of a recovery left, the last one of several in a row: the
            tape is of what comes then. None: there was no such crash.
    """

    point: CrashPoint
    tape: Tape | None
    torn: bool = False
    left: Image | None = None

    def chooser(self) -> Replay | _Oldest:
        """Who answers."""
        if self.tape is not None:
            return Replay(self.tape)
        return _Torn() if self.torn else _Oldest()

    def __str__(self) -> str:
        if self.left is not None:
            return f"at point {self.point} and another during recovery"
        if self.tape:
            return format_schedule(self.point, self.tape)
        if self.torn:
            return f"at point {self.point} that tears each file"
        lost = "all that it may" if self.tape is None else "nothing"
        return f"at point {self.point} that loses {lost}"


@dataclass(frozen=True, slots=True)
class _Request:
    """A recovery to make.

    Attributes:
        program: The program, as JSON values.
        model: What a crash may do.
        mutant: Planted bug to enter first, or None.
        operations: What the program did to the disk.
        crash: Which crash to recover from.
        other: Another program to run first, as JSON values in a tuple of one or none.
    """

    program: Any
    model: CrashModel
    mutant: str | None
    operations: Sequence[Operation]
    crash: _Crash
    other: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Deed:
    """What one recovery did.

    Attributes:
        calls: What it asked of the disk; None where threads took turns in asking.
        outcome: What it returned, pickled; None when that cannot be done.
        key: What it is told apart by, pickled likewise.
        lines: The same for people.
        choices: What was decided for it, pickled; None when it was not followed.
        lost: Why it could not be followed; "" when it could.
        loses: Whether anything that was decided for it was dishonest.
    """

    calls: tuple[Call, ...] | None
    outcome: bytes | None
    key: bytes | None
    lines: tuple[str, ...]
    choices: bytes | None
    lost: str = ""
    loses: bool = False


def _pickled(value: object) -> bytes | None:
    """None unless it can be had again from that, and is the same then."""
    try:
        data = pickle.dumps(value)
        same = bool(unpickled(data) == value)
    except Exception:  # noqa: BLE001 - whatever a class of somebody else raises
        return None
    return data if same else None


def _deed(subject: Subject, explorer: Explorer, crash: _Crash) -> _Deed:
    """Make a recovery."""
    chooser = crash.chooser()
    if crash.left is None:
        disk = explorer.disk(crash.point, chooser)
    else:
        disk = Disk.on_image(crash.left, chooser)
    calls = witnessed(disk)
    try:
        outcome = recovered(subject, disk)
    except UncoveredError as error:
        return _Deed(tuple(calls), None, None, (), None, str(error))
    whole = _pickled(outcome)
    return _Deed(
        None if disk.several_threads else tuple(calls),
        whole,
        _pickled(outcome.key) if isinstance(outcome, Seen) else whole,
        tuple(outcome_lines(subject, outcome)),
        pickle.dumps(chooser.log),
        loses=any(chooser.tape),
    )


def _nothing(_: object) -> Hashable:
    """No recovery of the explorer's own is made."""


def _answer(subject: Subject, request: _Request) -> _Deed:
    """What a copy does."""
    with ExitStack() as stack:
        if request.mutant is not None:
            stack.enter_context(subject.mutant(request.mutant))
        for other in request.other:
            run_apart(subject, subject.decode(other), request.model)
        files = subject.prepare(subject.decode(request.program))
        explorer = Explorer(files, [*request.operations], _nothing, request.model)
        return _deed(subject, explorer, request.crash)


@dataclass(frozen=True, slots=True)
class Difference:
    """Recovery is another one in a process that has not run the program.

    Attributes:
        clause: What differs, and what to do.
        finding: A promise that it breaks there, or None.
    """

    clause: str
    finding: Finding | None


class Afresh:
    """Makes recoveries afresh. Use it as a context manager.

    Made before any program of the subject is run, and before a bug is planted.

    Args:
        subject: The code under test.

    Attributes:
        late: Whether programs were run in this process before it was made.
        compared: What the programs whose recoveries were compared came by.
    """

    def __init__(self, subject: Subject) -> None:
        look_around()
        self.late = programs_were_run()
        self.compared: set[tuple[str, str]] = set()
        self._wholly = True
        self._pristine = Pristine(lambda request: _answer(subject, request))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was set aside."""
        self._pristine.close()

    def wants(self, experiment: Experiment) -> bool:
        """Whether recoveries of this program are to be compared; asked once of each.

        They are when it came by operations or source lines that no earlier one had.
        """
        places = experiment.places()
        if experiment.explorer is None or places <= self.compared:
            return False
        self.compared |= places
        return True

    def missing(self, experiment: Experiment) -> str:
        """Why recoveries of this program cannot be compared, as a clause, or ""."""
        if experiment.size > _MOST_BYTES:
            return f"its files have more than {_MOST_BYTES >> 20} MB"
        return self._pristine.missing

    def difference(
        self, experiment: Experiment, mutant: str | None
    ) -> Difference | None:
        """Compare some recoveries of a program; what differs first, or None.

        None, too, if they could not be compared: `missing` says so from then on.

        Args:
            experiment: The program, with the bug planted that it was run with.
            mutant: That bug.
        """
        subject, explorer = experiment.subject, experiment.explorer
        assert explorer is not None
        points = _points(explorer)
        wholly, self._wholly = self._wholly, False
        for crash in _crashes(explorer, points, wholly=wholly):
            begun = time.monotonic()
            here = _deed(subject, explorer, crash)
            if crash.torn and not here.loses:
                # One content a file, or none that recovery looks at.
                continue
            wait = _WAIT_SECONDS + _WAIT_TIMES * (time.monotonic() - begun)
            try:
                # What is damaged is where a recovery leans on the one before, too.
                there = self._ask(experiment, mutant, crash, wait, alone=crash.torn)
            except NoCopyError:
                # Asked again, `missing` says so.
                return None
            except PristineError as error:
                return Difference(f"{_UNKNOWN} is not known: {error}", None)
            if said := _differ(here, there):
                return Difference(
                    f"after a crash {crash}, {said}: {_FORGET}",
                    self.broken(experiment, mutant),
                )
        return None

    def overturned(
        self, experiment: Experiment, mutant: str | None, finding: Finding
    ) -> Difference | None:
        """Why a broken promise is none of the disk's, or None: it stands.

        It is none if recovery after this very crash does other things afresh, and
        keeps the promise: what was seen here is what the process remembers.

        Args:
            experiment: The program, with the bug planted that it was run with.
            mutant: That bug.
            finding: The broken promise.
        """
        point, explorer = finding.point, experiment.explorer
        unknown = finding.overdue or self.missing(experiment)
        if point is None or explorer is None or unknown:
            return None
        crash = _last_crash(explorer, point, finding)
        here = _deed(experiment.subject, explorer, crash)
        try:
            there = self._ask(experiment, mutant, crash, _WAIT_SECONDS, alone=False)
        except PristineError:
            return None
        said, reached = _differ(here, there), _reached(there)
        if not said or reached is None:
            return None
        promise = finding.violation.property
        broken = experiment.judge(point, reached.outcome)
        # What another program has left in the copy says nothing of this promise.
        if not self.late and any(one.property == promise for one in broken):
            return None
        return Difference(
            f"{promise!r} seems broken, but after the crash {crash}, {said}: {_FORGET}",
            self.broken(experiment, mutant),
        )

    def broken(
        self, experiment: Experiment, mutant: str | None, promise: str | None = None
    ) -> Finding | None:
        """The first promise that recovery afresh breaks; see the module's head.

        Args:
            experiment: The program, with the bug planted that it was run with.
            mutant: That bug.
            promise: Only this one counts; None: any.
        """
        if self.late or experiment.explorer is None:
            return None
        for point in _points(experiment.explorer):
            found = None
            for crash in _losses(point):
                # One loss is enough, and only where there is one it is asked whether
                # the same crash without it is harmless.
                if (crash.tape is None) != (found is None):
                    continue
                try:
                    deed = self._ask(experiment, mutant, crash, _WAIT_SECONDS)
                except PristineError:
                    return None
                reached = _reached(deed)
                if reached is None or isinstance(reached.outcome, Raised):
                    break
                broken = experiment.judge(point, reached.outcome)
                wanted = [one for one in broken if promise in {None, one.property}]
                if crash.tape is None and wanted:
                    found = Finding(wanted[0], point, reached, afresh=True)
                elif crash.tape is not None and not broken:
                    return found
        return None

    def replay(
        self,
        experiment: Experiment,
        mutant: str | None,
        point: CrashPoint,
        tape: Tape,
        wanted: str,
    ) -> Finding | None:
        """As `Experiment.replay`, in a process that has not run the program.

        Args:
            experiment: The program, with the bug planted that it was run with.
            mutant: That bug.
            point: The crash point.
            tape: The answers of the disk.
            wanted: The promise.

        Raises:
            UncoveredError: It cannot be told, or the tape does not fit.
            IndexError: The trace has no such point.
        """
        if experiment.explorer is None:
            return None
        reached = self._reached(experiment, mutant, point, tape)
        for violation in experiment.judge(point, reached.outcome):
            if violation.property == wanted:
                return Finding(violation, point, reached, afresh=True)
        return None

    def _reached(
        self,
        experiment: Experiment,
        mutant: str | None,
        point: CrashPoint,
        tape: Tape,
    ) -> Reached:
        crash = _Crash(point, tape)
        try:
            deed = self._ask(experiment, mutant, crash, 2 * _WAIT_SECONDS)
        except PristineError as error:
            raise UncoveredError(f"{_UNKNOWN} is not known: {error}") from error
        found = _reached(deed)
        if found is None:
            raise UncoveredError(deed.lost or "what recovery returned cannot be copied")
        return found

    def _ask(
        self,
        experiment: Experiment,
        mutant: str | None,
        crash: _Crash,
        wait: float,
        *,
        alone: bool = True,
    ) -> _Deed:
        assert experiment.explorer is not None
        subject, program = experiment.subject, experiment.program
        deed: _Deed = self._pristine.ask(
            _Request(
                program=subject.encode(program),
                model=experiment.explorer.model,
                mutant=mutant,
                operations=experiment.operations,
                crash=crash,
                other=_other(subject, program) if self.late else (),
            ),
            wait,
            alone=alone,
        )
        return deed


def _other(subject: Subject, program: Any) -> tuple[Any, ...]:
    """Another program as JSON values, if there is one."""
    encoded = subject.encode(program)
    programs = chain(
        islice(subject.simplify(program), _MOST_OTHERS),
        map(subject.generate, range(_MOST_OTHERS)),
    )
    others = map(subject.encode, programs)
    return tuple(islice((one for one in others if one != encoded), 1))


def _points(explorer: Explorer) -> tuple[CrashPoint, ...]:
    """The crash points to compare recoveries at, in order."""
    points = [point for point in explorer.points() if not point.inside]
    looked = points[:: 1 + len(points) // _MOST_POINTS]
    # What nobody syncs is pending to the end, and all of it at the last of these.
    most = max(looked, key=lambda one: (len(explorer.pending(one)), one))
    return (most, points[-1]) if most < points[-1] else (points[-1],)


def _last_crash(explorer: Explorer, point: CrashPoint, finding: Finding) -> _Crash:
    """The crash before the recovery that a finding is of.

    Each recovery of a row is a process of its own; so only the last one is made again.
    """
    *_, last = by_recovery(finding.reached.choices if finding.reached else ())
    before = explorer.row(point, finding.tape)[:-1]
    tape = tuple(choice.picked for choice in last)
    return _Crash(point, tape, left=before[-1].left if before else None)


def _crashes(
    explorer: Explorer, points: Sequence[CrashPoint], *, wholly: bool
) -> Iterator[_Crash]:
    """The crashes to compare recoveries of."""
    most, last = points[0], points[-1]
    pending = bool(explorer.pending(most))
    yield _Crash(most, None if pending else ())
    if pending:
        yield _Crash(most, None, torn=True)
    # What a store always remembers shows in the first program, and each recovery here
    # and there is 1 % of the default run of the store in this project.
    if wholly and (pending or most != last):
        yield _Crash(last, ())


def _losses(point: CrashPoint) -> Iterator[_Crash]:
    """The crashes that may break a promise at a point, and the one that may not."""
    yield _Crash(point, None)
    yield _Crash(point, None, torn=True)
    yield _Crash(point, ())


def _differ(here: _Deed, there: _Deed) -> str:
    """How two recoveries differ, as a clause, or ""."""
    if there.lost:
        return f"recovery cannot be followed in {_ELSEWHERE}: {there.lost}"
    said = []
    if here.calls is not None and there.calls is not None:
        pairs = zip_longest(here.calls, there.calls)
        for number, (one, other) in enumerate(pairs, 1):
            if one != other:
                same = str(one) == str(other)
                instead = "the same with other data" if same else _said(other)
                said.append(
                    f"call {number} of recovery to the disk was {_said(one)}, but"
                    f" {instead} in {_ELSEWHERE}"
                )
                break
    if not _same(here.key, there.key, _bare(here.lines) == _bare(there.lines)):
        said.append(
            f"recovery returned {_shown(here.lines)}, but {_shown(there.lines)} in"
            f" {_ELSEWHERE}"
        )
    return "; ".join(said)


def _said(call: Call | None) -> str:
    return "none" if call is None else str(call)


def _shown(lines: Sequence[str]) -> str:
    text = "; ".join(lines) or "nothing"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _bare(lines: Sequence[str]) -> list[str]:
    """Without addresses."""
    return [_ADDRESS.sub("", line) for line in lines]


def _same(here: bytes | None, there: bytes | None, alike: bool) -> bool:
    """Whether two keys of outcomes are the same; `alike`: whether they look so."""
    if here is None or there is None:
        return alike
    if here == there:
        return True
    one, other = unpickled(here), unpickled(there)
    if isinstance(one, Raised) and isinstance(other, Raised):
        # A message may have an address in it.
        return (one.kind, one.site) == (other.kind, other.site)
    return bool(one == other)


def _reached(deed: _Deed) -> Reached | None:
    if deed.outcome is None or deed.choices is None:
        return None
    choices: list[Choice] = unpickled(deed.choices)
    tape = tuple(choice.picked for choice in choices)
    return Reached(unpickled(deed.outcome), tape, tuple(choices))
