"""Threads under a schedule: what one switch shows, one switch shows, and nothing else.

The stores here are a few lines. What they do wrong is what threads do wrong: a gap
between looking and doing, two locks in two orders, a call before anybody listens.
"""

import contextlib
import gc
import queue
import sys
import threading
import time
from functools import partial

import pytest

from tornpage.disk import Disk
from tornpage.threads import (
    DeadlockError,
    Places,
    Schedule,
    Schedules,
    Switch,
    Turns,
    play,
    turns_taken,
    under_turns,
)
from tornpage.threads import turns as turns_module
from tornpage.uncovered import UncoveredError

CODE = (__file__,)


def look(value):
    """A call, and with it a place."""
    return value


class Counter:
    def __init__(self, lock=None):
        self.value = 0
        self.lock = lock

    def add(self):
        self.value = look(self.value) + 1

    def add_in_one_step(self):
        self.value += 1

    def add_alone(self):
        with self.lock:
            self.value = look(self.value) + 1


def two(way, made=lambda _: Counter()):
    """Two threads that do the same to one object, and what it is in the end."""
    last = []

    def once(turns):
        last[:] = [made(turns)]
        act = getattr(last[0], way)
        return [act, act]

    return once, last


def mutex(turns):
    return under_turns(Disk(), turns).mutex()


def values(way, switches, made=lambda _: Counter(), **options):
    once, last = two(way, made)
    found = {}
    for played in Schedules(once, CODE, switches=switches, **options):
        assert not any(played.errors)
        found.setdefault(last[0].value, []).append(str(played.schedule))
    return found


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


@pytest.mark.parametrize("switches", [1, 2, 3])
def test_a_lock_keeps_others_out(switches):
    found = values("add_alone", switches, lambda turns: Counter(mutex(turns)))
    assert set(found) == {2}


def test_a_lock_that_lets_two_in_is_seen(monkeypatch):
    kind = type(mutex(Turns(Schedule(), Places(CODE))))
    monkeypatch.setattr(kind, "acquire", lambda *_: True)
    monkeypatch.setattr(kind, "release", lambda _: None)
    found = values("add_alone", 1, lambda turns: Counter(mutex(turns)))
    assert set(found) == {1, 2}


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


class Gate:
    """One waits for another, and a third comes in between."""

    def __init__(self, turns):
        self.lock = mutex(turns)
        self.order = []

    def hold(self):
        with self.lock:
            self.order.append("hold")
        self.order.append("left")

    def pass_by(self):
        self.order.append("pass")


def test_who_goes_on_when_a_thread_waits_or_ends_is_tried_too():
    last = []

    def once(turns):
        last[:] = [Gate(turns)]
        gate = last[0]
        return [gate.hold, gate.hold, gate.pass_by]

    seen = {}
    for played in Schedules(once, CODE, switches=1):
        assert not played.stuck
        seen.setdefault(" ".join(last[0].order), str(played.schedule))
    # Thread 0 has the lock when 1 comes and waits for it; 2 goes on, and not 0.
    shown = seen["pass hold left hold left"]
    waited = {text for text in seen.values() if "~" in text and ":" in text}
    assert waited
    for text in (shown, *sorted(waited)):
        play(once, Schedule.parse(text), CODE)
        assert seen[" ".join(last[0].order)] == text


def test_a_thread_that_sleeps_again_and_again_is_not_woken_for_ever():
    """To end a wait before its time is a switch, and there are only so many."""
    slept = []

    def once(turns):
        disk = under_turns(Disk(), turns)
        slept.append(0)

        def doze():
            for _ in range(3):
                disk.sleep(1.0)
                slept[-1] += 1

        return [doze, doze]

    none = [str(played.schedule) for played in Schedules(once, CODE, switches=0)]
    assert none == ["0", "1"]
    one = [played.schedule for played in Schedules(once, CODE, switches=1)]
    ended = [one for one in one if any(switch.waits for switch in one.switches)]
    assert ended
    assert all(len(one.switches) == 1 for one in ended)
    assert set(slept) == {6}


def straight(count):
    def body():
        for _ in range(count):
            look(None)

    return body


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


class TwoLocks:
    def __init__(self, turns):
        self.a, self.b = mutex(turns), mutex(turns)
        self.ended = 0

    def forwards(self):
        with self.a:
            look(None)
            with self.b:
                self.ended += 1

    def backwards(self):
        with self.b:
            look(None)
            with self.a:
                self.ended += 1


def test_threads_that_wait_for_each_other_are_told_so_and_end():
    last = []

    def once(turns):
        last[:] = [TwoLocks(turns)]
        return [last[0].forwards, last[0].backwards]

    stuck = []
    for played in Schedules(once, CODE, switches=1):
        if played.stuck:
            stuck.append(played)
            assert any(isinstance(error, DeadlockError) for error in played.errors)
        else:
            assert last[0].ended == 2
    assert stuck
    assert threading.active_count() < 5
    assert play(once, stuck[0].schedule, CODE).stuck


