"""The `shearbolt` command: look at bolt databases, change them, repair them.

    shearbolt SUBCOMMAND [WORD...] ARGUMENTS
              ^ looked up in a table    ^ parsed by argparse

It takes every subcommand of bbolt's own command with the same arguments and prints
the same, so that scripts go on working; what differs is listed in docs/command.md.
Beyond bbolt it has put, delete, export, import, diff and repair, and `--json`.

    exit status   0 done   1 it failed, or found what it looks for   2 used wrongly
                  (diff: 1 different, 2 trouble)
                  128 + n   signal n has ended it, and it has cleaned up

Results go to standard output. Everything else goes to standard error: one line that
says what is wrong, and a progress line where a terminal shows it.

This package is a program, not part of the engine. It is the one place besides
`shearbolt.storage` that may touch the operating system: it prints, and it opens the
JSON files it imports and exports. Database files it reads and writes through a
`Storage` like everybody else, so that it runs on a simulated disk, too: see `main`.

    session     streams, progress, opening databases; what a subcommand is
    arguments   arguments that several of them share
    text        bytes as text, the ways bbolt prints them
    overview, content, pages, transfer, diff, repair, surgery, bench   the subcommands
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

from shearbolt.command import (
    bench,
    content,
    diff,
    overview,
    pages,
    repair,
    surgery,
    transfer,
)
from shearbolt.command.arguments import Parser, add_json
from shearbolt.command.session import Command, Session, UsageError, give_up
from shearbolt.command.text import one_line
from shearbolt.errors import BoltError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from shearbolt.storage import Storage

__all__ = ["COMMANDS", "main"]

_BROKEN_PIPE: Final = 128 + 13
"""What a shell sees of a program that SIGPIPE has ended."""

_INTERRUPTED: Final = 128 + 2

_ENDING: Final = ("SIGTERM", "SIGHUP")
"""Signals that end a program on the spot, with all it has half done, unless it asks."""


class _EndedError(BaseException):
    """A signal ends the program. No Exception: nothing must take it for an error."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Let signals that end the program do so as an interrupt does: with cleaning up.

    Those that somebody ignores (nohup) or handles stay so. Only the main thread can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, _: FrameType | None) -> None:
        # A second one would interrupt the cleaning up.
        signal.signal(signum, signal.SIG_IGN)
        raise _EndedError(signum)

    taken = [
        signum
        for name in _ENDING
        if (signum := getattr(signal, name, None)) is not None
        and signal.getsignal(signum) is signal.SIG_DFL
    ]
    try:
        for signum in taken:
            signal.signal(signum, end)
        yield
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def _arguments_version(parser: ArgumentParser) -> None:
    add_json(parser)


def _version(session: Session, options: Namespace) -> int:
    # Here, because the package imports nothing of this command.
    from shearbolt import __version__  # noqa: PLC0415

    python, system = platform.python_version(), platform.system().lower()
    machine = platform.machine()
    if options.json:
        session.json(
            {
                "version": __version__,
                "python": python,
                "system": system,
                "machine": machine,
            }
        )
        return 0
    session.line(f"shearbolt Version: {__version__}")
    session.line(f"Python Version: {python}")
    session.line(f"Python OS/Arch: {system}/{machine}")
    return 0


_VERSION: Final = Command(
    "version", "print the version", _arguments_version, _version, "shearbolt version"
)

_GROUPS: Final = {
    "look": (
        *overview.COMMANDS,
        *content.COMMANDS[:3],
        *diff.COMMANDS,
        *pages.COMMANDS,
    ),
    "change": content.COMMANDS[3:],
    "copy": transfer.COMMANDS,
    "mend": (*repair.COMMANDS, *surgery.COMMANDS),
    "other": (*bench.COMMANDS, _VERSION),
}

COMMANDS: Final = {
    command.name: command for group in _GROUPS.values() for command in group
}
"""Every subcommand by its words."""


