"""The explorer: crash points, cost, replay, early stop, determinism."""

import itertools
import os
import subprocess
import sys
import zlib

import pytest

from tornpage.choices import Replay, ReplayError
from tornpage.disk import Disk
from tornpage.explore import (
    CrashPoint,
    Explorer,
    ScheduleError,
    format_schedule,
    parse_schedule,
)
from tornpage.model import CrashModel
from tornpage.platter.brute import TooManyImages

PAGE = 4096
MODELS = ["tear=page", "tear=sector", "tear=byte", "order=ordered", "size=with-data"]


def meta(txid, root):
    body = bytes([txid]) + root.to_bytes(4, "little")
    return body + zlib.crc32(body).to_bytes(4, "little")


def commit(file, txid, pages, *, sync=True):
    """Write `pages` pages, all different, then the meta that points to them."""
    root = 2 + (txid % 2) * pages
    content = [bytes([txid, at % 251]).ljust(PAGE, b"x") for at in range(pages)]
    file.pwritev(content, root * PAGE)
    if sync:
        file.fdatasync()
    file.pwritev([meta(txid, root).ljust(PAGE, b"\0")], (txid % 2) * PAGE)
    file.fdatasync()


def recover(disk):
    file = disk.open("db", read_only=True)
    best = None
    for slot in (0, 1):
        found = file.pread(9, slot * PAGE)
        if zlib.crc32(found[:5]).to_bytes(4, "little") != found[5:]:
            continue
        if best is None or found[0] > best[0]:
            best = found
    if best is None:
        return None
    root = int.from_bytes(best[1:5], "little")
    return best[0], file.pread(2, root * PAGE)


def store(pages):
    metas = [meta(txid, 2 + txid * pages).ljust(PAGE, b"\0") for txid in (0, 1)]
    trees = [bytes([txid, 0]).ljust(PAGE * pages, b"x") for txid in (0, 1)]
    return {"db": b"".join(metas + trees)}


def explored(pages, model="", **options):
    files, model = store(pages), CrashModel.parse(model)
    disk = Disk(files, model)
    file = disk.open("db")
    for txid in (2, 3):
        disk.mark("begin", txid=txid)
        commit(file, txid, pages, **options)
        disk.mark("acked", txid=txid)
    return Explorer(files, disk.trace, recover, model)


@pytest.mark.parametrize("model", ["", "tear=page", "order=ordered", "size=with-data"])
def test_cost_does_not_grow_with_the_number_of_dirty_pages(model):
    few, many = explored(1, model), explored(500, model)
    for one, other in zip(few.sweep(), many.sweep(), strict=True):
        assert one.executions == other.executions <= 3
        assert one.closed
        assert other.closed
    # Nothing that is being written is reachable from the newest durable meta.
    assert many.close(CrashPoint(1, inside=True)).executions == 1


def test_a_data_sync_of_500_pages_stands_for_more_than_two_to_the_4000_images():
    files = {"db": b"\0" * (PAGE * 600)}
    disk = Disk(files)
    disk.open("db").pwritev([b"x" * PAGE] * 500, 2 * PAGE)
    disk.open("db").fdatasync()
    explorer = Explorer(files, disk.trace, recover)
    closures = {str(one.point): one for one in explorer.sweep()}
    assert [one.images_log2 for one in closures.values()] == [0, 4000, 4000, 4000, 0]
    assert closures["1i"].closed
    assert sum(one.executions for one in closures.values()) <= 3


def test_a_missing_sync_is_found_in_the_first_few_executions():
    explorer = explored(500, sync=False)
    wrong = []

    def stop(reached):
        if reached.outcome[1][0] != reached.outcome[0]:
            wrong.append((explorer.point, reached))
        return bool(wrong)

    for closure in explorer.sweep(stop):
        if wrong:
            assert not closure.closed
            assert closure.executions <= 3
            break
    point, reached = wrong[0]
    assert explorer.replay(point, reached.tape) == reached


