"""A page that a commit has replaced is not found again, whatever the cache drops."""

import os
import random
from functools import partial

import pytest

import shearbolt
from shearbolt.pages import newpages, pager, shared
from shearbolt.pages.decoding import decode_branch
from shearbolt.pages.encoding import encode_branch
from shearbolt.pages.format import Leaf
from shearbolt.pages.newpages import NewPages
from shearbolt.pages.pager import Pager
from shearbolt.pages.shared import SharedPager, pager_for
from shearbolt.storage.robust import RobustFile
from tornpage.disk import Disk
from tornpage.threads import Schedules, under_turns


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


def decoded(data):
    return decode_branch(2, 1, 0, lambda at, size: data[at : at + size], len(data))


def found(pages, pgid):
    return pages.young.get(pgid) or pages._old.get(pgid)


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
    made = Pager(type("File", (), {"path": "", "raw": None})(), 1024, 4000)
    new = leaf(10, 5000 if way == "kept large" else 400)
    count = 0

    def meanwhile():
        nonlocal count
        count += 1
        if count != at:
            return
        if way == "forgotten":
            made.forget_all([10])
        elif way == "cleared":
            made.clear()
        else:
            made.keep(new)

    for pgid in range(2, 13):
        looked = pgid in {3, 11, 12}
        made.young[pgid] = _Looked(pgid, meanwhile) if looked else leaf(pgid)
    replaced = made.young[10]
    made.spent = 4400
    made._shrink()
    return (found(made, 10) is replaced) == (count < at)


FEW = os.environ.get("SHEARBOLT_SEEDS", "1") == "1"

# A page of a version that a reader saw, and what a commit makes of its number.
OLD, NEW = (encode_branch(2, 0, [b"k"], [child]).ljust(1024, b"\0") for child in (4, 5))


def _child(page):
    return None if page is None else page.children[0]


@pytest.mark.thorough(rows=4)
@pytest.mark.parametrize("free_threaded", [False, True])
@pytest.mark.parametrize("way", ["file", "generation", "full", "large commit"])
def test_a_reader_that_was_ended_puts_no_page_back_that_a_commit_has_replaced(
    way, free_threaded, monkeypatch
):
    """Nobody's transaction keeps the page from being used again any more."""
    monkeypatch.setattr(newpages, "_MOST_KEPT", 2)
    made = None

    def once(turns):
        nonlocal made
        machine = under_turns(Disk(), turns)
        file = RobustFile(machine.open("/f", create=True), "/f")
        made = pager_for(machine, file, 1024, 100_000)
        made.write(2048, [OLD])
        new = NewPages.__new__(NewPages)
        new.page_size, new.decoded = 1024, [decoded(NEW)]
        new.encoded = new.contents = {}
        if way == "large commit":
            new.decoded, new.contents = [], dict.fromkeys((2, 3, 4), 1)
        if way == "generation":
            made._old[2] = decoded(OLD)
            made.spent = made.held()
        made._full = 100 if way == "full" else 0

        def commit():
            made.write(2048, [NEW])
            new.into_cache(made)

        read = made.glance if way == "full" else made.page
        yield [lambda: read(2, 10), commit]
        kept = _child(found(made, 2))
        assert kept == 5 or (kept is None and way == "large commit")
        assert made.spent >= made.held()
        # Whoever reads now has it kept.
        assert _child(made.page(2, 10)) == 5
        assert _child(found(made, 2)) == 5

    code = tuple(one.__file__ for one in (pager, shared, newpages))
    # One shows what two do, and is an eighth of the schedules.
    switches = 1 if free_threaded or FEW else 2
    played = Schedules(once, code, switches=switches, free_threaded=free_threaded)
    for one in played:
        one.require_success()
    assert played.played > 15


