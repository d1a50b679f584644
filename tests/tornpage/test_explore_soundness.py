"""The explorer against brute force: same outcomes, on every case.

`close` and `sweep` resolve images by what recovery reads; `eager` builds every
image. They share no code below the disk that recovery runs on. A fault planted
in the explorer must make them differ.
"""

import contextlib
import random

import pytest
from explorer_cases import (
    DRAWN,
    MODELS,
    REPAIRS,
    STORES,
    FlipStore,
    LogStore,
    SwapStore,
    differences,
    half,
    judged,
    random_asking,
    random_cases,
    random_recovery,
    random_repair,
    random_run,
    store_cases,
    weight,
)

from tornpage.disk import Disk
from tornpage.disk.life import Life
from tornpage.explore import Explorer
from tornpage.explore.beginnings import Beginnings
from tornpage.explore.memory import Memory
from tornpage.model import PRESETS, CrashModel
from tornpage.platter.brute import TooManyImages


@pytest.mark.seeds(1)
def test_random_programs_have_the_outcomes_of_brute_force(seed):
    seeds = half(seed)
    agreed = 0
    for explorer in random_cases(seeds):
        found, same = differences(explorer)
        assert not found
        agreed += same
    assert agreed > 10 * len(seeds)


@pytest.mark.seeds(1)
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["usual", "drawn"])
def test_questions_of_parts_have_the_answers_of_brute_force(models, seed, monkeypatch):
    right = Life.uses
    used = set()

    def uses(self, node, part):
        taken = right(self, node, part)
        if taken:
            used.add(part)
        return taken

    monkeypatch.setattr(Life, "uses", uses)
    agreed = 0
    # Every third model: all values of all parameters are among them.
    seeds = range(seed * 24, (seed + 1) * 24, 3)
    for explorer in random_cases(seeds, 9, models, 0.1, random_asking):
        found, same = differences(explorer, 300)
        assert not found, explorer.model
        agreed += same
    assert agreed > 65
    assert len(used) > 12


@pytest.mark.seeds(1)
@pytest.mark.parametrize("models", [MODELS, DRAWN], ids=["usual", "drawn"])
def test_recoveries_that_write_have_the_outcomes_of_brute_force(models, seed):
    seeds = range(seed * 20, (seed + 1) * 20)
    agreed = 0
    for explorer in random_cases(seeds, 7, models, 0.1, random_repair):
        found, same = differences(explorer, 200)
        assert not found, explorer.model
        agreed += same
    assert agreed > 125


@pytest.mark.parametrize("model", ["tear=byte", "tear=byte,unit=16384"])
@pytest.mark.parametrize(
    "question",
    [
        lambda view: (view(weight, 511, 700), view(weight, 0, 700))[0],
        lambda view: (view(weight, 511, 700) + view(weight, 0, 700)) % 2,
    ],
)
def test_a_question_decides_several_atoms_once_and_for_all_ways(model, question):
    """What was decided before a fork was undone with the fork, and decided anew."""
    disk = Disk({}, CrashModel.parse(model))
    file = disk.open("a", create=True)
    for data, at in ((b"dd", 10), (b"e", 0), (b"ff", 512)):
        file.pwritev([data], at)
    file.ftruncate(1200)

    def recover(disk):
        if not disk.exists("a"):
            return None
        file = disk.open("a")
        return file.ask(question), file.pread(30, 511)

    found, agreed = differences(Explorer({}, disk.trace, recover, disk.model), 50_000)
    assert not found
    assert agreed == 11


@pytest.mark.parametrize("tear", ["page", "sector"])
def test_a_file_that_grows_again_has_zeros_where_it_had_ended(tear):
    """A write beside the end brought what the platter has behind it into the cache."""
    model = CrashModel.parse(f"tear={tear}")
    disk = Disk({}, model)
    file = disk.open("a", create=True)
    file.pwritev([b"d" * 1030], 512)
    file.ftruncate(600)
    file.pwritev([b"f" * 520], 512)

    def recover(disk):
        if not disk.exists("a"):
            return None
        file = disk.open("a")
        file.pwritev([b"7"], 515)
        file.pwritev([b"7" * 600], 1403)
        return file.pread(700, 300)

    found, agreed = differences(Explorer({}, disk.trace, recover, model))
    assert not found
    assert agreed == 9


@pytest.mark.parametrize("seed", REPAIRS)
def test_what_a_write_left_beside_its_bytes_is_remembered_with_it(seed):
    explorer = next(random_cases([seed], 7, MODELS, 0.1, random_repair))
    found, agreed = differences(explorer, 200)
    assert not found
    assert agreed > 3


