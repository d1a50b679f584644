"""Four well-known stores under the crash tester: what a power failure leaves of them.

    python ci/other_stores.py       # a table and one story of each row, as Markdown

    dbm.dumb   of the standard library
    TinyDB     with its default JSON storage; skipped when it is not installed
    Dulwich    Git in Python, its loose objects and refs; skipped likewise
    SQLite     by the standard library's sqlite3, in five of its modes; skipped where
               SQLite is a part of the interpreter

Each store is asked two questions. `KEEPS`: is what a call returned from still there?
`OLD`: is what was durable long before still there, if the crash comes in the middle
of one more change? docs/other-stores.md says which store promises what. The stores are
unmodified, and are run with `open` and `os` patched, or, SQLite, with a VFS. TinyDB is
asked again with a storage that writes a new file, Dulwich with Git's option that syncs
objects: a table of nothing but "violated" would not show that "consistent" can be had.

Exit status: 0 when every question was answered, whatever the answer; 1 otherwise.
"""

from __future__ import annotations

import dbm.dumb
import functools
import importlib
import importlib.util
import json
import os
import platform
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tornpage.disk import Disk
from tornpage.functions import FunctionSubject, subject_from
from tornpage.model import CrashModel
from tornpage.patch import UnsupportedCallError, patched
from tornpage.run import Plan, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tornpage.certificate import Certificate

__all__ = ["MODELS", "QUESTIONS", "Question", "answer", "questions"]

MODELS = ("tear=sector", "btrfs", "ext4-o", "ext4-o,tear=page")
"""Any disk; a file system that does not keep the order of names; the usual one, which
does; the same on a drive that never tears a page, which spares a file of less than
4,096 bytes every mixture of old and new."""


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


_HEAD = b"refs/heads/main"


def _commit(repository: Any, text: str) -> None:
    """Commit a tree of one file, with this text in it and as its message."""
    objects = importlib.import_module("dulwich.objects")
    blob, tree, commit = objects.Blob(), objects.Tree(), objects.Commit()
    blob.data = text.encode()
    tree.add(b"note", 0o100644, blob.id)
    commit.tree, commit.message = tree.id, text.encode()
    commit.author = commit.committer = b"A <a@example.org>"
    commit.author_time = commit.commit_time = 0
    commit.author_timezone = commit.commit_timezone = 0
    if _HEAD in repository.refs:
        commit.parents = [repository.refs[_HEAD]]
    for one in (blob, tree, commit):
        repository.object_store.add_object(one)
    repository.refs[_HEAD] = commit.id


def commit_all(root: str, work: Sequence[str], ack: Callable[[Any], None]) -> None:
    """Commit one text after the other."""
    repository = importlib.import_module("dulwich.repo").Repo(root)
    for text in work:
        _commit(repository, text)
        ack(text)


def read_commits(root: str) -> list[str]:
    """The texts of all commits."""
    repository = importlib.import_module("dulwich.repo").Repo(root)
    found = []
    for entry in repository.get_walker(include=[repository.refs[_HEAD]]):
        tree = repository[entry.commit.tree]
        found.append(repository[tree[b"note"][1]].data.decode())
    return sorted(found)


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


@functools.cache
def _database(journal: str) -> dict[str, bytes]:
    """The file of a database with one row, made on a disk of its own."""
    disk = Disk()
    try:
        with patched(disk) as root, closing(_rows(root, journal)) as connection:
            connection.execute("CREATE TABLE notes (key TEXT PRIMARY KEY)")
            connection.execute("INSERT INTO notes VALUES ('old')")
    except UnsupportedCallError:
        return {}
    return dict(_files_below(disk, "/db"))


@functools.cache
def _repository(*, synced: bool) -> dict[str, bytes]:
    """The files of a repository with one commit, made on a disk of its own.

    Args:
        synced: Whether it says `core.fsyncObjectFiles`.
    """
    if not importlib.util.find_spec("dulwich"):
        return {}
    disk = Disk()
    with patched(disk) as root:
        repository = importlib.import_module("dulwich.repo").Repo.init(root)
        if synced:
            config = repository.get_config()
            config.set(b"core", b"fsyncObjectFiles", True)
            config.write_to_path()
        _commit(repository, "old")
    return dict(_files_below(disk, "/db"))


def _files_below(disk: Disk, folder: str) -> Iterator[tuple[str, bytes]]:
    for name in disk.listdir(folder):
        path = f"{folder}/{name}"
        if disk.is_dir(path):
            yield f"{path}/", b""
            yield from _files_below(disk, path)
        else:
            file = disk.open(path, read_only=True)
            yield path, file.pread(file.size(), 0)


def keeps(acked: tuple[str, ...], in_flight: tuple[str, ...], seen: Any) -> str | None:
    """What was acknowledged is there, and nothing else but what was in flight."""
    if set(acked) <= set(seen) <= set(acked + in_flight):
        return None
    return f"{list(acked)} had been stored, {seen} is left."


def keeps_more(
    acked: tuple[str, ...], in_flight: tuple[str, ...], seen: Any
) -> str | None:
    """The same, on top of an old one."""
    return keeps(("old", *acked), in_flight, seen)


