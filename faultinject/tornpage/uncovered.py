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

Everything else that leaves `run` or `recover` is the code's own, SystemExit too: a
store that ends the process has not returned. These pass through:

    KeyboardInterrupt, ControlError         Ctrl-C; a time limit of the driver's
    exceptions of pytest and Hypothesis     pytest.fail of a timeout, the end of data
    SubjectError                            the subject is not made as it has to be
"""

from __future__ import annotations

from tornpage.subject import SubjectError

__all__ = [
    "ControlError",
    "UncoveredError",
    "UnsupportedCallError",
    "is_of_a_runner",
    "passes_through",
]

# Where the test runners that tornpage works under define their own.
_RUNNERS = ("_pytest.", "hypothesis.")


class UncoveredError(Exception):
    """An execution cannot be followed; the message says why."""


class UnsupportedCallError(UncoveredError, RuntimeError):
    """A call was made that the simulated disk does not have.

    Not an OSError: a store that goes on after those would hide it.
    """


class ControlError(BaseException):
    """A driver of tornpage ends what it is doing; code under test raises none."""


_NO_OUTCOMES = (UncoveredError, ControlError, KeyboardInterrupt, SubjectError)


def passes_through(error: BaseException) -> bool:
    """Whether it is no outcome of the code under test; see the module's head."""
    return isinstance(error, _NO_OUTCOMES) or is_of_a_runner(error)


def is_of_a_runner(error: BaseException) -> bool:
    """Whether it tells pytest or Hypothesis something (`pytest.skip`)."""
    # pytest's outcomes say that they are builtins; their base class does not.
    return any(kind.__module__.startswith(_RUNNERS) for kind in type(error).__mro__)
