"""Bugs that are planted into a store which is tested by three functions."""

import contextlib
import functools
import mmap
import os
import sys
from types import ModuleType
from unittest import mock

import pytest

from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.patch import block, patched
from tornpage.patch.kept import Kept
from tornpage.run import Plan, run
from tornpage.run.killrate import check_mutants, row
from tornpage.run.report import replay
from tornpage.subject import SubjectError


class Store:
    @staticmethod
    def sync(file):
        os.fsync(file)

    @staticmethod
    def sync_folder(root):
        folder = os.open(root, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    @staticmethod
    def is_whole(text):
        return text.endswith("\n")


def add(root, work, ack):
    file = os.open(f"{root}/log", os.O_RDWR | os.O_CREAT)
    Store.sync_folder(root)
    for text in work:
        os.write(file, f"{text}\n".encode())
        Store.sync(file)
        ack(text)


def read(root):
    if not os.path.exists(f"{root}/log"):
        return []
    with open(f"{root}/log", encoding="ascii", errors="replace") as file:
        lines = file.readlines()
    return [one.rstrip("\n") for one in lines if Store.is_whole(one)]


def compare(acked, in_flight, seen):
    if tuple(seen) not in {acked, acked + in_flight}:
        return f"acknowledged were {acked}"
    return None


@contextlib.contextmanager
def without_checks():
    with mock.patch.object(Store, "is_whole", return_value=True):
        yield


BUGS = {
    "no-fsync": (
        "a text is acknowledged before it is durable",
        functools.partial(mock.patch.object, Store, "sync"),
    ),
    "no-dir-fsync": (
        "a new file may lose its name",
        lambda: mock.patch.object(Store, "sync_folder"),
    ),
    "no-check": ("a line is trusted as it is read", without_checks),
}


def storing(name="STORE", **given):
    return subject_from(
        name,
        run=add,
        recover=read,
        check=compare,
        work=["one", "two" * 50],
        root="/db",
        **given,
    )


STORE = storing(bugs=BUGS)
PLAN = Plan(spec="test_function_bugs:STORE", programs=1)


def test_each_has_one_line():
    assert list(STORE.mutants()) == list(BUGS)
    assert STORE.mutants()["no-fsync"] == "a text is acknowledged before it is durable"
    assert storing().mutants() == {}


def test_every_planted_bug_is_caught_and_the_store_itself_is_consistent():
    rate = check_mutants(STORE, PLAN)
    assert rate.passed
    assert rate.caught == rate.planned == 3


@pytest.mark.parametrize("name", BUGS)
def test_a_token_plants_the_bug_again(name):
    mutated = Plan(spec=PLAN.spec, programs=1, mutant=name)
    (found,) = run(STORE, mutated).violations
    assert found.failure.mutant == name
    assert replay(STORE, found.failure) == found.story
    assert run(STORE, PLAN).verdict == "consistent"


def test_a_bug_that_there_is_not_is_a_key_error():
    with pytest.raises(KeyError):
        STORE.mutant("other")
    with pytest.raises(KeyError):
        run(storing(), Plan(spec="x", programs=1, mutant="no-fsync"))


@pytest.mark.parametrize(
    "bug",
    [
        lambda: mock.patch.object(Store, "sync"),
        ("", lambda: mock.patch.object(Store, "sync")),
        ("two\nlines", lambda: mock.patch.object(Store, "sync")),
        ("text", None),
        ("text", mock.patch.object(Store, "sync"), 3),
        "text",
    ],
)
def test_what_is_no_line_with_a_function_is_refused_by_name(bug):
    with pytest.raises(SubjectError, match=r"bugs: 'no-fsync' has .* give a pair"):
        storing(bugs={"no-fsync": bug})


def test_a_list_of_bugs_is_refused():
    with pytest.raises(SubjectError, match="bugs: give a dict"):
        storing(bugs=["no-fsync"])


def test_a_function_that_makes_no_context_manager_is_refused_when_it_is_planted():
    subject = storing(bugs={"none": ("nothing", lambda: None)})
    with pytest.raises(SubjectError, match="bugs: 'none' makes a NoneType"):
        run(subject, Plan(spec="x", programs=1, mutant="none"))


def test_a_bug_that_cannot_be_planted_is_no_bug_that_was_caught():
    def missing():
        return mock.patch.object(Store, "snyc")

    subject = storing(bugs={"typo": ("a line", missing)})
    for told in (
        lambda: run(subject, Plan(spec="x:STORE", programs=1, mutant="typo")),
        lambda: check_mutants(subject, Plan(spec="x:STORE", programs=1)),
    ):
        with pytest.raises(SubjectError, match="'typo' cannot be planted: Attribute"):
            told()


def raising(file):
    raise RuntimeError("as a store may do, not as a bug that is planted wrongly")


def raising_sometimes():
    right = Store.sync

    def sync(file):
        if os.fstat(file).st_size > 100:
            raising(file)
        right(file)

    return mock.patch.object(Store, "sync", staticmethod(sync))


DEAD = {
    "no-argument": (
        "what is planted is called wrongly",
        lambda: mock.patch.object(Store, "sync", staticmethod(lambda: None)),
    ),
    "at-once": (
        "it raises wherever it is called",
        lambda: mock.patch.object(Store, "sync", staticmethod(raising)),
    ),
}


@pytest.mark.parametrize("name", DEAD)
def test_a_bug_with_which_no_program_runs_is_none_that_was_caught(name):
    rate = check_mutants(storing(bugs={**BUGS, name: DEAD[name]}), PLAN)
    assert rate.mutants[name].verdict == "violated"
    assert (rate.caught, rate.planned, rate.dead) == (3, 4, (name,))
    assert not rate.passed
    assert f"{name}: no program runs with it" in rate.summary()
    error = "TypeError" if name == "no-argument" else "RuntimeError"
    assert f"The program raised {error} at test_function_bugs.py:" in " ".join(
        rate.summary().split()
    )


def test_one_that_raises_in_some_programs_is_caught_and_told_apart():
    late = "raises where the log is long", raising_sometimes
    rate = check_mutants(storing(bugs={**BUGS, "late": late}), PLAN)
    assert rate.passed
    assert (rate.caught, rate.without_a_crash, rate.dead) == (4, 1, ())
    assert "4 of 4 planted bugs caught, 1 of them without a crash" in rate.summary()
    assert "no crash, program" in row("late", rate.mutants["late"])
    assert "no crash" not in row("no-fsync", rate.mutants["no-fsync"])


# -- functions that a store keeps from its import --------------------------------------

KEEPING = """
import mmap
import os
from os import fsync


class File:
    opened = os.open

    def __init__(self, path, flags):
        self.number = self.opened(path, flags)

    def sync(self):
        fsync(self.number)
"""


@pytest.fixture
def keeping(monkeypatch):
    """A module that no block has seen yet."""
    made = ModuleType("keeping")
    exec(KEEPING, vars(made))
    monkeypatch.setitem(sys.modules, "keeping", made)
    return made


def kept(module, root, work, ack):
    module.File(root, os.O_RDONLY).sync()
    for text in work:
        file = module.File(f"{root}/log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        module.File(root, os.O_RDONLY).sync()
        os.write(file.number, f"{text}\n".encode())
        file.sync()
        ack(text)


def keeps(module):
    return subject_from(
        "KEEPS",
        run=functools.partial(kept, module),
        recover=read,
        check=compare,
        work=["one", "two"],
        root="/db",
        bugs={
            "no-fsync": (
                "a text is acknowledged before it is durable",
                lambda: mock.patch.object(module, "fsync"),
            ),
            "no-method": (
                "the same, of a class",
                lambda: mock.patch.object(module.File, "sync"),
            ),
        },
    )


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("first", [None, "no-fsync"])
def test_a_bug_in_place_of_a_function_from_an_import_is_planted(keeping, first):
    subject = keeps(keeping)
    for mutant in first, None, "no-fsync", None, "no-method", "no-fsync", None:
        certificate = run(subject, Plan(spec="x:KEEPS", programs=1, mutant=mutant))
        wanted = "consistent" if mutant is None else "violated"
        assert certificate.verdict == wanted, mutant
        assert {one.property for one in certificate.violations} <= {"check"}
    assert keeping.fsync is os.fsync


def test_what_a_test_has_put_into_os_changes_no_store_that_keeps_its_own(keeping):
    with mock.patch.object(os, "fsync"):
        certificate = run(keeps(keeping), Plan(spec="x:KEEPS", programs=1))
    assert certificate.verdict == "consistent"


def test_what_a_test_has_put_there_is_left_alone_and_what_was_there_found(keeping):
    subject, plan = keeps(keeping), Plan(spec="x:KEEPS", programs=1)
    with mock.patch.object(keeping, "fsync"):
        assert run(subject, plan).verdict == "violated"
    assert run(subject, plan).verdict == "consistent"


def test_a_default_argument_that_a_test_has_changed_is_found_when_it_is_back(keeping):
    def sync(self, call=os.fsync):
        call(self.number)

    keeping.File.sync = sync
    subject, plan = keeps(keeping), Plan(spec="x:KEEPS", programs=1)
    # By nothing that a stand-in could be put into, which would come back then.
    sync.__defaults__ = (lambda fd: None,)
    assert run(subject, plan).verdict == "violated"
    sync.__defaults__ = (os.fsync,)
    assert run(subject, plan).verdict == "consistent"
    assert sync.__defaults__[0] is os.fsync
    with mock.patch.object(sync, "__defaults__", (lambda fd: None,)):
        assert run(subject, plan).verdict == "violated"
    assert run(subject, plan).verdict == "consistent"


def test_numbers_of_the_process_are_noted_wherever_a_module_keeps_them(keeping):
    exec("def own(number=os.getpid):\n    return number()", vars(keeping))
    keeping.own.__module__ = "keeping"
    with patched(Disk()):
        # The first look at this module is a block's.
        pass
    noted = [place.owner for place in block._kept._found.values()]
    assert keeping.own in noted


@pytest.mark.parametrize(
    ("module", "name"), [(mmap, "mmap"), (os, "getpid"), (os, "fsync")]
)
def test_a_name_that_a_test_has_changed_is_found_when_it_is_back(keeping, module, name):
    keeping.kept = print
    block.look_around()
    keeping.kept = getattr(module, name)
    block.look_around()
    noted = block._kept._found.values()
    assert any(place.owner is keeping and place.name == "kept" for place in noted)


def test_modules_are_not_looked_at_again_while_nobody_has_one_reference_more(
    keeping, monkeypatch
):
    block.look_around()
    looked = []
    once_more = Kept._once_more
    monkeypatch.setattr(
        Kept, "_once_more", lambda self: looked.append(1) or once_more(self)
    )
    block.look_around()
    assert not looked
    keeping.sync = os.fsync
    block.look_around()
    assert looked
