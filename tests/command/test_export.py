"""The record stream, and JSON Lines: everything survives a round trip."""

from __future__ import annotations

import io
import json
import random
import sys

import pytest
from tests.command.databases import KINDS, content, make

import shearbolt
from shearbolt.export import (
    ENCODINGS,
    BucketRecord,
    ExportFormatError,
    Loader,
    PairRecord,
    from_lines,
    load,
    records,
    to_lines,
)


@pytest.fixture
def fresh(tmp_path):
    with shearbolt.open(tmp_path / "fresh.db", no_sync=True) as db:
        yield db


def seen(db) -> list:
    with db.view() as tx:
        return list(records(tx))


# -- the stream --------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_records_come_in_order_of_their_place(name, tmp_path) -> None:
    places = [record.place for record in content(make(name, tmp_path))]
    assert places == sorted(places)
    assert len(places) == len(set(places))


def test_a_bucket_comes_before_what_is_in_it_and_carries_its_sequence(nested) -> None:
    assert content(nested)[:5] == [
        BucketRecord((b"top",), 7),
        BucketRecord((b"top", b"middle"), 1 << 40),
        BucketRecord((b"top", b"middle", b"bottom"), 0),
        PairRecord((b"top", b"middle", b"bottom"), b"k", b"v"),
        BucketRecord((b"top", b"middle", b"other"), 0),
    ]


def test_a_record_below_a_long_chain_of_buckets_takes_no_step_for_each(fresh) -> None:
    path, steps = (b"n",) * 300, 0

    def step(*_: object) -> object:
        nonlocal steps
        steps += 1
        return step

    with Loader(fresh, new_buckets=True) as loader:
        for depth in range(1, len(path) + 1):
            loader.add(BucketRecord(path[:depth]))
        before = sys.gettrace()
        sys.settrace(step)
        try:
            loader.add(PairRecord(path, b"k", b"v"))
            loader.add(BucketRecord((*path, b"m")))
            loader.add(PairRecord(path, b"o", b"w"))
        finally:
            sys.settrace(before)
    assert steps < 1000
    assert seen(fresh)[-3:] == [
        PairRecord(path, b"k", b"v"),
        BucketRecord((*path, b"m"), 0),
        PairRecord(path, b"o", b"w"),
    ]


def test_a_bucket_that_is_refused_leaves_no_other_in_its_place(fresh) -> None:
    with Loader(fresh) as loader:
        loader.add(PairRecord((b"a", b"b"), b"plain", b"v"))
        for _ in range(2):
            with pytest.raises(shearbolt.IncompatibleValueError):
                loader.add(PairRecord((b"a", b"b", b"plain", b"c"), b"k", b"v"))
        loader.add(PairRecord((b"a", b"b", b"d"), b"k", b"v"))
        with pytest.raises(shearbolt.IncompatibleValueError):
            loader.add(PairRecord((b"a", b"b", b"plain"), b"k", b"v"))
        loader.add(PairRecord((b"a", b"e"), b"k", b"w"))
    assert [record for record in seen(fresh) if isinstance(record, PairRecord)] == [
        PairRecord((b"a", b"b", b"d"), b"k", b"v"),
        PairRecord((b"a", b"b"), b"plain", b"v"),
        PairRecord((b"a", b"e"), b"k", b"w"),
    ]


def test_pairs_of_the_root_bucket_are_records_too(fresh) -> None:
    with fresh.update() as tx:
        tx.root_bucket.put(b"loose", b"pair")
    assert seen(fresh) == [PairRecord((), b"loose", b"pair")]


def test_buckets_deeper_than_python_recurses_are_walked(fresh) -> None:
    depth = 1500
    with fresh.update() as tx:
        bucket = tx.create_bucket(b"0")
        for _ in range(depth - 1):
            bucket = bucket.create_bucket(b"0")
    assert len(seen(fresh)) == depth


def test_a_bucket_that_contains_itself_is_an_error_not_a_loop(tmp_path) -> None:
    path = make("nested", tmp_path)
    data = bytearray(path.read_bytes())
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        top = tx.bucket(b"top")
        above, below = top.root, top.bucket(b"middle").root
    old = below.to_bytes(8, "little") + (1 << 40).to_bytes(8, "little")
    at = data.index(old)
    data[at : at + 8] = above.to_bytes(8, "little")
    path.write_bytes(data)
    with (
        shearbolt.open(path, read_only=True) as db,
        pytest.raises(shearbolt.CorruptPageError, match="two places refer to it"),
    ):
        seen(db)


