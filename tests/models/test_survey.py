"""A survey says that all is well only where a full look would, and says the same.

Planted faults in the survey are noticed by the comparison with the full look on
damaged files, planted bugs in the engine by recoveries that survey everything.
"""

import os
import random
import struct
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import pytest

import shearbolt
from boltmodel import recovery, survey
from boltmodel.interpret import DATABASE
from boltmodel.model import Bucket
from boltmodel.mutants import mutant
from boltmodel.observation import OrderError, observe
from boltmodel.recovery import look, recover
from boltmodel.subject import ShearboltSubject
from boltmodel.survey import Subtree, Whole, page_sum
from shearbolt.pages.format import BRANCH, Header, Meta
from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import CrashModel
from tornpage.trace import Write

DATA = os.path.join(os.path.dirname(__file__), "..", "data")
PAGE = 1024


def surveyed(content):
    """(what a survey says of these bytes, what a full look says or None)."""
    disk = Disk({DATABASE: content})
    try:
        with shearbolt.open(DATABASE, storage=disk, read_only=True) as db:
            with db.view() as tx:
                meta = tx.meta
            total = disk.open(DATABASE, read_only=True).ask(Whole.of(meta))
            try:
                return total, look(db)
            except (shearbolt.BoltError, OrderError):
                return total, None
    except shearbolt.BoltError:
        return None, None


def deep_database():
    """Three levels, nested, inline and large buckets, free pages, overflow."""
    disk = Disk()
    with shearbolt.open(DATABASE, storage=disk, page_size=PAGE) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"b")
            for i in range(0, 1600, 2):
                bucket[b"%06d" % i] = b"v" * 20
            bucket.create_bucket(b"000100-inline")[b"k"] = b"v"
            bucket.create_bucket(b"000200-large")[b"k"] = b"v" * 3000
            tx.create_bucket(b"c")[b"k"] = b"v" * 3000
        with db.update() as tx:
            for i in range(0, 400, 2):
                del tx.bucket(b"b")[b"%06d" % i]
    file = disk.open(DATABASE, read_only=True)
    return file.pread(file.size(), 0)


DEEP = deep_database()


def live(content):
    metas = [Meta.decode(content[at + 16 : at + 80]) for at in (0, PAGE)]
    return max(metas, key=lambda meta: meta.txid)


def damaged(seed):
    """The deep database with one thing wrong behind the metas."""
    draw = random.Random(seed)
    content = bytearray(DEEP)
    pages = live(DEEP).high_water_mark
    page = draw.randrange(2, pages) * PAGE
    other = draw.randrange(2, pages) * PAGE
    kind = draw.randrange(6)
    if kind == 0:
        content[page + draw.randrange(PAGE)] ^= 1 << draw.randrange(8)
    elif kind == 1:
        # A page under the number of another one.
        content[page : page + PAGE] = DEEP[other : other + PAGE]
        content[page : page + 8] = DEEP[page : page + 8]
    elif kind == 2:
        content[page : page + PAGE] = bytes(PAGE)
    elif kind == 3:
        # An id of the freelist is another page, or stands there twice.
        free = live(DEEP).freelist * PAGE
        count = Header.decode(DEEP[free : free + 16]).count
        at = free + 16 + 8 * draw.randrange(count)
        content[at : at + 8] = struct.pack("<Q", draw.randrange(pages))
    elif kind == 4:
        # A branch has another child.
        branches = [
            at
            for at in range(2 * PAGE, pages * PAGE, PAGE)
            if Header.decode(DEEP[at : at + 16]).flags == BRANCH
        ]
        at = draw.choice(branches)
        count = Header.decode(DEEP[at : at + 16]).count
        at += 16 + 16 * draw.randrange(count) + 8
        content[at : at + 8] = struct.pack("<Q", draw.randrange(2, pages))
    else:
        # Two bytes of content change places: keys out of order, or other pairs.
        low = page + 16 + draw.randrange(PAGE - 40)
        content[low], content[low + 7] = content[low + 7], content[low]
    return bytes(content)


