"""A first write that failed, written again on ext4: the sync returns 0, the disk lies.

Seen on Linux 6.18 (docs/crash-model.md): a block that is written for the first time
belongs to an extent that is marked as unwritten, and reads as zeros until its data have
come. When that write fails, the page counts as clean and as mapped. Written again, it
goes to the disk, but the mark stays. Only a page that the system has forgotten begins
anew.
"""

import errno

import pytest

import shearbolt
from shearbolt.storage import OSStorage
from shearbolt.storage.twice import SyncedTwice

PAGE = 4096


class Extents:
    """One file's blocks, as ext4 keeps them, and which sync fails."""

    def __init__(self, failing):
        self.failing = failing
        self.syncs = 0
        self.dirty = set()
        self.mapped = set()
        self.written = set()

    def sync(self):
        self.syncs += 1
        dirty, self.dirty = self.dirty, set()
        fresh = dirty - self.mapped
        self.mapped |= dirty
        if self.syncs == self.failing:
            raise OSError(errno.EIO, "Input/output error")
        self.written |= fresh

    def cut(self, blocks):
        for kind in (self.dirty, self.mapped, self.written):
            kind -= {at for at in kind if at >= blocks}

    def platter(self, data):
        """What is there after the next mount."""
        blocks = range(0, len(data), PAGE)
        return b"".join(
            data[at : at + PAGE] if at // PAGE in self.written else bytes(PAGE)
            for at in blocks
        )


class Ext4File:
    """A real file whose blocks are `Extents`."""

    def __init__(self, file, extents):
        self._file, self._extents = file, extents

    def __getattr__(self, name):
        return getattr(self._file, name)

    def pwritev(self, buffers, offset, /):
        done = self._file.pwritev(buffers, offset)
        self._extents.dirty |= set(range(offset // PAGE, -(-(offset + done) // PAGE)))
        return done

    def ftruncate(self, size, /):
        self._file.ftruncate(size)
        self._extents.cut(size // PAGE)

    def fdatasync(self):
        self._extents.sync()

    def fsync(self):
        self._extents.sync()

    def forget(self):
        self._extents.mapped = set(self._extents.written)


def patiently(call):
    """Make a call again when it fails, once."""
    try:
        return call()
    except (shearbolt.StorageError, shearbolt.DatabaseFailedError):
        return call()


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("failing", range(1, 17))
def test_what_is_acknowledged_after_a_failed_sync_is_there_after_the_next_mount(
    tmp_path, failing, twice
):
    path, after = tmp_path / "bolt.db", tmp_path / "after.db"
    extents = Extents(failing)

    def open_file(name, /, **options):
        return Ext4File(OSStorage().open(name, **options), extents)

    def put(number):
        with db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"b")
            # Large ones, so that pages are written for the first time again and again.
            bucket[b"%d" % number] = bytes([65 + number]) * (3 * PAGE)

    db = patiently(
        lambda: shearbolt.open(
            path, open_file=open_file, page_size=PAGE, sync_twice=twice
        )
    )
    with db:
        for number in range(5):
            patiently(lambda number=number: put(number))
            after.write_bytes(extents.platter(path.read_bytes()))
            with shearbolt.open(after) as there, there.view() as tx:
                assert not tx.check()
                pairs = dict(tx.bucket(b"b").items())
            assert sorted(pairs) == [b"%d" % one for one in range(number + 1)]
            assert all(
                value == bytes([65 + int(key)]) * (3 * PAGE)
                for key, value in pairs.items()
            )
    assert extents.syncs >= failing


def test_a_file_that_could_not_be_made_is_left_as_it_was_found(tmp_path):
    path = tmp_path / "bolt.db"
    extents = Extents(failing=2)
    forgotten = []

    class Told(Ext4File):
        def forget(self):
            forgotten.append("forget")

    def open_it():
        with pytest.raises(shearbolt.StorageError):
            shearbolt.open(path, open_file=open_file, page_size=PAGE)

    def open_file(name, /, **options):
        return Told(OSStorage().open(name, **options), extents)

    # New blocks may show what somebody else has left there (ext3).
    open_it()
    assert path.read_bytes() == b""
    assert not forgotten
    # These are not new, and may be all that there is of the database.
    path.write_bytes(bytes(4 * PAGE))
    extents.syncs = 1
    open_it()
    assert path.stat().st_size == 4 * PAGE
    assert forgotten


def test_a_file_that_could_not_be_made_nor_cut_is_forgotten(tmp_path):
    """What is written there next would be zeros after the next mount."""
    path = tmp_path / "bolt.db"
    extents = Extents(failing=1)

    class Uncut(Ext4File):
        def ftruncate(self, size, /):
            raise OSError(errno.EIO, "Input/output error")

    def open_file(name, /, **options):
        file = Uncut if extents.syncs < 1 else Ext4File
        return file(OSStorage().open(name, **options), extents)

    with pytest.raises(shearbolt.StorageError):
        shearbolt.open(path, open_file=open_file, page_size=PAGE)
    assert path.stat().st_size
    with shearbolt.open(path, open_file=open_file, page_size=PAGE):
        pass
    assert extents.platter(path.read_bytes()) == path.read_bytes()


def test_what_may_be_lost_is_kept_in_memory_for_whoever_copies_it(path):
    told = []

    class Told(Ext4File):
        def forget(self):
            told.append("forget")

    extents = Extents(failing=-1)

    def open_file(name, /, **options):
        return Told(OSStorage().open(name, **options), extents)

    with shearbolt.open(path, open_file=open_file, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")
        extents.failing = extents.syncs + 1
        with pytest.raises(shearbolt.StorageError):
            db.sync()
    assert not told


def test_the_system_is_told_to_forget_all_that_it_need_not_write(tmp_path, monkeypatch):
    posix = pytest.importorskip("shearbolt.storage._posix")
    if not hasattr(posix.os, "posix_fadvise"):
        pytest.skip("there is nothing to tell it with")
    told = []
    monkeypatch.setattr(posix.os, "posix_fadvise", lambda *call: told.append(call[1:]))
    file = OSStorage().open(str(tmp_path / "f"), create=True)
    file.forget()
    SyncedTwice(file).forget()
    file.close()
    # A length of 0 is all of it.
    assert told == [(0, 0, posix.os.POSIX_FADV_DONTNEED)] * 2
