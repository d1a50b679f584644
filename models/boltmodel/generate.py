"""Programs from seeds: a swarm generator.

Theory
======
A generator that always mixes everything finds what every mixture finds. Swarm
testing draws the mixture first: each program has its own weights, and several
kinds of operation have weight zero in it. A program without reads between
deletes, or without reopening, reaches states the average program never does.

    seed -> page size, freelist, universe, weights, faults -> operations

What is drawn small on purpose: few bucket paths and few keys, so that
operations meet. What is drawn at borders on purpose: sizes. A bucket is inline
while 16 + sum(16 + key + value) <= page_size / 4, a value overflows its page
near the page size, and 16, 1024 and 4096 are where headers, quarter pages and
sectors end.

Some sequences matter and are hardly ever drawn one operation at a time: a
reader that stays open while what it sees is rewritten twice, a bucket that is
dropped and rolled back. These are *idioms*, drawn as a whole in between.

The generator tracks nothing about the state: an operation may be refused, and
model and engine must refuse alike. It is a pure function of the seed.

A few programs are of another kind: commits in them wait for no sync (`relaxing`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from boltmodel.model import MAX_KEY_SIZE, Bucket, Path, walk
from boltmodel.programs import (
    ENDINGS,
    FREELIST_TYPES,
    Commit,
    CreateBucket,
    Delete,
    DeleteBucket,
    Fill,
    Get,
    MoveBucket,
    NextSequence,
    Operation,
    Program,
    Put,
    ReaderCheck,
    ReaderClose,
    ReaderOpen,
    Reopen,
    Rollback,
    Scan,
    SetSequence,
    Thin,
    Value,
    fill_key,
)
from boltmodel.relaxing import relaxing_program

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Universe", "generate", "universe_of"]

_NAMES: Final = (b"a", b"b", b"c", b"deep", b"x\xff")
_KEYS: Final = (b"k", b"key", b"k0", b"apple", b"zebra", b"\x00", b"\xff\xff", b"a")
# Page sizes, small ones more often: they make deep trees of small files.
_PAGE_SIZES: Final = (1024, 1024, 4096, 4096, 4096, 2048, 8192)
# The two lengths on either side of an inline bucket's limit at 4 KiB with a
# one-byte key (991, 992), and of other borders.
_BORDERS: Final = (0, 1, 15, 16, 17, 223, 224, 480, 496, 991, 992, 1007, 1008, 1024)
_LONG: Final = (2000, 4000, 4064, 4080, 4096, 5000, 9000, 20_000)
# Commits a program aims at, and operations a transaction.
_COMMITS: Final = (2, 3, 4, 5, 6, 8)
_READER_SLOTS: Final = 3
# Half full is the default of the engine; the others make other trees.
_FILL_PERCENTS: Final = (50, 50, 50, 10, 30, 80, 100)
# Programs whose fills and thins are one call each, and those of them that end with
# more than a few leaves.
_BULK_SHARE: Final = 0.5
_MANY_SHARE: Final = 0.3
# Programs in which every page is read again each time.
_UNCACHED_SHARE: Final = 0.25
# Programs whose disk has many pages read at once.
_WIDE_SHARE: Final = 0.5
# Programs in which a call to the system fails.
_FAULTY_SHARE: Final = 0.15
# Of these, those whose process is killed, and another one goes on.
_KILLED_SHARE: Final = 0.25
# Programs in which commits wait for no sync. They take ten times as many recoveries:
# two in a hundred would be a sixth of those of the gate.
_RELAXING_SHARE: Final = 0.01
# What can go wrong with which call. A read of no bytes is the end of the file.
_EFFECTS: Final = {
    "pwrite": ("EIO", "ENOSPC", "EINTR", "short"),
    "fdatasync": ("EIO", "EIO", "EINTR"),
    "fsync": ("EIO", "EINTR"),
    "ftruncate": ("ENOSPC", "EIO"),
    "pread": ("EIO", "EINTR"),
}
# How often a transaction is preceded by an idiom.
_IDIOM_SHARE: Final = 0.2
# At most this many existing buckets and keys of a given database are drawn
# from: operations must meet.
_SAMPLED_BUCKETS: Final = 8
_SAMPLED_KEYS: Final = 12


@dataclass(frozen=True, slots=True)
class Universe:
    """What the operations of a program name.

    Attributes:
        paths: Bucket paths; at least one.
        keys: Keys of plain pairs; at least one.
    """

    paths: tuple[Path, ...]
    keys: tuple[bytes, ...]


def universe_of(root: Bucket, seed: int) -> Universe:
    """A universe that meets what is in `root`, with new buckets and keys."""
    draw = random.Random(f"universe {seed}")
    buckets = list(walk(root))
    chosen = draw.sample(buckets, min(_SAMPLED_BUCKETS, len(buckets)))
    keys: list[bytes] = []
    for _, bucket in chosen:
        plain = bucket.plain_keys()
        keys += draw.sample(plain, min(_SAMPLED_KEYS // len(chosen) + 1, len(plain)))
    fresh = _draw_universe(draw)
    return Universe(
        tuple(path for path, _ in chosen) + fresh.paths[:2],
        tuple(dict.fromkeys(keys)) + fresh.keys[:2],
    )


def generate(seed: int, universe: Universe | None = None) -> Program:
    """The program of a seed; always the same one.

    Args:
        seed: Any integer.
        universe: Names to use; by default the seed draws them too.
    """
    relaxing = random.Random(f"no-sync {seed}")
    # None on a given file, where their crash points could not be closed.
    if universe is None and relaxing.random() < _RELAXING_SHARE:
        return relaxing_program(relaxing)
    draw = random.Random(f"program {seed}")
    names = _draw_universe(draw) if universe is None else universe
    page_size = draw.choice(_PAGE_SIZES)
    freelist_type = draw.choice(FREELIST_TYPES)
    no_freelist_sync = draw.random() < 0.15
    weights = _draw_weights(draw)
    operations: list[Operation] = []
    source = _Source(draw, names, page_size)
    kinds = list(weights)
    shares = list(weights.values())
    for _ in range(draw.choice(_COMMITS)):
        if draw.random() < _IDIOM_SHARE:
            operations += draw.choice(_IDIOMS)(source)
        for _ in range(draw.choice((0, 1, 1, 2, 3, 5))):
            kind = draw.choices(kinds, shares)[0]
            operations.append(_MAKERS[kind](source))
        operations.append(Commit())
        if draw.random() < weights["reopen"] / 40:
            operations.append(Reopen())
    fill_percent = draw.choice(_FILL_PERCENTS)
    # Of a stream of its own, so that all else of a program is as it was without it.
    source.draw = random.Random(f"bulk {seed}")
    in_bulk = source.draw.random() < _BULK_SHARE
    if in_bulk and source.draw.random() < _MANY_SHARE:
        operations += _many_deleted_together(source)
    reads_ahead = source.draw.random() < _WIDE_SHARE
    small_cache = source.draw.random() < _UNCACHED_SHARE
    faults, ending = "", "continue"
    # On a given file nothing is injected: what it holds must be known afterwards.
    if universe is None and draw.random() < _FAULTY_SHARE:
        faults, ending = _draw_faults(draw), draw.choice(ENDINGS)
        source.draw = random.Random(f"kill {seed}")
        if source.draw.random() < _KILLED_SHARE:
            faults = f"{_draw_kill(source.draw)}; {faults}"
    return Program(
        tuple(operations),
        page_size,
        freelist_type,
        no_freelist_sync,
        fill_percent,
        in_bulk,
        small_cache,
        reads_ahead,
        faults,
        ending,
    )


def _draw_faults(draw: random.Random) -> str:
    """One call that fails, perhaps for good: two hide each other."""
    call = draw.choice(list(_EFFECTS))
    effect = draw.choice(_EFFECTS[call])
    if effect == "short":
        effect = f"short:{draw.choice((0, 7, 100, 512, 600))}"
    elif effect != "EINTR" and draw.random() < 0.2:
        effect += "!"
    # Making the database takes the first calls; most faults come after that.
    return f"{call}#{draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20))}={effect}"


def _draw_kill(draw: random.Random) -> str:
    """A process killed at a sync, and how many syncs then fail in a row."""
    # Making the database takes four, a commit two and sometimes a third.
    nth = draw.randrange(4, 14)
    failing = range(nth + 1, nth + 1 + draw.choice((0, 1, 2, 3)))
    return "; ".join([f"sync#{nth}=kill", *(f"sync#{one}=EIO" for one in failing)])


class _Source:
    """Draws the parts of operations."""

    __slots__ = ("draw", "lengths", "names", "seeds")

    def __init__(self, draw: random.Random, names: Universe, page_size: int) -> None:
        self.draw = draw
        self.names = names
        self.seeds = 0
        quarter = page_size // 4 - 33
        # Inline limit of this page size, its neighbours, and whole pages.
        own = (quarter, quarter + 1, page_size - 64, page_size, page_size * 3)
        few = (5, 40, 100, 300)
        self.lengths = draw.choice((few, few + _BORDERS, own + few, own + _LONG))

    def path(self) -> Path:
        return self.draw.choice(self.names.paths)

    def key(self) -> bytes:
        return self.draw.choice(self.names.keys)

    def value(self) -> Value:
        # Every value of a program has a seed of its own: a stale one shows.
        self.seeds += 1
        return Value(self.seeds, self.draw.choice(self.lengths))

    def slot(self) -> int:
        return self.draw.randrange(_READER_SLOTS)


def _draw_universe(draw: random.Random) -> Universe:
    paths: list[Path] = []
    for _ in range(draw.choice((1, 2, 3, 4))):
        # Deeper buckets hang below earlier ones as often as not.
        base = draw.choice(paths) if paths and draw.random() < 0.6 else ()
        paths.append((*base, draw.choice(_NAMES)))
    keys = draw.sample(_KEYS, draw.choice((2, 3, 5, 8)))
    if draw.random() < 0.1:
        keys.append(draw.choice((b"", b"K" * 300, b"L" * (MAX_KEY_SIZE + 1))))
    if draw.random() < 0.3:
        # A name that is a bucket in one place and a key in another.
        keys.append(paths[0][-1])
    return Universe(tuple(dict.fromkeys(paths)), tuple(dict.fromkeys(keys)))


def _draw_weights(draw: random.Random) -> dict[str, int]:
    weights = {kind: draw.choice((0, 1, 2, 8)) for kind in _MAKERS}
    # Without these nothing is ever written.
    weights["put"] += 2
    if draw.random() < 0.5:
        weights["fill"] += 2
    return weights


def _put(source: _Source) -> Operation:
    return Put(source.path(), source.key(), source.value())


def _fill(source: _Source) -> Operation:
    draw = source.draw
    first = draw.choice((0, 0, 10, 50))
    count = draw.choice((3, 10, 40, 90))
    length = draw.choice((5, 30, 60, 120))
    source.seeds += 1
    return Fill(
        source.path(), first, count, draw.choice((1, 1, 2)), Value(source.seeds, length)
    )


def _thin(source: _Source) -> Operation:
    draw = source.draw
    start = draw.choice((b"", fill_key(5), fill_key(20), source.key()))
    return Thin(
        source.path(), start, draw.choice((1, 1, 2, 3)), draw.choice((5, 30, 200))
    )


def _scan(source: _Source) -> Operation:
    draw = source.draw
    start = draw.choice((None, source.key(), fill_key(7)))
    stop = draw.choice((None, source.key(), fill_key(30)))
    return Scan(source.path(), start, stop, draw.random() < 0.5)


def _rewritten_under_a_reader(source: _Source) -> list[Operation]:
    """What the reader sees is freed by one commit and may be reused by the next."""
    path, slot = source.path(), source.slot()
    length = source.draw.choice((5, 60, 120))

    def fill() -> list[Operation]:
        source.seeds += 1
        return [Fill(path, 0, 40, 1, Value(source.seeds, length)), Commit()]

    return [*fill(), ReaderOpen(slot), *fill(), *fill(), ReaderClose(slot)]


def _shrunken_value(source: _Source) -> list[Operation]:
    """A run of pages is freed."""
    path, key = source.path(), source.key()
    source.seeds += 2
    large = Put(path, key, Value(source.seeds - 1, source.draw.choice(_LONG)))
    return [large, Commit(), Put(path, key, Value(source.seeds, 5)), Commit()]


def _dropped_and_rolled_back(source: _Source) -> list[Operation]:
    """Pages are freed and must be in use again."""
    path = source.path()
    source.seeds += 1
    return [
        Fill(path, 0, 40, 1, Value(source.seeds, 60)),
        Commit(),
        DeleteBucket(path),
        Rollback(),
        Commit(),
    ]


def _changed_and_moved(source: _Source) -> list[Operation]:
    """A bucket takes the changes of its transaction along."""
    name = b"moved"
    path = (*source.path(), name)
    return [
        Put(path, source.key(), source.value()),
        Commit(),
        Put(path, source.key(), source.value()),
        MoveBucket(path, source.draw.choice(((), source.path()))),
        Commit(),
        DeleteBucket((name,)),
    ]


def _sequence_alone(source: _Source) -> list[Operation]:
    """Nothing but a sequence changes, so no node does."""
    path = source.path()
    return [
        Put(path, source.key(), source.value()),
        Commit(),
        NextSequence(path),
        Commit(),
        Reopen(),
    ]


def _many_deleted_together(source: _Source) -> list[Operation]:
    """Enough leaves for deletes to be gathered, with something before the commit."""
    draw, path = source.draw, source.path()
    source.seeds += 1
    value = Value(source.seeds, draw.choice((5, 30, 60)))
    between = draw.choice((_put, _fill, _thin, _scan, _MAKERS["drop"], _MAKERS["get"]))
    return [
        Fill(path, 0, draw.choice((100, 200, 300)), 1, value),
        Commit(),
        Thin(path, draw.choice((b"", fill_key(40))), draw.choice((1, 2, 3)), 200),
        *([between(source)] if draw.random() < 0.5 else []),
        Commit(),
    ]


_IDIOMS: Final[tuple[Callable[[_Source], list[Operation]], ...]] = (
    _rewritten_under_a_reader,
    _shrunken_value,
    _dropped_and_rolled_back,
    _changed_and_moved,
    _sequence_alone,
)

_MAKERS: Final[dict[str, Callable[[_Source], Operation]]] = {
    "put": _put,
    "fill": _fill,
    "thin": _thin,
    "delete": lambda s: Delete(s.path(), s.key()),
    "create": lambda s: CreateBucket(s.path()),
    "drop": lambda s: DeleteBucket(s.path()),
    "move": lambda s: MoveBucket(s.path(), s.draw.choice(((), s.path()))),
    "next-sequence": lambda s: NextSequence(s.path()),
    "set-sequence": lambda s: SetSequence(s.path(), s.draw.choice((0, 7, 2**64 - 1))),
    "get": lambda s: Get(s.path(), s.key()),
    "scan": _scan,
    "rollback": lambda _: Rollback(),
    "reader": lambda s: ReaderOpen(s.slot()),
    "reread": lambda s: ReaderCheck(s.slot()),
    "unreader": lambda s: ReaderClose(s.slot()),
    "reopen": lambda _: Reopen(),
}
