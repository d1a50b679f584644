"""Where threads can be switched: every place of the code, however it came to be there.

And nothing else is disturbed: tracers, the collector, threads that are nobody's.
"""

import contextlib
import gc
import sys
import threading
import time
from functools import partial

from switching import CODE as SHARED
from switching import Counter, look, two, values

from tornpage.threads import (
    Places,
    Schedules,
)

CODE = (*SHARED, __file__)


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
