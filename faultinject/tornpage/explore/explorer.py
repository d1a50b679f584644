"""The crash explorer: every outcome of every crash of a run.

Theory
======
Losing power leaves one of very many images. None of them is built. Recovery is
run on a disk whose platter is undecided; each read whose answer is open is a
choice; running recovery once for every leaf of the tree of choices covers all
images, because an execution stands for every image that agrees with it on what
it read.

    sweep    one pass over the trace, the platter advanced operation by operation
    close    the tree of choices of one crash point, depth first
    eager    all images of a crash point, built one by one: the check on `close`
             (of one crash, whatever the model says of several)
    sample   seeded random leaves, for trees too large to close
    replay   one leaf

A crash point with more executions than `cap` is not closed, and whoever judges
a run must then say "unverifiable".

Reuse
-----
The executions at a crash point consumed certain atoms, sizes and names. Their
tree of choices depends on nothing but what these may be. An operation that
leaves the legal contents of all of them alone therefore leaves the tree alone,
and with it the outcomes and their tapes: they hold at the next crash point
too, without an execution. The argument needs recovery to be deterministic; it
is the rule that every subject keeps, and the enumerator notices most breaches.
It does not speak of executions in which recovery is crashed (`recoveries`): what is
read after that is not among what was consumed. Points that have any are closed anew.
Under `order=ordered` pieces are coupled by the position of the crash; a new
operation adds positions after all others, at which every older piece has its
newest content, as it had before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tornpage.choices import Choice, Chooser, Enumerator, Replay, Sampler, Tape
from tornpage.disk.simulated import Disk
from tornpage.explore.beginnings import Known
from tornpage.explore.memory import Memory
from tornpage.explore.recorded import departure
from tornpage.explore.recoveries import Recovery, ended, recover_in_a_row
from tornpage.explore.schedule import CrashPoint, format_schedule, parse_schedule
from tornpage.interruption import is_sync, issued
from tornpage.model import CrashModel, require_model
from tornpage.platter import transition
from tornpage.platter.brute import Device, arrives_in_pieces, platters
from tornpage.platter.image import Image
from tornpage.platter.pieces import Watch
from tornpage.trace import Mark, Operation, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornpage.explore.beginnings import Beginnings
    from tornpage.explore.turns import End
    from tornpage.platter.pieces import Changes
    from tornpage.trace import Record

__all__ = [
    "Closure",
    "CrashPoint",
    "Explorer",
    "Reached",
    "format_schedule",
    "parse_schedule",
]

_NO_TRACE = "trace is a disk's trace, or a list of its records, not {!r}"

Stop = Callable[["Reached"], bool]


@dataclass(frozen=True, slots=True)
class Reached:
    """One outcome of a crash, and a way to get there.

    Attributes:
        outcome: What recovery reported.
        tape: The answers that lead there.
        choices: The same with the questions; they follow from the tape and
            are not compared.
    """

    outcome: Hashable
    tape: Tape
    choices: tuple[Choice, ...] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Closure:
    """What is known of one crash point.

    Attributes:
        point: Which one.
        outcomes: Every distinct outcome, with the first way to it.
        executions: How often recovery was run for it, 0 when reused. A row of
            recoveries is one execution.
        recalled: How often its outcome was known from earlier runs (`memory`).
        images_log2: log2 of the number of images that a crash here may leave.
        closed: Whether all of them are covered.
        reused: Whether the outcomes are those of an earlier point.
    """

    point: CrashPoint
    outcomes: tuple[Reached, ...]
    executions: int
    recalled: int
    images_log2: float
    closed: bool
    reused: bool


class Explorer:
    """Crashes one recorded run in every way the model allows.

    Args:
        files: What was durable before the run: files by name, or the platter
            of a disk that had crashed before (`Disk.image`).
        trace: The run, of a disk of the same model.
        recover: Reopens what a crash left and reports, as a hashable value,
            everything that can be seen. Deterministic.
        model: What a crash may do. Ignored when `files` is a platter.
        cap: Executions after which a crash point is given up.
        reuse: Whether outcomes are reused at later points, and recoveries
            remembered.
        notice: Told after each execution, run or recalled, what was chosen.
        beginnings: What is known of programs that began alike. They must have been
            explored with the same recovery, model and cap.

    Raises:
        ModelError: `model` is none.
        TypeError: `files`, `trace`, `recover` or `notice` is something else.
        ValueError: Their memory jumps, and under this model none may; the trace
            cannot be that of a disk of this model with these files; or `cap` is no
            number of executions.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | Image,
        trace: Trace | list[Record],
        recover: Callable[[Disk], Hashable],
        model: CrashModel | None = None,
        *,
        cap: int = 10_000,
        reuse: bool = True,
        notice: Callable[[Sequence[Choice]], None] | None = None,
        beginnings: Beginnings | None = None,
    ) -> None:
        if isinstance(files, Image):
            self._start: Image | None = files
            self.model = files.model
            self._files: Mapping[str, bytes] = {}
        else:
            self._start = None
            if not isinstance(files, Mapping):
                raise TypeError(f"files is a mapping of names to bytes, not {files!r}")
            self._files = dict(files)
            self.model = CrashModel() if model is None else require_model(model)
        if not callable(recover):
            raise TypeError(f"recover is a function of a disk, not {recover!r}")
        if notice is not None and not callable(notice):
            raise TypeError(f"notice is a function of choices, not {notice!r}")
        if not isinstance(cap, int) or cap < 1:
            raise ValueError(f"cap is a number of executions, 1 or more, not {cap!r}")
        if not isinstance(trace, Iterable):
            raise TypeError(_NO_TRACE.format(trace))
        self._recover = recover
        self._cap = cap
        self._reuse = reuse
        self._notice = notice
        self._beginnings = beginnings if self._start is None and reuse else None
        if beginnings and beginnings.memory.jumps and not self.model.jumps:
            raise ValueError(
                f"beginnings whose memory jumps do not go with {self.model}: make them"
                " with Memory(jumps=model.jumps)"
            )
        self._operations: list[Operation] = []
        # For each operation and the end: how many marks come before it.
        self._marks: list[Mark] = []
        self._marks_before: list[int] = []
        for record in trace:
            if isinstance(record, Mark):
                self._marks.append(record)
            elif not isinstance(record, Operation):
                # It would count as an operation that changes nothing.
                raise TypeError(_NO_TRACE.format(record))
            else:
                self._marks_before.append(len(self._marks))
                self._operations.append(record)
        self._marks_before.append(len(self._marks))
        # What `eager` has seen: most images of a crash point are those of another, too.
        self._of_images: dict[Hashable, Hashable] = {}
        self._at = 0
        self._image = self._first_image()
        if self._start is None:
            sizes = {inode: one.size for inode, one in self._image.files.items()}
            if departed := departure(self._operations, sizes, self.model):
                raise ValueError(
                    f"the trace is not of a disk of {self.model} with these files:"
                    f" {departed}; record it on Disk(files, model=...) with the files"
                    " and the model of the explorer"
                )
        self.point = CrashPoint(0)
        """The crash point that is being closed, for `stop` to ask."""

    def points(self) -> Iterator[CrashPoint]:
        """Every crash point, in order."""
        for index in range(len(self._operations)):
            yield CrashPoint(index)
            yield CrashPoint(index, inside=True)
        yield CrashPoint(len(self._operations))

    def marks(self, point: CrashPoint) -> tuple[Mark, ...]:
        """The marks made before the crash."""
        return tuple(self._marks[: self.marks_before(point)])

    def marks_before(self, point: CrashPoint) -> int:
        """How many marks were made before the crash."""
        self._check(point)
        return self._marks_before[point.index]

    def pending(self, point: CrashPoint) -> frozenset[int]:
        """The operations of which this crash may lose something, counted from 0."""
        return self._image_at(point).pending()

    def operation(self, point: CrashPoint) -> Operation | None:
        """The operation that was under way, or else the one to come next."""
        self._check(point)
        at = point.index
        return self._operations[at] if at < len(self._operations) else None

    def sweep(self, stop: Stop | None = None) -> Iterator[Closure]:
        """Close every crash point, in order.

        Args:
            stop: Asked about each outcome when it is first reached at a point
                (`self.point`); True ends the search at this point, which then
                counts as not closed. It is not asked about reused outcomes.

        Raises:
            RuntimeError: Another sweep with these `beginnings` has begun meanwhile.
            ReplayError: Recovery is not deterministic.
        """
        image = self._first_image()
        changes: list[Changes] = []
        beginnings = self._beginnings
        # The tree of beginnings, as long as this program is in it.
        node = beginnings.of(self._files) if beginnings else None
        memory = beginnings.memory if beginnings else self.memory()
        memory.begin(changes, self._files if self._start is None else None)
        if self._reuse:
            image.parts = memory.parts
        watch, stale = Watch(), True
        last: Closure | None = None
        for point in self.points():
            inside = point.inside
            done = point.index if inside else point.index - 1
            if done >= 0 and inside != is_sync(self._operations[done]):
                change = transition.apply(image, self._operations[done])
                memory.parts.apply(change)
                changes.append(change)
                stale = stale or watch.meets(change)
            if inside and beginnings and node is not None:
                node = beginnings.longer(node, self._operations[point.index])
            self.point = point
            known = node.known.get(inside) if node is not None else None
            chosen: list[tuple[Choice, ...]] = []
            if known is not None:
                last, watch, stale = known.closure, known.watch, known.stale
                memory.met |= known.ends
                if self._notice is not None:
                    for choices in known.chosen:
                        self._notice(choices)
            elif last is not None and self._reuse and not stale:
                last = Closure(
                    point, last.outcomes, 0, 0, image.images_log2(), last.closed, True
                )
            else:
                if memory.changes is not changes:
                    raise RuntimeError(
                        "another sweep has begun on what is remembered here: "
                        "sweep programs that share `beginnings` one after the other"
                    )
                watch = Watch()
                last, stale = self._search(
                    image, point, watch, stop, memory if self._reuse else None, chosen
                )
            # What a kept answer rests on is known to the program that kept it only.
            alone = known is not None or bool(watch.parts)
            if not alone and node is not None and last.closed:
                ends = frozenset(memory.met)
                node.known[inside] = Known(last, watch, stale, tuple(chosen), ends)
            yield last

    def memory(self) -> Memory:
        """An empty memory for recoveries under this model."""
        return Memory(jumps=self._start is None and self.model.jumps)

    def close(self, point: CrashPoint, stop: Stop | None = None) -> Closure:
        """Close one crash point; see `sweep` for `stop`."""
        self.point = point
        return self._search(self._image_at(point), point, Watch(), stop, None, [])[0]

    def eager(self, point: CrashPoint, limit: int = 100_000) -> frozenset[Hashable]:
        """The outcomes of all images of a crash point, each built in full.

        Written without the machinery that `close` uses, to be compared with it.

        Raises:
            TooManyImages: There are more than `limit`.
            ValueError: The run starts from an undecided platter.
        """
        self._check(point)
        if self._start is not None:
            raise ValueError("eager needs files, not an undecided platter, to start on")
        ended = point.index
        if point.inside and arrives_in_pieces(self._operations[ended]):
            ended += 1
        done = self._operations[:ended]
        # All of them before the first recovery: too many are refused at once. Many
        # come more than once, made of the same contents.
        images: dict[Hashable, Device] = {}
        count = 0
        for _, platter in platters(Device(dict(self._files)), self.model, done):
            for one in platter.images(limit - count):
                count += 1
                files = frozenset(one.files.items())
                images.setdefault((files, one.known, one.links), one)
        for key, one in images.items():
            if key not in self._of_images:
                disk = Disk(one.files, self.model, one.known, dict(one.links))
                self._of_images[key] = self._recover(disk)
        return frozenset(map(self._of_images.__getitem__, images))

    def sample(self, point: CrashPoint, seed: int, n: int) -> list[Reached]:
        """`n` random executions; seeds seed .. seed + n - 1, one each."""
        image = self._image_at(point)
        return [self._run(image, Sampler(seed + at)) for at in range(n)]

    def replay(self, point: CrashPoint, tape: Tape) -> Reached:
        """The execution of this tape.

        Raises:
            ReplayError: The tape does not fit this crash point.
        """
        return self._run(self._image_at(point), Replay(tape))

    def disk(self, point: CrashPoint, chooser: Chooser) -> Disk:
        """A crashed disk of one's own, to run anything on."""
        return Disk.on_image(self._image_at(point).fork(), chooser)

    def row(self, point: CrashPoint, tape: Tape) -> tuple[Recovery, ...]:
        """The recoveries of the execution of this tape; see `recoveries`.

        Raises:
            ReplayError: The tape does not fit this crash point.
        """
        return tuple(self._row(self._image_at(point), Replay(tape)))

    def _run(self, image: Image, chooser: Chooser) -> Reached:
        outcome = self._row(image, chooser)[-1].end.outcome
        return Reached(outcome, chooser.tape, tuple(chooser.log))

    def _row(self, image: Image, chooser: Chooser) -> list[Recovery]:
        disk = Disk.on_image(image, chooser)
        crashes = self.model.crashes
        return recover_in_a_row(
            disk, chooser, lambda one, _: ended(self._recover, crashes, one), crashes
        )

    def _search(
        self,
        image: Image,
        point: CrashPoint,
        watch: Watch,
        stop: Stop | None,
        memory: Memory | None,
        chosen: list[tuple[Choice, ...]],
    ) -> tuple[Closure, bool]:
        """Visit every leaf; also says whether the next point may not reuse it.

        It may not when `stop` ended it, or a recovery could be crashed. `chosen` gets
        the choices of each execution.
        """
        found: dict[Hashable, Reached] = {}
        chooser = Enumerator()
        executions = recalled = 0
        closed = alone = ran = False
        crashes = self.model.crashes
        run = partial(ended, self._recover, crashes)

        def recover(disk: Disk, first: bool) -> End:
            nonlocal ran
            if memory is None:
                ran = True
                return run(disk)
            end, new = memory.end(disk, run, watch if first else Watch())
            ran = ran or new
            return end

        while executions + recalled < self._cap:
            ran = False
            disk = Disk.on_image(image, chooser, watch)
            row = recover_in_a_row(disk, chooser, recover, crashes)
            outcome = row[-1].end.outcome
            alone = alone or bool(row[0].end.operations)
            executions += ran
            recalled += not ran
            log = tuple(chooser.log)
            chosen.append(log)
            if self._notice is not None:
                self._notice(log)
            if outcome not in found:
                reached = Reached(outcome, chooser.tape, log)
                found[outcome] = reached
                if stop is not None and stop(reached):
                    alone = True
                    break
            if not chooser.advance():
                closed = True
                break
        closure = Closure(
            point,
            tuple(found.values()),
            executions,
            recalled,
            image.images_log2(),
            closed,
            False,
        )
        return closure, alone

    def _first_image(self) -> Image:
        if self._start is not None:
            return self._start.fork()
        return Image(self._files, self.model)

    def _image_at(self, point: CrashPoint) -> Image:
        """The platter at a point, from the one of the last call if it is earlier."""
        self._check(point)
        ended = issued(self._operations, point)
        if ended < self._at:
            self._image, self._at = self._first_image(), 0
        while self._at < ended:
            transition.apply(self._image, self._operations[self._at])
            self._at += 1
        return self._image

    def _check(self, point: CrashPoint) -> None:
        n = len(self._operations)
        if not 0 <= point.index <= n - point.inside:
            raise IndexError(
                f"there is no crash point {point}: the run has {n} operations"
            )
