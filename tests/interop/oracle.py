"""Real bbolt, asked from a test.

An `Oracle` is a running copy of the program in `oracle/main.go`, which links
Debian's bbolt: 1.3.6 in Debian 12, 1.4 later. One request is one line of JSON to
its standard input, one reply is one line back:

    test --- Oracle.apply(path, program) ---> pipe ---> real bbolt ---> file
         <-- [Applied(txid, ...), ...] ------ pipe <---

A question costs about 0.2 ms and an apply what its commits cost, where a
process start costs 5 ms; that is why the process lives as long as the tests.

A program here is what `Oracle.apply` takes: a list of transactions, each a
list of `Operation`s. It says nothing of what should come out. The database
under test runs the same list through `engine.py`.

What it is not: a way to learn whether a file is *safe*. It says what that bbolt
sees in it and whether its check accepts it; the check of 1.3.6 looks at pages, not
at the order of keys or inside inline buckets.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BBOLT",
    "GOPATH",
    "LATER",
    "Applied",
    "Bucket",
    "Operation",
    "Oracle",
    "OracleDiedError",
    "OracleError",
    "PageInfo",
    "Transaction",
]

GOPATH = "/usr/share/gocode"
"""Where Debian's -dev packages put Go source."""

BBOLT = Path(GOPATH, "src/go.etcd.io/bbolt")

LATER = BBOLT.joinpath("internal", "common").is_dir()
"""Whether it is 1.4 or later."""

# Longer than any request of these tests takes on a busy machine (measured: the
# longest, 60 commits with fdatasync, takes 0.2 s); shorter than a test's limit.
_PATIENCE = 60.0


class OracleError(Exception):
    """Real bbolt refused the request; the message is its own text."""


