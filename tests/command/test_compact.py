"""Compaction: the same content, fewer pages, bounded transactions, never in place."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from tests.command.databases import KINDS, content, make

import shearbolt
from shearbolt.compact import compact
from shearbolt.storage import OSStorage


@pytest.mark.parametrize("name", KINDS)
def test_the_copy_holds_the_same(name, tmp_path) -> None:
    path = make(name, tmp_path)
    whole = content(path)
    for tx_max_size in (0, 100, 65536):
        copy = tmp_path / f"{tx_max_size}.db"
        with (
            shearbolt.open(path, read_only=True) as source,
            shearbolt.open(copy, no_sync=True) as target,
        ):
            count = compact(source, target, tx_max_size)
        assert content(copy) == whole, tx_max_size
        assert count == len(whole), tx_max_size


def test_the_copy_has_no_more_free_pages_than_commits_leave(tmp_path, run) -> None:
    path = make("many-free", tmp_path)
    assert run("compact", path, "-o", tmp_path / "to.db").status == 0
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        before = tx.size // db.page_size
    with shearbolt.open(tmp_path / "to.db", read_only=True) as db, db.view() as tx:
        assert tx.size // db.page_size < before // 2


def test_pages_are_filled_to_the_brim(tmp_path) -> None:
    sizes = []
    for fill, target in ((0.5, "half.db"), (1.0, "full.db")):
        with shearbolt.open(tmp_path / target, no_sync=True) as db:
            with db.update() as tx:
                bucket = tx.create_bucket(b"b")
                bucket.fill_percent = fill
                for i in range(5000):
                    bucket.put(b"%06d" % i, b"v" * 30)
            with db.view() as tx:
                sizes.append(tx.size)
    with (
        shearbolt.open(tmp_path / "half.db", read_only=True) as source,
        shearbolt.open(tmp_path / "to.db", no_sync=True) as target,
    ):
        compact(source, target, 0)
        with target.view() as tx:
            assert abs(tx.size - sizes[1]) <= 4 * 4096
            assert tx.size < 0.7 * sizes[0]


def test_a_transaction_never_exceeds_its_size(tmp_path) -> None:
    path = make("one-tree", tmp_path)
    ids = []
    for limit in (0, 250, 2500):
        with (
            shearbolt.open(path, read_only=True) as source,
            shearbolt.open(tmp_path / f"{limit}.db", no_sync=True) as target,
        ):
            compact(source, target, limit)
            with target.view() as tx:
                ids.append(tx.id)
    # 300 pairs of 25 bytes and the bucket's name; a new file has txid 1.
    assert ids == [2, 32, 5]


def test_a_bucket_that_is_there_already_is_an_error(tmp_path) -> None:
    path = make("nested", tmp_path)
    with shearbolt.open(tmp_path / "to.db") as target:
        with target.update() as tx:
            tx.create_bucket(b"top").put(b"mine", b"1")
        with (
            shearbolt.open(path, read_only=True) as source,
            pytest.raises(shearbolt.BucketExistsError),
        ):
            compact(source, target)
        with target.view() as tx:
            assert list(tx.bucket(b"top").items()) == [(b"mine", b"1")]


def test_nonsense_is_refused(nested) -> None:
    with shearbolt.open(nested) as db:
        with pytest.raises(shearbolt.OptionError, match="into itself"):
            compact(db, db)
        with (
            shearbolt.open(nested.with_name("to.db")) as target,
            pytest.raises(shearbolt.OptionError, match="number of bytes"),
        ):
            compact(db, target, -1)


# -- the subcommand ----------------------------------------------------------------


def test_it_says_both_sizes(nested, run) -> None:
    output = nested.with_name("to.db")
    answer = run("compact", "-o", output, nested)
    before, after = nested.stat().st_size, output.stat().st_size
    assert answer.text == f"{before} -> {after} bytes (gain={before / after:.2f}x)\n"
    assert content(output) == content(nested)


def test_an_output_that_holds_something_is_not_touched(nested, run) -> None:
    output = nested.with_name("to.db")
    output.write_bytes(b"precious")
    answer = run("compact", "-o", output, nested)
    assert (answer.status, output.read_bytes()) == (1, b"precious")
    assert "already exists" in answer.stderr
    assert run("compact", "-o", nested, nested).status == 1


def test_an_empty_output_as_mktemp_makes_it_is_used(nested, run) -> None:
    output = nested.with_name("to.db")
    output.touch()
    assert run("compact", "-o", output, nested).status == 0
    assert content(output) == content(nested)


def test_the_copy_has_the_permissions_of_its_source(nested, run) -> None:
    nested.chmod(0o640)
    output = nested.with_name("to.db")
    run("compact", "-o", output, nested)
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


def test_after_a_failure_there_is_no_output(tmp_path, run) -> None:
    path = make("one-tree", tmp_path)
    data = bytearray(path.read_bytes())
    data[5 * 1024 + 8] = 0x7F
    path.write_bytes(data)
    answer = run("compact", "-o", tmp_path / "to.db", path)
    assert answer.status == 1
    assert "is corrupt" in answer.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


# -- names that others take --------------------------------------------------------


class _Raced(OSStorage):
    """Somebody makes the output at the last moment."""

    __slots__ = ()

    def rename_new(self, source, target, /):
        Path(target).write_bytes(b"precious")
        super().rename_new(source, target)


MAKING = {
    "compact": ["compact", "-o", "OUT", "DB"],
    "import": ["import", "-o", "OUT", "EXPORT"],
    "repair": ["repair", "-o", "OUT", "DB"],
    "surgery": ["surgery", "freelist", "abandon", "--output", "OUT", "DB"],
    "rebuild": ["surgery", "freelist", "rebuild", "--output", "OUT", "DB"],
}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("name", MAKING)
def test_an_output_that_somebody_makes_meanwhile_is_not_replaced(
    name, links, nested, tmp_path, run, monkeypatch
) -> None:
    output, export = tmp_path / "to.db", tmp_path / "e.jsonl"
    assert run("export", "-o", export, nested).status == 0
    if name == "rebuild":
        shearbolt.open(nested, no_freelist_sync=True).close()
        with shearbolt.open(nested, no_freelist_sync=True) as db, db.update() as tx:
            tx.create_bucket(b"no freelist")
    if not links:

        def link(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    places = {"OUT": output, "DB": nested, "EXPORT": export}
    words = [places.get(word, word) for word in MAKING[name]]
    answer = run(*words, storage=_Raced())
    assert (answer.status, output.read_bytes()) == (1, b"precious")
    assert "exists" in answer.stderr
    assert answer.stderr.count("\n") == 1
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"to.db", "e.jsonl", "nested.db"}
    output.unlink()
    assert run(*words).status == 0
    assert content(output)
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"to.db", "e.jsonl", "nested.db"}


def test_an_empty_output_that_somebody_has_locked_is_not_replaced(nested, run) -> None:
    """It is about to become a database."""
    output = nested.with_name("to.db")
    output.touch()
    with output.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = run("compact", "-o", output, nested)
    assert (answer.status, output.read_bytes()) == (1, b"")
    assert "already exists" in answer.stderr
