"""What may be changed of an open database.

    db.max_batch_delay = x --looked at here--> used by the next commit, the next batch

A value that means nothing is refused where it is set, as `open` refuses it (see
`options`). It would come out in the middle of somebody's commit otherwise, in another
thread perhaps, and that a delay is no number is nothing a batch can do anything about.

What is only asked whether it is true takes anything. What is no setting at all, a
misspelt one, is an AttributeError: a handle has these attributes and no others.
"""

from __future__ import annotations

from shearbolt.errors import OptionError
from shearbolt.options import check_size
from shearbolt.storage.single import Single

__all__ = ["Settings"]


class Settings(Single):
    """The settings of a handle; what they mean `DB` says."""

    __slots__ = (
        "_alloc_size", "_max_batch_delay", "_max_batch_size", "_max_size",
        "no_freelist_sync", "no_grow_sync", "no_sync", "statistics", "strict_mode",
    )  # fmt: skip

    @property
    def max_size(self) -> int:
        """See `DB`."""
        return self._max_size

    @max_size.setter
    def max_size(self, value: int) -> None:
        check_size("max_size", value)
        self._max_size = value

    @property
    def alloc_size(self) -> int:
        """See `DB`."""
        return self._alloc_size

    @alloc_size.setter
    def alloc_size(self, value: int) -> None:
        check_size("alloc_size", value)
        self._alloc_size = value

    @property
    def max_batch_size(self) -> int:
        """See `DB`."""
        return self._max_batch_size

    @max_batch_size.setter
    def max_batch_size(self, value: int) -> None:
        if not isinstance(value, int):
            raise OptionError(f"max_batch_size is a number of calls, not {value!r}")
        self._max_batch_size = value

    @property
    def max_batch_delay(self) -> float:
        """See `DB`."""
        return self._max_batch_delay

    @max_batch_delay.setter
    def max_batch_delay(self, value: float) -> None:
        # Not a number is not equal to itself, and never over.
        if not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124
            raise OptionError(f"max_batch_delay is a number of seconds, not {value!r}")
        try:
            self._max_batch_delay = float(value)
        except OverflowError:
            raise OptionError(
                "max_batch_delay is a number of seconds, and not so large"
            ) from None
