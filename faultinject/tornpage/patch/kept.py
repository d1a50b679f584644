"""Functions that code keeps from its import: `from os import fsync`.

Theory
======
    store.py   from os import fsync                a name of a module
    codec.py   def put(self, write=os.write)       a default argument
    files.py   class File: opened = os.open        an attribute of a class

All of these are replaced and put back as the names of `os` are. What a module keeps is
looked up once, when the first block after its import begins or ends; a module that was
imported inside a block kept that block's replacements, and is given the real functions.

A test may put something of its own there, a bug to plant for instance. That stays, and
what it stands for is not forgotten:

    run begins    store.fsync is os.fsync        looked up: no bug is planted yet
    bug planted   store.fsync is a lambda        left alone by every block
    bug gone      store.fsync is os.fsync        replaced in every block

So all modules but those of the standard library are looked at once more when a run
begins (10 ms for 700 modules): a test before this one may have had something there.

What it is not: it does not look into closures, instances and containers. The audit hook
sees what is called from there, as far as there are events (`audit`).
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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

_Place = tuple[Any, str, Any]
"""Owner, attribute, and what it has outside of all blocks."""


class Kept:
    """Places that are bound to functions that get replaced."""

    def __init__(self) -> None:
        self._known: dict[str, object] = {}
        self._last: tuple[int, object] = (0, None)
        # By what they consist of: a place is found more than once.
        self._found: dict[tuple[int, str, int], _Place] = {}

    def places(
        self, functions: Sequence[tuple[Any, Any]]
    ) -> Iterator[tuple[Any, str, Any, Any]]:
        """(owner, attribute, what it has, what to put there).

        Args:
            functions: Pairs of a real function and its replacement.
        """
        ours = {id(real): ours for real, ours in functions}
        for module in self._new():
            self._add(_bound_in(module, ours))
        for owner, name, has in self._found.values():
            put = _with(has, ours)
            # Something else is there when a test has put it there.
            if put is not None and _value(owner, name) is has:
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
                self._add([(owner, name, real)])

    def look_again(self, functions: Sequence[tuple[Any, Any]]) -> None:
        """Look at all modules, outside of all blocks.

        Args:
            functions: Pairs of a real function and its replacement.
        """
        known = self._known.items()
        self._known = {
            name: module
            for name, module in known
            if name.partition(".")[0] in sys.stdlib_module_names
        }
        self._last = (0, None)
        ours = {id(real): ours for real, ours in functions}
        for module in self._new():
            self._add(_bound_in(module, ours))

    def _add(self, found: Iterable[_Place]) -> None:
        for place in found:
            owner, name, has = place
            self._found[id(owner), name, id(has)] = place

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


def _value(owner: Any, name: str) -> Any:
    """What it has now, as it was found."""
    if isinstance(owner, FunctionType):
        return getattr(owner, name)
    return vars(owner).get(name)


def _bound_in(module: ModuleType, wanted: Mapping[int, Any]) -> Iterator[_Place]:
    """Where a module, its functions and its classes have one of these."""
    own = module.__name__
    yield from _held(module, vars(module), wanted)
    for value in [*vars(module).values()]:
        # By its type alone: some objects do things when they are asked for more.
        kind = type(value)
        if kind is FunctionType:
            if value.__module__ == own and (value.__defaults__ or value.__kwdefaults__):
                yield from _defaults_of(value, wanted)
        elif (kind is type or issubclass(kind, type)) and (
            vars(value).get("__module__") == own
        ):
            yield from _held(value, vars(value), wanted)
            for one in [*vars(value).values()]:
                if type(one) is FunctionType and (
                    one.__defaults__ or one.__kwdefaults__
                ):
                    yield from _defaults_of(one, wanted)


def _held(
    owner: Any, names: Mapping[str, object], wanted: Mapping[int, Any]
) -> list[_Place]:
    """Where a module or a class has one of these itself."""
    # Most have none, and a look at each name is ten times as slow as this.
    if wanted.keys().isdisjoint(map(id, [*names.values()])):
        return []
    return [
        (owner, name, value) for name, value in [*names.items()] if id(value) in wanted
    ]


def _defaults_of(function: FunctionType, wanted: Mapping[int, Any]) -> Iterator[_Place]:
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
