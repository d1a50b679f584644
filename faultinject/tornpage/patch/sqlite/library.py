"""The SQLite library that Python's `sqlite3` uses, and what it asks a VFS for.

Theory
======
SQLite does all I/O through a table of functions, a *VFS*. A program may register its
own, and which one a new connection takes:

    sqlite3.connect(name) --> library --default VFS--> xOpen, xDelete, xAccess ...
                                                          '--> a file: xRead, xWrite ...

Python's module is mostly linked with a library of its own file. Then the functions of
that are found by way of the module, and are the very ones that it calls.

What it is not: it knows no disk. These are declarations, of https://sqlite.org/c3ref.

Sources: sqlite3.h (sqlite3_vfs, sqlite3_io_methods).
"""

from __future__ import annotations

import ctypes
import re
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_void_p,
)
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FAILED",
    "FILE_CALLS",
    "VFS_CALLS",
    "File",
    "FileMethods",
    "Library",
    "Result",
    "Vfs",
    "library",
    "method_name",
]

_File = c_void_p
_Vfs = c_void_p


class Result(IntEnum):
    """What a call answers (https://sqlite.org/rescode.html)."""

    OK = 0
    BUSY = 5
    IOERR = 10
    NOTFOUND = 12
    FULL = 13
    CANTOPEN = 14
    IOERR_READ = 266
    IOERR_SHORT_READ = 522
    IOERR_WRITE = 778
    IOERR_FSYNC = 1034
    IOERR_DIR_FSYNC = 1290
    IOERR_TRUNCATE = 1546
    IOERR_FSTAT = 1802
    IOERR_UNLOCK = 2058
    IOERR_DELETE = 2570
    IOERR_ACCESS = 3338
    IOERR_CHECKRESERVEDLOCK = 3594
    IOERR_LOCK = 3850
    IOERR_CLOSE = 4106
    IOERR_SHMLOCK = 5130
    IOERR_SHMMAP = 5386
    IOERR_DELETE_NOENT = 5898


FAILED: Final[Mapping[str, Result]] = {
    "xClose": Result.IOERR_CLOSE,
    "xRead": Result.IOERR_READ,
    "xWrite": Result.IOERR_WRITE,
    "xTruncate": Result.IOERR_TRUNCATE,
    "xSync": Result.IOERR_FSYNC,
    "xFileSize": Result.IOERR_FSTAT,
    "xLock": Result.IOERR_LOCK,
    "xUnlock": Result.IOERR_UNLOCK,
    "xCheckReservedLock": Result.IOERR_CHECKRESERVEDLOCK,
    "xShmMap": Result.IOERR_SHMMAP,
    "xShmLock": Result.IOERR_SHMLOCK,
    "xOpen": Result.CANTOPEN,
    "xDelete": Result.IOERR_DELETE,
    "xAccess": Result.IOERR_ACCESS,
    "xFullPathname": Result.CANTOPEN,
}
"""What a call answers that could not be carried out; others: `Result.IOERR`."""

FILE_CALLS: Final[Mapping[str, Any]] = {
    "xClose": CFUNCTYPE(c_int, _File),
    "xRead": CFUNCTYPE(c_int, _File, c_void_p, c_int, c_int64),
    "xWrite": CFUNCTYPE(c_int, _File, c_void_p, c_int, c_int64),
    "xTruncate": CFUNCTYPE(c_int, _File, c_int64),
    "xSync": CFUNCTYPE(c_int, _File, c_int),
    "xFileSize": CFUNCTYPE(c_int, _File, POINTER(c_int64)),
    "xLock": CFUNCTYPE(c_int, _File, c_int),
    "xUnlock": CFUNCTYPE(c_int, _File, c_int),
    "xCheckReservedLock": CFUNCTYPE(c_int, _File, POINTER(c_int)),
    "xFileControl": CFUNCTYPE(c_int, _File, c_int, c_void_p),
    "xSectorSize": CFUNCTYPE(c_int, _File),
    "xDeviceCharacteristics": CFUNCTYPE(c_int, _File),
    "xShmMap": CFUNCTYPE(c_int, _File, c_int, c_int, c_int, POINTER(c_void_p)),
    "xShmLock": CFUNCTYPE(c_int, _File, c_int, c_int, c_int),
    "xShmBarrier": CFUNCTYPE(None, _File),
    "xShmUnmap": CFUNCTYPE(c_int, _File, c_int),
}
"""What is asked of an open file, in the order of version 2 of sqlite3_io_methods."""

VFS_CALLS: Final[Mapping[str, Any]] = {
    "xOpen": CFUNCTYPE(c_int, _Vfs, c_void_p, _File, c_int, POINTER(c_int)),
    "xDelete": CFUNCTYPE(c_int, _Vfs, c_char_p, c_int),
    "xAccess": CFUNCTYPE(c_int, _Vfs, c_char_p, c_int, POINTER(c_int)),
    "xFullPathname": CFUNCTYPE(c_int, _Vfs, c_char_p, c_int, POINTER(c_char)),
    "xDlOpen": c_void_p,
    "xDlError": c_void_p,
    "xDlSym": c_void_p,
    "xDlClose": c_void_p,
    "xRandomness": CFUNCTYPE(c_int, _Vfs, c_int, POINTER(c_char)),
    "xSleep": CFUNCTYPE(c_int, _Vfs, c_int),
    "xCurrentTime": CFUNCTYPE(c_int, _Vfs, POINTER(c_double)),
    "xGetLastError": CFUNCTYPE(c_int, _Vfs, c_int, POINTER(c_char)),
    "xCurrentTimeInt64": CFUNCTYPE(c_int, _Vfs, POINTER(c_int64)),
}
"""What is asked of a VFS, in the order of version 2 of sqlite3_vfs."""


def method_name(call: str) -> str:
    """What a call is called here: `xShmMap` is "shm_map"."""
    return re.sub("(?<!^)([A-Z])", r"_\1", call.removeprefix("x")).lower()


class FileMethods(ctypes.Structure):
    """sqlite3_io_methods, version 2: with shared memory, without mappings."""

    _fields_ = (("iVersion", c_int), *FILE_CALLS.items())


class Vfs(ctypes.Structure):
    """sqlite3_vfs, version 2."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        *VFS_CALLS.items(),
    )


class File(ctypes.Structure):
    """The beginning of each open file: sqlite3_file, and by what we know it."""

    _fields_ = (("pMethods", c_void_p), ("number", c_int64))


class Library:
    """The functions of SQLite that are needed here.

    Args:
        path: The file of Python's module `_sqlite3`.

    Raises:
        OSError: It cannot be loaded.
        AttributeError: The functions are not to be had by it: SQLite is a part of the
            interpreter, or hidden in the module.
    """

    def __init__(self, path: str) -> None:
        loaded = ctypes.CDLL(path)
        self.find = loaded.sqlite3_vfs_find
        self.find.restype = POINTER(Vfs)
        self.find.argtypes = (c_char_p,)
        self.register = loaded.sqlite3_vfs_register
        self.register.argtypes = (POINTER(Vfs), c_int)
        self.randomness = loaded.sqlite3_randomness
        self.randomness.restype = None
        self.randomness.argtypes = (c_int, c_void_p)
        self.flag = loaded.sqlite3_uri_boolean
        self.flag.argtypes = (c_void_p, c_char_p, c_int)


@cache
def library() -> Library | None:
    """The library of Python's module; None when it cannot be reached."""
    try:
        import _sqlite3  # noqa: PLC0415 - not every Python has it.

        return Library(_sqlite3.__file__)
    except (ImportError, AttributeError, OSError):
        return None
