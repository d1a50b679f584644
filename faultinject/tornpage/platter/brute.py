"""Every image of a crash, built in full: the check on the explorer.

Theory
======
This module says again, in the simplest way, what a crash model allows, and with
`brute_file` and `brute_names` it shares no code with `cell`, `image`, `transition`
and `life`, only what garbage looks like. It keeps the whole page cache of every file,
notes after each operation what each atom of it looked like, and at a crash takes the
product of all possibilities. It is slow on purpose: two small programs that agree on
thousands of random cases are worth more than one clever one.

    a crash        for each set of syncs that may have lied: a platter on which
                   these did nothing
    order=any      product over atoms of (versions, mixtures, garbage), over
                   sizes, over sets of changes of names
    order=append   the same for each position among the appends of each file
    order=ordered  the same for each position among all operations

Here is what an operation does and what goes with what; what one file may hold is in
`brute_file`, what the names may be in `brute_names`.

What it is not: it has no place in a run. Beyond a limit it refuses.
"""

from __future__ import annotations

import itertools
import posixpath
from typing import TYPE_CHECKING, NamedTuple

from tornpage.platter.brute_file import CachedFile, TooManyImages, within
from tornpage.platter.brute_names import Trees, paths_of
from tornpage.trace import (
    Create,
    Forget,
    Link,
    Mkdir,
    Rename,
    Rmdir,
    Sync,
    SyncDir,
    Truncate,
    Unlink,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tornpage.model import CrashModel
    from tornpage.trace import Operation

__all__ = ["Device", "Platter", "TooManyImages", "arrives_in_pieces", "platters"]


class Device(NamedTuple):
    """A device of which nothing is undecided, as `Disk` takes it.

    Attributes:
        files: Content by name; a name that ends with "/" is a directory.
        known: Names that there have been, with "/" behind directories that were made.
        links: Further names of files, each with one that is in `files`.
    """

    files: dict[str, bytes]
    known: frozenset[str] | None = None
    links: frozenset[tuple[str, str]] = frozenset()


def platters(
    start: Device,
    model: CrashModel,
    operations: Sequence[Operation],
    lies: int | None = None,
) -> Iterator[tuple[int, Platter]]:
    """Every platter that lying syncs may leave, with the number of lies.

    Args:
        start: What there was before.
        model: What a crash may do.
        operations: What was done.
        lies: How many syncs may lie; None: as many as the model says.
    """
    syncs = [
        at
        for at, one in enumerate(operations)
        if isinstance(one, Sync | SyncDir) and one.result == "ok"
    ]
    for n in range((model.lies if lies is None else lies) + 1):
        for lied in itertools.combinations(syncs, n):
            platter = Platter(start, model, frozenset(lied))
            for record in operations:
                platter.apply(record)
            yield n, platter


def arrives_in_pieces(record: Operation) -> bool:
    """Whether a crash inside leaves what one after it may leave.

    Everything but a sync; of a sync that fails some pages may have failed
    already and not others. Going read-only takes nothing back.
    """
    if isinstance(record, Sync):
        return record.result in {"failed", "silent", "read-only"}
    return not isinstance(record, SyncDir)


class Platter:
    """All versions of everything, after some operations.

    Args:
        start: What there was before.
        model: What a crash may do.
        lied: Which operations are syncs that do nothing.
    """

    def __init__(
        self,
        start: Device,
        model: CrashModel,
        lied: frozenset[int] = frozenset(),
    ) -> None:
        self._model = model
        self._lied = lied
        self._files: dict[int, CachedFile] = {}
        self._names = Trees(model)
        self._clock = 0
        # The file that the last sync was of.
        self._just_synced: int | None = None
        # Whether the journal may be dead, and nobody has been told.
        self._may_be_dead = False
        for name in sorted(start.files):
            place = self._names.place(name.rstrip("/"))
            if name.endswith("/"):
                self._names.found(place)
            else:
                inode = len(self._files) + 1
                self._names.put(place, inode)
                self._files[inode] = CachedFile(start.files[name], model)
        for name, other in start.links:
            inode = self._names.tree()[self._names.place(other)]
            self._names.put(self._names.place(name), inode)
        known = start.known
        if known is None:
            known = frozenset(name for name in start.files if name.endswith("/"))
        self._names.spoken_of(known)

    def apply(self, record: Operation) -> None:
        """Advance by one operation."""
        names, stamp = self._names, self._clock
        self._clock += 1
        if isinstance(record, Sync | SyncDir):
            self._just_synced = None
            # What a disk said that did nothing is seen here once more.
            if record.result in {"ok", "idle"}:
                if self._may_be_dead:
                    return
                if isinstance(record, Sync) and not self._model.lies:
                    self._just_synced = record.inode
            elif record.result == "read-only" or (
                record.result == "failed" and self._model.journal == "shared"
            ):
                self._may_be_dead = True
        elif self._changes(record):
            self._may_be_dead = False
        if isinstance(record, Write):
            names.written_again(record.inode)
            self._files[record.inode].write(record, stamp)
        elif isinstance(record, Truncate):
            file = self._files[record.inode]
            if record.size != len(file.cache):
                names.written_again(record.inode)
            file.resize(record.size, stamp)
        elif isinstance(record, Sync):
            self._sync(record, stamp)
        elif isinstance(record, Forget):
            self._files[record.inode].forget()
        elif isinstance(record, SyncDir):
            if record.result in {"ok", "idle"} and stamp not in self._lied:
                self._sync_names(names.of_directory(posixpath.dirname(record.path)))
        elif isinstance(record, Create):
            self._files[record.inode] = CachedFile(b"", self._model)
            names.change(stamp, (names.place(record.path), record.inode))
        elif isinstance(record, Link):
            inode = names.tree()[names.place(record.path)]
            names.written_again(inode)
            names.change(stamp, (names.place(record.target), inode))
        elif isinstance(record, Rename):
            self._rename(record, stamp)
        elif isinstance(record, Unlink):
            place = names.place(record.path)
            names.written_again(names.tree()[place])
            names.change(stamp, (place, None))
        elif isinstance(record, Mkdir):
            names.make_folder(stamp, names.place(record.path))
        elif isinstance(record, Rmdir):
            place = names.place(record.path)
            names.found(place)
            names.change(stamp, (place, None))

    def images(self, limit: int) -> Iterator[Device]:
        """Every image; some may come more than once.

        Raises:
            TooManyImages: There are more than `limit`.
        """
        made = 0
        in_order = self._model.order == "ordered"
        for place in range(self._clock + 1) if in_order else (None,):
            for tree in self._names.states(place):
                paths = paths_of(tree)
                folders = {path: b"" for path in paths if path not in {"", "/"}}
                names: dict[int, list[str]] = {}
                for path, folder in paths.items():
                    for (inside, name), number in tree.items():
                        if inside == folder and number > 0:
                            names.setdefault(number, []).append(path + name)
                names = {inode: sorted(some) for inode, some in names.items()}
                inodes = sorted(names)
                known = self._names.known(tree, paths)
                links = frozenset(
                    (other, first)
                    for first, *others in names.values()
                    for other in others
                )
                states = [self._files[inode].states(place, limit) for inode in inodes]
                made = within(limit, made, states)
                for contents in itertools.product(*states):
                    found = {
                        names[inode][0]: content
                        for inode, content in zip(inodes, contents, strict=True)
                    }
                    yield Device({**folders, **found}, known, links)

    def _changes(self, record: Operation) -> bool:
        """Whether a file system that is read-only would have refused it."""
        if isinstance(record, Truncate):
            return record.size != len(self._files[record.inode].cache)
        return not isinstance(record, Forget)

    def _rename(self, record: Rename, stamp: int) -> None:
        names = self._names
        source = names.place(record.path)
        inode = names.found(source)
        names.written_again(inode)
        target = names.place(record.target)
        if self._model.rename == "atomic":
            names.change(stamp, (target, inode), (source, None))
        elif self._model.rename == "synced" and inode == self._just_synced:
            # A sync of one directory, or one of two changes, is half of it.
            names.change(stamp, (target, inode))
            names.change_half(stamp, (source, None), (target, inode))
        else:
            names.change(stamp, (target, None))
            names.change(stamp, (target, inode))
            names.change(stamp, (source, None))

    def _sync(self, record: Sync, stamp: int) -> None:
        file = self._files[record.inode]
        if record.result in {"failed", "silent", "read-only"}:
            file.stick()
            # What fails silently was in the journal, with the size and the names.
            if record.result != "silent":
                file.stick_size(stamp)
                self._names.stick(record.inode)
        elif record.result == "reverted":
            file.revert()
        elif record.result in {"ok", "idle"}:
            file.synced = stamp
            file.again = {}
            if stamp in self._lied:
                file.seem_synced(stamp)
                return
            mine: set[int] = set()
            if self._model.names == "fsync" and record.kind == "fsync":
                mine = self._names.called(record.inode)
            if self._model.order == "ordered":
                self._settle(max([file.newest(), *map(self._names.stamp, mine)]))
            else:
                file.settle(stamp)
                self._sync_names(mine)

    def _sync_names(self, mine: set[int]) -> None:
        mine &= self._names.pending()
        if not mine:
            return
        if self._model.order == "ordered":
            self._settle(max(map(self._names.stamp, mine)))
        elif self._model.entries == "prefix":
            self._names.make_durable(set(range(max(mine) + 1)))
        else:
            self._names.make_durable(mine)

    def _settle(self, stamp: int) -> None:
        """Everything up to `stamp` is durable, everywhere."""
        if stamp < 0:
            return
        for file in self._files.values():
            file.settle(stamp)
        self._names.make_durable(self._names.upto(stamp))
