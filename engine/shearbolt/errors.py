"""Every error the engine raises, under one root, `BoltError`.

Three kinds, told apart by whose move it is:

* the caller's: a wrong call (`KeyRequiredError`, `TxClosedError`, ...). Texts
  are bbolt's (errors/errors.go), so that logs read the same in both worlds;
* the file's: what is on disk is not a database, or is damaged
  (`InvalidDatabaseError`, `CorruptPageError`, ...). They carry path, page and
  byte offset;
* the machine's: the operating system refused (`StorageError` and below). They
  are `OSError`s too and keep the errno.

`KeyError` is raised by mapping syntax only (`bucket[key]`), as for any mapping.

All of them can be copied and pickled, as they are when a process pool hands one to
whoever waits for it. Python's way is to call the class again with the error's text,
which most of these make themselves from what they are given: so `BoltError` says how.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BoltError",
    "BucketExistsError",
    "BucketNameRequiredError",
    "BucketNotFoundError",
    "ChecksumError",
    "CorruptPageError",
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
    "InvalidDatabaseError",
    "KeyRequiredError",
    "KeyTooLargeError",
    "LockTimeoutError",
    "MaxSizeReachedError",
    "OptionError",
    "SameBucketsError",
    "StorageError",
    "StrictModeError",
    "TxClosedError",
    "TxManagedError",
    "TxNotWritableError",
    "ValueTooLargeError",
    "VersionMismatchError",
    "WouldDeadlockError",
]


class BoltError(Exception):
    """Root of everything this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An OSError's arguments are more than its `args`: it says which.
        how: tuple[Any, ...] = tuple(super().__reduce__())
        return _made_again, how[:2], *how[2:]


def _made_again(kind: type[BoltError], args: tuple[object, ...]) -> BoltError:
    """The same error without its `__init__`; its attributes are set by pickle."""
    return kind.__new__(kind, *args)


# -- the caller's move ---------------------------------------------------------


class OptionError(BoltError, ValueError):
    """An option has a value that means nothing."""


class DatabaseNotOpenError(BoltError):
    """The database has been closed."""

    def __init__(self, message: str = "database not open") -> None:
        super().__init__(message)


class DatabaseReadOnlyError(BoltError):
    """A write transaction was asked of a database opened read-only."""

    def __init__(self, message: str = "database is in read-only mode") -> None:
        super().__init__(message)


class ForkedError(BoltError):
    """The handle was opened in another process, before a fork.

    Parent and child would share the lock, the file and a stale freelist.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was opened in another process: open it anew in this one"
        )
        self.path = path


class WouldDeadlockError(BoltError):
    """A thread would wait for itself.

    For the write transaction that it has open; or, in a signal handler or a finalizer,
    for the commit that it has interrupted.
    """


class TxClosedError(BoltError):
    """The transaction has been committed or rolled back already."""

    def __init__(self, message: str = "tx closed") -> None:
        super().__init__(message)


class TxNotWritableError(BoltError):
    """A change was asked of a read transaction."""

    def __init__(self, message: str = "tx not writable") -> None:
        super().__init__(message)


class TxManagedError(BoltError):
    """Commit or rollback was called inside `update()` or `view()`.

    Or one of these was entered while it had an open transaction.
    """


class BucketNotFoundError(BoltError):
    """There is no bucket of this name."""

    def __init__(self, name: bytes = b"") -> None:
        super().__init__(f"bucket not found: {name!r}" if name else "bucket not found")
        self.name = name


class BucketExistsError(BoltError):
    """There is a bucket of this name already."""

    def __init__(self, name: bytes = b"") -> None:
        super().__init__(f"bucket already exists: {name!r}")
        self.name = name


class BucketNameRequiredError(BoltError):
    """A bucket needs a name of at least one byte."""

    def __init__(self, message: str = "bucket name required") -> None:
        super().__init__(message)


class KeyRequiredError(BoltError):
    """A key needs at least one byte."""

    def __init__(self, message: str = "key required") -> None:
        super().__init__(message)


class KeyTooLargeError(BoltError):
    """The key is longer than `MAX_KEY_SIZE` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"key too large: {size} bytes, at most 32768 are allowed")
        self.size = size


