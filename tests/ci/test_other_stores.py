"""Stores that are not ours, under the patch: docs/other-stores.md is what is so."""

import functools
import importlib.util
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

# An object of persist-queue complains when it goes and could not be made.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ci.other_stores import __main__ as command  # noqa: E402
from ci.other_stores import question, tiny  # noqa: E402
from ci.other_stores.question import Question, answer  # noqa: E402

from ci import other_stores as stores  # noqa: E402
from tornpage.functions import subject_from  # noqa: E402

DOCUMENT = (ROOT / "docs" / "other-stores.md").read_text("utf-8")
REPORT = DOCUMENT.partition("<!-- report -->\n")[2].partition("\n<!-- end -->")[0]
MODELS = ("tear=sector", "btrfs", "ext4-o", "ext4-o,tear=page")
INSTALL = "one of these stores is missing: pip install --group stores"
PACKAGES = {
    "TinyDB": "tinydb",
    "new file": "tinydb",
    "Dulwich": "dulwich",
    "ZODB": "ZODB",
    "persist-queue": "persistqueue",
}
VERDICTS = {
    (row[1], row[2], model): verdict
    for row in (
        [cell.strip() for cell in line.split("|")]
        for line in REPORT.splitlines()
        if line.startswith("| ")
    )
    for model, verdict in zip(MODELS, row[3:-1], strict=True)
    if row[1] != "store"
}


def _tells_most():
    """Of each row the first model that is consistent and the last that is violated.

    The last one's story is the one in the document.
    """
    chosen = {}
    for (store, text, model), verdict in VERDICTS.items():
        if verdict == "violated":
            chosen[store, text, verdict] = model
        else:
            chosen.setdefault((store, text, verdict), model)
    return [(store, text, model) for (store, text, _), model in chosen.items()]


# All of them take half a minute.
ALL = int(os.environ.get("SHEARBOLT_SEEDS", "1")) > 1
ASKED = list(VERDICTS) if ALL else _tells_most()


@functools.cache
def questions():
    """Whether SQLite can be asked takes a while, and stays the same."""
    return stores.questions()


@functools.cache
def answered(name, model):
    """The answer to a question by its name: the table and the report want the same."""
    return answer(_asked(name), model)


@pytest.mark.parametrize(("store", "text", "model"), ASKED, ids=lambda value: value)
def test_a_verdict_is_the_one_in_the_document(store, text, model):
    if package := PACKAGES.get(store.partition(",")[0]):
        pytest.importorskip(package, reason=INSTALL)
    asked = [q for q in questions() if (q.store, q.text) == (store, text)]
    if store.startswith("SQLite") and not asked:
        pytest.skip("this Python has SQLite inside, out of reach")
    [asked_here] = asked
    verdict = answered(asked_here.subject.name, model).verdict
    assert verdict == VERDICTS[store, text, model]


def test_the_document_has_every_question_under_every_model():
    assert question.MODELS == MODELS
    asked = {(q.store, q.text, m) for q in stores.QUESTIONS for m in question.MODELS}
    assert set(VERDICTS) == asked


def test_dumb_loses_old_keys_between_the_rename_and_the_new_index():
    chosen = next(q for q in stores.QUESTIONS if q.subject.name == "DUMB_OLD")
    [violation] = answer(chosen, "xfs,tear=page").violations
    assert "'old' was durable, [] is left." in violation.story
    assert "the crash alone is enough" in violation.story
    # The line blamed is the store's, not that of the patch beneath it.
    assert "dumb.py:" in violation.story
    assert "patch" not in violation.story


def _new_files():
    def write_all(root, work, ack):
        storage = tiny.NewFileStorage(f"{root}/notes.json")
        for at in range(1, len(work) + 1):
            storage.write(dict.fromkeys(work[:at], "x" * 600))
            ack(work[at - 1])

    subject = subject_from(
        "new_files",
        run=write_all,
        recover=lambda root: sorted(
            tiny.NewFileStorage(f"{root}/notes.json").read() or {}
        ),
        check=question.keeps,
        work=["a", "b"],
        root="/db",
    )
    return Question("new file", "keeps", subject)


@pytest.mark.parametrize("model", ["tear=sector", "ext4-o", "tear=byte,entries=free"])
def test_a_new_file_for_each_write_is_consistent_without_tinydb_too(model):
    assert answer(_new_files(), model).verdict == "consistent"


def test_a_new_file_relies_on_a_rename_being_one_change():
    assert answer(_new_files(), "rename=split").verdict == "violated"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_new_file_without_its_fsync_or_its_rename_is_noticed(call, monkeypatch):
    class Careless:
        """The os module, with one call that a careless author left out."""

        def __getattr__(self, name):
            return getattr(os, name)

    def copy(source, target):
        with open(source, "rb") as old, open(target, "wb") as new:
            new.write(old.read())
            os.fsync(new.fileno())

    setattr(Careless, call, staticmethod({"fsync": id, "replace": copy}[call]))
    monkeypatch.setattr(tiny, "os", Careless())
    assert answer(_new_files(), "tear=sector").verdict == "violated"


def _answered_or_known(question, model):
    """The answer to what is asked here; what the document says to the rest."""
    cell = question.store, question.text, model
    if cell in ASKED:
        return answered(question.subject.name, model)
    return SimpleNamespace(verdict=VERDICTS[cell], violations=())


@pytest.mark.usefixtures("quiet")
def test_the_command_prints_the_stories_of_the_document(capsys, monkeypatch):
    if not all(map(importlib.util.find_spec, PACKAGES.values())):
        pytest.skip(INSTALL)
    if stores.made_with() != REPORT.splitlines()[0]:
        pytest.skip(f"line numbers are those of {REPORT.splitlines()[0]}")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(command, "answer", _answered_or_known)
    status = command.main()
    assert (status, capsys.readouterr().out.strip()) == (0, REPORT.strip())


def test_git_loses_old_commits_because_a_branch_is_synced_and_its_objects_are_not():
    pytest.importorskip("dulwich", reason=INSTALL)
    chosen = next(q for q in stores.QUESTIONS if q.subject.name == "GIT_OLD")
    [violation] = answer(chosen, "ext4-o").violations
    story = " ".join(violation.story.split())
    assert "must be durable before the rename at refs.py" in story
    assert "(/db/.git/refs/heads/main)." in story
    # `file.py`, which writes them all, is not what is to blame.
    assert "file.py" not in story


def _asked(name):
    return next(q for q in stores.QUESTIONS if q.subject.name == name)


@pytest.fixture
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
def test_zodb_without_its_fsync_loses_what_was_committed():
    pytest.importorskip("ZODB", reason=INSTALL)
    module = "ZODB.FileStorage.FileStorage.fsync"
    with mock.patch(module, None):
        [violation] = answer(_asked("OBJECT_KEEPS"), "btrfs").violations
    assert "['old', 'new'] had been stored, ['old'] is left." in violation.story


@pytest.mark.usefixtures("quiet")
def test_zodb_has_no_database_between_the_renames_of_a_pack():
    pytest.importorskip("ZODB", reason=INSTALL)
    [violation] = answer(_asked("OBJECT_PACK"), "xfs,tear=page").violations
    assert "'old' was durable, [] is left." in violation.story
    assert "the crash alone is enough" in violation.story


def test_a_queue_whose_index_lost_its_bytes_cannot_be_opened():
    pytest.importorskip("persistqueue", reason=INSTALL)
    [violation] = answer(_asked("QUEUE_OLD"), "ext4-o").violations
    story = " ".join(violation.story.split())
    assert "must be durable before the rename at queue.py" in story
    assert "(/db/queue/info)." in story
