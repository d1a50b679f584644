"""One program, run once, and every crash it can suffer, judged.

    subject.run ----> trace ----> Explorer ----> Reached ----> judge ----> Finding
                                     |                           ^
                                     '--- marks before the point-'

An experiment is the unit that everything above repeats: a run makes one for each
seed, shrinking makes one for each candidate, replaying makes exactly one.

Exceptions are findings too, SystemExit among them. Code under test that raises on an
honest disk, or out of `recover`, has broken a promise nobody needs to write down: that
it returns, and in time (`time_limit`). What tornpage itself raises is not caught here,
or a bug in the explorer would pass for a bug in the code under test (`uncovered`).
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from tornpage.call_site import called_from, outermost, raised_at
from tornpage.choices import format_label
from tornpage.disk.simulated import Disk
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.explorer import CrashPoint, Explorer, Reached
from tornpage.explore.memory import Memory
from tornpage.extras import extras_of
from tornpage.interruption import interruptions
from tornpage.run.relapse import relapse_reason
from tornpage.story.cause import lost_by
from tornpage.story.chapter import Relapse
from tornpage.story.reason import explain
from tornpage.story.timeline import kind_of, line_of, where
from tornpage.story.wording import fault_kinds
from tornpage.subject import SubjectError, Violation
from tornpage.time_limit import Limit, OverdueError
from tornpage.trace import Mark, Write
from tornpage.uncovered import UncoveredError, UnsupportedCallError, passes_through

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from tornpage.choices import Choice, Tape
    from tornpage.explore.explorer import Closure
    from tornpage.model import CrashModel
    from tornpage.subject import Subject
    from tornpage.trace import Operation, Record

__all__ = [
    "Experiment",
    "Finding",
    "Places",
    "Raised",
    "beginnings_of",
    "outcome_lines",
    "programs_were_run",
    "recovered",
    "run_apart",
]

# A crash point that took this many executions may be one that is never closed; from
# here on it is worth knowing which reads branch. Correct stores take 1 to 40.
_USUAL_EXECUTIONS = 64
_READS_NAMED = 5

# Disks that a reason is looked for on, and how large they may be together.
_REASONED = 250
_REASONED_BYTES = 64 << 20

_AFRESH = (
    "recovery was made in a process that had not run the program, as after a crash; in"
    " the one that had, the store remembers what the disk has lost"
)

_WITHOUT = (
    "it takes no crash: recovery does that with what was there before the program began"
)

Places = frozenset[tuple[str, str]]
"""Kinds of operation with the source lines that they come from."""

RUN_RETURNS = "program returns"
RECOVERY_RETURNS = "recovery returns"
RUN_ENDS = "program ends"
RECOVERY_ENDS = "recovery ends"


@dataclass(frozen=True, slots=True)
class Raised:
    """The outcome of code that did not return.

    Attributes:
        kind: The exception's type.
        message: Its text.
        site: Source line that raised it.
        overdue: Whether it was ended, because its time was up.
        caller: Source line that the standard library raised it for; "" when something
            else did.
    """

    kind: str
    message: str
    site: str
    overdue: bool = False
    caller: str = ""

    @classmethod
    def of(cls, error: BaseException, plumbing: frozenset[str]) -> Raised:
        """The record of an exception that was caught.

        Args:
            error: The exception.
            plumbing: Names of source files that only pass calls on.
        """
        overdue = isinstance(error, OverdueError)
        kind = type(error).__name__
        caller = called_from(error, plumbing)
        return cls(kind, str(error), raised_at(error, plumbing), overdue, caller)

    def violation(self, *, recovery: bool) -> Violation:
        """The promise that this breaks, of recovery or of the program."""
        what = "Recovery" if recovery else "The program"
        if self.overdue:
            return Violation(
                RECOVERY_ENDS if recovery else RUN_ENDS,
                f"{what} has not returned after {self.message}; it was at {self.site}.",
                (("ends with", "a return", "nothing"), ("was at", "-", self.site)),
            )
        promise = RECOVERY_RETURNS if recovery else RUN_RETURNS
        facts = [
            ("ends with", "a return", self.kind),
            ("message", "-", self.message or "(none)"),
            ("raised at", "-", self.site),
        ]
        said = f"{what} raised {self.kind} at {self.site}"
        if self.caller:
            facts.append(("called from", "-", self.caller))
            said += f", called from {self.caller}"
        return Violation(promise, f"{said}.", tuple(facts))


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise and where it was met.

    Attributes:
        violation: The promise.
        point: The crash point; None when no crash was needed.
        reached: The execution; None when no crash was needed.
        afresh: Whether it was made in a process that had not run the program.
    """

    violation: Violation
    point: CrashPoint | None = None
    reached: Reached | None = None
    afresh: bool = False

    @property
    def overdue(self) -> bool:
        """Whether something does not return; to see it takes all of its time."""
        return self.violation.property in {RUN_ENDS, RECOVERY_ENDS}

    @property
    def tape(self) -> Tape:
        """The choices of the crash and the recovery."""
        return self.reached.tape if self.reached else ()


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def beginnings_of(subject: Subject, model: CrashModel) -> Beginnings | None:
    """What programs of this subject may share; None when they may not.

    See `Extras.recovers_alike`.
    """
    if not extras_of(subject).recovers_alike:
        return None
    return Beginnings(Memory(jumps=model.jumps))


