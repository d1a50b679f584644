"""Who holds a thing: every place from which code can get it, and what to put there.

    store.py    _lock = Lock()                    a module
                class Store: gate = Lock()        a class
                def put(key, lock=Lock()): ...    a default argument
                lock_for = cache(lambda key: Lock())
                _pool = Pool()                    an object, and in it a condition,
                                                  and in that a lock, and its methods

The garbage collector knows who refers to what, whatever the way that leads there. So
nothing is searched for from above: it is asked who refers to the things. What refers to
one and cannot be changed (a tuple, a method of it, a partial call) is made anew with
the other one inside, and whoever refers to that is asked for in turn.

What it is not: it does not change what C code keeps for itself (the results of a
`functools.lru_cache` with a limit), a running function's variables, keys of
dictionaries, modules of the standard library and of tornpage. All but variables and
modules it names.
"""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import (
    BuiltinMethodType,
    CellType,
    FrameType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Holders", "Place", "all_told_of", "identity", "said_of"]

identity: Final[Callable[[object], int]] = object.__hash__
"""`id` in all but the number, which is the address, too. Of each call of `id` the audit
hooks are told, and a patch adds one: 290 ns instead of 40, and 1,000s of calls for each
look at the modules. This takes 80 ns."""

_NOT_OURS_TO_CHANGE: Final = frozenset(
    {"_frozen_importlib", "_frozen_importlib_external", "importlib", "tornpage"}
)
"""Whose objects keep what they have: locks of imports, and what a run stands on."""

_METHODS: Final = frozenset({BuiltinMethodType, MethodWrapperType})
_WRAPPERS: Final = frozenset({classmethod, staticmethod})

_OF_THREADS: Final = frozenset({"_handle", "_tstate_lock"})
"""What C code releases when a thread ends."""


_FROZEN_AT_START: Final = 2000
"""More objects are frozen because somebody has said so: Python 3.12 begins with 375. To
freeze everything behind these would leave a program's files unflushed at its end."""


@contextmanager
def all_told_of() -> Iterator[None]:
    """While entered, the collector tells of what it was made to leave alone, too.

    `gc.freeze` hides what is there from the collector, and so from who asks it. A test
    runner may have called it, and a copy of a process has.
    """
    if gc.get_freeze_count() < _FROZEN_AT_START:
        yield
        return
    collects = gc.isenabled()
    gc.disable()
    gc.unfreeze()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where something is held.

    Attributes:
        holder: What holds it.
        key: Under which name, key or index; None for a set and a cell.
        has: What is held.
        put: What is put there.
    """

    holder: Any
    key: Any
    has: Any
    put: Any

    def replace(self) -> bool:
        """Put the other one there; whether this one was."""
        return _exchange(self.holder, self.key, self.has, self.put)

    def put_back(self) -> bool:
        """The reverse."""
        return _exchange(self.holder, self.key, self.put, self.has)


class Holders:
    """Where some things are held, in the whole process.

    Args:
        things: What; in no other list or tuple of the caller's.
        stand_in: What to put in the place of one.

    Attributes:
        places: All of them.
        unchanged: What holds some and could not be changed.
        others: What would be put there, by the identity of what is held.
    """

    def __init__(self, things: list[Any], stand_in: Callable[[Any], Any]) -> None:
        self.places: list[Place] = []
        self.unchanged: list[Any] = []
        self._classes: dict[int, type] = {}
        self._modules = {
            identity(vars(module)): name
            for name, module in list(sys.modules.items())
            if isinstance(module, ModuleType)
        }
        # The locks of all threads, for the interpreter's end.
        self._apart = set(map(identity, vars(threading).values()))
        found = things
        others = self.others = {identity(one): stand_in(one) for one in things}
        # Identities are of no use for what is gone.
        kept: list[Any] = [things]
        # Of the tuple that an interpreter may make of the arguments of a call.
        mark = object()
        while found:
            anew: list[Any] = []
            anew_others: dict[int, Any] = {}
            these = {identity(one): others[identity(one)] for one in found}
            mine = {identity(kept), identity(anew), *map(identity, kept)}
            mine |= set(map(identity, (self, others, these, anew_others)))
            for holder in gc.get_referrers(*found, mark):
                if identity(holder) in mine or identity(holder) in others:
                    continue
                if type(holder) is tuple and holder and holder[-1] is mark:
                    continue
                copy = _copied(holder, others)
                if copy is not None:
                    anew.append(holder)
                    anew_others[identity(holder)] = copy
                elif not self._is_kept_out(holder):
                    self._look_into(holder, these)
            others |= anew_others
            kept.append(anew)
            found = anew

    def _is_kept_out(self, holder: Any) -> bool:
        kind = type(holder)
        if kind is FrameType or identity(holder) in self._apart:
            return True
        if kind is dict:
            module = self._modules.get(identity(holder))
            if module is None:
                return False
            top = module.partition(".")[0]
            return top in _NOT_OURS_TO_CHANGE or top in sys.stdlib_module_names
        top = str(kind.__module__).partition(".")[0]
        return top in _NOT_OURS_TO_CHANGE

    def _look_into(self, holder: Any, others: Mapping[int, Any]) -> None:
        if type(holder) is dict and "__module__" in holder:
            if not self._classes:
                self._classes = _class_dictionaries()
            holder = self._classes.get(identity(holder), holder)
        before = len(self.places)
        for at, key, value in _items(holder):
            if identity(value) in others and key not in _OF_THREADS:
                self.places.append(Place(at, key, value, others[identity(value)]))
        if len(self.places) == before:
            self.unchanged.append(holder)


def _copied(holder: Any, others: Mapping[int, Any]) -> Any:
    """What cannot be changed, with the other one inside; None: it can, or can't be."""
    kind = type(holder)
    if kind in _METHODS:
        other = others.get(identity(holder.__self__))
        return None if other is None else getattr(other, holder.__name__, None)
    if kind is MethodType:
        call, of = holder.__func__, holder.__self__
        return MethodType(
            others.get(identity(call), call), others.get(identity(of), of)
        )
    if kind in _WRAPPERS:
        other = others.get(identity(holder.__func__))
        return None if other is None else kind(other)
    if kind is frozenset:
        return frozenset(others.get(identity(one), one) for one in holder)
    if issubclass(kind, tuple):
        with suppress(TypeError):
            # Those of the interpreter are not made so, and hold no locks.
            return tuple.__new__(
                kind, (others.get(identity(one), one) for one in tuple.__iter__(holder))
            )
    if kind is functools.partial:
        call, given = holder.func, holder.args
        return functools.partial(
            others.get(identity(call), call),
            *others.get(identity(given), given),
            **{
                key: others.get(identity(one), one)
                for key, one in holder.keywords.items()
            },
        )
    return None


def _items(holder: Any) -> Iterator[tuple[Any, Any, Any]]:
    """What something holds: in what of it, by which key, what."""
    kind = type(holder)
    if kind is FunctionType:
        yield holder, "__defaults__", holder.__defaults__
        return
    if issubclass(kind, type):
        own = type.__dict__["__dict__"].__get__(holder)
        yield from ((holder, key, one) for key, one in list(own.items()))
        return
    if kind is CellType:
        with suppress(ValueError):
            yield holder, None, holder.cell_contents
    elif issubclass(kind, dict):
        yield from ((holder, key, one) for key, one in list(dict.items(holder)))
    elif issubclass(kind, (list, deque)):
        yield from ((holder, index, one) for index, one in enumerate(list(holder)))
    elif issubclass(kind, set):
        yield from ((holder, None, one) for one in list(holder))
    # Of an object of any kind; nothing of its own is called.
    with suppress(AttributeError):
        own = object.__getattribute__(holder, "__dict__")
        yield from ((own, key, one) for key, one in list(own.items()))
    for base in kind.__mro__:
        for slot in list(vars(base).values()):
            if type(slot) is MemberDescriptorType:
                with suppress(AttributeError):
                    yield holder, slot, slot.__get__(holder)


def _exchange(holder: Any, key: Any, has: Any, put: Any) -> bool:
    """Put the one where the other one is; whether it was there."""
    kind = type(holder)
    if issubclass(kind, dict):
        there = dict.get(holder, key) is has
        if there:
            dict.__setitem__(holder, key, put)
        return there
    if type(key) is MemberDescriptorType:
        with suppress(AttributeError, TypeError):
            if key.__get__(holder) is has:
                key.__set__(holder, put)
                return True
        return False
    if issubclass(kind, (list, deque)):
        # It may have moved.
        found = [index for index, one in enumerate(holder) if one is has]
        for index in found:
            holder[index] = put
        return bool(found)
    there = any(one is has for _, name, one in _items(holder) if name == key)
    if not there:
        return False
    if issubclass(kind, set):
        holder.discard(has)
        holder.add(put)
    elif issubclass(kind, CellType):
        holder.cell_contents = put
    elif issubclass(kind, type):
        type.__setattr__(holder, key, put)
    else:
        setattr(holder, key, put)
    return True


def _class_dictionaries() -> dict[int, type]:
    return {
        identity(inner): one
        for one in _classes()
        for inner in gc.get_referents(one)
        if type(inner) is dict and inner.get("__module__") == one.__module__
    }


def _classes() -> list[type]:
    """All that there are, by their bases: among all objects it takes ten times as long.

    By identity: one of an odd metaclass may have no hash.
    """
    found: list[type] = [object]
    seen = {identity(object)}
    for one in found:
        below: type
        for below in type.__subclasses__(one):
            if identity(below) not in seen:
                seen.add(identity(below))
                found.append(below)
    return found


def said_of(holder: Any) -> str:
    """What something is, in a few words; nothing of its own is called."""
    kind = type(holder)
    if kind is functools._lru_cache_wrapper:
        return f"the cache of {holder.__module__}.{holder.__qualname__}"
    return f"an object of {kind.__module__}.{kind.__qualname__}"
