"""Worker processes: started, fed, watched, replaced.

              task                 answer, or how it was lost
    Pool  --------->  worker 0  ------------------------------->  events
          --------->  worker 1  ------------------------------->

A worker that dies (killed by the kernel for its memory, by a person, by a crash of
the interpreter) takes its present task with it and nothing else: answers arrive one
program at a time. A worker that runs away, in memory, open files or time, is killed
before it takes the machine with it. Either way the task is reported as `Lost` with
the reason, and a new worker takes the place.

Processes are spawned and not forked: a fork copies threads' locks in whatever state
they are, and a worker must not depend on what its coordinator happened to import.

What it is not: it knows nothing of seeds, certificates or time limits of a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from tornpage.run.plan_as_json import plan_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornpage.run.programs import Plan

__all__ = ["Answer", "Limits", "Lost", "Pool", "PoolError", "most_workers"]

_CHUNK = 1 << 16
_WATCH_SECONDS = 0.5
_STARTS_SECONDS = 60.0
_ENDS_SECONDS = 2.0
# A worker that cannot even start will not start the tenth time either.
_MOST_FAILED_STARTS = 3
_COMPLAINT_BYTES = 4_000
# Each has 25 MB from its start, and those beyond one a processor wait.
_WORKERS_A_PROCESSOR = 32


def most_workers() -> int:
    """How many processes may be asked for on this machine; more would only fill it."""
    # Not cpu_count(): a container often has fewer than the machine.
    return _WORKERS_A_PROCESSOR * len(os.sched_getaffinity(0))


class PoolError(RuntimeError):
    """Workers cannot be started; the message has what they said."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker has run away.

    Attributes:
        rss: Bytes of memory it may have resident.
        files: Files it may have open.
        seconds: Time it may take for one task.
    """

    rss: int = 1 << 30
    files: int = 256
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A task that was done.

    Attributes:
        task: As it was given.
        data: What the worker answered.
        worker: Its place, 0 and up.
    """

    task: dict[str, Any]
    data: dict[str, Any]
    worker: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A task whose worker did not live to answer it.

    Attributes:
        task: As it was given.
        reason: What became of the worker, as a clause.
        runaway: Whether it was killed for what it used.
        worker: Its place, 0 and up.
    """

    task: dict[str, Any]
    reason: str
    runaway: bool
    worker: int


class _Worker:
    """One process and what it is doing."""

    def __init__(self, place: int, plan: Plan, environment: Mapping[str, str]) -> None:
        # What it says before it dies; a pipe would fill up and stop it.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        path = os.pathsep.join(one or os.getcwd() for one in sys.path)
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tornpage.run.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, "PYTHONPATH": path, **environment},
            # Ctrl-C in a terminal reaches the whole process group.
            start_new_session=True,
        )
        self.task: dict[str, Any] | None = None
        self.ready = False
        self.code = ""
        self.since = time.monotonic()
        self.rss = 0
        self.files = 0
        self.killed_for = ""
        self._received = b""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.say(plan_to_json(plan))

    @property
    def output(self) -> int:
        """The descriptor its answers come from."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def say(self, message: dict[str, Any]) -> None:
        """Send one line. That it is dead already shows when its output ends."""
        pipe = self.process.stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """The whole lines that arrived, and whether its output has ended."""
        ended = False
        with contextlib.suppress(BlockingIOError):
            while True:
                chunk = os.read(self.output, _CHUNK)
                if not chunk:
                    ended = True
                    break
                self._received += chunk
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines], ended

    def complaint(self) -> str:
        """The last line it wrote to standard error."""
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, size - _COMPLAINT_BYTES))
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def kill(self, why: str = "") -> None:
        """End it at once."""
        self.killed_for = why
        self.process.kill()

    def end(self) -> int:
        """Wait until it is gone and free what it held; returns its status."""
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        status = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def forget(self) -> None:
        """Free what is left once nobody asks for its complaint any more."""
        self._complaints.close()


