"""Verifying a certificate: run a sample of its programs again and compare.

    certificate.json --> scope --> the subject, its planted bug, the model
                     --> digests of some programs --> run them --> equal?

    verdict      says                                                exit status
    verified     every program of the sample did the same again           0
    refuted      one did something else                                   1
    unverifiable nothing could be compared, or not by this code, or what
                 did something else does so under other hashes, too       3

A certificate claims what somebody else's machine did. Whoever has the same code can
check any part of that claim: programs are functions of their seeds, and what they
did is in two digests each (`fingerprint`). A sample of n programs finds a forgery of
a share f of them with probability 1 - (1 - f)^n.

The counts are sums over the programs. So a consistent certificate has each at least
as large as the sample gives, and just as large when the sample is everything.

Other code is said and does not stop the comparison. When the code differs and the
digests agree, the change did not touch what these programs do, but the certificate
is still not one of this code. When they disagree, nobody lied.
"""

from __future__ import annotations

import json
import os
import random
import stat
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from tornpage.certificate.as_json import CertificateError
from tornpage.certificate.record import (
    Certificate,
    Coverage,
    ProgramRecord,
    Scope,
    log2_of,
)
from tornpage.model import CrashModel, ModelError
from tornpage.registry import file_digest, load, with_database
from tornpage.run.afresh import Afresh
from tornpage.run.fingerprint import program_id
from tornpage.run.hashes import differing
from tornpage.run.programs import Plan, cover

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tornpage.subject import Subject

__all__ = ["DEFAULT_SAMPLE", "Difference", "Report", "VerifyError", "verify_file"]

DEFAULT_SAMPLE = 10
_LARGE = 10**15


class VerifyError(ValueError):
    """There is nothing to verify; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A program that did not do what its certificate says.

    Attributes:
        claimed: What the certificate says.
        found: What it did now.
    """

    claimed: ProgramRecord
    found: ProgramRecord

    def __str__(self) -> str:
        parts = [
            f"{name} {getattr(self.claimed, name)} became {getattr(self.found, name)}"
            for name in ("program", "trace", "outcomes")
            if getattr(self.claimed, name) != getattr(self.found, name)
        ]
        who = (
            f"program {self.claimed.program}"
            if self.claimed.seed is None
            else f"seed {self.claimed.seed}"
        )
        return f"{who}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Report:
    """What verifying found.

    Attributes:
        certificate: What was verified.
        same_code: Whether it is about the code that is here.
        ran: Programs that were run again.
        missing: Programs of the sample that came from a corpus and are not to be
            had: no folder was given, or the corpus has smaller ones by now.
        differences: Those that did something else.
        unsettled: How many of these rest on the hashes of strings (`hashes`): nobody
            has to have lied.
        claims: What else the certificate says and this code does not, a clause each.
    """

    certificate: Certificate
    same_code: bool
    ran: int
    missing: int
    differences: tuple[Difference, ...]
    claims: tuple[str, ...] = ()
    unsettled: int = 0

    @property
    def verdict(self) -> Literal["verified", "refuted", "unverifiable"]:
        """The verdict; see the module's head."""
        wrong = len(self.differences) > self.unsettled or self.claims
        if wrong and self.same_code:
            return "refuted"
        if self.ran and self.same_code and not self.unsettled:
            return "verified"
        return "unverifiable"

    @property
    def exit_status(self) -> int:
        """The exit status of a command that ends with this report."""
        return {"verified": 0, "refuted": 1, "unverifiable": 3}[self.verdict]

    def lines(self) -> Sequence[str]:
        """The report for people."""
        scope = self.certificate.scope
        of_all = len(self.certificate.records)
        about = f"{scope.subject}, verdict {self.certificate.verdict}"
        other = f"{len(self.differences)} did something else"
        lines = [
            f"{self.verdict.upper()}  a certificate of {about}",
            f"  {self.ran} of {of_all:,} programs run again, {other}",
        ]
        if not self.same_code:
            lines.append(
                "  the certificate is about other code than what is installed here"
            )
        if self.missing:
            lines.append(
                f"  {self.missing} came from a corpus and are not at hand (--corpus)"
            )
        if not self.ran:
            lines.append("  nothing was compared")
        if self.unsettled:
            lines.append(
                f"  {self.unsettled} do something else under each PYTHONHASHSEED: the"
                " store goes by the order of a set, or by hash()"
            )
        return (*lines, *(f"  {one}" for one in (*self.differences, *self.claims)))


