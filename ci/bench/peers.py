"""What each workload is in the words of each store.

A peer does a whole workload in one call, in the plainest loop its users would
write, so that the harness adds nothing per operation. Where a store has a bulk
call the peer uses it:

    load, delete      all pairs or keys in one call, or put by put
    shearbolt         `update`, the mapping's own; `delete_many`
    sqlite3           `executemany`, for both
    lmdb              a cursor's `putmulti`; deletes one by one
    plyvel, rocksdict a write batch, filled one by one
    boltdb            one by one

Every method that reads says how much it read; the worker compares that with what
must be there, so that a peer that reads nothing cannot win.

    durable commit    waits for
    shearbolt, bbolt  two fdatasync: the pages, then the meta page
    sqlite3 (WAL)     one fdatasync of the log
    lmdb              one fdatasync, then the meta page written through (O_DSYNC)
    plyvel, rocksdict one fdatasync of the log
    boltdb            one msync of the whole map; the meta is not ordered behind
                      the pages, so it is not safe against a crash

All run with their defaults, but for the sizes they need to hold the data and
sqlite3's page cache, which gets what shearbolt's has: 512 MiB, room for the pages of
a million pairs in either.
"""

from __future__ import annotations

import marshal
import os
import platform
import shutil
import sqlite3
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ci.bench.workloads import RANGE_PAIRS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PEERS", "Peer", "PeerMissingError"]

Pairs = list[tuple[bytes, bytes]]

CACHE_SIZE: Final = 512 * 1024 * 1024
_BUCKET: Final = b"bench"
_MAP_SIZE: Final = 4 << 30


class PeerMissingError(Exception):
    """The peer's package is not installed; the message says what to install."""


class Peer(ABC):
    """One store under measurement, opened on a path that is its alone."""

    name: ClassVar[str]
    is_store: ClassVar[bool] = True
    """Whether a run that names no peers has it."""
    package: ClassVar[str | None] = None
    """What to install, None when it comes with Python or with this project."""

    @classmethod
    def version(cls) -> str:
        """The version that is measured.

        Raises:
            PeerMissingError: It is not installed.
        """
        assert cls.package is not None
        try:
            return version(cls.package)
        except PackageNotFoundError:
            raise PeerMissingError(f"pip install {cls.package}") from None

    @abstractmethod
    def open(self, path: str) -> None:
        """Open the store, made when there is none."""

    @abstractmethod
    def close(self) -> None:
        """Close it; everything committed is in the file."""

    @abstractmethod
    def load(self, pairs: Pairs) -> None:
        """Put all pairs in one transaction."""

    @abstractmethod
    def commits(self, pairs: Pairs) -> None:
        """Put each pair in a durable transaction of its own."""

    @abstractmethod
    def gets(self, keys: Sequence[bytes]) -> int:
        """Get every key in one read transaction; how many were there."""

    @abstractmethod
    def scan(self) -> int:
        """Read all pairs in key order; how many there were."""

    @abstractmethod
    def ranges(self, starts: Sequence[bytes]) -> int:
        """Read up to 100 pairs from each start on; how many there were."""

    @abstractmethod
    def delete(self, keys: Sequence[bytes]) -> None:
        """Delete all keys in one transaction."""


class Shearbolt(Peer):
    """This project's engine."""

    name = "shearbolt"
    package = "shearbolt"
    options: ClassVar[dict[str, Any]] = {"cache_size": CACHE_SIZE}

    def open(self, path: str) -> None:
        import shearbolt  # noqa: PLC0415

        self.db = shearbolt.open(path, **self.options)

    def close(self) -> None:
        self.db.close()

    def load(self, pairs: Pairs) -> None:
        with self.db.update() as tx:
            tx.create_bucket(_BUCKET).update(pairs)

    def commits(self, pairs: Pairs) -> None:
        update = self.db.update
        for key, value in pairs:
            with update() as tx:
                tx.bucket(_BUCKET).put(key, value)

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        with self.db.view() as tx:
            get = tx.bucket(_BUCKET).get
            for key in keys:
                if get(key) is not None:
                    found += 1
        return found

    def scan(self) -> int:
        found = 0
        with self.db.view() as tx:
            for _key, _value in tx.bucket(_BUCKET).items():
                found += 1
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        with self.db.view() as tx:
            items = tx.bucket(_BUCKET).items
            for start in starts:
                for _key, _value in islice(items(start), RANGE_PAIRS):
                    found += 1
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        with self.db.update() as tx:
            tx.bucket(_BUCKET).delete_many(keys)


class SmallCache(Shearbolt):
    """The same with a page cache of 8 MiB: what a bound costs."""

    name = "shearbolt 8 MiB"
    options: ClassVar[dict[str, Any]] = {"cache_size": 8 * 1024 * 1024}


