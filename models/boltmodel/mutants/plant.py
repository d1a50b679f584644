"""How a bug is planted and taken out again.

A mutant is a record: its name, its history in one line, the promise it breaks,
and a function that puts it in place through a `Planter`.

    def _meta_unsynced(planter): planter.wrap(Pager, "fdatasync", replacement)

`replace` and `wrap` remember what stood there; leaving the block restores it in
reverse order, also when the block or the planting itself raised.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Mutant", "Planter"]


class Planter:
    """Replaces attributes of modules and classes, and puts them back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that the owner itself has.

        Raises:
            AttributeError: The owner has no such attribute of its own, so
                the engine has changed and the mutant has to follow.
        """
        if name not in vars(owner):
            raise AttributeError(
                f"{owner.__name__} has no {name} of its own: the mutant that "
                "replaces it must be adapted to the engine"
            )
        self._before.append((owner, name, inspect.getattr_static(owner, name)))
        setattr(owner, name, value)

    def wrap(
        self,
        owner: Any,
        name: str,
        around: Callable[[Callable[..., Any]], Callable[..., Any]],
    ) -> None:
        """Replace a function by what `around` makes of the original.

        Raises:
            AttributeError: As `replace`.
        """
        self.replace(owner, name, around(getattr(owner, name)))

    def restore(self) -> None:
        """Put everything back, the last change first."""
        while self._before:
            owner, name, value = self._before.pop()
            setattr(owner, name, value)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: Short, with hyphens; what the command takes.
        summary: One line: what is wrong, and who had it.
        breaks: Letters of the promises it may break, the usual one first.
        put: Puts it in place.
    """

    name: str
    summary: str
    breaks: str
    put: Callable[[Planter], None]

    @contextmanager
    def plant(self) -> Iterator[None]:
        """While entered, the engine has the bug."""
        planter = Planter()
        try:
            self.put(planter)
            yield
        finally:
            planter.restore()
