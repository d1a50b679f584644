"""Functions that modules keep from their import: `from os import fsync`.

Theory
======
    store.py   from os import fsync      before the block     the real function
    codec.py   from os import replace    imported inside it   that block's replacement

Both are names in a module, so they are replaced and put back as those of `os` are. All
modules are looked through once, those that came since when the next block begins or
ends; a block looks at no module that is known.

What it is not: it does not look into classes, default arguments and closures. The audit
hook sees what is called from there, as far as there are events (`patch_audit`).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    _Function = Callable[..., Any]
    _Pair = tuple[_Function, _Function]
    _Name = tuple[ModuleType, str, _Function]

__all__ = ["Kept"]

# Where the real ones are: the import system takes them from there.
_SOURCES = frozenset(
    {
        "_io",
        "_posixsubprocess",
        "builtins",
        "fcntl",
        "io",
        "mmap",
        "os",
        "posix",
        "posixpath",
        "shutil",
        "tempfile",
    }
)
_OURS = "tornpage."


class Kept:
    """Names of modules that are bound to functions that get replaced."""

    def __init__(self) -> None:
        self._known: dict[str, object] = {}
        self._last: tuple[int, object] = (0, None)
        self._found: list[_Name] = []

    def _new(self) -> Iterator[ModuleType]:
        """Modules that were not there last time."""
        last = len(sys.modules), next(reversed(sys.modules.values()))
        if last == self._last:
            return
        self._last = last
        for name, module in list(sys.modules.items()):
            if self._known.get(name) is module:
                continue
            self._known[name] = module
            # Whatever somebody puts there: some things are no modules.
            plain = isinstance(module, ModuleType) and name not in _SOURCES
            if plain and not name.startswith(_OURS):
                yield module

    def names(self, functions: Sequence[_Pair]) -> list[_Name]:
        """(module, name, replacement).

        Args:
            functions: Pairs of a real function and its replacement.
        """
        ours = {id(real): ours for real, ours in functions}
        for module in self._new():
            self._look(module, {id(real): real for real, _ in functions})
        return [
            (module, name, ours[id(real)])
            for module, name, real in self._found
            if id(real) in ours
        ]

    def put_back(self, functions: Sequence[_Pair]) -> None:
        """Give modules that were imported inside a block the real functions.

        Args:
            functions: Pairs of a real function and its replacement.
        """
        for module in self._new():
            reals = {id(ours): real for real, ours in functions}
            for name, real in self._look(module, reals):
                setattr(module, name, real)

    def _look(
        self, module: ModuleType, wanted: Mapping[int, _Function]
    ) -> list[tuple[str, _Function]]:
        found = [
            (name, wanted[id(value)])
            for name, value in list(vars(module).items())
            if id(value) in wanted
        ]
        self._found += [(module, name, real) for name, real in found]
        return found
