"""SQLite by the standard library's sqlite3, in five of its modes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ci.other_stores.question import Question, keeps_more, old_stays

from tornpage.functions import FunctionSubject, subject_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _rows(root: str, *modes: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{root}/notes.sqlite", isolation_level=None)
    # Small pages: half as many sectors that a crash may tear.
    for mode in ("page_size=512", *modes):
        connection.execute(f"PRAGMA {mode}")
    return connection


def insert_rows(
    root: str, work: Sequence[str], ack: Callable[[Any], None], modes: Sequence[str]
) -> None:
    """Insert rows, each in a transaction of its own."""
    with closing(_rows(root, *modes)) as connection:
        for key in work:
            connection.execute("INSERT INTO notes VALUES (?)", (key,))
            ack(key)


def read_rows(root: str) -> list[str]:
    """The keys of all rows, in a database that SQLite itself finds sound."""
    with closing(_rows(root)) as connection:
        for (problem,) in connection.execute("PRAGMA integrity_check"):
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        return [key for (key,) in connection.execute("SELECT key FROM notes")]


def _database(root: str, journal: str) -> None:
    """A database with one row."""
    with closing(_rows(root, journal)) as connection:
        connection.execute("CREATE TABLE notes (key TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO notes VALUES ('old')")


def _sql(
    name: str,
    check: Callable[[tuple[str, ...], tuple[str, ...], Any], str | None],
    *modes: str,
) -> FunctionSubject:
    journal = next((one for one in modes if "journal" in one), "journal_mode=DELETE")
    return subject_from(
        name,
        run=lambda root, work, ack: insert_rows(root, work, ack, modes),
        recover=read_rows,
        check=check,
        work=["new"],
        files=lambda root: _database(root, journal),
        root="/db",
    )


SQL_KEEPS = _sql("SQL_KEEPS", keeps_more)
SQL_OLD = _sql("SQL_OLD", old_stays)
SQL_EXTRA_KEEPS = _sql("SQL_EXTRA_KEEPS", keeps_more, "synchronous=EXTRA")
SQL_NORMAL_OLD = _sql("SQL_NORMAL_OLD", old_stays, "synchronous=NORMAL")
SQL_TRUNCATE_KEEPS = _sql("SQL_TRUNCATE_KEEPS", keeps_more, "journal_mode=TRUNCATE")
SQL_WAL_KEEPS = _sql("SQL_WAL_KEEPS", keeps_more, "journal_mode=WAL")
_WAL_NORMAL = ("journal_mode=WAL", "synchronous=NORMAL")
SQL_WAL_NORMAL_KEEPS = _sql("SQL_WAL_NORMAL_KEEPS", keeps_more, *_WAL_NORMAL)
SQL_WAL_NORMAL_OLD = _sql("SQL_WAL_NORMAL_OLD", old_stays, *_WAL_NORMAL)

_KEEPS = "after `COMMIT`, a crash keeps the row"
_OLD = "committing, a crash keeps the old ones"
QUESTIONS = (
    Question("SQLite", _KEEPS, SQL_KEEPS, "sqlite3"),
    Question("SQLite", _OLD, SQL_OLD, "sqlite3"),
    Question("SQLite, EXTRA", _KEEPS, SQL_EXTRA_KEEPS, "sqlite3"),
    Question("SQLite, NORMAL", _OLD, SQL_NORMAL_OLD, "sqlite3"),
    Question("SQLite, TRUNCATE", _KEEPS, SQL_TRUNCATE_KEEPS, "sqlite3"),
    Question("SQLite, WAL", _KEEPS, SQL_WAL_KEEPS, "sqlite3"),
    Question("SQLite, WAL, NORMAL", _KEEPS, SQL_WAL_NORMAL_KEEPS, "sqlite3"),
    Question("SQLite, WAL, NORMAL", _OLD, SQL_WAL_NORMAL_OLD, "sqlite3"),
)
