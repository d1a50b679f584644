"""The command `tornpage verify`: a sample of a certificate, run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornpage.command.arguments import positive
from tornpage.command.results import say
from tornpage.run.verify import DEFAULT_SAMPLE, verify_file

if TYPE_CHECKING:
    import argparse

    from tornpage.command.arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Declare `verify`."""
    parser = commands.add_parser(
        "verify",
        help="run programs of a certificate again and compare",
        description="Run a sample of a certificate's programs again and compare.",
    )
    parser.set_defaults(handler=_verify, parser=parser)
    parser.add_argument("certificate", metavar="CERTIFICATE", help="a file of --json")
    parser.add_argument(
        "--sample",
        type=positive,
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


def _verify(options: argparse.Namespace) -> int:
    report = verify_file(
        options.certificate,
        sample=options.sample,
        seed=options.seed,
        database=options.database,
        corpus=options.corpus,
    )
    for line in report.lines():
        say(line)
    return report.exit_status
