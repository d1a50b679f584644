"""The `tornpage` command as a program: `tornpage`, `python -m tornpage`.

The command is imported here, where Ctrl-C is heard: its imports are the first tenth of
a second of every run.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from tornpage.system import UnsupportedSystemError

__all__ = ["main"]

_UNVERIFIABLE = 3
"""As in `tornpage.certificate.record`, which may not be there yet."""


def main() -> int:
    """Run the command with the arguments of the process.

    Returns:
        The exit status.
    """
    try:
        from tornpage.command import main as run  # noqa: PLC0415

        return run()
    except UnsupportedSystemError as error:
        sys.stderr.write(f"tornpage: error: {error}\n")
        return _UNVERIFIABLE
    except KeyboardInterrupt:
        # Nobody has seen yet whether standard error is open.
        with suppress(AttributeError, OSError):
            sys.stderr.write("interrupted: no verdict was reached\n")
        return _UNVERIFIABLE
    except Exception:  # noqa: BLE001 - whatever it is, it is no verdict.
        # An import found no memory, no descriptor, no file. Python would end with 1,
        # and that says that a promise is broken.
        with suppress(AttributeError, OSError, MemoryError):
            sys.excepthook(*sys.exc_info())
            sys.stderr.write("tornpage: no verdict was reached\n")
        return _UNVERIFIABLE


if __name__ == "__main__":
    sys.exit(main())
