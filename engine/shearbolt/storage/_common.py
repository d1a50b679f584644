"""What the real machine is everywhere: names, clock, process and threads."""

from __future__ import annotations

import os
import threading
import time


class Machine:
    """The part of `shearbolt.storage.Storage` that Python makes the same everywhere."""

    __slots__ = ("__weakref__",)

    def exists(self, path: str, /) -> bool:
        return os.path.lexists(path)

    def rename(self, source: str, target: str, /) -> None:
        os.replace(source, target)

    def unlink(self, path: str, /) -> None:
        os.unlink(path)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)

    def pid(self) -> int:
        return os.getpid()

    def thread_id(self) -> int:
        return threading.get_ident()

    def mutex(self) -> threading.Lock:
        return threading.Lock()

    def condition(self) -> threading.Condition:
        return threading.Condition(threading.Lock())
