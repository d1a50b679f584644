"""The file systems to try: how each is made, mounted and looked at.

One base image a file system. It has been mounted before, and some of its free
blocks hold old bytes, so that a file system that shows what a block held before its
data came is caught at it.

Everything is mounted below one temporary directory, and unmounted however a run
ends: first properly, then, as the last resort, lazily.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "FILE_SYSTEMS",
    "FileSystem",
    "copied",
    "formatted",
    "missing_for",
    "mounted",
    "repair",
    "workplace",
]

_MIB = 1 << 20
_STALE = b"\xee"
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One file system to try.

    Attributes:
        make: The command that formats an image.
        size: Of the image, in MiB.
        options: Mount options.
        superblocks: Where its superblocks are, in bytes. A write of one is taken to
            be atomic: torn at 512 bytes it fits no checksum any more, and the file
            system cannot be mounted at all.
        repair: The command that repairs an image that cannot be mounted.
    """

    make: tuple[str, ...]
    size: int
    options: str
    superblocks: tuple[int, ...] = ()
    repair: tuple[str, ...] = ()


_EXT4 = ("mkfs.ext4", "-qF", "-b", "4096")
_EXT3 = ("mkfs.ext3", "-qF", "-b", "4096")
_E2FSCK = ("e2fsck", "-fy")

FILE_SYSTEMS = {
    "ext3-w": FileSystem(_EXT3, 16, "data=writeback", (1024,), _E2FSCK),
    "ext3-o": FileSystem(_EXT3, 16, "data=ordered", (1024,), _E2FSCK),
    "ext3-j": FileSystem(_EXT3, 16, "data=journal", (1024,), _E2FSCK),
    "ext4-o": FileSystem(_EXT4, 16, "data=ordered", (1024,), _E2FSCK),
    "ext4-fast-commit": FileSystem(
        (*_EXT4, "-O", "fast_commit"), 32, "data=ordered", (1024,), _E2FSCK
    ),
    "xfs": FileSystem(("mkfs.xfs", "-qf"), 300, "nouuid", (0,)),
    "btrfs": FileSystem(("mkfs.btrfs", "-qf"), 128, "noatime", (1 << 16, 1 << 26)),
}
"""By the name of the preset that each is to keep to."""


def _run(*command: str, fine: tuple[int, ...] = (0,)) -> str:
    """Run a command; what it prints.

    Raises:
        OSError: It failed; with what it said.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode not in fine:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


@contextlib.contextmanager
def workplace() -> Iterator[str]:
    """A directory in memory, if there is one; nothing in it stays mounted."""
    memory = "/dev/shm"  # noqa: S108 - a place in memory, if it is there.
    with tempfile.TemporaryDirectory(
        dir=memory if os.path.isdir(memory) else None, ignore_cleanup_errors=True
    ) as place:
        try:
            yield place
        finally:
            with open("/proc/mounts", encoding="utf-8") as file:
                left = [line.split()[1] for line in file]
            for one in reversed(left):
                if one.startswith(place + "/"):
                    subprocess.run(["umount", "-l", one], check=False, timeout=_SECONDS)


@contextlib.contextmanager
def mounted(
    image: str,
    root: str,
    options: str,
    *,
    attaching: AbstractContextManager[None] | None = None,
) -> Iterator[None]:
    """Mount an image by a loop device.

    Args:
        image: The file.
        root: An empty directory.
        options: Mount options.
        attaching: Entered while the loop device is attached.

    Raises:
        OSError: It cannot be mounted.
    """
    with attaching or contextlib.nullcontext():
        loop = _run("losetup", "--find", "--show", image)
    try:
        _run("mount", "-o", options, loop, root)
    finally:
        # It goes as soon as nothing is mounted from it.
        _run("losetup", "--detach", loop)
    try:
        yield
    finally:
        try:
            _run("umount", root)
        except (OSError, subprocess.TimeoutExpired):
            subprocess.run(["umount", "-l", root], check=False, timeout=_SECONDS)
            raise


def formatted(system: FileSystem, base: str, root: str) -> None:
    """Make the image that all programs start from.

    Raises:
        OSError: It cannot be made or mounted.
    """
    with open(base, "wb") as file:
        file.truncate(system.size * _MIB)
    _run(*system.make, base)
    with mounted(base, root, system.options):
        stale = os.path.join(root, "stale")
        with open(stale, "wb") as file:
            file.write(_STALE * (2 * _MIB))
            os.fsync(file.fileno())
        os.unlink(stale)
    # A log of zeros need not be copied for every image.
    _run("fallocate", "--dig-holes", base)


def repair(system: FileSystem, image: str) -> None:
    """Repair an image, as far as the file system's tool can.

    Raises:
        OSError: It could not.
    """
    # e2fsck says 1 for "errors corrected".
    _run(*system.repair, image, fine=(0, 1))


def copied(image: str, target: str) -> None:
    """Copy the parts of an image that hold data."""
    with open(image, "rb") as source, open(target, "wb") as sink:
        size = os.fstat(source.fileno()).st_size
        sink.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            os.pwrite(sink.fileno(), os.pread(source.fileno(), end - at, at), at)
            at = end


def missing_for(system: FileSystem) -> Sequence[str]:
    """The commands that a file system needs and that are not here."""
    needed = (system.make[0], "losetup", "mount", "umount", "fallocate")
    return [one for one in needed if shutil.which(one) is None]
