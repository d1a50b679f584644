"""Leaves that are taken together: the file is the one that leaf by leaf gives."""

import random
import struct

import pytest

import shearbolt
from shearbolt import CorruptPageError
from shearbolt.pages.encoding import encode_branch, encode_leaf
from shearbolt.tree import deletions, leafrun
from shearbolt.tree import tree as trees
from shearbolt.tree.deletions import NEVER
from shearbolt.tree.leafrun import LeafRun

PAGE = 1024
USUAL = deletions.patience


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """The first delete is gathered, and leaves are taken together for one."""

    def patience(tree, key):
        return NEVER if USUAL(tree, key) == NEVER else 0

    monkeypatch.setattr(trees, "patience", patience)
    monkeypatch.setattr(deletions, "_FEW", 1 << 20)


@pytest.fixture
def taken(monkeypatch):
    """How many branches had their leaves taken together."""
    found = []
    right = LeafRun.take_out

    def take_out(self, *given):
        found.append(self)
        return right(self, *given)

    monkeypatch.setattr(LeafRun, "take_out", take_out)
    return found


def one_by_one(monkeypatch):
    monkeypatch.setattr(LeafRun, "read", lambda *_: False)


# -- the same bytes ---------------------------------------------------------------


def program(path, seed):
    """The file after random transactions that delete much."""
    rng = random.Random(seed)
    wide = rng.choice([6, 6, 6, 200])  # Of long keys a branch has few.
    names = [b"%0*d" % (wide, number) for number in range(rng.choice([60, 400, 1500]))]
    sizes = rng.choice([(20,), (0, 20, 300), (20, 20, 20, 2000), (400,)])
    states = []
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        for _ in range(rng.randrange(2, 6)):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket.fill_percent = rng.choice([0.5, 0.5, 0.2, 1.0])
                for key in rng.sample(names, rng.randrange(1, len(names))):
                    bucket.put(key, rng.randbytes(rng.choice(sizes)))
            if rng.random() < 0.5:
                db.pager.clear()
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                bucket.fill_percent = rng.choice([0.5, 0.5, 0.2, 1.0])
                for _ in range(rng.choice([0, 0, 1, 30])):
                    bucket.put(rng.choice(names), rng.randbytes(rng.choice(sizes)))
                # Of everything, of a stretch, or all but a few.
                first = rng.randrange(len(names))
                end = rng.choice([len(names), first + 30, first + 300])
                doomed = rng.choice([names, names[first:end], names[5:]])
                step = rng.choice([1, 1, 2, 3, 7])
                for key in doomed[:: rng.choice([step, -step])]:
                    bucket.delete(key)
            with db.view() as tx:
                assert tx.check() == []
                states.append(dict(tx.bucket(b"b").items()))
    with open(path, "rb") as file:
        return file.read(), states


@pytest.mark.seeds(8)
def test_the_file_is_the_same_to_the_byte(seed, tmp_path, monkeypatch, taken):
    together = program(tmp_path / "together.db", seed)
    # Of more seeds there are programs that delete too little.
    assert taken or seed >= 40
    one_by_one(monkeypatch)
    assert program(tmp_path / "alone.db", seed) == together


def of_long_keys(path, seed):
    """A deep tree: branches of two and three children, which merge all the time."""
    rng = random.Random(seed)
    names = [b"%0200d" % number for number in range(400)]
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for name in names:
                bucket.put(name, bytes(100))
        with db.update() as tx:
            for name in rng.sample(names, 250):
                tx.bucket(b"b").delete(name)
        with db.view() as tx:
            assert tx.check() == []
    with open(path, "rb") as file:
        return file.read()


LONG_KEYS = (3, 6, 26, 27, 30, 33, 0, 1)


@pytest.mark.parametrize("seed", LONG_KEYS)
def test_leaves_merge_as_if_all_had_lost_their_keys_before(seed, tmp_path, monkeypatch):
    gathered = of_long_keys(tmp_path / "gathered.db", seed)
    monkeypatch.setattr(trees, "patience", lambda *_: NEVER)
    assert of_long_keys(tmp_path / "at-once.db", seed) == gathered


