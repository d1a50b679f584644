"""Locks that were there before a run are the schedule's in it, wherever they are."""

import contextlib
import gc
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType

import pytest

from tornpage.threads import DeadlockError, Schedule, Schedules, play, turns_taken
from tornpage.threads import earlier as earlier_module
from tornpage.threads import turns as turns_module
from tornpage.uncovered import UncoveredError, UnsupportedCallError

CODE = (__file__, "<store>")

COUNTING = """
import collections, contextlib, dataclasses, functools, queue, threading

value = 0


def nothing():
    pass


def count():
    global value
    before = value
    nothing()
    value = before + 1


class Plain:
    def __init__(self, lock):
        self.lock = lock
"""

HELD = {
    "a module": """
_lock = threading.Lock()
def add():
    with _lock:
        count()
""",
    "a class": """
class Store:
    lock = threading.Lock()
def add():
    with Store().lock:
        count()
""",
    "a default argument": """
def add(lock=threading.Lock()):
    with lock:
        count()
""",
    "a default argument by name": """
def add(*, lock=threading.Lock()):
    with lock:
        count()
""",
    "a closure": """
def locked(function):
    lock = threading.Lock()
    def call():
        with lock:
            function()
    return call
add = locked(count)
""",
    "an object": """
_pool = [Plain(Plain(threading.Lock()))]
def add():
    with _pool[0].lock.lock:
        count()
""",
    "an object with slots": """
@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    lock: object
_store = Slotted(threading.Lock())
def add():
    with _store.lock:
        count()
""",
    "a list in a tuple": """
_locks = (1, [threading.Lock()])
def add():
    with _locks[1][0]:
        count()
""",
    "a tuple in a named tuple in a class": """
Pair = collections.namedtuple("Pair", "a b")
class Store:
    pair = Pair(1, (2, threading.Lock()))
def add():
    with Store.pair.b[1]:
        count()
""",
    "a deque": """
_locks = collections.deque([threading.Lock()])
def add():
    with _locks[0]:
        count()
""",
    "a set": """
_locks = {threading.Lock()}
def add():
    with next(iter(_locks)):
        count()
""",
    "a dictionary": """
_locks = collections.defaultdict(threading.Lock)
_locks["x"]
def add():
    with _locks["x"]:
        count()
""",
    "its own methods": """
_take, _give = (lambda lock: (lock.acquire, lock.release))(threading.Lock())
def add():
    _take()
    count()
    _give()
""",
    "a partial call": """
def under(lock, *, other):
    with lock:
        count()
_lock = threading.Lock()
add = functools.partial(under, _lock, other=_lock)
del _lock
""",
    "what a cache has kept": """
@functools.cache
def pool(name):
    return Plain(threading.Lock())
pool("x")
def add():
    with pool("x").lock:
        count()
""",
    "a cache": """
@functools.cache
def lock_for(name):
    return threading.Lock()
lock_for("x")
def add():
    with lock_for("x"):
        count()
""",
    "an object that looks like no object": """
class Proxy:
    def __getattribute__(self, name):
        raise RuntimeError("nobody may ask for anything")
_proxy = Proxy()
object.__getattribute__(_proxy, "__dict__")["lock"] = threading.Lock()
def add():
    with object.__getattribute__(_proxy, "__dict__")["lock"]:
        count()
""",
    "a reentrant lock": """
_lock = threading.RLock()
def add():
    with _lock, _lock:
        nothing()
        with _lock:
            count()
""",
    "a condition": """
_changed = threading.Condition()
def add():
    with _changed:
        count()
        _changed.notify_all()
""",
    "a condition with a lock": """
_changed = threading.Condition(threading.Lock())
def add():
    _changed.acquire()
    count()
    _changed.release()
""",
    "a semaphore": """
_free = threading.BoundedSemaphore(1)
def add():
    with _free:
        count()
""",
    "an event": """
_free, _lock = threading.Event(), threading.Lock()
_free.set()
def add():
    while True:
        _free.wait()
        with _lock:
            if _free.is_set():
                _free.clear()
                break
    count()
    _free.set()
""",
    "a queue": """
_line = queue.Queue()
_line.put(1)
def add():
    _line.get()
    count()
    _line.put(1)
""",
    "a queue in C": """
_line = queue.SimpleQueue()
_line.put(1)
def add():
    _line.get()
    count()
    _line.put(1)
""",
    "a cached property": """
class Store:
    @functools.cached_property
    def lock(self):
        return threading.Lock()
_store = Store()
_store.lock
def add():
    with _store.lock:
        count()
""",
}


