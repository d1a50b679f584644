"""A command as a process: its standard streams, the signals that end it, its status.

    body --> exit status --standard output took all?--> exit status of the process
                           no: unverifiable, nobody has read the verdict

A process may be started without standard streams, or with full ones, and it may be told
to end. Whatever becomes of it, the status is 1 only when a promise is broken: Python
itself ends with 1 after any error.

What it is not: it knows no arguments and no subcommand. The lanes of hunts that are
programs by themselves are run by it, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

from tornpage.certificate.record import EXIT_STATUS
from tornpage.command.results import NotWrittenError, complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ENDING", "as_program"]

USAGE: Final = 2
"""As argparse ends."""

ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that end a process on the spot, with all it has half done, unless it asks."""

_UNVERIFIABLE: Final = EXIT_STATUS["unverifiable"]


def as_program(name: str, body: Callable[[], int]) -> int:
    """Run a command with whatever streams the process has.

    SIGTERM and SIGHUP are Ctrl-C to it, where nobody ignores or handles them.

    Args:
        name: Who complains.
        body: Does it; gives the exit status.

    Returns:
        The exit status of the process.

    Raises:
        SystemExit: As argparse does, for --help, --version and usage errors.
    """
    if sys.stderr is None:
        # Else the first file that is opened gets its number, and what is said there.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        complain(
            f"{name}: standard output is closed, and the result goes there: redirect it"
        )
        return USAGE
    try:
        with _ended_as_interrupted():
            status = _status(name, body)
        # A verdict that nobody can read is none.
        return status if _is_written(name, sys.stdout) else _UNVERIFIABLE
    finally:
        # Else the interpreter tries once more at its end, and ends with 120.
        _is_written(name, sys.stdout)
        _is_written(name, sys.stderr)


def _status(name: str, body: Callable[[], int]) -> int:
    try:
        return body()
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        return _UNVERIFIABLE
    except NotWrittenError as error:
        complain(f"{name}: {error}")
        _give_up(sys.stdout)
        return _UNVERIFIABLE
    except KeyboardInterrupt:
        complain("interrupted: no verdict was reached")
        return _UNVERIFIABLE
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no verdict.
        # Without memory it may not even be told.
        with suppress(MemoryError):
            if not _is_of_output(name, error):
                complain(
                    f"{traceback.format_exc()}{name}: no verdict was reached: the "
                    "error above was raised"
                )
        return _UNVERIFIABLE


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Let what ends the process clean up as an interrupt does; the main thread only."""
    taken = [
        signum
        for signum in ENDING
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(signum) is signal.SIG_DFL
    ]
    try:
        for signum in taken:
            signal.signal(signum, signal.default_int_handler)
        yield
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def _is_of_output(name: str, error: Exception) -> bool:
    """Whether `print` has raised it; then it is told already.

    What it could not write may be lost: so standard output is offered one line more.
    """
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    with suppress(OSError):
        sys.stdout.write("\n")
    return not _is_written(name, sys.stdout)


def _is_written(name: str, stream: TextIO) -> bool:
    """Write out what waits for it; if that fails, say so, and let the rest go."""
    if stream.closed:
        return True
    try:
        stream.flush()
    except OSError as error:
        _give_up(stream)
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            complain(f"{name}: {NotWrittenError(error)}")
        return False
    return True


def _give_up(stream: TextIO) -> None:
    """Let what waits for it go nowhere: it takes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
