"""Answers about parts of a file, kept for as long as the bytes they rest on stay.

Theory
======
Recovery of a large file looks at all of it, and nearly all of it is what it was at the
crash point before. A question may therefore be made of parts, each a question of its
own (`View.part`), and a part's answer is kept here together with what it rests on:

    whole file --part--> tree of page 9 --part--> tree of page 5   rests on page 5
                           rests on page 9   '--> tree of page 6   rests on page 6

    an operation changes page 6:  the answers for 6, for 9 and above are broken,
                                  the one for 5 is not

So asking again costs what changed, however large the file is.

When an answer may be kept
--------------------------
A part is pure, as every question is: its answer follows from the bytes that it viewed
and from the answers of its own parts. It is kept when

    each byte was settled    the platter had one content there; nothing was chosen,
                             and nothing written in this life
    each byte was there      no view ended at the file's end, so no size matters
                             beyond being large enough (`reach`)
    so were its parts'       they were kept too

An operation tells the pieces of which it changes what they may be (`Changes`), and
that is what `apply` goes by: the same rule that lets the explorer reuse an outcome, at
the same moment. A crashed disk that has written to its file meanwhile asks
`resting_on` which answers are not for it any more.

Layers
------
What rests on bytes that no operation of the program has touched holds for the next
program that starts from the same files. These answers are the base and outlive a
program; the others are its own.

What it is not: it does not know what is asked. A part that is not pure is wrong here
as it is anywhere in a question, see `question`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

    from tornpage.platter.pieces import Changes

__all__ = ["Part", "Parts"]

# Atoms to one entry of the index: a page of 4 KiB of sectors.
_BLOCK: Final = 8

# Answers kept, at most: 0.9 KB each for a part that views one page, so 1.8 GB.
# Beyond it no more are kept, which costs time and nothing else.
_MOST: Final = 2_000_000


class Part:
    """An answer and what it rests on.

    Attributes:
        answer: The answer.
        inode: The file.
        runs: Atoms viewed, as (first, behind the last).
        reach: The file must be this long, in bytes; counts the parts below.
        settled_ever: Whether no operation of the program had touched any of it.
    """

    __slots__ = ("answer", "inode", "reach", "runs", "settled_ever")

    def __init__(
        self,
        answer: Any,
        inode: int,
        runs: tuple[tuple[int, int], ...],
        reach: int,
        *,
        settled_ever: bool,
    ) -> None:
        self.answer = answer
        self.inode = inode
        self.runs = runs
        self.reach = reach
        self.settled_ever = settled_ever

    def rests_on(self, atoms: Iterable[int]) -> bool:
        """Whether it viewed one of these itself."""
        runs = self.runs
        return any(first <= at < behind for at in atoms for first, behind in runs)


class _Layer:
    """Answers, and the way from bytes to the answers that rest on them.

    Attributes:
        known: By file and question.
        users: The answers that viewed a block of a file.
        above: The answers that an answer is a part of.
        longest: The most that any of them reaches into a file.
    """

    __slots__ = ("above", "known", "longest", "users")

    def __init__(self) -> None:
        self.known: dict[tuple[int, Any], Part] = {}
        self.users: dict[tuple[int, int], list[Part]] = {}
        self.above: dict[Part, list[Part]] = {}
        self.longest: dict[int, int] = {}

    def add(self, key: tuple[int, Any], part: Part, below: Collection[Part]) -> None:
        self.known[key] = part
        inode = part.inode
        self.longest[inode] = max(self.longest.get(inode, 0), part.reach)
        for first, behind in part.runs:
            for block in range(first // _BLOCK, (behind - 1) // _BLOCK + 1):
                self.users.setdefault((inode, block), []).append(part)
        for one in below:
            self.above.setdefault(one, []).append(part)


class Parts:
    """The kept answers of one program at a time.

    Args:
        most: Answers to keep.
    """

    __slots__ = (
        "_all_touched",
        "_base",
        "_broken",
        "_files",
        "_most",
        "_own",
        "_touched",
    )

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._files: Mapping[str, bytes] | None = None
        self._base = _Layer()
        self._own = _Layer()
        self._begin()

    def __len__(self) -> int:
        return len(self._base.known) + len(self._own.known)

    def begin(self, files: Mapping[str, bytes] | None) -> None:
        """Another program.

        Args:
            files: What it starts from; None: a platter that nobody else starts from.
        """
        known = self._files
        same = (
            files is not None
            and known is not None
            and files.keys() == known.keys()
            # Not equal but the same: comparing a gigabyte is no way to begin.
            and all(files[path] is known[path] for path in files)
        )
        if not same or len(self._base.known) >= self._most:
            self._base = _Layer()
        self._files = files
        self._own = _Layer()
        self._begin()

    def _begin(self) -> None:
        self._broken: set[Part] = set()
        # Atoms that the program has changed, by inode.
        self._touched: dict[int, set[int]] = {}
        self._all_touched = False

    def find(self, inode: int, question: Hashable) -> Part | None:
        """The answer to a question about a file as the crash left it."""
        key = inode, question
        part = self._own.known.get(key) or self._base.known.get(key)
        return None if part is None or part in self._broken else part

    def add(
        self,
        inode: int,
        question: Hashable,
        answer: Hashable,
        atoms: Collection[int],
        reach: int,
        below: Collection[Part],
    ) -> Part | None:
        """Keep an answer.

        Args:
            inode: The file.
            question: What was asked.
            answer: What came out.
            atoms: What it viewed itself.
            reach: Where the last of this ends, in bytes.
            below: Its parts.

        Returns:
            What is kept, or None when there are enough.
        """
        if len(self) >= self._most:
            return None
        runs = _runs(atoms)
        reach = max((reach, *(one.reach for one in below)))
        touched = self._touched.get(inode)
        ever = (
            not self._all_touched
            and (touched is None or touched.isdisjoint(atoms))
            and all(one.settled_ever for one in below)
        )
        part = Part(answer, inode, runs, reach, settled_ever=ever)
        layer = self._base if ever else self._own
        layer.add((inode, question), part, below)
        return part

    def apply(self, changes: Changes) -> None:
        """Break what an operation changes, and note it in `changes.broken`."""
        if changes.everything:
            self._all_touched = True
            for layer in (self._base, self._own):
                self._broken.update(layer.known.values())
            return
        found: set[Part] = set()
        for inode, atoms in changes.atoms.items():
            if not atoms:
                continue
            self._touched.setdefault(inode, set()).update(atoms)
            self._collect(inode, atoms, found)
        for inode, least in changes.sizes.items():
            for layer in (self._base, self._own):
                # Looked for one by one, because files seldom become shorter.
                if least < layer.longest.get(inode, 0):
                    found.update(
                        part
                        for part in layer.known.values()
                        if part.inode == inode and part.reach > least
                    )
        found -= self._broken
        if found:
            changes.broken = found
            self._broken |= found

    def resting_on(self, inode: int, atoms: Collection[int]) -> set[Part]:
        """The answers that rest on one of these atoms, themselves or by a part."""
        found: set[Part] = set()
        self._collect(inode, atoms, found)
        return found

    def _collect(self, inode: int, atoms: Collection[int], found: set[Part]) -> None:
        layers = [one for one in (self._base, self._own) if one.known]
        if not layers:
            return
        stack: list[Part] = []
        blocks: dict[int, list[int]] = {}
        for at in atoms:
            blocks.setdefault(at // _BLOCK, []).append(at)
        for block, near in blocks.items():
            for layer in layers:
                stack += [
                    part
                    for part in layer.users.get((inode, block), ())
                    if part.rests_on(near)
                ]
        while stack:
            part = stack.pop()
            if part not in found:
                found.add(part)
                for layer in layers:
                    stack += layer.above.get(part, ())


def _runs(atoms: Collection[int]) -> tuple[tuple[int, int], ...]:
    """Atom numbers as stretches of neighbours."""
    if atoms and (behind := max(atoms) + 1) - (first := min(atoms)) == len(atoms):
        return ((first, behind),)
    runs: list[tuple[int, int]] = []
    for at in sorted(atoms):
        if runs and runs[-1][1] == at:
            runs[-1] = (runs[-1][0], at + 1)
        else:
            runs.append((at, at + 1))
    return tuple(runs)
