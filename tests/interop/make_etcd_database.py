"""Makes `tests/data/etcd.db`: a small database that a real etcd wrote.

    python tests/interop/make_etcd_database.py [TARGET]

It starts Debian's etcd on two free loopback ports with an empty data folder,
does through etcd's HTTP gateway what a small cluster does to it, stops it with
SIGTERM and copies `member/snap/db`, which is a bbolt file:

    300 objects put        keys like /registry/pods/ns-03/web-017, 60-360 bytes
    5 of 5-9 KiB           values that need overflow pages
    a lease                with 20 of the keys attached to it
    120 objects put again  their older revisions stay in the file ...
    40 deleted             ... and so do tombstones, ...
    compaction             ... until now: pages become free ...
    30 more objects        ... and are used again

Two runs give different bytes (cluster and member ids follow from the ports,
batching from the clock), the same history of keys and values; a test makes one
and compares. What it is not: needed to run the tests on the file that is kept.

etcd opens bbolt without a stored freelist. Under bbolt 1.3.6 such a file is as
long as its pages (80 pages, measured); from 1.3.7 on it is extended to the
mapping, which etcd derives from its quota. So the quota bounds the file where
another etcd makes it: 512 KiB instead of 16 MiB.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "data" / "etcd.db"
QUOTA = 400 * 1024  # Bytes. The mapping is a tenth more, as a power of two.
LARGEST = 400 * 1024  # Bytes. More does not belong in a repository.
PATIENCE = 30.0  # Seconds, for a start or a stop of etcd.


class Gateway:
    """etcd's JSON gateway: one POST per call, bytes as base64.

    Args:
        port: Of the client listener on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        """Post the fields to /v3/METHOD; the reply's fields.

        Raises:
            OSError: Nobody answers.
            RuntimeError: etcd refused.
        """
        body = {
            name: base64.b64encode(value).decode()
            if isinstance(value, bytes)
            else value
            for name, value in fields.items()
        }
        self._connection.request("POST", f"/v3/{method}", json.dumps(body))
        response = self._connection.getresponse()
        reply: dict[str, Any] = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"etcd refused {method}: {reply}")
        return reply


def object_key(i: int) -> bytes:
    """A key as a cluster's registry has them."""
    kind = ("pods", "configmaps", "leases")[i % 3]
    return b"/registry/%s/ns-%02d/web-%03d" % (kind.encode(), i % 7, i)


def object_value(i: int, revision: int, size: int) -> bytes:
    """A value of about `size` bytes that repeats no page-sized pattern."""
    head = json.dumps({"kind": "Object", "uid": i, "generation": revision})
    words = (
        hashlib.sha256(b"%d/%d/%d" % (i, revision, n)).hexdigest()
        for n in range(size // 64 + 1)
    )
    return (head + "".join(words)).encode()[: max(size, len(head))]


def fill(etcd: Gateway) -> None:
    """Put, attach, replace, delete, compact, put again."""
    for i in range(300):
        etcd.call("kv/put", key=object_key(i), value=object_value(i, 1, 60 + i))
    for i in range(5):
        key = b"/registry/secrets/ns-00/bundle-%d" % i
        etcd.call("kv/put", key=key, value=object_value(i, 1, 5000 + 1000 * i))
    etcd.call("lease/grant", ID=7_587_855_123, TTL=31_536_000)
    for i in range(20):
        etcd.call(
            "kv/put",
            key=b"/registry/masterleases/10.0.0.%d" % i,
            value=object_value(i, 1, 90),
            lease=7_587_855_123,
        )
    for i in range(0, 240, 2):
        etcd.call("kv/put", key=object_key(i), value=object_value(i, 2, 200))
    for i in range(0, 280, 7):
        last = etcd.call("kv/deleterange", key=object_key(i))
    revision = int(last["header"]["revision"])
    etcd.call("kv/compaction", revision=revision - 10, physical=True)
    # etcd commits its batch every 100 ms; only then are the pages free.
    time.sleep(0.3)
    for i in range(300, 330):
        etcd.call("kv/put", key=object_key(i), value=object_value(i, 1, 150))


def free_port() -> int:
    """A port on the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(folder: Path) -> tuple[subprocess.Popen[bytes], Gateway]:
    """Start etcd on an empty folder and wait until it answers.

    Raises:
        RuntimeError: It did not answer in time.
    """
    client, peer = free_port(), free_port()
    client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                "etcd",
                f"--data-dir={folder / 'data'}",
                f"--listen-client-urls={client_url}",
                f"--advertise-client-urls={client_url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                f"--quota-backend-bytes={QUOTA}",
            ],
            # Settings for another etcd of this machine are none of ours.
            env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + PATIENCE
    gateway = Gateway(client)
    while time.monotonic() < deadline and process.poll() is None:
        try:
            gateway.call("kv/range", key=b"/")
        except (OSError, http.client.HTTPException, RuntimeError):
            gateway.close()  # The next call dials again.
            time.sleep(0.1)  # It is not listening, or has no leader, yet.
        else:
            return process, gateway
    gateway.close()
    process.kill()
    process.wait()
    raise RuntimeError(
        f"etcd gave no answer within {PATIENCE:.0f} s; it said:\n"
        + (folder / "log").read_text("utf-8", "replace")[-2000:]
    )


def make(target: Path, largest: int = LARGEST) -> None:
    """Write `target` and say what it is.

    Args:
        target: A file.
        largest: How many bytes it may have.

    Raises:
        RuntimeError: etcd failed, or the file became too large to keep.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, gateway = start(folder)
        try:
            with contextlib.closing(gateway):
                fill(gateway)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        made = folder / "data" / "member" / "snap" / "db"
        if made.stat().st_size > largest:
            raise RuntimeError(
                f"the file has {made.stat().st_size} bytes, more than {largest}: "
                "lower QUOTA or put fewer keys"
            )
        shutil.copyfile(made, target)
    data = target.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    sys.stdout.write(f"{target}: {len(data)} bytes, sha256 {digest}\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
