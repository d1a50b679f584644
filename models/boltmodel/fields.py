"""A bolt file as named spans: which byte means what.

Theory
======
    page     header: id flags count overflow | what its kind says | unused
    meta     magic version page-size flags root sequence freelist
             high-water-mark txid checksum
    leaf     elements: flags pos ksize vsize, then keys and values; the value
             of a bucket: root, sequence (and a page, when it is inline)
    branch   elements: pos ksize child, then keys
    freelist ids

Only what the live version leads to is looked into. Everything else is free,
whatever it looks like. The file must be sound: this names the bytes of a good
file, so that damage to them can be named.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from shearbolt.pages import format as layout
from tornpage.faults import Span

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["META_FIELDS", "field_at", "live_meta", "spans"]

META_FIELDS: Final = (
    (16, "magic"),
    (20, "version"),
    (24, "page size"),
    (28, "flags"),
    (32, "root"),
    (40, "sequence"),
    (48, "freelist"),
    (56, "high-water mark"),
    (64, "txid"),
    (72, "checksum"),
    (80, ""),
)
_HEADER_FIELDS: Final = ((0, "id"), (8, "flags"), (10, "count"), (12, "overflow"))
_HEADER: Final = struct.Struct("<QHHI")
_BUCKET: Final = 1


def live_meta(content: bytes) -> layout.Meta:
    """The valid meta with the higher transaction id.

    Raises:
        ValueError: There is none.
    """
    found: list[layout.Meta] = []
    sizes = [1 << shift for shift in range(10, 17)]
    for place in (0, *sizes):
        at = place + layout.PAGE_HEADER_SIZE
        try:
            meta = layout.Meta.decode(content[at : at + layout.META_SIZE])
        except layout.MetaError:
            continue
        if place in (0, meta.page_size):
            found.append(meta)
    if not found:
        raise ValueError("neither meta page is valid")
    return max(found, key=lambda one: one.txid)


def spans(content: bytes) -> Iterator[Span]:
    """What every byte of a sound file is, in the order of the tree.

    Raises:
        ValueError: It has no valid meta.
    """
    meta = live_meta(content)
    size = meta.page_size
    used: set[int] = {0, 1}
    for slot in (0, 1):
        kind = "live meta" if slot == meta.slot else "other meta"
        base = slot * size
        yield from _header(base, kind)
        for (start, name), (stop, _) in pairwise(META_FIELDS):
            yield Span(base + start, base + stop, f"{kind}: {name}")
        yield Span(base + 80, base + size, f"{kind}: unused")
    waiting = [meta.root]
    if meta.freelist != layout.NO_FREELIST:
        waiting.append(meta.freelist)
    while waiting:
        pgid = waiting.pop()
        base = pgid * size
        _, flags, count, overflow = _HEADER.unpack_from(content, base)
        used.update(range(pgid, pgid + overflow + 1))
        end = base + (overflow + 1) * size
        kind = layout.page_kind(flags)
        yield from _header(base, kind)
        if flags == layout.FREELIST:
            stop = base + 16 + 8 * count
            yield Span(base + 16, stop, "freelist: ids")
            yield Span(stop, end, "freelist: unused")
        else:
            yield from _tree_page(content, base, flags, count, end, waiting, kind)
    for pgid in range(2, len(content) // size):
        if pgid not in used:
            where = "free page" if pgid < meta.high_water_mark else "behind the end"
            yield Span(pgid * size, (pgid + 1) * size, where)


def _header(base: int, kind: str) -> Iterator[Span]:
    for (start, name), (stop, _) in pairwise((*_HEADER_FIELDS, (16, ""))):
        yield Span(base + start, base + stop, f"{kind}: header {name}")


def _tree_page(
    content: bytes,
    base: int,
    flags: int,
    count: int,
    end: int,
    waiting: list[int],
    kind: str,
) -> Iterator[Span]:
    """Elements, keys and values of a leaf or branch; notes where they lead."""
    last = base + 16 + 16 * count
    for number in range(count):
        at = base + 16 + 16 * number
        names: tuple[tuple[int, str], ...]
        if flags == layout.BRANCH:
            pos, ksize, child = struct.unpack_from("<IIQ", content, at)
            waiting.append(child)
            names = ((0, "pos"), (4, "key size"), (8, "child"), (16, ""))
            vsize, is_bucket = 0, 0
        else:
            mark, pos, ksize, vsize = struct.unpack_from("<IIII", content, at)
            is_bucket = mark & _BUCKET
            names = (
                (0, "flags"), (4, "pos"), (8, "key size"), (12, "value size"),
                (16, ""),
            )  # fmt: skip
        for (start, name), (stop, _) in pairwise(names):
            yield Span(at + start, at + stop, f"{kind}: element {name}")
        key = at + pos
        value = key + ksize
        yield Span(key, value, f"{kind}: key")
        if is_bucket:
            root = int.from_bytes(content[value : value + 8], "little")
            yield Span(value, value + 8, f"{kind}: bucket root")
            yield Span(value + 8, value + 16, f"{kind}: bucket sequence")
            if root:
                waiting.append(root)
            else:
                yield Span(value + 16, value + vsize, f"{kind}: inline bucket")
        else:
            yield Span(value, value + vsize, f"{kind}: value")
        last = max(last, value + vsize)
    yield Span(last, end, f"{kind}: unused")


def field_at(content: bytes, offset: int) -> str:
    """What one byte of a sound file is; "" behind its end.

    Raises:
        ValueError: The file has no valid meta.
    """
    for one in spans(content):
        if one.start <= offset < one.stop:
            return one.place
    return ""