def verify_file(
    path: str,
    *,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    database: str | None = None,
    corpus: str | None = None,
) -> Report:
    """Run a sample of a certificate's programs again.

    Args:
        path: The certificate, a file that --json wrote.
        sample: How many programs, all when there are fewer.
        seed: Which sample.
        database: The file the programs started from, when there was one.
        corpus: The folder of the corpus that programs without a seed came from.

    Raises:
        VerifyError: The file is no certificate, or its database is not given.
        SubjectError: Its subject is not to be had.
    """
    certificate, data = _read(path)
    scope = certificate.scope
    subject = load(scope.subject)
    given = None if database is None else _digest(database)
    if given != scope.database:
        wanted = "no --database" if scope.database is None else scope.database[:16]
        raise VerifyError(f"The programs started from {wanted}, not from this file.")
    if database is not None:
        subject = with_database(subject, database)
    if scope.mutant is not None and scope.mutant not in subject.mutants():
        raise VerifyError(f"{scope.subject} has no planted bug {scope.mutant!r} now.")
    plan = Plan(
        spec=scope.subject,
        programs=1,
        model=_model(scope.model),
        mutant=scope.mutant,
        # No run has a cap of 0, and a certificate that says so says what is not.
        cap=max(scope.cap, 1),
        shrink=False,
    )
    records = certificate.records
    chosen = random.Random(f"verify {seed}").sample(records, min(sample, len(records)))
    parts, differences = [], []
    with Afresh(subject) as afresh:
        for claimed in sorted(chosen, key=ProgramRecord.order):
            part = _again(subject, plan, claimed, corpus, afresh)
            if part is None:
                continue
            parts.append(part.coverage)
            again = _record(part, claimed)
            if again != claimed:
                differences.append(Difference(claimed, again))
    scoped = plan.scope(subject)
    same_code = scope.code == scoped.code
    claims: tuple[str, ...] = ()
    unsettled = 0
    if same_code:
        tasks = [_task(subject, one.claimed, corpus) for one in differences]
        unsettled = sum(differing(replace(plan, database=database), tasks))
        claims = (*_said(certificate, data, scoped),)
        if certificate.verdict == "consistent" and not differences:
            whole = len(parts) == len(records)
            claims += (*_counted(certificate.coverage, parts, whole=whole),)
    return Report(
        certificate=certificate,
        same_code=same_code,
        ran=len(parts),
        missing=len(chosen) - len(parts),
        differences=tuple(differences),
        claims=claims,
        unsettled=unsettled,
    )


def _task(
    subject: Subject, claimed: ProgramRecord, corpus: str | None
) -> dict[str, Any]:
    """A program as workers take it."""
    if claimed.seed is not None:
        return {"task": "seed", "seed": claimed.seed}
    program = subject.encode(_program(subject, claimed, corpus))
    return {"task": "program", "program": program}


def _said(certificate: Certificate, data: Any, scope: Scope) -> Iterator[str]:
    """What the certificate says in words and does not follow from the rest."""
    for name in ("exclusions", "sometimes"):
        claimed, found = getattr(certificate.scope, name), getattr(scope, name)
        if claimed != found:
            yield f"{name} {list(claimed)} became {list(found)}"
    if certificate.scope.cap != scope.cap:
        yield f"cap {certificate.scope.cap:,} became {scope.cap:,}"
    derived = certificate.to_json()
    for name in ("doubts", "never_seen"):
        if data.get(name) != derived[name]:
            yield f"{name} {data.get(name)} became {derived[name]}"


def _counted(
    claimed: Coverage, parts: Sequence[Coverage], *, whole: bool
) -> Iterator[str]:
    """The counts that are not those of the programs that were run again."""
    found = Coverage.total(parts)
    for each in fields(Coverage):
        said, seen = getattr(claimed, each.name), getattr(found, each.name)
        if each.name == "nanoseconds" or said == seen:
            continue
        if isinstance(said, int):
            if whole or said < seen:
                yield f"{each.name} {_short(said)} became {_short(seen)}"
            continue
        for kind in sorted({*said, *seen}):
            one, other = said.get(kind, 0), seen.get(kind, 0)
            if one < other or (whole and one != other):
                yield f"{each.name}, {kind}: {one:,} became {other:,}"


def _short(count: int) -> str:
    # Images are counted in numbers of thousands of digits.
    return f"{count:,}" if count < _LARGE else f"2^{log2_of(count):.3f}"


def _model(text: str) -> CrashModel:
    try:
        return CrashModel.parse(text)
    except ModelError as error:
        raise VerifyError(f"Its crash model is none: {error}.") from error


def _again(
    subject: Subject,
    plan: Plan,
    claimed: ProgramRecord,
    corpus: str | None,
    afresh: Afresh,
) -> Certificate | None:
    """What the program does now; None when the program is not to be had."""
    with ExitStack() as stack:
        if plan.mutant is not None:
            stack.enter_context(subject.mutant(plan.mutant))
        program = _program(subject, claimed, corpus)
    if program is None:
        return None
    # A run that kept going has the digests of programs that break a promise, too.
    return cover(subject, plan, program, claimed.seed, afresh=afresh, to_the_end=True)


def _record(part: Certificate, claimed: ProgramRecord) -> ProgramRecord:
    """What one program has in its certificate."""
    if not part.records:
        nothing = "not covered"
        return ProgramRecord(claimed.program, claimed.seed, nothing, nothing)
    return part.records[0]


def _program(subject: Subject, claimed: ProgramRecord, corpus: str | None) -> Any:
    if claimed.seed is not None:
        return subject.generate(claimed.seed)
    if corpus is None:
        return None
    path = os.path.join(corpus, "programs", f"{claimed.program}.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        encoded = json.load(file)["program"]
    if program_id(encoded) != claimed.program:
        raise VerifyError(f"{path} does not hold the program it is named after.")
    return subject.decode(encoded)


def _read(path: str) -> tuple[Certificate, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                # /dev/zero has no end.
                raise VerifyError(f"{path} is a device, no certificate.")
            data = json.load(file)
        return Certificate.from_json(data), data
    except VerifyError:
        raise
    except OSError as error:
        raise VerifyError(f"Cannot read {path}: {error.strerror}.") from error
    except CertificateError as error:
        raise VerifyError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise VerifyError(f"{path} is not JSON: {error}.") from error


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise VerifyError(f"Cannot read {path}: {error.strerror}.") from error
