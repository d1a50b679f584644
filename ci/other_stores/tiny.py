"""TinyDB, with its own JSON storage and with one that writes a new file."""

from __future__ import annotations

import importlib
import json
import os
from typing import TYPE_CHECKING, Any

from ci.other_stores.question import Question, keeps, old_stays

from tornpage.functions import subject_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class NewFileStorage:
    """A storage for TinyDB: a whole new file takes the place of the old one.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> dict[str, Any] | None:
        """All there is, or None."""
        try:
            with open(self._path, encoding="utf-8") as file:
                return dict(json.load(file))
        except FileNotFoundError:
            return None

    def write(self, data: dict[str, Any]) -> None:
        """Put this in the place of all there was."""
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{self._path}.new", self._path)
        folder = os.open(os.path.dirname(self._path), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def close(self) -> None:
        """Nothing is kept open."""


def _tiny(root: str, storage: type | None = None) -> Any:
    tinydb = importlib.import_module("tinydb")
    path = f"{root}/notes.json"
    return tinydb.TinyDB(path, storage=storage) if storage else tinydb.TinyDB(path)


def add_to_tiny(
    root: str,
    work: Sequence[str],
    ack: Callable[[Any], None],
    storage: type | None = None,
) -> None:
    """Insert documents."""
    with _tiny(root, storage) as db:
        for key in work:
            db.insert({"key": key})
            ack(key)


def remove_from_tiny(
    root: str,
    work: Sequence[str],
    ack: Callable[[Any], None],
    storage: type | None = None,
) -> None:
    """Remove documents."""
    del ack
    where = importlib.import_module("tinydb").where
    with _tiny(root, storage) as db:
        for key in work:
            db.remove(where("key") == key)


def read_tiny(root: str, storage: type | None = None) -> list[str]:
    """The keys of all documents."""
    with _tiny(root, storage) as db:
        return sorted(document["key"] for document in db.all())


TINY_KEEPS = subject_from(
    "TINY_KEEPS",
    run=add_to_tiny,
    recover=read_tiny,
    check=keeps,
    work=["a", "b"],
    root="/db",
)
_OLD_AND_NEW = b'{"_default": {"1": {"key": "old"}, "2": {"key": "new"}}}'
TINY_OLD = subject_from(
    "TINY_OLD",
    run=remove_from_tiny,
    recover=read_tiny,
    check=old_stays,
    work=["new"],
    files={"/db/notes.json": _OLD_AND_NEW},
    root="/db",
)
NEW_FILE_KEEPS = subject_from(
    "NEW_FILE_KEEPS",
    run=lambda root, work, ack: add_to_tiny(root, work, ack, NewFileStorage),
    recover=lambda root: read_tiny(root, NewFileStorage),
    check=keeps,
    work=["a", "b"],
    root="/db",
)
NEW_FILE_OLD = subject_from(
    "NEW_FILE_OLD",
    run=lambda root, work, ack: remove_from_tiny(root, work, ack, NewFileStorage),
    recover=lambda root: read_tiny(root, NewFileStorage),
    check=old_stays,
    work=["new"],
    files={"/db/notes.json": _OLD_AND_NEW},
    root="/db",
)


QUESTIONS = (
    Question("TinyDB", "after `insert()`, a crash keeps it", TINY_KEEPS, "tinydb"),
    Question("TinyDB", "removing one, a crash keeps the others", TINY_OLD, "tinydb"),
    Question(
        "new file", "after `insert()`, a crash keeps it", NEW_FILE_KEEPS, "tinydb"
    ),
    Question(
        "new file", "removing one, a crash keeps the others", NEW_FILE_OLD, "tinydb"
    ),
)
