"""A failure as a test that fails until it is repaired.

    gate --ReportedViolation--> test_regression_1a2b3c4d.py --> your tests

The test holds the failure's token and so the shrunk program; it needs no seed, no
corpus and no generator. It asks two things:

* is the failure itself gone? A replay of a few milliseconds.
* does the program keep every promise at every crash point now? A repair that only
  moves the failure to the next crash point is not one, and a token alone cannot tell:
  once the code asks other questions of the disk, its tape does not fit any more.

Measured on shrunk programs of the store in this project: 0.1 to 1.5 s.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from tornpage.certificate.as_text import render
from tornpage.certificate.token import Failure
from tornpage.model import CrashModel
from tornpage.quotation import shown
from tornpage.registry import file_digest, load, with_database
from tornpage.run.programs import Plan, cover
from tornpage.run.report import Gone, replay

if TYPE_CHECKING:
    from tornpage.certificate.record import ReportedViolation

__all__ = ["check_token", "regression_file_name", "regression_test"]

_TOKEN_COLUMNS = 72


def check_token(token: str, *, database: str | None = None) -> None:
    """Fail while a failure, or another one of its program, can be seen.

    Args:
        token: The failure.
        database: The file it started from, if it started from one.

    Raises:
        OSError: That file cannot be read.
        AssertionError: A promise is broken; the message is the story.
        TokenError: The token is damaged.
        SubjectError: The code under test cannot be found.
        ValueError: The failure means nothing to it any more, or it did not start from
            this file.
    """
    failure = Failure.from_token(token)
    subject = load(failure.subject)
    if failure.database is not None:
        if database is None:
            raise ValueError(
                "This failure started from a file: give its path as database."
            )
        if file_digest(database) != failure.database:
            raise ValueError(
                "This failure started from a file whose SHA-256 begins with"
                f" {failure.database[:16]}, and {database} is another one."
            )
        subject = with_database(subject, database)
    elif database is not None:
        raise ValueError("This failure started from no file: leave out database.")
    try:
        story = replay(subject, failure, database=database)
    except Gone:
        story = ""
    if story:
        raise AssertionError(f"The failure is still there.\n\n{story}")
    plan = Plan(
        spec=failure.subject,
        programs=1,
        model=CrashModel.parse(failure.model),
        mutant=failure.mutant,
        database=database,
        database_digest=failure.database,
        shrink=False,
    )
    certificate = cover(subject, plan, subject.decode(failure.program), None)
    if certificate.verdict == "consistent":
        return
    stories = "\n\n".join(one.story for one in certificate.violations)
    raise AssertionError(
        f"The failure is gone, but its program is not fine.\n\n"
        f"{render(certificate)}\n\n{stories}"
    )


def regression_file_name(violation: ReportedViolation) -> str:
    """The name of the test file of a failure; the same failure, the same name."""
    return f"test_regression_{violation.failure.identity()}.py"


def regression_test(violation: ReportedViolation, database: str | None = None) -> str:
    """The text of a pytest file that fails until the failure is repaired.

    Args:
        violation: The failure.
        database: Path of the file it started from, as tests will see it.
    """
    word = re.sub(r"\W+", "_", violation.property.lower()).strip("_") or "promise"
    token = violation.failure.token()
    pieces = [
        token[at : at + _TOKEN_COLUMNS] for at in range(0, len(token), _TOKEN_COLUMNS)
    ]
    quoted = "\n".join(f'    "{piece}"' for piece in pieces)
    about = _commented(violation.story.partition("Replay\n")[0])
    arguments = "TOKEN" if database is None else f"TOKEN, database={database!r}"
    return (
        f'"""A failure that the gate found: {_ascii(violation.property)}.\n\n'
        "It fails until the cause is repaired, and keeps it repaired from then on.\n"
        "What happened is told below, as the gate told it.\n"
        '"""\n\n'
        "from tornpage import check_token\n\n"
        f"TOKEN = (\n{quoted}\n)\n\n\n"
        f"def test_{word}_is_kept() -> None:\n"
        f"    check_token({arguments})\n\n\n"
        f"{about}\n"
    )


def _commented(text: str) -> str:
    lines = textwrap.dedent(text).rstrip().splitlines()
    return "\n".join(f"# {_ascii(line)}".rstrip() for line in lines)


def _ascii(text: str) -> str:
    """Text that cannot end a docstring or a comment."""
    plain = shown(text).encode("ascii", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"""', "'''").replace("\r", " ")
