"""The engine as a subject of tornpage.

Theory
======
tornpage knows disks, crashes and choices; this package knows programs, the
model and the contract. The subject is the thin piece between them and has no
ideas of its own:

    generate   seed -> program          (`generate`)
    run        program, disk -> history (`interpret`)
    recover    crashed disk -> outcome  (`recovery`)
    judge      history, marks, outcome -> violations (`contract`)
    mutants    planted bugs             (`mutants`)

`with_database(path)` gives a subject whose programs start from the bytes of a
real bolt file. What is in the file is the model's state before the program;
the programs change and delete inside its buckets and add new ones.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import shearbolt
from boltmodel import programs
from boltmodel.contract import Outcome, judge
from boltmodel.corpus import BY_NAME, CORPUS, DEAR
from boltmodel.detector import PLUMBING
from boltmodel.error_contract import judge_errors
from boltmodel.features import SOMETIMES, features
from boltmodel.fields import META_FIELDS, live_meta
from boltmodel.generate import generate, universe_of
from boltmodel.interpret import DATABASE, History, run
from boltmodel.model import Bucket, path_text, walk
from boltmodel.mutants import MUTANTS, mutant
from boltmodel.mutants.shown import SHOWN
from boltmodel.recovery import look, recover
from boltmodel.simplify import simplify
from boltmodel.under_errors import ErrorHistory, run_under_errors
from shearbolt.pages import format as layout
from tornpage.disk import Disk
from tornpage.faults import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from boltmodel.programs import Program
    from tornpage.subject import Violation
    from tornpage.trace import Mark, Record

__all__ = ["ShearboltSubject"]

# Drawn programs of a run without options, and before the dear ones of the corpus.
_DRAWN: Final = 16

# Programs of a run on a given file that names no number: measured on the etcd file
# of the tests (80 pages), one takes 1.2 s and has ninety crash points.
_PROGRAMS_ON_A_FILE: Final = 8


class ShearboltSubject:
    """The storage engine `shearbolt`, its programs and its contract.

    Attributes:
        name: "shearbolt".
        default_programs: Programs of a run that names no number.
        sometimes: Features that a long run must have seen.
        packages: Code under test outside this package, for certificates.
        recovers_alike: Recovery is the same for all programs: it keeps nothing of a
            run (`tornpage.explore.beginnings`).
        default_model: Crash model of a run that names none. Bolt tears its
            meta page by checksum, which only a byte-granular tear exercises.
    """

    name = "shearbolt"
    # The corpus, and some that a seed has drawn.
    default_programs = len(CORPUS) + _DRAWN
    default_model = "tear=byte"
    sometimes = SOMETIMES
    packages = ("shearbolt",)
    recovers_alike = True

    def __init__(self) -> None:
        # Injected errors make the engine warn, and without any handler Python
        # prints warnings between the lines of a story.
        logging.getLogger("shearbolt").addHandler(logging.NullHandler())
        self._file: bytes | None = None
        self._base: Bucket | None = None
        self._loose_txid = False
        self._forward = True
        # For `locate` only: how large the pages of the last program are.
        self._page_size = 4096
        # For `features` only: the last history and the trace it comes from.
        self._last: tuple[History | ErrorHistory | None, Iterable[Record]] = (None, ())

    def with_database(self, path: str) -> ShearboltSubject:
        """The same subject, its programs starting from a copy of a bolt file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not a bolt database.
        """
        with open(path, "rb") as source:
            content = source.read()
        other = ShearboltSubject()
        other._file = content
        # Recovery walks the whole file at every leaf of the tree of choices.
        other.default_programs = _PROGRAMS_ON_A_FILE
        try:
            with shearbolt.open(
                DATABASE, storage=Disk({DATABASE: content}), read_only=True
            ) as db:
                other._base = look(db).content
                # Summed once: what programs make of it adds to that.
                assert other._base.digest
                other._page_size = db.page_size
        except shearbolt.BoltError as error:
            raise ValueError(f"{path} is no bolt database: {error}") from error
        other._loose_txid = live_meta(content).freelist == layout.NO_FREELIST
        return other

    # -- programs -----------------------------------------------------------------

    def generate(self, seed: int) -> Program:
        """The program of this seed; always the same one.

        The first seeds are the corpus, so that every run from seed 0 on replays
        it first, whoever runs it; what is dear of it comes behind some drawn ones.
        """
        if self._base is None:
            if 0 <= seed < len(CORPUS):
                return CORPUS[seed]
            behind = seed - len(CORPUS) - _DRAWN
            if 0 <= behind < len(DEAR):
                return DEAR[behind]
            return generate(seed)
        return generate(seed, universe_of(self._base, seed))

    def encode(self, program: Program) -> Any:
        """The program as JSON values."""
        return programs.encode(program)

    def decode(self, data: Any) -> Program:
        """The program back from JSON values.

        Raises:
            ValueError: `data` is not a program.
        """
        return programs.decode(data)

    def describe(self, program: Program) -> Sequence[str]:
        """One line an operation."""
        return programs.describe(program)

    def simplify(self, program: Program) -> Iterator[Program]:
        """Smaller programs to try instead of this one."""
        return simplify(program)

    # -- running and recovering -----------------------------------------------------

    def prepare(self, program: Program) -> Mapping[str, bytes]:
        """The given database file, if any."""
        del program
        return {} if self._file is None else {DATABASE: self._file}

    def run(self, program: Program, disk: Disk) -> History | ErrorHistory:
        """Run the program on engine and model, with its faults if it has any."""
        disk.trace.plumbing = PLUMBING
        if self._file is None:
            self._page_size = program.page_size
        history = self._run(program, disk)
        self._last = history, disk.trace
        return history

    def _run(self, program: Program, disk: Disk) -> History | ErrorHistory:
        if self._file is None and program.faults:
            script = Script.parse(program.faults)
            return run_under_errors(program, disk, script, program.ending)[0]
        history = run(program, disk, mark=disk.mark, base=self._base)
        history.loose_txid = history.loose_txid or self._loose_txid
        return history

    def recover(self, disk: Disk) -> Outcome:
        """Open what a crash left and report everything that can be seen."""
        return recover(disk, forward=self._forward)

    def judge(
        self, history: History | ErrorHistory, marks: Sequence[Mark], outcome: Any
    ) -> Sequence[Violation]:
        """The promises that the outcome breaks."""
        assert isinstance(outcome, Outcome)
        if isinstance(history, ErrorHistory):
            return judge_errors(history, marks, outcome)
        return judge(history, marks, outcome)

    def live_violations(self, history: History | ErrorHistory) -> Sequence[Violation]:
        """Promises broken during the run."""
        return history.live

    def features(self, history: History | ErrorHistory) -> frozenset[str]:
        """Shapes that the last run went through; nothing for an older one."""
        last, trace = self._last
        return features(trace) if last is history else frozenset()

    # -- for people -----------------------------------------------------------------

    def describe_outcome(self, outcome: Any) -> Sequence[str]:
        """The outcome in lines for people."""
        assert isinstance(outcome, Outcome)
        lines = [] if outcome.existed else ["the file was not in the directory"]
        if outcome.error:
            return [*lines, f"opening failed: {outcome.error}"]
        lines.append(f"transaction {outcome.txid}")
        if outcome.content is not None:
            lines += _content_lines(outcome.content)
        lines += [f"checker: {problem}" for problem in outcome.problems]
        if outcome.again:
            lines.append(f"second opening: {outcome.again}")
        if outcome.progress:
            lines.append(f"one more commit: {outcome.progress}")
        return lines

    def locate(self, path: str, offset: int, data: bytes) -> str:
        """Which page, and for a meta page which fields, these bytes are."""
        if path != DATABASE:
            return ""
        pgid, within = divmod(offset, self._page_size)
        if not within and len(data) >= layout.PAGE_HEADER_SIZE:
            return _page_text(pgid, data, self._page_size)
        if pgid < 2:
            fields = _meta_fields(within, within + len(data))
            return f"meta {pgid}, {fields}" if fields else f"meta {pgid}"
        return f"page {pgid} + {within}"

    # -- planted bugs -----------------------------------------------------------------

    def mutants(self) -> Mapping[str, str]:
        """Planted bugs by name, each with one line."""
        return {name: bug.summary for name, bug in MUTANTS.items()}

    def mutant(self, name: str) -> AbstractContextManager[None]:
        """While entered, the engine has this planted bug.

        Raises:
            KeyError: There is no planted bug of this name.
        """
        return mutant(name)

    def mutant_details(self, name: str) -> Mapping[str, str | int]:
        """What the gate tells of a planted bug, and where it looks for it first.

        Returns:
            Its origin, the least that shows it, and the seed of the program that does;
            programs on a database are others, so there is no such seed there.

        Raises:
            KeyError: There is no planted bug of this name.
        """
        bug = MUTANTS[name]
        told: dict[str, str | int] = {"origin": bug.origin, "needs": bug.needs}
        if self._base is None and name in SHOWN:
            told["seed"] = _seed_of(BY_NAME[SHOWN[name][1]])
        return told


def _seed_of(program: Program) -> int:
    """Where `generate` has a program of the corpus."""
    if program in DEAR:
        return len(CORPUS) + _DRAWN + DEAR.index(program)
    return CORPUS.index(program)


def _content_lines(root: Bucket) -> list[str]:
    buckets = list(walk(root))
    lines = [f"{len(buckets)} buckets, content digest {root.digest.hex()[:16]}"]
    for path, bucket in buckets[:6]:
        plain = len(bucket.entries) - len(bucket.buckets())
        lines.append(f"  {path_text(path)}: {plain} keys, sequence {bucket.sequence}")
    if len(buckets) > 6:
        lines.append(f"  and {len(buckets) - 6} more")
    return lines


def _page_text(pgid: int, data: bytes, page_size: int) -> str:
    # Stories give a place some twenty columns, so the word that says most is first.
    header = layout.Header.decode(data)
    more = len(data) // page_size - 1
    pages = f" + {more} pages" if more > 0 else ""
    if not any(data[: layout.PAGE_HEADER_SIZE]) and pgid:
        return f"page {pgid}, never written"
    kind = layout.page_kind(header.flags)
    if header.flags == layout.META:
        try:
            meta = layout.Meta.decode(data[16:80])
        except layout.MetaError:
            return f"meta {pgid}"
        return f"meta {pgid}, txid {meta.txid}, root {meta.root}{pages}"
    if header.pgid != pgid:
        return f"page {pgid}, inside a run"
    return f"{kind} page {pgid}{pages}"


def _meta_fields(start: int, stop: int) -> str:
    names = [
        name
        for (at, name), (end, _) in pairwise(META_FIELDS)
        if at < stop and end > start
    ]
    return " to ".join(dict.fromkeys((names[0], names[-1]))) if names else ""
