"""Threads of a few lines, and all that their schedules lead to."""

from tornpage.disk import Disk
from tornpage.threads import Schedules, under_turns

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

    def add_in_one_step_alone(self):
        with self.lock:
            self.value += 1


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


def straight(count):
    def body():
        for _ in range(count):
            look(None)

    return body
