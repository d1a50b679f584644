"""One file of brute force: its page cache, and every content that a crash may leave.

Theory
======
The cache is what a program sees. After each operation the atoms that it touched are
looked at, and what they hold is put behind what they have held before:

    cache        [ new ][ new ][ old ]
    versions     atom 0: zero, old, new     atom 1: old, new     atom 2: old
    sizes        (-1, 3 atoms), (stamp, size) ...

    states       for each size: the product over its atoms of all that each may be

A version has a level, the position from which on it is there. At position c the
legal ones are those that c has reached and that nothing before c has replaced.

What it is not: it knows no names and no other file (`brute`), and shares no code
with `file_image`, `cell` and `damage` but what garbage looks like.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tornpage.platter.damage import garbage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from tornpage.model import CrashModel
    from tornpage.trace import Write

__all__ = ["CachedFile", "TooManyImages", "within"]

_END = 1 << 60
_T = TypeVar("_T")


class TooManyImages(ValueError):  # noqa: N818 - a refusal, not a defect.
    """There are more images than the caller was ready to wait for."""


class _Version(NamedTuple):
    """One content of an atom: who made it, from where on it is there."""

    stamp: int
    level: int
    content: bytes


class CachedFile:
    """The page cache of one file and what became of each atom.

    Args:
        content: What there was before.
        model: What a crash may do.

    Attributes:
        cache: What a program sees.
        versions: For each atom its contents, durable first.
        sizes: (stamp, size), durable first.
        grown: (stamp, first, last byte + 1) of what writes made the file longer by.
        fresh: (atom, stamp, whether its sync failed) for each atom that a write
            brought by making the file longer (extend=garbage).
        stuck: Atoms that no sync writes.
        again: For those that were stuck the stamp of the operation that changed it.
        synced: Stamp of the last sync that returned 0.
        failed: Stamp of the last sync that failed; -1: none has.
        rewritten: Behind the last byte written since then.
        blocks: Under fail=unwritten, of each block of 4,096 bytes that was written:
            "dirty", "durable", "marked" or, written again, "marked dirty".
    """

    __slots__ = (
        "_model",
        "again",
        "blocks",
        "cache",
        "failed",
        "fresh",
        "grown",
        "rewritten",
        "sizes",
        "stuck",
        "synced",
        "versions",
    )

    def __init__(self, content: bytes, model: CrashModel) -> None:
        self._model = model
        self.cache = bytearray(content)
        self.versions: dict[int, list[_Version]] = {}
        self.sizes: list[tuple[int, int]] = [(-1, len(content))]
        self.grown: list[tuple[int, int, int]] = []
        self.fresh: list[tuple[int, int, bool]] = []
        self.stuck: set[int] = set()
        self.again: dict[int, int] = {}
        self.synced = -1
        self.failed = -1
        self.rewritten = 0
        self.blocks: dict[int, str] = {}
        if model.fail == "unwritten":
            self.blocks = dict.fromkeys(range(-(-len(content) // 4096)), "durable")
        for at in range(-(-len(content) // model.atom)):
            self.versions[at] = [_Version(-1, -1, self._atom(at))]

    def resize(self, size: int, stamp: int) -> None:
        """Cut it or make it longer."""
        old = len(self.cache)
        if size > old:
            self.cache.extend(bytes(size - old))
            tail = {old // self._model.atom} if old % self._model.atom else set()
            self._note(old, size, stamp, handed=tail)
        del self.cache[size:]
        for block in [one for one in self.blocks if one * 4096 >= size]:
            del self.blocks[block]
        if size != old:
            self.sizes.append((stamp, size))

    def seem_synced(self, stamp: int) -> None:
        """A sync that lied: to the program nothing is left behind the end."""
        longest = max(size for _, size in self.sizes)
        if longest > len(self.cache) and not self._size_is_stuck():
            stuck = set(self.stuck)
            chains = {at: list(self.versions[at]) for at in stuck}
            self._note(len(self.cache), longest, stamp)
            self.versions.update(chains)
            self.stuck = stuck

    def newest(self) -> int:
        """The newest operation of which a sync of this file writes something."""
        stamps = [
            chain[-1].stamp
            for at, chain in self.versions.items()
            if at not in self.stuck
        ]
        size = -1 if self._size_is_stuck() else self.sizes[-1][0]
        return max([*stamps, size])

    def _size_is_stuck(self) -> bool:
        """Whether there are several, none of them made since a sync has failed."""
        return len(self.sizes) > 1 and self.sizes[-1][0] <= self.failed

    def _atom(self, at: int) -> bytes:
        atom = self._model.atom
        return bytes(self.cache[at * atom : (at + 1) * atom]).ljust(atom, b"\0")

    def _chain(self, at: int) -> list[_Version]:
        zero = _Version(-1, -1, bytes(self._model.atom))
        return self.versions.setdefault(at, [zero])

    def write(self, record: Write, stamp: int) -> None:
        """Put bytes into it."""
        atom = self._model.atom
        end = record.offset + len(record.data)
        self.rewritten = max(self.rewritten, end)
        old = len(self.cache)
        longer = range(0)
        self._note_cut(range(record.offset // atom, -(-end // atom)), end, stamp)
        if end > old:
            self.cache.extend(bytes(end - old))
            self.sizes.append((stamp, end))
            begin = max(old, record.offset)
            if self._model.extend == "garbage":
                grown = range(begin // atom, -(-end // atom))
                self.fresh += [(at, stamp, False) for at in grown if at * atom >= old]
            if self._model.size == "with-block":
                # Of a block that was there already nothing has to come.
                begin = max(begin, old + -old % 4096)
            if begin < end:
                self.grown.append((stamp, begin, end))
                longer = range(begin // atom, -(-end // atom))
        self.cache[record.offset : end] = record.data
        if self._model.fail == "unwritten":
            for block in range(record.offset // 4096, -(-end // 4096)):
                known = self.blocks.get(block, "dirty")
                again = known.startswith("marked")
                self.blocks[block] = "marked dirty" if again else known
        handed = {*range(record.offset // atom, -(-end // atom))}
        if end > old and old % atom:
            handed.add(old // atom)
        self._note(min(old, record.offset), end, stamp, longer, handed)

    def _note_cut(self, written: range, end: int, stamp: int) -> None:
        """What was cut off is zero since then; look at it before it is written.

        Also where nothing is written now: a size that may come alone shows it.
        """
        old, model = len(self.cache), self._model
        shown = {"free": end, "with-block": min(end, old + -old % 4096)}.get(model.size)
        if model.order == "ordered":
            shown = end
        if old % model.atom and old // model.atom in written:
            shown = max(shown or 0, old + 1)
        if shown is not None and shown > old:
            self._note(old, shown, stamp, since=self.sizes[-1][0])

    def _note(
        self,
        start: int,
        end: int,
        stamp: int,
        longer: range = range(0),
        handed: AbstractSet[int] = frozenset(),
        since: int | None = None,
    ) -> None:
        """Take a snapshot of the atoms that [start, end) touches.

        `handed` are those that go to the drive even with the bytes they have. What
        the others hold has been so since operation `since`, if that is given.
        """
        atom, order = self._model.atom, self._model.order
        for at in range(start // atom, -(-end // atom)):
            block = self.blocks.get(at * atom // 4096, "")
            if block.startswith("marked"):
                # Nothing that is written there ever comes for sure.
                self.stuck.add(at)
            elif at in self.stuck:
                self.stuck.remove(at)
                self.again[at] = stamp
            chain = self._chain(at)
            now = self._atom(at)
            if chain[-1].content != now or (self._model.spoils and at in handed):
                own = order == "ordered" or (order == "append" and at in longer)
                made = stamp if since is None else since
                chain.append(_Version(made, made if own else chain[-1].level, now))

    def forget(self) -> None:
        """What need not be written begins anew."""
        self.blocks = {at: one for at, one in self.blocks.items() if one != "marked"}

    def stick(self) -> None:
        """Some of it arrived, nothing of it will be tried again."""
        after = {"dirty": "marked", "marked dirty": "marked"}
        self.blocks = {at: after.get(one, one) for at, one in self.blocks.items()}
        for at, chain in self.versions.items():
            if len(chain) > 1:
                self.stuck.add(at)
                chain[:] = [one._replace(level=-1) for one in chain]
        for at, _, _ in self.fresh:
            self._chain(at)
            self.stuck.add(at)
        self.fresh = [(at, stamp, True) for at, stamp, _ in self.fresh]
        self.grown = []

    def stick_size(self, stamp: int) -> None:
        """Nor will the size be."""
        self.failed = stamp
        self.rewritten = 0

    def revert(self) -> None:
        """Back to the last sync, in the cache and on the platter."""
        since = self.synced
        for chain in self.versions.values():
            chain[1:] = [one for one in chain[1:] if one.stamp <= since]
        self.sizes[1:] = [one for one in self.sizes[1:] if one[0] <= since]
        self.grown = [one for one in self.grown if one[0] <= since]
        self.fresh = [one for one in self.fresh if one[1] <= since]
        size = self.sizes[-1][1]
        atoms = range(-(-size // self._model.atom))
        content = b"".join(self._chain(at)[-1].content for at in atoms)
        self.cache = bytearray(content[:size])

    def settle(self, stamp: int) -> None:
        """Everything up to `stamp` is durable; nothing is left behind the end."""
        after = {"dirty": "durable", "marked dirty": "marked"}
        self.blocks = {at: after.get(one, one) for at, one in self.blocks.items()}
        kept = self.stuck | {at for at, one in self.again.items() if one > stamp}
        if self._size_is_stuck() and self._model.order != "ordered":
            # The sync brings no more of the size than it writes.
            self.sizes = [one for one in self.sizes if one[1] >= self.rewritten]
            size = max(one for _, one in self.sizes)
        else:
            size = [one for at, one in self.sizes if at <= stamp][-1]
            self.sizes = [(-1, size)] + [one for one in self.sizes if one[0] > stamp]
        self.grown = [one for one in self.grown if one[0] > stamp]
        self.fresh = [one for one in self.fresh if one[0] in kept or one[1] > stamp]
        atom = self._model.atom
        for at, chain in self.versions.items():
            if at in kept:
                continue
            whole = [one.content for one in chain if one.stamp <= stamp][-1]
            durable = whole[: max(size - at * atom, 0)].ljust(atom, b"\0")
            rest = [one for one in chain if one.stamp > stamp]
            if rest and whole != durable == rest[0].content:
                rest.pop(0)
            chain[:] = [_Version(-1, -1, durable), *rest]

    def states(self, place: int | None, limit: int) -> list[bytes]:
        """Every content that a crash may leave, each once.

        Args:
            place: The position among all operations; None: there is none.
            limit: Of the number of contents, repetitions included.

        Raises:
            TooManyImages: There are more than `limit`.
        """
        places: Sequence[int | None] = (place,)
        if self._model.order == "append":
            levels = {one.level for chain in self.versions.values() for one in chain}
            places = [*sorted(levels), _END]
        made = 0
        states: list[bytes] = []
        for where in places:
            for n, (stamp, size) in enumerate(self.sizes):
                if place is not None and not self._size_is_there(n, place):
                    continue
                choices: list[list[bytes]] = []
                for at in range(-(-size // self._model.atom)):
                    choices.append(self._atom_states(at, stamp, where))
                    within(limit, made, choices)
                made = within(limit, made, choices)
                states += [b"".join(one)[:size] for one in itertools.product(*choices)]
        return _distinct(states)

    def _size_is_there(self, n: int, place: int) -> bool:
        begun = not n or self.sizes[n][0] <= place
        return begun and (n + 1 == len(self.sizes) or self.sizes[n + 1][0] >= place)

    def _there(self, chain: list[_Version], place: int | None) -> list[bool]:
        """Which versions are legal at a position."""
        if place is None:
            return [True] * len(chain)
        found = []
        for n, one in enumerate(chain):
            later = [other.level for other in chain if other.level > one.level]
            begun = not n or one.level <= place
            found.append(begun and place <= min(later, default=_END))
        return found

    def _came(self, at: int, arrived: int) -> int:
        """The last write that came to an atom with the size of operation `arrived`."""
        model, atom = self._model, self._model.atom
        came = -1
        if model.size != "free" and model.order != "ordered":
            for stamp, start, end in self.grown:
                if stamp > arrived:
                    continue
                # What the file was cut to since: the rest is not what this size shows.
                least = min(size for t, size in self.sizes if stamp <= t <= arrived)
                shown = min(end, least)
                if start < shown and start < (at + 1) * atom and at * atom < shown:
                    came = stamp
        return came

    def _oldest(self, at: int, arrived: int) -> int:
        """The first version that goes with the size of operation `arrived`."""
        came = self._came(at, arrived)
        if came < 0:
            return 0
        chain = self.versions[at]
        return max(n for n, one in enumerate(chain) if one.stamp <= came)

    def _legal(self, at: int, arrived: int, place: int | None) -> list[bool]:
        """Which versions go with that size and that position."""
        oldest = self._oldest(at, arrived)
        there = self._there(self.versions[at], place)
        return [one and n >= oldest for n, one in enumerate(there)]

    def _in_flight(self, at: int, arrived: int, place: int | None) -> bool:
        """Whether one version may be replacing another."""
        legal = self._legal(at, arrived, place)
        return any(one and other for one, other in itertools.pairwise(legal))

    def _atom_states(self, at: int, arrived: int, place: int | None) -> list[bytes]:
        """Contents of an atom when the size of operation `arrived` is there."""
        model, atom = self._model, self._model.atom
        chain = self._chain(at)
        legal = self._legal(at, arrived, place)
        contents = [
            one.content for one, there in zip(chain, legal, strict=True) if there
        ]
        if not contents:
            # The size does not go with the position; damage does not change that.
            return []
        if model.tear in {"byte", "garbage"}:
            contents = [*_with_mixtures(tuple(contents))]
        if self._may_be_garbage(at, arrived, place):
            contents.append(garbage(at, atom))
        return _distinct(contents)

    def _may_be_garbage(self, at: int, arrived: int, place: int | None) -> bool:
        model, atom = self._model, self._model.atom
        if model.tear == "garbage" and self._in_flight(at, arrived, place):
            return True
        if model.unit != "none":
            each = max(int(model.unit) // atom, 1)
            for other in range(at // each * each, at // each * each + each):
                if (
                    other != at
                    and other in self.versions
                    and self._in_flight(other, arrived, place)
                ):
                    return True
        return any(
            self._may_be_stale(at, arrived, place, stamp, failed)
            for number, stamp, failed in self.fresh
            if number == at
        )

    def _may_be_stale(
        self,
        at: int,
        arrived: int,
        place: int | None,
        stamp: int,
        failed: bool,
    ) -> bool:
        """Whether an atom may lack what a write put there that made the file longer."""
        if self._model.order == "ordered":
            return failed or place == stamp
        if self._model.size != "free":
            return failed and self._came(at, arrived) < stamp
        return True


@functools.lru_cache(maxsize=256)
def _with_mixtures(contents: tuple[bytes, ...]) -> list[bytes]:
    """The contents, and each prefix of one with the rest of another."""
    return _distinct(
        itertools.chain(
            contents,
            (
                left[:cut] + right[cut:]
                for left, right in itertools.permutations(contents, 2)
                for cut in range(1, len(left))
            ),
        )
    )


def within(limit: int, made: int, choices: Sequence[Sequence[object]]) -> int:
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
