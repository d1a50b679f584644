"""A subject from three functions, for a test of a few lines.

    WAL = subject_from(
        "WAL",
        run=add_all,         # (disk, work, ack): store the work, ack(x) when x is safe
        recover=read_back,   # (disk): reopen, return what can be seen
        check=compare,       # (acked, in_flight, seen): None, or what is wrong
        work=["a", "b"],
    )

What a crash at some moment is judged against follows from the `ack` calls alone:

    ack(a)        ack(b)        ack(c)
      |             |      ^      |
      acked = (a, b)  crash   in_flight = (c,)

`acked` is what had been acknowledged before the crash; `in_flight` is what the whole
run acknowledges next. A store that makes several things durable with one sync says so
with one call, and all of them are one promise:

    ack(a)        ack(b, c)     ack(d)
      |             |      ^      |
      acked = (a, b, c)  crash  in_flight = (d,)

No crash is between b and c, the call is one moment; before it both are in flight. What
a crash may leave of a group in flight, all or nothing or any beginning of it, is for
`check` to say. A store that begins with the next group before the last one is
acknowledged may show things that `check` knows nothing of; it needs a
`tornpage.subject.Subject` of its own.

What makes no sense is a `SubjectError` that names the argument: a text where bytes
belong, a `check` that returns True, something seen that cannot be compared. An `assert`
that fails in `check` is no such thing: it says what is wrong.

Bugs to plant come with it, each as a line about it and a context manager (`bugs`).

What it is not: it does not know a page from a record. That is a reason, too, to write
a `Subject`.
"""

from __future__ import annotations

import copy
import inspect
import json
import posixpath
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from tornpage.call_site import raised_at
from tornpage.model import CrashModel, ModelError
from tornpage.patch.block import patched
from tornpage.patch.made import files_made
from tornpage.seen import Seen, copy_of, key_of, seen_of
from tornpage.subject import SubjectError, Violation
from tornpage.time_limit import DEFAULT_SECONDS
from tornpage.trace import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tornpage.disk.simulated import Disk

__all__ = ["FunctionSubject", "Seen", "subject_from"]

Bug = tuple[str, "Callable[[], AbstractContextManager[Any]]"]
"""One line about a bug to plant, and what makes the code have it."""

_ACK = "acknowledged"
_LINE = 72
_DRAWN_PROGRAMS = 20


@dataclass(frozen=True, slots=True)
class _Promise:
    """What one call of `ack` promised.

    Attributes:
        marks: How many marks the run had made by then, this one's included.
        things: What was acknowledged.
    """

    marks: int
    things: tuple[Any, ...]


