"""What os.stat says of a file of the disk, and which of it is made up.

Theory
======
A simulated file has a number, a kind and a size. It has no times, and nobody counts its
names. Code that decides by these does not decide as on the machine:

    os.stat("/db/index").st_mtime < os.stat("/db/data").st_mtime     0 < 0
    os.stat("/db/claim").st_nlink == 2                               1 == 2

Nothing is wrong with asking; shutil's copies do, and hand the times on. So nothing is
refused. But what a recovery did then is no proof of what it does on the machine, where
a crash may leave the times of before: it breaks a promise, or nothing is known. Of a
run that has asked the certificate says so.

What it is not: `os.stat_result`, which nothing can be derived from. It has what that
has, and passes for one.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

from tornpage.call_site import site

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornpage.disk.simulated import Disk

__all__ = ["Status", "status_of"]

_TIMES: Final = ("atime", "mtime", "ctime")
_SECONDS: Final = frozenset(f"st_{one}" for one in _TIMES)
_NANOSECONDS: Final = frozenset(f"st_{one}_ns" for one in _TIMES)

# What a tuple does with all of its fields, each by itself: `!=` asks no `__eq__`.
_WITH_ALL: Final = (
    "__add__",
    "__contains__",
    "__eq__",
    "__ge__",
    "__gt__",
    "__hash__",
    "__iter__",
    "__le__",
    "__lt__",
    "__mul__",
    "__ne__",
    "__rmul__",
    "count",
    "index",
)


class Status(tuple[Any, ...]):  # noqa: SLOT001 - a tuple of any length has none.
    """As os.stat_result; what is made up tells the disk that somebody asked for it.

    Attributes:
        real: The same as an os.stat_result.
        disk: The disk.
    """

    real: os.stat_result
    disk: Disk

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return os.stat_result

    def __getattr__(self, name: str) -> Any:
        if name in _SECONDS or name in _NANOSECONDS:
            self._times()
        elif name == "st_nlink":
            self._names()
        return getattr(self.real, name)

    def __getitem__(self, at: Any) -> Any:
        asked = range(len(self))[at]
        places = asked if isinstance(asked, range) else (asked,)
        if stat.ST_NLINK in places:
            self._names()
        if not {stat.ST_ATIME, stat.ST_MTIME, stat.ST_CTIME}.isdisjoint(places):
            self._times()
        return super().__getitem__(at)

    def __repr__(self) -> str:
        return repr(self.real)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        self._all()
        made: tuple[Callable[..., Any], tuple[Any, ...]] = self.real.__reduce__()  # type: ignore[assignment]
        return made

    def _all(self) -> None:
        self._times()
        self._names()

    def _times(self) -> None:
        self._note("times of files, which are 0 here")

    def _names(self) -> None:
        self._note("how many names a file has, which is 1 here")

    def _note(self, what: str) -> None:
        frame = sys._getframe(2)
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        if frame.f_code.co_filename != shutil.__file__:
            line = site(self.disk.trace.plumbing)
            self.disk.made_up.setdefault(what, f"{what} (asked for at {line})")


def _asking_for_all(name: str) -> Callable[..., Any]:
    of_tuple = getattr(tuple, name)

    def method(self: Status, *given: Any) -> Any:
        self._all()
        return of_tuple(self, *given)

    return method


for _name in _WITH_ALL:
    setattr(Status, _name, _asking_for_all(_name))


def status_of(disk: Disk, kind: int, inode: int, size: int, block: int) -> Status:
    """The status of a file or directory.

    Args:
        disk: The disk that has it.
        kind: Its mode.
        inode: Its number.
        size: Its size.
        block: How much is worth reading at once.
    """
    fields = (kind, inode, 1, 1, 0, 0, size, 0, 0, 0)
    more: dict[str, Any] = {"st_blksize": block, "st_blocks": -(-size // 512)}
    more.update(dict.fromkeys(_SECONDS, 0.0), **dict.fromkeys(_NANOSECONDS, 0))
    made = Status(fields)
    made.real, made.disk = os.stat_result(fields, more), disk
    return made
