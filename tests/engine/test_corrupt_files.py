"""A damaged file ends in a typed error that says where, and stays as it is.

The corpus has one file for each kind of damage, see `corpus/make.py`. What
follows it damages sound files in every place.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from itertools import islice
from pathlib import Path

import pytest

import shearbolt
from shearbolt import salvage
from shearbolt.pages import encoding
from shearbolt.pages import format as fmt

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

from fuzz_inputs import CORPUS
from fuzz_memory import MemoryStorage
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
    "freelist-with-root": (CHECK, WHOLE, DONE),
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
