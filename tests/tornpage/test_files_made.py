"""`files=` as a function: what it leaves was there long before the run."""

import contextlib
import os
import threading
from unittest import mock

import pytest

from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.run import Plan, run
from tornpage.subject import SubjectError

CALLS = []
CONTENT = b"never synced"


def old_one(root):
    CALLS.append(root)
    os.mkdir(f"{root}/d")
    os.mkdir(f"{root}/empty")
    with open(f"{root}/d/old", "wb") as file:
        file.write(CONTENT)


def new_one(root, work, ack):
    with open(f"{root}/d/new", "wb"):
        pass


def names(root):
    return sorted(os.listdir(root)), sorted(os.listdir(f"{root}/d"))


def old_stays(acked, in_flight, seen):
    assert seen[0] == ["d", "empty"]
    assert "old" in seen[1]


def made(files=old_one, root="/db", **more):
    given = {"run": new_one, "recover": names, "check": old_stays, "work": ["x"]}
    return subject_from("SUBJECT", root=root, files=files, **(given | more))


SUBJECT = made()


def test_what_it_leaves_is_durable_though_it_synced_nothing():
    assert SUBJECT.prepare(()) == {
        "/db/d/": b"",
        "/db/d/old": b"never synced",
        "/db/empty/": b"",
    }
    certificate = run(SUBJECT, Plan(spec="test_files_made:SUBJECT", programs=1))
    assert certificate.verdict == "consistent"
    assert certificate.coverage.operations == {"create": 1}


def test_nothing_of_its_process_stays():
    CALLS.clear()
    made().prepare(())
    assert CALLS == []


def test_it_is_called_once():
    subject = made()
    assert subject.prepare(()) is subject.prepare(("x",))


def test_without_a_root_it_gets_a_disk():
    def relative(disk):
        disk.open("a", create=True).pwritev([b"1"], 0)
        disk.open("/b", create=True).pwritev([b"2"], 0)

    subject = made(relative, root=None, run=lambda disk, work, ack: None)
    assert subject.prepare(()) == {"a": b"1", "/b": b"2"}
    assert Disk(subject.prepare(())).exists("a")


def test_a_planted_bug_is_not_in_them():
    bug = "makes none", lambda: mock.patch.dict(globals(), CONTENT=None)
    subject = made(bugs={"lazy": bug})
    with subject.mutant("lazy"):
        assert "/db/d/old" in subject.prepare(())


def _raises(root):
    raise KeyError("x")


def _refused(root):
    os.statvfs(f"{root}/b")


def _refused_in_silence(root):
    with contextlib.suppress(RuntimeError):
        _refused(root)


def _leaves_a_thread(root):
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def _links(root):
    with open(f"{root}/x", "wb") as file:
        file.write(b"1")
    os.mkdir(f"{root}/d")
    os.link(f"{root}/x", f"{root}/d/y")


def _ends(root):
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_raises, r"files: it raised KeyError at test_files_made.py:\d+: 'x'"),
        (_refused, "the simulated disk has no such call"),
        (_refused_in_silence, "the simulated disk has no such call"),
        (_leaves_a_thread, "was still running at the end"),
        (_links, "/db/d/y and /db/x are one file"),
        (_ends, "the process that it was called in has ended"),
    ],
)
def test_what_cannot_be_made_is_said(make, said):
    with pytest.raises(SubjectError, match=said):
        made(make).prepare(())


def test_a_function_of_other_arguments_is_refused_at_once():
    with pytest.raises(SubjectError, match=r"files: it is called as files\(root\)"):
        made(lambda: None)
