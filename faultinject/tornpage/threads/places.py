"""Where CPython may let another thread go on, and be interrupted by a signal.

Behind a call, at a jump backwards, at the beginning of a function: nowhere else does
the interpreter look whether another thread waits for it (CPython, Python/ceval.c: the
eval breaker). What lies between two such places happens at once, as far as other
threads can tell:

    self.live = meta          one step with the next
    if self.live is meta:
        self.count += 1
    f(x)                      <- in f, before its first line; and behind it

A call in C that lets others run meanwhile (a read, a sync) is a place before it has
done anything, too. `tornpage.waits` tells of these; they are not looked for here.

Python 3.11 is asked by a trace function, which sees each instruction of a thread.
Later ones install that when a function runs for the second time, so that the same
run has other places then; and 3.12.1 crashes when two threads switch it on and off.
They are asked by `sys.monitoring`. It tells of each function that begins, once of those
that do not count; of one that counts it is then asked for more, before its first line.
It says which instruction comes next and not which one came before: an instruction
behind a call counts as a place even where another way leads to it. So does one behind a
call of a function in Python, where it does not look (what is in the function has places
of its own). From 3.14 on `with` is made of calls, and there this makes a difference:

    with lock:     <- a place behind an `__enter__` in C: the lock is taken, and what
                      runs now finds it so. None behind one in Python.

A build without the global lock (`free_threaded`) has no such places: there any two
instructions of two threads may come in either order, so a place stands before each of
them. Not before those that only move what is the thread's own (`_ONES_OWN`): a switch
there is one before what comes next.

    self.count += 1      LOAD_FAST   LOAD_ATTR   LOAD_CONST   BINARY_OP ...  STORE_ATTR
                                   ^                         ^             ^

What it is not: an instruction is one step, and so is a call of a function in C with all
that it does. Without the global lock only what is done to one list, dictionary or set
is, as long as nobody looks: `d.update(pairs)` may be seen half done.
"""

from __future__ import annotations

import dis
import sys
import threading
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType
    from typing import Self

    from _typeshed import TraceFunction

    from tornpage.threads.earlier import Locks

__all__ = ["Places", "tracer"]

_CALLS: Final = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW"})
_LOOKED_BEHIND: Final = _CALLS | {
    "JUMP_BACKWARD",
    "POP_JUMP_BACKWARD_IF_FALSE",
    "POP_JUMP_BACKWARD_IF_NONE",
    "POP_JUMP_BACKWARD_IF_NOT_NONE",
    "POP_JUMP_BACKWARD_IF_TRUE",
}
"""Instructions behind which it looks, from Python 3.11 on. (The beginning of a function
is one, too, and has an event of its own.)"""


_ONES_OWN: Final = frozenset(
    {
        *("CACHE", "EXTENDED_ARG", "KW_NAMES", "NOP", "NOT_TAKEN", "PRECALL", "RESUME"),
        *("COPY", "COPY_FREE_VARS", "MAKE_CELL", "PUSH_EXC_INFO", "PUSH_NULL", "SWAP"),
        *("JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD"),
        *("LOAD_CLOSURE", "LOAD_COMMON_CONSTANT", "LOAD_CONST", "LOAD_SMALL_INT"),
        *("LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_BORROW_LOAD_FAST_BORROW"),
        *("LOAD_FAST_CHECK", "LOAD_FAST_LOAD_FAST", "LOAD_CONST_IMMORTAL"),
        *("BUILD_LIST", "BUILD_MAP", "BUILD_TUPLE"),
    }
)
"""Instructions that read and change nothing that another thread may have, and let go of
no object, which a weak reference could listen to. So `STORE_FAST` is none of them."""


