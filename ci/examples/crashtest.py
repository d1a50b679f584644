"""What tornpage has to know of `notelog`: copy this and put your store in.

Five things make a subject: what a program is, how to run it, how to reopen what a
crash left, what had been promised, and bugs to plant, which show that the test would
notice one.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from notelog import PATH, NoteLog

from tornpage import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tornpage import Disk, Mark

Program = tuple[str, ...]

BUGS = {
    "no-sync": ("add() returns before the note is durable", "data_durable", None),
    "no-dir-sync": ("a new file may lose its name", "name_durable", None),
    "no-checksum": ("notes are trusted as they are read", "checksum", 0),
}


class NoteLogSubject:
    """Programs are the notes to add, one transaction each."""

    name = "notelog"
    default_model = "tear=sector"
    packages = ("notelog",)

    # -- programs --------------------------------------------------------------------

    def generate(self, seed: int) -> Program:
        """The program of this seed; always the same one."""
        draw = random.Random(seed)
        letters = (draw.choice("abcdef") for _ in range(draw.randint(1, 5)))
        # Longer than a sector now and then: only such a note can be torn.
        return tuple(letter * draw.choice((1, 40, 700)) for letter in letters)

    def encode(self, program: Program) -> Any:
        """The program as JSON values."""
        return list(program)

    def decode(self, data: Any) -> Program:
        """The program back from JSON values."""
        if not isinstance(data, list) or not all(isinstance(n, str) for n in data):
            raise ValueError("a program is a list of notes")
        return tuple(data)

    def describe(self, program: Program) -> Sequence[str]:
        """One line a note."""
        return [f"add {note[0]!r} x {len(note)}" for note in program]

    def simplify(self, program: Program) -> Iterator[Program]:
        """Smaller programs to try instead, most drastic first."""
        for at in range(len(program)):
            yield program[:at] + program[at + 1 :]
        for at, note in enumerate(program):
            if len(note) > 1:
                yield (*program[:at], note[: len(note) // 2], *program[at + 1 :])

    # -- running, reopening, judging -------------------------------------------------

    def prepare(self, program: Program) -> Mapping[str, bytes]:
        """Files that are there, durable, before the program starts."""
        del program
        return {}

    def run(self, program: Program, disk: Disk) -> Program:
        """Add the notes, with a mark wherever a promise begins."""
        log = NoteLog(disk)
        disk.mark("acknowledged", txid=0)
        for number, note in enumerate(program, 1):
            disk.mark("begin", txid=number)
            log.add(note)
            disk.mark("acknowledged", txid=number)
        return program

    def recover(self, disk: Disk) -> tuple[str, ...]:
        """Reopen what a crash left and report all that can be seen."""
        return tuple(NoteLog(disk).notes)

    def judge(
        self, history: Program, marks: Sequence[Mark], outcome: Any
    ) -> Sequence[Violation]:
        """The promises that this outcome breaks."""
        kept = max((m["txid"] for m in marks if m.label == "acknowledged"), default=0)
        if len(outcome) < kept:
            facts = (("notes", f"at least {kept}", str(len(outcome))),)
            return [Violation("durability", "An acknowledged note is lost.", facts)]
        if outcome != history[: len(outcome)]:
            facts = (("notes", "those that were added", "others"),)
            return [Violation("atomicity", "A note was never added like that.", facts)]
        return []

    def live_violations(self, history: Program) -> Sequence[Violation]:
        """Promises broken without any crash."""
        del history
        return []

    # -- for people ------------------------------------------------------------------

    def describe_outcome(self, outcome: Any) -> Sequence[str]:
        """What recovery saw, in lines."""
        return [f"{len(outcome)} notes", *(f"  {note[:60]!r}" for note in outcome)]

    def locate(self, path: str, offset: int, data: bytes) -> str:
        """What the bytes at this place are."""
        del data
        return f"notes from byte {offset}" if path == PATH else ""

    # -- planted bugs ----------------------------------------------------------------

    def mutants(self) -> Mapping[str, str]:
        """Planted bugs by name, each with one line."""
        return {name: bug[0] for name, bug in BUGS.items()}

    @contextmanager
    def mutant(self, name: str) -> Iterator[None]:
        """While entered, the store has this planted bug."""
        _, method, value = BUGS[name]
        with mock.patch.object(NoteLog, method, return_value=value):
            yield
