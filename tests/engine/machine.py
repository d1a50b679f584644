"""A small machine in memory with the property that hurts.

After a failed sync the page cache shows what the disk does not have, and marks it
clean, so that the next sync succeeds without writing it (ext4, XFS).

    cache   what pread gives
    disk    what is there after the power was off
    dirty   sectors that the next sync will write
"""

import errno
import os

from shearbolt.storage import OSStorage

SECTOR = 512
PATH = "/data/x.db"


class Machine(OSStorage):
    """Files in memory; `plan` decides what each operation does."""

    __slots__ = ("__dict__",)

    def __init__(self, disk=None) -> None:
        self.disk = dict(disk or {})
        self.cache = {name: bytearray(data) for name, data in self.disk.items()}
        self.dirty = {name: set() for name in self.disk}
        self.entries = dict.fromkeys(self.disk, True)
        self.count = 0
        self.log = []
        self.plan = lambda _operation, _number: None
        self.keep_on_failed_sync = False

    def step(self, operation):
        """Count an operation; raise what the plan wants, or return it."""
        number, self.count = self.count, self.count + 1
        self.log.append(operation)
        wanted = self.plan(operation, number)
        if isinstance(wanted, int):
            raise OSError(wanted, os.strerror(wanted))
        return wanted

    def power_off(self):
        """The machine after the power came back."""
        return Machine({name: bytes(data) for name, data in self.disk.items()})

    # -- the storage protocol --

    def open(self, path, /, *, read_only=False, create=False, exclusive=False, perm=0):
        self.step("open")
        if path not in self.cache:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.cache[path] = bytearray()
            self.dirty[path] = set()
        elif create and exclusive:
            raise FileExistsError(errno.EEXIST, "exists", path)
        return MachineFile(self, path)

    def exists(self, path, /):
        return path in self.cache

    def rename(self, source, target, /):
        self.step("rename")
        for store in (self.cache, self.dirty):
            store[target] = store.pop(source)
        if source in self.disk:
            self.disk[target] = self.disk.pop(source)

    def unlink(self, path, /):
        self.step("unlink")
        for store in (self.cache, self.dirty):
            del store[path]
        self.disk.pop(path, None)

    def fsync_dir(self, path, /):
        self.step("fsync_dir")


class MachineFile:
    """One open file of a `Machine`."""

    def __init__(self, machine, path) -> None:
        self.machine, self.path = machine, path
        self.open = True

    def pread(self, length, offset, /):
        wanted = self.machine.step("pread")
        data = bytes(self.machine.cache[self.path][offset : offset + length])
        return data[: max(1, len(data) // 2)] if wanted == "short" else data

    def pwritev(self, buffers, offset, /):
        machine = self.machine
        data = b"".join(buffers)
        try:
            wanted = machine.step("pwritev")
        except OSError:
            # What fails may have been done in part.
            self._write(data[: len(data) // 3], offset)
            raise
        if wanted == "nothing":
            return 0
        if wanted == "short":
            data = data[: max(1, len(data) // 2)]
        self._write(data, offset)
        return len(data)

    def _write(self, data, offset):
        cache = self.machine.cache[self.path]
        if len(cache) < offset + len(data):
            cache.extend(bytes(offset + len(data) - len(cache)))
        cache[offset : offset + len(data)] = data
        first, last = offset // SECTOR, (offset + len(data) - 1) // SECTOR
        self.machine.dirty[self.path].update(range(first, last + 1) if data else ())

    def ftruncate(self, size, /):
        self.machine.step("ftruncate")
        cache = self.machine.cache[self.path]
        del cache[size:]
        cache.extend(bytes(size - len(cache)))

    def _sync(self, name):
        machine = self.machine
        dirty = machine.dirty[self.path]
        try:
            machine.step(name)
        except InterruptedError:
            raise
        except OSError:
            if not machine.keep_on_failed_sync:
                dirty.clear()
                raise
            self._flush(dirty)
            raise
        self._flush(dirty)

    def _flush(self, dirty):
        cache = self.machine.cache[self.path]
        disk = bytearray(self.machine.disk.get(self.path, b""))
        disk.extend(bytes(max(0, len(cache) - len(disk))))
        del disk[len(cache) :]
        for sector in dirty:
            at = sector * SECTOR
            disk[at : at + SECTOR] = cache[at : at + SECTOR]
        self.machine.disk[self.path] = disk
        dirty.clear()

    def fdatasync(self):
        self._sync("fdatasync")

    def fsync(self):
        self._sync("fsync")

    def size(self):
        self.machine.step("size")
        return len(self.machine.cache[self.path])

    def lock(self, exclusive, /):
        self.machine.step("lock")
        return True

    def unlock(self):
        self.machine.step("unlock")

    def identity(self):
        self.machine.step("identity")
        return 1, hash(self.path)

    def close(self):
        if self.open:
            self.open = False
            self.machine.step("close")