# A survey that sees no order, the best hidden of the faults below, shows at the 94th.
DAMAGED = 120 * int(os.environ.get("SHEARBOLT_SEEDS", "1"))


@cache
def honest(seed):
    """What is said of a damaged database while nothing is planted."""
    return surveyed(damaged(seed))


def wrongly_right(seeds, asked):
    """Damaged databases of which a survey says more than a full look does."""
    for seed in seeds:
        total, full = asked(seed)
        if total is None:
            continue
        if full is None or full.problems or full.content.total != total:
            yield seed


def test_a_survey_of_a_real_database_has_the_sum_of_what_cursors_show():
    with open(os.path.join(DATA, "containerd.db"), "rb") as file:
        total, full = surveyed(file.read())
    assert total is not None
    assert total == full.content.total


def test_without_a_freelist_in_the_file_nothing_is_said():
    # etcd keeps none: which pages are free is known once all are read.
    with open(os.path.join(DATA, "etcd.db"), "rb") as file:
        total, full = surveyed(file.read())
    assert total is None
    assert not full.problems


def test_a_survey_of_what_programs_leave_has_the_sum_of_what_cursors_show():
    subject = ShearboltSubject()
    seen = 0
    for seed in range(60):
        disk = Disk()
        subject.run(subject.generate(seed), disk)
        if not disk.exists(DATABASE):
            continue
        file = disk.open(DATABASE, read_only=True)
        content = file.pread(file.size(), 0)
        total, full = surveyed(content)
        if total is None:
            # Without a freelist in the file free pages are not known.
            with shearbolt.open(DATABASE, storage=disk, read_only=True) as db:
                assert db.view().__enter__().meta.freelist == survey.NO_FREELIST
            continue
        assert not full.problems
        assert total == full.content.total
        seen += 1
    assert seen > 40


def test_a_survey_never_calls_right_what_a_full_look_finds_wrong():
    assert list(wrongly_right(range(DAMAGED), honest)) == []
    # It was asked about damage that matters, and about damage that does not.
    answers = [honest(seed) for seed in range(60)]
    assert sum(total is None for total, _ in answers) > 20
    assert sum(total is not None for total, _ in answers) > 10


def test_a_survey_finds_wrong_only_what_a_full_look_finds_wrong():
    for seed in range(60):
        total, full = honest(seed)
        if total is None:
            assert full is None or full.problems


def sees_no_order(patch):
    patch.setattr(survey, "_ascending", lambda keys: True)


def sees_no_bounds(patch):
    def branch(self, page, view):
        trees = [survey._part(view, Subtree(PAGE, child)) for child in page.children]
        if any(tree is None or tree.first is None for tree in trees):
            return None
        return survey.Tree(
            sum(tree.content for tree in trees),
            page_sum(self.pgid) + sum(tree.used for tree in trees),
            1 + sum(tree.pages for tree in trees),
            page.keys[0],
            trees[-1].last,
        )

    patch.setattr(Subtree, "_branch", branch)


def counts_pages_but_not_which(patch):
    patch.setattr(survey, "page_sum", lambda first, count=1: count)


def takes_every_page_for_used(patch):
    right = Whole.__call__

    def ask(self, view):
        tree = survey._part(view, Subtree(self.page_size, self.root))
        return right(self, view) if tree is None else tree.content

    patch.setattr(Whole, "__call__", ask)


@pytest.mark.parametrize(
    "plant",
    [
        sees_no_order,
        sees_no_bounds,
        counts_pages_but_not_which,
        takes_every_page_for_used,
    ],
)
def test_a_full_look_notices_a_survey_that(plant, monkeypatch):
    plant(monkeypatch)
    found = wrongly_right(range(10 * DAMAGED), lambda seed: surveyed(damaged(seed)))
    assert next(found, None) is not None