@pytest.mark.parametrize("model", MODELS)
def test_every_way_there_is_can_be_replayed_and_shortened_by_its_zeros(model):
    explorer = explored(2, model)
    for closure in explorer.sweep():
        for one in closure.outcomes:
            again = explorer.replay(closure.point, one.tape)
            assert again.outcome == one.outcome
            assert again.tape == one.tape
            assert [str(c) for c in again.choices] == [str(c) for c in one.choices]
            point, tape = parse_schedule(format_schedule(closure.point, one.tape))
            assert explorer.replay(point, tape) == again


def test_the_first_outcome_is_that_of_an_honest_disk():
    explorer = explored(2)
    for closure in explorer.sweep():
        honest = explorer.replay(closure.point, ())
        assert closure.outcomes[0].outcome == honest.outcome
        assert not any(closure.outcomes[0].tape)


def test_a_run_of_n_operations_has_2n_plus_1_points():
    explorer = explored(1)
    points = list(explorer.points())
    assert len(points) == 2 * 8 + 1
    assert points == sorted(points)
    assert list(map(str, points[:4])) == ["0", "0i", "1", "1i"]
    assert [one.point for one in explorer.sweep()] == points


def test_a_mark_is_before_the_point_that_follows_it():
    explorer = explored(1)
    labels = {
        str(point): [(one.label, one["txid"]) for one in explorer.marks(point)]
        for point in explorer.points()
    }
    assert labels["0"] == labels["0i"] == labels["3i"] == [("begin", 2)]
    assert labels["4"] == [("begin", 2), ("acked", 2), ("begin", 3)]
    assert labels["8"] == [*labels["4"], ("acked", 3)]


@pytest.mark.parametrize("point", [CrashPoint(9), CrashPoint(8, True), CrashPoint(-1)])
def test_a_point_that_is_none_is_refused(point):
    with pytest.raises(IndexError, match="8 operations"):
        explored(1).close(point)


def test_points_can_be_closed_in_any_order():
    explorer = explored(2)
    swept = {one.point: one for one in explorer.sweep()}
    for point in [*reversed(list(swept)), *swept]:
        closure = explorer.close(point)
        assert closure.outcomes == swept[point].outcomes
        assert closure.images_log2 == swept[point].images_log2


def all_of_it(disk):
    return disk.open("db").pread(PAGE * 9, 0)


def test_a_point_with_too_many_executions_is_not_closed():
    files = {"db": b"\0" * (8 * PAGE)}
    disk = Disk(files)
    file = disk.open("db")
    file.pwritev([b"x" * 8 * PAGE], 0)
    file.pwritev([b"y" * 8 * PAGE], 0)
    explorer = Explorer(files, disk.trace, all_of_it, cap=50)
    first, *rest = explorer.sweep()
    assert first.closed
    assert not any(one.closed for one in rest)
    assert max(one.executions for one in rest) == 50
    with pytest.raises(TooManyImages):
        explorer.eager(CrashPoint(2), limit=1000)


def test_a_cap_that_is_just_enough_closes():
    files = {"db": b"\0" * 1024}
    disk = Disk(files)
    disk.open("db").pwritev([b"x" * 1024], 0)
    end = CrashPoint(1)
    assert Explorer(files, disk.trace, all_of_it, cap=4).close(end).closed
    assert not Explorer(files, disk.trace, all_of_it, cap=3).close(end).closed


def test_images_log2_counts_what_brute_force_can_build():
    for model, count in itertools.product(MODELS, (1, 2, 3)):
        made = CrashModel.parse(model)
        files = {"db": b"\0" * 3 * PAGE}
        disk = Disk(files, made)
        file = disk.open("db")
        for at in range(count):
            file.pwritev([b"ab"], at * PAGE)
        explorer = Explorer(files, disk.trace, all_of_it, made)
        closure = explorer.close(CrashPoint(count))
        distinct = len(explorer.eager(CrashPoint(count)))
        assert round(2**closure.images_log2) == distinct
        assert {one.outcome for one in closure.outcomes} == explorer.eager(
            CrashPoint(count)
        )


