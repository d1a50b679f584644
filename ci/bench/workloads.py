"""The workloads and their data: the same bytes, in the same order, for every peer.

A dataset is a folder of plain files, so that a worker in any language reads it
without a parser:

    keys      N x 16 random bytes, in the order of the random load
    gets      N x 16, the same keys in another order
    starts    first keys of the ranges
    commits   the keys of the one-put transactions, none of them in `keys`
    pool      64 KiB of random bytes: value i is the 100 bytes at 61 i mod 65,436

Values are cut from random bytes because stores that compress (LevelDB, RocksDB)
would otherwise be measured on data nobody has. Overlapping cuts keep the file
small; a compressor sees at most 64 KiB of repetition beyond its own blocks.

A worker goes through three lives of one file:

    load sorted      new file, one transaction    | file size
    load random      new file, one transaction    | file size, peak memory
    open                                          |
    get cold, warm   every key once, twice        |
    scan cold, warm  every pair                   |
    range            pairs 1 to 100 from a start  | peak memory
    commit           one put, one durable commit  |
    delete half      every second key, one transaction | file size

*Cold* means: a new process handle, nothing decoded, the file in the system's
page cache. Reading from a platter would measure the platter.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Final

__all__ = ["RANGE_PAIRS", "WORKLOADS", "Dataset", "Sizes", "make_dataset"]

KEY_SIZE: Final = 16
VALUE_SIZE: Final = 100
RANGE_PAIRS: Final = 100
_POOL_SIZE: Final = 1 << 16
_POOL_STEP: Final = 61

WORKLOADS: Final = (
    "load sorted",
    "load random",
    "open",
    "get cold",
    "get warm",
    "scan cold",
    "scan warm",
    "range",
    "commit",
    "delete half",
)
"""All workloads, in the order a worker runs them."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything one worker does.

    Attributes:
        pairs: N, pairs in the store.
        commits: One-put transactions.
        ranges: Ranges of 100 pairs.
        opens: How often the store is opened.
    """

    pairs: int
    commits: int = 1000
    ranges: int = 2000
    opens: int = 5


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset in memory.

    Attributes:
        keys: All keys in load order.
        gets: The same keys in another order.
        starts: Where ranges begin, one key a range.
        commits: Keys that are not in `keys`.
        pool: What values are cut from.
    """

    keys: list[bytes]
    gets: list[bytes]
    starts: list[bytes]
    commits: list[bytes]
    pool: bytes

    @classmethod
    def read(cls, folder: str) -> Dataset:
        """Read the dataset that `make_dataset` left in a folder."""
        keys, gets, starts, commits = (
            _split(_read(os.path.join(folder, name)))
            for name in ("keys", "gets", "starts", "commits")
        )
        return cls(keys, gets, starts, commits, _read(os.path.join(folder, "pool")))

    def value(self, index: int) -> bytes:
        """The value of the key at this position of `keys`."""
        start = index * _POOL_STEP % (_POOL_SIZE - VALUE_SIZE)
        return self.pool[start : start + VALUE_SIZE]

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """All pairs in load order."""
        return [(key, self.value(index)) for index, key in enumerate(self.keys)]

    def doomed(self) -> list[bytes]:
        """The keys that are deleted: every second one of `gets`."""
        return self.gets[::2]


def make_dataset(folder: str, sizes: Sizes, seed: int) -> None:
    """Write a dataset's files into a folder.

    Args:
        folder: An existing folder.
        sizes: How much.
        seed: The same seed gives the same bytes.
    """
    rng = random.Random(seed)
    keys = _distinct(rng, sizes.pairs + sizes.commits)
    keys, commits = keys[: sizes.pairs], keys[sizes.pairs :]
    gets = rng.sample(keys, len(keys))
    starts = rng.choices(keys, k=sizes.ranges)
    files = {"keys": keys, "gets": gets, "starts": starts, "commits": commits}
    for name, content in files.items():
        _write(os.path.join(folder, name), b"".join(content))
    _write(os.path.join(folder, "pool"), rng.randbytes(_POOL_SIZE))


def _distinct(rng: random.Random, count: int) -> list[bytes]:
    found: dict[bytes, None] = {}
    while len(found) < count:
        found[rng.randbytes(KEY_SIZE)] = None
    return list(found)


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + KEY_SIZE] for at in range(0, len(data), KEY_SIZE)]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