def test_a_branch_that_is_taken_in_before_its_turn_is_seen(tmp_path, monkeypatch):
    """Planted: its leaves keep their keys until they have merged."""
    right = [of_long_keys(tmp_path / f"{seed}.db", seed) for seed in LONG_KEYS]
    monkeypatch.setattr(deletions.AtCommit, "come_first", lambda *_: None)
    wrong = [of_long_keys(tmp_path / f"{seed}-.db", seed) for seed in LONG_KEYS]
    assert right != wrong


def drained(path, keep):
    """A tree three levels high of which whole branches go."""
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for number in range(4000):
                bucket.put(b"%06d" % number, bytes(40))
        with db.update() as tx:
            for number in range(4000):
                if not keep(number):
                    tx.bucket(b"b").delete(b"%06d" % number)
        with db.view() as tx:
            assert tx.check() == []
            left = list(tx.bucket(b"b"))
    assert left == [b"%06d" % number for number in range(4000) if keep(number)]
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "keep",
    [
        lambda number: False,
        lambda number: number == 0,
        lambda number: number == 3999,
        lambda number: number in {1000, 1001, 3000},
        lambda number: not 400 <= number < 3600,
        lambda number: not number % 30,
        lambda number: number % 30,
        lambda number: number < 2000 or not number % 50,
        lambda number: number > 2000 or not number % 50,
    ],
    ids=["none", "first", "last", "few", "ends", "sparse", "dense", "left", "right"],
)
def test_branches_that_vanish_vanish_as_leaf_by_leaf(keep, tmp_path, monkeypatch):
    together = drained(tmp_path / "together.db", keep)
    one_by_one(monkeypatch)
    assert drained(tmp_path / "alone.db", keep) == together


def test_what_was_changed_before_is_taken_along(tmp_path, monkeypatch, taken):
    """Leaves that are nodes: with a pair more, less, or too much for a page."""

    def changed(path):
        with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
            with db.update() as tx:
                bucket = tx.create_bucket(b"b")
                for number in range(600):
                    bucket.put(b"%06d" % number, bytes(40))
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                bucket.put(b"000100+", b"new")
                for number in range(40):
                    bucket.put(b"000300+%02d" % number, bytes(100))
                bucket.put(b"000400+", bytes(5000))
                for number in range(0, 600, 2):
                    bucket.delete(b"%06d" % number)
            with db.view() as tx:
                assert tx.check() == []
                assert len(tx.bucket(b"b")) == 342
        with open(path, "rb") as file:
            return file.read()

    together = changed(tmp_path / "together.db")
    assert taken
    one_by_one(monkeypatch)
    assert changed(tmp_path / "alone.db") == together


# -- what is not quickly said -----------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """A file with a tree two levels high, and the pages of its leaves."""
    path = tmp_path / "x.db"
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for number in range(300):
                bucket.put(b"%06d" % number, bytes(20))
        with db.view() as tx:
            root = tx.load(tx.bucket(b"b").root)
            return path, root, [tx.load(pgid) for pgid in root.children]


def rewritten(path, pgid, data):
    with open(path, "r+b") as file:
        file.seek(pgid * PAGE)
        file.write(data.ljust(PAGE, b"\0"))


def halved(path):
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            for number in range(0, 300, 2):
                tx.bucket(b"b").delete(b"%06d" % number)
        with db.view() as tx:
            return tx.check(), list(tx.bucket(b"b"))


def field(page, form, at, value):
    """A leaf's bytes with one field of the page changed."""
    data = bytearray(encode_leaf(page.pgid, 0, page.keys, page.values))
    struct.pack_into(form, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("form", "at", "value"),
    [
        ("<Q", 0, 3),
        ("<H", 8, 0x04),
        ("<H", 10, 0xFFFF),
        ("<I", 12, 1 << 20),
        ("<I", 24, 5),
        ("<I", 20, 5),
    ],
    ids=["stamp", "kind", "count", "overflow", "size", "position"],
)
def test_a_damaged_leaf_ends_the_commit_with_its_page(form, at, value, tree):
    path, _, leaves = tree
    rewritten(path, leaves[3].pgid, field(leaves[3], form, at, value))
    before = path.read_bytes()
    with pytest.raises(CorruptPageError) as caught:
        halved(path)
    assert caught.value.pgid == leaves[3].pgid
    assert path.read_bytes() == before


