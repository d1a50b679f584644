"""The engine itself on a real file system: commits, crash images, the contract.

    open, commit 1 .. n: of each how many requests there were when it began, and when
                         it was acknowledged
    for sampled positions and images: mount, open, check, read all, commit once more

    promised   with commit a acknowledged and commit b begun when the power went, the
               content is that after one of the commits a .. b, whole, and check()
               finds nothing

The content after each commit is known, because what it does follows from its number
and the seed. Bugs of `boltmodel.mutants` can be planted, a sync left out, say: a run
that does not notice them has tested nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ci.real.machine import lay
from ci.real.trial import Run

import shearbolt
from boltmodel.mutants import mutant

if TYPE_CHECKING:
    from ci.real.images import Image
    from ci.real.trial import Bench

__all__ = ["Broken", "Kept", "kept"]

_NAME = "bolt.db"
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


def _change(draw: random.Random, number: int, state: State) -> State:
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


def _commit(db: shearbolt.DB, before: State, after: State) -> None:
    with db.update() as tx:
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


def _read(db: shearbolt.DB) -> State:
    with db.view() as tx:
        problems = tx.check()
        if problems:
            raise ValueError(f"check: {problems[0]}")
        return {name: dict(bucket.items()) for name, bucket in tx.buckets()}


def _opened(path: str) -> shearbolt.DB:
    return shearbolt.open(path, alloc_size=_GROWTH, timeout=5)


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
    states: list[State] = [{}]
    began: list[int] = []
    acknowledged: list[int] = []
    device = bench.device
    with (
        bench.fresh() as root,
        mutant(planted) if planted else contextlib.nullcontext(),
    ):
        lay(root, {})
        begin = device.length()
        began.append(begin)
        with _opened(os.path.join(root, _NAME)) as db:
            acknowledged.append(device.length())
            for number in range(1, commits + 1):
                states.append(_change(draw, number, states[-1]))
                began.append(device.length())
                _commit(db, states[-2], states[-1])
                acknowledged.append(device.length())
    record = tuple(device.taken())
    result = Kept(commits, len(record) - begin)
    run = Run(record, begin, ())
    for image, positions in bench.chosen(run, draw, images):
        with bench.opened(record, image) as (refused, repaired):
            result.images += 1
            result.repaired += repaired
            found, error = None, refused
            if not error:
                found, error = _found(os.path.join(bench.root, _NAME), states)
        for position in positions:
            sure = sum(one <= position for one in acknowledged) - 1
            last = sum(one <= position for one in began) - 1
            text = error
            # Equal states have several numbers; any of them will do.
            if found is not None:
                here = [at for at, one in enumerate(states) if one == states[found]]
                if any(max(sure, 0) <= at <= last for at in here):
                    result.found += sure in here
                    result.newer += sure not in here
                    continue
                text = f"the content is that of commit {found}"
            result.broken.append(
                Broken(position, image, f"{text}; promised: {sure} to {last}")
            )
            break
    return result


def _found(path: str, states: list[State]) -> tuple[int | None, str]:
    """Which state a database file holds, or what is wrong with it."""
    try:
        with _opened(path) as db:
            content = _read(db)
            _commit(db, content, {**content, b"after": {b"the": b"crash"}})
        with _opened(path) as db:
            again = _read(db)
    except (shearbolt.BoltError, OSError, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"
    if again != {**content, b"after": {b"the": b"crash"}}:
        return None, "a commit after the crash is not what was read afterwards"
    if content not in states:
        return None, "the content is that of no commit"
    return states.index(content), ""
