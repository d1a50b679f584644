"""Every image of a crash, built in full: the check on the explorer.

Theory
======
This module says again, in the simplest way, what a crash model allows, and
shares no code with `cell`, `image` and `life`. It keeps the whole page cache
of every file, notes after each operation what each atom of it looked like, and
at a crash takes the product of all possibilities. It is slow on purpose: two
small programs that agree on thousands of random cases are worth more than one
clever one.

    order=any        product over atoms of (versions and their mixtures),
                     over sizes, over sets of changes of names
    order=ordered    for each operation since the last sync: everything before
                     it, and each of its own pieces or not

What it is not: it has no place in a run. Beyond a limit it refuses.
"""

from __future__ import annotations

import itertools
import math
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tornpage.trace import Create, Rename, Sync, SyncDir, Truncate, Unlink, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tornpage.model import CrashModel
    from tornpage.trace import Operation

__all__ = ["Platter", "TooManyImages"]


class TooManyImages(ValueError):  # noqa: N818 - a refusal, not a defect.
    """There are more images than the caller was ready to wait for."""


@dataclass(slots=True)
class _File:
    """The page cache of one file and what became of each atom.

    `versions` has for each atom (stamp, content) pairs, durable first;
    `sizes` the same for the size; `grown` has (stamp, first, last byte + 1).
    """

    cache: bytearray
    versions: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grown: list[tuple[int, int, int]] = field(default_factory=list)


_Change = tuple[int, list[tuple[str, int | None]]]
_Files = dict[str, bytes]
_T = TypeVar("_T")