def outcome_lines(subject: Subject, outcome: Hashable) -> Sequence[str]:
    """What recovery saw, in lines for people."""
    if isinstance(outcome, Raised):
        return (f"{outcome.kind} at {outcome.site}: {outcome.message}",)
    return subject.describe_outcome(outcome)


_run_here = False


def programs_were_run() -> bool:
    """Whether there was an experiment in this process."""
    return _run_here


def run_apart(subject: Subject, program: Any, model: CrashModel) -> None:
    """Run a program for nothing but what it leaves in this process, a copy."""
    with suppress(BaseException), _limit(subject):
        subject.run(program, Disk(subject.prepare(program), model))


def recovered(subject: Subject, disk: Disk) -> Hashable:
    """What recovery reports of a disk that has crashed, or how it failed to."""
    return _recovered(subject, _Chosen(), disk)


@outermost
def _recovered(subject: Subject, chosen: _Chosen, disk: Disk) -> Hashable:
    """What recovery reports, or how it failed to."""
    if chosen.overdue:
        raise UncoveredError("recovery did not return in time, so no other was begun")
    try:
        with _limit(subject):
            outcome = subject.recover(disk)
    except BaseException as error:
        if passes_through(error):
            raise
        outcome = raised = Raised.of(error, disk.trace.plumbing)
        chosen.overdue = raised.overdue
    _require_followed(disk)
    chosen.several_threads |= disk.several_threads
    chosen.made_up = {**disk.made_up, **chosen.made_up}
    return outcome


def _limit(subject: Subject) -> Limit:
    return Limit(extras_of(subject).returns_within)


def _require_followed(disk: Disk) -> None:
    """Nothing was asked for that is not here, or the code went on without it."""
    if disk.refused:
        raise UnsupportedCallError(disk.refused[0])


class _Chosen:
    """What the executions chose since somebody asked.

    Not the experiment itself: the explorer holds whom it tells, and the experiment
    the explorer, and what such a ring holds stays until the collector comes.

    Attributes:
        faults: Dishonest choices, by kind.
        executions: How many executions there were.
        branched: What the later ones of many branched on.
        several_threads: Whether one of them had more than one thread.
        made_up: What one of them was told though the disk does not have it.
        overdue: Whether one of them did not return in time. There is no other then:
            each may take as long.
    """

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.executions = 0
        self.branched: Counter[str] = Counter()
        self.several_threads = False
        self.made_up: dict[str, str] = {}
        self.overdue = False

    def note(self, choices: Sequence[Choice]) -> None:
        """Take one execution into account."""
        # The explorer reports distinct outcomes; faults that recovery coped with are
        # in the executions that led to the same one.
        if choices:
            self.faults.update(chain.from_iterable(map(fault_kinds, choices)))
        self.executions += 1
        if self.executions > _USUAL_EXECUTIONS:
            self.branched.update(format_label(one.label) for one in choices)


