"""Schedules that did not come to pass, or not all, are never said to be covered."""

import os
import threading

import pytest
from switching import CODE as SHARED
from switching import look, straight, two, values

from tornpage.disk import Disk
from tornpage.threads import (
    Schedule,
    Schedules,
    play,
    under_turns,
)
from tornpage.threads import turns as turns_module
from tornpage.uncovered import UncoveredError

CODE = (*SHARED, __file__)


def test_without_the_locks_of_the_schedule_the_run_does_not_end(monkeypatch):
    """So that nobody takes for covered what was not."""
    monkeypatch.setattr(turns_module, "_MOST_SECONDS", 0.2)
    lock = threading.Lock()

    def alone():
        with lock:
            look(None)

    def once(_):
        return [alone, alone]

    with pytest.raises(UncoveredError, match="and not by a lock or a sleep"):
        list(Schedules(once, CODE, switches=1))


def test_places_without_end_take_no_memory_without_end(monkeypatch):
    """Of a thread that spins, say."""
    monkeypatch.setattr(turns_module, "_MOST_FORCED", 5)
    runs = []

    def once(turns):
        runs.append(turns)
        return [straight(99), straight(99)]

    with pytest.raises(UncoveredError, match="more than 5 places to switch at"):
        list(Schedules(once, CODE, switches=1))
    assert [len(one.forced) for one in runs] == [5]


def test_a_check_that_fails_behind_a_run_says_under_which_schedule():
    def once(_):
        yield [straight(1), straight(1)]
        raise AssertionError("as it should not be")

    with pytest.raises(AssertionError) as raised:
        play(once, Schedule(1), CODE)
    assert "the schedule 1" in raised.value.__notes__[0]
    with pytest.raises(TypeError, match="yields its threads once"):
        play(lambda _: iter_twice(), Schedule(), CODE)


def iter_twice():
    yield [straight(1)]
    yield [straight(1)]


def test_threads_that_are_not_the_same_each_time_are_not_said_to_be_covered():
    runs = []

    def once(_):
        runs.append(None)
        return [straight(9 if len(runs) == 1 else 1), straight(1)]

    with pytest.raises(UncoveredError, match="besides the schedule"):
        list(Schedules(once, CODE, switches=1))


@pytest.mark.parametrize(
    "text", ["0:9999>1", "0:1>7", "0:1>1:9999>0", "5", "0~9>1", "0~0>0", "0:1>1~3>0"]
)
def test_a_schedule_that_does_not_come_to_pass_is_not_said_to_be_played(text):
    once, _ = two("add")
    with pytest.raises(UncoveredError, match=r"came to pass|begins with thread 5"):
        play(once, Schedule.parse(text), CODE)


def test_code_that_nobody_runs_is_not_said_to_be_covered():
    once, _ = two("add")
    with pytest.raises(UncoveredError, match="nowhere to switch"):
        list(Schedules(once, ("/nowhere/",), switches=1))
    with pytest.raises(UncoveredError, match=r"nowhere to switch.*__file__"):
        list(Schedules(once, (os.path.basename(__file__),), switches=1))
    # Whoever cares about it afterwards has its places.
    assert set(values("add", 1)) == {1, 2}


def test_calls_of_the_disk_do_not_hide_that_nobody_runs_the_code():
    """They are places, too, so there was somewhere to switch, and nothing was found."""

    def once(turns):
        disk = under_turns(Disk({"x": b""}), turns)
        return [lambda: disk.open("x").pwritev([b"1"], 0) for _ in "12"]

    with pytest.raises(UncoveredError, match="nowhere to switch"):
        list(Schedules(once, ("/nowhere/",), switches=1))
    assert len(list(Schedules(once, (__file__,), switches=1))) > 2


@pytest.mark.parametrize(
    "given", [{"switches": -1}, {"share": -0.1}, {"share": 1.5}], ids=str
)
def test_what_would_try_less_than_was_asked_for_is_refused(given):
    once, _ = two("add")
    (name,) = given
    with pytest.raises(ValueError, match=name):
        Schedules(once, CODE, **given)


def test_a_thread_that_waits_without_a_lock_ends_the_run(monkeypatch):
    ended = []

    def spins():
        while not ended:
            pass

    monkeypatch.setattr(turns_module, "_MOST_SECONDS", 0.2)
    try:
        with pytest.raises(
            UncoveredError, match=r"thread 0 has been running .* in .*spins; if"
        ):
            play(lambda _: [spins, lambda: ended.append(1)], Schedule(), CODE)
    finally:
        ended.append(1)
