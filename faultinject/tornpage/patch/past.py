"""Code in C that has asked the machine for a file of the disk, told by how it fails.

Theory
======
What C code does with files by itself is not simulated, and nobody is told of it. But
there is no such file on the machine, so it fails, and mostly says so:

    lmdb.open("/db/x")      lmdb.Error: /db/x: No such file or directory
    array.tofile(file)      OSError, of a descriptor that no process has
    readline.write_history_file("/db/x")     FileNotFoundError

That is no outcome of the store: where the disk is a real one the call works. Whoever
judges would take it for a promise that is broken without any crash. So such an
exception is refused when it leaves the block. It is one that

* no line of Python has raised, neither a store's nor one of this package, and
* is an OSError about a bad descriptor, or about a name below the root; or, on a disk
  that has not crashed, one that says neither what is wrong nor with which file, or only
  that it is not there. After a crash that may be a library's word for damage that it
  was given to read;
* or says a name below the root, and is of a type that the interpreter and its library
  raise for nothing of the kind.

What it is not: complete. Code that catches the exception and goes on has a disk on
which nothing of that is ever there.
"""

from __future__ import annotations

import dis
import errno
import io
import sys
from typing import TYPE_CHECKING, Final

from tornpage.call_site import is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["asked_of_the_machine"]

# Cython gives its functions frames, whose code has no instructions to look at.
_CYTHON: Final = (".pyx", ".pxd", ".pxi")

_RAISING: Final = frozenset({"RAISE_VARARGS", "RERAISE"})

# What bindings raise that have no type of their own (pybind11, pyo3).
_OF_BINDINGS: Final = (Exception, RuntimeError)


def asked_of_the_machine(
    error: BaseException, root: str, *, crashed: bool
) -> BaseException | None:
    """The exception that tells of it: this one, or one that led to it.

    Args:
        error: What leaves a block.
        root: The directory in which all names of the disk are.
        crashed: Whether the disk is what a crash has left.
    """
    for one in _led_to(error):
        if _says_so(one, root, crashed=crashed) and _raised_in_c(one.__traceback__):
            return one
    return None


def _led_to(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _says_so(error: BaseException, root: str, *, crashed: bool) -> bool:
    named = f"{root}/" in str(error)
    if isinstance(error, OSError):
        # Python's own files say that for a mode.
        if isinstance(error, io.UnsupportedOperation):
            return False
        if named or error.errno == errno.EBADF:
            return True
        anonymous = error.filename is None and error.errno in {None, errno.ENOENT}
        return anonymous and not crashed
    kind = type(error)
    foreign = kind.__module__.partition(".")[0] not in sys.stdlib_module_names
    return named and (foreign or kind in _OF_BINDINGS)


def _raised_in_c(trace: TracebackType | None) -> bool:
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if is_ours(code.co_filename):
        return False
    if code.co_filename.endswith(_CYTHON):
        return True
    return dis.opname[code.co_code[trace.tb_lasti]] not in _RAISING
