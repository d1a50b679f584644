"""Threads that a store begins take part in the schedule, and end with the run."""

import _thread
import contextlib
import os
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType

import pytest

from tornpage.disk import Disk
from tornpage.patch import patched
from tornpage.threads import DeadlockError, Schedule, Schedules, play, turns_taken
from tornpage.threads import turns as turns_module
from tornpage.uncovered import UncoveredError, UnsupportedCallError

CODE = (__file__,)

# Of the schedules of a search: three in ten, unless more is asked for.
SHARE = min(0.3 * int(os.environ.get("SHEARBOLT_SEEDS", "1")), 1.0)


def look(value):
    """A call, and with it a place."""
    return value


def every(bodies, switches=1, behind=None):
    """What the runs have shown: `bodies` gets a list, and makes what threads do."""
    seen = {}

    def once(turns):
        shown = []
        with turns_taken(turns):
            yield bodies(shown)
            if behind is not None:
                behind(shown)
        seen.setdefault(tuple(shown), str(turns.schedule))

    for played in Schedules(once, CODE, switches=switches):
        played.require_success()
    return seen


def begun(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def test_what_a_thread_begins_takes_part_and_is_waited_for():
    alive = set()

    def bodies(shown):
        def body():
            threads = begun(lambda: shown.append("a"), lambda: shown.append("b"))
            alive.add(threads[0].is_alive())
            for thread in threads:
                thread.join()
                assert not thread.is_alive()
            shown.append("end")

        return [body]

    # Nobody is made to stop: who goes on where the first one waits is free.
    assert set(every(bodies, 0)) == {("a", "b", "end"), ("b", "a", "end")}
    seen = every(bodies, 1)
    assert all(shown[-1] == "end" for shown in seen)
    assert alive == {True, False}


class Flushed:
    """Lines in memory; a thread of its own writes them out each second."""

    def __init__(self, *, careful, daemon=False):
        self.lines = []
        self.written = []
        self.careful = careful
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.flusher = threading.Thread(target=self.work, daemon=daemon)
        self.flusher.start()

    def append(self, line):
        with self.lock:
            self.lines.append(line)

    def work(self):
        while not self.stopped.wait(1.0):
            self.flush()
        self.flush()

    def flush(self):
        if self.careful:
            with self.lock:
                self.write()
        else:
            self.write()

    def write(self):
        lines = list(self.lines)
        self.written += look(lines)
        self.lines.clear()

    def close(self):
        self.stopped.set()
        self.flusher.join()


@pytest.mark.parametrize("where", ["prepared", "run"])
@pytest.mark.parametrize("careful", [True, False])
def test_a_gap_in_a_flusher_is_found(careful, where):
    """Also when the store was opened before the run."""
    lost = []

    def once(turns):
        with turns_taken(turns):
            stores = [Flushed(careful=careful)] if where == "prepared" else []

            def body():
                if not stores:
                    stores.append(Flushed(careful=careful))
                stores[0].append("one")
                time.sleep(1.5)
                stores[0].append("two")
                stores[0].close()

            yield [body]
        lost.append(stores[0].written != ["one", "two"])

    # Two: to the flusher when it has its second, and back when it has looked.
    before = threading.active_count()
    for played in Schedules(once, CODE, switches=2, share=SHARE):
        played.require_success()
    assert any(lost) is not careful
    assert len(lost) > 20
    assert threading.active_count() <= before


@pytest.mark.parametrize("daemon", [True, False])
def test_a_store_that_nobody_closes_does_not_go_on_for_ever(daemon):
    def bodies(shown):
        store = Flushed(careful=True, daemon=daemon)
        shown.append(store)
        return [lambda: store.append("one"), lambda: time.sleep(2.5)]

    def behind(shown):
        # It is as if it had ended; and what it waited in is free.
        shown[0].close()
        shown[:] = [len(shown[0].written)]

    before = threading.active_count()
    assert set(every(bodies, 0, behind)) == {(1,)}
    # The second who sleeps may be woken before the flusher is.
    assert set(every(bodies, 1, behind)) == {(0,), (1,)}
    assert threading.active_count() <= before


def test_what_ends_with_the_run_leaves_no_trace_on_the_disk():
    """A thread that waits when the others have ended is not there any more."""

    def once(turns):
        disk = Disk()
        with patched(disk, "/db") as root, turns_taken(turns):
            line = queue.Queue()

            def work():
                try:
                    line.get()
                    line.get()
                finally:
                    with open(f"{root}/late", "w") as file:
                        file.write("x")

            yield [lambda: begun(work), lambda: line.put(1)]
        assert not disk.trace.operations()

    for played in Schedules(once, CODE, switches=1, share=SHARE):
        played.require_success()


def test_the_threads_of_a_pool_take_part():
    def bodies(shown):
        def task(one):
            look(one)
            shown.append(one)

        def body():
            with ThreadPoolExecutor(2) as pool:
                both = [pool.submit(task, one) for one in "ab"]
                for future in both:
                    future.result()
            shown.append("end")

        return [body]

    assert set(every(bodies, 1)) == {("a", "b", "end"), ("b", "a", "end")}


def test_a_thread_that_has_ended_is_not_alive_however_long_its_end_takes(monkeypatch):
    """What Python still has to do in it is not the schedule's."""
    end, sleep = threading.Thread._delete, time.sleep

    def late(thread):
        sleep(0.05)
        end(thread)

    monkeypatch.setattr(threading.Thread, "_delete", late)

    def bodies(shown):
        def body():
            (thread,) = begun(lambda: None)
            time.sleep(1)
            shown.append(thread.is_alive())

        return [body]

    assert set(every(bodies, 0)) == {(False,)}


def test_a_timer_goes_off_when_time_goes_on():
    def bodies(shown):
        def body():
            timer = threading.Timer(5.0, lambda: shown.append(time.monotonic()))
            timer.start()
            timer.join()

        return [body]

    assert set(every(bodies, 1)) == {(5.0,)}


def test_waits_with_an_end_have_the_clock_of_the_schedule():
    """Some ask the clock for how long to go on; it is not that of the wall."""

    def bodies(shown):
        def body():
            with pytest.raises(queue.Empty):
                queue.Queue().get(timeout=500)
            assert not threading.Semaphore(0).acquire(timeout=500)
            condition = threading.Condition()
            with condition:
                assert not condition.wait_for(bool, timeout=500)
            shown.append(time.monotonic())

        return [body]

    began = time.monotonic()
    assert set(every(bodies, 0)) == {(1500.0,)}
    assert time.monotonic() - began < 60


def test_what_a_begun_thread_raises_is_not_lost():
    def fails():
        raise KeyError("in the background")

    def once(turns):
        with turns_taken(turns):
            yield [lambda: begun(fails)]

    played = play(once, Schedule(), CODE)
    assert isinstance(played.errors[1], KeyError)
    with pytest.raises(KeyError, match="in the background"):
        played.require_success()


def test_a_begun_thread_may_end_by_exiting():
    every(lambda _: [lambda: begun(exit)], 0)


def test_those_that_wait_for_each_other_are_stuck_though_a_flusher_sleeps():
    def once(turns):
        with turns_taken(turns):
            store = Flushed(careful=True)
            first, second = threading.Lock(), threading.Lock()

            def body(one, other):
                def take():
                    with one:
                        look(None)
                        with other:
                            store.append("x")

                return take

            yield [body(first, second), body(second, first)]

    stuck = [played for played in Schedules(once, CODE) if played.stuck]
    assert stuck
    assert isinstance(stuck[0].errors[0], DeadlockError)


def test_a_thread_begun_where_no_schedule_is_any_more_is_refused():
    def behind(_):
        begun(look)

    with pytest.raises(UnsupportedCallError, match="behind a run"):
        every(lambda _: [lambda: None], 0, behind)


def test_a_thread_that_is_waited_for_where_nobody_runs_is_said_to_be():
    said = "no other thread runs: .* have a thread of the run wait"
    with pytest.raises(DeadlockError, match=said):
        every(lambda _: [begun(look)[0].join()], 0)

    def waits_for_an_answer(_):
        answer = threading.Event()
        begun(answer.set)
        answer.wait()

    with pytest.raises(DeadlockError, match=f"the lock is held, and {said}"):
        every(waits_for_an_answer, 0)
    with pytest.raises(RuntimeError, match="only be started once"):
        every(lambda _: [begun(look)[0].start()], 0)
    # Neither of the two is left.
    assert not [one for one in threading.enumerate() if "(look)" in one.name]


def test_threads_that_cannot_be_followed_are_not_said_to_be_covered(monkeypatch):
    def raw(_):
        return [lambda: _thread.start_new_thread(look, (1,))]

    with pytest.raises(UnsupportedCallError, match="start_new_thread"):
        every(raw, 0)

    def swallows(_):
        def body():
            with contextlib.suppress(RuntimeError):
                _thread.start_new_thread(look, (1,))

        return [body]

    with pytest.raises(UnsupportedCallError, match="start_new_thread"):
        every(swallows, 0)

    monkeypatch.setattr(turns_module, "_MOST_SECONDS", 0.2)
    ours, theirs = os.pipe()

    def waits_in_c(_):
        return [lambda: begun(partial(os.read, ours, 1)), lambda: None]

    try:
        with pytest.raises(UncoveredError, match="not by a lock or a sleep"):
            every(waits_in_c, 0)
    finally:
        os.close(theirs)
        os.close(ours)


STORE = """
from queue import SimpleQueue
from threading import Lock, RLock
from time import monotonic, sleep


def nothing():
    pass


class Store:
    def __init__(self):
        self.locks = [Lock(), RLock()]
        self.line = SimpleQueue()
        self.value = 0

    def add(self):
        with self.locks[0], self.locks[1]:
            value = self.value
            nothing()
            self.value = value + 1
        self.line.put(monotonic())
        sleep(1000)

    def take(self):
        return [self.line.get() for _ in range(2)]
"""


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("when", ["before", "inside"])
def test_what_a_module_has_by_its_import_is_the_schedules_too(
    when, tmp_path, monkeypatch
):
    (tmp_path / "store_with_names.py").write_text(STORE)
    monkeypatch.syspath_prepend(tmp_path)
    if when == "before":
        import store_with_names

        real = dict(vars(store_with_names))
    stores = []

    def once(turns):
        with turns_taken(turns):
            import store_with_names

            store = store_with_names.Store()
            stores.append(store)
            yield [store.add, store.add, store.take]
        assert store.value == 2

    began = time.monotonic()
    code = (str(tmp_path),)
    # From 3.12 on its functions have to be there before its places can be asked for.
    play(once, Schedule(), code).require_success()
    for played in Schedules(once, code, switches=1):
        played.require_success()
    assert len(stores) > 20
    assert time.monotonic() - began < 60
    module = sys.modules.pop("store_with_names")
    if when == "before":
        assert vars(module) == real
    assert module.Lock is threading.Lock
    assert module.RLock is threading.RLock
    assert (module.sleep, module.monotonic) == (time.sleep, time.monotonic)
    assert module.SimpleQueue is queue.SimpleQueue


def test_what_somebody_else_has_put_in_the_place_of_a_name_stays(monkeypatch):
    module = ModuleType("store_of_a_test")
    module.sleep = time.sleep
    monkeypatch.setitem(sys.modules, module.__name__, module)
    seen = []

    def once(turns):
        with turns_taken(turns):
            seen.append(module.sleep)
            yield [lambda: time.sleep(1)]

    play(once, Schedule(), CODE).require_success()
    module.sleep = look
    play(once, Schedule(), CODE).require_success()
    assert seen[0] is not time.sleep
    assert seen[1] is module.sleep is look


def test_a_pool_that_ends_with_its_run_is_no_error_to_tell_of(caplog):
    def bodies(shown):
        pool = ThreadPoolExecutor(1)
        return [lambda: shown.append(pool.submit(look, "a").result())]

    assert every(bodies, switches=0) == {("a",): "0"}
    assert not caplog.records

    def raises():
        pool = ThreadPoolExecutor(1)
        pool._initializer = None
        pool._work_queue.put(1)
        pool.submit(look, "a")

    # What a pool does say is said.
    with contextlib.suppress(DeadlockError):
        every(lambda shown: [raises], switches=0)
    assert [one.message for one in caplog.records] == ["Exception in worker"]


def test_threads_and_pools_without_a_name_have_the_same_one_in_each_block():
    def names():
        found = []

        def once(turns):
            with patched(Disk()), turns_taken(turns):
                pool = ThreadPoolExecutor(1)

                def note():
                    found.append(threading.current_thread().name)

                def body():
                    note()
                    pool.submit(note).result()
                    begun(note)[0].join()

                yield [body]

        play(once, Schedule(), CODE).require_success()
        return found

    assert (
        names() == names() == ["thread 0", "ThreadPoolExecutor-0_0", "Thread-1 (note)"]
    )


def test_a_lock_of_a_run_has_the_names_that_a_real_one_has():
    made = {}

    def once(turns):
        with turns_taken(turns):
            made["Lock"], made["RLock"] = threading.Lock(), threading.RLock()
            yield [lambda: None]

    kept = [threading.Lock(), threading.RLock()]
    stand_ins = []
    play(once, Schedule(), CODE)
    holder = {"kept": kept}

    def held(turns):
        with turns_taken(turns):
            stand_ins.extend(holder["kept"])
            yield [lambda: None]

    play(held, Schedule(), CODE)
    # Older names of the same, which nobody uses.
    older = {"acquire_lock", "locked_lock", "release_lock"}
    for real, *ours in (
        (kept[0], made["Lock"], stand_ins[0]),
        (kept[1], made["RLock"], stand_ins[1]),
    ):
        for one in ours:
            assert one is not real
            assert not [name for name in {*dir(real)} - older if not hasattr(one, name)]
