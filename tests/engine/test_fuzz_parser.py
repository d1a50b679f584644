"""The fuzzer finds nothing in the parsers, and would find what is planted there.

A slice of `ci/fuzz_parser.py`, the same inputs every time. Long runs are made
with the command; docs/corrupt-files.md has their numbers.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from pathlib import Path

import pytest

import shearbolt
from shearbolt.pages import decoding, pager
from shearbolt.pages import format as fmt
from shearbolt.salvage import walk
from shearbolt.tree import ranges

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import fuzz_parser
from fuzz_inputs import CORPUS
from fuzz_memory import MemoryStorage
from fuzz_parser import Fuzzer, Tally, alarm, exercise_file, exercise_page, time_limit

# A slice a sixth as long shows each of the faults planted below.
PAGES = 6_000
FILES = 150


@pytest.fixture(scope="module")
def fuzzer() -> Fuzzer:
    return Fuzzer(seed=20, file_every=40)


def run(fuzzer: Fuzzer, numbers) -> Tally:
    tally = Tally()
    with alarm():
        for number in numbers:
            fuzzer.one(number, tally)
    return tally


def in_time(data: bytes, seconds: float = 5.0) -> tuple[str, ...]:
    """`exercise_file`, ended as a `Hang` when it takes too long."""
    with alarm(), time_limit(seconds):
        return exercise_file(data)


def page_numbers(count: int):
    return (number for number in range(count) if number % 40)


def file_numbers(count: int):
    return range(0, 40 * count, 40)


def test_no_damaged_page_gets_past_the_parsers(fuzzer: Fuzzer) -> None:
    tally = run(fuzzer, page_numbers(PAGES))
    assert tally.failures == []
    # Both ways out were taken, often.
    assert tally.outcomes["page: decoded"] > PAGES // 10
    assert tally.outcomes["page: FormatError"] > PAGES // 10


def test_no_damaged_file_gets_past_the_engine(fuzzer: Fuzzer) -> None:
    tally = run(fuzzer, file_numbers(FILES))
    assert tally.failures == []
    for outcome in (
        "read: sound",
        "read: CorruptPageError",
        "read: InvalidDatabaseError",
        "read: damage found by check",
        "salvage: with losses",
        "salvage: nothing lost",
        "write: CorruptPageError",
        "write: done, still sound",
    ):
        assert tally.outcomes[outcome], outcome
    assert tally.measured


def test_an_input_is_its_number(fuzzer: Fuzzer) -> None:
    again = Fuzzer(seed=20, file_every=40)
    for number in (0, 1, 40, 41, 4000):
        assert fuzzer.input(number) == again.input(number)
    assert fuzzer.input(1) != Fuzzer(seed=21, file_every=40).input(1)


def test_any_bytes_are_an_input() -> None:
    rng = random.Random(5)
    for size in range(120):
        fuzz_parser.fuzz_one_input(b"\0" + rng.randbytes(size))
        fuzz_parser.fuzz_one_input(b"\1" + rng.randbytes(20 * size))


# -- planted faults: without these checks the slice must fail ----------------------


def test_notices_a_missing_bounds_check(fuzzer: Fuzzer, monkeypatch) -> None:
    original = decoding.decode_leaf

    def unbounded(pgid, count, overflow, read, limit):
        def padded(start, length):
            there = max(0, min(length, limit - start))
            return (read(start, there) if there else b"").ljust(length, b"\0")

        return original(pgid, count, overflow, padded, limit + 8192)

    monkeypatch.setattr(decoding, "decode_leaf", unbounded)
    tally = run(fuzzer, page_numbers(2000))
    assert any("leaves the page" in what for _, what in tally.failures)


def test_notices_positions_that_are_not_compared(fuzzer: Fuzzer, monkeypatch) -> None:
    def trusting(pgid, count, overflow, read, limit):
        # Sizes alone say where everything is, so why look at positions?
        table = struct.unpack(f"<{4 * count}I", read(16, 16 * count))
        at, keys, values = 16 + 16 * count, [], []
        for index in range(count):
            flags, _, key_size, value_size = table[4 * index : 4 * index + 4]
            if at + key_size + value_size > limit:
                raise fmt.FormatError("the last element ends behind the page", 16)
            keys.append(read(at, key_size))
            value = read(at + key_size, value_size)
            values.append(fmt.BucketValue(value) if flags & 1 else value)
            at += key_size + value_size
        return fmt.Leaf(pgid, overflow, keys, values, has_buckets=False, cost=0)

    def decode_leaf(pgid, count, overflow, read, limit):
        if 16 + 16 * count > limit:
            raise fmt.FormatError("too many elements", 10)
        return trusting(pgid, count, overflow, read, limit)

    monkeypatch.setattr(decoding, "decode_leaf", decode_leaf)
    tally = run(fuzzer, page_numbers(2000))
    assert any("other elements than" in what for _, what in tally.failures)


def test_notices_an_unbounded_freelist(fuzzer: Fuzzer, monkeypatch) -> None:
    def unbounded(count, read, limit):
        if count == 0xFFFF:
            (count,) = struct.unpack("<Q", read(16, 8))
        return [0] * min(count, 1 << 20)

    monkeypatch.setattr(decoding, "decode_freelist", unbounded)
    tally = run(fuzzer, page_numbers(400))
    assert any("more free pages" in what for _, what in tally.failures)


def test_unsorted_keys_would_be_missed_without_a_word(monkeypatch) -> None:
    data = (CORPUS / "unsorted-keys.db").read_bytes()

    def look_up() -> bytes | None:
        storage = MemoryStorage({"db": data})
        database = shearbolt.open("db", read_only=True, storage=storage)
        with database as db, db.view() as tx:
            return tx.bucket(b"b").get(b"b")

    with pytest.raises(shearbolt.CorruptPageError):
        look_up()
    monkeypatch.setattr(pager, "lt", lambda *_: True)
    assert look_up() is None


def test_a_tree_that_leads_to_a_leaf_twice_would_go_on_for_ever(monkeypatch) -> None:
    data = (CORPUS / "shared-subtrees.db").read_bytes()
    assert in_time(data)[0] == "read: CorruptPageError"
    for direction in ("forward", "backward"):
        monkeypatch.setattr(ranges._Order, direction, lambda self, leaf: None)
    # Reads have the same check written out, so they take the way of writes here.
    monkeypatch.setattr(ranges, "_committed", ranges._changing)
    with pytest.raises(fuzz_parser.Hang):
        in_time(data, seconds=0.5)


def test_notices_pages_salvaged_twice(monkeypatch) -> None:
    data = (CORPUS / "branch-of-itself.db").read_bytes()
    assert in_time(data)[1] == "salvage: with losses"
    monkeypatch.setattr(walk, "USED", 0)
    with pytest.raises(fuzz_parser.Wrong, match="salvaged from a file"):
        in_time(data)


def test_notices_damage_that_the_checker_overlooks(monkeypatch) -> None:
    data = (CORPUS / "overlapping-runs.db").read_bytes()
    assert in_time(data)[0] == "read: damage found by check"
    monkeypatch.setattr(shearbolt.Tx, "check", lambda self: [])
    with pytest.raises(fuzz_parser.Wrong, match="not for a write"):
        in_time(data)


def _busy(data: bytes) -> str:
    while True:
        pass


def _waiting(data: bytes) -> str:
    time.sleep(30)
    return ""


@pytest.mark.parametrize("how", [_busy, _waiting])
def test_notices_a_hang(fuzzer: Fuzzer, monkeypatch, how) -> None:
    monkeypatch.setattr(fuzz_parser, "SECONDS_AN_INPUT", 0.05)
    monkeypatch.setattr(fuzz_parser, "exercise_page", how)
    tally = run(fuzzer, [1])
    assert tally.failures[0][1] == f"Hang: not done in time, and {how.__name__[1:]}"


def test_notices_memory_beyond_the_limit(fuzzer: Fuzzer, monkeypatch) -> None:
    monkeypatch.setattr(
        fuzz_parser, "exercise_file", lambda data, repair: [bytes(64 << 20)[:1].hex()]
    )
    tally = run(fuzzer, [0])
    assert "bytes of memory" in tally.failures[0][1]


def test_the_naive_decoder_agrees_on_sound_pages(fuzzer: Fuzzer) -> None:
    decoded = 0
    for page in fuzzer.runs:
        if page[8] in (fmt.LEAF, fmt.BRANCH):
            decoded += exercise_page(page) == "page: decoded"
    assert decoded > 100
