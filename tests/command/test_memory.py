"""Memory of what reads a file once does not grow with the file."""

import os
import tracemalloc

import pytest

import shearbolt
from shearbolt.command import main, session
from shearbolt.export import records

PAIRS = 12_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "a.db"
    with shearbolt.open(path, no_sync=True) as db:
        for begin in range(0, PAIRS, 3000):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket.update(
                    (b"%06d" % at, b"v" * 300) for at in range(begin, begin + 3000)
                )
    return path


WORDS = [
    ["check"],
    ["export"],
    ["keys", "FILE", "b"],
    ["stats"],
    ["compact", "-o", "NEW", "FILE"],
    ["diff", "FILE", "FILE"],
]


def most(words, large, new):
    """Bytes at most, with the words of the last list filled in."""
    names = {"FILE": str(large), "NEW": str(new)}
    argv = [names.get(word, word) for word in words]
    if len(words) == 1:
        argv.append(str(large))
    with (
        open(os.devnull, "w", encoding="utf-8") as out,
        pytest.MonkeyPatch.context() as p,
    ):
        p.setattr("sys.stdout", out)
        tracemalloc.start()
        try:
            assert main(argv) == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.thorough(rows=3)
@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_what_reads_a_file_once_keeps_little_of_it(words, large, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "CACHE_SIZE", 1 << 18)
    assert most(words, large, tmp_path / "new.db") < 2_000_000


def test_a_walk_down_a_chain_of_buckets_keeps_one_path(tmp_path):
    """One for each level took half of the square of the depth."""
    depth = 1500
    with shearbolt.open(tmp_path / "deep.db", no_sync=True) as db:
        with db.update() as tx:
            bucket = tx.root_bucket
            for _ in range(depth):
                bucket = bucket.create_bucket(b"n")
        with db.view() as tx:
            tracemalloc.start()
            try:
                assert sum(1 for _ in records(tx)) == depth
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert most < 4_000_000


def test_inspect_keeps_no_indentation_of_the_levels_above(tmp_path):
    """They are as long as what is written: 20,000 levels took 4.6 GB."""
    with shearbolt.open(tmp_path / "deep.db", no_sync=True) as db, db.update() as tx:
        bucket = tx.root_bucket
        for _ in range(1500):
            bucket = bucket.create_bucket(b"n")
    words = ["inspect", str(tmp_path / "deep.db")]
    assert most(words, tmp_path / "deep.db", tmp_path / "none") < 8_000_000


def test_it_is_noticed_when_a_subcommand_keeps_all(large, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "CACHE_SIZE", 1 << 28)
    assert most(["keys", "FILE", "b"], large, tmp_path / "new.db") > 3_000_000
