"""Names that modules have from `threading`, `time`, `queue`: `from time import sleep`.

    store.py    from threading import Lock      replaced while a block lasts, as
                from time import sleep          `threading.Lock` is

All modules but those of the standard library are looked at when there are others than
last time. One that was imported inside a block is given the real ones behind it.

What it is not: only the names of modules are looked at. What was made of these before
is the business of `earlier`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Imported"]

_OURS = "tornpage"


class Imported:
    """Where modules have what is replaced."""

    def __init__(self) -> None:
        self._stamp: tuple[object, ...] = ()
        self._found: list[tuple[ModuleType, str]] = []

    def places(self, ours: Mapping[int, Any]) -> list[tuple[ModuleType, str, Any]]:
        """Where the real ones are: module, name, what to put there.

        Args:
            ours: What to put there, by the identity of the real one.
        """
        stamp = (*_stamp(), *ours)
        if stamp != self._stamp:
            self._stamp = stamp
            self._found = list(_bound(ours))
        return [
            (module, name, ours[id(vars(module)[name])])
            for module, name in self._found
            # A test may have put something else there.
            if id(vars(module).get(name)) in ours
        ]

    def put_back(self, reals: Mapping[int, Any]) -> None:
        """Give modules that were imported in the block the real ones.

        Args:
            reals: What belongs there, by the identity of the replacement.
        """
        if _stamp() != self._stamp[:2]:
            for module, name in list(_bound(reals)):
                setattr(module, name, reals[id(vars(module)[name])])


def _stamp() -> tuple[int, object]:
    """Another one when there are other modules (not their names: some come again)."""
    return len(sys.modules), next(reversed(sys.modules.values()))


def _bound(wanted: Mapping[int, Any]) -> Iterator[tuple[ModuleType, str]]:
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if (
            top != _OURS
            and top not in sys.stdlib_module_names
            # Whatever somebody puts there: some things are no modules.
            and isinstance(module, ModuleType)
        ):
            names = vars(module)
            # Most have none, and a look at each name is ten times as slow as this.
            if wanted.keys().isdisjoint(map(id, [*names.values()])):
                continue
            for bound, value in list(names.items()):
                if id(value) in wanted:
                    yield module, bound
