"""Threads of a build without the global lock: any two instructions, in any order.

The build that runs these may have the lock. What it makes one step is none here.
"""

import dis
import weakref

import pytest
from switching import CODE as SHARED
from switching import Counter, mutex, values

from tornpage import UncoveredError
from tornpage.disk import Disk
from tornpage.threads import Schedule, Schedules, play, under_turns

CODE = (*SHARED, __file__)


def test_one_step_of_the_global_lock_is_several_without_it():
    assert set(values("add_in_one_step", 2)) == {2}
    assert set(values("add_in_one_step", 1, free_threaded=True)) == {1, 2}


@pytest.mark.parametrize("way", ["add_alone", "add_in_one_step_alone"])
def test_a_lock_keeps_others_out_between_any_two_instructions(way):
    made = lambda turns: Counter(mutex(turns))  # noqa: E731
    assert set(values(way, 2, made, free_threaded=True)) == {2}


class Pair:
    first = second = 0

    def write(self):
        self.first = 1
        self.second = 1

    def read(self):
        return self.first, self.second


def seen(switches, **options):
    def once(_):
        pair = Pair()
        return [pair.write, pair.read]

    every = Schedules(once, CODE, switches=switches, **options)
    return {played.results[1] for played in every}


def test_two_attributes_are_read_and_written_in_every_order():
    assert seen(2) == {(0, 0), (1, 1)}
    assert seen(1, free_threaded=True) == {(0, 0), (1, 0), (0, 1), (1, 1)}


class Thing:
    pass


def test_an_object_that_dies_in_an_assignment_is_noticed_between_any_two():
    """A weak reference listens: so what lets go of an object is no thread's own."""

    def once(_):
        told = []

        def lose():
            thing = Thing()
            listens = weakref.ref(thing, told.append)
            thing = None
            return listens, thing

        return [lose, lambda: len(told)]

    every = Schedules(once, CODE, free_threaded=True)
    assert {played.results[1] for played in every} == {0, 1}


def test_there_is_a_place_before_every_instruction_that_threads_share():
    """Counted by hand: a thread's own variables and constants are left out."""

    def body(pair=Pair()):  # noqa: B008 - to be shared.
        first = pair.first
        second = first
        pair.second = second

    own = ("LOAD_FAST", "LOAD_CONST", "RESUME", "PUSH_NULL", "NOP")
    named = [one.opname for one in dis.get_instructions(body)]
    shared = [name for name in named if not name.startswith(own)]
    # The beginning is one more.
    placed = 1 + len(shared)
    forced = [
        str(played.schedule)
        for played in Schedules(lambda _: [body, body], CODE, free_threaded=True)
        if ":" in str(played.schedule)
    ]
    assert forced.count("0:0>1") == 1
    assert sum(text.startswith("0:") for text in forced) == placed


def test_a_schedule_is_played_again_where_its_places_are_counted_alike():
    def once(_):
        pair = Pair()
        return [pair.write, pair.read]

    every = Schedules(once, CODE, free_threaded=True)
    half = next(one for one in every if one.results[1] == (1, 0))
    assert play(once, half.schedule, CODE, free_threaded=True).results[1] == (1, 0)
    last = Schedule.parse("0:2>1")
    assert play(once, last, CODE, free_threaded=True).results[1] is not None
    with pytest.raises(UncoveredError):
        play(once, last, CODE)


def test_a_disk_says_how_its_threads_run():
    said = []

    def once(turns):
        said.append(under_turns(Disk(), turns).free_threaded)
        return [Pair().write, Pair().write]

    for free_threaded in (False, True):
        play(once, Schedule(), CODE, free_threaded=free_threaded)
    assert said == [False, True]
