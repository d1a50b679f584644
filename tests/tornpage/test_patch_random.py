"""Any row of calls does on a patched-in disk what it does on the machine.

Calls are drawn: `open` in all modes with all buffers, descriptors with all flags, names
that are there, are not, are directories or lie below a file. What each call gives, or
the error with its number and names, is compared with a directory of the machine.
"""

import contextlib
import functools
import glob
import io
import os
import pathlib
import random
import re
import shutil
import stat
import tempfile
import warnings

import pytest

from tornpage.disk import Disk
from tornpage.patch import patched

# Made at the beginning; removed, renamed and made again on the way.
FOLDERS = ("", "d", "e", "d/g")
FILES = ("a", "b", "d/x", "d/y", "e/f", "d/g/z")
MODES = [kind + plus + text for kind in "rwax" for plus in ("", "+") for text in "bt"]
FLAGS = (
    os.O_CREAT,
    os.O_CREAT | os.O_EXCL,
    os.O_CREAT | os.O_TRUNC,
    os.O_CREAT | os.O_APPEND,
    os.O_APPEND,
    os.O_TRUNC,
    os.O_DIRECTORY,
    0,
)
LENGTHS = (0, 1, 3, 10, 700, 5000, 9000)
OFFSETS = (0, 1, 5, 100, 4096)


