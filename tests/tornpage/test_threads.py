"""Threads under a schedule: every order with so many switches is tried, and no other.

The stores here are a few lines. What they do wrong is what threads do wrong: a gap
between looking and doing.
"""

import pytest
from switching import CODE as SHARED
from switching import look, straight, two, values

from tornpage.threads import (
    Schedule,
    Schedules,
    Switch,
    play,
)

CODE = (*SHARED, __file__)


def test_a_gap_between_looking_and_doing_takes_one_switch():
    assert set(values("add", 0)) == {2}
    found = values("add", 1)
    assert set(found) == {1, 2}
    # And the schedule that shows it shows it again.
    once, last = two("add")
    play(once, Schedule.parse(found[1][0]), CODE)
    assert last[0].value == 1


@pytest.mark.parametrize("switches", [1, 2, 3])
def test_what_cpython_does_in_one_step_has_no_gap(switches):
    assert set(values("add_in_one_step", switches)) == {2}


class Twice:
    """Goes wrong when another thread passes both gaps while this one is in a gap."""

    def __init__(self):
        self.step = 0
        self.value = 0

    def run(self):
        mine = self.step = self.step + 1
        look(mine)
        seen = self.step
        look(seen)
        if mine == 1 and seen == 2 and self.step == 3:
            self.value = 1

    def bump(self):
        look(self)
        if self.step == 2:
            self.step = 3


def test_what_takes_two_switches_is_not_seen_with_one():
    def found(switches):
        seen = set()
        last = []

        def once(_):
            last[:] = [Twice()]
            return [last[0].run, last[0].run, last[0].bump]

        for _ in Schedules(once, CODE, switches=switches):
            seen.add(last[0].value)
        return seen

    assert found(1) == {0}
    assert found(2) == {0, 1}


def orders(steps, preemptions):
    """Every order of so many steps of each thread with at most so many preemptions.

    Counted by hand, without a schedule: who goes on while the one before could have
    gone on himself is a preemption.
    """

    def rest(left, before, budget):
        if not any(left):
            return {""}
        found = set()
        for thread, count in enumerate(left):
            cost = before is not None and thread != before and left[before] > 0
            if count and cost <= budget:
                after = (*left[:thread], count - 1, *left[thread + 1 :])
                tails = rest(after, thread, budget - cost)
                found |= {f"{thread}{tail}" for tail in tails}
        return found

    return rest(tuple(steps), None, preemptions)


@pytest.mark.parametrize(
    ("steps", "switches"),
    [((3, 3), 0), ((3, 3), 2), ((2, 2, 2), 0), ((2, 1, 2), 1), ((1, 1, 1, 1), 1)],
)
def test_the_orders_tried_are_all_there_are_with_so_many_preemptions(steps, switches):
    last = []

    def once(_):
        last[:] = [[]]

        def body(thread, count, order):
            def steps():
                # A thread ends with its last step: nothing but a place behind it.
                order.append(thread)
                for _ in range(count - 1):
                    look(None)
                    order.append(thread)

            return steps

        return [body(*one, last[0]) for one in enumerate(steps)]

    seen = set()
    for played in Schedules(once, CODE, switches=switches):
        assert not any(played.errors)
        seen.add("".join(map(str, last[0])))
    assert seen == orders(steps, switches)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 5), (7, 3)])
def test_every_place_is_switched_at_once(first, second):
    """As many schedules as there are places, and each of them another one."""

    def once(_):
        return [straight(first), straight(second)]

    seen = [played.schedule for played in Schedules(once, CODE, switches=1)]
    assert len(set(seen)) == len(seen)
    without = [one for one in seen if not one.switches]
    assert [one.first for one in without] == [0, 1]
    for thread in (0, 1):
        places = [
            one.switches[0].places
            for one in seen
            if one.switches and one.first == thread
        ]
        # Each place of the first thread, and none of the second, which runs alone.
        assert places == list(range(len(places)))
        # A call has a place at its beginning and one behind it, a round one more.
        assert len(places) >= 3 * (first, second)[thread]


def test_two_switches_are_tried_at_every_pair_of_places():
    def once(_):
        return [straight(2), straight(2)]

    one = sum(1 for _ in Schedules(once, CODE, switches=1))
    places = (one - 2) // 2
    seen = {str(p.schedule) for p in Schedules(once, CODE, switches=2)}
    pairs = {
        f"{first}:{a}>{1 - first}:{b}>{first}"
        for first in (0, 1)
        for a in range(places)
        for b in range(places)
    }
    assert pairs <= seen


def test_what_a_thread_raises_is_its_own():
    def fails():
        raise KeyError("mine")

    def once(_):
        return [fails, lambda: 7]

    played = play(once, Schedule(), CODE)
    assert isinstance(played.errors[0], KeyError)
    assert played.errors[1] is None
    assert list(played.results) == [None, 7]


def test_a_share_of_the_schedules_is_always_the_same_share():
    every = values("add", 2)
    total = sum(map(len, every.values()))
    some = values("add", 2, share=0.4, seed=3)
    assert some == values("add", 2, share=0.4, seed=3)
    assert some != values("add", 2, share=0.4, seed=4)
    assert 0 < sum(map(len, some.values())) < total
    once, _ = two("add")
    schedules = Schedules(once, CODE, switches=1, share=0.4)
    played = sum(1 for _ in schedules)
    assert schedules.played == played
    assert schedules.left_out
    whole = Schedules(once, CODE, switches=1)
    assert sum(1 for _ in whole) == played + schedules.left_out
    assert not whole.left_out


def test_the_text_of_a_schedule_is_the_schedule():
    schedule = Schedule(1, (Switch(57, 0), Switch(0, 2)))
    assert str(schedule) == "1:57>0:0>2"
    assert Schedule.parse(str(schedule)) == schedule
    assert Schedule.parse("0") == Schedule()
    both = Schedule(0, (Switch(0, 2, waits=True), Switch(7, 1)))
    assert str(both) == "0~0>2:7>1"
    assert Schedule.parse("0~0>2:7>1") == both
    wrong = ("", "x", "-1", "0:-1>1", "0:1", "0:1>", "0:1>2>3", "0>1", "0~1", "0:~1>1")
    for text in wrong:
        with pytest.raises(ValueError, match="is no schedule"):
            Schedule.parse(text)