def test_leaves_that_were_read_before_a_commit_are_not_taken_in(monkeypatch):
    """A scan decodes a piece of the file, a commit comes, the scan keeps them."""
    leaves = [leaf(2), leaf(3), leaf(4)]
    made = Pager(type("File", (), {"path": "", "raw": None})(), 1024, 100_000)
    made._window = type("Window", (), {"piece": lambda _: (b"", 0)})()

    def decode(*_, changes=0):
        if changes:
            made.settled = object()
        return leaves

    monkeypatch.setattr(pager, "decode_usual_leaves", partial(decode, changes=1))
    made.take_in([2, 3, 4], 10)
    assert not made.young
    made.settled = None
    monkeypatch.setattr(pager, "decode_usual_leaves", decode)
    made.take_in([2, 3, 4], 10)
    assert not made.young
    made.settled = object()
    made.take_in([2, 3, 4], 10)
    assert [*made.young.values()] == leaves
    assert made.spent == made.held()


def test_a_commit_that_is_interrupted_does_not_keep_the_cache_shut():
    made = Pager(type("File", (), {"path": "", "raw": None})(), 1024, 100_000)
    before = made.settled

    def interrupt():
        assert made.settled is None
        raise KeyboardInterrupt

    new = NewPages.__new__(NewPages)
    new.decoded = [_Looked(2, interrupt)]
    with pytest.raises(KeyboardInterrupt):
        new.into_cache(made)
    assert made.settled is not None
    assert made.settled is not before


@pytest.mark.parametrize("full", [0, 100])
@pytest.mark.parametrize("kind", [Pager, SharedPager])
def test_what_is_read_while_pages_change_is_not_kept(kind, full):
    """When it is looked at again, another commit may be changing others."""
    machine = Disk()
    file = RobustFile(machine.open("/f", create=True), "/f")
    file.write(2048, [NEW])
    made = kind(*([machine] if kind is SharedPager else []), file, 1024, 100_000)
    made._full = full
    made.settled = None
    read = made.glance if full else made.page
    assert _child(read(2, 10)) == 5
    assert not made.young
    assert made.spent == 0
    made.settled = object()
    page = read(2, 10)
    assert made.young == {2: page}
    made._old, made.young = made.young, {}
    made.settled = None
    # Which one of both of its number it is nobody knows.
    assert made.page(2, 10) is page
    assert not made.young
    assert made.spent == made.held()


class _Looking(dict):
    """A generation; something happens behind its nth look, counted with others'."""

    def __init__(self, pages, looks, meanwhile):
        super().__init__(pages)
        self._looks = looks
        self._meanwhile = meanwhile

    def get(self, *arguments):
        return self._looked(super().get(*arguments))

    def pop(self, *arguments):
        return self._looked(super().pop(*arguments))

    def _looked(self, result):
        self._looks[0] -= 1
        if self._looks[0] == 0:
            self._meanwhile()
        return result


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kind", [Pager, SharedPager])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_handler_that_commits_in_the_middle_of_a_look_is_not_undone(kind, known, nth):
    """The lock lets it in: it is the same thread."""
    machine = Disk()
    file = RobustFile(machine.open("/f", create=True), "/f")
    file.write(2048, [OLD])
    made = kind(*([machine] if kind is SharedPager else []), file, 1024, 100_000)

    def commit():
        file.write(2048, [NEW])
        new = NewPages.__new__(NewPages)
        new.decoded, new.contents = [decoded(NEW)], {}
        new.into_cache(made)

    looks = [nth]
    made.young = _Looking({}, looks, commit)
    made._old = _Looking({2: decoded(OLD)} if known else {}, looks, commit)
    made.spent = made.held()
    made.page(2, 10)
    # Who makes fewer looks is not interrupted.
    interrupted = looks[0] <= 0
    assert interrupted or nth > 2
    assert _child(dict.get(made.young, 2)) == (5 if interrupted else 4)
    assert made.spent >= made.held()


@pytest.mark.parametrize("kind", [Pager, SharedPager])
def test_a_page_that_two_threads_have_read_is_counted_once(kind):
    machine = Disk()
    file = RobustFile(machine.open("/f", create=True), "/f")
    made = kind(*([machine] if kind is SharedPager else []), file, 1024, 100_000)
    for _ in range(2):
        made._put_in(decoded(NEW), made.settled)
    assert made.spent == made.held() > 0