class Box:
    """One thread waits for what another one brings."""

    def __init__(self, turns, *, looks):
        self.changed = under_turns(Disk(), turns).condition()
        self.full = False
        self.looks = looks
        self.got = None

    def bring(self):
        with self.changed:
            self.full = True
            self.changed.notify_all()

    def fetch(self):
        with self.changed:
            if self.looks:
                while not self.full:
                    self.changed.wait()
            else:
                self.changed.wait()
            self.got = self.full


@pytest.mark.parametrize("looks", [True, False])
def test_a_call_before_anybody_listens_is_lost(looks):
    last = []

    def once(turns):
        last[:] = [Box(turns, looks=looks)]
        return [last[0].fetch, last[0].bring]

    stuck = 0
    for played in Schedules(once, CODE, switches=1):
        stuck += played.stuck
        assert played.stuck or last[0].got
    assert bool(stuck) is not looks


class Waits:
    """Waits for so long, and says what it knows then."""

    def __init__(self, turns):
        self.disk = under_turns(Disk(), turns)
        self.changed = self.disk.condition()
        self.lock = self.disk.mutex()
        self.told = None

    def wait(self):
        with self.changed:
            self.told = self.changed.wait(5.0), self.disk.monotonic()

    def tell(self):
        look(None)
        with self.changed:
            self.changed.notify_all()

    def sleep(self):
        self.disk.sleep(2.0)
        self.told = self.disk.monotonic()

    def hold(self):
        with self.lock:
            self.disk.sleep(9.0)

    def want(self):
        got = self.lock.acquire(timeout=3.0)
        self.told = got, self.disk.monotonic()
        if got:
            self.lock.release()


def waited(*ways, switches=1):
    last = []

    def once(turns):
        last[:] = [Waits(turns)]
        return [getattr(last[0], way) for way in ways]

    return {
        str(played.schedule): last[0].told
        for played in Schedules(once, CODE, switches=switches)
        if not played.stuck
    }


def test_time_goes_on_when_nobody_can():
    assert waited("sleep", switches=0) == {"0": 2.0}
    assert waited("wait", switches=0) == {"0": (False, 5.0)}
    assert waited("hold", "want", switches=0) == {"0": (False, 3.0), "1": (True, 0.0)}


def test_a_schedule_may_end_a_wait_that_has_an_end():
    without = waited("wait", "tell", switches=0)
    assert without["0"] == (True, 0.0)
    assert (False, 5.0) in waited("wait", "tell").values()


class Plain:
    """Code that uses `threading` and `time`, and knows of no schedule."""

    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()
        self.again = threading.RLock()
        self.free = threading.Semaphore(1)
        self.begun = threading.Event()
        self.changed = threading.Condition()
        self.line = queue.Queue(maxsize=1)

    def with_a_lock(self):
        with self.lock:
            self.value = look(self.value) + 1

    def with_a_reentrant_lock(self):
        with self.again, self.again:
            look(None)
            with self.again:
                self.value = look(self.value) + 1

    def with_a_semaphore(self):
        with self.free:
            self.value = look(self.value) + 1

    def give(self):
        for number in (1, 2, 3):
            self.line.put(number)
        self.begun.set()

    def take(self):
        assert [self.line.get() for _ in range(3)] == [1, 2, 3]
        self.begun.wait()
        self.value = 2

    def wake(self):
        with self.changed:
            self.value = 2
            self.changed.notify_all()

    def wait_for_it(self):
        with self.changed:
            while not self.value:
                self.changed.wait()

    def sleep(self):
        time.sleep(30.0)

    def late(self):
        assert not self.begun.wait(0.02)
        self.value = 2


@pytest.mark.parametrize(
    "ways",
    [
        ("with_a_lock", "with_a_lock"),
        ("with_a_reentrant_lock", "with_a_reentrant_lock"),
        ("with_a_semaphore", "with_a_semaphore"),
        ("give", "take"),
        ("wake", "wait_for_it"),
        ("sleep", "late"),
    ],
)
def test_code_that_knows_of_no_schedule_has_its_locks(ways):
    before = threading.Lock, threading.RLock, time.sleep, threading.Thread.start
    values = []

    def once(turns):
        with turns_taken(turns):
            plain = Plain()
            yield [getattr(plain, way) for way in ways]
            values.append(plain.value)

    schedules = Schedules(once, CODE, switches=1)
    for played in schedules:
        played.require_success()
    assert set(values) == {2}
    assert len(values) == schedules.played > 4
    assert before == (
        threading.Lock,
        threading.RLock,
        time.sleep,
        threading.Thread.start,
    )


