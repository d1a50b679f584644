"""What the real machine is everywhere: names, clock, process and threads."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

READ_AHEAD: Final = 32768
"""Bytes. A page of 4 KiB alone costs 1.0 us; 0.53 in 16 KiB, 0.45 in 32, 0.50 in 64."""

_LAST_STANDARD: Final = 2
"""The descriptor of standard error."""


def above_standard(fd: int) -> int:
    """The same open file under a descriptor that is none of the standard streams.

    In a process that was started without them (a daemon, `2>&-`), the next file
    opened gets 0, 1 or 2. Whatever then writes a message to standard error writes it
    into the database. SQLite keeps away from these numbers, too.

    Args:
        fd: An open descriptor; not to be used any more afterwards.
    """
    standard = []
    try:
        while fd <= _LAST_STANDARD:
            standard.append(fd)
            fd = os.dup(fd)
    finally:
        for each in standard:
            os.close(each)
    return fd


class Machine:
    """The part of `shearbolt.storage.Storage` that Python makes the same everywhere."""

    __slots__ = ("__weakref__",)

    def exists(self, path: str, /) -> bool:
        return os.path.lexists(path)

    def rename(self, source: str, target: str, /) -> None:
        os.replace(source, target)

    def unlink(self, path: str, /) -> None:
        os.unlink(path)

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)

    def mutex(self) -> threading.Lock:
        return threading.Lock()

    # A commit asks seventeen times, and a call in between takes as long as the answer.
    monotonic = staticmethod(time.monotonic)
    pid = staticmethod(os.getpid)
    thread_id = staticmethod(threading.get_ident)
