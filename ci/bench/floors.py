"""What the primitives cost that nothing in Python can do without, and sums of them.

    primitive                 by itself
    lookup   get              a key looked up in a dict of all pairs, in random order
    insert   load             all pairs put into such a dict
    sort     load             as many keys sorted
    loop     scan, range      a pair of a list of tuples taken in a `for`
    bisect   range            the place of a key among 100
    read     get, delete      a page read from the system's cache, in random order
    read on  scan             the same in the file's order, eight pages a call
    decode   all that read    a page's elements unpacked and its keys and values cut out
    encode   all that write   the same pairs packed and joined
    sync     commit           a page written and `fdatasync`
    recovery crash point      what a killed program left opened, walked, checked,
                              committed to

A floor is what an operation must take if it consisted of these and nothing else: no
transaction, no tree, no check. It is no promise that somebody can come near it. It says
how far away the engine is, and which primitive it waits for.
"""

from __future__ import annotations

import os
import random
import struct
import time
from bisect import bisect_left
from itertools import accumulate, chain
from statistics import median
from typing import TYPE_CHECKING, Final

from ci.bench.explorer import experiments
from ci.bench.workloads import KEY_SIZE, RANGE_PAIRS, VALUE_SIZE, Dataset

from boltmodel.recovery import recover
from boltmodel.subject import ShearboltSubject
from shearbolt.pages.format import ELEMENT_SIZE, PAGE_HEADER_SIZE
from tornpage.model import CrashModel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["floor", "primitives"]

_PAGE: Final = 4096
_PAIR: Final = KEY_SIZE + VALUE_SIZE
_FULL: Final = (_PAGE // 2 - PAGE_HEADER_SIZE) // (ELEMENT_SIZE + _PAIR)
"""Pairs in a leaf after a load: bbolt fills pages to a half."""

_ROUNDS: Final = 5
_SYNCS: Final = 200
_AT_ONCE: Final = 8
"""Pages that a scan reads in one call, as `shearbolt.pages.window` does."""


def primitives(data: Dataset, folder: str) -> dict[str, float]:
    """Seconds of each primitive, by itself; the best of some rounds, a sync's median.

    Args:
        data: The pairs.
        folder: Where a file may be made.
    """
    pairs = data.pairs()
    found = {
        **_in_memory(data, pairs),
        **_of_a_page(pairs),
        **_of_a_file(folder, len(pairs) // _FULL),
    }
    found["recovery"] = _recovery()
    return found


def floor(task: str, cost: dict[str, float], recoveries: float) -> tuple[float, str]:
    """What an operation of a task must take.

    Args:
        task: One of `tasks.TASKS`.
        cost: Seconds of each primitive.
        recoveries: Run for one crash point.

    Returns:
        Seconds, and the sum in words.
    """
    page = f"1/{_FULL} "
    sums: dict[str, list[tuple[float, str, str]]] = {
        "commit": [(4, "4 ", "encode"), (2, "2 ", "sync")],
        "get cold": [(1, "", "lookup"), *_part(page, "read", "decode")],
        "get warm": [(1, "", "lookup")],
        "scan cold": [*_part(page, "read on", "decode"), (1, "", "loop")],
        "scan warm": [(1, "", "loop")],
        "range": [(1, "", "bisect"), (RANGE_PAIRS, f"{RANGE_PAIRS} ", "loop")],
        "load random": [
            (1, "", "insert"),
            (1, "", "sort"),
            *_part(page, "encode"),
        ],
        "load sorted": [(1, "", "insert"), *_part(page, "encode")],
        "delete half": [
            (1, "", "lookup"),
            (2 / _FULL, f"2/{_FULL} ", "read"),
            (2 / _FULL, f"2/{_FULL} ", "decode"),
            (1 / _FULL, page, "encode"),
        ],
        "crash point": [(recoveries, f"{recoveries:.2f} ", "recovery")],
    }
    terms = sums[task]
    seconds = sum(times * cost[name] for times, _, name in terms)
    return seconds, " + ".join(f"{text}{name}" for _, text, name in terms)


def _part(text: str, *names: str) -> list[tuple[float, str, str]]:
    return [(1 / _FULL, text, name) for name in names]


def _best(call: Callable[[], object], operations: int) -> float:
    """Seconds of one of so many operations that a call does, in the best of rounds."""
    found = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) / operations)
    return min(found)


def _in_memory(data: Dataset, pairs: list[tuple[bytes, bytes]]) -> dict[str, float]:
    there = dict(pairs)
    few, wanted = sorted(data.keys[:100]), data.gets[:1000]

    def lookup() -> None:
        get = there.get
        for key in data.gets:
            get(key)

    def loop() -> None:
        for _key, _value in pairs:
            pass

    def bisect() -> None:
        for key in wanted:
            bisect_left(few, key)

    return {
        "lookup": _best(lookup, len(pairs)),
        "insert": _best(lambda: dict(pairs), len(pairs)),
        "sort": _best(lambda: sorted(data.keys), len(pairs)),
        "loop": _best(loop, len(pairs)),
        "bisect": _best(bisect, len(wanted)),
    }


def _of_a_page(pairs: list[tuple[bytes, bytes]]) -> dict[str, float]:
    """Decoding and encoding a leaf, by what `struct` and slices take."""
    parts = list(chain.from_iterable(pairs[:_FULL]))
    table = struct.Struct(f"<{4 * _FULL}I")
    times = 1000

    def encode() -> bytes:
        sizes = list(map(len, parts))
        ends = list(accumulate(sizes))
        fields = [0] * (4 * _FULL)
        fields[1::4] = ends[0::2]
        fields[2::4] = sizes[0::2]
        fields[3::4] = sizes[1::2]
        return b"".join([table.pack(*fields), *parts])

    page = encode()

    def decode() -> list[bytes]:
        sizes = table.unpack_from(page)
        at, found = table.size, []
        for index in range(2, 4 * _FULL, 4):
            middle = at + sizes[index]
            end = middle + sizes[index + 1]
            found.append(page[at:middle])
            found.append(page[middle:end])
            at = end
        return found

    assert decode() == parts
    return {
        "encode": _best(lambda: [encode() for _ in range(times)], times),
        "decode": _best(lambda: [decode() for _ in range(times)], times),
    }


def _of_a_file(folder: str, pages: int) -> dict[str, float]:
    path = os.path.join(folder, "floors")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for page in range(pages):
            os.pwrite(handle, bytes(_PAGE), page * _PAGE)
        os.fsync(handle)
        places = random.Random(1).sample(range(pages), pages)

        def read() -> None:
            for page in places:
                os.pread(handle, _PAGE, page * _PAGE)

        def read_on() -> None:
            for page in range(0, pages, _AT_ONCE):
                os.pread(handle, _AT_ONCE * _PAGE, page * _PAGE)

        syncs = []
        for number in range(_SYNCS):
            began = time.perf_counter()
            os.pwrite(handle, number.to_bytes(2, "big"), number % 2 * _PAGE)
            os.fdatasync(handle)
            syncs.append(time.perf_counter() - began)
        return {
            "read": _best(read, pages),
            "read on": _best(read_on, pages),
            "sync": median(syncs),
        }
    finally:
        os.close(handle)
        os.unlink(path)


def _recovery() -> float:
    """Of what the default programs leave when they are killed; the median of them."""
    found = []
    for one in experiments(ShearboltSubject(), CrashModel.parse("tear=byte")):
        one.disk.kill()
        began = time.perf_counter()
        recover(one.disk)
        found.append(time.perf_counter() - began)
    return median(found)
