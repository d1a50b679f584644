"""Makes the gate and the toy subjects importable by name; gates without processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for place in (ROOT / "ci", ROOT / "tests" / "tornpage"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from gating import units  # noqa: E402


@pytest.fixture
def here(monkeypatch):
    """Units are done in this process: starting one takes as long as most tests."""

    class Crew:
        late = False
        broken = ""

        def __init__(self, size, deadline, clock=time.monotonic, stages=()):
            self._late = lambda: clock() >= deadline

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def results(self, given, more=None):
            for unit in given:
                late = units.Lost("the time was up before it was begun")
                yield unit, late if self._late() else units.do(unit)
            while not self._late() and (unit := next(more or iter(()), None)):
                yield unit, units.do(unit)

    monkeypatch.setattr("gating.lanes.Crew", Crew)
