"""Shearbolt: an embedded, transactional, ordered key/value store.

Pure Python, standard library only. Its files are bbolt files: etcd, containerd,
Consul and InfluxDB write the same format.

    import shearbolt

    with shearbolt.open("my.db") as db:
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"birds")
            bucket[b"wren"] = b"9 g"
        with db.view() as tx:
            for name, weight in tx.bucket(b"birds").items():
                print(name, weight)

One writer and any number of readers at a time, each reader on the version of the
database that was current when it began. A commit returns when it is durable.
"""

from __future__ import annotations

from shearbolt.check import Problem
from shearbolt.database.handle import DB
from shearbolt.database.opening import open_database as open  # noqa: A004
from shearbolt.database.tx import Tx
from shearbolt.errors import (
    BoltError,
    BucketExistsError,
    BucketNameRequiredError,
    BucketNotFoundError,
    ChecksumError,
    CorruptPageError,
    CursorError,
    DatabaseFailedError,
    DatabaseNotFoundError,
    DatabaseNotOpenError,
    DatabaseReadOnlyError,
    DifferentDatabaseError,
    FileChangedError,
    ForkedError,
    FreePagesNotLoadedError,
    IncompatibleValueError,
    InvalidDatabaseError,
    KeyRequiredError,
    KeyTooLargeError,
    LockTimeoutError,
    MaxSizeReachedError,
    OptionError,
    SameBucketsError,
    StorageError,
    StrictModeError,
    TxClosedError,
    TxManagedError,
    TxNotWritableError,
    ValueTooLargeError,
    VersionMismatchError,
    WouldDeadlockError,
)
from shearbolt.pages.format import MAX_KEY_SIZE, MAX_VALUE_SIZE
from shearbolt.stats import (
    BucketStats,
    BucketStructure,
    Info,
    PageInfo,
    Stats,
    TxStats,
)
from shearbolt.tree.bucket import DEFAULT_FILL_PERCENT, Bucket
from shearbolt.tree.cursor import Cursor

__version__ = "0.1.0"

__all__ = [
    "DB",
    "DEFAULT_FILL_PERCENT",
    "MAX_KEY_SIZE",
    "MAX_VALUE_SIZE",
    "BoltError",
    "Bucket",
    "BucketExistsError",
    "BucketNameRequiredError",
    "BucketNotFoundError",
    "BucketStats",
    "BucketStructure",
    "ChecksumError",
    "CorruptPageError",
    "Cursor",
    "CursorError",
    "DatabaseFailedError",
    "DatabaseNotFoundError",
    "DatabaseNotOpenError",
    "DatabaseReadOnlyError",
    "DifferentDatabaseError",
    "FileChangedError",
    "ForkedError",
    "FreePagesNotLoadedError",
    "IncompatibleValueError",
    "Info",
    "InvalidDatabaseError",
    "KeyRequiredError",
    "KeyTooLargeError",
    "LockTimeoutError",
    "MaxSizeReachedError",
    "OptionError",
    "PageInfo",
    "Problem",
    "SameBucketsError",
    "Stats",
    "StorageError",
    "StrictModeError",
    "Tx",
    "TxClosedError",
    "TxManagedError",
    "TxNotWritableError",
    "TxStats",
    "ValueTooLargeError",
    "VersionMismatchError",
    "WouldDeadlockError",
    "__version__",
    "open",
]