# -- the round trip ----------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_round_trip_changes_nothing(name, tmp_path) -> None:
    before = content(make(name, tmp_path))
    for encoding in ENCODINGS:
        lines = list(to_lines(before, encoding))
        with shearbolt.open(tmp_path / f"{encoding}.db", no_sync=True) as fresh:
            load(fresh, from_lines(lines))
            assert seen(fresh) == before, encoding


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_bytes_survive(encoding) -> None:
    draw = random.Random(3)
    stream = [
        PairRecord(
            tuple(
                draw.randbytes(draw.randint(1, 4)) for _ in range(draw.randint(0, 3))
            ),
            draw.randbytes(draw.randint(1, 6)),
            draw.choice([draw.randbytes(9), "\u2028\x85\n\ud7ff\U0001f426".encode()]),
        )
        for _ in range(500)
    ]
    lines = b"".join(to_lines(stream, encoding))
    # As a file gives them: split at newlines only.
    assert list(from_lines(io.BytesIO(lines))) == stream


@pytest.mark.parametrize("encoding", ["base-64", "", None, 16])
def test_an_encoding_that_there_is_not_is_refused_at_once(encoding) -> None:
    with pytest.raises(shearbolt.OptionError, match="auto, hex, base64, not"):
        to_lines([], encoding)


def test_auto_writes_text_as_text_and_other_bytes_as_hex() -> None:
    rows = [json.loads(line) for line in to_lines([PairRecord((b"\xff",), b"k", b"v")])]
    assert rows[1] == {"bucket": [{"hex": "ff"}], "key": "k", "value": "v"}


def test_a_line_that_differs_in_one_byte_does_not_come_back_the_same() -> None:
    stream = [PairRecord((b"b",), b"k", b"value")]
    lines = [line.replace(b"value", b"valve") for line in to_lines(stream)]
    with pytest.raises(ExportFormatError):
        list(from_lines(lines))
    lines = [line.replace(b'"value"}', b'"valve"}') for line in to_lines(stream)]
    assert list(from_lines(lines)) != stream


# -- whole exports, and others -----------------------------------------------------

STREAM = [
    BucketRecord((b"b",), 3),
    PairRecord((b"b",), b"k", b"1"),
    PairRecord((b"b",), b"l", b"2"),
    BucketRecord((b"c",), 0),
]
LINES = list(to_lines(STREAM))


def test_an_export_says_at_its_end_how_many_records_it_has() -> None:
    assert json.loads(LINES[0]) == {"format": "shearbolt", "version": 2}
    assert json.loads(LINES[-1]) == {"end": 4}
    assert list(to_lines([]))[1:] == [b'{"end": 0}\n']
    assert list(from_lines(to_lines([]))) == []


@pytest.mark.parametrize("end", range(len(LINES)))
def test_an_export_that_is_cut_off_anywhere_is_an_error(end) -> None:
    with pytest.raises(ExportFormatError, match=r"is empty|is cut off") as caught:
        list(from_lines(LINES[:end]))
    assert caught.value.line == end + 1
    # Inside a line, too, and even the last one: it may have been a longer number.
    for byte in range(1, len(LINES[end]) - 1):
        with pytest.raises(ExportFormatError):
            list(from_lines([*LINES[:end], LINES[end][:byte]]))


@pytest.mark.parametrize("place", range(len(LINES)))
def test_an_export_that_lost_a_line_or_has_one_twice_is_an_error(place) -> None:
    with pytest.raises(ExportFormatError):
        list(from_lines(LINES[:place] + LINES[place + 1 :]))
    with pytest.raises(ExportFormatError):
        list(from_lines(LINES[: place + 1] + LINES[place:]))


@pytest.mark.parametrize("lines", [[], [b"\n"], LINES[1:], LINES[1:-1], LINES[:-1]])
def test_some_lines_of_an_export_are_read_when_that_is_said(lines) -> None:
    wanted = STREAM if len(lines) > 1 else []
    assert list(from_lines(lines, partial=True)) == wanted
    with pytest.raises(ExportFormatError):
        list(from_lines(lines))


def test_exports_may_stand_one_behind_the_other() -> None:
    assert list(from_lines(LINES * 3)) == STREAM * 3
    with pytest.raises(ExportFormatError, match="behind the end"):
        list(from_lines([*LINES, LINES[1]]))
    with pytest.raises(ExportFormatError, match="has no end"):
        list(from_lines(LINES[:-1] + LINES))
    with pytest.raises(ExportFormatError, match="no export has begun"):
        list(from_lines([*LINES, LINES[-1]]))


def test_files_of_version_1_had_no_last_line_and_are_read() -> None:
    first = b'{"format": "shearbolt", "version": 1}\n'
    assert list(from_lines([first, *LINES[1:-1]])) == STREAM
    assert list(from_lines([first])) == []
    assert list(from_lines([first, *LINES[1:-1], *LINES])) == STREAM * 2


