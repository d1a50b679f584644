"""What a database says about itself: check, stats, pages, structure, copies."""

import errno
import io
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import shearbolt
from shearbolt import (
    BucketStats,
    BucketStructure,
    CorruptPageError,
    DatabaseNotOpenError,
    FreePagesNotLoadedError,
    OptionError,
    PageInfo,
    Stats,
    StorageError,
    TxClosedError,
    TxStats,
)
from shearbolt.pages.encoding import encode_branch, encode_leaf
from shearbolt.pages.format import Meta


def fill(db, count=1000, name=b"b", size=50):
    with db.update() as tx:
        bucket = tx.create_bucket_if_not_exists(name)
        for i in range(count):
            bucket[b"%05d" % i] = b"v" * size


# -- check --


@pytest.fixture
def broken(path):
    """Write a page of a sound database anew; give what the check says then."""
    with shearbolt.open(path, page_size=4096) as db:
        fill(db)
        with db.update() as tx:
            tx.create_bucket(b"inline")[b"k"] = b"v"
    with shearbolt.open(path) as db, db.view() as tx:
        root = tx.bucket(b"b").root
        branch = tx.load(root)
        top, free = tx.meta.root, tx.meta.freelist

    def write(pgid, data):
        with open(path, "r+b") as file:
            file.seek(pgid * 4096)
            file.write(data.ljust(4096, b"\0"))
        with shearbolt.open(path, read_only=True) as db, db.view() as tx:
            return tx.check()

    write.root, write.branch, write.top, write.free = root, branch, top, free
    return write


def test_a_sound_database_has_no_problems(db):
    fill(db)
    with db.view() as tx:
        assert tx.check() == []
        assert list(tx.problems()) == []


def test_a_cycle_ends_the_check_with_a_report(broken):
    branch = broken.branch
    children = [branch.children[0], broken.root, *branch.children[2:]]
    data = encode_branch(1 << 40, 0, branch.keys, children)
    found = broken(broken.root, broken.root.to_bytes(8, "little") + data[8:])
    texts = [str(problem) for problem in found]
    assert any("multiple references" in text for text in texts)
    assert any("unreachable unfreed" in text for text in texts)


def test_reading_a_cycle_ends_with_an_error(path, broken):
    branch = broken.branch
    data = encode_branch(1 << 40, 0, branch.keys, [broken.root] * len(branch.keys))
    broken(broken.root, broken.root.to_bytes(8, "little") + data[8:])
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        bucket = tx.bucket(b"b")
        for call in (
            lambda: bucket.get(b"00500"),
            lambda: list(bucket),
            lambda: list(reversed(bucket)),
            bucket.cursor().first,
            bucket.cursor().last,
            lambda: bucket.cursor().seek(b"5"),
        ):
            with pytest.raises(CorruptPageError, match="deeper than"):
                call()
        with pytest.raises(CorruptPageError, match="cycle"):
            bucket.stats()
    with shearbolt.open(path) as db, db.begin(writable=True) as tx:
        with pytest.raises(CorruptPageError):
            tx.delete_bucket(b"b")
        with pytest.raises(CorruptPageError):
            tx.bucket(b"b").put(b"00500", b"v")


def test_problems_say_page_offset_and_bucket(broken):
    child = broken.branch.children[1]
    found = broken(child, encode_leaf(child, 0, [b"99999"], [b"v"]))
    assert [(p.pgid, p.offset, p.path) for p in found] == [
        (child, child * 4096, (b"b",))
    ]
    assert "needs to be < than key of the next element" in str(found[0])


def test_a_key_below_its_branchs_bound_is_found(broken):
    child = broken.branch.children[1]
    found = broken(child, encode_leaf(child, 0, [b"00000"], [b"v"]))
    assert "needs to be >= the key in the ancestor" in str(found[0])


def test_a_page_that_says_it_is_another_is_found(broken):
    child = broken.branch.children[1]
    found = broken(child, encode_leaf(child + 1, 0, [b"k"], [b"v"]))
    assert f"page {child}: it says it is page {child + 1}" in str(found[0])


def test_inline_buckets_are_looked_through(path, broken):
    with open(path, "rb") as file:
        file.seek(broken.top * 4096)
        page = file.read(4096)
    # The inline page's element count, behind "inline" and 16 bytes of header.
    at = page.index(b"inline") + len(b"inline") + 16 + 10
    found = broken(broken.top, page[:at] + b"\xff" + page[at + 1 :])
    assert [p.path for p in found] == [(b"inline",)]
    assert found[0].pgid == broken.top


