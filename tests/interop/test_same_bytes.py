"""Random programs of the deterministic family give bbolt's file, byte for byte.

SHEARBOLT_INTEROP_PROGRAMS sets how many programs are run (120); five page sizes
take turns. Program n is the same on every machine: `single(n)` at page size
n mod 5, every fourth without a stored freelist.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.interop import engine
from tests.interop.oracle import Operation, Oracle, Transaction
from tests.interop.programs import Session, single

from shearbolt.pages.freelist import ArrayFreelist
from shearbolt.tree import deletions, node, tree
from shearbolt.tree.deletions import NEVER, AtCommit
from shearbolt.tree.leafrun import LeafRun
from shearbolt.tree.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = int(os.environ.get("SHEARBOLT_INTEROP_PROGRAMS", "120"))
PAGE_SIZES = (1024, 2048, 4096, 8192, 16384)
# Few enough test items to report, many enough to share between workers.
BATCH = 10


def first_difference(ours: bytes, theirs: bytes, page_size: int) -> str:
    """Where two files part, or ""."""
    # Lengths are compared by themselves: see `extended`.
    length = max(len(ours), len(theirs))
    ours, theirs = ours.ljust(length, b"\0"), theirs.ljust(length, b"\0")
    if ours == theirs:
        return ""
    at = next(i for i in range(length) if ours[i] != theirs[i])
    pages = {
        i // page_size
        for i in range(0, length, page_size)
        if ours[i : i + page_size] != theirs[i : i + page_size]
    }
    return (
        f"first at page {at // page_size} byte {at % page_size}; pages {sorted(pages)}"
    )


def extended(high_water: int, page_size: int) -> int:
    """How long bbolt 1.3.7 and later make a file (bytes, below 16 MiB).

    They extend it to the next power of two before they write to a new page.
    1.3.6 forgets to when the freelist itself needed no new page, or is not
    stored; the file then just ends behind the last page written. Seed 537
    shows it; without a stored freelist all do.
    """
    if high_water == 4:
        return 4 * page_size  # Never written since it was made.
    needed = max(32 * 1024, (high_water + 1) * page_size)
    return 1 << (needed - 1).bit_length()


def make_both(
    program: list[Session],
    folder: Path,
    oracle: Oracle,
    page_size: int,
    bare: bool,
    readers_every: int = 0,
) -> tuple[bytes, bytes]:
    """The two files that the program makes: ours, bbolt's."""
    ours, theirs = str(folder / "ours.db"), str(folder / "theirs.db")
    options = {"page_size": page_size, "no_freelist_sync": bare, "no_sync": True}
    options["readers_every"] = readers_every
    for session in program:
        engine.apply(ours, session.transactions, **options)
        oracle.apply(theirs, session.transactions, **options)
    return Path(ours).read_bytes(), Path(theirs).read_bytes()


