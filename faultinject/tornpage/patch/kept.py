"""Functions that code keeps from its import: `from os import fsync`.

Theory
======
    store.py   from os import fsync                a name of a module
    codec.py   def put(self, write=os.write)       a default argument
    files.py   class File: opened = os.open        an attribute of a class

All of these are replaced and put back as the names of `os` are. What a module keeps is
looked up once, when the first block after its import begins or ends; a module that was
imported inside a block kept that block's replacements, and is given the real functions.

What it is not: it does not look into closures, instances and containers. The audit hook
sees what is called from there, as far as there are events (`audit`).
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
    }
)
_OURS = "tornpage."
_DEFAULTS = ("__defaults__", "__kwdefaults__")


class Kept:
    """Places that are bound to functions that get replaced."""

    def __init__(self) -> None:
        self._known: dict[str, object] = {}
        self._last: tuple[int, object] = (0, None)
        # (owner, attribute, what it has outside of all blocks)
        self._found: list[tuple[Any, str, Any]] = []

    def places(
        self, functions: Sequence[tuple[Any, Any]]
    ) -> Iterator[tuple[Any, str, Any, Any]]:
        """(owner, attribute, what it has, what to put there).

        Args:
            functions: Pairs of a real function and its replacement.
        """
        ours = {id(real): ours for real, ours in functions}
        for module in self._new():
            self._found += _bound_in(module, ours)
        for owner, name, has in self._found:
            put = _with(has, ours)
            if put is not None:
                # A replacement is a function of Python's: a class would bind it.
                bound = isinstance(owner, type)
                yield owner, name, has, staticmethod(put) if bound else put

    def put_back(self, functions: Sequence[tuple[Any, Any]]) -> None:
        """Give modules that were imported inside a block the real functions.

        Args:
            functions: Pairs of a real function and its replacement.
        """
        for module in self._new():
            reals = {id(ours): real for real, ours in functions}
            for owner, name, has in _bound_in(module, reals):
                real = _with(has, reals)
                setattr(owner, name, real)
                self._found.append((owner, name, real))

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


def _bound_in(
    module: ModuleType, wanted: Mapping[int, Any]
) -> Iterator[tuple[Any, str, Any]]:
    """Where a module, its functions and its classes have one of these."""
    for name, value in list(vars(module).items()):
        # By its type alone: some objects do things when they are asked for more.
        kind = type(value)
        if id(value) in wanted:
            yield module, name, value
        elif kind is FunctionType:
            if value.__module__ == module.__name__:
                yield from _defaults_of(value, wanted)
        elif issubclass(kind, type) and (
            vars(value).get("__module__") == module.__name__
        ):
            for inner, one in list(vars(value).items()):
                if id(one) in wanted:
                    yield value, inner, one
                elif isinstance(one, FunctionType):
                    yield from _defaults_of(one, wanted)


def _defaults_of(
    function: FunctionType, wanted: Mapping[int, Any]
) -> Iterator[tuple[Any, str, Any]]:
    for name in _DEFAULTS:
        has = getattr(function, name)
        if has and _with(has, wanted) is not None:
            yield function, name, has


def _with(has: Any, wanted: Mapping[int, Any]) -> Any:
    """The same with the others in place of those; None when it has none of them."""
    if isinstance(has, tuple):
        if any(id(one) in wanted for one in has):
            return tuple(wanted.get(id(one), one) for one in has)
        return None
    if isinstance(has, dict):
        if any(id(one) in wanted for one in has.values()):
            return {name: wanted.get(id(one), one) for name, one in has.items()}
        return None
    return wanted.get(id(has))
