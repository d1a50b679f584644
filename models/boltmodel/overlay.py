"""Entries of a large bucket, of which a changed copy costs what is changed.

A state of the model is kept for every commit. Those of a database with a million keys
differ in a few, and a copy of a dict of a million takes 40 ms:

    base       the entries of some earlier state; shared, never changed
    changed    what stands there instead, or that nothing does

A copy shares the base and copies the changes; when these have become many, the whole
is made new (`copied`).

What it is not: fast to walk. It is meant to be asked for single keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final, Generic, TypeVar

__all__ = ["Overlay", "copied"]

V = TypeVar("V")

_LARGE: Final = 4096
"""Entries of which a dict is copied as fast as what an overlay then costs."""

_SHARE: Final = 4
"""A fourth of the base changed: from then on a dict is better."""


class Overlay(MutableMapping[bytes, V], Generic[V]):
    """A mapping over another one that is not changed.

    Args:
        base: What is there at first. Nobody may change it any more.
        changed: What is there instead, None for nothing; it becomes this object's own.
    """

    __slots__ = ("_base", "_changed", "_length")

    def __init__(
        self,
        base: dict[bytes, V],
        changed: dict[bytes, V | None] | None = None,
        length: int | None = None,
    ) -> None:
        self._base = base
        self._changed: dict[bytes, V | None] = {} if changed is None else changed
        self._length = len(base) if length is None else length

    def __getitem__(self, key: bytes) -> V:
        if key in self._changed:
            found = self._changed[key]
            if found is None:
                raise KeyError(key)
            return found
        return self._base[key]

    def __setitem__(self, key: bytes, value: V) -> None:
        self._length += key not in self
        self._changed[key] = value

    def __delitem__(self, key: bytes) -> None:
        if key not in self:
            raise KeyError(key)
        self._length -= 1
        if key in self._base:
            self._changed[key] = None
        else:
            del self._changed[key]

    def __contains__(self, key: object) -> bool:
        if key in self._changed:
            return self._changed[key] is not None
        return key in self._base

    def __iter__(self) -> Iterator[bytes]:
        base, changed = self._base, self._changed
        for key in base:
            if key not in changed or changed[key] is not None:
                yield key
        for key, value in changed.items():
            if value is not None and key not in base:
                yield key

    def __len__(self) -> int:
        return self._length

    def copy(self) -> dict[bytes, V] | Overlay[V]:
        """The same entries, to be changed."""
        if len(self._changed) * _SHARE > len(self._base):
            return dict(self.items())
        return Overlay(self._base, dict(self._changed), self._length)


def copied(entries: Mapping[bytes, V]) -> dict[bytes, V] | Overlay[V]:
    """A copy to be changed of entries that will not be."""
    if isinstance(entries, Overlay):
        return entries.copy()
    if isinstance(entries, dict) and len(entries) > _LARGE:
        return Overlay(entries)
    return dict(entries)
