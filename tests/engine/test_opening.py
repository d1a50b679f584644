"""Opening: what is a database, what is nearly one, and what is left alone."""

import errno
import hashlib
import math
import os
import random
import sys
import threading
import time

import pytest

import shearbolt
from shearbolt import (
    ChecksumError,
    CorruptPageError,
    DatabaseNotFoundError,
    InvalidDatabaseError,
    LockTimeoutError,
    StorageError,
    VersionMismatchError,
)
from shearbolt.pages.format import META_SIZE, PAGE_HEADER_SIZE, Meta, empty_database
from shearbolt.storage import OSStorage


@pytest.fixture
def filled(path):
    """A database of several commits, closed."""
    with shearbolt.open(path, page_size=4096) as db:
        for i in range(3):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                for j in range(200):
                    bucket[b"%03d" % j] = b"%d" % i * 30
    return path


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_meta(path, slot, page_size=4096, at=PAGE_HEADER_SIZE + 40):
    patch(path, slot * page_size + at, b"\xff")


def open_both_ways(path):
    for read_only in (False, True):
        shearbolt.open(path, read_only=read_only, timeout=1).close()


def refused(path, kind, match=None):
    """Opening raises this either way and leaves the file as it is."""
    before = digest(path), os.path.getsize(path)
    for read_only in (False, True):
        with pytest.raises(kind, match=match) as caught:
            shearbolt.open(path, read_only=read_only, timeout=1)
        assert path in str(caught.value)
    assert (digest(path), os.path.getsize(path)) == before
    # The lock was let go of.
    fd = shearbolt.storage.OSStorage().open(path)
    assert fd.lock(True)
    fd.close()


# -- files that are no databases --


@pytest.mark.parametrize("length", [1, 80, 4095, 4096, 20_000, 100_000])
def test_random_bytes_are_no_database(path, length):
    with open(path, "wb") as file:
        file.write(random.Random(length).randbytes(length))
    refused(path, InvalidDatabaseError, "not a bolt database")


