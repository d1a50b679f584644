"""The command `tornpage run`: programs, every crash of each, a certificate.

tornpage run SUBJECT             as many programs as the subject thinks right
tornpage run SUBJECT --replay T  one failure again, from its token
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tornpage.certificate.token import Failure, read_token
from tornpage.command.arguments import (
    UsageError,
    add_json,
    add_mutant,
    add_subject,
    add_work,
    check_writable,
    plan_of,
    subject_of,
)
from tornpage.command.results import conclude, say, write
from tornpage.progress import watching
from tornpage.run.programs import run
from tornpage.run.report import Gone, replay
from tornpage.uncovered import UncoveredError

if TYPE_CHECKING:
    from tornpage.command.arguments import Subparsers

__all__ = ["add"]

_EPILOG = """\
A program that was started is finished, also when --seconds is over. --seconds
without --programs runs as many programs as fit.

Broken promises are shrunk, told, and kept in .tornpage/failures.
"""


def add(commands: Subparsers) -> None:
    """Declare `run`."""
    parser = commands.add_parser(
        "run",
        help="run programs and close every crash point",
        description="Run programs on a simulated disk and close every crash point.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=_run, parser=parser)
    add_subject(parser)
    add_work(parser)
    add_mutant(parser)
    parser.add_argument(
        "--replay",
        metavar="TAPE",
        help="see one failure again: the token of its story, or its file",
    )
    add_json(parser)
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="do not stop at the first broken promise",
    )


def _run(options: argparse.Namespace) -> int:
    if options.replay is not None:
        return _replay(options)
    subject, digest = subject_of(options)
    plan = plan_of(options, subject, digest, options.mutant)
    check_writable(options.json)
    with watching(
        plan.spec,
        sys.stderr,
        programs=plan.programs,
        seconds=plan.seconds,
        quiet=options.quiet,
    ) as watch:
        certificate = run(subject, plan, watch=watch)
    return conclude(certificate, options)


def _replay(options: argparse.Namespace) -> int:
    _refuse_with_replay(options)
    failure = Failure.from_token(read_token(options.replay))
    if failure.subject != options.subject:
        raise UsageError(
            f"--replay: this failure is of {failure.subject}, not of {options.subject}."
        )
    subject, digest = subject_of(options)
    if digest != failure.database:
        if failure.database is None:
            raise UsageError("--replay: this failure started from no --database.")
        raise UsageError(
            "--replay: this failure started from a file whose SHA-256 begins with"
            f" {failure.database[:16]}; give that file with --database."
        )
    try:
        story = replay(subject, failure, database=options.database)
    except Gone as gone:
        say(f"This failure does not reproduce any more: {gone}")
        return 0
    except (ValueError, UncoveredError) as error:
        raise UsageError(f"--replay: {error}") from error
    write(story)
    return 1


def _refuse_with_replay(options: argparse.Namespace) -> None:
    names = ("seed", "programs", "seconds", "model", "crashes", "mutant", "cap", "json")
    given = [f"--{name}" for name in names if getattr(options, name) is not None]
    if given:
        raise UsageError(
            f"--replay already says everything; leave out {', '.join(given)}."
        )
