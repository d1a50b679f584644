"""Arguments that several subcommands share, and what they come to.

Whatever can be known to be wrong is said here, before anything is run.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, TypeAlias

from tornpage.extras import extras_of, model_for
from tornpage.model import CrashModel, ModelError
from tornpage.registry import (
    file_digest,
    load,
    suggestion,
    with_database,
)
from tornpage.run.programs import DEFAULT_CAP, Plan

if TYPE_CHECKING:
    from tornpage.subject import Subject

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = [
    "UsageError",
    "add_json",
    "add_mutant",
    "add_subject",
    "add_work",
    "check_writable",
    "duration",
    "plan_of",
    "positive",
    "subject_of",
]


class UsageError(Exception):
    """The command cannot do what it was told; the message says why."""


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Declare SUBJECT."""
    parser.add_argument(
        "subject", metavar="SUBJECT", help="an installed name, or module:attribute"
    )


def add_work(parser: argparse.ArgumentParser) -> None:
    """Declare which programs are run, and how."""
    parser.add_argument(
        "--database", metavar="FILE", help="programs start from a copy of this file"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the first program (default: 0)"
    )
    parser.add_argument(
        "--programs", type=positive, metavar="N", help="run at most N programs"
    )
    parser.add_argument(
        "--seconds",
        type=duration,
        metavar="S",
        help="start no program after S seconds",
    )
    parser.add_argument(
        "--model",
        metavar="SPEC",
        help=f"what a crash may do (default: the subject's, or {CrashModel()})",
    )
    parser.add_argument(
        "--crashes",
        type=positive,
        metavar="N",
        help="crashes in a row, each but the first during recovery (default: the"
        " subject's, or 1)",
    )
    parser.add_argument(
        "--cap",
        type=positive,
        metavar="N",
        help=f"most executions for one crash point (default: {DEFAULT_CAP})",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no progress, a one-line result"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument(
        "--json", metavar="FILE", help="also write the certificate as JSON; - is stdout"
    )


def add_mutant(parser: argparse.ArgumentParser) -> None:
    """Declare --mutant."""
    parser.add_argument("--mutant", metavar="NAME", help="plant this bug first")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def duration(text: str, unit: str = "seconds") -> float:
    """A time that is over some day."""
    try:
        time = float(text)
    except ValueError:
        time = 0.0
    if not 0 < time < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of {unit} above 0")
    return time


def subject_of(options: argparse.Namespace) -> tuple[Subject, str | None]:
    """The subject, and the digest of the database when there is one.

    Raises:
        SubjectError: There is no such subject.
        UsageError: The database cannot be read.
    """
    subject = load(options.subject)
    if options.database is None:
        return subject, None
    try:
        return with_database(subject, options.database), file_digest(options.database)
    except OSError as error:
        raise UsageError(
            f"--database: cannot read {options.database}: {error.strerror}."
        ) from error


def plan_of(
    options: argparse.Namespace,
    subject: Subject,
    digest: str | None,
    mutant: str | None,
) -> Plan:
    """What the arguments ask for.

    Raises:
        UsageError: There is no such model or planted bug.
    """
    extras = extras_of(subject)
    try:
        model = model_for(subject, options.model)
    except ModelError as error:
        raise UsageError(f"--model: {error}") from error
    try:
        model = model_for(subject, options.model, options.crashes)
    except ModelError as error:
        raise UsageError(f"--crashes: {error}") from error
    if mutant is not None and mutant not in subject.mutants():
        hint = suggestion(mutant, subject.mutants())
        raise UsageError(
            f"--mutant: {options.subject} has no planted bug {mutant!r}.{hint}"
        )
    programs = options.programs
    if programs is None and options.seconds is None:
        programs = extras.default_programs
    return Plan(
        spec=options.subject,
        seed=options.seed or 0,
        programs=programs,
        seconds=options.seconds,
        model=model,
        mutant=mutant,
        database=options.database,
        database_digest=digest,
        cap=options.cap or DEFAULT_CAP,
        keep_going=getattr(options, "keep_going", False),
    )


def check_writable(path: str | None) -> None:
    """Refuse a --json that could not be written when the work is done.

    Raises:
        UsageError: It is a directory, or not ours to write.
    """
    if path in (None, "-"):
        return
    assert path is not None
    if not path:
        raise UsageError("--json: give the name of a file, or - for stdout.")
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise UsageError(f"--json: {path} is a directory.")
    if not os.path.isdir(folder):
        raise UsageError(f"--json: there is no directory {folder}.")
    target = path if os.path.exists(path) else folder
    if not os.access(target, os.W_OK):
        raise UsageError(f"--json: no permission to write {target}.")
