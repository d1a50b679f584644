"""What one atom of a file may hold after a crash, decided as far as it was read.

Theory
======
An atom (512 bytes, or 4,096 when pages are atomic) has a chain of contents:
what is durable, then one snapshot of the page cache for each operation since
the last sync that changed it.

    stamps      -1          12          15
    contents    durable --> snapshot -> newest

Each may be what the platter holds. Where a crash model tears inside a sector,
so may a mixture: the first k bytes of one content, the rest of another. There
are 511 of them for every ordered pair, and nobody wants to make them. So the
legal contents are kept as *members*

    (i, j, low, high)     contents[i][:k] + contents[j][k:],  low <= k <= high
    (i, i, 0, 0)          contents[i] as it was

and a read of bytes [a, b) cuts each member at a and b:

    k <= a            the read sees contents[j] alone
    a < k < b         a mixture; only where the two differ is it a new one
    k >= b            the read sees contents[i] alone

A cell is immutable. `groups` partitions the members by what the read would
return; each group carries the cell that is left when that answer is taken.
Nothing about the other bytes of the atom is decided. Groups are remembered in
the cell, so the next execution finds them ready.

A member also says when it is legal.

*Position.* Where writes have an order the crash has a position c, a stamp:
operations before c have reached the platter, c is in flight, none after it
has. Each content has a level: under `order=ordered` the stamp that made it,
under `order=append` that of the newest append in it, otherwise ALWAYS. It is
legal from its own level (in flight, this atom arrived) to the next higher one
(in flight, this atom did not); a mixture where both of its contents are.

    levels     -1 ......... 12 ......... 15 .........
    legal c    [-------------]
                             [------------]
                                          [----------

*Lies.* Where syncs may lie, a content that a later one has replaced before a
sync is legal only if that sync lied. `needs` has for each content the syncs
(their stamps) that must all have lied.

*Garbage* is one more content, which no program wrote; its members come from
outside, see `spoiled`:

    (n, n, atom, stamp)     garbage, as long as the content of operation `stamp`
                            is not on the platter in number `atom`, this or another

`stamp` is NEVER where nothing says that it is there (`ended`).

After a second crash the oldest content may itself be an undecided cell of the
first crash: `inner`. It is decided first, on the bytes that are read, and then
counts as one content.
"""

from __future__ import annotations

import math
from itertools import compress
from typing import TYPE_CHECKING

from tornpage.model import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.model import CrashModel

__all__ = ["ALWAYS", "NEVER", "NO_NEED", "Cell", "Flight", "Group", "Need"]

ALWAYS = -1
"""A crash position before every operation."""

NEVER = 1 << 62
"""A crash position after every operation."""

Need = frozenset[int]
"""Syncs that must all have lied."""

NO_NEED: Need = frozenset()

Flight = tuple[int, int, int, int, Need]
"""A content on its way to the platter: number of the atom, operation, first and last
crash position, need. The operation is NEVER where nothing says that it has arrived."""

# First and last crash position, need.
_Span = tuple[int, int, Need]

# i, j, low, high, first c, last c, need
_Member = tuple[int, int, int, int, int, int, Need]


class Group:
    """The members that a read cannot tell apart.

    Attributes:
        value: What the read returns.
        members: The members; None: all that the cell has.
        first: First and
        last: last crash position for which the answer is legal.
        need: Syncs that must have lied for it.
        parts: The groups that were merged into this one, because whoever asked
            cannot tell them apart either (`question`); `value` is that of the
            first. Usually none.
    """

    __slots__ = ("_cell", "_of", "first", "last", "members", "need", "parts", "value")

    def __init__(
        self,
        value: bytes,
        of: Cell,
        members: tuple[_Member, ...] | None,
        first: int = ALWAYS,
        last: int = NEVER,
        need: Need = NO_NEED,
        parts: tuple[Group, ...] = (),
    ) -> None:
        self.parts = parts
        self.value = value
        self.members = members
        self.first = first
        self.last = last
        self.need = need
        self._of = of
        self._cell = of if members is None else None

    @property
    def cell(self) -> Cell:
        """What the atom may hold once this answer was taken."""
        # Of the 24 ways in which a meta page may be torn a question tells two or
        # three apart: most groups are never the answer.
        if self._cell is None:
            self._cell = self._of.narrowed(self.members, self._of.inner)
        return self._cell

    def __str__(self) -> str:
        return self.cell.describe()


