"""The detector on the engine: silent about it, loud about pages used too early."""

import linecache
import sys
from collections import Counter

import pytest

from boltmodel.detector import BoltGuard, run_watched
from boltmodel.generate import generate
from boltmodel.interpret import run
from boltmodel.mutants import mutant
from shearbolt.pages import newpages
from tornpage.disk import Disk

SEEDS = range(40)


def reports(seeds=SEEDS):
    for seed in seeds:
        history, detector = run_watched(generate(seed), Disk())
        if detector.touched:
            yield history, detector.touched[0]


def test_the_engine_never_touches_what_is_needed():
    checked = 0
    for seed in SEEDS:
        history, detector = run_watched(generate(seed), Disk())
        assert not detector.touched, (seed, str(detector.touched[0]))
        assert not history.live
        checked += detector.checked
    assert checked > 300


@pytest.mark.parametrize(
    ("name", "file", "why"),
    [
        ("early-reuse", "newpages.py", "which is the newest durable"),
        ("readers-ignored", "newpages.py", "which is read"),
        ("no-meta-sync", "newpages.py", "which is the newest durable"),
        ("wrong-slot", "", "page 0 of transaction"),
    ],
)
def test_a_page_used_too_early_is_reported_without_any_crash(name, file, why):
    with mutant(name):
        found = next(reports())[1]
    assert found.site.startswith(file)
    assert why in found.why


def test_the_line_that_is_named_is_the_one_that_writes():
    with mutant("early-reuse"):
        found = next(reports())[1]
    number = int(found.site.partition(":")[2])
    assert "pager.write(" in linecache.getline(newpages.__file__, number)


def test_a_guard_that_forgets_readers_misses_them(monkeypatch):
    """What is read is protected by nothing but the readers' list."""
    with mutant("readers-ignored"):
        assert list(reports())
        monkeypatch.setattr(BoltGuard, "synced", forgets_versions(BoltGuard.synced))
        assert not list(reports())


def forgets_versions(original):
    def synced(self, path, disk):
        readers, self.readers = self.readers, tuple
        original(self, path, disk)
        self.readers = readers

    return synced


@pytest.mark.thorough
def test_it_does_not_dominate_the_run():
    """Measured: 60 us a write; 0.11 s become 0.18 s for 60 programs."""

    def calls(call):
        """How many functions were called: a busy machine changes nothing about it."""
        events = Counter()

        def count(_frame, event, _arg):
            events[event] += 1

        sys.setprofile(count)
        try:
            for seed in range(20):
                call(generate(seed), Disk())
        finally:
            sys.setprofile(None)
        return events["call"] + events["c_call"]

    assert calls(run_watched) < 3 * calls(run)
