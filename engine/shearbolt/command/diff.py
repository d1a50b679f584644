"""The subcommand diff: what two databases hold differently.

Both are read as sorted streams of records and merged, so databases of any size are
compared in one pass with one page of each in memory:

    A   ("a",)  ("a","k")            ("b",)  ...
    B   ("a",)            ("a","m")  ("b",)  ...
        same    only A    only B     same

Page numbers, free pages and the like are no difference: content only. The exit
status is diff(1)'s: 0 the same, 1 different, 2 trouble.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shearbolt.command.arguments import add_bytes_format, add_json, add_timeout
from shearbolt.command.session import Command
from shearbolt.command.text import format_bytes, quote
from shearbolt.export import BucketRecord, Record, json_bytes, records

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from shearbolt.command.session import Session
    from shearbolt.database.tx import Tx

__all__ = ["COMMANDS", "TROUBLE", "differences"]

TROUBLE: Final = 2
"""Exit status when the databases could not be compared."""


def differences(a: Tx, b: Tx) -> Iterator[tuple[Record | None, Record | None]]:
    """What stands in one transaction's version and not, or otherwise, in the other's.

    Places are not compared: in a chain of 8,000 buckets that takes their square. How
    deep the next records are says enough.

    Yields:
        (record of `a`, record of `b`) in order of place; None where there is none.
        A key that is a bucket on one side comes as two.

    Raises:
        CorruptPageError: Damage was met.
    """
    left, right = records(a), records(b)
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        first = _first(one, two)
        if first:
            yield (one, None) if first < 0 else (None, two)
        elif type(one) is not type(two):
            yield one, None
            yield None, two
        elif _content(one) != _content(two):
            yield one, two
        if first <= 0:
            one = next(left, None)
        if first >= 0:
            two = next(right, None)


def _first(one: Record | None, two: Record | None) -> int:
    """Which of the next records comes first: -1, 1; 0: they are of one place."""
    if one is None or two is None:
        return 1 if one is None else -1
    depth, other = _depth(one), _depth(two)
    # The deeper one is in a bucket that the other stream has not got, or has left: the
    # other's record comes behind it. Of one depth they are in the same bucket.
    if depth != other:
        return -1 if depth > other else 1
    key, other_key = _key(one), _key(two)
    return (key > other_key) - (key < other_key)


def _depth(record: Record) -> int:
    """How many buckets a record is in."""
    return len(record.path) - isinstance(record, BucketRecord)


def _key(record: Record) -> bytes:
    """Its own key, or name, in its bucket."""
    return record.path[-1] if isinstance(record, BucketRecord) else record.key


def _content(record: Record | None) -> object:
    """What may differ in two records of one kind and place."""
    if isinstance(record, BucketRecord):
        return record.sequence
    return None if record is None else record.value


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="one database")
    parser.add_argument("b", metavar="B", help="the other")
    parser.add_argument(
        "-q", "--brief", action="store_true", help="only say whether they differ"
    )
    add_bytes_format(parser, "--format", what="a value")
    parser.set_defaults(format="ascii-encoded")
    add_json(parser)
    add_timeout(parser)


def _diff(session: Session, options: Namespace) -> int:
    different = False
    with (
        session.reading(options.a, options.timeout) as db_a,
        session.reading(options.b, options.timeout) as db_b,
        db_a.view() as a,
        db_b.view() as b,
    ):
        for one, two in differences(a, b):
            different = True
            if options.brief:
                break
            if options.json:
                session.json(_members(one, two))
                continue
            if one is not None:
                session.line(b"- " + _text(one, options.format))
            if two is not None:
                session.line(b"+ " + _text(two, options.format))
    if different and options.brief:
        if options.json:
            session.json({"different": True})
        else:
            session.line(f"Databases {options.a} and {options.b} differ")
    return 1 if different else 0


def _text(record: Record, form: str) -> bytes:
    place = "/".join(map(quote, record.place))
    if isinstance(record, BucketRecord):
        return f"{place}/ sequence {record.sequence}".encode()
    return f"{place} = ".encode() + format_bytes(record.value, form)


def _members(one: Record | None, two: Record | None) -> dict[str, Any]:
    record = one or two
    assert record is not None, "a difference has at least one side"
    members: dict[str, Any] = {
        "change": "added" if one is None else "removed" if two is None else "changed",
        "bucket": [json_bytes(name) for name in record.path],
    }
    if isinstance(record, BucketRecord):
        word = "sequence"
    else:
        word = "value"
        members["key"] = json_bytes(record.key)
    for side, name in ((one, "a"), (two, "b")):
        if isinstance(side, BucketRecord):
            members[name] = {word: side.sequence}
        elif side is not None:
            members[name] = {word: json_bytes(side.value)}
    return members


COMMANDS: Final = (
    Command(
        "diff",
        "compare the content of two databases",
        _arguments,
        _diff,
        "shearbolt diff before.db after.db\nshearbolt diff -q a.db b.db && echo same",
        "Lines with - are in A, lines with + in B. Ends with status 0 when they hold "
        "the same, 1 when not, 2 when they could not be compared.",
    ),
)
