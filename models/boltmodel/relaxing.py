"""Programs in which commits wait for no sync, from seeds.

Theory
======
While commits wait for a sync every page they wrote may be old, new or torn, and
recovery reads all of them. So what a crash there may lead to multiplies page by page: a
put into a leaf of forty keys takes more than 10,000 recoveries, where a commit that
syncs takes three. Such a crash point would not be closed. These programs are therefore
small: two buckets of a few keys, values of a few bytes, and one commit at a time
without a sync. (Two were tried: of 400 programs ten had crash points of more than 2,000
recoveries. With one the largest of 600 programs takes 1,355.)

All of that is inline in one page, which each commit writes anew, whatever a sync has
lost. But a bucket with another one in it has a page of its own, so that `a` of `a/b`
beside `c` stays lost. There are such ones where syncs fail.

    commits | no_sync on | a commit | what ends it | a commit | no_sync on | ...

        what ends it    `DB.sync`; a commit with syncs on again; closing and opening
                        before that

What matters more here than elsewhere is which sync fails, so half of these programs
have faults, and most of these are in syncs.

What it is not: a part of the mixture that `generate` draws. A program is one of these
or none, so that all others are what they were before there were these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boltmodel.programs import (
    ENDINGS,
    FREELIST_TYPES,
    Commit,
    CreateBucket,
    Delete,
    DeleteBucket,
    NextSequence,
    NoSync,
    Operation,
    Program,
    Put,
    Reopen,
    Rollback,
    Sync,
    Value,
)

if TYPE_CHECKING:
    import random

    from boltmodel.model import Path

__all__ = ["relaxing_program"]

_ALONE: Final[tuple[Path, ...]] = ((b"c",),)
_BESIDE: Final[tuple[Path, ...]] = ((b"a", b"b"), (b"c",))
_KEYS: Final = (b"k", b"l")
# Making the database takes three syncs, a commit two, and the first of them a third.
_MAKING: Final = 3
_FAULTY_SHARE: Final = 0.5
_KILLED_SHARE: Final = 0.2
_WRITE_SHARE: Final = 0.3
_ROLLED_BACK_SHARE: Final = 0.1


def relaxing_program(draw: random.Random) -> Program:
    """A program, of whatever `draw` says."""
    faulty = draw.random() < _FAULTY_SHARE
    source = _Source(draw, draw.choice((_ALONE, _BESIDE)) if faulty else _ALONE)
    operations: list[Operation] = []
    for _ in range(draw.choice((0, 1, 1, 2))):
        operations += source.transaction(draw.choice((0, 1, 2)))
    synced = operations.count(Commit())
    # Behind a sync that has failed nothing may ever be certain again.
    for _ in range(1 if faulty else 2):
        operations += [NoSync(True), *source.transaction(1), *draw.choice(_ENDS)]
        operations += source.transaction(draw.choice((0, 1, 1)))
    faults, ending = "", "continue"
    if faulty:
        faults, ending = _draw_faults(draw, synced), draw.choice(ENDINGS)
    return Program(
        tuple(operations),
        draw.choice((1024, 4096, 4096)),
        draw.choice(FREELIST_TYPES),
        small_cache=draw.random() < 0.25,
        reads_ahead=draw.random() < 0.5,
        faults=faults,
        ending=ending,
    )


class _Source:
    """Draws transactions."""

    def __init__(self, draw: random.Random, paths: tuple[Path, ...]) -> None:
        self._draw = draw
        self._paths = paths
        self._values = 0

    def transaction(self, changes: int) -> list[Operation]:
        """So many changes, and their commit."""
        done: list[Operation] = [self._change() for _ in range(changes)]
        done.append(
            Rollback() if self._draw.random() < _ROLLED_BACK_SHARE else Commit()
        )
        return done

    def _change(self) -> Operation:
        draw, path = self._draw, self._draw.choice(self._paths)
        # Of values this short the first bytes are alike: they differ in length.
        self._values += 1
        value = Value(self._values, 1 + self._values % 7)
        kinds: tuple[Operation, ...] = (
            *[Put(path, draw.choice(_KEYS), value)] * 4,
            Delete(path, draw.choice(_KEYS)),
            CreateBucket(path),
            DeleteBucket(path),
            NextSequence(path),
        )
        return draw.choice(kinds)


_ENDS: Final[tuple[tuple[Operation, ...], ...]] = (
    (Sync(),),
    (Sync(), NoSync(False)),
    (NoSync(False),),
    (NoSync(False), Sync()),
    (Reopen(), Sync(), NoSync(False)),
    (Reopen(), NoSync(False)),
)


def _draw_faults(draw: random.Random, commits: int) -> str:
    """Syncs that fail behind so many commits, in a row, and a write; or a death."""
    done = _MAKING + 2 * commits + (commits > 0)
    nth = done + draw.choice((0, 1, 1, 1, 2, 3))
    if draw.random() < _KILLED_SHARE:
        return f"sync#{nth}=kill"
    said = [f"sync#{nth + more}=EIO" for more in range(draw.choice((1, 1, 1, 2, 3)))]
    if draw.random() < _WRITE_SHARE:
        said.append(f"{draw.choice(('pwrite', 'change'))}#{draw.randrange(6, 24)}=EIO")
    return "; ".join(said)
