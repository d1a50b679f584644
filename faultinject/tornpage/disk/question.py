"""Questions: what a program wants to know of a file, rather than the bytes.

Theory
======
A program that reads 64 bytes branches on every mixture of them that a crash may
leave, even when all it does is to compare a checksum. What it wants to know has
few answers:

    the bytes     new, old, torn at 1, torn at 2, ... torn at 63      65 executions
    the answer    version 7, version 6 (the slot is worthless)         2 executions

So a program may ask instead of read:

    answer = file.ask(question)         question(view) -> anything hashable
                                        view(decode, offset, length) -> decode(bytes)

`question` is pure: it depends on nothing but what it gets through `view`, and its
answer is all that gets out. Then two images with one answer are one image to the
program, as two images are that agree on the bytes which a program reads. The
question is code of the program under test, bugs and all, and it is run here on every
content that the bytes may have. What is believed is that it is pure: one that keeps
what it saw, in a global variable say, hides that from the explorer.

    1  A view on one undecided atom is a fork: contents with the same `decode` share
       a branch.
    2  The question is run once for each way through the forks.
    3  From the leaves up, branches of a fork that end in the same answer become one.
       A fork with one branch left is none.
    4  What is left is put to the chooser, fork by fork, and narrows the atoms.

An atom of which several contents gave the same answer stays undecided among these:
a later read of the bytes themselves decides further.

A question about much may consist of parts, `view.part(question)`, each as pure as the
whole. What a part comes to on bytes that nobody has touched is not worked out again
at the next crash point; see `parts`.

What it is not: complete. Answers are merged below a fork, not across forks, and
where writes have an order or syncs may lie, where an answer comes with the time or
the lies that made it, nothing is merged and `view` reads. Both only cost executions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tornpage.choices import ReplayError
from tornpage.platter.cell import NEVER, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.choices import Chooser
    from tornpage.disk.life import Life
    from tornpage.disk.node import Node
    from tornpage.platter.cell import Cell
    from tornpage.platter.pieces import Watch

__all__ = ["View", "put"]

T = TypeVar("T")


class View(Protocol):
    """What a question gets to look at a file with."""

    def __call__(self, decode: Callable[[bytes], T], offset: int, length: int, /) -> T:
        """`decode` of the bytes there, fewer where the file ends."""
        ...

    def part(self, question: Callable[[View], T], /) -> T:
        """The answer of a question that is a part of this one.

        Args:
            question: Pure, and equal to another one only when it asks the same: a
                named tuple with a `__call__`, say. The answer never changes.
        """
        ...


_MOST_WAYS = 1_000
"""A question with more ways through its forks is read, not merged."""


class _ReadInstead(BaseException):
    """Answers cannot be merged, or it is not worth it."""


@dataclass(frozen=True, slots=True)
class _Fork:
    """Bytes of one atom that may differ, what they may be, and what that means."""

    at: int
    low: int
    high: int
    cell: Cell
    groups: tuple[Group, ...]
    decoded: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """The end of a way: the answer."""

    answer: Any


@dataclass(frozen=True, slots=True)
class _Branch:
    """A fork that matters: its branches and what comes below each."""

    fork: _Fork
    groups: tuple[Group, ...]
    below: tuple[_Branch | _Leaf, ...]


_Way = tuple[tuple[tuple[_Fork, int], ...], Any]
"""The forks on the way with the branch taken at each, and the answer."""


def put(life: Life, node: Node, question: Callable[[View], T], chooser: Chooser) -> T:
    """Put a question to a file, deciding no more than the answer takes.

    Args:
        life: The disk's present life.
        node: The file.
        question: See the module's head.
        chooser: Decides which answer it is.

    Raises:
        Exception: What the question raised.
    """
    asked = life.chooser.asked
    life.told = False
    if not life.merges:
        return question(_Reading(life, node))
    try:
        tree = _tree(life, node, question)
    except _ReadInstead:
        return question(_Reading(life, node))
    life.told = life.chooser.asked == asked and _differ(tree)
    while isinstance(tree, _Branch):
        fork = tree.fork
        place = fork.at * life.model.atom + fork.low
        label = ("data", node.path, place, fork.high - fork.low, tree.groups)
        picked = chooser.choose(len(tree.groups), label)
        node.cells[fork.at] = tree.groups[picked].cell
        tree = tree.below[picked]
    answer: T = tree.answer
    return answer


def _differ(tree: _Branch | _Leaf) -> bool:
    """Whether no two ways end in the same answer."""
    answers: list[Any] = []
    stack = [tree]
    while stack:
        one = stack.pop()
        if isinstance(one, _Leaf):
            answers.append(one.answer)
        else:
            stack += one.below
    return len(answers) == len(set(answers))


def _tree(life: Life, node: Node, question: Callable[[View], Any]) -> _Branch | _Leaf:
    """The answers there may be, and what leads to each.

    Every execution at a crash point begins with the same question to the same
    platter, and of 28 torn metas each is to be looked at once: what was asked of a
    platter as the crash left it is kept with it.
    """
    decided = node.cache or node.cells or len(node.image.sizes) > 1
    fresh = node.asked and not decided
    if fresh:
        known = life.asked_before.get((node.inode, question))
        if known is not None:
            found: _Branch | _Leaf = known[0]
            life.size(node)
            life.consumed(node, known[1])
            return found
    asked = life.chooser.asked
    outer = life.watch_apart(node)
    try:
        tree = _reduced(_Ways(life, node).all(question), 0)
    finally:
        inner = life.watch_again(node, outer)
        life.consumed(node, inner)
    if fresh and life.chooser.asked == asked:
        life.asked_before[node.inode, question] = tree, inner
    return tree


class _Reading:
    """Views what it is asked to by reading it, which decides it.

    Attributes:
        reach: Where the last view in the file ended; NEVER: one ended where the
            file does.
    """

    def __init__(self, life: Life, node: Node) -> None:
        self._life = life
        self._node = node
        self.reach = 0

    def __call__(self, decode: Callable[[bytes], T], offset: int, length: int) -> T:
        return decode(
            self._life.read(self._node, offset, self._end(offset, offset + length))
        )

    def _end(self, start: int, stop: int) -> int:
        """Where a view of [start, stop) ends."""
        end = self._life.readable(self._node, start, stop)
        self.reach = max(self.reach, end if end == stop else NEVER)
        return end

    def part(self, question: Callable[[View], T]) -> T:
        """See `View.part`."""
        life, node = self._life, self._node
        parts = life.parts
        if parts is None or node.size is None:
            return question(self)
        found = parts.find(node.inode, question)
        if found is not None and life.uses(node, found):
            known: T = found.answer
            return known
        if not node.asked:
            return question(self)
        before, self.reach = self.reach, 0
        outer = life.watch_apart(node)
        whole = False
        try:
            answer = question(self)
            whole = self.reach != NEVER
        finally:
            reach, self.reach = self.reach, max(self.reach, before)
            inner = life.watch_again(node, outer)
            if not whole or not self._kept(question, answer, inner, reach):
                life.consumed(node, inner)
        return answer

    def _kept(
        self, question: Callable[[View], T], answer: T, pieces: Watch, reach: int
    ) -> bool:
        """Keep the answer of a part that rests on settled bytes, and use it."""
        life, node = self._life, self._node
        if life.parts is None or not life.is_settled(node, pieces, reach):
            return False
        atoms = pieces.atoms[node.inode]
        kept = life.parts.add(node.inode, question, answer, atoms, reach, pieces.parts)
        return kept is not None and life.uses(node, kept)


class _Ways(_Reading):
    """Runs a question once for each way through its forks."""

    def __init__(self, life: Life, node: Node) -> None:
        super().__init__(life, node)
        # (atom, range, cell, decode) -> the fork; a cell is found again by itself.
        self._known: dict[tuple[Any, ...], _Fork] = {}
        self._plan: list[int] = []
        self._way: list[tuple[_Fork, int]] = []
        # What stood in the place of the cells that the forks of this way narrowed.
        self._before: list[Cell | None] = []

    def all(self, question: Callable[[View], Any]) -> list[_Way]:
        """Every way, in depth-first order, with its answer."""
        ways: list[_Way] = []
        cells = self._node.cells
        while True:
            if len(ways) == _MOST_WAYS:
                raise _ReadInstead
            self._way, self._before = [], []
            try:
                answer = question(self)
                hash(answer)
            except ReplayError:
                raise
            except Exception:  # noqa: BLE001 - whatever a question raises
                # It may raise on some of the contents only: read, and see which.
                raise _ReadInstead from None
            finally:
                # What a way narrowed is taken back, to what it was at the fork: what
                # the chooser was made to decide, before the first fork or about the
                # size, stays decided.
                for (fork, _), cell in zip(
                    reversed(self._way), reversed(self._before), strict=True
                ):
                    if cell is None:
                        del cells[fork.at]
                    else:
                        cells[fork.at] = cell
            way = tuple(self._way)
            ways.append((way, answer))
            plan = [picked for _, picked in way]
            while plan and plan[-1] + 1 == len(way[len(plan) - 1][0].groups):
                plan.pop()
            if not plan:
                return ways
            plan[-1] += 1
            self._plan = plan

    def __call__(self, decode: Callable[[bytes], T], offset: int, length: int) -> T:
        """Look, forking where the answers may differ."""
        life, node = self._life, self._node
        stop = self._end(offset, offset + length)
        known = life.known(node, offset, stop)
        if known is not None:
            return decode(known)
        asked = life.chooser.asked
        open_atoms = life.open_atoms(node, offset, stop)
        if self._way and life.chooser.asked != asked:
            # It may have been about an atom that this way has narrowed.
            raise _ReadInstead
        if len(open_atoms) != 1:
            if open_atoms and self._way:
                # Deciding them would decide what this way has only assumed.
                raise _ReadInstead
            # None, or several, which are then decided for all ways.
            return decode(life.read(node, offset, stop))
        ((at, cell),) = open_atoms
        base = at * life.model.atom
        low, high = max(offset - base, 0), min(stop - base, life.model.atom)
        head = life.read(node, offset, base + low)
        tail = life.read(node, base + high, stop)
        key = at, low, high, id(cell), decode, head, tail
        fork = self._known.get(key)
        if fork is None:
            alike = _alike(
                cell.groups(low, high), lambda one: decode(head + one.value + tail)
            )
            groups = tuple(_one(cell, same) for same in alike.values())
            fork = _Fork(at, low, high, cell, groups, tuple(alike))
            self._known[key] = fork
        picked = 0
        if len(fork.groups) > 1:
            depth = len(self._way)
            picked = self._plan[depth] if depth < len(self._plan) else 0
            self._way.append((fork, picked))
            self._before.append(node.cells.get(at))
            node.cells[at] = fork.groups[picked].cell
        answer: T = fork.decoded[picked]
        return answer


def _alike(
    groups: Sequence[Group], answer: Callable[[Group], T]
) -> dict[T, list[Group]]:
    """The groups by answer; in the order of the first of each."""
    alike: dict[T, list[Group]] = {}
    for one in groups:
        alike.setdefault(answer(one), []).append(one)
    return alike


def _one(cell: Cell, same: list[Group]) -> Group:
    if len(same) == 1:
        return same[0]
    parts = tuple(part for one in same for part in (one.parts or (one,)))
    members = cell.members_of(same)
    return Group(same[0].value, cell, members, parts=parts)


def _reduced(ways: Sequence[_Way], depth: int) -> _Branch | _Leaf:
    """The tree of the ways from their fork number `depth` on."""
    forks, answer = ways[0]
    if len(forks) == depth:
        return _Leaf(answer)
    fork = forks[depth][0]
    by_branch: dict[int, list[_Way]] = {}
    for way in ways:
        by_branch.setdefault(way[0][depth][1], []).append(way)
    # The branches that end in one answer, by it; a fork below stands for itself.
    alike: dict[Any, tuple[_Branch | _Leaf, list[Group]]] = {}
    for picked, rest in by_branch.items():
        below = _reduced(rest, depth + 1)
        key = (below.answer,) if isinstance(below, _Leaf) else id(below)
        alike.setdefault(key, (below, []))[1].append(fork.groups[picked])
    if len(alike) == 1:
        ((below, _),) = alike.values()
        if isinstance(below, _Leaf):
            return below
    return _Branch(
        fork,
        tuple(_one(fork.cell, groups) for _, groups in alike.values()),
        tuple(below for below, _ in alike.values()),
    )