def test_keys_that_are_out_of_order_end_it_too(tree):
    path, _, leaves = tree
    keys = [leaves[3].keys[1], leaves[3].keys[0], *leaves[3].keys[2:]]
    data = encode_leaf(leaves[3].pgid, 0, keys, leaves[3].values)
    rewritten(path, leaves[3].pgid, data)
    with pytest.raises(CorruptPageError, match="order") as caught:
        halved(path)
    assert caught.value.pgid == leaves[3].pgid


def test_a_key_in_the_wrong_leaf_is_not_taken_for_one_that_is_looked_for(tree):
    """Whoever looks for it goes elsewhere: it stays, as when leaf by leaf is done."""
    path, _, leaves = tree
    keys = (*leaves[3].keys[:-1], leaves[4].keys[2])
    data = encode_leaf(leaves[3].pgid, 0, keys, leaves[3].values)
    rewritten(path, leaves[3].pgid, data)
    with shearbolt.open(path, no_sync=True) as db, db.begin(True) as tx:
        bucket = tx.bucket(b"b")
        run = LeafRun(bucket, None, *tree_of(bucket))
        assert not run.read(b"", None)


def tree_of(bucket):
    root = bucket.root_element()
    return root.keys, root.children


def test_a_sound_tree_is_taken_together(tree):
    """Without this the test above could pass without saying anything."""
    path, _, _ = tree
    with shearbolt.open(path, no_sync=True) as db, db.begin(True) as tx:
        bucket = tx.bucket(b"b")
        assert LeafRun(bucket, None, *tree_of(bucket)).read(b"", None)


@pytest.mark.parametrize(
    ("begin", "end", "taken"),
    [
        (b"000000", b"000299+", True),
        (b"000000+", None, False),
        (b"", b"000299", False),
    ],
)
def test_keys_outside_of_what_is_looked_for_below_a_branch_are_noticed(
    begin, end, taken, tree
):
    path, _, _ = tree
    with shearbolt.open(path, no_sync=True) as db, db.begin(True) as tx:
        bucket = tx.bucket(b"b")
        assert LeafRun(bucket, None, *tree_of(bucket)).read(begin, end) == taken


@pytest.mark.parametrize("other", [3, 5])
def test_a_leaf_that_stands_in_a_branch_twice_is_refused(other, tree):
    path, root, leaves = tree
    children = [*root.children]
    children[4] = leaves[other].pgid
    rewritten(path, root.pgid, encode_branch(root.pgid, 0, root.keys, children))
    with pytest.raises(CorruptPageError):
        halved(path)


def test_no_more_shapes_are_remembered_than_there_may_be():
    shapes = leafrun._shapes
    shapes.clear()
    for size in range(600):
        table = struct.pack("<4I", 0, 16, 1, size)
        assert leafrun._shape(1, table) is not None
        assert len(shapes) <= 512
    count = 300
    table = encode_leaf(7, 0, [b"%04d" % i for i in range(count)], [b""] * count)
    assert leafrun._shape(count, table[16 : 16 + 16 * count]) is None


def test_a_table_is_no_shape_when_it_is_damaged_or_names_buckets():
    good = struct.pack("<8I", 0, 32, 1, 2, 0, 19, 1, 2)
    assert leafrun._shape(2, good) is not None
    assert leafrun._shape(2, good[:-1]) is None
    assert leafrun._shape(2, struct.pack("<8I", 0, 32, 1, 2, 1, 19, 1, 2)) is None
    assert leafrun._shape(2, struct.pack("<8I", 0, 32, 1, 2, 0, 20, 1, 2)) is None
    assert leafrun._shape(0, b"") is None