def test_a_page_both_free_and_reachable_is_found(path, broken):
    child = broken.branch.children[1]
    with open(path, "rb") as file:
        file.seek(broken.free * 4096)
        page = file.read(4096)
    count = int.from_bytes(page[10:12], "little")
    ids = page[16 : 16 + 8 * count] + child.to_bytes(8, "little") * 2
    new = page[:10] + (count + 2).to_bytes(2, "little") + page[12:16] + ids
    texts = [str(problem) for problem in broken(broken.free, new)]
    assert f"page {child}: already freed" in texts
    assert f"page {child}: reachable freed" in texts


def test_a_check_may_begin_at_a_page(path, broken):
    child = broken.branch.children[1]
    broken(child, encode_leaf(child, 0, [b"k", b"a"], [b"v", b"v"]))
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert len(tx.check(from_page=child)) == 1
        assert tx.check(from_page=broken.branch.children[2]) == []
        # One problem of its own and, from the root, those of its place.
        assert len(tx.check()) >= 1
        for outside in (0, 1, tx.high_water_mark, -1):
            assert "out of range [2," in str(tx.check(from_page=outside)[0])


def test_keys_in_messages_can_be_written_otherwise(broken, path):
    child = broken.branch.children[1]
    found = broken(child, encode_leaf(child, 0, [b"zzz"], [b"v"]))
    assert b"zzz".hex() in str(found[0])
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert "<b'zzz'>" in str(tx.check(format_key=lambda key: f"<{key!r}>")[0])


def test_a_check_ends_with_its_transaction(db):
    fill(db)
    tx = db.begin()
    tx.rollback()
    with pytest.raises(TxClosedError):
        tx.check()


# -- stats --


def test_the_stats_of_a_handle(db):
    assert db.stats().tx_n == 0
    fill(db)
    with db.view(), db.view() as tx:
        tx.cursor()
        assert db.stats().open_tx_n == 2
    stats = db.stats()
    assert (stats.tx_n, stats.open_tx_n) == (2, 0)
    assert stats.free_alloc == (stats.free_page_n + stats.pending_page_n) * 4096
    assert stats.freelist_inuse == 16 + 8 * (stats.free_page_n + stats.pending_page_n)
    work = stats.tx_stats
    assert work.page_alloc == work.page_count * 4096 > 0
    assert work.cursor_count == 1
    assert work.split > 10
    assert work.spill > work.split
    assert work.write >= 2
    assert work.write_time >= 0


def test_the_difference_of_two_stats_counts_what_lies_between(db):
    fill(db)
    before = db.stats()
    with db.update() as tx:
        tx.bucket(b"b")[b"00000"] = b"w"
        assert tx.stats().node_count > 0
    with db.view():
        pass
    less = db.stats() - before
    assert less.tx_n == 1
    assert 0 < less.tx_stats.spill < 10
    assert less.free_page_n == db.stats().free_page_n
    assert (db.stats() - db.stats()).tx_stats == TxStats()


def test_rebalancing_is_counted(db):
    fill(db)
    with db.update() as tx:
        tx.bucket(b"b").clear()
    assert db.stats().tx_stats.rebalance > 10


def test_without_statistics_all_numbers_are_zero(path):
    with shearbolt.open(path, statistics=False) as db:
        fill(db)
        assert db.stats() == Stats()


def test_info_describes_the_file(db, path):
    fill(db)
    info = db.info()
    assert info.path == path
    assert info.file_size == os.path.getsize(path)
    assert info.txid == 2
    assert info.page_size == 4096
    assert info.high_water_mark * 4096 <= info.file_size


def test_info_of_a_database_closed_meanwhile_says_that_it_is_closed(db, monkeypatch):
    kind = type(db.pager.file.raw)
    size = kind.size

    def closing(file):
        monkeypatch.undo()
        db.close()
        return size(file)

    monkeypatch.setattr(kind, "size", closing)
    with pytest.raises(DatabaseNotOpenError):
        db.info()


def test_the_stats_of_an_empty_bucket_that_is_inline(db):
    with db.update() as tx:
        tx.create_bucket(b"b")
    with db.view() as tx:
        assert tx.bucket(b"b").stats() == BucketStats(
            depth=1, bucket_n=1, inline_bucket_n=1, inline_bucket_inuse=16
        )


