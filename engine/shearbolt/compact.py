"""Compaction: the content of one database, written in order into another.

A bolt file never shrinks: freed pages are used again but not given back. A copy
made key by key has no free pages, and pages filled to the brim, because the keys
come in order.

    source --records, in key order--> Loader(fill_percent=1.0) --commits--> target

A transaction is committed before its keys and values would exceed `tx_max_size`, so
memory stays bounded whatever the size of the source. Sequences are kept.

Source: bbolt compact.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shearbolt.errors import OptionError
from shearbolt.export import Loader, records
from shearbolt.options import check_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from shearbolt.database.opening import DB

__all__ = ["DEFAULT_TX_MAX_SIZE", "compact"]

DEFAULT_TX_MAX_SIZE: Final = 65536
"""Bytes of keys and values a transaction (bbolt's command has the same)."""


def compact(
    source: DB,
    target: DB,
    tx_max_size: int = DEFAULT_TX_MAX_SIZE,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Copy everything in `source` into `target`, densely.

    Args:
        source: What to copy; read in one transaction.
        target: Where to; it may hold other buckets already.
        tx_max_size: Bytes of keys and values a transaction of `target`; 0: one
            transaction for everything.
        progress: Called with the number of records done after each.

    Returns:
        How many buckets and pairs were copied.

    Raises:
        OptionError: `tx_max_size` is no number of bytes, or both are the same database.
        BucketExistsError: `target` has a top-level bucket of the same name.
        BoltError: What reading the one and writing the other may raise.
    """
    check_size("tx_max_size", tx_max_size)
    if source is target:
        raise OptionError("a database cannot be compacted into itself")
    done = 0
    with (
        source.view() as tx,
        Loader(
            target, tx_max_size=tx_max_size, fill_percent=1.0, new_buckets=True
        ) as loader,
    ):
        for record in records(tx):
            loader.add(record)
            done += 1
            if progress is not None:
                progress(done)
    return done
