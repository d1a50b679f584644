"""Threads that wait: locks keep others out, calls are lost, time ends what it may.

What the stores here do wrong is what threads do wrong: two locks in two orders, a call
before anybody listens.
"""

import queue
import threading
import time

import pytest
from switching import CODE as SHARED
from switching import Counter, look, mutex, values

from tornpage.disk import Disk
from tornpage.threads import (
    DeadlockError,
    Places,
    Schedule,
    Schedules,
    Turns,
    play,
    turns_taken,
    under_turns,
)

CODE = (*SHARED, __file__)


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
