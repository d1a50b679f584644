"""What there is once: an open file, and what stands for one.

A copy of a handle has the same descriptor. `copy.deepcopy`, or `dataclasses.asdict`, of
something that holds one copies all of it until it meets a lock and fails; what it has
made by then is thrown away, and a thrown away file closes its descriptor, under the
original, which would write into whatever file gets that number next. A copy of a
transaction would end it for the original.
"""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

__all__ = ["Single"]


class Single:
    """Cannot be copied or pickled."""

    __slots__ = ()

    def __reduce_ex__(self, _: SupportsIndex, /) -> NoReturn:
        # What `copy.copy`, `copy.deepcopy` and `pickle` all ask first.
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: it is open in this "
            "process; hand on the path and open it there"
        )
