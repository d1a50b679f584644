"""Functions that code keeps from its import: `from os import fsync`.

Theory
======
    store.py   from os import fsync                a name of a module
    codec.py   def put(self, write=os.write)       a default argument
    files.py   class File: opened = os.open        an attribute of a class
               class File: sync = staticmethod(os.fsync)

All of these are replaced and put back as the names of `os` are. What a module keeps is
looked up once, when the first block after its import begins or ends; a module that was
imported inside a block kept that block's replacements, and is given the real functions.

A test may put something of its own there, a bug to plant for instance. That stays, and
what it stands for is not forgotten:

    run begins    store.fsync is os.fsync        looked up: no bug is planted yet
    bug planted   store.fsync is a lambda        left alone by every block
    bug gone      store.fsync is os.fsync        replaced in every block

So the names of all modules but those of the standard library are looked at once more
when a run begins, a test before this one may have had something there: if any of the
functions has another number of references than behind the last such look. Without this
condition it was 42 ms of each run in a process with 1,100 modules. A default argument
that came back to one of these is one more reference, too, which `held` sees; it has
all of them looked at then.

What it is not: it does not look into closures, instances and containers, and not again
at what a module got after its import; `held` does. Of what `held` does not look for (a
class, what is noted besides) a name is missed that came back to it while as many other
references went: what is done with it is refused (`audit`), or differs.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from tornpage.holders import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Kept", "Pair", "Place"]

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
        "time",
    }
)
_OURS = "tornpage."
_DEFAULTS = ("__defaults__", "__kwdefaults__")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A real function, and what takes its place.

    Attributes:
        real: That function.
        ours: The other one.
    """

    real: Any
    ours: Any


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where something is replaced while a block lasts.

    Attributes:
        owner: A module, class or function.
        name: Its attribute.
        has: What it has outside of all blocks.
        put: What it has in one.
    """

    owner: Any
    name: str
    has: Any
    put: Any

    def replace(self) -> None:
        """Put it there."""
        setattr(self.owner, self.name, self.put)

    def put_back(self) -> None:
        """The reverse."""
        setattr(self.owner, self.name, self.has)


class Kept:
    """Places that are bound to functions that get replaced.

    Args:
        besides: What is noted, too, though blocks leave it as it is.
    """

    def __init__(self, besides: Iterable[Any] = ()) -> None:
        self._besides = {identity(one): one for one in besides}
        self._known: dict[str, object] = {}
        self._last: tuple[int, object] = (0, None)
        self._referred_to: list[int] = []
        # By what they consist of: a place is found more than once.
        self._found: dict[tuple[int, str, int], Place] = {}

    def places(self, functions: Sequence[Pair]) -> Iterator[Place]:
        """Those that have one now.

        Args:
            functions: What is replaced.
        """
        ours = {identity(one.real): one.ours for one in functions}
        wanted = self._besides | ours
        for module in self._new():
            self._add(_bound_in(module, wanted))
        for found in self._found.values():
            owner, name, has = found.owner, found.name, found.has
            put = _with(has, ours)
            if put is None:
                continue
            # Something else is there when a test has put it there. What it puts back
            # may be the replacement: a block has found it with the test (`held`).
            there = _value(owner, name)
            if there is has or there is put:
                # A replacement may be a function of Python's: a class would bind it.
                bound = isinstance(owner, type) and type(put) is not staticmethod
                yield Place(owner, name, has, staticmethod(put) if bound else put)

    def references(self) -> Counter[int]:
        """How often each function is referred to from here, by its identity."""
        counted: Counter[int] = Counter()
        consist: dict[int, Any] = {}
        for found in self._found.values():
            if isinstance(found.has, (dict, staticmethod, tuple)):
                consist[identity(found.has)] = found.has
            else:
                counted[identity(found.has)] += 1
        for one in consist.values():
            counted.update(map(identity, _inside(one)))
        return counted

    def put_back(self, functions: Sequence[Pair]) -> None:
        """Give modules that were imported inside a block the real functions.

        Args:
            functions: What is replaced.
        """
        for module in self._new():
            self._add(_bound_in(module, self._besides))
            reals = {identity(one.ours): one.real for one in functions}
            for found in _bound_in(module, reals):
                real = _with(found.has, reals)
                setattr(found.owner, found.name, real)
                self._add([Place(found.owner, found.name, real, None)])

    def look_again(self, functions: Sequence[Pair]) -> None:
        """Look at all modules.

        Args:
            functions: What is replaced.
        """
        ours = {identity(one.real): one.ours for one in functions}
        for module in self._once_more():
            self._add(_bound_in(module, self._besides | ours))

    def look_at_names(self, functions: Sequence[Pair]) -> None:
        """Look at the names of all modules and classes, if one may have changed.

        At default arguments only of modules that were never looked at.

        Args:
            functions: What is replaced.
        """
        ours = {identity(one.real): one.ours for one in functions}
        wanted = self._besides | ours
        for module in self._new():
            self._add(_bound_in(module, wanted))
        if self._referred_to != self._references_to(functions):
            for module in self._once_more():
                self._add(_bound_in(module, wanted, defaults=False))
            self._referred_to = self._references_to(functions)

    def _references_to(self, functions: Sequence[Pair]) -> list[int]:
        """How often each of what is looked for is referred to, by anybody."""
        things = [*self._besides.values(), *(one.real for one in functions)]
        return [*map(sys.getrefcount, things)]

    def _once_more(self) -> Iterator[ModuleType]:
        """All modules but the standard library's."""
        known = self._known.items()
        self._known = {
            name: module
            for name, module in known
            if name.partition(".")[0] in sys.stdlib_module_names
        }
        self._last = (0, None)
        return self._new()

    def _add(self, found: Iterable[Place]) -> None:
        for place in found:
            self._found[identity(place.owner), place.name, identity(place.has)] = place

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


