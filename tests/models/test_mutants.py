"""Planted bugs: each is found, told in few operations, and taken out again."""

import pytest

import shearbolt
from boltmodel.interpret import run
from boltmodel.mutants import MUTANTS, mutant
from boltmodel.mutants.plant import Planter
from boltmodel.subject import ShearboltSubject
from tornpage.disk import Disk
from tornpage.experiment import Experiment
from tornpage.model import CrashModel
from tornpage.shrink import Budget, shrink_program

MODEL = CrashModel(tear="byte")
SUBJECT = ShearboltSubject()

# A crash point of the engine takes about 40 executions. A bug can make it take
# very many; what is found in the first ones is enough here.
CAP = 300

# Found while the program runs, without any crash.
LIVE = (
    "readers-ignored",
    "rollback-forgotten",
    "overflow-leaked",
    "sequence-lost",
    "move-forgets",
    "delete-skips",
)
CRASHING = [name for name in MUTANTS if name not in LIVE]

# Bugs that a default run has to tell in a short story.
TOLD = (
    "no-data-sync",
    "wrong-slot",
    "checksum-unverified",
    "early-reuse",
    "no-dir-sync",
)


def experiment(program):
    return Experiment(SUBJECT, program, MODEL, cap=CAP)


def first_finding(seeds=30):
    for seed in range(seeds):
        program = SUBJECT.generate(seed)
        found = next(experiment(program).sweep(lambda _: None), None)
        if found is not None:
            return seed, program, found
    return None


@pytest.mark.parametrize("name", LIVE)
def test_is_found_without_a_crash(name):
    def broken(seed):
        return run(SUBJECT.generate(seed), Disk()).live

    with mutant(name):
        hit = next(filter(broken, range(60)), None)
        assert hit is not None
        (found,) = broken(hit)
    assert found.property[0] in MUTANTS[name].breaks
    assert not broken(hit)


@pytest.mark.parametrize("name", CRASHING)
def test_is_found_by_the_promise_it_breaks(name):
    with mutant(name):
        hit = first_finding()
    assert hit is not None
    seed, program, found = hit
    assert found.violation.property[0] in MUTANTS[name].breaks
    # The same seed is consistent without the bug.
    assert next(experiment(program).sweep(lambda _: None), None) is None, seed


@pytest.mark.parametrize("name", TOLD)
def test_shrinks_to_at_most_six_operations(name):
    with mutant(name):
        _, program, found = first_finding()
        shrunk = shrink_program(
            program,
            found,
            simplify=SUBJECT.simplify,
            fails=lambda p: experiment(p).first(found.violation.property),
            key=lambda p: str(SUBJECT.encode(p)),
            budget=Budget(15),
        )
        again = experiment(shrunk.program).first(found.violation.property)
    assert len(SUBJECT.describe(shrunk.program)) <= 6
    assert again is not None
    assert again.violation == shrunk.found.violation


def test_each_says_in_one_line_what_it_is():
    assert len(MUTANTS) >= 12
    for name, bug in MUTANTS.items():
        assert bug.name == name
        assert bug.summary.endswith(".")
        assert "\n" not in bug.summary
        assert set(bug.breaks) <= set("PASIFRME")


def _methods():
    modules = (
        shearbolt.bucket,
        shearbolt.cursor,
        shearbolt.db,
        shearbolt.format,
        shearbolt.freelist,
        shearbolt.pager,
        shearbolt.tx,
    )
    found = {}
    for module in modules:
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for inner, member in vars(value).items():
                    found[module.__name__, name, inner] = member
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_leaves_the_engine_as_it_was_even_after_an_error(name):
    before = _methods()
    with pytest.raises(RuntimeError, match="inside"), mutant(name):  # noqa: PT012
        during = _methods()
        raise RuntimeError("inside")
    assert _methods() == before
    assert during != before


def test_a_mutant_whose_method_is_gone_says_so():
    with pytest.raises(AttributeError, match="must be adapted to the engine"):
        Planter().replace(shearbolt.DB, "no_such_method", None)


def test_an_inherited_method_is_not_replaced_by_accident():
    """Restoring it would leave a copy in the subclass."""
    freelists = shearbolt.freelist
    with pytest.raises(AttributeError, match="of its own"):
        Planter().replace(freelists.HashmapFreelist, "free", None)
