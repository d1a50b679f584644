"""Source lines: who made a call, outside of this package.

Theory
======
An operation is blamed on the innermost line that is not tornpage's and not in a file
that only passes calls on (its *plumbing*: a pager, the standard library's shutil):

    store.py:40  put         <- blamed
    pager.py:7   write       plumbing
    file.py      pwritev     tornpage

Where there is no such line the innermost one is as good as any. Lines outside of the
function that called the code under test are none of its lines (`outermost`): who that
is depends on how a run was begun, and another process makes the same call from another
line.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["called_from", "chain", "is_ours", "outermost", "raised_at", "site"]

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_LIBRARY = sysconfig.get_path("stdlib") + os.sep
# Folders in that one for what is not the interpreter's.
_INSTALLED = ("site-packages", "dist-packages")

_F = TypeVar("_F", bound="Callable[..., Any]")

_OUTERMOST: set[CodeType] = set()

_PACKAGE = "__init__.py"

# Lines of a chain; a commit is never called from deeper than this.
_DEPTH = 12


def is_ours(path: str) -> bool:
    """Whether a source file is one of this package."""
    return path.startswith(_HERE)


def outermost(function: _F) -> _F:
    """Mark a function that calls code under test: no line beyond it is blamed."""
    assert isinstance(function, FunctionType)
    _OUTERMOST.add(function.__code__)
    return function


def site(plumbing: frozenset[str] = frozenset()) -> str:
    """The innermost line outside this package and outside the plumbing."""
    frame = innermost = sys._getframe(2)
    while True:
        name = _outside(frame.f_code.co_filename)
        if name:
            if name not in plumbing:
                return f"{name}:{frame.f_lineno}"
            if is_ours(innermost.f_code.co_filename):
                innermost = frame
        if frame.f_back is None or frame.f_code in _OUTERMOST:
            name = _shown(innermost.f_code.co_filename)
            return f"{name}:{innermost.f_lineno}"
        frame = frame.f_back


@lru_cache(4096)
def _outside(path: str) -> str:
    """The name of a source file outside this package; "" for one inside."""
    return "" if is_ours(path) else _shown(path)


@lru_cache(4096)
def _shown(path: str) -> str:
    """A source file's name; "package/__init__.py" where that alone says nothing."""
    folder, _, name = path.rpartition(os.sep)
    return f"{folder.rpartition(os.sep)[2]}/{name}" if name == _PACKAGE else name


def raised_at(error: BaseException, plumbing: frozenset[str] = frozenset()) -> str:
    """The innermost of these lines that an exception came by."""
    found = innermost = "?"
    trace = error.__traceback__
    while trace is not None:
        place = trace.tb_frame.f_code.co_filename
        name = _shown(place)
        innermost = f"{name}:{trace.tb_lineno}"
        if not place.startswith(_HERE) and name not in plumbing:
            found = innermost
        trace = trace.tb_next
    return innermost if found == "?" else found


def called_from(error: BaseException, plumbing: frozenset[str] = frozenset()) -> str:
    """The line that the standard library raised an exception for; "" if it did not.

    A store that reads half a file has json raise, at a line that says nothing of it.
    """
    caller = ""
    raised_by_library = False
    trace = error.__traceback__
    while trace is not None:
        place = trace.tb_frame.f_code.co_filename
        name = _shown(place)
        if not is_ours(place) and name not in plumbing:
            raised_by_library = _is_library(place)
            if not raised_by_library:
                caller = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return caller if raised_by_library else ""


def _is_library(path: str) -> bool:
    """Whether a source file is the interpreter's own."""
    if path.startswith("<frozen "):
        return True
    installed = any(f"{os.sep}{name}{os.sep}" in path for name in _INSTALLED)
    return path.startswith(_LIBRARY) and not installed


def chain() -> tuple[str, ...]:
    """The lines outside this package that led here, innermost first."""
    frame = sys._getframe(2)
    lines: list[str] = []
    while frame is not None and len(lines) < _DEPTH:
        code = frame.f_code.co_filename
        if not code.startswith(_HERE):
            lines.append(f"{_shown(code)}:{frame.f_lineno}")
        elif lines:
            break
        if frame.f_back is None:
            break
        frame = frame.f_back
    return tuple(lines)
