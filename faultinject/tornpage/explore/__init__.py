"""The crash explorer: every outcome of every crash of a run.

    explorer    closes crash points, one after the other
    memory      what recovery did after the answers that it got: run once, remembered
    turns       the tree that it is remembered in
    beginnings  crash points that several programs have in common
    schedule    names for crash points and for single crashes

Why it covers everything is argued in docs/crash-model.md.
"""

from tornpage.explore.explorer import Closure, CrashPoint, Explorer
from tornpage.explore.schedule import (
    ScheduleError,
    format_schedule,
    parse_schedule,
)

__all__ = [
    "Closure",
    "CrashPoint",
    "Explorer",
    "ScheduleError",
    "format_schedule",
    "parse_schedule",
]
