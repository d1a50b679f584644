"""The engine itself on a real file system: commits, crash images, the contract.

    open, commit 1 .. n: marks, and of each how many requests there had been
    for sampled positions and images: mount, open, check, read all, commit once more

    promised   what the marks before the crash promise (`boltmodel.error_contract`):
               the content is that of the commit acknowledged last, or of one that was
               begun since, whole, and check() finds nothing

The content after each commit is known, because what it does follows from its number
and the seed. Bugs of `boltmodel.mutants` can be planted, a sync left out, say: a run
that does not notice them has tested nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ci.real.machine import lay
from ci.real.trial import Run

import shearbolt
from boltmodel.error_contract import promise_under_errors
from boltmodel.mutants import mutant
from boltmodel.mutants.kernels import ON_KERNELS
from boltmodel.under_errors import ErrorHistory
from tornpage.trace import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ci.real.device import Request
    from ci.real.images import Image
    from ci.real.trial import Bench

    from shearbolt.storage import Storage

__all__ = [
    "NAME",
    "Broken",
    "Kept",
    "State",
    "Story",
    "changed",
    "commit",
    "content_of",
    "examine",
    "kept",
    "opened",
    "planting",
]

NAME = "bolt.db"
"""The database, in the root of the file system."""

_GROWTH = 1 << 18

State = dict[bytes, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Broken:
    """One crash image that breaks the promise.

    Attributes:
        position: How many requests there had been.
        image: Which image.
        text: What was promised, what was found.
    """

    position: int
    image: Image
    text: str

    def __str__(self) -> str:
        return f"request {self.position}, {self.image}: {self.text}"


@dataclass(slots=True)
class Kept:
    """What the crashes of a run of commits showed.

    Attributes:
        commits: How many were acknowledged.
        requests: How many requests the device had.
        images: How many were mounted and opened.
        repaired: How many of them only after a repair of the file system.
        found: How often the newest acknowledged commit was found, and
        newer: how often one that was not acknowledged.
        broken: Images that break the promise.
    """

    commits: int = 0
    requests: int = 0
    images: int = 0
    repaired: int = 0
    found: int = 0
    newer: int = 0
    broken: list[Broken] = field(default_factory=list)


class Story:
    """What a run of commits promised, and when.

    Args:
        length: How many requests there have been.

    Attributes:
        states: The content that each attempt was to leave, by its number; that of
            number 0, the new database, is empty.
    """

    def __init__(self, length: Callable[[], int]) -> None:
        self.states: list[State] = [{}]
        self._length = length
        self._marks: list[Mark] = []
        self._lengths: list[int] = []

    def mark(self, label: str, attempt: int = -1) -> None:
        """Note what happens now, by the labels of `error_contract`."""
        data = (("attempt", attempt),) if attempt >= 0 else ()
        self._lengths.append(self._length())
        self._marks.append(Mark(label, data))

    def attempt(self, state: State) -> int:
        """Number a content that a commit is to leave."""
        self.states.append(state)
        return len(self.states) - 1

    def now(self) -> tuple[int, ...]:
        """What a crash at this moment may show, see `legal`."""
        return self._promised(len(self._marks))

    def legal(self, position: int) -> Iterator[tuple[int, ...]]:
        """What a crash may show at each moment with so many requests.

        Gives for each the number of what was acknowledged last, then those of
        commits that may have taken effect.
        """
        ends = [*self._lengths[1:], position]
        for at, (begin, end) in enumerate(zip(self._lengths, ends, strict=True)):
            if begin <= position <= end:
                yield self._promised(at + 1)

    def _promised(self, count: int) -> tuple[int, ...]:
        promise = promise_under_errors(ErrorHistory(None), self._marks[:count])
        return promise.acked or 0, *promise.maybe

    def same(self, state: State) -> set[int]:
        """The numbers of a content; equal contents have several."""
        return {at for at, one in enumerate(self.states) if one == state}


def changed(draw: random.Random, number: int, state: State) -> State:
    """What commit `number` makes of a state."""
    after = {name: dict(pairs) for name, pairs in state.items()}
    name = draw.choice((b"birds", b"birds", b"fish"))
    pairs = after.setdefault(name, {})
    for _ in range(draw.choice((1, 1, 3, 20))):
        key = b"%03d" % draw.randrange(60)
        size = draw.choice((3, 30, 300, 300, 5000))
        pairs[key] = b"%d:" % number + bytes([65 + number % 26]) * size
    for key in draw.sample(sorted(pairs), len(pairs) // 4):
        del pairs[key]
    if draw.random() < 0.05:
        del after[name]
    return after


def commit(
    db: shearbolt.DB,
    before: State,
    after: State,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Make one content of another, in one transaction.

    Args:
        db: Holds `before`.
        before: A content.
        after: Another one.
        note: Told "certain" when the transaction has begun, and "begin" right before
            the commit.

    Raises:
        BoltError: The engine's.
    """
    with db.update() as tx:
        note("certain")
        for name in before.keys() - after.keys():
            tx.delete_bucket(name)
        for name, pairs in sorted(after.items()):
            bucket = tx.create_bucket_if_not_exists(name)
            old = before.get(name, {})
            for key in sorted(old.keys() - pairs.keys()):
                del bucket[key]
            for key, value in sorted(pairs.items()):
                if old.get(key) != value:
                    bucket[key] = value
        note("begin")


