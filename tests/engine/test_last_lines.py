"""What only happens at the end of things: last ids, closed files, late steps."""

import errno
import random

import pytest

import shearbolt
from shearbolt.database.growth import Growth, map_size
from shearbolt.pagefile import RawMeta, UnreadablePageError
from shearbolt.pages.encoding import encode_branch, encode_leaf
from shearbolt.pages.format import MAX_TXID, FormatError, fnv1a
from shearbolt.salvage.repair import _sound_page_size
from shearbolt.storage.closed import ClosedFile


def test_the_last_transaction_id_is_not_used(db, monkeypatch):
    with db.update() as tx:
        tx.create_bucket(b"b")
    whole = db.durable.live
    db.durable.live = whole.with_txid(MAX_TXID)
    try:
        with pytest.raises(shearbolt.InvalidDatabaseError, match="last transaction id"):
            db.begin(writable=True)
    finally:
        db.durable.live = whole
    # The writer's lock was given back.
    with db.update() as tx:
        tx.create_bucket(b"c")


@pytest.mark.parametrize("name", ["pread", "pwritev", "fsync", "size", "lock"])
def test_the_file_of_a_closed_database_refuses_everything_but_close(name):
    file = ClosedFile()
    file.close()
    with pytest.raises(OSError, match="closed") as caught:
        getattr(file, name)(0, 0)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("size", "mapped"),
    [
        (1, 1 << 15),
        ((1 << 15) + 1, 1 << 16),
        (1 << 30, 1 << 30),
        ((1 << 30) + 1, 2 << 30),
    ],
)
def test_a_map_doubles_up_to_a_gigabyte_and_then_grows_by_one(size, mapped):
    assert map_size(size, 4096) == mapped


def test_a_limit_that_was_made_smaller_makes_no_file_smaller():
    growth = Growth(40_000, 0, 4096)
    # Nine pages and one, which fit below the limit and beyond the file.
    assert growth.target(40_960, 38_000, 1 << 24) == 40_000


def test_more_elements_than_the_count_holds_are_refused():
    keys = [b"%05d" % i for i in range(65_535)]
    with pytest.raises(FormatError, match="65535 elements"):
        encode_leaf(3, 0, keys, keys)
    with pytest.raises(FormatError, match="65535 elements"):
        encode_branch(3, 0, keys, range(4, 4 + len(keys)))


def test_a_branch_that_is_its_own_child_is_not_written():
    with pytest.raises(FormatError, match="own child"):
        encode_branch(3, 0, [b"a", b"b"], [2, 3])


def test_a_meta_page_that_ends_early_is_said_to():
    with pytest.raises(UnreadablePageError, match="ends inside a meta page"):
        RawMeta.decode(bytes(63))


@pytest.mark.parametrize(
    ("found", "sound"), [(1024, 1024), (1000, 1024), (1025, 2048), (1 << 20, 1 << 16)]
)
def test_repair_takes_the_nearest_page_size_that_a_file_may_have(found, sound):
    assert _sound_page_size(found) == sound


def test_deleting_what_is_not_there_changes_nothing(db):
    with db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v"
    with db.update() as tx:
        tx.bucket(b"b").delete(b"missing")
        assert list(tx.bucket(b"b")) == [b"k"]


def test_the_checksum_is_fnv_however_many_zeros_there_are():
    rng = random.Random(1)
    for length in (0, 1, 56, 63, 64, 65, 130, 300):
        for share in (0.0, 0.5, 0.97, 1.0):
            data = bytes(
                0 if rng.random() < share else rng.randrange(256) for _ in range(length)
            )
            plain = 0xCBF29CE484222325
            for byte in data:
                plain = (plain ^ byte) * 0x100000001B3 % 2**64
            assert fnv1a(data) == plain
