"""What os.stat says of a file of the disk, and who asks for what is made up."""

import copy
import filecmp
import os
import pickle
import shutil
import stat
from pathlib import Path

import pytest

from tornpage.certificate import render
from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.patch import patched
from tornpage.patch.status import Status
from tornpage.registry import spec_of
from tornpage.run import Plan, run

TIMES = "times of files"
NAMES = "how many names"


def _asked(look):
    disk = Disk()
    with patched(disk) as root:
        for name in "xy":
            Path(f"{root}/{name}").write_bytes(name.encode())
        look(root)
    return sorted(disk.made_up.values())


@pytest.mark.parametrize(
    "look",
    [
        lambda root: os.stat(f"{root}/x").st_mtime,
        lambda root: os.stat(f"{root}/x").st_ctime_ns,
        lambda root: os.stat(f"{root}/x")[stat.ST_MTIME],
        lambda root: os.stat(f"{root}/x")[-3],
        lambda root: os.stat(f"{root}/x")[:8],
        lambda root: os.path.getmtime(f"{root}/x"),
        lambda root: Path(f"{root}/x").stat().st_mtime_ns,
        lambda root: next(os.scandir(root)).stat().st_mtime,
        lambda root: filecmp.cmp(f"{root}/x", f"{root}/y"),
        lambda root: [*os.stat(root)],
        lambda root: os.stat(f"{root}/x") == os.stat(f"{root}/y"),
        lambda root: os.stat(f"{root}/x") != os.stat(f"{root}/y"),
        lambda root: sorted(map(os.stat, (f"{root}/x", f"{root}/y"))),
        lambda root: 0 in os.stat(f"{root}/x"),
        lambda root: {os.stat(f"{root}/x")},
        lambda root: copy.copy(os.stat(f"{root}/x")),
    ],
)
def test_whoever_asks_for_the_times_of_a_file_is_known(look):
    assert any(one.startswith(TIMES) for one in _asked(look))


@pytest.mark.parametrize(
    "look",
    [
        lambda root: os.stat(f"{root}/x").st_nlink,
        lambda root: os.stat(f"{root}/x")[stat.ST_NLINK],
        lambda root: tuple(os.stat(f"{root}/x")),
    ],
)
def test_whoever_counts_the_names_of_a_file_is_known(look):
    assert any(one.startswith(NAMES) for one in _asked(look))


@pytest.mark.parametrize(
    "look",
    [
        lambda root: os.stat(f"{root}/x").st_size,
        lambda root: os.stat(f"{root}/x")[stat.ST_SIZE],
        lambda root: os.stat(f"{root}/x")[:3],
        lambda root: os.path.getsize(f"{root}/x"),
        lambda root: os.path.samefile(f"{root}/x", f"{root}/y"),
        lambda root: shutil.copy2(f"{root}/x", f"{root}/z"),
        lambda root: shutil.copytree(root, f"{root}/z"),
        lambda root: shutil.move(f"{root}/x", f"{root}/z"),
        lambda root: list(os.walk(root)),
        lambda root: list(Path(root).glob("**/*")),
    ],
)
def test_what_is_only_handed_on_or_not_looked_at_is_no_question(look):
    assert _asked(look) == []


def test_whatever_a_tuple_can_do_asks_for_what_is_made_up():
    shows_none = {"__doc__", "__len__", "__new__", "__getattribute__"}
    # Of the type, or of the copies that `__reduce__` makes.
    shows_none |= {"__class_getitem__", "__getnewargs__"}
    assert vars(tuple).keys() - shows_none <= vars(Status).keys()


def test_a_status_passes_for_that_of_the_interpreter():
    with patched(Disk()) as root:
        Path(f"{root}/x").write_bytes(b"123")
        found, beside = os.stat(f"{root}/x"), os.stat(root)
        assert isinstance(found, os.stat_result)
        assert isinstance(found, tuple)
        assert stat.S_ISREG(found.st_mode)
        assert stat.S_ISDIR(beside.st_mode)
        assert found.st_size == found[6] == 3
        assert found.n_fields == found.real.n_fields
        assert repr(found) == repr(found.real)
        assert found == found.real
        assert found != beside
        assert hash(found) == hash(found.real)
        for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
            assert type(again) is os.stat_result
            assert again == found.real
        with pytest.raises(AttributeError, match="st_birthday"):
            _ = found.st_birthday


def save(root, work, ack):
    for text in work:
        for name in ("data", "index"):
            with open(f"{root}/{name}", "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                # The index is only a copy: who is older than its data is made anew.
                if name == "data":
                    os.fsync(file.fileno())
        folder = os.open(root, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        ack(text)


def load(root, times):
    try:
        data = Path(f"{root}/data").read_text(encoding="ascii")
        index = Path(f"{root}/index").read_text(encoding="ascii")
    except FileNotFoundError:
        return ""
    if not times:
        return data
    old = os.path.getmtime(f"{root}/index") <= os.path.getmtime(f"{root}/data")
    return data if old else index


def _certificate(running=lambda root: None, times=False, right=True, keep_going=False):
    def running_(root, work, ack):
        save(root, work, ack)
        running(root)

    subject = subject_from(
        "S",
        run=running_,
        recover=lambda root: load(root, times),
        check=lambda acked, in_flight, seen: (
            None if right and (seen in acked or not acked) else f"{seen} is left"
        ),
        work=["a"],
        root="/db",
    )
    plan = Plan(spec=spec_of(subject), programs=1, keep_going=keep_going)
    return run(subject, plan)


def test_a_recovery_that_goes_by_times_shows_nothing_of_what_a_crash_leaves():
    """On a machine its index is newer than its data, and may be lost all the same."""
    assert _certificate().verdict == "consistent"
    certificate = _certificate(times=True)
    assert certificate.verdict == "unverifiable"
    assert "recoveries of the program of seed 0 ask for times" in certificate.cut[0]
    assert "asked for at test_patch_status.py:" in certificate.cut[0]


def test_a_broken_promise_is_one_whatever_the_recovery_goes_by():
    certificate = _certificate(times=True, right=False, keep_going=True)
    assert certificate.verdict == "violated"
    # Else a run that keeps going would end there.
    assert certificate.cut == ()


def test_a_run_that_goes_by_times_is_not_said_to_be_covered_in_that():
    plain = " ".join(render(_certificate()).split())
    certificate = _certificate(lambda root: os.path.getmtime(f"{root}/data"))
    assert certificate.verdict == "consistent"
    said = " ".join(render(certificate).split())
    clause = (
        "about what the store does by times of files, which are 0 here (asked for at"
        " test_patch_status.py:"
    )
    assert clause in said
    assert clause not in plain
