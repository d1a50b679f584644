"""Programs: what an application does to a database, as data.

Theory
======
A program is a tuple of frozen operations and the options the database is
opened with. It can be stored, sent, compared, shrunk and replayed.

Rules that keep programs shrinkable:

* Any tuple of operations is a legal program. An operation that cannot succeed
  (a bucket that is not there) is refused by model and engine alike, and that
  they agree is part of the test. So any operation can be left out.
* There is no "begin": the first operation that writes opens the write
  transaction, `Commit` and `Rollback` end it. A bug that needs two commits is
  told in four lines: put, commit, put, commit.
* `Put` and `Fill` make the buckets of their path. `Delete`, `Sequence`,
  `DeleteBucket` and the rest do not.
* `NoSync` holds from the next write transaction on, over closing and opening. So it
  may stand anywhere, and never changes what is being written.
* A value is a seed and a length, its bytes are computed: `Value(7, 5000)`.

In JSON an operation is a list, its name first:

    ["put", ["a", "b"], "key", [7, 5000]]      bytes as latin-1 text
    ["put", ["a"], ["k", 991], [7, 1]]         a key padded with dots to 991
    ["commit"]

A program may also say which calls to the system fail while it runs (`faults`, in the
words of `tornpage.faults.script`) and what is done afterwards (`ending`). It is then
run by `under_errors`, which excuses just the errors that were injected.

What it is not: it does not run anything (`interpret`) and draws nothing
(`generate`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from boltmodel.model import Path, path_text
from tornpage.faults import Script

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ENDINGS",
    "FREELIST_TYPES",
    "PAGE_SIZES",
    "Commit",
    "CreateBucket",
    "Delete",
    "DeleteBucket",
    "Fill",
    "Get",
    "MoveBucket",
    "NextSequence",
    "NoSync",
    "Operation",
    "Program",
    "Put",
    "ReaderCheck",
    "ReaderClose",
    "ReaderOpen",
    "Reopen",
    "Rollback",
    "Scan",
    "SetSequence",
    "Sync",
    "Thin",
    "Value",
    "decode",
    "describe",
    "encode",
    "fill_key",
    "value_bytes",
]

# 1 KiB pages hold two or three entries of 300 bytes: deep trees, small files.
PAGE_SIZES: Final = (1024, 2048, 4096, 8192, 16384)
FREELIST_TYPES: Final = ("array", "hashmap")
# After a program with faults: go on with the handle, with a new one, or as a
# process that was killed and its successor.
ENDINGS: Final = ("continue", "reopen", "kill")

# The pad of long keys; runs of it at a key's end are stored as a length.
_PAD: Final = b"."
_PAD_SHORTEST: Final = 16


@dataclass(frozen=True, slots=True)
class Value:
    """The bytes of a value: `length` bytes that `seed` determines."""

    seed: int
    length: int


@dataclass(frozen=True, slots=True)
class Put:
    """Store a value, making the buckets of `path` that are missing."""

    path: Path
    key: bytes
    value: Value


@dataclass(frozen=True, slots=True)
class Fill:
    """Store `count` values under the keys fill_key(first, first+step, ...)."""

    path: Path
    first: int
    count: int
    step: int
    value: Value


@dataclass(frozen=True, slots=True)
class Thin:
    """Walk a bucket with a cursor and delete every `step`-th plain key.

    The walk starts at the first key >= `start` and deletes at most `count`.
    """

    path: Path
    start: bytes
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one key."""

    path: Path
    key: bytes


@dataclass(frozen=True, slots=True)
class CreateBucket:
    """Make one bucket; its parent must be there."""

    path: Path


@dataclass(frozen=True, slots=True)
class DeleteBucket:
    """Remove one bucket with everything in it."""

    path: Path


@dataclass(frozen=True, slots=True)
class MoveBucket:
    """Move the bucket at `path` into the bucket at `target`; () is the root."""

    path: Path
    target: Path


@dataclass(frozen=True, slots=True)
class NextSequence:
    """Advance a bucket's sequence by one."""

    path: Path


@dataclass(frozen=True, slots=True)
class SetSequence:
    """Set a bucket's sequence."""

    path: Path
    number: int


