"""Deletes that are gathered: nobody can tell them from deletes done at once.

Every test here runs with the patience that trees have, and with none, so that the
first delete is gathered.
"""

import random

import pytest

import shearbolt
from shearbolt import CorruptPageError, IncompatibleValueError
from shearbolt.pages.encoding import encode_branch, encode_leaf
from shearbolt.tree import bucket as buckets
from shearbolt.tree import deletions
from shearbolt.tree import tree as trees
from shearbolt.tree.deletions import NEVER

PAGE = 1024


USUAL = deletions.patience


def with_patience(monkeypatch, count):
    """Gather after so many deletes; never in a tree that is one leaf."""

    def patience(tree, key):
        return NEVER if USUAL(tree, key) == NEVER else count

    monkeypatch.setattr(trees, "patience", patience)


@pytest.fixture(params=["usual", "none"])
def patience(request, monkeypatch):
    """How long trees wait before they gather."""
    if request.param == "none":
        with_patience(monkeypatch, 0)
    return request.param


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.db")


@pytest.fixture
def db(path):
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as handle:
        yield handle
        with handle.view() as tx:
            assert tx.check() == []


def name(number):
    return b"%06d" % number


def fill(db, count, size=20):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for number in range(count):
            bucket[name(number)] = b"v" * size


# -- the same as at once ---------------------------------------------------------


class History:
    """A random history of one bucket, beside a dict of the same pairs."""

    def __init__(self, db, rng, plain):
        self.db, self.rng, self.plain = db, rng, plain
        self.names = [name(number) for number in range(rng.choice([60, 400, 1500]))]
        # In some histories deletes come in long runs, in some with much between.
        self.run = rng.choice([1, 5, 40, 300])
        self.gathered = 0

    def transaction(self):
        tx = self.db.begin(True)
        before = dict(self.plain)
        bucket = tx.create_bucket_if_not_exists(b"b")
        for _ in range(self.rng.choice([1, 6, 30])):
            self.rng.choice(self.steps)(self, bucket)
        if self.rng.random() < 0.2:
            tx.rollback()
            self.plain = before
        else:
            tx.commit()
        with self.db.view() as tx:
            if self.plain:
                assert dict(tx.bucket(b"b").items()) == self.plain

    def delete(self, bucket):
        for _ in range(self.rng.randrange(1, 2 * self.run)):
            key = self.rng.choice(self.names)
            bucket.delete(key)
            self.plain.pop(key, None)
        self.gathered += bucket._doomed is not None

    def delete_neighbours(self, bucket):
        # Leaves, branches and the whole tree become empty.
        start = self.rng.randrange(len(self.names))
        for key in self.names[start : start + 3 * self.run]:
            bucket.delete(key)
            self.plain.pop(key, None)

    def put(self, bucket):
        for _ in range(self.rng.choice([1, 1, 20, 200])):
            key = self.rng.choice(self.names)
            value = bytes([self.rng.randrange(256)]) * self.rng.choice(
                [0, 9, 9, 60, 600]
            )
            bucket.put(key, value)
            self.plain[key] = value

    def get(self, bucket):
        for _ in range(self.rng.randrange(1, 4)):
            key = self.rng.choice(self.names)
            assert bucket.get(key) == self.plain.get(key)
            assert (key in bucket) == (key in self.plain)

    def read_all(self, bucket):
        wanted = sorted(self.plain.items())
        assert list(bucket.items()) == wanted
        assert list(bucket.items(reverse=True)) == wanted[::-1]
        assert len(bucket) == len(wanted)

    def read_range(self, bucket):
        low, high = sorted(self.rng.choices(self.names, k=2))
        wanted = sorted(key for key in self.plain if low <= key < high)
        assert list(bucket.keys(low, high)) == wanted

    def walk(self, bucket):
        cursor = bucket.cursor()
        key = self.rng.choice(self.names)
        pair = cursor.seek(key)
        for _ in range(self.rng.randrange(1, 6)):
            wanted = sorted(k for k in self.plain if k >= key)
            assert pair == ((wanted[0], self.plain[wanted[0]]) if wanted else None)
            if pair is None:
                return
            # The cursor stays where it is while keys go around it.
            for doomed in self.rng.choices(self.names, k=self.rng.choice([0, 1, 30])):
                bucket.delete(doomed)
                self.plain.pop(doomed, None)
            if self.rng.random() < 0.3:
                cursor.delete()
                self.plain.pop(pair[0], None)
            key = pair[0] + b"\0"
            pair = cursor.next()

    def delete_under_way(self, bucket):
        for key in bucket.keys(prefix=self.rng.choice(self.names)[:5]):
            if self.rng.random() < 0.7:
                bucket.delete(key)
                del self.plain[key]

    def sequence(self, bucket):
        value = self.rng.randrange(100)
        bucket.set_sequence(value)
        assert bucket.sequence == value

    steps = (
        *[delete] * 8,
        delete_neighbours,
        *[put] * 4,
        get,
        read_all,
        read_range,
        walk,
        delete_under_way,
        sequence,
    )


