"""Crash points that several programs have in common, closed once.

Theory
======
What a crash at some point may leave, and what recovery makes of it, follows from
the files, the operations up to there, the model and the code of recovery; not from
what the program meant to do next. Programs that begin alike, as all do that make a
new database, therefore share the closures of their beginning:

    create - write - sync - write - sync -+- write - sync ...     program 1
                                          '- truncate - sync ...  program 2

The beginnings are a tree of operations. A node has what is known of the crash point
between its operations and the next, an edge what is known of the one inside.

The same counts come out whoever was first: a closure has the executions that it took
when it was closed, and `Memory.begin` forgets which outcomes an earlier program met.

It asks for one thing more than exploring a single program does: that recovery is
the same for all programs. A subject says so with `recovers_alike = True`; it must
not, for example, keep anything of the run in itself for `recover` to use.

What it is not: it outlives no code. Whoever plants a bug begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornpage.choices import Choice
    from tornpage.explore.explorer import Closure
    from tornpage.explore.memory import Memory
    from tornpage.explore.turns import End
    from tornpage.platter.pieces import Watch
    from tornpage.trace import Operation

__all__ = ["Beginning", "Beginnings", "Known"]

# Between two programs all is forgotten once memory has this many bytes. Half of the
# bound at which it forgets by itself, which would make counts depend on who was first.
_FULL = 256 * 1024 * 1024

# Operations from the start of a program that are remembered, and programs' worth of
# them. Making a database takes nine; those of a file that was there differ at once.
_LONGEST = 32
_MOST = 4_000


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a crash point.

    Attributes:
        closure: What came out.
        watch: What its executions consumed.
        stale: Whether the next point cannot have the same outcomes.
        chosen: The choices of each execution.
        ends: The outcomes in memory that they met.
    """

    closure: Closure
    watch: Watch
    stale: bool
    chosen: tuple[tuple[Choice, ...], ...]
    ends: frozenset[End]


@dataclass(slots=True)
class Beginning:
    """The first operations of some programs.

    Attributes:
        depth: How many.
        known: What is known of the crash point behind them (False) and inside the
            last one (True).
        longer: Beginnings of one more operation.
    """

    depth: int = 0
    known: dict[bool, Known] = field(default_factory=dict)
    longer: dict[Operation, Beginning] = field(default_factory=dict)


class Beginnings:
    """What the programs of one subject, under one model, have in common.

    Args:
        memory: Of recovery; shared by all of them.

    Attributes:
        memory: The same.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._roots: dict[frozenset[tuple[str, bytes]], Beginning] = {}
        self._count = 0

    def of(self, files: Mapping[str, bytes]) -> Beginning:
        """The beginning without any operation, on these files.

        Asked for once by each program, before anything else.
        """
        if self.memory.spent > _FULL:
            self.memory.forget()
            self._roots, self._count = {}, 0
        return self._roots.setdefault(frozenset(files.items()), Beginning())

    def longer(self, beginning: Beginning, operation: Operation) -> Beginning | None:
        """The beginning of one more operation; None: it is not worth knowing."""
        found = beginning.longer.get(operation)
        if found is None and beginning.depth < _LONGEST and self._count < _MOST:
            self._count += 1
            found = beginning.longer[operation] = Beginning(beginning.depth + 1)
        return found
