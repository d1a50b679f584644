"""Arguments that several subcommands share, and the parser they are added to.

bbolt's command takes options anywhere between the other arguments, and the programs
that call it rely on that. argparse can do so only when it is asked to parse
"intermixed", which excludes its own subcommands; they are found by hand, see
`shearbolt.command`.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from shearbolt.command.session import DEFAULT_TIMEOUT, give_up, named_output
from shearbolt.command.text import FORMATS, PARSE_FORMATS, one_line

if TYPE_CHECKING:
    from argparse import ArgumentParser

__all__ = [
    "Parser",
    "add_bytes_format",
    "add_json",
    "add_names",
    "add_parse_format",
    "add_path",
    "add_timeout",
    "page_id",
    "size",
]


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaint is one line, and whose help is output."""

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write help or the version, which argparse does not mind not being read.

        Raises:
            OSError: The stream takes nothing, a full disk, say.
        """
        # Without standard output argparse takes standard error; there may be neither.
        file = file or sys.stderr
        if file is None:
            return
        try:
            file.write(message)
            file.flush()
        except OSError as error:
            if file is sys.stdout:
                raise named_output(error) from error
            raise

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is; exit with status 2."""
        # A stream that is closed or full has no reader. argparse minds until 3.11.2.
        with suppress(AttributeError):
            try:
                sys.stderr.write(
                    f"Error: {one_line(message)} (see '{self.prog} --help')\n"
                )
                sys.stderr.flush()
            except OSError:
                give_up(sys.stderr)
        self.exit(2)


def _number(text: str, what: str) -> int:
    # int() would also take "1_000", "+1" and Arabic digits.
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    value = int(text)
    if value >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}: too large")
    return value


def page_id(text: str) -> int:
    """A page number from the command line."""
    return _number(text, "a page id")


def size(text: str) -> int:
    """A number of bytes or of things from the command line."""
    return _number(text, "a number")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # Not a number is not greater than anything.
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def name_bytes(text: str) -> bytes:
    """An argument's bytes as the shell gave them, whatever the locale."""
    return os.fsencode(text)


def add_path(parser: ArgumentParser) -> None:
    """PATH: the database."""
    parser.add_argument("path", metavar="PATH", help="the database file")


def add_names(parser: ArgumentParser, metavar: str, text: str) -> None:
    """One or more names, as bytes."""
    parser.add_argument("names", metavar=metavar, nargs="+", type=name_bytes, help=text)


def add_timeout(parser: ArgumentParser) -> None:
    """--timeout: how long to wait for the file lock."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=DEFAULT_TIMEOUT,
        help="wait so long for another process to let go of the file (default: 5)",
    )


def add_json(parser: ArgumentParser) -> None:
    """--json: for programs."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON, one object a line"
    )


def add_bytes_format(parser: ArgumentParser, *names: str, what: str) -> None:
    """--format: how bytes are printed."""
    parser.add_argument(
        *names,
        dest="format",
        metavar="FORMAT",
        choices=FORMATS,
        default="auto",
        help=f"how {what} is printed: {', '.join(FORMATS)} (default: auto)",
    )


def add_parse_format(parser: ArgumentParser, what: str) -> None:
    """--parse-format: how bytes are given."""
    parser.add_argument(
        "--parse-format",
        metavar="FORMAT",
        choices=PARSE_FORMATS,
        default="ascii-encoded",
        help=f"how {what} is given: ascii-encoded (as it is) or hex",
    )
