"""Makes `tests/data/containerd.db`: a small database that a real containerd wrote.

    python tests/interop/make_containerd_database.py [TARGET]

It starts Debian's containerd with its root, state and sockets in a temporary
folder and no container runtime, does through `ctr` what a small host does to
it, stops it with SIGTERM and copies its metadata store, a bbolt file:

    v1 / NAMESPACE / content    / blob / DIGEST / labels, size, times
                   / containers / NAME / labels, spec (2 KiB), runtime
                   / snapshots  / native / NAME / parent, labels
                   / leases     / NAME / labels
                   / labels

So the file is what etcd's is not: 73 buckets, six deep, half of them inline,
few pairs in each. Some are deleted again, which frees pages.

Two runs give different bytes (the store keeps times), the same names; a test
makes one and compares. What it is not: a container host. No process is started
in a container, nothing is mounted. containerd wants to be root all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = Path(__file__).parents[1] / "data" / "containerd.db"
LARGEST = 300 * 1024  # Bytes. More does not belong in a repository.
PATIENCE = 30.0  # Seconds, for a start, a stop or one call.
NAMESPACES = ("default", "k8s.io")
BLOBS = 8
CONTAINERS = 3
# What nothing refers to is collected as garbage, unless it says that it stays.
STAYS = "containerd.io/gc.root=2026-01-01"

CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{sockets}/grpc"
[ttrpc]
  address = "{sockets}/ttrpc"
[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "1h"
  mutation_threshold = 0
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A running containerd, asked through `ctr`; `address` is its socket."""

    address: str

    def call(self, *arguments: str, given: bytes = b"") -> str:
        """Run one `ctr` command; its standard output.

        Raises:
            RuntimeError: containerd refused, or is not there.
        """
        done = subprocess.run(
            ["ctr", "--address", self.address, *arguments],
            input=given,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ctr {arguments}: {done.stderr.decode()}")
        return done.stdout.decode()


def database(folder: Path) -> Path:
    """Where a containerd that lives in `folder` keeps its metadata store."""
    return folder / "root" / "io.containerd.metadata.v1.bolt" / "meta.db"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Client]:
    """containerd on this folder, which keeps what it stores; stopped at the end.

    Raises:
        RuntimeError: It did not answer in time.
    """
    # A socket's path has room for 107 bytes, less than some test folders need.
    with tempfile.TemporaryDirectory(prefix="ctrd-") as sockets:
        config, log = folder / "config.toml", folder / "log"
        config.write_text(CONFIG.format(folder=folder, sockets=sockets))
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["containerd", "--config", str(config)], stdout=output, stderr=output
            )
        try:
            client = Client(f"{sockets}/grpc")
            _await(client, process, log)
            yield client
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()


def _await(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if Path(client.address).exists():
            with contextlib.suppress(RuntimeError):
                client.call("namespaces", "list")
                return
        time.sleep(0.05)
    raise RuntimeError(
        "containerd gave no answer; it said:\n"
        + log.read_text("utf-8", "replace")[-2000:]
    )


def blob(namespace: str, i: int) -> tuple[bytes, str]:
    """The content of blob `i`, and its digest."""
    content = f"{namespace} layer {i}\n".encode() * (i + 1)
    return content, "sha256:" + hashlib.sha256(content).hexdigest()


def fill(client: Client, rootfs: Path) -> None:
    """Two namespaces: store, label, create, lease; delete some; store again."""
    for name in NAMESPACES:
        client.call("namespaces", "create", name, "owner=shearbolt")
        inside = ("--namespace", name)
        for i in range(BLOBS):
            content, digest = blob(name, i)
            client.call(
                *(*inside, "content", "ingest", "--expected-digest", digest),
                f"{name}-{i}",
                given=content,
            )
            client.call(*inside, "content", "label", digest, STAYS, f"layer={i}")
        for i in range(CONTAINERS):
            snapshot = ("snapshots", "--snapshotter", "native")
            client.call(*inside, *snapshot, "prepare", f"active-{i}")
            client.call(
                *inside, *snapshot, "label", f"active-{i}", STAYS, "text=" + "x" * 90
            )
            client.call(
                *(*inside, "containers", "create", "--rootfs"),
                *("--label", f"number={i}", str(rootfs), f"box-{i}", "/bin/true"),
            )
        for i in range(3):
            client.call(*inside, "leases", "create", "--id", f"lease-{i}", f"n={i}")
    # Only now: a deletion calls the collector, which would take a blob that
    # another namespace has stored and not yet labelled.
    for name in NAMESPACES:
        inside = ("--namespace", name)
        for i in range(0, CONTAINERS, 2):
            client.call(*inside, "containers", "delete", f"box-{i}")
        for i in range(0, BLOBS, 5):
            client.call(*inside, "content", "delete", blob(name, i)[1])
        client.call("namespaces", "label", name, "filled=yes")


def objects(client: Client) -> dict[str, list[list[str]]]:
    """Everything containerd says it has, but for how old it is."""
    found = {
        "namespaces": [
            [name, *sorted(labels.split(","))]
            for name, labels in _rows(client.call("namespaces", "list"))
        ]
    }
    for name in NAMESPACES:
        inside = ("--namespace", name)
        content = _rows(client.call(*inside, "content", "list"), sep="\t")
        # Digest, size, age, labels; empty cells of the layout say nothing.
        cells = [[cell.strip() for cell in row if cell.strip()] for row in content]
        # Labels come in the random order of a Go map.
        found[f"{name} content"] = [
            [row[0], row[1], *sorted(row[-1].split(","))] for row in cells
        ]
        found[f"{name} containers"] = _rows(client.call(*inside, "containers", "list"))
        found[f"{name} snapshots"] = _rows(
            client.call(*inside, "snapshots", "--snapshotter", "native", "list")
        )
        leases = _rows(client.call(*inside, "leases", "list"))
        found[f"{name} leases"] = [
            [row[0], *sorted(row[-1].split(","))] for row in leases
        ]
    return found


def _rows(table: str, sep: str | None = None) -> list[list[str]]:
    return sorted(line.split(sep) for line in table.splitlines()[1:])


def make(target: Path) -> None:
    """Write `target` and say what it is.

    Raises:
        RuntimeError: containerd failed, or the file became too large to keep.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A container's record names its root folder: always the same one.
        with running(folder) as client:
            fill(client, Path("/var/empty"))
        made = database(folder)
        if made.stat().st_size > LARGEST:
            raise RuntimeError(
                f"the file has {made.stat().st_size} bytes, more than {LARGEST}: "
                "lower BLOBS"
            )
        shutil.copyfile(made, target)
    data = target.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    sys.stdout.write(f"{target}: {len(data)} bytes, sha256 {digest}\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