def test_the_stats_of_a_small_bucket(db):
    with db.update() as tx:
        tx.create_bucket(b"b")[b"foo"] = b"bar"
    with db.view() as tx:
        stats = tx.bucket(b"b").stats()
    assert stats.key_n == 1
    assert stats.inline_bucket_inuse == 16 + 16 + 6
    assert stats.leaf_page_n == stats.leaf_alloc == 0


def test_the_stats_of_a_tree(db):
    fill(db, 1000, size=20)
    with db.update() as tx:
        tx.bucket(b"b")[b"huge"] = b"v" * 10_000
    with db.view() as tx:
        stats = tx.bucket(b"b").stats()
    assert (stats.key_n, stats.depth, stats.branch_page_n) == (1001, 2, 1)
    assert stats.leaf_overflow_n == 2
    assert stats.branch_alloc == 4096
    assert stats.leaf_alloc == (stats.leaf_page_n + 2) * 4096
    assert stats.leaf_inuse == 16 * stats.leaf_page_n + 1001 * 16 + 1000 * 25 + 10_004
    assert not stats.uncommitted


def test_the_stats_of_nested_buckets_are_added_and_the_deepest_counts(db):
    with db.update() as tx:
        top = tx.create_bucket(b"top")
        for i in range(50):
            top[b"%02d" % i] = b"v"
        for i in range(3):
            child = top.create_bucket(b"child%d" % i)
            child[b"k"] = b"v" * (2000 if i else 1)
        child.create_bucket(b"grand")[b"k"] = b"v"
    with db.view() as tx:
        stats = tx.bucket(b"top").stats()
        assert stats == tx.bucket(b"top").stats()
        assert (stats.bucket_n, stats.inline_bucket_n) == (5, 2)
        assert stats.key_n == 50 + 3 + 3 + 1 + 1
        assert stats.depth == 3
        assert stats.leaf_page_n == 3
        assert (stats + stats).key_n == 2 * stats.key_n
        assert (stats + stats).depth == stats.depth


def test_the_stats_say_when_there_are_uncommitted_changes(db):
    fill(db)
    with db.update() as tx:
        top = tx.bucket(b"b")
        before = top.stats()
        assert not before.uncommitted
        top.create_bucket(b"inner")[b"k"] = b"v"
        assert top.stats().uncommitted
        assert top.stats().key_n == before.key_n


def test_structures_are_the_same_as_their_words_are():
    leaf, other = BucketStructure(b"a", 0), BucketStructure(b"a", 1)
    one = BucketStructure(b"b", 0, (leaf,))
    shapes = [leaf, other, one, BucketStructure(b"b", 0, (other,))]
    shapes += [BucketStructure(b"b", 0, (leaf, one)), BucketStructure(b"b", 0)]
    shapes += [BucketStructure(b"b", 0, (one, leaf)), BucketStructure(b"b", 0, (one,))]
    for this in shapes:
        assert eval(repr(this)) == this
        for that in shapes:
            assert (this == that) == (repr(this) == repr(that)) == (this is that)
    assert len({*shapes, *map(eval, map(repr, shapes))}) == len(shapes)
    assert leaf != (b"a", 0, ())
    assert repr(one) == (
        "BucketStructure(name=b'b', key_n=0, buckets=("
        "BucketStructure(name=b'a', key_n=0, buckets=()),))"
    )


def test_structures_deeper_than_python_recurses_are_compared_and_shown():
    def chain(end):
        made = BucketStructure(end, 7)
        for _ in range(5000):
            made = BucketStructure(b"n", 0, (made,))
        return made

    assert chain(b"x") == chain(b"x") != chain(b"y")
    assert hash(chain(b"x")) == hash(chain(b"x"))
    assert repr(chain(b"x")).count("key_n=0") == 5000


def test_the_structure_shows_names_counts_and_nesting(db):
    with db.update() as tx:
        a = tx.create_bucket(b"a")
        a[b"k"] = a[b"l"] = b"v"
        a.create_bucket(b"y").create_bucket(b"z")[b"k"] = b"v"
        a.create_bucket(b"x")
        tx.create_bucket(b"b")
        expected = BucketStructure(
            b"root",
            0,
            (
                BucketStructure(
                    b"a",
                    2,
                    (
                        BucketStructure(b"x", 0),
                        BucketStructure(b"y", 0, (BucketStructure(b"z", 1),)),
                    ),
                ),
                BucketStructure(b"b", 0),
            ),
        )
        assert tx.inspect() == expected
    with db.view() as tx:
        assert tx.inspect() == expected
        assert tx.bucket(b"a").inspect() == expected.buckets[0]


# -- pages --