@pytest.fixture
def store(monkeypatch):
    """Makes a module that took its locks at its import."""

    def made(text):
        module = ModuleType("store_of_a_test")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(COUNTING + text, "<store>", "exec"), vars(module))
        return module

    return made


def totals(module, switches=1):
    """What two threads that add one each have made, under every schedule."""
    seen = []

    def once(turns):
        module.value = 0
        with turns_taken(turns):
            yield [module.add, module.add]
        seen.append(module.value)

    for played in Schedules(once, CODE, switches=switches):
        played.require_success()
    return seen


def left():
    """What still stands in for something, after all runs."""
    gc.collect()
    kinds = earlier_module._Lock, earlier_module._Reentrant, earlier_module._Line
    return [one for one in gc.get_objects() if type(one) in kinds]


@pytest.mark.thorough(rows=10)
@pytest.mark.parametrize("where", HELD)
def test_a_lock_keeps_others_out_wherever_it_was_made_and_is_held(store, where):
    module = store(HELD[where])
    seen = totals(module)
    assert set(seen) == {2}
    # Both have waited for the other one: somebody else went on there.
    assert len(seen) > 10
    assert left() == []
    module.add()
    assert module.value == 3


# What is in the standard library happens at once, with a lock or without.
AT_ONCE = ("a queue", "a queue in C", "a semaphore", "an event")


@pytest.mark.thorough(rows=8)
@pytest.mark.parametrize("where", [one for one in HELD if one not in AT_ONCE])
def test_a_lock_that_lets_two_in_is_seen_wherever_it_is_held(store, where, monkeypatch):
    """So it is by this one that they wait."""

    def lost(self, *_):
        self._real.acquire(False)
        return True

    def released(self):
        with contextlib.suppress(RuntimeError):
            self._real.release()

    for kind in (earlier_module._Lock, earlier_module._Reentrant):
        for name in ("acquire", "__enter__"):
            monkeypatch.setattr(kind, name, lost)
        monkeypatch.setattr(kind, "release", released)
    monkeypatch.setattr(earlier_module._Reentrant, "_is_owned", lambda _: True)
    assert set(totals(store(HELD[where]))) == {1, 2}


def played(module, *names, schedule="0"):
    """One run of functions of the module."""

    def once(turns):
        with turns_taken(turns):
            yield [getattr(module, name) for name in names]

    return play(once, Schedule.parse(schedule), CODE)


TWO = """
a, b, order = threading.Lock(), threading.Lock(), []

def wait():
    a.acquire()
    order.append("waited")

def wake():
    order.append("woken")
    a.release()

def forwards():
    with a:
        nothing()
        with b:
            pass

def backwards():
    with b:
        nothing()
        with a:
            pass

def late():
    order.append(a.acquire(timeout=3600))

def once():
    order.append(a.acquire(blocking=False))
"""


def test_a_lock_that_is_held_when_a_run_begins_is_held_in_it(store):
    module = store(TWO)
    module.a.acquire()
    for _ in range(2):
        played(module, "wait", "wake").require_success()
        assert module.order == ["woken", "waited"]
        module.order.clear()
    played(module, "late", "once").require_success()
    assert module.order == [False, False]
    assert module.a.locked()


def test_threads_that_wait_for_each_other_by_earlier_locks_are_stuck(store):
    module = store(TWO)

    def once(turns):
        with turns_taken(turns):
            yield [module.forwards, module.backwards]

    stuck = [one for one in Schedules(once, CODE) if one.stuck]
    assert stuck
    for one in stuck:
        assert any(isinstance(error, DeadlockError) for error in one.errors)
    assert not module.a.locked()
    assert not module.b.locked()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_lock_that_somebody_else_has_and_keeps_is_no_deadlock(
    store, kind, monkeypatch
):
    monkeypatch.setattr(earlier_module, "_MOST_SECONDS", 0.1)
    module = store(
        TWO.replace("a, b, order = threading.Lock", f"a, b, order = threading.{kind}")
    )
    with module.a, pytest.raises(UnsupportedCallError, match="is held by a thread"):
        played(module, "forwards", "once")


LASTING = """
_pool = None

def pool():
    global _pool
    if _pool is None:
        _pool = Plain(threading.Lock())
    return _pool

def add():
    with pool().lock:
        count()
"""