@pytest.mark.seeds(5)
def test_random_histories_agree_with_a_plain_dict(seed, path, patience):
    rng = random.Random(seed)
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        history = History(db, rng, {})
        for key in history.names[:: rng.choice([1, 2])]:
            history.plain[key] = b"first" * rng.choice([1, 4])
        with db.update() as tx:
            tx.create_bucket(b"b").update(history.plain)
        for _ in range(12):
            history.transaction()
            if rng.random() < 0.3:
                db.pager.clear()
        with db.view() as tx:
            assert tx.check() == []


def test_the_histories_do_gather(path, monkeypatch):
    # Without this the test above could pass without saying anything.
    with_patience(monkeypatch, 0)
    gathered = 0
    for seed in range(10):
        with shearbolt.open(f"{path}{seed}", page_size=PAGE, no_sync=True) as db:
            history = History(db, random.Random(seed), {})
            history.plain = dict.fromkeys(history.names, b"value")
            with db.update() as tx:
                tx.create_bucket(b"b").update(history.plain)
            for _ in range(5):
                history.transaction()
            gathered += history.gathered
    assert gathered > 50


def program(path, seed):
    """The file's bytes after a random program whose deletes come in runs."""
    rng = random.Random(f"bytes {seed}")
    names = [name(number) for number in range(rng.choice([100, 1000, 3000]))]
    sizes = rng.choice([(20,), (0, 20, 300), (20, 2000)])
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        for _ in range(rng.randrange(2, 6)):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                for key in rng.sample(names, rng.randrange(len(names))):
                    bucket.put(key, b"v" * rng.choice(sizes))
            if rng.random() < 0.5:
                db.pager.clear()
            with db.update() as tx:
                bucket = tx.bucket(b"b")
                for _ in range(rng.choice([0, 0, 1, 20])):
                    bucket.put(rng.choice(names), b"new" * rng.choice(sizes))
                doomed = rng.sample(names, rng.randrange(len(names)))
                if rng.random() < 0.3:
                    doomed.sort()
                for key in doomed:
                    bucket.delete(key)
                for _ in range(rng.choice([0, 0, 1, 20])):
                    bucket.put(rng.choice(names), b"last" * rng.choice(sizes))
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.seeds(6)
def test_the_file_is_the_same_to_the_byte(seed, tmp_path, monkeypatch):
    files = []
    for count in (NEVER, 0, 7):
        with_patience(monkeypatch, count)
        files.append(program(str(tmp_path / f"{count}.db"), seed))
    assert files[0] == files[1] == files[2]


# -- what a delete says at once --------------------------------------------------


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("at", [0, 700, 1999])
def test_the_name_of_a_bucket_is_refused_at_once(at, cleared, db, patience):
    fill(db, 2000)
    with db.update() as tx:
        tx.bucket(b"b").delete(name(at))
        tx.bucket(b"b").create_bucket(name(at))
    if cleared:
        db.pager.clear()
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        for number in range(2000):
            if number == at:
                with pytest.raises(IncompatibleValueError):
                    bucket.delete(name(number))
            else:
                bucket.delete(name(number))
        assert [key for key, _ in bucket.buckets()] == [name(at)]


def test_a_bucket_is_seen_wherever_it_stands_in_a_leaf(db):
    # All places in leaves of even and of odd number that are read with those before.
    places = range(40, 100)
    with db.update() as tx:
        for at in places:
            bucket = tx.create_bucket(name(at))
            bucket.update({name(number): b"v" * 20 for number in range(120)})
            bucket.delete(name(at))
            bucket.create_bucket(name(at))
        plain = tx.create_bucket(b"plain")
        plain.update({name(number): b"v" * 20 for number in range(120)})
    db.pager.clear()
    with db.view() as tx:
        assert [deletions.is_plain(tx.bucket(name(at))) for at in places] == (
            [False] * len(places)
        )
        assert deletions.is_plain(tx.bucket(b"plain"))


