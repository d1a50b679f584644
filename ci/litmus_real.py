"""The litmus lines on real file systems: no outcome outside the model.

    sudo python ci/litmus_real.py                  # what this machine can mount
    sudo python ci/litmus_real.py ext4-o xfs -v
    sudo python ci/litmus_real.py ext4-o --model order=ordered   # must fail

For each line of `tornpage.litmus` and each file system:

    image file --loop--> mount, run the program step by step
        after each step:  copy the image file          = the power goes now
        after the last:   push single ranges out, sync another file, copy again
    each copy --loop--> mount (the file system recovers), look, compare

An outcome is right when the preset of that file system allows it at that step.
The copies show what the file system does, not what a drive does with its cache:
every write that reached the drive is in the copy, in order. A copy counts only
if the loop device wrote nothing while it was made.

The pushes matter. Left alone, a kernel writes nothing for seconds and every
crash shows the old content; `sync_file_range` writes back one range of a file
without its metadata, and the sync of another file commits the journal.

Lines with a failing sync are left out: failing a real sync takes a device that
fails (dm-flakey, dm-error), and what follows is the business of `fail`.

Needs root, loop devices and mkfs of the file system; what is missing is skipped
and said. Exit status: 0 right, 1 an outcome outside the model, 2 nothing ran.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornpage.disk import Disk
from tornpage.explore import CrashPoint, Explorer
from tornpage.litmus import LITMUS, OnDisk, letter, look, perform
from tornpage.model import CrashModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tornpage.litmus import Litmus

_MIB = 1 << 20
_PUSH = 7  # SYNC_FILE_RANGE: wait before, write, wait after.
_LETTERS = "ABCXY"


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One file system to try: how it is made and mounted.

    Attributes:
        make: The command that formats an image.
        size: Of the image, in MiB; the least that its mkfs accepts.
        options: Mount options.
    """

    make: tuple[str, ...]
    size: int
    options: str


FILE_SYSTEMS = {
    "ext3-w": FileSystem(("mkfs.ext3", "-qF"), 16, "data=writeback"),
    "ext3-o": FileSystem(("mkfs.ext3", "-qF"), 16, "data=ordered"),
    "ext3-j": FileSystem(("mkfs.ext3", "-qF"), 16, "data=journal"),
    "ext4-o": FileSystem(("mkfs.ext4", "-qF"), 16, "data=ordered"),
    "ext4-fast-commit": FileSystem(
        ("mkfs.ext4", "-qF", "-O", "fast_commit"), 32, "data=ordered"
    ),
    "xfs": FileSystem(("mkfs.xfs", "-qf"), 300, "nouuid"),
    "btrfs": FileSystem(("mkfs.btrfs", "-qf"), 128, "noatime"),
}


class RealMachine:
    """A litmus program's machine: a directory of a mounted file system."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.ranges: list[tuple[str, int, int]] = []

    @contextlib.contextmanager
    def _opened(self, name: str, flags: int = os.O_RDWR) -> Iterator[int]:
        handle = os.open(os.path.join(self.root, name), flags, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write to a file."""
        with self._opened(name) as handle:
            os.pwrite(handle, data, offset)
        self.ranges.append((name, offset, len(data)))

    def truncate(self, name: str, size: int) -> None:
        """Set a file's size."""
        os.truncate(os.path.join(self.root, name), size)

    def sync(self, kind: str, name: str) -> None:
        """Sync a file or its directory."""
        if kind == "syncdir":
            name = os.path.dirname(name) or "."
        flags = os.O_RDONLY if kind == "syncdir" else os.O_RDWR
        with self._opened(name, flags) as handle:
            (os.fdatasync if kind == "fdatasync" else os.fsync)(handle)

    def change(self, kind: str, names: Sequence[str]) -> None:
        """Do "create", "unlink", "rename", "link", "mkdir" or "rmdir"."""
        paths = [os.path.join(self.root, name) for name in names]
        if kind == "create":
            os.close(os.open(paths[0], os.O_RDWR | os.O_CREAT, 0o600))
        else:
            getattr(os, kind)(*paths)

    def fail(self) -> None:
        """Nothing here can be made to fail.

        Raises:
            NotImplementedError: Always; such lines are left out.
        """
        raise NotImplementedError("a real sync cannot be told to fail")

    def push(self, name: str, offset: int, length: int) -> None:
        """Write back one range of a file, without metadata."""
        libc = ctypes.CDLL(None, use_errno=True)
        where = ctypes.c_int64(offset), ctypes.c_int64(length)
        with contextlib.suppress(FileNotFoundError), self._opened(name) as handle:
            if libc.sync_file_range(handle, *where, _PUSH):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), name)

    def commit(self) -> None:
        """Sync a file that the program has nothing to do with."""
        with self._opened("other", os.O_RDWR | os.O_CREAT) as handle:
            os.pwrite(handle, b"o", 0)
            os.fsync(handle)


def expected(litmus: Litmus, model: CrashModel) -> list[frozenset[str]]:
    """What the model allows after each number of steps of a line."""
    disk = Disk(dict(litmus.files), model)
    steps = perform(litmus.program, OnDisk(disk))
    done = [0, *(len(disk.trace.operations()) for _ in steps)]
    explorer = Explorer(
        dict(litmus.files), disk.trace, lambda one: look(one, litmus.look), model
    )
    closures = [explorer.close(CrashPoint(index)) for index in done]
    assert all(one.closed for one in closures)
    return [frozenset(str(one.outcome) for one in c.outcomes) for c in closures]


