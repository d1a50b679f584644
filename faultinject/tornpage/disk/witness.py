"""Everything that one execution asks of a disk, call by call.

Theory
======
A trace has what changes a disk, a tape what was decided for it. Neither has a read
whose bytes are decided already, and of two recoveries one may differ from the other in
just that: it reads a file that the other one remembers. So the witness stands between
a disk and its life and writes down each call that gets there:

    read /db/wal bytes 0..8      wal.py:19
    truncate /db/wal to 0 bytes  wal.py:24

Two lists are the same when code under test did the same things in the same places.
A call has text and numbers only, so that it can go from one process to another.

What it is not: it answers nothing itself, and changes nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tornpage.call_site import site
from tornpage.platter.entries import HERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.disk import Disk
    from tornpage.disk.life import Life
    from tornpage.platter.pieces import Place

__all__ = ["Call", "told", "witnessed"]


@dataclass(frozen=True, slots=True)
class Call:
    """Something that was asked of a disk.

    Attributes:
        text: What, in words.
        site: The source line that asked for it.
        data: Stands for the bytes that are written.
    """

    text: str
    site: str
    data: int = 0

    def __str__(self) -> str:
        return f"{self.text!r} at {self.site}"


def witnessed(disk: Disk) -> list[Call]:
    """Write down what is asked of this disk from here on; the list grows."""
    calls: list[Call] = []
    disk._life = _Witness(disk, disk._life, calls)  # type: ignore[assignment]
    return calls


def _path(life: Life, place: Place) -> str:
    folder, name = place
    # One that this life has not looked up has no path in it.
    above = "" if folder == HERE else life.folder_path(folder)
    return f"{above.rstrip('/')}/{name}" if above else name


def _data(_life: Life, node: Any, start: int, data: bytes) -> str:
    return f"write {node.path} bytes {start}..{start + len(data)}"


def _asked(question: Any) -> str:
    """What a question is called, without where it lies in memory."""
    if isinstance(question, partial):
        return f"{_asked(question.func)}{_asked(question.args)}"
    if isinstance(question, tuple):
        # A named tuple says in its fields all that it asks.
        fields = ", ".join(map(_asked, question))
        kind = type(question).__name__
        return f"{'' if kind == 'tuple' else kind}({fields})"
    if isinstance(question, int | str | bytes):
        return repr(question)
    named: str = getattr(question, "__qualname__", type(question).__qualname__)
    return named


_TEXTS: Final[dict[str, Callable[..., str]]] = {
    "lookup": lambda life, place: f"look up {_path(life, place)}",
    "create": lambda life, place: f"create {_path(life, place)}",
    "name": lambda life, place, number: (
        f"{'unlink' if number is None else 'name'} {_path(life, place)}"
    ),
    "folder": lambda life, place: f"look up {_path(life, place)}/",
    "find_folder": lambda life, place: f"look up {_path(life, place)}/",
    "make_folder": lambda life, place: f"mkdir {_path(life, place)}",
    "assume_folder": lambda life, place: f"look up {_path(life, place)}/",
    "sync_dir": lambda _, path: f"sync the directory of {path}",
    "names_in": lambda life, folder: f"list {life.folder_path(folder) or '.'}",
    "ask": lambda _, node, question: f"ask {_asked(question)} of {node.path}",
    "size": lambda _, node: f"size of {node.path}",
    "pread": lambda _, node, start, stop: f"read {node.path} bytes {start}..{stop}",
    "write": _data,
    "resize": lambda _, node, size: f"truncate {node.path} to {size} bytes",
    "sync": lambda _life, _node, kind, path: f"{kind} {path}",
}


def told(life: Life, name: str, *given: Any) -> str:
    """What a call of a life does, for people."""
    return _TEXTS[name](life, *given)


class _Witness:
    """Stands in front of a life."""

    __slots__ = ("_calls", "_disk", "_life")

    def __init__(self, disk: Disk, life: Life, calls: list[Call]) -> None:
        self._disk = disk
        self._life = life
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._life, name)
        told = _TEXTS.get(name)
        if told is None:
            return found

        def heard(*given: Any) -> Any:
            data = zlib.crc32(given[-1]) if name == "write" else 0
            text = told(self._life, *given)
            self._calls.append(Call(text, site(self._disk.trace.plumbing), data))
            return found(*given)

        return heard

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _Witness.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._life, name, value)
