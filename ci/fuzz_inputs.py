"""Inputs for the fuzzer: sound databases, and ways to damage them.

    seeds   small databases made here, with every kind of page: three levels of
            branches, overflow, nested and inline buckets, a long freelist, none
    corpus  files that were a problem once, tests/engine/corpus/*.db
    page    bit flips, fields set to numbers that are near, odd, or other pages,
            elements and bytes copied over others, bucket roots aimed elsewhere
    file    the same on some page; metas with their checksum made right again;
            pages moved with and without their number; branches tangled so that
            they form cycles; cut off

Mutations know the format, because blind ones are caught by the first check they
meet: a random byte in a meta is a wrong checksum and nothing else.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fuzz_memory import MemoryStorage

import shearbolt
from shearbolt.pages import format as fmt

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

__all__ = [
    "CORPUS",
    "PAGE",
    "make_seeds",
    "mutate_file",
    "mutate_page",
    "page_runs",
    "read_corpus",
]

PAGE: Final = 1024
"""Page size of the seeds: the smallest, so that trees are deep and files small."""

CORPUS: Final = Path(__file__).parents[1] / "tests" / "engine" / "corpus"


def _many_keys(tx: Any) -> None:
    bucket = tx.create_bucket(b"many")
    for number in range(700):
        bucket.put(b"%05d" % number, b"v" * (number % 40))


def _long_keys(tx: Any) -> None:
    # Few keys to a branch page: three levels out of 80 keys.
    bucket = tx.create_bucket(b"deep")
    for number in range(80):
        bucket.put(b"%03d" % number + b"k" * 180, b"value")


def _nested(tx: Any) -> None:
    bucket = tx.root_bucket
    for depth in range(6):
        bucket = bucket.create_bucket(b"level %d" % depth)
        bucket.set_sequence(depth)
        bucket.create_bucket(b"inline").put(b"a", b"b" * 20)
        bucket.create_bucket(b"empty")
        bucket.put(b"plain", b"text" * 30)


def _big_values(tx: Any) -> None:
    bucket = tx.create_bucket(b"big")
    for number in range(6):
        bucket.put(b"%d" % number, bytes([number]) * (3000 * number))


def _deleted(tx: Any) -> None:
    bucket = tx.bucket(b"many")
    for number in range(100, 600):
        bucket.delete(b"%05d" % number)


SEEDS: Final = (
    (_many_keys,),
    (_long_keys,),
    (_nested, _long_keys),
    (_big_values, _nested),
    (_many_keys, _deleted, _nested),
)


def make_seeds() -> list[bytes]:
    """Small sound databases, one more without a freelist."""
    seeds = []
    for steps in SEEDS:
        for no_freelist in (False, True) if steps is SEEDS[2] else (False,):
            storage = MemoryStorage()
            with shearbolt.open(
                "seed", page_size=PAGE, no_freelist_sync=no_freelist, storage=storage
            ) as db:
                for step in steps:
                    with db.update() as tx:
                        step(tx)
            seeds.append(_trimmed(bytes(storage.files["seed"])))
    return seeds


def read_corpus() -> list[bytes]:
    """The damaged files that are kept."""
    return [path.read_bytes() for path in sorted(CORPUS.glob("*.db"))]


def _trimmed(data: bytes) -> bytes:
    """Without the pages that were never used: damage there is no damage."""
    metas = [fmt.Meta.decode(data[at + 16 : at + 80]) for at in (0, PAGE)]
    live = max(metas, key=lambda meta: meta.txid)
    return data[: live.high_water_mark * PAGE]


# -- mutations ---------------------------------------------------------------------

_ODD_NUMBERS: Final = (
    0, 1, 2, 3, 15, 16, 17, 0x7F, 0xFF, 1023, 1024, 1025, 0x7FFF, 0xFFFE, 0xFFFF,
    0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 1,
)  # fmt: skip


def _number(rng: random.Random, near: int, pages: int) -> int:
    """A value for a field: near what is there, a page, or an odd one."""
    how = rng.randrange(4)
    if how == 0:
        return near + rng.choice((-16, -2, -1, 1, 2, 16))
    if how == 1:
        return rng.choice(_ODD_NUMBERS)
    if how == 2:
        return near ^ (1 << rng.randrange(32))
    return rng.randrange(pages + 2)


def _set(data: bytearray, at: int, width: int, value: int) -> None:
    if at + width <= len(data):
        data[at : at + width] = (value % (1 << (8 * width))).to_bytes(width, "little")


def _poke(rng: random.Random, data: bytearray, at: int, width: int, pages: int) -> None:
    near = int.from_bytes(data[at : at + width], "little")
    _set(data, at, width, _number(rng, near, pages))


# Places of header fields and of an element's fields: (offset, width).
_HEADER_FIELDS: Final = ((0, 8), (8, 2), (10, 2), (12, 4))
_LEAF_FIELDS: Final = ((0, 4), (4, 4), (8, 4), (12, 4))
_BRANCH_FIELDS: Final = ((0, 4), (4, 4), (8, 8))


def mutate_page(rng: random.Random, data: bytearray, at: int, pages: int) -> None:
    """Damage one page in place; `at` is its first byte."""
    end = min(at + PAGE, len(data))
    if end - at < 32:
        return
    _, flags, count, _ = struct.unpack_from("<QHHI", data, at)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        how = rng.randrange(9)
        if how == 0:
            place = rng.randrange(at, end)
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            _poke(rng, data, *_moved(rng.choice(_HEADER_FIELDS), at), pages)
        elif how in (2, 3, 4):
            element = at + 16 + 16 * rng.randrange(max(1, min(count, 60)))
            fields: tuple[tuple[int, int], ...]
            fields = _BRANCH_FIELDS if flags == fmt.BRANCH else _LEAF_FIELDS
            if flags == fmt.FREELIST:
                fields = ((0, 8), (8, 8))
            _poke(rng, data, *_moved(rng.choice(fields), element), pages)
        elif how == 5:
            _copy_element(rng, data, at, count)
        elif how == 6:
            size = rng.randrange(1, 64)
            source, target = (
                rng.randrange(at, end - size),
                rng.randrange(at, end - size),
            )
            data[target : target + size] = data[source : source + size]
        elif how == 7:
            # The value of a bucket is a root and a sequence: aim at its root.
            _retarget_bucket(rng, data, at, count, pages)
        else:
            place = rng.randrange(at, end)
            data[place:end] = bytes(end - place)


def _moved(place: tuple[int, int], by: int) -> tuple[int, int]:
    return place[0] + by, place[1]


def _copy_element(rng: random.Random, data: bytearray, at: int, count: int) -> None:
    low, high = at + 16, min(at + 16 + 16 * max(count, 1), len(data) - 16)
    if low < high:
        source, target = rng.randrange(low, high, 16), rng.randrange(low, high, 16)
        data[target : target + 16] = data[source : source + 16]


def _retarget_bucket(
    rng: random.Random, data: bytearray, at: int, count: int, pages: int
) -> None:
    places = []
    for element in range(at + 16, min(at + 16 + 16 * count, len(data) - 16), 16):
        flags, pos, key_size, _ = struct.unpack_from("<4I", data, element)
        if flags & 1:
            places.append(element + pos + key_size)
    if places:
        place = rng.choice(places)
        _set(data, place, 8, _number(rng, 0, pages))


def fix_checksum(data: bytearray, at: int) -> None:
    """Make the meta at this page valid again."""
    if at + 80 <= len(data):
        _set(data, at + 72, 8, fmt.fnv1a(bytes(data[at + 16 : at + 72])))


def mutate_file(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """A damaged copy of a database; `other` is one to take pages from."""
    data = bytearray(seed)
    pages = max(len(data) // PAGE, 3)
    for _ in range(rng.choice((1, 1, 2, 3))):
        how = rng.randrange(10)
        page = rng.randrange(2, pages)
        if how <= 3:
            mutate_page(rng, data, page * PAGE, pages)
        elif how <= 5:
            _mutate_meta(rng, data, pages)
        elif how == 6:
            # One page over another, with or without its own number.
            source = rng.choice((seed, other))
            start = rng.randrange(len(source) // PAGE) * PAGE
            data[page * PAGE : page * PAGE + PAGE] = source[start : start + PAGE]
            if rng.random() < 0.7:
                _set(data, page * PAGE, 8, page)
        elif how == 7:
            _tangle(rng, data, pages)
        elif how == 8:
            del data[rng.randrange(len(data)) :]
        else:
            data[page * PAGE : page * PAGE + PAGE] = rng.choice(
                (bytes(PAGE), b"\xff" * PAGE, rng.randbytes(PAGE))
            )
        if len(data) < 3 * PAGE:
            break
    return bytes(data)


def _mutate_meta(rng: random.Random, data: bytearray, pages: int) -> None:
    # page size, flags, root, sequence, freelist, high-water mark, txid
    places = ((24, 4), (28, 4), (32, 8), (40, 8), (48, 8), (56, 8), (64, 8))
    place, width = rng.choice(places)
    both = rng.random() < 0.5
    for slot in (0, 1) if both else (rng.randrange(2),):
        at = slot * PAGE
        _poke(rng, data, at + place, width, pages)
        if rng.random() < 0.9:
            fix_checksum(data, at)


def _tangle(rng: random.Random, data: bytearray, pages: int) -> None:
    """Point several children of branch pages at a few pages: cycles, sharing."""
    branches = [
        at
        for at in range(2 * PAGE, len(data) - PAGE + 1, PAGE)
        if data[at + 8] == fmt.BRANCH
    ]
    if not branches:
        return
    targets = [rng.choice(branches) // PAGE, rng.randrange(2, pages)]
    for at in branches:
        count = min(int.from_bytes(data[at + 10 : at + 12], "little"), 60)
        for index in range(count):
            if rng.random() < 0.4:
                _set(data, at + 16 + 16 * index + 8, 8, rng.choice(targets))


def page_runs(data: bytes) -> Iterator[bytes]:
    """The page runs of a sound database, at most five pages of each."""
    for at in range(0, len(data) - PAGE + 1, PAGE):
        header = fmt.Header.decode(data[at : at + 16])
        if header.pgid == at // PAGE and header.flags in (1, 2, 4, 16):
            yield data[at : at + PAGE * (min(header.overflow, 4) + 1)]