def _bound_in(
    module: ModuleType, wanted: Mapping[int, Any], *, defaults: bool = True
) -> Iterator[Place]:
    """Where a module, its functions and its classes have one of these."""
    own = module.__name__
    yield from _held(module, vars(module), wanted)
    for value in [*vars(module).values()]:
        # By its type alone: some objects do things when they are asked for more.
        kind = type(value)
        if kind is FunctionType:
            if defaults and value.__module__ == own and _has_some(value, wanted):
                yield from _defaults_of(value, wanted)
        elif (kind is type or issubclass(kind, type)) and (
            vars(value).get("__module__") == own
        ):
            yield from _held(value, vars(value), wanted)
            for name, one in [*vars(value).items()]:
                if type(one) is staticmethod and identity(one.__func__) in wanted:
                    yield Place(value, name, one, None)
                elif defaults and type(one) is FunctionType and _has_some(one, wanted):
                    yield from _defaults_of(one, wanted)


def _held(
    owner: Any, names: Mapping[str, object], wanted: Mapping[int, Any]
) -> list[Place]:
    """Where a module or a class has one of these itself."""
    # Most have none, and a look at each name is ten times as slow as this.
    if wanted.keys().isdisjoint(map(identity, [*names.values()])):
        return []
    return [
        Place(owner, name, value, None)
        for name, value in [*names.items()]
        if identity(value) in wanted
    ]


def _has_some(function: FunctionType, wanted: Mapping[int, Any]) -> bool:
    """Whether it has one of these as a default argument."""
    if function.__defaults__:
        for one in function.__defaults__:
            if identity(one) in wanted:
                return True
    if function.__kwdefaults__:
        for one in function.__kwdefaults__.values():
            if identity(one) in wanted:
                return True
    return False


def _defaults_of(function: FunctionType, wanted: Mapping[int, Any]) -> Iterator[Place]:
    for name in _DEFAULTS:
        has = getattr(function, name)
        if has and _with(has, wanted) is not None:
            yield Place(function, name, has, None)


def _inside(has: Any) -> Iterable[Any]:
    if isinstance(has, staticmethod):
        return (has.__func__,)
    return has.values() if isinstance(has, dict) else tuple(has)


def _with(has: Any, wanted: Mapping[int, Any]) -> Any:
    """The same with the others in place of those; None when it has none of them."""
    if not isinstance(has, (dict, staticmethod, tuple)):
        return wanted.get(identity(has))
    if not any(identity(one) in wanted for one in _inside(has)):
        return None
    if isinstance(has, staticmethod):
        return staticmethod(wanted[identity(has.__func__)])
    if isinstance(has, dict):
        return {name: wanted.get(identity(one), one) for name, one in has.items()}
    return tuple(wanted.get(identity(one), one) for one in has)
