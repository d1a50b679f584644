"""The command `tornpage mutants`: planted bugs, and whether each one is caught."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tornpage.certificate.record import EXIT_STATUS
from tornpage.command.arguments import add_subject, add_work, plan_of, subject_of
from tornpage.command.results import say
from tornpage.progress import make_room, watching
from tornpage.run.killrate import check_mutants, row

if TYPE_CHECKING:
    import argparse

    from tornpage.certificate.record import Certificate
    from tornpage.command.arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Declare `mutants`."""
    parser = commands.add_parser(
        "mutants",
        help="list a subject's planted bugs, or check that each is caught",
        description="List a subject's planted bugs, or check that each is caught.",
    )
    parser.set_defaults(handler=_mutants, parser=parser)
    add_subject(parser)
    add_work(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="run with each planted bug; status 1 when one is not caught",
    )


def _mutants(options: argparse.Namespace) -> int:
    subject, digest = subject_of(options)
    names = subject.mutants()
    if not names:
        return _none_to_plant(options)
    if not options.check:
        width = max(map(len, names))
        for name, text in names.items():
            say(f"{name:<{width}}  {text}")
        return 0
    plan = plan_of(options, subject, digest, None)
    terminal = sys.stderr

    def say_row(name: str, found: Certificate) -> None:
        make_room(terminal, quiet=options.quiet)
        # Each takes seconds: whoever waits, or stops waiting, has what is known.
        say(row(name, found), at_once=True)

    with watching(
        f"{plan.spec}, planted bugs",
        terminal,
        programs=plan.programs,
        seconds=plan.seconds,
        quiet=options.quiet,
    ) as watch:
        rate = check_mutants(subject, plan, watch=watch, seen=say_row)
    say()
    say(rate.summary())
    if rate.interrupted:
        return EXIT_STATUS["unverifiable"]
    return 0 if rate.passed else 1


def _none_to_plant(options: argparse.Namespace) -> int:
    say(f"{options.subject} has no planted bugs; docs/your-own-store.md plants some")
    # Nothing shows that its check would complain.
    return EXIT_STATUS["unverifiable"] if options.check else 0
