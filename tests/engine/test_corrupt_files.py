"""A damaged file ends in a typed error that says where, and stays as it is.

The corpus has one file for each kind of damage, see `corpus/make.py`. What
follows it damages sound files in every place.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import sys
import tracemalloc
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import pytest

import shearbolt
from shearbolt import check, salvage
from shearbolt.export import records
from shearbolt.pagefile import PageFile, UnreadablePageError
from shearbolt.pages import encoding
from shearbolt.pages import format as fmt

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

from fuzz_inputs import CORPUS
from fuzz_memory import MemoryFile, MemoryStorage
from fuzz_parser import alarm, exercise_file, read_all

_spec = importlib.util.spec_from_file_location("make", CORPUS / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

PAGE = make.PAGE

C, I, S = "CorruptPageError", "InvalidDatabaseError", "ChecksumError"  # noqa: E741
CHECK, SOUND = "damage found by check", "sound"
DONE, LOSS, WHOLE = "done", "with losses", "nothing lost"

# What comes of the corpus: (read, salvage, write).
OUTCOMES = {
    "sound": (SOUND, WHOLE, "done, still sound"),
    "unsorted-keys": (C, WHOLE, C),
    "duplicate-keys": (C, WHOLE, C),
    # bbolt's surgery makes such pages on purpose, so they are read.
    "smaller-count": (SOUND, WHOLE, "done, still sound"),
    "count-65535": (C, WHOLE, C),
    "one-value-for-all": (C, LOSS, C),
    "larger-value-size": (C, LOSS, C),
    "overlapping-runs": (CHECK, WHOLE, C),
    "branch-of-itself": (C, LOSS, C),
    "branch-cycle": (C, LOSS, C),
    "shared-subtrees": (C, LOSS, C),
    "cycle-of-empty-leaves": (C, LOSS, C),
    "empty-leaf": (CHECK, WHOLE, DONE),
    "lost-branch": (C, LOSS, C),
    "bucket-in-itself": (CHECK, LOSS, C),
    "buckets-shared": (CHECK, LOSS, C),
    "bucket-at-meta": (C, LOSS, C),
    "bucket-at-freelist": (C, LOSS, C),
    "short-bucket": (C, LOSS, C),
    "inline-nest": (C, LOSS, C),
    "inline-branch": (C, LOSS, C),
    "last-txid": (I, LOSS, I),
    "huge-page-size": (I, LOSS, I),
    "large-page-size": (I, LOSS, I),
    "page-size-zero": (I, LOSS, I),
    "huge-high-water-mark": (I, WHOLE, I),
    "root-is-meta": (C, LOSS, C),
    "freelist-is-root": (CHECK, WHOLE, C),
    "freelist-huge-count": (CHECK, WHOLE, C),
    # The page is taken for a new root, and then the old one is freed.
    "freelist-with-root": (CHECK, WHOLE, C),
    "freelist-twice": (CHECK, WHOLE, C),
    "freelist-out-of-range": (CHECK, WHOLE, C),
    "both-metas": (S, LOSS, S),
    "no-metas": (I, LOSS, I),
}


def outcome(data: bytes) -> tuple[str, ...]:
    with alarm():
        signal.setitimer(signal.ITIMER_REAL, 10)
        try:
            found = exercise_file(data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return tuple(text.split(": ", 1)[1] for text in found)


def test_the_corpus_is_what_its_program_makes() -> None:
    made = {maker.__name__.replace("_", "-"): maker() for maker in make.MAKERS}
    there = {path.stem: path.read_bytes() for path in CORPUS.glob("*.db")}
    assert made.keys() == there.keys() == OUTCOMES.keys()
    assert made == there


@pytest.mark.parametrize("name", OUTCOMES)
def test_damage_ends_in_a_result_or_a_typed_error(name: str) -> None:
    assert outcome((CORPUS / f"{name}.db").read_bytes()) == OUTCOMES[name]


def test_an_error_names_page_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(make.larger_value_size())
    with (
        shearbolt.open(path, read_only=True) as db,
        db.view() as tx,
        pytest.raises(shearbolt.CorruptPageError) as caught,
    ):
        tx.bucket(b"b").get(b"a0")
    error = caught.value
    assert (error.pgid, error.path) == (4, str(path))
    # The second element of page 4: it does not begin where the first one ends.
    assert error.offset == 4 * PAGE + 16 + 16
    assert f"page 4 (offset {error.offset})" in str(error)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("writable", [False, True])
def test_a_walk_ends_where_leaves_are_out_of_order(tmp_path, reverse, writable) -> None:
    file = tmp_path / "shared.db"
    file.write_bytes((CORPUS / "shared-subtrees.db").read_bytes())
    side = "before" if reverse else "behind"
    with shearbolt.open(file, no_freelist_sync=True) as db, db.begin(writable) as tx:
        _, bucket = next(tx.buckets())
        with pytest.raises(shearbolt.CorruptPageError, match=f"is not {side} the leaf"):
            list(islice(bucket.items(reverse=reverse), 1000))


def test_a_write_that_meets_damage_leaves_the_file_readable(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    data = make.file(
        {
            3: make.leaf(3, {b"b": make.bucket(4), b"good": make.bucket(5)}),
            4: make.leaf(4, [(b"b", b""), (b"a", b"")]),
            5: make.leaf(5, {b"k": b"v"}),
        }
    )
    path.write_bytes(data)
    with shearbolt.open(path) as db:
        tx = db.begin(writable=True)
        tx.bucket(b"good").put(b"k", b"lost with the transaction")
        with pytest.raises(shearbolt.CorruptPageError):
            tx.bucket(b"b").put(b"c", b"")
        tx.rollback()
        # The handle works on: what is sound can be read and written.
        with db.update() as tx:
            assert tx.bucket(b"good")[b"k"] == b"v"
            tx.bucket(b"good").put(b"k2", b"v2")
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert dict(tx.bucket(b"good").items()) == {b"k": b"v", b"k2": b"v2"}


def used_bytes(data: bytes) -> list[int]:
    """Every byte of `make.sound()` that means something, content excepted.

    Nor the sizes of a leaf's last element, which are the only numbers in a page
    that nothing else confirms: a longer value there has zeros at its end.
    """
    places = [*range(16, 80), *range(PAGE + 16, PAGE + 80)]
    for pgid in range(2, len(data) // PAGE):
        header = fmt.Header.decode(data[pgid * PAGE :])
        last = 8 if header.flags == fmt.LEAF and header.count else 0
        places += range(pgid * PAGE, pgid * PAGE + 16 + 16 * header.count - last)
    return places


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_no_damaged_structure_goes_unnoticed(mask: int) -> None:
    data = make.sound()
    content = read_all(data).content
    noticed = 0
    for place in used_bytes(data):
        broken = bytearray(data)
        broken[place] ^= mask
        seen = read_all(bytes(broken))
        if seen.outcome == "sound":
            # Allowed where it changes nothing: one of two metas, bits of an
            # element's flags that mean nothing.
            assert seen.content == content, place
        else:
            noticed += 1
    assert noticed > 200


def test_a_file_cut_short_is_refused_and_left_alone(tmp_path: Path) -> None:
    data = make.sound()
    path = tmp_path / "short.db"
    for size in range(80, len(data), 128):
        path.write_bytes(data[:size])
        for read_only in (True, False):
            with pytest.raises(shearbolt.BoltError):
                shearbolt.open(path, read_only=read_only)
        assert path.read_bytes() == data[:size]


def test_nesting_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    depth = 1500
    assert depth > sys.getrecursionlimit()
    path = tmp_path / "deep.db"
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.root_bucket
            for _ in range(depth):
                bucket = bucket.create_bucket(b"in")
            bucket.put(b"k", b"v")
        with db.view() as tx:
            assert tx.check() == []
    with salvage.scan(path) as report:
        (pair,) = [e for e in report if isinstance(e, salvage.FoundPair)]
    assert pair.bucket.path == (b"in",) * depth
    result = salvage.repair(path, tmp_path / "out.db")
    assert (result.buckets, result.pairs, result.complete) == (depth, 1, True)
    with shearbolt.open(path, no_sync=True) as db:
        with db.update() as tx:
            tx.delete_bucket(b"in")
        with db.view() as tx:
            assert tx.check() == []


def test_a_chain_of_branches_deeper_than_any_tree() -> None:
    pages = {3: make.leaf(3, {b"b": make.bucket(4)})}
    for pgid in range(4, 104):
        pages[pgid] = make.branch(pgid, [(b"a", pgid + 1)])
    pages[104] = make.leaf(104, {b"a": b"1"})
    data = make.file(pages)
    assert outcome(data) == (C, LOSS, C)


def test_nested_inline_buckets_take_no_memory_squared() -> None:
    value = encoding.encode_inline_bucket(0, [b"k"], [b"v"])
    for _ in range(150):
        value = encoding.encode_inline_bucket(0, [b"i"], [value])
    run = make.leaf(3, {b"b": value}, overflow=(len(value) + 64) // PAGE)
    data = make.file({3: run})
    storage = MemoryStorage({"db": data})
    with (
        shearbolt.open("db", read_only=True, storage=storage) as db,
        db.view() as tx,
        pytest.raises(shearbolt.CorruptPageError, match="holds a bucket"),
    ):
        tx.bucket(b"b")


# -- more pages than bytes ---------------------------------------------------------

# A meta may say that there are any number of pages, and a sparse file have as many:
# 256 GiB of 1,024 bytes each, of which a few are there.
PAGES = 1 << 28
SHARED = {
    "a bucket in itself": {4: make.leaf(4, {b"again": make.bucket(4), b"k": b"v"})},
    "two buckets in each other": {
        4: make.leaf(4, {b"x": make.bucket(5)}),
        5: make.leaf(5, {b"y": make.bucket(4)}),
    },
    "a bucket that holds the root": {4: make.leaf(4, {b"root": make.bucket(3)})},
    "a bucket in itself, below a branch": {
        4: make.branch(4, [(b"a", 5), (b"m", 6)]),
        5: make.leaf(5, {b"b": make.bucket(4)}),
        6: make.leaf(6, {b"n": b"1"}),
    },
    "two ways at each of thirty levels": {
        **{
            4 + level: make.leaf(
                4 + level,
                {b"x": make.bucket(5 + level), b"y": make.bucket(5 + level)},
            )
            for level in range(30)
        },
        34: make.leaf(34, {b"k": b"v"}),
    },
    "buckets that share a leaf": {
        4: make.leaf(4, {b"%02d" % at: make.bucket(6 + at) for at in range(30)}),
        5: make.leaf(5, {b"z": b"1"}),
        **{6 + at: make.branch(6 + at, [(b"a", 5)]) for at in range(30)},
    },
    "a branch below itself, beside a leaf": {
        4: make.branch(4, [(b"a", 5), (b"m", 6)]),
        5: make.leaf(5, {b"a": b"1", b"b": b"2"}),
        6: make.branch(6, [(b"m", 4), (b"n", 4)]),
    },
    "empty leaves for ever": {
        4: make.branch(4, [(b"a0", 5), (b"m0", 6)]),
        5: make.branch(5, [(b"a0", 4), (b"b0", 6), (b"c0", 7)]),
        6: make.branch(6, [(b"m0", 4), (b"n0", 5), (b"o0", 7)]),
        7: make.leaf(7, {}),
    },
    "two ways to empty leaves, at each of thirty levels": {
        4: make.branch(4, [(b"a0", 6), (b"m0", 7)]),
        **{
            6 + 2 * level + side: make.branch(
                6 + 2 * level + side, [(b"a0", 8 + 2 * level), (b"m0", 9 + 2 * level)]
            )
            for level in range(30)
            for side in (0, 1)
        },
        66: make.leaf(66, {}),
        67: make.leaf(67, {}),
    },
    "a run over all others": {
        4: make._field(make.leaf(4, {b"k": b"v"}), 12, 4, PAGES - 10)
    },
}


def sparse(path: Path, pages: dict[int, bytes], end: int = PAGES, **how) -> Path:
    path.write_bytes(make.file(make._one_bucket() | pages, end=end, **how))
    os.truncate(path, end * PAGE)
    return path


@contextmanager
def bounded(seconds: float = 2.0, memory: int = 4_000_000):
    """What is done inside takes no longer, and no more bytes."""
    tracemalloc.start()
    with alarm():
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < memory
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            tracemalloc.stop()


def whole_walks(tx):
    """Everything that reads all there is below a bucket."""
    _, bucket = next(tx.buckets())
    yield "check", lambda: tx.check() or pytest.fail("the check overlooks it")
    yield "inspect", tx.inspect
    yield "stats", tx.root_bucket.stats
    yield "records", lambda: list(records(tx))
    yield "items", lambda: list(bucket.items())
    yield "backwards", lambda: list(bucket.items(reverse=True))
    yield "first", bucket.cursor().first
    yield "last", bucket.cursor().last


@pytest.mark.parametrize("damage", SHARED)
def test_every_walk_ends_with_the_pages_there_are(damage: str, tmp_path) -> None:
    path = sparse(tmp_path / "sparse.db", SHARED[damage])
    met = set()
    with shearbolt.open(path, read_only=True) as db, db.view() as tx, bounded():
        for name, walk in whole_walks(tx):
            try:
                walk()
            except shearbolt.CorruptPageError:
                met.add(name)
    assert {"inspect", "stats", "records"} <= met
    with shearbolt.open(path) as db, bounded():
        with db.begin(writable=True) as tx, pytest.raises(shearbolt.CorruptPageError):
            tx.delete_bucket(b"b")
        with db.begin(writable=True) as tx, pytest.raises(shearbolt.CorruptPageError):
            tx.inspect()
        with db.begin(writable=True) as tx, suppress(shearbolt.CorruptPageError):
            list(tx.bucket(b"b").items())
        with db.begin(writable=True) as tx, suppress(shearbolt.BoltError):
            tx.bucket(b"b").delete_many([b"a", b"b"])


def test_records_come_in_order_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "swapped.db"
    pages = {5: make.leaf(5, {b"m": b"1"}), 6: make.leaf(6, {b"a": b"2"})}
    pages[4] = make.branch(4, [(b"a", 5), (b"m", 6)])
    path.write_bytes(make.file(make._one_bucket() | pages))
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        for walk in (tx.inspect, lambda: list(records(tx))):
            with pytest.raises(shearbolt.CorruptPageError, match="not behind the leaf"):
                walk()


@pytest.mark.parametrize("metas", [True, False])
def test_salvage_looks_at_the_pages_there_are(metas: bool, tmp_path) -> None:
    pages = {4: make.branch(4, [(b"a0", 5), (b"m0", 6)]), 6: make.leaf(6, {b"m0": b""})}
    path = sparse(tmp_path / "sparse.db", pages)
    with path.open("r+b") as file:
        # A leaf that nobody leads to stands alone, far behind.
        file.seek(200_000_000 * PAGE)
        file.write(make.leaf(200_000_000, {b"a0": b"1"}))
        file.seek(0)
        file.write(b"" if metas else bytes(2 * PAGE))
    with bounded(), salvage.scan(path, page_size=PAGE) as report:
        found = {e.key for e in report if isinstance(e, salvage.FoundPair)}
    assert found == {b"a0", b"m0"}
    with bounded(memory=8_000_000):
        result = salvage.repair(path, tmp_path / "out.db")
    assert result.pairs == 2


def test_unused_pages_of_a_sparse_file_are_one_problem(tmp_path) -> None:
    path = sparse(tmp_path / "sparse.db", {4: make.leaf(4, {b"k": b"v"})})
    with shearbolt.open(path, read_only=True) as db, db.view() as tx, bounded():
        (problem,) = tx.check()
    assert str(problem) == (
        f"page 5: unreachable unfreed, and so are the {PAGES - 6} pages behind it"
    )


def test_of_many_unused_pages_runs_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(check, "_MOST_LISTED", 4)
    path = sparse(tmp_path / "x.db", {4: make.leaf(4, {}), 8: make.leaf(8, {})}, 14)
    with path.open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(encoding.encode_freelist(2, 0, [8, 10]))
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert [str(problem) for problem in tx.check()] == [
            *(f"page {pgid}: unreachable unfreed" for pgid in (5, 6, 7, 9)),
            "page 11: unreachable unfreed, and so are the 2 pages behind it",
        ]


def test_a_freelist_of_zeros_is_no_freelist(tmp_path) -> None:
    """A count of 2**34 ids, and a sparse file with room for them."""
    page = make.header(10, make.FREELIST, 0xFFFF, PAGES - 20)
    pages = {4: make.leaf(4, {b"k": b"v"}), 10: page + (1 << 34).to_bytes(8, "little")}
    path = sparse(tmp_path / "sparse.db", pages)
    with path.open("r+b") as file:
        for slot in (0, 1):
            file.seek(slot * PAGE)
            live = make.meta(freelist=10, end=PAGES, txid=2 - slot)
            file.write(live.encode_page(slot))
    with bounded(memory=12_000_000):
        with pytest.raises(shearbolt.CorruptPageError, match="zeros where"):
            shearbolt.open(path)
        with shearbolt.open(path, read_only=True) as db, db.view() as tx:
            assert any("zeros where" in str(problem) for problem in tx.check())
        with salvage.scan(path) as report:
            assert any(isinstance(entry, salvage.FoundPair) for entry in report)


def test_free_pages_that_nobody_has_written_are_damage(tmp_path) -> None:
    """Without a freelist all pages that nobody leads to are free: 2**28 ids."""
    path = sparse(tmp_path / "sparse.db", {4: make.leaf(4, {b"k": b"v"})})
    with path.open("r+b") as file:
        for slot in (0, 1):
            file.seek(slot * PAGE)
            live = make.meta(freelist=fmt.NO_FREELIST, end=PAGES, txid=2 - slot)
            file.write(live.encode_page(slot))
    with bounded():
        with pytest.raises(shearbolt.CorruptPageError, match="hole of the file"):
            shearbolt.open(path)
        with shearbolt.open(path, read_only=True) as db, db.view() as tx:
            assert tx.check() == []
            assert tx.bucket(b"b")[b"k"] == b"v"


def test_a_run_much_longer_than_its_content_is_damage(tmp_path) -> None:
    """Whoever deletes it would free, and whoever reads it count, all of its pages."""
    path = tmp_path / "long.db"
    for overflow, fits in ((17, True), (18, False)):
        page = make._field(make.leaf(4, {b"k": b"v"}), 12, 4, overflow)
        path.write_bytes(make.file(make._one_bucket(p4=page.ljust(30 * PAGE, b"\0"))))
        with shearbolt.open(path, read_only=True) as db, db.view() as tx:
            bucket = tx.bucket(b"b")
            if fits:
                assert bucket[b"k"] == b"v"
                continue
            with pytest.raises(shearbolt.CorruptPageError, match="its content takes 1"):
                bucket.get(b"k")


def test_a_raw_page_does_not_bring_a_hole_into_memory(tmp_path) -> None:
    path = sparse(tmp_path / "sparse.db", SHARED["a run over all others"])
    with PageFile(path) as file, bounded():
        with pytest.raises(UnreadablePageError, match="a hole of the file"):
            file.page(4)
        assert file.block(4)[:8] == b"\4" + bytes(7)


def test_memory_that_is_not_enough_is_a_typed_error(monkeypatch) -> None:
    """A value has up to 2 GiB, in a sparse file in no time."""

    class Large(MemoryFile):
        def pread(self, length: int, offset: int) -> bytes:
            if length > PAGE:
                raise MemoryError
            return super().pread(length, offset)

    page = make.leaf(4, {b"k": bytes(5000)}, overflow=4)
    monkeypatch.setattr("fuzz_memory.MemoryFile", Large)
    storage = MemoryStorage({"db": make.file(make._one_bucket(p4=page))})
    with shearbolt.open("db", read_only=True, storage=storage) as db, db.view() as tx:
        with pytest.raises(shearbolt.StorageError, match="not enough memory") as caught:
            tx.bucket(b"b").get(b"k")
        assert (caught.value.errno, caught.value.offset) == (errno.ENOMEM, 4 * PAGE)
    with salvage.scan("db", storage=storage) as report:
        assert any(
            isinstance(entry, salvage.Damage) and "memory" in entry.reason
            for entry in report
        )