class Calls:
    """Draws calls below a root and notes what each of them gives."""

    def __init__(self, root, seed):
        self.root = root
        self.draw = random.Random(seed)
        self.files = []
        self.descriptors = []
        self.seen = []
        for name in FOLDERS:
            os.makedirs(os.path.join(root, name), exist_ok=True)

    def note(self, what, call):
        try:
            found = self.plain(call())
        except OSError as error:
            names = self.plain([error.filename, error.filename2])
            names = ["a number" if isinstance(one, int) else one for one in names]
            found = (type(error).__name__, error.errno, names)
        except ValueError as error:
            found = (type(error).__name__, self.plain(str(error)))
        self.seen.append((self.plain(what), found))

    def plain(self, given):
        """Without the root, objects and numbers of descriptors."""
        if isinstance(given, bytes) and given.startswith(os.fsencode(self.root)):
            return "bytes", self.plain(os.fsdecode(given))
        if isinstance(given, str | os.PathLike):
            text = os.fspath(given).replace(self.root, "ROOT")
            return re.sub(r"/tmp\w{8}$", "/temporary", text)
        if isinstance(given, list | tuple):
            return [self.plain(one) for one in given]
        if isinstance(given, io.IOBase):
            self.files.append(given)
            return type(given).__name__.replace("DiskRaw", "FileIO")
        return given

    def descriptor(self, number):
        self.descriptors.append(number)
        return "a descriptor"

    def path(self, names=FOLDERS + FILES):
        return os.path.join(self.root, self.draw.choice(names)).rstrip("/")

    def step(self):
        draw = self.draw
        kind = draw.random()
        if kind < 0.2:
            path, mode = self.path(), draw.choice(MODES)
            buffer = draw.choice((-1, -1, 0, 1, 3, 4096))
            what = f"open {path} {mode} {buffer}"
            self.note(what, lambda: open(path, mode, buffer))  # noqa: SIM115
        elif kind < 0.28:
            path = self.path()
            flags = draw.choice(FLAGS) | draw.choice((0, os.O_WRONLY, os.O_RDWR))
            self.note(
                f"os.open {path} {flags}", lambda: self.descriptor(os.open(path, flags))
            )
        elif kind < 0.55 and self.files:
            at = draw.randrange(len(self.files))
            name, call = draw.choice(self.of_file(self.files[at]))
            self.note(f"file {at} {name}", call)
        elif kind < 0.75 and self.descriptors:
            at = draw.randrange(len(self.descriptors))
            name, call = draw.choice(self.of_descriptor(self.descriptors[at]))
            self.note(f"descriptor {at} {name}", call)
        else:
            name, call = draw.choice(self.of_names())
            self.note(name, call)

    def of_file(self, file):
        draw = self.draw
        length, at = draw.choice(LENGTHS), draw.choice(OFFSETS)
        letter = b"w"
        if isinstance(file, io.TextIOBase):
            letter = draw.choice("té\n")

        def attributes():
            found = (file.readable(), file.writable(), file.closed, file.mode)
            return (*found, file.isatty(), isinstance(file.name, int) or file.name)

        return [
            ("read", lambda: file.read(length)),
            ("read all", file.read),
            ("readline", file.readline),
            ("readlines", file.readlines),
            ("next", lambda: next(file, None)),
            ("readinto", lambda: getattr(file, "readinto", bytes)(bytearray(length))),
            ("write", lambda: file.write(letter * length)),
            ("write twice", lambda: file.writelines([letter * 3, letter * length])),
            ("seek", lambda: file.seek(at)),
            ("seek on", lambda: file.seek(at % 2 * 3, 1)),
            ("seek end", lambda: file.seek(0, 2)),
            ("tell", file.tell),
            ("truncate", lambda: file.truncate(at if at % 2 else None)),
            ("flush", file.flush),
            ("sync", lambda: os.fsync(file.fileno())),
            ("dup", lambda: self.descriptor(os.dup(file.fileno()))),
            ("attributes", attributes),
            ("close", file.close if at == 1 else file.flush),
        ]

    def of_descriptor(self, number):
        draw = self.draw
        length, at, mode = (
            draw.choice(LENGTHS),
            draw.choice(OFFSETS),
            draw.choice(MODES),
        )

        def read_vector():
            parts = [bytearray(length), bytearray(4)]
            return os.preadv(number, parts, at), [*map(bytes, parts)]

        def status():
            found = os.fstat(number)
            kind = stat.S_IFMT(found.st_mode)
            return kind, kind == stat.S_IFREG and found.st_size

        return [
            ("read", lambda: os.read(number, length)),
            ("write", lambda: os.write(number, b"q" * length)),
            ("pread", lambda: os.pread(number, length, at)),
            ("pwrite", lambda: os.pwrite(number, b"p" * length, at)),
            ("preadv", read_vector),
            ("pwritev", lambda: os.pwritev(number, [b"1" * length, b"2"], at)),
            ("readv", lambda: os.readv(number, [bytearray(length), bytearray(2)])),
            ("writev", lambda: os.writev(number, [b"1" * length, b"2"])),
            ("seek", lambda: os.lseek(number, at, os.SEEK_SET)),
            ("seek on", lambda: os.lseek(number, at - 1, os.SEEK_CUR)),
            ("truncate", lambda: os.ftruncate(number, at)),
            ("truncate by it", lambda: os.truncate(number, at)),
            ("status", status),
            ("dup", lambda: self.descriptor(os.dup(number))),
            ("fdopen", lambda: os.fdopen(number, mode, closefd=False)),
            ("sync", lambda: os.fsync(number)),
            ("datasync", lambda: os.fdatasync(number)),
        ]

    def of_names(self):
        path, file, other = self.path(), self.path(FILES), self.path(FILES)
        folder, new = self.path(FOLDERS), os.path.join(self.root, "new")
        folder2 = self.path(FOLDERS)
        place = pathlib.Path(path)

        def calls(module, names, *given):
            for name in names.split():
                function = getattr(module, name)
                yield f"{name} {' '.join(given)}", functools.partial(function, *given)

        def entries():
            with os.scandir(path) as found:
                return sorted(
                    [repr(one), one.path, one.is_dir(), one.stat().st_mode // 0o1000]
                    for one in found
                )

        def temporary():
            number, name = tempfile.mkstemp(dir=folder)
            os.close(number)
            os.unlink(name)
            made = tempfile.mkdtemp(dir=folder)
            os.rmdir(made)
            return os.path.dirname(name), os.path.dirname(made)

        def status():
            found = os.stat(path)
            kind = stat.S_IFMT(found.st_mode)
            return kind, kind == stat.S_IFREG and found.st_size

        return [
            *calls(os.path, "exists isfile isdir", path),
            *calls(os, "unlink remove", path),
            *calls(os, "listdir rmdir", file),
            *calls(os, "mkdir makedirs rmdir", folder),
            *calls(os, "makedirs", folder),
            (f"remove {folder}", lambda: shutil.rmtree(folder)),
            *calls(os, "rename replace", file, other),
            *calls(os, "rename", folder, folder2),
            *calls(os, "replace", path, folder),
            *calls(os, "rename", folder, other),
            *calls(os, "link", path, other),
            *calls(os, "link", file, path),
            *calls(os.path, "samefile", folder, folder2),
            *calls(shutil, "move copyfile copy copy2", file, other),
            *calls(shutil, "rmtree", file),
            *calls(os.path, "samefile", path, other),
            ("list", lambda: sorted(os.listdir(folder))),
            ("bytes", lambda: sorted(os.listdir(os.fsencode(folder)))),
            (f"entries {path}", entries),
            (f"stat {path}", status),
            (f"truncate {path}", lambda: os.truncate(path, 5)),
            ("walk", lambda: sorted(sorted(x[2]) for x in os.walk(self.root))),
            ("walk up", lambda: sorted(x[0] for x in os.walk(folder, topdown=False))),
            ("glob", lambda: sorted(glob.glob(folder + "/*"))),
            ("rglob", lambda: sorted(map(str, pathlib.Path(folder).rglob("*")))),
            ("copy tree", lambda: shutil.copytree(folder, new, dirs_exist_ok=True)
             if folder != self.root else None),
            ("remove it", lambda: shutil.rmtree(new)),
            ("remove it quietly", lambda: shutil.rmtree(new, ignore_errors=True)),
            (f"temporary {folder}", temporary),
            (f"read {path}", place.read_bytes),
            (f"write {path}", lambda: place.write_text("é" * 10)),
            (f"touch {path}", place.touch),
            (f"unlink {path}", lambda: place.unlink(missing_ok=True)),
            (f"kinds {path}", lambda: [place.is_file(), place.is_dir()]),
            (f"is there {path}", place.exists),
        ]  # fmt: skip

    def run(self, steps):
        with warnings.catch_warnings():
            # Line buffers of binary files.
            warnings.simplefilter("ignore", RuntimeWarning)
            for _ in range(steps):
                self.step()
        for file in self.files:
            with contextlib.suppress(OSError, ValueError):
                file.close()
        for number in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(number)
        return self.seen


def both(seed, tmp_path):
    real = Calls(str(tmp_path / f"{seed}"), seed).run(60)
    with patched(Disk({}), "/simulated") as root:
        simulated = Calls(root, seed).run(60)
    return real, simulated


@pytest.mark.thorough(rows=2)
@pytest.mark.seeds(4)
def test_any_row_of_calls_gives_what_it_gives_on_the_machine(seed, tmp_path):
    for one in range(seed * 40, (seed + 1) * 40):
        real, simulated = both(one, tmp_path)
        for at, (wanted, found) in enumerate(zip(real, simulated, strict=True)):
            assert found == wanted, f"seed {one}, call {at}"