@pytest.mark.seeds(1)
@pytest.mark.parametrize("failing", [0.0, 0.35])
def test_any_model_has_the_outcomes_of_brute_force_with_syncs_that_fail(failing, seed):
    agreed = 0
    results = set()
    # Every tenth model, or every fourth with syncs that fail; in turn by seed.
    every = range(seed * len(DRAWN), (seed + 1) * len(DRAWN))
    seeds = [one for one in every if (one + seed) % (4 if failing else 10) == 1]
    for explorer in random_cases(seeds, 8, DRAWN, failing):
        found, same = differences(explorer, 150)
        assert not found, explorer.model
        agreed += same
        results |= {one.result for one in explorer._operations if one.op == "sync"}
    assert agreed > 9 * len(seeds)
    failed = {"failed", "silent", "reverted", "read-only"}
    # One of them may be missing where the knob is turned up.
    least = 4 if seed == 0 else 3
    assert len(results & failed) >= least if failing else results == {"ok"}


@pytest.mark.thorough(rows=5)
@pytest.mark.seeds(1)
@pytest.mark.parametrize("preset", PRESETS)
def test_four_ways_to_explore_agree_under_every_preset(preset, seed):
    model = CrashModel.parse(preset)
    several = 0
    for explorer in random_cases((2 * seed, 2 * seed + 1), 7, [model], 0.2):
        plain = Explorer(
            explorer._files,
            [*explorer._operations],
            explorer._recover,
            model,
            reuse=False,
        )
        for reused, lazy in zip(explorer.sweep(), plain.sweep(), strict=True):
            outcomes = {one.outcome for one in lazy.outcomes}
            assert {one.outcome for one in reused.outcomes} == outcomes
            with contextlib.suppress(TooManyImages):
                assert explorer.eager(lazy.point, 300) == outcomes
            if lazy.executions > 20 or lazy.point.inside:
                continue
            # Every leaf of a tree this small comes up in so many draws.
            drawn, seen = 0, set()
            while seen != outcomes and drawn < 20_000:
                some = explorer.sample(lazy.point, drawn, 20)
                seen |= {one.outcome for one in some}
                drawn += 20
                assert seen <= outcomes
            assert seen == outcomes
            several += len(outcomes) > 1
    assert several > 1


@pytest.mark.seeds(1)
def test_stores_have_the_outcomes_of_brute_force_under_every_model(seed):
    kinds = set()
    count = 0
    models = [MODELS[at % len(MODELS)] for at in half(seed)]
    for store, explorer in store_cases(models):
        found, agreed = differences(explorer)
        assert not found
        assert agreed == len(list(explorer.points()))
        kinds.add((type(store), store.fault != "", judged(store, explorer)))
        count += 1
    assert count == len(models) * len(STORES)
    # Both outcomes: right stores are never caught, each broken kind is.
    for kind in (FlipStore, SwapStore, LogStore):
        assert (kind, False, True) in kinds
        assert (kind, False, False) not in kinds
        assert (kind, True, False) in kinds


@pytest.mark.thorough
@pytest.mark.seeds(1)
def test_reuse_changes_nothing_but_the_number_of_executions(seed):
    saved = 0
    for explorer in random_cases(half(seed), length=13):
        plain = Explorer(
            explorer._files,
            [*explorer._operations],
            explorer._recover,
            explorer.model,
            cap=400,
            reuse=False,
        )
        explorer._cap = 400
        for one, other in zip(explorer.sweep(), plain.sweep(), strict=True):
            assert (one.point, one.closed, one.images_log2) == (
                other.point,
                other.closed,
                other.images_log2,
            )
            assert [(r.outcome, r.tape) for r in one.outcomes] == [
                (r.outcome, r.tape) for r in other.outcomes
            ]
            assert not other.reused
            saved += other.executions - one.executions
    assert saved > 0


@pytest.mark.thorough(rows=6)
@pytest.mark.seeds(12)
def test_nor_does_what_is_remembered_of_programs_that_begin_alike(seed):
    models = MODELS if seed % 2 else DRAWN
    model = models[seed // 2 % len(models)]
    recover = (random_recovery, random_repair, random_asking)[seed % 3](seed)
    shared = Beginnings(Memory(jumps=model.jumps))
    for number in range(8):
        draw = random.Random(f"{seed} {number}")
        # Few of them, longer and shorter: they begin alike.
        program, length = seed * 100 + draw.randrange(3), draw.choice((3, 5, 8))
        files, trace = random_run(program, model, length, failing=0.1)
        explorers = (
            Explorer(files, trace, recover, model, cap=100, beginnings=shared),
            Explorer(files, trace, recover, model, cap=100, reuse=False),
        )
        for one, other in zip(*(each.sweep() for each in explorers), strict=True):
            assert (one.closed, one.images_log2) == (other.closed, other.images_log2)
            assert [(r.outcome, r.tape) for r in one.outcomes] == [
                (r.outcome, r.tape) for r in other.outcomes
            ]


@pytest.mark.seeds(1)
def test_sampling_saturates_to_the_closure_and_never_leaves_it(seed):
    full = partial = 0
    for explorer in random_cases(half(seed)):
        point = max(explorer.points())
        closed = {one.outcome for one in explorer.close(point).outcomes}
        drawn = {one.outcome for one in explorer.sample(point, 1, 200)}
        assert drawn <= closed
        full += drawn == closed
        partial += drawn != closed
    assert full > partial
