"""Whether a trace can be that of a disk of some model and files.

A disk writes its trace as its model says: under `calls=paged` one write is several
operations, and what a sync that fails does is its result. An explorer of another model
takes these operations as they are. So it would leave out what its own disk may do:

    Disk()               write 100..20100        sizes 100, 20100
    calls=paged          write 100..4096
                         write 4096..8192 ...    sizes 100, 4096, 8192 ...

What it is not: sure. It sees what cannot be, and a run that grows no file by a page
is the same under both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornpage.trace import Create, Forget, Sync, SyncDir, Truncate, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tornpage.model import CrashModel
    from tornpage.trace import Operation

__all__ = ["departure"]

_PAGE: Final = 4096

# What a sync that fails is under which `fail`.
_RESULTS: Final = {
    "failed": {"clean", "unwritten"},
    "silent": {"late"},
    "reverted": {"revert"},
}


def departure(
    operations: Sequence[Operation], sizes: Mapping[int, int], model: CrashModel
) -> str:
    """What of a run no disk of this model can have done; "" when there is nothing.

    Args:
        operations: The run.
        sizes: Those of the files before it, by inode.
        model: What the disk is said to be.
    """
    return (
        _of_no_file(operations, sizes)
        or _failing(operations, model)
        or _whole(operations, sizes, model)
    )


def _of_no_file(operations: Iterable[Operation], sizes: Mapping[int, int]) -> str:
    """A file that was neither there before nor made."""
    known = set(sizes)
    for one in operations:
        if isinstance(one, Create):
            known.add(one.inode)
        elif (
            isinstance(one, Write | Truncate | Sync | Forget) and one.inode not in known
        ):
            return f"{one.path} is not among the files, and nothing made it"
    return ""


def _failing(operations: Iterable[Operation], model: CrashModel) -> str:
    """A sync that goes as none does there."""
    in_doubt = False
    for one in operations:
        if not isinstance(one, Sync | SyncDir):
            in_doubt = in_doubt and isinstance(one, Forget)
        elif model.fail not in _RESULTS.get(one.result, {model.fail}):
            return f"a sync of {one.path} is {one.result!r}"
        elif in_doubt and one.result == "ok":
            return f"a sync of {one.path} works right behind one that failed"
        elif isinstance(one, Sync) and one.result == "failed":
            in_doubt = model.journal == "shared"
    return ""


def _whole(
    operations: Iterable[Operation], sizes: Mapping[int, int], model: CrashModel
) -> str:
    """A call made at once that is made page by page there."""
    if model.calls == "whole":
        return ""
    now = dict(sizes)
    before: Operation | None = None
    for one in operations:
        if isinstance(one, Create):
            now[one.inode] = 0
        elif isinstance(one, Write):
            old, end = now.get(one.inode, 0), one.offset + len(one.data)
            if (old // _PAGE + 1) * _PAGE < end:
                return f"a write to {one.path} makes it longer by more than a page"
            now[one.inode] = max(old, end)
        elif isinstance(one, Truncate):
            inside = one.size % _PAGE and one.size < now.get(one.inode, 0)
            zeros = isinstance(before, Write) and before.inode == one.inode
            if inside and not zeros:
                return f"{one.path} is cut inside a page without zeros behind the cut"
            now[one.inode] = one.size
        elif isinstance(one, Sync) and one.result == "reverted":
            # The sizes are older ones.
            return ""
        before = one
    return ""
