"""What the model allows: is this tree among the images of a crash there?

The whole set of trees is too large to list. So recovery is led: it reads piece by
piece, compares each with what was seen on the real file system, and ends at the
first difference. The explorer closes that in a few executions, and one of them
comes to the end exactly if the model allows the tree.

Garbage of the model stands for any bytes: what is seen there is accepted.

A step's crash points are those of the operations that it made: one *after* it, and
those *inside* it, which are all from the end of the step before to its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.real.machine import PUSHES
from ci.real.programs import performed

from tornpage.disk import Disk
from tornpage.explore import CrashPoint, Explorer
from tornpage.litmus import OnDisk, look
from tornpage.platter.damage import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ci.real.machine import Tree
    from ci.real.programs import Program

    from tornpage.explore import Closure
    from tornpage.model import CrashModel

__all__ = ["Judge", "letters_of"]

_SECTOR = 512
_LETTERS = "ABCXY"


class Judge:
    """A program on the model, and what it may leave.

    Args:
        program: The program; pushes are skipped.
        model: What a crash may do.

    Attributes:
        done: How many operations there were after each number of steps.
    """

    def __init__(self, program: Program, model: CrashModel) -> None:
        self.model = model
        self._files = program.contents()
        self._disk = Disk(self._files, model)
        machine = OnDisk(self._disk)
        self.done = [0]
        for _ in performed(program.steps, machine):
            self.done.append(len(self._disk.trace.operations()))
        self._names = sorted(_names(program))
        self._known: dict[tuple[Tree, CrashPoint], bool] = {}
        self._looks: dict[tuple[CrashPoint, tuple[str, ...]], frozenset[str]] = {}

    def after(self, step: int) -> tuple[CrashPoint, ...]:
        """The crash points when a number of steps are done."""
        return (CrashPoint(self.done[step]),)

    def inside(self, step: int) -> tuple[CrashPoint, ...]:
        """The crash points while a step is going on, counted from 1."""
        points = []
        for at in range(self.done[step - 1], self.done[step]):
            points += [CrashPoint(at), CrashPoint(at, inside=True)]
        return (*points, CrashPoint(self.done[step]))

    def allows(self, tree: Tree, points: Sequence[CrashPoint]) -> bool:
        """Whether a crash at one of these points may leave this tree.

        Raises:
            RuntimeError: A crash point was not closed.
        """
        return any(self._allows(tree, point) for point in points)

    def _allows(self, tree: Tree, point: CrashPoint) -> bool:
        known = self._known.get((tree, point))
        if known is None:
            names = sorted({*self._names, *(name for name, _ in tree)})
            wanted = dict(tree)

            def compare(disk: Disk) -> bool:
                return all(_same(disk, name, wanted, self.model) for name in names)

            closure = self._closed(compare, point, first=True)
            known = any(one.outcome for one in closure.outcomes)
            if not known and not closure.closed:
                raise RuntimeError(f"too many images at {point}")
            self._known[tree, point] = known
        return known

    def looks(self, probes: Sequence[str], point: CrashPoint) -> frozenset[str]:
        """Every outcome of a look at a crash point."""
        key = point, tuple(probes)
        if key not in self._looks:
            closure = self._closed(lambda disk: look(disk, probes), point)
            assert closure.closed
            self._looks[key] = frozenset(str(one.outcome) for one in closure.outcomes)
        return self._looks[key]

    def _closed(
        self, recover: object, point: CrashPoint, *, first: bool = False
    ) -> Closure:
        explorer = Explorer(self._files, self._disk.trace, recover, self.model)  # type: ignore[arg-type]
        return explorer.close(point, (lambda one: bool(one.outcome)) if first else None)


def _same(
    disk: Disk, name: str, wanted: dict[str, bytes | None], model: CrashModel
) -> bool:
    """Whether a name of the simulated disk is as on the real one."""
    if disk.is_dir(name):
        return name in wanted and wanted[name] is None
    if not disk.exists(name):
        return name not in wanted
    content = wanted.get(name)
    if content is None:
        return False
    file = disk.open(name, read_only=True)
    if file.size() != len(content):
        return False
    for at in range(0, len(content), _SECTOR):
        piece = content[at : at + _SECTOR]
        found = file.pread(len(piece), at)
        if found == piece:
            continue
        if not model.spoils:
            return False
        start = at % model.atom
        nobodys = garbage(at // model.atom, model.atom)[start : start + len(piece)]
        if any(
            one not in {other, any_byte}
            for one, other, any_byte in zip(found, piece, nobodys, strict=True)
        ):
            return False
    return True


def _names(program: Program) -> Iterator[str]:
    """Every name that a program speaks of, and the directories above."""
    names = [name for name, _ in program.files]
    for verb, *words in program.steps:
        names += words[:1] if verb in {"write", "truncate", *PUSHES} else words
    for name in names:
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            yield "/".join(parts[:end])


def letters_of(tree: Tree, probes: Sequence[str]) -> str:
    """A tree in the letters of a look."""
    found, known = "", dict(tree)
    for probe in probes:
        name, at, offset = probe.partition("@")
        if not at:
            found += "+" if name.rstrip("?") in known else "-"
            continue
        content = known.get(name)
        if content is None:
            found += "-"
            continue
        byte = content[int(offset) : int(offset) + 1].decode("latin-1")
        found += (
            "."
            if not byte
            else byte
            if byte in _LETTERS
            else "0"
            if byte == "\0"
            else "#"
        )
    return found