class Cell:
    """The legal contents of one atom.

    Args:
        contents: Oldest first.
        stamps: The operation that made each content; -1 for a durable one.
        model: Decides about mixtures and about order.
        life: Which crash the stamps belong to: each life of a disk has its
            own crash position.
        inner: The undecided cell that stands for `contents[0]`, if any.
        levels: Where each content begins to be legal; None: anywhere.
        needs: Which syncs must have lied for each content; None: none.
        noise: What the atom holds when it is garbage, if it can be.
    """

    __slots__ = (
        "_bits",
        "_groups",
        "_members",
        "_whole",
        "contents",
        "inner",
        "levels",
        "life",
        "model",
        "needs",
        "noise",
        "stamps",
    )

    def __init__(
        self,
        contents: tuple[bytes, ...],
        stamps: tuple[int, ...],
        model: CrashModel,
        life: int = 0,
        *,
        inner: Cell | None = None,
        members: tuple[_Member, ...] | None = None,
        levels: tuple[int, ...] | None = None,
        needs: tuple[Need, ...] | None = None,
        noise: bytes = b"",
    ) -> None:
        self.contents = contents
        self.stamps = stamps
        self.model = model
        self.life = life
        self.inner = inner
        self.levels = levels
        self.needs = needs
        self.noise = noise
        self._members = members
        # Whether every member is left that the contents make.
        self._whole = members is None
        self._bits: float | None = None
        self._groups: dict[tuple[int, int], tuple[Group, ...]] = {}

    @property
    def members(self) -> tuple[_Member, ...]:
        """The legal contents; newest first, then oldest, then the rest."""
        if self._members is None:
            self._members = tuple(self._all_members())
        return self._members

    @property
    def rests_on_inner(self) -> bool:
        """Whether the undecided oldest content is still possible."""
        return self.inner is not None and any(
            not member[0] or not member[1] for member in self.members
        )

    @property
    def sole(self) -> bytes | None:
        """The content, if only one is left; None: several are, or it may be torn."""
        if self.inner is not None or len(self.members) > 1:
            return None
        i, j, *_ = self.members[0]
        if i != j:
            return None
        return self.noise if i == len(self.contents) else self.contents[i]

    def written(
        self,
        content: bytes,
        stamp: int,
        level: int | None = None,
        *,
        always: bool = False,
    ) -> Cell:
        """The cell after operation `stamp` gave the atom a new content.

        Args:
            content: All bytes of the atom.
            stamp: The operation.
            level: From which crash position on it is legal; None: as the
                content before it.
            always: Make a version even of the bytes that are there already.
        """
        if content == self.contents[-1] and not always:
            return self
        levels = self.levels
        if levels is not None or level is not None:
            levels = levels or (ALWAYS,) * len(self.contents)
            levels = (*levels, levels[-1] if level is None else level)
        return Cell(
            (*self.contents, content),
            (*self.stamps, stamp),
            self.model,
            self.life,
            inner=self.inner,
            levels=levels,
            needs=self.needs and (*self.needs, NO_NEED),
        )

    def settled(self, stamp: int) -> Cell:
        """The cell once everything up to operation `stamp` is durable."""
        return self._from(self._index(stamp))

    def doubted(self, sync: int, lies: int) -> Cell:
        """The cell after a sync that may be one of `lies` that did nothing."""
        more = frozenset((sync,))
        needs = self.needs or (NO_NEED,) * len(self.contents)
        needs = (*(one | more for one in needs[:-1]), needs[-1])
        keep = next(at for at, one in enumerate(needs) if len(one) <= lies)
        return self._from(keep, needs)

    def reverted(self, stamp: int) -> Cell:
        """The cell without what operations after `stamp` did."""
        end = self._index(stamp) + 1
        return Cell(
            self.contents[:end],
            self.stamps[:end],
            self.model,
            self.life,
            inner=self.inner,
            levels=self.levels and self.levels[:end],
            needs=self.needs and self.needs[:end],
        )

    def freed(self) -> Cell:
        """The cell once its contents may be on the platter in any order."""
        if self.levels is None:
            return self
        return Cell(
            self.contents,
            self.stamps,
            self.model,
            self.life,
            inner=self.inner,
            needs=self.needs,
        )

    def flights(self, atom: int) -> list[Flight]:
        """When a content is replacing another on the platter, in atom number `atom`."""
        spans = self._spans()
        found: list[Flight] = []
        for at in range(len(spans) - 1):
            first = max(spans[at][0], spans[at + 1][0])
            last = min(spans[at][1], spans[at + 1][1])
            if first <= last:
                found.append((atom, self.stamps[at + 1], first, last, spans[at][2]))
        return found

    def spoiled(self, noise: bytes, flights: Sequence[Flight]) -> Cell:
        """The cell when it may also be garbage.

        Args:
            noise: What it holds then.
            flights: What is on its way meanwhile.
        """
        n = len(self.contents)
        made = self.narrowed(
            (*self.members, *((n, n, *one) for one in flights)), self.inner
        )
        made.noise = noise
        return made

    @property
    def may_end(self) -> bool:
        """Whether `ended` may take something away."""
        n = len(self.contents)
        return self.noise != b"" and any(
            one[0] == n and one[3] < NEVER for one in self.members
        )

    def ended(self, came: Callable[[int], int]) -> Cell:
        """The cell without garbage of what is not on its way any more.

        Args:
            came: Gives for the number of an atom the newest operation of which it is
                known that its content is there.
        """
        n = len(self.contents)
        # What goes on now goes on for ever.
        left = dict.fromkeys(
            one if one[0] < n else (n, n, 0, NEVER, *one[4:])
            for one in self.members
            if one[0] < n or one[3] > came(one[2])
        )
        return self.narrowed(tuple(left), self.inner)

    def at_least(self, stamp: int) -> Cell:
        """The cell without any content older than operation `stamp` left it."""
        keep = self._index(stamp)
        members = tuple(
            one for one in self.members if one[0] >= keep and one[1] >= keep
        )
        return self.narrowed(members, self.inner)

    def level_after(self, stamp: int) -> int:
        """From where on the content is legal that operation `stamp` left."""
        return self.levels[self._index(stamp)] if self.levels else ALWAYS

    def cut(self, keep: int) -> Cell:
        """The cell with zeros from byte `keep` on, whichever content it holds."""
        return Cell(
            tuple(one[:keep].ljust(len(one), b"\0") for one in self.contents),
            self.stamps,
            self.model,
            self.life,
            inner=self.inner and self.inner.cut(keep),
            members=self.members,
            levels=self.levels,
            needs=self.needs,
            noise=self.noise and self.noise[:keep].ljust(len(self.noise), b"\0"),
        )

    def groups(
        self, low: int, high: int, oldest: bytes | None = None
    ) -> tuple[Group, ...]:
        """What a read of bytes [low, high) of the atom may return.

        Args:
            low: First byte, within the atom.
            high: Behind the last byte.
            oldest: The same bytes of `inner`, which the caller decided first.

        Returns:
            At least one group; the first is the most honest. The same value
            may come twice when it was there at two separate times and the
            order of writes tells these apart.
        """
        if oldest is not None:
            return self._partition(low, high, oldest)
        found = self._groups.get((low, high))
        if found is None:
            found = self._groups[low, high] = self._partition(low, high, None)
        return found

    def only(self, groups: Sequence[Group]) -> Cell:
        """The cell with no contents but those of some of its groups."""
        return self.narrowed(self.members_of(groups), self.inner)

    def members_of(self, groups: Sequence[Group]) -> tuple[_Member, ...]:
        """The legal contents that are in some of its groups."""
        members: list[_Member] = []
        for group in groups:
            members += self.members if group.members is None else group.members
        return tuple(members)

    def with_inner(self, inner: Cell) -> Cell:
        """The same cell over a further decided oldest content."""
        return self.narrowed(self.members, inner)

    def bits(self) -> float:
        """log2 of the number of distinct legal contents, if no sync lied."""
        if self._bits is None:
            self._bits = self._log2()
        return self._bits

    def _log2(self) -> float:
        honest = self._honest()
        if honest.inner is not None:
            if len(honest.contents) == 1:
                return honest.inner.bits()
            # Mixtures with an undecided content are not counted.
            rest = Cell(honest.contents[1:], honest.stamps[1:], self.model, self.life)
            return math.log2(2 ** honest.inner.bits() + rest.count())
        return math.log2(honest.count())

    def count(self) -> int:
        """How many distinct contents are legal, `inner` left out."""
        contents = self.contents
        if self._whole and len(contents) <= 2:
            if len(contents) == 1:
                return 1
            if not self.model.mixes:
                return 1 + (contents[0] != contents[1])
            # d bytes differ: each of the two orders has d - 1 proper mixtures
            # and they never coincide; with the two pure ones that is 2 d.
            # At d = 1 it is 2 as well. Garbage is one more.
            differ = max(2 * _distance(contents[0], contents[1]), 1)
            return differ + (self.model.tear == "garbage")
        # A stale content that is legal at two times counts once.
        found = len(self._values(0, len(contents[-1]), None))
        own = self.model.tear == "garbage" and not self.noise and len(contents) > 1
        return found + own

    def _honest(self) -> Cell:
        """The cell without contents for which a sync must have lied."""
        if self.needs is None or not self._whole:
            return self
        return self._from(next(at for at, one in enumerate(self.needs) if not one))

    def describe(self) -> str:
        """The first member in words."""
        i, j, low, *_ = self.members[0]
        if i == j:
            return self._name(i)
        return f"torn at byte {low}: {self._name(i)}, then {self._name(j)}"

    def _name(self, index: int) -> str:
        if index == len(self.contents):
            return "garbage"
        if index == len(self.contents) - 1 and index:
            return "new content"
        if self.stamps[index] < 0 or not index:
            return "old content"
        return f"content of operation {self.stamps[index]}"

    def _index(self, stamp: int) -> int:
        """The newest content made by an operation up to `stamp`."""
        index = len(self.stamps) - 1
        while index and self.stamps[index] > stamp:
            index -= 1
        return index

    def _from(self, keep: int, needs: tuple[Need, ...] | None = None) -> Cell:
        """The cell without its `keep` oldest contents."""
        needs = needs or self.needs
        if not keep and needs is self.needs:
            return self
        return Cell(
            self.contents[keep:],
            self.stamps[keep:],
            self.model,
            self.life,
            inner=None if keep else self.inner,
            levels=self.levels and self.levels[keep:],
            needs=needs and needs[keep:],
        )

    def narrowed(self, members: tuple[_Member, ...] | None, inner: Cell | None) -> Cell:
        """The same cell with these members, over this undecided oldest content."""
        return Cell(
            self.contents,
            self.stamps,
            self.model,
            self.life,
            inner=inner,
            members=members,
            levels=self.levels,
            needs=self.needs,
            noise=self.noise,
        )

    def _spans(self) -> list[_Span]:
        """When each content is legal."""
        n = len(self.contents)
        needs = self.needs or (NO_NEED,) * n
        levels = self.levels
        if levels is None:
            return [(ALWAYS, NEVER, need) for need in needs]
        return [
            (
                levels[at] if at else ALWAYS,
                min((one for one in levels[at:] if one > levels[at]), default=NEVER),
                needs[at],
            )
            for at in range(n)
        ]

    def _all_members(self) -> list[_Member]:
        n = len(self.contents)
        spans = self._spans()
        members: list[_Member] = [
            (at, at, 0, 0, *spans[at]) for at in (n - 1, *range(n - 1))
        ]
        if not self.model.mixes:
            return members
        top = SECTOR - 1
        for i in range(n - 1, -1, -1):
            for j in range(n - 1, -1, -1):
                first = max(spans[i][0], spans[j][0])
                last = min(spans[i][1], spans[j][1])
                if i != j and first <= last:
                    need = spans[min(i, j)][2]
                    members.append((i, j, 1, top, first, last, need))
        return members

    def _partition(
        self, low: int, high: int, oldest: bytes | None
    ) -> tuple[Group, ...]:
        seen = self._values(low, high, oldest)
        if len(seen) == 1:
            (value,) = seen
            return (Group(value, self, None),)
        if self.levels is None and self.needs is None and not self.noise:
            return tuple(
                Group(value, self, tuple(found)) for value, found in seen.items()
            )
        return tuple(
            Group(
                value,
                self,
                tuple(run),
                min(one[4] for one in run),
                max(one[5] for one in run),
                min((one[6] for one in run), key=len),
            )
            for value, found in seen.items()
            for run in _apart(found)
        )

    def _values(
        self, low: int, high: int, oldest: bytes | None
    ) -> dict[bytes, list[_Member]]:
        """What bytes [low, high) may be, and the members of each.

        `oldest` stands for the first content, if it is given.
        """
        parts = [content[low:high] for content in self.contents]
        if oldest is not None:
            parts[0] = oldest
        if self.noise:
            parts.append(self.noise[low:high])
        seen: dict[bytes, list[_Member]] = {}
        for member in self.members:
            i, j, start, stop, first, last, need = member
            left, right = parts[i], parts[j]
            if i == j or left == right:
                seen.setdefault(left, []).append(member)
                continue
            if start <= low:
                upto = min(stop, low)
                seen.setdefault(right, []).append(
                    (i, j, start, upto, first, last, need)
                )
            at = max(start, low + 1)
            end = min(stop, high - 1)
            # Cuts between two differing bytes read the same.
            for differs in (*_differing(left, right), high):
                if at > end:
                    break
                upto = min(low + differs, end)
                if upto >= at:
                    cut = at - low
                    seen.setdefault(left[:cut] + right[cut:], []).append(
                        (i, j, at, upto, first, last, need)
                    )
                    at = upto + 1
            if stop >= high:
                downto = max(start, high)
                seen.setdefault(left, []).append(
                    (i, j, downto, stop, first, last, need)
                )
        return seen


