"""What the cache holds costs Python's collector of cycles next to nothing."""

import gc

import pytest

import shearbolt


@pytest.mark.parametrize("fresh", [False, True])
def test_the_collector_does_not_look_into_cached_leaves(path, fresh):
    db = shearbolt.open(path, page_size=1024, no_sync=True)
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for i in range(2000):
            bucket.put(b"%05d" % i, b"value")
        bucket.create_bucket(b"inner")
    if fresh:
        db.close()
        db = shearbolt.open(path)
    with db, db.view() as tx:
        assert len(tx.bucket(b"b")) == 2000
        gc.collect()
        # A bucket's value is an object that the collector does look at.
        pages = db.pager.young.values()
        leaves = [page for page in pages if page.is_leaf and not page.has_buckets]
        assert len(leaves) > 50
        assert not any(map(gc.is_tracked, (page.keys for page in leaves)))
        assert not any(map(gc.is_tracked, (page.values for page in leaves)))


def test_transactions_in_turn_never_ask_for_a_collection(db, monkeypatch):
    asked = []
    monkeypatch.setattr(gc, "collect", lambda *_: asked.append(True))
    db.max_batch_size = 1
    with db.update() as tx:
        tx.create_bucket(b"b")
    for i in range(3):
        db.batch(lambda tx, i=i: tx.bucket(b"b").put(b"%d" % i, b"v"))
        with db.update() as tx:
            tx.bucket(b"b").put(b"k", b"v")
    assert not asked
