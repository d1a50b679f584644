"""Planted bugs: each is found, is what it says, and is taken out again."""

import json
import os
import sys

import pytest

import shearbolt
from boltmodel.corpus import BY_NAME
from boltmodel.lanes.museum import exhibit, shown
from boltmodel.mutants import MUTANTS, mutant
from boltmodel.mutants.plant import NEEDS, Gallery, Planter
from boltmodel.mutants.shown import SHOWN
from boltmodel.programs import Commit, Program, Put, Value
from boltmodel.subject import ShearboltSubject

SHORT = Program((Put((b"a",), b"k", Value(1, 5)), Commit()))

# Of each kind of need one, hunted and told like all of them before a merge.
HUNTED = (
    "no-data-sync",
    "early-reuse",
    "no-dir-sync",
    "delete-skips",
    "freelist-stale",
)


def test_there_are_at_least_sixty():
    assert len(MUTANTS) >= 60


@pytest.mark.parametrize("name", MUTANTS)
def test_is_shown_by_its_program_and_not_without_it(name):
    bug = MUTANTS[name]
    with mutant(name):
        found = shown(name)
    assert found is not None
    assert found.property[0] in bug.breaks
    assert bug.needs == SHOWN[name][0]
    assert shown(name) is None


@pytest.mark.parametrize("name", HUNTED)
def test_is_found_among_all_programs_and_told_briefly(name):
    made = exhibit(name, told=True)
    assert made.killed
    assert made.hit.violation.property[0] in MUTANTS[name].breaks
    assert made.story.operations <= 6
    assert made.story.choices <= 3


def test_an_engine_without_a_bug_is_no_exhibit(monkeypatch):
    """Planted: a mutant that changes nothing survives, and counts as such."""
    nothing = Gallery()
    nothing.add("nothing", "Is no bug.", origin="-", breaks="P", needs="run")(
        lambda _: None
    )
    monkeypatch.setitem(MUTANTS, "nothing", *nothing)
    made = exhibit("nothing", (SHORT,))
    assert made.hit is None
    assert not made.killed


def test_a_search_that_complains_anyway_is_a_false_alarm(monkeypatch):
    """Planted: a promise that the honest engine breaks as well."""
    always = Program((Put((b"a",), b"k", Value(1, 5)),), faults="open#1=EIO!")
    assert not exhibit("sequence-lost", (always,)).killed
    found = exhibit("sequence-lost", (BY_NAME[SHOWN["sequence-lost"][1]],))
    assert found.killed


def test_each_has_its_label():
    for name, bug in MUTANTS.items():
        assert bug.name == name
        assert bug.summary.endswith(".")
        assert "\n" not in bug.summary
        assert bug.origin
        assert set(bug.breaks) <= set("PASIFRME")
        assert bug.needs in NEEDS


def test_what_was_recorded_is_what_there_is():
    assert set(SHOWN) == set(MUTANTS)
    assert {program for _, program in SHOWN.values()} <= set(BY_NAME)


def test_the_gate_is_told_the_program_that_shows_it():
    subject = ShearboltSubject()
    for name, bug in MUTANTS.items():
        told = subject.mutant_details(name)
        assert subject.generate(told["seed"]) is BY_NAME[SHOWN[name][1]], name
        assert (told["origin"], told["needs"]) == (bug.origin, SHOWN[name][0]), name


def test_on_a_database_the_gate_is_told_no_program(tmp_path):
    path = tmp_path / "some.db"
    shearbolt.open(path).close()
    subject = ShearboltSubject().with_database(str(path))
    assert "seed" not in subject.mutant_details("no-data-sync")


def test_every_program_of_the_corpus_is_the_first_to_show_something():
    """Kept minimal: a program that shows nothing first goes, or says why it stays."""
    needed = {program for _, program in SHOWN.values()}
    assert set(BY_NAME) - needed <= KEPT_FOR_OTHER_REASONS


KEPT_FOR_OTHER_REASONS = {
    "16-nested-small",  # a small bucket that may not become inline
    "20-grow",  # the only one in which a tree that is there gains a level
    "39-x-meta-write",  # the one call of a commit that no other program fails
}


def test_files_of_the_corpus_say_why_they_are_there():
    import boltmodel.corpus

    folder = os.path.dirname(boltmodel.corpus.__file__)
    for name in BY_NAME:
        with open(os.path.join(folder, f"{name}.json"), encoding="utf-8") as source:
            assert json.load(source)["why"].endswith(".")


def _methods():
    found = {}
    for at, module in sorted(sys.modules.items()):
        if not at.startswith("shearbolt."):
            continue
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for inner, member in vars(value).items():
                    found[module.__name__, name, inner] = member
    return found


@pytest.mark.thorough
def test_each_leaves_the_engine_as_it_was_even_after_an_error():
    before = _methods()
    for name in MUTANTS:
        with pytest.raises(RuntimeError, match=name), mutant(name):  # noqa: PT012
            during = _methods()
            raise RuntimeError(name)
        assert _methods() == before, name
        assert during != before, name


def test_a_mutant_whose_method_is_gone_says_so():
    with pytest.raises(AttributeError, match="must be adapted to the engine"):
        Planter().replace(shearbolt.DB, "no_such_method", None)


def test_an_inherited_method_is_not_replaced_by_accident():
    """Restoring it would leave a copy in the subclass."""
    freelists = shearbolt.pages.freelist
    with pytest.raises(AttributeError, match="of its own"):
        Planter().replace(freelists.HashmapFreelist, "free", None)


def test_the_docs_have_a_row_for_every_bug_and_no_other():
    folder = os.path.dirname(__file__)
    with open(os.path.join(folder, "../../docs/museum.md"), encoding="utf-8") as text:
        table = text.read().partition("## The table")[2]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    told = {cells[0].removeprefix("| "): cells for cells in rows[1:]}
    assert set(told) == set(MUTANTS)
    for name, bug in MUTANTS.items():
        assert told[name][1] == bug.origin
        assert told[name][2][0] in bug.breaks
        assert told[name][3] == bug.needs
