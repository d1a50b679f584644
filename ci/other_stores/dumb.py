"""dbm.dumb of the standard library."""

from __future__ import annotations

import dbm.dumb
import os
from typing import TYPE_CHECKING, Any

from ci.other_stores.question import Question, keeps, old_stays

from tornpage.functions import subject_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def add_to_dumb(root: str, work: Sequence[str], ack: Callable[[Any], None]) -> None:
    """Add a note under each key, with a sync() before it counts."""
    with dbm.dumb.open(f"{root}/notes", "c") as db:
        for key in work:
            db[key] = f"note {key}"
            db.sync()
            ack(key)


def read_dumb(root: str) -> list[str]:
    """The keys whose notes are whole, and the others with a question mark."""
    with dbm.dumb.open(f"{root}/notes", "c") as db:
        found = {os.fsdecode(key): os.fsdecode(value) for key, value in db.items()}
    return [k if v == f"note {k}" else f"{k}?" for k, v in sorted(found.items())]


DUMB_KEEPS = subject_from(
    "DUMB_KEEPS",
    run=add_to_dumb,
    recover=read_dumb,
    check=keeps,
    work=["a", "b"],
    root="/db",
)
DUMB_OLD = subject_from(
    "DUMB_OLD",
    run=add_to_dumb,
    recover=read_dumb,
    check=old_stays,
    work=["a"],
    files={"/db/notes.dat": b"note old", "/db/notes.dir": b"'old', (0, 8)\n"},
    root="/db",
)
QUESTIONS = (
    Question("dbm.dumb", "after `sync()`, a crash keeps the key", DUMB_KEEPS),
    Question("dbm.dumb", "adding a key, a crash keeps the old ones", DUMB_OLD),
)
