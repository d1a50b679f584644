"""The `tornpage` command.

    tornpage run SUBJECT         run programs, close every crash, print a certificate
    tornpage run ... --replay T  see one failure again
    tornpage fuzz SUBJECT        the same on several processes, with a corpus
    tornpage verify CERTIFICATE  run a sample again and compare digests
    tornpage mutants SUBJECT     the planted bugs; --check: is each one caught?
    tornpage subjects            what is installed

    exit status  0 consistent   1 violated   2 used wrongly   3 unverifiable

Results go to standard output, progress and complaints to standard error. Whatever
can be known to be wrong before the run starts is said before the run starts: half a
minute of work must not end in "cannot write that file".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

from tornpage import fuzz_command
from tornpage.certificate import EXIT_STATUS, tornpage_version
from tornpage.certificate_text import headline, render
from tornpage.corpus import CorpusError
from tornpage.failure import Failure, TokenError, read_token, write_failure
from tornpage.killrate import check_mutants, row
from tornpage.model import CrashModel
from tornpage.pool import PoolError
from tornpage.progress import watching
from tornpage.registry import (
    SubjectError,
    default_model,
    default_programs,
    file_digest,
    installed,
    load,
    suggestion,
    with_database,
)
from tornpage.report import Gone, replay
from tornpage.run import DEFAULT_CAP, Plan, run
from tornpage.uncovered import UncoveredError
from tornpage.verify import DEFAULT_SAMPLE, VerifyError, verify_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornpage.certificate import Certificate, ReportedViolation
    from tornpage.subject import Subject

__all__ = ["main"]

_EPILOG = """\
examples:
  tornpage run shearbolt
      the default: as many programs as the subject thinks right, from seed 0
  tornpage run shearbolt --seed 1000 --seconds 60 --json certificate.json
      one minute of other programs, the certificate also as JSON
  tornpage run shearbolt --database data.db
      programs that start from a copy of a file of yours
  tornpage run mystore.crashtest:MySubject
      your own storage code; see tornpage.subject for what a subject is
  tornpage mutants shearbolt --check
      plant every known bug and see each one caught
  tornpage run shearbolt --replay .tornpage/failures/9c0e1a77.json
      see a failure again; the token at the end of a story does as well

exit status:
  0 consistent    every crash of every program is covered, all promises kept
  1 violated      a promise is broken; the story says how
  2 usage         the command was not understood; nothing was run
  3 unverifiable  no promise seen broken, but something was left out
"""

_RUN_EPILOG = """\
A program that was started is finished, also when --seconds is over. --seconds
without --programs runs as many programs as fit.

