"""Salvage finds everything that is still there, and names what is not."""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import shutil
import struct
import sys
import tracemalloc
from pathlib import Path

import pytest

import shearbolt
from shearbolt import salvage
from shearbolt.pages.format import Leaf
from shearbolt.salvage import pages, walk
from shearbolt.salvage.records import key_range
from shearbolt.salvage.walk import LostRanges, LostTree

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

from fuzz_inputs import CORPUS
from fuzz_memory import MemoryStorage

_spec = importlib.util.spec_from_file_location("make", CORPUS / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

PAGE = make.PAGE
ETCD = Path(__file__).parents[1] / "data" / "etcd.db"
SOUND = {(b"b",): dict([*make._pairs("a").items(), *make._pairs("m").items()])}


def content(data: bytes | Path, **options) -> dict:
    """{bucket path: {key: value}} that a scan finds."""
    found: dict = {}
    path, storage = _place(data)
    with salvage.scan(path, storage=storage, **options) as report:
        for entry in report:
            if isinstance(entry, salvage.FoundBucket):
                found.setdefault(entry.path, {})
            elif isinstance(entry, salvage.FoundPair):
                found.setdefault(entry.bucket.path, {})[entry.key] = entry.value
    return found


def damage(data: bytes | Path) -> list[salvage.Damage]:
    path, storage = _place(data)
    with salvage.scan(path, storage=storage) as report:
        return [entry for entry in report if isinstance(entry, salvage.Damage)]


def repaired(data: bytes) -> tuple[salvage.Repaired, dict]:
    """What a repair says, and what is in its output."""
    storage = MemoryStorage({"db": data})
    result = salvage.repair("db", "out", storage=storage)
    assert bytes(storage.files["db"]) == data
    assert set(storage.files) == {"db", "out"}
    found: dict = {}
    with shearbolt.open("out", storage=storage, read_only=True) as db, db.view() as tx:
        assert tx.check() == []
        stack = [tx.root_bucket]
        while stack:
            bucket = stack.pop()
            if bucket.path:
                found[bucket.path] = dict(bucket.items())
            stack += [child for _, child in bucket.buckets()]
    return result, found


def _place(data: bytes | Path):
    if isinstance(data, Path):
        return data, None
    return "db", MemoryStorage({"db": data})


def test_a_sound_file_is_copied_whole(tmp_path: Path) -> None:
    output = tmp_path / "out.db"
    calls = []
    before = ETCD.read_bytes()
    result = salvage.repair(ETCD, output, progress=lambda *done: calls.append(done))
    assert ETCD.read_bytes() == before
    assert result.damage == ()
    assert result.complete
    assert content(output) == content(ETCD)
    assert result.pairs == sum(map(len, content(ETCD).values())) > 300
    assert calls[-1][0] == calls[-1][1] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.db"]


def test_sequences_and_empty_buckets_are_kept() -> None:
    storage = MemoryStorage()
    database = shearbolt.open("db", page_size=PAGE, storage=storage)
    with database as db, db.update() as tx:
        tx.create_bucket(b"empty").set_sequence(7)
        tx.create_bucket(b"full").set_sequence(9)
        tx.bucket(b"full").put(b"k", b"v" * 500)
    salvage.repair("db", "out", storage=storage)
    with shearbolt.open("out", storage=storage) as db, db.view() as tx:
        assert tx.bucket(b"empty").sequence == 7
        assert tx.bucket(b"full").sequence == 9


# -- one thing is broken -----------------------------------------------------------


def test_leaves_below_a_lost_branch_return_to_their_bucket() -> None:
    data = make.lost_branch()
    expected = {}
    for letter in "afmr":
        expected |= make._pairs(letter)
    result, found = repaired(data)
    assert found == {(b"b",): expected}
    (lost,) = [entry for entry in result.damage if entry.lost]
    assert (lost.pgid, lost.offset, lost.path) == (6, 6 * PAGE, (b"b",))
    assert (lost.low, lost.high) == (b"m0", None)
    assert "keys from b'm0' on" in str(lost)
    back = [entry.pgid for entry in result.damage if "put back" in entry.reason]
    assert back == [9, 10]


def test_orphans_of_two_lost_branches_are_not_guessed_at() -> None:
    data = bytearray(make.lost_branch())
    data[5 * PAGE : 6 * PAGE] = bytes(PAGE)
    _, found = repaired(bytes(data))
    shelf = {path[1]: pairs for path, pairs in found.items() if len(path) == 2}
    assert shelf == {
        b"page 7": make._pairs("a"), b"page 8": make._pairs("f"),
        b"page 9": make._pairs("m"), b"page 10": make._pairs("r"),
    }  # fmt: skip
    assert found[b"b",] == {}


def test_free_pages_are_not_mistaken_for_lost_ones() -> None:
    pages_ = {
        3: make.leaf(3, {b"b": make.bucket(4)}),
        4: make.branch(4, [(b"a0", 5), (b"m0", 6)]),
        5: make.leaf(5, make._pairs("a")),
        6: bytes(PAGE),
        7: make.leaf(7, {b"old": b"deleted long ago"}),
    }
    data = make.file(pages_, free=(7,))
    assert content(data) == {(b"b",): make._pairs("a")}


def test_a_damaged_position_costs_nothing() -> None:
    data = make.sound()
    for index in range(5):
        at = 5 * PAGE + 16 + 16 * index + 4
        broken = bytearray(data)
        broken[at] ^= 0x40
        assert content(bytes(broken)) == SOUND, index
        (flaw,) = damage(bytes(broken))
        assert flaw.pgid == 5
        assert not flaw.lost


def test_a_damaged_size_costs_one_element() -> None:
    data = make.sound()
    for index in range(4):
        broken = bytearray(data)
        broken[5 * PAGE + 16 + 16 * index + 12] ^= 0x40
        missing = SOUND[b"b",].keys() - content(bytes(broken))[b"b",].keys()
        assert missing == {b"a%d" % index}
        assert [bool(entry.lost) for entry in damage(bytes(broken))].count(True) == 1


@pytest.mark.parametrize("at", [16 * 4 + 12, 16 * 5 + 4, 16 * 5 + 12 + 2])
def test_where_the_last_two_disagree_neither_is_believed(at: int) -> None:
    # A size of the one, the position of the other, a size out of the page.
    broken = bytearray(make.sound())
    broken[5 * PAGE + 16 + at] ^= 0x40
    found = content(bytes(broken))[b"b",]
    assert found.items() <= SOUND[b"b",].items()
    missing = SOUND[b"b",].keys() - found.keys()
    assert b"a5" in missing
    assert missing <= {b"a4", b"a5"}


@pytest.mark.parametrize("bit", range(8, 31))
def test_a_damaged_size_of_the_last_element_takes_no_other_page(bit: int) -> None:
    """Of what it says and what the page behind says of itself, only one can be."""
    broken = bytearray(make.sound())
    at = 5 * PAGE + 16 + 16 * 5 + 12
    broken[at : at + 4] = (7 ^ (1 << bit)).to_bytes(4, "little")
    found = content(bytes(broken))[b"b",]
    found.pop(b"a5", None)
    assert found == {key: SOUND[b"b",][key] for key in SOUND[b"b",] if key != b"a5"}


@pytest.mark.parametrize("size", [2000, 4 * PAGE + 300])
def test_a_value_is_whole_although_the_overflow_says_less(size: int) -> None:
    pairs = {b"a": b"1", b"z": bytes(range(1, 251)) * (size // 250)}
    page = make.leaf(4, pairs, overflow=size // PAGE)
    assert content(make.file(make._one_bucket(p4=make._field(page, 12, 4, 0)))) == {
        (b"b",): pairs
    }


@pytest.mark.parametrize("count", [0, 1, 5, 7, 60, 0xFFFF])
def test_a_damaged_count_costs_nothing(count: int) -> None:
    broken = bytearray(make.sound())
    broken[5 * PAGE + 10 : 5 * PAGE + 12] = count.to_bytes(2, "little")
    assert content(bytes(broken)) == SOUND


@pytest.mark.parametrize("overflow", [1, 3, 0xFFFFFFFF])
def test_a_damaged_overflow_takes_nothing_from_others(overflow: int) -> None:
    broken = bytearray(make.sound())
    broken[5 * PAGE + 12 : 5 * PAGE + 16] = overflow.to_bytes(4, "little")
    assert content(bytes(broken)) == SOUND


def test_a_damaged_number_is_forgiven_where_the_keys_fit() -> None:
    broken = bytearray(make.sound())
    broken[6 * PAGE] = 99
    assert content(bytes(broken)) == SOUND
    # Page 4 is the root of its tree: no branch says which keys it must have.
    broken = bytearray(make.sound())
    broken[4 * PAGE] = 99
    assert damage(bytes(broken))[0].reason == "it says it is page 99"


def test_a_page_of_another_range_is_not_believed() -> None:
    broken = bytearray(make.sound())
    broken[6 * PAGE : 7 * PAGE] = broken[5 * PAGE : 6 * PAGE]
    assert content(bytes(broken)) == {(b"b",): make._pairs("a")}


THREE = {
    4: [(b"a0", 5), (b"m0", 6), (b"r0", 7)],
    5: make.leaf(5, make._pairs("a")),
    6: make.leaf(6, make._pairs("m")),
    7: make.leaf(7, make._pairs("r")),
    # Free, and as they were once.
    8: make.leaf(8, make._pairs("x")),
    9: make.leaf(9, {b"m1": b"old", b"m7": b"deleted"}),
    10: make.leaf(10, {b"l1": b"old", b"m1": b"old"}),
}
FREE = (8, 9, 10)


def three_leaves(places: dict[int, int]) -> bytes:
    """A file with three leaves; some of them their branch gives other numbers."""
    children = [(key, places.get(pgid, pgid)) for key, pgid in THREE[4]]
    pages_ = make._one_bucket(p4=make.branch(4, children))
    return make.file(THREE | pages_, free=FREE)


@pytest.mark.parametrize(
    ("pgid", "to"),
    [(pgid, to) for pgid in (5, 6) for to in (0, 7, 8, 12, 1 << 41)] + [(6, 10)],
)
def test_a_page_that_its_branch_gives_a_wrong_number_goes_back(
    pgid: int, to: int
) -> None:
    """The page there is not taken for it: another place has it, or it is free."""
    expected = make._pairs("a") | make._pairs("m") | make._pairs("r")
    assert content(three_leaves({})) == {(b"b",): expected}
    result, found = repaired(three_leaves({pgid: to}))
    assert found == {(b"b",): expected}
    (lost,) = [entry for entry in result.damage if entry.lost]
    assert lost.path == (b"b",)
    back = [entry.pgid for entry in result.damage if "put back" in entry.reason]
    assert back == [pgid]


@pytest.mark.parametrize("what", ["elsewhere", "free", "a stranger", "overlapping"])
def test_a_page_that_many_places_refer_to_is_read_a_few_times(
    monkeypatch, what
) -> None:
    """As often as there are references, it took 38 s for a file of 1 MB."""
    reads: list[int] = []
    read = walk.read_tolerant

    def counted(pager, pgid, limit):
        reads.append(pgid)
        return read(pager, pgid, limit)

    monkeypatch.setattr(walk, "read_tolerant", counted)
    to = 8 if what == "free" else 11
    children = [(b"a0", 5), (b"m0", 12), *((b"n%02d" % at, to) for at in range(40))]
    pages_ = THREE | make._one_bucket(p4=make.branch(4, children))
    pages_[11] = make.leaf(11, make._pairs("r"))
    if what == "overlapping":
        pages_[11] = make.leaf(11, {b"n": bytes(range(1, 251)) * 5}, overflow=1)
    elif what == "a stranger":
        pages_[11] = make._field(pages_[11], 0, 8, 99)
    pages_[12] = make.leaf(12, make._pairs("m"))
    found = content(make.file(pages_, free=FREE))
    assert found[b"b",].items() >= (make._pairs("a") | make._pairs("m")).items()
    assert 1 <= reads.count(to) <= 3


@pytest.mark.parametrize(("place", "to"), [(0, 7), (0, 8), (1, 9), (1, 10)])
def test_a_branch_that_is_passed_over_goes_back(place: int, to: int) -> None:
    """Its parent refers to one of its leaves instead, whose keys are right."""
    children = [(b"a0", 5), (b"m0", 6)]
    children[place] = (children[place][0], to)
    expected, pages_ = {}, {}
    for pgid, letter in enumerate("afmr", 7):
        pages_[pgid] = make.leaf(pgid, make._pairs(letter))
        expected |= make._pairs(letter)
    pages_[4] = make.branch(4, children)
    pages_[5] = make.branch(5, [(b"a0", 7), (b"f0", 8)])
    pages_[6] = make.branch(6, [(b"m0", 9), (b"r0", 10)])
    pages_[3] = make.leaf(3, {b"b": make.bucket(4)})
    result, found = repaired(make.file(pages_))
    assert found == {(b"b",): expected}
    assert any("beside" in entry.reason for entry in result.damage)


def test_an_old_version_of_a_page_does_not_hide_the_new_one() -> None:
    """Nobody can tell whether the branch is wrong or the freelist: both are kept."""
    result, found = repaired(three_leaves({6: 9}))
    assert found[b"b",] == make._pairs("a") | make._pairs("r") | {
        b"m1": b"old",
        b"m7": b"deleted",
    }
    assert found[b"lost+found", b"page 6"] == make._pairs("m")
    assert any("it is free" in entry.reason for entry in result.damage)


def test_a_page_that_nobody_else_has_is_kept_whatever_its_keys() -> None:
    """Then the branch's keys are wrong."""
    pages_ = make._one_bucket(p4=make.branch(4, [(b"a0", 5), (b"m0", 6), (b"mz", 7)]))
    data = make.file(THREE | pages_ | {7: make.leaf(7, make._pairs("c"))}, free=FREE)
    result, found = repaired(data)
    expected = make._pairs("a") | make._pairs("m") | make._pairs("c")
    assert found == {(b"b",): expected}
    assert ["range" in entry.reason for entry in result.damage] == [True]
    assert result.lost == 0


def test_what_a_page_behind_a_cut_referred_to_is_not_more_of_its_bucket() -> None:
    """That page may have had a bucket in it, and this be the bucket's."""
    pages_ = make._one_bucket(p4=make.branch(4, [(b"a0", 5), (b"m0", 7)]))
    pages_[5] = make.leaf(5, make._pairs("a"))
    pages_[6] = make.leaf(6, make._pairs("n"))
    pages_[7] = make.leaf(7, {b"m": make.bucket(6)})
    found = content(make.file(pages_)[: 7 * PAGE])
    assert found[b"b",] == make._pairs("a")
    assert found[b"lost+found", b"page 6"] == make._pairs("n")


def test_keys_out_of_order_are_put_in_order() -> None:
    result, found = repaired(make.unsorted_keys())
    assert found == {(b"b",): {b"a": b"1", b"b": b"2", b"c": b"3"}}
    assert result.complete


def test_of_a_key_there_twice_the_first_stays() -> None:
    result, found = repaired(make.duplicate_keys())
    assert found == {(b"b",): {b"a": b"1"}}
    assert not result.complete
    assert any("twice" in entry.reason for entry in result.damage)


def test_the_first_stays_also_when_a_bucket_comes_between() -> None:
    pairs = [(b"a", b"1"), (b"z", b"first"), (b"m", make.bucket(5)), (b"p", b"2"),
             (b"z", b"second")]  # fmt: skip
    pages_ = make._one_bucket(p4=make.leaf(4, pairs), p5=make.leaf(5, {b"k": b"v"}))
    result, found = repaired(make.file(pages_))
    assert found[b"b",] == {b"a": b"1", b"p": b"2", b"z": b"first"}
    assert [entry.low for entry in result.damage if entry.lost] == [b"z"]
    assert result.pairs == 4


def test_a_name_that_is_key_and_bucket_keeps_both() -> None:
    data = make.file(
        {
            3: make.leaf(3, [(b"b", b"plain"), (b"b", make.bucket(4))]),
            4: make.leaf(4, {b"k": b"v"}),
        }
    )
    _, found = repaired(data)
    assert found == {(b"b (bucket)",): {b"k": b"v"}}


def test_an_empty_key_is_named() -> None:
    data = make.file({3: make.leaf(3, {b"b": make.bucket(4)}),
                      4: make.leaf(4, {b"": b"v", b"k": b"w"})})  # fmt: skip
    result, found = repaired(data)
    assert found == {(b"b",): {b"k": b"w"}}
    assert "key of 0 bytes" in result.damage[0].reason


# -- metas -------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [make.both_metas, make.no_metas])
def test_without_metas_the_root_is_found(maker) -> None:
    result, found = repaired(maker())
    assert found == SOUND
    assert result.txid == -1
    assert not result.complete


@pytest.mark.parametrize("page_size", [1024, 4096, 16384])
def test_without_metas_the_page_size_is_found(page_size: int) -> None:
    storage = MemoryStorage()
    with shearbolt.open("db", page_size=page_size, storage=storage) as db:
        for start in range(0, 900, 300):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                for number in range(start, start + 300):
                    bucket.put(b"%05d" % number, b"v" * 300)
    before = content(bytes(storage.files["db"]))
    data = bytes(2 * page_size) + bytes(storage.files["db"])[2 * page_size :]
    with salvage.scan("db", storage=MemoryStorage({"db": data})) as report:
        assert report.page_size == page_size
    assert content(data)[b"b",].items() >= before[b"b",].items()


def versions() -> bytes:
    storage = MemoryStorage()
    with shearbolt.open("db", page_size=PAGE, storage=storage) as db:
        for value in (b"one", b"two"):
            with db.update() as tx:
                tx.create_bucket_if_not_exists(b"b").put(b"k", value)
    return bytes(storage.files["db"])


def test_the_older_version_can_be_read() -> None:
    data = versions()
    with salvage.scan("db", storage=MemoryStorage({"db": data})) as report:
        newest = report.meta.txid
        assert sorted(state.txid for state in report.metas) == [newest - 1, newest]
    assert content(data) == content(data, txid=newest) == {(b"b",): {b"k": b"two"}}
    assert content(data, txid=newest - 1) == {(b"b",): {b"k": b"one"}}
    with pytest.raises(shearbolt.OptionError, match="no sound meta of txid 99"):
        content(data, txid=99)


def test_one_damaged_meta_may_have_been_the_last_transaction() -> None:
    data = bytearray(versions())
    newest = max((0, 1), key=lambda slot: data[slot * PAGE + 64])
    data[newest * PAGE + 30] ^= 1
    result, found = repaired(bytes(data))
    assert found == {(b"b",): {b"k": b"one"}}
    assert result.damage[0].lost == "perhaps the last transaction"


def test_a_file_cut_short_keeps_what_is_before_the_cut() -> None:
    data = make.sound()
    kept = content(data[: 6 * PAGE])
    assert kept == {(b"b",): make._pairs("a")}
    assert "cut short" in damage(data[: 6 * PAGE])[0].reason


def test_no_database_is_said_to_be_none() -> None:
    noise = random.Random(4).randbytes(50_000)
    for data in (b"", b"x", bytes(20_000), noise):
        with pytest.raises(shearbolt.InvalidDatabaseError):
            content(data)


def test_a_page_size_may_be_given() -> None:
    assert content(make.no_metas(), page_size=PAGE) == SOUND
    with pytest.raises(shearbolt.OptionError, match="page_size"):
        content(make.no_metas(), page_size=0)


# -- the machine -------------------------------------------------------------------


def test_the_output_must_not_exist(tmp_path: Path) -> None:
    source, output = tmp_path / "in.db", tmp_path / "out.db"
    source.write_bytes(make.sound())
    output.write_bytes(b"precious")
    with pytest.raises(shearbolt.OptionError, match="exists"):
        salvage.repair(source, output)
    assert output.read_bytes() == b"precious"
    with pytest.raises(shearbolt.OptionError, match="exists"):
        salvage.repair(source, source)
    assert source.read_bytes() == make.sound()


@pytest.mark.parametrize("left", ["out.db.partial", "out.db.1.partial", "own"])
def test_what_a_killed_repair_left_is_not_in_the_way(left, tmp_path: Path) -> None:
    source, output = tmp_path / "in.db", tmp_path / "out.db"
    source.write_bytes(make.sound())
    own = f"out.db.{os.getpid()}.partial"
    stale = tmp_path / (own if left == "own" else left)
    with shearbolt.open(stale) as db, db.update() as tx:
        tx.create_bucket(b"stale")
    salvage.repair(source, output)
    with shearbolt.open(output, read_only=True) as db, db.view() as tx:
        assert b"stale" not in [name for name, _ in tx.buckets()]
    # Another process's file may be in use; what has our number cannot be.
    assert stale.exists() is (left != "own")
    assert not (tmp_path / own).exists()


def test_a_repair_that_fails_leaves_nothing() -> None:
    class Full(MemoryStorage):
        def rename(self, source: str, target: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    storage = Full({"db": make.sound()})
    with pytest.raises(shearbolt.StorageError):
        salvage.repair("db", "out", storage=storage)
    assert set(storage.files) == {"db"}


def test_a_file_that_is_being_written_is_not_scanned(tmp_path: Path) -> None:
    path = tmp_path / "in.db"
    shutil.copy(ETCD, path)
    with shearbolt.open(path), pytest.raises(shearbolt.LockTimeoutError):
        salvage.scan(path)
    with pytest.raises(shearbolt.DatabaseNotFoundError):
        salvage.scan(tmp_path / "missing.db")


def test_a_scan_holds_little_at_a_time() -> None:
    storage = MemoryStorage()
    database = shearbolt.open("db", page_size=PAGE, no_sync=True, storage=storage)
    with database as db, db.update() as tx:
        bucket = tx.create_bucket(b"b")
        for number in range(12_000):
            bucket.put(b"%06d" % number, b"v" * 200)
    size = len(storage.files["db"])
    tracemalloc.start()
    try:
        with salvage.scan("db", storage=storage) as report:
            count = sum(isinstance(entry, salvage.FoundPair) for entry in report)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 12_000
    assert size > 3_000_000
    assert peak < 200_000


def test_a_scan_can_be_repeated() -> None:
    with salvage.scan(
        "db", storage=MemoryStorage({"db": make.lost_branch()})
    ) as report:
        first = [str(entry) for entry in report if isinstance(entry, salvage.Damage)]
        again = [str(entry) for entry in report if isinstance(entry, salvage.Damage)]
    assert first == again != []


def test_damage_is_a_tree_of_buckets() -> None:
    result, _ = repaired(make.lost_branch())
    (bucket,) = result.root.buckets
    assert bucket.name == b"b"
    assert tuple(bucket.walk()) == bucket.damage == result.damage
    assert result.root.damage == ()


def test_damage_beyond_the_list_is_counted(monkeypatch) -> None:
    monkeypatch.setitem(salvage.repair.__globals__, "MAX_LISTED", 1)
    result, _ = repaired(make.lost_branch())
    assert len(result.damage) == 1
    assert result.unlisted == 2


def test_a_range_is_said_in_words() -> None:
    assert key_range(None, None) == "all keys"
    assert key_range(b"a", None) == "the keys from b'a' on"
    assert key_range(None, b"b") == "the keys before b'b'"
    assert key_range(b"a", b"b" * 50).endswith("... (50 bytes)")


# -- planted faults ----------------------------------------------------------------


def test_without_the_second_copy_of_the_count_keys_would_vanish(monkeypatch) -> None:
    monkeypatch.setattr(pages, "_by_first_position", lambda *_: None)
    broken = bytearray(make.sound())
    broken[5 * PAGE + 10] = 0
    assert content(bytes(broken)) == {(b"b",): make._pairs("m")}


def test_without_the_freelist_old_pages_would_return(monkeypatch) -> None:
    def nothing_is_free(self, walk):
        yield from ()
        return True

    monkeypatch.setattr(salvage.Report, "_freelist", nothing_is_free)
    with pytest.raises(AssertionError):
        test_free_pages_are_not_mistaken_for_lost_ones()


def test_a_meta_that_cannot_be_says_the_page_size_where_it_stands() -> None:
    # Of four pages only page 3 says its number: too few to guess from.
    data = bytearray(make.root_is_meta())
    data[0:80] = bytes(80)
    data[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    with salvage.scan("db", storage=MemoryStorage({"db": bytes(data)})) as report:
        assert (report.page_size, report.meta) == (PAGE, None)


def test_lost_ranges_hold_what_one_of_their_trees_holds() -> None:
    rng = random.Random(3)
    bucket = salvage.FoundBucket(b"", None)
    outcomes = set()
    for _ in range(2000):
        lost = []
        for _ in range(rng.randint(1, 6)):
            low, high = sorted(b"%d" % rng.randrange(10, 60) for _ in range(2))
            ends = [rng.choice([low, low, None]), rng.choice([high, high, high, None])]
            lost.append(LostTree(bucket, *ends))
        keys = [b"%d" % rng.randrange(10, 60) for _ in range(rng.randint(1, 3))]
        page = Leaf(2, 0, tuple(keys), tuple(keys), 0)
        held = any(tree.holds(page) for tree in lost)
        assert LostRanges(lost).hold(page) == held
        outcomes.add(held)
    assert outcomes == {True, False}


def test_every_orphan_is_not_compared_with_every_lost_tree(monkeypatch) -> None:
    """A file with 1,200 of both took half a minute."""
    made = {
        3: make.leaf(3, {b"b": make.bucket(4)}),
        4: make.branch(4, [(b"%02d" % at, 1 << 41) for at in range(40)]),
    }
    made |= {at: make.leaf(at, {b"%02d" % at: b"v"}) for at in range(5, 60)}
    storage = MemoryStorage({"db": make.file(made, freelist=bytes(PAGE))})
    monkeypatch.setattr(LostTree, "holds", lambda *_: pytest.fail("one by one"))
    with salvage.scan("db", storage=storage) as report:
        pairs = [entry for entry in report if isinstance(entry, salvage.FoundPair)]
    # The last child's range has no end.
    assert len(pairs) == 55


def _damaged_at_every_level(path: Path, depth: int) -> None:
    with shearbolt.open(path, page_size=PAGE, no_sync=True) as db, db.update() as tx:
        bucket = tx.root_bucket
        for _ in range(depth):
            bucket = bucket.create_bucket(b"in")
            bucket.put(b"k", bytes(PAGE // 2))
    data = bytearray(path.read_bytes())
    for start in range(0, len(data), PAGE):
        flags, count = struct.unpack_from("<HH", data, start + 8)
        if flags == 2 and count == 2:
            # The size of the second key.
            struct.pack_into("<I", data, start + 16 + 16 + 8, 0x7FFFFFFF)
    path.write_bytes(data)


def _lines(call) -> int:
    """How many lines of salvage a call runs."""
    counted = 0

    def line(_frame, event, _value):
        nonlocal counted
        counted += event == "line"
        return line

    def entered(frame, _event, _value):
        return line if "salvage" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        call()
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("what", ["scan", "repair"])
def test_damage_at_every_depth_takes_work_as_there_are_levels(what, tmp_path) -> None:
    """And not for each of them its depth: 8,000 levels took the square of that."""

    def work(depth: int) -> int:
        path = tmp_path / f"{depth}.db"
        _damaged_at_every_level(path, depth)

        def scan() -> None:
            with salvage.scan(path) as report:
                told = [str(one) for one in report if isinstance(one, salvage.Damage)]
            assert len(told) >= depth - 1

        def repair() -> None:
            result = salvage.repair(path, tmp_path / f"{depth}.out")
            assert result.buckets == depth
            assert len(result.damage) >= depth - 1

        return _lines({"scan": scan, "repair": repair}[what])

    # What is listed of a bucket has at most 64 names, or takes 64 steps.
    first, second, third = work(200), work(400), work(600)
    assert third - second < 1.1 * (second - first)


def test_damage_far_down_says_where_without_all_the_names(tmp_path) -> None:
    path = tmp_path / "db"
    _damaged_at_every_level(path, 100)
    with salvage.scan(path) as report:
        told = [one for one in report if isinstance(one, salvage.Damage)]
    assert told[-2].path == (b"in",) * len(told[-2].path)
    assert len(told[-2].path) > 64
    assert f"bucket ({len(told[-2].path) - 64} above)/b'in'/" in str(told[-2])
    assert str(told[0]).count("b'in'") == 1
