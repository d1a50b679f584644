"""What tornpage asks of the system that it runs on.

    Disk, Explorer, CrashModel                      any with Python
    tornpage run, check, patched, subject_from      POSIX

Whole runs make copies of a process by fork(2), and `patched` stands in for POSIX calls.
Where these are missing both say so in one sentence, and not by an import that fails
somewhere below.
"""

from __future__ import annotations

__all__ = ["UnsupportedSystemError", "require_posix"]


class UnsupportedSystemError(ImportError):
    """This part of tornpage does not run on this system; the message says where."""


def require_posix() -> None:
    """Nothing, where there is POSIX.

    Raises:
        UnsupportedSystemError: There is none.
    """
    try:
        import posix  # noqa: F401, PLC0415 - asked whether it is there
    except ImportError:
        raise UnsupportedSystemError(
            "tornpage runs and patches storage code on POSIX systems only: it copies "
            "processes by fork; on Windows use it under WSL. Disk and Explorer work "
            "here, too"
        ) from None