def test_every_page_has_a_description(db):
    fill(db, 1000)
    fill(db, 10, b"c", 9000)
    with db.view() as tx:
        kinds = [tx.page(pgid) for pgid in range(tx.high_water_mark)]
        assert tx.page(tx.high_water_mark) is None
        assert tx.page(-1) is None
    assert [page.type for page in kinds[:2]] == ["meta", "meta"]
    assert {page.type for page in kinds} >= {"meta", "leaf", "branch", "freelist"}
    assert any(page.type == "free" for page in kinds)
    assert any(page.overflow_count for page in kinds)
    assert all(page.id == pgid for pgid, page in enumerate(kinds))
    with pytest.raises(TxClosedError):
        tx.page(2)


def test_free_pages_are_those_of_the_readers_version(db):
    fill(db, 1000)
    with db.view() as tx:
        known = [tx.page(pgid) for pgid in range(tx.high_water_mark)]
        for _ in range(3):
            fill(db, 1000, size=60)
        assert known[2:] == [tx.page(pgid) for pgid in range(2, tx.high_water_mark)]


def test_a_read_only_database_describes_pages_when_the_freelist_is_loaded(path):
    with shearbolt.open(path) as db:
        fill(db)
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        with pytest.raises(FreePagesNotLoadedError, match="preload_freelist=True"):
            tx.page(0)
        assert db.stats().free_page_n == 0
    with shearbolt.open(path, read_only=True, preload_freelist=True) as db:
        with db.view() as tx:
            assert tx.page(0) == PageInfo(0, "meta", 0, 0)
        assert db.stats().free_page_n > 0


# -- copies --


def copied(tx):
    target = io.BytesIO()
    assert tx.write_to(target) == tx.size == len(target.getvalue())
    return target.getvalue()


def test_a_copy_has_its_version_twice_under_neighbouring_txids(db, tmp_path):
    fill(db)
    name = tmp_path / "copy.db"
    with db.view() as tx:
        tx.copy_file(name)
        live = tx.meta
    data = name.read_bytes()
    metas = [Meta.decode(data[at + 16 : at + 80]) for at in (0, db.page_size)]
    assert metas == [live, live.with_txid(live.txid - 1)]
    assert [data[at : at + 8] for at in (0, db.page_size)] == [
        bytes(8),
        b"\1" + bytes(7),
    ]
    # Nobody else may read it.
    if sys.platform != "win32":
        assert name.stat().st_mode & 0o777 == 0o600


def test_a_copy_is_the_version_of_the_transaction(db, tmp_path):
    fill(db, 500)
    with db.view() as tx:
        fill(db, 1000)
        copy = copied(tx)
    target = tmp_path / "copy.db"
    target.write_bytes(copy)
    with shearbolt.open(target, read_only=True) as other, other.view() as tx:
        assert len(tx.bucket(b"b")) == 500
        assert tx.id == 2
        assert tx.check() == []
    with shearbolt.open(target) as other:
        fill(other, 600)


def test_both_metas_of_a_copy_describe_its_version(db):
    fill(db)
    with db.view() as tx:
        copy = copied(tx)
        metas = [
            shearbolt.pages.format.Meta.decode(copy[at : at + 64]) for at in (16, 4112)
        ]
        assert [meta.txid for meta in metas] == [tx.id, tx.id - 1]
        assert metas[0].with_txid(0) == metas[1].with_txid(0) == tx.meta.with_txid(0)


def test_copies_made_beside_a_writer_are_sound(db, tmp_path):
    fill(db, 300)
    over = threading.Event()

    def write():
        while not over.is_set():
            fill(db, 300, size=70)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(8):
            target = tmp_path / f"{i}.db"
            with db.view() as tx:
                tx.copy_file(target)
            with shearbolt.open(target, read_only=True) as other, other.view() as tx:
                assert tx.check() == []
                assert len(tx.bucket(b"b")) == 300
    finally:
        over.set()
        writer.join()


def test_a_copy_replaces_a_file_and_leaves_no_other(db, tmp_path):
    fill(db)
    target = tmp_path / "target"
    target.mkdir()
    name = target / "copy.db"
    name.write_bytes(b"old")
    with db.view() as tx:
        assert tx.copy_file(str(name), perm=0o640) == tx.size
    assert os.listdir(target) == ["copy.db"]
    shearbolt.open(name).close()


