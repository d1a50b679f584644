"""Pages that other programs write and this engine never would."""

import pytest

import shearbolt
from shearbolt.pages.decoding import decode_leaf
from shearbolt.pages.encoding import encode_leaf
from shearbolt.pages.format import FormatError


def _page(count_written, count_stated):
    keys = [b"k%02d" % i for i in range(count_written)]
    values = [b"v" * i for i in range(count_written)]
    page = bytearray(encode_leaf(7, 0, keys, values))
    page[10:12] = count_stated.to_bytes(2, "little")
    return bytes(page).ljust(4096, b"\0"), keys, values


def _decode(page, count):
    return decode_leaf(7, count, 0, lambda at, n: page[at : at + n], len(page))


def test_elements_cleared_at_the_end_by_lowering_the_count_leave_the_others():
    # bbolt surgery clear-page-elements --to-index -1 changes nothing but the count.
    page, keys, values = _page(20, 12)
    leaf = _decode(page, 12)
    assert (leaf.keys, leaf.values) == (tuple(keys[:12]), tuple(values[:12]))


def test_a_count_that_is_too_high_is_damage():
    page, _, _ = _page(20, 21)
    with pytest.raises(FormatError):
        _decode(page, 21)


def test_a_gap_that_is_no_whole_number_of_elements_is_damage():
    page, _, _ = _page(3, 3)
    torn = bytearray(page)
    for index in range(3):
        at = 16 + 16 * index + 4
        position = int.from_bytes(torn[at : at + 4], "little") + 8
        torn[at : at + 4] = position.to_bytes(4, "little")
    with pytest.raises(FormatError):
        _decode(bytes(torn), 3)


def test_such_a_database_is_read_and_written(tmp_path):
    path = tmp_path / "cleared.db"
    with shearbolt.open(path) as db, db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(20):
            bucket.put(b"k%02d" % i, b"v" * 100)
        root = None
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        root = tx.bucket(b"b").root
    data = bytearray(path.read_bytes())
    data[root * 4096 + 10 : root * 4096 + 12] = (5).to_bytes(2, "little")
    path.write_bytes(data)
    with shearbolt.open(path) as db:
        with db.update() as tx:
            assert len(tx.bucket(b"b")) == 5
            tx.bucket(b"b").put(b"new", b"1")
        with db.view() as tx:
            assert len(tx.bucket(b"b")) == 6
            assert tx.check() == []


def test_a_root_branch_without_elements_is_an_empty_bucket(tmp_path):
    # bbolt #1170: it can leave one behind.
    path = tmp_path / "emptied.db"
    with shearbolt.open(path) as db, db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(500):
            bucket.put(b"k%03d" % i, b"v" * 100)
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        root = tx.bucket(b"b").root
    data = bytearray(path.read_bytes())
    data[root * 4096 + 10 : root * 4096 + 12] = bytes(2)
    path.write_bytes(data)
    with shearbolt.open(path) as db:
        with db.view() as tx:
            assert dict(tx.bucket(b"b")) == {}
        with db.update() as tx:
            tx.bucket(b"b").put(b"k", b"v")
        with db.view() as tx:
            assert dict(tx.bucket(b"b")) == {b"k": b"v"}


@pytest.mark.parametrize("cleared", [0, 1, 2])
def test_a_leaf_without_elements_hinders_nobody(tmp_path, cleared):
    # bbolt surgery clear-page-elements leaves one behind.
    path = tmp_path / "cleared.db"
    with shearbolt.open(path, page_size=1024) as db, db.update() as tx:
        tx.create_bucket(b"b").update((b"%03d" % i, b"v" * 60) for i in range(30))
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        leaves = [tx.load(pgid) for pgid in tx.load(tx.bucket(b"b").root).children]
    assert len(leaves) >= 4
    data = bytearray(path.read_bytes())
    at = leaves[cleared].pgid * 1024 + 10
    data[at : at + 2] = bytes(2)
    left = [key for leaf in leaves for key in leaf.keys if leaf is not leaves[cleared]]
    # Leaves on both sides become too small, from the first and from the last on.
    for gone in ([], left[:-1], left[1:], left):
        path.write_bytes(data)
        with shearbolt.open(path) as db:
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                for key in gone:
                    bucket.delete(key)
                assert list(bucket) == [key for key in left if key not in gone]
            with db.view() as tx:
                assert list(tx.bucket(b"b")) == [key for key in left if key not in gone]
                assert all("empty leaf" in str(problem) for problem in tx.check())
