"""What may be changed of an open database.

    db.max_batch_delay = x --looked at here--> used by the next commit, the next batch

A value that means nothing is refused where it is set, as `open` refuses it (see
`options`). It would come out in the middle of somebody's commit otherwise, in another
thread perhaps, and that a delay is no number is nothing a batch can do anything about.

What is only asked whether it is true takes anything: `no_sync` and its like are plain
attributes of the handle.
"""

from __future__ import annotations

from shearbolt.errors import OptionError
from shearbolt.options import check_size
from shearbolt.storage.single import Single

__all__ = ["Settings"]


class Settings(Single):
    """The numbers of a handle; what they mean `DB` says."""

    _max_size = _alloc_size = _max_batch_size = 0
    _max_batch_delay = 0.0

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