def tracer(
    code: str | tuple[str, ...],
    place: Callable[[], None],
    *,
    free_threaded: bool = False,
) -> Callable[[FrameType, str, Any], Any]:
    """A function for `sys.settrace` that calls another one at each place.

    What that raises comes out of the code, as if the interpreter had raised it there;
    Python then stops tracing.

    Args:
        code: How the names of the files begin whose places count.
        place: What is called; it is not traced itself.
        free_threaded: As without the global lock.
    """
    following = _each if free_threaded else _follower
    offsets = _shared if free_threaded else _looked_behind

    def entered(frame: FrameType, _event: str, _value: Any) -> Any:
        if not frame.f_code.co_filename.startswith(code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        place()
        return following(place, offsets(frame.f_code))

    return entered


def _follower(
    place: Callable[[], None], looked_behind: frozenset[int]
) -> Callable[[FrameType, str, Any], Any]:
    """Traces one frame, without keeping it.

    It is called for each instruction, so it asks as little of the frame as possible:
    `co_code` is another copy each time.
    """
    looks = False

    def follow(frame: FrameType, event: str, _value: Any) -> Any:
        nonlocal looks
        if event == "opcode":
            looked, looks = looks, frame.f_lasti in looked_behind
            if looked:
                place()
        elif event == "exception":
            looks = False
        return follow

    return follow


def _each(
    place: Callable[[], None], shared: frozenset[int]
) -> Callable[[FrameType, str, Any], Any]:
    """As `_follower`: a place before each of these instructions."""

    def follow(frame: FrameType, event: str, _value: Any) -> Any:
        if event == "opcode" and frame.f_lasti in shared:
            place()
        return follow

    return follow


@cache
def _looked_behind(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions behind which it looks."""
    return frozenset(
        one.offset for one in dis.get_instructions(code) if one.opname in _LOOKED_BEHIND
    )


@cache
def _shared(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions that have to do with what threads share."""
    return frozenset(
        one.offset for one in dis.get_instructions(code) if one.opname not in _ONES_OWN
    )


def _nothing() -> None:
    """Nobody cares about places now."""


class _Traced:
    """Places by a trace function: of threads that say so.

    Args:
        code: As `tracer`.
        free_threaded: As there.

    Attributes:
        call: As `place` there. May be changed.
        free_threaded: As given.
        locks: What `earlier` has found for the runs that switch here; nothing when
            it is left.
        met: Whether any thread was in any of the code.
    """

    def __init__(self, code: tuple[str, ...], *, free_threaded: bool = False) -> None:
        self.call: Callable[[], None] = _nothing
        self.free_threaded: Final = free_threaded
        self.locks: Locks | None = None
        self.met = False
        self._trace = tracer(code, self._called, free_threaded=free_threaded)
        # What traced a thread before: a debugger, the tests' coverage.
        self._before: dict[int, TraceFunction | None] = {}

    def _called(self) -> None:
        self.met = True
        self.call()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.locks = None
        self.leave()

    def follow(self) -> None:
        """From here on the calling thread passes places."""
        self._before.setdefault(threading.get_ident(), sys.gettrace())
        sys.settrace(self._trace)

    def leave(self) -> None:
        """The calling thread passes no more places, or nobody cares."""
        thread = threading.get_ident()
        if thread in self._before:
            sys.settrace(self._before.pop(thread))


if sys.version_info >= (3, 12):
    _ENTERING: Final = {"__enter__"} if sys.version_info >= (3, 14) else set[str]()
    _events = sys.monitoring.events
    _BEGINS: Final = _events.PY_START | _events.PY_RESUME
    _WITHIN: Final = _events.JUMP | _events.INSTRUCTION

    class _Monitored:
        """Places by `sys.monitoring`: of all threads, while it is entered.

        Args:
            code: As `tracer`.
            free_threaded: As there.

        Attributes:
            call: As `place` there. May be changed.
            free_threaded: As given.
            locks: As there.
            met: As there.
        """

        def __init__(
            self, code: tuple[str, ...], *, free_threaded: bool = False
        ) -> None:
            self.call: Callable[[], None] = _nothing
            self.free_threaded: Final = free_threaded
            self.locks: Locks | None = None
            self.met = False
            self._code = code
            # Where there is a place before each instruction there is one behind each
            # call and jump.
            self._offsets = _shared if free_threaded else _behind_calls
            self._within = _events.INSTRUCTION if free_threaded else _WITHIN
            self._entering = set[str]() if free_threaded else _ENTERING
            # By identity: a module that is imported anew has code that is equal.
            self._behind: dict[int, tuple[CodeType, frozenset[int]]] = {}
            # Code of others that tells when it returns.
            self._watched: list[CodeType] = []
            # By thread: the call of a `with` from which an `__enter__` has returned.
            self._entered: dict[int, tuple[CodeType, int]] = {}
            self._tool = -1

        def __enter__(self) -> Self:
            monitoring = sys.monitoring
            free = [tool for tool in range(6) if monitoring.get_tool(tool) is None]
            if not free:
                raise RuntimeError(
                    "other tools have all of sys.monitoring: run without them"
                )
            # Those that have names (debuggers, coverage) are for these.
            self._tool = tool = max(free, key=lambda one: (one in {3, 4}, one))
            monitoring.use_tool_id(tool, "tornpage")
            register = monitoring.register_callback
            register(tool, _events.PY_START, self._at_start)
            register(tool, _events.PY_RESUME, self._at_start)
            register(tool, _events.JUMP, self._at_jump)
            register(tool, _events.INSTRUCTION, self._at_instruction)
            register(tool, _events.PY_RETURN, self._at_return)
            # What was of no interest to the one before may be to this one.
            monitoring.restart_events()
            monitoring.set_events(tool, _BEGINS)
            return self

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            self.locks = None
            monitoring, tool = sys.monitoring, self._tool
            monitoring.set_events(tool, 0)
            ours = (code for code, _ in self._behind.values())
            for code in (*ours, *self._watched):
                monitoring.set_local_events(tool, code, 0)
            self._behind.clear()
            self._watched.clear()
            self._entered.clear()
            monitoring.free_tool_id(tool)

        def follow(self) -> None:
            """As `_Traced.follow`; it does already."""

        def leave(self) -> None:
            """As `_Traced.leave`; it can't."""

        def _at_start(self, code: CodeType, _offset: int) -> object:
            if id(code) not in self._behind:
                entering = code.co_name in self._entering
                events = _events.PY_RETURN if entering else 0
                ours = code.co_filename.startswith(self._code)
                if ours:
                    self._behind[id(code)] = code, self._offsets(code)
                    events |= self._within
                elif events:
                    self._watched.append(code)
                try:
                    sys.monitoring.set_local_events(self._tool, code, events)
                except ValueError:
                    # It was left meanwhile, and this thread goes on.
                    return sys.monitoring.DISABLE
                if not ours:
                    return sys.monitoring.DISABLE
            # While it prepares a run, or looks behind one, nobody cares.
            self.met = self.met or self.call is not _nothing
            self.call()
            return None

        def _at_return(self, _code: CodeType, _offset: int, _value: object) -> None:
            caller = sys._getframe(1).f_back
            if caller is not None:
                at = caller.f_code, caller.f_lasti
                self._entered[threading.get_ident()] = at

        def _at_jump(self, _code: CodeType, offset: int, target: int) -> object:
            if target > offset:
                return sys.monitoring.DISABLE
            self.call()
            return None

        def _at_instruction(self, code: CodeType, offset: int) -> object:
            known = self._behind.get(id(code))
            if known is None or offset not in known[1]:
                return sys.monitoring.DISABLE
            if self._entered:
                entered = self._entered.pop(threading.get_ident(), None)
                if entered == (code, _entries(code).get(offset)):
                    return None
            self.call()
            return None

    @cache
    def _behind_calls(code: CodeType) -> frozenset[int]:
        """Offsets of the instructions behind calls."""
        return frozenset(
            after.offset
            for before, after in pairwise(dis.get_instructions(code))
            if before.opname in _CALLS
        )

    @cache
    def _entries(code: CodeType) -> dict[int, int]:
        """Offsets of the calls that enter blocks, by those of what comes behind."""
        instructions = list(dis.get_instructions(code))
        return {
            after.offset: call.offset
            for special, call, after in zip(
                instructions, instructions[1:], instructions[2:], strict=False
            )
            if special.opname == "LOAD_SPECIAL" and call.opname == "CALL"
        }

    Places = _Monitored
else:
    Places = _Traced
