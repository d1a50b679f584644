"""One life of a simulated disk: from power on to power off.

Theory
======
A life stands on an `Image`, the platter as the last crash (or the beginning)
left it, and keeps what happened since in memory:

    read of an atom:   own page cache, else the image
                                            |
                              several legal contents there?
                                   no: they agree on these bytes
                                   yes: choose, and narrow the atom

Decisions are made for what is consumed and for nothing else, and hold until
the life ends; `image` hands them on to the next life. How atoms and sizes are decided
is in `decisions`, names in `names`; what ties answers to each other is in `bounds`,
which both share.

What costs extra decisions, all of them sound because they only split what
one execution would have covered: writing a part of an undecided atom decides the rest
of it; changing the size decides the size; under `size=with-data`, touching an
atom that a pending write grew into decides the size first, and so does reading
what its flight may have damaged, or writing in its unit.

A sync asks `fail_sync` whether it is to fail. A failed sync changes what the
program sees only under fail=revert: the page cache goes back to what it was at
the last sync that returned 0. `Node.before` is kept for that.

Under journal=shared the file system may be read-only behind a failed sync and not
say so. Until it takes a change, which tells that it is not, syncs do nothing:

    sync f    failed    in doubt
    sync g    idle
    write g             it was not the journal
    sync g    ok

What is kept of a file is in `node`, what is asked about it in `question`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tornpage.disk.decisions import Decisions
from tornpage.disk.names import UNKNOWN, Names
from tornpage.disk.node import Node
from tornpage.disk.question import put
from tornpage.platter.bounds import Bounds
from tornpage.platter.cell import NEVER
from tornpage.platter.file_image import FileImage
from tornpage.platter.pieces import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tornpage.choices import Chooser
    from tornpage.platter.cell import Cell
    from tornpage.platter.image import Image
    from tornpage.platter.parts import Part
    from tornpage.platter.pieces import Place

__all__ = ["Life", "SyncFault"]

T = TypeVar("T")

SyncFault = Callable[[str, str, int], int]
"""(kind, path, index) -> 0, or the errno with which this sync fails."""


def _disjoint(layer: Mapping[int, object], atoms: Iterable[int]) -> bool:
    return not layer or layer.keys().isdisjoint(atoms)


class Life:
    """What a running program sees of a disk, and what it decided by looking.

    Args:
        image: What the platter may hold. It is read, not changed.
        chooser: Decides what the platter does hold.
        watch: Gets every piece that is consumed.

    Attributes:
        chooser: What decides.
        told: Whether the last question's answer tells everything that was chosen
            for it.
        parts: Answers that are kept from one crash point to the next; None: none.
    """

    __slots__ = (
        "_appends",
        "_atom",
        "_bounds",
        "_decisions",
        "_image",
        "_in_doubt",
        "_names",
        "_next_inode",
        "_reverts",
        "_spoils",
        "_syncs",
        "_watch",
        "_with_data",
        "chooser",
        "fail_sync",
        "generation",
        "model",
        "nodes",
        "parts",
        "read_only",
        "told",
    )

    def __init__(self, image: Image, chooser: Chooser, watch: Watch) -> None:
        self.model = image.model
        self.generation = 0
        self.fail_sync: SyncFault | None = None
        self.read_only = False
        self.told = True
        # Whether a sync has failed since the last change, and the journal may be dead.
        self._in_doubt = False
        self._syncs = 0
        self._reverts = image.model.fail == "revert"
        self._image = image
        self.chooser = chooser
        self._watch = watch
        self.parts = image.parts
        self._atom = image.model.atom
        self._with_data = image.model.with_data
        self._appends = image.model.order == "append"
        self.nodes: dict[int, Node] = {}
        self._bounds = Bounds(image.cuts, image.lied, image.model.lies)
        self._names = Names(image, chooser, self._bounds)
        self._decisions = Decisions(image.model, chooser, self._bounds)
        self._spoils = image.model.spoils
        self._next_inode = max(image.files, default=0) + 1

    def listen(self) -> Watch:
        """Collect what is consumed from now on in a watch of its own."""
        watch = self._watch = Watch()
        for inode, node in self.nodes.items():
            node.atoms = watch.atoms.setdefault(inode, set())
        return watch

    def kill(self) -> None:
        """Release all locks and disown all open files."""
        self.generation += 1
        for node in self.nodes.values():
            node.lockers.clear()

    def image(self) -> Image:
        """The platter as this life found it, with all that it decided."""
        kept = self._names.kept()
        if self._appends and self._with_data:
            for node in self.nodes.values():
                if node.size is not None and node.image.extensions:
                    self._decisions.bound(node)
        image = self._image.reborn(kept, self._bounds.cuts, self._bounds.lied)
        for inode, node in self.nodes.items():
            file = image.files.get(inode)
            if file is None:
                continue
            file.open.update(node.cells)
            file.sizes = node.sizes
            if self._with_data and node.size is not None:
                for at, cell in list(file.open.items()):
                    left = self._decisions.grown(node, at, cell, self.size)
                    file.open[at] = left
                    if left.sole is not None:
                        # Zeros over zeros are no write of the next life.
                        file.held[at] = left.sole
                        del file.open[at]
                file.extensions = []
        image.begin()
        return image

    # -- syncs ---------------------------------------------------------------

    def sync(self, node: Node, kind: str, path: str) -> tuple[str, int]:
        """Sync a file; says what became of it and the errno to raise, or 0."""
        number = self._asked_to_fail(kind, path)
        if node.late:
            number, node.late = node.late, 0
            return "reported", number
        if self.read_only:
            return ("reported", number) if number else ("idle", 0)
        if not number:
            if self._in_doubt:
                return "idle", 0
            node.before = None
            return "ok", 0
        fail = self.model.fail
        if fail == "late":
            node.late = number
            return "silent", 0
        if fail == "revert":
            if node.before is not None:
                node.cache, node.size, node.asked, node.limit = node.before
                node.before = None
                # What was found out since then stays so: the size that the cache
                # goes back to is the platter's.
                if node.size is None:
                    node.size = self._decisions.only_size(node)
            return "reverted", number
        if fail == "read-only":
            self.read_only = True
            return "read-only", number
        self._in_doubt = self.model.journal == "shared"
        return "failed", number

    def sync_dir(self, path: str) -> tuple[str, int]:
        """Sync a directory; says as `sync` does."""
        number = self._asked_to_fail("syncdir", path)
        if number:
            self.read_only = True
            return "read-only", number
        return "idle" if self.read_only or self._in_doubt else "ok", 0

    def _asked_to_fail(self, kind: str, path: str) -> int:
        index, self._syncs = self._syncs, self._syncs + 1
        return self.fail_sync(kind, path, index) if self.fail_sync else 0

    def _remember(self, node: Node) -> None:
        """Keep what the cache goes back to if the next sync fails."""
        if self._reverts and node.before is None:
            node.before = (dict(node.cache), node.size, node.asked, node.limit)

    # -- names ---------------------------------------------------------------

    def name(self, place: Place, number: int | None) -> None:
        """Set what a place stands for."""
        self._in_doubt = False
        self._names.set(place, number)

    def create(self, place: Place) -> int:
        """Make an empty file; returns its inode."""
        inode = self._next_inode
        self._next_inode += 1
        self.name(place, inode)
        path = self._names.path(place)
        node = Node(FileImage(inode, b"", self._atom), path, set())
        node.asked = False
        self.nodes[inode] = node
        return inode

    def folder(self, place: Place) -> int | None:
        """What there is in a place; UNKNOWN: perhaps a directory, nobody has said."""
        self._watch.names.add(place)
        return UNKNOWN if self._names.is_unknown(place) else self._names.lookup(place)

    def find_folder(self, place: Place) -> int:
        """Take a directory that nobody spoke of for one that has been there."""
        return self._names.new_folder(place)

    def make_folder(self, place: Place) -> int:
        """Make an empty directory; returns its number."""
        self._in_doubt = False
        return self._names.make_folder(place)

    def assume_folder(self, place: Place) -> int:
        """A directory has been there; its number when nobody spoke of it, or else 0."""
        self._watch.names.add(place)
        return self._names.assume(place)

    def folder_path(self, folder: int) -> str | None:
        """The path of a directory that was looked up; None: it was removed since."""
        return self._names.folder_path(folder)

    def lookup(self, place: Place) -> int | None:
        """What a place stands for, decided if need be: a file, a directory or None."""
        if not self._names.is_looked_up(place):
            self._watch.names.add(place)
        return self._names.lookup(place)

    def is_pending(self, place: Place) -> bool:
        """Whether a change of this place may or may not be on the platter."""
        return self._names.is_pending(place)

    def names_in(self, folder: int) -> tuple[str, ...]:
        """The names that there may be in a directory, sorted."""
        # A name that comes to be later changes what is found here as well.
        self._watch.any_name = True
        return self._names.below(folder)

    # -- files ---------------------------------------------------------------

    def node(self, inode: int, path: str) -> Node:
        """The file of this inode, called `path` when it is opened first."""
        node = self.nodes.get(inode)
        if node is None:
            atoms = self._watch.atoms.setdefault(inode, set())
            node = Node(self._image.files[inode], path, atoms)
            if self._with_data:
                node.size = self._decisions.only_size(node)
            self.nodes[inode] = node
        return node

    def size(self, node: Node) -> int:
        """The size, decided if need be."""
        if node.asked:
            self._watch.reach[node.inode] = NEVER
        if node.size is None:
            node.size = size = self._decisions.size(node, 0, NEVER)
            node.sizes = tuple(one for one in node.sizes if one.size == size)
        return node.size

    def readable(self, node: Node, start: int, stop: int) -> int:
        """Where a read of [start, stop) ends; decides no more than that."""
        if node.size is not None:
            if node.asked:
                self._reaches(node, stop, node.size)
            return min(stop, node.size)
        if node.asked:
            self._watch.reach[node.inode] = NEVER
        return self._decisions.size(node, start, stop)

    def _reaches(self, node: Node, end: int, size: int) -> None:
        """Note that the size mattered; inside the file only that it is enough."""
        watch = self._watch
        if end > size or self._with_data:
            watch.reach[node.inode] = NEVER
        elif end > watch.reach.get(node.inode, 0):
            watch.reach[node.inode] = end

    def pread(self, node: Node, start: int, stop: int) -> bytes:
        """Bytes [start, stop), fewer where the file ends."""
        size = node.size
        if size is None:
            stop = self.readable(node, start, stop)
        else:
            if node.asked:
                self._reaches(node, stop, size)
            stop = min(stop, size)
        at = start // self._atom
        low, high = start - at * self._atom, stop - at * self._atom
        if low < high <= self._atom:
            return self._piece(node, at, low, high)
        return self.read(node, start, stop)

    def read(self, node: Node, start: int, stop: int) -> bytes:
        """Bytes [start, stop), all of them inside the file."""
        if start >= stop:
            return b""
        atom = self._atom
        first = start // atom
        last = (stop - 1) // atom
        low = start - first * atom
        if first == last:
            return self._piece(node, first, low, stop - first * atom)
        pieces = [self._piece(node, first, low, atom)]
        pieces += [self._piece(node, at, 0, atom) for at in range(first + 1, last)]
        pieces.append(self._piece(node, last, 0, stop - last * atom))
        return b"".join(pieces)

    def _piece(self, node: Node, at: int, low: int, high: int) -> bytes:
        """Bytes [low, high) of atom `at`."""
        own = node.cache.get(at)
        if own is not None:
            self._watch.own = True
            return own[low:high]
        node.atoms.add(at)
        cell = node.cells.get(at)
        if cell is None:
            # As `_cell`, but for that call: nothing is done so often.
            image = node.image
            if self._spoils:
                cell = self._image.undecided(image, at)
            else:
                cell = image.dirty.get(at) or image.open.get(at)
        if cell is None:
            found = node.image.durable(at, low, high)
        else:
            found = self._decide(node, at, cell, low, high)
        seen = node.limit - at * self._atom
        if seen < high:
            keep = max(seen - low, 0)
            found = found[:keep].ljust(high - low, b"\0")
        return found

    def _cell(self, node: Node, at: int) -> Cell | None:
        """What an atom may hold that was not written in this life."""
        cell = node.cells.get(at)
        if cell is None:
            if self._spoils:
                return self._image.undecided(node.image, at)
            return node.image.dirty.get(at) or node.image.open.get(at)
        return cell

    def _decide(self, node: Node, at: int, cell: Cell, low: int, high: int) -> bytes:
        if self._with_data and node.image.extensions:
            cell = self._decisions.grown(node, at, cell, self.size)
        narrowed = self._decisions.narrow(node, at, cell, low, high)
        if narrowed[1] is not cell:
            node.cells[at] = narrowed[1]
        return narrowed[0]

    # -- questions -----------------------------------------------------------

    @property
    def merges(self) -> bool:
        """Whether answers of a question may be merged: they are free of times."""
        return not self._decisions.coupled

    @property
    def asked_before(self) -> dict[tuple[int, object], tuple[Any, Watch]]:
        """Answers that the platter may give, as far as somebody asked."""
        return self._image.answers

    def watch_apart(self, node: Node) -> Watch:
        """Collect what a file is asked for in a watch of its own; gives the other."""
        outer, self._watch = self._watch, Watch()
        node.atoms = self._watch.atoms.setdefault(node.inode, set())
        return outer

    def watch_again(self, node: Node, outer: Watch) -> Watch:
        """End that; gives what was collected, which `outer` does not have yet."""
        inner, self._watch = self._watch, outer
        node.atoms = outer.atoms.setdefault(node.inode, set())
        return inner

    def consumed(self, node: Node, pieces: Watch) -> None:
        """These pieces were consumed."""
        self._watch.add(pieces)
        # Adding must not have put another set in the place of the file's.
        assert self._watch.atoms.get(node.inode) is node.atoms

    def is_settled(self, node: Node, pieces: Watch, reach: int) -> bool:
        """Whether these hold what the platter has, and nothing else is possible."""
        return (
            not pieces.own
            and reach <= node.limit
            and self._untouched(node, pieces.atoms[node.inode])
        )

    def uses(self, node: Node, part: Part) -> bool:
        """Take a kept answer, if it is one for this file as it is now."""
        size = node.size
        if size is None or part in node.unfit:
            return False
        if part.reach > size or part.reach > node.limit:
            return False
        self._watch.use((part,))
        if node.asked:
            self._reaches(node, part.reach, size)
        return True

    def ask(self, node: Node, question: Callable[[Any], T]) -> T:
        """Put a question to a file; see `question`.

        Raises:
            TypeError: The answer cannot be hashed.
        """
        answer = put(self, node, question, self.chooser)
        try:
            hash(answer)
        except TypeError as error:
            raise TypeError(
                f"the answer of a question is to be compared with others: {error}; "
                "return a tuple, a frozen dataclass or a number"
            ) from None
        return answer

    def known(self, node: Node, start: int, stop: int) -> bytes | None:
        """Bytes where nothing is undecided; None: that is not soon said."""
        size = self._atom
        at = start // size
        low, high = start - at * size, stop - at * size
        if low < high <= size:
            own = node.cache.get(at)
            if own is not None:
                self._watch.own = True
                return own[low:high]
            if stop > node.limit or self._cell(node, at) is not None:
                return None
            node.atoms.add(at)
            return node.image.durable(at, low, high)
        if low >= high or stop > node.limit:
            return None
        # Atom by atom a page of 4 KiB takes 60 us, most of it where nobody has written.
        atoms = range(at, (stop - 1) // size + 1)
        if not self._untouched(node, atoms) or not _disjoint(node.cache, atoms):
            return None
        found = node.image.base_bytes(atoms, start, stop)
        if found is not None:
            node.atoms.update(atoms)
        return found

    def _untouched(self, node: Node, atoms: Collection[int]) -> bool:
        """Whether nothing about these is undecided."""
        if self._spoils:
            return all(self._cell(node, at) is None for at in atoms)
        image = node.image
        return (
            _disjoint(image.dirty, atoms)
            and _disjoint(image.open, atoms)
            and _disjoint(node.cells, atoms)
        )

    def open_atoms(self, node: Node, start: int, stop: int) -> list[tuple[int, Cell]]:
        """Atoms of [start, stop) of which these bytes are undecided.

        What can only be decided by itself is decided: bytes that rest on an
        earlier crash, and those whose size tells what they may be.
        """
        if start >= stop:
            return []
        atom = self._atom
        found: list[tuple[int, Cell]] = []
        for at in range(start // atom, (stop - 1) // atom + 1):
            if at in node.cache:
                continue
            node.atoms.add(at)
            cell = self._cell(node, at)
            if cell is None:
                continue
            low = max(start - at * atom, 0)
            high = min(stop - at * atom, atom)
            if (
                cell.rests_on_inner
                or stop > node.limit
                or (self._with_data and node.image.extensions)
            ):
                self._piece(node, at, low, high)
            elif len(cell.groups(low, high)) > 1:
                found.append((at, cell))
        return found

    # -- changes -------------------------------------------------------------

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Put bytes into the page cache."""
        self._in_doubt = False
        self._remember(node)
        atom = self._atom
        end = offset + len(data)
        first, behind = offset // atom, -(-end // atom)
        # Not only when the file may grow: what the last atom has behind the end of the
        # file is zero, and goes to the platter with what is written.
        if node.size is None and behind * atom > min(one.size for one in node.sizes):
            self.size(node)
        if self.parts is not None:
            node.unfit |= self.parts.resting_on(node.inode, range(first, behind))
        if self._with_data and self._near_extension(node, first, behind):
            self.size(node)
        size = node.size
        if size is not None and node.asked:
            self._reaches(node, behind * atom, size)
        if size is not None and end > size:
            self._grow_from(node, size)
        cache = node.cache
        for at in range(first, behind):
            low, high = at * atom, (at + 1) * atom
            if offset <= low and high <= end:
                cache[at] = data[low - offset : high - offset]
                continue
            start, stop = max(offset - low, 0), min(end - low, atom)
            inside = atom if size is None else min(atom, size - low)
            head = self._piece(node, at, 0, start) if start else b""
            tail = self._piece(node, at, stop, inside) if stop < inside else b""
            fresh = data[low + start - offset : low + stop - offset]
            cache[at] = (head + fresh + tail).ljust(atom, b"\0")
        if size is not None and end > size:
            node.size = end
            node.asked = False

    def _near_extension(self, node: Node, first: int, behind: int) -> bool:
        """Whether a pending write made the file longer in the units of these atoms."""
        unit = self.model.unit_atoms * self._atom
        start = first * self._atom // unit * unit
        end = -(-behind * self._atom // unit) * unit
        return any(one.start < end and start < one.end for one in node.image.extensions)

    def left(self, node: Node, start: int, length: int) -> tuple[Any, ...]:
        """What a write of these bytes has left beside them, to be read by this life.

        Returns:
            The size, from where on the platter is hidden, and the atoms at both ends
            as they are in the cache; these are empty when the write filled them.
        """
        atom, end = self._atom, start + length
        ends = (
            start // atom if start % atom else -1,
            end // atom if end % atom else -1,
        )
        return node.size, node.limit, *(node.cache.get(at, b"") for at in ends)

    def _grow_from(self, node: Node, size: int) -> None:
        """Hide what the platter has behind the size that the file grows from."""
        node.limit = min(node.limit, size)
        inside = size % self._atom
        if inside and size // self._atom not in node.cache:
            # Its zero tail is a new content, so its head must be decided.
            self._piece(node, size // self._atom, 0, inside)

    def resize(self, node: Node, size: int) -> None:
        """Set the size in the page cache."""
        self._remember(node)
        old = self.size(node)
        if size > old:
            self._grow_from(node, old)
        elif size < old:
            node.limit = min(node.limit, size)
            atom = self._atom
            for at in [one for one in node.cache if (one + 1) * atom > size]:
                keep = size - at * atom
                if keep <= 0:
                    del node.cache[at]
                else:
                    node.cache[at] = node.cache[at][:keep].ljust(atom, b"\0")
        if size != old:
            self._in_doubt = False
            node.size = size
            node.asked = False