def old_stays(acked: tuple[str, ...], later: tuple[str, ...], seen: Any) -> str | None:
    """What was there before the program began is there still."""
    del acked, later
    return None if "old" in seen else f"'old' was durable, {seen} is left."


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table.

    Attributes:
        store: What is asked.
        text: The question.
        subject: The same as a subject.
        package: What has to be installed for it, or "".
    """

    store: str
    text: str
    subject: FunctionSubject
    package: str = ""


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


def _git(
    name: str,
    check: Callable[[tuple[str, ...], tuple[str, ...], Any], str | None],
    *,
    synced: bool = False,
) -> FunctionSubject:
    return subject_from(
        name,
        run=commit_all,
        recover=read_commits,
        check=check,
        work=["new"],
        files=_repository(synced=synced),
        root="/db",
        # It writes objects and branches alike, for somebody who knows which it is.
        plumbing=("file.py",),
    )


GIT_KEEPS = _git("GIT_KEEPS", keeps_more)
GIT_OLD = _git("GIT_OLD", old_stays)
GIT_SYNCED_KEEPS = _git("GIT_SYNCED_KEEPS", keeps_more, synced=True)
GIT_SYNCED_OLD = _git("GIT_SYNCED_OLD", old_stays, synced=True)


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
        files=_database(journal),
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
    Question("dbm.dumb", "after `sync()`, a crash keeps the key", DUMB_KEEPS),
    Question("dbm.dumb", "adding a key, a crash keeps the old ones", DUMB_OLD),
    Question("TinyDB", "after `insert()`, a crash keeps it", TINY_KEEPS, "tinydb"),
    Question("TinyDB", "removing one, a crash keeps the others", TINY_OLD, "tinydb"),
    Question(
        "new file", "after `insert()`, a crash keeps it", NEW_FILE_KEEPS, "tinydb"
    ),
    Question(
        "new file", "removing one, a crash keeps the others", NEW_FILE_OLD, "tinydb"
    ),
    Question("Dulwich", "after a commit, a crash keeps it", GIT_KEEPS, "dulwich"),
    Question("Dulwich", "committing, a crash keeps the old ones", GIT_OLD, "dulwich"),
    Question(
        "Dulwich, synced",
        "after a commit, a crash keeps it",
        GIT_SYNCED_KEEPS,
        "dulwich",
    ),
    Question(
        "Dulwich, synced",
        "committing, a crash keeps the old ones",
        GIT_SYNCED_OLD,
        "dulwich",
    ),
    Question("SQLite", _KEEPS, SQL_KEEPS, "sqlite3"),
    Question("SQLite", _OLD, SQL_OLD, "sqlite3"),
    Question("SQLite, EXTRA", _KEEPS, SQL_EXTRA_KEEPS, "sqlite3"),
    Question("SQLite, NORMAL", _OLD, SQL_NORMAL_OLD, "sqlite3"),
    Question("SQLite, TRUNCATE", _KEEPS, SQL_TRUNCATE_KEEPS, "sqlite3"),
    Question("SQLite, WAL", _KEEPS, SQL_WAL_KEEPS, "sqlite3"),
    Question("SQLite, WAL, NORMAL", _KEEPS, SQL_WAL_NORMAL_KEEPS, "sqlite3"),
    Question("SQLite, WAL, NORMAL", _OLD, SQL_WAL_NORMAL_OLD, "sqlite3"),
)


def questions() -> list[Question]:
    """Those that can be asked here."""
    return [one for one in QUESTIONS if not one.package or _is_there(one.package)]


def _is_there(package: str) -> bool:
    if package == "sqlite3":
        return bool(_database("journal_mode=DELETE"))
    return importlib.util.find_spec(package) is not None


def made_with() -> str:
    """What answers, and which version of it."""
    packages = {one.package for one in questions()} - {""}
    used = [
        f"{one} {sqlite3.sqlite_version if one == 'sqlite3' else version(one)}"
        for one in sorted(packages)
    ]
    return ", ".join([f"Python {platform.python_version()}", *used])


def answer(question: Question, model: str) -> Certificate:
    """Every crash of the question's program under a model."""
    plan = Plan(
        spec=f"other_stores:{question.subject.name}",
        programs=1,
        model=CrashModel.parse(model),
    )
    return run(question.subject, plan)


def main() -> int:
    """Print the report."""
    rows, stories, answered = [], [], True
    for question in questions():
        cells, story = [], ""
        for model in MODELS:
            certificate = answer(question, model)
            answered = answered and certificate.verdict != "unverifiable"
            cells.append(certificate.verdict)
            for violation in certificate.violations:
                # Told under the kindest model: it needs the least of a disk.
                head, _, _ = violation.story.partition("\nReplay")
                story = f"Under `{model}`:\n\n```\n{head.rstrip()}\n```"
        if story:
            stories.append(f"### {question.store}: {question.text}\n\n{story}")
        rows.append(f"| {question.store} | {question.text} | {' | '.join(cells)} |")
    print(made_with())
    print()
    print(f"| store | question | {' | '.join(f'`{one}`' for one in MODELS)} |")
    print("|---|---" + "|---" * len(MODELS) + "|")
    print("\n".join(rows))
    for one in stories:
        print(f"\n{one}")
    return 0 if answered else 1


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main())
