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

    run, fuzz, verify, mutants, subjects   the subcommands, each with its arguments
    arguments                              arguments that several share
    results                                what is said in the end
    program                                the process: streams, signals, exit status
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from tornpage import __version__
from tornpage.call_site import raised_at
from tornpage.certificate.record import EXIT_STATUS
from tornpage.certificate.token import TokenError
from tornpage.command import fuzz, mutants, run, subjects, verify
from tornpage.command.arguments import UsageError
from tornpage.command.program import as_program
from tornpage.command.results import NotWrittenError, complain, results_only, write
from tornpage.fuzz.corpus import CorpusError
from tornpage.registry import SubjectError
from tornpage.run.pool import PoolError
from tornpage.run.verify import VerifyError
from tornpage.uncovered import is_of_a_runner

if TYPE_CHECKING:
    from collections.abc import Sequence

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

_RUNNERS_FILES: Final = frozenset({"outcomes.py"})
"""Where pytest raises what tests call it for."""

_REFUSALS: Final = (
    UsageError,
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
    return as_program("tornpage", lambda: _judged(_parser().parse_args(argv)))


def _judged(options: argparse.Namespace) -> int:
    try:
        with results_only():
            status: int = options.handler(options)
    except SystemExit as error:
        # Code under test ends the process where nothing is judged (its import, say).
        complain(f"tornpage: ended by {error!r} without a verdict")
        return EXIT_STATUS["unverifiable"]
    except _REFUSALS as error:
        options.parser.error(str(error))
    except (BrokenPipeError, NotWrittenError):
        raise
    except KeyboardInterrupt:
        complain("interrupted: no verdict was reached")
        return EXIT_STATUS["unverifiable"]
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is no verdict.
        # Left to the interpreter it would end with 1, and be taken for "violated".
        if is_of_a_runner(error):
            complain(
                f"tornpage: no verdict was reached: {type(error).__name__} was raised"
                f" at {raised_at(error, _RUNNERS_FILES)}, which pytest or Hypothesis"
                f" would understand: {error}"
            )
            return EXIT_STATUS["unverifiable"]
        complain(
            f"{traceback.format_exc()}tornpage: no verdict was reached: the subject, or"
            " tornpage, raised the error above"
        )
        return EXIT_STATUS["unverifiable"]
    return status


class _Parser(argparse.ArgumentParser):
    """Help and the version are output like any other; argparse minds no full disk."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not None and file is sys.stdout:
            write(message, at_once=True)
        else:
            super()._print_message(message, file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tornpage",
        description="Show that storage code survives every crash, or how it does not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"tornpage {__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subcommand in (run, fuzz, verify, mutants, subjects):
        subcommand.add(commands)
    return parser