@pytest.mark.parametrize("batch", range(-(-PROGRAMS // BATCH)))
def test_file_is_bbolts_to_the_byte(batch: int, oracle: Oracle, tmp_path: Path) -> None:
    for seed in range(batch * BATCH, min((batch + 1) * BATCH, PROGRAMS)):
        page_size = PAGE_SIZES[seed % len(PAGE_SIZES)]
        bare = seed % 4 == 0
        folder = tmp_path / str(seed)
        folder.mkdir()
        ours, theirs = make_both(single(seed), folder, oracle, page_size, bare)
        difference = first_difference(ours, theirs, page_size)
        assert not difference, f"single({seed}), page size {page_size}: {difference}"
        high_water = oracle.info(str(folder / "theirs.db"))["size"] // page_size
        assert len(theirs) <= len(ours) == extended(high_water, page_size), seed


@pytest.mark.parametrize("batch", range(-(-PROGRAMS // 4 // BATCH)))
def test_file_is_bbolts_to_the_byte_beside_readers(
    batch: int, oracle: Oracle, tmp_path: Path
) -> None:
    """What a reader cannot see is used again at once, and nothing else."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        page_size = PAGE_SIZES[seed % len(PAGE_SIZES)]
        every = 1 + seed % 7
        folder = tmp_path / str(seed)
        folder.mkdir()
        ours, theirs = make_both(
            single(seed), folder, oracle, page_size, seed % 4 == 0, every
        )
        difference = first_difference(ours, theirs, page_size)
        assert not difference, f"single({seed}), page size {page_size}: {difference}"


@pytest.mark.parametrize("batch", range(-(-PROGRAMS // 10 // BATCH)))
def test_gathered_deletes_give_bbolts_file_too(
    batch: int, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In these programs a transaction deletes one key, and trees wait for more.
    usual = deletions.patience
    monkeypatch.setattr(
        tree, "patience", lambda *place: 0 if usual(*place) < NEVER else NEVER
    )
    gathered = 0
    run, read = AtCommit.run, LeafRun.read

    def counted(self: AtCommit) -> None:
        nonlocal gathered
        gathered += 1
        run(self)

    monkeypatch.setattr(AtCommit, "run", counted)
    if batch % 2:
        # One delete is few: leaves are taken together all the same.
        monkeypatch.setattr(deletions, "_FEW", 1 << 20)
        monkeypatch.setattr(
            LeafRun, "read", lambda *given: taken.append(1) or read(*given)
        )
    taken: list[int] = []
    # The family's third that drains buckets, a key a transaction.
    for seed in range(3 * batch * BATCH + 2, 3 * (batch + 1) * BATCH, 3):
        page_size = PAGE_SIZES[seed % len(PAGE_SIZES)]
        folder = tmp_path / str(seed)
        folder.mkdir()
        ours, theirs = make_both(single(seed), folder, oracle, page_size, seed % 4 == 0)
        difference = first_difference(ours, theirs, page_size)
        assert not difference, f"single({seed}), page size {page_size}: {difference}"
    assert gathered > 10
    assert not batch % 2 or len(taken) > 10


def test_one_changed_byte_is_reported(oracle: Oracle, tmp_path: Path) -> None:
    # The fault the comparison guards against, at its smallest.
    ours, theirs = make_both(single(1), tmp_path, oracle, 2048, bare=False)
    changed = bytearray(ours)
    changed[2048 + 30] ^= 1
    assert first_difference(ours, theirs, 2048) == ""
    assert first_difference(bytes(changed), theirs, 2048) == (
        "first at page 1 byte 30; pages [1]"
    )


REBALANCE = Node.rebalance


def merge_only_what_is_empty(self: Node) -> None:
    if not self.keys:
        REBALANCE(self)


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (ArrayFreelist, "allocate", lambda *_: 0),
        (Node, "rebalance", merge_only_what_is_empty),
        (node, "is_one_piece", lambda *_: True),
    ],
    ids=["pages-never-reused", "merged-only-when-empty", "nodes-never-split"],
)
def test_another_layout_policy_is_seen(
    owner: Any,
    name: str,
    fault: Callable[..., Any],
    oracle: Oracle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each leaves a sound file with the right content: only bytes can tell.
    monkeypatch.setattr(owner, name, fault)
    for seed in range(1, 12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ours, theirs = make_both(single(seed), folder, oracle, 1024, bare=False)
        if first_difference(ours, theirs, 1024):
            return
    pytest.fail("no program of eleven shows the fault")


def test_programs_do_split_merge_overflow_and_reuse(
    oracle: Oracle, tmp_path: Path
) -> None:
    # Byte equality of trivial files would say little.
    seen = set()
    for seed in range(40):
        path = str(tmp_path / f"{seed}.db")
        leaves = 0
        for session in single(seed):
            for transaction in session.transactions:
                oracle.apply(path, [transaction], page_size=1024, no_sync=True)
                before, leaves = leaves, oracle.stats(path)["leaf_pages"]
                if transaction.ops[0].op == "delete_bucket":
                    seen.add("delete_bucket")
                elif leaves != before:
                    seen.add("split" if leaves > before else "merge")
        stats = oracle.stats(path)
        seen |= {name for name in ("branch_pages", "leaf_overflow") if stats[name]}
        if stats["free"]:
            seen.add("free")
    assert seen == {
        "branch_pages",
        "delete_bucket",
        "free",
        "leaf_overflow",
        "merge",
        "split",
    }


def test_the_deterministic_family_is_deterministic(
    oracle: Oracle, tmp_path: Path
) -> None:
    # The premise. Were a program outside it, the tests above would fail at random.
    for seed in range(10):
        files = set()
        for attempt in range(4):
            path = tmp_path / f"{seed}-{attempt}.db"
            for session in single(seed):
                oracle.apply(
                    str(path), session.transactions, page_size=1024, no_sync=True
                )
            files.add(path.read_bytes())
        assert len(files) == 1, seed


def test_several_dirty_buckets_are_outside_that_family(
    oracle: Oracle, tmp_path: Path
) -> None:
    # Why the family is so narrow. 120 orders: 20 runs agree once in 10^39 tries.
    names = [b"%d" % i for i in range(5)]
    fill = Transaction(
        tuple(
            op
            for name in names
            for op in (
                Operation("create_bucket", key=name),
                Operation("put", (name,), b"k", b"v" * 2000),
            )
        )
    )
    files = set()
    for attempt in range(20):
        path = tmp_path / f"{attempt}.db"
        oracle.apply(str(path), [fill], page_size=4096, no_sync=True)
        files.add(path.read_bytes())
    assert len(files) > 1