@pytest.mark.parametrize("end", ["first", "last"])
def test_a_leaf_that_reaches_beyond_what_its_branch_says_is_not_called_right(end):
    """Its own keys ascend, and so do those of the branch."""
    with shearbolt.open(DATABASE, storage=Disk({DATABASE: DEEP})) as db, db.view() as t:
        branch = t.load(t.bucket(b"b").root)
        while not t.load(branch.children[1]).is_leaf:
            branch = t.load(branch.children[1])
        leaf = branch.children[1]
        key = t.load(leaf).keys[0 if end == "first" else -1]
    at = DEEP.index(key, leaf * PAGE, (leaf + 1) * PAGE)
    beyond = (b"\x00" if end == "first" else b"\xff") * len(key)
    assert surveyed(DEEP)[0] is not None
    assert surveyed(DEEP[:at] + beyond + DEEP[at + len(key) :])[0] is None


def test_a_freelist_with_a_page_that_no_file_has_is_not_called_right():
    content = bytearray(DEEP)
    at = live(DEEP).freelist * PAGE + 16
    content[at : at + 8] = struct.pack("<Q", 1 << 40)
    file = Disk({DATABASE: bytes(content)}).open(DATABASE)
    assert file.ask(Whole.of(live(DEEP))) is None


def test_a_tree_that_leads_back_to_itself_ends():
    content = bytearray(DEEP)
    root = live(DEEP).root
    with shearbolt.open(DATABASE, storage=Disk({DATABASE: DEEP})) as db, db.view() as t:
        top = t.bucket(b"b").root
        assert not t.load(top).is_leaf
        assert root != top
    at = top * PAGE + 16 + 8
    content[at : at + 8] = struct.pack("<Q", top)
    assert surveyed(bytes(content))[0] is None
    assert survey._entered == []


def test_pages_add_up_in_any_order_and_once_each():
    pages = list(range(2, 5000, 7))
    whole = page_sum(2, 4998)
    parts = sum(page_sum(first, min(7, 5000 - first)) for first in reversed(pages))
    assert (whole - parts) % survey._PRIME == 0
    assert page_sum(3) != page_sum(4)
    assert (page_sum(3) + page_sum(5) - 2 * page_sum(4)) % survey._PRIME != 0


def outcomes(program, pages, monkeypatch, files=None):
    """The outcomes at each crash point when `pages` and more are surveyed."""
    monkeypatch.setattr(survey, "SURVEYED", pages)
    subject = ShearboltSubject()
    model = CrashModel(tear="byte")
    disk = Disk(files, model)
    subject.run(program, disk)
    found = []
    for one in Explorer(files or {}, disk.trace, recover, model, cap=400).sweep():
        if not one.closed:
            return None
        found.append((one.point, {reached.outcome for reached in one.outcomes}))
    return found


BUGS = [None, "no-data-sync", "meta-first", "both-slots"]


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("bug", BUGS)
def test_recovery_reports_the_same_whichever_way_it_looks(bug, monkeypatch):
    several = 0
    for seed in range(2, 30, 4) if bug is None else (2,):
        program = ShearboltSubject().generate(seed)
        with nullcontext() if bug is None else mutant(bug):
            full = outcomes(program, 1 << 60, monkeypatch)
            sums = outcomes(program, 0, monkeypatch)
        if full is None or sums is None:
            continue
        assert [one for one, _ in full] == [one for one, _ in sums]
        for (point, walked), (_, asked) in zip(full, sums, strict=True):
            assert {settled(one) for one in walked} == {
                settled(one) for one in asked
            }, point
            several += len(walked) > 1
    assert several


@pytest.mark.parametrize("pages", [0, 1 << 60], ids=["surveyed", "walked"])
def test_recovery_tells_what_the_checker_finds_and_commits_nothing_on_top(
    monkeypatch, pages
):
    monkeypatch.setattr(survey, "SURVEYED", pages)
    leaked = bytearray(DEEP)
    at = live(DEEP).freelist * PAGE + 10
    leaked[at] -= 1
    found = recover(disk := Disk({DATABASE: bytes(leaked)}))
    assert ["unreachable unfreed" in one for one in found.problems] == [True]
    assert not any(map(writes, disk.trace))
    # Where nothing is wrong the commit is a user's, and comes behind recovery.
    ends, right = [], Disk.recovered
    monkeypatch.setattr(
        Disk, "recovered", lambda disk: ends.append(len(disk.trace)) or right(disk)
    )
    assert recover(disk := Disk({DATABASE: DEEP})).problems == ()
    [end] = ends
    assert not any(map(writes, [*disk.trace][:end]))
    assert any(map(writes, [*disk.trace][end:]))


