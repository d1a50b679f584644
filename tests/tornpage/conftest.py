"""Makes the toy subjects beside these tests importable by name."""

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, and no sign of a CI."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


@pytest.fixture
def processes(monkeypatch):
    """The processes there were: there is no other at the end, nothing remembered."""
    import remembering

    from tornpage.run import experiment

    # Programs of other tests: what they left is forgotten below.
    monkeypatch.setattr(experiment, "_run_here", False)
    # A test of something else may have left multiprocessing's tracker, say.
    present = remembering.children()
    yield present
    remembering.forget()
    remembering.Plain.kept.clear()
    assert remembering.children() <= present
