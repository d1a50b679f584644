"""Wide reads: fewer of them, and never another answer than exact ones."""

import errno
import random

import pytest

import shearbolt
from shearbolt.errors import CorruptPageError, StorageError
from shearbolt.pages.pager import Pager
from shearbolt.pages.window import Window
from shearbolt.storage import OSStorage

PAGE = 1024
PIECE = 8 * PAGE


class Exact:
    """A file of the machine that counts reads and can refuse some."""

    def __init__(self, file):
        self._file = file
        self.reads = []
        self.bad = None
        self.most = 1 << 30
        self.hole = range(0)

    def __getattr__(self, name):
        if name == "read_ahead":
            raise AttributeError
        return getattr(self._file, name)

    def pread(self, length, offset, /):
        self.reads.append((offset, length))
        if (
            self.bad is not None
            and offset < self.bad + PAGE
            and offset + length > self.bad
        ):
            raise OSError(errno.EIO, "bad sector")
        length = min(length, self.most)
        if offset < self.hole.stop and offset + length > self.hole.start:
            length = max(0, self.hole.start - offset)
        return self._file.pread(length, offset)


class Wide(Exact):
    read_ahead = PIECE


class Machine(OSStorage):
    def __init__(self, kind):
        self.kind = kind

    def open(self, path, /, **options):
        self.file = self.kind(super().open(path, **options))
        return self.file


def key(number):
    return b"%05d" % number


@pytest.fixture
def filled(path):
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db, db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(2000):
            bucket.put(key(i), b"value %d" % i)
    return path


def opened(path, kind, **options):
    machine = Machine(kind)
    db = shearbolt.open(path, storage=machine, **options)
    machine.file.reads.clear()
    return db, machine.file


def pages_of(tx):
    stats = tx.bucket(b"b").stats()
    return stats.leaf_page_n + stats.branch_page_n


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_reads_pieces_and_a_file_without_read_ahead_is_read_exactly(
    filled, reverse
):
    counts = {}
    numbers = range(2000)[:: -1 if reverse else 1]
    for kind in (Wide, Exact):
        db, file = opened(filled, kind)
        with db, db.view() as tx:
            # Not the view: `list` asks that for its length, and so reads forwards.
            found = list(iter(tx.bucket(b"b").keys(reverse=reverse)))
            assert found == [key(i) for i in numbers]
            counts[kind] = len(file.reads)
            longest = max(length for _, length in file.reads)
            pages = pages_of(tx)
        if kind is Exact:
            assert longest < PAGE
            assert counts[kind] >= 3 * pages
        else:
            assert longest == PIECE
    assert counts[Wide] < pages / 3


def test_a_get_reads_no_more_than_its_pages(filled):
    db, file = opened(filled, Wide)
    with db, db.view() as tx:
        bucket = tx.bucket(b"b")
        for number in (1500, 20, 900, 400):
            file.reads.clear()
            assert bucket.get(key(number)) == b"value %d" % number
            assert len(file.reads) <= 4
            assert {length for _, length in file.reads} == {PAGE}


@pytest.mark.parametrize("most", [1, 100, PAGE + 17])
def test_short_reads_are_made_up_for(filled, most):
    db, file = opened(filled, Wide)
    file.most = most
    with db, db.view() as tx:
        assert len(tx.bucket(b"b")) == 2000


def test_an_unreadable_page_does_not_hide_its_neighbours(filled):
    with shearbolt.open(filled) as db, db.view() as tx:
        bucket = tx.bucket(b"b")
        lost = next(
            page
            for page in (bucket._leaf(key(i)) for i in range(600, 2000))
            if page.keys[0] > key(1000)
        )
    db, file = opened(filled, Wide)
    file.bad = lost.pgid * PAGE
    with db, db.view() as tx:
        bucket = tx.bucket(b"b")
        found = []
        with pytest.raises(StorageError):
            len(bucket)
        for name in bucket:
            found.append(name)
            if name == key(int(lost.keys[0]) - 1):
                break
        assert found == [key(i) for i in range(int(lost.keys[0]))]
        after = int(lost.keys[-1]) + 1
        assert list(bucket.keys(key(after))) == [key(i) for i in range(after, 2000)]