def test_text_is_no_database(path):
    with open(path, "w") as file:
        file.write("this is not a bolt database\n" * 1000)
    refused(path, InvalidDatabaseError, "magic")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_database_is_refused(filled, share):
    os.truncate(filled, int(os.path.getsize(filled) * share) // 512 * 512 or 512)
    with open(filled, "rb") as file:
        meta = Meta.decode(file.read()[PAGE_HEADER_SIZE:][:META_SIZE])
    if os.path.getsize(filled) < meta.high_water_mark * 4096:
        refused(filled, InvalidDatabaseError)
    else:
        open_both_ways(filled)


def test_one_byte_less_than_its_pages_is_too_short(filled):
    with shearbolt.open(filled) as db, db.view() as tx:
        size = tx.size
    os.truncate(filled, size)
    open_both_ways(filled)
    os.truncate(filled, size - 1)
    refused(filled, InvalidDatabaseError, f"cut short: {size - 1} bytes")


def test_flipped_bits_in_both_metas_are_a_checksum_error(filled):
    for slot in (0, 1):
        damage_meta(filled, slot)
    refused(filled, ChecksumError, "checksum")


def test_another_version_is_named(filled):
    for slot in (0, 1):
        patch(filled, slot * 4096 + PAGE_HEADER_SIZE + 4, b"\3")
    refused(filled, VersionMismatchError, "format version 3, not 2")


def test_the_error_is_that_of_meta_0(filled):
    patch(filled, PAGE_HEADER_SIZE + 4, b"\3")
    damage_meta(filled, 1)
    refused(filled, VersionMismatchError)


def test_a_checksum_of_zero_is_wrong(filled):
    for slot in (0, 1):
        patch(filled, slot * 4096 + 72, bytes(8))
    refused(filled, ChecksumError)


def test_any_bit_of_a_meta_is_covered(path):
    shearbolt.open(path, page_size=4096).close()
    for at in range(PAGE_HEADER_SIZE, PAGE_HEADER_SIZE + META_SIZE):
        with open(path, "rb") as file:
            page = bytearray(file.read(4096))
        page[at] ^= 1
        with pytest.raises(shearbolt.pages.format.MetaError):
            Meta.decode(bytes(page[PAGE_HEADER_SIZE : PAGE_HEADER_SIZE + META_SIZE]))


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
def test_either_meta_is_enough(path, slot, page_size):
    with shearbolt.open(path, page_size=page_size) as db:
        for i in range(3):
            with db.update() as tx:
                tx.create_bucket_if_not_exists(b"b")[b"k"] = b"%d" % i
        last = db.info().txid
    damage_meta(path, slot, page_size)
    # The page size is found although another one is asked for.
    with shearbolt.open(path, page_size=2048) as db:
        assert db.page_size == page_size
        survivor = last if last % 2 != slot else last - 1
        assert db.info().txid == survivor
        with db.view() as tx:
            assert tx.bucket(b"b")[b"k"] == b"%d" % (survivor - 2)


@pytest.mark.parametrize("page_size", [128 << 10, 1 << 20, 4 << 20, 16 << 20])
def test_files_with_larger_pages_than_we_make_are_read_and_written(path, page_size):
    with open(path, "wb") as file:
        file.write(empty_database(page_size))
    damage_meta(path, 0, page_size)
    with shearbolt.open(path) as db:
        assert db.page_size == page_size
        with db.update() as tx:
            tx.create_bucket(b"b")[b"k"] = b"v"
        with db.view() as tx:
            assert tx.check() == []


def test_more_than_65535_keys_go_into_more_than_one_4_mib_page(path):
    with open(path, "wb") as file:
        file.write(empty_database(4 << 20))
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for i in range(70_000):
                bucket[b"%x" % i] = b""
        with db.view() as tx:
            assert tx.check() == []
            assert len(tx.bucket(b"b")) == 70_000
            assert tx.bucket(b"b").stats().leaf_page_n == 2


def test_a_damaged_freelist_is_an_error_with_page_and_offset(filled):
    with shearbolt.open(filled) as db, db.view() as tx:
        page = tx.meta.freelist
    patch(filled, page * 4096 + 16, b"\xff" * 8)
    before = digest(filled)
    with pytest.raises(CorruptPageError, match="does not exist") as caught:
        shearbolt.open(filled)
    assert (caught.value.pgid, caught.value.offset) == (page, page * 4096)
    assert digest(filled) == before
    # Reading needs no freelist.
    shearbolt.open(filled, read_only=True).close()
    with pytest.raises(CorruptPageError):
        shearbolt.open(filled, read_only=True, preload_freelist=True)


def test_a_freelist_that_names_a_page_twice_is_damaged(filled):
    with shearbolt.open(filled) as db, db.view() as tx:
        page = tx.meta.freelist
    with open(filled, "rb") as file:
        file.seek(page * 4096 + 16)
        first = file.read(8)
    patch(filled, page * 4096 + 24, first)
    with pytest.raises(CorruptPageError, match="twice"):
        shearbolt.open(filled)


def test_a_tree_page_in_place_of_the_freelist_is_damaged(filled):
    with shearbolt.open(filled) as db, db.view() as tx:
        page = tx.meta.freelist
    patch(filled, page * 4096 + 8, b"\2")
    with pytest.raises(CorruptPageError, match="leaf page instead of a freelist"):
        shearbolt.open(filled)


# -- places where no database can be --


def test_a_directory_is_refused(tmp_path):
    for read_only in (False, True):
        with pytest.raises(StorageError, match="directory"):
            shearbolt.open(str(tmp_path), read_only=read_only)
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_made_for_writing_only(path):
    with pytest.raises(DatabaseNotFoundError) as caught:
        shearbolt.open(path, read_only=True)
    assert isinstance(caught.value, FileNotFoundError)
    assert not os.path.exists(path)
    shearbolt.open(path).close()
    open_both_ways(path)


def test_a_missing_file_is_not_made_when_told_so(path, tmp_path):
    # Links need a right of their own on Windows.
    links = [tmp_path / "link"] if sys.platform != "win32" else []
    for link in links:
        os.symlink("absent", link)
    for missing in (path, *links):
        with pytest.raises(DatabaseNotFoundError):
            shearbolt.open(missing, create=False)
    assert os.listdir(tmp_path) == [link.name for link in links]
    shearbolt.open(path).close()
    with shearbolt.open(path, create=False) as db, db.update() as tx:
        tx.create_bucket(b"new")


def test_a_missing_directory_is_not_made(tmp_path):
    with pytest.raises(DatabaseNotFoundError):
        shearbolt.open(str(tmp_path / "absent" / "x.db"))
    assert os.listdir(tmp_path) == []


def test_a_device_is_refused():
    with pytest.raises(StorageError):
        shearbolt.open("/dev/null")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="root may open everything"
)
def test_a_file_without_permission_is_refused(filled):
    os.chmod(filled, 0)
    with pytest.raises(StorageError, match="denied"):
        shearbolt.open(filled)


