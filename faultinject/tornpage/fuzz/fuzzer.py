"""Fuzzing: as many programs as fit into the time, on several processes.

    corpus  --program-->  .------.  --certificate of one program-->  merged
    seeds   --seed----->  | pool |                                     |
    failures --token--->  '------'  --shrunk violation------------->  told

One unit of work is one program: run it, close every crash point, judge. It is a pure
function (`worker.work`), and certificates merge associatively, so the certificate of
some seeds does not depend on how many workers there were or who was first. Shrinking
is a unit of its own, so that a failure does not stop the search.

Which programs
--------------
First what the corpus holds, then new seeds. All workers draw from one stream: the
next free seed goes to whoever is idle. Giving each worker a stream of its own was
rejected: one worker with slow programs falls behind, and the seeds that a run
covered would depend on the number of workers.

Failures
--------
Each is told at once as it was found, unshrunk, so that nothing is lost when the run
is stopped. Then, of each property, those with different causes are shrunk, the one
with the smallest seed first, `MOST_CAUSES` of them at most; those that have the same
cause when they are small are one failure. Which ones these are is a function of the
set of seeds. Their programs are held in the corpus as they were found, so that the next
run begins with them.

Stopping
--------
Time is up, or the first signal: no further program is begun, those in progress are
finished, for `GRACE` seconds after a signal. A second signal ends them. What was
begun and not finished is declared, and then the certificate is unverifiable.

A program whose worker is lost is given to another worker once. When that is lost,
too, or when the first one ran away, the program is declared not covered.

When there can be no more workers (no process, no memory, the code was edited), the run
ends as by a second signal. Only one that has brought home nothing yet raises.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tornpage.certificate.as_json import from_json, violation_from_json
from tornpage.certificate.record import Certificate, merge_all
from tornpage.run.fingerprint import program_id
from tornpage.run.pool import Answer, Limits, Lost, Pool, PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tornpage.certificate.record import ReportedViolation
    from tornpage.fuzz.corpus import Corpus
    from tornpage.run.programs import Plan
    from tornpage.subject import Subject

_Task = dict[str, Any]

__all__ = ["GRACE", "MOST_CAUSES", "Fuzzer", "Status"]

GRACE = 20.0
"""Seconds that programs in progress have after the first signal."""

MOST_CAUSES = 3
"""Failures of one property that are shrunk and told."""

_POLL = 0.25
_SAVE_SECONDS = 5.0
_ATTEMPTS = 2
# Parts are merged in batches: merging copies the list of all programs so far.
_BATCH = 64


@dataclass(slots=True)
class Status:
    """What somebody who watches wants to know.

    Attributes:
        seconds: Since the beginning.
        programs: Programs covered, the corpus included.
        crash_points: Their crash points.
        executions: Recoveries run.
        features: Different features seen.
        newest: Programs covered when the last new feature was seen.
        failures: Different failures: by property and cause.
        kept: Programs in the corpus.
        running: Programs being worked at.
        peak_rss: Most bytes one worker had resident.
        replaced: Workers that had to be replaced.
        phase: What is going on, in a word.
    """

    seconds: float = 0.0
    programs: int = 0
    crash_points: int = 0
    executions: int = 0
    features: int = 0
    newest: int = 0
    failures: int = 0
    kept: int = 0
    running: int = 0
    peak_rss: int = 0
    replaced: int = 0
    phase: str = "starting"


class Fuzzer:
    """One run of the fuzzer.

    Args:
        subject: The code under test, for its digest and its declarations; no
            program runs in this process.
        plan: What to run; its `programs` and `seconds` bound the run.
        corpus: Where programs come from and go to.
        workers: How many processes.
        seeds: Exactly these and no others, as (first, how many); then time is no
            limit.
        resume: The certificate to go on from.
        limits: When a worker has run away.
        watch: Called a few times a second.
        say: Told about what should not wait for the end.

    Attributes:
        status: The state of the run.
        stopped: Why it was told to stop; "" when it was not.
    """

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        corpus: Corpus,
        *,
        workers: int,
        seeds: tuple[int, int] | None = None,
        resume: Certificate | None = None,
        limits: Limits | None = None,
        watch: Callable[[Status], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.status = Status()
        self.stopped = ""
        self._hard = 0.0
        self._plan = plan
        self._corpus = corpus
        self._workers = workers
        self._limits = limits
        self._watch = watch
        self._say = say
        self._scope = plan.scope(subject)
        self._parts = [resume or Certificate(self._scope)]
        self._seeds = seeds
        self._resumed = resume
        self._queue: deque[_Task] = deque()
        self._source = self._programs()
        self._replayed = 0
        self._attempts: dict[str, int] = {}
        self._cut: list[str] = []
        self._unkept = False
        self._came_back = False
        # Failures as they were found, by property and cause, and the small ones
        # made of them, by token.
        self._found: dict[tuple[str, str], ReportedViolation] = {}
        self._small: dict[str, ReportedViolation | None] = {}
        self._seen: set[str] = set()
        if resume is not None:
            self._seen.update(resume.coverage.features)
        self._begun = self._saved = time.monotonic()

    def stop(self, why: str) -> None:
        """Begin no further program; asked a second time, end those in progress.

        Safe to call from a signal handler: it only notes the wish.
        """
        if self.stopped:
            self._hard = time.monotonic()
        else:
            self.stopped = why
            self._hard = time.monotonic() + GRACE

    def run(self) -> Certificate:
        """Fuzz until the plan, a signal, or the end of the seeds says stop.

        A corpus that cannot be written any more (a full disk) ends it as a signal does:
        what was covered and found by then is told. So is it when workers cannot be
        started any more.

        Raises:
            PoolError: Workers cannot be started, and no program came back.
        """
        with Pool(
            self._plan, self._workers, limits=self._limits, code=self._scope.code
        ) as pool:
            try:
                self._work(pool)
            except PoolError as error:
                if not self._came_back:
                    raise
                reason = f"the run could not go on: {error}".removesuffix(".")
                self._cut.append(reason)
                self._say(reason)
                self.stop(reason)
            self._declare((*pool.tasks(), *self._queue))
        if self._replayed == len(self._corpus.kept):
            self._keep(self._corpus.minimise)
        self._keep(self._corpus.finish)
        self._save()
        return self.certificate()

    def _work(self, pool: Pool) -> None:
        while self._has_task() or pool.busy:
            if self.stopped and time.monotonic() >= self._hard:
                break
            while pool.idle() and self._has_task():
                pool.give(self._queue.popleft())
            for event in pool.wait(_POLL):
                if isinstance(event, Answer):
                    self._answered(event)
                else:
                    self._was_lost(event)
            self._show(pool)
            if time.monotonic() - self._saved >= _SAVE_SECONDS:
                self._saved = time.monotonic()
                self._save()

    def _save(self) -> None:
        certificate = self.certificate()
        self._keep(lambda: self._corpus.save(certificate))

    def _keep(self, write: Callable[[], object]) -> None:
        """Write to the corpus; if that fails, stop, and say so in the certificate."""
        try:
            write()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if self._unkept:
            return
        self._unkept = True
        reason = f"the corpus cannot be written: {error.strerror or error}"
        self._cut.append(reason)
        self._say(reason)
        if not self.stopped:
            self.stop(reason)

    def certificate(self) -> Certificate:
        """The certificate of what was covered so far."""
        self._parts = [merge_all(self._parts)]
        told = [self._small.get(_token(one)) or one for one in self._chosen()]
        mine = Certificate(self._scope, violations=tuple(told), cut=tuple(self._cut))
        return merge_all((self._parts[0], mine))

    # -- what to do next --------------------------------------------------------------

    def _has_task(self) -> bool:
        """Put a task into the queue if there is one; whether there is one now."""
        if self.stopped:
            return False
        if not self._queue:
            task = self._next_task()
            if task is not None:
                self._queue.append(task)
        return bool(self._queue)

    def _next_task(self) -> _Task | None:
        for violation in self._chosen():
            token = _token(violation)
            if token not in self._small:
                # Until it is done it stands for itself.
                self._small[token] = None
                return {"task": "shrink", "token": token, "seed": violation.seed}
        if self._time_is_up():
            return None
        try:
            return next(self._source, None)
        except OSError as error:
            # A seed whose number could not be noted is given to nobody.
            self._lose(error)
            return None

    def _time_is_up(self) -> bool:
        if self._seeds is not None or self._plan.seconds is None:
            return False
        return time.monotonic() - self._begun >= self._plan.seconds

    def _programs(self) -> Iterator[_Task]:
        for entry in self._corpus.kept:
            yield {"task": "program", "program": entry.program}
        # A range of seeds is its own limit. islice does not draw the seed behind
        # the last: a seed that is drawn is gone. Nor does it count beyond maxsize.
        limit = self._plan.programs if self._seeds is None else None
        if limit is not None:
            limit = min(limit, sys.maxsize)
        for seed in islice(self._stream(), limit):
            yield {"task": "seed", "seed": seed}

    def _stream(self) -> Iterator[int]:
        covered = self._resumed.seeds if self._resumed is not None else ()
        if self._seeds is not None:
            first, count = self._seeds
            yield from chain.from_iterable(_gaps(first, first + count, covered))
            return
        if covered:
            # What a run that was killed had begun and did not bring home.
            yield from chain.from_iterable(
                _gaps(covered[0][0], self._corpus.position, covered)
            )
        while True:
            yield self._corpus.next_seed()

    def _chosen(self) -> list[ReportedViolation]:
        """The failures to tell: of each property those with the smallest seeds."""
        chosen: dict[str, list[ReportedViolation]] = {}
        for violation in sorted(self._found.values(), key=lambda one: one.order()):
            same = chosen.setdefault(violation.property, [])
            if len(same) < MOST_CAUSES:
                same.append(violation)
        return [violation for same in chosen.values() for violation in same]

    # -- what came of it --------------------------------------------------------------

    def _answered(self, answer: Answer) -> None:
        task, data = answer.task, answer.data
        if task["task"] == "shrink":
            if data["violation"] is not None:
                small = violation_from_json(data["violation"])
                self._small[task["token"]] = small
            return
        self._came_back = True
        self._replayed += task["task"] == "program"
        part = from_json(data["certificate"])
        self._count(part)
        if not (part.cut or part.violations):
            features = frozenset(part.coverage.features)
            self._keep(
                lambda: self._corpus.offer(data["program"], data["size"], features)
            )
        for violation in part.violations:
            self._failed(violation)
        self._parts.append(replace(part, violations=()))
        if len(self._parts) > _BATCH:
            self._parts = [merge_all(self._parts)]

    def _failed(self, violation: ReportedViolation) -> None:
        key = (violation.property, violation.cause)
        known = self._found.get(key)
        if known is None:
            self._say(f"{violation.property}: {violation.message} ({violation.cause})")
        if known is None or violation.rank() < known.rank():
            self._found[key] = violation
            self._keep(self._hold)

    def _hold(self) -> None:
        """Have the next run begin with the programs of the failures that are told."""
        self._corpus.hold(
            (one.failure.program, one.found_size) for one in self._chosen()
        )

    def _was_lost(self, lost: Lost) -> None:
        task = lost.task
        self._say(f"{_name(task)}: {lost.reason}")
        if task["task"] == "shrink":
            # The failure stands as it was found.
            return
        name = _name(task)
        self._attempts[name] = self._attempts.get(name, 0) + 1
        if lost.runaway or self._attempts[name] >= _ATTEMPTS:
            self._cut.append(f"{name} is not covered: {lost.reason}")
            self._replayed += task["task"] == "program"
        else:
            self._queue.appendleft(task)

    def _declare(self, tasks: Sequence[_Task]) -> None:
        """Say of what was begun, or asked for, that it is not covered."""
        if not self.stopped:
            return
        for task in tasks:
            name = _name(task)
            waits = task in self._queue and name not in self._attempts
            if task["task"] != "shrink" and not waits:
                self._cut.append(f"interrupted in {name}, which is not covered")
        if self._seeds is not None:
            first, count = self._seeds
            done = [seeds for part in self._parts for seeds in part.seeds]
            gaps = _gaps(first, first + count, done)
            # Not counted one by one: --seeds 0..1000000000000 would not end.
            if missing := sum(gap.stop - gap.start for gap in gaps):
                self._cut.append(
                    f"interrupted: {missing:,} of {count:,} programs from seed"
                    f" {first} are not covered"
                )

    def _count(self, part: Certificate) -> None:
        status, seen = self.status, part.coverage
        status.programs += seen.programs
        status.crash_points += seen.crash_points
        status.executions += seen.executions
        if not self._seen.issuperset(seen.features):
            self._seen.update(seen.features)
            status.newest = status.programs

    def _show(self, pool: Pool) -> None:
        status = self.status
        status.seconds = time.monotonic() - self._begun
        status.features = len(self._seen)
        status.failures = len(self._found)
        status.kept = len(self._corpus)
        status.running = pool.busy
        status.peak_rss = pool.peak_rss
        status.replaced = pool.replaced
        if self.stopped:
            status.phase = "stopping"
        elif self._replayed < len(self._corpus.kept):
            status.phase = "replaying the corpus"
        elif self._time_is_up():
            status.phase = "finishing"
        else:
            status.phase = "fuzzing"
        self._watch(status)


def _token(violation: ReportedViolation) -> str:
    return violation.failure.token()


def _name(task: _Task) -> str:
    """What a task is about, for people."""
    if task["task"] == "seed":
        return f"the program of seed {task['seed']}"
    if task["task"] == "program":
        return f"program {program_id(task['program'])} of the corpus"
    return f"the failure of seed {task['seed']}"


def _gaps(first: int, end: int, covered: Sequence[tuple[int, int]]) -> Iterator[range]:
    """The seeds of [first, end) that no range covers, those in a row together."""
    at = first
    for start, count in (*sorted(covered), (end, 0)):
        if at < (until := min(start, end)):
            yield range(at, until)
        at = max(at, start + count)
