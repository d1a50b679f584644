"""Storage code that uses `open` and `os`, run on a simulated disk in process.

    patched       the patch: functions are replaced, for as long as a block lasts
    replacements  which functions, and whose a call is
    calls         what a call does that is given a file of the disk
    files         open files: descriptors with positions, io objects
    folders       what a listing of a directory consists of
    paths         paths by which Linux comes to no file
    stand_ins     what stands in the place of a function
    kept          functions that code keeps from its import
    held          functions that it keeps in objects, closures and containers
    threads       the threads of an execution, and that they end with it
    sqlite        SQLite, as the module sqlite3 uses it
    foreign       functions of the C library, as ctypes calls them
    elsewhere     files of the machine that an execution leaves to a later one
    audit         what reaches the machine past the patch

What it covers, and what it refuses, is said in `block`.
"""

from tornpage.system import require_posix

require_posix()

from tornpage.patch.block import (  # noqa: E402 - what it imports may be missing
    PatchError,
    UnsupportedCallError,
    patched,
)

__all__ = ["PatchError", "UnsupportedCallError", "patched"]
