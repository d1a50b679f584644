"""Property N: without syncs, one prefix of the history, where the device allows it."""

import pytest

from boltmodel.contract import Outcome
from boltmodel.generate import generate
from boltmodel.interpret import History, run
from boltmodel.lanes.relaxed import no_holes, run_relaxed, sweep_relaxed
from boltmodel.model import EMPTY, ModelTx
from boltmodel.mutants import mutant
from tornpage.disk import Disk
from tornpage.model import CrashModel
from tornpage.trace import Mark


def broken(seeds, model):
    for seed in seeds:
        for point, closed, found in sweep_relaxed(
            generate(seed), CrashModel.parse(model)
        ):
            assert closed
            for one in found:
                yield seed, point, one


def test_a_device_that_keeps_the_order_leaves_a_prefix():
    assert not list(broken(range(12), "order=ordered"))


def test_a_device_that_does_not_cannot_be_promised_anything():
    """A limit of every store that does not sync, and the check that N can fail."""
    seed, _, found = next(broken(range(12), "order=any"))
    assert seed == 0
    assert found.property == "N no holes"


def test_a_meta_that_is_written_before_its_pages_leaves_a_hole():
    with mutant("meta-first"):
        _, _, found = next(broken(range(12), "order=ordered"))
    assert found.property == "N no holes"


def test_a_relaxed_run_syncs_when_it_is_told_and_not_before():
    disk = Disk()
    history = run_relaxed(generate(0), disk, sync_every=2)
    assert not history.live
    labels = [one.label for one in disk.trace if one.op == "mark"]
    assert labels.count("synced") == labels.count("acked") // 2 > 0
    patient = Disk()
    run(generate(0), patient)
    syncs = [sum(one.op == "sync" for one in d.trace) for d in (disk, patient)]
    assert syncs[0] < syncs[1] / 2


def state(value):
    tx = ModelTx(EMPTY)
    tx.ensure((b"a",))
    tx.put((b"a",), b"k", value)
    return tx.commit()


STATES = {1: EMPTY, 2: state(b"2"), 3: state(b"3"), 4: state(b"4")}
MARKS = [
    Mark("opened", (("txid", 1),)),
    Mark("begin", (("txid", 2),)),
    Mark("acked", (("txid", 2),)),
    Mark("synced", (("txid", 2),)),
    Mark("begin", (("txid", 3),)),
    Mark("acked", (("txid", 3),)),
    Mark("begin", (("txid", 4),)),
]


@pytest.mark.parametrize(
    ("txid", "content", "legal"),
    [
        (2, STATES[2], True),
        (3, STATES[3], True),
        (4, STATES[4], True),
        (1, STATES[1], False),
        (3, STATES[4], False),
        (4, STATES[2], False),
        (3, state(b"mixed"), False),
        (5, STATES[4], False),
    ],
)
def test_only_whole_commits_since_the_last_sync_are_legal(txid, content, legal):
    outcome = Outcome(True, txid=txid, digest=content.digest, content=content)
    found = no_holes(History(None, STATES), MARKS, outcome)
    assert (found is None) == legal


def test_a_database_that_cannot_be_read_is_a_hole():
    history = History(None, STATES)
    assert no_holes(history, MARKS, Outcome(True, error="CorruptPageError: page 4"))
    assert no_holes(history, MARKS, Outcome(False))
    assert no_holes(history, [], Outcome(False)) is None
