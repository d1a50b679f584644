"""A database for each test, checked when the test is over."""

import os
import sys

import pytest

import shearbolt

HERE = os.path.dirname(os.path.abspath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)

# About fork, flock, signals that interrupt a call, limits of a process.
_OF_POSIX = [
    *("test_corrupt_files.py", "test_forks.py"),
    *("test_fuzz_parser.py", "test_storage_posix.py", "test_timeouts.py"),
]
collect_ignore = _OF_POSIX if sys.platform == "win32" else []


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "test.db")


@pytest.fixture
def db(path):
    """An open database; whatever the test did, the file must be sound after."""
    with shearbolt.open(path, page_size=4096, no_sync=True) as handle:
        yield handle
    with shearbolt.open(path, read_only=True, timeout=5) as again, again.view() as tx:
        assert tx.check() == []


@pytest.fixture
def bucket(db):
    """A bucket of a write transaction that commits when the test is over."""
    with db.update() as tx:
        yield tx.create_bucket(b"b")