def _apart(members: list[_Member]) -> list[list[_Member]]:
    """Members of one value, apart where one answer would not do for them.

    An answer has one stretch of crash positions. A value that was there, was
    overwritten and came back has two. An answer has one need. Where needs are
    not nested in each other, or come together with positions, each member is
    an answer of its own; that splits more than it must and is rare.
    """
    if len(members) == 1:
        return [members]
    free = all(one[4] == ALWAYS for one in members)
    if any(one[6] for one in members):
        least = min((one[6] for one in members), key=len)
        nested = all(least <= one[6] for one in members)
        whole = free and all(one[5] == NEVER for one in members)
        return [members] if nested and whole else [[one] for one in members]
    if free:
        return [members]
    place = {one: at for at, one in enumerate(members)}
    runs: list[list[_Member]] = []
    end = ALWAYS
    for one in sorted(members, key=lambda one: (one[4], one[5])):
        if runs and one[4] <= end + 1:
            runs[-1].append(one)
            end = max(end, one[5])
        else:
            runs.append([one])
            end = one[5]
    for run in runs:
        run.sort(key=place.__getitem__)
    runs.sort(key=lambda run: place[run[0]])
    return runs


def _mixed(one: bytes, other: bytes) -> bytes:
    """Zero where two contents of equal length are the same."""
    mixed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return mixed.to_bytes(len(one), "little")


def _distance(one: bytes, other: bytes) -> int:
    """In how many bytes they differ."""
    return len(one) - _mixed(one, other).count(0)


def _differing(one: bytes, other: bytes) -> list[int]:
    """In which bytes they differ."""
    return list(compress(range(len(one)), _mixed(one, other)))
