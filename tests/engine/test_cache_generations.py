"""A page that a commit has replaced is not found again, whatever the cache drops."""

import random

import pytest

import shearbolt
from shearbolt.pages.format import Leaf
from shearbolt.pages.pager import Pager


class _Looked:
    """A page during whose look at the cost something happens, as between two steps."""

    is_leaf = True
    has_buckets = False
    keys = values = ()

    def __init__(self, pgid, meanwhile):
        self.pgid = pgid
        self._meanwhile = meanwhile

    @property
    def cost(self):
        self._meanwhile()
        return 400


def leaf(pgid, cost=400):
    return Leaf(pgid, 0, (), (), cost)


def found(pager, pgid):
    return pager.young.get(pgid) or pager._old.get(pgid)


@pytest.mark.seeds(5)
def test_large_and_small_values_in_turn_are_what_was_put_last(tmp_path, seed):
    draw = random.Random(seed + 100)
    size = draw.choice([20_000, 50_000, 100_000])
    model = {}
    with shearbolt.open(
        tmp_path / "a.db", no_sync=True, page_size=1024, cache_size=size
    ) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")
        for _ in range(40):
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                for _ in range(draw.randrange(1, 20)):
                    key = b"%03d" % draw.randrange(300)
                    if draw.random() < 0.3:
                        bucket.delete(key)
                        model.pop(key, None)
                    else:
                        length = draw.choice([10, 100, 100, 100, 1000, 30_000, 120_000])
                        model[key] = bytes([draw.randrange(256)]) * length
                        bucket.put(key, model[key])
            with db.view() as tx:
                bucket = tx.bucket(b"b")
                for key in draw.sample(sorted(model), min(len(model), 40)):
                    assert bucket.get(key) == model[key]
                if draw.random() < 0.3:
                    assert dict(bucket.items()) == model
            assert db.pager.spent >= 0
        with db.view() as tx:
            assert not tx.check()


@pytest.mark.parametrize("way", ["kept", "kept large", "forgotten", "cleared"])
def test_a_page_replaced_while_another_thread_makes_room_stays_replaced(way):
    assert [at for at in range(1, 30) if not stays_replaced(at, way)] == []


def stays_replaced(at, way):
    """Whether it does when it is replaced at the nth look at a page."""
    pager = Pager.__new__(Pager)
    Pager.__init__(pager, type("File", (), {"path": "", "raw": None})(), 1024, 4000)
    new = leaf(10, 5000 if way == "kept large" else 400)
    count = 0

    def meanwhile():
        nonlocal count
        count += 1
        if count != at:
            return
        if way == "forgotten":
            pager.forget_all([10])
        elif way == "cleared":
            pager.clear()
        else:
            pager.keep(new)

    for pgid in range(2, 13):
        looked = pgid in {3, 11, 12}
        pager.young[pgid] = _Looked(pgid, meanwhile) if looked else leaf(pgid)
    replaced = pager.young[10]
    pager.spent = 4400
    pager._shrink()
    return (found(pager, 10) is replaced) == (count < at)
