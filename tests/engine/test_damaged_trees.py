"""Damage inside a tree: found by the check, met with a typed error, never spread.

A database with a deep tree, nested and inline buckets is damaged in one page in
every way that a page can be wrong. Then everything is done to it that a program
can do. Each step works or raises `CorruptPageError`, and ends.
"""

import struct
from itertools import islice, pairwise

import pytest

import shearbolt
from shearbolt import CorruptPageError
from shearbolt.pages.encoding import encode_branch, encode_leaf
from shearbolt.pages.format import BucketValue, Header, Leaf, Meta
from shearbolt.pages.pager import MAX_DEPTH

PAGE = 1024
KEYS = [b"%06d" % i for i in range(0, 4000, 2)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(bytes of the file, pages of the tree of b"b" by level, the root leaf)."""
    path = str(tmp_path_factory.mktemp("sound") / "x.db")
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for key in KEYS:
                bucket[key] = b"v" * 20
            bucket.create_bucket(b"000100-inline")[b"k"] = b"v"
            bucket.create_bucket(b"000200-large")[b"k"] = b"v" * 3000
            tx.create_bucket(b"c")[b"k"] = b"v" * 3000
        with db.view() as tx:
            levels = [[tx.load(tx.bucket(b"b").root)]]
            while not levels[-1][0].is_leaf:
                levels.append([tx.load(c) for p in levels[-1] for c in p.children])
            root = tx.load(tx.meta.root)
            assert len(levels) == 3
    with open(path, "rb") as file:
        return file.read(), levels, root


def written(page, keys=None, others=None):
    """The page's bytes with other keys, and other values or children."""
    keys = page.keys if keys is None else keys
    if isinstance(page, Leaf):
        values = page.values if others is None else others
        return encode_leaf(page.pgid, page.overflow, keys, values)
    children = page.children if others is None else others
    # The encoder refuses a page that is its own child; here it is wanted.
    data = encode_branch(1 << 60, page.overflow, keys, children)
    return struct.pack("<Q", page.pgid) + data[8:]


def header(page, **change):
    fields = {"pgid": page.pgid, "flags": 2 if page.is_leaf else 1}
    fields |= {"count": len(page.keys), "overflow": page.overflow}
    return Header(**(fields | change)).encode() + written(page)[16:]


def swapped(items):
    return [items[1], items[0], *items[2:]]


def bucket_for(page, value):
    return [BucketValue(value), *page.values[1:]] if page.is_leaf else page.children


# How a page is damaged; None when that means nothing for this page.
DAMAGES = {
    "zeros": lambda p: bytes(PAGE),
    "noise": lambda p: bytes(range(256)) * 4,
    "wrong id": lambda p: header(p, pgid=p.pgid + 1),
    "wrong type": lambda p: header(p, flags=0x10),
    "two types": lambda p: header(p, flags=3),
    "other type": lambda p: header(p, flags=1 if p.is_leaf else 2),
    "no elements": lambda p: not p.is_leaf and header(p, count=0),
    "too many elements": lambda p: header(p, count=0xFFFF),
    "one more element": lambda p: header(p, count=len(p.keys) + 1),
    "huge overflow": lambda p: header(p, overflow=0xFFFFFFFF),
    "overflow into the next": lambda p: header(p, overflow=1),
    "unordered": lambda p: written(p, swapped(p.keys)),
    "a key twice": lambda p: written(p, [p.keys[1], *p.keys[1:]]),
    "keys of another place": lambda p: written(p, [b"zz" + k for k in p.keys]),
    "keys before their place": lambda p: written(p, [b"!" + k for k in p.keys]),
    "own child": lambda p: (
        not p.is_leaf and written(p, None, [p.pgid, *p.children[1:]])
    ),
    "a child twice": lambda p: (
        not p.is_leaf and written(p, None, [p.children[1], *p.children[1:]])
    ),
    "children swapped": lambda p: (
        not p.is_leaf and written(p, None, swapped(p.children))
    ),
    "a child outside": lambda p: (
        not p.is_leaf and written(p, None, [1 << 40, *p.children[1:]])
    ),
    "a meta as child": lambda p: (
        not p.is_leaf and written(p, None, [0, *p.children[1:]])
    ),
    "a short bucket": lambda p: p.is_leaf and written(p, None, bucket_for(p, b"short")),
    "a bucket outside": lambda p: (
        p.is_leaf and written(p, None, bucket_for(p, struct.pack("<QQ", 1 << 40, 0)))
    ),
    "a bucket that is its own page": lambda p: (
        p.is_leaf and written(p, None, bucket_for(p, struct.pack("<QQ", p.pgid, 0)))
    ),
}


# What only the check can see: no step needs the bytes that are wrong.
HARMLESS_TO_READ = {
    "keys of another place",
    "keys before their place",
    "overflow into the next",
    "children swapped",
    # As a root it is bbolt's way to say empty (bbolt #1170).
    "no elements",
}


def everything(path):
    """All that can be done to a database, one step at a time, in turn."""

    def reading(call):
        def step():
            with shearbolt.open(path, read_only=True) as db, db.view() as tx:
                call(tx, tx.bucket(b"b"))

        return step

    def writing(call):
        def step():
            with shearbolt.open(path, no_sync=True) as db, db.update() as tx:
                call(tx, tx.bucket(b"b"))

        return step

    def walk(cursor, first, step):
        pair = getattr(cursor, first)()
        count = 0
        while pair and count < 10_000:
            pair = getattr(cursor, step)()
            count += 1

    yield reading(lambda _, b: [b.get(key) for key in KEYS[::7]])
    yield reading(lambda _, b: list(b.items()))
    yield reading(lambda _, b: list(b.items(b"0005", b"0030", reverse=True)))
    yield reading(lambda _, b: list(b.items(reverse=True)))
    yield reading(lambda _, b: walk(b.cursor(), "first", "next"))
    yield reading(lambda _, b: walk(b.cursor(), "last", "prev"))
    yield reading(lambda _, b: [b.cursor().seek(key) for key in KEYS[::50]])
    yield reading(lambda tx, b: (b.stats(), tx.inspect()))
    yield writing(lambda _, b: [b.put(key, b"w") for key in KEYS[::97]])
    yield writing(lambda _, b: [b.delete(key) for key in KEYS[100:300]])
    yield writing(lambda _, b: [b.delete(key) for key in KEYS[::2]])
    yield writing(lambda tx, _: tx.delete_bucket(b"b"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("level", range(3))
def test_a_damaged_page_is_reported_and_met_with_typed_errors(
    sound, tmp_path, damage, level
):
    content, levels, _ = sound
    page = levels[level][len(levels[level]) // 3]
    data = DAMAGES[damage](page)
    if not data:
        return
    path = str(tmp_path / "x.db")
    content = bytearray(content)
    content[page.pgid * PAGE : (page.pgid + 1) * PAGE] = data.ljust(PAGE, b"\0")[:PAGE]
    with open(path, "wb") as file:
        file.write(content)
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        problems = tx.check()
    assert problems
    assert all(problem.offset == problem.pgid * PAGE for problem in problems)
    raised = 0
    for step in everything(path):
        with open(path, "wb") as file:
            file.write(content)
        try:
            step()
        except CorruptPageError as error:
            raised += error.path == path
        except shearbolt.BucketNotFoundError:
            # The way to the bucket led elsewhere.
            raised += 1
    if damage not in HARMLESS_TO_READ:
        assert raised


def moves(cursor, first, step):
    pair = getattr(cursor, first)()
    while pair:
        yield pair
        pair = getattr(cursor, step)()


# In a write transaction a range is read by other code. From a key behind the last one
# of a leaf `seek` goes on to the next leaf.
WALKS = {
    "first and next": lambda bucket: moves(bucket.cursor(), "first", "next"),
    "last and prev": lambda bucket: moves(bucket.cursor(), "last", "prev"),
    "seek": lambda bucket: (bucket.cursor().seek(key + b"0") for key in KEYS),
    "items": lambda bucket: iter(bucket.items()),
    "items reversed": lambda bucket: reversed(bucket.items()),
}


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("walk", WALKS)
def test_a_key_is_not_given_by_two_leaves(sound, tmp_path, walk, writable):
    content, levels, _ = sound
    # Neighbours below one branch, which is not the first.
    branch = levels[1][len(levels[1]) // 2]
    left, right = (p for p in levels[2] if p.pgid in branch.children[:2])
    twice = written(right, [left.keys[-1], *right.keys[1:]])
    path = str(tmp_path / "x.db")
    with open(path, "wb") as file:
        file.write(content)
        file.seek(right.pgid * PAGE)
        file.write(twice)
    with shearbolt.open(path, no_sync=True) as db:
        tx = db.begin(writable)
        with pytest.raises(CorruptPageError, match=r"its (first|last) key is not"):
            # No more than that, should it go on for ever.
            list(islice(WALKS[walk](tx.bucket(b"b")), 2 * len(KEYS)))
        tx.rollback()


# What is asked of a bucket with the keys b"a" and b"c"; what is done to it, and how
# many pairs there are then.
READS = {
    "get": lambda b: [b.get(b"a"), b.get(b"b"), b.get(b"c")] == [b"1", None, b"3"],
    "first": lambda b: b.cursor().first() == (b"a", b"1"),
    "last": lambda b: b.cursor().last() == (b"c", b"3"),
    "seek": lambda b: b.cursor().seek(b"b") == (b"c", b"3"),
    "items": lambda b: list(b.items()) == [(b"a", b"1"), (b"c", b"3")],
    "reversed": lambda b: list(reversed(b)) == [b"c", b"a"],
}
WRITES = {
    "put": (lambda b: b.put(b"b", b"2"), 3),
    "delete": (lambda b: b.delete(b"a"), 1),
    "delete many": (lambda b: b.delete_many([b"a", b"b", b"c"] * 30), 0),
    "create": (lambda b: b.create_bucket(b"b"), 2),
    "clear": (lambda b: b.clear(), 0),
}


def chained(sound, path, branches):
    """A file whose bucket b"b" has branches of one child each, and then a leaf."""
    content, levels, _ = sound
    way = [levels[0][0].pgid, *(leaf.pgid for leaf in levels[2])][: branches + 1]
    with open(path, "wb") as file:
        file.write(content)
        for pgid, child in pairwise(way):
            file.seek(pgid * PAGE)
            file.write(encode_branch(pgid, 0, [b"a"], [child]))
        file.seek(way[-1] * PAGE)
        file.write(encode_leaf(way[-1], 0, [b"a", b"c"], [b"1", b"3"]))


@pytest.mark.parametrize("branches", [1, 2, MAX_DEPTH])
def test_branches_with_one_child_are_gone_through(sound, tmp_path, branches):
    path = str(tmp_path / "x.db")
    chained(sound, path, branches)
    for read in READS.values():
        with shearbolt.open(path, no_sync=True) as db:
            with db.view() as tx:
                assert read(tx.bucket(b"b"))
            with db.update() as tx:
                assert read(tx.bucket(b"b"))
    for write, left in WRITES.values():
        chained(sound, path, branches)
        with shearbolt.open(path, no_sync=True) as db:
            with db.update() as tx:
                write(tx.bucket(b"b"))
            with db.view() as tx:
                assert len(tx.bucket(b"b")) == left


@pytest.mark.parametrize("use", [*READS, *WRITES])
def test_a_tree_is_followed_down_to_a_depth_and_no_further(sound, tmp_path, use):
    path = str(tmp_path / "x.db")
    chained(sound, path, MAX_DEPTH + 1)
    call = READS[use] if use in READS else WRITES[use][0]
    with shearbolt.open(path, no_sync=True) as db:
        for begin in [db.view, db.update] if use in READS else [db.update]:
            with pytest.raises(CorruptPageError, match="deeper than"), begin() as tx:
                call(tx.bucket(b"b"))


def test_the_check_is_silent_about_what_is_sound(sound, tmp_path):
    path = str(tmp_path / "x.db")
    with open(path, "wb") as file:
        file.write(sound[0])
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.check() == []
    for step in everything(path):
        step()


def test_a_damaged_freelist_is_reported_by_the_check(sound, tmp_path):
    content = bytearray(sound[0])
    metas = [Meta.decode(bytes(content[at : at + 64])) for at in (16, PAGE + 16)]
    live = max(metas, key=lambda meta: meta.txid)
    path = str(tmp_path / "x.db")
    for at, data, text in [
        (8, b"\2", "freelist: a leaf page instead"),
        (10, b"\xff\xfe", "freelist: "),
        (16, b"\xff" * 8, "out of range [2,"),
        (16, bytes(8), "out of range [2,"),
    ]:
        damaged = content.copy()
        place = live.freelist * PAGE + at
        damaged[place : place + len(data)] = data
        with open(path, "wb") as file:
            file.write(damaged)
        with shearbolt.open(path, read_only=True) as db, db.view() as tx:
            assert any(text in str(problem) for problem in tx.check())


def test_a_bucket_within_an_inline_bucket_is_reported(tmp_path):
    inner = struct.pack("<QQ", 0, 0) + encode_leaf(
        0, 0, [b"x"], [BucketValue(struct.pack("<QQ", 3, 0))]
    )
    path = str(tmp_path / "x.db")
    shearbolt.open(path, page_size=PAGE).close()
    with open(path, "r+b") as file:
        file.seek(3 * PAGE)
        file.write(encode_leaf(3, 0, [b"b"], [BucketValue(inner)]))
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        (problem,) = tx.check()
        assert "inline bucket that holds a bucket" in str(problem)
        assert problem.path == (b"b",)


def test_an_inline_bucket_with_a_key_twice_is_not_changed(tmp_path):
    inline = struct.pack("<QQ", 0, 0) + encode_leaf(0, 0, [b"k", b"k"], [b"1", b"2"])
    path = str(tmp_path / "x.db")
    shearbolt.open(path, page_size=PAGE).close()
    with open(path, "r+b") as file:
        file.seek(3 * PAGE)
        file.write(encode_leaf(3, 0, [b"b"], [BucketValue(inline)]))
    with (
        shearbolt.open(path) as db,
        db.update() as tx,
        pytest.raises(CorruptPageError, match="a key stands in the page twice"),
    ):
        tx.bucket(b"b")[b"l"] = b"3"


def test_a_tree_without_freelist_is_not_opened_for_writing_when_damaged(
    sound, tmp_path
):
    path = str(tmp_path / "x.db")
    with open(path, "wb") as file:
        file.write(sound[0])
    with shearbolt.open(path, no_freelist_sync=True) as db, db.update():
        pass
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        page = tx.load(tx.bucket(b"b").root).children[0]
    with open(path, "r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(PAGE))
    with pytest.raises(CorruptPageError):
        shearbolt.open(path)
    shearbolt.open(path, read_only=True).close()


def test_a_file_that_shrinks_under_its_readers_is_an_error_not_a_crash(sound, tmp_path):
    path = str(tmp_path / "x.db")
    with open(path, "wb") as file:
        file.write(sound[0])
    options = {"read_only": True, "preload_freelist": True}
    with shearbolt.open(path, **options) as db, db.view() as tx:
        # The free pages are known from here on.
        assert tx.page(30)
        with open(path, "r+b") as file:
            file.truncate(2 * PAGE + 20)
        with pytest.raises(CorruptPageError, match="ends inside"):
            list(tx.bucket(b"b"))
        with pytest.raises(CorruptPageError, match="page 30"):
            tx.page(30)
        with pytest.raises(CorruptPageError, match="ends"):
            tx.copy_file(tmp_path / "copy.db")
        assert tx.check() != []
