"""What a life decides of a file by looking at it: its size, and what atoms hold.

Theory
======
The platter has several legal contents, and a program is about to see one. So one is
chosen, no more than is seen is chosen, and what is left is narrowed to what agrees:

    legal     "aaaa"  "aabb"  "bbbb"        byte 0 is read: "a" is chosen
    left      "aaaa"  "aabb"                byte 3 is read: "b" is chosen
    left              "aabb"

    piece        asked when                             narrows
    atom         bytes are read that may differ         to the contents that
                                                        have these bytes there
    size         a read's end, or the size, may differ  to the sizes that agree

Under `order=ordered` the answers also narrow the stretch of crash positions that are
still possible, one stretch for each earlier life; under `order=append` one for each
file of it. Where syncs may lie, an answer may need some of them to have lied; together
they may be no more than the model allows. An answer outside that is not offered. See
`bounds`, which is shared with `names`.

Under `size=with-data` sizes and contents are tied: a size is not there without what
writes that made the file longer have put into what it shows.

What it is not: it does not know what was consumed, and sees no page cache (`life`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornpage.platter.cell import ALWAYS, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tornpage.choices import Chooser
    from tornpage.disk.node import Node
    from tornpage.model import CrashModel
    from tornpage.platter.bounds import Bounds
    from tornpage.platter.cell import Cell, Group
    from tornpage.platter.file_image import Size
    from tornpage.platter.pieces import CutKey

__all__ = ["Decisions"]


class Decisions:
    """Decides what the platter has of files.

    Args:
        model: What a crash may do.
        chooser: Decides where there is a choice.
        bounds: What is still possible; shared with the names of the life.

    Attributes:
        coupled: Whether an answer may rule out answers to other questions.
    """

    __slots__ = (
        "_appends",
        "_atom",
        "_bounds",
        "_chooser",
        "_in_order",
        "_lies",
        "_with_data",
        "coupled",
    )

    def __init__(self, model: CrashModel, chooser: Chooser, bounds: Bounds) -> None:
        self._chooser = chooser
        self._bounds = bounds
        self._atom = model.atom
        self._in_order = model.order == "ordered"
        self._appends = model.order == "append"
        self._with_data = model.with_data
        self._lies = model.lies
        self.coupled = self._in_order or self._appends or self._lies > 0

    def size(self, node: Node, start: int, stop: int) -> int:
        """Where [start, stop) ends: groups the possible sizes by that, and asks."""
        sizes = node.sizes
        life = node.image.life
        if self._in_order:
            first, last = self._bounds.cut(life)
            sizes = tuple(
                one for one in sizes if one.first <= last and first <= one.last
            )
        if self._lies:
            sizes = tuple(one for one in sizes if self._bounds.believable(one.need))
        whole = self._with_data and stop == NEVER
        if self._with_data:
            sizes = node.image.weakest(sizes)
        groups: dict[tuple[int, int], list[Size]] = {}
        # The newest size is the honest answer, then the oldest.
        for one in (sizes[-1], *sizes[:-1]):
            # Whoever wants all of the size decides, too, what came with it.
            key = max(start, min(stop, one.size)), one.stamp if whole else 0
            groups.setdefault(key, []).append(one)
        answers = [answer for answer, _ in groups]
        if len(answers) > 1:
            if self._in_order:
                # One stretch of crash positions an answer: sizes one by one.
                runs = [[one] for one in (sizes[-1], *sizes[:-1])]
                answers = [max(start, min(stop, run[0].size)) for run in runs]
            else:
                runs = list(groups.values())
            label = ("size", node.path, tuple(run[0] for run in runs))
            picked = self._chooser.choose(len(runs), label)
            chosen = set(runs[picked])
            node.sizes = tuple(dict.fromkeys(one for one in sizes if one in chosen))
            self._bounds.lie(min((one.need for one in chosen), key=len))
            if self._in_order:
                only = runs[picked][0]
                self._bounds.narrow(life, only.first, only.last)
            node.size = self.only_size(node)
            return answers[picked]
        if whole:
            node.sizes = sizes[:1]
        return answers[0]

    def only_size(self, node: Node) -> int | None:
        """The size, if there is one only and what came with it is known, too."""
        sizes = node.sizes
        if len({one.size for one in sizes}) > 1:
            return None
        if self._with_data and len(set(node.image.weakest(sizes))) > 1:
            return None
        return sizes[0].size

    def narrow(
        self, node: Node, at: int, cell: Cell, low: int, high: int
    ) -> tuple[bytes, Cell]:
        """The bytes and the cell that is left, after asking if need be."""
        oldest = None
        if cell.rests_on_inner and cell.inner is not None:
            oldest, inner = self.narrow(node, at, cell.inner, low, high)
            if inner is not cell.inner:
                cell = cell.with_inner(inner)
        groups: Sequence[Group] = cell.groups(low, high, oldest)
        key: CutKey = (cell.life, node.inode) if self._appends else cell.life
        if self.coupled:
            every = groups
            first, last = self._bounds.cut(key)
            groups = [
                one
                for one in groups
                if one.first <= last
                and first <= one.last
                and self._bounds.believable(one.need)
            ]
            if len({one.value for one in groups}) == 1:
                # Decided, though not asked: by what was decided elsewhere. The
                # cell has to know, the next life sees only the cell.
                if len(groups) < len(every):
                    cell = cell.only(groups)
                return groups[0].value, cell
        elif len(groups) == 1:
            return groups[0].value, cell
        place = at * self._atom + low
        label = ("data", node.path, place, high - low, tuple(groups))
        group = groups[self._chooser.choose(len(groups), label)]
        if self.coupled:
            self._bounds.narrow(key, group.first, group.last, group.need)
        return group.value, group.cell

    def grown(
        self, node: Node, at: int, cell: Cell, size: Callable[[Node], int]
    ) -> Cell:
        """The cell without what the size rules out: old contents, and their damage.

        Args:
            node: The file.
            at: The atom's number.
            cell: What it may hold.
            size: Decides the size; called where it tells something of this atom.
        """
        file = node.image
        if self._appends:
            # Any atom may tell the position, as a neighbour of one that grew.
            size(node)
            self.bound(node)
        may_end = cell.may_end
        if not may_end and not file.has_grown(at):
            return cell
        size(node)
        arrived = self._arrived(node)
        came = file.came(at, arrived)
        if came != ALWAYS:
            cell = cell.at_least(came)
        return cell.ended(lambda one: file.came(one, arrived)) if may_end else cell

    def bound(self, node: Node) -> None:
        """A size that came with its data has come after these appends."""
        file = node.image
        arrived = self._arrived(node)
        low = ALWAYS
        for one in file.extensions:
            if not one.since <= arrived < one.until:
                continue
            for at in one.atoms(self._atom):
                cell = file.cell(at)
                if cell is not None:
                    low = max(low, cell.level_after(one.stamp))
        self._bounds.narrow((file.life, node.inode), low, NEVER)

    def _arrived(self, node: Node) -> int:
        """The operation whose size is there, of a file whose size is decided."""
        return node.image.weakest(node.sizes)[0].stamp
