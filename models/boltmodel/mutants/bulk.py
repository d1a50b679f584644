"""Planted bugs in what is done with many pairs at once.

update        pairs looked over together, and put in one step
delete_many   keys gathered, carried out when somebody looks, or at commit
read ahead    more of the file than was asked for, until it is written to
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltmodel.mutants.plant import Gallery
from shearbolt.pages.window import Window
from shearbolt.tree.bucket import Bucket
from shearbolt.tree.deletions import AtCommit
from shearbolt.tree.leafpairs import LeafPairs

if TYPE_CHECKING:
    from boltmodel.mutants.plant import Call, Planter

__all__ = ["MUTANTS"]

_bugs = Gallery()


@_bugs.add(
    "records-beside-buckets",
    "An empty leaf that takes records still has the buckets it had.",
    origin="this engine (2026), found by seed 3201 of these programs",
    breaks="MS",
    needs="run",
)
def _records_beside_buckets(planter: Planter) -> None:
    def put_all(original: Call, self: LeafPairs, *given: Any) -> object:
        had = self._buckets
        done = original(self, *given)
        self._buckets = had
        return done

    planter.instead(LeafPairs, "put_all", put_all)


@_bugs.add(
    "first-pair-wins",
    "Of two pairs of one key that are given together the first one stays.",
    origin="generic: order",
    breaks="MRE",
    needs="run",
)
def _first_pair_wins(planter: Planter) -> None:
    def update(original: Call, self: Bucket, pairs: Any = ()) -> None:
        original(self, dict(reversed(list(pairs))))

    planter.instead(Bucket, "update", update)


@_bugs.add(
    "gathered-lost",
    "Deletes that wait for the commit are forgotten by it.",
    origin="generic: buffered writes not flushed",
    breaks="M",
    needs="run",
)
def _gathered_lost(planter: Planter) -> None:
    def run(_original: Call, _self: AtCommit) -> None:
        pass

    planter.instead(AtCommit, "run", run)


@_bugs.add(
    "read-ahead-stale",
    "What was read ahead is used after the file has been written to.",
    origin="generic: stale read-ahead",
    breaks="MS",
    needs="run",
)
def _read_ahead_stale(planter: Planter) -> None:
    def written(_original: Call, _self: Window) -> None:
        pass

    planter.instead(Window, "written", written)


MUTANTS = tuple(_bugs)
