"""Verifying a certificate: run a sample of its programs again and compare.

    certificate.json --> scope --> the subject, its planted bug, the model
                     --> digests of some programs --> run them --> equal?

    verdict      says                                                exit status
    verified     every program of the sample did the same again           0
    refuted      one did something else                                   1
    unverifiable nothing could be compared, or not by this code           3

A certificate claims what somebody else's machine did. Whoever has the same code can
check any part of that claim: programs are functions of their seeds, and what they
did is in two digests each (`fingerprint`). A sample of n programs finds a forgery of
a share f of them with probability 1 - (1 - f)^n.

Other code is said and does not stop the comparison. When the code differs and the
digests agree, the change did not touch what these programs do, but the certificate
is still not one of this code. When they disagree, nobody lied.
"""

from __future__ import annotations

import json
import os
import random
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tornpage.certificate.as_json import CertificateError
from tornpage.certificate.record import Certificate, ProgramRecord
from tornpage.model import CrashModel
from tornpage.registry import file_digest, load, with_database
from tornpage.run.afresh import Afresh
from tornpage.run.code_digest import code_digest
from tornpage.run.fingerprint import program_id
from tornpage.run.programs import Plan, cover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornpage.subject import Subject

__all__ = ["DEFAULT_SAMPLE", "Difference", "Report", "VerifyError", "verify_file"]

DEFAULT_SAMPLE = 10


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
    """

    certificate: Certificate
    same_code: bool
    ran: int
    missing: int
    differences: tuple[Difference, ...]

    @property
    def verdict(self) -> Literal["verified", "refuted", "unverifiable"]:
        """The verdict; see the module's head."""
        if self.differences and self.same_code:
            return "refuted"
        if self.ran and self.same_code and not self.differences:
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
        return (*lines, *(f"  {one}" for one in self.differences))


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
    certificate = _read(path)
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
        model=CrashModel.parse(scope.model),
        mutant=scope.mutant,
        cap=max(scope.cap, 1),
        shrink=False,
    )
    records = certificate.records
    chosen = random.Random(f"verify {seed}").sample(records, min(sample, len(records)))
    found, differences = 0, []
    with Afresh(subject) as afresh:
        for claimed in sorted(chosen, key=ProgramRecord.order):
            again = _again(subject, plan, claimed, corpus, afresh)
            if again is None:
                continue
            found += 1
            if again != claimed:
                differences.append(Difference(claimed, again))
    return Report(
        certificate=certificate,
        same_code=scope.code == code_digest(subject),
        ran=found,
        missing=len(chosen) - found,
        differences=tuple(differences),
    )


def _again(
    subject: Subject,
    plan: Plan,
    claimed: ProgramRecord,
    corpus: str | None,
    afresh: Afresh,
) -> ProgramRecord | None:
    """What the program does now; None when the program is not to be had."""
    with ExitStack() as stack:
        if plan.mutant is not None:
            stack.enter_context(subject.mutant(plan.mutant))
        program = _program(subject, claimed, corpus)
    if program is None:
        return None
    records = cover(subject, plan, program, claimed.seed, afresh=afresh).records
    if not records:
        nothing = "not covered"
        return ProgramRecord(claimed.program, claimed.seed, nothing, nothing)
    return records[0]


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


def _read(path: str) -> Certificate:
    try:
        with open(path, encoding="utf-8") as file:
            return Certificate.from_json(json.load(file))
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