@dataclass(frozen=True, slots=True)
class Get:
    """Read one key, in the write transaction if one is open."""

    path: Path
    key: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """Read all pairs from `start` to before `stop`, forwards or backwards."""

    path: Path
    start: bytes | None
    stop: bytes | None
    reverse: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit the write transaction; opens an empty one when none is open."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """Roll the write transaction back, if one is open."""


@dataclass(frozen=True, slots=True)
class NoSync:
    """Switch `DB.no_sync` for the write transactions to come."""

    on: bool


@dataclass(frozen=True, slots=True)
class Sync:
    """Make all commits durable, with `DB.sync`."""


@dataclass(frozen=True, slots=True)
class ReaderOpen:
    """Open a read transaction that stays open; replaces one of the slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class ReaderCheck:
    """Read everything through the open reader of the slot, if any."""

    slot: int


@dataclass(frozen=True, slots=True)
class ReaderClose:
    """Read everything through the reader of the slot and close it, if any."""

    slot: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """Roll back, close all readers and the database, open it again."""


Operation: TypeAlias = (
    Put
    | Fill
    | Thin
    | Delete
    | CreateBucket
    | DeleteBucket
    | MoveBucket
    | NextSequence
    | SetSequence
    | Get
    | Scan
    | Commit
    | Rollback
    | NoSync
    | Sync
    | ReaderOpen
    | ReaderCheck
    | ReaderClose
    | Reopen
)


@dataclass(frozen=True, slots=True)
class Program:
    """Operations and the options of every opening of the database.

    Attributes:
        operations: What is done, in order.
        page_size: Bytes a page, for a new database.
        freelist_type: "array" or "hashmap".
        no_freelist_sync: Keep the freelist off the disk.
        fill_percent: How full pages are made when they are cut, 10 to 100.
        in_bulk: `Fill` hands all its pairs to one call, and `Thin` its keys, in no
            order; otherwise it is a call for each.
        small_cache: The engine keeps next to no page in memory.
        reads_ahead: The disk has the engine read many pages at once, as a real file
            does; what recovery runs on never does.
        faults: Which calls fail, as `tornpage.faults.script.Script` reads it.
        ending: What is done after a program with faults, one of `ENDINGS`.
    """

    operations: tuple[Operation, ...]
    page_size: int = 4096
    freelist_type: str = "array"
    no_freelist_sync: bool = False
    fill_percent: int = 50
    in_bulk: bool = False
    small_cache: bool = False
    reads_ahead: bool = False
    faults: str = ""
    ending: str = "continue"


