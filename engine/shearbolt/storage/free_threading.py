"""Whether threads run at the same time.

    with the global lock      a thread goes on until it calls something, or jumps back;
                              what lies in between is one step for all others
    free-threaded (PEP 703)   any two instructions of two threads, in any order

CPython is built for the one or the other, and a build for the other may still run with
its lock (PYTHON_GIL=1). The engine has to know: what the lock makes one step it makes
one by locks of its own there (`shearbolt.pages.shared`). Those would cost a cold scan
some per cent where nobody needs them.

A storage whose threads are not the interpreter's, a crash tester's, says by an
attribute `free_threaded` what they are.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shearbolt.storage import Storage

__all__ = ["is_free_threaded"]


def is_free_threaded(storage: Storage) -> bool:
    """Whether threads that use this storage run at the same time."""
    said: bool | None = getattr(storage, "free_threaded", None)
    if said is not None:
        return said
    has_lock = getattr(sys, "_is_gil_enabled", None)
    return has_lock is not None and not has_lock()
