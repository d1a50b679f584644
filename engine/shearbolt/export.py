"""The content of a database as a stream of records, and those as JSON Lines.

A database holds a tree of buckets. Walked in key order, each bucket before what
is in it, it is a flat stream, and the stream is sorted: by the names that lead to
a record, its own key last, compared as tuples.

    root                          BucketRecord((b"birds",), sequence=2)
      "birds"   sequence 2        PairRecord((b"birds",), b"kite", b"1 kg")
        "kite"  = "1 kg"    -->   BucketRecord((b"birds", b"tits"), sequence=0)
        "tits"  a bucket          PairRecord((b"birds", b"tits"), b"blue", b"11 g")
          "blue" = "11 g"         PairRecord((b"birds",), b"wren", b"9 g")
        "wren"  = "9 g"

Everything that handles whole databases is made of this stream: `compact` writes it
into another database, an export writes it down, an import reads it back, a
comparison merges two of them. None of these holds more than one page and one
transaction in memory.

JSON Lines
==========
One record a line, each line complete by itself, so that line tools can filter it:

    {"format": "shearbolt", "version": 2}
    {"bucket": ["birds"], "sequence": 2}
    {"bucket": ["birds"], "key": "kite", "value": "1 kg"}
    {"end": 2}

The last line says how many records there were. An export whose writer stopped, a full
disk or a pipe from a command that failed, would be taken for a smaller database
otherwise: every part of it is made of good lines. Exports may stand one behind the
other. Lines that were picked out of one, or written by hand, have neither first nor
last line; they are read when that is said (`partial`). Version 1 had no last line, and
is read as far as it goes.

A string stands for its UTF-8 bytes. Bytes that are no UTF-8 are an object with one
member, {"hex": "00ff"} or {"base64": "AP8="}; both are understood wherever a
string is. So any bytes survive a round trip, whatever the encoding asked for.
A line without a key makes its bucket, and sets its sequence when it has one.

What it is not: a copy of a file. Page numbers, free pages, page size and
transaction ids are not content. `Tx.write_to` copies a file.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

from shearbolt.errors import BoltError, OptionError
from shearbolt.options import check_size
from shearbolt.pages.format import BucketValue
from shearbolt.pages.pagemap import PageMap
from shearbolt.tree.bucket import DEFAULT_FILL_PERCENT
from shearbolt.tree.whole import leaves, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shearbolt.database.opening import DB
    from shearbolt.database.tx import Tx
    from shearbolt.tree.bucket import Bucket

__all__ = [
    "ENCODINGS",
    "BucketRecord",
    "ExportFormatError",
    "Loader",
    "PairRecord",
    "Record",
    "from_lines",
    "json_bytes",
    "load",
    "records",
    "to_lines",
]

ENCODINGS: Final = ("auto", "hex", "base64")
"""How bytes are written: "auto" is text where the bytes are UTF-8, else hex."""

_FORMAT: Final = "shearbolt"
_VERSION: Final = 2
_KNOWN: Final = (1, 2)
_MAX_SEQUENCE: Final = (1 << 64) - 1
_MEMBERS: Final = frozenset({"bucket", "key", "value", "sequence"})


class ExportFormatError(BoltError, ValueError):
    """A line is no record, or there are not all of them.

    Attributes:
        line: Its number, from 1.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """A bucket, before anything that is in it.

    Attributes:
        path: The names that lead to it, its own last.
        sequence: Its counter; None in an import that does not say.
    """

    path: tuple[bytes, ...]
    sequence: int | None = None

    @property
    def place(self) -> tuple[bytes, ...]:
        """Where it stands in the order of all records."""
        return self.path


@dataclass(frozen=True, slots=True)
class PairRecord:
    """A key with its value.

    Attributes:
        path: The names that lead to its bucket; () for the root bucket.
        key: The key.
        value: The value.
    """

    path: tuple[bytes, ...]
    key: bytes
    value: bytes

    @property
    def place(self) -> tuple[bytes, ...]:
        """Where it stands in the order of all records."""
        return (*self.path, self.key)


Record = BucketRecord | PairRecord


