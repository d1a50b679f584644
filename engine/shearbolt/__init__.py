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

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_HOMES: Final[dict[str, str]] = {
    "check": "Problem",
    "database.handle": "DB",
    "database.tx": "Tx",
    "errors": (
        "BoltError BucketExistsError BucketNameRequiredError BucketNotFoundError "
        "ChecksumError CorruptPageError CursorError DatabaseFailedError "
        "DatabaseNotFoundError DatabaseNotOpenError DatabaseReadOnlyError "
        "DifferentDatabaseError FileChangedError ForkedError FreePagesNotLoadedError "
        "IncompatibleValueError InvalidDatabaseError KeyRequiredError "
        "KeyTooLargeError LockTimeoutError MaxSizeReachedError OptionError "
        "SameBucketsError StorageError StrictModeError TxClosedError TxManagedError "
        "TxNotWritableError ValueTooLargeError VersionMismatchError "
        "WouldDeadlockError"
    ),
    "pages.format": "MAX_KEY_SIZE MAX_VALUE_SIZE",
    "stats": "BucketStats BucketStructure Info PageInfo Stats TxStats",
    "tree.bucket": "DEFAULT_FILL_PERCENT Bucket",
    "tree.cursor": "Cursor",
}
"""The public names, but for `open`, which has another name at home."""


# The command imports this package first, before anything of its own can hear Ctrl-C:
# what takes long is imported when the first name is asked for.
def __getattr__(name: str) -> Any:
    # Python asks for such names of its own accord, at every import.
    if not name.startswith("__"):
        # All at once: from then on it is as if they had been imported above.
        found = {"open": import_module("shearbolt.database.opening").open_database}
        for home, names in _HOMES.items():
            module = import_module(f"shearbolt.{home}")
            found |= {each: getattr(module, each) for each in names.split()}
        for each, value in found.items():
            globals().setdefault(each, value)
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