def test_a_lock_that_one_run_makes_and_keeps_is_the_next_ones(store):
    module = store(LASTING)
    played(module, "add").require_success()
    for _ in range(2):
        assert set(totals(module)) == {2}


POOL = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)

def ask():
    try:
        pool.submit(nothing).result()
    except RuntimeError:
        pass

def make_and_ask():
    global pool
    pool = ThreadPoolExecutor(2)
    ask()
"""


def test_a_pool_that_was_there_before_is_refused_though_the_store_goes_on(store):
    module = store(POOL)
    with pytest.raises(UnsupportedCallError, match="ThreadPoolExecutor"):
        played(module, "ask")
    # One of an earlier run counts on threads that are gone.
    played(module, "make_and_ask").require_success()
    with pytest.raises(UnsupportedCallError, match="ThreadPoolExecutor"):
        played(module, "ask")
    module.pool = ThreadPoolExecutor(1)
    module.ask()
    module.pool.shutdown()


BESIDE = """
changed, wanted, done = threading.Condition(), 0, 0
ending = False

def waits():
    global done
    with changed:
        while not ending:
            changed.wait_for(lambda: ending or wanted > done)
            done = wanted
            changed.notify_all()

def looks():
    global done
    real_sleep = sleep
    while not ending:
        real_sleep(0.001)
        with changed:
            done = wanted
            changed.notify_all()

def ask():
    global wanted
    with changed:
        wanted += 1
        mine = wanted
        changed.wait_for(lambda: done >= mine)
"""


@pytest.mark.parametrize("way", ["waits", "looks"])
def test_a_thread_that_was_begun_before_and_has_to_do_with_the_run_is_refused(
    store, way
):
    """It is on no schedule, and nobody says that the others are stuck."""
    module = store(BESIDE)
    module.sleep = time.sleep
    thread = threading.Thread(target=getattr(module, way), name="beside")
    thread.start()
    while way == "waits" and not module.changed._waiters:
        time.sleep(0.001)
    try:
        with pytest.raises(UnsupportedCallError, match="not the schedule's"):
            played(module, "ask")
    finally:
        with module.changed:
            module.ending = True
            module.changed.notify_all()
        thread.join()


KEPT_IN_C = """
@functools.lru_cache(3)
def lock_for(name):
    return threading.Lock()
lock_for("x")

def add():
    with lock_for("x"):
        count()
"""


def test_what_cannot_be_reached_is_named_with_the_line_that_waits(store, monkeypatch):
    monkeypatch.setattr(turns_module, "_MOST_IDLE_SECONDS", 0.2)
    monkeypatch.setattr(turns_module, "_LOOK_SECONDS", 0.05)
    module = store(KEPT_IN_C)
    with pytest.raises(UncoveredError) as raised:
        totals(module)
    said = str(raised.value)
    assert "waits at <store>:" in said
    assert "in add, and not by a lock" in said
    assert "the cache of store_of_a_test.lock_for" in said
    # What has it gives it back, and the one that waits goes on and ends.
    with module.lock_for("x"):
        pass


def test_a_slow_call_to_the_machine_is_no_wait_for_ever(monkeypatch):
    """As long as others do something, or itself."""
    monkeypatch.setattr(turns_module, "_MOST_IDLE_SECONDS", 0.3)
    monkeypatch.setattr(turns_module, "_LOOK_SECONDS", 0.05)
    sleep, clock = time.sleep, time.monotonic

    def computes():
        until = clock() + 0.6
        while clock() < until:
            pass

    play(lambda _: [partial(sleep, 0.2), computes], Schedule(), ("/x",))


def test_places_that_are_not_entered_any_more_keep_nothing_alive(store):
    module = store(HELD["an object"])
    gone = weakref.ref(module._pool[0].lock)
    totals(module)
    module._pool.clear()
    gc.collect()
    assert gone() is None


def test_a_machine_that_stands_still_for_a_while_stops_no_thread(monkeypatch):
    """The clock goes on without it, and no processor is used."""
    sleep, clock, stood = time.sleep, time.monotonic, []
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600 * len(stood))
    monkeypatch.setattr(turns_module, "_LOOK_SECONDS", 0.05)

    def works():
        for _ in range(4):
            sleep(0.1)
            stood.append(1)

    play(lambda _: [works, works], Schedule(), ("/x",)).require_success()