Broken promises are shrunk, told, and kept in .tornpage/failures.
"""


class _UsageError(Exception):
    """The command cannot do what it was told; the message says why."""


_REFUSALS: Final = (
    _UsageError,
    SubjectError,
    TokenError,
    CorpusError,
    PoolError,
    VerifyError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; None: those of the process.

    Returns:
        The exit status.

    Raises:
        SystemExit: As argparse does, for --help, --version and usage errors.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        status: int = options.handler(options)
        sys.stdout.flush()
    except SystemExit as error:
        # Code under test ends the process where nothing is judged (its import, say).
        sys.stderr.write(f"tornpage: ended by {error!r} without a verdict\n")
        return EXIT_STATUS["unverifiable"]
    except _REFUSALS as error:
        options.parser.error(str(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough. The interpreter would complain
        # once more when it flushes at exit, so it gets somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything was run\n")
        return 3
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tornpage",
        description="Show that storage code survives every crash, or how it does not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"tornpage {tornpage_version()}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser(
        "run",
        help="run programs and close every crash point",
        description="Run programs on a simulated disk and close every crash point.",
        epilog=_RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.set_defaults(handler=_run, parser=one)
    _add_subject(one)
    _add_work(one)
    one.add_argument("--mutant", metavar="NAME", help="plant this bug first")
    one.add_argument(
        "--replay",
        metavar="TAPE",
        help="see one failure again: the token of its story, or its file",
    )
    _add_json(one)
    one.add_argument(
        "--keep-going",
        action="store_true",
        help="do not stop at the first broken promise",
    )

    _add_fuzz(commands.add_parser("fuzz", **_FUZZ))
    _add_verify(commands.add_parser("verify", **_VERIFY))

    two = commands.add_parser(
        "mutants",
        help="list a subject's planted bugs, or check that each is caught",
        description="List a subject's planted bugs, or check that each is caught.",
    )
    two.set_defaults(handler=_mutants, parser=two)
    _add_subject(two)
    _add_work(two)
    two.add_argument(
        "--check",
        action="store_true",
        help="run with each planted bug; status 1 when one is not caught",
    )

    three = commands.add_parser(
        "subjects", help="list installed subjects", description="Installed subjects."
    )
    three.set_defaults(handler=_subjects, parser=three)
    return parser


_FUZZ: Final[dict[str, Any]] = {
    "help": "run programs on several processes, and keep what they find",
    "description": "Fuzz on several processes, with a corpus that grows.",
    "epilog": fuzz_command.EPILOG,
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}
_VERIFY: Final[dict[str, Any]] = {
    "help": "run programs of a certificate again and compare",
    "description": "Run a sample of a certificate's programs again and compare.",
}


def _add_fuzz(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(handler=_fuzz, parser=parser)
    _add_subject(parser)
    _add_work(parser)
    parser.add_argument("--mutant", metavar="NAME", help="plant this bug first")
    _add_json(parser)
    fuzz_command.add_arguments(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(handler=_verify, parser=parser)
    parser.add_argument("certificate", metavar="CERTIFICATE", help="a file of --json")
    parser.add_argument(
        "--sample",
        type=_positive,
        default=DEFAULT_SAMPLE,
        metavar="N",
        help=f"programs to run again (default: {DEFAULT_SAMPLE})",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which sample (default: 0)"
    )
    parser.add_argument(
        "--database", metavar="FILE", help="the file the programs started from"
    )
    parser.add_argument(
        "--corpus", metavar="DIR", help="where programs without a seed are kept"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="FILE", help="also write the certificate as JSON; - is stdout"
    )


def _add_subject(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subject", metavar="SUBJECT", help="an installed name, or module:attribute"
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database", metavar="FILE", help="programs start from a copy of this file"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the first program (default: 0)"
    )
    parser.add_argument(
        "--programs", type=_positive, metavar="N", help="run at most N programs"
    )
    parser.add_argument(
        "--seconds",
        type=_duration,
        metavar="S",
        help="start no program after S seconds",
    )
    parser.add_argument(
        "--model",
        metavar="SPEC",
        help=f"what a crash may do (default: the subject's, or {CrashModel()})",
    )
    parser.add_argument(
        "--cap",
        type=_positive,
        metavar="N",
        help=f"most executions for one crash point (default: {DEFAULT_CAP})",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no progress, a one-line result"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return seconds


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def _subjects(_: argparse.Namespace) -> int:
    points = installed()
    for name in sorted(points):
        _say(f"{name:<16} {points[name].value}")
    if not points:
        _say("No subject is installed. Give yours as module:attribute.")
    return 0


def _subject(options: argparse.Namespace) -> tuple[Subject, str | None]:
    """The subject, and the digest of the database when there is one."""
    subject = load(options.subject)
    if options.database is None:
        return subject, None
    try:
        return with_database(subject, options.database), file_digest(options.database)
    except OSError as error:
        raise _UsageError(
            f"--database: cannot read {options.database}: {error.strerror}."
        ) from error


def _plan(
    options: argparse.Namespace,
    subject: Subject,
    digest: str | None,
    mutant: str | None,
) -> Plan:
    try:
        given = options.model if options.model is not None else default_model(subject)
        model = CrashModel.parse(given)
    except ValueError as error:
        raise _UsageError(f"--model: {error}") from error
    if mutant is not None and mutant not in subject.mutants():
        hint = suggestion(mutant, subject.mutants())
        raise _UsageError(
            f"--mutant: {options.subject} has no planted bug {mutant!r}.{hint}"
        )
    programs = options.programs
    if programs is None and options.seconds is None:
        programs = default_programs(subject)
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


def _run(options: argparse.Namespace) -> int:
    if options.replay is not None:
        return _replay(options)
    subject, digest = _subject(options)
    plan = _plan(options, subject, digest, options.mutant)
    _check_writable(options.json)
    with watching(
        plan.spec,
        sys.stderr,
        programs=plan.programs,
        seconds=plan.seconds,
        quiet=options.quiet,
    ) as watch:
        certificate = run(subject, plan, watch=watch)
    return _conclude(certificate, options)


def _fuzz(options: argparse.Namespace) -> int:
    if options.minutes is not None and options.seconds is not None:
        raise _UsageError("Give --minutes or --seconds, not both.")
    if options.minutes is not None:
        options.seconds = options.minutes * 60
    bounds = (options.seconds, options.programs, options.seed)
    if options.seeds is not None and any(bound is not None for bound in bounds):
        raise _UsageError(
            "--seeds says which programs; leave out --seed, --programs and the time."
        )
    subject, digest = _subject(options)
    plan = _plan(options, subject, digest, options.mutant)
    _check_writable(options.json)
    try:
        certificate = fuzz_command.fuzz(subject, plan, options)
    except OSError as error:
        raise _UsageError(f"--corpus: {error}") from error
    return _conclude(certificate, options)


def _verify(options: argparse.Namespace) -> int:
    report = verify_file(
        options.certificate,
        sample=options.sample,
        seed=options.seed,
        database=options.database,
        corpus=options.corpus,
    )
    for line in report.lines():
        _say(line)
    return report.exit_status


def _conclude(certificate: Certificate, options: argparse.Namespace) -> int:
    """Keep the failures, write and print the certificate; the exit status."""
    kept = [_keep(violation) for violation in certificate.violations]
    _write_json(options.json, certificate)
    if options.json == "-":
        return certificate.exit_status
    if options.quiet:
        _say(headline(certificate))
        for violation in certificate.violations:
            _say(violation.replay)
    else:
        _show(certificate, kept)
    return certificate.exit_status


def _show(certificate: Certificate, kept: Sequence[str]) -> None:
    _say(render(certificate))
    for violation, place in zip(certificate.violations, kept, strict=True):
        _say()
        _say(f"{'-' * 80}\n")
        origin = "the corpus" if violation.seed is None else f"seed {violation.seed}"
        found = (
            f"Found with {origin}, {violation.found_size} operations;"
            f" shrunk to {violation.shrunk_size} ({violation.shrinking})."
        )
        _say(textwrap.fill(found, 80, break_on_hyphens=False))
        _say(place)
        _say()
        sys.stdout.write(violation.story)


def _keep(violation: ReportedViolation) -> str:
    """Keep a failure in its file; a full disk must not hide the story."""
    try:
        return f"Kept in {write_failure(violation.failure, violation.story)}."
    except OSError as error:
        return f"Not kept in a file: {error}."


def _check_writable(path: str | None) -> None:
    if path in (None, "-"):
        return
    assert path is not None
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise _UsageError(f"--json: {path} is a directory.")
    if not os.path.isdir(folder):
        raise _UsageError(f"--json: there is no directory {folder}.")
    target = path if os.path.exists(path) else folder
    if not os.access(target, os.W_OK):
        raise _UsageError(f"--json: no permission to write {target}.")


def _write_json(path: str | None, certificate: Certificate) -> None:
    if path is None:
        return
    text = json.dumps(certificate.to_json(), indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _UsageError(f"--json: cannot write {path}: {error.strerror}.") from error


def _replay(options: argparse.Namespace) -> int:
    _refuse_with_replay(options)
    failure = Failure.from_token(read_token(options.replay))
    if failure.subject != options.subject:
        raise _UsageError(
            f"--replay: this failure is of {failure.subject}, not of {options.subject}."
        )
    subject, digest = _subject(options)
    if digest != failure.database:
        if failure.database is None:
            raise _UsageError("--replay: this failure started from no --database.")
        raise _UsageError(
            "--replay: this failure started from a file whose SHA-256 begins with"
            f" {failure.database[:16]}; give that file with --database."
        )
    try:
        story = replay(subject, failure, database=options.database)
    except Gone as gone:
        _say(f"This failure does not reproduce any more: {gone}")
        return 0
    except (ValueError, UncoveredError) as error:
        raise _UsageError(f"--replay: {error}") from error
    sys.stdout.write(story)
    return 1


def _refuse_with_replay(options: argparse.Namespace) -> None:
    names = ("seed", "programs", "seconds", "model", "mutant", "cap", "json")
    given = [f"--{name}" for name in names if getattr(options, name) is not None]
    if given:
        raise _UsageError(
            f"--replay already says everything; leave out {', '.join(given)}."
        )


def _say_row(name: str, found: Certificate) -> None:
    # Each takes seconds: whoever waits, or stops waiting, has what is known.
    _say(row(name, found))
    sys.stdout.flush()


def _mutants(options: argparse.Namespace) -> int:
    subject, digest = _subject(options)
    names = subject.mutants()
    if not options.check:
        width = max(map(len, names), default=0)
        for name, text in names.items():
            _say(f"{name:<{width}}  {text}")
        return 0
    plan = _plan(options, subject, digest, None)
    with watching(
        f"{plan.spec}, planted bugs",
        sys.stderr,
        programs=plan.programs,
        seconds=plan.seconds,
        quiet=options.quiet,
    ) as watch:
        rate = check_mutants(subject, plan, watch=watch, seen=_say_row)
    _say()
    _say(rate.summary())
    return 0 if rate.passed else 1