# -- locks --


def test_a_locked_file_is_refused_after_the_timeout(filled):
    with shearbolt.open(filled):
        before = digest(filled)
        for read_only in (False, True):
            began = time.monotonic()
            with pytest.raises(LockTimeoutError, match="has the database open") as hit:
                shearbolt.open(filled, read_only=read_only, timeout=0.2)
            # A limit on waiting, not on speed.
            assert 0.2 <= time.monotonic() - began < 60
            assert isinstance(hit.value, TimeoutError)
        assert digest(filled) == before


@pytest.mark.parametrize("timeout", [0, 0.03, 0.05, 0.12, 2, math.inf])
def test_the_last_try_for_the_lock_is_when_the_time_is_up(timeout, filled):
    """Not before: whoever waits for as long as something takes would miss it."""

    class Clock(OSStorage):
        __slots__ = ("now",)

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            assert seconds > 0
            self.now += seconds
            if self.now >= end - 1e-9:
                first.close()

    storage = Clock()
    storage.now = 5.0
    for late in (0, 0.01):
        end = 5 + min(timeout, 3) + late
        first = shearbolt.open(filled)
        if late and timeout < math.inf:
            with pytest.raises(LockTimeoutError):
                shearbolt.open(filled, timeout=timeout, storage=storage)
            assert storage.now == pytest.approx(5 + timeout)
            first.close()
        elif timeout:
            shearbolt.open(filled, timeout=timeout, storage=storage).close()
        storage.now = 5.0
        first.close()


OPEN_STAYS = pytest.mark.skipif(
    sys.platform == "win32", reason="an open file cannot be replaced or removed there"
)


@OPEN_STAYS
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_replaced_while_one_waits_is_not_the_one_opened(
    read_only, filled, tmp_path
):
    """What is committed to a file without a name is gone when it is closed."""
    first = shearbolt.open(filled)
    with first.view() as tx:
        tx.copy_file(tmp_path / "new.db")
    with shearbolt.open(tmp_path / "new.db") as db, db.update() as tx:
        tx.create_bucket(b"new")

    class Meanwhile(OSStorage):
        __slots__ = ()

        def sleep(self, _):
            if os.path.exists(tmp_path / "new.db"):
                os.replace(tmp_path / "new.db", filled)
                first.close()

    waiting = {"read_only": read_only, "timeout": 1, "storage": Meanwhile()}
    with shearbolt.open(filled, **waiting) as db:
        assert db.identity == (os.stat(filled).st_dev, os.stat(filled).st_ino)
        with db.view() as tx:
            tx.bucket(b"new")


@OPEN_STAYS
def test_a_file_that_is_removed_while_one_waits_is_made_anew_or_is_not_there(filled):
    class Meanwhile(OSStorage):
        __slots__ = ()

        def sleep(self, _):
            os.unlink(filled)
            first.close()

    first = shearbolt.open(filled)
    with pytest.raises(DatabaseNotFoundError):
        shearbolt.open(filled, read_only=True, storage=Meanwhile())
    shearbolt.open(filled).close()
    first = shearbolt.open(filled)
    with pytest.raises(DatabaseNotFoundError):
        shearbolt.open(filled, create=False, storage=Meanwhile())
    assert not os.path.exists(filled)
    shearbolt.open(filled).close()
    first = shearbolt.open(filled)
    with shearbolt.open(filled, storage=Meanwhile()) as db, db.update() as tx:
        tx.create_bucket(b"new")
    with shearbolt.open(filled, read_only=True) as db, db.view() as tx:
        tx.bucket(b"new")