def records(tx: Tx) -> Iterator[Record]:
    """Everything the transaction sees, in order of `place`, lazily.

    A transaction that is not changed meanwhile: what a write transaction's are is not
    said.

    Raises:
        TxClosedError: The transaction has ended.
        CorruptPageError: Damage was met, or a page that is in two places: a
            walk through such a file need not end.
    """
    # A stack, not recursion: buckets may be nested deeper than Python recurses.
    # It holds no paths: those of a chain of 8,000 buckets took 250 MB.
    claimed = PageMap()
    bucket = tx.root_bucket
    pairs = _pairs(bucket, claimed)
    path: tuple[bytes, ...] = ()
    stack: list[tuple[Bucket, Iterator[tuple[bytes, bytes]]]] = []
    while True:
        for key, value in pairs:
            if value.__class__ is BucketValue:
                break
            yield PairRecord(path, key, value)
        else:
            if not stack:
                return
            (bucket, pairs), path = stack.pop(), path[:-1]
            continue
        stack.append((bucket, pairs))
        bucket, path = bucket.bucket(key), (*path, key)
        yield BucketRecord(path, bucket.sequence)
        pairs = _pairs(bucket, claimed)


def _pairs(bucket: Bucket, claimed: PageMap) -> Iterator[tuple[bytes, bytes]]:
    """All pairs of a bucket, names of buckets among them."""
    return chain.from_iterable(
        zip(leaf.keys, values_of(leaf), strict=True) for leaf in leaves(bucket, claimed)
    )


# -- writing a stream into a database ----------------------------------------------


