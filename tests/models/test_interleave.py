"""Readers between any two I/O operations of the writer see what they may see."""

import os

import pytest

from boltmodel.corpus import CORPUS
from boltmodel.generate import generate
from boltmodel.lanes.interleave import run_interleaved
from boltmodel.mutants import mutant
from boltmodel.programs import Commit, Fill, Program, ReaderOpen, Value
from tornpage.disk import Disk

PROGRAMS = int(os.environ.get("SHEARBOLT_INTERLEAVE", "25"))

REWRITTEN = Program(
    tuple(
        op
        for number in range(4)
        for op in (
            Fill((b"a",), 0, 12, 1, Value(number, 120)),
            Commit(),
            ReaderOpen(number),
        )
    ),
    page_size=1024,
)


def _clean(program):
    history, readers = run_interleaved(program, Disk())
    assert not history.live
    assert not readers.violations, readers.violations[0]
    return readers


def test_no_reader_sees_a_commit_before_it_is_durable_or_loses_its_own_version():
    readers = _clean(REWRITTEN)
    # Four commits of at least four operations, looked at before and after each.
    assert readers.looks >= 32
    assert readers.reads > readers.looks


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_readers_are_undisturbed_in_generated_programs(seed):
    program = generate(1000 + seed)
    if not program.faults:
        _clean(program)


@pytest.mark.parametrize("number", range(0, len(CORPUS), 3))
def test_readers_are_undisturbed_in_the_corpus(number):
    if not CORPUS[number].faults:
        _clean(CORPUS[number])


@pytest.mark.parametrize("name", ["readers-ignored", "early-reuse"])
def test_pages_given_out_under_a_reader_are_seen(name):
    with mutant(name):
        history, readers = run_interleaved(REWRITTEN, Disk())
    assert readers.violations or history.live


def test_a_commit_shown_before_its_meta_is_synced_is_seen(monkeypatch):
    from shearbolt.database.durable import DurableFile

    store = DurableFile._write_meta

    def too_early(self, meta, sync):
        before, self.live = self.live, meta
        try:
            store(self, meta, sync)
        finally:
            self.live = before

    monkeypatch.setattr(DurableFile, "_write_meta", too_early)
    _, readers = run_interleaved(REWRITTEN, Disk())
    assert any("begins" in one.message for one in readers.violations)