def test_a_tape_of_another_point_is_refused():
    with pytest.raises(ReplayError):
        explored(1).replay(CrashPoint(2, inside=True), (7,))


@pytest.mark.parametrize("text", ["37i:0.2.1", "0:", "5:0.0.1", "12"])
def test_a_schedule_and_its_text_are_the_same(text):
    point, tape = parse_schedule(text)
    assert format_schedule(point, tape).rstrip(":") == text.rstrip(":")


@pytest.mark.parametrize("text", ["", "i:0", "37x:0", "37i:0.", "37i:-1", "37i:a"])
def test_a_schedule_that_is_none_is_refused(text):
    with pytest.raises(ScheduleError, match="looks like"):
        parse_schedule(text)


def test_a_64_byte_read_has_at_most_two_times_64_answers_however_large_the_tear():
    files = {"db": bytes(range(256)) * 2}
    model = CrashModel("byte")
    disk = Disk(files, model)
    disk.open("db").pwritev([bytes(255 - at for at in range(256)) * 2], 0)
    explorer = Explorer(files, disk.trace, lambda d: d.open("db").pread(64, 100), model)
    closure = explorer.close(CrashPoint(1))
    assert closure.executions == len(closure.outcomes) == 2 * 64
    assert closure.images_log2 == 10.0  # 2 * 512 contents, 1 execution in 8.


def test_a_second_crash_is_explored_like_the_first():
    explorer = explored(2)
    # A crash inside the first data sync; the process comes back and commits.
    disk = explorer.disk(CrashPoint(1, inside=True), Replay(()))
    assert recover(disk) == (1, b"\1\0")
    commit(disk.open("db"), 2, 2)
    second = Explorer(disk.image(0), disk.trace, recover)
    seen = [{one.outcome for one in closure.outcomes} for closure in second.sweep()]
    assert seen[0] == {(1, b"\1\0")}
    assert seen[-1] == {(2, b"\2\0")}
    assert {(1, b"\1\0"), (2, b"\2\0")} in seen
    assert set().union(*seen) == {(1, b"\1\0"), (2, b"\2\0")}


def test_a_kill_loses_nothing_and_settles_nothing():
    files = {"db": b"old"}
    disk = Disk(files)
    disk.open("db").pwritev([b"new"], 0)
    disk.kill()
    assert disk.open("db").pread(3, 0) == b"new"
    disk.open("db").pwritev([b"!"], 3)
    explorer = Explorer(files, disk.trace, lambda d: d.open("db").pread(9, 0))
    outcomes = {one.outcome for one in explorer.close(CrashPoint(2)).outcomes}
    assert {b"old", b"new", b"new!"} <= outcomes


HASHED = """
import sys; sys.path.insert(0, {here!r})
import test_explore
for model in test_explore.MODELS:
    for closure in test_explore.explored(2, model).sweep():
        print(closure.point, closure.executions, closure.images_log2.hex())
        for one in closure.outcomes:
            print(one.outcome, one.tape, *map(str, one.choices), sep=" | ")
"""


def test_the_exploration_is_the_same_under_any_hash_seed():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", HASHED.format(here=os.path.dirname(__file__))],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) > 100


def test_a_gigabyte_costs_nothing_at_a_crash_point():
    class Huge(bytes):
        sliced = 0

        def __len__(self):
            return 1 << 30

        def __getitem__(self, key):
            start, stop, _ = key.indices(1 << 30)
            Huge.sliced += stop - start
            return bytes(stop - start)

    files = {"db": Huge()}
    disk = Disk(files)
    file = disk.open("db")
    for at in range(200):
        file.pwritev([b"x" * PAGE], (at * 1237) * PAGE)
    explorer = Explorer(files, disk.trace, lambda d: d.open("db").pread(8, 5 << 20))
    closures = list(explorer.sweep())
    assert all(one.closed for one in closures)
    # Only the atoms that were written, and the eight bytes of each execution.
    assert Huge.sliced < 201 * PAGE
