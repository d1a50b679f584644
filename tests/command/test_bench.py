"""bench: it measures, cleans up, and prints what other programs read."""

from __future__ import annotations

import json
import os

import pytest
from tests.command.databases import content


@pytest.mark.parametrize("write", ["seq", "rnd", "seq-nest", "rnd-nest"])
def test_bench_measures_writes_and_reads(write, run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1_000_000)
    read = "rnd" if write.startswith("rnd") else "seq"
    answer = run(
        "bench", "--count", "60", "--batch-size", "20", "--no-sync",
        "--write-mode", write, "--read-mode", read,
    )  # fmt: skip
    first, second, empty = answer.text.split("\n")[:3]
    assert first.startswith("# Write\t60(ops)\t")
    assert second.startswith("# Read\t")
    assert second.endswith(" op/sec)")
    assert empty == ""
    assert answer.stderr == ""


def test_bench_keeps_its_database_when_told(tmp_path, run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1)
    path, profile = tmp_path / "kept.db", tmp_path / "profile"
    words = ("bench", "--count", "10", "--path", path, "--json", "--no-sync")
    assert json.loads(run(*words).stdout)["write"]["operations"] == 10
    assert not path.exists()
    answer = run(
        *words, "--work", "--cpuprofile", profile, "--memprofile", tmp_path / "memory",
        "--key-size", "6", "--value-size", "3",
    )  # fmt: skip
    assert answer.stderr == f"work: {path}\n"
    assert profile.stat().st_size > 0
    assert "size=" in (tmp_path / "memory").read_text()
    [_, *pairs] = content(path)
    assert [(len(pair.key), pair.value) for pair in pairs] == [(6, bytes(3))] * 10


def test_bench_deletes_no_link_that_it_has_not_made(tmp_path, run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1)
    for name, target in (("nothing.db", "absent"), ("loop.db", "loop.db")):
        (tmp_path / name).symlink_to(target)
        answer = run("bench", "--count", "10", "--path", tmp_path / name, "--no-sync")
        assert answer.status == 2
        assert "exists" in answer.stderr
    assert sorted(os.listdir(tmp_path)) == ["loop.db", "nothing.db"]


def test_bench_prints_what_benchstat_reads(run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1)
    lines = run("bench", "--count", "10", "--gobench-output").text.splitlines()
    for name, line in zip(("BenchmarkWrite", "BenchmarkRead "), lines, strict=False):
        begin, count, each = line.split("\t")
        assert (begin, count.strip(), each[-6:]) == (name, count.strip(), " ns/op")
        assert float(each.split()[0]) > 0
