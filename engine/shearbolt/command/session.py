"""What a subcommand gets to work with, and how it is described.

    Command --arguments--> argparse parser --> Namespace
            --run(session, options)--> exit status

A `Session` is the outside world of one run: the storage the databases are on, the
streams, the progress line. Subcommands print through it and open databases through
it, so that a test can run them on a simulated disk.

Bytes are printed as bytes. Bucket names and values need not be text in any encoding,
and a locale must not decide whether `get` works.

A process may be started without standard streams (`2>&-`, a daemon): Python has None in
their place. Nothing is lost without standard error but messages. Without standard
input or output a subcommand that needs it fails, with one line; the others work.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO, cast

from shearbolt.database import unsynced
from shearbolt.database.copy import name_beside, take_name, write_to
from shearbolt.database.opening import open_database
from shearbolt.errors import BoltError, StorageError
from shearbolt.storage import OSStorage
from shearbolt.storage._common import above_standard

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from shearbolt.database.opening import DB
    from shearbolt.storage import Storage

__all__ = [
    "Command",
    "CommandError",
    "Progress",
    "Session",
    "UsageError",
    "give_up",
    "named_output",
    "opener",
]

# A look at the clock costs 50 ns and a redraw 20 us; ten a second look smooth.
_REDRAW: Final = 0.1
DEFAULT_TIMEOUT: Final = 5.0

CACHE_SIZE: Final = 16 * 1024 * 1024
"""Bytes of decoded pages kept. A subcommand goes through a file once, and what it has
passed is of no use to it: with the default of 256 MiB an export of 80 MB took 129 MB
and as long."""


class CommandError(BoltError):
    """The command cannot do what was asked; the message is for a human."""


class UsageError(Exception):
    """The arguments contradict each other; found after argparse was content."""


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand.

    Attributes:
        name: Its words, "surgery freelist abandon".
        summary: One line for the list of commands.
        arguments: Adds its arguments to its parser.
        run: Does it; gives the exit status.
        example: Shell lines that show it, with what they do.
        details: More than the summary, for its own help.
    """

    name: str
    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Session, Namespace], int]
    example: str
    details: str = ""


class Progress:
    """One line on standard error, on a terminal only, gone at the end.

    Args:
        stream: Where it is drawn.
        label: What is being done.
        unit: What is counted.
    """

    __slots__ = ("_drawn", "_label", "_shown", "_stream", "_unit")

    def __init__(self, stream: TextIO, label: str, unit: str) -> None:
        self._stream = stream
        self._label = label
        self._unit = unit
        # Nothing is drawn before one interval is over: short work needs none.
        self._drawn = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int | None = None) -> None:
        """So much is done, of so much if that is known."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW:
            return
        self._drawn = now
        self._shown = True
        share = f"  {100 * done // total}%" if total else ""
        self._draw(f"\r{self._label}  {done:,} {self._unit}{share}\x1b[K")

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self._draw("\r\x1b[K")

    def _draw(self, text: str) -> None:
        # A terminal that was closed meanwhile is no reason to stop the work.
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            give_up(self._stream)


# -- standard streams, as the process has them -------------------------------------


class _Closed:
    """Stands in for standard input or output where there is none."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def _refuse(self, *_: object) -> Any:
        raise CommandError(self._reason)

    read = readline = write = _refuse

    def flush(self) -> None:
        """Nothing was written."""


def named_output(error: OSError) -> OSError:
    """An error of standard output that says so: it could be of any file's disk."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, "standard output")


class _Output:
    """Standard output, whose errors name it.

    With PYTHONUNBUFFERED it may take a part of what it is given. No buffer is put
    before it then: one that can't be written when it is thrown away makes Python say
    so, behind our own message.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        raw = isinstance(stream, io.RawIOBase)
        self._write = self._all_of_it if raw else stream.write

    def _all_of_it(self, data: bytes) -> int:
        return write_to(self._stream, [data])

    def write(self, data: bytes) -> int:
        """Write it."""
        try:
            return self._write(data)
        except OSError as error:
            raise named_output(error) from error

    def flush(self) -> None:
        """Write what waits."""
        try:
            self._stream.flush()
        except OSError as error:
            raise named_output(error) from error


