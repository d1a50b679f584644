"""Functions that code keeps where no name leads: in an object, a closure, a list.

Theory
======
    self._sync = os.fsync                     an object
    sync = lambda fd, do=os.fsync: do(fd)     a default of a function in an object
    partial(os.fsync), [os.fsync], {"sync": os.fsync}, staticmethod(os.fsync)

The garbage collector tells who refers to a function (`holders`), and a stand-in is put
there, for good. To take it away again one would have to hold on to the holder, and then
what else it holds (open files) would be closed at another time than in production; or
to ask the collector at the end of each block. Outside of all blocks a stand-in is the
real function in all but identity.

To ask the collector takes as long as looking at every object of the process: 15 ms for
each way that leads over a tuple or the like. Blocks are entered thousands of times. But
how many refer to a function is a number that the interpreter keeps:

    references to os.fsync = its stand-in's + those of `kept`     nobody else has it
    one more than that       somebody made an object that has it  look who

So a block costs a comparison of numbers for each function, and nothing is remembered of
who held what: one that lets go while another one takes it is seen, too, because all
that were found hold a stand-in by then.

What cannot be changed is refused, with its name, whoever has it: a key of a cache, a
running iterator of C (`map(os.fsync, ...)`), a variable of a suspended generator or of
a running function. The standard library's and tornpage's own generators and functions
are left alone; all else that the standard library keeps is changed as everybody's is.

What it is not: for what the collector does not know, the static variables of a module
in C, say. How many there are is noted, and only one more is looked for.
"""

from __future__ import annotations

import sys
import threading
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    GeneratorType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, Final

from tornpage.holders import Holders, all_told_of, identity, said_of
from tornpage.patch.stand_ins import StandIn, made_for, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Held"]

_OWN: Final = "tornpage"
# inspect.CO_OPTIMIZED: the variables are no dictionary of a module or a class.
_OPTIMIZED: Final = 1

_SUSPENDED: Final[Mapping[type, str]] = {
    GeneratorType: "gi_frame",
    CoroutineType: "cr_frame",
    AsyncGeneratorType: "ag_frame",
}


class Held:
    """Who else holds functions that are replaced."""

    def __init__(self) -> None:
        # References that nobody could be found for, by the function's identity.
        self._unknown: dict[int, int] = {}

    def more(self, own: Mapping[int, int]) -> dict[StandIn, int]:
        """Those to whose functions somebody refers who was not there before.

        Args:
            own: How many references the caller has, by the function's identity.

        Returns:
            How many nobody knows of.
        """
        found = {}
        least = _references(StandIn(lambda: None))
        for one in standing_in():
            real = identity(one.real)
            count = _references(one) - least - own.get(real, 0)
            unknown = self._unknown.get(real, 0)
            if count < unknown:
                self._unknown[real] = max(count, 0)
            elif count > unknown:
                found[one] = count
        return found

    def replace(
        self, wanted: Mapping[StandIn, int], own: Mapping[int, int]
    ) -> tuple[str, ...]:
        """Have stand-ins be held instead.

        Args:
            wanted: For which functions.
            own: As for `more`.

        Returns:
            Who holds one where that cannot be.
        """
        refused = _replaced(wanted)
        wanted = self.more(own)
        if wanted and not refused:
            refused = _running(wanted)
        if refused:
            return tuple(sorted({*refused}))
        self._unknown.update({identity(one.real): more for one, more in wanted.items()})
        return ()


def _references(one: StandIn) -> int:
    return sys.getrefcount(one.real)


def _replaced(wanted: Iterable[StandIn]) -> list[str]:
    """Put stand-ins wherever the collector knows of; say where that cannot be."""
    with all_told_of():
        holders = Holders([one.real for one in wanted], made_for)
    for place in holders.places:
        place.replace()
    others = holders.others
    return [*filter(None, (_refused(one, others) for one in holders.unchanged))]


def _refused(holder: Any, others: Mapping[int, Any]) -> str:
    """Who has one where it has to stay; "" if that does no harm, or did not."""
    if type(holder) is dict and any(identity(key) in others for key in holder):
        # In the same order. Whoever looks one of them up finds it by the other, too.
        items = [*holder.items()]
        holder.clear()
        holder.update((others.get(identity(key), key), value) for key, value in items)
        return ""
    if type(holder) is ModuleType:
        # What a module in C has for itself.
        return ""
    if type(holder) not in _SUSPENDED:
        return said_of(holder)
    frame = getattr(holder, _SUSPENDED[type(holder)])
    if frame is None or _library(frame):
        return ""
    return f"a variable of the suspended {_said(frame)}"


def _running(wanted: Iterable[StandIn]) -> list[str]:
    """The running functions that have one in a variable."""
    these = {identity(one.real): one for one in wanted}
    found = []
    frames = sys._current_frames()
    frames[threading.get_ident()] = sys._getframe(1)
    at: FrameType | None = None
    for frame in frames.values():
        at = frame
        while at is not None:
            plain = at.f_code.co_flags & _OPTIMIZED and not _library(at)
            if plain and not these.keys().isdisjoint(map(identity, _variables(at))):
                found.append(f"a variable of the running {_said(at)}")
            at = at.f_back
    return found


def _variables(frame: FrameType) -> Iterable[Any]:
    names = frame.f_locals
    # pytest has the parts of an assertion under names that no source can have.
    found = [one for name, one in names.items() if name.isidentifier()]
    if type(names) is dict:
        # Up to Python 3.12 a copy, which stays with the frame and holds all of it.
        names.clear()
    return found


def _library(frame: FrameType) -> bool:
    top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return top == _OWN or top in sys.stdlib_module_names


def _said(frame: FrameType) -> str:
    code = frame.f_code
    place = f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
    return f"{code.co_qualname} ({place})"