def writes(record):
    return isinstance(record, Write)


def test_what_a_surveyed_database_shows_later_is_compared_with_what_it_showed(
    monkeypatch,
):
    """A second opening, one more commit, and one more behind that."""
    monkeypatch.setattr(survey, "SURVEYED", 0)
    disk = Disk()
    with shearbolt.open(DATABASE, storage=disk) as db, db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v"
    for _ in range(2):
        right = recover(disk)
        assert (right.again, right.progress, right.problems) == ("", "", ())
        assert right.content is None
    sights, sight = [], recovery._sight

    def seen(db, disk):
        made = sight(db, disk)
        sights.append(made)
        return replace(made, shown=made.shown + (len(sights) == odd))

    opened = recovery._opened

    def written(disk):
        if not sights:
            disk.open("/written", create=True)
        return opened(disk)

    monkeypatch.setattr(recovery, "_sight", seen)
    odd = 2
    assert "is then not the promised one" in recover(disk).progress
    sights.clear()
    monkeypatch.setattr(recovery, "_opened", written)
    assert "digest" in recover(disk).again


def settled(outcome):
    """What is said of it either way; in words, surveys say less."""
    return outcome.existed, outcome.error, outcome.txid, outcome.digest


def test_a_crash_point_of_a_large_database_costs_what_a_commit_changed(monkeypatch):
    disk = Disk()
    with (
        shearbolt.open(DATABASE, storage=disk, page_size=PAGE) as db,
        db.update() as tx,
    ):
        bucket = tx.create_bucket(b"b")
        for i in range(2000):
            bucket[b"%06d" % i] = bytes(300)
    file = disk.open(DATABASE, read_only=True)
    files = {DATABASE: file.pread(file.size(), 0)}
    model = CrashModel(tear="byte")
    disk = Disk(files, model)
    with shearbolt.open(DATABASE, storage=disk) as db:
        for i in range(4):
            with db.update() as tx:
                tx.bucket(b"b")[b"%06d" % (400 * i)] = b"new"
    asked = []
    right = Subtree.__call__

    def ask(self, view):
        asked.append(self.pgid)
        return right(self, view)

    monkeypatch.setattr(Subtree, "__call__", ask)
    sweep = Explorer(files, disk.trace, recover, model).sweep()
    first = next(sweep)
    at_first = len(asked)
    rest = list(sweep)
    assert all(one.closed for one in rest)
    assert not any(r.outcome.progress for one in (first, *rest) for r in one.outcomes)
    # Root leaf, two branches and a leaf a version, for each look at one, and those
    # of the commit after recovery.
    executions = sum(one.executions for one in rest)
    assert at_first > 1000
    assert len(asked) - at_first <= 12 * executions


def test_the_content_of_a_bucket_is_summed_as_it_is_changed():
    draw = random.Random(5)
    bucket = Bucket({b"a": b"1", b"in": Bucket({b"x": b"y"})})
    assert bucket.total == Bucket(dict(bucket.entries)).total
    for _ in range(300):
        bucket = bucket.thaw() if draw.random() < 0.2 else bucket
        key = draw.choice((b"a", b"b", b"c", b"in"))
        match draw.randrange(3):
            case 0:
                bucket.store(key, draw.randbytes(2))
            case 1:
                bucket.store(key, Bucket({b"x": draw.randbytes(1)}))
            case _:
                bucket.drop(key)
        assert bucket.total == Bucket(dict(bucket.entries)).total


def test_observing_agrees_with_the_sums_of_a_survey_for_inline_buckets():
    disk = Disk()
    with shearbolt.open(DATABASE, storage=disk) as db:
        with db.update() as tx:
            inline = tx.create_bucket(b"small")
            inline[b"k"] = b"v"
            inline.set_sequence(7)
        with db.view() as tx:
            content = observe(tx)
            asked = disk.open(DATABASE, read_only=True).ask(Whole.of(tx.meta))
    assert asked == content.total
