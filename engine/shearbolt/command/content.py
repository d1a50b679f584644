"""Subcommands that read or change single entries: buckets, keys, get, put, delete.

A bucket is named by the names that lead to it, one argument each:

    shearbolt get app.db users alice email
                         ^bucket ^in it ^key

Source: bbolt cmd/bbolt/command/command_{buckets,keys,get}.go for the first three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shearbolt.command.arguments import (
    add_bytes_format,
    add_json,
    add_names,
    add_parse_format,
    add_path,
    add_timeout,
)
from shearbolt.command.session import Command, CommandError, UsageError
from shearbolt.command.text import format_bytes, lossy, parse_bytes, quote
from shearbolt.errors import BucketNotFoundError, KeyRequiredError
from shearbolt.export import json_bytes

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from shearbolt.command.session import Session
    from shearbolt.database.tx import Tx
    from shearbolt.tree.bucket import Bucket

__all__ = ["COMMANDS"]


def _find(tx: Tx, names: Sequence[bytes], *, create: bool = False) -> Bucket:
    bucket = tx.root_bucket
    for name in names:
        if create:
            bucket = bucket.create_bucket_if_not_exists(name)
            continue
        try:
            bucket = bucket.bucket(name)
        except BucketNotFoundError:
            where = "/".join(map(quote, names))
            raise CommandError(
                f"bucket not found: {quote(name)}"
                + (f" of {where}" if len(names) > 1 else "")
            ) from None
    return bucket


def _split(names: Sequence[bytes], form: str) -> tuple[list[bytes], bytes]:
    """The buckets' names and the key of BUCKET.. KEY.

    Raises:
        UsageError: There is no bucket, or the key is no hex.
        KeyRequiredError: The key is empty.
    """
    *buckets, last = names
    if not buckets:
        raise UsageError("bucket is required: bucket required")
    key = _parse(last, form)
    if not key:
        raise KeyRequiredError("key is required: key required")
    return buckets, key


def _parse(text: bytes, form: str) -> bytes:
    try:
        return parse_bytes(text, form)
    except ValueError as error:
        raise UsageError(f"{lossy(text)!r} is not hex: {error}") from None


# -- buckets -----------------------------------------------------------------------


def _arguments_buckets(parser: ArgumentParser) -> None:
    add_path(parser)
    add_json(parser)
    add_timeout(parser)


def _buckets(session: Session, options: Namespace) -> int:
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        for name, bucket in tx.buckets():
            if options.json:
                session.json({"bucket": json_bytes(name), "sequence": bucket.sequence})
            else:
                session.line(name)
    return 0


# -- keys --------------------------------------------------------------------------


def _arguments_keys(parser: ArgumentParser) -> None:
    add_path(parser)
    add_names(parser, "BUCKET", "the bucket, from the outside in")
    add_bytes_format(parser, "-f", "--format", what="a key")
    add_json(parser)
    add_timeout(parser)


def _keys(session: Session, options: Namespace) -> int:
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        cursor = _find(tx, options.names).cursor()
        pair = cursor.first()
        while pair is not None:
            key, value = pair
            if options.json:
                session.json({"key": json_bytes(key), "is_bucket": value is None})
            else:
                session.line(format_bytes(key, options.format))
            pair = cursor.next()
    return 0


# -- get ---------------------------------------------------------------------------


def _arguments_get(parser: ArgumentParser) -> None:
    add_path(parser)
    add_names(parser, "NAME", "the bucket, from the outside in, and the key")
    add_parse_format(parser, "the key")
    add_bytes_format(parser, "--format", what="the value")
    add_json(parser)
    add_timeout(parser)


def _get(session: Session, options: Namespace) -> int:
    buckets, key = _split(options.names, options.parse_format)
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        value = _find(tx, buckets).get(key)
    if value is None:
        # The word is there twice because bbolt has it so.
        raise CommandError(
            f'Error key not found for key: {quote(key)} hex: "{key.hex()}"'
        )
    if options.json:
        session.json({"key": json_bytes(key), "value": json_bytes(value)})
    else:
        session.line(format_bytes(value, options.format))
    return 0


# -- put ---------------------------------------------------------------------------


def _arguments_put(parser: ArgumentParser) -> None:
    add_path(parser)
    add_names(parser, "NAME", "the bucket, from the outside in, the key, the value")
    add_parse_format(parser, "key and value")
    parser.add_argument(
        "--stdin",
        action="store_true",
        help="the value is all of standard input, and no argument",
    )
    parser.add_argument(
        "--create", action="store_true", help="make the file and buckets if missing"
    )
    add_timeout(parser)


def _put(session: Session, options: Namespace) -> int:
    names = list(options.names)
    if options.stdin:
        value = session.stdin.read()
    elif len(names) < 3:
        raise UsageError("BUCKET, KEY and VALUE are needed (or --stdin)")
    else:
        value = _parse(names.pop(), options.parse_format)
    buckets, key = _split(names, options.parse_format)
    with (
        session.writing(options.path, options.timeout, create=options.create) as db,
        db.update() as tx,
    ):
        _find(tx, buckets, create=options.create).put(key, value)
    return 0


# -- delete ------------------------------------------------------------------------


def _arguments_delete(parser: ArgumentParser) -> None:
    add_path(parser)
    add_names(parser, "NAME", "the bucket, from the outside in, and the key")
    add_parse_format(parser, "the key")
    parser.add_argument(
        "--bucket",
        action="store_true",
        help="delete the bucket named last, with everything in it, and no key",
    )
    add_timeout(parser)


def _delete(session: Session, options: Namespace) -> int:
    if options.bucket:
        *buckets, key = options.names
    else:
        buckets, key = _split(options.names, options.parse_format)
    with session.writing(options.path, options.timeout) as db, db.update() as tx:
        bucket = _find(tx, buckets)
        if options.bucket:
            _find(tx, [*buckets, key])
            bucket.delete_bucket(key)
        elif bucket.get(key) is None:
            raise CommandError(
                f'key not found: {quote(key)} hex: "{key.hex()}"'
                " (a bucket is deleted with --bucket)"
            )
        else:
            bucket.delete(key)
    return 0


COMMANDS: Final = (
    Command(
        "buckets",
        "list the top-level buckets",
        _arguments_buckets,
        _buckets,
        "shearbolt buckets app.db",
    ),
    Command(
        "keys",
        "list the keys of a bucket, buckets in it included",
        _arguments_keys,
        _keys,
        "shearbolt keys app.db users alice\nshearbolt keys app.db users -f hex",
    ),
    Command(
        "get",
        "print the value of a key",
        _arguments_get,
        _get,
        "shearbolt get app.db users alice email\n"
        "shearbolt get app.db index 00ff --parse-format hex --format bytes > value",
    ),
    Command(
        "put",
        "set the value of a key, durably",
        _arguments_put,
        _put,
        "shearbolt put app.db users alice email alice@example.org\n"
        "shearbolt put --create new.db photos wren --stdin < wren.jpg",
    ),
    Command(
        "delete",
        "delete a key, or a bucket with everything in it",
        _arguments_delete,
        _delete,
        "shearbolt delete app.db users alice email\n"
        "shearbolt delete --bucket app.db users alice",
    ),
)
