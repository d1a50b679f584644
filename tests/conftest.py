"""What holds for every test: Hypothesis is deterministic, nothing is compiled twice.

The gate must say the same about the same tree twice, so examples follow from
the test's own code alone. To hunt with fresh examples instead:

    pytest --hypothesis-profile=hunt tests/models

Tests of random programs have few seeds by default, for a suite of a few minutes:

    SHEARBOLT_SEEDS=20 pytest -n 2 tests/engine tests/tornpage
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from xdist.scheduler import WorkStealingScheduling

# A run in the background ignores Ctrl-C, and so would all processes that tests start
# and then interrupt: they would be waited for, for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Containers often forbid bytecode. Then each of the hundreds of processes that tests
# start would compile all that it imports: measured, half of what they take. It is kept
# apart, as nothing may stay; xdist's workers inherit what is set here.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    BYTECODE = tempfile.mkdtemp(prefix="bytecode-")
    os.environ["PYTHONPYCACHEPREFIX"] = BYTECODE
    atexit.register(shutil.rmtree, BYTECODE, ignore_errors=True)
    # What is installed has its own, which is not looked at any more then. All workers
    # start at once, and each would compile pytest and Hypothesis: measured, 3.4 s of
    # processor time with two.
    for module in [*sys.modules.values()]:
        kept = getattr(module, "__cached__", None)
        if kept and os.path.exists(kept):
            folder = BYTECODE + os.path.dirname(os.path.abspath(module.__file__))
            os.makedirs(folder, exist_ok=True)
            shutil.copy(kept, folder)

settings.register_profile(
    "gate",
    derandomize=True,
    database=None,
    # A shared, busy machine; slowness is the benchmarks' affair.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("hunt", derandomize=False, deadline=None, max_examples=2000)
settings.load_profile("gate")


# Of a test that has run for so many seconds, or for up to a fifth less, it is written
# where it is.
HANGS = 300.0
WATCHED_FOR = HANGS / 5


class Watch:
    """For a test that hangs: one thread for the tests of a minute.

    pytest's faulthandler_timeout begins a thread for each test and waits for its end:
    measured, 0.6 ms of processor time, and 5 ms by the clock on a busy machine. There
    are thousands of tests.
    """

    def __init__(self) -> None:
        self._terminal = -1
        self._since = -HANGS

    def begin(self) -> None:
        """Keep the standard error that is the terminal's: tests have another one."""
        self._terminal = os.dup(sys.stderr.fileno())

    def look(self) -> None:
        """A test begins."""
        now = time.monotonic()
        if now - self._since > WATCHED_FOR:
            faulthandler.dump_traceback_later(HANGS, file=self._terminal)
            self._since = now

    def end(self) -> None:
        """No test is left."""
        faulthandler.cancel_dump_traceback_later()
        os.close(self._terminal)


WATCH = Watch()


def pytest_configure() -> None:
    """See `Watch`."""
    WATCH.begin()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """See `Watch`."""
    WATCH.look()


def pytest_unconfigure() -> None:
    """See `Watch`."""
    WATCH.end()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is: a worker more than there are processors.

    An eighth of the time a test waits for the disk, a clock or another process:
    measured on two processors, 365 s with three workers and 401 s with two.
    """
    return len(os.sched_getaffinity(0)) + 1


# Which one of how many workers of xdist this is; None for a run without workers.
WORKER: tuple[int, int] | None = None
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    WORKER = (
        int(worker.removeprefix("gw")),
        int(os.environ["PYTEST_XDIST_WORKER_COUNT"]),
    )

TIMES = int(os.environ.get("SHEARBOLT_SEEDS", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked seeds(n) is run with every `seed` below n times SHEARBOLT_SEEDS."""
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is not None:
        metafunc.parametrize("seed", range(marker.args[0] * TIMES))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Each of xdist's workers begins to read a folder elsewhere, and reads it all.

    A first run rewrites the asserts of 200 files, which takes as long as all else
    about collecting them does twice. Of three workers each finds two thirds of it
    written by the others.
    """
    report = yield
    if WORKER is not None and isinstance(collector, pytest.Directory):
        this, workers = WORKER
        begin = len(report.result) * this // workers
        report.result = report.result[begin:] + report.result[:begin]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is thorough, unless that or one test is asked for by its name.

    And all workers have to have the same tests in the same order.
    """
    named = any("::" in one for one in config.args)
    if TIMES == 1 and not named and "thorough" not in config.option.markexpr:
        left_out = {item for rows in _thorough(items) for item in rows}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    if WORKER is not None:
        items.sort(key=lambda item: str(item.path))


def _thorough(items: list[pytest.Item]) -> Iterator[list[pytest.Item]]:
    """Of each test marked thorough: the rows that are not for every run."""
    tests: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("thorough") is not None:
            name = item.nodeid.partition("[")[0]
            tests.setdefault((item.path, name), []).append(item)
    for rows in tests.values():
        marker = rows[0].get_closest_marker("thorough")
        assert marker is not None
        kept = marker.kwargs.get("rows", 0)
        # From the first on, as far from each other as can be.
        chosen = {at * len(rows) // kept for at in range(kept)}
        yield [row for at, row in enumerate(rows) if at not in chosen]


def pytest_collection_finish() -> None:
    """Keep what stays to the end, all tests among it, out of every collection."""
    _used_once()
    # Else each full collection of a test looks at 200,000 objects that are no garbage:
    # measured, 6 % of the whole suite.
    gc.freeze()


@given(strategies.none())
def _used_once(_nothing: None) -> None:
    """Have Hypothesis make what it keeps before that is out of the collector's sight.

    It asks the collector who keeps its source of chance, and warns when that knows
    nobody (seen with Python 3.14).
    """


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log) -> WorkStealingScheduling | None:
    """Halves of the suite, and whoever is done takes from the other one's.

    By default tests are dealt out in turns: both workers make what a file's tests
    share, and the last of them are dealt out long before it is known who is late.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