def test_a_bucket_made_after_deletes_were_gathered_is_refused_too(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        for number in range(500):
            bucket.delete(name(number))
        assert bucket._doomed
        bucket.create_bucket(name(7))
        for number in range(2000):
            if number != 7:
                bucket.delete(name(number))
        with pytest.raises(IncompatibleValueError):
            bucket.delete(name(7))
        assert [key for key, _ in bucket.buckets()] == [name(7)]


def test_a_moved_bucket_takes_its_gathered_deletes_along(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        target = tx.create_bucket(b"target")
        for number in range(1500):
            bucket.delete(name(number))
        tx.move_bucket(b"b", target=target)
        assert bucket._doomed
    with db.view() as tx:
        assert len(tx.bucket(b"target").bucket(b"b")) == 500


def test_a_deleted_bucket_forgets_them(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        for number in range(1500):
            bucket.delete(name(number))
        tx.delete_bucket(b"b")
        with pytest.raises(shearbolt.BucketNotFoundError):
            bucket.delete(name(1))
        assert list(bucket) == []


def test_a_transaction_that_has_ended_gathers_nothing(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    tx = db.begin(True)
    bucket = tx.bucket(b"b")
    bucket.delete(name(1))
    assert bucket._doomed.in_order() == [name(1)]
    tx.rollback()
    with pytest.raises(shearbolt.TxClosedError):
        bucket.delete(name(2))
    with db.view() as tx:
        assert len(tx.bucket(b"b")) == 2000
        with pytest.raises(shearbolt.TxNotWritableError):
            tx.bucket(b"b").delete(name(2))


def test_the_keys_are_copied(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    with db.update() as tx:
        key = bytearray(name(1))
        tx.bucket(b"b").delete(key)
        key[:] = name(2)
    with db.view() as tx:
        assert list(tx.bucket(b"b"))[:2] == [name(0), name(2)]
    with db.update() as tx, pytest.raises(TypeError):
        tx.bucket(b"b").delete("text")


def test_stats_know_of_them(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    with db.update() as tx:
        tx.bucket(b"b").delete(b"is not there")
        assert not tx.bucket(b"b").stats().uncommitted
        tx.bucket(b"b").delete(name(1))
        assert tx.bucket(b"b").stats().uncommitted


# -- what they leave alone -------------------------------------------------------


def test_keys_that_are_not_there_change_no_page(db, patience):
    fill(db, 2000)
    with db.view() as tx:
        root = tx.meta.root
    with db.update() as tx:
        for number in range(2000):
            tx.bucket(b"b").delete(name(number) + b"x")
    with db.view() as tx:
        assert tx.meta.root == root


def test_only_leaves_that_lose_a_key_are_written(db, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    with db.update() as tx:
        for number in range(2000):
            tx.bucket(b"b").delete(name(number) + b"x")
        tx.bucket(b"b").delete(name(1000))
    # A leaf, the branches above it, and the root bucket's leaf.
    assert tx.stats().spill in range(3, 7)


@pytest.mark.parametrize("left", [0, 1, 2, 30])
def test_a_tree_may_lose_all_its_leaves(left, db, patience):
    fill(db, 2000)
    with db.update() as tx:
        for number in range(2000 - left):
            tx.bucket(b"b").delete(name(number))
    with db.view() as tx:
        wanted = [name(number) for number in range(2000 - left, 2000)]
        assert list(tx.bucket(b"b")) == wanted
        assert tx.bucket(b"b").stats().key_n == left


def test_keys_that_are_not_there_take_no_more_memory_than_they_may(db, monkeypatch):
    with_patience(monkeypatch, 0)
    monkeypatch.setattr(trees, "MOST_GATHERED", 100)
    monkeypatch.setattr(buckets, "CHUNK", 10)
    fill(db, 2000)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        most = 0
        for number in range(5000):
            bucket.delete(name(number % 500 + 1500))
            bucket.delete(name(number) + b"x")
            most = max(most, len(bucket._doomed or ()))
        assert 50 < most <= 110
        assert len(bucket) == 1500


def test_who_reads_in_between_ends_it(db, monkeypatch):
    # Otherwise every read would carry one delete out, with the work for many.
    with_patience(monkeypatch, 3)
    fill(db, 2000)
    with db.update() as tx:
        bucket = tx.bucket(b"b")
        gathered = []
        for number in range(40):
            bucket.delete(name(number))
            gathered.append(bucket._doomed is not None)
            assert bucket.get(name(number)) is None
        assert [i for i, was in enumerate(gathered) if was] == [3, 10, 23]


def test_pages_that_only_lost_pairs_are_read_as_they_are_now(db, monkeypatch):
    # They do not come into the cache when they are written. What has been there under
    # their numbers must not stay.
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    left = set(range(2000))
    for step in (3, 2, 5):
        with db.view() as tx:
            assert len(dict(tx.bucket(b"b").items())) == len(left)
        gone = set(sorted(left)[::step])
        with db.update() as tx:
            for number in sorted(gone):
                tx.bucket(b"b").delete(name(number))
        left -= gone
        with db.view() as tx:
            assert list(tx.bucket(b"b")) == [name(number) for number in sorted(left)]
            assert tx.check() == []


def test_a_page_that_is_freed_twice_ends_the_commit(db, path, monkeypatch):
    with_patience(monkeypatch, 0)
    fill(db, 2000)
    tx = db.begin(True)
    bucket = tx.bucket(b"b")
    leaf = bucket._leaf(name(0))
    for number in range(100):
        bucket.delete(name(number))
    tx.free_page(leaf.pgid, 0)
    with pytest.raises(CorruptPageError, match="already freed"):
        tx.commit()
    with db.view() as tx:
        assert len(tx.bucket(b"b")) == 2000


# -- damage ----------------------------------------------------------------------


@pytest.fixture
def damaged(path):
    """A file with a leaf whose keys are out of order, and a key of that leaf."""
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        fill(db, 2000)
        with db.view() as tx:
            bucket = tx.bucket(b"b")
            page = bucket._leaf(name(1000))
            keys = [page.keys[1], page.keys[0], *page.keys[2:]]
            data = encode_leaf(page.pgid, 0, keys, page.values)
    with open(path, "r+b") as file:
        file.seek(page.pgid * PAGE)
        file.write(data)
    return page.keys[0]


def test_damage_that_is_met_late_loses_no_delete(damaged, path, monkeypatch):
    with_patience(monkeypatch, 0)
    with shearbolt.open(path, no_sync=True) as db:
        tx = db.begin(True)
        bucket = tx.bucket(b"b")
        bucket.delete(name(1999))
        bucket.delete(damaged)
        for _ in range(2):
            # Caught and forgotten, the others would be committed without this one.
            with pytest.raises(CorruptPageError):
                bucket.get(name(1))
        with pytest.raises(CorruptPageError):
            tx.commit()
        with db.view() as tx:
            assert tx.bucket(b"b")[name(1999)]


def test_damage_elsewhere_hinders_no_delete(damaged, path, patience):
    with shearbolt.open(path, no_sync=True) as db:
        with db.view() as tx:
            leaf = tx.bucket(b"b")._leaf(name(0))
            other = tx.bucket(b"b")._leaf(name(1500))
        with open(path, "r+b") as file:
            file.seek(other.pgid * PAGE)
            file.write(b"\xff" * PAGE)
        db.pager.clear()
        with db.update() as tx:
            for key in leaf.keys:
                tx.bucket(b"b").delete(key)
        with db.view() as tx:
            assert tx.bucket(b"b").get(leaf.keys[0]) is None


def test_a_leaf_below_two_branches_is_refused(path, monkeypatch):
    with_patience(monkeypatch, 0)
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db:
        fill(db, 4000)
        with db.view() as tx:
            root = tx.load(tx.bucket(b"b").root)
            first, second = (tx.load(child) for child in root.children[:2])
            assert not first.is_leaf
            shared = first.children[0]
            children = [shared, *second.children[1:]]
            data = encode_branch(second.pgid, 0, second.keys, children)
    with open(path, "r+b") as file:
        file.seek(second.pgid * PAGE)
        file.write(data)
    with shearbolt.open(path, no_sync=True) as db:
        tx = db.begin(True)
        bucket = tx.bucket(b"b")
        with pytest.raises(CorruptPageError, match="two branches"):  # noqa: PT012
            for key in [first.keys[0], second.keys[0], first.keys[1]] * 2:
                bucket.delete(key)
            tx.commit()