def seen(root: str, probes: Sequence[str]) -> str:
    """What is in a directory, in the letters of a look."""
    found = ""
    for probe in probes:
        name, at, offset = probe.partition("@")
        path = os.path.join(root, name.rstrip("?"))
        if not at:
            found += "+" if os.path.exists(path) else "-"
            continue
        content = None
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            content = os.pread(file.fileno(), 1, int(offset))
        found += letter(content, _LETTERS)
    return found


def lay(root: str, files: Iterable[tuple[str, bytes]]) -> None:
    """Write the files that a program starts from."""
    for name, content in files:
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


@contextlib.contextmanager
def mounted(image: str, root: str, options: str) -> Iterator[str]:
    """Mount an image; gives the name of its loop device."""
    subprocess.run(["mount", "-o", f"loop,{options}", image, root], check=True)
    try:
        with open("/proc/mounts", encoding="ascii") as file:
            rows = [line.split() for line in file]
        yield next(row[0] for row in reversed(rows) if row[1] == root)
    finally:
        subprocess.run(["umount", root], check=True)


def copy(image: str, target: str) -> None:
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


def copied(image: str, target: str, device: str) -> None:
    """Copy an image at a quiet moment.

    Raises:
        RuntimeError: There was none.
    """
    counters = f"/sys/block/{os.path.basename(device)}/stat"
    for _ in range(50):
        with open(counters, encoding="ascii") as file:
            before = file.read().split()[4]
        copy(image, target)
        with open(counters, encoding="ascii") as file:
            if file.read().split()[4] == before:
                return
    raise RuntimeError(f"{device} was written to all the time")


def crashes(
    litmus: Litmus, system: FileSystem, place: str
) -> Iterator[tuple[int, str]]:
    """Run a line in every way we have; gives (steps done, outcome)."""
    base, image, root = (os.path.join(place, one) for one in ("base", "image", "root"))
    for order in (1, -1):
        copy(base, image)
        copies: list[tuple[int, str]] = []
        with mounted(image, root, system.options) as device:
            machine = RealMachine(root)
            lay(root, litmus.files)
            os.sync()

            def crash(steps: int, device: str = device) -> None:
                target = os.path.join(place, f"copy{len(copies)}")  # noqa: B023
                copied(image, target, device)
                copies.append((steps, target))  # noqa: B023

            done = 0
            for done in perform(litmus.program, machine):
                crash(done)
            for span in machine.ranges[::order]:
                machine.push(*span)
                crash(done)
                machine.commit()
                crash(done)
            machine.commit()
            crash(done)
        for steps, left in copies:
            with mounted(left, root, system.options):
                outcome = seen(root, litmus.look)
            os.unlink(left)
            yield steps, outcome


def tried(name: str, model: CrashModel, *, verbose: bool) -> int | None:
    """Try one file system; how many outcomes were wrong, None if it cannot be."""
    system = FILE_SYSTEMS[name]
    lines = [one for one in LITMUS if ("fail",) not in one.program]
    # The same program is there for several values; one look at it is enough.
    lines = list({(one.files, one.program, one.look): one for one in lines}.values())
    if shutil.which(system.make[0]) is None:
        print(f"{name}: skipped, there is no {system.make[0]}")
        return None
    wrong = crashed = 0
    with tempfile.TemporaryDirectory() as place:
        base = os.path.join(place, "base")
        os.mkdir(os.path.join(place, "root"))
        with open(base, "wb") as file:
            file.truncate(system.size * _MIB)
        subprocess.run([*system.make, base], check=True, capture_output=True)
        # A log of 64 MiB of zeros need not be copied ten times a program.
        subprocess.run(["fallocate", "--dig-holes", base], check=True)
        for litmus in lines:
            allowed = expected(litmus, model)
            found: dict[int, set[str]] = {}
            for steps, outcome in crashes(litmus, system, place):
                found.setdefault(steps, set()).add(outcome)
                crashed += 1
            for steps, outcomes in found.items():
                outside = outcomes - allowed[steps]
                wrong += len(outside)
                if outside or verbose:
                    text = "; ".join(" ".join(one) for one in litmus.program[:steps])
                    print(
                        f"  {'WRONG' if outside else 'right'} {text}  "
                        f"{' '.join(litmus.look)}: {' '.join(sorted(outcomes))}"
                        f" of {' '.join(sorted(allowed[steps]))}"
                    )
    print(f"{name}: {len(lines)} programs, {crashed} crashes, {wrong} outside {model}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="PRESET", help="default: all")
    parser.add_argument("--model", help="compare with this model instead")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - FILE_SYSTEMS.keys()
    if unknown:
        parser.error(f"no such file system here: {', '.join(sorted(unknown))}")
    if os.geteuid():
        print("litmus_real: mounting needs root; nothing was run")
        return 2
    results = [
        tried(
            name,
            CrashModel.parse(name if options.model is None else options.model),
            verbose=options.verbose,
        )
        for name in options.names or FILE_SYSTEMS
    ]
    ran = [one for one in results if one is not None]
    return 2 if not ran else 1 if any(ran) else 0


if __name__ == "__main__":
    sys.exit(main())
