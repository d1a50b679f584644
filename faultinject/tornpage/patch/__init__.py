"""Storage code that uses `open` and `os`, run on a simulated disk in process.

    patched   the patch: which functions are replaced, and for how long
    calls     what a call does that is given a file of the disk
    files     open files: descriptors with positions, io objects
    folders   what a listing of a directory consists of
    kept      functions that code keeps from its import
    threads   the threads of an execution, and that they end with it
    sqlite    SQLite, as the module sqlite3 uses it
    foreign   functions of the C library, as ctypes calls them
    audit     what reaches the machine past the patch

What it covers, and what it refuses, is said in `block`.
"""

from tornpage.patch.block import PatchError, UnsupportedCallError, patched

__all__ = ["PatchError", "UnsupportedCallError", "patched"]
