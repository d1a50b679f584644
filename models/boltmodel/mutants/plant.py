"""How a bug is planted and taken out again.

A bug is a record, its label beside it: name, what is wrong, where it was seen,
which promise it breaks, and the least that shows it. A `Gallery` collects them:

    _bugs = Gallery()

    @_bugs.add("no-meta-sync", "...", origin="...", breaks="P", needs="crash")
    def _no_meta_sync(planter: Planter) -> None:
        planter.replace(DurableFile, "flush", ...)

`replace`, `wrap` and `instead` remember what stood there; leaving the block
restores it in reverse order, also when the block or the planting itself raised.

What it takes to see a bug, from cheap to dear:

    run             running the program; no fault of any kind
    readers         the same, with a reader that stays open
    errors          a call to the system that fails
    crash           losing power, with sectors that are written whole
    torn            losing power, with sectors that are torn at any byte
    errors, crash   a call that fails, and losing power later
    errors, torn    the same, with sectors that are torn at any byte
    threads         another thread that goes on at the right place
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NEEDS", "Call", "Gallery", "Mutant", "Planter"]

Call: TypeAlias = "Callable[..., Any]"
"""A function of the engine, as it was before a bug was planted."""

NEEDS: Final = (
    "run",
    "readers",
    "errors",
    "crash",
    "torn",
    "errors, crash",
    "errors, torn",
    "threads",
)


class Planter:
    """Replaces attributes of modules and classes, and puts them back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that the owner itself has.

        Raises:
            AttributeError: The owner has no such attribute of its own, so
                the engine has changed and the mutant has to follow.
        """
        if name not in vars(owner):
            raise AttributeError(
                f"{owner.__name__} has no {name} of its own: the mutant that "
                "replaces it must be adapted to the engine"
            )
        self._before.append((owner, name, inspect.getattr_static(owner, name)))
        setattr(owner, name, value)

    def wrap(self, owner: Any, name: str, around: Callable[[Call], Call]) -> None:
        """Replace a function by what `around` makes of the original.

        Raises:
            AttributeError: As `replace`.
        """
        self.replace(owner, name, around(getattr(owner, name)))

    def instead(self, owner: Any, name: str, made: Call) -> None:
        """Call `made(original, ...)` where the function was called.

        Raises:
            AttributeError: As `replace`.
        """

        def around(original: Call) -> Call:
            def called(*arguments: Any, **options: Any) -> Any:
                return made(original, *arguments, **options)

            return called

        self.wrap(owner, name, around)

    def restore(self) -> None:
        """Put everything back, the last change first."""
        while self._before:
            owner, name, value = self._before.pop()
            setattr(owner, name, value)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: Short, with hyphens; what the command takes.
        summary: One line: what is wrong.
        origin: Who had it: issue, pull request or commit of boltdb or bbolt;
            or what it is a case of.
        breaks: Letters of the promises it may break, the usual one first.
        needs: The least that shows it, one of `NEEDS`.
        put: Puts it in place.
    """

    name: str
    summary: str
    origin: str
    breaks: str
    needs: str
    put: Callable[[Planter], None]

    @contextmanager
    def plant(self) -> Iterator[None]:
        """While entered, the engine has the bug."""
        planter = Planter()
        try:
            self.put(planter)
            yield
        finally:
            planter.restore()


class Gallery:
    """The bugs of one module, in the order in which they are written there."""

    def __init__(self) -> None:
        self._bugs: list[Mutant] = []

    def add(
        self, name: str, summary: str, *, origin: str, breaks: str, needs: str
    ) -> Callable[[Callable[[Planter], None]], Callable[[Planter], None]]:
        """Register the function below as the one that plants this bug."""

        def register(put: Callable[[Planter], None]) -> Callable[[Planter], None]:
            self._bugs.append(Mutant(name, summary, origin, breaks, needs, put))
            return put

        return register

    def __iter__(self) -> Iterator[Mutant]:
        return iter(self._bugs)
