"""An open database cannot be copied, and whoever tries has not closed it."""

import copy
import dataclasses
import pickle

import pytest

import shearbolt

WAYS = [copy.copy, copy.deepcopy, pickle.dumps]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("writable", [False, True])
def test_nothing_that_is_open_is_copied_and_trying_closes_nothing(db, way, writable):
    with db.update() as tx:
        tx.create_bucket(b"b").put(b"k", b"v")
    with db.update() if writable else db.view() as tx:
        bucket = tx.bucket(b"b")
        for what in (db, tx, bucket, bucket.cursor(), db.pager.file.raw):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                way(what)
        assert db.stats().open_tx_n == (not writable)
        assert bucket.get(b"k") == b"v"
    with db.update() as tx:
        tx.bucket(b"b").put(b"k", b"w")


def test_a_copy_of_what_holds_a_handle_leaves_its_descriptor_open(db):
    @dataclasses.dataclass
    class Settings:
        where: list
        db: shearbolt.DB

    @dataclasses.dataclass
    class Pieces:
        file: object
        rest: object

    for holder in (Settings([1], db), Pieces(db.pager, db._state)):
        with pytest.raises(TypeError):
            dataclasses.asdict(holder)
    db.pager.clear()
    with db.update() as tx:
        tx.create_bucket(b"b").put(b"k", b"v")
    db.sync()
