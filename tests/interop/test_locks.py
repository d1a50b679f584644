"""A Go process and a Python process exclude each other from one file.

Both use flock(2) on the database file itself: exclusive to write, shared to
read. Were ours another kind of lock, both would write, and destroy the file.
"""

from __future__ import annotations

import fcntl

import pytest
from tests.interop.oracle import Oracle, OracleError

import shearbolt
from shearbolt.storage import _posix

SHORT = 0.2  # Seconds; bbolt tries every 0.05.


@pytest.fixture
def path(tmp_path) -> str:
    path = str(tmp_path / "shared.db")
    shearbolt.open(path).close()
    return path


def test_go_writer_keeps_python_out(oracle: Oracle, path: str) -> None:
    held = oracle.hold(path)
    try:
        for read_only in (False, True):
            with pytest.raises(shearbolt.LockTimeoutError):
                shearbolt.open(path, timeout=SHORT, read_only=read_only)
    finally:
        oracle.release(held)
    shearbolt.open(path, timeout=SHORT).close()


def test_go_reader_keeps_python_writer_out_and_lets_readers_in(
    oracle: Oracle, path: str
) -> None:
    held = oracle.hold(path, read_only=True)
    try:
        with pytest.raises(shearbolt.LockTimeoutError):
            shearbolt.open(path, timeout=SHORT)
        shearbolt.open(path, timeout=SHORT, read_only=True).close()
    finally:
        oracle.release(held)


def test_python_writer_keeps_go_out(oracle: Oracle, path: str) -> None:
    with shearbolt.open(path):
        for read_only in (False, True):
            with pytest.raises(OracleError, match="timeout"):
                oracle.hold(path, timeout_ms=200, read_only=read_only)
    oracle.release(oracle.hold(path, timeout_ms=200))


def test_python_reader_keeps_go_writer_out_and_lets_readers_in(
    oracle: Oracle, path: str
) -> None:
    with shearbolt.open(path, read_only=True):
        with pytest.raises(OracleError, match="timeout"):
            oracle.hold(path, timeout_ms=200)
        oracle.release(oracle.hold(path, timeout_ms=200, read_only=True))


def wrong_kind_of_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock with POSIX record locks, which flock does not see on Linux."""

    class WrongKind:
        LOCK_EX, LOCK_SH = fcntl.LOCK_EX, fcntl.LOCK_SH
        LOCK_NB, LOCK_UN = fcntl.LOCK_NB, fcntl.LOCK_UN
        flock = staticmethod(fcntl.lockf)

    monkeypatch.setattr(_posix, "fcntl", WrongKind)


def test_the_other_kind_of_lock_would_let_both_in(
    oracle: Oracle, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fault the tests above guard against.
    wrong_kind_of_lock(monkeypatch)
    held = oracle.hold(path)
    try:
        shearbolt.open(path, timeout=SHORT).close()
    finally:
        oracle.release(held)
