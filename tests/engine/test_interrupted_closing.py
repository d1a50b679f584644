"""A KeyboardInterrupt at each place of closing: closing once more ends it.

The lock is what shows it. It is the file's as long as the handle lives, and a handle
that lives in a shell's variable keeps everybody out, also the shell.
"""

from contextlib import suppress

import places
import pytest

import shearbolt

# One that comes while the file is thrown away is printed by Python, and gone.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def opened(path, way):
    db = shearbolt.open(path, no_sync=True, read_only=way == "read-only")
    tx = db.begin(way == "writing") if way in {"reading", "writing"} else None
    if way == "writing":
        tx.create_bucket(b"b")[b"k"] = b"v"
    return db, tx, db.pager.file.raw


def interrupted(place, call):
    """Whether there was such a place."""
    interrupts = places.Interrupts([place])
    with interrupts, suppress(KeyboardInterrupt):
        call()
    return not interrupts.places


def assert_closed(db, tx, file, path):
    # The handle is still held.
    with shearbolt.open(path, timeout=0) as again, again.view() as view:
        assert list(view.buckets()) == []
    with pytest.raises(shearbolt.DatabaseNotOpenError):
        db.begin()
    if tx is not None:
        assert tx.closed
        with pytest.raises(shearbolt.TxClosedError):
            tx.bucket(b"b")
    assert db._write_tx is None
    # Another thread could be reading in a transaction that has just been ended.
    assert (file._fd >= 0) == (tx is not None)


@pytest.mark.parametrize("way", ["idle", "reading", "writing"])
def test_closing_again_ends_a_closing_that_was_interrupted_anywhere(way, path):
    shearbolt.open(path).close()
    place, there = 0, True
    while there:
        db, tx, file = opened(path, way)
        there = interrupted(place, db.close)
        db.close()
        assert_closed(db, tx, file, path)
        place += 1
    assert place > 30


@pytest.mark.parametrize("way", ["read-only", "writing"])
def test_a_block_that_is_left_is_closed_wherever_it_was_interrupted(way, path):
    shearbolt.open(path).close()
    place, there = 0, True
    while there:
        db, tx, file = opened(path, way)

        def block(db=db):
            db.__exit__(None, None, None)

        there = interrupted(place, block)
        if db._open and place < 3:
            # The call had not begun: as if the block's last line were interrupted.
            db.close()
        assert_closed(db, tx, file, path)
        place += 1
    assert place > 30
