"""What options ask for is what a database does: sizes, pages, names, logs."""

import os
import sys

import pytest
from filling import keys, put

import shearbolt
from shearbolt import (
    DatabaseReadOnlyError,
    MaxSizeReachedError,
    OptionError,
    StrictModeError,
)


def test_a_read_only_database_refuses_writers(path):
    shearbolt.open(path).close()
    with shearbolt.open(path, read_only=True) as db:
        assert db.read_only
        for call in (
            lambda: db.begin(writable=True),
            db.update().__enter__,
            lambda: db.batch(lambda _: None),
        ):
            with pytest.raises(DatabaseReadOnlyError, match="read-only mode"):
                call()


def test_a_full_database_refuses_and_goes_on(path):
    with shearbolt.open(path, max_size=1 << 20) as db:
        put(db, b"small")
        for _ in range(3):
            with pytest.raises(MaxSizeReachedError, match="maximum size"):
                put(db, b"large", b"v" * (1 << 20))
            put(db, b"small", b"w")
        assert keys(db) == [b"small"]
        assert os.path.getsize(path) <= 1 << 20


@pytest.mark.parametrize(
    ("limit", "options"),
    [
        # bbolt compares with the limit only when its map grows; with a large map
        # the file grows by alloc_size past any limit.
        (3 << 20, {"initial_mmap_size": 1 << 30, "alloc_size": 1 << 20}),
        # And where it compares, with the step, from 2 MiB to 4.
        (3 << 20, {}),
        ((3 << 20) + 1, {}),
        (3 << 20, {"alloc_size": 1 << 20}),
        (1 << 15, {}),
        (40_000, {}),
    ],
)
def test_max_size_is_used_to_the_last_page_and_never_passed(path, limit, options):
    with shearbolt.open(path, max_size=limit, no_sync=True, **options) as db:
        refused = []
        for i in range(limit // 5000 + 10):
            try:
                put(db, b"%d" % i, b"v" * 5_000)
            except MaxSizeReachedError as error:
                refused.append(error)
        assert refused
        for error in refused:
            assert error.needed > error.limit == limit
        assert os.path.getsize(path) == limit
        with db.view() as tx:
            assert limit - 20_000 < tx.size <= limit
            assert tx.check() == []


def test_a_file_larger_than_max_size_opens_and_works(path):
    with shearbolt.open(path) as db, db.update() as tx:
        tx.create_bucket(b"large")[b"k"] = b"v" * (1 << 20)
    with shearbolt.open(path, max_size=1 << 20) as db:
        put(db, b"small")
        assert keys(db) == [b"small"]


def test_the_file_grows_to_initial_mmap_size_at_once(path):
    with shearbolt.open(path, initial_mmap_size=1 << 20) as db:
        put(db, b"a")
    assert os.path.getsize(path) == 1 << 20


def test_strict_mode_stops_a_commit_of_a_broken_tree(path, monkeypatch):
    from shearbolt.pages.freelist import ArrayFreelist

    with shearbolt.open(path, strict_mode=True) as db:
        put(db, b"a", b"v" * 3000)
        put(db, b"a", b"w" * 3000)
        monkeypatch.setattr(ArrayFreelist, "encoded", lambda _: b"")
        with pytest.raises(StrictModeError, match="check fail: page"):
            put(db, b"b")
        monkeypatch.undo()
        put(db, b"c")
        assert keys(db) == [b"a", b"c"]


@pytest.mark.parametrize("kind", ["array", "hashmap"])
@pytest.mark.parametrize("synced", [True, False])
def test_every_kind_of_freelist_can_take_over_from_every_other(path, kind, synced):
    for round_ in range(3):
        other = {"array": "hashmap", "hashmap": "array"}[kind]
        for freelist, no_freelist_sync in ((kind, not synced), (other, synced)):
            with shearbolt.open(
                path, freelist_type=freelist, no_freelist_sync=no_freelist_sync
            ) as db:
                for i in range(5):
                    put(db, b"%d" % (i + round_), b"v" * 3000)
                with db.view() as tx:
                    assert tx.check() == []
    assert os.path.getsize(path) <= 1 << 18


@pytest.mark.parametrize("page_size", [1024, 2048, 4096, 8192, 16384, 32768, 65536])
def test_every_page_size_is_made_and_found_again(path, page_size):
    with shearbolt.open(path, page_size=page_size) as db:
        put(db, b"a", b"v" * 100_000)
    with shearbolt.open(path, page_size=1024) as db:
        assert db.page_size == db.info().page_size == page_size
        assert keys(db) == [b"a"]


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": 512},
        {"page_size": 3000},
        {"page_size": 131072},
        {"page_size": "4096"},
        {"freelist_type": "tree"},
        {"timeout": -1},
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_made(path, options):
    with pytest.raises(OptionError):
        shearbolt.open(path, **options)
    assert not os.path.exists(path)


def test_a_storage_that_cannot_be_remembered_is_refused(path):
    class Storage(shearbolt.storage.OSStorage):
        __hash__ = None

    with pytest.raises(OptionError, match="storage"):
        shearbolt.open(path, storage=Storage())


def test_the_file_may_be_opened_by_the_caller(path):
    asked = []

    def open_file(name, /, **options):
        asked.append((name, options))
        return shearbolt.storage.OSStorage().open(name, **options)

    with shearbolt.open(path, open_file=open_file) as db:
        put(db, b"a")
    assert asked == [(path, {"read_only": False, "create": True, "perm": 0o600})]


@pytest.mark.parametrize("kind", [str, os.fsencode, "pathlib"])
def test_a_path_may_be_text_bytes_or_a_path(path, kind):
    import pathlib

    name = pathlib.Path(path) if kind == "pathlib" else kind(path)
    with shearbolt.open(name) as db:
        put(db, b"a")
    assert os.path.exists(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_new_file_has_the_permissions_asked_for(path):
    mask = os.umask(0)
    try:
        shearbolt.open(path, perm=0o640).close()
    finally:
        os.umask(mask)
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_what_happens_is_logged_under_one_name(path, caplog):
    caplog.set_level("DEBUG", logger="shearbolt")
    shearbolt.open(path).close()
    assert [record.name for record in caplog.records] == ["shearbolt"] * 2
    assert "open, transaction 1" in caplog.text


def test_many_databases_are_open_at_once(tmp_path):
    handles = [shearbolt.open(str(tmp_path / f"{i}.db")) for i in range(50)]
    for i, db in enumerate(handles):
        put(db, b"%d" % i)
    for i, db in enumerate(handles):
        assert keys(db) == [b"%d" % i]
        db.close()
