"""What of the past is still possible: where a crash was, and which syncs have lied.

Theory
======
Answers that a life gets are not all independent of each other. Two kinds of facts
about earlier lives tie them together:

    cuts    under `order=ordered` one crash position explains everything that is on
            the platter, under `order=append` one position for each file. So an
            answer leaves a stretch of positions:

                |---------[first ...... last]--------|   positions of a life
                          every answer cuts at its ends

    lied    an answer may need some syncs to have lied. Together they may be no more
            than the model allows, over all lives of the disk.

An answer that does not fit what is left is not offered.

What it is not: it does not say what a platter may hold (`cell`, `file_image`, `names`),
and asks nobody (`life`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornpage.platter.cell import ALWAYS, NEVER, NO_NEED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornpage.platter.cell import Need
    from tornpage.platter.pieces import CutKey

__all__ = ["Bounds"]


class Bounds:
    """Crash positions and lies that are still possible.

    Args:
        cuts: First and last crash position by life (and file, under `order=append`),
            as far as somebody found out.
        lied: Syncs that turned out to have lied.
        lies: How many may have.

    Attributes:
        cuts: As given, narrowed since.
        lied: As given, with those since.
    """

    __slots__ = ("_lies", "cuts", "lied")

    def __init__(
        self, cuts: Mapping[CutKey, tuple[int, int]], lied: Need, lies: int
    ) -> None:
        self.cuts = dict(cuts)
        self.lied = lied
        self._lies = lies

    def cut(self, key: CutKey) -> tuple[int, int]:
        """First and last crash position still possible."""
        return self.cuts.get(key, (ALWAYS, NEVER))

    def believable(self, need: Need) -> bool:
        """Whether so many syncs may have lied."""
        return not need or len(self.lied | need) <= self._lies

    def narrow(self, key: CutKey, first: int, last: int, need: Need = NO_NEED) -> None:
        """An answer was given that holds from `first` to `last` and for these lies."""
        low, high = self.cut(key)
        self.cuts[key] = (max(low, first), min(high, last))
        self.lied |= need

    def lie(self, need: Need) -> None:
        """An answer was given for which these syncs have lied."""
        self.lied |= need
