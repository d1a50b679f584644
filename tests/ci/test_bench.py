"""The benchmark measures what it says, and its arithmetic is right. Nothing timed."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ci.bench import __main__ as command  # noqa: E402
from ci.bench import engine, explorer, freelist, report, tables  # noqa: E402
from ci.bench.charts import ratio_chart  # noqa: E402
from ci.bench.machine import describe  # noqa: E402
from ci.bench.peers import PEERS, PeerMissingError, Shearbolt, Sqlite  # noqa: E402
from ci.bench.worker import WrongAnswerError, measure  # noqa: E402
from ci.bench.workloads import WORKLOADS, Dataset, Sizes, make_dataset  # noqa: E402

import shearbolt  # noqa: E402
from boltmodel.contract import Outcome  # noqa: E402
from boltmodel.mutants import mutant  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL = Sizes(300, commits=4, ranges=7, opens=2)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    make_dataset(str(tmp_path), SMALL, seed=3)
    return Dataset.read(str(tmp_path))


def a_report(times: dict[str, Sequence[float]], pairs: int = 100_000) -> report.Report:
    """Rounds of seconds per peer, one operation each, for all workloads."""
    made = report.Report("test", describe("/").to_json())
    made.versions = dict.fromkeys(times, "1")
    made.samples = [
        report.Sample(peer, pairs, number, workload, seconds, seconds / 2, 1)
        for peer, rounds in times.items()
        for number, seconds in enumerate(rounds)
        for workload in WORKLOADS
    ]
    return made


# -- data --


def test_the_same_seed_gives_every_peer_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        make_dataset(str(folder), SMALL, seed)
    first, again, other = (Dataset.read(str(folder)) for folder in folders)
    assert first == again
    assert first.keys != other.keys


def test_a_dataset_is_what_the_workloads_promise(data: Dataset) -> None:
    assert len(data.keys) == SMALL.pairs
    assert len(set(data.keys) | set(data.commits)) == SMALL.pairs + SMALL.commits
    assert sorted(data.gets) == sorted(data.keys)
    assert data.gets != data.keys
    assert any(a > b for a, b in pairwise(data.keys))
    assert set(data.starts) <= set(data.keys)
    assert {len(key) for key in data.keys} == {16}
    assert {len(value) for _, value in data.pairs()} == {100}
    assert len({value for _, value in data.pairs()}) == SMALL.pairs
    assert len(data.doomed()) == SMALL.pairs // 2


# -- workers --


@pytest.mark.parametrize("name", list(PEERS))
def test_every_peer_does_every_workload(
    name: str, data: Dataset, tmp_path: Path
) -> None:
    try:
        PEERS[name].version()
    except PeerMissingError as missing:
        pytest.skip(str(missing))
    answer = engine._work(
        [sys.executable, "-m", "ci.bench.worker", name],
        str(tmp_path), str(tmp_path), SMALL, [],
    )  # fmt: skip
    assert set(answer["times"]) | set(answer["failures"]) == set(WORKLOADS)
    assert all(time["seconds"] > 0 for time in answer["times"].values())
    assert answer["facts"]["file load sorted"] > SMALL.pairs * 116
    assert not (tmp_path / "store").exists()


def test_real_bbolt_does_every_workload(data: Dataset, tmp_path: Path) -> None:
    try:
        _, program = engine._build_go(str(tmp_path))
    except PeerMissingError as missing:
        pytest.skip(str(missing))
    answer = engine._work([program], str(tmp_path), str(tmp_path), SMALL, [])
    assert set(answer["times"]) == set(WORKLOADS)


def test_real_bbolt_and_the_engine_load_to_the_same_size(
    data: Dataset, tmp_path: Path
) -> None:
    """Both got the same pairs: the format leaves no other way to the same length."""
    try:
        _, program = engine._build_go(str(tmp_path))
    except PeerMissingError as missing:
        pytest.skip(str(missing))
    real = engine._work([program], str(tmp_path), str(tmp_path), SMALL, [])
    ours = measure(Shearbolt(), data, str(tmp_path / "s"), SMALL)
    for name in ("file load sorted", "file load random", "file end"):
        assert ours.facts[name] == real["facts"][name]


def test_skipped_workloads_are_not_run(data: Dataset, tmp_path: Path) -> None:
    skip = ["load random", "scan cold"]
    measured = measure(Shearbolt(), data, str(tmp_path / "s"), SMALL, skip)
    assert set(measured.times) == set(WORKLOADS) - set(skip)
    assert "file load random" not in measured.facts


class ReadsNothing(Sqlite):
    """A store whose reads are very fast."""

    def gets(self, keys: Sequence[bytes]) -> int:
        return 0


class ScansHalf(Sqlite):
    def scan(self) -> int:
        return super().scan() // 2


class ShortRanges(Sqlite):
    def ranges(self, starts: Sequence[bytes]) -> int:
        return super().ranges(starts[1:])


class DeletesNothing(Sqlite):
    def delete(self, keys: Sequence[bytes]) -> None:
        pass


class LosesCommits(Sqlite):
    def commits(self, pairs: list[tuple[bytes, bytes]]) -> None:
        super().commits(pairs[1:])


@pytest.mark.parametrize(
    "cheat", [ReadsNothing, ScansHalf, ShortRanges, DeletesNothing, LosesCommits]
)
def test_a_peer_that_does_less_than_the_work_is_found_out(
    cheat: type[Sqlite], data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(WrongAnswerError):
        measure(cheat(), data, str(tmp_path / "s"), SMALL)


class Fails(Sqlite):
    def delete(self, keys: Sequence[bytes]) -> None:
        raise KeyError(keys[0])


def test_a_workload_that_raises_is_reported_and_the_others_count(
    data: Dataset, tmp_path: Path
) -> None:
    measured = measure(Fails(), data, str(tmp_path / "s"), SMALL)
    assert list(measured.failures) == ["delete half"]
    assert measured.failures["delete half"].startswith("KeyError: ")
    assert set(measured.times) == set(WORKLOADS) - {"delete half"}


def test_what_the_collector_was_kept_from_it_is_kept_from_behind_a_measurement(
    data: Dataset, tmp_path: Path
) -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    measure(Shearbolt(), data, str(tmp_path / "s"), SMALL)
    assert gc.get_freeze_count() > before / 2


def test_a_worker_that_dies_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(engine.WorkerFailedError, match="No such file"):
        engine._work(
            [sys.executable, "-m", "ci.bench.worker", "sqlite3"],
            str(tmp_path / "nowhere"), str(tmp_path), SMALL, [],
        )  # fmt: skip


# -- arithmetic --


def test_a_ratio_is_taken_within_each_round() -> None:
    """A machine three times slower in one round moves no ratio."""
    made = a_report({"shearbolt": [1, 3, 1], "lmdb": [2, 6, 2]})
    assert made.ratio("lmdb", 100_000, "range") == 2
    # Ratios of medians would call these equal.
    drifting = a_report({"shearbolt": [1, 2, 9], "lmdb": [2, 4, 2]})
    assert drifting.ratio("lmdb", 100_000, "range") == 2


def test_a_ratio_above_one_means_ours_is_faster() -> None:
    made = a_report({"shearbolt": [1.0], "sqlite3": [4.0]})
    assert made.ratio("sqlite3", 100_000, "get warm") == 4
    assert made.rate("shearbolt", 100_000, "get warm") == 1


def test_the_cpu_clock_counts_cpu_seconds() -> None:
    made = a_report({"shearbolt": [1.0], "sqlite3": [4.0]})
    made.clock = "cpu"
    assert made.rate("shearbolt", 100_000, "get warm") == 2
    assert "CPU seconds" in tables.markdown(made)


def test_the_mean_ratio_is_geometric_and_needs_every_workload() -> None:
    made = a_report({"shearbolt": [1.0], "lmdb": [1.0]})
    made.samples = [
        replace(one, seconds=4.0)
        if (one.peer, one.workload) == ("lmdb", "range")
        else one
        for one in made.samples
    ]
    assert made.mean_ratio("lmdb", 100_000, ["range", "commit"]) == pytest.approx(2)
    assert made.mean_ratio("lmdb", 100_000, ["range", "no such"]) is None


def test_growth_is_cost_per_operation_not_time() -> None:
    made = a_report({"shearbolt": [1.0]}, pairs=10)
    made.samples += [
        replace(one, pairs=100, operations=10, seconds=15.0) for one in made.samples
    ]
    assert made.growth(10, 100, "get warm") == pytest.approx(1.5)


def test_growth_is_taken_within_each_round_and_by_peer() -> None:
    made = a_report({"shearbolt": [1, 3, 1], "plain dict": [2, 6, 2]}, pairs=10)
    made.samples += [
        replace(one, pairs=100, seconds=one.seconds * (5 if one.round == 2 else 2))
        for one in made.samples
        if one.peer == "shearbolt" or one.round
    ]
    assert made.growth(10, 100, "range") == 2
    assert made.growth(10, 100, "range", "plain dict") == 3.5
    text = tables.markdown(made)
    growing = text.partition("as the database grows")[2]
    assert "10 to 100 pairs" in growing
    assert [cell.strip() for cell in growing.splitlines()[-1].split("|")[1:-1]] == [
        "delete half",
        "2.00",
        "3.50",
    ]


def test_a_missed_target_and_an_unmeasured_one_are_not_met() -> None:
    slow = a_report({"shearbolt": [10.0], "sqlite3": [1.0]})
    assert slow.judged()
    assert not any(one.met for one in slow.judged())
    fast = a_report({"shearbolt": [1.0], "sqlite3": [10.0]})
    assert all(one.met for one in fast.judged())
    fast.samples = [one for one in fast.samples if one.workload != "commit"]
    unmet = [one for one in fast.judged() if not one.met]
    assert [one.target.workloads for one in unmet] == [("commit",)]
    assert unmet[0].ratio is None


def test_targets_are_judged_at_the_largest_size_up_to_100_000() -> None:
    made = a_report({"shearbolt": [1.0], "sqlite3": [10.0]}, pairs=20_000)
    assert {one.pairs for one in made.judged()} == {20_000}
    made.samples += [replace(one, pairs=100_000) for one in made.samples]
    made.samples += [replace(one, pairs=1_000_000) for one in made.samples]
    assert {one.pairs for one in made.judged()} == {100_000}
    assert not a_report({"shearbolt": [1.0], "lmdb": [2.0]}, pairs=10**6).judged()


def test_targets_against_absent_peers_are_not_judged() -> None:
    made = a_report({"shearbolt": [1.0], "sqlite3": [10.0]})
    assert {one.target.peer for one in made.judged()} == {"sqlite3"}


def test_every_target_names_a_peer_and_workloads_that_exist() -> None:
    for target in report.TARGETS:
        assert target.peer in {*PEERS, engine.GO_BBOLT}
        assert set(target.workloads) <= set(WORKLOADS)
    for peer, workload in engine.LIMITS:
        assert peer in {*PEERS, engine.GO_BBOLT}
        assert workload in {*WORKLOADS, "*"}


def test_every_round_has_all_sizes_and_rotates_the_peers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []

    def work(command: list[str], data: str, _: str, sizes: Sizes, __: list[str]) -> Any:
        assert len(Dataset.read(data).keys) == sizes.pairs
        ran.append((sizes.pairs, command[-1]))
        return {"times": {}, "facts": {}, "failures": {}}

    monkeypatch.setattr(engine, "_work", work)
    mode = engine.Mode(2, (Sizes(10), Sizes(20)))
    peers = ["shearbolt", "sqlite3"]
    engine.run(mode, "test", peers=peers, parent=str(tmp_path), say=lambda _: None)
    rounds = [peers, peers[::-1]]
    assert ran == [
        (pairs, peer) for order in rounds for pairs in (10, 20) for peer in order
    ]


def test_a_run_that_names_no_peers_has_stores_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_build_go", lambda _: ("1", "gobolt"))
    made = a_report({})
    for wanted in (None, ["plain dict"]):
        found = engine._find_peers(wanted, "", made)
        assert ("shearbolt" in found) == (wanted is None)
        assert ("plain dict" in found) == (wanted is not None)


def test_a_limit_keeps_a_peer_from_what_it_cannot_do() -> None:
    assert engine._skipped(engine.GO_BBOLT, 1_000_000) == ["load random"]
    assert engine._skipped(engine.GO_BBOLT, 100_000) == []
    assert engine._skipped("boltdb (PyPI)", 100_000) == list(WORKLOADS)
    assert engine._skipped("shearbolt", 10**9) == []


# -- output --


def test_a_report_survives_json() -> None:
    made = a_report({"shearbolt": [1.0, 2.0], "lmdb": [1.5, 2.5]})
    made.facts.append(report.Fact("lmdb", 100_000, 0, "file end", 77))
    made.skipped["plyvel"] = "pip install plyvel"
    made.failures["lmdb", 100_000, "open"] = "OSError: no"
    assert asdict(report.Report.from_json(made.to_json())) == asdict(made)


def test_the_tables_name_what_was_measured_and_what_was_not() -> None:
    made = a_report({"shearbolt": [1.0], "sqlite3": [4.0]})
    made.skipped["plyvel"] = "pip install plyvel"
    made.failures["sqlite3", 100_000, "delete half"] = "OSError: no"
    text = tables.markdown(made)
    assert made.machine["python"] in text
    assert "Not run: plyvel (pip install plyvel)" in text
    assert "Failed: sqlite3, delete half at 100,000 pairs: OSError: no" in text
    assert "0.25 (4.00x)" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0.5"), (999, "999"), (999.9, "1k"), (1234, "1.23k"), (45_600_000, "45.6M")],
)
def test_numbers_are_written_with_three_digits(number: float, text: str) -> None:
    assert tables.short_number(number) == text


def test_a_chart_is_xml_with_a_mark_for_every_ratio() -> None:
    made = a_report({"shearbolt": [1.0], "sqlite3": [4.0], "lmdb": [0.01]})
    tree = ET.fromstring(ratio_chart(made, 100_000))
    marks = [
        mark for mark in tree.iter("{http://www.w3.org/2000/svg}circle") if len(mark)
    ]
    assert len(marks) == 2 * len(WORKLOADS)
    width = float(tree.attrib["width"])
    assert all(0 < float(mark.attrib["cx"]) < width for mark in marks)
    with pytest.raises(ValueError, match="nothing to compare"):
        ratio_chart(a_report({"shearbolt": [1.0]}), 100_000)


# -- the freelist benchmark --


@pytest.mark.parametrize("kind", ["run", "fragments"])
@pytest.mark.parametrize("pages", [3, 600, 70_000])
def test_a_database_made_for_the_freelist_benchmark_has_these_free_pages(
    kind: str, pages: int, tmp_path: Path
) -> None:
    path = str(tmp_path / "free.db")
    freelist.make_database(path, kind, pages)
    with shearbolt.open(path) as db:
        assert db.freelist.free_count == pages
        runs = list(db.freelist.runs())
        assert len(runs) == (1 if kind == "run" else pages)
        if kind == "run":
            assert db.begin().check() == []


def test_the_freelist_benchmark_measures_every_combination(tmp_path: Path) -> None:
    costs = freelist.measure(str(tmp_path), 600)
    assert len({(one.kind, one.freelist_type, one.synced) for one in costs}) == 8
    assert all(one.commit > 0 and one.opening > 0 for one in costs)
    assert list(tmp_path.iterdir()) == []
    assert len(freelist.table(costs).splitlines()) == 2 + 8


# -- the explorer's benchmark --


def test_a_commit_takes_as_many_recoveries_whatever_it_changes() -> None:
    closings = list(explorer.commits((8, 64)))
    assert {one.model for one in closings} == set(explorer.MODELS)
    for one in closings:
        assert one.points > 0
        assert one.seconds > 0
        assert one.executions / one.points <= 3
        assert one.most <= 3
    small, large, *_ = closings
    assert large.images > 4 * small.images
    assert large.executions == small.executions


def test_a_larger_database_takes_as_many_recoveries_after_the_first_look() -> None:
    closings = list(explorer.databases((64 << 10, 1 << 20)))
    small, large = closings[0], closings[1]
    assert small.executions == large.executions
    assert small.first > 0
    assert len(explorer.table(closings).splitlines()) == 2 + len(closings)


def test_what_is_not_closed_or_broken_is_no_measurement() -> None:
    with mutant("no-data-sync"), pytest.raises(explorer.NotClosedError):
        list(explorer.databases((64 << 10, 1 << 20)))


def test_a_promise_that_recovery_breaks_is_no_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Outcome(existed=True, txid=1, problems=("a page is lost",))
    monkeypatch.setattr(explorer, "recover", lambda _: broken)
    with pytest.raises(explorer.NotClosedError, match="a page is lost"):
        list(explorer.commits((8,)))


# -- the command --


@pytest.mark.thorough
def test_the_command_measures_reports_and_leaves_nothing_behind(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    stores.mkdir()
    out = tmp_path / "out.json"
    program = [sys.executable, "-m", "ci.bench"]
    options = ["--mode", "smoke", "--peer", "shearbolt", "--peer", "sqlite3"]
    places = ["--folder", str(stores), "--json", str(out), "--charts", str(tmp_path)]
    ran = subprocess.run(
        [*program, "engine", *options, *places],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode in {0, 1}, ran.stderr
    assert list(stores.iterdir()) == []
    assert {one["peer"] for one in json.loads(out.read_text())["samples"]} == {
        "shearbolt",
        "sqlite3",
    }
    assert (tmp_path / "engine-2000.svg").exists()
    shown = subprocess.run(
        [*program, "show", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.stdout == ran.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pairs", "5"], "no sizes of {5} pairs"),
        (["--rounds", "0"], "at least one round"),
        (["--peer", "nobody"], "invalid choice: 'nobody'"),
    ],
)
def test_wrong_usage_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["engine", *options])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
