r"""What a subcommand says in the end: the certificate, the failures, the exit status.

Results go to standard output, and nothing else does: what code under test prints goes
to standard error while a subcommand runs (`results_only`), or `--json -` would be no
JSON. A failure is also kept in a file.

A stream may have an encoding that lacks some of it: what it cannot say is shown as
Python writes it in a string (`\u2603`). The exit status must not depend on the locale.
"""

from __future__ import annotations

import json
import sys
import textwrap
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TextIO

from tornpage.certificate.as_text import headline, render
from tornpage.certificate.record import EXIT_STATUS
from tornpage.certificate.token import write_failure
from tornpage.quotation import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from tornpage.certificate.record import Certificate, ReportedViolation

__all__ = ["NotWrittenError", "complain", "conclude", "results_only", "say", "write"]

_OUTPUT: Final[ContextVar[TextIO | None]] = ContextVar("_OUTPUT", default=None)
"""Standard output, while nothing but results go there."""


class NotWrittenError(Exception):
    """Standard output takes nothing: a full disk, say."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the result cannot be written to standard output: {error.strerror}"
        )


@contextmanager
def results_only() -> Iterator[None]:
    """For a block in which code under test runs: what it prints is no result."""
    before = _OUTPUT.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _OUTPUT.reset(before)


def say(text: str = "", *, at_once: bool = False) -> None:
    """One line on standard output; errors as `write`."""
    write(text + "\n", at_once=at_once)


def write(text: str, *, at_once: bool = False) -> None:
    """The same without an end of the line.

    Args:
        text: What.
        at_once: It must not wait for more.

    Raises:
        NotWrittenError: It takes nothing.
        BrokenPipeError: Whoever reads it has gone.
    """
    stream = _OUTPUT.get() or sys.stdout
    try:
        stream.write(_encodable(text, stream.encoding or "utf-8"))
        if at_once:
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NotWrittenError(error) from error


def complain(text: str) -> None:
    """Say it on standard error, if that takes anything."""
    with suppress(OSError):
        sys.stderr.write(_encodable(f"{text}\n", sys.stderr.encoding or "utf-8"))


def _encodable(text: str, encoding: str) -> str:
    return shown(text).encode(encoding, "backslashreplace").decode(encoding)


def conclude(certificate: Certificate, options: argparse.Namespace) -> int:
    """Keep the failures, write and print the certificate; the exit status.

    Raises:
        NotWrittenError: Standard output takes nothing.
    """
    kept = [_keep(violation) for violation in certificate.violations]
    unwritten = _write_json(options.json, certificate)
    if options.json == "-":
        return certificate.exit_status
    _tell(certificate, kept, quiet=options.quiet)
    if not unwritten:
        return certificate.exit_status
    # What was asked for is not there: that is no pass.
    complain(f"tornpage: --json: cannot write {options.json}: {unwritten}")
    return certificate.exit_status or EXIT_STATUS["unverifiable"]


def _tell(certificate: Certificate, kept: Sequence[str], *, quiet: bool) -> None:
    if quiet:
        say(headline(certificate))
        for violation in certificate.violations:
            say(violation.replay)
        if certificate.verdict == "unverifiable":
            say(f"because {certificate.doubts()[0]}")
    else:
        _show(certificate, kept)


def _show(certificate: Certificate, kept: Sequence[str]) -> None:
    say(render(certificate))
    for violation, place in zip(certificate.violations, kept, strict=True):
        say()
        say(f"{'-' * 80}\n")
        origin = "the corpus" if violation.seed is None else f"seed {violation.seed}"
        found = f"Found with {origin}, {violation.found_size} operations; "
        if violation.shrunk:
            found += f"shrunk to {violation.shrunk_size} ({violation.shrinking})."
        else:
            found += f"{violation.shrinking}."
        say(textwrap.fill(found, 80, break_on_hyphens=False))
        say(place)
        say()
        write(violation.story)


def _keep(violation: ReportedViolation) -> str:
    """Keep a failure in its file; a full disk must not hide the story."""
    try:
        return f"Kept in {write_failure(violation.failure, violation.story)}."
    except OSError as error:
        lost = f"Not kept in a file: {error}."
        token = violation.failure.token()
        if token in violation.replay:
            return lost
        # It was too long for a command, which names that file.
        return f"{lost} For the replay give this in place of its name:\n{token}"


def _write_json(path: str | None, certificate: Certificate) -> str:
    """Write it; what went wrong, or "": a full disk must not hide the verdict."""
    if path is None:
        return ""
    text = json.dumps(certificate.to_json(), indent=2) + "\n"
    if path == "-":
        write(text)
        return ""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        return error.strerror or str(error)
    return ""