def test_a_file_that_cannot_say_whether_it_has_its_name_is_let_go(filled, monkeypatch):
    """At once, and not with the error, which somebody may keep."""

    def fails(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        machine = sys.modules[OSStorage.__module__]
        patch.setattr(machine.OSFile, "stands_at", fails, raising=False)
        with pytest.raises(StorageError, match="stat") as kept:
            shearbolt.open(filled)
    shearbolt.open(filled, timeout=0).close()
    assert kept.value.errno == errno.EIO


def test_readers_share_a_file_and_keep_writers_out(filled):
    first = shearbolt.open(filled, read_only=True)
    with shearbolt.open(filled, read_only=True, timeout=1):
        pass
    with pytest.raises(LockTimeoutError):
        shearbolt.open(filled, timeout=0)
    first.close()
    shearbolt.open(filled, timeout=1).close()


def test_opening_waits_for_the_lock(filled):
    first = shearbolt.open(filled)
    timer = threading.Timer(0.15, first.close)
    timer.start()
    shearbolt.open(filled).close()
    timer.join()


# -- creation --


def test_a_new_database_has_bbolts_bytes(path):
    shearbolt.open(path, page_size=4096).close()
    with open(path, "rb") as file:
        content = file.read()
    assert content == empty_database(4096)
    assert hashlib.sha256(content).hexdigest().startswith("f80ea184425737cdc7de57b1c8")


@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
def test_a_creation_cut_short_anywhere_is_finished(path, page_size):
    whole = empty_database(page_size)
    rng = random.Random(page_size)
    for _ in range(25):
        length = rng.choice([0, 1, 16, 80, len(whole), rng.randrange(len(whole))])
        torn = bytearray(whole[:length])
        for sector in range(0, length, 512):
            if rng.random() < 0.5:
                end = min(sector + rng.choice([512, 20, 64]), length)
                torn[sector:end] = bytes(end - sector)
        with open(path, "wb") as file:
            file.write(torn)
        if torn != whole and b"\xed\xda\x0c\xed" not in torn[:20]:
            before = digest(path)
            with pytest.raises(InvalidDatabaseError, match=r"open it once|not a bolt"):
                shearbolt.open(path, read_only=True)
            assert digest(path) == before
        with shearbolt.open(path, page_size=page_size) as db:
            with db.update() as tx:
                tx.create_bucket(b"b")[b"k"] = b"v"
            with db.view() as tx:
                assert tx.check() == []
        os.unlink(path)


def test_an_existing_empty_file_becomes_a_database(path):
    with open(path, "wb"):
        pass
    with pytest.raises(InvalidDatabaseError, match="empty"):
        shearbolt.open(path, read_only=True)
    assert os.path.getsize(path) == 0
    shearbolt.open(path).close()
    open_both_ways(path)


def test_a_fresh_database_opens_read_only(path):
    shearbolt.open(path).close()
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert list(tx.buckets()) == []
        assert tx.check() == []


def test_one_foreign_byte_keeps_a_file_from_being_made_anew(path):
    torn = bytearray(empty_database(4096))
    torn[16:80] = torn[4112:4176] = bytes(64)
    torn[9000] = 7
    with open(path, "wb") as file:
        file.write(torn)
    refused(path, InvalidDatabaseError)


# -- the freelist of a file --


def test_without_a_freelist_free_pages_are_found_again(path):
    with shearbolt.open(path, no_freelist_sync=True) as db:
        for i in range(10):
            with db.update() as tx:
                tx.create_bucket_if_not_exists(b"b")[b"%d" % (i % 3)] = b"v" * 9000
        with db.view() as tx:
            assert tx.meta.freelist == shearbolt.pages.format.NO_FREELIST
        pages = db.stats().free_page_n + db.stats().pending_page_n
        txid = db.info().txid
    with shearbolt.open(path, no_freelist_sync=True) as db:
        assert db.stats().free_page_n == pages
        # Nobody has asked for one, so there is nothing to be written.
        assert db.info().txid == txid
    with shearbolt.open(path) as db, db.view() as tx:
        assert tx.meta.freelist != shearbolt.pages.format.NO_FREELIST
        assert tx.check() == []


def test_more_than_65535_free_pages_survive_reopening(path):
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")[b"k"] = b"v" * (70_000 * 1024)
        with db.update() as tx:
            tx.delete_bucket(b"b")
        with db.update():
            pass
        pages = db.stats().free_page_n + db.stats().pending_page_n
        assert pages > 65_535
    with shearbolt.open(path, no_sync=True) as db:
        assert db.stats().free_page_n == pages
        with db.update() as tx:
            tx.create_bucket(b"c")[b"k"] = b"w" * (60_000 * 1024)
        with db.view() as tx:
            assert tx.check() == []
            assert tx.size < 80_000 * 1024
