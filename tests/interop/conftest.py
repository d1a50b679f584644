"""Builds the oracle once per run and hands it to the interop tests.

Every test below this folder is marked `interop`. Where Go or Debian's bbolt
package is missing these tests are skipped, with the command that installs both
as the reason: they say nothing about the project then. SHEARBOLT_INTEROP=required
makes them fail instead; the gate sets it where it could install them.

Under pytest-xdist several workers want the program at once. They share the
folder above their own base folders; the first to take the lock there builds,
the others find the result. The lock is flock(2), so a worker that dies while
it builds leaves no stale lock behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from tests.interop.oracle import BBOLT, GOPATH, Oracle

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
INSTALL = (
    "apt-get install golang-go golang-github-coreos-bbolt-dev etcd-server etcd-client "
    "containerd"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything below this folder."""
    below = f"{HERE}{os.sep}"
    for item in items:
        if str(item.path).startswith(below):
            item.add_marker(pytest.mark.interop)


def missing(reason: str) -> NoReturn:
    """Skip, or fail where the interop tests are required."""
    if os.environ.get("SHEARBOLT_INTEROP") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def etcd() -> str:
    """Where the etcd server program is."""
    return shutil.which("etcd") or missing(f"etcd is not installed: {INSTALL}")


@pytest.fixture(scope="session")
def oracle_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled oracle."""
    if shutil.which("go") is None or not BBOLT.is_dir():
        missing(f"real bbolt is not installed: {INSTALL}")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    program = shared / "bbolt-oracle"
    with open(shared / "bbolt-oracle.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            build(program)
    return str(program)


def build(program: Path) -> None:
    """Compile the oracle against Debian's bbolt (GOPATH mode, no network)."""
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": GOPATH,
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    if "HOME" not in os.environ and "GOCACHE" not in os.environ:
        environment["GOCACHE"] = str(program.parent / "go-cache")
    # Built under another name first: a program that exists is a whole program.
    unfinished = program.with_suffix(".unfinished")
    subprocess.run(
        ["go", "build", "-o", str(unfinished), str(HERE / "oracle" / "main.go")],
        env=environment,
        check=True,
        timeout=200,
    )
    unfinished.rename(program)


@pytest.fixture(scope="session")
def oracle(oracle_program: str) -> Iterator[Oracle]:
    """Real bbolt, ready to be asked."""
    with Oracle(oracle_program) as running:
        yield running
