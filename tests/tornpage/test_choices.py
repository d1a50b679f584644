"""The tape: enumeration, sampling, replay."""

import itertools

import pytest

from tornpage.choices import (
    Choice,
    Enumerator,
    Replay,
    ReplayError,
    Sampler,
    format_label,
)

ASK = ("question",)


def walk(chooser):
    """Three questions, the last one only after an odd first answer."""
    first = chooser.choose(3, ASK)
    second = chooser.choose(2, ASK)
    third = chooser.choose(4, ASK) if first % 2 else None
    return first, second, third


def test_the_enumerator_visits_every_leaf_once_honest_first():
    chooser, seen = Enumerator(), []
    while True:
        seen.append(walk(chooser))
        if not chooser.advance():
            break
    legal = {
        (first, second, third)
        for first, second in itertools.product(range(3), range(2))
        for third in (range(4) if first % 2 else (None,))
    }
    assert seen[0] == (0, 0, None)
    assert len(seen) == len(set(seen)) == 2 + 8 + 2
    assert set(seen) == legal


def test_an_execution_without_a_choice_is_the_only_one():
    assert not Enumerator().advance()


def test_replay_of_any_tape_repeats_the_execution():
    for seed in range(50):
        sampler = Sampler(seed)
        found = walk(sampler)
        again = Replay(sampler.tape)
        assert walk(again) == found
        assert again.log == sampler.log


def test_beyond_the_end_of_a_tape_everything_is_honest():
    assert walk(Replay((1,))) == (1, 0, 0)


@pytest.mark.parametrize("tape", [(3,), (0, 2), (-1,)])
def test_a_tape_of_something_else_is_refused(tape):
    with pytest.raises(ReplayError, match="belongs to another"):
        walk(Replay(tape))


def test_same_seed_same_answers_and_seeds_differ():
    tapes = []
    for seed in range(40):
        one, other = Sampler(seed), Sampler(seed)
        assert walk(one) == walk(other)
        tapes.append(one.tape)
    assert len(set(tapes)) > 5
    honest = sum(not any(tape) for tape in tapes)
    assert 0 < honest < len(tapes)


def test_a_recovery_that_asks_differently_is_reported():
    chooser = Enumerator()
    chooser.choose(2, ASK)
    chooser.choose(2, ASK)
    assert chooser.advance()
    with pytest.raises(ReplayError, match="nothing but what it reads"):
        chooser.choose(3, ASK)


def test_a_recovery_that_stops_asking_is_reported():
    chooser = Enumerator()
    chooser.choose(2, ASK)
    chooser.choose(2, ASK)
    assert chooser.advance()
    chooser.choose(2, ASK)
    with pytest.raises(ReplayError, match="ended after 1"):
        chooser.advance()


def test_labels_are_text_only_when_printed():
    label = ("data", "db", 4096, 16, ("new content", "old content"))
    assert format_label(label) == "db bytes 4096..4112"
    assert str(Choice(1, 2, label)) == "db bytes 4096..4112: old content"
    assert format_label(("size", "db"), 2) == "size db: answer 2"
    assert format_label(("turn", 3)) == "turn 3"
