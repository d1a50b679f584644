"""Well-known stores under the crash tester: what a power failure leaves of them.

    python -m ci.other_stores       # a table and one story of each row, as Markdown

    dumb      dbm.dumb of the standard library
    tiny      TinyDB with its default JSON storage
    git       Dulwich: Git in Python, its loose objects and refs
    objects   ZODB, its FileStorage
    queues    persist-queue, its file queue
    sql       SQLite by the standard library's sqlite3, in five of its modes; skipped
              where SQLite is a part of the interpreter

What is not installed is skipped. `question` says what each is asked. The stores are
unmodified, and are run with `open` and `os` patched, or, SQLite, with a VFS. TinyDB is
asked again with a storage that writes a new file, Dulwich with Git's option that syncs
objects: a table of nothing but "violated" would not show that "consistent" can be had.
docs/other-stores.md says which store promises what, and has the report.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from ci.other_stores import dumb, git, objects, queues, sql, tiny

if TYPE_CHECKING:
    from ci.other_stores.question import Question

__all__ = ["QUESTIONS", "made_with", "questions"]

QUESTIONS: tuple[Question, ...] = (
    *dumb.QUESTIONS,
    *tiny.QUESTIONS,
    *git.QUESTIONS,
    *objects.QUESTIONS,
    *queues.QUESTIONS,
    *sql.QUESTIONS,
)


def questions() -> list[Question]:
    """Those that can be asked here."""
    return [one for one in QUESTIONS if one.can_be_asked()]


def made_with() -> str:
    """What answers, and which version of it."""
    used = sorted({one.used() for one in questions()} - {""})
    return ", ".join([f"Python {platform.python_version()}", *used])