class FunctionSubject:
    """A `tornpage.subject.Subject` made by `subject_from`; see there."""

    name: str = ""
    default_model = "tear=sector"
    # A run that forgets to call `ack` promises nothing, and keeps it.
    sometimes = (_ACK,)
    default_crashes: int = 1
    returns_within: float | None = DEFAULT_SECONDS

    def __init__(
        self,
        run: Callable[[Any, Sequence[Any], Callable[..., None]], object],
        recover: Callable[[Any], Any],
        check: Callable[[tuple[Any, ...], tuple[Any, ...], Any], str | None],
        work: Sequence[Any] | Callable[[random.Random], Sequence[Any]],
        files: Mapping[str, bytes] | Callable[[Any], object],
        root: str | None,
        plumbing: frozenset[str],
        bugs: Mapping[str, Bug] | None = None,
    ) -> None:
        self._run = run
        self._recover = recover
        self._check = check
        self._work = work
        self._files = files
        self._root = root
        self._plumbing = plumbing
        self._bugs = bugs or {}

    @property
    def default_programs(self) -> int:
        """One where there is one, else as many as take a few seconds."""
        return _DRAWN_PROGRAMS if callable(self._work) else 1

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """Where the functions come from, and what they use by a global name."""
        makes = [self._files] if callable(self._files) else []
        return _packages([self._run, self._recover, self._check, *makes])

    def generate(self, seed: int) -> tuple[Any, ...]:
        """The work of this seed.

        Raises:
            SubjectError: `work` raises, gives what is no work, or another one when it
                is asked again: a certificate names programs by their seeds.
        """
        work = self._work
        if not callable(work):
            return _program(work)
        first, second = (_program(_drawn(work, seed)) for _ in range(2))
        # As text: what is no number is not equal to itself.
        if json.dumps(first) != json.dumps(second):
            raise SubjectError(
                f"work: for seed {seed} it gave {_short(list(first))}, and"
                f" {_short(list(second))} when it was asked again; draw from the"
                " random.Random that it is given, and from nothing else"
            )
        return first

    def encode(self, program: tuple[Any, ...]) -> Any:
        """The work as a JSON list."""
        return list(program)

    def decode(self, data: Any) -> tuple[Any, ...]:
        """The work back from a JSON list.

        Raises:
            ValueError: It is not a list.
        """
        if not isinstance(data, list):
            raise ValueError(  # noqa: TRY004 - as the protocol says.
                "a program is a list of things to do"
            )
        return tuple(data)

    def describe(self, program: tuple[Any, ...]) -> Sequence[str]:
        """One line a thing."""
        return [_short(one) for one in program]

    def simplify(self, program: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """The work with one thing left out."""
        for at in range(len(program)):
            yield program[:at] + program[at + 1 :]

    def prepare(self, program: tuple[Any, ...]) -> Mapping[str, bytes]:
        """The files given to `subject_from`.

        Raises:
            SubjectError: They cannot be made, see `tornpage.patch.made`.
        """
        del program
        return self._made_files

    @cached_property
    def _made_files(self) -> Mapping[str, bytes]:
        given = self._files
        return files_made(given, self._root) if callable(given) else given

    def _entered(self, disk: Disk) -> AbstractContextManager[Any]:
        disk.trace.plumbing |= self._plumbing
        if self._root is None:
            return nullcontext(disk)
        return patched(disk, self._root)

    def run(self, program: tuple[Any, ...], disk: Disk) -> tuple[_Promise, ...]:
        """Do the work; returns what each call of `ack` promised, in order."""
        promises: list[_Promise] = []
        marks = records = promised = 0

        def ack(*things: Any) -> None:
            nonlocal marks, records, promised
            if not things:
                return
            promised += len(things)
            disk.mark(_ACK, txid=promised)
            # A store may make marks of its own, and call them what it likes.
            new = disk.trace.data[records:]
            records += len(new)
            marks += sum(isinstance(one, Mark) for one in new)
            # What is promised is what it is now, whatever becomes of it.
            promises.append(_Promise(marks, copy.deepcopy(things)))

        with self._entered(disk) as place:
            self._run(place, copy.deepcopy(program), ack)
        return tuple(promises)

    def recover(self, disk: Disk) -> Seen:
        """Reopen what a crash left."""
        with self._entered(disk) as place:
            found = self._recover(place)
        return seen_of(found)

    def judge(
        self, history: tuple[_Promise, ...], marks: Sequence[Mark], outcome: Any
    ) -> Sequence[Violation]:
        """What `check` says of this outcome."""
        # Marks before a crash are the first ones of the run: their number says which.
        made = [one.things for one in history if one.marks <= len(marks)]
        acked = tuple(chain.from_iterable(made))
        later = history[len(made) : len(made) + 1]
        in_flight = tuple(chain.from_iterable(one.things for one in later))
        wrong = self._wrong(acked, in_flight, outcome)
        if wrong is None:
            return ()
        facts = (
            ("acknowledged", _short(list(acked)), "-"),
            ("in flight", _short(list(in_flight)), "-"),
            ("seen", "-", _short(outcome.value)),
        )
        return (Violation("check", wrong, facts),)

    def _wrong(
        self, acked: tuple[Any, ...], in_flight: tuple[Any, ...], seen: Seen
    ) -> str | None:
        mine = copy_of(seen.value)
        if mine is seen.value and key_of(mine) != seen.key:
            raise SubjectError(
                f"recover: it returned a {type(mine).__name__}, which cannot be copied"
                " and was changed later; return what is made anew each time"
            )
        try:
            wrong: object = self._check(copy_of(acked), copy_of(in_flight), mine)
        except AssertionError as error:
            return str(error) or f"the assertion at {raised_at(error)} fails"
        except Exception as error:
            raise SubjectError(
                f"check: it raised {type(error).__name__} at {raised_at(error)}:"
                f" {error}"
            ) from error
        if wrong is None or isinstance(wrong, str):
            return wrong
        raise SubjectError(
            f"check: it returned {_short(wrong)}; return a text that says what is"
            " wrong, or None"
        )

    def features(self, history: tuple[_Promise, ...]) -> Sequence[str]:
        """Whether anything was acknowledged."""
        return (_ACK,) if history else ()

    def live_violations(self, history: tuple[_Promise, ...]) -> Sequence[Violation]:
        """None: whatever `run` asserts raises there."""
        del history
        return ()

    def describe_outcome(self, outcome: Any) -> Sequence[str]:
        """What recovery returned, in one line."""
        return [_short(outcome.value)]

    def locate(self, path: str, offset: int, data: bytes) -> str:
        """Nothing is known of the files."""
        del path, offset, data
        return ""

    def mutants(self) -> Mapping[str, str]:
        """The bugs given to `subject_from`."""
        return {name: text for name, (text, _) in self._bugs.items()}

    def mutant(self, name: str) -> AbstractContextManager[Any]:
        """While entered, the code under test has this bug.

        Raises:
            KeyError: There is no such bug.
            SubjectError: What was given for it makes no context manager, or one that
                cannot be entered; raised when this is.
        """
        # Before something else stands where the store stood.
        _ = self.packages, self._made_files
        return self._planted(name, self._bugs[name][1])

    @contextmanager
    def _planted(
        self, name: str, make: Callable[[], AbstractContextManager[Any]]
    ) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                made = make()
                if isinstance(made, AbstractContextManager):
                    stack.enter_context(made)
            except Exception as error:
                raise SubjectError(
                    f"bugs: {name!r} cannot be planted: {type(error).__name__} at"
                    f" {raised_at(error)}: {error}"
                ) from error
            if not isinstance(made, AbstractContextManager):
                raise SubjectError(
                    f"bugs: {name!r} makes a {type(made).__name__}; give a function"
                    " that returns a context manager, which has the bug while it is"
                    " entered"
                )
            yield


def _packages(functions: Iterable[Any]) -> tuple[str, ...]:
    """The top-level names of the modules of these, and of what they use.

    Followed are globals, closures and partial functions within the modules that these
    are from; what a store imports in its turn is the store's. The standard library is
    left out: the interpreter's version stands beside the digest.
    """
    found, known, waiting = set(), set(), deque(functions)
    while waiting:
        one = waiting.popleft()
        if id(one) in known:
            continue
        known.add(id(one))
        if isinstance(one, partial):
            waiting += (one.func, *one.args, *one.keywords.values())
            continue
        name = one.__name__ if isinstance(one, ModuleType) else _module_of(one)
        found.add(name.partition(".")[0])
        function = getattr(one, "__func__", one)
        if isinstance(function, FunctionType):
            used = [*_uses(function)]
            waiting += (
                value
                for value in used
                if not isinstance(value, FunctionType) or _module_of(value) == name
            )
            found |= {_module_of(value).partition(".")[0] for value in used}
    return tuple(sorted((found & set(sys.modules)) - sys.stdlib_module_names))


def _module_of(value: Any) -> str:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


def _uses(function: FunctionType) -> Iterator[Any]:
    """What its code and its closure name."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):
            yield cell.cell_contents
    codes = [function.__code__]
    for code in codes:
        codes += (one for one in code.co_consts if isinstance(one, CodeType))
        for name in code.co_names:
            if name in function.__globals__:
                yield function.__globals__[name]


def _takes(name: str, function: Any, arguments: str) -> None:
    """Refuse what cannot be called as it will be.

    Raises:
        SubjectError: It is no function of these arguments.
    """
    if not callable(function):
        raise SubjectError(f"{name}: give a function, not {_short(function)}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        # One of C's that does not say.
        return
    try:
        signature.bind(*arguments.split(", "))
    except TypeError as error:
        raise SubjectError(
            f"{name}: it is called as {name}({arguments}), and is {signature}: {error}"
        ) from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."


def _drawn(work: Callable[[random.Random], Sequence[Any]], seed: int) -> Sequence[Any]:
    try:
        return work(random.Random(seed))
    except Exception as error:
        raise SubjectError(
            f"work: it raised {type(error).__name__} at {raised_at(error)}: {error}"
        ) from error


def _program(work: Any) -> tuple[Any, ...]:
    """The work as a program.

    Raises:
        SubjectError: It cannot be written as JSON, so no failure could be replayed; or
            it has no order, so the next process would do it in another.
    """
    if isinstance(work, (set, frozenset)):
        raise SubjectError(
            f"work: {_short(work)} has no order, or another one in each process; give a"
            " list"
        )
    try:
        program = tuple(work)
        json.dumps(program)
    except (TypeError, ValueError) as error:
        raise SubjectError(
            f"work: {_short(work)} cannot be written as JSON ({error}); give"
            " strings, numbers, lists and dicts, and make what you need of them in run"
        ) from error
    return program


def _plumbing(given: Iterable[str]) -> frozenset[str]:
    # A string is a row of letters, and never meant as one.
    names = frozenset(() if isinstance(given, str) else given)
    if isinstance(given, str) or not all(isinstance(one, str) for one in names):
        raise SubjectError(
            f'plumbing: give names of source files, ("file.py",), not {given!r}'
        )
    return names


def _files(
    given: Mapping[str, bytes] | Callable[[Any], object] | None, root: str | None
) -> dict[str, bytes] | Callable[[Any], object]:
    """The files that are there before the run.

    Raises:
        SubjectError: They are not bytes by name, or not below the root.
    """
    if callable(given):
        _takes("files", given, "root" if root else "disk")
        return given
    if given is not None and not isinstance(given, Mapping):
        raise SubjectError(
            f"files: give a dict of bytes by name, or a function that makes them, not"
            f" {given!r}"
        )
    files = dict(given or {})
    top = "" if root is None else posixpath.normpath(root)
    for name, data in files.items():
        if not isinstance(data, bytes | bytearray):
            raise SubjectError(f"files: {name!r} has {type(data).__name__}; give bytes")
        below = not top or posixpath.normpath(name).startswith(f"{top}/")
        if not below and name != f"{top}/":
            raise SubjectError(
                f"files: {name!r} is not below the root, so nothing under test can see"
                f" it; name it {posixpath.join(top, posixpath.basename(name))!r}"
            )
    return files


def _crashes(given: int) -> int:
    """The number of crashes in a row.

    Raises:
        SubjectError: It is none.
    """
    try:
        return CrashModel(crashes=given).crashes
    except (ModelError, TypeError) as error:
        raise SubjectError(f"crashes: {error}") from error


def _bugs(given: Mapping[str, Bug] | None) -> dict[str, Bug]:
    """The bugs to plant.

    Raises:
        SubjectError: One is not a text and a function.
    """
    if given is not None and not isinstance(given, Mapping):
        raise SubjectError(f"bugs: give a dict of bugs by name, not {given!r}")
    bugs = dict(given or {})
    for name, bug in bugs.items():
        match bug:
            case (str(text), made) if callable(made) and text.strip():
                if len(text.splitlines()) == 1:
                    continue
        raise SubjectError(
            f"bugs: {name!r} has {_short(bug)}; give a pair: one line that says what is"
            " wrong then, and a function that returns a context manager"
        )
    return bugs


def subject_from(
    name: str,
    *,
    run: Callable[[Any, Sequence[Any], Callable[..., None]], object],
    recover: Callable[[Any], Any],
    check: Callable[[tuple[Any, ...], tuple[Any, ...], Any], str | None],
    work: Sequence[Any] | Callable[[random.Random], Sequence[Any]],
    files: Mapping[str, bytes] | Callable[[Any], object] | None = None,
    root: str | None = None,
    plumbing: Iterable[str] = (),
    crashes: int = 1,
    returns_within: float | None = DEFAULT_SECONDS,
    bugs: Mapping[str, Bug] | None = None,
) -> FunctionSubject:
    """A subject from functions.

    Args:
        name: The module's attribute that the subject is assigned to; replay commands
            name it.
        run: Called with the disk, the work and `ack`. Calls `ack(x)` where the store
            promises that `x`, any value, survives; it is copied. `ack(x, y)` promises
            both at the same moment, `ack()` nothing.
        recover: Called with a crashed disk; reopens the store and returns what can be
            seen of it: strings, numbers, lists, dicts, dataclasses and so on. Fields
            that a dataclass does not compare tell no two of them apart, so `check`
            may not look at them.
        check: Called with what had been acknowledged, what was in flight (what the
            next call of `ack` promised: a tuple of one, of a whole group, or of none)
            and what recovery returned. Says what is wrong, or None; may assert instead.
        work: What to do, a list of JSON values; or a function that draws it from a
            `random.Random`, for many programs: 20 unless a run says how many.
        files: What is on the disk, durable, before `run`: bytes by name. A name that
            ends with "/" is that of a directory. With a root they are below it. Or a
            function that makes them, called as `recover` is, with an empty disk: what
            it leaves there was durable long before, and has one name. It is called
            once, in a process of its own and without any bug.
        root: When given, `run` and `recover` get this path instead of a disk and use
            it with `open` and `os`; see `tornpage.patch.block`.
        plumbing: Names of source files ("file.py") that only pass operations on:
            stories name the innermost line outside of these.
        crashes: How many crashes come in a row, unless a run says another number.
            With 2 the power goes once more after each operation of `recover`, which
            is called again then; with 1 it is left to end. For a store that changes
            its files when it is opened.
        returns_within: Seconds of processor time in which one call of `run` or
            `recover` must return, or the promise that it does is broken; None: no
            limit. See `tornpage.time_limit`.
        bugs: Bugs to plant, by name: pairs of one line that says what is wrong then,
            and a function that returns a context manager. While that is entered the
            store has the bug. `tornpage mutants` sees whether each is caught.

    Raises:
        SubjectError: An argument makes no sense; it is a ValueError.
    """
    if not (isinstance(name, str) and name.isidentifier()):
        raise SubjectError(
            f"{name!r}: give the name of the variable that the subject is assigned to"
        )
    _takes("run", run, "root, work, ack" if root else "disk, work, ack")
    _takes("recover", recover, "root" if root else "disk")
    _takes("check", check, "acked, in_flight, seen")
    if callable(work):
        _takes("work", work, "rng")
    # The replay command and the digest of the code go by where a subject's class is
    # said to be. The name is one of the module that calls this; `run` may be from
    # elsewhere.
    module = str(sys._getframe(1).f_globals.get("__name__", "__main__"))
    kind = type(name, (FunctionSubject,), {"__module__": module, "name": name})
    made: FunctionSubject = kind(
        run,
        recover,
        check,
        work,
        _files(files, root),
        root,
        _plumbing(plumbing),
        _bugs(bugs),
    )
    made.default_crashes = _crashes(crashes)
    made.returns_within = returns_within
    return made
