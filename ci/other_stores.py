"""Three well-known stores under the crash tester: what a power failure leaves of them.

    python ci/other_stores.py       # a table and one story of each row, as Markdown

    dbm.dumb   of the standard library
    TinyDB     with its default JSON storage; skipped when it is not installed
    Dulwich    Git in Python, its loose objects and refs; skipped likewise

Each store is asked two questions. `KEEPS`: is what a call returned from still there?
`OLD`: is what was durable long before still there, if the crash comes in the middle
of one more change? Neither store promises either; docs/other-stores.md says what they
do promise. The stores are unmodified, and are run with `open` and `os` patched. TinyDB
is asked again with a storage that writes a new file, Dulwich with Git's option that
syncs objects: a table of nothing but "violated" would not show that "consistent" can be
had.

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
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tornpage.disk import Disk
from tornpage.functions import FunctionSubject, subject_from
from tornpage.model import CrashModel
from tornpage.patch import patched
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


def keeps_commits(
    acked: tuple[str, ...], in_flight: tuple[str, ...], seen: Any
) -> str | None:
    """The same, of commits on top of an old one."""
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


GIT_KEEPS = _git("GIT_KEEPS", keeps_commits)
GIT_OLD = _git("GIT_OLD", old_stays)
GIT_SYNCED_KEEPS = _git("GIT_SYNCED_KEEPS", keeps_commits, synced=True)
GIT_SYNCED_OLD = _git("GIT_SYNCED_OLD", old_stays, synced=True)

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
)


def questions() -> list[Question]:
    """Those that can be asked here."""
    return [
        one
        for one in QUESTIONS
        if not one.package or importlib.util.find_spec(one.package)
    ]


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
    names = sorted({one.package for one in questions()} - {""})
    used = [f"{one} {version(one)}" for one in names]
    print(f"Python {platform.python_version()}", *used, sep=", ")
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
