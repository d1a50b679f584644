"""What a commit keeps of the pages it has written: the same as the file says."""

import random
import tracemalloc
from itertools import pairwise

import pytest

import shearbolt
from shearbolt.pages import newpages
from shearbolt.pages.decoding import decode_leaf
from shearbolt.pages.encoding import encode_branch, encode_leaf, encode_moved
from shearbolt.pages.format import Branch, Leaf
from shearbolt.pages.freelist import make_freelist
from shearbolt.pages.newpages import EncodedLeaf
from shearbolt.pages.pagemap import PageMap
from shearbolt.storage import OSStorage
from shearbolt.tree.contents import LeafContent
from shearbolt.tree.whole import below


def test_a_moved_branch_is_the_branch_encoded_anew():
    rng = random.Random(1)
    keys = sorted({rng.randbytes(rng.randrange(1, 40)) for _ in range(90)})
    children = rng.sample(range(1000), len(keys))
    data = encode_branch(5000, 1, keys, children)
    places = [(0, 7000), (len(keys) - 1, 1 << 50), (41, 0)]
    for index, child in places:
        children[index] = child
    assert encode_moved(data, 6000, 2, places) == encode_branch(6000, 2, keys, children)


def test_a_commit_reads_nothing_that_this_handle_has_written(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b").put(b"k", b"")
        reads = []
        monkeypatch.setattr(db.pager.file, "raw", Counting(db.pager.file.raw, reads))
        for number in range(5):
            with db.update() as tx:
                tx.bucket(b"b").put(b"%d" % number, b"")
            # But the live meta, see `strangers`.
            assert reads == [(number % 2) * 4096 + 16]
            reads.clear()
        # Planted: a handle that forgets how long its freelist is.
        db.durable.note_freelist(-1, 0)
        with db.update() as tx:
            tx.bucket(b"b").put(b"k", b"")
        assert len(reads) == 2
    with shearbolt.open(path) as db, db.view() as tx:
        assert not tx.check()


class Counting:
    """A file that notes what is read."""

    def __init__(self, file, reads):
        self._file, self._reads = file, reads

    def pread(self, length, offset):
        self._reads.append(offset)
        return self._file.pread(length, offset)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("most", [0, 4, newpages._MOST_KEPT])
@pytest.mark.seeds(2)
def test_cached_pages_are_those_of_the_file_after_any_commits(
    tmp_path, monkeypatch, seed, most
):
    monkeypatch.setattr(newpages, "_MOST_KEPT", most)
    rng = random.Random(seed)
    branches = 0
    with shearbolt.open(tmp_path / "a.db", page_size=1024, no_sync=True) as db:
        for _ in range(60):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket.fill_percent = rng.choice([0.1, 0.5, 1.0])
                for _ in range(rng.choice([1, 1, 3, 60])):
                    key = b"%0*d" % (rng.choice([3, 3, 30]), rng.randrange(500))
                    if rng.random() < 0.3:
                        bucket.delete(key)
                    else:
                        bucket.put(key, bytes(rng.randrange(100)))
                if rng.random() < 0.2:
                    bucket.create_bucket_if_not_exists(rng.randbytes(2)).put(b"k", b"")
            mark = db.info().high_water_mark
            with db.view() as tx:
                trees = [each for each, _ in below(tx.root_bucket, PageMap())]
                runs = [run for tree in trees for run in tree._tree(PageMap())]
                pages = [tx.load(pgid) for pgid, _ in runs]
            for kept in pages:
                pgid = kept.pgid
                read = db.pager.read_page(pgid, mark)
                for name in ("keys", "values", "children", "overflow", "has_buckets"):
                    assert getattr(kept, name) == getattr(read, name)
                if isinstance(kept, Branch):
                    branches += 1
                    data = db.pager.file.read(pgid * 1024, len(kept.data))
                    assert kept.data in (b"", data)
                else:
                    assert kept.cost == read.cost
    assert branches > 50


def test_a_large_commit_leaves_its_leaves_to_the_file(tmp_path):
    pairs = [(b"%06d" % number, b"first") for number in range(60_000)]
    with shearbolt.open(tmp_path / "a.db", page_size=1024, no_sync=True) as db:
        for step in range(5):
            with db.update() as tx:
                if step:
                    tx.delete_bucket(b"b")
                tx.create_bucket(b"b").update((key, b"%d" % step) for key, _ in pairs)
            young = db.pager.young
            new = [young.get(pgid) for pgid in range(db.info().high_water_mark)]
            counted = sum(page.cost for page in filter(None, new))
            # Branches that were replaced are counted until the cache is full.
            assert counted <= db.pager.spent < counted + 4_000_000
            # All of them are read, so the commits to come find what they replace.
            with db.view() as tx:
                assert set(tx.bucket(b"b").values()) == {b"%d" % step}
                leaves = tx.bucket(b"b").stats().leaf_page_n
            assert leaves > newpages._MOST_KEPT
            assert sum(page is not None and page.is_leaf for page in new) < 3 * leaves


@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_leaf_of_just_some_pages_is_kept_with_as_many(pages, beyond, tmp_path):
    # A leaf has two pairs: 16 bytes, 16 and a key of 8 for each, and these.
    values = [b"v" * (512 * pages - 32), b"v" * (512 * pages - 32 + beyond)]
    with shearbolt.open(tmp_path / "a.db", page_size=1024, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            bucket.update((b"%08d" % i, values[i % 2]) for i in range(128))
        with db.view() as tx:
            root = tx.load(tx.bucket(b"b").root)
            leaves = [
                db.pager.young[pgid] for pgid in tx.load(root.children[0]).children
            ]
            assert {type(leaf) for leaf in leaves} == {EncodedLeaf}
            assert {leaf.overflow for leaf in leaves} == {pages - (beyond <= 0)}
            for leaf in leaves:
                assert leaf.overflow == db.pager.header(leaf.pgid, 1 << 20).overflow


def test_pages_left_to_the_file_are_in_no_generation_of_the_cache(tmp_path):
    with shearbolt.open(tmp_path / "a.db", no_sync=True) as db:
        pager = db.pager
        for pgid in range(100, 105):
            pager.keep(Leaf(pgid, 0, (), (), 500))
        pager._old, pager.young = pager.young, {}
        for pgid in range(103, 108):
            pager.keep(Leaf(pgid, 0, (), (), 500))
        spent = pager.spent
        pager.forget_all([101, 104, 107, 900])
        assert {101, 104, 107}.isdisjoint(pager.young)
        assert {101, 104, 107}.isdisjoint(pager._old)
        assert 100 in pager._old
        assert 106 in pager.young
        assert pager.spent == spent - 3 * 500


@pytest.mark.seeds(1)
def test_pages_are_written_alike_one_by_one_and_together(seed):
    for number in range(36 * seed, 36 * (seed + 1)):
        with pytest.MonkeyPatch.context() as patch:
            written_together(random.Random(number), patch)


def written_together(rng, monkeypatch):
    pages = object.__new__(newpages.NewPages)
    pages.page_size = 100
    pages.encoded = {}
    pages._long_list = None
    pgid = 2
    large = rng.choice([[99], [100], [100, 101, 250]])
    gaps = rng.choice([0, 0.003])
    for _ in range(rng.choice([1, 10, 3000])):
        size = rng.choice([30, 30, 99]) if rng.random() < 0.99 else rng.choice(large)
        pages.encoded[pgid] = rng.randbytes(size)
        pgid += -(-size // 100) + (rng.random() < gaps)
    together = list(pages._contiguous())
    for (start, run), (behind, _) in pairwise(together):
        # As many as may be in one call.
        neighbours = 100 * start + len(b"".join(run)) == 100 * behind
        assert not neighbours or len(run) >= newpages._MAX_RUN - 1
    monkeypatch.setattr(newpages.NewPages, "_singles", lambda *_: None)
    assert list(pages._contiguous()) == together
    written = bytearray(100 * pgid)
    for start, run in together:
        data = b"".join(run)
        assert len(run) <= newpages._MAX_RUN
        assert len(data) % 100 == 0
        assert not any(written[100 * start : 100 * start + len(data)])
        written[100 * start : 100 * start + len(data)] = data
    for one, data in pages.encoded.items():
        assert written[100 * one :].startswith(data)
    assert sum(map(bool, written)) == sum(
        sum(map(bool, data)) for data in pages.encoded.values()
    )


def test_no_call_gets_more_buffers_than_the_system_takes(tmp_path):
    lengths = []

    class Counting:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def pwritev(self, buffers, offset):
            lengths.append(len(buffers))
            return self._file.pwritev(buffers, offset)

    def open_file(path, /, **how):
        return Counting(OSStorage().open(path, **how))

    with shearbolt.open(str(tmp_path / "a.db"), open_file=open_file) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"a")
            for number in range(4000):
                bucket.put(b"%08d" % number, bytes(1000))
        assert db.begin().check() == []
    assert 512 < max(lengths) <= 1024


def by_pairs(self, pages, cuts):
    """As `LeafContent.write`, page by page from pairs."""
    pgids = []
    for first, end, size in cuts:
        values = self.pairs.values(first, end)
        pgids.append(pages.write_leaf(self.pairs.keys[first:end], values, size))
    return [self.pairs.keys[first] for first, _, _ in cuts], pgids


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("sizes", [(20,), (0, 7, 300), (5, 3000)])
def test_a_large_leaf_is_written_as_pair_by_pair(
    tmp_path, monkeypatch, sizes, ordered, alike, together
):
    """The same bytes as from pairs that are encoded page by page."""
    files = []
    for write in (LeafContent.write, by_pairs):
        monkeypatch.setattr(LeafContent, "write", write)
        path = tmp_path / f"{len(files)}.db"
        rng = random.Random(4)
        longest = 1 if alike else 2
        names = [b"%07d" % i * rng.randint(1, longest) for i in range(2500)]
        if ordered:
            names.sort()
        else:
            rng.shuffle(names)
        pairs = [(name, rng.randbytes(rng.choice(sizes))) for name in names]
        with (
            shearbolt.open(path, page_size=1024, no_sync=True) as db,
            db.update() as tx,
        ):
            bucket = tx.create_bucket(b"b")
            if together:
                bucket.update(pairs)
            else:
                for pair in pairs:
                    bucket.put(*pair)
                # Keys that come again, and one that goes and comes.
                bucket.put(names[7], b"again")
                bucket.delete(names[9])
                bucket.put(names[9], b"back")
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_a_leaf_that_is_looked_into_by_two_at_once_is_the_same_for_both(monkeypatch):
    keys, values = (b"a", b"b"), (b"1", b"22")
    leaf = EncodedLeaf(7, 0, 2, 400, encode_leaf(7, 0, keys, values))
    seen = []

    def decode(*arguments):
        page = decode_leaf(*arguments)
        if not seen:
            # Another thread comes while this one is decoding.
            seen.append(None)
            seen[0] = leaf.values, leaf.keys
        return page

    monkeypatch.setattr(newpages, "decode_leaf", decode)
    assert (leaf.keys, leaf.values) == (keys, values)
    assert seen == [(values, keys)]
    assert (leaf.is_leaf, leaf.pgid, leaf.overflow, leaf.cost) == (True, 7, 0, 400)
    assert not leaf.has_buckets
    assert leaf.pairs is None
    assert not hasattr(leaf, "nonsense")


# -- long freelists --


def with_free_pages(path, count):
    """A file with so many free pages, made by a sequence of commits."""
    with shearbolt.open(path, page_size=1024, no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"free").update(
                {b"%06d" % number: bytes(700) for number in range(count)}
            )
            tx.create_bucket(b"b").put(b"k", b"")
        with db.update() as tx:
            tx.delete_bucket(b"free")
        for number in range(4):
            with db.update() as tx:
                tx.bucket(b"b").put(b"k", b"%d" % number)
                # Pages behind the freelist's own, and before them.
                tx.bucket(b"b").put(b"v", bytes(3000 * number))
        # Also from the pages' point of view: to the end, and no further.
        with db.view() as tx:
            assert not tx.check()
    return path.read_bytes()


@pytest.mark.parametrize("count", [*range(1130, 1264, 19), 3000])
def test_a_freelist_written_in_pieces_is_the_same_as_at_once(
    count, tmp_path, monkeypatch
):
    # Of one to several pages each, and with the last one full, or just begun.
    known = with_free_pages(tmp_path / "whole.db", count)
    for size in (1024, 3000, 4096):
        monkeypatch.setattr(newpages, "_PIECE", size)
        lists = []
        pieces = newpages.NewPages._freelist_pieces

        def seen(self, *args, pieces=pieces, lists=lists):
            lists.append(list(pieces(self, *args)))
            return iter(lists[-1])

        monkeypatch.setattr(newpages.NewPages, "_freelist_pieces", seen)
        assert with_free_pages(tmp_path / f"{size}.db", count) == known
        monkeypatch.setattr(newpages.NewPages, "_freelist_pieces", pieces)
        assert max(map(len, lists)) > 1
        assert all(len(b"".join(run)) % 1024 == 0 for one in lists for _, run in one)


@pytest.mark.parametrize("kind", ["array", "hashmap"])
def test_a_commit_makes_no_copy_of_a_long_freelist(kind, tmp_path):
    """Of 1.6 MB. Of one of 8 MB the copies are 6,000 page faults, every time."""
    with shearbolt.open(tmp_path / "a.db", no_sync=True) as db:
        with db.update() as tx:
            tx.create_bucket(b"b").put(b"k", b"")
        # Far behind the last page, where the list itself will be.
        ids = list(range(10_000, 410_000, 2))
        db.load_freelist(make_freelist(kind, ids))
        for number in range(2):
            with db.update() as tx:
                tx.bucket(b"b").put(b"k", b"%d" % number)
                tracemalloc.start()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 8 * len(ids)
        assert len(db.freelist) > 199_000
