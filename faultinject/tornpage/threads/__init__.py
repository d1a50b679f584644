"""Threads under a schedule: which one runs, and where it is made to stop.

    places      where CPython lets another thread go on
    turns       threads that run one at a time, and the locks they wait for
    schedules   every schedule with so many switches

Who tests a store with threads runs the same bodies under schedule after schedule:

    for played in Schedules(once, (folder,), switches=1):
        ...                              # played.schedule, played.errors

`once` gets the `Turns` of one run, makes a disk with it (`under_turns`), a store on
this disk, and says what the threads do.
"""

from tornpage.threads.places import Places
from tornpage.threads.schedules import Played, Schedule, Schedules, Switch, play
from tornpage.threads.turns import DeadlockError, Turns, under_turns

__all__ = [
    "DeadlockError",
    "Places",
    "Played",
    "Schedule",
    "Schedules",
    "Switch",
    "Turns",
    "play",
    "under_turns",
]