@pytest.mark.skipif(sys.platform == "win32", reason="no st_blocks there")
@pytest.mark.parametrize("ends", ["in a hole", "in data"])
def test_a_copy_of_a_sparse_file_is_the_same_bytes_and_as_sparse(path, tmp_path, ends):
    """Also when a meta says by damage that there are many pages."""
    with shearbolt.open(path, page_size=4096) as db:
        fill(db)
        with db.view() as tx:
            meta = tx._meta
    size = 64 << 20
    with open(path, "r+b") as file:
        for txid in (meta.txid, meta.txid + 1):
            grown = replace(meta, high_water_mark=size // 4096, txid=txid)
            file.seek(grown.slot * 4096)
            file.write(grown.encode_page(grown.slot))
        file.truncate(size)
        if ends == "in data":
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
    name = tmp_path / "copy.db"
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.copy_file(name) == size
        streamed = io.BytesIO()
        assert tx.write_to(streamed) == size
    assert name.read_bytes() == streamed.getvalue()
    assert name.read_bytes()[8192:] == Path(path).read_bytes()[8192:]
    assert name.stat().st_blocks * 512 < 4 << 20


def test_a_copy_passes_by_what_an_interrupted_one_left(db, tmp_path):
    left = tmp_path / f"copy.db.part-{os.getpid()}-0"
    left.write_bytes(b"left")
    with db.view() as tx:
        tx.copy_file(tmp_path / "copy.db")
    assert left.read_bytes() == b"left"
    shearbolt.open(tmp_path / "copy.db").close()


def test_a_database_is_not_copied_onto_itself(db, path, tmp_path):
    fill(db)
    os.link(path, tmp_path / "same")
    with db.view() as tx:
        for name in (path, tmp_path / "same"):
            with pytest.raises(OptionError, match="the database itself"):
                tx.copy_file(name)
    with db.view() as tx:
        assert tx.check() == []


def test_where_no_copy_can_be_the_error_is_typed(db, tmp_path):
    with db.view() as tx:
        with pytest.raises(StorageError):
            tx.copy_file(tmp_path / "absent" / "copy.db")
        with pytest.raises(StorageError):
            tx.copy_file(tmp_path)
    with pytest.raises(TxClosedError):
        tx.copy_file(tmp_path / "copy.db")
    with pytest.raises(TxClosedError):
        tx.write_to(io.BytesIO())


def test_a_copy_into_a_directory_that_is_not_there_says_so(db, tmp_path):
    with db.view() as tx, pytest.raises(StorageError) as caught:
        tx.copy_file(tmp_path / "absent" / "copy.db")
    # No database is missing: this is about the place for the copy.
    assert type(caught.value) is StorageError
    assert "the directory it should be made in does not exist" in str(caught.value)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.path == str(tmp_path / "absent" / "copy.db")


def test_a_copy_replaces_a_symbolic_link_and_not_what_it_leads_to(db, tmp_path):
    fill(db)
    (tmp_path / "old").write_bytes(b"precious")
    (tmp_path / "copy.db").symlink_to("old")
    with db.view() as tx:
        tx.copy_file(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").is_symlink()
    assert (tmp_path / "old").read_bytes() == b"precious"
    shearbolt.open(tmp_path / "copy.db").close()


def test_what_the_target_raises_comes_out(db):
    class Full:
        def write(self, _data):
            raise ZeroDivisionError

    with db.view() as tx, pytest.raises(ZeroDivisionError):
        tx.write_to(Full())


class Reluctant(io.BytesIO):
    """A raw file that takes so many bytes in one write, and so many in all."""

    def __init__(self, at_once, in_all, after=0):
        super().__init__()
        self.at_once, self.in_all, self.after = at_once, in_all, after

    def write(self, data):
        room = min(self.at_once, self.in_all - self.tell())
        return super().write(data[:room]) if room else self.after


@pytest.mark.parametrize("at_once", [1, 1000, 4096, 5000])
def test_a_target_that_takes_little_at_once_gets_the_whole_copy(at_once, db):
    fill(db)
    with db.view() as tx:
        target = Reluctant(at_once, 1 << 30)
        assert tx.write_to(target) == tx.size
        assert target.getvalue() == copied(tx)


@pytest.mark.parametrize("after", [0, None])
@pytest.mark.parametrize("room", [0, 4096, 9999])
def test_a_copy_that_is_cut_off_is_an_error_with_its_size(room, after, db):
    fill(db)
    with db.view() as tx:
        target = Reluctant(3000, room, after)
        with pytest.raises(StorageError, match=f"took {room} bytes") as caught:
            tx.write_to(target)
        assert caught.value.offset == room == len(target.getvalue())
        assert caught.value.operation == "write"
