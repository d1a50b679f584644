"""Command lines that bbolt's command and ours must answer with the same words.

`lines(path)` gives, for a database, everything worth asking about it: each reading
subcommand in each of its forms, with page ids, names and keys that the database
has and with some that it has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import shearbolt
from shearbolt.export import BucketRecord, PairRecord, records
from shearbolt.pagefile import PageFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = ("auto", "ascii-encoded", "hex", "bytes", "redacted")


def lines(path: Path) -> Iterator[tuple[str | bytes, ...]]:
    """Arguments without the program's name; "DB" stands for the file."""
    yield ("info", "DB")
    yield ("check", "DB")
    yield ("buckets", "DB")
    yield ("pages", "DB")
    yield ("stats", "DB")
    yield ("stats", "DB", "user")
    yield ("inspect", "DB")
    yield ("surgery", "meta", "validate", "DB")
    yield ("keys", "DB", "no such bucket")
    yield from _page_lines(path)
    yield from _content_lines(path)


def _page_lines(path: Path) -> Iterator[tuple[str, ...]]:
    with PageFile(path) as file:
        pages = [str(pgid) for pgid in range(min(file.high_water_mark, 60))]
        leaf = next((pgid for pgid in pages if _is_filled_leaf(file, int(pgid))), None)
    yield ("page", "DB", *pages)
    yield ("page", "DB", "0", "1", "--format-value", "redacted")
    yield ("page", "--format-value=hex", "DB", pages[-1])
    yield ("dump", "DB", *pages[:6])
    if leaf is not None:
        for form in FORMATS:
            yield ("page-item", "DB", leaf, "0", "--format", form)
        yield ("page-item", "--key-only", "DB", leaf, "0")
        yield ("page-item", "--value-only=true", "DB", leaf, "0")


def _is_filled_leaf(file: PageFile, pgid: int) -> bool:
    try:
        page = file.page(pgid)
    except shearbolt.BoltError:
        return False
    return page.kind == "leaf" and page.header.count > 0


def _content_lines(path: Path) -> Iterator[tuple[str | bytes, ...]]:
    buckets = pairs = 0
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        for record in records(tx):
            if isinstance(record, BucketRecord) and buckets < 6:
                buckets += 1
                yield ("keys", "DB", *record.path)
                yield ("keys", "-f", "ascii-encoded", "DB", *record.path)
            if isinstance(record, PairRecord) and pairs < 8:
                if b"\0" in record.key:
                    continue
                pairs += 1
                form = FORMATS[pairs % len(FORMATS)]
                yield ("get", "DB", *record.path, "--format", form, "--", record.key)
                hexed = record.key.hex()
                yield ("get", "--parse-format=hex", "DB", *record.path, hexed)
