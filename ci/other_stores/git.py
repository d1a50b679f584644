"""Dulwich, Git in Python: its loose objects and refs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ci.other_stores.question import Question, keeps_more, old_stays

from tornpage.functions import FunctionSubject, subject_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def _repository(root: str) -> None:
    """A repository with one commit."""
    _commit(importlib.import_module("dulwich.repo").Repo.init(root), "old")


def _synced_repository(root: str) -> None:
    """The same, that says `core.fsyncObjectFiles`."""
    repository = importlib.import_module("dulwich.repo").Repo.init(root)
    config = repository.get_config()
    config.set(b"core", b"fsyncObjectFiles", True)
    config.write_to_path()
    _commit(repository, "old")


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
        files=_synced_repository if synced else _repository,
        root="/db",
        # It writes objects and branches alike, for somebody who knows which it is.
        plumbing=("file.py",),
    )


GIT_KEEPS = _git("GIT_KEEPS", keeps_more)
GIT_OLD = _git("GIT_OLD", old_stays)
GIT_SYNCED_KEEPS = _git("GIT_SYNCED_KEEPS", keeps_more, synced=True)
GIT_SYNCED_OLD = _git("GIT_SYNCED_OLD", old_stays, synced=True)


QUESTIONS = (
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