def test_without_the_locks_of_the_schedule_the_run_does_not_end(monkeypatch):
    """So that nobody takes for covered what was not."""
    monkeypatch.setattr(turns_module, "_MOST_SECONDS", 0.2)
    plain = Plain()

    def once(_):
        return [plain.with_a_lock, plain.with_a_lock]

    with pytest.raises(UncoveredError, match="and not by a lock or a sleep"):
        list(Schedules(once, CODE, switches=1))


class Noted:
    """Notes what is durable before it is, in the step before the call that does it."""

    def __init__(self, disk):
        self.disk = disk
        self.file = disk.open("/log", create=True)
        self.durable = False
        self.believed = []

    def sync(self):
        self.durable = True
        self.file.fdatasync()

    def believe(self):
        if self.durable:
            self.believed.append(len(self.disk.trace.operations()))


def test_others_run_while_a_call_to_the_system_waits():
    """There is no place of the interpreter's between the note and the sync."""
    when = set()

    def once(turns):
        noted = Noted(under_turns(Disk(), turns))
        yield [noted.sync, noted.believe]
        when.update(noted.believed)

    list(Schedules(once, CODE, switches=1))
    # One operation made the file: before the sync, and after it.
    assert when == {1, 2}


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
    # Whoever cares about it afterwards has its places.
    assert set(values("add", 1)) == {1, 2}


def test_places_are_found_when_the_collector_is_told_to_leave_all_alone():
    before = len(values("add", 1))
    gc.freeze()
    assert len(values("add", 1)) == before
    assert gc.get_freeze_count()


def test_code_that_is_equal_to_other_code_has_its_places_too():
    """As a module that is imported anew has it, under the same places."""
    source = "def body(look):\n    look(None)\n    look(None)\n"

    def once(_):
        # Made when the places are asked for already.
        spaces = [{}, {}]
        for space in spaces:
            exec(compile(source, "/made/body.py", "exec"), space)
        return [partial(space["body"], look) for space in spaces]

    seen = [str(played.schedule) for played in Schedules(once, ("/made/",))]
    per_thread = {text[0]: 0 for text in seen}
    for text in seen:
        per_thread[text[0]] += ":" in text
    assert per_thread["0"] == per_thread["1"] >= 3
    assert seen == [str(p.schedule) for p in Schedules(once, ("/made/",))]


def test_a_thread_that_waits_without_a_lock_ends_the_run(monkeypatch):
    ended = []

    def spins():
        while not ended:
            pass

    monkeypatch.setattr(turns_module, "_MOST_SECONDS", 0.2)
    try:
        with pytest.raises(
            UncoveredError, match=r"thread 0 waits at .* in .*spins, and not"
        ):
            play(lambda _: [spins, lambda: ended.append(1)], Schedule(), CODE)
    finally:
        ended.append(1)


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


def test_locks_are_usable_by_whoever_prepares_and_looks_afterwards():
    turns = Turns(Schedule(), Places(CODE))
    disk = under_turns(Disk(), turns)
    lock = disk.mutex()
    with lock:
        assert lock.locked()
        assert not lock.acquire(blocking=False)
        with pytest.raises(DeadlockError):
            lock.acquire()
    with pytest.raises(RuntimeError):
        lock.release()
    disk.sleep(3)
    assert disk.monotonic() == 3
    assert disk.pid() == Disk().pid()


def test_what_traced_a_thread_before_traces_it_again():
    """A debugger, or the coverage of the tests in which this is one."""
    seen = []

    def follow(frame, event, _):
        seen.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        two("add", lambda _: Counter())
        with Places(CODE) as places:
            places.follow()
            look(1)
        still = sys.gettrace()
    finally:
        sys.settrace(before)
    assert still is follow
    assert sys.gettrace() is before
    assert "two" in seen


def entering(manager):
    with manager:
        pass


def test_a_block_is_entered_in_one_step_unless_a_call_in_c_does_it():
    """From Python 3.14 on `with` calls, and it looks behind calls in C."""

    def places_of(manager):
        with Places(CODE) as places:
            passed = []
            places.call = lambda: passed.append(True)
            places.follow()
            entering(manager)
            places.leave()
            places.call = lambda: None
        return len(passed)

    # Its own beginning, and behind `__exit__`.
    for _ in range(2):
        assert places_of(contextlib.nullcontext()) == 2
        assert places_of(threading.Lock()) == 2 + (sys.version_info >= (3, 14))


def test_a_thread_that_is_nobodys_goes_on_when_places_are_left():
    """What it runs first just then has places that nobody looks at."""
    over, failed = threading.Event(), []
    new = compile("def f():\n g()\n g()\ndef g():\n pass", __file__, "exec")

    def work():
        try:
            while not over.is_set():
                names = {}
                exec(new.replace(), names)
                names["f"]()
        except BaseException as error:  # noqa: BLE001 - handed to the test.
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with Places(CODE):
            time.sleep(0.0005)
    over.set()
    for thread in threads:
        thread.join()
    assert failed == []
