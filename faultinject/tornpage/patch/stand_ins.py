"""What stands in the place of a real function, in all blocks.

Theory
======
    store.py    self._sync = os.fsync         a stand-in, once a block has found it
                                |
    in a block                  '--> what the disk of that block does
    outside of all blocks       '--> the real function

There is one stand-in for each real function, in the process, and which disk is meant is
asked when it is called. So code may keep one for as long as it likes: from one block it
goes on to the next, and outside of all blocks it is the real function in all but
identity (it is equal, has the same hash and is pickled as that).

What it is not: for classes (`mmap.mmap`), from which others may be derived.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any, Final

from tornpage.holders import identity

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IN_FORCE", "StandIn", "beneath", "made_for", "standing_in"]

IN_FORCE: Final[dict[int, Callable[..., Any]]] = {}
"""What is done instead while a block lasts, by the identity of the real function."""

_all: Final[dict[int, StandIn]] = {}


class StandIn:
    """In the place of one function.

    Args:
        real: That one.

    Attributes:
        real: The same.
    """

    __slots__ = ("__weakref__", "real")

    real: Callable[..., Any]

    def __init__(self, real: Callable[..., Any]) -> None:
        self.real = real

    def __call__(self, *given: Any, **named: Any) -> Any:
        """What is done instead, or what the real one does."""
        ours = IN_FORCE.get(identity(self.real))
        return (self.real if ours is None else ours)(*given, **named)

    def beneath(self, *given: Any, **named: Any) -> Any:
        """What the real one does, for those that would hold it themselves."""
        return self.real(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self.real

    def __hash__(self) -> int:
        return hash(self.real)

    def __repr__(self) -> str:
        return repr(self.real)

    def __copy__(self) -> StandIn:
        return self

    def __deepcopy__(self, memo: object) -> StandIn:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        real = self.real
        return pkgutil.resolve_name, (f"{real.__module__}:{real.__qualname__}",)


def made_for(real: Callable[..., Any]) -> StandIn:
    """The one for this function; there is only one."""
    found = _all.get(identity(real))
    if found is None:
        found = _all[identity(real)] = StandIn(real)
    return found


def standing_in() -> list[StandIn]:
    """All that there are."""
    return [*_all.values()]


def beneath(owner: Any, name: str) -> Callable[..., Any]:
    """What a module has by this name, and nobody more who holds the function.

    Args:
        owner: The module.
        name: The name; what a test has put there is that.
    """
    has: Callable[..., Any] = getattr(owner, name)
    found = has if isinstance(has, StandIn) else _all.get(identity(has))
    return has if found is None else found.beneath