class Sqlite(Peer):
    """The standard library's sqlite3: WAL, synchronous=FULL, WITHOUT ROWID."""

    name = "sqlite3"

    @classmethod
    def version(cls) -> str:
        return sqlite3.sqlite_version

    def open(self, path: str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        run = self.db.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run(f"PRAGMA cache_size=-{CACHE_SIZE // 1024}")
        run(
            "CREATE TABLE IF NOT EXISTS bench"
            "(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"
        )

    def close(self) -> None:
        self.db.close()

    def load(self, pairs: Pairs) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT OR REPLACE INTO bench VALUES(?,?)", pairs)
        self.db.execute("COMMIT")

    def commits(self, pairs: Pairs) -> None:
        run = self.db.execute
        for pair in pairs:
            run("INSERT OR REPLACE INTO bench VALUES(?,?)", pair)

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        run = self.db.execute
        run("BEGIN")
        for key in keys:
            if run("SELECT v FROM bench WHERE k=?", (key,)).fetchone() is not None:
                found += 1
        run("COMMIT")
        return found

    def scan(self) -> int:
        found = 0
        for _key, _value in self.db.execute("SELECT k, v FROM bench ORDER BY k"):
            found += 1
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        run = self.db.execute
        query = f"SELECT k, v FROM bench WHERE k>=? ORDER BY k LIMIT {RANGE_PAIRS}"  # noqa: S608
        run("BEGIN")
        for start in starts:
            for _key, _value in run(query, (start,)):
                found += 1
        run("COMMIT")
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("DELETE FROM bench WHERE k=?", ((key,) for key in keys))
        self.db.execute("COMMIT")


class Lmdb(Peer):
    """py-lmdb, its C extension."""

    name = "lmdb"
    package = "lmdb"

    def open(self, path: str) -> None:
        lmdb = import_module("lmdb")
        self.db: Any = lmdb.open(path, map_size=_MAP_SIZE, subdir=False)

    def close(self) -> None:
        self.db.close()

    def load(self, pairs: Pairs) -> None:
        with self.db.begin(write=True) as tx, tx.cursor() as cursor:
            cursor.putmulti(pairs)

    def commits(self, pairs: Pairs) -> None:
        begin = self.db.begin
        for key, value in pairs:
            with begin(write=True) as tx:
                tx.put(key, value)

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        with self.db.begin() as tx:
            get = tx.get
            for key in keys:
                if get(key) is not None:
                    found += 1
        return found

    def scan(self) -> int:
        found = 0
        with self.db.begin() as tx, tx.cursor() as cursor:
            for _key, _value in cursor:
                found += 1
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        with self.db.begin() as tx, tx.cursor() as cursor:
            for start in starts:
                cursor.set_range(start)
                for _key, _value in islice(cursor, RANGE_PAIRS):
                    found += 1
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        with self.db.begin(write=True) as tx:
            delete = tx.delete
            for key in keys:
                delete(key)


class Plyvel(Peer):
    """LevelDB through plyvel."""

    name = "plyvel"
    package = "plyvel"

    def open(self, path: str) -> None:
        plyvel = import_module("plyvel")
        self.db: Any = plyvel.DB(path, create_if_missing=True)

    def close(self) -> None:
        self.db.close()

    def load(self, pairs: Pairs) -> None:
        with self.db.write_batch(sync=True) as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)

    def commits(self, pairs: Pairs) -> None:
        put = self.db.put
        for key, value in pairs:
            put(key, value, sync=True)

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        get = self.db.snapshot().get
        for key in keys:
            if get(key) is not None:
                found += 1
        return found

    def scan(self) -> int:
        found = 0
        with self.db.iterator() as pairs:
            for _key, _value in pairs:
                found += 1
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        iterator = self.db.snapshot().iterator
        for start in starts:
            for _key, _value in islice(iterator(start=start), RANGE_PAIRS):
                found += 1
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        with self.db.write_batch(sync=True) as batch:
            delete = batch.delete
            for key in keys:
                delete(key)


class Rocksdict(Peer):
    """RocksDB through rocksdict, keys and values as raw bytes."""

    name = "rocksdict"
    package = "rocksdict"

    def open(self, path: str) -> None:
        self.module: Any = import_module("rocksdict")
        self.db: Any = self.module.Rdict(path, self.module.Options(raw_mode=True))
        self.durable: Any = self.module.WriteOptions()
        self.durable.sync = True

    def close(self) -> None:
        self.db.close()

    def load(self, pairs: Pairs) -> None:
        batch = self.module.WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in pairs:
            put(key, value)
        self.db.write(batch, self.durable)

    def commits(self, pairs: Pairs) -> None:
        put, durable = self.db.put, self.durable
        for key, value in pairs:
            put(key, value, write_opt=durable)

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        get = self.db.get
        for key in keys:
            if get(key) is not None:
                found += 1
        return found

    def scan(self) -> int:
        found = 0
        for _key, _value in self.db.items():
            found += 1
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        items = self.db.items
        for start in starts:
            for _key, _value in islice(items(from_key=start), RANGE_PAIRS):
                found += 1
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        batch = self.module.WriteBatch(raw_mode=True)
        delete = batch.delete
        for key in keys:
            delete(key)
        self.db.write(batch, self.durable)