@pytest.mark.parametrize("behind", [8, 20, 300, 400])
def test_a_file_that_ends_inside_a_page_is_damaged_there(filled, behind):
    """Inside the header, the table and the content of a page like those before."""
    with shearbolt.open(filled) as db, db.view() as tx:
        last = tx.bucket(b"b")._leaf(key(1500)).pgid
    found = []
    for kind in (Exact, Wide):
        db, file = opened(filled, kind, read_only=True)
        file.hole = range(last * PAGE + behind, (last + 1) * PAGE)
        with db, db.view() as tx, pytest.raises(CorruptPageError) as error:
            list(tx.bucket(b"b").items(key(1000)))
        found.append((str(error.value), error.value.offset))
    assert found[0] == found[1]


def test_pieces_from_before_a_commit_are_not_used_after_it(path):
    class Whole(Wide):
        read_ahead = 200 * PAGE

    rng = random.Random(9)
    model = {}
    # Nothing stays in the cache, so that every page is read again and again.
    db, file = opened(path, Whole, cache_size=1, no_sync=True, page_size=PAGE)
    with db:
        with db.update() as tx:
            tx.create_bucket(b"b")
        for version in range(60):
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                for number in rng.sample(range(300), 20):
                    model[key(number)] = b"%d" % version * rng.randrange(1, 9)
                    bucket.put(key(number), model[key(number)])
            with db.view() as tx:
                assert list(tx.bucket(b"b").items()) == sorted(model.items())
    assert sum(length > PAGE for _, length in file.reads) > 60


def test_the_piece_that_ends_with_a_page_begins_in_the_file():
    class File:
        def pread(self, length, offset, /):
            assert offset >= 0
            return bytes(range(8))[offset : offset + length]

    window = Window(File(), 1, 4)
    for offset in (6, 5, 4, 3, 2, 1, 0, 7, 5, 4, 1, 2, 3):
        data, at = window.around(offset)
        assert data[at] == offset


def test_a_write_while_a_piece_is_read_makes_it_useless():
    class File:
        content = bytes(4 * PAGE)
        disturbed = True

        def pread(self, length, offset, /):
            data = self.content[offset : offset + length]
            if self.disturbed:
                # Another thread writes after the bytes were fetched.
                self.content = b"\1" * 4 * PAGE
                window.written()
            return data

    file = File()
    window = Window(file, PAGE, 4 * PAGE)
    window.around(0)
    file.content = bytes(4 * PAGE)
    data, at = window.around(PAGE)
    assert len(data) > PAGE
    assert data[at : at + PAGE] == bytes(PAGE)
    file.disturbed = False
    for offset in (2 * PAGE, PAGE):
        data, at = window.around(offset)
        assert data[at : at + PAGE] == b"\1" * PAGE


def test_a_write_that_fails_halfway_counts(filled):
    class Failing(Wide):
        def pwritev(self, buffers, offset, /):
            self._file.pwritev([b"".join(buffers)[:100]], offset)
            raise OSError(errno.ENOSPC, "full")

    db, file = opened(filled, Failing)
    with db:
        pager = db.pager
        pager._window.around(10 * PAGE)
        pager._window.around(11 * PAGE)
        content = file._file.pread(PAGE, 12 * PAGE)
        with pytest.raises(StorageError):
            pager.write(12 * PAGE, [b"x" * PAGE])
        data, at = pager._window.around(12 * PAGE)
        assert data[at : at + 100] == b"x" * 100
        file._file.pwritev([content], 12 * PAGE)


# -- leaves that a long walk has decoded together --


def leaves_of(db):
    """The leaves in the cache, by page."""
    return {pgid: page for pgid, page in db.pager.young.items() if page.is_leaf}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_long_walk_takes_in_what_was_read_with_its_pages(
    filled, reverse, monkeypatch
):
    single = []
    real = Pager._from_file

    def from_file(self, pgid, high_water_mark):
        single.append(pgid)
        return real(self, pgid, high_water_mark)

    monkeypatch.setattr(Pager, "_from_file", from_file)
    numbers = range(2000)[:: -1 if reverse else 1]
    db, _ = opened(filled, Wide)
    with db, db.view() as tx:
        pairs = iter(tx.bucket(b"b").items(reverse=reverse))
        assert list(pairs) == [(key(i), b"value %d" % i) for i in numbers]
        assert 3 * len(single) < len(leaves_of(db))
        assert db.pager.spent == sum(page.cost for page in db.pager.young.values())


