"""The command `tornpage subjects`: what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornpage.command.results import say
from tornpage.registry import installed

if TYPE_CHECKING:
    import argparse

    from tornpage.command.arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Declare `subjects`."""
    parser = commands.add_parser(
        "subjects", help="list installed subjects", description="Installed subjects."
    )
    parser.set_defaults(handler=_subjects, parser=parser)


def _subjects(_: argparse.Namespace) -> int:
    points = installed()
    for name in sorted(points):
        say(f"{name:<16} {points[name].value}")
    if not points:
        say("No subject is installed. Give yours as module:attribute.")
    return 0
