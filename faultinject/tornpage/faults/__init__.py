"""Faults that need no crash: calls that fail, disks that lie about data.

    script      fault scripts, one line of text: `pwrite#2=EIO`
    faulty      a disk under a script
    corruption  data that goes bad without a word, and what a store makes of it

What the power takes is the business of `tornpage.platter`.
"""

from tornpage.faults.corruption import Span, Survey, flip, rot
from tornpage.faults.faulty import (
    FaultyDisk,
    FaultyFile,
    Injected,
    KilledError,
    under_script,
)
from tornpage.faults.script import Fault, Letters, Script, ScriptError

__all__ = [
    "Fault",
    "FaultyDisk",
    "FaultyFile",
    "Injected",
    "KilledError",
    "Letters",
    "Script",
    "ScriptError",
    "Span",
    "Survey",
    "flip",
    "rot",
    "under_script",
]
