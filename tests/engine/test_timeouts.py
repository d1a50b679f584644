"""A handler of SIGALRM raises TimeoutError, an OSError: who waits for it gets it.

It comes in the middle of calls to the system, and none of them has failed.
"""

import pytest

import shearbolt
from shearbolt.storage import OSStorage, _posix
from shearbolt.storage._posix import OSFile


def raises_once(monkeypatch, where, name):
    """The call is made, and then a handler runs."""
    real = getattr(where, name)

    def interrupted(*arguments):
        monkeypatch.setattr(where, name, real)
        real(*arguments)
        raise TimeoutError("the handler's")

    monkeypatch.setattr(where, name, interrupted)


def put(db, key):
    with db.update() as tx:
        tx.create_bucket_if_not_exists(b"b")[key] = b"v" * 5000


def keys(db):
    with db.view() as tx:
        assert tx.check() == []
        return list(tx.bucket(b"b"))


@pytest.mark.parametrize("no_sync", [False, True])
@pytest.mark.parametrize(
    ("where", "name"),
    [(_posix, "_fdatasync"), (OSFile, "pwritev"), (OSFile, "size")],
)
def test_a_timeout_during_a_commit_is_no_failure_of_the_disk(
    where, name, no_sync, path, monkeypatch
):
    with shearbolt.open(path) as db:
        put(db, b"a")
        # Commits that wait are not lost by a sync that did not fail.
        db.no_sync = no_sync
        put(db, b"b")
        db.no_sync = False
        raises_once(monkeypatch, where, name)
        with pytest.raises(TimeoutError, match="handler") as caught:
            put(db, b"c")
        assert not isinstance(caught.value, shearbolt.BoltError)
        assert keys(db) == [b"a", b"b"]
        put(db, b"d")
        assert keys(db) == [b"a", b"b", b"d"]


def raises_at(monkeypatch, place):
    """Reading is interrupted at its call of this number; gives those that were made."""
    calls, real = [], OSFile.pread

    def pread(file, *arguments):
        calls.append(arguments)
        if len(calls) == place + 1:
            raise TimeoutError
        return real(file, *arguments)

    monkeypatch.setattr(OSFile, "pread", pread)
    return calls


def test_a_timeout_during_a_read_is_not_swallowed(path, monkeypatch):
    with shearbolt.open(path) as db:
        for number in range(40):
            put(db, b"%02d" % number)
    with shearbolt.open(path) as db:
        place, there = 0, True
        while there:
            db.pager.clear()
            calls = raises_at(monkeypatch, place)
            try:
                with db.view() as tx:
                    assert len(dict(tx.bucket(b"b").items())) == 40
            except TimeoutError:
                pass
            else:
                there = len(calls) > place
                assert not there
            monkeypatch.undo()
            place += 1
    assert place > 5


def test_a_timeout_during_a_copy_leaves_nothing(path, tmp_path, monkeypatch):
    real = OSStorage.open

    def made(storage, *arguments, exclusive=False, **options):
        file = real(storage, *arguments, exclusive=exclusive, **options)
        if exclusive:
            raise TimeoutError
        return file

    with shearbolt.open(path) as db, db.view() as tx:
        raises_once(monkeypatch, _posix, "_fsync")
        with pytest.raises(TimeoutError):
            tx.copy_file(tmp_path / "copy")
        monkeypatch.setattr(OSStorage, "open", made)
        with pytest.raises(TimeoutError):
            tx.copy_file(tmp_path / "copy")
    assert [entry.name for entry in tmp_path.iterdir()] == ["test.db"]