@lru_cache(maxsize=4096)
def value_bytes(value: Value) -> bytes:
    """The bytes a `Value` stands for.

    The pattern is nine bytes long, so that no two sectors of a value are equal
    and values of different seeds differ in every sector.
    """
    if not value.length:
        return b""
    pattern = b"%08d." % (value.seed % 100_000_000)
    return (pattern * (value.length // len(pattern) + 1))[: value.length]


def fill_key(number: int) -> bytes:
    """The key that `Fill` uses for a number; ascending with it."""
    return b"%05d" % number


def encode(program: Program) -> dict[str, Any]:
    """The program as JSON values; options that are default are left out."""
    data: dict[str, Any] = {"ops": [_encode_operation(op) for op in program.operations]}
    for name, default in _OPTION_DEFAULTS.items():
        given = getattr(program, name)
        if given != default:
            data[name] = given
    return data


def decode(data: Any) -> Program:
    """The program back from JSON values.

    Raises:
        ValueError: `data` is not a program; the message says which part.
    """
    _require(
        isinstance(data, dict) and isinstance(data.get("ops"), list),
        'a program is an object with a list "ops"',
    )
    for name in sorted(data.keys() - {"ops", *_OPTION_DEFAULTS}):
        raise ValueError(f"unknown program option: {name}")
    operations = []
    for position, item in enumerate(data["ops"]):
        try:
            operations.append(_decode_operation(item))
        except ValueError as error:
            raise ValueError(f"operation {position}: {error}") from None
    options = {**_OPTION_DEFAULTS, **{k: v for k, v in data.items() if k != "ops"}}
    _require(
        options["page_size"] in PAGE_SIZES, f"page_size must be one of {PAGE_SIZES}"
    )
    _require(
        options["freelist_type"] in FREELIST_TYPES,
        f"freelist_type must be one of {FREELIST_TYPES}",
    )
    for name in ("no_freelist_sync", "in_bulk", "small_cache", "reads_ahead"):
        _require(isinstance(options[name], bool), f"{name} must be true or false")
    fill = options["fill_percent"]
    _require(
        isinstance(fill, int) and 10 <= fill <= 100, "fill_percent is from 10 to 100"
    )
    _require(isinstance(options["faults"], str), "faults are text")
    Script.parse(options["faults"])
    _require(options["ending"] in ENDINGS, f"ending must be one of {ENDINGS}")
    return Program(tuple(operations), **options)


def describe(program: Program) -> list[str]:
    """One line an operation, for people; faults are one more."""
    said = {**_LINES, **_BULK_LINES} if program.in_bulk else _LINES
    lines = [said[type(op)](op) for op in program.operations]
    if program.faults:
        lines.append(f"{_ENDING_LINES[program.ending]}, while {program.faults}")
    return lines


_OPTION_DEFAULTS: Final[dict[str, Any]] = {
    "page_size": 4096,
    "freelist_type": "array",
    "no_freelist_sync": False,
    "fill_percent": 50,
    "in_bulk": False,
    "small_cache": False,
    "reads_ahead": False,
    "faults": "",
    "ending": "continue",
}

_ENDING_LINES: Final[dict[str, str]] = {
    "continue": "go on with the same handle",
    "reopen": "close and open again",
    "kill": "the process is killed, another one goes on",
}

_NAMES: Final[dict[type, str]] = {
    Put: "put",
    Fill: "fill",
    Thin: "thin",
    Delete: "delete",
    CreateBucket: "create",
    DeleteBucket: "drop",
    MoveBucket: "move",
    NextSequence: "next-seq",
    SetSequence: "set-seq",
    Get: "get",
    Scan: "scan",
    Commit: "commit",
    Rollback: "rollback",
    NoSync: "no-sync",
    Sync: "sync",
    ReaderOpen: "reader",
    ReaderCheck: "reread",
    ReaderClose: "unreader",
    Reopen: "reopen",
}
assert set(_NAMES) == set(get_args(Operation))

_KINDS: Final[dict[str, type]] = {name: kind for kind, name in _NAMES.items()}


def _require(holds: bool, message: str) -> None:
    """ValueError for whatever is wrong: it is the data's fault, not the call's."""
    if not holds:
        raise ValueError(message)


def _encode_bytes(raw: bytes) -> Any:
    stem = raw.rstrip(_PAD)
    if len(raw) - len(stem) >= _PAD_SHORTEST:
        return [stem.decode("latin-1"), len(raw)]
    return raw.decode("latin-1")


def _decode_bytes(data: Any) -> bytes:
    if isinstance(data, list) and len(data) == 2:
        stem, length = data
        if isinstance(stem, str) and isinstance(length, int):
            return _decode_bytes(stem).ljust(length, _PAD)
    _require(isinstance(data, str), f"bytes are text or [text, length], not {data!r}")
    try:
        return bytes(data, "latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"bytes as text must be latin-1: {data!r}") from None


def _decode_int(data: Any) -> int:
    if not isinstance(data, int) or isinstance(data, bool) or data < 0:
        raise ValueError(f"a number from 0 on is needed, not {data!r}")
    return data


def _decode_path(data: Any) -> Path:
    if not isinstance(data, list) or not data:
        raise ValueError(f"a path is a list of bucket names, not {data!r}")
    return tuple(_decode_bytes(name) for name in data)


def _decode_value(data: Any) -> Value:
    if not isinstance(data, list) or len(data) != 2:
        raise ValueError(f"a value is [seed, length], not {data!r}")
    return Value(_decode_int(data[0]), _decode_int(data[1]))


def _decode_bool(data: Any) -> bool:
    _require(isinstance(data, bool), f"true or false is needed, not {data!r}")
    return bool(data)


def _decode_step(data: Any) -> int:
    step = _decode_int(data)
    if not step:
        raise ValueError("a step is at least 1")
    return step


def _decode_bound(data: Any) -> bytes | None:
    return None if data is None else _decode_bytes(data)


# By field name: the same name means the same thing in every operation.
_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "path": _decode_path,
    "target": lambda data: () if data == [] else _decode_path(data),
    "key": _decode_bytes,
    "value": _decode_value,
    "first": _decode_int,
    "count": _decode_int,
    "step": _decode_step,
    "number": _decode_int,
    "slot": _decode_int,
    "reverse": _decode_bool,
    "on": _decode_bool,
    "start": _decode_bound,
    "stop": _decode_bound,
}


def _encode_field(given: Any) -> Any:
    if isinstance(given, bytes):
        return _encode_bytes(given)
    if isinstance(given, tuple):
        return [_encode_bytes(name) for name in given]
    if isinstance(given, Value):
        return [given.seed, given.length]
    return given


def _encode_operation(op: Operation) -> list[Any]:
    return [_NAMES[type(op)], *(_encode_field(getattr(op, f.name)) for f in fields(op))]


def _decode_operation(data: Any) -> Operation:
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ValueError(f"an operation is a list, its name first, not {data!r}")
    kind = _KINDS.get(data[0])
    if kind is None:
        raise ValueError(f"unknown operation {data[0]!r}")
    wanted = fields(kind)
    if len(data) - 1 != len(wanted):
        raise ValueError(f"{data[0]} takes {len(wanted)} fields")
    made: Operation = kind(
        *(
            _DECODERS[field.name](given)
            for field, given in zip(wanted, data[1:], strict=True)
        )
    )
    if isinstance(made, Thin) and made.start is None:
        raise ValueError("thin starts at a key, which may be empty")
    return made


def _place(path: Path, key: bytes) -> str:
    return path_text((*path, key))


def _bound_text(bound: bytes | None) -> str:
    return "" if bound is None else path_text((bound,))


def _value_text(value: Value) -> str:
    return f"{value.length} bytes of seed {value.seed}"


def _thin_text(op: Thin) -> str:
    return (
        f"{path_text(op.path)}: every {op.step}. key "
        f"from {path_text((op.start,))}, at most {op.count}"
    )


_LINES: Final[dict[type, Callable[[Any], str]]] = {
    Put: lambda op: f"put {_place(op.path, op.key)} = {_value_text(op.value)}",
    Fill: lambda op: (
        f"fill {path_text(op.path)} with {op.count} keys from "
        f"{fill_key(op.first).decode()} step {op.step}, "
        f"each {_value_text(op.value)}"
    ),
    Thin: lambda op: f"delete by cursor in {_thin_text(op)}",
    Delete: lambda op: f"delete {_place(op.path, op.key)}",
    CreateBucket: lambda op: f"create bucket {path_text(op.path)}",
    DeleteBucket: lambda op: f"delete bucket {path_text(op.path)}",
    MoveBucket: lambda op: (
        f"move bucket {path_text(op.path)} into {path_text(op.target)}"
    ),
    NextSequence: lambda op: f"next sequence of {path_text(op.path)}",
    SetSequence: lambda op: f"set sequence of {path_text(op.path)} to {op.number}",
    Get: lambda op: f"get {_place(op.path, op.key)}",
    Scan: lambda op: (
        f"scan {path_text(op.path)} [{_bound_text(op.start)}..{_bound_text(op.stop)})"
        + (" backwards" if op.reverse else "")
    ),
    Commit: lambda _: "commit",
    Rollback: lambda _: "roll back",
    NoSync: lambda op: f"switch no_sync {'on' if op.on else 'off'}",
    Sync: lambda _: "sync all commits",
    ReaderOpen: lambda op: f"open reader {op.slot}",
    ReaderCheck: lambda op: f"read all through reader {op.slot}",
    ReaderClose: lambda op: f"read all through reader {op.slot} and close it",
    Reopen: lambda _: "close and open again",
}

_BULK_LINES: Final[dict[type, Callable[[Any], str]]] = {
    Fill: lambda op: f"{_LINES[Fill](op)}, in one call",
    Thin: lambda op: f"delete in one call in {_thin_text(op)}",
}
