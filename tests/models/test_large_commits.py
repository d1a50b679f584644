"""Commits of more leaves than memory keeps: compared, and every crash of them closed.

Such a commit leaves its leaves to the file (`shearbolt.pages.newpages`), so the next
one reads what it changes, and what the cache had under their numbers has to go. Drawn
programs are too small to come there.
"""

from collections import Counter

import pytest

from boltmodel.interpret import LiveFailure
from boltmodel.programs import (
    Commit,
    DeleteBucket,
    Fill,
    Program,
    Put,
    ReaderCheck,
    ReaderClose,
    ReaderOpen,
    Reopen,
    Scan,
    Thin,
    Value,
    fill_key,
)
from boltmodel.subject import ShearboltSubject
from shearbolt.pages import newpages
from shearbolt.pages.freelist import ArrayFreelist
from shearbolt.pages.pager import Pager
from tornpage.model import CrashModel
from tornpage.run import Experiment, Plan
from tornpage.run.programs import cover

# Two pairs a page of 1 KiB: more leaves than are kept, and an eighth of both.
PAIRS = 2_600
FEW, FEW_KEPT = PAIRS // 8, newpages._MOST_KEPT // 8
SUBJECT = ShearboltSubject()
B, C = (b"b",), (b"c",)


def program(pairs=FEW, **options):
    """Three loads of two buckets, each over pages that another has left free."""
    return Program(
        (
            Fill(B, 0, pairs, 1, Value(1, 300)),
            Commit(),
            ReaderOpen(1),
            DeleteBucket(B),
            Fill(C, 0, pairs, 1, Value(2, 300)),
            Commit(),
            ReaderCheck(1),
            ReaderClose(1),
            Put(C, fill_key(7), Value(3, 20)),
            Commit(),
            Fill(B, 1, pairs, 1, Value(4, 300)),
            Commit(),
            Scan(B, b"", None, reverse=False),
            Thin(C, b"", 2, pairs),
            Commit(),
            Fill(C, 0, pairs, 2, Value(5, 300)),
            Commit(),
            Scan(C, b"", None, reverse=True),
            Reopen(),
            Scan(B, b"", None, reverse=False),
        ),
        page_size=1024,
        **options,
    )


OPTIONS = [
    {"in_bulk": True},
    {"freelist_type": "hashmap"},
    {"in_bulk": True, "reads_ahead": True, "no_freelist_sync": True},
    {"small_cache": True},
]


@pytest.fixture
def few_kept(monkeypatch):
    """A commit is large with an eighth of the leaves."""
    monkeypatch.setattr(newpages, "_MOST_KEPT", FEW_KEPT)


@pytest.mark.thorough
def test_every_crash_of_a_large_commit_is_closed():
    closed(program(PAIRS, **OPTIONS[0]), 100)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_every_crash_of_one_that_is_large_for_a_small_engine_is_closed(
    options, few_kept
):
    closed(program(**options), 80)


def closed(large_program, points):
    plan = Plan("shearbolt", programs=1, model=CrashModel.parse("tear=byte"))
    large = []
    right = newpages.NewPages.into_cache

    def into_cache(self, pager):
        large.append(len(self.contents) > newpages._MOST_KEPT)
        right(self, pager)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newpages.NewPages, "into_cache", into_cache)
        found = cover(SUBJECT, plan, large_program, None, repeats=False)
    assert found.verdict == "consistent"
    assert found.coverage.crash_points > points
    assert sum(large) == 3


def keeps_what_was_there(patch):
    """The pages' numbers still stand for what they had before."""
    patch.setattr(Pager, "forget_all", lambda self, pgids: None)


def loses_the_last_of_many(patch):
    right = newpages.NewPages.write_out

    def write_out(self):
        if len(self.encoded) > newpages._MOST_KEPT:
            # A leaf that nobody reads back soon: it is not in the cache.
            self.encoded.pop(max(self.contents))
        right(self)

    patch.setattr(newpages.NewPages, "write_out", write_out)


def frees_all_of_many_but_one(patch):
    right = ArrayFreelist.free
    freed = Counter()

    def free(self, pgid, overflow):
        # Beginning anew with each transaction.
        freed["calls"] = freed["calls"] + 1 if self._freed else 1
        if freed["calls"] != newpages._MOST_KEPT:
            right(self, pgid, overflow)

    patch.setattr(ArrayFreelist, "free", free)


@pytest.mark.parametrize(
    "plant", [keeps_what_was_there, loses_the_last_of_many, frees_all_of_many_but_one]
)
def test_a_large_commit_is_noticed_that(plant, few_kept, monkeypatch):
    plant(monkeypatch)
    model = CrashModel.parse("tear=sector")
    try:
        experiment = Experiment(SUBJECT, program(in_bulk=True), model, cap=300)
    except LiveFailure:
        return
    assert next(experiment.sweep(), None) is not None
