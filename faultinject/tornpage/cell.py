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

Under `order=ordered` a member also says for which crash positions it is legal.
The position c is a stamp: operations before c have reached the platter, c is
in flight, none after it has. Version i is legal for c from its own stamp
(in flight, this atom arrived) to the next version's (in flight, this atom did
not); a mixture only while its write is in flight.

    stamps     -1 ......... 12 ......... 15 .........
    legal c    [-------------]
                             [------------]
                                          [----------

After a second crash the oldest content may itself be an undecided cell of the
first crash: `inner`. It is decided first, on the bytes that are read, and then
counts as one content.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tornpage.model import SECTOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornpage.model import CrashModel

__all__ = ["ALWAYS", "NEVER", "Cell", "Group"]

ALWAYS = -1
"""A crash position before every operation."""

NEVER = 1 << 62
"""A crash position after every operation."""

_Member = tuple[int, int, int, int, int, int]  # i, j, low, high, first c, last c


class Group:
    """The members that a read cannot tell apart.

    Attributes:
        value: What the read returns.
        cell: What the atom may hold once this answer was taken.
        first: First and
        last: last crash position for which the answer is legal.
    """

    __slots__ = ("cell", "first", "last", "value")

    def __init__(self, value: bytes, cell: Cell, first: int, last: int) -> None:
        self.value = value
        self.cell = cell
        self.first = first
        self.last = last

    def __str__(self) -> str:
        return self.cell.describe()


class Cell:
    """The legal contents of one atom.

    Args:
        contents: Oldest first; neighbours differ.
        stamps: The operation that made each content; -1 for a durable one.
        model: Decides about mixtures and about order.
        life: Which crash the stamps belong to: each life of a disk has its
            own crash position.
        inner: The undecided cell that stands for `contents[0]`, if any.
    """

    __slots__ = (
        "_groups",
        "_members",
        "contents",
        "inner",
        "life",
        "model",
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
    ) -> None:
        self.contents = contents
        self.stamps = stamps
        self.model = model
        self.life = life
        self.inner = inner
        self._members = members
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

    def written(self, content: bytes, stamp: int) -> Cell:
        """The cell after operation `stamp` gave the atom a new content."""
        if content == self.contents[-1]:
            return self
        return Cell(
            (*self.contents, content),
            (*self.stamps, stamp),
            self.model,
            self.life,
            inner=self.inner,
        )

    def settled(self, stamp: int) -> Cell:
        """The cell once everything up to operation `stamp` is durable."""
        keep = self._index(stamp)
        if not keep:
            return self
        return Cell(self.contents[keep:], self.stamps[keep:], self.model, self.life)

    def at_least(self, stamp: int) -> Cell:
        """The cell without any content older than operation `stamp` left it."""
        keep = self._index(stamp)
        members = tuple(
            one for one in self.members if one[0] >= keep and one[1] >= keep
        )
        return self._narrowed(members, self.inner)

    def cut(self, keep: int) -> Cell:
        """The cell with zeros from byte `keep` on, whichever content it holds."""
        return Cell(
            tuple(one[:keep].ljust(len(one), b"\0") for one in self.contents),
            self.stamps,
            self.model,
            self.life,
            inner=self.inner and self.inner.cut(keep),
            members=self.members,
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
        members = [one for group in groups for one in group.cell.members]
        return self._narrowed(tuple(members), self.inner)

    def with_inner(self, inner: Cell) -> Cell:
        """The same cell over a further decided oldest content."""
        return self._narrowed(self.members, inner)

    def bits(self) -> float:
        """log2 of the number of distinct legal contents."""
        if self.inner is not None:
            if len(self.contents) == 1:
                return self.inner.bits()
            # Mixtures with an undecided content are not counted.
            rest = Cell(self.contents[1:], self.stamps[1:], self.model, self.life)
            return math.log2(2 ** self.inner.bits() + rest.count())
        return math.log2(self.count())

    def count(self) -> int:
        """How many distinct contents are legal, `inner` left out."""
        contents = self.contents
        if self._members is None and len(contents) <= 2:
            if len(contents) == 1:
                return 1
            if self.model.tear != "byte":
                return 2
            # d bytes differ: each of the two orders has d - 1 proper mixtures
            # and they never coincide; with the two pure ones that is 2 d.
            # At d = 1 it is 2 as well.
            return 2 * _differing(contents[0], contents[1])
        # A stale content that is legal at two times counts once.
        return len({group.value for group in self.groups(0, len(contents[-1]))})

    def describe(self) -> str:
        """The first member in words."""
        i, j, low, _, _, _ = self.members[0]
        if i == j:
            return self._name(i)
        return f"torn at byte {low}: {self._name(i)}, then {self._name(j)}"

    def _name(self, index: int) -> str:
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

    def _narrowed(self, members: tuple[_Member, ...], inner: Cell | None) -> Cell:
        return Cell(
            self.contents,
            self.stamps,
            self.model,
            self.life,
            inner=inner,
            members=members,
        )

    def _all_members(self) -> list[_Member]:
        n = len(self.contents)
        in_order = self.model.order == "ordered"
        pure: list[_Member] = []
        for index in (n - 1, *range(n - 1)):
            first, last = ALWAYS, NEVER
            if in_order:
                first = self.stamps[index] if index else ALWAYS
                last = self.stamps[index + 1] if index + 1 < n else NEVER
            pure.append((index, index, 0, 0, first, last))
        if self.model.tear != "byte":
            return pure
        top = SECTOR - 1
        if in_order:
            steps = [(at, self.stamps[at]) for at in range(n - 1, 0, -1)]
            return pure + [
                (i, j, 1, top, at, at)
                for new, at in steps
                for i, j in ((new, new - 1), (new - 1, new))
            ]
        return pure + [
            (i, j, 1, top, ALWAYS, NEVER)
            for i in range(n - 1, -1, -1)
            for j in range(n - 1, -1, -1)
            if i != j
        ]

    def _partition(
        self, low: int, high: int, oldest: bytes | None
    ) -> tuple[Group, ...]:
        members = self.members
        parts = [content[low:high] for content in self.contents]
        if oldest is not None:
            parts[0] = oldest
        seen: dict[bytes, list[_Member]] = {}
        for member in members:
            i, j, start, stop, first, last = member
            if i == j or parts[i] == parts[j]:
                seen.setdefault(parts[i], []).append(member)
                continue
            left, right = parts[i], parts[j]
            if start <= low:
                upto = min(stop, low)
                seen.setdefault(right, []).append((i, j, start, upto, first, last))
            at = max(start, low + 1)
            end = min(stop, high - 1)
            while at <= end:
                # Cuts between two differing bytes read the same.
                upto = at
                while upto < end and left[upto - low] == right[upto - low]:
                    upto += 1
                cut = at - low
                seen.setdefault(left[:cut] + right[cut:], []).append(
                    (i, j, at, upto, first, last)
                )
                at = upto + 1
            if stop >= high:
                downto = max(start, high)
                seen.setdefault(left, []).append((i, j, downto, stop, first, last))
        if len(seen) == 1:
            (value,) = seen
            return (Group(value, self, ALWAYS, NEVER),)
        return tuple(
            Group(
                value,
                self._narrowed(tuple(run), self.inner),
                min(one[4] for one in run),
                max(one[5] for one in run),
            )
            for value, found in seen.items()
            for run in _runs(found)
        )


def _runs(members: list[_Member]) -> list[list[_Member]]:
    """Members of one value, apart where no crash position joins them.

    A value that was there, was overwritten and came back is legal for two
    separate stretches of crash positions; a group must be one stretch.
    """
    if len(members) == 1 or all(one[4] == ALWAYS for one in members):
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


def _differing(one: bytes, other: bytes) -> int:
    """In how many bytes two contents of equal length differ."""
    size = len(one)
    mixed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return size - mixed.to_bytes(size, "little").count(0)
