"""What cannot be explored: neither a broken promise nor a kept one.

Theory
======
Whatever code under test raises is a finding: it has not returned. What is raised by
tornpage itself, because an execution cannot be followed, is none. Whoever judges
says "unverifiable" then:

    ReplayError             the code did other things than before (`choices`)
    UnsupportedCallError    the code asked for what the simulated disk does not have

Code under test may swallow the second of these and go on, so the disk remembers it
(`Disk.refused`), and an execution with one counts as not followed whatever came of it.
"""

from __future__ import annotations

__all__ = ["UncoveredError", "UnsupportedCallError"]


class UncoveredError(Exception):
    """An execution cannot be followed; the message says why."""


class UnsupportedCallError(UncoveredError, RuntimeError):
    """A call was made that the simulated disk does not have.

    Not an OSError: a store that goes on after those would hide it.
    """
