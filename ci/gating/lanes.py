"""From a policy to units of work, and from their results to one result.

    lane           units                                must all be done
    corpus         one a program kept in a folder       yes
    programs       one a seed                           yes; with `fill`, more
    planted bugs   one a bug                            yes
    model X        one a seed, under another model      yes
    file F         one a seed, starting from a file     yes
    failures       one a failure that is shown          what is left out is shown
                                                        as it was found

Planted bugs are hunted with the very programs that the lanes "corpus" and "programs"
prove consistent without them: otherwise a caught bug might be a false alarm. Hence
`planted_programs` never goes beyond the seeds of that lane.

Merging does not depend on the order in which units come back. The curve of new
behaviour is drawn over programs in their own order, corpus first, then by seed.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gating.policy import PolicyError
from gating.units import Catch, Cover, Lost, Stage, Tell, Told
from gating.workers import Crew
from tornpage.certificate import Certificate, MergeError
from tornpage.certificate.record import merge_all
from tornpage.extras import model_for
from tornpage.model import CrashModel
from tornpage.registry import load
from tornpage.reports import Exhibit, GateResult, Lane, Planted
from tornpage.run.regression import regression_file_name, regression_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gating.policy import Policy
    from gating.units import Unit
    from tornpage.subject import Subject

__all__ = ["Gate", "Progress", "read_corpus"]

# What is left of the time for shrinking and drawing failures.
_FOR_FAILURES = 0.12
_TELL_SECONDS = 60.0
_MOST_LEFT_OUT = 12


@dataclass(slots=True)
class Progress:
    """How far the gate is, for whoever watches.

    Attributes:
        seconds: Since it began.
        done: Units done.
        units: Units that have to be done.
        crash_points: Crash points visited.
        caught: Planted bugs caught.
        planted: Planted bugs tried so far.
        failures: Programs that broke a promise.
    """

    seconds: float = 0.0
    done: int = 0
    units: int = 0
    crash_points: int = 0
    caught: int = 0
    planted: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """One lane before it is run."""

    name: str
    what: str
    stage: Stage
    units: tuple[Cover, ...]


def read_corpus(folders: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """(name, program as JSON values) of every program kept in some folders.

    A folder holds files NAME.json, each an object with "program" in it, or has a
    folder "programs" of that kind, as the fuzzer's corpus does.

    Raises:
        PolicyError: There is no such folder, nothing is in it, or a file in it holds
            no program.
    """
    found = []
    for folder in folders:
        inner = os.path.join(folder, "programs")
        place = inner if os.path.isdir(inner) else folder
        try:
            names = sorted(name for name in os.listdir(place) if name.endswith(".json"))
        except OSError as error:
            raise PolicyError(f"corpus {folder}: {error.strerror}.") from error
        if not names:
            # A misspelt folder would silently be no lane at all.
            raise PolicyError(f"corpus {folder}: there is no NAME.json in {place}.")
        for name in names:
            path = os.path.join(place, name)
            try:
                with open(path, encoding="utf-8") as file:
                    program = json.load(file)["program"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise PolicyError(
                    f'{path} holds no program ({error!r}): write {{"program": ...}}.'
                ) from error
            found.append((name.removesuffix(".json"), program))
    return tuple(found)


class Gate:
    """One run of the gate.

    Args:
        policy: What to run.
        watch: Called after each unit.
        mutant: A planted bug that the code has in everything, to see what a failure
            looks like; the others are not tried then.
        commit: The commit under test, for the reports.
        clock: Seconds; tests put their own here.

    Raises:
        PolicyError: The policy cannot be followed, or there is no such mutant.
        SubjectError: The code under test cannot be found.
        OSError: A file it starts from cannot be read.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        watch: Callable[[Progress], None] = lambda _: None,
        mutant: str | None = None,
        commit: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._watch = watch
        self._commit = commit
        self._clock = clock
        self._progress = Progress()
        self._mutant = mutant
        self._subject: Subject = load(policy.subject)
        if mutant is not None and mutant not in self._subject.mutants():
            raise PolicyError(f"{policy.subject} has no planted bug {mutant!r}.")
        self._corpus = read_corpus([policy.path(one) for one in policy.corpus])
        self._model = str(model_for(self._subject, policy.model or None))
        self._lanes = tuple(self._planned())
        if twice := _repeated([lane.name for lane in self._lanes]):
            raise PolicyError(f"The policy asks twice for: {', '.join(twice)}.")
        self._catches = tuple(self._hunts())
        self._certificates: dict[str, list[Certificate]] = defaultdict(list)
        self._planted: dict[str, Planted] = {}
        self._lost: dict[tuple[str, str], str] = {}
        self._odd: list[str] = []
        self._came: Counter[tuple[str, str]] = Counter()

    @property
    def _tried(self) -> bool:
        return self._policy.planted and self._mutant is None

    # -- what is to be done ---------------------------------------------------------

    def _stage(self, model: str = "", database: str | None = None) -> Stage:
        policy = self._policy
        return Stage(
            policy.subject, model or self._model, policy.cap, database, self._mutant
        )

    def _seeds(self, lane: str, stage: Stage, seeds: range) -> Iterator[Cover]:
        for seed in seeds:
            yield Cover(
                lane, stage, f"seed {seed}", seed, None, self._policy.unit_seconds
            )

    def _planned(self) -> Iterator[_Plan]:
        policy, stage = self._policy, self._stage()
        first = policy.seed
        if self._corpus:
            units = tuple(
                Cover("corpus", stage, name, None, program, policy.unit_seconds)
                for name, program in self._corpus
            )
            yield _Plan("corpus", "programs kept for what they show", stage, units)
        seeds = range(first, first + policy.programs)
        what = f"new programs, model {stage.model}"
        yield _Plan(
            "programs", what, stage, tuple(self._seeds("programs", stage, seeds))
        )
        for text in policy.models:
            other = self._stage(str(CrashModel.parse(text)))
            name = f"model {text}"
            seeds = range(first, first + policy.model_programs)
            yield _Plan(
                name,
                f"the first programs, model {other.model}",
                other,
                tuple(self._seeds(name, other, seeds)),
            )
        short = [os.path.basename(path) for path in policy.databases]
        for path, base in zip(policy.databases, short, strict=True):
            on_file = self._stage(database=policy.path(path))
            name = f"file {path if base in _repeated(short) else base}"
            seeds = range(first, first + policy.database_programs)
            # Now and not in a worker: a missing file is a mistake in the policy.
            on_file.subject()
            yield _Plan(
                name,
                f"programs that start from {path}",
                on_file,
                tuple(self._seeds(name, on_file, seeds)),
            )

    def _hunts(self) -> Iterator[Catch]:
        policy = self._policy
        if not self._tried:
            return
        corpus = tuple(program for _, program in self._corpus)
        count = min(policy.planted_programs, policy.programs)
        for name, summary in self._subject.mutants().items():
            yield Catch(
                self._stage(),
                name,
                summary,
                corpus,
                (policy.seed, count),
                policy.shrink_planted,
                policy.planted_seconds,
            )

    def _more(self) -> Iterator[Cover]:
        """Further seeds, without end, when the policy wants the time filled."""
        if not self._policy.fill:
            return
        start = self._policy.seed + self._policy.programs
        for seed in itertools.count(start):
            yield from self._seeds("programs", self._stage(), range(seed, seed + 1))

    # -- doing it -------------------------------------------------------------------

    def run(self) -> GateResult:
        """Do everything and put it together; Ctrl-C only makes it end early."""
        policy = self._policy
        begun = self._clock()
        base = [unit for lane in self._lanes[:2] for unit in lane.units]
        rest = [unit for lane in self._lanes[2:] for unit in lane.units]
        units: list[Unit] = [*base, *self._catches, *rest]
        self._progress.units = len(units)
        until = begun + policy.seconds * (1 - _FOR_FAILURES)
        told: tuple[tuple[Tell, Told], ...] = ()
        try:
            stages = [lane.stage for lane in self._lanes]
            with Crew(policy.processes, until, self._clock, stages) as crew:
                for unit, result in crew.results(units, self._more()):
                    self._take(unit, result)
                    self._tick(begun)
            for kind, name in Counter(map(_known_as, units)) - self._came:
                # Whatever became of it: nobody said that it is lost.
                self._odd.append(f"{kind}: {name} was given out and never came back")
            lanes = self._merged()
            failures = tuple(self._failures(lanes))[: policy.failures]
            stages = [one.stage for one in failures if one.violation.failure.afresh]
            end = begun + policy.seconds
            with Crew(policy.processes, end, self._clock, stages) as crew:
                told = tuple(self._told(crew, failures))
        except KeyboardInterrupt:
            done = f"{self._progress.done} of {len(units)} units"
            self._odd.append(f"interrupted after {done}")
            lanes = self._merged()
        return GateResult(
            subject=policy.subject,
            tier=policy.tier,
            lanes=tuple(_with(lane, told) for lane in lanes),
            planted=tuple(self._fates()),
            kill_rate=policy.kill_rate,
            tried=self._tried,
            exhibits=tuple(self._exhibits(told)),
            curve=tuple(self._curve()),
            left_out=(*self._odd, *_bounded(tuple(self._left_out()))),
            seconds=self._clock() - begun,
            budget=policy.seconds,
            workers=policy.processes,
            commit=self._commit,
        )

    def _tick(self, begun: float) -> None:
        self._progress.done += 1
        self._progress.seconds = self._clock() - begun
        self._watch(self._progress)

    def _take(self, unit: Unit, result: Any) -> None:
        """File one result where it belongs."""
        progress = self._progress
        self._came[_known_as(unit)] += 1
        if isinstance(unit, Catch):
            if isinstance(result, Lost):
                result = Planted(
                    unit.name, unit.summary, "not finished", reason=result.reason
                )
            self._planted[unit.name] = result
            progress.planted += 1
            progress.caught += result.fate == "caught"
        elif isinstance(unit, Cover):
            if isinstance(result, Lost):
                self._lost[unit.lane, unit.name] = result.reason
                return
            self._certificates[unit.lane].append(result)
            progress.crash_points += result.coverage.crash_points
            progress.failures += bool(result.violations)

    def _merged(self) -> list[Lane]:
        lanes = []
        for lane in self._lanes:
            parts = self._certificates[lane.name]
            plan = lane.stage.plan()
            whole = Certificate(scope=plan.scope(lane.stage.subject()))
            try:
                # With one of what was asked for: parts may agree on something else.
                whole = merge_all((whole, *parts))
            except MergeError as error:
                # Somebody edited the code while it was being tested. What was found
                # was found.
                self._odd.append(f"{lane.name}: {error}".rstrip("."))
                found = tuple(one for part in parts for one in part.violations)
                whole = merge_all((replace(whole, violations=found),))
            lanes.append(Lane(lane.name, lane.what, whole))
        return lanes

    def _failures(self, lanes: Sequence[Lane]) -> Iterator[Tell]:
        """What is to be shrunk and drawn: one failure of each property and cause."""
        stages = {lane.name: lane.stage for lane in self._lanes}
        known = set()
        for lane in lanes:
            for one in lane.certificate.violations:
                if (one.property, one.cause) not in known:
                    known.add((one.property, one.cause))
                    yield Tell(lane.name, stages[lane.name], one, _TELL_SECONDS)

    def _told(self, crew: Crew, units: Sequence[Tell]) -> Iterator[tuple[Tell, Told]]:
        results: dict[str, Told] = {}
        for unit, result in crew.results(units):
            assert isinstance(unit, Tell)
            found = unit.violation
            if isinstance(result, Lost):
                # The failure as it was found is worth more than none.
                results[found.replay] = Told(found, None, result.reason)
            else:
                results[found.replay] = result
        for unit in units:
            yield unit, results[unit.violation.replay]

    def _exhibits(self, told: Sequence[tuple[Tell, Told]]) -> Iterator[Exhibit]:
        paths = {plan.name: plan.stage.database for plan in self._lanes}
        known = set()
        for unit, one in told:
            lane, found = unit.lane, one.violation
            # Different as they were found, and the same when they are small.
            key = (found.property, found.cause)
            if key in known:
                continue
            known.add(key)
            yield Exhibit(
                lane,
                found,
                one.scene,
                one.missing,
                regression_file_name(found),
                regression_test(found, paths[lane]),
            )

    def _left_out(self) -> Iterator[str]:
        """What was not covered, in the order of the plan, not of the clock."""
        planned = [(u.lane, u.name) for lane in self._lanes for u in lane.units]
        for lane, name in (*planned, *(self._lost.keys() - set(planned))):
            if reason := self._lost.get((lane, name)):
                yield f"{lane}: {name} is not covered: {reason}"

    def _fates(self) -> Iterator[Planted]:
        for catch in self._catches:
            yield self._planted.get(
                catch.name,
                Planted(
                    catch.name, catch.summary, "not finished", reason="interrupted"
                ),
            )

    def _curve(self) -> Iterator[tuple[int, int]]:
        """Different behaviours over programs, at each program that shows new ones."""
        parts = [
            *self._certificates.get("corpus", ()),
            *self._certificates.get("programs", ()),
        ]

        def order(part: Certificate) -> tuple[bool, int, str]:
            seed = part.seeds[0][0] if part.seeds else -1
            program = part.records[0].program if part.records else ""
            return bool(part.seeds), seed, program

        seen: set[str] = set()
        count = 0
        for count, part in enumerate(sorted(parts, key=order), 1):
            before = len(seen)
            seen.update(part.coverage.features)
            if len(seen) > before:
                yield count, len(seen)
        if parts:
            yield count, len(seen)


def _known_as(unit: Unit) -> tuple[str, str]:
    """What a unit belongs to, and its name there."""
    if isinstance(unit, Catch):
        return "planted bug", unit.name
    assert isinstance(unit, Cover)
    return unit.lane, unit.name


def _with(lane: Lane, told: Sequence[tuple[Tell, Told]]) -> Lane:
    """The lane with its violations as they are told, where they are."""
    small = {
        unit.violation.replay: one.violation
        for unit, one in told
        if unit.lane == lane.name
    }
    if not small:
        return lane
    violations = tuple(
        small.get(one.replay, one) for one in lane.certificate.violations
    )
    # Merging a single part drops what is the same failure after all.
    whole = merge_all((replace(lane.certificate, violations=violations),))
    return replace(lane, certificate=whole)


def _repeated(names: Sequence[str]) -> list[str]:
    """Names that occur more than once, in their order."""
    return [name for name, count in Counter(names).items() if count > 1]


def _bounded(clauses: Sequence[str]) -> tuple[str, ...]:
    if len(clauses) <= _MOST_LEFT_OUT:
        return tuple(clauses)
    more = len(clauses) - _MOST_LEFT_OUT
    return (*clauses[:_MOST_LEFT_OUT], f"{more} more units were left out")
