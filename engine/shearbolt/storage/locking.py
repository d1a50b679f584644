"""Waiting for the lock of a file that other processes have open.

    open --> lock --somebody else has it--> sleep, try again, until the time is up
               |
               had --> does the name still mean this file? --no--> open again

The lock is asked for again and again, as bbolt does: flock(2) that waits knows no time
limit. The last try is made when the time is up, not before.

While one waits the file may be replaced: a compaction that ends with `rename`, or a
restored backup. The lock is then one of a file without a name, and what is committed to
it is gone when it is closed. So whoever has the lock looks whether the name still means
the same file. A real file can say that (`stands_at`); it is no part of the protocol,
and a file without it is believed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shearbolt.errors import LockTimeoutError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.storage import File, Storage

__all__ = ["open_locked"]

_RETRY: Final = 0.05
"""Seconds between two tries, as bbolt's."""


def open_locked(
    storage: Storage,
    path: str,
    make: Callable[[], File],
    *,
    named: bool,
    exclusive: bool,
    timeout: float | None,
) -> File:
    """Open the file of this name, and lock it.

    Args:
        storage: The machine.
        path: The name.
        make: Opens it.
        named: Whether it is the file of this name, and not some other one.
        exclusive: Against readers, too.
        timeout: Seconds to wait for the lock; None: for ever.

    Raises:
        LockTimeoutError: Somebody else had it all the time.
        StorageError: The system refused.
    """
    began = storage.monotonic()
    while True:
        try:
            file = make()
        except OSError as error:
            raise StorageError.of(error, "open", path) from error
        here = False
        try:
            _lock(
                storage, file, path, exclusive=exclusive, timeout=timeout, began=began
            )
            here = not named or _stands(file, path)
        finally:
            if not here:
                # Why it could not be opened is what matters, not how closing went.
                with suppress(OSError):
                    file.close()
        if here:
            return file


def _lock(
    storage: Storage,
    file: File,
    path: str,
    *,
    exclusive: bool,
    timeout: float | None,
    began: float,
) -> None:
    """Lock a file that is waited for since `began`; errors as `open_locked`."""
    while True:
        try:
            if file.lock(exclusive):
                return
        except InterruptedError:
            continue
        except OSError as error:
            raise StorageError.of(error, "flock", path) from error
        pause = _RETRY
        if timeout is not None:
            pause = min(pause, began + timeout - storage.monotonic())
            if pause <= 0:
                raise LockTimeoutError(
                    f"{path}: another process or handle has the database open "
                    f"(waited {timeout} s); close it, or pass a longer timeout"
                )
        storage.sleep(pause)


def _stands(file: File, path: str) -> bool:
    stands_at = getattr(file, "stands_at", None)
    if stands_at is None:
        return True
    try:
        return bool(stands_at(path))
    except OSError as error:
        raise StorageError.of(error, "stat", path) from error
