"""An interrupt (Ctrl-C) never leaves a mutex taken that `with` gives back.

Real signals, hundreds of them, while a thread does nothing but take and give back.
"""

import contextlib
import signal
import threading
import time

import pytest

from shearbolt.storage import OSStorage
from shearbolt.storage._mutex import Uncut

INTERRUPTS = 300


class InterruptError(Exception):
    """Raised by the handler of the signal."""


class Cut:
    """A mutex that is taken by a call, behind which CPython looks for signals."""

    def __init__(self):
        self._lock = threading.Lock()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


def left_taken(mutex):
    """After how many interrupts nobody gave it back."""
    armed = False

    def interrupt(_signum, _frame):
        nonlocal armed
        if armed:
            armed = False
            raise InterruptError

    def take_and_give_back():
        while True:
            with mutex:
                pass

    taken = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for _ in range(INTERRUPTS):
            with contextlib.suppress(InterruptError):
                armed = True
                take_and_give_back()
            taken += not mutex.acquire(False)
            mutex.release()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return taken


# The one of this version of Python, and that of 3.14, which is one with any.
KINDS = pytest.mark.parametrize("kind", [OSStorage().mutex, Uncut])


ALARM = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="what interrupts is an alarm"
)


@ALARM
@KINDS
def test_an_interrupt_never_leaves_it_taken(kind):
    assert left_taken(kind()) == 0


@ALARM
def test_one_that_is_taken_by_a_call_would_be_left_taken():
    assert left_taken(Cut()) > 0


@KINDS
def test_it_is_had_by_one_at_a_time(kind):
    mutex, inside, most = kind(), 0, 0

    def work():
        nonlocal inside, most
        for _ in range(50):
            with mutex:
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


@KINDS
def test_who_does_not_get_it_is_told(kind):
    mutex = kind()
    with mutex as taken:
        assert taken
        assert not mutex.acquire(False)
        assert not mutex.acquire(timeout=0.01)
    assert mutex.acquire(timeout=0.01)
    mutex.release()
    with pytest.raises(RuntimeError):
        mutex.release()


def test_no_memory_for_one_is_a_memory_error(monkeypatch):
    def without_memory():
        # What CPython raises when the allocation fails.
        raise RuntimeError("can't allocate lock")

    monkeypatch.setattr(threading, "Lock", without_memory)
    with pytest.raises(MemoryError, match="can't allocate lock"):
        OSStorage().mutex()
