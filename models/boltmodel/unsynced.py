"""Which commits wait for a sync, and what a crash may leave meanwhile: anything.

Theory
======
A commit made with `no_sync` writes its pages and its meta, and syncs neither. A device
that writes in any order may then hold the meta without the pages. Nor is the version
before it safe: a page that was used by an older one is free, and two commits on the
meta of that version is written over. So from the call of such a commit on nothing is
promised of the content, and nothing of the content before it:

    begin (no_sync) ---- nothing is promised ---- `DB.sync` returns, or a commit that
                                                  syncs: all that was committed is
                                                  promised again

A checker that is content does not help: a leaf of three sectors, the middle one old,
has keys in order and pairs that no transaction had. What is left are promises that do
not rest on pages: the file is there, no transaction is newer than the last that was
begun, and every call returns, or raises a `BoltError` (`contract.remains`).

When a sync fails
=================
What waited for it may be gone, and the next sync reports success. The process that made
such commits knows that, whichever of its handles made them, and whichever one syncs; it
has to refuse every write, so that it acknowledges nothing more. If it does acknowledge
something, it is taken at its word.

Another process cannot know: neither one that takes over after that failure, nor one
that takes over while commits of the dead one wait, when the first sync it makes
fails. What it acknowledges rests on pages that may be gone. There nothing is promised
to the end of the program.

    process    commits wait    a sync fails    it is killed
    own        own             must refuse     what is left waits, or is lost
    another's  strangers'      lost for good

What it is not: it judges nothing (`contract`), and knows marks only.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tornpage.faults import Fault, Script

if TYPE_CHECKING:
    from tornpage.trace import Mark

__all__ = ["Waiting", "is_relaxed"]

_SYNCS: Final = frozenset({"fdatasync", "fsync"})
# What else a sync may raise has not been tried, see `tornpage.faults`.
_WRITING_BACK: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})


def is_relaxed(mark: Mark) -> bool:
    """Whether it is the mark of a commit that syncs nothing."""
    return ("no_sync", True) in mark.data


@dataclass(slots=True)
class Waiting:
    """What is known of it at one point of a run; `note` takes it on.

    Attributes:
        for_sync: Commits wait for a sync: nothing is promised of the content.
        own: The process that runs has made some of them.
        failed: A sync has failed meanwhile, and this process knows it.
        lost: One has failed and nobody knows it: nothing is promised any more.
    """

    for_sync: bool = False
    own: bool = False
    failed: bool = False
    lost: bool = False

    def note(self, mark: Mark) -> None:
        """Take a mark into account, in the order in which they were made."""
        match mark.label:
            case "begin" if is_relaxed(mark):
                self.for_sync = self.own = True
            case "fault" if self.for_sync and _fails_a_sync(mark):
                self.failed = self.failed or self.own
                self.lost = self.lost or not self.own
            case "killed":
                self.lost = self.lost or self.failed
                self.own = self.failed = False
            case "acked" | "synced" if not is_relaxed(mark) and not self.lost:
                self.for_sync = self.own = self.failed = False
            case _:
                return


def _fails_a_sync(mark: Mark) -> bool:
    """Whether it says that what a sync should have written may be gone."""
    text = str(mark["script"])
    # One of letters, or of an earlier fault, is a failure of writing back.
    faults = Script.parse(text).faults if "#" in text else ()
    return mark["met"] in _SYNCS and all(
        isinstance(one, Fault) and one.error in _WRITING_BACK for one in faults
    )
