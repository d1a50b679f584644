"""What a recovery returned, as something that can be told from other such things.

The explorer asks for outcomes that are hashable; users return lists and dicts. What is
kept is a copy, because code under test goes on with what it has returned.

    key      hashable, and another one for whatever a check can tell apart
    value    a copy of the thing itself

What it is not: a judge of what is seen. That is the subject's `check`.
"""

from __future__ import annotations

import copy
import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from tornpage.subject import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Seen", "copy_of", "key_of", "seen_of"]


def key_of(value: Any) -> Hashable:
    """Hashable, and another one for whatever a check can tell apart.

    Of outcomes with the same key one is judged. So one list is not one tuple.
    """
    key = _key_of_content(value)
    more = None if type(value) in _BUILT_IN else _besides(value)
    return key if more is None else (key, more)


def _key_of_content(value: Any) -> Hashable:
    if isinstance(value, dict):
        # In their order, although dicts are equal in any: a check may look at it.
        pairs = tuple((key_of(k), key_of(v)) for k, v in value.items())
        return type(value).__name__, pairs
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(key_of, value))
    if isinstance(value, set | frozenset):
        return "set", frozenset(map(key_of, value))
    if isinstance(value, bytearray):
        return "bytearray", bytes(value)
    if isinstance(value, deque):
        return "deque", tuple(map(key_of, value))
    if is_dataclass(value) and not isinstance(value, type):
        compared = (one.name for one in fields(value) if one.compare)
        return _named(value), tuple(key_of(getattr(value, name)) for name in compared)
    _require_comparable(value)
    # 1, 1.0 and True are equal; as something seen they are three things.
    if isinstance(value, float | complex):
        # And so are 0.0 and -0.0.
        return type(value).__name__, value, repr(value)
    return type(value).__name__, value


_BUILT_IN = frozenset(
    {
        *(bool, bytearray, bytes, complex, deque, dict, float, frozenset, int, list),
        *(set, str, tuple),
    }
)
_EQUALITIES = frozenset(one.__eq__ for one in _BUILT_IN)


def _besides(value: Any) -> Hashable:
    """What the == of a list or the like leaves out: attributes of a class made of one.

    What a class's own == leaves out is its own affair.
    """
    if type(value).__eq__ not in _EQUALITIES or isinstance(value, enum.Enum):
        return None
    state = object.__getstate__(value)
    return None if state is None else key_of(state)


# What there is one of, so that it is equal to itself only and compares all the same.
_SINGLE = (type(None), type(...), type, enum.Enum, FunctionType)


def _named(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):
        return False
    return True


def _require_comparable(value: Any) -> None:
    """Refuse what makes no two outcomes equal, or none that can be kept.

    Raises:
        SubjectError: It is an iterator, cannot be hashed or is equal to nothing else.
    """
    kind: Any = type(value)
    if isinstance(value, Iterator):
        why = "can be read once only"
    elif not _hashable(value):
        why = "cannot be hashed"
    elif kind.__eq__ is object.__eq__ and not isinstance(value, _SINGLE):
        why = "is equal to nothing but itself"
    else:
        return
    raise SubjectError(
        f"recover: it returned a {kind.__name__}, which {why}; return strings, numbers,"
        " lists, dicts, sets, dataclasses, or what is made of these"
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What recovery returned.

    Attributes:
        key: Stands for it where outcomes are told apart.
        value: The thing itself, or a copy that nobody else has.
    """

    key: Hashable
    value: Any = field(compare=False)

    def __reduce__(self) -> tuple[Callable[[Any], Seen], tuple[Any]]:
        """From the value, so that a copy of it that is another one has another key."""
        return seen_of, (self.value,)


def seen_of(value: Any) -> Seen:
    """What is kept of what a recovery returned.

    Raises:
        SubjectError: It cannot be told from another one.
    """
    return Seen(key_of(value), copy_of(value))


def copy_of(value: Any) -> Any:
    """A copy, where there can be one.

    Code under test goes on with what it has returned: recovery may fill the same dict
    each time. And what `check` changes in what it was given is its own affair.
    """
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - whatever a class of somebody else raises
        return value
