"""What a large freelist costs a commit: `python -m ci.bench freelist`.

The file format has one list of all free pages, and every commit writes it anew.
This part of a commit grows with the number of free pages, whatever the engine
does. Two options change that: `freelist_type` how a page is chosen, and
`no_freelist_sync` whether the list is written at all.

    run         all free pages side by side: one run
    fragments   every second page free: as many runs as pages

The database is made by hand, as a sparse file: metas and an empty root, then the
free ones, then the freelist. Of `fragments` the pages between are neither free
nor reachable; a checker would say so, a commit does not look.

Times are the processor's, the system's calls included, and the median of single commits
of one put each, without syncs: what is measured is the work, not the disk, nor who else
is busy.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

import shearbolt
from shearbolt.pages.encoding import encode_freelist, freelist_size
from shearbolt.pages.format import LEAF, Header, Meta

__all__ = ["Cost", "make_database", "measure", "table"]

_PAGE: Final = 4096
_FIRST_FREE: Final = 3
_COMMITS: Final = 21
_KINDS: Final = ("run", "fragments")
_TYPES: Final = ("array", "hashmap")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of freelist costs with one set of options.

    Attributes:
        kind: "run" or "fragments".
        pages: Free pages.
        freelist_type: The option.
        synced: Whether the list is written (not `no_freelist_sync`).
        opening: Seconds of the processor to open the file.
        commit: The same of one commit, syncs not included.
    """

    kind: str
    pages: int
    freelist_type: str
    synced: bool
    opening: float
    commit: float


def make_database(path: str, kind: str, pages: int) -> None:
    """Write a database with an empty root and so many free pages.

    Args:
        path: A file that does not exist.
        kind: "run" or "fragments".
        pages: How many.
    """
    step = 1 if kind == "run" else 2
    ids = range(_FIRST_FREE, _FIRST_FREE + step * pages, step)
    at = _FIRST_FREE + step * pages
    length = freelist_size(pages) // _PAGE + 1
    end = at + length
    metas = [Meta(_PAGE, 2, at, end, txid) for txid in (2, 3)]
    leaf = Header(2, LEAF, 0, 0).encode()
    with open(path, "xb") as file:
        for meta in metas:
            file.seek(meta.slot * _PAGE)
            file.write(meta.encode_page(meta.slot))
        file.seek(2 * _PAGE)
        file.write(leaf)
        file.seek(at * _PAGE)
        file.write(encode_freelist(at, length - 1, ids))
        file.truncate(end * _PAGE)


def measure(folder: str, pages: int) -> list[Cost]:
    """All combinations; files are made in the folder and removed again."""
    costs = []
    path = os.path.join(folder, "freelist.db")
    for kind in _KINDS:
        for freelist_type in _TYPES:
            for synced in (True, False):
                make_database(path, kind, pages)
                try:
                    opening, commit = _time(path, freelist_type, synced=synced)
                finally:
                    os.unlink(path)
                costs.append(Cost(kind, pages, freelist_type, synced, opening, commit))
    return costs


def _time(path: str, freelist_type: str, *, synced: bool) -> tuple[float, float]:
    began = time.process_time()
    db = shearbolt.open(
        path, freelist_type=freelist_type, no_sync=True, no_freelist_sync=not synced
    )
    opening = time.process_time() - began
    with db:
        with db.update() as tx:
            tx.create_bucket(b"bench").put(b"key", b"")
        seconds = []
        for number in range(_COMMITS):
            began = time.process_time()
            with db.update() as tx:
                tx.bucket(b"bench").put(b"key", b"%d" % number)
            seconds.append(time.process_time() - began)
    return opening, median(seconds)


def table(costs: list[Cost]) -> str:
    """The costs as Markdown."""
    lines = [
        "| free pages | freelist_type | list written | open | commit without syncs |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.pages:,}, {one.kind} | {one.freelist_type} | "
        f"{'yes' if one.synced else 'no'} | {1e3 * one.opening:.1f} ms | "
        f"{1e3 * one.commit:.2f} ms |"
        for one in costs
    ]
    return "\n".join(lines) + "\n"