class Experiment:
    """One program with its trace and all its crash points.

    Args:
        subject: The code under test; a mutant of it must be entered already, and
            stay so while this object is used.
        program: The program.
        model: What a crash may do.
        cap: Most executions for one crash point.
        beginnings: What is known of programs that began alike, under the same
            subject, mutant, model and cap; see `beginnings_of`.

    Raises:
        UncoveredError: The run cannot be followed.

    Attributes:
        subject: As given.
        program: As given.
        disk: The disk it ran on; holds the trace.
        explorer: The explorer of its crash points; None when the run raised.
        live: Promises broken without any crash.
        history: What the subject's run returned; None when it raised.
    """

    @outermost
    def __init__(
        self,
        subject: Subject,
        program: Any,
        model: CrashModel,
        *,
        cap: int,
        beginnings: Beginnings | None = None,
    ) -> None:
        self.subject = subject
        self.program = program
        self._model = model
        files = self._files = subject.prepare(program)
        self._parts = None if beginnings is None else beginnings.memory.parts
        self.disk = self._new_disk(files)
        self.explorer: Explorer | None = None
        self.live: tuple[Violation, ...]
        self.history: Any = None
        self._operations: Sequence[Operation] = ()
        self._chosen = _Chosen()
        self._judged: dict[tuple[Hashable, int], tuple[Violation, ...]] = {}
        global _run_here  # noqa: PLW0603 - it is the process that it is said of.
        _run_here = True
        try:
            with _limit(subject):
                self.history = subject.run(program, self.disk)
        except BaseException as error:
            if passes_through(error):
                raise
            _require_followed(self.disk)
            raised = Raised.of(error, self.disk.trace.plumbing)
            self._chosen.overdue = raised.overdue
            self.live = (raised.violation(recovery=False),)
            return
        _require_followed(self.disk)
        self._operations = self.disk.trace.operations()
        self.live = tuple(subject.live_violations(self.history))
        self.explorer = Explorer(
            files,
            self.disk.trace,
            partial(_recovered, subject, self._chosen),
            model,
            cap=cap,
            notice=self._chosen.note,
            beginnings=beginnings,
        )

    def _new_disk(self, files: Mapping[str, bytes]) -> Disk:
        disk = Disk(files, self._model)
        if self._parts is not None:
            # A program that asks about a large file, as recovery does, is told what
            # other programs on this file were told.
            self._parts.begin(files)
            disk.remember(self._parts)
        return disk

    @property
    def operations(self) -> Sequence[Operation]:
        """What the program did to the disk."""
        return self._operations

    @property
    def several_threads(self) -> bool:
        """Whether several threads used a disk, in the run or in a recovery."""
        return self.disk.several_threads or self._chosen.several_threads

    @property
    def made_up(self) -> Mapping[str, str]:
        """What the run was told though the disk does not have it."""
        return self.disk.made_up

    @property
    def made_up_in_recovery(self) -> Mapping[str, str]:
        """The same of recoveries, whose answers should have been a crash's."""
        return self._chosen.made_up

    @property
    def faults_unmet(self) -> bool:
        """Whether the run had a fault script of which something did not happen."""
        return not all(self.disk.scripted.values())

    @property
    def overdue(self) -> bool:
        """Whether the program, or a recovery, did not return in time."""
        return self._chosen.overdue

    def take_faults(self) -> Counter[str]:
        """The dishonest choices since this was asked last."""
        taken, self._chosen.faults = self._chosen.faults, Counter()
        return taken

    def take_branching(self) -> Counter[str]:
        """Reads of the executions of a crash point, but for the first few.

        Call it after each crash point: it also begins to count for the next one.
        """
        chosen = self._chosen
        taken, chosen.branched = chosen.branched, Counter()
        chosen.executions = 0
        return taken

    def branching(self, closure: Closure, counted: Counter[str]) -> tuple[str, ...]:
        """The reads that a crash point branched on most, and how often."""
        branched = counted.copy()
        for reached in closure.outcomes:
            branched.update(format_label(one.label) for one in reached.choices)
        most = sorted(branched.items(), key=lambda item: (-item[1], item[0]))
        return tuple(f"{read}: {count:,}" for read, count in most[:_READS_NAMED])

    def operation_kinds(self) -> Iterator[str]:
        """The kind of each operation of the trace, for counting."""
        return map(kind_of, self._operations)

    def places(self) -> Places:
        """The places in the code that the program came by, as its operations tell."""
        return frozenset((kind_of(one), one.site) for one in self._operations)

    def where(self, point: CrashPoint) -> str:
        """Where a crash point lies, as a kind, for counting."""
        return where(self._operations, point)

    @property
    def size(self) -> int:
        """How many bytes the files may have."""
        written = [one for one in self._operations if isinstance(one, Write)]
        return sum(map(len, self._files.values())) + sum(
            len(one.data) for one in written
        )

    def departure(self) -> str:
        """Run the program once more; how it first departs from what it did, or ""."""
        disk = self._new_disk(self.subject.prepare(self.program))
        try:
            with _limit(self.subject):
                self.subject.run(self.program, disk)
        except BaseException as error:
            # What it raised is in the trace as far as it got.
            if passes_through(error) and not isinstance(error, UncoveredError):
                raise
        if disk.refused:
            return disk.refused[0]
        for number, (one, other) in enumerate(
            zip_longest(self.disk.trace, disk.trace), 1
        ):
            if one != other:
                said = [self._said(record) for record in (one, other)]
                if said[0] == said[1]:
                    said[1] = "the same with other data"
                return f"line {number} of its trace was {said[0]}, then {said[1]}"
        return ""

    def _said(self, record: Record | None) -> str:
        if record is None:
            return "nothing"
        kind = "mark" if isinstance(record, Mark) else kind_of(record)
        return f"{kind} {line_of(self.subject, record)} at {record.site}"

    def judge(self, point: CrashPoint, outcome: Hashable) -> tuple[Violation, ...]:
        """The promises that this outcome breaks after a crash at this point."""
        assert self.explorer is not None
        # The marks before a point are a prefix of all marks: their number says all.
        key = (outcome, self.explorer.marks_before(point))
        known = self._judged.get(key)
        if known is None:
            known = self._violations(self.explorer.marks(point), outcome)
            self._judged[key] = known
        return known

    def _violations(
        self, marks: Sequence[Mark], outcome: Hashable
    ) -> tuple[Violation, ...]:
        if isinstance(outcome, Raised):
            return (outcome.violation(recovery=True),)
        try:
            return tuple(self.subject.judge(self.history, marks, outcome))
        except SubjectError:
            raise
        except Exception as error:
            # Not a finding: it is the test that is wrong. Nor one of tornpage.
            raise SubjectError(
                f"judge: it raised {type(error).__name__} at {raised_at(error)}:"
                f" {error}"
            ) from error

    def sweep(
        self,
        visit: Callable[[Closure], None] = _ignore,
        *,
        wanted: str | None = None,
        stop: bool = True,
    ) -> Iterator[Finding]:
        """Close every crash point in order and yield what is found.

        Args:
            visit: Called with each crash point's closure before its findings.
            wanted: Only findings of this property count; None: all.
            stop: Leave a crash point at its first finding, which makes that point
                not closed. Otherwise each is closed whatever is found. One at which
                recovery does not return in time is left in any case, and the last.
        """
        for violation in self.live:
            if wanted in (None, violation.property):
                yield Finding(violation)
        if self.explorer is None:
            return
        explorer = self.explorer

        def leave(reached: Reached) -> bool:
            return self.overdue or (
                stop and bool(self._wanted(explorer.point, reached, wanted))
            )

        judged: tuple[object, int] | None = None
        for closure in explorer.sweep(stop=leave):
            visit(closure)
            # Reused outcomes under the promises of last time: nothing to add.
            now = (closure.outcomes, explorer.marks_before(closure.point))
            if judged and judged[0] is now[0] and judged[1] == now[1]:
                continue
            judged = now
            for reached in closure.outcomes:
                for violation in self._wanted(closure.point, reached, wanted):
                    yield Finding(violation, closure.point, reached)
            if self.overdue:
                return

    def _wanted(
        self, point: CrashPoint, reached: Reached, wanted: str | None
    ) -> Sequence[Violation]:
        found = self.judge(point, reached.outcome)
        if wanted is None or not found:
            return found
        return [violation for violation in found if violation.property == wanted]

    def first(self, wanted: str) -> Finding | None:
        """The finding of this property at the earliest crash point, or None."""
        return next(self.sweep(wanted=wanted), None)

    def relapses(self, finding: Finding) -> Sequence[Relapse]:
        """The recoveries that were crashed in their turn, in order.

        Raises:
            ReplayError: They do not come again.
        """
        again = interruptions(finding.reached.choices) if finding.reached else ()
        if not again or finding.point is None or self.explorer is None:
            return ()
        found = []
        row = self.explorer.row(finding.point, finding.tape)
        for crash, recovery in zip(again, row, strict=False):
            assert recovery.left is not None
            first = recovery.left.clock - crash.after
            pending = (one - first for one in recovery.left.pending())
            mine = frozenset(one for one in pending if one >= 0)
            found.append(Relapse(crash.operations, CrashPoint(crash.after), mine))
        return found

    def pending(self, finding: Finding) -> frozenset[int]:
        """The operations that its crash may lose something of, counted from 0."""
        if finding.point is None or self.explorer is None:
            return frozenset()
        return self.explorer.pending(finding.point)

    def reason(self, finding: Finding) -> str:
        """The order that is missing, as a clause; "" when none was found.

        It costs up to 250 recoveries (28 of 30 planted bugs were explained by fewer; a
        thousand explained no more), still fewer where files are large, and none
        where they are very large: each is from files that were made in full.
        """
        if finding.point is None or finding.reached is None or finding.overdue:
            return ""
        if finding.afresh:
            return _AFRESH
        if self._began_so(finding.point, finding.reached):
            return _WITHOUT
        dishonest = [one for one in finding.reached.choices if one.picked]
        promise = finding.violation.property

        def broken(marks: Sequence[Mark], outcome: Hashable) -> list[Violation]:
            found = self._violations(marks, outcome)
            return [one for one in found if one.property == promise]

        recover = partial(_recovered, self.subject, self._chosen)
        limit = min(_REASONED, _REASONED_BYTES // (1 + self.size))
        try:
            if interruptions(finding.reached.choices):
                assert self.explorer is not None
                return relapse_reason(
                    self.explorer,
                    finding.point,
                    finding.reached,
                    recover,
                    broken,
                    locate=self.subject.locate,
                    limit=limit,
                )
            found = explain(
                self._files,
                self.disk.trace,
                recover,
                broken,
                finding.point,
                model=self._model,
                locate=self.subject.locate,
                suspects=chain.from_iterable(lost_by(one) or () for one in dishonest),
                limit=limit,
            )
        except UncoveredError:
            if not self.overdue:
                raise
            return ""
        return found.sentence if found is not None else ""

    def _began_so(self, point: CrashPoint, reached: Reached) -> bool:
        """Whether recovery has met nothing but what the program began with."""
        assert self.explorer is not None
        nothing_done = point == CrashPoint(0) and not self.explorer.marks_before(point)
        return nothing_done and not interruptions(reached.choices)

    def replay(self, point: CrashPoint, tape: Tape, wanted: str) -> Finding | None:
        """What this crash and this tape break of this property, or None.

        Raises:
            ReplayError: The tape does not fit: the program's trace or what recovery
                reads is not what it was when the tape was recorded.
            IndexError: The trace has no such point.
        """
        if self.explorer is None:
            return None
        reached = self.explorer.replay(point, tape)
        for violation in self._wanted(point, reached, wanted):
            return Finding(violation, point, reached)
        return None
