"""What a drive may hold when the power goes, made of a record of its requests.

    request    w0 w1 FLUSH w2 w3 | w4 ...        power goes at |, position 5
    sure       w0 w1                             before the last flush that was ok
    pending                w2 w3                 each there, lost or torn

The drive has a volatile cache: a flush that returned makes everything before it
durable; of what came later any subset is there, and of each write any subset of its
sectors. An image is the base with the sure requests and the chosen parts of pending
ones, applied in the order of the record.

A write that was answered with an error may be there, or not, for ever: no later
flush speaks of it. A flush that failed is none; whether a later one makes up for it
is a property of the drive (`forgetful`).

The images of a position are too many: `sampled` gives all of it, none of it, each
single loss, each single survivor, each write torn, and random subsets. What is kept
of a record is named by an `Image`; two positions that leave the same one share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from ci.real.device import Request

__all__ = ["SECTOR", "Image", "apply", "sampled", "split"]

SECTOR = 512
"""Bytes that a drive writes as one piece."""

Pieces = frozenset[int]


@dataclass(frozen=True, slots=True)
class Image:
    """One crash image: which parts of a record it holds.

    Attributes:
        whole: All requests before this index are there.
        parts: Later ones, as (index, its sectors that are there; None for all).
    """

    whole: int
    parts: tuple[tuple[int, Pieces | None], ...]

    def __str__(self) -> str:
        texts = [
            f"{at}" if pieces is None else f"{at}[{','.join(map(str, sorted(pieces)))}]"
            for at, pieces in self.parts
        ]
        return f"all before {self.whole}" + "".join(f", {one}" for one in texts)


def split(
    record: Sequence[Request], position: int, *, begin: int = 0, forgetful: bool = False
) -> tuple[frozenset[int], tuple[int, ...]]:
    """The writes that are surely there at a position, and the others.

    Args:
        record: The requests.
        position: How many of them there were when the power went.
        begin: How many are sure because the base had been synced.
        forgetful: Whether a flush that fails drops what it was to make durable,
            so that no later flush speaks of it.
    """
    sure = {at for at in range(min(begin, position)) if not record[at].is_flush}
    waiting: list[int] = []
    for_ever: list[int] = []
    for at in range(begin, position):
        one = record[at]
        if not one.is_flush:
            (for_ever if one.failed else waiting).append(at)
        elif not one.failed:
            sure.update(waiting)
            waiting.clear()
        elif forgetful:
            for_ever += waiting
            waiting.clear()
    return frozenset(sure), tuple(sorted(waiting + for_ever))


def _image(
    sure: frozenset[int],
    pending: Sequence[int],
    chosen: dict[int, Pieces | None],
) -> Image:
    """The image with these pending writes, by its one name."""
    pending_set = set(pending)
    lost = [at for at in pending if chosen.get(at, frozenset()) is not None]
    whole = min(lost, default=max([*sure, *pending], default=-1) + 1)
    later = sorted(at for at in sure | pending_set if at > whole)
    parts = [(at, None if at in sure else chosen.get(at, frozenset())) for at in later]
    if whole in pending_set:
        parts.insert(0, (whole, chosen.get(whole, frozenset())))
    return Image(whole, tuple(one for one in parts if one[1] is None or one[1]))


def sampled(
    record: Sequence[Request],
    position: int,
    seed: random.Random,
    *,
    begin: int = 0,
    atomic: Sequence[int] = (),
    subsets: int = 4,
    most: int = 40,
    forgetful: bool = False,
) -> Iterator[Image]:
    """Images of the power going at a position; some of them may be the same.

    Args:
        record: The requests.
        position: How many of them there were.
        seed: Draws the subsets, and where writes are torn.
        begin: See `split`.
        atomic: A write that covers one of these bytes is never torn.
        subsets: How many random subsets.
        most: Of each kind so many at most, drawn.
        forgetful: See `split`.
    """
    sure, pending = split(record, position, begin=begin, forgetful=forgetful)
    everything: dict[int, Pieces | None] = dict.fromkeys(pending)
    yield _image(sure, pending, everything)
    if not pending:
        return
    yield _image(sure, pending, {})
    few = pending if len(pending) <= most else seed.sample(pending, most)
    for at in few:
        without = dict(everything)
        del without[at]
        yield _image(sure, pending, without)
        yield _image(sure, pending, {at: None})
        count = _sectors(record[at], atomic)
        if count > 1:
            cut = seed.randrange(1, count)
            torn = seed.choice(
                (
                    frozenset(range(cut)),
                    frozenset(range(cut, count)),
                    frozenset(one for one in range(count) if seed.random() < 0.5),
                )
            )
            yield _image(sure, pending, everything | {at: torn})
            earlier: dict[int, Pieces | None] = {
                one: None for one in pending if one < at
            }
            yield _image(sure, pending, earlier | {at: torn})
    for _ in range(subsets if len(pending) > 1 else 0):
        share = seed.choice((0.2, 0.5, 0.8))
        kept: dict[int, Pieces | None] = {}
        for at in pending:
            count = _sectors(record[at], atomic)
            if seed.random() < share:
                kept[at] = None
            elif count > 1 and seed.random() < 0.2:
                kept[at] = frozenset(one for one in range(count) if seed.random() < 0.5)
        yield _image(sure, pending, kept)


def _sectors(request: Request, atomic: Sequence[int]) -> int:
    """In how many pieces a write may arrive."""
    end = request.offset + len(request.data)
    if any(request.offset <= one < end for one in atomic):
        return 1
    return -(-len(request.data) // SECTOR)


def apply(image: Image, record: Sequence[Request]) -> Iterator[tuple[int, bytes]]:
    """What has to be written over the base, as (offset, bytes), in order."""
    for one in record[: image.whole]:
        if not one.is_flush:
            yield one.offset, one.data
    for at, pieces in image.parts:
        one = record[at]
        if pieces is None:
            yield one.offset, one.data
            continue
        for piece in sorted(pieces):
            start = piece * SECTOR
            yield one.offset + start, one.data[start : start + SECTOR]