class OracleDiedError(OracleError):
    """Real bbolt crashed or hung on the request; the next one finds a new process."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step inside a transaction.

    Attributes:
        op: "create_bucket", "create_bucket_if_not_exists", "delete_bucket",
            "put", "delete", "get", "sequence", "set_sequence",
            "next_sequence" or "cursor".
        bucket: The names that lead to the bucket; () is the root bucket.
        key: The key, or the name of the bucket to make or delete.
        value: What put stores.
        sequence: What set_sequence stores.
        moves: What a cursor does, ("seek", key) or just ("first",).
    """

    op: str
    bucket: tuple[bytes, ...] = ()
    key: bytes = b""
    value: bytes = b""
    sequence: int = 0
    moves: tuple[tuple[str] | tuple[str, bytes], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The operation as the oracle's own JSON."""
        return {
            "op": self.op,
            "bucket": [name.hex() for name in self.bucket],
            "key": self.key.hex(),
            "value": self.value.hex(),
            "sequence": self.sequence,
            "moves": [
                [move[0], *(key.hex() for key in move[1:])] for move in self.moves
            ],
        }


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one read-write transaction does before it commits or rolls back."""

    ops: tuple[Operation, ...]
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What one transaction answered.

    Attributes:
        txid: Its id.
        error: bbolt's text when the commit failed, or "".
        outcomes: Per operation ("error", text) or ("value", value); byte
            strings in a value are hex, as they came.
    """

    txid: int
    error: str
    outcomes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """All that a reader can see of a bucket.

    Attributes:
        sequence: The bucket's sequence number.
        entries: In key order; a value is bytes, or the bucket of that name.
    """

    sequence: int
    entries: tuple[tuple[bytes, bytes | Bucket], ...] = field(default=())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bucket:
        """The bucket from the oracle's own JSON."""
        return cls(
            data["sequence"],
            tuple(
                (
                    bytes.fromhex(entry["key"]),
                    cls.from_json(entry["bucket"])
                    if "bucket" in entry
                    else bytes.fromhex(entry["value"]),
                )
                for entry in data["entries"]
            ),
        )

    def count(self) -> int:
        """How many pairs there are, in this bucket and all below it."""
        return sum(
            value.count() if isinstance(value, Bucket) else 1
            for _, value in self.entries
        )


@dataclass(frozen=True, slots=True)
class PageInfo:
    """One run of pages: its first page id, type, elements, further pages."""

    id: int
    type: str
    count: int
    overflow: int


class Oracle:
    """A running oracle; a context manager.

    Args:
        program: The compiled `oracle/main.go`.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; files it held are released."""
        process, self._process = self._process, None
        self._unread = b""
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
            process.wait(timeout=5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            # It died with a request half read, or is stuck in one.
            process.kill()
            process.wait()
        finally:
            process.stdout.close()

    def apply(
        self, path: str, transactions: Sequence[Transaction], **options: Any
    ) -> list[Applied]:
        """Run transactions on a file, made when missing.

        Args:
            path: The file.
            transactions: What to do, in order.
            **options: `page_size`, `freelist_type`, `no_freelist_sync`,
                `no_sync`, `fill_percent`, `timeout_ms`; `readers_every`: before
                every so many transactions one begins to read, of which the newest
                three stay open.

        Raises:
            OracleError: The file could not be opened.
        """
        rows = self.ask(
            "apply",
            path,
            options,
            transactions=[
                {"ops": [op.to_json() for op in one.ops], "rollback": one.rollback}
                for one in transactions
            ],
        )
        return [
            Applied(
                row["txid"],
                row.get("error", ""),
                tuple(
                    ("error", outcome["error"])
                    if "error" in outcome
                    else ("value", outcome.get("value"))
                    for outcome in row["outcomes"]
                ),
            )
            for row in rows
        ]

    def dump(self, path: str, **options: Any) -> Bucket:
        """The root bucket, with everything below it."""
        return Bucket.from_json(self.ask("dump", path, options))

    def check(self, path: str, **options: Any) -> list[str]:
        """What Tx.Check finds wrong; [] for a sound file."""
        messages: list[str] = self.ask("check", path, options)
        return messages

    def pages(self, path: str, **options: Any) -> list[PageInfo]:
        """Every run of pages below the high-water mark, in order."""
        return [PageInfo(**row) for row in self.ask("pages", path, options)]

    def stats(self, path: str, **options: Any) -> dict[str, int]:
        """free, keys, depth, branch_pages, leaf_pages, leaf_overflow, buckets, ..."""
        numbers: dict[str, int] = self.ask("stats", path, options)
        return numbers

    def info(self, path: str, **options: Any) -> dict[str, int]:
        """page_size, txid, root, size (bytes up to the high-water mark)."""
        numbers: dict[str, int] = self.ask("info", path, options)
        return numbers

    def hold(self, path: str, **options: Any) -> int:
        """Open a file and keep it open, and so locked; returns a handle."""
        handle: int = self.ask("hold", path, options)
        return handle

    def release(self, handle: int) -> None:
        """Close what `hold` opened."""
        self.ask("release", "", {}, held=handle)

    def ask(self, do: str, path: str, options: Mapping[str, Any], **more: Any) -> Any:
        """Send one request and wait for its reply.

        Raises:
            OracleError: bbolt answered with an error or a panic.
            OracleDiedError: The process ended or gave no answer in time.
        """
        request = {"do": do, "path": path, "options": dict(options), **more}
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            reply = json.loads(self._line(process))
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            process.kill()
            self.close()
            raise OracleDiedError(f"bbolt ended in {do} of {path}: {error}") from error
        if "error" in reply:
            raise OracleError(reply["error"])
        return reply["result"]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [self._program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        """The next line of output.

        Raises:
            EOFError: The process ended.
            TimeoutError: It said nothing for too long.
        """
        assert process.stdout is not None
        deadline = time.monotonic() + _PATIENCE
        parts = [self._unread]
        while b"\n" not in parts[-1]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no answer in {_PATIENCE:.0f} s")
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                raise EOFError("the process ended; is the file damaged?")
            parts.append(part)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        return line
