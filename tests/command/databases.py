"""Databases to run the command on: small, and one of each kind there is.

Each is made by a function that gets an open database of a certain page size. They
are the same bytes every time: nothing here is random but by a fixed seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import shearbolt
from shearbolt.export import records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shearbolt import DB
    from shearbolt.export import Record


class Kind(NamedTuple):
    """A kind of database: how it is opened, and what is done to it."""

    fill: Callable[[DB], None]
    page_size: int = 1024
    no_freelist_sync: bool = False


def _empty(db: DB) -> None:
    """Never written."""


def _one_inline(db: DB) -> None:
    with db.update() as tx:
        tx.create_bucket(b"birds").put(b"wren", b"9 g")


def _empty_buckets(db: DB) -> None:
    with db.update() as tx:
        for name in (b"a", b"b", b"c"):
            tx.create_bucket(name)


def _one_tree(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(300):
            bucket.put(b"%05d" % i, b"v" * 20)


def _deep_tree(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(2000):
            bucket.put(b"key-%010d" % i, b"%d" % i)


def _many_free(db: DB) -> None:
    _one_tree(db)
    with db.update() as tx:
        for i in range(290):
            tx.bucket(b"b").delete(b"%05d" % i)


def _emptied(db: DB) -> None:
    _one_tree(db)
    with db.update() as tx:
        tx.delete_bucket(b"b")


def _overflow(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"big")
        for i in range(6):
            bucket.put(b"%d" % i, bytes([65 + i]) * (700 * (i + 1)))


def _nested(db: DB) -> None:
    with db.update() as tx:
        top = tx.create_bucket(b"top")
        top.set_sequence(7)
        top.put(b"plain", b"value")
        middle = top.create_bucket(b"middle")
        middle.set_sequence(1 << 40)
        middle.create_bucket(b"bottom").put(b"k", b"v")
        middle.create_bucket(b"other")
        tx.create_bucket(b"z")


def _deeply_nested(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"0")
        for depth in range(1, 20):
            bucket.put(b"here", b"%d" % depth)
            bucket = bucket.create_bucket(b"%d" % depth)


def _binary(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"bin")
        for i in range(64):
            bucket.put(bytes([i * 4, 255 - i]), bytes(range(i)))
        bucket.put(b"\x00", b"\x00")
        bucket.put(b"\xff" * 40, b"\xfe\xff")


def _odd_text(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket('l\u00e4nder "\u65e5\u672c"'.encode())
        for key in ('q"uote', "back\\slash", "new\nline", "tab\t", "\x7f", "bell\a"):
            bucket.put(key.encode(), key.encode()[::-1])
        for key in ("\u00a0", "\u2028", "\U0001f426", "\u0301", "\u200b", "\ufffd"):
            bucket.put(key.encode(), b"v " + key.encode())
        bucket.put(b"half \xe2\x82", b"\xe2\x82 half")
        bucket.put(b"ok \xc3\xa9 bad \xc3", b"")
        tx.create_bucket(b"<&>")


def _empty_values(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"e")
        for i in range(40):
            bucket.put(b"%03d" % i, b"")


def _long_keys(db: DB) -> None:
    with db.update() as tx:
        bucket = tx.create_bucket(b"long")
        for i in range(12):
            bucket.put(bytes([97 + i]) * (300 + 60 * i), b"x")


def _many_buckets(db: DB) -> None:
    for i in range(40):
        with db.update() as tx:
            tx.create_bucket(b"bucket-%02d" % i).put(b"n", b"%d" % i)


def _prefixes(db: DB) -> None:
    with db.update() as tx:
        for name in (b"user", b"user.old", b"users", b"visitor"):
            bucket = tx.create_bucket(name)
            for i in range(30):
                bucket.put(b"%s%d" % (name, i), name * 3)


def _sequence_only(db: DB) -> None:
    with db.update() as tx:
        tx.create_bucket(b"s").set_sequence((1 << 64) - 1)


def _random(db: DB) -> None:
    draw = random.Random(20)
    for _ in range(12):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"r")
            for _ in range(30):
                key = draw.randbytes(draw.randint(1, 12))
                if draw.random() < 0.3:
                    bucket.delete(key)
                else:
                    bucket.put(key, draw.randbytes(draw.randint(0, 50)))


def _mixed(db: DB) -> None:
    _one_tree(db)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        bucket.create_bucket(b"sub").put(b"in", b"side")
        bucket.put(b"zz-last", b"w" * 3000)
        tree = bucket.create_bucket(b"tree")
        for i in range(100):
            tree.put(b"%d" % i, b"leaf" * 5)


KINDS = {
    "empty": Kind(_empty, 4096),
    "empty-1k": Kind(_empty),
    "one-inline": Kind(_one_inline, 4096),
    "empty-buckets": Kind(_empty_buckets),
    "one-tree": Kind(_one_tree),
    "one-tree-4k": Kind(_one_tree, 4096),
    "one-tree-64k": Kind(_one_tree, 65536),
    "deep-tree": Kind(_deep_tree),
    "many-free": Kind(_many_free),
    "emptied": Kind(_emptied),
    "no-freelist": Kind(_many_free, no_freelist_sync=True),
    "no-freelist-4k": Kind(_nested, 4096, no_freelist_sync=True),
    "overflow": Kind(_overflow),
    "overflow-4k": Kind(_overflow, 4096),
    "nested": Kind(_nested),
    "deeply-nested": Kind(_deeply_nested),
    "binary": Kind(_binary),
    "odd-text": Kind(_odd_text),
    "empty-values": Kind(_empty_values),
    "long-keys": Kind(_long_keys),
    "many-buckets": Kind(_many_buckets),
    "prefixes": Kind(_prefixes, 2048),
    "sequence-only": Kind(_sequence_only),
    "random": Kind(_random),
    "random-16k": Kind(_random, 16384),
    "mixed": Kind(_mixed),
}


def make(name: str, folder: Path) -> Path:
    """Make the database of this kind in `folder`."""
    kind = KINDS[name]
    path = folder / f"{name}.db"
    with shearbolt.open(
        path,
        page_size=kind.page_size,
        no_freelist_sync=kind.no_freelist_sync,
        no_sync=True,
    ) as db:
        kind.fill(db)
    return path


def content(path: Path) -> list[Record]:
    """Everything in a database, which has to be sound."""
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.check() == []
        return list(records(tx))


def damage(path: Path) -> None:
    """Make a page unreachable by emptying the list that names it free."""
    data = bytearray(path.read_bytes())
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        at = tx.meta.freelist * db.page_size + 10
    data[at : at + 2] = bytes(2)
    path.write_bytes(data)
