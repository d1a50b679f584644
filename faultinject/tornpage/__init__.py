"""A simulated disk and a crash explorer for storage code.

What most users need is here, and is imported when it is first used:

    subject_from   storage code under test, from three functions
    Subject        the same as a class: what it has to say of itself
    patched        code that uses `open`, `os` and `sqlite3`, on a simulated disk
    Disk           the disk, for code that does its I/O through an object
    CrashModel     what a crash may do, as parameters
    Explorer       every outcome of every crash of a recorded run
    Script         calls that fail, as one line of text; `under_script` a disk with it

Without a subject, it takes three lines:

    disk        = Disk()
    run(disk)                                     # records disk.trace
    explorer = Explorer({}, disk.trace, recover)  # recover(disk) -> outcome
    for closure in explorer.sweep():
        ...                                       # closure.outcomes

Packages, each importing only from those above it and from the modules below:

    platter      everything that a device may hold when the power goes
    disk         the machine that storage code talks to
    faults       calls that fail, data that goes bad
    patch        the same machine for code that uses `open`, `os` and `sqlite3`
    threads      threads that switch where a schedule says
    explore      every outcome of every crash of a run
    story        a broken promise, told
    certificate  what was proved; a failure as a token
    run          programs, their crashes, their promises: one, many, shrunk, verified
    reports      HTML, Markdown, JUnit
    fuzz         as many programs as fit into the time
    command      `tornpage`

Modules that all of them share:

    model        what a crash may do
    trace        what was done to a disk, as data
    choices      one tape of decisions: enumerate, sample, replay
    subject      what storage code under test has to say of itself
    extras       what else it may say
    functions    subjects from functions
    registry     subjects by name
    uncovered    what cannot be explored: neither a broken promise nor a kept one
    time_limit   recovery ends
    call_site    source lines
    litmus       the crash model in one line a parameter
    waits        calls during which other threads run
    progress     for somebody who watches
    system       what the system has to have
    quotation    what code under test says, as it can be shown

See docs/design.md and docs/crash-model.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tornpage.choices import Enumerator, Replay, Sampler
    from tornpage.disk import Disk, DiskFile, DiskFolder, observed
    from tornpage.explore import Closure, CrashPoint, Explorer
    from tornpage.extras import Extras
    from tornpage.faults import Script, under_script
    from tornpage.functions import subject_from
    from tornpage.hypothesis_driver import Drawn
    from tornpage.model import PRESETS, CrashModel
    from tornpage.patch import patched
    from tornpage.run.regression import check_token
    from tornpage.subject import Subject, SubjectError, Violation
    from tornpage.trace import Mark, Trace
    from tornpage.uncovered import UncoveredError, UnsupportedCallError

__version__ = "0.1.0"
"""The version of the distribution, `shearbolt`."""

_HOMES = {
    "Closure": "explore",
    "CrashModel": "model",
    "CrashPoint": "explore",
    "Disk": "disk",
    "DiskFile": "disk",
    "DiskFolder": "disk",
    "Drawn": "hypothesis_driver",
    "Enumerator": "choices",
    "Explorer": "explore",
    "Extras": "extras",
    "Mark": "trace",
    "PRESETS": "model",
    "Replay": "choices",
    "Sampler": "choices",
    "Script": "faults",
    "Subject": "subject",
    "SubjectError": "subject",
    "Trace": "trace",
    "UncoveredError": "uncovered",
    "UnsupportedCallError": "uncovered",
    "Violation": "subject",
    "check_token": "run.regression",
    "observed": "disk",
    "patched": "patch",
    "subject_from": "functions",
    "under_script": "faults",
}

__all__ = [
    "PRESETS",
    "Closure",
    "CrashModel",
    "CrashPoint",
    "Disk",
    "DiskFile",
    "DiskFolder",
    "Drawn",
    "Enumerator",
    "Explorer",
    "Extras",
    "Mark",
    "Replay",
    "Sampler",
    "Script",
    "Subject",
    "SubjectError",
    "Trace",
    "UncoveredError",
    "UnsupportedCallError",
    "Violation",
    "__version__",
    "check_token",
    "observed",
    "patched",
    "subject_from",
    "under_script",
]


# pytest imports this package at every start, for its plugin, whatever is tested:
# the parts are imported when they are asked for. A type checker, to which a misspelt
# name would be Any, has them from the imports above.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
