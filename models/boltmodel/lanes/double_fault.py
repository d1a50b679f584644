"""The double fault: a sync fails, the process goes on, then the power goes.

Theory
======
bbolt, when the sync of a meta page fails:

    commit A   acked                                      platter  A
    commit B   pages synced, meta written, sync: EIO      cache B, platter A
               error returned; rollback re-reads the meta it has just failed to
               make durable, from the page cache: B is live, A's pages are free
    commit C   writes its pages over A's                  platter  neither
    power goes                                            nothing is left

Each single step is what the kernel documents, and every tool that injects either
errors or crashes alone passes it. This module injects both: every place where
a commit can fail, also twice in a row (the second failure meets the repair of the
first), then everything that may come next (`under_errors.ENDINGS`), then a crash
at every later point, closed exhaustively, under each of the behaviours of a
failed sync (`docs/crash-model.md`, parameter `fail`).

`bbolt_rollback` plants bbolt's way into the engine: it must be found.

What no store can keep that syncs each page once is `fail=late`: the failed sync
reports success, the error comes with the next sync. The commit in between has been
acknowledged and is lost. The engine's option `sync_twice` is what it takes.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import shearbolt
from boltmodel.lanes.errors_sweep import Broken, Sweep, crash_after
from boltmodel.mutants.plant import Planter
from boltmodel.programs import Commit, Fill, Program, Put, Value
from boltmodel.under_errors import run_under_errors
from shearbolt import StorageError
from shearbolt.database import opening
from shearbolt.database.durable import DurableFile
from shearbolt.pages.format import Meta
from tornpage.disk import Disk
from tornpage.faults import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.model import CrashModel

__all__ = [
    "PROGRAM",
    "bbolt_rollback",
    "broken_by",
    "double_faults",
    "single_faults",
    "sync_twice",
]

_ROUNDS: Final = 4

PROGRAM: Final = Program(
    tuple(
        op
        for number in range(_ROUNDS)
        for op in (
            Fill((b"a",), 0, 12, 1, Value(number, 120)),
            Put((b"b", b"c"), b"k%d" % number, Value(50 + number, 300)),
            Commit(),
        )
    ),
    page_size=1024,
)
"""Every commit replaces what the one before it wrote, so that its pages are used
again as soon as the engine dares."""


def _calls(name: str) -> int:
    _, disk = run_under_errors(PROGRAM, Disk(), Script())
    return disk.calls.count(name)


def single_faults() -> Iterator[Script]:
    """EIO at each write and each sync of the program, in their order."""
    for call in ("pwrite", "fdatasync", "fsync", "fsync_dir"):
        for nth in range(1, _calls(call) + 1):
            yield Script((Fault(call, nth, "EIO"),))


def double_faults() -> Iterator[Script]:
    """Two faults: the second one meets what is done about the first."""
    for call in ("pwrite", "fdatasync"):
        for nth, after in pairwise(range(1, _calls(call) + 2)):
            yield Script((Fault(call, nth, "EIO"), Fault(call, after, "EIO")))
    # A sync fails, and then the write that is to repair it: the meta's sync
    # is the second of a commit, with two writes before it.
    for nth in range(1, _calls("fdatasync") + 1):
        script = Script((Fault("fdatasync", nth, "EIO"),))
        _, disk = run_under_errors(PROGRAM, Disk(), script)
        met = disk.injected[0].index
        writes = disk.calls[:met].count("pwrite")
        yield Script((*script.faults, Fault("pwrite", writes + 1, "EIO")))


def broken_by(
    script: Script, model: CrashModel, ending: str, into: Sweep
) -> list[Broken]:
    """Promises that the program breaks under a script, at any later crash."""
    history, disk = run_under_errors(PROGRAM, Disk(model=model), script, ending)
    into.runs += 1
    into.unhealed += history.unhealed
    found = [Broken(0, str(script), ending, None, one) for one in history.live]
    if not disk.injected or found:
        return found
    for point, violation in crash_after(history, disk, into, model, None):
        found.append(Broken(0, str(script), ending, point, violation))
        break
    return found


@contextmanager
def bbolt_rollback() -> Iterator[None]:
    """While entered, a failed meta sync is handled as bbolt does."""

    def publish(self: DurableFile, meta: Meta, sync: bool) -> None:
        try:
            self._write_meta(meta, sync)
        except StorageError:
            metas = opening._read_metas(self.pager.file.view, self.pager.file.size())
            live = opening._live_meta(metas)
            assert isinstance(live, Meta)
            self.live = live
            raise
        self.live = meta

    with _planting() as planter:
        planter.replace(DurableFile, "publish", publish)
        yield


@contextmanager
def sync_twice() -> Iterator[None]:
    """While entered, databases are opened with `sync_twice=True`."""
    with _planting() as planter:
        planter.wrap(shearbolt, "open", lambda call: partial(call, sync_twice=True))
        yield


@contextmanager
def _planting() -> Iterator[Planter]:
    planter = Planter()
    try:
        yield planter
    finally:
        planter.restore()