class ValueTooLargeError(BoltError):
    """The value is longer than `MAX_VALUE_SIZE` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"value too large: {size} bytes")
        self.size = size


class IncompatibleValueError(BoltError):
    """A bucket was treated as a key, or a key as a bucket."""

    def __init__(self, key: bytes = b"") -> None:
        super().__init__(f"incompatible value: {key!r}")
        self.key = key


class SameBucketsError(BoltError):
    """A bucket cannot be moved to where it is, or into itself."""

    def __init__(
        self, message: str = "the source and target are the same bucket"
    ) -> None:
        super().__init__(message)


class DifferentDatabaseError(BoltError):
    """Source and target of a move belong to different transactions."""

    def __init__(
        self,
        message: str = "the source and target buckets are in different database files",
    ) -> None:
        super().__init__(message)


class CursorError(BoltError):
    """The cursor is not on an element."""


class MaxSizeReachedError(BoltError):
    """The commit would grow the file beyond `max_size`; nothing was written."""

    def __init__(self, needed: int, limit: int) -> None:
        super().__init__(
            f"database reached maximum size: {needed} bytes are needed, "
            f"max_size is {limit}"
        )
        self.needed = needed
        self.limit = limit


class FreePagesNotLoadedError(BoltError):
    """A read-only database was opened without `preload_freelist`."""

    def __init__(
        self,
        message: str = "free pages are not pre-loaded: open with preload_freelist=True",
    ) -> None:
        super().__init__(message)


# -- the file's fault ----------------------------------------------------------


class InvalidDatabaseError(BoltError):
    """The file is not a bolt database.

    Attributes:
        path: The file.
        offset: Byte offset of the meta page looked at.
    """

    def __init__(self, message: str, *, path: str = "", offset: int = 0) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.offset = offset


class VersionMismatchError(InvalidDatabaseError):
    """The file has another format version than 2."""


class ChecksumError(InvalidDatabaseError):
    """The meta page's checksum is not that of its content."""


class FileChangedError(InvalidDatabaseError):
    """Somebody else has changed the file while it was open; it was not written to.

    Close the handle and see what became of the file.
    """

    def __init__(self, what: str, *, path: str, offset: int = 0) -> None:
        super().__init__(
            f"somebody else has changed the file while it was open: {what}. It was not "
            "written to; close this handle and look what became of the file",
            path=path,
            offset=offset,
        )


class CorruptPageError(BoltError):
    """A page does not hold what its place in the database requires.

    Attributes:
        path: The file.
        pgid: The page.
        offset: Byte offset of the damage in the file.
        reason: What is wrong with it.
    """

    def __init__(self, reason: str, *, path: str, pgid: int, offset: int) -> None:
        super().__init__(
            f"{path}: page {pgid} (offset {offset}) is corrupt: {reason}; "
            "'shearbolt check' lists all damage"
        )
        self.path = path
        self.pgid = pgid
        self.offset = offset
        self.reason = reason


class StrictModeError(BoltError):
    """strict_mode found the database inconsistent before the meta was written.

    The transaction is rolled back; the file still shows the last commit.
    """


# -- the machine's fault -------------------------------------------------------


class StorageError(BoltError, OSError):
    """The operating system refused an operation on the database file.

    Attributes:
        errno: The system's error number.
        operation: The call, "pwrite" for example.
        path: The file.
        offset: Byte offset, or -1 where the call has none.
    """

    operation: str
    path: str
    offset: int

    @classmethod
    def of(
        cls, error: OSError, operation: str, path: str, offset: int = -1
    ) -> StorageError:
        """Wrap what the system raised; a missing file gets its own type.

        Raises:
            OSError: It was not the system: that gives a number. A signal handler has
                raised it in the middle of the call (TimeoutError), for its caller.
        """
        if error.errno is None:
            raise error
        kind = cls
        if cls is StorageError and isinstance(error, FileNotFoundError):
            kind = DatabaseNotFoundError
        reason = error.strerror or str(error)
        return kind.made(error.errno, reason, operation, path, offset)

    @classmethod
    def made(
        cls,
        code: int | None,
        reason: str,
        operation: str,
        path: str,
        offset: int = -1,
    ) -> StorageError:
        """The error with a reason of our own, and of this very type."""
        where = f" at offset {offset}" if offset >= 0 else ""
        wrapped = cls(code, f"{operation}{where}: {reason}", path)
        wrapped.operation = operation
        wrapped.path = path
        wrapped.offset = offset
        return wrapped


class DatabaseNotFoundError(StorageError, FileNotFoundError):
    """There is no such file, and it may not be created."""


class LockTimeoutError(BoltError, TimeoutError):
    """Another process, or another handle, holds the file lock."""


class DatabaseFailedError(BoltError):
    """An earlier write or sync failed and could not be undone.

    Reads go on; writes are refused, because the file system may have dropped
    what it could not write. Every `begin(True)` tries to heal first, so the
    error ends by itself when the disk does work again. Except after a failed sync
    for which commits made with `no_sync` waited: they may be lost, and this process
    does not write the file any more. Copy it into a new one.
    """