class _Nobody(io.TextIOBase):
    """Stands in for standard error where there is none: nobody reads it."""

    def write(self, text: str, /) -> int:
        return len(text)


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        reason = "standard input is closed: name a file, or redirect it from one"
        return cast("BinaryIO", _Closed(reason))
    return sys.stdin.buffer


def _stdout() -> BinaryIO:
    if sys.stdout is None:
        reason = "standard output is closed, and the result goes there: redirect it"
        return cast("BinaryIO", _Closed(reason))
    return cast("BinaryIO", _Output(sys.stdout.buffer))


def _stderr() -> TextIO:
    return cast("TextIO", _Nobody()) if sys.stderr is None else sys.stderr


def give_up(stream: TextIO) -> None:
    """Let what waits in a stream of the process go nowhere: it can't be written.

    Python would try once more at its end, say that it can't, and end with 120.
    """
    # One that has no descriptor is not the process's.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _taken(output: str) -> CommandError:
    return CommandError(f'output file "{output}" already exists')


def opener(path: str, flags: int) -> int:
    """For `open`: a descriptor that is no standard stream's, see `above_standard`."""
    return above_standard(os.open(path, flags, 0o666))


@dataclass(slots=True)
class Session:
    """The outside world of one run of the command.

    Attributes:
        storage: Where the databases are.
        stdin: Standard input.
        stdout: Standard output.
        stderr: For messages and progress.
    """

    storage: Storage = field(default_factory=OSStorage)
    stdin: BinaryIO = field(default_factory=_stdin)
    stdout: BinaryIO = field(default_factory=_stdout)
    stderr: TextIO = field(default_factory=_stderr)

    # -- output --

    def line(self, text: str | bytes = "") -> None:
        """Print a line."""
        if isinstance(text, str):
            # Names of files may hold bytes that are no text.
            text = text.encode("utf-8", "surrogateescape")
        self.stdout.write(text + b"\n")

    def json(self, members: dict[str, Any]) -> None:
        """Print a JSON object on a line of its own."""
        text = json.dumps(members, ensure_ascii=False)
        # JSON is UTF-8: a byte of a file's name that is no text is "\\udc.." in it.
        self.line(text.encode("utf-8", "backslashreplace"))

    def note(self, text: str) -> None:
        """Print a line on standard error, if it can be written."""
        # The exit status tells, too; there is nobody else to tell that this failed.
        try:
            self.stderr.write(text + "\n")
            self.stderr.flush()
        except OSError:
            give_up(self.stderr)

    def watched(self) -> bool:
        """Whether somebody looks at standard error as it is written."""
        return (
            self.stderr.isatty()
            and "CI" not in os.environ
            and os.environ.get("TERM") != "dumb"
        )

    @contextmanager
    def progress(self, label: str, unit: str) -> Iterator[Callable[..., None] | None]:
        """A progress line for the block; None where nobody would see it."""
        if not self.watched():
            yield None
            return
        line = Progress(self.stderr, label, unit)
        try:
            yield line
        finally:
            line.clear()

    # -- databases --

    def require_source(self, path: str) -> None:
        """Raise when there is no such file.

        Raises:
            CommandError: There is none.
            StorageError: Nobody can tell: a directory may not be searched, say.
        """
        if self.storage.exists(path):
            return
        # `exists` says no whatever the reason.
        try:
            self.storage.open(path, read_only=True).close()
        except FileNotFoundError:
            missing = f'source database file "{path}" doesn\'t exist'
            raise CommandError(missing) from None
        except OSError as error:
            raise StorageError.of(error, "open", path) from error

    @contextmanager
    def reading(self, path: str, timeout: float = DEFAULT_TIMEOUT) -> Iterator[DB]:
        """An existing database, opened read-only.

        Raises:
            CommandError: There is no such file.
            BoltError: As `shearbolt.open`.
        """
        self.require_source(path)
        with open_database(
            path,
            read_only=True,
            timeout=timeout,
            storage=self.storage,
            cache_size=CACHE_SIZE,
        ) as db:
            yield db

    @contextmanager
    def writing(
        self, path: str, timeout: float = DEFAULT_TIMEOUT, *, create: bool = False
    ) -> Iterator[DB]:
        """A database to change, in place.

        Raises:
            CommandError: There is no such file, and `create` is not set.
            BoltError: As `shearbolt.open`.
        """
        if not create:
            self.require_source(path)
        # The name may be a link to nothing, or be gone while the lock is waited for.
        with open_database(
            path,
            create=create,
            timeout=timeout,
            storage=self.storage,
            cache_size=CACHE_SIZE,
        ) as db:
            yield db

    @contextmanager
    def new_database(
        self,
        output: str,
        *,
        page_size: int | None = None,
        perm: int = 0o600,
        no_sync: bool = False,
    ) -> Iterator[DB]:
        """A new database that appears under its name only when it is whole.

            output.PID.partial --commits, unsynced--> fdatasync --> rename --> fsync

        What got the name meanwhile keeps it. Nobody can open ours before the end, so
        one sync at the end promises as
        much as one at each commit, and costs less.

        Args:
            output: Its name. What stands there may only be an empty file.
            page_size: Bytes a page; None: 4,096.
            perm: Permission bits.
            no_sync: Do not wait for the disk at all.

        Raises:
            CommandError: There is such a file.
            BoltError: As `shearbolt.open`.
        """
        storage = self.storage
        self._require_free(output)
        partial = name_beside(output, f".{storage.pid()}.partial")
        identity = None
        if storage.exists(partial):
            # Of a process that was killed, and had the number that is ours now.
            storage.unlink(partial)
        try:
            with open_database(
                partial,
                page_size=page_size,
                perm=perm,
                no_sync=True,
                timeout=0,
                storage=storage,
                cache_size=CACHE_SIZE,
            ) as db:
                identity = db.identity
                yield db
                if not no_sync:
                    db.sync()
            self._take_name(partial, output, no_sync=no_sync)
        except BaseException:
            if storage.exists(partial):
                storage.unlink(partial)
            if identity is not None:
                # After a failed sync it is kept open, and would fill the disk unseen.
                kept = unsynced.known(storage).forget(identity)
                if kept is not None:
                    kept.close()
            raise

    def _require_free(self, output: str) -> None:
        if not self.storage.exists(output):
            return
        if self.size(output):
            raise _taken(output)

    def _take_name(self, partial: str, output: str, *, no_sync: bool) -> None:
        try:
            take_name(self.storage, partial, output, sync=not no_sync)
        except FileExistsError:
            self._replace_empty(partial, output, no_sync=no_sync)

    def _replace_empty(self, partial: str, output: str, *, no_sync: bool) -> None:
        """As `_take_name`, where an empty file has it.

        Raises:
            CommandError: It is not empty, or somebody has it open as a database.
        """
        try:
            file = self.storage.open(output)
            try:
                # With its lock: nobody makes a database of it meanwhile.
                if not file.lock(True) or file.size():
                    raise _taken(output)
                self.storage.rename(partial, output)
            finally:
                file.close()
            if not no_sync:
                self.storage.fsync_dir(output)
        except OSError as error:
            raise StorageError.of(error, "rename", output) from error

    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
            StorageError: It cannot be opened.
        """
        try:
            file = self.storage.open(path, read_only=True)
            try:
                return file.size()
            finally:
                file.close()
        except OSError as error:
            raise StorageError.of(error, "open", path) from error

    def permissions(self, path: str) -> int:
        """Permission bits of a file, for a copy of it."""
        try:
            return stat.S_IMODE(os.stat(path).st_mode)
        except OSError:
            # On another storage than this machine's there are none.
            return 0o600
