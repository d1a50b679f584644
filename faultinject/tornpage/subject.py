"""What tornpage needs to know of the storage code under test: a subject.

A subject is the only thing a user writes. It says what a workload is (a
*program*: plain data, so that it can be stored, shrunk and replayed), how to
run it on a disk, how to reopen what a crash left, and what had been promised.

    program ---run--->  disk (records every operation and mark)
                          |
                          |  crash at every point of the trace
                          v
                        crashed disk ---recover---> outcome ---judge---> violations
                                                                 ^
                          marks before the crash, history -------'

Rules a subject keeps, because the exploration is only sound under them:

* `run` and `recover` are deterministic functions of the program and of what
  they read from the disk. No clock, no randomness, no iteration over sets.
* `recover` looks at the world only through the disk it is given, and returns
  everything it saw as a hashable value. It never raises for a damaged store:
  a failure to open is an outcome too.
* `recover` stands for a new process: it leans on nothing that `run`, or an earlier
  `recover`, has left in this one, be it in the subject. A store that keeps something
  outside of its files has it cleared there. Samples of this are looked at (`afresh`).
* `recover` may go on, when the store is open, to what a user would do with it. If it
  changes the disk by that it calls `disk.recovered()` before: where crashes during
  recovery are explored (`CrashModel.crashes`), they come no later.
* `judge` is a pure function; it is called far more often than `recover`. After crashes
  during recovery it is asked what it is asked after one: they promise nothing new.

One call of `run` or `recover` may take a minute of processor time. A subject that needs
more says so with `returns_within`; what else it may say is in `tornpage.extras`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tornpage.disk.simulated import Disk
    from tornpage.trace import Mark

__all__ = ["Subject", "SubjectError", "Violation"]


class SubjectError(ValueError):
    """A subject cannot be had, or is not made as it has to be; the message helps."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise.

    Attributes:
        property: Short name of the promise ("P persistence").
        message: One sentence: what was found against what was promised.
        facts: Rows (name, promised, found) for the story, by field name.
    """

    property: str
    message: str
    facts: tuple[tuple[str, str, str], ...] = field(default=())


class Subject(Protocol):
    """Storage code under test, with its workloads and its promises."""

    name: str

    def generate(self, seed: int) -> Any:
        """The program of this seed; always the same one."""
        ...

    def encode(self, program: Any) -> Any:
        """The program as JSON values."""
        ...

    def decode(self, data: Any) -> Any:
        """The program back from JSON values.

        Raises:
            ValueError: `data` is not a program of this subject.
        """
        ...

    def describe(self, program: Any) -> Sequence[str]:
        """One line an operation, for people. len() is the program's size."""
        ...

    def simplify(self, program: Any) -> Iterator[Any]:
        """Smaller programs to try instead of this one, most drastic first."""
        ...

    def prepare(self, program: Any) -> Mapping[str, bytes]:
        """Files that are on the disk, durable, before the program starts."""
        ...

    def run(self, program: Any, disk: Disk) -> Any:
        """Run the program, calling `disk.mark` where a promise begins.

        Returns:
            The history that `judge` compares with (opaque to tornpage).
        """
        ...

    def recover(self, disk: Disk) -> Hashable:
        """Reopen what a crash left and report everything that can be seen."""
        ...

    def judge(
        self, history: Any, marks: Sequence[Mark], outcome: Hashable
    ) -> Sequence[Violation]:
        """The promises that `outcome` breaks, given the marks before the crash."""
        ...

    def live_violations(self, history: Any) -> Sequence[Violation]:
        """Promises broken already during the run, without any crash."""
        ...

    def describe_outcome(self, outcome: Hashable) -> Sequence[str]:
        """The outcome in lines for people."""
        ...

    def locate(self, path: str, offset: int, data: bytes) -> str:
        """What the bytes at this place of this file are ("page 4, leaf"), or ""."""
        ...

    def mutants(self) -> Mapping[str, str]:
        """Planted bugs by name, each with one line saying what it is."""
        ...

    def mutant(self, name: str) -> AbstractContextManager[None]:
        """While entered, the storage code has this planted bug.

        Raises:
            KeyError: There is no planted bug of this name.
        """
        ...