class BoltdbPackage(Peer):
    """PyPI's boltdb, the other pure-Python reader and writer of bolt files.

    Its delete raises KeyError once a page has been merged; that workload is
    reported as failed, in its own words.
    """

    name = "boltdb (PyPI)"
    package = "boltdb"

    def open(self, path: str) -> None:
        self.db: Any = import_module("boltdb").BoltDB(path)

    def close(self) -> None:
        self.db.close()
        # Its finaliser closes the number again, whoever has it by then.
        self.db.close = lambda: None
        type(self.db).__del__ = lambda _: None

    def load(self, pairs: Pairs) -> None:
        with self.db.update() as tx:
            put = tx.create_bucket(_BUCKET).put
            for key, value in pairs:
                put(key, value)

    def commits(self, pairs: Pairs) -> None:
        update = self.db.update
        for key, value in pairs:
            with update() as tx:
                tx.bucket(_BUCKET).put(key, value)

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        with self.db.view() as tx:
            get = tx.bucket(_BUCKET).get
            for key in keys:
                if get(key) is not None:
                    found += 1
        return found

    def scan(self) -> int:
        found = 0
        with self.db.view() as tx:
            cursor = tx.bucket(_BUCKET).cursor()
            key, _value = cursor.first()
            while key is not None:
                found += 1
                key, _value = cursor.next()
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        with self.db.view() as tx:
            cursor = tx.bucket(_BUCKET).cursor()
            for start in starts:
                key, _value = cursor.seek(start)
                wanted = RANGE_PAIRS
                while key is not None and wanted:
                    found += 1
                    wanted -= 1
                    if wanted:
                        key, _value = cursor.next()
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        with self.db.update() as tx:
            delete = tx.bucket(_BUCKET).delete
            for key in keys:
                delete(key)


class PlainDict(Peer):
    """No store: a dict of all pairs and a sorted list of its keys.

    What objects in memory take by themselves, and how much more where there are so
    many that they lie in no cache of the processor. The file is read, as a whole, when
    its pairs are wanted first, and written when they have changed; nothing is durable.
    It runs when it is named.
    """

    name = "plain dict"
    is_store = False

    @classmethod
    def version(cls) -> str:
        return platform.python_version()

    def open(self, path: str) -> None:
        self.path = path
        self.changed = False
        self._read: tuple[dict[bytes, bytes], list[bytes]] | None = None

    def close(self) -> None:
        if self.changed:
            place, keys = self._pairs()
            with open(self.path, "wb") as file:
                marshal.dump((keys, [place[key] for key in keys]), file)
        self._read = None

    def _pairs(self) -> tuple[dict[bytes, bytes], list[bytes]]:
        """The pairs, and the keys in order."""
        if self._read is None:
            keys: list[bytes] = []
            values: list[bytes] = []
            if os.path.exists(self.path):
                with open(self.path, "rb") as file:
                    keys, values = marshal.load(file)  # noqa: S302 - our own file
            self._read = dict(zip(keys, values, strict=True)), keys
        return self._read

    def load(self, pairs: Pairs) -> None:
        place, keys = self._pairs()
        for key, value in pairs:
            place[key] = value
        keys[:] = sorted(place)
        self.changed = True

    def commits(self, pairs: Pairs) -> None:
        place, keys = self._pairs()
        for key, value in pairs:
            if key not in place:
                insort(keys, key)
            place[key] = value
        self.changed = True

    def gets(self, keys: Sequence[bytes]) -> int:
        found = 0
        get = self._pairs()[0].get
        for key in keys:
            if get(key) is not None:
                found += 1
        return found

    def scan(self) -> int:
        found = 0
        place, keys = self._pairs()
        for key in keys:
            if place[key] is not None:
                found += 1
        return found

    def ranges(self, starts: Sequence[bytes]) -> int:
        found = 0
        place, keys = self._pairs()
        for start in starts:
            at = bisect_left(keys, start)
            for key in keys[at : at + RANGE_PAIRS]:
                if place[key] is not None:
                    found += 1
        return found

    def delete(self, keys: Sequence[bytes]) -> None:
        place, left = self._pairs()
        for key in keys:
            del place[key]
        left[:] = [key for key in left if key in place]
        self.changed = True


PEERS: Final[dict[str, type[Peer]]] = {
    peer.name: peer
    for peer in (
        Shearbolt,
        SmallCache,
        Sqlite,
        Lmdb,
        Plyvel,
        Rocksdict,
        BoltdbPackage,
        PlainDict,
    )
}
"""The peers that run inside Python, by name; real bbolt is `gobolt/main.go`."""


def disk_usage(path: str) -> int:
    """Bytes of a store, a file with its companions or a folder."""
    if os.path.isdir(path):
        return sum(entry.stat().st_size for entry in os.scandir(path))
    return sum(
        os.path.getsize(path + suffix)
        for suffix in ("", "-wal", "-shm")
        if os.path.exists(path + suffix)
    )


def remove(path: str) -> None:
    """Remove a store, if there is one."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    for suffix in ("", "-wal", "-shm", "-lock"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
