"""Bugs that one kernel shows, and a disk that is told to do as it does.

They are not among those that the gate hunts: its disks do not. What finds them is
`boltmodel.lanes.double_fault` under `fail=unwritten`, and on a real kernel `python -m
ci.real store-failing`; docs/crash-model.md says what that was seen to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltmodel.mutants.plant import Gallery
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from boltmodel.mutants.plant import Planter

__all__ = ["ON_KERNELS"]

_bugs = Gallery()


@_bugs.add(
    "pages-not-forgotten",
    "What a sync has failed for is written again over what the system keeps of it.",
    origin="this engine (2026), found on ext4 of Linux 6.18",
    breaks="PAS",
    needs="errors, crash",
)
def _pages_not_forgotten(planter: Planter) -> None:
    planter.instead(RobustFile, "forget", lambda *_: None)


ON_KERNELS = tuple(_bugs)
"""The bugs of this module, in their order."""