def content_of(db: shearbolt.DB) -> State:
    """All that a database holds.

    Raises:
        ValueError: The checker complains.
        BoltError: It cannot be read.
    """
    with db.view() as tx:
        problems = tx.check()
        if problems:
            raise ValueError(f"check: {problems[0]}")
        return {name: dict(bucket.items()) for name, bucket in tx.buckets()}


def opened(
    path: str, *, storage: Storage | None = None, sync_twice: bool = False
) -> shearbolt.DB:
    """Open a database that grows in small steps.

    Args:
        path: The file.
        storage: What this process knows of its disk.
        sync_twice: The engine's option.

    Raises:
        BoltError: The engine's.
    """
    return shearbolt.open(
        path, alloc_size=_GROWTH, timeout=5, storage=storage, sync_twice=sync_twice
    )


def planting(name: str) -> AbstractContextManager[None]:
    """While entered, the engine has the planted bug of this name, if it is one.

    Raises:
        KeyError: There is none of this name.
    """
    if not name:
        return contextlib.nullcontext()
    here = {one.name: one for one in ON_KERNELS}
    return here[name].plant() if name in here else mutant(name)


def kept(
    bench: Bench, *, commits: int, seed: int, images: int, planted: str = ""
) -> Kept:
    """Run commits on a file system, crash it, open what is left.

    Args:
        bench: The file system.
        commits: How many.
        seed: Draws what they do, and the crash images.
        images: How many of them at most.
        planted: A bug of `boltmodel.mutants` to plant while the commits run.
    """
    draw = random.Random(seed)
    device = bench.device
    story = Story(device.length)
    with (
        bench.fresh() as root,
        planting(planted),
    ):
        lay(root, {})
        begin = device.length()
        story.mark("opening")
        with opened(os.path.join(root, NAME)) as db:
            story.mark("opened", 0)
            for number in range(1, commits + 1):
                before = story.states[-1]
                after = changed(draw, number, before)
                story.attempt(after)
                note = functools.partial(story.mark, attempt=number)
                commit(db, before, after, note)
                story.mark("acked", number)
    record = tuple(device.taken())
    result = Kept(commits, len(record) - begin)
    run = Run(record, begin, ())
    for image, positions in bench.chosen(run, draw, images):
        examine(bench, story, record, image, positions, result)
    return result


def examine(
    bench: Bench,
    story: Story,
    record: Sequence[Request],
    image: Image,
    positions: Sequence[int],
    result: Kept,
) -> None:
    """Open the database in one crash image; note what is promised and not there.

    Args:
        bench: The file system.
        story: What was promised.
        record: What the image is made of.
        image: Which image.
        positions: Where the power can have gone.
        result: Where it is noted.
    """
    with bench.opened(record, image) as (refused, repaired):
        result.images += 1
        result.repaired += repaired
        found, error = None, refused
        if not error:
            found, error = _found(os.path.join(bench.root, NAME), story.states)
    for position in positions:
        for sure, *maybe in story.legal(position):
            text = error
            if found is not None:
                # Equal states have several numbers; any of them will do.
                here = story.same(story.states[found])
                if here & {sure, *maybe}:
                    result.found += sure in here
                    result.newer += sure not in here
                    continue
                text = f"the content is that of commit {found}"
            promised = " or ".join(map(str, (sure, *maybe)))
            result.broken.append(
                Broken(position, image, f"{text}; promised: {promised}")
            )
            return


def _found(path: str, states: list[State]) -> tuple[int | None, str]:
    """Which state a database file holds, or what is wrong with it."""
    try:
        with opened(path) as db:
            content = content_of(db)
            commit(db, content, {**content, b"after": {b"the": b"crash"}})
        with opened(path) as db:
            again = content_of(db)
    except (shearbolt.BoltError, OSError, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"
    if again != {**content, b"after": {b"the": b"crash"}}:
        return None, "a commit after the crash is not what was read afterwards"
    if content not in states:
        return None, "the content is that of no commit"
    return states.index(content), ""