def test_a_short_range_decodes_only_the_leaves_it_meets(filled):
    with shearbolt.open(filled) as db, db.view() as tx:
        bucket = tx.bucket(b"b")
        met = {bucket._leaf(key(i)).pgid for i in range(700, 800)}
    assert len(met) > 3
    db, _ = opened(filled, Wide)
    with db, db.view() as tx:
        assert len(list(tx.bucket(b"b").items(key(700), key(800)))) == 100
        assert len(set(leaves_of(db)) - met) <= 2  # the top-level bucket, one behind


DAMAGE = {
    "another page's number": lambda page: bytes([page[0] ^ 1]) + page[1:],
    "no leaf": lambda page: page[:8] + b"\1\0" + page[10:],
    "overflow": lambda page: page[:12] + b"\xff\xff\0\0" + page[16:],
    "more elements": lambda page: page[:10] + b"\xff\xff" + page[12:],
    "an element elsewhere": lambda page: page[:52] + b"\xee" + page[53:],
    "keys out of order": lambda page: page.replace(b"01501", b"01499", 1),
    "a key twice": lambda page: page.replace(b"01501", b"01500", 1),
    "a bucket": lambda page: page[:16] + b"\1" + page[17:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_with_a_leaf_is_said_when_the_walk_comes_to_it(filled, damage):
    with shearbolt.open(filled) as db, db.view() as tx:
        bucket = tx.bucket(b"b")
        pgid = next(
            leaf.pgid
            for leaf in (bucket._leaf(key(i)) for i in (1500, 1501))
            if {key(1500), key(1501)} <= set(leaf.keys)
        )
    with open(filled, "r+b") as file:
        file.seek(pgid * PAGE)
        page = file.read(PAGE)
        damaged = DAMAGE[damage](page)
        assert len(damaged) == PAGE
        assert damaged != page
        file.seek(pgid * PAGE)
        file.write(damaged)
    seen = []
    for kind in (Exact, Wide):
        found, said = [], None
        db, _ = opened(filled, kind, read_only=True)
        with db, db.view() as tx:
            try:
                for pair in tx.bucket(b"b").items():
                    found.append(pair)  # noqa: PERF402 - until the error
            except CorruptPageError as error:
                said = (str(error), error.pgid, error.offset)
            assert pgid not in leaves_of(db) or damage == "a bucket"
        seen.append((found, said))
    assert seen[0] == seen[1]
    assert (said is None) == (damage == "a bucket")
    assert len(found) > 1400


def test_what_is_in_the_cache_is_not_decoded_again(filled):
    db, _ = opened(filled, Wide)
    with db, db.view() as tx:
        bucket = tx.bucket(b"b")
        for number in range(0, 2000, 150):
            assert bucket.get(key(number))
        before = leaves_of(db)
        assert len(list(bucket.items())) == 2000
        after = leaves_of(db)
        assert len(after) > 3 * len(before)
        assert all(after[pgid] is page for pgid, page in before.items())
        assert db.pager.spent == sum(page.cost for page in db.pager.young.values())


def test_a_full_cache_takes_in_nothing(filled, monkeypatch):
    db, _ = opened(filled, Wide, cache_size=8 * PAGE)
    with db, db.view() as tx:
        bucket = tx.bucket(b"b")
        assert len(list(bucket.items())) == 2000

        def decode(*_):
            raise AssertionError("the cache is full")

        monkeypatch.setattr("shearbolt.pages.pager.decode_usual_leaves", decode)
        assert len(list(bucket.items())) == 2000
        kept = [*db.pager.young.values(), *db.pager._old.values()]
        assert sum(page.cost for page in kept) <= 8 * PAGE


def test_only_pages_of_the_readers_version_are_taken_in_and_of_the_file_as_it_is(
    filled,
):
    db, _ = opened(filled, Wide)
    with db, db.view() as tx:
        pager, mark = db.pager, tx.meta.high_water_mark
        assert len(list(tx.bucket(b"b").items(key(0), key(400)))) == 400
        leaves = sorted(leaves_of(db))[-16:]
        pager.clear()
        pager._window.around(leaves[0] * PAGE)
        pager._window.around(leaves[1] * PAGE)
        pager.take_in(leaves, leaves[4])
        assert leaves_of(db).keys() == set(leaves[1:4])
        pager._window.written()
        pager.take_in(leaves, mark)
        assert leaves_of(db).keys() == set(leaves[1:4])
        pager._window.around(leaves[1] * PAGE)
        pager._window.around(leaves[2] * PAGE)
        pager.take_in(leaves, mark)
        assert len(leaves_of(db)) > 4