# -- lines that are no records -----------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"key": "k", "value": "v"}', '"bucket" is a list'),
        (b'{"bucket": "b"}', '"bucket" is a list'),
        (b'{"bucket": ["b"], "key": "k"}', 'goes with a "value"'),
        (b'{"bucket": ["b"], "value": "v"}', 'without a "key"'),
        (b'{"bucket": ["b"], "key": "k", "value": "v", "sequence": 1}', "nothing else"),
        (b'{"bucket": []}', "needs not be made"),
        (b'{"bucket": ["b"], "sequence": -1}', "below 2"),
        (b'{"bucket": ["b"], "sequence": 18446744073709551616}', "below 2"),
        (b'{"bucket": ["b"], "sequence": true}', "below 2"),
        (b'{"bucket": ["b"], "sequence": 1.0}', "below 2"),
        (b'{"bucket": [1]}', "is text"),
        (b'{"bucket": [{"hex": "0"}]}', '"bucket"'),
        (b'{"bucket": [{"hex": 0}]}', "is text"),
        (b'{"bucket": [{"base64": "A"}]}', '"bucket"'),
        (b'{"bucket": [{"base64": "AA=="}, {"utf7": ""}]}', "is text"),
        (b'{"bucket": ["\\ud800"]}', '"bucket"'),
        (b'{"bucket": ["b"], "colour": 1}', "unknown member 'colour'"),
        (b'{"format": "shearbolt", "version": 3}', "version 3"),
        (b'{"format": "shearbolt"}', "version None"),
        (b'{"end": "3"}', "number of records, alone"),
        (b'{"end": 3, "key": "k"}', "number of records, alone"),
        (b'{"format": "csv"}', "'csv'"),
    ],
)
def test_a_line_that_is_no_record_is_named(line, reason) -> None:
    with pytest.raises(ExportFormatError, match=reason) as caught:
        list(from_lines([b'{"bucket": ["fine"]}\n', b"\n", line], partial=True))
    assert caught.value.line == 3
    assert str(caught.value).startswith("line 3: ")


# -- writing -----------------------------------------------------------------------


def test_an_import_in_one_transaction_is_all_or_nothing(fresh) -> None:
    good = b'{"bucket": ["b"], "key": "k", "value": "v"}'
    with pytest.raises(ExportFormatError):
        load(fresh, from_lines([good, b"broken"], partial=True))
    assert seen(fresh) == []


def test_an_import_with_a_limit_keeps_what_was_committed(fresh) -> None:
    rows = [b'{"bucket": ["b"], "key": "%d", "value": "v"}' % i for i in range(5)]
    with pytest.raises(ExportFormatError):
        load(fresh, from_lines([*rows, b"broken"], partial=True), tx_max_size=2)
    assert [record.place[-1] for record in seen(fresh)] == [
        b"b",
        b"0",
        b"1",
        b"2",
        b"3",
    ]


def test_an_import_leaves_what_it_does_not_name(fresh) -> None:
    with fresh.update() as tx:
        bucket = tx.create_bucket(b"b")
        bucket.set_sequence(5)
        bucket.put(b"old", b"1")
    load(fresh, [PairRecord((b"b",), b"new", b"2"), BucketRecord((b"b",), None)])
    assert seen(fresh) == [
        BucketRecord((b"b",), 5),
        PairRecord((b"b",), b"new", b"2"),
        PairRecord((b"b",), b"old", b"1"),
    ]


def test_records_in_any_order_give_the_same_content(tmp_path, fresh) -> None:
    before = content(make("mixed", tmp_path))
    shuffled = before.copy()
    random.Random(1).shuffle(shuffled)
    load(fresh, shuffled)
    assert seen(fresh) == before


def test_a_loader_commits_before_a_transaction_exceeds_its_size(fresh) -> None:
    with fresh.view() as tx:
        first = tx.id
    with Loader(fresh, tx_max_size=10) as loader:
        for i in range(6):
            loader.add(PairRecord((b"b",), b"%d" % i, b"4444"))
    with fresh.view() as tx:
        # Five bytes a pair: two fit.
        assert tx.id - first == 3


def test_a_loader_rolls_back_on_an_exception(fresh) -> None:
    def interrupted() -> None:
        with Loader(fresh) as loader:
            loader.add(BucketRecord((b"b",), 0))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        interrupted()
    assert seen(fresh) == []
    with fresh.update() as tx:
        tx.create_bucket(b"not blocked by the transaction above")


def test_progress_counts_records(fresh) -> None:
    counts: list[int] = []
    load(fresh, [PairRecord((b"b",), b"k", b"v")] * 3, progress=counts.append)
    assert counts == [1, 2, 3]