def main(argv: Sequence[str] | None = None, *, storage: Storage | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; None: those of the process.
        storage: The machine that the databases are on; None: this one.

    Returns:
        The exit status.

    Raises:
        SystemExit: As argparse does, for --help and for usage errors.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    session = Session() if storage is None else Session(storage)
    failed = diff.TROUBLE if words[:1] == ["diff"] else 1
    try:
        return _run(session, words)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        status = _BROKEN_PIPE
    except (BoltError, OSError) as error:
        session.note(f"Error: {_one_line(error)}")
        status = failed
    except MemoryError:
        # One byte a page, and a damaged file may say that it has any number.
        session.note("Error: there is not enough memory for this")
        status = failed
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except _EndedError as ended:
        status = 128 + ended.signum
    # What standard output has not taken it would be offered again at the end.
    with suppress(AttributeError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            give_up(sys.stdout)
    return status


def _run(session: Session, words: list[str]) -> int:
    command, rest = _find(words)
    parser = _parser(command)
    options = parser.parse_intermixed_args(_without_values(parser, rest))
    try:
        with _ending_signals():
            try:
                return command.run(session, options)
            finally:
                session.stdout.flush()
    except UsageError as error:
        parser.error(str(error))


def _one_line(error: BaseException) -> str:
    """An error's text."""
    if isinstance(error, OSError) and error.strerror is not None:
        named = f'"{error.filename}": ' if error.filename is not None else ""
        text = f"{named}{error.strerror}"
    else:
        text = str(error)
    return one_line(text)


def _find(words: list[str]) -> tuple[Command, list[str]]:
    """The subcommand that the first words name, and the other arguments."""
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    for length in (3, 2, 1):
        command = COMMANDS.get(" ".join(words[:length]))
        if command is not None and len(words) >= length:
            return command, words[length:]
    return _explain(words)


def _explain(words: list[str]) -> NoReturn:
    """Help, the version, or a complaint, when no subcommand is named."""
    stem = ""
    for length in (2, 1):
        candidate = " ".join(words[:length]) + " "
        if any(name.startswith(candidate) for name in COMMANDS):
            stem = candidate
            break
    lines = []
    for title, group in _GROUPS.items():
        shown = [command for command in group if command.name.startswith(stem)]
        if shown:
            lines.append(f"{title}:")
            lines += [f"  {command.name:<29}{command.summary}" for command in shown]
    lines.append(f"\n'shearbolt {stem}SUBCOMMAND --help' explains one, with an example")
    parser = Parser(
        prog=f"shearbolt {stem}".strip(),
        usage=f"shearbolt {stem}SUBCOMMAND ...",
        description="Look at bolt databases, change them, repair them.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version_line())
    rest = words[len(stem.split()) :] or ["--help"]
    if rest[0].startswith("-"):
        parser.parse_args(rest[:1])
    parser.error(f'unknown command "{rest[0]}" for "{parser.prog}"')


def _version_line() -> str:
    from shearbolt import __version__  # noqa: PLC0415

    return f"shearbolt version {__version__}"


def _parser(command: Command) -> Parser:
    text = command.summary[0].upper() + command.summary[1:] + "."
    if command.details:
        text += " " + command.details
    examples = "\n".join(f"  {line}" for line in command.example.splitlines())
    parser = Parser(
        prog=f"shearbolt {command.name}",
        description=text,
        epilog=f"example:\n{examples}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    command.arguments(parser)
    return parser


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps the description, and leaves the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example:"):
            return text
        return super()._fill_text(text, width, indent)


def _without_values(parser: ArgumentParser, words: list[str]) -> list[str]:
    """Bbolt's `--flag=true` and `--flag=false` for argparse: the flag, or nothing."""
    flags = {
        name
        for action in parser._actions
        if isinstance(action, argparse._StoreTrueAction)
        for name in action.option_strings
    }
    plain: list[str] = []
    for index, word in enumerate(words):
        if word == "--":
            return plain + words[index:]
        name, _, value = word.partition("=")
        if name in flags and value in {"true", "false"}:
            if value == "true":
                plain.append(name)
        else:
            plain.append(word)
    return plain
