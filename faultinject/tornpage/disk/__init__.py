"""The simulated disk: what storage code under test takes for the machine.

    simulated   Disk: the system calls, the clock, locks, the trace
    file        DiskFile, one open file
    folder      DiskFolder, one open directory
    life        from power on to power off: the page cache over the platter
    node        a file in one life
    names       names in one life
    decisions   what a life decides of a file by looking: its size, what atoms hold
    question    what a program wants to know of a file, rather than its bytes
    clock       time and threads
    witness     everything that one execution asks, call by call
    observer    a disk that tells observers what is about to be done to it

What the disk keeps when the power goes is the business of `tornpage.platter`.
"""

from tornpage.disk.file import DiskFile
from tornpage.disk.folder import DiskFolder
from tornpage.disk.observer import Change, ObservedDisk, Observer, observed
from tornpage.disk.simulated import Disk

__all__ = [
    "Change",
    "Disk",
    "DiskFile",
    "DiskFolder",
    "ObservedDisk",
    "Observer",
    "observed",
]
