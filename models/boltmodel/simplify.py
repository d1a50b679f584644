"""Smaller programs to try instead of a failing one.

Theory
======
Three passes, cheapest first. Leaving out operations comes first because it
shrinks the story most: halves, quarters, down to single ones. Then options go
back to their defaults. Then single operations get simpler: fewer keys, shorter
values, shorter paths.

Every candidate is strictly smaller than the program by `weight`, so a shrinker
that always continues from the candidate it accepted must stop.

What it is not: it does not decide whether a candidate still fails.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from boltmodel.programs import Fill, Operation, Program, Put, SetSequence, Thin, Value
from tornpage.faults import Fault, Letters, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltmodel.model import Path

__all__ = ["simplify", "weight"]

# The simplest value that is still visible, and the simplest name.
_SHORT = 5
_NAME = b"a"
_KEY = b"k"
# Leaving out an operation makes at most so many calls come earlier, mostly.
_MOST_EARLIER = 8
_OPTIONS = (
    "ending",
    "fill_percent",
    "in_bulk",
    "small_cache",
    "reads_ahead",
    "no_freelist_sync",
    "freelist_type",
    "page_size",
)


def weight(program: Program) -> tuple[int, int, int]:
    """The order `simplify` descends in: operations, options, their size."""
    defaults = Program(())
    options = sum(
        getattr(program, name) != getattr(defaults, name) for name in _OPTIONS
    )
    faults = Script.parse(program.faults).faults
    size = sum(map(_size, program.operations)) + sum(map(_fault_size, faults))
    return len(program.operations), options + len(faults), size


def simplify(program: Program) -> Iterator[Program]:
    """Strictly smaller programs, the most drastic first."""
    operations = program.operations
    for kept in _shorter(operations):
        yield replace(program, operations=kept)
        # Calls are counted: with fewer operations the same call comes earlier.
        for earlier in _earlier(program.faults):
            yield replace(program, operations=kept, faults=earlier)
    script = Script.parse(program.faults)
    for simpler_script in script.simpler():
        if _script_size(simpler_script) < _script_size(script):
            yield replace(program, faults=str(simpler_script))
    for earlier in _earlier(program.faults):
        yield replace(program, faults=earlier)
    defaults = Program(())
    for name in _OPTIONS:
        default = getattr(defaults, name)
        if getattr(program, name) != default:
            yield replace(program, **{name: default})
    for position, op in enumerate(operations):
        for simpler in _simpler(op):
            if _size(simpler) < _size(op):
                changed = (*operations[:position], simpler, *operations[position + 1 :])
                yield replace(program, operations=changed)


def _earlier(faults: str) -> Iterator[str]:
    """The same faults, some calls earlier."""
    script = Script.parse(faults)
    counted = [one.nth for one in script.faults if isinstance(one, Fault)]
    for by in range(1, min(counted, default=1)):
        if by > _MOST_EARLIER:
            return
        moved = tuple(
            replace(one, nth=one.nth - by) if isinstance(one, Fault) else one
            for one in script.faults
        )
        yield str(Script(moved))


def _fault_size(one: Fault | Letters) -> int:
    if isinstance(one, Letters):
        return len(one.letters)
    return one.nth + one.amount + one.persistent


def _script_size(script: Script) -> tuple[int, int]:
    return len(script.faults), sum(map(_fault_size, script.faults))


def _shorter(operations: tuple[Operation, ...]) -> Iterator[tuple[Operation, ...]]:
    chunk = len(operations)
    while chunk:
        # From the end: what comes after the failure is never needed.
        for end in range(len(operations), 0, -chunk):
            yield operations[: max(0, end - chunk)] + operations[end:]
        chunk //= 2


def _size(op: Operation) -> int:
    """How much there is to say about one operation."""
    size = 1
    path: Path = getattr(op, "path", ())
    size += sum(1 + len(name) + (name != _NAME) for name in path)
    key: bytes = getattr(op, "key", _KEY)
    size += len(key) + (key != _KEY)
    if isinstance(op, Put | Fill):
        size += op.value.length
    if isinstance(op, Fill):
        size += op.count * 4 + op.first + op.step
    if isinstance(op, Thin):
        size += op.count + op.step + len(op.start)
    if isinstance(op, SetSequence):
        size += op.number
    return size


def _simpler(op: Operation) -> Iterator[Operation]:
    path: Path = getattr(op, "path", ())
    if path:
        yield _at(op, (_NAME,))
        if len(path) > 1:
            yield _at(op, path[1:])
            yield _at(op, path[:-1])
    if isinstance(op, Put):
        yield replace(op, key=_KEY)
        for length in _lengths(op.value.length):
            yield replace(op, value=Value(op.value.seed, length))
    if isinstance(op, Fill):
        yield Put(op.path, _KEY, op.value)
        yield replace(op, first=0, step=1)
        for count in (op.count // 2, op.count * 3 // 4, op.count - 1):
            if count:
                yield replace(op, count=count)
        for length in _lengths(op.value.length):
            yield replace(op, value=Value(op.value.seed, length))
    if isinstance(op, Thin):
        yield replace(op, start=b"")
        yield replace(op, step=1)
        yield replace(op, count=op.count // 2)
    if isinstance(op, SetSequence):
        yield replace(op, number=1)


def _at(op: Any, path: Path) -> Operation:
    """The operation on another bucket; the caller knows that it has a path."""
    moved: Operation = replace(op, path=path)
    return moved


def _lengths(length: int) -> Iterator[int]:
    for shorter in (_SHORT, length // 2, length * 3 // 4):
        if shorter >= _SHORT:
            yield shorter