class Platter:
    """All versions of everything, after some operations.

    Args:
        files: Durable files by name.
        model: What a crash may do.
    """

    def __init__(self, files: Mapping[str, bytes], model: CrashModel) -> None:
        self._model = model
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._changes: list[_Change] = []
        self._clock = 0
        for inode, name in enumerate(sorted(files), 1):
            self._names[name] = inode
            self._files[inode] = self._new_file(files[name])

    def apply(self, record: Operation) -> None:
        """Advance by one operation."""
        stamp = self._clock
        self._clock += 1
        if isinstance(record, Write):
            file = self._files[record.inode]
            end = record.offset + len(record.data)
            old = len(file.cache)
            if end > old:
                file.cache.extend(bytes(end - old))
                file.sizes.append((stamp, end))
                file.grown.append((stamp, max(old, record.offset), end))
            file.cache[record.offset : end] = record.data
            self._note(file, min(old, record.offset), end, stamp)
        elif isinstance(record, Truncate):
            file = self._files[record.inode]
            old = len(file.cache)
            if record.size > old:
                file.cache.extend(bytes(record.size - old))
                self._note(file, old, record.size, stamp)
            del file.cache[record.size :]
            if record.size != old:
                file.sizes.append((stamp, record.size))
        elif isinstance(record, Sync):
            self._sync(self._files[record.inode])
        elif isinstance(record, SyncDir):
            self._sync_names(posixpath.dirname(record.path))
        elif isinstance(record, Create):
            self._files[record.inode] = self._new_file(b"")
            self._changes.append((stamp, [(record.path, record.inode)]))
        elif isinstance(record, Rename):
            inode = self._present()[record.path]
            change = [(record.target, inode), (record.path, None)]
            self._changes.append((stamp, change))
        elif isinstance(record, Unlink):
            self._changes.append((stamp, [(record.path, None)]))

    def images(self, limit: int) -> Iterator[_Files]:
        """The files of every image; some may come more than once.

        Raises:
            TooManyImages: There are more than `limit`.
        """
        if self._model.order == "ordered":
            yield from self._images_in_order(limit)
        else:
            yield from self._images_any(limit)

    def _new_file(self, content: bytes) -> _File:
        file = _File(bytearray(content))
        file.sizes = [(-1, len(content))]
        self._note(file, 0, len(content), -1)
        return file

    def _atom(self, file: _File, at: int) -> bytes:
        atom = self._model.atom
        return bytes(file.cache[at * atom : (at + 1) * atom]).ljust(atom, b"\0")

    def _note(self, file: _File, start: int, end: int, stamp: int) -> None:
        """Take a snapshot of the atoms that [start, end) touches."""
        atom = self._model.atom
        for at in range(start // atom, -(-end // atom)):
            chain = file.versions.setdefault(at, [(-1, bytes(atom))])
            now = self._atom(file, at)
            if stamp < 0:
                chain[:] = [(-1, now)]
            elif chain[-1][1] != now:
                chain.append((stamp, now))

    def _sync(self, file: _File) -> None:
        if self._model.order == "ordered":
            stamps = [chain[-1][0] for chain in file.versions.values()]
            stamps.append(file.sizes[-1][0])
            self._settle(max(stamps))
        else:
            self._settle_file(file, self._clock)

    def _settle(self, stamp: int) -> None:
        if stamp < 0:
            return
        for file in self._files.values():
            self._settle_file(file, stamp)
        self._settle_changes(stamp, None)

    def _settle_file(self, file: _File, stamp: int) -> None:
        """Everything up to `stamp` is durable; nothing is left behind the end."""
        size = [one for at, one in file.sizes if at <= stamp][-1]
        file.sizes = [(-1, size)] + [one for one in file.sizes if one[0] > stamp]
        file.grown = [one for one in file.grown if one[0] > stamp]
        atom = self._model.atom
        for at, chain in file.versions.items():
            durable = [one for since, one in chain if since <= stamp][-1]
            durable = durable[: max(size - at * atom, 0)].ljust(atom, b"\0")
            rest = [one for one in chain if one[0] > stamp]
            if rest and rest[0][1] == durable:
                rest.pop(0)
            chain[:] = [(-1, durable), *rest]

    def _sync_names(self, directory: str) -> None:
        mine = [
            stamp
            for stamp, change in self._changes
            if any(posixpath.dirname(name) == directory for name, _ in change)
        ]
        if not mine:
            return
        if self._model.order == "ordered":
            self._settle(mine[-1])
        elif self._model.entries == "prefix":
            self._settle_changes(mine[-1], None)
        else:
            self._settle_changes(mine[-1], set(mine))

    def _settle_changes(self, upto: int, only: set[int] | None) -> None:
        """Make changes durable; a durable one has stamp -1 from then on."""
        self._changes = [
            (-1, change)
            if stamp <= upto and (only is None or stamp in only)
            else (stamp, change)
            for stamp, change in self._changes
        ]

    def _present(self) -> dict[str, int]:
        return self._applied(self._changes)

    def _applied(self, changes: list[_Change]) -> dict[str, int]:
        names = dict(self._names)
        for _, change in changes:
            for name, inode in change:
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        return names

    def _name_states(self) -> list[dict[str, int]]:
        pending = [stamp for stamp, _ in self._changes if stamp >= 0]
        if self._model.entries == "prefix":
            kept = [set(pending[:n]) for n in range(len(pending) + 1)]
        else:
            kept = [
                set(some)
                for n in range(len(pending) + 1)
                for some in itertools.combinations(pending, n)
            ]
        states = [
            self._applied([one for one in self._changes if one[0] in {-1, *some}])
            for some in kept
        ]
        return [one for at, one in enumerate(states) if one not in states[:at]]

    def _images_any(self, limit: int) -> Iterator[_Files]:
        made = 0
        for names in self._name_states():
            inodes = sorted(set(names.values()))
            states = [self._file_states(self._files[inode], limit) for inode in inodes]
            made = _within(limit, made, states)
            for contents in itertools.product(*states):
                found = dict(zip(inodes, contents, strict=True))
                yield {name: found[inode] for name, inode in names.items()}

    def _file_states(self, file: _File, limit: int) -> list[bytes]:
        made = 0
        states: list[bytes] = []
        for stamp, size in file.sizes:
            choices = [
                self._atom_states(file, at, stamp)
                for at in range(-(-size // self._model.atom))
            ]
            made = _within(limit, made, choices)
            states += [b"".join(one)[:size] for one in itertools.product(*choices)]
        return _distinct(states)

    def _atom_states(self, file: _File, at: int, arrived: int) -> list[bytes]:
        """Contents of an atom when the size of operation `arrived` is there."""
        atom = self._model.atom
        chain = file.versions.get(at, [(-1, bytes(atom))])
        oldest = 0
        if self._model.size == "with-data":
            for stamp, start, end in file.grown:
                if stamp <= arrived and start < (at + 1) * atom and at * atom < end:
                    oldest = max(n for n, one in enumerate(chain) if one[0] <= stamp)
        contents = [content for _, content in chain[oldest:]]
        if self._model.tear == "byte":
            contents += [
                left[:cut] + right[cut:]
                for left, right in itertools.permutations(contents, 2)
                for cut in range(1, atom)
            ]
        return _distinct(contents)

    def _images_in_order(self, limit: int) -> Iterator[_Files]:
        made = 0
        for flying in range(self._clock + 1):
            pieces = self._pieces(flying)
            made = _within(limit, made, [states for _, states in pieces])
            for arrived in itertools.product(*(states for _, states in pieces)):
                there = {
                    key: state for (key, _), state in zip(pieces, arrived, strict=True)
                }
                yield self._assembled(flying, there)

    def _pieces(self, flying: int) -> list[tuple[tuple[int, int], list[bytes | int]]]:
        """What the operation in flight changes, each with its possible states.

        Keys are (inode, atom); atom -1 is the size, inode -1 the names.
        """
        pieces: list[tuple[tuple[int, int], list[bytes | int]]] = []
        for inode, file in self._files.items():
            for at, chain in file.versions.items():
                for (_, old), (stamp, new) in itertools.pairwise(chain):
                    if stamp == flying:
                        states: list[bytes | int] = [old, new]
                        if self._model.tear == "byte":
                            states += [
                                left[:cut] + right[cut:]
                                for left, right in ((old, new), (new, old))
                                for cut in range(1, len(old))
                            ]
                        pieces.append(((inode, at), _distinct(states)))
            for (_, was), (stamp, size) in itertools.pairwise(file.sizes):
                if stamp == flying:
                    pieces.append(((inode, -1), [was, size]))
        if any(stamp == flying for stamp, _ in self._changes):
            pieces.append(((-1, -1), [0, 1]))
        return pieces

    def _assembled(
        self, flying: int, there: dict[tuple[int, int], bytes | int]
    ) -> _Files:
        reach = flying + bool(there.get((-1, -1), 0))
        names = self._applied([one for one in self._changes if one[0] < reach])
        found = {}
        for name, inode in names.items():
            file = self._files[inode]
            size = [one for at, one in file.sizes if at < flying][-1]
            size = int(there.get((inode, -1), size))
            atoms = []
            for at in range(-(-size // self._model.atom)):
                chain = file.versions.get(at, [(-1, bytes(self._model.atom))])
                content = [one for since, one in chain if since < flying][-1]
                atoms.append(bytes(there.get((inode, at), content)))
            found[name] = b"".join(atoms)[:size]
        return found


def _within(limit: int, made: int, choices: Sequence[Sequence[object]]) -> int:
    """`made` and the size of a product, refused before it is made.

    Raises:
        TooManyImages: It is above the limit.
    """
    made += math.prod(map(len, choices))
    if made > limit:
        raise TooManyImages(
            f"more than {limit} images: give a higher limit or a smaller case"
        )
    return made


def _distinct(items: Iterable[_T]) -> list[_T]:
    """The items without repetitions, in order."""
    return list(dict.fromkeys(items))
