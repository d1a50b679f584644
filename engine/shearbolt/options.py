"""Options: which values mean something, and how the others are refused.

    open, copy_file, compact, repair ... --each option--> checked here --> used

A value is looked at before any file is touched. What is wrong with it would come out
somewhere else otherwise, or not at all: a negative size shortens the file where it
should have grown, a time that is not a number is never over.

Whoever gets one wrong is told the option's name, what is wanted and what was given
(`OptionError`), whether its type is wrong or its value. A path that is neither text nor
bytes is a `TypeError`, as it is for `open` of Python.
"""

from __future__ import annotations

from os import fsdecode, fsencode
from typing import TYPE_CHECKING

from shearbolt.errors import OptionError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["check_permissions", "check_seconds", "check_size", "file_name"]


def file_name(path: str | bytes | PathLike[str]) -> str:
    """A path as the text that the system is given.

    Raises:
        OptionError: No file can have this name.
        TypeError: It is no path.
    """
    name = fsdecode(path)
    try:
        fsencode(name)
    except UnicodeEncodeError:
        raise OptionError(
            f"path is a name that the system can encode, not {name!r}"
        ) from None
    if "\0" in name:
        raise OptionError(f"path is a name without NUL characters, not {name!r}")
    return name


def check_size(option: str, value: object) -> None:
    """Refuse what is no number of bytes.

    Raises:
        OptionError: It is none.
    """
    if not isinstance(value, int) or value < 0:
        raise OptionError(f"{option} is a number of bytes, 0 or more, not {value!r}")


def check_seconds(option: str, value: object) -> None:
    """Refuse what is no time to wait.

    Raises:
        OptionError: It is none.
    """
    # Not a number is not greater than anything.
    if not isinstance(value, (int, float)) or not value >= 0:
        raise OptionError(f"{option} is a number of seconds, 0 or more, not {value!r}")
    try:
        float(value)
    except OverflowError:
        raise OptionError(
            f"{option} is a number of seconds, and not so large"
        ) from None


def check_permissions(value: object) -> None:
    """Refuse what are no permission bits.

    Raises:
        OptionError: They are none.
    """
    if not isinstance(value, int) or not 0 <= value <= 0o7777:
        raise OptionError(f"perm is permission bits such as 0o600, not {value!r}")
