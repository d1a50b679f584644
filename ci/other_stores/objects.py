"""ZODB, Python's object database, with its FileStorage."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any
from unittest import mock

from ci.other_stores.question import Question, keeps_more, old_stays

from tornpage.functions import subject_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def _database(root: str) -> Iterator[Any]:
    # The number of the process is in its lock file: reports are to be alike.
    with mock.patch("os.getpid", return_value=1):
        files = importlib.import_module("ZODB.FileStorage")
        storage = files.FileStorage(f"{root}/Data.fs")
        try:
            yield importlib.import_module("ZODB").DB(storage)
        finally:
            # Also if the database cannot be had: its lock is let go of.
            storage.close()


def commit_objects(root: str, work: Sequence[str], ack: Callable[[Any], None]) -> None:
    """Put a note under each key of the root object, in a transaction of its own."""
    with _database(root) as database:
        for key in work:
            with database.transaction() as connection:
                connection.root()[key] = f"note {key}"
            ack(key)


def pack(root: str, work: Sequence[str], ack: Callable[[Any], None]) -> None:
    """Have it drop what nobody needs any more."""
    del ack
    with _database(root) as database:
        for _ in work:
            database.pack()


def read_objects(root: str) -> list[str]:
    """The keys of all notes, and those whose notes are not whole with a "?"."""
    with _database(root) as database, database.transaction() as connection:
        notes = dict(connection.root())
    return [k if v == f"note {k}" else f"{k}?" for k, v in sorted(notes.items())]


def read_at_last(root: str) -> list[str]:
    """The same; whoever cannot read the first time closes it and opens it again."""
    try:
        return read_objects(root)
    except importlib.import_module("ZODB.POSException").ReadConflictError:
        return read_objects(root)


def _old(root: str) -> None:
    commit_objects(root, ["old"], lambda _: None)


OBJECT_KEEPS = subject_from(
    "OBJECT_KEEPS",
    run=commit_objects,
    recover=read_objects,
    check=keeps_more,
    work=["new"],
    files=_old,
    root="/db",
)
OBJECT_AT_LAST = subject_from(
    "OBJECT_AT_LAST",
    run=commit_objects,
    recover=read_at_last,
    check=keeps_more,
    work=["new"],
    files=_old,
    root="/db",
)
OBJECT_PACK = subject_from(
    "OBJECT_PACK",
    run=pack,
    recover=read_at_last,
    check=old_stays,
    work=["pack"],
    files=_old,
    root="/db",
)
QUESTIONS = (
    Question("ZODB", "after a commit, a crash keeps it", OBJECT_KEEPS, "ZODB"),
    Question(
        "ZODB, opened twice", "after a commit, a crash keeps it", OBJECT_AT_LAST, "ZODB"
    ),
    Question(
        "ZODB, opened twice",
        "packing, a crash keeps the committed ones",
        OBJECT_PACK,
        "ZODB",
    ),
)
