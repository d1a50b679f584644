"""Threads under a schedule: which one runs, and where it is made to stop.

    places      where CPython lets another thread go on
    turns       threads that run one at a time
    locks       what they wait for
    earlier     locks that were there before: a module's own
    imported    names that modules have taken of what is replaced
    begun       those that the code under test begins
    schedule    who runs when, as text
    schedules   every schedule with so many switches

Who tests a store with threads runs the same functions under schedule after schedule:

    for played in Schedules(once, (folder,), switches=1):
        ...                              # played.schedule, played.errors

`once` gets the `Turns` of one run, makes a store whose locks are those of the run
(`under_turns`, `turns_taken`), and says what the threads do.
"""

from tornpage.threads.locks import turns_taken, under_turns
from tornpage.threads.places import Places
from tornpage.threads.schedule import Schedule, Switch
from tornpage.threads.schedules import Played, Schedules, play
from tornpage.threads.turns import DeadlockError, Turns

__all__ = [
    "DeadlockError",
    "Places",
    "Played",
    "Schedule",
    "Schedules",
    "Switch",
    "Turns",
    "play",
    "turns_taken",
    "under_turns",
]
