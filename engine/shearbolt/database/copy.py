"""A file that appears whole and durable, or not at all.

    create  NAME.part-PID-N      nobody's name yet
    write, fsync                 the content is durable
    rename  to NAME              atomic; what stood there is gone now, not before
    fsync of the directory       the name is durable

A symbolic link at NAME is replaced like any other file, as rename(2) does: what it
leads to stays as it is.

A file that must be new (`take_name`) gets its name without a look whether something
has it: what comes between the look and the rename would be gone.

Zeros are not written but left out: what was a hole, of a file that was made sparse, is
one. The source is read whole all the same. A file system may be asked where it has
holes, and some have told of dirty pages that they are (OpenZFS 15526): a copy that
takes their word may lack what was committed.

bbolt's CopyFile truncates the target first and syncs nothing: a crash leaves
neither the old file nor the new one.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from os import fsencode
from os.path import join, split
from typing import TYPE_CHECKING, Final
from zlib import crc32

from shearbolt.errors import OptionError, StorageError
from shearbolt.storage.robust import RobustFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO, BinaryIO

    from shearbolt.storage import File, Storage

__all__ = ["name_beside", "replace_file", "take_name", "write_to"]


_LONGEST_NAME: Final = 255
"""Bytes, on all file systems that are in use but some network shares."""


def name_beside(path: str, ending: str) -> str:
    """A name for a file that is not finished, in the directory of the finished one.

    The path's and an ending; of a name that is nearly as long as a name can be so much
    is left out that the ending has room, and what tells it from others like it.
    """
    folder, name = split(path)
    if len(fsencode(name + ending)) > _LONGEST_NAME:
        ending = f"-{crc32(fsencode(name)):08x}{ending}"
        while len(fsencode(name + ending)) > _LONGEST_NAME and name:
            name = name[:-1]
    return join(folder, name + ending)


def write_to(file: BinaryIO | IO[bytes], chunks: Iterable[bytes]) -> int:
    """Write all of these bytes to somebody's file, however many it takes at once.

    Args:
        file: Where.
        chunks: The bytes, piece by piece.

    Returns:
        How many bytes.

    Raises:
        StorageError: It took none of what was left.
        OSError: What its `write` raised.
    """
    total = 0
    for chunk in chunks:
        rest: bytes | memoryview = chunk
        while rest:
            # A raw file answers None when it would have to wait.
            done = file.write(rest)
            if not done:
                raise _stopped(file, total)
            total += done
            rest = memoryview(rest)[done:]
    return total


def _stopped(file: BinaryIO | IO[bytes], total: int) -> StorageError:
    name = getattr(file, "name", None)
    reason = (
        f"the target took {total} bytes and no more, the copy is not whole; its "
        "write() must say how many bytes it took, and must not be non-blocking"
    )
    target = name if isinstance(name, str) else repr(file)
    return StorageError.made(errno.EIO, reason, "write", target, total)


def replace_file(
    storage: Storage,
    path: str,
    chunks: Iterable[bytes],
    perm: int,
    unless: tuple[int, int],
) -> int:
    """Make these bytes the content of the file at `path`.

    Args:
        storage: The machine.
        path: Where.
        chunks: The content, piece by piece.
        perm: Permission bits of the new file.
        unless: Identity of a file that must not be replaced.

    Returns:
        How many bytes.

    Raises:
        OptionError: `path` is the file that must not be replaced.
        StorageError: The system refused; the old file is still there, but for a
            failed sync of the directory.
    """
    _refuse(storage, path, unless)
    number = 0
    while True:
        part = name_beside(path, f".part-{storage.pid()}-{number}")
        try:
            total = _put(storage, part, path, chunks, perm)
            break
        except FileExistsError:
            number += 1
    try:
        storage.fsync_dir(path)
    except OSError as error:
        raise StorageError.of(error, "fsync of the directory", path) from error
    return total


def take_name(storage: Storage, part: str, path: str, *, sync: bool = True) -> None:
    """Give a whole, durable file the name it is made for, which nothing may have.

    Args:
        storage: The machine.
        part: Its name so far.
        path: The name.
        sync: Make the name durable.

    Raises:
        FileExistsError: Something has the name.
        StorageError: The system refused.
    """
    rename = getattr(storage, "rename_new", None)
    try:
        if rename is not None:
            rename(part, path)
        elif storage.exists(path):
            # A storage that this process has for itself: nobody comes between.
            raise FileExistsError(errno.EEXIST, "File exists", path)
        else:
            storage.rename(part, path)
        if sync:
            storage.fsync_dir(path)
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError.of(error, "rename", path) from error


def _refuse(storage: Storage, path: str, unless: tuple[int, int]) -> None:
    try:
        file = storage.open(path, read_only=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError.of(error, "open", path) from error
    try:
        same = file.identity() == unless
    except OSError as error:
        raise StorageError.of(error, "fstat", path) from error
    finally:
        # Nothing was written through it, so nothing can be lost.
        with suppress(OSError):
            file.close()
    if same:
        raise OptionError(f"{path} is the database itself: copy it to another name")


def _put(
    storage: Storage, part: str, path: str, chunks: Iterable[bytes], perm: int
) -> int:
    """Make the file under one name and give it the other; errors as `replace_file`.

    Raises:
        FileExistsError: Something has the first name.
    """
    ours = True
    try:
        try:
            file = storage.open(part, create=True, exclusive=True, perm=perm)
        except OSError as error:
            # An interrupt, whatever it is, may have come when the file was made.
            ours = error.errno is None
            raise
        try:
            total = _fill(file, part, chunks)
        finally:
            file.close()
        storage.rename(part, path)
    except BaseException as error:
        # The error is what matters, not that its remains could not be removed.
        if ours:
            with suppress(OSError):
                storage.unlink(part)
        elif isinstance(error, FileExistsError):
            raise
        elif isinstance(error, FileNotFoundError):
            # No database is missing here, but the place for its copy.
            reason = "the directory it should be made in does not exist"
            raise StorageError.made(error.errno, reason, "copy", path) from error
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            operation, name = ("copy", path) if ours else ("open", part)
            raise StorageError.of(error, operation, name) from error
        raise
    return total


def _fill(raw: File, path: str, chunks: Iterable[bytes]) -> int:
    file = RobustFile(raw, path)
    total = written = 0
    for chunk in chunks:
        if chunk[0] or chunk != bytes(len(chunk)):
            file.write(total, [chunk])
            written = total + len(chunk)
        total += len(chunk)
    if written != total:
        file.grow(total)
    file.fsync()
    return total