class Pool:
    """Some worker processes. Use it as a context manager.

    Args:
        plan: What they work for.
        size: How many; see `most_workers`.
        limits: When one of them has run away.
        code: The digest of the code they must all have.
        environment: What their environment has beside that of this process.

    Raises:
        PoolError: The system has no more processes, or files.
    """

    def __init__(
        self,
        plan: Plan,
        size: int,
        *,
        limits: Limits | None = None,
        code: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._plan = plan
        self._environment = environment or {}
        self._limits = limits or Limits()
        self._code = code
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._failed_starts = 0
        self._failed: PoolError | None = None
        self._watched = time.monotonic()
        self.replaced = 0
        """Workers that had to be replaced so far."""
        self.peak_rss = 0
        """Most bytes that one worker was seen to have resident."""
        try:
            for place in range(size):
                self._start(place)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers, whatever they are doing."""
        for worker in self._workers.values():
            worker.kill()
            worker.end()
            worker.forget()
        self._workers.clear()
        self._selector.close()

    @property
    def busy(self) -> int:
        """How many tasks are being worked at."""
        return sum(worker.task is not None for worker in self._workers.values())

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks that are being worked at."""
        return [w.task for w in self._workers.values() if w.task is not None]

    def idle(self) -> int:
        """How many workers wait for a task."""
        return sum(w.ready and w.task is None for w in self._workers.values())

    def give(self, task: dict[str, Any]) -> None:
        """Have some idle worker do this.

        Raises:
            ValueError: None is idle.
        """
        for place in sorted(self._workers):
            worker = self._workers[place]
            if worker.ready and worker.task is None:
                worker.task, worker.since = task, time.monotonic()
                worker.say(task)
                return
        raise ValueError("No worker is idle: ask idle() before give().")

    def wait(self, seconds: float) -> Sequence[Answer | Lost]:
        """What happened, at the latest after this many seconds.

        Raises:
            PoolError: Workers cannot be started, or have other code. What came in
                before that was returned.
        """
        if self._failed is not None:
            raise self._failed
        events: list[Answer | Lost] = []
        try:
            for key, _ in self._selector.select(seconds):
                self._hear(key.data, events)
        except PoolError as error:
            if not events:
                raise
            self._failed = error
            return events
        if time.monotonic() - self._watched >= _WATCH_SECONDS:
            self._watched = time.monotonic()
            self._watch()
        return events

    def _hear(self, worker: _Worker, events: list[Answer | Lost]) -> None:
        """Take what a worker has said, and see whether it has ended."""
        messages, ended = worker.receive()
        for message in messages:
            if worker.task is None:
                self._greeted(worker, message)
            else:
                events.append(Answer(worker.task, message, worker.place))
                worker.task = None
        if ended:
            events += self._buried(worker)

    def _start(self, place: int) -> None:
        try:
            worker = _Worker(place, self._plan, self._environment)
        except OSError as error:
            raise PoolError(
                f"Worker {place + 1} cannot be started: {error.strerror}."
            ) from error
        self._workers[place] = worker
        self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def _greeted(self, worker: _Worker, message: dict[str, Any]) -> None:
        if self._code and message["code"] != self._code:
            raise PoolError(
                "A worker runs other code than its coordinator: files were changed"
                " meanwhile. Start again."
            )
        worker.ready = True
        self._failed_starts = 0

    def _buried(self, worker: _Worker) -> list[Lost]:
        """Replace a worker that is gone; its task, when it had one, is lost."""
        self._selector.unregister(worker.output)
        # A process can close its output and live on; one that ends by itself must
        # have the time to say why.
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(_ENDS_SECONDS)
        worker.process.kill()
        status = worker.end()
        reason = worker.killed_for or _fate(status, worker.complaint())
        worker.forget()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise PoolError(f"No worker can be started: {reason}.")
        self.replaced += 1
        self._start(worker.place)
        if worker.task is None:
            return []
        return [Lost(worker.task, reason, bool(worker.killed_for), worker.place)]

    def _watch(self) -> None:
        """Look at what each worker uses, and kill those that run away."""
        # Not at the top: a plain `tornpage run` has no workers. By name: it has no
        # types.
        psutil: Any = import_module("psutil")

        limits, now = self._limits, time.monotonic()
        for worker in self._workers.values():
            if worker.killed_for:
                continue
            try:
                process = psutil.Process(worker.process.pid)
                worker.rss = process.memory_info().rss
                worker.files = process.num_fds()
            except psutil.Error:
                # It is gone already, which its output will tell.
                continue
            self.peak_rss = max(self.peak_rss, worker.rss)
            took = now - worker.since
            if worker.rss > limits.rss:
                worker.kill(
                    f"its worker ran away: {worker.rss >> 20:,} MiB of memory,"
                    f" {limits.rss >> 20:,} MiB are allowed"
                )
            elif worker.files > limits.files:
                worker.kill(
                    f"its worker ran away: {worker.files:,} open files,"
                    f" {limits.files:,} are allowed"
                )
            elif worker.task is not None and took > limits.seconds:
                worker.kill(
                    f"its worker ran away: {took:,.0f} s for one program,"
                    f" {limits.seconds:,.0f} s are allowed"
                )
            elif not worker.ready and took > _STARTS_SECONDS:
                worker.kill(f"its worker did not start in {_STARTS_SECONDS:.0f} s")


def _fate(status: int, complaint: str) -> str:
    """How a process ended, as a clause."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"its worker was killed by {name}"
    said = f": {complaint}" if complaint else ""
    return f"its worker ended with status {status}{said}"
