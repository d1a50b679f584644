"""Subcommands about a database as a whole: info, check, stats, inspect.

Source: bbolt cmd/bbolt/command/command_{info,check,stats,inspect}.go.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from shearbolt.command.arguments import (
    add_json,
    add_path,
    add_timeout,
    name_bytes,
    page_id,
)
from shearbolt.command.session import Command, CommandError
from shearbolt.command.text import lossy, printable_or_hex
from shearbolt.export import json_bytes
from shearbolt.pages.format import NO_FREELIST
from shearbolt.pages.pagemap import PageMap
from shearbolt.stats import BucketStats
from shearbolt.tree import whole

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from shearbolt.command.session import Session
    from shearbolt.stats import BucketStructure

__all__ = ["COMMANDS"]


def _arguments(parser: ArgumentParser) -> None:
    add_path(parser)
    add_json(parser)
    add_timeout(parser)


# -- info --------------------------------------------------------------------------


def _info(session: Session, options: Namespace) -> int:
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        if not options.json:
            session.line(f"Page Size: {db.page_size}")
            return 0
        meta = tx.meta
        session.json(
            {
                "page_size": db.page_size,
                "file_size": db.pager.file.size(),
                "high_water_mark": meta.high_water_mark,
                "txid": meta.txid,
                "root": meta.root,
                "freelist": None if meta.freelist == NO_FREELIST else meta.freelist,
            }
        )
    return 0


# -- check -------------------------------------------------------------------------


def _arguments_check(parser: ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument(
        "--from-page",
        metavar="PAGEID",
        type=page_id,
        default=0,
        help="check only the tree below this page",
    )


def _check(session: Session, options: Namespace) -> int:
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        count = 0
        for problem in tx.problems(
            from_page=options.from_page or None, format_key=printable_or_hex
        ):
            count += 1
            if options.json:
                session.json(
                    {
                        "problem": str(problem),
                        "page": problem.pgid,
                        "offset": problem.offset,
                        "bucket": [json_bytes(name) for name in problem.path],
                    }
                )
            else:
                session.line(str(problem))
    if options.json:
        session.json({"ok": not count, "problems": count})
    elif not count:
        session.line("OK")
    if count:
        if not options.json:
            session.line(f"{count} errors found")
        raise CommandError("invalid value")
    return 0


# -- stats -------------------------------------------------------------------------


def _arguments_stats(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "prefix",
        metavar="PREFIX",
        nargs="?",
        type=name_bytes,
        default=b"",
        help="only top-level buckets whose names begin so",
    )
    add_json(parser)
    add_timeout(parser)


def _stats(session: Session, options: Namespace) -> int:
    total = BucketStats()
    count = 0
    claimed = PageMap()
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        for name, bucket in tx.buckets():
            if name.startswith(options.prefix):
                total = total.add(whole.pages(bucket, claimed))
                count += 1
    if options.json:
        members = asdict(total)
        # Says that a transaction's own changes are not counted; there are none.
        del members["uncommitted"]
        session.json({"buckets": count, **members})
        return 0
    session.line(f"Aggregate statistics for {count} buckets\n")
    for line in _stats_lines(total):
        session.line(line)
    return 0


def _stats_lines(s: BucketStats) -> Iterator[str]:
    yield "Page count statistics"
    yield f"\tNumber of logical branch pages: {s.branch_page_n}"
    yield f"\tNumber of physical branch overflow pages: {s.branch_overflow_n}"
    yield f"\tNumber of logical leaf pages: {s.leaf_page_n}"
    yield f"\tNumber of physical leaf overflow pages: {s.leaf_overflow_n}"
    yield "Tree statistics"
    yield f"\tNumber of keys/value pairs: {s.key_n}"
    yield f"\tNumber of levels in B+tree: {s.depth}"
    yield "Page size utilization"
    yield f"\tBytes allocated for physical branch pages: {s.branch_alloc}"
    used = _share(s.branch_inuse, s.branch_alloc)
    yield f"\tBytes actually used for branch data: {s.branch_inuse} ({used}%)"
    yield f"\tBytes allocated for physical leaf pages: {s.leaf_alloc}"
    used = _share(s.leaf_inuse, s.leaf_alloc)
    yield f"\tBytes actually used for leaf data: {s.leaf_inuse} ({used}%)"
    yield "Bucket statistics"
    yield f"\tTotal number of buckets: {s.bucket_n}"
    inline = _share(s.inline_bucket_n, s.bucket_n)
    yield f"\tTotal number on inlined buckets: {s.inline_bucket_n} ({inline}%)"
    inline = _share(s.inline_bucket_inuse, s.leaf_inuse)
    yield f"\tBytes used for inlined buckets: {s.inline_bucket_inuse} ({inline}%)"


def _share(part: int, whole: int) -> int:
    """A percentage as bbolt computes it, in 32-bit floating point."""
    if not whole:
        return 0
    return int(_float32(_float32(_float32(part) * 100.0) / _float32(whole)))


def _float32(number: float) -> float:
    value: float = struct.unpack("f", struct.pack("f", number))[0]
    return value


# -- inspect -----------------------------------------------------------------------

_INDENT: Final = "    "
# What Go's JSON encoder writes otherwise than Python's.
_GO_ESCAPES: Final = str.maketrans(
    {
        "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)  # fmt: skip


def _inspect(session: Session, options: Namespace) -> int:
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        if options.json:
            for piece in _structure(tx.inspect(), _exact, ""):
                end = " " if piece.endswith(",") else ""
                session.stdout.write((piece + end).encode())
            session.line()
            return 0
        for line in _structure(tx.inspect(), _go_string, _INDENT):
            session.line(line)
    return 0


def _structure(
    root: BucketStructure, shown: Callable[[bytes], str], step: str
) -> Iterator[str]:
    """The structure as JSON, line by line.

    Not json.dumps: it recurses, and buckets may be nested deeper than it can.

    Args:
        root: The outermost bucket.
        shown: What stands for a name.
        step: How much further a bucket is indented than that around it.
    """
    # Depths, not indentations: those of a deep chain are as long as what is written.
    stack: list[tuple[BucketStructure | None, int, str]] = [(root, 0, "")]
    while stack:
        bucket, depth, comma = stack.pop()
        indent = step * depth
        inner = indent + step
        if bucket is None:
            yield f"{inner}]"
            yield f"{indent}}}{comma}"
            continue
        yield indent + "{"
        yield f'{inner}"name": {shown(bucket.name)},'
        if not bucket.buckets:
            yield f'{inner}"keyN": {bucket.key_n}'
            yield f"{indent}}}{comma}"
            continue
        yield f'{inner}"keyN": {bucket.key_n},'
        yield f'{inner}"buckets": ['
        stack.append((None, depth, comma))
        last = len(bucket.buckets) - 1
        stack += [
            (child, depth + 2, "" if index == last else ",")
            for index, child in reversed(list(enumerate(bucket.buckets)))
        ]


def _exact(name: bytes) -> str:
    return json.dumps(json_bytes(name), ensure_ascii=False)


def _go_string(name: bytes) -> str:
    return json.dumps(lossy(name), ensure_ascii=False).translate(_GO_ESCAPES)


COMMANDS: Final = (
    Command(
        "info",
        "print the page size",
        _arguments,
        _info,
        "shearbolt info app.db\nshearbolt info app.db --json",
        "With --json also file size, high-water mark, last transaction, root page and "
        "freelist page.",
    ),
    Command(
        "check",
        "verify that the database is consistent",
        _arguments_check,
        _check,
        "shearbolt check app.db && echo sound",
        "Every page must be exactly one of meta, freelist, reachable, free; keys must "
        "ascend. Prints OK, or every problem and ends with status 1.",
    ),
    Command(
        "stats",
        "count pages, keys, bytes and buckets",
        _arguments_stats,
        _stats,
        "shearbolt stats app.db\nshearbolt stats app.db user",
    ),
    Command(
        "inspect",
        "print the tree of buckets as JSON",
        _arguments,
        _inspect,
        "shearbolt inspect app.db\nshearbolt inspect app.db --json | jq .buckets[0]",
        'With --json on one line, and names that are no UTF-8 as {"hex": ...}.',
    ),
)
