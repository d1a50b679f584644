"""Shrinking, on oracles simple enough to know the minimum."""

import random

import pytest

from tornpage.run.shrink import Budget, shrink_program, shrink_tape, strip


def halves_and_ones(program):
    size = len(program)
    for width in (size // 2, 1):
        for start in range(0, size, width or 1):
            yield program[:start] + program[start + (width or 1) :]
    for place, value in enumerate(program):
        if value:
            yield (*program[:place], value // 2, *program[place + 1 :])


def walk(program, fails, limit=10_000):
    budget = Budget(limit)
    shrunk = shrink_program(
        program,
        fails(program),
        simplify=halves_and_ones,
        fails=fails,
        key=lambda p: p,
        budget=budget,
    )
    return shrunk, budget


@pytest.mark.parametrize("seed", range(20))
def test_a_shrunk_program_has_no_simpler_neighbour_that_fails(seed):
    draw = random.Random(seed)
    program = tuple(draw.randrange(100) for _ in range(draw.randint(3, 30)))
    need = sorted(draw.sample(sorted(set(program)), 2))

    def fails(candidate):
        return "bad" if all(any(v >= n for v in candidate) for n in need) else None

    shrunk, budget = walk(program, fails)
    assert fails(shrunk.program) == shrunk.found == "bad"
    assert not any(fails(one) for one in halves_and_ones(shrunk.program))
    assert not budget.ended


def test_no_program_is_tried_twice():
    tried = []

    def fails(candidate):
        tried.append(candidate)
        return "bad" if sum(candidate) > 10 else None

    walk((5, 5, 5, 5, 5, 5), fails)
    assert len(tried) == len(set(tried))


def test_what_was_found_belongs_to_the_program_that_is_returned():
    shrunk, _ = walk((9, 9, 9), lambda p: sum(p) if sum(p) > 8 else None)
    assert shrunk.found == sum(shrunk.program)


def test_a_simplifier_that_goes_in_circles_ends():
    budget = Budget(10_000)
    shrunk = shrink_program(
        0,
        "bad",
        simplify=lambda n: ((n + 1) % 7,),
        fails=lambda _: "bad",
        key=lambda n: n,
        budget=budget,
    )
    assert shrunk.program == 6
    assert budget.spent == 6


def test_a_limit_that_was_hit_is_reported_and_the_best_is_kept():
    shrunk, budget = walk((1,) * 40, lambda p: "bad" if len(p) > 2 else None, limit=3)
    assert budget.spent == 3
    assert "limit of 3 attempts" in budget.describe()
    assert 2 < len(shrunk.program) < 40


def needs(*pairs):
    """Fails when each place holds at least that pick; the tape is as replayed."""

    def fails(tape):
        padded = tape + (0,) * 12
        return padded[:12] if all(padded[p] >= v for p, v in pairs) else None

    return fails


@pytest.mark.parametrize("seed", range(20))
def test_a_shrunk_tape_has_only_the_dishonest_choices_it_needs(seed):
    draw = random.Random(seed)
    pairs = [(place, draw.randint(1, 3)) for place in draw.sample(range(10), 2)]
    noisy = tuple(draw.randint(3, 5) for _ in range(12))
    budget = Budget(10_000)
    assert shrink_tape(noisy, fails=needs(*pairs), budget=budget) == strip(
        tuple(dict(pairs).get(place, 0) for place in range(12))
    )


def test_an_honest_choice_may_change_what_follows():
    # Choice 1 exists only while choice 0 is dishonest.
    def fails(tape):
        first, second = (*tape, 0, 0)[:2]
        return (1, second) if first else (0,)

    assert shrink_tape((1, 4), fails=fails, budget=Budget(100)) == ()


def test_shrinking_a_tape_ends_at_its_limit():
    budget = Budget(2)
    shrunk = shrink_tape((3, 3, 3), fails=needs((0, 1), (1, 1), (2, 1)), budget=budget)
    assert shrunk == (3, 3, 3)
    assert "limit" in budget.describe()


def test_trailing_honest_choices_are_not_written_down():
    assert strip((0, 2, 0, 0)) == (0, 2)
    assert strip((0, 0)) == ()


def test_a_tape_that_comes_out_dearer_than_the_best_one_is_not_taken():
    budget = Budget(100)
    assert shrink_tape((1, 1), fails=lambda _: (2, 2), budget=budget) == (1, 1)
    assert not budget.ended