class Loader:
    """Writes records into a database, in transactions of bounded size.

    A context manager: at the end of the block the last transaction is committed,
    on an exception it is rolled back. What was committed before stays.

    Attributes:
        buckets: Bucket records taken so far.
        pairs: Pair records taken so far.

    Args:
        db: Where to write.
        tx_max_size: Commit before keys and values of one transaction exceed this
            many bytes; 0: one transaction for everything, all or nothing.
        fill_percent: How full pages are made. 1.0 suits records in order.
        new_buckets: Every bucket record must make a new bucket.

    Raises:
        OptionError: `tx_max_size` is no number of bytes.
    """

    __slots__ = (
        "_db",
        "_fill_percent",
        "_limit",
        "_new_buckets",
        "_open",
        "_path",
        "_size",
        "_tx",
        "buckets",
        "pairs",
    )

    def __init__(
        self,
        db: DB,
        *,
        tx_max_size: int = 0,
        fill_percent: float = DEFAULT_FILL_PERCENT,
        new_buckets: bool = False,
    ) -> None:
        check_size("tx_max_size", tx_max_size)
        self.buckets = 0
        self.pairs = 0
        self._db = db
        self._limit = tx_max_size
        self._fill_percent = fill_percent
        self._new_buckets = new_buckets
        self._size = 0
        self._tx: Tx | None = None
        # The path of the last record's bucket, and the buckets on it, outermost first.
        self._path: tuple[bytes, ...] = ()
        self._open: list[Bucket] = []

    def __enter__(self) -> Self:
        self._tx = self._db.begin(writable=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        tx, self._tx = self._tx, None
        self._open = []
        if tx is None or tx.closed:
            return
        if kind is None:
            tx.commit()
        else:
            tx.rollback()

    def add(self, record: Record) -> None:
        """Write one record.

        Raises:
            BoltError: As `Bucket.create_bucket` and `Bucket.put`; also what a
                commit raises.
        """
        if isinstance(record, BucketRecord):
            self._make_room(len(record.path[-1]))
            self._add_bucket(record)
            self.buckets += 1
        else:
            self._make_room(len(record.key) + len(record.value))
            self._bucket(record.path).put(record.key, record.value)
            self.pairs += 1

    def _make_room(self, size: int) -> None:
        if self._limit and self._size + size > self._limit:
            self._transaction().commit()
            self._open = []
            self._path = ()
            self._size = 0
            self._tx = self._db.begin(writable=True)
        self._size += size

    def _transaction(self) -> Tx:
        assert self._tx is not None, "a Loader is used inside its with block"
        return self._tx

    def _add_bucket(self, record: BucketRecord) -> None:
        if self._new_buckets:
            bucket = self._bucket(record.path[:-1]).create_bucket(record.path[-1])
            bucket.fill_percent = self._fill_percent
            self._open.append(bucket)
            self._path = record.path
        else:
            bucket = self._bucket(record.path)
        if record.sequence is not None:
            bucket.set_sequence(record.sequence)

    def _bucket(self, path: tuple[bytes, ...]) -> Bucket:
        """The bucket at a path, made where it is missing."""
        opened, known = self._open, self._path
        shared = min(len(path), len(known))
        # Name by name for every record, a chain of 10,000 buckets took 14 s.
        if path[:shared] != known[:shared]:
            pairs = zip(path, known, strict=False)
            shared = next(at for at, (one, other) in enumerate(pairs) if one != other)
        # No further until all are open: one may be refused.
        self._path = path[:shared]
        del opened[shared:]
        bucket = opened[-1] if opened else self._transaction().root_bucket
        for name in path[shared:]:
            bucket = bucket.create_bucket_if_not_exists(name)
            bucket.fill_percent = self._fill_percent
            opened.append(bucket)
        self._path = path
        return bucket


def load(
    db: DB,
    source: Iterable[Record],
    *,
    tx_max_size: int = 0,
    fill_percent: float = DEFAULT_FILL_PERCENT,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write records into a database: make the buckets, put the pairs.

    What is there already stays, but for keys that the records name.

    Args:
        db: Where to write.
        source: The records, in any order.
        tx_max_size: Bytes of keys and values a transaction; 0: one transaction.
        fill_percent: How full pages are made.
        progress: Called with the number of records done after each.

    Returns:
        How many records there were.

    Raises:
        BoltError: As `Loader.add`. With a `tx_max_size` of 0 nothing was changed
            then.
    """
    done = 0
    with Loader(db, tx_max_size=tx_max_size, fill_percent=fill_percent) as loader:
        for record in source:
            loader.add(record)
            done += 1
            if progress is not None:
                progress(done)
    return done


# -- JSON Lines --------------------------------------------------------------------


def json_bytes(data: bytes, encoding: str = "auto") -> str | dict[str, str]:
    """Bytes as a JSON value that `from_lines` reads back as the same bytes.

    Args:
        data: Any bytes.
        encoding: One of `ENCODINGS`.
    """
    if encoding == "auto":
        try:
            return data.decode()
        except UnicodeDecodeError:
            return {"hex": data.hex()}
    if encoding == "hex":
        return {"hex": data.hex()}
    return {"base64": base64.b64encode(data).decode("ascii")}


def to_lines(source: Iterable[Record], encoding: str = "auto") -> Iterator[bytes]:
    r"""The lines of an export, each with its b"\n" at the end, lazily.

    Args:
        source: The records.
        encoding: One of `ENCODINGS`.

    Raises:
        OptionError: It is another one.
    """
    if encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise OptionError(f"encoding is one of {known}, not {encoding!r}")
    return _export_lines(source, encoding)


def _export_lines(source: Iterable[Record], encoding: str) -> Iterator[bytes]:
    yield _line({"format": _FORMAT, "version": _VERSION})
    written = 0
    for record in source:
        written += 1
        members: dict[str, Any] = {
            "bucket": [json_bytes(name, encoding) for name in record.path]
        }
        if isinstance(record, BucketRecord):
            if record.sequence is not None:
                members["sequence"] = record.sequence
        else:
            members["key"] = json_bytes(record.key, encoding)
            members["value"] = json_bytes(record.value, encoding)
        yield _line(members)
    yield _line({"end": written})


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode() + b"\n"


def from_lines(lines: Iterable[bytes], *, partial: bool = False) -> Iterator[Record]:
    """The records of an export, lazily. Empty lines are skipped.

    Args:
        lines: As a binary file gives them.
        partial: They are some lines of an export, or written by hand: its first and
            last line may be missing, and nobody can tell whether others are.

    Raises:
        ExportFormatError: A line is no record, or the export is not whole; the
            records before were given.
    """
    frame = _Frame()
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            members = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ExportFormatError(number, f"not JSON: {error}") from None
        if not isinstance(members, dict):
            raise ExportFormatError(number, "not a JSON object")
        if "format" in members:
            frame.begin(number, members)
        elif "end" in members:
            frame.end(number, members, partial=partial)
        else:
            frame.count(number, partial=partial)
            yield _record(number, members)
    if not partial:
        frame.finish(number)


class _Frame:
    """The first and the last line of an export, and what must stand between them."""

    __slots__ = ("_records", "_version", "_whole")

    def __init__(self) -> None:
        # Of the export that is being read; 0: none was begun.
        self._version = 0
        self._records = 0
        # Whether an export may end, or another begin, here.
        self._whole = False

    def begin(self, number: int, members: dict[str, Any]) -> None:
        name, version = members["format"], members.get("version")
        if name != _FORMAT or version not in _KNOWN:
            raise ExportFormatError(
                number,
                f"format {name!r} version {version!r}; this program reads "
                f"{_FORMAT!r} versions {', '.join(map(str, _KNOWN))}",
            )
        if self._version and not self._whole:
            raise ExportFormatError(
                number, "another export begins, but the one before has no end"
            )
        self._version = int(version)
        self._records = 0
        self._whole = self._version == 1

    def count(self, number: int, *, partial: bool) -> None:
        self._records += 1
        if partial or (self._version and (self._version == 1 or not self._whole)):
            return
        raise ExportFormatError(
            number,
            "a record behind the end of the export"
            if self._version
            else "no export begins here, its first line is missing; lines that were "
            "picked out of one, or written by hand, are taken when you say that they "
            "are partial",
        )

    def end(self, number: int, members: dict[str, Any], *, partial: bool) -> None:
        said = members["end"]
        if type(said) is not int or len(members) != 1:
            raise ExportFormatError(number, 'an "end" is the number of records, alone')
        if not partial:
            if self._version != _VERSION or self._whole:
                raise ExportFormatError(number, "an end, but no export has begun")
            if said != self._records:
                raise ExportFormatError(
                    number,
                    f"the export had {said} records, here are {self._records}: lines "
                    "were lost or added",
                )
        self._whole = True

    def finish(self, last: int) -> None:
        """Nothing comes any more, behind this line."""
        if self._whole:
            return
        if not self._version:
            raise ExportFormatError(
                last + 1, "there is no export: the input is empty; did its writer fail?"
            )
        raise ExportFormatError(
            last + 1,
            f"the export is cut off after {self._records} records: its last line "
            "is missing",
        )


def _record(number: int, members: dict[str, Any]) -> Record:
    unknown = members.keys() - _MEMBERS
    if unknown:
        raise ExportFormatError(number, f"unknown member {min(unknown)!r}")
    names = members.get("bucket")
    if not isinstance(names, list):
        raise ExportFormatError(number, '"bucket" is a list of names')
    path = tuple(_bytes(number, "bucket", name) for name in names)
    if "key" in members:
        if "value" not in members or "sequence" in members:
            raise ExportFormatError(number, 'a "key" goes with a "value", nothing else')
        return PairRecord(
            path,
            _bytes(number, "key", members["key"]),
            _bytes(number, "value", members["value"]),
        )
    if "value" in members:
        raise ExportFormatError(number, 'a "value" without a "key"')
    if not path:
        raise ExportFormatError(number, "the root bucket needs not be made")
    sequence = members.get("sequence")
    if sequence is not None and not (
        type(sequence) is int and 0 <= sequence <= _MAX_SEQUENCE
    ):
        raise ExportFormatError(number, '"sequence" is a whole number below 2**64')
    return BucketRecord(path, sequence)


def _bytes(number: int, what: str, value: object) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and len(value) == 1:
            ((kind, text),) = value.items()
            if kind == "hex" and isinstance(text, str):
                return bytes.fromhex(text)
            if kind == "base64" and isinstance(text, str):
                return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ExportFormatError(number, f'"{what}": {error}') from None
    raise ExportFormatError(
        number, f'"{what}" is text, {{"hex": text}} or {{"base64": text}}'
    )
