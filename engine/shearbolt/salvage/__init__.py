"""Salvage: reading damaged databases, and making sound ones of them.

The engine believes a page or refuses it. That is right for a database in use and
of no help when the only copy is damaged. Here is the other attitude: read past
everything that is wrong, and say exactly what that was.

    with shearbolt.salvage.scan("broken.db") as report:
        for entry in report:          # FoundBucket, FoundPair, Damage
            ...
    result = shearbolt.salvage.repair("broken.db", "sound.db")
    for damage in result.damage:
        print(damage)

    records   what is said
    pages     one page that may be damaged
    metas     which version
    walk      one tree, past all damage
    scan      the whole file, orphans included
    repair    a new file with all of it

Nothing is ever repaired in place. On any input both functions end, in time and
output bounded by the file's size, with a result or a `shearbolt.BoltError`.

See docs/corrupt-files.md for what can be found again and what cannot.
"""

from __future__ import annotations

from shearbolt.salvage.records import (
    Damage,
    DamagedBucket,
    Entry,
    FoundBucket,
    FoundPair,
    MetaState,
    Repaired,
)
from shearbolt.salvage.repair import MAX_LISTED, repair
from shearbolt.salvage.scan import LOST_AND_FOUND, Report, scan

__all__ = [
    "LOST_AND_FOUND",
    "MAX_LISTED",
    "Damage",
    "DamagedBucket",
    "Entry",
    "FoundBucket",
    "FoundPair",
    "MetaState",
    "Repaired",
    "Report",
    "repair",
    "scan",
]
