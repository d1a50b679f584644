"""What one program did, as two digests that somebody else can recompute.

    trace      every operation and mark of the run, with its data
    outcomes   for every crash point: whether it was closed, and every distinct
               outcome with the tape that leads there and the promises it breaks

A certificate carries both for each of its programs; `tornpage verify` runs a sample
again and compares. Equal digests on another machine, another Python or under another
hash seed say that the run was a function of the program and of nothing else.

Source lines are left out of the trace's digest. They are not something the disk
saw, and where a call spans several lines, which of them the interpreter reports
has changed between versions of Python.

Outcomes are digested as the lines that the subject describes them with: these are
the same wherever a story is, which `repr` of somebody's record need not be.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from tornpage.certificate.record import ProgramRecord
from tornpage.run.experiment import outcome_lines
from tornpage.trace import RECORDS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tornpage.explore.explorer import Closure, Reached
    from tornpage.run.experiment import Experiment
    from tornpage.trace import Record, Trace

__all__ = ["Fingerprint", "program_id", "trace_digest"]

# 64 bits: enough to notice any difference, few enough to list ten thousand.
_DIGITS = 16


def program_id(encoded: Any) -> str:
    """The name of a program: a digest of its JSON values."""
    text = json.dumps(encoded, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _line(record: Record) -> bytes:
    """A record without its source line, as bytes that nothing else gives."""
    parts = [record.op]
    for name in _facts(record.op):
        value = getattr(record, name)
        text = value.hex() if isinstance(value, bytes) else repr(value)
        parts.append(f"{name}={text}")
    return " ".join(parts).encode() + b"\n"


@cache
def _facts(op: str) -> tuple[str, ...]:
    """The fields of a record that count."""
    return tuple(one.name for one in fields(RECORDS[op]) if one.name != "site")


def trace_digest(trace: Trace) -> str:
    """The digest of a trace; source lines do not count."""
    digest = hashlib.sha256()
    for record in trace:
        digest.update(_line(record))
    return digest.hexdigest()[:_DIGITS]


class Fingerprint:
    """The digests of one program, gathered while its crash points are closed.

    Args:
        experiment: The program.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._digest = hashlib.sha256()
        for violation in experiment.live:
            self._digest.update(f"live {violation.property}\n".encode())
        self._texts: dict[Hashable, bytes] = {}
        self._last: tuple[Reached, ...] | None = None
        self._last_marks = -1
        self._last_digest = b""

    def closure(self, closure: Closure) -> None:
        """Take in one crash point."""
        head = f"{closure.point} {closure.closed}\n"
        self._digest.update(head.encode() + self._outcomes(closure))

    def _outcomes(self, closure: Closure) -> bytes:
        explorer = self._experiment.explorer
        assert explorer is not None
        # Reused outcomes are the very same tuple; under the same promises they
        # need no second look.
        marks = explorer.marks_before(closure.point)
        if closure.outcomes is self._last and marks == self._last_marks:
            return self._last_digest
        digest = hashlib.sha256()
        for reached in closure.outcomes:
            broken = self._experiment.judge(closure.point, reached.outcome)
            names = sorted({violation.property for violation in broken})
            digest.update(f"{reached.tape} {names}\n".encode())
            digest.update(self._text(reached.outcome))
        self._last, self._last_marks = closure.outcomes, marks
        self._last_digest = digest.digest()
        return self._last_digest

    def _text(self, outcome: Hashable) -> bytes:
        known = self._texts.get(outcome)
        if known is None:
            lines = outcome_lines(self._experiment.subject, outcome)
            known = hashlib.sha256("\n".join(lines).encode()).digest()
            self._texts[outcome] = known
        return known

    def record(self, seed: int | None) -> ProgramRecord:
        """The digests, once every crash point was taken in."""
        experiment = self._experiment
        encoded = experiment.subject.encode(experiment.program)
        return ProgramRecord(
            program=program_id(encoded),
            seed=seed,
            trace=trace_digest(experiment.disk.trace),
            outcomes=self._digest.hexdigest()[:_DIGITS],
        )
