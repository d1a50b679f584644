"""The `shearbolt` command as a program: `shearbolt`, `python -m shearbolt`.

The command is imported here, where Ctrl-C is heard. Before it, for 90 ms, Python
imports the package itself, and there Ctrl-C is a traceback: a library whose names are
imported when they are asked for would be a high price for that.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_INTERRUPTED = 128 + 2


def main() -> int:
    """Run the command with the arguments of the process.

    Returns:
        The exit status.
    """
    try:
        from shearbolt.command import main as run  # noqa: PLC0415

        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
