"""Subcommands that move whole databases: compact, export, import.

None of them changes a database in place, but for `import --into`. A new database
appears under its name only when it is whole.

Source: bbolt cmd/bbolt/command/command_compact.go for compact.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from shearbolt.command.arguments import add_json, add_path, add_timeout, size
from shearbolt.command.session import Command, CommandError, UsageError, opener
from shearbolt.compact import DEFAULT_TX_MAX_SIZE, compact
from shearbolt.errors import (
    BucketNameRequiredError,
    IncompatibleValueError,
    KeyRequiredError,
    KeyTooLargeError,
    StorageError,
    ValueTooLargeError,
)
from shearbolt.export import (
    ENCODINGS,
    ExportFormatError,
    from_lines,
    load,
    records,
    to_lines,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import BinaryIO

    from shearbolt.command.session import Session

__all__ = ["COMMANDS"]

_REFUSED: Final = (
    BucketNameRequiredError,
    IncompatibleValueError,
    KeyRequiredError,
    KeyTooLargeError,
    ValueTooLargeError,
)
"""What a good record can be refused for; it is the line's fault, not the database's."""

_LOOK: Final = 1 << 16
"""Bytes of a line that are read before it is clear that it may be a record."""

_MAX_LINE: Final = 256 << 20
"""Bytes of a line, if nothing is said: a line is in memory whole, and four times over
while its value is written. What begins as a record need not have an end."""


def _add_tx_max_size(parser: ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--tx-max-size",
        metavar="BYTES",
        type=size,
        default=default,
        help=f"commit after so many bytes, 0: only at the end (default: {default})",
    )


def _add_no_sync(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait until the new file is on disk",
    )


# -- compact -----------------------------------------------------------------------


def _arguments_compact(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the file to make"
    )
    _add_tx_max_size(parser, DEFAULT_TX_MAX_SIZE)
    _add_no_sync(parser)
    add_json(parser)
    add_timeout(parser)


def _compact(session: Session, options: Namespace) -> int:
    with (
        session.reading(options.path, options.timeout) as source,
        session.progress("compact", "records") as progress,
    ):
        before = source.pager.file.size()
        with session.new_database(
            options.output,
            page_size=None,
            perm=session.permissions(options.path),
            no_sync=options.no_sync,
        ) as target:
            count = compact(source, target, options.tx_max_size, progress=progress)
    after = session.size(options.output)
    gain = before / after
    if options.json:
        session.json({"before": before, "after": after, "gain": gain, "records": count})
    else:
        session.line(f"{before} -> {after} bytes (gain={gain:.2f}x)")
    return 0


# -- export ------------------------------------------------------------------------


def _arguments_export(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to (default, or -: standard output)",
    )
    parser.add_argument(
        "--encoding",
        choices=ENCODINGS,
        default="auto",
        help="how bytes are written; auto: as text where they are UTF-8, else as hex",
    )
    add_timeout(parser)


def _export(session: Session, options: Namespace) -> int:
    with (
        session.reading(options.path, options.timeout) as db,
        db.view() as tx,
        _output(session, options.output) as file,
        session.progress("export", "records") as progress,
    ):
        lines = to_lines(records(tx), options.encoding)
        for done, line in enumerate(lines):
            file.write(line)
            if progress is not None:
                progress(done)
    return 0


@contextmanager
def _output(session: Session, path: str | None) -> Iterator[BinaryIO]:
    if path is None or path == "-":
        yield session.stdout
        return
    if os.path.lexists(path):
        raise CommandError(f'output file "{path}" already exists')
    file: BinaryIO | None = None
    try:
        file = open(path, "xb", opener=opener)  # noqa: SIM115 - closed below.
        with file:
            yield file
    except BaseException as error:
        if file is None and isinstance(error, OSError):
            raise
        # Nobody could use a part of it, and the next export would find it there. What
        # an interrupt came in the making of is empty, or somebody else's.
        with suppress(OSError):
            if file is not None or not os.path.getsize(path):
                os.unlink(path)
        if isinstance(error, OSError) and error.filename is None:
            raise StorageError.of(error, "write", path) from error
        raise


# -- import ------------------------------------------------------------------------


def _arguments_import(parser: ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="FILE",
        nargs="?",
        help="what to read (default, or -: standard input)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="make this database")
    parser.add_argument(
        "--into",
        metavar="FILE",
        help="change this database instead, in one transaction; buckets and keys "
        "that the input does not name stay",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="the input is some lines of an export, or written by hand: its first and "
        "last line may be missing",
    )
    parser.add_argument(
        "--page-size", metavar="BYTES", type=size, help="of a new database (4096)"
    )
    parser.add_argument(
        "--max-line",
        metavar="BYTES",
        type=size,
        default=_MAX_LINE,
        help="refuse a longer line; it is in memory whole (default: 256 MiB)",
    )
    _add_tx_max_size(parser, 0)
    _add_no_sync(parser)
    add_json(parser)
    add_timeout(parser)


def _import(session: Session, options: Namespace) -> int:
    if (options.output is None) == (options.into is None):
        raise UsageError("either --output or --into is needed")
    if options.into is not None and (options.page_size or options.no_sync):
        raise UsageError("--page-size and --no-sync go with --output")
    with (
        _input(session, options.input) as file,
        session.progress("import", "records") as progress,
    ):
        if options.into is not None:
            opened = session.writing(options.into, options.timeout)
        else:
            opened = session.new_database(
                options.output, page_size=options.page_size, no_sync=options.no_sync
            )
        with opened as db:
            lines = _Lines(file, options.max_line)
            try:
                count = load(
                    db,
                    from_lines(lines, partial=options.partial),
                    tx_max_size=options.tx_max_size,
                    # A new database is written in key order, as a rule.
                    fill_percent=0.5 if options.output is None else 1.0,
                    progress=progress,
                )
            except _REFUSED as error:
                raise CommandError(f"line {lines.number}: {error}") from None
    if options.json:
        session.json({"records": count})
    else:
        session.line(f"{count} records imported")
    return 0


class _Lines:
    """The lines of a file; a record is written before the next line is read.

    Iterating raises ExportFormatError where one is too long.

    Attributes:
        number: Of the last line that was read, from 1.
    """

    __slots__ = ("_file", "_most", "number")

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._most = most
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline(_LOOK):
            self.number += 1
            # What is no export may be without any newline, and without an end.
            if not line.endswith(b"\n") and line.lstrip().startswith(b"{"):
                line += self._file.readline(max(self._most - len(line) + 1, 0))
            if len(line) > self._most:
                raise ExportFormatError(
                    self.number,
                    f"longer than {self._most} bytes: no export, or --max-line is to "
                    "be larger",
                )
            yield line


@contextmanager
def _input(session: Session, path: str | None) -> Iterator[BinaryIO]:
    if path is None or path == "-":
        yield session.stdin
        return
    with open(path, "rb", opener=opener) as file:
        yield file


COMMANDS: Final = (
    Command(
        "compact",
        "write a compact copy of a database",
        _arguments_compact,
        _compact,
        "shearbolt compact -o small.db app.db",
        "Copies key by key into a new file, densely; the source is left as it is. "
        "Prints both sizes.",
    ),
    Command(
        "export",
        "write everything in a database as JSON Lines",
        _arguments_export,
        _export,
        "shearbolt export app.db > app.jsonl\n"
        "shearbolt export app.db | jq -c 'select(.bucket[0] == \"users\")'",
        "One object a line: a bucket with its sequence, or a key with its value and "
        "its bucket; the last line says how many there are. Read back by import, "
        "exactly, whatever the bytes.",
    ),
    Command(
        "import",
        "make a database of an export, or add one to a database",
        _arguments_import,
        _import,
        "shearbolt import app.jsonl -o app.db\n"
        "shearbolt export a.db | shearbolt import --into b.db",
        "The input must be whole: an export says at its end how many records it has. "
        "What is picked out of one is read with --partial.",
    ),
)
